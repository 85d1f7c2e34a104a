//! Clients that are slow on purpose: a thousand at once that send nothing, half of something, or read nothing.
//!
//! Each is gone when its deadline has passed, and none is noticed by a client that behaves.
//!
//! Not here: each deadline alone and to the millisecond (`net`, on the simulator).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs::File;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::client::get;
use common::process::run;
use common::{Client, Node, sockets, tool, until};
use corelane::Limits;

const MANY: usize = 1_000;

/// Those whose answer fills the buffers of the kernel: 2.5 MB each, and the host has more to do.
const FILLED: usize = 100;

/// Every deadline of the nodes below.
const DEADLINE: Duration = Duration::from_secs(2);

/// For a close, the tick of the timers, and a busy host with a server built without optimisation: what is
/// tested is that a deadline ends them, not how fast this host is. A thousand answers of 300 KB each took a good
/// client five seconds where others had the CPUs for most of the time.
const GRACE: Duration = Duration::from_secs(8);

/// Holds the host for one test at a time: each of them fills it, and measures. Also between processes.
fn alone() -> File {
    let file = File::create(concat!(env!("CARGO_TARGET_TMPDIR"), "/slow.lock")).unwrap();
    file.lock().unwrap();
    file
}

fn node() -> Node {
    let limits = Limits {
        head_time: DEADLINE,
        body_time: DEADLINE,
        write_time: DEADLINE,
        idle_time: DEADLINE,
        // Less than `GRACE`: a client that was refused and stays is let go within it.
        linger_time: Duration::from_millis(500),
        ..common::limits()
    };
    Node::of(common::server().limits(limits))
}

/// Asks again and again until told to stop; gives how often, and the longest wait.
struct Good {
    stop: std::sync::Arc<AtomicBool>,
    thread: thread::JoinHandle<(u32, Duration)>,
}

impl Good {
    fn at(addr: SocketAddr) -> Good {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = std::sync::Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut client = Client::connect(addr);
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                // Every tenth comes on a connection of its own.
                if count % 10 == 9 {
                    client = Client::connect(addr);
                }
                let answer =
                    if count % 2 == 0 { client.get("/plaintext") } else { client.post("/echo", b"x") };
                assert_eq!(answer.status, 200);
                longest = longest.max(start.elapsed());
                count += 1;
                thread::sleep(Duration::from_millis(10));
            }
            (count, longest)
        });
        Good { stop, thread }
    }

    #[track_caller]
    fn was_served(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (count, longest) = self.thread.join().unwrap();
        assert!(count > 20, "the good client asked {count} times");
        assert!(longest < GRACE, "the good client once waited {longest:?}");
    }
}

/// `count` clients do what `begin` does, and then nothing. They are all let in, and gone when their deadline
/// has passed.
#[track_caller]
fn all_go_at_their_deadline(count: usize, begin: impl Fn(&mut Client)) {
    let _alone = alone();
    let node = node();
    let good = Good::at(node.addr);
    let start = Instant::now();
    let mut all = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(node.addr);
        begin(&mut client);
        all.push(client);
    }
    // A host so busy that the first left before the last came shows nothing here.
    until("all are let in", || sockets(node.addr) >= count || start.elapsed() >= DEADLINE);
    let begun = Instant::now();
    // One or two are the good client's.
    until("the slow ones are gone", || sockets(node.addr) <= 2);
    let took = begun.elapsed();
    assert!(took <= DEADLINE + GRACE, "the last one went {took:?} after it was let in");
    assert!(start.elapsed() >= DEADLINE, "they went early, after {:?}", start.elapsed());
    good.was_served();
    drop(all);
    node.comes_to_rest();
}

#[test]
fn clients_that_send_nothing_go_at_their_deadline() {
    all_go_at_their_deadline(MANY, |_| {});
}

#[test]
fn clients_that_send_half_a_head_go_at_their_deadline() {
    all_go_at_their_deadline(MANY, |client| client.send("GET / HTTP/1.1\r\nHost: t\r\nX-Sl"));
}

#[test]
fn clients_that_send_half_a_body_go_at_their_deadline() {
    all_go_at_their_deadline(MANY, |client| {
        client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nthe first of it");
    });
}

#[test]
fn clients_that_fall_silent_after_an_answer_go_at_their_deadline() {
    all_go_at_their_deadline(MANY, |client| assert_eq!(client.get("/plaintext").status, 200));
}

#[test]
fn clients_that_read_nothing_go_at_their_deadline() {
    // 8 MiB each are more than the sockets hold, and all of it is the same memory.
    all_go_at_their_deadline(FILLED, |client| client.send(get("/constant")));
}

#[test]
fn clients_that_pipeline_and_read_nothing_go_at_their_deadline() {
    all_go_at_their_deadline(FILLED, |client| {
        let burst = get("/big/100000").repeat(100);
        client.send(&burst);
    });
}

#[test]
fn clients_that_send_one_byte_now_and_then_do_not_extend_their_time() {
    let _alone = alone();
    let node = node();
    let good = Good::at(node.addr);
    let start = Instant::now();
    let mut all: Vec<Client> = (0..100).map(|_| Client::connect(node.addr)).collect();
    for client in &mut all {
        client.send("GET / HTTP/1.1\r\nHost: t\r\nX: ");
    }
    let begun = Instant::now();
    until("the slow ones are gone", || {
        for client in &mut all {
            client.try_send("x");
        }
        thread::sleep(Duration::from_millis(50));
        sockets(node.addr) <= 2
    });
    assert!(begun.elapsed() <= DEADLINE + GRACE, "the last one went {:?} after it began", begun.elapsed());
    assert!(start.elapsed() >= DEADLINE);
    good.was_served();
    drop(all);
    node.comes_to_rest();
}

/// How long the tool would hold its connections: longer than they may be held, seconds.
const HELD_S: &str = "16";

/// Runs `slowhttptest` in one of its modes: it opens a thousand connections within two seconds, and the last
/// is gone when its deadline has passed, whether the tool notices or not.
#[track_caller]
fn slowhttptest(path: &str, mode: &[&str]) {
    let Some(mut slow) = tool("slowhttptest") else { return };
    let _alone = alone();
    let node = node();
    let addr = node.addr;
    let good = Good::at(addr);
    slow.args(mode).args(["-c", "1000", "-r", "500", "-l", HELD_S, "-i", "1", "-p", "3"]);
    slow.args(["-u", &format!("http://{addr}{path}")]);
    let start = Instant::now();
    let tool = thread::spawn(move || run(&mut slow, 2 * common::PATIENCE));
    let (mut most, mut last) = (0, start);
    while !tool.is_finished() {
        let there = sockets(addr);
        most = most.max(there);
        if there > 3 {
            last = Instant::now();
        }
        thread::sleep(Duration::from_millis(50));
    }
    let output = tool.join().unwrap();
    good.was_served();
    node.comes_to_rest();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // Colours stand around the words.
    let available = said.rsplit("service available:").next().is_some_and(|rest| rest.contains("YES"));
    assert!(available, "{said}");
    // Ranges are not looked at: those requests are answered and closed before they can be counted.
    assert!(most > 100 || mode[0] == "-R", "{most} connections at most:\n{said}");
    let took = last - start;
    // It needs two seconds to connect them all, and some time to start.
    let at_most = Duration::from_secs(3) + DEADLINE + GRACE;
    assert!(took <= at_most, "connections were held for {took:?}, {most} at most:\n{said}");
}

#[test]
fn slowhttptest_cannot_hold_connections_with_slow_heads() {
    slowhttptest("/big/100000", &["-H"]);
}

#[test]
fn slowhttptest_cannot_hold_connections_with_slow_bodies() {
    slowhttptest("/echo", &["-B", "-s", "8192"]);
}

#[test]
fn slowhttptest_cannot_hold_connections_with_ranges() {
    slowhttptest("/big/100000", &["-R", "-a", "1", "-b", "1000"]);
}

#[test]
fn slowhttptest_cannot_hold_connections_with_slow_reading() {
    slowhttptest("/big/100000", &["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"]);
}
