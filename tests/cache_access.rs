//! The cache as handlers have it, on several shards: every key is reached from every shard, by handlers and by Redis
//! clients, and commands over several shards are what they are for such clients.
//!
//! Not here: one shard, step by step (`src/services/cache/access/tests.rs`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
mod resp;

use std::collections::BTreeSet;
use std::future::Future;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Client, Node, PATIENCE};
use corelane::cache::{Condition, SetOptions, SetOutcome, Ttl, Value};
use corelane::{App, Cache, CacheConfig, Listen, Shard, spawn};
use crossbeam_channel::bounded;
use resp::{Conn, Value as Said};

const SHARDS: u16 = 3;
const KEYS: usize = 60;

/// A node whose cache Redis clients reach, too.
fn node() -> (Node, Cache, Conn) {
    let cache = Cache::new(CacheConfig::default());
    let any = Listen::Tcp(([127, 0, 0, 1], 0).into());
    let server = common::server().shards(SHARDS).resp(any).cache(cache.clone());
    let node = Node::serving(server, || App::new(()));
    let addr = node.running().resp_listens()[0].tcp().unwrap();
    (node, cache, Conn::open(addr))
}

/// Runs a future as a task of this shard, and gives what it gave.
#[track_caller]
fn on<T, F, Fut>(node: &Node, shard: u16, make: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let (done, result) = bounded(1);
    let start = move |_: &Shard| spawn(async move { drop(done.send(make().await)) }).unwrap().detach();
    node.running().shards()[usize::from(shard)].send(start).unwrap();
    result.recv_timeout(PATIENCE).expect("the task came to its end")
}

fn keys() -> Vec<String> {
    (0..KEYS).map(|n| format!("key {n}")).collect()
}

fn bytes(text: &str) -> Value {
    Value::Bytes(text.to_owned().into())
}

#[test]
fn what_one_shard_sets_every_shard_and_every_client_reads() {
    let (node, cache, mut client) = node();
    let of = cache.clone();
    on(&node, 0, move || async move {
        for key in keys() {
            let options = SetOptions::new().ttl(Duration::from_secs(100)).only_if(Condition::Absent);
            assert_eq!(of.set(&key, format!("value of {key}"), options).await, Ok(SetOutcome::Created));
        }
    });
    for shard in 0..SHARDS {
        let of = cache.clone();
        on(&node, shard, move || async move {
            for key in keys() {
                let found = of.entry(&key).await.unwrap().unwrap();
                assert_eq!(found.value, format!("value of {key}"));
                assert!(matches!(found.ttl, Ttl::Left(left) if left > Duration::from_secs(90)), "{found:?}");
                of.increment("seen", 1).await.unwrap();
            }
        });
    }
    assert_eq!(
        client.ask(&["GET", "seen"]),
        Said::Bulk((KEYS * usize::from(SHARDS)).to_string().into_bytes())
    );
    assert_eq!(client.ask(&["GET", "key 7"]), Said::Bulk(b"value of key 7".to_vec()));
    client.ask(&["SET", "key 7", "by a client"]);
    let stays = on(&node, 2, move || async move {
        assert_eq!(cache.get("key 7").await.unwrap().unwrap(), "by a client");
        assert_eq!(cache.delete("key 8").await, Ok(true));
        cache.ttl("key 7").await.unwrap()
    });
    assert_eq!(stays, Some(Ttl::Never));
    assert_eq!(client.ask(&["EXISTS", "key 8"]), Said::Int(0));
}

#[test]
fn commands_over_several_shards_are_split_gathered_or_made_one() {
    let (node, cache, _client) = node();
    on(&node, 1, move || async move {
        let mut set = vec!["MSET".to_owned()];
        keys().into_iter().for_each(|key| set.extend([key.clone(), key]));
        assert!(matches!(cache.run(&set).await, Ok(Value::Text(ok)) if ok == "OK"));
        let get: Vec<String> = ["MGET".to_owned()].into_iter().chain(keys()).collect();
        let wanted: Vec<Value> = keys().iter().map(|key| bytes(key)).collect();
        assert_eq!(cache.run(&get).await, Ok(Value::Array(wanted)), "in the order of the keys");
        assert_eq!(cache.run(&["DBSIZE"]).await, Ok(Value::Int(KEYS as i64)));
        let Ok(Value::Array(found)) = cache.run(&["KEYS", "key 1*"]).await else { panic!("no array") };
        assert_eq!(found.len(), 11);
        for key in keys() {
            assert_eq!(cache.run(&["SADD", &format!("set {key}"), "common", &key]).await, Ok(Value::Int(2)));
        }
        let all: Vec<String> = keys().iter().map(|key| format!("set {key}")).collect();
        let inter: Vec<&str> = ["SINTER"].into_iter().chain(all.iter().map(String::as_str)).collect();
        assert_eq!(cache.run(&inter).await, Ok(Value::Set(vec![bytes("common")])));
        assert!(cache.run(&["RENAME", "key 1", "key 2"]).await.is_ok());
        assert_eq!(cache.get("key 2").await.unwrap().unwrap(), "key 1");
        let (mut cursor, mut seen) = ("0".to_owned(), BTreeSet::new());
        loop {
            let Ok(Value::Array(part)) = cache.run(&["SCAN", &cursor, "TYPE", "set"]).await else {
                panic!("no array")
            };
            let (Value::Bytes(next), Value::Array(found)) = (&part[0], &part[1]) else { panic!("{part:?}") };
            seen.extend(found.iter().map(|key| key.as_bytes().unwrap().to_vec()));
            cursor = String::from_utf8(next.to_vec()).unwrap();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), KEYS);
        assert!(cache.run(&["FLUSHALL"]).await.is_ok());
        assert_eq!(cache.run(&["RANDOMKEY"]).await, Ok(Value::Null));
        assert_eq!(cache.run(&["DBSIZE"]).await, Ok(Value::Int(0)));
    });
}

#[test]
fn of_all_who_set_a_key_under_a_condition_one_succeeds() {
    let (node, cache, _client) = node();
    let node = &node;
    for key in keys() {
        let won: usize = thread::scope(|scope| {
            let all: Vec<_> = (0..SHARDS)
                .map(|shard| {
                    let (cache, key) = (cache.clone(), key.clone());
                    scope.spawn(move || {
                        on(node, shard, move || async move {
                            let options = SetOptions::new().only_if(Condition::Absent);
                            cache.set(&key, shard.to_string(), options).await.unwrap()
                        })
                    })
                })
                .collect();
            all.into_iter().map(|one| usize::from(one.join().unwrap() == SetOutcome::Created)).sum()
        });
        assert_eq!(won, 1, "{key}");
    }
}

#[test]
fn a_push_of_a_handler_serves_the_client_that_waits() {
    let (node, cache, mut client) = node();
    for key in keys() {
        client.send(&resp::encode(&["BLPOP", &key, "20"]));
        let of = cache.clone();
        let pushed = key.clone();
        on(&node, 1, move || async move { of.run(&["RPUSH", &pushed, "element"]).await.unwrap() });
        let wanted = vec![Said::Bulk(key.clone().into_bytes()), Said::Bulk(b"element".to_vec())];
        assert_eq!(client.read(), Ok(Said::Array(wanted)), "{key}");
    }
    let of = cache.clone();
    assert_eq!(on(&node, 0, move || async move { of.run(&["DBSIZE"]).await }), Ok(Value::Int(0)));
}

/// Says so when it goes, also by a panic: another thread goes on until then.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_handler_waits_for_a_transaction_over_several_shards_and_sees_all_of_it() {
    const SETS: [&str; 4] = ["a", "b", "c", "d"];
    let (node, cache, mut client) = node();
    for key in SETS {
        client.ask(&["SADD", key, "first"]);
    }
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for value in ["one", "another"].into_iter().cycle() {
                client.ask(&["MULTI"]);
                for key in SETS {
                    client.ask(&["DEL", key]);
                    client.ask(&["SADD", key, value]);
                }
                assert!(!client.ask(&["EXEC"]).is_error());
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let _stop = Stop(&stopped);
        for shard in 0..SHARDS {
            let cache = cache.clone();
            on(&node, shard, move || async move {
                for _ in 0..100 {
                    // What all have in common: nothing, were only some of them changed.
                    let all = cache.run(&["SINTER", "a", "b", "c", "d"]).await;
                    assert!(matches!(&all, Ok(Value::Set(all)) if all.len() == 1), "{all:?}");
                    // Never seen between its removal and its making.
                    assert_eq!(cache.run(&["SCARD", "a"]).await, Ok(Value::Int(1)));
                }
            });
        }
    });
}

/// What `curl` says to this: the status, and all it printed.
fn curl(node: &Node, words: &[&str], path: &str) -> Option<(String, String)> {
    let url = format!("http://{}{path}", node.addr);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20", "--include"]).args(words).arg(&url);
    let output = match curl.output() {
        Ok(output) => output,
        Err(_) => {
            assert!(std::env::var("CI").is_err(), "curl is missing: scripts/test installs it");
            eprintln!("skipped: needs curl");
            return None;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = said.split(' ').nth(1).unwrap_or_default().to_owned();
    assert!(output.status.success(), "{words:?} {path}: {}", String::from_utf8_lossy(&output.stderr));
    Some((status, said))
}

#[test]
fn curl_puts_gets_and_deletes_keys_of_every_shard() {
    let cache = Cache::new(CacheConfig::default());
    let of = cache.clone();
    let node = Node::serving(common::server().shards(SHARDS).cache(cache), move || {
        corelane::services::cache::http::routes(App::new(()), &of)
    });
    for n in 0..12 {
        let path = format!("/cache/a%2F{n}");
        let put = ["--upload-file", "Cargo.toml"];
        let Some((status, said)) = curl(&node, &put, &format!("{path}?ttl=60")) else { return };
        assert!(status == "201" || said.contains("HTTP/1.1 201 "), "{said}");
        let (status, said) = curl(&node, &[], &path).unwrap();
        assert_eq!(status, "200");
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, std::fs::read_to_string("Cargo.toml").unwrap());
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let left: u64 = field("cache-ttl").unwrap().parse().unwrap();
        assert!((40..=60).contains(&left), "{left}");
        let unchanged = format!("If-None-Match: {}", field("etag").unwrap());
        assert_eq!(curl(&node, &["--header", &unchanged], &path).unwrap().0, "304");
        let only_new = ["--upload-file", "Cargo.toml", "--header", "If-None-Match: *"];
        assert!(curl(&node, &only_new, &path).unwrap().1.contains("HTTP/1.1 412 "));
        assert_eq!(curl(&node, &["--head"], &path).unwrap().0, "200");
        assert_eq!(curl(&node, &["--request", "DELETE"], &path).unwrap().0, "204");
        assert_eq!(curl(&node, &[], &path).unwrap().0, "404");
    }
}

#[test]
fn of_all_who_put_a_key_that_must_not_be_there_one_succeeds() {
    let cache = Cache::new(CacheConfig::default());
    let of = cache.clone();
    let node = Node::serving(common::server().shards(SHARDS).cache(cache), move || {
        corelane::services::cache::http::routes(App::new(()), &of)
    });
    let put = |key: usize| {
        let line =
            format!("PUT /cache/{key} HTTP/1.1\r\nhost: t\r\nif-none-match: *\r\ncontent-length: 1\r\n\r\nv");
        let mut client = Client::connect(node.addr);
        client.send(line);
        client.answer().status
    };
    for key in 0..KEYS {
        let mut all: Vec<u16> = thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| put(key))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        all.sort_unstable();
        assert_eq!(all, [201, 412, 412, 412], "{key}");
    }
}
