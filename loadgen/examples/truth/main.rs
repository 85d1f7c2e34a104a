//! The experiments that show whether the numbers of `loadgen` are true: servers whose latency can be
//! computed, and generators that are kept from working. Run by hand, on a machine with nothing else to do:
//!
//! ```text
//! cargo run --release -p loadgen --example truth [-- stall|queue|silent|starved|pacing|all]
//! ```
//!
//! All together take about 100 s. Exit codes: 0 everything is within bounds, 1 something is not, 2 something
//! could not run. The servers are processes of their own, on the first CPU this one may use; the generator
//! has the last. What else there is here (the control thread of the engine, what stops a server) runs beside
//! the servers, never beside the generator.
//!
//! Not here: the same on a simulated kernel, exact and without time (`loadgen::worker`, its tests).
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for people

mod child;
mod lindley;
mod pacing;
mod queue;
mod server;
mod silent;
mod stall;
mod starved;
mod table;
mod traffic;

use std::process::ExitCode;

use corelane_sys::cpu;

use table::Table;

/// The CPUs of both sides.
#[derive(Clone, Copy)]
struct Bench {
    server_cpu: usize,
    client_cpu: usize,
}

type Experiment = fn(&Bench) -> Result<Table, String>;

const EXPERIMENTS: [(&str, Experiment); 5] = [
    ("stall", stall::run),
    ("queue", queue::run),
    ("silent", silent::run),
    ("starved", starved::run),
    ("pacing", pacing::run),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == child::MARK) {
        return match child::perform(&words[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => could_not_run(&error),
        };
    }
    match perform(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => could_not_run(&error),
    }
}

fn could_not_run(error: &str) -> ExitCode {
    eprintln!("truth: {error}");
    ExitCode::from(2)
}

/// Whether everything was within bounds.
fn perform(words: &[String]) -> Result<bool, String> {
    let is_wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name || word == "all");
    if let Some(word) =
        words.iter().find(|word| *word != "all" && !EXPERIMENTS.iter().any(|(name, _)| name == word))
    {
        let names = EXPERIMENTS.map(|(name, _)| name).join(", ");
        return Err(format!("no experiment is called {word:?}: there are {names}, and all"));
    }
    let cpus = cpu::allowed_cpus().map_err(|error| format!("cannot read which CPUs may be used: {error}"))?;
    let (Some(&server_cpu), Some(&client_cpu)) = (cpus.first(), cpus.last()) else {
        return Err("this process may use no CPU".into());
    };
    if server_cpu == client_cpu {
        return Err(format!("only CPU {server_cpu} may be used: server and generator need one each"));
    }
    let bench = Bench { server_cpu, client_cpu };
    cpu::pin_current_thread(server_cpu)
        .map_err(|error| format!("cannot stay on CPU {server_cpu}: {error}"))?;
    println!("servers on CPU {server_cpu}, generator on CPU {client_cpu}; {}", load());

    let (mut is_good, mut failed) = (true, Vec::new());
    for (name, experiment) in EXPERIMENTS.into_iter().filter(|(name, _)| is_wanted(name)) {
        match experiment(&bench) {
            Ok(table) => is_good &= table.print(name),
            Err(error) => {
                println!("\n{name}: could not run: {error}");
                failed.push(name);
            }
        }
    }
    println!("\n{}", load());
    if failed.is_empty() { Ok(is_good) } else { Err(format!("could not run: {}", failed.join(", "))) }
}

/// How busy the machine is: what to doubt the figures by.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let minute = text.split(' ').next().unwrap_or("?").to_owned();
    format!("load of the last minute: {minute} (a run of these alone makes about 1.5)")
}
