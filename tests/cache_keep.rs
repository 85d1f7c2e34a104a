//! Snapshots of a whole node, as its clients and its operator see them.
//!
//! Not here: snapshots step by step, with a crash after each (`src/services/cache/snapshot/tests.rs`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
mod resp;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Client, Node, app, limits, server, until};
use corelane::config::{Listen, SnapshotConfig};
use corelane::services::cache::snapshot::OnError;
use corelane::{App, Cache, CacheConfig, Limits, Server, StartError};
use resp::{Conn, Value, encode};

fn config(dir: &Path) -> SnapshotConfig {
    SnapshotConfig { dir: Some(dir.to_owned()), ..SnapshotConfig::default() }
}

fn any() -> Listen {
    Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn cache(shards: u16, snapshots: SnapshotConfig) -> Server {
    server().shards(shards).resp(any()).snapshots(snapshots)
}

fn open(node: &Node) -> Conn {
    let place = node.running().resp_listens().first().and_then(Listen::tcp);
    Conn::open(place.expect("an address"))
}

/// A field of `INFO persistence`.
fn info(conn: &mut Conn, field: &str) -> String {
    let (Value::Bulk(text) | Value::Verbatim(text)) = conn.say("INFO persistence") else { panic!("text") };
    let text = String::from_utf8(text).unwrap();
    let start = format!("{field}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("{field} is not in {text}")).to_owned()
}

fn number(conn: &mut Conn, field: &str) -> u64 {
    info(conn, field).parse().unwrap()
}

fn error(text: &str) -> Value {
    Value::Error(text.as_bytes().to_vec())
}

#[test]
fn keys_of_every_kind_and_their_expiry_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    // Other shards, so other owners of the keys.
    for (shards, again) in [(2, 1), (1, 3)] {
        let node = Node::of(cache(shards, config(dir.path())));
        let mut conn = open(&node);
        conn.say("FLUSHALL");
        for n in 0..500 {
            assert_eq!(conn.say(&format!("SET key:{n} value:{n}")), Value::ok());
        }
        conn.say("SET soon gone PX 1");
        conn.say("SET late v PX 600000");
        conn.say("RPUSH list a b c");
        conn.say("HSET hash f v");
        conn.say("ZADD zset 1.5 m");
        conn.say("SADD set m");
        node.drain();
        let node = Node::of(cache(again, config(dir.path())));
        let mut conn = open(&node);
        assert_eq!(conn.say("DBSIZE"), Value::Int(505));
        for n in 0..500 {
            assert_eq!(conn.say(&format!("GET key:{n}")), Value::bulk(format!("value:{n}")));
        }
        let Value::Int(ttl) = conn.say("PTTL late") else { panic!("a number") };
        assert!((500_000..600_000).contains(&ttl), "{ttl}");
        assert_eq!(conn.say("TTL key:1"), Value::Int(-1));
        assert_eq!(conn.say("LRANGE list 0 -1"), Value::Array(["a", "b", "c"].map(Value::bulk).to_vec()));
        assert_eq!(conn.say("HGET hash f"), Value::bulk("v"));
        assert_eq!(conn.say("ZSCORE zset m"), Value::bulk("1.5"));
        assert_eq!(conn.say("SISMEMBER set m"), Value::Int(1));
        assert_eq!(number(&mut conn, "rdb_last_load_keys_loaded"), 505);
        assert_eq!(number(&mut conn, "rdb_changes_since_last_save"), 0, "what was loaded is saved");
    }
}

#[test]
fn keys_that_only_http_clients_have_are_kept_too() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let keys = Cache::new(CacheConfig::default());
        let node = server().shards(2).cache(keys.clone()).snapshots(config(dir.path()));
        Node::serving(node, move || corelane::services::cache::http::routes(App::new(()), &keys))
    };
    let node = start();
    let mut client = Client::connect(node.addr);
    client.send("PUT /cache/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nvalue");
    assert_eq!(client.answer().status, 201);
    node.drain();
    let node = start();
    assert_eq!(Client::connect(node.addr).get("/cache/k").text(), "value");
}

#[test]
fn clients_save_as_they_do_with_redis() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::of(cache(2, SnapshotConfig { at_drain: false, ..config(dir.path()) }));
    let mut conn = open(&node);
    let Value::Int(before) = conn.say("LASTSAVE") else { panic!("a number") };
    assert_eq!(info(&mut conn, "rdb_last_save_time"), before.to_string());
    conn.say("MSET a 1 b 2 c 3");
    assert_eq!(number(&mut conn, "rdb_changes_since_last_save"), 3);
    assert_eq!(info(&mut conn, "rdb_last_bgsave_time_sec"), "-1");
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(conn.say("SAVE"), Value::ok());
    assert_eq!(number(&mut conn, "rdb_changes_since_last_save"), 0);
    assert_eq!(number(&mut conn, "rdb_saves"), 1);
    let Value::Int(after) = conn.say("LASTSAVE") else { panic!("a number") };
    assert!(after > before, "{after} {before}");
    for command in ["BGSAVE", "BGSAVE SCHEDULE", "bgsave schedule"] {
        until("none is under way", || number(&mut conn, "rdb_bgsave_in_progress") == 0);
        let begun = number(&mut conn, "rdb_saves");
        assert_eq!(conn.say(command), Value::Simple(b"Background saving started".to_vec()));
        until("it is made", || number(&mut conn, "rdb_saves") == begun + 1);
    }
    assert_eq!(conn.say("BGSAVE NOW"), error("ERR syntax error"));
    assert_eq!(conn.say("SAVE NOW"), error("ERR wrong number of arguments for 'save' command"));
    // The second of two is read while the first is under way.
    conn.send(&[encode(&["BGSAVE"]), encode(&["SAVE"])].concat());
    assert_eq!(conn.read().unwrap(), Value::Simple(b"Background saving started".to_vec()));
    assert_eq!(conn.read().unwrap(), error("ERR Background save already in progress"));
    assert_eq!(
        conn.say("CONFIG GET dir"),
        Value::Array(vec![Value::bulk("dir"), Value::bulk(dir.path().to_str().unwrap())])
    );
}

#[test]
fn a_node_without_a_directory_says_what_to_set() {
    let node = Node::of(cache(1, SnapshotConfig::default()));
    let mut conn = open(&node);
    let says = "ERR this node keeps no snapshots: set cache.snapshot_dir to a directory and start it again";
    assert_eq!((conn.say("SAVE"), conn.say("BGSAVE")), (error(says), error(says)));
    assert!(matches!(conn.say("LASTSAVE"), Value::Int(at) if at > 1_700_000_000));
}

#[test]
fn snapshots_are_made_each_so_often_where_keys_were_changed() {
    let dir = tempfile::tempdir().unwrap();
    let often = SnapshotConfig { every: Duration::from_millis(50), at_drain: false, ..config(dir.path()) };
    let node = Node::of(cache(2, often));
    let mut conn = open(&node);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(number(&mut conn, "rdb_saves"), 0, "nothing was changed");
    conn.say("SET k v");
    until("it is saved", || number(&mut conn, "rdb_saves") == 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(number(&mut conn, "rdb_saves"), 1);
    node.drain();
    let node = Node::of(cache(1, config(dir.path())));
    assert_eq!(open(&node).say("GET k"), Value::bulk("v"));
}

#[test]
fn a_snapshot_at_drain_that_takes_too_long_is_given_up_and_the_one_before_kept() {
    let dir = tempfile::tempdir().unwrap();
    let ms = Duration::from_millis;
    let limits = Limits { drain_idle: ms(10), drain_time: ms(30), ..limits() };
    let node = Node::of(cache(2, config(dir.path())).limits(limits));
    let mut conn = open(&node);
    conn.say("SET small v");
    assert_eq!(conn.say("SAVE"), Value::ok());
    // With a millisecond between slices of 256, they take 80 ms.
    fill(&mut conn, 40_000, "v");
    let begun = Instant::now();
    node.drain();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let node = Node::of(cache(1, config(dir.path())));
    let mut conn = open(&node);
    assert_eq!((conn.say("DBSIZE"), conn.say("GET small")), (Value::Int(1), Value::bulk("v")));
}

/// The file of a shard with at least one key, of the only snapshot there is.
fn file_of(dir: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "snap")).collect();
    files.sort_by_key(|path| path.metadata().unwrap().len());
    files.pop().expect("there is a snapshot")
}

#[test]
fn a_flipped_byte_is_refused_with_the_reason_or_leads_to_an_empty_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::of(cache(2, config(dir.path())));
    open(&node).say("MSET a 1 b 2 c 3 d 4");
    node.drain();
    let file = file_of(dir.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let refused = || match cache(2, config(dir.path())).start(|_| app()) {
        Ok(_) => panic!("it is damaged"),
        Err(StartError::Snapshot(why)) => why,
        Err(other) => panic!("{other}"),
    };
    let why = refused();
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(why.contains(name) && why.contains("cache.snapshot_on_error"), "{why}");
    assert_eq!(refused(), why, "a start that failed has left it as it was");
    let empty = SnapshotConfig { on_error: OnError::Empty, ..config(dir.path()) };
    let node = Node::of(cache(2, empty));
    let mut conn = open(&node);
    assert_eq!(conn.say("DBSIZE"), Value::Int(0));
    assert_eq!(conn.say("SET e 5"), Value::ok());
    node.drain();
    let node = Node::of(cache(1, config(dir.path())));
    assert_eq!(open(&node).say("GET e"), Value::bulk("5"), "the next snapshot has taken its place");
}

#[test]
fn a_directory_is_one_nodes_and_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::of(cache(1, config(dir.path())));
    let refused = |path: &Path| match cache(1, config(path)).start(|_| app()) {
        Ok(_) => panic!("it must not start"),
        Err(error) => error.to_string(),
    };
    assert!(refused(dir.path()).contains("used by another node"));
    assert!(refused(&dir.path().join("none")).contains("install -d -m 700"));
    node.drain();
}

// ---- the built program

/// The built program with a directory for snapshots; killed when dropped.
struct Program {
    child: Child,
    addr: SocketAddr,
}

impl Program {
    /// `before` is what a shell does first.
    fn start(dir: &Path, before: &str, settings: &str) -> Program {
        let config = dir.join("node.toml");
        let text = format!(
            "listen = '127.0.0.1:0'\nadmin = 'off'\nshards = 2\npin = false\n[resp]\nlisten = '127.0.0.1:0'\n\
             [cache]\nmemory_max = 0\nsnapshot_dir = '{}'\n{settings}\n[limits]\nconnections_max = 1000\n",
            dir.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("CORELANE_")) {
            command.env_remove(name);
        }
        let script = format!("{before} exec \"$0\" --config \"$1\"");
        command.args(["-c", &script]).arg(env!("CARGO_BIN_EXE_corelane")).arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let place = lines.find_map(|line| line.strip_prefix("listening on redis://").map(str::to_owned));
        std::thread::spawn(move || lines.for_each(drop));
        let addr = place.expect("it listens").trim_end_matches('/').parse().unwrap();
        Program { child, addr }
    }

    fn signal(&mut self, name: &str) {
        let script = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sets `count` keys to a value, in pipelines.
fn fill(conn: &mut Conn, count: usize, value: &str) {
    let keys: Vec<usize> = (0..count).collect();
    for some in keys.chunks(1_000) {
        let commands: Vec<u8> =
            some.iter().flat_map(|n| encode(&["SET", &format!("key:{n}"), value])).collect();
        assert!(conn.send(&commands));
        for _ in some {
            assert_eq!(conn.read().unwrap(), Value::ok());
        }
    }
}

#[test]
fn a_kill_in_the_middle_of_a_snapshot_keeps_the_one_before() {
    const KEYS: usize = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::start(dir.path(), "", "");
    let mut conn = Conn::open(program.addr);
    fill(&mut conn, KEYS, "old");
    assert_eq!(conn.say("SAVE"), Value::ok());
    fill(&mut conn, KEYS, "new");
    assert_eq!(conn.say("BGSAVE"), Value::Simple(b"Background saving started".to_vec()));
    until("it is in the middle", || {
        assert_eq!(number(&mut conn, "rdb_bgsave_in_progress"), 1, "it has not ended yet");
        (500..KEYS as u64 / 2).contains(&number(&mut conn, "current_save_keys_processed"))
    });
    program.signal("KILL");
    let mut program = Program::start(dir.path(), "", "");
    let mut conn = Conn::open(program.addr);
    assert_eq!(conn.say("DBSIZE"), Value::Int(KEYS as i64));
    for n in (0..KEYS).step_by(997) {
        assert_eq!(conn.say(&format!("GET key:{n}")), Value::bulk("old"), "{n}");
    }
    // And a signal saves.
    conn.say("SET key:0 newest");
    program.signal("TERM");
    let program = Program::start(dir.path(), "", "");
    assert_eq!(Conn::open(program.addr).say("GET key:0"), Value::bulk("newest"));
}

#[test]
fn a_disk_that_takes_no_more_keeps_the_snapshot_before_and_is_said() {
    let dir = tempfile::tempdir().unwrap();
    // No file may be larger than 64 KiB: as full as a disk can be for one process.
    let mut program = Program::start(dir.path(), "trap '' XFSZ; ulimit -f 128;", "");
    let mut conn = Conn::open(program.addr);
    conn.say("SET small v");
    assert_eq!(conn.say("SAVE"), Value::ok());
    fill(&mut conn, 20_000, &"x".repeat(100));
    let said = conn.say("SAVE");
    assert!(matches!(&said, Value::Error(text) if text.starts_with(b"ERR cannot write cache-")), "{said:?}");
    assert_eq!(info(&mut conn, "rdb_last_bgsave_status"), "err");
    assert!(number(&mut conn, "rdb_changes_since_last_save") >= 20_000);
    program.signal("TERM");
    let program = Program::start(dir.path(), "", "");
    let mut conn = Conn::open(program.addr);
    assert_eq!((conn.say("DBSIZE"), conn.say("GET small")), (Value::Int(1), Value::bulk("v")));
    assert_eq!(conn.say("SAVE"), Value::ok());
}
