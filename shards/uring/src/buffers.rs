//! The receive buffers: one mapping, lent out by the kernel's choice, given back in batches.
//!
//! With `buffer_ring` they go back through a ring in shared memory, whose tail is published once an enter.
//! Without, they go back by `IORING_OP_PROVIDE_BUFFERS`, one operation for each run of neighbours.
//!
//! Not here: what a receive asks for (`kernel.rs`).

use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use corelane_base::BufferId;
use corelane_sys::{MapOptions, Mapping, Refusal, page_len};
use io_uring::{IoUring, opcode, squeue};

use crate::error::{SetupError, errno_of};

/// The one buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// Buffers start this many bytes further into their page than the one before. All starting on page borders,
/// their
/// first lines would compete for one set of the first-level cache and for a few of the second.
const STAGGER: usize = 64;

/// `struct io_uring_buf`. In the first entry of a ring, `tail_or_resv` is the ring's tail.
#[repr(C)]
struct Entry {
    addr: u64,
    len: u32,
    id: u16,
    tail_or_resv: u16,
}

enum Way {
    /// `tail` counts entries written, published or not.
    Ring { entries: Mapping, tail: u16, fresh: bool },
    /// Ids that wait for an operation to take them back.
    Operation { back: Vec<u16> },
}

/// All receive buffers of a ring.
pub(crate) struct Buffers {
    memory: Mapping,
    stride: usize,
    bytes: u32,
    count: u16,
    /// Bytes received in each lent buffer; 0 where the kernel has it.
    lent: Box<[u32]>,
    way: Way,
    refused: Vec<Refusal>,
}

impl Buffers {
    /// Maps `count` buffers of `bytes` each, in memory of this kind, and gives all of them to the kernel: at once
    /// with `ring`, with the next [`Buffers::give_back`] else.
    ///
    /// # Errors
    /// [`SetupError::Buffers`].
    pub(crate) fn new(
        io: &IoUring,
        count: u16,
        bytes: u32,
        ring: bool,
        memory: &MapOptions,
    ) -> Result<Buffers, SetupError> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "recv_buffers {count}");
        assert!((1..=1 << 30).contains(&bytes), "recv_buffer_bytes {bytes}");
        let wrong = |error: std::io::Error| SetupError::Buffers { errno: errno_of(&error) };
        let stagger = if ring && (bytes as usize).is_multiple_of(page_len()) { STAGGER } else { 0 };
        let stride = bytes as usize + stagger;
        let options = MapOptions { populate: true, ..*memory };
        let (memory, refused) = Mapping::with(stride * usize::from(count), &options).map_err(wrong)?;
        let mut buffers = Buffers {
            memory,
            stride,
            bytes,
            count,
            lent: vec![0; usize::from(count)].into_boxed_slice(),
            way: Way::Operation { back: Vec::with_capacity(usize::from(count)) },
            refused,
        };
        if ring {
            let entries = Mapping::anonymous(usize::from(count) * size_of::<Entry>(), true).map_err(wrong)?;
            let addr = entries.as_ptr().as_ptr().expose_provenance() as u64;
            // SAFETY: `addr` is page-aligned, holds `count` entries, and is kept until after the ring is
            // closed (rule 5).
            unsafe { io.submitter().register_buf_ring_with_flags(addr, count, GROUP, 0) }.map_err(wrong)?;
            buffers.way = Way::Ring { entries, tail: 0, fresh: false };
        }
        for id in 0..count {
            buffers.offer(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// What the system refused of the wishes for their memory.
    pub(crate) fn refusals(&self) -> &[Refusal] {
        &self.refused
    }

    /// Bytes of one buffer.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// The kernel put `len` bytes, at least one, into buffer `id`.
    #[inline]
    pub(crate) fn lend(&mut self, id: u16, len: u32) -> BufferId {
        assert!(len <= self.bytes);
        debug_assert_eq!(self.lent[usize::from(id)], 0);
        self.lent[usize::from(id)] = len;
        BufferId(id)
    }

    /// The kernel took buffer `id` and put nothing into it.
    #[cold]
    pub(crate) fn untouched(&mut self, id: u16) {
        assert_eq!(self.lent[usize::from(id)], 0);
        self.offer(id);
    }

    /// The first `len` bytes of a lent buffer.
    #[inline]
    pub(crate) fn read(&self, id: BufferId, len: u32) -> &[u8] {
        let lent = self.lent[usize::from(id.0)];
        assert!(len <= lent, "{len} bytes of a buffer that holds {lent}");
        // SAFETY: rule 4: the buffer is lent and the kernel wrote `lent` bytes of it; it stays lent while
        // `self` is borrowed. The id is below `count`, since `lent` has that length.
        unsafe { std::slice::from_raw_parts(self.start(id.0).as_ptr(), len as usize) }
    }

    /// Ends the loan.
    #[inline]
    pub(crate) fn recycle(&mut self, id: BufferId) {
        let lent = std::mem::replace(&mut self.lent[usize::from(id.0)], 0);
        assert!(lent > 0, "buffer {} recycled twice", id.0);
        self.offer(id.0);
    }

    #[inline]
    fn start(&self, id: u16) -> NonNull<u8> {
        debug_assert!(id < self.count);
        // SAFETY: `id < count`, and the mapping holds `count * stride` bytes.
        unsafe { self.memory.as_ptr().add(usize::from(id) * self.stride) }
    }

    #[inline]
    fn offer(&mut self, id: u16) {
        let addr = self.start(id).as_ptr().expose_provenance() as u64;
        let (mask, bytes) = (self.count - 1, self.bytes);
        match &mut self.way {
            Way::Ring { entries, tail, fresh } => {
                let entry = entries.as_ptr().as_ptr().cast::<Entry>().wrapping_add(usize::from(*tail & mask));
                // SAFETY: the index is below `count`, so the entry is in the mapping. The kernel has fewer
                // than `count` entries here (this buffer is not among them), so it does not read this one.
                // The tail, which shares the first entry, is left alone.
                unsafe {
                    (&raw mut (*entry).addr).write(addr);
                    (&raw mut (*entry).len).write(bytes);
                    (&raw mut (*entry).id).write(id);
                }
                *tail = tail.wrapping_add(1);
                *fresh = true;
            }
            Way::Operation { back } => back.push(id),
        }
    }

    /// Lets the kernel see what came back through the ring. One store.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if let Way::Ring { entries, tail, fresh } = &mut self.way
            && *fresh
        {
            let at = entries.as_ptr().as_ptr().wrapping_add(offset_of!(Entry, tail_or_resv));
            // SAFETY: two aligned bytes inside the mapping that both sides only touch atomically.
            let shared = unsafe { AtomicU16::from_ptr(at.cast()) };
            shared.store(*tail, Ordering::Release);
            *fresh = false;
        }
    }

    /// Whether [`Buffers::give_back`] has operations to push.
    #[inline]
    pub(crate) fn owes(&self) -> bool {
        matches!(&self.way, Way::Operation { back } if !back.is_empty())
    }

    /// The next operation that gives buffers back, with the first and the number of them.
    pub(crate) fn give_back(&mut self) -> Option<(squeue::Entry, u16, u16)> {
        let Way::Operation { back } = &mut self.way else { return None };
        let last = back.pop()?;
        let (mut first, mut count) = (last, 1);
        // Runs are found in the order of recycling, forwards and backwards.
        while let Some(&next) = back.last()
            && (next + 1 == first || next == first + count)
        {
            first = first.min(next);
            count += 1;
            back.pop();
        }
        debug_assert_eq!(self.stride, self.bytes as usize);
        let addr = self.start(first).as_ptr();
        let entry = opcode::ProvideBuffers::new(addr, self.bytes.cast_signed(), count, GROUP, first);
        Some((entry.build(), first, count))
    }

    /// The operation that was to give these back failed.
    #[cold]
    pub(crate) fn refused(&mut self, first: u16, count: u16) {
        for id in first..first + count {
            self.offer(id);
        }
    }
}
