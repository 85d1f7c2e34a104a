//! The seam between connections and a protocol: bytes in, replies out, and what comes from elsewhere.
//!
//! # Rules
//! 1. Everything here but `foresee`, `warm`, `turn_end`, `closed` and `undelivered` is called with the table borrowed: it
//!    may not ask the table anything. [`Sessions::post`] and [`Sessions::kill`] only queue, and may be called from anywhere.
//! 2. Nothing may wait. What takes longer is a task, which ends with a post.
//! 3. A panic cuts the connection it happened on, if on one, and nothing else.
//!
//! Not here: when each is called (`input`, `post`, `close`), what can be said to a connection (`link`).

use std::rc::{Rc, Weak};

use corelane_exec::Shard;
use corelane_pools::SlotKey;

use super::Sessions;
use super::link::Link;

/// Names one connection of a table until it is closed. Plain data: it may go to other shards and come back.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnKey(pub(super) SlotKey);

impl ConnKey {
    /// Its slot: below `connections_max` and the headroom together. Another connection may have had it before.
    #[inline]
    pub fn index(self) -> u32 {
        self.0.index
    }

    /// Which of the connections in that slot; never 0.
    #[inline]
    pub fn generation(self) -> u32 {
        self.0.generation
    }

    /// Both in one integer, never 0.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// The key that [`ConnKey::to_bits`] packed.
    #[inline]
    pub const fn from_bits(bits: u64) -> ConnKey {
        ConnKey(SlotKey::from_bits(bits))
    }
}

/// How a connection goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// What could be used was used. With fewer than `wants` unread bytes, those left over included, another call is
    /// pointless; 0 and 1 are any byte.
    More {
        /// Unread bytes that make a difference.
        wants: usize,
    },
    /// There is more to use: `input` is called again when others had their turn, and the peer took enough of what
    /// was said.
    Again,
    /// A reply is awaited: no `input` before a post says how to go on. Receiving goes on up to
    /// [`INBOX_PAUSE`](super::INBOX_PAUSE) unread bytes.
    Wait,
    /// As `Wait`, for a reply that others on this node have nearly ready: what was said before it, if no more than
    /// [`HELD_MAX`](super::HELD_MAX) bytes, is sent with it.
    Soon,
    /// As before: one that waits goes on waiting. From `input`, as `More { wants: 0 }`.
    Same,
    /// What was said is sent, then the connection is closed. Nothing more is read.
    Close,
    /// Reset at once: what was said and not sent is lost.
    Abort,
}

/// A connection is not wanted: what was said to it is sent, then it is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal;

/// Why a connection came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// The protocol said so, or [`Sessions::kill`].
    Asked,
    /// The peer ended its side.
    Left,
    /// The peer reset it, or the network lost it.
    Lost,
    /// Nothing came for its idle time.
    Idle,
    /// The peer did not take what was sent to it for `write_time`.
    Unread,
    /// The peer ended its side, and what was awaited did not come for `half_close_time`.
    Late,
    /// It held more unread input than it may, or its was the oldest when the table held too much.
    Overrun,
    /// The pools had no buffer for what was to be said.
    Starved,
    /// The protocol panicked.
    Panicked,
    /// The shard drains.
    Drained,
}

/// What is spoken on the connections of a table.
pub trait Protocol: Sized + 'static {
    /// The state of a connection.
    type Conn: 'static;
    /// What is said to a connection from elsewhere on its shard.
    type Post: 'static;

    /// The table this protocol is in, told once and before anything else.
    fn started(&self, _sessions: &Weak<Sessions<Self>>) {}

    /// A connection came. May say something to it.
    ///
    /// # Errors
    /// [`Refusal`] where it is not wanted. Such a one was never open: `closed` is not called for it.
    fn open(&self, shard: &Rc<Shard>, link: &mut Link<'_>) -> Result<Self::Conn, Refusal>;

    /// Uses `unread` from the front, and advances it past what was used. What is left is there again at the next
    /// call, with more behind it; it may have moved.
    ///
    /// All that came is in `unread`: the protocol itself goes from command to command, and says [`Next::Again`]
    /// when it did its share for this turn, or [`Link::is_full`].
    fn input(
        &self,
        shard: &Rc<Shard>,
        conn: &mut Self::Conn,
        link: &mut Link<'_>,
        unread: &mut &[u8],
    ) -> Next;

    /// Whether it makes use of [`Protocol::foresee`]. Asked once; must not panic.
    fn foresees(&self) -> bool {
        false
    }

    /// Bytes that came for some connection, and go to [`Protocol::input`] in this turn, perhaps behind others: to find
    /// out what memory that will need. Must change nothing that anybody can see.
    fn foresee(&self, _bytes: &[u8]) {}

    /// Behind several of those calls: to begin to load that memory, all of it at once.
    fn warm(&self) {}

    /// Something was posted to the connection.
    fn post(&self, shard: &Rc<Shard>, conn: &mut Self::Conn, link: &mut Link<'_>, post: Self::Post) -> Next;

    /// The peer ended its side, and there is no whole command left of it. Called again after each later call for
    /// this connection. One that does not close here is closed after `half_close_time`.
    fn half_closed(&self, _shard: &Rc<Shard>, _conn: &mut Self::Conn, link: &mut Link<'_>) -> Next {
        if link.is_waiting() { Next::Same } else { Next::Close }
    }

    /// The shard drains, and idle connections are closed now. This one is not idle: it waits, or has something to
    /// be sent. It has `drain_time` less `drain_idle` from here.
    fn draining(&self, _shard: &Rc<Shard>, _conn: &mut Self::Conn, _link: &mut Link<'_>) -> Next {
        Next::Same
    }

    /// Something was called for a connection in this turn, and nothing was sent yet: for work that is gathered over
    /// all of them. Called once a turn, and again where what it posted made further calls.
    fn turn_end(&self, _shard: &Rc<Shard>) {}

    /// A connection is gone, and its key means nothing any more. Exactly once for each that `open` opened, unless
    /// the whole shard ends.
    fn closed(&self, _shard: &Rc<Shard>, _conn: Self::Conn, _why: Ending) {}

    /// A post to a connection that is closed, or is closing.
    fn undelivered(&self, _shard: &Rc<Shard>, _post: Self::Post) {}
}
