//! The plan of an open loop: when each request is due, decided before the first is sent.
//!
//! A [`Schedule`] is one global stream of numbered slots that knows nothing of answers, connections or
//! workers. Each of `of` workers makes the same stream from the same seed and keeps the slots that are dealt
//! to it, so that the union of what they keep is the stream itself, however many they are and on whichever
//! host.
//!
//! # Rules
//! 1. Slot `n` of a stream is a function of arrivals, stages, seed and `n`: not of who asks, nor of the
//!    machine. (Only operations that are rounded alike everywhere are used; the logarithm is our own, in
//!    [`draw`].)
//! 2. Times never decrease, and do not drift: an error of rounding is not carried on to the next slot
//!    ([`rate`]).
//! 3. A slot that was dealt is sent or counted as unsent. Nothing here skips one for being late.
//!
//! # How
//! Arrivals of rate one are laid out first: 0, 1, 2, ... (constant), sums of exponential draws (Poisson), or
//! `n` times the same multiple of `n` (burst). They are positions: a count of requests. The time of a
//! position is the inverse of the integral of the rate. For Poisson arrivals that is the time-change theorem
//! (Cinlar, "Introduction to Stochastic Processes", 1975, 4.7): the result is a Poisson process of just that
//! rate over time.
//!
//! Not here: waiting for the time of a slot (`worker`), whether a run kept to its plan (`verdict`; the
//! statistics for it are in [`fit`]).

pub mod draw;
pub mod fit;
pub mod rate;
pub mod trace;
pub mod words;

use std::path::Path;
use std::sync::Arc;

use crate::model::{Arrivals, Stage};

use draw::Draws;
use rate::{Position, RateOverTime};
pub use trace::read_trace;
pub use words::{constant_rate, parse_arrivals, parse_stages, ramp};

/// When one request is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slot {
    /// Its number in the global stream, from 0.
    pub number: u64,
    /// When it is due, ns from the start of the schedule.
    pub at_ns: u64,
}

/// Which slots a worker keeps: those whose number leaves `index` when it is divided by `of`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dealt {
    /// This worker, from 0.
    pub index: u64,
    /// All workers of all processes.
    pub of: u64,
}

impl Dealt {
    /// Every slot.
    pub const ALL: Dealt = Dealt { index: 0, of: 1 };
}

/// The slots that are dealt to one worker, in order. An iterator with a look ahead.
///
/// A slot costs a division for constant arrivals and bursts, whatever the number of workers. Poisson arrivals
/// cost a draw and a division for each slot of the global stream, dealt or not: about 20 ns.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: Kind,
    dealt: Dealt,
    /// The slot to hand out next.
    ahead: Option<Slot>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// `size` slots at each multiple of `size`; constant arrivals are bursts of one.
    Burst {
        rate: RateOverTime,
        size: u64,
    },
    Poisson {
        rate: RateOverTime,
        draws: Box<Draws>,
        /// Where the stream is: the last slot that was drawn.
        position: Position,
        number: u64,
        /// Its time. Later ones are not before it.
        at_ns: u64,
    },
    Trace {
        times: Arc<[u64]>,
    },
}

impl Schedule {
    /// The slots of `arrivals` at the rate of `stages` that are `dealt` to this worker.
    ///
    /// After the last stage its last rate goes on for ever. A trace is read from its file here; several
    /// workers can share one by [`read_trace`] and [`Schedule::of_trace`]. `stages` and `seed` mean nothing
    /// to a trace, `seed` only something to Poisson arrivals.
    ///
    /// # Errors
    /// A text that says what is wrong with the stages, the arrivals, the trace file or the deal.
    pub fn new(arrivals: &Arrivals, stages: &[Stage], seed: u64, dealt: Dealt) -> Result<Schedule, String> {
        let size = match arrivals {
            Arrivals::Trace(path) => return Schedule::of_trace(read_trace(Path::new(path))?, dealt),
            Arrivals::Burst(0) => return Err("a burst of 0 requests: write for example burst:32".into()),
            Arrivals::Burst(size) => u64::from(*size),
            Arrivals::Constant | Arrivals::Poisson => 1,
        };
        check(dealt)?;
        let rate = RateOverTime::new(stages)?;
        let kind = if *arrivals == Arrivals::Poisson {
            let mut draws = Box::new(Draws::new(seed));
            let position = Position::ZERO.plus_gap(draws.exponential());
            let mut rate = rate;
            let at_ns = rate.time_of(position);
            Kind::Poisson { rate, draws, position, number: 0, at_ns: at_ns.unwrap_or(u64::MAX) }
        } else {
            Kind::Burst { rate, size }
        };
        Ok(Schedule::started(kind, dealt))
    }

    /// The slots of a trace that are `dealt` to this worker: its times, which must not decrease (as
    /// [`read_trace`] makes sure), then the end.
    ///
    /// # Errors
    /// A deal that is none; a time that is before the one that precedes it.
    pub fn of_trace(times: Arc<[u64]>, dealt: Dealt) -> Result<Schedule, String> {
        check(dealt)?;
        if let Some(at) = times.windows(2).position(|pair| pair[1] < pair[0]) {
            let number = at + 2;
            return Err(format!(
                "arrival {number} of the trace is before the one that precedes it: sort the trace"
            ));
        }
        Ok(Schedule::started(Kind::Trace { times }, dealt))
    }

    fn started(kind: Kind, dealt: Dealt) -> Schedule {
        let mut schedule = Schedule { kind, dealt, ahead: None };
        schedule.ahead = schedule.at(dealt.index);
        schedule
    }

    /// The slot that [`Schedule::next`] hands out, without taking it. `None` at the end of a trace, or when
    /// the rate is zero for good.
    #[inline]
    pub fn peek(&self) -> Option<Slot> {
        self.ahead
    }

    /// Takes all slots due before `at_ns`, and says how many those were.
    pub fn skip_to(&mut self, at_ns: u64) -> u64 {
        let mut count = 0;
        while self.ahead.is_some_and(|slot| slot.at_ns < at_ns) {
            self.next();
            count += 1;
        }
        count
    }

    /// Requests that are expected from `from_ns` up to before `to_ns`, of all workers together: the integral
    /// of the rate, or the arrivals of a trace. What "offered" means.
    pub fn expected_between(&self, from_ns: u64, to_ns: u64) -> f64 {
        match &self.kind {
            Kind::Burst { rate, .. } | Kind::Poisson { rate, .. } => rate.integral(from_ns, to_ns),
            Kind::Trace { times } => {
                let before = |at_ns: u64| times.partition_point(|&time| time < at_ns);
                before(to_ns).saturating_sub(before(from_ns)) as f64
            }
        }
    }

    /// Requests a second at `at_ns`, of all workers together. `None` for a trace.
    pub fn rate_at(&self, at_ns: u64) -> Option<f64> {
        match &self.kind {
            Kind::Burst { rate, .. } | Kind::Poisson { rate, .. } => Some(rate.at(at_ns)),
            Kind::Trace { .. } => None,
        }
    }

    /// Slot `number`, which must not be before one that was asked for.
    fn at(&mut self, wanted: u64) -> Option<Slot> {
        let at_ns = match &mut self.kind {
            Kind::Burst { rate, size: 1 } => rate.time_of(Position::whole(wanted))?,
            Kind::Burst { rate, size } => rate.time_of(Position::whole(wanted - wanted % *size))?,
            Kind::Poisson { rate, draws, position, number, at_ns } => {
                while *number < wanted {
                    *position = position.plus_gap(draws.exponential());
                    *number += 1;
                    // Rounding within a ramp could step back by a nanosecond. All workers take the same
                    // steps.
                    *at_ns = rate.time_of(*position)?.max(*at_ns);
                }
                *at_ns
            }
            Kind::Trace { times } => *times.get(usize::try_from(wanted).ok()?)?,
        };
        // Times saturate after 584 years, and nothing is due then.
        (at_ns < u64::MAX).then_some(Slot { number: wanted, at_ns })
    }
}

fn check(dealt: Dealt) -> Result<(), String> {
    if dealt.index < dealt.of {
        return Ok(());
    }
    Err(format!(
        "worker {} of {}: workers are numbered from 0 to one below their count",
        dealt.index, dealt.of
    ))
}

impl Iterator for Schedule {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        let slot = self.ahead?;
        self.ahead = slot.number.checked_add(self.dealt.of).and_then(|number| self.at(number));
        Some(slot)
    }
}

#[cfg(test)]
mod tests;
