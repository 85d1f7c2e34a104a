//! Ending a sleep from another thread: an eventfd that the ring watches by a multishot poll.
//!
//! The count is never read back. A multishot poll is edge-triggered: every write brings a completion, and the
//! count, which starts at 0 and grows by 1, does not reach its maximum of 2^64 - 2. If the poll ends (its
//! completion met a full queue), the next one fires at once, so no wake is lost.
//!
//! Not here: when somebody should (`exec` asks for it only while the shard sleeps).

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use corelane_base::Unpark;
use corelane_sys::EventFd;

/// The eventfd; lives as long as its last handle.
#[derive(Debug)]
pub(crate) struct Wake(EventFd);

impl Wake {
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub(crate) fn new() -> io::Result<Wake> {
        EventFd::new().map(Wake)
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Unpark for Wake {
    fn unpark(&self) {
        self.0.notify();
    }
}
