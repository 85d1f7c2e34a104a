//! The end of listeners and connections.
//!
//! # Rules
//! 1. A listener is closed when its queue is empty; until then what waits in it is served.
//! 2. What other shards sent before they saw the drain is served or closed, and waited for.
//!
//! Not here: the order of things in the node (`drain` of the root package).

use corelane_base::{ListenerId, Token};
use corelane_exec::Shard;

use super::conn::{Conn, Phase};
use super::{Drain, Http1, bump, tag};
use crate::accepting;
use crate::service::Service;

/// What a handle outside the shard's generic code needs.
pub trait Draining {
    /// Begins the drain: no new connections, `Connection: close` on every answer, idle ones closed after
    /// `drain_idle`, everything cut after `drain_time`. Calling it again does nothing.
    fn drain(&self, shard: &Shard);

    /// The drain is over: no connection and no listener is left.
    fn is_drained(&self) -> bool;

    /// Listeners whose queue is empty and which may be closed. Of a steered `SO_REUSEPORT` group, take the
    /// program off before the first is.
    fn take_closed_listeners(&self) -> Vec<ListenerId>;
}

impl<S: Service> Http1<S> {
    pub(super) fn look_whether_drained(&self, shard: &Shard) {
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
                if let Some(balance) = &self.config.balance {
                    balance.close(self.here);
                }
                accepting::empty(self, shard);
                limits.drain_idle
            }
            Drain::Grace => {
                self.drain.set(Drain::Closing);
                self.each(shard, |conn| {
                    if conn.is_quiet() || conn.phase == Phase::Header && conn.inbox.is_none() {
                        bump(&self.stats.timeouts_idle);
                        self.retire(conn);
                    }
                });
                limits.drain_time - limits.drain_idle
            }
            Drain::Closing => {
                self.drain.set(Drain::Cut);
                self.each(shard, |conn| self.cut(conn));
                self.listeners.give_up();
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
        self.drain.get() != Drain::No
            && self.connections() == 0
            && self.listeners.are_done()
            && self.is_settled()
    }

    fn take_closed_listeners(&self) -> Vec<ListenerId> {
        self.listeners.take_closed()
    }
}
