//! Policy: who goes when memory is short.
//!
//! Entries stand in queues that are linked through them, so that every step is O(1). Each queue has a sentinel, an
//! entry of its own at a place below [`SENTINELS`]; an entry leaves its queue without knowing which one it is.
//!
//! - `s3-fifo` (Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023): new keys
//!   go into a small queue of a tenth of the bytes; who leaves it used at least twice goes on to the main queue, the
//!   others leave a trace in a ghost queue. A key with a trace begins in the main queue. There, who was used goes
//!   round again, with one use less, of three at most.
//! - `lru`: one queue, by last use.
//! - `lfu`: 16 queues by the logarithm of uses, counted by chance (Morris, CACM 1978: from level n to n+1 with a
//!   probability of 2^-n); each is in order of last use. All move one level down whenever as many uses were counted as
//!   there are keys, times eight (aging as in Shah, Mitra, Matani, "An O(1) algorithm for implementing the LFU cache
//!   eviction scheme", with queues that merge instead of counters that are halved).
//! - `fifo`: one queue, by age. `random`: any.
//!
//! Not here: how much memory is used (`mod.rs`).

use std::collections::{HashMap, VecDeque};

use super::Eviction;
use super::entry::{Entry, Place};
use super::slab::{NIL, Slab};

/// Places of sentinels: no key is below.
pub(super) const SENTINELS: u32 = 18;
/// The queue of everything but LFU, and the main queue of S3-FIFO.
const MAIN: u8 = 0;
/// The small queue of S3-FIFO.
const SMALL: u8 = 1;
/// The first queue of LFU.
const LEVEL_0: u8 = 2;
const LEVELS: u8 = 16;

/// Uses that S3-FIFO counts of an entry, and those that take it from the small queue to the main one.
const USES_MAX: u16 = 3;
const USES_TO_STAY: u16 = 2;

/// One tenth of the bytes is for the small queue.
const SMALL_PART: usize = 10;

/// Uses for each key until all levels of LFU move down.
const AGE_USES: u64 = 8;

/// Traces of keys that have gone: as many as there are keys in the main queue, at least these.
const TRACES_MIN: usize = 64;

/// Bytes of a trace, in the queue and in the table.
const TRACE_BYTES: usize = 32;

/// The keys of a policy, in order.
#[derive(Debug)]
pub(super) struct Policy {
    eviction: Eviction,
    small_bytes: usize,
    main_len: usize,
    /// Hashes of keys that left the small queue, each with the number of its trace.
    ghosts: HashMap<u32, u64>,
    trail: VecDeque<(u32, u64)>,
    traces: u64,
    /// LFU: how often all levels moved down.
    base: u16,
    uses: u64,
    random: corelane_base::Rng,
}

type Entries = Slab<Entry>;

fn unlink(entries: &mut Entries, at: u32) {
    let (prev, next) = (entries[at].prev, entries[at].next);
    entries[prev].next = next;
    entries[next].prev = prev;
}

fn push(entries: &mut Entries, queue: u8, at: u32) {
    let sentinel = u32::from(queue);
    let last = entries[sentinel].prev;
    entries[last].next = at;
    entries[sentinel].prev = at;
    let entry = &mut entries[at];
    (entry.prev, entry.next, entry.queue) = (last, sentinel, queue);
}

fn head(entries: &Entries, queue: u8) -> Option<u32> {
    let first = entries[u32::from(queue)].next;
    (first != u32::from(queue)).then_some(first)
}

/// Puts the sentinels in, each a queue without entries.
fn make_sentinels(entries: &mut Entries) {
    for n in 0..SENTINELS {
        let mut sentinel = Entry::new(b"", Place::Inline, b"");
        (sentinel.prev, sentinel.next) = (n, n);
        let at = entries.insert(sentinel);
        assert!(matches!(at, Ok(at) if at == n), "sentinels come first");
    }
}

impl Policy {
    /// For a slab without entries; puts its sentinels there.
    pub(super) fn new(eviction: Eviction, entries: &mut Entries, seed: u64) -> Policy {
        make_sentinels(entries);
        Policy {
            eviction,
            small_bytes: 0,
            main_len: 0,
            ghosts: HashMap::new(),
            trail: VecDeque::new(),
            traces: 0,
            base: 0,
            uses: 0,
            random: corelane_base::Rng::new(seed),
        }
    }

    /// Bytes of what the policy itself keeps.
    pub(super) fn bytes(&self) -> usize {
        self.trail.len() * TRACE_BYTES
    }

    /// A key that has just been put in.
    #[inline]
    pub(super) fn insert(&mut self, entries: &mut Entries, at: u32, hash: u64) {
        let queue = match self.eviction {
            Eviction::S3Fifo => {
                if self.was_here(hash) {
                    MAIN
                } else {
                    SMALL
                }
            }
            Eviction::Lfu => self.level(0),
            _ => MAIN,
        };
        match queue {
            SMALL => self.small_bytes += entries[at].bytes(),
            MAIN => self.main_len += 1,
            _ => {}
        }
        entries[at].uses = if self.eviction == Eviction::Lfu { self.base } else { 0 };
        push(entries, queue, at);
    }

    fn was_here(&mut self, hash: u64) -> bool {
        self.ghosts.remove(&trace_of(hash)).is_some()
    }

    fn level(&self, level: u8) -> u8 {
        // The remainder is below 16.
        #[expect(clippy::cast_possible_truncation, reason = "below 16")]
        let base = (self.base % u16::from(LEVELS)) as u8;
        LEVEL_0 + (base + level) % LEVELS
    }

    /// The level of an entry: `uses` has it as counted from the first base. A key that is not used for 2^15 agings is
    /// taken for a new one of the highest level; by then it is long gone.
    fn level_of(&self, entry: &Entry) -> u8 {
        let level = entry.uses.wrapping_sub(self.base).cast_signed();
        u8::try_from(level.clamp(0, i16::from(LEVELS) - 1)).unwrap_or(0)
    }

    /// A key that is about to be taken out.
    #[inline]
    pub(super) fn remove(&mut self, entries: &mut Entries, at: u32) {
        self.left(entries, at);
        unlink(entries, at);
    }

    fn left(&mut self, entries: &Entries, at: u32) {
        match entries[at].queue {
            SMALL => self.small_bytes = self.small_bytes.saturating_sub(entries[at].bytes()),
            MAIN => self.main_len = self.main_len.saturating_sub(1),
            _ => {}
        }
    }

    /// The block of a key was exchanged.
    #[inline]
    pub(super) fn resized(&mut self, entries: &Entries, at: u32, before: usize) {
        if entries[at].queue == SMALL {
            self.small_bytes = (self.small_bytes + entries[at].bytes()).saturating_sub(before);
        }
    }

    /// A key was used.
    #[inline]
    pub(super) fn touch(&mut self, entries: &mut Entries, at: u32) {
        match self.eviction {
            Eviction::S3Fifo => {
                let entry = &mut entries[at];
                if entry.uses < USES_MAX {
                    entry.uses += 1;
                }
            }
            Eviction::Lru => {
                unlink(entries, at);
                push(entries, MAIN, at);
            }
            Eviction::Lfu => self.touch_lfu(entries, at),
            Eviction::Fifo | Eviction::Random | Eviction::NoEviction => {}
        }
    }

    fn touch_lfu(&mut self, entries: &mut Entries, at: u32) {
        let level = self.level_of(&entries[at]);
        let level = level + u8::from(level < LEVELS - 1 && self.random.below(1 << level) == 0);
        let to = self.level(level);
        unlink(entries, at);
        push(entries, to, at);
        entries[at].uses = self.base.wrapping_add(u16::from(level));
        self.uses += 1;
        if self.uses >= AGE_USES * entries.len() as u64 {
            self.uses = 0;
            self.age(entries);
        }
    }

    /// The lowest queue goes before the one above it, and takes its place; the free one is the highest level.
    fn age(&mut self, entries: &mut Entries) {
        let (low, next) = (u32::from(self.level(0)), u32::from(self.level(1)));
        let (first, last) = (entries[low].next, entries[low].prev);
        if first != low {
            // Those of the next level are behind them: they go later.
            let (next_first, next_last) = (entries[next].next, entries[next].prev);
            if next_first != next {
                entries[last].next = next_first;
                entries[next_first].prev = last;
                entries[next_last].next = low;
                entries[low].prev = next_last;
            }
            // All of them under the sentinel of the next level.
            let (first, last) = (entries[low].next, entries[low].prev);
            entries[next].next = first;
            entries[first].prev = next;
            entries[next].prev = last;
            entries[last].next = next;
            (entries[low].next, entries[low].prev) = (low, low);
        }
        self.base = self.base.wrapping_add(1);
    }

    /// Who goes next; none if nobody may, or there is nobody. The caller takes it out, and says so by
    /// [`Policy::evicted`].
    pub(super) fn victim(&mut self, entries: &mut Entries, bytes: usize) -> Option<u32> {
        match self.eviction {
            Eviction::NoEviction => None,
            Eviction::Lru | Eviction::Fifo => head(entries, MAIN),
            Eviction::Random => self.any(entries),
            Eviction::Lfu => (0..LEVELS).find_map(|level| head(entries, self.level(level))),
            Eviction::S3Fifo => self.victim_s3(entries, bytes),
        }
    }

    fn victim_s3(&mut self, entries: &mut Entries, bytes: usize) -> Option<u32> {
        loop {
            let small =
                head(entries, SMALL).filter(|_| self.small_bytes * SMALL_PART >= bytes || self.main_len == 0);
            if let Some(at) = small {
                if entries[at].uses < USES_TO_STAY {
                    return Some(at);
                }
                self.remove(entries, at);
                entries[at].uses = 0;
                self.main_len += 1;
                push(entries, MAIN, at);
            } else if let Some(at) = head(entries, MAIN) {
                if entries[at].uses == 0 {
                    return Some(at);
                }
                entries[at].uses -= 1;
                unlink(entries, at);
                push(entries, MAIN, at);
            } else {
                return None;
            }
        }
    }

    /// Any key, each as likely as the others where no places are free.
    pub(super) fn any(&mut self, entries: &Entries) -> Option<u32> {
        any_from(entries, self.random.next_u64())
    }

    /// `at` is about to be taken out for memory.
    pub(super) fn evicted(&mut self, entries: &Entries, at: u32, hash: u64) {
        if entries[at].queue != SMALL || self.eviction != Eviction::S3Fifo {
            return;
        }
        self.traces += 1;
        self.ghosts.insert(trace_of(hash), self.traces);
        self.trail.push_back((trace_of(hash), self.traces));
        while self.trail.len() > self.main_len.max(TRACES_MIN) {
            let Some((trace, number)) = self.trail.pop_front() else { break };
            // One that was seen again since is a newer trace.
            if self.ghosts.get(&trace) == Some(&number) {
                self.ghosts.remove(&trace);
            }
        }
    }

    /// How often a key was used, on the scale of OBJECT FREQ: 0 to 255, logarithmic.
    pub(super) fn frequency(&self, entry: &Entry) -> u8 {
        if self.eviction == Eviction::Lfu {
            return self.level_of(entry) * LEVELS;
        }
        u8::try_from(entry.uses).unwrap_or(u8::MAX)
    }

    /// Another policy for the keys that are there: in the order of their places, as if they had all just come.
    pub(super) fn change(&mut self, eviction: Eviction, entries: &mut Entries) {
        if eviction == self.eviction {
            return;
        }
        let seed = self.random.next_u64();
        for n in 0..SENTINELS {
            (entries[n].prev, entries[n].next) = (n, n);
        }
        *self = Policy {
            eviction,
            small_bytes: 0,
            main_len: 0,
            ghosts: HashMap::new(),
            trail: VecDeque::new(),
            traces: 0,
            base: 0,
            uses: 0,
            random: corelane_base::Rng::new(seed),
        };
        let queue = if eviction == Eviction::Lfu { LEVEL_0 } else { MAIN };
        for at in SENTINELS..entries.end() {
            if entries.get(at).is_some() {
                push(entries, queue, at);
                entries[at].uses = 0;
                self.main_len += usize::from(queue == MAIN);
            }
        }
    }
}

/// Eight bytes would do for all; four find another key in one of 2^32 / traces cases, which costs that key nothing.
#[expect(clippy::cast_possible_truncation, reason = "a trace is a part of the hash")]
fn trace_of(hash: u64) -> u32 {
    (hash >> 8) as u32
}

/// Tries to hit a key by a random place before going through the places in order.
const TRIES: usize = 64;

/// A key by a random number: each is as likely as the others as long as one place in ten or so has a key.
pub(super) fn any_from(entries: &Entries, pick: u64) -> Option<u32> {
    let end = entries.end();
    if end <= SENTINELS || entries.len() <= SENTINELS as usize {
        return None;
    }
    let mut random = corelane_base::Rng::new(pick);
    let places = u64::from(end - SENTINELS);
    let mut at = SENTINELS;
    for _ in 0..TRIES {
        at = SENTINELS + u32::try_from(random.below(places)).unwrap_or(0);
        if entries.get(at).is_some() {
            return Some(at);
        }
    }
    (at..end).chain(SENTINELS..at).find(|&at| entries.get(at).is_some())
}

const _: () = assert!(SENTINELS == LEVEL_0 as u32 + LEVELS as u32 && NIL > SENTINELS);
