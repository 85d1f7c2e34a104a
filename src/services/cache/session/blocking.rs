//! Blocking: commands that wait for a key.
//!
//! Where one shard has all keys of the command, the client is parked there, and served there in the turn in which a
//! key gets a value. With keys on several shards it is told of values by each of them, and tries as a transaction; who
//! waits longest does not always come first then.
//!
//! A value that was taken for a client which left at that very moment is lost with it, as in Redis.
//!
//! # Rules
//! 1. A client that times out is taken out where it is parked before it hears so: a value is not taken for it later.
//! 2. What ends with the wait (`Waiting`) is dropped with it, and takes the client out wherever it is parked.
//!
//! Not here: what the command does, parking (`parked`).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use corelane_base::ShardId;
use corelane_exec::{Shard, Task};
use corelane_net::session::ConnKey;
use corelane_proto_resp::{Command, Version};
use futures_channel::oneshot;

use super::client::{KEPT_BYTES_MAX, KEPT_EACH, KEPT_TOO_MUCH, State};
use super::dispatch::Then;
use super::{Everywhere, Post, Resp};
use crate::services::cache::CacheError;
use crate::services::cache::batch::copy;
use crate::services::cache::command::{Reply, Spec, blocking};
use crate::services::cache::kept::Kept;
use crate::services::cache::locks;
use crate::services::cache::parked::{Client as ParkedClient, Expected, PARKED_MAX, Then as ParkedThen};
use crate::services::cache::shard::{CacheShard, Executed};
use crate::services::cache::transaction::{Coordinator, Outcome, Queued, with_command};

/// Times that a command which waits is held, its keys included.
const COPIES: usize = 8;

/// What a wait holds until its end.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The task that waits; it ends when this is dropped.
    task: Option<Task<()>>,
    /// For the command and its keys.
    _kept: Kept,
    /// Ends the wait before its time.
    end: RefCell<Option<oneshot::Sender<End>>>,
}

/// How a wait ends where no value came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// As if its time were over.
    Time,
    /// With an error.
    Unblocked,
}

impl Waiting {
    /// Ends the wait; false where that was done already.
    pub(super) fn end(&self, how: End) -> bool {
        self.end.take().is_some_and(|end| end.send(how).is_ok())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.cancel();
        }
    }
}

/// Takes a client out of the shards it is parked on.
struct Places {
    of: Coordinator,
    number: u64,
    shards: Vec<ShardId>,
}

impl Drop for Places {
    fn drop(&mut self) {
        let (mesh, number) = (self.of.shard.mesh(), self.number);
        for owner in std::mem::take(&mut self.shards) {
            let all = self.of.all.clone();
            let call = mesh.with(owner, move |shard| all.of(shard).give_up(number));
            if let Ok(task) = self.of.shard.spawn(async move {
                let _ = call.await;
            }) {
                task.detach();
            }
        }
    }
}

/// Bells of the clients of a shard that wait on several others.
#[derive(Debug, Default)]
pub(super) struct Bells(RefCell<HashMap<u64, (bool, Option<Waker>)>>);

impl Bells {
    fn ring(&self, number: u64) {
        if let Some((rung, waker)) = self.0.borrow_mut().get_mut(&number) {
            *rung = true;
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    async fn wait(&self, number: u64) {
        std::future::poll_fn(|context| {
            let mut bells = self.0.borrow_mut();
            let (rung, waker) = bells.entry(number).or_default();
            if std::mem::take(rung) {
                return Poll::Ready(());
            }
            *waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A bell that is taken down with its client.
struct Bell(Rc<Bells>, u64);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.0.borrow_mut().remove(&self.1);
    }
}

/// What a client waits for.
struct Wait {
    spec: &'static Spec,
    wire: Vec<u8>,
    version: Version,
    /// None is for ever.
    time: Option<Duration>,
    /// Who may end it before.
    end: oneshot::Receiver<End>,
    number: u64,
}

impl Resp {
    /// Runs a command that may wait.
    pub(super) fn run_blocking(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        raw: &[u8],
        reply: &mut Reply,
    ) -> Then {
        let time = match blocking::block_timeout(command) {
            Ok(time) => time,
            Err(error) => {
                reply.error(error);
                return Then::Next;
            }
        };
        // The command and its keys are in the task that waits, and where the client is parked.
        let mut kept = self.kept.part();
        if !kept.add(COPIES * raw.len() + command.len() * KEPT_EACH, KEPT_BYTES_MAX) {
            reply.error(KEPT_TOO_MUCH);
            return Then::Next;
        }
        let mut wire = Vec::with_capacity(raw.len());
        copy(&mut wire, command, raw);
        let mut places = Vec::new();
        spec.keys.find(command, &mut places);
        let mut keys: Vec<(Box<[u8]>, ShardId)> = places
            .iter()
            .filter_map(|&at| command.get(at))
            .map(|key| (Box::from(key), self.here.owner(self.here.key(key))))
            .collect();
        if keys.is_empty() {
            keys.push((Box::default(), self.here.here())); // malformed: the command itself says how
        }
        let number = self.next_wait(state);
        let (end, told) = oneshot::channel();
        let wait = Wait { spec, wire, version: state.version, time, end: told, number };
        let first = keys[0].1;
        let one = keys.iter().all(|(_, owner)| *owner == first);
        let (coordinator, key, everywhere) = (self.coordinator(), state.key, self.everywhere.clone());
        let promise = super::Promise {
            sessions: self.sessions.borrow().clone(),
            key,
            number,
            version: state.version,
            commands: 1,
            kept: false,
        };
        let (version, sessions) = (state.version, self.sessions.borrow().clone());
        let task = self.shard.spawn(async move {
            let mut promise = promise;
            let done = match one {
                true => on_one(coordinator, wait, first, keys, everywhere, key).await,
                false => on_several(coordinator, wait, keys).await,
            };
            promise.kept = true;
            let reply = match done {
                Ok(Some(reply)) => reply,
                Ok(None) => return, // it was posted from where it was parked
                Err(error) => {
                    let mut reply = Reply::new(version);
                    reply.error(error);
                    reply
                }
            };
            if let Some(sessions) = sessions.upgrade() {
                sessions.post(key, Post::Reply { number, reply });
            }
        });
        let end = RefCell::new(Some(end));
        state.waiting = Some(Box::new(Waiting { task: task.ok(), _kept: kept, end }));
        Then::Wait
    }
}

/// What became of a command that may wait, on the shard of its keys.
enum Ran {
    Replied(Reply),
    Parked,
    NoRoom,
    /// The client left before; nothing was done.
    Left,
}

fn no_room() -> CacheError {
    CacheError::Reply(format!(
        "ERR clients wait for {PARKED_MAX} keys of that shard already; try again later"
    ))
}

fn ended(version: Version, end: End) -> Reply {
    let mut reply = Reply::new(version);
    match end {
        End::Time => blocking::timed_out(&mut reply),
        End::Unblocked => reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
    }
    reply
}

/// Waits for the end of a wait: its time, or somebody who says so.
async fn end_of(time: Option<Duration>, mut told: oneshot::Receiver<End>) -> End {
    let mut time = std::pin::pin!(async {
        match time {
            Some(time) => corelane_exec::sleep(time).await,
            None => std::future::pending().await,
        }
    });
    std::future::poll_fn(|context| {
        // Who could say so may have gone: then nobody does.
        if let Poll::Ready(Ok(end)) = Pin::new(&mut told).poll(context) {
            return Poll::Ready(end);
        }
        time.as_mut().poll(context).map(|()| End::Time)
    })
    .await
}

/// Runs the command of a client on the shard of all its keys, and parks it there where it has to wait.
async fn on_one(
    of: Coordinator,
    wait: Wait,
    owner: ShardId,
    keys: Vec<(Box<[u8]>, ShardId)>,
    everywhere: Everywhere,
    key: ConnKey,
) -> Result<Option<Reply>, CacheError> {
    let Wait { spec, wire, version, time, end, number } = wait;
    let home = of.here.here();
    let parked = of.here.number();
    let deliver = move |reply: Reply| {
        let call = corelane_exec::mesh().with(home, move |shard| {
            if let Some(sessions) = everywhere.of(shard).borrow().upgrade() {
                sessions.post(key, Post::Reply { number, reply });
            }
        });
        // A call that waits for a credit goes with its handle.
        if let Ok(task) = corelane_exec::spawn(async move {
            let _ = call.await;
        }) {
            task.detach();
        }
    };
    // It waits for keys that it takes from; where it puts what it took is no reason to wake it.
    let sources = with_command(&wire, |command| blocking::sources(spec, command));
    let (locked, keys): (Vec<_>, Vec<_>) = {
        let all: Vec<Box<[u8]>> = keys.into_iter().map(|(key, _)| key).collect();
        let waited = all.iter().filter(|key| sources.contains(key)).cloned().collect();
        (all, waited)
    };
    let then = ParkedThen::Serve { wire: wire.clone(), spec, version, deliver: Box::new(deliver) };
    let client = ParkedClient { keys, then };
    // From here on it is taken out wherever this ends.
    let mut places = Places { of: of.clone(), number: parked, shards: vec![owner] };
    let (all, again) = (of.all.clone(), wire.clone());
    let ran = of.shard.mesh().run(owner, move |shard| {
        let (shard, here) = (Rc::clone(shard), all.of(shard));
        // Before the task runs: should the client leave meanwhile, its errand is ended by the message that says so.
        let expected = here.expect(parked);
        here.run_or_park(shard, spec, again, version, locked, expected, client)
    });
    match ran.await? {
        Ran::Left => Ok(None),
        Ran::Replied(reply) => {
            places.shards.clear();
            Ok(Some(reply))
        }
        Ran::NoRoom => {
            places.shards.clear();
            Err(no_room())
        }
        Ran::Parked => {
            let end = end_of(time, end).await;
            let all = of.all.clone();
            let was_there = of.shard.mesh().with(owner, move |shard| all.of(shard).unpark(parked)).await?;
            places.shards.clear();
            // Served at the last moment, its reply is on its way, and ends this wait.
            Ok(was_there.then(|| ended(version, end)))
        }
    }
}

/// Has itself told of values by the shards of all keys, and tries as a transaction.
async fn on_several(
    of: Coordinator,
    wait: Wait,
    keys: Vec<(Box<[u8]>, ShardId)>,
) -> Result<Option<Reply>, CacheError> {
    let Wait { spec, wire, version, time, end, number: _ } = wait;
    let (home, number) = (of.here.here(), of.here.number());
    let bells = of.shard.local(Bells::default);
    bells.0.borrow_mut().insert(number, (false, None));
    let _bell = Bell(Rc::clone(&bells), number);
    let mut by_shard: BTreeMap<u16, Vec<Box<[u8]>>> = BTreeMap::new();
    let sources = with_command(&wire, |command| blocking::sources(spec, command));
    for (key, owner) in keys {
        if sources.contains(&key) {
            by_shard.entry(owner.0).or_default().push(key);
        }
    }
    let mut places = Places { of: of.clone(), number, shards: Vec::new() };
    let mut calls = Vec::new();
    // Parked first, then tried: a value that comes in between rings the bell.
    for (owner, keys) in by_shard {
        let all = of.all.clone();
        places.shards.push(ShardId(owner));
        calls.push(of.shard.mesh().with(ShardId(owner), move |shard| {
            let tell = move || {
                let ring =
                    corelane_exec::mesh().with(home, move |shard| shard.local(Bells::default).ring(number));
                if let Ok(task) = corelane_exec::spawn(async move {
                    let _ = ring.await;
                }) {
                    task.detach();
                }
            };
            let client = ParkedClient { keys, then: ParkedThen::Tell { spec, tell: Box::new(tell) } };
            all.of(shard).park(number, client).is_ok()
        }));
    }
    for call in calls {
        if !call.await? {
            return Err(no_room());
        }
    }
    let takes_first = !matches!(spec.name, "blmove" | "brpoplpush");
    let (mut end, mut waited) = (std::pin::pin!(end_of(time, end)), false);
    loop {
        let queued = Queued { spec, wire: wire.clone() };
        if let Outcome::Ran(reply) = of.run(vec![queued], Vec::new(), version).await? {
            // Later, another kind of value at one of the keys is none that it waits for.
            let is_other = waited && takes_first && reply.bytes().starts_with(b"-WRONGTYPE");
            if !is_other {
                return Ok(Some(reply));
            }
        }
        // Only here does the time end: a try that is under way may have taken a value.
        if let Some(end) = before(bells.wait(number), end.as_mut()).await {
            return Ok(Some(ended(version, end)));
        }
        waited = true;
    }
}

/// None where `event` comes before `end`.
async fn before(
    event: impl Future<Output = ()>,
    mut end: Pin<&mut impl Future<Output = End>>,
) -> Option<End> {
    let mut event = std::pin::pin!(event);
    std::future::poll_fn(|context| {
        if event.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        end.as_mut().poll(context).map(Some)
    })
    .await
}

impl CacheShard {
    #[expect(clippy::too_many_arguments, reason = "they are what a parked client consists of")]
    async fn run_or_park(
        self: Rc<Self>,
        shard: Rc<Shard>,
        spec: &'static Spec,
        wire: Vec<u8>,
        version: Version,
        keys: Vec<Box<[u8]>>,
        expected: Expected,
        client: ParkedClient,
    ) -> Ran {
        locks::wait_free(&self.locks, &keys).await;
        let Some(number) = expected.number() else { return Ran::Left };
        self.set_now(&shard);
        let mut reply = Reply::new(version);
        let executed = with_command(&wire, |command| self.execute(spec, command, None, 0, &mut reply));
        if executed == Executed::Blocked {
            return if self.park(number, client).is_ok() { Ran::Parked } else { Ran::NoRoom };
        }
        self.serve_parked();
        Ran::Replied(reply)
    }
}
