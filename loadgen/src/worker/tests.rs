//! Workers on a simulated kernel, against peers that answer, delay, vanish and lie: what is recorded is exact.
#![allow(clippy::unwrap_used)]

mod truth;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use corelane_pools::{PoolConfig, Pools};
use corelane_sim::{Fault, Faults, Peer, Sim, SimConfig, SimKernel, World};

use super::*;
use crate::protocol::Answer;
use crate::record::{ErrorKind, Tally, Value};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Asks with four bytes; `y` is a good answer, `n` a bad one, `.` goes on, anything else is no answer.
struct Letters;

impl Protocol for Letters {
    type Conn = bool;
    type Ask = u64;

    fn constant(&self) -> Option<(Bytes, u64)> {
        Some((Bytes::from_static(b"ask?"), 0))
    }

    fn write(&mut self, number: u64, out: &mut Vec<u8>) -> u64 {
        out.extend_from_slice(b"ask?");
        number
    }

    fn kind(&self, _ask: u64) -> usize {
        0
    }

    fn read(&self, within: &mut bool, bytes: &mut &[u8], _ask: u64) -> Result<Option<Answer>, ErrorKind> {
        while let Some((&first, rest)) = bytes.split_first() {
            *bytes = rest;
            match first {
                b'.' => *within = true,
                b'y' | b'n' | b'c' => {
                    *within = false;
                    let error = (first == b'n').then_some(ErrorKind::Status5xx);
                    return Ok(Some(Answer { error, close: first == b'c' }));
                }
                _ => return Err(ErrorKind::Garbage),
            }
        }
        Ok(None)
    }

    fn end(&self, _within: &mut bool, _ask: u64) -> Option<Answer> {
        None
    }

    fn is_within(&self, within: &bool) -> bool {
        *within
    }
}

fn config() -> Config {
    Config {
        target: "203.0.113.1:80".parse().unwrap(),
        sources: Vec::new(),
        connections: 4,
        pipeline: 1,
        traffic: Traffic::Closed { think_ns: 0, exponential: false },
        requests_per_connection: 0,
        ramp_ns: 0,
        warmup_ns: 100 * MS,
        duration_ns: SECOND,
        drain_ns: SECOND,
        timeout_ns: 500 * MS,
        slice_ns: 100 * MS,
        seed: 7,
        index: 0,
        of: 1,
        kinds: 1,
        busy_poll: false,
    }
}

fn open(rate: f64) -> Traffic {
    use crate::model::Arrivals;
    use crate::plan::{Dealt, constant_rate};
    Traffic::Open(
        Schedule::new(&Arrivals::Constant, &constant_rate(rate), 7, Dealt { index: 0, of: 1 }).unwrap(),
    )
}

/// Takes every slice, or none while it is full.
#[derive(Default)]
struct Kept {
    slices: Vec<Slice>,
    refuse: bool,
}

impl Slices for Kept {
    fn exchange(&mut self, slice: Slice) -> Result<Slice, Slice> {
        if self.refuse {
            return Err(slice);
        }
        self.slices.push(slice);
        Ok(Slice::default())
    }
}

impl Kept {
    fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.slices.iter().for_each(|slice| total.merge(&slice.tally));
        total
    }
}

/// What a server does with a connection that asked `asked` times.
type Serve = dyn Fn(&World, &Rc<Peer>, usize);

/// How often servers look at their connections.
const LOOK: Duration = Duration::from_micros(50);

/// Looks at every connection to `addr` all the time, and lets `serve` have those that asked.
fn attend(world: &World, addr: SocketAddr, serve: Rc<Serve>) {
    let peers: Rc<RefCell<Vec<Rc<Peer>>>> = Rc::default();
    let mine = Rc::clone(&peers);
    world.serve_with(addr, move |peer| mine.borrow_mut().push(Rc::new(peer)));
    look(world, peers, serve);
}

fn look(world: &World, peers: Rc<RefCell<Vec<Rc<Peer>>>>, serve: Rc<Serve>) {
    let all: Vec<_> = peers.borrow().clone();
    for peer in &all {
        let asked = peer.take().len() / 4;
        if asked > 0 {
            serve(world, peer, asked);
        }
        if peer.is_over() {
            peer.close();
        }
    }
    peers.borrow_mut().retain(|peer| !peer.is_over());
    world.after(LOOK, move |world| look(world, peers, serve));
}

/// Answers each request after `delay`.
fn after(delay: Duration) -> Rc<Serve> {
    Rc::new(move |world, peer, asked| {
        let peer = Rc::clone(peer);
        world.after(delay, move |_| {
            peer.write(&b"y".repeat(asked));
        });
    })
}

struct Rig {
    worker: Worker<SimKernel, Letters>,
    world: World,
    kept: Kept,
}

impl Rig {
    fn new(sim: SimConfig, config: Config, serve: Rc<Serve>) -> Rig {
        let sim = SimConfig { clock_cost: Duration::from_micros(1), ..sim };
        let (kernel, world) = Sim::new(sim);
        attend(&world, config.target, serve);
        let pools = Pools::new(&PoolConfig::default()).unwrap();
        let worker = Worker::new(kernel, pools, Letters, config);
        Rig { worker, world, kept: Kept::default() }
    }

    fn turn(&mut self) {
        self.worker.turn(&mut self.kept).unwrap();
    }

    /// Up to this stage.
    fn reach(&mut self, stage: Stage) {
        let mut turns = 0_u64;
        while self.worker.stage() < stage {
            self.turn();
            if self.worker.stage() == Stage::Ready && stage > Stage::Ready {
                let now = u64::try_from(self.world.now().as_nanos()).unwrap();
                self.worker.start(now + MS);
            }
            turns += 1;
            assert!(turns < 20_000_000, "stuck in {:?}", self.worker.stage());
        }
    }

    fn finish(mut self) -> (Tally, Rig) {
        self.reach(Stage::Done);
        (self.kept.total(), self)
    }
}

fn run(config: Config, serve: Rc<Serve>) -> (Tally, Rig) {
    Rig::new(SimConfig::default(), config, serve).finish()
}

/// Within a share of what was expected.
#[track_caller]
fn near(got: u64, wanted: u64, share: f64) {
    let off = (got as f64 - wanted as f64).abs() / wanted as f64;
    assert!(off <= share, "{got} is not within {share} of {wanted}");
}

fn ns(value: Option<Value>) -> u64 {
    value.unwrap().ns()
}

#[test]
fn a_closed_loop_asks_again_as_soon_as_it_was_answered() {
    let (total, rig) = run(config(), after(Duration::from_millis(1)));
    // Four connections, each about 1 ms a round and up to 50 us until the server looks.
    near(total.counts.completed, 4_000, 0.07);
    near(ns(total.response.percentile(50.0)), MS, 0.07);
    assert_eq!(total.response.count(), total.counts.intended);
    assert_eq!(total.errors.total(), 0);
    assert_eq!(rig.worker.connections_open(), 4);
    assert!(ns(total.send_lag.max()) < 50_000);
}

#[test]
fn a_pipeline_is_filled_and_kept_full() {
    let config = Config { connections: 1, pipeline: 16, ..config() };
    let (total, _) = run(config, after(Duration::from_millis(10)));
    near(total.counts.completed, 1_600, 0.03);
    near(ns(total.service.percentile(50.0)), 10 * MS, 0.01);
}

#[test]
fn thinking_time_passes_between_an_answer_and_the_next_request() {
    let traffic = Traffic::Closed { think_ns: 9 * MS, exponential: false };
    let (total, _) = run(Config { traffic, ..config() }, after(Duration::from_millis(1)));
    near(total.counts.completed, 400, 0.04);
    near(ns(total.response.percentile(50.0)), MS, 0.08);
    let traffic = Traffic::Closed { think_ns: 9 * MS, exponential: true };
    let (total, _) = run(Config { traffic, connections: 32, ..config() }, after(Duration::from_millis(1)));
    near(total.counts.completed, 3_200, 0.1);
}

#[test]
fn a_ramp_lets_connections_begin_one_after_another() {
    let config = Config { ramp_ns: SECOND, warmup_ns: 0, connections: 20, ..config() };
    let (_, rig) = run(config, after(Duration::from_millis(1)));
    let counts: Vec<u64> = rig.kept.slices.iter().map(|slice| slice.tally.counts.completed).collect();
    assert!(counts[0] < counts[4] && counts[4] < counts[9], "{counts:?}");
    // Half of the connections on average.
    near(counts.iter().sum(), 10_000, 0.1);
}

#[test]
fn a_schedule_is_kept_whatever_the_answers() {
    let (total, rig) = run(Config { traffic: open(5_000.0), ..config() }, after(Duration::from_micros(100)));
    assert_eq!(total.counts.intended, 5_000);
    assert_eq!(total.counts.sent, 5_000);
    assert_eq!(total.response.count(), 5_000);
    assert!(ns(total.send_lag.max()) < 20_000, "{:?}", total.send_lag.max());
    assert_eq!(total.counts.waited, 0);
    assert!(rig.worker.counters().spin_ns > 0);
    let slices: Vec<_> = rig.kept.slices.iter().map(|s| (s.start_ns / MS, s.len_ns / MS)).collect();
    assert_eq!(&slices[..10], (0..10).map(|at| (at * 100, 100)).collect::<Vec<_>>());
    assert_eq!(slices.len(), 11, "and the drain");
}

/// Connections that asked while a server stood still, and how often.
type Held = RefCell<Vec<(Rc<Peer>, usize)>>;

/// A server that stands still from 300 ms to 500 ms of the window, then answers at once.
#[test]
fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
    let config = Config { traffic: open(1_000.0), connections: 8, drain_ns: SECOND, ..config() };
    // Ready at 0; start after 1 ms, the window after 100 ms more.
    let (from, to) = (401, 601);
    let held: Rc<Held> = Rc::default();
    let serve: Rc<Serve> = Rc::new(move |world, peer, asked| {
        let now = world.now().as_millis();
        if (from..to).contains(&now) {
            if held.borrow().is_empty() {
                let held = Rc::clone(&held);
                let left = Duration::from_millis(u64::try_from(to).unwrap()) - world.now();
                world.after(left, move |_| {
                    for (peer, asked) in held.borrow_mut().drain(..) {
                        peer.write(&b"y".repeat(asked));
                    }
                });
            }
            held.borrow_mut().push((Rc::clone(peer), asked));
        } else {
            peer.write(&b"y".repeat(asked));
        }
    });
    let (total, _) = run(config, serve);
    assert_eq!(total.response.count(), 1_000);
    // One in five requests waited, from 200 ms down to none: P90 is the middle of those, P99 is 190 ms.
    near(ns(total.response.percentile(90.0)), 100 * MS, 0.02);
    near(ns(total.response.percentile(99.0)), 190 * MS, 0.02);
    near(ns(total.response.max()), 200 * MS, 0.02);
    // Only the eight on the connections show it as service time.
    assert!(ns(total.service.percentile(99.0)) < 10 * MS);
    near(total.counts.waited, 192, 0.05);
    // Our own part of the lag is small: the rest was waiting for connections.
    assert!(ns(total.own_lag.percentile(99.0)) < 50_000, "{:?}", total.own_lag.percentile(99.0));
    assert!(ns(total.send_lag.percentile(99.0)) > 150 * MS);
}

#[test]
fn a_deadline_within_the_drain_is_a_timeout_however_near_its_end() {
    // The last is sent 1 ms before the end, the drain is as long as the timeout, and all deadlines are looked
    // at once in 25 ms.
    let times = Config { warmup_ns: 0, duration_ns: 100 * MS, drain_ns: 500 * MS, ..config() };
    let (total, _) = run(Config { traffic: open(1_000.0), connections: 100, ..times }, Rc::new(|_, _, _| {}));
    assert_eq!(
        (total.counts.intended, total.errors.get(ErrorKind::Timeout)),
        (100, 100),
        "{:?}",
        total.errors
    );
    near(ns(total.service.max()), 500 * MS, 0.001);
}

#[test]
fn requests_that_are_never_answered_are_lower_bounds() {
    let count = Cell::new(0_u32);
    let serve: Rc<Serve> = Rc::new(move |_, peer, asked| {
        count.set(count.get() + 1);
        if !count.get().is_multiple_of(100) {
            peer.write(&b"y".repeat(asked));
        }
    });
    let config = Config { traffic: open(2_000.0), connections: 20, ..config() };
    let (total, _) = run(config, serve);
    assert_eq!(total.response.count(), 2_000);
    near(total.errors.get(ErrorKind::Timeout), 20, 0.05);
    assert!(matches!(total.response.percentile(50.0), Some(Value::Exact(_))));
    let Some(Value::AtLeast(bound)) = total.response.percentile(99.5) else { panic!("{total:?}") };
    near(bound, 500 * MS, 0.001);
    let Some(Value::AtLeast(bound)) = total.service.max() else { panic!("{total:?}") };
    near(bound, 500 * MS, 0.001);
}

#[test]
fn slots_without_a_connection_are_counted_and_bounded() {
    // One connection, 10 ms an answer: 100 a second of 1,000 asked for.
    let config =
        Config { traffic: open(1_000.0), connections: 1, warmup_ns: 0, drain_ns: 100 * MS, ..config() };
    let (total, _) = run(config, after(Duration::from_millis(10)));
    assert_eq!(total.counts.intended, 1_000);
    assert_eq!(total.response.count(), 1_000);
    near(total.errors.get(ErrorKind::Unsent), 890, 0.01);
    assert_eq!(total.response.bounds_count(), total.errors.total());
    assert!(total.response.percentile(99.0).unwrap().is_bound());
    // The oldest slot that was never sent had waited for most of the second and the drain.
    near(ns(total.response.max()), 1_000 * MS, 0.1);
}

#[test]
fn what_is_under_way_at_the_end_is_waited_for_and_then_bounded() {
    let config = Config { connections: 2, duration_ns: 300 * MS, timeout_ns: 10 * SECOND, ..config() };
    let (total, _) = run(config, after(Duration::from_millis(900)));
    // Warm-up requests are answered in the drain; measured ones there are none. Their loop is longer than the window.
    assert_eq!(total.response.count(), 0);
    let silent: Rc<Serve> = Rc::new(|_, _, _| {});
    let traffic = open(20.0);
    let long = 10 * SECOND;
    let config =
        Config { traffic, connections: 20, warmup_ns: 0, timeout_ns: long, ..super::tests::config() };
    let (total, _) = run(config, silent);
    assert_eq!(total.errors.get(ErrorKind::Unanswered), 20);
    // The first of the window had waited for it and the drain.
    near(ns(total.response.max()), 2 * SECOND, 0.02);
    assert!(total.response.percentile(1.0).unwrap().is_bound());
}

#[test]
fn wrong_answers_are_answers_and_errors() {
    let serve: Rc<Serve> = Rc::new(|_, peer, asked| {
        peer.write(&b"n".repeat(asked));
    });
    let (total, rig) = run(Config { traffic: open(1_000.0), ..config() }, serve);
    assert_eq!(total.errors.get(ErrorKind::Status5xx), 1_000);
    assert_eq!(total.response.bounds_count(), 0);
    assert_eq!((total.response.count(), total.failed.count()), (1_000, 1_000));
    assert_eq!(rig.worker.connections_open(), 4, "their connections live on");
}

/// Runs with a server that does this to every tenth request.
fn every_tenth(what: impl Fn(&Peer) + 'static) -> Tally {
    let count = Cell::new(0_u32);
    let serve: Rc<Serve> = Rc::new(move |_, peer, asked| {
        count.set(count.get() + 1);
        if count.get().is_multiple_of(10) {
            what(peer);
        } else {
            peer.write(&b"y".repeat(asked));
        }
    });
    let (total, rig) = run(Config { traffic: open(1_000.0), ..config() }, serve);
    assert_eq!(total.response.count(), 1_000, "each request is there once");
    assert_eq!(rig.worker.connections_open(), 4, "each connection was opened anew");
    near(total.counts.connects, 100, 0.1);
    total
}

#[test]
fn a_connection_that_ends_costs_its_request_and_is_opened_anew() {
    let total = every_tenth(Peer::close);
    near(total.errors.get(ErrorKind::Closed), 100, 0.05);
    let total = every_tenth(Peer::reset);
    near(total.errors.get(ErrorKind::Reset), 100, 0.05);
    let total = every_tenth(|peer| {
        peer.write(b".");
        peer.close();
    });
    near(total.errors.get(ErrorKind::Truncated), 100, 0.05);
    let total = every_tenth(|peer| {
        peer.write(b"!");
    });
    near(total.errors.get(ErrorKind::Garbage), 100, 0.05);
    // One byte too many: the answer is good, what follows is not.
    let total = every_tenth(|peer| {
        peer.write(b"yy");
    });
    near(total.errors.get(ErrorKind::Unasked), 100, 0.1);
}

#[test]
fn an_answer_that_is_the_last_ends_a_connection_without_an_error() {
    let total = every_tenth(|peer| {
        peer.write(b"c");
        peer.close();
    });
    assert_eq!(total.errors.total(), 0);
    near(total.counts.ended, 100, 0.1);
}

#[test]
fn requests_behind_a_lost_one_are_lost_with_it() {
    let serve: Rc<Serve> = Rc::new(|world, peer, asked| {
        let peer = Rc::clone(peer);
        world.after(Duration::from_millis(5), move |_| match asked {
            // The first batch is cut off, so that each connection is opened anew all the time.
            4.. => peer.close(),
            _ => drop(peer.write(&b"y".repeat(asked))),
        });
    });
    let config = Config { connections: 1, pipeline: 4, ..config() };
    let (total, _) = run(config, serve);
    let (closed, abandoned) = (total.errors.get(ErrorKind::Closed), total.errors.get(ErrorKind::Abandoned));
    assert!(closed > 0);
    assert_eq!(abandoned, 3 * closed);
    assert_eq!(total.response.count(), total.counts.intended);
}

#[test]
fn connections_are_renewed_after_as_many_requests_as_asked() {
    let config = Config { requests_per_connection: 5, ..config() };
    let (total, _) = run(config, after(Duration::from_millis(1)));
    near(total.counts.connects, total.counts.completed / 5, 0.02);
    assert_eq!(total.errors.total(), 0);
    assert_eq!(total.connect.count(), total.counts.connects);
    let config = Config { requests_per_connection: 5, traffic: open(1_000.0), ..super::tests::config() };
    let (total, _) = run(config, after(Duration::from_millis(1)));
    assert_eq!(total.counts.completed, 1_000);
    near(total.counts.connects, 200, 0.02);
}

#[test]
fn a_target_that_refuses_is_tried_again_more_and_more_slowly() {
    let mut rig =
        Rig::new(SimConfig::default(), Config { connections: 1, ..config() }, after(Duration::ZERO));
    let other = Config { target: "203.0.113.9:1".parse().unwrap(), connections: 1, ..config() };
    rig.worker.core.config = other;
    let (total, rig) = rig.finish();
    assert_eq!(rig.worker.connections_open(), 0);
    assert_eq!(rig.worker.connect_error(), Some(libc::ECONNREFUSED));
    // 5 + 10 + .. + 320 ms, then each half second.
    let failed = rig.worker.counters().connects_failed;
    assert!((7..=12).contains(&failed), "{failed}");
    assert_eq!(total.counts.completed, 0);
}

#[test]
fn a_connect_without_an_answer_is_given_up_at_the_timeout() {
    let mut rig =
        Rig::new(SimConfig::default(), Config { connections: 1, ..config() }, after(Duration::ZERO));
    rig.world.black_hole("203.0.113.9:1".parse().unwrap());
    rig.worker.core.config.target = "203.0.113.9:1".parse().unwrap();
    rig.reach(Stage::Ready);
    assert_eq!(rig.worker.connect_error(), Some(libc::ETIMEDOUT));
    near(u64::try_from(rig.world.now().as_nanos()).unwrap(), 500 * MS, 0.1);
}

#[test]
fn slices_that_nobody_takes_go_on_and_lose_nothing() {
    let mut rig =
        Rig::new(SimConfig::default(), Config { traffic: open(1_000.0), ..config() }, after(Duration::ZERO));
    rig.kept.refuse = true;
    rig.reach(Stage::Drain);
    for _ in 0..100 {
        rig.turn();
    }
    assert_eq!(rig.worker.stage(), Stage::Drain, "the last one must be taken");
    rig.kept.refuse = false;
    rig.reach(Stage::Done);
    assert_eq!(rig.kept.slices.len(), 1);
    assert_eq!(rig.kept.slices[0].start_ns, 0);
    assert_eq!(rig.kept.total().response.count(), 1_000);
}

#[test]
fn a_run_that_is_stopped_is_measured_up_to_there() {
    let mut rig =
        Rig::new(SimConfig::default(), Config { traffic: open(1_000.0), ..config() }, after(Duration::ZERO));
    rig.reach(Stage::Window);
    while rig.world.now() < Duration::from_millis(351) {
        rig.turn();
    }
    rig.worker.stop();
    rig.reach(Stage::Done);
    let (begin, end) = rig.worker.window_ns();
    near(end - begin, 250 * MS, 0.01);
    let total = rig.kept.total();
    near(total.counts.intended, 250, 0.01);
    assert_eq!(total.response.count(), total.counts.intended);
    assert_eq!(total.response.bounds_count(), 0);
}

#[test]
fn a_window_that_is_no_multiple_of_its_slices_ends_in_time() {
    let config = Config { traffic: open(1_000.0), duration_ns: 250 * MS, slice_ns: 100 * MS, ..config() };
    let (total, rig) = run(config, after(Duration::ZERO));
    assert_eq!(total.counts.intended, 250);
    let lens: Vec<u64> = rig.kept.slices.iter().map(|slice| slice.len_ns / MS).collect();
    assert_eq!(&lens[..3], [100, 100, 50]);
    // Also where the slice is longer than what is left of it when somebody stops it.
    let mut rig = Rig::new(
        SimConfig::default(),
        Config { slice_ns: 3_600 * SECOND, duration_ns: 3_600 * SECOND, ..super::tests::config() },
        after(Duration::ZERO),
    );
    rig.reach(Stage::Window);
    rig.worker.stop();
    rig.reach(Stage::Done);
    assert!(rig.world.now() < Duration::from_secs(1));
}

#[test]
fn whatever_goes_wrong_each_request_is_recorded_once() {
    for seed in 0..24 {
        let faults = Faults::none()
            .with(Fault::ShortRecv, 0.2)
            .with(Fault::PartialSend, 0.2)
            .with(Fault::Delay, 0.1)
            .with(Fault::MultishotEnd, 0.1)
            .with(Fault::NoBuffers, 0.05)
            .with(Fault::EarlyReturn, 0.1)
            .with(Fault::EmptyEnter, 0.1)
            .with(Fault::PartialSubmit, 0.1)
            .with(Fault::SubmissionFull, 0.1)
            .with(Fault::CompletionOverflow, 0.1)
            .with(Fault::Reset, 0.01)
            .with(Fault::SendPipe, 0.01)
            .with(Fault::SendReset, 0.01)
            .with(Fault::ConnectRefused, 0.1)
            .with(Fault::ConnectTimeout, 0.02);
        let sim = SimConfig::seeded(seed, faults);
        let traffic = if seed % 2 == 0 { open(2_000.0) } else { config().traffic };
        let config = Config {
            traffic,
            connections: 8,
            pipeline: 1 + u32::try_from(seed % 4).unwrap(),
            duration_ns: 200 * MS,
            timeout_ns: 50 * MS,
            drain_ns: 100 * MS,
            requests_per_connection: [0, 3][usize::try_from(seed / 2 % 2).unwrap()],
            ..config()
        };
        let mut rig = Rig::new(sim, config, after(Duration::from_micros(300)));
        rig.reach(Stage::Done);
        let total = rig.kept.total();
        assert_eq!(total.response.count(), total.counts.intended, "seed {seed}");
        let answered = total.response.exact().len() - total.failed.count();
        assert_eq!(answered + total.errors.total(), total.counts.intended, "seed {seed}");
        assert!(total.counts.sent <= total.counts.intended, "seed {seed}");
        assert_eq!(total.service.count(), total.counts.sent, "seed {seed}");
        assert_eq!(total.send_lag.count(), total.counts.intended, "seed {seed}");
    }
}

#[test]
fn what_is_asked_as_the_window_begins_is_counted_in_it() {
    // Many answers come with each look at the clock, the first of the window as well.
    let config = Config { connections: 1_000, warmup_ns: 10 * MS, duration_ns: 20 * MS, ..config() };
    let (total, _) = run(config, after(Duration::ZERO));
    assert_eq!(total.counts.intended, total.response.count());
    assert_eq!(total.counts.sent, total.counts.intended);
}

#[test]
fn thinking_goes_on_while_a_connection_is_renewed() {
    let think = Traffic::Closed { think_ns: 9 * MS, exponential: false };
    // By our own rule, and by the word of the server.
    let renewed = Config { traffic: think, requests_per_connection: 1, ..config() };
    let (total, _) = run(renewed, after(Duration::from_millis(1)));
    near(total.counts.completed, 400, 0.05);
    let closing: Rc<Serve> = Rc::new(|world, peer, _| {
        let peer = Rc::clone(peer);
        world.after(Duration::from_millis(1), move |_| {
            peer.write(b"c");
        });
    });
    let think = Traffic::Closed { think_ns: 9 * MS, exponential: false };
    let (total, _) = run(Config { traffic: think, ..config() }, closing);
    near(total.counts.completed, 400, 0.05);
}

#[test]
fn connections_are_renewed_in_the_drain_for_what_is_still_to_be_sent() {
    // 40 ms of work are left when the window ends, each on a connection of its own.
    let config = Config {
        traffic: open(1_100.0),
        requests_per_connection: 1,
        connections: 2,
        warmup_ns: 0,
        ..config()
    };
    let (total, _) = run(config, after(Duration::from_micros(1_900)));
    assert!(total.counts.waited > 0, "it has to fall behind");
    assert_eq!(total.errors.get(ErrorKind::Unsent), 0);
    assert_eq!(total.response.bounds_count(), 0);
}

#[test]
fn slots_that_no_connection_ever_took_have_waited_for_one() {
    let never: Rc<Serve> = Rc::new(|_, _, _| {});
    let config = Config { traffic: open(1_000.0), warmup_ns: 0, timeout_ns: 10 * SECOND, ..config() };
    let (total, _) = run(config, never);
    assert_eq!(total.counts.sent, 4);
    assert_eq!(total.errors.get(ErrorKind::Unsent), total.counts.intended - 4);
    assert_eq!(total.counts.waited, total.counts.intended - 4);
}
