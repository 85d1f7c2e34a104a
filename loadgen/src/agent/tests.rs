//! Exact merges; and agents and controllers over real sockets with an engine that only pretends.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // control threads, and tests that wait

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::merge::merge_runs;
use super::wire::{FIRST_LEN_MAX, Frames, MESSAGE_LEN_MAX, Message};
use super::*;
use crate::compare::tests::{provenance, run_of, settings, tally_of};
use crate::model::{Floor, HostUse, Level, Reason, Run, SCHEMA, WorkerUse};
use crate::record::{ErrorKind, Tally};
use corelane_base::Rng;

// The merge.

fn part(seed: u64, host_id: &str) -> Run {
    let mut rng = Rng::new(seed);
    let tallies = (0..5).map(|_| {
        let mut one = || {
            let octave = 10 + rng.below(15);
            1_000 + rng.below(1 << octave)
        };
        let all: Vec<u64> = (0..300).map(|_| one()).collect();
        let mut tally = tally_of(&all);
        tally.response.record_at_least_n(1_000_000_000, 2);
        tally.errors.add_n(ErrorKind::Timeout, 2);
        tally
    });
    let mut run = run_of(tallies.collect());
    run.provenance.host_id = host_id.into();
    run
}

fn merged(parts: &[Run]) -> Result<Run, String> {
    let names = ["a:1", "b:2", "c:3"];
    merge_runs(names.iter().map(ToString::to_string).zip(parts.iter().cloned()).collect())
}

#[test]
fn percentiles_of_the_merge_are_those_of_one_histogram_of_all() {
    let parts = [part(1, "x"), part(2, "x"), part(3, "y")];
    let mut one = Tally::default();
    parts.iter().for_each(|run| one.merge(&run.total));
    let all = merged(&parts).unwrap();
    for percent in [0.0, 1.0, 50.0, 90.0, 99.0, 99.3, 99.9, 100.0] {
        assert_eq!(all.total.response.percentile(percent), one.response.percentile(percent), "P{percent}");
        assert_eq!(all.total.service.percentile(percent), one.service.percentile(percent), "P{percent}");
    }
    assert_eq!(all.total.response.count(), 3 * 5 * 302);
    assert_eq!((all.total.counts, all.total.errors), (one.counts, one.errors));
    let average = parts.iter().map(|run| run.total.response.percentile(99.0).unwrap().ns()).sum::<u64>() / 3;
    assert_ne!(all.total.response.percentile(99.0).unwrap().ns(), average, "which is what it is not");
    for (at, slice) in all.slices.iter().enumerate() {
        let mut of_slice = Tally::default();
        parts.iter().for_each(|run| of_slice.merge(&run.slices[at].tally));
        assert_eq!(slice.tally.response.buckets(), of_slice.response.buckets());
        assert_eq!(slice.start_ns, 100_000_000 * at as u64);
    }
    assert_eq!(all.workers.len(), 3);
}

#[test]
fn the_order_of_the_parts_changes_nothing_that_is_measured() {
    let parts = [part(1, "x"), part(2, "x"), part(3, "y")];
    let (forth, back) =
        (merged(&parts).unwrap(), merged(&[parts[2].clone(), parts[1].clone(), parts[0].clone()]));
    assert_eq!(forth.total.response.buckets(), back.unwrap().total.response.buckets());
}

#[test]
fn one_part_is_itself_but_for_the_name_before_its_reasons() {
    let mut run = part(1, "x");
    run.verdict.reasons = vec![Reason { level: Level::Suspect, code: "lag".into(), text: "late".into() }];
    run.verdict.level = Level::Suspect;
    let all = merged(&[run.clone()]).unwrap();
    assert_eq!(all.total.response.buckets(), run.total.response.buckets());
    assert_eq!((all.provenance, all.host), (run.provenance, run.host));
    assert_eq!(all.verdict.reasons[0].text, "a:1: late");
    assert_eq!(merge_runs(Vec::new()).unwrap_err(), "no run to merge");
}

#[test]
fn counters_of_one_host_count_once_and_those_of_two_are_added() {
    let of = |host: &str, retransmits, drops| {
        let mut run = part(1, host);
        run.host = HostUse { retransmits, softnet_drops: drops, ..HostUse::default() };
        run
    };
    let same = merged(&[of("x", Some(5), None), of("x", Some(7), Some(1))]).unwrap().host;
    assert_eq!((same.retransmits, same.softnet_drops, same.listen_drops), (Some(7), Some(1), None));
    let two = merged(&[of("x", Some(5), None), of("y", Some(7), Some(1))]).unwrap().host;
    assert_eq!((two.retransmits, two.softnet_drops, two.listen_drops), (Some(12), Some(1), None));
    let mixed = merged(&[of("x", Some(5), None), of("y", Some(7), None), of("x", Some(6), None)]).unwrap();
    assert_eq!(mixed.host.retransmits, Some(13));
    assert_eq!(mixed.provenance.host_id, "x+y");
    assert_eq!(mixed.provenance.cpus, 4, "two of each host");
    let unknown = merged(&[of("", Some(5), None), of("", Some(7), None)]).unwrap().host;
    assert_eq!(unknown.retransmits, Some(12), "who does not say where it is, is alone");
}

#[test]
fn facts_of_the_server_are_the_same_for_all_and_the_worst_steal_counts() {
    let (mut a, mut b) = (part(1, "x"), part(2, "y"));
    a.host = HostUse { shard_requests: vec![10, 20], steal_share: Some(0.01), ..HostUse::default() };
    b.host = HostUse { shard_requests: vec![11, 19, 5], steal_share: Some(0.2), ..HostUse::default() };
    (b.host.same_host, b.host.server_cpus) = (true, vec![3, 1]);
    let host = merged(&[a, b]).unwrap().host;
    assert_eq!((host.shard_requests, host.steal_share), (vec![11, 20, 5], Some(0.2)));
    assert_eq!((host.same_host, host.server_cpus), (true, vec![1, 3]));
}

#[test]
fn the_worst_verdict_is_that_of_all_and_says_whose_it_is() {
    let (a, mut b, mut c) = (part(1, "x"), part(2, "x"), part(3, "x"));
    let reason = |level, text: &str| Reason { level, code: "x".into(), text: text.into() };
    b.verdict.reasons = vec![reason(Level::Suspect, "meh")];
    b.verdict.level = Level::Suspect;
    c.verdict.reasons = vec![reason(Level::Invalid, "bad"), reason(Level::Valid, "by the way")];
    c.verdict.level = Level::Invalid;
    c.interrupted = true;
    let all = merged(&[a, b, c]).unwrap();
    let texts: Vec<_> = all.verdict.reasons.iter().map(|reason| reason.text.as_str()).collect();
    assert_eq!(texts, ["c:3: bad", "b:2: meh", "c:3: by the way"]);
    assert_eq!(all.verdict.level, Level::Invalid);
    assert!(all.interrupted);
}

#[test]
fn a_part_that_ended_early_has_fewer_slices_and_a_short_last_one() {
    let (whole, mut early) = (part(1, "x"), part(2, "x"));
    early.slices.truncate(3);
    early.slices[2].len_ns = 7;
    for parts in [[whole.clone(), early.clone()], [early.clone(), whole.clone()]] {
        let all = merged(&parts).unwrap();
        assert_eq!(all.slices.len(), 5);
        assert!(all.slices.iter().all(|slice| slice.len_ns == 100_000_000));
        assert_eq!(all.slices[2].tally.response.count(), 604);
        assert_eq!(all.slices[3].tally.response.count(), 302);
    }
}

#[test]
fn slices_that_lie_elsewhere_are_not_one_run() {
    let (a, mut b) = (part(1, "x"), part(2, "x"));
    b.slices[3].start_ns += 1;
    let error = merged(&[a.clone(), b]).unwrap_err();
    assert!(error.contains("slice 3 begins at 300000001 ns in b:2 and at 300000000 ns in a:1"), "{error}");
    let mut b = part(2, "x");
    b.slices[3].len_ns += 1;
    let error = merged(&[a.clone(), b]).unwrap_err();
    assert!(error.contains("slice 3 lasts 100000001 ns in b:2"), "{error}");
    let mut b = part(2, "x");
    b.settings.pipeline = 2;
    assert_eq!(merged(&[a, b]).unwrap_err(), "b:2 ran with other settings than a:1");
}

#[test]
fn impossible_figures_of_another_host_are_an_error() {
    let bad = |change: fn(&mut Run)| {
        let mut run = part(2, "x");
        change(&mut run);
        merged(&[part(1, "x"), run])
    };
    assert!(bad(|run| run.total.counts.sent = 1 << 56).is_ok(), "on the bound");
    assert!(bad(|run| run.total.counts.sent = (1 << 56) + 1).unwrap_err().starts_with("b:2: a count of"));
    assert!(bad(|run| run.slices[1].tally.errors.add_n(ErrorKind::Reset, u64::MAX)).is_err());
    assert!(bad(|run| run.workers[0].cpu_ns = 1 << 50).is_ok());
    assert!(bad(|run| run.workers[0].cpu_ns = (1 << 50) + 1).is_err());
    assert!(bad(|run| run.workers = vec![WorkerUse::default(); 4_096]).is_ok());
    assert!(bad(|run| run.workers = vec![WorkerUse::default(); 4_097]).is_err());
    assert!(bad(|run| run.host.retransmits = Some(u64::MAX)).is_err());
}

#[test]
fn the_slowest_noise_floor_is_that_of_all() {
    let (a, mut b, mut c) = (part(1, "x"), part(2, "x"), part(3, "x"));
    b.floor = Some(Floor { p50_ns: 9, p99_ns: 10, rate: 1.0 });
    c.floor = Some(Floor { p50_ns: 7, p99_ns: 90, rate: 1.0 });
    assert_eq!(merged(&[a.clone(), b.clone(), c]).unwrap().floor, b.floor);
    assert_eq!(merged(&[a.clone(), a]).unwrap().floor, None);
}

// The wire.

#[test]
fn messages_come_out_as_they_went_in_however_they_are_cut() {
    let run = Box::new(part(1, "x"));
    let all = [
        Message::Ping { id: 7 },
        Message::Plan { settings: Box::new(settings()), dealt_index: 1, dealt_of: 2, start_at_ns: 9 },
        Message::Progress { slice: Box::new(run.slices[0].clone()) },
        Message::Done { run },
        Message::Stop,
    ];
    let bytes: Vec<u8> = all.iter().flat_map(|message| message.encode().unwrap()).collect();
    for step in [1, 3, 1_000, bytes.len()] {
        let (mut frames, mut names) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(step) {
            frames.push(piece);
            while let Some(message) = frames.next(1 << 20, 5).unwrap() {
                names.push(message.name());
                match message {
                    Message::Ping { id } => assert_eq!(id, 7),
                    Message::Plan { settings: s, dealt_of: 2, .. } => assert_eq!(*s, settings()),
                    Message::Done { run } => assert_eq!(run.slices.len(), 5),
                    _ => {}
                }
            }
        }
        assert_eq!(names, ["ping", "plan", "progress", "done", "stop"], "{step}");
    }
}

#[test]
fn a_message_may_be_as_long_as_is_taken_and_no_longer() {
    let mut bytes = Message::Failed { text: "x".into() }.encode().unwrap();
    let len = bytes.len() - 4;
    let next = |bytes: &[u8], max| {
        let mut frames = Frames::default();
        frames.push(bytes);
        frames.next(max, 0).map(|message| message.is_some())
    };
    assert_eq!(next(&bytes, len), Ok(true));
    assert!(next(&bytes, len - 1).unwrap_err().contains("this is not loadgen speaking"));
    bytes.pop();
    assert_eq!(next(&bytes, len), Ok(false), "not yet all there");
    assert!(
        next(b"GET / HTTP/1.1\r\n", MESSAGE_LEN_MAX).unwrap_err().contains("a message of 542393671 bytes")
    );
    assert!(next(b"\x02\0\0\0{]", 99).unwrap_err().starts_with("not a message: "));
    assert!(next(b"\x02\0\0\0\xff\xff", 99).unwrap_err().contains("UTF-8"));
}

#[test]
fn a_plan_beyond_what_an_agent_takes_is_not_sent() {
    let mut settings = settings();
    let plan = |settings: &crate::model::Settings| {
        let settings = Box::new(settings.clone());
        Message::Plan { settings, dealt_index: 0, dealt_of: 1, start_at_ns: 0 }.encode()
    };
    let spare = MESSAGE_LEN_MAX + 4 - plan(&settings).unwrap().len();
    settings.url.push_str(&"x".repeat(spare));
    assert_eq!(plan(&settings).unwrap().len(), MESSAGE_LEN_MAX + 4);
    settings.url.push('x');
    assert!(plan(&settings).unwrap_err().contains("a plan of 1048577 bytes"));
}

#[test]
fn a_result_with_more_slices_than_were_asked_for_is_not_built() {
    let bytes = Message::Done { run: Box::new(part(1, "x")) }.encode().unwrap();
    assert!(Message::decode(&bytes[4..], 5).is_ok());
    assert!(Message::decode(&bytes[4..], 4).unwrap_err().contains("5 slices, and 4 are possible"));
    let spaced = String::from_utf8(bytes[4..].to_vec()).unwrap().replacen("{\"done\"", "{ \"done\"", 1);
    assert!(Message::decode(spaced.as_bytes(), 4).is_err(), "no way around");
}

#[test]
fn a_failure_of_the_other_side_is_one_short_line() {
    let bytes = Message::Failed { text: format!("a\x1b[31m\nb{}", "c".repeat(5_000)) }.encode().unwrap();
    let Message::Failed { text } = Message::decode(&bytes[4..], 0).unwrap() else { panic!() };
    assert!(text.starts_with("a [31m bc"), "{text}");
    assert_eq!(text.chars().count(), 1_000);
}

#[test]
fn a_greeting_with_a_token_does_not_print_it() {
    let token = Token::new("0123456789abcdef").unwrap();
    let hello = Message::Hello { version: "1".into(), schema: 1, token: Some(token) };
    assert!(!format!("{hello:?}").contains("0123"), "{hello:?}");
    assert!(hello.encode().unwrap().len() < FIRST_LEN_MAX);
}

// Agents and controllers.

/// Pretends: begins at once, one slice each 5 ms, until `slices` are over or it is told to stop.
struct Pretend {
    slices: u64,
    /// When it was told to begin, and when it was left.
    begun: Mutex<Vec<(Dealt, Instant)>>,
    ended: AtomicU64,
    fails: bool,
}

impl Pretend {
    fn of(slices: u64) -> Pretend {
        Pretend { slices, begun: Mutex::new(Vec::new()), ended: AtomicU64::new(0), fails: false }
    }

    fn has_begun(&self) -> bool {
        !self.begun.lock().unwrap().is_empty()
    }
}

impl Engine for Pretend {
    fn run(
        &self,
        settings: &Settings,
        dealt: Dealt,
        start_at: Instant,
        on_slice: &mut dyn FnMut(&Slice),
        stop: &AtomicBool,
    ) -> Result<Run, String> {
        self.begun.lock().unwrap().push((dealt, start_at));
        if self.fails {
            return Err("no route to it".into());
        }
        let mut run = run_of(Vec::new());
        run.settings = settings.clone();
        let mut rng = Rng::new(dealt.index);
        for at in 0..self.slices {
            if stop.load(Ordering::Relaxed) {
                run.interrupted = true;
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
            let tally = tally_of(&[1_000 + rng.below(1_000_000); 3]);
            let slice = Slice { start_ns: at * 5_000_000, len_ns: 5_000_000, tally };
            run.total.merge(&slice.tally);
            on_slice(&slice);
            run.slices.push(slice);
        }
        run.provenance = provenance();
        run.measured_ns = 5_000_000 * run.slices.len() as u64;
        self.ended.fetch_add(1, Ordering::Relaxed);
        Ok(run)
    }
}

/// Longer than a thread of a busy host is kept from answering.
const SILENCE: Duration = Duration::from_millis(1_500);

fn timing() -> Timing {
    Timing {
        start_ahead: Duration::from_secs(20), // nobody waits for it here
        answer_max: Duration::from_secs(5),
        ping_interval: Duration::from_millis(100),
        silence_max: Duration::from_secs(5),
    }
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn agent(token: Option<&Token>) -> Agent {
    Agent::bind(loopback(), token.cloned(), "0123".into(), 2).unwrap().with_timing(timing())
}

/// Agents with these engines serve while `act` is given their addresses, and what they log.
fn with_agents<T>(agents: &[(&Agent, &Pretend)], act: impl FnOnce(&[String], &Mutex<Vec<String>>) -> T) -> T {
    let (stop, lines) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let names: Vec<String> = agents.iter().map(|(agent, _)| agent.local_addr().to_string()).collect();
    std::thread::scope(|scope| {
        for (agent, engine) in agents {
            let (stop, lines) = (&stop, &lines);
            scope.spawn(move || {
                let log = |line: &str| lines.lock().unwrap().push(line.to_owned());
                agent.serve(*engine, &log, stop).unwrap();
            });
        }
        // Agents end also where the test fails.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&names, &lines)));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("still not: {what}");
}

fn ask<'a>(agents: &'a [String], settings: &'a Settings, token: Option<&'a Token>) -> Ask<'a> {
    Ask { agents, token, settings, command: "loadgen --agents", timing: timing() }
}

fn control_all(agents: &[String], token: Option<&Token>) -> Result<Run, String> {
    control(&ask(agents, &settings(), token), &mut |_| {}, &AtomicBool::new(false))
}

#[test]
fn two_agents_make_one_run_from_one_moment() {
    let token = Token::new("0123456789abcdef").unwrap();
    let (one, two) = (agent(Some(&token)), agent(None));
    let (a, b) = (Pretend::of(10), Pretend::of(10));
    let mut shown = Vec::new();
    let run = with_agents(&[(&one, &a), (&two, &b)], |names, _| {
        control(
            &ask(names, &settings(), Some(&token)),
            &mut |slice| shown.push(slice.clone()),
            &AtomicBool::new(false),
        )
        .unwrap()
    });
    assert_eq!((run.slices.len(), run.total.response.count()), (10, 60));
    assert_eq!(run.workers.len(), 2);
    assert_eq!((run.provenance.command.as_str(), run.settings), ("loadgen --agents", settings()));
    let (begun_a, begun_b) = (a.begun.lock().unwrap()[0], b.begun.lock().unwrap()[0]);
    assert_eq!(begun_a.0, Dealt { index: 0, of: 2 });
    assert_eq!(begun_b.0, Dealt { index: 1, of: 2 });
    // Both engines live in this process: their starts can be compared, and differ by no more than was said.
    let apart = begun_a.1.max(begun_b.1) - begun_a.1.min(begun_b.1);
    let reason = run.verdict.reasons.iter().find(|reason| reason.code == "agents").unwrap();
    assert!(reason.text.starts_with("2 agent(s) were told one moment "), "{reason:?}");
    let us: u64 = reason.text.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    assert!(apart <= 2 * Duration::from_micros(us), "{apart:?} {us}");
    assert!(shown.iter().all(|slice| slice.tally.response.count() == 6), "whole slices only");
    assert!(shown.is_sorted_by_key(|slice| slice.start_ns));
}

#[test]
fn an_agent_serves_one_run_after_another() {
    let (one, a) = (agent(None), Pretend::of(1));
    with_agents(&[(&one, &a)], |names, lines| {
        for _ in 0..2 {
            assert_eq!(control_all(names, None).unwrap().total.response.count(), 3);
        }
        wait_until("it says so", || lines.lock().unwrap().len() == 2);
        assert!(lines.lock().unwrap().iter().all(|line| line.ends_with("a run is done")), "{lines:?}");
    });
}

#[test]
fn a_controller_that_is_told_to_stop_gets_what_was_measured() {
    let (one, two) = (agent(None), agent(None));
    let (a, b) = (Pretend::of(100_000), Pretend::of(100_000));
    let stop = AtomicBool::new(false);
    let run = with_agents(&[(&one, &a), (&two, &b)], |names, _| {
        control(&ask(names, &long(), None), &mut |_| stop.store(true, Ordering::Relaxed), &stop).unwrap()
    });
    assert!(run.interrupted);
    assert!(!run.slices.is_empty());
}

/// Settings of a run that is long enough to be ended by something else.
fn long() -> Settings {
    Settings { duration_ns: 600_000_000_000, slice_ns: 5_000_000, ..settings() }
}

#[test]
fn an_agent_that_fails_is_named_and_the_others_stop() {
    let (one, two) = (agent(None), agent(None));
    let (a, b) = (Pretend::of(100_000), Pretend { fails: true, ..Pretend::of(1) });
    with_agents(&[(&one, &a), (&two, &b)], |names, _| {
        let error = control(&ask(names, &long(), None), &mut |_| {}, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error, format!("agent {}: no route to it", names[1]));
        wait_until("the other one stopped", || a.ended.load(Ordering::Relaxed) == 1);
    });
}

#[test]
fn an_agent_that_dies_in_the_middle_is_named_and_the_others_stop() {
    let (one, a) = (agent(None), Pretend::of(100_000));
    let dying = TcpListener::bind(loopback()).unwrap();
    let name = dying.local_addr().unwrap().to_string();
    with_agents(&[(&one, &a)], |names, _| {
        let names = [names[0].clone(), name.clone()];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = dying.accept().unwrap();
                answer_until_planned(&mut stream);
                wait_until("the other one runs", || a.has_begun());
            });
            let error =
                control(&ask(&names, &long(), None), &mut |_| {}, &AtomicBool::new(false)).unwrap_err();
            assert!(error.starts_with(&format!("agent {name}: it is gone: ")), "{error}");
        });
        wait_until("the other one stopped", || a.ended.load(Ordering::Relaxed) == 1);
    });
}

fn receive(stream: &mut TcpStream, frames: &mut Frames) -> Option<Message> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(message) = frames.next(MESSAGE_LEN_MAX, 0).unwrap() {
            return Some(message);
        }
        let len = stream.read(&mut buffer).unwrap_or(0);
        if len == 0 {
            return None;
        }
        frames.push(&buffer[..len]);
    }
}

fn say(stream: &mut TcpStream, message: &Message) {
    stream.write_all(&message.encode().unwrap()).unwrap();
}

fn welcome() -> Message {
    Message::Welcome {
        version: env!("CARGO_PKG_VERSION").into(),
        schema: SCHEMA,
        host_id: "y".into(),
        cpus: 1,
    }
}

fn hello() -> Message {
    Message::Hello { version: env!("CARGO_PKG_VERSION").into(), schema: SCHEMA, token: None }
}

/// An agent up to its `Ready`.
fn answer_until_planned(stream: &mut TcpStream) {
    let mut frames = Frames::default();
    loop {
        match receive(stream, &mut frames).unwrap() {
            Message::Hello { .. } => say(stream, &welcome()),
            Message::Ping { id } => say(stream, &Message::Pong { id, clock_ns: 1 }),
            Message::Plan { .. } => return say(stream, &Message::Ready),
            other => panic!("{other:?}"),
        }
    }
}

/// A controller up to the `Ready` of the agent.
fn plan_with(name: &str) -> (TcpStream, Frames) {
    let (mut stream, mut frames) = (TcpStream::connect(name).unwrap(), Frames::default());
    say(&mut stream, &hello());
    assert!(matches!(receive(&mut stream, &mut frames), Some(Message::Welcome { .. })));
    say(&mut stream, &Message::Ping { id: 3 });
    let Some(Message::Pong { id: 3, clock_ns }) = receive(&mut stream, &mut frames) else { panic!() };
    let start_at_ns = clock_ns + 5_000_000_000;
    let plan = Message::Plan { settings: Box::new(long()), dealt_index: 0, dealt_of: 1, start_at_ns };
    say(&mut stream, &plan);
    assert!(matches!(receive(&mut stream, &mut frames), Some(Message::Ready)));
    (stream, frames)
}

#[test]
fn a_controller_that_dies_ends_the_run_of_its_agent() {
    let (one, a) = (agent(None), Pretend::of(100_000));
    with_agents(&[(&one, &a)], |names, lines| {
        let (stream, _) = plan_with(&names[0]);
        wait_until("it runs", || a.has_begun());
        assert_eq!(a.ended.load(Ordering::Relaxed), 0);
        drop(stream);
        wait_until("it stopped", || a.ended.load(Ordering::Relaxed) == 1);
        wait_until("it says so", || !lines.lock().unwrap().is_empty());
        assert!(lines.lock().unwrap()[0].contains("the controller is gone"), "{lines:?}");
        control_all(&names[..0], None).unwrap_err();
    });
}

#[test]
fn an_agent_stays_until_its_controller_has_the_result_and_leaves() {
    let (one, a) = (agent(None), Pretend::of(0));
    with_agents(&[(&one, &a)], |names, lines| {
        let (mut stream, mut frames) = plan_with(&names[0]);
        assert!(matches!(receive(&mut stream, &mut frames), Some(Message::Done { .. })));
        std::thread::sleep(4 * POLL);
        say(&mut stream, &Message::Ping { id: 8 });
        assert!(matches!(receive(&mut stream, &mut frames), Some(Message::Pong { id: 8, .. })));
        drop(stream);
        wait_until("it says so", || !lines.lock().unwrap().is_empty());
        assert!(lines.lock().unwrap()[0].ends_with("a run is done"), "{lines:?}");
    });
}

#[test]
fn a_controller_that_falls_silent_ends_the_run_of_its_agent() {
    let quick = Timing { silence_max: SILENCE, ..timing() };
    let (one, a) = (agent(None).with_timing(quick), Pretend::of(100_000));
    with_agents(&[(&one, &a)], |names, lines| {
        let (mut stream, mut frames) = plan_with(&names[0]);
        wait_until("it stopped", || a.ended.load(Ordering::Relaxed) == 1);
        wait_until("it says so", || !lines.lock().unwrap().is_empty());
        assert!(lines.lock().unwrap()[0].contains("was silent for 1.5s"), "{lines:?}");
        let mut last = None;
        while let Some(message) = receive(&mut stream, &mut frames) {
            last = Some(message);
        }
        assert!(matches!(last, Some(Message::Failed { .. })), "{last:?}");
    });
}

#[test]
fn an_agent_that_falls_silent_is_gone() {
    let silent = TcpListener::bind(loopback()).unwrap();
    let names = [silent.local_addr().unwrap().to_string()];
    let quick = Timing { silence_max: SILENCE, ..timing() };
    std::thread::scope(|scope| {
        let holding = scope.spawn(|| {
            let (mut stream, _) = silent.accept().unwrap();
            answer_until_planned(&mut stream);
            stream
        });
        let settings = long();
        let ask = Ask { timing: quick, ..ask(&names, &settings, None) };
        let error = control(&ask, &mut |_| {}, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error, format!("agent {}: it is gone: it was silent for 1.5s", names[0]));
        drop(holding.join());
    });
}

#[test]
fn an_agent_that_is_stopped_itself_fails_the_run() {
    let (one, a) = (agent(None), Pretend::of(100_000));
    let name = [one.local_addr().to_string()];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| one.serve(&a, &|_| {}, &stop).unwrap());
        let mut on_slice = |_: &Slice| stop.store(true, Ordering::Relaxed);
        let error = control(&ask(&name, &long(), None), &mut on_slice, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error, format!("agent {}: the agent was stopped", name[0]));
    });
}

#[test]
fn a_wrong_token_and_none_are_not_let_in_and_the_right_one_is() {
    let token = Token::new("0123456789abcdef").unwrap();
    let (one, a) = (agent(Some(&token)), Pretend::of(1));
    with_agents(&[(&one, &a)], |names, lines| {
        let other = Token::new("0123456789abcdeg").unwrap();
        assert!(control_all(names, Some(&other)).unwrap_err().contains("its token is another one"));
        assert!(control_all(names, None).unwrap_err().contains("a token is needed here"));
        assert!(!a.has_begun());
        assert!(control_all(names, Some(&token)).is_ok());
        let lines = lines.lock().unwrap();
        assert!(lines.iter().all(|line| !line.contains("0123456789")), "{lines:?}");
    });
}

#[test]
fn another_version_or_schema_is_told_apart_by_both_sides() {
    let (one, a) = (agent(None), Pretend::of(1));
    with_agents(&[(&one, &a)], |names, _| {
        for (version, schema) in [("9.9.9", SCHEMA), (env!("CARGO_PKG_VERSION"), SCHEMA + 1)] {
            let (mut stream, mut frames) = (TcpStream::connect(&names[0]).unwrap(), Frames::default());
            say(&mut stream, &Message::Hello { version: version.into(), schema, token: None });
            let Some(Message::Failed { text }) = receive(&mut stream, &mut frames) else { panic!() };
            assert!(text.contains(&format!("loadgen {version} (schema {schema})")), "{text}");
            assert!(text.ends_with("use one version"), "{text}");
        }
    });
    let old = TcpListener::bind(loopback()).unwrap();
    let names = [old.local_addr().unwrap().to_string()];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = old.accept().unwrap();
            let _ = receive(&mut stream, &mut Frames::default());
            let version = "0.0.1".into();
            say(&mut stream, &Message::Welcome { version, schema: SCHEMA, host_id: "y".into(), cpus: 1 });
        });
        let error = control_all(&names, None).unwrap_err();
        assert!(error.contains("it is loadgen 0.0.1"), "{error}");
    });
}

#[test]
fn garbage_and_long_messages_end_their_connection_and_not_the_agent() {
    let (one, a) = (agent(None), Pretend::of(1));
    with_agents(&[(&one, &a)], |names, lines| {
        let long = (u32::try_from(FIRST_LEN_MAX).unwrap() + 1).to_le_bytes();
        let plan = Message::Stop.encode().unwrap();
        for bytes in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &long, b"\x02\0\0\0{]", b"\x05\0\0\0\xff\xfe\xfd\xfc\xfb", &plan]
        {
            let mut stream = TcpStream::connect(&names[0]).unwrap();
            stream.write_all(bytes).unwrap();
            let _ = stream.read_to_end(&mut Vec::new()); // until it is closed, in whichever way
        }
        wait_until("all were told", || lines.lock().unwrap().len() == 5);
        assert!(control_all(names, None).is_ok());
        let lines = lines.lock().unwrap().join("\n");
        for part in [
            "this is not loadgen speaking",
            "a message of 4097 bytes, and 4096 are taken",
            "begins with stop",
        ] {
            assert!(lines.contains(part), "{lines}");
        }
    });
}

#[test]
fn a_second_controller_is_told_that_the_agent_is_busy() {
    let (one, a) = (agent(None), Pretend::of(100_000));
    with_agents(&[(&one, &a)], |names, _| {
        let (stream, _) = plan_with(&names[0]);
        let error = control_all(names, None).unwrap_err();
        assert!(error.contains("busy with another controller"), "{error}");
        drop(stream);
        wait_until("it stopped", || a.ended.load(Ordering::Relaxed) == 1);
    });
}

#[test]
fn plans_that_cannot_be_are_refused() {
    let (one, a) = (agent(None), Pretend::of(1));
    with_agents(&[(&one, &a)], |names, _| {
        let refused = |dealt_index, dealt_of, start_at_ns| {
            let (mut stream, mut frames) = (TcpStream::connect(&names[0]).unwrap(), Frames::default());
            say(&mut stream, &hello());
            receive(&mut stream, &mut frames);
            let plan = Message::Plan { settings: Box::new(settings()), dealt_index, dealt_of, start_at_ns };
            say(&mut stream, &plan);
            let Some(Message::Failed { text }) = receive(&mut stream, &mut frames) else { panic!() };
            wait_until("the agent is free", || receive(&mut stream, &mut frames).is_none());
            text
        };
        assert!(refused(2, 2, 5_000_000_000).contains("part 2 of 2"));
        assert!(refused(0, 1, 1).contains("came after the start"));
        assert!(refused(0, 1, u64::MAX).contains("s ahead"));
        assert!(!a.has_begun());
    });
}

#[test]
fn an_agent_that_others_could_reach_needs_a_token() {
    let bind = |address: &str, token: Option<Token>| {
        Agent::bind(address.parse().unwrap(), token, String::new(), 1).map(|agent| agent.local_addr())
    };
    let error = bind("0.0.0.0:0", None).unwrap_err();
    assert!(error.contains("--token-file FILE"), "{error}");
    assert!(bind("0.0.0.0:0", Token::new("0123456789abcdef").ok()).is_ok());
    assert!(bind("127.0.0.2:0", None).is_ok());
    assert!(bind("[::ffff:127.0.0.1]:0", None).is_ok_and(|address| address.port() > 0));
    let taken = bind_and_keep();
    let error = bind(&taken.local_addr().unwrap().to_string(), None).unwrap_err();
    assert!(error.starts_with("cannot listen on 127.0.0.1:"), "{error}");
}

fn bind_and_keep() -> TcpListener {
    TcpListener::bind(loopback()).unwrap()
}

#[test]
fn agents_that_are_not_there_are_named_with_the_cure() {
    let port = bind_and_keep().local_addr().unwrap().port();
    let error = control_all(&[format!("127.0.0.1:{port}")], None).unwrap_err();
    assert!(error.starts_with(&format!("agent 127.0.0.1:{port}: ")), "{error}");
    assert!(error.contains(&format!("is `loadgen agent --listen HOST:{port}` running there?")), "{error}");
    assert!(control_all(&["nohost".into()], None).unwrap_err().contains("write HOST:PORT"));
    let twice = ["127.0.0.1:1".to_owned(), "127.0.0.1:1".to_owned()];
    assert!(control_all(&twice, None).unwrap_err().contains("named twice"));
    let many = |count: usize| (0..count).map(|at| format!("127.0.0.1:{}", at + 1)).collect::<Vec<_>>();
    assert!(control_all(&many(AGENTS_MAX), None).unwrap_err().starts_with("agent 127.0.0.1:1: "));
    assert!(control_all(&many(AGENTS_MAX + 1), None).unwrap_err().contains("1 to 64 are possible"));
}
