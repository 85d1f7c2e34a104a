//! What the node may use: little memory per idle connection, little CPU when it is full; and what it does at
//! its limits, seen from outside.
//!
//! Not here: allocations (`allocations.rs`), deadlines (`slow.rs`), each limit alone (beside its code).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs::File;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::client::get;
use common::{Client, Cut, Node, Process, sockets, until};
use corelane::{App, Limits, Response, RingFeatures, body_channel, spawn};

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
    assert!(took < Duration::from_secs(8), "recovery took {took:?}");
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

#[test]
fn twenty_thousand_short_connections_leave_nothing_behind() {
    let node = Process::node(&["--limit", "connections_max=50"]);
    let short = |n: u32| {
        let mut client = Client::connect(node.addr);
        // Some leave at once, some without a look at their answer.
        if !n.is_multiple_of(3) {
            client.send(get("/plaintext"));
        }
        if n % 3 == 1 {
            assert_eq!(client.answer().status, 200);
        }
    };
    (0..1_000).for_each(short);
    let before = node.resident();
    (0..20_000).for_each(short);
    let grown = node.resident().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes more are resident");
    until("all are let go", || sockets(node.addr) == 0);
}

#[test]
fn connections_of_one_peer_are_bounded() {
    let limits = Limits { connections_per_peer_max: 10, ..common::limits() };
    let node = Node::serving(common::server().limits(limits), || {
        App::new(()).get("/", |request| request.peer().map(|peer| peer.to_string()))
    });
    for _ in 0..3 {
        let mut all: Vec<Client> = (0..10).map(|_| Client::connect(node.addr)).collect();
        for client in &mut all {
            let here = client.stream().local_addr().unwrap().to_string();
            assert_eq!(client.get("/").text(), here);
        }
        for _ in 0..20 {
            let mut more = Client::connect(node.addr);
            more.try_send(get("/"));
            assert!(matches!(more.next(false), Err(Cut::End | Cut::Reset)), "one more is closed at once");
        }
        assert_eq!(all[0].get("/").status, 200);
        drop(all);
        node.comes_to_rest();
    }
}

#[test]
fn partial_heads_are_bounded_and_the_oldest_goes_first() {
    let limits = Limits { inbox_bytes_max: 64 << 10, ..common::limits() };
    let node = Node::of(common::server().limits(limits));
    let part = format!("GET / HTTP/1.1\r\nHost: t\r\nX: {}", "x".repeat(2_000));
    let mut all: Vec<Client> = (0..100).map(|_| Client::connect(node.addr)).collect();
    for client in &mut all {
        client.send(&part);
    }
    // 64 KiB hold 32 of these.
    until("the others are closed", || sockets(node.addr) <= 32);
    // The kernel's list may leave some out while others elsewhere come and go.
    until("no more than needed", || sockets(node.addr) >= 30);
    // The kernel delivers what came together in about the order it came, so the line is not sharp.
    let served = |clients: &mut [Client]| {
        let mut count = 0;
        for client in clients {
            client.try_send("\r\n\r\n");
            count += usize::from(client.next(false).is_ok_and(|answer| answer.status == 200));
        }
        count
    };
    let (old, new) = all.split_at_mut(68);
    let (newest, oldest) = (served(new), served(&mut old[..32]));
    assert!(newest >= 2 * oldest + 4, "{newest} of the newest were kept, {oldest} of the oldest");
}

#[test]
fn requests_beyond_tasks_max_are_answered_503_and_told_to_come_back() {
    let limits = Limits { tasks_max: 10, ..common::limits() };
    let node = Node::of(common::server().limits(limits));
    let mut all: Vec<Client> = (0..30).map(|_| Client::connect(node.addr)).collect();
    for client in &mut all {
        client.send(get("/slow/1000"));
    }
    let mut served = 0;
    for client in &mut all {
        let answer = client.answer();
        if answer.status == 200 {
            served += 1;
        } else {
            assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
            assert!(answer.closes());
        }
    }
    assert_eq!(served, 10);
    drop(all);
    node.comes_to_rest();
    assert_eq!(Client::connect(node.addr).get("/slow/0").status, 200);
}

#[test]
fn answers_that_find_no_memory_cost_their_connections_only() {
    let limits = Limits {
        pool_small: 1,
        pool_medium: 1,
        pool_large: 1,
        pool_heap_bytes_max: 64 << 10,
        ..common::limits()
    };
    let node = Node::serving(common::server().limits(limits), || {
        App::new(()).get("/", |_| "hello").get("/endless", |_| {
            let (mut out, stream) = body_channel(16 << 10);
            // Small pieces are copied into pooled buffers.
            let task = spawn(async move { while out.send(vec![b'x'; 4_000]).await.is_ok() {} });
            task.unwrap().detach();
            Response::stream("text/plain", None, stream)
        })
    });
    let mut all: Vec<Client> = (0..40).map(|_| Client::connect(node.addr)).collect();
    for client in &mut all {
        client.send(get("/endless"));
    }
    until("some found no memory", || sockets(node.addr) < 40);
    drop(all);
    node.comes_to_rest();
    assert_eq!(Client::connect(node.addr).get("/").status, 200);
}
