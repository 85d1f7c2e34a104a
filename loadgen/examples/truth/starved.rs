//! A generator that shares its CPU with a spinner: it must say so.

use loadgen::engine::Unwatched;
use loadgen::model::{Arrivals, Level, Loop, Verdict};
use loadgen::verdict::{Bounds, judge};

use crate::Bench;
use crate::child::Process;
use crate::table::Table;
use crate::traffic::{CLOSED, SECOND, open, run as perform, settings};

const RATE: f64 = 20_000.0;
const DURATION_NS: u64 = 5 * SECOND;

/// Reasons that say the generator itself was kept from its work.
const OURS: [&str; 4] = ["own_lag", "run_delay", "hiccup", "offered"];

pub(crate) fn run(bench: &Bench) -> Result<Table, String> {
    let (_server, addr) = Process::null_server(bench.server_cpu)?;
    let judged = |traffic: Loop, duration_ns: u64| -> Result<Verdict, String> {
        let run = perform(&settings(bench, addr, traffic, duration_ns), &mut Unwatched)?;
        Ok(judge(&run, &Bounds::default()))
    };
    let mut table = Table::new();
    let alone = judged(open(Arrivals::Constant, RATE), 2 * SECOND)?;
    let spinner = Process::spinner(bench.client_cpu)?;
    let both = [
        ("open loop, 20,000/s", judged(open(Arrivals::Constant, RATE), DURATION_NS)?),
        ("closed loop", judged(CLOSED, DURATION_NS)?),
    ];
    drop(spinner);
    for (name, verdict) in &both {
        let counted = verdict.reasons.iter().filter(|reason| reason.level > Level::Valid);
        let knows_why = counted.clone().any(|reason| OURS.contains(&reason.code.as_str()));
        let is_good = verdict.level > Level::Valid && knows_why;
        table.fact(name, "not VALID", word(verdict.level), is_good);
        counted.for_each(|reason| table.note(format!("{name}: {} {}", word(reason.level), reason.text)));
    }
    table.note(format!("the same open loop without the spinner, not judged here: {}", word(alone.level)));
    for reason in alone.reasons.iter().filter(|reason| reason.level > Level::Valid) {
        table.note(format!("without the spinner: {} {}", word(reason.level), reason.text));
    }
    Ok(table)
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Valid => "VALID",
        Level::Suspect => "SUSPECT",
        Level::Invalid => "INVALID",
    }
}
