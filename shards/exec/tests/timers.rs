//! Timers: sleeps, time limits, and the timers of drivers.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use common::{Bench, Recorder, ms, secs};
use corelane_base::{Limits, Rng, Token};
use corelane_exec::{Driver, Elapsed, current, sleep, spawn, timeout};
use corelane_sim::{Faults, SimConfig};

const TICK: u64 = 1_000_000;

fn still(limits: Limits) -> Bench {
    Bench::on(SimConfig { free_running: false, ..SimConfig::of(&limits) }, limits)
}

#[test]
fn a_sleep_is_never_early_and_less_than_two_ticks_late() {
    for seed in 0..20 {
        let limits = Limits::default();
        let faults = Faults::benign(0.2);
        let mut b = Bench::on(SimConfig { seed, faults, ..SimConfig::of(&limits) }, limits);
        let mut rng = Rng::new(seed);
        let woken: Rc<RefCell<Vec<(u64, u64)>>> = Rc::default();
        for _ in 0..100 {
            let magnitude = rng.below(34);
            let span = rng.below(1 << magnitude);
            let woken = Rc::clone(&woken);
            b.spawn(async move {
                let due = current().now().mono_ns + span;
                sleep(Duration::from_nanos(span)).await;
                woken.borrow_mut().push((due, current().now().mono_ns));
            });
        }
        b.run(async { sleep(secs(20)).await });
        let woken = woken.borrow();
        assert_eq!(woken.len(), 100);
        for (due, at) in woken.iter() {
            assert!(at >= due, "seed {seed}: due {due}, woken {at}");
            assert!(at - due < 2 * TICK, "seed {seed}: due {due}, woken {at}");
        }
        assert_eq!(b.shard().timers_set(), 0);
    }
}

#[test]
fn sleeps_end_in_the_order_of_their_times() {
    let mut b = Bench::new();
    let order: Rc<RefCell<Vec<u64>>> = Rc::default();
    for time in [70, 5, 4_200, 64, 63, 300_000, 1] {
        let order = Rc::clone(&order);
        b.spawn(async move {
            sleep(ms(time)).await;
            order.borrow_mut().push(time);
        });
    }
    b.run(async { sleep(secs(301)).await });
    assert_eq!(*order.borrow(), [1, 5, 63, 64, 70, 4_200, 300_000]);
}

#[test]
fn a_sleep_of_no_time_holds_no_timer() {
    let mut b = Bench::of(Limits { timers_max: 1, ..Limits::default() });
    let before = b.world.now();
    b.run(async {
        for _ in 0..100 {
            sleep(Duration::ZERO).await;
        }
    });
    assert_eq!(b.shard().stats.timers_fired.get(), 0);
    assert!(b.world.now() - before < ms(1));
}

#[test]
fn a_sleep_without_end_is_still_asleep_after_ten_years() {
    let mut b = still(Limits::default());
    b.world.advance(secs(1));
    let woken = Rc::new(Cell::new(false));
    let seen = Rc::clone(&woken);
    b.spawn(async move {
        sleep(Duration::MAX).await;
        seen.set(true);
    });
    for _ in 0..10 {
        b.turn();
        b.world.advance(secs(365 * 86_400));
    }
    b.turns(3);
    assert!(!woken.get());
    assert_eq!(b.shard().timers_set(), 1);
}

#[test]
fn timers_max_sleeps_wait_and_one_more_ends_at_once_and_is_counted() {
    let mut b = still(Limits { timers_max: 3, ..Limits::default() });
    let awake = Rc::new(Cell::new(0));
    let start = |b: &mut Bench| {
        let awake = Rc::clone(&awake);
        b.spawn(async move {
            sleep(ms(10)).await;
            awake.set(awake.get() + 1);
        });
    };
    (0..3).for_each(|_| start(&mut b));
    b.turns(2);
    assert_eq!((awake.get(), b.shard().stats.timers_refused.get()), (0, 0));
    start(&mut b);
    b.turns(2);
    assert_eq!((awake.get(), b.shard().stats.timers_refused.get()), (1, 1));

    b.world.advance(ms(11));
    b.turns(3);
    assert_eq!(awake.get(), 4);
    (0..3).for_each(|_| start(&mut b));
    b.turns(2);
    assert_eq!(
        (awake.get(), b.shard().stats.timers_refused.get()),
        (4, 1),
        "the three places are free again"
    );
}

#[test]
fn timers_of_drivers_are_not_counted_against_timers_max() {
    let mut b = still(Limits { timers_max: 1, connections_max: 1, ..Limits::default() });
    let recorder = Rc::new(Recorder::default());
    let driver = Rc::clone(&recorder) as Rc<dyn Driver>;
    b.rt.within(|shard| {
        let owner = shard.add_driver(driver);
        for index in 0..100 {
            shard.timer_for(shard.now().mono_ns + 5 * TICK, Token::new(owner, 0, 0, index));
        }
    });
    let slept = Rc::new(Cell::new(false));
    let seen = Rc::clone(&slept);
    b.spawn(async move {
        sleep(ms(5)).await;
        seen.set(true);
    });
    b.turns(2);
    assert!(!slept.get());
    assert_eq!(b.shard().stats.timers_refused.get(), 0);
    b.world.advance(ms(7));
    b.turns(2);
    assert!(slept.get());
    assert_eq!(recorder.timers.borrow().len(), 100);
}

#[test]
fn a_future_within_its_time_gives_its_value_and_leaves_no_timer() {
    let mut b = Bench::new();
    let out = b.run(timeout_in_task(ms(10), async {
        sleep(ms(2)).await;
        5
    }));
    assert_eq!(out, Ok(5));
    assert_eq!(b.shard().timers_set(), 0);
}

#[test]
fn a_future_past_its_time_is_dropped_and_elapsed_says_so() {
    struct Bell(Rc<Cell<Option<u64>>>);
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.set(Some(current().now().mono_ns));
        }
    }
    let mut b = Bench::new();
    let dropped = Rc::new(Cell::new(None));
    let bell = Bell(Rc::clone(&dropped));
    let out = b.run(timeout_in_task(ms(10), async move {
        let _bell = bell;
        pending::<u32>().await
    }));
    assert_eq!(out, Err(Elapsed));
    let at = dropped.get().unwrap();
    assert!((10 * TICK..12 * TICK).contains(&at), "dropped at {at}");
    assert_eq!(b.shard().timers_set(), 0);
}

#[test]
fn a_value_that_is_there_when_the_time_is_over_is_not_thrown_away() {
    let mut b = Bench::new();
    assert_eq!(b.run(timeout_in_task(Duration::ZERO, async { 1 })), Ok(1));
}

async fn timeout_in_task<F: Future>(after: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout(after, future).await
}

#[test]
fn a_sleep_that_is_dropped_takes_its_timer_out() {
    let mut b = Bench::new();
    let task = b.rt.within(|shard| shard.spawn(async { sleep(secs(3_600)).await })).unwrap();
    b.rt.turn(false).unwrap();
    assert_eq!(b.shard().timers_set(), 1);
    assert!(b.rt.next_deadline().is_some());
    task.cancel();
    b.rt.turn(false).unwrap();
    assert_eq!(b.shard().timers_set(), 0);
    assert_eq!(b.rt.next_deadline(), None);
    b.turns(3);
    assert!(b.world.now() < secs(1), "nothing makes the shard wait for it");
}

#[test]
fn a_sleep_wakes_the_task_that_polled_it_last() {
    let mut b = Bench::new();
    let seen: Rc<RefCell<Vec<&str>>> = Rc::default();
    let (first, second) = (Rc::clone(&seen), Rc::clone(&seen));
    b.run(async move {
        let mut shared: Pin<Box<dyn Future<Output = ()>>> = Box::pin(sleep(ms(5)));
        // Once here, where nobody follows it up, then in another task.
        poll_fn(|cx| {
            assert!(shared.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let other = spawn(async move {
            shared.await;
            second.borrow_mut().push("other");
        });
        other.unwrap().await.unwrap();
        first.borrow_mut().push("first");
    });
    assert_eq!(*seen.borrow(), ["other", "first"]);
}

#[test]
fn a_timer_of_a_driver_fires_once_with_its_token_and_not_when_cancelled() {
    let mut b = Bench::new();
    let recorder = Rc::new(Recorder::default());
    let driver = Rc::clone(&recorder) as Rc<dyn Driver>;
    let (owner, kept, cancelled) = b.rt.within(|shard| {
        let owner = shard.add_driver(driver);
        let kept = shard.timer_for(3 * TICK, Token::new(owner, 1, 2, 3));
        let cancelled = shard.timer_for(2 * TICK, Token::new(owner, 4, 5, 6));
        assert!(shard.cancel_timer(cancelled));
        (owner, kept, cancelled)
    });
    b.run(async { sleep(ms(10)).await });
    let fired = recorder.timers.borrow().clone();
    assert_eq!(fired.len(), 1);
    assert_eq!(fired[0].0, Token::new(owner, 1, 2, 3));
    assert!((3 * TICK..5 * TICK).contains(&fired[0].1), "fired at {}", fired[0].1);
    assert!(!b.shard().cancel_timer(kept), "it fired");
    assert!(!b.shard().cancel_timer(cancelled), "it was cancelled before");
}

#[test]
fn two_drivers_get_their_own_timers() {
    let mut b = Bench::new();
    let drivers = [Rc::new(Recorder::default()), Rc::new(Recorder::default())];
    b.rt.within(|shard| {
        for (index, driver) in (0..).zip(&drivers) {
            let owner = shard.add_driver(Rc::clone(driver) as Rc<dyn Driver>);
            shard.timer_for(TICK, Token::new(owner, 0, 0, index));
        }
    });
    b.run(async { sleep(ms(3)).await });
    for (index, driver) in (0..).zip(&drivers) {
        let fired: Vec<u32> = driver.timers.borrow().iter().map(|(token, _)| token.index()).collect();
        assert_eq!(fired, [index]);
    }
}

#[test]
fn a_shard_sleeps_until_its_next_timer_and_without_end_when_there_is_none() {
    let limits = Limits::default();
    let (mut b, watch) = Bench::watched(SimConfig::of(&limits), limits);
    b.turn();
    assert_eq!(*watch.lengths.borrow(), [None]);
    b.spawn(async { sleep(ms(20)).await });
    b.turn();
    let asked = watch.lengths.borrow().last().copied().flatten().unwrap();
    assert!((19 * TICK..=21 * TICK).contains(&asked), "{asked}");
}

#[test]
fn a_timer_that_wakes_a_task_keeps_the_shard_awake_for_it() {
    let mut b = still(Limits::default());
    let polls = Rc::new(Cell::new(0));
    let seen = Rc::clone(&polls);
    let mut nap = None;
    b.spawn(poll_fn(move |cx| {
        seen.set(seen.get() + 1);
        let nap = nap.get_or_insert_with(|| Box::pin(sleep(ms(1))));
        nap.as_mut().poll(cx)
    }));
    b.turn();
    b.world.advance(ms(3));
    let parks = b.shard().stats.parks.get();
    b.turn();
    assert_eq!(b.shard().stats.parks.get(), parks, "a ready task waits: no sleep");
    b.turn();
    assert_eq!(polls.get(), 2);
}
