//! Calls between shards, on simulated kernels: one thread, any order of turns, no lost wake.
#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::disallowed_types)]

mod cluster;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cluster::Cluster;
use corelane_base::{Limits, ShardId};
use corelane_exec::{CallError, Message, Shard, Sharded, mesh, sleep, yield_now};

fn few_credits(credits: u32) -> Limits {
    Limits { mesh_credits: credits, ..Limits::default() }
}

/// Where a task leaves what it got.
fn place<T>() -> (Rc<RefCell<Vec<T>>>, Rc<RefCell<Vec<T>>>) {
    let place = Rc::new(RefCell::new(Vec::new()));
    (Rc::clone(&place), place)
}

#[test]
fn a_call_is_handled_on_the_other_shard_and_its_reply_comes_back() {
    struct WhoAreYou;
    impl Message for WhoAreYou {
        type Reply = (u16, String);
        fn handle(self, shard: &Rc<Shard>) -> (u16, String) {
            (shard.id().0, mesh().here().0.to_string())
        }
    }
    let mut cluster = Cluster::new(3, &Limits::default());
    let (put, got) = place();
    cluster.spawn(0, |mesh| async move {
        for to in mesh.all() {
            let reply = mesh.call(to, WhoAreYou).await.unwrap();
            put.borrow_mut().push(reply);
        }
    });
    cluster.settle(|| false);
    assert_eq!(*got.borrow(), [(0, "0".to_owned()), (1, "1".to_owned()), (2, "2".to_owned())]);
    cluster.on(0, |shard, _| {
        let stats = &shard.mesh_stats;
        assert_eq!((stats.calls.get(), stats.local.get(), stats.responses_in.get()), (2, 1, 2));
    });
}

#[test]
fn a_call_to_the_own_shard_is_answered_before_it_is_awaited() {
    let mut cluster = Cluster::new(2, &Limits::default());
    let seen = Rc::new(Cell::new(false));
    let mark = Arc::new(AtomicU32::new(0));
    cluster.on(1, |_, mesh| {
        let mark = Arc::clone(&mark);
        let call = mesh.with(ShardId(1), move |_| mark.store(7, Ordering::Relaxed));
        drop(call);
        seen.set(true);
    });
    assert!(seen.get());
    assert_eq!(mark.load(Ordering::Relaxed), 7);
}

#[test]
fn what_is_sent_in_one_turn_wakes_a_sleeper_once() {
    let mut cluster = Cluster::new(2, &Limits::default());
    cluster.settle(|| false); // both sleep
    cluster.spawn(0, |mesh| async move {
        let calls: Vec<_> = (0..50).map(|n| mesh.with(ShardId(1), move |_| n)).collect();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await, Ok(n));
        }
    });
    cluster.settle(|| false);
    let wakes = cluster.on(0, |shard, _| shard.mesh_stats.wakes_sent.get());
    assert_eq!(wakes, 1);
    assert_eq!(cluster.on(0, |shard, _| shard.tasks_alive()), 0);
}

#[test]
fn calls_beyond_the_credits_wait_their_turn_and_keep_their_order() {
    let mut cluster = Cluster::new(2, &few_credits(2));
    let (put, got) = place();
    let handled = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&handled);
    cluster.spawn(0, |mesh| async move {
        let calls: Vec<_> = (0..20)
            .map(|n| {
                let log = Arc::clone(&log);
                mesh.with(ShardId(1), move |_| {
                    log.lock().unwrap().push(n);
                    n
                })
            })
            .collect();
        assert_eq!(mesh.under_way(ShardId(1)), (2, 18));
        for call in calls {
            let got = call.await.unwrap();
            put.borrow_mut().push(got);
        }
    });
    cluster.settle(|| false);
    assert_eq!(*got.borrow(), (0..20).collect::<Vec<_>>());
    assert_eq!(*handled.lock().unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(cluster.on(0, |_, mesh| mesh.under_way(ShardId(1))), (0, 0));
}

#[test]
fn past_mesh_waiting_max_a_call_is_refused_at_once_and_a_cast_is_without_a_credit() {
    let limits = Limits { mesh_credits: 1, mesh_waiting_max: 2, ..Limits::default() };
    let mut cluster = Cluster::new(2, &limits);
    let (put, got) = place();
    cluster.spawn(0, |mesh| async move {
        assert!(mesh.cast(ShardId(1), Add(1)).is_ok());
        let full = mesh.cast(ShardId(1), Add(100)).unwrap_err();
        assert!(full.to_string().contains("mesh_credits"), "{full}");
        let calls: Vec<_> = (0..4).map(|n| mesh.with(ShardId(1), move |_| n)).collect();
        for call in calls {
            let got = call.await.map_err(|error| error.to_string());
            put.borrow_mut().push(got);
        }
    });
    cluster.settle(|| false);
    let got = got.borrow();
    assert_eq!(got[..2], [Ok(0), Ok(1)]);
    for refused in &got[2..] {
        let text = refused.as_ref().unwrap_err();
        assert!(text.contains("mesh_waiting_max"), "{text}");
    }
    assert_eq!(cluster.on(1, |shard, _| TOTAL.of(shard).get()), 1);
    cluster.on(0, |shard, _| {
        let stats = &shard.mesh_stats;
        assert_eq!((stats.calls_refused.get(), stats.casts.get()), (2, 1));
    });
}

static TOTAL: std::sync::LazyLock<Sharded<Cell<u64>>> =
    std::sync::LazyLock::new(|| Sharded::new(|_| Cell::new(0)));

struct Add(u64);

impl Message for Add {
    type Reply = ();
    fn handle(self, shard: &Rc<Shard>) {
        let total = TOTAL.of(shard);
        total.set(total.get() + self.0);
    }
}

#[test]
fn a_call_to_a_shard_that_stands_still_ends_after_call_time_and_its_answer_is_dropped_when_it_comes() {
    let limits = Limits { mesh_credits: 1, call_time: Duration::from_secs(2), ..Limits::default() };
    let mut cluster = Cluster::new(2, &limits);
    cluster.nodes[1].frozen = true;
    let (put, got) = place();
    cluster.spawn(0, |mesh| async move {
        let sent = mesh.with(ShardId(1), |_| "sent");
        let waiting = mesh.with(ShardId(1), |_| "waiting");
        let got = (sent.await, mesh_now());
        put.borrow_mut().push(got);
        let got = (waiting.await, mesh_now());
        put.borrow_mut().push(got);
    });
    cluster.settle(|| false);
    {
        let got = got.borrow();
        assert_eq!(got.iter().map(|g| &g.0).collect::<Vec<_>>(), [&Err(CallError::Late); 2]);
        assert!(got.iter().all(|g| (2.0..2.01).contains(&g.1.as_secs_f64())), "{got:?}");
    }
    // The shard goes on, and so does the pair: the credit comes back with the late answer.
    cluster.nodes[1].frozen = false;
    cluster.settle(|| false);
    let (put, again) = place();
    cluster.spawn(0, |mesh| async move {
        let reply = mesh.with(ShardId(1), |_| "again").await;
        put.borrow_mut().push(reply);
    });
    cluster.settle(|| false);
    assert_eq!(*again.borrow(), [Ok("again")]);
    cluster.on(0, |shard, mesh| {
        let stats = &shard.mesh_stats;
        assert_eq!((stats.calls_late.get(), stats.answers_late.get()), (2, 1));
        assert_eq!(mesh.under_way(ShardId(1)), (0, 0));
    });
    // What only waited was never sent.
    assert_eq!(cluster.on(1, |shard, _| shard.mesh_stats.requests_in.get()), 2);
}

fn mesh_now() -> Duration {
    Duration::from_nanos(corelane_exec::current().now().mono_ns)
}

#[test]
fn a_call_that_is_dropped_leaves_no_entry_and_gives_its_credit_back() {
    let mut cluster = Cluster::new(2, &few_credits(3));
    for _ in 0..100 {
        cluster.spawn(0, |mesh| async move {
            for n in 0..10 {
                drop(mesh.with(ShardId(1), move |_| n));
            }
        });
        cluster.settle(|| false);
    }
    cluster.on(0, |shard, mesh| {
        assert_eq!(mesh.under_way(ShardId(1)), (0, 0));
        assert_eq!(shard.mesh_stats.answers_late.get(), 300, "three credits a round, the rest never left");
        assert_eq!(shard.timers_set(), 0);
    });
}

#[test]
fn a_message_that_panics_costs_its_caller_the_reply_and_nothing_else() {
    let mut cluster = Cluster::new(2, &Limits::default());
    let (put, got) = place();
    cluster.spawn(0, |mesh| async move {
        for to in [1, 0] {
            let got = mesh.with(ShardId(to), |_| -> u8 { panic!("on purpose") }).await;
            put.borrow_mut().push(got);
            let got = mesh.run(ShardId(to), |_| async { panic!("on purpose") }).await;
            put.borrow_mut().push(got);
            let got = mesh.with(ShardId(to), |_| 5).await;
            put.borrow_mut().push(got);
        }
    });
    cluster.settle(|| false);
    let panicked = Err(CallError::Panicked);
    assert_eq!(*got.borrow(), [panicked, panicked, Ok(5), panicked, panicked, Ok(5)]);
    assert_eq!(cluster.on(1, |shard, _| shard.mesh_stats.panics.get()), 1, "the other one was a task");
}

#[test]
fn a_future_runs_on_the_other_shard_and_may_wait_there() {
    let mut cluster = Cluster::new(2, &Limits::default());
    let (put, got) = place();
    cluster.spawn(0, |mesh| async move {
        for to in [1, 0] {
            let reply = mesh.run(ShardId(to), |shard| {
                let there = Rc::clone(shard); // not Send, and need not be
                async move {
                    sleep(Duration::from_millis(300)).await;
                    yield_now().await;
                    there.id().0
                }
            });
            let got = reply.await;
            put.borrow_mut().push(got);
        }
    });
    cluster.settle(|| false);
    assert_eq!(*got.borrow(), [Ok(1), Ok(0)]);
}

#[test]
fn a_future_that_finds_no_task_there_is_refused_by_name() {
    let limits = Limits { tasks_max: 1, ..Limits::default() };
    let mut cluster = Cluster::new(2, &limits);
    let (put, got) = place();
    cluster.spawn(1, |_| sleep(Duration::from_secs(1)));
    cluster.spawn(0, |mesh| async move {
        let got = mesh.run(ShardId(1), |_| async {}).await;
        put.borrow_mut().push(got);
    });
    cluster.settle(|| false);
    let error = got.borrow()[0].unwrap_err();
    assert!(error.to_string().contains("tasks_max"), "{error}");
}

#[test]
fn requests_past_the_budget_of_a_turn_are_taken_in_the_next_ones() {
    let limits = Limits { mesh_budget: 3, ..Limits::default() };
    let mut cluster = Cluster::new(2, &limits);
    cluster.spawn(0, |mesh| async move {
        let calls: Vec<_> = (0..10).map(|n| mesh.with(ShardId(1), move |_| n)).collect();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await, Ok(n));
        }
    });
    while cluster.on(0, |shard, _| shard.tasks_alive()) > 0 {
        let before = cluster.on(1, |shard, _| shard.mesh_stats.requests_in.get());
        cluster.nodes[0].rt.turn(false).unwrap();
        cluster.nodes[1].rt.turn(false).unwrap();
        let taken = cluster.on(1, |shard, _| shard.mesh_stats.requests_in.get()) - before;
        assert!(taken <= 3, "{taken} in one turn");
    }
}

#[test]
fn two_shards_that_call_each_other_from_within_their_calls_do_not_deadlock() {
    // Each call runs a future that calls back, with one credit a direction: the inner ones wait for credits that
    // only the outer ones hold. They end by their deadline; both shards serve on.
    let limits = Limits { mesh_credits: 1, call_time: Duration::from_millis(500), ..Limits::default() };
    let mut cluster = Cluster::new(2, &limits);
    let (put, got) = place();
    for (at, to) in [(0, 1), (1, 0)] {
        let put = Rc::clone(&put);
        cluster.spawn(at, |mesh| async move {
            let outer = mesh.run(ShardId(to), move |_| async move {
                corelane_exec::mesh().with(ShardId(1 - to), |_| 1).await
            });
            let reply = outer.await;
            put.borrow_mut().push(reply);
        });
    }
    cluster.settle(|| false);
    assert_eq!(got.borrow().len(), 2);
    cluster.spawn(0, |mesh| async move {
        assert_eq!(mesh.with(ShardId(1), |_| 2).await, Ok(2));
    });
    cluster.settle(|| false);
    assert_eq!(cluster.on(0, |shard, _| (shard.tasks_alive(), shard.stats.tasks_panicked.get())), (0, 0));
}

#[test]
fn keys_have_the_same_owner_on_every_shard_and_spread_over_all() {
    let mut cluster = Cluster::new(5, &Limits::default());
    let owners: Vec<Vec<u16>> = (0..5)
        .map(|at| cluster.on(at, |_, mesh| (0..1_000).map(|n| mesh.owner(&format!("key {n}")).0).collect()))
        .collect();
    assert!(owners.iter().all(|o| *o == owners[0]));
    for shard in 0..5 {
        let share = owners[0].iter().filter(|&&o| o == shard).count();
        assert!((120..280).contains(&share), "shard {shard} owns {share} of 1000");
    }
}

#[test]
fn each_shard_has_its_own_value_of_a_sharded_and_all_can_be_asked() {
    let made = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&made);
    let values = Sharded::new(move |shard| {
        count.fetch_add(1, Ordering::Relaxed);
        Cell::new(u64::from(shard.id().0) * 100)
    });
    let mut cluster = Cluster::new(4, &Limits::default());
    let (put, got) = place();
    cluster.spawn(2, |mesh| async move {
        for to in mesh.all() {
            values.on(to, |value| value.set(value.get() + 1)).await.unwrap();
        }
        values.here().set(777);
        let all = values.each(|value| value.get()).await;
        *put.borrow_mut() = all;
    });
    cluster.settle(|| false);
    assert_eq!(*got.borrow(), [Ok(1), Ok(101), Ok(777), Ok(301)]);
    assert_eq!(made.load(Ordering::Relaxed), 4);
}

#[test]
#[should_panic(expected = "there is no shard 2: this node has 2")]
fn a_call_to_a_shard_that_is_not_there_says_so() {
    Cluster::new(2, &Limits::default()).on(0, |_, mesh| drop(mesh.with(ShardId(2), |_| ())));
}

#[test]
fn shards_that_end_with_calls_under_way_drop_every_message_once() {
    struct Counted(Arc<AtomicU32>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for turns in 0..8 {
        let drops = Arc::new(AtomicU32::new(0));
        let mut cluster = Cluster::new(2, &few_credits(4));
        let counter = Arc::clone(&drops);
        cluster.spawn(0, move |mesh| async move {
            let calls: Vec<_> = (0..10)
                .map(|_| {
                    let counted = Counted(Arc::clone(&counter));
                    mesh.with(ShardId(1), move |_| counted)
                })
                .collect();
            for call in calls {
                drop(call.await);
            }
        });
        for turn in 0..turns {
            cluster.nodes[turn % 2].rt.turn(false).unwrap();
        }
        // In either order.
        if turns % 2 == 0 {
            cluster.nodes.reverse();
        }
        drop(cluster);
        assert_eq!(drops.load(Ordering::Relaxed), if turns == 0 { 0 } else { 10 }, "after {turns} turns");
    }
}
