//! Threads of another process: found by their name, timed, held still.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The threads of a process, with their names.
fn threads(process: u32) -> Vec<(i32, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let named = tasks.map(|task| {
        let task = task.unwrap();
        let name = fs::read_to_string(task.path().join("comm")).unwrap();
        (task.file_name().to_str().unwrap().parse().unwrap(), name.trim_end().to_owned())
    });
    named.collect()
}

/// CPU time that all threads of a process have used, as the scheduler counts it.
pub(crate) fn cpu(process: u32) -> Duration {
    let of_thread = |(id, _): (i32, String)| -> u64 {
        let text = fs::read_to_string(format!("/proc/{process}/task/{id}/schedstat")).unwrap();
        text.split_ascii_whitespace().next().unwrap().parse().unwrap()
    };
    Duration::from_nanos(threads(process).into_iter().map(of_thread).sum())
}

/// Descriptors a process has open.
pub(crate) fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// A thread that does not run until it is released. A stop signal would hold its whole process (tgkill(2)).
pub(crate) struct Frozen(Pid);

impl Frozen {
    /// Holds the thread of a shard, wherever it is. None where this host lets nobody trace; a build machine must.
    pub(crate) fn shard(process: u32, shard: usize) -> Option<Frozen> {
        let name = format!("shard-{shard}");
        let found = threads(process).into_iter().find(|(_, other)| *other == name);
        let thread = Pid::from_raw(found.unwrap_or_else(|| panic!("there is no {name}")).0);
        match ptrace::seize(thread, ptrace::Options::empty()) {
            Ok(()) => {}
            Err(Errno::EPERM | Errno::ENOSYS) if std::env::var_os("CI").is_none() => {
                eprintln!("skipped: needs ptrace");
                return None;
            }
            Err(error) => panic!("ptrace: {error}"),
        }
        let frozen = Frozen(thread);
        ptrace::interrupt(thread).unwrap();
        let stopped = waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        assert!(matches!(stopped, WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)), "{stopped:?}");
        Some(frozen)
    }

    pub(crate) fn release(self) {
        drop(self);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may be gone with its process.
        let _ = ptrace::detach(self.0, None);
    }
}
