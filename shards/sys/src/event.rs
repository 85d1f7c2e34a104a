//! A wake-up that any thread may send and a ring, a poll or a glommio host can wait for.
//!
//! Not here: what the wake is about (`exec`'s mailbox), when a shard parks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A non-blocking, close-on-exec `eventfd(2)`. Any number of notifications before a drain are one wake.
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// A fresh one, not notified.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: eventfd takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: rule 2.
        Ok(EventFd { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Wakes who waits, or who waits next. One system call, never blocks. Also fine in a signal handler.
    pub fn notify(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: rule 1: eight bytes, as eventfd(2) asks.
        while unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) } < 0 {
            match io::Error::last_os_error().raw_os_error() {
                // The counter is at its maximum, so the wake is already there.
                Some(libc::EAGAIN) => return,
                Some(libc::EINTR) => {}
                // Nothing else can happen to a descriptor that is open and ours (eventfd(2), write(2)).
                error => panic!("write to an eventfd: {error:?}"),
            }
        }
    }

    /// Takes the notifications that came: how many, 0 if none. One system call, never blocks.
    pub fn drain(&self) -> u64 {
        let mut count = [0; 8];
        loop {
            // SAFETY: rule 1: eight bytes, as eventfd(2) asks.
            if unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) } >= 0 {
                return u64::from_ne_bytes(count);
            }
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EAGAIN) => return 0,
                Some(libc::EINTR) => {}
                error => panic!("read from an eventfd: {error:?}"),
            }
        }
    }

    /// Waits until notified, for at most `timeout` (rounded up to milliseconds). Does not drain. Returns
    /// whether it is notified; a signal may end the wait early.
    ///
    /// # Errors
    /// `ENOMEM` from `poll(2)`.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let ms = timeout.map_or(-1, |t| {
            libc::c_int::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        });
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: rule 1: one pollfd.
        match unsafe { libc::poll(&raw mut poll, 1, ms) } {
            answer if answer >= 0 => Ok(answer == 1),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
                error => Err(error),
            },
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn notifications_add_up_until_drained() {
        let event = EventFd::new().unwrap();
        assert_eq!(event.drain(), 0);
        event.notify();
        event.notify();
        assert!(event.wait(Some(Duration::ZERO)).unwrap());
        assert_eq!(event.drain(), 2);
        assert_eq!(event.drain(), 0);
        assert!(!event.wait(Some(Duration::ZERO)).unwrap());
    }

    #[test]
    fn a_full_counter_still_counts_as_notified_and_blocks_nobody() {
        let event = EventFd::new().unwrap();
        // One below the largest value: eventfd(2) takes no more than u64::MAX - 1.
        let most = (u64::MAX - 1).to_ne_bytes();
        // SAFETY: rule 1: eight bytes.
        let written = unsafe { libc::write(event.as_raw_fd(), most.as_ptr().cast(), most.len()) };
        assert_eq!(written, 8);
        event.notify();
        assert_eq!(event.drain(), u64::MAX - 1);
    }

    #[test]
    fn a_waiting_thread_is_woken_by_another() {
        let event = Arc::new(EventFd::new().unwrap());
        let waiter = {
            let event = Arc::clone(&event);
            std::thread::spawn(move || event.wait(Some(Duration::from_secs(20))).unwrap())
        };
        event.notify();
        assert!(waiter.join().unwrap());
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // real time is what is tested
    fn a_wait_ends_at_its_timeout_and_not_before() {
        let event = EventFd::new().unwrap();
        let start = Instant::now();
        assert!(!event.wait(Some(Duration::from_micros(2_100))).unwrap());
        assert!(start.elapsed() >= Duration::from_micros(2_100));
    }
}
