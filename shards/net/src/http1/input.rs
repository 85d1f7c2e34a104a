//! From received bytes to calls of the service.
//!
//! # Rules
//! 1. Bytes are parsed in the receive buffer; only what is left over is copied, into the inbox.
//! 2. Input that cannot be used yet is never dropped while the connection is open.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use corelane_exec::{Data, Event, Shard, spawn};
use corelane_proto_h1 as h1;

use super::conn::{Conn, Exchange, NEVER, Phase, Reading, Recv};
use super::{Drain, Http1, add, bump, tag};
use crate::body::BodyFeed;
use crate::errno;
use crate::message::Response;
use crate::notice::Signal;
use crate::service::{Answer, Incoming, Pending, Service};

/// Unread input of a connection that waits for its handler before receiving stops.
pub(super) const INBOX_PAUSE: usize = 64 << 10;

impl<S: Service> Http1<S> {
    pub(super) fn received(&self, shard: &Shard, conn: &mut Conn, event: &Event<'_>) {
        let look = conn.recv == Recv::LastLook;
        if !event.more {
            conn.recv = Recv::Idle;
        }
        match (&event.data, event.result) {
            (Data::Received(bytes), n) if n > 0 => {
                add(&self.stats.bytes_in, bytes.len());
                conn.bytes_in += bytes.len() as u64;
                if !event.more && !look && conn.phase == Phase::Open {
                    bump(&self.stats.recv_rearmed);
                }
                conn.retiring = false;
                self.input(shard, conn, bytes);
            }
            (_, 0) => self.ended(shard, conn),
            (_, e) if conn.retiring && [errno::ECANCELED, errno::ENOBUFS, errno::EINTR].contains(&-e) => {
                conn.recv = Recv::LastLook;
                let token = self.token(tag::RECV, conn.key);
                let mode = corelane_base::RecvMode::Ready;
                shard.push(corelane_base::Op::Recv { sock: conn.sock, token, mode });
            }
            (_, e) if e == -errno::ENOBUFS => bump(&self.stats.recv_no_buffers),
            (_, e) if e == -errno::EAGAIN && look => self.kill(conn),
            (_, e) if e == -errno::ECANCELED || e == -errno::EAGAIN || e == -errno::EINTR => {}
            (_, _) => self.lost(conn),
        }
    }

    /// New bytes, in front of them what is left of older ones.
    pub(super) fn input(&self, shard: &Shard, conn: &mut Conn, bytes: &[u8]) {
        match conn.phase {
            Phase::Open => {}
            Phase::Header => return self.header(shard, conn, bytes),
            Phase::HandOver => return self.keep(conn, bytes),
            Phase::Naming | Phase::Flush | Phase::Linger | Phase::Dying => return,
        }
        if conn.waiting {
            return self.keep(conn, bytes); // its turn comes
        }
        if conn.inbox.is_some() {
            self.keep(conn, bytes);
            self.process_inbox(shard, conn);
            return;
        }
        let mut rest = bytes;
        self.process(shard, conn, &mut rest);
        if !rest.is_empty() && matches!(conn.phase, Phase::Open | Phase::HandOver) {
            self.keep(conn, rest);
        }
    }

    /// Copies bytes out of the receive ring.
    pub(super) fn keep(&self, conn: &mut Conn, bytes: &[u8]) {
        self.inboxes.keep(&mut conn.inbox, conn.key, bytes);
    }

    pub(super) fn drop_inbox(&self, conn: &mut Conn) {
        if let Some(inbox) = conn.inbox.take() {
            self.inboxes.end(inbox);
        }
    }

    /// Goes on with what was kept.
    pub(super) fn process_inbox(&self, shard: &Shard, conn: &mut Conn) {
        let Some(mut inbox) = conn.inbox.take() else {
            // After the end of the stream the machine may still have a word to say.
            if conn.phase == Phase::Open {
                let mut none: &[u8] = &[];
                self.process(shard, conn, &mut none);
            }
            return;
        };
        let mut rest = inbox.unread();
        self.process(shard, conn, &mut rest);
        let left = rest.len();
        if left == 0 || !matches!(conn.phase, Phase::Open | Phase::HandOver) {
            self.inboxes.end(inbox);
        } else {
            inbox.leave(left);
            conn.inbox = Some(inbox);
        }
    }

    /// Runs the machine over `input` until it needs more, must wait, or the budget of a turn is spent.
    #[inline]
    pub(super) fn process<'i>(&self, shard: &Shard, conn: &mut Conn, input: &mut &'i [u8]) {
        let limits = shard.limits();
        let high_water = limits.output_high_water as usize;
        let body_high_water = limits.body_high_water as usize;
        let turn = shard.stats.turns.get();
        if conn.turn != turn {
            conn.turn = turn;
            conn.taken = 0;
        }
        let before = conn.taken;
        conn.processing = true;
        let mut slots: h1::HeaderSlots<'i> = h1::header_slots();
        while conn.phase == Phase::Open {
            if conn.output.len() + conn.in_flight > high_water || conn.output.is_full() {
                break;
            }
            if let Some(feed) = conn.exchange.as_ref().and_then(|e| e.feed.as_ref())
                && feed.is_full(body_high_water)
            {
                break;
            }
            if conn.taken >= limits.pipeline_max {
                if !conn.waiting {
                    conn.waiting = true;
                    self.waiting.borrow_mut().push_back(conn.key);
                }
                break;
            }
            let unread = input.len();
            let step = conn.h1.poll(&self.h1_limits, input, &mut slots);
            conn.request_bytes += (unread - input.len()) as u64;
            match step {
                h1::Step::Head(request) => {
                    conn.taken += 1;
                    conn.request_open = true;
                    if request.body == h1::BodyKind::None {
                        self.request_read(conn);
                    }
                    self.head(shard, conn, &request, input.len());
                }
                h1::Step::NeedMore | h1::Step::AwaitResponse => break,
                h1::Step::Body(bytes) => {
                    if let Some(feed) = conn.exchange.as_ref().and_then(|e| e.feed.as_ref()) {
                        feed.push(bytes);
                    }
                }
                h1::Step::End(_) => {
                    self.request_read(conn);
                    if let Some(exchange) = &mut conn.exchange
                        && let Some(feed) = exchange.feed.take()
                    {
                        feed.end();
                    }
                }
                h1::Step::Reject(reject) => {
                    self.reject(shard, conn, &reject);
                    break;
                }
                h1::Step::Upgraded | h1::Step::Closed => break,
            }
        }
        conn.processing = false;
        self.settle_reading(shard, conn, conn.taken != before);
    }

    /// A request is read, or answered before it was: of a body that is swallowed after its answer nobody knows
    /// where it ends, so it counts with the request behind it.
    #[inline]
    pub(super) fn request_read(&self, conn: &mut Conn) {
        if std::mem::take(&mut conn.request_open) {
            self.measure.request(std::mem::take(&mut conn.request_bytes));
        }
    }

    /// Which deadline reading is under now. `fresh`: a request was taken since the last time.
    #[inline]
    fn settle_reading(&self, shard: &Shard, conn: &mut Conn, fresh: bool) {
        if conn.phase != Phase::Open {
            return;
        }
        let limits = shard.limits();
        if conn.h1.is_idle() {
            if fresh || conn.reading != Reading::Idle || conn.read_deadline_ns == NEVER {
                conn.reading = Reading::Idle;
                conn.read_deadline_ns = Self::after(shard, limits.idle_time);
            }
        } else if conn.h1.head_started() {
            if fresh || conn.reading != Reading::Head {
                conn.reading = Reading::Head;
                conn.read_deadline_ns = Self::after(shard, limits.head_time);
            }
        } else if conn.h1.wants_body() || (conn.exchange.is_none() && conn.h1.in_request()) {
            if fresh || conn.reading != Reading::Body {
                conn.reading = Reading::Body;
                conn.read_deadline_ns = Self::after(shard, limits.body_time);
            }
        } else {
            // The request is here; its handler has its own deadline.
            conn.reading = Reading::Idle;
            conn.read_deadline_ns = NEVER;
        }
    }

    /// One request head: ask the service.
    #[inline]
    fn head(&self, shard: &Shard, conn: &mut Conn, request: &h1::Request<'_, '_>, behind: usize) {
        bump(&self.stats.requests);
        conn.requests += 1;
        conn.asked_close = !request.keep_alive;
        if self.drain.get() != Drain::No {
            conn.h1.close_after_response();
        }
        conn.output.expect_more(behind > 0);
        let mut feed: Option<BodyFeed> = None;
        let signal = match request.body {
            h1::BodyKind::None => None,
            h1::BodyKind::Length(_) | h1::BodyKind::Chunked => {
                Some(Signal { list: Rc::clone(&self.notices), key: conn.key })
            }
        };
        let incoming =
            Incoming { head: request, peer: conn.peer.as_deref().copied(), signal, body: &mut feed };
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.service.call(incoming))) {
            Ok(Answer::Now(response)) => {
                // Nobody will read the body: where it is too large to swallow, the answer must say so.
                if let h1::BodyKind::Length(n) = request.body
                    && n > shard.limits().drain_bytes_max
                {
                    conn.h1.close_after_response();
                }
                self.answer(shard, conn, response);
            }
            Ok(Answer::Later(pending)) => self.begin(shard, conn, pending, feed),
            Err(_) => self.panicked(shard, conn),
        }
    }

    #[cold]
    pub(super) fn panicked(&self, shard: &Shard, conn: &mut Conn) {
        bump(&self.stats.panics);
        tracing::error!(shard = shard.id().0, "a handler panicked: answered 500");
        conn.h1.close_after_response();
        self.answer(shard, conn, Response::status(500));
    }

    /// Starts an async handler.
    fn begin(&self, shard: &Shard, conn: &mut Conn, mut pending: Pending, feed: Option<BodyFeed>) {
        let me = self.me.clone();
        let key = conn.key;
        let handler = async move {
            let outcome = std::future::poll_fn(|cx| {
                let polled = std::panic::catch_unwind(AssertUnwindSafe(|| pending.as_mut().poll(cx)));
                match polled {
                    Ok(poll) => poll.map(Some),
                    Err(_) => std::task::Poll::Ready(None),
                }
            })
            .await;
            if let Some(table) = me.upgrade() {
                table.finish(key, outcome);
            }
        };
        match spawn(handler) {
            Ok(task) => {
                conn.exchange = Some(Box::new(Exchange {
                    feed,
                    task: Some(task),
                    deadline_ns: Self::after(shard, shard.limits().handler_time),
                    ..Exchange::new(shard.now().mono_ns)
                }));
            }
            Err(_) => {
                bump(&self.stats.tasks_full);
                drop(feed);
                conn.h1.close_after_response();
                self.answer(shard, conn, Response::status(503).header("retry-after", &b"1"[..]));
            }
        }
    }

    /// An async handler is done; `None` is a panic.
    fn finish(&self, key: crate::notice::Key, outcome: Option<Response>) {
        let shard = corelane_exec::current();
        if self.conns.borrow().get(key).is_none() {
            return;
        }
        self.with(&shard, key.index, |conn| {
            let Some(exchange) = &mut conn.exchange else { return };
            if let Some(task) = exchange.task.take() {
                task.detach(); // it is the one that runs now
            }
            exchange.deadline_ns = NEVER;
            match outcome {
                Some(response) => self.answer(&shard, conn, response),
                None => self.panicked(&shard, conn),
            }
            self.go_on(&shard, conn);
        });
    }

    /// An answer is complete, or output has drained: take up the input that waited.
    pub(super) fn go_on(&self, shard: &Shard, conn: &mut Conn) {
        if conn.phase != Phase::Open || conn.processing {
            return;
        }
        if conn.exchange.is_none() || conn.h1.wants_body() {
            self.process_inbox(shard, conn);
        }
        self.settle_reading(shard, conn, conn.exchange.is_none() && conn.h1.is_idle());
    }

    /// Connections whose budget ran out get their next share.
    pub(super) fn resume_waiting(&self, shard: &Shard) -> bool {
        let count = self.waiting.borrow().len();
        for _ in 0..count {
            let Some(key) = self.waiting.borrow_mut().pop_front() else { break };
            if self.conns.borrow().get(key).is_none() {
                continue;
            }
            self.with(shard, key.index, |conn| {
                conn.waiting = false;
                self.process_inbox(shard, conn);
            });
        }
        !self.waiting.borrow().is_empty()
    }

    /// Too much unread input on the shard: the oldest goes (DESIGN, rule 6).
    pub(super) fn evict_inboxes(&self, shard: &Shard) {
        let max = shard.limits().inbox_bytes_max;
        let oldest = || {
            let conns = self.conns.borrow();
            self.inboxes.oldest_beyond(max, conns.len(), |key| conns.get(key)?.inbox.as_deref())
        };
        while let Some(key) = oldest() {
            bump(&self.stats.inbox_evicted);
            self.with(shard, key.index, |conn| {
                self.drop_inbox(conn);
                self.kill(conn);
            });
        }
    }
}
