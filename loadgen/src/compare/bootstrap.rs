//! Resampling a run by blocks, percentiles of a resample, and the interval that several runs give.
//!
//! # Rules
//! 1. Percentiles are read from the merged counts of a resample, never averaged.
//! 2. A percentile is a range where lower bounds leave it one; the ends of a range are carried to the end.
//! 3. The same seed gives the same interval.
//!
//! # The interval
//! Two things make the difference of two runs uncertain. *Within* a run, another stretch of the same run
//! would have given other figures: blocks of consecutive slices are resampled (H. Kuensch, "The jackknife and
//! the bootstrap for general stationary observations", 1989), in the circular form that counts every slice
//! alike (D. Politis and J. Romano, 1992), so that slow slices that come in bursts stay bursts. *Between*
//! runs, a restarted server or client settles elsewhere: this is read from the spread of the replicates by
//! Student's t (Welch's where they are not pairs). The interval covers both, that is, the wider end of the
//! two on each side.
//!
//! Why not resample the rounds too: with 3 to 5 of them the resampled spread is too small by (n-1)/n, and its
//! tails are those of the normal distribution. Simulated with normal log ratios, "95 %" of such a two-level
//! bootstrap contained the truth in 76 % (3 rounds) and 84 % (5 rounds) of cases where runs differ more than
//! their slices do. The two intervals together contained it in 94.8 to 99.0 % for every mix of the two kinds
//! of noise.
//!
//! Not here: which metrics there are and what their change is called (`mod`).

use corelane_base::rng::Rng;

use super::replicate::{Replicate, Sparse};
use crate::record::rank_of;

/// A block holds at least this much time: what disturbs a server (a collection, a compaction, a busy
/// neighbour) is over within a second as a rule, and slices closer than that are not independent.
pub const BLOCK_NS: u64 = 1_000_000_000;

/// Units in a block: `BLOCK_NS` or the cube root of their number (Kuensch's rate), whichever is more, and at
/// most a quarter of all, so that there is something to choose from.
pub(crate) fn block_len(units: usize, unit_ns: u64) -> usize {
    let mut root = 1;
    while root * root * root < units {
        root += 1;
    }
    let second = usize::try_from(BLOCK_NS.div_ceil(unit_ns.max(1))).unwrap_or(usize::MAX);
    root.max(second).min(units / 4).max(1)
}

/// Cells of a table saturate here: beyond any count of requests, and 256 of them fit 64 bits.
const CELL_MAX: u64 = 1 << 48;

/// Cumulative counts of every unit on one axis of values: a percentile of any mix of units is a binary
/// search, each probe of which is one product of a row with the weights. Building is `values * units`; a
/// percentile costs `units * log2(values)`.
struct Table {
    values: Vec<u64>,
    columns: usize,
    /// Exact and bounds at or below a value: a row for each value.
    both: Vec<u64>,
    /// Exact ones only; empty where there are no bounds.
    exact: Vec<u64>,
}

impl Table {
    fn new<'a>(columns: impl ExactSizeIterator<Item = &'a Sparse> + Clone) -> Table {
        let mut values: Vec<u64> = columns.clone().flatten().map(|&(value, ..)| value).collect();
        values.sort_unstable();
        values.dedup();
        let has_bounds = columns.clone().flatten().any(|&(.., bounds)| bounds > 0);
        let width = columns.len();
        let mut both = vec![0; values.len() * width];
        let mut exact = if has_bounds { both.clone() } else { Vec::new() };
        for (column, sparse) in columns.enumerate() {
            let (mut next, mut sum, mut sum_exact) = (0, 0u64, 0u64);
            for (row, &value) in values.iter().enumerate() {
                if let Some(&(_, e, b)) = sparse.get(next).filter(|&&(at, ..)| at == value) {
                    next += 1;
                    sum = sum.saturating_add(e).saturating_add(b).min(CELL_MAX);
                    sum_exact = sum_exact.saturating_add(e).min(CELL_MAX);
                }
                both[row * width + column] = sum;
                if has_bounds {
                    exact[row * width + column] = sum_exact;
                }
            }
        }
        Table { values, columns: width, both, exact }
    }

    fn at(&self, cells: &[u64], row: usize, weights: &[u64]) -> u64 {
        cells[row * self.columns..][..self.columns]
            .iter()
            .zip(weights)
            .map(|(cell, weight)| cell * weight)
            .sum()
    }

    /// The first row that has `rank` of `cells` at or below it.
    fn find(&self, cells: &[u64], rank: u64, weights: &[u64]) -> Option<usize> {
        let (mut low, mut high) = (0, self.values.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.at(cells, middle, weights) >= rank { high = middle } else { low = middle + 1 }
        }
        (low < self.values.len()).then_some(low)
    }

    /// The ends of what the percentile may be: `record::Latency::percentile` in two numbers.
    fn percentile(&self, percent: f64, weights: &[u64]) -> Option<Range> {
        let last = self.values.len().checked_sub(1)?;
        let count = self.at(&self.both, last, weights);
        if count == 0 {
            return None;
        }
        let rank = rank_of(percent, count);
        let low = self.values[self.find(&self.both, rank, weights)?] as f64;
        if self.exact.is_empty() {
            return Some(Range { low, high: low });
        }
        let high = self.find(&self.exact, rank, weights).map_or(f64::INFINITY, |row| self.values[row] as f64);
        Some(Range { low, high })
    }
}

/// A number that is known to lie between two ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Range {
    /// Nothing is known of it.
    pub(crate) const ALL: Range = Range { low: f64::NEG_INFINITY, high: f64::INFINITY };

    fn map(self, f: impl Fn(f64) -> f64) -> Range {
        Range { low: f(self.low), high: f(self.high) }
    }
}

/// What is read from a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    /// Answers a second.
    Rate,
    /// A percentile of the response or of the service time, ns.
    Latency { service: bool, percent: f64 },
    /// Share of requests without a good answer.
    Errors,
}

impl What {
    /// Whether changes are ratios, so that everything is reckoned in logarithms.
    pub(crate) fn is_ratio(self) -> bool {
        !matches!(self, What::Errors)
    }
}

/// What a run says of one metric.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Of the run as it was; None if it has nothing to read it from.
    pub(crate) value: Option<Range>,
    /// Of its resamples; logarithms for ratios.
    draws: Vec<Range>,
}

impl Reading {
    fn point(&self, is_ratio: bool) -> Range {
        self.value.map_or(Range::ALL, |value| if is_ratio { value.map(f64::ln) } else { value })
    }
}

#[cfg(test)]
impl Reading {
    pub(crate) fn draw(&self, at: usize) -> Range {
        self.draws[at]
    }
}

/// The interval of the blocks alone.
#[cfg(test)]
pub(crate) fn change_within(a: &[&Reading], b: &[&Reading]) -> Range {
    within(a, b)
}

struct Tables<'a> {
    run: &'a Replicate,
    response: Table,
    service: Option<Table>,
}

impl Tables<'_> {
    fn read(&self, what: What, weights: &[u64]) -> Option<Range> {
        let units = || self.run.units.iter().chain([&self.run.rest]).zip(weights);
        let sum = |of: fn(&super::replicate::Unit) -> u64| -> f64 {
            units().map(|(unit, &weight)| of(unit) as f64 * weight as f64).sum()
        };
        match what {
            What::Rate => {
                let seconds = sum(|unit| unit.len_ns) / 1e9;
                let count = sum(|unit| unit.completed);
                // No answer at all: less than one in that time.
                let high = count.max(1.0) / seconds;
                (seconds > 0.0).then_some(Range { low: count / seconds, high })
            }
            What::Latency { service: false, percent } => self.response.percentile(percent, weights),
            What::Latency { service: true, percent } => self.service.as_ref()?.percentile(percent, weights),
            What::Errors => {
                let (errors, requests) = (sum(|unit| unit.errors), sum(|unit| unit.requests));
                (requests > 0.0).then(|| Range { low: errors / requests, high: errors / requests })
            }
        }
    }
}

/// Reads `metrics` from the run and from `resamples` resamples of its blocks.
pub(crate) fn read(
    run: &Replicate,
    metrics: &[What],
    resamples: usize,
    block: usize,
    seed: u64,
) -> Vec<Reading> {
    let all = || run.units.iter().chain([&run.rest]);
    let wants_service = metrics.iter().any(|what| matches!(what, What::Latency { service: true, .. }));
    let response: Vec<&Sparse> = all().map(|unit| &unit.response).collect();
    let service: Vec<&Sparse> = all().map(|unit| &unit.service).collect();
    let tables = Tables {
        run,
        response: Table::new(response.iter().copied()),
        service: wants_service.then(|| Table::new(service.iter().copied())),
    };
    let units = run.units.len();
    let mut weights = vec![1; units + 1];
    let mut readings: Vec<Reading> = metrics
        .iter()
        .map(|&what| Reading { value: tables.read(what, &weights), draws: Vec::with_capacity(resamples) })
        .collect();
    let mut rng = Rng::new(seed);
    for _ in 0..resamples {
        if units > 0 {
            draw(&mut rng, block, &mut weights[..units]);
        }
        for (&what, reading) in metrics.iter().zip(&mut readings) {
            let value = tables.read(what, &weights);
            let drawn = Reading { value, draws: Vec::new() }.point(what.is_ratio());
            reading.draws.push(drawn);
        }
    }
    readings
}

/// How often each unit is in a resample of blocks.
fn draw(rng: &mut Rng, block: usize, weights: &mut [u64]) {
    weights.fill(0);
    let mut left = weights.len();
    while left > 0 {
        let start = rng.index(weights.len());
        let len = block.min(left);
        for offset in 0..len {
            weights[(start + offset) % weights.len()] += 1;
        }
        left -= len;
    }
}

/// A change from one side to the other, as a difference (of logarithms, for a ratio).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) point: Range,
    pub(crate) interval: Range,
}

/// The change from `a` to `b`: the mean difference, and the interval described above.
pub(crate) fn change(a: &[&Reading], b: &[&Reading], is_ratio: bool) -> Change {
    if a.is_empty() || b.is_empty() {
        return Change { point: Range::ALL, interval: Range::ALL };
    }
    let points = |side: &[&Reading]| side.iter().map(|reading| reading.point(is_ratio)).collect::<Vec<_>>();
    let (pa, pb) = (points(a), points(b));
    let point = Range {
        low: mean(pb.iter().map(|r| r.low)) - mean(pa.iter().map(|r| r.high)),
        high: mean(pb.iter().map(|r| r.high)) - mean(pa.iter().map(|r| r.low)),
    };
    let within = within(a, b);
    let lows = student(&ends(&pa, |r| r.high), &ends(&pb, |r| r.low));
    let highs = student(&ends(&pa, |r| r.low), &ends(&pb, |r| r.high));
    let low = lows.map_or(within.low, |half| within.low.min(point.low - half));
    let high = highs.map_or(within.high, |half| within.high.max(point.high + half));
    Change { point, interval: Range { low, high } }
}

fn ends(side: &[Range], end: fn(&Range) -> f64) -> Vec<f64> {
    side.iter().map(end).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// The middle 95 % of the resamples.
fn within(a: &[&Reading], b: &[&Reading]) -> Range {
    let count = a.iter().chain(b).map(|reading| reading.draws.len()).min().unwrap_or(0);
    if count == 0 {
        return Range { low: f64::INFINITY, high: f64::NEG_INFINITY };
    }
    let differences = |of_b: fn(&Range) -> f64, of_a: fn(&Range) -> f64| {
        let one = |n: usize| {
            mean(b.iter().map(|reading| of_b(&reading.draws[n]))) - mean(a.iter().map(|r| of_a(&r.draws[n])))
        };
        let mut all: Vec<f64> = (0..count).map(one).collect();
        all.sort_unstable_by(f64::total_cmp);
        all
    };
    let tail = count * 25 / 1000;
    let low = differences(|r| r.low, |r| r.high)[tail];
    let high = differences(|r| r.high, |r| r.low)[count - 1 - tail];
    Range { low, high }
}

/// Half of Student's interval of the mean difference: of pairs where there are as many on both sides, Welch's
/// otherwise. None where a side has one value; without end where a value is.
fn student(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    if a.iter().chain(b).any(|value| !value.is_finite()) {
        return Some(f64::INFINITY);
    }
    if a.len() == b.len() {
        let differences: Vec<f64> = b.iter().zip(a).map(|(b, a)| b - a).collect();
        let error = variance(&differences) / differences.len() as f64;
        return Some(t_975((differences.len() - 1) as f64) * error.sqrt());
    }
    let (ea, eb) = (variance(a) / a.len() as f64, variance(b) / b.len() as f64);
    let error = ea + eb;
    if error == 0.0 {
        return Some(0.0);
    }
    // B. Welch, "The generalization of Student's problem", 1947: equation 28 as simplified by Satterthwaite.
    let freedom = error * error / (ea * ea / (a.len() - 1) as f64 + eb * eb / (b.len() - 1) as f64);
    Some(t_975(freedom) * error.sqrt())
}

fn variance(values: &[f64]) -> f64 {
    let middle = mean(values.iter().copied());
    values.iter().map(|value| (value - middle) * (value - middle)).sum::<f64>() / (values.len() - 1) as f64
}

/// The 97.5 % quantile of Student's t, degrees of freedom rounded down. From the usual tables up to 10, and
/// the expansion of Fisher and Cornish (1960) above: right to 0.001.
pub(crate) fn t_975(freedom: f64) -> f64 {
    const TABLE: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a float saturates
    let whole = (freedom.floor() as usize).max(1);
    if let Some(&t) = TABLE.get(whole - 1) {
        return t;
    }
    let (z, v) = (1.959_964_f64, whole as f64);
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * v)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * v.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_a_second_the_cube_root_or_a_quarter() {
        assert_eq!(block_len(100, 100_000_000), 10, "a second");
        assert_eq!(block_len(100, 1_000_000_000), 5, "the cube root of 100, rounded up");
        assert_eq!(block_len(12, 100_000_000), 3, "a quarter of all");
        assert_eq!(block_len(3, 100_000_000), 1);
        assert_eq!(block_len(0, 0), 1);
    }

    #[test]
    fn a_resample_has_as_many_units_and_whole_blocks() {
        let (mut rng, mut weights) = (Rng::new(3), vec![0; 20]);
        for _ in 0..50 {
            draw(&mut rng, 6, &mut weights);
            assert_eq!(weights.iter().sum::<u64>(), 20);
        }
    }

    #[test]
    fn every_unit_is_drawn_equally_often() {
        let (mut rng, mut weights, mut all) = (Rng::new(4), vec![0; 10], [0u64; 10]);
        for _ in 0..10_000 {
            draw(&mut rng, 4, &mut weights);
            all.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum += weight);
        }
        assert!(all.iter().all(|&sum| (9_600..10_400).contains(&sum)), "{all:?}");
    }

    #[test]
    fn students_quantile_follows_the_tables() {
        for (freedom, t) in
            [(1.0, 12.706), (2.9, 4.303), (10.0, 2.228), (11.0, 2.201), (30.0, 2.042), (120.0, 1.980)]
        {
            assert!((t_975(freedom) - t).abs() < 0.001, "{freedom}: {}", t_975(freedom));
        }
        assert!((t_975(f64::INFINITY) - 1.96).abs() < 0.001);
    }

    #[test]
    fn sides_of_unlike_size_are_compared_by_welch() {
        // Worked by hand: variances 1 and 4 of means 2 and 7, 3 and 4 values.
        let (a, b) = ([1.0, 2.0, 3.0], [5.0, 6.0, 7.0, 10.0]);
        let (ea, eb) = (1.0f64 / 3.0, (14.0f64 / 3.0) / 4.0);
        let freedom = (ea + eb).powi(2) / (ea * ea / 2.0 + eb * eb / 3.0);
        let half = student(&a, &b).unwrap();
        assert!((half - t_975(freedom) * (ea + eb).sqrt()).abs() < 1e-12);
        assert_eq!(student(&a[..1], &b), None);
    }
}
