//! From what was said to sends.
//!
//! # Rules
//! 1. One send is under way at most on a connection; what is said meanwhile is gathered for the next.
//! 2. What is held for a reply that comes soon leaves with that reply, or when the connection is to end before it. How
//!    long that may be is the protocol's to bound.
//! 3. A peer must take at least `output_high_water` bytes of a send, or what is left of it, in each `write_time`.
//!
//! Not here: how it is gathered (`link`).

use corelane_base::Op;
use corelane_exec::Shard;
use corelane_pools::Chain;

use super::conn::{Conn, Flow, NEVER, Phase, Wire};
use super::protocol::Protocol;
use super::{Sessions, add, bump, tag};
use crate::errno;

/// Bytes said before a reply that comes soon ([`Next::Soon`](super::Next::Soon)) that wait to be sent with it. More than
/// that fills a segment or two of its own, and is sent at once.
pub const HELD_MAX: usize = 16 << 10;

/// Whether the output waits for a reply that comes soon.
#[inline]
fn is_held(wire: &Wire) -> bool {
    wire.holds && wire.flow == Flow::Waiting && wire.phase == Phase::Open && wire.out.len() <= HELD_MAX
}

impl<P: Protocol> Sessions<P> {
    /// Hands what was said this turn to the kernel, one send a connection.
    #[inline]
    pub(super) fn flush_dirty(&self, shard: &Shard) {
        let mut dirty = self.dirty.borrow_mut();
        if dirty.is_empty() {
            return;
        }
        let mut conns = self.conns.borrow_mut();
        let write_deadline = Self::after(shard, shard.limits().write_time);
        let owed = shard.limits().output_high_water as usize;
        for index in dirty.drain(..) {
            // A slot freed since, or given to a newcomer without output, has nothing to flush.
            let Some(conn) = conns.get_at_mut(index) else { continue };
            let wire = &mut conn.wire;
            if !std::mem::take(&mut wire.dirty) || wire.sending || wire.out.is_empty() || is_held(wire) {
                continue;
            }
            let chain = wire.out.take();
            wire.owed = owed;
            self.send(shard, wire, chain, write_deadline);
            self.settle_timer(shard, wire);
        }
    }

    #[inline]
    fn send(&self, shard: &Shard, wire: &mut Wire, data: Chain, deadline_ns: u64) {
        wire.sending = true;
        wire.in_flight = data.len();
        wire.write_deadline_ns = deadline_ns;
        shard.push(Op::Send { sock: wire.sock, token: self.token(tag::SEND, wire.key), data });
    }

    #[inline]
    pub(super) fn sent(&self, shard: &Shard, conn: &mut Conn<P::Conn>, result: i32, mut data: Chain) {
        let wire = &mut conn.wire;
        wire.sending = false;
        wire.in_flight = 0;
        let deadline = std::mem::replace(&mut wire.write_deadline_ns, NEVER);
        let Ok(sent) = usize::try_from(result) else {
            if result == -errno::EAGAIN || result == -errno::EINTR {
                return self.send(shard, wire, data, deadline);
            }
            drop(data);
            return self.lost(wire);
        };
        add(&self.stats.bytes_out, sent);
        wire.bytes_out += sent as u64;
        data.advance(sent);
        if !data.is_empty() {
            return self.sent_partly(shard, wire, sent, data, deadline);
        }
        drop(data);
        wire.active_ns = shard.now().mono_ns;
        if wire.flow == Flow::Held && !wire.queued {
            self.resume(shard, conn);
        }
        self.retire_if_done(&mut conn.wire);
    }

    /// Rule 3: a peer that takes a little now and then gains no time by it.
    #[cold]
    fn sent_partly(&self, shard: &Shard, wire: &mut Wire, sent: usize, data: Chain, deadline_ns: u64) {
        bump(&self.stats.sends_partial);
        if wire.phase == Phase::Dying {
            return;
        }
        let limits = shard.limits();
        let deadline_ns = if sent >= wire.owed {
            wire.owed = limits.output_high_water as usize;
            Self::after(shard, limits.write_time)
        } else {
            wire.owed -= sent;
            deadline_ns
        };
        self.send(shard, wire, data, deadline_ns);
    }
}
