//! From received bytes to calls of the protocol.
//!
//! # Rules
//! 1. Bytes are used in the receive buffer. Only what is left over is copied, into the inbox; and of what comes behind
//!    that, only as much as completes it.
//! 2. Input that cannot be used yet is never dropped while the connection is open.
//! 3. Where the protocol said how much it wants, it is not asked before so much is there.
//!
//! Not here: how an inbox is kept (`inbox`), when receiving pauses (the table).

use corelane_base::{Op, RecvMode};
use corelane_exec::{Data, Event, Shard};

use super::conn::{Conn, Flow, NEVER, Phase, Recv, Wire};
use super::protocol::{Ending, Next, Protocol};
use super::{Drain, Sessions, add, bump, tag};
use crate::errno;

/// Unread input of a connection that does not read before receiving stops.
pub const INBOX_PAUSE: usize = 64 << 10;

/// Bytes put behind a partial command at first, where it is not known how many it needs. Twice as many each time:
/// few are copied for a short rest, and a long one costs few calls.
const STITCH: usize = 256;

impl<P: Protocol> Sessions<P> {
    pub(super) fn received(&self, shard: &Shard, conn: &mut Conn<P::Conn>, event: &Event<'_>) {
        let wire = &mut conn.wire;
        let look = wire.recv == Recv::LastLook;
        if !event.more {
            wire.recv = Recv::Idle;
        }
        match (&event.data, event.result) {
            (Data::Received(bytes), n) if n > 0 => {
                add(&self.stats.bytes_in, bytes.len());
                wire.bytes_in += bytes.len() as u64;
                wire.retiring = false;
                if wire.phase == Phase::Open {
                    if !event.more && !look {
                        bump(&self.stats.recv_rearmed);
                    }
                    self.input(shard, conn, bytes);
                }
            }
            (_, 0) => self.ended(shard, conn),
            (_, e) if wire.retiring && [errno::ECANCELED, errno::ENOBUFS, errno::EINTR].contains(&-e) => {
                wire.recv = Recv::LastLook;
                let token = self.token(tag::RECV, wire.key);
                shard.push(Op::Recv { sock: wire.sock, token, mode: RecvMode::Ready });
            }
            (_, e) if e == -errno::ENOBUFS => bump(&self.stats.recv_no_buffers),
            (_, e) if e == -errno::EAGAIN && look => {
                let drains = self.drain.get() != Drain::No;
                self.kill_now(wire, if drains { Ending::Drained } else { Ending::Idle });
            }
            (_, e) if e == -errno::ECANCELED || e == -errno::EAGAIN || e == -errno::EINTR => {}
            (_, _) => self.lost(wire),
        }
    }

    /// New bytes, in front of them what is left of older ones.
    #[inline]
    fn input(&self, shard: &Shard, conn: &mut Conn<P::Conn>, bytes: &[u8]) {
        let wire = &mut conn.wire;
        wire.heard_ns = shard.now().mono_ns;
        wire.active_ns = wire.heard_ns;
        if wire.inbox.is_some() || wire.flow != Flow::Reading || bytes.len() < wire.wants {
            return self.input_behind(shard, conn, bytes);
        }
        let mut rest = bytes;
        self.feed(shard, conn, &mut rest);
        if !rest.is_empty() {
            self.keep(&mut conn.wire, rest);
        }
    }

    /// New bytes that cannot be used where they are, or not yet. Completes what is in the inbox with as little of
    /// them as that takes, and goes on with the others in place.
    #[inline(never)]
    fn input_behind(&self, shard: &Shard, conn: &mut Conn<P::Conn>, bytes: &[u8]) {
        let (mut new, mut step) = (bytes, STITCH);
        while conn.wire.flow == Flow::Reading && !new.is_empty() {
            let lacks = conn.wire.wants.saturating_sub(conn.wire.unread_len());
            let (piece, behind) = new.split_at(lacks.max(step).min(new.len()));
            self.keep(&mut conn.wire, piece);
            (new, step) = (behind, step * 2);
            if conn.wire.unread_len() < conn.wire.wants {
                continue; // all of it is kept
            }
            let Some(mut inbox) = conn.wire.inbox.take() else { return };
            let mut rest = inbox.unread();
            self.feed(shard, conn, &mut rest);
            let (left, copied) = (rest.len(), bytes.len() - new.len());
            if left > copied {
                inbox.leave(left);
                conn.wire.inbox = Some(inbox);
                continue;
            }
            // All that was older is used: what is left stands in the receive buffer too.
            self.inboxes.end(inbox);
            let mut rest = &bytes[copied - left..];
            if conn.wire.flow == Flow::Reading && !rest.is_empty() && rest.len() >= conn.wire.wants {
                self.feed(shard, conn, &mut rest);
            }
            new = rest;
            break;
        }
        if !new.is_empty() {
            self.keep(&mut conn.wire, new);
        }
    }

    /// Gives the protocol what there is, unless too much waits for others to take it.
    #[inline]
    fn feed(&self, shard: &Shard, conn: &mut Conn<P::Conn>, unread: &mut &[u8]) {
        let wire = &mut conn.wire;
        if wire.phase != Phase::Open {
            return;
        }
        if wire.unsent() > shard.limits().output_high_water as usize || self.has_many_posts() {
            return self.hold(shard, wire);
        }
        wire.flow = Flow::Reading;
        wire.wants = 0;
        let next =
            self.call(shard, conn, |protocol, shard, state, link| protocol.input(shard, state, link, unread));
        self.follow(shard, &mut conn.wire, next);
    }

    /// Does as the protocol said.
    #[inline]
    pub(super) fn follow(&self, shard: &Shard, wire: &mut Wire, next: Next) {
        match next {
            Next::More { wants } => {
                wire.flow = Flow::Reading;
                wire.wants = wants;
                if wants as u64 > self.config.inbox_bytes_max {
                    self.overrun(wire);
                }
            }
            Next::Again => self.hold(shard, wire),
            Next::Wait | Next::Soon => {
                wire.flow = Flow::Waiting;
                wire.holds = next == Next::Soon;
                wire.wants = 0;
            }
            Next::Same => {}
            Next::Close => self.end_input(wire, Ending::Asked),
            Next::Abort => self.cut(wire, Ending::Asked),
        }
    }

    /// Others first: its turn comes with the next one of the shard, or when the peer took what waits for it.
    fn hold(&self, shard: &Shard, wire: &mut Wire) {
        wire.flow = Flow::Held;
        wire.wants = 0;
        if !wire.queued && wire.unsent() <= shard.limits().output_high_water as usize {
            bump(&self.stats.gave_way);
            wire.queued = true;
            self.waiting.borrow_mut().push_back(wire.key);
        }
    }

    /// Copies bytes out of the receive ring.
    fn keep(&self, wire: &mut Wire, bytes: &[u8]) {
        if wire.phase == Phase::Open {
            self.inboxes.keep(&mut wire.inbox, wire.key, bytes);
            if wire.unread_len() as u64 > self.config.inbox_bytes_max {
                self.overrun(wire);
            }
        }
    }

    #[cold]
    fn overrun(&self, wire: &mut Wire) {
        bump(&self.stats.inbox_full);
        self.cut(wire, Ending::Overrun);
    }

    pub(super) fn drop_inbox(&self, wire: &mut Wire) {
        if let Some(inbox) = wire.inbox.take() {
            self.inboxes.end(inbox);
        }
    }

    /// Goes on with what was kept, as far as the protocol reads and there is enough of it.
    pub(super) fn go_on(&self, shard: &Shard, conn: &mut Conn<P::Conn>) {
        let wire = &conn.wire;
        if wire.flow == Flow::Reading && wire.inbox.is_some() && wire.unread_len() >= wire.wants {
            self.use_inbox(shard, conn);
        }
        self.look_at_the_end(shard, conn);
    }

    fn use_inbox(&self, shard: &Shard, conn: &mut Conn<P::Conn>) {
        conn.wire.end_deadline_ns = NEVER;
        let Some(mut inbox) = conn.wire.inbox.take() else {
            let mut none: &[u8] = &[];
            return self.feed(shard, conn, &mut none);
        };
        let mut rest = inbox.unread();
        self.feed(shard, conn, &mut rest);
        let left = rest.len();
        if left == 0 || conn.wire.phase != Phase::Open {
            self.inboxes.end(inbox);
        } else {
            inbox.leave(left);
            conn.wire.inbox = Some(inbox);
        }
    }

    /// A connection that gave way has its turn.
    pub(super) fn resume(&self, shard: &Shard, conn: &mut Conn<P::Conn>) {
        if conn.wire.phase == Phase::Open && conn.wire.flow == Flow::Held {
            self.use_inbox(shard, conn);
            self.look_at_the_end(shard, conn);
        }
    }

    /// Those that gave way in an earlier turn get their next share.
    pub(super) fn resume_waiting(&self, shard: &Shard) {
        for _ in 0..self.due.get() {
            if self.has_many_posts() {
                break; // the others would be held again, behind those that made them
            }
            let Some(key) = self.waiting.borrow_mut().pop_front() else { break };
            self.with(shard, key.index, |conn| {
                if conn.wire.key == key && std::mem::take(&mut conn.wire.queued) {
                    self.resume(shard, conn);
                }
            });
        }
    }

    /// Where the peer ended its side, and no input is left that can be used: asks the protocol how it ends.
    #[inline]
    pub(super) fn look_at_the_end(&self, shard: &Shard, conn: &mut Conn<P::Conn>) {
        let wire = &conn.wire;
        if !wire.eof || wire.phase != Phase::Open || wire.flow == Flow::Held {
            return;
        }
        let next =
            self.call(shard, conn, |protocol, shard, state, link| protocol.half_closed(shard, state, link));
        let wire = &mut conn.wire;
        match next {
            Next::Close => self.end_input(wire, Ending::Left),
            next => self.follow(shard, wire, next),
        }
        if wire.end_deadline_ns == NEVER && wire.phase == Phase::Open {
            wire.end_deadline_ns = Self::after(shard, shard.limits().half_close_time);
        }
    }

    /// Too much unread input in the table: the oldest goes (DESIGN, rule 6).
    pub(super) fn evict(&self, shard: &Shard) {
        let oldest = || {
            let conns = self.conns.borrow();
            let of = |key| conns.get(key)?.wire.inbox.as_deref();
            self.inboxes.oldest_beyond(self.inboxes_bytes_max, conns.len(), of)
        };
        while let Some(key) = oldest() {
            bump(&self.stats.inbox_evicted);
            self.with(shard, key.index, |conn| self.cut(&mut conn.wire, Ending::Overrun));
        }
    }
}
