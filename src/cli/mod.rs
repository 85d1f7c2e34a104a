//! The command line.
//!
//! A flag that sets a key is made from the key's own definition (`corelane::config::keys`); the others are
//! defined here, once each. Data goes to standard output, talk to standard error.
//!
//! # Rules
//! 1. A standard output or error that nobody reads any more is not an error.
//! 2. What could not run says so in one line that starts with `corelane: `, and ends with 2.
//!
//! Not here: what keys mean (`config`), what the host refuses (`preflight`).

mod ask;
mod check;
mod doctor;
mod health;
mod logging;
mod serve;

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use corelane::config::{CONFIG_ENV, Config, Flag, Key, Layers, Settings, keys};

use serve::WITHOUT_ENV;

/// How the program ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// Did what it was asked to.
    Done = 0,
    /// Ran, and the outcome is bad: a shard ended, a node is not healthy.
    Failed = 1,
    /// Could not run: the command line, the configuration or the host.
    CouldNotRun = 2,
}

/// Something that keeps the program from running, for one line on standard error.
pub(crate) struct CannotRun(String);

impl<E: std::error::Error> From<E> for CannotRun {
    fn from(error: E) -> CannotRun {
        CannotRun(error.to_string())
    }
}

/// Runs the program and answers with its exit code.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match command().try_get_matches_from(arguments) {
        Ok(matches) => run(&matches).unwrap_or_else(|CannotRun(why)| {
            tell(format_args!("corelane: {why}"));
            Exit::CouldNotRun
        }),
        Err(error) => {
            // Rule 1.
            drop(error.print());
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
                _ => Exit::CouldNotRun,
            }
        }
    };
    ExitCode::from(exit as u8)
}

fn run(matches: &ArgMatches) -> Result<Exit, CannotRun> {
    match matches.subcommand() {
        Some(("health", matches)) => {
            let given = |id: &str| matches.get_one::<String>(id);
            return match given("url").or_else(|| given("at")) {
                Some(url) => health::ask_url(url),
                None => Ok(health::ask_node(&load(matches)?)),
            };
        }
        Some(("check", matches)) => return check::run(&load(matches)?),
        Some(("doctor", matches)) => return Ok(doctor::run(&doctor_request(matches), &load(matches)?)),
        _ => {}
    }
    let config = load(matches)?;
    if matches.get_flag("print-config") {
        return Ok(print(format_args!("{}", config.to_toml())));
    }
    if matches.get_flag("check") { serve::check(&config, true) } else { serve::run(config) }
}

const ABOUT: &str = "A thread-per-core io_uring server";

const LONG_ABOUT: &str = "\
A thread-per-core io_uring server.

Without arguments it serves GET /health, GET /plaintext, GET /json and POST /echo
on port 8080. Once it accepts connections it prints `listening on http://ADDR:PORT`
to standard output; everything else it has to say goes to standard error. SIGTERM
or Ctrl-C lets it finish what it has begun; a second one ends it at once.

A setting comes from the defaults, then the file, then the environment, then flags;
the last one wins.";

const AFTER_HELP: &str = "See all of it, with the environment and exit codes, with --help.";

/// The end of `--help`, with the variables of the keys.
fn after_long_help() -> String {
    let keys: String = keys::all()
        .filter_map(|key| Some(format!("  {:24} The key {} of the file\n", key.env?, key.name)))
        .collect();
    format!(
        "Environment:\n{keys}\
         \x20 {CONFIG_ENV:24} As --config\n\
         \x20 {WITHOUT_ENV:24} Ring features to leave off, by commas, to walk the paths of old kernels\n\
         \x20 NOTIFY_SOCKET            Told when it serves, ends and lives, as by sd_notify(3)\n\
         \x20 LISTEN_FDS               Sockets to serve that are open already, as by sd_listen_fds(3)\n\
         \x20 NO_COLOR                 No colours, whatever the terminal can do\n\n\
         Exit codes:\n\
         \x20 0  done\n\
         \x20 1  ran, and failed\n\
         \x20 2  could not run: the command line, the configuration or the host; standard error says why"
    )
}

fn command() -> Command {
    let health = Command::new("health")
        .about("Ask a running node for GET /health: exit 0 if it answers 200, else 1")
        .long_about(
            "Ask a running node for GET /health: exit 0 if it answers 200 within two seconds,\n\
             else 1.\n\n\
             For the health checks of containers and supervisors. Without --url it asks the\n\
             address the node would listen on by the same file, environment and flags; a\n\
             wildcard address by loopback, and the Unix socket if there is no address.",
        )
        .args(keys::find("listen").and_then(flag_of).map(|arg| arg.conflicts_with("url")))
        .arg(config_arg())
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .help("Where to ask, like http://127.0.0.1:8080/health"),
        )
        .arg(
            Arg::new("at").value_name("URL").help("The same as --url").conflicts_with_all(["url", "listen"]),
        );
    Command::new("corelane")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help(AFTER_HELP)
        .after_long_help(after_long_help())
        .args_conflicts_with_subcommands(true)
        .args(keys::all().filter_map(flag_of))
        .arg(limit_arg())
        .arg(config_arg())
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("Find out whether it would start, say what would run, and exit"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .conflicts_with("check")
                .help("Print every key with its value as a configuration file, and exit"),
        )
        .subcommand(health)
        .subcommand(check_command())
        .subcommand(doctor_command())
}

fn check_command() -> Command {
    Command::new("check")
        .about("Find out whether a configuration works here, while a node may run; exit 0 or 2")
        .long_about(
            "Find out whether a configuration works on this host, and say what would run: exit 0,\n\
             or 2 with the first thing that does not.\n\n\
             As --check, which also tries the addresses: those may be held by the node that is to\n\
             be restarted, so here they are left alone.",
        )
        .arg(
            Arg::new("config")
                .value_name("CONFIG")
                .value_parser(value_parser!(PathBuf))
                .help("The configuration file (TOML); without it what CORELANE_CONFIG names"),
        )
}

fn doctor_command() -> Command {
    let keys = ["listen", "shards", "cpus", "smt", "pin"];
    Command::new("doctor")
        .about("Find what slows or stops a node here, each with what to type; exit 0 or 2")
        .long_about(
            "Find what slows or stops a node on this host, or one that runs: evidence, cause, what\n\
             to type, what that brings, what it may break. Changes nothing.\n\n\
             Exit: 0 nothing worse than advice, 2 something that hurts or blocks, 1 could not look.\n\
             docs/DOCTOR.md lists all that it can find.",
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("One JSON object, for programs"))
        .arg(
            Arg::new("node")
                .long("node")
                .value_name("URL")
                .help("Look at the numbers of this node, like http://127.0.0.1:9901"),
        )
        .arg(
            Arg::new("pid")
                .long("pid")
                .value_name("PID")
                .value_parser(value_parser!(u32))
                .help("Look at the limits of this process instead of our own"),
        )
        .arg(
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=3600))
                .help("Count what happens within that time instead of since the boot"),
        )
        .arg(
            Arg::new("root")
                .long("root")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Read proc, sys and etc below this directory; nothing is asked of this kernel"),
        )
        .args(keys.into_iter().filter_map(|name| flag_of(keys::find(name)?)))
        .arg(limit_arg())
        .arg(config_arg())
}

fn doctor_request(matches: &ArgMatches) -> doctor::Request {
    doctor::Request {
        json: matches.get_flag("json"),
        node: matches.get_one::<String>("node").cloned(),
        root: doctor::root_of(matches.get_one::<PathBuf>("root")),
        pid: matches.get_one::<u32>("pid").copied(),
        watch: matches.get_one::<u64>("watch").map(|&seconds| Duration::from_secs(seconds)),
    }
}

/// The flag of a key.
fn flag_of(key: &'static Key) -> Option<Arg> {
    let (arg, help) = match key.flag? {
        Flag::Value { long, value } => (Arg::new(key.name).long(long).value_name(value), key.help),
        Flag::Values { long, value } => {
            (Arg::new(key.name).long(long).value_name(value).action(ArgAction::Append), key.help)
        }
        Flag::On { long } => (Arg::new(key.name).long(long).action(ArgAction::SetTrue), key.help),
        Flag::Off { long, help } => (Arg::new(key.name).long(long).action(ArgAction::SetTrue), help),
    };
    let default = match key.flag? {
        Flag::Value { .. } | Flag::Values { .. } => {
            format!(" [default: {}]", key.write(&Settings::default()).trim_matches('"'))
        }
        Flag::On { .. } | Flag::Off { .. } => String::new(),
    };
    let more = if key.more.is_empty() { String::new() } else { format!("\n{}", key.more) };
    let help = format!("{help}{default}");
    Some(arg.long_help(format!("{help}{more}")).help(help))
}

fn limit_arg() -> Arg {
    Arg::new("limit")
        .long("limit")
        .value_name("NAME=VALUE")
        .action(ArgAction::Append)
        .help("Set one limit, like connections_max=1000; may be repeated")
        .long_help(
            "Set one limit, like connections_max=1000 or idle_time=5m; may be repeated.\n\
             --print-config lists them all.",
        )
}

fn config_arg() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Read this configuration file (TOML)")
}

/// The settings that file, environment and the flags in `matches` make.
fn load(matches: &ArgMatches) -> Result<Config, CannotRun> {
    let given = |id: &str| matches.try_get_one::<String>(id).ok().flatten().cloned();
    let joined = |id: &str| {
        let values: Vec<&str> = matches.try_get_many::<String>(id).ok()??.map(String::as_str).collect();
        Some(values.join(","))
    };
    let switched = |id: &str| matches.try_get_one::<bool>(id).ok().flatten().is_some_and(|on| *on);
    let flags = keys::all().filter_map(|key| match key.flag? {
        Flag::Value { .. } => Some((key, given(key.name)?)),
        Flag::Values { .. } => Some((key, joined(key.name)?)),
        Flag::On { .. } => switched(key.name).then(|| (key, "true".to_owned())),
        Flag::Off { .. } => switched(key.name).then(|| (key, "false".to_owned())),
    });
    let limits = matches.try_get_many::<String>("limit").ok().flatten();
    let env = |name: &str| std::env::var_os(name);
    Ok(Config::load(&Layers {
        file: matches.try_get_one::<PathBuf>("config").ok().flatten().cloned(),
        env: Some(&env),
        flags: flags.collect(),
        limits: limits.into_iter().flatten().cloned().collect(),
    })?)
}

/// Text to standard output, at once: what the program was asked for. Rule 1; a full disk is an error.
pub(crate) fn print(text: fmt::Arguments<'_>) -> Exit {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            tell(format_args!("corelane: standard output: {error}"));
            Exit::Failed
        }
        _ => Exit::Done,
    }
}

/// A line to standard error. Rule 1.
pub(crate) fn tell(text: fmt::Arguments<'_>) {
    drop(writeln!(std::io::stderr(), "{text}"));
}
