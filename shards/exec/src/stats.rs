//! Counters of a shard: cells with one writer. Read on the shard, or copied out by a message to it.

use std::cell::Cell;

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the shard started. All only grow, gauges aside.
        #[derive(Debug, Default)]
        pub struct Stats { $($(#[$doc])* pub $name: Cell<u64>,)* }

        impl Stats {
            /// Names and values, in the order of the fields.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

stats! {
    /// Times round the loop.
    turns,
    /// Nanoseconds spent in turns, sleep and busy polling left out.
    busy_ns,
    /// Turns longer than `stall_time`.
    stalls,
    /// Turns that slept.
    parks,
    /// Sleeps that were to go on for several completions.
    gathers,
    /// Completions handed to drivers and futures.
    completions,
    /// Tasks started.
    tasks_spawned,
    /// Task polls.
    tasks_polled,
    /// Tasks refused because `tasks_max` were alive.
    tasks_refused,
    /// Tasks that ended in a panic, and messages of other threads.
    tasks_panicked,
    /// Timers that came due.
    timers_fired,
    /// Timers refused because `timers_max` were set.
    timers_refused,
    /// Messages and wakes taken from other threads.
    mailbox_taken,
    /// Turns that ended with work left because a budget ran out.
    budgets_spent,
    /// On a host that slept over this shard: times it was woken for that.
    host_nudges,
    /// Times the submission queue was full and the kernel was entered early.
    submission_full,
}

/// Adds one. For cells with one writer.
#[inline]
pub fn bump(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}
