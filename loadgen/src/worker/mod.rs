//! One worker: a ring, its share of the connections, and the clock by which they ask.
//!
//! A [`Worker`] is turned by the thread that owns it: [`Worker::turn`] takes what completed, sends what is due, and
//! waits for whichever comes first. It is generic over the kernel, so that tests run it on a simulated one, and over
//! the protocol, so that the way of a request has no indirect call.
//!
//! # What happens when
//! 1. *Opening*: connections are opened, at most [`OPENING_MAX`] at a time. [`Stage::Ready`] once each was tried.
//! 2. [`Worker::start`] names the moment from which the schedule counts. Then *warm-up*, the measured *window*, and
//!    the *drain*, in which nothing new becomes due and what is under way may end.
//! 3. [`Stage::Done`]: what had no answer is recorded as a lower bound, and the last slice is handed over.
//!
//! # Rules
//! 1. A request is measured when its intended time is in the window, whenever it is answered. Exactly one of these
//!    is recorded of it: a response time, or a lower bound with the kind of error.
//! 2. A schedule is never shortened: slots that find no connection stay in it, and are sent late, or are counted
//!    as never sent. No list of them is kept, since the schedule can tell them again.
//! 3. `now` is read after each entry into the kernel, which brings all completions that are taken at that time; and
//!    once before each batch of at most [`BATCH`] sends: *submitted* is never later than the real send.
//! 4. Nothing here allocates for a request, but for histogram pages touched for the first time.
//!
//! Not here: threads and their CPUs (`engine`), the schedule itself (`plan`), bytes (`http1`, `resp`, `echo`).

mod conn;
mod core;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};

use corelane_base::{Completion, Kernel, Op, Payload, Wait};
use corelane_pools::{Chain, Pools};

use crate::model::Slice;
use crate::plan::Schedule;
use crate::protocol::Protocol;

use self::core::Core;
pub use self::core::Counters;

/// Connects under way at once: below every listen queue one meets (`SOMAXCONN` was 128 for decades).
pub const OPENING_MAX: u32 = 100;

/// Sends between two readings of the clock. One takes about 2 us of kernel time on loopback, so that the last of a
/// batch is sent at most some 30 us after the time that is noted for it.
pub const BATCH: u32 = 16;

/// Completions taken before the schedule is looked at again.
const REAP_BUDGET: u32 = 64;

/// How early a sleep ends before something is due: waking takes its time, and the rest is polled away.
pub const SPIN_NS: u64 = 100_000;

/// A step of polling takes some 50 ns; one that took longer than this was not polling: the thread had no CPU.
const AWAY_NS: u64 = 5_000;

/// How long a worker sleeps at most, so that it sees when it is told to stop.
const SLEEP_NS_MAX: u64 = 50_000_000;

/// What decides when this worker sends.
#[derive(Debug)]
pub enum Traffic {
    /// When an answer is there, after thinking.
    Closed {
        /// Thinking time, ns.
        think_ns: u64,
        /// It is the mean of an exponential distribution.
        exponential: bool,
    },
    /// When the schedule says so. It holds the slots of this worker.
    Open(Schedule),
}

/// What one worker has to do.
#[derive(Debug)]
pub struct Config {
    /// Where to.
    pub target: SocketAddr,
    /// Addresses to connect from, in turn; empty leaves it to the kernel.
    pub sources: Vec<IpAddr>,
    /// Connections of this worker.
    pub connections: u32,
    /// Requests under way on a connection at most.
    pub pipeline: u32,
    /// When.
    pub traffic: Traffic,
    /// Requests after which a connection is closed and opened anew; 0 is never.
    pub requests_per_connection: u64,
    /// Closed loop: connections begin evenly over this time.
    pub ramp_ns: u64,
    /// Before the window.
    pub warmup_ns: u64,
    /// The window.
    pub duration_ns: u64,
    /// After it.
    pub drain_ns: u64,
    /// For one answer, and for one connect.
    pub timeout_ns: u64,
    /// A slice of the time series.
    pub slice_ns: u64,
    /// Of what is drawn here: thinking times.
    pub seed: u64,
    /// Which of the numbers of requests are this worker's: those that leave `index` when divided by `of`.
    pub index: u64,
    /// See `index`.
    pub of: u64,
    /// Different requests there are, each with a tally of its own if more than one.
    pub kinds: usize,
    /// Never sleep.
    pub busy_poll: bool,
}

/// Where a worker is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// It opens connections.
    Opening,
    /// It waits for [`Worker::start`].
    Ready,
    /// It sends, not measured.
    WarmUp,
    /// It sends, measured.
    Window,
    /// It waits for answers.
    Drain,
    /// It is over.
    Done,
}

/// Where full slices go and empty ones come from.
pub trait Slices {
    /// Takes a full slice and gives an empty one.
    ///
    /// # Errors
    /// The full one comes back where there is no empty one: it goes on to be filled.
    #[allow(clippy::result_large_err)] // the slice itself comes back
    fn exchange(&mut self, slice: Slice) -> Result<Slice, Slice>;
}

/// See the module header.
pub struct Worker<K: Kernel<Bytes = Chain>, P: Protocol> {
    kernel: K,
    core: Core<P>,
    /// When the last look at the clock was, and until when the sleep after it was to last.
    last_ns: u64,
    planned_ns: u64,
}

impl<K: Kernel<Bytes = Chain>, P: Protocol> std::fmt::Debug for Worker<K, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("stage", &self.core.stage).finish_non_exhaustive()
    }
}

impl<K: Kernel<Bytes = Chain>, P: Protocol> Worker<K, P> {
    /// A worker that has opened nothing yet.
    pub fn new(mut kernel: K, pools: Pools, protocol: P, config: Config) -> Self {
        let now = kernel.mono_ns();
        let able = kernel.abilities();
        let core = Core::new(pools, protocol, config, now, able);
        Worker { kernel, core, last_ns: now, planned_ns: now }
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        self.core.stage
    }

    /// Connections that are open.
    pub fn connections_open(&self) -> u32 {
        self.core.open_count
    }

    /// What it counted beside slices.
    pub fn counters(&self) -> Counters {
        self.core.counters
    }

    /// Begin and end of the window on the kernel's clock, once it was started.
    pub fn window_ns(&self) -> (u64, u64) {
        self.core.window_ns
    }

    /// Its kernel.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Why the last connect failed that did.
    pub fn connect_error(&self) -> Option<i32> {
        self.core.connect_errno
    }

    /// The schedule begins at `at_ns` of the kernel's clock. Only when [`Stage::Ready`].
    pub fn start(&mut self, at_ns: u64) {
        assert_eq!(self.core.stage, Stage::Ready, "a worker is started once, when it is ready");
        self.core.start(at_ns);
    }

    /// Ends the window now, as if it had been asked for that length; the drain follows.
    pub fn stop(&mut self) {
        let now = self.kernel.mono_ns();
        self.core.stop(now);
    }

    /// Ends the drain, too.
    pub fn abandon(&mut self) {
        let now = self.kernel.mono_ns();
        self.core.stop(now);
        self.core.drain_end_ns = now;
    }

    /// One turn: completions, what is due, sends, and a wait for whatever comes first. Sleeps at most 50 ms.
    ///
    /// # Errors
    /// What the kernel says that is not part of normal life: the run cannot go on.
    pub fn turn(&mut self, slices: &mut impl Slices) -> io::Result<()> {
        let now = self.kernel.mono_ns();
        self.look(now);
        // What is taken from here on may belong to the window, and is to find its slice.
        self.core.begin_window(now);
        let more = self.reap(now);
        self.core.advance(now, slices);
        let sent = self.flush()?;
        if self.core.stage == Stage::Done {
            return Ok(());
        }
        if more || sent {
            self.planned_ns = 0;
            return self.kernel.enter(Wait::No);
        }
        self.wait()
    }

    /// Takes note of how late this look at the clock is.
    fn look(&mut self, now: u64) {
        let late = now.saturating_sub(self.last_ns.max(self.planned_ns));
        self.core.gap(late);
        self.last_ns = now;
    }

    /// Takes completions, at most [`REAP_BUDGET`]. Whether some may be left.
    fn reap(&mut self, now: u64) -> bool {
        for _ in 0..REAP_BUDGET {
            let Some(completion) = self.kernel.pop() else { return false };
            self.take(completion, now);
        }
        true
    }

    #[inline]
    fn take(&mut self, completion: Completion<Chain>, now: u64) {
        let (token, result) = (completion.token, completion.result);
        match completion.payload {
            Payload::Received(buffer) => {
                let bytes = self.kernel.received(buffer, result.cast_unsigned());
                self.core.received(token, bytes, completion.more, now);
                self.kernel.recycle(buffer);
            }
            Payload::Sent(chain) => self.core.sent(token, result, chain, now),
            Payload::None | Payload::Peer(_) | Payload::Bytes(_) => {
                self.core.completed(token, result, completion.more, now);
            }
        }
    }

    /// Hands over what waits: rare operations first, then sends. Whether there were any.
    fn flush(&mut self) -> io::Result<bool> {
        let mut any = false;
        while let Some(op) = self.core.ops.pop_front() {
            self.push(op)?;
            any = true;
        }
        if self.core.dirty.is_empty() {
            return Ok(any);
        }
        let mut now = self.kernel.mono_ns();
        let mut left = BATCH;
        // What becomes dirty by an intermediate entry waits for the next turn.
        for _ in 0..self.core.dirty.len() {
            let Some(index) = self.core.dirty.pop_front() else { break };
            let Some(op) = self.core.send(index, now) else { continue };
            self.push(op)?;
            left -= 1;
            if left == 0 {
                self.kernel.enter(Wait::No)?;
                now = self.kernel.mono_ns();
                self.core.gap(now.saturating_sub(self.last_ns));
                self.last_ns = now;
                left = BATCH;
            }
        }
        Ok(true)
    }

    fn push(&mut self, op: Op<Chain>) -> io::Result<()> {
        let mut op = op;
        while let Err(back) = self.kernel.push(op) {
            op = back;
            self.kernel.enter(Wait::No)?;
        }
        Ok(())
    }

    /// Until something is due or comes: sleeps up to [`SPIN_NS`] before it is due, then polls.
    fn wait(&mut self) -> io::Result<()> {
        let due = self.core.next_due().min(self.last_ns + SLEEP_NS_MAX);
        let precise = self.core.is_precise();
        self.planned_ns = due;
        let now = self.last_ns;
        if due <= now {
            return self.kernel.enter(Wait::No);
        }
        if !self.core.config.busy_poll {
            let margin = if precise { SPIN_NS } else { 0 };
            if due - now > margin {
                let sleep = due - now - margin;
                self.planned_ns = now + sleep;
                return self.kernel.enter(Wait::Until(Some(sleep)));
            }
        }
        let mut now = now;
        loop {
            let entered = self.kernel.needs_enter();
            if entered {
                self.kernel.enter(Wait::No)?;
            }
            let before = now;
            now = self.kernel.mono_ns();
            let passed = now.saturating_sub(before);
            self.core.gap(passed);
            self.last_ns = now;
            if !entered && passed < AWAY_NS {
                self.core.spin(passed);
            }
            if now >= due {
                break;
            }
            if let Some(completion) = self.kernel.pop() {
                // The rest follows in the next turn.
                self.take(completion, now);
                break;
            }
            std::hint::spin_loop();
        }
        Ok(())
    }
}
