//! Timers: a hierarchical timing wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987),
//! six levels of 64 slots, 1 ms a tick: 2.2 years of range, O(1) to set, cancel and fire.
//!
//! # Rules
//! 1. A timer is never early and at most one tick late, the turn's own length aside.
//! 2. An entry is in exactly one slot list or on the free list; the bitmap of a level has a bit set exactly
//!    where a slot list is not empty.
//! 3. Keys carry a generation: one that fired or was cancelled is inert.
//!
//! Not here: reading the clock (`turn`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use corelane_base::Token;

use crate::shard::{Shard, current};
use crate::stats::bump;

/// Nanoseconds of one tick.
pub const TICK_NS: u64 = 1_000_000;

const LEVELS: usize = 6;
const SLOTS: usize = 64;
const NIL: u32 = u32::MAX;

/// Names one timer. Inert once it fired or was cancelled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

/// What happens when a timer is due.
#[derive(Debug)]
pub(crate) enum Target {
    Wake(Waker),
    Driver(Token),
    /// The first of the calls to other shards is over.
    Calls,
}

#[derive(Debug)]
struct Entry {
    deadline: u64,
    generation: u32,
    next: u32,
    prev: u32,
    /// `level * SLOTS + slot`; `u16::MAX` when free.
    place: u16,
    target: Option<Target>,
}

/// The wheel of one shard.
#[derive(Debug)]
pub(crate) struct Wheel {
    now: u64,
    heads: [u32; LEVELS * SLOTS],
    bits: [u64; LEVELS],
    entries: Vec<Entry>,
    free: u32,
    len: u32,
    /// Sleeps that hold a timer: what `timers_max` bounds.
    sleeps: u32,
}

impl Wheel {
    pub(crate) fn new(now_ns: u64) -> Wheel {
        Wheel {
            now: now_ns / TICK_NS,
            heads: [NIL; LEVELS * SLOTS],
            bits: [0; LEVELS],
            entries: Vec::new(),
            free: NIL,
            len: 0,
            sleeps: 0,
        }
    }

    /// Timers set.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Sets a timer for `deadline_ns`; one in the past fires at the next turn.
    pub(crate) fn insert(&mut self, deadline_ns: u64, target: Target) -> TimerKey {
        let index = if self.free == NIL {
            assert!(self.entries.len() < NIL as usize);
            self.entries.push(Entry {
                deadline: 0,
                generation: 0,
                next: NIL,
                prev: NIL,
                place: u16::MAX,
                target: None,
            });
            u32::try_from(self.entries.len() - 1).unwrap_or(NIL)
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            index
        };
        let entry = &mut self.entries[index as usize];
        entry.deadline = deadline_ns.div_ceil(TICK_NS).max(self.now + 1);
        entry.target = Some(target);
        let generation = entry.generation;
        self.link(index);
        self.len += 1;
        TimerKey { index, generation }
    }

    /// Takes a timer out. False when it fired or was cancelled before.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> bool {
        let live = self
            .entries
            .get(key.index as usize)
            .is_some_and(|e| e.generation == key.generation && e.target.is_some());
        if live {
            self.unlink(key.index);
            self.release(key.index);
        }
        live
    }

    /// Replaces the waker of a live timer.
    fn set_waker(&mut self, key: TimerKey, waker: &Waker) -> bool {
        match self.entries.get_mut(key.index as usize) {
            Some(e) if e.generation == key.generation => match &mut e.target {
                Some(Target::Wake(w)) => {
                    w.clone_from(waker);
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// When to look again, nanoseconds: exact below 64 ms, else early (a slot is then spread out lower).
    pub(crate) fn next_ns(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let mut best: Option<u64> = None;
        for level in 0..LEVELS {
            if self.bits[level] == 0 {
                continue;
            }
            let shift = 6 * level;
            let at = (self.now >> shift) & 63;
            let rotated = self.bits[level].rotate_right(u32::try_from(at).unwrap_or(0));
            // What stands in the present slot belongs to its next round: 64 ahead, behind all others.
            let ahead = match rotated & !1 {
                0 => 64,
                others => u64::from(others.trailing_zeros()),
            };
            let tick = ((self.now >> shift) + ahead) << shift;
            best = Some(best.map_or(tick, |b| b.min(tick)));
        }
        best.map(|tick| tick * TICK_NS)
    }

    /// Moves to `now_ns` and hands out what is due, oldest tick first.
    pub(crate) fn advance(&mut self, now_ns: u64, due: &mut Vec<Target>) {
        let goal = now_ns / TICK_NS;
        while self.now < goal {
            if self.len == 0 {
                self.now = goal;
                return;
            }
            // Skip straight to the next tick at which anything happens.
            match self.next_ns() {
                Some(ns) if ns / TICK_NS <= goal => self.now = ns / TICK_NS,
                _ => {
                    self.now = goal;
                    return;
                }
            }
            // Spread out the higher slots that begin at this tick, highest first.
            for level in (1..LEVELS).rev() {
                let shift = 6 * level;
                if self.now & ((1u64 << shift) - 1) == 0 {
                    let slot = usize::try_from((self.now >> shift) & 63).unwrap_or(0);
                    let mut index = self.take(level, slot);
                    while index != NIL {
                        let next = self.entries[index as usize].next;
                        self.link(index);
                        index = next;
                    }
                }
            }
            let slot = usize::try_from(self.now & 63).unwrap_or(0);
            let mut index = self.take(0, slot);
            while index != NIL {
                let next = self.entries[index as usize].next;
                if self.entries[index as usize].deadline <= self.now {
                    due.extend(self.release(index));
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
    }

    /// Empties a slot and gives its list.
    fn take(&mut self, level: usize, slot: usize) -> u32 {
        let head = self.heads[level * SLOTS + slot];
        self.heads[level * SLOTS + slot] = NIL;
        self.bits[level] &= !(1 << slot);
        head
    }

    fn link(&mut self, index: u32) {
        let deadline = self.entries[index as usize].deadline;
        // An entry due at this very tick goes to level 0, in the slot being emptied or about to be.
        let delta = deadline.saturating_sub(self.now);
        let mut level = 0;
        while level + 1 < LEVELS && delta >= 1 << (6 * (level + 1)) {
            level += 1;
        }
        // Beyond the wheel's range it waits in the farthest slot and is placed again from there.
        let reach = deadline.min(self.now + (1u64 << (6 * LEVELS)) - (1 << (6 * (LEVELS - 1))));
        let slot = usize::try_from((reach >> (6 * level)) & 63).unwrap_or(0);
        let place = level * SLOTS + slot;
        let head = self.heads[place];
        let entry = &mut self.entries[index as usize];
        entry.place = u16::try_from(place).unwrap_or(u16::MAX);
        entry.prev = NIL;
        entry.next = head;
        if head != NIL {
            self.entries[head as usize].prev = index;
        }
        self.heads[place] = index;
        self.bits[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let (next, prev, place) = {
            let e = &self.entries[index as usize];
            (e.next, e.prev, usize::from(e.place))
        };
        if prev == NIL {
            self.heads[place] = next;
            if next == NIL {
                self.bits[place / SLOTS] &= !(1 << (place % SLOTS));
            }
        } else {
            self.entries[prev as usize].next = next;
        }
        if next != NIL {
            self.entries[next as usize].prev = prev;
        }
    }

    fn release(&mut self, index: u32) -> Option<Target> {
        let free = self.free;
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = free;
        entry.place = u16::MAX;
        self.free = index;
        self.len -= 1;
        self.entries[index as usize].target.take()
    }
}

/// Waits for a time. Rounded up to the next millisecond; never early.
///
/// Holds one of the shard's `timers_max` timers from its first poll to its end. With all in use it completes
/// at once and counts `timers_refused`: an early wake is safer than a wait without end.
#[must_use = "a sleep does nothing until it is awaited"]
pub struct Sleep {
    shard: Rc<Shard>,
    deadline_ns: u64,
    key: Option<TimerKey>,
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sleep(until {} ns)", self.deadline_ns)
    }
}

/// Completes `after` from now. Panics outside a shard.
pub fn sleep(after: Duration) -> Sleep {
    let shard = current();
    let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
    let deadline_ns = shard.now().mono_ns.saturating_add(nanos);
    Sleep { shard, deadline_ns, key: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shard.now().mono_ns >= self.deadline_ns {
            self.let_go();
            return Poll::Ready(());
        }
        let shard = Rc::clone(&self.shard);
        let mut wheel = shard.timers.borrow_mut();
        if let Some(key) = self.key {
            let live = wheel.set_waker(key, cx.waker());
            assert!(live, "a timer fired before its time");
            return Poll::Pending;
        }
        if wheel.sleeps >= shard.limits.timers_max {
            bump(&shard.stats.timers_refused);
            return Poll::Ready(());
        }
        wheel.sleeps += 1;
        self.key = Some(wheel.insert(self.deadline_ns, Target::Wake(cx.waker().clone())));
        Poll::Pending
    }
}

impl Sleep {
    /// Gives the timer back.
    fn let_go(&mut self) {
        if let Some(key) = self.key.take() {
            let mut wheel = self.shard.timers.borrow_mut();
            wheel.cancel(key);
            wheel.sleeps -= 1;
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// The time given to [`timeout`] passed first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time given for it passed")
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future` for at most `after`; drops it then.
///
/// # Errors
/// [`Elapsed`] when the time passed first.
pub async fn timeout<F: Future>(after: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut sleep = sleep(after);
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(out) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(out));
        }
        Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

impl Shard {
    /// Sets a timer that calls [`Driver::timer`](crate::Driver::timer) with `token`. Not counted against
    /// `timers_max`: a driver bounds its own by its table.
    pub fn timer_for(&self, deadline_ns: u64, token: Token) -> TimerKey {
        self.timers.borrow_mut().insert(deadline_ns, Target::Driver(token))
    }

    /// Takes a timer out again. False when it already fired.
    pub fn cancel_timer(&self, key: TimerKey) -> bool {
        self.timers.borrow_mut().cancel(key)
    }

    /// Timers set: those of sleeps and of drivers.
    pub fn timers_set(&self) -> usize {
        self.timers.borrow().len() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_base::Rng;

    fn tokens(due: &mut Vec<Target>) -> Vec<u32> {
        due.drain(..)
            .map(|t| match t {
                Target::Driver(t) => t.index(),
                Target::Wake(_) | Target::Calls => u32::MAX,
            })
            .collect()
    }

    fn driver(index: u32) -> Target {
        Target::Driver(Token::new(1, 0, 0, index))
    }

    #[test]
    fn a_timer_is_not_early_and_at_most_a_tick_late() {
        let mut w = Wheel::new(500_000);
        let mut due = Vec::new();
        w.insert(10 * TICK_NS + 1, driver(7));
        w.advance(10 * TICK_NS + TICK_NS - 1, &mut due);
        assert!(due.is_empty());
        w.advance(11 * TICK_NS, &mut due);
        assert_eq!(tokens(&mut due), [7]);
        assert_eq!(w.len(), 0);
        assert_eq!(w.next_ns(), None);
    }

    #[test]
    fn a_cancelled_timer_stays_silent_and_its_key_is_inert() {
        let mut w = Wheel::new(0);
        let key = w.insert(5 * TICK_NS, driver(1));
        assert!(w.cancel(key));
        assert!(!w.cancel(key));
        let again = w.insert(6 * TICK_NS, driver(2));
        assert!(!w.cancel(key), "an old key must not reach the entry's new owner");
        let mut due = Vec::new();
        w.advance(20 * TICK_NS, &mut due);
        assert_eq!(tokens(&mut due), [2]);
        assert!(!w.cancel(again));
    }

    #[test]
    fn every_timer_fires_once_in_its_own_tick_whatever_the_steps() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let start = rng.below(1 << 40);
            let mut w = Wheel::new(start * TICK_NS);
            let mut now = start;
            let mut want: std::collections::BTreeMap<u32, (u64, TimerKey)> = Default::default();
            let mut id = 0;
            let mut due = Vec::new();
            for _ in 0..300 {
                for _ in 0..rng.below(4) {
                    let span = 1u64 << rng.below(38);
                    let at = now + rng.below(span + 1);
                    let key = w.insert(at * TICK_NS, driver(id));
                    want.insert(id, (at.max(now + 1), key));
                    id += 1;
                }
                if rng.chance(1, 5)
                    && let Some((&victim, &(_, key))) = want.iter().next()
                {
                    assert!(w.cancel(key));
                    want.remove(&victim);
                }
                if let Some(next) = w.next_ns() {
                    let first = want.values().map(|v| v.0).min().unwrap_or(0);
                    assert!(next / TICK_NS <= first, "seed {seed}: sleeping past a timer");
                    assert!(next / TICK_NS > now, "seed {seed}: a wake-up that cannot make progress");
                }
                let step = 1u64 << rng.below(34);
                let before = now;
                now += rng.below(step + 1);
                w.advance(now * TICK_NS, &mut due);
                for got in tokens(&mut due) {
                    let (at, _) = want.remove(&got).expect("fired twice or never set");
                    assert!(at <= now && at > before, "seed {seed}: {at} fired in {before}..={now}");
                }
                assert!(want.values().all(|v| v.0 > now), "seed {seed}: a timer was missed");
                assert_eq!(w.len() as usize, want.len());
            }
        }
    }
}
