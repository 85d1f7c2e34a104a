//! One run as a comparison needs it: a few counters and sparse histograms for each stretch of it.
//!
//! # Rules
//! 1. A [`Replicate`] is small (a run's dense histograms are not): some kilobytes a slice.
//! 2. Nothing of the run is lost: what its total has and no slice has (answers of the drain, requests that
//!    were given up after the window) is kept in `rest`, and belongs to every resample.
//!
//! Not here: resampling (`bootstrap`), whether runs may be compared (`checks`).

use std::collections::BTreeMap;

use crate::model::{Provenance, Run, Settings, Slice, Verdict};
use crate::record::{Latency, Tally};

/// Stretches a run is cut into at most; longer ones have neighbouring slices put together. The tables of
/// `bootstrap` then stay below 33,000 buckets * 257 * 8 bytes = 68 MB, and near 2 MB as a rule.
pub(crate) const UNITS_MAX: usize = 256;

/// Bucket values in ascending order, with how many were exact and how many were lower bounds.
pub(crate) type Sparse = Vec<(u64, u64, u64)>;

/// What is known of a stretch of time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Unit {
    pub(crate) len_ns: u64,
    pub(crate) completed: u64,
    pub(crate) errors: u64,
    pub(crate) requests: u64,
    pub(crate) response: Sparse,
    pub(crate) service: Sparse,
}

impl Unit {
    pub(crate) fn of(len_ns: u64, tally: &Tally) -> Unit {
        Unit {
            len_ns,
            completed: tally.counts.completed,
            errors: tally.errors.total(),
            requests: tally.response.count(),
            response: sparse(&tally.response),
            service: sparse(&tally.service),
        }
    }

    fn merge(&mut self, other: &Unit) {
        self.len_ns = self.len_ns.saturating_add(other.len_ns);
        self.completed = self.completed.saturating_add(other.completed);
        self.errors = self.errors.saturating_add(other.errors);
        self.requests = self.requests.saturating_add(other.requests);
        self.response = sum([&self.response, &other.response].into_iter());
        self.service = sum([&self.service, &other.service].into_iter());
    }

    /// What of `self` is in none of `units`.
    fn less(&self, units: &[Unit]) -> Unit {
        let rest =
            |of: fn(&Unit) -> u64| units.iter().fold(of(self), |left, unit| left.saturating_sub(of(unit)));
        Unit {
            len_ns: rest(|unit| unit.len_ns),
            completed: rest(|unit| unit.completed),
            errors: rest(|unit| unit.errors),
            requests: rest(|unit| unit.requests),
            response: difference(&self.response, &sum(units.iter().map(|unit| &unit.response))),
            service: difference(&self.service, &sum(units.iter().map(|unit| &unit.service))),
        }
    }
}

fn sparse(latency: &Latency) -> Sparse {
    if latency.is_empty() { Sparse::new() } else { latency.buckets() }
}

fn sum<'a>(all: impl Iterator<Item = &'a Sparse>) -> Sparse {
    let mut counts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for &(value, exact, bounds) in all.flatten() {
        let at = counts.entry(value).or_default();
        *at = (at.0.saturating_add(exact), at.1.saturating_add(bounds));
    }
    counts.into_iter().map(|(value, (exact, bounds))| (value, exact, bounds)).collect()
}

fn difference(all: &Sparse, part: &Sparse) -> Sparse {
    let part: BTreeMap<u64, (u64, u64)> =
        part.iter().map(|&(v, exact, bounds)| (v, (exact, bounds))).collect();
    let left = all.iter().map(|&(value, exact, bounds)| {
        let (e, b) = part.get(&value).copied().unwrap_or_default();
        (value, exact.saturating_sub(e), bounds.saturating_sub(b))
    });
    left.filter(|&(_, exact, bounds)| exact > 0 || bounds > 0).collect()
}

/// A run, reduced to what a comparison needs.
#[derive(Clone, Debug)]
pub struct Replicate {
    /// What was asked.
    pub settings: Settings,
    /// Where and by what.
    pub provenance: Provenance,
    /// How long was measured.
    pub measured_ns: u64,
    /// The user ended it early.
    pub interrupted: bool,
    /// Its judgement on itself.
    pub verdict: Verdict,
    /// CPU time of the client a request, polling left out.
    pub cpu_per_request_ns: Option<f64>,
    /// In the order of time.
    pub(crate) units: Vec<Unit>,
    /// What is in the total only.
    pub(crate) rest: Unit,
}

impl Replicate {
    /// Reduces a run. Costs about 0.1 ms a slice.
    pub fn of(run: &Run) -> Replicate {
        let mut reducer = Reducer::default();
        run.slices.iter().for_each(|slice| reducer.add(slice));
        reducer.finish(run)
    }
}

/// Takes slices one at a time, so that a file's need not all be in memory. Slices beyond [`UNITS_MAX`] are
/// put together with their neighbours, two by two.
#[derive(Default)]
pub(crate) struct Reducer {
    units: Vec<Unit>,
    /// Slices in a unit, as a power of two; the last unit may still have fewer.
    group: u32,
    in_last: usize,
}

impl Reducer {
    pub(crate) fn add(&mut self, slice: &Slice) {
        let unit = Unit::of(slice.len_ns, &slice.tally);
        let size = 1usize << self.group;
        match self.units.last_mut() {
            Some(last) if self.in_last < size => {
                last.merge(&unit);
                self.in_last += 1;
                return;
            }
            _ => {}
        }
        if self.units.len() < UNITS_MAX {
            self.units.push(unit);
            self.in_last = 1;
            return;
        }
        let pairs = self.units.chunks(2).map(|pair| {
            let mut all = Unit::default();
            pair.iter().for_each(|unit| all.merge(unit));
            all
        });
        self.units = pairs.collect();
        self.group += 1;
        self.units.push(unit);
        self.in_last = 1;
    }

    /// Distinct latencies that are held.
    pub(crate) fn entries(&self) -> usize {
        self.units.iter().map(|unit| unit.response.len() + unit.service.len()).sum()
    }

    /// `head` is the run; its slices are not looked at.
    pub(crate) fn finish(self, head: &Run) -> Replicate {
        let rest = Unit::of(head.measured_ns, &head.total).less(&self.units);
        Replicate {
            settings: head.settings.clone(),
            provenance: head.provenance.clone(),
            measured_ns: head.measured_ns,
            interrupted: head.interrupted,
            verdict: head.verdict.clone(),
            cpu_per_request_ns: head.cpu_per_request_ns(),
            units: self.units,
            rest,
        }
    }
}
