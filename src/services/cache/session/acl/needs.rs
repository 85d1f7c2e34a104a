//! Needs: what a command does to its keys, and which of its words are channels.
//!
//! A command that reads needs R, one that writes W, unless it is listed here. What Redis says of its keys by `COMMAND INFO`
//! is looked at by a test beside it.
//!
//! Not here: where the keys are (`command::spec`).

use super::Access;
use crate::services::cache::command::{Flags, Spec, parse};

/// These say of a key only that it is there, how long it is, or what kind it is.
const LOOK: &[&str] = &[
    "exists",
    "hexists",
    "hlen",
    "hstrlen",
    "llen",
    "memory|usage",
    "object|encoding",
    "object|freq",
    "object|idletime",
    "object|refcount",
    "scard",
    "sismember",
    "strlen",
    "touch",
    "type",
    "watch",
    "zcard",
];

/// These write, and give away what was there.
const BOTH: &[&str] = &[
    "blmpop",
    "blpop",
    "brpop",
    "bzmpop",
    "bzpopmax",
    "bzpopmin",
    "decr",
    "decrby",
    "getdel",
    "getex",
    "getset",
    "hincrby",
    "hincrbyfloat",
    "incr",
    "incrby",
    "incrbyfloat",
    "lmpop",
    "lpop",
    "rpop",
    "setbit",
    "spop",
    "zincrby",
    "zmpop",
    "zpopmax",
    "zpopmin",
];

/// These move from their first key to their second.
const MOVES: &[&str] = &["blmove", "brpoplpush", "lmove", "rename", "renamenx", "rpoplpush", "smove"];

/// These write what they have read from all keys but the first to that.
const STORES: &[&str] = &[
    "bitop",
    "sdiffstore",
    "sinterstore",
    "sunionstore",
    "zdiffstore",
    "zinterstore",
    "zrangestore",
    "zunionstore",
];

/// What a command does to its key number `n`, from 0.
pub(super) fn of<'a>(spec: &Spec, n: usize, len: usize, get: impl Fn(usize) -> Option<&'a [u8]>) -> Access {
    let name = spec.name;
    if !spec.flags.has(Flags::WRITE) {
        return if LOOK.contains(&name) { Access::NONE } else { Access::READ };
    }
    let has = |from: usize, word: &str| (from..len).any(|at| get(at).is_some_and(|own| parse::is(own, word)));
    match (name, n) {
        ("set", _) if has(3, "get") => Access::BOTH,
        ("bitfield", _) if !has(2, "set") && !has(2, "incrby") => Access::READ,
        ("bitfield", _) => Access::BOTH,
        ("copy", 0) => Access::READ,
        (name, 0) if MOVES.contains(&name) => Access::BOTH,
        (name, 1..) if STORES.contains(&name) => Access::READ,
        (name, _) if BOTH.contains(&name) => Access::BOTH,
        _ => Access::WRITE,
    }
}

/// The places of channels, or of patterns of channels.
pub(super) fn channels(spec: &Spec, len: usize) -> std::ops::Range<usize> {
    match spec.name {
        "publish" => 1..2,
        "subscribe" | "psubscribe" => 1..len,
        _ => 0..0,
    }
}
