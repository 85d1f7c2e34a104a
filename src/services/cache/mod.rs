//! The keyed store: a cache whose keys are spread over the shards, reached by Redis clients, by HTTP and by handlers.
//!
//! A key belongs to one shard, chosen by a hash of it or of its `{tag}`. Reading order: [`store`] the keys of one
//! shard; [`value`] the kinds of values; [`command`] what can be done with them, one command at a time; `shard` the
//! part that one shard has; `lookahead` the next commands of a pipeline; `batch`, `gather` and `keys` what goes between
//! shards; `locks` and `transaction` several keys as one; `parked` clients that wait for a key; `session` the connections
//! of Redis clients; [`access`] handlers; [`http`] HTTP clients; [`snapshot`] the keys in files; [`upstream`] another
//! server behind this one.
//!
//! # Rules
//! 1. A key is read and written by its own shard only, inside that shard's turn.
//! 2. `store`, `value` and `command` are pure: no sockets, no clock, no lanes.
//!
//! Not here: the bytes of the protocol (`proto-resp`), sockets (`net`).

pub mod access;
mod batch;
pub mod command;
mod gather;
pub mod glob;
pub mod http;
mod keys;
mod locks;
mod lookahead;
pub mod numbers;
mod parked;
pub mod session;
mod shard;
pub mod snapshot;
pub mod store;
mod transaction;
pub mod upstream;
pub mod value;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use corelane_exec::{CallError, Shard, Sharded};
use corelane_net::session::{SessionConfig, Sessions};

use access::Tagger;
pub use shard::CacheShard;
#[cfg(feature = "testing")]
pub(crate) use shard::OwnTime;
use store::{Config, KeyHasher, StoreError};

/// Why the cache did not do what it was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CacheError {
    /// The shard that owns the key did not answer.
    Call(CallError),
    /// A transaction held the key for too long.
    Busy,
    /// The reply was an error: its text, code first.
    Reply(String),
    /// The key has another kind of value, or there is no room for it.
    Store(StoreError),
    /// A key, value or command that nobody may give.
    TooLarge {
        /// How large it is.
        len: u64,
        /// How large it may be.
        max: u64,
    },
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheError::Call(error) => {
                write!(f, "TRYAGAIN The shard of the key was not heard: {error}; try again")
            }
            CacheError::Busy => f.write_str("TRYAGAIN A transaction holds the key; try again"),
            CacheError::Reply(text) => f.write_str(text),
            CacheError::Store(error) => write!(f, "{error}"),
            CacheError::TooLarge { len, max } => write!(f, "ERR {len} is more than a client may give: {max}"),
        }
    }
}

impl std::error::Error for CacheError {}

/// The cache of a node: a handle to the part of each shard. Cheap to clone, may be sent anywhere, used on shards.
#[derive(Clone, Debug)]
pub struct Cache {
    shards: Sharded<CacheShard>,
    tagger: Tagger,
}

impl Cache {
    /// A cache whose shards hold at most `config.memory_max` bytes together, each an equal part. What each shard has is
    /// made when it is first used there. [`Server::cache`](crate::Server::cache) shows it to Redis clients.
    pub fn new(config: Config) -> Cache {
        let hasher = KeyHasher::random();
        let shards = Sharded::new(move |shard| {
            let count = shard.mesh().shards();
            let config = Config { memory_max: config.memory_max.div_ceil(count as u64), ..config };
            CacheShard::new(shard, count, hasher.clone(), config)
        });
        Cache { shards, tagger: Tagger::random() }
    }
}

impl From<Config> for Cache {
    fn from(config: Config) -> Cache {
        Cache::new(config)
    }
}

/// The Redis clients of a node: a cache, and the connections of all shards.
#[derive(Clone, Debug)]
pub(crate) struct Redis {
    cache: Cache,
    everywhere: session::Everywhere,
    settings: session::Settings,
}

/// Bytes of what clients of one shard have sent and no command has used, all together; more where one command may have
/// more. Past it, the connection with the oldest is closed.
const INBOXES_BYTES_MAX: u64 = 256 << 20;

/// Bytes that a connection may have sent beyond the longest command.
const INBOX_SPARE: u64 = 1 << 20;

/// Told to a client that finds no room, in the words of Redis.
const FULL_TEXT: &[u8] = b"-ERR max number of clients reached\r\n";

impl Redis {
    /// Clients of this cache.
    pub(crate) fn new(cache: Cache, settings: session::Settings) -> Redis {
        Redis { cache, everywhere: session::Resp::everywhere(), settings }
    }

    /// The connections of one shard.
    pub(crate) fn start(&self, shard: &Rc<Shard>) -> Rc<Sessions<session::Resp>> {
        let config = SessionConfig {
            full_text: Some(FULL_TEXT),
            peers: true,
            inbox_bytes_max: u64::from(self.settings.limits.command_bytes_max) + INBOX_SPARE,
            inboxes_bytes_max: Some(u64::from(self.settings.limits.command_bytes_max).max(INBOXES_BYTES_MAX)),
            ..SessionConfig::default()
        };
        let resp = session::Resp::new(shard, &self.cache, self.everywhere.clone(), self.settings.clone());
        self.cache.begin(shard);
        Sessions::start(shard, resp, config)
    }
}

impl Cache {
    /// Starts the work of a shard that is nobody's: expiry and freeing. Once.
    fn begin(&self, shard: &Rc<Shard>) {
        let here = self.shards.of(shard);
        if !here.is_first_use() {
            return;
        }
        numbers::show(shard, Rc::clone(&here));
        let of = Rc::clone(shard);
        let work = shard.spawn(async move {
            loop {
                if here.work(&of) {
                    corelane_exec::yield_now().await;
                } else {
                    corelane_exec::sleep(Duration::from_millis(here.rest_ms(&of))).await;
                }
            }
        });
        match work {
            Ok(task) => task.detach(),
            Err(full) => {
                tracing::error!(%full, "no task is free for the expiry of keys: they go when asked for")
            }
        }
    }
}
