//! The end of listeners and connections.
//!
//! # Rules
//! 1. A listener is closed when its queue is empty; until then what waits in it is served.
//! 2. Until idle connections are closed, everything goes on as before: a client may finish what it is at.
//!
//! Not here: the order of things in the node (`drain` of the root package).

use corelane_base::{ListenerId, Token};
use corelane_exec::Shard;

use super::conn::{Conn, Wire};
use super::protocol::{Ending, Protocol};
use super::{Drain, Sessions, tag};
use crate::accepting;
use crate::http1::Draining;

impl<P: Protocol> Sessions<P> {
    pub(super) fn look_whether_drained(&self, shard: &Shard) {
        if self.drain.get() != Drain::No && self.is_drained() {
            tracing::debug!(shard = shard.id().0, "sessions drained");
            shard.turn_again();
        }
    }

    pub(super) fn drain_step(&self, shard: &Shard) {
        let limits = shard.limits();
        let next = match self.drain.get() {
            Drain::No => {
                self.drain.set(Drain::Grace);
                accepting::empty(self, shard);
                limits.drain_idle
            }
            Drain::Grace => {
                self.drain.set(Drain::Closing);
                self.every(shard, |conn| {
                    if conn.wire.is_quiet() {
                        return self.retire(&mut conn.wire, Ending::Drained);
                    }
                    if conn.wire.is_open() {
                        let next = self.call(shard, conn, |protocol, shard, state, link| {
                            protocol.draining(shard, state, link)
                        });
                        self.follow(shard, &mut conn.wire, next);
                        self.go_on(shard, conn);
                    }
                });
                limits.drain_time - limits.drain_idle
            }
            Drain::Closing => {
                self.drain.set(Drain::Cut);
                self.every(shard, |conn| self.cut(&mut conn.wire, Ending::Drained));
                self.listeners.give_up();
                shard.turn_again();
                return;
            }
            Drain::Cut => return,
        };
        let token = Token::new(self.owner.get(), tag::DRAIN_TIMER, 0, 0);
        shard.timer_for(Self::after(shard, next), token);
    }

    /// Closes a connection that had something to finish when the others were closed, once it has.
    #[inline]
    pub(super) fn retire_if_done(&self, wire: &mut Wire) {
        if self.drain.get() == Drain::Closing && wire.is_quiet() && !wire.retiring {
            self.retire(wire, Ending::Drained);
        }
    }

    /// Runs `f` on every connection.
    fn every(&self, shard: &Shard, mut f: impl FnMut(&mut Conn<P::Conn>)) {
        let all: Vec<u32> = self.conns.borrow().iter().map(|(key, _)| key.index).collect();
        for index in all {
            self.with(shard, index, &mut f);
        }
    }
}

impl<P: Protocol> Draining for Sessions<P> {
    fn drain(&self, shard: &Shard) {
        if self.drain.get() == Drain::No {
            self.drain_step(shard);
        }
    }

    fn is_drained(&self) -> bool {
        self.drain.get() != Drain::No && self.is_empty() && self.listeners.are_done()
    }

    fn take_closed_listeners(&self) -> Vec<ListenerId> {
        self.listeners.take_closed()
    }
}
