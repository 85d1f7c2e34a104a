//! Operations into queue entries, and completions back.
//!
//! An operation that owns nothing carries its token as `user_data`, and its completion needs no look-up. One
//! that owns something, or that the ring repeats, has an entry in the table of flights.
//!
//! Where multishot is off, [`AcceptMode::Multi`] and [`RecvMode::Multi`] are single operations that the ring
//! pushes again after each success. One that finds the queue full waits in `waiting` for the next enter, and a
//! cancel that crosses a success still ends it: the success is handed out, and `ECANCELED` after it.
//!
//! Not here: entering (`ring.rs`), giving sockets away and asking for peers (`hand.rs`).

use std::net::Ipv4Addr;
use std::ptr::null_mut;
use std::sync::Arc;

use corelane_base::{
    Abilities, AcceptMode, BufferId, Clock, Completion, Kernel, KernelStats, ListenerId, Op, Payload,
    RecvMode, ShutdownHow, Sock, Token, Unpark, Wait,
};
use corelane_pools::Chain;
use corelane_sys::RawAddr;
use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, FsyncFlags};
use io_uring::{cqueue, opcode, squeue};

use crate::buffers::GROUP;
use crate::features::Features;
use crate::flights::{Flight, Loop, OURS, QUIET, Whose};
use crate::options;
use crate::peer::Answer;
use crate::ring::Ring;

/// Most bytes of one read, write or send: what Linux moves at once (`MAX_RW_COUNT`).
const BYTES_MAX: usize = 0x7fff_f000;

/// The address that dissolves a connection.
#[allow(clippy::cast_possible_truncation)] // AF_UNSPEC is 0
static NOWHERE: libc::sockaddr = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
#[allow(clippy::cast_possible_truncation)] // 16
const NOWHERE_LEN: libc::socklen_t = size_of::<libc::sockaddr>() as libc::socklen_t;

/// Places that arming may take: a queued accept and its cancel.
const ARM_PLACES: usize = 2;

#[inline]
#[allow(clippy::cast_possible_truncation)] // below 2^31
fn len32(len: usize) -> u32 {
    len.min(BYTES_MAX) as u32
}

impl Ring {
    #[inline]
    fn direct(&self) -> bool {
        self.granted.contains(Features::DIRECT)
    }

    /// The flag that says what a socket's number is.
    #[inline]
    fn file(&self) -> Flags {
        if self.direct() { Flags::FIXED_FILE } else { Flags::empty() }
    }

    fn slot(&self) -> Option<DestinationSlot> {
        self.direct().then(DestinationSlot::auto_target)
    }

    /// `SOCK_CLOEXEC` and `O_CLOEXEC` (they are equal) for descriptors of the process; a slot of the ring's
    /// table knows no exec, and the kernel refuses the flag.
    fn cloexec(&self) -> i32 {
        if self.direct() { 0 } else { libc::SOCK_CLOEXEC }
    }

    /// Queues an operation that owns nothing.
    #[inline]
    pub(crate) fn plain(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.to_bits());
        if token == Token::NONE {
            self.queue(&entry.flags(Flags::SKIP_SUCCESS));
        } else {
            self.queue_counted(&entry);
        }
    }

    #[inline]
    fn send(&mut self, sock: Sock, token: Token, data: Chain) {
        debug_assert!(!data.is_empty(), "nothing to send");
        let (fd, file) = (Fd(sock.0.cast_signed()), self.file());
        let (index, name) = self.flights.insert(token, Flight::Send(data));
        let Flight::Send(data) = &self.flights.get(index).flight else { unreachable!() };
        let entry = if data.is_single() {
            let bytes = data.first();
            opcode::Send::new(fd, bytes.as_ptr(), len32(bytes.len())).flags(libc::MSG_NOSIGNAL).build()
        } else {
            let message = self.messages.write(data);
            opcode::SendMsg::new(fd, message).flags(libc::MSG_NOSIGNAL as u32).build()
        };
        self.queue_counted(&entry.flags(file).user_data(name));
    }

    fn recv_entry(&self, sock: Sock, flags: i32) -> squeue::Entry {
        opcode::Recv::new(Fd(sock.0.cast_signed()), null_mut(), self.buffers.bytes())
            .buf_group(GROUP)
            .flags(flags)
            .build()
            .flags(Flags::BUFFER_SELECT | self.file())
    }

    #[inline]
    fn recv(&mut self, sock: Sock, token: Token, mode: RecvMode) {
        debug_assert_ne!(token, Token::NONE, "somebody must recycle the buffers");
        if self.buffers.owes() {
            // Before the receive, which could want them.
            self.give_back(1);
        }
        let entry = match mode {
            RecvMode::Multi if self.granted.contains(Features::MULTISHOT_RECV) => {
                opcode::RecvMulti::new(Fd(sock.0.cast_signed()), GROUP).build().flags(self.file())
            }
            RecvMode::Multi => {
                let on = Loop { on: sock, armed: false, cancelled: false, queued: false };
                let (index, _) = self.flights.insert(token, Flight::Receives(on));
                self.by_token.insert(token.to_bits(), index);
                return self.arm_or_wait(index);
            }
            RecvMode::Once => self.recv_entry(sock, 0),
            RecvMode::Ready => self.recv_entry(sock, libc::MSG_DONTWAIT),
        };
        self.plain(entry, token);
    }

    fn accept(&mut self, listener: ListenerId, token: Token, mode: AcceptMode) {
        let Some(fd) = self.listener_raw(listener) else {
            self.answer(token, -libc::EBADF);
            return;
        };
        match mode {
            AcceptMode::Multi if self.granted.contains(Features::MULTISHOT_ACCEPT) => {
                let accept = opcode::AcceptMulti::new(Fd(fd)).allocate_file_index(self.direct());
                self.plain(accept.flags(self.cloexec()).build(), token);
            }
            AcceptMode::Multi | AcceptMode::Queued => {
                let queued = mode == AcceptMode::Queued;
                let on = Loop { on: listener, armed: false, cancelled: false, queued };
                let (index, _) = self.flights.insert(token, Flight::Accepts(on));
                self.by_token.insert(token.to_bits(), index);
                self.arm_or_wait(index);
            }
            AcceptMode::OneWithPeer => {
                let mut peer = self.peer_block();
                *peer = RawAddr::empty();
                let (index, name) = self.flights.insert(token, Flight::AcceptOne(peer));
                self.by_token.insert(token.to_bits(), index);
                let Flight::AcceptOne(peer) = &mut self.flights.get(index).flight else { unreachable!() };
                let (addr, len) = (peer.as_mut_ptr(), peer.len_mut_ptr());
                let accept = opcode::Accept::new(Fd(fd), addr, len).file_index(self.slot());
                self.queue_counted(&accept.flags(self.cloexec()).build().user_data(name));
            }
        }
    }

    pub(crate) fn arm_or_wait(&mut self, index: u32) {
        if !self.waiting.is_empty() || !self.arm(index) {
            self.waiting.push_back(index);
        }
    }

    /// Queues the next operation of one that the ring repeats, or ends it if it was cancelled. False if there
    /// is no room.
    pub(crate) fn arm(&mut self, index: u32) -> bool {
        if self.places_free() < ARM_PLACES {
            return false;
        }
        let name = self.flights.name(index);
        match &mut self.flights.get(index).flight {
            Flight::Receives(Loop { cancelled: true, .. })
            | Flight::Accepts(Loop { cancelled: true, .. }) => {
                self.end(index, -libc::ECANCELED);
            }
            Flight::Receives(on) => {
                on.armed = true;
                let sock = on.on;
                let entry = self.recv_entry(sock, 0);
                self.queue_counted(&entry.user_data(name));
            }
            Flight::Accepts(on) => {
                on.armed = true;
                let (listener, queued) = (on.on, on.queued);
                self.arm_accept(index, name, listener, queued);
            }
            Flight::PeerName(ask) => {
                let entry = ask.entry();
                let entry = entry.flags(self.file()).user_data(name);
                self.queue_counted(&entry);
            }
            _ => unreachable!("entry {index} is not repeated"),
        }
        true
    }

    /// A queued accept is followed by its own cancel. The kernel carries both out in order while it takes them
    /// over: the accept takes what waits and would stay for more, and the cancel ends it there. (`O_NONBLOCK`
    /// on the listener does not: Linux 6.18 waits all the same. `IORING_ACCEPT_DONTWAIT` came with 6.10.)
    fn arm_accept(&mut self, index: u32, name: u64, listener: ListenerId, queued: bool) {
        let Some(fd) = self.listener_raw(listener) else { return self.end(index, -libc::EBADF) };
        let accept = if queued && self.granted.contains(Features::MULTISHOT_ACCEPT) {
            let many = opcode::AcceptMulti::new(Fd(fd)).allocate_file_index(self.direct());
            many.flags(self.cloexec()).build()
        } else {
            let one = opcode::Accept::new(Fd(fd), null_mut(), null_mut()).file_index(self.slot());
            one.flags(self.cloexec()).build()
        };
        self.queue_counted(&accept.user_data(name));
        if queued {
            let cancel = opcode::AsyncCancel::new(name).build();
            self.queue(&cancel.flags(Flags::SKIP_SUCCESS).user_data(QUIET));
        }
    }

    /// Ends an operation of the table that is not with the kernel.
    fn end(&mut self, index: u32, result: i32) {
        let (token, _) = self.flights.take(index);
        self.by_token.remove(&token.to_bits());
        self.answer(token, result);
    }

    /// A last completion made here.
    pub(crate) fn answer(&mut self, token: Token, result: i32) {
        if token == Token::NONE {
            self.failed_unseen += u64::from(result < 0);
        } else {
            self.ready.push_back(Completion { token, result, more: false, payload: Payload::None });
        }
    }

    fn cancel(&mut self, target: Token, token: Token) {
        let mut name = target.to_bits();
        if let Some(&index) = self.by_token.get(&name) {
            name = self.flights.name(index);
            match &mut self.flights.get(index).flight {
                Flight::Receives(Loop { armed, cancelled, .. })
                | Flight::Accepts(Loop { armed, cancelled, .. }) => {
                    *cancelled = true;
                    if !*armed {
                        // It waits for room, and will end there.
                        return self.answer(token, 0);
                    }
                }
                _ => {}
            }
        }
        self.plain(opcode::AsyncCancel::new(name).build(), token);
    }

    fn cancel_sock(&mut self, sock: Sock, token: Token) {
        if !self.granted.contains(Features::MULTISHOT_RECV) {
            for entry in self.flights.iter_mut() {
                if let Flight::Receives(on) = &mut entry.flight
                    && on.on == sock
                {
                    on.cancelled = true;
                }
            }
        }
        let all = match self.direct() {
            true => CancelBuilder::fd(Fixed(sock.0)),
            false => CancelBuilder::fd(Fd(sock.0.cast_signed())),
        };
        self.plain(opcode::AsyncCancel2::new(all.all()).build(), token);
    }

    /// Marks everything that the ring repeats as not to be repeated.
    pub(crate) fn cancel_repeats(&mut self) {
        for entry in self.flights.iter_mut() {
            if let Flight::Receives(Loop { cancelled, .. }) | Flight::Accepts(Loop { cancelled, .. }) =
                &mut entry.flight
            {
                *cancelled = true;
            }
        }
    }

    /// The buffer of a receive, as what is given back.
    #[inline]
    fn received_payload(&mut self, result: i32, flags: u32) -> Payload<Chain> {
        match cqueue::buffer_select(flags) {
            None => Payload::None,
            Some(id) if result > 0 => Payload::Received(self.buffers.lend(id, result.cast_unsigned())),
            Some(id) => {
                self.buffers.untouched(id);
                Payload::None
            }
        }
    }

    #[inline(never)]
    fn completed_rare(&mut self, index: u32, result: i32, flags: u32) -> Option<Completion<Chain>> {
        let mut result = result;
        let more = cqueue::more(flags);
        self.under_way -= u64::from(!more);
        let entry = self.flights.get(index);
        let again = match &mut entry.flight {
            Flight::Accepts(on) => {
                on.armed = more;
                if result == -libc::ECANCELED && on.queued && !on.cancelled {
                    // Our own cancel: nothing waits any more.
                    result = -libc::EAGAIN;
                }
                result >= 0
            }
            Flight::Receives(on) => {
                on.armed = more;
                result > 0
            }
            Flight::PeerName(ask) => {
                if let Answer::Again(room) = ask.answer(result) {
                    ask.room = room;
                    self.arm_or_wait(index);
                    return None;
                }
                false
            }
            _ => false,
        };
        if again {
            let token = entry.token;
            let payload = self.received_payload(result, flags);
            if !more {
                self.arm_or_wait(index);
            }
            return Some(Completion { token, result, more: true, payload });
        }
        let (token, flight) = self.flights.take(index);
        let payload = match flight {
            Flight::Free(_) => unreachable!("entry {index} is free"),
            Flight::Send(data) => Payload::Sent(data),
            Flight::Data(data) => Payload::Bytes(data),
            Flight::Connect(_) | Flight::Open(_) => Payload::None,
            Flight::AcceptOne(peer) => {
                self.by_token.remove(&token.to_bits());
                // An address of another family cannot be told.
                let addr = peer.to_socket_addr().unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into());
                self.keep_peer_block(peer);
                if result < 0 { Payload::None } else { Payload::Peer(addr) }
            }
            Flight::Accepts(_) => {
                self.by_token.remove(&token.to_bits());
                Payload::None
            }
            // A success is the number that the other ring gave the socket.
            Flight::Hand(_) => {
                result = result.min(0);
                Payload::None
            }
            Flight::PeerName(ask) => {
                let payload;
                (result, payload) = self.named(ask, result);
                payload
            }
            Flight::Receives(_) => {
                self.by_token.remove(&token.to_bits());
                self.stats.no_buffers += u64::from(result == -libc::ENOBUFS);
                self.received_payload(result, flags)
            }
        };
        give(token, result, payload)
    }

    #[inline]
    fn reap(&mut self) -> Option<Completion<Chain>> {
        loop {
            let entry = self.io.completion().next()?;
            let (user_data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
            if user_data & OURS == 0 {
                let token = Token::from_bits(user_data);
                if token == Token::NONE {
                    // Only failures have a completion.
                    self.failed_unseen += u64::from(result < 0);
                    continue;
                }
                let more = cqueue::more(flags);
                self.under_way -= u64::from(!more);
                self.stats.no_buffers += u64::from(result == -libc::ENOBUFS);
                let payload = self.received_payload(result, flags);
                self.stats.completed += 1;
                return Some(Completion { token, result, more, payload });
            }
            match Whose::of(user_data) {
                Whose::Flight { index, generation } => {
                    if let Some((token, data)) = self.flights.take_send(index, generation) {
                        self.under_way -= 1;
                        if token == Token::NONE {
                            continue;
                        }
                        self.stats.completed += 1;
                        return Some(Completion { token, result, more: false, payload: Payload::Sent(data) });
                    }
                    let completion = self.completed_rare(index, result, flags);
                    if completion.is_some() {
                        self.stats.completed += 1;
                        return completion;
                    }
                }
                Whose::Provide { first, count } => {
                    if result < 0 {
                        self.buffers.refused(first, count);
                    }
                }
                Whose::Arrival(token) => {
                    // No operation of this ring ends with it.
                    self.stats.completed += 1;
                    return Some(Completion { token, result, more: true, payload: Payload::None });
                }
                Whose::Internal(user_data) => self.internal(user_data, result, cqueue::more(flags)),
            }
        }
    }

    #[cold]
    fn pop_ready(&mut self) -> Option<Completion<Chain>> {
        let completion = self.ready.pop_front();
        self.stats.completed += u64::from(completion.is_some());
        completion
    }
}

/// A last completion, unless nobody waits for it.
#[inline]
fn give(token: Token, result: i32, payload: Payload<Chain>) -> Option<Completion<Chain>> {
    (token != Token::NONE).then_some(Completion { token, result, more: false, payload })
}

/// How many completions a sleep gathers: a share of the operations under way, most of them receives; at most so many;
/// and with fewer to come by, none (docs/decisions/0018).
const GATHER_SHARE: u64 = 4;
const GATHER_MAX: u32 = 64;
const GATHER_MIN: u32 = 8;

/// How old the wall clock may be: it is for whole seconds, and the coarse one moves every few milliseconds.
const UNIX_AGE_NS: u64 = 1_000_000;

fn read_clock(id: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: rule 6; the call fills one timespec.
    let answer = unsafe { libc::clock_gettime(id, &raw mut time) };
    assert_eq!(answer, 0, "clock_gettime({id})");
    time
}

impl Kernel for Ring {
    type Bytes = Chain;

    #[inline]
    fn push(&mut self, op: Op<Chain>) -> Result<(), Op<Chain>> {
        if !self.has_place() {
            return Err(op);
        }
        match op {
            Op::Send { sock, token, data } => {
                let room = data.is_single() || self.messages.has_room();
                if !room || !self.flights.has_room() {
                    return Err(Op::Send { sock, token, data });
                }
                self.send(sock, token, data);
                Ok(())
            }
            Op::Recv { sock, token, mode } => {
                let single = self.granted.contains(Features::MULTISHOT_RECV) || mode != RecvMode::Multi;
                if !single && !self.flights.has_room() {
                    return Err(op);
                }
                self.recv(sock, token, mode);
                Ok(())
            }
            rare => self.push_rare(rare),
        }
    }

    #[inline]
    fn needs_enter(&self) -> bool {
        // SAFETY: rule 1: no other reference to the queue exists while this statement runs.
        let queue = unsafe { self.io.submission_shared() };
        let flagged = self.granted.contains(Features::TASKRUN_FLAG);
        !queue.is_empty()
            || !flagged
            || queue.taskrun()
            || queue.cq_overflow()
            || !self.wake_armed
            || !self.waiting.is_empty()
            || self.buffers.owes()
    }

    #[inline]
    fn enter(&mut self, wait: Wait) -> std::io::Result<()> {
        self.enter_ring(wait)
    }

    /// Waits for a quarter of what is under way: more would leave the peers idle that could send meanwhile.
    #[inline]
    fn gather(&mut self, wait: Wait, within_ns: u64) -> std::io::Result<()> {
        let more = u32::try_from(self.under_way / GATHER_SHARE).unwrap_or(GATHER_MAX).min(GATHER_MAX);
        if more < GATHER_MIN || !self.granted.contains(Features::MIN_WAIT) {
            return self.enter_ring(wait);
        }
        self.enter_for(wait, more, u32::try_from(within_ns.div_ceil(1_000)).unwrap_or(u32::MAX))
    }

    fn cpu_ns(&mut self) -> u64 {
        let cpu = read_clock(libc::CLOCK_THREAD_CPUTIME_ID);
        cpu.tv_sec.cast_unsigned() * 1_000_000_000 + cpu.tv_nsec.cast_unsigned()
    }

    #[inline]
    fn pop(&mut self) -> Option<Completion<Chain>> {
        if self.ready.is_empty() { self.reap() } else { self.pop_ready() }
    }

    #[inline]
    fn received(&self, buffer: BufferId, len: u32) -> &[u8] {
        self.buffers.read(buffer, len)
    }

    #[inline]
    fn recycle(&mut self, buffer: BufferId) {
        self.buffers.recycle(buffer);
    }

    /// A call of clock_gettime(2), through the vdso; a second one for the wall clock, at most once a millisecond.
    fn clock(&mut self) -> Clock {
        let mono_ns = self.mono_ns();
        if mono_ns >= self.unix_until_ns {
            self.unix_until_ns = mono_ns + UNIX_AGE_NS;
            self.unix_s = u64::try_from(read_clock(libc::CLOCK_REALTIME_COARSE).tv_sec).unwrap_or(0);
        }
        Clock { mono_ns, unix_s: self.unix_s }
    }

    fn mono_ns(&mut self) -> u64 {
        let mono = read_clock(libc::CLOCK_MONOTONIC);
        mono.tv_sec.cast_unsigned() * 1_000_000_000 + mono.tv_nsec.cast_unsigned()
    }

    fn unpark(&self) -> Arc<dyn Unpark> {
        Arc::clone(&self.wake) as Arc<dyn Unpark>
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            hand: self.direct() && self.granted.contains(Features::MSG_RING),
            shared_socks: !self.direct(),
            peer_name: self.granted.contains(Features::PEER_NAME),
            sock_options: !self.direct() || self.granted.contains(Features::PEER_NAME),
            bind: !self.direct() || self.can_bind,
        }
    }

    fn stats(&self) -> KernelStats {
        // SAFETY: rule 1, as in `needs_enter`.
        let dropped = unsafe { self.io.completion_shared() }.overflow();
        KernelStats { dropped: u64::from(dropped), ..self.stats }
    }
}

impl Ring {
    #[inline(never)]
    #[allow(clippy::result_large_err)] // as `push`
    fn push_rare(&mut self, op: Op<Chain>) -> Result<(), Op<Chain>> {
        let owns = matches!(
            op,
            Op::Accept { .. }
                | Op::Bind { .. }
                | Op::Connect { .. }
                | Op::Open { .. }
                | Op::Read { .. }
                | Op::ReadInto { .. }
                | Op::Write { .. }
                | Op::Hand { .. }
                | Op::PeerName { .. }
        );
        if owns && !self.flights.has_room() {
            return Err(op);
        }
        let file = self.file();
        let fd = |sock: Sock| Fd(sock.0.cast_signed());
        match op {
            Op::Send { .. } | Op::Recv { .. } => unreachable!("pushed before"),
            Op::Accept { listener, token, mode } => self.accept(listener, token, mode),
            Op::Shutdown { sock, token, how } => {
                let how = match how {
                    ShutdownHow::Write => libc::SHUT_WR,
                    ShutdownHow::Both => libc::SHUT_RDWR,
                };
                self.plain(opcode::Shutdown::new(fd(sock), how).build().flags(file), token);
            }
            Op::Reset { sock, token } => {
                // connect(2): an address of family AF_UNSPEC dissolves the association, which for TCP drops
                // both queues and sends a reset. The kernel copies the address while it takes the entry.
                let connect = opcode::Connect::new(fd(sock), &raw const NOWHERE, NOWHERE_LEN);
                let connect = connect.build().flags(file);
                self.plain(connect, token);
            }
            Op::Close { sock, token } => {
                let close = match self.direct() {
                    true => opcode::Close::new(Fixed(sock.0)),
                    false => opcode::Close::new(fd(sock)),
                };
                self.plain(close.build(), token);
            }
            Op::Cancel { target, token } => self.cancel(target, token),
            Op::CancelSock { sock, token } => self.cancel_sock(sock, token),
            Op::Socket { v6, token } => {
                let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
                let kind = libc::SOCK_STREAM | self.cloexec();
                let socket = opcode::Socket::new(domain, kind, 0).file_index(self.slot());
                self.plain(socket.build(), token);
            }
            Op::Configure { sock, token, option } => self.configure(sock, token, option),
            Op::Bind { sock, token, addr } => {
                if !self.direct() {
                    let result = options::bind(sock, &RawAddr::from(addr));
                    self.answer(token, result);
                    return Ok(());
                }
                if !self.can_bind {
                    self.answer(token, -libc::EOPNOTSUPP);
                    return Ok(());
                }
                let (index, name) =
                    self.flights.insert(token, Flight::Connect(Box::new(RawAddr::from(addr))));
                let Flight::Connect(addr) = &self.flights.get(index).flight else { unreachable!() };
                let bind = opcode::Bind::new(fd(sock), addr.as_ptr(), addr.len()).build();
                self.queue_counted(&bind.flags(file).user_data(name));
            }
            Op::Connect { sock, token, addr } => {
                let (index, name) =
                    self.flights.insert(token, Flight::Connect(Box::new(RawAddr::from(addr))));
                let Flight::Connect(addr) = &self.flights.get(index).flight else { unreachable!() };
                let connect = opcode::Connect::new(fd(sock), addr.as_ptr(), addr.len()).build();
                self.queue_counted(&connect.flags(file).user_data(name));
            }
            Op::Open { path, flags, mode, token } => {
                let (index, name) = self.flights.insert(token, Flight::Open(path));
                let (slot, cloexec) = (self.slot(), self.cloexec());
                let Flight::Open(path) = &self.flights.get(index).flight else { unreachable!() };
                let open = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr());
                let open = open.flags(flags & !libc::O_CLOEXEC | cloexec).mode(mode).file_index(slot);
                self.queue_counted(&open.build().user_data(name));
            }
            Op::Read { file: sock, offset, data, token } => {
                let (index, name) = self.flights.insert(token, Flight::Data(data));
                let Flight::Data(data) = &mut self.flights.get(index).flight else { unreachable!() };
                let read = opcode::Read::new(fd(sock), data.as_mut_ptr(), len32(data.len()));
                self.queue_counted(&read.offset(offset).build().flags(file).user_data(name));
            }
            Op::ReadInto { file: sock, offset, data, token } => {
                let (index, name) = self.flights.insert(token, Flight::Send(data));
                let Flight::Send(data) = &mut self.flights.get(index).flight else { unreachable!() };
                // Rule 2: the memory is the chunk's, which moves with the entry or not at all.
                let room = data.first_mut();
                let read = opcode::Read::new(fd(sock), room.as_mut_ptr(), len32(room.len()));
                self.queue_counted(&read.offset(offset).build().flags(file).user_data(name));
            }
            Op::Write { file: sock, offset, data, from, token } => {
                let (index, name) = self.flights.insert(token, Flight::Data(data));
                let Flight::Data(data) = &self.flights.get(index).flight else { unreachable!() };
                let bytes = &data[from as usize..];
                let write = opcode::Write::new(fd(sock), bytes.as_ptr(), len32(bytes.len()));
                self.queue_counted(&write.offset(offset).build().flags(file).user_data(name));
            }
            Op::Hand { sock, to, arrival, token } => self.hand(sock, to, arrival, token),
            Op::PeerName { sock, token } => self.peer_name(sock, token),
            Op::Sync { file: sock, data_only, token } => {
                let how = if data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
                self.plain(opcode::Fsync::new(fd(sock)).flags(how).build().flags(file), token);
            }
        }
        Ok(())
    }
}
