//! Completions by the handful: who waits for several, and what drivers see of them before the first is handed out.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use common::{Bench, Watch, ms};
use corelane_base::{AcceptMode, Limits, Op, RecvMode, Sock, Token};
use corelane_exec::{Data, Driver, Event, Shard, current, sleep};
use corelane_sim::SimConfig;

const GATHER: Duration = Duration::from_micros(50);

/// A shard that has a timer every 2 ms, ten times, of which its thread has the CPU for `share` of a hundred; how many of
/// its sleeps were to gather.
fn gathers(limits: Limits, share: u64, pause: Duration) -> usize {
    // Time passes as it is read: a busy poll comes to its end.
    let config = SimConfig { clock_cost: Duration::from_micros(1), ..SimConfig::of(&limits) };
    let within = limits.gather_time;
    let (mut b, watch) = Bench::watched(config, limits);
    let Watch { cpu_ns, gathered, .. } = watch;
    b.run(async move {
        for _ in 0..10 {
            let before = current().now().mono_ns;
            sleep(pause).await;
            let passed = current().now().mono_ns - before;
            cpu_ns.set(cpu_ns.get() + passed * share / 100);
        }
        let gathered = gathered.take();
        assert!(gathered.iter().all(|&ns| ns == u64::try_from(within.as_nanos()).unwrap()), "{gathered:?}");
        gathered.len()
    })
}

#[test]
fn a_shard_gathers_where_its_thread_had_more_than_half_of_the_time_and_never_by_default() {
    let limits = || Limits { gather_time: GATHER, ..Limits::default() };
    let busy = gathers(limits(), 60, ms(2));
    assert!(busy >= 8, "{busy} of 10");
    assert_eq!(gathers(limits(), 40, ms(2)), 0, "there was time to spare");
    assert_eq!(gathers(Limits::default(), 100, ms(2)), 0);
}

#[test]
fn nobody_gathers_over_a_timer_or_with_busy_poll() {
    let limits = Limits { gather_time: GATHER, ..Limits::default() };
    let late = Limits { gather_time: ms(8), ..Limits::default() };
    assert_eq!(gathers(late, 100, ms(2)), 0, "the timer would be late");
    let polls = Limits { busy_poll: Duration::from_micros(5), ..limits };
    assert_eq!(gathers(polls, 100, ms(2)), 0);
}

#[test]
fn a_sleep_behind_a_message_of_another_thread_gathers_nothing() {
    let limits = Limits { gather_time: GATHER, ..Limits::default() };
    let (mut b, watch) = Bench::watched(SimConfig::of(&limits), limits);
    let Watch { cpu_ns, gathered, .. } = watch;
    let handle = b.shard().handle();
    b.run(async move {
        for round in 0..20 {
            cpu_ns.set(cpu_ns.get() + 2_000_000);
            if round >= 10 {
                handle.send(|_| {}).unwrap();
            }
            sleep(ms(2)).await;
        }
    });
    let count = gathered.borrow().len();
    assert!((8..=11).contains(&count), "{count} of 20, the last 10 behind a message");
}

const ACCEPT: u8 = 1;

/// Receives from whoever connects, and writes down what is called.
#[derive(Default)]
struct Diary {
    lines: RefCell<Vec<String>>,
    owner: Cell<u8>,
}

impl Driver for Diary {
    fn complete(&self, shard: &Shard, event: Event<'_>) {
        if event.token.tag() == ACCEPT {
            let sock = Sock(u32::try_from(event.result).unwrap());
            let token = Token::new(self.owner.get(), 0, 0, sock.0);
            return shard.push(Op::Recv { sock, token, mode: RecvMode::Multi });
        }
        let Data::Received(bytes) = event.data else { return };
        self.lines.borrow_mut().push(format!("take {}", String::from_utf8_lossy(bytes)));
    }

    fn foresees(&self) -> bool {
        true
    }

    fn foresee(&self, _shard: &Shard, bytes: &[u8]) {
        self.lines.borrow_mut().push(format!("see {}", String::from_utf8_lossy(bytes)));
    }

    fn warm(&self, _shard: &Shard) {
        self.lines.borrow_mut().push("warm".into());
    }

    fn timer(&self, _shard: &Shard, _token: Token) {}

    fn flush(&self, _shard: &Shard) -> bool {
        false
    }
}

/// A shard with `count` connections that all received in the same turn, and what its driver wrote down turn by turn.
fn diary_of(limits: Limits, count: usize) -> Vec<(usize, usize)> {
    let (mut b, _) = Bench::watched(SimConfig::of(&limits), limits);
    let listener = b.world.add_listener();
    let diary = Rc::new(Diary::default());
    b.rt.within(|shard| {
        diary.owner.set(shard.add_driver(Rc::clone(&diary) as Rc<dyn Driver>));
        let token = Token::new(diary.owner.get(), ACCEPT, 0, 0);
        shard.push(Op::Accept { listener, token, mode: AcceptMode::Multi });
    });
    b.settle();
    let peers: Vec<_> = (0..count).map(|_| b.world.connect(listener)).collect();
    b.settle();
    for peer in &peers {
        peer.write(b"x");
    }
    b.settle();
    let lines = diary.lines.take();
    // Runs of what was seen together, and of what was taken behind.
    let (mut runs, mut last) = (vec![(0, 0)], "");
    for line in lines.iter().map(|line| line.split(' ').next().unwrap()).filter(|line| *line != "warm") {
        if line == "see" && last == "take" {
            runs.push((0, 0));
        }
        let run = runs.last_mut().unwrap();
        if line == "see" {
            run.0 += 1
        } else {
            run.1 += 1
        }
        last = line;
    }
    runs
}

#[test]
fn a_driver_sees_no_more_than_32_at_once_and_no_more_than_the_budget_of_a_turn() {
    assert_eq!(diary_of(Limits::default(), 32), [(32, 32)]);
    assert_eq!(diary_of(Limits::default(), 34), [(32, 32), (2, 2)]);
    let three = Limits { completion_budget: 3, ..Limits::default() };
    assert_eq!(diary_of(three, 8), [(3, 3), (3, 3), (2, 2)]);
}

#[test]
fn a_driver_sees_all_that_several_completions_bring_before_the_first_is_handed_out() {
    let mut b = Bench::new();
    let listener = b.world.add_listener();
    let diary = Rc::new(Diary::default());
    b.rt.within(|shard| {
        diary.owner.set(shard.add_driver(Rc::clone(&diary) as Rc<dyn Driver>));
        let token = Token::new(diary.owner.get(), ACCEPT, 0, 0);
        shard.push(Op::Accept { listener, token, mode: AcceptMode::Multi });
    });
    b.settle();
    let peers: Vec<_> = (0..3).map(|_| b.world.connect(listener)).collect();
    b.settle();
    for (peer, text) in peers.iter().zip(["one", "two", "three"]) {
        peer.write(text.as_bytes());
    }
    b.settle();
    let said = ["see one", "see two", "see three", "warm", "take one", "take two", "take three"];
    assert_eq!(diary.lines.take(), said);
    peers[1].write(b"alone");
    b.settle();
    assert_eq!(diary.lines.take(), ["take alone"], "there is nothing to look ahead to");
}
