//! The turn and time: nothing is late by a spin, and what is added in a turn takes part in it.
#![allow(clippy::unwrap_used)]

mod common;

use std::rc::Rc;
use std::time::Duration;

use common::{Bench, Recorder, ms, secs};
use corelane_base::{Limits, Op, RecvMode, Sock, Token};
use corelane_exec::{Driver, Turn, current, sleep};
use corelane_sim::SimConfig;

fn spinning(busy_poll: Duration) -> (SimConfig, Limits) {
    let limits = Limits { busy_poll, ..Limits::default() };
    (SimConfig { clock_cost: Duration::from_micros(1), ..SimConfig::of(&limits) }, limits)
}

#[test]
fn a_timer_within_busy_poll_is_not_late() {
    let (config, limits) = spinning(ms(500));
    let (mut b, _watch) = Bench::watched(config, limits);
    let at = b.run(async {
        sleep(ms(10)).await;
        current().now().mono_ns
    });
    assert!(at < 12_000_000, "due at 10 ms, woken at {at} ns");
}

#[test]
fn a_timer_beyond_busy_poll_is_not_late() {
    let (config, limits) = spinning(ms(50));
    let (mut b, _watch) = Bench::watched(config, limits);
    let at = b.run(async {
        sleep(ms(100)).await;
        current().now().mono_ns
    });
    assert!(at < 102_000_000, "due at 100 ms, woken at {at} ns");
}

#[test]
fn a_driver_added_in_a_turn_may_set_a_timer_that_is_due() {
    let mut b = Bench::new();
    b.run(async { sleep(ms(5)).await });
    b.world.advance(ms(5));
    let driver = Rc::new(Recorder::default());
    let added = Rc::clone(&driver) as Rc<dyn Driver>;
    b.run(async move {
        let shard = current();
        let owner = shard.add_driver(added);
        shard.timer_for(0, Token::new(owner, 0, 0, 0));
    });
    b.run(async { sleep(ms(2)).await });
    assert_eq!(driver.timers.borrow().len(), 1);
}

#[test]
fn a_driver_added_in_a_turn_is_flushed_before_the_shard_sleeps() {
    let mut b = Bench::new();
    let driver = Rc::new(Recorder::default());
    let added = Rc::clone(&driver) as Rc<dyn Driver>;
    b.spawn(async move {
        current().add_driver(added);
    });
    b.turn();
    assert_eq!(b.shard().stats.parks.get(), 1, "it slept");
    assert_eq!(driver.flushes.get(), 1);
}

#[test]
fn a_turn_that_took_a_completion_was_busy() {
    let mut b = Bench::new();
    let driver = Rc::new(Recorder::default());
    let owner = b.rt.within(|shard| shard.add_driver(Rc::clone(&driver) as Rc<dyn Driver>));
    b.run(async move {
        let shard = current();
        let sock = Sock(shard.io(|token| Op::Socket { v6: false, token }).await.check().unwrap());
        shard.push(Op::Recv { sock, token: Token::new(owner, 0, 0, 0), mode: RecvMode::Once });
    });
    assert!(driver.completions.borrow().is_empty());
    let turn = b.rt.turn(false).unwrap();
    assert_eq!(driver.completions.borrow().len(), 1, "something was done");
    assert_eq!(turn, Turn::Busy);
}

#[test]
fn within_the_time_is_the_present() {
    let mut b = Bench::new();
    b.turn();
    b.world.advance(secs(1));
    let now = b.rt.within(|shard| shard.now().mono_ns);
    assert!(now >= 1_000_000_000, "{now}");
}
