//! The agent: waits for a controller, and does what it plans.
//!
//! # Rules
//! 1. One controller at a time; another one is told so. A stranger who has not greeted holds no place.
//! 2. Load stops when the controller says so, closes, or is silent for too long.
//! 3. What a stranger sends ends its connection, never the agent.
//!
//! Not here: the run itself ([`Engine`]).

use std::net::{SocketAddr, TcpListener, TcpStream};
#[allow(clippy::disallowed_types)] // control threads: two of them write to one socket
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::link::{Link, send, send_bytes};
use super::wire::{FIRST_LEN_MAX, MESSAGE_LEN_MAX, Message};
use super::{Dealt, Engine, POLL, Timing, Token, now, ns};
use crate::model::{SCHEMA, Settings, Slice};

/// Connections at once: the controller's, and strangers that have not greeted yet.
const CONNECTIONS_MAX: usize = 8;
/// A start further ahead is a mistake.
const START_AHEAD_MAX: Duration = Duration::from_secs(600);
/// Slices that wait to be sent. One that finds no room is not shown; the result has it.
const PROGRESS_MAX: usize = 4;

/// A process that takes its part of runs.
#[derive(Debug)]
pub struct Agent {
    listener: TcpListener,
    local: SocketAddr,
    token: Option<Token>,
    host_id: String,
    cpus: usize,
    /// Where its clock begins.
    anchor: Instant,
    timing: Timing,
}

/// The place of the one controller.
struct Place<'a> {
    busy: &'a AtomicBool,
    is_held: bool,
}

impl Place<'_> {
    fn take(busy: &AtomicBool) -> Option<Place<'_>> {
        (!busy.swap(true, Ordering::AcqRel)).then_some(Place { busy, is_held: true })
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.is_held) {
            self.busy.store(false, Ordering::Release);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What a session has come to.
struct Plan {
    settings: Box<Settings>,
    dealt: Dealt,
    start_at: Instant,
}

impl Agent {
    /// Listens at `address`. `host_id` and `cpus` are told to controllers.
    ///
    /// # Errors
    /// Others could reach the address, and there is no token; or it cannot be listened on.
    pub fn bind(
        address: SocketAddr,
        token: Option<Token>,
        host_id: String,
        cpus: usize,
    ) -> Result<Agent, String> {
        if !address.ip().to_canonical().is_loopback() && token.is_none() {
            return Err(format!(
                "{address} can be reached by others, and an agent sends load where its controller says: \
                 give --token-file FILE, or listen on 127.0.0.1"
            ));
        }
        let fail = |error: std::io::Error| format!("cannot listen on {address}: {error}");
        let listener = TcpListener::bind(address).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let local = listener.local_addr().map_err(fail)?;
        Ok(Agent { listener, local, token, host_id, cpus, anchor: now(), timing: Timing::default() })
    }

    /// With other times than the usual ones.
    pub fn with_timing(mut self, timing: Timing) -> Agent {
        self.timing = timing;
        self
    }

    /// Where it listens, with the port it was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves controllers until `stop` is set. `log` is given a line for each thing that a person may want to
    /// know.
    ///
    /// # Errors
    /// The listener failed; `stop` is then set, which ends what still runs.
    pub fn serve(
        &self,
        engine: &(dyn Engine + Sync),
        log: &(dyn Fn(&str) + Sync),
        stop: &AtomicBool,
    ) -> Result<(), String> {
        let (busy, open) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            while !stop.load(Ordering::Relaxed) {
                let (stream, peer) = match self.listener.accept() {
                    Ok(accepted) => accepted,
                    Err(error) if is_passing(&error) => {
                        std::thread::sleep(POLL);
                        continue;
                    }
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(format!("cannot accept on {}: {error}", self.local));
                    }
                };
                if open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
                    continue; // dropped, and so closed
                }
                open.fetch_add(1, Ordering::Relaxed);
                let (busy, open) = (&busy, &open);
                scope.spawn(move || {
                    match self.session(stream, engine, busy, stop) {
                        Ok(text) => log(&format!("{peer}: {text}")),
                        Err(error) => log(&format!("{peer}: {error}")),
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Ok(())
        })
    }

    /// One connection from its greeting to its end; a line about what it was.
    fn session(
        &self,
        stream: TcpStream,
        engine: &(dyn Engine + Sync),
        busy: &AtomicBool,
        stop: &AtomicBool,
    ) -> Result<String, String> {
        let mut link = Link::new(stream, self.timing.silence_max)?;
        let writer = link.writer()?;
        let greeting = link.expect(FIRST_LEN_MAX, self.timing.answer_max)?;
        if let Err(text) = self.admit(&greeting) {
            let _ = send(&writer, &Message::Failed { text: text.clone() }); // it is let go in any case
            return Err(format!("not let in: {text}"));
        }
        let Some(mut place) = Place::take(busy) else {
            let text = "it is busy with another controller: wait, or start another agent".to_owned();
            let _ = send(&writer, &Message::Failed { text: text.clone() });
            return Err(format!("not let in: {text}"));
        };
        let result = self.serve_one(&mut link, &writer, engine, &mut place, stop);
        if let Err(text) = &result {
            let _ = send(&writer, &Message::Failed { text: text.clone() }); // it may be gone
        }
        result
    }

    /// Whether who greets like this may come in.
    fn admit(&self, greeting: &Message) -> Result<(), String> {
        let Message::Hello { version, schema, token } = greeting else {
            return Err(format!("it begins with {}, not with a greeting", greeting.name()));
        };
        same_version("the controller", version, *schema, "the agent")?;
        match (&self.token, token) {
            (None, _) => Ok(()),
            (Some(mine), Some(theirs)) if mine.is(theirs) => Ok(()),
            (Some(_), Some(_)) => Err("its token is another one: give both the same --token-file".into()),
            (Some(_), None) => Err("a token is needed here: give the controller --token-file FILE".into()),
        }
    }

    fn serve_one(
        &self,
        link: &mut Link,
        writer: &TcpStream,
        engine: &(dyn Engine + Sync),
        place: &mut Place<'_>,
        stop: &AtomicBool,
    ) -> Result<String, String> {
        let (version, host_id) = (env!("CARGO_PKG_VERSION").to_owned(), self.host_id.clone());
        send(writer, &Message::Welcome { version, schema: SCHEMA, host_id, cpus: self.cpus })?;
        loop {
            match link.expect(MESSAGE_LEN_MAX, self.timing.silence_max)? {
                Message::Ping { id } => send(writer, &self.pong(id))?,
                Message::Plan { settings, dealt_index, dealt_of, start_at_ns } => {
                    let dealt = Dealt { index: dealt_index, of: dealt_of };
                    let plan = Plan { settings, dealt, start_at: self.start_at(dealt, start_at_ns)? };
                    send(writer, &Message::Ready)?;
                    return self.perform(plan, link, writer, engine, place, stop);
                }
                Message::Stop => return Ok("left without a run".into()),
                Message::Failed { text } => return Err(text),
                other => return Err(format!("it sent {} before a plan", other.name())),
            }
        }
    }

    fn pong(&self, id: u64) -> Message {
        Message::Pong { id, clock_ns: ns(now().duration_since(self.anchor)) }
    }

    fn start_at(&self, dealt: Dealt, start_at_ns: u64) -> Result<Instant, String> {
        if dealt.index >= dealt.of {
            return Err(format!("a plan for part {} of {}", dealt.index, dealt.of));
        }
        let clock_ns = ns(now().duration_since(self.anchor));
        let ahead = Duration::from_nanos(start_at_ns.saturating_sub(clock_ns));
        if ahead.is_zero() {
            return Err("the plan came after the start: the network or this host is too slow".into());
        }
        if ahead > START_AHEAD_MAX {
            return Err(format!("a start {} s ahead", ahead.as_secs()));
        }
        Ok(self.anchor + Duration::from_nanos(start_at_ns))
    }

    /// Runs, while one thread listens to the controller and another shows it how it goes.
    #[allow(clippy::disallowed_types, clippy::disallowed_methods)] // control threads, beside the measurement
    fn perform(
        &self,
        plan: Plan,
        link: &mut Link,
        writer: &TcpStream,
        engine: &(dyn Engine + Sync),
        place: &mut Place<'_>,
        stop: &AtomicBool,
    ) -> Result<String, String> {
        let [stop_run, is_sent, is_left, is_gone] = [const { AtomicBool::new(false) }; 4];
        let writing = Mutex::new(writer);
        let say = |bytes: &[u8]| {
            let mut stream = writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            send_bytes(&mut stream, bytes)
        };
        let (slices, waiting) = std::sync::mpsc::sync_channel::<Slice>(PROGRESS_MAX);
        std::thread::scope(|scope| {
            // The listening thread ends also where the engine panics.
            let leaving = Leaving(&is_left);
            let listening = scope.spawn(|| {
                let flags = Flags { stop_run: &stop_run, is_sent: &is_sent, is_left: &is_left, stop };
                let gone = self.listen(link, &say, &flags).err();
                is_gone.store(gone.is_some(), Ordering::Relaxed);
                stop_run.store(true, Ordering::Relaxed);
                gone
            });
            let showing = scope.spawn(|| {
                for mut slice in waiting {
                    slice.tally.kinds.clear();
                    // One that is too long, or does not arrive, is one that is not shown.
                    let _ =
                        Message::Progress { slice: Box::new(slice) }.encode().and_then(|bytes| say(&bytes));
                }
            });
            let mut on_slice = |slice: &Slice| {
                let _ = slices.try_send(slice.clone()); // rule of PROGRESS_MAX
            };
            let result = engine.run(&plan.settings, plan.dealt, plan.start_at, &mut on_slice, &stop_run);
            drop(slices);
            let _ = showing.join();
            // The engine is free, and whoever has the result may plan the next run at once.
            place.leave();
            // Who is gone before there is a result never gets it; who got it may leave before we look again.
            let was_gone = is_gone.load(Ordering::Relaxed);
            let sent = match result {
                _ if was_gone => Ok(()),
                Ok(run) => Message::Done { run: Box::new(run) }.encode().and_then(|bytes| say(&bytes)),
                Err(text) => Err(text),
            };
            if !was_gone && sent.is_ok() {
                is_sent.store(true, Ordering::Relaxed);
            } else {
                drop(leaving);
            }
            let gone = listening.join().unwrap_or_else(|_| Some("the listening thread failed".into()));
            match gone {
                Some(gone) if was_gone => Err(gone),
                _ => sent.map(|()| "a run is done".into()),
            }
        })
    }

    /// Answers the controller until it has the result and leaves. (A connection that is closed while
    /// something of the other side was not read is reset, and takes with it what was not yet delivered: a
    /// result.)
    ///
    /// # Errors
    /// The controller is gone, or the agent is to end: the run is for no one.
    fn listen(
        &self,
        link: &mut Link,
        say: &(dyn Fn(&[u8]) -> Result<(), String> + Sync),
        flags: &Flags<'_>,
    ) -> Result<(), String> {
        while !flags.is_left.load(Ordering::Relaxed) {
            if flags.stop.load(Ordering::Relaxed) {
                return Err("the agent was stopped".into());
            }
            if link.silence() > self.timing.silence_max {
                return Err(format!("the controller was silent for {:?}", self.timing.silence_max));
            }
            match link.read(MESSAGE_LEN_MAX, 0, POLL) {
                Ok(None) => {}
                Ok(Some(Message::Ping { id })) => say(&self.pong(id).encode()?)?,
                Ok(Some(Message::Stop)) => flags.stop_run.store(true, Ordering::Relaxed),
                Ok(Some(Message::Failed { text })) => return Err(text),
                Ok(Some(other)) => return Err(format!("it sent {} during a run", other.name())),
                Err(_) if flags.is_sent.load(Ordering::Relaxed) => return Ok(()),
                Err(error) => return Err(format!("the controller is gone: {error}")),
            }
        }
        Ok(())
    }
}

/// What the threads of a run tell each other.
struct Flags<'a> {
    /// The engine is to end.
    stop_run: &'a AtomicBool,
    /// The controller was sent the result.
    is_sent: &'a AtomicBool,
    /// There is none to send.
    is_left: &'a AtomicBool,
    /// The agent is to end.
    stop: &'a AtomicBool,
}

/// Sets its flag when it goes.
struct Leaving<'a>(&'a AtomicBool);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An accept that failed for want of a connection, or of one that is gone: the next may do.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset)
        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Whether both are of one version.
pub(super) fn same_version(who: &str, version: &str, schema: u32, other: &str) -> Result<(), String> {
    let mine = env!("CARGO_PKG_VERSION");
    if version != mine || schema != SCHEMA {
        let version = super::wire::printable(version);
        return Err(format!(
            "{who} is loadgen {version} (schema {schema}), {other} {mine} (schema {SCHEMA}): use one version"
        ));
    }
    Ok(())
}
