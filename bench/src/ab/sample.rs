//! One run of one server: the sample every comparison is made of.
//!
//! Start the server, ask it once, warm up, then read its CPU time, run the client, read again, end it.
//! Shared by `compare` and by the comparison of revisions, so that their figures mean the same.
//!
//! Not here: who runs when (`ab`, `revisions`), what becomes of samples (`summary`).

use std::io;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::NamedTempFile;

use super::plan::{Scenario, Server};
use super::process::{self, Running};
use super::summary::Sample;
use super::wrk;

/// Seconds of load before the measured window.
const WARM_UP_S: u32 = 1;

/// Where and for how long a server is measured.
pub(crate) struct Window<'a> {
    /// Path of the request.
    pub(crate) path: &'a str,
    /// Length of the measured window, seconds.
    pub(crate) secs: u32,
    /// CPU the server is pinned to.
    pub(crate) server_cpu: usize,
    /// CPU the client is pinned to.
    pub(crate) client_cpu: usize,
}

/// A scenario ready to run: with the client's script, if it takes one.
pub(crate) struct Load {
    scenario: Scenario,
    script: Option<NamedTempFile>,
}

impl Load {
    /// Writes the script that pipelining takes.
    ///
    /// # Errors
    /// No temporary file could be written.
    pub(crate) fn new(scenario: Scenario) -> Result<Self, String> {
        let script = match scenario.pipeline {
            1 => None,
            depth => Some(wrk::pipeline_script(depth).map_err(|error| error.to_string())?),
        };
        Ok(Self { scenario, script })
    }
}

/// Refuses what can be known to fail before a minute is spent on it: CPUs, and a machine without wrk.
///
/// # Errors
/// What is wrong, and what to type.
pub(crate) fn check(server_cpu: usize, client_cpu: usize) -> Result<(), String> {
    if server_cpu == client_cpu {
        return Err("--server-cpu and --client-cpu must differ".to_owned());
    }
    for cpu in [server_cpu, client_cpu] {
        process::cpu_busy_ns(cpu).map_err(|error| error.to_string())?;
    }
    match Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("wrk: {error}; to install it: apt-get install wrk")),
    }
}

/// Starts the server, warms it up, measures one window and ends it. `answer_len` becomes the length of
/// its answer to the first question, in bytes.
///
/// # Errors
/// The server did not start or answer, the client failed, or no CPU time was seen.
pub(crate) fn take(
    window: &Window<'_>,
    server: &Server,
    load: &Load,
    answer_len: &mut usize,
) -> Result<Sample, String> {
    let Load { scenario, ref script } = *load;
    let text = |error: io::Error| error.to_string();
    let port = process::free_port().map_err(text)?;
    let running = Running::start(&server.command_at(port, window.server_cpu), Some(window.server_cpu), port)?;
    *answer_len = running.probe(window.path)?;
    let url = format!("http://127.0.0.1:{port}{}", window.path);
    let run = |secs| -> Result<wrk::Report, String> {
        let mut command = wrk::command(scenario, script.as_ref(), secs, &url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = process::spawn_on(window.client_cpu, command).and_then(|child| child.wait_with_output());
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
        let busy = (process::cpu_busy_ns(window.server_cpu)?, process::cpu_busy_ns(window.client_cpu)?);
        Ok((running.cpu_time()?, process::waited_children_ns()?, busy, Instant::now()))
    };
    let (cpu_before, client_before, busy_before, start) = read().map_err(text)?;
    let report = run(window.secs)?;
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
