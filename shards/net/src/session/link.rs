//! What a protocol can say to a connection, and ask about it.
//!
//! # Rules
//! 1. What is said in one turn leaves in one send, unless it is very much.
//! 2. Small replies are copied into one pooled buffer, which grows once; large bytes are sent from where they are.
//!
//! Not here: when it is sent (`output`).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use corelane_pools::{Chain, Pools};
use corelane_proto_resp::Sink;

use super::conn::{Flow, NEVER, Wire};
use super::protocol::ConnKey;
use crate::output::{COPY_MAX, Output};

/// Bytes waiting to be handed to the kernel, however many pieces they are in.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    output: Output,
    /// Chains that had no room for one more piece; they come before `output`. Hardly ever there.
    #[expect(clippy::box_collection, reason = "every connection has room for it, hardly any needs it")]
    before: Option<Box<VecDeque<Chain>>>,
    before_len: usize,
}

impl Outbox {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.output.len() + self.before_len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.output.is_empty() && self.before_len == 0
    }

    #[inline]
    pub(super) fn failed(&self) -> bool {
        self.output.failed()
    }

    #[inline]
    pub(super) fn put(&mut self, pools: &Pools, bytes: &[u8]) {
        if !self.output.put(pools, bytes) {
            self.put_on(pools, bytes);
        }
    }

    #[cold]
    #[inline(never)]
    fn put_on(&mut self, pools: &Pools, bytes: &[u8]) {
        self.make_room();
        self.output.put_on(pools, bytes);
    }

    fn push(&mut self, bytes: Bytes) {
        self.make_room();
        self.output.push(bytes);
    }

    /// Sets a chain aside that holds as many pieces as one send takes.
    fn make_room(&mut self) {
        if self.output.is_full() {
            let full = self.output.take();
            self.before_len += full.len();
            self.before.get_or_insert_default().push_back(full);
        }
    }

    /// What the next send takes: everything, or what a send can hold.
    #[inline]
    pub(super) fn take(&mut self) -> Chain {
        if self.before_len == 0 { self.output.take() } else { self.take_before() }
    }

    #[cold]
    fn take_before(&mut self) -> Chain {
        let chain = self.before.as_mut().and_then(|before| before.pop_front()).unwrap_or_default();
        self.before_len -= chain.len();
        chain
    }

    pub(super) fn clear(&mut self) {
        drop(self.output.take());
        self.before = None;
        self.before_len = 0;
    }
}

/// A connection as its protocol sees it, for the time of one call.
pub struct Link<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) pools: &'a Pools,
    pub(super) high_water: usize,
}

impl std::fmt::Debug for Link<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({:?}, {} bytes unsent)", self.key(), self.unsent())
    }
}

impl Link<'_> {
    /// Names this connection, for posts.
    #[inline]
    pub fn key(&self) -> ConnKey {
        ConnKey(self.wire.key)
    }

    /// Its number: of no other connection of this table, and larger than those of all before.
    #[inline]
    pub fn id(&self) -> u64 {
        self.wire.id
    }

    /// Where it comes from, where [`SessionConfig::peers`](super::SessionConfig::peers) asks to know. IPv4 is never
    /// within IPv6 here; a Unix socket has none.
    #[inline]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.wire.peer.as_deref().copied()
    }

    /// When it came, milliseconds on the shard's monotonic clock (`shard.now().mono_ns / 1_000_000`).
    #[inline]
    pub fn opened_ms(&self) -> u64 {
        self.wire.opened_ns / 1_000_000
    }

    /// Says something: a copy of `bytes`. Costs no allocation where the pools have a buffer of that size.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.wire.out.put(self.pools, bytes);
    }

    /// Says something that is sent from where it is. As [`Link::put`] for at most 4 KiB: a piece more costs as much
    /// as copying that.
    #[inline]
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_MAX {
            self.put(&bytes);
        } else {
            self.wire.out.push(bytes);
        }
    }

    /// Bytes said and not taken by the kernel of the peer, so far as the shard knows.
    #[inline]
    pub fn unsent(&self) -> usize {
        self.wire.unsent()
    }

    /// More waits to be sent than should: use no more input, and say [`Next::Again`](super::Next::Again).
    #[inline]
    pub fn is_full(&self) -> bool {
        self.wire.unsent() > self.high_water
    }

    /// Whether a reply is awaited ([`Next::Wait`](super::Next::Wait)).
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.wire.flow == Flow::Waiting
    }

    /// The peer ended its side: nothing more comes from it.
    #[inline]
    pub fn is_half_closed(&self) -> bool {
        self.wire.eof
    }

    /// Closes the connection once nothing came for so long; `None` is never. The time begins with the last input, or
    /// when the peer had taken all that was said. While a reply is awaited it does not run.
    pub fn set_idle(&mut self, idle: Option<Duration>) {
        self.wire.idle_ns = idle_ns(idle);
    }

    /// The pools had no buffer for something that was said: the connection is cut after this call.
    #[inline]
    pub fn output_failed(&self) -> bool {
        self.wire.out.failed()
    }
}

impl Sink for Link<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        Link::put(self, bytes);
    }
}

/// An idle time as a connection keeps it.
pub(super) fn idle_ns(idle: Option<Duration>) -> u64 {
    idle.map_or(NEVER, |idle| u64::try_from(idle.as_nanos()).unwrap_or(NEVER))
}
