//! Listeners: taking connections, and pausing at the limit.
//!
//! # Rules
//! 1. While the table holds `connections_max` or more, and nobody takes what is over, no accept is under way but
//!    ones being cancelled.
//! 2. Lack of descriptors is waited out for [`RETRY`], never spun on.
//! 3. With less room than `backlog` connections are accepted one by one: a multishot accept takes the whole queue
//!    at once, and what finds no descriptor is lost.
//!
//! Not here: where a connection goes then (`hand`, `admit`), the end of listeners (`drain`).

use std::net::SocketAddr;

use corelane_base::{AcceptMode, ListenerId, Op, Sock, Token};
use corelane_exec::{Data, Event, Shard};

use super::{Drain, Http1, bump, errno_is, tag};
use crate::accepting::{Patience, RETRY, is_scarcity};
use crate::errno;
use crate::service::Service;

/// Single accepts under way at most.
const SINGLES: u32 = 8;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
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
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) state: State,
    /// Accept operations under way, one bit each. A multishot or queued one has the first bit.
    pub(super) under_way: u16,
    /// The first bit is a multishot accept that nobody has cancelled.
    multi: bool,
    /// Accepts one by one.
    careful: bool,
    pub(super) resting: bool,
    patience: Patience,
    pub(super) handed_back: bool,
}

impl<S: Service> Http1<S> {
    /// Accepts from a listener of this shard's kernel, from the next turn on. With the first one this shard
    /// takes its seat in the balance. A Unix listener whose socket other shards have too is as good as any.
    pub fn listen(&self, shard: &Shard, id: ListenerId) {
        self.take_seat(shard);
        let mut listeners = self.listeners.borrow_mut();
        listeners.push(Listener {
            id,
            state: State::On,
            under_way: 0,
            multi: false,
            careful: !self.is_roomy(shard),
            resting: false,
            patience: Patience::default(),
            handed_back: false,
        });
        let at = listeners.len() - 1;
        self.arm_accept(shard, &mut listeners[at], at);
    }

    fn accept_token(&self, at: usize, single: u16) -> Token {
        Token::new(self.owner.get(), tag::ACCEPT, single, u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// Connections this shard may still take, those that may come back from a hand-over among them.
    fn room(&self) -> usize {
        self.conns_max.saturating_sub(self.load() + self.handing.borrow().len())
    }

    /// Enough room for what a multishot accept may bring at once: all that waits.
    fn is_roomy(&self, shard: &Shard) -> bool {
        self.room() >= shard.limits().backlog as usize
    }

    /// Single accepts to have under way: no more than there is room for. A full shard accepts for others, and
    /// keeps at most [`SINGLES`] beyond its limit that they did not take after all.
    fn singles(&self, shard: &Shard) -> u32 {
        let room = match self.room() {
            0 if !self.can_hand(shard) => 0,
            0 => {
                let over = (self.load() + self.handing.borrow().len()).saturating_sub(self.conns_max);
                (SINGLES as usize).saturating_sub(over)
            }
            room => room,
        };
        self.held_back.set(self.held_back.get() | (room == 0));
        u32::try_from(room).unwrap_or(u32::MAX).min(SINGLES)
    }

    pub(super) fn arm_accept(&self, shard: &Shard, listener: &mut Listener, at: usize) {
        if listener.resting {
            return;
        }
        match listener.state {
            State::On => {
                listener.careful &= !self.is_roomy(shard);
                let singles = listener.careful || self.needs_single_accepts(shard);
                // A multishot accept is the only one: it waits for single ones to end, and has the first bit then.
                let (count, mode) = match singles {
                    true => (self.singles(shard), AcceptMode::OneWithPeer),
                    false => (1, AcceptMode::Multi),
                };
                while listener.under_way.count_ones() < count {
                    let n = u16::try_from(listener.under_way.trailing_ones()).unwrap_or(0);
                    listener.under_way |= 1 << n;
                    listener.multi |= mode == AcceptMode::Multi;
                    let token = self.accept_token(at, n);
                    shard.push(Op::Accept { listener: listener.id, token, mode });
                }
            }
            State::Emptying if listener.under_way == 0 => {
                listener.under_way = 1;
                let token = self.accept_token(at, 0);
                shard.push(Op::Accept { listener: listener.id, token, mode: AcceptMode::Queued });
            }
            State::Emptying | State::Paused | State::Done => {}
        }
    }

    pub(super) fn cancel_accepts(&self, shard: &Shard, listener: &mut Listener, at: usize) {
        listener.multi = false;
        for n in (0..16).filter(|n| listener.under_way & (1 << n) != 0) {
            shard.push(Op::Cancel { target: self.accept_token(at, n), token: Token::NONE });
        }
    }

    pub(super) fn accepted(&self, shard: &Shard, event: &Event<'_>) {
        let at = event.token.index() as usize;
        if let Ok(number) = u32::try_from(event.result) {
            bump(&self.stats.accepted);
            let sock = Sock(number);
            let peer = match event.data {
                // Accepts one by one bring it even where nobody asked.
                Data::Peer(peer) if self.wants_addresses(shard) => plain(peer),
                _ => None,
            };
            if !self.give_away(shard, sock, peer) {
                self.admit(shard, sock, peer);
            }
        }
        let mut listeners = self.listeners.borrow_mut();
        let listener = &mut listeners[at];
        if !event.more {
            let single = event.token.generation();
            listener.under_way &= !(1 << single);
            listener.multi &= single != 0;
        }
        if event.result >= 0 {
            listener.patience.succeeded();
        } else if !errno_is(event.result, &[errno::ECANCELED, errno::EAGAIN]) {
            self.accept_failed(shard, listener, at, -event.result);
        }
        match listener.state {
            State::On if self.room() == 0 => self.at_limit(shard, listener, at),
            State::Emptying if event.result == -errno::EAGAIN && listener.under_way == 0 => {
                listener.state = State::Done;
                shard.turn_again(); // the listener is to be closed at once
            }
            State::On | State::Emptying => self.arm_accept(shard, listener, at),
            State::Paused | State::Done => {}
        }
        drop(listeners);
        self.check_drained(shard);
    }

    #[cold]
    fn accept_failed(&self, shard: &Shard, listener: &mut Listener, at: usize, errno: i32) {
        if errno != errno::EINTR {
            bump(&self.stats.accept_errors);
            let advice =
                if is_scarcity(errno) { "; resting: raise nofile or lower connections_max" } else { "" };
            tracing::warn!(shard = shard.id().0, errno, "accept failed{advice}");
        }
        if listener.patience.rests_after(errno) {
            self.rest(shard, listener, at);
        }
    }

    /// No new accept for [`RETRY`].
    fn rest(&self, shard: &Shard, listener: &mut Listener, at: usize) {
        if !std::mem::replace(&mut listener.resting, true) {
            let when = Self::after(shard, RETRY);
            let index = u32::try_from(at).unwrap_or(u32::MAX);
            shard.timer_for(when, Token::new(self.owner.get(), tag::ACCEPT_TIMER, 0, index));
        }
    }

    /// Full: goes on for others that have room, one by one, or pauses.
    fn at_limit(&self, shard: &Shard, listener: &mut Listener, at: usize) {
        if self.pauses(shard) {
            bump(&self.stats.accept_paused);
            listener.state = State::Paused;
            self.cancel_accepts(shard, listener, at);
            return;
        }
        listener.careful = true;
        if std::mem::take(&mut listener.multi) {
            shard.push(Op::Cancel { target: self.accept_token(at, 0), token: Token::NONE });
        }
        self.arm_accept(shard, listener, at);
    }

    /// A hand-over or a connection of a full shard has ended: it may accept one more for others.
    pub(super) fn go_on_for_others(&self, shard: &Shard) {
        if self.held_back.take() {
            for (at, listener) in self.listeners.borrow_mut().iter_mut().enumerate() {
                self.arm_accept(shard, listener, at);
            }
        }
    }

    /// Full, and those who seemed to have room do not take what they are given: everything rests for a while.
    pub(super) fn rest_if_full(&self, shard: &Shard) {
        if self.room() > 0 || self.drain.get() != Drain::No {
            return;
        }
        for (at, listener) in self.listeners.borrow_mut().iter_mut().enumerate() {
            if listener.state == State::On && !listener.resting {
                self.cancel_accepts(shard, listener, at);
                self.rest(shard, listener, at);
            }
        }
    }

    /// A place is free, here or where this shard may give to: paused listeners may go on.
    pub(super) fn resume_accept(&self, shard: &Shard) {
        self.go_on_for_others(shard);
        if !self.paused.get() || !self.may_resume(shard) {
            return;
        }
        self.paused.set(false);
        let mut listeners = self.listeners.borrow_mut();
        for (at, listener) in listeners.iter_mut().enumerate() {
            if listener.state == State::Paused {
                listener.state = State::On;
                // There is a queue: it is not to be taken as a whole.
                listener.careful = true;
                self.arm_accept(shard, listener, at);
            }
        }
    }

    pub(super) fn retry_accept(&self, shard: &Shard, index: u32) {
        let mut listeners = self.listeners.borrow_mut();
        let at = index as usize;
        if std::mem::take(&mut listeners[at].resting) {
            self.arm_accept(shard, &mut listeners[at], at);
        }
    }
}

/// A peer's address as everything above sees it: IPv4 within IPv6 unpacked, and nothing where the kernel had
/// none to tell (that of a Unix socket comes as 0.0.0.0).
pub(super) fn plain(peer: SocketAddr) -> Option<SocketAddr> {
    let ip = peer.ip().to_canonical();
    match (ip.is_unspecified(), ip == peer.ip()) {
        (true, _) => None,
        (false, true) => Some(peer),
        (false, false) => Some(SocketAddr::new(ip, peer.port())),
    }
}
