//! Who a connection comes from: names, PROXY headers, limits by address, and the list of connections. What goes
//! wrong with accepting.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Bench, get, post, routes};
use corelane_base::Limits;
use corelane_net::http1::Draining;
use corelane_net::{Answer, Http1Config, Incoming, Response};
use corelane_proto_proxy::{Tlv, write_v1, write_v2};
use corelane_sim::{Fault, Faults, Peer, SimConfig};

const CLIENT: &str = "203.0.113.9:4000";
const PROXY: &str = "10.0.0.7:9999";
const REAL: &str = "198.51.100.4:51234";
const HEADER: &str = "PROXY TCP4 198.51.100.4 192.0.2.1 51234 80\r\n";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn limits() -> Limits {
    Limits { connections_max: 100, descriptors_headroom: 16, ..Limits::default() }
}

fn named() -> Http1Config {
    Http1Config { peers: true, ..Http1Config::default() }
}

fn behind_proxies() -> Http1Config {
    let proxy_from = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    Http1Config { proxy_from, ..Http1Config::default() }
}

/// Tells the peer's address, or what else is asked for.
fn call(request: Incoming<'_, '_, '_>) -> Answer {
    match request.head.target.path() {
        "/peer" => Answer::Now(Response::bytes("text/plain", format!("{:?}", request.peer))),
        _ => routes(request),
    }
}

/// `asked`: the kernel can be asked for names; else accepts bring them.
fn bench(asked: bool, limits: Limits, http: Http1Config, seed: u64, faults: Faults) -> Bench {
    let config = SimConfig { free_running: false, peer_name: asked, seed, faults, ..SimConfig::of(&limits) };
    Bench::configured(config, limits, http, Box::new(call))
}

fn calm(asked: bool, http: Http1Config) -> Bench {
    bench(asked, limits(), http, 0, Faults::none())
}

fn ask(b: &mut Bench, peer: &Peer, path: &str) -> String {
    let answer = b.ask(peer, &get(path));
    answer.split_once("\r\n\r\n").map_or(answer.clone(), |(_, body)| body.to_owned())
}

fn stat(b: &Bench, name: &str) -> u64 {
    b.http.stats.list().iter().find(|(n, _)| *n == name).unwrap().1
}

fn finish(mut b: Bench, peers: &[Peer]) {
    for peer in peers {
        peer.close();
    }
    b.pass(secs(5));
    b.check_clean();
}

#[test]
fn peers_have_names_where_somebody_asked_for_them() {
    for asked in [true, false] {
        let mut b = calm(asked, named());
        let (v4, v6) = (b.connect_from(CLIENT), b.connect_from("[2001:db8::5]:77"));
        assert_eq!(ask(&mut b, &v4, "/peer"), format!("Some({CLIENT})"));
        assert_eq!(ask(&mut b, &v6, "/peer"), "Some([2001:db8::5]:77)");
        let mapped = b.connect_from("[::ffff:203.0.113.9]:4001");
        assert_eq!(ask(&mut b, &mapped, "/peer"), "Some(203.0.113.9:4001)");
        finish(b, &[v4, v6, mapped]);
    }
    let mut b = calm(true, Http1Config::default());
    let peer = b.connect_from(CLIENT);
    assert_eq!(ask(&mut b, &peer, "/peer"), "None");
    finish(b, &[peer]);
}

#[test]
fn no_request_is_served_before_its_peer_is_known_however_late_that_is() {
    for seed in 0..40 {
        let faults = Faults::benign(0.2);
        let mut b = bench(true, limits(), named(), seed, faults);
        let peers: Vec<(String, Peer)> = (0..10)
            .map(|n| {
                let from = format!("203.0.113.{n}:5000");
                let peer = b.world.connect_from(b.listener, from.parse().unwrap());
                assert!(peer.write(&get("/peer")) > 0, "sent before the shard saw the connection");
                (from, peer)
            })
            .collect();
        b.pass(secs(1));
        for (from, peer) in &peers {
            let answer = String::from_utf8(peer.take()).unwrap();
            assert!(answer.ends_with(&format!("Some({from})")), "seed {seed}: {answer}");
            peer.close();
        }
        b.pass(secs(1));
        b.check_clean();
    }
}

#[test]
fn a_peer_has_so_many_connections_and_others_have_theirs() {
    for asked in [true, false] {
        let limits = Limits { connections_per_peer_max: 2, ..limits() };
        let mut b = bench(asked, limits, Http1Config::default(), 0, Faults::none());
        let first = b.connect_from("203.0.113.9:1");
        let second = b.connect_from("[::ffff:203.0.113.9]:2");
        let third = b.connect_from("203.0.113.9:3");
        let other = b.connect_from("203.0.113.10:1");
        assert!(third.is_over());
        assert_eq!(stat(&b, "refused_per_peer"), 1);
        for peer in [&first, &second, &other] {
            assert_eq!(ask(&mut b, peer, "/"), "hello");
        }
        first.close();
        b.settle();
        let fourth = b.connect_from("203.0.113.9:4");
        assert_eq!(ask(&mut b, &fourth, "/"), "hello");
        finish(b, &[second, third, other, fourth]);
    }
}

#[test]
fn the_source_of_a_proxy_header_is_the_peer() {
    for asked in [true, false] {
        let mut b = calm(asked, behind_proxies());
        let (source, destination) = (REAL.parse().unwrap(), "192.0.2.1:80".parse().unwrap());
        let mut v2 = Vec::new();
        let tlvs = [Tlv { kind: 0xe0, value: &[7; 500] }];
        write_v2(&mut v2, Some((source, destination)), &tlvs, true).unwrap();
        let mut v1 = Vec::new();
        write_v1(&mut v1, Some((source, destination)));
        assert_eq!(v1, HEADER.as_bytes());
        for header in [v1, v2] {
            // With the request behind it in one piece, then alone.
            let together = b.connect_from(PROXY);
            let answer = b.ask(&together, &[header.clone(), get("/peer")].concat());
            assert!(answer.ends_with(&format!("Some({REAL})")), "{answer}");
            assert_eq!(ask(&mut b, &together, "/peer"), format!("Some({REAL})"), "and stays it");
            let apart = b.connect_from("[fd00::1]:9");
            assert_eq!(b.ask(&apart, &header), "");
            assert_eq!(ask(&mut b, &apart, "/peer"), format!("Some({REAL})"));
            together.close();
            apart.close();
        }
        assert_eq!(stat(&b, "proxy_errors"), 0);
        finish(b, &[]);
    }
}

#[test]
fn a_header_that_comes_byte_by_byte_is_put_together() {
    for seed in 0..10 {
        let mut b = bench(true, limits(), behind_proxies(), seed, Faults::benign(0.2));
        let peer = b.connect_from(PROXY);
        let mut header = Vec::new();
        let source = "[2001:db8::44]:9".parse().unwrap();
        write_v2(&mut header, Some((source, source)), &[], false).unwrap();
        for byte in [header, post("/echo", b"body of the request")].concat() {
            assert_eq!(peer.write(&[byte]), 1);
            b.pass(Duration::from_millis(2));
        }
        b.pass(Duration::from_millis(100));
        let answer = String::from_utf8(peer.take()).unwrap();
        assert!(answer.ends_with("body of the request"), "{answer}");
        assert!(ask(&mut b, &peer, "/peer").contains("2001:db8::44"));
        peer.close();
        b.pass(secs(1));
        b.check_clean();
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_keeps_its_own_address() {
    let mut b = calm(true, behind_proxies());
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let peer = b.connect_from(PROXY);
        b.ask(&peer, header);
        assert_eq!(ask(&mut b, &peer, "/peer"), format!("Some({PROXY})"));
        peer.close();
    }
    finish(b, &[]);
}

#[test]
fn a_proxy_without_a_proper_header_is_closed_without_a_word() {
    let mut b = calm(true, behind_proxies());
    let bad: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: t\r\n\r\n",
        b"PROXY TCP4 300.1.1.1 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 198.51.100.4 192.0.2.1 51234\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\0\0\0",
        &[b'P'; 200],
    ];
    for (at, bytes) in bad.iter().enumerate() {
        let peer = b.connect_from(PROXY);
        assert_eq!(b.ask(&peer, bytes), "");
        assert!(peer.is_over(), "{at}");
        assert_eq!(stat(&b, "proxy_errors"), at as u64 + 1);
    }
    assert_eq!((stat(&b, "requests"), stat(&b, "rejected")), (0, 0));
    finish(b, &[]);
}

#[test]
fn a_header_has_the_time_of_a_head_and_a_health_check_that_says_nothing_is_no_error() {
    let mut b = calm(true, behind_proxies());
    let (slow, silent, half) = (b.connect_from(PROXY), b.connect_from(PROXY), b.connect_from(PROXY));
    let check = b.connect_from(PROXY);
    check.close();
    b.settle();
    assert_eq!(stat(&b, "proxy_errors"), 0);
    // Half a header and the end of the stream.
    half.write(b"PROXY TCP4 198");
    half.close();
    b.settle();
    assert_eq!(stat(&b, "proxy_errors"), 1);
    for byte in b"PROXY TCP4" {
        slow.write(&[*byte]);
        b.pass(Duration::from_millis(900));
    }
    assert!(!slow.is_over());
    b.pass(secs(2));
    assert!(slow.is_over());
    assert!(silent.is_over(), "whoever must speak first and does not");
    assert_eq!((stat(&b, "proxy_errors"), stat(&b, "timeouts_head")), (3, 2));
    finish(b, &[slow, silent]);
}

#[test]
fn a_header_from_anybody_else_is_a_malformed_request() {
    for http in [behind_proxies(), named(), Http1Config::default()] {
        let mut b = calm(true, http);
        let peer = b.connect_from(CLIENT);
        let answer = b.ask(&peer, &[HEADER.as_bytes(), &get("/peer")].concat());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!((stat(&b, "proxy_errors"), stat(&b, "rejected")), (0, 1));
        let plain = b.connect_from(CLIENT);
        assert_eq!(ask(&mut b, &plain, "/"), "hello");
        finish(b, &[peer, plain]);
    }
}

#[test]
fn a_limit_by_address_counts_who_the_proxy_announces_and_never_the_proxy() {
    let limits = Limits { connections_per_peer_max: 2, ..limits() };
    let mut b = bench(true, limits, behind_proxies(), 0, Faults::none());
    let mut peers = Vec::new();
    for n in 0..6 {
        let peer = b.connect_from(PROXY);
        let header = format!("PROXY TCP4 198.51.100.{n} 192.0.2.1 5 80\r\n");
        b.ask(&peer, header.as_bytes());
        assert_eq!(ask(&mut b, &peer, "/"), "hello");
        peers.push(peer);
    }
    let header = b"PROXY TCP4 198.51.100.3 192.0.2.1 6 80\r\n";
    let second = b.connect_from(PROXY);
    b.ask(&second, header);
    assert_eq!(ask(&mut b, &second, "/"), "hello");
    // The third of that address, with its request right behind.
    let third = b.connect_from(PROXY);
    assert_eq!(b.ask(&third, &[&header[..], &get("/")].concat()), "");
    assert!(third.is_over());
    assert_eq!(stat(&b, "refused_per_peer"), 1);
    // The same client without the proxy counts, too.
    let direct = b.connect_from("198.51.100.3:9");
    assert!(direct.is_over());
    second.close();
    b.settle();
    let direct = b.connect_from("198.51.100.3:10");
    assert_eq!(ask(&mut b, &direct, "/"), "hello");
    peers.extend([third, direct]);
    finish(b, &peers);
}

#[test]
fn a_drain_ends_connections_that_wait_for_a_header_and_finishes_those_that_had_it() {
    let limits = Limits { drain_idle: secs(1), drain_time: secs(8), ..limits() };
    let mut b = bench(true, limits, behind_proxies(), 0, Faults::none());
    let (silent, half, busy) = (b.connect_from(PROXY), b.connect_from(PROXY), b.connect_from(PROXY));
    half.write(&HEADER.as_bytes()[..20]);
    b.ask(&busy, &[HEADER.as_bytes(), &get("/slow")].concat());
    let http = b.http.clone();
    b.rt.within(|shard| http.drain(shard));
    b.pass(secs(2));
    assert!(silent.is_over());
    // Who began in time may go on.
    let answer = b.ask(&half, &[&HEADER.as_bytes()[20..], &get("/peer")].concat());
    assert!(answer.ends_with(&format!("Some({REAL})")), "{answer}");
    b.pass(secs(4));
    assert!(String::from_utf8(busy.take()).unwrap().ends_with("slow"));
    half.close();
    busy.close();
    b.pass(secs(3));
    assert!(http.is_drained());
    b.check_clean();
}

#[test]
fn faults_of_every_kind_leave_nothing_behind_a_proxy() {
    for seed in 0..60 {
        for asked in [true, false] {
            let limits = Limits { connections_per_peer_max: 3, drain_time: secs(3), ..limits() };
            let mut b = bench(asked, limits, behind_proxies(), seed, Faults::all(0.05));
            let mut peers = Vec::new();
            for n in 0..12 {
                let from = if n % 3 == 0 { CLIENT.to_owned() } else { format!("10.0.0.{n}:77") };
                let peer = b.world.connect_from(b.listener, from.parse().unwrap());
                let header = if n % 3 == 0 { "" } else { HEADER };
                let bytes = [header.as_bytes(), &get("/peer")].concat();
                let (one, two) = bytes.split_at(n * 7 % bytes.len());
                peer.write(one);
                b.pass(Duration::from_millis(20));
                peer.write(two);
                peers.push((peer, if n % 3 == 0 { CLIENT } else { REAL }));
            }
            b.pass(secs(1));
            for (peer, real) in &peers {
                let answer = String::from_utf8(peer.take()).unwrap();
                if let Some((_, body)) = answer.split_once("\r\n\r\n") {
                    assert!(body.is_empty() || format!("Some({real})").starts_with(body), "{seed}: {answer}");
                }
                peer.close();
            }
            b.world.set_faults(Faults::none());
            let http = b.http.clone();
            b.rt.within(|shard| http.drain(shard));
            b.pass(secs(5));
            assert!(http.is_drained(), "seed {seed}: {}", b.world.log());
            b.check_clean();
        }
    }
}

#[test]
fn connections_are_listed_with_what_they_are_at() {
    let mut b = calm(true, behind_proxies());
    let idle = b.connect_from(CLIENT);
    b.ask(&idle, &get("/"));
    b.ask(&idle, &get("/"));
    let header = b.connect_from(PROXY);
    let handler = b.connect_from("203.0.113.2:2");
    handler.write(&get("/slow"));
    let head = b.connect_from("203.0.113.3:3");
    head.write(b"GET / HT");
    let body = b.connect_from("203.0.113.4:4");
    body.write(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nab");
    b.settle();
    b.pass(secs(3));
    let http = b.http.clone();
    let all = b.rt.within(|shard| http.list(shard, 100));
    let states: Vec<&str> = all.iter().map(|info| info.state).collect();
    assert_eq!(states, ["idle", "header", "handler", "head", "body"]);
    let first = all[0];
    assert_eq!(first.peer, Some(CLIENT.parse().unwrap()));
    assert_eq!(first.requests, 2);
    assert_eq!(first.bytes_in, 2 * get("/").len() as u64);
    assert!(first.bytes_out > 2 * 5);
    assert!((3_000_000_000..3_100_000_000).contains(&first.idle_ns), "{first:?}");
    assert!(first.age_ns >= first.idle_ns);
    assert!(all[1..].iter().all(|info| info.idle_ns == 0), "{all:?}");
    let ids: std::collections::HashSet<u64> = all.iter().map(|info| info.id).collect();
    assert_eq!(ids.len(), 5);
    assert_eq!(b.rt.within(|shard| http.list(shard, 2)).len(), 2);
    finish(b, &[idle, header, handler, head, body]);
}

#[test]
fn peers_that_left_while_they_waited_do_not_make_the_others_wait() {
    let mut at_once = 0;
    for asked in [true, false] {
        for seed in 0..20 {
            let faults = Faults::none().with(Fault::AcceptAborted, 0.4);
            let mut b = bench(asked, limits(), named(), seed, faults);
            let peers: Vec<Peer> = (0..30).map(|_| b.world.connect(b.listener)).collect();
            // No time passes but what turns cost: a rest would still stand.
            b.settle();
            let accepted = stat(&b, "accepted");
            let aborted = b.world.injected(Fault::AcceptAborted);
            at_once += u32::from(accepted + aborted == 30);
            b.pass(secs(1));
            assert_eq!(stat(&b, "accepted") + b.world.injected(Fault::AcceptAborted), 30);
            finish(b, &peers);
        }
    }
    // But for eight in a row, once in 1,500.
    assert!(at_once >= 38, "{at_once} of 40");
}

#[test]
fn a_queue_longer_than_the_table_is_served_in_turn_and_nobody_is_lost() {
    for asked in [true, false] {
        let limits = Limits { connections_max: 10, descriptors_headroom: 16, ..limits() };
        let mut b = bench(asked, limits, named(), 0, Faults::none());
        let mut peers: Vec<Peer> = (0..150).map(|_| b.world.connect(b.listener)).collect();
        for peer in &peers {
            peer.write(&get("/"));
        }
        let mut served = 0;
        while served < 150 {
            b.settle();
            assert!(b.http.connections() <= 18, "{}", b.http.connections());
            let before = served;
            peers.retain(|peer| {
                let answered = peer.received_len() > 0;
                if answered {
                    served += 1;
                    peer.close();
                }
                !answered
            });
            assert!(served > before, "{served} served, and no further");
        }
        assert_eq!((stat(&b, "accept_errors"), stat(&b, "refused_full")), (0, 0));
        finish(b, &[]);
    }
}
