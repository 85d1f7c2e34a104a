//! Executors of glommio: their start and their end, by the hundred, and what a shard in one takes of the process.
//!
//! Not here: what a shard does inside one (`tests/glommio.rs` of the workspace).
#![cfg(feature = "glommio")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use corelane_base::{Limits, ShardId};
use corelane_exec::Runtime;
use corelane_exec::host::{self, Kind};
use corelane_pools::{PoolConfig, Pools};
use corelane_uring::{Features, Ring, RingConfig};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_shard_that_has_settled_sleeps_without_a_further_descriptor() {
    let limits = Limits { host_io_bytes: 65_536, ..Limits::default() };
    let kind = Kind::glommio(None, &limits).unwrap();
    let (before, after, parks) = host::run(&kind, move |mut host| async move {
        let config = RingConfig {
            entries: 64,
            completion_entries: 256,
            recv_buffers: 8,
            recv_buffer_bytes: 4_096,
            descriptors: 64,
            without: Features::NONE,
        };
        let pools = Pools::new(&PoolConfig::default()).unwrap();
        let mut runtime = Runtime::new(ShardId(0), limits, pools, Ring::new(&config).unwrap(), None);
        host.settle(&mut runtime).unwrap();
        let before = descriptors();
        let task = runtime.shard().spawn(async {
            corelane_exec::sleep(Duration::from_millis(20)).await;
            corelane_exec::current().stop();
        });
        task.unwrap().detach();
        host.run(&mut runtime).await.unwrap();
        (before, descriptors(), runtime.shard().stats.parks.get())
    })
    .unwrap();
    assert!(parks > 0, "it slept");
    assert_eq!(before, after);
}

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
