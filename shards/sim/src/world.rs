//! The outside of a simulation, in the hands of the test: listeners, peers, addresses to connect to, time,
//! files, faults, and what happened.
//!
//! # Rules
//! 1. Nothing here is seen by the code under test before its next `enter`.
//! 2. A handle may be used from within [`World::after`] and [`World::serve_with`]: no state is borrowed then.
//!
//! Not here: what a peer does with its end ([`Peer`]).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use corelane_base::ListenerId;

use crate::config::{Fault, Faults};
use crate::disk::Disk;
use crate::link::{End, PeerEnd};
use crate::peer::Peer;
use crate::state::{Event, Listener, Served, Shared, nanos, run_due};

/// A handle to the outside; clones are the same world.
#[derive(Clone)]
pub struct World {
    shared: Shared,
}

impl World {
    pub(crate) fn of(shared: &Shared) -> World {
        World { shared: Rc::clone(shared) }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    // ----- inbound

    /// Adds a listener at 192.0.2.1, on port 1000 and up. At most 65,536.
    pub fn add_listener(&self) -> ListenerId {
        let port = 1_000 + u16::try_from(self.shared.borrow().listeners.len() % 60_000).unwrap_or(0);
        self.add_listener_at(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port))
    }

    /// Adds a listener at an address. The code under test may connect to it, too.
    pub fn add_listener_at(&self, addr: SocketAddr) -> ListenerId {
        let mut state = self.shared.borrow_mut();
        let id = u16::try_from(state.listeners.len()).expect("at most 65,536 listeners");
        let (ops, waiting) = (VecDeque::new(), VecDeque::new());
        state.listeners.push(Listener { addr, open: true, queued_only: false, ops, waiting, due: 0 });
        ListenerId(id)
    }

    /// Where a listener is.
    pub fn listener_addr(&self, listener: ListenerId) -> SocketAddr {
        self.shared.borrow().listeners[listener.0 as usize].addr
    }

    /// Closes a listener: what waits in its queue is reset, what comes is refused. Panics while an accept is
    /// under way on it: cancel, await its end, then close.
    pub fn close_listener(&self, listener: ListenerId) {
        let mut state = self.shared.borrow_mut();
        let at = &mut state.listeners[listener.0 as usize];
        let (pending, waiting) = (!at.ops.is_empty(), std::mem::take(&mut at.waiting));
        at.open = false;
        if pending {
            state.violation(&format!("close of {listener:?} while an accept is under way"));
        }
        for link in waiting {
            state.lose_queued(link, true);
        }
    }

    /// Connects to a listener from a new address of its own. Refused, once the request has travelled, where
    /// the listener is closed by then or its queue is full.
    pub fn connect(&self, listener: ListenerId) -> Peer {
        let from = self.shared.borrow_mut().next_peer_addr();
        self.connect_from(listener, from)
    }

    /// Connects to a listener from this address.
    pub fn connect_from(&self, listener: ListenerId, from: SocketAddr) -> Peer {
        let mut state = self.shared.borrow_mut();
        let addr = [from, state.listeners[listener.0 as usize].addr];
        let link = state.add_link([End::Peer(PeerEnd::default()), End::Queued], addr);
        let at = state.now.saturating_add(nanos(state.config.latency));
        state.at(at, Event::Syn { link, listener: listener.0 });
        state.note("connect to", link, i64::from(listener.0));
        drop(state);
        Peer::of(&self.shared, link, 0)
    }

    // ----- outbound

    /// Accepts what the code under test connects to `addr`, until the handle is dropped. At most
    /// [`SimConfig::backlog`](crate::SimConfig::backlog) connections wait; past it, and at any address not
    /// served: refused.
    pub fn serve(&self, addr: SocketAddr) -> Server {
        self.shared.borrow_mut().served.insert(addr, Served { waiting: VecDeque::new(), on_connect: None });
        Server { world: self.clone(), addr }
    }

    /// Calls `on_connect` with every connection to `addr`, for as long as the world lasts. Keep the peer:
    /// dropping it closes the connection.
    pub fn serve_with(&self, addr: SocketAddr, on_connect: impl FnMut(Peer) + 'static) {
        let on_connect = Some(Rc::new(RefCell::new(on_connect)) as _);
        self.shared.borrow_mut().served.insert(addr, Served { waiting: VecDeque::new(), on_connect });
    }

    /// Lets connects to `addr` go unanswered: they fail with `ETIMEDOUT`, in the end.
    pub fn black_hole(&self, addr: SocketAddr) {
        self.shared.borrow_mut().black_holes.push(addr);
    }

    // ----- time

    /// Time since the start.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.shared.borrow().now)
    }

    /// Lets time pass. Segments arrive and actions run on the way, each at its time; completions wait for
    /// the next `enter`.
    pub fn advance(&self, time: Duration) {
        let end = self.shared.borrow().now.saturating_add(nanos(time));
        loop {
            run_due(&self.shared);
            let mut state = self.shared.borrow_mut();
            let next = state.next_event_at().filter(|&at| at <= end);
            state.now = next.unwrap_or(end).max(state.now);
            if next.is_none() {
                return;
            }
        }
    }

    /// Moves the wall clock; the monotonic clock does not notice.
    pub fn jump_wall_clock(&self, seconds: i64) {
        self.shared.borrow_mut().unix_shift += seconds;
    }

    /// Runs `action` when `time` has passed: within an `enter` or [`World::advance`].
    pub fn after(&self, time: Duration, action: impl FnOnce(&World) + 'static) {
        let mut state = self.shared.borrow_mut();
        let at = state.now.saturating_add(nanos(time));
        state.at(at, Event::Action(Box::new(action)));
    }

    /// See [`SimConfig::free_running`](crate::SimConfig::free_running).
    pub fn set_free_running(&self, free_running: bool) {
        self.shared.borrow_mut().config.free_running = free_running;
    }

    // ----- how links and luck are

    /// Changes the faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.borrow_mut().config.faults = faults;
    }

    /// How often a fault has happened so far.
    pub fn injected(&self, fault: Fault) -> u64 {
        self.shared.borrow().injected[fault as usize]
    }

    /// Changes the latency of every link for what is sent from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.borrow_mut().config.latency = latency;
    }

    /// Changes the bytes a second of every link for what is sent from now on.
    pub fn set_bandwidth(&self, per_second: Option<NonZeroU64>) {
        self.shared.borrow_mut().config.bandwidth = per_second;
    }

    // ----- files

    /// Places a file on the disk as if it had always been there.
    pub fn put_file(&self, path: &str, bytes: &[u8]) {
        self.shared.borrow_mut().files.put(path.as_bytes(), bytes);
    }

    /// What a reader of this file sees now.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.shared.borrow();
        state.files.find(path.as_bytes()).map(|node| state.files.data(node).to_vec())
    }

    /// Removes a file; what has it open keeps it. Says whether it was there.
    pub fn remove_file(&self, path: &str) -> bool {
        self.shared.borrow_mut().files.remove(path.as_bytes())
    }

    /// Changes the size of the disk. Below what it holds, nothing more fits.
    pub fn set_disk_bytes_max(&self, bytes_max: u64) {
        self.shared.borrow_mut().files.set_bytes_max(bytes_max);
    }

    /// All files as they are now.
    pub fn disk(&self) -> Disk {
        self.shared.borrow().files.visible()
    }

    /// The files a power cut at this moment would leave, different each time: what was synced, and of what
    /// was not, some, torn or none. Start another simulation with it to see the code under test recover.
    pub fn disk_after_crash(&self) -> Disk {
        let state = &mut *self.shared.borrow_mut();
        state.files.after_crash(&mut state.rng)
    }

    // ----- what happened

    /// A hash of all that happened: the same for the same seed and the same calls.
    pub fn trace(&self) -> u64 {
        self.shared.borrow().log.trace()
    }

    /// The last events, one a line: time, what, and two numbers (which, and how much).
    pub fn log(&self) -> String {
        self.shared.borrow().log.text(usize::MAX)
    }

    /// Nothing will happen by itself: no event is to come and no completion waits to be taken.
    pub fn is_idle(&self) -> bool {
        let state = self.shared.borrow();
        state.events.is_empty()
            && !state.has_due()
            && state.submissions.is_empty()
            && state.queue.is_empty()
            && state.overflow.is_empty()
    }

    /// Sockets and files the code under test holds.
    pub fn descriptors_open(&self) -> usize {
        self.shared.borrow().slots.iter().flatten().count()
    }

    /// Receive buffers lent out or on their way.
    pub fn buffers_lent(&self) -> usize {
        let state = self.shared.borrow();
        state.config.recv_buffers as usize - state.free_buffers.len()
    }

    /// Operations with a token whose end was not taken.
    pub fn operations_owed(&self) -> usize {
        self.shared.borrow().owed as usize
    }

    /// Panics where the code under test left something behind: an operation under way, an open socket or
    /// file, a buffer not recycled.
    pub fn check_quiet(&self) {
        let (owed, open, lent) = (self.operations_owed(), self.descriptors_open(), self.buffers_lent());
        let pushed = self.shared.borrow().submissions.len();
        if owed + open + lent + pushed > 0 {
            let state = self.shared.borrow();
            let slots = state.slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
            let first: Vec<usize> = slots.map(|(index, _)| index).take(8).collect();
            state.violation(&format!(
                "not quiet: {owed} operations under way, {pushed} not handed over, {open} descriptors open \
                 (the first: {first:?}), {lent} buffers lent"
            ));
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// An address the code under test can connect to. Dropping it cuts what waits and refuses what comes.
#[derive(Debug)]
pub struct Server {
    world: World,
    addr: SocketAddr,
}

impl Server {
    /// The oldest connection that waits.
    pub fn accept(&self) -> Option<Peer> {
        let mut state = self.world.shared.borrow_mut();
        let link = state.served.get_mut(&self.addr)?.waiting.pop_front()?;
        drop(state);
        Some(Peer::of(&self.world.shared, link, 1))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Ok(mut state) = self.world.shared.try_borrow_mut() else { return };
        let waiting = state.served.remove(&self.addr).map(|served| served.waiting);
        drop(state);
        for link in waiting.into_iter().flatten() {
            Peer::of(&self.world.shared, link, 1).reset();
        }
    }
}
