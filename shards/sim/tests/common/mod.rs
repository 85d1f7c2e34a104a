//! A few lines around a kernel that every test here needs: push with a way out when full, take all, wait
//! for one token.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

use std::collections::VecDeque;

use bytes::Bytes;
use corelane_base::{
    AcceptMode, BufferId, Completion, Kernel, ListenerId, Op, Payload, RecvMode, Sock, Token, Wait,
};
use corelane_pools::Chain;
use corelane_sim::{Peer, Sim, SimConfig, SimKernel, World};

pub type Done = Completion<Chain>;

pub fn token(tag: u8, index: u32) -> Token {
    Token::new(1, tag, 0, index)
}

pub fn chain(bytes: &[u8]) -> Chain {
    Chain::from(Bytes::copy_from_slice(bytes))
}

pub struct Driver {
    pub kernel: SimKernel,
    pub world: World,
    backlog: VecDeque<Op<Chain>>,
    seen: VecDeque<Done>,
}

impl Driver {
    pub fn new(config: SimConfig) -> Driver {
        let (kernel, world) = Sim::new(config);
        Driver { kernel, world, backlog: VecDeque::new(), seen: VecDeque::new() }
    }

    pub fn push(&mut self, op: Op<Chain>) {
        self.backlog.push_back(op);
    }

    /// Nothing waits to be pushed, and no operation to end.
    pub fn is_idle(&self) -> bool {
        self.backlog.is_empty() && self.world.operations_owed() == 0 && self.world.is_idle()
    }

    /// Pushes what fits, enters, takes all.
    pub fn turn(&mut self, wait: Wait) -> Vec<Done> {
        while let Some(op) = self.backlog.pop_front() {
            if let Err(op) = self.kernel.push(op) {
                self.backlog.push_front(op);
                break;
            }
        }
        let wait = if self.backlog.is_empty() { wait } else { Wait::No };
        self.kernel.enter(wait).unwrap();
        std::iter::from_fn(|| self.kernel.pop()).collect()
    }

    /// Turns until the next completion of `token`; others are kept for later calls.
    pub fn wait_for(&mut self, token: Token) -> Done {
        for _ in 0..100_000 {
            if let Some(index) = self.seen.iter().position(|done| done.token == token) {
                return self.seen.remove(index).unwrap();
            }
            let done = self.turn(Wait::Until(None));
            self.seen.extend(done);
        }
        panic!("no completion of {token:?}:\n{}", self.world.log());
    }

    pub fn run(&mut self, op: Op<Chain>, token: Token) -> Done {
        self.push(op);
        self.wait_for(token)
    }

    /// Completions that came and nobody asked for.
    pub fn left_over(&mut self) -> Vec<Done> {
        let done = self.turn(Wait::No);
        self.seen.extend(done);
        self.seen.drain(..).collect()
    }

    pub fn accept(&mut self, listener: ListenerId) -> Sock {
        let t = token(200, 0);
        let done = self.run(Op::Accept { listener, token: t, mode: AcceptMode::OneWithPeer }, t);
        Sock(u32::try_from(done.result).unwrap())
    }

    /// A listener, a peer connected to it, and the socket that accepted it.
    pub fn pair(&mut self) -> (ListenerId, Peer, Sock) {
        let listener = self.world.add_listener();
        let peer = self.world.connect(listener);
        let sock = self.accept(listener);
        (listener, peer, sock)
    }

    pub fn recv(&mut self, sock: Sock, mode: RecvMode) -> Done {
        let t = token(201, sock.0);
        self.run(Op::Recv { sock, token: t, mode }, t)
    }

    pub fn send(&mut self, sock: Sock, bytes: &[u8]) -> Done {
        let t = token(202, sock.0);
        self.run(Op::Send { sock, token: t, data: chain(bytes) }, t)
    }

    pub fn close(&mut self, sock: Sock) {
        let t = token(203, sock.0);
        assert_eq!(self.run(Op::Close { sock, token: t }, t).result, 0);
    }

    /// The bytes of a received buffer, which is given back.
    pub fn take(&mut self, done: &Done) -> Vec<u8> {
        let Payload::Received(buffer) = done.payload else { panic!("{done:?} has no buffer") };
        self.take_buffer(buffer, done.result)
    }

    pub fn take_buffer(&mut self, buffer: BufferId, len: i32) -> Vec<u8> {
        let bytes = self.kernel.received(buffer, u32::try_from(len).unwrap()).to_vec();
        self.kernel.recycle(buffer);
        bytes
    }
}

impl Driver {
    /// Takes `count` buffers of one multi receive.
    pub fn recv_all(&mut self, sock: Sock, token: Token, count: usize) -> Vec<Vec<u8>> {
        self.push(Op::Recv { sock, token, mode: RecvMode::Multi });
        (0..count)
            .map(|_| {
                let done = self.wait_for(token);
                self.take(&done)
            })
            .collect()
    }
}
