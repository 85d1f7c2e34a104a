//! Tasks: their values, their ends, their limits, and wakes from elsewhere.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use common::{Bench, ms};
use corelane_base::Limits;
use corelane_exec::task::yield_now;
use corelane_exec::{Task, TaskError, current, sleep, spawn};
use corelane_sim::SimConfig;

/// Counts its drops, and those on another thread than the one it was made on.
struct Spy {
    made_on: thread::ThreadId,
    drops: Arc<AtomicU64>,
    drops_elsewhere: Arc<AtomicU64>,
}

#[derive(Clone, Default)]
struct Drops {
    all: Arc<AtomicU64>,
    elsewhere: Arc<AtomicU64>,
}

impl Drops {
    fn spy(&self) -> Spy {
        let (drops, drops_elsewhere) = (Arc::clone(&self.all), Arc::clone(&self.elsewhere));
        Spy { made_on: thread::current().id(), drops, drops_elsewhere }
    }

    fn count(&self) -> u64 {
        self.all.load(Ordering::SeqCst)
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        if thread::current().id() != self.made_on {
            self.drops_elsewhere.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Waits for ever, and leaves its waker and a count of its polls behind.
#[derive(Clone, Default)]
struct Trap {
    waker: Rc<RefCell<Option<Waker>>>,
    polls: Rc<Cell<u64>>,
}

impl Trap {
    fn wait(&self) -> impl Future<Output = ()> + use<> {
        let trap = self.clone();
        poll_fn(move |cx| {
            trap.polls.set(trap.polls.get() + 1);
            *trap.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn waker(&self) -> Waker {
        self.waker.borrow().clone().unwrap()
    }
}

#[test]
fn a_task_gives_its_value_to_whoever_awaits_its_handle() {
    let mut b = Bench::new();
    let sum = b.run(async {
        let slow = spawn(async {
            sleep(ms(5)).await;
            40
        })
        .unwrap();
        let quick = spawn(async { 2 }).unwrap();
        slow.await.unwrap() + quick.await.unwrap()
    });
    assert_eq!(sum, 42);
    assert_eq!(b.shard().stats.tasks_spawned.get(), 3);
    assert_eq!(b.shard().tasks_alive(), 0);
}

#[test]
fn a_task_is_not_polled_by_the_spawn_itself() {
    let mut b = Bench::new();
    let order = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&order);
    b.run(async move {
        let inner = Rc::clone(&seen);
        let task = spawn(async move { inner.borrow_mut().push("task") }).unwrap();
        seen.borrow_mut().push("spawner");
        task.await.unwrap();
    });
    assert_eq!(*order.borrow(), ["spawner", "task"]);
}

#[test]
fn a_panic_costs_its_task_and_is_counted() {
    let mut b = Bench::new();
    let drops = Drops::default();
    let spy = drops.spy();
    let (bad, good) = b.run(async {
        let bad: Task<u32> = spawn(async move {
            let _spy = spy;
            yield_now().await;
            panic!("a mistake of a handler")
        })
        .unwrap();
        let good = spawn(async { 7 }).unwrap();
        (bad.await, good.await)
    });
    assert_eq!(bad, Err(TaskError::Panicked));
    assert_eq!(good, Ok(7));
    assert_eq!(b.shard().stats.tasks_panicked.get(), 1);
    assert_eq!(b.shard().tasks_alive(), 0);
    assert_eq!(drops.count(), 1, "what the task held is dropped");
}

#[test]
fn a_cancelled_task_is_dropped_where_it_stands_and_never_polled_again() {
    let mut b = Bench::new();
    let (trap, drops) = (Trap::default(), Drops::default());
    let (wait, spy) = (trap.wait(), drops.spy());
    let task =
        b.rt.within(|shard| {
            shard.spawn(async move {
                let _spy = spy;
                wait.await;
            })
        })
        .unwrap();
    b.turns(2);
    assert_eq!((trap.polls.get(), drops.count()), (1, 0));
    assert!(!task.is_finished());
    task.cancel();
    b.turn();
    assert_eq!((trap.polls.get(), drops.count()), (1, 1), "dropped in the next turn, without a poll");
    assert_eq!(b.shard().tasks_alive(), 0);
}

#[test]
fn a_task_cancelled_before_its_first_poll_never_runs() {
    let mut b = Bench::new();
    let ran = Rc::new(Cell::new(false));
    let seen = Rc::clone(&ran);
    b.run(async move {
        spawn(async move { seen.set(true) }).unwrap().cancel();
        yield_now().await;
    });
    b.turns(2);
    assert!(!ran.get());
    assert_eq!(b.shard().tasks_alive(), 0);
}

#[test]
fn a_handle_that_is_dropped_or_detached_lets_its_task_go_on() {
    let mut b = Bench::new();
    let done = Rc::new(Cell::new(0));
    let (one, two) = (Rc::clone(&done), Rc::clone(&done));
    b.run(async move {
        let dropped = spawn(async move {
            sleep(ms(1)).await;
            one.set(one.get() + 1);
        });
        drop(dropped.unwrap());
        let detached = spawn(async move {
            sleep(ms(1)).await;
            two.set(two.get() + 1);
        });
        detached.unwrap().detach();
    });
    b.run(sleep_in_task(ms(5)));
    assert_eq!(done.get(), 2);
}

async fn sleep_in_task(time: std::time::Duration) {
    sleep(time).await;
}

#[test]
fn tasks_max_tasks_live_and_one_more_is_refused_until_one_ends() {
    let mut b = Bench::of(Limits { tasks_max: 3, ..Limits::default() });
    let drops = Drops::default();
    let refused = drops.spy();
    b.rt.within(|shard| {
        for _ in 0..2 {
            shard.spawn(pending::<()>()).unwrap().detach();
        }
        let third = shard.spawn(pending::<()>()).unwrap();
        assert_eq!(shard.tasks_alive(), 3);
        let full = shard
            .spawn(async move {
                let _spy = refused;
            })
            .unwrap_err();
        assert_eq!((full.what, full.max), ("tasks_max", 3));
        assert_eq!(drops.count(), 1, "the future that found no place is dropped");
        assert_eq!(shard.stats.tasks_refused.get(), 1);
        assert_eq!(shard.stats.tasks_spawned.get(), 3);
        third.cancel();
    });
    b.turn();
    b.rt.within(|shard| shard.spawn(async {})).unwrap().detach();
    b.turn();
    assert_eq!(b.shard().tasks_alive(), 2);
}

#[test]
fn a_task_woken_from_a_foreign_thread_runs_on_its_own() {
    let mut b = Bench::new();
    let (trap, drops) = (Trap::default(), Drops::default());
    let (wait, spy) = (trap.wait(), drops.spy());
    b.spawn(async move {
        let _spy = spy;
        wait.await;
    });
    b.turn();
    let waker = trap.waker();
    thread::spawn(move || waker.wake()).join().unwrap();
    assert_eq!(trap.polls.get(), 1, "not there and then");
    b.turn();
    assert_eq!(trap.polls.get(), 2);
    assert_eq!(b.shard().stats.mailbox_taken.get(), 1);
}

#[test]
fn a_value_made_on_another_thread_comes_in() {
    let mut b = Bench::new();
    for _ in 0..50 {
        let said = Arc::new(AtomicBool::new(false));
        let mut started = false;
        b.run_with_threads(poll_fn(move |cx| {
            if said.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            // The wake may come while this poll still runs.
            if !std::mem::replace(&mut started, true) {
                let (waker, said) = (cx.waker().clone(), Arc::clone(&said));
                thread::spawn(move || {
                    said.store(true, Ordering::SeqCst);
                    waker.wake();
                });
            }
            Poll::Pending
        }));
    }
}

#[test]
fn a_shard_that_sleeps_is_rung_once_however_many_tasks_are_woken() {
    let limits = Limits::default();
    let (mut b, watch) = Bench::watched(SimConfig::of(&limits), limits);
    let traps: Vec<Trap> = (0..5).map(|_| Trap::default()).collect();
    for trap in &traps {
        b.spawn(trap.wait());
    }
    b.turn();
    let wakers: Vec<Waker> = traps.iter().map(Trap::waker).collect();
    watch.at_sleep(move || {
        thread::spawn(move || {
            for waker in wakers.iter().chain(&wakers) {
                waker.wake_by_ref();
            }
        })
        .join()
        .unwrap();
    });
    let sleeps = watch.sleeps();
    b.turn();
    assert_eq!(watch.sleeps(), sleeps + 1, "it slept");
    assert_eq!(watch.rings(), 1);
    b.turn();
    assert!(traps.iter().all(|trap| trap.polls.get() == 2), "each ran once, though woken twice");
}

#[test]
fn a_shard_that_is_awake_is_not_rung_and_does_not_fall_asleep_over_a_wake() {
    let limits = Limits::default();
    let (mut b, watch) = Bench::watched(SimConfig::of(&limits), limits);
    let trap = Trap::default();
    b.spawn(trap.wait());
    b.turn();
    let waker = trap.waker();
    // The thread ends within the task's poll: the wake is there before the turn comes to its end.
    b.spawn(async move { thread::spawn(move || waker.wake()).join().unwrap() });
    let sleeps = watch.sleeps();
    b.turn();
    assert_eq!(watch.rings(), 0);
    assert_eq!(watch.sleeps(), sleeps, "it looked at its mail once more before it slept");
    b.turn();
    assert_eq!(trap.polls.get(), 2);
}

#[test]
fn a_wake_after_the_end_is_harmless_from_here_and_from_elsewhere() {
    let mut b = Bench::new();
    let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
    let keep = Rc::clone(&kept);
    b.run(poll_fn(move |cx| {
        *keep.borrow_mut() = Some(cx.waker().clone());
        Poll::Ready(())
    }));
    b.settle();
    let polled = b.shard().stats.tasks_polled.get();
    let waker = kept.take().unwrap();
    waker.wake_by_ref();
    b.rt.within(|_| waker.wake_by_ref());
    thread::spawn(move || waker.wake()).join().unwrap();
    b.turns(3);
    assert_eq!(b.shard().stats.tasks_polled.get(), polled);
    assert_eq!(b.shard().stats.mailbox_taken.get(), 0);
}

#[test]
fn a_shard_that_ends_drops_every_task_on_its_own_thread_while_others_wake_them() {
    for _ in 0..30 {
        let mut b = Bench::new();
        let drops = Drops::default();
        let wakers: Arc<crossbeam_queue::ArrayQueue<Waker>> = Arc::new(crossbeam_queue::ArrayQueue::new(64));
        for _ in 0..40 {
            let (spy, wakers) = (drops.spy(), Arc::clone(&wakers));
            b.spawn(async move {
                let _spy = spy;
                poll_fn(|cx| {
                    drop(wakers.push(cx.waker().clone()));
                    Poll::<()>::Pending
                })
                .await;
            });
        }
        b.turn();
        let stop = Arc::new(AtomicBool::new(false));
        let (all, end) = (Arc::clone(&wakers), Arc::clone(&stop));
        let waking = thread::spawn(move || {
            let held: Vec<Waker> = std::iter::from_fn(|| all.pop()).collect();
            while !end.load(Ordering::SeqCst) {
                held.iter().for_each(Waker::wake_by_ref);
            }
            held.len()
        });
        b.turns(2);
        let shard = Rc::downgrade(b.shard());
        drop(b);
        assert_eq!(drops.count(), 40);
        assert_eq!(drops.elsewhere.load(Ordering::SeqCst), 0, "a future was dropped on a foreign thread");
        assert!(shard.upgrade().is_none(), "the shard is gone, though its wakers live");
        stop.store(true, Ordering::SeqCst);
        assert!(waking.join().unwrap() >= 40);
    }
}

#[test]
fn a_shard_that_ends_drops_tasks_that_its_tasks_spawn_as_they_are_dropped() {
    struct Last(Drops);
    impl Drop for Last {
        fn drop(&mut self) {
            let spy = self.0.spy();
            spawn(async move {
                let _spy = spy;
                pending::<()>().await;
            })
            .unwrap()
            .detach();
        }
    }
    let mut b = Bench::new();
    let drops = Drops::default();
    let last = Last(drops.clone());
    b.spawn(async move {
        let _last = last;
        pending::<()>().await;
    });
    b.turn();
    drop(b);
    assert_eq!(drops.count(), 1);
}

#[test]
fn a_handle_that_outlives_its_shard_says_cancelled() {
    let mut b = Bench::new();
    let task = b.rt.within(|shard| shard.spawn(pending::<u32>())).unwrap();
    b.turn();
    drop(b);
    let mut task = pin!(task);
    let out = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(out, Poll::Ready(Err(TaskError::Cancelled)));
}

#[test]
fn a_task_spawned_between_two_turns_runs_in_the_next() {
    let mut b = Bench::new();
    let ran = Rc::new(Cell::new(false));
    let seen = Rc::clone(&ran);
    let shard = Rc::clone(b.shard());
    shard.spawn(async move { seen.set(true) }).unwrap().detach();
    assert!(!ran.get());
    b.turn();
    assert!(ran.get());
}

#[test]
fn a_task_that_spawns_without_end_starves_neither_timers_nor_completions() {
    async fn breed() {
        loop {
            spawn(async {}).unwrap().detach();
            yield_now().await;
        }
    }
    let limits = Limits { task_budget: 4, ..Limits::default() };
    let clock_cost = std::time::Duration::from_micros(1);
    let mut b = Bench::on(SimConfig { clock_cost, ..SimConfig::of(&limits) }, limits);
    b.world.put_file("/f", b"bytes");
    for _ in 0..8 {
        b.spawn(breed());
    }
    b.turns(20);
    let spent = b.shard().stats.budgets_spent.get();
    assert!(spent >= 19, "the budget ran out {spent} times: nothing was tested");
    let read = b.run(async {
        sleep(ms(2)).await;
        let file = corelane_exec::fs::File::open("/f").await.unwrap();
        file.read_at(0, 100).await.unwrap()
    });
    assert_eq!(read, b"bytes");
}

#[test]
fn a_turn_polls_at_most_task_budget_tasks() {
    let mut b = Bench::of(Limits { task_budget: 5, ..Limits::default() });
    for _ in 0..12 {
        b.spawn(async {});
    }
    let mut alive = Vec::new();
    for _ in 0..4 {
        b.turn();
        alive.push(b.shard().tasks_alive());
    }
    assert_eq!(alive, [7, 2, 0, 0]);
    assert_eq!(b.shard().stats.budgets_spent.get(), 2);
}

#[test]
fn yield_now_lets_the_others_run_first() {
    let mut b = Bench::new();
    let order: Rc<RefCell<Vec<u32>>> = Rc::default();
    for task in 0..3 {
        let order = Rc::clone(&order);
        b.spawn(async move {
            for _ in 0..2 {
                order.borrow_mut().push(task);
                yield_now().await;
            }
        });
    }
    b.settle();
    assert_eq!(*order.borrow(), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_task_reaches_its_shard() {
    let mut b = Bench::new();
    let id = b.run(async { current().id() });
    assert_eq!(id, b.shard().id());
}
