//! A thread that wakes executors which sleep over tasks that are ready.
//!
//! glommio (0.9, and glommio-ng up to 0.12) takes "the time of the queue was over before it began" for "nothing is ready"
//! (`LocalExecutor::run_task_queues`), and parks. On a busy host that happens once in some thousand sleeps. Timers of
//! the same executor do not help for sure: one that has fired leaves a task that is ready too, and none that is set.
//! A waker called on another thread does, always: it writes to the executor's own eventfd.
//!
//! # Rules
//! 1. A shard that is due and has not turned since the look before is woken at every look. It is due when it gave way,
//!    when a task of glommio woke it, when its timer has passed, or when its kernel's signal stands.
//! 2. Every executor is woken four times a second, whatever its shard is at: tasks of the application may be ready.
//! 3. Looking costs a shard nothing. A wake too many costs it a turn.
//!
//! Not here: shards that turn and do not end it (the node's watch).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
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

/// What a shard shows the guard.
pub(super) struct Ward {
    remote: Arc<Remote>,
    waker: Waker,
    owes: AtomicBool,
    timer_us: AtomicU64,
    nudges: AtomicU64,
}

impl Ward {
    /// Has the shard of `remote` watched from now on. `waker` is that of its task.
    ///
    /// # Errors
    /// The thread could not be started (`EAGAIN`), or [`WARDS`] wait to be taken up.
    pub(super) fn new(remote: Arc<Remote>, waker: Waker) -> io::Result<Arc<Ward>> {
        let ward = Arc::new(Ward {
            remote,
            waker,
            owes: AtomicBool::new(false),
            timer_us: AtomicU64::new(u64::MAX),
            nudges: AtomicU64::new(0),
        });
        guard()?
            .try_send(Arc::downgrade(&ward))
            .map_err(|_| io::Error::other("too many executors at once"))?;
        Ok(ward)
    }

    /// The shard's task is ready and has not run, or has run.
    #[inline]
    pub(super) fn owes(&self, owes: bool) {
        self.owes.store(owes, Ordering::Relaxed);
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

    fn is_due(&self, now_us: u64) -> bool {
        self.owes.load(Ordering::Relaxed)
            || now_us > self.timer_us.load(Ordering::Relaxed).saturating_add(TIMER_LATE_US)
            || self.remote.unpark.is_signalled()
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
        let turn = ward.remote.pulse.read().turn;
        let stands = std::mem::replace(&mut self.turn, turn) == turn;
        self.looks += 1;
        let is_due = stands && ward.is_due(now_us);
        if is_due {
            ward.nudges.fetch_add(1, Ordering::Relaxed);
        }
        if is_due || self.looks >= LOOKS {
            self.looks = 0;
            ward.waker.wake_by_ref();
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
        let ward = Arc::new(Ward {
            remote,
            waker: Arc::clone(&count).into(),
            owes: AtomicBool::new(false),
            timer_us: AtomicU64::new(u64::MAX),
            nudges: AtomicU64::new(0),
        });
        let mut seen = Seen { ward: Arc::downgrade(&ward), turn: u64::MAX, looks: 0 };
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
    fn one_that_turns_is_left_alone_but_for_a_wake_now_and_then() {
        let (ward, count, _bell, mut seen) = still();
        ward.owes(true);
        for look in 0..u64::from(LOOKS) * 4 {
            ward.remote.pulse.begin(look);
            seen.look(look);
        }
        let woken = count.0.load(Ordering::Relaxed);
        assert_eq!((woken, ward.nudges()), (4, 0));
        drop(ward);
        assert!(!seen.look(1), "it is gone");
    }
}
