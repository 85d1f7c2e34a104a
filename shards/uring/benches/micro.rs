//! Micro benches of the ring: what our side of it costs, and what an enter with next to nothing in it does.
//!
//! `receive`, `send` and `sent` are timed without the kernel's part: 64 loopback connections are made ready,
//! or what was pushed is carried out, outside of the time. The others have system calls in them, so they say
//! as much about the kernel as about us.
//!
//! Not here: whole servers (`cargo run -p bench -- compare`).

#![allow(clippy::unwrap_used)]

#[path = "../../base/benches/shared/mod.rs"]
mod shared;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use corelane_base::{AcceptMode, Completion, Kernel, Op, Payload, RecvMode, Sock, Token, Wait};
use corelane_pools::{Chain, PoolConfig, Pools};
use corelane_uring::{Features, Ring, RingConfig};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

const CONNECTIONS: usize = 64;
const REQUEST: [u8; 40] = *b"GET /plaintext HTTP/1.1\r\nHost: local\r\n\r\n";
const ANSWER: [u8; 128] = [b'a'; 128];

fn ring() -> Ring {
    let config = RingConfig {
        entries: 1024,
        completion_entries: 8192,
        recv_buffers: 1024,
        recv_buffer_bytes: 4096,
        descriptors: 1024,
        without: Features::NONE,
    };
    Ring::new(&config).unwrap()
}

/// A ring with accepted connections, each with its multishot receive armed, and their other ends.
struct Server {
    ring: Ring,
    pools: Pools,
    socks: Vec<Sock>,
    peers: Vec<TcpStream>,
}

impl Server {
    fn new(connections: usize) -> Server {
        let pools = Pools::new(&PoolConfig::default()).unwrap();
        let mut server = Server { ring: ring(), pools, socks: Vec::new(), peers: Vec::new() };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let id = server.ring.add_listener(listener.into());
        let accept = Token::new(0, 0, 0, 0);
        server.push(Op::Accept { listener: id, token: accept, mode: AcceptMode::Multi });
        for _ in 0..connections {
            let peer = TcpStream::connect(addr).unwrap();
            peer.set_nodelay(true).unwrap();
            server.peers.push(peer);
            let accepted = server.wait();
            server.socks.push(Sock(u32::try_from(accepted.result).unwrap()));
        }
        for (index, sock) in (0..).zip(server.socks.clone()) {
            server.push(Op::Recv { sock, token: Token::new(0, 1, 0, index), mode: RecvMode::Multi });
        }
        server.ring.enter(Wait::No).unwrap();
        server
    }

    fn push(&mut self, op: Op<Chain>) {
        assert!(self.ring.push(op).is_ok(), "the queue has room");
    }

    /// Pops the next completion; enters only where there is none.
    #[inline]
    fn wait(&mut self) -> Completion<Chain> {
        loop {
            if let Some(done) = self.ring.pop() {
                return done;
            }
            self.ring.enter(Wait::Until(None)).unwrap();
        }
    }

    /// Has the kernel carry out what is pushed and bring what it has: an enter runs about twenty pieces of
    /// deferred work and leaves the rest to the next.
    fn settle(&mut self) {
        while self.ring.needs_enter() {
            self.ring.enter(Wait::No).unwrap();
        }
    }

    /// Has every peer ask.
    fn ask(&mut self) {
        for peer in &mut self.peers {
            peer.write_all(&REQUEST).unwrap();
        }
        self.settle();
    }

    /// Pops what came in, reads a byte of each, and gives the buffers back. Gives the sum of those bytes. A
    /// receive that is late is waited for, at the cost of that sample.
    fn receive(&mut self) -> u64 {
        let mut sum = 0;
        for _ in 0..self.socks.len() {
            let got = self.wait();
            let Payload::Received(buffer) = got.payload else { panic!("{got:?}") };
            let bytes = self.ring.received(buffer, got.result.cast_unsigned());
            sum += u64::from(bytes[0]) + u64::from(got.token.index());
            self.ring.recycle(buffer);
        }
        sum
    }

    /// An answer for each connection.
    fn answers(&self) -> Vec<Chain> {
        let answer = || {
            let mut buf = self.pools.get(ANSWER.len()).unwrap();
            buf.put(&ANSWER);
            Chain::from(buf)
        };
        self.socks.iter().map(|_| answer()).collect()
    }

    /// Pushes the answers.
    fn send(&mut self, answers: &mut Vec<Chain>) {
        for (index, data) in (0..).zip(answers.drain(..)) {
            let (sock, token) = (self.socks[index as usize], Token::new(0, 2, 0, index));
            assert!(self.ring.push(Op::Send { sock, token, data }).is_ok());
        }
    }

    /// Pops what became of the answers, and drops them.
    fn sent(&mut self) -> u64 {
        let mut sum = 0;
        for _ in 0..self.socks.len() {
            let sent = self.wait();
            assert_eq!(sent.result, 128, "a whole answer");
            sum += u64::from(sent.token.index());
            assert!(matches!(sent.payload, Payload::Sent(_)), "the data comes back");
        }
        sum
    }

    /// Has every peer read its answer.
    fn read(&mut self) {
        let mut answer = [0; ANSWER.len()];
        for peer in &mut self.peers {
            peer.read_exact(&mut answer).unwrap();
        }
    }
}

/// Pop, read and recycle of what a multishot receive brought, 64 times.
#[divan::bench(sample_size = 1, sample_count = 1_000)]
fn receive(bencher: Bencher<'_, '_>) {
    let server = RefCell::new(Server::new(CONNECTIONS));
    bencher
        .with_inputs(|| server.borrow_mut().ask())
        .counter(ItemsCount::new(CONNECTIONS))
        .bench_local_values(|()| server.borrow_mut().receive());
}

/// Push of 64 sends.
#[divan::bench(sample_size = 1, sample_count = 1_000)]
fn send(bencher: Bencher<'_, '_>) {
    let (server, busy) = (RefCell::new(Server::new(CONNECTIONS)), RefCell::new(false));
    let finish = || {
        if busy.replace(true) {
            let mut server = server.borrow_mut();
            server.settle();
            server.sent();
            server.read();
        }
    };
    bencher
        .with_inputs(|| {
            finish();
            server.borrow().answers()
        })
        .counter(ItemsCount::new(CONNECTIONS))
        .bench_local_refs(|answers| server.borrow_mut().send(answers));
    finish();
}

/// Pop of 64 sends that are done, and the end of what they sent.
#[divan::bench(sample_size = 1, sample_count = 1_000)]
fn sent(bencher: Bencher<'_, '_>) {
    let server = RefCell::new(Server::new(CONNECTIONS));
    bencher
        .with_inputs(|| {
            let mut server = server.borrow_mut();
            let mut answers = server.answers();
            server.send(&mut answers);
            server.settle();
            server.read();
        })
        .counter(ItemsCount::new(CONNECTIONS))
        .bench_local_values(|()| server.borrow_mut().sent());
}

/// A request in and its answer out on each of so many connections, both ends on this thread: the peers'
/// writes and reads are in it.
#[divan::bench(args = [1, 64])]
fn echo_with_the_kernel(bencher: Bencher<'_, '_>, connections: usize) {
    let mut server = Server::new(connections);
    bencher.counter(ItemsCount::new(connections)).bench_warm(|| {
        server.ask();
        let sum = server.receive();
        let mut answers = server.answers();
        server.send(&mut answers);
        server.settle();
        server.sent();
        server.read();
        sum
    });
}

/// An enter with nothing pushed and nothing to bring.
#[divan::bench]
fn enter_for_nothing(bencher: Bencher<'_, '_>) {
    let mut ring = ring();
    bencher.bench_warm(|| ring.enter(Wait::No).unwrap());
}

/// The least there is to submit, as the seam has no operation that does nothing: the cancel of an operation
/// that does not exist. Push, one enter for all, pop.
#[divan::bench(args = [1, 64])]
fn submit_next_to_nothing(bencher: Bencher<'_, '_>, operations: u32) {
    let mut ring = ring();
    bencher.counter(ItemsCount::new(operations)).bench_warm(|| {
        for index in 0..operations {
            let (target, token) = (Token::new(0, 9, 0, index), Token::new(0, 8, 0, index));
            assert!(ring.push(black_box(Op::Cancel { target, token })).is_ok());
        }
        let mut left = operations;
        while left > 0 {
            ring.enter(Wait::No).unwrap();
            while let Some(done) = ring.pop() {
                assert!(done.result < 0, "there is nothing to cancel");
                left -= 1;
            }
        }
    });
}

/// A sleep that was ended before it began: the ring of the bell, the enter, what it brings.
#[divan::bench]
fn be_woken(bencher: Bencher<'_, '_>) {
    let mut ring = ring();
    let bell = ring.unpark();
    bencher.bench_warm(|| {
        bell.unpark();
        ring.enter(Wait::Until(None)).unwrap();
        assert!(ring.pop().is_none(), "a wake is no completion");
    });
}

/// Both clocks, once a turn.
#[divan::bench]
fn read_the_clocks(bencher: Bencher<'_, '_>) {
    let mut ring = ring();
    bencher.bench_warm(|| ring.clock().mono_ns);
}
