//! Log: who was denied what, for ACL LOG. Bounded; the oldest entry goes.
//!
//! Not here: who is denied (`dispatch`).

use std::collections::VecDeque;

/// Entries of one shard, and those that ACL LOG replies at most.
pub(super) const ENTRIES_MAX: usize = 128;

/// Bytes of an object or a name that are kept.
const TEXT_LEN_MAX: usize = 256;

/// Within this time, the same again is counted and not kept twice.
const SAME_MS: u64 = 60_000;

/// Why somebody was denied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) enum Reason {
    /// A wrong name or password.
    Auth,
    Command,
    Key,
    Channel,
}

impl Reason {
    pub(super) fn name(self) -> &'static str {
        match self {
            Reason::Auth => "auth",
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
        }
    }
}

/// What happened, perhaps several times.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) count: u64,
    pub(super) reason: Reason,
    pub(super) in_multi: bool,
    pub(super) object: Vec<u8>,
    pub(super) user: Vec<u8>,
    /// The last time.
    pub(super) at_ms: u64,
    pub(super) client: String,
}

/// Of one shard, the newest first.
#[derive(Debug, Default)]
pub(in super::super) struct Log {
    entries: VecDeque<Entry>,
    denied: u64,
}

impl Log {
    /// Keeps that `user` was denied `object`.
    pub(in super::super) fn add(
        &mut self,
        reason: Reason,
        in_multi: bool,
        object: &[u8],
        user: &[u8],
        at_ms: u64,
        client: String,
    ) {
        self.denied += 1;
        let cut = |bytes: &[u8]| bytes[..bytes.len().min(TEXT_LEN_MAX)].to_vec();
        let mut entry =
            Entry { count: 1, reason, in_multi, object: cut(object), user: cut(user), at_ms, client };
        let is_same = |own: &Entry| {
            own.reason == reason
                && own.in_multi == in_multi
                && own.object == entry.object
                && own.user == entry.user
                && at_ms.saturating_sub(own.at_ms) <= SAME_MS
        };
        if let Some(at) = self.entries.iter().position(is_same)
            && let Some(own) = self.entries.remove(at)
        {
            entry.count += own.count;
        }
        self.entries.truncate(ENTRIES_MAX - 1);
        self.entries.push_front(entry);
    }

    /// How often anybody was denied anything.
    pub(in super::super) fn denied(&self) -> u64 {
        self.denied
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn all(&self) -> Vec<Entry> {
        self.entries.iter().cloned().collect()
    }
}
