//! A panic in a handler costs its request: that one answer is 500 and its connection closes. Nothing else.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::client::{get, post};
use common::{Client, Node};

/// Silences the panics of shards: they are asked for. Those of the test itself are to be seen.
fn silence() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !thread::current().name().is_some_and(|name| name.starts_with("shard-")) {
            before(info);
        }
    }));
}

#[test]
fn a_thousand_panics_cost_only_the_requests_they_happen_in() {
    static OVER: AtomicBool = AtomicBool::new(false);
    silence();
    let node = Node::new();
    let addr = node.addr;
    let good = (0..4).map(|n| {
        thread::spawn(move || {
            let mut client = Client::connect(addr);
            let mut answered = 0;
            while !OVER.load(Ordering::Relaxed) {
                let token = format!("{n}-{answered}");
                let answer = match answered % 3 {
                    0 => client.get(&format!("/token/{token}")),
                    1 => client.post("/echo", token.as_bytes()),
                    _ => {
                        client.send(get("/slow/1"));
                        client.send(get(&format!("/token/{token}")));
                        assert_eq!(client.answer().text(), "slow");
                        client.answer()
                    }
                };
                assert_eq!((answer.status, answer.text()), (200, token.as_str()));
                answered += 1;
            }
            answered
        })
    });
    let good: Vec<_> = good.collect();
    for n in 0..1_000 {
        let path = if n % 2 == 0 { "/panic" } else { "/panic-later" };
        let mut client = Client::connect(addr);
        // Good ones before and after it on the same connection: those before are answered, the rest is not.
        if n % 5 == 0 {
            client.send(
                [get("/token/before"), post("/echo", b"and this"), get(path), get("/token/x")].concat(),
            );
            assert_eq!(client.answer().text(), "before");
            assert_eq!(client.answer().text(), "and this");
        } else {
            client.send(get(path));
        }
        let answer = client.answer();
        assert_eq!(answer.status, 500, "{path}");
        assert!(answer.closes(), "{path}");
        client.ends();
    }
    OVER.store(true, Ordering::Relaxed);
    for client in good {
        assert!(client.join().unwrap() > 10, "good requests went on beside the panics");
    }
    node.comes_to_rest();
    node.drain();
}

#[test]
fn a_panic_while_a_body_arrives_or_an_answer_streams_ends_that_connection_only() {
    use corelane::{App, OwnedRequest, Response, body_channel, spawn};
    silence();
    let node = Node::serving(common::server(), || {
        App::new(())
            .get("/", |_| "hello")
            .post_async("/upload", |mut request: OwnedRequest<()>| async move {
                let first = request.chunk().await;
                assert!(first.is_err(), "asked to, after {first:?}");
                "never"
            })
            .get("/stream", |_| {
                let (mut out, stream) = body_channel(1 << 20);
                let task = spawn(async move {
                    let sent = out.send(&b"piece"[..]).await;
                    assert!(sent.is_err(), "asked to, in a stream");
                });
                task.unwrap().detach();
                Response::stream("text/plain", None, stream)
            })
    });
    let mut bystander = Client::connect(node.addr);
    for _ in 0..50 {
        let mut client = Client::connect(node.addr);
        client.send("POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\nsome of it");
        let answer = client.answer();
        assert_eq!(answer.status, 500);
        client.ends();

        let mut client = Client::connect(node.addr);
        client.send(get("/stream"));
        assert!(client.next(false).is_err(), "a body that was not finished must not look whole");
        assert_eq!(bystander.get("/").text(), "hello");
    }
    drop(bystander);
    node.comes_to_rest();
}
