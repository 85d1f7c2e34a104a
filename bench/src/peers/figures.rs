//! From samples to what is shown: medians, ranges, ratios.
//!
//! Not here: taking samples (`sample`), laying them out (`table`).

use super::model::{Kind, Report, Row, Sample};
use crate::ab::summary::Spread;

/// The figure by which the rows of a load are compared: the smaller the better.
pub(super) fn main_figure(kind: Kind) -> fn(&Sample) -> Option<f64> {
    match kind {
        Kind::Closed => |sample| sample.cpu_us,
        Kind::Open => |sample| sample.p99_us,
        Kind::Download => |sample| sample.cpu_s_per_gib,
        Kind::Idle => |sample| sample.idle_bytes,
    }
}

/// Median and range over the rounds of a row, if there are any.
pub(super) fn spread(row: &Row, figure: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
    Spread::of(row.samples.iter().filter_map(figure))
}

/// The median over the rounds of a row.
pub(super) fn median(row: &Row, figure: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    spread(row, figure).map(|spread| spread.median)
}

/// `row` to `base`: the quotient of their medians, and the range of the quotients within each round.
pub(super) fn ratio(row: &Row, base: &Row, figure: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
    let median = median(row, &figure)? / median(base, &figure)?;
    let rounds = row.samples.iter().zip(&base.samples);
    let rounds = rounds.filter_map(|(own, base)| Some(figure(own)? / figure(base)?));
    let range = Spread::of(rounds)?;
    Some(Spread { median, ..range })
}

/// Answers that were wrong, late or missing, in all rounds.
pub(super) fn errors(row: &Row) -> u64 {
    row.samples.iter().map(|sample| sample.errors).sum()
}

impl Report {
    /// The row of a subject and a scenario, if it has figures.
    pub(super) fn row(&self, subject: &str, scenario: &str) -> Option<&Row> {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| row.subject == subject && row.scenario == scenario)?;
        (!row.samples.is_empty()).then_some(row)
    }

    /// Median of a figure of a subject in a scenario.
    pub(super) fn median(
        &self,
        subject: &str,
        scenario: &str,
        figure: fn(&Sample) -> Option<f64>,
    ) -> Option<f64> {
        median(self.row(subject, scenario)?, figure)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A row with this CPU time in each round.
    pub(in super::super) fn row(subject: &str, scenario: &str, costs: &[f64]) -> Row {
        let sample = |&cost: &f64| Sample {
            cpu_us: Some(cost),
            rate: Some(1e6 / cost),
            p50_us: Some(cost * 10.0),
            p99_us: Some(cost * 20.0),
            p999_us: Some(cost * 40.0),
            rss_kib: Some(2048),
            busy: Some(0.95),
            others: Some(0.01),
            ..Sample::default()
        };
        Row {
            subject: subject.to_owned(),
            scenario: scenario.to_owned(),
            absent: None,
            answer_len: Some(128),
            syscalls: None,
            samples: costs.iter().map(sample).collect(),
        }
    }

    #[test]
    fn a_ratio_is_of_medians_and_its_range_of_rounds() {
        let (base, other) = (row("a", "x", &[1.0, 2.0, 4.0]), row("b", "x", &[2.0, 3.0, 4.0]));
        let cost = main_figure(Kind::Closed);
        let found = ratio(&other, &base, cost).unwrap();
        assert_eq!((found.median, found.min, found.max), (1.5, 1.0, 2.0));
        assert!(ratio(&row("b", "x", &[]), &base, cost).is_none());
        assert!(ratio(&other, &base, |sample| sample.idle_bytes).is_none());
    }

    #[test]
    fn a_row_that_ended_early_is_compared_by_the_rounds_it_has() {
        let found = ratio(&row("b", "x", &[3.0]), &row("a", "x", &[1.0, 100.0, 1.5]), |s| s.cpu_us).unwrap();
        assert_eq!((found.median, found.min, found.max), (2.0, 3.0, 3.0));
    }

    #[test]
    fn every_kind_is_compared_by_its_own_figure() {
        let sample = Sample {
            cpu_us: Some(1.0),
            p99_us: Some(2.0),
            cpu_s_per_gib: Some(3.0),
            idle_bytes: Some(4.0),
            ..Sample::default()
        };
        let kinds = [Kind::Closed, Kind::Open, Kind::Download, Kind::Idle];
        assert_eq!(kinds.map(|kind| main_figure(kind)(&sample)), [1.0, 2.0, 3.0, 4.0].map(Some));
    }
}
