//! What is behind the cache and what outlives it: a real `redis-server` as second tier, and snapshots in real files.
//!
//! Not here: every step of either on its own (`upstream` and `snapshot` test those), commands of clients.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use common::{Node, until};
use corelane::services::cache::Cache;
use corelane::services::cache::snapshot::{
    self, Disk, Keys, Loaded, Outcome, State, load_part, put, save_part,
};
use corelane::services::cache::store::{Config, Expiry, KeyHasher, Now, Store};
use corelane::services::cache::upstream::{
    Fetched, Local, Mode, Settings, Unavailable, Upstream, Url, WriteError, WriteOp, breaker, forget_strings,
};
use corelane::services::cache::value::{Str, Value};
use corelane::{Sharded, mesh, sleep, spawn};
use crossbeam_channel::bounded;

const SOON: Duration = Duration::from_secs(30);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Runs a future as a task of the first shard of a node.
#[track_caller]
fn on<T, F, Fut>(node: &Node, make: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let (done, result) = bounded(1);
    let handle = node.running().shards().swap_remove(0);
    let start = move |_: &corelane::Shard| {
        let task = spawn(async move { drop(done.send(make().await)) });
        task.unwrap().detach();
    };
    handle.send(start).unwrap();
    result.recv_timeout(SOON).expect("the task came to its end")
}

// ---- a server of others

/// `redis-server` without files, ended when dropped.
struct Redis {
    addr: SocketAddr,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// None where it is missing, which fails on a build machine.
    fn start(arguments: &[&str]) -> Option<Redis> {
        common::redis_server()?;
        common::tool("redis-cli")?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let arguments = arguments.iter().map(|one| (*one).to_owned()).collect();
        let mut redis = Redis { addr, arguments, child: None };
        redis.run();
        Some(redis)
    }

    fn run(&mut self) {
        let mut command = common::redis_server().unwrap();
        command.args(["--port", &self.addr.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--enable-debug-command", "yes"]).args(&self.arguments);
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

    fn ask(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.addr.port().to_string()])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// How often a command was run, by its own count.
    fn calls(&self, command: &str) -> u64 {
        let all = self.ask(&["info", "commandstats"]);
        let start = format!("cmdstat_{command}:calls=");
        let line = all.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    fn settings(&self) -> Settings {
        Settings::new(Url::parse(&format!("redis://{}", self.addr)).unwrap())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

// ---- a store of one shard

struct Here(RefCell<Store>);

impl Here {
    fn new() -> Rc<Here> {
        Rc::new(Here(RefCell::new(Store::new(Config::default(), KeyHasher::random(), Now::default()))))
    }

    fn with<R>(&self, f: impl FnOnce(&mut Store) -> R) -> R {
        let mut store = self.0.borrow_mut();
        store.set_now(self.now());
        f(&mut store)
    }

    fn get(&self, key: &str) -> Option<String> {
        self.with(|store| {
            let hasher = store.hasher().clone();
            let found = store.get_str(hasher.key(key.as_bytes())).unwrap();
            found.map(|value| match value {
                Str::Int(n) => n.to_string(),
                Str::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Str::Shared(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            })
        })
    }

    fn set(&self, key: &str, value: &str, expires_at: Option<u64>) -> WriteOp {
        self.with(|store| {
            let hasher = store.hasher().clone();
            let key = hasher.key(key.as_bytes());
            store.set_str(key, value.as_bytes(), expires_at.map_or(Expiry::Never, Expiry::At)).unwrap();
            WriteOp::of_state(store, key).unwrap()
        })
    }
}

impl Local for Here {
    fn now(&self) -> Now {
        Now { unix_ms: unix_ms(), mono_ms: unix_ms() }
    }

    fn store(&self, key: &[u8], value: &Bytes, expires_at: Option<u64>) -> bool {
        self.with(|store| {
            let hasher = store.hasher().clone();
            let key = hasher.key(key);
            if store.kind(key).is_none() {
                store.set_str(key, value, expires_at.map_or(Expiry::Never, Expiry::At)).unwrap();
            }
        });
        true
    }

    fn forget(&self, key: &[u8]) {
        self.with(|store| {
            let hasher = store.hasher().clone();
            store.remove(hasher.key(key))
        });
    }

    fn forget_all(&self) {
        let mut cursor = 0;
        loop {
            cursor = self.with(|store| forget_strings(store, cursor, 1_000));
            if cursor == 0 {
                break;
            }
        }
    }
}

/// The second tier with its store, connected.
async fn tier(settings: Settings) -> (Upstream, Rc<Here>) {
    let here = Here::new();
    let upstream = Upstream::start(settings, Rc::clone(&here) as Rc<dyn Local>).unwrap();
    comes_up(&upstream).await;
    (upstream, here)
}

async fn comes_up(upstream: &Upstream) {
    let begun = Instant::now();
    while !upstream.is_up() {
        assert!(begun.elapsed() < SOON, "{upstream:?} is not reached");
        sleep(ms(5)).await;
    }
}

async fn until_here(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < SOON, "it is still not so: {what}");
        sleep(ms(5)).await;
    }
}

#[test]
fn a_hundred_misses_of_one_key_are_one_get_at_the_server() {
    let Some(redis) = Redis::start(&[]) else { return };
    redis.ask(&["set", "k", "value", "px", "60000"]);
    let node = Node::new();
    let settings = redis.settings();
    let values = on(&node, || async move {
        let (upstream, here) = tier(settings).await;
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let upstream = upstream.clone();
                spawn(async move { upstream.fetch(b"k").await }).unwrap()
            })
            .collect();
        let mut values = Vec::new();
        for task in tasks {
            let Fetched::Found { value, expires_at: Some(at), stored: true } = task.await.unwrap() else {
                panic!("it is there")
            };
            assert!(at > unix_ms() + 30_000 && at <= unix_ms() + 60_000);
            values.push(value);
        }
        assert_eq!(here.get("k").unwrap(), "value");
        for _ in 0..3 {
            assert_eq!(upstream.fetch(b"none").await, Fetched::Absent);
        }
        values
    });
    assert!(values.len() == 100 && values.iter().all(|value| value == "value"));
    assert_eq!(redis.calls("get"), 2, "one for each key");
    node.comes_to_rest();
}

#[test]
fn writes_go_through_with_their_expiry_and_changes_of_others_come_back() {
    let Some(redis) = Redis::start(&[]) else { return };
    let redis = Arc::new(redis);
    let (node, there) = (Node::new(), Arc::clone(&redis));
    on(&node, move || async move {
        let (upstream, here) = tier(there.settings()).await;
        let written = upstream.write(here.set("k", "1", Some(unix_ms() + 50_000)));
        written.await.unwrap();
        upstream.write(here.set("n", "42", None)).await.unwrap();
        assert_eq!((there.ask(&["get", "k"]), there.ask(&["get", "n"])), ("1".into(), "42".into()));
        let ttl: u64 = there.ask(&["pttl", "k"]).parse().unwrap();
        assert!((30_000..=50_000).contains(&ttl), "{ttl}");
        assert_eq!(upstream.stats().invalidations, 0, "of our own writes we are not told");
        there.ask(&["set", "k", "2"]);
        until_here("the change is known", || here.get("k").is_none()).await;
        assert_eq!(here.get("n").unwrap(), "42");
        assert!(matches!(upstream.fetch(b"k").await, Fetched::Found { value, .. } if value == "2"));
        there.ask(&["flushall"]);
        until_here("everything is forgotten", || here.get("n").is_none()).await;
        upstream.write(WriteOp::Delete { key: (*b"k").into() }).await.unwrap();
        there.ask(&["rpush", "list", "x"]);
        assert_eq!(upstream.fetch(b"list").await, Fetched::Absent, "no string");
    });
    node.comes_to_rest();
}

#[test]
fn a_stopped_server_opens_the_breaker_and_a_restarted_one_is_found() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let node = Node::new();
    on(&node, move || async move {
        let (upstream, here) = tier(redis.settings()).await;
        upstream.write(here.set("k", "v", None)).await.unwrap();
        redis.stop();
        until_here("the end is noticed", || !upstream.is_up()).await;
        for _ in 0..5 {
            assert!(matches!(upstream.fetch(b"other").await, Fetched::Unavailable(_)));
        }
        assert_eq!(upstream.breaker(), breaker::State::Open);
        assert_eq!(upstream.fetch(b"other").await, Fetched::Unavailable(Unavailable::Open));
        assert_eq!(here.get("k").unwrap(), "v", "what is here is served");
        let error = upstream.write(here.set("l", "v", None)).await.unwrap_err();
        assert_eq!(error, WriteError::Unavailable(Unavailable::Open));
        assert_eq!((here.get("k").unwrap(), here.get("l")), ("v".into(), None));
        redis.run();
        comes_up(&upstream).await;
        assert_eq!(here.get("k"), None, "what changed meanwhile nobody told");
        let begun = Instant::now();
        while upstream.fetch(b"other").await != Fetched::Absent {
            assert!(begun.elapsed() < SOON, "{:?}", upstream.stats());
            sleep(ms(20)).await;
        }
        assert_eq!(upstream.stats().connects, 2);
    });
    node.comes_to_rest();
}

#[test]
fn writes_behind_wait_for_a_stopped_server_and_the_last_of_each_key_arrives() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let node = Node::new();
    on(&node, move || async move {
        let settings = Settings { mode: Mode::Behind, queue_keys_max: 200, ..redis.settings() };
        let (upstream, here) = tier(settings).await;
        redis.stop();
        until_here("the end is noticed", || !upstream.is_up()).await;
        for round in 0..5 {
            for n in 0..200 {
                let op = here.set(&format!("k{n}"), &format!("{round}"), None);
                upstream.write(op).await.unwrap();
            }
        }
        let error = upstream.write(here.set("one more", "v", None)).await.unwrap_err();
        assert!(matches!(error, WriteError::QueueFull(_)), "{error}");
        assert_eq!(here.get("one more"), None);
        assert_eq!(upstream.stats().queue_keys, 200);
        redis.run();
        assert_eq!(upstream.flush(SOON).await, 0);
        assert_eq!(redis.ask(&["dbsize"]), "200");
        assert_eq!(redis.calls("set"), 200, "writes of a key are joined");
        assert!((0..200).all(|n| n % 50 != 0 || redis.ask(&["get", &format!("k{n}")]) == "4"));
    });
    node.comes_to_rest();
}

#[test]
fn a_slow_server_costs_one_deadline_and_not_the_node() {
    let Some(redis) = Redis::start(&[]) else { return };
    let redis = Arc::new(redis);
    let (node, there) = (Node::new(), Arc::clone(&redis));
    on(&node, move || async move {
        let (upstream, here) = tier(there.settings()).await;
        let sleeping = Arc::clone(&there);
        let thread = std::thread::spawn(move || sleeping.ask(&["debug", "sleep", "1.5"]));
        sleep(ms(300)).await;
        let begun = Instant::now();
        let fetched = upstream.fetch(b"k").await;
        assert!(matches!(fetched, Fetched::Unavailable(_)), "{fetched:?}");
        let took = begun.elapsed();
        assert!(took >= ms(250) && took < ms(1_100), "{took:?}");
        let error = upstream.write(here.set("k", "v", None)).await.unwrap_err();
        assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
        assert_eq!(here.get("k"), None);
        thread.join().unwrap();
        comes_up(&upstream).await;
        upstream.write(here.set("k", "v", None)).await.unwrap();
        assert_eq!(there.ask(&["get", "k"]), "v");
    });
    node.comes_to_rest();
}

#[test]
fn a_login_and_a_database_are_used_and_a_wrong_password_is_no_connection() {
    let Some(redis) = Redis::start(&["--requirepass", "s3cret:@"]) else { return };
    let node = Node::new();
    let addr = redis.addr;
    on(&node, move || async move {
        let url = Url::parse(&format!("redis://:s3cret%3a%40@{addr}/5")).unwrap();
        let (upstream, here) = tier(Settings::new(url)).await;
        upstream.write(here.set("k", "v", None)).await.unwrap();
        let url = Url::parse(&format!("redis://:wrong@{addr}")).unwrap();
        let other = Upstream::start(Settings::new(url), Here::new() as Rc<dyn Local>).unwrap();
        sleep(ms(500)).await;
        assert!(!other.is_up());
        assert!(matches!(other.fetch(b"k").await, Fetched::Unavailable(Unavailable::Call(_))));
    });
    let said = redis.ask(&["--no-auth-warning", "-a", "s3cret:@", "-n", "5", "get", "k"]);
    assert_eq!(said, "v");
    node.comes_to_rest();
}

// ---- snapshots in real files

type Shards = Sharded<Rc<RefCell<Store>>>;

fn shards() -> Shards {
    let hasher = KeyHasher::random();
    Sharded::new(move |_| {
        let now = Now { unix_ms: unix_ms(), mono_ms: 0 };
        Rc::new(RefCell::new(Store::new(Config::default(), hasher.clone(), now)))
    })
}

fn owner(key: &[u8]) -> corelane::ShardId {
    mesh().owner(key)
}

/// Sets `count` keys, all with this value.
async fn fill(shards: &Shards, count: u32, value: i64) {
    for n in 0..count {
        let set = move |store: &Rc<RefCell<Store>>| {
            let mut store = store.borrow_mut();
            let hasher = store.hasher().clone();
            let key = format!("key{n}");
            store.set_int(hasher.key(key.as_bytes()), value, Expiry::Never).unwrap();
        };
        let to = owner(format!("key{n}").as_bytes());
        shards.on(to, set).await.unwrap();
    }
}

async fn save_all(path: &Path, shards: &Shards, state: &Arc<State>) -> snapshot::Manifest {
    let (disk, now) = (Disk::new(path), unix_ms());
    let _running = state.begin(0).unwrap();
    let count = u16::try_from(mesh().shards()).unwrap();
    let part = |generation, shard| {
        let (disk, shards, state) = (disk.clone(), shards.clone(), Arc::clone(state));
        let call = mesh().run(corelane::ShardId(shard), move |_| async move {
            let keys: Rc<RefCell<Store>> = Rc::clone(&shards.here());
            save_part(&disk, &state, generation, now, shard, &keys).await
        });
        async move { call.await.map_err(|error| snapshot::SnapshotError::Shard(error.to_string()))? }
    };
    snapshot::save(&disk, state, now, count, part).await.unwrap()
}

async fn load_all(path: &Path, shards: &Shards) -> Outcome {
    let (disk, state) = (Disk::new(path), State::default());
    let manifest = snapshot::find(&disk).await.unwrap().expect("there is a snapshot");
    for part in &manifest.parts {
        snapshot::verify_part(&disk, manifest.generation, part).await.unwrap();
    }
    let mut outcome = Outcome::default();
    for part in &manifest.parts {
        let deliver = async |batch: Vec<Loaded>| {
            let mut by_owner: Vec<Vec<Loaded>> = mesh().all().map(|_| Vec::new()).collect();
            for one in batch {
                by_owner[usize::from(owner(&one.key).0)].push(one);
            }
            for (to, batch) in mesh().all().zip(by_owner) {
                let set = |store: &Rc<RefCell<Store>>| store.with(|store| put(store, batch));
                outcome = outcome.and(shards.on(to, set).await.unwrap());
            }
            Ok(())
        };
        load_part(&disk, &state, manifest.generation, part, unix_ms(), deliver).await.unwrap();
    }
    outcome
}

/// How many keys there are, and the values among them.
async fn content(shards: &Shards) -> (u64, Vec<i64>) {
    let look = |store: &Rc<RefCell<Store>>| {
        let (mut cursor, mut count, mut values) = (0, 0, Vec::new());
        loop {
            cursor = store.borrow_mut().scan(cursor, 1_000, |_, value| {
                count += 1;
                if let corelane::services::cache::value::ValueRef::Str(Str::Int(n)) = value
                    && !values.contains(&n)
                {
                    values.push(n);
                }
            });
            if cursor == 0 {
                return (count, values);
            }
        }
    };
    let mut all = (0, Vec::new());
    for part in shards.each(look).await {
        let (count, values) = part.unwrap();
        all.0 += count;
        all.1.extend(values);
    }
    all.1.sort_unstable();
    all.1.dedup();
    all
}

#[test]
fn two_shards_write_what_one_reads_and_the_other_way_round() {
    let dir = tempfile::tempdir().unwrap();
    for (writing, reading) in [(2, 1), (1, 2)] {
        let path = dir.path().to_owned();
        let node = Node::of(common::server().shards(writing));
        on(&node, move || async move {
            let (shards, state) = (shards(), Arc::new(State::default()));
            fill(&shards, 20_000, 7).await;
            let large = Value::Bytes(Bytes::from(vec![b'x'; 5 << 20]));
            let set = move |store: &Rc<RefCell<Store>>| {
                let mut store = store.borrow_mut();
                let hasher = store.hasher().clone();
                store.insert(hasher.key(b"large"), large, Expiry::Never).unwrap();
            };
            shards.on(owner(b"large"), set).await.unwrap();
            let manifest = save_all(&path, &shards, &state).await;
            assert_eq!(manifest.entries(), 20_001);
            assert_eq!((state.progress().0, state.counts(), state.is_running()), (20_001, (1, 0), false));
        });
        drop(node);
        let names = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, usize::from(writing) + 1, "the files of the one before are gone");
        let path = dir.path().to_owned();
        let node = Node::of(common::server().shards(reading));
        on(&node, move || async move {
            let shards = shards();
            let outcome = load_all(&path, &shards).await;
            assert_eq!(outcome, Outcome { loaded: 20_001, ..Outcome::default() });
            assert_eq!(content(&shards).await, (20_001, vec![7]));
        });
    }
}

#[test]
fn a_cache_takes_a_snapshot_and_makes_the_same_one() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let paths = (first.path().to_owned(), second.path().to_owned());
    let node = Node::of(common::server().shards(2));
    on(&node, move || async move {
        let (before, state) = (shards(), Arc::new(State::default()));
        fill(&before, 5_000, 3).await;
        save_all(&paths.0, &before, &state).await;
        let cache = Cache::new(Config::default());
        let (from, to) = (Disk::new(&paths.0), Disk::new(&paths.1));
        assert_eq!(cache.load(&to, &state).await, Ok(None), "there is none");
        let outcome = cache.load(&from, &state).await.unwrap().unwrap();
        assert_eq!(outcome, Outcome { loaded: 5_000, ..Outcome::default() });
        assert_eq!(state.progress(), (5_000, 5_000));
        let manifest = cache.save(&to, &state).await.unwrap();
        assert_eq!((manifest.entries(), manifest.parts.len()), (5_000, 2));
        assert!(
            manifest.parts.iter().all(|part| part.sum.entries > 1_000),
            "both shards have keys: {manifest:?}"
        );
        let running = state.begin(1).unwrap();
        assert_eq!(cache.save(&to, &state).await, Err(snapshot::SnapshotError::Busy));
        drop(running);
        let after = shards();
        load_all(&paths.1, &after).await;
        assert_eq!(content(&after).await, (5_000, vec![3]));
    });
}

const CHILD: &str = "CACHE_TIER_SNAPSHOT_DIR";

#[test]
fn a_node_killed_while_it_saves_leaves_a_whole_snapshot() {
    const KEYS: u32 = 3_000;
    if let Some(path) = std::env::var_os(CHILD) {
        // The child: snapshot after snapshot, each with one value more, until it is killed.
        let node = Node::of(common::server().shards(2));
        on(&node, move || async move {
            let (shards, state) = (shards(), Arc::new(State::default()));
            for value in 1.. {
                fill(&shards, KEYS, value).await;
                save_all(Path::new(&path), &shards, &state).await;
            }
        });
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..6_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_node_killed_while_it_saves_leaves_a_whole_snapshot"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let manifest = dir.path().join("cache.manifest");
        let written = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
        let old = written(&manifest);
        until("a snapshot was made", || written(&manifest) != old);
        std::thread::sleep(ms(3 + 17 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let (node, path) = (Node::new(), dir.path().to_owned());
        let (outcome, (count, values)) = on(&node, move || async move {
            let shards = shards();
            let outcome = load_all(&path, &shards).await;
            (outcome, content(&shards).await)
        });
        assert_eq!((outcome.loaded, count), (KEYS.into(), KEYS.into()));
        assert_eq!(values.len(), 1, "keys of several snapshots: {values:?}");
    }
}
