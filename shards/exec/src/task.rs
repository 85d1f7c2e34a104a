//! Tasks: futures that live on one shard.
//!
//! Cells are `async-task`'s; what is ours is where a woken task goes: to the shard's ready queue when the
//! wake comes from its own turn, else to its mailbox.
//!
//! # Rules (SAFETY comments cite these numbers)
//! 1. A task's future is polled and dropped on its shard's thread only. Wakers may go anywhere, but a
//!    `Runnable` made by a foreign wake only passes through the shard's wake queue.
//! 2. A shard that ends wakes every task that is left and drops the `Runnable`s on its own thread until
//!    none is alive; after that no waker makes a `Runnable` any more.
//! 3. `Guarded::future` is pinned with its owner: it is never moved, and dropped in place, once, by the drop
//!    of `Guarded`.
//!
//! Not here: priorities and shares between tasks.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_task::{FallibleTask, Runnable};
use corelane_base::Full;

use crate::shard::{Shard, current, is_current, with_current};
use crate::stats::bump;
use crate::watch;

/// Wakers of the tasks alive, so that an ending shard can reach them.
#[derive(Default)]
pub(crate) struct Tasks {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
    len: usize,
}

impl Tasks {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn reserve(&mut self) -> usize {
        self.len += 1;
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    fn release(&mut self, slot: usize) -> Option<Waker> {
        self.len -= 1;
        self.free.push(slot);
        self.slots[slot].take()
    }

    pub(crate) fn wakers(&self) -> Vec<Waker> {
        self.slots.iter().flatten().cloned().collect()
    }
}

/// Why a task gave no value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TaskError {
    /// It panicked; the panic was counted and logged.
    Panicked,
    /// It was cancelled, or its shard ended.
    Cancelled,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TaskError::Panicked => "the task panicked",
            TaskError::Cancelled => "the task was cancelled before it was done",
        })
    }
}

impl std::error::Error for TaskError {}

/// A task's handle: await it for its value. Dropping the handle lets the task go on; [`Task::cancel`] ends it.
#[must_use = "dropping the handle detaches the task: say so with `detach()`"]
pub struct Task<T>(Option<FallibleTask<Result<T, TaskError>>>);

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Task")
    }
}

impl<T> Task<T> {
    /// Drops the future where it stands, at the latest in the next turn.
    pub fn cancel(mut self) {
        drop(self.0.take());
    }

    /// Lets it run on its own.
    pub fn detach(self) {
        drop(self);
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(FallibleTask::is_finished)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            None => Poll::Ready(Err(TaskError::Cancelled)),
            Some(task) => Pin::new(task).poll(cx).map(|out| out.unwrap_or(Err(TaskError::Cancelled))),
        }
    }
}

/// The future with its place in the table, and a fence against panics.
struct Guarded<F> {
    future: ManuallyDrop<F>,
    shard: Rc<Shard>,
    slot: usize,
}

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        watch::note(std::any::type_name::<F>);
        // SAFETY: rule 3. The projection pins only `future`, which nothing moves out of.
        let future = unsafe { self.as_mut().map_unchecked_mut(|g| &mut *g.future) };
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(out)) => Poll::Ready(Ok(out)),
            Err(_) => {
                bump(&self.shard.stats.tasks_panicked);
                tracing::error!(shard = self.shard.id().0, "a task panicked; only it is lost");
                Poll::Ready(Err(TaskError::Panicked))
            }
        }
    }
}

impl<F> Drop for Guarded<F> {
    fn drop(&mut self) {
        // A destructor that panics costs the task, not the process: `async-task` would abort.
        let dropped = std::panic::catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: rule 3. This is the end of its owner, and the only place that drops it.
            unsafe { ManuallyDrop::drop(&mut self.future) }
        }));
        if dropped.is_err() {
            bump(&self.shard.stats.tasks_panicked);
            tracing::error!(shard = self.shard.id().0, "a task panicked as it was dropped");
        }
        let waker = self.shard.tasks.borrow_mut().release(self.slot);
        drop(waker); // outside the borrow: it may be the last reference of another task
    }
}

/// Starts a task on the current shard. It is first polled later in this turn or in the next.
///
/// Costs one allocation. A panic in it is caught, counted and logged.
///
/// # Errors
/// [`Full`] when `Limits::tasks_max` tasks are alive; the future is dropped.
///
/// # Panics
/// Outside a shard.
pub fn spawn<F>(future: F) -> Result<Task<F::Output>, Full>
where
    F: Future + 'static,
    F::Output: 'static,
{
    current().spawn(future)
}

impl Shard {
    /// Starts a task on this shard; see [`spawn`]. Callable from outside a turn on the shard's own thread.
    ///
    /// # Errors
    /// [`Full`] when `Limits::tasks_max` tasks are alive.
    pub fn spawn<F>(self: &Rc<Self>, future: F) -> Result<Task<F::Output>, Full>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let slot = {
            let mut tasks = self.tasks.borrow_mut();
            if tasks.len() >= self.limits.tasks_max as usize {
                bump(&self.stats.tasks_refused);
                return Err(Full::new("tasks_max", self.limits.tasks_max.into()));
            }
            tasks.reserve()
        };
        bump(&self.stats.tasks_spawned);
        let guarded = Guarded { future: ManuallyDrop::new(future), shard: Rc::clone(self), slot };
        let remote = Arc::clone(&self.remote);
        let schedule = move |runnable: Runnable| {
            if is_current(remote.unique) {
                let mut runnable = Some(runnable);
                with_current(|shard| {
                    if let Some(r) = runnable.take() {
                        shard.ready.borrow_mut().push_back(r);
                    }
                });
            } else {
                // Rule 2 of `remote`: this cannot be full.
                assert!(remote.wakes.push(runnable).is_ok(), "more wakes than tasks");
                remote.ring();
            }
        };
        // The future is not `Send`: `schedule` hands the `Runnable` only to this shard's own queues, which only
        // `turn` (and the end of the shard, rule 2) empties, on the shard's thread.
        // SAFETY: rule 1, by the above. `schedule` itself is `Send + Sync` (an `Arc` of a `Sync` type), so wakers
        // may be anywhere. Both are `'static`.
        let (runnable, task) = unsafe { async_task::spawn_unchecked(guarded, schedule) };
        self.tasks.borrow_mut().slots[slot] = Some(runnable.waker());
        runnable.schedule();
        Ok(Task(Some(task.fallible())))
    }

    /// Ends every task: rule 2. Gives up after many rounds, which only a foreign thread that died inside a
    /// wake can cause.
    pub(crate) fn end_tasks(&self) {
        for _ in 0..1_000 {
            let wakers = self.tasks.borrow().wakers();
            if wakers.is_empty() && self.tasks.borrow().len() == 0 {
                return;
            }
            for waker in wakers {
                waker.wake();
            }
            loop {
                let next = self.ready.borrow_mut().pop_front();
                let Some(next) = next.or_else(|| self.remote.wakes.pop()) else { break };
                drop(next);
            }
            std::thread::yield_now();
        }
    }
}

/// Lets other work of the shard run, then goes on.
pub async fn yield_now() {
    let yielded = Cell::new(false);
    std::future::poll_fn(|cx| {
        if yielded.replace(true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
