//! Everything a simulation knows, and how a completion gets from where it arose to the code under test.
//!
//! # Rules
//! 1. The clock never goes back. Events are carried out in the order of their time, then of their making.
//! 2. A completion passes `ready`, then the completion queue (or the overflow list), then `pop`; only
//!    `enter` moves it on to the queue. What arises for one receive, one send or one listener keeps its order.
//! 3. Work (an operation that may be able to go on) is done in `enter` only, as with `DEFER_TASKRUN`.
//! 4. The random numbers of a fault are drawn only where its probability is not zero.
//!
//! Not here: the steps of the operations (`net`, `files`), what may be pushed (`rules`).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use corelane_base::{AcceptMode, BufferId, Completion, KernelStats, Op, Payload, RecvMode, Rng, Token};
use corelane_pools::Chain;

use crate::config::{Fault, MILLION, SimConfig};
use crate::disk::Files;
use crate::link::Link;
use crate::log::Log;
use crate::peer::Peer;
use crate::world::World;

pub(crate) type Shared = Rc<RefCell<State>>;

/// A completion on its way, with what taking it changes.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) completion: Completion<Chain>,
    /// The bytes of a lent buffer.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) ends: Owed,
    /// A descriptor the code under test knows from now on.
    pub(crate) opens: Option<u32>,
}

/// Which operation of a descriptor the code under test waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Owed {
    Nothing,
    Recv(u32),
    Send(u32),
    Other(u32),
}

/// What keeps its order (rule 2).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lane {
    Recv(u32),
    Send(u32),
    Accept(u16),
    /// Nothing: overtakes and is overtaken.
    Free,
}

#[derive(Debug)]
pub(crate) struct RecvOp {
    pub(crate) token: Token,
    pub(crate) mode: RecvMode,
}

#[derive(Debug)]
pub(crate) struct SendOp {
    pub(crate) token: Token,
    pub(crate) data: Chain,
}

#[derive(Debug)]
pub(crate) struct AcceptOp {
    pub(crate) token: Token,
    pub(crate) mode: AcceptMode,
}

/// Where a socket stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    Fresh,
    Connecting {
        token: Token,
        attempt: u64,
    },
    Connected {
        link: u64,
        side: usize,
    },
    /// A connect failed or was cancelled.
    Failed,
}

#[derive(Debug)]
pub(crate) struct SockState {
    pub(crate) phase: Phase,
    /// Where it connects from, if that was chosen.
    pub(crate) bound: Option<IpAddr>,
    pub(crate) recv: Option<RecvOp>,
    pub(crate) send: Option<SendOp>,
    pub(crate) shut_read: bool,
    pub(crate) shut_write: bool,
    pub(crate) recv_due: u64,
    pub(crate) send_due: u64,
}

#[derive(Debug)]
pub(crate) struct FileState {
    /// None is a directory.
    pub(crate) node: Option<usize>,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) append: bool,
}

#[derive(Debug)]
pub(crate) enum What {
    Sock(SockState),
    File(FileState),
}

/// One descriptor.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) what: What,
    /// The completion that named it was taken.
    pub(crate) known: bool,
    /// Its close was pushed.
    pub(crate) closing: bool,
    pub(crate) owed_recv: bool,
    pub(crate) owed_send: bool,
    pub(crate) owed_other: u32,
}

impl Slot {
    pub(crate) fn new(what: What) -> Slot {
        Slot { what, known: false, closing: false, owed_recv: false, owed_send: false, owed_other: 0 }
    }
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) addr: SocketAddr,
    pub(crate) open: bool,
    pub(crate) queued_only: bool,
    pub(crate) ops: VecDeque<AcceptOp>,
    /// Links that wait to be accepted.
    pub(crate) waiting: VecDeque<u64>,
    pub(crate) due: u64,
}

/// An operation that could be cancelled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Recv(u32),
    Send(u32),
    Connect(u32),
    Accept(u16),
    /// A file operation: it is found, and cannot be stopped.
    Disk,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Work {
    Recv(u32),
    Send(u32),
    Accept(u16),
}

/// Called with each connection to a served address.
pub(crate) type OnConnect = Rc<RefCell<dyn FnMut(Peer)>>;

/// An address of the world that the code under test may connect to.
pub(crate) struct Served {
    pub(crate) waiting: VecDeque<u64>,
    pub(crate) on_connect: Option<OnConnect>,
}

pub(crate) type Action = Box<dyn FnOnce(&World)>;

pub(crate) enum Event {
    /// The next segment of this side's flow reaches the other end.
    Arrive { link: u64, side: usize },
    /// A peer's connection reaches a listener.
    Syn { link: u64, listener: u16 },
    /// A connect is answered: with a link, or an errno.
    Connected { slot: u32, attempt: u64, addr: SocketAddr, refusal: Option<i32> },
    /// A file operation is carried out.
    File(Op<Chain>),
    /// A delayed completion.
    Post(Done),
    /// The test's own.
    Action(Action),
}

pub(crate) struct State {
    pub(crate) config: SimConfig,
    pub(crate) rng: Rng,
    pub(crate) log: Log,
    pub(crate) injected: [u64; Fault::ALL.len()],
    pub(crate) now: u64,
    pub(crate) unix_shift: i64,
    pub(crate) stats: KernelStats,
    pub(crate) events: BTreeMap<(u64, u64), Event>,
    pub(crate) sequence: u64,
    pub(crate) submissions: VecDeque<Op<Chain>>,
    work: VecDeque<Work>,
    /// What stands in `work`, each once.
    wanted: BTreeSet<Work>,
    pub(crate) ready: VecDeque<Done>,
    pub(crate) queue: VecDeque<Done>,
    pub(crate) overflow: VecDeque<Done>,
    /// Pushed and not ended, whether anyone waits or not.
    pub(crate) under_way: u32,
    /// Ends the code under test has not taken.
    pub(crate) owed: u32,
    pub(crate) places: BTreeMap<u64, Vec<Place>>,
    pub(crate) slots: Vec<Option<Slot>>,
    pub(crate) free_slots: Vec<u32>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) served: BTreeMap<SocketAddr, Served>,
    pub(crate) black_holes: Vec<SocketAddr>,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) free_buffers: VecDeque<BufferId>,
    pub(crate) files: Files,
    pub(crate) peers_made: u32,
}

/// Nanoseconds; a time past 584 years is the end of time.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A length or count as a result. Everything here is far below 2 GiB; what is not, is cut like the kernel
/// cuts it (`MAX_RW_COUNT`).
pub(crate) fn as_result(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

impl State {
    pub(crate) fn new(config: SimConfig) -> State {
        assert!(config.recv_buffers > 0, "recv_buffers must not be 0");
        assert!(config.recv_buffer_bytes > 0, "recv_buffer_bytes must not be 0");
        assert!(config.submission_entries > 0, "submission_entries must not be 0");
        assert!(config.completion_entries > 0, "completion_entries must not be 0");
        assert!(config.link_bytes > 0, "link_bytes must not be 0");
        State {
            rng: Rng::new(config.seed),
            log: Log::new(config.log_entries_max),
            injected: [0; Fault::ALL.len()],
            now: 0,
            unix_shift: 0,
            stats: KernelStats::default(),
            events: BTreeMap::new(),
            sequence: 0,
            submissions: VecDeque::new(),
            work: VecDeque::new(),
            wanted: BTreeSet::new(),
            ready: VecDeque::new(),
            queue: VecDeque::new(),
            overflow: VecDeque::new(),
            under_way: 0,
            owed: 0,
            places: BTreeMap::new(),
            slots: Vec::new(),
            free_slots: Vec::new(),
            listeners: Vec::new(),
            served: BTreeMap::new(),
            black_holes: Vec::new(),
            links: BTreeMap::new(),
            free_buffers: (0..config.recv_buffers).map(BufferId).collect(),
            files: Files::new(&config.disk, config.disk_bytes_max),
            peers_made: 0,
            config,
        }
    }

    /// Ends the run: the code under test broke a rule of the seam.
    pub(crate) fn violation(&self, what: &str) -> ! {
        let log = self.log.text(24);
        panic!(
            "corelane-sim: {what}\nseed {}, at {} ns, the last events:\n{log}",
            self.config.seed, self.now
        );
    }

    /// Whether a fault happens now.
    pub(crate) fn roll(&mut self, fault: Fault) -> bool {
        let of = self.config.faults.millionths(fault);
        let hit = of > 0 && self.rng.chance(of, MILLION);
        self.injected[fault as usize] += u64::from(hit);
        hit
    }

    /// `len`, or with this fault a number from 1 to it.
    pub(crate) fn cut(&mut self, fault: Fault, len: usize) -> usize {
        if len > 1 && self.roll(fault) { 1 + self.rng.index(len - 1) } else { len }
    }

    pub(crate) fn delay(&mut self) -> u64 {
        let max = nanos(self.config.delay_max);
        if max > 0 && self.roll(Fault::Delay) { self.rng.below(max) + 1 } else { 0 }
    }

    pub(crate) fn note(&mut self, what: &'static str, a: u64, b: i64) {
        self.log.note(self.now, what, a, b);
    }

    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        let sequence = self.next_sequence();
        self.events.insert((time.max(self.now), sequence), event);
    }

    pub(crate) fn next_event_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|(&(time, _), _)| time)
    }

    pub(crate) fn want(&mut self, work: Work) {
        if self.wanted.insert(work) {
            self.work.push_back(work);
        }
    }

    pub(crate) fn next_work(&mut self) -> Option<Work> {
        let work = self.work.pop_front()?;
        self.wanted.remove(&work);
        Some(work)
    }

    /// Something is to be done that needs no time to pass: due events, work, completions on their way.
    pub(crate) fn has_due(&self) -> bool {
        self.has_due_event() || !self.work.is_empty() || !self.ready.is_empty()
    }

    pub(crate) fn has_due_event(&self) -> bool {
        self.next_event_at().is_some_and(|time| time <= self.now)
    }

    pub(crate) fn sock(&mut self, slot: u32) -> Option<&mut SockState> {
        match self.slots.get_mut(slot as usize)?.as_mut()? {
            Slot { what: What::Sock(sock), .. } => Some(sock),
            Slot { what: What::File(_), .. } => None,
        }
    }

    /// Takes a descriptor, the one given back last first; none where the table is full.
    pub(crate) fn open_slot(&mut self, what: What) -> Option<u32> {
        if let Some(slot) = self.free_slots.pop() {
            self.slots[slot as usize] = Some(Slot::new(what));
            return Some(slot);
        }
        let slot = u32::try_from(self.slots.len()).ok().filter(|&n| n < self.config.descriptors)?;
        self.slots.push(Some(Slot::new(what)));
        Some(slot)
    }

    pub(crate) fn has_free_slot(&self) -> bool {
        !self.free_slots.is_empty() || self.slots.len() < self.config.descriptors as usize
    }

    /// Sends a completion on its way (rule 2). `opens` is a descriptor named by its result.
    pub(crate) fn post(&mut self, lane: Lane, done: Done) {
        if !done.completion.more {
            self.under_way -= 1;
        }
        if done.completion.token == Token::NONE {
            return;
        }
        let delay = self.delay();
        let now = self.now;
        let free = &mut 0;
        let lane_due = match lane {
            Lane::Recv(slot) => self.sock(slot).map(|s| &mut s.recv_due),
            Lane::Send(slot) => self.sock(slot).map(|s| &mut s.send_due),
            Lane::Accept(listener) => self.listeners.get_mut(listener as usize).map(|l| &mut l.due),
            Lane::Free => None,
        };
        let lane_due = lane_due.unwrap_or(free);
        let due = now.saturating_add(delay).max(*lane_due);
        *lane_due = due;
        if due > now {
            self.at(due, Event::Post(done));
        } else {
            self.ready.push_back(done);
        }
    }

    /// Posts the end of an operation that gives nothing back.
    pub(crate) fn end(&mut self, token: Token, result: i32, ends: Owed) {
        let completion = Completion { token, result, more: false, payload: Payload::None };
        let ends = if token == Token::NONE { Owed::Nothing } else { ends };
        self.post(Lane::Free, Done { completion, bytes: None, ends, opens: None });
    }

    pub(crate) fn add_place(&mut self, token: Token, place: Place) {
        self.places.entry(token.to_bits()).or_default().push(place);
    }

    pub(crate) fn remove_place(&mut self, token: Token, place: Place) {
        if let Some(places) = self.places.get_mut(&token.to_bits()) {
            if let Some(index) = places.iter().position(|&p| p == place) {
                places.remove(index);
            }
            if places.is_empty() {
                self.places.remove(&token.to_bits());
            }
        }
    }

    /// Moves what is ready to the completion queue as far as it has room.
    pub(crate) fn flush_ready(&mut self) {
        let room = self.config.completion_entries as usize;
        while let Some(done) = self.ready.pop_front() {
            let full = self.queue.len() >= room || !self.overflow.is_empty();
            if full || self.roll(Fault::CompletionOverflow) {
                if self.overflow.is_empty() {
                    self.note("overflow", done.completion.token.to_bits(), 0);
                }
                self.overflow.push_back(done);
            } else {
                self.queue.push_back(done);
            }
        }
    }

    /// What an `enter` brings of the overflow list.
    pub(crate) fn flush_overflow(&mut self) {
        if self.overflow.is_empty() {
            return;
        }
        self.stats.cq_overflows += 1;
        let room = (self.config.completion_entries as usize).saturating_sub(self.queue.len());
        let count = room.min(self.overflow.len());
        self.queue.extend(self.overflow.drain(..count));
    }

    /// Carries out the next event that is due; gives it back where it is the test's own.
    fn step(&mut self) -> Option<Option<Action>> {
        self.next_event_at().filter(|&time| time <= self.now)?;
        let (_, event) = self.events.pop_first()?;
        match event {
            Event::Arrive { link, side } => self.arrive(link, side),
            Event::Syn { link, listener } => self.reach_listener(link, listener),
            Event::Connected { slot, attempt, addr, refusal } => {
                return Some(self.finish_connect(slot, attempt, addr, refusal));
            }
            Event::File(op) => self.file_op(op),
            Event::Post(done) => self.ready.push_back(done),
            Event::Action(action) => return Some(Some(action)),
        }
        Some(None)
    }

    pub(crate) fn next_peer_addr(&mut self) -> SocketAddr {
        self.peers_made += 1;
        let n = self.peers_made;
        // 10.0.0.1 and up: one address a peer, so that limits by address do not meet by accident.
        let ip = Ipv4Addr::from_bits(0x0a00_0000 | (n & 0x00ff_ffff));
        SocketAddr::new(IpAddr::V4(ip), 40_000)
    }
}

/// Carries out every event due by now; the test's own with the state free to be used.
pub(crate) fn run_due(shared: &Shared) {
    loop {
        let step = shared.borrow_mut().step();
        match step {
            None => return,
            Some(None) => {}
            Some(Some(action)) => action(&World::of(shared)),
        }
    }
}
