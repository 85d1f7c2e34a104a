//! Replies of the commands on sets, byte by byte.

use std::collections::BTreeSet;

use corelane_proto_resp::Version;

use super::*;
use crate::services::cache::command::run_one;
use crate::services::cache::store::{Config, KeyHasher, Now};

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
fn members_are_put_in_looked_for_and_removed() {
    all(
        &[
            ("sadd s 3 1 2 1", ":3"),
            ("sadd s 1", ":0"),
            ("smembers s", "*3 $1 1 $1 2 $1 3"),
            ("object encoding s", "$6 intset"),
            ("sadd s a", ":1"),
            ("object encoding s", "$9 hashtable"),
            ("scard s", ":4"),
            ("scard none", ":0"),
            ("sismember s a", ":1"),
            ("sismember s x", ":0"),
            ("smismember s a x 1", "*3 :1 :0 :1"),
            ("smismember none a x", "*2 :0 :0"),
            ("srem s 1 2 x", ":2"),
            ("srem s 3 a", ":2"),
            ("exists s", ":0"),
            ("srem s a", ":0"),
            ("smembers s", "*0"),
            ("sadd s", "-ERR wrong number of arguments for 'sadd' command"),
        ],
        Version::Resp2,
    );
}

#[test]
fn resp3_has_sets_where_redis_7_0_has_them() {
    all(
        &[
            ("sadd s a", ":1"),
            ("smembers s", "~1 $1 a"),
            ("smembers none", "~0"),
            ("sinter s s", "~1 $1 a"),
            ("sinter s none", "~0"),
            ("sunion s none", "~1 $1 a"),
            ("sdiff s none", "~1 $1 a"),
            ("sdiff s s", "~0"),
            ("srandmember s", "$1 a"),
            ("srandmember s 2", "*1 $1 a"),
            ("srandmember none", "_"),
            ("srandmember none 1", "*0"),
            ("spop none", "_"),
            ("spop none 1", "~0"),
            ("spop s 0", "~0"),
            ("sscan s 0", "*2 $1 0 *1 $1 a"),
            ("spop s 5", "~1 $1 a"),
            ("exists s", ":0"),
        ],
        Version::Resp3,
    );
}

#[test]
fn sets_are_intersected_united_and_subtracted() {
    all(
        &[
            ("sadd a 1 2 3 x", ":4"),
            ("sadd b 2 3 y", ":3"),
            ("sadd c 3 4", ":2"),
            ("sinter a b", "*2 $1 2 $1 3"),
            ("sinter a b c", "*1 $1 3"),
            ("sinter a none", "*0"),
            ("sinter a", "*4 $1 1 $1 2 $1 3 $1 x"),
            ("sdiff a b", "*2 $1 1 $1 x"),
            ("sdiff none a", "*0"),
            ("sdiff a a", "*0"),
            ("sunion b c", "*4 $1 2 $1 3 $1 y $1 4"),
            ("sinterstore d a b", ":2"),
            ("object encoding d", "$6 intset"),
            ("sdiffstore d a c", ":3"),
            ("smembers d", "*3 $1 1 $1 2 $1 x"),
            ("sunionstore d a b c none", ":6"),
            ("sunionstore a a b", ":5"),
            ("scard a", ":5"),
            ("expire d 100", ":1"),
            ("sinterstore d a c", ":1"),
            ("ttl d", ":-1"),
            ("sinterstore d a none", ":0"),
            ("exists d", ":0"),
            ("set t 1", "+OK"),
            ("sinterstore t a c", ":1"),
            ("type t", "+set"),
            ("set t 1", "+OK"),
            ("sdiffstore t none", ":0"),
            ("exists t", ":0"),
            ("set t 1", "+OK"),
            ("sinter none t", WRONG_TYPE),
            ("sunion a t", WRONG_TYPE),
            ("sdiff none t", WRONG_TYPE),
            ("sunionstore d a t", WRONG_TYPE),
            ("exists d", ":0"),
        ],
        Version::Resp2,
    );
}

#[test]
fn members_in_common_are_counted_up_to_a_limit() {
    all(
        &[
            ("sadd a 1 2 3 4", ":4"),
            ("sadd b 2 3 4 5", ":4"),
            ("sintercard 2 a b", ":3"),
            ("sintercard 2 a b limit 2", ":2"),
            ("sintercard 2 a b LIMIT 0", ":3"),
            ("sintercard 2 a b limit 9", ":3"),
            ("sintercard 2 a none", ":0"),
            ("sintercard 0 a", "-ERR numkeys should be greater than 0"),
            ("sintercard x a", "-ERR numkeys should be greater than 0"),
            ("sintercard 3 a b", "-ERR Number of keys can't be greater than number of args"),
            ("sintercard 1 a b", "-ERR syntax error"),
            ("sintercard 1 a limit", "-ERR syntax error"),
            ("sintercard 1 a limit -1", "-ERR LIMIT can't be negative"),
        ],
        Version::Resp2,
    );
}

#[test]
fn a_member_is_moved_whole_or_not_at_all() {
    all(
        &[
            ("sadd a x y", ":2"),
            ("smove a b x", ":1"),
            ("smembers b", "*1 $1 x"),
            ("smove a b x", ":0"),
            ("smove none b x", ":0"),
            ("smove a a y", ":1"),
            ("smove a a x", ":0"),
            ("sadd b y", ":1"),
            ("smove a b y", ":1"),
            ("exists a", ":0"),
            ("scard b", ":2"),
            ("set t 1", "+OK"),
            ("smove b t x", WRONG_TYPE),
            ("smove t b x", WRONG_TYPE),
            ("smove none t x", ":0"),
            ("smove b t none", WRONG_TYPE),
            ("smembers b", "*2 $1 x $1 y"),
        ],
        Version::Resp2,
    );
}

#[test]
fn what_is_popped_is_gone_and_what_is_picked_stays() {
    for (count, name) in [(5, ""), (100, "m"), (400, ""), (3000, "member:")] {
        let (mut store, mut left) = (store(), BTreeSet::new());
        for n in 0..count {
            say(&mut store, &format!("sadd s {name}{n}"), Version::Resp2);
            left.insert(format!("{name}{n}"));
        }
        let picked = say(&mut store, "srandmember s 4", Version::Resp2);
        assert!(picked.starts_with("*4 "));
        assert!(picked.split(' ').skip(2).step_by(2).all(|member| left.contains(member)), "{picked}");
        let again = say(&mut store, "srandmember s -9", Version::Resp2);
        assert!(again.starts_with("*9 "));
        assert!(again.split(' ').skip(2).step_by(2).all(|member| left.contains(member)), "{again}");
        let popped = say(&mut store, "spop s 3", Version::Resp2);
        assert!(popped.split(' ').skip(2).step_by(2).all(|member| left.remove(member)), "{popped}");
        while !left.is_empty() {
            assert_eq!(say(&mut store, "scard s", Version::Resp2), format!(":{}", left.len()));
            let popped = say(&mut store, "spop s", Version::Resp2);
            assert!(left.remove(popped.split(' ').nth(1).unwrap_or_default()), "{popped}");
        }
        assert_eq!(say(&mut store, "exists s", Version::Resp2), ":0");
        assert_eq!(say(&mut store, "spop s", Version::Resp2), "$-1");
    }
    let mut store = store();
    (0..600).for_each(|n| assert_eq!(say(&mut store, &format!("sadd s {n}"), Version::Resp2), ":1"));
    assert_eq!(say(&mut store, "object encoding s", Version::Resp2), "$9 hashtable");
    assert!(say(&mut store, "spop s 500", Version::Resp2).starts_with("*500 "));
    assert_eq!(say(&mut store, "object encoding s", Version::Resp2), "$6 intset");
    assert_eq!(say(&mut store, "scard s", Version::Resp2), ":100");
    all(
        &[
            ("sadd s a", ":1"),
            ("spop s -1", "-ERR value is out of range, must be positive"),
            ("spop s x", "-ERR value is out of range, must be positive"),
            ("spop s 1 1", "-ERR syntax error"),
            ("srandmember s 1 1", "-ERR syntax error"),
            ("srandmember s x", "-ERR value is not an integer or out of range"),
            ("srandmember s -1048577", "-ERR value is out of range"),
            ("spop s 0", "*0"),
            ("spop s 2", "*1 $1 a"),
            ("spop s 2", "*0"),
        ],
        Version::Resp2,
    );
}

#[test]
fn every_member_is_popped_first_as_often_as_the_others() {
    let (mut times, rounds) = ([0_usize; 5], 2_000);
    for round in 0..rounds {
        let mut store = store();
        say(&mut store, "sadd s 0 1 2 3 4", Version::Resp2);
        let key = store.hasher().key(b"s");
        let (mut reply, mut rng) = (Reply::new(Version::Resp2), Rng::new(round));
        let random = rng.next_u64();
        let wire = b"*2\r\n$4\r\nspop\r\n$1\r\ns\r\n";
        let mut parser = corelane_proto_resp::Parser::new();
        let mut unread = &wire[..];
        let step = parser.poll(&corelane_proto_resp::Limits::default(), &mut unread);
        let corelane_proto_resp::Step::Command(command) = step else { panic!("this is no command") };
        spop(
            &mut Ctx { store: &mut store, reply: &mut reply, first: None, blocked: false, random },
            &command,
        );
        assert_eq!(store.get_collection::<Set>(key).map(|set| set.map(Set::len)), Ok(Some(4)));
        times[usize::from(reply.bytes()[4] - b'0')] += 1;
    }
    assert!(times.iter().all(|count| count.abs_diff(400) < 100), "{times:?}");
}

#[test]
fn sets_larger_than_a_batch_are_combined_whole() {
    let mut store = store();
    for n in 0..5_000 {
        say(&mut store, &format!("sadd a {n}"), Version::Resp2);
        say(&mut store, &format!("sadd b {}", n * 2), Version::Resp2);
    }
    for (line, wanted) in [
        ("sinterstore d a b", ":2500"),
        ("sdiffstore d a b", ":2500"),
        ("sunionstore d a b", ":7500"),
        ("sintercard 2 a b limit 2000", ":2000"),
        ("sismember d 9998", ":1"),
        ("sismember d 9997", ":0"),
    ] {
        assert_eq!(say(&mut store, line, Version::Resp2), wanted, "{line}");
    }
}

#[test]
fn only_what_changes_a_set_is_seen_by_who_watches_it() {
    let mut store = store();
    let hasher = store.hasher().clone();
    let key = hasher.key(b"s");
    say(&mut store, "sadd s a b c d", Version::Resp2);
    say(&mut store, "sadd other a", Version::Resp2);
    store.watch(key);
    for (line, is_change) in [
        ("smembers s", false),
        ("sadd s a", false),
        ("srem s x", false),
        ("spop s 0", false),
        ("srandmember s 2", false),
        ("smove s other x", false),
        ("smove s s a", false),
        ("sunion s other", false),
        ("sinterstore none s", false),
        ("smove other s a", false),
        ("sadd s e", true),
        ("srem s e", true),
        ("smove s other a", true),
        ("spop s", true),
        ("sunionstore s other", true),
        ("spop s 9", true),
    ] {
        let before = store.version(key);
        say(&mut store, line, Version::Resp2);
        assert_eq!(store.version(key) != before, is_change, "{line}");
    }
}
