//! One size of slots: one mapping, one last-in-first-out free list.
//!
//! The free list is a stack. Its first `cold` entries are slots without memory behind them (never used, or
//! given back); those above are warm. Taking pops the warmest slot, returning pushes it on top, and giving
//! back turns the lowest warm entry cold, so all three are O(1) and the order cold-below-warm never breaks.
//!
//! Giving back is lazy, because a 1 MiB slot costs 70 us to give back and 400 us of page faults to use again
//! (measured, virtual machine): after every [`REVIEW_RETURNS`] returns with more than `idle_max` warm slots
//! free, those beyond `idle_max` that were free all that time lose their memory, [`REVIEW_SLOTS_MAX`] at most.
//! What traffic left behind when it stopped is the business of [`Tier::trim`].
//!
//! Not here: which tier serves a request and what the bytes mean (`pool.rs`, `buf.rs`).

use std::cell::Cell;
use std::io;
use std::ptr::NonNull;

use corelane_sys::{MapOptions, Mapping, Refusal, page_len};

/// Bytes of a small slot: a response head, a short JSON body.
pub const SMALL_LEN: usize = 1 << 10;
/// Bytes of a medium slot: one full receive window step, most bodies.
pub const MEDIUM_LEN: usize = 1 << 16;
/// Bytes of a large slot: the largest body that is not a stream.
pub const LARGE_LEN: usize = 1 << 20;

/// Slot length of each tier, smallest first.
pub(crate) const TIER_LENS: [usize; 3] = [SMALL_LEN, MEDIUM_LEN, LARGE_LEN];

/// Returns above the mark between two looks at what is idle.
const REVIEW_RETURNS: u32 = 64;

/// Slots one look gives back at most: 4 * 70 us, spread over 64 returns of large slots.
const REVIEW_SLOTS_MAX: u32 = 4;

// A full table of large slots is 2^50 bytes of addresses.
const _: () = assert!(usize::BITS == 64);

/// What freed slots are filled with in poison mode.
const POISON: u8 = 0xDE;

/// How a tier is set up.
pub(crate) struct TierConfig {
    pub(crate) slot_len: usize,
    pub(crate) slots: u32,
    /// Commit all memory at once, and never give it back.
    pub(crate) prefault: bool,
    /// Free slots that keep their memory.
    pub(crate) idle_max: u32,
    pub(crate) node: Option<usize>,
    pub(crate) huge_pages: bool,
    pub(crate) guard: bool,
    pub(crate) poison: bool,
}

/// One tier; see the module header.
#[derive(Debug)]
pub(crate) struct Tier {
    start: NonNull<u8>,
    slot_len: usize,
    stride: usize,
    slots: u32,
    idle_max: u32,
    guard: bool,
    poison: bool,
    free: Box<[Cell<u32>]>,
    free_count: Cell<u32>,
    cold: Cell<u32>,
    /// Fewest free slots since the last review or trim.
    free_min: Cell<u32>,
    /// Fewest free slots before that.
    free_min_before: Cell<u32>,
    /// Returns above the mark until the next review.
    review_in: Cell<u32>,
    pub(crate) hits: Cell<u64>,
    pub(crate) misses: Cell<u64>,
    pub(crate) given_back: Cell<u64>,
    /// Keeps `start` mapped; `None` for a tier of no slots.
    mapping: Option<Mapping>,
}

impl Tier {
    /// The tier, and what the kernel refused of its memory's wishes.
    pub(crate) fn new(config: &TierConfig) -> io::Result<(Tier, Vec<Refusal>)> {
        let slots = config.slots;
        // Protection works on pages, so a guarded slot has its pages for itself.
        let stride = if config.guard { config.slot_len.max(page_len()) } else { config.slot_len };
        let options =
            MapOptions { populate: config.prefault, node: config.node, huge_pages: config.huge_pages };
        let (mapping, refused) = match slots as usize * stride {
            0 => (None, Vec::new()),
            len => Mapping::with(len, &options).map(|(mapping, refused)| (Some(mapping), refused))?,
        };
        if let Some(mapping) = &mapping
            && config.guard
        {
            mapping.protect_none(0..mapping.len())?;
        }
        let tier = Tier {
            start: mapping.as_ref().map_or(NonNull::dangling(), Mapping::as_ptr),
            slot_len: config.slot_len,
            stride,
            slots,
            idle_max: if config.prefault { u32::MAX } else { config.idle_max },
            guard: config.guard,
            poison: config.poison,
            // Lowest index on top: a lightly used tier touches its first pages only.
            free: (0..slots).rev().map(Cell::new).collect(),
            free_count: Cell::new(slots),
            cold: Cell::new(slots),
            free_min: Cell::new(slots),
            free_min_before: Cell::new(slots),
            review_in: Cell::new(REVIEW_RETURNS),
            hits: Cell::new(0),
            misses: Cell::new(0),
            given_back: Cell::new(0),
            mapping,
        };
        Ok((tier, refused))
    }

    /// Lends a slot: its index and first byte.
    #[inline]
    pub(crate) fn take(&self) -> Option<(u32, NonNull<u8>)> {
        let left = self.free_count.get().checked_sub(1)?;
        self.free_count.set(left);
        if left < self.free_min.get() {
            self.free_min.set(left);
        }
        let was_cold = left < self.cold.get();
        if was_cold {
            self.cold.set(left);
        }
        let index = self.free[left as usize].get();
        let start = self.slot(index);
        if self.guard || self.poison {
            self.unseal(index, start, was_cold);
        }
        Some((index, start))
    }

    /// Takes a lent slot back.
    #[inline]
    pub(crate) fn put_back(&self, index: u32) {
        if self.guard || self.poison {
            self.seal(index);
        }
        let count = self.free_count.get();
        self.free[count as usize].set(index);
        self.free_count.set(count + 1);
        if count + 1 - self.cold.get() > self.idle_max {
            self.review();
        }
    }

    /// Gives back up to `slots_max` slots that stayed free since the last call. Returns the bytes.
    pub(crate) fn trim(&self, slots_max: u32) -> u64 {
        let idle = self.idle_since_last();
        if self.idle_max == u32::MAX {
            return 0;
        }
        self.give_back(idle.min(slots_max)) * self.slot_len as u64
    }

    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    pub(crate) fn slot_len(&self) -> usize {
        self.slot_len
    }

    pub(crate) fn lent(&self) -> u32 {
        self.slots - self.free_count.get()
    }

    pub(crate) fn lent_max(&self) -> u32 {
        self.slots - self.free_min.get().min(self.free_min_before.get())
    }

    /// Free slots with memory behind them.
    pub(crate) fn idle(&self) -> u32 {
        self.free_count.get() - self.cold.get()
    }

    /// Where the tier is mapped, if it has slots.
    #[cfg(test)]
    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        self.mapping.as_ref()
    }

    /// Bytes of this tier that are in memory, as the kernel counts them.
    #[cfg(test)]
    pub(crate) fn resident_bytes(&self) -> usize {
        self.mapping.as_ref().map_or(0, |mapping| mapping.resident_bytes(0..mapping.len()).unwrap_or(0))
    }

    #[inline]
    fn slot(&self, index: u32) -> NonNull<u8> {
        debug_assert!(index < self.slots);
        // SAFETY: rule 4: `index < slots`, so the offset stays inside the mapping.
        unsafe { self.start.add(index as usize * self.stride) }
    }

    /// The bytes of the mapping that belong to slot `index`.
    fn range(&self, index: u32) -> std::ops::Range<usize> {
        let start = index as usize * self.stride;
        start..start + self.stride
    }

    /// Warm slots that were free ever since the last call.
    fn idle_since_last(&self) -> u32 {
        let free_min = self.free_min.replace(self.free_count.get());
        self.free_min_before.set(self.free_min_before.get().min(free_min));
        free_min.saturating_sub(self.cold.get())
    }

    #[cold]
    fn review(&self) {
        self.review_in.set(self.review_in.get() - 1);
        if self.review_in.get() == 0 {
            self.review_in.set(REVIEW_RETURNS);
            let beyond = self.idle_since_last().saturating_sub(self.idle_max);
            self.give_back(beyond.min(REVIEW_SLOTS_MAX));
        }
    }

    /// Turns the `count` lowest warm slots of the stack cold. Returns how many it were.
    fn give_back(&self, count: u32) -> u64 {
        let Some(mapping) = &self.mapping else { return 0 };
        let mut given = 0;
        for _ in 0..count {
            let cold = self.cold.get();
            let index = self.free[cold as usize].get();
            // A kernel that refuses (locked pages) leaves the slot as warm as it was, which is only memory.
            if mapping.dont_need(self.range(index)).is_err() {
                break;
            }
            self.cold.set(cold + 1);
            given += 1;
        }
        self.given_back.set(self.given_back.get() + given);
        given
    }

    /// Guard and poison: a lent slot becomes accessible, and must be as it was left.
    #[cold]
    fn unseal(&self, index: u32, start: NonNull<u8>, was_cold: bool) {
        if self.guard
            && let Some(mapping) = &self.mapping
            && let Err(error) = mapping.protect_rw(self.range(index))
        {
            panic!("guard mode cannot open slot {index} of the {} byte tier: {error}", self.slot_len);
        }
        if self.poison {
            let expected = if was_cold { 0 } else { POISON };
            // SAFETY: rules 1, 3 and 4: the slot just left the free list, so nobody else has its bytes.
            let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), self.slot_len) };
            // Equal to the first byte and each to its neighbour: one memcmp, where a loop takes long in tests.
            let untouched = bytes[0] == expected && bytes[1..] == bytes[..self.slot_len - 1];
            if !untouched && let Some(at) = bytes.iter().position(|&byte| byte != expected) {
                panic!(
                    "slot {index} of the {} byte tier was written while free: byte {at} is {:#04x}",
                    self.slot_len, bytes[at]
                );
            }
        }
    }

    /// Guard and poison: a returned slot is filled and closed.
    #[cold]
    fn seal(&self, index: u32) {
        if self.poison {
            // SAFETY: rules 1 and 4: its `Buf` is being dropped and the slot is not on the free list yet.
            unsafe { self.slot(index).write_bytes(POISON, self.slot_len) };
        }
        if self.guard
            && let Some(mapping) = &self.mapping
            && let Err(error) = mapping.protect_none(self.range(index))
        {
            panic!("guard mode cannot close slot {index} of the {} byte tier: {error}", self.slot_len);
        }
    }
}
