//! What the node may use: no allocation per request, little memory per idle connection, little CPU when full.
//!
//! # Rules
//! 1. The allocator counts for threads that are named like shards, and only while asked to.
//!
//! Not here: each limit of `Limits` alone (beside the code that keeps it).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::client::{get, post};
use common::{Client, Node, Process, sockets, until};
use corelane::{Limits, RingFeatures};

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

/// One test, so that nobody allocates beside it.
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
    assert_eq!(one_by_one, 0, "allocations of 10,000 requests on kept connections");

    let burst = plaintext.repeat(16);
    let pipelined = allocations(|| {
        for client in &mut clients {
            for _ in 0..40 {
                client.send(&burst);
                (0..16).for_each(|_| assert_eq!(client.answer().status, 200));
            }
        }
    });
    assert_eq!(pipelined, 0, "allocations of 5,120 pipelined requests");

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
}

/// Idle connections of the test below. Each costs a descriptor here, and none in the node.
const IDLE: usize = 10_000;

#[test]
fn ten_thousand_idle_connections_cost_less_than_2_kib_each() {
    let nofile = corelane_sys::limits::raise_nofile().unwrap().soft;
    let count = IDLE.min(usize::try_from(nofile).unwrap_or(IDLE).saturating_sub(500));
    let node = Process::node(&["--limit", "connections_max=12000", "--limit", "idle_time=10m"]);
    // What the first requests bring in once for all: code, pools, the tables of the kernel's side.
    for _ in 0..50 {
        assert_eq!(Client::connect(node.addr).get("/plaintext").status, 200);
    }
    let before = node.resident();
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = Client::connect(node.addr);
        client.send(get("/plaintext"));
        all.push(client);
    }
    for client in &mut all {
        assert_eq!(client.answer().status, 200);
    }
    let after = node.resident();
    let each = after.saturating_sub(before) as f64 / count as f64;
    eprintln!("{count} idle connections: {before} to {after} bytes resident, {each:.0} each");
    assert!(each <= 2_048.0, "{each:.0} bytes each");
    // They are not dead: each is still served.
    for client in all.iter_mut().step_by(97) {
        assert_eq!(client.get("/json").status, 200);
    }
    drop(all);
    until("all are let go", || sockets(node.addr) == 0);
    assert_eq!(Client::connect(node.addr).get("/plaintext").status, 200);
}

#[test]
fn a_node_may_hold_a_single_connection() {
    let node = Process::node(&["--limit", "connections_max=1"]);
    let mut first = Client::connect(node.addr);
    assert_eq!(first.get("/plaintext").status, 200);
    // The second may be let in before the pause takes effect, or wait; nobody is refused or lost.
    let mut others: Vec<Client> = (0..5).map(|_| Client::connect(node.addr)).collect();
    for other in &mut others {
        other.send(get("/plaintext"));
    }
    assert_eq!(first.get("/plaintext").status, 200);
    drop(first);
    for mut other in others {
        assert_eq!(other.answer().status, 200);
    }
}

/// CPU time that `node` uses in `time`, in parts of a core.
fn cpu_share(node: &Process, time: Duration) -> f64 {
    let (start, before) = (Instant::now(), node.cpu());
    thread::sleep(time);
    (node.cpu() - before).as_secs_f64() / start.elapsed().as_secs_f64()
}

/// Whether something came that was not read yet.
fn has_bytes(client: &Client) -> bool {
    client.stream().set_nonblocking(true).unwrap();
    let seen = client.stream().peek(&mut [0]);
    client.stream().set_nonblocking(false).unwrap();
    seen.is_ok_and(|len| len > 0)
}

/// A node that is full: those it has are served, the rest wait without costing it anything, and are
/// served as soon as there is room.
fn is_calm_when_full(node: &Process, fits: usize) {
    let mut served: Vec<Client> = Vec::new();
    for _ in 0..fits {
        let mut client = Client::connect(node.addr);
        assert_eq!(client.get("/plaintext").status, 200);
        served.push(client);
    }
    let mut waiting: Vec<Client> = (0..40).map(|_| Client::connect(node.addr)).collect();
    for client in &mut waiting {
        client.try_send(get("/plaintext"));
    }
    thread::sleep(Duration::from_millis(300));
    let share = cpu_share(node, Duration::from_secs(1));
    eprintln!("full: {:.1} % of a core", share * 100.0);
    assert!(share <= 0.10, "a full node uses {:.0} % of a core", share * 100.0);
    for client in &mut served {
        assert_eq!(client.get("/plaintext").status, 200, "those it has are served");
    }
    let waited = waiting.iter().filter(|client| !has_bytes(client)).count();
    assert!(waited > 0, "the node was full");
    let start = Instant::now();
    drop(served);
    // Each makes room for the next.
    let answered = waiting.into_iter().filter_map(|mut client| client.next(false).ok()).count();
    let took = start.elapsed();
    eprintln!("{waited} had to wait, and were served within {took:?}");
    assert!(took < Duration::from_secs(2), "recovery took {took:?}");
    assert_eq!(answered, 40, "none of those that waited was lost");
    until("all are let go", || sockets(node.addr) == 0);
    let mut client = Client::connect(node.addr);
    assert_eq!(client.get("/plaintext").status, 200);
}

#[test]
fn a_node_with_a_full_table_is_calm_and_recovers() {
    let node = Process::node(&["--limit", "connections_max=64", "--limit", "descriptors_headroom=128"]);
    is_calm_when_full(&node, 64);
}

/// Set for the process of the test below that serves.
const CHILD: &str = "CORELANE_TEST_WITHOUT_DESCRIPTORS";

#[test]
fn a_node_without_free_descriptors_is_calm_and_recovers() {
    if std::env::var_os(CHILD).is_some() {
        // Sockets are plain descriptors here, and all but 20 of those of the process are taken.
        let limits = Limits { connections_max: 100, descriptors_headroom: 16, ..common::limits() };
        let server = common::server().limits(limits).without(RingFeatures::DIRECT);
        let running = server.start(|_| corelane::node::app()).unwrap();
        let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        taken.truncate(taken.len() - 20);
        eprintln!("listening on {}", running.addr());
        running.wait().unwrap();
        return;
    }
    let program = std::env::current_exe().unwrap();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 300 && exec \"$0\" \"$@\""]).arg(program);
    limited.args(["a_node_without_free_descriptors_is_calm_and_recovers", "--exact", "--nocapture"]);
    let node = Process::start(limited.env(CHILD, "1"));
    is_calm_when_full(&node, 20);
    let said = node.said().join("\n");
    assert!(!said.contains("panicked"), "{said}");
}
