//! `GET /api/info` and `GET /api/performance`: a node's own account, on its main listener.
//!
//! Every shard is asked over the mesh, all at once; one that does not answer within [`PATIENCE`] is listed as
//! silent. One gathering is under way on a shard at a time, and what it found serves all who ask meanwhile or
//! within [`FRESH_NS`] after: asking often costs the other shards little, also where one of them stands still.
//!
//! Not here: Prometheus, health, connections (`admin`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane_exec::{Shard, blocking, current, mesh, sleep, timeout};
use corelane_http::{App, OwnedRequest, Response};
use serde::Serialize;

use super::view::{PerformanceView, seconds};
use super::{CpuMeter, ShardFacts, ShardNumbers, facts};
use crate::config::{Settings, keys};

/// How long a shard may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long an answer is good for.
const FRESH_NS: u64 = 100_000_000;

/// What every shard gave, in their order; None for one that was silent.
async fn ask_all<R: Send + 'static>(f: fn(&Rc<Shard>) -> R) -> Vec<Option<R>> {
    let mesh = mesh();
    let start_ns = current().now().mono_ns;
    // All are sent before the first is awaited. `with` calls the own shard at once.
    let calls: Vec<_> = mesh.all().map(|shard| mesh.with(shard, f)).collect();
    let mut replies = Vec::with_capacity(calls.len());
    for call in calls {
        let passed = Duration::from_nanos(current().now().mono_ns.saturating_sub(start_ns));
        let reply = timeout(PATIENCE.saturating_sub(passed), call).await;
        replies.push(reply.ok().and_then(Result::ok));
    }
    replies
}

/// Those that answered, and the numbers of those that did not.
fn parted<R>(replies: Vec<Option<R>>) -> (Vec<R>, Vec<u16>) {
    let (mut heard, mut silent) = (Vec::new(), Vec::new());
    for (shard, reply) in (0..).zip(replies) {
        match reply {
            Some(reply) => heard.push(reply),
            None => silent.push(shard),
        }
    }
    (heard, silent)
}

/// How often those who ask while a gathering is under way look whether it is done, and how many times. A sleep
/// that finds no timer ends at once, so it is the number that keeps this from going on for ever.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS_MAX: u32 = 500;

/// An answer and when it was made.
#[derive(Default)]
struct Gathered {
    under_way: Cell<bool>,
    made_ns: Cell<Option<u64>>,
    json: RefCell<Vec<u8>>,
}

/// A gathering that is under way, until dropped: also when its client left.
struct Gathering<'a>(&'a Gathered);

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(false);
    }
}

impl Gathered {
    /// A fresh answer; or the task to make one, once nobody else is at it. 503 if that takes too long.
    async fn or_begin(&self, shard: &Shard) -> Result<Response, Gathering<'_>> {
        for _ in 0..LOOKS_MAX {
            if let Some(response) = self.fresh(shard.now().mono_ns) {
                return Ok(response);
            }
            if !self.under_way.replace(true) {
                return Err(Gathering(self));
            }
            sleep(LOOK).await;
        }
        Ok(Response::status(503).header("retry-after", &b"1"[..]))
    }

    fn fresh(&self, now_ns: u64) -> Option<Response> {
        let made_ns = self.made_ns.get()?;
        (now_ns.saturating_sub(made_ns) < FRESH_NS).then(|| json(self.json.borrow().clone()))
    }

    fn keep(&self, now_ns: u64, value: &impl Serialize) -> Response {
        match sonic_rs::to_vec(value) {
            Ok(text) => {
                self.made_ns.set(Some(now_ns));
                self.json.replace(text.clone());
                json(text)
            }
            Err(error) => {
                tracing::error!(%error, "numbers that are no JSON");
                Response::status(500)
            }
        }
    }
}

fn json(text: Vec<u8>) -> Response {
    Response::bytes("application/json", text).header("cache-control", &b"no-store"[..])
}

#[derive(Default)]
struct Performance {
    gathered: Gathered,
    meter: RefCell<Option<CpuMeter>>,
}

impl Performance {
    /// CPU of the process, as a part of one CPU.
    fn cpu(&self, now_ns: u64) -> f64 {
        let cpu_ns = corelane_sys::kernel::process_cpu_ns();
        let mut meter = self.meter.borrow_mut();
        // Before anybody asked, since the process began.
        meter.get_or_insert_with(|| CpuMeter::new(facts(&current()).node.started_ns, 0)).used(now_ns, cpu_ns)
    }
}

async fn performance<S>(_: OwnedRequest<S>) -> Response {
    let shard = current();
    let here = shard.local(Performance::default);
    let _gathering = match here.gathered.or_begin(&shard).await {
        Ok(response) => return response,
        Err(gathering) => gathering,
    };
    let (all, silent) = parted(ask_all(|shard| ShardNumbers::collect(shard)).await);
    // A file of /proc. Where every thread that may block is at something else, it is left out.
    let memory = timeout(PATIENCE, blocking(corelane_sys::kernel::rss_bytes)).await;
    let memory_bytes = memory.ok().and_then(Result::ok).and_then(Result::ok);
    let now_ns = shard.now().mono_ns;
    let cpu = here.cpu(now_ns);
    here.gathered.keep(now_ns, &PerformanceView::of(&all, silent, cpu, memory_bytes))
}

#[derive(Serialize)]
struct InfoShard {
    shard: u16,
    host: &'static str,
    cpu: Option<usize>,
    numa_node: Option<usize>,
    ring: String,
    lacks: Vec<String>,
}

/// A limit as the configuration writes it: a number, or text like `10s`.
#[derive(Serialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

#[derive(Serialize)]
struct Info {
    name: &'static str,
    version: &'static str,
    kernel: String,
    started_unix_s: u64,
    uptime_s: f64,
    listeners: Vec<String>,
    features: Vec<&'static str>,
    silent: Vec<u16>,
    shards: Vec<InfoShard>,
    limits: BTreeMap<&'static str, Written>,
}

/// What this build and this configuration have beyond HTTP/1.1.
fn features(facts: &ShardFacts) -> Vec<&'static str> {
    let mut found = vec!["http1", "mesh", "metrics"];
    if facts.node.admin.is_some() {
        found.push("admin");
    }
    if facts.node.listeners.iter().any(|listener| listener.starts_with("unix:")) {
        found.push("unix");
    }
    found
}

fn limits(shard: &Shard) -> BTreeMap<&'static str, Written> {
    let settings = Settings { limits: shard.limits().clone(), ..Settings::default() };
    let limits = keys::all().filter(|key| key.name.starts_with("limits."));
    let written = limits.map(|key| {
        let text = key.write(&settings);
        let value = text.replace('_', "").parse().map(Written::Number);
        (key.short(), value.unwrap_or_else(|_| Written::Text(text.trim_matches('"').to_owned())))
    });
    written.collect()
}

async fn info<S>(_: OwnedRequest<S>) -> Response {
    let shard = current();
    let here = shard.local(KeptInfo::default);
    let _gathering = match here.0.or_begin(&shard).await {
        Ok(response) => return response,
        Err(gathering) => gathering,
    };
    let (heard, silent) = parted(ask_all(|shard| (shard.id().0, facts(shard))).await);
    let shards = heard.into_iter().map(|(id, facts): (u16, Arc<ShardFacts>)| InfoShard {
        shard: id,
        host: facts.host,
        cpu: facts.cpu,
        numa_node: facts.numa_node,
        ring: facts.ring.clone(),
        lacks: facts.lacks.clone(),
    });
    let shards = shards.collect();
    let facts = facts(&shard);
    let now_ns = shard.now().mono_ns;
    let (major, minor) = facts.node.kernel;
    let info = Info {
        name: "corelane",
        version: env!("CARGO_PKG_VERSION"),
        kernel: format!("{major}.{minor}"),
        started_unix_s: facts.node.started_unix_s,
        uptime_s: seconds(now_ns.saturating_sub(facts.node.started_ns)),
        listeners: facts.node.listeners.clone(),
        features: features(&facts),
        silent,
        shards,
        limits: limits(&shard),
    };
    here.0.keep(now_ns, &info)
}

/// The kept answer of [`info`].
#[derive(Default)]
struct KeptInfo(Gathered);

/// Adds `GET /api/info` and `GET /api/performance`.
///
/// # Panics
/// If the application has one of these routes already.
#[must_use]
pub fn routes<S: 'static>(app: App<S>) -> App<S> {
    app.get_async("/api/info", info).get_async("/api/performance", performance)
}
