//! Corelane floor 1: the system calls that are not io_uring.
//!
//! Thin and safe: each function is one call or one short, fixed sequence of calls, and answers with
//! [`std::io::Error`] what the kernel answered. No policy, no threads, no state of its own.
//!
//! # Rules (SAFETY comments of the crate cite these numbers)
//! 1. A pointer handed to the kernel points to a live local or field of exactly the type and length the
//!    call's man page names, and the kernel keeps none of them past the call.
//! 2. A raw descriptor becomes an owned one exactly once, right after the call that created it succeeded.
//! 3. A [`Mapping`] owns its range from `mmap` to `munmap`; nothing here makes a reference into it. Who
//!    does (through [`Mapping::as_ptr`]) must not protect or discard the bytes under that reference.
//! 4. Every libc structure zeroed here is plain old data for which all-zero bytes are a valid value.
//! 5. A hint to the CPU changes nothing but time, for any address.
//!
//! Not here: rings (`uring`), what a connection is (`net`), when to call any of this (`boot`).

mod addr;
pub mod cgroup;
pub mod clock;
pub mod cpu;
pub mod event;
pub mod heap;
pub mod kernel;
pub mod limits;
mod map;
pub mod numa;
mod prefetch;
pub mod socket;
pub mod topology;

pub use addr::RawAddr;
pub use event::EventFd;
pub use map::{HUGE_PAGE_LEN, MapOptions, Mapping, Refusal, page_len};
pub use prefetch::{prefetch, prefetch_ends};
pub use socket::{ListenOptions, Listener, listen, probe_bind, set_nonblocking};
