//! The second tier: a Redis or Valkey server behind this cache. One [`Upstream`] on each shard, for the keys it owns.
//!
//! Strings that are not here are fetched from it, once however many ask ([`Upstream::fetch`]), with their expiry; writes
//! go through to it, or wait in a bounded queue behind it ([`Upstream::write`]). Reading order: [`commands`] which take
//! part; [`url`] where it is; [`reply`] what it says; [`client`] the connection; [`breaker`] when to leave it alone;
//! [`absent`] what it has not; [`queue`] what it has not got yet; here how they work together.
//!
//! # Rules
//! 1. A value is put into the store in the same turn in which it came, and only if its key was neither written here nor
//!    changed there since it was asked for.
//! 2. Whatever came of a write is either known, or the key is forgotten here: the next read asks the upstream.
//! 3. What waits in the queue is newer than what the upstream says.
//! 4. While the connection is away, what is here is served, as old as it may be. When one that tells of changes is back,
//!    all strings are forgotten here: what changed meanwhile nobody told.
//!
//! Not here: the store, which shard owns a key, what a client is told (`tier`).

pub mod absent;
pub mod breaker;
pub mod client;
pub mod commands;
mod config;
mod local;
pub mod queue;
pub mod reply;
#[cfg(test)]
mod tests;
pub mod url;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use corelane_base::Full;
use corelane_exec::{Task, sleep, spawn, timeout};

use super::store::{Key, Now, Store};
use super::value::{Str, ValueRef};
use absent::Absent;
use breaker::Breaker;
use client::{CallError, Client, Event, command};
pub use commands::{Part, part_of};
pub use config::UpstreamConfig;
pub use local::Here;
use queue::Queue;
use reply::Reply;
pub use url::Url;

/// Writes of the queue that are under way at a time.
const BATCH: usize = 64;
/// Between two tries of what the upstream did not take.
const RETRY: Duration = Duration::from_millis(100);

/// When the upstream gets a write.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// Before the client is answered.
    #[default]
    Through,
    /// Later, from a bounded queue: what waits is lost with the node.
    Behind,
    /// Never: what is written here stays here.
    Read,
}

/// What the second tier is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub url: Url,
    /// When it gets writes.
    pub mode: Mode,
    /// For an answer.
    pub timeout: Duration,
    /// Commands unanswered on the connection of one shard.
    pub in_flight_max: usize,
    /// Bytes of a value that is fetched. A larger one ends the connection.
    pub value_len_max: usize,
    /// Expiry of fetched values at most; `None` for what the upstream says. What bounds staleness where it cannot tell
    /// of changes.
    pub ttl_max: Option<Duration>,
    /// Keys of one shard known to be absent, at most.
    pub absent_keys_max: usize,
    /// For how long.
    pub absent_ttl: Duration,
    /// Keys of one shard whose writes wait.
    pub queue_keys_max: usize,
    /// Bytes of them.
    pub queue_bytes_max: usize,
    /// Whether to ask for invalidations.
    pub tracking: bool,
    /// When to leave it alone.
    pub breaker: breaker::Settings,
    /// For waits between connects; another one for each shard.
    pub seed: u64,
}

impl Settings {
    /// The defaults, for a place. 1,024 commands unanswered at 1 ms each are a million a second; a value of 64 MiB takes
    /// half a second on 1 Gbit/s; 10,000 absent keys of 100 bytes are some 3 MiB a shard.
    pub fn new(url: Url) -> Settings {
        Settings {
            url,
            mode: Mode::Through,
            timeout: Duration::from_millis(250),
            in_flight_max: 1_024,
            value_len_max: 64 << 20,
            ttl_max: None,
            absent_keys_max: 10_000,
            absent_ttl: Duration::from_secs(1),
            queue_keys_max: 10_000,
            queue_bytes_max: 64 << 20,
            tracking: true,
            breaker: breaker::Settings::default(),
            seed: 0,
        }
    }
}

/// What the second tier needs of the shard it is on. Called inside turns, never while a method of [`Upstream`] is on
/// the stack of the caller's own borrow: release the store before calling one.
pub trait Local {
    /// The moment.
    fn now(&self) -> Now;

    /// Puts a fetched string at `key`, unless something is there: that is newer. Whether something is there now.
    fn store(&self, key: &[u8], value: &Bytes, expires_at: Option<u64>) -> bool;

    /// Forgets `key` if a string is there. Not a write.
    fn forget(&self, key: &[u8]);

    /// Forgets all strings, in slices ([`forget_strings`]): soon, not at once.
    fn forget_all(&self);
}

/// Forgets the strings among about `budget` keys from `cursor` on; gives the next cursor, 0 at the end.
pub fn forget_strings(store: &mut Store, cursor: u64, budget: usize) -> u64 {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    let next = store.scan(cursor, budget, |key, value| {
        if matches!(value, ValueRef::Str(_)) {
            names.push(key.into());
        }
    });
    for name in names {
        let key = store.hasher().key(&name);
        store.remove(key);
    }
    next
}

/// A change of one key, as the upstream is to have it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WriteOp {
    /// This string is there.
    Set {
        /// The key.
        key: Box<[u8]>,
        /// The whole value.
        value: Bytes,
        /// When it goes, in milliseconds since 1970.
        expires_at: Option<u64>,
    },
    /// Nothing is there.
    Delete {
        /// The key.
        key: Box<[u8]>,
    },
    /// What is there goes then, or never.
    Expire {
        /// The key.
        key: Box<[u8]>,
        /// Milliseconds since 1970.
        expires_at: Option<u64>,
    },
}

impl WriteOp {
    /// What the state of `key` here asks for, after a command that wrote: a string is set, nothing is a delete. `None`
    /// for a collection, which stays here. Copies the value, but for a large one.
    pub fn of_state(store: &mut Store, key: Key<'_>) -> Option<WriteOp> {
        let expires_at = store.expires_at(key).flatten();
        let value = match store.peek(key) {
            None => return Some(WriteOp::Delete { key: key.bytes.into() }),
            Some(ValueRef::Str(Str::Int(n))) => Bytes::from(n.to_string()),
            Some(ValueRef::Str(Str::Bytes(bytes))) => Bytes::copy_from_slice(bytes),
            Some(ValueRef::Str(Str::Shared(bytes))) => bytes.clone(),
            Some(_) => return None,
        };
        Some(WriteOp::Set { key: key.bytes.into(), value, expires_at })
    }

    /// Which key.
    pub fn key(&self) -> &[u8] {
        match self {
            WriteOp::Set { key, .. } | WriteOp::Delete { key } | WriteOp::Expire { key, .. } => key,
        }
    }

    fn value_len(&self) -> usize {
        if let WriteOp::Set { value, .. } = self { value.len() } else { 0 }
    }

    /// Both in one, of the same key: `before`, then this.
    fn after(self, before: &WriteOp) -> WriteOp {
        match (self, before) {
            (WriteOp::Expire { key, expires_at }, WriteOp::Set { value, .. }) => {
                WriteOp::Set { key, value: value.clone(), expires_at }
            }
            (WriteOp::Expire { key, .. }, WriteOp::Delete { .. }) => WriteOp::Delete { key },
            (later, _) => later,
        }
    }

    /// As a command. Absolute times: PXAT is of Redis 6.2.
    fn command(&self, out: &mut Vec<u8>) {
        let text = |at: &u64| at.to_string();
        match self {
            WriteOp::Set { key, value, expires_at: None } => command(out, &[b"SET", key, value]),
            WriteOp::Set { key, value, expires_at: Some(at) } => {
                command(out, &[b"SET", key, value, b"PXAT", text(at).as_bytes()]);
            }
            WriteOp::Delete { key } => command(out, &[b"UNLINK", key]),
            WriteOp::Expire { key, expires_at: None } => command(out, &[b"PERSIST", key]),
            WriteOp::Expire { key, expires_at: Some(at) } => {
                command(out, &[b"PEXPIREAT", key, text(at).as_bytes()]);
            }
        }
    }
}

/// Why the upstream was of no help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unavailable {
    /// The breaker is open: it was not asked.
    Open,
    /// It was asked, or there was no way to.
    Call(CallError),
    /// It answered an error.
    Refused,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::Open => {
                f.write_str("it failed several times in a row and is left alone for a while")
            }
            Unavailable::Call(error) => error.fmt(f),
            Unavailable::Refused => f.write_str("it answered an error; its own log says more"),
        }
    }
}

/// What the upstream has at a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fetched {
    /// A string.
    Found {
        /// The string.
        value: Bytes,
        /// When it goes, in milliseconds since 1970.
        expires_at: Option<u64>,
        /// Whether it was put into the store: then the command that missed it can be run again.
        stored: bool,
    },
    /// No string.
    Absent,
    /// Nobody knows. What is here (nothing) is what there is.
    Unavailable(Unavailable),
}

/// Why a write is not at the upstream. `Display` is an error of RESP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WriteError {
    /// Nobody knows whether it is; the key is forgotten here.
    Unavailable(Unavailable),
    /// The upstream does not want it: its words; the key is forgotten here.
    Refused(String),
    /// Too many wait; the key is forgotten here.
    QueueFull(Full),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Unavailable(why) => {
                write!(f, "UPSTREAM the write may not have reached the second tier: {why}; write again")
            }
            WriteError::Refused(words) => write!(f, "UPSTREAM the second tier refused the write: {words}"),
            WriteError::QueueFull(full) => {
                write!(f, "UPSTREAM the write was not taken, {full}; write again later, or raise it")
            }
        }
    }
}

impl std::error::Error for WriteError {}

/// Counters; all but the sizes only grow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Keys asked for at the upstream.
    pub fetches: u64,
    /// Of them, those it had.
    pub found: u64,
    /// Misses that joined a fetch under way.
    pub joined: u64,
    /// Misses that were known to be absent.
    pub absent_known: u64,
    /// Misses without an answer.
    pub unavailable: u64,
    /// Writes that the upstream took.
    pub written: u64,
    /// Writes that failed, or of which nobody knows.
    pub write_failures: u64,
    /// Writes that found the queue full.
    pub queue_full: u64,
    /// Keys that others changed.
    pub invalidations: u64,
    /// Times all were forgotten.
    pub invalidations_all: u64,
    /// Times the breaker opened.
    pub breaker_opened: u64,
    /// Calls the breaker kept back.
    pub breaker_refused: u64,
    /// Connections made.
    pub connects: u64,
    /// Keys waiting in the queue now.
    pub queue_keys: u64,
    /// Bytes of them.
    pub queue_bytes: u64,
    /// Keys known to be absent now, those whose time is over among them.
    pub absent_keys: u64,
}

#[derive(Debug, Default)]
struct Flight {
    result: RefCell<Option<Fetched>>,
    wakers: RefCell<Vec<Waker>>,
    /// The key was written or changed since it was asked for.
    stale: Cell<bool>,
}

impl Flight {
    fn land(&self, fetched: Fetched) {
        *self.result.borrow_mut() = Some(fetched);
        self.wakers.take().into_iter().for_each(Waker::wake);
    }

    async fn wait(self: Rc<Self>) -> Fetched {
        poll_fn(|cx| {
            if let Some(fetched) = &*self.result.borrow() {
                return Poll::Ready(fetched.clone());
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

struct Inner {
    settings: Settings,
    local: Rc<dyn Local>,
    client: RefCell<Option<Client>>,
    breaker: RefCell<Breaker>,
    absent: RefCell<Absent>,
    queue: RefCell<Queue>,
    queue_waker: RefCell<Option<Waker>>,
    flights: RefCell<HashMap<Box<[u8]>, Rc<Flight>>>,
    stats: Cell<Stats>,
}

/// The second tier of one shard. Clones are the same one.
#[derive(Clone)]
pub struct Upstream {
    inner: Rc<Inner>,
    _flusher: Rc<Flusher>,
}

struct Flusher(Cell<Option<Task<()>>>);

impl Drop for Flusher {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.cancel();
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.inner.settings.url)
    }
}

/// Forgets a key here, unless what became of its write is known.
struct Doubt {
    inner: Rc<Inner>,
    key: Option<Box<[u8]>>,
    /// The breaker does not wait for it.
    judged: bool,
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if !self.judged {
            self.inner.breaker.borrow_mut().gave_up();
        }
        if let Some(key) = self.key.take() {
            self.inner.local.forget(&key);
        }
    }
}

impl Upstream {
    /// Begins to connect, on the current shard.
    ///
    /// # Errors
    /// [`Full`] where the shard has no free tasks: two are needed.
    ///
    /// # Panics
    /// Outside a shard.
    pub fn start(settings: Settings, local: Rc<dyn Local>) -> Result<Upstream, Full> {
        let absent_ttl = u64::try_from(settings.absent_ttl.as_millis()).unwrap_or(u64::MAX);
        let inner = Rc::new(Inner {
            local,
            client: RefCell::new(None),
            breaker: RefCell::new(Breaker::new(settings.breaker)),
            absent: RefCell::new(Absent::new(settings.absent_keys_max, absent_ttl)),
            queue: RefCell::new(Queue::new(settings.queue_keys_max, settings.queue_bytes_max)),
            queue_waker: RefCell::new(None),
            flights: RefCell::default(),
            stats: Cell::default(),
            settings,
        });
        let Settings { url, in_flight_max, timeout, value_len_max, tracking, seed, .. } =
            inner.settings.clone();
        let of_client =
            client::Settings { url, in_flight_max, timeout, string_max: value_len_max, tracking, seed };
        let weak = Rc::downgrade(&inner);
        let client = Client::start_on_shard(of_client, move |event| {
            if let Some(inner) = weak.upgrade() {
                inner.happened(event);
            }
        })?;
        *inner.client.borrow_mut() = Some(client);
        let flusher = match inner.settings.mode {
            Mode::Through | Mode::Read => None,
            Mode::Behind => Some(spawn(flush_on(Rc::downgrade(&inner)))?),
        };
        Ok(Upstream { inner, _flusher: Rc::new(Flusher(Cell::new(flusher))) })
    }

    /// What the upstream has at a key that is not here. What it has is in the store when this is done, as rule 1 has it.
    /// One question is asked however many wait; it goes on when they do not.
    pub fn fetch(&self, key: &[u8]) -> impl Future<Output = Fetched> + use<> {
        let begun = self.inner.begin_fetch(key);
        async move {
            match begun {
                Ok(flight) => flight.wait().await,
                Err(known) => known,
            }
        }
    }

    /// Takes a write that was made here. What must happen now happens in the call; the future says what came of it. Hold
    /// the order: call it in the turn in which the store was changed.
    pub fn write(&self, op: WriteOp) -> impl Future<Output = Result<(), WriteError>> + use<> {
        let inner = Rc::clone(&self.inner);
        inner.touched(op.key());
        inner.absent.borrow_mut().remove(op.key());
        let begun = match inner.settings.mode {
            Mode::Behind => inner.enqueue(op).map(|()| None),
            Mode::Through => inner.begin_write(&op).map(Some),
            Mode::Read => Ok(None),
        };
        async move {
            let Some((pending, mut doubt)) = begun? else { return Ok(()) };
            let answer = pending.wait().await;
            inner.judge(&answer);
            doubt.judged = true;
            let result = written(answer);
            if result.is_ok() {
                doubt.key = None;
            }
            inner.count(|stats| match result {
                Ok(()) => stats.written += 1,
                Err(_) => stats.write_failures += 1,
            });
            result
        }
    }

    /// Waits until nothing is left of the queue, for at most so long: how many keys are left. For a drain.
    pub async fn flush(&self, time: Duration) -> usize {
        let emptied = async {
            while !self.inner.queue.borrow().is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        // The queue itself says how it ended.
        let _ = timeout(time, emptied).await;
        self.inner.queue.borrow().len()
    }

    /// Forgets all strings here that came from elsewhere than the upstream, where it tells of changes (rule 4). Without a
    /// connection that happens when there is one.
    pub fn distrust(&self) {
        if self.inner.settings.tracking && self.is_up() {
            self.inner.all_changed();
        }
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.inner.client.borrow().as_ref().is_some_and(Client::is_up)
    }

    /// How the breaker stands.
    pub fn breaker(&self) -> breaker::State {
        self.inner.breaker.borrow().state()
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        let (breaker_opened, breaker_refused) = self.inner.breaker.borrow().counts();
        let queue = self.inner.queue.borrow();
        Stats {
            breaker_opened,
            breaker_refused,
            connects: self.inner.client.borrow().as_ref().map_or(0, Client::connects),
            queue_keys: queue.len() as u64,
            queue_bytes: queue.bytes() as u64,
            absent_keys: self.inner.absent.borrow().len() as u64,
            ..self.inner.stats.get()
        }
    }
}

impl Inner {
    fn count(&self, change: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    fn mono_ms(&self) -> u64 {
        self.local.now().mono_ms
    }

    /// A fetch under way of this key is of an older state.
    fn touched(&self, key: &[u8]) {
        if let Some(flight) = self.flights.borrow_mut().remove(key) {
            flight.stale.set(true);
        }
    }

    fn happened(&self, event: Event) {
        match event {
            Event::Up { tracking } => {
                if tracking {
                    self.all_changed();
                }
            }
            Event::Down => self.absent.borrow_mut().clear(),
            Event::Changed(key) => {
                self.count(|stats| stats.invalidations += 1);
                self.touched(&key);
                self.absent.borrow_mut().remove(&key);
                let is_ours = self.queue.borrow_mut().changed(&key);
                if !is_ours {
                    self.local.forget(&key);
                }
            }
            Event::AllChanged => self.all_changed(),
        }
    }

    fn all_changed(&self) {
        self.count(|stats| stats.invalidations_all += 1);
        self.absent.borrow_mut().clear();
        for (_, flight) in self.flights.borrow_mut().drain() {
            flight.stale.set(true);
        }
        self.local.forget_all();
    }

    /// Calls the upstream if the breaker lets us.
    fn start(&self, count: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<client::Pending, Unavailable> {
        let now_ms = self.mono_ms();
        if !self.breaker.borrow_mut().admits(now_ms) {
            return Err(Unavailable::Open);
        }
        let started = match &*self.client.borrow() {
            Some(client) => client.start(count, write),
            None => Err(CallError::Down),
        };
        started.map_err(|error| {
            match error {
                // That says nothing of the upstream.
                CallError::Busy(_) => self.breaker.borrow_mut().gave_up(),
                _ => self.breaker.borrow_mut().failed(now_ms),
            }
            Unavailable::Call(error)
        })
    }

    /// Tells the breaker what came of a call.
    fn judge(&self, answer: &Result<Vec<Reply>, CallError>) {
        let is_well = match answer {
            Ok(replies) => {
                !replies.iter().any(|reply| matches!(reply, Reply::Error(text) if is_passing(text)))
            }
            Err(_) => false,
        };
        let mut breaker = self.breaker.borrow_mut();
        if is_well { breaker.succeeded() } else { breaker.failed(self.mono_ms()) }
    }

    // ---- fetching

    /// A fetch to wait for, or what is known without.
    fn begin_fetch(self: &Rc<Self>, key: &[u8]) -> Result<Rc<Flight>, Fetched> {
        match self.queue.borrow().get(key) {
            Some(WriteOp::Set { value, expires_at, .. }) => {
                // Rule 3: it went from here by eviction, and comes back.
                let stored = self.local.store(key, value, *expires_at);
                return Err(Fetched::Found { value: value.clone(), expires_at: *expires_at, stored });
            }
            Some(WriteOp::Delete { .. }) => return Err(Fetched::Absent),
            Some(WriteOp::Expire { .. }) | None => {}
        }
        if self.absent.borrow().has(key, self.mono_ms()) {
            self.count(|stats| stats.absent_known += 1);
            return Err(Fetched::Absent);
        }
        if let Some(flight) = self.flights.borrow().get(key) {
            self.count(|stats| stats.joined += 1);
            return Ok(Rc::clone(flight));
        }
        let pending = self.start(2, |out| {
            command(out, &[b"GET", key]);
            command(out, &[b"PTTL", key]);
        });
        let unavailable = |why| {
            self.count(|stats| stats.unavailable += 1);
            Fetched::Unavailable(why)
        };
        let pending = pending.map_err(unavailable)?;
        let flight = Rc::new(Flight::default());
        let landing =
            Landing { inner: Rc::clone(self), key: key.into(), flight: Rc::clone(&flight), judged: false };
        match spawn(landing.fly(pending)) {
            Ok(task) => task.detach(),
            Err(full) => return Err(unavailable(Unavailable::Call(CallError::Busy(full)))),
        }
        self.count(|stats| stats.fetches += 1);
        self.flights.borrow_mut().insert(key.into(), Rc::clone(&flight));
        Ok(flight)
    }

    /// What GET and PTTL said.
    fn understood(&self, key: &[u8], replies: &[Reply]) -> Fetched {
        let (value, ttl) = match replies {
            [Reply::Bulk(value), Reply::Int(ttl)] => (value.clone(), *ttl),
            [Reply::Null, _] => return Fetched::Absent,
            // A collection: none of ours, and nothing to ask for again at once.
            [Reply::Error(text), _] if text.starts_with(b"WRONGTYPE") => return Fetched::Absent,
            _ => return Fetched::Unavailable(Unavailable::Refused),
        };
        // It went between the two.
        if ttl == -2 {
            return Fetched::Absent;
        }
        let unix_ms = self.local.now().unix_ms;
        let mut expires_at = u64::try_from(ttl).ok().map(|ttl| unix_ms + ttl);
        if let Some(WriteOp::Expire { expires_at: newer, .. }) = self.queue.borrow().get(key) {
            expires_at = *newer;
        }
        if let Some(max) = self.settings.ttl_max {
            let max = unix_ms + u64::try_from(max.as_millis()).unwrap_or(u64::MAX / 2);
            expires_at = Some(expires_at.map_or(max, |at| at.min(max)));
        }
        Fetched::Found { value, expires_at, stored: false }
    }

    // ---- writing

    fn enqueue(&self, op: WriteOp) -> Result<(), WriteError> {
        let pushed = self.queue.borrow_mut().push(op);
        if let Err(op) = pushed {
            self.count(|stats| stats.queue_full += 1);
            self.local.forget(op.key());
            let max = self.settings.queue_keys_max as u64;
            let full = if (self.queue.borrow().len() as u64) < max {
                Full::new("upstream_queue_bytes_max", self.settings.queue_bytes_max as u64)
            } else {
                Full::new("upstream_queue_keys_max", max)
            };
            return Err(WriteError::QueueFull(full));
        }
        if let Some(waker) = self.queue_waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn begin_write(self: &Rc<Self>, op: &WriteOp) -> Result<(client::Pending, Doubt), WriteError> {
        let mut doubt = Doubt { inner: Rc::clone(self), key: Some(op.key().into()), judged: true };
        match self.start(1, |out| op.command(out)) {
            Ok(pending) => {
                doubt.judged = false;
                Ok((pending, doubt))
            }
            Err(why) => {
                self.count(|stats| stats.write_failures += 1);
                Err(WriteError::Unavailable(why))
            }
        }
    }
}

/// Whether an error is of the server's present state, not of the command.
fn is_passing(error: &[u8]) -> bool {
    let codes: [&[u8]; 7] =
        [b"LOADING", b"BUSY", b"MASTERDOWN", b"READONLY", b"TRYAGAIN", b"CLUSTERDOWN", b"OOM"];
    codes.iter().any(|code| error.starts_with(code))
}

/// What an answer says of a write.
fn written(answer: Result<Vec<Reply>, CallError>) -> Result<(), WriteError> {
    match answer {
        Err(error) => Err(WriteError::Unavailable(Unavailable::Call(error))),
        Ok(replies) => match replies.first() {
            Some(Reply::Error(text)) => Err(WriteError::Refused(text.escape_ascii().to_string())),
            _ => Ok(()),
        },
    }
}

/// A fetch under way, whose waiters are told whatever becomes of it.
struct Landing {
    inner: Rc<Inner>,
    key: Box<[u8]>,
    flight: Rc<Flight>,
    judged: bool,
}

impl Landing {
    async fn fly(mut self, pending: client::Pending) {
        let answer = pending.wait().await;
        self.inner.judge(&answer);
        self.judged = true;
        let fetched = match answer {
            Ok(replies) => self.inner.understood(&self.key, &replies),
            Err(error) => Fetched::Unavailable(Unavailable::Call(error)),
        };
        self.land(fetched);
    }

    fn land(&self, mut fetched: Fetched) {
        let (inner, key) = (&self.inner, &self.key);
        let is_current = inner.flights.borrow().get(key).is_some_and(|now| Rc::ptr_eq(now, &self.flight));
        if is_current {
            inner.flights.borrow_mut().remove(key);
        }
        let is_fresh = is_current && !self.flight.stale.get();
        match &mut fetched {
            Fetched::Found { value, expires_at, stored } => {
                inner.count(|stats| stats.found += 1);
                if is_fresh {
                    *stored = inner.local.store(key, value, *expires_at);
                }
            }
            Fetched::Absent if is_fresh => inner.absent.borrow_mut().insert(key, inner.mono_ms()),
            Fetched::Absent => {}
            Fetched::Unavailable(_) => inner.count(|stats| stats.unavailable += 1),
        }
        self.flight.land(fetched);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.judged {
            self.inner.breaker.borrow_mut().gave_up();
        }
        if self.flight.result.borrow().is_none() {
            self.land(Fetched::Unavailable(Unavailable::Call(CallError::Down)));
        }
    }
}

/// Sends what waits in the queue, as long as there is an upstream.
async fn flush_on(weak: Weak<Inner>) {
    loop {
        poll_fn(|cx| {
            let Some(inner) = weak.upgrade() else { return Poll::Ready(()) };
            if !inner.queue.borrow().is_empty() {
                return Poll::Ready(());
            }
            *inner.queue_waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        let Some(inner) = weak.upgrade() else { return };
        let up = inner.client.borrow().as_ref().map(Client::up);
        drop(inner);
        if let Some(up) = up {
            up.await;
        }
        let Some(inner) = weak.upgrade() else { return };
        if !flush_some(&inner).await {
            drop(inner);
            sleep(RETRY).await;
        }
    }
}

/// Sends some writes and waits for their answers. False where one is to be tried again.
async fn flush_some(inner: &Rc<Inner>) -> bool {
    let mut under_way = Vec::new();
    let mut went_well = true;
    while under_way.len() < BATCH {
        let Some(op) = inner.queue.borrow_mut().take() else { break };
        match inner.start(1, |out| op.command(out)) {
            Ok(pending) => under_way.push((op, pending)),
            Err(_) => {
                inner.queue.borrow_mut().retry(op.key());
                went_well = false;
                break;
            }
        }
    }
    for (op, pending) in under_way {
        let answer = pending.wait().await;
        inner.judge(&answer);
        let again = match &answer {
            Err(_) => true,
            Ok(replies) => matches!(replies.first(), Some(Reply::Error(text)) if is_passing(text)),
        };
        if again {
            inner.queue.borrow_mut().retry(op.key());
            went_well = false;
            continue;
        }
        if inner.queue.borrow_mut().done(op.key()) {
            inner.local.forget(op.key());
        }
        match written(answer) {
            Ok(()) => inner.count(|stats| stats.written += 1),
            Err(error) => {
                // Nobody waits for the answer any more: the log is where it can be seen, and the key tells no other.
                tracing::warn!(key = %op.key().escape_ascii(), %error, "a write of the queue was lost");
                inner.count(|stats| stats.write_failures += 1);
                inner.local.forget(op.key());
            }
        }
    }
    went_well
}
