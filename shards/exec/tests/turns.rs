//! The turn: who is current, budgets, a kernel that refuses, spinning, and that all of it can be repeated.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use common::{Bench, Recorder, ms};
use corelane_base::{Limits, Op, RecvMode, Sock, Token};
use corelane_exec::fs::File;
use corelane_exec::{Driver, Turn, current, sleep, spawn, try_current};
use corelane_sim::{Fault, Faults, SimConfig, World, seeds};

fn on(limits: Limits, config: impl FnOnce(SimConfig) -> SimConfig) -> Bench {
    Bench::on(config(SimConfig::of(&limits)), limits)
}

// ----- which shard is current

#[test]
#[should_panic(expected = "this needs a shard")]
fn current_panics_outside_a_turn() {
    current();
}

#[test]
#[should_panic(expected = "this needs a shard")]
fn a_sleep_outside_a_turn_panics() {
    drop(sleep(ms(1)));
}

#[test]
fn a_shard_is_current_within_and_within_another_only_until_that_ends() {
    let (mut a, mut b) = (Bench::new(), Bench::new());
    let is = |shard: &Rc<corelane_exec::Shard>| Rc::ptr_eq(&current(), shard);
    assert!(try_current().is_none());
    a.rt.within(|outer| {
        assert!(is(outer));
        b.rt.within(|inner| assert!(is(inner) && !Rc::ptr_eq(inner, outer)));
        assert!(is(outer));
    });
    assert!(try_current().is_none());
}

#[test]
fn a_panic_within_leaves_no_shard_current() {
    let mut b = Bench::new();
    let out = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        b.rt.within(|_| panic!("a start hook that fails"));
    }));
    assert!(out.is_err());
    assert!(try_current().is_none());
}

// ----- several shards on one thread

#[test]
fn a_wake_in_the_turn_of_another_shard_goes_to_its_own() {
    let (mut a, mut b) = (Bench::new(), Bench::new());
    let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
    let ran_in = Rc::new(RefCell::new(Vec::new()));
    let (keep, ran) = (Rc::clone(&kept), Rc::clone(&ran_in));
    let home = Rc::clone(a.shard());
    a.spawn(poll_fn(move |cx| {
        ran.borrow_mut().push(Rc::ptr_eq(&current(), &home));
        *keep.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }));
    a.turn();
    b.spawn(async move { kept.take().unwrap().wake() });
    b.turns(3);
    assert_eq!(*ran_in.borrow(), [true], "woken in the turn of the other, it does not run there");
    a.turn();
    assert_eq!(*ran_in.borrow(), [true, true]);
}

#[test]
fn tasks_timers_files_and_locals_of_two_shards_keep_apart() {
    let (mut a, mut b) = (Bench::new(), Bench::new());
    a.world.put_file("/f", b"of a");
    b.world.put_file("/f", b"of b");
    let read = || async {
        sleep(ms(3)).await;
        let text = File::open("/f").await.unwrap().read_at(0, 10).await.unwrap();
        let local = current().local(|| Cell::new(0));
        local.set(local.get() + 1);
        (text, local.get())
    };
    let texts: Rc<RefCell<Vec<_>>> = Rc::default();
    for bench in [&mut a, &mut b] {
        let (texts, read) = (Rc::clone(&texts), read());
        bench.spawn(async move {
            let read = read.await;
            texts.borrow_mut().push(read);
        });
    }
    // Turn and turn about: what belongs to one is never met by the other.
    for _ in 0..2_000 {
        a.turn();
        b.turn();
    }
    assert_eq!(*texts.borrow(), [(b"of a".to_vec(), 1), (b"of b".to_vec(), 1)]);
    for bench in [a, b] {
        assert_eq!(bench.shard().stats.tasks_spawned.get(), 1);
        bench.world.check_quiet();
    }
}

#[test]
fn a_task_may_await_one_of_another_shard() {
    let (mut a, mut b) = (Bench::new(), Bench::new());
    let there = b.rt.within(|shard| {
        shard.spawn(async {
            sleep(ms(1)).await;
            current().stats.turns.get()
        })
    });
    let got = Rc::new(Cell::new(None));
    let seen = Rc::clone(&got);
    a.spawn(async move { seen.set(there.unwrap().await.ok()) });
    for _ in 0..100 {
        a.turn();
        b.turn();
    }
    assert!(got.get().is_some());
}

#[test]
fn a_local_is_made_once_a_shard() {
    let mut b = Bench::new();
    let made = Cell::new(0);
    b.rt.within(|shard| {
        let make = || {
            made.set(made.get() + 1);
            Cell::new(5u32)
        };
        shard.local(make).set(6);
        assert_eq!(shard.local(make).get(), 6);
        assert_eq!(*shard.local(|| 7u64), 7, "found by its type");
    });
    assert_eq!(made.get(), 1);
}

// ----- drivers

/// Pushes a receive for `owner` that fails at once, with a fresh socket.
async fn recv_of_a_fresh_socket(owner: u8, index: u32) -> Sock {
    let shard = current();
    let sock = Sock(shard.io(|token| Op::Socket { v6: false, token }).await.check().unwrap());
    shard.push(Op::Recv { sock, token: Token::new(owner, 9, 8, index), mode: RecvMode::Once });
    sock
}

#[test]
fn a_completion_goes_to_the_driver_of_its_owner() {
    let mut b = Bench::new();
    let drivers = [Rc::new(Recorder::default()), Rc::new(Recorder::default())];
    let owners = b
        .rt
        .within(|shard| [0, 1].map(|at: usize| shard.add_driver(Rc::clone(&drivers[at]) as Rc<dyn Driver>)));
    assert_eq!(owners, [1, 2]);
    for (index, owner) in [(10, owners[0]), (20, owners[1])] {
        let sock = b.run(recv_of_a_fresh_socket(owner, index));
        b.settle();
        b.rt.within(|shard| shard.push(Op::Close { sock, token: Token::NONE }));
    }
    const ENOTCONN: i32 = 107;
    for (index, (driver, owner)) in [10, 20].into_iter().zip(drivers.iter().zip(owners)) {
        assert_eq!(*driver.completions.borrow(), [(Token::new(owner, 9, 8, index), -ENOTCONN)]);
    }
    b.settle();
    b.world.check_quiet();
}

#[test]
fn a_driver_added_in_a_turn_gets_its_completions() {
    let mut b = Bench::new();
    let driver = Rc::new(Recorder::default());
    let added = Rc::clone(&driver) as Rc<dyn Driver>;
    let sock = b.run(async move {
        let owner = current().add_driver(added);
        recv_of_a_fresh_socket(owner, 1).await
    });
    b.settle();
    assert_eq!(driver.completions.borrow().len(), 1);
    b.rt.within(|shard| shard.push(Op::Close { sock, token: Token::NONE }));
}

#[test]
fn every_turn_flushes_every_driver_once_and_again_keeps_the_shard_awake() {
    let mut b = Bench::new();
    let driver = Rc::new(Recorder::default());
    b.rt.within(|shard| shard.add_driver(Rc::clone(&driver) as Rc<dyn Driver>));
    driver.again.set(true);
    assert_eq!(b.rt.turn(true).unwrap(), Turn::Busy);
    assert_eq!(b.rt.turn(true).unwrap(), Turn::Busy);
    assert_eq!((driver.flushes.get(), b.shard().stats.parks.get()), (2, 0));
    driver.again.set(false);
    assert_eq!(b.rt.turn(true).unwrap(), Turn::Idle);
    assert_eq!((driver.flushes.get(), b.shard().stats.parks.get()), (3, 1));
}

#[test]
fn a_turn_asked_for_again_does_not_sleep_and_the_next_may() {
    let mut b = Bench::new();
    b.rt.within(|shard| shard.turn_again());
    assert_eq!(b.rt.turn(true).unwrap(), Turn::Busy);
    assert_eq!(b.shard().stats.parks.get(), 0);
    assert_eq!(b.rt.turn(true).unwrap(), Turn::Idle);
    assert_eq!(b.shard().stats.parks.get(), 1);
}

#[test]
fn a_shard_that_ends_lets_its_drivers_go() {
    struct Holds(Rc<corelane_exec::Shard>);
    impl Driver for Holds {
        fn complete(&self, _: &corelane_exec::Shard, _: corelane_exec::Event<'_>) {}
        fn timer(&self, _: &corelane_exec::Shard, _: Token) {}
        fn flush(&self, _: &corelane_exec::Shard) -> bool {
            self.0.stop();
            false
        }
    }
    let mut b = Bench::new();
    let driver = Rc::new(Holds(Rc::clone(b.shard())));
    let (shard, gone) = (Rc::downgrade(b.shard()), Rc::downgrade(&driver));
    b.rt.within(|shard| shard.add_driver(driver));
    b.turn();
    drop(b);
    assert!(gone.upgrade().is_none());
    assert!(shard.upgrade().is_none(), "a driver that holds its shard must not keep it");
}

#[test]
#[should_panic(expected = "too many drivers")]
fn a_shard_has_at_most_126_drivers() {
    let mut b = Bench::new();
    b.rt.within(|shard| {
        for owner in 1..=126 {
            assert_eq!(shard.add_driver(Rc::new(Recorder::default())), owner);
        }
        shard.add_driver(Rc::new(Recorder::default()));
    });
}

// ----- budgets and refusals

/// `count` tasks that each make a socket and close it again; how many did.
fn sockets(b: &mut Bench, count: usize) -> Rc<Cell<usize>> {
    let done = Rc::new(Cell::new(0));
    for _ in 0..count {
        let done = Rc::clone(&done);
        b.spawn(async move {
            let shard = current();
            let sock = Sock(shard.io(|token| Op::Socket { v6: false, token }).await.check().unwrap());
            shard.push(Op::Close { sock, token: Token::NONE });
            done.set(done.get() + 1);
        });
    }
    done
}

#[test]
fn a_turn_takes_at_most_completion_budget_completions() {
    let mut b = Bench::of(Limits { completion_budget: 3, ..Limits::default() });
    let done = sockets(&mut b, 8);
    let mut after = Vec::new();
    for _ in 0..4 {
        b.turn();
        after.push(done.get());
    }
    assert_eq!(after, [0, 3, 6, 8]);
    assert_eq!(b.shard().stats.budgets_spent.get(), 2);
    b.settle();
    b.world.check_quiet();
}

#[test]
fn a_submission_queue_that_is_full_loses_no_operation() {
    let mut b = on(Limits::default(), |config| SimConfig { submission_entries: 2, ..config });
    let done = sockets(&mut b, 50);
    b.settle();
    assert_eq!(done.get(), 50);
    assert!(b.shard().stats.submission_full.get() > 10);
    b.world.check_quiet();
}

#[test]
fn a_table_of_operations_that_is_full_holds_the_rest_back() {
    let mut b = on(Limits::default(), |config| SimConfig { operations_max: 4, ..config });
    b.world.put_file("/f", &[9; 64]);
    let read = b.run(async {
        let file = File::open("/f").await.unwrap();
        let mut tasks = Vec::new();
        for at in 0..40 {
            let file = file.clone();
            tasks.push(spawn(async move { file.read_at(at, 1).await.unwrap() }).unwrap());
        }
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all
    });
    assert_eq!(read, [9; 40]);
    assert!(b.shard().stats.submission_full.get() > 0, "nothing was tested");
    b.settle();
    b.world.check_quiet();
}

#[test]
fn operations_the_kernel_gives_back_are_handed_over_later_and_in_order() {
    for seed in seeds(100) {
        let faults = Faults::none().with(Fault::SubmissionFull, 0.6).with(Fault::PartialSubmit, 0.3);
        let mut b = on(Limits::default(), |config| SimConfig { seed, faults, ..config });
        let listener = b.world.add_listener();
        let peer = b.world.connect(listener);
        let done = sockets(&mut b, 20);
        // One push after the other, of one task: what is pushed last must not overtake.
        b.run(async move {
            let shard = current();
            let mode = corelane_base::AcceptMode::OneWithPeer;
            let sock = Sock(shard.io(|token| Op::Accept { listener, token, mode }).await.check().unwrap());
            shard.push(Op::Shutdown { sock, token: Token::NONE, how: corelane_base::ShutdownHow::Write });
            shard.push(Op::Close { sock, token: Token::NONE });
        });
        b.settle();
        assert_eq!(done.get(), 20);
        assert!(peer.is_eof());
        b.world.check_quiet();
    }
}

#[test]
fn a_shard_does_not_sleep_on_operations_it_could_not_hand_over() {
    let faults = Faults::none().with(Fault::SubmissionFull, 0.9);
    let mut b = on(Limits::default(), |config| SimConfig { faults, ..config });
    b.world.put_file("/f", b"bytes");
    // A timer far away: a sleep at the wrong moment would last until then.
    b.spawn(async { sleep(Duration::from_secs(3_600)).await });
    b.run(async { File::open("/f").await.unwrap().read_at(0, 5).await.unwrap() });
    assert!(b.world.now() < Duration::from_secs(1), "{:?}", b.world.now());
}

#[test]
fn a_turn_that_may_not_park_never_sleeps() {
    let limits = Limits::default();
    let (mut b, watch) = Bench::watched(SimConfig::of(&limits), limits);
    b.spawn(async { sleep(ms(5)).await });
    for _ in 0..5 {
        b.rt.turn(false).unwrap();
    }
    assert_eq!(watch.sleeps(), 0);
    assert!(b.rt.next_deadline().is_some(), "the host is told when to come back");
    assert_eq!(b.shard().tasks_alive(), 1);
}

#[test]
fn run_turns_until_the_shard_is_stopped() {
    let mut b = Bench::new();
    b.spawn(async {
        sleep(ms(20)).await;
        current().stop();
    });
    b.rt.run().unwrap();
    assert!(b.world.now() >= ms(20));
    assert_eq!(b.shard().tasks_alive(), 0);
}

#[test]
fn a_kernel_that_cannot_be_entered_ends_the_run_with_its_error() {
    let limits = Limits::default();
    let (mut b, watch) = Bench::watched(SimConfig::of(&limits), limits);
    watch.fail_enters();
    assert_eq!(b.rt.run().unwrap_err().to_string(), "this kernel is gone");
}

#[test]
fn a_shard_that_idles_gives_the_memory_of_a_peak_back_bit_by_bit() {
    let mut b = Bench::new();
    let pools = b.shard().pools().clone();
    let peak: Vec<_> = (0..20).map(|_| pools.get(60_000).unwrap()).collect();
    drop(peak);
    let medium = || pools.stats().tiers[1];
    assert_eq!((medium().idle, medium().given_back), (20, 0));
    b.run(async { sleep(ms(900)).await });
    assert_eq!(medium().given_back, 0, "not more often than once a second");
    let mut before = 0;
    for _ in 0..6 {
        b.run(async { sleep(ms(1_100)).await });
        let now = medium().given_back;
        assert!(now - before <= 8, "{} slots in one turn", now - before);
        before = now;
    }
    assert_eq!(medium().idle, 0);
}

// ----- spinning

fn spinning(busy_poll: Duration) -> (SimConfig, Limits) {
    let limits = Limits { busy_poll, ..Limits::default() };
    (SimConfig { clock_cost: Duration::from_micros(1), ..SimConfig::of(&limits) }, limits)
}

#[test]
fn a_completion_within_busy_poll_is_taken_without_a_sleep() {
    let (config, limits) = spinning(ms(1));
    let (mut b, watch) = Bench::watched(config, limits);
    b.world.put_file("/f", b"soon there");
    // 50 us a file operation: each comes while the shard spins.
    let sleeps = b.run(async move {
        assert_eq!(File::open("/f").await.unwrap().read_at(0, 10).await.unwrap(), b"soon there");
        watch.sleeps()
    });
    assert_eq!(sleeps, 0);
}

#[test]
fn a_shard_sleeps_when_busy_poll_is_over() {
    let (config, limits) = spinning(Duration::from_micros(20));
    let (mut b, watch) = Bench::watched(config, limits);
    b.world.put_file("/f", b"later there");
    b.run(async { File::open("/f").await.unwrap() });
    assert!(watch.sleeps() >= 1);
}

// ----- again, the same

fn scenario(seed: u64) -> (World, u64, Vec<(&'static str, u64)>) {
    let faults = Faults::benign(0.1);
    let mut b = on(Limits::default(), |config| SimConfig { seed, faults, ..config });
    b.run(async {
        let mut tasks = Vec::new();
        for n in 0..10u64 {
            tasks.push(
                spawn(async move {
                    sleep(Duration::from_micros(n * 700)).await;
                    let file = File::create(format!("/{n}")).await.unwrap();
                    file.write_at(n, vec![1; 300]).await.unwrap();
                    file.sync_all().await.unwrap();
                    file.read_at(0, 1_000).await.unwrap().len()
                })
                .unwrap(),
            );
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    b.settle();
    let (trace, stats) = (b.world.trace(), b.shard().stats.list());
    (b.world.clone(), trace, stats)
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    for seed in 0..20 {
        let (_first, trace, stats) = scenario(seed);
        let (again, trace_again, stats_again) = scenario(seed);
        assert_eq!(trace, trace_again, "seed {seed}\n{}", again.log());
        assert_eq!(stats, stats_again, "seed {seed}");
        assert_ne!(trace, scenario(seed + 1_000).1);
    }
}
