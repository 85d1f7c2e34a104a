//! Deadlines and the way out of a connection.
//!
//! ```text
//! Naming -> Header -> Open                   what comes before; from each to Dying
//! Open -> Flush -> Dying -> closed          everything was read: nothing more can come
//!              \-> Linger -> Dying          something may still come: shut our side, drop the rest
//! Open -> HandOver -> taken over            after a 101
//! ```
//!
//! # Rules
//! 1. Close is pushed when no receive, send or shutdown is under way, and never before.
//! 2. A connection lingers unless its client asked for the end, or ended its side, with nothing unread: closing with unread bytes resets, and a
//!    reset can destroy an answer the peer has not read yet (RFC 9112, 9.6).

use corelane_base::{Op, ShutdownHow, Token};
use corelane_exec::Shard;
use corelane_proto_h1 as h1;

use super::conn::{Conn, NEVER, Phase, Reading, Recv};
use super::{Http1, bump, tag};
use crate::message::Response;
use crate::service::Service;
use crate::stream::Streams;

impl<S: Service> Http1<S> {
    /// Nothing more is read; what is queued is still sent.
    pub(super) fn end_input(&self, conn: &mut Conn) {
        if conn.phase == Phase::Open {
            if conn.unread_len() > 0 || conn.h1.in_request() {
                conn.lingers = true;
            }
            conn.phase = Phase::Flush;
            conn.read_deadline_ns = NEVER;
            self.drop_inbox(conn);
        }
    }

    /// The end by a reset, so that the peer cannot take what it got for the whole, or holds nothing of ours
    /// when it reads nothing.
    pub(super) fn cut(&self, conn: &mut Conn) {
        conn.resets = conn.phase < Phase::Dying;
        self.kill(conn);
    }

    /// The end without further words.
    pub(super) fn kill(&self, conn: &mut Conn) {
        if conn.phase == Phase::Dying {
            return;
        }
        conn.phase = Phase::Dying;
        conn.read_deadline_ns = NEVER;
        conn.write_deadline_ns = NEVER;
        self.drop_inbox(conn);
        drop(conn.output.take());
        conn.takeover = None;
        if let Some(mut exchange) = conn.exchange.take() {
            if let Some(task) = exchange.task.take() {
                bump(&self.stats.cancelled);
                task.cancel();
            }
            exchange.deadline_ns = NEVER;
        }
    }

    /// The peer is gone: reset, or a send that failed.
    pub(super) fn lost(&self, conn: &mut Conn) {
        conn.eof = true;
        self.kill(conn);
    }

    /// Closes an idle connection unless a request turns up first.
    pub(super) fn retire(&self, conn: &mut Conn) {
        conn.read_deadline_ns = NEVER;
        match conn.recv {
            Recv::Armed => conn.retiring = true, // `settle` cancels it; then comes the last look
            Recv::Idle => self.kill(conn),
            Recv::Cancelling | Recv::LastLook => conn.retiring = true,
        }
    }

    /// The peer ended its side.
    pub(super) fn ended(&self, shard: &Shard, conn: &mut Conn) {
        conn.eof = true;
        match conn.phase {
            Phase::Linger => self.kill(conn),
            Phase::Header => self.no_header(conn, conn.inbox.is_some()),
            Phase::Naming | Phase::Flush | Phase::Dying | Phase::HandOver => {}
            Phase::Open => {
                conn.h1.handle_eof();
                match &mut conn.exchange {
                    Some(exchange) => {
                        if exchange.deadline_ns != NEVER && exchange.streaming.is_none() {
                            let end = Self::after(shard, shard.limits().half_close_time);
                            exchange.deadline_ns = exchange.deadline_ns.min(end);
                        }
                        self.process_inbox(shard, conn);
                    }
                    None => {
                        self.process_inbox(shard, conn);
                        if conn.phase == Phase::Open
                            && conn.exchange.is_none()
                            && !conn.waiting
                            && conn.unread_len() == 0
                        {
                            self.end_input(conn);
                        }
                    }
                }
            }
        }
    }

    /// Moves a closing connection on. True when its slot is free.
    pub(super) fn settle_closing(&self, shard: &Shard, conn: &mut Conn) -> bool {
        if conn.phase == Phase::Flush && !conn.sending && conn.output.is_empty() {
            if (conn.lingers || !conn.asked_close) && !conn.eof {
                conn.phase = Phase::Linger;
                conn.reading = Reading::Linger;
                conn.read_deadline_ns = Self::after(shard, shard.limits().linger_time);
                conn.other = true;
                let token = self.token(tag::SHUTDOWN, conn.key);
                shard.push(Op::Shutdown { sock: conn.sock, token, how: ShutdownHow::Write });
            } else {
                self.kill(conn);
            }
        }
        if conn.phase == Phase::HandOver {
            return self.settle_hand_over(shard, conn);
        }
        if conn.phase != Phase::Dying {
            return false;
        }
        if conn.recv == Recv::Idle && !conn.sending && !conn.other {
            if std::mem::take(&mut conn.resets) {
                shard.push(Op::Reset { sock: conn.sock, token: Token::NONE });
            }
            shard.push(Op::Close { sock: conn.sock, token: Token::NONE });
            return true;
        }
        if !conn.cancelled {
            conn.cancelled = true;
            if std::mem::take(&mut conn.resets) {
                shard.push(Op::Reset { sock: conn.sock, token: Token::NONE });
            }
            shard.push(Op::CancelSock { sock: conn.sock, token: Token::NONE });
        }
        false
    }

    fn settle_hand_over(&self, shard: &Shard, conn: &mut Conn) -> bool {
        if conn.recv != Recv::Idle || conn.sending || !conn.output.is_empty() {
            return false;
        }
        let Some(takeover) = conn.takeover.take() else { return false };
        // It goes on counting as a connection of ours, and of its peer.
        let share = self.share(conn);
        let leftover = conn.inbox.as_ref().map_or(&[][..], |inbox| inbox.unread());
        match Streams::of(shard).adopt(conn.sock, leftover, conn.eof, Some(Box::new(share))) {
            Ok(stream) => self.takeovers.borrow_mut().push((takeover, stream)),
            Err(_) => shard.push(Op::Close { sock: conn.sock, token: Token::NONE }),
        }
        true
    }

    /// A timer of this connection fired; which deadline was it?
    pub(super) fn deadline(&self, shard: &Shard, conn: &mut Conn) {
        let now = shard.now().mono_ns;
        let due = |at: u64| at <= now;
        if conn.reading == Reading::Body && due(conn.read_deadline_ns) {
            // Before the handler's deadline, which may be the same: it is the client that is slow.
            return self.read_late(shard, conn);
        }
        if due(conn.write_deadline_ns) {
            bump(&self.stats.timeouts_write);
            tracing::debug!(shard = shard.id().0, "a peer did not read its answer in time");
            return self.cut(conn);
        }
        if let Some(exchange) = &conn.exchange
            && due(exchange.deadline_ns)
        {
            return self.handler_late(shard, conn);
        }
        if due(conn.read_deadline_ns) {
            self.read_late(shard, conn);
        }
    }

    fn handler_late(&self, shard: &Shard, conn: &mut Conn) {
        if conn.eof && !conn.h1.response_started() {
            return self.kill(conn);
        }
        bump(&self.stats.timeouts_handler);
        if conn.h1.response_started() {
            tracing::warn!(shard = shard.id().0, "a streamed body fell silent for idle_time: cut");
            return self.cut(conn);
        }
        tracing::warn!(shard = shard.id().0, "a handler missed its deadline: cancelled, answered 503");
        if let Some(exchange) = &mut conn.exchange {
            exchange.deadline_ns = NEVER;
            if let Some(task) = exchange.task.take() {
                task.cancel();
            }
        }
        conn.h1.close_after_response();
        self.answer(shard, conn, Response::status(503));
        self.go_on(shard, conn);
    }

    fn read_late(&self, shard: &Shard, conn: &mut Conn) {
        conn.read_deadline_ns = NEVER;
        match conn.reading {
            Reading::Linger => self.kill(conn),
            Reading::Proxy => {
                bump(&self.stats.timeouts_head);
                self.no_header(conn, true);
            }
            Reading::Idle if conn.sending || !conn.output.is_empty() => {
                conn.read_deadline_ns = Self::after(shard, shard.limits().idle_time);
            }
            Reading::Idle => {
                bump(&self.stats.timeouts_idle);
                self.retire(conn);
            }
            Reading::Head | Reading::Body => {
                let why = if conn.reading == Reading::Head {
                    bump(&self.stats.timeouts_head);
                    h1::Why::HeadTimeout
                } else {
                    bump(&self.stats.timeouts_body);
                    h1::Why::BodyTimeout
                };
                if conn.h1.response_started() || !(conn.h1.awaiting_response() || conn.h1.head_started()) {
                    return self.cut(conn);
                }
                self.reject(shard, conn, &h1::Reject { status: 408, why });
            }
        }
    }
}
