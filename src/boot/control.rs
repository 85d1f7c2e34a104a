//! The control thread: opens the shards together, watches them, drains them, ends them together.
//!
//! # Rules
//! 1. A node runs with every shard it was asked for, or not at all: no shard opens before all are ready, and
//!    when one ends, the others drain.
//! 2. No shard ends before all have drained: until then each answers the calls of the others.
//!
//! Not here: what a shard does about it (`shard`), the steps of a drain (`drain`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use corelane_base::{Limits, ShardId};
use corelane_exec::{Shard, ShardHandle};
use corelane_sys::socket::SocketFile;
use corelane_uring::{Features, Lacking};
use crossbeam_channel::{Receiver, Sender, TryRecvError};

use super::ShardInfo;
use super::shard::{ShardEvent, drain_here, end_here, open_here};
use crate::admin::Admin;
use crate::config::Listen;
use crate::preflight::StartError;
use crate::supervisor::Supervisor;
use crate::watch::{Finding, Watch};

/// A shard that is set up.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) info: ShardInfo,
    pub(super) handle: ShardHandle,
    pub(super) granted: Features,
    pub(super) lacking: Vec<Lacking>,
    pub(super) notes: Vec<String>,
}

/// What ends with the node.
pub(super) struct Attached {
    /// Paths that lead here; removed when the drain begins, so that nobody comes who would be turned away.
    pub(super) files: Vec<SocketFile>,
    /// Answers until every shard has ended.
    pub(super) admin: Option<Admin>,
}

/// The shards of a node and their threads.
pub(super) struct Control {
    threads: Vec<JoinHandle<()>>,
    pub(super) shards: Vec<Ready>,
    from_shards: Receiver<ShardEvent>,
    limits: Limits,
    /// By the shard's number.
    phases: Vec<Phase>,
    /// What a shard whose mailbox was full is still to be told.
    untold: Vec<(ShardHandle, Word)>,
    draining: bool,
    /// When to say who has not drained.
    overdue_ns: Option<u64>,
    /// Somebody asked for the end; a shard that was lost begins a drain without.
    asked: bool,
    ending: bool,
    files: Vec<SocketFile>,
    pub(super) supervisor: Option<Arc<Supervisor>>,
    /// What it is told while all goes well.
    serving: String,
}

/// What a shard is told.
type Word = fn(&Shard);

/// How far a shard is, as far as it told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Starting,
    Ready,
    Drained,
    Ended,
}

/// How much longer than `drain_time` a drain may take before it is said: hooks have their own `drain_time`.
const OVERDUE: Duration = Duration::from_secs(2);

/// How often a shard is told again that had no room to be told.
const TELL_AGAIN: Duration = Duration::from_millis(10);

impl Control {
    /// Waits until every shard is ready.
    ///
    /// # Errors
    /// The first that failed; the others have ended by then.
    pub(super) fn gather(
        threads: Vec<JoinHandle<()>>,
        from_shards: Receiver<ShardEvent>,
        limits: Limits,
        mut failed: Option<StartError>,
    ) -> Result<Control, StartError> {
        let mut control = Control {
            shards: Vec::new(),
            from_shards,
            limits,
            phases: vec![Phase::Starting; threads.len()],
            untold: Vec::new(),
            draining: false,
            overdue_ns: None,
            asked: false,
            ending: false,
            files: Vec::new(),
            supervisor: None,
            serving: String::new(),
            threads,
        };
        while control.phases.contains(&Phase::Starting) {
            match control.from_shards.recv() {
                Ok(ShardEvent::Ready(ready)) => {
                    control.reached(ready.info.id, Phase::Ready);
                    control.shards.push(*ready);
                }
                Ok(ShardEvent::Ended(id, result)) => {
                    control.reached(id, Phase::Ended);
                    control.shards.retain(|ready| ready.info.id != id);
                    failed = failed.or(Some(result.err().unwrap_or(StartError::Panicked(id))));
                }
                Ok(
                    ShardEvent::Drained(_) | ShardEvent::Signal | ShardEvent::Drain | ShardEvent::Shutdown,
                )
                | Err(_) => {}
            }
        }
        control.shards.sort_by_key(|ready| ready.info.id);
        match failed {
            None => Ok(control),
            Some(error) => Err(control.fail(error)),
        }
    }

    /// Ends what is there without having opened it.
    pub(super) fn fail(mut self, error: StartError) -> StartError {
        self.begin_drain();
        drop(self.run(&mut None));
        error
    }

    /// Lets every shard accept.
    pub(super) fn open(&mut self) {
        self.tell_all(open_here);
    }

    /// Runs until every shard has ended; then joins their threads.
    ///
    /// # Errors
    /// When a shard ended by itself.
    pub(super) fn run(mut self, watch: &mut Option<Watch>) -> Result<(), StartError> {
        let mut outcome = Ok(());
        while self.phases.iter().any(|&phase| phase != Phase::Ended) {
            match self.next_event(watch) {
                Some(ShardEvent::Signal | ShardEvent::Drain) if self.asked => {
                    tracing::warn!("asked a second time: ending at once");
                    std::process::exit(130);
                }
                Some(ShardEvent::Shutdown) if self.asked => {}
                Some(ShardEvent::Signal | ShardEvent::Drain | ShardEvent::Shutdown) => {
                    self.asked = true;
                    tracing::info!("draining");
                    self.begin_drain();
                }
                Some(ShardEvent::Drained(id)) => {
                    tracing::debug!(shard = id.0, "drained");
                    self.reached(id, Phase::Drained);
                }
                Some(ShardEvent::Ended(id, result)) => {
                    self.reached(id, Phase::Ended);
                    if let Some(watch) = watch {
                        watch.forget(id);
                    }
                    if let Err(error) = result {
                        outcome = Err(self.lost(id, error));
                    }
                }
                Some(ShardEvent::Ready(_)) => {}
                None => break,
            }
            let over = |&phase: &Phase| phase == Phase::Drained || phase == Phase::Ended;
            if !self.ending && self.phases.iter().all(over) {
                self.ending = true;
                self.tell_all(end_here);
            }
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        outcome
    }

    /// A shard ended before it was told to.
    fn lost(&mut self, id: ShardId, error: StartError) -> StartError {
        tracing::error!(shard = id.0, %error, "a shard ended");
        self.shards.retain(|ready| ready.info.id != id);
        self.begin_drain();
        error
    }

    /// Waits for what is told next; meanwhile looks at the shards, and tells again what had no room. None when
    /// nobody is left to tell.
    fn next_event(&mut self, watch: &mut Option<Watch>) -> Option<ShardEvent> {
        loop {
            match self.from_shards.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            let period = watch.as_ref().map(|watch| watch.period);
            let again = (!self.untold.is_empty()).then_some(TELL_AGAIN);
            let Some(time) = [period, again].into_iter().flatten().min() else {
                return self.from_shards.recv().ok();
            };
            // Not a receive with a time: that one spins before it sleeps, which is most of what an idle node
            // would use. What is told waits for a look at the most.
            std::thread::sleep(time);
            let now_ns = corelane_sys::clock::mono_ns();
            if self.overdue_ns.is_some_and(|at| now_ns >= at) && !self.ending {
                self.overdue_ns = None;
                self.say_overdue();
            }
            self.untold.retain(|(handle, message)| handle.send(*message).is_err());
            let Some(watch) = watch else { continue };
            for finding in watch.look(now_ns) {
                match finding {
                    Finding::Back { .. } => tracing::warn!("{finding}"),
                    Finding::Stuck { .. } | Finding::Silent { .. } => tracing::error!("{finding}"),
                }
                self.tell_supervisor(&finding, watch.all_go_on());
            }
            if let Some(supervisor) = &self.supervisor
                && watch.all_go_on()
            {
                supervisor.alive(now_ns);
            }
        }
    }

    /// A shard that stands still is what its operator reads, until none does.
    fn tell_supervisor(&self, finding: &Finding, all_go_on: bool) {
        let Some(supervisor) = &self.supervisor else { return };
        match (all_go_on, self.draining) {
            (false, _) => supervisor.status(&finding.to_string()),
            (true, false) => supervisor.status(&self.serving),
            (true, true) => supervisor.status("draining"),
        }
    }

    /// It serves, and says so.
    fn say_ready(&mut self, serving: String) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.ready(&serving);
        }
        self.serving = serving;
    }

    fn reached(&mut self, id: ShardId, phase: Phase) {
        self.phases[usize::from(id.0)] = phase;
    }

    /// A message to every shard. A mailbox that is full belongs to one that has not turned for long: it is told
    /// as soon as it has room, and nobody waits for it.
    fn tell_all(&mut self, message: Word) {
        for ready in &self.shards {
            if ready.handle.send(message).is_err() {
                self.untold.push((ready.handle.clone(), message));
            }
        }
    }

    fn begin_drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        self.files.clear();
        self.tell_all(drain_here);
        let time = self.limits.drain_time + OVERDUE;
        if let Some(supervisor) = &self.supervisor {
            // Hooks have as much again.
            supervisor.stopping(time + self.limits.drain_time);
        }
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.overdue_ns = Some(corelane_sys::clock::mono_ns().saturating_add(ns));
    }

    /// The drain should be over, and is not.
    fn say_overdue(&self) {
        for (id, phase) in self.phases.iter().enumerate() {
            if matches!(phase, Phase::Starting | Phase::Ready) {
                tracing::error!(
                    shard = id,
                    "this shard has not drained within drain_time: it stands still, or its hooks do not end; a \
                     second signal ends the process"
                );
            }
        }
    }

    pub(super) fn handles(&self) -> Vec<ShardHandle> {
        self.shards.iter().map(|ready| ready.handle.clone()).collect()
    }

    /// What the shards have to say about how they were set up.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        for note in self.shards.iter().flat_map(|ready| &ready.notes) {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        notes
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// A node that serves. Dropping it lets it serve on, until the process ends.
#[derive(Debug)]
pub struct Running {
    addrs: Vec<Listen>,
    resp_addrs: Vec<Listen>,
    admin: Option<SocketAddr>,
    notes: Vec<String>,
    shards: Vec<Ready>,
    events: Sender<ShardEvent>,
    control: JoinHandle<Result<(), StartError>>,
}

/// Asks a running node to drain, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Sender<ShardEvent>);

impl Stopper {
    /// Begins the drain; [`Running::wait`] returns when it is over. A second call ends the process at once.
    pub fn drain(&self) {
        drop(self.0.try_send(ShardEvent::Drain));
    }
}

/// What is known about a node once it is set up.
pub(super) struct Known {
    pub(super) addrs: Vec<Listen>,
    pub(super) resp_addrs: Vec<Listen>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) notes: Vec<String>,
    pub(super) events: Sender<ShardEvent>,
    /// CPUs without a shard.
    pub(super) spare: Vec<usize>,
}

impl Running {
    /// Opens the shards and hands them to a thread of their own.
    pub(super) fn begin(
        mut control: Control,
        known: Known,
        signals: bool,
        attached: Attached,
    ) -> Result<Running, StartError> {
        let Known { addrs, resp_addrs, admin, notes, events, spare } = known;
        if signals && let Err(error) = watch_signals(events.clone()) {
            return Err(control.fail(StartError::System { step: "watch for signals", error }));
        }
        let shards = control.shards.clone();
        let (handles, limits) = (control.handles(), control.limits().clone());
        // Handed over by a channel, so that a thread that cannot be started leaves it here.
        let (give, take) = crossbeam_channel::bounded::<(Control, Attached)>(1);
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            let Ok((mut control, attached)) = take.recv() else { return Ok(()) };
            let Attached { files, admin } = attached;
            control.files = files;
            // Away from the shards where there is a place; where there is none it runs between them.
            if !spare.is_empty() {
                let _ = corelane_sys::cpu::keep_current_thread_on(&spare);
            }
            let mut watch = Some(Watch::new(handles, &limits, corelane_sys::clock::mono_ns()));
            let outcome = control.run(&mut watch);
            drop(admin);
            outcome
        });
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => {
                return Err(control.fail(StartError::System { step: "start the control thread", error }));
            }
        };
        control.open();
        let places: Vec<String> = addrs.iter().chain(&resp_addrs).map(ToString::to_string).collect();
        let count = shards.len();
        let shards_text = if count == 1 { "1 shard".to_owned() } else { format!("{count} shards") };
        control.say_ready(format!("serving on {} with {shards_text}", places.join(", ")));
        drop(give.send((control, attached)));
        Ok(Running { addrs, resp_addrs, admin, notes, shards, events, control: thread })
    }

    /// Where it listens first, if that is an address of IP.
    ///
    /// # Panics
    /// If it listens on Unix sockets only: see [`Running::listens`].
    pub fn addr(&self) -> SocketAddr {
        let first = self.addrs.iter().find_map(|listen| match listen {
            Listen::Tcp(addr) => Some(*addr),
            Listen::Unix(_) => None,
        });
        match first {
            Some(addr) => addr,
            None => panic!("this node listens on Unix sockets only"),
        }
    }

    /// Everywhere it listens, with the ports the kernel chose.
    pub fn listens(&self) -> &[Listen] {
        &self.addrs
    }

    /// Where Redis clients are listened for, with the ports the kernel chose.
    pub fn resp_listens(&self) -> &[Listen] {
        &self.resp_addrs
    }

    /// Where its admin interface listens, if it does.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What is worth knowing about how it was set up.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A line for each shard: CPU, ring features, and those it lacks.
    pub fn describe(&self) -> Vec<String> {
        let line =
            |ready: &Ready| describe_shard(ready.info.id.0, ready.info.cpu, ready.granted, &ready.lacking);
        self.shards.iter().map(line).collect()
    }

    /// Handles of the shards, in their order.
    pub fn shards(&self) -> Vec<ShardHandle> {
        self.shards.iter().map(|ready| ready.handle.clone()).collect()
    }

    /// A way to begin the drain from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.events.clone())
    }

    /// Drains and waits for the end. On a node that drains already (a signal came first) it ends the process, as a
    /// second signal does: wait for it instead.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn drain(self) -> Result<(), StartError> {
        self.stopper().drain();
        self.wait()
    }

    /// Waits until the node has drained.
    ///
    /// # Errors
    /// When a shard ended by itself.
    pub fn wait(self) -> Result<(), StartError> {
        let Running { control, shards, .. } = self;
        match control.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(StartError::Panicked(shards.first().map_or(ShardId(0), |ready| ready.info.id))),
        }
    }
}

/// The line of [`Running::describe`] for one shard.
pub fn describe_shard(id: u16, cpu: Option<usize>, granted: Features, lacking: &[Lacking]) -> String {
    let place = cpu.map_or_else(|| "not pinned".to_owned(), |cpu| format!("on CPU {cpu}"));
    let mut line = format!("shard {id} {place}; ring: {granted}");
    if lacking.is_empty() {
        line.push_str("; lacks nothing");
    } else {
        let names: Vec<String> = lacking.iter().map(ToString::to_string).collect();
        line.push_str(&format!("; lacks {}", names.join(", ")));
    }
    line
}

fn watch_signals(events: Sender<ShardEvent>) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if events.send(ShardEvent::Signal).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_the_end_of_a_node_that_drains_because_a_shard_was_lost_asks_for_the_first_time() {
        let (tell, from_shards) = crossbeam_channel::bounded(8);
        let lost = StartError::Panicked(ShardId(0));
        let events = [
            ShardEvent::Ended(ShardId(0), Err(lost)),
            ShardEvent::Signal,
            ShardEvent::Drained(ShardId(1)),
            ShardEvent::Ended(ShardId(1), Ok(())),
        ];
        for event in events {
            assert!(tell.send(event).is_ok());
        }
        let control = Control {
            threads: Vec::new(),
            shards: Vec::new(),
            from_shards,
            limits: Limits::default(),
            phases: vec![Phase::Ready; 2],
            untold: Vec::new(),
            draining: false,
            overdue_ns: None,
            asked: false,
            ending: false,
            files: Vec::new(),
            supervisor: None,
            serving: String::new(),
        };
        // A second time would end this process.
        assert!(matches!(control.run(&mut None), Err(StartError::Panicked(ShardId(0)))));
    }
}
