//! What the cache of a shard and its Redis clients tell of themselves: for metrics, `/api/performance`, `/connections`.
//!
//! Not here: their names for Prometheus (`admin`), `INFO` (`session`).

use std::cell::RefCell;
use std::rc::Rc;

use corelane_exec::Shard;
use corelane_net::session::{Facts, Sessions};

use super::session::Resp;
use super::shard::CacheShard;

/// A counter: its name and value.
type Counter = (&'static str, u64);

/// The caches of a shard: one, in a node.
#[derive(Default)]
struct Caches(RefCell<Vec<Rc<CacheShard>>>);

/// From here on the keys of `here` are in the numbers of its shard.
pub(super) fn show(shard: &Shard, here: Rc<CacheShard>) {
    shard.local(Caches::default).0.borrow_mut().push(here);
}

/// The keys of one shard.
#[derive(Clone, Debug, Default)]
pub struct CacheNumbers {
    /// Keys.
    pub keys: u64,
    /// Keys with an expiry.
    pub expires: u64,
    /// Bytes that keys and values hold, by the cache's own count.
    pub bytes: u64,
    /// Bytes that they may hold; 0 is no maximum.
    pub bytes_max: u64,
    /// Clients that wait for a key of this shard.
    pub parked: u64,
    /// Keys that transactions hold.
    pub locked: u64,
    /// What only grows, until `CONFIG RESETSTAT`.
    pub counters: Vec<Counter>,
}

/// The Redis clients of one shard.
#[derive(Clone, Debug, Default)]
pub struct RespNumbers {
    /// Connections open.
    pub connections: u64,
    /// Bytes received that no command has used yet.
    pub inbox_bytes: u64,
    /// What was said to connections and is not delivered yet.
    pub posts_waiting: u64,
    /// What only grows.
    pub counters: Vec<Counter>,
}

/// Of the cache; none where nobody has used it.
pub fn cache(shard: &Shard) -> Option<CacheNumbers> {
    let caches = shard.local(Caches::default);
    let caches = caches.0.borrow();
    if caches.is_empty() {
        return None;
    }
    let mut all = CacheNumbers::default();
    let (mut hits, mut misses, mut evicted, mut expired, mut refused) = (0, 0, 0, 0, 0);
    for here in caches.iter() {
        let store = here.store.borrow();
        let stats = store.stats();
        all.keys += stats.keys;
        all.expires += stats.expires;
        all.bytes += stats.bytes;
        all.bytes_max += store.config().memory_max;
        all.parked += here.parked.borrow().len() as u64;
        all.locked += here.locks.borrow().len() as u64;
        hits += stats.hits;
        misses += stats.misses;
        evicted += stats.evicted;
        expired += stats.expired;
        refused += stats.refused;
    }
    all.counters = vec![
        ("hits", hits),
        ("misses", misses),
        ("evicted", evicted),
        ("expired", expired),
        ("refused", refused),
    ];
    Some(all)
}

/// Of the Redis clients; none where nobody listens for them.
pub fn resp(shard: &Shard) -> Option<RespNumbers> {
    let sessions = Sessions::<Resp>::of(shard)?;
    let mut counters = sessions.stats.list();
    let (commands, too_slow) = sessions.protocol().counts();
    counters.extend([("commands", commands), ("subscribers_dropped", too_slow)]);
    Some(RespNumbers {
        connections: sessions.len() as u64,
        inbox_bytes: sessions.inbox_bytes(),
        posts_waiting: sessions.posts_waiting() as u64,
        counters,
    })
}

/// How many Redis clients a shard has, and at most `max` of them.
pub fn clients(shard: &Shard, max: usize) -> (usize, Vec<Facts>) {
    let Some(sessions) = Sessions::<Resp>::of(shard) else { return (0, Vec::new()) };
    let mut found = Vec::new();
    sessions.each(shard, |_, _, facts| {
        if found.len() < max {
            found.push(*facts);
        }
    });
    (sessions.len(), found)
}
