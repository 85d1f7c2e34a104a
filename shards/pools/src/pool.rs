//! The pools of one shard: three tiers of fixed slots, and the heap within a budget when they run out.
//!
//! A request takes the smallest tier that fits and has a free slot, else a heap buffer, else [`Full`].
//!
//! Not here: the free list of a tier (`tier.rs`), the lent buffer (`buf.rs`).

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::io;
use std::mem::discriminant;
use std::ptr::NonNull;
use std::rc::Rc;

use corelane_sys::Refusal;

use crate::buf::{Buf, HEAP_TIER, SlotRef};
use crate::tier::{LARGE_LEN, MEDIUM_LEN, SMALL_LEN, TIER_LENS, Tier, TierConfig};
use crate::{Full, HeapStats, Stats, TierStats};

/// Heap buffers come in multiples of this many bytes, so that a `Buf` can name its capacity in 30 bits.
pub(crate) const HEAP_UNIT: usize = 4096;

/// Longest heap buffer: what a `u32` length can count, in whole units.
const HEAP_LEN_MAX: usize = (u32::MAX as usize / HEAP_UNIT) * HEAP_UNIT;

/// Sizes of the pools of one shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolConfig {
    /// 1 KiB slots, committed at the start.
    pub small_count: u32,
    /// 64 KiB slots, committed when first used.
    pub medium_count: u32,
    /// 1 MiB slots, committed when first used.
    pub large_count: u32,
    /// Free medium slots that keep their memory while there is traffic; those idle beyond lose it over time.
    pub medium_idle_max: u32,
    /// Free large slots that keep their memory while there is traffic; those idle beyond lose it over time.
    pub large_idle_max: u32,
    /// Bytes of heap buffers lent at once, when the tiers are out or the request exceeds a large slot.
    pub heap_bytes_max: u64,
    /// The memory node slots come from, as long as it has memory. None: that of the CPU that touches them first.
    pub node: Option<usize>,
    /// Asks for huge pages: fewer misses of the address cache, and 2 MiB in use where a slot of 64 KiB is.
    pub huge_pages: bool,
    /// Makes free slots inaccessible, so that a use after free faults. For tests: two system calls a buffer.
    pub guard: bool,
    /// Fills free slots with a pattern and panics if it changed by the next use. For tests: two passes over
    /// the slot for each buffer.
    pub poison: bool,
}

impl Default for PoolConfig {
    /// 500 KiB + 12.5 MiB + 50 MiB of addresses, of which 500 KiB are committed at the start and 4 MiB + 8 MiB
    /// are kept under light traffic after a peak.
    fn default() -> PoolConfig {
        PoolConfig {
            small_count: 500,
            medium_count: 200,
            large_count: 50,
            medium_idle_max: 64,
            large_idle_max: 8,
            heap_bytes_max: 64 << 20,
            node: None,
            huge_pages: false,
            guard: false,
            poison: false,
        }
    }
}

/// Handle to the pools of one shard; a clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Pools {
    inner: Rc<Inner>,
}

/// What handles and lent buffers share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) tiers: [Tier; 3],
    heap: Heap,
    refused: Cell<u64>,
    refusals: Vec<Refusal>,
}

#[derive(Debug)]
struct Heap {
    bytes: Cell<u64>,
    bytes_peak: Cell<u64>,
    bytes_max: u64,
    served: Cell<u64>,
    oversized: Cell<u64>,
}

impl Pools {
    /// Maps the three tiers. Commits the small one, and nothing of the others. Call it on the pinned thread of
    /// the shard: memory comes from the node of the CPU that first touches it. Node and page size are asked for
    /// before that; what the kernel refused of it is no error, see [`Pools::refusals`].
    ///
    /// # Errors
    /// `ENOMEM` from `mmap(2)`; `InvalidInput` for a count above 2^30 - 1.
    pub fn new(config: &PoolConfig) -> io::Result<Pools> {
        let mut refusals: Vec<Refusal> = Vec::new();
        let mut tier = |slot_len, slots: u32, prefault, idle_max| {
            if slots > SlotRef::INDEX_MAX {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
            let PoolConfig { node, huge_pages, guard, poison, .. } = *config;
            let config = TierConfig { slot_len, slots, prefault, idle_max, node, huge_pages, guard, poison };
            let (tier, refused) = Tier::new(&config)?;
            // What is refused to one tier is to all.
            for one in refused {
                if !refusals.iter().any(|other| discriminant(other) == discriminant(&one)) {
                    refusals.push(one);
                }
            }
            Ok(tier)
        };
        let tiers = [
            tier(SMALL_LEN, config.small_count, true, u32::MAX)?,
            tier(MEDIUM_LEN, config.medium_count, false, config.medium_idle_max)?,
            tier(LARGE_LEN, config.large_count, false, config.large_idle_max)?,
        ];
        let heap = Heap {
            bytes: Cell::new(0),
            bytes_peak: Cell::new(0),
            bytes_max: config.heap_bytes_max,
            served: Cell::new(0),
            oversized: Cell::new(0),
        };
        Ok(Pools { inner: Rc::new(Inner { tiers, heap, refused: Cell::new(0), refusals }) })
    }

    /// What the kernel refused of `node` and `huge_pages`, each once. The pools work without, slower.
    pub fn refusals(&self) -> &[Refusal] {
        &self.inner.refusals
    }

    /// Lends an empty buffer that holds at least `len` bytes. Its spare bytes are whatever its last user left.
    ///
    /// O(1): a pop from the free list. The heap path zeroes what it allocates.
    ///
    /// # Errors
    /// [`Full`] (`pool_heap_bytes_max`) when no fitting slot is free and the heap budget does not hold `len` more.
    #[inline]
    pub fn get(&self, len: usize) -> Result<Buf, Full> {
        let fits = usize::from(len > SMALL_LEN) + usize::from(len > MEDIUM_LEN);
        let tier = &self.inner.tiers[fits];
        if len <= LARGE_LEN
            && let Some((index, start)) = tier.take()
        {
            tier.hits.set(tier.hits.get() + 1);
            return Ok(Buf::new(Rc::clone(&self.inner), start, SlotRef::tier(fits, index)));
        }
        self.get_elsewhere(len, fits)
    }

    /// Gives memory of medium and large slots that nobody needed since the last call back to the kernel, at
    /// most `slots_max` of each tier (a 1 MiB slot costs about 70 us). Returns the bytes.
    ///
    /// Call it now and then: pools whose traffic has stopped keep what the last peak used until then.
    pub fn trim(&self, slots_max: u32) -> u64 {
        self.inner.tiers.iter().map(|tier| tier.trim(slots_max)).sum()
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        let inner = &*self.inner;
        let tiers = [0, 1, 2].map(|at| {
            let tier = &inner.tiers[at];
            TierStats {
                slot_len: tier.slot_len(),
                slots: tier.slots(),
                lent: tier.lent(),
                lent_max: tier.lent_max(),
                idle: tier.idle(),
                hits: tier.hits.get(),
                misses: tier.misses.get(),
                given_back: tier.given_back.get(),
            }
        });
        let heap = HeapStats {
            bytes: inner.heap.bytes.get(),
            bytes_peak: inner.heap.bytes_peak.get(),
            bytes_max: inner.heap.bytes_max,
            served: inner.heap.served.get(),
            oversized: inner.heap.oversized.get(),
        };
        Stats { tiers, heap, refused: inner.refused.get() }
    }

    /// Bytes of one tier that are in memory, as the kernel counts them.
    #[cfg(test)]
    pub(crate) fn resident_bytes(&self, tier: usize) -> usize {
        self.inner.tiers[tier].resident_bytes()
    }

    /// Where one tier is mapped.
    #[cfg(test)]
    pub(crate) fn mapping(&self, tier: usize) -> &corelane_sys::Mapping {
        let Some(mapping) = self.inner.tiers[tier].mapping() else { panic!("tier {tier} has no slots") };
        mapping
    }

    #[cold]
    fn get_elsewhere(&self, len: usize, fits: usize) -> Result<Buf, Full> {
        let inner = &self.inner;
        if len > LARGE_LEN {
            add(&inner.heap.oversized, 1);
        } else {
            add(&inner.tiers[fits].misses, 1);
            for (at, tier) in inner.tiers.iter().enumerate().skip(fits + 1) {
                if let Some((index, start)) = tier.take() {
                    return Ok(Buf::new(Rc::clone(inner), start, SlotRef::tier(at, index)));
                }
            }
        }
        match inner.heap_alloc(len) {
            Some((start, units)) => Ok(Buf::new(Rc::clone(inner), start, SlotRef::heap(units))),
            None => {
                add(&inner.refused, 1);
                Err(Full::new("pool_heap_bytes_max", inner.heap.bytes_max))
            }
        }
    }
}

impl Inner {
    /// Takes back what `slot` names. Called once for each lent buffer, by its drop.
    #[inline]
    pub(crate) fn put_back(&self, slot: SlotRef, start: NonNull<u8>) {
        let at = slot.tier_index();
        if at < HEAP_TIER {
            self.tiers[at].put_back(slot.index());
        } else {
            self.heap_free(start, slot.index());
        }
    }

    /// Zeroed bytes and their length in [`HEAP_UNIT`]s, or nothing if the budget or the allocator is out.
    fn heap_alloc(&self, len: usize) -> Option<(NonNull<u8>, u32)> {
        if len > HEAP_LEN_MAX {
            return None;
        }
        let units = len.div_ceil(HEAP_UNIT).max(1);
        let bytes = self.heap.bytes.get() + (units * HEAP_UNIT) as u64;
        if bytes > self.heap.bytes_max {
            return None;
        }
        let layout = heap_layout(units)?;
        // SAFETY: the layout is at least one unit long.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        self.heap.bytes.set(bytes);
        self.heap.bytes_peak.set(self.heap.bytes_peak.get().max(bytes));
        add(&self.heap.served, 1);
        Some((start, u32::try_from(units).ok()?))
    }

    #[cold]
    fn heap_free(&self, start: NonNull<u8>, units: u32) {
        let units = units as usize;
        let Some(layout) = heap_layout(units) else { unreachable!("{units} units were allocated before") };
        self.heap.bytes.set(self.heap.bytes.get() - (units * HEAP_UNIT) as u64);
        // SAFETY: rule 2: allocated with this very layout, by one buffer that is being dropped.
        unsafe { dealloc(start.as_ptr(), layout) };
    }
}

/// Layout of a heap buffer, the same for allocation and release (rule 2). Aligned to a cache line.
fn heap_layout(units: usize) -> Option<Layout> {
    Layout::from_size_align(units * HEAP_UNIT, 64).ok()
}

fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}

const _: () = assert!(TIER_LENS[HEAP_TIER - 1] == LARGE_LEN);
// Unit counts fit the 30 bits of a `SlotRef`.
const _: () = assert!(HEAP_LEN_MAX / HEAP_UNIT <= SlotRef::INDEX_MAX as usize);
