//! The A/B runner: servers on one CPU, the client on another, in interleaved rounds.
//!
//! Every round runs each server once, A B C, A B C, so that what drifts drifts for all. A run is:
//! start the server, ask it once, warm up, then read its CPU time, run the client, read again. The
//! figure is server CPU time per answer; throughput and latency stand beside it.
//!
//! Not here: wrk (`wrk`), processes and their CPU time (`process`), the arithmetic (`summary`).

pub(crate) mod machine;
pub(crate) mod plan;
pub(crate) mod process;
pub(crate) mod summary;
mod wrk;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;
use tempfile::NamedTempFile;

use machine::Machine;
use plan::{MaxRatio, Scenario, Server};
use process::Running;
use summary::{Sample, Series};

/// Seconds of load before the measured window.
const WARM_UP_S: u32 = 1;

/// What to compare, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A server: limit-uring, limit-epoll, hyper, or NAME=COMMAND with {port} and {cpu} filled in.
    /// The first one is the base of the ratios.
    #[arg(long = "server", value_name = "NAME[=COMMAND]", required = true)]
    servers: Vec<Server>,
    /// Times each server is measured in each scenario.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of one measured window.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    secs: u32,
    /// Connections of the client; every one is combined with every --pipeline.
    #[arg(long, value_delimiter = ',', default_value = "64,512", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Vec<u32>,
    /// Requests in flight on a connection.
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_parser = clap::value_parser!(u32).range(1..))]
    pipeline: Vec<u32>,
    /// Loads named one by one, like 64x1,512x1,64x16, instead of --connections and --pipeline.
    #[arg(long, value_name = "CONNECTIONSxDEPTH", value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Path of the request.
    #[arg(long, default_value = "/")]
    path: String,
    /// CPU the server is pinned to.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU the client is pinned to.
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
    /// Exit with 1 if a server costs more, like 'hyper/limit-uring<=1.20'.
    #[arg(long, value_name = "SERVER/BASE<=FACTOR")]
    max_ratio: Vec<MaxRatio>,
    /// Also write every sample to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What `--json` holds.
#[derive(Serialize)]
struct Results<'r> {
    machine: &'r Machine,
    rounds: u32,
    secs: u32,
    series: &'r [Series],
}

/// Runs the comparison and prints it. `Ok(false)`: it ran, but a target was missed or an answer wrong.
///
/// # Errors
/// Why it could not run, and what to type where that helps.
pub(crate) fn compare(options: &Options) -> Result<bool, String> {
    let scenarios = scenarios(options);
    check(options)?;
    let machine = Machine::here();
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(|error| error.to_string())?;
    }
    let series = measure(options, &scenarios, &interrupted)?;
    let results = Results { machine: &machine, rounds: options.rounds, secs: options.secs, series: &series };
    if let Some(path) = &options.json {
        let text = sonic_rs::to_string_pretty(&results).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let (text, passed) = report(options, &results, &scenarios);
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(passed),
    }
}

fn scenarios(options: &Options) -> Vec<Scenario> {
    if !options.scenarios.is_empty() {
        return options.scenarios.clone();
    }
    let depths = options.pipeline.iter();
    let all = depths.flat_map(|&pipeline| {
        options.connections.iter().map(move |&connections| Scenario { connections, pipeline })
    });
    all.collect()
}

/// Refuses what can be known to fail before a minute is spent on it.
fn check(options: &Options) -> Result<(), String> {
    let names: Vec<&str> = options.servers.iter().map(|server| server.name.as_str()).collect();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(format!("two servers are called {name}"));
        }
    }
    for target in &options.max_ratio {
        for name in [&target.server, &target.base] {
            if !names.contains(&name.as_str()) {
                return Err(format!("--max-ratio names {name}, which is not compared"));
            }
        }
    }
    if options.server_cpu == options.client_cpu {
        return Err("--server-cpu and --client-cpu must differ".to_owned());
    }
    for cpu in [options.server_cpu, options.client_cpu] {
        process::cpu_busy_ns(cpu).map_err(|error| error.to_string())?;
    }
    match std::process::Command::new("wrk")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
    {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("wrk: {error}; to install it: apt-get install wrk")),
    }
}

fn measure(options: &Options, scenarios: &[Scenario], stop: &AtomicBool) -> Result<Vec<Series>, String> {
    let total = scenarios.len() * options.rounds as usize * options.servers.len();
    let mut done = 0;
    let mut all = Vec::new();
    for &scenario in scenarios {
        let script = match scenario.pipeline {
            1 => None,
            depth => Some(wrk::pipeline_script(depth).map_err(|error| error.to_string())?),
        };
        let new = |server: &Server| Series {
            server: server.name.clone(),
            scenario,
            answer_len: 0,
            samples: Vec::new(),
        };
        let mut rows: Vec<Series> = options.servers.iter().map(new).collect();
        for round in 1..=options.rounds {
            for (server, row) in options.servers.iter().zip(&mut rows) {
                let sample = sample(options, server, scenario, script.as_ref(), &mut row.answer_len);
                if stop.load(Ordering::Relaxed) {
                    return Err("interrupted".to_owned());
                }
                let sample = sample.map_err(|error| format!("{} at {scenario}: {error}", server.name))?;
                row.samples.push(sample);
                done += 1;
                eprintln!(
                    "[{done}/{total}] {scenario} round {round} {}: {:.3} us/request, {:.0} requests/s",
                    server.name, sample.cpu_us, sample.requests_per_s
                );
            }
        }
        all.extend(rows);
    }
    Ok(all)
}

/// Starts the server, warms it up, measures one window and ends it.
fn sample(
    options: &Options,
    server: &Server,
    scenario: Scenario,
    script: Option<&NamedTempFile>,
    answer_len: &mut usize,
) -> Result<Sample, String> {
    let text = |error: io::Error| error.to_string();
    let port = process::free_port().map_err(text)?;
    let running =
        Running::start(&server.command_at(port, options.server_cpu), Some(options.server_cpu), port)?;
    *answer_len = running.probe(&options.path)?;
    let url = format!("http://127.0.0.1:{port}{}", options.path);
    let run = |secs| -> Result<wrk::Report, String> {
        let mut command = wrk::command(scenario, script, secs, &url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output =
            process::spawn_on(options.client_cpu, command).and_then(|child| child.wait_with_output());
        let output = output.map_err(|error| format!("wrk: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "wrk: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
        wrk::parse(&String::from_utf8_lossy(&output.stdout))
    };
    run(WARM_UP_S)?;

    let read = || -> io::Result<_> {
        let busy = (process::cpu_busy_ns(options.server_cpu)?, process::cpu_busy_ns(options.client_cpu)?);
        Ok((running.cpu_time()?, process::waited_children_ns()?, busy, Instant::now()))
    };
    let (cpu_before, client_before, busy_before, start) = read().map_err(text)?;
    let report = run(options.secs)?;
    let (cpu_after, client_after, busy_after, end) = read().map_err(text)?;

    let cpu = cpu_after.since(cpu_before);
    if let Err(gap) = cpu.check_against() {
        eprintln!("{}: its CPU time is doubtful: {gap}", server.name);
    }
    if report.requests == 0 {
        return Err("no answers".to_owned());
    }
    if cpu.exact_ns == 0 {
        return Err("used no CPU time: the process started is not the one that answers".to_owned());
    }
    let wall_ns = (end - start).as_nanos() as f64;
    let (server_ns, client_ns) = (cpu.exact_ns as f64, (client_after - client_before) as f64);
    let others_server_ns = (busy_after.0 - busy_before.0) as f64 - server_ns;
    let others_client_ns = (busy_after.1 - busy_before.1) as f64 - client_ns;
    Ok(Sample {
        cpu_us: server_ns / 1e3 / report.requests as f64,
        client_us: client_ns / 1e3 / report.requests as f64,
        requests_per_s: report.requests_per_s,
        latency_us_p50: (scenario.pipeline == 1).then_some(report.latency_us_p50),
        latency_us_p99: (scenario.pipeline == 1).then_some(report.latency_us_p99),
        busy_share: server_ns / wall_ns,
        others_share: (others_server_ns.max(others_client_ns) / wall_ns).max(0.0),
        bad_answers: report.bad_answers,
        socket_errors: report.socket_errors,
    })
}

/// The text for standard output, and whether everything passed.
fn report(options: &Options, results: &Results<'_>, scenarios: &[Scenario]) -> (String, bool) {
    let Machine { cpu, kernel, tcp, commit, date, command } = results.machine;
    let mut lines = vec![
        format!("machine  {cpu}; server on CPU {}, wrk on CPU {}", options.server_cpu, options.client_cpu),
        format!("kernel   {kernel}, TCP {tcp}"),
        format!("commit   {commit}"),
        format!("date     {date}"),
        format!("command  {command}"),
        format!(
            "rounds   {} of {} s, interleaved; medians; busy: of the server",
            results.rounds, results.secs
        ),
    ];
    let first = &scenarios[..1];
    let answers = results.series.iter().filter(|series| first.contains(&series.scenario));
    let answers: Vec<String> = answers.map(|s| format!("{} {}", s.server, s.answer_len)).collect();
    lines.push(format!("answers  {} bytes", answers.join(", ")));
    lines.push(summary::tables(results.series, scenarios));

    let errors = summary::errors(results.series);
    let mut passed = errors.is_empty();
    lines.extend(errors.iter().map(|error| format!("ERROR    {error}")));
    let others = summary::others_share_max(results.series);
    if others > summary::OTHERS_SHARE_MAX {
        let percent = 100.0 * others;
        lines.push(format!(
            "NOISY    others used up to {percent:.0} % of a measured CPU: repeat on a quiet machine"
        ));
    }
    for target in &options.max_ratio {
        for &scenario in scenarios {
            let find =
                |name: &str| results.series.iter().find(|s| s.scenario == scenario && s.server == name);
            let (Some(server), Some(base)) = (find(&target.server), find(&target.base)) else { continue };
            let ratio = server.ratio(base).median;
            let met = ratio <= target.factor;
            passed &= met;
            lines.push(format!(
                "{}   {}/{} at {scenario}: {ratio:.3} <= {}",
                if met { "met   " } else { "MISSED" },
                target.server,
                target.base,
                target.factor
            ));
        }
    }
    (lines.join("\n") + "\n", passed)
}
