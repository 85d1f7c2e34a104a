//! Whether a schedule of 50,000 requests a second is kept, and whether a Poisson schedule is one.
//!
//! Send lag has the waiting for a free connection in it. So there are enough of them for the server to be
//! held up for 5 ms, by the control thread for one, which it shares its CPU with.

use loadgen::engine::Unwatched;
use loadgen::model::{Arrivals, Run, Settings};
use loadgen::plan::fit::anderson_darling_exponential;
use loadgen::plan::{self, Dealt, Schedule};
use loadgen::record::Latency;
use loadgen::units;

use crate::Bench;
use crate::child::Process;
use crate::table::Table;
use crate::traffic::{SECOND, SEED, noise, open, run as perform, settings};

const RATE: f64 = 50_000.0;
const DURATION_NS: u64 = 5 * SECOND;
const LAG_NS: u64 = 50_000;
const CONNECTIONS: u32 = 256;
const GAPS: usize = 10_000;

pub(crate) fn run(bench: &Bench) -> Result<Table, String> {
    let mut table = Table::new();
    let (server, addr) = Process::null_server(bench.server_cpu)?;
    let of = |arrivals| {
        let asked = settings(bench, addr, open(arrivals, RATE), DURATION_NS);
        perform(&Settings { connections: CONNECTIONS, ..asked }, &mut Unwatched)
    };
    let run = of(Arrivals::Constant)?;
    table.same("constant: requests", run.total.counts.intended, run.total.counts.sent);
    table.near_rate("constant: rate", RATE, run.rate(), 0.001);
    table.at_most("constant: send lag P99", LAG_NS, run.total.send_lag.percentile(99.0));
    table.note(format!("constant: {}", lags(&run)));
    table.note(format!("constant: {}", noise(&run, &server)));

    let schedule = Schedule::new(&Arrivals::Poisson, &plan::constant_rate(RATE), SEED, Dealt::ALL)?;
    let times: Vec<u64> = schedule.take(GAPS + 1).map(|slot| slot.at_ns).collect();
    let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
    let (statistic, p) = anderson_darling_exponential(&gaps);
    let what = format!("poisson: {} scheduled gaps", gaps.len());
    table.fact(&what, "p > 0.01", &format!("p = {p:.3}"), p > 0.01);
    table.note(format!("poisson: Anderson-Darling statistic {statistic:.3}"));

    let run = of(Arrivals::Poisson)?;
    table.same("poisson: requests", run.total.counts.intended, run.total.counts.sent);
    table.at_most("poisson: send lag P99", LAG_NS, run.total.send_lag.percentile(99.0));
    table.note(format!("poisson: {}", lags(&run)));
    table.note(format!("poisson: {}", noise(&run, &server)));
    Ok(table)
}

fn lags(run: &Run) -> String {
    let line = |latency: &Latency| {
        let of = |percent| latency.percentile(percent).map(units::value).unwrap_or_default();
        format!("P50 {}, P99 {}, P99.9 {}, max {}", of(50.0), of(99.0), of(99.9), of(100.0))
    };
    let busy: u64 = run.workers.iter().map(|worker| worker.cpu_ns.saturating_sub(worker.spin_ns)).sum();
    let share = units::percent(busy as f64 / run.measured_ns.max(1) as f64);
    let (total, waited) = (&run.total, run.total.counts.waited);
    format!(
        "send lag {}; our own {}; {waited} waited for a connection; worked {share}",
        line(&total.send_lag),
        line(&total.own_lag)
    )
}
