//! System calls of a request, counted by `strace -c -f -p` on a server of its own.
//!
//! strace stops the server at every call, so nothing is timed here. Its client runs without a warm-up, so
//! that all its requests lie between attaching and detaching. What a connection costs once, and not a
//! request, is left out by the names of the calls; some for each of the 64 connections stay in.
//!
//! Not here: strace itself; where it is missing or may not attach there is no figure.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Times;
use super::loads::Load;
use super::sample::{Bench, await_client, spawn_client, start};
use super::server::{Group, Trouble};
use super::subjects::Server;

/// How long the client asks.
pub(super) const WINDOW_MS: u64 = 500;

/// How long strace may take to attach, and to write its table.
const ATTACH_MAX: Duration = Duration::from_secs(1);

/// Calls that open or close a connection, or ask for its addresses. Those that may belong to a request as
/// well (`setsockopt`, `fcntl`, `ioctl`, `epoll_ctl`) are counted.
const OF_CONNECTIONS: [&str; 7] =
    ["accept", "accept4", "close", "shutdown", "getpeername", "getsockname", "socket"];

/// System calls of `server` for each request of `load`; `None` where it could not be counted.
///
/// # Errors
/// The user ended the run.
pub(super) fn per_request(
    bench: &Bench<'_>,
    server: &Server,
    load: &Load,
    rate: Option<f64>,
) -> Result<Option<f64>, Trouble> {
    match count(bench, server, load, rate) {
        Err(Trouble::Interrupted) => Err(Trouble::Interrupted),
        Err(_) => Ok(None),
        Ok(figure) => Ok(figure),
    }
}

fn count(bench: &Bench<'_>, server: &Server, load: &Load, rate: Option<f64>) -> Result<Option<f64>, Trouble> {
    let mut started = start(bench, server, load)?;
    started.verify(load.target, false)?;
    let table = bench.folder.join("calls");
    let _ = fs::remove_file(&table);
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-q", "-o"]).arg(&table);
    for pid in &started.pids {
        command.args(["-p", &pid.to_string()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut strace = Group::spawn(command, None).map_err(Trouble::here("strace"))?;
    let begin = Instant::now();
    while !started.pids.iter().all(|&pid| is_traced(pid)) {
        if strace.ended().is_some() || begin.elapsed() > ATTACH_MAX {
            return Ok(None);
        }
        bench.stop.check()?;
        thread::sleep(Duration::from_millis(5));
    }
    let times = Times { warm_up_ms: 0, window_ms: WINDOW_MS };
    let client = spawn_client(bench, load, times, started.port, rate)?;
    let answered = await_client(bench, client, times, Duration::from_secs(1), |_| {})?;
    strace.interrupt(ATTACH_MAX);
    let text = fs::read_to_string(&table).unwrap_or_default();
    let calls = calls_of(&text);
    Ok(calls.filter(|_| answered.completed > 0).map(|calls| calls as f64 / answered.completed as f64))
}

/// Whether every thread of a process is traced; workers of io_uring (`iou-wrk`) make no calls and cannot be.
fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        if status.starts_with("Name:\tiou-") {
            return true;
        }
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|pid| pid.trim() != "0")
    })
}

/// The sum of the column `calls` but for [`OF_CONNECTIONS`]. A row is `TIME SECONDS USECS CALLS [ERRORS]
/// NAME`.
fn calls_of(table: &str) -> Option<u64> {
    let rows = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let name = *words.last()?;
        let calls: u64 = words.get(3)?.parse().ok()?;
        (words.len() >= 5 && name != "total").then_some((name, calls))
    });
    let counts: Vec<u64> = rows.filter(|(name, _)| !OF_CONNECTIONS.contains(name)).map(|(_, n)| n).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.006000           3      2000           sendto
 30.00    0.003000           1      2100       100 recvfrom
  9.00    0.000900           9       100           epoll_wait
  1.00    0.000100           1        64           accept4
------ ----------- ----------- --------- --------- ----------------
100.00    0.010000           2      4264       100 total
";

    #[test]
    fn calls_are_summed_without_those_of_connections() {
        assert_eq!(calls_of(TABLE), Some(4_200));
    }

    #[test]
    fn a_table_without_calls_is_no_figure() {
        assert_eq!(calls_of(""), None);
        assert_eq!(calls_of("strace: attach: ptrace(PTRACE_SEIZE, 1): Operation not permitted\n"), None);
    }
}
