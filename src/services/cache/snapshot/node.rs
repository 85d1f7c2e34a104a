//! Snapshots of a whole [`Cache`]: which shard does what.
//!
//! Not here: when one is made (`session`, the configuration).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use corelane_base::ShardId;
use corelane_exec::{current, mesh};

use super::{
    Disk, Keys, Loaded, Manifest, Outcome, Part, SnapshotError, State, find, load_part, put, save, save_part,
    verify_part,
};
use crate::services::cache::store::Store;
use crate::services::cache::value::Value;
use crate::services::cache::{Cache, CacheShard};

impl Keys for Rc<CacheShard> {
    fn with<R>(&self, f: impl FnOnce(&mut Store) -> R) -> R {
        self.set_now(&current());
        f(&mut self.store.borrow_mut())
    }
}

fn shard_error(error: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::Shard(error.to_string())
}

// The snapshot's own time, for people; what counts for expiry is the time of each shard.
#[allow(clippy::disallowed_methods)]
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    u64::try_from(since).unwrap_or(u64::MAX)
}

impl Cache {
    /// Writes all keys to a directory: see [`snapshot`](super). Takes as long as the slowest shard; `state` tells how far
    /// it is.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`]; whatever the host says. The snapshot before is kept.
    ///
    /// # Panics
    /// Outside a shard.
    pub async fn save(&self, disk: &Disk, state: &Arc<State>) -> Result<Manifest, SnapshotError> {
        let _running = state.begin(0)?;
        self.save_begun(disk, state).await
    }

    /// [`Cache::save`] once [`State::begin`] has let it; who calls holds what that gave.
    pub(super) async fn save_begun(
        &self,
        disk: &Disk,
        state: &Arc<State>,
    ) -> Result<Manifest, SnapshotError> {
        let mut total = 0;
        for keys in self.shards.each(|here| here.store.borrow().len() as u64).await {
            total += keys.map_err(shard_error)?;
        }
        state.expect(total);
        let now = unix_ms();
        let part = |generation, shard| {
            let (disk, shards, state) = (disk.clone(), self.shards.clone(), Arc::clone(state));
            let (sent, received) = futures_channel::oneshot::channel::<Result<Part, SnapshotError>>();
            let begun = mesh().with(ShardId(shard), move |on| {
                let here = shards.of(on);
                let task = on.spawn(async move {
                    drop(sent.send(save_part(&disk, &state, generation, now, shard, &here).await));
                });
                task.map(corelane_exec::Task::detach)
            });
            async move {
                begun.await.map_err(shard_error)?.map_err(shard_error)?;
                received.await.map_err(|_| shard_error("its task ended"))?
            }
        };
        let count = u16::try_from(mesh().shards()).unwrap_or(u16::MAX);
        save(disk, state, now, count, part).await
    }

    /// Changes of keys on all shards since they began.
    pub(super) async fn changes(&self) -> Result<u64, SnapshotError> {
        let mut all = 0;
        for changes in self.shards.each(|here| here.store.borrow().stats().changes).await {
            all += changes.map_err(shard_error)?;
        }
        Ok(all)
    }

    /// Sets the keys of the snapshot in a directory; `None` where there is none. Each goes to the shard that owns it now.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`]; what is wrong with the snapshot: then no key was set.
    ///
    /// # Panics
    /// Outside a shard.
    pub async fn load(&self, disk: &Disk, state: &Arc<State>) -> Result<Option<Outcome>, SnapshotError> {
        self.load_some(disk, state, true).await
    }

    /// [`Cache::load`], without the strings if they are not wanted.
    pub(super) async fn load_some(
        &self,
        disk: &Disk,
        state: &Arc<State>,
        strings: bool,
    ) -> Result<Option<Outcome>, SnapshotError> {
        let _running = state.begin(0)?;
        let Some(manifest) = find(disk).await? else { return Ok(None) };
        state.expect(manifest.entries());
        for part in &manifest.parts {
            verify_part(disk, manifest.generation, part).await?;
        }
        let outcome = RefCell::new(Outcome::default());
        let add = |more: Outcome| {
            let all = outcome.borrow().and(more);
            *outcome.borrow_mut() = all;
        };
        let here = self.shards.here();
        for part in &manifest.parts {
            let deliver = async |batch: Vec<Loaded>| {
                let mut by_owner: Vec<Vec<Loaded>> = mesh().all().map(|_| Vec::new()).collect();
                let is_string = |value: &Value| matches!(value, Value::Int(_) | Value::Bytes(_));
                for one in batch.into_iter().filter(|one| strings || !is_string(&one.value)) {
                    let owner = here.owner(here.key(&one.key));
                    by_owner[usize::from(owner.0)].push(one);
                }
                for (to, batch) in mesh().all().zip(by_owner).filter(|(_, batch)| !batch.is_empty()) {
                    let set = move |on: &Rc<corelane_exec::Shard>, here: &CacheShard| {
                        here.set_now(on);
                        put(&mut here.store.borrow_mut(), batch)
                    };
                    let shards = self.shards.clone();
                    let call = mesh().with(to, move |on| set(on, &shards.of(on)));
                    add(call.await.map_err(shard_error)?);
                }
                Ok(())
            };
            let expired = load_part(disk, state, manifest.generation, part, unix_ms(), deliver).await?;
            add(Outcome { expired, ..Outcome::default() });
        }
        Ok(Some(outcome.into_inner()))
    }
}
