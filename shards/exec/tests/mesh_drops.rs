//! What applications do inside of messages and replies that no mesh should fall over.
#![allow(clippy::unwrap_used)]

mod cluster;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cluster::Cluster;
use corelane_base::{Limits, ShardId};
use corelane_exec::{CallError, Message, Shard, Sharded, sleep};

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a value that panics as it is dropped");
    }
}

struct Throw;

impl Message for Throw {
    type Reply = Bomb;
    fn handle(self, _: &Rc<Shard>) -> Bomb {
        Bomb
    }
}

#[test]
fn a_reply_of_a_cast_that_panics_as_it_is_dropped_does_not_end_the_shard() {
    let mut cluster = Cluster::new(2, &Limits::default());
    cluster.on(0, |_, mesh| mesh.cast(ShardId(1), Throw).unwrap());
    cluster.settle(|| false);
    assert_eq!(cluster.on(0, |shard, _| shard.mesh_stats.panics.get()), 1);
}

#[test]
fn a_reply_that_nobody_waits_for_and_that_panics_as_it_is_dropped_does_not_end_the_shard() {
    let mut cluster = Cluster::new(2, &Limits::default());
    cluster.on(0, |_, mesh| drop(mesh.call(ShardId(1), Throw)));
    cluster.settle(|| false);
    assert_eq!(cluster.on(0, |shard, _| shard.mesh_stats.panics.get()), 1);
}

#[test]
fn a_message_that_was_never_sent_and_panics_as_it_is_dropped_does_not_end_the_shard() {
    let limits = Limits { mesh_credits: 1, call_time: Duration::from_millis(10), ..Limits::default() };
    let mut cluster = Cluster::new(2, &limits);
    cluster.nodes[1].frozen = true;
    let late = Rc::new(Cell::new(0));
    for _ in 0..2 {
        let (late, bomb) = (Rc::clone(&late), Bomb);
        cluster.spawn(0, |mesh| async move {
            let call = mesh.with(ShardId(1), move |_| std::mem::forget(bomb));
            assert_eq!(call.await, Err(CallError::Late));
            late.set(late.get() + 1);
        });
    }
    cluster.settle(|| late.get() == 2);
    assert_eq!(late.get(), 2);
    assert_eq!(cluster.on(0, |shard, _| shard.mesh_stats.panics.get()), 1, "the other one was sent");
    cluster.nodes[1].frozen = false;
    cluster.settle(|| false);
}

#[test]
fn an_errand_that_finds_no_task_and_panics_as_it_is_dropped_does_not_end_the_shard() {
    let limits = Limits { tasks_max: 1, ..Limits::default() };
    let mut cluster = Cluster::new(2, &limits);
    cluster.spawn(1, |_| sleep(Duration::from_secs(1)));
    let got = Rc::new(RefCell::new(None));
    let (put, bomb) = (Rc::clone(&got), Bomb);
    cluster.spawn(0, |mesh| async move {
        let call = mesh.run(ShardId(1), move |_| async move { std::mem::forget(bomb) });
        *put.borrow_mut() = Some(call.await);
    });
    cluster.settle(|| got.borrow().is_some());
    assert!(matches!(*got.borrow(), Some(Err(CallError::Full(_)))));
}

#[test]
fn a_sharded_value_that_asks_for_itself_while_it_is_made_is_a_panic_of_that_call() {
    thread_local! {
        static SELF: RefCell<Option<Sharded<u32>>> = const { RefCell::new(None) };
    }
    let sharded = Sharded::new(|_| SELF.with_borrow(|me| *me.as_ref().unwrap().here()));
    SELF.set(Some(sharded.clone()));
    let mut cluster = Cluster::new(2, &Limits::default());
    let got = Rc::new(RefCell::new(Vec::new()));
    let put = Rc::clone(&got);
    cluster.spawn(0, |_| async move {
        for to in [0, 1] {
            let reply = sharded.on(ShardId(to), |n| *n).await;
            put.borrow_mut().push(reply);
        }
    });
    cluster.settle(|| false);
    assert_eq!(*got.borrow(), [Err(CallError::Panicked), Err(CallError::Panicked)]);
}

#[test]
fn a_sharded_value_whose_making_panicked_is_made_by_the_next_who_asks() {
    let tries = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&tries);
    let sharded = Sharded::new(move |_| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        assert!(n > 0, "the first is not made");
        n
    });
    let mut cluster = Cluster::new(2, &Limits::default());
    let got = Rc::new(RefCell::new(Vec::new()));
    let put = Rc::clone(&got);
    cluster.spawn(0, |_| async move {
        for _ in 0..3 {
            let reply = sharded.on(ShardId(1), |n| *n).await;
            put.borrow_mut().push(reply);
        }
    });
    cluster.settle(|| false);
    assert_eq!(*got.borrow(), [Err(CallError::Panicked), Ok(1), Ok(1)]);
}
