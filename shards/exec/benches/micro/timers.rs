//! The timer wheel, with 1, 1,000 and 100,000 other timers in it.
//!
//! The others stand far ahead, except where their own firing is what is measured.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use corelane_base::{Rng, Token};
use corelane_exec::timer::TICK_NS;
use corelane_exec::{Driver, Event, Shard, sleep};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use crate::shared::Warm;
use crate::still::Node;

const OTHERS: [u32; 3] = [1, 1_000, 100_000];

/// Nanoseconds that no bench comes near: 100 days.
const FAR_NS: u64 = 100 * 86_400 * 1_000_000_000;

/// Counts the timers that fire, and sets each again `again_ns` later unless that is 0.
#[derive(Default)]
struct Timers {
    owner: Cell<u8>,
    fired: Cell<u64>,
    again_ns: u64,
}

impl Driver for Timers {
    fn complete(&self, _shard: &Shard, _event: Event<'_>) {}

    fn timer(&self, shard: &Shard, token: Token) {
        self.fired.set(self.fired.get() + 1);
        if self.again_ns > 0 {
            shard.timer_for(shard.now().mono_ns + self.again_ns, token);
        }
    }

    fn flush(&self, _shard: &Shard) -> bool {
        false
    }
}

/// A shard with `count` timers at random times, at least `from_ns` ahead and less than `span_ns` more.
fn node_with(count: u32, from_ns: u64, span_ns: u64, again_ns: u64) -> (Node, Rc<Timers>) {
    let node = Node::new();
    let timers = Rc::new(Timers { again_ns, ..Timers::default() });
    let shard = node.shard();
    timers.owner.set(shard.add_driver(Rc::clone(&timers) as Rc<dyn Driver>));
    let (mut rng, now_ns) = (Rng::new(1), shard.now().mono_ns);
    for index in 0..count {
        let token = Token::new(timers.owner.get(), 0, 0, index);
        shard.timer_for(now_ns + from_ns + rng.below(span_ns), token);
    }
    (node, timers)
}

/// The deadline of a request that is met: set, and taken out before its time.
#[divan::bench(args = OTHERS)]
fn set_and_cancel(bencher: Bencher<'_, '_>, others: u32) {
    let (node, timers) = node_with(others, FAR_NS, FAR_NS, 0);
    let shard = node.shard();
    let token = Token::new(timers.owner.get(), 0, 0, 0);
    let mut rng = Rng::new(2);
    bencher.bench_warm(|| {
        let at = shard.now().mono_ns + 10_000_000_000 + rng.below(1_000_000_000);
        let key = shard.timer_for(black_box(at), token);
        assert!(shard.cancel_timer(key));
    });
    assert_eq!(shard.timers_set(), others as usize);
}

/// A timer that is due with the next tick: set, and the turn in which it fires.
#[divan::bench(args = OTHERS)]
fn set_and_fire(bencher: Bencher<'_, '_>, others: u32) {
    let (mut node, timers) = node_with(others, FAR_NS, FAR_NS, 0);
    let shard = node.shard();
    let token = Token::new(timers.owner.get(), 0, 0, 0);
    node.turn();
    bencher.bench_warm(|| {
        shard.timer_for(shard.now().mono_ns + TICK_NS, token);
        node.pass(TICK_NS);
        node.turn();
    });
    assert!(timers.fired.get() > 0, "timers fired");
    assert_eq!(shard.timers_set(), others as usize);
}

/// One hundred milliseconds of a wheel whose timers are set again for 60 seconds later when they fire: 100
/// turns, in which a part of 600 of them fires, and others are spread out from slot to slot.
#[divan::bench(args = OTHERS)]
fn pass_100_ms_with_timers_of_60_s(bencher: Bencher<'_, '_>, timers: u32) {
    const MINUTE_NS: u64 = 60_000_000_000;
    let (mut node, fired) = node_with(timers, TICK_NS, MINUTE_NS, MINUTE_NS);
    node.turn();
    bencher.counter(ItemsCount::new(100_usize)).bench_warm(|| {
        for _ in 0..100 {
            node.pass(TICK_NS);
            node.turn();
        }
    });
    assert_eq!(node.shard().timers_set(), timers as usize, "after {} fired", fired.fired.get());
}

/// A task that sleeps for a millisecond: spawned, its timer, its wake, its end; two turns.
#[divan::bench(args = OTHERS)]
fn sleep_a_millisecond(bencher: Bencher<'_, '_>, others: u32) {
    let (mut node, _) = node_with(others, FAR_NS, FAR_NS, 0);
    node.turn();
    bencher.bench_warm(|| {
        let task =
            node.rt.within(|shard| shard.spawn(async { sleep(Duration::from_millis(1)).await })).unwrap();
        node.turn();
        node.pass(2 * TICK_NS);
        node.turn();
        node.turn();
        assert!(task.is_finished());
    });
}
