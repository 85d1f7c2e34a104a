//! The turn: the only loop of a shard. DESIGN in one screen:
//!
//! 1. take completions, hand each to its driver or future; a receive buffer goes back as the call returns
//! 2. take messages and wakes of other threads, then what other shards sent
//! 3. run ready tasks, budgeted
//! 4. fire timers (the clock is read once a turn)
//! 5. let drivers coalesce and queue their sends
//! 6. show other shards what was sent to them, and hand queued operations to the kernel
//! 7. enter it once, and only if something needs it; with nothing to do, spin for `busy_poll`, then sleep
//!    until a completion, the next timer or a foreign wake
//!
//! # Rules
//! 1. Nothing below blocks, whatever a driver or task asked for.
//! 2. A turn sleeps only after announcing it (see `remote`), and only with every queue empty.
//! 3. The clock is read once a turn, and once more before a sleep: what lies between is the turn's length.
//! 4. A panic that reaches this loop is a fault of ours: the process must not go on with a shard missing.
//!
//! Not here: what an operation means (`driver`, `io`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use corelane_base::{Completion, Kernel, KernelStats, Limits, Payload, ShardId, Wait};
use corelane_pools::{Chain, Pools};

use crate::blocking::BlockingPool;
use crate::driver::{Data, Driver, Event};
use crate::gather::Gather;
use crate::mesh::{Seat, seats};
use crate::remote::ShardHandle;
use crate::shard::{Entered, Shard};
use crate::stats::bump;
use crate::timer::Target;
use crate::watch;

/// Looks of a busy poll at what other shards sent, between two at all the rest, which costs as much as several.
const SPIN_LOOKS: u32 = 12;

/// Completions taken together, so that drivers see what is to come. What they load for as many stays in the nearest cache.
const LOOK_AHEAD: usize = 32;

/// What a turn left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// Something was done, or is left to do: turn again.
    Busy,
    /// Nothing to do before the next timer or completion.
    Idle,
}

/// A shard with its kernel.
pub struct Runtime<K: Kernel<Bytes = Chain>> {
    kernel: K,
    shard: Rc<Shard>,
    drivers: Vec<Rc<dyn Driver>>,
    due: Vec<Target>,
    trimmed_ns: u64,
    /// When the turn under way began; none while the shard sleeps, or nobody turns it.
    began_ns: Option<u64>,
    /// A busy poll began the next turn: what it found is part of that.
    begun: bool,
    stall_ns: u64,
    stall_said_ns: u64,
    gather: Gather,
    /// A driver wants to see completions before they are handed out.
    foresees: bool,
    /// Completions taken from the kernel and not handed out yet; empty between turns.
    taken: Vec<Completion<Chain>>,
}

/// How often, at most, an idle shard gives back pool memory that nobody needed, and how many slots of a tier
/// at a time (a large slot costs about 30 us).
const TRIM_NS: u64 = 1_000_000_000;
const TRIM_SLOTS: u32 = 8;

/// How often, at most, a shard says that a turn took too long. All are counted.
const STALL_SAY_NS: u64 = 1_000_000_000;

impl<K: Kernel<Bytes = Chain>> std::fmt::Debug for Runtime<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runtime({:?})", self.shard)
    }
}

impl<K: Kernel<Bytes = Chain>> Runtime<K> {
    /// A shard on this thread, with no others around it. `limits` must have passed its check.
    pub fn new(
        id: ShardId,
        limits: Limits,
        pools: Pools,
        kernel: K,
        blocking: Option<Arc<BlockingPool>>,
    ) -> Runtime<K> {
        let Some(seat) = seats(1, &limits).pop() else { unreachable!("one seat was asked for") };
        Runtime::on_mesh(id, limits, pools, kernel, blocking, seat)
    }

    /// A shard on this thread that takes its seat among others ([`seats`]).
    pub fn on_mesh(
        id: ShardId,
        limits: Limits,
        pools: Pools,
        mut kernel: K,
        blocking: Option<Arc<BlockingPool>>,
        seat: Seat,
    ) -> Runtime<K> {
        let clock = kernel.clock();
        let gather = Gather::new(&limits, clock.mono_ns);
        let stall_ns = u64::try_from(limits.stall_time.as_nanos()).unwrap_or(u64::MAX);
        let (unpark, abilities) = (kernel.unpark(), kernel.abilities());
        let shard = Shard::new(id, Rc::new(limits), pools, clock, unpark, abilities, blocking, seat);
        Runtime {
            kernel,
            shard,
            drivers: Vec::new(),
            due: Vec::new(),
            trimmed_ns: clock.mono_ns,
            began_ns: None,
            begun: false,
            stall_ns,
            stall_said_ns: 0,
            gather,
            foresees: false,
            taken: Vec::new(),
        }
    }

    /// The shard.
    pub fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    /// The kernel: to add listeners, and for tests to reach the simulator.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// Counters of the kernel.
    pub fn kernel_stats(&self) -> KernelStats {
        self.kernel.stats()
    }

    /// Runs `f` with this shard as the current one, as if inside a turn: for start-up.
    pub fn within<R>(&mut self, f: impl FnOnce(&Rc<Shard>) -> R) -> R {
        let _current = Entered::enter(&self.shard);
        self.shard.now.set(self.kernel.clock());
        f(&self.shard)
    }

    /// When the next timer is due, monotonic nanoseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        self.shard.timers.borrow().next_ns()
    }

    /// Turns until [`Shard::stop`] was called, sleeping when idle.
    ///
    /// # Errors
    /// When the kernel refuses to be entered: nothing can go on then.
    pub fn run(&mut self) -> std::io::Result<()> {
        while !self.shard.stopping.get() {
            self.turn(true)?;
        }
        Ok(())
    }

    /// Once round the loop; sleeps at its end if `park` and nothing is left to do.
    ///
    /// # Errors
    /// As [`Runtime::run`].
    pub fn turn(&mut self, park: bool) -> std::io::Result<Turn> {
        let _current = Entered::enter(&self.shard);
        let shard = Rc::clone(&self.shard);
        bump(&shard.stats.turns);
        if !std::mem::take(&mut self.begun) {
            self.begin(&shard);
        }

        let taken = shard.stats.completions.get();
        let mut more = self.take_completions(&shard);
        if !shard.remote.is_empty() {
            shard.kernel_stats.set(self.kernel.stats());
            more |= take_mail(&shard);
        }
        if shard.has_lanes_to_take() {
            shard.kernel_stats.set(self.kernel.stats());
            shard.remote.pulse.note(watch::lanes);
            more |= shard.take_lanes();
        }
        more |= run_tasks(&shard);
        self.meet_drivers(&shard);
        self.fire_timers(&shard);
        shard.remote.pulse.note(watch::flush);
        more |= self.flush_drivers(&shard);
        if shard.mesh.has_unpublished() {
            shard.publish_lanes(ShardHandle::ring);
        }
        self.hand_over(&shard)?;
        more |= !shard.ready.borrow().is_empty() || shard.stopping.get() || shard.again.take();
        // What the kernel had no room for is handed over by the next turn.
        more |= !shard.ops.borrow().is_empty();

        if more || !park {
            if self.kernel.needs_enter() {
                self.kernel.enter(Wait::No)?;
            }
            if more || shard.stats.completions.get() != taken {
                return Ok(Turn::Busy);
            }
            self.end(&shard);
            return Ok(Turn::Idle);
        }
        self.park(&shard)?;
        Ok(if self.begun { Turn::Busy } else { Turn::Idle })
    }

    /// For a host that lets the shard sleep elsewhere than in its kernel: announces the sleep, so that others
    /// ring from now on. `false` if something came meanwhile: turn again instead. After `true`, sleep until the
    /// kernel has something ([`Runtime::kernel`]), somebody unparks it, or [`Runtime::next_deadline`]; then call
    /// [`Runtime::awake`].
    pub fn announce_sleep(&mut self) -> bool {
        let shard = &self.shard;
        // Left since the last turn: by the host (`within`), or by a driver after a busy poll.
        if has_left(shard) {
            return false;
        }
        shard.remote.door.announce_sleep();
        let quiet = shard.remote.is_empty() && shard.mesh.is_quiet();
        if !quiet {
            self.shard.remote.door.awake();
        }
        quiet
    }

    /// For a host that gives the thread to others between two turns: what they take is not the turn's time.
    pub fn rest(&mut self) {
        let shard = Rc::clone(&self.shard);
        self.end(&shard);
    }

    /// For a host, before a sleep that is to come: gives back memory that nobody needed, and says how long the sleep
    /// may last, in nanoseconds.
    #[cfg(feature = "glommio")]
    pub(crate) fn before_sleep(&mut self) -> Option<u64> {
        let shard = Rc::clone(&self.shard);
        let now_ns = self.kernel.mono_ns();
        self.trim(&shard, now_ns);
        self.next_deadline().map(|at| at.saturating_sub(now_ns))
    }

    /// For a host: polls as an idle shard with `busy_poll` does, for `spin_ns` and not longer, whatever other shards
    /// send. False when a turn is to follow.
    ///
    /// # Errors
    /// As [`Runtime::run`].
    #[cfg(feature = "glommio")]
    pub(crate) fn spin(&mut self, spin_ns: u64) -> std::io::Result<bool> {
        let _current = Entered::enter(&self.shard);
        let shard = Rc::clone(&self.shard);
        // Others may have had the thread since it was read.
        let now = self.kernel.clock();
        shard.now.set(now);
        Ok(self.busy_poll(&shard, now.mono_ns, spin_ns, spin_ns)? && !self.flush_drivers(&shard))
    }

    /// Ends what [`Runtime::announce_sleep`] began.
    pub fn awake(&mut self) {
        self.shard.remote.door.awake();
    }

    /// Begins a turn: what came before it, if the shard did not sleep, was a turn that is over.
    #[inline]
    fn begin(&mut self, shard: &Shard) {
        let now = self.kernel.clock();
        if let Some(began_ns) = self.began_ns.replace(now.mono_ns) {
            self.account(shard, now.mono_ns.saturating_sub(began_ns));
        }
        shard.now.set(now);
        shard.remote.pulse.begin(now.mono_ns);
        shard.steps.begin();
    }

    /// Ends a turn that nothing follows at once.
    #[inline]
    fn end(&mut self, shard: &Shard) -> u64 {
        let now_ns = self.kernel.mono_ns();
        if let Some(began_ns) = self.began_ns.take() {
            self.account(shard, now_ns.saturating_sub(began_ns));
        }
        shard.remote.pulse.sleep(now_ns);
        now_ns
    }

    #[inline]
    fn account(&mut self, shard: &Shard, took_ns: u64) {
        shard.stats.busy_ns.set(shard.stats.busy_ns.get() + took_ns);
        shard.last_turn_ns.set(took_ns);
        if took_ns > self.stall_ns {
            self.stalled(shard, took_ns);
        }
    }

    #[cold]
    fn stalled(&mut self, shard: &Shard, took_ns: u64) {
        bump(&shard.stats.stalls);
        shard.steps.end(&shard.remote.pulse);
        let now_ns = shard.now().mono_ns;
        if self.stall_said_ns == 0 || now_ns.saturating_sub(self.stall_said_ns) >= STALL_SAY_NS {
            self.stall_said_ns = now_ns.max(1);
            tracing::warn!(
                shard = shard.id().0,
                took_ms = took_ns / 1_000_000,
                longest_step = shard.steps.longest(),
                "a turn took longer than stall_time: move what blocks to `blocking()`, or yield; on a host with other \
                 work the thread may just have had no CPU"
            );
        }
    }

    /// Takes up drivers that were added since.
    #[inline]
    fn meet_drivers(&mut self, shard: &Shard) {
        if self.drivers.len() != shard.drivers().len() {
            self.drivers.clone_from(&shard.drivers());
            self.foresees = self.drivers.iter().any(|driver| driver.foresees());
        }
    }

    #[inline]
    fn flush_drivers(&mut self, shard: &Rc<Shard>) -> bool {
        let mut more = false;
        for at in 0..self.drivers.len() {
            more |= self.drivers[at].flush(shard);
        }
        more
    }

    #[inline]
    fn take_completions(&mut self, shard: &Rc<Shard>) -> bool {
        self.meet_drivers(shard);
        let budget = shard.limits.completion_budget;
        let taken = match self.foresees {
            true => self.take_ahead(shard, budget),
            false => self.take_each(shard, budget),
        };
        shard.stats.completions.set(shard.stats.completions.get() + u64::from(taken));
        let spent = taken == budget;
        if spent {
            bump(&shard.stats.budgets_spent);
        }
        spent
    }

    #[inline]
    fn take_each(&mut self, shard: &Rc<Shard>, budget: u32) -> u32 {
        let mut taken = 0;
        while taken < budget {
            let Some(completion) = self.kernel.pop() else { break };
            taken += 1;
            self.hand_out(shard, completion);
        }
        taken
    }

    #[inline]
    fn hand_out(&mut self, shard: &Rc<Shard>, completion: Completion<Chain>) {
        shard.remote.pulse.note(watch::completions);
        self.dispatch(shard, completion);
        shard.steps.end(&shard.remote.pulse);
    }

    /// As `take_each`, but some are taken from the kernel together, where there are some.
    #[inline(never)]
    fn take_ahead(&mut self, shard: &Rc<Shard>, budget: u32) -> u32 {
        let (mut taken, mut some) = (0, std::mem::take(&mut self.taken));
        while taken < budget {
            let room = LOOK_AHEAD.min((budget - taken) as usize);
            while some.len() < room
                && let Some(completion) = self.kernel.pop()
            {
                some.push(completion);
                taken += 1;
            }
            match some.len() {
                0 => break,
                1 => {}
                _ => self.look_ahead(shard, &some),
            }
            for completion in some.drain(..) {
                self.hand_out(shard, completion);
            }
        }
        self.taken = some;
        taken
    }

    /// Shows drivers what is about to come, so that memory is loaded for all of it at once.
    #[inline]
    fn look_ahead(&self, shard: &Shard, some: &[Completion<Chain>]) {
        let mut asked = false;
        for completion in some {
            let owner = usize::from(completion.token.owner());
            if let Payload::Received(buffer) = completion.payload
                && let Some(driver) = owner.checked_sub(1).and_then(|at| self.drivers.get(at))
            {
                let len = u32::try_from(completion.result).unwrap_or(0);
                driver.foresee(shard, self.kernel.received(buffer, len));
                asked = true;
            }
        }
        if asked {
            self.drivers.iter().for_each(|driver| driver.warm(shard));
        }
    }

    #[inline]
    fn dispatch(&mut self, shard: &Rc<Shard>, completion: Completion<Chain>) {
        let Completion { token, result, more, payload } = completion;
        let owner = usize::from(token.owner());
        let (data, buffer) = match payload {
            Payload::None => (Data::None, None),
            Payload::Received(buffer) => {
                let len = u32::try_from(result).unwrap_or(0);
                (Data::Received(self.kernel.received(buffer, len)), Some(buffer))
            }
            Payload::Sent(chain) => (Data::Sent(chain), None),
            Payload::Peer(peer) => (Data::Peer(peer), None),
            Payload::Bytes(bytes) => (Data::Bytes(bytes), None),
        };
        let event = Event { token, result, more, data };
        if owner == 0 {
            shard.complete_io(event);
        } else {
            assert!(owner <= self.drivers.len(), "a completion for a driver that never was: {token:?}");
            self.drivers[owner - 1].complete(shard, event);
        }
        if let Some(buffer) = buffer {
            self.kernel.recycle(buffer);
        }
    }

    fn fire_timers(&mut self, shard: &Rc<Shard>) {
        shard.timers.borrow_mut().advance(shard.now().mono_ns, &mut self.due);
        if self.due.is_empty() {
            return;
        }
        shard.step(watch::timers);
        shard.stats.timers_fired.set(shard.stats.timers_fired.get() + self.due.len() as u64);
        for target in self.due.drain(..) {
            match target {
                Target::Wake(waker) => waker.wake(),
                Target::Calls => shard.expire_calls(),
                Target::Driver(token) => {
                    let owner = usize::from(token.owner());
                    self.drivers[owner - 1].timer(shard, token);
                }
            }
        }
    }

    /// Hands every queued operation to the kernel, entering it when its queue is full.
    #[inline]
    fn hand_over(&mut self, shard: &Rc<Shard>) -> std::io::Result<()> {
        let mut ops = shard.ops.borrow_mut();
        while let Some(op) = ops.pop_front() {
            if let Err(op) = self.kernel.push(op) {
                bump(&shard.stats.submission_full);
                ops.push_front(op);
                self.kernel.enter(Wait::No)?;
                // Completions may have to be taken before there is room again: the next turn goes on.
                let Some(op) = ops.pop_front() else { break };
                if let Err(op) = self.kernel.push(op) {
                    ops.push_front(op);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Gives back, now and then, pool memory that nobody needed.
    fn trim(&mut self, shard: &Shard, now_ns: u64) {
        if now_ns.saturating_sub(self.trimmed_ns) >= TRIM_NS {
            self.trimmed_ns = now_ns;
            shard.pools().trim(TRIM_SLOTS);
        }
    }

    fn park(&mut self, shard: &Rc<Shard>) -> std::io::Result<()> {
        if !shard.ops.borrow().is_empty() {
            return self.kernel.enter(Wait::No);
        }
        let mut now = self.end(shard);
        let mut next = self.next_deadline();
        let spin = u64::try_from(shard.limits.busy_poll.as_nanos()).unwrap_or(0);
        if spin > 0 {
            if self.kernel.needs_enter() {
                self.kernel.enter(Wait::No)?;
            }
            if !self.busy_poll(shard, now, spin, u64::MAX)? {
                return Ok(());
            }
            // The kernel takes in a wake as it is polled. One for what a driver shares with other threads stands in
            // no queue that the poll looks at.
            if self.flush_drivers(shard) {
                return Ok(());
            }
            now = shard.now().mono_ns;
            next = self.next_deadline();
        }
        self.trim(shard, now);
        let wait = next.map(|at| at.saturating_sub(now));
        let result = if self.announce_sleep() {
            bump(&shard.stats.parks);
            match self.gather.within(&mut self.kernel, shard, now, wait) {
                None => self.kernel.enter(Wait::Until(wait)),
                Some(within_ns) => {
                    bump(&shard.stats.gathers);
                    self.kernel.gather(Wait::Until(wait), within_ns)
                }
            }
        } else {
            self.kernel.enter(Wait::No)
        };
        self.awake();
        result
    }
}

impl<K: Kernel<Bytes = Chain>> Runtime<K> {
    /// Polls for `spin_ns`, or to the next timer. Requests of other shards, and what their responses wake, are
    /// served from here without a whole turn around each. False when a turn is to follow, true for a sleep.
    /// Ends after `max_ns` however much other shards send.
    fn busy_poll(
        &mut self,
        shard: &Rc<Shard>,
        from_ns: u64,
        spin_ns: u64,
        max_ns: u64,
    ) -> std::io::Result<bool> {
        let (mut read_ns, mut idle_ns) = (from_ns, from_ns);
        let mut exchanges = 0_u32;
        // For who is asked by another shard; only an enter changes them.
        shard.kernel_stats.set(self.kernel.stats());
        'poll: loop {
            for _ in 0..SPIN_LOOKS {
                if shard.remote.door.is_dirty() {
                    exchanges += 1;
                    idle_ns = read_ns;
                    if !self.exchange(shard) {
                        break 'poll;
                    }
                }
                std::hint::spin_loop();
            }
            // Also while other shards keep the door dirty.
            if !shard.remote.is_empty() {
                break;
            }
            let enters = self.kernel.needs_enter();
            if enters {
                self.kernel.enter(Wait::No)?;
                shard.kernel_stats.set(self.kernel.stats());
            }
            if let Some(completion) = self.kernel.pop() {
                self.began_ns = (exchanges > 0).then_some(read_ns);
                self.begin(shard);
                self.begun = true;
                bump(&shard.stats.completions);
                self.dispatch(shard, completion);
                return Ok(false);
            }
            // A kernel that cannot say what it has is entered each time: that alone is no reason for a turn.
            if enters && (self.flush_drivers(shard) || has_left(shard)) {
                break;
            }
            let now = self.kernel.clock();
            if std::mem::take(&mut exchanges) > 0 {
                self.account(shard, now.mono_ns.saturating_sub(read_ns));
            }
            read_ns = now.mono_ns;
            shard.now.set(now);
            let timer = self.next_deadline().is_some_and(|at| at <= read_ns);
            let is_over = read_ns.saturating_sub(from_ns) >= max_ns;
            if timer || is_over || read_ns.saturating_sub(idle_ns) >= spin_ns {
                shard.remote.pulse.sleep(read_ns);
                return Ok(!timer);
            }
        }
        // What was exchanged since the clock was read is a turn that the next one ends.
        self.began_ns = (exchanges > 0).then_some(read_ns);
        Ok(false)
    }

    /// The parts of a turn that messages between shards need, at the time that was read last. False when more is
    /// to be done than that.
    fn exchange(&mut self, shard: &Rc<Shard>) -> bool {
        let pulse = &shard.remote.pulse;
        bump(&shard.stats.turns);
        pulse.begin(shard.now().mono_ns);
        pulse.note(watch::lanes);
        shard.steps.begin();
        let mut more = shard.take_lanes();
        more |= run_tasks(shard);
        self.meet_drivers(shard);
        pulse.note(watch::flush);
        more |= self.flush_drivers(shard);
        if shard.mesh.has_unpublished() {
            shard.publish_lanes(ShardHandle::ring);
        }
        more |= shard.stopping.get() || shard.again.take() || !shard.ready.borrow().is_empty();
        if more || !shard.ops.borrow().is_empty() {
            return false;
        }
        pulse.sleep(shard.now().mono_ns);
        true
    }
}

/// Whether the shard's own code left something to do.
#[inline]
fn has_left(shard: &Shard) -> bool {
    shard.mesh.has_unpublished()
        || !shard.ready.borrow().is_empty()
        || !shard.ops.borrow().is_empty()
        || shard.again.get()
}

fn take_mail(shard: &Rc<Shard>) -> bool {
    let remote = &shard.remote;
    let mut taken = 0u64;
    // Bounded by what stands there now: what is added meanwhile waits for the next turn.
    for _ in 0..remote.messages.len() {
        let Some(message) = remote.messages.pop() else { break };
        remote.pulse.note(watch::mailbox);
        fenced(shard, || message(shard));
        shard.steps.end(&remote.pulse);
        taken += 1;
    }
    for _ in 0..remote.wakes.len() {
        let Some(runnable) = remote.wakes.pop() else { break };
        shard.ready.borrow_mut().push_back(runnable);
        taken += 1;
    }
    shard.stats.mailbox_taken.set(shard.stats.mailbox_taken.get() + taken);
    taken > 0
}

/// Runs ready tasks, at most `task_budget`. Returns whether some are left.
fn run_tasks(shard: &Rc<Shard>) -> bool {
    let mut left = shard.limits.task_budget;
    while left > 0 {
        let next = shard.ready.borrow_mut().pop_front();
        let Some(runnable) = next else { return false };
        bump(&shard.stats.tasks_polled);
        runnable.run();
        shard.steps.end(&shard.remote.pulse);
        left -= 1;
    }
    let spent = !shard.ready.borrow().is_empty();
    if spent {
        bump(&shard.stats.budgets_spent);
    }
    spent
}

impl<K: Kernel<Bytes = Chain>> Drop for Runtime<K> {
    fn drop(&mut self) {
        let _current = Entered::enter(&self.shard);
        let shard = Rc::clone(&self.shard);
        shard.end_tasks();
        fenced(&shard, || shard.mesh.end());
        while !shard.remote.messages.is_empty() {
            fenced(&shard, || drop(shard.remote.messages.pop()));
        }
        // Drivers hold the shard's pools and may hold each other: let them go before the kernel.
        fenced(&shard, || shard.drop_locals());
        for driver in self.drivers.drain(..).chain(shard.drivers.take()) {
            fenced(&shard, || drop(driver));
        }
    }
}

/// Runs, or drops, what is the application's and no task: its panic is not the shard's.
#[inline]
fn fenced(shard: &Shard, f: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(f)).is_err() {
        bump(&shard.stats.tasks_panicked);
        tracing::error!(
            shard = shard.id().0,
            "a message of another thread, or a value that was dropped, panicked"
        );
    }
}
