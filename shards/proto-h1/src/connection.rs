//! Connection: which bytes are head, body or nothing any more, and when the connection ends.
//!
//! # Rules
//! 1. One request at a time: the next head is read only after [`Connection::finish_response`].
//! 2. A growing head is scanned once for line ends, and parsed again only when its empty line has come or its
//!    length has doubled: the work is linear in its bytes, however they drip in.
//! 3. A framing error, an unread body beyond the drain limit, and an unanswered `Expect` end the connection.
//! 4. Bytes after the last request the connection will serve are never looked at.
//!
//! Not here: what a head means (`head`), how chunks are decoded (`chunked`), how answers look (`response`).

use crate::chunked::{Chunked, Piece};
use crate::fields::{Lines, scan_lines};
use crate::head::{accept, accept_by_hand, explain};
use crate::response::{Framing, HeadMemo, StaticHead, check_head, write_head, write_reject};
use crate::simple::accept_simple;
use crate::{
    BadHeader, BodyKind, BodyLength, BodyMode, HeaderSlots, Limits, Method, Reject, Request, ResponseHead,
    Sink, Trailers, Version, Why,
};

/// What [`Connection::poll`] found.
#[derive(Clone, Copy, Debug)]
pub enum Step<'h, 'i> {
    /// Present the unread bytes again when there are more.
    NeedMore,
    /// A request head. Its body, if any, comes with the next polls.
    Head(Request<'h, 'i>),
    /// Bytes of the body, never empty.
    Body(&'i [u8]),
    /// The body is whole. Not given for requests without one.
    End(Trailers<'i>),
    /// The request is read; nothing more is until [`Connection::finish_response`].
    AwaitResponse,
    /// The answer 101 was written: what is left of the input, and all later bytes, are not HTTP. Given once.
    Upgraded,
    /// Nothing more will be read. See [`Connection::must_close`].
    Closed,
    /// Not acceptable. Answer with [`Connection::reject`], then close. Given at most once.
    Reject(Reject),
}

/// What the end of the peer's bytes means ([`Connection::handle_eof`]).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EofKind {
    /// Between requests: close.
    CleanEnd,
    /// Within a head or body: `poll` once more for the refusal (400), or close silently.
    Incomplete,
    /// A request was read and its answer is not finished: answer it, poll the rest, then close.
    StillAnswering,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// In the empty lines or the head of a request.
    Head,
    /// In a body of known length; `left` are missing.
    Length,
    Chunks,
    Trailers,
    /// Behind the last byte of a body whose `End` was not given yet.
    BodyEnd,
    /// Behind the request.
    Done,
    /// 101 was written, `Upgraded` not yet given.
    Upgrading,
    Upgraded,
    Closed,
}

/// Facts about the request at hand (low bits, cleared for the next) and the connection (high bits, kept).
mod flag {
    pub(super) const HTTP10: u16 = 1 << 0;
    pub(super) const HEAD: u16 = 1 << 1;
    pub(super) const CONNECT: u16 = 1 << 2;
    /// The client waits for 100, nothing was sent and no byte of the body was seen.
    pub(super) const EXPECT: u16 = 1 << 3;
    pub(super) const UPGRADE: u16 = 1 << 4;
    /// The request line of a partial head was seen whole.
    pub(super) const LINE_DONE: u16 = 1 << 5;
    /// A request or refusal waits for its answer.
    pub(super) const OWED: u16 = 1 << 6;
    /// The head of that answer was written.
    pub(super) const STARTED: u16 = 1 << 7;
    /// The answer is finished; the rest of the body is swallowed.
    pub(super) const DRAINING: u16 = 1 << 8;
    /// The connection ends with this answer.
    pub(super) const CLOSE: u16 = 1 << 9;
    /// The peer sends no more.
    pub(super) const EOF: u16 = 1 << 10;

    pub(super) const KEPT: u16 = CLOSE | EOF;
}

/// The machine of one connection. See the crate for the calling order.
#[derive(Clone, Debug)]
pub struct Connection {
    phase: Phase,
    /// Empty lines skipped before the head at hand.
    empty_lines: u8,
    flags: u16,
    /// Bytes of a partial head or trailer section whose line ends were looked at.
    scanned: u32,
    /// Length of the partial head when it was last parsed.
    looked: u32,
    /// Body bytes: still to come (length), or that may still come (chunked).
    left: u64,
    /// Bytes that may still be swallowed after the answer.
    drain_left: u64,
    chunked: Chunked,
}

const _: () = assert!(size_of::<Connection>() <= 64);

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// A connection that waits for its first request.
    pub const fn new() -> Self {
        Self {
            phase: Phase::Head,
            empty_lines: 0,
            flags: 0,
            scanned: 0,
            looked: 0,
            left: 0,
            drain_left: 0,
            chunked: Chunked::new(),
        }
    }

    /// The next step from the unread bytes. Advances `input` past what was consumed.
    ///
    /// A partial head or trailer section is not consumed: present it again, whole and unchanged, with what
    /// came after it (at most `head_bytes_max` bytes are ever needed). Costs O(consumed bytes); a partial head
    /// costs O(its final length) over all its polls.
    #[inline]
    pub fn poll<'i, 'h>(
        &mut self,
        limits: &Limits,
        input: &mut &'i [u8],
        slots: &'h mut HeaderSlots<'i>,
    ) -> Step<'h, 'i> {
        if self.phase != Phase::Head
            && let Some(step) = self.poll_beyond_head(limits, input)
        {
            return step;
        }
        self.poll_head(limits, input, slots)
    }

    #[inline]
    fn poll_head<'i, 'h>(
        &mut self,
        limits: &Limits,
        input: &mut &'i [u8],
        slots: &'h mut HeaderSlots<'i>,
    ) -> Step<'h, 'i> {
        match input.first() {
            None => return self.need_more(),
            // No token starts with a control byte; only these two have a meaning here.
            Some(b'\r' | b'\n') => match self.skip_empty_lines(limits, input) {
                Ok(true) => {}
                Ok(false) => return self.need_more(),
                Err(why) => return self.refuse(why),
            },
            Some(_) => {}
        }
        if self.scanned != 0 {
            match self.rescan(limits, input) {
                Ok(true) => {}
                Ok(false) => return self.need_more(),
                Err(why) => return self.refuse_head(why, input),
            }
        }
        let whole: &'i [u8] = input;
        let window = &whole[..whole.len().min(limits.head_bytes_max as usize)];
        if let Some(last) = &slots.last
            && let Some(rest) = last.repeated_in(whole)
            && let Some(request) = last.request_in(window)
        {
            *input = rest;
            self.start(&request, limits);
            return Step::Head(request);
        }
        if let Some(simple) = accept_simple(window, limits) {
            let rest = &whole[simple.len()..];
            *input = rest;
            if !rest.is_empty() {
                slots.last = Some(simple);
            }
            let request = simple.request();
            self.start(&request, limits);
            return Step::Head(request);
        }
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(window, &mut slots.fields[..limits.slots()]) {
            Ok(httparse::Status::Complete(len)) => match accept(&window[..len], parsed, limits) {
                Ok(request) => {
                    *input = &whole[len..];
                    self.start(&request, limits);
                    Step::Head(request)
                }
                Err(why) => self.refuse_head(why, input),
            },
            other => self.poll_unusual_head(limits, input, other.err()),
        }
    }

    /// A head that httparse found partial, or refused.
    #[cold]
    fn poll_unusual_head<'i, 'h>(
        &mut self,
        limits: &Limits,
        input: &mut &'i [u8],
        error: Option<httparse::Error>,
    ) -> Step<'h, 'i> {
        let whole: &'i [u8] = input;
        let window = &whole[..whole.len().min(limits.head_bytes_max as usize)];
        let accepted = match error {
            Some(error) => accept_by_hand(window, limits, error),
            None if whole.len() >= limits.head_bytes_max as usize => Err(explain(window, limits)),
            None => Ok(None),
        };
        match accepted {
            Ok(Some((request, len))) => {
                *input = &whole[len..];
                self.start(&request, limits);
                Step::Head(request)
            }
            Ok(None) => match self.remember(limits, input) {
                Ok(()) => self.need_more(),
                Err(why) => self.refuse_head(why, input),
            },
            Err(why) => self.refuse_head(why, input),
        }
    }

    /// Skips empty lines; false when the input ends within them.
    ///
    /// RFC 9112, 2.2: "a server ... SHOULD ignore at least one empty line (CRLF) received prior to the
    /// request-line".
    #[cold]
    fn skip_empty_lines(&mut self, limits: &Limits, input: &mut &[u8]) -> Result<bool, Why> {
        loop {
            match **input {
                [b'\r', b'\n', ..] => {
                    if self.empty_lines >= limits.empty_lines_max {
                        return Err(Why::EmptyLines);
                    }
                    self.empty_lines += 1;
                    *input = &input[2..];
                }
                [] | [b'\r'] => return Ok(false),
                [b'\n', ..] => return Err(Why::BareLf),
                [b'\r', ..] => return Err(Why::BareCr),
                _ => return Ok(true),
            }
        }
    }

    /// Looks at the new bytes of a partial head; true when it must be parsed (again).
    #[cold]
    fn rescan(&mut self, limits: &Limits, input: &[u8]) -> Result<bool, Why> {
        let from = self.scanned as usize;
        assert!(input.len() >= from, "a partial head must be presented again whole");
        if self.flags & flag::EOF != 0 {
            return Ok(true);
        }
        if input.len() == from {
            return Ok(false);
        }
        let doubled = input.len() >= 2 * self.looked as usize;
        let full = input.len() >= limits.head_bytes_max as usize;
        if doubled || full || self.scan(limits, input)? {
            return Ok(true);
        }
        Ok(false)
    }

    /// Scans the line ends of `input` from where the last scan stopped; true when the head is whole.
    fn scan(&mut self, limits: &Limits, input: &[u8]) -> Result<bool, Why> {
        let from = self.scanned as usize;
        self.scanned = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let line_seen = match scan_lines(input, from, false) {
            Lines::Blank(_) => return Ok(true),
            Lines::Bare => return Err(explain(input, limits)),
            Lines::More { line_seen } => line_seen,
        };
        if self.flags & flag::LINE_DONE == 0 {
            let line_max = limits.line_bytes_max as usize + 2;
            let line_window = &input[..input.len().min(line_max)];
            if line_seen && memchr::memchr(b'\n', line_window).is_some() {
                self.flags |= flag::LINE_DONE;
            } else if input.len() >= line_max {
                return Err(explain(input, limits));
            }
        }
        Ok(false)
    }

    /// Remembers how far a head that was just parsed without an end or a fault is known.
    fn remember(&mut self, limits: &Limits, input: &[u8]) -> Result<(), Why> {
        self.scan(limits, input)?;
        self.looked = self.scanned;
        Ok(())
    }

    /// Takes over what a head says.
    #[inline]
    fn start(&mut self, request: &Request<'_, '_>, limits: &Limits) {
        let mut flags = self.flags & flag::KEPT | flag::OWED;
        if request.version == Version::Http10 {
            flags |= flag::HTTP10;
        }
        match request.method {
            Method::Head => flags |= flag::HEAD,
            Method::Connect => flags |= flag::CONNECT,
            _ => {}
        }
        if !request.keep_alive {
            flags |= flag::CLOSE;
        }
        if request.upgrade.is_some() {
            flags |= flag::UPGRADE;
        }
        self.empty_lines = 0;
        self.scanned = 0;
        self.looked = 0;
        self.phase = match request.body {
            BodyKind::None => Phase::Done,
            BodyKind::Length(length) => {
                self.left = length;
                Phase::Length
            }
            BodyKind::Chunked => {
                self.left = limits.body_bytes_max;
                self.chunked = Chunked::new();
                Phase::Chunks
            }
        };
        if self.phase != Phase::Done {
            self.drain_left = limits.drain_bytes_max;
            if request.expect_continue {
                flags |= flag::EXPECT;
            }
        }
        self.flags = flags;
    }

    /// Everything but heads; `None` when the next thing is a head.
    fn poll_beyond_head<'h, 'i>(&mut self, limits: &Limits, input: &mut &'i [u8]) -> Option<Step<'h, 'i>> {
        match self.phase {
            Phase::Done => Some(Step::AwaitResponse),
            Phase::Closed | Phase::Upgraded => Some(Step::Closed),
            Phase::Upgrading => {
                self.phase = Phase::Upgraded;
                Some(Step::Upgraded)
            }
            _ if self.flags & flag::DRAINING != 0 => self.drain(limits, input),
            _ => Some(self.poll_body(limits, input)),
        }
    }

    fn poll_body<'h, 'i>(&mut self, limits: &Limits, input: &mut &'i [u8]) -> Step<'h, 'i> {
        let result = match self.phase {
            Phase::BodyEnd => {
                self.phase = Phase::Done;
                return Step::End(Trailers::default());
            }
            Phase::Length => Ok(self.poll_length(input)),
            Phase::Chunks => self.poll_chunks(limits, input),
            _ => self.poll_trailers(limits, input),
        };
        match result {
            Ok(Some(step)) => {
                // RFC 9110, 10.1.1: "MAY omit sending a 100 (Continue) response if it has already received some or all
                // of the content"
                self.flags &= !flag::EXPECT;
                step
            }
            Ok(None) => self.need_more(),
            Err(why) => self.refuse(why),
        }
    }

    fn poll_length<'h, 'i>(&mut self, input: &mut &'i [u8]) -> Option<Step<'h, 'i>> {
        if input.is_empty() {
            return None;
        }
        let take = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
        let (body, rest) = input.split_at(take);
        *input = rest;
        self.left -= take as u64;
        if self.left == 0 {
            self.phase = Phase::BodyEnd;
        }
        Some(Step::Body(body))
    }

    fn poll_chunks<'h, 'i>(
        &mut self,
        limits: &Limits,
        input: &mut &'i [u8],
    ) -> Result<Option<Step<'h, 'i>>, Why> {
        match self.chunked.poll(input, &mut self.left, limits.chunk_ext_bytes_max)? {
            Piece::NeedMore => Ok(None),
            Piece::Data(data) => Ok(Some(Step::Body(data))),
            Piece::Last => {
                self.phase = Phase::Trailers;
                self.scanned = 0;
                self.poll_trailers(limits, input)
            }
        }
    }

    fn poll_trailers<'h, 'i>(
        &mut self,
        limits: &Limits,
        input: &mut &'i [u8],
    ) -> Result<Option<Step<'h, 'i>>, Why> {
        let from = self.scanned as usize;
        assert!(input.len() >= from, "a partial trailer section must be presented again whole");
        let max = limits.trailer_bytes_max as usize;
        let window = &input[..input.len().min(max)];
        match scan_lines(window, from.min(window.len()), true) {
            Lines::Blank(end) => {
                let section: &'i [u8] = &input[..end];
                let trailers = Trailers::parse(section)?;
                *input = &input[end..];
                self.phase = Phase::Done;
                self.scanned = 0;
                Ok(Some(Step::End(trailers)))
            }
            Lines::Bare => Err(Why::BareLf),
            Lines::More { .. } if window.len() >= max => Err(Why::TrailerTooLong),
            Lines::More { .. } => {
                self.scanned = u32::try_from(window.len()).unwrap_or(u32::MAX);
                Ok(None)
            }
        }
    }

    /// Swallows the rest of a body whose request is answered; `None` when it is behind us.
    ///
    /// RFC 9112, 9.3: "a server MUST read the entire request message body or close the connection after
    /// sending its response".
    fn drain<'h, 'i>(&mut self, limits: &Limits, input: &mut &'i [u8]) -> Option<Step<'h, 'i>> {
        while !matches!(self.phase, Phase::Done | Phase::BodyEnd) {
            let before = input.len();
            let result = match self.phase {
                Phase::Length => Ok(self.poll_length(input)),
                Phase::Chunks => self.poll_chunks(limits, input),
                _ => self.poll_trailers(limits, input),
            };
            let swallowed = (before - input.len()) as u64;
            match (result, self.drain_left.checked_sub(swallowed)) {
                (Ok(step), Some(left)) => {
                    self.drain_left = left;
                    if step.is_none() {
                        return Some(self.need_more());
                    }
                }
                (Err(_), _) | (_, None) => {
                    self.phase = Phase::Closed;
                    return Some(Step::Closed);
                }
            }
        }
        self.next_request();
        if self.phase == Phase::Closed { Some(Step::Closed) } else { None }
    }

    /// More bytes, unless there will be none.
    fn need_more<'h, 'i>(&mut self) -> Step<'h, 'i> {
        if self.flags & flag::EOF == 0 {
            return Step::NeedMore;
        }
        match self.phase {
            Phase::Head if self.scanned == 0 => {
                self.phase = Phase::Closed;
                Step::Closed
            }
            Phase::Head => self.refuse(Why::IncompleteHead),
            _ => self.refuse(Why::IncompleteBody),
        }
    }

    #[cold]
    fn refuse_head<'h, 'i>(&mut self, why: Why, input: &[u8]) -> Step<'h, 'i> {
        if input.starts_with(b"HEAD ") {
            self.flags |= flag::HEAD;
        }
        self.refuse(why)
    }

    #[cold]
    fn refuse<'h, 'i>(&mut self, why: Why) -> Step<'h, 'i> {
        self.phase = Phase::Closed;
        if self.flags & flag::DRAINING != 0 {
            return Step::Closed;
        }
        self.flags |= flag::OWED | flag::CLOSE;
        Step::Reject(Reject::from(why))
    }

    /// Ready for the next head, or not any more.
    #[inline]
    fn next_request(&mut self) {
        debug_assert_eq!(self.scanned, 0, "no offset outlives its request");
        self.phase = if self.flags & flag::CLOSE != 0 { Phase::Closed } else { Phase::Head };
        self.flags &= flag::KEPT;
    }

    /// The peer closed its sending side. Call it when [`Connection::poll`] has asked for more; afterwards `poll`
    /// never does again, but gives [`Step::Closed`] or the refusal of what is incomplete.
    pub fn handle_eof(&mut self) -> EofKind {
        self.flags |= flag::EOF;
        match self.phase {
            Phase::Head if self.scanned == 0 => EofKind::CleanEnd,
            Phase::Head | Phase::Length | Phase::Chunks | Phase::Trailers => {
                if self.flags & flag::DRAINING != 0 { EofKind::CleanEnd } else { EofKind::Incomplete }
            }
            Phase::BodyEnd | Phase::Done => EofKind::StillAnswering,
            Phase::Closed if self.flags & flag::OWED != 0 => EofKind::StillAnswering,
            Phase::Upgrading | Phase::Upgraded | Phase::Closed => EofKind::CleanEnd,
        }
    }

    /// Writes status line, fields and framing of an answer; says how its body must be sent.
    ///
    /// Costs about 15 copies of a few bytes. Call [`Connection::finish_response`] when the body is queued.
    ///
    /// # Errors
    /// [`BadHeader`], and nothing is written: the application may try again with another head.
    ///
    /// # Panics
    /// Without a request that waits for its answer.
    #[inline]
    pub fn respond<S: Sink>(
        &mut self,
        out: &mut S,
        head: &ResponseHead<'_>,
        length: BodyLength,
        date: &[u8; 29],
    ) -> Result<BodyMode, BadHeader> {
        self.may_respond(head.status)?;
        let asked = check_head(head)?;
        let (framing, mode) = self.framing(head.status, length, asked.upgrade);
        write_head(out, head, framing, if asked.own_date { None } else { Some(date) });
        self.flags |= flag::STARTED;
        Ok(mode)
    }

    /// As [`Connection::respond`], for a head made of constants: when `memo` holds the same one, of this second,
    /// it costs one copy.
    ///
    /// # Errors
    /// As [`Connection::respond`].
    ///
    /// # Panics
    /// As [`Connection::respond`].
    #[inline]
    pub fn respond_from<S: Sink>(
        &mut self,
        memo: &mut HeadMemo,
        out: &mut S,
        head: StaticHead,
        length: BodyLength,
        date: &[u8; 29],
    ) -> Result<BodyMode, BadHeader> {
        self.may_respond(head.status)?;
        let before = self.flags;
        let (framing, mode) = self.framing(head.status, length, false);
        match memo.write(out, head, framing, date) {
            Ok(()) => {
                self.flags |= flag::STARTED;
                Ok(mode)
            }
            Err(bad) => {
                self.flags = before;
                Err(bad)
            }
        }
    }

    /// Whether an answer of this status may be given now.
    #[inline]
    fn may_respond(&self, status: u16) -> Result<(), BadHeader> {
        assert!(self.awaiting_response(), "respond without a request");
        if !(200..1000).contains(&status) {
            return Err(BadHeader::Status);
        }
        // RFC 9110, 9.3.6: 2xx to CONNECT opens a tunnel, which this machine does not have.
        if self.flags & flag::CONNECT != 0 && status < 300 {
            return Err(BadHeader::Status);
        }
        Ok(())
    }

    /// Decides how the answer is framed and whether the connection ends with it.
    #[inline]
    fn framing(&mut self, status: u16, length: BodyLength, upgrade: bool) -> (Framing, BodyMode) {
        let (length, mode) = self.body_mode(status, length);
        // RFC 9112, 9.6: "SHOULD send the "close" connection option" when it will close after this answer.
        if mode == BodyMode::UntilClose || self.will_abandon_body(status) {
            self.flags |= flag::CLOSE;
        }
        let close = self.flags & flag::CLOSE != 0;
        let keep_alive = !close && self.flags & flag::HTTP10 != 0;
        (Framing { length, chunked: mode == BodyMode::Chunked, close, keep_alive, upgrade }, mode)
    }

    /// The `Content-Length` to write and the way of the body (RFC 9112, 6.3; RFC 9110, 8.6).
    #[inline]
    fn body_mode(&self, status: u16, length: BodyLength) -> (Option<u64>, BodyMode) {
        let known = match length {
            BodyLength::None => Some(0),
            BodyLength::Known(length) => Some(length),
            BodyLength::Unknown => None,
        };
        match status {
            // RFC 9110, 8.6: "A server MUST NOT send a Content-Length header field in any response with a status code of
            // 1xx (Informational) or 204 (No Content)"; in 304 it would have to be that of the 200.
            204 | 304 => (None, BodyMode::NoBody),
            // RFC 9110, 15.3.6: 205 has no content; a length of 0 says so.
            205 => (Some(0), BodyMode::NoBody),
            // RFC 9110, 9.3.2: HEAD has the fields of GET, and no content.
            _ if self.flags & flag::HEAD != 0 => (known, BodyMode::NoBody),
            _ => match known {
                Some(0) => (known, BodyMode::NoBody),
                Some(_) => (known, BodyMode::Raw),
                // RFC 9112, 6.1: "A server MUST NOT send a response containing Transfer-Encoding unless the corresponding
                // request indicates HTTP/1.1 (or later minor revisions)."
                None if self.flags & flag::HTTP10 != 0 => (None, BodyMode::UntilClose),
                None => (None, BodyMode::Chunked),
            },
        }
    }

    /// True when the unread rest of the body will not be read, so that the answer must say so.
    #[inline]
    fn will_abandon_body(&self, status: u16) -> bool {
        match self.phase {
            Phase::Done | Phase::BodyEnd => false,
            // RFC 9110, 10.1.1: after a final status instead of 100, the client may or may not send the body. We do not
            // guess: no later byte is read.
            _ if self.flags & flag::EXPECT != 0 => true,
            Phase::Length => status >= 400 && self.left > self.drain_left,
            _ => false,
        }
    }

    /// Writes `100 Continue` if the client waits for it; else nothing. At most once a request.
    ///
    /// Never to HTTP/1.0, nor after a byte of the body or the head of the answer (RFC 9110, 10.1.1).
    pub fn respond_continue<S: Sink>(&mut self, out: &mut S) {
        if self.expects_continue() {
            self.flags &= !flag::EXPECT;
            out.put(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// The body of the answer is queued whole. What is left of the request's body will be swallowed if it is
    /// small enough; otherwise [`Connection::must_close`] is true from now on.
    ///
    /// # Panics
    /// Without [`Connection::respond`] before it.
    #[inline]
    pub fn finish_response(&mut self) {
        assert!(self.flags & flag::STARTED != 0, "finish_response without respond");
        match self.phase {
            Phase::Done | Phase::BodyEnd => self.next_request(),
            Phase::Head => {}
            _ => self.finish_before_body(),
        }
    }

    #[cold]
    fn finish_before_body(&mut self) {
        let known_left = if self.phase == Phase::Length { self.left } else { 0 };
        if self.flags & flag::CLOSE != 0 || self.phase == Phase::Closed || known_left > self.drain_left {
            self.phase = Phase::Closed;
            self.flags &= flag::KEPT;
        } else {
            self.flags &= flag::KEPT;
            self.flags |= flag::DRAINING;
        }
    }

    /// Writes 101 with `head.headers` (`Upgrade` among them) and leaves HTTP: the next `poll` gives
    /// [`Step::Upgraded`]. `head.status` is not looked at.
    ///
    /// # Errors
    /// [`BadHeader::Status`] when the client did not ask (HTTP/1.1, `Connection: upgrade`, `Upgrade`), or its
    /// request is not read to the end; [`BadHeader::UpgradeMissing`]; or a bad field. Nothing is written.
    ///
    /// # Panics
    /// Without a request that waits for its answer.
    pub fn upgrade<S: Sink>(&mut self, out: &mut S, head: &ResponseHead<'_>) -> Result<(), BadHeader> {
        assert!(self.awaiting_response(), "upgrade without a request");
        let read = matches!(self.phase, Phase::Done | Phase::BodyEnd);
        if self.flags & flag::UPGRADE == 0 || !read {
            return Err(BadHeader::Status);
        }
        check_head(head)?;
        // RFC 9110, 7.8: "A server that sends a 101 (Switching Protocols) response MUST send an Upgrade header field"
        if !head.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade")) {
            return Err(BadHeader::UpgradeMissing);
        }
        out.put(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n");
        for (name, value) in head.headers {
            out.put(name.as_bytes());
            out.put(b": ");
            out.put(value);
            out.put(b"\r\n");
        }
        out.put(b"\r\n");
        self.phase = Phase::Upgrading;
        self.flags = 0;
        Ok(())
    }

    /// Writes a whole answer for a refusal, with `Connection: close`; nothing if an answer has begun already.
    /// Afterwards [`Connection::must_close`] is true.
    ///
    /// For [`Step::Reject`], and for refusals of the floors above (deadlines, overload) at any time.
    #[cold]
    pub fn reject<S: Sink>(&mut self, out: &mut S, reject: &Reject, date: &[u8; 29]) {
        let after_http = matches!(self.phase, Phase::Upgrading | Phase::Upgraded);
        if self.flags & (flag::STARTED | flag::DRAINING) == 0 && !after_http {
            write_reject(out, reject, date, self.flags & flag::HEAD != 0);
        }
        self.phase = Phase::Closed;
        self.flags = flag::CLOSE;
    }

    /// The connection ends with the answer at hand, or with the next one: it carries `Connection: close`.
    #[inline]
    pub fn close_after_response(&mut self) {
        self.flags |= flag::CLOSE;
    }

    /// True when no more requests will be read and no answer is being written: flush, then close.
    #[inline]
    pub fn must_close(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// True while a body of the request at hand is not read to its end and may still be asked for.
    #[inline]
    pub fn wants_body(&self) -> bool {
        let in_body = matches!(self.phase, Phase::Length | Phase::Chunks | Phase::Trailers | Phase::BodyEnd);
        in_body && self.flags & flag::DRAINING == 0
    }

    /// True from a head until its answer is finished and its body is behind us.
    #[inline]
    pub fn in_request(&self) -> bool {
        self.flags & (flag::OWED | flag::DRAINING) != 0
    }

    /// True while a request or refusal waits for the head of its answer.
    #[inline]
    pub fn awaiting_response(&self) -> bool {
        self.flags & (flag::OWED | flag::STARTED) == flag::OWED
    }

    /// True between [`Connection::respond`] and [`Connection::finish_response`].
    #[inline]
    pub fn response_started(&self) -> bool {
        self.flags & flag::STARTED != 0
    }

    /// True between requests, with nothing of the next one seen.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Head && !self.head_started()
    }

    /// True while a head is incomplete but has begun (empty lines count): the time for a head deadline.
    #[inline]
    pub fn head_started(&self) -> bool {
        self.phase == Phase::Head && (self.scanned != 0 || self.empty_lines != 0)
    }

    /// True while the client waits for `100 Continue` before it sends the body.
    #[inline]
    pub fn expects_continue(&self) -> bool {
        self.flags & (flag::EXPECT | flag::STARTED) == flag::EXPECT
    }

    /// True once [`Step::Upgraded`] was or will be given.
    #[inline]
    pub fn is_upgraded(&self) -> bool {
        matches!(self.phase, Phase::Upgrading | Phase::Upgraded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header_slots;

    #[test]
    fn a_dripped_head_is_parsed_once_a_doubling_and_never_consumed() {
        let head =
            format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", "X: aaaaaaaaaa\r\n".repeat(80)).into_bytes();
        let mut slots = header_slots();
        let mut conn = Connection::new();
        let mut parsed = 0;
        for end in 1..head.len() {
            let looked = conn.looked;
            let mut input = &head[..end];
            assert!(matches!(conn.poll(&Limits::default(), &mut input, &mut slots), Step::NeedMore));
            assert_eq!(input.len(), end);
            assert_eq!(conn.scanned as usize, end, "each byte is scanned when it comes");
            parsed += u32::from(conn.looked != looked);
        }
        assert_eq!(parsed, head.len().ilog2() + 1, "{} bytes", head.len());
        let mut input = &head[..];
        assert!(matches!(conn.poll(&Limits::default(), &mut input, &mut slots), Step::Head(_)));
    }
}
