//! Micro benches of whole requests: a shard with HTTP/1.1 connections on the simulated kernel, and one
//! client.
//!
//! From the client's write to the last byte of the answer in the client's hands: receive, parse, service,
//! write, send, a few turns. The simulated kernel and its log are in every figure and are not what a real one
//! costs, so these are for comparing two builds, never with figures of a server.
//!
//! Not here: routes and handlers (`http`), the machine by itself (`proto-h1`).

#![allow(clippy::unwrap_used)]

#[path = "../../base/benches/shared/mod.rs"]
mod shared;

use bytes::Bytes;
use corelane_base::{Limits, ShardId};
use corelane_exec::Runtime;
use corelane_net::{Answer, Http1, Http1Config, Incoming, Response, Service};
use corelane_pools::{PoolConfig, Pools};
use corelane_sim::{Peer, Sim, SimConfig, SimKernel, World};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

/// Bytes of the large answer.
const LARGE_LEN: usize = 1 << 20;

/// What the client asks of.
struct Routes {
    large: Bytes,
}

impl Service for Routes {
    fn call(&self, mut request: Incoming<'_, '_, '_>) -> Answer {
        match request.head.target.path() {
            "/plaintext" => Answer::Now(Response::text("Hello, World!")),
            "/later" => Answer::Later(Box::pin(async { Response::text("Hello, World!") })),
            "/large" => Answer::Now(Response::bytes("application/octet-stream", self.large.clone())),
            "/echo" => {
                let mut body = request.take_body();
                Answer::Later(Box::pin(async move {
                    match body.collect(1 << 20).await {
                        Ok(bytes) => Response::bytes("application/octet-stream", bytes),
                        Err(_) => Response::status(400),
                    }
                }))
            }
            _ => Answer::Now(Response::status(404)),
        }
    }
}

/// A shard that serves [`Routes`], and a client of it.
struct Node {
    rt: Runtime<SimKernel>,
    world: World,
    peer: Peer,
}

impl Node {
    fn new() -> Node {
        let limits = Limits::default();
        let (kernel, world) = Sim::new(SimConfig { free_running: false, ..SimConfig::of(&limits) });
        let listener = world.add_listener();
        let pools = Pools::new(&PoolConfig::default()).unwrap();
        let mut rt = Runtime::new(ShardId(0), limits, pools, kernel, None);
        rt.within(|shard| {
            let large = Bytes::from(vec![b'b'; LARGE_LEN]);
            let http = Http1::start(shard, Routes { large }, Http1Config::default());
            http.listen(shard, listener);
        });
        let peer = world.connect(listener);
        let mut node = Node { rt, world, peer };
        for _ in 0..8 {
            node.turn();
        }
        node
    }

    fn turn(&mut self) {
        self.rt.turn(false).unwrap();
    }

    /// Sends `wire`, turns until the client has `answer_len` bytes, and gives them.
    fn ask(&mut self, wire: &[u8], answer_len: usize) -> Vec<u8> {
        let mut unsent = wire;
        // A body of 64 KiB and a link of 64 KiB take a handful of turns; anything near this bound hangs.
        for _ in 0..10_000 {
            if !unsent.is_empty() {
                unsent = &unsent[self.peer.write(unsent)..];
            }
            self.turn();
            if self.peer.received_len() >= answer_len {
                return self.peer.take();
            }
        }
        let got = self.peer.received_len();
        panic!("{got} bytes of {answer_len} came; the last events:\n{}", self.world.log());
    }

    /// For the first request of its kind: turns until all is over, and gives how long the answer is.
    fn ask_first(&mut self, wire: &[u8], status: u16) -> usize {
        let mut unsent = wire;
        for _ in 0..1_000 {
            if !unsent.is_empty() {
                unsent = &unsent[self.peer.write(unsent)..];
            }
            self.turn();
        }
        let answer = self.peer.take();
        let said = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(said.as_bytes()), "{:?}", String::from_utf8_lossy(&answer));
        answer.len()
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n").into_bytes()
}

fn post(body_len: usize) -> Vec<u8> {
    let head = format!("POST /echo HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: {body_len}\r\n\r\n");
    let mut wire = head.into_bytes();
    wire.resize(wire.len() + body_len, b'p');
    wire
}

/// Asks the same again and again, on one connection.
fn run(bencher: Bencher<'_, '_>, wire: &[u8], status: u16) {
    let mut node = Node::new();
    let answer_len = node.ask_first(wire, status);
    bencher.bench_warm(|| assert_eq!(node.ask(black_box(wire), answer_len).len(), answer_len));
}

/// Requests that are all in one receive, and answered by one send.
#[divan::bench(args = [1, 16])]
fn plaintext(bencher: Bencher<'_, '_>, requests: usize) {
    run(bencher.counter(ItemsCount::new(requests)), &get("/plaintext").repeat(requests), 200);
}

/// The answer of a future, which is ready at its first poll.
#[divan::bench]
fn plaintext_later(bencher: Bencher<'_, '_>) {
    run(bencher.counter(ItemsCount::new(1_usize)), &get("/later"), 200);
}

#[divan::bench]
fn not_found(bencher: Bencher<'_, '_>) {
    run(bencher.counter(ItemsCount::new(1_usize)), &get("/nowhere"), 404);
}

/// A body that is collected and sent back.
#[divan::bench(args = [1_024, 65_536])]
fn echo_a_body(bencher: Bencher<'_, '_>, body_len: usize) {
    run(bencher.counter(BytesCount::new(2 * body_len)), &post(body_len), 200);
}

/// One MiB of shared bytes, through a link that holds 64 KiB.
#[divan::bench]
fn large_answer(bencher: Bencher<'_, '_>) {
    run(bencher.counter(BytesCount::new(LARGE_LEN)), &get("/large"), 200);
}

/// A connection by itself: accepted, one request, closed by the client.
#[divan::bench]
fn connection_for_one_request(bencher: Bencher<'_, '_>) {
    let mut node = Node::new();
    let wire = get("/plaintext");
    let answer_len = node.ask_first(&wire, 200);
    let listener = corelane_base::ListenerId(0);
    bencher.bench_warm(|| {
        node.peer = node.world.connect(listener);
        node.turn();
        assert_eq!(node.ask(black_box(&wire), answer_len).len(), answer_len);
        node.peer.close();
    });
}
