//! Ending a sleep from elsewhere: by an eventfd that the ring watches with a multishot poll, or by a message
//! from another ring.
//!
//! The count of the eventfd is never read back. A multishot poll is edge-triggered: every write brings a
//! completion, and the count, which starts at 0 and grows by 1, does not reach its maximum of 2^64 - 2. If the
//! poll ends (its completion met a full queue), the next one fires at once, so no wake is lost.
//!
//! Messages go to a descriptor of the handle's own. When the ring ends, the eventfd takes its place
//! ([`Wake::retire`]): the number stays taken until the last handle is dropped, and what is sent to it meanwhile
//! fails (`EBADFD`) instead of reaching a ring that was made later.
//!
//! Not here: when somebody should (`exec` asks for it only while the shard sleeps).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use corelane_base::Unpark;
use corelane_sys::EventFd;
use io_uring::IoUring;

/// Other rings that one ring writes wakes to. One more is woken by its eventfd.
///
/// A node has one ring a shard. An entry is 24 bytes.
const RUNG_MAX: usize = 1024;

/// What ends a ring's sleep; lives as long as its last handle.
#[derive(Debug)]
pub(crate) struct Wake {
    event: EventFd,
    ring: Option<OwnedFd>,
}

impl Wake {
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub(crate) fn new() -> io::Result<Wake> {
        EventFd::new().map(|event| Wake { event, ring: None })
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
}

impl Unpark for Wake {
    fn unpark(&self) {
        self.event.notify();
    }

    fn ring(&self) -> Option<i32> {
        self.ring.as_ref().map(AsRawFd::as_raw_fd)
    }
}

/// The handles of the rings that wakes were written to, by number: a wake that succeeds has no completion, so
/// each is kept until it cannot fail any more.
#[derive(Debug, Default)]
pub(crate) struct Rung(HashMap<RawFd, Arc<dyn Unpark>>);

impl Rung {
    /// Keeps the handle whose number is `ring`; gives it back where there is no room. `idle`: nothing stands in
    /// the submission queue, so handles that nobody else has may go.
    #[inline]
    pub(crate) fn keep(
        &mut self,
        ring: RawFd,
        peer: Arc<dyn Unpark>,
        idle: impl FnOnce() -> bool,
    ) -> Result<(), Arc<dyn Unpark>> {
        // A number is kept taken by the handle here, so it is still the same ring's.
        if self.0.contains_key(&ring) {
            return Ok(());
        }
        self.add(ring, peer, idle)
    }

    #[cold]
    fn add(
        &mut self,
        ring: RawFd,
        peer: Arc<dyn Unpark>,
        idle: impl FnOnce() -> bool,
    ) -> Result<(), Arc<dyn Unpark>> {
        if self.0.len() >= RUNG_MAX && idle() {
            self.0.retain(|_, peer| {
                let used = Arc::strong_count(peer) > 1;
                if !used {
                    // A failed wake of it may still wait to be read.
                    peer.unpark();
                }
                used
            });
        }
        if self.0.len() >= RUNG_MAX {
            return Err(peer);
        }
        self.0.insert(ring, peer);
        Ok(())
    }

    /// A wake written to `ring` failed: wakes it otherwise.
    #[cold]
    pub(crate) fn failed(&self, ring: RawFd) {
        if let Some(peer) = self.0.get(&ring) {
            peer.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Counts how often it was told.
    #[derive(Clone, Debug, Default)]
    struct Told(Arc<AtomicU32>);

    impl Unpark for Told {
        fn unpark(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Told {
        fn count(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn one_more_than_the_maximum_has_no_room_until_a_handle_is_nobody_elses() {
        let told = Told::default();
        let mut held: Vec<Arc<dyn Unpark>> = (0..RUNG_MAX).map(|_| Arc::new(told.clone()) as _).collect();
        let mut rung = Rung::default();
        for (ring, peer) in (0..).zip(&held) {
            assert!(rung.keep(ring, Arc::clone(peer), || false).is_ok());
        }
        let past = i32::try_from(RUNG_MAX).unwrap();
        let newcomer: Arc<dyn Unpark> = Arc::new(Told::default());
        assert!(rung.keep(past, Arc::clone(&newcomer), || true).is_err(), "all others are in use");
        assert!(rung.keep(5, Arc::clone(&held[5]), || false).is_ok(), "a known one needs no room");
        held.remove(7);
        assert!(rung.keep(past, Arc::clone(&newcomer), || false).is_err(), "its number may be in the queue");
        assert_eq!(told.count(), 0);
        assert!(rung.keep(past, newcomer, || true).is_ok());
        assert_eq!(told.count(), 1, "as it goes it is told what may have failed");
        rung.failed(5);
        assert_eq!(told.count(), 2);
        rung.failed(7);
        assert_eq!(told.count(), 2, "it is not there any more");
    }
}
