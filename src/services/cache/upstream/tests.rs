//! The second tier on a simulated shard, with an upstream made of closures. `tests/cache_upstream.rs` has a real one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use corelane_sim::Peer;

use super::*;
use crate::App;
use crate::testing::TestServer;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

type Strings = BTreeMap<Vec<u8>, (Bytes, Option<u64>)>;

/// A store of strings, as far as these tests need one.
#[derive(Default)]
struct Here {
    strings: RefCell<Strings>,
    all_forgotten: Cell<u32>,
}

impl Local for Here {
    fn now(&self) -> Now {
        let mono_ms = corelane_exec::current().now().mono_ns / 1_000_000;
        Now { unix_ms: 1_000_000 + mono_ms, mono_ms }
    }

    fn store(&self, key: &[u8], value: &Bytes, expires_at: Option<u64>) -> bool {
        self.strings.borrow_mut().entry(key.to_vec()).or_insert((value.clone(), expires_at));
        true
    }

    fn forget(&self, key: &[u8]) {
        self.strings.borrow_mut().remove(key);
    }

    fn forget_all(&self) {
        self.all_forgotten.set(self.all_forgotten.get() + 1);
        self.strings.borrow_mut().clear();
    }
}

/// A server that keeps strings and answers at once, while it is told to.
#[derive(Default)]
struct There {
    strings: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
    seen: RefCell<Vec<String>>,
    mute: Cell<bool>,
    refuse: Cell<bool>,
    /// Said before the next answer.
    says: RefCell<Vec<u8>>,
    hangs_up: Cell<bool>,
}

fn words_of(mut bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    use corelane_proto_resp::{Limits, Parser, Step};
    let (mut parser, mut commands) = (Parser::new(), Vec::new());
    while let Step::Command(command) = parser.poll(&Limits::default(), &mut bytes) {
        commands.push(command.iter().map(<[u8]>::to_vec).collect());
    }
    commands
}

impl There {
    fn answer(&self, peer: &Peer) {
        if self.mute.get() {
            return;
        }
        if self.hangs_up.take() {
            peer.close();
            return;
        }
        peer.write(&self.says.take());
        for words in words_of(&peer.take()) {
            let text: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            self.seen.borrow_mut().push(text.join(" "));
            let mut strings = self.strings.borrow_mut();
            let reply = match (text[0].as_str(), self.refuse.get()) {
                ("HELLO", _) => b"%1\r\n+proto\r\n:3\r\n".to_vec(),
                ("CLIENT" | "PING", _) => b"+OK\r\n".to_vec(),
                (_, true) => b"-ERR not today\r\n".to_vec(),
                ("GET", _) => match strings.get(&words[1]) {
                    Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
                    None => b"_\r\n".to_vec(),
                },
                ("PTTL", _) => (if strings.contains_key(&words[1]) { ":5000\r\n" } else { ":-2\r\n" }).into(),
                ("SET", _) => {
                    strings.insert(words[1].clone(), words[2].clone());
                    b"+OK\r\n".to_vec()
                }
                ("UNLINK", _) => {
                    strings.remove(&words[1]);
                    b":1\r\n".to_vec()
                }
                (other, _) => panic!("{other} is not expected"),
            };
            peer.write(&reply);
        }
    }

    fn asked(&self, line: &str) -> usize {
        self.seen.borrow().iter().filter(|seen| *seen == line).count()
    }
}

struct Bench {
    server: TestServer<()>,
    here: Rc<Here>,
    there: Rc<There>,
    upstream: Upstream,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Settings)) -> Bench {
        let addr = SocketAddr::from(([198, 51, 100, 7], 6379));
        let mut settings = Settings::new(Url::parse("redis://198.51.100.7").unwrap());
        change(&mut settings);
        let server = TestServer::new(|_| App::new(()));
        let (here, there) = (Rc::new(Here::default()), Rc::new(There::default()));
        let answering = Rc::clone(&there);
        server.serve(addr, move |peer| answering.answer(peer));
        let local = Rc::clone(&here) as Rc<dyn Local>;
        let upstream = server.run(async move { Upstream::start(settings, local).unwrap() });
        let bench = Bench { server, here, there, upstream };
        bench.server.wait_until({
            let upstream = bench.upstream.clone();
            move || upstream.is_up()
        });
        bench
    }

    fn fetch(&self, key: &'static str) -> Fetched {
        let upstream = self.upstream.clone();
        self.server.run(async move { upstream.fetch(key.as_bytes()).await })
    }

    fn set(&self, key: &'static str, value: &'static str) -> Result<(), WriteError> {
        let (upstream, here) = (self.upstream.clone(), Rc::clone(&self.here));
        self.server.run(async move {
            let value = Bytes::from_static(value.as_bytes());
            here.strings.borrow_mut().insert(key.into(), (value.clone(), None));
            upstream.write(WriteOp::Set { key: key.as_bytes().into(), value, expires_at: None }).await
        })
    }

    fn there(&self, key: &str) -> Option<String> {
        let strings = self.there.strings.borrow();
        strings.get(key.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    fn here(&self, key: &str) -> Option<Bytes> {
        self.here.strings.borrow().get(key.as_bytes()).map(|(value, _)| value.clone())
    }

    fn put_there(&self, key: &str, value: &str) {
        self.there.strings.borrow_mut().insert(key.into(), value.into());
    }

    fn push(&self, bytes: &[u8]) {
        self.there.says.borrow_mut().extend_from_slice(bytes);
        self.set("another", "write").unwrap();
    }
}

#[test]
fn a_value_is_fetched_once_for_all_who_wait_and_put_here_with_its_expiry() {
    let bench = Bench::new(|_| {});
    bench.put_there("k", "v");
    let upstream = bench.upstream.clone();
    let all = bench.server.run(async move {
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let upstream = upstream.clone();
                spawn(async move { upstream.fetch(b"k").await }).unwrap()
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.unwrap());
        }
        all
    });
    for fetched in all {
        let Fetched::Found { value, expires_at, stored } = fetched else { panic!("{fetched:?}") };
        assert!(value == "v" && stored && expires_at.is_some_and(|at| (1_005_000..1_006_000).contains(&at)));
    }
    assert_eq!(bench.there.asked("GET k"), 1);
    assert_eq!(bench.here("k").unwrap(), "v");
    let stats = bench.upstream.stats();
    assert_eq!((stats.fetches, stats.joined, stats.found), (1, 99, 1));
}

#[test]
fn an_absent_key_is_asked_for_once_until_its_time_is_over_or_it_is_written() {
    let bench = Bench::new(|_| {});
    for _ in 0..5 {
        assert_eq!(bench.fetch("k"), Fetched::Absent);
    }
    assert_eq!(bench.there.asked("GET k"), 1);
    bench.server.advance(ms(1_001));
    assert_eq!(bench.fetch("k"), Fetched::Absent);
    assert_eq!(bench.there.asked("GET k"), 2);
    bench.set("k", "v").unwrap();
    assert!(matches!(bench.fetch("k"), Fetched::Found { .. }));
}

#[test]
fn a_write_goes_through_before_its_client_is_answered() {
    let bench = Bench::new(|_| {});
    bench.set("k", "v").unwrap();
    assert_eq!(bench.there("k").unwrap(), "v");
    assert_eq!(bench.upstream.stats().written, 1);
}

#[test]
fn a_write_of_which_nobody_knows_or_that_is_refused_is_forgotten_here() {
    let bench = Bench::new(|_| {});
    bench.there.refuse.set(true);
    let error = bench.set("k", "v").unwrap_err();
    assert_eq!(error.to_string(), "UPSTREAM the second tier refused the write: ERR not today");
    assert_eq!(bench.here("k"), None);
    bench.there.refuse.set(false);
    bench.there.mute.set(true);
    let error = bench.set("k", "v").unwrap_err();
    assert_eq!(error, WriteError::Unavailable(Unavailable::Call(CallError::Timeout)));
    assert_eq!(bench.here("k"), None);
    // Nobody waits for this one.
    let (upstream, here) = (bench.upstream.clone(), Rc::clone(&bench.here));
    bench.server.run(async move {
        here.strings.borrow_mut().insert((*b"k").into(), (Bytes::from_static(b"v"), None));
        drop(upstream.write(WriteOp::Delete { key: (*b"k").into() }));
    });
    assert_eq!(bench.here("k"), None);
}

#[test]
fn what_is_written_while_a_fetch_is_under_way_is_not_overwritten_by_it() {
    let bench = Bench::new(|_| {});
    bench.put_there("k", "old");
    let (upstream, here) = (bench.upstream.clone(), Rc::clone(&bench.here));
    let fetched = bench.server.run(async move {
        let fetched = upstream.fetch(b"k");
        // A delete here: nothing is in the store that the old value could meet.
        let written = upstream.write(WriteOp::Delete { key: (*b"k").into() });
        let fetched = fetched.await;
        assert!(here.strings.borrow().is_empty());
        written.await.unwrap();
        let again = upstream.fetch(b"k").await;
        (fetched, again)
    });
    assert!(matches!(fetched.0, Fetched::Found { stored: false, .. }), "{fetched:?}");
    assert_eq!(fetched.1, Fetched::Absent);
    assert_eq!(bench.here("k"), None);
}

#[test]
fn what_others_change_is_forgotten_here() {
    let bench = Bench::new(|_| {});
    assert_eq!(bench.there.asked("CLIENT TRACKING ON BCAST NOLOOP"), 1);
    bench.set("k", "v").unwrap();
    bench.set("l", "v").unwrap();
    assert_eq!(bench.fetch("absent"), Fetched::Absent);
    bench.push(b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\nk\r\n$6\r\nabsent\r\n");
    assert_eq!((bench.here("k"), bench.here("l").unwrap()), (None, Bytes::from_static(b"v")));
    bench.put_there("absent", "now");
    assert!(matches!(bench.fetch("absent"), Fetched::Found { .. }));
    let before = bench.here.all_forgotten.get();
    bench.push(b">2\r\n$10\r\ninvalidate\r\n_\r\n");
    assert_eq!(bench.here.all_forgotten.get(), before + 1);
    assert_eq!(bench.upstream.stats().invalidations, 2);
}

#[test]
fn after_a_lost_connection_all_strings_are_forgotten_and_service_goes_on() {
    let bench = Bench::new(|_| {});
    bench.set("k", "v").unwrap();
    let before = bench.here.all_forgotten.get();
    bench.there.hangs_up.set(true);
    assert_eq!(bench.set("l", "v"), Err(WriteError::Unavailable(Unavailable::Call(CallError::Down))));
    assert!(!bench.upstream.is_up());
    assert_eq!(bench.here("k").unwrap(), "v", "while it is away what is here is served");
    let upstream = bench.upstream.clone();
    bench.server.wait_until(move || upstream.stats().connects == 2);
    assert_eq!(bench.here.all_forgotten.get(), before + 1);
    assert!(matches!(bench.fetch("k"), Fetched::Found { .. }));
}

#[test]
fn a_mute_upstream_is_left_alone_after_some_timeouts_and_tried_again() {
    let bench = Bench::new(|_| {});
    bench.put_there("k", "v");
    bench.there.mute.set(true);
    let begun = bench.server.now();
    for _ in 0..5 {
        assert!(matches!(bench.fetch("k"), Fetched::Unavailable(_)));
    }
    assert!(bench.server.now() - begun < ms(300), "one timeout, then there was no connection");
    assert_eq!(bench.upstream.breaker(), breaker::State::Open);
    assert_eq!(bench.fetch("k"), Fetched::Unavailable(Unavailable::Open));
    bench.there.mute.set(false);
    bench.server.advance(ms(12_000));
    for _ in 0..2 {
        assert!(matches!(bench.fetch("k"), Fetched::Found { .. }), "{:?}", bench.upstream.stats());
    }
    assert_eq!(bench.upstream.breaker(), breaker::State::Closed);
}

#[test]
fn writes_behind_are_joined_sent_in_order_and_flushed() {
    let bench = Bench::new(|settings| settings.mode = Mode::Behind);
    bench.there.mute.set(true);
    for value in ["1", "2", "3"] {
        bench.set("k", value).unwrap();
    }
    bench.set("l", "1").unwrap();
    assert_eq!(bench.there("k"), None);
    // Evicted here, not sent yet: the queue has it.
    bench.here.strings.borrow_mut().clear();
    let Fetched::Found { value, stored: true, .. } = bench.fetch("k") else { panic!("it waits here") };
    assert_eq!(value, "3");
    bench.there.mute.set(false);
    let upstream = bench.upstream.clone();
    let left = bench.server.run(async move { upstream.flush(ms(20_000)).await });
    assert_eq!(left, 0);
    assert_eq!((bench.there("k").unwrap(), bench.there("l").unwrap()), ("3".into(), "1".into()));
    assert_eq!(bench.upstream.stats().queue_bytes, 0);
}

#[test]
fn a_write_that_others_may_have_overtaken_is_sent_and_then_asked_for_again() {
    let bench = Bench::new(|settings| settings.mode = Mode::Behind);
    bench.there.says.borrow_mut().extend_from_slice(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
    bench.set("k", "v").unwrap();
    let upstream = bench.upstream.clone();
    assert_eq!(bench.server.run(async move { upstream.flush(ms(20_000)).await }), 0);
    assert_eq!(bench.upstream.stats().invalidations, 1);
    assert_eq!((bench.here("k"), bench.there("k").unwrap()), (None, "v".into()));
    assert!(matches!(bench.fetch("k"), Fetched::Found { value, .. } if value == "v"));
}

#[test]
fn at_the_end_of_the_queue_a_write_is_refused_and_forgotten() {
    let bench = Bench::new(|settings| {
        settings.mode = Mode::Behind;
        settings.queue_keys_max = 3;
    });
    bench.there.mute.set(true);
    for key in ["a", "b", "c"] {
        bench.set(key, "v").unwrap();
    }
    let error = bench.set("d", "v").unwrap_err().to_string();
    assert!(error.contains("upstream_queue_keys_max is at its maximum of 3"), "{error}");
    assert_eq!(bench.here("d"), None);
    bench.set("a", "w").unwrap();
    let upstream = bench.upstream.clone();
    let left = bench.server.run(async move { upstream.flush(ms(100)).await });
    assert_eq!(left, 3, "a drain is told what is lost");
}

#[test]
fn a_value_above_the_maximum_ends_the_connection_and_nothing_else() {
    let bench = Bench::new(|settings| settings.value_len_max = 100);
    bench.put_there("big", &"x".repeat(101));
    bench.put_there("k", "v");
    assert_eq!(bench.fetch("big"), Fetched::Unavailable(Unavailable::Call(CallError::Down)));
    let upstream = bench.upstream.clone();
    bench.server.wait_until(move || upstream.is_up());
    assert!(matches!(bench.fetch("k"), Fetched::Found { .. }));
}

#[test]
fn strings_are_forgotten_in_slices_and_collections_stay() {
    use crate::services::cache::command::run_one;
    use crate::services::cache::store::{Config, KeyHasher};
    use corelane_proto_resp::Version;
    let mut store = Store::new(Config::default(), KeyHasher::seeded(1), Now::default());
    for n in 0..500 {
        let key = format!("k{n}");
        let words: [&[u8]; 3] =
            if n % 2 == 0 { [b"SET", key.as_bytes(), b"v"] } else { [b"SADD", key.as_bytes(), b"v"] };
        run_one(&mut store, &words, Version::Resp2);
    }
    let (mut cursor, mut slices) = (0, 0);
    loop {
        cursor = forget_strings(&mut store, cursor, 50);
        slices += 1;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(store.len(), 250);
    assert!(slices > 3, "{slices}");
    let hasher = store.hasher().clone();
    assert_eq!(WriteOp::of_state(&mut store, hasher.key(b"k1")), None);
    assert_eq!(
        WriteOp::of_state(&mut store, hasher.key(b"k0")),
        Some(WriteOp::Delete { key: (*b"k0").into() })
    );
}
