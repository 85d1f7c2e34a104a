//! Snapshots on a directory that ends in the middle, and on real files.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::*;
use crate::services::cache::command::run_one;
use crate::services::cache::store::{Config, KeyHasher, Now};
use corelane_proto_resp::Version;

/// A file: what a crash leaves of it, and what is there now.
#[derive(Clone, Debug, Default)]
struct Content {
    synced: Vec<u8>,
    now: Vec<u8>,
}

type Numbers = BTreeMap<String, usize>;

/// A directory in memory that fails from some step on, and tells what a crash would leave.
#[derive(Debug, Default)]
struct Inner {
    contents: RefCell<Vec<Content>>,
    names: RefCell<Numbers>,
    names_synced: RefCell<Numbers>,
    steps: Cell<usize>,
    steps_max: Cell<usize>,
}

#[derive(Clone, Debug, Default)]
struct Fake(Rc<Inner>);

#[derive(Debug)]
struct FakeFile(Rc<Inner>, usize);

/// What the crash leaves of data and names that were not synced.
#[derive(Clone, Copy, Debug)]
enum Crash {
    /// All: the process was killed.
    Killed,
    /// Nothing: the power went.
    Power,
    /// The half of the data, all names.
    Half,
    /// What was synced, and of the names since then only that of the manifest.
    ManifestOnly,
}

impl Inner {
    fn step(&self) -> io::Result<()> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > self.steps_max.get() { Err(io::Error::other("crashed")) } else { Ok(()) }
    }
}

impl Fake {
    fn new() -> Fake {
        let dir = Fake::default();
        dir.0.steps_max.set(usize::MAX);
        dir
    }

    fn crash(&self, how: Crash) -> Fake {
        let left = Fake::new();
        let names = match how {
            Crash::Killed | Crash::Half => self.0.names.borrow().clone(),
            Crash::Power => self.0.names_synced.borrow().clone(),
            Crash::ManifestOnly => {
                let mut names = self.0.names_synced.borrow().clone();
                names.extend(
                    self.0.names.borrow().get_key_value(manifest::NAME).map(|(name, &at)| (name.clone(), at)),
                );
                names
            }
        };
        let left_of = |content: &Content| {
            let bytes = match how {
                Crash::Killed => content.now.clone(),
                Crash::Power | Crash::ManifestOnly => content.synced.clone(),
                Crash::Half => {
                    let len = content.synced.len() + (content.now.len() - content.synced.len()) / 2;
                    content.now[..len].to_vec()
                }
            };
            Content { synced: bytes.clone(), now: bytes }
        };
        *left.0.contents.borrow_mut() = self.0.contents.borrow().iter().map(left_of).collect();
        *left.0.names.borrow_mut() = names.clone();
        *left.0.names_synced.borrow_mut() = names;
        left
    }

    fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let at = self.0.names.borrow()[name];
        edit(&mut self.0.contents.borrow_mut()[at].now);
    }

    fn names(&self) -> Vec<String> {
        self.0.names.borrow().keys().cloned().collect()
    }
}

impl Dir for Fake {
    type File = FakeFile;

    async fn create(&self, name: &str) -> io::Result<FakeFile> {
        self.0.step()?;
        let mut contents = self.0.contents.borrow_mut();
        contents.push(Content::default());
        self.0.names.borrow_mut().insert(name.into(), contents.len() - 1);
        Ok(FakeFile(Rc::clone(&self.0), contents.len() - 1))
    }

    async fn open(&self, name: &str) -> io::Result<Option<FakeFile>> {
        Ok(self.0.names.borrow().get(name).map(|&at| FakeFile(Rc::clone(&self.0), at)))
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.step()?;
        let mut names = self.0.names.borrow_mut();
        let at = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.into(), at);
        Ok(())
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.0.step()?;
        self.0.names.borrow_mut().remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    async fn sync(&self) -> io::Result<()> {
        self.0.step()?;
        *self.0.names_synced.borrow_mut() = self.0.names.borrow().clone();
        Ok(())
    }

    async fn pause(&self) {}
}

impl DirFile for FakeFile {
    async fn write_at(&self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        self.0.step()?;
        let mut contents = self.0.contents.borrow_mut();
        let now = &mut contents[self.1].now;
        assert_eq!(now.len() as u64, offset, "written in order");
        now.extend_from_slice(&bytes);
        Ok(())
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let contents = self.0.contents.borrow();
        let now = &contents[self.1].now;
        let from = usize::try_from(offset).unwrap().min(now.len());
        Ok(now[from..now.len().min(from + len)].to_vec())
    }

    async fn sync(&self) -> io::Result<()> {
        self.0.step()?;
        let mut contents = self.0.contents.borrow_mut();
        contents[self.1].synced = contents[self.1].now.clone();
        Ok(())
    }
}

/// Nothing here waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a fake directory never waits"),
    }
}

type Shards = Vec<Rc<RefCell<Store>>>;

fn shards(count: usize, seed: u64, memory_max: u64) -> Shards {
    let hasher = KeyHasher::seeded(seed);
    let config = Config { memory_max, ..Config::default() };
    let at = Now { unix_ms: 1_000_000, mono_ms: 5 };
    (0..count).map(|_| Rc::new(RefCell::new(Store::new(config, hasher.clone(), at)))).collect()
}

fn owner<'a>(shards: &'a Shards, key: &[u8]) -> &'a Rc<RefCell<Store>> {
    let hash = { shards[0].borrow().hasher().hash(key) };
    &shards[usize::try_from(hash % shards.len() as u64).unwrap()]
}

/// Values of all kinds, every third with an expiry.
fn fill(shards: &Shards, count: u32, tag: &str) {
    for n in 0..count {
        let key = format!("k{n}");
        let mut store = owner(shards, key.as_bytes()).borrow_mut();
        let element = format!("{tag}-{n}");
        let words: Vec<&[u8]> = match n % 4 {
            0 => vec![b"HSET", key.as_bytes(), b"f", element.as_bytes(), b"g", b"2"],
            1 => vec![b"SADD", key.as_bytes(), b"1", element.as_bytes()],
            2 => vec![b"SET", key.as_bytes(), b"1234"],
            _ => vec![b"SET", key.as_bytes(), element.as_bytes()],
        };
        let said = run_one(&mut store, &words, Version::Resp2);
        assert!(!said.starts_with(b"-"), "{}", said.escape_ascii());
        let key = store.hasher().key(key.as_bytes());
        if n % 3 == 0 {
            store.set_expiry(key, Some(2_000_000 + u64::from(n)));
        }
    }
}

/// All keys with their values and expiries, wherever they are.
fn content(shards: &Shards) -> BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)> {
    let mut all = BTreeMap::new();
    for shard in shards {
        let mut store = shard.borrow_mut();
        let (mut cursor, mut keys) = (0, Vec::new());
        loop {
            cursor = store.scan(cursor, 100, |key, _| keys.push(key.to_vec()));
            if cursor == 0 {
                break;
            }
        }
        for name in keys {
            let key = store.hasher().key(&name);
            let found = store.export(key).unwrap();
            let mut bytes = Vec::new();
            found.value.encode(&mut bytes);
            all.insert(name, (bytes, found.expires_at));
        }
    }
    all
}

fn save_to(dir: &Fake, shards: &Shards) -> Result<Manifest, SnapshotError> {
    let state = Arc::new(State::default());
    let _running = state.begin(0).unwrap();
    let (dir_of, state_of) = (dir, &*state);
    now(save(dir, &state, 77, u16::try_from(shards.len()).unwrap(), |generation, shard| {
        let keys = Rc::clone(&shards[usize::from(shard)]);
        async move { save_part(dir_of, state_of, generation, 77, shard, &keys).await }
    }))
}

fn load_from(dir: &Fake, shards: &Shards, unix_ms: u64) -> Result<Outcome, SnapshotError> {
    let Some(manifest) = now(find(dir))? else { return Ok(Outcome::default()) };
    for part in &manifest.parts {
        now(verify_part(dir, manifest.generation, part))?;
    }
    let outcome = Cell::new(Outcome::default());
    for part in &manifest.parts {
        let deliver = async |batch: Vec<Loaded>| {
            for one in batch {
                let store = owner(shards, &one.key);
                outcome.set(outcome.get().and(put(&mut store.borrow_mut(), vec![one])));
            }
            Ok(())
        };
        let state = State::default();
        let expired = now(load_part(dir, &state, manifest.generation, part, unix_ms, deliver))?;
        outcome.set(outcome.get().and(Outcome { expired, ..Outcome::default() }));
    }
    Ok(outcome.get())
}

#[test]
fn all_kinds_of_values_come_back_on_another_number_of_shards_with_another_secret() {
    let before = shards(3, 1, 0);
    fill(&before, 2_000, "v");
    let dir = Fake::new();
    let manifest = save_to(&dir, &before).unwrap();
    assert_eq!((manifest.entries(), manifest.generation), (2_000, 1));
    for count in [1, 2, 5] {
        let after = shards(count, 99, 0);
        let outcome = load_from(&dir, &after, 1_000_000).unwrap();
        assert_eq!(outcome, Outcome { loaded: 2_000, ..Outcome::default() });
        assert_eq!(content(&after), content(&before));
    }
}

#[test]
fn a_crash_at_any_step_leaves_a_whole_snapshot_the_one_before_or_the_new_one() {
    let (old, new) = (shards(2, 1, 0), shards(3, 2, 0));
    fill(&old, 300, "old");
    fill(&new, 400, "new");
    let (old_content, new_content) = (content(&old), content(&new));
    let mut whole = 0;
    for steps in 0.. {
        let dir = Fake::new();
        save_to(&dir, &old).unwrap();
        dir.0.steps_max.set(dir.0.steps.get() + steps);
        let saved = save_to(&dir, &new);
        for how in [Crash::Killed, Crash::Power, Crash::Half, Crash::ManifestOnly] {
            let left = dir.crash(how);
            let after = shards(4, 3, 0);
            load_from(&left, &after, 1_000_000).unwrap_or_else(|error| panic!("{steps} {how:?}: {error}"));
            let found = content(&after);
            assert!(found == old_content || found == new_content, "step {steps}, {how:?}");
            if saved.is_ok() {
                assert!(found == new_content, "step {steps}, {how:?}: it was said to be saved");
            }
            // And the next one is made over whatever was left.
            save_to(&left, &new).unwrap();
            assert_eq!(left.names().len(), 4, "three files and a manifest: {:?}", left.names());
        }
        whole += usize::from(saved.is_ok());
        if dir.0.steps.get() < dir.0.steps_max.get() {
            break;
        }
    }
    assert!(whole >= 1, "the last steps only remove files");
}

#[test]
fn a_snapshot_with_one_damaged_file_is_refused_before_a_key_is_set() {
    let before = shards(2, 1, 0);
    fill(&before, 200, "v");
    let dir = Fake::new();
    save_to(&dir, &before).unwrap();
    let second = manifest::file_name(1, 1);
    let len = dir.0.contents.borrow()[dir.0.names.borrow()[&second]].now.len();
    let check = |change: &dyn Fn(&mut Vec<u8>), wanted: &str| {
        let changed = dir.crash(Crash::Killed);
        changed.edit(&second, change);
        let after = shards(2, 1, 0);
        let error = load_from(&changed, &after, 1_000_000).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains(&second), "{error}");
        assert!(content(&after).is_empty());
    };
    check(&|bytes| bytes[len / 2] ^= 4, "checksum");
    check(&|bytes| bytes.truncate(len - 1), "the file ends within");
    check(&|bytes| bytes.push(0), "follow the footer");
    check(&|bytes| bytes[8] = 2, "version 2 is newer than 1");
    check(&|bytes| bytes[..8].copy_from_slice(b"REDIS001"), "REDIS001");
    let gone = dir.crash(Crash::Killed);
    gone.0.names.borrow_mut().remove(&second);
    let error = load_from(&gone, &shards(1, 1, 0), 0).unwrap_err().to_string();
    assert!(error.contains("it is not there"), "{error}");
    // A whole file of another snapshot in its place.
    let other = dir.crash(Crash::Killed);
    let first = other.0.names.borrow()[&manifest::file_name(1, 0)];
    other.0.names.borrow_mut().insert(second.clone(), first);
    load_from(&other, &shards(1, 1, 0), 0).expect_err("not the file that is meant");
}

#[test]
fn keys_that_expired_meanwhile_and_keys_beyond_the_maximum_are_counted_not_set() {
    let before = shards(1, 1, 0);
    fill(&before, 600, "v");
    let dir = Fake::new();
    save_to(&dir, &before).unwrap();
    let after = shards(1, 1, 0);
    let outcome = load_from(&dir, &after, 2_000_000 + 300).unwrap();
    assert_eq!(outcome, Outcome { loaded: 499, expired: 101, no_room: 0 });
    let small = shards(1, 1, 20_000);
    let outcome = load_from(&dir, &small, 1_000_000).unwrap();
    assert!(outcome.no_room > 0 && outcome.loaded > 0, "{outcome:?}");
    assert_eq!(outcome.loaded + outcome.no_room, 600);
    let bytes = small[0].borrow().stats().bytes;
    assert!(bytes < 25_000, "{bytes}");
}

#[test]
fn a_key_that_was_set_before_the_load_stays() {
    let before = shards(1, 1, 0);
    fill(&before, 4, "old");
    let dir = Fake::new();
    save_to(&dir, &before).unwrap();
    let after = shards(1, 1, 0);
    run_one(&mut after[0].borrow_mut(), &[b"SET", b"k3", b"newer"], Version::Resp2);
    load_from(&dir, &after, 0).unwrap();
    assert_eq!(run_one(&mut after[0].borrow_mut(), &[b"GET", b"k3"], Version::Resp2), b"$5\r\nnewer\r\n");
}

#[test]
fn one_snapshot_at_a_time() {
    let state = Arc::new(State::default());
    let running = state.begin(10).unwrap();
    assert_eq!(state.begin(10).unwrap_err(), SnapshotError::Busy);
    drop(running);
    drop(state.begin(10).unwrap());
    assert!(!state.is_running());
}

#[test]
fn a_value_larger_than_a_block_has_one_of_its_own() {
    let before = shards(1, 1, 0);
    fill(&before, 10, "v");
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    {
        let mut store = before[0].borrow_mut();
        let hasher = store.hasher().clone();
        store.insert(hasher.key(b"large"), Value::Bytes(large), Expiry::Never).unwrap();
    }
    let dir = Fake::new();
    save_to(&dir, &before).unwrap();
    let after = shards(1, 7, 0);
    load_from(&dir, &after, 0).unwrap();
    assert_eq!(content(&after), content(&before));
}

#[test]
fn a_save_that_fails_says_on_which_file_and_leaves_none_behind() {
    let before = shards(2, 1, 0);
    fill(&before, 10, "v");
    let dir = Fake::new();
    save_to(&dir, &before).unwrap();
    dir.0.steps_max.set(dir.0.steps.get() + 2);
    let error = save_to(&dir, &before).unwrap_err().to_string();
    assert_eq!(error, "cannot write cache-2-0.snap: crashed");
}

/// Real files, the real blocking threads, the ring of the simulator for nothing but time.
#[test]
fn renames_and_lists_are_those_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "x").unwrap();
    let server = crate::testing::TestServer::new(|_| crate::App::new(()));
    let disk = Disk::new(dir.path());
    let names = server.run(async move {
        disk.rename("a", "b").await.unwrap();
        disk.sync().await.unwrap();
        let names = disk.list().await.unwrap();
        disk.remove("b").await.unwrap();
        assert!(disk.remove("b").await.is_err());
        disk.pause().await;
        names
    });
    assert_eq!(names, ["b"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
