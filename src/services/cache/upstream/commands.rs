//! Which commands take part in the second tier: those on strings, and those on keys of any kind that strings can have.
//!
//! Not here: running them, which keys they name (`command::spec`).

use corelane_proto_resp::Command;

/// What a command has to do with the second tier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Nothing: it is about what is here.
    None,
    /// It reads: keys that are not here are fetched before it runs.
    Read,
    /// It writes what depends on what was there: keys are fetched before it runs, and their state after it is written.
    Change,
    /// It writes whatever was there: nothing is fetched, the state after it is written.
    Replace,
}

const READ: &[&str] = &[
    "get",
    "mget",
    "strlen",
    "getrange",
    "substr",
    "getbit",
    "bitcount",
    "bitpos",
    "lcs",
    "exists",
    "type",
    "ttl",
    "pttl",
    "expiretime",
    "pexpiretime",
    "touch",
    "dump",
    "bitfield_ro",
];
const CHANGE: &[&str] = &[
    "getex",
    "getdel",
    "getset",
    "setnx",
    "msetnx",
    "append",
    "incr",
    "decr",
    "incrby",
    "decrby",
    "incrbyfloat",
    "setrange",
    "setbit",
    "bitop",
    "bitfield",
    "restore",
    "del",
    "unlink",
    "expire",
    "pexpire",
    "expireat",
    "pexpireat",
    "persist",
    "rename",
    "renamenx",
    "copy",
];
const REPLACE: &[&str] = &["set", "setex", "psetex", "mset"];

fn is_among(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(name))
}

/// The part of a command. A `SET` that looks at what was there (`NX XX GET KEEPTTL`) is a change. Costs a search of some
/// forty names: keep the answer with the command's specification where it is asked for often.
pub fn part_of(command: &Command<'_>) -> Part {
    let name = command.name();
    if name.eq_ignore_ascii_case(b"set") {
        let looks = |word: &[u8]| is_among(word, &["nx", "xx", "get", "keepttl"]);
        // The key and the value may be called so.
        return if command.iter().skip(3).any(looks) { Part::Change } else { Part::Replace };
    }
    if is_among(name, READ) {
        Part::Read
    } else if is_among(name, CHANGE) {
        Part::Change
    } else if is_among(name, REPLACE) {
        Part::Replace
    } else {
        Part::None
    }
}

#[cfg(test)]
mod tests {
    use corelane_proto_resp::{Limits, Parser, Step};

    use super::*;
    use crate::services::cache::command::{Flags, lookup};

    fn part(line: &str) -> Part {
        let (mut parser, line) = (Parser::new(), format!("{line}\r\n"));
        let mut bytes = line.as_bytes();
        match parser.poll(&Limits::default(), &mut bytes) {
            Step::Command(command) => part_of(&command),
            _ => panic!("{line} is no command"),
        }
    }

    #[test]
    fn commands_on_strings_take_part_and_those_on_collections_do_not() {
        for (line, wanted) in [
            ("GET k", Part::Read),
            ("mget a b", Part::Read),
            ("set nx get", Part::Replace),
            ("SET k v EX 5", Part::Replace),
            ("SET k v NX", Part::Change),
            ("SET k v EX 5 GET", Part::Change),
            ("incr k", Part::Change),
            ("DEL a b", Part::Change),
            ("hget k f", Part::None),
            ("flushall", Part::None),
            ("ping", Part::None),
        ] {
            assert_eq!(part(line), wanted, "{line}");
        }
    }

    #[test]
    fn what_writes_here_writes_there_and_what_reads_does_not() {
        for (names, writes) in [(READ, false), (CHANGE, true), (REPLACE, true)] {
            // `TOUCH`, `DUMP` and the like may not be among the commands there are.
            for spec in names.iter().filter_map(|name| lookup(name.as_bytes())) {
                assert_eq!(spec.flags.has(Flags::WRITE), writes, "{}", spec.name);
            }
        }
    }
}
