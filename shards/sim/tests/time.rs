//! The clock: what moves it, and by how much.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use common::{Driver, token};
use corelane_base::{Kernel, Op, RecvMode, Wait};
use corelane_sim::{Fault, Faults, Sim, SimConfig};

const SECOND: u64 = 1_000_000_000;

fn free(config: SimConfig) -> SimConfig {
    SimConfig { turn_cost: Duration::ZERO, ..config }
}

#[test]
fn a_sleep_with_nothing_to_come_jumps_to_its_end() {
    let (mut kernel, world) = Sim::new(free(SimConfig::default()));
    kernel.enter(Wait::Until(Some(3_600 * SECOND))).unwrap();
    assert_eq!(world.now(), Duration::from_secs(3_600));
    assert_eq!(kernel.clock().mono_ns, 3_600 * SECOND);
}

#[test]
fn an_enter_that_may_not_sleep_costs_a_turn_and_no_more() {
    let (mut kernel, world) = Sim::new(SimConfig::default());
    world.after(Duration::from_secs(1), |_| {});
    for _ in 0..10 {
        kernel.enter(Wait::No).unwrap();
    }
    assert_eq!(world.now(), Duration::from_micros(10));
}

#[test]
fn a_sleep_ends_when_bytes_arrive_not_when_they_are_sent() {
    let mut d = Driver::new(free(SimConfig { latency: Duration::from_millis(20), ..SimConfig::default() }));
    let (_, peer, sock) = d.pair();
    assert_eq!(d.world.now(), Duration::from_millis(20));
    peer.write(b"x");
    d.push(Op::Recv { sock, token: token(1, 0), mode: RecvMode::Multi });
    let done = d.turn(Wait::Until(Some(SECOND)));
    assert_eq!(done.len(), 1);
    assert_eq!(d.world.now(), Duration::from_millis(40));
}

#[test]
fn a_slow_line_takes_its_time_for_every_byte() {
    let mut d = Driver::new(free(SimConfig { bandwidth: NonZeroU64::new(1_000), ..SimConfig::default() }));
    let (_, peer, sock) = d.pair();
    peer.write(&[0; 500]);
    peer.write(&[0; 250]);
    let done = d.recv(sock, RecvMode::Once);
    assert_eq!((d.take(&done).len(), d.world.now()), (500, Duration::from_millis(500)));
    let done = d.recv(sock, RecvMode::Once);
    assert_eq!((d.take(&done).len(), d.world.now()), (250, Duration::from_millis(750)));
}

#[test]
fn actions_run_at_their_time_in_the_order_of_their_making() {
    let (mut kernel, world) = Sim::new(free(SimConfig::default()));
    let seen = Rc::new(RefCell::new(Vec::new()));
    for (ms, name) in [(5, "later"), (2, "first"), (2, "second")] {
        let seen = Rc::clone(&seen);
        world.after(Duration::from_millis(ms), move |world| {
            seen.borrow_mut().push((name, world.now().as_millis()))
        });
    }
    kernel.enter(Wait::Until(Some(SECOND))).unwrap();
    assert_eq!(*seen.borrow(), [("first", 2), ("second", 2), ("later", 5)]);
    assert_eq!(world.now(), Duration::from_secs(1), "an action alone does not end a sleep");
}

#[test]
fn an_action_can_wake_a_sleeper_by_what_it_does() {
    let mut d = Driver::new(free(SimConfig::default()));
    let (_, peer, sock) = d.pair();
    d.world.after(Duration::from_secs(7), move |_| {
        peer.write(b"x");
    });
    d.push(Op::Recv { sock, token: token(1, 0), mode: RecvMode::Multi });
    assert_eq!(d.turn(Wait::Until(None)).len(), 2, "a byte, and the end of the stream of the dropped peer");
    assert_eq!(d.world.now(), Duration::from_secs(7));
}

#[test]
fn a_held_clock_stops_at_the_last_event_and_fires_no_timer() {
    let (mut kernel, world) = Sim::new(free(SimConfig { free_running: false, ..SimConfig::default() }));
    world.after(Duration::from_secs(1), |_| {});
    for _ in 0..3 {
        kernel.enter(Wait::Until(Some(60 * SECOND))).unwrap();
    }
    assert_eq!(world.now(), Duration::from_secs(1));
    world.advance(Duration::from_secs(59));
    assert_eq!(world.now(), Duration::from_secs(60));
}

#[test]
fn a_sleep_without_end_and_without_events_returns() {
    let (mut kernel, world) = Sim::new(free(SimConfig::default()));
    kernel.enter(Wait::Until(None)).unwrap();
    assert_eq!(world.now(), Duration::ZERO);
    kernel.enter(Wait::Until(Some(u64::MAX))).unwrap();
    assert_eq!(world.now(), Duration::ZERO);
    assert!(world.is_idle());
}

#[test]
fn an_unpark_from_another_thread_ends_the_next_sleep_and_only_that() {
    let (mut kernel, world) = Sim::new(free(SimConfig::default()));
    let bell = kernel.unpark();
    assert!(!kernel.is_rung());
    std::thread::spawn(move || bell.unpark()).join().unwrap();
    kernel.enter(Wait::No).unwrap();
    assert!(kernel.is_rung(), "it did not sleep yet");
    kernel.enter(Wait::Until(Some(SECOND))).unwrap();
    assert_eq!(world.now(), Duration::ZERO);
    assert!(!kernel.is_rung());
    assert!(kernel.pop().is_none(), "a wake is no completion");
    kernel.enter(Wait::Until(Some(SECOND))).unwrap();
    assert_eq!(world.now(), Duration::from_secs(1));
}

#[test]
fn an_unpark_is_not_lost_whatever_goes_wrong() {
    for seed in 0..50 {
        let (mut kernel, world) = Sim::new(SimConfig::seeded(seed, Faults::benign(0.3)));
        for round in 0..20 {
            kernel.unpark().unpark();
            kernel.enter(Wait::No).unwrap();
            assert!(kernel.is_rung(), "seed {seed}, round {round}");
            let before = world.now();
            // An enter that fails to do anything is no sleep.
            let slept = (0..1_000).any(|_| {
                kernel.enter(Wait::Until(Some(3_600 * SECOND))).unwrap();
                !kernel.is_rung()
            });
            assert!(slept, "seed {seed}, round {round}");
            assert!(world.now() - before < Duration::from_secs(1), "seed {seed}, round {round}: it slept");
        }
    }
}

#[test]
fn an_early_return_stays_before_the_end() {
    let faults = Faults::none().with(Fault::EarlyReturn, 1.0);
    let (mut kernel, world) = Sim::new(free(SimConfig::seeded(3, faults)));
    let mut end = 0;
    for _ in 0..100 {
        end += SECOND;
        kernel.enter(Wait::Until(Some(SECOND))).unwrap();
    }
    assert!(kernel.clock().mono_ns < end * 3 / 4, "{:?}", world.now());
    assert_eq!(world.injected(Fault::EarlyReturn), 100);
}

#[test]
fn an_empty_enter_hands_nothing_over_and_keeps_it() {
    let faults = Faults::none().with(Fault::EmptyEnter, 1.0);
    let (mut kernel, world) = Sim::new(SimConfig::seeded(3, faults));
    kernel.push(Op::Socket { v6: false, token: token(1, 0) }).unwrap();
    kernel.enter(Wait::Until(Some(SECOND))).unwrap();
    assert!(kernel.needs_enter());
    assert_eq!(kernel.stats().submitted, 0);
    world.set_faults(Faults::none());
    kernel.enter(Wait::Until(Some(SECOND))).unwrap();
    assert_eq!(kernel.pop().map(|done| done.result), Some(0));
}

#[test]
fn the_wall_clock_jumps_and_the_monotonic_one_does_not() {
    let (mut kernel, world) = Sim::new(free(SimConfig { unix_start: 1_000, ..SimConfig::default() }));
    world.advance(Duration::from_millis(2_500));
    assert_eq!((kernel.clock().mono_ns, kernel.clock().unix_s), (2_500_000_000, 1_002));
    world.jump_wall_clock(-1_000);
    assert_eq!((kernel.clock().mono_ns, kernel.clock().unix_s), (2_500_000_000, 2));
}

#[test]
fn a_clock_that_costs_lets_a_spin_come_to_its_end() {
    let mut d = Driver::new(SimConfig { clock_cost: Duration::from_nanos(50), ..SimConfig::default() });
    d.world.after(Duration::from_micros(10), |_| {});
    let reads = (0..1_000).take_while(|_| d.kernel.clock().mono_ns < 10_000).count();
    assert_eq!(reads, 199);
    assert!(d.kernel.needs_enter(), "what is due by now waits for an enter");
}

#[test]
fn time_that_passes_by_hand_delivers_and_leaves_completions_to_enter() {
    let mut d = Driver::new(SimConfig { latency: Duration::from_millis(1), ..SimConfig::default() });
    let (_, peer, sock) = d.pair();
    d.push(Op::Recv { sock, token: token(1, 0), mode: RecvMode::Multi });
    d.turn(Wait::No);
    peer.write(b"x");
    assert!(!d.kernel.needs_enter());
    d.world.advance(Duration::from_millis(1));
    assert!(d.kernel.needs_enter());
    assert!(d.kernel.pop().is_none());
    assert_eq!(d.turn(Wait::No).len(), 1);
}
