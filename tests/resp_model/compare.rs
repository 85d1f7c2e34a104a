//! Which two replies are the same: equal, but for what Redis leaves open or what is about the server itself.
//!
//! [`DIFFERENCES`] is the whole list of what may differ, each with its reason. What chance decides (SPOP and its
//! like), iterations and pushed messages are steps of their own, in `run`.
//!
//! With several shards, clients wait for keys of one shard only: one that waits for keys of several hears of a value
//! from each of them and then tries, so commands that come at once behind the one that put the value there may find it
//! still (`docs/CACHE.md`).
//!
//! Not here: errors. They are always equal to the letter.

use super::step::{Cmd, name};
use crate::resp::Value;

/// How two replies may differ.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// Not at all.
    Exact,
    /// The order of the elements.
    Unordered,
    /// The order of pairs.
    Pairs,
    /// A number, by so much; negative ones, which mean something else, not at all.
    Near(i64),
    /// Everything but the type.
    Kind,
    /// Of a map, the values of these keys.
    Fields(&'static [&'static str]),
}

/// Milliseconds between the same command on both servers, at the very most.
const APART_MS: i64 = 3_000;

/// What may differ, and why.
pub(crate) const DIFFERENCES: &[(&[&str], Rule, &str)] = &[
    (
        &["SMEMBERS", "SINTER", "SUNION", "SDIFF", "HKEYS", "HVALS", "KEYS", "PUBSUB CHANNELS"],
        Rule::Unordered,
        "members, fields, keys and channels have no order",
    ),
    (&["HGETALL"], Rule::Pairs, "fields have no order"),
    (&["TTL", "EXPIRETIME"], Rule::Near(APART_MS / 1000), "the servers got the command one after the other"),
    (&["PTTL", "PEXPIRETIME"], Rule::Near(APART_MS), "the servers got the command one after the other"),
    (&["OBJECT IDLETIME"], Rule::Near(APART_MS / 1000), "the servers got the command one after the other"),
    (&["OBJECT ENCODING"], Rule::Kind, "how a value lies in memory is the server's own affair"),
    (&["MEMORY USAGE"], Rule::Kind, "how much memory a value takes is the server's own affair"),
    (&["CLIENT ID", "CLIENT INFO", "CLIENT LIST"], Rule::Kind, "ports, numbers and ages differ"),
    (&["TIME"], Rule::Kind, "the servers got the command one after the other"),
    (&["COMMAND COUNT"], Rule::Kind, "Redis has more commands"),
    (&["HELLO"], Rule::Fields(&["version", "id", "server"]), "name, version and number are the server's own"),
];

/// The rule for the reply of a command.
pub(crate) fn rule(cmd: &Cmd) -> Rule {
    let first = name(cmd);
    let both = cmd.get(1).map(|arg| format!("{first} {}", String::from_utf8_lossy(arg).to_ascii_uppercase()));
    let of = |names: &&[&str]| names.iter().any(|name| *name == first || Some(*name) == both.as_deref());
    DIFFERENCES.iter().find(|(names, ..)| of(names)).map_or(Rule::Exact, |(_, rule, _)| *rule)
}

/// Whether the replies to `cmd` are the same. `queue` is what an EXEC runs.
pub(crate) fn same(cmd: &Cmd, queue: &[Cmd], one: &Value, other: &Value) -> bool {
    if name(cmd) == "EXEC"
        && let (Value::Array(ones), Value::Array(others)) = (one, other)
    {
        return ones.len() == others.len()
            && ones.len() == queue.len()
            && ones.iter().zip(others).zip(queue).all(|((one, other), cmd)| alike(rule(cmd), one, other));
    }
    alike(rule(cmd), one, other)
}

/// Whether two values are the same by a rule.
pub(crate) fn alike(rule: Rule, one: &Value, other: &Value) -> bool {
    if one.is_error() || other.is_error() {
        return one == other;
    }
    match rule {
        Rule::Exact => one == other,
        Rule::Unordered => sorted(one.clone()) == sorted(other.clone()),
        Rule::Pairs => paired(one.clone()) == paired(other.clone()),
        Rule::Near(most) => match (one.int(), other.int()) {
            (Some(one), Some(other)) if one >= 0 && other >= 0 => one.abs_diff(other) <= most.unsigned_abs(),
            _ => one == other,
        },
        Rule::Kind => std::mem::discriminant(one) == std::mem::discriminant(other),
        Rule::Fields(names) => without(one, names) == without(other, names),
    }
}

/// The value with its elements in order.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Array(mut all) => {
            all.sort();
            Value::Array(all)
        }
        Value::Set(mut all) => {
            all.sort();
            Value::Set(all)
        }
        other => other,
    }
}

/// The value with its pairs in order, be it a map or a list of keys and values in turn.
fn paired(value: Value) -> Value {
    match value {
        Value::Map(mut pairs) => {
            pairs.sort();
            Value::Map(pairs)
        }
        Value::Array(all) => {
            let mut pairs: Vec<Vec<Value>> = all.chunks(2).map(<[Value]>::to_vec).collect();
            pairs.sort();
            Value::Array(pairs.concat())
        }
        other => other,
    }
}

fn without(value: &Value, names: &[&str]) -> Value {
    let is_named = |key: &Value| key.text().is_some_and(|text| names.iter().any(|n| n.as_bytes() == text));
    let blank = |key: &Value, value: &Value| if is_named(key) { Value::Null } else { value.clone() };
    match value {
        Value::Map(pairs) => {
            Value::Map(pairs.iter().map(|(key, value)| (key.clone(), blank(key, value))).collect())
        }
        Value::Array(all) => {
            let pairs = all.chunks(2).flat_map(|pair| match pair {
                [key, value] => vec![key.clone(), blank(key, value)],
                rest => rest.to_vec(),
            });
            Value::Array(pairs.collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::step::words;
    use super::*;

    fn list(words: &[&str]) -> Value {
        Value::Array(words.iter().map(Value::bulk).collect())
    }

    #[test]
    fn only_what_the_list_names_may_differ() {
        let (ab, ba) = (list(&["a", "b"]), list(&["b", "a"]));
        assert!(same(&words("SMEMBERS s"), &[], &ab, &ba));
        assert!(!same(&words("LRANGE l 0 -1"), &[], &ab, &ba));
        assert!(!same(&words("SMEMBERS s"), &[], &ab, &list(&["a"])));
        assert!(same(&words("HGETALL h"), &[], &list(&["a", "1", "b", "2"]), &list(&["b", "2", "a", "1"])));
        assert!(!same(&words("HGETALL h"), &[], &list(&["a", "1", "b", "2"]), &list(&["a", "2", "b", "1"])));
        assert!(same(&words("PTTL k"), &[], &Value::Int(500), &Value::Int(600)));
        assert!(!same(&words("PTTL k"), &[], &Value::Int(500), &Value::Int(-1)));
        assert!(!same(&words("PTTL k"), &[], &Value::Int(-2), &Value::Int(-1)));
        assert!(!same(&words("GET k"), &[], &Value::NullBulk, &Value::NullArray));
        let error = |text: &str| Value::Error(text.as_bytes().to_vec());
        assert!(!same(&words("TIME"), &[], &error("ERR a"), &error("ERR b")));
    }

    #[test]
    fn each_reply_of_an_exec_is_held_to_its_own_rule() {
        let queue = [words("SMEMBERS s"), words("LRANGE l 0 -1")];
        let (ab, ba) = (list(&["a", "b"]), list(&["b", "a"]));
        let both = |one: &Value, other: &Value| Value::Array(vec![one.clone(), other.clone()]);
        assert!(same(&words("EXEC"), &queue, &both(&ab, &ab), &both(&ba, &ab)));
        assert!(!same(&words("EXEC"), &queue, &both(&ab, &ab), &both(&ab, &ba)));
        assert!(!same(&words("EXEC"), &queue, &both(&ab, &ab), &Value::NullArray));
    }
}
