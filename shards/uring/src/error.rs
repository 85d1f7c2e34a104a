//! Why a ring could not be made, and so who must act.
//!
//! Not here: what to type on this host (the layer above looks at sysctl, seccomp and limits and says so).

use std::fmt;
use std::io;

/// Why [`Ring::new`](crate::Ring::new) failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetupError {
    /// `ENOSYS`: the kernel has no io_uring, or a filter pretends so. Another kernel, or another filter.
    Enosys,
    /// `EPERM` or `EACCES`: there is io_uring, but not for us. Look at `kernel.io_uring_disabled`,
    /// `kernel.io_uring_group`, and the seccomp filter of the container.
    Disabled {
        /// The answer.
        errno: i32,
    },
    /// io_uring is older than Linux 6.1. Another kernel.
    TooOld {
        /// The first thing found missing.
        missing: &'static str,
    },
    /// `ENOMEM` while making the queues: the locked-memory limit (RLIMIT_MEMLOCK), counted per user over
    /// all rings, or no memory. Raise the limit, or take smaller queues.
    Memlock {
        /// The answer.
        errno: i32,
    },
    /// The receive buffers could not be mapped or registered. Fewer, or smaller.
    Buffers {
        /// The answer.
        errno: i32,
    },
    /// `EMFILE`: the descriptor table exceeds RLIMIT_NOFILE. Raise the limit, or take fewer descriptors.
    Table {
        /// Slots asked for.
        descriptors: u32,
        /// The answer.
        errno: i32,
    },
    /// Anything else.
    Other {
        /// The answer.
        errno: i32,
        /// What was being done.
        step: &'static str,
    },
}

impl SetupError {
    /// The errno behind it.
    pub fn errno(&self) -> i32 {
        match *self {
            SetupError::Enosys => libc::ENOSYS,
            SetupError::TooOld { .. } => libc::EOPNOTSUPP,
            SetupError::Disabled { errno }
            | SetupError::Memlock { errno }
            | SetupError::Buffers { errno }
            | SetupError::Table { errno, .. }
            | SetupError::Other { errno, .. } => errno,
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.errno());
        match self {
            SetupError::Enosys => write!(f, "the kernel has no io_uring, or a seccomp filter hides it"),
            SetupError::Disabled { .. } => {
                write!(
                    f,
                    "io_uring is switched off here, by kernel.io_uring_disabled or a seccomp filter: {text}"
                )
            }
            SetupError::TooOld { missing } => write!(f, "the kernel is older than Linux 6.1: no {missing}"),
            SetupError::Memlock { .. } => {
                write!(f, "no memory for the ring, most likely the locked-memory limit (ulimit -l): {text}")
            }
            SetupError::Buffers { .. } => write!(f, "receive buffers: {text}"),
            SetupError::Table { descriptors, .. } => {
                write!(f, "a table of {descriptors} descriptors, past the limit (ulimit -n): {text}")
            }
            SetupError::Other { step, .. } => write!(f, "{step}: {text}"),
        }
    }
}

impl std::error::Error for SetupError {}

impl From<SetupError> for io::Error {
    fn from(error: SetupError) -> io::Error {
        io::Error::other(error)
    }
}

/// The errno of an error that came from a system call.
pub(crate) fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
