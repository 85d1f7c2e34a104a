//! Client: what is known of one connection.
//!
//! Not here: what it asks for (`dispatch`).

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use corelane_net::session::ConnKey;
use corelane_proto_resp::{Parser, Version};

use super::acl::User;
use crate::services::cache::kept::Kept;
use crate::services::cache::transaction::{Queued, Watched};

/// Bytes of the commands that MULTI may queue. At it, the transaction is refused.
pub(super) const QUEUED_BYTES_MAX: usize = 64 << 20;

/// Bytes that MULTI, WATCH, subscriptions and blocked commands may have a shard keep for all its clients together. At it,
/// such a command is refused.
pub(super) const KEPT_BYTES_MAX: usize = 256 << 20;

/// What one key, name or command takes beside its bytes, at least.
pub(super) const KEPT_EACH: usize = 64;

/// Said at [`KEPT_BYTES_MAX`].
pub(super) const KEPT_TOO_MUCH: &str = "ERR the clients of this shard have as much kept as they may, by MULTI, WATCH, \
                                        SUBSCRIBE and commands that block: try again later";

/// Commands about the connection or the node that MULTI may queue: EXEC runs all of them in one step. At it, the transaction
/// is refused.
pub(super) const QUEUED_OWN_MAX: usize = 1 << 10;

/// Keys that one connection may watch.
pub(super) const WATCHED_MAX: usize = 1 << 12;

/// The commands of a transaction that was begun.
#[derive(Debug)]
pub(super) struct Multi {
    pub(super) queued: Vec<Queued>,
    pub(super) bytes: usize,
    /// Those about the connection or the node.
    pub(super) own: usize,
    pub(super) kept: Kept,
    /// A command was wrong: EXEC refuses all.
    pub(super) failed: bool,
}

/// What CLIENT REPLY asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Replies {
    #[default]
    On,
    Off,
    /// Not to this command.
    SkipThis,
    /// Not to the next.
    SkipNext,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    pub(super) parser: Parser,
    pub(super) state: State,
}

/// All of a connection but its parser.
#[derive(Debug)]
pub(super) struct State {
    pub(super) key: ConnKey,
    /// Unique in the node.
    pub(super) id: u64,
    pub(super) version: Version,
    pub(super) name: Vec<u8>,
    pub(super) multi: Option<Box<Multi>>,
    pub(super) watched: Vec<Watched>,
    /// For `watched`.
    pub(super) kept: Kept,
    pub(super) channels: usize,
    pub(super) patterns: usize,
    /// It has yet to authenticate.
    pub(super) is_guest: bool,
    pub(super) user: RefCell<Arc<User>>,
    /// Something has to be looked at before each command (`acl`): it is a guest, its user may not do everything, or its shard
    /// is paused.
    pub(super) is_guarded: Cell<bool>,
    pub(super) replies: Replies,
    /// The number of the reply that is awaited: what comes for an earlier one is too late.
    pub(super) awaits: u64,
    /// What ends with the wait: a deadline, a client parked elsewhere.
    pub(super) waiting: Option<Box<super::blocking::Waiting>>,
    /// A pause holds it up.
    pub(super) is_held: bool,
    pub(super) closing: bool,
    /// A subscriber: since when too much is unsent.
    pub(super) slow_since_ms: Option<u64>,
    pub(super) last: &'static str,
    pub(super) last_ms: u64,
}

impl State {
    /// In RESP2 a subscriber may only subscribe.
    pub(super) fn is_subscriber(&self) -> bool {
        self.channels + self.patterns > 0
    }
}
