//! The connections of the cache: who may speak, who is ended and how, and what hostile clients cost the others.
//!
//! Every server is a child on free ports. A hostile client gets an error or is closed; meanwhile the memory of the
//! server stays under a stated bound, and a good client is served.
//!
//! Not here: what commands reply (`resp_model`), each deadline to the millisecond (`net`, on the simulator).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod resp;

use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use resp::conn::PATIENCE;
use resp::{Conn, Cut, Subject, Value, Witness, encode};

const MIB: u64 = 1 << 20;

/// What memory may grow by where nothing is to be kept: pools that fill, the heap's own spare, replies on their way.
const LITTLE: u64 = 96 * MIB;

const PASSWORD: &str = "a password of this test";

/// Ours. None where a server was named that is no child of this test.
fn node(shards: usize, lines: &str) -> Option<Subject> {
    if std::env::var_os("RESP_ADDR").is_some() {
        eprintln!("skipped: RESP_ADDR names a server that is no child");
        return None;
    }
    Subject::corelane_with(shards, lines)
}

fn guarded(shards: usize) -> Option<Subject> {
    node(shards, &format!("password = \"{}\"\n", PASSWORD.replace(' ', "-")))
}

fn password() -> String {
    PASSWORD.replace(' ', "-")
}

#[track_caller]
fn is_error(value: &Value, code: &str) {
    let text = String::from_utf8_lossy(value.text().unwrap_or_default()).into_owned();
    assert!(value.is_error() && text.starts_with(code), "{value:?} is no {code}");
}

/// The error, then the end.
#[track_caller]
fn is_refused(conn: &mut Conn, text: &str) {
    let value = conn.read().unwrap_or_else(|cut| panic!("no reply but {cut:?}, expected {text}"));
    is_error(&value, text);
    assert_eq!(conn.read(), Err(Cut::End), "behind {text}");
}

/// A field of INFO. A shard that is busy with what hostile clients asked for may be asked again.
#[track_caller]
fn field(conn: &mut Conn, section: &str, name: &str) -> u64 {
    let start = Instant::now();
    loop {
        let value = conn.ask(&["INFO", section]);
        let text = String::from_utf8_lossy(value.text().unwrap_or_default()).into_owned();
        if text.starts_with("TRYAGAIN ") && start.elapsed() < PATIENCE {
            continue;
        }
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        return line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"));
    }
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "after {PATIENCE:?} it is still not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

// ---- who may speak

#[test]
fn a_guest_may_authenticate_and_nothing_else() {
    let Some(subject) = guarded(2) else { return };
    let mut conn = subject.open();
    for command in ["PING", "GET a", "CLIENT LIST", "CONFIG GET *", "MULTI", "SUBSCRIBE c", "INFO", "KEYS *"]
    {
        is_error(&conn.say(command), "NOAUTH ");
    }
    is_error(&conn.say("HELLO 3"), "NOAUTH ");
    is_error(&conn.say("AUTH wrong"), "WRONGPASS ");
    is_error(&conn.say(&format!("AUTH nobody {}", password())), "WRONGPASS ");
    is_error(&conn.say("HELLO 3 AUTH default wrong"), "WRONGPASS ");
    is_error(&conn.say("PING"), "NOAUTH ");
    assert_eq!(conn.say(&format!("AUTH {}", password())), Value::ok());
    assert_eq!(conn.say("SET a 1"), Value::ok());
    is_error(&conn.say("AUTH default wrong"), "WRONGPASS ");
    assert_eq!(conn.say("GET a"), Value::bulk("1"), "a failed AUTH takes nothing away");
    assert_eq!(conn.say("RESET"), Value::Simple(b"RESET".to_vec()));
    is_error(&conn.say("GET a"), "NOAUTH ");
    let mut other = subject.open();
    let hello = other.say(&format!("HELLO 3 AUTH default {} SETNAME me", password()));
    assert!(matches!(hello, Value::Map(_)), "{hello:?}");
    assert_eq!(other.say("CLIENT GETNAME"), Value::bulk("me"));
}

#[test]
fn a_guest_may_send_little_until_it_has_authenticated() {
    let Some(subject) = guarded(1) else { return };
    let mut conn = subject.open();
    conn.send(b"*11\r\n");
    is_refused(&mut conn, "ERR Protocol error: unauthenticated multibulk length");
    let mut conn = subject.open();
    conn.send(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n");
    is_refused(&mut conn, "ERR Protocol error: unauthenticated bulk length");
    // On the limits it is heard; and what follows AUTH in one pipeline has those of clients.
    let mut conn = subject.open();
    conn.send(&encode(&["x"; 10]));
    assert!(conn.read().unwrap().is_error());
    conn.send(&encode(&[&b"AUTH"[..], &vec![b'x'; 16 << 10]]));
    is_error(&conn.read().unwrap(), "WRONGPASS ");
    let pipeline =
        [encode(&["AUTH", &password()]), encode(&[&b"SET"[..], b"k", &vec![b'x'; 20_000]])].concat();
    conn.send(&pipeline);
    assert_eq!((conn.read(), conn.read()), (Ok(Value::ok()), Ok(Value::ok())));
    assert_eq!(conn.say("STRLEN k"), Value::Int(20_000));
}

#[test]
fn an_address_that_other_hosts_reach_is_refused_without_a_password_and_the_cure_is_named() {
    for place in ["0.0.0.0:0", "[::]:0"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("CORELANE_")) {
            command.env_remove(name);
        }
        command.args(["--listen", "127.0.0.1:0", "--admin", "off", "--no-pin", "--resp", place]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        for part in [place, "needs a password", "CORELANE_RESP_PASSWORD", "127.0.0.1"] {
            assert!(said.contains(part), "no {part} in {said}");
        }
    }
}

// ---- CLIENT

#[test]
fn clients_are_listed_by_name_over_all_shards_and_killed_by_id_and_address() {
    for shards in [1, 2] {
        let Some(subject) = node(shards, "") else { return };
        let mut all: Vec<Conn> = (0..12).map(|_| subject.open()).collect();
        let mut ids = Vec::new();
        for (n, conn) in all.iter_mut().enumerate() {
            assert_eq!(conn.say(&format!("CLIENT SETNAME one:{n}")), Value::ok());
            ids.push(conn.say("CLIENT ID").int().unwrap());
        }
        is_error(&all[0].ask(&["CLIENT", "SETNAME", "a b"]), "ERR Client names cannot contain spaces");
        assert_eq!(
            all[0].say("CLIENT GETNAME"),
            Value::bulk("one:0"),
            "a name that is refused changes nothing"
        );
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ids.len(), "an id is unique in the node: {ids:?}");
        let list = all[0].say("CLIENT LIST");
        let list = String::from_utf8_lossy(list.text().unwrap()).into_owned();
        for (n, id) in ids.iter().enumerate() {
            let line = list.lines().find(|line| line.starts_with(&format!("id={id} ")));
            let line = line.unwrap_or_else(|| panic!("no {id} in {list}"));
            let addr = all[n].local();
            assert!(
                line.contains(&format!(" name=one:{n} ")) && line.contains(&format!("addr={addr} ")),
                "{line}"
            );
        }
        assert_eq!(list.lines().count(), all.len());
        // By id, by address in both forms, and whoever kills itself hears so.
        assert_eq!(all[0].say(&format!("CLIENT KILL ID {}", ids[5])), Value::Int(1));
        assert!(all[5].ends_within(PATIENCE));
        let addr = all[6].local();
        assert_eq!(all[0].say(&format!("CLIENT KILL ADDR {addr}")), Value::Int(1));
        assert!(all[6].ends_within(PATIENCE));
        let addr = all[7].local();
        assert_eq!(all[0].say(&format!("CLIENT KILL {addr}")), Value::ok());
        assert!(all[7].ends_within(PATIENCE));
        is_error(&all[0].say(&format!("CLIENT KILL {addr}")), "ERR No such client");
        assert_eq!(all[0].say("CLIENT KILL ID 999999999"), Value::Int(0));
        let own = ids[8];
        assert_eq!(all[8].say(&format!("CLIENT KILL ID {own}")), Value::Int(0), "skipme is yes by itself");
        assert_eq!(all[8].say(&format!("CLIENT KILL ID {own} SKIPME no")), Value::Int(1));
        assert_eq!(all[8].read(), Err(Cut::End));
        // One that is blocked, and one that subscribes.
        all[9].send(&encode(&["BLPOP", "nothing", "0"]));
        assert!(matches!(all[10].say("SUBSCRIBE c"), Value::Array(_)));
        for n in [9, 10] {
            assert_eq!(all[0].say(&format!("CLIENT KILL ID {}", ids[n])), Value::Int(1));
            assert!(all[n].ends_within(PATIENCE), "{n}");
        }
        until("the blocked one left its place", || field(&mut all[0], "clients", "blocked_clients") == 0);
        assert_eq!(all[0].say("PUBLISH c x"), Value::Int(0));
    }
}

/// Sends a pipeline and reads so many replies; then there are no more.
#[track_caller]
fn pipeline(conn: &mut Conn, commands: &[&str], replies: usize) -> Vec<Value> {
    let bytes: Vec<u8> =
        commands.iter().flat_map(|words| encode(&words.split(' ').collect::<Vec<_>>())).collect();
    conn.send(&bytes);
    conn.send(&encode(&["ECHO", "the end"]));
    let mut got = Vec::new();
    loop {
        let value = conn.read().unwrap_or_else(|cut| panic!("{commands:?}: {cut:?} behind {got:?}"));
        if value == Value::bulk("the end") {
            break;
        }
        got.push(value);
    }
    assert_eq!(got.len(), replies, "{commands:?}: {got:?}");
    got
}

#[test]
fn a_subscriber_that_is_killed_takes_no_message_although_it_has_not_left() {
    for shards in [1, 2] {
        let Some(subject) = node(shards, "") else { return };
        let (mut conn, mut subscriber) = (subject.open(), subject.open());
        let id = subscriber.say("CLIENT ID").int().unwrap();
        assert!(matches!(subscriber.say("SUBSCRIBE c"), Value::Array(_)));
        assert_eq!(conn.say("PUBLISH c x"), Value::Int(1));
        assert_eq!(conn.say(&format!("CLIENT KILL ID {id}")), Value::Int(1));
        // Its side of the connection is still open.
        assert_eq!(conn.say("PUBLISH c x"), Value::Int(0), "{shards} shards");
        assert!(matches!(subscriber.read(), Ok(Value::Array(_))), "the first message");
        assert_eq!(subscriber.read(), Err(Cut::End));
    }
}

#[test]
fn every_command_of_a_pipeline_over_shards_has_an_error_where_there_is_no_task_for_it() {
    // Of three, two are the node's own.
    let Some(subject) = node(2, "[limits]\ntasks_max = 3\n") else { return };
    let mut crowd: Vec<Conn> = (0..32).map(|_| subject.open()).collect();
    let gets: Vec<u8> = (0..16).flat_map(|at| encode(&["GET", &format!("key:{at}")])).collect();
    let mut refused = 0;
    until("a pipeline finds no task", || {
        for conn in &mut crowd {
            conn.send(&gets);
            conn.send(&encode(&["ECHO", "the end"]));
        }
        for conn in &mut crowd {
            for _ in 0..16 {
                let value = conn.read().unwrap();
                let text = value.text().unwrap_or_default();
                assert!(
                    value == Value::NullBulk
                        || text.starts_with(b"ERR the command was not finished: tasks_max"),
                    "{value:?}"
                );
                refused += usize::from(value.is_error());
            }
            assert_eq!(conn.read().unwrap(), Value::bulk("the end"), "there were more replies, or fewer");
        }
        refused > 0
    });
}

#[test]
fn a_pipeline_over_shards_does_to_each_key_what_was_sent_in_that_order() {
    for shards in [2, 4] {
        let Some(subject) = node(shards, "") else { return };
        let mut conn = subject.open();
        let mut random = corelane_base::Rng::new(7);
        let mut kept: [Option<String>; 12] = Default::default();
        for round in 0..300 {
            let (mut commands, mut wanted) = (Vec::new(), Vec::new());
            for n in 0..random.below(48) {
                let (at, other) = (random.index(12), random.index(12));
                let (name, text) = (format!("k{at}"), format!("{round}-{n}"));
                let had = |kept: &[Option<String>; 12], at: usize| {
                    kept[at].as_deref().map_or(Value::NullBulk, Value::bulk)
                };
                match random.below(6) {
                    0 => {
                        commands.push(format!("SET {name} {text}"));
                        kept[at] = Some(text);
                        wanted.push(Value::ok());
                    }
                    1 => {
                        commands.push(format!("APPEND {name} {text}"));
                        let value = kept[at].get_or_insert_default();
                        value.push_str(&text);
                        wanted.push(Value::Int(i64::try_from(value.len()).unwrap()));
                    }
                    2 => {
                        commands.push(format!("DEL {name}"));
                        wanted.push(Value::Int(i64::from(kept[at].take().is_some())));
                    }
                    3 => {
                        commands.push(format!("MSET {name} {text} k{other} also-{text}"));
                        kept[at] = Some(text.clone());
                        kept[other] = Some(format!("also-{text}"));
                        wanted.push(Value::ok());
                    }
                    4 => {
                        commands.push(format!("MGET {name} k{other} {name}"));
                        let values = [at, other, at].map(|at| had(&kept, at));
                        wanted.push(Value::Array(values.into()));
                    }
                    _ => {
                        commands.push(format!("GET {name}"));
                        wanted.push(had(&kept, at));
                    }
                }
            }
            let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
            let got = pipeline(&mut conn, &commands, commands.len());
            assert_eq!(got, wanted, "{shards} shards: {commands:?}");
        }
    }
}

#[test]
fn replies_that_a_client_does_not_want_are_left_out_of_a_pipeline_and_no_others() {
    for shards in [1, 2] {
        let Some(subject) = node(shards, "") else { return };
        let mut conn = subject.open();
        // Keys of all shards on both sides of every switch.
        let got = pipeline(
            &mut conn,
            &[
                "SET a 1",
                "SET b 2",
                "CLIENT REPLY OFF",
                "SET c 3",
                "SET d 4",
                "GET a",
                "MGET a b c d",
                "PING",
                "NOSUCH",
                "CLIENT REPLY ON",
                "MGET a b c d",
                "GET d",
            ],
            5,
        );
        assert_eq!(got[..3], [Value::ok(), Value::ok(), Value::ok()]);
        let four = Value::Array(["1", "2", "3", "4"].map(Value::bulk).into());
        assert_eq!(got[3..], [four, Value::bulk("4")]);
        for (skipped, next) in [
            ("SET e 5", "GET a"),
            ("GET b", "GET c"),
            ("MGET a b c d", "GET d"),
            ("NOSUCH", "GET a"),
            ("PING", "GET b"),
            ("WATCH a", "GET c"),
            ("WATCH b", "GET d"),
        ] {
            let got = pipeline(&mut conn, &["GET a", "CLIENT REPLY SKIP", skipped, next, "GET b"], 3);
            assert_eq!(
                (&got[0], &got[2]),
                (&Value::bulk("1"), &Value::bulk("2")),
                "{skipped}, {next}: {got:?}"
            );
        }
        // What it did was done all the same.
        assert_eq!(conn.say("GET e"), Value::bulk("5"));
        let got = pipeline(
            &mut conn,
            &["CLIENT REPLY OFF", "MULTI", "INCR a", "INCR b", "EXEC", "CLIENT REPLY ON", "MGET a b"],
            2,
        );
        assert_eq!(got[1], Value::Array(vec![Value::bulk("2"), Value::bulk("3")]));
        is_error(&conn.say("CLIENT REPLY MAYBE"), "ERR syntax error");
    }
}

// ---- subscribers

#[test]
fn a_slow_subscriber_is_dropped_and_the_others_get_every_message() {
    const SENT: usize = 640;
    let payload = "p".repeat(128 << 10);
    for shards in [1, 2] {
        let Some(subject) = node(shards, "") else { return };
        let (mut slow, mut publisher) = (subject.open(), subject.open());
        let mut good: Vec<Conn> = (0..2).map(|_| subject.open()).collect();
        for conn in good.iter_mut().chain([&mut slow]) {
            assert!(matches!(conn.say("SUBSCRIBE news"), Value::Array(_)));
        }
        let witness = Witness::of(&subject);
        let got: Vec<AtomicUsize> = good.iter().map(|_| AtomicUsize::new(0)).collect();
        let mut counts = Vec::new();
        thread::scope(|scope| {
            for (conn, got) in good.iter_mut().zip(&got) {
                let payload = &payload;
                scope.spawn(move || {
                    for n in 0..SENT {
                        let message = conn.read().unwrap_or_else(|cut| panic!("message {n}: {cut:?}"));
                        let text = message.elements().and_then(|all| all.get(2)?.text()).unwrap_or_default();
                        let wanted = format!("{n:08}{payload}");
                        assert!(text == wanted.as_bytes(), "message {n} came whole and in order");
                        got.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for n in 0..SENT {
                let count = publisher.ask(&["PUBLISH", "news", &format!("{n:08}{payload}")]);
                counts.push(count.int().unwrap());
                // At the pace of those that read.
                until("it is read", || got.iter().all(|got| got.load(Ordering::Relaxed) + 8 > n));
            }
        });
        // 32 MiB unsent, and what the kernel holds for both sides.
        assert_eq!((counts[0], counts[SENT - 1]), (3, 2), "{counts:?}");
        let dropped = counts.iter().position(|count| *count == 2).unwrap() as u64;
        let bytes = dropped * payload.len() as u64;
        assert!((32 * MIB..64 * MIB).contains(&bytes), "dropped with {bytes} bytes on their way");
        assert!(slow.ends_within(PATIENCE), "it was reset");
        assert_eq!(publisher.say("PUBSUB NUMSUB news").elements().unwrap()[1], Value::Int(2));
        witness.ends("a slow subscriber", 32 * MIB + LITTLE);
    }
}

#[test]
fn a_connection_has_65536_subscriptions_and_an_error_beyond() {
    let Some(subject) = node(2, "") else { return };
    let witness = Witness::of(&subject);
    let mut conn = subject.open();
    let names: Vec<String> = (0..65_536).map(|n| format!("c{n}")).collect();
    let command: Vec<&str> = ["SUBSCRIBE"].into_iter().chain(names.iter().map(String::as_str)).collect();
    conn.send(&encode(&command));
    for n in 0..65_536_i64 {
        let value = conn.read().unwrap();
        assert_eq!(value.elements().unwrap()[2], Value::Int(n + 1));
    }
    is_error(&conn.say("SUBSCRIBE one-more"), "ERR a connection may have 65536 subscriptions");
    is_error(&conn.say("PSUBSCRIBE one-more*"), "ERR a connection may have 65536 subscriptions");
    let mut other = subject.open();
    assert_eq!(other.say("PUBLISH c65535 x"), Value::Int(1));
    assert_eq!(other.say("PUBLISH one-more x"), Value::Int(0));
    conn.close();
    until("all are gone with it", || other.say("PUBLISH c65535 x") == Value::Int(0));
    witness.ends("many subscriptions", LITTLE);
}

// ---- maxima and the end

#[test]
fn a_client_that_finds_no_room_is_told_so_and_one_that_leaves_makes_room() {
    let Some(subject) = node(1, "[limits]\nconnections_max = 4\n") else { return };
    let mut all: Vec<Conn> = (0..4).map(|_| subject.open()).collect();
    for conn in &mut all {
        assert_eq!(conn.say("PING"), Value::Simple(b"PONG".to_vec()));
    }
    for _ in 0..3 {
        is_refused(&mut subject.open(), "ERR max number of clients reached");
    }
    all.pop().unwrap().close();
    until("there is room", || {
        let mut conn = subject.open();
        conn.send(b"PING\r\n");
        conn.read() == Ok(Value::Simple(b"PONG".to_vec()))
    });
    assert_eq!(all[0].say("PING"), Value::Simple(b"PONG".to_vec()));
}

#[test]
fn a_drain_ends_idle_blocked_and_subscribed_clients_and_answers_the_pipeline_under_way() {
    const SENT: usize = 20_000;
    const DRAIN: Duration = Duration::from_secs(8);
    for shards in [1, 2] {
        let limits = "[limits]\ndrain_time = \"8s\"\ndrain_idle = \"200ms\"\n";
        let Some(mut subject) = node(shards, limits) else { return };
        let (mut idle, mut blocked, mut several) = (subject.open(), subject.open(), subject.open());
        let (mut subscribed, mut busy, mut half) = (subject.open(), subject.open(), subject.open());
        assert_eq!(idle.say("SET a 1"), Value::ok());
        blocked.send(&encode(&["BLPOP", "nothing", "0"]));
        several.send(&encode(&["BLPOP", "no:1", "no:2", "no:3", "no:4", "no:5", "0"]));
        assert!(matches!(subscribed.say("SUBSCRIBE c"), Value::Array(_)));
        half.send(b"*3\r\n$3\r\nSET\r\n$1");
        until("two are blocked", || field(&mut idle, "clients", "blocked_clients") >= 2);
        let bytes: Vec<u8> = (0..SENT).flat_map(|n| encode(&["INCR", &format!("n{}", n % 8)])).collect();
        let start = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                busy.send(&bytes);
                (0..SENT).map(|_| busy.read()).collect::<Vec<_>>()
            });
            thread::sleep(Duration::from_millis(30));
            let start = Instant::now();
            subject.signal("TERM");
            let replies = reader.join().unwrap();
            for (n, reply) in replies.into_iter().enumerate() {
                let wanted = i64::try_from(n / 8 + 1).unwrap();
                assert_eq!(reply, Ok(Value::Int(wanted)), "reply {n} on {shards} shard(s)");
            }
            start
        });
        for (what, conn) in [
            ("idle", &mut idle),
            ("blocked", &mut blocked),
            ("blocked on several", &mut several),
            ("subscribed", &mut subscribed),
            ("busy", &mut busy),
            ("half a command", &mut half),
        ] {
            assert!(
                conn.ends_within(DRAIN),
                "{what}, {shards} shard(s): still open {:?} later",
                start.elapsed()
            );
        }
        let status = subject.wait((DRAIN + Duration::from_secs(2)).saturating_sub(start.elapsed()));
        assert!(status.success(), "{status:?}: {}", subject.said());
    }
}

#[test]
fn a_smaller_maxmemory_evicts_and_a_bad_value_changes_nothing() {
    for shards in [1, 2] {
        let Some(subject) = node(shards, "[cache]\nmemory_max = \"64MiB\"\n") else { return };
        let mut conn = subject.open();
        let value = "v".repeat(1_000);
        for n in 0..8_000 {
            conn.send(&encode(&["SET", &format!("k{n}"), &value]));
            assert_eq!(conn.read(), Ok(Value::ok()));
        }
        assert_eq!(field(&mut conn, "stats", "evicted_keys"), 0);
        assert!(field(&mut conn, "memory", "used_memory") > 8_000_000);
        for bad in [
            "maxmemory -1",
            "maxmemory 1tb5",
            "maxmemory lots",
            "maxmemory",
            "maxmemory-policy volatile-nothing",
            "nosuch 1",
        ] {
            assert!(conn.say(&format!("CONFIG SET {bad}")).is_error(), "{bad}");
            // Also behind a pair that is good.
            assert!(conn.say(&format!("CONFIG SET maxmemory 4mb {bad}")).is_error(), "{bad}");
        }
        assert_eq!(field(&mut conn, "memory", "maxmemory"), 64 * MIB);
        assert_eq!(conn.say("CONFIG SET maxmemory 4mb maxmemory-policy allkeys-lru"), Value::ok());
        assert_eq!(field(&mut conn, "memory", "maxmemory"), 4 * MIB);
        let policy = conn.say("CONFIG GET maxmemory-policy");
        assert_eq!(policy.elements().unwrap()[1], Value::bulk("allkeys-lru"));
        for n in 0..2_000 {
            assert_eq!(conn.ask(&["SET", &format!("new{n}"), &value]), Value::ok());
        }
        assert!(field(&mut conn, "memory", "used_memory") <= 4 * MIB + 64 * 1_200);
        assert!(field(&mut conn, "stats", "evicted_keys") > 4_000);
        assert_eq!(conn.say("CONFIG SET maxmemory-policy noeviction maxmemory 1mb"), Value::ok());
        let full =
            |conn: &mut Conn| (0..64).any(|n| conn.ask(&["SET", &format!("more{n}"), &value]).is_error());
        assert!(full(&mut conn), "nobody goes, so nobody comes");
        is_error(&conn.ask(&["SET", "more0", &value]), "OOM command not allowed");
        assert_eq!(conn.say("CONFIG SET maxmemory 0"), Value::ok());
        assert!(!full(&mut conn), "0 is no maximum");
    }
}

// ---- hostile input

#[test]
fn input_that_announces_too_much_is_refused_before_any_of_it_is_kept() {
    let Some(subject) = node(2, "") else { return };
    let witness = Witness::of(&subject);
    for (bytes, text) in [
        (&b"*10000000\r\n"[..], "ERR Protocol error: invalid multibulk length"),
        (b"*1048577\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*99999999999999999999999\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n*1\r\n*1\r\n*1\r\n$4\r\nPING\r\n", "ERR Protocol error: expected '$', got '*'"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$629145600\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108865\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*3\r\n$3\r\nSET\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*3\r\n$67108864\r\n", ""),
        (b"*1048576\r\n$1\r\n", ""),
        (b"SET k \"v\r\n", "ERR Protocol error: unbalanced quotes in request"),
    ] {
        for _ in 0..20 {
            let mut conn = subject.open();
            conn.send(bytes);
            if text.is_empty() {
                // On the limit: it waits for the rest, and nothing is kept for what has not come.
                assert_eq!(conn.read_within(Duration::from_millis(1)), Err(Cut::Silence));
            } else {
                is_refused(&mut conn, text);
            }
        }
    }
    // Arrays in arrays, as deep as one likes.
    let mut conn = subject.open();
    conn.send_within(&b"*1\r\n".repeat(100_000), PATIENCE);
    let first = conn.read();
    assert!(matches!(&first, Ok(value) if value.is_error()) || first == Err(Cut::End), "{first:?}");
    assert!(conn.ends_within(PATIENCE));
    witness.ends("announced and not kept", LITTLE);
}

#[test]
fn a_line_without_an_end_is_refused_at_64_kib_of_a_gigabyte() {
    let Some(subject) = node(1, "[limits]\nlinger_time = \"500ms\"\n") else { return };
    let witness = Witness::of(&subject);
    for (first, text) in [
        (&b"GET "[..], "ERR Protocol error: too big inline request"),
        (b"*", "ERR Protocol error: too big mbulk count string"),
        (b"*1\r\n$", "ERR Protocol error: too big bulk count string"),
    ] {
        let mut conn = subject.open();
        conn.send(&[first, &vec![b'1'; 128 << 10]].concat());
        is_refused(&mut conn, text);
        // Who goes on is read without being heard, so that it can read the error, and then cut.
        let (piece, mut sent, start) = (vec![b'1'; 1 << 20], 0_u64, Instant::now());
        while sent < 1 << 30 {
            let taken = conn.send_within(&piece, Duration::from_secs(2));
            sent += taken as u64;
            if taken < piece.len() {
                break;
            }
        }
        assert!(
            sent < 1 << 30 || start.elapsed() < Duration::from_secs(5),
            "{sent} bytes of a line were taken"
        );
    }
    witness.ends("endless lines", LITTLE);
}

#[test]
fn clients_that_break_off_leave_nothing_behind() {
    let Some(subject) = node(2, "") else { return };
    let witness = Witness::of(&subject);
    let whole: Vec<u8> =
        [encode(&["SET", "k", &"v".repeat(2_000)]), encode(&["MGET", "k", "a", "b"]), encode(&["EXEC"])]
            .concat();
    for n in 0..1_000 {
        let mut conn = subject.open();
        conn.send(&whole[..whole.len() * n / 1_000]);
        if n % 2 == 0 {
            conn.close();
        }
    }
    let mut conn = subject.open();
    until("all are gone", || field(&mut conn, "clients", "connected_clients") <= 3);
    witness.ends("broken off", LITTLE);
}

#[test]
fn large_values_that_come_slowly_are_bounded_all_together() {
    const CLIENTS: usize = 20;
    let lines = "[cache]\nmemory_max = \"64MiB\"\n";
    let Some(subject) = node(1, lines) else { return };
    let witness = Witness::of(&subject);
    let mut all: Vec<Option<Conn>> = Vec::new();
    for n in 0..CLIENTS {
        let mut conn = subject.open();
        conn.send(format!("*3\r\n$3\r\nSET\r\n$2\r\n{n:02}\r\n$67108864\r\n").as_bytes());
        all.push(Some(conn));
    }
    let piece = vec![b'v'; 1 << 20];
    for _ in 0..63 {
        for slot in &mut all {
            if let Some(conn) = slot
                && conn.send_within(&piece, PATIENCE) < piece.len()
            {
                *slot = None; // reset: too much was unread on the shard
            }
        }
    }
    let left = all.iter().flatten().count();
    // 256 MiB is four of 64; one more may be on its way.
    assert!((1..=5).contains(&left), "{left} are left");
    // An inbox doubles where it grows: the old one is there until it is copied.
    witness.ends("slow large values", 3 * 256 * MIB);
}

#[test]
fn a_client_that_never_reads_is_not_read_from_and_reset_after_a_while() {
    for shards in [1, 2] {
        let Some(subject) = node(shards, "[limits]\nwrite_time = \"3s\"\n") else { return };
        let mut good = subject.open();
        let keys: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
        for (n, key) in keys.iter().enumerate() {
            // Copied replies, and those that are sent from where they are.
            let len = if n % 2 == 0 { 10_000 } else { 50_000 };
            assert_eq!(good.ask(&["SET", key, &"v".repeat(len)]), Value::ok());
        }
        let witness = Witness::of(&subject);
        let bytes: Vec<u8> = (0..40_000).flat_map(|n| encode(&["GET", &keys[n % 8]])).collect();
        let mut never: Vec<Conn> = (0..8).map(|_| subject.open()).collect();
        thread::scope(|scope| {
            for conn in &mut never {
                scope.spawn(|| {
                    let sent = conn.send_within(&bytes, Duration::from_secs(2));
                    assert!(sent > 0, "some was taken");
                });
            }
        });
        until("they are reset", || field(&mut good, "clients", "connected_clients") <= 3);
        witness.ends("never read", LITTLE + 8 * 4 * MIB);
    }
}

#[test]
fn a_byte_at_a_time_is_a_command_in_the_end_and_costs_nobody() {
    let Some(subject) = node(2, "") else { return };
    let witness = Witness::of(&subject);
    let bytes = [encode(&["SET", "a", "1"]), encode(&["MGET", "a", "b"]), b"GET a\r\n".to_vec()].concat();
    let mut all: Vec<Conn> = (0..50).map(|_| subject.open()).collect();
    for byte in &bytes {
        for conn in &mut all {
            assert!(conn.send(&[*byte]));
        }
        thread::sleep(Duration::from_millis(20));
    }
    for conn in &mut all {
        assert_eq!(conn.read(), Ok(Value::ok()));
        assert!(matches!(conn.read(), Ok(Value::Array(_))));
        assert_eq!(conn.read(), Ok(Value::bulk("1")));
    }
    witness.ends("a byte at a time", LITTLE);
}

/// MGET of one key, `n` times.
fn many(key: &str, n: usize) -> Vec<u8> {
    encode(&["MGET"].into_iter().chain(std::iter::repeat_n(key, n)).collect::<Vec<_>>())
}

#[test]
fn one_long_value_asked_for_many_times_is_sent_from_where_it_is() {
    for shards in [1, 2] {
        let Some(subject) = node(shards, "[limits]\nwrite_time = \"3s\"\n") else { return };
        let mut conn = subject.open();
        assert_eq!(conn.ask(&["SET", "long", &"v".repeat(1 << 20)]), Value::ok());
        let witness = Witness::of(&subject);
        // Ten times 400 MiB that nobody reads.
        let mut never: Vec<Conn> = (0..10).map(|_| subject.open()).collect();
        for conn in &mut never {
            conn.send(&many("long", 400));
        }
        until("they are reset", || field(&mut conn, "clients", "connected_clients") <= 3);
        witness.ends("MGET of one long value", LITTLE);
    }
}

#[test]
fn replies_that_are_not_read_are_bounded_all_together() {
    // Copied, not sent from where they are; 100 MiB a reply.
    const TIMES: usize = 7_000;
    const CLIENTS: usize = 16;
    let value = "v".repeat(15_000);
    for shards in [1, 2] {
        let Some(subject) = node(shards, "") else { return };
        let mut conn = subject.open();
        for n in 0..4 {
            assert_eq!(conn.ask(&["SET", &format!("k{n}"), &value]), Value::ok());
        }
        conn.send(&many("k0", 40_000));
        is_error(&conn.read().unwrap(), "ERR the ");
        let witness = Witness::of(&subject);
        let mut never: Vec<Conn> = (0..CLIENTS).map(|_| subject.open()).collect();
        for (n, conn) in never.iter_mut().enumerate() {
            let mget = many(&format!("k{}", n % 4), TIMES);
            match n % 2 {
                0 => conn.send(&mget),
                _ => conn.send(&[encode(&["MULTI"]), mget, encode(&["EXEC"])].concat()),
            };
            thread::sleep(Duration::from_millis(300));
        }
        // Of 1.6 GB one shard lets 1 GiB stand.
        if shards == 1 {
            let some = CLIENTS as u64 - 2;
            until("some are reset", || field(&mut conn, "clients", "connected_clients") <= some);
        }
        // On each shard what is untaken, what is being made, and its copy.
        witness.ends("replies nobody reads", (1 << 30) + shards as u64 * 2 * 256 * MIB);
        drop(never);
    }
}

#[test]
fn a_message_to_many_patterns_and_subscribers_waits_for_them() {
    let Some(subject) = node(1, "") else { return };
    let mut all: Vec<Conn> = (0..200).map(|_| subject.open()).collect();
    for conn in &mut all {
        for pattern in 0..10 {
            assert!(matches!(conn.say(&format!("PSUBSCRIBE c{}", "*".repeat(pattern + 1))), Value::Array(_)));
        }
    }
    let witness = Witness::of(&subject);
    // Eight pipelines, 800,000 messages; those who read get theirs, or are dropped as slow.
    const SENT: usize = 50;
    let mut publishers: Vec<Conn> = (0..8).map(|_| subject.open()).collect();
    for publisher in &mut publishers {
        publisher.send(&encode(&["PUBLISH", "c", "x"]).repeat(SENT));
    }
    for (at, publisher) in publishers.iter_mut().enumerate() {
        for n in 0..SENT {
            let count =
                publisher.read().unwrap_or_else(|cut| panic!("message {n} of publisher {at}: {cut:?}")).int();
            assert!(count.is_some_and(|count| count <= 2_000), "{count:?}");
        }
    }
    let asked = witness.ends("many messages", LITTLE + 200 * MIB);
    assert!(asked >= 8, "behind the publishers others have their turn, and had it {asked} times");
}

#[test]
fn a_transaction_does_not_publish_more_than_may_wait() {
    let Some(subject) = node(1, "") else { return };
    let mut subscribers: Vec<Conn> = (0..20).map(|_| subject.open()).collect();
    for conn in &mut subscribers {
        conn.say("SUBSCRIBE c");
    }
    let mut conn = subject.open();
    assert_eq!(conn.say("MULTI"), Value::ok());
    for _ in 0..1_000 {
        assert_eq!(conn.say("PUBLISH c x"), Value::Simple(b"QUEUED".to_vec()));
    }
    assert_eq!(conn.say("PING"), Value::Simple(b"QUEUED".to_vec()));
    let Value::Array(mut all) = conn.say("EXEC") else { panic!("replies") };
    assert_eq!(all.pop(), Some(Value::Simple(b"PONG".to_vec())), "what sends nothing is run");
    let sent = all.iter().take_while(|reply| **reply == Value::Int(20)).count();
    assert_eq!(sent, 4_096_usize.div_ceil(20), "as many as reach the maximum");
    for refused in &all[sent..] {
        is_error(refused, "ERR too many messages wait for their subscribers");
    }
    for conn in &mut subscribers {
        for n in 0..sent {
            assert!(matches!(conn.read(), Ok(Value::Array(_))), "message {n}");
        }
        assert_eq!(conn.say("UNSUBSCRIBE c").elements().map(<[_]>::len), Some(3), "and no other");
    }
}

#[test]
fn the_replies_of_a_transaction_over_shards_end_at_their_maximum() {
    let Some(subject) = node(2, "") else { return };
    let mut conn = subject.open();
    // 9.6 MB, none of it so long that it is sent from where it is.
    let element = "e".repeat(15_000);
    for _ in 0..640 {
        conn.ask(&["RPUSH", "list", &element]);
    }
    let witness = Witness::of(&subject);
    assert_eq!(conn.say("MULTI"), Value::ok());
    for command in
        std::iter::repeat_n("LRANGE list 0 -1", 70).chain(["SET a 1", "SET b 1", "SET c 1", "SET d 1"])
    {
        assert_eq!(conn.say(command), Value::Simple(b"QUEUED".to_vec()));
    }
    // So long that it is only counted, and its end looked at.
    let mut raw = conn.into_stream();
    raw.write_all(&encode(&["EXEC"])).unwrap();
    let refused = "-ERR the replies before this one have too many bytes: this command was not run; send fewer at once\r\n";
    let (mut len, mut end, mut piece) = (0, Vec::new(), vec![0; 1 << 20]);
    while !end.ends_with(refused.repeat(5).as_bytes()) {
        let n = raw.read(&mut piece).unwrap();
        assert!(n > 0, "closed after {len} bytes");
        len += n;
        end.extend_from_slice(&piece[..n]);
        end.drain(..end.len().saturating_sub(4_096));
    }
    let whole = (512 * MIB).div_ceil(9_600_000);
    let max = (whole + 1) * 9_700_000;
    assert!((512 * MIB..max).contains(&(len as u64)), "{len} bytes");
    let mut conn = subject.open();
    assert_eq!(conn.say("EXISTS a b c d"), Value::Int(0));
    witness.ends("replies of a transaction", 2 * 560 * MIB + LITTLE);
}

// ---- what clients have kept

#[test]
fn what_multi_queues_is_bounded_for_one_client_and_for_all() {
    for shards in [1, 2] {
        let Some(subject) = node(shards, "") else { return };
        let witness = Witness::of(&subject);
        let value = "v".repeat(1 << 20);
        let fill = |conn: &mut Conn, most: usize| {
            assert_eq!(conn.say("MULTI"), Value::ok());
            let mut queued = 0;
            while queued < most {
                let reply = conn.ask(&["SET", "k", &value]);
                if reply != Value::Simple(b"QUEUED".to_vec()) {
                    return (queued, Some(reply));
                }
                queued += 1;
            }
            (queued, None)
        };
        let mut conn = subject.open();
        let (queued, error) = fill(&mut conn, 100);
        is_error(&error.unwrap(), "ERR the transaction is larger than");
        assert_eq!(queued, 63, "64 MiB less what each takes beside its value");
        is_error(&conn.say("EXEC"), "EXECABORT ");
        assert_eq!(conn.say("EXISTS k"), Value::Int(0));
        // Of those about no key EXEC runs all in one step.
        assert_eq!(conn.say("MULTI"), Value::ok());
        conn.send(&b"PING\r\n".repeat(1_025));
        for _ in 0..1_024 {
            assert_eq!(conn.read(), Ok(Value::Simple(b"QUEUED".to_vec())));
        }
        is_error(&conn.read().unwrap(), "ERR a transaction may have 1024 commands that are about no key");
        is_error(&conn.say("EXEC"), "EXECABORT ");
        // Small ones count with what they take.
        assert_eq!(conn.say("MULTI"), Value::ok());
        let small = b"GET k\r\n".repeat(10_000);
        let mut refused = false;
        'all: for _ in 0..120 {
            conn.send(&small);
            for _ in 0..10_000 {
                refused |= conn.read().unwrap().is_error();
            }
            if refused {
                break 'all;
            }
        }
        assert!(refused, "a million small commands are too many");
        assert_eq!(conn.say("RESET"), Value::Simple(b"RESET".to_vec()));
        // And all together: a shard keeps 256 MiB.
        let mut all: Vec<Conn> = (0..shards * 12).map(|_| subject.open()).collect();
        let mut errors = 0;
        for conn in &mut all {
            if let (_, Some(error)) = fill(conn, 40) {
                is_error(&error, "ERR the clients of this shard have as much kept as they may");
                errors += 1;
            }
        }
        assert!(errors >= shards * 12 - 6 * shards, "{errors} of {} were refused", all.len());
        drop(all);
        let mut conn = subject.open();
        until("it is given back", || field(&mut conn, "clients", "clients_kept_bytes") == 0);
        witness.ends("MULTI", shards as u64 * 320 * MIB + LITTLE);
    }
}

#[test]
fn a_connection_watches_4096_keys_and_no_more_bytes_than_there_are_for_all() {
    for shards in [1, 2] {
        let Some(subject) = node(shards, "") else { return };
        let witness = Witness::of(&subject);
        let mut conn = subject.open();
        let keys: Vec<String> = (0..4_096).map(|n| format!("w{n}")).collect();
        let watch: Vec<&str> = ["WATCH"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        assert_eq!(conn.ask(&watch), Value::ok());
        is_error(&conn.say("WATCH one-more"), "ERR a connection may watch 4096 keys");
        let mut other = subject.open();
        assert_eq!(other.say("SET w4095 x"), Value::ok());
        assert_eq!(conn.say("MULTI"), Value::ok());
        assert_eq!(conn.say("PING"), Value::Simple(b"QUEUED".to_vec()));
        assert!(conn.say("EXEC").is_null(), "the last of them was changed");
        // A shard has 256 MiB for all, which are 128 keys of 1 MiB.
        let long = "w".repeat(1 << 20);
        let mut all: Vec<Conn> = (0..160 * shards).map(|_| subject.open()).collect();
        let mut refused = 0;
        for (n, conn) in all.iter_mut().enumerate() {
            let reply = conn.ask(&["WATCH", &format!("{long}{n}")]);
            if reply != Value::ok() {
                is_error(&reply, "ERR the clients of this shard have as much kept as they may");
                refused += 1;
            }
        }
        assert!((31 * shards..=64 * shards).contains(&refused), "{refused} of {} were refused", all.len());
        for conn in &mut all {
            assert_eq!(conn.say("UNWATCH"), Value::ok());
        }
        for conn in &mut all[..8] {
            assert_eq!(conn.ask(&["WATCH", &long]), Value::ok());
        }
        witness.ends("WATCH", shards as u64 * 320 * MIB + LITTLE);
    }
}

#[test]
fn long_names_of_channels_and_of_keys_waited_for_are_bounded() {
    for shards in [1, 2] {
        let Some(subject) = node(shards, "") else { return };
        let witness = Witness::of(&subject);
        // Two of 4 MiB for each, twice: 16 clients find room on a shard.
        let long = "n".repeat(4 << 20);
        let mut all: Vec<Conn> = (0..24 * shards).map(|_| subject.open()).collect();
        let mut names = 0;
        for conn in &mut all {
            for n in 0..2 {
                match conn.ask(&["PSUBSCRIBE", &format!("{long}{n}")]) {
                    Value::Array(_) => names += 1,
                    error => is_error(&error, "ERR the clients of this shard have as much kept as they may"),
                }
            }
        }
        assert!((16..32 * shards).contains(&names), "{names} patterns of 4 MiB");
        drop(all);
        let mut conn = subject.open();
        until("they are given back", || field(&mut conn, "clients", "clients_kept_bytes") == 0);
        // Each waits for a key of 1 MiB, which is kept eight times.
        let long = "k".repeat(1 << 20);
        let mut all: Vec<Conn> = (0..48 * shards).map(|_| subject.open()).collect();
        let mut refused = 0;
        for (n, conn) in all.iter_mut().enumerate() {
            conn.send(&encode(&["BLPOP", &format!("{long}{n}"), "0"]));
            thread::sleep(Duration::from_millis(10));
        }
        until("each waits or is refused", || {
            for conn in &mut all {
                if let Some(error) = conn.read_now().unwrap() {
                    is_error(&error, "ERR the clients of this shard have as much kept as they may");
                    refused += 1;
                }
            }
            field(&mut conn, "clients", "blocked_clients") + refused == all.len() as u64
        });
        assert!(refused >= 16, "{refused} of {} were refused", all.len());
        for conn in &mut all {
            conn.close();
            thread::sleep(Duration::from_millis(20));
        }
        until("they are gone", || field(&mut conn, "clients", "blocked_clients") == 0);
        witness.ends("long names", shards as u64 * 320 * MIB + LITTLE);
    }
}

// ---- commands that ask for much

#[test]
fn commands_on_everything_are_bounded_by_what_there_is() {
    const KEYS: usize = 100_000;
    for shards in [1, 2] {
        let Some(subject) = node(shards, "[cache]\nmemory_max = \"64MiB\"\n[limits]\nwrite_time = \"3s\"\n")
        else {
            return;
        };
        let mut conn = subject.open();
        for part in 0..KEYS / 1_000 {
            let keys: Vec<String> = (0..1_000).map(|n| format!("key:{part}:{n}")).collect();
            let mut set = vec!["MSET"];
            set.extend(keys.iter().flat_map(|key| [key.as_str(), "v"]));
            assert_eq!(conn.ask(&set), Value::ok());
            let mut add = vec!["SADD".to_owned(), format!("set:{}", part % 20)];
            add.extend(keys);
            assert_eq!(conn.ask(&add), Value::Int(1_000));
        }
        let witness = Witness::of(&subject);
        let mut never: Vec<Conn> = (0..10).map(|_| subject.open()).collect();
        for conn in &mut never {
            conn.send(&encode(&["KEYS", "*"]));
        }
        let sets: Vec<String> = (0..20).map(|n| format!("set:{n}")).collect();
        let union: Vec<&str> =
            ["SUNIONSTORE", "all"].into_iter().chain(sets.iter().map(String::as_str)).collect();
        let reply = conn.ask(&union);
        assert!(reply.int() == Some(i64::try_from(KEYS).unwrap()) || reply.is_error(), "{reply:?}");
        let found = conn.say("KEYS *");
        assert!(found.elements().is_some_and(|keys| keys.len() > KEYS / 2), "KEYS * has most of them");
        witness.ends("KEYS and SUNIONSTORE", 256 * MIB + LITTLE);
        drop(never);
    }
}

#[test]
fn a_string_that_grows_beyond_the_memory_is_refused_before_it_does() {
    for shards in [1, 2] {
        let Some(subject) = node(shards, "[cache]\nmemory_max = \"32MiB\"\n") else { return };
        let witness = Witness::of(&subject);
        let mut conn = subject.open();
        for command in [
            "SETRANGE k 536870911 x",
            "SETBIT k 4294967295 1",
            "SETRANGE k 33554432 x",
            "BITFIELD k SET u8 4294967288 1",
        ] {
            for _ in 0..4 {
                let reply = conn.say(command);
                assert!(reply.is_error(), "{command}: {reply:?}");
            }
        }
        is_error(&conn.say("SETRANGE k 536870912 x"), "ERR string exceeds maximum allowed size");
        is_error(&conn.say("SETRANGE k 9223372036854775807 x"), "ERR string exceeds maximum allowed size");
        assert_eq!(conn.say("EXISTS k"), Value::Int(0));
        assert_eq!(conn.say("SETRANGE k 1000000 x"), Value::Int(1_000_001));
        witness.ends("strings that grow", LITTLE);
    }
}

#[test]
fn patterns_of_many_stars_on_long_names_take_a_bounded_time() {
    let Some(subject) = node(1, "") else { return };
    let mut conn = subject.open();
    let long = "a".repeat(60_000);
    for n in 0..20 {
        assert_eq!(conn.ask(&["SET", &format!("{long}{n}"), "v"]), Value::ok());
    }
    let witness = Witness::of(&subject);
    let deep = format!("{}b", "a*".repeat(2_000));
    for pattern in ["a*a*a*a*b", "*a*a*a*a*b", deep.as_str(), "[a-z]*[a-z]*[a-z]*b"] {
        assert_eq!(conn.ask(&["KEYS", pattern]), Value::Array(Vec::new()));
        assert!(matches!(conn.ask(&["SCAN", "0", "MATCH", pattern, "COUNT", "1000"]), Value::Array(_)));
        let mut subscriber = subject.open();
        assert!(matches!(subscriber.ask(&["PSUBSCRIBE", pattern]), Value::Array(_)));
        assert_eq!(conn.ask(&["PUBLISH", &long, "x"]), Value::Int(0));
    }
    witness.ends("deep patterns", LITTLE);
}
