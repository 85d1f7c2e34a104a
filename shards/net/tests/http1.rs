//! HTTP/1.1 connections over the simulator: life, deadlines, limits, faults, drain.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use common::{Bench, get, post, routes};
use corelane_base::Limits;
use corelane_net::http1::Draining;
use corelane_net::{Answer, Response, body_channel};
use corelane_sim::{Faults, SimConfig, seeds};

fn limits() -> Limits {
    Limits { head_time: secs(10), idle_time: secs(60), ..Limits::default() }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn statuses(text: &str) -> Vec<u16> {
    text.match_indices("HTTP/1.1 ").map(|(at, m)| text[at + m.len()..][..3].parse().unwrap()).collect()
}

#[test]
fn a_request_is_answered_and_the_connection_kept() {
    let mut b = Bench::new(limits());
    let peer = b.connect();
    for _ in 0..3 {
        let answer = b.ask(&peer, &get("/"));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    }
    assert!(!peer.is_over());
    peer.close();
    b.check_clean();
}

#[test]
fn pipelined_requests_are_answered_in_order_by_one_send() {
    let mut b = Bench::new(limits());
    let peer = b.connect();
    let mut burst = Vec::new();
    for path in ["/", "/nope", "/"] {
        burst.extend(get(path));
    }
    let sent = b.rt.kernel_stats().submitted;
    let answer = b.ask(&peer, &burst);
    assert_eq!(statuses(&answer), [200, 404, 200]);
    assert_eq!(b.rt.kernel_stats().submitted - sent, 1, "the whole burst leaves in one operation");
    peer.close();
    b.check_clean();
}

#[test]
fn a_burst_beyond_the_budget_of_a_turn_is_answered_whole() {
    let mut b = Bench::new(Limits { pipeline_max: 4, ..limits() });
    let peer = b.connect();
    let burst: Vec<u8> = (0..25).flat_map(|_| get("/")).collect();
    assert_eq!(statuses(&b.ask(&peer, &burst)), [200; 25]);
    peer.close();
    b.check_clean();
}

#[test]
fn a_request_that_comes_byte_by_byte_is_answered_once() {
    let mut b = Bench::new(limits());
    let peer = b.connect();
    let request = post("/echo", b"byte by byte");
    let mut answer = String::new();
    for byte in &request {
        answer.push_str(&b.ask(&peer, &[*byte]));
    }
    assert_eq!(statuses(&answer), [200]);
    assert!(answer.ends_with("byte by byte"));
    peer.close();
    b.check_clean();
}

#[test]
fn whatever_the_kernel_does_the_answers_are_right_or_the_connection_is_seen_to_end() {
    under_all_faults(0);
}

#[test]
fn whatever_the_kernel_does_the_same_holds_for_a_second_third_of_the_seeds() {
    under_all_faults(1);
}

#[test]
fn whatever_the_kernel_does_the_same_holds_for_the_last_third_of_the_seeds() {
    under_all_faults(2);
}

/// A third of the seeds: all of them in one test are minutes on a busy host.
fn under_all_faults(third: u64) {
    let (mut whole, mut all) = (0, 0);
    for seed in seeds(150) {
        if seed % 3 != third {
            continue;
        }
        all += 6;
        let mut b = Bench::faulty(seed, Faults::all(0.03), limits());
        let mut peers = Vec::new();
        for _ in 0..6 {
            peers.push(b.world.connect(b.listener));
        }
        let body: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        for peer in &peers {
            let mut wire = get("/");
            wire.extend(post("/echo", &body));
            wire.extend(get("/big"));
            let mut rest = &wire[..];
            for _ in 0..200 {
                let n = peer.write(rest);
                rest = &rest[n..];
                b.settle();
                if rest.is_empty() || peer.is_over() {
                    break;
                }
            }
        }
        for _ in 0..300 {
            b.pass(Duration::from_millis(20));
        }
        for peer in &peers {
            let got = peer.take();
            if peer.was_reset() || peer.is_refused() || peer.is_eof() || !peer.is_connected() {
                continue;
            }
            let text = String::from_utf8_lossy(&got);
            assert_eq!(statuses(&text), [200, 200, 200], "{}", b.world.log());
            assert!(got.windows(body.len()).any(|w| w == body), "the echo came back changed");
            assert!(got.ends_with(&[b'b'; 1000]), "the big answer is cut");
            whole += 1;
        }
        for peer in &peers {
            peer.close();
        }
        b.pass(secs(90));
        b.check_clean();
    }
    assert!(whole * 4 > all || all < 100, "{whole} of {all} came through: too few to mean anything");
}

#[test]
fn faults_that_lose_nothing_lose_nothing() {
    for seed in seeds(60) {
        let mut b = Bench::faulty(seed, Faults::benign(0.15), limits());
        let peer = b.connect();
        for round in 0..5 {
            let body = vec![b'a' + round; 9_000];
            let mut answer = b.ask(&peer, &post("/echo", &body));
            for _ in 0..50 {
                b.pass(Duration::from_millis(10));
                answer.push_str(&String::from_utf8_lossy(&peer.take()));
            }
            assert_eq!(statuses(&answer), [200], "{}", b.world.log());
            assert!(answer.as_bytes().ends_with(&body));
        }
        peer.close();
        b.pass(secs(1));
        b.check_clean();
    }
}

#[test]
fn an_exhausted_buffer_ring_pauses_receiving_and_loses_no_byte() {
    let limits = Limits { recv_buffers: 2, recv_buffer_bytes: 64, ..limits() };
    let config = SimConfig { free_running: false, ..SimConfig::of(&limits) };
    let mut b = Bench::on(config, limits, Box::new(routes));
    let peers: Vec<_> = (0..5).map(|_| b.connect()).collect();
    let body = vec![b'x'; 5_000];
    for peer in &peers {
        let mut rest = &post("/echo", &body)[..];
        while !rest.is_empty() {
            let n = peer.write(rest);
            rest = &rest[n..];
        }
    }
    b.settle();
    for peer in &peers {
        let got = peer.take();
        assert!(got.ends_with(&body), "{}", String::from_utf8_lossy(&got));
        peer.close();
    }
    assert!(b.http.stats.recv_no_buffers.get() > 0, "the ring was never empty: nothing was tested");
    b.check_clean();
}

#[test]
fn a_connection_that_says_nothing_is_closed_by_idle_time() {
    let mut b = Bench::new(Limits { idle_time: secs(5), ..limits() });
    let peer = b.connect();
    b.pass(Duration::from_millis(4_900));
    assert!(!peer.is_over());
    b.pass(Duration::from_millis(200));
    assert!(peer.is_eof());
    assert_eq!(b.http.stats.timeouts_idle.get(), 1);
    peer.close();
    b.check_clean();
}

#[test]
fn half_a_head_is_answered_408_at_head_time_however_slowly_it_drips() {
    let mut b = Bench::new(Limits { head_time: secs(5), ..limits() });
    let peer = b.connect();
    b.ask(&peer, b"GET / HTTP/1.1\r\nHost: t\r\nX: ");
    let mut answer = String::new();
    for _ in 0..60 {
        answer.push_str(&b.ask(&peer, b"a"));
        b.pass(Duration::from_millis(100));
    }
    assert_eq!(statuses(&answer), [408]);
    assert!(answer.contains("Connection: close"));
    peer.close();
    b.pass(secs(3));
    b.check_clean();
}

#[test]
fn half_a_body_is_answered_408_at_body_time() {
    let mut b = Bench::new(Limits { body_time: secs(5), ..limits() });
    let peer = b.connect();
    let mut answer = b.ask(&peer, b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf");
    b.pass(secs(6));
    answer.push_str(&String::from_utf8_lossy(&peer.take()));
    assert_eq!(statuses(&answer), [408]);
    peer.close();
    b.pass(secs(3));
    b.check_clean();
}

#[test]
fn a_peer_that_reads_nothing_is_gone_by_write_time_and_a_good_one_is_served_meanwhile() {
    let mut b = Bench::new(Limits { write_time: secs(5), ..limits() });
    let bad = b.connect();
    bad.stop_reading();
    let wire: Vec<u8> = (0..20).flat_map(|_| get("/big")).collect();
    bad.write(&wire);
    b.settle();
    let good = b.connect();
    assert_eq!(statuses(&b.ask(&good, &get("/"))), [200]);
    b.pass(secs(6));
    assert_eq!(b.http.stats.timeouts_write.get(), 1);
    assert_eq!(b.http.connections(), 1);
    assert!(bad.was_reset(), "what it does not read must not stay in the kernel");
    assert_eq!(statuses(&b.ask(&good, &get("/"))), [200]);
    bad.close();
    good.close();
    b.check_clean();
}

#[test]
fn a_peer_that_takes_a_little_now_and_then_gains_no_time_by_it() {
    let limits = Limits { write_time: secs(5), ..limits() };
    // Little room on the way: each thousand bytes the peer takes lets the send go on by as much.
    let config = SimConfig {
        free_running: false,
        link_bytes: 16 << 10,
        inbox_bytes_max: 4 << 10,
        ..SimConfig::of(&limits)
    };
    let mut b = Bench::on(config, limits, Box::new(routes));
    let peer = b.connect();
    peer.write(&get("/big"));
    b.settle();
    for _ in 0..20 {
        b.pass(Duration::from_millis(240));
        assert!(!peer.was_reset());
        peer.read(1_000);
        b.settle();
    }
    assert!(b.http.stats.sends_partial.get() > 3, "nothing was tested");
    b.pass(secs(1));
    assert!(peer.was_reset());
    assert_eq!(b.http.stats.timeouts_write.get(), 1);
    b.check_clean();
}

#[test]
fn output_above_the_high_water_mark_stops_reading_until_it_drains() {
    let mut b = Bench::new(Limits { output_high_water: 64 << 10, ..limits() });
    let peer = b.connect();
    peer.stop_reading();
    for _ in 0..400 {
        peer.write(&get("/big"));
        b.turn();
    }
    let held = b.http.stats.requests.get();
    assert!(held < 10, "{held} answers were made for a peer that reads none");
    assert!(b.http.stats.recv_paused.get() > 0);
    peer.start_reading();
    let mut got = 0;
    for _ in 0..2_000 {
        b.settle();
        got += peer.take().len();
    }
    assert!(b.http.stats.requests.get() > held, "reading never went on");
    assert!(got > 300_000 * 2);
    peer.close();
    b.pass(secs(1));
    b.check_clean();
}

#[test]
fn a_handler_past_its_deadline_is_dropped_and_answered_503() {
    let dropped = Rc::new(Cell::new(false));
    struct OnDrop(Rc<Cell<bool>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let flag = Rc::clone(&dropped);
    let mut b = Bench::with(Limits { handler_time: secs(3), ..limits() }, move |_| {
        let guard = OnDrop(Rc::clone(&flag));
        Answer::Later(Box::pin(async move {
            std::future::pending::<()>().await;
            drop(guard);
            Response::status(200)
        }))
    });
    let peer = b.connect();
    let mut answer = b.ask(&peer, &get("/"));
    assert!(!dropped.get());
    b.pass(Duration::from_millis(3_200));
    answer.push_str(&String::from_utf8_lossy(&peer.take()));
    assert_eq!(statuses(&answer), [503]);
    assert!(dropped.get(), "the handler goes on for nobody");
    assert!(peer.is_eof());
    peer.close();
    b.check_clean();
}

#[test]
fn a_handler_is_cancelled_at_once_when_its_client_resets() {
    let mut b = Bench::new(limits());
    let peer = b.connect();
    b.ask(&peer, &get("/never"));
    assert_eq!(b.rt.shard().tasks_alive(), 1);
    peer.reset();
    b.settle();
    assert_eq!(b.rt.shard().tasks_alive(), 0);
    assert_eq!(b.http.stats.cancelled.get(), 1);
    b.check_clean();
}

#[test]
fn a_client_that_ends_its_side_still_gets_an_answer_that_comes_soon() {
    let mut b = Bench::new(limits());
    let soon = b.connect();
    let late = b.connect();
    soon.write(&post("/echo", b"body"));
    soon.shutdown_write();
    late.write(&get("/never"));
    late.shutdown_write();
    b.settle();
    assert_eq!(statuses(&String::from_utf8_lossy(&soon.take())), [200]);
    b.pass(Duration::from_millis(1_200));
    assert_eq!(b.rt.shard().tasks_alive(), 0, "half_close_time is over");
    soon.close();
    late.close();
    b.check_clean();
}

#[test]
fn a_panic_costs_that_request_only() {
    let mut b = Bench::new(limits());
    let (bad, later, good) = (b.connect(), b.connect(), b.connect());
    assert_eq!(statuses(&b.ask(&good, &get("/"))), [200]);
    assert_eq!(statuses(&b.ask(&bad, &get("/panic"))), [500]);
    assert_eq!(statuses(&b.ask(&later, &get("/late-panic"))), [500]);
    assert!(bad.is_eof());
    assert!(later.is_eof());
    assert_eq!(statuses(&b.ask(&good, &get("/"))), [200]);
    assert_eq!(b.http.stats.panics.get(), 2);
    for peer in [bad, later, good] {
        peer.close();
    }
    b.check_clean();
}

#[test]
fn at_the_limit_accept_pauses_and_goes_on_when_there_is_room() {
    let mut b = Bench::new(Limits { connections_max: 4, ..limits() });
    let peers: Vec<_> = (0..4).map(|_| b.connect()).collect();
    assert_eq!(b.http.stats.accept_paused.get(), 1);
    let waiting = b.connect();
    assert_eq!(b.ask(&waiting, &get("/")), "", "it waits in the listen queue");
    assert_eq!(b.http.connections(), 4);
    peers[0].close();
    b.settle();
    assert_eq!(statuses(&b.ask(&waiting, b"")), [200]);
    for peer in peers {
        peer.close();
    }
    waiting.close();
    b.check_clean();
}

#[test]
fn one_address_holds_no_more_than_its_share() {
    let mut b = Bench::new(Limits { connections_per_peer_max: 2, ..limits() });
    let from = |n: u8, port: u16| std::net::SocketAddr::from(([10, 0, 0, n], port));
    let a: Vec<_> = (0..3).map(|n| b.world.connect_from(b.listener, from(1, 1000 + n))).collect();
    let other = b.world.connect_from(b.listener, from(2, 1000));
    b.settle();
    assert_eq!(b.http.stats.refused_per_peer.get(), 1);
    assert!(a[2].is_over());
    assert_eq!(statuses(&b.ask(&other, &get("/"))), [200]);
    a[0].close();
    b.settle();
    let again = b.world.connect_from(b.listener, from(1, 2000));
    b.settle();
    assert_eq!(statuses(&b.ask(&again, &get("/"))), [200], "a share is given back");
    for peer in a {
        peer.close();
    }
    other.close();
    again.close();
    b.check_clean();
}

#[test]
fn unread_input_is_bounded_and_the_oldest_goes_first() {
    let limits =
        Limits { inbox_bytes_max: 8 << 10, head_bytes_max: 4 << 10, line_bytes_max: 2 << 10, ..limits() };
    let mut b = Bench::new(limits);
    let head = format!("GET / HTTP/1.1\r\nHost: t\r\nX: {}", "a".repeat(1_500));
    let peers: Vec<_> = (0..8)
        .map(|_| {
            let peer = b.connect();
            b.ask(&peer, head.as_bytes());
            peer
        })
        .collect();
    assert!(b.http.inbox_bytes() <= 8 << 10);
    assert!(b.http.stats.inbox_evicted.get() >= 2);
    assert!(peers[0].is_over(), "the first to come is the first to go");
    let last = peers.last().unwrap();
    assert_eq!(statuses(&b.ask(last, b"\r\n\r\n")), [200], "the newest is unharmed");
    for peer in peers {
        peer.close();
    }
    b.check_clean();
}

#[test]
fn a_streamed_answer_is_chunked_and_waits_for_its_reader() {
    let produced = Rc::new(Cell::new(0));
    let count = Rc::clone(&produced);
    let mut b = Bench::with(Limits { output_high_water: 16 << 10, ..limits() }, move |_| {
        let (mut sender, stream) = body_channel(8 << 10);
        let count = Rc::clone(&count);
        let task = corelane_exec::spawn(async move {
            for _ in 0..200 {
                if sender.send(Bytes::from(vec![b'\xfe'; 5_000])).await.is_err() {
                    return;
                }
                count.set(count.get() + 1);
            }
            sender.finish();
        });
        task.unwrap().detach();
        Answer::Now(Response::stream("application/octet-stream", None, stream))
    });
    let peer = b.connect();
    peer.stop_reading();
    b.ask(&peer, &get("/"));
    b.pass(secs(1));
    assert!(produced.get() < 150, "{} pieces were made for a peer that reads none", produced.get());
    peer.start_reading();
    let mut got = Vec::new();
    for _ in 0..1_000 {
        b.settle();
        got.extend(peer.take());
    }
    assert_eq!(produced.get(), 200);
    assert!(got.ends_with(b"\r\n0\r\n\r\n"));
    assert_eq!(got.iter().filter(|&&c| c == 0xfe).count(), 200 * 5_000);
    assert_eq!(statuses(&b.ask(&peer, &get("/"))), [200], "the connection goes on");
    peer.reset();
    b.settle();
    b.check_clean();
}

#[test]
fn a_stream_that_breaks_its_promise_ends_the_connection() {
    for (promised, kept) in [(Some(10u64), 5usize), (Some(10), 15), (None, 5)] {
        let mut b = Bench::with(limits(), move |_| {
            let (mut sender, stream) = body_channel(1 << 10);
            let task = corelane_exec::spawn(async move {
                let sent = sender.send(Bytes::from(vec![b'x'; kept])).await;
                if promised.is_some() && sent.is_ok() {
                    sender.finish();
                } // else: dropped without an end
            });
            task.unwrap().detach();
            Answer::Now(Response::stream("text/plain", promised, stream))
        });
        let peer = b.connect();
        let answer = b.ask(&peer, &get("/"));
        assert!(peer.was_reset(), "{promised:?} {kept}: {answer}");
        assert!(!answer.ends_with("0\r\n\r\n"));
        peer.close();
        b.check_clean();
    }
}

#[test]
fn a_client_that_waits_for_100_gets_it_when_the_body_is_wanted() {
    let mut b = Bench::new(limits());
    let peer = b.connect();
    let head = b"POST /echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    assert_eq!(b.ask(&peer, head), "HTTP/1.1 100 Continue\r\n\r\n");
    let answer = b.ask(&peer, b"body");
    assert_eq!(statuses(&answer), [200]);
    assert!(answer.ends_with("body"));
    let refused = head.to_vec();
    let refused = String::from_utf8(refused).unwrap().replace("/echo", "/nope");
    let answer = b.ask(&peer, refused.as_bytes());
    assert_eq!(statuses(&answer), [404]);
    assert!(answer.contains("Connection: close"), "the body may or may not come: {answer}");
    peer.close();
    b.pass(secs(3));
    b.check_clean();
}

#[test]
fn a_refused_request_is_answered_before_the_connection_lingers_and_ends() {
    let mut b = Bench::new(limits());
    let peer = b.connect();
    let answer = b.ask(&peer, b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: x\r\n\r\nGET /smuggled");
    assert_eq!(statuses(&answer), [400]);
    assert!(peer.is_eof() && !peer.was_reset());
    assert_eq!(b.http.connections(), 1, "it still listens, so that the answer is not reset away");
    peer.write(b"more that nobody reads");
    b.pass(secs(3));
    assert_eq!(b.http.connections(), 0);
    b.check_clean();
}

#[test]
fn a_slow_handler_keeps_the_order_of_a_pipeline_and_bounds_what_waits() {
    let mut b = Bench::new(limits());
    let peer = b.connect();
    let mut wire = get("/slow");
    wire.extend(get("/"));
    peer.write(&wire);
    b.settle();
    assert_eq!(peer.received_len(), 0);
    let flood: Vec<u8> = (0..10_000).flat_map(|_| get("/")).collect();
    let mut rest = &flood[..];
    for _ in 0..200 {
        let n = peer.write(rest);
        rest = &rest[n..];
        b.turn();
    }
    assert!(!rest.is_empty(), "everything was taken in while nothing could be answered");
    b.pass(secs(6));
    let got = peer.take();
    let text = String::from_utf8_lossy(&got);
    assert!(text.find("slow").unwrap() < text.find("hello").unwrap());
    peer.reset();
    b.settle();
    b.check_clean();
}

#[test]
fn a_drain_answers_what_came_and_closes_the_rest() {
    let mut b = Bench::new(Limits { drain_idle: secs(2), drain_time: secs(10), ..limits() });
    let (idle, active, busy) = (b.connect(), b.connect(), b.connect());
    b.ask(&idle, &get("/"));
    b.ask(&busy, &get("/slow"));
    let queued = b.world.connect(b.listener); // not accepted yet
    queued.write(&get("/"));
    let http = Rc::clone(&b.http);
    b.rt.within(|shard| http.drain(shard));
    b.settle();
    assert_eq!(statuses(&String::from_utf8_lossy(&queued.take())), [200], "it stood in the queue");
    let answer = b.ask(&active, &get("/"));
    assert!(answer.contains("200") && answer.contains("Connection: close"), "{answer}");
    assert!(!idle.is_over(), "it has until drain_idle");
    assert_eq!(b.http.take_closed_listeners().len(), 1);
    b.pass(Duration::from_millis(2_200));
    assert!(idle.is_eof());
    assert!(!b.http.is_drained(), "one request is under way");
    b.pass(secs(4));
    assert_eq!(statuses(&String::from_utf8_lossy(&busy.take())), [200]);
    for peer in [idle, active, busy, queued] {
        peer.close();
    }
    b.settle();
    assert!(b.http.is_drained());
    b.check_clean();
}

#[test]
fn a_drain_ends_with_its_last_connection_and_not_with_the_next_timer() {
    let mut b = Bench::new(Limits { drain_idle: secs(2), drain_time: secs(30), ..limits() });
    let begun = b.connect();
    b.ask(&begun, &get("/slow"));
    let http = Rc::clone(&b.http);
    b.rt.within(|shard| http.drain(shard));
    b.pass(Duration::from_millis(5_200));
    let answer = String::from_utf8(begun.take()).unwrap();
    assert!(answer.contains("Connection: close"), "it was begun before the drain: {answer}");
    assert!(begun.is_eof());
    begun.close(); // it has read that we close; until then the connection lingers
    b.settle();
    assert!(b.http.is_drained(), "nothing is left to wait for");
    b.check_clean();

    // And the turn in which it ends does not sleep: whoever turns the shard must see it.
    let mut b = Bench::new(Limits { drain_idle: secs(2), drain_time: secs(30), ..limits() });
    let idle = b.connect();
    let http = Rc::clone(&b.http);
    b.rt.within(|shard| http.drain(shard));
    b.pass(Duration::from_millis(1_900));
    b.world.advance(Duration::from_millis(150));
    for _ in 0..50 {
        let before = b.http.is_drained();
        let parks = b.rt.shard().stats.parks.get();
        b.turn();
        if b.http.is_drained() && !before {
            assert_eq!(b.rt.shard().stats.parks.get(), parks, "it slept on the end of the drain");
            idle.close();
            return;
        }
    }
    panic!("it never ended");
}

#[test]
fn a_stream_whose_producer_falls_silent_is_cut() {
    let mut b = Bench::with(Limits { idle_time: secs(5), ..limits() }, |_| {
        let (mut sender, stream) = body_channel(1 << 10);
        let task = corelane_exec::spawn(async move {
            for _ in 0..3 {
                if sender.send(Bytes::from_static(b"tick")).await.is_err() {
                    return;
                }
                corelane_exec::sleep(secs(4)).await;
            }
            std::future::pending::<()>().await;
        });
        task.unwrap().detach();
        Answer::Now(Response::stream("text/plain", None, stream))
    });
    let peer = b.connect();
    b.ask(&peer, &get("/"));
    b.pass(secs(9));
    assert!(!peer.is_over(), "it was never silent for five seconds");
    b.pass(secs(6));
    assert!(peer.was_reset());
    assert_eq!(b.http.connections(), 0);
}

#[test]
fn a_request_that_meets_the_end_of_idle_time_is_answered() {
    // The bytes arrive while the receive is being cancelled: they must not be lost.
    let mut b = Bench::new(Limits { idle_time: secs(5), ..limits() });
    let peer = b.connect();
    b.world.advance(Duration::from_millis(5_100));
    b.rt.turn(false).unwrap(); // the deadline: cancel is pushed
    peer.write(&get("/"));
    b.settle();
    assert_eq!(statuses(&String::from_utf8_lossy(&peer.take())), [200]);
    assert!(!peer.is_over());
    peer.close();
    b.check_clean();
}

#[test]
fn what_is_left_at_the_end_of_a_drain_is_cut() {
    let mut b = Bench::new(Limits { drain_idle: secs(1), drain_time: secs(3), ..limits() });
    let peer = b.connect();
    b.ask(&peer, &get("/never"));
    let http = Rc::clone(&b.http);
    b.rt.within(|shard| http.drain(shard));
    b.pass(Duration::from_millis(3_300));
    assert!(b.http.is_drained());
    assert!(peer.is_over());
    b.check_clean();
}

#[test]
fn an_upgraded_connection_gets_the_bytes_that_came_early() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let mut b = Bench::with(limits(), move |_| {
        let log = Rc::clone(&log);
        Answer::Now(Response::upgrade("test", move |stream| {
            let task = corelane_exec::spawn(async move {
                while let Ok(bytes) = stream.read().await {
                    if bytes.is_empty() {
                        break;
                    }
                    log.borrow_mut().extend_from_slice(&bytes);
                    stream.write_all(Bytes::from_static(b"got it")).await.unwrap();
                }
            });
            task.unwrap().detach();
        }))
    });
    let peer = b.connect();
    let head = "GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\nearly";
    let answer = b.ask(&peer, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\ngot it"), "{answer}");
    assert_eq!(b.ask(&peer, b" and late"), "got it");
    assert_eq!(&*seen.borrow(), b"early and late");
    peer.close();
    b.check_clean();
}

#[test]
fn steps_of_a_full_task_table_answer_503_and_the_shard_goes_on() {
    let mut b = Bench::new(Limits { tasks_max: 2, ..limits() });
    let peers: Vec<_> = (0..3).map(|_| b.connect()).collect();
    b.ask(&peers[0], &get("/never"));
    b.ask(&peers[1], &get("/never"));
    assert_eq!(statuses(&b.ask(&peers[2], &get("/never"))), [503]);
    assert_eq!(b.http.stats.tasks_full.get(), 1);
    for peer in peers {
        peer.reset();
    }
    b.settle();
    b.check_clean();
}
