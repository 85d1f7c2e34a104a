//! `loadgen knee`: the highest rate at which an objective is met.
//!
//! Not here: the search (`knee`).

use std::time::Duration;

use corelane_sys::clock;

use super::args::KneeArgs;
use super::progress::tell;
use super::session::Session;
use super::{Exit, output, run};
use crate::knee::{self, Answer, Knee, KneeConfig, Step};
use crate::model::{Arrivals, Level, Loop, Outcome, Run, Settings};
use crate::plan;
use crate::slo::{Slo, Term};
use crate::units;

/// How often a pause looks whether we are to end.
const COOL_LOOK_NS: u64 = 20_000_000;

/// What each measurement has in common: settings, arrivals, and the objective.
///
/// # Errors
/// What cannot work.
fn plan_of(args: &KneeArgs) -> Result<(Settings, Arrivals, Slo), String> {
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
    if args.run.traffic.think.is_some() || args.run.traffic.ramp > 0 {
        return Err("a knee has neither --think nor --ramp: each measurement has one rate".into());
    }
    args.run.host.refuse_agents("knee")?;
    let arrivals = plan::parse_arrivals(&args.run.traffic.arrivals)?;
    if matches!(arrivals, Arrivals::Trace(_)) {
        return Err("a trace has its own times: a knee needs --arrivals constant, poisson or burst:N".into());
    }
    // Other arrivals want a rate beside them, which here only the search knows.
    let mut rest = args.run.clone();
    rest.traffic.arrivals = "constant".into();
    Ok((run::settings_of(&rest)?, arrivals, slo))
}

/// # Errors
/// What cannot work, and why nothing was measured.
pub(crate) fn run(args: &KneeArgs, command: &str) -> Result<Exit, String> {
    let (settings, arrivals, slo) = plan_of(args)?;
    output::check(&args.run.output)?;
    let config = KneeConfig { max: args.max, resolution: args.resolution, ..KneeConfig::new(args.start) };
    let mut search = Knee::new(config)?;
    let session = Session::new(command, true)?;
    let mut runs = Vec::new();
    output::print("phase          rate   achieved        p50        p99     errors  result\n")?;
    let answer = loop {
        match search.next() {
            Step::Measure { rate, phase } => {
                let traffic = Loop::Open { arrivals: arrivals.clone(), stages: plan::constant_rate(rate) };
                let run = match session.measure(&Settings { traffic, ..settings.clone() }, "") {
                    Err(_) if session.asked.any() => return ended_early(args, &runs),
                    outcome => outcome?,
                };
                if run.interrupted {
                    return ended_early(args, &runs);
                }
                let seen = knee::observe(&run, &slo);
                let own = run.verdict.reasons.iter().find(|reason| {
                    reason.level > Level::Valid && knee::OWN_CODES.contains(&reason.code.as_str())
                });
                let result = match (seen.slo_met, seen.generator_ok) {
                    (_, false) => match own {
                        Some(reason) => format!("generator-limited ({})", reason.code),
                        None => "generator-limited".into(),
                    },
                    (true, true) => "met".into(),
                    (false, true) => "missed".into(),
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
            Step::Cool { ns } => cool(ns, &session),
            Step::Done(answer) => break answer,
        }
        if session.asked.any() {
            return ended_early(args, &runs);
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

/// Sends nothing for a while, unless we are to end.
fn cool(ns: u64, session: &Session) {
    let until = clock::mono_ns().saturating_add(ns);
    while !session.asked.any() {
        let left = until.saturating_sub(clock::mono_ns());
        if left == 0 {
            break;
        }
        std::thread::sleep(Duration::from_nanos(left.min(COOL_LOOK_NS)));
    }
}

/// Keeps what was measured; a run that was cut short is no step of a search.
fn ended_early(args: &KneeArgs, runs: &[(Run, Vec<Outcome>)]) -> Result<Exit, String> {
    output::write_all(&args.run.output, runs)?;
    Err("ended early: the knee was not found".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use super::super::args::{Cli, Command};
    use super::*;

    fn planned(words: &[&str]) -> Result<(Settings, Arrivals, Slo), String> {
        let all = ["loadgen", "knee", "--slo", "p99=5ms", "http://127.0.0.1:1/"].iter().chain(words);
        match Cli::try_parse_from(all).unwrap().command {
            Some(Command::Knee(args)) => plan_of(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_knee_is_searched_with_any_arrivals_that_have_a_rate() {
        for (word, wanted) in [
            ("constant", Arrivals::Constant),
            ("poisson", Arrivals::Poisson),
            ("burst:32", Arrivals::Burst(32)),
        ] {
            assert_eq!(planned(&["--arrivals", word]).unwrap().1, wanted);
        }
        assert!(planned(&["--arrivals", "trace:x"]).unwrap_err().contains("a trace has its own times"));
    }

    #[test]
    fn a_knee_takes_no_rate_of_its_user() {
        for words in [["--rate", "5k"], ["--stages", "1k@1s"]] {
            assert!(planned(&words).unwrap_err().contains("--start and --max"));
        }
    }
}
