//! Whether this host can run what was asked for, found out before anything is served.
//!
//! Each cause of a failed start has its [`StartError`], which says what to type. What the host is comes in as
//! a [`Host`], read below a root directory, so that tests can show another machine.
//!
//! # Rules
//! 1. A value that somebody set is never changed. One that was left at its default may be lowered to what the
//!    host allows ([`fit`]), and that is said.
//! 2. Nothing here waits: no name is resolved, no other process asked.
//!
//! Not here: starting (`boot`), bounds of values ([`Limits::check`]), locked memory (`locked`).

mod error;
mod locked;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use corelane_base::Limits;
use corelane_sys::kernel;
use corelane_sys::limits::{Resource, Rlimit};
use corelane_sys::socket::{self, ListenOptions};
use corelane_uring::{Features, Lacking, Ring, RingConfig, SetupError};

use crate::config::{Listen, ShardHost};
use crate::placement::{self, Placement, Wish};
pub use error::{CpuRefusal, StartError};
pub use locked::{HOST_MEMLOCK_MIN, RELEASE_CHARGED, ring_bytes};

/// The oldest kernel whose rings have all that a shard builds on.
pub const RELEASE_MIN: (u32, u32) = (6, 1);

/// Plain descriptors of a node: half for standard streams, log, signals and the admin interface, half for the
/// first shards.
const PLAIN_DESCRIPTORS: u64 = 64;

/// Plain descriptors of a shard besides its listeners: the ring, the number that others write to it by, and its event.
const SHARD_DESCRIPTORS: u64 = 3;

/// Those of its executor on the glommio host: three rings, the event that wakes it, and the signal of our ring.
const EXECUTOR_DESCRIPTORS: u64 = 5;

/// Headroom that is kept when it is lowered to make room for a `connections_max` that was set.
const HEADROOM_MIN: u32 = 64;

/// Bit of `CAP_SYS_ADMIN` in a capability mask (`linux/capability.h`).
const CAP_SYS_ADMIN: u32 = 21;

/// What a start needs to know about the machine and the process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// Where `proc` and `sys` are; `/` outside of tests.
    pub root: PathBuf,
    /// Major and minor release of the kernel.
    pub release: (u32, u32),
    /// The limit of open files.
    pub nofile: u64,
    /// The limit of locked memory, bytes; none where it does not apply (`CAP_IPC_LOCK`) or is infinite.
    pub memlock: Option<u64>,
    /// The limit of locked memory, bytes, whether or not it applies: glommio asks for no more than this.
    pub memlock_set: u64,
    /// The CPUs this process may use, rising.
    pub allowed: Vec<usize>,
}

impl Host {
    /// This host. Raises the soft limits of open files and locked memory to the hard ones.
    ///
    /// # Errors
    /// [`StartError::System`].
    pub fn this() -> Result<Host, StartError> {
        let step = |step| move |error| StartError::System { step, error };
        let allowed = corelane_sys::cpu::allowed_cpus().map_err(step("read this process's CPUs"))?;
        let nofile = corelane_sys::limits::raise_nofile().map_err(step("read the limit of open files"))?;
        let memlock =
            corelane_sys::limits::raise_memlock().map_err(step("read the limit of locked memory"))?;
        Ok(Host::below(Path::new("/"), nofile, memlock, allowed))
    }

    /// The host whose `proc` and `sys` are below `root`.
    pub fn below(root: &Path, nofile: Rlimit, memlock: Rlimit, allowed: Vec<usize>) -> Host {
        let named = kernel::sysctl(root, "kernel.osrelease").ok();
        let release = named.and_then(|text| release_of(&text)).unwrap_or_else(kernel::release);
        let exempt = corelane_sys::limits::has_cap_ipc_lock(root).unwrap_or(false);
        let memlock_set = memlock.soft;
        let memlock = (!exempt && memlock_set != u64::MAX).then_some(memlock_set);
        Host { root: root.to_owned(), release, nofile: nofile.soft, memlock, memlock_set, allowed }
    }

    /// Whether the kernel lets this process make rings, as far as it says so.
    ///
    /// # Errors
    /// [`StartError::Kernel`], [`StartError::Disabled`].
    pub fn check_kernel(&self) -> Result<(), StartError> {
        if self.release < RELEASE_MIN {
            return Err(StartError::Kernel { release: self.release });
        }
        let group = kernel::io_uring_group(&self.root).filter(|&group| group >= 0);
        match kernel::io_uring_disabled(&self.root) {
            Some(2) => Err(StartError::Disabled { level: 2, group: None }),
            Some(1) if !self.is_admin() && !group.is_some_and(|group| self.is_in(group)) => {
                Err(StartError::Disabled { level: 1, group })
            }
            _ => Ok(()),
        }
    }

    fn is_admin(&self) -> bool {
        let mask = kernel::status_field(&self.root, "CapEff").ok();
        let mask = mask.and_then(|text| u64::from_str_radix(&text, 16).ok());
        mask.is_some_and(|mask| mask >> CAP_SYS_ADMIN & 1 == 1)
    }

    /// Whether the group is the effective one (third of `Gid`) or a further one of this process.
    fn is_in(&self, group: i32) -> bool {
        let group = group.to_string();
        let effective = kernel::status_field(&self.root, "Gid").unwrap_or_default();
        let further = kernel::status_field(&self.root, "Groups").unwrap_or_default();
        effective.split_whitespace().nth(1) == Some(&group) || further.split_whitespace().any(|g| g == group)
    }

    /// Whether there is such a CPU at all. Where the kernel shows none, every number may be one.
    pub(crate) fn has_cpu(&self, cpu: usize) -> bool {
        let cpus = self.root.join("sys/devices/system/cpu");
        !cpus.is_dir() || cpus.join(format!("cpu{cpu}")).is_dir()
    }
}

/// The two leading numbers of a release like `6.18.44-generic`.
fn release_of(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What a start asks of its host.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// Where it listens.
    pub listen: &'a [Listen],
    /// Where it listens for Redis clients.
    pub resp_listen: &'a [Listen],
    /// Where its admin interface listens, if it does.
    pub admin: Option<SocketAddr>,
    /// Those of them that listen already: their sockets were handed over.
    pub handed: &'a [Listen],
    /// Every maximum of a shard.
    pub limits: &'a Limits,
    /// How many shards, and where.
    pub wish: Wish<'a>,
    /// Whether memory asks for huge pages.
    pub huge_pages: bool,
    /// Ring features that are left off.
    pub without: Features,
    /// What gives shards their threads.
    pub on: ShardHost,
}

impl Demand<'_> {
    /// Everything that can be known without making a ring, and where each shard runs.
    ///
    /// Binds each address once and lets it go again.
    ///
    /// # Errors
    /// The first [`StartError`].
    pub fn check(&self, host: &Host) -> Result<Placement, StartError> {
        self.limits.check().map_err(StartError::Limits)?;
        host.check_kernel()?;
        let mut placement = placement::place(&self.wish, host, self.limits)?;
        let shards = placement.shards.len();
        let wanted = descriptors_wanted(
            self.limits,
            shards,
            self.listen.len() + self.resp_listen.len(),
            self.without,
            self.on,
        );
        if host.nofile < wanted {
            return Err(StartError::Nofile { wanted, limit: host.nofile });
        }
        locked::check(self.limits, shards, self.on, host)?;
        let places = self.listen.iter().chain(self.resp_listen);
        for place in places.filter(|place| !self.handed.contains(place)) {
            // A second node of the same user would join our reuseport group and take half the connections
            // without a word: find out first.
            let free = match place {
                Listen::Tcp(addr) => socket::probe_bind(*addr, &listen_options(self.limits)),
                Listen::Unix(path) => socket::probe_unix(path),
            };
            free.map_err(|error| StartError::Listen { addr: place.clone(), error })?;
        }
        if let Some(addr) = self.admin {
            socket::probe_bind(addr, &ListenOptions::default())
                .map_err(|error| StartError::Admin { addr, error })?;
        }
        placement.notes.extend(self.huge_pages.then(|| huge_pages_note(host)).flatten());
        Ok(placement)
    }

    /// Makes the rings of `shards` shards side by side, as a start would, and drops them. What executors of the
    /// glommio host need besides was found out by [`Demand::check`].
    ///
    /// The kernel gives their locked memory back a moment later: not for use right before a start.
    ///
    /// # Errors
    /// [`StartError::Ring`].
    pub fn try_rings(&self, shards: usize) -> Result<(Features, Vec<Lacking>), StartError> {
        let config = ring_config(self.limits, self.without);
        let mut rings = Vec::with_capacity(shards);
        for _ in 0..shards {
            rings.push(Ring::new(&config).map_err(|error| StartError::ring(error, self.limits))?);
        }
        Ok(rings
            .first()
            .map_or((Features::NONE, Vec::new()), |ring| (ring.granted(), ring.lacking().to_vec())))
    }
}

/// What to know where huge pages are asked for: the kernel takes the advice, and may not follow it
/// (Documentation/admin-guide/mm/transhuge.rst).
fn huge_pages_note(host: &Host) -> Option<String> {
    const FILE: &str = "sys/kernel/mm/transparent_hugepage/enabled";
    let said = std::fs::read_to_string(host.root.join(FILE)).unwrap_or_default();
    let how = match said.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
        Some(("always" | "madvise", _)) => return None,
        Some((other, _)) => format!("/{FILE} is {other}; allow them with `echo madvise > /{FILE}`"),
        None => "this kernel was built without them".to_owned(),
    };
    Some(format!("huge_pages has no effect: {how}"))
}

/// How a node listens.
pub(crate) fn listen_options(limits: &Limits) -> ListenOptions {
    ListenOptions { backlog: limits.backlog, ..ListenOptions::default() }
}

/// The ring of a shard.
pub(crate) fn ring_config(limits: &Limits, without: Features) -> RingConfig {
    RingConfig {
        entries: limits.submission_entries,
        completion_entries: limits.completion_entries,
        recv_buffers: limits.recv_buffers,
        recv_buffer_bytes: limits.recv_buffer_bytes,
        descriptors: limits.connections_max.saturating_add(limits.descriptors_headroom),
        without,
    }
}

/// The limit of open files that a node needs.
///
/// Each ring's table is bounded by it alone, so shards do not add up. Without tables connections are plain
/// descriptors of the process, and they do.
pub(crate) fn descriptors_wanted(
    limits: &Limits,
    shards: usize,
    listens: usize,
    without: Features,
    on: ShardHost,
) -> u64 {
    let table = u64::from(limits.connections_max) + u64::from(limits.descriptors_headroom);
    let tables = if without.contains(Features::DIRECT) { shards as u64 } else { 1 };
    table.saturating_mul(tables) + plain_descriptors(shards, listens, on)
}

/// Descriptors besides connections: those of each shard come on top once they are more than a few.
fn plain_descriptors(shards: usize, listens: usize, on: ShardHost) -> u64 {
    let of_host = if on == ShardHost::Glommio { EXECUTOR_DESCRIPTORS } else { 0 };
    let of_shards = shards as u64 * (SHARD_DESCRIPTORS + of_host + listens as u64);
    PLAIN_DESCRIPTORS + of_shards.saturating_sub(PLAIN_DESCRIPTORS / 2)
}

/// Lowers limits that were left at their defaults to what `host` allows, for `shards` shards that listen at
/// `listens` places, with rings without some features, on a host of this kind. Says what it did, one line each;
/// nothing if all fits. `is_default` is asked for the name of a limit.
///
/// What it cannot make fit stays, and [`Demand::check`] or the kernel refuses it.
pub fn fit(
    limits: &mut Limits,
    is_default: &dyn Fn(&str) -> bool,
    shards: usize,
    listens: usize,
    (without, on): (Features, ShardHost),
    host: &Host,
) -> Vec<String> {
    let descriptors = fit_descriptors(limits, is_default, (shards, listens), (without, on), host);
    descriptors.into_iter().chain(locked::fit(limits, is_default, shards, on, host)).collect()
}

fn fit_descriptors(
    limits: &mut Limits,
    is_default: &dyn Fn(&str) -> bool,
    (shards, listens): (usize, usize),
    (without, on): (Features, ShardHost),
    host: &Host,
) -> Option<String> {
    let wanted = descriptors_wanted(limits, shards, listens, without, on);
    if wanted <= host.nofile {
        return None;
    }
    let tables = if without.contains(Features::DIRECT) { shards.max(1) as u64 } else { 1 };
    let plain = plain_descriptors(shards, listens, on);
    let room = u32::try_from(host.nofile.saturating_sub(plain) / tables).unwrap_or(u32::MAX);
    let (connections, headroom) = match (is_default("connections_max"), is_default("descriptors_headroom")) {
        (true, true) => {
            let headroom = (room / 8).clamp(16, limits.descriptors_headroom.max(16));
            (room.saturating_sub(headroom), headroom)
        }
        (true, false) => (room.saturating_sub(limits.descriptors_headroom), limits.descriptors_headroom),
        (false, true) => (limits.connections_max, room.saturating_sub(limits.connections_max)),
        (false, false) => return None,
    };
    let lowered = headroom < limits.descriptors_headroom;
    if connections == 0 || (lowered && headroom < HEADROOM_MIN && !is_default("connections_max")) {
        return None;
    }
    let mut said = Vec::new();
    for (name, now, old) in [
        ("connections_max", connections, &mut limits.connections_max),
        ("descriptors_headroom", headroom, &mut limits.descriptors_headroom),
    ] {
        if now != *old {
            said.push(format!("{name} is {now} instead of {old}"));
            *old = now;
        }
    }
    let limit = host.nofile;
    Some(format!(
        "the limit of open files is {limit}, so {}; `ulimit -n {wanted}` before the start allows all",
        said.join(" and ")
    ))
}

/// What to type when a ring cannot be made.
fn cure(error: &SetupError, limits: &Limits) -> String {
    let root = Path::new("/");
    match error {
        SetupError::Enosys => "run Linux 6.1 or newer with io_uring built in, outside of gVisor, and allow \
                               io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp \
                               profile"
            .to_owned(),
        SetupError::TooOld { .. } => {
            let (major, minor) = kernel::release();
            format!("this kernel is {major}.{minor}: run Linux 6.1 or newer")
        }
        SetupError::Disabled { .. } if kernel::io_uring_disabled(root).unwrap_or(0) > 0 => {
            "allow it with `sysctl -w kernel.io_uring_disabled=0`".to_owned()
        }
        SetupError::Disabled { .. } if kernel::seccomp_mode(root) == Some(2) => {
            "this process runs under a seccomp filter: allow io_uring_setup, io_uring_enter and \
             io_uring_register in the container's profile (docker run --security-opt seccomp=FILE)"
                .to_owned()
        }
        SetupError::Disabled { .. } => "kernel.io_uring_disabled and seccomp allow it, so a security module \
                                        does not: look for io_uring in the log of SELinux or AppArmor"
            .to_owned(),
        SetupError::Memlock { .. } | SetupError::Buffers { .. } => {
            let bytes = ring_bytes(limits);
            let limit = match Resource::Memlock.get() {
                Ok(Rlimit { soft: u64::MAX, .. }) | Err(_) => "unlimited".to_owned(),
                Ok(limit) => format!("{} bytes", limit.soft),
            };
            format!(
                "one ring needs {bytes} bytes of locked memory (twice that during a hot restart), the limit is \
                 {limit} for all rings of this user: raise it with `ulimit -l {}` (in a unit: \
                 LimitMEMLOCK=infinity), or lower completion_entries",
                (2 * bytes).div_ceil(1024)
            )
        }
        SetupError::Table { descriptors, .. } => {
            format!("raise the limit of open files with `ulimit -n {descriptors}`, or lower connections_max")
        }
        SetupError::Other { step, .. } => format!("this happened at: {step}"),
    }
}

impl StartError {
    /// A ring that cannot be made, with what to do about it on this host.
    pub(crate) fn ring(error: SetupError, limits: &Limits) -> StartError {
        StartError::Ring { error, cure: cure(&error, limits) }
    }
}
