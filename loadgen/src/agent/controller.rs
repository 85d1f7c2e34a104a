//! The controller: has several agents make one run.
//!
//! # Rules
//! 1. All agents or none: a run in which one failed is no run, and the error says which.
//! 2. Each agent is told the same moment, on its own clock; how sure that is, the verdict says.
//!
//! Not here: what a run is (`Engine`), how parts become one (`merge`).

use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::clock::{Offset, PINGS, Sample, offset_of};
use super::link::{Link, send};
use super::merge::{add_reason, merge_runs};
use super::server::same_version;
use super::wire::{FIRST_LEN_MAX, MESSAGE_LEN_MAX, Message, RESULT_LEN_MAX};
use super::{Gather, POLL, Timing, Token, now, ns};
use crate::model::{Level, Reason, Run, SCHEMA, Settings, Slice};

/// Agents of one run: each has a thread here, and its result in memory.
pub const AGENTS_MAX: usize = 64;
/// What a run may take beyond all that was asked: sorting, packing, sending.
const FINISH_MAX: Duration = Duration::from_secs(60);
/// Messages of all agents that wait to be looked at.
const EVENTS_MAX: usize = 64;

/// What a controller is to do.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Addresses of the agents: `HOST:PORT`.
    pub agents: &'a [String],
    /// What lets it in.
    pub token: Option<&'a Token>,
    /// Of the whole run.
    pub settings: &'a Settings,
    /// Kept in the result: the command line of this process.
    pub command: &'a str,
    /// How long things may take.
    pub timing: Timing,
}

/// An agent that was greeted.
struct Peer {
    name: String,
    link: Link,
    offset: Offset,
}

/// What the agents' threads report.
enum Event {
    Said(Message),
    Gone(String),
}

/// Makes the run that is asked for. Slices are given to `on_slice` once all agents have sent theirs. When
/// `stop` is set, the agents end early, and the result is what they measured.
///
/// # Errors
/// One line that names the agent: it could not be reached, is of another version, does not let us in, failed,
/// or vanished. The other agents are stopped.
pub fn control(ask: &Ask<'_>, on_slice: &mut dyn FnMut(&Slice), stop: &AtomicBool) -> Result<Run, String> {
    check(ask.agents)?;
    let anchor = now();
    let mut peers = Vec::with_capacity(ask.agents.len());
    for name in ask.agents {
        let peer = greet(name, ask, anchor).map_err(|error| format!("agent {name}: {error}"))?;
        peers.push(peer);
    }
    let start = now() + ask.timing.start_ahead;
    let start_ns = ns(start.duration_since(anchor));
    let mut writers = Vec::with_capacity(peers.len());
    for (index, peer) in (0u64..).zip(&peers) {
        let plan = Message::Plan {
            settings: Box::new(ask.settings.clone()),
            dealt_index: index,
            dealt_of: peers.len() as u64,
            start_at_ns: peer.offset.theirs(start_ns),
        };
        let writer = peer.link.writer().and_then(|writer| send(&writer, &plan).map(|()| writer));
        writers.push(writer.map_err(|error| format!("agent {}: {error}", peer.name))?);
    }
    let uncertain_ns =
        peers.iter().map(|peer| peer.offset.uncertain_after(ns(ask.timing.start_ahead))).max().unwrap_or(0);
    let names: Vec<String> = peers.iter().map(|peer| peer.name.clone()).collect();
    let runs = follow(ask, peers, &writers, start, on_slice, stop)?;
    let mut run = merge_runs(names.into_iter().zip(runs).collect())?;
    run.settings = ask.settings.clone();
    run.provenance.command = ask.command.into();
    add_reason(&mut run.verdict, start_reason(ask, uncertain_ns));
    Ok(run)
}

fn check(agents: &[String]) -> Result<(), String> {
    if agents.is_empty() || agents.len() > AGENTS_MAX {
        return Err(format!("{} agents: 1 to {AGENTS_MAX} are possible", agents.len()));
    }
    for (at, name) in agents.iter().enumerate() {
        if agents[..at].contains(name) {
            return Err(format!("agent {name} is named twice: an agent takes one part"));
        }
    }
    Ok(())
}

/// How well the start was synchronised. A tenth of a slice is what a time series does not show.
fn start_reason(ask: &Ask<'_>, uncertain_ns: u64) -> Reason {
    let level = if uncertain_ns > ask.settings.slice_ns / 10 { Level::Suspect } else { Level::Valid };
    let (count, us) = (ask.agents.len(), uncertain_ns.div_ceil(1_000));
    let mut text = format!("{count} agent(s) were told one moment to begin, each to within {us} us");
    if level == Level::Suspect {
        text.push_str(": over a tenth of a slice; choose longer slices or a nearer controller");
    }
    Reason { level, code: "agents".into(), text }
}

/// Connects, is let in, and reads the agent's clock.
fn greet(name: &str, ask: &Ask<'_>, anchor: Instant) -> Result<Peer, String> {
    let Timing { answer_max, silence_max, .. } = ask.timing;
    let mut link = Link::new(connect(name, answer_max)?, silence_max)?;
    let writer = link.writer()?;
    let (version, token) = (env!("CARGO_PKG_VERSION").to_owned(), ask.token.cloned());
    send(&writer, &Message::Hello { version, schema: SCHEMA, token })?;
    match link.expect(FIRST_LEN_MAX, answer_max)? {
        Message::Welcome { version, schema, .. } => same_version("it", &version, schema, "this")?,
        Message::Failed { text } => return Err(text),
        other => return Err(format!("it answered a greeting with {}", other.name())),
    }
    let mut samples = Vec::with_capacity(PINGS);
    for id in 0..PINGS as u64 {
        let asked_ns = ns(now().duration_since(anchor));
        send(&writer, &Message::Ping { id })?;
        match link.expect(MESSAGE_LEN_MAX, answer_max)? {
            Message::Pong { id: theirs, clock_ns } if theirs == id => {
                let answered_ns = ns(now().duration_since(anchor));
                samples.push(Sample { asked_ns, theirs_ns: clock_ns, answered_ns });
            }
            Message::Failed { text } => return Err(text),
            other => return Err(format!("it answered a ping with {}", other.name())),
        }
    }
    let offset = offset_of(&samples).ok_or("it has no clock")?;
    Ok(Peer { name: name.into(), link, offset })
}

fn connect(name: &str, timeout: Duration) -> Result<TcpStream, String> {
    let addresses = name.to_socket_addrs().map_err(|error| format!("{error}; write HOST:PORT"))?;
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let port = address.port();
                last = format!("{error}; is `loadgen agent --listen HOST:{port}` running there?");
            }
        }
    }
    Err(last)
}

/// The most slices that an agent may send back for these settings: a drain may have some of its own.
fn slices_max(settings: &Settings) -> usize {
    let time = settings.duration_ns.saturating_add(settings.drain_ns).saturating_add(settings.timeout_ns);
    let count = time / settings.slice_ns.max(1) + 2;
    usize::try_from(count).unwrap_or(usize::MAX).min(crate::compare::SLICES_MAX)
}

/// From the plan to the results, in the order of the agents. Whatever happens, all agents are told to stop.
#[allow(clippy::disallowed_methods)] // control threads: each waits for one agent
fn follow(
    ask: &Ask<'_>,
    peers: Vec<Peer>,
    writers: &[TcpStream],
    start: Instant,
    on_slice: &mut dyn FnMut(&Slice),
    stop: &AtomicBool,
) -> Result<Vec<Run>, String> {
    let is_over = AtomicBool::new(false);
    let silence_max = ask.timing.silence_max;
    let slices_max = slices_max(ask.settings);
    std::thread::scope(|scope| {
        let (events, arriving) = std::sync::mpsc::sync_channel(EVENTS_MAX);
        let names: Vec<String> = peers.iter().map(|peer| peer.name.clone()).collect();
        for (index, peer) in peers.into_iter().enumerate() {
            let (events, is_over) = (events.clone(), &is_over);
            scope.spawn(move || listen(index, peer.link, (slices_max, silence_max), &events, is_over));
        }
        let follower = Follower { names: &names, writers, start, ask };
        let result = follower.follow(&arriving, on_slice, stop);
        is_over.store(true, Ordering::Relaxed);
        if result.is_err() {
            for writer in writers {
                let _ = send(writer, &Message::Stop); // it may be the one that is gone
                let _ = writer.shutdown(Shutdown::Both);
            }
        }
        result
    })
}

/// Reports what one agent says, until it is done or gone.
fn listen(
    index: usize,
    mut link: Link,
    (slices_max, silence_max): (usize, Duration),
    events: &SyncSender<(usize, Event)>,
    is_over: &AtomicBool,
) {
    while !is_over.load(Ordering::Relaxed) {
        let event = match link.read(RESULT_LEN_MAX, slices_max, POLL) {
            Ok(Some(message)) => Event::Said(message),
            Ok(None) if link.silence() > silence_max => {
                Event::Gone(format!("it was silent for {silence_max:?}"))
            }
            Ok(None) => continue,
            Err(error) => Event::Gone(error),
        };
        let is_last =
            matches!(event, Event::Gone(_) | Event::Said(Message::Done { .. } | Message::Failed { .. }));
        if events.send((index, event)).is_err() || is_last {
            return;
        }
    }
}

struct Follower<'a> {
    names: &'a [String],
    writers: &'a [TcpStream],
    start: Instant,
    ask: &'a Ask<'a>,
}

impl Follower<'_> {
    fn of(&self, index: usize, text: &str) -> String {
        format!("agent {}: {text}", self.names[index])
    }

    /// When the last agent must be done; None for a time beyond all clocks.
    fn deadline(&self) -> Option<Instant> {
        let s = self.ask.settings;
        let asked = [s.ramp_ns, s.warmup_ns, s.duration_ns, s.drain_ns, s.timeout_ns];
        let asked = asked.into_iter().fold(0, u64::saturating_add);
        self.start.checked_add(Duration::from_nanos(asked))?.checked_add(FINISH_MAX)
    }

    fn follow(
        &self,
        arriving: &Receiver<(usize, Event)>,
        on_slice: &mut dyn FnMut(&Slice),
        stop: &AtomicBool,
    ) -> Result<Vec<Run>, String> {
        let count = self.names.len();
        let mut runs: Vec<Option<Run>> = (0..count).map(|_| None).collect();
        let mut is_ready = vec![false; count];
        let mut gather = Gather::new(count);
        let mut asked_at = now();
        let mut is_stopping = false;
        let deadline = self.deadline();
        while runs.iter().any(Option::is_none) {
            let event = match arriving.recv_timeout(POLL) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Err("all agents are gone".into()),
            };
            let time = now();
            match event {
                None => {}
                Some((index, Event::Gone(text))) => {
                    return Err(self.of(index, &format!("it is gone: {text}")));
                }
                Some((index, Event::Said(message))) => match message {
                    Message::Pong { .. } => {}
                    Message::Ready if !is_ready[index] => is_ready[index] = true,
                    Message::Progress { slice } if is_ready[index] => {
                        if let Some(whole) = gather.push(index, *slice) {
                            on_slice(&whole);
                        }
                    }
                    Message::Done { run } if is_ready[index] => {
                        runs[index] = Some(*run);
                        let _ = self.writers[index].shutdown(Shutdown::Both); // it may have left first
                    }
                    Message::Failed { text } => return Err(self.of(index, &text)),
                    other => return Err(self.of(index, &format!("it sent {} out of turn", other.name()))),
                },
            }
            if time >= self.start
                && let Some(index) = is_ready.iter().position(|ready| !ready)
            {
                return Err(self.of(index, "it was not ready in time"));
            }
            if stop.load(Ordering::Relaxed) && !is_stopping {
                is_stopping = true;
                self.ask_running(&runs, &Message::Stop);
            }
            if time.duration_since(asked_at) >= self.ask.timing.ping_interval {
                asked_at = time;
                self.ask_running(&runs, &Message::Ping { id: 0 });
            }
            if deadline.is_some_and(|deadline| time > deadline)
                && let Some(index) = runs.iter().position(Option::is_none)
            {
                return Err(self.of(index, "it has not finished in time"));
            }
        }
        Ok(runs.into_iter().flatten().collect())
    }

    /// Tells those that are not done. One that cannot be told is gone, or has left its result: its thread
    /// knows.
    fn ask_running(&self, runs: &[Option<Run>], message: &Message) {
        for (_, writer) in self.writers.iter().enumerate().filter(|&(index, _)| runs[index].is_none()) {
            let _ = send(writer, message);
        }
    }
}
