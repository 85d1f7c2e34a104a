//! The listeners of a table: taking connections, and pausing at the limit.
//!
//! What every table does alike is here; what a connection becomes, and whether there is room, is the table's
//! ([`Accepting`]).
//!
//! # Rules
//! 1. While a table has no room, and nobody takes what is over, no accept is under way but ones being cancelled.
//! 2. Lack of descriptors is waited out for [`RETRY`], never spun on.
//! 3. With less room than `backlog` connections are accepted one by one: a multishot accept takes the whole queue
//!    at once, and what finds no descriptor is lost.
//!
//! Not here: where a connection goes then (`http1`, `session`), plain streams (`stream`, which is simpler).

mod patience;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use corelane_base::{AcceptMode, ListenerId, Op, Sock, Token};
use corelane_exec::{Data, Event, Shard};

use crate::errno;

pub(crate) use patience::{Patience, RETRY, is_scarcity};

/// Single accepts under way at most.
pub(crate) const SINGLES: u32 = 8;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Accepts are under way, or will be after a rest.
    On,
    /// At the limit.
    Paused,
    /// The drain takes what is queued.
    Emptying,
    /// Nothing more comes.
    Done,
}

/// One listener.
#[derive(Debug)]
struct Listener {
    id: ListenerId,
    state: State,
    /// Accept operations under way, one bit each. A multishot or queued one has the first bit.
    under_way: u16,
    /// The first bit is a multishot accept that nobody has cancelled.
    multi: bool,
    /// Accepts one by one.
    careful: bool,
    resting: bool,
    patience: Patience,
    handed_back: bool,
}

/// The listeners of one table.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    list: RefCell<Vec<Listener>>,
    /// A listener is paused: there may be room by now.
    pub(crate) paused: Cell<bool>,
}

impl Listeners {
    /// Whether nothing more comes from any of them.
    pub(crate) fn are_done(&self) -> bool {
        self.list.borrow().iter().all(|l| l.state == State::Done && l.under_way == 0)
    }

    /// The end of a drain: those that have nothing under way are done, whatever waits in their queues.
    pub(crate) fn give_up(&self) {
        for listener in self.list.borrow_mut().iter_mut() {
            if listener.under_way == 0 {
                listener.state = State::Done;
            }
        }
    }

    /// Those that are done and may be closed, each once.
    pub(crate) fn take_closed(&self) -> Vec<ListenerId> {
        let mut closed = Vec::new();
        for listener in self.list.borrow_mut().iter_mut() {
            if listener.state == State::Done && listener.under_way == 0 && !listener.handed_back {
                listener.handed_back = true;
                closed.push(listener.id);
            }
        }
        closed
    }
}

/// A table that has listeners.
pub(crate) trait Accepting {
    fn listeners(&self) -> &Listeners;

    /// The token of accept number `single` of listener number `at`.
    fn accept_token(&self, at: usize, single: u16) -> Token;

    /// The token of the timer that ends a rest of listener number `at`.
    fn rest_token(&self, at: usize) -> Token;

    /// Connections it may still take.
    fn room(&self) -> usize;

    /// Single accepts to have under way: no more than there is room for.
    fn singles(&self, _shard: &Shard) -> u32 {
        u32::try_from(self.room()).unwrap_or(u32::MAX).min(SINGLES)
    }

    /// Whether connections must be accepted one by one, because their addresses cannot be asked for.
    fn needs_single_accepts(&self, shard: &Shard) -> bool;

    /// A connection came.
    fn took(&self, shard: &Shard, sock: Sock, peer: Option<SocketAddr>);

    /// Counts an accept that failed.
    fn count_failed(&self);

    /// Counts a pause.
    fn count_paused(&self);

    /// Whether listeners must pause now that there is no room.
    fn pauses(&self, _shard: &Shard) -> bool {
        true
    }

    /// Whether paused listeners may go on.
    fn may_resume(&self, shard: &Shard) -> bool;

    /// Something that a drain may wait for has ended.
    fn check_drained(&self, shard: &Shard);
}

/// Enough room for what a multishot accept may bring at once: all that waits.
fn is_roomy<T: Accepting>(table: &T, shard: &Shard) -> bool {
    table.room() >= shard.limits().backlog as usize
}

/// Accepts from a listener of this shard's kernel, from the next turn on.
pub(crate) fn listen<T: Accepting>(table: &T, shard: &Shard, id: ListenerId) {
    let mut listeners = table.listeners().list.borrow_mut();
    listeners.push(Listener {
        id,
        state: State::On,
        under_way: 0,
        multi: false,
        careful: !is_roomy(table, shard),
        resting: false,
        patience: Patience::default(),
        handed_back: false,
    });
    let at = listeners.len() - 1;
    arm(table, shard, &mut listeners[at], at);
}

fn arm<T: Accepting>(table: &T, shard: &Shard, listener: &mut Listener, at: usize) {
    if listener.resting {
        return;
    }
    match listener.state {
        State::On => {
            listener.careful &= !is_roomy(table, shard);
            let singles = listener.careful || table.needs_single_accepts(shard);
            // A multishot accept is the only one: it waits for single ones to end, and has the first bit then.
            let (count, mode) = match singles {
                true => (table.singles(shard), AcceptMode::OneWithPeer),
                false => (1, AcceptMode::Multi),
            };
            while listener.under_way.count_ones() < count {
                let n = u16::try_from(listener.under_way.trailing_ones()).unwrap_or(0);
                listener.under_way |= 1 << n;
                listener.multi |= mode == AcceptMode::Multi;
                let token = table.accept_token(at, n);
                shard.push(Op::Accept { listener: listener.id, token, mode });
            }
        }
        State::Emptying if listener.under_way == 0 => {
            listener.under_way = 1;
            let token = table.accept_token(at, 0);
            shard.push(Op::Accept { listener: listener.id, token, mode: AcceptMode::Queued });
        }
        State::Emptying | State::Paused | State::Done => {}
    }
}

/// Has every listener accept as much as it may.
pub(crate) fn arm_all<T: Accepting>(table: &T, shard: &Shard) {
    for (at, listener) in table.listeners().list.borrow_mut().iter_mut().enumerate() {
        arm(table, shard, listener, at);
    }
}

fn cancel<T: Accepting>(table: &T, shard: &Shard, listener: &mut Listener, at: usize) {
    listener.multi = false;
    for n in (0..16).filter(|n| listener.under_way & (1 << n) != 0) {
        shard.push(Op::Cancel { target: table.accept_token(at, n), token: Token::NONE });
    }
}

/// An accept completed.
pub(crate) fn accepted<T: Accepting>(table: &T, shard: &Shard, event: &Event<'_>) {
    let at = event.token.index() as usize;
    if let Ok(number) = u32::try_from(event.result) {
        let peer = match event.data {
            Data::Peer(peer) => Some(peer),
            _ => None,
        };
        table.took(shard, Sock(number), peer);
    }
    let mut listeners = table.listeners().list.borrow_mut();
    let listener = &mut listeners[at];
    if !event.more {
        let single = event.token.generation();
        listener.under_way &= !(1 << single);
        listener.multi &= single != 0;
    }
    if event.result >= 0 {
        listener.patience.succeeded();
    } else if ![errno::ECANCELED, errno::EAGAIN].contains(&-event.result) {
        failed(table, shard, listener, at, -event.result);
    }
    match listener.state {
        State::On if table.room() == 0 => at_limit(table, shard, listener, at),
        State::Emptying if event.result == -errno::EAGAIN && listener.under_way == 0 => {
            listener.state = State::Done;
            shard.turn_again(); // the listener is to be closed at once
        }
        State::On | State::Emptying => arm(table, shard, listener, at),
        State::Paused | State::Done => {}
    }
    drop(listeners);
    table.check_drained(shard);
}

#[cold]
fn failed<T: Accepting>(table: &T, shard: &Shard, listener: &mut Listener, at: usize, errno: i32) {
    if errno != errno::EINTR {
        table.count_failed();
        let advice = if is_scarcity(errno) { "; resting: raise nofile or lower connections_max" } else { "" };
        tracing::warn!(shard = shard.id().0, errno, "accept failed{advice}");
    }
    if listener.patience.rests_after(errno) {
        rest(table, shard, listener, at);
    }
}

/// No new accept for [`RETRY`].
fn rest<T: Accepting>(table: &T, shard: &Shard, listener: &mut Listener, at: usize) {
    if !std::mem::replace(&mut listener.resting, true) {
        let rest_ns = u64::try_from(RETRY.as_nanos()).unwrap_or(u64::MAX >> 1);
        shard.timer_for(shard.now().mono_ns + rest_ns, table.rest_token(at));
    }
}

/// Full: goes on for others that have room, one by one, or pauses.
fn at_limit<T: Accepting>(table: &T, shard: &Shard, listener: &mut Listener, at: usize) {
    if table.pauses(shard) {
        table.listeners().paused.set(true);
        table.count_paused();
        listener.state = State::Paused;
        cancel(table, shard, listener, at);
        return;
    }
    listener.careful = true;
    if std::mem::take(&mut listener.multi) {
        shard.push(Op::Cancel { target: table.accept_token(at, 0), token: Token::NONE });
    }
    arm(table, shard, listener, at);
}

/// Has every listener rest that accepts.
pub(crate) fn rest_all<T: Accepting>(table: &T, shard: &Shard) {
    for (at, listener) in table.listeners().list.borrow_mut().iter_mut().enumerate() {
        if listener.state == State::On && !listener.resting {
            cancel(table, shard, listener, at);
            rest(table, shard, listener, at);
        }
    }
}

/// A place is free, here or where this table may give to: paused listeners may go on.
pub(crate) fn resume<T: Accepting>(table: &T, shard: &Shard) {
    if !table.listeners().paused.get() || !table.may_resume(shard) {
        return;
    }
    table.listeners().paused.set(false);
    for (at, listener) in table.listeners().list.borrow_mut().iter_mut().enumerate() {
        if listener.state == State::Paused {
            listener.state = State::On;
            // There is a queue: it is not to be taken as a whole.
            listener.careful = true;
            arm(table, shard, listener, at);
        }
    }
}

/// The rest of a listener is over.
pub(crate) fn retry<T: Accepting>(table: &T, shard: &Shard, at: u32) {
    let (mut listeners, at) = (table.listeners().list.borrow_mut(), at as usize);
    if std::mem::take(&mut listeners[at].resting) {
        arm(table, shard, &mut listeners[at], at);
    }
}

/// The drain begins: takes what waits in the queues, and nothing else.
pub(crate) fn empty<T: Accepting>(table: &T, shard: &Shard) {
    table.listeners().paused.set(false);
    for (at, listener) in table.listeners().list.borrow_mut().iter_mut().enumerate() {
        listener.resting = false;
        listener.state = State::Emptying;
        if listener.under_way == 0 {
            arm(table, shard, listener, at);
        } else {
            cancel(table, shard, listener, at);
        }
    }
}

/// A peer's address as everything above sees it: IPv4 within IPv6 unpacked, and nothing where the kernel had
/// none to tell (that of a Unix socket comes as 0.0.0.0).
pub(crate) fn plain(peer: SocketAddr) -> Option<SocketAddr> {
    let ip = peer.ip().to_canonical();
    match (ip.is_unspecified(), ip == peer.ip()) {
        (true, _) => None,
        (false, true) => Some(peer),
        (false, false) => Some(SocketAddr::new(ip, peer.port())),
    }
}
