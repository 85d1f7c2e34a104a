//! The one way into the kernel: io_uring_enter(2), by registered index where the ring has one.
//!
//! Not here: when to enter, and what to make of the answer (`ring.rs`).

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{EnterFlags, IoUring, types};

/// IORING_REGISTER_RING_FDS and its counterpart, io_uring_register(2).
const REGISTER_RING_FDS: libc::c_long = 20;
const UNREGISTER_RING_FDS: libc::c_long = 21;

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RsrcUpdate {
    offset: u32,
    resv: u32,
    data: u64,
}

/// How to address the ring, and the flags of every call.
#[derive(Debug)]
pub(crate) struct Gate {
    fd: RawFd,
    index: Option<u32>,
    flags: EnterFlags,
}

impl Gate {
    /// Enters `ring` by its descriptor. The ring must outlive the gate.
    pub(crate) fn new(ring: &IoUring, no_iowait: bool) -> Gate {
        let iowait = if no_iowait { EnterFlags::NO_IOWAIT } else { EnterFlags::empty() };
        Gate { fd: ring.as_raw_fd(), index: None, flags: EnterFlags::GETEVENTS | iowait }
    }

    /// Takes one of this thread's 16 places for ring descriptors.
    ///
    /// # Errors
    /// `EBUSY` when all are taken; `EINVAL` from a kernel that has none.
    pub(crate) fn register(&mut self) -> io::Result<()> {
        let mut update = RsrcUpdate { offset: u32::MAX, resv: 0, data: u64::from(self.fd.cast_unsigned()) };
        // SAFETY: rule 6; one live `io_uring_rsrc_update`, as the call's last argument says.
        let answer = unsafe {
            libc::syscall(libc::SYS_io_uring_register, self.fd, REGISTER_RING_FDS, &raw mut update, 1)
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        self.index = Some(update.offset);
        Ok(())
    }

    /// Gives the place back. Until then the ring lives on, even when its descriptor is closed.
    pub(crate) fn unregister(&mut self) {
        let Some(index) = self.index.take() else { return };
        let mut update = RsrcUpdate { offset: index, resv: 0, data: 0 };
        // SAFETY: rule 6, as in `register`.
        let answer = unsafe {
            libc::syscall(libc::SYS_io_uring_register, self.fd, UNREGISTER_RING_FDS, &raw mut update, 1)
        };
        debug_assert_eq!(answer, 1);
    }

    /// Hands over `count` operations, runs pending work, and sleeps until `completions` are there or `time`
    /// is over; with `min_us` above 0, one completion is enough after so many microseconds. Returns how many operations
    /// were taken.
    ///
    /// # Errors
    /// As io_uring_enter(2), unfiltered.
    #[inline]
    pub(crate) fn enter(
        &self,
        count: u32,
        completions: u32,
        time: Option<&types::Timespec>,
        min_us: u32,
    ) -> io::Result<u32> {
        let (fd, mut flags) = match self.index {
            Some(index) => (index.cast_signed(), self.flags | EnterFlags::REGISTERED_RING),
            None => (self.fd, self.flags),
        };
        let mut args = types::SubmitArgs::new().min_wait_usec(min_us);
        if let Some(time) = time {
            args = args.timespec(time);
        }
        let (arg, len) = if time.is_some() || min_us > 0 {
            flags |= EnterFlags::EXT_ARG;
            ((&raw const args).cast::<libc::c_void>(), size_of_val(&args))
        } else {
            (std::ptr::null(), 0)
        };
        // SAFETY: rule 6; `args` and the time in it live until the call returns. Operations handed over
        // point to memory that outlives them by rules 2 and 3.
        let answer = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, fd, count, completions, flags.bits(), arg, len)
        };
        u32::try_from(answer).map_err(|_| io::Error::last_os_error())
    }
}
