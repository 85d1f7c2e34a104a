//! Snapshots: the keys in files, to carry them over a restart.
//!
//! No fork: each shard walks its own table in slices and writes a file of its own. Each key is written as it is at some
//! moment of the walk: the snapshot is consistent for each key, and no point in time for several. Reading order:
//! [`mod@format`] the bytes of a file; [`manifest`] which files there are; [`dir`] where they are; here how one is made and
//! read; `node` all of it for a [`Cache`](super::Cache); [`keeper`] when.
//!
//! # Rules
//! 1. Files have names of their own generation; the manifest, replaced by a rename when all of them are on the device,
//!    is what makes them the snapshot. Whatever ends the node before that leaves the one before as it was.
//! 2. A snapshot is taken whole or not at all: every byte of every file is checked before the first key is set.
//! 3. Files know nothing of shards and secrets: each key is sent to whoever owns it now.
//! 4. One at a time ([`State::begin`]). Two nodes may not share a directory.
//!
//! Not here: the commands of clients (`session`).

pub mod dir;
pub mod format;
pub mod keeper;
pub mod manifest;
mod node;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::store::{Expiry, Store};
use super::value::Value;
pub use dir::{Dir, DirFile, Disk};
use format::{Fault, Next, Reader, Sum, What, Writer};
pub use keeper::{Keeper, OnError, SnapshotConfig};
pub use manifest::{Manifest, Part};

/// Keys of one slice of a walk: half a millisecond, if look and copy of a small one take 2 us.
pub const SLICE_KEYS: usize = 256;
/// Bytes of values after which a slice ends early: 100 us of copying at 10 GB/s. One larger value is still one step.
pub const SLICE_BYTES: usize = 1 << 20;

/// Why a snapshot was not made, or not taken. `Display` says which file and what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SnapshotError {
    /// Another one is under way.
    Busy,
    /// The node has no directory for them.
    Off,
    /// The host refused.
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        file: String,
        /// What the host said.
        error: String,
    },
    /// A file is not what was written.
    Damaged {
        /// Which.
        file: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The manifest is not what was written.
    Manifest(String),
    /// A file is whole, but not the one that the manifest means.
    Other {
        /// Which.
        file: String,
        /// What the manifest says.
        wanted: Sum,
        /// What it is.
        found: Sum,
    },
    /// A shard did not do its part.
    Shard(String),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Busy => f.write_str("a snapshot is under way already; wait for its end"),
            SnapshotError::Off => f.write_str(
                "this node keeps no snapshots: set cache.snapshot_dir to a directory and start it again",
            ),
            SnapshotError::Io { what, file, error } => write!(f, "cannot {what} {file}: {error}"),
            SnapshotError::Damaged { file, fault } => write!(
                f,
                "{file} is refused, {fault}; no key of the snapshot was taken. Remove {} to start without it",
                manifest::NAME
            ),
            SnapshotError::Manifest(why) => write!(
                f,
                "{} is refused: {why}; no key was taken. Remove it to start without it",
                manifest::NAME
            ),
            SnapshotError::Other { file, wanted, found } => write!(
                f,
                "{file} is another file than {} means ({} entries, {} bytes, checksum {:08x} instead of {}, {}, \
                 {:08x}); no key of the snapshot was taken",
                manifest::NAME,
                found.entries,
                found.bytes,
                found.crc,
                wanted.entries,
                wanted.bytes,
                wanted.crc
            ),
            SnapshotError::Shard(why) => write!(f, "a shard did not do its part: {why}"),
        }
    }
}

impl std::error::Error for SnapshotError {}

/// How snapshots stand, for all shards of a node. Relaxed atomics: for people to look at.
#[derive(Debug, Default)]
pub struct State {
    running: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
    saved: AtomicU64,
    failed: AtomicU64,
    last_unix_ms: AtomicU64,
}

/// Stands while a snapshot is made or taken.
#[derive(Debug)]
pub struct Running(Arc<State>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, std::sync::atomic::Ordering::Release);
    }
}

impl State {
    /// Begins a snapshot of about `total` keys: hold the result until it is over.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`].
    pub fn begin(self: &Arc<Self>, total: u64) -> Result<Running, SnapshotError> {
        if self.running.swap(true, std::sync::atomic::Ordering::Acquire) {
            return Err(SnapshotError::Busy);
        }
        self.done.store(0, Relaxed);
        self.total.store(total, Relaxed);
        Ok(Running(Arc::clone(self)))
    }

    /// Whether one is under way.
    pub fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    /// Keys written or read by the one under way, or the last one, of about how many.
    pub fn progress(&self) -> (u64, u64) {
        (self.done.load(Relaxed), self.total.load(Relaxed))
    }

    /// Snapshots made, and tries that failed.
    pub fn counts(&self) -> (u64, u64) {
        (self.saved.load(Relaxed), self.failed.load(Relaxed))
    }

    /// When the last one that is whole was begun, milliseconds since 1970 (`LASTSAVE`); 0 for none.
    pub fn last_unix_ms(&self) -> u64 {
        self.last_unix_ms.load(Relaxed)
    }

    /// There are about `total` keys.
    fn expect(&self, total: u64) {
        self.total.store(total, Relaxed);
    }

    fn advance(&self, keys: u64) {
        self.done.fetch_add(keys, Relaxed);
    }
}

/// Reaches the store of a shard for the length of a call, with its time set.
pub trait Keys {
    /// Runs `f` on it.
    fn with<R>(&self, f: impl FnOnce(&mut Store) -> R) -> R;
}

impl Keys for Rc<RefCell<Store>> {
    fn with<R>(&self, f: impl FnOnce(&mut Store) -> R) -> R {
        f(&mut self.borrow_mut())
    }
}

fn io_error(what: &'static str, file: &str) -> impl FnOnce(io::Error) -> SnapshotError {
    let file = file.to_owned();
    move |error| SnapshotError::Io { what, file, error: error.to_string() }
}

// ---- saving

/// Makes a snapshot of a node: the parts of shards `0..shards`, side by side as far as `part` runs them so, then the
/// manifest, then nothing of older ones is left. `part` is to call [`save_part`] on its shard.
///
/// # Errors
/// The first of whatever went wrong; the snapshot before is still the one that will be taken.
pub async fn save<D: Dir, F: Future<Output = Result<Part, SnapshotError>>>(
    dir: &D,
    state: &State,
    unix_ms: u64,
    shards: u16,
    part: impl Fn(u64, u16) -> F,
) -> Result<Manifest, SnapshotError> {
    let made = save_all(dir, unix_ms, shards, part).await;
    match &made {
        Ok(manifest) => {
            state.saved.fetch_add(1, Relaxed);
            state.last_unix_ms.store(manifest.unix_ms, Relaxed);
        }
        Err(_) => {
            state.failed.fetch_add(1, Relaxed);
        }
    }
    made
}

async fn save_all<D: Dir, F: Future<Output = Result<Part, SnapshotError>>>(
    dir: &D,
    unix_ms: u64,
    shards: u16,
    part: impl Fn(u64, u16) -> F,
) -> Result<Manifest, SnapshotError> {
    let names = dir.list().await.map_err(io_error("list", "the directory of snapshots"))?;
    // Above all that is there, readable or not: no file in use is ever written again.
    let generation_of = |name: &String| name.strip_prefix("cache-")?.split('-').next()?.parse::<u64>().ok();
    let newest = names.iter().filter_map(generation_of).max().unwrap_or(0);
    let known = find(dir).await.ok().flatten().map_or(0, |manifest| manifest.generation);
    let generation = newest.max(known) + 1;
    let parts: Vec<F> = (0..shards).map(|shard| part(generation, shard)).collect();
    let mut manifest = Manifest { generation, unix_ms, parts: Vec::with_capacity(parts.len()) };
    let mut failed = None;
    for part in parts {
        // All are waited for: none writes on when this has ended.
        match part.await {
            Ok(part) => manifest.parts.push(part),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let done = match failed {
        Some(error) => Err(error),
        None => commit(dir, &manifest).await,
    };
    clean(dir).await;
    done.map(|()| manifest)
}

/// Makes the files of `manifest`, all of them synced, the snapshot.
async fn commit<D: Dir>(dir: &D, manifest: &Manifest) -> Result<(), SnapshotError> {
    let name = manifest::NEW_NAME;
    // The names of the parts first: what the manifest names must be there after a power cut, too.
    dir.sync().await.map_err(io_error("sync", "the directory of snapshots"))?;
    let file = dir.create(name).await.map_err(io_error("create", name))?;
    file.write_at(0, manifest.to_bytes()).await.map_err(io_error("write", name))?;
    file.sync().await.map_err(io_error("sync", name))?;
    drop(file);
    dir.rename(name, manifest::NAME).await.map_err(io_error("rename to the manifest:", name))?;
    dir.sync().await.map_err(io_error("sync", "the directory of snapshots"))
}

/// Removes files that the manifest does not name. What cannot be removed is tried again after the next snapshot. With an
/// unreadable manifest nothing is removed: somebody may want to look.
async fn clean<D: Dir>(dir: &D) {
    let Ok(Some(manifest)) = find(dir).await else { return };
    let Ok(names) = dir.list().await else { return };
    let kept: Vec<String> =
        manifest.parts.iter().map(|part| manifest::file_name(manifest.generation, part.shard)).collect();
    for name in names {
        let left_over = manifest::is_ours(&name) && !kept.contains(&name);
        if (left_over || name == manifest::NEW_NAME)
            && let Err(error) = dir.remove(&name).await
        {
            tracing::warn!(file = name, %error, "a file of an older snapshot could not be removed");
        }
    }
}

/// Writes the part of one shard, and waits until it is on the device. Walks the table in slices of [`SLICE_KEYS`] keys,
/// with a pause after each. A key that is added, changed or removed meanwhile is in it or not.
///
/// # Errors
/// Where the host refuses: the file is incomplete, and nothing refers to it.
pub async fn save_part<D: Dir>(
    dir: &D,
    state: &State,
    generation: u64,
    unix_ms: u64,
    shard: u16,
    keys: &impl Keys,
) -> Result<Part, SnapshotError> {
    let name = &*manifest::file_name(generation, shard);
    let file = dir.create(name).await.map_err(io_error("create", name))?;
    let (mut writer, head) = Writer::new(generation, unix_ms);
    let mut offset = head.len() as u64;
    file.write_at(0, head).await.map_err(io_error("write", name))?;
    let mut cursor = 0;
    let mut names = Names::default();
    loop {
        names.clear();
        cursor = keys.with(|store| store.scan(cursor, SLICE_KEYS, |key, _| names.push(key)));
        let mut at = 0;
        while at < names.len() {
            let before = at;
            at = keys.with(|store| encode(store, &mut writer, &names, at));
            state.advance((at - before) as u64);
            if writer.waiting() >= format::BLOCK_LEN
                && let Some(block) = writer.take()
            {
                let len = block.len() as u64;
                file.write_at(offset, block).await.map_err(io_error("write", name))?;
                offset += len;
            }
        }
        if cursor == 0 {
            break;
        }
        dir.pause().await;
    }
    if let Some(block) = writer.take() {
        let len = block.len() as u64;
        file.write_at(offset, block).await.map_err(io_error("write", name))?;
        offset += len;
    }
    let (foot, sum) = writer.finish();
    file.write_at(offset, foot).await.map_err(io_error("write", name))?;
    file.sync().await.map_err(io_error("sync", name))?;
    Ok(Part { shard, sum })
}

/// Adds the keys of `names` from `at` on to the block under way, until it is full: how far that came. A key that has
/// gone meanwhile is passed by.
fn encode(store: &mut Store, writer: &mut Writer, names: &Names, at: usize) -> usize {
    for n in at..names.len() {
        let bytes = names.get(n);
        let key = store.hasher().key(bytes);
        let expires_at = store.expires_at(key).flatten();
        if let Some(value) = store.peek(key)
            && !writer.entry(bytes, value, expires_at)
        {
            tracing::warn!(key = %bytes.escape_ascii(), "a value of 4 GiB is left out of the snapshot");
        }
        if writer.waiting() >= SLICE_BYTES {
            return n + 1;
        }
    }
    names.len()
}

/// Keys of a slice, one behind the other: two allocations however many there are.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Names {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.ends.push(self.bytes.len());
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, n: usize) -> &[u8] {
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[n]]
    }
}

// ---- loading

/// The manifest; `None` where there is no snapshot.
///
/// # Errors
/// Where it cannot be read, or is damaged.
pub async fn find<D: Dir>(dir: &D) -> Result<Option<Manifest>, SnapshotError> {
    let name = manifest::NAME;
    let Some(file) = dir.open(name).await.map_err(io_error("open", name))? else { return Ok(None) };
    let bytes = file.read_at(0, manifest::LEN_MAX + 1).await.map_err(io_error("read", name))?;
    if bytes.len() > manifest::LEN_MAX {
        return Err(SnapshotError::Manifest(format!("it is longer than {} bytes", manifest::LEN_MAX)));
    }
    Manifest::from_bytes(&bytes).map(Some).map_err(SnapshotError::Manifest)
}

/// One key on its way from a file to its shard.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its name.
    pub key: Box<[u8]>,
    /// Its value.
    pub value: Value,
    /// When it goes, in milliseconds since 1970.
    pub expires_at: Option<u64>,
}

/// Checks every byte of a part and that each value can be read, without keeping any: rule 2. Do it for all parts before
/// [`load_part`] of the first.
///
/// # Errors
/// What is wrong with the file.
pub async fn verify_part<D: Dir>(dir: &D, generation: u64, part: &Part) -> Result<(), SnapshotError> {
    walk(dir, generation, part, |_| Ok(()), async |()| Ok(())).await
}

/// Reads a part and gives its keys to `deliver`, those of one block at a time: the next is read when they are taken, so
/// memory is that of one block (64 KiB, or the largest value). Keys that had to go before `now_unix_ms` are left out
/// and counted: the result.
///
/// # Errors
/// What is wrong with the file, though it was verified: it was changed meanwhile, and the keys so far stay. What
/// `deliver` says.
pub async fn load_part<D: Dir>(
    dir: &D,
    state: &State,
    generation: u64,
    part: &Part,
    now_unix_ms: u64,
    mut deliver: impl AsyncFnMut(Vec<Loaded>) -> Result<(), SnapshotError>,
) -> Result<u64, SnapshotError> {
    let batch = RefCell::new(Vec::new());
    let mut expired = 0;
    let take = |loaded: Loaded| {
        state.advance(1);
        match loaded.expires_at {
            Some(at) if at <= now_unix_ms => expired += 1,
            _ => batch.borrow_mut().push(loaded),
        }
        Ok(())
    };
    walk(dir, generation, part, take, async |()| {
        let batch = batch.take();
        if batch.is_empty() { Ok(()) } else { deliver(batch).await }
    })
    .await?;
    Ok(expired)
}

/// Reads a file from its beginning to its end. `each` sees its keys, `pause` is waited for after each block.
async fn walk<D: Dir>(
    dir: &D,
    generation: u64,
    part: &Part,
    mut each: impl FnMut(Loaded) -> Result<(), What>,
    mut pause: impl AsyncFnMut(()) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let name = &*manifest::file_name(generation, part.shard);
    let damaged = |fault| SnapshotError::Damaged { file: name.to_owned(), fault };
    let Some(file) = dir.open(name).await.map_err(io_error("open", name))? else {
        return Err(SnapshotError::Io {
            what: "open",
            file: name.to_owned(),
            error: format!("{} names it, but it is not there", manifest::NAME),
        });
    };
    let mut reader = Reader::new(part.sum.bytes);
    let mut since_pause = 0;
    let sum = loop {
        let len = match reader.next().map_err(damaged)? {
            Next::End(sum) => break sum,
            Next::Read(len) => len,
        };
        let at = reader.at();
        let bytes = file.read_at(at, len).await.map_err(io_error("read", name))?;
        if bytes.len() < len {
            let what = What::Torn("what its manifest says it has");
            return Err(damaged(Fault { offset: at + bytes.len() as u64, what }));
        }
        let decode = |entry: format::Entry<'_>| {
            let value = entry.decode().ok_or(What::Entry("its value is none"))?;
            each(Loaded { key: entry.key.into(), value, expires_at: entry.expires_at })
        };
        reader.handle(&bytes, decode).map_err(damaged)?;
        pause(()).await?;
        since_pause += bytes.len();
        if since_pause >= SLICE_BYTES {
            since_pause = 0;
            dir.pause().await;
        }
    };
    let more = file.read_at(sum.bytes, 1).await.map_err(io_error("read", name))?;
    if !more.is_empty() {
        return Err(damaged(Fault { offset: sum.bytes, what: What::Trailing(1) }));
    }
    if sum != part.sum || reader.generation() != generation {
        return Err(SnapshotError::Other { file: name.to_owned(), wanted: part.sum, found: sum });
    }
    Ok(())
}

/// What became of keys that were loaded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Set.
    pub loaded: u64,
    /// Not set: they had gone by time.
    pub expired: u64,
    /// Not set: the shard is at its memory maximum.
    pub no_room: u64,
}

impl Outcome {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Outcome) -> Outcome {
        Outcome {
            loaded: self.loaded + other.loaded,
            expired: self.expired + other.expired,
            no_room: self.no_room + other.no_room,
        }
    }
}

/// Sets keys that are this shard's. Nobody is evicted for them: from the memory maximum on they are left out. A key
/// that is there already stays: it is newer.
pub fn put(store: &mut Store, batch: Vec<Loaded>) -> Outcome {
    let mut outcome = Outcome::default();
    let memory_max = store.config().memory_max;
    for Loaded { key, value, expires_at } in batch {
        let key = store.hasher().key(&key);
        if expires_at.is_some_and(|at| at <= store.now().unix_ms) {
            outcome.expired += 1;
        } else if memory_max > 0 && store.stats().bytes >= memory_max {
            outcome.no_room += 1;
        } else if store.kind(key).is_some() {
            outcome.loaded += 1;
        } else {
            match store.insert(key, value, expires_at.map_or(Expiry::Never, Expiry::At)) {
                Ok(()) => outcome.loaded += 1,
                Err(_) => outcome.no_room += 1,
            }
        }
    }
    outcome
}
