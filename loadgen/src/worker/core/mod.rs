//! What a worker is without its kernel: connections, the schedule, the records. Every function takes the time, and
//! what it wants done stands in `ops` and `dirty` until the worker hands it over.
//!
//! Reading order: what it holds, here; `course`: what time brings; `requests`: from a slot to a send, and what is
//! recorded; `answers`: completions; `life`: how connections begin and end.
//!
//! Not here: entering the kernel, reading clocks (`super`).

mod answers;
mod course;
mod life;
mod requests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;
use corelane_base::{Abilities, Op, Rng};
use corelane_pools::{Chain, Pools};

use super::conn::Conn;
use super::{Config, Stage};
use crate::model::Slice;
use crate::protocol::Protocol;
use crate::record::{KindTally, Tally};

/// Bytes of one send at most: what is written for one connection in one turn.
const SEND_LEN_MAX: usize = 256 << 10;

/// What a worker counts beside its slices. All only grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Time spent polling for the next moment to send, in the window.
    pub spin_ns: u64,
    /// The longest time between two looks at the clock, sleeps left out, in the window.
    pub hiccup_max_ns: u64,
    /// Connects that failed, ever.
    pub connects_failed: u64,
    /// Good answers, ever.
    pub answers_good: u64,
    /// Answers that were understood, good or bad, ever.
    pub answers: u64,
}

/// What a connection waits for without an operation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Alarm {
    /// To connect again.
    Open(u32),
    /// To ask once more, if it is still of this generation.
    Ask(u32, u16),
    /// To ask for the first time, likewise.
    Begin(u32, u16),
}

pub(super) struct Core<P: Protocol> {
    pub(super) config: Config,
    pub(super) stage: Stage,
    pub(super) counters: Counters,
    pub(super) ops: VecDeque<Op<Chain>>,
    /// Connections with something to send.
    pub(super) dirty: VecDeque<u32>,
    pub(super) open_count: u32,
    pub(super) drain_end_ns: u64,
    pub(super) connect_errno: Option<i32>,
    protocol: P,
    /// The bytes of as many requests as a connection may have under way, where all are the same.
    constant: Option<(Bytes, usize, P::Ask)>,
    conns: Vec<Conn<P>>,
    /// Connections that were not tried yet, from this one on.
    next_open: u32,
    opening: u32,
    /// Tried at least once.
    tried: u32,
    /// Open connections with nothing under way, and those with room for more.
    idle: VecDeque<u32>,
    roomy: VecDeque<u32>,
    alarms: BinaryHeap<Reverse<(u64, Alarm)>>,
    sweep_at: u64,
    sweep_next: usize,
    slice: Slice,
    /// An empty one that stands in while a full one is handed over: to make one is to write 2 MB of zeroes, and
    /// what is due meanwhile would be late. None only within that call.
    spare: Option<Slice>,
    slice_end_ns: u64,
    begin_ns: u64,
    pub(super) window_ns: (u64, u64),
    /// Requests of a closed loop so far.
    asked: u64,
    rng: Rng,
    scratch: Vec<u8>,
    able: Abilities,
    pools: Pools,
    under_way: u64,
}

impl<P: Protocol> Core<P> {
    pub(in crate::worker) fn new(
        pools: Pools,
        protocol: P,
        config: Config,
        now: u64,
        able: Abilities,
    ) -> Core<P> {
        let constant = protocol.constant().map(|(bytes, ask)| {
            let count = (config.pipeline as usize).min((SEND_LEN_MAX / bytes.len().max(1)).max(1));
            (Bytes::from(bytes.repeat(count)), bytes.len(), ask)
        });
        let mut slice = Slice { tally: Tally::prepared(), ..Slice::default() };
        if config.kinds > 1 {
            slice.tally.kinds.resize_with(config.kinds, KindTally::default);
        }
        let mut rng = Rng::new(config.seed ^ config.index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.next_u64();
        Core {
            conns: (0..config.connections).map(|_| Conn::new()).collect(),
            stage: Stage::Opening,
            counters: Counters::default(),
            ops: VecDeque::new(),
            dirty: VecDeque::new(),
            open_count: 0,
            drain_end_ns: u64::MAX,
            connect_errno: None,
            protocol,
            constant,
            next_open: 0,
            opening: 0,
            tried: 0,
            idle: VecDeque::new(),
            roomy: VecDeque::new(),
            alarms: BinaryHeap::new(),
            sweep_at: now,
            sweep_next: 0,
            slice,
            spare: Some(Slice { tally: Tally::prepared(), ..Slice::default() }),
            slice_end_ns: u64::MAX,
            begin_ns: u64::MAX,
            window_ns: (u64::MAX, u64::MAX),
            asked: 0,
            rng,
            scratch: Vec::new(),
            able,
            pools,
            under_way: 0,
            config,
        }
    }
}
