//! Gathering: a busy shard waits some microseconds for several completions, instead of waking for each.
//!
//! A sleep and the turn behind it cost as much for one completion as for ten, and each wake costs the peer on this host
//! that caused it. Under load more completions are a matter of microseconds; a network card with adaptive interrupt
//! moderation does the same, for the same reason. The price is that a request may wait for `Limits::gather_time`.
//!
//! # Rules
//! 1. Only a shard whose thread had the CPU for half of the time lately gathers: where there is time to spare, latency
//!    comes first.
//! 2. Nor does one that had to do with other shards or threads since its last sleep, or waits for the reply of a shard:
//!    their wakes would wait too, and they for the reply. What comes from elsewhere unasked waits once.
//! 3. A timer is not late by it, and with `busy_poll` there is none.
//!
//! Not here: how many completions (the kernel knows what is under way).

use corelane_base::{Kernel, Limits};

use crate::shard::Shard;

/// How often the thread's CPU time is read: a system call.
const LOOK_NS: u64 = 1_000_000;

/// Whether a shard gathers.
#[derive(Debug)]
pub(crate) struct Gather {
    /// Zero: never.
    within_ns: u64,
    looked_ns: u64,
    cpu_ns: u64,
    busy: bool,
    /// What came from elsewhere, up to the last sleep.
    foreign: u64,
}

impl Gather {
    pub(crate) fn new(limits: &Limits, now_ns: u64) -> Gather {
        let within_ns = match limits.busy_poll.is_zero() {
            true => u64::try_from(limits.gather_time.as_nanos()).unwrap_or(u64::MAX),
            false => 0,
        };
        Gather { within_ns, looked_ns: now_ns, cpu_ns: 0, busy: false, foreign: 0 }
    }

    /// For how long the sleep that begins now, and may last `wait_ns`, is to gather; if at all.
    #[inline]
    pub(crate) fn within<K: Kernel>(
        &mut self,
        kernel: &mut K,
        shard: &Shard,
        now_ns: u64,
        wait_ns: Option<u64>,
    ) -> Option<u64> {
        if self.within_ns == 0 {
            return None;
        }
        let mesh = &shard.mesh_stats;
        let foreign = mesh.requests_in.get()
            + mesh.responses_in.get()
            + mesh.calls.get()
            + mesh.casts.get()
            + shard.stats.mailbox_taken.get();
        let is_alone = std::mem::replace(&mut self.foreign, foreign) == foreign;
        let passed_ns = now_ns.saturating_sub(self.looked_ns);
        if passed_ns >= LOOK_NS {
            let cpu_ns = kernel.cpu_ns();
            self.busy = cpu_ns.saturating_sub(self.cpu_ns) > passed_ns / 2;
            (self.looked_ns, self.cpu_ns) = (now_ns, cpu_ns);
        }
        let in_time = wait_ns.is_none_or(|wait_ns| wait_ns > self.within_ns);
        (self.busy && is_alone && in_time && !shard.mesh.awaits()).then_some(self.within_ns)
    }
}
