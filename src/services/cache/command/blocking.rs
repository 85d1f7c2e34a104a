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

/// The reply of a command that waited in vain, or may not wait.
pub fn timed_out(command: &Command<'_>, reply: &mut Reply) {
    let moves = parse::is(command.name(), "blmove") || parse::is(command.name(), "brpoplpush");
    if moves { reply.null() } else { reply.null_array() }
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
