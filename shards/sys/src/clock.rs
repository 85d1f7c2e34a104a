//! The clock that shards count by, for threads that are no shard.
//!
//! Not here: a shard's time (its kernel reads the clock once a turn).

/// Nanoseconds of `CLOCK_MONOTONIC` (clock_gettime(2)): the clock of `Shard::now` over io_uring. About 20 ns.
pub fn mono_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: rule 1: one timespec, which the call fills.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(answer, 0, "CLOCK_MONOTONIC is always there");
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back_and_counts_nanoseconds() {
        let before = mono_ns();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let passed = mono_ns() - before;
        assert!(passed >= 20_000_000, "{passed} ns");
    }
}
