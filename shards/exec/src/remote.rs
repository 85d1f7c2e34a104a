//! What other threads may touch: a shard's mailbox and its doorbell.
//!
//! # Rules
//! 1. The consumer announces sleep at its door, then looks at every queue once more, then sleeps. A producer
//!    pushes first, then asks the door; only the one that found the consumer asleep rings (the rules of
//!    `corelane_lanes::Door` have the argument).
//! 2. A task is in at most one queue at a time, so the wake queue holds at most `tasks_max` entries and is
//!    made that large: a wake is never lost.
//! 3. The message queue is bounded by the caller's choice; when it is full the message comes back.
//!
//! Not here: lanes between shards (`mesh`).

use std::fmt;
use std::sync::Arc;

use async_task::Runnable;
use corelane_base::{Full, ShardId, Unpark};
use corelane_lanes::Door;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use crate::shard::Shard;
use crate::watch::{Pulse, Reading};

/// A message to a shard: runs once, inside its turn.
pub type Message = Box<dyn FnOnce(&Shard) + Send>;

/// Messages that may wait for one shard.
///
/// Control traffic only (drain, statistics): a handful a second. When full the sender gets `Full`.
pub const MESSAGES_MAX: usize = 256;

/// The part of a shard that other threads share.
pub struct Remote {
    pub(crate) id: ShardId,
    /// Distinguishes shards for the life of the process, whatever their ids.
    pub(crate) unique: u64,
    pub(crate) wakes: ArrayQueue<Runnable>,
    pub(crate) messages: ArrayQueue<Message>,
    /// Shared with the lanes of other shards: one sleep, one ring.
    pub(crate) door: Arc<Door>,
    pub(crate) unpark: Arc<dyn Unpark>,
    pub(crate) pulse: CachePadded<Pulse>,
}

impl Remote {
    /// Rings only where the shard said that it sleeps. Called after a push (rule 1).
    pub(crate) fn ring(&self) {
        if self.door.must_ring() {
            self.end_sleep();
        }
    }

    /// By the host's own waker where this is the thread of the shard, outside of its turn: no system call.
    fn end_sleep(&self) {
        #[cfg(feature = "glommio")]
        if crate::host::wake_here(self.unique) {
            return;
        }
        self.unpark.unpark();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wakes.is_empty() && self.messages.is_empty()
    }
}

#[cfg(all(test, feature = "glommio"))]
pub(crate) fn tests_remote(
    id: ShardId,
    limits: &corelane_base::Limits,
    unpark: Arc<dyn Unpark>,
) -> Arc<Remote> {
    let Some(seat) = crate::mesh::seats(1, limits).pop() else { unreachable!("one was asked for") };
    let door = Arc::clone(seat.door());
    let pulse = CachePadded::new(Pulse::new());
    Arc::new(Remote {
        id,
        unique: 0,
        wakes: ArrayQueue::new(1),
        messages: ArrayQueue::new(1),
        door,
        unpark,
        pulse,
    })
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({:?})", self.id)
    }
}

/// A handle to send to a shard from any thread.
#[derive(Clone, Debug)]
pub struct ShardHandle(pub(crate) Arc<Remote>);

impl ShardHandle {
    /// Which shard.
    pub fn id(&self) -> ShardId {
        self.0.id
    }

    /// What the shard is at, as another thread can tell: a few relaxed loads.
    pub fn pulse(&self) -> Reading {
        self.0.pulse.read()
    }

    /// Whether something waits for the shard that it has not taken: messages, wakes, lanes.
    pub fn has_work(&self) -> bool {
        !self.0.is_empty() || self.0.door.has_work()
    }

    /// Ends its sleep, which whoever calls this has found it in and taken the duty to end.
    pub(crate) fn ring(&self) {
        self.0.end_sleep();
    }

    /// What wakes its kernel; other shards hand it to theirs.
    pub fn unpark(&self) -> Arc<dyn Unpark> {
        Arc::clone(&self.0.unpark)
    }

    /// Has `message` run on the shard in its next turn; wakes it if it sleeps.
    ///
    /// # Errors
    /// [`Full`] when [`MESSAGES_MAX`] wait already. A message to a shard that has ended is never run.
    pub fn send(&self, message: impl FnOnce(&Shard) + Send + 'static) -> Result<(), Full> {
        self.0
            .messages
            .push(Box::new(message))
            .map_err(|_| Full::new("messages_max", MESSAGES_MAX as u64))?;
        self.0.ring();
        Ok(())
    }
}
