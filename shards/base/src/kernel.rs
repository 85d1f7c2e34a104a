//! The trait a shard sees of the world: io_uring in production, a simulator in tests.
//!
//! # Rules
//! 1. One kernel belongs to one shard and is used from its thread only; [`Unpark`] alone may cross threads.
//! 2. `push` and `pop` make no system call; only `enter` does.
//! 3. `enter(Wait::Until(..))` returns when a completion is there, somebody unparked the shard, or the time
//!    is over; it may return early for no reason.

use std::fmt;
use std::sync::Arc;

use crate::ids::BufferId;
use crate::op::{Completion, Op};

/// How long [`Kernel::enter`] may sleep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most this many nanoseconds; `None` is without end.
    Until(Option<u64>),
}

/// The time, read once a turn.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Clock {
    /// Monotonic, nanoseconds from an arbitrary start.
    pub mono_ns: u64,
    /// Seconds since 1970-01-01T00:00:00Z, for `Date` only.
    pub unix_s: u64,
}

/// Wakes a shard that sleeps in [`Kernel::enter`]; from any thread, any number of times. Costs a system
/// call, so callers ring only when the shard said that it sleeps.
pub trait Unpark: Send + Sync + fmt::Debug {
    /// Makes the present or next sleep end at once.
    fn unpark(&self);

    /// Whether the kernel's signal ([`Signal`]) stands and was not drained. At most one system call.
    fn is_signalled(&self) -> bool {
        false
    }

    /// The descriptor of the kernel's ring, where other rings may write to it ([`Op::Hand`]). While this handle
    /// lives it names that ring or, once the ring is gone, none.
    fn ring(&self) -> Option<i32> {
        None
    }
}

/// What a kernel can do beyond what every one can. Asked once, when the shard is made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Abilities {
    /// [`Op::Hand`] works.
    pub hand: bool,
    /// A [`Sock`](crate::Sock) is a descriptor of the process: any shard may use one of another, once told
    /// of it.
    pub shared_socks: bool,
    /// [`Op::PeerName`] works.
    pub peer_name: bool,
    /// [`Op::Configure`] works.
    pub sock_options: bool,
    /// [`Op::Bind`] works.
    pub bind: bool,
}

/// Counters of a kernel since it was made. All only grow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KernelStats {
    /// Calls into the kernel.
    pub enters: u64,
    /// Operations handed over.
    pub submitted: u64,
    /// Completions taken.
    pub completed: u64,
    /// Times the completion queue overflowed and was flushed by an enter.
    pub cq_overflows: u64,
    /// Receives ended because every buffer of the ring was in use.
    pub no_buffers: u64,
    /// Completions dropped by the kernel. Anything but 0 is a fault of the host.
    pub dropped: u64,
}

/// What a shard runs on.
pub trait Kernel {
    /// The bytes of [`Op::Send`].
    type Bytes;

    /// Queues one operation.
    ///
    /// # Errors
    /// Gives it back when the submission queue or the table of operations under way is full: enter, take
    /// completions, and try again.
    #[allow(clippy::result_large_err)] // the operation itself comes back
    fn push(&mut self, op: Op<Self::Bytes>) -> Result<(), Op<Self::Bytes>>;

    /// Operations queued and not yet handed over, or completions that only an enter brings.
    fn needs_enter(&self) -> bool;

    /// Hands over what was pushed, runs pending work, and sleeps if asked to and nothing is there to take.
    ///
    /// # Errors
    /// An errno that is not part of normal life (`EINTR`, `ETIME`, `EBUSY`, `EAGAIN` are handled inside).
    fn enter(&mut self, wait: Wait) -> std::io::Result<()>;

    /// As [`Kernel::enter`], but a sleep may go on for up to `within_ns` from its start although a completion is there, so
    /// that the turn has several. Those of others ([`Unpark`]) wait as long. A kernel that cannot tell just enters.
    ///
    /// # Errors
    /// As [`Kernel::enter`].
    fn gather(&mut self, wait: Wait, within_ns: u64) -> std::io::Result<()> {
        let _ = within_ns;
        self.enter(wait)
    }

    /// CPU time of the thread, what the kernel did in its name included, nanoseconds; 0 from a kernel without one.
    fn cpu_ns(&mut self) -> u64 {
        0
    }

    /// Takes the next completion, oldest first.
    fn pop(&mut self) -> Option<Completion<Self::Bytes>>;

    /// The bytes of a received buffer that has not been recycled. `len` is the completion's result.
    fn received(&self, buffer: BufferId, len: u32) -> &[u8];

    /// Gives a received buffer back to the ring.
    fn recycle(&mut self, buffer: BufferId);

    /// Reads the clocks.
    fn clock(&mut self) -> Clock;

    /// [`Clock::mono_ns`] alone, where that costs less.
    fn mono_ns(&mut self) -> u64 {
        self.clock().mono_ns
    }

    /// A handle to end this kernel's sleep from elsewhere.
    fn unpark(&self) -> Arc<dyn Unpark>;

    /// What it can do beyond the rest.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// Counters so far.
    fn stats(&self) -> KernelStats;
}

/// A kernel that can tell its host, by a descriptor, that there is something to take: for a host whose threads
/// sleep elsewhere than in [`Kernel::enter`].
///
/// Order of a sleep: [`Signal::set_signal`] on; enter if [`Kernel::needs_enter`]; look at [`Signal::is_quiet`]; wait for
/// the descriptor to be readable; signal off; [`Signal::drain_signal`] if it was. What comes after the first step makes
/// the descriptor readable, so nothing is slept over.
pub trait Signal: Kernel {
    /// A descriptor that becomes readable when completions or work to run arrive while the signal is on, and stays so
    /// until drained. Made at the first call, and open as long as the kernel and its [`Kernel::unpark`] are.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    fn signal_fd(&mut self) -> std::io::Result<i32>;

    /// Whether arrivals are told from now on. Costs no system call; while it is on, each arrival costs a write inside
    /// the system.
    fn set_signal(&mut self, on: bool);

    /// Takes back what was told, and says whether anything was. One system call.
    fn drain_signal(&mut self) -> bool;

    /// Whether there is nothing to take, and nothing that only an enter would bring.
    fn is_quiet(&mut self) -> bool;
}
