//! One HTTP/1.1 connection: its slot.

use std::net::SocketAddr;

use corelane_base::Sock;
use corelane_exec::{Task, TimerKey};
use corelane_proto_h1 as h1;

use crate::body::{BodyFeed, BodyStream};
use crate::inbox::Inbox;
use crate::message::Takeover;
use crate::notice::Key;
use crate::output::Output;

/// A deadline that does not come.
pub(super) const NEVER: u64 = u64::MAX;

/// Where a connection is in its life. Goes only downward in this list.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Phase {
    /// The kernel is asked for the peer's address.
    Naming,
    /// A PROXY header must come first.
    Header,
    /// Requests are read and answered.
    Open,
    /// Nothing more is read; what is queued is sent.
    Flush,
    /// Our side is shut; what the peer still sends is dropped, so that it can read our last answer
    /// (RFC 9112, 9.6).
    Linger,
    /// Everything under way is being cancelled.
    Dying,
    /// The socket goes to its new owner once nothing is under way.
    HandOver,
}

/// The receive side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Recv {
    /// Nothing is under way.
    Idle,
    /// A multishot receive is.
    Armed,
    /// It is being cancelled.
    Cancelling,
    /// A last look for bytes before an idle connection is shut.
    LastLook,
}

/// What the read deadline is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reading {
    Proxy,
    Idle,
    Head,
    Body,
    Linger,
}

/// A response that is being produced.
#[derive(Debug)]
pub(super) struct Streaming {
    pub(super) stream: BodyStream,
    pub(super) chunked: bool,
    /// Bytes still announced.
    pub(super) left: Option<u64>,
    /// Bytes of the answer so far, its head among them.
    pub(super) bytes: u64,
}

/// A request that is not answered within the call. Allocated for these only.
pub(super) struct Exchange {
    pub(super) feed: Option<BodyFeed>,
    pub(super) task: Option<Task<()>>,
    pub(super) streaming: Option<Streaming>,
    /// Monotonic nanoseconds, or [`NEVER`].
    pub(super) deadline_ns: u64,
    /// The turn that read the head, monotonic nanoseconds.
    pub(super) began_ns: u64,
}

impl Exchange {
    pub(super) fn new(began_ns: u64) -> Exchange {
        Exchange { feed: None, task: None, streaming: None, deadline_ns: NEVER, began_ns }
    }
}

pub(super) struct Conn {
    pub(super) h1: h1::Connection,
    pub(super) output: Output,
    pub(super) key: Key,
    pub(super) sock: Sock,
    pub(super) phase: Phase,
    pub(super) recv: Recv,
    pub(super) reading: Reading,
    /// A send is under way.
    pub(super) sending: bool,
    /// On the list of those with output.
    pub(super) dirty: bool,
    /// On the list of those with unread input left by a budget.
    pub(super) waiting: bool,
    /// The peer ended its side.
    pub(super) eof: bool,
    /// The peer may still be sending: our side is shut first, the socket closed later.
    pub(super) lingers: bool,
    /// The client itself asked for the end: it sends nothing more.
    pub(super) asked_close: bool,
    /// Ends with a reset: the peer reads nothing, or must see that its answer was cut.
    pub(super) resets: bool,
    /// An operation beside receive and send is under way: our side is being shut, or the peer's address asked for.
    pub(super) other: bool,
    /// It counts among the connections of its peer's address.
    pub(super) counted: bool,
    /// What it counts for outlives its slot.
    pub(super) shared: bool,
    /// Its input is being worked through: what comes up meanwhile is left to that loop.
    pub(super) processing: bool,
    /// Bytes used of the request at hand, and whether its size was not recorded yet.
    pub(super) request_bytes: u64,
    pub(super) request_open: bool,
    /// Requests taken in turn number `turn`.
    pub(super) taken: u32,
    pub(super) turn: u64,
    /// The cancel of everything was pushed.
    pub(super) cancelled: bool,
    /// An idle connection that is to be closed if nothing has come.
    pub(super) retiring: bool,
    pub(super) read_deadline_ns: u64,
    pub(super) write_deadline_ns: u64,
    pub(super) timer: Option<TimerKey>,
    pub(super) timer_ns: u64,
    /// Bytes handed to the send under way.
    pub(super) in_flight: usize,
    /// When it was accepted or arrived.
    pub(super) opened_ns: u64,
    pub(super) requests: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) inbox: Option<Box<Inbox>>,
    pub(super) exchange: Option<Box<Exchange>>,
    pub(super) takeover: Option<Takeover>,
    pub(super) peer: Option<Box<SocketAddr>>,
}

impl Conn {
    pub(super) fn new(key: Key, sock: Sock) -> Conn {
        Conn {
            h1: h1::Connection::new(),
            output: Output::default(),
            key,
            sock,
            phase: Phase::Open,
            recv: Recv::Idle,
            reading: Reading::Idle,
            sending: false,
            dirty: false,
            waiting: false,
            eof: false,
            lingers: false,
            asked_close: false,
            processing: false,
            request_bytes: 0,
            request_open: false,
            taken: 0,
            turn: 0,
            resets: false,
            other: false,
            counted: false,
            shared: false,
            cancelled: false,
            retiring: false,
            read_deadline_ns: NEVER,
            write_deadline_ns: NEVER,
            timer: None,
            timer_ns: NEVER,
            in_flight: 0,
            opened_ns: 0,
            requests: 0,
            bytes_in: 0,
            bytes_out: 0,
            inbox: None,
            exchange: None,
            takeover: None,
            peer: None,
        }
    }

    /// The earliest of its deadlines, or [`NEVER`].
    #[inline]
    pub(super) fn next_deadline_ns(&self) -> u64 {
        let handler = self.exchange.as_ref().map_or(NEVER, |e| e.deadline_ns);
        self.read_deadline_ns.min(self.write_deadline_ns).min(handler)
    }

    pub(super) fn unread_len(&self) -> usize {
        self.inbox.as_ref().map_or(0, |i| i.unread().len())
    }

    /// Between requests, nothing to say, nothing to read.
    pub(super) fn is_quiet(&self) -> bool {
        self.phase == Phase::Open
            && self.h1.is_idle()
            && self.exchange.is_none()
            && !self.sending
            && self.output.is_empty()
            && self.unread_len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_a_slot_of_a_few_cache_lines() {
        let bytes = size_of::<Conn>();
        assert!(bytes <= 512, "{bytes} bytes");
        eprintln!("a connection's slot: {bytes} bytes");
    }
}
