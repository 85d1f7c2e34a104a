//! A server that is stopped (SIGSTOP) for 200 ms in each second, at 10,000 requests a second: what users wait
//! against what is computed from the times of the stops, the service time that hides most of it, and a closed
//! loop, which hides all of it but the maximum.
//!
//! wrk is shown beside them, if there is one. Its loop is closed, too, but it does not print what it
//! measured: for each slow answer it adds those that its connection might have had meanwhile
//! (`stats_correct`), at the mean distance of its own requests. So its percentiles are a model, and one of
//! another rate.
//!
//! The computed times are Lindley's recursion over the schedule itself, with a server that stands still in
//! the stops and else takes `1 / rate of a closed loop` for each request. That rate is measured just before,
//! with the same connections: after a stop all of them are busy and each is asked again when it has answered,
//! which is a closed loop until the backlog is gone.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;

use corelane_sys::clock::mono_ns;
use corelane_sys::cpu;
use loadgen::engine::{Unwatched, Watch};
use loadgen::model::{Arrivals, Run, Settings};
use loadgen::plan::{self, Dealt, Schedule};
use loadgen::record::Latency;
use loadgen::units;
use rustix::process::Pid;

use crate::Bench;
use crate::child::{Process, Stopper, Stops};
use crate::lindley::{Request, percentile, responses};
use crate::table::Table;
use crate::traffic::{CLOSED, MS, SECOND, SEED, noise, open, run as perform, settings};

const RATE: f64 = 10_000.0;
const SECONDS: u32 = 10;
/// Of the closed loop that is shown beside it.
const CLOSED_SECONDS: u32 = 5;
const STOP_NS: u64 = 200 * MS;
/// From the begin of a second of the window to the stop in it.
const FIRST_NS: u64 = 400 * MS;

const PERCENTS: [(&str, f64); 4] = [("P90", 90.0), ("P95", 95.0), ("P99", 99.0), ("max", 100.0)];

/// Names the start, and stops the server by it.
struct Stopping {
    pid: Pid,
    warmup_ns: u64,
    seconds: u32,
    start_ns: u64,
    stopper: Option<Stopper>,
}

impl Watch for Stopping {
    fn ready(&mut self) -> Result<u64, String> {
        self.start_ns = mono_ns() + 50 * MS;
        let first_ns = self.start_ns + self.warmup_ns + FIRST_NS;
        self.stopper = Some(Stopper::start(self.pid, first_ns, self.seconds, STOP_NS));
        Ok(self.start_ns)
    }
}

pub(crate) fn run(bench: &Bench) -> Result<Table, String> {
    let (server, addr) = Process::null_server(bench.server_cpu)?;
    let drain = perform(&settings(bench, addr, CLOSED, 1_500 * MS), &mut Unwatched)?.rate();
    if drain < 2.0 * RATE {
        return Err(format!(
            "the server does {drain:.0} requests a second, too few to see stops at {RATE:.0}"
        ));
    }

    let asked = settings(bench, addr, open(Arrivals::Constant, RATE), u64::from(SECONDS) * SECOND);
    let (run, start_ns, stops) = stopped(&server, &asked, SECONDS)?;

    let warmup_ns = asked.warmup_ns;
    let end_ns = warmup_ns + asked.duration_ns;
    let schedule = Schedule::new(&Arrivals::Constant, &plan::constant_rate(RATE), SEED, Dealt::ALL)?;
    let slots: Vec<u64> = schedule.map(|slot| slot.at_ns).take_while(|&at| at < end_ns).collect();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some microseconds
    let work_ns = (1e9 / drain).round() as u64;
    let requests: Vec<_> = slots.iter().map(|at| Request { comes_ns: start_ns + at, work_ns }).collect();
    let all = responses(&requests, &stops.times);
    let in_window = slots.iter().zip(all).filter(|(at, _)| **at >= warmup_ns);
    let computed: Vec<u64> = in_window.map(|(_, response)| response).collect();

    let mut table = Table::new();
    let total = &run.total;
    table.same("requests in the window", computed.len() as u64, total.response.count());
    table.same("without an answer", 0, total.errors.total());
    for (name, percent) in PERCENTS {
        let expected = percentile(&computed, percent);
        table.near(&format!("response {name}"), expected, total.response.percentile(percent), 0.02);
    }
    table.note(format!("drain rate {drain:.0}/s, of a closed loop of 1.5 s before"));
    let asleep: u64 = stops.times.iter().map(|(from, to)| to - from).sum();
    table.note(format!(
        "{} stops, {} together; each time is known to {}",
        stops.times.len(),
        units::duration(asleep),
        units::duration(stops.kill_ns_max / 2)
    ));
    table.note(format!("service time, the smaller story: {}", line(&total.service)));
    table.note(noise(&run, &server));

    let asked = settings(bench, addr, CLOSED, u64::from(CLOSED_SECONDS) * SECOND);
    let (run, ..) = stopped(&server, &asked, CLOSED_SECONDS)?;
    let (rate, all) = (run.rate(), line(&run.total.response));
    table.note(format!("a closed loop with the same stops hides them: {all}, at {rate:.0}/s"));
    let wrk = wrk(bench, &server, addr)?;
    table.note(format!("wrk, a closed loop with samples added by formula: {wrk}"));
    Ok(table)
}

/// A run against a server that is stopped, the start of its schedule, and the stops.
fn stopped(server: &Process, asked: &Settings, seconds: u32) -> Result<(Run, u64, Stops), String> {
    let (pid, warmup_ns) = (server.pid(), asked.warmup_ns);
    let mut watch = Stopping { pid, warmup_ns, seconds, start_ns: 0, stopper: None };
    let result = perform(asked, &mut watch);
    let stops = watch.stopper.take().map(|stopper| stopper.end(result.is_err()));
    Ok((result?, watch.start_ns, stops.ok_or("the run never began")??))
}

fn line(latency: &Latency) -> String {
    let of = |(name, percent)| {
        format!("{name} {}", latency.percentile(percent).map(units::value).unwrap_or_default())
    };
    PERCENTS.map(of).join(", ")
}

/// What wrk says of the same server with the same stops; or that there is no wrk.
fn wrk(bench: &Bench, server: &Process, addr: SocketAddr) -> Result<String, String> {
    let cpu = bench.client_cpu;
    let seconds = format!("-d{SECONDS}s");
    let url = format!("http://{addr}/");
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c64", &seconds, "--latency", &url]).stdin(Stdio::null()).stderr(Stdio::null());
    let stopper = Stopper::start(server.pid(), mono_ns() + FIRST_NS, SECONDS, STOP_NS);
    // A child stays on the CPUs of the thread that starts it.
    let body = move || cpu::pin_current_thread(cpu).and_then(|()| command.output());
    let output = thread::spawn(body).join().map_err(|_| "the thread that starts wrk panicked")?;
    stopper.end(true)?;
    let output = match output {
        Ok(output) if output.status.success() => output,
        Ok(output) => return Ok(format!("it ended with {}", output.status)),
        Err(error) => return Ok(format!("not shown, it could not be started: {error}")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let words = |start: &str| {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(start));
        line.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default()
    };
    let word = |start: &str, at: usize| words(start).get(at).cloned().unwrap_or("?".into());
    Ok(format!(
        "P50 {}, P90 {}, P99 {}, max {}, at {}/s",
        word("50%", 1),
        word("90%", 1),
        word("99%", 1),
        word("Latency ", 3),
        word("Requests/sec:", 1)
    ))
}
