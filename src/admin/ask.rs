//! Asking shards, and not waiting for those that do not answer.
//!
//! Not here: what is asked (`pages`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use corelane_exec::{Shard, ShardHandle};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Questions that a shard may have unanswered. A shard with as many is not asked, so that one that stands still
/// does not find its mailbox full of them when it goes on.
const ASKED_MAX: u32 = 8;

/// The shards of a node.
pub(super) struct Shards(Vec<(ShardHandle, Arc<AtomicU32>)>);

/// What one shard said; None if nothing, in time.
pub(super) type Said<R> = (u16, Option<R>);

/// A question on its way: counted until it was answered or lost.
struct Asked(Arc<AtomicU32>);

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

    fn send<R, F>(handle: &ShardHandle, asked: &Arc<AtomicU32>, f: F) -> Option<oneshot::Receiver<R>>
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
fn deadline(patience: Duration) -> Instant {
    Instant::now() + patience
}
