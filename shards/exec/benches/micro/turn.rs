//! A turn by itself, operations that complete, and what code on a shard asks of it.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use corelane_base::{Op, Sock, Token};
use corelane_exec::{Driver, Event, Shard, current};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use crate::shared::Warm;
use crate::still::Node;

/// The floor under all figures with a turn in them.
#[divan::bench]
fn idle(bencher: Bencher<'_, '_>) {
    let mut node = Node::new();
    bencher.bench_warm(|| node.turn());
}

/// Counts what it is told.
#[derive(Default)]
struct Count(Cell<u64>);

impl Driver for Count {
    fn complete(&self, _shard: &Shard, event: Event<'_>) {
        self.0.set(self.0.get() + u64::from(event.token.index()));
    }

    fn timer(&self, _shard: &Shard, _token: Token) {}

    fn flush(&self, _shard: &Shard) -> bool {
        false
    }
}

/// Operations of a driver, from its push to its completion: one turn that hands over, one that takes.
#[divan::bench(args = [1, 64])]
fn complete_for_a_driver(bencher: Bencher<'_, '_>, operations: u32) {
    let mut node = Node::new();
    let (shard, count) = (node.shard(), Rc::new(Count::default()));
    let owner = shard.add_driver(Rc::clone(&count) as Rc<dyn Driver>);
    bencher.counter(ItemsCount::new(operations)).bench_warm(|| {
        for index in 0..operations {
            let token = Token::new(owner, 0, 0, index + 1);
            shard.push(Op::Sync { file: Sock(1), data_only: true, token });
        }
        node.turn();
        node.turn();
    });
    assert!(count.0.get() > 0, "the driver was told");
}

/// One operation as a future: two turns, as above, and its poll.
#[divan::bench]
fn complete_for_a_future(bencher: Bencher<'_, '_>) {
    let mut node = Node::new();
    let shard = node.shard();
    bencher.bench_warm(|| {
        let mut future = shard.io(|token| Op::Sync { file: Sock(1), data_only: true, token });
        node.turn();
        node.turn();
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    });
}

/// Which shard this is.
#[divan::bench]
fn ask_for_the_current_shard(bencher: Bencher<'_, '_>) {
    Node::new().rt.within(|_| bencher.bench_warm(|| current().now().mono_ns));
}

/// The value that a shard keeps by its type, with three others before it.
#[divan::bench]
fn ask_for_a_local(bencher: Bencher<'_, '_>) {
    let node = Node::new();
    let shard = node.shard();
    shard.local(|| 1_u8);
    shard.local(|| 2_u16);
    shard.local(|| 3_u32);
    shard.local(|| Cell::new(4_u64));
    bencher.bench_warm(|| black_box(&shard).local(|| Cell::new(0_u64)).get());
}
