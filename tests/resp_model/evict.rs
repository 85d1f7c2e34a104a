//! A server that is short of memory: keys may go at any time, and what is left must be right.
//!
//! Every key has the states that it may be in, by all replies so far: what was written, or nothing. A reply keeps
//! those that explain it. One that none explains is a fault: a value that was overwritten or deleted, parts of
//! one, or what was never written.
//!
//! # Rules
//! 1. Before each command a key may be gone as well. It goes whole.
//! 2. A key holds one type: it is in its name.
//!
//! Not here: which keys go. Hit ratios are measured beside a simulator, in the tests of the store.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;

use corelane_base::rng::Rng;

use super::step::{Cmd, typed};
use crate::resp::{Conn, Value, encode};

/// Keys, many more than fit.
const KEYS: u64 = 20_000;

/// Commands in flight.
const BURST: usize = 50;

/// Members, fields and elements.
const MEMBERS: u64 = 12;

type Bytes = Vec<u8>;

/// What a key holds.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
enum State {
    Gone,
    Text(Bytes),
    Hash(BTreeMap<Bytes, Bytes>),
    List(VecDeque<Bytes>),
    Set(BTreeSet<Bytes>),
    Sorted(BTreeMap<Bytes, i64>),
}

/// What can be done with a key.
#[derive(Clone, Debug)]
enum Op {
    Set(Bytes),
    SetNx(Bytes),
    Get,
    GetDel,
    Append(Bytes),
    StrLen,
    Del,
    Exists,
    HSet(Bytes, Bytes),
    HGet(Bytes),
    HGetAll,
    HDel(Bytes),
    RPush(Bytes),
    LPop,
    LRange,
    SAdd(Bytes),
    SRem(Bytes),
    SMembers,
    ZAdd(i64, Bytes),
    ZIncrBy(i64, Bytes),
    ZScore(Bytes),
    ZCard,
}

impl Op {
    /// One for a key of this type.
    fn draw(kind: u8, rng: &mut Rng) -> Op {
        let value = vec![b'a' + u8::try_from(rng.below(26)).unwrap_or(0); 20 + rng.index(400)];
        let member = || b"m".to_vec();
        let member = [member(), rng.below(MEMBERS).to_string().into_bytes()].concat();
        let score = i64::try_from(rng.below(100)).unwrap_or(0);
        match (kind, rng.below(20)) {
            (_, 0) => Op::Del,
            (_, 1) => Op::Exists,
            (b's', 2..9) => Op::Set(value),
            (b's', 9) => Op::SetNx(value),
            (b's', 10) => Op::Append(b"tail".to_vec()),
            (b's', 11) => Op::GetDel,
            (b's', 12) => Op::StrLen,
            (b's', _) => Op::Get,
            (b'h', 2..9) => Op::HSet(member, value),
            (b'h', 9..14) => Op::HGet(member),
            (b'h', 14) => Op::HDel(member),
            (b'h', _) => Op::HGetAll,
            (b'l', 2..11) => Op::RPush(value),
            (b'l', 11..15) => Op::LPop,
            (b'l', _) => Op::LRange,
            (b'u', 2..11) => Op::SAdd(member),
            (b'u', 11..14) => Op::SRem(member),
            (b'u', _) => Op::SMembers,
            (b'z', 2..9) => Op::ZAdd(score, member),
            (b'z', 9..12) => Op::ZIncrBy(score, member),
            (b'z', 12..18) => Op::ZScore(member),
            (_, _) => Op::ZCard,
        }
    }

    fn command(&self, key: &[u8]) -> Cmd {
        let words = |name: &str, rest: &[&[u8]]| {
            [&[name.as_bytes(), key], rest].concat().into_iter().map(<[u8]>::to_vec).collect()
        };
        match self {
            Op::Set(value) => words("SET", &[value]),
            Op::SetNx(value) => words("SET", &[value, b"NX"]),
            Op::Get => words("GET", &[]),
            Op::GetDel => words("GETDEL", &[]),
            Op::Append(more) => words("APPEND", &[more]),
            Op::StrLen => words("STRLEN", &[]),
            Op::Del => words("DEL", &[]),
            Op::Exists => words("EXISTS", &[]),
            Op::HSet(field, value) => words("HSET", &[field, value]),
            Op::HGet(field) => words("HGET", &[field]),
            Op::HGetAll => words("HGETALL", &[]),
            Op::HDel(field) => words("HDEL", &[field]),
            Op::RPush(value) => words("RPUSH", &[value]),
            Op::LPop => words("LPOP", &[]),
            Op::LRange => words("LRANGE", &[b"0", b"-1"]),
            Op::SAdd(member) => words("SADD", &[member]),
            Op::SRem(member) => words("SREM", &[member]),
            Op::SMembers => words("SMEMBERS", &[]),
            Op::ZAdd(score, member) => words("ZADD", &[score.to_string().as_bytes(), member]),
            Op::ZIncrBy(by, member) => words("ZINCRBY", &[by.to_string().as_bytes(), member]),
            Op::ZScore(member) => words("ZSCORE", &[member]),
            Op::ZCard => words("ZCARD", &[]),
        }
    }

    /// What the reply is in a state, and the state behind it.
    fn apply(&self, state: &State) -> (Value, State) {
        let same = state.clone();
        let count = |n: usize| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        match (self, state) {
            (Op::Set(value), _) => (Value::ok(), State::Text(value.clone())),
            (Op::SetNx(value), State::Gone) => (Value::ok(), State::Text(value.clone())),
            (Op::SetNx(_), _) => (Value::NullBulk, same),
            (Op::Get, State::Text(text)) => (Value::bulk(text), same),
            (Op::GetDel, State::Text(text)) => (Value::bulk(text), State::Gone),
            (Op::Append(more), State::Text(text)) => {
                let all = [&text[..], more].concat();
                (count(all.len()), State::Text(all))
            }
            (Op::Append(more), _) => (count(more.len()), State::Text(more.clone())),
            (Op::StrLen, State::Text(text)) => (count(text.len()), same),
            (Op::Del, State::Gone) => (Value::Int(0), same),
            (Op::Del, _) => (Value::Int(1), State::Gone),
            (Op::Exists, State::Gone) => (Value::Int(0), same),
            (Op::Exists, _) => (Value::Int(1), same),
            (Op::HSet(field, value), _) => {
                let mut map = if let State::Hash(map) = state { map.clone() } else { BTreeMap::new() };
                let is_new = map.insert(field.clone(), value.clone()).is_none();
                (Value::Int(is_new.into()), State::Hash(map))
            }
            (Op::HGet(field), State::Hash(map)) => {
                (map.get(field).map_or(Value::NullBulk, Value::bulk), same)
            }
            (Op::HGetAll, State::Hash(map)) => (
                Value::Array(map.iter().flat_map(|(field, value)| [field, value]).map(Value::bulk).collect()),
                same,
            ),
            (Op::HDel(field), State::Hash(map)) => {
                let mut map = map.clone();
                let was_there = map.remove(field).is_some();
                (Value::Int(was_there.into()), if map.is_empty() { State::Gone } else { State::Hash(map) })
            }
            (Op::RPush(value), _) => {
                let mut list = if let State::List(list) = state { list.clone() } else { VecDeque::new() };
                list.push_back(value.clone());
                (count(list.len()), State::List(list))
            }
            (Op::LPop, State::List(list)) => {
                let mut list = list.clone();
                let first = list.pop_front().map_or(Value::NullBulk, Value::bulk);
                (first, if list.is_empty() { State::Gone } else { State::List(list) })
            }
            (Op::LRange, State::List(list)) => (Value::Array(list.iter().map(Value::bulk).collect()), same),
            (Op::SAdd(member), _) => {
                let mut set = if let State::Set(set) = state { set.clone() } else { BTreeSet::new() };
                (Value::Int(set.insert(member.clone()).into()), State::Set(set))
            }
            (Op::SRem(member), State::Set(set)) => {
                let mut set = set.clone();
                let was_there = set.remove(member);
                (Value::Int(was_there.into()), if set.is_empty() { State::Gone } else { State::Set(set) })
            }
            (Op::SMembers, State::Set(set)) => (Value::Array(set.iter().map(Value::bulk).collect()), same),
            (Op::ZAdd(score, member), _) => {
                let mut map = if let State::Sorted(map) = state { map.clone() } else { BTreeMap::new() };
                (Value::Int(map.insert(member.clone(), *score).is_none().into()), State::Sorted(map))
            }
            (Op::ZIncrBy(by, member), _) => {
                let mut map = if let State::Sorted(map) = state { map.clone() } else { BTreeMap::new() };
                let score = map.entry(member.clone()).or_insert(0);
                *score += by;
                (Value::bulk(score.to_string()), State::Sorted(map))
            }
            (Op::ZScore(member), State::Sorted(map)) => {
                (map.get(member).map_or(Value::NullBulk, |score| Value::bulk(score.to_string())), same)
            }
            (Op::ZCard, State::Sorted(map)) => (count(map.len()), same),
            (Op::HGetAll | Op::LRange | Op::SMembers, _) => (Value::Array(Vec::new()), same),
            (Op::StrLen | Op::HDel(_) | Op::SRem(_) | Op::ZCard, _) => (Value::Int(0), same),
            (Op::Get | Op::GetDel | Op::HGet(_) | Op::LPop | Op::ZScore(_), _) => (Value::NullBulk, same),
        }
    }
}

/// What has no order, in order.
fn ordered(op: &Op, reply: Value) -> Value {
    match (op, reply) {
        (Op::SMembers, reply) => super::compare::sorted(reply),
        (Op::HGetAll, Value::Array(all)) => {
            let mut pairs: Vec<_> = all.chunks(2).map(<[Value]>::to_vec).collect();
            pairs.sort();
            Value::Array(pairs.concat())
        }
        (_, reply) => reply,
    }
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) commands: usize,
    /// Keys that were surely there, and were gone.
    pub(crate) evicted: usize,
    /// Replies that showed a key that could have been gone.
    pub(crate) hits: usize,
}

/// Sends `commands` to a server, and holds every reply against what its key may hold. Panics at one that nothing
/// explains, with what was done with that key.
pub(crate) fn check(addr: SocketAddr, commands: usize, seed: u64) -> Seen {
    let mut conn = Conn::open(addr);
    conn.say("FLUSHALL");
    let mut rng = Rng::new(seed);
    let mut keys: HashMap<Bytes, Vec<State>> = HashMap::new();
    let mut done: HashMap<Bytes, Vec<String>> = HashMap::new();
    let mut seen = Seen::default();
    while seen.commands < commands {
        let mut burst = Vec::new();
        for _ in 0..BURST {
            // Some keys are wanted more often than others.
            let number = rng.below(KEYS) * rng.below(KEYS) / KEYS;
            let kind = *b"ssshluz".get(usize::try_from(number % 7).unwrap_or(0)).unwrap_or(&b's');
            let key = [&[kind][..], number.to_string().as_bytes()].concat();
            burst.push((Op::draw(kind, &mut rng), key));
        }
        conn.send(&burst.iter().flat_map(|(op, key)| encode(&op.command(key))).collect::<Vec<u8>>());
        for (op, key) in burst {
            let reply = conn.read().unwrap_or_else(|cut| panic!("no reply to {op:?}: {cut:?}"));
            let reply = ordered(&op, reply);
            let mut states = keys.remove(&key).unwrap_or_else(|| vec![State::Gone]);
            let was_there = !states.contains(&State::Gone);
            if was_there {
                states.push(State::Gone);
            }
            let explain = |state: &State| {
                let (expected, next) = op.apply(state);
                (expected == reply).then(|| (state.clone(), next))
            };
            let left: Vec<(State, State)> = states.iter().filter_map(explain).collect();
            let history = done.entry(key.clone()).or_default();
            history.push(format!("{} -> {reply:?}", typed(&op.command(&key))));
            assert!(
                !left.is_empty(),
                "seed {seed}: nothing explains the last reply. All that was done with the key:\n{}",
                history.join("\n")
            );
            let may_be_gone = left.iter().any(|(before, _)| *before == State::Gone);
            let may_be_there = left.iter().any(|(before, _)| *before != State::Gone);
            seen.evicted += usize::from(was_there && !may_be_there);
            seen.hits += usize::from(was_there && !may_be_gone);
            let mut next: Vec<State> = left.into_iter().map(|(_, next)| next).collect();
            next.sort();
            next.dedup();
            keys.insert(key, next);
            seen.commands += 1;
        }
    }
    seen
}

#[test]
fn a_reply_that_no_state_explains_is_one_of_a_value_that_was_overwritten() {
    let (old, new) = (b"old".to_vec(), b"new".to_vec());
    let (_, state) = Op::Set(new.clone()).apply(&State::Text(old.clone()));
    let explained: Vec<Value> = [state, State::Gone].iter().map(|state| Op::Get.apply(state).0).collect();
    assert_eq!(explained, [Value::bulk(new), Value::NullBulk]);
    assert!(!explained.contains(&Value::bulk(old)));
}
