//! A ring with its pools and listeners, and the few steps every test takes.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use corelane_base::{
    AcceptMode, BufferId, Completion, Kernel, ListenerId, Op, Payload, RecvMode, Sock, Token, Wait,
};
use corelane_pools::{Chain, PoolConfig, Pools};
use corelane_uring::{Features, Ring, RingConfig};

/// Longest any single step may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub const ACCEPT: u8 = 1;
pub const RECV: u8 = 2;
pub const SEND: u8 = 3;
pub const CLOSE: u8 = 4;
pub const CANCEL: u8 = 5;
pub const OTHER: u8 = 6;

pub fn token(tag: u8, index: u32) -> Token {
    Token::new(1, tag, 0, index)
}

pub fn small() -> RingConfig {
    RingConfig {
        entries: 64,
        completion_entries: 256,
        recv_buffers: 16,
        recv_buffer_bytes: 4096,
        descriptors: 64,
        without: Features::NONE,
    }
}

pub fn without(features: Features) -> RingConfig {
    RingConfig { without: features, ..small() }
}

/// Nothing left off, each feature left off by itself, and all of them.
pub fn masks() -> Vec<Features> {
    let mut all = vec![Features::NONE, Features::ALL];
    all.extend(Features::ALL.iter().map(|(_, one)| one));
    all
}

pub struct Bed {
    pub ring: Ring,
    pub pools: Pools,
    /// Taken from the ring while waiting for something else.
    pub held: VecDeque<Completion<Chain>>,
}

impl Bed {
    pub fn new(config: &RingConfig) -> Bed {
        let ring = Ring::new(config).unwrap();
        let pools = Pools::new(&PoolConfig::default()).unwrap();
        Bed { ring, pools, held: VecDeque::new() }
    }

    /// A listener on a free port of loopback.
    pub fn listen(&mut self) -> (ListenerId, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        (self.ring.add_listener(listener.into()), addr)
    }

    /// Pushes, entering when the queue is full.
    pub fn push(&mut self, op: Op<Chain>) {
        let mut op = op;
        let start = Instant::now();
        while let Err(back) = self.ring.push(op) {
            assert!(start.elapsed() < PATIENCE, "no room");
            op = back;
            self.ring.enter(Wait::No).unwrap();
            while let Some(completion) = self.ring.pop() {
                self.held.push_back(completion);
            }
        }
    }

    pub fn enter(&mut self) {
        self.ring.enter(Wait::No).unwrap();
    }

    /// The next completion, whichever it is.
    #[track_caller]
    pub fn next(&mut self) -> Completion<Chain> {
        self.held.pop_front().or_else(|| self.next_within(PATIENCE)).expect("a completion")
    }

    /// The next completion from the ring, or none in that time.
    pub fn next_within(&mut self, time: Duration) -> Option<Completion<Chain>> {
        let start = Instant::now();
        loop {
            if let Some(completion) = self.ring.pop() {
                return Some(completion);
            }
            let left = time.checked_sub(start.elapsed())?;
            let ns = u64::try_from(left.as_nanos()).unwrap().max(1);
            self.ring.enter(Wait::Until(Some(ns))).unwrap();
        }
    }

    /// The next completion of `token`; others are held.
    #[track_caller]
    pub fn of(&mut self, token: Token) -> Completion<Chain> {
        if let Some(at) = self.held.iter().position(|c| c.token == token) {
            return self.held.remove(at).unwrap();
        }
        let start = Instant::now();
        loop {
            let left = PATIENCE.checked_sub(start.elapsed());
            let next = left.and_then(|left| self.next_within(left));
            let Some(completion) = next else { panic!("no completion of {token:?}; held {:?}", self.held) };
            if completion.token == token {
                return completion;
            }
            self.held.push_back(completion);
        }
    }

    /// What a receive brought, recycled.
    pub fn bytes(&mut self, completion: &Completion<Chain>) -> Vec<u8> {
        match completion.payload {
            Payload::Received(buffer) => self.take(buffer, completion.result),
            _ => Vec::new(),
        }
    }

    pub fn take(&mut self, buffer: BufferId, result: i32) -> Vec<u8> {
        let bytes = self.ring.received(buffer, u32::try_from(result).unwrap()).to_vec();
        self.ring.recycle(buffer);
        bytes
    }

    pub fn accept(&mut self, listener: ListenerId, token: Token, mode: AcceptMode) {
        self.push(Op::Accept { listener, token, mode });
    }

    pub fn recv(&mut self, sock: Sock, token: Token, mode: RecvMode) {
        self.push(Op::Recv { sock, token, mode });
    }

    pub fn send(&mut self, sock: Sock, token: Token, data: impl Into<Chain>) {
        self.push(Op::Send { sock, token, data: data.into() });
    }

    /// A chain of one pool buffer with these bytes.
    pub fn chain(&self, bytes: &[u8]) -> Chain {
        let mut buf = self.pools.get(bytes.len()).unwrap();
        assert_eq!(buf.put(bytes), bytes.len());
        Chain::from(buf)
    }

    /// A connected pair: the ring's end and the peer's.
    pub fn pair(&mut self) -> (Sock, TcpStream) {
        let (listener, addr) = self.listen();
        let accepting = token(ACCEPT, 0xffff);
        self.accept(listener, accepting, AcceptMode::OneWithPeer);
        self.enter();
        let peer = TcpStream::connect(addr).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let accepted = self.of(accepting);
        assert!(!accepted.more);
        assert!(self.ring.remove_listener(listener));
        (sock(accepted.result), peer)
    }
}

/// What the peer reads next. The kernel takes a ring apart on the thread that made it, and gives it sockets
/// there, either of which may interrupt a call.
#[track_caller]
pub fn read(peer: &mut TcpStream, into: &mut [u8]) -> usize {
    loop {
        match peer.read(into) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => return read.unwrap(),
        }
    }
}

#[track_caller]
pub fn sock(result: i32) -> Sock {
    Sock(u32::try_from(result).unwrap_or_else(|_| panic!("errno {}", -result)))
}
