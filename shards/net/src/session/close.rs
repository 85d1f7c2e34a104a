//! Deadlines and the way out of a connection.
//!
//! ```text
//! Naming -> Open -> Dying -> closed         cut, lost, retired
//! Open -> Flush -> Dying -> closed          everything was read: nothing more can come
//!              \-> Linger -> Dying          something may still come: shut our side, drop the rest
//! ```
//!
//! # Rules
//! 1. Close is pushed when no receive, send or shutdown is under way, and never before.
//! 2. A connection lingers unless its peer ended its side: closing with unread bytes resets, and a reset can destroy a
//!    reply the peer has not read yet.
//! 3. What ended a connection first is why it ended.
//!
//! Not here: the drain (`drain`).

use corelane_base::{Op, ShutdownHow, Token};
use corelane_exec::Shard;

use super::conn::{Conn, NEVER, Phase, Recv, Wire};
use super::protocol::{Ending, Protocol};
use super::{Sessions, bump, tag};

impl<P: Protocol> Sessions<P> {
    /// Nothing more is read; what is queued is still sent.
    pub(super) fn end_input(&self, wire: &mut Wire, why: Ending) {
        if wire.phase == Phase::Open {
            wire.phase = Phase::Flush;
            wire.ending.get_or_insert(why);
            wire.end_deadline_ns = NEVER;
            wire.retiring = false;
            self.drop_inbox(wire);
        }
    }

    /// The end by a reset, so that the peer cannot take what it got for the whole, or holds nothing of ours when it
    /// reads nothing.
    pub(super) fn cut(&self, wire: &mut Wire, why: Ending) {
        wire.resets |= wire.phase < Phase::Dying;
        self.kill_now(wire, why);
    }

    /// The end without further words.
    pub(super) fn kill_now(&self, wire: &mut Wire, why: Ending) {
        if wire.phase == Phase::Dying {
            return;
        }
        wire.phase = Phase::Dying;
        wire.ending.get_or_insert(why);
        wire.end_deadline_ns = NEVER;
        wire.write_deadline_ns = NEVER;
        self.drop_inbox(wire);
        wire.out.clear();
    }

    /// The peer is gone: reset, or a send that failed.
    pub(super) fn lost(&self, wire: &mut Wire) {
        wire.eof = true;
        self.kill_now(wire, Ending::Lost);
    }

    /// Closes an idle connection unless input turns up first.
    pub(super) fn retire(&self, wire: &mut Wire, why: Ending) {
        match wire.recv {
            // `settle` cancels it; then comes the last look.
            Recv::Armed | Recv::Cancelling | Recv::LastLook => wire.retiring = true,
            Recv::Idle => self.kill_now(wire, why),
        }
    }

    /// The peer ended its side.
    pub(super) fn ended(&self, shard: &Shard, conn: &mut Conn<P::Conn>) {
        conn.wire.eof = true;
        conn.wire.retiring = false;
        match conn.wire.phase {
            Phase::Linger => self.kill_now(&mut conn.wire, Ending::Left),
            Phase::Open => self.look_at_the_end(shard, conn),
            Phase::Naming | Phase::Flush | Phase::Dying => {}
        }
    }

    /// Moves a closing connection on. True when its slot is free.
    pub(super) fn settle_closing(&self, shard: &Shard, wire: &mut Wire) -> bool {
        if wire.phase == Phase::Flush && !wire.sending && wire.out.is_empty() {
            if wire.eof {
                self.kill_now(wire, Ending::Left);
            } else {
                wire.phase = Phase::Linger;
                wire.end_deadline_ns = Self::after(shard, shard.limits().linger_time);
                wire.other = true;
                let token = self.token(tag::SHUTDOWN, wire.key);
                shard.push(Op::Shutdown { sock: wire.sock, token, how: ShutdownHow::Write });
            }
        }
        if wire.phase != Phase::Dying {
            return false;
        }
        let is_over = wire.recv == Recv::Idle && !wire.sending && !wire.other;
        if (is_over || !wire.cancelled) && std::mem::take(&mut wire.resets) {
            shard.push(Op::Reset { sock: wire.sock, token: Token::NONE });
        }
        if is_over {
            shard.push(Op::Close { sock: wire.sock, token: Token::NONE });
        } else if !wire.cancelled {
            wire.cancelled = true;
            shard.push(Op::CancelSock { sock: wire.sock, token: Token::NONE });
        }
        is_over
    }

    /// A timer of this connection fired; which deadline was it?
    pub(super) fn deadline(&self, shard: &Shard, wire: &mut Wire) {
        let now = shard.now().mono_ns;
        if wire.write_deadline_ns <= now {
            bump(&self.stats.timeouts_write);
            tracing::debug!(shard = shard.id().0, "a peer did not read its replies in time");
            return self.cut(wire, Ending::Unread);
        }
        if wire.end_deadline_ns <= now {
            wire.end_deadline_ns = NEVER;
            if wire.phase == Phase::Open {
                bump(&self.stats.timeouts_half_closed);
                return self.end_input(wire, Ending::Late);
            }
            return self.kill_now(wire, Ending::Late);
        }
        if wire.idle_deadline_ns() <= now {
            bump(&self.stats.timeouts_idle);
            self.retire(wire, Ending::Idle);
        }
    }
}
