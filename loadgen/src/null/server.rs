//! The loop of the null server: one thread, one ring, one kernel entry a turn.
//!
//! Accept and receive are multishot. What a turn's requests are owed on a connection leaves in one send at
//! the end of the turn, or behind the send that is under way.
//!
//! # Rules
//! 1. At most one send and one receive are under way on a connection. It is closed when both have ended, and
//!    its place is empty from then on; so a completion always belongs to the connection in its place (rules 3
//!    and 4 of `corelane_base::op`).
//! 2. A connection that is owed more than [`PENDING_LEN_MAX`] is not read until it is owed less: its peer is
//!    held up by TCP. What arrives before the pause takes effect is at most what the receive ring holds.
//! 3. Buffers go back to the ring in the turn that brought them.
//! 4. A connection is cut for three reasons: what came is no request, its socket failed, the pools are empty.
//!
//! Not here: where a request ends (`requests`).

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use corelane_base::{
    AcceptMode, Completion, Kernel, ListenerId, Op, Payload, RecvMode, Sock, Token, Unpark, Wait,
};
use corelane_pools::{Chain, MEDIUM_LEN, PoolConfig, Pools};
use corelane_sys::Listener;
use corelane_sys::limits::Resource;
use corelane_uring::{Features, Ring, RingConfig};
use memchr::memmem::Finder;

use super::requests::{Command, Commands, Heads};
use super::{BODY, NullConfig, Served};
use crate::model::Speaks;

/// Most connections at once. The table of descriptors takes 8 bytes for each.
pub const CONNECTIONS_MAX: u32 = 131_072;

/// Bytes a connection may be owed. Past it, it is not read until it is owed less.
pub const PENDING_LEN_MAX: usize = 1 << 20;

/// Bytes of one send, about: enough for its cost not to matter.
const SEND_LEN: usize = 256 << 10;

/// Bytes of the block that HTTP answers are sent from, where one answer is not longer.
const BLOCK_LEN: usize = 64 << 10;

/// Bytes of all receive buffers, and of one.
const RECV_LEN: u32 = 4 << 20;
const RECV_BUFFER_LEN: u32 = 4 << 10;
const RECV_BUFFER_LEN_MAX: u32 = 64 << 10;

/// After an accept that failed for want of something, the next one waits this long.
const ACCEPT_PAUSE_NS: u64 = 10_000_000;

/// How long connections have to end when the server stops. Then the ring is dropped, which waits once more.
const END_NS: u64 = 1_000_000_000;

/// Entries into the kernel to make room for one operation. One is enough but when the kernel is out of
/// memory.
const PUSHES_MAX: u32 = 1_000;

/// What a completion is of: the tag of its token. The index is the socket.
const ACCEPT: u8 = 1;
const RECV: u8 = 2;
const SEND: u8 = 3;

fn token(tag: u8, sock: Sock) -> Token {
    Token::new(1, tag, 0, sock.0)
}

fn is_set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Acquire)
}

/// Where a connection is in what it receives.
#[derive(Debug)]
enum Input {
    Http(Heads),
    Resp(Commands),
    /// Bytes of a message that has not ended.
    Echo(u64),
}

/// Why a connection is cut.
#[derive(Debug)]
struct Unfit;

#[derive(Debug)]
struct Conn {
    input: Input,
    /// To send next.
    waiting: Chain,
    /// HTTP answers owed that are not in `waiting`.
    owed: usize,
    receiving: bool,
    sending: bool,
    /// The receive was cancelled because too much is owed.
    pausing: bool,
    /// Among those to be looked at when the turn ends.
    dirty: bool,
    /// The peer ended its side.
    ended: bool,
    /// Given up: what is under way was cancelled, what still comes is dropped.
    cut: bool,
}

/// HTTP answers: a block of them, sent from the front.
struct Answers {
    block: Bytes,
    /// Bytes of one.
    len: usize,
    /// How many there are.
    count: usize,
}

impl Answers {
    fn new(body_len: usize) -> Answers {
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {body_len}\r\n\r\n");
        let mut one = head.into_bytes();
        one.extend(BODY.iter().cycle().take(body_len));
        let count = (BLOCK_LEN / one.len()).max(1);
        Answers { len: one.len(), count, block: one.repeat(count).into() }
    }

    /// Moves answers that are owed to `chain`, up to about [`SEND_LEN`].
    fn fill(&self, owed: &mut usize, chain: &mut Chain) {
        while *owed > 0 && chain.len() < SEND_LEN && !chain.is_full() {
            let count = self.count.min(*owed);
            chain.push(self.block.slice(..count * self.len));
            *owed -= count;
        }
    }
}

/// Appends `bytes` to what is sent, in buffers of the pools.
fn put(chain: &mut Chain, pools: &Pools, bytes: &[u8]) -> Result<(), Unfit> {
    let mut rest = &bytes[chain.put(bytes)..];
    while !rest.is_empty() {
        if chain.is_full() {
            return Err(Unfit);
        }
        // Whoever has more than one has much.
        let len = if chain.is_empty() { rest.len().min(MEDIUM_LEN) } else { MEDIUM_LEN };
        let mut buf = pools.get(len).map_err(|_| Unfit)?;
        let count = buf.put(rest);
        rest = &rest[count..];
        chain.push(buf);
    }
    Ok(())
}

impl Conn {
    fn new(speaks: Speaks) -> Conn {
        let input = match speaks {
            Speaks::Http1 => Input::Http(Heads::default()),
            Speaks::Resp => Input::Resp(Commands::default()),
            Speaks::Echo => Input::Echo(0),
        };
        Conn {
            input,
            waiting: Chain::new(),
            owed: 0,
            receiving: false,
            sending: false,
            pausing: false,
            dirty: false,
            ended: false,
            cut: false,
        }
    }

    /// Bytes owed that are not with the kernel.
    #[inline]
    fn pending_len(&self, answers: &Answers) -> usize {
        self.waiting.len() + self.owed * answers.len
    }

    /// Finds requests and their answers. Returns how many.
    #[inline]
    fn take(&mut self, bytes: &[u8], tools: &Tools) -> Result<u64, Unfit> {
        match &mut self.input {
            Input::Http(heads) => {
                let count = heads.count(&tools.finder, bytes);
                self.owed += usize::try_from(count).map_err(|_| Unfit)?;
                Ok(count)
            }
            Input::Resp(commands) => {
                let (mut count, mut fit) = (0, Ok(()));
                let waiting = &mut self.waiting;
                let read = commands.read(bytes, |command| {
                    let answer: &[u8] = match command {
                        Command::Get => b"$-1\r\n",
                        Command::Set => b"+OK\r\n",
                        Command::Other => b"-ERR unknown command\r\n",
                    };
                    if put(waiting, &tools.pools, answer).is_err() {
                        fit = Err(Unfit);
                    }
                    count += 1;
                });
                read.map_err(|_| Unfit)?;
                fit.map(|()| count)
            }
            Input::Echo(partial) => {
                put(&mut self.waiting, &tools.pools, bytes)?;
                let len = *partial + bytes.len() as u64;
                *partial = len % tools.echo_len;
                Ok(len / tools.echo_len)
            }
        }
    }
}

/// What all connections use.
struct Tools {
    pools: Pools,
    answers: Answers,
    finder: Finder<'static>,
    echo_len: u64,
}

struct Server {
    ring: Ring,
    tools: Tools,
    speaks: Speaks,
    listener: ListenerId,
    /// By socket number.
    conns: Vec<Option<Conn>>,
    /// How many there are.
    open: usize,
    /// Connections to be looked at when the turn ends.
    dirty: Vec<Sock>,
    accepting: bool,
    stopping: bool,
    served: Served,
}

/// Serves until `stop` is set; looks at it after each sleep, which `nap_ns` bounds. `ready` gets what ends a
/// sleep.
///
/// # Errors
/// What could not be set up, or why the ring or the listener failed.
pub(super) fn run(
    listener: Listener,
    config: &NullConfig,
    stop: &AtomicBool,
    nap_ns: Option<u64>,
    ready: impl FnOnce(Arc<dyn Unpark>),
) -> Result<Served, String> {
    let mut server = Server::new(listener, config)?;
    ready(server.ring.unpark());
    while !is_set(stop) {
        // An accept that failed in the turn before.
        let is_due = !server.accepting;
        server.turn(Wait::Until(if is_due { Some(ACCEPT_PAUSE_NS) } else { nap_ns }))?;
        if is_due && !server.accepting {
            server.accept()?;
        }
    }
    server.end()?;
    server.served.no_buffers = server.ring.stats().no_buffers;
    Ok(server.served)
}

fn failed(what: &str, error: impl Display) -> String {
    format!("the null server cannot go on: {what}: {error}")
}

/// Queues an operation, entering the kernel where there is no room.
fn push(ring: &mut Ring, op: Op<Chain>) -> Result<(), String> {
    let mut op = op;
    for _ in 0..PUSHES_MAX {
        match ring.push(op) {
            Ok(()) => return Ok(()),
            Err(back) => op = back,
        }
        ring.enter(Wait::No).map_err(|error| failed("io_uring_enter", error))?;
    }
    Err(failed("io_uring_enter", "it takes no operations over"))
}

impl Server {
    fn new(listener: Listener, config: &NullConfig) -> Result<Server, String> {
        let nofile = Resource::Nofile.get().map_err(|error| failed("the limit of descriptors", error))?;
        let descriptors = u32::try_from(nofile.soft).unwrap_or(u32::MAX).min(config.connections_max);
        let recv_buffer_bytes = match config.speaks {
            Speaks::Echo => config.echo_len.next_power_of_two().clamp(RECV_BUFFER_LEN, RECV_BUFFER_LEN_MAX),
            Speaks::Http1 | Speaks::Resp => RECV_BUFFER_LEN,
        };
        let ring = RingConfig {
            entries: 1024,
            completion_entries: 8192,
            recv_buffers: u16::try_from(RECV_LEN / recv_buffer_bytes).unwrap_or(64),
            recv_buffer_bytes,
            descriptors,
            without: Features::NONE,
        };
        let mut ring =
            Ring::new(&ring).map_err(|error| format!("the null server cannot have a ring: {error}"))?;
        let pools =
            PoolConfig { small_count: 4096, medium_count: 1024, large_count: 0, ..PoolConfig::default() };
        let pools = Pools::new(&pools).map_err(|error| failed("memory for answers", error))?;
        let listener = ring.add_listener(listener.into());
        let mut server = Server {
            ring,
            tools: Tools {
                pools,
                answers: Answers::new(config.body_len),
                finder: Heads::finder(),
                echo_len: config.echo_len.into(),
            },
            speaks: config.speaks,
            listener,
            conns: Vec::new(),
            open: 0,
            dirty: Vec::new(),
            accepting: false,
            stopping: false,
            served: Served::default(),
        };
        server.accept()?;
        Ok(server)
    }

    /// Sleeps until there is something, takes all of it, and answers.
    fn turn(&mut self, wait: Wait) -> Result<(), String> {
        self.ring.enter(wait).map_err(|error| failed("io_uring_enter", error))?;
        while let Some(completion) = self.ring.pop() {
            let sock = Sock(completion.token.index());
            match completion.token.tag() {
                RECV => self.received(sock, completion)?,
                SEND => self.sent(sock, completion)?,
                _ => self.accepted(&completion)?,
            }
        }
        self.flush()
    }

    fn accept(&mut self) -> Result<(), String> {
        self.accepting = true;
        let (listener, token) = (self.listener, token(ACCEPT, Sock(0)));
        push(&mut self.ring, Op::Accept { listener, token, mode: AcceptMode::Multi })
    }

    fn accepted(&mut self, completion: &Completion<Chain>) -> Result<(), String> {
        self.accepting = completion.more;
        let Ok(number) = u32::try_from(completion.result) else {
            return match -completion.result {
                libc::ECANCELED if self.stopping => Ok(()),
                libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT => {
                    let error = std::io::Error::from_raw_os_error(-completion.result);
                    Err(failed("accept", error))
                }
                // A peer that left, or no room: the loop asks again after a pause.
                _ => {
                    self.served.refused += 1;
                    Ok(())
                }
            };
        };
        let sock = Sock(number);
        if self.stopping {
            return push(&mut self.ring, Op::Close { sock, token: Token::NONE });
        }
        if !self.accepting {
            self.accept()?;
        }
        let at = number as usize;
        if at >= self.conns.len() {
            self.conns.resize_with(at + 1, || None);
        }
        debug_assert!(self.conns[at].is_none(), "rule 1");
        self.conns[at] = Some(Conn::new(self.speaks));
        self.open += 1;
        self.served.connections += 1;
        self.receive(sock)
    }

    fn conn(&mut self, sock: Sock) -> Option<&mut Conn> {
        self.conns.get_mut(sock.0 as usize)?.as_mut()
    }

    fn receive(&mut self, sock: Sock) -> Result<(), String> {
        let Some(conn) = self.conn(sock) else { return Ok(()) };
        conn.receiving = true;
        push(&mut self.ring, Op::Recv { sock, token: token(RECV, sock), mode: RecvMode::Multi })
    }

    #[inline]
    fn received(&mut self, sock: Sock, completion: Completion<Chain>) -> Result<(), String> {
        let place = self.conns.get_mut(sock.0 as usize).and_then(Option::as_mut);
        let mut is_fit = true;
        if let Payload::Received(buffer) = completion.payload {
            if let Some(conn) = place
                && !conn.cut
            {
                let bytes = self.ring.received(buffer, completion.result.unsigned_abs());
                match conn.take(bytes, &self.tools) {
                    Ok(requests) => self.served.requests += requests,
                    Err(Unfit) => is_fit = false,
                }
                if !conn.dirty {
                    conn.dirty = true;
                    self.dirty.push(sock);
                }
            }
            self.ring.recycle(buffer);
        }
        if !is_fit {
            self.cut(sock)?;
        }
        if completion.more { Ok(()) } else { self.receive_ended(sock, completion.result) }
    }

    fn receive_ended(&mut self, sock: Sock, result: i32) -> Result<(), String> {
        let Some(conn) = self.conn(sock) else { return Ok(()) };
        conn.receiving = false;
        let was_pausing = std::mem::take(&mut conn.pausing);
        match -result {
            _ if conn.cut => {}
            0 => conn.ended = true,
            // A full completion queue, no buffer, or our own pause: on, as soon as not too much is owed.
            ..0 | libc::ENOBUFS => {}
            libc::ECANCELED if was_pausing => {}
            _ => return self.cut(sock),
        }
        self.mark(sock);
        Ok(())
    }

    fn sent(&mut self, sock: Sock, completion: Completion<Chain>) -> Result<(), String> {
        let Some(conn) = self.conn(sock) else { return Ok(()) };
        conn.sending = false;
        let Payload::Sent(mut left) = completion.payload else { return self.cut(sock) };
        match usize::try_from(completion.result) {
            _ if conn.cut => {}
            Ok(count) if count > 0 => {
                left.advance(count);
                if !left.is_empty() {
                    // What was not taken goes before what came to be owed meanwhile.
                    if left.chunks_count() + conn.waiting.chunks_count() > corelane_pools::CHUNKS_MAX {
                        return self.cut(sock);
                    }
                    left.append(std::mem::take(&mut conn.waiting));
                    conn.waiting = left;
                }
            }
            _ => return self.cut(sock),
        }
        self.mark(sock);
        Ok(())
    }

    fn mark(&mut self, sock: Sock) {
        if let Some(conn) = self.conn(sock)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(sock);
        }
    }

    /// Looks at all connections to which something happened in this turn.
    fn flush(&mut self) -> Result<(), String> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for sock in dirty.drain(..) {
            self.settle(sock)?;
        }
        self.dirty = dirty;
        Ok(())
    }

    /// Does what a connection needs next: a send, a receive, a pause, or its end.
    fn settle(&mut self, sock: Sock) -> Result<(), String> {
        let Self { ring, tools, conns, .. } = self;
        let Some(conn) = conns.get_mut(sock.0 as usize).and_then(Option::as_mut) else { return Ok(()) };
        conn.dirty = false;
        if !conn.sending && !conn.cut {
            tools.answers.fill(&mut conn.owed, &mut conn.waiting);
            if !conn.waiting.is_empty() {
                conn.sending = true;
                let data = std::mem::take(&mut conn.waiting);
                push(ring, Op::Send { sock, token: token(SEND, sock), data })?;
            }
        }
        let is_over = conn.cut || conn.ended && !conn.sending;
        if is_over && !conn.receiving && !conn.sending {
            // Rule 1.
            conns[sock.0 as usize] = None;
            self.open -= 1;
            return push(&mut self.ring, Op::Close { sock, token: Token::NONE });
        }
        if conn.cut || conn.ended {
            return Ok(());
        }
        let is_too_much = conn.pending_len(&tools.answers) > PENDING_LEN_MAX;
        if is_too_much && conn.receiving && !conn.pausing {
            conn.pausing = true;
            return push(ring, Op::Cancel { target: token(RECV, sock), token: Token::NONE });
        }
        if !is_too_much && !conn.receiving {
            return self.receive(sock);
        }
        Ok(())
    }

    /// Gives a connection up.
    fn cut(&mut self, sock: Sock) -> Result<(), String> {
        let Some(conn) = self.conn(sock) else { return Ok(()) };
        if !conn.cut {
            conn.cut = true;
            conn.owed = 0;
            conn.waiting.clear();
            let is_busy = conn.receiving || conn.sending;
            self.served.cut += 1;
            if is_busy {
                push(&mut self.ring, Op::CancelSock { sock, token: Token::NONE })?;
            }
        }
        self.mark(sock);
        Ok(())
    }

    /// Ends everything: first what would bring new connections, then those there are.
    fn end(&mut self) -> Result<(), String> {
        self.stopping = true;
        if self.accepting {
            push(&mut self.ring, Op::Cancel { target: token(ACCEPT, Sock(0)), token: Token::NONE })?;
        }
        // What a stop cuts was no fault of the connection.
        let cut = self.served.cut;
        for number in (0..).take(self.conns.len()) {
            self.cut(Sock(number))?;
        }
        self.served.cut = cut;
        self.flush()?;
        let until = self.ring.mono_ns() + END_NS;
        while self.open > 0 || self.accepting {
            let left = until.saturating_sub(self.ring.mono_ns());
            if left == 0 {
                break;
            }
            self.turn(Wait::Until(Some(left)))?;
        }
        // The last closes.
        self.ring.enter(Wait::No).map_err(|error| failed("io_uring_enter", error))
    }
}
