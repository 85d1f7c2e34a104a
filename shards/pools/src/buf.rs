//! A lent buffer: 24 bytes of handle, returned to its pool on drop.
//!
//! The first `len` bytes are filled, the rest up to `capacity` is spare. All of them are initialised
//! (rule 3), so lengths can be set freely; spare bytes may show what an earlier user left there.
//!
//! Not here: where the memory comes from (`pool.rs`, `tier.rs`), lists of buffers (`chain.rs`).

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::pool::{HEAP_UNIT, Inner};
use crate::tier::TIER_LENS;

/// The tier number that means "from the heap".
pub(crate) const HEAP_TIER: usize = 3;

/// Where a buffer's memory is: two bits of tier, 30 bits of slot index, or of length in heap units.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct SlotRef(u32);

impl SlotRef {
    pub(crate) const INDEX_MAX: u32 = (1 << 30) - 1;

    #[expect(clippy::cast_possible_truncation, reason = "the tier is 0 to 3")]
    #[inline]
    pub(crate) fn tier(tier: usize, index: u32) -> SlotRef {
        debug_assert!(tier <= HEAP_TIER);
        debug_assert!(index <= SlotRef::INDEX_MAX);
        SlotRef((tier as u32) << 30 | index)
    }

    pub(crate) fn heap(units: u32) -> SlotRef {
        SlotRef::tier(HEAP_TIER, units)
    }

    #[inline]
    pub(crate) fn tier_index(self) -> usize {
        (self.0 >> 30) as usize
    }

    #[inline]
    pub(crate) fn index(self) -> u32 {
        self.0 & SlotRef::INDEX_MAX
    }

    #[inline]
    fn capacity(self) -> usize {
        match TIER_LENS.get(self.tier_index()) {
            Some(&len) => len,
            None => self.index() as usize * HEAP_UNIT,
        }
    }
}

/// Bytes lent from the [`crate::Pools`] of this shard. Dereferences to the filled part.
///
/// May outlive the `Pools` handle it came from. Stays on its thread (neither `Send` nor `Sync`).
pub struct Buf {
    pool: Rc<Inner>,
    start: NonNull<u8>,
    len: u32,
    slot: SlotRef,
}

const _: () = assert!(size_of::<Buf>() == 24);
const _: () = assert!(size_of::<Option<Buf>>() == 24);

impl Buf {
    /// A buffer over the slot just taken from `pool`, as its only owner (rule 1).
    #[inline]
    pub(crate) fn new(pool: Rc<Inner>, start: NonNull<u8>, slot: SlotRef) -> Buf {
        Buf { pool, start, len: 0, slot }
    }

    /// Bytes filled.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing is filled.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes the buffer can hold: the slot length of its tier, or a multiple of 4 KiB from the heap.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.slot.capacity()
    }

    /// Bytes that can still be filled.
    #[inline]
    pub fn spare_len(&self) -> usize {
        self.capacity() - self.len()
    }

    /// The filled bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: rules 1, 2 and 3; `len <= capacity` holds since every change of `len` checks it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }

    /// The filled bytes, writable.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as `as_slice`, and `&mut self` is the only handle to the bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len()) }
    }

    /// The first byte, for the kernel to read from; see rule 5 of the crate for how long it holds.
    #[inline]
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// The first byte, for the kernel to write to, up to `capacity()` bytes; see rule 5 of the crate.
    /// Follow with [`Buf::set_len_filled`].
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The bytes behind the filled part: initialised, with contents of earlier use. Writing them fills nothing
    /// until [`Buf::set_len_filled`].
    #[inline]
    pub fn spare_capacity(&mut self) -> &mut [u8] {
        let (len, spare) = (self.len(), self.spare_len());
        // SAFETY: rules 1, 2 and 3; `len + spare` is the capacity, and `&mut self` the only handle.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(len), spare) }
    }

    /// Makes the filled part `len` bytes long: shorter, or longer over bytes that were written through
    /// [`Buf::spare_capacity`] or by the kernel.
    ///
    /// # Panics
    /// If `len` exceeds the capacity.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a capacity is at most u32::MAX")]
    pub fn set_len_filled(&mut self, len: usize) {
        assert!(len <= self.capacity(), "{len} bytes in a buffer of {}", self.capacity());
        self.len = len as u32;
    }

    /// Forgets the filled bytes.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Keeps the first `len` bytes; no effect if there are no more.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.set_len_filled(len);
        }
    }

    /// Appends what fits of `bytes` and returns how many that were.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.spare_len());
        self.spare_capacity()[..count].copy_from_slice(&bytes[..count]);
        self.set_len_filled(self.len() + count);
        count
    }

    /// Lets `fill` write into the spare bytes and appends as many as it says it wrote. Returns that count.
    ///
    /// # Panics
    /// If `fill` says more than it was given.
    #[inline]
    pub fn fill_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let spare = self.spare_capacity();
        let spare_len = spare.len();
        let count = fill(spare);
        assert!(count <= spare_len, "filled {count} of {spare_len} spare bytes");
        self.set_len_filled(self.len() + count);
        count
    }

    /// As [`Buf::fill_with`] for a reader that can fail; nothing is appended then.
    ///
    /// # Errors
    /// What `fill` answers.
    ///
    /// # Panics
    /// If `fill` says more than it was given.
    pub fn try_fill_with<E>(&mut self, fill: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        let mut outcome = Ok(());
        let count = self.fill_with(|spare| match fill(spare) {
            Ok(count) => count,
            Err(error) => {
                outcome = Err(error);
                0
            }
        });
        outcome.map(|()| count)
    }

    /// Makes the filled part `len` bytes long; bytes gained are zero.
    ///
    /// # Panics
    /// If `len` exceeds the capacity.
    pub fn resize_zeroed(&mut self, len: usize) {
        let before = self.len();
        self.set_len_filled(len);
        if len > before {
            self.as_mut_slice()[before..].fill(0);
        }
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        self.pool.put_back(self.slot, self.start);
    }
}

impl Deref for Buf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for Buf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl AsRef<[u8]> for Buf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tier, index) = (self.slot.tier_index(), self.slot.index());
        write!(f, "Buf({} of {} bytes, tier {tier}, slot {index})", self.len(), self.capacity())
    }
}
