//! What a shard is at: for its own record of turns that took too long, and for the thread that watches it.
//!
//! A turn says what it does by a name: the type of a task's future, of a message, of a handler, or a phase of
//! the turn itself. Between two names stands one reading of the CPU's counter, so that of a turn that was too
//! long the longest step is known.
//!
//! # Rules (SAFETY comments cite these numbers)
//! 1. `doing` holds a `Name`, a plain function pointer, and nothing else, at all times.
//! 2. A pulse has one writer, its shard. Readers may see its fields of different moments: what they conclude must
//!    hold all the same.
//!
//! Not here: who reads it (the node), and how often.

use std::cell::Cell;
use std::mem::transmute;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::shard::with_current;

/// A name that costs nothing to make: most are `std::any::type_name::<T>`.
pub type Name = fn() -> &'static str;

macro_rules! phases {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $(pub(crate) fn $name() -> &'static str { $text })*
    };
}

phases! {
    nothing = "nothing";
    completions = "completions of the kernel";
    mailbox = "a message of another thread";
    lanes = "messages of other shards";
    timers = "timers";
    flush = "sending, or the kernel";
}

/// What a shard shows of its turns. Written by relaxed stores to a cache line that nobody else writes.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Twice the number of the turn, and one more while it lasts.
    turn: AtomicU64,
    /// When the turn began, or its sleep, on the shard's own clock.
    since_ns: AtomicU64,
    doing: AtomicPtr<()>,
}

impl Pulse {
    pub(crate) fn new() -> Pulse {
        Pulse {
            turn: AtomicU64::new(0),
            since_ns: AtomicU64::new(0),
            doing: AtomicPtr::new(nothing as Name as *mut ()),
        }
    }

    #[inline]
    pub(crate) fn begin(&self, now_ns: u64) {
        self.since_ns.store(now_ns, Ordering::Relaxed);
        self.turn.store((self.turn.load(Ordering::Relaxed) | 1) + 2, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn sleep(&self, now_ns: u64) {
        self.since_ns.store(now_ns, Ordering::Relaxed);
        self.turn.store(self.turn.load(Ordering::Relaxed) & !1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn note(&self, name: Name) {
        self.doing.store(name as *mut (), Ordering::Relaxed);
    }

    fn doing(&self) -> Name {
        let at = self.doing.load(Ordering::Relaxed);
        debug_assert_ne!(at, ptr::null_mut());
        // SAFETY: rule 1: what stands there was made from a `Name`, and function pointers live for ever.
        unsafe { transmute::<*mut (), Name>(at) }
    }

    pub(crate) fn read(&self) -> Reading {
        let turn = self.turn.load(Ordering::Relaxed);
        Reading {
            turn: turn >> 1,
            in_turn: turn & 1 == 1,
            since_ns: self.since_ns.load(Ordering::Relaxed),
            doing: self.doing()(),
        }
    }
}

/// What a shard was at, at about this moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reading {
    /// Which turn; grows.
    pub turn: u64,
    /// Whether it was in it, or asleep after it.
    pub in_turn: bool,
    /// When the turn, or the sleep, began: monotonic nanoseconds of the shard's kernel.
    pub since_ns: u64,
    /// The name of what it does.
    pub doing: &'static str,
}

/// Says what the current shard is at from now on, until the next step of its turn. Outside of a shard it does
/// nothing. A store.
#[inline]
pub fn note(name: Name) {
    with_current(|shard| shard.remote.pulse.note(name));
}

/// Which step of the present turn took longest.
pub(crate) struct Steps {
    last: Cell<u64>,
    longest: Cell<u64>,
    name: Cell<Name>,
}

impl Steps {
    pub(crate) fn new() -> Steps {
        Steps { last: Cell::new(0), longest: Cell::new(0), name: Cell::new(nothing) }
    }

    #[inline]
    pub(crate) fn begin(&self) {
        self.last.set(ticks());
        self.longest.set(0);
    }

    /// A step is over; its name stands in the pulse.
    #[inline]
    pub(crate) fn end(&self, pulse: &Pulse) {
        let now = ticks();
        let took = now.wrapping_sub(self.last.replace(now));
        if took > self.longest.get() {
            self.longest.set(took);
            self.name.set(pulse.doing());
        }
    }

    /// The name of the longest.
    pub(crate) fn longest(&self) -> &'static str {
        self.name.get()()
    }
}

/// A counter that grows with time; its unit does not matter, as steps are compared with each other only.
#[inline]
fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: no memory is touched, and every x86-64 CPU has the instruction. A kernel that forbids it to
        // user space (PR_TSC_SIGSEGV) does so at the process's own request only.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let now: u64;
        // SAFETY: reads a register; Linux lets user space read the virtual counter.
        unsafe { std::arch::asm!("mrs {}, cntvct_el0", out(reg) now, options(nomem, nostack)) };
        now
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        // Every step looks as long: the first one is named.
        0
    }
}
