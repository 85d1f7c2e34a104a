//! A shard on the simulator, and the ways tests drive it.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corelane_base::{
    Abilities, BufferId, Clock, Completion, Kernel, KernelStats, Limits, Op, ShardId, Token, Unpark, Wait,
};
use corelane_exec::{BlockingPool, Driver, Event, Runtime, Shard, Task};
use corelane_pools::{Chain, PoolConfig, Pools};
use corelane_sim::{Sim, SimConfig, SimKernel, World};

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn pools() -> Pools {
    Pools::new(&PoolConfig { guard: false, poison: true, ..PoolConfig::default() }).unwrap()
}

/// A shard, its kernel and the world around it.
pub struct Bench<K: Kernel<Bytes = Chain> = SimKernel> {
    pub rt: Runtime<K>,
    pub world: World,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::of(Limits::default())
    }

    pub fn of(limits: Limits) -> Bench {
        Bench::on(SimConfig::of(&limits), limits)
    }

    pub fn on(config: SimConfig, limits: Limits) -> Bench {
        let (kernel, world) = Sim::new(config);
        Bench { rt: Runtime::new(ShardId(0), limits, pools(), kernel, None), world }
    }

    /// With threads for what must block.
    pub fn blocking(pool: &Arc<BlockingPool>) -> Bench {
        let (kernel, world) = Sim::new(SimConfig::default());
        let pool = Some(Arc::clone(pool));
        Bench { rt: Runtime::new(ShardId(0), Limits::default(), pools(), kernel, pool), world }
    }
}

impl Bench<Watched> {
    /// On a kernel that says when it sleeps and is rung.
    pub fn watched(config: SimConfig, limits: Limits) -> (Bench<Watched>, Watch) {
        let (sim, world) = Sim::new(config);
        let watch = Watch::default();
        let bell = Arc::new(Bell { rings: Arc::clone(&watch.rings), sim: sim.unpark() });
        let kernel = Watched { sim, bell, watch: watch.clone() };
        (Bench { rt: Runtime::new(ShardId(0), limits, pools(), kernel, None), world }, watch)
    }
}

impl<K: Kernel<Bytes = Chain>> Bench<K> {
    pub fn shard(&self) -> &Rc<Shard> {
        self.rt.shard()
    }

    pub fn turn(&mut self) {
        self.rt.turn(true).unwrap();
    }

    pub fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }

    /// Starts a task and leaves it to itself.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.rt.within(|shard| shard.spawn(future)).unwrap().detach();
    }

    fn start<T: 'static>(
        &mut self,
        future: impl Future<Output = T> + 'static,
    ) -> (Task<()>, Rc<RefCell<Option<T>>>) {
        let out = Rc::new(RefCell::new(None));
        let into = Rc::clone(&out);
        let task = self.rt.within(|shard| {
            shard.spawn(async move {
                let value = future.await;
                *into.borrow_mut() = Some(value);
            })
        });
        (task.unwrap(), out)
    }

    /// Turns until `future` is done.
    pub fn run<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let (task, out) = self.start(future);
        for _ in 0..200_000 {
            self.turn();
            if task.is_finished() {
                return out.take().expect("the future panicked");
            }
        }
        self.stuck("the future does not come to an end");
    }

    fn stuck(&self, what: &str) -> ! {
        let log = self.world.log();
        let lines: Vec<&str> = log.lines().collect();
        panic!("{what}; the last events:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
    }

    /// Turns until `done`, with pauses in which other threads get on. Fails after some 30 seconds.
    pub fn until(&mut self, mut done: impl FnMut() -> bool) {
        for _ in 0..300_000 {
            self.turn();
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        self.stuck("it does not happen");
    }

    /// As [`Bench::run`], where threads take part.
    pub fn run_with_threads<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let (task, out) = self.start(future);
        self.until(|| task.is_finished());
        out.take().expect("the future panicked")
    }

    /// Turns until nothing is left to do at this time.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..50_000 {
            let before = self.progress();
            self.turn();
            quiet = if before == self.progress() && self.world.is_idle() { quiet + 1 } else { 0 };
            if quiet > 3 {
                return;
            }
        }
        self.stuck("the shard does not come to rest");
    }

    /// What moves as long as something goes on; an operation given back by the kernel is tried every turn.
    fn progress(&self) -> [u64; 3] {
        let stats = &self.rt.shard().stats;
        [stats.completions.get(), stats.tasks_polled.get(), stats.submission_full.get()]
    }
}

/// A driver that writes down what it is told.
#[derive(Default)]
pub struct Recorder {
    /// Token and time of each timer that fired.
    pub timers: RefCell<Vec<(Token, u64)>>,
    /// Token and result of each completion.
    pub completions: RefCell<Vec<(Token, i32)>>,
    pub flushes: Cell<u64>,
    /// What `flush` answers.
    pub again: Cell<bool>,
}

impl Driver for Recorder {
    fn complete(&self, _shard: &Shard, event: Event<'_>) {
        self.completions.borrow_mut().push((event.token, event.result));
    }

    fn timer(&self, shard: &Shard, token: Token) {
        self.timers.borrow_mut().push((token, shard.now().mono_ns));
    }

    fn flush(&self, _shard: &Shard) -> bool {
        self.flushes.set(self.flushes.get() + 1);
        self.again.get()
    }
}

/// What a [`Watched`] kernel saw, and what it calls.
#[derive(Clone, Default)]
pub struct Watch {
    rings: Arc<AtomicU64>,
    /// Lengths of the sleeps asked for.
    pub lengths: Rc<RefCell<Vec<Option<u64>>>>,
    on_sleep: Hook,
    on_clock: Hook,
    fails: Rc<Cell<bool>>,
    /// CPU time that the thread is said to have had.
    pub cpu_ns: Rc<Cell<u64>>,
    /// Times of the sleeps that were to gather.
    pub gathered: Rc<RefCell<Vec<u64>>>,
}

type Hook = Rc<RefCell<Option<Box<dyn FnOnce()>>>>;

impl Watch {
    pub fn rings(&self) -> u64 {
        self.rings.load(Ordering::SeqCst)
    }

    /// How often the shard slept.
    pub fn sleeps(&self) -> usize {
        self.lengths.borrow().len()
    }

    /// From now on the kernel refuses to be entered.
    pub fn fail_enters(&self) {
        self.fails.set(true);
    }

    /// Runs once, when the shard has fallen asleep: only a ring ends that sleep before its time.
    pub fn at_sleep(&self, action: impl FnOnce() + 'static) {
        *self.on_sleep.borrow_mut() = Some(Box::new(action));
    }

    /// Runs once, at the next reading of the clock.
    pub fn at_clock(&self, action: impl FnOnce() + 'static) {
        *self.on_clock.borrow_mut() = Some(Box::new(action));
    }
}

fn call(hook: &Hook) {
    let action = hook.borrow_mut().take();
    if let Some(action) = action {
        action();
    }
}

#[derive(Debug)]
struct Bell {
    rings: Arc<AtomicU64>,
    sim: Arc<dyn Unpark>,
}

impl Unpark for Bell {
    fn unpark(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        self.sim.unpark();
    }
}

/// The simulated kernel with somebody who looks on.
pub struct Watched {
    sim: SimKernel,
    bell: Arc<Bell>,
    watch: Watch,
}

impl Kernel for Watched {
    type Bytes = Chain;

    fn push(&mut self, op: Op<Chain>) -> Result<(), Op<Chain>> {
        self.sim.push(op)
    }

    fn needs_enter(&self) -> bool {
        self.sim.needs_enter()
    }

    fn enter(&mut self, wait: Wait) -> std::io::Result<()> {
        if self.watch.fails.get() {
            return Err(std::io::Error::other("this kernel is gone"));
        }
        if let Wait::Until(limit) = wait {
            self.watch.lengths.borrow_mut().push(limit);
            call(&self.watch.on_sleep);
        }
        self.sim.enter(wait)
    }

    fn gather(&mut self, wait: Wait, within_ns: u64) -> std::io::Result<()> {
        self.watch.gathered.borrow_mut().push(within_ns);
        self.enter(wait)
    }

    fn cpu_ns(&mut self) -> u64 {
        self.watch.cpu_ns.get()
    }

    fn pop(&mut self) -> Option<Completion<Chain>> {
        self.sim.pop()
    }

    fn received(&self, buffer: BufferId, len: u32) -> &[u8] {
        self.sim.received(buffer, len)
    }

    fn recycle(&mut self, buffer: BufferId) {
        self.sim.recycle(buffer);
    }

    fn clock(&mut self) -> Clock {
        call(&self.watch.on_clock);
        self.sim.clock()
    }

    fn unpark(&self) -> Arc<dyn Unpark> {
        Arc::clone(&self.bell) as Arc<dyn Unpark>
    }

    fn abilities(&self) -> Abilities {
        self.sim.abilities()
    }

    fn stats(&self) -> KernelStats {
        self.sim.stats()
    }
}
