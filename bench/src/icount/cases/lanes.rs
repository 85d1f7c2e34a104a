//! Lanes and the mesh on them: both ends in one thread.
//!
//! Not here: what the memory system adds between two cores (`bench mesh`).

use std::hint::black_box;
use std::rc::Rc;

use corelane_base::{Limits, ShardId};
use corelane_exec::{Message, Runtime, Shard, Task, seats};
use corelane_lanes::lane;
use corelane_pools::{PoolConfig, Pools};

use super::super::replay::Replay;
use super::{Case, OFTEN, ROUND, SELDOM};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "lane/push-pop",
        about: "one value pushed, published and taken",
        ops: OFTEN,
        run: one_by_one,
    },
    Case {
        name: "lane/push-pop-x16",
        about: "one of 16 values pushed, published together and taken together",
        ops: OFTEN,
        run: in_batches,
    },
    Case {
        name: "mesh/call",
        about: "a call to another shard, handled, replied and awaited: turns of both included",
        ops: SELDOM,
        run: |ops| calls(ops, 1),
    },
    Case {
        name: "mesh/call-x16",
        about: "one of 16 calls under way at once",
        ops: SELDOM,
        run: |ops| calls(ops, 16),
    },
];

/// Values a lane holds: as many as by default between two shards, and no less than a batch.
const CAPACITY: usize = 512;

const BATCH: usize = 16;
const _: () = assert!(ROUND.is_multiple_of(BATCH as u64));

fn one_by_one(ops: u64) {
    let (mut producer, mut consumer) = lane(CAPACITY);
    let mut sum = 0;
    for n in 0..ops {
        assert_eq!(producer.push(black_box(n)), Ok(()));
        producer.publish();
        sum += black_box(consumer.pop()).unwrap_or(0);
    }
    assert_eq!(sum, ops * (ops - 1) / 2);
}

fn in_batches(ops: u64) {
    let (mut producer, mut consumer) = lane(CAPACITY);
    let mut taken = Vec::with_capacity(BATCH);
    let mut sum = 0;
    for n in 0..ops / BATCH as u64 {
        for _ in 0..BATCH {
            assert_eq!(producer.push(black_box(n)), Ok(()));
        }
        producer.publish();
        consumer.pop_into(BATCH, &mut taken);
        for value in taken.drain(..) {
            sum += black_box(value);
        }
    }
    let rounds = ops / BATCH as u64;
    assert_eq!(sum, BATCH as u64 * rounds * (rounds - 1) / 2);
}

/// A request: the number, and one.
struct Next(u64);

impl Message for Next {
    type Reply = u64;

    fn handle(self, _shard: &Rc<Shard>) -> u64 {
        self.0 + 1
    }
}

const TARGET: ShardId = ShardId(1);

/// Calls between two shards that one thread turns by turns, so many under way at once.
fn calls(ops: u64, together: u64) {
    let limits = Limits::default();
    let mut seats = seats(2, &limits).into_iter();
    let mut runtime = |id| {
        let Some(seat) = seats.next() else { unreachable!("two were asked for") };
        let pools = Pools::new(&PoolConfig::default()).expect("memory for pools");
        Runtime::on_mesh(ShardId(id), limits.clone(), pools, Replay::new(b""), None, seat)
    };
    let (mut caller, mut target) = (runtime(0), runtime(1));
    let task: Task<()> = caller.within(|shard| {
        let mesh = shard.mesh();
        let calling = async move {
            let mut under_way = Vec::new();
            for round in 0..ops / together {
                let first = round * together;
                under_way.extend((first..first + together).map(|n| mesh.call(TARGET, Next(black_box(n)))));
                for (n, call) in (first..).zip(under_way.drain(..)) {
                    assert_eq!(call.await, Ok(n + 1), "a wrong reply");
                }
            }
        };
        match shard.spawn(calling) {
            Ok(task) => task,
            Err(full) => panic!("the first task of a shard: {full}"),
        }
    });
    while !task.is_finished() {
        for runtime in [&mut caller, &mut target] {
            runtime.turn(false).expect("this kernel is always entered");
        }
    }
    let called: u64 = caller.shard().mesh_stats.list().iter().map(|(_, value)| value).sum();
    assert!(called >= ops, "{called} counted for {ops} calls");
}
