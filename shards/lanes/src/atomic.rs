//! The atomics, the shared pointer and the cell that the crate is written with: of `std`, or of loom's model.
//!
//! # Rules
//! 1. No other file names `std::sync` or `std::cell::UnsafeCell`, so that loom sees every shared access.
//! 2. No ordering is SeqCst: loom takes it for AcqRel, and the crate needs no more.
//!
//! Not here: the orderings and why they do (`lib.rs`, rules 3 to 8).

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// `std`'s cell with the interface of loom's, which notes where an access begins and ends.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    /// Hands out the pointer for reading. The caller answers for nobody writing meanwhile.
    #[inline(always)]
    pub(crate) fn with<V>(&self, read: impl FnOnce(*const T) -> V) -> V {
        read(self.0.get())
    }

    /// Hands out the pointer for writing. The caller answers for nobody else having it meanwhile.
    #[inline(always)]
    pub(crate) fn with_mut<V>(&self, write: impl FnOnce(*mut T) -> V) -> V {
        write(self.0.get())
    }
}

/// Bytes that an `Arc` of this allocates: its two counts, then the value at its alignment.
pub(crate) const fn shared_bytes<T>() -> usize {
    let counts = size_of::<[AtomicUsize; 2]>();
    let align =
        if align_of::<T>() > align_of::<AtomicUsize>() { align_of::<T>() } else { align_of::<AtomicUsize>() };
    (counts.next_multiple_of(align) + size_of::<T>()).next_multiple_of(align)
}
