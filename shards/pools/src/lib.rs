//! Corelane floor 2: fixed memory pools of one shard.
//!
//! Memory is set aside once, at the start of the shard, and lent: a [`Buf`] for bytes, a [`Chain`] of
//! bytes for one send, a [`Slots`] entry for what a connection or a task is. Whatever is full answers
//! [`Full`]; nothing here blocks, and nothing here can be sent to another thread.
//!
//! # Rules (SAFETY comments of the crate cite these numbers)
//! 1. A slot is either on its tier's free list, once, or lent to exactly one [`Buf`]. The `Buf` is the only
//!    way to its bytes, so `&Buf` may read and `&mut Buf` may write them.
//! 2. The memory of every slot lives as long as the inner pool, and each `Buf` holds a count of that; a
//!    heap buffer belongs to its one `Buf`, which frees it with the layout it was allocated with.
//! 3. All `capacity()` bytes of a `Buf` are initialised from the moment it is lent: `mmap` and
//!    `alloc_zeroed` give zeroes, discarded slots read as zero, and nothing de-initialises a byte.
//! 4. Slot `i` of a tier is the `slot_len` bytes at `i * stride`, with `i < slots`, `stride >= slot_len`
//!    and `slots * stride` mapped: slots are in bounds and never overlap.
//! 5. The bytes of a `Buf`, of a [`Chunk`] and of a [`Chain`] keep their address when the handle is moved,
//!    and are neither changed nor freed before the handle is dropped or [`Chain::advance`]d past them. The
//!    kernel is given these addresses; who does keeps the handle until the completion.
//! 6. Everything counts in `Cell`s behind an `Rc`: one thread, no atomics.
//!
//! Not here: who gets a buffer and what happens on [`Full`] (`net`), the ring's provided buffers (`uring`).

mod buf;
mod chain;
mod pool;
mod slots;
mod stats;
mod tier;

#[cfg(test)]
mod tests;

pub use buf::Buf;
pub use chain::{CHUNKS_MAX, Chain, Chunk};
pub use corelane_base::Full;
pub use corelane_sys::Refusal;
pub use pool::{PoolConfig, Pools};
pub use slots::{SEGMENT_SLOTS, SlotKey, Slots};
pub use stats::{HeapStats, Stats, TierStats};
pub use tier::{LARGE_LEN, MEDIUM_LEN, SMALL_LEN};
