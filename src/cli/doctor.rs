//! `corelane doctor`: what is not as it could be, each with what to type.
//!
//! Not here: what there is to find (`corelane::doctor`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corelane::config::Config;
use corelane::doctor::{self, Facts, Finding, NodeNumbers, Severity, Subject, Whose};
use serde::Serialize;

use super::ask::{self, Target, Wants};
use super::{CannotRun, Exit, print, serve, tell};

/// Bytes of metrics that are read: some 30 KiB a shard, for as many as there can be.
const METRICS_LEN_MAX: usize = 64 << 20;

/// What was asked for.
pub(super) struct Request {
    pub(super) json: bool,
    pub(super) node: Option<String>,
    pub(super) root: Option<PathBuf>,
    pub(super) pid: Option<u32>,
    pub(super) watch: Option<Duration>,
}

/// What is shown.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    kernel: String,
    /// What was looked at.
    facts: BTreeMap<&'static str, String>,
    findings: Vec<Finding>,
}

/// Looks, and says what there is to do. Exit 0 if nothing is worse than advice, else 2; 1 if it could not look.
pub(super) fn run(request: &Request, config: &Config) -> Exit {
    match report(request, config) {
        Ok(report) => show(&report, request.json),
        Err(CannotRun(why)) => {
            tell(format_args!("corelane: {why}"));
            Exit::Failed
        }
    }
}

fn report(request: &Request, config: &Config) -> Result<Report, CannotRun> {
    let root = request.root.clone().unwrap_or_else(|| PathBuf::from("/"));
    if !doctor::is_root(&root) {
        return Err(CannotRun(format!("--root {}: there is neither proc nor sys below it", root.display())));
    }
    if let Some(pid) = request.pid
        && !root.join(format!("proc/{pid}")).is_dir()
    {
        return Err(CannotRun(format!("--pid {pid}: there is no such process")));
    }
    let token = config.settings().admin_token.reveal();
    let field = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let node =
        request.node.as_deref().map(|url| ask::parse("--node", url, "/metrics")).transpose()?.map(|at| {
            // The interface itself stands for its numbers.
            let path = if at.path == "/" { "/metrics".to_owned() } else { at.path };
            Target { path, ..at }
        });
    // A node of this host has limits of its own, and one of another host is none of this one's processes.
    let whose = match (request.pid, &node) {
        (Some(pid), _) => Whose::Process(pid),
        (None, Some(target)) => pid_of(&root, target).map_or(Whose::Unknown, Whose::Process),
        (None, None) => Whose::Own,
    };
    let look = |probe: bool| {
        let without = serve::masked()?;
        let mut facts = Facts::gather(&Subject { root: &root, whose, config, without, probe });
        facts.node = node.as_ref().map(|target| numbers(target, &field));
        Ok::<Facts, CannotRun>(facts)
    };
    // Another machine has another kernel, another process other rights, and a node that runs has its rings.
    let probe = request.root.is_none() && request.pid.is_none() && node.is_none();
    let mut facts = look(probe)?;
    if let Some(time) = request.watch {
        std::thread::sleep(time);
        let (watched, probed) = (format!("within {time:?}"), facts.ring.clone());
        facts = look(false)?.since(&facts, &watched);
        facts.ring = probed;
    }
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        kernel: format!("{}.{}", facts.release.0, facts.release.1),
        facts: facts.summary().into_iter().collect(),
        findings: doctor::diagnose(&facts),
    })
}

/// The process that answers at `target`, if that is on this host and we may know.
fn pid_of(root: &Path, target: &Target) -> Option<u32> {
    let (host, port) = target.authority.rsplit_once(':')?;
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let here = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    here.then(|| doctor::process_listening(root, port.parse().ok()?)).flatten()
}

/// What the node says, or why it says nothing.
fn numbers(target: &Target, field: &str) -> NodeNumbers {
    let wants = Wants { time: Duration::from_secs(5), len_max: METRICS_LEN_MAX, line_only: false, field };
    let url = target.to_string();
    match ask::ask(target, wants) {
        Ok((200, answer)) => NodeNumbers::read(&url, &ask::body(&answer)),
        Ok((status, _)) => NodeNumbers::silent(&url, format!("it answers {status}")),
        Err(error) => NodeNumbers::silent(&url, error.to_string()),
    }
}

fn show(report: &Report, json: bool) -> Exit {
    let worse = report.findings.iter().any(|finding| finding.severity < Severity::Advice);
    let shown = if json {
        match sonic_rs::to_string_pretty(report) {
            Ok(text) => print(format_args!("{text}\n")),
            Err(error) => {
                tell(format_args!("corelane: the findings could not be written: {error}"));
                Exit::Failed
            }
        }
    } else {
        print(format_args!("{}", text(report)))
    };
    match shown {
        Exit::Done if worse => Exit::CouldNotRun,
        shown => shown,
    }
}

fn text(report: &Report) -> String {
    let Report { version, kernel, facts, findings } = report;
    let mut text = format!("corelane {version}, Linux {kernel}\n");
    for (name, value) in facts {
        text.push_str(&format!("  {name:<13} {value}\n"));
    }
    for finding in findings {
        text.push_str(&format!("\n{finding}"));
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (blocks, hurts, advice) = (count(Severity::Blocks), count(Severity::Hurts), count(Severity::Advice));
    match findings.len() {
        0 => text.push_str("\nok: nothing to do\n"),
        _ => text.push_str(&format!("\n{blocks} that block, {hurts} that hurt, {advice} to consider\n")),
    }
    text
}

/// A directory that stands for `/`.
pub(super) fn root_of(path: Option<&PathBuf>) -> Option<PathBuf> {
    path.filter(|path| path.as_path() != Path::new("/")).cloned()
}
