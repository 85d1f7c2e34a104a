//! The search for the highest rate at which a server meets its objective.
//!
//! [`Knee`] is a machine that is told what was observed and says what to do next. It performs nothing, and
//! the same observations give the same steps.
//!
//! # Calling order
//! [`Knee::next`]; do as it says; after a [`Step::Measure`] call [`Knee::observe`] once; again, until
//! [`Step::Done`].
//!
//! # Rules
//! 1. One measurement decides nothing that counts. A rate is held to fail once two measurements there failed
//!    for the same reason, and accepted once it was confirmed ([`KneeConfig::confirmations`]), before the
//!    second failure.
//! 2. A failure of the generator is not one of the server. Where it is what ended the climb, the answer is
//!    "at least".
//! 3. After every failure there is a pause, so that a backlog does not fail the next measurement. It grows
//!    with failures in a row, to four times the first.
//! 4. It ends after [`KneeConfig::steps_max`] measurements at the latest, whatever is observed.
//!
//! # Phases
//! Climb by a factor until a rate fails, or, where the first one does, descend until one is met. Bisect
//! between the highest that was met and the lowest that failed, until they are within the resolution. Confirm
//! the lower; where that fails, it is the new upper end, and the search goes on below. Last, one measurement
//! in overload and right after it one at the knee, without a pause: does the server come back by itself?
//!
//! Bisecting is on the rate's logarithm, and every rate is measured open loop: above its capacity a server
//! shows its backlog and no latency worth a figure, so that only "met" and "missed" are used of it.
//!
//! Not here: measuring (`engine`), the objective (`slo`), the words of the report (`report`).

mod observe;

use std::fmt;

use crate::record::Value;
use crate::units::{self, RATE_MAX};

pub use observe::{OWN_CODES, observe};

/// Answers a second below this share of what was offered miss the objective, whatever it says: the rest piled
/// up.
pub const ACHIEVED_MIN: f64 = 0.95;

/// Measurements that have to fail in the same way before a rate is held to fail.
const FAILURES: u32 = 2;

/// A pause doubles with each failure in a row, this many times.
const COOL_DOUBLINGS_MAX: u32 = 2;

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KneeConfig {
    /// The first rate, requests a second.
    pub start: f64,
    /// No rate above this is tried; the answer may then be "at least".
    pub max: Option<f64>,
    /// No rate below this is tried.
    pub floor: f64,
    /// The answer is met, and this share above it is not: 0.05 is 5 %.
    pub resolution: f64,
    /// Measurements at the answer that have to meet the objective, beside the one that found it.
    pub confirmations: u32,
    /// Factor from one rate of the climb to the next; the descent goes by its square.
    pub growth: f64,
    /// Measurements in all.
    pub steps_max: u32,
    /// Pause after a failure, ns.
    pub cool_ns: u64,
}

impl KneeConfig {
    /// From this rate on, with what is right for most: 5 %, three confirmations, doubling, 3 s of pause, down
    /// to a thousandth. At most 60 steps: a search takes 20 to 30.
    pub fn new(start: f64) -> KneeConfig {
        KneeConfig {
            start,
            max: None,
            floor: start / 1_000.0,
            resolution: 0.05,
            confirmations: 3,
            growth: 2.0,
            steps_max: 60,
            cool_ns: 3 * units::NS_S,
        }
    }

    fn check(&self) -> Result<(), String> {
        let rate = |what: &str, rate: f64| match rate > 0.0 && rate <= RATE_MAX {
            true => Ok(()),
            false => Err(format!("{what} of {rate}/s: write a rate above zero and up to 1G/s")),
        };
        rate("a start", self.start)?;
        rate("a floor", self.floor)?;
        rate("a maximum", self.max.unwrap_or(RATE_MAX))?;
        let (start, floor) = (self.start, self.floor);
        if let Some(max) = self.max.filter(|&max| max < start) {
            return Err(format!("a maximum of {max}/s is below the start of {start}/s: start lower"));
        }
        if floor > start {
            return Err(format!("a floor of {floor}/s is above the start of {start}/s: start higher"));
        }
        if !(0.001..=1.0).contains(&self.resolution) {
            return Err(format!("a resolution of {}: write one from 0.1% to 100%", self.resolution));
        }
        if !(1.1..=10.0).contains(&self.growth) {
            return Err(format!("a growth of {}: write a factor from 1.1 to 10", self.growth));
        }
        if !(1..=100).contains(&self.confirmations) {
            return Err(format!("{} confirmations: write a count from 1 to 100", self.confirmations));
        }
        if !(1..=10_000).contains(&self.steps_max) {
            return Err(format!("{} steps: write a count from 1 to 10000", self.steps_max));
        }
        Ok(())
    }
}

/// What a measurement is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Upwards, until a rate fails.
    Climb,
    /// Downwards from a start that failed, until a rate is met.
    Descend,
    /// Between one that was met and one that failed.
    Bisect,
    /// Once more at the candidate.
    Confirm,
    /// At the highest rate that failed, on purpose.
    Overload,
    /// At the answer, right after the overload.
    Recover,
}

impl Phase {
    /// Its name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Climb => "climb",
            Phase::Descend => "descend",
            Phase::Bisect => "bisect",
            Phase::Confirm => "confirm",
            Phase::Overload => "overload",
            Phase::Recover => "recover",
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Measure at this rate, and call [`Knee::observe`].
    Measure {
        /// Requests a second.
        rate: f64,
        /// What for.
        phase: Phase,
    },
    /// Send nothing for this long.
    Cool {
        /// Nanoseconds.
        ns: u64,
    },
    /// It is over. Said for ever after.
    Done(Answer),
}

/// What a measurement showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Requests a second that were offered.
    pub rate: f64,
    /// Answers a second.
    pub achieved: f64,
    /// Median response time; at least 0 where there was no request.
    pub p50_ns: Value,
    /// P99 of the response time; at least 0 where there was no request.
    pub p99_ns: Value,
    /// Whether the objective was shown to be met.
    pub slo_met: bool,
    /// Whether the generator did its part: nothing about itself speaks against the run.
    pub generator_ok: bool,
    /// Share of requests without a good answer.
    pub errors_share: f64,
}

/// What the search made of an observation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judged {
    /// The objective was met at the rate.
    Met,
    /// It was missed, or less was answered than was offered.
    Missed,
    /// The generator did not do its part: nothing is known of the server.
    Unfit,
}

impl Judged {
    fn of(observation: &Observation) -> Judged {
        // A comparison with what is no number is false: it is missed.
        let kept_up = observation.achieved >= ACHIEVED_MIN * observation.rate;
        match observation {
            Observation { generator_ok: false, .. } => Judged::Unfit,
            Observation { slo_met: true, .. } if kept_up => Judged::Met,
            _ => Judged::Missed,
        }
    }
}

/// A point of the curve: what was measured, why, and what was made of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The rate that was asked for.
    pub rate: f64,
    /// What for.
    pub phase: Phase,
    /// What was seen.
    pub observation: Observation,
    /// What was made of it.
    pub judged: Judged,
}

/// Why an answer is only "at least".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// The generator gave out before the server did.
    GeneratorLimited,
    /// The objective is met at the highest rate that was to be tried.
    RateMax,
    /// The steps were used up; the rate was met once or more, and not confirmed.
    StepsMax,
}

impl Why {
    /// Its words in outputs.
    pub fn text(self) -> &'static str {
        match self {
            Why::GeneratorLimited => "generator-limited",
            Why::RateMax => "highest rate asked for",
            Why::StepsMax => "out of steps",
        }
    }
}

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// Met at this rate, confirmed; missed within the resolution above it.
    Knee {
        /// Requests a second.
        rate: f64,
    },
    /// Met at this rate; what is above it is not known. A rate of 0: the generator did not do its part
    /// anywhere.
    AtLeast {
        /// Requests a second.
        rate: f64,
        /// Why.
        why: Why,
    },
    /// Missed at every rate down to this one.
    NoneMeets {
        /// Requests a second.
        lowest: f64,
    },
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Answer::Knee { rate } => f.write_str(&units::rate(rate)),
            Answer::AtLeast { rate, why } => write!(f, ">= {}, {}", units::rate(rate), why.text()),
            Answer::NoneMeets { lowest } => write!(f, "not met at {} or above", units::rate(lowest)),
        }
    }
}

/// The lowest rate that failed, and through whom.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    rate: f64,
    by: Judged,
}

/// What was seen so far at the present rate, in the present phase.
#[derive(Clone, Copy, Debug, Default)]
struct Votes {
    met: u32,
    missed: u32,
    unfit: u32,
}

/// The search. The module says how to call it.
#[derive(Clone, Debug)]
pub struct Knee {
    config: KneeConfig,
    phase: Phase,
    rate: f64,
    votes: Votes,
    /// Rates that were met, upwards, all below the ceiling.
    met: Vec<f64>,
    ceiling: Option<Ceiling>,
    /// A pause that is due before the next measurement.
    cool_ns: Option<u64>,
    failures_in_row: u32,
    /// A measurement was asked for and not yet observed.
    is_asked: bool,
    /// The knee, while the overload is tried.
    found: Option<f64>,
    recovers: Option<bool>,
    answer: Option<Answer>,
    curve: Vec<Measured>,
}

impl Knee {
    /// A search that has not begun.
    ///
    /// # Errors
    /// A text that says which number of `config` makes no sense, and what to write.
    pub fn new(config: KneeConfig) -> Result<Knee, String> {
        config.check()?;
        Ok(Knee {
            config,
            phase: Phase::Climb,
            rate: config.start,
            votes: Votes::default(),
            met: Vec::new(),
            ceiling: None,
            cool_ns: None,
            failures_in_row: 0,
            is_asked: false,
            found: None,
            recovers: None,
            answer: None,
            curve: Vec::new(),
        })
    }

    /// What to do next. The same measurement is asked for until it was observed; a pause is asked for once.
    #[allow(clippy::should_implement_trait)] // there is always a next step, so it is no iterator
    pub fn next(&mut self) -> Step {
        if let Some(answer) = self.answer {
            return Step::Done(answer);
        }
        if let Some(ns) = self.cool_ns.take() {
            return Step::Cool { ns };
        }
        self.is_asked = true;
        Step::Measure { rate: self.rate, phase: self.phase }
    }

    /// Takes what the last [`Step::Measure`] showed. Ignored where none was asked for.
    pub fn observe(&mut self, observation: Observation) {
        if !std::mem::take(&mut self.is_asked) {
            return;
        }
        let judged = Judged::of(&observation);
        self.curve.push(Measured { rate: self.rate, phase: self.phase, observation, judged });
        match self.phase {
            Phase::Overload => self.turn(Phase::Recover, self.rate_found()),
            Phase::Recover => self.recovered(judged),
            Phase::Climb | Phase::Descend | Phase::Bisect | Phase::Confirm => {
                self.cool_after(judged);
                self.vote(judged);
            }
        }
        if self.answer.is_none() && self.curve.len() >= self.config.steps_max as usize {
            self.answer = Some(self.out_of_steps());
        }
    }

    /// Everything that was measured, in order.
    pub fn curve(&self) -> &[Measured] {
        &self.curve
    }

    /// The result, once there is one.
    pub fn answer(&self) -> Option<Answer> {
        self.answer
    }

    /// Whether the server met the objective at the knee right after an overload, in one of two measurements
    /// without a pause. `None` where that was not tried, or the generator was not fit to tell.
    pub fn recovers(&self) -> Option<bool> {
        self.recovers
    }

    /// The highest rate that was met and the lowest that failed, so far. For a display.
    pub fn bracket(&self) -> (Option<f64>, Option<f64>) {
        (self.met.last().copied(), self.ceiling.map(|ceiling| ceiling.rate))
    }

    fn rate_max(&self) -> f64 {
        self.config.max.unwrap_or(RATE_MAX)
    }

    fn rate_found(&self) -> f64 {
        self.found.unwrap_or(self.rate)
    }

    fn turn(&mut self, phase: Phase, rate: f64) {
        (self.phase, self.rate, self.votes) = (phase, rate, Votes::default());
    }

    fn cool_after(&mut self, judged: Judged) {
        if judged == Judged::Met {
            self.failures_in_row = 0;
            return;
        }
        let doublings = self.failures_in_row.min(COOL_DOUBLINGS_MAX);
        self.cool_ns = Some(self.config.cool_ns.saturating_mul(1 << doublings));
        self.failures_in_row += 1;
    }

    /// Counts a measurement at the present rate, and goes on once it is decided.
    fn vote(&mut self, judged: Judged) {
        match judged {
            Judged::Met => self.votes.met += 1,
            Judged::Missed => self.votes.missed += 1,
            Judged::Unfit => self.votes.unfit += 1,
        }
        let Votes { met, missed, unfit } = self.votes;
        let wanted = match self.phase {
            Phase::Confirm => self.config.confirmations,
            _ if missed + unfit == 0 => 1,
            // Against one failure it takes two.
            _ => 2,
        };
        if met >= wanted {
            self.rate_was_met();
        } else if missed >= FAILURES {
            self.rate_failed(Judged::Missed);
        } else if unfit >= FAILURES {
            self.rate_failed(Judged::Unfit);
        }
    }

    fn rate_was_met(&mut self) {
        if self.phase == Phase::Confirm {
            return self.confirmed();
        }
        self.met.push(self.rate);
        self.narrow();
    }

    fn rate_failed(&mut self, by: Judged) {
        let rate = self.rate;
        self.ceiling = Some(Ceiling { rate, by });
        self.met.retain(|&met| met < rate);
        self.narrow();
    }

    /// Chooses the next rate from what was met and what failed.
    fn narrow(&mut self) {
        match (self.met.last().copied(), self.ceiling) {
            (Some(met), None) if met >= self.rate_max() => self.turn(Phase::Confirm, met),
            (Some(met), None) => self.turn(Phase::Climb, (met * self.config.growth).min(self.rate_max())),
            (Some(met), Some(ceiling)) if ceiling.rate <= met * (1.0 + self.config.resolution) => {
                self.turn(Phase::Confirm, met);
            }
            (Some(met), Some(ceiling)) => self.turn(Phase::Bisect, (met * ceiling.rate).sqrt()),
            (None, Some(ceiling)) if ceiling.rate <= self.config.floor => {
                self.answer = Some(match ceiling.by {
                    Judged::Unfit => Answer::AtLeast { rate: 0.0, why: Why::GeneratorLimited },
                    _ => Answer::NoneMeets { lowest: ceiling.rate },
                });
            }
            (None, Some(ceiling)) => {
                let below = ceiling.rate / (self.config.growth * self.config.growth);
                self.turn(Phase::Descend, below.max(self.config.floor));
            }
            (None, None) => unreachable!("a rate was met or failed before"),
        }
    }

    fn confirmed(&mut self) {
        let rate = self.rate;
        match self.ceiling.map(|ceiling| ceiling.by) {
            None => self.answer = Some(Answer::AtLeast { rate, why: Why::RateMax }),
            Some(Judged::Unfit) => self.answer = Some(Answer::AtLeast { rate, why: Why::GeneratorLimited }),
            Some(_) => {
                self.found = Some(rate);
                let missed = self.curve.iter().filter(|at| at.judged == Judged::Missed).map(|at| at.rate);
                self.turn(Phase::Overload, missed.fold(rate, f64::max));
            }
        }
    }

    fn recovered(&mut self, judged: Judged) {
        match judged {
            Judged::Met => self.recovers = Some(true),
            Judged::Missed if self.votes.missed + 1 < FAILURES => {
                self.votes.missed += 1;
                return;
            }
            Judged::Missed => self.recovers = Some(false),
            Judged::Unfit => {}
        }
        self.answer = Some(Answer::Knee { rate: self.rate_found() });
    }

    fn out_of_steps(&self) -> Answer {
        if let Some(rate) = self.found {
            return Answer::Knee { rate };
        }
        if let Some(&rate) = self.met.last() {
            return Answer::AtLeast { rate, why: Why::StepsMax };
        }
        let missed = self.curve.iter().filter(|at| at.judged == Judged::Missed).map(|at| at.rate);
        match missed.reduce(f64::min) {
            Some(lowest) => Answer::NoneMeets { lowest },
            None => Answer::AtLeast { rate: 0.0, why: Why::GeneratorLimited },
        }
    }
}

#[cfg(test)]
mod tests;
