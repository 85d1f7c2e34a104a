//! One connection as its worker keeps it: a phase, the requests under way in their order, and what operations the
//! kernel still has.
//!
//! # Rules
//! 1. `flights` holds the requests from the oldest without an answer; the last `unsent` of them were not handed over.
//! 2. A connection is closed only when no operation is under way on its socket (rule 4 of `corelane_base::Op`).
//! 3. The generation changes whenever a socket is closed: a completion of an older one is not taken for this one's.

use std::collections::VecDeque;

use corelane_base::{Sock, Token};

use crate::protocol::Protocol;

/// Which operation a completion belongs to.
pub(super) mod tag {
    pub(crate) const SOCKET: u8 = 1;
    pub(crate) const NO_DELAY: u8 = 2;
    pub(crate) const LATE_PORT: u8 = 3;
    pub(crate) const BIND: u8 = 4;
    pub(crate) const CONNECT: u8 = 5;
    pub(crate) const RECV: u8 = 6;
    pub(crate) const SEND: u8 = 7;
    pub(crate) const CANCEL: u8 = 8;
    pub(crate) const CLOSE: u8 = 9;
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// No socket.
    Closed,
    /// A socket is made, configured and connected.
    Opening,
    /// Connected.
    Open,
    /// Everything under way is ended; then the socket is closed.
    Ending,
    /// The close is under way.
    Closing,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight<A> {
    /// When it should have been sent.
    pub(super) intended: u64,
    /// When it should have been and a connection was free: its own lag counts from here.
    pub(super) due: u64,
    /// When it was handed over; meaningless before.
    pub(super) submitted: u64,
    /// Its number in the schedule.
    pub(super) number: u64,
    /// What its answer is to be; known once its bytes were written.
    pub(super) ask: Option<A>,
}

pub(super) struct Conn<P: Protocol> {
    pub(super) phase: Phase,
    pub(super) sock: Sock,
    pub(super) generation: u16,
    /// It stands in the list of connections with something to send.
    pub(super) is_dirty: bool,
    /// It stands in one of the lists of free connections.
    pub(super) is_listed: bool,
    /// A send is under way.
    pub(super) sending: bool,
    /// A receive is under way.
    pub(super) receiving: bool,
    /// A socket, option, bind, connect or cancel is under way.
    pub(super) others: u8,
    /// The operation of opening that is under way is the connect.
    pub(super) connecting: bool,
    /// No further request may be sent on this socket.
    pub(super) is_last: bool,
    /// Connects that failed in a row.
    pub(super) failures: u8,
    /// Requests at the end of `flights` that were not handed over.
    pub(super) unsent: u32,
    /// Requests sent on this socket.
    pub(super) requests: u64,
    /// When it last became able to take a request.
    pub(super) freed_at: u64,
    /// Closed loop: it thinks until then, whatever becomes of its socket.
    pub(super) thinks_until: u64,
    /// When its connect was pushed.
    pub(super) since: u64,
    pub(super) parser: P::Conn,
    pub(super) flights: VecDeque<Flight<P::Ask>>,
}

impl<P: Protocol> Conn<P> {
    pub(super) fn new() -> Conn<P> {
        Conn {
            phase: Phase::Closed,
            sock: Sock(0),
            generation: 0,
            is_dirty: false,
            is_listed: false,
            sending: false,
            receiving: false,
            others: 0,
            connecting: false,
            is_last: false,
            failures: 0,
            unsent: 0,
            requests: 0,
            freed_at: 0,
            thinks_until: 0,
            since: 0,
            parser: P::Conn::default(),
            flights: VecDeque::new(),
        }
    }

    /// The token of an operation of this connection.
    #[inline]
    pub(super) fn token(&self, tag: u8, index: u32) -> Token {
        Token::new(1, tag, self.generation, index)
    }

    /// Requests handed over and not answered.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.flights.len() - self.unsent as usize
    }

    /// Nothing is under way on the socket.
    pub(super) fn is_quiet(&self) -> bool {
        !self.sending && !self.receiving && self.others == 0
    }
}
