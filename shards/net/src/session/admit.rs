//! From a listener to an open connection.
//!
//! ```text
//! took -> Naming (Op::PeerName), where addresses are wanted -> Open
//!      \-> Flush with `full_text`, or closed, where there is no room
//! ```
//!
//! # Rules
//! 1. The first receive is armed when the peer is known, or known to have no name.
//! 2. One that is refused takes a slot beyond `connections_max`, and [`REFUSALS_MAX`] of them at most.
//!
//! Not here: what is done with a listener (`accepting`).

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use corelane_base::{ListenerId, Op, Sock, Token};
use corelane_exec::{Data, Event, Shard};

use super::conn::{Conn, Phase};
use super::protocol::{Ending, Protocol, Refusal};
use super::{Drain, Link, Sessions, bump, tag};
use crate::accepting::{self, Accepting, Listeners, plain};

/// Connections told at once that there is no room. More are closed without a word.
const REFUSALS_MAX: usize = 64;

impl<P: Protocol> Accepting for Sessions<P> {
    fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    fn accept_token(&self, at: usize, single: u16) -> Token {
        Token::new(self.owner.get(), tag::ACCEPT, single, u32::try_from(at).unwrap_or(u32::MAX))
    }

    fn rest_token(&self, at: usize) -> Token {
        Token::new(self.owner.get(), tag::ACCEPT_TIMER, 0, u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// Where those beyond the limit are told so, there is always room to accept one.
    fn room(&self) -> usize {
        if self.config.full_text.is_some() { usize::MAX } else { self.conns_max.saturating_sub(self.held()) }
    }

    fn needs_single_accepts(&self, shard: &Shard) -> bool {
        self.wants_addresses(shard) && !shard.abilities().peer_name
    }

    fn took(&self, shard: &Shard, sock: Sock, peer: Option<SocketAddr>) {
        bump(&self.stats.accepted);
        // Accepts one by one bring it even where nobody asked.
        self.admit(shard, sock, peer.filter(|_| self.wants_addresses(shard)).and_then(plain));
    }

    fn count_failed(&self) {
        bump(&self.stats.accept_errors);
    }

    fn count_paused(&self) {
        bump(&self.stats.accept_paused);
    }

    fn may_resume(&self, _shard: &Shard) -> bool {
        // Not only the last place, so that a full table does not pause and resume with every connection.
        self.held() <= self.conns_max - self.conns_max.div_ceil(64)
    }

    fn check_drained(&self, shard: &Shard) {
        self.look_whether_drained(shard);
    }
}

impl<P: Protocol> Sessions<P> {
    /// Accepts from a listener of this shard's kernel, from the next turn on.
    pub fn listen(&self, shard: &Shard, id: ListenerId) {
        accepting::listen(self, shard, id);
    }

    /// Connections, without those that are being refused.
    fn held(&self) -> usize {
        self.len() - self.refusals.get()
    }

    fn wants_addresses(&self, shard: &Shard) -> bool {
        self.config.peers || shard.limits().connections_per_peer_max > 0
    }

    /// Makes a connection of a socket.
    fn admit(&self, shard: &Shard, sock: Sock, peer: Option<SocketAddr>) {
        let full_text = self.config.full_text.filter(|_| self.held() >= self.conns_max);
        let key = match full_text {
            Some(_) if self.refusals.get() >= REFUSALS_MAX => None,
            _ => {
                let now_ns = shard.now().mono_ns;
                let made = |key| Conn::new(key, sock, now_ns, self.idle_ns);
                self.conns.borrow_mut().insert_with(made).ok()
            }
        };
        let Some(key) = key else {
            // Without a text the table has the headroom of the descriptor table, so it takes more connections than
            // descriptors to get here.
            bump(&self.stats.refused_full);
            bump(&self.stats.closed);
            return shard.push(Op::Close { sock, token: Token::NONE });
        };
        self.with(shard, key.index, |conn| {
            let wire = &mut conn.wire;
            if let Some(text) = full_text {
                bump(&self.stats.refused_full);
                self.refusals.set(self.refusals.get() + 1);
                wire.refused = true;
                wire.out.put(shard.pools(), text);
                self.end_input(wire, Ending::Asked);
            } else if self.drain.get() == Drain::Cut {
                self.kill_now(wire, Ending::Drained);
            } else if peer.is_none() && self.wants_addresses(shard) && shard.abilities().peer_name {
                wire.phase = Phase::Naming;
                wire.other = true;
                shard.push(Op::PeerName { sock, token: self.token(tag::NAME, key) });
            } else {
                self.open(shard, conn, peer);
            }
        });
    }

    /// The kernel told the peer's address, or that there is none.
    pub(super) fn named(&self, shard: &Shard, conn: &mut Conn<P::Conn>, event: &Event<'_>) {
        conn.wire.other = false;
        if conn.wire.phase == Phase::Naming {
            let peer = match event.data {
                Data::Peer(peer) if event.result >= 0 => plain(peer),
                _ => None,
            };
            self.open(shard, conn, peer);
        }
    }

    /// The peer is who it is: asks the protocol.
    fn open(&self, shard: &Shard, conn: &mut Conn<P::Conn>, peer: Option<SocketAddr>) {
        let wire = &mut conn.wire;
        wire.phase = Phase::Open;
        wire.peer = peer.map(Box::new);
        let per_peer_max = shard.limits().connections_per_peer_max;
        if per_peer_max > 0
            && let Some(peer) = peer
        {
            if !self.peers.enter(peer.ip(), per_peer_max) {
                bump(&self.stats.refused_per_peer);
                return self.kill_now(wire, Ending::Asked);
            }
            wire.counted = true;
        }
        self.serial.set(self.serial.get() + 1);
        wire.id = self.serial.get();
        let Some(owned) = self.shard.upgrade() else { return };
        self.touched.set(true);
        let high_water = shard.limits().output_high_water as usize;
        let mut link = Link { wire, pools: shard.pools(), high_water };
        match catch_unwind(AssertUnwindSafe(|| self.protocol.open(&owned, &mut link))) {
            Ok(Ok(state)) => conn.state = Some(state),
            Ok(Err(Refusal)) => {
                bump(&self.stats.refused);
                self.end_input(&mut conn.wire, Ending::Asked);
            }
            Err(_) => {
                self.panicked(shard, &mut conn.wire);
                self.cut(&mut conn.wire, Ending::Panicked);
            }
        }
        if matches!(self.drain.get(), Drain::Closing | Drain::Cut) {
            // One that came to a draining shard late gets no more than the others had.
            conn.wire.idle_ns = conn.wire.idle_ns.min(super::link::idle_ns(Some(shard.limits().drain_idle)));
        }
    }
}
