//! The listeners of an HTTP/1.1 table: whose the connections are, and how much room there is.
//!
//! A table that shares its connections accepts for others while it is full itself.
//!
//! Not here: what is done with a listener (`accepting`), where a connection goes then (`hand`, `admit`).

use std::net::SocketAddr;

use corelane_base::{ListenerId, Sock, Token};
use corelane_exec::Shard;

use super::{Drain, Http1, bump, tag};
use crate::accepting::{self, Accepting, Listeners, SINGLES, plain};
use crate::service::Service;

impl<S: Service> Accepting for Http1<S> {
    fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    fn accept_token(&self, at: usize, single: u16) -> Token {
        Token::new(self.owner.get(), tag::ACCEPT, single, u32::try_from(at).unwrap_or(u32::MAX))
    }

    fn rest_token(&self, at: usize) -> Token {
        Token::new(self.owner.get(), tag::ACCEPT_TIMER, 0, u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// Those that may come back from a hand-over are counted.
    fn room(&self) -> usize {
        self.conns_max.saturating_sub(self.load() + self.handing.borrow().len())
    }

    /// A full shard accepts for others, and keeps at most [`SINGLES`] beyond its limit that they did not take
    /// after all.
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

    fn needs_single_accepts(&self, shard: &Shard) -> bool {
        self.wants_addresses(shard) && !shard.abilities().peer_name
    }

    fn took(&self, shard: &Shard, sock: Sock, peer: Option<SocketAddr>) {
        bump(&self.stats.accepted);
        // Accepts one by one bring it even where nobody asked.
        let peer = peer.filter(|_| self.wants_addresses(shard)).and_then(plain);
        if !self.give_away(shard, sock, peer) {
            self.admit(shard, sock, peer);
        }
    }

    fn count_failed(&self) {
        bump(&self.stats.accept_errors);
    }

    fn count_paused(&self) {
        bump(&self.stats.accept_paused);
    }

    fn pauses(&self, shard: &Shard) -> bool {
        self.must_pause(shard)
    }

    fn may_resume(&self, shard: &Shard) -> bool {
        self.has_room_again(shard)
    }

    fn check_drained(&self, shard: &Shard) {
        self.look_whether_drained(shard);
    }
}

impl<S: Service> Http1<S> {
    /// Accepts from a listener of this shard's kernel, from the next turn on. With the first one this shard
    /// takes its seat in the balance. A Unix listener whose socket other shards have too is as good as any.
    pub fn listen(&self, shard: &Shard, id: ListenerId) {
        self.take_seat(shard);
        accepting::listen(self, shard, id);
    }

    /// A hand-over or a connection of a full shard has ended: it may accept one more for others.
    pub(super) fn go_on_for_others(&self, shard: &Shard) {
        if self.held_back.take() {
            accepting::arm_all(self, shard);
        }
    }

    /// Full, and those who seemed to have room do not take what they are given: everything rests for a while.
    pub(super) fn rest_if_full(&self, shard: &Shard) {
        if self.room() == 0 && self.drain.get() == Drain::No {
            accepting::rest_all(self, shard);
        }
    }

    /// A place is free, here or where this shard may give to: paused listeners may go on.
    pub(super) fn resume_accept(&self, shard: &Shard) {
        self.go_on_for_others(shard);
        accepting::resume(self, shard);
    }
}
