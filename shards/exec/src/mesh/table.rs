//! The calls of a shard that are not over: who waits, since when, and for what.
//!
//! # Rules
//! 1. Entries are linked in the order of their making. All have the same time to live, so that is also the order
//!    of their deadlines, and the first one's is the earliest.
//! 2. An entry lives as long as its `Call`. A response that comes later carries a key of an old generation, and
//!    finds nobody.
//! 3. At most one timer is set for all of them.
//! 4. Nothing of the application's (parcels, wakers) is dropped in here: it is given back for that.
//!
//! Not here: sending (`mesh`).

use std::collections::VecDeque;
use std::task::Waker;

use corelane_base::Full;

use super::{BoxedParcel, CallError};

/// Names an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

const NONE: u32 = u32::MAX;

enum State {
    Free,
    /// No credit of `to` yet.
    Waiting {
        to: usize,
        parcel: BoxedParcel,
    },
    Sent,
    Over(Outcome),
}

/// What an entry held, to be dropped outside.
pub(super) struct Left {
    _state: State,
    _waker: Option<Waker>,
}

/// How a call ended.
pub(super) enum Outcome {
    Answer(BoxedParcel),
    Error(CallError),
}

struct Entry {
    state: State,
    waker: Option<Waker>,
    deadline_ns: u64,
    generation: u32,
    /// In the list of those with a deadline; also links free entries.
    next: u32,
    before: u32,
    listed: bool,
}

pub(super) struct Table {
    entries: Vec<Entry>,
    free: u32,
    first: u32,
    last: u32,
    queues: Vec<VecDeque<Key>>,
    waiting: Vec<usize>,
    waiting_all: usize,
    waiting_max: u32,
    timer_set: bool,
}

impl Table {
    pub(super) fn new(shards: usize, waiting_max: u32) -> Table {
        Table {
            entries: Vec::new(),
            free: NONE,
            first: NONE,
            last: NONE,
            queues: (0..shards).map(|_| VecDeque::new()).collect(),
            waiting: vec![0; shards],
            waiting_all: 0,
            waiting_max,
            timer_set: false,
        }
    }

    fn get(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    /// A new call, taken to be sent.
    pub(super) fn open(&mut self, deadline_ns: u64) -> Key {
        let index = if self.free == NONE {
            self.entries.push(Entry {
                state: State::Free,
                waker: None,
                deadline_ns: 0,
                generation: 0,
                next: NONE,
                before: NONE,
                listed: false,
            });
            u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
        } else {
            self.free
        };
        let before = self.last;
        let entry = &mut self.entries[index as usize];
        if self.free == index {
            self.free = entry.next;
        }
        entry.state = State::Sent;
        entry.deadline_ns = deadline_ns;
        (entry.before, entry.next, entry.listed) = (before, NONE, true);
        let generation = entry.generation;
        match before {
            NONE => self.first = index,
            before => self.entries[before as usize].next = index,
        }
        self.last = index;
        Key { index, generation }
    }

    /// Out of the list of deadlines.
    fn unlist(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        if !std::mem::take(&mut entry.listed) {
            return;
        }
        let (before, next) = (entry.before, entry.next);
        match before {
            NONE => self.first = next,
            before => self.entries[before as usize].next = next,
        }
        match next {
            NONE => self.last = before,
            next => self.entries[next as usize].before = before,
        }
    }

    /// Replaces the state of an entry and takes its waker; it has no deadline from then on.
    fn set(&mut self, index: u32, state: State) -> (State, Option<Waker>) {
        self.unlist(index);
        let entry = &mut self.entries[index as usize];
        let before = std::mem::replace(&mut entry.state, state);
        let waker = entry.waker.take();
        if let State::Waiting { to, .. } = before {
            self.waiting[to] -= 1;
            self.waiting_all -= 1;
        }
        (before, waker)
    }

    /// The entry is not needed any more.
    fn release(&mut self, index: u32) -> (State, Option<Waker>) {
        let held = self.set(index, State::Free);
        let free = std::mem::replace(&mut self.free, index);
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = free;
        held
    }

    /// Puts a call that found no credit into the queue for `to`. At the maximum: the call is over, and its
    /// parcel is given back to be dropped.
    pub(super) fn wait(&mut self, to: usize, key: Key, parcel: BoxedParcel) -> Option<BoxedParcel> {
        if self.waiting_all >= self.waiting_max as usize {
            let full = Full::new("mesh_waiting_max", self.waiting_max.into());
            self.set(key.index, State::Over(Outcome::Error(CallError::Full(full))));
            return Some(parcel);
        }
        self.waiting_all += 1;
        self.waiting[to] += 1;
        self.entries[key.index as usize].state = State::Waiting { to, parcel };
        self.queues[to].push_back(key);
        // Calls that ended while they waited leave their keys behind.
        if self.queues[to].len() > 2 * self.waiting[to] + 16 {
            let entries = &self.entries;
            self.queues[to].retain(|key| {
                let entry = &entries[key.index as usize];
                entry.generation == key.generation && matches!(entry.state, State::Waiting { .. })
            });
        }
        None
    }

    /// Whether no call is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// Calls that wait for a credit of `to`.
    #[inline]
    pub(super) fn waiting_for(&self, to: usize) -> usize {
        self.waiting[to]
    }

    /// The parcel that waits longest for `to`, to be sent now.
    pub(super) fn next_waiting(&mut self, to: usize) -> Option<BoxedParcel> {
        while self.waiting[to] > 0 {
            let key = self.queues[to].pop_front()?;
            let Some(entry) = self.get(key) else { continue };
            if !matches!(entry.state, State::Waiting { .. }) {
                continue;
            }
            if let State::Waiting { parcel, .. } = std::mem::replace(&mut entry.state, State::Sent) {
                self.waiting[to] -= 1;
                self.waiting_all -= 1;
                return Some(parcel);
            }
        }
        None
    }

    /// A response. Gives whom to wake, or the parcel back if nobody waits.
    pub(super) fn answer(&mut self, key: Key, parcel: BoxedParcel) -> Result<Option<Waker>, BoxedParcel> {
        match self.get(key).map(|entry| &entry.state) {
            Some(State::Sent) => Ok(self.set(key.index, State::Over(Outcome::Answer(parcel))).1),
            // It ended by its deadline a moment ago, and was not looked at since.
            _ => Err(parcel),
        }
    }

    /// How a call ended, if it did; keeps `waker` otherwise, and gives back the one it replaces.
    pub(super) fn look(&mut self, key: Key, waker: &Waker) -> Result<Outcome, Option<Waker>> {
        let Some(entry) = self.get(key) else { return Ok(Outcome::Error(CallError::Late)) };
        if let State::Over(_) = entry.state {
            let (State::Over(outcome), _) = self.release(key.index) else { unreachable!("just seen") };
            return Ok(outcome);
        }
        match &entry.waker {
            Some(kept) if kept.will_wake(waker) => Err(None),
            _ => Err(entry.waker.replace(waker.clone())),
        }
    }

    /// Nobody waits any more.
    pub(super) fn forget(&mut self, key: Key) -> Option<Left> {
        self.get(key)?;
        let (state, waker) = self.release(key.index);
        Some(Left { _state: state, _waker: waker })
    }

    /// Ends the first call whose time is over: whom to wake, and what was never sent.
    pub(super) fn expire(&mut self, now_ns: u64) -> Option<(Option<Waker>, Option<BoxedParcel>)> {
        let index = self.first;
        if index == NONE || self.entries[index as usize].deadline_ns > now_ns {
            return None;
        }
        match self.set(index, State::Over(Outcome::Error(CallError::Late))) {
            (State::Waiting { parcel, .. }, waker) => Some((waker, Some(parcel))),
            (_, waker) => Some((waker, None)),
        }
    }

    /// The timer fired.
    pub(super) fn timer_fired(&mut self) {
        self.timer_set = false;
    }

    /// When a timer must fire that is not set yet; it counts as set from now on.
    pub(super) fn needs_timer(&mut self) -> Option<u64> {
        if self.timer_set || self.first == NONE {
            return None;
        }
        self.timer_set = true;
        Some(self.entries[self.first as usize].deadline_ns)
    }
}
