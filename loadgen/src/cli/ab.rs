//! `loadgen ab`: two servers in turn, A B A B, so that what drifts hits both.
//!
//! A side is a URL, or a command that is started afresh for each measurement and ended by its process number.
//!
//! Not here: the statistics (`compare`).

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corelane_sys::{clock, cpu};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::args::AbArgs;
use super::session::Session;
use super::{Exit, compare, output, settings};
use crate::compare::{Comparison, Side, compare_all};
use crate::model::Run;

/// How long a server may take to accept, and to end.
const START_NS_MAX: u64 = 10_000_000_000;
const STOP_NS_MAX: u64 = 5_000_000_000;

/// Measurements of each side at most.
const ROUNDS_MAX: u32 = 1_000;

/// What is measured on one side.
enum Source {
    Url(String),
    Command(Vec<String>),
}

impl Source {
    fn parse(text: &str) -> Result<Source, String> {
        let is_url = text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains(char::is_whitespace));
        if is_url && !text.contains(char::is_whitespace) {
            return Ok(Source::Url(text.to_owned()));
        }
        let words = shlex::split(text).filter(|words| !words.is_empty());
        let words =
            words.ok_or_else(|| format!("{text:?} is neither a URL nor a command: look at its quotes"))?;
        if !text.contains("{port}") {
            return Err(format!(
                "the command {text:?} has no {{port}}: it must listen on 127.0.0.1:{{port}}"
            ));
        }
        Ok(Source::Command(words))
    }
}

/// A server that was started here; ended when dropped.
struct Server(Child);

impl Server {
    fn start(words: &[String], port: u16, on: usize) -> Result<Server, String> {
        let fill =
            |word: &String| word.replace("{port}", &port.to_string()).replace("{cpu}", &on.to_string());
        let words: Vec<String> = words.iter().map(fill).collect();
        let (program, arguments) = words.split_first().ok_or("an empty command")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A child inherits the CPUs of the thread that starts it.
        let starter = std::thread::spawn(move || {
            cpu::keep_current_thread_on(&[on]).map_err(|error| format!("CPU {on}: {error}"))?;
            command.spawn().map_err(|error| error.to_string())
        });
        let child = starter.join().unwrap_or_else(|_| Err("the starting thread panicked".into()));
        let mut server = Server(child.map_err(|error| format!("cannot start {program}: {error}"))?);
        let until = clock::mono_ns() + START_NS_MAX;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Ok(Some(status)) = server.0.try_wait() {
                return Err(format!("{program} ended early ({status}): try the command by itself"));
            }
            if clock::mono_ns() > until {
                return Err(format!("{program} does not accept on 127.0.0.1:{port} within 10 s"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself needs no signal.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let until = clock::mono_ns() + STOP_NS_MAX;
        while let Ok(None) = self.0.try_wait() {
            if clock::mono_ns() > until {
                drop(self.0.kill());
                drop(self.0.wait());
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn free_port() -> Result<u16, String> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map(|addr| addr.port()).map_err(|error| format!("no free port: {error}"))
}

/// What is written as JSON.
#[derive(Serialize)]
struct Written<'a> {
    comparisons: &'a [Comparison],
    a: Vec<&'a Run>,
    b: Vec<&'a Run>,
}

/// # Errors
/// What could not be measured or compared.
pub(crate) fn run(args: &AbArgs, command: &str) -> Result<Exit, String> {
    let sources = [Source::parse(&args.a)?, Source::parse(&args.b)?];
    if !(1..=ROUNDS_MAX).contains(&args.rounds) {
        return Err(format!("--rounds {} cannot work: it goes from 1 to {ROUNDS_MAX}", args.rounds));
    }
    args.host.refuse_agents("ab")?;
    if let Some(path) = &args.json {
        output::check_one(path)?;
    }
    let session = Session::new(command, args.quiet)?;
    let mut runs = [Vec::new(), Vec::new()];
    for round in 1..=args.rounds {
        for (side, source) in sources.iter().enumerate() {
            let name = ["A", "B"][side];
            let label = format!("[{name} {round}/{}] ", args.rounds);
            let (url, _server) = match source {
                Source::Url(url) => (url.clone(), None),
                Source::Command(words) => {
                    let port = free_port()?;
                    let url = args.target.replace("{port}", &port.to_string());
                    (url, Some(Server::start(words, port, args.server_cpu)?))
                }
            };
            let plan = settings::settings(&url, &args.traffic, &args.http, &args.others, &args.host)?;
            let measured = session.measure(&plan, &label);
            if session.asked.any() {
                return Err("ended early: nothing is compared".into());
            }
            let mut run = measured.map_err(|error| format!("{name}: {error}"))?;
            if let Source::Command(_) = source {
                // Each server had a port of its own; what was asked of all of them is the same.
                (run.settings.url, run.settings.port) = (args.target.clone(), 0);
            }
            runs[side].push(run);
        }
    }
    let sides = [Side::new(&*args.a, &runs[0]), Side::new(&*args.b, &runs[1])];
    let outcome = compare_all(&sides, &compare::options(&args.how));
    if let Some(path) = &args.json {
        let comparisons = outcome.as_deref().unwrap_or_default();
        let written = Written { comparisons, a: runs[0].iter().collect(), b: runs[1].iter().collect() };
        let text = sonic_rs::to_string_pretty(&written).map_err(|error| error.to_string())?;
        output::put(path, &(text + "\n"))?;
    }
    let all = outcome.map_err(|refused| refused.to_string())?;
    let tables = compare::tables(&all, args.color);
    if args.json.as_deref().is_some_and(output::is_stdout) {
        super::progress::tell(tables.trim_end());
    } else {
        output::print(&tables)?;
    }
    let worse = all.iter().any(Comparison::is_worse);
    Ok(if worse && args.how.fail_if_worse { Exit::Missed } else { Exit::Done })
}
