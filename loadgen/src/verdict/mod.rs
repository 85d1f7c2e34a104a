//! The judgement of a run on itself: VALID, SUSPECT or INVALID, and why.
//!
//! [`judge`] looks at everything a [`Run`] has, once; each check is a function of the run and the [`Bounds`]
//! that finds a reason or none. A run is as good as the worst of its reasons; reasons that are VALID are
//! remarks.
//!
//! # Rules
//! 1. Pure: the same run and bounds give the same verdict, whenever and wherever. A result can be judged
//!    anew.
//! 2. A text says what was seen with its figure, the bound, and what to do.
//! 3. Codes are for scripts and never change their meaning.
//! 4. What was not measured is not judged, with one exception: no noise floor is a remark.
//!
//! Not here: whether the server is fast enough (`slo`), which of two runs is better (`compare`).

mod bounds;
mod generator;
mod outcome;
mod surroundings;
mod text;

use std::cmp::Reverse;

pub use bounds::Bounds;

use crate::model::{Level, Reason, Run, Verdict};

/// Looks at a run for one thing.
type Check = fn(&Run, &Bounds) -> Option<Reason>;

/// In the order in which reasons of the same level are told: what was measured at all, the generator, its
/// surroundings, and what the reader should know.
const CHECKS: [Check; 25] = [
    outcome::nothing_answered,
    outcome::offered,
    generator::own_lag,
    generator::cpu_saturated,
    generator::run_delay,
    surroundings::steal,
    generator::hiccup,
    generator::cq_overflow,
    surroundings::same_core,
    surroundings::sibling_core,
    surroundings::listen_overflow,
    surroundings::retransmits,
    surroundings::softnet_drops,
    surroundings::skew,
    outcome::floor,
    outcome::silent,
    outcome::short,
    outcome::connects,
    outcome::errors,
    outcome::unanswered,
    outcome::few_samples,
    generator::no_buffers,
    surroundings::same_host,
    outcome::interrupted,
    outcome::no_floor,
];

/// Judges a run; what its field `verdict` says is not looked at. Reasons are sorted worst first, and those of
/// one level always in the same order.
pub fn judge(run: &Run, bounds: &Bounds) -> Verdict {
    let mut reasons: Vec<Reason> = CHECKS.iter().filter_map(|check| check(run, bounds)).collect();
    reasons.sort_by_key(|reason| Reverse(reason.level));
    Verdict { level: reasons.first().map_or(Level::Valid, |reason| reason.level), reasons }
}

fn reason(level: Level, code: &str, text: String) -> Option<Reason> {
    Some(Reason { level, code: code.to_owned(), text })
}

/// SUSPECT past the first bound, INVALID past the second, nothing below.
fn level_of(value: f64, suspect: f64, invalid: f64) -> Option<Level> {
    match value {
        value if value > invalid => Some(Level::Invalid),
        value if value > suspect => Some(Level::Suspect),
        _ => None,
    }
}

/// A part of a whole; 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests;
