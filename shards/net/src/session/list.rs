//! The connections of a table as people ask for them: direct descriptors are shown by no `ss` or `lsof`.
//!
//! Not here: who may ask, and the words (the application).

use std::net::SocketAddr;

use corelane_exec::Shard;

use super::Sessions;
use super::conn::Flow;
use super::protocol::{ConnKey, Protocol};

/// What a table knows of one open connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Its number ([`Link::id`](super::Link::id)).
    pub id: u64,
    /// Where it comes from, where that was asked for.
    pub peer: Option<SocketAddr>,
    /// Nanoseconds since it came.
    pub age_ns: u64,
    /// Nanoseconds since its last input, or since it came.
    pub idle_ns: u64,
    /// Bytes said and not taken.
    pub unsent: usize,
    /// Bytes received and not used.
    pub inbox_bytes: usize,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// It awaits a reply.
    pub waiting: bool,
    /// It is being closed.
    pub closing: bool,
}

impl<P: Protocol> Sessions<P> {
    /// Calls `f` with every connection the protocol opened and that is not gone, in the order of their slots. Walks the
    /// table: for people, not for the path of commands.
    ///
    /// False, and nothing was called, from within a call of the protocol that has the table: do it from `turn_end` or a
    /// task, and post the result.
    pub fn each(&self, shard: &Shard, mut f: impl FnMut(ConnKey, &P::Conn, &Facts)) -> bool {
        let Ok(conns) = self.conns.try_borrow() else { return false };
        let now_ns = shard.now().mono_ns;
        for (key, conn) in conns.iter() {
            let (Some(state), wire) = (&conn.state, &conn.wire) else { continue };
            let facts = Facts {
                id: wire.id,
                peer: wire.peer.as_deref().copied(),
                age_ns: now_ns.saturating_sub(wire.opened_ns),
                idle_ns: now_ns.saturating_sub(wire.heard_ns),
                unsent: wire.unsent(),
                inbox_bytes: wire.unread_len(),
                bytes_in: wire.bytes_in,
                bytes_out: wire.bytes_out,
                waiting: wire.flow == Flow::Waiting,
                closing: !wire.is_open(),
            };
            f(ConnKey(key), state, &facts);
        }
        true
    }
}
