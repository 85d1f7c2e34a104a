//! Access from code on a shard: what a handler asks the cache, and gets as values of Rust.
//!
//! A key of this shard is read and written at once, inside the turn. A key of another shard costs one message there and
//! back, with a deadline (`Limits::call_time`). A key that a transaction holds is waited for, half as long.
//!
//! ```
//! use corelane::cache::{Condition, SetOptions};
//! use corelane::testing::TestServer;
//! use corelane::{App, Cache, CacheConfig, CacheError, OwnedRequest};
//! use std::time::Duration;
//!
//! async fn page(request: OwnedRequest<Cache>) -> Result<Vec<u8>, CacheError> {
//!     let cache = request.state();
//!     if let Some(found) = cache.get("page").await? {
//!         return Ok(found.to_vec());
//!     }
//!     let made = "made with much effort"; // where two are at it, the first one's is kept
//!     let options = SetOptions::new().ttl(Duration::from_secs(60)).only_if(Condition::Absent);
//!     cache.set("page", made, options).await?;
//!     cache.increment("pages made", 1).await?;
//!     Ok(made.into())
//! }
//!
//! async fn made(request: OwnedRequest<Cache>) -> Result<String, CacheError> {
//!     let made = request.state().run(&["GET", "pages made"]).await?; // any command on keys
//!     Ok(String::from_utf8_lossy(made.as_bytes().unwrap_or(b"0")).into_owned())
//! }
//!
//! let cache = Cache::new(CacheConfig::default()); // Server::cache(cache.clone()) shows it to Redis clients, too
//! let server = TestServer::new(|_| App::new(cache).get_async("/", page).get_async("/made", made));
//! assert_eq!(server.get("/").text(), "made with much effort");
//! assert_eq!(server.get("/").text(), "made with much effort");
//! assert_eq!(server.get("/made").text(), "1");
//! ```
//!
//! # Rules
//! 1. Each call is atomic: what a condition saw is still so when the write happens.
//! 2. Strings of 16 KiB and more are shared, not copied: what [`Cache::get`] gives stays as it was, whatever happens to
//!    the key. One that was given as a part of a larger `Bytes` keeps all of that alive.
//! 3. All of it panics outside a shard, as `corelane::mesh` does.
//!
//! Reading order: here one key; `run` commands; [`Value`] what they give.
//!
//! Not here: HTTP (`http`), Redis clients (`session`).

mod run;
#[cfg(test)]
mod tests;
mod value;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use corelane_exec::{Message, Shard, current};
use corelane_http::{IntoResponse, Reject, Response};

use super::command::parse;
use super::shard::CacheShard;
use super::store::{Expiry, Key, Now, Store, StoreError};
use super::value::{Str, Value as Stored, ValueRef};
use super::{Cache, CacheError, locks};
pub use value::Value;

/// Bytes of a key or a value at most, as of an argument of a Redis client where nobody says otherwise.
pub const BYTES_MAX: usize = 64 << 20;

/// Parts of `Limits::call_time` that a lock is waited for: one of two, so that whoever asked from another shard hears of it.
const LOCK_PART: u32 = 2;

/// Which value a string has, without the string: equal for equal bytes, and for others not but by a chance of one in
/// 2^64. Good for as long as the node runs.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Tag {
    len: u64,
    hash: u64,
}

impl Tag {
    /// As it stands in an `ETag` field, without the quotes.
    pub(super) fn text(self) -> String {
        format!("{:x}-{:016x}", self.len, self.hash)
    }
}

/// Makes tags, by a secret of its own: what a tag shows of it must say nothing about where keys are.
#[derive(Clone)]
pub(super) struct Tagger(ahash::RandomState);

impl std::fmt::Debug for Tagger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tagger")
    }
}

impl Tagger {
    pub(super) fn random() -> Tagger {
        // The process draws one secret for all `ahash` states; this one is of the system's own random numbers.
        use std::hash::{BuildHasher, RandomState};
        let drawn = RandomState::new();
        let [a, b, c, d] = [1_u64, 2, 3, 4].map(|n| drawn.hash_one(n));
        Tagger(ahash::RandomState::with_seeds(a, b, c, d))
    }

    /// In time proportional to the length: some 10 GB/s.
    pub(super) fn tag(&self, bytes: &[u8]) -> Tag {
        Tag { len: bytes.len() as u64, hash: self.0.hash_one(bytes) }
    }

    pub(super) fn tag_of(&self, value: Str<'_>) -> Tag {
        match value {
            Str::Int(n) => self.tag(n.to_string().as_bytes()),
            Str::Bytes(bytes) => self.tag(bytes),
            Str::Shared(bytes) => self.tag(bytes),
        }
    }
}

/// When a string is set at all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Condition {
    /// Whatever is there.
    #[default]
    Always,
    /// There is no such key (`NX`).
    Absent,
    /// There is one, of any kind (`XX`).
    Present,
    /// It is a string, and has this tag.
    Matches(Tag),
}

/// How a string is set. Plain, it replaces what is there, and stays.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SetOptions {
    expiry: Keeps,
    condition: Condition,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Keeps {
    #[default]
    Forever,
    For(Duration),
    AsBefore,
}

impl SetOptions {
    /// Without a condition and without an end.
    pub fn new() -> SetOptions {
        SetOptions::default()
    }

    /// The key goes after `ttl`; milliseconds, at least one.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> SetOptions {
        SetOptions { expiry: Keeps::For(ttl), ..self }
    }

    /// The key goes when it would have gone before (`KEEPTTL`).
    #[must_use]
    pub fn keep_ttl(self) -> SetOptions {
        SetOptions { expiry: Keeps::AsBefore, ..self }
    }

    /// Only then.
    #[must_use]
    pub fn only_if(self, condition: Condition) -> SetOptions {
        SetOptions { condition, ..self }
    }

    fn expiry(self, now: Now) -> Expiry {
        match self.expiry {
            Keeps::Forever => Expiry::Never,
            Keeps::For(ttl) => Expiry::At(after(now, ttl)),
            Keeps::AsBefore => Expiry::Keep,
        }
    }
}

/// What became of a [`Cache::set`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetOutcome {
    /// There was no such key.
    Created,
    /// There was one.
    Replaced,
    /// Its condition was not met: all is as before.
    Unmet,
}

/// How long a key stays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ttl {
    /// It does not go by time.
    Never,
    /// It goes after this, to the millisecond.
    Left(Duration),
}

/// A string, and what is known of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The string.
    pub value: Bytes,
    /// How long it stays.
    pub ttl: Ttl,
    /// Which it is, for [`Condition::Matches`].
    pub tag: Tag,
}

/// The end of `ttl` from `now` on, in milliseconds since 1970: what Redis can say of it fits into 63 bits.
pub(super) fn after(now: Now, ttl: Duration) -> u64 {
    let ms = u64::try_from(ttl.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX).max(1);
    now.unix_ms.saturating_add(ms).min(i64::MAX.unsigned_abs())
}

pub(super) fn bytes_of(value: Str<'_>) -> Bytes {
    match value {
        Str::Int(n) => Bytes::from(n.to_string()),
        Str::Bytes(bytes) => Bytes::copy_from_slice(bytes),
        Str::Shared(bytes) => bytes.clone(),
    }
}

/// How long the key at hand stays.
pub(super) fn ttl_of(store: &mut Store, key: Key<'_>) -> Option<Ttl> {
    let now_ms = store.now().unix_ms;
    let ttl = store.expires_at(key)?;
    Some(ttl.map_or(Ttl::Never, |at| Ttl::Left(Duration::from_millis(at.saturating_sub(now_ms)))))
}

fn check_len(bytes: &[u8]) -> Result<(), CacheError> {
    if bytes.len() > BYTES_MAX {
        return Err(CacheError::TooLarge { len: bytes.len() as u64, max: BYTES_MAX as u64 });
    }
    Ok(())
}

/// Sets a string as `options` say.
pub(super) fn set_in(
    store: &mut Store,
    key: Key<'_>,
    value: Bytes,
    options: SetOptions,
    tagger: &Tagger,
) -> Result<SetOutcome, StoreError> {
    store.make_room()?;
    let found = store.peek(key);
    let is_met = match (options.condition, found) {
        (Condition::Always, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
        (Condition::Matches(tag), Some(ValueRef::Str(found))) => tagger.tag_of(found) == tag,
        (Condition::Absent | Condition::Present | Condition::Matches(_), _) => false,
    };
    let outcome = if found.is_some() { SetOutcome::Replaced } else { SetOutcome::Created };
    if !is_met {
        return Ok(SetOutcome::Unmet);
    }
    let expiry = options.expiry(store.now());
    store.insert(key, Stored::Bytes(value), expiry)?;
    Ok(outcome)
}

/// To a shard: its keys are in use.
struct Begin(Cache);

impl Message for Begin {
    type Reply = ();

    fn handle(self, shard: &Rc<Shard>) {
        self.0.begin(shard);
    }
}

impl CacheShard {
    /// Does `f` to a key of this shard, unless a transaction holds it: then `f` comes back.
    pub(super) fn try_on<R, F>(&self, shard: &Shard, key: &[u8], f: F) -> Result<R, F>
    where
        F: FnOnce(&mut Store, Key<'_>) -> R,
    {
        let is_barred = {
            let locks = self.locks.borrow();
            !locks.is_empty() && locks.bars(key, 0)
        };
        if is_barred {
            return Err(f);
        }
        self.set_now(shard);
        let done = f(&mut self.store.borrow_mut(), self.key(key));
        self.serve_parked();
        Ok(done)
    }

    /// As [`CacheShard::try_on`], once no transaction holds the key.
    async fn on_free<R, F>(self: Rc<Self>, shard: Rc<Shard>, key: Box<[u8]>, f: F) -> Result<R, CacheError>
    where
        F: FnOnce(&mut Store, Key<'_>) -> R,
    {
        let time = shard.limits().call_time / LOCK_PART;
        let keys = [key];
        corelane_exec::timeout(time, locks::wait_free(&self.locks, &keys))
            .await
            .map_err(|_elapsed| CacheError::Busy)?;
        // It is free when the wait returns, and nothing came between.
        self.try_on(&shard, &keys[0], f).map_err(|_f| CacheError::Busy)
    }
}

impl Cache {
    /// The part of `shard`. From the first use on, keys that are due are removed, on all shards: a command over several may
    /// put keys where nobody has come yet.
    pub(super) fn here(&self, shard: &Rc<Shard>) -> Rc<CacheShard> {
        let here = self.shards.of(shard);
        if !here.has_begun() {
            self.begin(shard);
            let mesh = shard.mesh();
            for other in mesh.all().filter(|other| *other != mesh.here()) {
                // One that is not reached begins with its own first use.
                let _ = mesh.cast(other, Begin(self.clone()));
            }
        }
        here
    }

    /// Does `f` to `key`, on the shard that owns it.
    pub(super) async fn on<R, F>(&self, key: &[u8], f: F) -> Result<R, CacheError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Store, Key<'_>) -> R + Send + 'static,
    {
        check_len(key)?;
        let shard = current();
        let here = self.here(&shard);
        let owner = here.owner(here.key(key));
        if owner == here.here() {
            return match here.try_on(&shard, key, f) {
                Ok(done) => Ok(done),
                Err(f) => here.on_free(shard, key.into(), f).await,
            };
        }
        let (cache, owned) = (self.clone(), Box::<[u8]>::from(key));
        let call = shard.mesh().with(owner, move |shard| {
            let here = cache.here(shard);
            here.try_on(shard, &owned, f).map_err(|f| (owned, f))
        });
        match call.await? {
            Ok(done) => Ok(done),
            Err((key, f)) => {
                let cache = self.clone();
                let call = shard.mesh().run(owner, move |shard| {
                    let (here, shard) = (cache.here(shard), Rc::clone(shard));
                    here.on_free(shard, key, f)
                });
                call.await?
            }
        }
    }

    /// The string at `key`.
    ///
    /// # Errors
    /// [`CacheError::Store`] for a key of another kind; [`CacheError::Call`], [`CacheError::Busy`]: try again.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, CacheError> {
        let get = |store: &mut Store, key: Key<'_>| Ok(store.get_str(key)?.map(bytes_of));
        self.on(key.as_ref(), get).await?.map_err(CacheError::Store)
    }

    /// The string at `key` with its expiry and its tag. The tag costs time in proportion to the length.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub async fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>, CacheError> {
        let get = |store: &mut Store, key: Key<'_>| {
            let Some(value) = store.get_str(key)?.map(bytes_of) else { return Ok(None) };
            Ok(Some((value, ttl_of(store, key).unwrap_or(Ttl::Never))))
        };
        let found = self.on(key.as_ref(), get).await?.map_err(CacheError::Store)?;
        Ok(found.map(|(value, ttl)| Entry { tag: self.tag(&value), value, ttl }))
    }

    /// The tag that a string of these bytes has.
    pub fn tag(&self, bytes: &[u8]) -> Tag {
        self.tagger.tag(bytes)
    }

    /// Sets the string at `key`, whatever kind was there.
    ///
    /// # Errors
    /// [`CacheError::Store`] without room; [`CacheError::TooLarge`] past [`BYTES_MAX`]; else as [`Cache::get`].
    pub async fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        options: SetOptions,
    ) -> Result<SetOutcome, CacheError> {
        let (value, tagger) = (value.into(), self.tagger.clone());
        check_len(&value)?;
        let set = move |store: &mut Store, key: Key<'_>| set_in(store, key, value, options, &tagger);
        self.on(key.as_ref(), set).await?.map_err(CacheError::Store)
    }

    /// Removes `key`; false where there was none.
    ///
    /// # Errors
    /// [`CacheError::Call`], [`CacheError::Busy`]: try again.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, CacheError> {
        self.on(key.as_ref(), |store, key| store.remove(key)).await
    }

    /// Has `key` go after `ttl`: milliseconds, at least one. False where there is no such key.
    ///
    /// # Errors
    /// As [`Cache::delete`].
    pub async fn expire(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool, CacheError> {
        let expire = move |store: &mut Store, key: Key<'_>| {
            let at = after(store.now(), ttl);
            store.set_expiry(key, Some(at))
        };
        self.on(key.as_ref(), expire).await
    }

    /// Has `key` stay. False where there is no such key, or it would have stayed.
    ///
    /// # Errors
    /// As [`Cache::delete`].
    pub async fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool, CacheError> {
        let persist = |store: &mut Store, key: Key<'_>| {
            let expires = store.expires_at(key).flatten().is_some();
            expires && store.set_expiry(key, None)
        };
        self.on(key.as_ref(), persist).await
    }

    /// How long `key` stays, of whatever kind; `None` where there is no such key.
    ///
    /// # Errors
    /// As [`Cache::delete`].
    pub async fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Option<Ttl>, CacheError> {
        self.on(key.as_ref(), ttl_of).await
    }

    /// Adds `by` to the number at `key`, from 0 where there is none: what it is then. Its expiry stays.
    ///
    /// # Errors
    /// [`CacheError::Reply`] for a string that is no number, and past 64 bits; else as [`Cache::set`].
    pub async fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, CacheError> {
        let add = move |store: &mut Store, key: Key<'_>| {
            store.make_room().map_err(CacheError::Store)?;
            let before = match store.peek(key) {
                None => Some(0),
                Some(ValueRef::Str(Str::Int(n))) => Some(n),
                Some(ValueRef::Str(Str::Bytes(bytes))) => parse::integer(bytes),
                Some(ValueRef::Str(Str::Shared(_))) => None,
                Some(_) => return Err(CacheError::Store(StoreError::WrongType)),
            };
            let before = before.ok_or_else(|| CacheError::Reply(parse::NOT_INTEGER.to_owned()))?;
            let Some(after) = before.checked_add(by) else {
                return Err(CacheError::Reply("ERR increment or decrement would overflow".to_owned()));
            };
            store.set_int(key, after, Expiry::Keep).map_err(CacheError::Store)?;
            Ok(after)
        };
        self.on(key.as_ref(), add).await?
    }
}

/// 503 where the shard was not heard or the key was held, 409 for a key of another kind, 507 without room, 413 for what is
/// too large, 500 for the rest.
impl From<CacheError> for Reject {
    fn from(error: CacheError) -> Reject {
        let status = match &error {
            CacheError::Call(error) => return Reject::from(*error),
            CacheError::Busy => 503,
            CacheError::Store(StoreError::WrongType) => 409,
            CacheError::Store(StoreError::OutOfMemory) => 507,
            CacheError::TooLarge { .. } => 413,
            CacheError::Reply(_) => 500,
        };
        Reject::new(status, error.to_string())
    }
}

/// As [`Reject`] has it; what is worth trying again says after how many seconds.
impl IntoResponse for CacheError {
    fn into_response(self) -> Response {
        let response = Reject::from(self).into_response();
        if response.status == 503 { response.header("retry-after", &b"1"[..]) } else { response }
    }
}
