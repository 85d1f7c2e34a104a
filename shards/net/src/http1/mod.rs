//! The HTTP/1.1 connections of one shard.
//!
//! Each is a slot driven by completions: bytes are parsed where the ring put them, the service is called,
//! the answer goes into the connection's output, and everything said in one turn leaves in one send.
//!
//! # Rules
//! 1. The table is borrowed while a completion, timer or notice is handled, and the service is called under
//!    that borrow: nothing the service can reach may borrow the table again. Async handlers run as tasks,
//!    outside of it, and come back through `finish`.
//! 2. At most one receive and one send are under way on a socket; a slot is freed when neither is.
//! 3. Every state of a connection has a deadline or an operation under way that ends by itself.
//! 4. What a connection cannot use now it keeps under a bound, and stops receiving.
//!
//! Reading order: `conn` the slot; `accept` listeners; `hand` to other shards; `admit` from a socket to an open
//! connection; `input` from bytes to calls; `answer` from responses to sends; `close` deadlines and the way out;
//! `drain`; `list` for people; `measure` how long answers take.
//!
//! Not here: the grammar (`proto-h1`), the application (`http`), whose a connection should be (`balance`).

mod accept;
mod admit;
mod answer;
mod close;
mod conn;
mod drain;
mod hand;
mod input;
mod list;
pub mod measure;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use corelane_base::{Limits, Op, Token};
use corelane_exec::{Data, Driver, Event, Shard};
use corelane_pools::Slots;
use corelane_proto_h1 as h1;
use ipnet::IpNet;

use crate::accepting::{self, Accepting, Listeners};
use crate::balance::Balance;
use crate::inbox::Inboxes;
use crate::message::Takeover;
use crate::notice::{Key, Notices};
use crate::peers::PeerCounts;
use crate::service::Service;
use crate::stream::TcpStream;
use conn::{Conn, NEVER, Phase, Recv};

pub use drain::Draining;
pub use list::ConnInfo;

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
    pub(super) const HAND: u8 = 9;
    /// Pushed by the kernel of another shard.
    pub(super) const ARRIVAL: u8 = 10;
}

/// Settings that are no limits.
#[derive(Clone, Debug)]
pub struct Http1Config {
    /// Value of the `Server` field; `None` leaves it out.
    pub server: Option<&'static str>,
    /// Find out the address of every peer, for [`Incoming::peer`](crate::Incoming::peer). Also done where
    /// `Limits::connections_per_peer_max` or `proxy_from` needs it. Costs an operation a connection, or
    /// accepting one by one where the kernel has no such operation.
    pub peers: bool,
    /// Peers whose connections begin with a PROXY header (version 1 or 2), and must: its source takes the place
    /// of the peer. From anybody else such a header is a malformed request.
    pub proxy_from: Vec<IpNet>,
    /// The same for peers without an IP address: those of a Unix socket, which whoever may write to its file
    /// can connect to.
    pub proxy_from_unix: bool,
    /// The group this shard shares its connections with. None keeps what it accepts.
    pub balance: Option<Arc<Balance>>,
}

impl Default for Http1Config {
    fn default() -> Http1Config {
        Http1Config {
            server: Some("corelane"),
            peers: false,
            proxy_from: Vec::new(),
            proxy_from_unix: false,
            balance: None,
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of the HTTP/1.1 connections of a shard. All only grow.
        #[derive(Debug, Default)]
        pub struct Http1Stats { $($(#[$doc])* pub $name: Cell<u64>,)* }

        impl Http1Stats {
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
    /// Connections whose slot was freed.
    closed,
    /// Accepts that failed.
    accept_errors,
    /// Times accept was paused because the table was full.
    accept_paused,
    /// Connections closed at once because their peer address had `connections_per_peer_max`.
    refused_per_peer,
    /// Connections closed at once because the table was full.
    refused_full,
    /// Connections closed because the PROXY header they had to begin with was malformed, late or missing.
    proxy_errors,
    /// Connections accepted here and given to another shard.
    handed,
    /// Connections accepted by another shard and given to this one.
    arrived,
    /// Connections that were to go to another shard and stayed, because it had no descriptor for them.
    hand_failed,
    /// Request heads accepted.
    requests,
    /// Answers with a 2xx status.
    responses_2xx,
    /// Answers with a 3xx status.
    responses_3xx,
    /// Answers with a 4xx status, refusals of malformed requests among them.
    responses_4xx,
    /// Answers with a 5xx status.
    responses_5xx,
    /// Requests refused by the machine: framing, syntax, limits.
    rejected,
    /// Handlers that panicked.
    panics,
    /// Connections ended by `head_time`.
    timeouts_head,
    /// Connections ended by `body_time`.
    timeouts_body,
    /// Connections ended by `write_time`.
    timeouts_write,
    /// Connections ended by `idle_time` or a drain while idle.
    timeouts_idle,
    /// Handlers cancelled by `handler_time`.
    timeouts_handler,
    /// Handlers cancelled because their client left.
    cancelled,
    /// Receives armed again after the kernel ended them.
    recv_rearmed,
    /// Receives ended because no buffer was free.
    recv_no_buffers,
    /// Times receiving was paused by backpressure.
    recv_paused,
    /// Sends that took only part of what was given.
    sends_partial,
    /// Connections closed because `inbox_bytes_max` was reached and theirs was the oldest input.
    inbox_evicted,
    /// Requests refused because no task was free.
    tasks_full,
    /// Connections ended because the pools had no buffer for the answer.
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
    /// No new connections but those already queued; idle ones may bring one more request.
    Grace,
    /// Idle connections are closed; requests under way are finished.
    Closing,
    /// Everything is cut.
    Cut,
}

/// What connections hold beyond their slot: also those that were upgraded and are streams now.
#[derive(Default)]
struct Held {
    upgraded: Cell<usize>,
    peers: PeerCounts,
}

/// The share of an upgraded connection, given back when its stream is closed.
struct Share {
    held: Rc<Held>,
    peer: Option<IpAddr>,
    seat: Option<(Arc<Balance>, usize)>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.upgraded.set(self.held.upgraded.get() - 1);
        if let Some(peer) = self.peer {
            self.held.peers.leave(peer);
        }
        if let Some((balance, here)) = &self.seat {
            balance.leave(*here);
        }
    }
}

struct DateCache {
    unix_s: u64,
    text: [u8; 29],
}

/// Connections, listeners and counters; register it with [`Http1::start`].
pub struct Http1<S: Service> {
    me: Weak<Http1<S>>,
    owner: Cell<u8>,
    service: S,
    config: Http1Config,
    h1_limits: h1::Limits,
    conns: RefCell<Slots<Conn>>,
    conns_max: usize,
    listeners: Listeners,
    /// A listener has fewer accepts under way than it could: this shard is full, and others were to take them.
    held_back: Cell<bool>,
    handing: RefCell<Slots<hand::Handing>>,
    /// This shard's seat in the balance.
    here: usize,
    held: Rc<Held>,
    takeovers: RefCell<Vec<(Takeover, TcpStream)>>,
    notices: Rc<Notices>,
    noticed: RefCell<Vec<Key>>,
    dirty: RefCell<Vec<u32>>,
    waiting: RefCell<VecDeque<Key>>,
    inboxes: Inboxes,
    date: RefCell<DateCache>,
    /// The head written last, whichever connection it was for.
    memo: RefCell<h1::HeadMemo>,
    drain: Cell<Drain>,
    measure: measure::Measure,
    /// Counters.
    pub stats: Http1Stats,
}

impl<S: Service> fmt::Debug for Http1<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Http1({} connections)", self.conns.borrow().len())
    }
}

/// The machine's own maxima out of the shard's.
pub fn h1_limits(limits: &Limits) -> h1::Limits {
    h1::Limits {
        line_bytes_max: limits.line_bytes_max,
        head_bytes_max: limits.head_bytes_max,
        headers_max: limits.headers_max,
        body_bytes_max: limits.body_bytes_max,
        drain_bytes_max: limits.drain_bytes_max,
        ..h1::Limits::default()
    }
}

impl<S: Service> Http1<S> {
    /// A table for `shard`, registered with it. Listeners are added by [`Http1::listen`].
    pub fn start(shard: &Shard, service: S, config: Http1Config) -> Rc<Http1<S>> {
        let limits = shard.limits();
        // What was accepted before a pause took effect is served, not dropped: the headroom is room here too.
        let room = limits.connections_max.saturating_add(limits.descriptors_headroom);
        let mut text = [0; 29];
        h1::write_date(shard.now().unix_s, &mut text);
        let table = Rc::new_cyclic(|me| Http1 {
            me: Weak::clone(me),
            owner: Cell::new(0),
            service,
            config,
            h1_limits: h1_limits(limits),
            conns: RefCell::new(Slots::new("connections_max", room)),
            conns_max: limits.connections_max as usize,
            listeners: Listeners::default(),
            held_back: Cell::new(false),
            handing: RefCell::new(Slots::new("hand-overs under way", hand::HANDING_MAX)),
            here: usize::from(shard.id().0),
            held: Rc::new(Held::default()),
            takeovers: RefCell::new(Vec::new()),
            notices: Rc::new(Notices::default()),
            noticed: RefCell::new(Vec::new()),
            dirty: RefCell::new(Vec::new()),
            waiting: RefCell::new(VecDeque::new()),
            inboxes: Inboxes::default(),
            date: RefCell::new(DateCache { unix_s: shard.now().unix_s, text }),
            memo: RefCell::default(),
            drain: Cell::new(Drain::No),
            measure: measure::Measure::new(shard),
            stats: Http1Stats::default(),
        });
        table.owner.set(shard.add_driver(Rc::clone(&table) as Rc<dyn Driver>));
        measure::register(shard, &table);
        table
    }

    /// The application.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// Connections open.
    pub fn connections(&self) -> usize {
        self.conns.borrow().len()
    }

    /// Connections open, and those that were upgraded and are still open.
    fn held(&self) -> usize {
        self.connections() + self.held.upgraded.get()
    }

    /// Turns a connection's share into one that outlives its slot.
    fn share(&self, conn: &mut Conn) -> Share {
        self.held.upgraded.set(self.held.upgraded.get() + 1);
        conn.shared = true;
        let peer = conn.peer.as_ref().filter(|_| std::mem::take(&mut conn.counted)).map(|peer| peer.ip());
        let seat = self.config.balance.as_ref().map(|balance| (Arc::clone(balance), self.here));
        Share { held: Rc::clone(&self.held), peer, seat }
    }

    /// Hands upgraded connections to their new owners: the application's code, outside of every borrow.
    fn hand_over(&self, shard: &Shard) {
        loop {
            let next = self.takeovers.borrow_mut().pop();
            let Some((takeover, stream)) = next else { break };
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| takeover(stream))).is_err() {
                bump(&self.stats.panics);
                tracing::error!(shard = shard.id().0, "a takeover panicked: that connection is closed");
            }
        }
    }

    /// Bytes held for partial heads and unread input.
    pub fn inbox_bytes(&self) -> u64 {
        self.inboxes.bytes()
    }

    fn token(&self, tag: u8, key: Key) -> Token {
        // The low half of the generation is enough: a slot is freed after its last completion.
        #[allow(clippy::cast_possible_truncation)]
        Token::new(self.owner.get(), tag, key.generation as u16, key.index)
    }

    /// Runs `f` on a connection, then whatever its new state asks for.
    #[inline]
    fn with(&self, shard: &Shard, index: u32, f: impl FnOnce(&mut Conn)) {
        let mut conns = self.conns.borrow_mut();
        let Some(conn) = conns.get_at_mut(index) else { return };
        f(conn);
        if self.settle(shard, conn)
            && let Some(conn) = conns.remove_at(index)
        {
            drop(conns);
            self.forget(shard, conn);
        }
    }

    /// Brings operations, lists and timers in line with a connection's state. True when its slot is free.
    #[inline]
    fn settle(&self, shard: &Shard, conn: &mut Conn) -> bool {
        // Nearly always: open, nothing waits in between, and the receive stays armed.
        if conn.phase == Phase::Open
            && conn.recv == Recv::Armed
            && conn.exchange.is_none()
            && conn.inbox.is_none()
            && !(conn.eof | conn.retiring | conn.output.failed() | conn.h1.must_close())
            && conn.output.len() + conn.in_flight <= shard.limits().output_high_water as usize
        {
            if !(conn.dirty | conn.sending) && !conn.output.is_empty() {
                conn.dirty = true;
                self.dirty.borrow_mut().push(conn.key.index);
            }
            self.settle_timer(shard, conn);
            return false;
        }
        self.settle_unusual(shard, conn)
    }

    #[inline(never)]
    fn settle_unusual(&self, shard: &Shard, conn: &mut Conn) -> bool {
        if conn.phase == Phase::Open && conn.h1.must_close() && conn.exchange.is_none() {
            self.end_input(conn);
        }
        if conn.output.failed() && conn.phase != Phase::Dying {
            bump(&self.stats.pools_full);
            self.cut(conn);
        }
        if conn.phase >= Phase::Flush && self.settle_closing(shard, conn) {
            return true;
        }
        if !conn.dirty && !conn.sending && !conn.output.is_empty() && conn.phase != Phase::Dying {
            conn.dirty = true;
            self.dirty.borrow_mut().push(conn.key.index);
        }
        self.settle_recv(shard, conn);
        self.settle_timer(shard, conn);
        false
    }

    /// Arms, pauses or leaves the receive.
    #[inline]
    fn settle_recv(&self, shard: &Shard, conn: &mut Conn) {
        let wanted = self.wants_input(shard, conn);
        match conn.recv {
            Recv::Armed if wanted => {}
            Recv::Idle if wanted => {
                conn.recv = Recv::Armed;
                let token = self.token(tag::RECV, conn.key);
                shard.push(Op::Recv { sock: conn.sock, token, mode: corelane_base::RecvMode::Multi });
            }
            Recv::Armed if !conn.cancelled => {
                if conn.phase == Phase::Open && !conn.retiring {
                    bump(&self.stats.recv_paused);
                }
                conn.recv = Recv::Cancelling;
                let target = self.token(tag::RECV, conn.key);
                shard.push(Op::Cancel { target, token: Token::NONE });
            }
            Recv::Idle | Recv::Armed | Recv::Cancelling | Recv::LastLook => {}
        }
    }

    #[inline]
    fn wants_input(&self, shard: &Shard, conn: &Conn) -> bool {
        if conn.eof || conn.retiring {
            return false;
        }
        match conn.phase {
            Phase::Open => {
                let limits = shard.limits();
                conn.output.len() + conn.in_flight <= limits.output_high_water as usize
                    && conn.unread_len() <= input::INBOX_PAUSE.max(limits.head_bytes_max as usize)
                    && conn
                        .exchange
                        .as_ref()
                        .and_then(|e| e.feed.as_ref())
                        .is_none_or(|feed| !feed.is_full(limits.body_high_water as usize))
            }
            // Armed is left armed: it ends with the close. Idle is not armed again, but for lingering.
            Phase::Flush => conn.recv == Recv::Armed,
            Phase::Linger => true,
            Phase::Dying => conn.recv == Recv::Armed,
            Phase::Header => true,
            Phase::Naming | Phase::HandOver => false,
        }
    }

    /// Makes sure that a timer fires at the earliest deadline, or before: one that fires early is set again.
    #[inline]
    fn settle_timer(&self, shard: &Shard, conn: &mut Conn) {
        let next = conn.next_deadline_ns();
        if next < conn.timer_ns {
            self.set_timer(shard, conn, next);
        }
    }

    #[cold]
    fn set_timer(&self, shard: &Shard, conn: &mut Conn, at_ns: u64) {
        if let Some(old) = conn.timer.take() {
            shard.cancel_timer(old);
        }
        conn.timer_ns = at_ns;
        conn.timer = Some(shard.timer_for(at_ns, self.token(tag::TIMER, conn.key)));
    }

    /// A slot was freed.
    fn forget(&self, shard: &Shard, mut conn: Conn) {
        bump(&self.stats.closed);
        if let Some(timer) = conn.timer {
            shard.cancel_timer(timer);
        }
        if let Some(inbox) = conn.inbox.take() {
            self.inboxes.end(inbox);
        }
        if conn.counted
            && let Some(peer) = &conn.peer
        {
            self.held.peers.leave(peer.ip());
        }
        if !conn.shared {
            self.left();
        }
        drop(conn);
        self.resume_accept(shard);
        self.check_drained(shard);
    }

    fn after(shard: &Shard, time: Duration) -> u64 {
        shard.now().mono_ns + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1)
    }
}

impl<S: Service> Driver for Http1<S> {
    #[inline]
    fn complete(&self, shard: &Shard, event: Event<'_>) {
        let index = event.token.index();
        match event.token.tag() {
            tag::RECV => self.with(shard, index, |conn| {
                debug_assert_eq!(conn.key.generation & 0xffff, u32::from(event.token.generation()));
                self.received(shard, conn, &event);
            }),
            tag::SEND => self.with(shard, index, |conn| match event.data {
                Data::Sent(chain) => self.sent(shard, conn, event.result, chain),
                _ => unreachable!("a send gives its bytes back"),
            }),
            tag::ACCEPT => accepting::accepted(self, shard, &event),
            tag::SHUTDOWN => self.with(shard, index, |conn| conn.other = false),
            tag::NAME => self.with(shard, index, |conn| self.named(shard, conn, &event)),
            tag::HAND => self.handed_over(shard, &event),
            tag::ARRIVAL => self.arrived(shard, &event),
            other => unreachable!("no operation has the tag {other}"),
        }
    }

    fn timer(&self, shard: &Shard, token: Token) {
        match token.tag() {
            tag::TIMER => self.with(shard, token.index(), |conn| {
                if conn.key.generation & 0xffff != u32::from(token.generation()) {
                    return; // of a connection that ended in this very turn
                }
                conn.timer = None;
                conn.timer_ns = NEVER;
                self.deadline(shard, conn);
            }),
            tag::ACCEPT_TIMER => accepting::retry(self, shard, token.index()),
            tag::DRAIN_TIMER => self.drain_step(shard),
            other => unreachable!("no timer has the tag {other}"),
        }
    }

    fn flush(&self, shard: &Shard) -> bool {
        self.follow_notices(shard);
        let more = self.resume_waiting(shard);
        self.evict_inboxes(shard);
        self.flush_dirty(shard);
        self.hand_over(shard);
        self.take_arrivals(shard);
        if self.listeners.paused.get() {
            self.resume_accept(shard);
        }
        self.measure.end_turn(shard, &self.stats);
        // What a service called just now did to a body must not wait for the next completion.
        more || !self.notices.is_empty()
    }
}
