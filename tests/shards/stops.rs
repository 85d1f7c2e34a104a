//! A shard that stands still: named while it does, and nothing to the others.
//!
//! Its thread is held by a debugger, in its sleep and within a turn, or by a handler that does not end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::client::get;
use crate::common::{Client, Process};
use crate::service::{self, HOLDS, shard_of};
use crate::thread::Frozen;

/// How long a shard is held.
const HELD: Duration = Duration::from_millis(2_500);

/// A turn that does not end is named within 100 ms, a shard that does not wake up within 350, by a thread that has a
/// CPU when it wants one: this is for hosts where it waits for one. Below [`HELD`]: while it lasts.
const NAMED: Duration = Duration::from_millis(1_800);

/// Longest wait of a client of another shard meanwhile. Far below [`HELD`], far above what it is on a host that
/// has nothing else to do.
const LONG: Duration = Duration::from_millis(1_200);

/// Longest that a step may take that only a fault can keep.
const PATIENCE: Duration = Duration::from_secs(20);

/// Clients of shard 1, and of others, of the 16 that there are. About evenly: the first connections may come before
/// the last shard accepts.
const FEWEST: usize = 4;

/// What a process says, with the moment it was heard, line by line.
struct Ear<'a> {
    process: &'a Process,
    /// Said and not yet listened to.
    unheard: RefCell<VecDeque<String>>,
}

impl<'a> Ear<'a> {
    fn of(process: &'a Process) -> Ear<'a> {
        Ear { process, unheard: RefCell::default() }
    }

    /// Waits for a line that is `wanted`, and forgets those before it.
    #[track_caller]
    fn waits_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> (Instant, String) {
        let (start, mut others) = (Instant::now(), Vec::new());
        while start.elapsed() < PATIENCE {
            let mut unheard = self.unheard.borrow_mut();
            unheard.extend(self.process.said());
            while let Some(line) = unheard.pop_front() {
                if wanted(&line) {
                    return (Instant::now(), line);
                }
                others.push(line);
            }
            drop(unheard);
            thread::sleep(Duration::from_millis(1));
        }
        panic!("nothing was said with {what:?} in it, but {others:#?}");
    }

    /// Waits for a line with `what` in it.
    #[track_caller]
    fn hears(&self, what: &str) -> (Instant, String) {
        self.waits_for(what, |line| line.contains(what))
    }

    /// Waits for the end of a stop that was as long as the tests make one. On a busy host there are short ones.
    #[track_caller]
    fn hears_that_it_goes_on(&self) -> String {
        let what = "shard 1 goes on, after";
        self.waits_for(what, |line| line.contains(what) && milliseconds(line) >= 1_000).1
    }

    /// The watch said nothing more about shard 1, unless that it had no CPU for a moment.
    #[track_caller]
    fn hears_nothing(&self) {
        self.unheard.borrow_mut().extend(self.process.said());
        let said: Vec<String> = self.unheard.borrow_mut().drain(..).collect();
        let about = |line: &String| ["shard 1 has", "shard 1 goes"].iter().any(|words| line.contains(words));
        let is_long = |line: &String| u128::from(milliseconds(line)) >= LONG.as_millis();
        assert!(!said.iter().any(|line| about(line) && is_long(line)), "{said:#?}");
    }
}

/// The milliseconds a line names.
#[track_caller]
fn milliseconds(line: &str) -> u64 {
    let number = line.split(" ms").next().and_then(|before| before.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no time in {line:?}"))
}

/// One request and its answer.
struct Asked {
    sent: Instant,
    took: Duration,
}

/// Clients that ask one request after another, each by itself.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Asked>>>,
}

impl Load {
    fn of(clients: Vec<Client>, path: &'static str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let ask = |mut client: Client| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut all = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    assert_eq!(client.get(path).status, 200);
                    all.push(Asked { sent, took: sent.elapsed() });
                    thread::sleep(Duration::from_millis(5));
                }
                all
            })
        };
        let clients = clients.into_iter().map(ask).collect();
        Load { stop, clients }
    }

    /// What each client met.
    fn end(self) -> Vec<Vec<Asked>> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().unwrap()).collect()
    }
}

/// Median and longest wait.
fn waits<'a>(asked: impl IntoIterator<Item = &'a Asked>) -> (Duration, Duration) {
    let mut all: Vec<Duration> = asked.into_iter().map(|asked| asked.took).collect();
    all.sort();
    (all[all.len() / 2], all[all.len() - 1])
}

/// The clients of the other shards noticed nothing.
#[track_caller]
fn were_served(all: &[Vec<Asked>]) {
    let count: usize = all.iter().map(Vec::len).sum();
    let (median, longest) = waits(all.iter().flatten());
    eprintln!("  others: {count} requests, median {median:?}, longest {longest:?}");
    assert!(count > all.len() * 20, "they asked {count} times");
    assert!(longest < LONG, "one waited {longest:?}");
}

/// Connected clients, those of shard 1 apart.
fn clients(node: &Process) -> (Vec<Client>, Vec<Client>) {
    let mut all: Vec<(usize, Client)> = Vec::new();
    for _ in 0..16 {
        let mut client = Client::connect(node.addr);
        all.push((shard_of(&mut client), client));
    }
    let (held, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(shard, _)| *shard == 1);
    assert!(held.len().min(others.len()) >= FEWEST, "{} of {}", held.len(), held.len() + others.len());
    let only = |clients: Vec<(usize, Client)>| clients.into_iter().map(|(_, client)| client).collect();
    (only(held), only(others))
}

#[test]
fn a_shard_whose_thread_is_stopped_asleep_is_named_and_the_others_serve() {
    let node = Process::node(&["--shards", "2", "--accept", "balanced"]);
    let ear = Ear::of(&node);
    let mut all: Vec<Client> = (0..16).map(|_| Client::connect(node.addr)).collect();
    for client in &mut all {
        assert_eq!(client.get("/plaintext").status, 200);
    }
    ear.hears_nothing();
    // Nobody asks for anything: it sleeps, once the turn of the last answer is over.
    thread::sleep(Duration::from_millis(50));
    let Some(frozen) = Frozen::shard(node.id(), 1) else { return };
    let since = Instant::now();
    let load = Load::of(all, "/plaintext");
    let (named, line) = ear.hears("shard 1 has not woken up for");
    eprintln!("{line}\n  named after {:?}", named - since);
    assert!(line.contains("ERROR"), "no log level leaves it out but off: {line}");
    assert!(named - since < NAMED, "it took {:?}", named - since);
    thread::sleep(HELD.saturating_sub(since.elapsed()));
    ear.hears_nothing();
    let released = Instant::now();
    frozen.release();
    eprintln!("{}", ear.hears_that_it_goes_on());
    thread::sleep(Duration::from_millis(500));
    let mut all = load.end();
    let held: Vec<_> = all.extract_if(.., |one| waits(&*one).1 >= LONG).collect();
    assert_eq!(held.len() + all.len(), 16);
    assert!(held.len().min(all.len()) >= FEWEST, "{} are those of one of two shards", held.len());
    were_served(&all);
    for mut one in held {
        // Asked once while it stood, answered after, and served since.
        let first = one.remove(0);
        assert!(first.sent + first.took >= released, "it was answered while it stood");
        assert!(first.sent + first.took < released + LONG, "it was answered late");
        assert!(one.len() > 3, "it goes on");
        assert!(waits(&one).1 < LONG);
    }
}

#[test]
fn a_shard_whose_thread_is_stopped_within_a_turn_is_named_and_the_others_serve() {
    if service::has_been() {
        return;
    }
    let name = "stops::a_shard_whose_thread_is_stopped_within_a_turn_is_named_and_the_others_serve";
    let node = service::start(name, 2);
    let ear = Ear::of(&node);
    let (mut held, mut others) = clients(&node);
    let mut calling = others.split_off(FEWEST / 2);
    let load = Load::of(others, "/where");
    let mut busy = held.pop().unwrap();
    busy.send(get("/spin/400"));
    let (since, _) = ear.hears(HOLDS);
    let Some(frozen) = Frozen::shard(node.id(), 1) else { return };
    for client in &mut held {
        client.send(get("/where"));
    }
    for (n, client) in calling.iter_mut().enumerate() {
        client.send(get(&format!("/call/{n}")));
    }
    let (named, line) = ear.hears("shard 1 has been in one turn for");
    eprintln!("{line}\n  named after {:?}", named - since);
    assert!(u128::from(milliseconds(&line)) < NAMED.as_millis(), "{line}");
    thread::sleep(HELD.saturating_sub(since.elapsed()));
    ear.hears_nothing();
    held.iter_mut().chain(&mut calling).for_each(Client::is_silent);
    busy.is_silent();
    frozen.release();
    let line = ear.hears_that_it_goes_on();
    eprintln!("{line}");
    assert!(milliseconds(&line) >= 2_000, "{line}");
    assert_eq!(busy.answer().text(), "done");
    for client in &mut held {
        assert_eq!(client.answer().text(), "1");
        assert_eq!(client.get("/where").text(), "1");
    }
    for (n, client) in calling.iter_mut().enumerate() {
        assert_eq!(client.answer().text(), format!("{n} from 0 to 1"), "calls wait for the other shard");
    }
    were_served(&load.end());
}

#[test]
fn a_handler_that_does_not_end_is_named_while_it_lasts_and_the_other_shards_serve() {
    if service::has_been() {
        return;
    }
    let name = "stops::a_handler_that_does_not_end_is_named_while_it_lasts_and_the_other_shards_serve";
    let node = service::start(name, 3);
    let ear = Ear::of(&node);
    for path in ["/block/2500", "/spin/2500", "/task/2500"] {
        let (mut held, others) = clients(&node);
        let load = Load::of(others, "/where");
        let mut busy = held.pop().unwrap();
        let mut waits = held.pop().unwrap();
        busy.send(get(path));
        let (since, _) = ear.hears(HOLDS);
        waits.send(get("/where"));
        let (named, line) = ear.hears("shard 1 has been in one turn for");
        eprintln!("{path}: {line}\n  named after {:?}", named - since);
        assert!(line.contains("ERROR") && line.contains(" at shards::service::"), "it says who: {line}");
        assert!(u128::from(milliseconds(&line)) < NAMED.as_millis(), "{line}");
        assert!(named - since < NAMED, "it took {:?}", named - since);
        waits.is_silent();
        let line = ear.hears_that_it_goes_on();
        eprintln!("{line}");
        assert!((2_400..10_000).contains(&milliseconds(&line)), "{line}");
        assert_eq!(busy.answer().text(), "done");
        assert_eq!(waits.answer().text(), "1");
        were_served(&load.end());
    }
}

#[test]
fn a_drain_waits_for_a_shard_that_stands_still_and_what_it_holds_is_answered() {
    if service::has_been() {
        return;
    }
    let name = "stops::a_drain_waits_for_a_shard_that_stands_still_and_what_it_holds_is_answered";
    let mut node = service::start(name, 2);
    let (mut held, mut others) = clients(&node);
    let (mut busy, mut waits) = (held.pop().unwrap(), held.pop().unwrap());
    // A shard that gave a socket away closes its own copy in the turn after: not while a handler blocks.
    thread::sleep(Duration::from_millis(50));
    busy.send(get("/block/3000"));
    let (since, _) = Ear::of(&node).hears(HOLDS);
    waits.send(get("/where"));
    node.signal("TERM");
    others.iter_mut().for_each(Client::ends);
    assert!(since.elapsed() < Duration::from_millis(2_500), "the other shard drains meanwhile");
    waits.is_silent();
    // Its turn ends before it can know of the drain.
    assert_eq!(busy.answer().text(), "done");
    assert_eq!(waits.answer().text(), "1");
    held.extend([busy, waits]);
    held.iter_mut().for_each(Client::ends);
    // It lingers for peers that have not ended their side.
    drop((held, others));
    assert_eq!(node.wait(PATIENCE).code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_node_of_which_a_shard_stands_still() {
    if service::has_been() {
        return;
    }
    let mut node = service::start("stops::a_second_signal_ends_a_node_of_which_a_shard_stands_still", 2);
    let (mut held, mut others) = clients(&node);
    held[0].send(get("/spin/60000"));
    Ear::of(&node).hears(HOLDS);
    node.signal("TERM");
    others.iter_mut().for_each(Client::ends);
    node.signal("TERM");
    assert_eq!(node.wait(PATIENCE).code(), Some(130), "long before the handler ends");
}
