//! Linearizability: several clients work on the same few keys at the same time, and there is one order of all that
//! they did that explains every reply.
//!
//! Rounds are short and each has keys of its own, so that the histories to check are. In half of the rounds each
//! client sends several commands at once. Clocks are those of one machine and one counter: a call is timed before
//! its first byte is sent, a return when its reply has been read.
//!
//! `RESP_LINEAR_ROUNDS=N` is how many rounds; `RESP_PROGRAM` and `RESP_ADDR` as in `resp_model`.
//!
//! Not here: several keys at once (MULTI, MSET), whose replies `resp_model` compares; here only that nobody sees
//! half of one.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod resp;

#[path = "resp_linear/checker.rs"]
mod checker;

use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use checker::{Action, Op, check};
use corelane_base::rng::Rng;
use resp::{Conn, Subject, Value, encode};

const CLIENTS: usize = 4;
/// Keys of a round, by turns for texts and for counters.
const KEYS: usize = 4;
/// Commands of a client in a round.
const COMMANDS: usize = 48;
/// Commands that a client sends at once, in every other round.
const BURST: usize = 6;
/// Rounds, where `RESP_LINEAR_ROUNDS` does not say.
const ROUNDS: u64 = 150;

fn rounds() -> u64 {
    let said = std::env::var("RESP_LINEAR_ROUNDS").ok();
    said.map_or(ROUNDS, |text| text.parse().unwrap_or_else(|_| panic!("RESP_LINEAR_ROUNDS={text}: a number")))
}

fn draw(key: usize, unique: &str, rng: &mut Rng) -> Action {
    let text = unique.as_bytes().to_vec();
    match (key % 2, rng.below(10)) {
        (_, 0) => Action::GetDel,
        (_, 1) => Action::Del,
        (_, 2 | 3) => Action::Get,
        (0, 4 | 5) => Action::Set(text),
        (0, 6) => Action::SetNew(text),
        (0, 7) => Action::Swap(text),
        (0, _) => Action::Append(text),
        (_, 4) => Action::Set(b"100".to_vec()),
        (_, 5) => Action::SetNew(b"200".to_vec()),
        (_, _) => Action::Incr,
    }
}

/// What one client does in a round: operations with their keys, in its order.
fn play(conn: &mut Conn, client: usize, round: u64, start: Instant) -> Vec<(usize, Op)> {
    let now = || u64::try_from(start.elapsed().as_nanos()).unwrap();
    let mut rng = Rng::new(round * 1_000 + client as u64);
    let at_once = if round.is_multiple_of(2) { 1 } else { BURST };
    let mut done: Vec<(usize, Op)> = Vec::new();
    while done.len() < COMMANDS {
        let mut burst = Vec::new();
        let mut bytes = Vec::new();
        for _ in 0..at_once {
            let key = rng.index(KEYS);
            let unique = format!("{client}.{};", done.len() + burst.len());
            let action = draw(key, &unique, &mut rng);
            bytes.extend(encode(&action.command(format!("linear:{round}:{key}").as_bytes())));
            burst.push((key, action));
        }
        let called = now();
        conn.send(&bytes);
        for (key, action) in burst {
            let reply = conn.read().unwrap_or_else(|cut| panic!("no reply to {action:?}: {cut:?}"));
            done.push((key, Op { client, action, called, returned: Some((now(), reply)), after: None }));
        }
    }
    done
}

/// The histories of the keys of a round.
fn histories(all: Vec<Vec<(usize, Op)>>) -> HashMap<usize, Vec<Op>> {
    let mut histories: HashMap<usize, Vec<Op>> = HashMap::new();
    for ops in all {
        let mut last = HashMap::new();
        for (key, mut op) in ops {
            let history = histories.entry(key).or_default();
            op.after = last.insert(key, history.len());
            history.push(op);
        }
    }
    histories
}

fn is_linearizable(subject: &Subject) {
    let (start, barrier) = (Instant::now(), Barrier::new(CLIENTS));
    let rounds = rounds();
    let played: Vec<Vec<Vec<(usize, Op)>>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut conn = subject.open();
                    let mut rounds_of = Vec::new();
                    for round in 0..rounds {
                        barrier.wait();
                        rounds_of.push(play(&mut conn, client, round, start));
                    }
                    rounds_of
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let mut overlapping = 0;
    for round in 0..usize::try_from(rounds).unwrap() {
        for (key, history) in histories(played.iter().map(|client| client[round].clone()).collect()) {
            overlapping += overlaps(&history);
            if let Err(violation) = check(&history) {
                panic!("{}, round {round}, key {key}: no order explains\n{violation}", subject.name);
            }
        }
    }
    let all = rounds * (CLIENTS * COMMANDS) as u64;
    eprintln!("{}: {all} operations, {overlapping} beside one of another client on its key", subject.name);
    assert!(overlapping * 20 > all, "{}: only {overlapping} of {all} met another", subject.name);
}

/// Operations that were under way while another client's was.
fn overlaps(history: &[Op]) -> u64 {
    let meets = |one: &Op, other: &Op| {
        let before = |one: &Op, other: &Op| one.returned.as_ref().is_some_and(|(at, _)| *at < other.called);
        one.client != other.client && !before(one, other) && !before(other, one)
    };
    history.iter().filter(|one| history.iter().any(|other| meets(one, other))).count() as u64
}

#[test]
fn redis_is_linearizable() {
    let Some(redis) = Subject::redis() else { return };
    is_linearizable(&redis);
}

#[test]
fn one_shard_is_linearizable() {
    let Some(ours) = Subject::corelane(1) else { return };
    is_linearizable(&ours);
}

#[test]
fn two_shards_are_linearizable() {
    let Some(ours) = Subject::corelane(2) else { return };
    is_linearizable(&ours);
}

#[test]
fn four_shards_are_linearizable() {
    let Some(ours) = Subject::corelane(4) else { return };
    is_linearizable(&ours);
}

#[track_caller]
fn reply(conn: &mut Conn, subject: &Subject) -> Value {
    conn.read().unwrap_or_else(|cut| panic!("{}: no reply: {cut:?}", subject.name))
}

/// Transfers between two keys by MULTI, and reads of all: the sum is always the same. One who reads by MULTI, and with
/// `mget` another one by MGET, which is one moment in Redis and, across shards, none that is promised.
fn transactions_are_whole(subject: &Subject, mget: bool) {
    let mut setup = subject.open();
    let keys = ["account:a", "account:b", "account:c", "account:d"];
    for key in keys {
        assert_eq!(setup.say(&format!("SET {key} 1000")), Value::ok());
    }
    thread::scope(|scope| {
        for client in 0..2 {
            scope.spawn(move || {
                let mut conn = subject.open();
                let mut rng = Rng::new(client);
                for _ in 0..500 {
                    let (from, to) = (keys[rng.index(4)], keys[rng.index(4)]);
                    let amount = rng.below(9).to_string();
                    let moves = [
                        encode(&["MULTI"]),
                        encode(&["DECRBY", from, &amount]),
                        encode(&["INCRBY", to, &amount]),
                        encode(&["EXEC"]),
                    ];
                    conn.send(&moves.concat());
                    let replies: Vec<Value> = (0..4).map(|_| reply(&mut conn, subject)).collect();
                    assert!(matches!(&replies[3], Value::Array(all) if all.len() == 2), "{replies:?}");
                }
            });
        }
        for reads_by_multi in [true, !mget] {
            scope.spawn(move || {
                let mut conn = subject.open();
                for _ in 0..500 {
                    let all = if reads_by_multi {
                        let gets = keys.map(|key| encode(&["GET", key])).concat();
                        conn.send(&[encode(&["MULTI"]), gets, encode(&["EXEC"])].concat());
                        let mut replies: Vec<Value> =
                            (0..keys.len() + 2).map(|_| reply(&mut conn, subject)).collect();
                        replies.pop().unwrap()
                    } else {
                        conn.ask(&[&["MGET"], &keys[..]].concat())
                    };
                    let number = |value: &Value| std::str::from_utf8(value.text()?).ok()?.parse::<i64>().ok();
                    let sum: Option<i64> = all.elements().unwrap_or_default().iter().map(number).sum();
                    assert_eq!(sum, Some(4_000), "{}: half a transfer is seen: {all:?}", subject.name);
                }
            });
        }
    });
}

/// Clients that each read two counters under WATCH and write both one higher: both are always the same, and the sum
/// of what succeeded.
fn watch_guards(subject: &Subject) {
    const TIMES: u64 = 150;
    let keys = ["counter:a", "counter:b"];
    subject.open().ask(&["MSET", keys[0], "0", keys[1], "0"]);
    let failed: u64 = thread::scope(|scope| {
        let client = || {
            let mut conn = subject.open();
            let (mut done, mut failed) = (0, 0);
            while done < TIMES {
                conn.ask(&["WATCH", keys[0], keys[1]]);
                let read = keys.map(|key| {
                    let value = conn.ask(&["GET", key]);
                    String::from_utf8(value.text().unwrap().to_vec()).unwrap().parse::<u64>().unwrap()
                });
                let next = read.map(|number| (number + 1).to_string());
                let sets = [encode(&["SET", keys[0], &next[0]]), encode(&["SET", keys[1], &next[1]])];
                conn.send(&[encode(&["MULTI"]), sets.concat(), encode(&["EXEC"])].concat());
                let replies: Vec<Value> = (0..4).map(|_| reply(&mut conn, subject)).collect();
                if replies[3].is_null() {
                    failed += 1;
                    continue;
                }
                assert_eq!(read[0], read[1], "{}: read under WATCH, and EXEC agreed", subject.name);
                done += 1;
            }
            failed
        };
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let sum = Value::bulk((3 * TIMES).to_string());
    assert_eq!(subject.open().ask(&["MGET", keys[0], keys[1]]), Value::Array(vec![sum.clone(), sum]));
    eprintln!("{}: {failed} EXEC found a watched key changed", subject.name);
    assert!(failed > 0, "{}: none met another", subject.name);
}

#[test]
fn an_exec_of_redis_fails_where_a_watched_key_has_changed() {
    let Some(redis) = Subject::redis() else { return };
    watch_guards(&redis);
}

#[test]
fn an_exec_across_shards_fails_where_a_watched_key_has_changed() {
    for shards in [1, 2, 4] {
        let Some(ours) = Subject::corelane(shards) else { return };
        watch_guards(&ours);
    }
}

#[test]
fn nobody_sees_half_a_transaction_of_redis() {
    let Some(redis) = Subject::redis() else { return };
    transactions_are_whole(&redis, true);
}

#[test]
fn nobody_sees_half_a_transaction_across_shards() {
    for shards in [1, 2, 4] {
        let Some(ours) = Subject::corelane(shards) else { return };
        transactions_are_whole(&ours, shards == 1);
    }
}
