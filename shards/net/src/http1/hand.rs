//! Giving connections to other shards of the balance, and taking theirs.
//!
//! ```text
//! accept -> assign -> here: admit
//!                 \-> there, hand:        Op::Hand -> 0: close our descriptor; it arrives there
//!                                                  -> errno: it stays here
//!                 \-> there, shared_socks: its number at the other's door, and a ring
//! ```
//!
//! A connection moves before anything is read from it: nothing but its descriptor has to go along, and its
//! peer's address where the taker could not ask for it.
//!
//! # Rules
//! 1. A connection has one owner in the balance at any time, from `assign` on.
//! 2. One that arrives is admitted or closed and counted, whatever the state of this shard; it is not given on.
//! 3. A shard that drains gives nothing away and is given nothing, but what was on its way.
//!
//! Not here: who gets what (`balance`).

use std::net::SocketAddr;
use std::sync::Arc;

use corelane_base::{Op, Sock, Token};
use corelane_exec::{Event, Shard};

use super::{Drain, Http1, bump, tag};
use crate::accepting::Accepting;
use crate::balance::{Arrival, Balance, Door, mark};
use crate::service::Service;

/// Hand-overs under way at once. At it: the connection stays here.
pub(super) const HANDING_MAX: u32 = 256;

/// A connection on its way to another shard.
#[derive(Debug)]
pub(super) struct Handing {
    sock: Sock,
    to: usize,
    peer: Option<SocketAddr>,
    letter: Option<u32>,
}

impl<S: Service> Http1<S> {
    /// Whether there is a group to give to, a way to do it, and no drain.
    pub(super) fn can_hand(&self, shard: &Shard) -> bool {
        let able = shard.abilities();
        self.config.balance.is_some() && (able.hand || able.shared_socks) && self.drain.get() == Drain::No
    }

    /// Takes this shard's seat in the balance, if there is one: others may give it connections from now on.
    /// [`Http1::listen`] does so as well; where all should have a seat before one accepts, call it before.
    pub fn take_seat(&self, shard: &Shard) {
        if let Some(balance) = &self.config.balance
            && self.drain.get() == Drain::No
        {
            let room = u32::try_from(self.conns_max).unwrap_or(u32::MAX);
            balance.open(self.here, room, || Door {
                unpark: shard.handle().unpark(),
                arrival: Token::new(self.owner.get(), tag::ARRIVAL, 0, 0),
            });
        }
    }

    /// Connections that are this shard's, those on their way here included.
    pub(super) fn load(&self) -> usize {
        let assigned = self.config.balance.as_ref().map_or(0, |balance| balance.assigned(self.here));
        self.held().max(assigned as usize)
    }

    /// A connection of this shard is gone.
    pub(super) fn left(&self) {
        if let Some(balance) = &self.config.balance {
            balance.leave(self.here);
        }
    }

    /// Assigns a connection just accepted. True: it is on its way to its owner; else it is ours.
    pub(super) fn give_away(&self, shard: &Shard, sock: Sock, peer: Option<SocketAddr>) -> bool {
        let Some(balance) = &self.config.balance else { return false };
        if !self.can_hand(shard) {
            balance.count(self.here);
            return false;
        }
        let to = balance.assign(self.here);
        if to == self.here {
            return false;
        }
        let away = self.hand(shard, balance, to, sock, peer);
        if !away {
            balance.give_back(to);
            balance.count(self.here);
        }
        away
    }

    fn hand(
        &self,
        shard: &Shard,
        balance: &Arc<Balance>,
        to: usize,
        sock: Sock,
        peer: Option<SocketAddr>,
    ) -> bool {
        let able = shard.abilities();
        let Some(door) = balance.door(to) else { return false };
        if !able.hand {
            let posted = balance.post(to, Arrival { sock, peer });
            if posted {
                bump(&self.stats.handed);
            }
            return posted;
        }
        let mut handing = self.handing.borrow_mut();
        if handing.is_full() {
            return false;
        }
        let letter = match peer {
            Some(peer) => match balance.write(self.here, peer) {
                None if !able.peer_name => return false,
                letter => letter,
            },
            None => None,
        };
        let Ok(key) = handing.insert(Handing { sock, to, peer, letter }) else { return false };
        let own = door.arrival;
        let arrival = Token::new(own.owner(), own.tag(), 0, balance.mail(self.here, letter));
        // The low half of the generation is enough: a slot is freed after its last completion.
        #[allow(clippy::cast_possible_truncation)]
        let token = Token::new(self.owner.get(), tag::HAND, key.generation as u16, key.index);
        shard.push(Op::Hand { sock, to: Arc::clone(&door.unpark), arrival, token });
        true
    }

    /// The kernel carried a connection over, or could not.
    pub(super) fn handed_over(&self, shard: &Shard, event: &Event<'_>) {
        let handed = self.handing.borrow_mut().remove_at(event.token.index());
        let (Some(handed), Some(balance)) = (handed, &self.config.balance) else {
            unreachable!("a hand-over that was never begun: {:?}", event.token);
        };
        let Handing { sock, to, peer, letter } = handed;
        if event.result == 0 {
            bump(&self.stats.handed);
            shard.push(Op::Close { sock, token: Token::NONE });
        } else {
            bump(&self.stats.hand_failed);
            tracing::debug!(shard = shard.id().0, to, errno = -event.result, "a connection could not go");
            if let Some(at) = letter {
                balance.read(self.here, at);
            }
            balance.give_back(to);
            balance.count(self.here);
            self.admit(shard, sock, peer);
            self.rest_if_full(shard);
        }
        self.go_on_for_others(shard);
        self.check_drained(shard);
    }

    /// A connection that another shard accepted is here. It was assigned to this one.
    pub(super) fn arrived(&self, shard: &Shard, event: &Event<'_>) {
        let (Ok(number), Some(balance)) = (u32::try_from(event.result), &self.config.balance) else {
            debug_assert!(false, "an arrival without a socket: {event:?}");
            return;
        };
        let peer = balance.open_mail(event.token.index());
        bump(&self.stats.arrived);
        self.admit(shard, Sock(number), peer);
        self.check_drained(shard);
    }

    /// Those left at the door, where numbers of sockets are the same for all shards.
    pub(super) fn take_arrivals(&self, shard: &Shard) {
        let Some(balance) = &self.config.balance else { return };
        while let Some(Arrival { sock, peer }) = balance.take(self.here) {
            bump(&self.stats.arrived);
            self.admit(shard, sock, peer);
        }
    }

    /// Whether listeners must pause now that this shard is full.
    pub(super) fn must_pause(&self, shard: &Shard) -> bool {
        match &self.config.balance {
            Some(balance) if self.can_hand(shard) => balance.pause(self.here),
            _ => true,
        }
    }

    /// Whether paused listeners may go on: there is room here again, or another shard rang because it has some.
    pub(super) fn has_room_again(&self, shard: &Shard) -> bool {
        let room = u32::try_from(self.conns_max).unwrap_or(u32::MAX);
        // Not only the last place, so that a full table does not pause and resume with every connection.
        let here = self.load() <= mark(room) as usize;
        match &self.config.balance {
            Some(balance) if here => {
                balance.go_on(self.here);
                true
            }
            // Rung; the room may be gone by now, and then the pause goes on.
            Some(balance) if self.can_hand(shard) => {
                !balance.is_paused(self.here) && !balance.pause(self.here)
            }
            _ => here,
        }
    }

    /// Nothing is on its way from here or to here.
    pub(super) fn is_settled(&self) -> bool {
        let ours = self.held();
        self.handing.borrow().is_empty()
            && self.config.balance.as_ref().is_none_or(|balance| balance.assigned(self.here) as usize == ours)
    }
}

#[cfg(test)]
mod tests;
