//! Buffers of the shard's pools: lent and given back.
//!
//! Not here: what is written into them (`h1`, `shard`).

use std::hint::black_box;

use corelane_pools::{PoolConfig, Pools};

use super::{Case, OFTEN, SELDOM};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "pool/small",
        about: "a slot of 1 KiB lent and given back",
        ops: OFTEN,
        run: |ops| lend(&PoolConfig::default(), 1 << 10, ops),
    },
    Case {
        name: "pool/medium",
        about: "a slot of 64 KiB lent and given back",
        ops: OFTEN,
        run: |ops| lend(&PoolConfig::default(), 64 << 10, ops),
    },
    Case {
        name: "pool/large",
        about: "a slot of 1 MiB lent and given back",
        ops: OFTEN,
        run: |ops| lend(&PoolConfig::default(), 1 << 20, ops),
    },
    Case {
        name: "pool/heap",
        about: "4 KiB of the heap, when no slot is free: zeroed, and freed",
        ops: SELDOM,
        run: |ops| {
            let none =
                PoolConfig { small_count: 0, medium_count: 0, large_count: 0, ..PoolConfig::default() };
            lend(&none, 4 << 10, ops);
        },
    },
];

fn lend(config: &PoolConfig, len: usize, ops: u64) {
    let pools = Pools::new(config).expect("memory for pools");
    for _ in 0..ops {
        let buf = pools.get(black_box(len));
        assert!(black_box(&buf).is_ok(), "{buf:?}");
    }
    let stats = pools.stats();
    let served: u64 = stats.tiers.iter().map(|tier| tier.hits).sum::<u64>() + stats.heap.served;
    assert_eq!(served, ops);
}
