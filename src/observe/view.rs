//! The numbers of shards as JSON: one shard, and all of them together.
//!
//! Not here: gathering them (`api`, `admin`).

use corelane_net::http1::measure::{Reading, latencies};
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::{Peer, ShardNumbers, ratio, value};
use crate::services::cache::numbers::{CacheNumbers, RespNumbers};

/// Rates and latencies of the last seconds.
///
/// Rates are over `window_s`: a second or a little more on a shard that has work, the time since it last had
/// some otherwise. Latencies are those of the last 10 to 20 seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Recent {
    /// Seconds that the rates are over.
    pub window_s: f64,
    /// Answers a second.
    pub current_qps: f64,
    /// Mean latency, microseconds in the server.
    pub avg_latency_us: f64,
    /// Half of the answers took no longer.
    pub p50_us: f64,
    /// Nine of ten did.
    pub p90_us: f64,
    /// All but one in a hundred.
    pub p99_us: f64,
    /// All but one in a thousand.
    pub p99_9_us: f64,
    /// Bits sent and received, millions a second.
    pub net_mbps: f64,
    /// Bits received.
    pub net_in_mbps: f64,
    /// Bits sent.
    pub net_out_mbps: f64,
    /// Part of the answers with a 5xx status: 0 to 1.
    pub error_rate: f64,
}

impl Recent {
    fn of(latency: &Histogram<u64>, window: &Reading) -> Recent {
        let s = seconds(window.at_ns);
        let rate = |count: u64| if s > 0.0 { round(float(count) / s) } else { 0.0 };
        let us = |ns: u64| round(float(ns) / 1e3);
        let at = |quantile| if latency.is_empty() { 0.0 } else { us(latency.value_at_quantile(quantile)) };
        let mbps = |bytes: u64| round(rate(bytes) * 8.0 / 1e6);
        Recent {
            window_s: round(s),
            current_qps: rate(window.answers),
            avg_latency_us: round(latency.mean() / 1e3),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            net_mbps: mbps(window.bytes_in + window.bytes_out),
            net_in_mbps: mbps(window.bytes_in),
            net_out_mbps: mbps(window.bytes_out),
            error_rate: ratio(window.errors, window.answers),
        }
    }
}

/// One shard.
#[derive(Clone, Debug, Serialize)]
pub struct ShardView {
    /// Its number.
    pub shard: u16,
    /// CPU time of its thread of late: 100 is all of one CPU.
    pub cpu: f64,
    /// Part of the time spent in turns. What the kernel does while the shard goes to sleep is not in it.
    pub busy: f64,
    /// How full the fullest of its maxima is: 0 to 1.
    pub saturation: f64,
    /// Which that is.
    pub saturated_by: &'static str,
    /// HTTP connections open.
    pub active_connections: u64,
    /// Plain TCP connections, in and out.
    pub streams: u64,
    /// Rates and latencies.
    #[serde(flatten)]
    pub recent: Recent,
    /// Request heads since the start.
    pub requests: u64,
    /// Answers since the start.
    pub responses: u64,
    /// Answers with a 5xx status since the start.
    pub errors: u64,
    /// Tasks ready to run.
    pub run_queue: u64,
    /// Tasks alive.
    pub tasks: u64,
    /// Timers set.
    pub timers: u64,
    /// Turns since the start.
    pub turns: u64,
    /// Turns longer than `stall_time`.
    pub stalls: u64,
    /// Turns that slept.
    pub parks: u64,
    /// The length of the turn before, microseconds.
    pub last_turn_us: f64,
    /// Times accept was paused.
    pub accept_paused: u64,
    /// Part of buffer requests served by the tier of their size.
    pub pool_hit_rate: f64,
    /// Pooled buffers lent.
    pub pool_lent: u32,
    /// Bytes of pooled memory in use or kept.
    pub pool_bytes: u64,
    /// Bytes of partial heads and unread input.
    pub inbox_bytes: u64,
    /// Requests to other shards without an answer yet.
    pub credits_in_use: usize,
    /// Requests of other shards that wait here.
    pub lane_depth: usize,
    /// The same by shard.
    pub peers: Vec<Peer>,
    /// Redis clients, where they are listened for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resp: Option<RespView>,
    /// Keys, where there is a cache in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheView>,
}

/// The Redis clients of a shard.
#[derive(Clone, Debug, Serialize)]
pub struct RespView {
    /// Connections open.
    pub connections: u64,
    /// Commands since the start.
    pub commands: u64,
    /// Bytes received since the start.
    pub bytes_in: u64,
    /// Bytes sent since the start.
    pub bytes_out: u64,
    /// Bytes received that no command has used yet.
    pub inbox_bytes: u64,
}

impl RespView {
    fn of(numbers: &RespNumbers) -> RespView {
        RespView {
            connections: numbers.connections,
            commands: value(&numbers.counters, "commands"),
            bytes_in: value(&numbers.counters, "bytes_in"),
            bytes_out: value(&numbers.counters, "bytes_out"),
            inbox_bytes: numbers.inbox_bytes,
        }
    }
}

/// The keys of a shard.
#[derive(Clone, Debug, Serialize)]
pub struct CacheView {
    /// Keys.
    pub keys: u64,
    /// Bytes that keys and values hold.
    pub bytes: u64,
    /// Bytes that they may hold; 0 is no maximum.
    pub bytes_max: u64,
    /// Part of the reads that found their key: 0 to 1.
    pub hit_rate: f64,
    /// Keys that went for memory.
    pub evicted: u64,
    /// Keys that went by time.
    pub expired: u64,
}

impl CacheView {
    fn of(numbers: &CacheNumbers) -> CacheView {
        let of = |name| value(&numbers.counters, name);
        CacheView {
            keys: numbers.keys,
            bytes: numbers.bytes,
            bytes_max: numbers.bytes_max,
            hit_rate: round(ratio(of("hits"), of("hits") + of("misses"))),
            evicted: of("evicted"),
            expired: of("expired"),
        }
    }
}

impl ShardView {
    /// Of these numbers.
    pub fn of(numbers: &ShardNumbers) -> ShardView {
        let (saturated_by, saturation) = numbers.saturation;
        let answers = numbers.answers();
        ShardView {
            shard: numbers.shard,
            cpu: round(numbers.cpu * 100.0),
            busy: round(numbers.busy()),
            saturation: round(saturation),
            saturated_by,
            active_connections: numbers.http1.connections,
            streams: numbers.streams,
            recent: Recent::of(&numbers.http1.recent, &numbers.http1.window),
            requests: numbers.http1("requests"),
            responses: answers.iter().map(|(_, count)| count).sum(),
            errors: answers[3].1,
            run_queue: numbers.run_queue,
            tasks: numbers.tasks,
            timers: numbers.timers,
            turns: numbers.exec("turns"),
            stalls: numbers.exec("stalls"),
            parks: numbers.exec("parks"),
            last_turn_us: round(float(numbers.last_turn_ns) / 1e3),
            accept_paused: numbers.http1("accept_paused"),
            pool_hit_rate: round(numbers.pools.hit_rate()),
            pool_lent: numbers.pools.lent(),
            pool_bytes: numbers.pool_bytes(),
            inbox_bytes: numbers.http1.inbox_bytes,
            credits_in_use: numbers.peers.iter().map(|peer| peer.credits_in_use).sum(),
            lane_depth: numbers.peers.iter().map(|peer| peer.lane_depth).sum(),
            peers: numbers.peers.clone(),
            resp: numbers.resp.as_ref().map(RespView::of),
            cache: numbers.cache.as_ref().map(CacheView::of),
        }
    }
}

impl Serialize for ShardNumbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ShardView::of(self).serialize(serializer)
    }
}

/// All shards that answered.
#[derive(Clone, Debug, Serialize)]
pub struct PerformanceView {
    /// CPU time of the process of late: 100 is all of one CPU.
    pub cpu: f64,
    /// Resident memory of the process, millions of bytes; null where it could not be read.
    pub memory_mb: Option<f64>,
    /// HTTP connections open.
    pub active_connections: u64,
    /// Rates and latencies.
    #[serde(flatten)]
    pub recent: Recent,
    /// Request heads since the start.
    pub requests: u64,
    /// Answers since the start.
    pub responses: u64,
    /// Answers with a 5xx status since the start.
    pub errors: u64,
    /// Shards that did not answer in time: nothing of theirs is in any number here.
    pub silent: Vec<u16>,
    /// Shards that did.
    pub shards: Vec<ShardView>,
}

impl PerformanceView {
    /// Of these shards, and the process they run in.
    pub fn of(
        all: &[ShardNumbers],
        silent: Vec<u16>,
        cpu: f64,
        memory_bytes: Option<u64>,
    ) -> PerformanceView {
        let shards: Vec<ShardView> = all.iter().map(ShardView::of).collect();
        let mut latency = latencies();
        let mut window = Reading::default();
        for numbers in all {
            assert!(latency.add(&numbers.http1.recent).is_ok(), "they have the same bounds");
            window = together(&window, &numbers.http1.window);
        }
        let mut recent = Recent::of(&latency, &window);
        // Each shard has a window of its own, so rates are added, not counts.
        let sum = |of: fn(&Recent) -> f64| round(shards.iter().map(|shard| of(&shard.recent)).sum());
        recent.current_qps = sum(|of| of.current_qps);
        recent.net_mbps = sum(|of| of.net_mbps);
        recent.net_in_mbps = sum(|of| of.net_in_mbps);
        recent.net_out_mbps = sum(|of| of.net_out_mbps);
        PerformanceView {
            cpu: round(cpu * 100.0),
            memory_mb: memory_bytes.map(|bytes| round(float(bytes) / 1e6)),
            active_connections: shards.iter().map(|shard| shard.active_connections).sum(),
            recent,
            requests: shards.iter().map(|shard| shard.requests).sum(),
            responses: shards.iter().map(|shard| shard.responses).sum(),
            errors: shards.iter().map(|shard| shard.errors).sum(),
            silent,
            shards,
        }
    }
}

/// The counts of both, over the longer time.
fn together(a: &Reading, b: &Reading) -> Reading {
    Reading {
        at_ns: a.at_ns.max(b.at_ns),
        answers: a.answers + b.answers,
        errors: a.errors + b.errors,
        bytes_in: a.bytes_in + b.bytes_in,
        bytes_out: a.bytes_out + b.bytes_out,
        busy_ns: a.busy_ns + b.busy_ns,
    }
}

#[expect(clippy::cast_precision_loss, reason = "15 digits are plenty to look at")]
pub(crate) fn float(n: u64) -> f64 {
    n as f64
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(ns: u64) -> f64 {
    float(ns) / 1e9
}

/// Three decimals.
fn round(n: f64) -> f64 {
    (n * 1e3).round() / 1e3
}
