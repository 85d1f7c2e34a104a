//! `loadgen knee`: the highest rate at which an objective is met.
//!
//! Not here: the search (`knee`).

use std::time::Duration;

use super::args::KneeArgs;
use super::progress::tell;
use super::session::Session;
use super::{Exit, output, run};
use crate::knee::{self, Answer, Knee, KneeConfig, Step};
use crate::model::{Loop, Settings};
use crate::plan;
use crate::slo::{Slo, Term};
use crate::units;

/// # Errors
/// What cannot work, and why nothing was measured.
pub(crate) fn run(args: &KneeArgs, command: &str) -> Result<Exit, String> {
    let settings = run::settings_of(&args.run)?;
    let Some(text) = &args.run.output.slo else {
        return Err("a knee needs an objective: add --slo p99=5ms".into());
    };
    let slo = Slo::parse(text)?;
    if slo.terms().iter().all(|term| matches!(term, Term::Rate { .. })) {
        return Err(format!("--slo {text} has no term to search by: add a latency or a share of errors"));
    }
    if args.run.traffic.rate.is_some() || args.run.traffic.stages.is_some() {
        return Err("a knee finds the rate itself: use --start and --max, not --rate or --stages".into());
    }
    let arrivals = plan::parse_arrivals(&args.run.traffic.arrivals)?;
    let config = KneeConfig { max: args.max, resolution: args.resolution, ..KneeConfig::new(args.start) };
    let mut search = Knee::new(config)?;
    let session = Session::new(command, true)?;
    let mut runs = Vec::new();
    output::print("phase          rate   achieved        p50        p99     errors  result\n")?;
    let answer = loop {
        match search.next() {
            Step::Measure { rate, phase } => {
                let traffic = Loop::Open { arrivals: arrivals.clone(), stages: plan::constant_rate(rate) };
                let run = session.measure(&Settings { traffic, ..settings.clone() }, "")?;
                let seen = knee::observe(&run, &slo);
                let result = match (seen.slo_met, seen.generator_ok) {
                    (_, false) => "generator-limited",
                    (true, true) => "met",
                    (false, true) => "missed",
                };
                output::print(&format!(
                    "{:<8} {:>10} {:>10} {:>10} {:>10} {:>10}  {result}\n",
                    phase.name(),
                    units::rate(rate),
                    units::rate(seen.achieved),
                    units::value(seen.p50_ns),
                    units::value(seen.p99_ns),
                    units::percent(seen.errors_share),
                ))?;
                search.observe(seen);
                let outcomes = slo.check(&run);
                runs.push((run, outcomes));
            }
            Step::Cool { ns } => std::thread::sleep(Duration::from_nanos(ns)),
            Step::Done(answer) => break answer,
        }
        if session.asked.any() {
            output::write_all(&args.run.output, &runs)?;
            return Err("ended early: the knee was not found".into());
        }
    };
    output::print(&format!("\n{slo}: {answer}\n"))?;
    if search.recovers() == Some(false) {
        tell(
            "after an overload the server did not meet the objective at this rate again: it keeps a backlog",
        );
    }
    output::write_all(&args.run.output, &runs)?;
    Ok(match answer {
        Answer::Knee { .. } => Exit::Done,
        Answer::AtLeast { rate, .. } if rate > 0.0 => Exit::Done,
        Answer::AtLeast { .. } => Exit::Invalid,
        Answer::NoneMeets { .. } => Exit::Missed,
    })
}
