//! The end of a node under load: what was asked is answered, whole, and the process ends with 0.
//!
//! What a client may expect of a connection that is kept alive, in a drain as at any other time:
//! 1. No answer is ever partial.
//! 2. A request on a connection whose last answer did not say `Connection: close` is answered, unless the
//!    connection ended before the first byte of its answer. Then it was sent while the close was on its way:
//!    no more than [`RACE`] lies between the moment it was sent and the moment the client could see the end.
//!    Nobody can take this window away (RFC 9112, 9.5); it is counted.
//!
//! Not here: the drain under every order of events (`net`, on the simulator), its settings (`config.rs`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::io::{ErrorKind, Read};
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::client::get;
use common::{Client, Cut, Node, Process, until};
use corelane::{App, Limits, OwnedRequest, TcpStream, sleep};

/// How long before its client could see the end a request may have been sent to go unanswered: some turns of the
/// node, on a host that has more to do. Half of `drain_idle`: one that was there and ignored waits for all of it.
const RACE: Duration = Duration::from_millis(50);

/// Of the 1,600 connections of all drains below, those that may meet the race. A busy host takes its CPU from a
/// client between its look and its request, so they are more there.
const RACES: u32 = DRAINS / 2;

/// Drains under load, each of a new process: about half a second each.
const DRAINS: u32 = 50;

/// Connections that ask without a rest, and those that rest for about as long as `drain_idle` in between.
const BUSY: u32 = 16;
const RESTING: u32 = 16;

const DRAIN_TIME: Duration = Duration::from_secs(10);

fn node() -> Process {
    Process::node(&[
        "--limit",
        "drain_idle=100ms",
        "--limit",
        "drain_time=10s",
        "--limit",
        "connections_max=1000",
    ])
}

/// What one client met.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    answered: u32,
    /// Answers that said `Connection: close`.
    told: u32,
    /// Connections that ended while idle.
    ended: u32,
    /// Requests lost to the race of rule 2.
    raced: u32,
    refused: u32,
}

impl Met {
    fn add(&mut self, other: Met) {
        self.answered += other.answered;
        self.told += other.told;
        self.ended += other.ended;
        self.raced += other.raced;
        self.refused += other.refused;
    }
}

/// True if the peer has ended the connection, found out without waiting.
fn has_ended(stream: &net::TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let seen = stream.peek(&mut [0]).map_err(|error| error.kind());
    stream.set_nonblocking(false).unwrap();
    match seen {
        Ok(0) => true,
        Ok(_) => panic!("bytes that nobody asked for"),
        Err(ErrorKind::WouldBlock) => false,
        Err(_) => true,
    }
}

/// How long this thread has waited for a CPU so far: the second field of its schedstat, where the kernel counts that.
fn without_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

/// Asks over one connection at a steady rate until it is ended. Small and large answers, with and without
/// bodies; every answer is checked whole.
fn asks_until_the_end(addr: SocketAddr, seed: u32, pause: Duration) -> Met {
    let mut met = Met::default();
    let Ok(mut client) = Client::try_connect(addr) else {
        met.refused += 1;
        return met;
    };
    let body = common::pattern(20_000);
    for n in seed.. {
        if has_ended(client.stream()) {
            met.ended += 1;
            return met;
        }
        let request = match n % 3 {
            0 => get("/plaintext"),
            1 => get("/json"),
            _ => common::client::post("/echo", &body),
        };
        if !client.try_send(request) {
            met.raced += 1; // the end was there before it
            return met;
        }
        let sent = Instant::now();
        let waited = without_cpu();
        match client.next(false) {
            Ok(answer) => {
                assert_eq!(answer.status, 200);
                match n % 3 {
                    0 => assert_eq!(answer.text(), "Hello, World!"),
                    1 => assert_eq!(answer.text(), "{\"message\":\"Hello, World!\"}"),
                    _ => assert!(answer.body == body, "the body came back whole"),
                }
                met.answered += 1;
                if answer.closes() {
                    met.told += 1;
                    client.ends();
                    return met;
                }
            }
            Err(Cut::End | Cut::Reset) => {
                // What came while this thread had no CPU it could not see.
                let away = sent.elapsed().saturating_sub(without_cpu() - waited);
                assert!(away <= RACE, "a request {away:?} before the end was lost");
                met.raced += 1;
                return met;
            }
            Err(cut) => panic!("a broken answer: {cut:?}"),
        }
        thread::sleep(pause);
    }
    met
}

/// New connections of one request each, until they are refused.
fn connects_until_refused(addr: SocketAddr) -> Met {
    let mut met = Met::default();
    loop {
        let Ok(mut client) = Client::try_connect(addr) else {
            met.refused += 1;
            return met;
        };
        client.try_send(get("/plaintext"));
        match client.next(false) {
            Ok(answer) => {
                assert_eq!((answer.status, answer.text()), (200, "Hello, World!"));
                met.answered += 1;
            }
            // The listener's end resets what its queue held a moment ago.
            Err(Cut::End | Cut::Reset) => met.raced += 1,
            Err(cut) => panic!("a broken answer: {cut:?}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_drain_under_load_answers_what_was_asked_and_ends_with_0() {
    let (mut kept, mut new, mut longest) = (Met::default(), Met::default(), Duration::ZERO);
    for round in 0..DRAINS {
        let mut node = node();
        let addr = node.addr;
        let clients = (0..BUSY + RESTING).map(|n| {
            let pause = if n < BUSY { 2 } else { 85 + u64::from(2 * (n - BUSY)) };
            thread::spawn(move || asks_until_the_end(addr, n, Duration::from_millis(pause)))
        });
        let keeping: Vec<_> = clients.collect();
        let connecting = thread::spawn(move || connects_until_refused(addr));
        // Other moments of the load in every round.
        thread::sleep(Duration::from_millis(150 + u64::from(round) * 7 % 50));
        node.signal("TERM");
        let start = Instant::now();
        let status = node.wait(DRAIN_TIME + Duration::from_secs(1));
        longest = longest.max(start.elapsed());
        assert_eq!(status.code(), Some(0), "{:#?}", node.said());
        for client in keeping {
            kept.add(client.join().unwrap());
        }
        new.add(connecting.join().unwrap());
        assert!(net::TcpStream::connect(addr).is_err(), "nobody listens any more");
    }
    eprintln!("{DRAINS} drains, the longest {longest:?}; kept connections {kept:?}; new ones {new:?}");
    assert!(longest < DRAIN_TIME, "a drain took {longest:?}");
    assert!(kept.answered > DRAINS * BUSY * 5, "there was load: {kept:?}");
    assert_eq!(kept.refused, 0, "{kept:?}");
    assert!(kept.raced <= RACES, "the race is rare: {kept:?}");
    assert!(new.raced <= RACES, "a queued connection is served: {new:?}");
}

#[test]
fn an_idle_node_ends_soon_after_its_signal() {
    for signal in ["TERM", "INT"] {
        let mut node = node();
        let mut idle = Client::connect(node.addr);
        assert_eq!(idle.get("/plaintext").status, 200);
        let start = Instant::now();
        node.signal(signal);
        idle.ends();
        assert_eq!(node.wait(DRAIN_TIME).code(), Some(0));
        assert!(start.elapsed() < DRAIN_TIME / 2, "it took {:?}", start.elapsed());
    }
}

#[test]
fn an_idle_connection_may_bring_one_more_request_into_a_drain() {
    // Time enough for the request, however late the drain is seen here.
    let mut node = Process::node(&["--limit", "drain_idle=10s", "--limit", "drain_time=20s"]);
    let mut idle = Client::connect(node.addr);
    assert_eq!(idle.get("/plaintext").status, 200);
    node.signal("TERM");
    until("the drain has begun", || net::TcpStream::connect(node.addr).is_err());
    let answer = idle.get("/json");
    assert_eq!(answer.status, 200);
    assert!(answer.closes());
    idle.ends();
    assert_eq!(node.wait(DRAIN_TIME).code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_process_at_once_with_130() {
    for (first, second) in [("TERM", "TERM"), ("TERM", "INT"), ("INT", "INT")] {
        let mut node = node();
        // Half a request: the drain has something to wait for.
        let mut client = Client::connect(node.addr);
        client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf");
        let mut other = Client::connect(node.addr);
        assert_eq!(other.get("/plaintext").status, 200, "what was sent before has been read");
        node.signal(first);
        other.ends();
        let start = Instant::now();
        node.signal(second);
        assert_eq!(node.wait(DRAIN_TIME).code(), Some(130));
        assert!(start.elapsed() < DRAIN_TIME / 2, "it took {:?}", start.elapsed());
    }
}

#[test]
fn what_drain_time_leaves_over_is_cut() {
    let mut node = Process::node(&["--limit", "drain_idle=100ms", "--limit", "drain_time=1s"]);
    let mut client = Client::connect(node.addr);
    client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf");
    let mut other = Client::connect(node.addr);
    assert_eq!(other.get("/plaintext").status, 200);
    let start = Instant::now();
    node.signal("TERM");
    assert_eq!(node.wait(DRAIN_TIME).code(), Some(0));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1), "the half request had its time: {took:?}");
    assert!(took < DRAIN_TIME / 2, "it took {took:?}");
    let mut rest = Vec::new();
    assert!(
        client.stream().read_to_end(&mut rest).is_err() || rest.is_empty() || rest.starts_with(b"HTTP/1.1 ")
    );
}

/// `drain_time` of the nodes below.
const LONG_DRAIN: Duration = Duration::from_secs(20);

fn long_drain() -> Limits {
    Limits { drain_idle: Duration::from_millis(50), drain_time: LONG_DRAIN, ..common::limits() }
}

/// Counts the slow requests it has served, and keeps what the count was as its drain hook began.
#[derive(Debug, Default)]
struct Told {
    served: AtomicU32,
    at_hook: AtomicU32,
    hook_ended: AtomicBool,
}

fn slow_app(told: &Arc<Told>) -> App<()> {
    let (serving, hook) = (Arc::clone(told), Arc::clone(told));
    App::new(())
        .get_async("/slow/{ms}", move |request: OwnedRequest<()>| {
            let serving = Arc::clone(&serving);
            async move {
                let ms = request.param("ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
                sleep(Duration::from_millis(ms)).await;
                serving.served.fetch_add(1, Ordering::SeqCst);
                "slow"
            }
        })
        .get("/", |_| "hello")
        .on_drain(move |_| async move {
            hook.at_hook.store(hook.served.load(Ordering::SeqCst), Ordering::SeqCst);
            sleep(Duration::from_millis(20)).await;
            hook.hook_ended.store(true, Ordering::SeqCst);
        })
}

#[test]
fn requests_under_way_are_answered_with_close_and_the_hooks_run_after_them() {
    let told = Arc::new(Told::default());
    let tell = Arc::clone(&told);
    let node = Node::serving(common::server().limits(long_drain()), move || slow_app(&tell));
    let addr = node.addr;
    let mut slow: Vec<Client> = (0..50).map(|_| Client::connect(addr)).collect();
    for (n, client) in slow.iter_mut().enumerate() {
        client.send(get(&format!("/slow/{}", 1_000 + n * 10)));
    }
    until("all are under way", || node.ask(0, |shard| shard.tasks_alive()) == 50);
    let start = Instant::now();
    let drain = thread::spawn(move || node.drain());
    until("the drain has begun", || net::TcpStream::connect(addr).is_err());
    for client in &mut slow {
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (200, "slow"));
        assert!(answer.closes(), "in a drain every answer says so");
        client.ends();
    }
    drop(slow);
    drain.join().unwrap();
    assert_eq!(told.at_hook.load(Ordering::SeqCst), 50, "the hooks wait for the last request");
    assert!(told.hook_ended.load(Ordering::SeqCst), "the drain hook ran to its end");
    assert!(start.elapsed() < LONG_DRAIN / 2, "it took {:?}", start.elapsed());
}

#[test]
fn an_answer_that_was_under_way_is_the_last_of_its_connection() {
    let node = Node::of(common::server().limits(long_drain()));
    let addr = node.addr;
    let mut client = Client::connect(addr);
    // More than the sockets hold, and said without `Connection: close` before there was a drain.
    client.send(get("/constant"));
    until("the answer has begun", || client.stream().peek(&mut [0]).is_ok());
    let start = Instant::now();
    let drain = thread::spawn(move || node.drain());
    until("the drain has begun", || net::TcpStream::connect(addr).is_err());
    // Idle connections are closed meanwhile; this one is not idle.
    thread::sleep(Duration::from_millis(300));
    assert!(client.answer().body == common::pattern(8 << 20));
    client.ends();
    drain.join().unwrap();
    assert!(start.elapsed() < LONG_DRAIN / 2, "it took {:?}", start.elapsed());
}

#[test]
fn connections_that_wait_to_be_accepted_are_served() {
    static BLOCKS: AtomicBool = AtomicBool::new(false);
    for _ in 0..5 {
        let node = Node::serving(common::server(), || {
            App::new(()).get("/", |_| "hello").get("/block", |_| {
                BLOCKS.store(true, Ordering::SeqCst);
                // What nobody may do: it makes a turn in which all of the following comes together.
                thread::sleep(Duration::from_millis(150));
                "blocked"
            })
        });
        let mut first = Client::connect(node.addr);
        first.send(get("/block"));
        until("the shard is held", || BLOCKS.swap(false, Ordering::SeqCst));
        let mut queued: Vec<Client> = (0..50).map(|_| Client::connect(node.addr)).collect();
        for client in &mut queued {
            client.send(get("/"));
        }
        let drain = thread::spawn(move || node.drain());
        assert_eq!(first.answer().text(), "blocked");
        for client in &mut queued {
            assert_eq!(client.answer().text(), "hello");
        }
        drop((first, queued));
        drain.join().unwrap();
    }
}

#[test]
fn plain_and_upgraded_connections_are_finished() {
    let server = common::server().limits(long_drain());
    let plain = server.clone().start_tcp(|stream: TcpStream| async move {
        while let Ok(bytes) = stream.read().await {
            if bytes.is_empty() || stream.write_all(bytes).await.is_err() {
                break;
            }
        }
    });
    for (node, upgrade) in [(Node::from(plain.unwrap()), false), (Node::of(server), true)] {
        let mut client = Client::connect(node.addr);
        if upgrade {
            client.send("GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
            assert_eq!(client.answer().status, 101);
        }
        client.send("before");
        assert_eq!(client.take(6), b"before");
        let addr = node.addr;
        let start = Instant::now();
        let drain = thread::spawn(move || node.drain());
        until("the drain has begun", || net::TcpStream::connect(addr).is_err());
        thread::sleep(Duration::from_millis(200));
        client.send("within");
        assert_eq!(client.take(6), b"within");
        client.finish();
        client.ends();
        drain.join().unwrap();
        assert!(start.elapsed() < LONG_DRAIN / 2, "it took {:?}", start.elapsed());
    }
}
