//! A kernel that costs next to nothing: what is counted on it is the shard's own work.
//!
//! Every send is whole at once, every connection receives the same bytes whenever [`Replay::ask`] says so, and the
//! clock moves by a microsecond at each reading. Completions come in the order of what was pushed.
//!
//! # Rules
//! 1. Nothing is random, and no system call is made: the same calls cost the same instructions.
//! 2. What a case does not need fails loudly: an operation that no case pushes is a panic.
//!
//! Not here: faults, latency, partial sends (`corelane-sim` has those, at a cost that would hide the shard's).

use std::collections::VecDeque;
use std::sync::Arc;

use corelane_base::{
    BufferId, Clock, Completion, Kernel, KernelStats, ListenerId, Op, Payload, Sock, Token, Unpark, Wait,
};
use corelane_pools::Chain;

/// Between two readings of the clock: no timer of a case fires by it.
const STEP_NS: u64 = 1_000;

/// 2023-11-14T22:13:20Z. It stands still, so that `Date` is written once.
const UNIX_S: u64 = 1_700_000_000;

/// The only buffer there is: all that is received stands in it.
const BUFFER: BufferId = BufferId(0);

/// The only listener.
pub(super) const LISTENER: ListenerId = ListenerId(0);

/// See the module.
pub(super) struct Replay {
    clock: Clock,
    pushed: bool,
    done: VecDeque<Completion<Chain>>,
    /// What every connection receives.
    input: &'static [u8],
    accept: Option<Token>,
    /// The receive under way on each socket, by its number.
    recvs: Vec<Option<Token>>,
    /// Bytes sent.
    sent_bytes: u64,
    /// The beginning of what was sent first.
    first: Vec<u8>,
    closed: u64,
}

impl Replay {
    /// A kernel whose connections will receive `input`.
    pub(super) fn new(input: &'static [u8]) -> Replay {
        Replay {
            clock: Clock { mono_ns: 1_000_000_000, unix_s: UNIX_S },
            pushed: false,
            done: VecDeque::with_capacity(1024),
            input,
            accept: None,
            recvs: Vec::new(),
            sent_bytes: 0,
            first: Vec::new(),
            closed: 0,
        }
    }

    /// A peer connects: the accept under way brings this socket.
    pub(super) fn connect(&mut self, sock: u32) {
        let Some(token) = self.accept else { panic!("no accept is under way") };
        let at = sock as usize;
        if self.recvs.len() <= at {
            self.recvs.resize(at + 1, None);
        }
        self.finish(token, sock.cast_signed(), true, Payload::None);
    }

    /// The input arrives at this socket.
    #[inline]
    pub(super) fn ask(&mut self, sock: u32) {
        let Some(token) = self.recvs[sock as usize] else { panic!("no receive is under way on {sock}") };
        let len = i32::try_from(self.input.len()).unwrap_or(i32::MAX);
        self.finish(token, len, true, Payload::Received(BUFFER));
    }

    /// Lets this much time pass.
    pub(super) fn pass(&mut self, ns: u64) {
        self.clock.mono_ns += ns;
    }

    /// Bytes sent so far, on all sockets.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// What the first send held.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Sockets closed so far.
    pub(super) fn closed(&self) -> u64 {
        self.closed
    }

    #[inline]
    fn finish(&mut self, token: Token, result: i32, more: bool, payload: Payload<Chain>) {
        self.done.push_back(Completion { token, result, more, payload });
    }

    /// The receive under way on this socket, if there is one, ends.
    fn end_recv(&mut self, sock: Sock, result: i32) {
        if let Some(token) = self.recvs[sock.0 as usize].take() {
            self.finish(token, result, false, Payload::None);
        }
    }

    fn answer(&mut self, token: Token) {
        if token != Token::NONE {
            self.finish(token, 0, false, Payload::None);
        }
    }
}

/// Errno of an operation that was cancelled (errno(3), Linux).
const ECANCELED: i32 = 125;

impl Kernel for Replay {
    type Bytes = Chain;

    #[inline]
    fn push(&mut self, op: Op<Chain>) -> Result<(), Op<Chain>> {
        self.pushed = true;
        match op {
            Op::Send { token, data, .. } => {
                if self.first.is_empty() {
                    self.first.extend_from_slice(data.first());
                }
                let len = data.len();
                self.sent_bytes += len as u64;
                self.finish(token, i32::try_from(len).unwrap_or(i32::MAX), false, Payload::Sent(data));
            }
            Op::Recv { sock, token, .. } => self.recvs[sock.0 as usize] = Some(token),
            Op::Accept { token, .. } => self.accept = Some(token),
            // The peer reads to the end and closes, too.
            Op::Shutdown { sock, token, .. } => {
                self.answer(token);
                self.end_recv(sock, 0);
            }
            Op::CancelSock { sock, token } => {
                self.answer(token);
                self.end_recv(sock, -ECANCELED);
            }
            Op::Close { token, .. } => {
                self.closed += 1;
                self.answer(token);
            }
            other => panic!("no case needs {other:?}"),
        }
        Ok(())
    }

    #[inline]
    fn needs_enter(&self) -> bool {
        self.pushed
    }

    #[inline]
    fn enter(&mut self, _wait: Wait) -> std::io::Result<()> {
        self.pushed = false;
        Ok(())
    }

    #[inline]
    fn pop(&mut self) -> Option<Completion<Chain>> {
        self.done.pop_front()
    }

    #[inline]
    fn received(&self, _buffer: BufferId, len: u32) -> &[u8] {
        &self.input[..len as usize]
    }

    #[inline]
    fn recycle(&mut self, _buffer: BufferId) {}

    #[inline]
    fn clock(&mut self) -> Clock {
        self.clock.mono_ns += STEP_NS;
        self.clock
    }

    fn unpark(&self) -> Arc<dyn Unpark> {
        Arc::new(Nobody)
    }

    fn stats(&self) -> KernelStats {
        KernelStats::default()
    }
}

/// Nobody sleeps here.
#[derive(Debug)]
struct Nobody;

impl Unpark for Nobody {
    fn unpark(&self) {}
}
