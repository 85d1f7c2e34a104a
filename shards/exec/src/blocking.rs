//! The way out for what must block: a small pool of threads that all shards share.
//!
//! # Rules
//! 1. Jobs wait in one bounded queue; when it is full the caller gets [`Full`], at once.
//! 2. A result comes back through a one-shot channel whose waker goes to the shard's mailbox. A caller that
//!    stopped waiting does not stop the job.
//!
//! Not here: file I/O and connects (the ring does those), anything a request needs often.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;

use corelane_base::Full;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use futures_channel::oneshot;

use crate::shard::current;

type Job = Box<dyn FnOnce() + Send>;

/// Threads for blocking jobs. Ends when the last handle is dropped and the queued jobs are done.
pub struct BlockingPool {
    jobs: Sender<Job>,
    queue_max: u32,
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockingPool({} of {} waiting)", self.jobs.len(), self.queue_max)
    }
}

/// Why a blocking job gave no value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BlockingError {
    /// Too many jobs wait; try later.
    Full(Full),
    /// The job panicked.
    Panicked,
    /// This shard was started without a pool.
    NoPool,
}

impl fmt::Display for BlockingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockingError::Full(full) => full.fmt(f),
            BlockingError::Panicked => f.write_str("the blocking job panicked"),
            BlockingError::NoPool => f.write_str("this shard was started without a blocking pool"),
        }
    }
}

impl std::error::Error for BlockingError {}

impl BlockingPool {
    /// Starts `threads` threads with a queue of `queue_max` jobs.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(threads: u32, queue_max: u32) -> std::io::Result<Arc<BlockingPool>> {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = crossbeam_channel::bounded(queue_max as usize);
        for n in 0..threads {
            let queue = queue.clone();
            thread::Builder::new().name(format!("blocking-{n}")).spawn(move || {
                while let Ok(job) = queue.recv() {
                    job();
                }
            })?;
        }
        Ok(Arc::new(BlockingPool { jobs, queue_max }))
    }

    fn submit(&self, job: Job) -> Result<(), Full> {
        self.jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => {
                Full::new("blocking_queue_max", self.queue_max.into())
            }
        })
    }
}

/// Runs `job` on a thread that may block, and waits for it without blocking the shard. Costs two thread
/// hand-overs, some 10 us: for password hashes and name look-ups, not for the hot path.
///
/// # Errors
/// [`BlockingError::Full`] at `Limits::blocking_queue_max`, [`BlockingError::Panicked`] if it panicked.
///
/// # Panics
/// Outside a shard.
pub async fn blocking<T, F>(job: F) -> Result<T, BlockingError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let Some(pool) = current().blocking.clone() else { return Err(BlockingError::NoPool) };
    let (done, result) = oneshot::channel();
    pool.submit(Box::new(move || {
        // A panic drops `done`, which the waiting side reads as `Panicked`. A value that nobody waits for is
        // dropped within, too: its panic must not cost the thread.
        let run = move || drop(done.send(job()));
        drop(std::panic::catch_unwind(AssertUnwindSafe(run)));
    }))
    .map_err(BlockingError::Full)?;
    result.await.map_err(|_| BlockingError::Panicked)
}
