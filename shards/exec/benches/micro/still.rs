//! A kernel that completes every operation at once with 0, and a shard on it.
//!
//! Not here: anything that receives, accepts or fails (`corelane-sim`).

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use corelane_base::{
    BufferId, Clock, Completion, Kernel, KernelStats, Limits, Op, Payload, ShardId, Token, Unpark, Wait,
};
use corelane_exec::{Runtime, Seat, Shard, seats};
use corelane_pools::{Chain, PoolConfig, Pools};

/// Where the time comes from: nanoseconds, moved by hand.
type Time = Rc<Cell<u64>>;

#[derive(Debug)]
struct Bell;

impl Unpark for Bell {
    fn unpark(&self) {}
}

/// The kernel.
pub(crate) struct Still {
    time: Time,
    done: VecDeque<Completion<Chain>>,
}

impl Kernel for Still {
    type Bytes = Chain;

    fn push(&mut self, op: Op<Chain>) -> Result<(), Op<Chain>> {
        let (token, payload) = match op {
            Op::Sync { token, .. } => (token, Payload::None),
            Op::Send { token, data, .. } => (token, Payload::Sent(data)),
            other => panic!("nothing here asks for {other:?}"),
        };
        if token != Token::NONE {
            self.done.push_back(Completion { token, result: 0, more: false, payload });
        }
        Ok(())
    }

    fn needs_enter(&self) -> bool {
        false
    }

    fn enter(&mut self, _wait: Wait) -> io::Result<()> {
        Ok(())
    }

    fn pop(&mut self) -> Option<Completion<Chain>> {
        self.done.pop_front()
    }

    fn received(&self, _buffer: BufferId, _len: u32) -> &[u8] {
        &[]
    }

    fn recycle(&mut self, _buffer: BufferId) {}

    fn clock(&mut self) -> Clock {
        Clock { mono_ns: self.time.get(), unix_s: 1_700_000_000 }
    }

    fn unpark(&self) -> Arc<dyn Unpark> {
        Arc::new(Bell)
    }

    fn stats(&self) -> KernelStats {
        KernelStats::default()
    }
}

/// A shard that is turned by hand and never sleeps.
pub(crate) struct Node {
    pub(crate) rt: Runtime<Still>,
    time: Time,
}

impl Node {
    /// One without others.
    pub(crate) fn new() -> Node {
        Node::cluster(1).pop().unwrap()
    }

    /// As many as can call each other.
    pub(crate) fn cluster(shards: u16) -> Vec<Node> {
        let limits = Limits::default();
        (0..shards).zip(seats(shards.into(), &limits)).map(|(id, seat)| Node::at(id, &limits, seat)).collect()
    }

    fn at(id: u16, limits: &Limits, seat: Seat) -> Node {
        let time = Time::new(Cell::new(1_000_000_000));
        let kernel = Still { time: Rc::clone(&time), done: VecDeque::new() };
        let pools = Pools::new(&PoolConfig { small_count: 16, ..PoolConfig::default() }).unwrap();
        Node { rt: Runtime::on_mesh(ShardId(id), limits.clone(), pools, kernel, None, seat), time }
    }

    pub(crate) fn shard(&self) -> Rc<Shard> {
        Rc::clone(self.rt.shard())
    }

    pub(crate) fn turn(&mut self) {
        self.rt.turn(false).unwrap();
    }

    /// Lets time pass, in nanoseconds.
    pub(crate) fn pass(&self, ns: u64) {
        self.time.set(self.time.get() + ns);
    }
}
