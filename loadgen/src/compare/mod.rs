//! Whether one set of runs differs from another: each metric's change, how sure it is, and a verdict.
//!
//! # Rules
//! 1. Pure: runs in, a [`Comparison`] out. The same input gives the same output.
//! 2. Runs that differ in more than what is compared are refused, or, if forced, compared under a warning.
//! 3. What is a lower bound stays one: a change that could be anything beyond a figure is printed as such.
//!
//! # What is reckoned
//! A side is a set of runs. A change is the geometric mean of the rounds' ratios (the mean of the logarithms'
//! differences; of shares of errors, the mean difference in percentage points). Its 95 % interval is
//! described in `bootstrap`; it is widened by one bucket of the histograms, below which nothing can be told.
//! A change is seen where the interval leaves out "the same", or all that lies within the threshold.
//!
//! # Cost
//! 2 sides of 5 runs of 100 slices, P50 and P99, 2,000 resamples: 0.2 s in a release build on one core, and
//! some 20 MB. Grows with `resamples * slices`, and with the logarithm of the distinct latencies.
//!
//! Not here: running anything (`engine`), how a file is written (`report`).

mod bootstrap;
mod checks;
mod file;
mod replicate;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::histogram;
use bootstrap::{Range, Reading, What};

pub use bootstrap::BLOCK_NS;
pub use checks::REPLICATES_MIN;
pub use file::{FILE_LEN_MAX, SIDES_MAX, SLICES_MAX, read_runs, read_sides};
pub(crate) use file::{first_line, parse_run};
pub use replicate::Replicate;
pub use text::text;

/// Version of the JSON form of a [`Comparison`].
pub const SCHEMA: u32 = 1;

/// Resamples that may be asked for: fewer than 200 leave 5 beyond each end, more than this take minutes.
pub const RESAMPLES_MIN: usize = 200;
/// See [`RESAMPLES_MIN`].
pub const RESAMPLES_MAX: usize = 1_000_000;

/// Runs that were made alike.
#[derive(Clone, Debug)]
pub struct Side {
    /// What reports call it.
    pub name: String,
    /// In the order they were made: run `n` of one side belongs to run `n` of the other.
    pub runs: Vec<Replicate>,
}

impl Side {
    /// A side of these runs.
    pub fn new(name: impl Into<String>, runs: &[crate::model::Run]) -> Side {
        Side { name: name.into(), runs: runs.iter().map(Replicate::of).collect() }
    }
}

/// What is compared, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Percentiles of the response time, 0 to 100.
    pub percentiles: Vec<f64>,
    /// The same percentiles of the service time, too.
    pub service: bool,
    /// A change is called one where it is shown to be larger than this; 0.05 is 5 %. Shares of errors have
    /// none.
    pub threshold: f64,
    /// Resamples of the blocks of each run.
    pub resamples: usize,
    /// Of the resampling.
    pub seed: u64,
    /// Compare what ought not to be compared.
    pub force: bool,
}

impl Default for Options {
    fn default() -> Options {
        let percentiles = vec![50.0, 99.0];
        Options { percentiles, service: false, threshold: 0.0, resamples: 2_000, seed: 1, force: false }
    }
}

/// Something that speaks against comparing these runs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Problem {
    /// The comparison is not made for it, unless forced.
    pub refuses: bool,
    /// Short name, for scripts.
    pub code: String,
    /// What differs, and what to do about it.
    pub text: String,
}

/// Why runs are not compared; at least one problem refuses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// All that was found, refusals first.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "these runs cannot be compared:")?;
        for problem in self.problems.iter().filter(|problem| problem.refuses) {
            writeln!(f, "  {}", problem.text)?;
        }
        write!(f, "--force compares them nevertheless, and prints this above the result")
    }
}

impl std::error::Error for Refused {}

/// A number as far as it is known.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Span {
    /// It is no less; None where nothing says so.
    pub low: Option<f64>,
    /// It is no more.
    pub high: Option<f64>,
}

impl Span {
    fn of(range: Range) -> Span {
        let known = |end: f64| end.is_finite().then_some(end);
        Span { low: known(range.low), high: known(range.high) }
    }

    /// The number, if it is known.
    pub fn exact(self) -> Option<f64> {
        self.low.filter(|_| self.low == self.high)
    }
}

/// What a value is measured in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// A second.
    PerSecond,
    /// Nanoseconds.
    Ns,
    /// Of all, 0 to 1.
    Share,
}

/// How a change is told.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Other by base: 1 is no change.
    Ratio,
    /// Other less base: 0 is no change.
    Difference,
}

/// What is said of a change.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The other side is better.
    Better,
    /// The other side is worse.
    Worse,
    /// The interval contains "the same", or reaches within the threshold.
    NoDifference,
    /// Lower bounds, or missing values, leave it open.
    Unknown,
    /// It is not judged.
    Information,
}

impl Finding {
    /// What a person reads.
    pub fn text(self) -> &'static str {
        match self {
            Finding::Better => "better",
            Finding::Worse => "worse",
            Finding::NoDifference => "no difference seen",
            Finding::Unknown => "unknown",
            Finding::Information => "not judged",
        }
    }
}

/// One metric of both sides.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Metric {
    /// For scripts: `rate`, `response_p99`, `service_p50`, `errors`, `cpu_per_request`.
    pub name: String,
    /// For people.
    pub label: String,
    /// Of `base` and `other`.
    pub measure: Measure,
    /// Median of the runs of the base.
    pub base: Span,
    /// Median of the runs of the other side.
    pub other: Span,
    /// How `change` and `interval` are told.
    pub kind: ChangeKind,
    /// From the base to the other side.
    pub change: Span,
    /// 95 % interval of the change; None where it has none.
    pub interval: Option<Span>,
    /// What is said of it.
    pub finding: Finding,
}

/// A side, in short.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SideSummary {
    /// Its name.
    pub name: String,
    /// How many runs it has.
    pub runs: usize,
    /// Where its first run sent its requests.
    pub url: String,
}

/// One side compared with the base.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What is compared with.
    pub base: SideSummary,
    /// What is compared.
    pub other: SideSummary,
    /// Share of comparisons whose interval contains the true change.
    pub confidence: f64,
    /// See [`Options::threshold`].
    pub threshold: f64,
    /// Resamples of the blocks of each run.
    pub resamples: usize,
    /// Of the resampling.
    pub seed: u64,
    /// Length of a block of slices.
    pub block_ns: u64,
    /// Run `n` of one side was set against run `n` of the other.
    pub paired: bool,
    /// What the reader must know; those that refuse were overruled by force.
    pub warnings: Vec<Problem>,
    /// In the order they are printed.
    pub metrics: Vec<Metric>,
}

impl Comparison {
    /// Whether any metric got worse.
    pub fn is_worse(&self) -> bool {
        self.metrics.iter().any(|metric| metric.finding == Finding::Worse)
    }
}

/// Compares each other side with the first.
///
/// # Errors
/// Of the first pair that is refused, see [`compare`].
pub fn compare_all(sides: &[Side], options: &Options) -> Result<Vec<Comparison>, Refused> {
    match sides {
        [base, others @ ..] if !others.is_empty() => {
            others.iter().map(|b| compare(base, b, options)).collect()
        }
        _ => Err(refused("sides", "one side is nothing to compare: name two results or more".into())),
    }
}

/// Compares `other` with `base`.
///
/// # Errors
/// The runs differ in more than what is compared, are too few, or say of themselves that they are not valid;
/// or an option is out of range. [`Options::force`] overrules all but the last, and a side without runs.
pub fn compare(base: &Side, other: &Side, options: &Options) -> Result<Comparison, Refused> {
    check(options)?;
    let warnings = checks::problems(base, other);
    let is_empty = base.runs.is_empty() || other.runs.is_empty();
    if is_empty || (!options.force && warnings.iter().any(|problem| problem.refuses)) {
        return Err(Refused { problems: warnings });
    }
    let metrics = metrics_of(options);
    let whats: Vec<What> = metrics.iter().map(|metric| metric.what).collect();
    let mut run_index = 0u64;
    let mut read = |run: &Replicate| {
        run_index += 1;
        let seed = options.seed.wrapping_add(run_index.wrapping_mul(0xd1b5_4a32_d192_ed03));
        bootstrap::read(run, &whats, options.resamples, block_of(run), seed)
    };
    let a: Vec<Vec<Reading>> = base.runs.iter().map(&mut read).collect();
    let b: Vec<Vec<Reading>> = other.runs.iter().map(&mut read).collect();
    let mut found: Vec<Metric> = (0..metrics.len())
        .map(|at| {
            let side =
                |runs: &'_ [Vec<Reading>]| -> Vec<Reading> { runs.iter().map(|r| r[at].clone()).collect() };
            metric(&metrics[at], &side(&a), &side(&b), options.threshold)
        })
        .collect();
    found.extend(cpu(base, other));
    let first = &base.runs[0];
    let unit_ns = first.units.first().map_or(first.measured_ns, |unit| unit.len_ns);
    Ok(Comparison {
        schema: SCHEMA,
        base: summary(base),
        other: summary(other),
        confidence: 0.95,
        threshold: options.threshold,
        resamples: options.resamples,
        seed: options.seed,
        block_ns: unit_ns.saturating_mul(block_of(first) as u64),
        paired: base.runs.len() == other.runs.len(),
        warnings,
        metrics: found,
    })
}

fn refused(code: &str, text: String) -> Refused {
    Refused { problems: vec![Problem { refuses: true, code: code.into(), text }] }
}

fn check(options: &Options) -> Result<(), Refused> {
    if !(RESAMPLES_MIN..=RESAMPLES_MAX).contains(&options.resamples) {
        let n = options.resamples;
        return Err(refused(
            "resamples",
            format!("{n} resamples: {RESAMPLES_MIN} to {RESAMPLES_MAX} are possible"),
        ));
    }
    if let Some(percent) = options.percentiles.iter().find(|percent| !(0.0..=100.0).contains(*percent)) {
        return Err(refused(
            "percentiles",
            format!("no percentile is called {percent}: 0 to 100 are possible"),
        ));
    }
    if !(0.0..=10.0).contains(&options.threshold) {
        let text = format!("a threshold of {} %: 0 to 1000 are possible", options.threshold * 100.0);
        return Err(refused("threshold", text));
    }
    Ok(())
}

fn block_of(run: &Replicate) -> usize {
    bootstrap::block_len(run.units.len(), run.units.first().map_or(0, |unit| unit.len_ns))
}

fn summary(side: &Side) -> SideSummary {
    let url = side.runs.first().map_or(String::new(), |run| run.settings.url.clone());
    SideSummary { name: side.name.clone(), runs: side.runs.len(), url }
}

/// A metric before it has values.
struct Plan {
    what: What,
    name: String,
    label: String,
    measure: Measure,
}

fn metrics_of(options: &Options) -> Vec<Plan> {
    let plan = |what, name: String, label: String, measure| Plan { what, name, label, measure };
    let mut all = vec![plan(What::Rate, "rate".into(), "rate".into(), Measure::PerSecond)];
    for service in [false, true] {
        if service && !options.service {
            continue;
        }
        let (name, label) = if service { ("service", "service ") } else { ("response", "") };
        for &percent in &options.percentiles {
            let what = What::Latency { service, percent };
            let name = format!("{name}_p{}", percent.to_string().replace('.', "_"));
            all.push(plan(what, name, format!("{label}P{percent}"), Measure::Ns));
        }
    }
    all.push(plan(What::Errors, "errors".into(), "errors".into(), Measure::Share));
    all
}

fn metric(plan: &Plan, a: &[Reading], b: &[Reading], threshold: f64) -> Metric {
    let is_ratio = plan.what.is_ratio();
    let (refs_a, refs_b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
    let change = bootstrap::change(&refs_a, &refs_b, is_ratio);
    // The true value is anywhere in its bucket, and values are the upper ends of theirs.
    let slack =
        if plan.measure == Measure::Ns { -(-resolution(a.iter().chain(b)).min(1.0)).ln_1p() } else { 0.0 };
    let interval = Range { low: change.interval.low - slack, high: change.interval.high + slack };
    let (above, kind) =
        if is_ratio { (threshold.ln_1p(), ChangeKind::Ratio) } else { (0.0, ChangeKind::Difference) };
    // The interval of a ratio is one of logarithms until here.
    let told = |range: Range| {
        let of = |end: f64| if is_ratio { end.exp() } else { end };
        let span = Span::of(Range { low: of(range.low), high: of(range.high) });
        if is_ratio && span.low == Some(0.0) { Span { low: None, ..span } } else { span }
    };
    Metric {
        name: plan.name.clone(),
        label: plan.label.clone(),
        measure: plan.measure,
        base: Span::of(median(a)),
        other: Span::of(median(b)),
        kind,
        change: told(change.point),
        interval: Some(told(interval)),
        finding: finding(interval, above, plan.what == What::Rate),
    }
}

fn finding(interval: Range, above: f64, more_is_better: bool) -> Finding {
    if interval.low > above {
        return if more_is_better { Finding::Better } else { Finding::Worse };
    }
    if interval.high < -above {
        return if more_is_better { Finding::Worse } else { Finding::Better };
    }
    let is_known = interval.low.is_finite() && interval.high.is_finite();
    if is_known { Finding::NoDifference } else { Finding::Unknown }
}

/// The width of a bucket by its value, at the coarsest of the values.
fn resolution<'a>(readings: impl Iterator<Item = &'a Reading>) -> f64 {
    let buckets = histogram();
    let mut coarsest = 0.0f64;
    for value in readings.filter_map(|reading| reading.value) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it was a u64
        let ns = value.low.max(1.0) as u64;
        coarsest = coarsest.max(buckets.equivalent_range(ns) as f64 / ns as f64);
    }
    coarsest
}

fn median(readings: &[Reading]) -> Range {
    let end = |of: fn(&Range) -> f64| {
        let mut all: Vec<f64> =
            readings.iter().map(|reading| of(&reading.value.unwrap_or(Range::ALL))).collect();
        all.sort_unstable_by(f64::total_cmp);
        let (low, high) = (all[(all.len() - 1) / 2], all[all.len() / 2]);
        if low == high { low } else { low / 2.0 + high / 2.0 }
    };
    Range { low: end(|range| range.low), high: end(|range| range.high) }
}

/// What a request cost the client: it says whether the client itself was in the way, not how the server did.
fn cpu(base: &Side, other: &Side) -> Option<Metric> {
    let of = |side: &Side| -> Option<Vec<f64>> {
        side.runs.iter().map(|run| run.cpu_per_request_ns.filter(|ns| *ns > 0.0)).collect()
    };
    let (a, b) = (of(base)?, of(other)?);
    let log = |side: &[f64]| side.iter().map(|ns| ns.ln()).sum::<f64>() / side.len() as f64;
    let middle = |side: &[f64]| {
        let mut all = side.to_vec();
        all.sort_unstable_by(f64::total_cmp);
        let value = (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0;
        Span { low: Some(value), high: Some(value) }
    };
    let ratio = (log(&b) - log(&a)).exp();
    Some(Metric {
        name: "cpu_per_request".into(),
        label: "client CPU".into(),
        measure: Measure::Ns,
        base: middle(&a),
        other: middle(&b),
        kind: ChangeKind::Ratio,
        change: Span { low: Some(ratio), high: Some(ratio) },
        interval: None,
        finding: Finding::Information,
    })
}
