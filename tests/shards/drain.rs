//! The end of several shards under load: each answers what it was asked, and the others, until all are done.
//!
//! What a client may expect is what `drain.rs` states for one shard. Here every answer took another shard.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;

use crate::common::client::get;
use crate::common::{Client, Cut};
use crate::service;

const SHARDS: u16 = 4;

/// Each of a new process.
const DRAINS: u16 = 20;

const CLIENTS: u16 = 24;

/// `drain_time` of the service, and some for a busy host.
const LONGEST: Duration = Duration::from_secs(8);

/// What clients met.
#[derive(Debug, Default)]
struct Met {
    answered: u32,
    /// Answers that said `Connection: close`.
    told: u32,
    /// Answers that came after the signal.
    late: u32,
    /// Requests that crossed with the end of their connection.
    raced: u32,
}

impl Met {
    fn add(&mut self, other: &Met) {
        self.answered += other.answered;
        self.told += other.told;
        self.late += other.late;
        self.raced += other.raced;
    }
}

/// Whether the peer has ended the connection.
fn has_ended(client: &Client) -> bool {
    client.stream().set_nonblocking(true).unwrap();
    let seen = client.stream().peek(&mut [0]).map_err(|error| error.kind());
    client.stream().set_nonblocking(false).unwrap();
    assert!(!matches!(seen, Ok(1..)), "bytes that nobody asked for");
    seen != Err(ErrorKind::WouldBlock)
}

/// Asks for what takes another shard, until the connection is ended.
fn asks_across(addr: SocketAddr, first: u16, draining: impl Fn() -> bool) -> Met {
    let mut met = Met::default();
    let mut client = Client::connect(addr);
    for n in (first..).step_by(usize::from(CLIENTS)) {
        if has_ended(&client) {
            return met;
        }
        let late = draining();
        if !client.try_send(get(&format!("/call/{n}"))) {
            met.raced += 1;
            return met;
        }
        match client.next(false) {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                let words: Vec<&str> = answer.text().split(' ').collect();
                let [number, "from", from, "to", to] = words[..] else { panic!("{words:?}") };
                assert_eq!(number, n.to_string(), "the answer to another request");
                assert_ne!(from, to);
                met.answered += 1;
                met.late += u32::from(late);
                if answer.closes() {
                    met.told += 1;
                    client.ends();
                    return met;
                }
            }
            Err(Cut::End | Cut::Reset) => {
                met.raced += 1;
                return met;
            }
            Err(cut) => panic!("a broken answer: {cut:?}"),
        }
        thread::sleep(Duration::from_millis(2));
    }
    met
}

/// New connections of one request each, until they are refused.
fn connects(addr: SocketAddr) -> Met {
    let mut met = Met::default();
    while let Ok(mut client) = Client::try_connect(addr) {
        client.try_send(get("/call/1"));
        match client.next(false) {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                met.answered += 1;
            }
            // The listener's end resets what its queue held a moment ago.
            Err(Cut::End | Cut::Reset) => met.raced += 1,
            Err(cut) => panic!("a broken answer: {cut:?}"),
        }
        thread::sleep(Duration::from_millis(3));
    }
    met
}

#[test]
fn a_drain_of_many_shards_under_load_answers_what_was_asked_across_them_and_ends_with_0() {
    if service::has_been() {
        return;
    }
    let name = "drain::a_drain_of_many_shards_under_load_answers_what_was_asked_across_them_and_ends_with_0";
    let (mut kept, mut new, mut longest) = (Met::default(), Met::default(), Duration::ZERO);
    for round in 0..DRAINS {
        let mut node = service::start(name, SHARDS);
        let addr = node.addr;
        let (signal, signalled) = crossbeam_channel::bounded::<()>(0);
        let keeping: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let signalled = signalled.clone();
                // Disconnected once the signal is on its way.
                let draining = move || signalled.try_recv() == Err(TryRecvError::Disconnected);
                thread::spawn(move || asks_across(addr, n, draining))
            })
            .collect();
        let connecting = thread::spawn(move || connects(addr));
        // Other moments of the load in every round.
        thread::sleep(Duration::from_millis(150 + u64::from(round) * 7 % 50));
        node.signal("TERM");
        drop(signal);
        let start = Instant::now();
        let status = node.wait(LONGEST);
        longest = longest.max(start.elapsed());
        assert_eq!(status.code(), Some(0), "{:#?}", node.said());
        keeping.into_iter().for_each(|client| kept.add(&client.join().unwrap()));
        new.add(&connecting.join().unwrap());
        assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
    }
    eprintln!("{DRAINS} drains, the longest {longest:?}; kept {kept:?}; new {new:?}");
    assert!(kept.answered > u32::from(DRAINS * CLIENTS * 3), "there was load: {kept:?}");
    assert!(kept.told > 0 && kept.late > 0, "it went on into the drain: {kept:?}");
    // A busy host takes its CPU from a client between its look and its request now and then.
    assert!(kept.raced <= u32::from(DRAINS), "the race is rare: {kept:?}");
    assert!(new.raced <= u32::from(DRAINS), "a queued connection is served: {new:?}");
    assert!(longest < Duration::from_secs(5), "a drain took {longest:?}");
}

#[test]
fn a_drain_waits_for_the_shard_that_has_something_left_and_the_others_answer_it() {
    if service::has_been() {
        return;
    }
    let name = "drain::a_drain_waits_for_the_shard_that_has_something_left_and_the_others_answer_it";
    let mut node = service::start(name, SHARDS);
    // Half a request on one connection; the other shards have nothing at all.
    let mut client = Client::connect(node.addr);
    assert_eq!(client.get("/where").status, 200);
    client.send("GET /call/1 HTTP/1.1\r\nHost: t\r\nX-Ha");
    let mut other = Client::connect(node.addr);
    assert_eq!(other.get("/where").status, 200, "what was sent before has been read");
    node.signal("TERM");
    other.ends();
    // Far longer than the other shards need to be done.
    thread::sleep(Duration::from_millis(300));
    client.send("lf: 1\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains(" to "), "another shard answered: {}", answer.text());
    assert!(answer.closes());
    client.ends();
    assert_eq!(node.wait(LONGEST).code(), Some(0));
}
