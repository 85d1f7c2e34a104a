//! How much freed memory glibc's allocator keeps for the next use.
//!
//! Left to itself it gives the top of a thread's heap back to the system (madvise(2)) as soon as 128 KiB of it are
//! free. A shard that takes and frees a body of 64 KiB for every request then pays for zeroed pages, fault by fault,
//! each time: half of what such a request cost.
//!
//! Freed blocks of up to 128 bytes it keeps in lists of their own, unmerged, until a large block is freed: then it merges
//! them all at once. After the removal of a million small values that took 160 ms at one go. Without those lists each
//! is merged as it is freed, and no call took more than 2 ms; the few that each thread keeps at hand for the next use
//! (tcache) stay.
//!
//! Not here: pools of buffers (`pools`), which do not go through the allocator.

/// Keeps up to `bytes` of free memory at the end of each heap, and takes allocations below `bytes` from the heaps
/// instead of mapping each for itself; merges small blocks as they are freed. For the whole process, for good: call it
/// once, before there are threads. Free memory below something that is still in use stays as well, whatever `bytes` says: after a burst of large
/// allocations a heap can keep what it took at its peak.
///
/// False where the allocator takes no such wish: it is not glibc's, or `bytes` is above `i32::MAX`, or
/// more than it can (mallopt(3)).
#[must_use]
pub fn keep(bytes: usize) -> bool {
    #[cfg(target_env = "gnu")]
    {
        let Ok(bytes) = libc::c_int::try_from(bytes) else { return false };
        // The one with the lower maximum first: where that is refused, nothing has changed.
        // SAFETY: rule 1: no pointer. glibc locks its own state; mallopt(3) is unsafe among threads only in that an
        // allocation under way may not see the change.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) == 1
                && libc::mallopt(libc::M_TRIM_THRESHOLD, bytes) == 1
                && libc::mallopt(libc::M_MXFAST, 0) == 1
        }
    }
    #[cfg(not(target_env = "gnu"))]
    {
        let _ = bytes;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_env = "gnu")]
    #[test]
    fn a_sensible_amount_is_kept_and_an_absurd_one_refused() {
        assert!(keep(4 << 20));
        assert!(!keep(usize::MAX));
    }
}
