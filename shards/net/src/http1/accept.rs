//! Taking connections, pausing at the limit, and the drain of listeners.
//!
//! # Rules
//! 1. While the table holds `connections_max` or more, no accept is under way but one being cancelled.
//! 2. Lack of descriptors is waited out for [`RETRY`], never spun on.

use std::net::SocketAddr;
use std::time::Duration;

use corelane_base::{AcceptMode, ListenerId, Op, Sock, Token};
use corelane_exec::{Data, Event, Shard};

use super::conn::{Conn, Reading};
use super::{Drain, Draining, Http1, bump, errno_is, tag};
use crate::errno;
use crate::notice::Key;
use crate::service::Service;

/// How long accept rests after the system refused a descriptor.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// Single accepts under way where peer addresses are wanted.
const SINGLES: u16 = 8;

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
pub(super) struct Listener {
    id: ListenerId,
    state: State,
    /// Accept operations under way, one bit each.
    under_way: u16,
    resting: bool,
    handed_back: bool,
}

impl<S: Service> Http1<S> {
    /// Accepts from a listener of this shard's kernel, from the next turn on.
    pub fn listen(&self, shard: &Shard, id: ListenerId) {
        let mut listeners = self.listeners.borrow_mut();
        listeners.push(Listener { id, state: State::On, under_way: 0, resting: false, handed_back: false });
        let at = listeners.len() - 1;
        self.arm_accept(shard, &mut listeners[at], at);
    }

    fn wants_addresses(shard: &Shard) -> bool {
        shard.limits().connections_per_peer_max > 0
    }

    fn accept_token(&self, at: usize, single: u16) -> Token {
        Token::new(self.owner.get(), tag::ACCEPT, single, u32::try_from(at).unwrap_or(u32::MAX))
    }

    fn arm_accept(&self, shard: &Shard, listener: &mut Listener, at: usize) {
        if listener.resting {
            return;
        }
        match listener.state {
            State::On => {
                let singles = Self::wants_addresses(shard);
                let mode = if singles { AcceptMode::OneWithPeer } else { AcceptMode::Multi };
                for n in 0..if singles { SINGLES } else { 1 } {
                    if listener.under_way & (1 << n) == 0 {
                        listener.under_way |= 1 << n;
                        let token = self.accept_token(at, n);
                        shard.push(Op::Accept { listener: listener.id, token, mode });
                    }
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

    fn cancel_accepts(&self, shard: &Shard, listener: &Listener, at: usize) {
        for n in 0..SINGLES {
            if listener.under_way & (1 << n) != 0 {
                shard.push(Op::Cancel { target: self.accept_token(at, n), token: Token::NONE });
            }
        }
    }

    pub(super) fn accepted(&self, shard: &Shard, event: &Event<'_>) {
        let at = event.token.index() as usize;
        if let Ok(number) = u32::try_from(event.result) {
            let peer = match event.data {
                Data::Peer(peer) => Some(peer),
                _ => None,
            };
            self.admit(shard, Sock(number), peer);
        }
        let mut listeners = self.listeners.borrow_mut();
        let listener = &mut listeners[at];
        if !event.more {
            listener.under_way &= !(1 << event.token.generation());
        }
        if event.result < 0 && !errno_is(event.result, &[errno::ECANCELED, errno::EAGAIN, errno::EINTR]) {
            bump(&self.stats.accept_errors);
            let scarce = errno_is(event.result, &[errno::ENFILE, errno::EMFILE, errno::ENOBUFS]);
            tracing::warn!(
                shard = shard.id().0,
                errno = -event.result,
                "accept failed{}",
                if scarce { "; resting: raise nofile or lower connections_max" } else { "" }
            );
            // Whatever it is, a failing accept must not become a busy loop.
            if scarce || !event.more {
                listener.resting = true;
                let when = Self::after(shard, RETRY);
                let index = u32::try_from(at).unwrap_or(u32::MAX);
                shard.timer_for(when, Token::new(self.owner.get(), tag::ACCEPT_TIMER, 0, index));
            }
        }
        match listener.state {
            State::On if self.held() >= self.conns_max => {
                bump(&self.stats.accept_paused);
                listener.state = State::Paused;
                self.cancel_accepts(shard, listener, at);
            }
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

    fn admit(&self, shard: &Shard, sock: Sock, peer: Option<SocketAddr>) {
        bump(&self.stats.accepted);
        let limits = shard.limits();
        if limits.connections_per_peer_max > 0
            && let Some(peer) = peer
        {
            let mut peers = self.held.peers.borrow_mut();
            let count = peers.entry(peer.ip()).or_insert(0);
            if *count >= limits.connections_per_peer_max {
                bump(&self.stats.refused_per_peer);
                bump(&self.stats.closed);
                shard.push(Op::Close { sock, token: Token::NONE });
                return;
            }
            *count += 1;
        }
        let mut conns = self.conns.borrow_mut();
        let inserted = conns
            .insert_with(|key| Conn::new(Key { index: key.index, generation: key.generation }, sock, peer));
        let Ok(key) = inserted else {
            // The table has the headroom of the descriptor table, so this needs more connections than
            // descriptors; the connection is lost, and counted.
            bump(&self.stats.closed);
            shard.push(Op::Close { sock, token: Token::NONE });
            return;
        };
        drop(conns);
        self.with(shard, key.index, |conn| {
            conn.reading = Reading::Idle;
            conn.read_deadline_ns = Self::after(shard, limits.idle_time);
            if self.drain.get() == Drain::Cut {
                self.kill(conn);
            }
        });
    }

    /// A slot was freed: a paused listener may go on.
    pub(super) fn resume_accept(&self, shard: &Shard) {
        // A little below the limit, so that a full table does not pause and resume with every connection.
        if self.held() > self.conns_max - self.conns_max.div_ceil(64).min(self.conns_max) {
            return;
        }
        let mut listeners = self.listeners.borrow_mut();
        for (at, listener) in listeners.iter_mut().enumerate() {
            if listener.state == State::Paused {
                listener.state = State::On;
                self.arm_accept(shard, listener, at);
            }
        }
    }

    pub(super) fn retry_accept(&self, shard: &Shard, index: u32) {
        let mut listeners = self.listeners.borrow_mut();
        let at = index as usize;
        listeners[at].resting = false;
        self.arm_accept(shard, &mut listeners[at], at);
    }

    fn listeners_done(&self) -> bool {
        self.listeners.borrow().iter().all(|l| l.state == State::Done && l.under_way == 0)
    }

    pub(super) fn check_drained(&self, shard: &Shard) {
        if self.drain.get() != Drain::No && self.is_drained() {
            tracing::debug!(shard = shard.id().0, "drained");
            shard.turn_again();
        }
    }

    pub(super) fn drain_step(&self, shard: &Shard) {
        let limits = shard.limits();
        let next = match self.drain.get() {
            Drain::No => {
                self.drain.set(Drain::Grace);
                let mut listeners = self.listeners.borrow_mut();
                for (at, listener) in listeners.iter_mut().enumerate() {
                    listener.resting = false;
                    listener.state = State::Emptying;
                    if listener.under_way == 0 {
                        self.arm_accept(shard, listener, at);
                    } else {
                        self.cancel_accepts(shard, listener, at);
                    }
                }
                limits.drain_idle
            }
            Drain::Grace => {
                self.drain.set(Drain::Closing);
                self.each(shard, |conn| {
                    if conn.is_quiet() {
                        bump(&self.stats.timeouts_idle);
                        self.retire(conn);
                    }
                });
                limits.drain_time - limits.drain_idle
            }
            Drain::Closing => {
                self.drain.set(Drain::Cut);
                self.each(shard, |conn| self.cut(conn));
                for listener in self.listeners.borrow_mut().iter_mut() {
                    if listener.under_way == 0 {
                        listener.state = State::Done;
                    }
                }
                shard.turn_again();
                return;
            }
            Drain::Cut => return,
        };
        let token = Token::new(self.owner.get(), tag::DRAIN_TIMER, 0, 0);
        shard.timer_for(Self::after(shard, next), token);
    }

    /// Runs `f` on every connection.
    fn each(&self, shard: &Shard, mut f: impl FnMut(&mut Conn)) {
        let all: Vec<u32> = self.conns.borrow().iter().map(|(key, _)| key.index).collect();
        for index in all {
            self.with(shard, index, &mut f);
        }
    }
}

impl<S: Service> Draining for Http1<S> {
    fn drain(&self, shard: &Shard) {
        if self.drain.get() == Drain::No {
            self.drain_step(shard);
        }
    }

    fn is_drained(&self) -> bool {
        self.drain.get() != Drain::No && self.connections() == 0 && self.listeners_done()
    }

    fn take_closed_listeners(&self) -> Vec<ListenerId> {
        let mut closed = Vec::new();
        for listener in self.listeners.borrow_mut().iter_mut() {
            if listener.state == State::Done && listener.under_way == 0 && !listener.handed_back {
                listener.handed_back = true;
                closed.push(listener.id);
            }
        }
        closed
    }
}
