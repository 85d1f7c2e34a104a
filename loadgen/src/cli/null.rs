//! `loadgen null` and `loadgen calibrate`: the null server, and what the generator shows against it.
//!
//! Not here: the server (`null`), where floors are kept (`floor`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corelane_sys::cpu;

use super::args::{CalibrateArgs, HttpArgs, NullArgs, TrafficArgs};
use super::progress::tell;
use super::session::{Session, floor_dir};
use super::signals::Asked;
use super::{Exit, output, settings};
use crate::floor::Store;
use crate::model::{Floor, Level, Settings, Speaks};
use crate::null::{self, NullConfig};
use crate::units;

fn speaks_of(scheme: &str) -> Result<Speaks, String> {
    match scheme {
        "http" => Ok(Speaks::Http1),
        "tcp" => Ok(Speaks::Echo),
        "redis" => Ok(Speaks::Resp),
        other => Err(format!("--scheme {other} cannot work: there are http, tcp and redis")),
    }
}

/// Serves until it is told to end.
///
/// # Errors
/// Where it cannot listen.
pub(crate) fn serve(args: &NullArgs) -> Result<Exit, String> {
    let size = u32::try_from(args.size).map_err(|_| format!("--size {} is too large", args.size))?;
    let speaks = speaks_of(&args.scheme)?;
    let config = NullConfig {
        addr: args.listen,
        cpu: args.cpu,
        speaks,
        echo_len: size.max(1),
        body_len: size as usize,
        ..NullConfig::default()
    };
    let asked = Asked::listen()?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let waiter = std::thread::Builder::new().name("stop".into());
    let wait = move || {
        while !asked.any() {
            std::thread::sleep(Duration::from_millis(20));
        }
        flag.store(true, Ordering::Release);
    };
    waiter.spawn(wait).map_err(|error| format!("cannot start a thread: {error}"))?;
    let scheme = &args.scheme;
    let served = null::serve(&config, &stop, |addr| tell(&format!("null server on {scheme}://{addr}")))?;
    let (requests, connections) = (units::count(served.requests), units::count(served.connections));
    tell(&format!("{requests} requests on {connections} connections"));
    Ok(Exit::Done)
}

/// How long each shape is measured, unless the user chose.
const EACH_NS: u64 = 2_000_000_000;
const WARMUP_NS: u64 = 500_000_000;

/// Closed loops and rates of the usual set: from one request at a time to what fills a core.
const CONNECTIONS: [u64; 3] = [1, 64, 512];
const RATES: [f64; 4] = [1_000.0, 10_000.0, 50_000.0, 100_000.0];

/// The traffic of the usual set.
fn usual(given: &TrafficArgs) -> Vec<TrafficArgs> {
    let base = TrafficArgs {
        duration: EACH_NS,
        warmup: WARMUP_NS,
        rate: None,
        stages: None,
        think: None,
        ramp: 0,
        requests_per_connection: 0,
        ..given.clone()
    };
    let closed = CONNECTIONS.map(|connections| TrafficArgs { connections, ..base.clone() });
    let piped = TrafficArgs { connections: 64, pipeline: 16, ..base.clone() };
    let open = RATES.map(|rate| TrafficArgs { rate: Some(rate), connections: 64, ..base.clone() });
    closed.into_iter().chain([piped]).chain(open).collect()
}

/// A CPU for the null server that no worker has; none where there is none.
fn server_cpu(settings: &Settings) -> Option<usize> {
    cpu::allowed_cpus().ok()?.into_iter().find(|cpu| !settings.cpus.contains(cpu))
}

/// # Errors
/// Why a floor could not be measured or kept.
pub(crate) fn calibrate(args: &CalibrateArgs, command: &str) -> Result<Exit, String> {
    let dir = floor_dir().ok_or("neither XDG_CACHE_HOME nor HOME is set: floors have no place to be kept")?;
    let speaks = speaks_of(&args.scheme)?;
    let http = HttpArgs {
        method: None,
        headers: Vec::new(),
        body: None,
        template: false,
        requests: None,
        expect_status: Vec::new(),
    };
    let plan = |traffic: &TrafficArgs, port: u16| {
        let url = format!("{}://127.0.0.1:{port}", args.scheme);
        settings::settings(&url, traffic, &http, &args.others, &args.host)
    };
    let first = plan(&args.traffic, 1)?;
    let cpu = args.server_cpu.or_else(|| server_cpu(&first));
    if cpu.is_none() {
        tell("loadgen: no CPU is left for the null server: the floor will be too high");
    }
    let config = NullConfig { cpu, speaks, echo_len: first.echo_len, ..NullConfig::default() };
    let server = null::start(config)?;
    let shapes = if args.only { vec![args.traffic.clone()] } else { usual(&args.traffic) };
    let session = Session::new(command, true)?;
    let mut store = Store::load(&dir);
    let (mut exit, mut kept) = (Exit::Done, false);
    output::print("traffic                               rate        p50        p99\n")?;
    for traffic in shapes {
        let settings = plan(&traffic, server.addr().port())?;
        let run = session.measure(&settings, "")?;
        let of = |percent| run.total.response.percentile(percent).map_or(0, |value| value.ns());
        let floor = Floor { p50_ns: of(50.0), p99_ns: of(99.0), rate: run.rate() };
        let name = match traffic.rate {
            Some(rate) => format!("open {}, {} connections", units::rate(rate), settings.connections),
            None if settings.pipeline > 1 => {
                format!("closed, {} connections x{}", settings.connections, settings.pipeline)
            }
            None => format!("closed, {} connections", settings.connections),
        };
        let (p50, p99) = (units::duration(floor.p50_ns), units::duration(floor.p99_ns));
        // A floor that was measured badly would excuse too much; closed loops have no floor but our own limits.
        let judged: Vec<_> =
            run.verdict.reasons.iter().filter(|reason| reason.level > Level::Valid).collect();
        let bad = run.verdict.level == Level::Invalid;
        let mark = if bad { "  not kept" } else { "" };
        output::print(&format!("{name:<34} {:>9} {p50:>10} {p99:>10}{mark}\n", units::rate(run.rate())))?;
        for reason in
            judged.iter().filter(|reason| !matches!(reason.code.as_str(), "cpu_saturated" | "floor"))
        {
            tell(&format!("  {}", reason.text));
        }
        if bad {
            exit = Exit::Invalid;
        } else {
            store.insert(&run.settings, &run.provenance, floor);
            kept = true;
        }
        if session.asked.any() {
            break;
        }
    }
    server.stop()?;
    if kept {
        store.save(&dir)?;
        output::print(&format!("kept in {}\n", dir.join(crate::floor::FILE).display()))?;
    }
    Ok(exit)
}
