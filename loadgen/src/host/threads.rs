//! What the scheduler kept of a thread: time on a CPU, and time that it waited for one.
//!
//! Not here: which part of it was work (`worker` knows what it spent polling).

use std::path::Path;

use super::read;

/// Totals of a thread since it began (`schedstat`, Documentation/scheduler/sched-stats.rst).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ThreadUse {
    /// Time on a CPU, ns. For a thread that runs it may lag by a tick of the scheduler, up to 10 ms: where
    /// that matters take `corelane_sys::kernel::thread_cpu_ns`, a system call instead of a file.
    pub cpu_ns: u64,
    /// Time that it could have run and had no CPU, ns.
    pub run_delay_ns: u64,
    /// Times it was put on a CPU.
    pub slices: u64,
}

impl ThreadUse {
    /// Of the calling thread; None on a kernel without `CONFIG_SCHED_INFO`.
    pub fn read_self(root: &Path) -> Option<ThreadUse> {
        parse(&read(root, "proc/thread-self/schedstat")?)
    }

    /// Of another thread of this process.
    pub fn read_thread(root: &Path, tid: u32) -> Option<ThreadUse> {
        parse(&read(root, format!("proc/self/task/{tid}/schedstat"))?)
    }

    /// What was added since `before`, of the same thread.
    #[must_use]
    pub fn since(&self, before: &ThreadUse) -> ThreadUse {
        ThreadUse {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            run_delay_ns: self.run_delay_ns.saturating_sub(before.run_delay_ns),
            slices: self.slices.saturating_sub(before.slices),
        }
    }
}

/// Three numbers. All zero is what a kernel writes that does not count: a thread that reads has run.
fn parse(text: &str) -> Option<ThreadUse> {
    let mut numbers = text.split_ascii_whitespace().map(|field| field.parse().ok());
    let mut next = || numbers.next().flatten();
    let found = ThreadUse { cpu_ns: next()?, run_delay_ns: next()?, slices: next()? };
    (found != ThreadUse::default()).then_some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::fake::machine;

    #[test]
    fn three_numbers_are_time_delay_and_slices() {
        let root = machine(&[
            ("proc/thread-self/schedstat", "80952 1256031 2\n"),
            ("proc/self/task/7/schedstat", "100952 1256131 5\n"),
        ]);
        let before = ThreadUse::read_self(root.path()).unwrap();
        assert_eq!(before, ThreadUse { cpu_ns: 80_952, run_delay_ns: 1_256_031, slices: 2 });
        let after = ThreadUse::read_thread(root.path(), 7).unwrap();
        assert_eq!(after.since(&before), ThreadUse { cpu_ns: 20_000, run_delay_ns: 100, slices: 3 });
        assert_eq!(before.since(&after), ThreadUse::default(), "never below zero");
        assert_eq!(ThreadUse::read_thread(root.path(), 8), None);
    }

    #[test]
    fn a_kernel_that_does_not_count_or_says_nonsense_is_none() {
        for text in ["0 0 0\n", "", "1 2\n", "a b c\n"] {
            let root = machine(&[("proc/thread-self/schedstat", text)]);
            assert_eq!(ThreadUse::read_self(root.path()), None, "{text}");
        }
    }

    #[test]
    fn this_thread_has_been_on_a_cpu() {
        assert!(ThreadUse::read_self(Path::new("/")).unwrap().slices > 0);
    }
}
