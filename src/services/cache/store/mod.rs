//! The keys of one shard: a table, pure, with expiry, a memory budget and eviction.
//!
//! The table is 1,024 segments by a part of the hash, each a hash table of places in a slab of entries. A segment grows
//! alone, so a growth moves a 1,024th of the keys (4 bytes each); entries and values never move. A key with a short
//! string is an entry and one block of memory: 16 bytes of key and 32 of value cost 112 bytes in all.
//!
//! # Rules
//! 1. Time is what [`Store::set_now`] said last.
//! 2. A key is hashed once, by [`KeyHasher`]; every call takes the [`Key`] with its hash.
//! 3. `bytes` is what a recount would give, after every call.
//! 4. A key is due when its moment is over: the millisecond of its expiry is still its own, as in Redis.
//!
//! Reading order: `key` keys and hashes; `slab` places; `entry` one key; `policy` who goes; `wheel` when; `hot` the
//! keys used most; here the table and all that is done with it; `notes` who watches and waits.
//!
//! Not here: commands, replies, the other shards.

mod entry;
mod hot;
mod key;
mod notes;
mod policy;
mod slab;
#[cfg(test)]
mod tests;
mod wheel;

use bytes::Bytes;
use hashbrown::HashTable;

use super::command::reply::SHARE_MIN;
use super::value::{Collection, Kind, Str, Value, ValueRef};
use entry::{ENTRY_BYTES, Entry, Place, USED_UNIT_MS, block_bytes, canonical};
use hot::Hot;
pub use key::{Key, KeyHasher, hash_tag};
use notes::Notes;
use policy::{Policy, SENTINELS};
use slab::{NIL, Slab};
use wheel::{RECORD_BYTES, Wheel};

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
    /// Writes that found no memory, and nobody who may go.
    pub refused: u64,
    /// Keys now.
    pub keys: u64,
    /// Keys with an expiry now.
    pub expires: u64,
    /// Bytes now, by the store's own count.
    pub bytes: u64,
    /// Changes of keys, those by expiry and eviction among them. `CONFIG RESETSTAT` leaves it.
    pub changes: u64,
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

/// Parts of the table that grow alone.
const SEGMENTS: usize = 1 << SEGMENT_BITS;
const SEGMENT_BITS: u32 = 10;
/// The bits of a hash that choose the segment: the high ones choose the shard, the low ones the place in the segment.
const SEGMENT_SHIFT: u32 = 32;

/// Keys that one call of [`Store::warm`] takes; those beyond it leaves alone.
pub const WARM_MAX: usize = 32;

/// Values of a key that is larger than [`SHARE_MIN`], or no string.
type Values = Slab<Value>;

/// Steps of eviction that one call of [`Store::make_room`] takes at most.
const EVICTIONS_MAX: usize = 1 << 16;

/// What was cleared, to be freed in slices.
struct Garbage {
    entries: Slab<Entry>,
    values: Values,
    wheel: Wheel,
}

/// The keys of one shard.
pub struct Store {
    config: Config,
    hasher: KeyHasher,
    now: Now,
    segments: Box<[HashTable<u32>]>,
    entries: Slab<Entry>,
    values: Values,
    wheel: Wheel,
    policy: Policy,
    hot: Hot,
    notes: Notes,
    bytes: usize,
    hits: u64,
    misses: u64,
    evicted: u64,
    expired: u64,
    refused: u64,
    garbage: Vec<Garbage>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({} keys, {} bytes)", self.len(), self.bytes)
    }
}

/// A part of the hash that has what a segment needs: the low bits for the place, the high ones to tell keys apart.
#[inline]
fn inner_hash(hash: u64) -> u64 {
    (hash & 0xffff_ffff) | (hash << 32)
}

fn segments() -> Box<[HashTable<u32>]> {
    (0..SEGMENTS).map(|_| HashTable::new()).collect()
}

#[inline]
fn segment_of(hash: u64) -> usize {
    usize::try_from(hash >> SEGMENT_SHIFT).unwrap_or(0) & (SEGMENTS - 1)
}

/// Bytes that a value of the slab holds beyond its block.
fn value_bytes(value: &Value) -> usize {
    size_of::<Value>()
        + 8
        + match value {
            Value::Int(_) => 0,
            Value::Bytes(bytes) => block_bytes(bytes.len()),
            Value::Hash(one) => one.bytes(),
            Value::List(one) => one.bytes(),
            Value::Set(one) => one.bytes(),
            Value::SortedSet(one) => one.bytes(),
        }
}

fn view(value: &Value) -> ValueRef<'_> {
    match value {
        Value::Int(n) => ValueRef::Str(Str::Int(*n)),
        Value::Bytes(bytes) => ValueRef::Str(Str::Shared(bytes)),
        Value::Hash(one) => ValueRef::Hash(one),
        Value::List(one) => ValueRef::List(one),
        Value::Set(one) => ValueRef::Set(one),
        Value::SortedSet(one) => ValueRef::SortedSet(one),
    }
}

impl Store {
    /// An empty store. `hasher` is the same on all shards.
    pub fn new(config: Config, hasher: KeyHasher, now: Now) -> Store {
        let mut entries = Slab::default();
        let policy = Policy::new(config.eviction, &mut entries, hasher.hash(b"eviction"));
        Store {
            config,
            hasher,
            now,
            segments: segments(),
            entries,
            values: Slab::default(),
            wheel: Wheel::new(now.unix_ms),
            policy,
            hot: Hot::default(),
            notes: Notes::default(),
            bytes: 0,
            hits: 0,
            misses: 0,
            evicted: 0,
            expired: 0,
            refused: 0,
            garbage: Vec::new(),
        }
    }

    // ---- time and settings

    /// From here on it is `now`.
    #[inline]
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

    /// Other settings, from here on. More memory than allowed goes with the next writes. Another policy takes the keys
    /// as they are, in time proportional to their number.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
        self.policy.change(config.eviction, &mut self.entries);
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        Stats {
            hits: self.hits,
            misses: self.misses,
            evicted: self.evicted,
            expired: self.expired,
            refused: self.refused,
            keys: self.len() as u64,
            expires: self.wheel.len() as u64,
            bytes: self.used() as u64,
            changes: self.notes.changes(),
        }
    }

    /// Sets the counters to nothing (`CONFIG RESETSTAT`).
    pub fn reset_stats(&mut self) {
        (self.hits, self.misses, self.evicted, self.expired, self.refused) = (0, 0, 0, 0, 0);
        self.hot.clear();
    }

    /// Keys now, those that are due but still there among them.
    pub fn len(&self) -> usize {
        self.entries.len() - SENTINELS as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn used(&self) -> usize {
        self.bytes + self.policy.bytes()
    }

    /// The bytes of all entries, counted anew.
    #[cfg(any(test, feature = "testing"))]
    fn recount(&self) -> usize {
        let all = SENTINELS..self.entries.end();
        all.filter(|&at| self.entries.get(at).is_some()).map(|at| self.bytes_at(at)).sum()
    }

    /// Whether every byte is counted.
    ///
    /// # Panics
    /// If not.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn check(&self) {
        assert_eq!(self.bytes, self.recount(), "every byte is counted");
    }

    // ---- finding

    #[inline]
    fn find(&self, key: Key<'_>) -> Option<u32> {
        let found = self.segments[segment_of(key.hash)]
            .find(inner_hash(key.hash), |&at| self.entries[at].key() == key.bytes);
        found.copied()
    }

    /// The place of `key`, unless it is due: then it goes.
    #[inline]
    fn find_live(&mut self, key: Key<'_>) -> Option<u32> {
        let at = self.find(key)?;
        let deadline = self.entries[at].deadline;
        if deadline != NIL && self.wheel.at(deadline) < self.now.unix_ms {
            self.expire(at, key);
            return None;
        }
        Some(at)
    }

    #[cold]
    fn expire(&mut self, at: u32, key: Key<'_>) {
        self.expired += 1;
        self.take_out(at, key);
    }

    /// Begins to load what keys of these hashes need: their places in the table, their entries and blocks.
    pub fn warm(&self, hashes: impl Iterator<Item = u64>) {
        let mut found = [NIL; WARM_MAX];
        for (hash, place) in hashes.zip(&mut found) {
            // The first that could be the key almost always is.
            let first = self.segments[segment_of(hash)].find(inner_hash(hash), |_| true);
            if let Some(&at) = first {
                self.entries.prefetch(at);
                *place = at;
            }
        }
        for at in found {
            if let Some(entry) = self.entries.get(at) {
                entry.prefetch_block();
            }
        }
    }

    #[inline]
    fn value_at(&self, at: u32) -> ValueRef<'_> {
        let entry = &self.entries[at];
        match entry.str() {
            Some(found) => ValueRef::Str(found),
            None => view(&self.values[entry.apart()]),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "it goes round after 17 years")]
    fn used_now(&self) -> u32 {
        (self.now.mono_ms / USED_UNIT_MS) as u32
    }

    #[inline]
    fn touch(&mut self, at: u32, key: Key<'_>) {
        let used = self.used_now();
        self.entries[at].used = used;
        self.policy.touch(&mut self.entries, at);
        self.hot.used(key.bytes, key.hash);
    }

    // ---- reading

    /// The value of `key`. Counts as a use for eviction, and as a hit or a miss. A key that is due is gone.
    #[inline]
    pub fn get(&mut self, key: Key<'_>) -> Option<ValueRef<'_>> {
        let Some(at) = self.find_live(key) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        self.touch(at, key);
        Some(self.value_at(at))
    }

    /// As [`Store::get`], without counting: for a look that is no use (`TYPE`, `OBJECT`, `TTL`, `EXISTS`).
    pub fn peek(&mut self, key: Key<'_>) -> Option<ValueRef<'_>> {
        let at = self.find_live(key)?;
        Some(self.value_at(at))
    }

    /// The string at `key`, as [`Store::get`].
    ///
    /// # Errors
    /// [`StoreError::WrongType`].
    #[inline]
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
        self.peek(key).map(|value| value.kind())
    }

    /// When `key` goes: `None` without such a key, `Some(None)` for never.
    pub fn expires_at(&mut self, key: Key<'_>) -> Option<Option<u64>> {
        let at = self.find_live(key)?;
        Some(self.deadline_of(at))
    }

    fn deadline_of(&self, at: u32) -> Option<u64> {
        let deadline = self.entries[at].deadline;
        (deadline != NIL).then(|| self.wheel.at(deadline))
    }

    // ---- writing

    /// Makes room for a write, by eviction where there is too much: call it before each command that may add.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] where nobody may go.
    #[inline]
    pub fn make_room(&mut self) -> Result<(), StoreError> {
        match self.is_over(0) {
            false => Ok(()),
            true => self.evict(),
        }
    }

    #[inline]
    fn is_over(&self, more: usize) -> bool {
        self.config.memory_max != 0 && (self.used() + more) as u64 > self.config.memory_max
    }

    #[cold]
    fn evict(&mut self) -> Result<(), StoreError> {
        for _ in 0..EVICTIONS_MAX {
            if !self.is_over(0) {
                return Ok(());
            }
            let Some(at) = self.policy.victim(&mut self.entries, self.bytes) else { break };
            let bytes: Box<[u8]> = self.entries[at].key().into();
            let key = Key { bytes: &bytes, hash: self.hasher.hash(&bytes) };
            self.policy.evicted(&self.entries, at, key.hash);
            self.take_out(at, key);
            self.evicted += 1;
        }
        if self.is_over(0) {
            self.refused += 1;
            return Err(StoreError::OutOfMemory);
        }
        Ok(())
    }

    /// A value of `len` bytes that alone is more than all may be.
    fn refuse_giant(&self, key: Key<'_>, len: usize) -> Result<(), StoreError> {
        let alone = ENTRY_BYTES + block_bytes(key.bytes.len()) + len;
        let max = self.config.memory_max;
        if max != 0 && alone as u64 > max { Err(StoreError::OutOfMemory) } else { Ok(()) }
    }

    /// Whether a string of `len` bytes at `key` would not be refused as one that alone is more than all may be.
    pub fn has_room_for_string(&self, key: Key<'_>, len: usize) -> bool {
        let bytes = match len {
            ..SHARE_MIN => len,
            _ => size_of::<Value>() + 8 + block_bytes(len),
        };
        self.refuse_giant(key, bytes).is_ok()
    }

    /// Sets the string at `key`, whatever was there. A decimal of 64 bits in its shortest form is kept as a number.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] for a value that alone is above the maximum; the old one stays.
    #[inline]
    pub fn set_str(&mut self, key: Key<'_>, value: &[u8], expiry: Expiry) -> Result<(), StoreError> {
        if value.len() >= SHARE_MIN {
            return self.insert(key, Value::Bytes(Bytes::copy_from_slice(value)), expiry);
        }
        match canonical(value) {
            Some(number) => self.set_int(key, number, expiry),
            None => self.put(key, Place::Inline, value, expiry),
        }
    }

    /// As [`Store::set_str`], for a number.
    ///
    /// # Errors
    /// As [`Store::set_str`].
    pub fn set_int(&mut self, key: Key<'_>, value: i64, expiry: Expiry) -> Result<(), StoreError> {
        self.put(key, Place::Int, &value.to_le_bytes(), expiry)
    }

    /// Puts what stands behind the key, whatever was there.
    #[inline]
    fn put(&mut self, key: Key<'_>, place: Place, behind: &[u8], expiry: Expiry) -> Result<(), StoreError> {
        self.put_quietly(key, place, behind, expiry)?;
        self.notes.modified(key.bytes);
        Ok(())
    }

    /// As [`Store::put`], and nobody who watches the key hears of it.
    fn put_quietly(
        &mut self,
        key: Key<'_>,
        place: Place,
        behind: &[u8],
        expiry: Expiry,
    ) -> Result<(), StoreError> {
        if place != Place::Apart {
            self.refuse_giant(key, behind.len())?;
        }
        match self.find_live(key) {
            Some(at) => {
                self.drop_value(at);
                self.exchange(at, place, behind);
                self.touch(at, key);
                self.change_expiry(at, expiry);
            }
            None => {
                let mut entry = Entry::new(key.bytes, place, behind);
                entry.used = self.used_now();
                self.bytes += entry.bytes();
                let at = self.entries.insert(entry).map_err(|_| StoreError::OutOfMemory)?;
                let Store { segments, entries, hasher, .. } = self;
                segments[segment_of(key.hash)].insert_unique(inner_hash(key.hash), at, |&at| {
                    inner_hash(hasher.hash(entries[at].key()))
                });
                self.policy.insert(&mut self.entries, at, key.hash);
                if let Expiry::At(_) = expiry {
                    self.change_expiry(at, expiry);
                }
            }
        }
        Ok(())
    }

    fn exchange(&mut self, at: u32, place: Place, behind: &[u8]) {
        let before = self.entries[at].bytes();
        self.entries[at].set(place, behind);
        self.bytes = self.bytes - before + self.entries[at].bytes();
        self.policy.resized(&self.entries, at, before);
    }

    /// Drops a value that is apart; what its entry says of it is wrong then.
    #[inline]
    fn drop_value(&mut self, at: u32) {
        if self.entries[at].place == Place::Apart {
            drop(self.take_value(at));
        }
    }

    fn take_value(&mut self, at: u32) -> Option<Value> {
        let value = self.values.remove(self.entries[at].apart())?;
        self.bytes -= value_bytes(&value);
        Some(value)
    }

    fn change_expiry(&mut self, at: u32, expiry: Expiry) {
        match expiry {
            Expiry::Keep => {}
            Expiry::Never => self.clear_deadline(at),
            Expiry::At(when) => {
                let deadline = self.entries[at].deadline;
                if deadline != NIL {
                    self.wheel.reset(deadline, when);
                } else if let Some(id) = self.wheel.set(when, at) {
                    self.entries[at].deadline = id;
                    self.bytes += RECORD_BYTES;
                }
            }
        }
    }

    #[inline]
    fn clear_deadline(&mut self, at: u32) {
        let deadline = std::mem::replace(&mut self.entries[at].deadline, NIL);
        if deadline != NIL {
            self.wheel.clear(deadline);
            self.bytes -= RECORD_BYTES;
        }
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
        self.edit_str_if(key, |bytes| (edit(bytes), true))
    }

    /// As [`Store::edit_str`], with an `edit` that says, too, whether it changed anything: if not, nobody who watches the key
    /// hears of it.
    ///
    /// # Errors
    /// Those of [`Store::edit_str`].
    pub fn edit_str_if<R>(
        &mut self,
        key: Key<'_>,
        edit: impl FnOnce(&mut Vec<u8>) -> (R, bool),
    ) -> Result<R, StoreError> {
        let at = self.find_live(key);
        let mut bytes = match at.map(|at| self.value_at(at)) {
            None => Vec::new(),
            Some(ValueRef::Str(Str::Int(n))) => n.to_string().into_bytes(),
            Some(ValueRef::Str(Str::Bytes(bytes))) => bytes.to_vec(),
            Some(ValueRef::Str(Str::Shared(_))) => Vec::new(),
            Some(_) => return Err(StoreError::WrongType),
        };
        // Large bytes are changed where they are, unless somebody is being sent them.
        let apart = at.filter(|&at| self.entries[at].place == Place::Apart);
        if let Some(at) = apart
            && let Some(Value::Bytes(large)) = self.take_value(at)
        {
            bytes = large.into();
            self.exchange(at, Place::Inline, b"");
        }
        let (made, is_changed) = edit(&mut bytes);
        if bytes.len() >= SHARE_MIN {
            self.put_apart(key, Value::Bytes(bytes.into()), Expiry::Keep)?;
        } else {
            // What was changed stays bytes, as in Redis.
            self.put_quietly(key, Place::Inline, &bytes, Expiry::Keep)?;
        }
        if is_changed {
            self.notes.modified(key.bytes);
        }
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
        let Some(at) = self.find_live(key) else { return Ok(None) };
        if self.entries[at].place != Place::Apart {
            return Err(StoreError::WrongType);
        }
        let id = self.entries[at].apart();
        let value = &mut self.values[id];
        let before = value_bytes(value);
        let held = T::from_value(value).ok_or(StoreError::WrongType)?;
        let mut held = Edit { value: held, changed: false };
        let made = edit(&mut held);
        let (changed, empty) = (held.changed, held.value.is_empty());
        self.bytes = self.bytes - before + value_bytes(&self.values[id]);
        self.touch(at, key);
        if empty {
            self.take_out(at, key);
        } else if changed {
            self.notes.modified(key.bytes);
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
        if self.find_live(key).is_some() {
            return self.edit(key, edit)?.ok_or(StoreError::WrongType);
        }
        let mut value = Box::<T>::default();
        let made = edit(&mut Edit { value: &mut value, changed: false });
        if !value.is_empty() {
            self.insert(key, value.into_value(), Expiry::Never)?;
        }
        Ok(made)
    }

    /// Puts a whole value at `key`, whatever was there.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] as [`Store::set_str`].
    pub fn insert(&mut self, key: Key<'_>, value: Value, expiry: Expiry) -> Result<(), StoreError> {
        match value {
            Value::Int(number) => return self.set_int(key, number, expiry),
            Value::Bytes(bytes) if bytes.len() < SHARE_MIN => return self.set_str(key, &bytes, expiry),
            _ => {}
        }
        let is_collection = value.kind() != Kind::String;
        self.put_apart(key, value, expiry)?;
        self.notes.modified(key.bytes);
        if is_collection {
            self.notes.ready(key.bytes);
        }
        Ok(())
    }

    /// Puts a value into the slab, quietly.
    fn put_apart(&mut self, key: Key<'_>, value: Value, expiry: Expiry) -> Result<(), StoreError> {
        let bytes = value_bytes(&value);
        self.refuse_giant(key, bytes)?;
        let id = self.values.insert(value).map_err(|_| StoreError::OutOfMemory)?;
        self.bytes += bytes;
        self.put_quietly(key, Place::Apart, &id.to_le_bytes(), expiry)
    }

    /// Sets when `key` goes. One whose moment is over goes at once. False without such a key.
    pub fn set_expiry(&mut self, key: Key<'_>, expires_at: Option<u64>) -> bool {
        let Some(at) = self.find_live(key) else { return false };
        if expires_at.is_some_and(|when| when < self.now.unix_ms) {
            self.take_out(at, key);
            return true;
        }
        self.change_expiry(at, expires_at.map_or(Expiry::Never, Expiry::At));
        self.notes.modified(key.bytes);
        true
    }

    /// Removes `key`; false without such a key.
    pub fn remove(&mut self, key: Key<'_>) -> bool {
        let Some(at) = self.find_live(key) else { return false };
        self.take_out(at, key);
        true
    }

    /// Takes the entry at `at` out, and drops its value.
    fn take_out(&mut self, at: u32, key: Key<'_>) -> Option<Value> {
        let value = match self.entries[at].place {
            Place::Apart => self.take_value(at),
            Place::Inline | Place::Int => None,
        };
        self.clear_deadline(at);
        self.policy.remove(&mut self.entries, at);
        if let Ok(found) =
            self.segments[segment_of(key.hash)].find_entry(inner_hash(key.hash), |&one| one == at)
        {
            found.remove();
        }
        if let Some(entry) = self.entries.remove(at) {
            self.bytes -= entry.bytes();
        }
        self.notes.modified(key.bytes);
        value
    }

    /// Takes `key` out with its value and expiry.
    pub fn take(&mut self, key: Key<'_>) -> Option<Exported> {
        let at = self.find_live(key)?;
        let expires_at = self.deadline_of(at);
        let value = match self.entries[at].str() {
            Some(Str::Int(n)) => Value::Int(n),
            Some(Str::Bytes(bytes)) => Value::Bytes(Bytes::copy_from_slice(bytes)),
            Some(Str::Shared(_)) | None => {
                return self.take_out(at, key).map(|value| Exported { value, expires_at });
            }
        };
        self.take_out(at, key);
        Some(Exported { value, expires_at })
    }

    /// A copy of what is at `key`, in time proportional to its size. Counts nothing.
    pub fn export(&mut self, key: Key<'_>) -> Option<Exported> {
        let at = self.find_live(key)?;
        let value = match self.entries[at].str() {
            Some(Str::Int(n)) => Value::Int(n),
            Some(Str::Bytes(bytes)) => Value::Bytes(Bytes::copy_from_slice(bytes)),
            Some(Str::Shared(_)) | None => self.values[self.entries[at].apart()].clone(),
        };
        Some(Exported { value, expires_at: self.deadline_of(at) })
    }

    /// Removes all keys. What they held is freed in slices by [`Store::work`], and counts until then neither here nor
    /// there.
    pub fn clear(&mut self) {
        self.notes.cleared(self.len() as u64);
        // Only keys that are there are changed by it.
        for key in self.notes.watched() {
            if self.find_live(self.hasher.clone().key(&key)).is_some() {
                self.notes.modified(&key);
            }
        }
        let mut entries = Slab::default();
        let policy = Policy::new(self.config.eviction, &mut entries, self.hasher.hash(b"eviction"));
        self.garbage.push(Garbage {
            entries: std::mem::replace(&mut self.entries, entries),
            values: std::mem::take(&mut self.values),
            wheel: std::mem::replace(&mut self.wheel, Wheel::new(self.now.unix_ms)),
        });
        self.policy = policy;
        self.segments = segments();
        self.bytes = 0;
    }

    // ---- going through

    /// Looks at some keys: about `budget` of them from `cursor` on, 0 at first, and gives the next cursor, 0 at the end.
    /// Every key that is there from the first call to the last is seen at least once: a key stays at its place. Keys
    /// that are due are left out.
    pub fn scan(&mut self, cursor: u64, budget: usize, mut see: impl FnMut(&[u8], ValueRef<'_>)) -> u64 {
        let end = self.entries.end();
        let mut at = u32::try_from(cursor).unwrap_or(NIL).max(SENTINELS);
        // Places without a key cost a step each, too; many of them are passed by in one call.
        const FREE_MAX: usize = 16;
        let (mut left, mut steps) = (budget.max(1), budget.saturating_mul(FREE_MAX).max(FREE_MAX));
        while at < end && left > 0 && steps > 0 {
            steps -= 1;
            if let Some(entry) = self.entries.get(at) {
                left -= 1;
                let is_due = entry.deadline != NIL && self.wheel.at(entry.deadline) < self.now.unix_ms;
                if !is_due {
                    see(entry.key(), self.value_at(at));
                }
            }
            at += 1;
        }
        if at >= end { 0 } else { u64::from(at) }
    }

    /// As [`Store::scan`], with the expiry of each key: for a snapshot.
    pub fn scan_all(
        &mut self,
        cursor: u64,
        budget: usize,
        mut see: impl FnMut(&[u8], ValueRef<'_>, Option<u64>),
    ) -> u64 {
        let mut found = Vec::new();
        let next = self.scan(cursor, budget, |key, _| found.push(Box::<[u8]>::from(key)));
        for key in found {
            let key = self.hasher.key(&key);
            if let Some(at) = self.find(key) {
                see(key.bytes, self.value_at(at), self.deadline_of(at));
            }
        }
        next
    }

    /// Any key that is not due, each as likely as the others or nearly so; `pick` is a random number.
    pub fn random_key(&mut self, pick: u64) -> Option<&[u8]> {
        const TRIES: u64 = 100;
        for n in 0..TRIES {
            let at = policy::any_from(&self.entries, pick.wrapping_add(n))?;
            let key: Box<[u8]> = self.entries[at].key().into();
            let key = self.hasher.key(&key);
            if self.find_live(key).is_some() {
                return Some(self.entries[at].key());
            }
        }
        None
    }

    /// Work that is nobody's: expiry of due keys, freeing. About `budget` steps; true if there is more to do.
    pub fn work(&mut self, budget: usize) -> bool {
        let mut left = budget;
        while let Some(at) = self.wheel.due(self.now.unix_ms, &mut left) {
            let bytes: Box<[u8]> = self.entries[at].key().into();
            let key = self.hasher.key(&bytes);
            self.expire(at, key);
        }
        if let Some(garbage) = self.garbage.last_mut()
            && !(garbage.entries.free_some() || garbage.values.free_some() || garbage.wheel.free_some())
        {
            self.garbage.pop();
        }
        left == 0 || !self.garbage.is_empty()
    }

    /// When [`Store::work`] has the next key to expire, in milliseconds since 1970. Not later than that; it may be
    /// earlier.
    pub fn next_expiry(&self) -> Option<u64> {
        self.wheel.next()
    }

    // ---- what people ask

    /// Bytes that `key` and its value hold (`MEMORY USAGE`).
    pub fn memory_usage(&mut self, key: Key<'_>) -> Option<usize> {
        let at = self.find_live(key)?;
        Some(self.bytes_at(at))
    }

    fn bytes_at(&self, at: u32) -> usize {
        let entry = &self.entries[at];
        let apart = if entry.place == Place::Apart { value_bytes(&self.values[entry.apart()]) } else { 0 };
        entry.bytes() + apart + if entry.deadline == NIL { 0 } else { RECORD_BYTES }
    }

    /// Milliseconds since `key` was used (`OBJECT IDLETIME`), to an eighth of a second.
    pub fn idle_ms(&mut self, key: Key<'_>) -> Option<u64> {
        let at = self.find_live(key)?;
        Some(u64::from(self.used_now().wrapping_sub(self.entries[at].used)) * USED_UNIT_MS)
    }

    /// How often `key` is used: the logarithmic counter of `OBJECT FREQ`, 0 to 255.
    pub fn frequency(&mut self, key: Key<'_>) -> Option<u8> {
        let at = self.find_live(key)?;
        Some(self.policy.frequency(&self.entries[at]))
    }

    /// The keys used most, with estimates of how often since the counting began, most used first.
    pub fn hot_keys(&self) -> Vec<(Box<[u8]>, u64)> {
        self.hot.list()
    }

    // ---- watching

    /// Begins to watch `key`, once more: its version now. Bounded by the caller.
    pub fn watch(&mut self, key: Key<'_>) -> u64 {
        self.find_live(key);
        self.notes.watch(key.bytes)
    }

    /// The version of a key that is watched: another one if it was changed, expired, evicted or removed meanwhile.
    pub fn version(&mut self, key: Key<'_>) -> u64 {
        self.find_live(key);
        self.notes.version(key.bytes)
    }

    /// Ends one watch of `key`.
    pub fn unwatch(&mut self, key: Key<'_>) {
        self.notes.unwatch(key.bytes);
    }

    /// From here on it is noted when a collection is put at `key` where none was ([`Store::take_ready`]), once more.
    /// Bounded by the caller.
    pub fn await_key(&mut self, key: Key<'_>) {
        self.notes.await_key(key.bytes);
    }

    /// Ends one [`Store::await_key`].
    pub fn forget_key(&mut self, key: Key<'_>) {
        self.notes.forget_key(key.bytes);
    }

    /// The next awaited key that has got a collection, in the order of getting.
    pub fn take_ready(&mut self) -> Option<Box<[u8]>> {
        self.notes.take_ready()
    }

    /// Whether [`Store::take_ready`] has one.
    #[inline]
    pub fn has_ready(&self) -> bool {
        self.notes.has_ready()
    }
}
