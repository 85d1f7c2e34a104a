//! Notes: keys that somebody watches, and keys that somebody waits for.
//!
//! While nobody does, each costs one look at an empty table.
//!
//! Not here: who does (`transaction`, `parked`).

use std::collections::{HashMap, VecDeque};

#[derive(Debug, Default)]
struct Watch {
    watchers: usize,
    version: u64,
}

#[derive(Debug, Default)]
struct Wait {
    waiters: usize,
    /// It is among the ready ones already.
    is_ready: bool,
}

/// What was noted.
#[derive(Debug, Default)]
pub(super) struct Notes {
    watched: HashMap<Box<[u8]>, Watch>,
    awaited: HashMap<Box<[u8]>, Wait>,
    ready: VecDeque<Box<[u8]>>,
    /// How often anything was changed.
    changes: u64,
}

impl Notes {
    /// `key` was changed.
    #[inline]
    pub(super) fn modified(&mut self, key: &[u8]) {
        self.changes += 1;
        if !self.watched.is_empty()
            && let Some(watch) = self.watched.get_mut(key)
        {
            watch.version += 1;
        }
    }

    /// So many keys went at once; those of them that are watched were told.
    pub(super) fn cleared(&mut self, keys: u64) {
        self.changes += keys;
    }

    /// Changes since the beginning.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The keys that are watched.
    pub(super) fn watched(&self) -> Vec<Box<[u8]>> {
        self.watched.keys().cloned().collect()
    }

    pub(super) fn watch(&mut self, key: &[u8]) -> u64 {
        let watch = self.watched.entry(key.into()).or_default();
        watch.watchers += 1;
        watch.version
    }

    pub(super) fn version(&self, key: &[u8]) -> u64 {
        self.watched.get(key).map_or(0, |watch| watch.version)
    }

    pub(super) fn unwatch(&mut self, key: &[u8]) {
        if let Some(watch) = self.watched.get_mut(key) {
            watch.watchers -= 1;
            if watch.watchers == 0 {
                self.watched.remove(key);
            }
        }
    }

    pub(super) fn await_key(&mut self, key: &[u8]) {
        self.awaited.entry(key.into()).or_default().waiters += 1;
    }

    pub(super) fn forget_key(&mut self, key: &[u8]) {
        if let Some(wait) = self.awaited.get_mut(key) {
            wait.waiters -= 1;
            if wait.waiters == 0 {
                self.awaited.remove(key);
            }
        }
    }

    /// `key` has got a collection.
    #[inline]
    pub(super) fn ready(&mut self, key: &[u8]) {
        if !self.awaited.is_empty()
            && let Some(wait) = self.awaited.get_mut(key)
            && !std::mem::replace(&mut wait.is_ready, true)
        {
            self.ready.push_back(key.into());
        }
    }

    pub(super) fn take_ready(&mut self) -> Option<Box<[u8]>> {
        let key = self.ready.pop_front()?;
        if let Some(wait) = self.awaited.get_mut(&key) {
            wait.is_ready = false;
        }
        Some(key)
    }

    #[inline]
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}
