//! Latencies, sizes and rates, on a clock that only the test moves.
//!
//! Not here: the histograms themselves (`src/http1/measure.rs`).
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use common::{Bench, get, post, routes};
use corelane_base::Limits;
use corelane_net::http1::measure::{self, Http1Numbers};
use corelane_net::{Answer, Response, body_channel};
use corelane_sim::World;

fn numbers(b: &mut Bench) -> Http1Numbers {
    b.rt.within(|shard| measure::numbers(shard))
}

fn counter(numbers: &Http1Numbers, name: &str) -> u64 {
    numbers.counters.iter().find(|(of, _)| *of == name).unwrap().1
}

/// Within the two digits that are kept.
#[track_caller]
fn is_about(ns: u64, ms: u64) {
    let wanted = ms * 1_000_000;
    assert!(ns.abs_diff(wanted) * 50 <= wanted, "{ns} ns are not {ms} ms");
}

/// Lets time pass a millisecond at a time: a timer fires in the first turn after it is due.
fn pass(b: &mut Bench, ms: u64) {
    for _ in 0..ms {
        b.world.advance(Duration::from_millis(1));
        b.turn();
        b.turn();
    }
    b.settle();
}

/// Serves `routes`, and `/work`, which keeps its turn busy for 3 ms.
fn working() -> Bench {
    let clock: Rc<RefCell<Option<World>>> = Rc::default();
    let hands = Rc::clone(&clock);
    let b = Bench::with(Limits::default(), move |request| {
        if request.head.target.path() == "/work" {
            hands.borrow().as_ref().unwrap().advance(Duration::from_millis(3));
            return Answer::Now(Response::text("done"));
        }
        routes(request)
    });
    clock.replace(Some(b.world.clone()));
    b
}

#[test]
fn an_answer_within_a_turn_took_as_long_as_the_turn() {
    let mut b = working();
    let peer = b.connect();
    for _ in 0..5 {
        b.ask(&peer, &get("/work"));
    }
    let numbers = numbers(&mut b);
    assert_eq!(numbers.latency.len(), 5);
    is_about(numbers.latency.min(), 3);
    is_about(numbers.latency.max(), 3);
    assert_eq!(numbers.latency_sum_ns, 15_000_000);
}

#[test]
fn pipelined_answers_all_took_as_long_as_their_common_turn() {
    let mut b = working();
    let peer = b.connect();
    b.ask(&peer, &get("/work").repeat(4));
    let numbers = numbers(&mut b);
    assert_eq!((numbers.latency.len(), counter(&numbers, "requests")), (4, 4));
    is_about(numbers.latency.min(), 12);
}

#[test]
fn an_async_answer_took_from_its_head_to_its_end() {
    let mut b = Bench::new(Limits::default());
    let peer = b.connect();
    b.ask(&peer, &get("/slow"));
    pass(&mut b, 5_010);
    assert!(peer.take().ends_with(b"slow"));
    let numbers = numbers(&mut b);
    assert_eq!(numbers.latency.len(), 1);
    is_about(numbers.latency.max(), 5_000);
}

#[test]
fn a_streamed_answer_is_measured_at_its_end_and_a_cut_one_is_not() {
    let mut b = Bench::with(Limits::default(), |request| {
        let cut = request.head.target.path() == "/cut";
        let (mut out, stream) = body_channel(1 << 20);
        corelane_exec::spawn(async move {
            corelane_exec::sleep(Duration::from_millis(200)).await;
            out.send(Bytes::from(vec![b'x'; 10_000])).await.unwrap();
            if !cut {
                out.finish();
            }
        })
        .unwrap()
        .detach();
        Answer::Now(Response::stream("text/plain", None, stream))
    });
    let peer = b.connect();
    let head = b.ask(&peer, &get("/whole"));
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(numbers(&mut b).latency.len(), 0, "it is not over");
    pass(&mut b, 210);
    let whole = numbers(&mut b);
    assert_eq!(whole.latency.len(), 1);
    is_about(whole.latency.max(), 200);
    assert_eq!(
        whole.answers.sum,
        head.len() as u64 + 10_000,
        "the framing of chunks is no part of an answer"
    );

    b.ask(&peer, &get("/cut"));
    b.pass(Duration::from_secs(1));
    let cut = numbers(&mut b);
    assert_eq!((cut.latency.len(), cut.answers.count()), (1, 1));
    assert_eq!(counter(&cut, "responses_2xx"), 2, "its status was sent");
}

#[test]
fn sizes_are_those_on_the_wire() {
    let mut b = Bench::new(Limits::default());
    let peer = b.connect();
    let requests = [get("/"), post("/echo", b"hello"), get("/nope"), get("/big")];
    let mut received = 0;
    for request in &requests {
        // In two pieces: what is kept of the first must not count twice.
        b.ask(&peer, &request[..request.len() / 2]);
        received += b.ask(&peer, &request[request.len() / 2..]).len() as u64;
    }
    let sent: usize = requests.iter().map(Vec::len).sum();
    let numbers = numbers(&mut b);
    assert_eq!((numbers.requests.sum, numbers.requests.count()), (sent as u64, 4));
    assert_eq!((numbers.answers.sum, numbers.answers.count()), (received, 4));
    assert_eq!(numbers.latency.len(), 4);
}

#[test]
fn refusals_and_panics_are_measured_like_answers() {
    let mut b = Bench::new(Limits::default());
    for bytes in [b"NONSENSE\r\n\r\n".to_vec(), get("/panic"), get("/late-panic")] {
        let peer = b.connect();
        b.ask(&peer, &bytes);
        peer.close();
        b.settle();
    }
    let numbers = numbers(&mut b);
    assert_eq!((counter(&numbers, "responses_4xx"), counter(&numbers, "responses_5xx")), (1, 2));
    assert_eq!((numbers.latency.len(), numbers.answers.count()), (3, 3));
}

#[test]
fn a_handler_that_was_too_late_is_measured_by_its_deadline() {
    let limits = Limits { handler_time: Duration::from_secs(2), ..Limits::default() };
    let mut b = Bench::new(limits);
    let peer = b.connect();
    b.ask(&peer, &get("/never"));
    pass(&mut b, 2_010);
    assert!(peer.take().starts_with(b"HTTP/1.1 503 "));
    let numbers = numbers(&mut b);
    assert_eq!(numbers.latency.len(), 1);
    is_about(numbers.latency.max(), 2_000);
}

#[test]
fn recent_latencies_are_forgotten_and_the_others_kept() {
    let mut b = working();
    let peer = b.connect();
    b.ask(&peer, &get("/work"));
    b.pass(Duration::from_secs(9));
    assert_eq!(numbers(&mut b).recent.len(), 1);
    b.pass(Duration::from_secs(21));
    let later = numbers(&mut b);
    assert_eq!((later.recent.len(), later.latency.len()), (0, 1));
}

#[test]
fn rates_are_over_the_last_second() {
    let mut b = working();
    let peer = b.connect();
    for _ in 0..50 {
        b.ask(&peer, &get("/"));
        b.pass(Duration::from_millis(100));
    }
    let window = numbers(&mut b).window;
    assert!((1_000_000_000..2_100_000_000).contains(&window.at_ns), "{window:?}");
    let a_second = window.answers * 1_000_000_000 / window.at_ns;
    assert!((9..=11).contains(&a_second), "{a_second} answers a second of 10: {window:?}");
    assert_eq!(window.errors, 0);
    assert_eq!(window.bytes_in, window.answers * get("/").len() as u64);

    // Then work: three of every hundred milliseconds.
    for _ in 0..30 {
        b.ask(&peer, &get("/work"));
        b.pass(Duration::from_millis(97));
    }
    let window = numbers(&mut b).window;
    let busy = window.busy_ns * 1_000 / window.at_ns;
    assert!((25..=35).contains(&busy), "{busy} of 1,000 busy: {window:?}");
}

#[test]
fn connections_are_listed_up_to_a_limit_and_counted_beyond_it() {
    let mut b = Bench::new(Limits::default());
    let peers: Vec<_> = (0..5).map(|_| b.connect()).collect();
    b.ask(&peers[0], &get("/"));
    let (open, listed) = b.rt.within(|shard| measure::connections(shard, 3));
    assert_eq!((open, listed.len()), (5, 3));
    assert_eq!(listed.iter().map(|info| info.requests).sum::<u64>(), 1);
}

#[test]
fn a_body_that_nobody_reads_is_lost_from_no_sum() {
    let mut b = Bench::new(Limits::default());
    let peer = b.connect();
    let requests = [post("/", &[b'x'; 1_000]), post("/nope", b"y"), get("/")];
    for request in &requests {
        b.ask(&peer, request);
    }
    let sent: usize = requests.iter().map(Vec::len).sum();
    let numbers = numbers(&mut b);
    assert_eq!((numbers.requests.sum, numbers.requests.count()), (sent as u64, 3));
    assert_eq!(numbers.latency.len(), 3);
}
