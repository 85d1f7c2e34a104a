//! RESP: Corelane's cache beside redis-server and memcached, each on one CPU.
//!
//! All servers run for the whole time, filled with the same keys, and at rest but for the one that is asked. Load after
//! load, round after round, server after server is asked by a client on another CPU; the figure is server CPU time of
//! a command. Redis and Corelane are asked by redis-benchmark, memcached in its own protocol by a client of this
//! program that works alike. What cannot run here is a row that says why.
//!
//! # Rules
//! 1. What was started is ended, however the run ends.
//! 2. A median is that of the rounds; a ratio is the quotient of two medians of one load.
//! 3. Exit code 1 when with `--strict` a target was missed, 2 when it could not run.
//!
//! Not here: how many requests a second one client at a time sees (`loadgen`), hit ratios (the tests of the store).

mod memcached;
mod report;
mod servers;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ab::machine::Machine;
use crate::ab::process::cpu_busy_ns;
use servers::{Server, ServerKind};

/// What to measure, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds of every load.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Commands in a sample, as a share of the usual 200,000 unpipelined, 1.6 and 3.2 million pipelined.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Commands under way on a connection.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,16,64")]
    pipelines: Vec<u32>,
    /// Servers: corelane, corelane-2, redis, memcached.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "corelane,corelane-2,redis,memcached"
    )]
    subjects: Vec<ServerKind>,
    /// CPU the servers are pinned to.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU the client is pinned to.
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
    /// The program of Corelane, a release build [default: target/release/corelane]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Where all samples go.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Exit with 1 if a target was missed.
    #[arg(long)]
    strict: bool,
}

/// Connections of the client, bytes of a value, and keys: those of `redis-benchmark -c 64 -d 32 -r 100000`.
const CONNECTIONS: u32 = 64;
const VALUE_LEN: usize = 32;
const KEYS: u32 = 100_000;

/// After a server was filled, and between two samples: what is still under way ends.
const PAUSE: Duration = Duration::from_millis(50);

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Command {
    Get,
    Set,
}

/// One kind of command, so many under way on each connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
struct Load {
    command: Command,
    pipeline: u32,
}

impl Load {
    /// Commands of a sample: about two seconds of Redis.
    fn commands(self, scale: f64) -> u64 {
        let usual: u32 = match self.pipeline {
            1 => 200_000,
            2..=16 => 1_600_000,
            _ => 3_200_000,
        };
        let batch = u64::from(CONNECTIONS * self.pipeline);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
        let wanted = (f64::from(usual) * scale) as u64;
        wanted.max(batch)
    }
}

/// What one run of a client saw, and what it cost the server.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    /// CPU time of the server a command, microseconds.
    cpu_us: f64,
    commands_per_s: f64,
    /// Latency of a batch: of a command, unpipelined.
    p50_us: f64,
    p99_us: f64,
    /// CPU time of others on the server's or the client's CPU by wall time, the larger.
    others_share: f64,
}

/// All samples of a server under a load.
#[derive(Debug, Serialize)]
struct Row {
    load: Load,
    subject: String,
    samples: Vec<Sample>,
}

/// What an entry takes, bytes: by the resident memory, and by what the server counts itself.
#[derive(Clone, Copy, Debug, Serialize)]
struct Memory {
    resident: f64,
    counted: f64,
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Found {
    machine: Machine,
    rounds: u32,
    cpus: [usize; 2],
    /// Name and version of each server, or why it is not here.
    subjects: Vec<(String, Result<String, String>)>,
    memory: Vec<(String, Memory)>,
    rows: Vec<Row>,
}

/// Runs it and prints it. `Ok(false)`: with `--strict`, a target was missed.
///
/// # Errors
/// Why it could not run.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    if options.server_cpu == options.client_cpu {
        return Err("--server-cpu and --client-cpu must differ".to_owned());
    }
    if !(options.scale > 0.0 && options.scale <= 1_000.0) || options.pipelines.contains(&0) {
        return Err("--scale takes 0 to 1000, and --pipelines numbers from 1".to_owned());
    }
    let machine = Machine::here();
    let cpus = [options.server_cpu, options.client_cpu];
    let mut found =
        Found { machine, rounds: options.rounds, cpus, subjects: vec![], memory: vec![], rows: vec![] };
    let mut servers = Vec::new();
    for &kind in &options.subjects {
        let started = Server::start(kind, options.server_cpu, options.program.as_deref());
        let what = started.as_ref().map(|server| server.what.clone()).map_err(Clone::clone);
        found.subjects.push((kind.name().to_owned(), what));
        if let Ok(server) = started {
            eprintln!("{}: {KEYS} keys", kind.name());
            let before = server.memory()?;
            server.fill()?;
            thread::sleep(PAUSE);
            found.memory.push((kind.name().to_owned(), server.memory()?.since(before)));
            servers.push(server);
        }
    }
    if servers.is_empty() {
        return Err("none of these servers runs here".to_owned());
    }
    for &pipeline in &options.pipelines {
        for command in [Command::Get, Command::Set] {
            let load = Load { command, pipeline };
            found.rows.extend(measure(load, &servers, options)?);
        }
    }
    let (text, met) = report::text(&found);
    crate::resp::report::print(&text)?;
    if let Some(path) = &options.json {
        let json = sonic_rs::to_string_pretty(&found).map_err(|error| error.to_string())?;
        std::fs::write(path, json + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(met || !options.strict)
}

/// Round after round, each server in its turn. The first round of all is not kept.
fn measure(load: Load, servers: &[Server], options: &Options) -> Result<Vec<Row>, String> {
    let row = |server: &Server| Row { load, subject: server.kind.name().to_owned(), samples: Vec::new() };
    let mut rows: Vec<Row> = servers.iter().map(row).collect();
    for round in 0..=options.rounds {
        for (server, row) in servers.iter().zip(&mut rows) {
            let sample = sample(load, server, options)?;
            let name = server.kind.name();
            eprintln!("{:?} P={} round {round} {name}: {:.3} us", load.command, load.pipeline, sample.cpu_us);
            if round > 0 {
                row.samples.push(sample);
            }
        }
    }
    Ok(rows)
}

fn sample(load: Load, server: &Server, options: &Options) -> Result<Sample, String> {
    thread::sleep(PAUSE);
    let commands = load.commands(options.scale);
    let cpus = [options.server_cpu, options.client_cpu];
    let busy = || -> Result<[u64; 2], String> {
        let of = |cpu| cpu_busy_ns(cpu).map_err(|error| format!("/proc/stat: {error}"));
        Ok([of(cpus[0])?, of(cpus[1])?])
    };
    let (busy_before, cpu_before, start) = (busy()?, server.cpu_time()?, Instant::now());
    let asked = server.ask(load, commands, options.client_cpu)?;
    let wall = start.elapsed().as_nanos();
    let (busy_after, cpu_after) = (busy()?, server.cpu_time()?);
    let spent = cpu_after.since(cpu_before);
    spent.check_against().map_err(|error| format!("{}: {error}", server.kind.name()))?;
    let others = |own: u64, cpu: usize| {
        as_f64(u128::from((busy_after[cpu] - busy_before[cpu]).saturating_sub(own))) / as_f64(wall)
    };
    Ok(Sample {
        cpu_us: as_f64(spent.exact_ns.into()) / 1e3 / as_f64(commands.into()),
        commands_per_s: asked.commands_per_s,
        p50_us: asked.p50_us,
        p99_us: asked.p99_us,
        others_share: others(spent.exact_ns, 0).max(others(asked.client_ns, 1)),
    })
}

#[expect(clippy::cast_precision_loss, reason = "times and counts, far below 2^53")]
fn as_f64(number: u128) -> f64 {
    number as f64
}
