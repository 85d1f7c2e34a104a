//! `bench ab`: two revisions of this repository, built apart and measured in interleaved rounds.
//!
//! # Rules
//! 1. A round is one sample of each revision; every second round begins with B, so that what drifts within a
//!    round hits both as well. Samples are taken as `compare` takes them (`ab::sample`).
//! 2. Nothing is measured before both revisions are built and their checkouts are gone.
//! 3. An interrupt leaves neither a process nor a checkout.
//!
//! Not here: two binaries you have (`ab`), instructions against a baseline.

mod build;
mod cache;
mod child;
mod git;
mod interval;
mod report;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ab;
use crate::ab::machine::Machine;
use crate::ab::plan::{self, Scenario, Server};
use crate::ab::sample::{self, Load, Window};
use crate::ab::summary::Series;

use build::{Built, Recipe};
use cache::Cache;
use child::INTERRUPTED;
use git::Repo;
use interval::{JUDGED_ROUNDS_MIN, ROUNDS_MIN};
use report::{Compared, METHOD, Report, Side};

/// How the two are named in talk and tables.
const LETTERS: [&str; 2] = ["A", "B"];

/// What to compare, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The base of the ratios: anything git resolves to a commit, or `.` for the working directory.
    #[arg(value_name = "REV1", required_unless_present = "clean", requires = "rev_b")]
    rev_a: Option<String>,
    /// The revision judged: likewise.
    #[arg(value_name = "REV2")]
    rev_b: Option<String>,
    /// How a revision is started: {bin}, {port} and {cpu} are filled in. Split into words without a shell.
    #[arg(long, value_name = "COMMAND", default_value = "{bin} --listen 127.0.0.1:{port}")]
    command: String,
    /// How REV2 is started, if not like REV1.
    #[arg(long, value_name = "COMMAND")]
    command_b: Option<String>,
    /// The program to build, like bench/bench.
    #[arg(long, value_name = "PACKAGE[/BIN]", default_value = "corelane")]
    build: String,
    /// An example of the package of --build instead of a program.
    #[arg(long, value_name = "NAME")]
    example: Option<String>,
    /// A command that builds instead of cargo: run in the revision's folder, it puts the program at {out}.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["build", "example"])]
    build_command: Option<String>,
    /// Times each revision is measured in each scenario.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Run with too few rounds to tell anything.
    #[arg(long)]
    force: bool,
    /// Seconds of one measured window.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    secs: u32,
    /// Loads: connections, and requests in flight on each.
    #[arg(long, value_name = "CONNECTIONSxDEPTH", value_delimiter = ',', default_value = "64x1,512x1,64x16")]
    scenarios: Vec<Scenario>,
    /// Path of the request.
    #[arg(long, default_value = "/plaintext")]
    path: String,
    /// CPU the server is pinned to.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU the client is pinned to.
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
    /// Also count instructions a request, by the revision's own scripts/icount.
    #[arg(long)]
    icount: bool,
    /// Exit with 1 if all of the interval of the ratio of CPU a request is above this.
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    max_ratio: Option<f64>,
    /// Also write every sample to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Folder for checkouts, builds and kept binaries: target/bench-revisions of this repository.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Empty that folder first; without revisions, do only that.
    #[arg(long)]
    clean: bool,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse::<f64>().ok().filter(|factor| factor.is_finite() && *factor > 0.0);
    factor.ok_or_else(|| "expected a positive number, like 1.02".to_owned())
}

/// Builds, measures, and prints. `Ok(false)`: it ran, but a regression is proven or an answer was wrong.
///
/// # Errors
/// Why it could not run, and what to type where that helps.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let stop = ab::interrupted()?;
    let repo = Repo::of(&std::env::current_dir().map_err(|error| error.to_string())?)?;
    let root = options.dir.clone().unwrap_or_else(|| repo.top.join("target/bench-revisions"));
    let (Some(rev_a), Some(rev_b)) = (&options.rev_a, &options.rev_b) else {
        return Cache::open(&root, &repo)?.clean().map(|()| true);
    };
    let recipe = check(options)?;
    let commands = [&options.command, options.command_b.as_ref().unwrap_or(&options.command)];
    let revisions = [repo.resolve(rev_a)?, repo.resolve(rev_b)?];

    let cache = Cache::open(&root, &repo)?;
    if options.clean {
        cache.clean()?;
    }
    let mut depths: Vec<u32> = options.scenarios.iter().map(|scenario| scenario.pipeline).collect();
    depths.sort_unstable();
    depths.dedup();
    let depths = if options.icount { &depths[..] } else { &[] };
    let build = |revision| build::make(&repo, &cache, revision, &recipe, depths, &stop);
    let [a, b] = &revisions;
    let built = [build(a)?, build(b)?];
    let same_bytes = same_bytes(&built)?;

    let servers = servers(&built, commands)?;
    let machine = Machine::here();
    let scenarios = measure(options, &servers, &stop)?;
    let [side_a, side_b] = [0, 1].map(|at| Side {
        revision: revisions[at].clone(),
        built: built[at].clone(),
        command: commands[at].clone(),
    });
    let mut report = Report {
        schema: 1,
        machine,
        sides: [side_a, side_b],
        build: recipe.to_string(),
        path: options.path.clone(),
        server_cpu: options.server_cpu,
        client_cpu: options.client_cpu,
        rounds: options.rounds,
        secs: options.secs,
        method: METHOD,
        scenarios,
        notes: Vec::new(),
        max_ratio: options.max_ratio,
        passed: true,
    };
    report.judge(same_bytes);
    ab::print(&report.text())?;
    if let Some(path) = &options.json {
        let text = sonic_rs::to_string_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(report.passed)
}

/// Refuses what can be known to fail, or to tell nothing, before anything is built.
fn check(options: &Options) -> Result<Recipe, String> {
    if !options.force && options.rounds < ROUNDS_MIN {
        return Err(format!(
            "--rounds {} does not show how much runs differ: {ROUNDS_MIN} at least, better \
             {JUDGED_ROUNDS_MIN}, or --force",
            options.rounds
        ));
    }
    if !options.force && options.max_ratio.is_some() && options.rounds < JUDGED_ROUNDS_MIN {
        return Err(format!(
            "--max-ratio with --rounds {} would fail by chance: {JUDGED_ROUNDS_MIN} at least, or --force",
            options.rounds
        ));
    }
    for command in std::iter::once(&options.command).chain(&options.command_b) {
        for (word, why) in
            [("{bin}", "both revisions would start the same"), ("{port}", "nobody would find it")]
        {
            if !command.contains(word) {
                return Err(format!("the command `{command}` has no {word}, so {why}"));
            }
        }
    }
    let recipe = match &options.build_command {
        Some(command) if command.contains("{out}") => Recipe::Command(plan::words(command)?),
        Some(command) => {
            return Err(format!("the build command `{command}` has no {{out}}, where its result is due"));
        }
        None => Recipe::cargo(&options.build, options.example.as_deref())?,
    };
    sample::check(options.server_cpu, options.client_cpu)?;
    Ok(recipe)
}

/// How each side is started.
fn servers(built: &[Built; 2], commands: [&String; 2]) -> Result<[Server; 2], String> {
    let server = |at: usize| -> Result<Server, String> {
        let bin = built[at].binary.to_str().ok_or("the path of a binary is not UTF-8")?;
        let words = plan::words(commands[at])?;
        let command = words.into_iter().map(|word| word.replace("{bin}", bin)).collect();
        Ok(Server { name: LETTERS[at].to_owned(), command })
    };
    Ok([server(0)?, server(1)?])
}

/// Which side comes first and which second in a round, counted from 1: A B, B A, A B, ...
fn order(round: u32) -> [usize; 2] {
    if round % 2 == 1 { [0, 1] } else { [1, 0] }
}

fn measure(options: &Options, servers: &[Server; 2], stop: &AtomicBool) -> Result<Vec<Compared>, String> {
    let window = Window {
        path: &options.path,
        secs: options.secs,
        server_cpu: options.server_cpu,
        client_cpu: options.client_cpu,
    };
    let total = options.scenarios.len() * options.rounds as usize * servers.len();
    let mut done = 0;
    let mut all = Vec::new();
    for &scenario in &options.scenarios {
        let load = Load::new(scenario)?;
        let mut series = LETTERS.map(|letter| Series {
            server: letter.to_owned(),
            scenario,
            answer_len: 0,
            samples: Vec::new(),
        });
        for round in 1..=options.rounds {
            for at in order(round) {
                let letter = LETTERS[at];
                let row = &mut series[at];
                let sample = sample::take(&window, &servers[at], &load, &mut row.answer_len);
                if stop.load(Ordering::Relaxed) {
                    return Err(INTERRUPTED.to_owned());
                }
                let sample = sample.map_err(|error| format!("{letter} at {scenario}: {error}"))?;
                row.samples.push(sample);
                done += 1;
                eprintln!(
                    "[{done}/{total}] {scenario} round {round} {letter}: {:.3} us/request, {:.0} requests/s",
                    sample.cpu_us, sample.requests_per_s
                );
            }
        }
        all.extend(Compared::of(scenario, series));
    }
    Ok(all)
}

/// Whether the two binaries are one and the same.
fn same_bytes(built: &[Built; 2]) -> Result<bool, String> {
    let read = |at: usize| {
        let path = &built[at].binary;
        std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    Ok(read(0)? == read(1)?)
}

#[cfg(test)]
mod tests;
