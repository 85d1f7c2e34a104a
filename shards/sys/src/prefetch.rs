//! Prefetch: asks the CPU for memory before it is needed.
//!
//! Who looks up many things at once touches them all first, and then works: the waits for memory overlap instead of
//! standing one behind the other.
//!
//! Not here: when that pays.

/// Begins to load the cache line at `one`, for reading. No effect but on time; one instruction, that does not wait.
/// Nothing on machines other than x86-64.
#[inline(always)]
pub fn prefetch<T: ?Sized>(one: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: rule 5: a hint reads nothing the program can see, and does not fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(one).cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = one;
}

/// As [`prefetch`], for the lines of the first and of the last byte: all of something with no more bytes than a line has.
#[inline(always)]
pub fn prefetch_ends<T>(one: &T) {
    prefetch(one);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let behind = std::ptr::from_ref(one).wrapping_add(1).cast::<i8>();
        // SAFETY: rule 5, as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(behind.wrapping_sub(1)) };
    }
}
