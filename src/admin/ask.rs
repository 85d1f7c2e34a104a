//! Asking shards, and not waiting for those that do not answer.
//!
//! Not here: what is asked (`pages`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corelane_exec::{Shard, ShardHandle};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

/// Questions that a shard may have unanswered, so that one that stands still does not find its mailbox full of
/// them when it goes on: as many as there are connections to ask on. A further one, of a client that came after
/// another had left, waits its turn within its own time: that others ask says nothing about the shard.
const ASKED_MAX: usize = super::CONNECTIONS_MAX;

/// Between two looks whether a shard can be asked.
const TURN: Duration = Duration::from_millis(2);

/// The shards of a node.
pub(super) struct Shards(Vec<(ShardHandle, Arc<AtomicUsize>)>);

/// What one shard said; None if nothing, in time.
pub(super) type Said<R> = (u16, Option<R>);

/// A question on its way: counted until it was answered or lost.
struct Asked(Arc<AtomicUsize>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shards {
    pub(super) fn new(handles: Vec<ShardHandle>) -> Shards {
        Shards(handles.into_iter().map(|handle| (handle, Arc::default())).collect())
    }

    /// Has every shard run `f`, all at once, and waits for `patience` together.
    pub(super) async fn ask<R, F>(&self, patience: Duration, f: F) -> Vec<Said<R>>
    where
        R: Send + 'static,
        F: Fn(&Shard) -> R + Clone + Send + 'static,
    {
        let deadline = deadline(patience);
        let mut answers = Vec::with_capacity(self.0.len());
        for (handle, asked) in &self.0 {
            answers.push((handle.id().0, Self::send(handle, asked, f.clone())));
        }
        while answers.iter().any(|(_, answer)| answer.is_none()) && is_before(deadline) {
            sleep(TURN).await;
            for ((handle, asked), (_, answer)) in self.0.iter().zip(&mut answers) {
                if answer.is_none() {
                    *answer = Self::send(handle, asked, f.clone());
                }
            }
        }
        let mut said = Vec::with_capacity(answers.len());
        for (shard, answer) in answers {
            let answer = match answer {
                Some(answer) => timeout_at(deadline, answer).await.ok().and_then(Result::ok),
                None => None,
            };
            said.push((shard, answer));
        }
        said
    }

    fn send<R, F>(handle: &ShardHandle, asked: &Arc<AtomicUsize>, f: F) -> Option<oneshot::Receiver<R>>
    where
        R: Send + 'static,
        F: FnOnce(&Shard) -> R + Send + 'static,
    {
        if asked.fetch_add(1, Ordering::Relaxed) >= ASKED_MAX {
            asked.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let asked = Asked(Arc::clone(asked));
        let (tell, answer) = oneshot::channel();
        let message = move |shard: &Shard| {
            let _asked = asked;
            // Nobody waits any more: it need not be found out.
            if !tell.is_closed() {
                drop(tell.send(f(shard)));
            }
        };
        handle.send(message).ok().map(|()| answer)
    }
}

// The control side has a clock of its own.
#[allow(clippy::disallowed_methods)]
fn is_before(deadline: Instant) -> bool {
    Instant::now() < deadline
}

#[allow(clippy::disallowed_methods)] // as above
fn deadline(patience: Duration) -> Instant {
    Instant::now() + patience
}
