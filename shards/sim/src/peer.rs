//! The test's end of a connection.
//!
//! # Rules
//! 1. A peer reads what comes without being asked (up to `inbox_bytes_max`), until told to stop.
//! 2. Dropping the handle closes the connection.
//!
//! Not here: how bytes travel (`net`).

use std::net::SocketAddr;
use std::rc::Rc;

use crate::link::{End, Link, PeerEnd, Segment};
use crate::state::{Shared, as_result};

/// A client of the code under test, or a server it connected to.
pub struct Peer {
    shared: Shared,
    link: u64,
    side: usize,
}

impl Peer {
    pub(crate) fn of(shared: &Shared, link: u64, side: usize) -> Peer {
        Peer { shared: Rc::clone(shared), link, side }
    }

    fn look<T>(&self, or: T, look: impl FnOnce(&PeerEnd) -> T) -> T {
        let state = self.shared.borrow();
        state.links.get(&self.link).and_then(|link| link.peer(self.side)).map_or(or, look)
    }

    /// Sends bytes. Says how many were taken: fewer where the link is full, none where it is reset, refused
    /// or this direction was ended.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let mut state = self.shared.borrow_mut();
        let link_bytes = state.config.link_bytes as usize;
        let Some(link) = state.links.get(&self.link) else { return 0 };
        let flow = &link.flows[self.side];
        if link.broken[self.side] || link.is_gone(self.side) || flow.fin_sent {
            return 0;
        }
        let count = flow.space(link_bytes).min(bytes.len());
        if count > 0 {
            state.note("peer write", self.link, i64::from(as_result(count)));
            state.transmit(self.link, self.side, Segment::Data(bytes[..count].to_vec()));
        }
        count
    }

    /// Takes at most `max` bytes of what was received.
    pub fn read(&self, max: usize) -> Vec<u8> {
        let mut state = self.shared.borrow_mut();
        let Some(peer) = state.links.get_mut(&self.link).and_then(|link| link.peer_mut(self.side)) else {
            return Vec::new();
        };
        let count = max.min(peer.inbox.len());
        let bytes = peer.inbox.drain(..count).collect();
        state.note("peer read", self.link, i64::from(as_result(count)));
        state.drain_to_peer(self.link, self.side);
        bytes
    }

    /// Takes all that was received.
    pub fn take(&self) -> Vec<u8> {
        self.read(usize::MAX)
    }

    /// A copy of what was received and not taken.
    pub fn received(&self) -> Vec<u8> {
        self.look(Vec::new(), |peer| peer.inbox.iter().copied().collect())
    }

    /// How many bytes were received and not taken.
    pub fn received_len(&self) -> usize {
        self.look(0, |peer| peer.inbox.len())
    }

    /// Ends this direction: the other side sees the end of the stream after all that was written.
    pub fn shutdown_write(&self) {
        let mut state = self.shared.borrow_mut();
        let Some(link) = state.links.get(&self.link) else { return };
        if !link.flows[self.side].fin_sent && !link.is_gone(self.side) {
            state.note("peer fin", self.link, 0);
            state.transmit(self.link, self.side, Segment::Fin);
        }
    }

    /// Cuts the connection: the other side sees a reset after what it was sent before.
    pub fn reset(&self) {
        let mut state = self.shared.borrow_mut();
        state.note("peer reset", self.link, 0);
        state.transmit(self.link, self.side, Segment::Rst);
        if let Some(peer) = state.links.get_mut(&self.link).and_then(|link| link.peer_mut(self.side)) {
            peer.closed = true;
        }
    }

    /// Closes both directions, like close(2): a reset where bytes came that were not read (only a peer that
    /// stopped reading has such), else the end of the stream. What is sent to it later is answered with a
    /// reset. What was received can still be taken.
    pub fn close(&self) {
        let mut state = self.shared.borrow_mut();
        if state.links.get(&self.link).is_some_and(|link| !link.is_gone(self.side)) {
            state.note("peer close", self.link, 0);
            state.close_end(self.link, self.side);
        }
    }

    /// Reads no more: once the link is full, sends of the other side wait.
    pub fn stop_reading(&self) {
        self.set_reading_stopped(true);
    }

    /// Reads again, what waits first.
    pub fn start_reading(&self) {
        self.set_reading_stopped(false);
    }

    fn set_reading_stopped(&self, stopped: bool) {
        let mut state = self.shared.borrow_mut();
        state.note("peer stop", self.link, i64::from(stopped));
        if let Some(peer) = state.links.get_mut(&self.link).and_then(|link| link.peer_mut(self.side)) {
            peer.reading_stopped = stopped;
        }
        state.drain_to_peer(self.link, self.side);
    }

    /// The connection was set up (and may have ended since).
    pub fn is_connected(&self) -> bool {
        self.look(false, |peer| peer.connected)
    }

    /// Nobody listened, or the queue was full.
    pub fn is_refused(&self) -> bool {
        self.look(false, |peer| peer.refused)
    }

    /// The other side ended its direction, and all before that was received.
    pub fn is_eof(&self) -> bool {
        self.look(false, |peer| peer.eof)
    }

    /// The other side, or a fault, cut the connection.
    pub fn was_reset(&self) -> bool {
        self.look(false, |peer| peer.reset)
    }

    /// Nothing more will come: ended, reset or refused.
    pub fn is_over(&self) -> bool {
        self.look(true, |peer| peer.eof || peer.reset || peer.refused)
    }

    /// Where this end is: what an accept names as the peer's address.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.shared.borrow().links.get(&self.link).map(|link| link.addr[self.side])
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A panic may come while the state is in use; then there is nothing left to close.
        let Ok(mut state) = self.shared.try_borrow_mut() else { return };
        if state.links.get(&self.link).is_some_and(|link: &Link| !link.is_gone(self.side)) {
            state.close_end(self.link, self.side);
        }
        if let Some(link) = state.links.get_mut(&self.link) {
            link.ends[self.side] = End::Gone;
        }
        state.drop_link_if_over(self.link);
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("link", &self.link).field("side", &self.side).finish_non_exhaustive()
    }
}
