//! From responses to sends.
//!
//! # Rules
//! 1. One send is under way at most; what is said meanwhile is gathered for the next.
//! 2. A body that does not keep its announced length ends the connection: the peer must be able to tell.

use corelane_base::Op;
use corelane_exec::Shard;
use corelane_pools::Chain;
use corelane_proto_h1::{self as h1, Sink};

use super::conn::{Conn, Exchange, NEVER, Phase, Reading, Streaming};
use super::{Drain, Http1, add, bump, tag};
use crate::body::Piece;
use crate::errno;
use crate::message::{Response, ResponseBody};
use crate::notice::Signal;
use crate::output::COPY_MAX;
use crate::service::Service;

/// Fields that fit on the stack while a head is written; more are gathered on the heap.
const FIELDS: usize = 16;

impl<S: Service> Http1<S> {
    #[inline]
    fn date(&self, shard: &Shard) -> [u8; 29] {
        let now = shard.now().unix_s;
        let mut date = self.date.borrow_mut();
        if date.unix_s != now {
            date.unix_s = now;
            h1::write_date(now, &mut date.text);
        }
        date.text
    }

    #[inline]
    fn count(&self, status: u16) {
        bump(match status / 100 {
            1 | 2 => &self.stats.responses_2xx,
            3 => &self.stats.responses_3xx,
            4 => &self.stats.responses_4xx,
            _ => &self.stats.responses_5xx,
        });
    }

    /// Writes the answer to the request at hand. A stream goes on by itself; anything else is complete
    /// afterwards and the exchange, if there is one, is over.
    #[inline]
    pub(super) fn answer(&self, shard: &Shard, conn: &mut Conn, response: Response) {
        let Response { status, content_type, headers, body, close } = response;
        let status = if status == 0 { 200 } else { status };
        // A request begun before a drain ends with its connection too.
        if close || self.drain.get() != Drain::No {
            conn.h1.close_after_response();
        }
        if let ResponseBody::Upgrade { protocol, takeover } = body {
            return self.upgrade(shard, conn, &protocol, &headers, takeover);
        }
        let length = match body.length() {
            Some(0) => h1::BodyLength::None,
            Some(n) => h1::BodyLength::Known(n),
            None => h1::BodyLength::Unknown,
        };
        let date = self.date(shard);
        let copied = match &body {
            ResponseBody::Static(bytes) if bytes.len() <= COPY_MAX => bytes.len(),
            ResponseBody::Bytes(bytes) if bytes.len() <= COPY_MAX => bytes.len(),
            _ => 0,
        };
        let before = conn.output.len();
        conn.output.begin(shard.pools(), copied);
        let mut out = conn.output.writer(shard.pools());
        let server = self.config.server;
        let written = if headers.is_empty() {
            let head = h1::StaticHead { status, content_type, server };
            conn.h1.respond_from(&mut self.memo.borrow_mut(), &mut out, head, length, &date)
        } else {
            with_fields(&headers, |headers| {
                let head = h1::ResponseHead { status, headers, content_type, server };
                conn.h1.respond(&mut out, &head, length, &date)
            })
        };
        match written {
            Ok(mode) => {
                self.count(status);
                self.answer_body(shard, conn, body, mode, before);
            }
            Err(bad) => self.bad_head(shard, conn, bad),
        }
    }

    /// The handler's head could not be written: say so in its place.
    #[cold]
    fn bad_head(&self, shard: &Shard, conn: &mut Conn, bad: h1::BadHeader) {
        tracing::error!(shard = shard.id().0, ?bad, "a handler's response cannot be sent: answered 500");
        let date = self.date(shard);
        conn.h1.close_after_response();
        let before = conn.output.len();
        let mut out = conn.output.writer(shard.pools());
        let head = h1::ResponseHead { status: 500, ..h1::ResponseHead::default() };
        if conn.h1.respond(&mut out, &head, h1::BodyLength::None, &date).is_err() {
            return self.kill(conn);
        }
        self.count(500);
        self.measured(shard, conn, before);
        conn.h1.finish_response();
        conn.exchange = None;
    }

    #[inline]
    fn answer_body(
        &self,
        shard: &Shard,
        conn: &mut Conn,
        body: ResponseBody,
        mode: h1::BodyMode,
        before: usize,
    ) {
        if mode != h1::BodyMode::NoBody {
            match body {
                ResponseBody::Empty | ResponseBody::Upgrade { .. } => {}
                ResponseBody::Static(bytes) if bytes.len() <= COPY_MAX => {
                    conn.output.writer(shard.pools()).put(bytes);
                }
                ResponseBody::Static(bytes) => conn.output.push(bytes),
                ResponseBody::Bytes(bytes) if bytes.len() <= COPY_MAX => {
                    conn.output.writer(shard.pools()).put(&bytes);
                }
                ResponseBody::Bytes(bytes) => conn.output.push(bytes),
                ResponseBody::Stream { length, stream } => {
                    let chunked = mode == h1::BodyMode::Chunked;
                    let bytes = (conn.output.len() - before) as u64;
                    return self.stream(shard, conn, Streaming { stream, chunked, left: length, bytes });
                }
            }
        }
        self.measured(shard, conn, before);
        conn.h1.finish_response();
        self.end_exchange(conn);
    }

    /// An answer is complete; the output had `before` bytes in front of it.
    #[inline]
    fn measured(&self, shard: &Shard, conn: &mut Conn, before: usize) {
        self.answered(shard, conn, (conn.output.len() - before) as u64);
    }

    #[inline]
    fn answered(&self, shard: &Shard, conn: &mut Conn, bytes: u64) {
        let began_ns = conn.exchange.as_ref().map(|exchange| exchange.began_ns);
        self.measure.answer(shard, began_ns, bytes);
        self.request_read(conn);
    }

    fn end_exchange(&self, conn: &mut Conn) {
        if let Some(mut exchange) = conn.exchange.take()
            && let Some(task) = exchange.task.take()
        {
            task.cancel();
        }
    }

    fn stream(&self, shard: &Shard, conn: &mut Conn, mut streaming: Streaming) {
        streaming.stream.attach(Signal { list: std::rc::Rc::clone(&self.notices), key: conn.key });
        let exchange = conn.exchange.get_or_insert_with(|| Box::new(Exchange::new(shard.now().mono_ns)));
        exchange.streaming = Some(streaming);
        self.pump(shard, conn);
    }

    /// Moves pieces of a streamed body into the output, up to the high-water mark.
    pub(super) fn pump(&self, shard: &Shard, conn: &mut Conn) {
        let high_water = shard.limits().output_high_water as usize;
        while conn.phase == Phase::Open
            && conn.output.len() + conn.in_flight <= high_water
            && !conn.output.is_full()
        {
            let Some(streaming) = conn.exchange.as_mut().and_then(|e| e.streaming.as_mut()) else { return };
            match streaming.stream.take() {
                Piece::Later => {
                    // Silence of the producer has an end too.
                    let end = Self::after(shard, shard.limits().idle_time);
                    if let Some(exchange) = &mut conn.exchange
                        && exchange.deadline_ns == NEVER
                    {
                        exchange.deadline_ns = end;
                    }
                    return;
                }
                Piece::Aborted => {
                    tracing::debug!(shard = shard.id().0, "a streamed body was cut short by its handler");
                    return self.cut(conn);
                }
                Piece::End => {
                    if streaming.left.is_some_and(|left| left > 0) {
                        tracing::warn!(shard = shard.id().0, "a streamed body fell short of its length");
                        return self.cut(conn);
                    }
                    if streaming.chunked {
                        conn.output.writer(shard.pools()).put(h1::LAST_CHUNK);
                    }
                    if self.drain.get() != Drain::No {
                        conn.h1.close_after_response();
                    }
                    let bytes = streaming.bytes;
                    self.answered(shard, conn, bytes);
                    conn.h1.finish_response();
                    self.end_exchange(conn);
                    return self.go_on(shard, conn);
                }
                Piece::Bytes(bytes) => {
                    let chunked = streaming.chunked;
                    streaming.bytes += bytes.len() as u64;
                    if let Some(left) = &mut streaming.left {
                        let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                            tracing::warn!(shard = shard.id().0, "a streamed body ran over its length");
                            return self.cut(conn);
                        };
                        *left = rest;
                    }
                    if let Some(exchange) = &mut conn.exchange {
                        exchange.deadline_ns = NEVER;
                    }
                    let mut out = conn.output.writer(shard.pools());
                    if chunked {
                        h1::encode_chunk_header(&mut out, bytes.len() as u64);
                    }
                    if bytes.len() <= COPY_MAX {
                        out.put(bytes.as_slice());
                    } else {
                        conn.output.push(bytes);
                    }
                    if chunked {
                        conn.output.writer(shard.pools()).put(h1::CHUNK_END);
                    }
                }
            }
        }
    }

    fn upgrade(
        &self,
        shard: &Shard,
        conn: &mut Conn,
        protocol: &str,
        headers: &[crate::message::Field],
        takeover: crate::message::Takeover,
    ) {
        let before = conn.output.len();
        let mut out = conn.output.writer(shard.pools());
        let written = with_fields(headers, |fields| {
            let mut all = vec![("Upgrade", protocol.as_bytes())];
            all.extend(fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("upgrade")));
            let head = h1::ResponseHead {
                status: 101,
                headers: &all,
                content_type: None,
                server: self.config.server,
            };
            conn.h1.upgrade(&mut out, &head)
        });
        match written {
            Ok(()) => {
                self.count(101);
                self.measured(shard, conn, before);
                self.end_exchange(conn);
                conn.takeover = Some(takeover);
                conn.phase = Phase::HandOver;
                conn.read_deadline_ns = NEVER;
            }
            Err(bad) => self.bad_head(shard, conn, bad),
        }
    }

    /// Refuses what the machine, a deadline or a limit said no to. The connection ends.
    #[cold]
    pub(super) fn reject(&self, shard: &Shard, conn: &mut Conn, reject: &h1::Reject) {
        bump(&self.stats.rejected);
        tracing::debug!(shard = shard.id().0, status = reject.status, why = reject.why.as_str(), "refused");
        let date = self.date(shard);
        if conn.h1.response_started() {
            // Half an answer is out: the only honest end is a cut.
            self.end_exchange(conn);
            return self.cut(conn);
        }
        let before = conn.output.len();
        conn.h1.reject(&mut conn.output.writer(shard.pools()), reject, &date);
        self.count(reject.status);
        self.measured(shard, conn, before);
        self.end_exchange(conn);
        conn.lingers = true;
        self.end_input(conn);
    }

    /// Follows up on what handlers did to bodies.
    pub(super) fn follow_notices(&self, shard: &Shard) {
        // A followed notice may wake a task but never rings at once: one pass sees all there is.
        if self.notices.is_empty() {
            return;
        }
        let mut noticed = self.noticed.borrow_mut();
        self.notices.swap(&mut noticed);
        for key in noticed.drain(..) {
            if self.conns.borrow().get(key).is_some() {
                self.with(shard, key.index, |conn| self.noticed(shard, conn));
            }
        }
    }

    fn noticed(&self, shard: &Shard, conn: &mut Conn) {
        let Some(exchange) = &mut conn.exchange else { return };
        if let Some(feed) = &exchange.feed {
            if feed.reader_gone() {
                exchange.feed = None;
            } else if feed.is_wanted() && conn.h1.expects_continue() {
                conn.h1.respond_continue(&mut conn.output.writer(shard.pools()));
            }
        }
        if exchange.streaming.is_some() {
            self.pump(shard, conn);
        }
        self.go_on(shard, conn);
    }

    /// Hands what was said this turn to the kernel, one send a connection.
    #[inline]
    pub(super) fn flush_dirty(&self, shard: &Shard) {
        let mut dirty = self.dirty.borrow_mut();
        if dirty.is_empty() {
            return;
        }
        let mut conns = self.conns.borrow_mut();
        let write_deadline = Self::after(shard, shard.limits().write_time);
        for index in dirty.drain(..) {
            // A slot freed since, or given to a newcomer without output, has nothing to flush.
            let Some(conn) = conns.get_at_mut(index) else { continue };
            if !std::mem::take(&mut conn.dirty) || conn.sending || conn.output.is_empty() {
                continue;
            }
            let chain = conn.output.take();
            self.send(shard, conn, chain, write_deadline);
            self.settle_timer(shard, conn);
        }
    }

    #[inline]
    fn send(&self, shard: &Shard, conn: &mut Conn, data: Chain, deadline_ns: u64) {
        conn.sending = true;
        conn.in_flight = data.len();
        conn.write_deadline_ns = deadline_ns;
        shard.push(Op::Send { sock: conn.sock, token: self.token(tag::SEND, conn.key), data });
    }

    #[inline]
    pub(super) fn sent(&self, shard: &Shard, conn: &mut Conn, result: i32, mut data: Chain) {
        conn.sending = false;
        conn.in_flight = 0;
        // The rest of a partial send stays under the deadline of the whole: a peer that takes a little now and
        // then gains no time by it.
        let deadline = std::mem::replace(&mut conn.write_deadline_ns, NEVER);
        let Ok(sent) = usize::try_from(result) else {
            if result == -errno::EAGAIN || result == -errno::EINTR {
                return self.send(shard, conn, data, deadline);
            }
            drop(data);
            return self.lost(conn);
        };
        add(&self.stats.bytes_out, sent);
        conn.bytes_out += sent as u64;
        data.advance(sent);
        if !data.is_empty() {
            bump(&self.stats.sends_partial);
            if conn.phase == Phase::Dying {
                return;
            }
            return self.send(shard, conn, data, deadline);
        }
        drop(data);
        if conn.reading == Reading::Idle && conn.read_deadline_ns != NEVER {
            // Idle begins when the answer is out.
            conn.read_deadline_ns = Self::after(shard, shard.limits().idle_time);
        }
        if self.drain.get() == Drain::Closing && conn.is_quiet() {
            // Its answer began before the drain and did not say that we close; others were retired before.
            return self.retire(conn);
        }
        if conn.phase == Phase::Open && (conn.exchange.is_some() || conn.inbox.is_some()) {
            self.pump(shard, conn);
            self.go_on(shard, conn);
        }
    }
}

/// Runs `f` with the fields as the machine wants them.
fn with_fields<R>(fields: &[crate::message::Field], f: impl FnOnce(&[(&str, &[u8])]) -> R) -> R {
    if fields.len() <= FIELDS {
        let mut stack = [("", &b""[..]); FIELDS];
        for (slot, (name, value)) in stack.iter_mut().zip(fields) {
            *slot = (name, value);
        }
        f(&stack[..fields.len()])
    } else {
        let all: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        f(&all)
    }
}
