//! What a shard owns, and what code that runs on it may ask.
//!
//! # Rules (SAFETY comments cite these numbers)
//! 1. `CURRENT` points at the shard whose turn this thread is in, or is null. It is set by
//!    `Entered`, which holds an `Rc` of that shard for as long as the pointer stands.
//! 2. No borrow of a cell of the shard is held across a call into a driver, a task or a waker.
//!
//! Not here: the loop (`turn`).

use std::any::Any;
use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_task::Runnable;
use corelane_base::{Abilities, Clock, KernelStats, Limits, Op, ShardId, Unpark};
use corelane_pools::{Chain, Pools};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use crate::blocking::BlockingPool;
use crate::driver::Driver;
use crate::io::IoSlots;
use crate::mesh::{MeshState, MeshStats, Seat};
use crate::remote::{MESSAGES_MAX, Remote, ShardHandle};
use crate::stats::Stats;
use crate::task::Tasks;
use crate::timer::Wheel;
use crate::watch::{Pulse, Steps};

/// An operation of a shard.
pub type ShardOp = Op<Chain>;

/// One core's worth of everything. Reached by `&Shard` in drivers and by [`current`] in tasks.
pub struct Shard {
    id: ShardId,
    pub(crate) limits: Rc<Limits>,
    pools: Pools,
    pub(crate) ops: RefCell<VecDeque<ShardOp>>,
    pub(crate) ready: RefCell<VecDeque<Runnable>>,
    pub(crate) tasks: RefCell<Tasks>,
    pub(crate) timers: RefCell<Wheel>,
    pub(crate) io: RefCell<IoSlots>,
    pub(crate) drivers: RefCell<Vec<Rc<dyn Driver>>>,
    pub(crate) now: Cell<Clock>,
    pub(crate) remote: Arc<Remote>,
    pub(crate) blocking: Option<Arc<BlockingPool>>,
    pub(crate) stopping: Cell<bool>,
    pub(crate) again: Cell<bool>,
    locals: RefCell<Vec<Rc<dyn Any>>>,
    abilities: Abilities,
    pub(crate) mesh: MeshState,
    pub(crate) steps: Steps,
    pub(crate) last_turn_ns: Cell<u64>,
    pub(crate) kernel_stats: Cell<KernelStats>,
    /// Counters.
    pub stats: Stats,
    /// Counters of calls to and from other shards.
    pub mesh_stats: MeshStats,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shard({})", self.id.0)
    }
}

impl Shard {
    #[allow(clippy::too_many_arguments)] // one caller, which has them all
    pub(crate) fn new(
        id: ShardId,
        limits: Rc<Limits>,
        pools: Pools,
        clock: Clock,
        unpark: Arc<dyn Unpark>,
        abilities: Abilities,
        blocking: Option<Arc<BlockingPool>>,
        seat: Seat,
    ) -> Rc<Shard> {
        static UNIQUE: AtomicU64 = AtomicU64::new(1);
        let remote = Arc::new(Remote {
            id,
            unique: UNIQUE.fetch_add(1, Ordering::Relaxed),
            wakes: ArrayQueue::new(limits.tasks_max as usize),
            messages: ArrayQueue::new(MESSAGES_MAX),
            door: Arc::clone(seat.door()),
            unpark,
            pulse: CachePadded::new(Pulse::new()),
        });
        let place = seat.here();
        let mesh = MeshState::new(seat, limits.mesh_waiting_max);
        mesh.roster().set(place, ShardHandle(Arc::clone(&remote)));
        Rc::new(Shard {
            id,
            limits,
            pools,
            ops: RefCell::new(VecDeque::with_capacity(1024)),
            ready: RefCell::new(VecDeque::new()),
            tasks: RefCell::new(Tasks::default()),
            timers: RefCell::new(Wheel::new(clock.mono_ns)),
            io: RefCell::new(IoSlots::default()),
            drivers: RefCell::new(Vec::new()),
            now: Cell::new(clock),
            remote,
            blocking,
            stopping: Cell::new(false),
            again: Cell::new(false),
            locals: RefCell::new(Vec::new()),
            abilities,
            mesh,
            steps: Steps::new(),
            last_turn_ns: Cell::new(0),
            kernel_stats: Cell::new(KernelStats::default()),
            stats: Stats::default(),
            mesh_stats: MeshStats::default(),
        })
    }

    /// Which shard.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Its maxima.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Its memory.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// The time, as read at the beginning of this turn.
    #[inline]
    pub fn now(&self) -> Clock {
        self.now.get()
    }

    /// How long the turn before this one took, its sleep left out.
    #[inline]
    pub fn last_turn_ns(&self) -> u64 {
        self.last_turn_ns.get()
    }

    /// Counters of its kernel, as they were when this turn took up what other threads and shards sent: whoever
    /// asks from there sees the present ones.
    pub fn kernel_stats(&self) -> KernelStats {
        self.kernel_stats.get()
    }

    /// What its kernel can do beyond what every one can.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Queues an operation; it reaches the kernel before the turn ends.
    #[inline]
    pub fn push(&self, op: ShardOp) {
        self.ops.borrow_mut().push_back(op);
    }

    /// A step of the turn is over, and the next one begins.
    #[inline]
    pub(crate) fn step(&self, next: crate::watch::Name) {
        self.steps.end(&self.remote.pulse);
        self.remote.pulse.note(next);
    }

    /// Whether other shards sent something.
    #[inline]
    pub(crate) fn has_lanes_to_take(&self) -> bool {
        self.remote.door.is_dirty() || self.mesh.has_left()
    }

    /// Adds a table of connections and gives the `owner` of its tokens. At most 126 a shard.
    pub fn add_driver(&self, driver: Rc<dyn Driver>) -> u8 {
        let mut drivers = self.drivers.borrow_mut();
        drivers.push(driver);
        let owner = u8::try_from(drivers.len()).unwrap_or(u8::MAX);
        assert!(owner <= corelane_base::Token::OWNER_MAX, "too many drivers on one shard");
        owner
    }

    /// The drivers so far, in the order of their owners from 1.
    pub(crate) fn drivers(&self) -> Ref<'_, Vec<Rc<dyn Driver>>> {
        self.drivers.borrow()
    }

    /// A handle for other threads.
    pub fn handle(&self) -> ShardHandle {
        ShardHandle(Arc::clone(&self.remote))
    }

    /// The one value of type `T` that this shard keeps, made by `make` at the first call. For tables and
    /// state that code on the shard reaches by type; a handful of them, found by a linear search.
    pub fn local<T: 'static>(&self, make: impl FnOnce() -> T) -> Rc<T> {
        let found = self.locals.borrow().iter().find_map(|any| Rc::downcast::<T>(Rc::clone(any)).ok());
        if let Some(found) = found {
            return found;
        }
        let made = Rc::new(make());
        self.locals.borrow_mut().push(Rc::clone(&made) as Rc<dyn Any>);
        made
    }

    /// Lets go of what may hold the shard: its locals, and the files that operations under way keep open.
    pub(crate) fn drop_locals(&self) {
        let locals = std::mem::take(&mut *self.locals.borrow_mut());
        drop(locals);
        let kept = self.io.borrow_mut().take_kept();
        drop(kept);
    }

    /// Keeps the present turn from sleeping at its end: whoever turns the shard is to look at it first.
    pub fn turn_again(&self) {
        self.again.set(true);
    }

    /// Makes the present turn the last one of [`Runtime::run`](crate::Runtime::run) and of [`Host::run`](crate::Host::run).
    pub fn stop(&self) {
        self.stopping.set(true);
    }

    /// Whether it was told to.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Tasks alive.
    pub fn tasks_alive(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Tasks ready to run.
    pub fn run_queue(&self) -> usize {
        self.ready.borrow().len()
    }
}

thread_local! {
    static CURRENT: Cell<*const Shard> = const { Cell::new(ptr::null()) };
}

/// Marks a shard as the current one of this thread until dropped. Nests.
pub(crate) struct Entered {
    before: *const Shard,
    _shard: Rc<Shard>,
}

impl Entered {
    pub(crate) fn enter(shard: &Rc<Shard>) -> Entered {
        let before = CURRENT.replace(Rc::as_ptr(shard));
        Entered { before, _shard: Rc::clone(shard) }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// The shard this code runs on.
///
/// # Panics
/// Outside a shard's turn: the caller's mistake, not a peer's.
pub fn current() -> Rc<Shard> {
    match try_current() {
        Some(shard) => shard,
        None => panic!("this needs a shard: call it from a handler, a spawned task or a start hook"),
    }
}

/// The shard this code runs on, if it runs on one.
pub fn try_current() -> Option<Rc<Shard>> {
    let at = CURRENT.get();
    if at.is_null() {
        return None;
    }
    // SAFETY: rule 1. A non-null pointer came from `Rc::as_ptr` of an `Rc` that `Entered` still holds, so
    // the count is at least one and may be raised for the clone handed out here.
    Some(unsafe {
        Rc::increment_strong_count(at);
        Rc::from_raw(at)
    })
}

/// Whether this thread is in a turn of the shard with this process-wide number.
pub(crate) fn is_current(unique: u64) -> bool {
    let at = CURRENT.get();
    // SAFETY: rule 1. Non-null means that the shard lives until `Entered` is dropped, which cannot happen
    // while this function runs on the same thread.
    !at.is_null() && unsafe { &*at }.remote.unique == unique
}

/// Runs `f` with the current shard, without touching its reference count.
pub(crate) fn with_current<R>(f: impl FnOnce(&Shard) -> R) -> Option<R> {
    let at = CURRENT.get();
    // SAFETY: rule 1, as above: the reference does not outlive this call, and `Entered` does.
    if at.is_null() { None } else { Some(f(unsafe { &*at })) }
}
