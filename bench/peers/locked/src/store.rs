//! The counters, shared in one of two ways.
//!
//! # Rules
//! 1. [`Store::locked`]: one map, one mutex, held for the map's work only and never across an await.
//! 2. [`Store::queued`]: a name belongs to one owner task by its hash; only that task touches its map. All
//!    other tasks reach it by its queue (flume: many producers, many consumers) and get a reply of their own
//!    (oneshot).
//! 3. An owner holds at most [`COUNTERS_MAX`] names, as the example's shards do; the one map as many as all
//!    owners.
//!
//! Not here: HTTP (`main`).

#![allow(clippy::disallowed_types, reason = "a mutex between threads is what is compared with")]

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use flume::Sender;
use tokio::sync::oneshot;

/// Different counters of one owner. A client must not fill the memory: past it, new ones are refused.
pub(crate) const COUNTERS_MAX: usize = 100_000;

/// Requests that wait for one owner; more senders wait for room.
///
/// A request of each of 1,024 connections: 80 bytes each, 80 KiB an owner.
const QUEUE_MAX: usize = 1024;

/// Why a counter was not counted or read.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// There are as many names as may be, and this is a new one.
    TooMany,
    /// The owner task ended: it panicked, or the runtime is shutting down.
    Gone,
}

/// Named counters that start at 0.
pub(crate) enum Store {
    Locked(Mutex<Counters>),
    Queued { owners: Vec<Sender<Ask>>, hasher: RandomState },
}

/// The counters of one part.
pub(crate) struct Counters {
    map: HashMap<String, u64>,
    names_max: usize,
}

/// What an owner is asked; each with where the reply goes.
pub(crate) enum Ask {
    Add(String, oneshot::Sender<Result<u64, Refused>>),
    Read(String, oneshot::Sender<Option<u64>>),
    Size(oneshot::Sender<usize>),
}

impl Store {
    /// One map behind one mutex, with room for the names of `owners` owners.
    pub(crate) fn locked(owners: usize) -> Store {
        Store::Locked(Mutex::new(Counters::new(owners * COUNTERS_MAX)))
    }

    /// Starts `owners` tasks on the current runtime, each with a part of the names.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub(crate) fn queued(owners: usize) -> Store {
        let start = |_| {
            let (sender, receiver) = flume::bounded::<Ask>(QUEUE_MAX);
            tokio::spawn(async move {
                let mut counters = Counters::new(COUNTERS_MAX);
                while let Ok(ask) = receiver.recv_async().await {
                    counters.reply(ask);
                }
            });
            sender
        };
        Store::Queued { owners: (0..owners).map(start).collect(), hasher: RandomState::new() }
    }

    /// Counts `name` up by one and returns the new count.
    pub(crate) async fn add(&self, name: String) -> Result<u64, Refused> {
        match self {
            Store::Locked(counters) => counters.lock().unwrap_or_else(PoisonError::into_inner).add(name),
            Store::Queued { owners, hasher } => {
                let owner = owner(owners, hasher, &name);
                ask(owner, |reply| Ask::Add(name, reply)).await?
            }
        }
    }

    /// The count of `name`, if it was ever counted.
    pub(crate) async fn read(&self, name: String) -> Result<Option<u64>, Refused> {
        match self {
            Store::Locked(counters) => {
                Ok(counters.lock().unwrap_or_else(PoisonError::into_inner).read(&name))
            }
            Store::Queued { owners, hasher } => {
                let owner = owner(owners, hasher, &name);
                ask(owner, |reply| Ask::Read(name, reply)).await
            }
        }
    }

    /// How many names each part has.
    pub(crate) async fn sizes(&self) -> Vec<Result<usize, Refused>> {
        match self {
            Store::Locked(counters) => {
                vec![Ok(counters.lock().unwrap_or_else(PoisonError::into_inner).map.len())]
            }
            Store::Queued { owners, .. } => {
                let mut sizes = Vec::with_capacity(owners.len());
                for owner in owners {
                    sizes.push(ask(owner, Ask::Size).await);
                }
                sizes
            }
        }
    }
}

/// The queue of the owner of `name`.
fn owner<'s>(owners: &'s [Sender<Ask>], hasher: &RandomState, name: &str) -> &'s Sender<Ask> {
    let hash = hasher.hash_one(name) % owners.len() as u64;
    &owners[usize::try_from(hash).unwrap_or(0)]
}

/// Puts a question into the queue of an owner, waiting for room, and waits for the reply.
async fn ask<T>(owner: &Sender<Ask>, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Refused> {
    let (reply, replied) = oneshot::channel();
    owner.send_async(question(reply)).await.map_err(|_| Refused::Gone)?;
    replied.await.map_err(|_| Refused::Gone)
}

impl Counters {
    fn new(names_max: usize) -> Counters {
        Counters { map: HashMap::new(), names_max }
    }

    fn add(&mut self, name: String) -> Result<u64, Refused> {
        if self.map.len() >= self.names_max && !self.map.contains_key(&name) {
            return Err(Refused::TooMany);
        }
        let count = self.map.entry(name).or_insert(0);
        *count += 1;
        Ok(*count)
    }

    fn read(&self, name: &str) -> Option<u64> {
        self.map.get(name).copied()
    }

    fn reply(&mut self, ask: Ask) {
        // Who asked may have left meanwhile: then nobody waits for the reply.
        match ask {
            Ask::Add(name, reply) => drop(reply.send(self.add(name))),
            Ask::Read(name, reply) => drop(reply.send(self.read(&name))),
            Ask::Size(reply) => drop(reply.send(self.map.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Runs `test` with a store of either kind, on two threads.
    fn with_each(test: impl AsyncFn(&'static Store)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            test(Box::leak(Box::new(Store::locked(2)))).await;
            test(Box::leak(Box::new(Store::queued(2)))).await;
        });
    }

    #[test]
    fn names_are_counted_apart_and_only_by_add() {
        with_each(async |store| {
            assert_eq!(store.read("oak".into()).await, Ok(None));
            assert_eq!(store.add("oak".into()).await, Ok(1));
            assert_eq!(store.add("ash".into()).await, Ok(1));
            assert_eq!(store.add("oak".into()).await, Ok(2));
            assert_eq!(store.read("oak".into()).await, Ok(Some(2)));
            let sizes: usize = store.sizes().await.into_iter().map(Result::unwrap).sum();
            assert_eq!(sizes, 2);
        });
    }

    #[test]
    fn a_new_name_beyond_the_bound_is_refused_and_a_known_one_counted() {
        let mut counters = Counters::new(COUNTERS_MAX);
        for name in 0..COUNTERS_MAX {
            assert_eq!(counters.add(name.to_string()), Ok(1));
        }
        assert_eq!(counters.add("one more".into()), Err(Refused::TooMany));
        assert_eq!(counters.add("7".into()), Ok(2));
    }

    #[test]
    fn additions_of_tasks_on_two_threads_are_all_counted() {
        with_each(async |store| {
            let add = || async { store.add("oak".into()).await.unwrap() };
            let tasks: Vec<_> = (0..2000).map(|_| tokio::spawn(add())).collect();
            let mut counts = Vec::new();
            for task in tasks {
                counts.push(task.await.unwrap());
            }
            counts.sort_unstable();
            assert_eq!(counts, (1..=2000).collect::<Vec<_>>());
        });
    }
}
