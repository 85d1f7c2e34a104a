//! Tasks: made and run, woken from their own shard and from elsewhere, and messages of other threads.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};

use corelane_exec::yield_now;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use crate::shared::Warm;
use crate::still::Node;

/// Tasks that end at their first poll: spawned, run and freed within one turn.
#[divan::bench(args = [1, 64])]
fn spawn_and_run(bencher: Bencher<'_, '_>, tasks: usize) {
    let mut node = Node::new();
    let done = Rc::new(Cell::new(0_u64));
    bencher.counter(ItemsCount::new(tasks)).bench_warm(|| {
        node.rt.within(|shard| {
            for _ in 0..tasks {
                let done = Rc::clone(&done);
                let task = shard.spawn(async move { done.set(done.get() + 1) });
                task.unwrap().detach();
            }
        });
        node.turn();
    });
    assert!(done.get() > 0, "tasks ran");
    assert_eq!(node.shard().tasks_alive(), 0);
}

/// Makes a task that waits until woken, again and again. Gives its waker and how often it was polled.
fn sleeper(node: &mut Node) -> (Waker, Rc<Cell<u64>>) {
    let (place, polls) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)));
    let (into, count) = (Rc::clone(&place), Rc::clone(&polls));
    let task = node.rt.within(|shard| {
        shard.spawn(std::future::poll_fn(move |cx| -> Poll<()> {
            into.borrow_mut().get_or_insert_with(|| cx.waker().clone());
            count.set(count.get() + 1);
            Poll::Pending
        }))
    });
    task.unwrap().detach();
    node.turn();
    let waker = place.borrow_mut().take().unwrap();
    (waker, polls)
}

/// A wake from the shard's own turn, and the poll: by the ready queue.
#[divan::bench]
fn wake_from_the_own_shard(bencher: Bencher<'_, '_>) {
    let mut node = Node::new();
    let (waker, polls) = sleeper(&mut node);
    bencher.bench_warm(|| {
        node.rt.within(|_| black_box(&waker).wake_by_ref());
        node.turn();
    });
    assert!(polls.get() > 1, "the task was woken");
}

/// A wake from outside of the shard's turn, and the poll: by the mailbox. The shard does not sleep.
#[divan::bench]
fn wake_from_elsewhere(bencher: Bencher<'_, '_>) {
    let mut node = Node::new();
    let (waker, polls) = sleeper(&mut node);
    bencher.bench_warm(|| {
        black_box(&waker).wake_by_ref();
        node.turn();
    });
    assert!(polls.get() > 1, "the task was woken");
}

/// A task that always wants to go on: the 256 polls that a turn's budget allows.
#[divan::bench]
fn poll_for_a_whole_budget(bencher: Bencher<'_, '_>) {
    let mut node = Node::new();
    let budget = node.shard().limits().task_budget;
    let task = node.rt.within(|shard| {
        shard.spawn(async {
            loop {
                yield_now().await;
            }
        })
    });
    task.unwrap().detach();
    bencher.counter(ItemsCount::new(budget)).bench_warm(|| node.turn());
}

/// A closure that another thread sends, and the turn that runs it.
#[divan::bench]
fn message_from_another_thread(bencher: Bencher<'_, '_>) {
    let mut node = Node::new();
    let handle = node.shard().handle();
    bencher.bench_warm(|| {
        handle.send(|shard| assert_eq!(black_box(shard).id().0, 0)).unwrap();
        node.turn();
    });
}
