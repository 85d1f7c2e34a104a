//! The end of a node, step by step.
//!
//! 1. The first SIGTERM or SIGINT (or [`Running::drain`](crate::Running::drain)) reaches every shard as a
//!    message.
//! 2. A shard cancels its accepts, takes what its listen queues still hold, then closes the listeners.
//! 3. Every answer from now on says `Connection: close`. Idle connections may bring one more request for
//!    `Limits::drain_idle`, then are closed after a last look for bytes.
//! 4. Requests and plain streams under way are finished; what is left after `Limits::drain_time` is cut.
//! 5. With no connection left the drain hooks run; the last shard to come saves the
//!    keys of the cache. The shard still answers calls of others, until all have come this far; then their threads
//!    end, and the process with exit code 0.
//!
//! A second signal ends the process at once, with exit code 130. It is the only end of a node that has a shard
//! which stands still (a handler that never returns, a stopped thread): nothing can cut what it holds, and two
//! seconds after `drain_time` the log names it.
//!
//! Not here: the connections' part of it (`corelane_net::http1`).

use std::cell::Cell;
use std::rc::Rc;

use corelane_base::ListenerId;
use corelane_exec::Shard;
use corelane_net::http1::Draining;
use corelane_net::stream::Streams;

/// What of a shard must end before its thread may.
pub(crate) struct Drains {
    parts: Vec<Rc<dyn Draining>>,
    /// When plain streams are cut, monotonic nanoseconds.
    deadline_ns: Cell<u64>,
}

impl Drains {
    pub(crate) fn new(parts: Vec<Rc<dyn Draining>>) -> Drains {
        Drains { parts, deadline_ns: Cell::new(u64::MAX) }
    }

    pub(crate) fn begin(&self, shard: &Shard) {
        for part in &self.parts {
            part.drain(shard);
        }
        let time = u64::try_from(shard.limits().drain_time.as_nanos()).unwrap_or(u64::MAX);
        self.deadline_ns.set(shard.now().mono_ns.saturating_add(time));
        Streams::of(shard).drain(shard);
    }

    pub(crate) fn closed_listeners(&self, shard: &Shard) -> Vec<ListenerId> {
        let mut closed: Vec<ListenerId> =
            self.parts.iter().flat_map(|part| part.take_closed_listeners()).collect();
        closed.extend(Streams::of(shard).take_closed_listeners());
        closed
    }

    /// Nothing is left, or the time is over.
    pub(crate) fn is_over(&self, shard: &Shard) -> bool {
        let streams = Streams::of(shard);
        let served = streams.inbound() == 0;
        self.parts.iter().all(|part| part.is_drained())
            && streams.is_drained()
            && (served || shard.now().mono_ns >= self.deadline_ns.get())
    }

    /// When to look again at the latest.
    pub(crate) fn deadline(&self, shard: &Shard) -> std::time::Duration {
        std::time::Duration::from_nanos(self.deadline_ns.get().saturating_sub(shard.now().mono_ns))
    }
}
