//! What a simulated kernel is made of: sizes, times, the seed, and how often each fault happens.
//!
//! Not here: what a fault does (the module of the operation it hits).

use std::num::NonZeroU64;
use std::time::Duration;

use corelane_base::Limits;

use crate::disk::Disk;

/// Something that goes wrong, or merely otherwise than in the usual case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A receive delivers fewer bytes than wait and fit.
    ShortRecv,
    /// A send takes fewer bytes than it was given and the link has room for.
    PartialSend,
    /// A completion or a segment comes late, by at most [`SimConfig::delay_max`]. Completions of different
    /// sockets overtake each other; those of one receive, or the bytes of one stream, never.
    Delay,
    /// A multishot operation ends with a success that has no `more`.
    MultishotEnd,
    /// A receive ends with `ENOBUFS` although buffers are free.
    NoBuffers,
    /// `enter` returns before anything is there.
    EarlyReturn,
    /// `enter` does nothing at all, as if interrupted before it began.
    EmptyEnter,
    /// `enter` hands over only some of the operations pushed, and does not sleep.
    PartialSubmit,
    /// `push` gives the operation back although there is room.
    SubmissionFull,
    /// A completion goes to the overflow list although the queue has room: only the next `enter` brings it.
    CompletionOverflow,
    /// A read or write of a file moves fewer bytes than asked.
    ShortFile,
    /// The link is cut while a receive or send is under way: both ends see a reset.
    Reset,
    /// A send fails with `EPIPE`; the link is cut.
    SendPipe,
    /// A send fails with `ECONNRESET`; the link is cut.
    SendReset,
    /// An accept fails with `ECONNABORTED`; that peer is cut.
    AcceptAborted,
    /// An accept fails with `ENFILE` although descriptors are free; that peer sees the end of the stream.
    AcceptTableFull,
    /// A connect fails with `ECONNREFUSED`.
    ConnectRefused,
    /// A connect fails with `ETIMEDOUT` after [`SimConfig::connect_timeout`].
    ConnectTimeout,
    /// An open that creates, or a write, fails with `ENOSPC`.
    DiskFull,
    /// An open, read, write or sync fails with `EIO`. After a failed sync the writes before it are not on
    /// the disk, and the next sync does not bring them there (as Linux does).
    DiskError,
}

impl Fault {
    /// Every fault, in the order of the enum.
    pub const ALL: [Fault; 20] = [
        Fault::ShortRecv,
        Fault::PartialSend,
        Fault::Delay,
        Fault::MultishotEnd,
        Fault::NoBuffers,
        Fault::EarlyReturn,
        Fault::EmptyEnter,
        Fault::PartialSubmit,
        Fault::SubmissionFull,
        Fault::CompletionOverflow,
        Fault::ShortFile,
        Fault::Reset,
        Fault::SendPipe,
        Fault::SendReset,
        Fault::AcceptAborted,
        Fault::AcceptTableFull,
        Fault::ConnectRefused,
        Fault::ConnectTimeout,
        Fault::DiskFull,
        Fault::DiskError,
    ];

    /// The ones that code which is right must survive without a peer noticing: no connection is lost, no
    /// byte is missing.
    pub const BENIGN: [Fault; 11] = [
        Fault::ShortRecv,
        Fault::PartialSend,
        Fault::Delay,
        Fault::MultishotEnd,
        Fault::NoBuffers,
        Fault::EarlyReturn,
        Fault::EmptyEnter,
        Fault::PartialSubmit,
        Fault::SubmissionFull,
        Fault::CompletionOverflow,
        Fault::ShortFile,
    ];
}

const PPM: u32 = 1_000_000;

/// How often each [`Fault`] happens, to a millionth.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Faults {
    ppm: [u32; Fault::ALL.len()],
}

impl Faults {
    /// Nothing goes wrong.
    pub const fn none() -> Faults {
        Faults { ppm: [0; Fault::ALL.len()] }
    }

    /// Every fault with probability `p` each time it could happen. `p` must be within 0 and 0.5: with more,
    /// a loop that tries again may never end.
    pub fn all(p: f64) -> Faults {
        Faults::of(&Fault::ALL, p)
    }

    /// Those of [`Fault::BENIGN`], with probability `p`, 0 to 0.5.
    pub fn benign(p: f64) -> Faults {
        Faults::of(&Fault::BENIGN, p)
    }

    fn of(faults: &[Fault], p: f64) -> Faults {
        assert!((0.0..=0.5).contains(&p), "a probability for many faults is within 0 and 0.5, not {p}");
        faults.iter().fold(Faults::none(), |all, &fault| all.with(fault, p))
    }

    /// The same, but `fault` with probability `p`, 0 to 1.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to be within 0 and 1
    pub fn with(mut self, fault: Fault, p: f64) -> Faults {
        assert!((0.0..=1.0).contains(&p), "a probability is within 0 and 1, not {p}");
        self.ppm[fault as usize] = (p * f64::from(PPM)).round() as u32;
        self
    }

    pub(crate) fn millionths(&self, fault: Fault) -> u64 {
        self.ppm[fault as usize].into()
    }
}

/// Millionths in one: what [`Faults::millionths`] is a part of.
pub(crate) const MILLION: u64 = PPM as u64;

/// Sizes and times of a simulated kernel and its world. Sizes are those of [`Limits::default`] unless said.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Everything random comes from it.
    pub seed: u64,
    /// What goes wrong, and how often.
    pub faults: Faults,
    /// Buffers of the receive ring. All lent: receives end with `ENOBUFS`.
    pub recv_buffers: u16,
    /// Bytes of one receive buffer.
    pub recv_buffer_bytes: u32,
    /// Sockets and files open at once. At it: accepts fail with `ENFILE` and lose the connection.
    pub descriptors: u32,
    /// Entries of the submission queue. Full: `push` gives the operation back.
    pub submission_entries: u32,
    /// Entries of the completion queue. Full: the rest waits for the next `enter`.
    pub completion_entries: u32,
    /// Operations under way at once, 65,536 by default. At it: `push` gives the operation back.
    pub operations_max: u32,
    /// Connections that wait at a listener, or at a served address. At it: refused.
    pub backlog: u32,
    /// Bytes one direction of a link holds, on the wire and unread at its end (both socket buffers of a real
    /// one), 64 KiB by default. At it: writes take nothing and sends wait.
    pub link_bytes: u32,
    /// Bytes a peer reads without being asked, 64 MiB by default. At it: it stops reading.
    pub inbox_bytes_max: usize,
    /// From one end of a link to the other. Zero by default.
    pub latency: Duration,
    /// Bytes a second in each direction of a link; none by default: bytes take no time.
    pub bandwidth: Option<NonZeroU64>,
    /// Longest that [`Fault::Delay`] adds, 1 ms by default.
    pub delay_max: Duration,
    /// A connect that nobody answers fails with `ETIMEDOUT` after it: 127 s by default, what six
    /// retransmissions of a SYN come to (tcp(7), `tcp_syn_retries`).
    pub connect_timeout: Duration,
    /// One file operation. 50 us by default.
    pub disk_latency: Duration,
    /// Files that are there at the start.
    pub disk: Disk,
    /// Bytes of all files together, 256 MiB by default. Past it: `ENOSPC`.
    pub disk_bytes_max: u64,
    /// What every `enter` adds to the clock, 1 us by default.
    pub turn_cost: Duration,
    /// What every reading of the clock adds to it. Zero by default; code that spins until a time is over
    /// never comes to an end without it.
    pub clock_cost: Duration,
    /// Whether the kernel can tell the peer of a socket ([`corelane_base::Abilities::peer_name`]); true by
    /// default.
    pub peer_name: bool,
    /// Wall clock at the start, seconds since 1970-01-01T00:00:00Z: 1,700,000,000 by default.
    pub unix_start: u64,
    /// A sleep jumps to its end where no event of the world comes first (true, the default). False: it
    /// returns early instead, so that no timer fires unless [`World::advance`](crate::World::advance) says so.
    pub free_running: bool,
    /// Entries of the log that are kept for printing, 4,096 by default. Past it the oldest go; the trace
    /// counts all.
    pub log_entries_max: usize,
}

impl SimConfig {
    /// The sizes of `limits`; no faults, seed 0, no latency.
    pub fn of(limits: &Limits) -> SimConfig {
        SimConfig {
            seed: 0,
            faults: Faults::none(),
            recv_buffers: limits.recv_buffers,
            recv_buffer_bytes: limits.recv_buffer_bytes,
            descriptors: limits.connections_max + limits.descriptors_headroom,
            submission_entries: limits.submission_entries,
            completion_entries: limits.completion_entries,
            operations_max: 65_536,
            backlog: limits.backlog,
            link_bytes: 64 << 10,
            inbox_bytes_max: 64 << 20,
            latency: Duration::ZERO,
            bandwidth: None,
            delay_max: Duration::from_millis(1),
            connect_timeout: Duration::from_secs(127),
            disk_latency: Duration::from_micros(50),
            disk: Disk::new(),
            disk_bytes_max: 256 << 20,
            turn_cost: Duration::from_micros(1),
            clock_cost: Duration::ZERO,
            peer_name: true,
            unix_start: 1_700_000_000,
            free_running: true,
            log_entries_max: 4_096,
        }
    }

    /// The defaults, with this seed and these faults.
    pub fn seeded(seed: u64, faults: Faults) -> SimConfig {
        SimConfig { seed, faults, ..SimConfig::default() }
    }
}

impl Default for SimConfig {
    fn default() -> SimConfig {
        SimConfig::of(&Limits::default())
    }
}
