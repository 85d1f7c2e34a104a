//! A table of fixed capacity whose keys go stale: connections, tasks, operations in flight.
//!
//! A [`SlotKey`] is an index and the generation of the entry behind it. Removing an entry moves its slot to
//! the next generation, so a key kept too long finds nothing instead of somebody else. The generation is
//! never 0; after 2^32 - 1 removals in one slot it starts again at 1, and only a key that old could match.
//!
//! Memory comes in segments of [`SEGMENT_SLOTS`], the lowest index with room first: a table for 100,000 costs
//! a few kilobytes until used, and an emptied segment is freed unless it is the only empty one.
//!
//! Not here: what is stored, and who is told when the table is full.

use crate::Full;

/// Entries of one segment: 256 connections of 200 bytes are one 50 KiB allocation.
pub const SEGMENT_SLOTS: u32 = 256;

/// End of a free list.
const NONE: u32 = u32::MAX;

/// Segments covered by one word of the room map.
const WORD_SEGMENTS: u32 = u64::BITS;

/// Names one entry of a [`Slots`] until it is removed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SlotKey {
    /// Position in the table, below its capacity.
    pub index: u32,
    /// Which of the successive entries at that position; never 0.
    pub generation: u32,
}

impl SlotKey {
    /// Both halves in one integer (generation high), for the user data of an operation. Never 0.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key that [`SlotKey::to_bits`] packed.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "each half is 32 bits")]
    pub const fn from_bits(bits: u64) -> SlotKey {
        SlotKey { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// A table of at most `capacity` entries; see the module header. All access is O(1): finding room reads one
/// 64-bit word per 16,384 slots of capacity at worst.
#[derive(Debug)]
pub struct Slots<T> {
    segments: Vec<Segment<T>>,
    /// One bit a segment: it has a free slot, allocated or not.
    room: Vec<u64>,
    /// No word of `room` below this one has a bit set.
    room_from: usize,
    len: u32,
    len_max: u32,
    capacity: u32,
    /// Which limit `capacity` is, for [`Full`].
    what: &'static str,
    /// The one segment that is allocated and empty.
    spare: Option<u32>,
}

#[derive(Debug)]
struct Segment<T> {
    /// Empty until the segment is first used, and again after it was freed.
    entries: Box<[Entry<T>]>,
    used: u32,
    free_head: u32,
    /// Generation of fresh entries, above all that were handed out here before.
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    /// Of the value here, or of the next one to come.
    generation: u32,
    /// Offset of the next free entry of the segment; meaningless while occupied.
    next_free: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    /// A table for up to `capacity` entries, the value of the limit named `what` (for [`Full`]). Allocates
    /// 32 bytes for each [`SEGMENT_SLOTS`] of them.
    pub fn new(what: &'static str, capacity: u32) -> Slots<T> {
        let count = capacity.div_ceil(SEGMENT_SLOTS);
        let fresh = || Segment { entries: Box::default(), used: 0, free_head: NONE, generation: 1 };
        let mut room = vec![u64::MAX; count.div_ceil(WORD_SEGMENTS) as usize];
        if let Some(last) = room.last_mut()
            && !count.is_multiple_of(WORD_SEGMENTS)
        {
            *last = (1 << (count % WORD_SEGMENTS)) - 1;
        }
        Slots {
            segments: (0..count).map(|_| fresh()).collect(),
            room,
            room_from: 0,
            len: 0,
            len_max: 0,
            capacity,
            what,
            spare: None,
        }
    }

    /// Stores `value` and returns its key. Allocates when the first entry of a segment comes.
    ///
    /// # Errors
    /// The value back, and [`Full`], at capacity.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<SlotKey, (T, Full)> {
        match self.reserve() {
            Ok((key, place)) => {
                *place = Some(value);
                Ok(key)
            }
            Err(full) => Err((value, full)),
        }
    }

    /// As [`Slots::insert`] for a value that holds its own key. `make` is not called when full.
    ///
    /// # Errors
    /// [`Full`] at capacity.
    pub fn insert_with(&mut self, make: impl FnOnce(SlotKey) -> T) -> Result<SlotKey, Full> {
        // The value is made before a slot is taken: a panic in `make` leaves the table as it was.
        let Some(key) = self.next_key() else { return Err(self.full()) };
        let value = make(key);
        let (reserved, place) = self.reserve()?;
        assert_eq!(reserved, key);
        *place = Some(value);
        Ok(key)
    }

    /// The entry of `key`, unless it was removed.
    #[inline]
    pub fn get(&self, key: SlotKey) -> Option<&T> {
        let entry = self.entry(key.index)?;
        if entry.generation == key.generation { entry.value.as_ref() } else { None }
    }

    /// The entry of `key`, unless it was removed.
    #[inline]
    pub fn get_mut(&mut self, key: SlotKey) -> Option<&mut T> {
        let entry = self.entry_mut(key.index)?;
        if entry.generation == key.generation { entry.value.as_mut() } else { None }
    }

    /// Whether the entry of `key` is still there.
    #[inline]
    pub fn contains(&self, key: SlotKey) -> bool {
        self.get(key).is_some()
    }

    /// Takes the entry of `key` out, unless it was removed before. Its key and all copies of it are now stale.
    #[inline]
    pub fn remove(&mut self, key: SlotKey) -> Option<T> {
        if self.contains(key) { self.remove_at(key.index) } else { None }
    }

    /// The entry at `index`, whichever it is.
    #[inline]
    pub fn get_at(&self, index: u32) -> Option<&T> {
        self.entry(index)?.value.as_ref()
    }

    /// The entry at `index`, whichever it is.
    #[inline]
    pub fn get_at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entry_mut(index)?.value.as_mut()
    }

    /// The key of the entry at `index`.
    #[inline]
    pub fn key_at(&self, index: u32) -> Option<SlotKey> {
        let entry = self.entry(index)?;
        entry.value.as_ref().map(|_| SlotKey { index, generation: entry.generation })
    }

    /// Takes the entry at `index` out, whichever it is.
    pub fn remove_at(&mut self, index: u32) -> Option<T> {
        let (segment_at, offset) = split(index);
        let segment = self.segments.get_mut(segment_at)?;
        let entry = segment.entries.get_mut(offset as usize)?;
        let value = entry.value.take()?;
        entry.generation = next_generation(entry.generation);
        entry.next_free = segment.free_head;
        segment.free_head = offset;
        segment.used -= 1;
        self.len -= 1;
        let word = segment_at / WORD_SEGMENTS as usize;
        self.room[word] |= 1 << (segment_at % WORD_SEGMENTS as usize);
        self.room_from = self.room_from.min(word);
        if segment.used == 0 {
            self.release_one_empty(index / SEGMENT_SLOTS);
        }
        Some(value)
    }

    /// Entries held.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Most entries ever held at once.
    pub fn len_max(&self) -> usize {
        self.len_max as usize
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the next insert is refused.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    /// Entries the table can hold.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Entries there is memory for now.
    pub fn committed(&self) -> usize {
        self.segments.iter().map(|segment| segment.entries.len()).sum()
    }

    /// All entries, by rising index.
    pub fn iter(&self) -> impl Iterator<Item = (SlotKey, &T)> {
        (0_u32..).zip(&self.segments).filter(|(_, segment)| segment.used > 0).flat_map(|(at, segment)| {
            (at * SEGMENT_SLOTS..).zip(&segment.entries).filter_map(|(index, entry)| {
                let key = SlotKey { index, generation: entry.generation };
                entry.value.as_ref().map(|value| (key, value))
            })
        })
    }

    /// All entries, by rising index.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SlotKey, &mut T)> {
        (0_u32..).zip(&mut self.segments).filter(|(_, segment)| segment.used > 0).flat_map(|(at, segment)| {
            (at * SEGMENT_SLOTS..).zip(&mut segment.entries).filter_map(|(index, entry)| {
                let key = SlotKey { index, generation: entry.generation };
                entry.value.as_mut().map(|value| (key, value))
            })
        })
    }

    fn full(&self) -> Full {
        Full::new(self.what, u64::from(self.capacity))
    }

    #[inline]
    fn entry(&self, index: u32) -> Option<&Entry<T>> {
        let (segment, offset) = split(index);
        self.segments.get(segment)?.entries.get(offset as usize)
    }

    #[inline]
    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry<T>> {
        let (segment, offset) = split(index);
        self.segments.get_mut(segment)?.entries.get_mut(offset as usize)
    }

    /// The lowest segment with room.
    #[inline]
    fn segment_with_room(&self) -> Option<u32> {
        let rest = self.room.get(self.room_from..)?;
        let (skipped, word) = rest.iter().enumerate().find(|(_, word)| **word != 0)?;
        let word_at = u32::try_from(self.room_from + skipped).ok()?;
        Some(word_at * WORD_SEGMENTS + word.trailing_zeros())
    }

    /// The key the next insert will give.
    fn next_key(&self) -> Option<SlotKey> {
        let at = self.segment_with_room()?;
        let segment = &self.segments[at as usize];
        // A segment not allocated yet starts with its first entry.
        let (offset, generation) = match segment.entries.get(segment.free_head as usize) {
            Some(entry) => (segment.free_head, entry.generation),
            None => (0, segment.generation),
        };
        Some(SlotKey { index: at * SEGMENT_SLOTS + offset, generation })
    }

    /// Takes a free slot, counts it as used, and lends its place to be filled.
    #[inline]
    fn reserve(&mut self) -> Result<(SlotKey, &mut Option<T>), Full> {
        let Some(at) = self.segment_with_room() else { return Err(self.full()) };
        let segment = &mut self.segments[at as usize];
        if segment.entries.is_empty() {
            let first = at * SEGMENT_SLOTS;
            segment.allocate((self.capacity - first).min(SEGMENT_SLOTS));
        }
        if self.spare == Some(at) {
            self.spare = None;
        }
        let offset = segment.free_head;
        let entry = &mut segment.entries[offset as usize];
        segment.free_head = entry.next_free;
        segment.used += 1;
        self.len += 1;
        self.len_max = self.len_max.max(self.len);
        self.room_from = (at / WORD_SEGMENTS) as usize;
        if segment.free_head == NONE {
            self.room[self.room_from] &= !(1 << (at % WORD_SEGMENTS));
        }
        debug_assert!(self.len <= self.capacity);
        let key = SlotKey { index: at * SEGMENT_SLOTS + offset, generation: entry.generation };
        Ok((key, &mut entry.value))
    }

    /// Segment `at` became empty: keeps one empty segment, the lower, against allocating back and forth.
    #[cold]
    fn release_one_empty(&mut self, at: u32) {
        let Some(other) = self.spare else {
            self.spare = Some(at);
            return;
        };
        assert_ne!(other, at);
        self.spare = Some(other.min(at));
        self.segments[other.max(at) as usize].free();
    }
}

impl<T> Segment<T> {
    #[cold]
    fn allocate(&mut self, len: u32) {
        let generation = self.generation;
        let next = |offset| if offset + 1 < len { offset + 1 } else { NONE };
        let fresh = |offset| Entry { generation, next_free: next(offset), value: None };
        self.entries = (0..len).map(fresh).collect();
        self.free_head = 0;
    }

    /// Frees the entries; those that come after them here start at a generation none of these had.
    fn free(&mut self) {
        assert_eq!(self.used, 0);
        // Each entry already stands at the generation after its last use.
        self.generation = self.entries.iter().map(|entry| entry.generation).max().unwrap_or(1);
        self.entries = Box::default();
        self.free_head = NONE;
    }
}

#[inline]
fn split(index: u32) -> (usize, u32) {
    ((index / SEGMENT_SLOTS) as usize, index % SEGMENT_SLOTS)
}

/// The generation after `generation`, skipping 0.
#[inline]
fn next_generation(generation: u32) -> u32 {
    if generation == u32::MAX { 1 } else { generation + 1 }
}

#[cfg(test)]
mod tests;
