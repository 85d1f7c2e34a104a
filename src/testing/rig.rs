//! What drives a shard under test: turns, time, and the far ends of outbound connections.
//!
//! # Rules
//! 1. At rest, nothing happens without a timer, another thread or the test.
//! 2. A timer is only set off by [`Rig::jump`] and [`Rig::advance`].
//! 3. The rig is borrowed while the shard turns: what runs there cannot reach it ([`lock`]).
//!
//! Not here: what is said to the shard (`connection`, `message`).

use std::cell::{Cell, RefCell, RefMut};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane_base::ListenerId;
use corelane_exec::{BlockingPool, Runtime, Shard};
use corelane_sim::{Faults, Peer, World};

use super::paced::Paced;
use crate::drain::Drains;

/// Turns without rest after which something is taken to go round in circles: at 256 task polls each, more
/// than any answer that ends needs.
const TURNS_MAX: u32 = 100_000;

/// Turns in which nothing happens before it counts as rest: a wake shows in the second, its send in the third.
const QUIET: u32 = 4;

/// The same where faults of probability 0.5 at most hide what is left: wrong once in 2^64.
const QUIET_FAULTY: u32 = 64;

/// Real time that blocking jobs may take together.
const BLOCKING_WAIT: Duration = Duration::from_secs(10);

/// Between two looks at what other threads did.
const LOOK: Duration = Duration::from_micros(100);

/// Fake time that an answer may take: longer than any limit can be (24 h).
const ANSWER_WAIT: Duration = Duration::from_secs(25 * 3600);

/// A shared rig.
pub(super) type Shared = Rc<RefCell<Rig>>;

/// The rig, for the length of one call of the test.
///
/// # Panics
/// Within a handler or another callback of the server.
#[track_caller]
pub(super) fn lock(rig: &Shared) -> RefMut<'_, Rig> {
    match rig.try_borrow_mut() {
        Ok(rig) => rig,
        Err(_) => panic!("a test server is driven from within itself: only the test may do that"),
    }
}

/// Where outbound connections end.
struct Upstream {
    door: corelane_sim::Server,
    answer: Box<dyn FnMut(&Peer)>,
    /// With the bytes that waited when it was last called.
    peers: Vec<(Peer, usize)>,
}

impl Upstream {
    /// Calls `answer` where something is new; says how often.
    fn look(&mut self) -> u64 {
        let mut calls = 0;
        while let Some(peer) = self.door.accept() {
            (self.answer)(&peer);
            calls += 1;
            let waiting = peer.received_len();
            self.peers.push((peer, waiting));
        }
        let answer = &mut self.answer;
        self.peers.retain_mut(|(peer, seen)| {
            if peer.received_len() != *seen || peer.is_over() {
                answer(peer);
                calls += 1;
                *seen = peer.received_len();
            }
            !peer.is_over()
        });
        calls
    }
}

/// What changes when something happens.
type Progress = ([u64; 5], Duration);

pub(super) struct Rig {
    runtime: Runtime<Paced>,
    world: World,
    listener: ListenerId,
    threads: Arc<BlockingPool>,
    /// Handles to `threads` while no job is awaited.
    handles: usize,
    wait_for_threads: Duration,
    faulty: bool,
    upstreams: Vec<Upstream>,
    upstream_calls: u64,
    drains: Option<Drains>,
    draining: bool,
}

impl Rig {
    pub(super) fn new(
        runtime: Runtime<Paced>,
        world: World,
        threads: Arc<BlockingPool>,
        wait_for_threads: Duration,
    ) -> Rig {
        let handles = Arc::strong_count(&threads);
        Rig {
            listener: world.add_listener(),
            runtime,
            world,
            threads,
            handles,
            wait_for_threads,
            faulty: false,
            upstreams: Vec::new(),
            upstream_calls: 0,
            drains: None,
            draining: false,
        }
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    pub(super) fn listener(&self) -> ListenerId {
        self.listener
    }

    pub(super) fn shard(&self) -> &Rc<Shard> {
        self.runtime.shard()
    }

    pub(super) fn within<R>(&mut self, f: impl FnOnce(&Rc<Shard>) -> R) -> R {
        self.runtime.within(f)
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faulty = faults != Faults::none();
        self.world.set_faults(faults);
    }

    pub(super) fn serve(&mut self, addr: SocketAddr, answer: impl FnMut(&Peer) + 'static) {
        let door = self.world.serve(addr);
        self.upstreams.push(Upstream { door, answer: Box::new(answer), peers: Vec::new() });
    }

    // ----- turns

    fn progress(&self) -> Progress {
        let stats = &self.shard().stats;
        let counts = [
            stats.completions.get(),
            stats.tasks_polled.get(),
            stats.timers_fired.get(),
            stats.mailbox_taken.get(),
            self.upstream_calls,
        ];
        (counts, self.world.now())
    }

    /// One turn. Says whether anything happened.
    fn turn(&mut self) -> bool {
        let before = self.progress();
        self.runtime.turn(true).expect("a simulated kernel is always entered");
        for at in 0..self.upstreams.len() {
            self.upstream_calls += self.upstreams[at].look();
        }
        if self.draining
            && let Some(drains) = &self.drains
        {
            for listener in self.runtime.within(|shard| drains.closed_listeners(shard)) {
                self.world.close_listener(listener);
            }
        }
        self.progress() != before
    }

    /// At most [`Rig::quiet`] turns that do nothing. Says whether one did something.
    fn stir(&mut self) -> bool {
        let turns = if self.faulty { QUIET_FAULTY } else { QUIET };
        (0..turns).any(|_| self.turn())
    }

    /// Turns until nothing happens without a timer or another thread.
    pub(super) fn rest(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.stir() {
                return;
            }
        }
        let log = self.world.log();
        let tail = log.lines().count().saturating_sub(20);
        let tail: Vec<&str> = log.lines().skip(tail).collect();
        panic!("the shard does not come to rest; the last events:\n{}", tail.join("\n"));
    }

    /// Jobs that the shard waits for: each holds a handle to the pool until it is done.
    fn jobs(&self) -> usize {
        Arc::strong_count(&self.threads).saturating_sub(self.handles)
    }

    /// Waits in real time for blocking jobs, and `patience` for others. Says whether something came of it.
    fn wait_for_others(&mut self, patience: Duration) -> bool {
        let mut waited = Duration::ZERO;
        while self.jobs() > 0 || waited < patience {
            assert!(
                waited < patience.max(BLOCKING_WAIT),
                "a job of blocking() did not end within {BLOCKING_WAIT:?}"
            );
            std::thread::sleep(LOOK);
            waited += LOOK;
            if self.turn() {
                return true;
            }
        }
        false
    }

    pub(super) fn settle(&mut self) {
        self.rest();
        while self.wait_for_others(Duration::ZERO) {
            self.rest();
        }
    }

    // ----- time

    /// Moves the clock to whatever comes next. Says whether something did.
    fn jump(&mut self) -> bool {
        self.runtime.kernel().jump(&self.world, true);
        let moved = self.stir();
        self.runtime.kernel().jump(&self.world, false);
        moved
    }

    /// Turns, waits and jumps until `done`. False where that cannot be reached.
    pub(super) fn until(&mut self, mut done: impl FnMut(&mut Rig) -> bool) -> bool {
        let end = self.world.now() + ANSWER_WAIT;
        loop {
            self.rest();
            if done(self) {
                return true;
            }
            if self.wait_for_others(self.wait_for_threads) {
                continue;
            }
            if self.world.now() >= end || !self.jump() {
                return false;
            }
        }
    }

    pub(super) fn advance(&mut self, time: Duration) {
        let end = self.world.now() + time;
        self.settle();
        while self.world.now() < end {
            let now = self.world.now();
            let next = self.runtime.next_deadline().map_or(end, Duration::from_nanos);
            // A timer that is due now has fired; what is left is at least a tick away.
            let next = next.max(now + Duration::from_millis(1)).min(end);
            self.world.advance(next - now);
            self.settle();
        }
    }

    pub(super) fn run<F>(&mut self, future: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let output = Rc::new(Cell::new(None));
        let into = Rc::clone(&output);
        let task = self.within(|shard| shard.spawn(async move { into.set(Some(future.await)) }));
        let task = task.expect("fewer than tasks_max tasks are alive");
        let ended = self.until(|_| task.is_finished());
        match output.take() {
            Some(output) => output,
            None if ended => panic!("the future panicked"),
            None => panic!("the future waits for something that nothing here brings"),
        }
    }

    // ----- the end

    pub(super) fn set_drains(&mut self, drains: Drains) {
        self.drains = Some(drains);
    }

    pub(super) fn begin_drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        let Some(drains) = &self.drains else { return };
        self.runtime.within(|shard| drains.begin(shard));
        self.rest();
    }

    pub(super) fn is_drained(&mut self) -> bool {
        let Some(drains) = &self.drains else { return true };
        self.runtime.within(|shard| drains.is_over(shard))
    }
}
