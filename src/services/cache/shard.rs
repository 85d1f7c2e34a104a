//! The part of the cache that one shard has: its keys, the locks on them, and who waits for them.
//!
//! # Rules
//! 1. Everything here happens inside the turn of its own shard. No borrow of a cell is held while a reply is sent.
//! 2. A command runs whole: nothing comes between its first look and its last change.
//!
//! Not here: connections (`session`), several shards at once (`transaction`).

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use corelane_base::ShardId;
use corelane_exec::Shard;
use corelane_proto_resp::{Command, Limits as RespLimits, Parser, Step};

use super::batch::{Batch, Done};
use super::command::{Ctx, Flags, Keys, Reply, Run, Spec};
use super::kept::Total;
use super::locks::{self, Locks, Ticket};
use super::lookahead::Lookahead;
use super::parked::Parked;
use super::slow::{Event, Slow};
use super::store::{Key, KeyHasher, Now, Store};
use super::tier::Tier;

/// The RESP of batches: what a client may send was checked when it came in.
pub(super) const INNER: RespLimits = RespLimits {
    arguments_max: u32::MAX,
    bulk_bytes_max: u32::MAX - 64,
    line_bytes_max: u32::MAX - 64,
    command_bytes_max: u32::MAX,
    guest_arguments_max: u32::MAX,
    guest_bulk_bytes_max: u32::MAX - 64,
};

/// Keys looked at by one step of the work that is nobody's.
const WORK_BUDGET: usize = 256;

/// Bytes of the replies to one batch, or to the commands of one transaction, large values aside. Past them no further
/// command of it is run.
pub(super) const REPLIES_LEN_MAX: usize = if cfg!(test) { 1 << 20 } else { 512 << 20 };

/// Bytes of long replies made here that their connections have not got yet. Past them no further batch begins, unless it is
/// of a transaction that holds locks.
const MADE_BYTES_MAX: usize = 256 << 20;

/// Replies from here on are counted.
const COUNTED_MIN: usize = 64 << 10;

/// How often a batch that waits for that looks again.
const LOOK: std::time::Duration = std::time::Duration::from_millis(1);

pub(super) const TOO_LONG: &str =
    "ERR the replies before this one have too many bytes: this command was not run; send fewer at once";

/// What became of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Executed {
    /// It has replied.
    Done,
    /// A key of its is held by a transaction, or has to do with the second tier first: nothing happened.
    Locked,
    /// It would have to wait for a key: nothing happened.
    Blocked,
}

/// Whether the host's clock is looked at once only: on a shard under test, all time is the test's.
#[derive(Debug, Default)]
pub(crate) struct OwnTime(pub(crate) Cell<bool>);

/// The cache of one shard.
#[derive(Debug)]
pub struct CacheShard {
    here: ShardId,
    shards: u64,
    hasher: KeyHasher,
    pub(super) store: RefCell<Store>,
    pub(super) locks: RefCell<Locks>,
    pub(super) parked: RefCell<Parked>,
    pub(super) tier: OnceCell<Tier>,
    pub(super) slow: Slow,
    /// Unix milliseconds less monotonic ones.
    wall_less_mono_ms: Cell<i64>,
    random: Cell<u64>,
    numbers: Cell<u64>,
    parser: RefCell<Parser>,
    lookahead: RefCell<Lookahead>,
    pub(super) places: RefCell<Vec<usize>>,
    made: Total,
    begun: Cell<bool>,
}

impl CacheShard {
    pub(super) fn new(
        shard: &Shard,
        shards: usize,
        hasher: KeyHasher,
        config: super::store::Config,
    ) -> CacheShard {
        let mono_ms = shard.now().mono_ns / 1_000_000;
        let here = CacheShard {
            here: shard.id(),
            shards: shards as u64,
            store: RefCell::new(Store::new(config, hasher.clone(), Now::default())),
            hasher,
            locks: RefCell::default(),
            parked: RefCell::default(),
            tier: OnceCell::new(),
            slow: Slow::new(shard.id().0, shards as u64),
            wall_less_mono_ms: Cell::new(0),
            random: Cell::new(0),
            numbers: Cell::new(0),
            parser: RefCell::new(Parser::new()),
            lookahead: RefCell::default(),
            places: RefCell::default(),
            made: Total::default(),
            begun: Cell::new(false),
        };
        here.random.set(here.hasher.hash(&mono_ms.to_le_bytes()) | 1);
        here.set_wall(mono_ms);
        here
    }

    /// Looks at the host's clock: it may have been set meanwhile.
    #[expect(
        clippy::disallowed_methods,
        reason = "expiry is by the host's clock; read once a second, not once a command"
    )]
    fn set_wall(&self, mono_ms: u64) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let wall = i64::try_from(wall).unwrap_or(i64::MAX);
        self.wall_less_mono_ms.set(wall - i64::try_from(mono_ms).unwrap_or(i64::MAX));
    }

    /// The moment of this turn.
    pub(super) fn now(&self, shard: &Shard) -> Now {
        let mono_ms = shard.now().mono_ns / 1_000_000;
        Now { mono_ms, unix_ms: mono_ms.saturating_add_signed(self.wall_less_mono_ms.get()) }
    }

    /// Sets the store's time. Once a turn, before the first command of it.
    pub(super) fn set_now(&self, shard: &Shard) {
        self.store.borrow_mut().set_now(self.now(shard));
    }

    /// Whether its own work has begun.
    #[inline]
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// True the first time: then whoever asks begins its work.
    pub(super) fn is_first_use(&self) -> bool {
        !self.begun.replace(true)
    }

    /// This shard.
    pub(super) fn here(&self) -> ShardId {
        self.here
    }

    /// How many there are.
    pub(super) fn shards(&self) -> u16 {
        u16::try_from(self.shards).unwrap_or(u16::MAX)
    }

    /// `bytes` as a key.
    #[inline]
    pub(super) fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        self.hasher.key(bytes)
    }

    /// Whose `key` is.
    #[inline]
    pub(super) fn owner(&self, key: Key<'_>) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        self.of_hash(self.hasher.owner_hash(key))
    }

    /// The shard that a hash chooses: by its high bits, without a division (Lemire, "Fast random integer generation in
    /// an interval").
    #[inline]
    fn of_hash(&self, hash: u64) -> ShardId {
        let at = (u128::from(hash) * u128::from(self.shards)) >> 64;
        ShardId(u16::try_from(at).unwrap_or(0))
    }

    /// Begins to load what commands on keys of these hashes need, as far as the keys seem to be of this shard.
    pub(super) fn warm(&self, hashes: &[u64]) {
        let hashes = hashes.iter().copied();
        // With a tag it may be another shard's: then little is lost.
        self.store.borrow().warm(hashes.filter(|hash| self.shards == 1 || self.of_hash(*hash) == self.here));
    }

    /// A number that was not used before on this shard, unique in the node.
    pub(super) fn number(&self) -> u64 {
        let next = self.numbers.get() + 1;
        self.numbers.set(next);
        (u64::from(self.here.0) << 48) | next
    }

    /// A random number (xorshift64*, Vigna 2016): for picks, not for secrets.
    #[inline]
    pub(super) fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Runs one command, whose keys are all of this shard.
    #[inline]
    pub(super) fn execute<'k>(
        &self,
        spec: &'static Spec,
        command: &Command<'k>,
        first: Option<Key<'k>>,
        ticket: Ticket,
        reply: &mut Reply,
    ) -> Executed {
        match self.slow.may_time(spec.cost) {
            false => self.execute_untimed(spec, command, first, ticket, reply),
            true => self.execute_timed(spec, command, first, ticket, reply),
        }
    }

    /// The same, with a look at the clock before and after it.
    #[inline(never)]
    fn execute_timed<'k>(
        &self,
        spec: &'static Spec,
        command: &Command<'k>,
        first: Option<Key<'k>>,
        ticket: Ticket,
        reply: &mut Reply,
    ) -> Executed {
        if !self.slow.times(spec.cost, command.len()) {
            return self.execute_untimed(spec, command, first, ticket, reply);
        }
        let began = corelane_sys::clock::mono_ns();
        if self.slow.is_monitoring() && spec.flags.has(Flags::DENYOOM) {
            // What is made room for here need not be again.
            let _ = self.store.borrow_mut().make_room();
            let ns = corelane_sys::clock::mono_ns().saturating_sub(began);
            self.slow.happened(Event::Evict, ns, self.unix_ms_at(began));
        }
        let executed = self.execute_untimed(spec, command, first, ticket, reply);
        if executed == Executed::Done {
            let ns = corelane_sys::clock::mono_ns().saturating_sub(began);
            self.slow.ran(spec, command, ns, (began, self.unix_ms_at(began)));
        }
        executed
    }

    /// The time of the host at a moment of the monotonic clock.
    pub(super) fn unix_ms_at(&self, mono_ns: u64) -> u64 {
        (mono_ns / 1_000_000).saturating_add_signed(self.wall_less_mono_ms.get())
    }

    #[inline]
    fn execute_untimed<'k>(
        &self,
        spec: &'static Spec,
        command: &Command<'k>,
        first: Option<Key<'k>>,
        ticket: Ticket,
        reply: &mut Reply,
    ) -> Executed {
        if !self.locks.borrow().is_empty() && self.is_barred(spec, command, ticket) {
            return Executed::Locked;
        }
        if let Some(tier) = self.tier.get() {
            // In nobody's name, it may have to wait; who has a ticket has waited.
            if ticket != 0 {
                return self.execute_owing(tier, spec, command, first, reply);
            }
            if self.waits_for_tier(tier, spec, command) {
                return Executed::Locked;
            }
        }
        self.execute_now(spec, command, first, reply)
    }

    /// Runs one command, whatever stands in its way.
    #[inline]
    pub(super) fn execute_now<'k>(
        &self,
        spec: &'static Spec,
        command: &Command<'k>,
        first: Option<Key<'k>>,
        reply: &mut Reply,
    ) -> Executed {
        let (Run::Data(run) | Run::Split(run, _) | Run::All(run, _)) = spec.run else {
            reply.error("ERR this command is not run by a shard");
            return Executed::Done;
        };
        let store = &mut *self.store.borrow_mut();
        if spec.flags.has(Flags::DENYOOM)
            && let Err(error) = store.make_room()
        {
            reply.error(error);
            return Executed::Done;
        }
        let random =
            if spec.flags.has(Flags::FAST) && !spec.flags.has(Flags::WRITE) { 0 } else { self.random() };
        let mut ctx = Ctx { store, reply, first, blocked: false, random };
        run(&mut ctx, command);
        if ctx.blocked { Executed::Blocked } else { Executed::Done }
    }

    #[cold]
    fn is_barred(&self, spec: &'static Spec, command: &Command<'_>, ticket: Ticket) -> bool {
        let locks = self.locks.borrow();
        // What touches all keys waits for all of them.
        if matches!(spec.run, Run::All(..)) && spec.flags.has(Flags::WRITE) {
            return ticket == 0;
        }
        let mut places = self.places.borrow_mut();
        spec.keys.find(command, &mut places);
        places.iter().any(|&at| command.get(at).is_some_and(|key| locks.bars(key, ticket)))
    }

    /// Runs a batch as far as no lock is in the way.
    pub(super) fn run(&self, shard: &Rc<Shard>, mut batch: Batch) -> Done {
        self.set_now(shard);
        let mut done = batch.begin();
        if batch.ticket == 0 && self.made_too_much() {
            done.rest = Some(Box::new(batch));
            return done;
        }
        done.ends.reserve(batch.items.len());
        self.run_on(&batch, &mut done);
        done.spent = batch;
        done
    }

    fn run_on(&self, batch: &Batch, done: &mut Done) {
        let mut parser = self.parser.take();
        let mut lookahead = self.lookahead.take();
        lookahead.clear();
        let (mut unread, mut ahead) = (batch.wire.as_slice(), batch.wire.as_slice());
        let mut stopped = None;
        for (n, (spec, _)) in batch.items.iter().enumerate() {
            if lookahead.is_empty() {
                ahead = unread;
                lookahead.read(&INNER, ahead, self);
            }
            let (command, first) = match lookahead.next(ahead) {
                Some((command, first, end)) => {
                    unread = &ahead[end..];
                    (command, first)
                }
                None => match parser.poll(&INNER, &mut unread) {
                    Step::Command(command) => (command, None),
                    _ => unreachable!("a batch is made of whole commands"),
                },
            };
            let first = match spec.keys {
                Keys::None => None,
                _ => first.or_else(|| command.get(1).map(|key| self.key(key))),
            };
            if done.reply.bytes().len() > REPLIES_LEN_MAX {
                done.reply.error(TOO_LONG);
                done.ends.push(done.reply.bytes().len());
                continue;
            }
            match self.execute(spec, &command, first, batch.ticket, &mut done.reply) {
                Executed::Done => {}
                Executed::Blocked => super::command::blocking::denied(&command, &mut done.reply),
                Executed::Locked => {
                    stopped = Some(n);
                    break;
                }
            }
            done.ends.push(done.reply.bytes().len());
            if batch.ticket == 0 {
                self.serve_parked();
            }
        }
        self.parser.replace(parser);
        self.count(&mut done.reply);
        self.lookahead.replace(lookahead);
        done.rest = stopped.map(|n| Box::new(batch.rest(n)));
    }

    /// Runs the rest of a batch, waiting for locks as often as it must.
    pub(super) async fn run_rest(self: Rc<Self>, shard: Rc<Shard>, rest: Batch) -> Done {
        if self.is_tiered() {
            return self.run_rest_tiered(shard, rest).await;
        }
        let mut done = Done::new(rest.version);
        let mut left = Some(Box::new(rest));
        while let Some(batch) = left.take() {
            let keys = self.keys_of_first(&batch);
            if !batch.is_begun {
                self.has_room().await;
            }
            locks::wait_free(&self.locks, &keys).await;
            self.set_now(&shard);
            self.run_on(&batch, &mut done);
            left = done.rest.take();
        }
        done
    }

    /// Whether replies made here, and not with their connections yet, have so many bytes that none should be added.
    #[inline]
    pub(super) fn made_too_much(&self) -> bool {
        self.made.bytes() > MADE_BYTES_MAX
    }

    /// Counts a reply that was made here until it is with its connection, if it is long.
    pub(super) fn count(&self, reply: &mut Reply) {
        if reply.bytes().len() >= COUNTED_MIN {
            reply.count_in(&self.made);
        }
    }

    /// Waits until the replies made here are with their connections, but for so many.
    pub(super) async fn has_room(&self) {
        while self.made_too_much() {
            corelane_exec::sleep(LOOK).await;
        }
    }

    fn keys_of_first(&self, batch: &Batch) -> Vec<Box<[u8]>> {
        let mut parser = Parser::new();
        let mut unread = batch.wire.as_slice();
        let (Step::Command(command), Some((spec, _))) =
            (parser.poll(&INNER, &mut unread), batch.items.first())
        else {
            return Vec::new();
        };
        let mut places = Vec::new();
        spec.keys.find(&command, &mut places);
        places.iter().filter_map(|&at| command.get(at)).map(Box::from).collect()
    }

    /// Ends a transaction here, and lets those on who waited for it.
    pub(super) fn release(&self, ticket: Ticket) {
        self.locks.borrow_mut().release(ticket);
        self.serve_parked();
    }

    /// The work that is nobody's; true if there is more of it at once.
    pub(super) fn work(&self, shard: &Shard) -> bool {
        if !shard.local(OwnTime::default).0.get() {
            self.set_wall(shard.now().mono_ns / 1_000_000);
        }
        let mut store = self.store.borrow_mut();
        store.set_now(self.now(shard));
        if !self.slow.is_monitoring() {
            return store.work(WORK_BUDGET);
        }
        let began = corelane_sys::clock::mono_ns();
        let more = store.work(WORK_BUDGET);
        let ns = corelane_sys::clock::mono_ns().saturating_sub(began);
        self.slow.happened(Event::Expire, ns, self.unix_ms_at(began));
        more
    }

    /// When there is work again, at the latest.
    pub(super) fn rest_ms(&self, shard: &Shard) -> u64 {
        const REST_MS: u64 = 1_000;
        let next = self.store.borrow().next_expiry();
        let now = self.now(shard).unix_ms;
        next.map_or(REST_MS, |at| at.saturating_sub(now).clamp(10, REST_MS))
    }
}
