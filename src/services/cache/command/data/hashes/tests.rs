//! Replies of the commands on hashes, byte by byte.

use super::*;
use crate::services::cache::command::run_one;
use crate::services::cache::store::{Config, KeyHasher, Now, Store};

fn store() -> Store {
    Store::new(Config::default(), KeyHasher::seeded(1), Now::default())
}

fn say(store: &mut Store, line: &str, version: Version) -> String {
    let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
    String::from_utf8_lossy(&run_one(store, &words, version)).replace("\r\n", " ").trim_end().to_owned()
}

#[track_caller]
fn all(lines: &[(&str, &str)], version: Version) {
    let mut store = store();
    for (line, wanted) in lines {
        assert_eq!(say(&mut store, line, version), *wanted, "{line}");
    }
}

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn fields_are_set_read_and_removed() {
    all(
        &[
            ("hset h a 1 b 2", ":2"),
            ("hset h a 3 c 4", ":1"),
            ("hmset h a 1", "+OK"),
            ("hsetnx h a 9", ":0"),
            ("hsetnx h d 9", ":1"),
            ("hget h a", "$1 1"),
            ("hget h x", "$-1"),
            ("hget none x", "$-1"),
            ("hmget h a x c", "*3 $1 1 $-1 $1 4"),
            ("hmget none x", "*1 $-1"),
            ("hgetall h", "*8 $1 a $1 1 $1 b $1 2 $1 c $1 4 $1 d $1 9"),
            ("hgetall none", "*0"),
            ("hkeys h", "*4 $1 a $1 b $1 c $1 d"),
            ("hvals h", "*4 $1 1 $1 2 $1 4 $1 9"),
            ("hlen h", ":4"),
            ("hlen none", ":0"),
            ("hexists h a", ":1"),
            ("hexists h x", ":0"),
            ("hstrlen h a", ":1"),
            ("hstrlen none a", ":0"),
            ("hdel h a x b", ":2"),
            ("hdel h c d", ":2"),
            ("exists h", ":0"),
            ("hdel h a", ":0"),
            ("hset h a", "-ERR wrong number of arguments for 'hset' command"),
            ("hset h a 1 b", "-ERR wrong number of arguments for 'hset' command"),
            ("hmset h a 1 b", "-ERR wrong number of arguments for 'hmset' command"),
        ],
        Version::Resp2,
    );
}

#[test]
fn resp3_has_maps_pairs_and_a_null_of_its_own() {
    all(
        &[
            ("hset h a 1", ":1"),
            ("hgetall h", "%1 $1 a $1 1"),
            ("hgetall none", "%0"),
            ("hget h x", "_"),
            ("hmget h x", "*1 _"),
            ("hrandfield none", "_"),
            ("hrandfield none 1", "*0"),
            ("hrandfield h 5 withvalues", "*1 *2 $1 a $1 1"),
            ("hrandfield h -2 withvalues", "*2 *2 $1 a $1 1 *2 $1 a $1 1"),
            ("hkeys h", "*1 $1 a"),
            ("hscan h 0", "*2 $1 0 *2 $1 a $1 1"),
        ],
        Version::Resp3,
    );
}

#[test]
fn numbers_in_fields_are_added_to() {
    all(
        &[
            ("hincrby h n 5", ":5"),
            ("hincrby h n -8", ":-3"),
            ("hget h n", "$2 -3"),
            ("hincrby h n x", "-ERR value is not an integer or out of range"),
            ("hset h n 9223372036854775807 t text", ":1"),
            ("hincrby h n 1", "-ERR increment or decrement would overflow"),
            ("hincrby h t 1", "-ERR hash value is not an integer"),
            ("hincrbyfloat h f 0.1", "$3 0.1"),
            ("hincrbyfloat h f 0.2", "$3 0.3"),
            ("hincrbyfloat h f 5.0e3", "$22 5000.29999999999999982"),
            ("hincrbyfloat h t 1", "-ERR hash value is not a float"),
            ("hincrbyfloat h f x", "-ERR value is not a valid float"),
            ("hincrbyfloat h f inf", "-ERR value is NaN or Infinity"),
            ("hset h f inf", ":0"),
            ("hincrbyfloat h f 1", "-ERR increment would produce NaN or Infinity"),
        ],
        Version::Resp2,
    );
}

#[test]
fn fields_at_random_are_as_many_as_asked_for() {
    all(
        &[
            ("hset h a 1", ":1"),
            ("hrandfield h", "$1 a"),
            ("hrandfield h 0", "*0"),
            ("hrandfield h 3", "*1 $1 a"),
            ("hrandfield h -3", "*3 $1 a $1 a $1 a"),
            ("hrandfield h 3 withvalues", "*2 $1 a $1 1"),
            ("hrandfield h -2 WITHVALUES", "*4 $1 a $1 1 $1 a $1 1"),
            ("hrandfield none", "$-1"),
            ("hrandfield none 5", "*0"),
            ("hrandfield h x", "-ERR value is not an integer or out of range"),
            ("hrandfield h 1 x", "-ERR syntax error"),
            ("hrandfield h 1 withvalues x", "-ERR syntax error"),
            ("hrandfield h 9223372036854775807 withvalues", "-ERR value is out of range"),
            (
                "hrandfield h -9223372036854775808",
                "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ),
            ("hrandfield h -1048577", "-ERR value is out of range"),
        ],
        Version::Resp2,
    );
}

#[test]
fn a_reply_of_repetitions_has_a_maximum() {
    let mut store = store();
    let value = vec![b'v'; 1 << 20];
    run_one(&mut store, &[b"hset", b"h", b"a", &value], Version::Resp2);
    assert_eq!(say(&mut store, "hrandfield h -65 withvalues", Version::Resp2), "-ERR value is out of range");
    let most = run_one(&mut store, &[b"hrandfield", b"h", b"-63", b"withvalues"], Version::Resp2);
    assert!(most.len() > 63 << 20);
    let named = [&[&b"hmget"[..], b"h"][..], &[&b"a"[..]; 16]].concat();
    assert!(
        run_one(&mut store, &named, Version::Resp2)
            .starts_with(b"-ERR the reply would be longer than 512 MiB")
    );
    let bare = run_one(&mut store, &[b"hrandfield", b"h", b"-1048576"], Version::Resp2);
    assert!(bare.starts_with(b"*1048576\r\n$1\r\na\r\n"));
}

#[test]
fn a_large_hash_is_scanned_in_pages_and_by_pattern() {
    let mut store = store();
    for n in 0..1000 {
        run_one(&mut store, &[b"hset", b"h", format!("f{n}").as_bytes(), b"v"], Version::Resp2);
    }
    let (mut cursor, mut fields, mut pages) = ("0".to_owned(), 0, 0);
    loop {
        let reply = say(&mut store, &format!("hscan h {cursor} count 100 match f*7"), Version::Resp2);
        let parts: Vec<&str> = reply.split(' ').collect();
        (cursor, pages) = (parts[2].to_owned(), pages + 1);
        fields += parts.iter().filter(|part| part.starts_with('f')).count();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!((pages, fields), (10, 100));
    for (line, wanted) in [
        ("hscan h x", "-ERR invalid cursor"),
        ("hscan none 0 nosuch", "*2 $1 0 *0"),
        ("hscan h 0 count 0", "-ERR syntax error"),
        ("hscan h 0 count x", "-ERR value is not an integer or out of range"),
        ("hscan h 0 match", "-ERR syntax error"),
    ] {
        assert_eq!(say(&mut store, line, Version::Resp2), wanted, "{line}");
    }
}

#[test]
fn a_key_of_another_kind_is_refused_by_every_command() {
    let mut store = store();
    assert_eq!(say(&mut store, "set s 1", Version::Resp2), "+OK");
    for spec in TABLE {
        let line = match spec.name {
            "hset" | "hmset" | "hsetnx" => format!("{} s a 1", spec.name),
            "hincrby" | "hincrbyfloat" => format!("{} s a 1", spec.name),
            "hget" | "hmget" | "hdel" | "hexists" | "hstrlen" => format!("{} s a", spec.name),
            "hscan" => "hscan s 0".to_owned(),
            name => format!("{name} s"),
        };
        assert_eq!(say(&mut store, &line, Version::Resp2), WRONG_TYPE, "{line}");
    }
}

#[test]
fn only_what_changes_a_hash_is_seen_by_who_watches_it() {
    let mut store = store();
    let key = store.hasher().clone();
    let key = key.key(b"h");
    say(&mut store, "hset h a 1 t text", Version::Resp2);
    store.watch(key);
    for (line, is_change) in [
        ("hget h a", false),
        ("hgetall h", false),
        ("hrandfield h 2", false),
        ("hsetnx h a 2", false),
        ("hdel h x", false),
        ("hincrby h t 1", false),
        ("hincrbyfloat h t 1", false),
        ("hset h a 1", true),
        ("hsetnx h b 2", true),
        ("hincrby h a 1", true),
        ("hincrbyfloat h a 1", true),
        ("hdel h a", true),
        ("hdel h b t", true),
    ] {
        let before = store.version(key);
        say(&mut store, line, Version::Resp2);
        assert_eq!(store.version(key) != before, is_change, "{line}");
    }
}
