//! The same scenario on a ring without one feature at a time, and without all: each fallback for an older
//! kernel carries the whole of HTTP.
//!
//! Not here: the ring's own operations under these masks (`uring`).

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::thread;

use common::client::{get, post_chunked};
use common::{Client, Node, pattern};
use corelane::{Limits, RingFeatures};

/// Serves under a mask: everything a connection does, then a drain with a request under way.
fn serves_without(name: &str, mask: RingFeatures) {
    let limits = Limits { connections_max: 200, descriptors_headroom: 100, ..common::limits() };
    let node = Node::of(common::server().shards(2).limits(limits).without(mask));
    let told = node.running().describe().join("\n");
    for (one, feature) in mask.iter() {
        let granted = told.split_once("ring: ").and_then(|(_, rest)| rest.split(';').next()).unwrap();
        assert!(!granted.split(',').any(|has| has == one), "{feature} is left out: {told}");
    }
    let step = |what: &str| eprintln!("without {name}: {what}");

    step("keep-alive");
    let mut client = Client::connect(node.addr);
    for n in 0..50 {
        assert_eq!(client.get(&format!("/token/{n}")).text(), n.to_string());
    }

    step("calls between shards");
    for n in 0..50 {
        assert_eq!(client.get(&format!("/across/{n}")).text(), (2 * n).to_string());
    }

    step("pipelining");
    client.send(get("/plaintext").repeat(300));
    for _ in 0..300 {
        assert_eq!(client.answer().text(), "Hello, World!");
    }

    step("bodies");
    let body = pattern(100 << 10);
    assert!(client.post("/echo", &body).body == body);
    client.send(post_chunked("/echo", &body, 7_000));
    assert!(client.answer().body == body);

    step("large and streamed answers");
    assert!(client.get("/big/1000000").body == pattern(1_000_000));
    assert!(client.get("/stream/300000").body == pattern(300_000));
    assert!(client.get("/sized/300000").body == pattern(300_000));
    let mut writer = client.stream().try_clone().unwrap();
    let sent = post_chunked("/relay", &body, 9_000);
    let sender = thread::spawn(move || writer.write_all(&sent).unwrap());
    assert!(client.answer().body == body);
    sender.join().unwrap();

    step("many connections, some of which leave");
    let mut many: Vec<Client> = (0..60).map(|_| Client::connect(node.addr)).collect();
    for (n, client) in many.iter_mut().enumerate() {
        client.send(get(&format!("/token/{n}")));
    }
    for (n, mut client) in many.into_iter().enumerate() {
        if n % 3 != 0 {
            assert_eq!(client.answer().text(), n.to_string());
        }
    }

    step("an upgrade");
    let mut upgraded = Client::connect(node.addr);
    upgraded.send("GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nbehind");
    assert_eq!(upgraded.answer().status, 101);
    assert_eq!(upgraded.take(6), b"behind");
    upgraded.finish();
    upgraded.ends();

    step("closes");
    let mut closing = Client::connect(node.addr);
    closing.send("GET /plaintext HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert_eq!(closing.answer().status, 200);
    closing.ends();
    let mut refused = Client::connect(node.addr);
    refused.send("nonsense\r\n\r\n");
    refused.try_send(vec![b'x'; 50_000]);
    assert_eq!(refused.answer().status, 400);
    refused.ends();
    client.finish();
    client.ends();
    drop((client, upgraded, closing, refused));
    node.comes_to_rest();

    step("a drain");
    let addr = node.addr;
    let mut idle = Client::connect(addr);
    assert_eq!(idle.get("/plaintext").status, 200);
    let mut busy = Client::connect(addr);
    busy.send(get("/slow/300"));
    common::until("the slow request is under way", || node.tasks() == 1);
    let drain = thread::spawn(move || node.drain());
    idle.ends();
    assert_eq!(busy.answer().text(), "slow");
    drop(busy);
    drain.join().unwrap();
    assert!(Client::try_connect(addr).is_err(), "nobody listens after a drain");
}

#[test]
fn a_node_serves_without_any_one_ring_feature() {
    for (name, feature) in RingFeatures::ALL.iter() {
        serves_without(name, feature);
    }
}

#[test]
fn a_node_serves_with_every_ring_feature_the_kernel_has() {
    serves_without("nothing", RingFeatures::NONE);
}

#[test]
fn a_node_serves_without_all_ring_features() {
    serves_without("all", RingFeatures::ALL);
}

#[test]
fn a_node_serves_with_what_linux_6_1_has() {
    let newer = RingFeatures::NO_SQARRAY.with(RingFeatures::PEER_NAME).with(RingFeatures::NO_IOWAIT);
    serves_without("what came after 6.1", newer);
}
