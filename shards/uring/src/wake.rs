//! The handle of a ring: ends its sleep from elsewhere by an eventfd that the ring watches with a multishot poll,
//! and names it to other rings. Where a host sleeps for the ring, it ends the host's sleep instead, by the eventfd
//! that the host waits for (`signal`).
//!
//! The count of the eventfd is never read back. A multishot poll is edge-triggered: every write brings a
//! completion, and the count, which starts at 0 and grows by 1, does not reach its maximum of 2^64 - 2. If the
//! poll ends (its completion met a full queue), the next one fires at once, so no wake is lost.
//!
//! Other rings hand sockets to a descriptor of the handle's own. When the ring ends, the eventfd takes its place
//! ([`Wake::retire`]): the number stays taken until the last handle is dropped, and what is handed to it meanwhile
//! fails (`EBADFD`) instead of reaching a ring that was made later.
//!
//! Not here: when a sleep is to be ended (`exec` asks for it only while the shard sleeps).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

use corelane_base::Unpark;
use corelane_sys::EventFd;
use io_uring::IoUring;

/// What ends a ring's sleep, and names the ring; lives as long as its last handle.
#[derive(Debug)]
pub(crate) struct Wake {
    event: EventFd,
    ring: Option<OwnedFd>,
    signal: OnceLock<EventFd>,
}

impl Wake {
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub(crate) fn new() -> io::Result<Wake> {
        EventFd::new().map(|event| Wake { event, ring: None, signal: OnceLock::new() })
    }

    /// Lets other rings write to `ring`.
    ///
    /// # Errors
    /// `EMFILE`.
    pub(crate) fn open_to(&mut self, ring: &IoUring) -> io::Result<()> {
        // SAFETY: rule 6: the ring's own descriptor, open while `ring` is borrowed.
        let ring = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        self.ring = Some(ring.try_clone_to_owned()?);
        Ok(())
    }

    /// The ring ends: nothing reaches it by this handle any more, and the handle no longer keeps it.
    ///
    /// Should the kernel refuse (it does where the limit of descriptors was lowered below the number), the ring
    /// and its sockets stay until the handle is dropped.
    pub(crate) fn retire(&self) {
        if let Some(ring) = &self.ring {
            // SAFETY: rule 6: dup3(2) takes two numbers. Both are open descriptors of this handle, which keeps
            // owning them.
            unsafe { libc::dup3(self.event.as_raw_fd(), ring.as_raw_fd(), libc::O_CLOEXEC) };
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// What a host waits for, if one does.
    pub(crate) fn signal(&self) -> Option<&EventFd> {
        self.signal.get()
    }

    /// From now on a host waits for this: whoever ends the ring's sleep writes to it.
    pub(crate) fn set_signal(&self, event: EventFd) -> &EventFd {
        self.signal.get_or_init(|| event)
    }
}

impl Unpark for Wake {
    fn unpark(&self) {
        self.signal.get().unwrap_or(&self.event).notify();
    }

    fn is_signalled(&self) -> bool {
        self.signal.get().is_some_and(|event| event.wait(Some(Duration::ZERO)).unwrap_or(false))
    }

    fn ring(&self) -> Option<i32> {
        self.ring.as_ref().map(AsRawFd::as_raw_fd)
    }
}
