//! What a shard shows of itself: its numbers at one moment, and the facts that stand from its start.
//!
//! A shard is the only one that writes its counters. Whoever wants to read them has the shard copy them out, in
//! one of its turns: the admin listener by a message to its mailbox, a handler on another shard by a call over
//! the mesh.
//!
//! # Rules
//! 1. Reading costs a shard about 20 us of one turn, and allocates. Readers ask now and then, not per request.
//! 2. A shard that does not answer in time is left out and named: no reader waits for it.
//!
//! Not here: the counting (`exec`, `net`, `pools`), names for Prometheus (`admin`).

mod api;
mod meter;
mod view;

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use corelane_base::KernelStats;
use corelane_exec::Shard;
use corelane_net::http1::measure::{self, Http1Numbers};
use corelane_net::stream::Streams;

use crate::services::cache::numbers::{self, CacheNumbers, RespNumbers};

pub use api::routes;
pub use meter::CpuMeter;
pub use view::{CacheView, PerformanceView, Recent, RespView, ShardView};
pub(crate) use view::{float, seconds};

/// A counter: its name and value.
pub type Counter = (&'static str, u64);

/// What is known of a node from its start.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Seconds since 1970 when it started.
    pub started_unix_s: u64,
    /// The same on the clock of the shards, monotonic nanoseconds.
    pub started_ns: u64,
    /// The kernel's release.
    pub kernel: (u32, u32),
    /// Where it listens.
    pub listeners: Vec<String>,
    /// Where its admin interface listens, if it does.
    pub admin: Option<SocketAddr>,
}

impl NodeFacts {
    /// Of a node that starts now.
    // The wall clock is read once, to be shown.
    #[allow(clippy::disallowed_methods)]
    pub fn now(listeners: Vec<String>, admin: Option<SocketAddr>) -> NodeFacts {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        NodeFacts {
            started_unix_s: unix.map_or(0, |since| since.as_secs()),
            started_ns: corelane_sys::clock::mono_ns(),
            kernel: corelane_sys::kernel::release(),
            listeners,
            admin,
        }
    }
}

/// What is known of a shard from its start.
#[derive(Clone, Debug, Default)]
pub struct ShardFacts {
    /// Its node.
    pub node: Arc<NodeFacts>,
    /// What gives it its thread, as the configuration names it.
    pub host: &'static str,
    /// The CPU it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// The memory node of that CPU, where there is a choice.
    pub numa_node: Option<usize>,
    /// What its ring can do.
    pub ring: String,
    /// What its ring lacks.
    pub lacks: Vec<String>,
}

/// What this module keeps on a shard.
#[derive(Default)]
struct Kept {
    facts: OnceCell<Arc<ShardFacts>>,
    meter: OnceCell<CpuMeter>,
}

impl Kept {
    fn of(shard: &Shard) -> Rc<Kept> {
        shard.local(Kept::default)
    }

    /// The CPU time of this shard's thread.
    fn meter(&self, shard: &Shard) -> &CpuMeter {
        self.meter.get_or_init(|| CpuMeter::new(shard.now().mono_ns, corelane_sys::kernel::thread_cpu_ns()))
    }
}

/// Tells a shard what it may show of itself. Call it once, on the shard's thread, when its ring stands.
pub fn introduce(shard: &Shard, facts: ShardFacts) {
    let kept = Kept::of(shard);
    kept.meter(shard);
    // A second introduction changes nothing.
    let _ = kept.facts.set(Arc::new(facts));
}

/// What a shard was told about itself; empty where nobody told it (tests without a node).
pub fn facts(shard: &Shard) -> Arc<ShardFacts> {
    Kept::of(shard).facts.get().cloned().unwrap_or_default()
}

/// What a shard has under way with one other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Peer {
    /// The other.
    pub shard: u16,
    /// Requests to it that have no answer yet.
    pub credits_in_use: usize,
    /// Calls that wait for a credit.
    pub waiting: usize,
    /// Its requests that wait to be taken here.
    pub lane_depth: usize,
}

/// The numbers of one shard at one moment: plain data that any thread may have.
#[derive(Clone, Debug)]
pub struct ShardNumbers {
    /// Which.
    pub shard: u16,
    /// What it was told about itself.
    pub facts: Arc<ShardFacts>,
    /// When, monotonic nanoseconds.
    pub now_ns: u64,
    /// CPU time of its thread, nanoseconds.
    pub cpu_ns: u64,
    /// CPU it used of late, as a part of one.
    pub cpu: f64,
    /// Counters of its turns.
    pub exec: Vec<Counter>,
    /// Counters of its calls to and from others.
    pub mesh: Vec<Counter>,
    /// Counters of its kernel.
    pub kernel: KernelStats,
    /// Tasks ready to run.
    pub run_queue: u64,
    /// Tasks alive.
    pub tasks: u64,
    /// Timers set.
    pub timers: u64,
    /// Plain TCP connections, in and out, upgraded ones among them.
    pub streams: u64,
    /// How long the turn before took, nanoseconds.
    pub last_turn_ns: u64,
    /// Every other shard.
    pub peers: Vec<Peer>,
    /// Its memory pools.
    pub pools: corelane_pools::Stats,
    /// Its HTTP/1.1 connections.
    pub http1: Http1Numbers,
    /// Its Redis clients, if it has such.
    pub resp: Option<RespNumbers>,
    /// Its keys, if it has such.
    pub cache: Option<CacheNumbers>,
    /// What is fullest of all that has a maximum, and how full: 0 to 1.
    pub saturation: (&'static str, f64),
}

impl ShardNumbers {
    /// Copies them out, on the shard, inside a turn of it. Not from within an inline handler.
    pub fn collect(shard: &Shard) -> ShardNumbers {
        let mesh = corelane_exec::mesh();
        let here = mesh.here();
        let peers = mesh.all().filter(|&other| other != here).map(|other| {
            let (credits_in_use, waiting) = mesh.under_way(other);
            Peer { shard: other.0, credits_in_use, waiting, lane_depth: mesh.lane_depth(other) }
        });
        let (now_ns, cpu_ns) = (shard.now().mono_ns, corelane_sys::kernel::thread_cpu_ns());
        let mut numbers = ShardNumbers {
            shard: shard.id().0,
            facts: facts(shard),
            now_ns,
            cpu_ns,
            cpu: Kept::of(shard).meter(shard).used(now_ns, cpu_ns),
            exec: shard.stats.list(),
            mesh: shard.mesh_stats.list(),
            kernel: shard.kernel_stats(),
            run_queue: shard.run_queue() as u64,
            tasks: shard.tasks_alive() as u64,
            timers: shard.timers_set() as u64,
            streams: Streams::of(shard).len() as u64,
            last_turn_ns: shard.last_turn_ns(),
            peers: peers.collect(),
            pools: shard.pools().stats(),
            http1: measure::numbers(shard),
            resp: numbers::resp(shard),
            cache: numbers::cache(shard),
            saturation: ("nothing", 0.0),
        };
        numbers.saturation = numbers.fullest(shard.limits());
        numbers
    }

    /// A counter of its turns.
    pub fn exec(&self, name: &str) -> u64 {
        value(&self.exec, name)
    }

    /// A counter of its HTTP/1.1 connections.
    pub fn http1(&self, name: &str) -> u64 {
        value(&self.http1.counters, name)
    }

    /// Answers by the first digit of their status, 101 among those of 2.
    pub fn answers(&self) -> [(&'static str, u64); 4] {
        let of = |name| self.http1(name);
        [
            ("2xx", of("responses_2xx")),
            ("3xx", of("responses_3xx")),
            ("4xx", of("responses_4xx")),
            ("5xx", of("responses_5xx")),
        ]
    }

    /// Bytes of pooled memory that are lent, or were and have not been given back to the kernel.
    pub fn pool_bytes(&self) -> u64 {
        let tier = |tier: &corelane_pools::TierStats| u64::from(tier.lent + tier.idle) * tier.slot_len as u64;
        self.pools.tiers.iter().map(tier).sum::<u64>() + self.pools.heap.bytes
    }

    /// Part of the last second that was spent in turns.
    pub fn busy(&self) -> f64 {
        ratio(self.http1.window.busy_ns, self.http1.window.at_ns).min(1.0)
    }

    fn fullest(&self, limits: &corelane_base::Limits) -> (&'static str, f64) {
        let credits = self.peers.iter().map(|peer| peer.credits_in_use).max().unwrap_or(0) as u64;
        let parts = [
            ("cpu", self.cpu.max(self.busy()).min(1.0)),
            ("connections_max", ratio(self.http1.connections + self.streams, limits.connections_max)),
            (
                "connections_max",
                ratio(self.resp.as_ref().map_or(0, |of| of.connections), limits.connections_max),
            ),
            ("tasks_max", ratio(self.tasks, limits.tasks_max)),
            ("mesh_credits", ratio(credits, limits.mesh_credits)),
            ("pool_heap_bytes_max", ratio(self.pools.heap.bytes, limits.pool_heap_bytes_max)),
            ("inbox_bytes_max", ratio(self.http1.inbox_bytes, limits.inbox_bytes_max)),
        ];
        parts.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("nothing", 0.0))
    }
}

fn value(counters: &[Counter], name: &str) -> u64 {
    counters.iter().find(|(of, _)| *of == name).map_or(0, |(_, value)| *value)
}

/// `part / whole`; 0 where there is no whole.
#[expect(clippy::cast_precision_loss, reason = "a ratio to 15 digits is plenty")]
pub(crate) fn ratio(part: u64, whole: impl Into<u64>) -> f64 {
    let whole: u64 = whole.into();
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
