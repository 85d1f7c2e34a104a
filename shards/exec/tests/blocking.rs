//! Jobs on threads that may block.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use common::Bench;
use corelane_exec::{BlockingError, BlockingPool, Task, blocking, spawn};
use crossbeam_channel::bounded;

#[test]
fn a_job_runs_on_another_thread_and_its_value_comes_back() {
    let pool = BlockingPool::new(2, 4).unwrap();
    let mut b = Bench::blocking(&pool);
    let ran_on = b.run_with_threads(blocking(|| thread::current().id())).unwrap();
    assert_ne!(ran_on, thread::current().id());
}

#[test]
fn a_shard_turns_on_while_a_job_blocks() {
    let pool = BlockingPool::new(1, 1).unwrap();
    let mut b = Bench::blocking(&pool);
    let (go, wait) = bounded::<()>(0);
    let out = b.run_with_threads(async move {
        let job = spawn(blocking(move || wait.recv().is_ok())).unwrap();
        // Were the job run by the shard, nobody would ever come here.
        for _ in 0..100 {
            corelane_exec::task::yield_now().await;
        }
        let other = spawn(async move {
            while go.try_send(()).is_err() {
                corelane_exec::task::yield_now().await;
            }
        });
        other.unwrap().await.unwrap();
        job.await.unwrap()
    });
    assert_eq!(out, Ok(true));
}

#[test]
fn a_job_that_panics_is_an_error_and_its_thread_goes_on() {
    let pool = BlockingPool::new(1, 4).unwrap();
    let mut b = Bench::blocking(&pool);
    for _ in 0..3 {
        let out: Result<(), _> = b.run_with_threads(blocking(|| panic!("a mistake of a job")));
        assert_eq!(out, Err(BlockingError::Panicked));
    }
    assert_eq!(b.run_with_threads(blocking(|| 5)), Ok(5));
    assert_eq!(b.shard().stats.tasks_panicked.get(), 0);
}

#[test]
fn a_value_whose_drop_panics_costs_no_thread() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("a value that does not want to go");
        }
    }
    let pool = BlockingPool::new(1, 4).unwrap();
    let mut b = Bench::blocking(&pool);
    let (go, wait) = bounded::<()>(0);
    let task =
        b.rt.within(|shard| {
            shard.spawn(blocking(move || {
                let _ = wait.recv();
                Bad
            }))
        })
        .unwrap();
    b.turn();
    task.cancel();
    b.turn();
    go.send(()).unwrap();
    assert_eq!(b.run_with_threads(blocking(|| 5)), Ok(5), "the only thread is still there");
}

#[test]
fn a_full_queue_refuses_at_once_and_takes_jobs_again_later() {
    let pool = BlockingPool::new(1, 2).unwrap();
    let mut b = Bench::blocking(&pool);
    let (started, is_started) = bounded::<()>(1);
    let (go, wait) = bounded::<()>(0);
    let job = move || {
        let _ = started.try_send(());
        let _ = wait.recv();
    };
    let run = |b: &mut Bench, job: Box<dyn FnOnce() + Send>| -> Task<Result<(), BlockingError>> {
        b.rt.within(|shard| shard.spawn(blocking(job))).unwrap()
    };
    let first = run(&mut b, Box::new(job.clone()));
    b.until(|| is_started.try_recv().is_ok());
    // One runs, two may wait.
    let waiting = [run(&mut b, Box::new(job.clone())), run(&mut b, Box::new(job))];
    b.turn();
    let BlockingError::Full(full) = b.run(blocking(|| ())).unwrap_err() else { panic!("not full") };
    assert_eq!((full.what, full.max), ("blocking_queue_max", 2));
    drop(go);
    b.run_with_threads(async move {
        assert_eq!(first.await.unwrap(), Ok(()));
        for job in waiting {
            assert_eq!(job.await.unwrap(), Ok(()));
        }
        assert_eq!(blocking(|| 1).await, Ok(1));
    });
}

#[test]
fn a_shard_without_a_pool_says_so() {
    let mut b = Bench::new();
    assert_eq!(b.run(blocking(|| ())), Err(BlockingError::NoPool));
}

#[test]
fn a_job_goes_on_when_nobody_waits_for_it() {
    let pool = BlockingPool::new(1, 1).unwrap();
    let mut b = Bench::blocking(&pool);
    let ran = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&ran);
    let (go, wait) = bounded::<()>(0);
    let task =
        b.rt.within(|shard| {
            shard.spawn(blocking(move || {
                let _ = wait.recv();
                seen.fetch_add(1, Ordering::SeqCst);
            }))
        })
        .unwrap();
    b.turn();
    task.cancel();
    b.turn();
    go.send(()).unwrap();
    b.until(|| ran.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_job_that_ends_after_its_shard_does_no_harm() {
    let pool = BlockingPool::new(1, 1).unwrap();
    let mut b = Bench::blocking(&pool);
    let (go, wait) = bounded::<()>(0);
    b.spawn(async move {
        let _ = blocking(move || wait.recv().is_ok()).await;
    });
    b.turn();
    drop(b);
    go.send(()).unwrap();
    let mut next = Bench::blocking(&pool);
    assert_eq!(next.run_with_threads(blocking(|| 3)), Ok(3));
}

#[test]
fn shards_share_one_pool() {
    let pool = BlockingPool::new(1, 8).unwrap();
    let (mut a, mut b) = (Bench::blocking(&pool), Bench::blocking(&pool));
    assert_eq!(a.run_with_threads(blocking(|| 1)), Ok(1));
    assert_eq!(b.run_with_threads(blocking(|| 2)), Ok(2));
}
