//! The A/B runner: servers on one CPU, the client on another, in interleaved rounds.
//!
//! Every round runs each server once, A B C, A B C, so that what drifts drifts for all. The figure is
//! server CPU time per answer; throughput and latency stand beside it.
//!
//! Not here: one run (`sample`), wrk (`wrk`), processes and their CPU time (`process`), the arithmetic
//! (`summary`), two revisions of this repository (`revisions`).

pub(crate) mod machine;
pub(crate) mod plan;
pub(crate) mod process;
pub(crate) mod sample;
pub(crate) mod summary;
mod wrk;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use machine::Machine;
use plan::{MaxRatio, Scenario, Server};
use sample::{Load, Window};
use summary::Series;

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
    let interrupted = interrupted()?;
    let series = measure(options, &scenarios, &interrupted)?;
    let results = Results { machine: &machine, rounds: options.rounds, secs: options.secs, series: &series };
    if let Some(path) = &options.json {
        let text = sonic_rs::to_string_pretty(&results).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let (text, passed) = report(options, &results, &scenarios);
    print(&text)?;
    Ok(passed)
}

/// Set by the first SIGINT or SIGTERM, which then no longer end the process.
pub(crate) fn interrupted() -> Result<Arc<AtomicBool>, String> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(|error| error.to_string())?;
    }
    Ok(interrupted)
}

/// Writes results to standard output. A closed pipe is no error.
pub(crate) fn print(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
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
    sample::check(options.server_cpu, options.client_cpu)
}

fn measure(options: &Options, scenarios: &[Scenario], stop: &AtomicBool) -> Result<Vec<Series>, String> {
    let total = scenarios.len() * options.rounds as usize * options.servers.len();
    let window = Window {
        path: &options.path,
        secs: options.secs,
        server_cpu: options.server_cpu,
        client_cpu: options.client_cpu,
    };
    let mut done = 0;
    let mut all = Vec::new();
    for &scenario in scenarios {
        let load = Load::new(scenario)?;
        let new = |server: &Server| Series {
            server: server.name.clone(),
            scenario,
            answer_len: 0,
            samples: Vec::new(),
        };
        let mut rows: Vec<Series> = options.servers.iter().map(new).collect();
        for round in 1..=options.rounds {
            for (server, row) in options.servers.iter().zip(&mut rows) {
                let sample = sample::take(&window, server, &load, &mut row.answer_len);
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
