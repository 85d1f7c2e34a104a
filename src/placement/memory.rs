//! What the memory of a node comes to, against what its control groups allow.
//!
//! Counted is what is set aside for shards: rings, receive buffers, pools, lanes. What connections and the
//! application take beyond (`pool_heap_bytes_max`, `inbox_bytes_max`, bodies) is not known here.
//!
//! Not here: the limit of locked memory (`preflight`), what the limits mean (`docs/LIMITS.md`).

use corelane_base::Limits;
use corelane_pools::{LARGE_LEN, MEDIUM_LEN, SMALL_LEN};

use crate::preflight::ring_bytes;

/// The program itself with its control and blocking threads: 2 MiB of its own and 5 MiB of its file that other
/// groups may be charged for, rounded up.
const NODE_BYTES: u64 = 8 << 20;

/// Stack, tables and timers of a shard that does nothing yet, the kernel's share included. A control group was
/// charged 6.6 MiB for each further shard with the default limits (Linux 6.18), 1.7 MiB more than the parts below.
const SHARD_BYTES: u64 = 2 << 20;

/// A receive buffer's part that staggers it over cache sets.
const STAGGER_BYTES: u64 = 64;

/// What the kernel holds for an entry of a ring's table of descriptors.
const TABLE_ENTRY_BYTES: u64 = 8;

/// A request and a response in the lanes between two shards.
const CREDIT_BYTES: u64 = 128;

/// Bytes of `shards` shards once they run and nobody is connected.
pub(super) fn at_start(limits: &Limits, shards: usize) -> u64 {
    let table = u64::from(limits.connections_max) + u64::from(limits.descriptors_headroom);
    let buffer = u64::from(limits.recv_buffer_bytes) + STAGGER_BYTES;
    let shard = SHARD_BYTES
        + ring_bytes(limits)
        + table * TABLE_ENTRY_BYTES
        + u64::from(limits.recv_buffers) * buffer
        + u64::from(limits.pool_small) * SMALL_LEN as u64;
    NODE_BYTES.saturating_add(shard.saturating_mul(shards as u64))
}

/// Bytes once all slots of their pools and lanes between them have been in use.
pub(crate) fn in_use(limits: &Limits, shards: usize) -> u64 {
    let slots =
        u64::from(limits.pool_medium) * MEDIUM_LEN as u64 + u64::from(limits.pool_large) * LARGE_LEN as u64;
    let lanes = (shards as u64).saturating_sub(1) * u64::from(limits.mesh_credits) * CREDIT_BYTES;
    let beyond = slots.saturating_add(lanes).saturating_mul(shards as u64);
    at_start(limits, shards).saturating_add(beyond)
}

/// Whole MiB that hold `bytes`.
pub(crate) fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
