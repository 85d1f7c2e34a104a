//! The provided-buffer ring of the io_uring limit loop.
//!
//! One anonymous mapping holds the ring of entries the kernel reads and, after it, the buffers the
//! kernel writes. A buffer is lent to the kernel until a completion names it, then ours until
//! [`BufRing::recycle`] gives it back; entries become visible to the kernel at [`BufRing::publish`].
//!
//! # Rules (SAFETY comments cite these numbers)
//! 1. `base` starts a private mapping of [`BufRing::map_len`] bytes, page aligned, unmapped only by
//!    `drop`.
//! 2. Its first `count` 16-byte slots are the entries; buffer `b` starts behind them at a distance of
//!    `b * BUFFER_STRIDE` and is `BUFFER_LEN` long, inside the mapping for every `b < count`. `count`
//!    is a power of two and never changes.
//! 3. The kernel never writes entries; it reads only those in front of the tail we stored.
//! 4. A buffer named by a completion is not written by the kernel until it is recycled.
//! 5. The ring that registered the mapping is dropped before it (the caller declares it later).
//!
//! Not here: the ring it is registered with (`uring`).

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The most buffers the kernel takes in one ring (io_uring_register_buf_ring(3)).
const BUFFERS_MAX: u16 = 1 << 15;

/// Bytes the kernel may write into one buffer.
const BUFFER_LEN: u32 = 4096;

/// Distance between two buffers.
///
/// One cache line more than their length: at a stride of one page the first line of every buffer
/// falls into the same set of the first-level cache.
const BUFFER_STRIDE: usize = BUFFER_LEN as usize + 64;

/// A ring of buffers lent to the kernel.
pub(super) struct BufRing {
    base: *mut u8,
    count: u16,
    tail: u16,
}

impl BufRing {
    /// Maps `count` buffers. They belong to us until [`BufRing::register`].
    ///
    /// # Errors
    /// `count` is not a power of two or more than 32768, or there is no memory (4 KiB and a bit each).
    pub(super) fn new(count: u16) -> io::Result<Self> {
        if !count.is_power_of_two() || count > BUFFERS_MAX {
            let error = format!("{count} buffers: not a power of two up to {BUFFERS_MAX}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        // SAFETY: a new anonymous mapping at an address the kernel chooses aliases nothing.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::map_len(count),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base.cast(), count, tail: 0 })
    }

    /// Registers the ring as buffer group `group` and lends every buffer.
    pub(super) fn register(&mut self, submitter: &Submitter<'_>, group: u16) -> io::Result<()> {
        // SAFETY: rules 1 and 5: the mapping is page aligned, large enough for the entries, and
        // outlives the ring.
        unsafe { submitter.register_buf_ring_with_flags(self.base as u64, self.count, group, 0)? };
        for buffer in 0..self.count {
            self.recycle(buffer);
        }
        self.publish();
        Ok(())
    }

    /// The bytes a completion says were received.
    ///
    /// The kernel names only buffers it was lent and lengths that fit, so anything else panics.
    #[inline]
    pub(super) fn received(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(buffer < self.count);
        assert!(len <= BUFFER_LEN as usize);
        // SAFETY: rule 2 with the asserted bounds; rule 4: the borrow of `self` ends before
        // `recycle`, which takes it mutably. The mapping is zeroed, so all its bytes are initialised.
        unsafe { std::slice::from_raw_parts(self.address(buffer), len) }
    }

    /// Gives `buffer` back to the kernel, from the next [`BufRing::publish`] on.
    #[inline]
    pub(super) fn recycle(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: rule 2: the masked index names an entry of the mapping, aligned to 16; rule 3: it
        // is behind the published tail, so nobody reads it now. The setters do not touch the tail
        // field, which shares the first entry.
        let entry = unsafe { &mut *self.base.cast::<BufRingEntry>().add(index) };
        entry.set_addr(self.address(buffer) as u64);
        entry.set_len(BUFFER_LEN);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes every recycled buffer visible to the kernel.
    #[inline]
    pub(super) fn publish(&self) {
        // SAFETY: rule 1: the first entry lies at `base`, whose reserved field is the tail
        // (io_uring_register_buf_ring(3)); it is 2-aligned and shared with the kernel as an atomic.
        let tail = unsafe { &*BufRingEntry::tail(self.base.cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// Where the buffers start, behind the entries.
    const fn buffers_start(count: u16) -> usize {
        count as usize * size_of::<BufRingEntry>()
    }

    const fn map_len(count: u16) -> usize {
        Self::buffers_start(count) + count as usize * BUFFER_STRIDE
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        self.base.wrapping_add(Self::buffers_start(self.count) + usize::from(buffer) * BUFFER_STRIDE)
    }
}

impl Drop for BufRing {
    fn drop(&mut self) {
        // SAFETY: rules 1 and 5: ours, mapped once with this length, and no ring refers to it now.
        unsafe { libc::munmap(self.base.cast(), Self::map_len(self.count)) };
    }
}
