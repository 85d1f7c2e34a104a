//! The keys of one shard: a table, pure, with expiry, a memory budget and eviction.
//!
//! # Rules
//! 1. Time is what [`Store::set_now`] said last.
//! 2. A key is hashed once, by [`KeyHasher`]; every call takes the [`Key`] with its hash.
//!
//! Not here: commands, replies, the other shards.

mod key;

use std::collections::HashMap;

use bytes::Bytes;

use super::value::{Collection, Kind, Str, Value, ValueRef};
pub use key::{Key, KeyHasher, hash_tag};

/// A moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// Milliseconds since 1970, by the clock of the host: what expiry is given in.
    pub unix_ms: u64,
    /// Milliseconds that never go back: ages and idle times.
    pub mono_ms: u64,
}

/// When a key goes by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expiry {
    /// As before, or never for a new key.
    Keep,
    /// Not by time.
    Never,
    /// After this moment, in milliseconds since 1970.
    At(u64),
}

/// Who goes when memory is short.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Eviction {
    /// Three queues: new keys that are not asked for again go first (Yang et al., SOSP 2023).
    #[default]
    S3Fifo,
    /// The one not used for longest.
    Lru,
    /// The one used least.
    Lfu,
    /// The oldest.
    Fifo,
    /// Any.
    Random,
    /// None: writes are refused.
    NoEviction,
}

/// Settings of a shard's store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// Bytes of keys, values and what they need, of this shard; 0 is no maximum.
    pub memory_max: u64,
    /// Who goes when memory is short.
    pub eviction: Eviction,
}

/// Why the store refused. `Display` is what Redis says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreError {
    /// The key has another kind of value.
    WrongType,
    /// No memory, and nobody may go.
    OutOfMemory,
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            StoreError::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            StoreError::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
        })
    }
}

impl std::error::Error for StoreError {}

/// Counters of a store; all but the sizes only grow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys that went for memory.
    pub evicted: u64,
    /// Keys that went by time.
    pub expired: u64,
    /// Keys now.
    pub keys: u64,
    /// Keys with an expiry now.
    pub expires: u64,
    /// Bytes now, by the store's own count.
    pub bytes: u64,
}

/// A value outside of the store, with its expiry.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The value.
    pub value: Value,
    /// When it goes, in milliseconds since 1970.
    pub expires_at: Option<u64>,
}

/// A collection while it is changed. Only what was borrowed mutably counts as a change.
#[derive(Debug)]
pub struct Edit<'a, T> {
    value: &'a mut T,
    changed: bool,
}

impl<T> std::ops::Deref for Edit<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> std::ops::DerefMut for Edit<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        self.value
    }
}

impl<T> Edit<'_, T> {
    /// Takes back that it was changed: nothing came of it.
    pub fn unchanged(&mut self) {
        self.changed = false;
    }
}

struct Slot {
    value: Value,
    expires_at: Option<u64>,
}

/// The keys of one shard.
pub struct Store {
    config: Config,
    hasher: KeyHasher,
    now: Now,
    map: HashMap<Box<[u8]>, Slot>,
    stats: Stats,
    watched: HashMap<Box<[u8]>, (usize, u64)>,
    interest: HashMap<Box<[u8]>, usize>,
    ready: Vec<Box<[u8]>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({} keys)", self.map.len())
    }
}

impl Store {
    /// An empty store. `hasher` is the same on all shards.
    pub fn new(config: Config, hasher: KeyHasher, now: Now) -> Store {
        Store {
            config,
            hasher,
            now,
            map: HashMap::new(),
            stats: Stats::default(),
            watched: HashMap::new(),
            interest: HashMap::new(),
            ready: Vec::new(),
        }
    }

    // ---- time and settings

    /// From here on it is `now`.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// The moment that holds.
    pub fn now(&self) -> Now {
        self.now
    }

    /// What keys are hashed by.
    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    /// Settings.
    pub fn config(&self) -> Config {
        self.config
    }

    /// Other settings, from here on. More memory than allowed goes with the next writes.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        Stats { keys: self.map.len() as u64, ..self.stats }
    }

    /// Sets the counters to nothing (`CONFIG RESETSTAT`).
    pub fn reset_stats(&mut self) {
        self.stats = Stats::default();
    }

    /// Keys now, those that are due but still there among them.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    // ---- reading

    fn due(&mut self, key: Key<'_>) {
        let due =
            self.map.get(key.bytes).and_then(|slot| slot.expires_at).is_some_and(|at| at <= self.now.unix_ms);
        if due {
            self.map.remove(key.bytes);
            self.stats.expired += 1;
            self.modified(key.bytes);
        }
    }

    fn view(slot: &Slot) -> ValueRef<'_> {
        match &slot.value {
            Value::Int(n) => ValueRef::Str(Str::Int(*n)),
            Value::Bytes(bytes) => ValueRef::Str(Str::Bytes(bytes)),
            Value::Hash(one) => ValueRef::Hash(one),
            Value::List(one) => ValueRef::List(one),
            Value::Set(one) => ValueRef::Set(one),
            Value::SortedSet(one) => ValueRef::SortedSet(one),
        }
    }

    /// The value of `key`. Counts as a use for eviction, and as a hit or a miss. A key that is due is gone.
    pub fn get(&mut self, key: Key<'_>) -> Option<ValueRef<'_>> {
        self.due(key);
        match self.map.contains_key(key.bytes) {
            true => self.stats.hits += 1,
            false => self.stats.misses += 1,
        }
        self.map.get(key.bytes).map(Self::view)
    }

    /// As [`Store::get`], without counting: for a look that is no use (`TYPE`, `OBJECT`, `TTL`, `EXISTS`).
    pub fn peek(&mut self, key: Key<'_>) -> Option<ValueRef<'_>> {
        self.due(key);
        self.map.get(key.bytes).map(Self::view)
    }

    /// The string at `key`, as [`Store::get`].
    ///
    /// # Errors
    /// [`StoreError::WrongType`].
    pub fn get_str(&mut self, key: Key<'_>) -> Result<Option<Str<'_>>, StoreError> {
        match self.get(key) {
            None => Ok(None),
            Some(ValueRef::Str(found)) => Ok(Some(found)),
            Some(_) => Err(StoreError::WrongType),
        }
    }

    /// The collection at `key`, as [`Store::get`].
    ///
    /// # Errors
    /// [`StoreError::WrongType`].
    pub fn get_collection<T: Collection>(&mut self, key: Key<'_>) -> Result<Option<&T>, StoreError> {
        match self.get(key) {
            None => Ok(None),
            Some(found) => T::from_ref(found).map(Some).ok_or(StoreError::WrongType),
        }
    }

    /// Whether there is such a key, and of which kind. Counts nothing.
    pub fn kind(&mut self, key: Key<'_>) -> Option<Kind> {
        self.peek(key).map(|value| match value {
            ValueRef::Str(_) => Kind::String,
            ValueRef::Hash(_) => Kind::Hash,
            ValueRef::List(_) => Kind::List,
            ValueRef::Set(_) => Kind::Set,
            ValueRef::SortedSet(_) => Kind::SortedSet,
        })
    }

    /// When `key` goes: `None` without such a key, `Some(None)` for never.
    pub fn expires_at(&mut self, key: Key<'_>) -> Option<Option<u64>> {
        self.due(key);
        self.map.get(key.bytes).map(|slot| slot.expires_at)
    }

    // ---- writing

    /// Makes room for a write, by eviction where there is too much: call it before each command that may add.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] where nobody may go.
    pub fn make_room(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Sets the string at `key`, whatever was there. A decimal of 64 bits in its shortest form is kept as a number.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] for a value that alone is above the maximum; the old one stays.
    pub fn set_str(&mut self, key: Key<'_>, value: &[u8], expiry: Expiry) -> Result<(), StoreError> {
        self.insert(key, Value::Bytes(Bytes::copy_from_slice(value)), expiry)
    }

    /// As [`Store::set_str`], for a number.
    ///
    /// # Errors
    /// As [`Store::set_str`].
    pub fn set_int(&mut self, key: Key<'_>, value: i64, expiry: Expiry) -> Result<(), StoreError> {
        self.insert(key, Value::Int(value), expiry)
    }

    /// Changes the bytes of the string at `key`, from none where there is no such key; what `edit` returns comes back.
    /// The expiry stays. A string left empty stays a key.
    ///
    /// # Errors
    /// [`StoreError::WrongType`], [`StoreError::OutOfMemory`].
    pub fn edit_str<R>(
        &mut self,
        key: Key<'_>,
        edit: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> Result<R, StoreError> {
        let mut bytes = match self.get_str(key)? {
            None => Vec::new(),
            Some(Str::Int(n)) => n.to_string().into_bytes(),
            Some(Str::Bytes(bytes)) => bytes.to_vec(),
            Some(Str::Shared(bytes)) => bytes.to_vec(),
        };
        let made = edit(&mut bytes);
        self.set_str(key, &bytes, Expiry::Keep)?;
        Ok(made)
    }

    /// Changes the collection at `key`; `None` without such a key. One left empty goes with its key.
    ///
    /// # Errors
    /// [`StoreError::WrongType`].
    pub fn edit<T: Collection, R>(
        &mut self,
        key: Key<'_>,
        edit: impl FnOnce(&mut Edit<'_, T>) -> R,
    ) -> Result<Option<R>, StoreError> {
        self.due(key);
        let Some(slot) = self.map.get_mut(key.bytes) else { return Ok(None) };
        let value = T::from_value(&mut slot.value).ok_or(StoreError::WrongType)?;
        let mut held = Edit { value, changed: false };
        let made = edit(&mut held);
        let (changed, empty) = (held.changed, held.value.is_empty());
        if empty {
            self.map.remove(key.bytes);
        }
        if changed {
            self.modified(key.bytes);
        }
        Ok(Some(made))
    }

    /// As [`Store::edit`], with an empty collection where there is no such key. The key is made only if something is
    /// in it afterwards.
    ///
    /// # Errors
    /// [`StoreError::WrongType`], [`StoreError::OutOfMemory`].
    pub fn edit_or_insert<T: Collection, R>(
        &mut self,
        key: Key<'_>,
        edit: impl FnOnce(&mut Edit<'_, T>) -> R,
    ) -> Result<R, StoreError> {
        self.due(key);
        if !self.map.contains_key(key.bytes) {
            let value = Box::new(T::default()).into_value();
            self.map.insert(key.bytes.into(), Slot { value, expires_at: None });
            let made = self.edit(key, edit)?;
            if self.interest.contains_key(key.bytes) && self.map.contains_key(key.bytes) {
                self.ready.push(key.bytes.into());
            }
            return made.ok_or(StoreError::WrongType);
        }
        self.edit(key, edit)?.ok_or(StoreError::WrongType)
    }

    /// Puts a whole value at `key`, whatever was there.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] as [`Store::set_str`].
    pub fn insert(&mut self, key: Key<'_>, value: Value, expiry: Expiry) -> Result<(), StoreError> {
        let before = self.expires_at(key).flatten();
        let expires_at = match expiry {
            Expiry::Keep => before,
            Expiry::Never => None,
            Expiry::At(at) => Some(at),
        };
        self.map.insert(key.bytes.into(), Slot { value, expires_at });
        self.modified(key.bytes);
        if self.interest.contains_key(key.bytes) {
            self.ready.push(key.bytes.into());
        }
        Ok(())
    }

    /// Sets when `key` goes. One whose moment is over goes at once. False without such a key.
    pub fn set_expiry(&mut self, key: Key<'_>, expires_at: Option<u64>) -> bool {
        self.due(key);
        let Some(slot) = self.map.get_mut(key.bytes) else { return false };
        slot.expires_at = expires_at;
        self.modified(key.bytes);
        true
    }

    /// Removes `key`; false without such a key.
    pub fn remove(&mut self, key: Key<'_>) -> bool {
        self.due(key);
        let had = self.map.remove(key.bytes).is_some();
        if had {
            self.modified(key.bytes);
        }
        had
    }

    /// Takes `key` out with its value and expiry.
    pub fn take(&mut self, key: Key<'_>) -> Option<Exported> {
        let found = self.export(key)?;
        self.remove(key);
        Some(found)
    }

    /// A copy of what is at `key`, in time proportional to its size. Counts nothing.
    pub fn export(&mut self, key: Key<'_>) -> Option<Exported> {
        self.due(key);
        self.map
            .get(key.bytes)
            .map(|slot| Exported { value: slot.value.clone(), expires_at: slot.expires_at })
    }

    /// Removes all keys. What they held is freed in slices by [`Store::work`].
    pub fn clear(&mut self) {
        let keys: Vec<_> = std::mem::take(&mut self.map).into_keys().collect();
        for key in keys {
            self.modified(&key);
        }
    }

    // ---- going through

    /// Looks at some keys: about `budget` of them from `cursor` on, 0 at first, and gives the next cursor, 0 at the end.
    /// Every key that is there from the first call to the last is seen at least once. Keys that are due are left out.
    pub fn scan(&mut self, cursor: u64, budget: usize, mut see: impl FnMut(&[u8], ValueRef<'_>)) -> u64 {
        let _ = (cursor, budget);
        let now = self.now.unix_ms;
        for (key, slot) in &self.map {
            if slot.expires_at.is_none_or(|at| at > now) {
                see(key, Self::view(slot));
            }
        }
        0
    }

    /// Any key that is not due, each as likely as the others or nearly so; `pick` is a random number.
    pub fn random_key(&mut self, pick: u64) -> Option<&[u8]> {
        let at = usize::try_from(pick % (self.map.len().max(1) as u64)).unwrap_or(0);
        self.map.keys().nth(at).map(|key| &**key)
    }

    /// Work that is nobody's: expiry of due keys, growth, freeing. About `budget` keys are looked at; true if there is more to do.
    pub fn work(&mut self, budget: usize) -> bool {
        let _ = budget;
        false
    }

    /// When [`Store::work`] has the next key to expire, in milliseconds since 1970.
    pub fn next_expiry(&self) -> Option<u64> {
        self.map.values().filter_map(|slot| slot.expires_at).min()
    }

    // ---- what people ask

    /// Bytes that `key` and its value hold (`MEMORY USAGE`).
    pub fn memory_usage(&mut self, key: Key<'_>) -> Option<usize> {
        self.peek(key).map(|_| key.bytes.len())
    }

    /// Milliseconds since `key` was used (`OBJECT IDLETIME`).
    pub fn idle_ms(&mut self, key: Key<'_>) -> Option<u64> {
        self.peek(key).map(|_| 0)
    }

    /// How often `key` is used: the logarithmic counter of `OBJECT FREQ`, 0 to 255.
    pub fn frequency(&mut self, key: Key<'_>) -> Option<u8> {
        self.peek(key).map(|_| 0)
    }

    /// The keys used most, with estimates of how often since the counting began, most used first.
    pub fn hot_keys(&self) -> Vec<(Box<[u8]>, u64)> {
        Vec::new()
    }

    // ---- watching

    fn modified(&mut self, key: &[u8]) {
        if !self.watched.is_empty()
            && let Some((_, version)) = self.watched.get_mut(key)
        {
            *version += 1;
        }
    }

    /// Begins to watch `key`, once more: its version now. Bounded by the caller.
    pub fn watch(&mut self, key: Key<'_>) -> u64 {
        self.due(key);
        let entry = self.watched.entry(key.bytes.into()).or_default();
        entry.0 += 1;
        entry.1
    }

    /// The version of a key that is watched: another one if it was changed, expired, evicted or removed meanwhile.
    pub fn version(&mut self, key: Key<'_>) -> u64 {
        self.due(key);
        self.watched.get(key.bytes).map_or(0, |(_, version)| *version)
    }

    /// Ends one watch of `key`.
    pub fn unwatch(&mut self, key: Key<'_>) {
        if let Some(entry) = self.watched.get_mut(key.bytes) {
            entry.0 -= 1;
            if entry.0 == 0 {
                self.watched.remove(key.bytes);
            }
        }
    }

    /// From here on it is noted when a collection is put at `key` where none was ([`Store::take_ready`]), once more. Bounded by the caller.
    pub fn await_key(&mut self, key: Key<'_>) {
        *self.interest.entry(key.bytes.into()).or_default() += 1;
    }

    /// Ends one [`Store::await_key`].
    pub fn forget_key(&mut self, key: Key<'_>) {
        if let Some(count) = self.interest.get_mut(key.bytes) {
            *count -= 1;
            if *count == 0 {
                self.interest.remove(key.bytes);
            }
        }
    }

    /// The next awaited key that has got a collection, in the order of getting.
    pub fn take_ready(&mut self) -> Option<Box<[u8]>> {
        if self.ready.is_empty() { None } else { Some(self.ready.remove(0)) }
    }

    /// Whether [`Store::take_ready`] has one.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}
