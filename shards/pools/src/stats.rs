//! What the pools counted: plain copies, taken on request.
//!
//! Not here: the counting itself (`tier.rs`, `pool.rs`), names and labels of metrics (`admin`).

/// One tier since the start of the shard. Slots are counts, not bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TierStats {
    /// Bytes of one slot.
    pub slot_len: usize,
    /// Slots there are.
    pub slots: u32,
    /// Slots lent now.
    pub lent: u32,
    /// Most slots ever lent at once.
    pub lent_max: u32,
    /// Free slots that hold memory now; 0 for slots never used.
    pub idle: u32,
    /// Requests of this size that got a slot of this tier.
    pub hits: u64,
    /// Requests of this size that this tier could not serve: they went one tier up, to the heap, or away.
    pub misses: u64,
    /// Times a free slot's memory went back to the kernel.
    pub given_back: u64,
}

impl TierStats {
    /// Part of the requests of this size that this tier served: 0 to 1, and 1 before the first.
    pub fn hit_rate(&self) -> f64 {
        rate(self.hits, self.misses)
    }
}

/// Buffers beyond the tiers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeapStats {
    /// Bytes lent from the heap now.
    pub bytes: u64,
    /// Most heap bytes ever lent at once.
    pub bytes_peak: u64,
    /// `PoolConfig::heap_bytes_max`.
    pub bytes_max: u64,
    /// Buffers that came from the heap.
    pub served: u64,
    /// Requests longer than a large slot, which only the heap can serve.
    pub oversized: u64,
}

/// All of one [`crate::Pools`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Small, medium, large.
    pub tiers: [TierStats; 3],
    /// What the tiers could not serve.
    pub heap: HeapStats,
    /// Requests answered with [`crate::Full`].
    pub refused: u64,
}

impl Stats {
    /// Part of all requests served by the tier of their size: 0 to 1, and 1 before the first.
    pub fn hit_rate(&self) -> f64 {
        let hits = self.tiers.iter().map(|tier| tier.hits).sum();
        let misses: u64 = self.tiers.iter().map(|tier| tier.misses).sum();
        rate(hits, misses + self.heap.oversized)
    }

    /// Buffers lent from the tiers now.
    pub fn lent(&self) -> u32 {
        self.tiers.iter().map(|tier| tier.lent).sum()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate to six digits is plenty")]
fn rate(hits: u64, misses: u64) -> f64 {
    if hits + misses == 0 { 1.0 } else { hits as f64 / (hits + misses) as f64 }
}
