//! One shard, whose time is the test's. Several shards: `tests/cache_access.rs`.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::App;
use crate::services::cache::CacheError;
use crate::services::cache::store::{Config, Eviction};
use crate::testing::TestServer;

/// Runs `work` on a shard with a cache of its own.
fn with<F, Fut>(config: Config, work: F) -> Fut::Output
where
    F: FnOnce(Cache) -> Fut,
    Fut: Future + 'static,
    Fut::Output: 'static,
{
    let cache = Cache::new(config);
    TestServer::new(|_| App::new(())).run(work(cache))
}

fn plain() -> SetOptions {
    SetOptions::new()
}

fn reply(text: &str) -> CacheError {
    CacheError::Reply(text.to_owned())
}

#[test]
fn a_string_is_set_under_its_condition_and_read_as_it_was_set() {
    with(Config::default(), |cache| async move {
        assert_eq!(cache.get("k").await, Ok(None));
        let only = |condition| plain().only_if(condition);
        assert_eq!(cache.set("k", "1", only(Condition::Present)).await, Ok(SetOutcome::Unmet));
        assert_eq!(cache.set("k", "1", only(Condition::Absent)).await, Ok(SetOutcome::Created));
        assert_eq!(cache.set("k", "2", only(Condition::Absent)).await, Ok(SetOutcome::Unmet));
        let one = cache.entry("k").await.unwrap().unwrap();
        assert_eq!((&one.value[..], one.ttl, one.tag), (&b"1"[..], Ttl::Never, cache.tag(b"1")));
        assert_eq!(cache.set("k", "two", only(Condition::Matches(one.tag))).await, Ok(SetOutcome::Replaced));
        assert_eq!(cache.set("k", "three", only(Condition::Matches(one.tag))).await, Ok(SetOutcome::Unmet));
        assert_eq!(cache.get("k").await, Ok(Some(Bytes::from_static(b"two"))));
        assert_eq!(cache.set("k", "", plain()).await, Ok(SetOutcome::Replaced));
        assert_eq!(cache.get("k").await, Ok(Some(Bytes::new())));
        assert_eq!(cache.delete("k").await, Ok(true));
        assert_eq!(cache.delete("k").await, Ok(false));
    });
}

#[test]
fn a_large_string_is_shared_and_stays_as_it_was_for_who_has_it() {
    with(Config::default(), |cache| async move {
        let large = Bytes::from(vec![b'x'; 20 << 10]);
        cache.set("k", large.clone(), plain()).await.unwrap();
        let got = cache.get("k").await.unwrap().unwrap();
        assert_eq!(got.as_ptr(), large.as_ptr(), "it is the same, not a copy");
        let Ok(Value::Bytes(run)) = cache.run(&["GET", "k"]).await else { panic!("no string") };
        assert_eq!(run.as_ptr(), large.as_ptr());
        cache.run(&["SETRANGE", "k", "0", "y"]).await.unwrap();
        assert_eq!(got[0], b'x');
        assert_eq!(cache.get("k").await.unwrap().unwrap()[0], b'y');
    });
}

#[test]
fn keys_go_when_their_time_is_over_and_not_before() {
    let cache = Cache::new(Config::default());
    let server = TestServer::new(|_| App::new(()));
    let of = cache.clone();
    server.run(async move {
        of.set("k", "v", plain().ttl(Duration::from_millis(1_500))).await.unwrap();
        assert_eq!(of.ttl("k").await, Ok(Some(Ttl::Left(Duration::from_millis(1_500)))));
        of.set("k", "w", plain().keep_ttl()).await.unwrap();
        assert_eq!(of.increment("n", 5).await, Ok(5));
        assert_eq!(of.expire("n", Duration::from_secs(60)).await, Ok(true));
        assert_eq!(of.persist("n").await, Ok(true));
        assert_eq!(of.persist("n").await, Ok(false));
        assert_eq!(of.expire("none", Duration::from_secs(60)).await, Ok(false));
        assert_eq!(of.ttl("none").await, Ok(None));
        // Less than the least is the least.
        of.set("short", "v", plain().ttl(Duration::ZERO)).await.unwrap();
        assert_eq!(of.ttl("short").await, Ok(Some(Ttl::Left(Duration::from_millis(1)))));
        // More than there is is all there is.
        of.set("long", "v", plain().ttl(Duration::MAX)).await.unwrap();
        assert!(matches!(of.run(&["PEXPIRETIME", "long"]).await, Ok(Value::Int(i64::MAX))));
    });
    server.advance(Duration::from_millis(1_400));
    let of = cache.clone();
    server.run(async move { assert_eq!(of.get("k").await, Ok(Some(Bytes::from_static(b"w")))) });
    server.advance(Duration::from_millis(1_700));
    let of = cache.clone();
    let (keys, found) = server.run(async move {
        // Counted before anybody asks for the key: nobody has to.
        let keys = of.here(&current()).store.borrow().len();
        (keys, of.get("k").await.unwrap())
    });
    assert_eq!((keys, found), (2, None), "n and long are left");
    server.run(async move { assert_eq!(cache.ttl("n").await, Ok(Some(Ttl::Never))) });
}

#[test]
fn numbers_are_added_to_and_other_strings_refused() {
    with(Config::default(), |cache| async move {
        assert_eq!(cache.increment("n", 40).await, Ok(40));
        assert_eq!(cache.increment("n", -50).await, Ok(-10));
        cache.set("n", i64::MAX.to_string(), plain()).await.unwrap();
        let overflow = reply("ERR increment or decrement would overflow");
        assert_eq!(cache.increment("n", 1).await, Err(overflow));
        cache.set("n", "ten", plain()).await.unwrap();
        let no_number = reply("ERR value is not an integer or out of range");
        assert_eq!(cache.increment("n", 1).await, Err(no_number.clone()));
        assert_eq!(cache.run(&["INCR", "n"]).await, Err(no_number));
    });
}

#[test]
fn a_key_of_another_kind_is_an_error_to_read_and_no_bar_to_set() {
    with(Config::default(), |cache| async move {
        assert_eq!(cache.run(&["RPUSH", "k", "a"]).await, Ok(Value::Int(1)));
        let wrong = CacheError::Store(StoreError::WrongType);
        assert_eq!(cache.get("k").await, Err(wrong.clone()));
        assert_eq!(cache.entry("k").await, Err(wrong.clone()));
        assert_eq!(cache.increment("k", 1).await, Err(wrong));
        let matches = plain().only_if(Condition::Matches(cache.tag(b"a")));
        assert_eq!(cache.set("k", "v", matches).await, Ok(SetOutcome::Unmet));
        assert_eq!(cache.set("k", "v", plain().only_if(Condition::Present)).await, Ok(SetOutcome::Replaced));
        assert_eq!(cache.get("k").await, Ok(Some(Bytes::from_static(b"v"))));
    });
}

#[test]
fn without_room_nothing_is_added() {
    let config = Config { memory_max: 4 << 10, eviction: Eviction::NoEviction };
    with(config, |cache| async move {
        let full = CacheError::Store(StoreError::OutOfMemory);
        assert_eq!(cache.set("giant", vec![0; 8 << 10], plain()).await, Err(full.clone()));
        while cache.increment(format!("n{}", cache.here(&current()).number()), 1).await.is_ok() {}
        assert_eq!(cache.set("k", "v", plain()).await, Err(full.clone()));
        assert_eq!(cache.increment("k", 1).await, Err(full));
        assert!(
            matches!(cache.run(&["SET", "k", "v"]).await, Err(CacheError::Reply(text)) if text.starts_with("OOM "))
        );
        assert_eq!(cache.get("k").await, Ok(None));
    });
}

#[test]
fn commands_give_values_and_wrong_ones_the_words_of_redis() {
    with(Config::default(), |cache| async move {
        let text = |text: &'static str| Value::Text(Bytes::from_static(text.as_bytes()));
        let bytes = |text: &'static str| Value::Bytes(Bytes::from_static(text.as_bytes()));
        assert_eq!(cache.run(&["SET", "k", "v"]).await, Ok(text("OK")));
        assert_eq!(cache.run(&["MGET", "k", "none"]).await, Ok(Value::Array(vec![bytes("v"), Value::Null])));
        assert_eq!(cache.run(&["ZADD", "z", "1.5", "m"]).await, Ok(Value::Int(1)));
        assert_eq!(cache.run(&["ZSCORE", "z", "m"]).await, Ok(Value::Double(1.5)));
        assert_eq!(cache.run(&["HSET", "h", "f", "v"]).await, Ok(Value::Int(1)));
        assert_eq!(cache.run(&["HGETALL", "h"]).await, Ok(Value::Map(vec![(bytes("f"), bytes("v"))])));
        assert_eq!(cache.run(&["DBSIZE"]).await, Ok(Value::Int(3)));
        assert_eq!(cache.run(&["SCAN", "0", "MATCH", "?", "TYPE", "hash"]).await, {
            Ok(Value::Array(vec![bytes("0"), Value::Array(vec![bytes("h")])]))
        });
        assert!(matches!(cache.run(&["RANDOMKEY"]).await, Ok(Value::Bytes(key)) if key.len() == 1));
        // Nothing is there, and nobody waits.
        assert_eq!(cache.run(&["BLPOP", "none", "0"]).await, Ok(Value::Null));
        for (words, said) in [
            (&["NOTHING"][..], "ERR unknown command 'NOTHING', with args beginning with: "),
            (&["GET"], "ERR wrong number of arguments for 'get' command"),
            (
                &["AUTH", "secret"],
                "ERR 'auth' is about a connection or the node: only commands on keys are run here",
            ),
            (&[], "ERR a command needs a name"),
            (&["SCAN", "x"], "ERR invalid cursor"),
            (&["LPUSH", "k", "v"], "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ] {
            assert_eq!(cache.run(words).await, Err(reply(said)), "{words:?}");
        }
    });
}

/// Has a transaction hold `k`.
fn hold(cache: &Cache, ticket: u64) {
    let here = cache.here(&current());
    here.locks.borrow_mut().ask(ticket, vec![b"k".as_slice().into()]);
}

#[test]
fn a_key_that_a_transaction_holds_is_waited_for_and_not_for_ever() {
    with(Config::default(), |cache| async move {
        let done = Rc::new(Cell::new(0));
        hold(&cache, 7);
        let start = |words: &'static [&'static str]| {
            let (cache, done) = (cache.clone(), Rc::clone(&done));
            let work = async move {
                match words {
                    [] => assert_eq!(cache.set("k", "v", plain()).await, Ok(SetOutcome::Created)),
                    words => assert_eq!(cache.run(words).await, Ok(Value::Int(1))),
                }
                done.set(done.get() + 1);
            };
            corelane_exec::spawn(work).unwrap()
        };
        let first = start(&[]);
        let second = start(&["STRLEN", "k"]);
        corelane_exec::sleep(Duration::from_secs(1)).await;
        assert_eq!(done.get(), 0);
        assert_eq!(cache.set("other", "v", plain()).await, Ok(SetOutcome::Created));
        cache.here(&current()).release(7);
        first.await.unwrap();
        second.await.unwrap();
        assert_eq!(done.get(), 2);

        hold(&cache, 8);
        assert_eq!(cache.get("k").await, Err(CacheError::Busy), "after half of call_time");
        assert!(matches!(cache.run(&["GET", "k"]).await, Err(CacheError::Call(_))));
        cache.here(&current()).release(8);
        assert_eq!(cache.get("k").await, Ok(Some(Bytes::from_static(b"v"))));
    });
}
