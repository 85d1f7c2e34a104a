//! Service-level objectives: what a run has to show, and whether it showed it.
//!
//! In words: `p99=5ms,errors=0.1%,rate=50k`. Terms: `pNN` and `pNN.N`, `max`, `mean` of the response time;
//! the same of the service time with `service_` before them; `errors`, a share at most; `rate`, answers a
//! second at least.
//!
//! # Rules
//! 1. Only what was seen shows that a term is met. A lower bound shows nothing, even one below the objective.
//! 2. A run without a request meets nothing.
//! 3. A latency is held against the objective as the report prints it: by the upper end of its histogram
//!    bucket, which is at most a thousandth above what was measured. A tie that close is not met.
//!
//! Not here: whether the run itself can be believed (`verdict`), exit codes (the command line).

use std::fmt;
use std::str::FromStr;

use crate::model::{Outcome, Run};
use crate::record::{Latency, Value};
use crate::units;

/// Terms of one objective: each kind once, and percentiles to spare. When there are more: an error.
pub const TERMS_MAX: usize = 32;

/// An objective: all of its terms have to be met.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    terms: Vec<Term>,
}

/// One of the things that have to be so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Term {
    /// A latency is at most this.
    Latency {
        /// Of which time.
        of: Of,
        /// Which figure of it.
        figure: Figure,
        /// At most, ns.
        ns_max: u64,
    },
    /// The share, 0 to 1, of requests without a good answer is at most this.
    Errors {
        /// At most.
        share_max: f64,
    },
    /// Answers a second are at least this many. Bad answers are answers: `errors` speaks of those.
    Rate {
        /// At least.
        rate_min: f64,
    },
}

/// Which of the times of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Of {
    /// From intended to done.
    Response,
    /// From submitted to done.
    Service,
}

/// A figure of a latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// The value that this percentage does not exceed; above 0 and below 100.
    Percentile(f64),
    /// The largest.
    Max,
    /// The mean.
    Mean,
}

impl Figure {
    fn of(self, latency: &Latency) -> Option<Value> {
        match self {
            Figure::Percentile(percent) => latency.percentile(percent),
            Figure::Max => latency.max(),
            Figure::Mean => latency.mean(),
        }
    }
}

/// Words that an error about a term ends with.
const CURE: &str = "write for example p99=5ms,max=1s,mean=1ms,service_p99=2ms,errors=0.1%,rate=50k";

impl Slo {
    /// Parses an objective. Spaces around terms do not matter.
    ///
    /// # Errors
    /// A text that names the term and says what to write instead. A term said twice is refused, and so is one
    /// that anything would meet.
    pub fn parse(text: &str) -> Result<Slo, String> {
        let count = text.split(',').count();
        if count > TERMS_MAX {
            return Err(format!("an objective of {count} terms: at most {TERMS_MAX} are taken"));
        }
        let mut terms: Vec<Term> = Vec::with_capacity(count);
        for part in text.split(',') {
            let term = parse_term(part)?;
            if terms.iter().any(|other| other.name() == term.name()) {
                return Err(format!("objective: {} is said twice; leave one out", term.name()));
            }
            terms.push(term);
        }
        Ok(Slo { terms })
    }

    /// Its terms, in the order they were written.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Holds a run against each term.
    pub fn check(&self, run: &Run) -> Vec<Outcome> {
        self.terms.iter().map(|term| term.check(run)).collect()
    }
}

/// Whether all of them were met. Nothing is met by no terms at all.
pub fn met(outcomes: &[Outcome]) -> bool {
    !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.met)
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Slo, String> {
        Slo::parse(text)
    }
}

/// In the words that [`Slo::parse`] reads.
impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{term}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Term::Latency { ns_max, .. } => write!(f, "{name}={}", units::duration_exact(*ns_max)),
            // A float as it displays itself reads back as itself; a percentage of it need not.
            Term::Errors { share_max } => write!(f, "{name}={share_max}"),
            Term::Rate { rate_min } => write!(f, "{name}={rate_min}"),
        }
    }
}

impl Term {
    /// What is before its `=`.
    pub fn name(&self) -> String {
        let Term::Latency { of, figure, .. } = self else {
            return if matches!(self, Term::Rate { .. }) { "rate".into() } else { "errors".into() };
        };
        let prefix = if *of == Of::Service { "service_" } else { "" };
        match figure {
            Figure::Percentile(percent) => format!("{prefix}p{percent}"),
            Figure::Max => format!("{prefix}max"),
            Figure::Mean => format!("{prefix}mean"),
        }
    }

    /// Holds a run against this term.
    pub fn check(&self, run: &Run) -> Outcome {
        let total = &run.total;
        let nothing = || ("no requests".to_string(), false);
        let (relation, (seen, met)) = match *self {
            Term::Latency { of, figure, ns_max } => {
                let latency = if of == Of::Service { &total.service } else { &total.response };
                let seen = figure.of(latency).map(|seen| {
                    let met = !seen.is_bound() && seen.ns() <= ns_max;
                    (units::value(seen), met)
                });
                (format!("<= {}", units::duration_exact_spaced(ns_max)), seen.unwrap_or_else(nothing))
            }
            Term::Errors { share_max } => {
                let share = total.error_share();
                let seen = (!total.response.is_empty()).then(|| (units::percent(share), share <= share_max));
                (format!("<= {}", units::percent(share_max)), seen.unwrap_or_else(nothing))
            }
            Term::Rate { rate_min } => {
                let rate = run.rate();
                let seen = (total.counts.completed > 0).then(|| (units::rate(rate), rate >= rate_min));
                (format!(">= {}", units::rate(rate_min)), seen.unwrap_or_else(nothing))
            }
        };
        Outcome { term: format!("{} {relation}", self.name()), seen, met }
    }
}

fn parse_term(part: &str) -> Result<Term, String> {
    let text = part.trim();
    let wrong = |what: &str| format!("objective {}: {what}; {CURE}", units::quoted(text));
    let (name, limit) = text.split_once('=').ok_or_else(|| wrong("it has no \"=\""))?;
    let (name, limit) = (name.trim_end(), limit.trim_start());
    match name {
        "errors" => {
            let share_max = units::parse_share(limit).map_err(|error| wrong(&error))?;
            return Ok(Term::Errors { share_max });
        }
        "rate" => {
            let rate_min = units::parse_rate(limit).map_err(|error| wrong(&error))?;
            return Ok(Term::Rate { rate_min });
        }
        _ => {}
    }
    let (of, figure) = match name.strip_prefix("service_") {
        Some(figure) => (Of::Service, figure),
        None => (Of::Response, name),
    };
    let figure = match figure {
        "max" => Figure::Max,
        "mean" => Figure::Mean,
        _ => {
            let percent = figure.strip_prefix('p').ok_or_else(|| wrong("it is not known"))?;
            match parse_percent(percent) {
                Some(percent) if percent > 0.0 && percent < 100.0 => Figure::Percentile(percent),
                Some(100.0) => return Err(wrong("p100 is called max")),
                Some(_) => return Err(wrong("a percentile is above 0 and below 100: p99.9 and not p999")),
                None => return Err(wrong("it is not known")),
            }
        }
    };
    match units::parse_duration(limit).map_err(|error| wrong(&error))? {
        0 => Err(wrong("nothing takes no time")),
        ns_max => Ok(Term::Latency { of, figure, ns_max }),
    }
}

/// Digits with at most one point; no sign, no exponent.
fn parse_percent(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
pub(crate) mod tests;
