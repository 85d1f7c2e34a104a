//! A whole shard on a kernel that costs next to nothing: turns, timers, tasks, and requests from the received
//! bytes to the send.
//!
//! Not here: what the ring costs (`shards/uring/benches`), what the kernel does (`scripts/icount` has the ring's
//! user-space part).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::hint::black_box;
use std::rc::Rc;
use std::task::{Poll, Waker};

use corelane_base::{Limits, ShardId, Token};
use corelane_exec::{Driver, Event, Runtime, Shard};
use corelane_net::{Http1, Http1Config};
use corelane_pools::{PoolConfig, Pools};

use super::super::replay::{LISTENER, Replay};
use super::{Case, OFTEN, ROUND, SELDOM, h1, http};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "turn/idle",
        about: "a turn that finds nothing and may not sleep",
        ops: SELDOM,
        run: idle_turns,
    },
    Case {
        name: "timer/set-fire",
        about: "a timer of a driver, 5 ms ahead: set, and fired together with 63 others",
        ops: SELDOM,
        run: |ops| set_and_fire(5_000_000, ops),
    },
    Case {
        name: "timer/set-fire-far",
        about: "the same, 100 s ahead: it comes down through the levels of the wheel",
        ops: SELDOM,
        run: |ops| set_and_fire(100_000_000_000, ops),
    },
    Case {
        name: "timer/set-cancel",
        about: "a timer 60 s ahead, set and cancelled",
        ops: OFTEN,
        run: set_and_cancel,
    },
    Case {
        name: "task/spawn-run-end",
        about: "a task that ends when it is first polled, one of 64 in a turn",
        ops: SELDOM,
        run: spawn,
    },
    Case {
        name: "task/wake-poll",
        about: "a task that waits, woken and polled, one of 64 in a turn",
        ops: SELDOM,
        run: wake,
    },
    Case {
        name: "request/plaintext",
        about: "GET /plaintext: parsed, routed, answered and sent, alone in its turn",
        ops: SELDOM,
        run: |ops| requests(h1::GET, 1, 1, ops),
    },
    Case {
        name: "request/plaintext-c64",
        about: "the same with 64 connections, which all ask in one turn",
        ops: SELDOM,
        run: |ops| requests(h1::GET, 1, 64, ops),
    },
    Case {
        name: "request/plaintext-x16",
        about: "one of 16 that came together on one connection",
        ops: SELDOM,
        run: |ops| requests(pipelined(), 16, 1, ops),
    },
    Case {
        name: "request/json",
        about: "GET /json, alone in its turn",
        ops: SELDOM,
        run: |ops| requests(b"GET /json HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", 1, 1, ops),
    },
    Case {
        name: "request/async",
        about: "a GET that an async handler answers as a task, alone in its turns",
        ops: SELDOM,
        run: |ops| requests(b"GET /later HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", 1, 1, ops),
    },
    Case {
        name: "request/connection",
        about: "a connection accepted, asked once with Connection: close, and closed",
        ops: SELDOM,
        run: connections,
    },
];

/// A shard by itself, whose connections receive `input`.
fn runtime(input: &'static [u8]) -> Runtime<Replay> {
    let pools = Pools::new(&PoolConfig::default()).expect("memory for pools");
    Runtime::new(ShardId(0), Limits::default(), pools, Replay::new(input), None)
}

fn turn(runtime: &mut Runtime<Replay>) {
    runtime.turn(true).expect("this kernel is always entered");
}

fn idle_turns(ops: u64) {
    let mut runtime = runtime(b"");
    for _ in 0..ops {
        black_box(runtime.turn(false).expect("this kernel is always entered"));
    }
    assert_eq!(runtime.shard().stats.turns.get(), ops);
}

// ----- timers

/// Counts what fires.
#[derive(Default)]
struct Fired(Cell<u64>);

impl Driver for Fired {
    fn complete(&self, _shard: &Shard, event: Event<'_>) {
        panic!("nothing was pushed: {event:?}");
    }

    fn timer(&self, _shard: &Shard, token: Token) {
        self.0.set(self.0.get() + u64::from(black_box(token).index()));
    }

    fn flush(&self, _shard: &Shard) -> bool {
        false
    }
}

fn set_and_fire(ahead_ns: u64, ops: u64) {
    let mut runtime = runtime(b"");
    let fired = Rc::new(Fired::default());
    let owner = runtime.shard().add_driver(Rc::clone(&fired) as Rc<dyn Driver>);
    for _ in 0..ops / ROUND {
        let shard = runtime.shard();
        let deadline = shard.now().mono_ns + ahead_ns;
        for _ in 0..ROUND {
            black_box(shard.timer_for(black_box(deadline), Token::new(owner, 1, 0, 1)));
        }
        // One tick more: a timer is at most that much late.
        runtime.kernel().pass(ahead_ns + 1_000_000);
        runtime.turn(false).expect("this kernel is always entered");
    }
    assert_eq!(fired.0.get(), ops);
}

fn set_and_cancel(ops: u64) {
    let runtime = runtime(b"");
    let shard = runtime.shard();
    let deadline = shard.now().mono_ns + 60_000_000_000;
    for _ in 0..ops {
        let key = shard.timer_for(black_box(deadline), Token::new(1, 1, 0, 1));
        assert!(shard.cancel_timer(black_box(key)), "a timer that was just set");
    }
    assert_eq!(shard.timers_set(), 0);
}

// ----- tasks

fn spawn(ops: u64) {
    let mut runtime = runtime(b"");
    let ran = Rc::new(Cell::new(0));
    for _ in 0..ops / ROUND {
        runtime.within(|shard| {
            for _ in 0..ROUND {
                let ran = Rc::clone(&ran);
                let task = shard.spawn(async move { ran.set(ran.get() + black_box(1)) });
                task.expect("64 tasks find room").detach();
            }
        });
        runtime.turn(false).expect("this kernel is always entered");
    }
    assert_eq!(ran.get(), ops);
}

fn wake(ops: u64) {
    let mut runtime = runtime(b"");
    let polled = Rc::new(Cell::new(0));
    let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
    runtime.within(|shard| {
        for _ in 0..ROUND {
            let (polled, wakers) = (Rc::clone(&polled), Rc::clone(&wakers));
            let mut first = true;
            let waits = poll_fn(move |context| {
                if std::mem::take(&mut first) {
                    wakers.borrow_mut().push(context.waker().clone());
                }
                polled.set(polled.get() + black_box(1));
                Poll::<()>::Pending
            });
            shard.spawn(waits).expect("64 tasks find room").detach();
        }
    });
    runtime.turn(false).expect("this kernel is always entered");
    let wakers = wakers.take();
    for _ in 0..ops / ROUND {
        runtime.within(|_| wakers.iter().for_each(|waker| black_box(waker).wake_by_ref()));
        runtime.turn(false).expect("this kernel is always entered");
    }
    assert_eq!(polled.get(), ROUND + ops);
}

// ----- requests

/// 16 requests in one piece.
fn pipelined() -> &'static [u8] {
    Box::leak(h1::GET.repeat(16).into_boxed_slice())
}

/// A shard that serves the application and has accepted so many connections.
fn serving(input: &'static [u8], connections: u32) -> Runtime<Replay> {
    let mut runtime = runtime(input);
    runtime.within(|shard| {
        let http = Http1::start(shard, http::app(), Http1Config::default());
        http.listen(shard, LISTENER);
    });
    turn(&mut runtime);
    for sock in 0..connections {
        runtime.kernel().connect(sock);
    }
    turn(&mut runtime);
    turn(&mut runtime);
    runtime
}

/// `input` holds `depth` requests; each connection receives it once a round.
fn requests(input: &'static [u8], depth: u64, connections: u32, ops: u64) {
    let mut runtime = serving(input, connections);
    let one = depth * u64::from(connections);
    let mut answer_bytes = 0;
    for round in 0..ops / one {
        let before = runtime.kernel().sent_bytes();
        for sock in 0..connections {
            runtime.kernel().ask(sock);
        }
        // An async answer is there one turn later, or two.
        turn(&mut runtime);
        while runtime.kernel().sent_bytes() == before {
            turn(&mut runtime);
        }
        if round == 0 {
            answer_bytes = runtime.kernel().sent_bytes();
        }
    }
    let (sent, first) =
        (runtime.kernel().sent_bytes(), String::from_utf8_lossy(runtime.kernel().first()).into_owned());
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    assert_eq!(sent, answer_bytes * (ops / one), "answers differ, or some are missing");
}

fn connections(ops: u64) {
    let wire = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\n\r\n";
    let mut runtime = serving(wire, 0);
    for done in 0..ops {
        runtime.kernel().connect(0);
        turn(&mut runtime);
        runtime.kernel().ask(0);
        while runtime.kernel().closed() == done {
            turn(&mut runtime);
        }
    }
    let first = String::from_utf8_lossy(runtime.kernel().first()).into_owned();
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n") && first.contains("Connection: close"), "{first}");
}
