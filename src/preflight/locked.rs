//! Locked memory: what rings and executors are charged, and how defaults are made to fit.
//!
//! The kernel counts per user, over all processes, and leaves out those with `CAP_IPC_LOCK`. A ring is charged as it is
//! made. An executor of the glommio host is charged for its own three rings, and for the memory for direct I/O
//! (`host_io_bytes`), which it registers with each of them: those pages count three times.
//!
//! # Rules
//! 1. What is registered must not take what a ring needs. glommio only warns when it cannot register, so on a host
//!    where all of it does not fit, who comes first would decide whether a shard gets its ring.
//!
//! Not here: the limit itself (`Host`), what to type when a ring is refused (`cure`).

use corelane_base::Limits;

use super::{Host, StartError};
use crate::config::ShardHost;

/// The first kernel that charges rings to the limit of locked memory again, after 5.12 had stopped it:
/// their memory became regions. Tried on 6.18 only.
pub const RELEASE_CHARGED: (u32, u32) = (6, 14);

/// The limit of locked memory below which glommio makes no executor, in bytes. It looks at the limit alone, not at
/// who is exempt from it (glommio-ng 0.12, `Reactor::new`).
pub const HOST_MEMLOCK_MIN: u64 = 512 << 10;

/// Rings of an executor: for direct I/O, for what is urgent, and for the rest.
const EXECUTOR_RINGS: u64 = 3;

/// The least that an executor sets aside for direct I/O, bytes; also the least of `host_io_bytes`.
const HOST_IO_MIN: u64 = 64 << 10;

/// Queues and buffers below which a ring is not worth having: one turn of a few connections.
const RING_MIN: u16 = 64;

/// Bytes of locked memory that one ring is charged: pages of its submission queue, of its completion queue with
/// the index array of the former, and of its buffer ring.
pub fn ring_bytes(limits: &Limits) -> u64 {
    let buffers = (u64::from(limits.recv_buffers) * 16).next_multiple_of(corelane_sys::page_len() as u64);
    queue_bytes(limits.submission_entries, limits.completion_entries) + buffers
}

/// As [`ring_bytes`], without the buffer ring.
fn queue_bytes(submission: u32, completion: u32) -> u64 {
    /// `struct io_rings` before the entries, with its padding.
    const RINGS_HEAD: u64 = 320;
    let page = corelane_sys::page_len() as u64;
    let submission = u64::from(submission);
    let completion = u64::from(completion).next_power_of_two();
    let parts = [submission * 64, RINGS_HEAD + completion * 16 + submission * 4];
    parts.iter().map(|bytes| bytes.next_multiple_of(page)).sum()
}

/// What one shard is charged, bytes.
struct Charge {
    /// For its own ring.
    ring: u64,
    /// For the rings of its executor.
    executor: u64,
    /// For what its executor registers.
    pinned: u64,
}

impl Charge {
    fn of(limits: &Limits, on: ShardHost, host: &Host) -> Charge {
        let charges_rings = u64::from(host.release >= RELEASE_CHARGED);
        let executors = u64::from(on == ShardHost::Glommio);
        // The completion queue of a ring that does not ask is twice as long as the other (io_uring_setup(2)).
        let ring = queue_bytes(limits.host_ring_entries, limits.host_ring_entries.saturating_mul(2));
        Charge {
            ring: charges_rings * ring_bytes(limits),
            executor: charges_rings * executors * EXECUTOR_RINGS * ring,
            pinned: executors * EXECUTOR_RINGS * limits.host_io_bytes,
        }
    }

    /// All but what is registered.
    fn rings(&self) -> u64 {
        self.ring + self.executor
    }

    fn total(&self) -> u64 {
        self.rings() + self.pinned
    }
}

/// Whether executors can be made here; nothing to find out on the native host, where the kernel says it.
///
/// # Errors
/// [`StartError::HostMemlock`]. Not where our rings alone are too large: what the kernel says then names them.
pub(super) fn check(limits: &Limits, shards: usize, on: ShardHost, host: &Host) -> Result<(), StartError> {
    if on != ShardHost::Glommio {
        return Ok(());
    }
    let shards = shards.max(1) as u64;
    let charge = Charge::of(limits, on, host);
    let total = charge.total().saturating_mul(shards);
    if host.memlock_set < HOST_MEMLOCK_MIN {
        let wanted = if host.memlock.is_some() { total.max(HOST_MEMLOCK_MIN) } else { HOST_MEMLOCK_MIN };
        return Err(StartError::HostMemlock { wanted, limit: host.memlock_set, pinned: None });
    }
    match host.memlock {
        Some(limit) if charge.ring * shards <= limit && total > limit => {
            let pinned = Some(charge.pinned.saturating_mul(shards));
            Err(StartError::HostMemlock { wanted: total, limit, pinned })
        }
        _ => Ok(()),
    }
}

/// As [`fit`](super::fit): rings first, then what executors register gets what is left.
pub(super) fn fit(
    limits: &mut Limits,
    is_default: &dyn Fn(&str) -> bool,
    shards: usize,
    on: ShardHost,
    host: &Host,
) -> Option<String> {
    let limit = host.memlock?;
    let shards = shards.max(1) as u64;
    // Twice: a hot restart has the rings of both processes at once, and even after a cold one the kernel takes
    // a moment to give back those of the first.
    let room = limit / 2 / shards;
    let wanted = Charge::of(limits, on, host).total();
    if wanted <= room {
        return None;
    }
    let rings = |limits: &Limits| Charge::of(limits, on, host).rings();
    let mut said = Vec::new();
    let names = ["submission_entries", "completion_entries", "recv_buffers"];
    let mut small = limits.clone();
    while rings(&small) > room && small.submission_entries > u32::from(RING_MIN) {
        small.submission_entries /= 2;
        small.completion_entries /= 2;
        small.recv_buffers = (small.recv_buffers / 2).max(RING_MIN);
    }
    if small != *limits && rings(&small) * shards <= limit && names.iter().all(|name| is_default(name)) {
        *limits = small;
        said.push(format!(
            "submission_entries is {}, completion_entries {} and recv_buffers {}",
            limits.submission_entries, limits.completion_entries, limits.recv_buffers
        ));
    }
    let each = room.saturating_sub(rings(limits)) / EXECUTOR_RINGS;
    let each = (each - each % corelane_sys::page_len() as u64).max(HOST_IO_MIN);
    if on == ShardHost::Glommio && each < limits.host_io_bytes && is_default("host_io_bytes") {
        limits.host_io_bytes = each;
        said.push(format!("host_io_bytes is {each}"));
    }
    let wanted = (2 * shards * wanted).div_ceil(1024);
    (!said.is_empty()).then(|| {
        format!(
            "the limit of locked memory is {limit} bytes, so {}; `ulimit -l {wanted}` before the start allows all, a \
             hot restart included",
            said.join("; ")
        )
    })
}
