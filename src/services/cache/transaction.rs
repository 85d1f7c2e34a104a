//! Transaction: commands whose keys are on several shards, atomic for the keys they name.
//!
//! The keys of all its commands are locked shard by shard, in the order of the shards (`locks` says why nothing can
//! stand still over that). Then each command runs where its keys are, in order. A command with keys on several shards
//! runs here, on copies that are brought together; what it changed goes back to where it belongs. Last, all locks go.
//! Nobody else reads or writes one of the keys in between.
//!
//! Price: one round trip to each shard for its locks, one after another; one for each command; one to release. Copies
//! cost in proportion to the size of the values. Where one shard has all keys, the whole transaction is one message.
//!
//! # Rules
//! 1. A shard that does not answer in time fails the transaction with an error; locks are released whatever happens.
//! 2. What ran before such a failure is not undone: as in Redis, there is no rollback.
//!
//! Not here: what is queued by MULTI (`session`).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use corelane_base::ShardId;
use corelane_exec::{CallError, Shard, Sharded};
use corelane_proto_resp::{Command, Parser, Step, Version};

use super::batch::{Batch, Done};
use super::command::{Flags, Gather, Reply, Run, Spec};
use super::locks::{self, Granted, Ticket};
use super::shard::{CacheShard, INNER, REPLIES_LEN_MAX, TOO_LONG};
use super::store::{Config, Expiry, Exported, Store, StoreError};
use super::upstream::{Part, part_of};
use super::{CacheError, gather};

/// The part of `Limits::call_time` that a lock is waited for: a grant must be known before its call is late.
const LOCK_PART: u32 = 2;

/// A command of a transaction: what it is, and its bytes.
#[derive(Debug)]
pub struct Queued {
    pub(super) spec: &'static Spec,
    pub(super) wire: Vec<u8>,
}

/// A key that must be as it was.
#[derive(Clone, Debug)]
pub struct Watched {
    pub(super) key: Box<[u8]>,
    pub(super) owner: ShardId,
    pub(super) version: u64,
}

/// What came of a transaction.
#[derive(Debug)]
pub enum Outcome {
    /// The replies of its commands, one behind the other.
    Ran(Reply),
    /// A watched key was changed.
    Changed,
    /// A command that waits found nothing, and what it replies to that stands where its reply would.
    Blocked(Reply),
}

/// Calls `see` with the only command in `wire`.
pub(super) fn with_command<R>(wire: &[u8], see: impl FnOnce(&Command<'_>) -> R) -> R {
    let mut parser = Parser::new();
    let mut unread = wire;
    match parser.poll(&INNER, &mut unread) {
        Step::Command(command) => see(&command),
        _ => unreachable!("what was queued is a whole command"),
    }
}

/// Runs transactions of one shard's connections.
#[derive(Clone, Debug)]
pub(super) struct Coordinator {
    pub(super) shard: Rc<Shard>,
    pub(super) here: Rc<CacheShard>,
    pub(super) all: Sharded<CacheShard>,
}

/// A key that was changed: what it has now, if anything.
type Changed = (Box<[u8]>, Option<Exported>);

/// Keys of each shard, with what is done to them.
type PartsByShard = BTreeMap<u16, Vec<(Box<[u8]>, Part)>>;

/// What was asked of a shard.
type Asked<R> = Pin<Box<dyn Future<Output = Result<R, CacheError>>>>;

/// The keys of each shard.
type ByShard = BTreeMap<u16, Vec<Box<[u8]>>>;

impl Coordinator {
    /// The keys of a command, each with its owner, in the order they stand there.
    fn keys_of(&self, spec: &Spec, wire: &[u8]) -> Vec<(Box<[u8]>, ShardId)> {
        with_command(wire, |command| {
            let mut places = Vec::new();
            spec.keys.find(command, &mut places);
            let keys = places.iter().filter_map(|&at| command.get(at));
            keys.map(|key| (Box::from(key), self.here.owner(self.here.key(key)))).collect()
        })
    }

    /// Runs `commands` as one. `watched` keys must be as they were.
    ///
    /// # Errors
    /// Of a shard that did not answer.
    pub(super) async fn run(
        &self,
        commands: Vec<Queued>,
        watched: Vec<Watched>,
        version: Version,
    ) -> Result<Outcome, CacheError> {
        if self.here.is_tiered() {
            self.bring(&commands).await?;
        }
        let mut by_shard = ByShard::new();
        let mut everywhere = false;
        for queued in &commands {
            for (key, owner) in self.keys_of(queued.spec, &queued.wire) {
                by_shard.entry(owner.0).or_default().push(key);
            }
            everywhere |= matches!(queued.spec.run, Run::All(..)) && self.here.shards() > 1;
        }
        for one in &watched {
            by_shard.entry(one.owner.0).or_default().push(one.key.clone());
        }
        for keys in by_shard.values_mut() {
            keys.sort_unstable();
            keys.dedup();
        }
        if by_shard.len() <= 1 && !everywhere {
            let owner = by_shard.into_iter().next().map_or(self.here.here(), |(owner, _)| ShardId(owner));
            return self.run_on_one(owner, commands, watched, version).await;
        }
        let held =
            Held { of: self.clone(), ticket: self.here.number(), shards: by_shard.keys().copied().collect() };
        for (owner, keys) in by_shard {
            self.lock(ShardId(owner), held.ticket, keys).await?;
        }
        let outcome = self.run_locked(commands, watched, version, held.ticket).await;
        held.release().await;
        outcome
    }

    /// All keys are on one shard: it runs as one step there, once no other transaction holds one of them.
    async fn run_on_one(
        &self,
        owner: ShardId,
        commands: Vec<Queued>,
        watched: Vec<Watched>,
        version: Version,
    ) -> Result<Outcome, CacheError> {
        let mut batch = Batch::new(version, 0);
        for queued in &commands {
            batch.push_raw(queued.spec, &queued.wire);
        }
        let all = self.all.clone();
        let time = self.lock_time();
        let step = move |shard: &Rc<Shard>| {
            let (shard, here) = (Rc::clone(shard), all.of(shard));
            async move {
                here.has_room().await;
                let keys = here.all_keys(&batch, &watched);
                // The wait itself holds nothing: what runs next runs at once behind it. Without keys there is nothing
                // to wait for.
                let is_free = keys.is_empty()
                    || corelane_exec::timeout(time, locks::wait_free(&here.locks, &keys)).await.is_ok();
                if !is_free {
                    return Err(CacheError::Busy);
                }
                here.set_now(&shard);
                if here.is_changed(&watched) {
                    return Ok(Outcome::Changed);
                }
                let outcome = here.run_whole(&shard, batch);
                here.serve_parked();
                CacheShard::settle(here.take_owed()).await?;
                Ok(outcome)
            }
        };
        if owner == self.here.here() {
            return step(&self.shard).await;
        }
        self.shard.mesh().run(owner, step).await?
    }

    fn lock_time(&self) -> Duration {
        self.shard.limits().call_time / LOCK_PART
    }

    async fn lock(&self, owner: ShardId, ticket: Ticket, keys: Vec<Box<[u8]>>) -> Result<(), CacheError> {
        let (all, time) = (self.all.clone(), self.lock_time());
        let granted = self.shard.mesh().run(owner, move |shard| {
            let here = all.of(shard);
            // Asked for before the task runs: a release that comes behind this message finds it.
            let number = here.locks.borrow_mut().ask(ticket, keys);
            async move {
                let waited = corelane_exec::timeout(time, Granted::of(&here.locks, number)).await;
                matches!(waited, Ok(true))
            }
        });
        if granted.await? { Ok(()) } else { Err(CacheError::Busy) }
    }

    async fn run_locked(
        &self,
        commands: Vec<Queued>,
        watched: Vec<Watched>,
        version: Version,
        ticket: Ticket,
    ) -> Result<Outcome, CacheError> {
        if self.any_changed(watched).await? {
            return Ok(Outcome::Changed);
        }
        let mut reply = Reply::new(version);
        let alone = commands.len() == 1;
        for queued in commands {
            if reply.bytes().len() > REPLIES_LEN_MAX {
                reply.error(TOO_LONG);
                continue;
            }
            let blocked = self.run_one(queued, version, ticket, &mut reply).await?;
            if blocked && alone {
                return Ok(Outcome::Blocked(reply));
            }
        }
        Ok(Outcome::Ran(reply))
    }

    async fn any_changed(&self, watched: Vec<Watched>) -> Result<bool, CacheError> {
        let mut by_shard: BTreeMap<u16, Vec<Watched>> = BTreeMap::new();
        for one in watched {
            by_shard.entry(one.owner.0).or_default().push(one);
        }
        let mesh = self.shard.mesh();
        let asked: Vec<_> = by_shard
            .into_iter()
            .map(|(owner, watched)| {
                let all = self.all.clone();
                mesh.with(ShardId(owner), move |shard| {
                    let here = all.of(shard);
                    here.set_now(shard);
                    here.is_changed(&watched)
                })
            })
            .collect();
        let mut changed = false;
        for answer in asked {
            changed |= answer.await?;
        }
        Ok(changed)
    }

    /// Runs a command whose keys are locked. True if it found nothing and would have to wait.
    async fn run_one(
        &self,
        queued: Queued,
        version: Version,
        ticket: Ticket,
        reply: &mut Reply,
    ) -> Result<bool, CacheError> {
        let keys = self.keys_of(queued.spec, &queued.wire);
        let is_one = keys.windows(2).all(|pair| pair[0].1 == pair[1].1);
        match queued.spec.run {
            Run::All(_, how) if self.here.shards() > 1 => {
                let parts = self.shard.mesh().all().map(|to| (to, queued.wire.clone())).collect();
                self.run_parts(queued.spec, parts, how, version, ticket, reply).await?;
                Ok(false)
            }
            // Malformed, it runs nowhere: one shard says so.
            Run::Split(_, how)
                if !is_one
                    && with_command(&queued.wire, |command| gather::is_whole(queued.spec, command)) =>
            {
                let parts =
                    with_command(&queued.wire, |command| gather::split(queued.spec, command, &self.here));
                self.run_parts(queued.spec, parts, how, version, ticket, reply).await?;
                Ok(false)
            }
            Run::Data(_) if !is_one => self.run_together(queued, keys, reply).await,
            _ => {
                let owner = keys.first().map_or(self.here.here(), |(_, owner)| *owner);
                let parts = vec![(owner, queued.wire)];
                let done = self.ask(queued.spec, parts, version, ticket).await?;
                for one in done {
                    reply.append(&one.reply);
                }
                Ok(false)
            }
        }
    }

    async fn run_parts(
        &self,
        spec: &'static Spec,
        parts: Vec<(ShardId, Vec<u8>)>,
        how: Gather,
        version: Version,
        ticket: Ticket,
        reply: &mut Reply,
    ) -> Result<(), CacheError> {
        let done = self.ask(spec, parts, version, ticket).await?;
        let ranges: Vec<_> = done.iter().map(|one| (&one.reply, 0..one.reply.bytes().len())).collect();
        gather::together(how, &ranges, reply);
        Ok(())
    }

    /// Sends each part to its shard; the replies in the order of the parts.
    async fn ask(
        &self,
        spec: &'static Spec,
        parts: Vec<(ShardId, Vec<u8>)>,
        version: Version,
        ticket: Ticket,
    ) -> Result<Vec<Done>, CacheError> {
        let asked: Vec<_> = parts
            .into_iter()
            .map(|(to, wire)| {
                let mut batch = Batch::new(version, ticket);
                batch.push_raw(spec, &wire);
                self.ask_one(to, batch)
            })
            .collect();
        let mut all = Vec::with_capacity(asked.len());
        for answer in asked {
            let done = answer.await?;
            if done.rest.is_some() {
                return Err(CacheError::Busy); // another one's lock: ours was lost to its deadline
            }
            all.push(done);
        }
        Ok(all)
    }

    /// Has the keys fetched that a transaction reads and that are not here.
    async fn bring(&self, commands: &[Queued]) -> Result<(), CacheError> {
        let mut by_shard = PartsByShard::new();
        for queued in commands {
            let part = with_command(&queued.wire, part_of);
            if matches!(part, Part::Read | Part::Change) {
                for (key, owner) in self.keys_of(queued.spec, &queued.wire) {
                    by_shard.entry(owner.0).or_default().push((key, part));
                }
            }
        }
        let asked = by_shard.into_iter().map(|(owner, keys)| {
            let all = self.all.clone();
            self.shard.mesh().run(ShardId(owner), move |shard| {
                let (shard, here) = (Rc::clone(shard), all.of(shard));
                async move { here.bring(&shard, keys).await }
            })
        });
        for answer in asked.collect::<Vec<_>>() {
            answer.await??;
        }
        Ok(())
    }

    /// Has a batch in the name of this transaction run; done when the second tier has what it changed.
    fn ask_one(&self, to: ShardId, batch: Batch) -> Asked<Done> {
        let (all, mesh) = (self.all.clone(), self.shard.mesh());
        if !self.here.is_tiered() {
            let call = mesh.with(to, move |shard| all.of(shard).run(shard, batch));
            return Box::pin(async move { Ok(call.await?) });
        }
        let call = mesh.run(to, move |shard| {
            let here = all.of(shard);
            let done = here.run(shard, batch);
            let owed = here.take_owed();
            async move { CacheShard::settle(owed).await.map(|()| done) }
        });
        Box::pin(async move { call.await? })
    }

    /// Brings the values of `keys` together, runs the command on them, and sends back what it changed.
    async fn run_together(
        &self,
        queued: Queued,
        mut keys: Vec<(Box<[u8]>, ShardId)>,
        reply: &mut Reply,
    ) -> Result<bool, CacheError> {
        keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        keys.dedup_by(|a, b| a.0 == b.0);
        let needs_room = queued.spec.flags.has(Flags::DENYOOM);
        let mut table = match self.fetch(&keys, needs_room).await? {
            Ok(table) => table,
            Err(error) => {
                reply.error(error);
                return Ok(false);
            }
        };
        let before: Vec<u64> = keys.iter().map(|(key, _)| table.watch(self.here.key(key))).collect();
        let blocked = with_command(&queued.wire, |command| {
            let Run::Data(run) = queued.spec.run else { unreachable!("who calls looked") };
            let mut context = super::command::Ctx {
                store: &mut table,
                reply,
                first: None,
                blocked: false,
                random: self.here.random(),
            };
            run(&mut context, command);
            if context.blocked {
                super::command::blocking::denied(command, reply);
                return true;
            }
            false
        });
        if queued.spec.flags.has(Flags::WRITE) {
            let mut changed = Vec::new();
            for ((key, owner), before) in keys.into_iter().zip(before) {
                let is_changed = table.version(self.here.key(&key)) != before;
                if is_changed {
                    let value = table.take(self.here.key(&key));
                    changed.push((owner, key, value));
                }
            }
            let sends = self.here.is_tiered() && with_command(&queued.wire, part_of) != Part::None;
            self.give_back(changed, sends).await?;
        }
        Ok(blocked)
    }

    /// Copies of the values of `keys`, in a store of their own. For a command that `needs_room`, each shard of a key makes
    /// some first, or refuses.
    async fn fetch(
        &self,
        keys: &[(Box<[u8]>, ShardId)],
        needs_room: bool,
    ) -> Result<Result<Store, StoreError>, CacheError> {
        let mut by_shard = ByShard::new();
        for (key, owner) in keys {
            by_shard.entry(owner.0).or_default().push(key.clone());
        }
        let mesh = self.shard.mesh();
        let asked: Vec<_> = by_shard
            .into_iter()
            .map(|(owner, keys)| {
                let all = self.all.clone();
                mesh.with(ShardId(owner), move |shard| {
                    let here = all.of(shard);
                    here.set_now(shard);
                    let mut store = here.store.borrow_mut();
                    if needs_room {
                        store.make_room()?;
                    }
                    let found = keys.into_iter().filter_map(|key| {
                        let value = store.export(here.key(&key))?;
                        Some((key, value))
                    });
                    Ok(found.collect::<Vec<(Box<[u8]>, Exported)>>())
                })
            })
            .collect();
        let hasher = self.here.store.borrow().hasher().clone();
        let mut table = Store::new(Config::default(), hasher, self.here.now(&self.shard));
        for answer in asked {
            let found = match answer.await? {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            for (key, Exported { value, expires_at }) in found {
                let expiry = expires_at.map_or(Expiry::Never, Expiry::At);
                // Without a maximum there is always room.
                let _ = table.insert(self.here.key(&key), value, expiry);
            }
        }
        Ok(Ok(table))
    }

    async fn give_back(
        &self,
        changed: Vec<(ShardId, Box<[u8]>, Option<Exported>)>,
        sends: bool,
    ) -> Result<(), CacheError> {
        let mut by_shard: BTreeMap<u16, Vec<Changed>> = BTreeMap::new();
        for (owner, key, value) in changed {
            by_shard.entry(owner.0).or_default().push((key, value));
        }
        let mesh = self.shard.mesh();
        let sent: Vec<_> = by_shard
            .into_iter()
            .map(|(owner, values)| {
                let all = self.all.clone();
                if !sends {
                    let call = mesh.with(ShardId(owner), move |shard| all.of(shard).put_back(shard, values));
                    return Box::pin(async move { Ok(call.await?) }) as Asked<()>;
                }
                let call = mesh.run(ShardId(owner), move |shard| {
                    let here = all.of(shard);
                    here.owe_copies(&values);
                    here.put_back(shard, values);
                    CacheShard::settle(here.take_owed())
                });
                Box::pin(async move { call.await? })
            })
            .collect();
        for answer in sent {
            answer.await?;
        }
        Ok(())
    }
}

/// Locks that are held, and are released however the transaction ends.
struct Held {
    of: Coordinator,
    ticket: Ticket,
    shards: Vec<u16>,
}

impl Held {
    /// Releases, and waits until that is done: what the client asks next finds its keys free.
    async fn release(mut self) {
        let calls: Vec<_> =
            std::mem::take(&mut self.shards).into_iter().map(|owner| self.send(owner)).collect();
        for call in calls {
            let _ = call.await; // a shard that does not answer has nobody to hold a lock for
        }
    }

    fn send(&self, owner: u16) -> corelane_exec::Call<()> {
        let (all, ticket) = (self.of.all.clone(), self.ticket);
        self.of.shard.mesh().with(ShardId(owner), move |shard| all.of(shard).release(ticket))
    }
}

impl Drop for Held {
    /// The transaction failed, or its client left.
    fn drop(&mut self) {
        let shards = std::mem::take(&mut self.shards);
        if shards.is_empty() {
            return;
        }
        let calls: Vec<_> = shards.into_iter().map(|owner| self.send(owner)).collect();
        // Kept until they are answered: one that waits for a credit would be dropped with its call.
        let task = self.of.shard.spawn(async move {
            for call in calls {
                let _ = call.await;
            }
        });
        match task {
            Ok(task) => task.detach(),
            Err(full) => {
                tracing::error!(%full, "locks of the cache may stay held: no task is free to release them")
            }
        }
    }
}

impl CacheShard {
    fn all_keys(&self, batch: &Batch, watched: &[Watched]) -> Vec<Box<[u8]>> {
        let mut parser = Parser::new();
        let mut unread = batch.wire.as_slice();
        let mut keys: Vec<Box<[u8]>> = watched.iter().map(|one| one.key.clone()).collect();
        let mut places = Vec::new();
        for (spec, _) in &batch.items {
            let Step::Command(command) = parser.poll(&INNER, &mut unread) else { break };
            spec.keys.find(&command, &mut places);
            keys.extend(places.iter().filter_map(|&at| command.get(at)).map(Box::from));
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn is_changed(&self, watched: &[Watched]) -> bool {
        let mut store = self.store.borrow_mut();
        watched.iter().any(|one| store.version(self.key(&one.key)) != one.version)
    }

    /// Runs all of a batch, whose keys are free, in one step.
    fn run_whole(&self, shard: &Rc<Shard>, mut batch: Batch) -> Outcome {
        let alone = batch.items.len() == 1;
        // In a name of its own: nobody is served before all of it has run.
        batch.ticket = Ticket::MAX;
        let version = batch.version;
        if alone {
            let (spec, _) = batch.items[0];
            let mut reply = Reply::new(version);
            let blocked = with_command(&batch.wire, |command| {
                let first = command.get(1).map(|key| self.key(key));
                let executed = self.execute(spec, command, first, batch.ticket, &mut reply);
                if executed == super::shard::Executed::Blocked {
                    super::command::blocking::denied(command, &mut reply);
                }
                executed == super::shard::Executed::Blocked
            });
            return if blocked { Outcome::Blocked(reply) } else { Outcome::Ran(reply) };
        }
        Outcome::Ran(self.run(shard, batch).reply)
    }

    /// Takes in what a command on copies made of the keys of this shard.
    fn put_back(&self, shard: &Rc<Shard>, values: Vec<(Box<[u8]>, Option<Exported>)>) {
        self.set_now(shard);
        let mut store = self.store.borrow_mut();
        for (key, value) in values {
            let key = self.key(&key);
            match value {
                None => {
                    store.remove(key);
                }
                Some(Exported { value, expires_at }) => {
                    let expiry = expires_at.map_or(Expiry::Never, Expiry::At);
                    if store.insert(key, value, expiry).is_err() {
                        // Larger than this shard may hold at all: as if it had been evicted at once.
                        store.remove(key);
                    }
                }
            }
        }
    }
}

impl From<CallError> for CacheError {
    fn from(error: CallError) -> CacheError {
        CacheError::Call(error)
    }
}
