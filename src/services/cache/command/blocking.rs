//! Blocking: what the connection must know of commands that wait for a key.
//!
//! Not here: waiting (`session`), trying (`data`).

use std::time::Duration;

use corelane_proto_resp::Command;

use super::{Keys, Reply, Spec, parse};

/// Where the timeout of a command is.
fn timeout_of<'c>(command: &Command<'c>) -> Option<&'c [u8]> {
    let counted = parse::is(command.name(), "blmpop") || parse::is(command.name(), "bzmpop");
    command.get(if counted { 1 } else { command.len() - 1 })
}

/// How long `command` waits at most; none is for ever.
///
/// # Errors
/// The reply to a timeout that is none, in the words of Redis.
pub fn block_timeout(command: &Command<'_>) -> Result<Option<Duration>, &'static str> {
    const NOT_FLOAT: &str = "ERR timeout is not a float or out of range";
    const NEGATIVE: &str = "ERR timeout is negative";
    let Some(text) = timeout_of(command) else { return Err(NOT_FLOAT) };
    let Some(seconds) = parse::float(text) else {
        // Redis reads 80 bits, and what is too much for its counter is negative there.
        return Err(if super::Extended::parse(text).is_some() { NEGATIVE } else { NOT_FLOAT });
    };
    // In milliseconds, rounded up.
    let ms = (seconds * 1000.0).ceil();
    if ms < 0.0 || ms >= i64::MAX as f64 {
        return Err(NEGATIVE);
    }
    Ok((ms > 0.0).then(|| Duration::from_secs_f64(ms / 1000.0)))
}

/// The reply of a command that waited in vain.
pub fn timed_out(reply: &mut Reply) {
    reply.null_array();
}

/// The reply of a command that may not wait: it is part of a transaction.
pub fn denied(command: &Command<'_>, reply: &mut Reply) {
    let moves = parse::is(command.name(), "blmove") || parse::is(command.name(), "brpoplpush");
    if moves { reply.null() } else { reply.null_array() }
}

/// The command as if `key`, which it waits for, were its only one.
pub fn narrowed(spec: &Spec, command: &Command<'_>, key: &[u8]) -> Vec<u8> {
    let words: Vec<&[u8]> = command.iter().collect();
    let only: Vec<&[u8]> = match spec.name {
        "blmove" | "brpoplpush" => words,
        "blmpop" | "bzmpop" => {
            // Its name, the timeout, the number of keys, the keys, and what is behind them.
            let count = parse::integer(words[2]).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
            let behind = words.get(3 + count..).unwrap_or_default();
            [&[words[0], words[1], b"1", key][..], behind].concat()
        }
        _ => vec![words[0], key, words[words.len() - 1]],
    };
    let mut wire = Vec::new();
    let mut writer = corelane_proto_resp::Writer::new(&mut wire, corelane_proto_resp::Version::Resp2);
    writer.array(only.len());
    only.iter().for_each(|word| writer.bulk(word));
    wire
}

/// The keys that a command takes from: those it waits for.
pub fn sources(spec: &Spec, command: &Command<'_>) -> Vec<Box<[u8]>> {
    let mut places = Vec::new();
    let keys = match spec.name {
        "blmove" | "brpoplpush" => Keys::ONE,
        _ => spec.keys,
    };
    keys.find(command, &mut places);
    places.iter().filter_map(|&at| command.get(at)).map(Box::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_proto_resp::{Limits, Parser, Step};

    fn with<R>(line: &str, see: impl FnOnce(&Spec, &Command<'_>) -> R) -> R {
        let (mut parser, wire) = (Parser::new(), format!("{line}\r\n"));
        let Step::Command(command) = parser.poll(&Limits::default(), &mut wire.as_bytes()) else {
            panic!("{line}")
        };
        see(super::super::lookup(command.name()).unwrap(), &command)
    }

    #[test]
    fn a_command_is_narrowed_to_the_key_that_is_there() {
        for (line, only) in [
            ("blpop a b c 5", "blpop b 5"),
            ("bzpopmax a b 0", "bzpopmax b 0"),
            ("blmpop 5 3 a b c LEFT COUNT 2", "blmpop 5 1 b LEFT COUNT 2"),
            ("bzmpop 0 2 a b MIN", "bzmpop 0 1 b MIN"),
            ("blmove b d LEFT RIGHT 1", "blmove b d LEFT RIGHT 1"),
        ] {
            let wire = with(line, |spec, command| narrowed(spec, command, b"b"));
            let mut parser = Parser::new();
            let Step::Command(command) = parser.poll(&Limits::default(), &mut wire.as_slice()) else {
                panic!("{line}")
            };
            let words: Vec<_> =
                command.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            assert_eq!(words.join(" "), only);
        }
    }

    #[test]
    fn a_timeout_is_read_as_redis_reads_it() {
        let of = |line: &str| with(line, |_, command| block_timeout(command));
        assert_eq!(of("blpop a 0"), Ok(None));
        assert_eq!(of("blpop a 1.5"), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(of("bzmpop 0.001 1 a MIN"), Ok(Some(Duration::from_millis(1))));
        for negative in ["-1", "1e400", "inf", "9223372036854776"] {
            assert_eq!(of(&format!("blpop a {negative}")), Err("ERR timeout is negative"), "{negative}");
        }
        assert_eq!(of("blpop a x"), Err("ERR timeout is not a float or out of range"));
    }
}
