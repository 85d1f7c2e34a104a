//! A node with a real `redis-server` behind its cache, as clients see it.
//!
//! Not here: the second tier on its own (`cache_tier`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
mod resp;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{Client, Node, server, until};
use corelane::cache::{self, Condition, SetOptions, SetOutcome};
use corelane::config::{CacheConfig, Listen, SnapshotConfig, UpstreamConfig};
use corelane::services::cache::CacheError;
use corelane::services::cache::upstream::{Mode, Url};
use corelane::{App, Cache, Server, Shard, spawn};
use crossbeam_channel::bounded;
use resp::{Conn, Value, encode};

/// `redis-server` without files, ended when dropped.
struct Redis {
    addr: SocketAddr,
    child: Option<Child>,
}

impl Redis {
    /// None where it is missing, which fails on a build machine.
    fn start() -> Option<Redis> {
        common::redis_server()?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Redis { addr: SocketAddr::from(([127, 0, 0, 1], port)), child: None };
        redis.run();
        Some(redis)
    }

    fn run(&mut self) {
        let mut command = common::redis_server().unwrap();
        command.args(["--port", &self.addr.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--enable-debug-command", "yes"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.current_dir(std::env::temp_dir()).spawn().unwrap());
        until("redis-server accepts", || TcpStream::connect(self.addr).is_ok());
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            child.wait().unwrap();
        }
    }

    fn open(&self) -> Conn {
        Conn::open(self.addr)
    }

    fn config(&self) -> UpstreamConfig {
        let url = Url::parse(&format!("redis://{}", self.addr)).unwrap();
        UpstreamConfig { url: Some(url), timeout: Duration::from_secs(2), ..UpstreamConfig::default() }
    }

    /// How often a command was run, by its own count.
    fn calls(&self, command: &str) -> u64 {
        let (Value::Bulk(all) | Value::Verbatim(all)) = self.open().say("INFO commandstats") else {
            panic!("text")
        };
        let (all, start) = (String::from_utf8(all).unwrap(), format!("cmdstat_{command}:calls="));
        let line = all.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

fn any() -> Listen {
    Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn node_of(shards: u16, upstream: UpstreamConfig) -> Server {
    server().shards(shards).resp(any()).upstream(upstream)
}

fn open(node: &Node) -> Conn {
    let place = node.running().resp_listens().first().and_then(Listen::tcp);
    Conn::open(place.expect("an address"))
}

/// A field of `INFO upstream`.
fn info(conn: &mut Conn, field: &str) -> u64 {
    let (Value::Bulk(text) | Value::Verbatim(text)) = conn.say("INFO upstream") else { panic!("text") };
    let text = String::from_utf8(text).unwrap();
    let start = format!("{field}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("{field} is not in {text}")).parse().unwrap()
}

/// Runs a future as a task of the first shard of a node.
#[track_caller]
fn on<F, Fut>(node: &Node, make: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let (done, result) = bounded(1);
    let start = move |_: &Shard| {
        let task = spawn(async move {
            make().await;
            done.send(()).unwrap();
        });
        task.unwrap().detach();
    };
    node.running().shards()[0].send(start).unwrap();
    result.recv_timeout(common::PATIENCE).expect("the task came to its end");
}

fn is_upstream_error(value: &Value) -> bool {
    matches!(value, Value::Error(text) if text.starts_with(b"UPSTREAM "))
}

#[test]
fn what_is_not_here_is_fetched_once_and_what_is_nowhere_is_known() {
    let Some(redis) = Redis::start() else { return };
    let mut there = redis.open();
    for n in 0..40 {
        there.say(&format!("SET key:{n} value:{n} PX 600000"));
    }
    let node = Node::of(node_of(2, redis.config()));
    let mut conn = open(&node);
    for _ in 0..3 {
        for n in 0..20 {
            assert_eq!(conn.say(&format!("GET key:{n}")), Value::bulk(format!("value:{n}")));
        }
    }
    assert_eq!(redis.calls("get"), 20);
    let Value::Int(ttl) = conn.say("PTTL key:1") else { panic!("a number") };
    assert!((500_000..=600_000).contains(&ttl), "{ttl}");
    // Of both shards, and out of order.
    let words: Vec<String> = (0..40).rev().map(|n| format!("key:{n}")).collect();
    let wanted = (0..40).rev().map(|n| Value::bulk(format!("value:{n}"))).collect();
    assert_eq!(conn.say(&format!("MGET {}", words.join(" "))), Value::Array(wanted));
    assert_eq!(redis.calls("get"), 40);
    for _ in 0..5 {
        assert_eq!(conn.say("GET none"), Value::NullBulk);
        assert_eq!(conn.say("EXISTS none other"), Value::Int(0));
    }
    assert_eq!(redis.calls("get"), 42, "one for each of them");
    assert!(info(&mut conn, "upstream_absent_known") >= 8);
}

#[test]
fn who_asks_for_the_same_key_at_the_same_time_is_one_question() {
    let Some(redis) = Redis::start() else { return };
    redis.open().say("SET k v");
    let node = Node::of(node_of(2, redis.config()));
    let mut clients: Vec<Conn> = (0..50).map(|_| open(&node)).collect();
    let mut sleeper = redis.open();
    sleeper.send(&encode(&["DEBUG", "SLEEP", "0.3"]));
    std::thread::sleep(Duration::from_millis(30));
    for client in &mut clients {
        client.send(&encode(&["GET", "k"]));
    }
    for client in &mut clients {
        assert_eq!(client.read().unwrap(), Value::bulk("v"));
    }
    assert_eq!(redis.calls("get"), 1);
}

#[test]
fn a_write_is_there_when_it_is_answered() {
    let Some(redis) = Redis::start() else { return };
    let node = Node::of(node_of(2, redis.config()));
    let (mut conn, mut there) = (open(&node), redis.open());
    there.say("MSET n 41 text hello gone x old y");
    for (command, reply, key, value) in [
        ("SET k v EX 500", Value::ok(), "k", Some("v")),
        ("INCR n", Value::Int(42), "n", Some("42")),
        ("APPEND text !", Value::Int(6), "text", Some("hello!")),
        ("DEL gone", Value::Int(1), "gone", None),
        ("SETNX old z", Value::Int(0), "old", Some("y")),
        ("GETDEL old", Value::bulk("y"), "old", None),
        ("MSET a 1 b 2 c 3 d 4", Value::ok(), "c", Some("3")),
        ("RENAME a a2", Value::ok(), "a2", Some("1")),
        ("RENAME b b2", Value::ok(), "b", None),
        ("RENAME c c2", Value::ok(), "c2", Some("3")),
        ("COPY d d2", Value::Int(1), "d2", Some("4")),
        ("BITOP OR or d c2", Value::Int(1), "or", Some("7")),
    ] {
        assert_eq!(conn.say(command), reply, "{command}");
        let wanted = value.map_or(Value::NullBulk, Value::bulk);
        assert_eq!(there.say(&format!("GET {key}")), wanted, "{command}");
    }
    assert!(matches!(there.say("TTL k"), Value::Int(ttl) if (400..=500).contains(&ttl)));
    conn.say("PERSIST k");
    assert_eq!(there.say("TTL k"), Value::Int(-1));
    conn.say("EXPIRE k 100");
    assert!(matches!(there.say("TTL k"), Value::Int(ttl) if (90..=100).contains(&ttl)));
    // A transaction over both shards, of keys that are here and there.
    there.say("MSET t1 10 t2 20 t3 30 t4 40");
    conn.say("MULTI");
    for n in 1..=4 {
        conn.say(&format!("INCR t{n}"));
    }
    conn.say("GET text");
    let wanted = [11, 21, 31, 41].map(Value::Int).into_iter().chain([Value::bulk("hello!")]).collect();
    assert_eq!(conn.say("EXEC"), Value::Array(wanted));
    assert_eq!(
        there.say("MGET t1 t2 t3 t4"),
        Value::Array(["11", "21", "31", "41"].map(Value::bulk).to_vec())
    );
    // Collections stay here.
    assert_eq!(conn.say("RPUSH list a"), Value::Int(1));
    assert_eq!(there.say("EXISTS list"), Value::Int(0));
    assert_eq!(info(&mut conn, "upstream_write_failures"), 0);
}

#[test]
fn a_watched_key_that_comes_from_there_does_not_fail_its_transaction() {
    let Some(redis) = Redis::start() else { return };
    let node = Node::of(node_of(2, redis.config()));
    let (mut conn, mut there) = (open(&node), redis.open());
    for n in 0..8 {
        there.say(&format!("SET w{n} {n}"));
        assert_eq!(conn.say(&format!("WATCH w{n} none{n}")), Value::ok());
        conn.say("MULTI");
        conn.say(&format!("INCR w{n}"));
        assert_eq!(conn.say("EXEC"), Value::Array(vec![Value::Int(n + 1)]));
        assert_eq!(there.say(&format!("GET w{n}")), Value::bulk((n + 1).to_string()));
    }
    conn.say("WATCH w0");
    there.say("SET w0 other");
    until("the change is known", || info(&mut open(&node), "upstream_invalidations") > 0);
    conn.say("MULTI");
    conn.say("SET w0 mine");
    assert_eq!(conn.say("EXEC"), Value::NullArray, "somebody else changed it there");
}

#[test]
fn strings_of_a_snapshot_are_no_older_than_what_is_there() {
    let Some(redis) = Redis::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let snapshots = || SnapshotConfig { dir: Some(dir.path().to_owned()), ..SnapshotConfig::default() };
    let node = Node::of(node_of(2, redis.config()).snapshots(snapshots()));
    let mut conn = open(&node);
    conn.say("MSET k old l old");
    conn.say("RPUSH list a");
    node.drain();
    redis.open().say("SET k newer");
    let node = Node::of(node_of(2, redis.config()).snapshots(snapshots()));
    let mut conn = open(&node);
    assert_eq!((conn.say("GET k"), conn.say("GET l")), (Value::bulk("newer"), Value::bulk("old")));
    assert_eq!(conn.say("LLEN list"), Value::Int(1));
}

#[test]
fn what_others_change_there_is_seen_here() {
    let Some(redis) = Redis::start() else { return };
    let node = Node::of(node_of(2, redis.config()));
    let (mut conn, mut there) = (open(&node), redis.open());
    for n in 0..10 {
        conn.say(&format!("SET k{n} ours"));
        there.say(&format!("SET k{n} theirs"));
        until("the change is seen", || conn.say(&format!("GET k{n}")) == Value::bulk("theirs"));
        there.say(&format!("DEL k{n}"));
        until("the removal is seen", || conn.say(&format!("GET k{n}")) == Value::NullBulk);
    }
}

#[test]
fn without_the_upstream_what_is_here_is_served_and_what_cannot_be_kept_is_an_error() {
    let Some(mut redis) = Redis::start() else { return };
    let node = Node::of(node_of(2, redis.config()));
    let mut conn = open(&node);
    for n in 0..10 {
        conn.say(&format!("SET k{n} v"));
    }
    redis.open().say("SET there v");
    redis.stop();
    until("its end is known", || info(&mut conn, "upstream_connections") == 0);
    for n in 0..10 {
        assert_eq!(conn.say(&format!("GET k{n}")), Value::bulk("v"));
    }
    for n in 0..20 {
        assert_eq!(conn.say(&format!("GET there{n}")), Value::NullBulk);
        let said = conn.say(&format!("SET new{n} v"));
        assert!(is_upstream_error(&said), "{said:?}");
        assert_eq!(conn.say(&format!("GET new{n}")), Value::NullBulk, "it is not kept here either");
        let said = conn.say(&format!("INCR counter{n}"));
        assert!(is_upstream_error(&said), "{said:?}");
    }
    assert_eq!(info(&mut conn, "upstream_breakers_open"), 2);
    conn.say("MULTI");
    for n in 0..4 {
        conn.say(&format!("SET m{n} v"));
    }
    let said = conn.say("EXEC");
    assert!(is_upstream_error(&said), "{said:?}");
    assert_eq!(conn.say("RPUSH list a"), Value::Int(1), "it has nothing to do with it");
    redis.run();
    until("it is found again", || {
        conn.say("SET back v") == Value::ok() && conn.say("SET again v") == Value::ok()
    });
    assert_eq!(redis.open().say("GET back"), Value::bulk("v"));
}

#[test]
fn writes_that_wait_are_there_after_a_drain() {
    let Some(redis) = Redis::start() else { return };
    let behind = UpstreamConfig { mode: Mode::Behind, ..redis.config() };
    let node = Node::of(node_of(2, behind));
    let mut conn = open(&node);
    let mut sleeper = redis.open();
    sleeper.send(&encode(&["DEBUG", "SLEEP", "0.5"]));
    let commands: Vec<u8> = (0..3_000).flat_map(|n| encode(&["SET", &format!("k{n}"), "v"])).collect();
    conn.send(&commands);
    for _ in 0..3_000 {
        assert_eq!(conn.read().unwrap(), Value::ok());
    }
    assert!(info(&mut conn, "upstream_queue_keys") > 0, "they wait");
    node.drain();
    assert_eq!(redis.open().say("DBSIZE"), Value::Int(3_000));
}

#[test]
fn a_queue_that_is_full_is_an_error_of_the_write() {
    let Some(redis) = Redis::start() else { return };
    let behind = UpstreamConfig { mode: Mode::Behind, queue_keys_max: 10, ..redis.config() };
    let node = Node::of(node_of(1, behind));
    let mut conn = open(&node);
    redis.open().send(&encode(&["DEBUG", "SLEEP", "0.5"]));
    let said: Vec<Value> = (0..200).map(|n| conn.say(&format!("SET k{n} v"))).collect();
    assert!(said.iter().any(is_upstream_error) && said.contains(&Value::ok()));
    until("the queue is empty", || info(&mut conn, "upstream_queue_keys") == 0);
    for (n, said) in said.iter().enumerate() {
        let is_there = redis.open().say(&format!("EXISTS k{n}")) == Value::Int(1);
        assert_eq!(is_there, !is_upstream_error(said), "k{n}");
    }
}

#[test]
fn handlers_and_http_clients_read_and_write_through_too() {
    let Some(mut redis) = Redis::start() else { return };
    let mut there = redis.open();
    let keys = Cache::new(CacheConfig::default());
    // Nobody listens for Redis clients.
    let node = server().shards(2).cache(keys.clone()).upstream(redis.config());
    let of_app = keys.clone();
    let node = Node::serving(node, move || corelane::services::cache::http::routes(App::new(()), &of_app));
    let mut client = Client::connect(node.addr);
    for n in 0..8 {
        there.say(&format!("SET k{n} theirs PX 600000"));
        let answer = client.get(&format!("/cache/k{n}"));
        assert_eq!((answer.status, answer.text()), (200, "theirs"));
        assert!(answer.field("cache-ttl").is_some());
        client.send(format!("PUT /cache/k{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nours"));
        assert_eq!(client.answer().status, 204, "it was there");
        assert_eq!(there.say(&format!("GET k{n}")), Value::bulk("ours"));
        assert_eq!(there.say(&format!("TTL k{n}")), Value::Int(-1));
        client.send(format!("DELETE /cache/k{n} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(client.answer().status, 204);
        assert_eq!(there.say(&format!("EXISTS k{n}")), Value::Int(0));
        assert_eq!(client.get(&format!("/cache/k{n}")).status, 404);
    }
    there.say("MSET n 41 n2 1 x v");
    let of_task = keys.clone();
    on(&node, move || async move {
        assert_eq!(of_task.increment("n", 1).await, Ok(42));
        assert_eq!(of_task.run(&["INCRBY", "n2", "5"]).await, Ok(cache::Value::Int(6)));
        let absent = SetOptions::new().only_if(Condition::Absent);
        assert_eq!(of_task.set("x", "w", absent).await, Ok(SetOutcome::Unmet));
        assert_eq!(of_task.set("y", "w", absent).await, Ok(SetOutcome::Created));
        assert_eq!(of_task.delete("x").await, Ok(true));
    });
    let wanted = vec![Value::bulk("42"), Value::bulk("6"), Value::NullBulk, Value::bulk("w")];
    assert_eq!(there.say("MGET n n2 x y"), Value::Array(wanted));
    redis.stop();
    on(&node, move || async move {
        while keys.increment("n", 1).await.is_ok() {}
        assert!(matches!(keys.increment("other", 1).await, Err(CacheError::Upstream(_))));
        assert!(matches!(keys.set("z", "v", SetOptions::new()).await, Err(CacheError::Upstream(_))));
        assert_eq!(keys.get("z").await, Ok(None));
        assert_eq!(keys.get("y").await, Ok(Some("w".into())), "what is here is served");
    });
    client.send("PUT /cache/z HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nv");
    assert_eq!(client.answer().status, 503);
}

#[test]
fn with_read_nothing_is_written_there() {
    let Some(redis) = Redis::start() else { return };
    let node = Node::of(node_of(2, UpstreamConfig { mode: Mode::Read, ..redis.config() }));
    let (mut conn, mut there) = (open(&node), redis.open());
    there.say("SET n 1");
    assert_eq!(conn.say("INCR n"), Value::Int(2));
    assert_eq!(conn.say("SET own v"), Value::ok());
    assert_eq!((conn.say("GET n"), conn.say("GET own")), (Value::bulk("2"), Value::bulk("v")));
    assert_eq!((there.say("GET n"), there.say("EXISTS own")), (Value::bulk("1"), Value::Int(0)));
}

#[test]
fn what_many_add_at_the_same_time_is_all_there_though_keys_go_for_memory() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 40;
    for mode in [Mode::Through, Mode::Behind] {
        let Some(redis) = Redis::start() else { return };
        let config = CacheConfig { memory_max: 64 << 10, ..CacheConfig::default() };
        let node = Node::of(node_of(2, UpstreamConfig { mode, ..redis.config() }).cache(config));
        redis.open().say("MSET n:0 1000 n:1 1000 n:2 1000 n:3 1000");
        let mut clients: Vec<Conn> = (0..CLIENTS).map(|_| open(&node)).collect();
        for round in 0..ROUNDS {
            for (at, client) in clients.iter_mut().enumerate() {
                // Each pipeline pushes the numbers out of the memory, too.
                let (number, pad) = (format!("n:{}", (at + round) % 4), "x".repeat(2_000));
                let other = format!("pad:{at}:{}", round % 8);
                let words: [&[&str]; 3] =
                    [&["INCR", &number], &["SET", &other, &pad], &["INCRBY", &number, "9"]];
                client.send(&words.iter().flat_map(|words| encode(words)).collect::<Vec<u8>>());
            }
            for client in &mut clients {
                for _ in 0..3 {
                    let said = client.read().unwrap();
                    assert!(!said.is_error(), "{said:?}");
                }
            }
        }
        node.drain();
        let mut there = redis.open();
        let sum: i64 = (0..4)
            .map(|n| match there.say(&format!("GET n:{n}")) {
                Value::Bulk(text) => String::from_utf8(text).unwrap().parse::<i64>().unwrap() - 1_000,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(sum, 10 * (CLIENTS * ROUNDS) as i64, "{mode:?}");
    }
}

// ---- side by side

/// Random numbers that repeat (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }
}

/// A command on strings. Expiries are far, so that no clock decides.
fn command(random: &mut Random, keys: u64, pads: usize) -> Vec<String> {
    let mut key = || format!("key:{}", random.below(keys));
    let (a, b, c) = (key(), key(), key());
    let number = random.below(100).to_string();
    let text = format!("{number}{}", "x".repeat(pads));
    let words: &[&str] = match random.below(26) {
        0..5 => &["GET", &a],
        5..8 => &["SET", &a, &text],
        8 => &["SET", &a, &number],
        9 => &["APPEND", &a, &number],
        10 => &["INCRBY", &a, &number],
        11 => &["DEL", &a, &b],
        12 => &["MGET", &a, &b, &c],
        13 => &["MSET", &a, &text, &b, &number],
        14 => &["SETNX", &a, &text],
        15 => &["GETDEL", &a],
        16 => &["STRLEN", &a],
        17 => &["SETRANGE", &a, "3", &number],
        18 => &["EXISTS", &a, &b, &c],
        19 => &["SET", &a, &text, "GET", "EX", "100000"],
        20 => &["PERSIST", &a],
        21 => &["GETRANGE", &a, "1", "5"],
        22 => &["SETBIT", &a, "7", "1"],
        23 => &["GETSET", &a, &text],
        24 => &["SET", &a, &text, "XX", "KEEPTTL"],
        _ => &["EXPIRE", &a, "100000"],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The same with several keys as one, which may be on several shards.
fn transaction(random: &mut Random, keys: u64) -> Vec<Vec<String>> {
    let mut key = || format!("key:{}", random.below(keys));
    let (a, b) = (key(), key());
    let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    match random.below(4) {
        0 => vec![words(&["RENAME", &a, &b])],
        1 => vec![words(&["COPY", &a, &b, "REPLACE"])],
        2 => vec![words(&["MSETNX", &a, "1", &b, "2"])],
        _ => {
            let mut all = vec![words(&["MULTI"])];
            all.extend((0..3).map(|_| command(random, keys, 0)));
            all.push(words(&["EXEC"]));
            all
        }
    }
}

/// Random pipelines have the replies that they have without a cache, and leave the same there.
fn side_by_side(shards: u16, mode: Mode, memory_max: u64, pads: usize, transactions: bool) {
    const KEYS: u64 = 60;
    let (Some(behind), Some(alone)) = (Redis::start(), Redis::start()) else { return };
    let upstream = UpstreamConfig { mode, ..behind.config() };
    let config = CacheConfig { memory_max, ..CacheConfig::default() };
    let node = Node::of(node_of(shards, upstream).cache(config));
    let (mut ours, mut theirs) = (open(&node), alone.open());
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(shards));
    for round in 0..150 {
        let mut commands = Vec::new();
        for _ in 0..=random.below(40) {
            match random.below(8) {
                0 if transactions => commands.extend(transaction(&mut random, KEYS)),
                _ => commands.push(command(&mut random, KEYS, pads)),
            }
        }
        let bytes: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
        assert!(ours.send(&bytes) && theirs.send(&bytes));
        for words in &commands {
            let (said, wanted) = (ours.read().unwrap(), theirs.read().unwrap());
            assert_eq!(said, wanted, "round {round}: {words:?} of {commands:?}");
        }
    }
    if memory_max > 0 {
        let (Value::Bulk(text) | Value::Verbatim(text)) = ours.say("INFO stats") else { panic!("text") };
        let text = String::from_utf8(text).unwrap();
        let evicted = text.lines().find_map(|line| line.strip_prefix("evicted_keys:")).unwrap();
        assert!(evicted.parse::<u64>().unwrap() > 100, "memory is short: {evicted}");
    }
    node.drain();
    let (mut left, mut wanted) = (behind.open(), alone.open());
    assert_eq!(left.say("DBSIZE"), wanted.say("DBSIZE"));
    for n in 0..KEYS {
        let line = format!("GET key:{n}");
        assert_eq!(left.say(&line), wanted.say(&line), "{line}");
        let line = format!("TTL key:{n}");
        let (Value::Int(left), Value::Int(wanted)) = (left.say(&line), wanted.say(&line)) else {
            panic!("numbers")
        };
        assert!((left - wanted).abs() <= 100, "{line}: {left} {wanted}");
    }
}

#[test]
fn one_shard_with_writes_through_says_what_the_server_alone_says() {
    side_by_side(1, Mode::Through, 0, 0, true);
}

#[test]
fn two_shards_with_writes_through_say_what_the_server_alone_says() {
    side_by_side(2, Mode::Through, 0, 0, true);
}

#[test]
fn two_shards_with_writes_behind_say_what_the_server_alone_says() {
    side_by_side(2, Mode::Behind, 0, 0, true);
}

#[test]
fn short_of_memory_keys_go_and_come_back() {
    for mode in [Mode::Through, Mode::Behind] {
        side_by_side(2, mode, 64 << 10, 2_000, false);
    }
}
