//! Peers: Corelane beside other servers, under the same loads, in one run.
//!
//! Each server is started afresh on one CPU and asked by loadgen from another, in interleaved rounds; the
//! figure is server CPU time of a request. What cannot run on this machine is a row that says why. The result
//! is a table on standard output, a JSON file, and a page beside it.
//!
//! # Rules
//! 1. Whatever was started is ended and whatever was written is removed, however the run ends ([`Stop`]).
//! 2. Exit code 1 when an answer was wrong (of a peer: when the one that is verified was), or with `--strict` a
//!    target was missed; 2 when it could not run.
//!
//! Not here: two servers compared by a command each (`compare`), messages between cores (`mesh`).

mod client;
mod figures;
mod html;
mod loads;
mod model;
mod plan;
mod proxies;
mod run;
mod sample;
mod server;
mod subjects;
mod syscalls;
mod table;
mod targets;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::ab::machine::Machine;
use crate::ab::process::cpu_busy_ns;
use loads::Target;
use model::Report;
use run::{Found, Task};
use sample::Bench;
use server::Trouble;
use subjects::Places;

/// When a quick run begins to leave later rounds out: it ends within ten minutes.
const QUICK_MAX: Duration = Duration::from_secs(570);

/// What to compare, and how.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Options {
    /// Short windows and few rounds: ends within ten minutes.
    #[arg(long)]
    quick: bool,
    /// Loads, by their names: --list prints them.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "all")]
    scenarios: Vec<String>,
    /// Servers, by their names: --list prints them.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "all")]
    subjects: Vec<String>,
    /// Print the names of loads and servers, with those that are not here, and end.
    #[arg(long)]
    list: bool,
    /// Rounds of every load, instead of its own.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Length of a measured window, like 700ms or 2s.
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    window: Option<u64>,
    /// CPU the server is pinned to.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU the client is pinned to.
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
    /// Do not build Corelane and loadgen first.
    #[arg(long)]
    no_build: bool,
    /// Build the peers as well: bench/peers/build.
    #[arg(long)]
    build: bool,
    /// A folder with programs of peers, before the usual ones; several times for several.
    #[arg(long, value_name = "DIR")]
    peers_dir: Vec<PathBuf>,
    /// The folder with corelane, loadgen and examples/downloads; with --no-build [default: target/release]
    #[arg(long, value_name = "DIR", requires = "no_build")]
    programs: Option<PathBuf>,
    /// Where the result goes; its page goes beside it [default: bench/results/peers.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Exit with 1 if a target was missed.
    #[arg(long)]
    strict: bool,
    /// The client to use: for tests.
    #[arg(long, value_name = "FILE", hide = true)]
    loadgen: Option<PathBuf>,
}

/// Whether the user has asked for the end.
#[derive(Clone, Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Set by SIGINT and SIGTERM, and by the end of the terminal, from now on.
    fn on_signals() -> Result<Stop, String> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
        let stop = Stop::default();
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0)).map_err(|error| error.to_string())?;
        }
        Ok(stop)
    }

    /// Fails once it is set.
    fn check(&self) -> Result<(), Trouble> {
        if self.0.load(Ordering::Relaxed) { Err(Trouble::Interrupted) } else { Ok(()) }
    }
}

/// Runs it and prints it. `Ok(false)`: an answer was wrong, or with `--strict` a target was missed.
///
/// # Errors
/// Why it could not run, and what to type where that helps.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let loads = loads::chosen(&options.scenarios)?;
    check(options)?;
    let stop = Stop::on_signals()?;
    let target = target_folder()?;
    if !options.no_build && !options.list {
        build(options, &target, &stop)?;
    }
    let programs = options.programs.clone().unwrap_or_else(|| target.join("release"));
    let loadgen = options.loadgen.clone().unwrap_or_else(|| programs.join("loadgen"));
    let servers = subjects::chosen(&options.subjects, &Places::new(programs, &options.peers_dir))?;
    if options.list {
        return print(&list(&loads, &servers)).map(|()| true);
    }
    if !loadgen.is_file() {
        let path = loadgen.display();
        return Err(format!("no {path}: leave --no-build out, or type cargo build --release -p loadgen"));
    }
    raise_files();
    let folder = folder().map_err(|error| format!("a temporary folder: {error}"))?;
    let blob = proxies::write(folder.path(), "blob", &String::from_utf8_lossy(&Target::Blob.body()))
        .map_err(|error| format!("{}: {error}", folder.path().display()))?;
    let cpus = [options.server_cpu, options.client_cpu];
    let bench = Bench { loadgen: &loadgen, cpus, folder: folder.path(), blob, stop: stop.clone() };
    let budget = (options.quick && options.rounds.is_none()).then_some(QUICK_MAX);
    let window_ms = options.window;
    let task = Task { servers, loads, quick: options.quick, rounds: options.rounds, window_ms, budget };
    let machine = Machine::here();
    let found = run::measure(&task, &bench).map_err(|trouble| match trouble {
        Trouble::Interrupted => "interrupted".to_owned(),
        Trouble::Absent(why) | Trouble::Wrong(why) => why,
    })?;
    let right = found.wrong.is_empty();
    let report = report(options, &task, machine, found);
    let json = options.json.clone().unwrap_or_else(|| subjects::folder().join("results/peers.json"));
    write(&report, &json)?;
    print(&table::text(&report))?;
    eprintln!("written: {} and {}", json.display(), page_beside(&json).display());
    let met = report.targets.iter().all(|target| target.met != Some(false));
    Ok(right && (met || !options.strict))
}

fn report(options: &Options, task: &Task, machine: Machine, found: Found) -> Report {
    let usual = sample::times(&loads::all()[0], options.quick, options.window);
    let mut report = Report {
        schema: 1,
        machine,
        quick: options.quick,
        window_ms: usual.window_ms,
        server_cpu: options.server_cpu,
        client_cpu: options.client_cpu,
        subjects: task.servers.iter().map(|server| server.subject.clone()).collect(),
        scenarios: found.scenarios,
        rows: found.rows,
        targets: Vec::new(),
        notes: found.notes,
        elapsed_s: found.elapsed.as_secs_f64(),
    };
    report.targets = targets::judge(&report);
    report.notes.extend(table::notes(&report));
    report.notes.push(
        "what a call between two shards costs beside crossbeam, flume and a mutex: bench mesh".to_owned(),
    );
    report
}

/// Refuses what can be known to fail before ten minutes are spent on it.
fn check(options: &Options) -> Result<(), String> {
    if options.server_cpu == options.client_cpu {
        return Err("--server-cpu and --client-cpu must differ".to_owned());
    }
    for (flag, cpu) in [("--server-cpu", options.server_cpu), ("--client-cpu", options.client_cpu)] {
        cpu_busy_ns(cpu).map_err(|_| format!("{flag} {cpu}: this machine has no such CPU"))?;
    }
    Ok(())
}

/// Reads `700ms` or `2s`.
fn milliseconds(text: &str) -> Result<u64, String> {
    let number = |digits: &str, unit: u64| digits.parse::<u64>().ok()?.checked_mul(unit).filter(|&ms| ms > 0);
    let parsed = match text.strip_suffix("ms") {
        Some(digits) => number(digits, 1),
        None => text.strip_suffix('s').and_then(|digits| number(digits, 1000)),
    };
    parsed.ok_or_else(|| "expected a time like 700ms or 2s".to_owned())
}

/// Where cargo builds: this program is in `debug`, `release` or so of it.
fn target_folder() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
    let folder = program.parent().and_then(Path::parent);
    folder.map(Path::to_path_buf).ok_or_else(|| format!("{}: in no folder of cargo", program.display()))
}

/// Builds what is measured, and shows how.
///
/// The example is built apart: cargo turns on what tests need for everything that is built beside it.
fn build(options: &Options, target: &Path, stop: &Stop) -> Result<(), String> {
    let root = subjects::folder().join("..");
    let cargo_into = |target: &Path, arguments: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--release", "--locked"]).args(arguments);
        command.arg("--target-dir").arg(target).current_dir(&root);
        command
    };
    let cargo = |arguments: &[&str]| cargo_into(target, arguments);
    eprintln!("building corelane and loadgen (--no-build leaves it out)");
    let programs = ["-p", "corelane", "-p", "loadgen", "--bin", "corelane", "--bin", "loadgen"];
    for arguments in [&programs[..], &["-p", "corelane", "--example", "downloads"]] {
        let status = wait(cargo(arguments), "cargo build", stop)?;
        if !status.success() {
            return Err(format!("cargo build: {status}"));
        }
    }
    let glommio = ["-p", "corelane", "--bin", "corelane", "--features", "glommio"];
    // Built apart, so that the default build is measured as it is.
    eprintln!("building corelane with the glommio host");
    let status = wait(cargo_into(&target.join("glommio"), &glommio), "cargo build", stop)?;
    if !status.success() {
        // One that does not build here is a row that says so.
        eprintln!("cargo build --features glommio: {status}");
    }
    if options.build {
        eprintln!("building the peers");
        let built = wait(Command::new(root.join("bench/peers/build")), "bench/peers/build", stop)?;
        if !built.success() {
            // One that does not build here is a row that says so.
            eprintln!("bench/peers/build: {built}");
        }
    }
    Ok(())
}

/// Runs `command` to its end, which an interrupt brings about.
fn wait(mut command: Command, name: &str, stop: &Stop) -> Result<ExitStatus, String> {
    let text = |error: io::Error| format!("{name}: {error}");
    // Standard output is for the table.
    command.stdin(Stdio::null()).stdout(io::stderr());
    let mut child = command.spawn().map_err(text)?;
    loop {
        match child.try_wait().map_err(text)? {
            Some(status) => return Ok(status),
            None => thread::sleep(Duration::from_millis(20)),
        }
        if stop.check().is_err() {
            let _ = rustix::process::kill_process(Pid::from_child(&child), Signal::TERM);
            let _ = child.wait();
            return Err("interrupted".to_owned());
        }
    }
}

/// Takes all the descriptors this process may have; what it starts inherits that.
fn raise_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // One that stays low shows in the rows of many connections.
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// A temporary folder that servers which gave up root may enter.
fn folder() -> io::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new().prefix("bench-peers").permissions(fs::Permissions::from_mode(0o755)).tempdir()
}

fn list(loads: &[loads::Load], servers: &[subjects::Server]) -> String {
    let mut lines = vec!["scenarios".to_owned()];
    lines.extend(loads.iter().map(|load| format!("  {:<16} {}", load.id, load.title)));
    lines.push("subjects".to_owned());
    for server in servers {
        let subject = &server.subject;
        let absent = subject.absent.as_ref().map_or_else(String::new, |why| format!(" - {why}"));
        lines.push(format!("  {:<16} {}{absent}", subject.name, subject.what));
    }
    lines.join("\n") + "\n"
}

fn page_beside(json: &Path) -> PathBuf {
    json.with_extension("html")
}

/// Writes the result and its page.
fn write(report: &Report, json: &Path) -> Result<(), String> {
    let text = sonic_rs::to_string_pretty(report).map_err(|error| error.to_string())?;
    if let Some(folder) = json.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    for (path, text) in [(json.to_path_buf(), text + "\n"), (page_beside(json), html::page(report))] {
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Prints to standard output; a closed pipe is no error.
fn print(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_number_with_a_unit() {
        assert_eq!(milliseconds("700ms"), Ok(700));
        assert_eq!(milliseconds("2s"), Ok(2000));
        for text in ["2", "0s", "-1s", "ms", "s", "1.5s", "99999999999999999999s"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_page_is_beside_the_result() {
        assert_eq!(page_beside(Path::new("/x/peers.json")), Path::new("/x/peers.html"));
        assert_eq!(page_beside(Path::new("result")), Path::new("result.html"));
    }

    #[test]
    fn a_stop_is_shared_by_its_copies() {
        let stop = Stop::default();
        let copy = stop.clone();
        assert_eq!(copy.check(), Ok(()));
        stop.0.store(true, Ordering::Relaxed);
        assert_eq!(copy.check(), Err(Trouble::Interrupted));
    }
}
