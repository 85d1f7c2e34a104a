//! Wheel: which keys are due, by the millisecond.
//!
//! A hierarchical timer wheel (Varghese and Lauck, SOSP 1987) of eight levels with 64 slots: a slot of a level spans
//! all of the level below. Setting and clearing cost O(1); a deadline moves down at most seven times until it is due.
//! The level of a deadline is that of the highest bit in which it differs from the present.
//!
//! Not here: whose deadlines they are.

use super::slab::{NIL, Slab};

const LEVELS: usize = 8;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;

#[derive(Debug)]
struct Record {
    at: u64,
    /// What it is for.
    entry: u32,
    prev: u32,
    next: u32,
    slot: u16,
}

/// Bytes that a deadline costs.
pub(super) const RECORD_BYTES: usize = size_of::<Record>() + 8;

/// Deadlines.
#[derive(Debug)]
pub(super) struct Wheel {
    records: Slab<Record>,
    heads: Box<[u32; LEVELS * SLOTS]>,
    occupied: [u64; LEVELS],
    /// Everything before this is over.
    now: u64,
}

#[expect(clippy::cast_possible_truncation, reason = "levels are below 8, slots below 64")]
impl Wheel {
    pub(super) fn new(now: u64) -> Wheel {
        Wheel { records: Slab::default(), heads: Box::new([NIL; LEVELS * SLOTS]), occupied: [0; LEVELS], now }
    }

    /// Deadlines set.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// The deadline of record `id`.
    #[inline]
    pub(super) fn at(&self, id: u32) -> u64 {
        self.records[id].at
    }

    fn place(&self, at: u64) -> usize {
        let at = at.max(self.now);
        let differs = (at ^ self.now) | (SLOTS as u64 - 1);
        let level = (63 - differs.leading_zeros()) / BITS;
        if level as usize >= LEVELS {
            // Further away than the wheel is long: into the slot that comes last, to be looked at again then.
            let here = (self.now >> ((LEVELS as u32 - 1) * BITS)) & (SLOTS as u64 - 1);
            return (LEVELS - 1) * SLOTS + (here as usize + SLOTS - 1) % SLOTS;
        }
        let slot = (at >> (level * BITS)) & (SLOTS as u64 - 1);
        level as usize * SLOTS + slot as usize
    }

    fn link(&mut self, id: u32) {
        let place = self.place(self.records[id].at);
        let head = std::mem::replace(&mut self.heads[place], id);
        let record = &mut self.records[id];
        record.prev = NIL;
        record.next = head;
        record.slot = u16::try_from(place).unwrap_or(0);
        if head != NIL {
            self.records[head].prev = id;
        }
        self.occupied[place / SLOTS] |= 1 << (place % SLOTS);
    }

    fn unlink(&mut self, id: u32) {
        let Record { prev, next, slot, .. } = self.records[id];
        let place = usize::from(slot);
        if prev == NIL {
            self.heads[place] = next;
            if next == NIL {
                self.occupied[place / SLOTS] &= !(1 << (place % SLOTS));
            }
        } else {
            self.records[prev].next = next;
        }
        if next != NIL {
            self.records[next].prev = prev;
        }
    }

    /// Sets a deadline for `entry`; none where there is no place for one more (2^32 of them).
    pub(super) fn set(&mut self, at: u64, entry: u32) -> Option<u32> {
        let id = self.records.insert(Record { at, entry, prev: NIL, next: NIL, slot: 0 }).ok()?;
        self.link(id);
        Some(id)
    }

    /// Moves a deadline.
    pub(super) fn reset(&mut self, id: u32, at: u64) {
        self.unlink(id);
        self.records[id].at = at;
        self.link(id);
    }

    /// Takes a deadline away.
    pub(super) fn clear(&mut self, id: u32) {
        self.unlink(id);
        self.records.remove(id);
    }

    /// The slot that comes first, with the moment when it begins.
    fn first(&self) -> Option<(usize, u64)> {
        let here_of = |level: usize| (self.now >> (level as u32 * BITS)) & (SLOTS as u64 - 1);
        // What is left of a slot that has begun may be earlier than all that has moved down from it.
        for level in 1..LEVELS {
            if self.occupied[level] >> here_of(level) & 1 == 1 {
                return Some((level * SLOTS + here_of(level) as usize, self.now));
            }
        }
        for level in 0..LEVELS {
            let bits = level as u32 * BITS;
            let here = here_of(level);
            let ahead = self.occupied[level] >> here << here;
            // Behind stands only what is further away than the wheel is long.
            let from = if ahead == 0 { self.occupied[level] } else { ahead };
            if from != 0 {
                let slot = u64::from(from.trailing_zeros());
                let turn = self.now >> bits >> BITS << BITS << bits;
                let lap = if ahead == 0 { 1 << bits << BITS } else { 0 };
                let start = turn + (slot << bits) + lap;
                return Some((level * SLOTS + slot as usize, start.max(self.now)));
            }
        }
        None
    }

    /// An entry whose deadline is before `now`, if one is found in about `budget` steps: each step moves one deadline
    /// down. The deadline stays set.
    pub(super) fn due(&mut self, now: u64, budget: &mut usize) -> Option<u32> {
        while *budget > 0 {
            let (place, start) = self.first()?;
            if start >= now {
                // Nothing begins before it.
                self.now = self.now.max(now.saturating_sub(1));
                return None;
            }
            *budget -= 1;
            self.now = start;
            let id = self.heads[place];
            if self.records[id].at < now && (place < SLOTS || self.records[id].at <= start) {
                return Some(self.records[id].entry);
            }
            self.unlink(id);
            self.link(id);
        }
        None
    }

    /// Frees a part of a wheel that is used no more; false if nothing was left.
    pub(super) fn free_some(&mut self) -> bool {
        self.records.free_some()
    }

    /// No deadline is before this moment.
    pub(super) fn next(&self) -> Option<u64> {
        self.first().map(|(_, start)| start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_base::Rng;

    fn take(wheel: &mut Wheel, now: u64) -> Vec<u64> {
        let mut found = Vec::new();
        let mut budget = usize::MAX;
        while let Some(entry) = wheel.due(now, &mut budget) {
            // Tests name a record as its entry.
            found.push(wheel.at(entry));
            wheel.clear(entry);
        }
        found
    }

    fn set(wheel: &mut Wheel, at: u64) -> u32 {
        let id = wheel.set(at, 0).unwrap();
        wheel.records[id].entry = id;
        id
    }

    #[test]
    fn a_deadline_is_due_after_its_millisecond_and_not_before_on_every_level() {
        for distance in [0, 1, 63, 64, 65, 4_095, 4_096, 262_143, 262_144, 1 << 30, 1 << 41, (1 << 47) + 5] {
            let start = 1_700_000_000_123;
            let mut wheel = Wheel::new(start);
            set(&mut wheel, start + distance);
            assert!(take(&mut wheel, start + distance).is_empty(), "{distance}");
            assert!(wheel.next().is_some_and(|next| next <= start + distance), "{distance}");
            assert_eq!(take(&mut wheel, start + distance + 1), [start + distance], "{distance}");
            assert_eq!(wheel.next(), None);
        }
    }

    #[test]
    fn a_deadline_of_the_past_is_due_at_once() {
        let mut wheel = Wheel::new(1_000);
        set(&mut wheel, 5);
        assert_eq!(take(&mut wheel, 1_001), [5]);
    }

    #[test]
    fn random_deadlines_come_when_a_sorted_list_says() {
        let mut rng = Rng::new(7);
        for _ in 0..50 {
            let mut now = 1_700_000_000_000 + rng.below(1 << 20);
            let mut wheel = Wheel::new(now);
            let mut wanted: std::collections::BTreeMap<u32, u64> = std::collections::BTreeMap::new();
            for _ in 0..400 {
                match rng.below(4) {
                    0 | 1 => {
                        let spread = rng.below(40);
                        let at = now + rng.below(1 << spread);
                        wanted.insert(set(&mut wheel, at), at);
                    }
                    2 => {
                        if let Some((&id, _)) = wanted.iter().nth(usize::try_from(rng.below(8)).unwrap()) {
                            let at = now + rng.below(1 << 20);
                            wheel.reset(id, at);
                            wanted.insert(id, at);
                        }
                    }
                    _ => {
                        let spread = rng.below(30);
                        now += rng.below(1 << spread);
                        let mut found = take(&mut wheel, now);
                        found.sort_unstable();
                        let mut due: Vec<u64> = wanted.values().copied().filter(|at| *at < now).collect();
                        due.sort_unstable();
                        wanted.retain(|_, at| *at >= now);
                        assert_eq!(found, due);
                    }
                }
                assert_eq!(wheel.len(), wanted.len());
            }
        }
    }

    #[test]
    fn a_budget_is_kept() {
        let mut wheel = Wheel::new(0);
        for _ in 0..1_000 {
            set(&mut wheel, 5_000);
        }
        let mut budget = 10;
        assert_eq!(wheel.due(6_000, &mut budget), None, "they are on a high level still");
        assert_eq!(budget, 0);
        assert_eq!(take(&mut wheel, 6_000).len(), 1_000);
    }
}
