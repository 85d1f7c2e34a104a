//! Turns: what a host may do between them, what they took, and what a shard that ends leaves behind.
#![allow(clippy::unwrap_used)]

mod cluster;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cluster::Cluster;
use corelane_base::{
    BufferId, Clock, Completion, Kernel, KernelStats, Limits, Op, ShardId, Token, Unpark, Wait,
};
use corelane_exec::{Runtime, Shard, Turn, seats};
use corelane_pools::{Chain, PoolConfig, Pools};
use corelane_sim::{Fault, Faults, Sim, SimConfig, SimKernel, World};

#[test]
fn a_shard_whose_host_spawned_a_task_or_sent_a_message_since_its_turn_does_not_sleep() {
    let mut cluster = Cluster::new(2, &Limits::default());
    cluster.settle(|| false);
    let rt = &mut cluster.nodes[0].rt;
    while rt.turn(false).unwrap() == Turn::Busy {}
    rt.within(|shard| shard.spawn(async {}).unwrap().detach());
    assert!(!rt.announce_sleep(), "slept over a task");
    while rt.turn(false).unwrap() == Turn::Busy {}
    rt.within(|shard| shard.mesh().cast(ShardId(1), Nothing).unwrap());
    assert!(!rt.announce_sleep(), "slept over a message that nobody was shown");
    while rt.turn(false).unwrap() == Turn::Busy {}
    rt.within(|shard| shard.push(Op::Cancel { target: Token::new(0, 0, 0, 0), token: Token::NONE }));
    assert!(!rt.announce_sleep(), "slept over an operation");
    while rt.turn(false).unwrap() == Turn::Busy {}
    assert!(rt.announce_sleep());
    rt.awake();
}

struct Nothing;

impl corelane_exec::Message for Nothing {
    type Reply = ();
    fn handle(self, _: &Rc<Shard>) {}
}

#[test]
fn a_sleeper_is_woken_for_what_a_shard_sent_in_its_last_turn_although_its_kernel_took_nothing() {
    let mut cluster = Cluster::new(2, &Limits::default());
    cluster.settle(|| false);
    let mut first = cluster.nodes.remove(0);
    first.world.set_faults(Faults::none().with(Fault::SubmissionFull, 1.0));
    first.rt.awake();
    first.rt.within(|shard| {
        let last = async {
            corelane_exec::mesh().cast(ShardId(1), Nothing).unwrap();
            corelane_exec::current().stop();
        };
        shard.spawn(last).unwrap().detach();
    });
    first.rt.run().unwrap();
    drop(first);
    let sleeper = &mut cluster.nodes[0].rt;
    assert!(sleeper.shard().handle().has_work(), "it was sent");
    assert!(sleeper.kernel().is_rung(), "and nobody rang");
}

/// A kernel that does something once, as its clock is read for the end of a turn.
struct Hooked {
    sim: SimKernel,
    at_end: Hook,
    /// It does not say whether it has work, as kernels before 5.19.
    mute: bool,
}

type Hook = Rc<RefCell<Option<Box<dyn FnOnce()>>>>;

impl Kernel for Hooked {
    type Bytes = Chain;

    fn push(&mut self, op: Op<Chain>) -> Result<(), Op<Chain>> {
        self.sim.push(op)
    }

    fn needs_enter(&self) -> bool {
        self.mute || self.sim.needs_enter()
    }

    fn enter(&mut self, wait: Wait) -> std::io::Result<()> {
        self.sim.enter(wait)
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
        self.sim.clock()
    }

    fn mono_ns(&mut self) -> u64 {
        let action = self.at_end.borrow_mut().take();
        if let Some(action) = action {
            action();
        }
        self.sim.clock().mono_ns
    }

    fn unpark(&self) -> Arc<dyn Unpark> {
        self.sim.unpark()
    }

    fn stats(&self) -> KernelStats {
        self.sim.stats()
    }
}

#[test]
fn what_a_busy_poll_does_for_others_counts_as_work_and_as_a_stall() {
    let limits = Limits { busy_poll: Duration::from_millis(1), ..Limits::default() };
    let mut places = seats(2, &limits).into_iter();
    let make = |n: u16, seat, at_end: &Hook| {
        let config = SimConfig { clock_cost: Duration::from_micros(10), ..SimConfig::of(&limits) };
        let (sim, world) = Sim::new(config);
        let kernel = Hooked { sim, at_end: Rc::clone(at_end), mute: false };
        let pools = Pools::new(&PoolConfig::default()).unwrap();
        (Runtime::on_mesh(ShardId(n), limits.clone(), pools, kernel, None, seat), world)
    };
    let (hook, none) = (Hook::default(), Hook::default());
    let (mut polls, world) = make(0, places.next().unwrap(), &hook);
    let (asks, _) = make(1, places.next().unwrap(), &none);
    let asks = Rc::new(RefCell::new(asks));
    thread_local! {
        static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
        static SEEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    WORLD.set(Some(world));
    // Sleeps, and enters its kernel for that.
    for _ in 0..5 {
        polls.turn(true).unwrap();
    }
    let from = Rc::clone(&asks);
    *hook.borrow_mut() = Some(Box::new(move || {
        let mut from = from.borrow_mut();
        from.within(|shard| {
            let work = |shard: &Rc<Shard>| {
                SEEN.set(shard.kernel_stats().enters);
                WORLD.with_borrow(|world| world.as_ref().unwrap().advance(Duration::from_millis(40)));
                // Leaves something for the kernel, as an answer to a client would.
                shard.push(Op::Cancel { target: Token::new(0, 0, 0, 0), token: Token::NONE });
            };
            drop(shard.mesh().with(ShardId(0), work));
        });
        assert_eq!(from.turn(false).unwrap(), Turn::Idle);
    }));
    for _ in 0..3 {
        polls.turn(true).unwrap();
    }
    assert_eq!(polls.shard().mesh_stats.requests_in.get(), 1);
    let busy = polls.shard().stats.busy_ns.get();
    assert!((40_000_000..50_000_000).contains(&busy), "{busy} ns of 40 ms");
    assert_eq!(polls.shard().stats.stalls.get(), 1);
    assert!(SEEN.get() >= 5, "the kernel was entered {} times, as it is told", SEEN.get());
}

#[test]
fn what_panics_as_its_shard_ends_does_not_keep_the_rest_from_ending() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a value that panics as it is dropped");
        }
    }
    struct Mark(Rc<RefCell<Vec<&'static str>>>, &'static str);
    impl Drop for Mark {
        fn drop(&mut self) {
            self.0.borrow_mut().push(self.1);
        }
    }
    struct Table(#[allow(dead_code)] Mark, #[allow(dead_code)] Bomb);
    impl corelane_exec::Driver for Table {
        fn complete(&self, _: &Shard, _: corelane_exec::Event<'_>) {}
        fn timer(&self, _: &Shard, _: Token) {}
        fn flush(&self, _: &Shard) -> bool {
            false
        }
    }
    let mut cluster = Cluster::new(1, &Limits::default());
    let ended = Rc::new(RefCell::new(Vec::new()));
    cluster.on(0, |shard, _| {
        let mark = |name| Mark(Rc::clone(&ended), name);
        let (message, bomb) = (Bomb, Bomb);
        shard.handle().send(move |_| drop(message)).unwrap();
        shard.local(|| bomb);
        let local = mark("local");
        shard.local(|| local);
        shard.add_driver(Rc::new(Table(mark("driver"), Bomb)));
    });
    drop(cluster);
    assert_eq!(*ended.borrow(), ["local", "driver"]);
}

#[test]
fn a_message_of_another_thread_that_panics_does_not_end_the_shard() {
    let mut cluster = Cluster::new(1, &Limits::default());
    let handle = cluster.nodes[0].rt.shard().handle();
    handle.send(|_| panic!("a message that panics")).unwrap();
    cluster.settle(|| false);
    assert_eq!(cluster.on(0, |shard, _| shard.stats.tasks_panicked.get()), 1);
}

#[test]
fn a_busy_poll_over_a_kernel_that_must_always_be_entered_ends_in_a_sleep() {
    let limits = Limits { busy_poll: Duration::from_millis(1), ..Limits::default() };
    let config = SimConfig { clock_cost: Duration::from_micros(10), ..SimConfig::of(&limits) };
    let (sim, _world) = Sim::new(config);
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let kernel = Hooked { sim, at_end: Hook::default(), mute: true };
    let mut rt = Runtime::new(ShardId(0), limits, pools, kernel, None);
    for _ in 0..1_000 {
        rt.turn(true).unwrap();
    }
    assert!(rt.shard().stats.parks.get() > 900, "{} sleeps", rt.shard().stats.parks.get());
}
