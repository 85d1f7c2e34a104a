//! A thread that wakes executors which sleep over tasks that are ready.
//!
//! glommio (0.9, and glommio-ng up to 0.12) takes "the time of the queue was over before it began" for "nothing is ready"
//! (`LocalExecutor::run_task_queues`), and parks. On a busy host that happens once in some thousand sleeps. Timers of
//! the same executor do not help for sure: one that has fired leaves a task that is ready too, and none that is set.
//! A waker called on another thread does, always: it writes to the executor's own eventfd.
//!
//! # Rules
//! 1. An executor whose shard is due and has not turned since the look before is woken at every look. A shard is due
//!    when it gave way, when a task of glommio woke it, and, asleep, when its timer has passed or its kernel's signal
//!    stands. Before the shard has settled and after its last turn there is no telling: the executor is woken at every
//!    look.
//! 2. An executor whose shard does not turn is woken four times a second, whatever that is at: tasks of the application may
//!    be ready. (Where a node's watch asks idle shards to turn, that does it.)
//! 3. Looking costs a shard nothing.
//! 4. The waker is called and dropped under a lock, and taken out by the executor's own thread before the executor ends:
//!    glommio frees a task as its owner drops it, whoever else is about to.
//!
//! Not here: shards that turn and do not end it (the node's watch).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[expect(
    clippy::disallowed_types,
    reason = "rule 4: a look each 10 ms against the start and the end of an executor"
)]
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::remote::Remote;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// Looks between two wakes of an executor that seems to need none (rule 2).
const LOOKS: u32 = 25;

/// How late a timer may be before it counts: glommio's own lateness.
const TIMER_LATE_US: u64 = 5_000;

/// Executors of a process that can be told of between two looks; the node has at most 1024 shards.
const WARDS: usize = 1_024;

/// What an executor and its shard show the guard.
pub(super) struct Ward {
    /// Of a task of the executor that is never done; none once the executor is about to end.
    #[expect(clippy::disallowed_types, reason = "rule 4")]
    waker: Mutex<Option<Waker>>,
    /// Once it has settled.
    shard: OnceLock<Arc<Remote>>,
    /// The shard has turned for the last time.
    is_over: AtomicBool,
    is_asleep: AtomicBool,
    owes: AtomicBool,
    timer_us: AtomicU64,
    nudges: AtomicU64,
}

impl Ward {
    fn of(waker: Waker) -> Ward {
        Ward {
            #[expect(clippy::disallowed_types, reason = "rule 4")]
            waker: Mutex::new(Some(waker)),
            shard: OnceLock::new(),
            is_over: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            owes: AtomicBool::new(false),
            timer_us: AtomicU64::new(u64::MAX),
            nudges: AtomicU64::new(0),
        }
    }

    /// Has an executor watched from now on. `waker` is that of one of its tasks which is never done.
    ///
    /// # Errors
    /// The thread could not be started (`EAGAIN`), or [`WARDS`] wait to be taken up.
    pub(super) fn new(waker: Waker) -> io::Result<Arc<Ward>> {
        let ward = Arc::new(Ward::of(waker));
        guard()?
            .try_send(Arc::downgrade(&ward))
            .map_err(|_| io::Error::other("too many executors at once"))?;
        Ok(ward)
    }

    /// The executor is about to end, and this is its thread (rule 4).
    pub(super) fn end(&self) {
        drop(self.waker.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Its shard is there: from now on what it shows tells whether it is due.
    pub(super) fn sits(&self, shard: Arc<Remote>) {
        let _ = self.shard.set(shard);
    }

    /// Its shard has turned for the last time.
    pub(super) fn is_over(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// The shard's task is ready and has not run, or runs.
    #[inline]
    pub(super) fn owes(&self, owes: bool) {
        self.owes.store(owes, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn sleeps(&self, is_asleep: bool) {
        self.is_asleep.store(is_asleep, Ordering::Relaxed);
    }

    /// When the task is to run at the latest, as [`now_us`] counts.
    #[inline]
    pub(super) fn runs_by(&self, timer_us: u64) {
        self.timer_us.store(timer_us, Ordering::Relaxed);
    }

    /// How often it was woken because it was due.
    pub(super) fn nudges(&self) -> u64 {
        self.nudges.load(Ordering::Relaxed)
    }

    fn is_due(&self, shard: &Remote, now_us: u64) -> bool {
        let is_late = || now_us > self.timer_us.load(Ordering::Relaxed).saturating_add(TIMER_LATE_US);
        self.owes.load(Ordering::Relaxed)
            || (self.is_asleep.load(Ordering::Relaxed) && (is_late() || shard.unpark.is_signalled()))
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

/// What was seen of a ward at the look before.
struct Seen {
    ward: Weak<Ward>,
    turn: u64,
    looks: u32,
}

impl Seen {
    /// Looks at it. False once it is gone.
    fn look(&mut self, now_us: u64) -> bool {
        let Some(ward) = self.ward.upgrade() else { return false };
        let shard = ward.shard.get().filter(|_| !ward.is_over.load(Ordering::Relaxed));
        let Some(shard) = shard else {
            ward.wake();
            return true;
        };
        let turn = shard.pulse.read().turn;
        if std::mem::replace(&mut self.turn, turn) != turn {
            self.looks = 0;
            return true;
        }
        self.looks += 1;
        let is_due = ward.is_due(shard, now_us);
        if is_due {
            ward.nudges.fetch_add(1, Ordering::Relaxed);
        }
        if is_due || self.looks >= LOOKS {
            self.looks = 0;
            ward.wake();
        }
        true
    }
}

/// Microseconds since the process first asked.
#[expect(
    clippy::disallowed_methods,
    reason = "the guard and glommio's timers have no kernel of a shard to ask"
)]
pub(super) fn now_us() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    u64::try_from(FIRST.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Starts the thread, if it does not run yet.
///
/// # Errors
/// `EAGAIN`: no further thread.
pub(super) fn prepare() -> io::Result<()> {
    guard().map(|_| ())
}

fn guard() -> io::Result<&'static Sender<Weak<Ward>>> {
    static GUARD: OnceLock<Sender<Weak<Ward>>> = OnceLock::new();
    if let Some(guard) = GUARD.get() {
        return Ok(guard);
    }
    let (tell, hear) = bounded(WARDS);
    // Two that come at once may start two: the one nobody tells of anything ends at once.
    std::thread::Builder::new().name("glommio-guard".to_owned()).spawn(move || keep(&hear))?;
    Ok(GUARD.get_or_init(|| tell))
}

fn keep(hear: &Receiver<Weak<Ward>>) {
    let mut all: Vec<Seen> = Vec::new();
    loop {
        // With nobody to look at, it waits without a time.
        let told = if all.is_empty() {
            hear.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            hear.recv_timeout(LOOK)
        };
        match told {
            Ok(ward) => all.push(Seen { ward, turn: u64::MAX, looks: 0 }),
            Err(RecvTimeoutError::Timeout) => {
                let now_us = now_us();
                all.retain_mut(|seen| seen.look(now_us));
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use corelane_base::{Limits, ShardId, Unpark};

    use super::*;
    use crate::remote::tests_remote;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[derive(Debug, Default)]
    struct Bell(AtomicBool);

    impl Unpark for Bell {
        fn unpark(&self) {}
        fn is_signalled(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// A shard that never turns unless told to, and what the guard sees of it.
    fn still() -> (Arc<Ward>, Arc<Count>, Arc<Bell>, Seen) {
        let (count, bell) = (Arc::new(Count::default()), Arc::new(Bell::default()));
        let remote = tests_remote(ShardId(0), &Limits::default(), Arc::clone(&bell) as Arc<dyn Unpark>);
        let ward = Arc::new(Ward::of(Arc::clone(&count).into()));
        let mut seen = Seen { ward: Arc::downgrade(&ward), turn: u64::MAX, looks: 0 };
        assert!(seen.look(0));
        assert_eq!(count.0.swap(0, Ordering::Relaxed), 1, "before the shard has settled there is no telling");
        ward.sits(remote);
        assert!(seen.look(0));
        (ward, count, bell, seen)
    }

    #[test]
    fn one_that_is_due_and_does_not_turn_is_woken_at_every_look() {
        let (ward, count, bell, mut seen) = still();
        seen.look(1);
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "it owes nothing");
        ward.owes(true);
        seen.look(2);
        seen.look(3);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        ward.owes(false);
        ward.runs_by(10);
        bell.0.store(true, Ordering::Relaxed);
        seen.look(20 + TIMER_LATE_US);
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "it is awake, and will look itself");
        bell.0.store(false, Ordering::Relaxed);
        ward.sleeps(true);
        seen.look(10 + TIMER_LATE_US);
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "late, as timers are");
        seen.look(11 + TIMER_LATE_US);
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
        ward.runs_by(u64::MAX);
        bell.0.store(true, Ordering::Relaxed);
        seen.look(20);
        assert_eq!((count.0.load(Ordering::Relaxed), ward.nudges()), (4, 4), "its kernel has something");
    }

    #[test]
    fn one_that_turns_is_left_alone_and_one_that_rests_is_woken_now_and_then() {
        let (ward, count, _bell, mut seen) = still();
        let shard = Arc::clone(ward.shard.get().unwrap());
        ward.owes(true);
        for look in 0..u64::from(LOOKS) * 4 {
            shard.pulse.begin(look);
            seen.look(look);
        }
        assert_eq!((count.0.load(Ordering::Relaxed), ward.nudges()), (0, 0));
        ward.owes(false);
        for look in 0..u64::from(LOOKS) * 4 {
            seen.look(look);
        }
        assert_eq!((count.0.load(Ordering::Relaxed), ward.nudges()), (4, 0));
    }

    #[test]
    fn an_executor_that_is_about_to_end_is_woken_until_its_waker_is_gone() {
        let (ward, count, _bell, mut seen) = still();
        ward.is_over();
        seen.look(1);
        seen.look(2);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        ward.end();
        seen.look(3);
        assert_eq!((count.0.load(Ordering::Relaxed), Arc::strong_count(&count)), (2, 1));
        drop(ward);
        assert!(!seen.look(4), "it is gone");
    }
}
