//! A steady stream of requests allocates nothing: counted on the threads of the shards.
//!
//! # Rules
//! 1. One test in this file: the allocator is the whole process's, and nobody may allocate beside it.
//!
//! Not here: what a route costs without a connection (`http`, `tests/allocations.rs`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::client::{get, post};
use common::{Client, Node};
use corelane::{Listen, ShardHost};

/// The system's allocator, counting.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is a shard; found out once it is asked for.
    static IS_SHARD: Cell<Option<bool>> = const { Cell::new(None) };
}

fn count() {
    if !COUNTS.load(Ordering::Relaxed) {
        return;
    }
    // A thread that ends has no name to ask for any more.
    let is_shard = IS_SHARD.try_with(|known| {
        known.get().unwrap_or_else(|| {
            known.set(Some(false)); // asking may allocate
            let name = thread::current().name().is_some_and(|name| name.starts_with("shard-"));
            known.set(Some(name));
            name
        })
    });
    if is_shard == Ok(true) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to `System` with the same arguments; counting touches atomics and a thread-local
// `Cell` without a destructor, and does not unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, and `pointer` came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the shards while `f` runs.
fn allocations(f: impl FnOnce()) -> u64 {
    ALLOCATIONS.store(0, Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
    f();
    COUNTS.store(false, Ordering::Relaxed);
    ALLOCATIONS.load(Ordering::Relaxed)
}

#[test]
fn a_steady_stream_of_requests_allocates_nothing() {
    let node = Node::serving(common::server(), corelane::node::app);
    let ask = |client: &mut Client, request: &[u8], times: usize| {
        for _ in 0..times {
            client.send(request);
            assert_eq!(client.answer().status, 200);
        }
    };
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(node.addr)).collect();
    let plaintext = get("/plaintext");
    for client in &mut clients {
        ask(client, &plaintext, 200);
        client.send(plaintext.repeat(16));
        (0..16).for_each(|_| assert_eq!(client.answer().status, 200));
    }
    let one_by_one = allocations(|| {
        for client in &mut clients {
            ask(client, &plaintext, 10_000 / 8);
        }
    });
    // glommio allocates for each sleep of the shard, whatever that did between two. On a busy host one is for the request,
    // one for the end of its send.
    let a_sleep = if common::node::host() == ShardHost::Glommio { 4 } else { 0 };
    assert!(
        one_by_one <= 10_000 * 2 * a_sleep,
        "{one_by_one} allocations of 10,000 requests on kept connections"
    );

    let burst = plaintext.repeat(16);
    let pipelined = allocations(|| {
        for client in &mut clients {
            for _ in 0..40 {
                client.send(&burst);
                (0..16).for_each(|_| assert_eq!(client.answer().status, 200));
            }
        }
    });
    // A burst may come, and go, in several pieces.
    assert!(pipelined <= 320 * 4 * a_sleep, "{pipelined} allocations of 5,120 pipelined requests");

    // What is allowed to allocate does, and is counted: the zeros above are no blind spot.
    let echo = post("/echo", b"hello");
    let echoed = allocations(|| ask(&mut clients[0], &echo, 100));
    assert!((100..=2_000).contains(&echoed), "{echoed} allocations of 100 async requests with bodies");
    let json = get("/json");
    let jsons = allocations(|| ask(&mut clients[0], &json, 100));
    let opened = allocations(|| {
        for _ in 0..100 {
            assert_eq!(Client::connect(node.addr).get("/plaintext").status, 200);
        }
    });
    eprintln!(
        "allocations a request: plaintext 0, pipelined 0, json {:.2}, echo {:.2}; a connection {:.2}",
        jsons as f64 / 100.0,
        echoed as f64 / 100.0,
        opened as f64 / 100.0
    );
    drop(clients);
    drop(node);
    pipelines_over_shards(a_sleep);
}

/// Pipelines of Redis clients whose keys are on both of two shards: the call, its task, and nothing for what is in it.
fn pipelines_over_shards(a_sleep: u64) {
    let server = common::server().shards(2).resp("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    let node = Node::serving(server, corelane::node::app);
    let Listen::Tcp(addr) = node.running().resp_listens()[0] else { panic!("it listens on TCP") };
    let mut client = TcpStream::connect(addr).unwrap();
    let wire: Vec<u8> = (0..64).flat_map(|n| format!("GET k{n:02}\r\n").into_bytes()).collect();
    let mut replies = vec![0; 64 * b"$-1\r\n".len()];
    let mut ask = |times: usize| {
        for _ in 0..times {
            client.write_all(&wire).unwrap();
            client.read_exact(&mut replies).unwrap();
        }
    };
    ask(200);
    let count = allocations(|| ask(500));
    eprintln!("allocations a pipeline of 64 over two shards: {:.2}", count as f64 / 500.0);
    assert!(count > 0, "what is counted is not this");
    // Two shards that wait for each other sleep several times each.
    assert!(count <= 500 * (8 + 24 * a_sleep), "{count} allocations of 500 pipelines of 64 commands");
}
