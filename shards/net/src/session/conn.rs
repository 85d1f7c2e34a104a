//! One connection: its slot.

use std::net::SocketAddr;

use corelane_base::Sock;
use corelane_exec::TimerKey;

use super::protocol::Ending;
use crate::inbox::Inbox;
use crate::notice::Key;
use crate::session::link::Outbox;

/// A deadline that does not come.
pub(super) const NEVER: u64 = u64::MAX;

/// Where a connection is in its life. Goes only downward in this list.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Phase {
    /// The kernel is asked for the peer's address.
    Naming,
    /// Commands are read and answered.
    Open,
    /// Nothing more is read; what is queued is sent.
    Flush,
    /// Our side is shut; what the peer still sends is dropped, so that it can read our last reply.
    Linger,
    /// Everything under way is being cancelled.
    Dying,
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
    /// A last look for bytes before an idle connection is closed.
    LastLook,
}

/// What the protocol does with input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flow {
    /// It takes what comes.
    Reading,
    /// It has more to take, but it is not its turn, or too much waits to be sent.
    Held,
    /// It awaits a post.
    Waiting,
}

/// What the table knows of a connection.
pub(super) struct Wire {
    pub(super) out: Outbox,
    pub(super) key: Key,
    pub(super) sock: Sock,
    pub(super) phase: Phase,
    pub(super) recv: Recv,
    pub(super) flow: Flow,
    /// Why it ends, once it does.
    pub(super) ending: Option<Ending>,
    /// A send is under way.
    pub(super) sending: bool,
    /// On the list of those with output.
    pub(super) dirty: bool,
    /// While a reply is awaited, what was said before it waits too.
    pub(super) holds: bool,
    /// On the list of those whose turn comes.
    pub(super) queued: bool,
    /// The peer ended its side.
    pub(super) eof: bool,
    /// Ends with a reset.
    pub(super) resets: bool,
    /// An operation beside receive and send is under way: our side is being shut, or the peer's address asked for.
    pub(super) other: bool,
    /// It counts among the connections of its peer's address.
    pub(super) counted: bool,
    /// It only gets told that there is no room.
    pub(super) refused: bool,
    /// The cancel of everything was pushed.
    pub(super) cancelled: bool,
    /// An idle connection that is to be closed if nothing has come.
    pub(super) retiring: bool,
    /// Unread bytes below which the protocol finds nothing.
    pub(super) wants: usize,
    /// Bytes handed to the send under way.
    pub(super) in_flight: usize,
    /// Bytes that must be taken by the write deadline for it to be put off.
    pub(super) owed: usize,
    /// Idle time, nanoseconds, or [`NEVER`].
    pub(super) idle_ns: u64,
    /// When input came, or the last of the output was taken.
    pub(super) active_ns: u64,
    /// When input came.
    pub(super) heard_ns: u64,
    /// The end of lingering, or of what a peer that ended its side is still given.
    pub(super) end_deadline_ns: u64,
    pub(super) write_deadline_ns: u64,
    pub(super) timer: Option<TimerKey>,
    pub(super) timer_ns: u64,
    pub(super) id: u64,
    pub(super) opened_ns: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) inbox: Option<Box<Inbox>>,
    pub(super) peer: Option<Box<SocketAddr>>,
}

/// A slot.
pub(super) struct Conn<C> {
    pub(super) wire: Wire,
    /// The protocol's part, once it is open.
    pub(super) state: Option<C>,
}

impl<C> Conn<C> {
    pub(super) fn new(key: Key, sock: Sock, now_ns: u64, idle_ns: u64) -> Conn<C> {
        let wire = Wire {
            out: Outbox::default(),
            key,
            sock,
            phase: Phase::Open,
            recv: Recv::Idle,
            flow: Flow::Reading,
            ending: None,
            sending: false,
            dirty: false,
            holds: false,
            queued: false,
            eof: false,
            resets: false,
            other: false,
            counted: false,
            refused: false,
            cancelled: false,
            retiring: false,
            wants: 0,
            in_flight: 0,
            owed: 0,
            idle_ns,
            active_ns: now_ns,
            heard_ns: now_ns,
            end_deadline_ns: NEVER,
            write_deadline_ns: NEVER,
            timer: None,
            timer_ns: NEVER,
            id: 0,
            opened_ns: now_ns,
            bytes_in: 0,
            bytes_out: 0,
            inbox: None,
            peer: None,
        };
        Conn { wire, state: None }
    }
}

impl Wire {
    /// Bytes said and not taken by the peer's kernel.
    #[inline]
    pub(super) fn unsent(&self) -> usize {
        self.out.len() + self.in_flight
    }

    pub(super) fn unread_len(&self) -> usize {
        self.inbox.as_ref().map_or(0, |inbox| inbox.unread().len())
    }

    /// The earliest of its deadlines, or [`NEVER`].
    #[inline]
    pub(super) fn next_deadline_ns(&self) -> u64 {
        self.end_deadline_ns.min(self.write_deadline_ns).min(self.idle_deadline_ns())
    }

    /// One that waits, or has not taken all that was said, is not idle.
    #[inline]
    pub(super) fn idle_deadline_ns(&self) -> u64 {
        let idles = self.idle_ns != NEVER
            && self.phase == Phase::Open
            && self.flow == Flow::Reading
            && self.unsent() == 0
            && !self.retiring;
        if idles { self.active_ns.saturating_add(self.idle_ns) } else { NEVER }
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Between commands, nothing to say, nothing to read.
    pub(super) fn is_quiet(&self) -> bool {
        self.phase == Phase::Open
            && self.flow == Flow::Reading
            && !self.sending
            && self.out.is_empty()
            && self.unread_len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_a_slot_of_a_few_cache_lines() {
        let bytes = size_of::<Conn<()>>();
        assert!(bytes <= 384, "{bytes} bytes");
        eprintln!("a connection's slot: {bytes} bytes");
    }
}
