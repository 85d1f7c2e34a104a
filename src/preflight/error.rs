//! Why a node could not start, each with what to type.
//!
//! Not here: finding it out (`preflight`, `boot`).

use std::fmt;
use std::io;
use std::net::SocketAddr;

use corelane_base::{LimitError, ShardId};
use corelane_sys::cgroup::MemoryLimit;
use corelane_sys::cpu::format_cpu_list;
use corelane_uring::SetupError;

use crate::config::Listen;
use crate::placement::mib;

/// Why a node could not start.
#[derive(Debug)]
pub enum StartError {
    /// A limit that cannot work.
    Limits(LimitError),
    /// The kernel is older than [`RELEASE_MIN`](super::RELEASE_MIN).
    Kernel {
        /// Major and minor release.
        release: (u32, u32),
    },
    /// `kernel.io_uring_disabled` keeps this process from making rings.
    Disabled {
        /// 1 for all but one group, 2 for everybody.
        level: u8,
        /// That group, where there is one.
        group: Option<i32>,
    },
    /// A place that cannot be listened at.
    Listen {
        /// Which.
        addr: Listen,
        /// Why.
        error: io::Error,
    },
    /// An address that the admin interface cannot listen on.
    Admin {
        /// Which.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A CPU that this process cannot use.
    Cpu {
        /// Asked for.
        cpu: usize,
        /// Why not.
        why: CpuRefusal,
        /// Those it may use.
        allowed: Vec<usize>,
    },
    /// More shards than there are CPUs to pin them to.
    Shards {
        /// Asked for.
        wanted: usize,
        /// Physical cores this process may use.
        cores: usize,
        /// CPUs it may use.
        cpus: Vec<usize>,
    },
    /// Less memory than the node needs at its start.
    Memory {
        /// How many shards.
        shards: usize,
        /// Bytes they need.
        wanted: u64,
        /// What the control group allows.
        limit: MemoryLimit,
    },
    /// io_uring is not to be had.
    Ring {
        /// What the kernel said.
        error: SetupError,
        /// What to do about it, worked out from this host.
        cure: String,
    },
    /// Too few file descriptors for what was asked.
    Nofile {
        /// Needed.
        wanted: u64,
        /// Had.
        limit: u64,
    },
    /// The glommio host was asked for, and this build does not have it.
    NoGlommio,
    /// Too little memory may be locked for executors of the glommio host.
    HostMemlock {
        /// Bytes of the limit that it takes.
        wanted: u64,
        /// The limit, bytes.
        limit: u64,
        /// Bytes that executors pin: three times `host_io_bytes` for each shard. None where the limit is below what
        /// glommio asks for before it pins anything.
        pinned: Option<u64>,
    },
    /// Anything else the system refused.
    System {
        /// What was being done.
        step: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// A start hook of the application failed.
    Hook(String),
    /// The snapshot of the keyed store, or its directory, is of no use. Its text says why.
    Snapshot(String),
    /// The second tier of the keyed store cannot begin. Its text says why.
    Upstream(String),
    /// Users of Redis clients that are not understood.
    Users(String),
    /// A shard's thread ended in a panic.
    Panicked(ShardId),
}

fn count(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

/// Why a CPU cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CpuRefusal {
    /// There is none of that number.
    Missing,
    /// It is switched off.
    Offline,
    /// Affinity or cpuset exclude it.
    Forbidden,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Limits(e) => e.fmt(f),
            StartError::NoGlommio => f.write_str(
                "this build has no glommio host; use --host native, or make one that has it with \
                 `cargo build --release --features glommio`",
            ),
            StartError::HostMemlock { wanted, limit, pinned } => {
                write!(f, "the limit of locked memory is {limit} bytes, and the glommio host ")?;
                match pinned {
                    None => write!(f, "needs {wanted}, also as root")?,
                    Some(pinned) => write!(
                        f,
                        "needs {wanted}, {pinned} of them for direct I/O (three times host_io_bytes for each shard)"
                    )?,
                }
                let kib = wanted.div_ceil(1024);
                write!(f, "; raise it with `ulimit -l {kib}` (in a unit: LimitMEMLOCK={wanted}), ")?;
                f.write_str(if pinned.is_some() { "lower host_io_bytes, " } else { "" })?;
                f.write_str("or use --host native")
            }
            StartError::Kernel { release: (major, minor) } => {
                write!(f, "this kernel is Linux {major}.{minor}; run Linux 6.1 or newer")
            }
            StartError::Disabled { level: 1, group: Some(group) } => write!(
                f,
                "kernel.io_uring_disabled is 1: io_uring is for group {group} only; add this user to it, or \
                 allow everybody with `sysctl -w kernel.io_uring_disabled=0`"
            ),
            StartError::Disabled { level: 1, group: None } => write!(
                f,
                "kernel.io_uring_disabled is 1 and no group is excepted; except one with `sysctl -w \
                 kernel.io_uring_group=GID` and add this user to it, or allow everybody with `sysctl -w \
                 kernel.io_uring_disabled=0`"
            ),
            StartError::Disabled { level, .. } => write!(
                f,
                "kernel.io_uring_disabled is {level}: nobody may use io_uring; allow it with `sysctl -w \
                 kernel.io_uring_disabled=0`"
            ),
            StartError::Listen { addr: Listen::Tcp(addr), error }
                if error.kind() == io::ErrorKind::AddrInUse =>
            {
                write!(
                    f,
                    "cannot listen on {addr}: another process does; see which with `ss -ltnp 'sport = :{}'`, or \
                     choose another port with --listen",
                    addr.port()
                )
            }
            StartError::Listen { addr: Listen::Tcp(addr), error }
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                write!(
                    f,
                    "cannot listen on {addr}: {error}; choose a port from 1024 up, or grant it with \
                     `setcap cap_net_bind_service=+ep` on the binary"
                )
            }
            StartError::Listen { addr: Listen::Tcp(addr), error } => write!(
                f,
                "cannot listen on {addr}: {error}; see this host's addresses with `ip -br address`, or choose \
                 another with --listen"
            ),
            StartError::Listen { addr: addr @ Listen::Unix(path), error } => write!(
                f,
                "cannot listen on {addr}: {error}; see who does with `ss -lxp src {}`, or choose another path \
                 with --listen",
                path.display()
            ),
            StartError::Admin { addr, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "the admin interface cannot listen on {addr}: another process does, maybe another node; choose \
                 another port with --admin 127.0.0.1:PORT, or do without one with --admin off"
            ),
            StartError::Admin { addr, error } => write!(
                f,
                "the admin interface cannot listen on {addr}: {error}; choose another address with --admin, or \
                 do without one with --admin off"
            ),
            StartError::Cpu { cpu, why: CpuRefusal::Missing, allowed } => {
                write!(f, "this host has no CPU {cpu}; choose from {} with --cpus", format_cpu_list(allowed))
            }
            StartError::Cpu { cpu, why: CpuRefusal::Offline, allowed } => write!(
                f,
                "CPU {cpu} is offline; choose from {} with --cpus, or bring it up with `echo 1 > \
                 /sys/devices/system/cpu/cpu{cpu}/online`",
                format_cpu_list(allowed)
            ),
            StartError::Cpu { cpu, why: CpuRefusal::Forbidden, allowed } => write!(
                f,
                "CPU {cpu} is not among those this process may use ({}); choose from these with --cpus, widen \
                 the cpuset or `taskset` it runs under, or leave placement to the kernel with --no-pin",
                format_cpu_list(allowed)
            ),
            StartError::Shards { wanted, cores, cpus } if *wanted <= cpus.len() => write!(
                f,
                "{wanted} shards were asked for, and this process may use {} with {} threads; \
                 ask for at most {cores} with --shards, take the threads as well with --smt, or leave placement \
                 to the kernel with --no-pin",
                count(*cores, "physical core"),
                cpus.len()
            ),
            StartError::Shards { wanted, cores, cpus } => {
                let list = format_cpu_list(cpus);
                write!(
                    f,
                    "{wanted} shards were asked for, and this process may use {} ({list}); ",
                    count(cpus.len(), "CPU")
                )?;
                write!(f, "ask for at most {cores} with --shards")?;
                if *cores < cpus.len() {
                    write!(f, " ({} with --smt)", cpus.len())?;
                }
                f.write_str(
                    ", widen the cpuset or `taskset` it runs under, or leave placement to the kernel with --no-pin",
                )
            }
            StartError::Memory { shards, wanted, limit } => {
                let MemoryLimit { bytes, file } = limit;
                let (wanted, file) = (mib(*wanted), file.display());
                let which = if *shards == 1 { "one shard needs" } else { &format!("{shards} shards need") };
                write!(
                    f,
                    "{which} {wanted} MiB at the start, and the memory limit is {} MiB ({file}): ",
                    bytes >> 20
                )?;
                write!(f, "the kernel would kill the node; raise the limit to {wanted} MiB or more, ")?;
                f.write_str(if *shards == 1 { "" } else { "run fewer with --shards, " })?;
                f.write_str("or lower recv_buffers (--limit recv_buffers=N)")
            }
            StartError::Ring { error, cure } => write!(f, "cannot set up io_uring: {error}; {cure}"),
            StartError::Nofile { wanted, limit } => write!(
                f,
                "the limit of open files is {limit}, and connections_max with descriptors_headroom needs \
                 {wanted}; raise it with `ulimit -n {wanted}` (in a unit: LimitNOFILE={wanted}), or lower \
                 connections_max (--limit connections_max=N)"
            ),
            StartError::System { step, error } => write!(f, "cannot {step}: {error}"),
            StartError::Users(text) => write!(f, "resp.users cannot work: {text}"),
            StartError::Hook(text) => write!(f, "a start hook of the application failed: {text}"),
            StartError::Upstream(text) => write!(f, "the second tier of the cache cannot begin: {text}"),
            StartError::Snapshot(text) => write!(f, "the snapshot of the cache is of no use: {text}"),
            StartError::Panicked(id) => write!(f, "shard {} panicked; the log has the place", id.0),
        }
    }
}

impl std::error::Error for StartError {}
