//! Lookahead: the next commands of a pipeline, and what they will need from memory.
//!
//! A key that was not used lately is nowhere near the CPU: its place in the table, its entry and its bytes each have to be
//! waited for. The commands of a pipeline are known before they run, so all those waits are begun at once, and overlap.
//!
//! # Rules
//! 1. It changes when memory is read, and nothing else: a wrong guess costs a little time.
//!
//! Not here: running commands (`session`, `shard`).

use corelane_proto_resp::{Ahead, Command, Limits};

use super::shard::CacheShard;
use super::store::Key;

/// Commands that are looked at together: their memory stays in the nearest cache until they run.
pub(super) const COMMANDS_MAX: usize = 32;

/// Commands found in bytes that are still where they were.
#[derive(Debug, Default)]
pub(super) struct Lookahead {
    ahead: Ahead,
    at: usize,
    count: usize,
    /// Of the first argument of each, where they were looked at.
    hashes: Vec<u64>,
}

impl Lookahead {
    /// Finds the next commands at the start of `bytes`; what was found before is forgotten.
    #[inline]
    pub(super) fn read(&mut self, limits: &Limits, bytes: &[u8], here: &CacheShard) {
        self.at = 0;
        self.hashes.clear();
        self.count = self.ahead.read(limits, bytes, COMMANDS_MAX);
        if self.count > 1 {
            self.warm(bytes, here);
        }
    }

    #[inline(never)]
    fn warm(&mut self, bytes: &[u8], here: &CacheShard) {
        for n in 0..self.count {
            let first = self.ahead.command(n, bytes).get(1).unwrap_or(b"");
            self.hashes.push(here.key(first).hash);
        }
        here.warm(&self.hashes);
    }

    /// Forgets those that are left.
    pub(super) fn clear(&mut self) {
        self.count = self.at;
    }

    /// Whether none is left.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.at == self.count
    }

    /// The next command, its first argument with its hash where that is known, and where it ends in `bytes`, which are
    /// those that were read.
    #[inline]
    pub(super) fn next<'p>(&'p mut self, bytes: &'p [u8]) -> Option<(Command<'p>, Option<Key<'p>>, usize)> {
        if self.at == self.count {
            return None;
        }
        let n = self.at;
        self.at += 1;
        let command = self.ahead.command(n, bytes);
        let first = self.hashes.get(n).and_then(|hash| Some(Key { bytes: command.get(1)?, hash: *hash }));
        Some((command, first, self.ahead.end(n)))
    }
}

/// The commands of several connections that sent one each, before the first of them is read. (A pipeline is looked at by
/// its own [`Lookahead`].)
#[derive(Debug, Default)]
pub(super) struct Soon {
    ahead: Ahead,
    hashes: Vec<u64>,
}

impl Soon {
    /// Looks at what a connection has sent.
    #[inline]
    pub(super) fn see(&mut self, limits: &Limits, bytes: &[u8], here: &CacheShard) {
        if self.hashes.len() < COMMANDS_MAX
            && self.ahead.read(limits, bytes, 1) == 1
            && self.ahead.end(0) == bytes.len()
            && let Some(first) = self.ahead.command(0, bytes).get(1)
        {
            self.hashes.push(here.key(first).hash);
        }
    }

    /// Begins to load what all of them need. Of one alone, that would be begun no sooner than it is needed.
    #[inline]
    pub(super) fn warm(&mut self, here: &CacheShard) {
        if self.hashes.len() > 1 {
            here.warm(&self.hashes);
        }
        self.hashes.clear();
    }
}
