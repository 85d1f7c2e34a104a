//! Ending a sleep from another thread: an eventfd that the ring watches by a multishot poll.
//!
//! The count is never read back. A multishot poll is edge-triggered: every write brings a completion, and the
//! count, which starts at 0 and grows by 1, cannot reach its maximum of 2^64 - 2.
//!
//! Not here: when somebody should (`exec` asks for it only while the shard sleeps).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use corelane_base::Unpark;

/// The eventfd; lives as long as its last handle.
#[derive(Debug)]
pub(crate) struct Wake(File);

impl Wake {
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub(crate) fn new() -> io::Result<Wake> {
        // SAFETY: no pointer, no precondition.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        Ok(Wake(unsafe { File::from_raw_fd(fd) }))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Unpark for Wake {
    fn unpark(&self) {
        // It can fail only at the maximum, and then the poll has fired already.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }
}
