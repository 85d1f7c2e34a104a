//! The glommio host: a shard as one task of an executor.
//!
//! The task turns the shard until nothing is left, gives way when glommio asks for it, and sleeps by a poll of the
//! kernel's signal, which is on only meanwhile. It has a task queue of its own that is told to matter: its poll goes to
//! glommio's ring for what is urgent, so that bytes which arrive end the turn of any other queue that looks at
//! `yield_if_needed`.
//!
//! # Rules
//! 1. Every sleep is announced as on the native host (`remote`), after the signal was turned on, and only with a quiet
//!    kernel: what comes later makes the descriptor readable, or finds `PARKED`, or rings.
//! 2. A poll that was not the one to end a sleep stays for the next: the descriptor is drained only when the poll is
//!    spent, so a poll never stands on what an earlier one was told.
//! 3. glommio can go to sleep over tasks that are ready, when the time of a queue is over as it begins (`run_task_queues`
//!    says the same then as when there is none). A timer that never stops ends such a sleep after [`GUARD_TIME`].
//! 4. glommio's tasks run outside of turns: to the shard they are foreign code on its thread. What they wake goes through
//!    its mailbox, and ends its sleep by the task's waker instead of a system call.
//!
//! Not here: task queues, files and timers of the application, which has all of glommio for that.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use corelane_base::{Kernel, Limits, Signal, Wait};
use corelane_pools::Chain;
use glommio::io::{PollState, PollableFd};
use glommio::timer::Timer;
use glommio::{GlommioError, Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares, Task};

use super::Host;
use crate::stats::bump;
use crate::turn::{Runtime, Turn};

/// Shares of the shard's task queue; those of a queue made with 100 get a tenth of its time.
pub const SHARES: usize = 1000;

/// How long glommio can sleep over ready tasks, at most (rule 3).
///
/// A hundred wakes a second cost an idle shard about 0.3 % of its CPU.
pub const GUARD_TIME: Duration = Duration::from_millis(10);

/// How long a busy poll goes on before it looks whether glommio wants the CPU.
const SPIN_NS: u64 = 20_000;

thread_local! {
    /// The shard of this thread that sleeps, and what ends that.
    static PARKED: RefCell<Option<(u64, Waker)>> = const { RefCell::new(None) };
}

/// Ends the sleep of the shard with this process-wide number, if it is one of this thread and sleeps on this host.
pub(crate) fn wake_here(unique: u64) -> bool {
    let here = |parked: &Option<(u64, Waker)>| match parked {
        Some((shard, waker)) if *shard == unique => {
            waker.wake_by_ref();
            true
        }
        _ => false,
    };
    // A thread that ends has no shard any more.
    PARKED.try_with(|parked| here(&parked.borrow())).unwrap_or(false)
}

/// How an executor is made.
#[derive(Clone, Debug)]
pub struct Executor {
    cpu: Option<usize>,
    ring_entries: usize,
    io_bytes: usize,
    preempt_time: Duration,
}

impl Executor {
    pub(super) fn new(cpu: Option<usize>, limits: &Limits) -> Executor {
        Executor {
            cpu,
            ring_entries: limits.host_ring_entries as usize,
            io_bytes: usize::try_from(limits.host_io_bytes).unwrap_or(usize::MAX),
            preempt_time: limits.host_preempt_time,
        }
    }
}

/// A shard's place in its executor.
pub struct Guest {
    /// Its kernel's signal, once it has slept.
    signal: Option<PollableFd<i32>>,
    /// The poll of it that stands.
    poll: PollState,
    timer: Timer,
    /// When the timer goes off, monotonic nanoseconds of the kernel. An earlier deadline sets it anew; a later one does
    /// not, and costs one turn for nothing instead.
    timer_ns: Option<u64>,
    /// Rule 3. Cancelled as it is dropped.
    _guard: Task<()>,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guest(timer_ns: {:?})", self.timer_ns)
    }
}

/// As [`super::run`].
pub(super) fn run<F, Fut>(executor: &Executor, main: F) -> io::Result<Fut::Output>
where
    F: FnOnce(Host) -> Fut + 'static,
    Fut: Future + 'static,
{
    let placement = executor.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let made = LocalExecutorBuilder::new(placement)
        .name("corelane")
        .ring_depth(executor.ring_entries)
        .io_memory(executor.io_bytes)
        .preempt_timer(executor.preempt_time)
        // Blocking calls of the application go where the kernel has room for them.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(io_error)?;
    let preempt_time = executor.preempt_time;
    let done = made.run(async move {
        let (shares, latency) = (Shares::Static(SHARES), Latency::Matters(preempt_time));
        let queue = glommio::executor().create_task_queue(shares, latency, "shard");
        let shard = async move { main(Host::Glommio(Guest::new())).await };
        Ok::<_, GlommioError<()>>(glommio::spawn_local_into(shard, queue)?.await)
    });
    done.map_err(io_error)
}

fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(error) => error,
        error => io::Error::other(format!("glommio: {error}")),
    }
}

impl Guest {
    fn new() -> Guest {
        let guard = async {
            loop {
                glommio::timer::sleep(GUARD_TIME).await;
            }
        };
        Guest {
            signal: None,
            poll: PollState::new(),
            timer: Timer::new(Duration::ZERO),
            timer_ns: None,
            _guard: glommio::spawn_local(guard),
        }
    }

    pub(super) async fn turn<K>(&mut self, runtime: &mut Runtime<K>) -> io::Result<()>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        match runtime.turn(false)? {
            Turn::Busy => give_way(runtime).await,
            Turn::Idle => {
                if self.spin(runtime).await? {
                    self.sleep(runtime).await?;
                }
            }
        }
        Ok(())
    }

    /// Polls for `busy_poll`, giving way meanwhile. True if nothing came.
    async fn spin<K>(&self, runtime: &mut Runtime<K>) -> io::Result<bool>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        let mut left = u64::try_from(runtime.shard().limits().busy_poll.as_nanos()).unwrap_or(u64::MAX);
        while left > 0 {
            let slice = left.min(SPIN_NS);
            if !runtime.spin(slice)? {
                return Ok(false);
            }
            left -= slice;
            give_way(runtime).await;
        }
        Ok(true)
    }

    async fn sleep<K>(&mut self, runtime: &mut Runtime<K>) -> io::Result<()>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        if self.signal.is_none() {
            let fd = runtime.kernel().signal_fd()?;
            self.signal = Some(PollableFd::new(fd).map_err(io_error)?);
        }
        let wait_ns = runtime.before_sleep();
        runtime.kernel().set_signal(true);
        if runtime.kernel().needs_enter() {
            runtime.kernel().enter(Wait::No)?;
        }
        let unique = runtime.shard().remote.unique;
        let mut is_asleep = false;
        let woken = poll_fn(|cx| {
            if is_asleep {
                // By the poll, the timer or `PARKED`: a turn finds out.
                return Poll::Ready(self.poll(runtime.kernel(), cx));
            }
            PARKED.set(Some((unique, cx.waker().clone())));
            if !runtime.announce_sleep() {
                return Poll::Ready(Ok(true));
            }
            if !runtime.kernel().is_quiet() || self.set_timer(runtime.kernel(), wait_ns, cx) {
                return Poll::Ready(Ok(true));
            }
            match self.poll(runtime.kernel(), cx) {
                Ok(false) => {
                    is_asleep = true;
                    bump(&runtime.shard().stats.parks);
                    Poll::Pending
                }
                other => Poll::Ready(other),
            }
        })
        .await;
        PARKED.set(None);
        runtime.awake();
        runtime.kernel().set_signal(false);
        woken.map(|_| ())
    }

    /// Whether the signal came; if not, it will wake the task.
    fn poll<K: Signal>(&mut self, kernel: &mut K, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(signal) = &self.signal else { unreachable!("made before the first sleep") };
        match signal.poll_readable(cx, &mut self.poll) {
            Poll::Pending => Ok(false),
            Poll::Ready(result) => {
                kernel.drain_signal();
                result.map(|()| true).map_err(io_error)
            }
        }
    }

    /// Has the task woken in time. True if the time is over already.
    fn set_timer<K: Kernel>(&mut self, kernel: &mut K, wait_ns: Option<u64>, cx: &mut Context<'_>) -> bool {
        let Some(wait_ns) = wait_ns else { return false };
        let now_ns = kernel.mono_ns();
        let due_ns = now_ns.saturating_add(wait_ns);
        if self.timer_ns.is_some_and(|at| (now_ns..=due_ns).contains(&at)) {
            return false;
        }
        self.timer.reset(Duration::from_nanos(wait_ns));
        self.timer_ns = Some(due_ns);
        // Once for each time it is set: a second poll would set a second one beside it.
        Pin::new(&mut self.timer).poll(cx).is_ready()
    }
}

/// Lets other tasks run if glommio wants that.
async fn give_way<K: Kernel<Bytes = Chain>>(runtime: &mut Runtime<K>) {
    if glommio::executor().need_preempt() {
        runtime.rest();
        glommio::executor().yield_if_needed().await;
    }
}
