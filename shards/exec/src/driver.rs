//! How a table of connections hooks into the turn without a task each.
//!
//! # Rules
//! 1. All calls come from inside the turn, one at a time, never nested.
//! 2. Received bytes are borrowed for the call only: what must stay is copied out. The buffer goes back to
//!    the ring when the call returns, so a slow connection can never hold one.
//!
//! Not here: what the bytes mean (`net`).

use std::net::SocketAddr;

use corelane_base::Token;
use corelane_pools::Chain;

use crate::shard::Shard;

/// What a completion brought.
#[derive(Debug)]
pub enum Data<'a> {
    /// Nothing.
    None,
    /// Received bytes; not empty.
    Received(&'a [u8]),
    /// What was to be sent, given back.
    Sent(Chain),
    /// The accepted peer's address.
    Peer(SocketAddr),
    /// A file buffer, given back.
    Bytes(Vec<u8>),
}

/// One completion as its driver sees it.
#[derive(Debug)]
pub struct Event<'a> {
    /// As pushed.
    pub token: Token,
    /// Zero or more, or a negative errno.
    pub result: i32,
    /// More will come for this operation.
    pub more: bool,
    /// What came with it.
    pub data: Data<'a>,
}

/// A table of things with operations under way.
pub trait Driver: 'static {
    /// One of its operations completed.
    fn complete(&self, shard: &Shard, event: Event<'_>);

    /// Whether it makes use of [`Driver::foresee`]. Asked once.
    fn foresees(&self) -> bool {
        false
    }

    /// Bytes that one of its operations received, and that `complete` brings in this turn: to find out what memory will
    /// be needed. Called for several completions before the first of them is handed out, where there are several.
    fn foresee(&self, _shard: &Shard, _bytes: &[u8]) {}

    /// Behind the last of those calls: to begin to load that memory, all of it at once.
    fn warm(&self, _shard: &Shard) {}

    /// A timer set with [`Shard::timer_for`](crate::Shard::timer_for) is due.
    fn timer(&self, shard: &Shard, token: Token);

    /// Called once a turn, after tasks and timers and before the kernel is entered: the place to coalesce
    /// output and to follow up on what handlers changed. Returns whether it must be called again at once
    /// because a budget ran out.
    fn flush(&self, shard: &Shard) -> bool;
}
