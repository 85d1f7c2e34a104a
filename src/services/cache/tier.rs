//! Tier: the commands of a shard that has a second tier behind it ([`upstream`](super::upstream)).
//!
//! A command that reads what is not here, and one that writes, is not run at once: [`CacheShard::execute`] says that it is
//! locked, and it goes the way of those that wait for a lock. That way ends here: what is missing is fetched, the command
//! runs, and its reply leaves when the upstream has what it changed. Without a second tier that costs one branch.
//!
//! A transaction has its keys fetched before they are locked, and then runs on what is here; what it changed goes out
//! after it, and is answered before the transaction is.
//!
//! # Rules
//! 1. Between the last look whether a key is here and the run of its command there is no wait.
//! 2. What a command changed is handed to the upstream in the turn of the change: the upstream gets writes of one key in
//!    their order.
//! 3. A command that changes what was there does not run while nobody knows what that is.
//! 4. Nothing borrows the store while the upstream is spoken to.
//!
//! Not here: the connection to the upstream, which commands take part (`upstream`).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use corelane_exec::{Shard, yield_now};
use corelane_proto_resp::{Command, Parser, Step};

use super::batch::{Batch, Done};
use super::command::{self, Ctx, Flags, Keys, Reply, Run, Spec};
use super::locks::{self, Ticket};
use super::shard::{CacheShard, Executed, INNER, REPLIES_LEN_MAX, TOO_LONG};
use super::store::{Config, Expiry, Exported, Key, Store};
use super::transaction::with_command;
use super::upstream::{self, Fetched, Here, Mode, Part, Upstream, UpstreamConfig, WriteError, WriteOp};
use super::value::Value;
use super::{Cache, CacheError};

/// Commands of a batch whose keys are fetched, or whose writes are unanswered, at the same time: with a maximum of 1,024
/// calls under way, as many as 64 clients that pipeline may have.
const SIDE_BY_SIDE: usize = 16;

/// How often a key is fetched that does not stay, before its command runs on a copy.
const TRIES: usize = 3;

/// How long a start waits for the upstream: without, the first requests would find it away.
const UP_TIME: Duration = Duration::from_secs(1);

/// Between two looks at the upstreams of all shards.
const LOOK: Duration = Duration::from_millis(5);

/// Commands after which the expiry alone is another one.
const EXPIRIES: [&str; 5] = ["expire", "pexpire", "expireat", "pexpireat", "persist"];

/// In whose name commands run that have waited for their locks: nobody's who holds one.
const ALONE: Ticket = Ticket::MAX;

type Name = Box<[u8]>;

/// A write whose answer is awaited.
pub(super) type Owed = Pin<Box<dyn Future<Output = Result<(), WriteError>>>>;

/// What the upstream had at keys; nothing where it had nothing.
type Known = BTreeMap<Name, Option<(Bytes, Option<u64>)>>;

/// The second tier of one shard.
pub(super) struct Tier {
    upstream: Upstream,
    /// Whether writes go out.
    writes: bool,
    /// All strings are being forgotten.
    forgets: Rc<Cell<bool>>,
    /// By the place of the specification.
    parts: HashMap<*const Spec, Part>,
    /// Writes of the commands that ran in this step; whoever ran them takes them.
    owed: RefCell<Vec<Owed>>,
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tier({:?})", self.upstream)
    }
}

impl Tier {
    fn new(upstream: Upstream, mode: Mode, forgets: Rc<Cell<bool>>) -> Tier {
        let part = |spec: &'static Spec| {
            let mut wire = Vec::new();
            super::batch::encode(&mut wire, [spec.name.as_bytes()].into_iter());
            (std::ptr::from_ref(spec), with_command(&wire, upstream::part_of))
        };
        let parts = command::all().map(part).filter(|(_, part)| *part != Part::None).collect();
        Tier { upstream, writes: mode != Mode::Read, forgets, parts, owed: RefCell::default() }
    }

    /// Waits until no string is left that may be older than the upstream's: a change of one would go out over newer ones.
    async fn has_forgotten(&self) {
        while self.forgets.get() {
            yield_now().await;
        }
    }

    fn part(&self, spec: &'static Spec, command: &Command<'_>) -> Part {
        match self.parts.get(&std::ptr::from_ref(spec)) {
            None => Part::None,
            // Which one depends on its options.
            Some(Part::Replace) => upstream::part_of(command),
            Some(part) => *part,
        }
    }

    /// Whether what a command of this part changes goes out.
    fn sends(&self, part: Part) -> bool {
        self.writes && matches!(part, Part::Change | Part::Replace)
    }
}

/// The keys of a command, each once.
fn names(spec: &Spec, command: &Command<'_>) -> Vec<Name> {
    let mut places = Vec::new();
    spec.keys.find(command, &mut places);
    let mut names: Vec<Name> = places.iter().filter_map(|&at| command.get(at)).map(Box::from).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Why a command that changes what was there is not run.
fn unknown(why: upstream::Unavailable) -> String {
    format!("UPSTREAM the second tier does not say what is there: {why}; try again")
}

/// What a value taken out of a store is at the upstream: a string is set there, all else is no string.
fn op_of(key: &[u8], value: Option<&Exported>) -> WriteOp {
    let value_of = |exported: &Exported| match &exported.value {
        Value::Int(n) => Some(Bytes::from(n.to_string())),
        Value::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    };
    match value.and_then(|exported| Some((value_of(exported)?, exported.expires_at))) {
        Some((value, expires_at)) => WriteOp::Set { key: key.into(), value, expires_at },
        None => WriteOp::Delete { key: key.into() },
    }
}

/// Waits for the answers of all; the first error.
async fn settled(owed: Vec<Owed>) -> Result<(), WriteError> {
    let mut outcome = Ok(());
    for one in owed {
        outcome = outcome.and(one.await);
    }
    outcome
}

impl CacheShard {
    /// Begins to have a second tier. On its own shard; once.
    pub(super) fn begin_tier(self: &Rc<Self>, config: &UpstreamConfig, shard: &Shard) -> Result<(), String> {
        let seed = self.random();
        let Some(settings) = config.settings(seed) else { return Ok(()) };
        let (mode, url) = (settings.mode, settings.url.clone());
        let local = Rc::new(Here::new(Rc::downgrade(self)));
        let forgets = local.forgets();
        let upstream = Upstream::start(settings, local)
            .map_err(|full| format!("shard {} has no task for {url}: {full}", shard.id().0))?;
        let _ = self.tier.set(Tier::new(upstream, mode, forgets));
        Ok(())
    }

    /// Whether there is a second tier.
    #[inline]
    pub(super) fn is_tiered(&self) -> bool {
        self.tier.get().is_some()
    }

    /// How its second tier is, if it has one.
    pub(super) fn tier_facts(&self) -> Option<TierFacts> {
        let upstream = &self.tier.get()?.upstream;
        let is_open = upstream.breaker() != upstream::breaker::State::Closed;
        Some(TierFacts { stats: upstream.stats(), is_up: upstream.is_up(), is_open })
    }

    /// Waits a little until the upstream is there. False where it is not.
    async fn tier_comes_up(&self) -> bool {
        let Some(tier) = self.tier.get() else { return true };
        let up = async {
            while !tier.upstream.is_up() {
                corelane_exec::sleep(LOOK).await;
            }
        };
        corelane_exec::timeout(UP_TIME, up).await.is_ok()
    }

    /// Whether a command cannot run at once: it reads what is not here, or changes what is to go out.
    #[inline]
    pub(super) fn waits_for_tier(&self, tier: &Tier, spec: &'static Spec, command: &Command<'_>) -> bool {
        match tier.part(spec, command) {
            Part::None => false,
            part if tier.sends(part) => true,
            Part::Replace => false,
            Part::Read | Part::Change if tier.forgets.get() => true,
            Part::Read | Part::Change => {
                let (mut store, mut places) = (self.store.borrow_mut(), self.places.borrow_mut());
                spec.keys.find(command, &mut places);
                let mut keys = places.iter().filter_map(|&at| command.get(at));
                keys.any(|key| store.kind(self.key(key)).is_none())
            }
        }
    }

    /// Runs a command in somebody's name: what it changes is owed to the upstream ([`CacheShard::take_owed`]).
    pub(super) fn execute_owing<'k>(
        &self,
        tier: &Tier,
        spec: &'static Spec,
        command: &Command<'k>,
        first: Option<Key<'k>>,
        reply: &mut Reply,
    ) -> Executed {
        if !tier.sends(tier.part(spec, command)) {
            return self.execute_now(spec, command, first, reply);
        }
        // Room first: what goes for it is no change by the command.
        if spec.flags.has(Flags::DENYOOM)
            && let Err(error) = self.store.borrow_mut().make_room()
        {
            reply.error(error);
            return Executed::Done;
        }
        let names = names(spec, command);
        let before = watch(&mut self.store.borrow_mut(), &names);
        let executed = self.execute_now(spec, command, first, reply);
        let ops = changes(&mut self.store.borrow_mut(), spec, names, &before);
        self.owe(tier, ops);
        executed
    }

    /// Hands writes to the upstream.
    fn owe(&self, tier: &Tier, ops: Vec<WriteOp>) {
        for op in ops {
            let answer = tier.upstream.write(op);
            tier.owed.borrow_mut().push(Box::pin(answer));
        }
    }

    /// Owes what a command left of copies that were made of keys of this shard. Before they are put into the store.
    pub(super) fn owe_copies(&self, values: &[(Name, Option<Exported>)]) {
        if let Some(tier) = self.tier.get().filter(|tier| tier.writes) {
            self.owe(tier, values.iter().map(|(key, value)| op_of(key, value.as_ref())).collect());
        }
    }

    /// The writes of what ran since this was asked last: whoever runs something takes them in the same step.
    pub(super) fn take_owed(&self) -> Vec<Owed> {
        self.tier.get().map(|tier| tier.owed.take()).unwrap_or_default()
    }

    /// Waits for the answers to writes.
    ///
    /// # Errors
    /// What became of the first that failed.
    pub(super) async fn settle(owed: Vec<Owed>) -> Result<(), CacheError> {
        settled(owed).await.map_err(|error| CacheError::Upstream(error.to_string()))
    }

    /// Fetches those of `keys` that are not here, again where one was changed there meanwhile.
    ///
    /// # Errors
    /// Where a key that will be changed is unknown.
    pub(super) async fn bring(&self, shard: &Shard, keys: Vec<(Name, Part)>) -> Result<(), CacheError> {
        let Some(tier) = self.tier.get() else { return Ok(()) };
        let (mut wanted, mut outcome) = (keys, Ok(()));
        for _ in 0..TRIES {
            tier.has_forgotten().await;
            self.set_now(shard);
            let is_missing = |key: &[u8]| self.store.borrow_mut().kind(self.key(key)).is_none();
            wanted.retain(|(key, _)| is_missing(key));
            if wanted.is_empty() {
                break;
            }
            let begun: Vec<_> = wanted.drain(..).map(|one| (tier.upstream.fetch(&one.0), one)).collect();
            for (fetch, (key, part)) in begun {
                match fetch.await {
                    Fetched::Found { stored: true, .. } | Fetched::Absent => {}
                    Fetched::Found { stored: false, .. } => wanted.push((key, part)),
                    Fetched::Unavailable(why) if tier.sends(part) => {
                        outcome = Err(CacheError::Upstream(unknown(why)));
                    }
                    Fetched::Unavailable(_) => {}
                }
            }
        }
        outcome
    }

    /// Whether what somebody does to a key of this shard has to wait for the second tier.
    #[inline]
    pub(super) fn waits_with_key(&self, key: &[u8], part: Part) -> bool {
        let Some(tier) = self.tier.get() else { return false };
        tier.sends(part) || part != Part::Replace && (tier.forgets.get() || self.is_missing(key))
    }

    fn is_missing(&self, key: &[u8]) -> bool {
        self.store.borrow_mut().kind(self.key(key)).is_none()
    }

    /// Does `f` to a key of this shard, once no transaction holds it and what the upstream has there is here. Done when the
    /// upstream has what it changed.
    ///
    /// # Errors
    /// Where the upstream is of no help.
    pub(super) async fn on_tiered<R>(
        &self,
        shard: &Shard,
        key: Name,
        part: Part,
        f: impl FnOnce(&mut Store, Key<'_>) -> R,
    ) -> Result<R, CacheError> {
        let Some(tier) = self.tier.get() else { return Err(CacheError::Busy) };
        let names = [key];
        let [key] = &names;
        let (mut found, mut tries) = (None, 0);
        loop {
            tier.has_forgotten().await;
            locks::wait_free(&self.locks, &names).await;
            self.set_now(shard);
            if part != Part::Read {
                // Room first: it may cost this key. Where there is none, `f` finds so itself.
                let _ = self.store.borrow_mut().make_room();
            }
            if part == Part::Replace || !self.is_missing(key) || tries == TRIES {
                break;
            }
            match tier.upstream.fetch(key).await {
                Fetched::Found { value, expires_at, .. } => {
                    (found, tries) = (Some((value, expires_at)), tries + 1);
                }
                Fetched::Unavailable(why) if tier.sends(part) => {
                    return Err(CacheError::Upstream(unknown(why)));
                }
                // Looked at once more: a transaction may have come meanwhile.
                Fetched::Absent | Fetched::Unavailable(_) => (found, tries) = (None, TRIES),
            }
        }
        let done = match found.filter(|_| self.is_missing(key)) {
            None => {
                let mut store = self.store.borrow_mut();
                let before = watch(&mut store, &names);
                let done = f(&mut store, self.key(key));
                let is_changed = store.version(self.key(key)) != before[0];
                store.unwatch(self.key(key));
                let op = (is_changed && tier.writes).then(|| state_of(&mut store, key));
                drop(store);
                self.owe(tier, op.into_iter().collect());
                done
            }
            Some((value, expires_at)) => {
                // It finds no room here.
                let mut table = {
                    let store = self.store.borrow();
                    Store::new(Config::default(), store.hasher().clone(), store.now())
                };
                let expiry = expires_at.map_or(Expiry::Never, Expiry::At);
                let _ = table.set_str(self.key(key), &value, expiry); // without a maximum there is always room
                let before = watch(&mut table, &names);
                let done = f(&mut table, self.key(key));
                if table.version(self.key(key)) != before[0] && tier.writes {
                    let op = state_of(&mut table, key);
                    self.owe(tier, vec![op]);
                }
                done
            }
        };
        let owed = self.take_owed();
        self.serve_parked();
        CacheShard::settle(owed).await?;
        Ok(done)
    }

    /// Begins to watch a key, fetched if it was not here: its version.
    pub(super) fn watch_tiered(
        self: Rc<Self>,
        shard: &Rc<Shard>,
        key: Name,
    ) -> impl Future<Output = u64> + use<> {
        let shard = Rc::clone(shard);
        async move {
            // One that is unknown is watched as it is here.
            let _ = self.bring(&shard, vec![(key.clone(), Part::Read)]).await;
            self.set_now(&shard);
            self.store.borrow_mut().watch(self.key(&key))
        }
    }

    /// The rest of a batch: as `run_rest` without a second tier.
    pub(super) async fn run_rest_tiered(self: Rc<Self>, shard: Rc<Shard>, rest: Batch) -> Done {
        let mut done = Done::new(rest.version);
        let Some(tier) = self.tier.get() else { return done };
        let mut parser = Parser::new();
        let (mut unread, mut start) = (rest.wire.as_slice(), 0);
        for (n, some) in rest.items.chunks(SIDE_BY_SIDE).enumerate() {
            let end = some.last().map_or(start, |(_, end)| *end);
            let at = n * SIDE_BY_SIDE;
            self.fetch_ahead(&shard, tier, &rest.wire[start..end], &rest.items[at..at + some.len()]).await;
            start = end;
            let mut pieces = Vec::with_capacity(some.len());
            for (spec, _) in some {
                let Step::Command(command) = parser.poll(&INNER, &mut unread) else {
                    unreachable!("a batch is made of whole commands")
                };
                let mut reply = Reply::new(rest.version);
                let so_far: usize =
                    pieces.iter().map(|(reply, _): &(Reply, Vec<Owed>)| reply.bytes().len()).sum();
                if done.reply.bytes().len() + so_far > REPLIES_LEN_MAX {
                    reply.error(TOO_LONG);
                } else {
                    self.run_tiered(&shard, tier, spec, &command, rest.ticket, &mut reply).await;
                }
                pieces.push((reply, self.take_owed()));
                if rest.ticket == 0 {
                    self.serve_parked();
                }
            }
            for (mut reply, owed) in pieces {
                if let Err(error) = settled(owed).await {
                    reply = Reply::new(rest.version);
                    reply.error(error);
                }
                done.reply.append(&reply);
                done.ends.push(done.reply.bytes().len());
            }
        }
        done
    }

    /// Has the keys fetched side by side that the next commands of a batch will miss.
    async fn fetch_ahead(&self, shard: &Shard, tier: &Tier, wire: &[u8], items: &[(&'static Spec, usize)]) {
        if items.len() < 2 {
            return;
        }
        self.set_now(shard);
        let (mut parser, mut unread) = (Parser::new(), wire);
        let mut fetches = Vec::new();
        for (spec, _) in items {
            let Step::Command(command) = parser.poll(&INNER, &mut unread) else { break };
            if matches!(tier.part(spec, &command), Part::Read | Part::Change) {
                for key in names(spec, &command) {
                    let is_missing = self.store.borrow_mut().kind(self.key(&key)).is_none();
                    if is_missing {
                        fetches.push(tier.upstream.fetch(&key));
                    }
                }
            }
        }
        for fetch in fetches {
            fetch.await;
        }
    }

    /// Runs one command, once it may run and what it reads is here. What it owes is to be taken at once.
    async fn run_tiered(
        &self,
        shard: &Rc<Shard>,
        tier: &Tier,
        spec: &'static Spec,
        command: &Command<'_>,
        ticket: Ticket,
        reply: &mut Reply,
    ) {
        let part = tier.part(spec, command);
        let first = match spec.keys {
            Keys::None => None,
            _ => command.get(1).map(|key| self.key(key)),
        };
        let names = names(spec, command);
        let mut known = Known::new();
        let mut tries = 0;
        loop {
            if part != Part::None && part != Part::Replace {
                tier.has_forgotten().await;
            }
            self.set_now(shard);
            if part == Part::None {
                match self.execute(spec, command, first, ticket, reply) {
                    Executed::Done => return,
                    Executed::Blocked => return command::blocking::denied(command, reply),
                    Executed::Locked => {
                        locks::wait_free(&self.locks, &names).await;
                        continue;
                    }
                }
            }
            let is_barred = {
                let locks = self.locks.borrow();
                !locks.is_empty() && names.iter().any(|key| locks.bars(key, ticket))
            };
            if is_barred {
                locks::wait_free(&self.locks, &names).await;
                continue;
            }
            let missing = match part {
                Part::Replace => Vec::new(),
                _ => self.missing(spec, &names, &known, tries < TRIES),
            };
            if missing.is_empty() {
                break;
            }
            tries += 1;
            let begun: Vec<_> = missing.into_iter().map(|key| (tier.upstream.fetch(&key), key)).collect();
            for (fetch, key) in begun {
                let found = match fetch.await {
                    Fetched::Found { value, expires_at, .. } => Some((value, expires_at)),
                    // Without what was there, no more than its removal makes sense.
                    Fetched::Unavailable(why)
                        if tier.sends(part) && !matches!(spec.name, "del" | "unlink") =>
                    {
                        return reply.error(unknown(why));
                    }
                    Fetched::Absent | Fetched::Unavailable(_) => None,
                };
                known.insert(key, found);
            }
        }
        let is_aside = |key: &Name| {
            known.get(key).is_some_and(Option::is_some)
                && self.store.borrow_mut().kind(self.key(key)).is_none()
        };
        if names.iter().any(is_aside) {
            return self.execute_aside(tier, spec, command, names, &known, reply);
        }
        match self.execute(spec, command, first, ALONE, reply) {
            Executed::Done => {}
            Executed::Blocked | Executed::Locked => command::blocking::denied(command, reply),
        }
    }

    /// The keys that are to be fetched. Room is made before: it may cost one of them.
    fn missing(&self, spec: &Spec, names: &[Name], known: &Known, again: bool) -> Vec<Name> {
        let mut store = self.store.borrow_mut();
        if spec.flags.has(Flags::DENYOOM) {
            // Where there is none, the command says so.
            let _ = store.make_room();
        }
        let is_wanted = |key: &&Name| match known.get(*key) {
            None => true,
            // It was there, and is not here: it found no room, or was changed meanwhile.
            Some(Some(_)) => again,
            Some(None) => false,
        };
        let mut missing = Vec::new();
        for key in names {
            if store.kind(self.key(key)).is_none() && is_wanted(&key) {
                missing.push(key.clone());
            }
        }
        missing
    }

    /// Runs a command on copies, among them what the upstream has and this shard has no room for.
    fn execute_aside(
        &self,
        tier: &Tier,
        spec: &'static Spec,
        command: &Command<'_>,
        names: Vec<Name>,
        known: &Known,
        reply: &mut Reply,
    ) {
        let (Run::Data(run) | Run::Split(run, _) | Run::All(run, _)) = spec.run else { return };
        let mut table = {
            let mut store = self.store.borrow_mut();
            if spec.flags.has(Flags::DENYOOM)
                && let Err(error) = store.make_room()
            {
                return reply.error(error);
            }
            let mut table = Store::new(Config::default(), store.hasher().clone(), store.now());
            for name in &names {
                let key = self.key(name);
                let at = |at: Option<u64>| at.map_or(Expiry::Never, Expiry::At);
                // Without a maximum there is always room.
                let _ = match (store.export(key), known.get(name)) {
                    (Some(Exported { value, expires_at }), _) => table.insert(key, value, at(expires_at)),
                    (None, Some(Some((value, expires_at)))) => table.set_str(key, value, at(*expires_at)),
                    (None, _) => Ok(()),
                };
            }
            table
        };
        let before = watch(&mut table, &names);
        let mut context =
            Ctx { store: &mut table, reply, first: None, blocked: false, random: self.random() };
        run(&mut context, command);
        if !spec.flags.has(Flags::WRITE) {
            return;
        }
        let mut changed = Vec::new();
        for (name, before) in names.into_iter().zip(before) {
            if table.version(self.key(&name)) != before {
                let value = table.take(self.key(&name));
                changed.push((name, value));
            }
        }
        if tier.writes {
            self.owe_copies(&changed);
        }
        let mut store = self.store.borrow_mut();
        for (name, value) in changed {
            let key = self.key(&name);
            let is_there = value.is_some_and(|Exported { value, expires_at }| {
                store.insert(key, value, expires_at.map_or(Expiry::Never, Expiry::At)).is_ok()
            });
            if !is_there {
                store.remove(key);
            }
        }
    }
}

/// Begins to watch keys: their versions.
fn watch(store: &mut Store, names: &[Name]) -> Vec<u64> {
    let hasher = store.hasher().clone();
    names.iter().map(|name| store.watch(hasher.key(name))).collect()
}

/// A key as the upstream is to have it. A collection is no string, whatever was there.
fn state_of(store: &mut Store, name: &[u8]) -> WriteOp {
    let hasher = store.hasher().clone();
    WriteOp::of_state(store, hasher.key(name)).unwrap_or(WriteOp::Delete { key: name.into() })
}

/// Ends the watch of [`watch`]: what a command changed, as the upstream is to have it.
fn changes(store: &mut Store, spec: &Spec, names: Vec<Name>, before: &[u64]) -> Vec<WriteOp> {
    let hasher = store.hasher().clone();
    let mut ops = Vec::new();
    for (name, before) in names.into_iter().zip(before) {
        let key = hasher.key(&name);
        let is_changed = store.version(key) != *before;
        store.unwatch(key);
        if !is_changed {
            continue;
        }
        let op = match store.expires_at(key) {
            Some(expires_at) if EXPIRIES.contains(&spec.name) => {
                WriteOp::Expire { key: name.clone(), expires_at }
            }
            _ => state_of(store, &name),
        };
        ops.push(op);
    }
    ops
}

/// What one shard says of its second tier.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TierFacts {
    /// Counters and sizes.
    pub(super) stats: upstream::Stats,
    /// Whether there is a connection.
    pub(super) is_up: bool,
    /// Whether the breaker keeps calls back.
    pub(super) is_open: bool,
}

impl TierFacts {
    /// What only grows, for metrics.
    pub(super) fn counters(&self) -> [(&'static str, u64); 13] {
        let stats = &self.stats;
        [
            ("upstream_fetches", stats.fetches),
            ("upstream_fetches_found", stats.found),
            ("upstream_fetches_joined", stats.joined),
            ("upstream_absent_known", stats.absent_known),
            ("upstream_unavailable", stats.unavailable),
            ("upstream_writes", stats.written),
            ("upstream_write_failures", stats.write_failures),
            ("upstream_queue_full", stats.queue_full),
            ("upstream_invalidations", stats.invalidations),
            ("upstream_invalidations_all", stats.invalidations_all),
            ("upstream_breaker_opened", stats.breaker_opened),
            ("upstream_breaker_refused", stats.breaker_refused),
            ("upstream_connects", stats.connects),
        ]
    }

    /// What goes up and down, for metrics.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 5] {
        let stats = &self.stats;
        [
            ("upstream_up", u64::from(self.is_up)),
            ("upstream_breaker_open", u64::from(self.is_open)),
            ("upstream_queue_keys", stats.queue_keys),
            ("upstream_queue_bytes", stats.queue_bytes),
            ("upstream_absent_keys", stats.absent_keys),
        ]
    }

    /// The fields of `INFO upstream`, of all shards together.
    pub(super) fn fields(all: &[TierFacts]) -> Vec<(&'static str, String)> {
        let sum = |of: fn(&TierFacts) -> u64| all.iter().map(of).sum::<u64>().to_string();
        vec![
            ("upstream_connections", sum(|one| u64::from(one.is_up))),
            ("upstream_breakers_open", sum(|one| u64::from(one.is_open))),
            ("upstream_fetches", sum(|one| one.stats.fetches)),
            ("upstream_fetches_found", sum(|one| one.stats.found)),
            ("upstream_fetches_joined", sum(|one| one.stats.joined)),
            ("upstream_absent_known", sum(|one| one.stats.absent_known)),
            ("upstream_unavailable", sum(|one| one.stats.unavailable)),
            ("upstream_writes", sum(|one| one.stats.written)),
            ("upstream_write_failures", sum(|one| one.stats.write_failures)),
            ("upstream_queue_keys", sum(|one| one.stats.queue_keys)),
            ("upstream_queue_bytes", sum(|one| one.stats.queue_bytes)),
            ("upstream_queue_full", sum(|one| one.stats.queue_full)),
            ("upstream_absent_keys", sum(|one| one.stats.absent_keys)),
            ("upstream_invalidations", sum(|one| one.stats.invalidations)),
            ("upstream_invalidations_all", sum(|one| one.stats.invalidations_all)),
            ("upstream_breaker_opened", sum(|one| one.stats.breaker_opened)),
            ("upstream_breaker_refused", sum(|one| one.stats.breaker_refused)),
            ("upstream_connects", sum(|one| one.stats.connects)),
        ]
    }
}

impl Cache {
    /// Whether the upstream of this shard is there, and tells of changes.
    pub(super) fn tier_tells(&self, shard: &Rc<Shard>, config: &UpstreamConfig) -> bool {
        let here = self.shards.of(shard);
        config.tracking && here.tier.get().is_some_and(|tier| tier.upstream.is_up())
    }

    /// Waits until the upstream of this shard is there, or for a second.
    pub(super) async fn tier_begins(&self, shard: &Rc<Shard>, config: &UpstreamConfig) -> Result<(), String> {
        let here = self.shards.of(shard);
        if config.url.is_none() {
            return Ok(());
        }
        if !here.is_tiered() {
            return Err(format!("shard {} could not begin it; the log says why", shard.id().0));
        }
        if !here.tier_comes_up().await {
            tracing::warn!("the upstream of the cache is not there yet: what is here is served");
        }
        Ok(())
    }

    /// A snapshot was taken: what the upstream told of changes before says nothing of its values.
    pub(super) async fn distrust_tier(&self) {
        let told = |here: &CacheShard| {
            if let Some(tier) = here.tier.get() {
                tier.upstream.distrust();
            }
        };
        // A shard that does not answer fails the start elsewhere.
        let _ = self.shards.each(told).await;
    }

    /// Waits until nothing is left in the queues of all shards, for at most so long. For the end of a drain.
    pub(super) async fn flush_tier(&self, time: Duration) {
        let left = async || -> u64 {
            let all = self.shards.each(|here| here.tier_facts().map_or(0, |one| one.stats.queue_keys)).await;
            all.into_iter().filter_map(Result::ok).sum()
        };
        let emptied = async {
            while left().await > 0 {
                corelane_exec::sleep(LOOK).await;
            }
        };
        if corelane_exec::timeout(time, emptied).await.is_err() {
            let keys = left().await;
            tracing::error!(
                keys,
                ?time,
                "writes that waited for the upstream are lost: the drain had to end; raise limits.drain_time"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_changed_goes_out_and_nothing_else_does() {
        let mut store = Store::new(
            Config::default(),
            super::super::store::KeyHasher::random(),
            super::super::store::Now { unix_ms: 1_000, mono_ms: 0 },
        );
        let names: Vec<Name> = vec![(*b"a").into(), (*b"b").into()];
        let hasher = store.hasher().clone();
        let (a, b) = (hasher.key(b"a"), hasher.key(b"b"));
        store.set_str(b, b"there", Expiry::Never).unwrap();
        let of = |name: &str| command::lookup(name.as_bytes()).unwrap();
        let before = watch(&mut store, &names);
        store.set_int(a, 7, Expiry::At(5_000)).unwrap();
        let ops = changes(&mut store, of("set"), names.clone(), &before);
        let set =
            WriteOp::Set { key: names[0].clone(), value: Bytes::from_static(b"7"), expires_at: Some(5_000) };
        assert_eq!(ops, [set]);
        let before = watch(&mut store, &names);
        store.set_expiry(a, None);
        store.remove(b);
        let ops = changes(&mut store, of("persist"), names.clone(), &before);
        let wanted = [
            WriteOp::Expire { key: names[0].clone(), expires_at: None },
            WriteOp::Delete { key: names[1].clone() },
        ];
        assert_eq!(ops, wanted);
    }
}
