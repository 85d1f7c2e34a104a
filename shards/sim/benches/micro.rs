//! Micro benches of the simulated kernel: what a test pays for a turn and for an operation. Its log is in it.
//!
//! Not here: what runs on it (`exec`, `net`).

#![allow(clippy::unwrap_used)]

#[path = "../../base/benches/shared/mod.rs"]
mod shared;

use bytes::Bytes;
use corelane_base::{AcceptMode, Completion, Kernel, Op, Payload, RecvMode, Sock, Token, Wait};
use corelane_pools::Chain;
use corelane_sim::{Peer, Sim, SimConfig, SimKernel, World};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

/// A connection, its other end, and its armed receive.
struct Pair {
    kernel: SimKernel,
    world: World,
    peer: Peer,
    sock: Sock,
}

fn token(tag: u8) -> Token {
    Token::new(1, tag, 0, 0)
}

/// Enters until the next completion.
fn next(kernel: &mut SimKernel) -> Completion<Chain> {
    for _ in 0..8 {
        if let Some(done) = kernel.pop() {
            return done;
        }
        kernel.enter(Wait::No).unwrap();
    }
    panic!("nothing came");
}

impl Pair {
    fn new() -> Pair {
        let (mut kernel, world) = Sim::new(SimConfig::default());
        let listener = world.add_listener();
        let peer = world.connect(listener);
        let (token, mode) = (token(0), AcceptMode::OneWithPeer);
        assert!(kernel.push(Op::Accept { listener, token, mode }).is_ok());
        let sock = Sock(u32::try_from(next(&mut kernel).result).unwrap());
        let mut pair = Pair { kernel, world, peer, sock };
        pair.receive();
        pair
    }

    fn receive(&mut self) {
        let op = Op::Recv { sock: self.sock, token: token(1), mode: RecvMode::Multi };
        assert!(self.kernel.push(op).is_ok());
    }

    fn next(&mut self) -> Completion<Chain> {
        next(&mut self.kernel)
    }
}

/// An enter with nothing to do.
#[divan::bench]
fn enter_and_find_nothing(bencher: Bencher<'_, '_>) {
    let mut pair = Pair::new();
    bencher.bench_warm(|| {
        pair.kernel.enter(Wait::No).unwrap();
        pair.kernel.pop().is_none()
    });
}

#[divan::bench]
fn read_the_clock(bencher: Bencher<'_, '_>) {
    let mut pair = Pair::new();
    bencher.bench_warm(|| pair.kernel.clock().mono_ns);
}

/// A request in and its answer out: the peer's write, receive, recycle, send, the peer's read.
#[divan::bench(args = [64, 4_096])]
fn receive_and_send(bencher: Bencher<'_, '_>, len: usize) {
    let (mut pair, bytes) = (Pair::new(), Bytes::from(vec![b'a'; len]));
    bencher.counter(BytesCount::new(2 * len)).bench_warm(|| {
        assert_eq!(pair.peer.write(black_box(&bytes)), len);
        let got = pair.next();
        let Payload::Received(buffer) = got.payload else { panic!("{got:?}") };
        let first = pair.kernel.received(buffer, got.result.cast_unsigned())[0];
        pair.kernel.recycle(buffer);
        if !got.more {
            pair.receive();
        }
        let op = Op::Send { sock: pair.sock, token: token(2), data: Chain::from(bytes.clone()) };
        assert!(pair.kernel.push(op).is_ok());
        let sent = pair.next();
        assert_eq!(usize::try_from(sent.result), Ok(len));
        pair.kernel.enter(Wait::No).unwrap();
        assert_eq!(pair.peer.take().len(), len);
        first
    });
    assert_eq!(pair.world.buffers_lent(), 0);
}

/// A new world with one connection in it: the least that a test begins with.
#[divan::bench]
fn make_a_world(bencher: Bencher<'_, '_>) {
    bencher.bench_warm(|| black_box(Pair::new()).sock);
}
