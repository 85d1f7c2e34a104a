//! Corelane floor 3: io_uring as the production kernel of a shard.
//!
//! [`Ring::new`] asks the kernel for everything listed in [`Features`], goes on without what it refuses, and
//! says what and why ([`Ring::lacking`]). Then [`Ring`] is a [`Kernel`] over [`Chain`](corelane_pools::Chain)s
//! of bytes. Reading order: `ring` (what it is made of, entering, the end), `kernel` (operations and
//! completions), `hand`, `peer` and `options` (the rare ones of connections that move or that connect), `flights` and `message` (what an
//! operation owns), `buffers`, `wake` and `signal`; `setup` and `enter` for the system calls.
//!
//! [`Kernel`]: corelane_base::Kernel
//! [`Kernel::needs_enter`]: corelane_base::Kernel::needs_enter
//!
//! # Rules (SAFETY comments of the crate cite these numbers)
//! 1. One thread: a [`Ring`] is made, used and dropped on one thread (it is neither `Send` nor `Sync`), and
//!    no reference to a queue of it outlives the statement that made it.
//! 2. What the kernel reads or writes until an operation completes (bytes to send, buffers to read into,
//!    an address to fill) is owned by the operation's entry in the table of flights. Entries do not move,
//!    and are taken out only when the last completion of their operation was read.
//! 3. What the kernel reads while it takes an operation over (message headers, lists of chunks, addresses
//!    to connect to, paths, times) stays where it is until the queue is empty again:
//!    `IORING_FEAT_SUBMIT_STABLE`, checked when the ring is made.
//! 4. A receive buffer belongs to the kernel, or is lent: `lent` holds its bytes received from the completion
//!    that brought it until it is recycled. Only lent buffers are read, and never beyond those bytes.
//! 5. Memory the kernel may still use is never freed: if operations do not end in time when the ring is
//!    dropped, their entries and the receive buffers are leaked on purpose.
//! 6. A pointer handed to a system call points to a live value of the type its man page names.
//!
//! # What a user of the seam meets here
//! - A multishot operation that meets a full completion queue ends with a success and `more == false`: push it
//!   again.
//! - An enter runs about twenty pieces of pending work; [`Kernel::needs_enter`] stays true while there is more.
//! - A shutdown, an fsync, and an open or read that must wait for the disk are done by kernel threads (at most four
//!   for each CPU); a shutdown takes about 10 us (Linux 6.18). It must have completed before the close is
//!   pushed. Where nothing unread waits, a close alone ends the stream as well, and costs a third.
//! - A socket given by another ring ([`Op::Hand`](corelane_base::Op::Hand)), or a ring taken apart, may interrupt any
//!   other system call of its thread with `EINTR`. Should the kernel have no memory to tell of such a socket, the
//!   giver is told `EOVERFLOW`, and the socket stays open until the ring it went to ends.
//! - Without [`Features::DIRECT`], sockets and files that were not closed stay open when the ring is dropped.
//!
//! Not here: who gets a completion (`exec`), what a connection is (`net`), what to do about a
//! [`SetupError`] (`boot`).

mod buffers;
mod enter;
mod error;
mod features;
mod flights;
mod hand;
mod kernel;
mod message;
mod options;
mod peer;
mod ring;
mod setup;
mod signal;
mod wake;

pub use error::SetupError;
pub use features::{Features, Lacking, UnknownFeature, Why};
pub use ring::{Ring, RingConfig};
