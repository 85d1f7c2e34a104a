//! The simulated kernel with a bridle: a sleep ends before a timer is due unless the rig lets it jump.
//!
//! Not here: everything else a kernel does (`corelane-sim`).

use std::sync::Arc;
use std::time::Duration;

use corelane_base::{Abilities, BufferId, Clock, Completion, Kernel, KernelStats, Op, Unpark, Wait};
use corelane_pools::Chain;
use corelane_sim::{SimKernel, World};

/// What is on its way for longer than this does not arrive by itself: longer than any link or disk that a
/// service could work with, shorter than what stands for a fault (a connect that nobody answers).
const ON_THE_WAY_MAX: Duration = Duration::from_secs(1);

/// A simulated kernel that lets time pass only as far as [`Paced::jump`] says.
pub(super) struct Paced {
    kernel: SimKernel,
    jumps: bool,
}

impl Paced {
    pub(super) fn new(kernel: SimKernel) -> Paced {
        Paced { kernel, jumps: false }
    }

    /// Whether a sleep goes on to the next timer, or to an event however far; else only to an event within
    /// [`ON_THE_WAY_MAX`] that comes before the next timer.
    pub(super) fn jump(&mut self, world: &World, on: bool) {
        self.jumps = on;
        world.set_free_running(on);
    }
}

impl Kernel for Paced {
    type Bytes = Chain;

    fn push(&mut self, op: Op<Chain>) -> Result<(), Op<Chain>> {
        self.kernel.push(op)
    }

    fn needs_enter(&self) -> bool {
        self.kernel.needs_enter()
    }

    fn enter(&mut self, wait: Wait) -> std::io::Result<()> {
        let nanos_max = u64::try_from(ON_THE_WAY_MAX.as_nanos()).unwrap_or(u64::MAX);
        let wait = match wait {
            Wait::Until(limit) if !self.jumps => {
                Wait::Until(Some(limit.map_or(nanos_max, |limit| limit.min(nanos_max))))
            }
            as_asked => as_asked,
        };
        self.kernel.enter(wait)
    }

    fn pop(&mut self) -> Option<Completion<Chain>> {
        self.kernel.pop()
    }

    fn received(&self, buffer: BufferId, len: u32) -> &[u8] {
        self.kernel.received(buffer, len)
    }

    fn recycle(&mut self, buffer: BufferId) {
        self.kernel.recycle(buffer);
    }

    fn clock(&mut self) -> Clock {
        self.kernel.clock()
    }

    fn unpark(&self) -> Arc<dyn Unpark> {
        self.kernel.unpark()
    }

    fn abilities(&self) -> Abilities {
        self.kernel.abilities()
    }

    fn stats(&self) -> KernelStats {
        self.kernel.stats()
    }
}
