//! Why a node could not start, each with what to type.
//!
//! Not here: finding it out (`preflight`, `boot`).

use std::fmt;
use std::io;
use std::net::SocketAddr;

use corelane_base::{LimitError, ShardId};
use corelane_uring::SetupError;

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
    /// An address that cannot be listened on.
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A CPU that this process may not use.
    Cpu {
        /// Asked for.
        cpu: usize,
        /// Whether the host has it.
        exists: bool,
        /// Those it may use.
        allowed: Vec<usize>,
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
    /// Anything else the system refused.
    System {
        /// What was being done.
        step: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// A start hook of the application failed.
    Hook(String),
    /// A shard's thread ended in a panic.
    Panicked(ShardId),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Limits(e) => e.fmt(f),
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
            StartError::Listen { addr, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {addr}: another process does; see which with `ss -ltnp 'sport = :{}'`, or \
                 choose another port with --listen",
                addr.port()
            ),
            StartError::Listen { addr, error } if error.kind() == io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot listen on {addr}: {error}; choose a port from 1024 up, or grant it with \
                 `setcap cap_net_bind_service=+ep` on the binary"
            ),
            StartError::Listen { addr, error } => write!(
                f,
                "cannot listen on {addr}: {error}; see this host's addresses with `ip -br address`, or choose \
                 another with --listen"
            ),
            StartError::Cpu { cpu, exists: false, allowed } => write!(
                f,
                "this host has no CPU {cpu}; choose from {} with --cpus",
                corelane_sys::cpu::format_cpu_list(allowed)
            ),
            StartError::Cpu { cpu, exists: true, allowed } => write!(
                f,
                "CPU {cpu} is not among those this process may use ({}); choose from these with --cpus, widen \
                 the cpuset or `taskset` it runs under, or leave placement to the kernel with --no-pin",
                corelane_sys::cpu::format_cpu_list(allowed)
            ),
            StartError::Ring { error, cure } => write!(f, "cannot set up io_uring: {error}; {cure}"),
            StartError::Nofile { wanted, limit } => write!(
                f,
                "the limit of open files is {limit}, and connections_max with descriptors_headroom needs \
                 {wanted}; raise it with `ulimit -n {wanted}` (in a unit: LimitNOFILE={wanted}), or lower \
                 connections_max (--limit connections_max=N)"
            ),
            StartError::System { step, error } => write!(f, "cannot {step}: {error}"),
            StartError::Hook(text) => write!(f, "a start hook of the application failed: {text}"),
            StartError::Panicked(id) => write!(f, "shard {} panicked; the log has the place", id.0),
        }
    }
}

impl std::error::Error for StartError {}
