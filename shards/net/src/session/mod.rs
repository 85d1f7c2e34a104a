//! The connections of one shard that speak a protocol of bytes: commands come, replies go, and either may be said
//! at any time.
//!
//! Each is a slot driven by completions: the protocol is called on the bytes where the ring put them, what it says
//! goes into the connection's output, and everything said in one turn leaves in one send.
//!
//! ```text
//! receive -> input -> Link::put ---------------------.
//! elsewhere on the shard -> Sessions::post -> post --+-> turn_end -> one send a connection
//! ```
//!
//! # Rules
//! 1. The table is borrowed while a completion or a timer is handled and while posts are delivered, and the protocol
//!    is called under that borrow: nothing it can reach may borrow the table again. Posts and kills are queued.
//! 2. At most one receive and one send are under way on a socket; a slot is freed when neither is.
//! 3. A connection that is open may stay so for ever. Every other state of it has a deadline or an operation under
//!    way that ends by itself, and so has every send.
//! 4. What a connection cannot use now it keeps under a bound, and stops receiving.
//! 5. On the way from bytes to replies nothing is allocated, so long as a reply fits in one pooled buffer.
//!
//! Reading order: `protocol` the seam; `link` what can be said; `conn` the slot; `admit` from a listener to an open
//! connection; `input` from bytes to calls; `post` what comes from elsewhere; `output` sends; `close` deadlines and the
//! way out; `drain`; `list` for people.
//!
//! Not here: any grammar (`proto-resp`), what commands do (the application), HTTP (`http1`).

mod admit;
mod close;
mod conn;
mod drain;
mod input;
mod link;
mod list;
mod output;
mod post;
mod protocol;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::time::Duration;

use corelane_base::{Op, RecvMode, Token};
use corelane_exec::{Data, Driver, Event, Shard};
use corelane_pools::Slots;

use crate::accepting::{self, Listeners};
use crate::inbox::Inboxes;
use crate::notice::Key;
use crate::peers::PeerCounts;
use conn::{Conn, Flow, NEVER, Phase, Recv, Wire};

pub use input::INBOX_PAUSE;
pub use link::Link;
pub use list::Facts;
pub use output::HELD_MAX;
pub use protocol::{ConnKey, Ending, Next, Protocol, Refusal};

/// What of a driver's operations a token stands for.
mod tag {
    pub(super) const ACCEPT: u8 = 1;
    pub(super) const RECV: u8 = 2;
    pub(super) const SEND: u8 = 3;
    pub(super) const TIMER: u8 = 4;
    pub(super) const ACCEPT_TIMER: u8 = 5;
    pub(super) const DRAIN_TIMER: u8 = 6;
    pub(super) const SHUTDOWN: u8 = 7;
    pub(super) const NAME: u8 = 8;
}

/// Settings of one table.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Connections the table holds; `None` is `Limits::connections_max`. Tables of one shard share its descriptors:
    /// together they should not pass that.
    pub connections_max: Option<u32>,
    /// What a connection beyond `connections_max` is told before it is closed. `None` leaves it in the listen queue
    /// until there is room.
    pub full_text: Option<&'static [u8]>,
    /// Find out the address of every peer, for [`Link::peer`]. Also done where `Limits::connections_per_peer_max` needs
    /// it. Costs an operation a connection, or accepting one by one where the kernel has no such operation.
    pub peers: bool,
    /// Closes a connection once nothing came for so long, unless [`Link::set_idle`] says otherwise. `None`: never.
    pub idle: Option<Duration>,
    /// Bytes of unread input one connection may hold, so the longest command. Past it: reset.
    pub inbox_bytes_max: u64,
    /// The same for all connections of the table together; `None` is `Limits::inbox_bytes_max`. Past it: the connection
    /// whose input is the oldest is reset.
    pub inboxes_bytes_max: Option<u64>,
    /// Posts waiting to be delivered. At it, no input is used until they are; what calls under way still post comes
    /// on top.
    pub posts_max: u32,
}

impl Default for SessionConfig {
    fn default() -> SessionConfig {
        SessionConfig {
            connections_max: None,
            full_text: None,
            peers: false,
            idle: None,
            inbox_bytes_max: 1 << 30,
            inboxes_bytes_max: None,
            posts_max: 16_384,
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one table of sessions. All only grow.
        #[derive(Debug, Default)]
        pub struct SessionStats { $($(#[$doc])* pub $name: Cell<u64>,)* }

        impl SessionStats {
            /// Names and values, in the order of the fields.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections whose slot was freed, or that never had one.
    closed,
    /// Accepts that failed.
    accept_errors,
    /// Times accept was paused because the table was full.
    accept_paused,
    /// Connections closed at once because their peer address had `connections_per_peer_max`.
    refused_per_peer,
    /// Connections closed at once because the table was full.
    refused_full,
    /// Connections the protocol did not want.
    refused,
    /// Posts delivered.
    posts,
    /// Posts to connections that were closed or closing.
    posts_undelivered,
    /// Connections ended by somebody else: `Sessions::kill`.
    killed,
    /// Calls of the protocol that panicked.
    panics,
    /// Connections ended by `write_time`.
    timeouts_write,
    /// Connections ended by their idle time.
    timeouts_idle,
    /// Connections ended by `half_close_time`.
    timeouts_half_closed,
    /// Receives armed again after the kernel ended them.
    recv_rearmed,
    /// Receives ended because no buffer was free.
    recv_no_buffers,
    /// Times receiving was paused by backpressure.
    recv_paused,
    /// Sends that took only part of what was given.
    sends_partial,
    /// Connections reset because one held more unread input than it may.
    inbox_full,
    /// Connections reset because the table held too much unread input and theirs was the oldest.
    inbox_evicted,
    /// Times a connection with more input to use gave way to others.
    gave_way,
    /// Connections ended because the pools had no buffer for what was said.
    pools_full,
    /// Bytes received.
    bytes_in,
    /// Bytes sent.
    bytes_out,
}

#[inline]
fn bump(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

#[inline]
fn add(cell: &Cell<u64>, n: usize) {
    cell.set(cell.get() + n as u64);
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Drain {
    No,
    /// No new connections but those already queued; the others go on as before.
    Grace,
    /// Idle connections are closed; the others finish what they are at.
    Closing,
    /// Everything is cut.
    Cut,
}

/// Connections, listeners and counters; register it with [`Sessions::start`].
pub struct Sessions<P: Protocol> {
    shard: Weak<Shard>,
    owner: Cell<u8>,
    protocol: P,
    config: SessionConfig,
    conns: RefCell<Slots<Conn<P::Conn>>>,
    conns_max: usize,
    inboxes_bytes_max: u64,
    idle_ns: u64,
    listeners: Listeners,
    peers: PeerCounts,
    /// Connections that are only told that there is no room.
    refusals: Cell<usize>,
    serial: Cell<u64>,
    posts: RefCell<VecDeque<post::Letter<P::Post>>>,
    /// The turn whose flush is over.
    flushed: Cell<u64>,
    /// The protocol was called since the last `turn_end`.
    touched: Cell<bool>,
    dirty: RefCell<Vec<u32>>,
    waiting: RefCell<VecDeque<Key>>,
    /// How many of those have waited since an earlier turn.
    due: Cell<usize>,
    inboxes: Inboxes,
    drain: Cell<Drain>,
    /// Counters.
    pub stats: SessionStats,
}

impl<P: Protocol> fmt::Debug for Sessions<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({} connections)", self.len())
    }
}

/// Where [`Sessions::of`] finds a table.
struct Table<P: Protocol>(RefCell<Weak<Sessions<P>>>);

impl<P: Protocol> Sessions<P> {
    /// A table for `shard`, registered with it. Listeners are added by [`Sessions::listen`].
    pub fn start(shard: &Rc<Shard>, protocol: P, config: SessionConfig) -> Rc<Sessions<P>> {
        let limits = shard.limits();
        let conns_max = config.connections_max.unwrap_or(limits.connections_max);
        // What was accepted before a pause took effect is served, not dropped, and what is refused needs a slot too.
        let room = conns_max.saturating_add(limits.descriptors_headroom);
        let table = Rc::new(Sessions {
            shard: Rc::downgrade(shard),
            owner: Cell::new(0),
            protocol,
            conns: RefCell::new(Slots::new("connections_max", room)),
            conns_max: conns_max as usize,
            inboxes_bytes_max: config.inboxes_bytes_max.unwrap_or(limits.inbox_bytes_max),
            idle_ns: link::idle_ns(config.idle),
            config,
            listeners: Listeners::default(),
            peers: PeerCounts::default(),
            refusals: Cell::new(0),
            serial: Cell::new(0),
            posts: RefCell::default(),
            flushed: Cell::new(0),
            touched: Cell::new(false),
            dirty: RefCell::default(),
            waiting: RefCell::default(),
            due: Cell::new(0),
            inboxes: Inboxes::default(),
            drain: Cell::new(Drain::No),
            stats: SessionStats::default(),
        });
        table.owner.set(shard.add_driver(Rc::clone(&table) as Rc<dyn Driver>));
        let me = Rc::downgrade(&table);
        let place = shard.local(|| Table::<P>(RefCell::new(Weak::clone(&me))));
        if place.0.borrow().strong_count() == 0 {
            place.0.replace(Weak::clone(&me));
        }
        table.protocol.started(&me);
        table
    }

    /// The table of this protocol on `shard`: the first one that was started there.
    pub fn of(shard: &Shard) -> Option<Rc<Sessions<P>>> {
        let place = shard.local(|| Table::<P>(RefCell::new(Weak::new())));
        place.0.borrow().upgrade()
    }

    /// What is spoken.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Connections open. 0 within a call of the protocol that has the table.
    pub fn len(&self) -> usize {
        self.conns.try_borrow().map_or(0, |conns| conns.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held of unread input.
    pub fn inbox_bytes(&self) -> u64 {
        self.inboxes.bytes()
    }

    #[inline]
    fn token(&self, tag: u8, key: Key) -> Token {
        // The low half of the generation is enough: a slot is freed after its last completion.
        #[allow(clippy::cast_possible_truncation)]
        Token::new(self.owner.get(), tag, key.generation as u16, key.index)
    }

    /// Runs `f` on a connection, then whatever its new state asks for.
    #[inline]
    fn with(&self, shard: &Shard, index: u32, f: impl FnOnce(&mut Conn<P::Conn>)) {
        let mut conns = self.conns.borrow_mut();
        let Some(conn) = conns.get_at_mut(index) else { return };
        f(conn);
        if self.settle(shard, &mut conn.wire)
            && let Some(conn) = conns.remove_at(index)
        {
            drop(conns);
            self.forget(shard, conn);
        }
    }

    /// Calls the protocol for an open connection, and says how that goes on.
    #[inline]
    fn call(
        &self,
        shard: &Shard,
        conn: &mut Conn<P::Conn>,
        f: impl FnOnce(&P, &Rc<Shard>, &mut P::Conn, &mut Link<'_>) -> Next,
    ) -> Next {
        let (Some(state), Some(owned)) = (&mut conn.state, self.shard.upgrade()) else { return Next::Abort };
        self.touched.set(true);
        let high_water = shard.limits().output_high_water as usize;
        let mut link = Link { wire: &mut conn.wire, pools: shard.pools(), high_water };
        match catch_unwind(AssertUnwindSafe(|| f(&self.protocol, &owned, state, &mut link))) {
            Ok(next) => next,
            Err(_) => self.panicked(shard, &mut conn.wire),
        }
    }

    #[cold]
    fn panicked(&self, shard: &Shard, wire: &mut Wire) -> Next {
        bump(&self.stats.panics);
        tracing::error!(shard = shard.id().0, "the protocol of a session panicked: that connection is cut");
        wire.ending = Some(Ending::Panicked);
        Next::Abort
    }

    /// Calls the protocol for no connection in particular.
    fn fenced(&self, shard: &Shard, f: impl FnOnce(&P, &Rc<Shard>)) {
        let Some(owned) = self.shard.upgrade() else { return };
        if catch_unwind(AssertUnwindSafe(|| f(&self.protocol, &owned))).is_err() {
            bump(&self.stats.panics);
            tracing::error!(shard = shard.id().0, "the protocol of a table of sessions panicked");
        }
    }

    /// Brings operations, lists and timers in line with a connection's state. True when its slot is free.
    #[inline]
    fn settle(&self, shard: &Shard, wire: &mut Wire) -> bool {
        // Nearly always: open, nothing waits in between, and the receive stays armed.
        if wire.phase == Phase::Open
            && wire.recv == Recv::Armed
            && wire.inbox.is_none()
            && !(wire.eof | wire.retiring | wire.out.failed())
        {
            let queued = wire.out.len();
            if queued + wire.in_flight <= shard.limits().output_high_water as usize {
                self.mark(wire, queued);
                self.settle_timer(shard, wire);
                return false;
            }
        }
        self.settle_unusual(shard, wire)
    }

    /// Puts a connection with something to send on the list of those.
    #[inline]
    fn mark(&self, wire: &mut Wire, queued: usize) {
        if queued > 0 && !(wire.dirty | wire.sending) {
            wire.dirty = true;
            self.dirty.borrow_mut().push(wire.key.index);
        }
    }

    #[inline(never)]
    fn settle_unusual(&self, shard: &Shard, wire: &mut Wire) -> bool {
        if wire.out.failed() && wire.phase != Phase::Dying {
            bump(&self.stats.pools_full);
            self.cut(wire, Ending::Starved);
        }
        if wire.phase >= Phase::Flush && self.settle_closing(shard, wire) {
            return true;
        }
        if wire.phase != Phase::Dying {
            self.mark(wire, wire.out.len());
        }
        self.settle_recv(shard, wire);
        self.settle_timer(shard, wire);
        false
    }

    /// Arms, pauses or leaves the receive.
    fn settle_recv(&self, shard: &Shard, wire: &mut Wire) {
        let wanted = self.wants_input(shard, wire);
        match wire.recv {
            Recv::Idle if wanted => {
                wire.recv = Recv::Armed;
                let token = self.token(tag::RECV, wire.key);
                shard.push(Op::Recv { sock: wire.sock, token, mode: RecvMode::Multi });
            }
            Recv::Armed if !wanted && !wire.cancelled => {
                if wire.phase == Phase::Open && !wire.retiring {
                    bump(&self.stats.recv_paused);
                }
                wire.recv = Recv::Cancelling;
                let target = self.token(tag::RECV, wire.key);
                shard.push(Op::Cancel { target, token: Token::NONE });
            }
            Recv::Idle | Recv::Armed | Recv::Cancelling | Recv::LastLook => {}
        }
    }

    fn wants_input(&self, shard: &Shard, wire: &Wire) -> bool {
        if wire.eof || wire.retiring {
            return false;
        }
        match wire.phase {
            Phase::Naming => false,
            // One that reads has its own maximum, past which it is reset.
            Phase::Open => {
                wire.unsent() <= shard.limits().output_high_water as usize
                    && (wire.flow == Flow::Reading || wire.unread_len() <= INBOX_PAUSE)
            }
            // Armed is left armed: it ends with the close. Idle is not armed again, but for lingering.
            Phase::Flush | Phase::Dying => wire.recv == Recv::Armed,
            Phase::Linger => true,
        }
    }

    /// Makes sure that a timer fires at the earliest deadline, or before: one that fires early is set again.
    #[inline]
    fn settle_timer(&self, shard: &Shard, wire: &mut Wire) {
        let next = wire.next_deadline_ns();
        if next < wire.timer_ns {
            self.set_timer(shard, wire, next);
        }
    }

    #[cold]
    fn set_timer(&self, shard: &Shard, wire: &mut Wire, at_ns: u64) {
        if let Some(old) = wire.timer.take() {
            shard.cancel_timer(old);
        }
        wire.timer_ns = at_ns;
        wire.timer = Some(shard.timer_for(at_ns, self.token(tag::TIMER, wire.key)));
    }

    /// A slot was freed.
    fn forget(&self, shard: &Shard, mut conn: Conn<P::Conn>) {
        bump(&self.stats.closed);
        if let Some(timer) = conn.wire.timer {
            shard.cancel_timer(timer);
        }
        self.drop_inbox(&mut conn.wire);
        if conn.wire.counted
            && let Some(peer) = &conn.wire.peer
        {
            self.peers.leave(peer.ip());
        }
        if conn.wire.refused {
            self.refusals.set(self.refusals.get() - 1);
        }
        if let Some(state) = conn.state {
            self.touched.set(true);
            let why = conn.wire.ending.unwrap_or(Ending::Lost);
            self.fenced(shard, |protocol, shard| protocol.closed(shard, state, why));
        }
        accepting::resume(self, shard);
        self.look_whether_drained(shard);
    }

    fn after(shard: &Shard, time: Duration) -> u64 {
        shard.now().mono_ns + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1)
    }
}

impl<P: Protocol> Driver for Sessions<P> {
    #[inline]
    fn complete(&self, shard: &Shard, event: Event<'_>) {
        let index = event.token.index();
        match event.token.tag() {
            tag::RECV => self.with(shard, index, |conn| {
                debug_assert_eq!(conn.wire.key.generation & 0xffff, u32::from(event.token.generation()));
                self.received(shard, conn, &event);
            }),
            tag::SEND => self.with(shard, index, |conn| match event.data {
                Data::Sent(chain) => self.sent(shard, conn, event.result, chain),
                _ => unreachable!("a send gives its bytes back"),
            }),
            tag::ACCEPT => accepting::accepted(self, shard, &event),
            tag::SHUTDOWN => self.with(shard, index, |conn| conn.wire.other = false),
            tag::NAME => self.with(shard, index, |conn| self.named(shard, conn, &event)),
            other => unreachable!("no operation has the tag {other}"),
        }
    }

    fn foresees(&self) -> bool {
        self.protocol.foresees()
    }

    #[inline]
    fn foresee(&self, shard: &Shard, bytes: &[u8]) {
        self.fenced(shard, |protocol, _| protocol.foresee(bytes));
    }

    #[inline]
    fn warm(&self, shard: &Shard) {
        self.fenced(shard, |protocol, _| protocol.warm());
    }

    fn timer(&self, shard: &Shard, token: Token) {
        match token.tag() {
            tag::TIMER => self.with(shard, token.index(), |conn| {
                if conn.wire.key.generation & 0xffff != u32::from(token.generation()) {
                    return; // of a connection that ended in this very turn
                }
                conn.wire.timer = None;
                conn.wire.timer_ns = NEVER;
                self.deadline(shard, &mut conn.wire);
            }),
            tag::ACCEPT_TIMER => accepting::retry(self, shard, token.index()),
            tag::DRAIN_TIMER => self.drain_step(shard),
            other => unreachable!("no timer has the tag {other}"),
        }
    }

    fn flush(&self, shard: &Shard) -> bool {
        self.resume_waiting(shard);
        self.evict(shard);
        let mut more = self.deliver(shard);
        self.flush_dirty(shard);
        if self.listeners.paused.get() {
            accepting::resume(self, shard);
        }
        self.due.set(self.waiting.borrow().len());
        more |= self.due.get() > 0;
        self.flushed.set(shard.stats.turns.get());
        more
    }
}
