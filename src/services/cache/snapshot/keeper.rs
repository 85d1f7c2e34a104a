//! Keeper: when a node makes snapshots and takes one: before it listens, each so often, when asked to, when it drains.
//!
//! # Rules
//! 1. Nothing is saved before the snapshot that was there is taken, or known to be of no use: a start that fails leaves it
//!    as it is.
//! 2. At a drain it saves when no connection of any shard is left.
//! 3. A lock on `cache.lock` keeps a second node out of the directory.
//!
//! Not here: how a snapshot is made and read (`node`), the commands of clients (`session`).

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::node::unix_ms;
use super::{Disk, Manifest, Outcome, Running, SnapshotError, State};
use crate::services::cache::Cache;

/// Held by the node that uses a directory.
const LOCK_NAME: &str = "cache.lock";

/// Between two looks whether a snapshot under way has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What becomes of a start whose snapshot is damaged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnError {
    /// It fails.
    #[default]
    Refuse,
    /// The node starts without keys; its next snapshot takes the place of the damaged one.
    Empty,
}

/// When a node makes snapshots, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotConfig {
    /// A directory that is there; none is for no snapshots.
    pub dir: Option<PathBuf>,
    /// Between two of them, where keys were changed; zero is for none but those asked for.
    pub every: Duration,
    /// Whether one is made when the node drains.
    pub at_drain: bool,
    /// What to do where the one that is there is damaged.
    pub on_error: OnError,
}

impl Default for SnapshotConfig {
    fn default() -> SnapshotConfig {
        SnapshotConfig { dir: None, every: Duration::ZERO, at_drain: true, on_error: OnError::default() }
    }
}

/// The snapshots of a node, for all its shards. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Option<Disk>,
    config: SnapshotConfig,
    state: Arc<State>,
    /// Unlocked when the node ends, however it does.
    _lock: Option<File>,
    opened_ms: u64,
    /// Rule 1.
    may_save: AtomicBool,
    failed_last: AtomicBool,
    begun_ms: AtomicU64,
    /// Of the last one; `u64::MAX` before the first.
    took_ms: AtomicU64,
    /// Changes of keys that the last snapshot has.
    changes: AtomicU64,
    loaded: AtomicU64,
    expired: AtomicU64,
}

impl Default for Keeper {
    /// Keeps nothing.
    fn default() -> Keeper {
        Keeper::new(SnapshotConfig::default(), None)
    }
}

impl Keeper {
    fn new(config: SnapshotConfig, lock: Option<File>) -> Keeper {
        Keeper(Arc::new(Inner {
            disk: config.dir.clone().map(Disk::new),
            config,
            state: Arc::default(),
            _lock: lock,
            opened_ms: unix_ms(),
            may_save: AtomicBool::new(false),
            failed_last: AtomicBool::new(false),
            begun_ms: AtomicU64::new(0),
            took_ms: AtomicU64::new(u64::MAX),
            changes: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }))
    }

    /// Takes the directory for this node. Blocks; before shards start.
    ///
    /// # Errors
    /// A directory that is not there or cannot be written, or that another node uses.
    pub fn open(config: SnapshotConfig) -> Result<Keeper, String> {
        let Some(dir) = &config.dir else { return Ok(Keeper::new(config, None)) };
        let shown = dir.display();
        if !dir.is_dir() {
            return Err(format!(
                "cache.snapshot_dir {shown} is no directory: make it with install -d -m 700 {shown}"
            ));
        }
        let lock = File::create(dir.join(LOCK_NAME)).map_err(|error| {
            format!("cache.snapshot_dir {shown} cannot be written: {error}; give it to the user of the node")
        })?;
        match lock.try_lock() {
            Ok(()) => Ok(Keeper::new(config, Some(lock))),
            Err(TryLockError::WouldBlock) => Err(format!(
                "cache.snapshot_dir {shown} is used by another node: give each a directory of its own"
            )),
            Err(TryLockError::Error(error)) => {
                Err(format!("cache.snapshot_dir {shown} cannot be locked: {error}"))
            }
        }
    }

    /// Whether there is a directory.
    pub fn is_on(&self) -> bool {
        self.0.disk.is_some()
    }

    /// What was asked for.
    pub fn config(&self) -> &SnapshotConfig {
        &self.0.config
    }

    /// Takes the snapshot that is there, on a shard, before any connection is accepted; its strings only if they are wanted.
    ///
    /// # Errors
    /// Why it is of no use, where such a start is to fail.
    pub(crate) async fn load(&self, cache: &Cache, strings: bool) -> Result<(), String> {
        let Some(disk) = &self.0.disk else { return Ok(()) };
        match cache.load_some(disk, &self.0.state, strings).await {
            Ok(None) => tracing::info!("there is no snapshot: the cache begins empty"),
            Ok(Some(Outcome { loaded, expired, no_room, .. })) => {
                self.0.loaded.store(loaded, Ordering::Relaxed);
                self.0.expired.store(expired, Ordering::Relaxed);
                tracing::info!(loaded, expired, no_room, "the snapshot was taken");
                if no_room > 0 {
                    tracing::warn!(no_room, "keys of the snapshot found no room: raise cache.memory_max");
                }
            }
            Err(error) if self.0.config.on_error == OnError::Empty => {
                tracing::error!(%error, "the snapshot is refused: the cache begins empty");
            }
            Err(error) => {
                return Err(format!("{error}, or set cache.snapshot_on_error to \"empty\""));
            }
        }
        self.0.changes.store(cache.changes().await.unwrap_or(0), Ordering::Relaxed);
        self.0.may_save.store(true, Ordering::Release);
        Ok(())
    }

    /// Begins a snapshot: hand the result to [`Keeper::save`].
    ///
    /// # Errors
    /// [`SnapshotError::Off`], [`SnapshotError::Busy`].
    pub(crate) fn begin(&self) -> Result<Running, SnapshotError> {
        if !self.is_on() {
            return Err(SnapshotError::Off);
        }
        if !self.0.may_save.load(Ordering::Acquire) {
            return Err(SnapshotError::Busy);
        }
        let running = self.0.state.begin(0)?;
        self.0.begun_ms.store(unix_ms(), Ordering::Relaxed);
        Ok(running)
    }

    /// Makes the snapshot that was begun.
    ///
    /// # Errors
    /// Why there is none; the one before is kept.
    pub(crate) async fn save(&self, cache: &Cache, running: Running) -> Result<Manifest, SnapshotError> {
        let Some(disk) = &self.0.disk else { return Err(SnapshotError::Off) };
        // What is changed from here on may be in it, and counts as if it were not.
        let changes = cache.changes().await;
        let saved = match &changes {
            Ok(_) => cache.save_begun(disk, &self.0.state).await,
            Err(error) => Err(error.clone()),
        };
        let took = unix_ms().saturating_sub(self.0.begun_ms.load(Ordering::Relaxed));
        self.0.took_ms.store(took, Ordering::Relaxed);
        self.0.failed_last.store(saved.is_err(), Ordering::Relaxed);
        match (&saved, changes) {
            (Ok(manifest), Ok(changes)) => {
                self.0.changes.store(changes, Ordering::Relaxed);
                tracing::info!(keys = manifest.entries(), ms = took, "a snapshot was made");
            }
            (Err(error), _) => tracing::error!(%error, "no snapshot was made; the one before is kept"),
            (Ok(_), Err(_)) => {}
        }
        drop(running);
        saved
    }

    /// Makes a snapshot each so often, where keys were changed. For a task of one shard; ends at once where none is asked
    /// for.
    pub(crate) async fn repeat(self, cache: Cache) {
        let every = self.0.config.every;
        if !self.is_on() || every.is_zero() {
            return;
        }
        loop {
            corelane_exec::sleep(every).await;
            let changes = cache.changes().await.unwrap_or(u64::MAX);
            if changes == self.0.changes.load(Ordering::Relaxed) {
                continue;
            }
            // One that is under way will do.
            if let Ok(running) = self.begin() {
                let _ = self.save(&cache, running).await; // it has said why not
            }
        }
    }

    /// Whether there is one to be made at a drain.
    pub(crate) fn saves_at_drain(&self) -> bool {
        self.is_on() && self.0.config.at_drain
    }

    /// The node has drained: makes a snapshot, if one is to be made, in at most `time`.
    pub(crate) async fn save_at_drain(&self, cache: &Cache, time: Duration) {
        if !self.saves_at_drain() {
            return;
        }
        let save = async {
            let running = loop {
                match self.begin() {
                    Ok(running) => break running,
                    Err(_) if !self.0.may_save.load(Ordering::Acquire) => return, // rule 1
                    Err(_) => corelane_exec::sleep(LOOK).await,
                }
            };
            let _ = self.save(cache, running).await; // it has said why not
        };
        if corelane_exec::timeout(time, save).await.is_err() {
            tracing::error!(
                ?time,
                "the snapshot was not done when the drain had to end: the one before is kept; raise limits.drain_time"
            );
        }
    }

    /// Seconds since 1970 of the last snapshot that is whole; before the first, of the start (`LASTSAVE`).
    pub(crate) fn last_save(&self) -> u64 {
        self.0.state.last_unix_ms().max(self.0.opened_ms) / 1_000
    }

    /// The fields of `INFO persistence`. `changes` are those of all shards.
    pub(crate) fn facts(&self, changes: u64) -> Vec<(&'static str, String)> {
        let Inner { state, .. } = &*self.0;
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let running = state.is_running();
        let now = unix_ms();
        let took = load(&self.0.took_ms);
        let seconds = |ms: u64| (ms / 1_000).to_string();
        let none = || "-1".to_owned();
        let (processed, total) = if running { state.progress() } else { (0, 0) };
        let status = if self.0.failed_last.load(Ordering::Relaxed) { "err" } else { "ok" };
        let current = if running { seconds(now.saturating_sub(load(&self.0.begun_ms))) } else { none() };
        vec![
            ("loading", "0".to_owned()),
            ("async_loading", "0".to_owned()),
            ("current_save_keys_processed", processed.to_string()),
            ("current_save_keys_total", total.to_string()),
            ("rdb_changes_since_last_save", changes.saturating_sub(load(&self.0.changes)).to_string()),
            ("rdb_bgsave_in_progress", u8::from(running).to_string()),
            ("rdb_last_save_time", self.last_save().to_string()),
            ("rdb_last_bgsave_status", status.to_owned()),
            ("rdb_last_bgsave_time_sec", if took == u64::MAX { none() } else { seconds(took) }),
            ("rdb_current_bgsave_time_sec", current),
            ("rdb_saves", state.counts().0.to_string()),
            ("rdb_last_load_keys_expired", load(&self.0.expired).to_string()),
            ("rdb_last_load_keys_loaded", load(&self.0.loaded).to_string()),
            ("aof_enabled", "0".to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dir: &std::path::Path) -> SnapshotConfig {
        SnapshotConfig { dir: Some(dir.to_owned()), ..SnapshotConfig::default() }
    }

    #[test]
    fn a_directory_is_one_nodes_until_that_node_ends() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keeper::open(of(dir.path())).unwrap();
        assert!(Keeper::open(of(dir.path())).unwrap_err().contains("used by another node"));
        drop(first);
        Keeper::open(of(dir.path())).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_refused_with_how_to_make_it() {
        let dir = tempfile::tempdir().unwrap();
        let says = Keeper::open(of(&dir.path().join("none"))).unwrap_err();
        assert!(says.contains("install -d -m 700"), "{says}");
    }

    #[test]
    fn nothing_is_saved_before_what_was_there_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(of(dir.path())).unwrap();
        assert_eq!(keeper.begin().err(), Some(SnapshotError::Busy));
        assert_eq!(Keeper::default().begin().err(), Some(SnapshotError::Off));
    }
}
