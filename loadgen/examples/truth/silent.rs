//! A server that never answers one request in a hundred: those are lower bounds, and counted to the last.

use loadgen::engine::Unwatched;
use loadgen::model::Arrivals;
use loadgen::record::ErrorKind;
use loadgen::units;

use crate::Bench;
use crate::child::Process;
use crate::server::Habit;
use crate::table::Table;
use crate::traffic::{MS, SECOND, echo, open, run as perform, settings};

/// Requests a second: a multiple of what makes the counts whole.
const RATE: u64 = 5_000;
const SECONDS: u64 = 5;
const EVERY: u64 = 100;
const TIMEOUT_NS: u64 = SECOND;

pub(crate) fn run(bench: &Bench) -> Result<Table, String> {
    let habit = Habit { mean_ns: 0, seed: 1, silent_every: EVERY };
    let (_server, addr) = Process::queue_server(bench.server_cpu, habit)?;
    let traffic = open(Arrivals::Constant, RATE as f64);
    let mut asked = echo(settings(bench, addr, traffic, SECONDS * SECOND));
    // 50 at once are never answered until their time is up.
    (asked.connections, asked.timeout_ns, asked.drain_ns) = (256, TIMEOUT_NS, 2 * SECOND);
    asked.warmup_ns = SECOND;
    let run = perform(&asked, &mut Unwatched)?;

    let mut table = Table::new();
    let total = &run.total;
    let silent = RATE * SECONDS / EVERY;
    table.same("requests in the window", RATE * SECONDS, total.response.count());
    table.same("timeouts", silent, total.errors.get(ErrorKind::Timeout));
    table.same("all without an answer", silent, total.errors.total());
    table.same("lower bounds", silent, total.response.bounds_count());
    table.near_bound("response P99.5", TIMEOUT_NS, total.response.percentile(99.5), 0.002);
    table.near_bound("service max", TIMEOUT_NS, total.service.max(), 0.002);
    let median = total.response.percentile(50.0);
    let is_exact = median.is_some_and(|value| !value.is_bound() && value.ns() < MS);
    table.fact("response P50", "exact, < 1 ms", &median.map(units::value).unwrap_or_default(), is_exact);
    Ok(table)
}
