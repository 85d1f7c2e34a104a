//! Messages to a shard: order, limit, wake-up.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Bench, Watch, Watched, pools};
use corelane_base::{BufferId, Clock, Completion, Kernel, KernelStats, Limits, Op, ShardId, Unpark, Wait};
use corelane_exec::remote::MESSAGES_MAX;
use corelane_exec::{Runtime, Turn, spawn, try_current};
use corelane_pools::Chain;
use corelane_sim::{Sim, SimConfig, SimKernel};
use crossbeam_channel::bounded;

/// What messages wrote down, where they may only run on their shard's thread.
type Seen = Arc<crossbeam_queue::ArrayQueue<u64>>;

fn seen() -> Seen {
    Arc::new(crossbeam_queue::ArrayQueue::new(4_096))
}

fn all(seen: &Seen) -> Vec<u64> {
    std::iter::from_fn(|| seen.pop()).collect()
}

#[test]
fn messages_run_in_the_order_sent_inside_the_turn() {
    let mut b = Bench::new();
    let (handle, seen) = (b.shard().handle(), seen());
    assert_eq!(handle.id(), b.shard().id());
    for n in 0..10 {
        let seen = Arc::clone(&seen);
        handle
            .send(move |shard| {
                assert_eq!(try_current().map(|current| current.id()), Some(shard.id()));
                seen.push(n).unwrap();
            })
            .unwrap();
    }
    assert!(seen.is_empty(), "not there and then");
    assert_eq!(b.rt.turn(true).unwrap(), Turn::Busy, "something was done");
    assert_eq!(all(&seen), (0..10).collect::<Vec<_>>());
    assert_eq!(b.shard().stats.mailbox_taken.get(), 10);
    assert_eq!(b.rt.turn(true).unwrap(), Turn::Idle);
}

#[test]
fn a_message_may_start_a_task_that_runs_in_the_same_turn() {
    let mut b = Bench::new();
    let seen = seen();
    let into = Arc::clone(&seen);
    b.shard()
        .handle()
        .send(move |_| {
            spawn(async move { into.push(1).unwrap() }).unwrap().detach();
        })
        .unwrap();
    b.turn();
    assert_eq!(all(&seen), [1]);
}

#[test]
fn messages_max_messages_wait_and_one_more_is_refused_until_a_turn_took_them() {
    let mut b = Bench::new();
    let (handle, seen) = (b.shard().handle(), seen());
    let send = |n: u64| {
        let seen = Arc::clone(&seen);
        handle.send(move |_| seen.push(n).unwrap())
    };
    for n in 0..MESSAGES_MAX as u64 {
        send(n).unwrap();
    }
    let full = send(999).unwrap_err();
    assert_eq!((full.what, full.max), ("messages_max", MESSAGES_MAX as u64));
    b.turn();
    assert_eq!(all(&seen), (0..MESSAGES_MAX as u64).collect::<Vec<_>>());
    send(7).unwrap();
    b.turn();
    assert_eq!(all(&seen), [7]);
}

#[test]
fn a_message_sent_by_a_message_waits_for_the_next_turn() {
    fn again(handle: corelane_exec::ShardHandle, seen: Seen, n: u64) {
        let next = handle.clone();
        let message = move |_: &corelane_exec::Shard| {
            seen.push(n).unwrap();
            again(next, seen, n + 1);
        };
        handle.send(message).unwrap();
    }
    let mut b = Bench::new();
    let seen = seen();
    again(b.shard().handle(), Arc::clone(&seen), 0);
    for n in 0..4 {
        b.turn();
        assert_eq!(all(&seen), [n], "one a turn: a sender without end does not hold the shard");
    }
}

#[test]
fn a_shard_that_sleeps_is_rung_once_for_many_messages() {
    let limits = Limits::default();
    let (mut b, watch) = Bench::watched(SimConfig::of(&limits), limits);
    let (handle, seen) = (b.shard().handle(), seen());
    let into = Arc::clone(&seen);
    watch.at_sleep(move || {
        for n in 0..3 {
            let into = Arc::clone(&into);
            handle.send(move |_| into.push(n).unwrap()).unwrap();
        }
    });
    b.turn();
    assert_eq!((watch.sleeps(), watch.rings()), (1, 1));
    b.turn();
    assert_eq!(all(&seen), [0, 1, 2]);
}

#[test]
fn a_message_that_comes_as_the_shard_is_about_to_sleep_keeps_it_awake() {
    let limits = Limits::default();
    let (mut b, watch) = Bench::watched(SimConfig::of(&limits), limits);
    let (handle, seen) = (b.shard().handle(), seen());
    let into = Arc::clone(&seen);
    b.spawn(async move { handle.send(move |_| into.push(1).unwrap()).unwrap() });
    b.turn();
    assert_eq!((watch.sleeps(), watch.rings()), (0, 0));
    b.turn();
    assert_eq!(all(&seen), [1]);
}

#[test]
fn a_message_to_a_shard_that_ended_is_not_run() {
    let b = Bench::new();
    let (handle, seen) = (b.shard().handle(), seen());
    let send = |n| {
        let seen = Arc::clone(&seen);
        handle.send(move |_| seen.push(n).unwrap())
    };
    send(0).unwrap();
    drop(b);
    assert_eq!(Arc::strong_count(&seen), 1, "what waited is dropped with the shard");
    for n in 0..MESSAGES_MAX as u64 {
        send(n).unwrap();
    }
    assert!(send(0).is_err(), "the limit stands");
    assert!(seen.is_empty());
}

#[test]
fn a_message_stops_a_shard_that_runs() {
    let mut b = Bench::new();
    b.shard().handle().send(|shard| shard.stop()).unwrap();
    b.rt.run().unwrap();
    assert_eq!(b.shard().stats.turns.get(), 1);
}

#[test]
fn messages_of_several_threads_all_arrive_each_threads_in_order() {
    let mut b = Bench::new();
    let seen = seen();
    let threads: Vec<_> = (0..4u64)
        .map(|thread| {
            let (handle, seen) = (b.shard().handle(), Arc::clone(&seen));
            thread::spawn(move || {
                for n in 0..500 {
                    loop {
                        let seen = Arc::clone(&seen);
                        if handle.send(move |_| seen.push(thread << 32 | n).unwrap()).is_ok() {
                            break;
                        }
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    b.until(|| seen.len() == 2_000);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut next = [0; 4];
    for value in all(&seen) {
        let thread = usize::try_from(value >> 32).unwrap();
        assert_eq!(value & 0xffff_ffff, next[thread]);
        next[thread] += 1;
    }
    assert_eq!(next, [500; 4]);
}

/// The simulated kernel with sleeps that take place: a wake that is lost is a sleep of ten seconds.
struct Sleeper {
    sim: SimKernel,
    bed: Arc<Bed>,
}

#[derive(Debug)]
struct Bed {
    rung: AtomicBool,
    sleeper: thread::Thread,
    sleeps: AtomicU64,
}

impl Unpark for Bed {
    fn unpark(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.sleeper.unpark();
    }
}

impl Kernel for Sleeper {
    type Bytes = Chain;

    fn push(&mut self, op: Op<Chain>) -> Result<(), Op<Chain>> {
        self.sim.push(op)
    }

    fn needs_enter(&self) -> bool {
        self.sim.needs_enter()
    }

    fn enter(&mut self, wait: Wait) -> std::io::Result<()> {
        if wait != Wait::No {
            self.bed.sleeps.fetch_add(1, Ordering::SeqCst);
            for _ in 0..1_000 {
                if self.bed.rung.swap(false, Ordering::SeqCst) {
                    return self.sim.enter(Wait::No);
                }
                thread::park_timeout(Duration::from_millis(10));
            }
            panic!("slept over a message");
        }
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

    fn unpark(&self) -> Arc<dyn Unpark> {
        Arc::clone(&self.bed) as Arc<dyn Unpark>
    }

    fn stats(&self) -> KernelStats {
        self.sim.stats()
    }
}

#[test]
fn no_message_is_slept_over() {
    let (sim, _world) = Sim::new(SimConfig::default());
    let (rung, sleeps) = (AtomicBool::new(false), AtomicU64::new(0));
    let bed = Arc::new(Bed { rung, sleeper: thread::current(), sleeps });
    let kernel = Sleeper { sim, bed: Arc::clone(&bed) };
    let mut rt = Runtime::new(ShardId(0), Limits::default(), pools(), kernel, None);
    let handle = rt.shard().handle();
    let sender = thread::spawn(move || {
        let (ack, acked) = bounded::<u32>(1);
        for n in 0..20_000 {
            let ack = ack.clone();
            handle.send(move |_| ack.send(n).unwrap()).unwrap();
            // Now and then the shard gets the time to fall asleep.
            for _ in 0..n % 512 {
                std::hint::spin_loop();
            }
            assert_eq!(acked.recv().unwrap(), n);
        }
        handle.send(|shard| shard.stop()).unwrap();
    });
    rt.run().unwrap();
    sender.join().unwrap();
    assert!(bed.sleeps.load(Ordering::SeqCst) > 0, "it never slept: nothing was tested");
}

#[test]
fn a_spinning_shard_takes_a_message_without_falling_asleep() {
    let limits = Limits { busy_poll: Duration::from_millis(1), ..Limits::default() };
    let clock_cost = Duration::from_micros(1);
    let config = SimConfig { clock_cost, ..SimConfig::of(&limits) };
    let (mut b, watch): (Bench<Watched>, Watch) = Bench::watched(config, limits);
    b.turn();
    let (handle, seen) = (b.shard().handle(), seen());
    let into = Arc::clone(&seen);
    let sleeps = watch.sleeps();
    let clocks = Rc::new(RefCell::new(0));
    // The first reading of the clock is the turn's own; the next is in the spin.
    let (counted, inner) = (Rc::clone(&clocks), watch.clone());
    watch.at_clock(move || {
        *counted.borrow_mut() += 1;
        inner.at_clock(move || handle.send(move |_| into.push(1).unwrap()).unwrap());
    });
    let before = b.world.now();
    b.turn();
    assert!(b.world.now() - before < Duration::from_micros(100), "it spun on");
    assert_eq!((watch.sleeps(), watch.rings()), (sleeps, 0));
    b.turn();
    assert_eq!(all(&seen), [1]);
    assert_eq!(*clocks.borrow(), 1);
}
