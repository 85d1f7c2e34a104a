//! A queue with one server, Poisson arrivals and exponential work of 1 ms in the mean: what is measured
//! against Lindley's recursion over the same seeded draws.
//!
//! The requests of the warm-up are part of the recursion, and not of the percentiles: the window begins with
//! the queue that they left.
//!
//! The generator never sleeps here (`--busy-poll`): an answer that finds a virtual CPU halted for some
//! milliseconds is seen 50 us late or so, which is 4 % of the median and no part of the queue. What is left of
//! the way there and back, some 40 us, is within the bound.

use loadgen::engine::Unwatched;
use loadgen::model::Arrivals;
use loadgen::plan::{self, Dealt, Schedule};
use loadgen::units;

use crate::Bench;
use crate::child::Process;
use crate::lindley::{Request, percentile, responses};
use crate::server::{Habit, works};
use crate::table::Table;
use crate::traffic::{MS, SECOND, SEED, echo, noise, open, run as perform, settings};

const MEAN_NS: u64 = MS;
const WORK_SEED: u64 = 2;
const DURATION_NS: u64 = 20 * SECOND;
const UTILISATIONS: [f64; 2] = [0.5, 0.8];
const WITHIN: f64 = 0.05;

pub(crate) fn run(bench: &Bench) -> Result<Table, String> {
    let mut table = Table::new();
    for utilisation in UTILISATIONS {
        at(bench, utilisation, &mut table)?;
    }
    Ok(table)
}

fn at(bench: &Bench, utilisation: f64, table: &mut Table) -> Result<(), String> {
    let rate = utilisation * 1e9 / MEAN_NS as f64;
    let habit = Habit { mean_ns: MEAN_NS, seed: WORK_SEED, silent_every: 0 };
    let (server, addr) = Process::queue_server(bench.server_cpu, habit)?;
    let mut asked = echo(settings(bench, addr, open(Arrivals::Poisson, rate), DURATION_NS));
    (asked.connections, asked.busy_poll) = (512, true);
    // The control thread adds slices up on the CPU of the server, a good half of a millisecond each.
    asked.slice_ns = SECOND;
    let run = perform(&asked, &mut Unwatched)?;

    let end_ns = asked.warmup_ns + asked.duration_ns;
    let schedule = Schedule::new(&Arrivals::Poisson, &plan::constant_rate(rate), SEED, Dealt::ALL)?;
    let slots: Vec<u64> = schedule.map(|slot| slot.at_ns).take_while(|&at| at < end_ns).collect();
    let requests: Vec<Request> = slots
        .iter()
        .zip(works(MEAN_NS, WORK_SEED))
        .map(|(&comes_ns, work_ns)| Request { comes_ns, work_ns })
        .collect();
    let all = responses(&requests, &[]);
    let in_window = slots.iter().zip(all).filter(|(at, _)| **at >= asked.warmup_ns);
    let computed: Vec<u64> = in_window.map(|(_, response)| response).collect();

    let total = &run.total;
    let name = |what: &str| format!("{utilisation} busy: {what}");
    table.same(&name("requests"), computed.len() as u64, total.response.count());
    table.same(&name("without an answer"), 0, total.errors.total());
    for (percentage, percent) in [("P50", 50.0), ("P99", 99.0)] {
        let expected = percentile(&computed, percent);
        let what = name(&format!("response {percentage}"));
        table.near(&what, expected, total.response.percentile(percent), WITHIN);
    }
    let lag = total.send_lag.percentile(99.0).map(units::value).unwrap_or_default();
    table.note(format!(
        "{utilisation} busy: send lag P99 {lag}; {} waited for a connection",
        total.counts.waited
    ));
    table.note(format!("{utilisation} busy: {}", noise(&run, &server)));
    Ok(())
}
