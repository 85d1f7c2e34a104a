//! Calls and casts between two shards that one thread turns by turns, and state that each has a part of.
//!
//! A call is three turns: the caller's, in which it leaves, the target's, the caller's again. What the memory
//! system adds between two cores is measured by `bench mesh`.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use corelane_base::ShardId;
use corelane_exec::{Call, Message, Shard, Sharded};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use crate::shared::Warm;
use crate::still::Node;

const THERE: ShardId = ShardId(1);

/// A request: the number, and one.
struct Next(u64);

impl Message for Next {
    type Reply = u64;

    fn handle(self, _shard: &Rc<Shard>) -> u64 {
        self.0 + 1
    }
}

fn two() -> (Node, Node) {
    let mut nodes = Node::cluster(2);
    let there = nodes.pop().unwrap();
    (nodes.pop().unwrap(), there)
}

/// What a call that is over was answered.
fn reply<R>(mut call: Call<R>) -> R {
    match Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reply) => reply.unwrap(),
        Poll::Pending => panic!("three turns bring a reply"),
    }
}

#[divan::bench(args = [1, 16])]
fn call_another_shard(bencher: Bencher<'_, '_>, calls: usize) {
    let (mut here, mut there) = two();
    let mut open = Vec::with_capacity(calls);
    bencher.counter(ItemsCount::new(calls)).bench_warm(|| {
        here.rt.within(|shard| {
            let mesh = shard.mesh();
            open.extend((0..calls as u64).map(|n| mesh.call(THERE, black_box(Next(n)))));
        });
        here.turn();
        there.turn();
        here.turn();
        for (n, call) in (1..).zip(open.drain(..)) {
            assert_eq!(reply(call), n);
        }
    });
}

#[divan::bench(args = [1, 16])]
fn cast_to_another_shard(bencher: Bencher<'_, '_>, casts: usize) {
    let (mut here, mut there) = two();
    bencher.counter(ItemsCount::new(casts)).bench_warm(|| {
        here.rt.within(|shard| {
            let mesh = shard.mesh();
            for n in 0..casts as u64 {
                mesh.cast(THERE, black_box(Next(n))).unwrap();
            }
        });
        here.turn();
        there.turn();
        here.turn();
    });
    assert!(there.shard().mesh_stats.requests_in.get() > 0, "casts came over");
}

/// The answer of the own shard: no hop.
#[divan::bench]
fn call_the_own_shard(bencher: Bencher<'_, '_>) {
    let (mut here, _there) = two();
    here.rt.within(|shard| {
        let mesh = shard.mesh();
        bencher.bench_warm(|| reply(mesh.call(ShardId(0), black_box(Next(1)))));
    });
}

/// Whose a key of 16 bytes is.
#[divan::bench]
fn find_the_owner_of_a_key(bencher: Bencher<'_, '_>) {
    let (mut here, _there) = two();
    here.rt.within(|shard| {
        let mesh = shard.mesh();
        bencher.bench_warm(|| mesh.owner(black_box(b"user:12345678901".as_slice())));
    });
}

/// The own part of a `Sharded`, one of four on the shard.
#[divan::bench]
fn reach_the_own_part(bencher: Bencher<'_, '_>) {
    let all = [1, 2, 3, 4].map(|n| Sharded::new(move |_| Cell::new(n)));
    Node::new().rt.within(|_| {
        let sum: u64 = all.iter().map(|one| one.here().get()).sum();
        assert_eq!(sum, 10);
        bencher.bench_warm(|| black_box(&all[2]).here().get());
    });
}

/// The part of another shard: a closure that goes over and its answer, as a call.
#[divan::bench]
fn reach_the_part_of_another_shard(bencher: Bencher<'_, '_>) {
    let (mut here, mut there) = two();
    let parts = Sharded::new(|_| Cell::new(0_u64));
    bencher.bench_warm(|| {
        let call = here.rt.within(|_| parts.on(THERE, |part| part.replace(part.get() + 1)));
        here.turn();
        there.turn();
        here.turn();
        reply(call)
    });
}
