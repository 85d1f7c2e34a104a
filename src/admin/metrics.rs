//! The numbers of a node as Prometheus reads them.
//!
//! The text is written by `prometheus-client`, which speaks OpenMetrics; who does not ask for that gets the older
//! text format 0.0.4, made from it line by line. What each series means stands in `docs/METRICS.md` only: the
//! `# HELP` lines are its table.
//!
//! # Rules
//! 1. Series grow with the number of shards, never with its square, and never with what clients send.
//! 2. A shard that is silent has `corelane_shard_up` 0 and no other series: not zeros.
//!
//! Not here: asking shards (`ask`).

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use corelane_net::http1::measure::SizeCounts;
use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::ask::Said;
use crate::observe::{Counter, ShardNumbers, float, seconds};
use crate::services::cache::numbers::{CacheNumbers, RespNumbers};

/// Bounds of latencies, nanoseconds: 10 us to 60 s, three a decade.
const LATENCY_BOUNDS_NS: [u64; 21] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    50_000_000_000,
];

/// Bounds of sizes, as powers of two: 64 bytes to 64 MiB.
const SIZE_BOUNDS: [usize; 11] = [6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26];

const TIERS: [&str; 3] = ["small", "medium", "large"];

/// Counters of HTTP connections that have a name of their own.
const TOLD_ELSEWHERE: [&str; 4] = ["responses_2xx", "responses_3xx", "responses_4xx", "responses_5xx"];

/// Of the whole process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) uptime_ns: u64,
    pub(super) cpu_ns: u64,
    /// CPU of late, as a part of one.
    pub(super) cpu: f64,
    pub(super) memory_bytes: Option<u64>,
    pub(super) kernel: (u32, u32),
}

/// What was found out.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) shards: Vec<Said<ShardNumbers>>,
    pub(super) process: Process,
}

/// Whether a value of `Accept` asks for OpenMetrics.
pub(super) fn is_openmetrics(accept: &str) -> bool {
    accept.split(',').any(|part| {
        let mut words = part.split(';').map(str::trim);
        let is_it = words.next() == Some("application/openmetrics-text");
        let refused = words.any(|word| matches!(word.strip_prefix("q="), Some("0" | "0.0")));
        is_it && !refused
    })
}

/// The type of the text, and the text.
pub(super) fn text(scrape: Scrape, openmetrics: bool) -> Result<(&'static str, String), fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::with_capacity(64 << 10);
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(if openmetrics {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", older(&text))
    })
}

/// OpenMetrics as the text format 0.0.4: there a counter's family has the name of its samples, and no end mark.
fn older(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help: Option<&str> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take().and_then(|help| help.split_once(' ')) {
                out.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// What the page says about each series, by name.
static HELP: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let page = include_str!("../../docs/METRICS.md");
    let rows = page.lines().filter_map(|line| {
        let name = line.strip_prefix("| `")?.split_once('`')?.0;
        let meaning = line.strip_suffix('|')?.rsplit('|').next()?;
        Some((name, meaning.trim()))
    });
    rows.collect()
});

type Labels = Vec<(&'static str, String)>;

/// Writes families, one after the other. A family without a sample is left out.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter<V>(&mut self, name: &str, samples: Vec<(Labels, V)>) -> fmt::Result
    where
        V: prometheus_client::encoding::EncodeCounterValue,
    {
        if samples.is_empty() {
            return Ok(());
        }
        let help = HELP.get(format!("{name}_total").as_str()).copied().unwrap_or_default();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => metric.encode_counter::<NoLabelSet, V, f64>(&value, None)?,
                false => metric.encode_family(&labels)?.encode_counter::<NoLabelSet, V, f64>(&value, None)?,
            }
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, samples: Vec<(Labels, f64)>) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let help = HELP.get(name).copied().unwrap_or_default();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => metric.encode_gauge(&value)?,
                false => metric.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, samples: Vec<(Labels, Buckets)>) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let help = HELP.get(name).copied().unwrap_or_default();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, buckets) in samples {
            let Buckets { sum, count, counts } = buckets;
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &counts, None)?;
        }
        Ok(())
    }
}

/// A histogram to be written: its buckets are not added up yet.
struct Buckets {
    sum: f64,
    count: u64,
    counts: Vec<(f64, u64)>,
}

impl Buckets {
    fn latency(all: &Histogram<u64>, sum_ns: u64) -> Buckets {
        let mut counts: Vec<(f64, u64)> =
            LATENCY_BOUNDS_NS.iter().map(|&ns| (seconds(ns), 0)).chain([(f64::INFINITY, 0)]).collect();
        for step in all.iter_recorded() {
            // A recorded value stands for those up to 1 % around it: the middle of them decides.
            let ns = all.median_equivalent(step.value_iterated_to());
            let place = LATENCY_BOUNDS_NS.partition_point(|&bound| bound < ns);
            counts[place].1 += step.count_since_last_iteration();
        }
        Buckets { sum: seconds(sum_ns), count: all.len(), counts }
    }

    fn sizes(sizes: &SizeCounts) -> Buckets {
        let power = |n: &usize| float(1_u64 << n);
        let mut counts: Vec<(f64, u64)> =
            SIZE_BOUNDS.iter().map(|n| (power(n), 0)).chain([(f64::INFINITY, 0)]).collect();
        for (at, count) in sizes.counts.iter().enumerate() {
            counts[SIZE_BOUNDS.partition_point(|&bound| bound < at)].1 += count;
        }
        Buckets { sum: float(sizes.sum), count: sizes.count(), counts }
    }
}

fn label(shard: u16) -> Labels {
    vec![("shard", shard.to_string())]
}

fn labels(shard: u16, name: &'static str, value: &str) -> Labels {
    vec![("shard", shard.to_string()), (name, value.to_owned())]
}

impl Scrape {
    fn up(&self) -> impl Iterator<Item = &ShardNumbers> {
        self.shards.iter().filter_map(|(_, said)| said.as_ref())
    }

    fn each<V>(&self, of: impl Fn(&ShardNumbers) -> V) -> Vec<(Labels, V)> {
        self.up().map(|numbers| (label(numbers.shard), of(numbers))).collect()
    }

    /// For each tier of the pools.
    fn tiers<V>(&self, of: impl Fn(&corelane_pools::TierStats) -> V) -> Vec<(Labels, V)> {
        let tiers = |numbers: &ShardNumbers| {
            let shard = numbers.shard;
            let tiers = TIERS.iter().zip(numbers.pools.tiers);
            tiers.map(move |(name, tier)| (labels(shard, "tier", name), tier)).collect::<Vec<_>>()
        };
        self.up().flat_map(tiers).map(|(labels, tier)| (labels, of(&tier))).collect()
    }

    /// All counters of a list that every shard has.
    fn counters(
        &self,
        to: &mut Families<'_>,
        area: &str,
        list: impl Fn(&ShardNumbers) -> Vec<Counter>,
    ) -> fmt::Result {
        let lists = self.up().map(|numbers| (numbers.shard, list(numbers)));
        // A shard without such a part has no series of it.
        let lists: Vec<(u16, Vec<Counter>)> = lists.filter(|(_, list)| !list.is_empty()).collect();
        let Some((_, first)) = lists.first() else { return Ok(()) };
        for (at, (name, _)) in first.iter().enumerate() {
            if TOLD_ELSEWHERE.contains(name) {
                continue;
            }
            let of = |(shard, list): &(u16, Vec<Counter>)| (label(*shard), list[at].1);
            match name.strip_suffix("_ns") {
                None => to.counter(&format!("corelane_{area}_{name}"), lists.iter().map(of).collect())?,
                Some(name) => {
                    let in_seconds = lists.iter().map(of).map(|(labels, ns)| (labels, seconds(ns)));
                    to.counter(&format!("corelane_{area}_{name}_seconds"), in_seconds.collect())?;
                }
            }
        }
        Ok(())
    }

    /// The names that dashboards expect.
    fn usual(&self, to: &mut Families<'_>) -> fmt::Result {
        let answers = |numbers: &ShardNumbers| {
            let shard = numbers.shard;
            numbers.answers().map(|(status, count)| (labels(shard, "status", status), count))
        };
        to.counter("http_requests", self.up().flat_map(answers).collect())?;
        let latency = self.each(|of| Buckets::latency(&of.http1.latency, of.http1.latency_sum_ns));
        to.histogram("http_request_duration_seconds", latency)?;
        to.histogram("http_request_size_bytes", self.each(|of| Buckets::sizes(&of.http1.requests)))?;
        to.histogram("http_response_size_bytes", self.each(|of| Buckets::sizes(&of.http1.answers)))?;
        to.gauge("active_connections", self.each(|of| float(of.http1.connections)))?;
        let memory = self.process.memory_bytes.map(|bytes| (Labels::new(), float(bytes)));
        to.gauge("memory_usage_bytes", memory.into_iter().collect())?;
        to.gauge("cpu_usage_percent", vec![(Labels::new(), self.process.cpu * 100.0)])
    }

    fn node(&self, to: &mut Families<'_>) -> fmt::Result {
        let (major, minor) = self.process.kernel;
        let build =
            vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("kernel", format!("{major}.{minor}"))];
        to.gauge("corelane_build_info", vec![(build, 1.0)])?;
        to.gauge("corelane_uptime_seconds", vec![(Labels::new(), seconds(self.process.uptime_ns))])?;
        to.counter("corelane_cpu_seconds", vec![(Labels::new(), seconds(self.process.cpu_ns))])
    }

    fn shards(&self, to: &mut Families<'_>) -> fmt::Result {
        let up = self.shards.iter().map(|(shard, said)| (label(*shard), f64::from(u8::from(said.is_some()))));
        to.gauge("corelane_shard_up", up.collect())?;
        to.gauge("corelane_shard_saturation_ratio", self.each(|of| of.saturation.1))?;
        to.gauge("corelane_shard_busy_ratio", self.each(ShardNumbers::busy))?;
        to.counter("corelane_shard_cpu_seconds", self.each(|of| seconds(of.cpu_ns)))?;
        to.gauge("corelane_shard_last_turn_seconds", self.each(|of| seconds(of.last_turn_ns)))?;
        to.gauge("corelane_shard_run_queue", self.each(|of| float(of.run_queue)))?;
        to.gauge("corelane_shard_tasks", self.each(|of| float(of.tasks)))?;
        to.gauge("corelane_shard_timers", self.each(|of| float(of.timers)))?;
        to.gauge("corelane_shard_streams", self.each(|of| float(of.streams)))?;
        to.gauge("corelane_shard_inbox_bytes", self.each(|of| float(of.http1.inbox_bytes)))
    }

    fn mesh(&self, to: &mut Families<'_>) -> fmt::Result {
        let sum = |of: fn(&crate::observe::Peer) -> usize| {
            self.each(move |numbers| float(numbers.peers.iter().map(of).sum::<usize>() as u64))
        };
        let max = |of: fn(&crate::observe::Peer) -> usize| {
            self.each(move |numbers| float(numbers.peers.iter().map(of).max().unwrap_or(0) as u64))
        };
        to.gauge("corelane_mesh_credits_in_use", sum(|peer| peer.credits_in_use))?;
        to.gauge("corelane_mesh_credits_in_use_max", max(|peer| peer.credits_in_use))?;
        to.gauge("corelane_mesh_waiting", sum(|peer| peer.waiting))?;
        to.gauge("corelane_mesh_lane_depth", sum(|peer| peer.lane_depth))?;
        to.gauge("corelane_mesh_lane_depth_max", max(|peer| peer.lane_depth))
    }

    fn pools(&self, to: &mut Families<'_>) -> fmt::Result {
        to.gauge("corelane_pools_slots", self.tiers(|tier| tier.slots.into()))?;
        to.gauge("corelane_pools_lent", self.tiers(|tier| tier.lent.into()))?;
        to.gauge("corelane_pools_lent_max", self.tiers(|tier| tier.lent_max.into()))?;
        to.counter("corelane_pools_hits", self.tiers(|tier| tier.hits))?;
        to.counter("corelane_pools_misses", self.tiers(|tier| tier.misses))?;
        to.counter("corelane_pools_given_back", self.tiers(|tier| tier.given_back))?;
        to.gauge("corelane_pools_bytes", self.each(|of| float(of.pool_bytes())))?;
        to.gauge("corelane_pools_heap_bytes", self.each(|of| float(of.pools.heap.bytes)))?;
        to.gauge("corelane_pools_heap_bytes_max", self.each(|of| float(of.pools.heap.bytes_peak)))?;
        to.counter("corelane_pools_heap_served", self.each(|of| of.pools.heap.served))?;
        to.counter("corelane_pools_oversized", self.each(|of| of.pools.heap.oversized))?;
        to.counter("corelane_pools_refused", self.each(|of| of.pools.refused))
    }
}

impl Scrape {
    /// The cache and its Redis clients, where there are such.
    fn cache(&self, to: &mut Families<'_>) -> fmt::Result {
        let keys = |of: fn(&CacheNumbers) -> u64| {
            let shards = self.up().filter_map(|numbers| Some((numbers.shard, numbers.cache.as_ref()?)));
            shards.map(|(shard, cache)| (label(shard), float(of(cache)))).collect::<Vec<_>>()
        };
        to.gauge("corelane_cache_keys", keys(|of| of.keys))?;
        to.gauge("corelane_cache_keys_with_expiry", keys(|of| of.expires))?;
        to.gauge("corelane_cache_bytes", keys(|of| of.bytes))?;
        to.gauge("corelane_cache_bytes_max", keys(|of| of.bytes_max))?;
        to.gauge("corelane_cache_clients_parked", keys(|of| of.parked))?;
        to.gauge("corelane_cache_keys_locked", keys(|of| of.locked))?;
        self.counters(to, "cache", |of| of.cache.as_ref().map(|of| of.counters.clone()).unwrap_or_default())?;
        let clients = |of: fn(&RespNumbers) -> u64| {
            let shards = self.up().filter_map(|numbers| Some((numbers.shard, numbers.resp.as_ref()?)));
            shards.map(|(shard, resp)| (label(shard), float(of(resp)))).collect::<Vec<_>>()
        };
        to.gauge("corelane_resp_connections", clients(|of| of.connections))?;
        to.gauge("corelane_resp_inbox_bytes", clients(|of| of.inbox_bytes))?;
        to.gauge("corelane_resp_posts_waiting", clients(|of| of.posts_waiting))?;
        self.counters(to, "resp", |of| of.resp.as_ref().map(|of| of.counters.clone()).unwrap_or_default())
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut Families(encoder);
        self.usual(to)?;
        self.node(to)?;
        self.shards(to)?;
        self.mesh(to)?;
        self.pools(to)?;
        self.cache(to)?;
        self.counters(to, "exec", |of| of.exec.clone())?;
        self.counters(to, "mesh", |of| of.mesh.clone())?;
        self.counters(to, "http1", |of| of.http1.counters.clone())?;
        self.counters(to, "kernel", |of| {
            let kernel = &of.kernel;
            vec![
                ("enters", kernel.enters),
                ("submitted", kernel.submitted),
                ("completed", kernel.completed),
                ("cq_overflows", kernel.cq_overflows),
                ("no_buffers", kernel.no_buffers),
                ("dropped", kernel.dropped),
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_net::http1::measure::latencies;

    #[test]
    fn a_latency_falls_into_the_bucket_of_the_bound_it_does_not_pass() {
        let mut all = latencies();
        for ns in [9_000, 11_000, 990_000, 1_020_000, 59_000_000_000_u64] {
            all.saturating_record(ns);
        }
        let Buckets { counts, count, .. } = Buckets::latency(&all, 0);
        let of = |bound: f64| counts.iter().find(|(le, _)| (le - bound).abs() < 1e-12).map(|(_, n)| *n);
        assert_eq!((of(1e-5), of(2e-5), of(1e-3), of(2e-3)), (Some(1), Some(1), Some(1), Some(1)));
        assert_eq!(counts.last().map(|(le, n)| (le.is_infinite(), *n)), Some((true, 1)));
        assert_eq!(count, counts.iter().map(|(_, n)| n).sum::<u64>());
    }

    #[test]
    fn a_size_falls_into_the_bucket_of_the_bound_it_does_not_pass() {
        let mut sizes = SizeCounts::default();
        sizes.counts[0] = 1; // up to 1 byte
        sizes.counts[6] = 2; // up to 64
        sizes.counts[7] = 3; // up to 128
        sizes.counts[26] = 4; // up to 64 MiB
        sizes.counts[27] = 5;
        let Buckets { counts, .. } = Buckets::sizes(&sizes);
        assert_eq!(counts.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 4, 5]);
    }

    #[test]
    fn the_older_format_names_the_family_of_a_counter_like_its_samples() {
        let open = "# HELP a Things.\n# TYPE a counter\na_total{b=\"c\"} 1\n# HELP d E.\n# TYPE d gauge\n\
                    # UNIT d seconds\nd 2.0\n# EOF\n";
        assert_eq!(
            older(open),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n# HELP d E.\n# TYPE d gauge\n\
             d 2.0\n"
        );
    }

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        assert!(is_openmetrics("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3"));
        assert!(is_openmetrics("text/html, application/openmetrics-text"));
        for other in ["*/*", "text/plain", "application/openmetrics-text;q=0", ""] {
            assert!(!is_openmetrics(other), "{other}");
        }
    }
}
