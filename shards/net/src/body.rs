//! Bodies: what a request brings, and what a response streams.
//!
//! A [`Body`] is the reading end of a request body. Bytes are copied out of the receive ring as they come;
//! past `Limits::body_high_water` unread bytes the connection stops receiving until some are taken, or all of them
//! are asked for ([`Body::collect`]).
//! A [`BodySender`] and [`BodyStream`] are the two ends of a streamed response: `send` waits while more
//! than the channel's size is unsent, and fails once the peer is gone.
//!
//! # Rules
//! 1. Both ends live on one shard; no borrow of the shared part outlives a call.
//! 2. Whoever changes what the connection waits for rings its signal; whoever changes what the handler
//!    waits for wakes its waker.
//!
//! Not here: framing (`proto-h1`), when to stop receiving (`http1`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::{Bytes, BytesMut};
use corelane_pools::Chunk;

use crate::notice::Signal;

/// Why a request body could not be read to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyError {
    /// The peer went away, was too slow, or broke the framing; its connection is being closed.
    Broken,
    /// More than the caller would take.
    TooLarge {
        /// The caller's maximum, bytes.
        max: u64,
    },
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Broken => f.write_str("the request body ended before it was complete"),
            BodyError::TooLarge { max } => write!(f, "the request body is larger than {max} bytes"),
        }
    }
}

impl std::error::Error for BodyError {}

#[derive(Debug, Default)]
struct Inbound {
    data: BytesMut,
    /// Bytes the head announced, where it did.
    length: Option<u64>,
    ended: bool,
    broken: bool,
    reader: Option<Waker>,
    /// The reader saw nothing and waits: a connection that held back `100 Continue` must now send it.
    wanted: bool,
    signal: Option<Signal>,
    reader_gone: bool,
    /// The reader wants all of it in one piece, and at most this many bytes.
    collecting: Option<u64>,
}

/// The most that is set aside for an announced body before its bytes are there.
const RESERVE_MAX: u64 = 64 << 10;

/// The reading end of a request body. Dropping it lets the connection swallow the rest or close.
pub struct Body(Rc<RefCell<Inbound>>);

/// The connection's end of a [`Body`].
pub(crate) struct BodyFeed(Rc<RefCell<Inbound>>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0.borrow();
        write!(f, "Body({} bytes waiting, ended: {})", s.data.len(), s.ended)
    }
}

impl Body {
    /// A body that is already complete. For tests and for requests without one; no connection behind it.
    pub fn complete(bytes: &[u8]) -> Body {
        Body(Rc::new(RefCell::new(Inbound {
            data: BytesMut::from(bytes),
            length: Some(bytes.len() as u64),
            ended: true,
            ..Inbound::default()
        })))
    }

    pub(crate) fn pair(length: Option<u64>, signal: Signal) -> (BodyFeed, Body) {
        let shared = Rc::new(RefCell::new(Inbound { length, signal: Some(signal), ..Inbound::default() }));
        (BodyFeed(Rc::clone(&shared)), Body(shared))
    }

    /// The length the head announced; `None` for a chunked body.
    pub fn length(&self) -> Option<u64> {
        self.0.borrow().length
    }

    /// The next bytes, as many as have come; `None` at the end. Never empty. Costs no copy beyond the one
    /// out of the receive ring.
    ///
    /// # Errors
    /// [`BodyError::Broken`] when the rest will never come.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        poll_fn(|cx| {
            let mut s = self.0.borrow_mut();
            if !s.data.is_empty() {
                let bytes = s.data.split().freeze();
                if let Some(signal) = &s.signal {
                    signal.ring();
                }
                return Poll::Ready(Ok(Some(bytes)));
            }
            if s.ended {
                return Poll::Ready(Ok(None));
            }
            if s.broken {
                return Poll::Ready(Err(BodyError::Broken));
            }
            s.reader = Some(cx.waker().clone());
            if !s.wanted {
                s.wanted = true;
                if let Some(signal) = &s.signal {
                    signal.ring();
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The whole body, at most `max` bytes of it (the connection's own maximum is
    /// `Limits::body_bytes_max`).
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] past `max`, [`BodyError::Broken`] as in [`Body::chunk`].
    pub async fn collect(&mut self, max: u64) -> Result<Bytes, BodyError> {
        if self.length().is_some_and(|n| n > max) {
            return Err(BodyError::TooLarge { max });
        }
        let collecting = Collecting(self);
        poll_fn(|cx| {
            let mut s = collecting.0.0.borrow_mut();
            if s.data.len() as u64 > max {
                return Poll::Ready(Err(BodyError::TooLarge { max }));
            }
            if s.ended || s.length == Some(s.data.len() as u64) {
                let whole = s.data.split().freeze();
                // Known by its length: the connection may have stopped for it, in front of the end.
                if let Some(signal) = &s.signal {
                    signal.ring();
                }
                return Poll::Ready(Ok(whole));
            }
            if s.broken {
                return Poll::Ready(Err(BodyError::Broken));
            }
            if s.collecting.replace(max).is_none() {
                s.reserve();
                // The connection may have stopped for the bytes that wait, or hold back `100 Continue`.
                s.wanted = true;
                if let Some(signal) = &s.signal {
                    signal.ring();
                }
            }
            s.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// A [`Body::collect`] under way: however it ends, the bounds of piecewise reading hold again.
struct Collecting<'b>(&'b Body);

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        self.0.0.borrow_mut().collecting = None;
    }
}

impl Inbound {
    /// Makes room for what was announced: growing step by step copies as much again.
    fn reserve(&mut self) {
        if let Some(length) = self.length
            && let Ok(room) = usize::try_from(length.min(RESERVE_MAX))
        {
            self.data.reserve(room.saturating_sub(self.data.len()));
        }
    }

    /// All that waits is what the reader asked for.
    fn is_collected(&self) -> bool {
        self.collecting.is_some_and(|max| self.data.len() as u64 <= max)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut s = self.0.borrow_mut();
        s.reader_gone = true;
        s.data = BytesMut::new();
        if let Some(signal) = s.signal.take() {
            signal.ring();
        }
    }
}

impl BodyFeed {
    /// Bytes that came. Dropped silently when nobody reads any more.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let waker = {
            let mut s = self.0.borrow_mut();
            if s.reader_gone {
                return;
            }
            s.data.extend_from_slice(bytes);
            // Who collects is woken by the end, or by too much.
            if s.is_collected() { None } else { s.reader.take() }
        };
        if let Some(w) = waker {
            w.wake();
        }
    }

    pub(crate) fn end(&self) {
        self.finish(true);
    }

    pub(crate) fn break_off(&self) {
        self.finish(false);
    }

    fn finish(&self, whole: bool) {
        let waker = {
            let mut s = self.0.borrow_mut();
            if s.ended || s.broken {
                return;
            }
            if whole {
                s.ended = true;
            } else {
                s.broken = true;
            }
            s.signal = None;
            s.reader.take()
        };
        if let Some(w) = waker {
            w.wake();
        }
    }

    /// Unread bytes.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.0.borrow().data.len()
    }

    /// So much waits that no more should come: `high_water` bytes, or what a reader that collects will take.
    pub(crate) fn is_full(&self, high_water: usize) -> bool {
        let s = self.0.borrow();
        s.data.len() >= high_water && !s.is_collected()
    }

    /// The reader waits for bytes it has not got.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.borrow().wanted
    }

    pub(crate) fn reader_gone(&self) -> bool {
        self.0.borrow().reader_gone
    }
}

impl Drop for BodyFeed {
    fn drop(&mut self) {
        self.break_off();
    }
}

#[derive(Default)]
struct Outbound {
    queue: VecDeque<Chunk>,
    bytes: usize,
    bytes_max: usize,
    ended: bool,
    /// Dropped without `finish`: the response is cut, so that the peer can tell.
    aborted: bool,
    reader_gone: bool,
    writer: Option<Waker>,
    signal: Option<Signal>,
}

/// The peer will not read the rest of the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Disconnected;

impl fmt::Display for Disconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer is gone; the rest of the response has nowhere to go")
    }
}

impl std::error::Error for Disconnected {}

/// The writing end of a streamed response body. Call [`BodySender::finish`] at the end: a sender dropped
/// without it cuts the connection, so that the peer can tell a short body from a whole one.
pub struct BodySender(Rc<RefCell<Outbound>>);

/// The reading end, which goes into a [`Response`](crate::message::Response).
pub struct BodyStream(Rc<RefCell<Outbound>>);

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyStream({} bytes waiting)", self.0.borrow().bytes)
    }
}

impl fmt::Debug for BodySender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodySender({} bytes waiting)", self.0.borrow().bytes)
    }
}

/// A streamed body that holds at most `bytes_max` bytes between its two ends (one more piece may pass it).
pub fn body_channel(bytes_max: usize) -> (BodySender, BodyStream) {
    let shared = Rc::new(RefCell::new(Outbound { bytes_max: bytes_max.max(1), ..Outbound::default() }));
    (BodySender(Rc::clone(&shared)), BodyStream(shared))
}

impl BodySender {
    /// Hands over one piece; waits while the channel is full. Empty pieces are ignored.
    ///
    /// # Errors
    /// [`Disconnected`] once the response cannot be delivered.
    pub async fn send(&mut self, bytes: impl Into<Chunk>) -> Result<(), Disconnected> {
        let mut piece = Some(bytes.into());
        poll_fn(|cx| {
            let mut s = self.0.borrow_mut();
            if s.reader_gone {
                return Poll::Ready(Err(Disconnected));
            }
            if s.bytes >= s.bytes_max {
                s.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if let Some(piece) = piece.take().filter(|p| !p.is_empty()) {
                s.bytes += piece.len();
                s.queue.push_back(piece);
                if let Some(signal) = &s.signal {
                    signal.ring();
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// The body is complete.
    pub fn finish(self) {
        self.0.borrow_mut().ended = true;
        // `drop` rings the signal
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        let mut s = self.0.borrow_mut();
        if !s.ended {
            s.aborted = true;
        }
        if let Some(signal) = s.signal.take() {
            signal.ring();
        }
    }
}

/// What [`BodyStream::take`] found.
#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(Chunk),
    /// Nothing now; the signal will ring.
    Later,
    End,
    /// The writer left early.
    Aborted,
}

impl BodyStream {
    pub(crate) fn attach(&mut self, signal: Signal) {
        self.0.borrow_mut().signal = Some(signal);
    }

    pub(crate) fn take(&mut self) -> Piece {
        let (piece, waker) = {
            let mut s = self.0.borrow_mut();
            match s.queue.pop_front() {
                Some(bytes) => {
                    s.bytes -= bytes.len();
                    let waker = if s.bytes < s.bytes_max { s.writer.take() } else { None };
                    (Piece::Bytes(bytes), waker)
                }
                None if s.ended => (Piece::End, None),
                None if s.aborted => (Piece::Aborted, None),
                None => (Piece::Later, None),
            }
        };
        if let Some(w) = waker {
            w.wake();
        }
        piece
    }
}

impl Drop for BodyStream {
    fn drop(&mut self) {
        let waker = {
            let mut s = self.0.borrow_mut();
            s.reader_gone = true;
            s.queue.clear();
            s.bytes = 0;
            s.signal = None;
            s.writer.take()
        };
        if let Some(w) = waker {
            w.wake();
        }
    }
}

#[cfg(test)]
mod tests;
