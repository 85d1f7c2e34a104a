//! HTTP/1.1 connections where two things meet: a deadline and an answer, the end of the stream and a full
//! output, a drain and an upgrade.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use common::{Bench, get, post, routes};
use corelane_base::Limits;
use corelane_net::http1::Draining;
use corelane_net::{Answer, Response, body_channel};
use corelane_sim::SimConfig;

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn limits() -> Limits {
    Limits { connections_max: 100, descriptors_headroom: 16, ..Limits::default() }
}

fn wide(limits: &Limits) -> SimConfig {
    SimConfig { free_running: false, link_bytes: 1 << 20, ..SimConfig::of(limits) }
}

fn count(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

fn text(peer: &corelane_sim::Peer) -> String {
    String::from_utf8_lossy(&peer.take()).into_owned()
}

#[test]
fn a_download_longer_than_idle_time_is_whole() {
    let mut b = Bench::new(Limits { idle_time: secs(10), ..limits() });
    let peer = b.connect();
    b.world.set_bandwidth(NonZeroU64::new(10_000)); // 300 KB take 30 s
    peer.write(&get("/big"));
    let mut got = 0;
    for _ in 0..4_000 {
        b.world.advance(Duration::from_millis(10));
        for _ in 0..5 {
            b.turn();
        }
        got += peer.take().len();
        if got > 300_000 {
            assert_eq!(b.http.stats.timeouts_idle.get(), 0);
            return;
        }
    }
    panic!("{got} bytes came; over: {}", peer.is_over());
}

#[test]
fn a_whole_body_with_the_end_of_the_stream_behind_it_is_answered() {
    for n in [1_000, 60_000, 70_000, 200_000] {
        let mut b = Bench::on(wide(&limits()), limits(), Box::new(routes));
        let peer = b.connect();
        let wire = post("/echo", &vec![b'x'; n]);
        assert_eq!(peer.write(&wire), wire.len());
        peer.shutdown_write();
        b.settle();
        b.pass(secs(3));
        assert!(text(&peer).starts_with("HTTP/1.1 200 "), "a body of {n} bytes");
    }
}

#[test]
fn a_pipeline_with_the_end_of_the_stream_behind_it_is_answered_whole() {
    let call =
        |_: corelane_net::Incoming<'_, '_, '_>| Answer::Now(Response::bytes("a/b", vec![b'b'; 10_000]));
    let mut b = Bench::on(wide(&limits()), limits(), Box::new(call));
    let peer = b.connect();
    let wire: Vec<u8> = (0..100).flat_map(|_| get("/")).collect();
    assert_eq!(peer.write(&wire), wire.len());
    peer.shutdown_write();
    b.settle();
    b.pass(secs(5));
    assert_eq!(count(&text(&peer)), 100);
    assert!(peer.is_eof() && !peer.was_reset());
}

#[test]
fn streams_that_are_finished_at_once_do_not_end_a_pipeline_early() {
    let call = |_: corelane_net::Incoming<'_, '_, '_>| {
        let (sender, stream) = body_channel(1_000);
        sender.finish();
        Answer::Now(Response::stream("a/b", None, stream))
    };
    let mut b = Bench::on(wide(&limits()), limits(), Box::new(call));
    let peer = b.connect();
    let wire: Vec<u8> = (0..300).flat_map(|_| get("/")).collect();
    assert_eq!(peer.write(&wire), wire.len());
    peer.shutdown_write();
    b.settle();
    b.pass(secs(5));
    assert_eq!(count(&text(&peer)), 300);
}

#[test]
fn an_idle_connection_that_finds_no_buffer_at_its_end_is_answered_or_closed() {
    let limits = Limits { idle_time: secs(5), recv_buffers: 2, recv_buffer_bytes: 64, ..limits() };
    let config = SimConfig { free_running: false, ..SimConfig::of(&limits) };
    let mut b = Bench::on(config, limits, Box::new(routes));
    let peers: Vec<_> = (0..20).map(|_| b.connect()).collect();
    b.world.advance(Duration::from_millis(5_100));
    b.rt.turn(false).unwrap(); // the deadline of all: their receives are being cancelled
    for peer in &peers {
        peer.write(&get("/"));
    }
    b.settle();
    b.pass(secs(20));
    for peer in &peers {
        assert!(peer.is_over() || peer.received_len() > 0, "it waits for ever");
        peer.close();
    }
    b.pass(secs(10));
    b.check_clean();
}

#[test]
fn a_byte_at_the_end_of_idle_time_leaves_no_connection_without_a_deadline() {
    let mut b = Bench::new(Limits { idle_time: secs(5), head_time: secs(5), ..limits() });
    let peer = b.connect();
    b.world.advance(Duration::from_millis(5_100));
    b.rt.turn(false).unwrap();
    peer.write(b"\r");
    b.settle();
    b.pass(secs(15));
    assert!(peer.is_over());
    peer.close();
    b.pass(secs(5));
    b.check_clean();
}

#[test]
fn a_takeover_that_panics_costs_its_connection_only() {
    let mut b = Bench::with(limits(), |request| {
        if request.head.upgrade.is_none() {
            return Answer::Now(Response::text("still here"));
        }
        Answer::Now(Response::upgrade("x", |_stream| panic!("in a takeover")))
    });
    let (bad, good) = (b.connect(), b.connect());
    b.ask(&bad, UPGRADE);
    assert!(bad.is_over());
    assert_eq!(b.http.stats.panics.get(), 1);
    assert!(b.ask(&good, &get("/")).ends_with("still here"));
    bad.close();
    good.close();
    b.check_clean();
}

#[test]
fn an_upgraded_connection_still_counts_as_one() {
    let limits =
        Limits { connections_max: 10, connections_per_peer_max: 2, descriptors_headroom: 16, ..limits() };
    let kept = Rc::new(RefCell::new(Vec::new()));
    let keep = Rc::clone(&kept);
    let mut b = Bench::with(limits, move |_| {
        let keep = Rc::clone(&keep);
        Answer::Now(Response::upgrade("x", move |stream| keep.borrow_mut().push(stream)))
    });
    let from = |host: u8, port: u16| std::net::SocketAddr::from(([10, 0, 0, host], port));
    let mut peers = Vec::new();
    for host in 0..8 {
        for port in 0..3 {
            let peer = b.world.connect_from(b.listener, from(host, 1000 + port));
            b.settle();
            let upgraded = b.ask(&peer, UPGRADE).contains("101");
            assert!(!(upgraded && port == 2), "a third of one address");
            peers.push(peer);
        }
    }
    let first = kept.borrow().len();
    assert!((10..=18).contains(&first), "{first} upgraded with connections_max 10 and single accepts");
    assert!(b.http.stats.accept_paused.get() > 0);
    b.rt.within(|_| kept.borrow_mut().clear());
    b.settle();
    let late = b.world.connect_from(b.listener, from(0, 2000));
    b.settle();
    assert!(b.ask(&late, UPGRADE).contains("101"), "what they held was given back");
    b.rt.within(|_| kept.borrow_mut().clear());
}

#[test]
fn without_a_buffer_for_its_101_no_connection_is_handed_over() {
    let took = Rc::new(Cell::new(false));
    let flag = Rc::clone(&took);
    let mut b = Bench::with(limits(), move |_| {
        let flag = Rc::clone(&flag);
        Answer::Now(Response::upgrade("x", move |_stream| flag.set(true)))
    });
    let mut held = Vec::new();
    for len in [1 << 20, 4_096, 1] {
        while let Ok(buf) = b.pools.get(len) {
            held.push(buf);
        }
    }
    let peer = b.connect();
    assert_eq!(b.ask(&peer, UPGRADE), "");
    assert!(!took.get() && peer.is_over());
    assert_eq!(b.http.stats.pools_full.get(), 1);
}

#[test]
fn a_half_closed_client_gets_a_streamed_answer_whole() {
    for half in [false, true] {
        let mut b = Bench::with(limits(), move |_| {
            let (mut sender, stream) = body_channel(1_000);
            let task = corelane_exec::spawn(async move {
                sender.send("a").await.unwrap();
                corelane_exec::sleep(Duration::from_secs(2)).await;
                sender.send("b").await.unwrap();
                sender.finish();
            });
            task.unwrap().detach();
            Answer::Now(Response::stream("text/plain", None, stream))
        });
        let peer = b.connect();
        peer.write(&get("/"));
        b.settle();
        if half {
            peer.shutdown_write();
        }
        b.settle();
        b.pass(secs(5));
        assert!(text(&peer).ends_with("0\r\n\r\n"), "half-closed: {half}");
    }
}

#[test]
fn a_drain_does_not_wait_for_a_connection_that_came_to_rest_in_it() {
    let mut b = Bench::new(Limits { drain_idle: secs(1), drain_time: secs(60), ..limits() });
    let peer = b.connect();
    b.world.set_bandwidth(NonZeroU64::new(50_000)); // 300 KB take 6 s
    peer.write(&get("/big"));
    b.turn();
    b.turn();
    b.turn();
    let http = Rc::clone(&b.http);
    b.rt.within(|shard| http.drain(shard));
    let mut got = 0;
    for _ in 0..1_000 {
        b.world.advance(Duration::from_millis(10));
        for _ in 0..5 {
            b.turn();
        }
        got += peer.take().len();
    }
    assert!(got > 300_000, "{got} bytes");
    assert!(b.http.is_drained() && !peer.was_reset(), "it waits for drain_time");
}

#[test]
fn pipeline_max_bounds_a_turn_however_many_buffers_it_brings() {
    let limits = Limits { pipeline_max: 2, recv_buffer_bytes: 128, ..limits() };
    let mut b = Bench::on(wide(&limits), limits, Box::new(routes));
    let peer = b.connect();
    let wire: Vec<u8> = (0..400).flat_map(|_| get("/")).collect();
    assert_eq!(peer.write(&wire), wire.len());
    for _ in 0..600 {
        let before = b.http.stats.requests.get();
        b.turn();
        assert!(b.http.stats.requests.get() - before <= 2);
    }
    assert_eq!(count(&text(&peer)), 400);
}

#[test]
fn an_answer_that_leaves_a_large_body_unread_says_that_it_closes() {
    let mut b = Bench::new(limits());
    let peer = b.connect();
    let answer = b.ask(&peer, &post("/", &vec![b'x'; 300_000]));
    assert!(answer.contains("200 OK") && answer.contains("Connection: close"), "{answer}");
}

#[test]
fn a_slow_upload_is_the_clients_fault_not_the_handlers() {
    let mut b = Bench::new(Limits { body_time: secs(30), handler_time: secs(30), ..limits() });
    let peer = b.connect();
    b.ask(&peer, b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf");
    b.pass(secs(31));
    assert!(text(&peer).starts_with("HTTP/1.1 408 "));
    assert_eq!((b.http.stats.timeouts_body.get(), b.http.stats.timeouts_handler.get()), (1, 0));
}

#[test]
fn a_body_that_came_before_it_was_collected_is_not_late_while_its_handler_works() {
    // It fills the high-water mark, so that the connection stops in front of its end.
    let limits = Limits { body_time: secs(30), handler_time: secs(90), body_high_water: 4, ..limits() };
    let mut b = Bench::with(limits, |mut request| {
        let mut body = request.take_body();
        Answer::Later(Box::pin(async move {
            corelane_exec::sleep(secs(1)).await;
            let bytes = body.collect(100).await.unwrap();
            corelane_exec::sleep(secs(60)).await;
            Response::bytes("text/plain", bytes)
        }))
    });
    let peer = b.connect();
    b.ask(&peer, &post("/", b"late"));
    b.pass(secs(62));
    let answer = text(&peer);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("late"), "{answer}");
    assert_eq!(b.http.stats.timeouts_body.get(), 0);
}

#[test]
fn a_cancelled_handler_that_panics_as_it_is_dropped_costs_nothing_more() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let mut b = Bench::with(limits(), |_| {
        let bomb = Bomb;
        Answer::Later(Box::pin(async move {
            std::future::pending::<()>().await;
            drop(bomb);
            Response::status(200)
        }))
    });
    let peer = b.connect();
    b.ask(&peer, &get("/"));
    peer.reset();
    b.settle();
    assert_eq!(b.rt.shard().tasks_alive(), 0);
    assert_eq!(b.rt.shard().stats.tasks_panicked.get(), 1);
    b.check_clean();
}

#[test]
fn bytes_of_a_body_that_nobody_took_are_not_kept() {
    let mut b = Bench::with(limits(), |_| Answer::Now(Response::bytes("a/b", Bytes::from_static(b"no"))));
    let peer = b.connect();
    b.ask(&peer, &post("/", &vec![b'x'; 50_000]));
    assert_eq!(b.http.inbox_bytes(), 0);
    peer.close();
    b.check_clean();
}
