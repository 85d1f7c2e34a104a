//! Check: what must hold for whatever clients send, shared by the property test and the fuzz target.
//!
//! Bytes are read as a stream of commands and run on a store with little memory, as a shard would. Nothing panics, each
//! command has one whole reply, and the store counts its bytes right. Not part of the API; allocates and panics freely.
//!
//! Not here: cuts of the stream (`proto-resp`), several shards, connections.

use corelane_proto_resp::{Command, Limits, Parser, Step, Version, Writer};

use super::{Reply, run_command};
use crate::services::cache::store::{Config, Eviction, KeyHasher, Now, Store};
use crate::services::cache::value::codec;

const POLICIES: [Eviction; 6] =
    [Eviction::S3Fifo, Eviction::Lru, Eviction::Lfu, Eviction::Fifo, Eviction::Random, Eviction::NoEviction];

/// Commands of one input: enough to fill a store, few enough to take no time.
const COMMANDS_MAX: usize = 512;

/// Runs `data`. The first byte chooses policy, memory and protocol, the second how the time goes on between commands, the
/// rest is what clients send. What RESTORE is given gets the checksum that belongs to it.
///
/// # Panics
/// If something does not hold.
pub fn check(data: &[u8]) {
    let [how, step, stream @ ..] = data else { return };
    let how = usize::from(*how);
    let memory_max = if how & 0x40 == 0 { 64 << 10 } else { 1 << 20 };
    let version = if how & 0x80 == 0 { Version::Resp2 } else { Version::Resp3 };
    let config = Config { memory_max, eviction: POLICIES[how % POLICIES.len()] };
    let mut now = Now { unix_ms: 1_700_000_000_000, mono_ms: 5_000 };
    let mut store = Store::new(config, KeyHasher::seeded(1), now);
    let limits = Limits { arguments_max: 1 << 10, bulk_bytes_max: 64 << 10, ..Limits::default() };
    let (mut parser, mut unread) = (Parser::new(), stream);
    for n in 0..COMMANDS_MAX {
        let Step::Command(command) = parser.poll(&limits, &mut unread) else { break };
        now.mono_ms += u64::from(*step);
        now.unix_ms += u64::from(*step);
        store.set_now(now);
        let random = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if command.name().eq_ignore_ascii_case(b"restore") && command.len() > 3 {
            sealed(&command, |command| run_one(&mut store, command, version, random));
        } else {
            run_one(&mut store, &command, version, random);
        }
        if n % 8 == 7 {
            store.work(16);
        }
        store.check();
    }
}

fn run_one(store: &mut Store, command: &Command<'_>, version: Version, random: u64) {
    let mut reply = Reply::new(version);
    if run_command(store, command, &mut reply, random) {
        let bytes = reply.to_vec();
        let len = value(&bytes, 0);
        assert_eq!(len, Some(bytes.len()), "one whole reply: {:?}", bytes.escape_ascii().to_string());
    } else {
        // Unknown, about the connection, or it would wait: then it changed nothing and said nothing.
        assert!(reply.is_empty(), "{:?}", reply.to_vec().escape_ascii().to_string());
    }
}

/// The same command with a seal behind its third argument.
fn sealed(command: &Command<'_>, run: impl FnOnce(&Command<'_>)) {
    let mut words: Vec<Vec<u8>> = command.iter().map(<[u8]>::to_vec).collect();
    codec::seal(&mut words[3]);
    let mut wire = Vec::new();
    let mut writer = Writer::new(&mut wire, Version::Resp2);
    writer.array(words.len());
    words.iter().for_each(|word| writer.bulk(word));
    let mut unread = wire.as_slice();
    match Parser::new().poll(&Limits::default(), &mut unread) {
        Step::Command(command) => run(&command),
        other => panic!("{other:?}"),
    }
}

/// Bytes of the reply at the start of `bytes`; `None` if it is not whole or none. A plain reader, so that it can disagree
/// with the writer.
fn value(bytes: &[u8], depth: usize) -> Option<usize> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let line = bytes.get(1..end - 2)?;
    let number = || std::str::from_utf8(line).ok()?.parse::<i64>().ok();
    let all = |count: i64| {
        let mut at = end;
        for _ in 0..count {
            at += value(bytes.get(at..)?, depth + 1)?;
        }
        Some(at)
    };
    assert!(depth < 16, "a reply is not that deep");
    match bytes.first()? {
        b'+' | b'-' | b'_' | b',' | b'#' | b'(' => {
            (!line.contains(&b'\r') && !line.contains(&b'\n')).then_some(end)
        }
        b':' => number().map(|_| end),
        b'$' | b'=' => match number()? {
            -1 => Some(end),
            len => {
                let behind = end + usize::try_from(len).ok()?;
                (bytes.get(behind..behind + 2)? == b"\r\n").then_some(behind + 2)
            }
        },
        b'*' | b'~' | b'>' => match number()? {
            -1 => Some(end),
            count => all(count),
        },
        b'%' => all(2 * number()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use corelane_base::Rng;

    use super::*;

    const WORDS: &[&str] = &[
        "0",
        "1",
        "-1",
        "2",
        "3",
        "10",
        "-3",
        "100",
        "1.5",
        "-inf",
        "+inf",
        "inf",
        "nan",
        "(1",
        "[a",
        "(b",
        "-",
        "+",
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
        "*",
        "a*",
        "9223372036854775807",
        "-9223372036854775808",
        "65535",
        "70000",
        "1700000000001",
        "1700000000",
        "EX",
        "PX",
        "EXAT",
        "PXAT",
        "NX",
        "XX",
        "GT",
        "LT",
        "CH",
        "INCR",
        "KEEPTTL",
        "GET",
        "PERSIST",
        "COUNT",
        "MATCH",
        "TYPE",
        "LIMIT",
        "BYSCORE",
        "BYLEX",
        "REV",
        "WITHSCORES",
        "WITHVALUES",
        "LEFT",
        "RIGHT",
        "BEFORE",
        "AFTER",
        "MIN",
        "MAX",
        "AGGREGATE",
        "SUM",
        "WEIGHTS",
        "REPLACE",
        "ABSTTL",
        "AND",
        "OR",
        "XOR",
        "NOT",
        "BYTE",
        "BIT",
        "SET",
        "INCRBY",
        "OVERFLOW",
        "SAT",
        "WRAP",
        "FAIL",
        "u8",
        "i16",
        "u63",
        "i64",
        "#1",
        "RANK",
        "MAXLEN",
        "ENCODING",
        "FREQ",
        "IDLETIME",
        "REFCOUNT",
        "",
    ];

    /// A command that is one more often than not.
    fn command(rng: &mut Rng, names: &[&str], out: &mut Vec<u8>) {
        let name = names[rng.index(names.len())];
        let mut words: Vec<Vec<u8>> = name.split('|').map(|word| word.as_bytes().to_vec()).collect();
        for _ in 0..rng.index(7) {
            words.push(match rng.below(12) {
                0..=4 => format!("key:{}", rng.below(6)).into_bytes(),
                5 => vec![u8::try_from(rng.below(256)).unwrap(); rng.index(40)],
                6 => {
                    let max = if rng.chance(1, 8) { 30_000 } else { 300 };
                    vec![b'x'; rng.index(max)]
                }
                _ => WORDS[rng.index(WORDS.len())].as_bytes().to_vec(),
            });
        }
        if name == "restore" {
            while words.len() < 4 {
                words.push(b"0".to_vec());
            }
            words[2] = b"0".to_vec();
            // A kind, and numbers as small as lengths are.
            words[3] = (0..rng.index(40)).map(|_| u8::try_from(rng.below(6)).unwrap()).collect();
        }
        let mut writer = Writer::new(out, Version::Resp2);
        writer.array(words.len());
        words.iter().for_each(|word| writer.bulk(word));
    }

    #[test]
    fn random_commands_reply_once_and_leave_every_byte_counted() {
        let names: Vec<&str> = super::super::all()
            .flat_map(|spec| {
                let subs = spec.subcommands.iter().map(|sub| sub.name);
                std::iter::once(spec.name).chain(subs)
            })
            .collect();
        let rounds = if cfg!(miri) { 1 } else { 300 };
        for seed in 0..rounds {
            let mut rng = Rng::new(seed);
            let mut data = vec![u8::try_from(rng.below(256)).unwrap(), u8::try_from(rng.below(4)).unwrap()];
            for _ in 0..rng.index(COMMANDS_MAX) {
                command(&mut rng, &names, &mut data);
            }
            check(&data);
        }
    }

    #[test]
    fn bytes_of_any_kind_do_no_harm() {
        for seed in 0..2_000 {
            let mut rng = Rng::new(seed);
            let data: Vec<u8> = (0..rng.index(300)).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
            check(&data);
        }
        check(b"\0\0set a 1\r\nappend a 2\r\nget a\r\nrestore b 0 x\r\nlpush a x\r\n");
    }
}
