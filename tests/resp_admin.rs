//! Users, and what whoever runs a node asks it: beside `redis-server`, and on nodes of one and of two shards.
//!
//! Not here: commands on keys (`resp_model`), rules of users one by one (the unit tests of `session::acl`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod resp;

use std::time::{Duration, Instant};

use resp::{Conn, Cut, Subject, Value, compare};

fn shown(value: &Value) -> String {
    format!("{value:?}")
}

/// All texts of a reply, whole.
fn flat(value: &Value) -> String {
    match (value.elements(), value.text()) {
        (Some(all), _) => all.iter().map(flat).collect::<Vec<_>>().join(" "),
        (_, text) => String::from_utf8_lossy(text.unwrap_or_default()).into_owned(),
    }
}

#[test]
fn users_are_made_denied_changed_and_deleted_as_in_redis() {
    compare(
        "admin: acl whoami
        admin: acl users
        admin: acl getuser default
        admin: acl getuser nosuch
        admin: acl setuser alice on >secret ~cache:* +@read +@write
        admin: acl users
        alice: auth alice wrong
        alice: auth nosuch secret
        alice: auth alice secret
        alice: acl whoami
        alice: get cache:a
        alice: set cache:a 1
        alice: incr cache:a
        alice: get other
        alice: mget cache:a other cache:b
        alice: config get maxmemory
        alice: multi
        alice: exec
        alice: nosuch
        alice: auth default
        admin: acl setuser alice +multi +exec +discard +acl|whoami
        alice: acl whoami
        alice: multi
        alice: get cache:a
        alice: get other
        alice: exec
        alice: multi
        alice: set cache:b 2
        alice: get cache:b
        alice: exec
        admin: acl setuser alice -exec
        alice: multi
        alice: exec
        alice: get cache:a
        admin: acl setuser alice off
        alice: get cache:a
        late: auth alice secret
        admin: acl setuser alice on resetpass
        late: auth alice secret
        admin: acl setuser alice >secret +subscribe +psubscribe +publish resetchannels &ch*
        late: hello 3 auth alice wrong
        late: hello nosuch auth alice secret
        late: auth alice secret
        late: publish ch1 x
        late: publish other x
        late: subscribe other
        late: subscribe ch1 other
        late: psubscribe ch*
        admin: acl setuser alice resetchannels &chan*
        late: ping
        admin: acl deluser alice nosuch
        alice: ping
        admin: acl users
        admin: acl deluser default
        admin: acl setuser bob nosuch
        admin: acl setuser bob ~* ~x
        admin: acl users
        admin: acl dryrun default get a
        admin: acl dryrun nosuch get a
        admin: acl dryrun default nosuch a
        admin: acl dryrun default get
        admin: acl cat nosuch
        admin: acl genpass 0
        admin: acl genpass x
        admin: acl log reset
        admin: acl log x
        admin: acl log
        admin: acl nosuch
        admin: acl setuser",
    );
}

#[test]
fn the_default_user_can_be_closed_and_opened_as_in_redis() {
    compare(
        "admin: acl setuser root on >root allkeys allchannels allcommands
        admin: auth root root
        admin: acl setuser default off
        guest: ping
        guest: auth root wrong
        guest: auth root root
        guest: ping
        guest: reset
        guest: ping
        admin: acl setuser default on nopass -@all +ping
        second: ping
        second: get a
        second: auth x y
        admin: acl setuser default resetpass >pw
        second: ping
        third: ping
        third: auth pw
        third: ping
        third: get a
        admin: acl getuser nosuch
        admin: acl deluser root
        third: quit",
    );
}

#[test]
fn what_was_denied_is_in_the_log_with_who_and_why() {
    for shards in [1, 2] {
        let Some(node) = Subject::corelane(shards) else { return };
        let mut admin = node.open();
        assert_eq!(admin.say("acl setuser eve on nopass ~e* +get +multi &c +publish"), Value::ok());
        for _ in 0..4 {
            let mut eve = node.open();
            assert!(shown(&eve.say("auth eve x")).contains("OK"));
            assert!(eve.say("auth eve2 secret").is_error());
            for line in ["get other", "set e 1", "publish d x", "multi", "get other"] {
                eve.say(line);
            }
        }
        let log = admin.say("acl log 100");
        let text = flat(&log);
        for wanted in ["other", "set", "eve2", "toplevel", "multi", "channel", "key", "command", "user=eve"] {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(admin.say("acl log 2").elements().unwrap().len(), 2);
        assert_eq!(admin.say("acl log reset"), Value::ok());
        assert_eq!(admin.say("acl log").elements().unwrap().len(), 0);
    }
}

#[test]
fn users_of_the_configuration_are_there_and_never_shown() {
    for shards in [1, 2] {
        // The lines go on in the table that was begun.
        let Some(node) = Subject::corelane_resp(
            shards,
            "users = [\"alice on >topsecret ~a* +@all\", \"default on nopass -@all +ping +auth\"]",
        ) else {
            return;
        };
        let mut conn = node.open();
        assert_eq!(shown(&conn.say("ping")), shown(&node.open().say("ping")));
        assert!(shown(&conn.say("get a")).contains("NOPERM"), "{shards}");
        assert_eq!(conn.say("auth alice topsecret"), Value::ok());
        assert_eq!(conn.say("set a1 x"), Value::ok());
        assert!(shown(&conn.say("set b1 x")).contains("one of the keys"));
        assert!(!shown(&conn.say("acl list")).contains("topsecret"));
        assert!(!shown(&conn.say("config get *")).contains("topsecret"));
        assert!(!node.said().contains("topsecret"));
    }
}

#[test]
fn rights_hold_in_a_pipeline_in_the_order_of_its_commands() {
    for shards in [1, 2] {
        let Some(node) = Subject::corelane(shards) else { return };
        let mut admin = node.open();
        assert_eq!(admin.say("acl setuser carol on nopass ~k* +get +set"), Value::ok());
        let mut conn = node.open();
        assert_eq!(conn.say("auth carol x"), Value::ok());
        let mut wire = Vec::new();
        for n in 0..100 {
            wire.extend(resp::encode(&["set", &format!("k{n}"), &n.to_string()]));
            wire.extend(resp::encode(&["set", &format!("x{n}"), "1"]));
            wire.extend(resp::encode(&["get", &format!("k{n}")]));
            wire.extend(resp::encode(&["del", &format!("k{n}")]));
        }
        assert!(conn.send(&wire));
        for n in 0..100 {
            assert_eq!(conn.read().unwrap(), Value::ok());
            assert!(shown(&conn.read().unwrap()).contains("one of the keys"));
            assert_eq!(conn.read().unwrap(), Value::bulk(n.to_string()));
            assert!(shown(&conn.read().unwrap()).contains("to run the"));
        }
    }
}

#[test]
fn commands_that_took_long_are_listed_as_in_redis() {
    let Some(redis) = Subject::redis() else { return };
    let mut nodes = vec![redis];
    nodes.extend([1, 2].into_iter().filter_map(Subject::corelane));
    for node in nodes {
        let mut conn = node.open();
        assert_eq!(conn.say("slowlog get"), Value::Array(Vec::new()), "{}", node.name);
        assert_eq!(conn.say("client setname me"), Value::ok());
        assert_eq!(conn.say("config set slowlog-log-slower-than 0"), Value::ok());
        let long = "x".repeat(200);
        for n in 0..20 {
            assert_eq!(conn.say(&format!("set key{n} {long}")), Value::ok());
        }
        let many: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
        assert_eq!(conn.say(&format!("del {}", many.join(" "))).int(), Some(20));
        assert_eq!(conn.say("config set slowlog-log-slower-than 100000000"), Value::ok());
        let all = conn.say("slowlog get -1");
        let entries = all.elements().unwrap();
        let of = |name: &str| {
            let is = |entry: &&Value| {
                entry.elements().unwrap()[3].elements().unwrap()[0].text() == Some(name.as_bytes())
            };
            entries.iter().filter(is).map(|entry| entry.elements().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(of("set").len(), 20, "{}", node.name);
        let keys = of("set").into_iter().map(|entry| flat(&entry[3]).split(' ').nth(1).unwrap().to_owned());
        let last_first: Vec<String> = (0..20).rev().map(|n| format!("key{n}")).collect();
        assert_eq!(keys.collect::<Vec<_>>(), last_first, "{}: the newest first, whoever ran it", node.name);
        let set = of("set")[0];
        assert_eq!(set.len(), 6);
        let wanted = format!("{}... (72 more bytes)", "x".repeat(128));
        assert_eq!(set[3].elements().unwrap()[2].text(), Some(wanted.as_bytes()));
        let mut named = of("set").into_iter().filter(|entry| entry[5].text() == Some(b"me"));
        let named = named.next().unwrap_or_else(|| panic!("{}: none has the name of its client", node.name));
        assert!(named[4].text().unwrap().starts_with(b"127.0.0.1:"), "{}", node.name);
        let len = conn.say("slowlog len").int().unwrap();
        assert_eq!(usize::try_from(len).unwrap(), entries.len());
        assert_eq!(conn.say("slowlog get 3").elements().unwrap().len(), 3);
        assert_eq!(conn.say("slowlog reset"), Value::ok());
        assert_eq!(conn.say("slowlog len").int(), Some(0));
    }
    compare(
        "a: slowlog get x
        a: slowlog get -2
        a: slowlog nosuch
        a: slowlog
        a: config get slowlog-log-slower-than
        a: config get slowlog-max-len
        a: config set slowlog-log-slower-than x
        a: config set slowlog-log-slower-than -1
        a: config get slowlog-log-slower-than
        a: config set slowlog-max-len 7
        a: config get slowlog-max-len
        a: config get latency-monitor-threshold
        a: config set latency-monitor-threshold 100
        a: config get latency-monitor-threshold
        a: latency latest
        a: latency history command
        a: latency history
        a: latency reset
        a: latency reset command nosuch
        a: memory purge
        a: memory nosuch",
    );
}

#[test]
fn memory_is_told_by_who_holds_it() {
    for shards in [1, 2] {
        let Some(node) = Subject::corelane(shards) else { return };
        let mut conn = node.open();
        for n in 0..100 {
            assert_eq!(conn.say(&format!("set key{n} {n}")), Value::ok());
        }
        let stats = conn.say("memory stats");
        let fields = stats.elements().unwrap();
        let of = |name: &str| {
            let at = fields.iter().position(|field| field.text() == Some(name.as_bytes())).unwrap();
            fields[at + 1].int().unwrap()
        };
        assert_eq!(of("keys.count"), 100);
        let each = of("keys.bytes-per-key");
        assert!((50..=2_000_000).contains(&each) && of("dataset.bytes") >= 100 * each, "{stats:?}");
        assert!(flat(&conn.say("memory doctor")).contains("little"));
    }
}

/// Asks until `wanted` is so.
#[track_caller]
fn until(mut wanted: impl FnMut() -> bool) {
    let deadline = Instant::now() + resp::conn::PATIENCE;
    while !wanted() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn id_of(conn: &mut Conn) -> i64 {
    conn.say("client id").int().unwrap()
}

#[test]
fn a_client_that_waits_is_unblocked_as_if_its_time_were_over_or_with_an_error() {
    let Some(redis) = Subject::redis() else { return };
    let mut nodes = vec![redis];
    nodes.extend([1, 2].into_iter().filter_map(Subject::corelane));
    for node in nodes {
        let (mut admin, mut waiter) = (node.open(), node.open());
        let id = id_of(&mut waiter);
        assert_eq!(admin.say(&format!("client unblock {id}")).int(), Some(0), "{}", node.name);
        for keys in ["one", "one two three four"] {
            for (how, wanted) in [
                ("", "*-1"),
                (" timeout", "*-1"),
                (" error", "-UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            ] {
                let words: Vec<&str> = ["blpop"].into_iter().chain(keys.split(' ')).chain(["0"]).collect();
                assert!(waiter.send(&resp::encode(&words)));
                until(|| admin.say(&format!("client unblock {id}{how}")).int() == Some(1));
                assert_eq!(shown(&waiter.read().unwrap()), wanted, "{}: {keys}{how}", node.name);
            }
        }
        // What comes later is not taken for it.
        assert_eq!(admin.say("rpush one a").int(), Some(1));
        assert_eq!(admin.say("llen one").int(), Some(1));
        assert_eq!(shown(&waiter.say("blpop one 0")), "[\"one\", \"a\"]");
    }
    compare(
        "a: client unblock x
        a: client unblock -1
        a: client unblock 1 foo
        a: client getredir
        a: client trackinginfo
        a: client pause x
        a: client pause -1
        a: client pause 10 foo
        a: client unpause
        a: client kill type foo
        a: client kill user nosuch
        a: client kill user default skipme yes
        a: client kill type pubsub
        a: client kill maxage 1
        a: client list type foo
        a: shutdown foo
        a: shutdown nosave save
        a: shutdown abort
        a: shutdown abort now
        a: multi
        a: shutdown nosave
        a: exec
        a: debug",
    );
}

#[test]
fn a_pause_holds_commands_up_until_it_is_over() {
    for shards in [1, 2] {
        let Some(node) = Subject::corelane(shards) else { return };
        let (mut admin, mut other) = (node.open(), node.open());
        assert_eq!(other.say("set a 1"), Value::ok());
        assert_eq!(admin.say("client pause 60000 write"), Value::ok());
        let mut late = node.open();
        for conn in [&mut other, &mut late] {
            assert_eq!(conn.say("get a"), Value::bulk("1"));
            // Behind a write that waits, nothing is run, and nothing is lost.
            assert!(conn.send(&[resp::encode(&["incr", "a"]), resp::encode(&["get", "a"])].concat()));
            assert_eq!(conn.read_within(Duration::from_millis(100)), Err(Cut::Silence));
        }
        let mut gone = node.open();
        assert!(gone.send(&resp::encode(&["set", "b", "100"])));
        assert_eq!(admin.say("client unpause"), Value::ok());
        let mut seen: Vec<i64> =
            [&mut other, &mut late].map(|conn| conn.read().unwrap().int().unwrap()).to_vec();
        seen.sort_unstable();
        assert_eq!(seen[1], seen[0] + 1, "{seen:?}");
        assert_eq!(gone.read().unwrap(), Value::ok());
        for conn in [&mut other, &mut late] {
            assert!(conn.read().unwrap().text().is_some());
        }
        // The time ends it, too; a later pause makes it longer, not shorter.
        let began = Instant::now();
        assert_eq!(admin.say("client pause 300"), Value::ok());
        assert_eq!(admin.say("client pause 1"), Value::ok());
        assert!(shown(&other.say("ping")).contains("PONG"));
        assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
        // One that is held up can be killed.
        assert_eq!(admin.say("client pause 60000 write"), Value::ok());
        let id = id_of(&mut other);
        assert!(other.send(&resp::encode(&["set", "a", "200"])));
        assert_eq!(other.read_within(Duration::from_millis(50)), Err(Cut::Silence));
        assert_eq!(admin.say(&format!("client kill id {id}")).int(), Some(1));
        assert_eq!(other.read(), Err(Cut::End));
        assert_eq!(admin.say("client unpause"), Value::ok());
        assert_ne!(admin.say("get a"), Value::bulk("200"));
    }
}

#[test]
fn clients_are_killed_by_user_and_by_type() {
    for shards in [1, 2] {
        let Some(node) = Subject::corelane(shards) else { return };
        let (mut admin, mut eve, mut subscriber) = (node.open(), node.open(), node.open());
        assert_eq!(admin.say("acl setuser eve on nopass +@all ~*"), Value::ok());
        assert_eq!(eve.say("auth eve x"), Value::ok());
        assert!(!subscriber.say("subscribe c").is_error());
        let list = flat(&admin.say("client list"));
        assert!(list.contains("user=eve") && list.contains("tot-mem="), "{list}");
        assert_eq!(admin.say("client kill user eve type pubsub").int(), Some(0));
        assert_eq!(admin.say("client kill user eve").int(), Some(1));
        assert_eq!(eve.read(), Err(Cut::End));
        assert_eq!(admin.say("client kill type pubsub").int(), Some(1));
        assert_eq!(subscriber.read(), Err(Cut::End));
        assert!(shown(&admin.say("ping")).contains("PONG"));
    }
}

#[test]
fn shutdown_drains_the_node_and_debug_sleep_is_there_if_it_is_asked_for() {
    for shards in [1, 2] {
        let Some(node) = Subject::corelane(shards) else { return };
        let mut conn = node.open();
        assert!(shown(&conn.say("debug sleep 0")).contains("DEBUG command not allowed"));
        assert_eq!(conn.say("acl setuser eve on nopass +@all -@dangerous"), Value::ok());
        assert_eq!(conn.say("auth eve x"), Value::ok());
        assert!(shown(&conn.say("shutdown nosave")).contains("NOPERM"));
        let mut admin = node.open();
        assert!(admin.send(&resp::encode(&["shutdown", "nosave"])));
        assert_eq!(admin.read(), Err(Cut::End));
        until(|| Conn::try_open(node.addr).is_err());

        let Some(node) = Subject::corelane_resp(shards, "debug_commands = true") else { return };
        let mut conn = node.open();
        assert_eq!(
            conn.say("config set slowlog-log-slower-than 1000 latency-monitor-threshold 20"),
            Value::ok()
        );
        let began = Instant::now();
        assert_eq!(conn.say("debug sleep 0.05"), Value::ok());
        assert!(began.elapsed() >= Duration::from_millis(50));
        for wrong in ["debug jmap", "debug sleep -1", "debug sleep 61", "debug sleep x", "debug sleep"] {
            assert!(conn.say(wrong).is_error(), "{wrong}");
        }
        let slow = flat(&conn.say("slowlog get"));
        assert!(slow.contains("debug sleep 0.05"), "{slow}");
        let latest = conn.say("latency latest");
        let event = latest.elements().unwrap()[0].elements().unwrap();
        assert_eq!(event[0].text(), Some(&b"command"[..]));
        assert!((50..5_000).contains(&event[3].int().unwrap()), "{latest:?}");
        assert_eq!(conn.say("latency history command").elements().unwrap().len(), 1);
        assert!(flat(&conn.say("latency doctor")).contains("command: 1 seconds"));
        assert_eq!(conn.say("latency reset").int(), Some(1));
    }
}
