//! The io_uring limit loop: one thread, one ring, one kernel entry a turn.
//!
//! Accept is multishot into direct descriptors, receive is multishot from one buffer ring, and the
//! answers to everything one turn received on a connection leave in one send. A send is asked not to
//! wait (`MSG_DONTWAIT`) and to be all or nothing (`MSG_WAITALL`), and its completion is skipped on
//! success, so the usual request costs one completion. Only a send that came up short is completed;
//! it is continued by one that waits, with its completion, until the connection owes nothing.
//!
//! # Rules (SAFETY comments cite these numbers)
//! 1. Every submitted operation refers to constant bytes ([`super::RESPONSES`]), to the registered
//!    buffers or to no memory at all.
//! 2. A direct slot is closed only after its receive has ended and while no waiting send is in
//!    flight, so a completion always belongs to the connection now in its slot. A short send without
//!    waiting is reported by the kernel entry that submitted it, before anything later.
//!
//! Not here: the buffers (`bufring`), the request scan and the response (`mod.rs`).

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::squeue::{self, SubmissionQueue};
use io_uring::{EnterFlags, IoUring, Submitter, cqueue, opcode, types};
use rustix::net::SocketFlags;

use super::bufring::BufRing;
use super::{BadRequest, OWED_LEN_MAX, Options};

/// Submissions between two kernel entries; when full, what is queued is submitted at once.
///
/// 256 entries of 64 bytes stay in the first-level cache.
const SUBMISSIONS_MAX: u32 = 256;

/// Completions the kernel can post before it keeps them on a list of its own (nothing is lost).
const COMPLETIONS_MAX: u32 = 4096;

/// Direct descriptors, so open connections. The kernel cuts off what is accepted beyond that.
const CONNECTIONS_MAX: usize = 16384;

/// What `limit-uring` can be told.
#[derive(clap::Args)]
pub(crate) struct UringOptions {
    #[command(flatten)]
    common: Options,
    /// Receive buffers of 4 KiB; a power of two.
    #[arg(long, default_value_t = 1024)]
    buffers: u16,
}

const BUFFER_GROUP: u16 = 0;

const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// What a completion is about; the upper half of its user data, the slot is the lower.
const ACCEPT: u32 = 0;
const RECV: u32 = 1;
/// A send that does not wait: completed only when it failed or came up short.
const SEND: u32 = 2;
/// A send that waits for room and is always completed.
const SEND_WAIT: u32 = 3;
/// Cancel and close: completed only when there was nothing left to cancel.
const QUIET: u32 = 4;

#[derive(Default)]
struct Conn {
    /// Answer bytes not yet handed to the kernel, or handed to a waiting send that has not ended.
    owed: usize,
    /// Length of the last send that does not wait.
    sent: usize,
    /// Incomplete request head.
    partial: Vec<u8>,
    /// In `Server::dirty`.
    dirty: bool,
    /// A waiting send is in flight.
    waiting: bool,
    /// A receive is armed.
    receiving: bool,
    /// Given up by us: what is in flight is being cancelled, what still arrives is ignored.
    cut: bool,
}

/// Serves until a ring or listener error.
///
/// # Errors
/// Whatever the set-up or a kernel entry reports. Trouble with one connection closes that one.
pub(crate) fn serve(options: &UringOptions) -> io::Result<Infallible> {
    let Options { listen, cpu } = options.common;
    if let Some(cpu) = cpu {
        super::pin(cpu)?;
    }
    let mut buffers = BufRing::new(options.buffers)?; // before the ring: dropped after it (bufring rule 5)
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS_MAX)
        .setup_no_sqarray()
        .build(SUBMISSIONS_MAX)?;
    let no_iowait = ring.params().is_feature_no_iowait();
    let (mut submitter, sq, mut cq) = ring.split();
    submitter.register_ring_fd()?;
    let slots = CONNECTIONS_MAX.min(super::descriptors_max());
    submitter.register_files_sparse(u32::try_from(slots).unwrap_or(u32::MAX))?;
    buffers.register(&submitter, BUFFER_GROUP)?;
    let listener = super::listen(listen, SocketFlags::empty())?;
    eprintln!("limit-uring: listening on {listen}");

    let mut conns = Vec::new();
    conns.resize_with(slots, Conn::default);
    let mut enter_flags = EnterFlags::GETEVENTS;
    if no_iowait {
        enter_flags |= EnterFlags::NO_IOWAIT;
    }
    let queue = Queue { sq, submitter, enter_flags: enter_flags.bits() };
    let mut server =
        Server { queue, buffers: &mut buffers, conns, dirty: Vec::with_capacity(slots), listener };
    server.arm_accept()?;
    loop {
        server.queue.enter(1)?;
        cq.sync();
        for completion in &mut cq {
            server.complete(&completion)?;
        }
        server.buffers.publish();
        server.flush()?;
    }
}

/// The submission side of the ring.
struct Queue<'r> {
    sq: SubmissionQueue<'r>,
    submitter: Submitter<'r>,
    enter_flags: u32,
}

impl Queue<'_> {
    /// Submits what is queued, runs deferred work and waits for `want` completions.
    ///
    /// `EINTR`, and `EBUSY` or `EAGAIN` (reap first, then again), are not errors.
    #[inline]
    fn enter(&mut self, want: u32) -> io::Result<()> {
        self.sq.sync();
        let queued = u32::try_from(self.sq.len()).unwrap_or(u32::MAX);
        // SAFETY: rule 1 holds for everything `push` queued; no argument is passed.
        let entered = unsafe { self.submitter.enter::<()>(queued, want, self.enter_flags, None) };
        self.sq.sync();
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Queues one operation; when there is no room, submits what is queued first.
    #[inline]
    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: rule 1: every caller below builds its entry from constant or registered bytes.
        while unsafe { self.sq.push(entry) }.is_err() {
            self.sq.sync();
            let queued = u32::try_from(self.sq.len()).unwrap_or(u32::MAX);
            // Without GETEVENTS: completions of this turn are reaped before later ones are posted.
            // SAFETY: as in `enter`.
            unsafe { self.submitter.enter::<()>(queued, 0, 0, None)? };
            self.sq.sync();
        }
        Ok(())
    }
}

struct Server<'r> {
    queue: Queue<'r>,
    buffers: &'r mut BufRing,
    conns: Vec<Conn>,
    /// Slots that came to owe something in this turn.
    dirty: Vec<u32>,
    listener: OwnedFd,
}

impl Server<'_> {
    #[inline]
    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let data = completion.user_data();
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the user data")]
        let (op, slot) = ((data >> 32) as u32, data as u32);
        let (result, flags) = (completion.result(), completion.flags());
        match op {
            RECV => self.received(slot, result, flags),
            SEND => self.send_fell_short(slot, result),
            SEND_WAIT => self.send_waited(slot, result),
            ACCEPT => self.accepted(result, flags),
            _ => Ok(()),
        }
    }

    fn arm_accept(&mut self) -> io::Result<()> {
        let fd = types::Fd(self.listener.as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).allocate_file_index(true).build();
        self.queue.push(&entry.user_data(tag(ACCEPT, 0)))
    }

    fn arm_recv(&mut self, slot: u32) -> io::Result<()> {
        self.conns[slot as usize].receiving = true;
        let entry = opcode::RecvMulti::new(types::Fixed(slot), BUFFER_GROUP).build();
        self.queue.push(&entry.user_data(tag(RECV, slot)))
    }

    fn accepted(&mut self, result: i32, flags: u32) -> io::Result<()> {
        match u32::try_from(result) {
            Ok(slot) => {
                self.conns[slot as usize] = Conn::default();
                self.arm_recv(slot)?;
            }
            Err(_) => match -result {
                // The peer gave up, or this connection found no room and was closed by the kernel.
                libc::ECONNABORTED | libc::ENFILE | libc::EMFILE | libc::ENOBUFS | libc::ENOMEM => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            },
        }
        if cqueue::more(flags) { Ok(()) } else { self.arm_accept() }
    }

    #[inline]
    fn received(&mut self, slot: u32, result: i32, flags: u32) -> io::Result<()> {
        let conn = &mut self.conns[slot as usize];
        let len = usize::try_from(result).unwrap_or(0);
        let mut requests = Ok(0);
        if let Some(buffer) = cqueue::buffer_select(flags) {
            if !conn.cut {
                requests = super::receive(&mut conn.partial, self.buffers.received(buffer, len));
            }
            self.buffers.recycle(buffer);
        }
        match requests {
            Ok(0) => {}
            Ok(requests) => {
                conn.owed += requests * super::RESPONSE_LEN;
                if conn.waiting {
                    if conn.owed > OWED_LEN_MAX {
                        self.cut(slot)?;
                    }
                } else if !conn.dirty {
                    conn.dirty = true;
                    self.dirty.push(slot);
                }
            }
            Err(BadRequest) => self.cut(slot)?,
        }
        if cqueue::more(flags) { Ok(()) } else { self.recv_stopped(slot, result) }
    }

    /// A multishot receive has ended: arm it again, or the peer is gone.
    #[cold]
    fn recv_stopped(&mut self, slot: u32, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[slot as usize];
        assert!(conn.receiving, "rule 2");
        conn.receiving = false;
        // ENOBUFS: every buffer was out. All are back before the next kernel entry.
        if !conn.cut && (result > 0 || result == -libc::ENOBUFS) {
            return self.arm_recv(slot);
        }
        self.settle(slot)
    }

    /// Sends what this turn's requests are owed, one send a connection.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        for index in 0..self.dirty.len() {
            let slot = self.dirty[index];
            let conn = &mut self.conns[slot as usize];
            conn.dirty = false;
            if conn.cut || conn.waiting || conn.owed == 0 {
                continue;
            }
            let bytes = super::owed_bytes(conn.owed);
            if bytes.len() < conn.owed || !conn.receiving {
                self.send_waiting(slot)?;
                continue;
            }
            conn.sent = conn.owed;
            conn.owed = 0;
            let entry = send(slot, bytes, SEND_FLAGS | libc::MSG_DONTWAIT)
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(tag(SEND, slot));
            self.queue.push(&entry)?;
        }
        self.dirty.clear();
        Ok(())
    }

    /// Continues with a send that waits for room.
    fn send_waiting(&mut self, slot: u32) -> io::Result<()> {
        let conn = &mut self.conns[slot as usize];
        conn.waiting = true;
        let entry = send(slot, super::owed_bytes(conn.owed), SEND_FLAGS);
        self.queue.push(&entry.user_data(tag(SEND_WAIT, slot)))
    }

    #[cold]
    fn send_fell_short(&mut self, slot: u32, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[slot as usize];
        let sent = usize::try_from(result).unwrap_or(0);
        conn.owed += conn.sent - sent;
        if result < 0 && result != -libc::EAGAIN {
            return self.cut(slot);
        }
        self.send_waiting(slot)
    }

    #[cold]
    fn send_waited(&mut self, slot: u32, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[slot as usize];
        assert!(conn.waiting, "rule 2");
        conn.waiting = false;
        match usize::try_from(result) {
            Ok(sent) if sent > 0 => conn.owed -= sent,
            _ => return self.cut(slot),
        }
        if conn.owed > 0 && !conn.cut {
            return self.send_waiting(slot);
        }
        self.settle(slot)
    }

    /// Gives the connection up: cancels what is in flight, closes when that has ended.
    #[cold]
    fn cut(&mut self, slot: u32) -> io::Result<()> {
        let conn = &mut self.conns[slot as usize];
        if !conn.cut && (conn.receiving || conn.waiting) {
            let all = types::CancelBuilder::fd(types::Fixed(slot)).all();
            self.quiet(opcode::AsyncCancel2::new(all).build())?;
        }
        self.conns[slot as usize].cut = true;
        self.settle(slot)
    }

    /// Closes the connection if nothing of it is in flight and nothing is owed (rule 2).
    fn settle(&mut self, slot: u32) -> io::Result<()> {
        let conn = &self.conns[slot as usize];
        if conn.receiving || conn.waiting || (conn.owed > 0 && !conn.cut) {
            return Ok(());
        }
        self.quiet(opcode::Close::new(types::Fixed(slot)).build())
    }

    fn quiet(&mut self, entry: squeue::Entry) -> io::Result<()> {
        self.queue.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(tag(QUIET, 0)))
    }
}

fn tag(op: u32, slot: u32) -> u64 {
    u64::from(op) << 32 | u64::from(slot)
}

fn send(slot: u32, bytes: &'static [u8], flags: i32) -> squeue::Entry {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    opcode::Send::new(types::Fixed(slot), bytes.as_ptr(), len).flags(flags).build()
}
