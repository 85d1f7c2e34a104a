//! The HTTP/1.1 server machine of the raw peers: runtimes that bring sockets, but no HTTP server.
//!
//! Pure: bytes in, bytes out. [`Machine`] is what one connection remembers between two receives, [`Answers`]
//! what one thread has ready (heads with a current date). The work is that of `peer_work`.
//!
//! # Calling order
//! 1. Receive into a buffer, give the buffer to [`answer`], drop what it consumed from the front.
//! 2. While [`Machine::missing`] is 0, send all that is in `out`, in one write, and [`clear`] it. Else `out`
//!    ends in an answer whose body is still under way: send nothing. The missing bytes may be received
//!    straight to the end of `out` (then [`Machine::filled`]) or go through [`answer`] like all others.
//! 3. [`After::Blob`]: send [`peer_work::blob`] behind `out`. [`After::Close`]: send `out` and close.
//! 4. After a send, call [`answer`] again before the next receive if there are bytes it did not consume.
//!
//! # Rules
//! 1. Every head is parsed with httparse, at most [`HEADERS_MAX`] header lines and [`HEAD_LEN_MAX`] bytes.
//! 2. An answer never waits in `out` for a body that is not here: the head of an unfinished `POST /echo` is
//!    consumed only while `out` is empty.
//! 3. If `out` grew to something that may be sent, something was consumed.
//! 4. `out` grows by at most one answer once it has [`OUT_LEN_MAX`] bytes.
//! 5. HTTP/1.0 is answered and closed. What has a transfer coding is refused, with what is malformed or too
//!    long, and the connection closed.
//!
//! Not here: sockets, threads, timeouts (there are none), `Host` checks.

mod answers;
mod machine;

use std::cell::RefCell;

use rustix::time::{ClockId, clock_gettime};

pub use answers::Answers;
pub use machine::{After, HEAD_LEN_MAX, HEADERS_MAX, Machine, OUT_LEN_MAX, Turn};

thread_local! {
    static ANSWERS: RefCell<Answers> = RefCell::new(Answers::new());
}

/// [`Machine::handle`] with the answers of this thread, their date as new as the kernel's last tick.
///
/// The clock is read once a call: `CLOCK_REALTIME_COARSE` is some nanoseconds in the vDSO (clock_getres(2)).
pub fn answer(machine: &mut Machine, input: &[u8], out: &mut Vec<u8>) -> Turn {
    ANSWERS.with_borrow_mut(|answers| {
        answers.refresh(clock_gettime(ClockId::RealtimeCoarse).tv_sec);
        machine.handle(input, answers, out)
    })
}

/// Empties an output buffer that was sent. One that grew for a large body goes back to this thread.
pub fn clear(out: &mut Vec<u8>) {
    ANSWERS.with_borrow_mut(|answers| answers.clear(out));
}
