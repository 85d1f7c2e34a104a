//! Telling a host that sleeps elsewhere: the ring's eventfd.
//!
//! The eventfd is registered once, and notifications are turned on and off by a flag in the completion queue
//! (`IORING_CQ_EVENTFD_DISABLED`, io_uring_register_eventfd(3), Linux 5.8): that costs no system call. Other threads,
//! once it is registered, write to it directly ([`Wake`](crate::wake::Wake)): a write to an eventfd that the ring
//! itself watches cannot signal a second one from there, and the kernel would put that off to an RCU callback.
//!
//! Not here: who waits for it (`exec`'s hosts).

use std::os::fd::AsRawFd;
use std::sync::atomic::{Ordering, fence};

use corelane_base::{Kernel, Signal};
use corelane_sys::EventFd;

use crate::features::Features;
use crate::ring::Ring;

impl Signal for Ring {
    fn signal_fd(&mut self) -> std::io::Result<i32> {
        if let Some(event) = self.wake.signal() {
            return Ok(event.as_raw_fd());
        }
        let event = EventFd::new()?;
        self.io.completion().disable_eventfd();
        self.io.submitter().register_eventfd(event.as_raw_fd())?;
        Ok(self.wake.set_signal(event).as_raw_fd())
    }

    #[inline]
    fn set_signal(&mut self, on: bool) {
        let queue = self.io.completion();
        if on {
            queue.enable_eventfd();
            // What the kernel adds after this point it tells of; what it added before is seen by the loads that
            // follow.
            fence(Ordering::SeqCst);
        } else {
            queue.disable_eventfd();
        }
    }

    fn drain_signal(&mut self) -> bool {
        self.wake.signal().is_some_and(|event| event.drain() > 0)
    }

    #[inline]
    fn is_quiet(&mut self) -> bool {
        // Without the flag there is no telling: the enter after `set_signal` ran what was there.
        let needs_enter = self.granted.contains(Features::TASKRUN_FLAG) && self.needs_enter();
        let holds = !self.wake_armed || !self.waiting.is_empty() || self.buffers.owes();
        !needs_enter
            && !holds
            && self.ready.is_empty()
            && self.io.submission().is_empty()
            && self.io.completion().is_empty()
    }
}
