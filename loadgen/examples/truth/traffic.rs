//! What the generator is asked to do: settings with defaults, and one run of the engine.
//!
//! Not here: what follows from a run.

use std::net::SocketAddr;

use loadgen::engine::{self, Part, Watch};
use loadgen::model::{Arrivals, Loop, RequestSpec, RespSpec, Run, Settings, Speaks};
use loadgen::plan;
use loadgen::units;

use crate::Bench;
use crate::child::Process;
use crate::server::ECHO_LEN;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

/// Of every schedule here.
pub(crate) const SEED: u64 = 1;

/// Requests one after another on each connection.
pub(crate) const CLOSED: Loop = Loop::Closed { think_ns: 0, think_exponential: false };

/// A schedule of one rate.
pub(crate) fn open(arrivals: Arrivals, rate: f64) -> Loop {
    Loop::Open { arrivals, stages: plan::constant_rate(rate) }
}

/// HTTP on 64 connections, a warm-up of half a second, a timeout of 5 s.
pub(crate) fn settings(bench: &Bench, addr: SocketAddr, traffic: Loop, duration_ns: u64) -> Settings {
    Settings {
        url: format!("http://{addr}/"),
        speaks: Speaks::Http1,
        host: addr.ip().to_string(),
        port: addr.port(),
        requests: vec![RequestSpec {
            weight: 1,
            name: "GET /".into(),
            method: "GET".into(),
            path: "/".into(),
            ..RequestSpec::default()
        }],
        resp: RespSpec::default(),
        echo_len: u32::try_from(ECHO_LEN).unwrap_or(16),
        traffic,
        connections: 64,
        pipeline: 1,
        requests_per_connection: 0,
        ramp_ns: 0,
        warmup_ns: 500 * MS,
        duration_ns,
        timeout_ns: 5 * SECOND,
        drain_ns: 5 * SECOND,
        slice_ns: 100 * MS,
        seed: SEED,
        threads: 1,
        cpus: vec![bench.client_cpu],
        busy_poll: false,
        sources: Vec::new(),
        expect_status: Vec::new(),
    }
}

/// Echoes for the queue server instead of HTTP.
pub(crate) fn echo(settings: Settings) -> Settings {
    let url = format!("tcp://{}:{}", settings.host, settings.port);
    Settings { url, speaks: Speaks::Echo, ..settings }
}

/// One run.
pub(crate) fn run(settings: &Settings, watch: &mut dyn Watch) -> Result<Run, String> {
    engine::run(settings, Part::WHOLE, "truth", watch).map_err(|error| error.to_string())
}

/// How much others were in the way, for a note: time that a side was ready to run and had no CPU.
pub(crate) fn noise(run: &Run, server: &Process) -> String {
    let delay_ns: u64 = run.workers.iter().map(|worker| worker.run_delay_ns).sum();
    let gap_ns = run.workers.iter().map(|worker| worker.hiccup_max_ns).max().unwrap_or(0);
    format!(
        "waited for a CPU: generator {} of the window (longest gap {}), server {} since its start",
        units::duration(delay_ns),
        units::duration(gap_ns),
        server.run_delay_ns().map_or("?".into(), units::duration)
    )
}
