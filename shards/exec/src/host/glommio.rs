//! The glommio host: a shard as one task of an executor.
//!
//! The task turns the shard until nothing is left, gives way when glommio asks for it, and sleeps by a poll of the
//! kernel's signal, which is on only meanwhile. A sleep costs about as much CPU as a request (nine enters of glommio's
//! rings and a membarrier), so an idle shard first looks out for [`SPIN_NS`].
//!
//! # Rules
//! 1. Every sleep is announced as on the native host (`remote`), after the signal was turned on, and only with a quiet
//!    kernel: what comes later makes the descriptor readable, or finds `HERE`, or rings.
//! 2. A poll that was not the one to end a sleep stays for the next. One that is spent though the descriptor was drained
//!    before costs a turn for nothing: a turn follows every drain, so nothing is slept over.
//! 3. What makes the task ready is known to the guard (`guard`), which wakes the executor should glommio sleep over it.
//! 4. glommio's tasks run outside of turns: to the shard they are foreign code on its thread. What they wake goes through
//!    its mailbox, and ends its sleep by the task's waker instead of a system call.
//!
//! Not here: task queues, files and timers of the application, which has all of glommio for that.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use corelane_base::{Kernel, Limits, Signal, Wait};
use corelane_pools::Chain;
use glommio::io::{PollState, PollableFd};
use glommio::timer::Timer;
use glommio::{
    GlommioError, Latency, LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement, Shares, Task,
};

use super::Host;
use super::guard::{Ward, now_us};
use crate::remote::Remote;
use crate::stats::bump;
use crate::turn::{Runtime, Turn};

/// Shares of the shard's task queue; those of a queue made with 100 get a tenth of its time.
pub const SHARES: usize = 1000;

/// How long an idle shard looks out before it sleeps: about what a sleep costs.
const SPIN_NS: u64 = 30_000;

/// How long a busy poll goes on before it looks whether glommio wants the CPU.
const SLICE_NS: u64 = 10_000;

/// Sleeps after which a poll that stands is taken back and made anew.
const POLL_AGE: u32 = 64;

/// How long a shard that is busy keeps the CPU. A round of glommio's loop takes 20 to 25 us, so this is 0.5 %.
const TURN_TIME: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    /// It runs, or is about to.
    Turning,
    /// It has something to do and let others run.
    GaveWay,
    Asleep,
}

/// The shard of this thread, as code outside of its task sees it.
struct Here {
    remote: Arc<Remote>,
    waker: Waker,
    state: Cell<State>,
    ward: Arc<Ward>,
}

impl Here {
    fn wake(&self) {
        self.ward.owes(true);
        self.waker.wake_by_ref();
    }

    /// Whether the shard has something to do and is not at it.
    fn wants_to_run(&self) -> bool {
        match self.state.get() {
            State::Turning => false,
            State::GaveWay => true,
            State::Asleep => {
                // A completion of glommio's rings would wake it too, but only once the executor comes round to them.
                let wants = self.remote.unpark.is_signalled();
                if wants {
                    self.wake();
                }
                wants
            }
        }
    }
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

fn here<R>(f: impl FnOnce(&Here) -> R) -> Option<R> {
    // A thread that ends has no shard any more.
    HERE.try_with(|here| here.borrow().as_ref().map(f)).ok().flatten()
}

/// Ends the sleep of the shard with this process-wide number, if it is one of this thread.
pub(crate) fn wake_here(unique: u64) -> bool {
    here(|here| (here.remote.unique == unique).then(|| here.wake()).is_some()).unwrap_or(false)
}

/// Lets the shard of this executor run if it has something to do, and other task queues if their time has come. For
/// loops of work that takes long, in a task queue of their own: call it every 10 to 50 us of work.
///
/// glommio's `yield_if_needed` alone does not see that bytes came for the shard, and goes on for `host_preempt_time`.
/// Costs a poll(2), about 0.3 us, while the shard sleeps; else some nanoseconds. Outside of an executor with a shard it
/// is glommio's `yield_if_needed`.
pub async fn yield_to_shard() {
    let executor = glommio::executor();
    if here(Here::wants_to_run).unwrap_or(false) {
        executor.yield_task_queue_now().await;
    } else {
        executor.yield_if_needed().await;
    }
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
        // While the shard sleeps; its own queue says how long it may keep the CPU from others.
        .preempt_timer(executor.preempt_time)
        // Blocking calls of the application go where the kernel has room for them.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(io_error)?;
    // From before the first task runs until after the last: glommio can sleep over those two as well.
    let (waker, _never) = watched(&made);
    let watched = Watched(Ward::new(waker)?);
    let seat = Arc::clone(&watched.0);
    let done = made.run(async move {
        let (shares, latency) = (Shares::Static(SHARES), Latency::Matters(TURN_TIME));
        let queue = glommio::executor().create_task_queue(shares, latency, "shard");
        let shard = async move { main(Host::Glommio(Guest::new(seat).await)).await };
        Ok::<_, GlommioError<()>>(glommio::spawn_local_into(shard, queue)?.await)
    });
    done.map_err(io_error)
}

/// Has the guard let go of an executor before that is dropped, also where its shard panicked.
struct Watched(Arc<Ward>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A task that is never done, and its waker: glommio polls a task once as it is spawned.
fn watched(executor: &LocalExecutor) -> (Waker, Task<()>) {
    let waker = Rc::new(Cell::new(None));
    let given = Rc::clone(&waker);
    let never = executor.spawn(poll_fn(move |cx| {
        given.set(Some(cx.waker().clone()));
        Poll::Pending
    }));
    let Some(waker) = waker.take() else { unreachable!("it was not polled as it was spawned") };
    (waker, never)
}

fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(error) => error,
        error => io::Error::other(format!("glommio: {error}")),
    }
}

/// A shard's place in its executor.
pub struct Guest {
    waker: Waker,
    ward: Arc<Ward>,
    /// Its kernel's signal, once it has settled.
    signal: Option<PollableFd<i32>>,
    /// The poll that stands.
    poll: PollState,
    /// Sleeps that it stood through: each leaves a waker with it.
    stood: u32,
    timer: Timer,
    /// When the timer goes off, as [`now_us`] counts. An earlier deadline sets it anew; a later one does not, and costs
    /// one turn for nothing instead.
    timer_us: u64,
    nudges: u64,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guest(timer_us: {})", self.timer_us)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = HERE.try_with(|here| drop(here.take()));
        self.ward.is_over();
    }
}

impl Guest {
    async fn new(ward: Arc<Ward>) -> Guest {
        Guest {
            waker: poll_fn(|cx| Poll::Ready(cx.waker().clone())).await,
            ward,
            signal: None,
            poll: PollState::new(),
            stood: 0,
            timer: Timer::new(Duration::ZERO),
            timer_us: 0,
            nudges: 0,
        }
    }

    #[inline]
    pub(super) async fn turn<K>(&mut self, runtime: &mut Runtime<K>) -> io::Result<()>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        match runtime.turn(false)? {
            Turn::Busy => self.give_way(runtime).await,
            Turn::Idle => {
                self.settle(runtime)?;
                if self.spin(runtime).await? {
                    self.sleep(runtime).await?;
                }
            }
        }
        Ok(())
    }

    /// As [`Host::settle`].
    #[inline]
    pub(super) fn settle<K>(&mut self, runtime: &mut Runtime<K>) -> io::Result<()>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        if self.signal.is_some() { Ok(()) } else { self.sit(runtime) }
    }

    #[cold]
    fn sit<K>(&mut self, runtime: &mut Runtime<K>) -> io::Result<()>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        let signal = PollableFd::new(runtime.kernel().signal_fd()?).map_err(io_error)?;
        let remote = Arc::clone(&runtime.shard().remote);
        self.ward.sits(Arc::clone(&remote));
        let (waker, ward) = (self.waker.clone(), Arc::clone(&self.ward));
        HERE.set(Some(Here { remote, waker, state: Cell::new(State::Turning), ward }));
        self.signal = Some(signal);
        Ok(())
    }

    /// Lets other tasks run if glommio wants that.
    #[inline]
    async fn give_way<K: Kernel<Bytes = Chain>>(&mut self, runtime: &mut Runtime<K>) {
        if glommio::executor().need_preempt() {
            runtime.rest();
            self.is(State::GaveWay);
            glommio::executor().yield_if_needed().await;
            self.is(State::Turning);
            self.count(runtime);
        }
    }

    fn is(&self, state: State) {
        here(|here| {
            here.state.set(state);
            here.ward.owes(state == State::GaveWay);
            here.ward.sleeps(state == State::Asleep);
        });
    }

    /// Polls for `busy_poll`, and for [`SPIN_NS`] at least, giving way meanwhile. True if nothing came.
    ///
    /// Not for [`SPIN_NS`] while tasks wait: what they asked glommio for goes to the kernel only as it comes round.
    async fn spin<K>(&mut self, runtime: &mut Runtime<K>) -> io::Result<bool>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        let busy_poll = u64::try_from(runtime.shard().limits().busy_poll.as_nanos()).unwrap_or(u64::MAX);
        let least = if runtime.shard().tasks_alive() == 0 { SPIN_NS } else { 0 };
        let whole = busy_poll.max(least);
        let (mut left, mut turns) = (whole, runtime.shard().stats.turns.get());
        while left > 0 {
            let slice = left.min(SLICE_NS);
            if !runtime.spin(slice)? {
                return Ok(false);
            }
            left -= slice;
            // Requests of other shards were served meanwhile: it was not idle.
            let now = runtime.shard().stats.turns.get();
            if std::mem::replace(&mut turns, now) != now {
                left = whole;
            }
            self.give_way(runtime).await;
        }
        Ok(true)
    }

    async fn sleep<K>(&mut self, runtime: &mut Runtime<K>) -> io::Result<()>
    where
        K: Kernel<Bytes = Chain> + Signal,
    {
        let wait_ns = runtime.before_sleep();
        runtime.kernel().set_signal(true);
        if runtime.kernel().needs_enter() {
            runtime.kernel().enter(Wait::No)?;
        }
        let mut is_asleep = false;
        let woken = poll_fn(|cx| {
            if is_asleep {
                // By the poll, the timer, `HERE` or a stray wake: a turn finds out. The poll is asked only where it is
                // spent, as it keeps a waker each time.
                let is_signalled = runtime.kernel().drain_signal();
                let spent = if is_signalled { self.poll(runtime.kernel(), cx).map(|_| ()) } else { Ok(()) };
                return Poll::Ready(spent);
            }
            self.is(State::Asleep);
            if !runtime.announce_sleep() || !runtime.kernel().is_quiet() || self.set_timer(wait_ns, cx) {
                return Poll::Ready(Ok(()));
            }
            match self.poll(runtime.kernel(), cx) {
                Ok(false) => {
                    is_asleep = true;
                    bump(&runtime.shard().stats.parks);
                    Poll::Pending
                }
                other => Poll::Ready(other.map(|_| ())),
            }
        })
        .await;
        self.is(State::Turning);
        runtime.awake();
        runtime.kernel().set_signal(false);
        self.count(runtime);
        woken
    }

    /// Whether the signal came; if not, it will wake the task.
    fn poll<K: Signal>(&mut self, kernel: &mut K, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(signal) = &self.signal else { unreachable!("made before the first sleep") };
        if self.stood >= POLL_AGE {
            self.poll = PollState::new();
            self.stood = 0;
        }
        match signal.poll_readable(cx, &mut self.poll) {
            Poll::Pending => {
                self.stood += 1;
                Ok(false)
            }
            Poll::Ready(result) => {
                self.stood = 0;
                kernel.drain_signal();
                result.map(|()| true).map_err(io_error)
            }
        }
    }

    /// Has the task woken in time. True if the time is over already.
    fn set_timer(&mut self, wait_ns: Option<u64>, cx: &mut Context<'_>) -> bool {
        let ward = &self.ward;
        let Some(wait_ns) = wait_ns else {
            ward.runs_by(u64::MAX);
            return false;
        };
        let now_us = now_us();
        let due_us = now_us.saturating_add(wait_ns.div_ceil(1_000));
        // One that goes off within these microseconds may have gone off already.
        let stands = (now_us + 3..=due_us).contains(&self.timer_us);
        if stands {
            ward.runs_by(self.timer_us);
            return false;
        }
        self.timer.reset(Duration::from_nanos(wait_ns));
        self.timer_us = due_us;
        ward.runs_by(due_us);
        // Once for each time it is set: a second poll would set a second one beside it.
        Pin::new(&mut self.timer).poll(cx).is_ready()
    }

    fn count<K: Kernel<Bytes = Chain>>(&mut self, runtime: &mut Runtime<K>) {
        let nudges = self.ward.nudges();
        if nudges != self.nudges {
            let stat = &runtime.shard().stats.host_nudges;
            stat.set(stat.get() + nudges - self.nudges);
            self.nudges = nudges;
        }
    }
}
