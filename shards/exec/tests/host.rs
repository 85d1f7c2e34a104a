//! Executors of glommio, by the hundred: their start and their end.
//!
//! Not here: what a shard does inside one (`tests/glommio.rs` of the workspace).
#![cfg(feature = "glommio")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use corelane_base::Limits;
use corelane_exec::host::{self, Kind};

/// With so short a time for each queue, an executor in about 150 sleeps over its first task, or over the end of its
/// last: the guard is what wakes it.
#[test]
fn every_executor_comes_to_its_end_however_short_the_time_of_a_queue() {
    let limits = Limits {
        host_preempt_time: Duration::from_micros(50),
        host_io_bytes: 65_536,
        host_ring_entries: 8,
        ..Limits::default()
    };
    let kind = Kind::glommio(None, &limits).unwrap();
    for round in 0..600_u32 {
        let busy = Duration::from_micros(u64::from(round % 8) * 20);
        let done = host::run(&kind, move |host| async move {
            let start = Instant::now();
            while start.elapsed() < busy {}
            assert!(!host.is_native());
            round
        });
        assert_eq!(done.unwrap(), round);
    }
}
