//! From samples to what is shown: medians, ranges, and ratios to the base.
//!
//! # Rules
//! 1. A ratio is the quotient of two medians; its range is that of the quotients within each round
//!    (`model`, rule 3). Without a positive figure of the base there is none.
//! 2. What is not finite does not count as measured.
//! 3. Every subject is a [`Cell`] of every [`Load`], with figures or with the reason why it has none.
//!
//! Not here: how it is drawn (`chart`, `tables`).

use crate::ab::summary::Spread;
use crate::peers::model::{Kind, Report, Row, Sample, Scenario, Subject};

/// Name of the subject that is the base of all ratios.
pub(super) const BASE: &str = "corelane";

/// A figure of which less is better, in which subjects are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    /// In a sentence: "CPU time a request".
    pub(super) name: &'static str,
    /// In the head of a column: "CPU".
    pub(super) short: &'static str,
    /// "us".
    pub(super) unit: &'static str,
    pub(super) of: fn(&Sample) -> Option<f64>,
}

pub(super) const CPU: Measure =
    Measure { name: "server CPU time a request", short: "CPU", unit: "us", of: |s| s.cpu_us };
pub(super) const P50: Measure = Measure { name: "P50 latency", short: "P50", unit: "us", of: |s| s.p50_us };
pub(super) const P99: Measure = Measure { name: "P99 latency", short: "P99", unit: "us", of: |s| s.p99_us };
pub(super) const P999: Measure =
    Measure { name: "P99.9 latency", short: "P99.9", unit: "us", of: |s| s.p999_us };
const GIB: Measure =
    Measure { name: "server CPU time a GiB", short: "CPU", unit: "s/GiB", of: |s| s.cpu_s_per_gib };
const IDLE: Measure = Measure {
    name: "resident memory a connection at rest",
    short: "memory",
    unit: "B/connection",
    of: |s| s.idle_bytes,
};

/// What subjects are compared in under a load; the first is the one that is drawn and ranked.
pub(super) fn measures(scenario: &Scenario) -> &'static [Measure] {
    match scenario.kind {
        Kind::Closed if scenario.connections == 1 && scenario.pipeline <= 1 => &[CPU, P50],
        Kind::Closed => &[CPU],
        Kind::Open => &[P99, P999],
        Kind::Download => &[GIB],
        Kind::Idle => &[IDLE],
    }
}

/// A figure beside that of the base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    pub(super) of_medians: f64,
    /// Least and largest quotient within a round; none if no round has both.
    pub(super) range: Option<(f64, f64)>,
}

impl Ratio {
    /// Whether some round saw more than the base and some other less, or one the same.
    pub(super) fn is_unsure(&self) -> bool {
        self.range.is_some_and(|(least, most)| least <= 1.0 && most >= 1.0)
    }
}

/// One subject under one load.
pub(super) struct Cell<'r> {
    pub(super) subject: &'r Subject,
    pub(super) row: Option<&'r Row>,
}

impl<'r> Cell<'r> {
    pub(super) fn is_base(&self) -> bool {
        self.subject.name == BASE
    }

    fn samples(&self) -> &'r [Sample] {
        self.row.filter(|row| row.absent.is_none()).map_or(&[], |row| &row.samples)
    }

    /// Windows that were measured.
    pub(super) fn rounds(&self) -> usize {
        self.samples().len()
    }

    /// What was measured, one for each round that has it.
    pub(super) fn values(&self, of: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
        self.samples().iter().filter_map(of).filter(|value| value.is_finite()).collect()
    }

    pub(super) fn spread(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.values(of))
    }

    /// Answers that were wrong, late or missing, in all rounds.
    pub(super) fn errors(&self) -> u64 {
        self.samples().iter().fold(0, |sum, sample| sum.saturating_add(sample.errors))
    }

    /// Why it has no figures; `None` if it has some.
    pub(super) fn absent(&self) -> Option<&'r str> {
        if !self.samples().is_empty() {
            return None;
        }
        let of_row = self.row.and_then(|row| row.absent.as_deref());
        Some(of_row.or(self.subject.absent.as_deref()).unwrap_or("nothing was measured"))
    }

    fn ratio(&self, base: &Cell<'_>, measure: &Measure) -> Option<Ratio> {
        let (own, other) = (self.spread(measure.of)?.median, base.spread(measure.of)?.median);
        let quotient = |own: f64, other: f64| (other > 0.0).then(|| own / other).filter(|q| q.is_finite());
        let rounds = self.samples().iter().zip(base.samples());
        let rounds = rounds.filter_map(|(own, base)| quotient((measure.of)(own)?, (measure.of)(base)?));
        let range = Spread::of(rounds).map(|spread| (spread.min, spread.max));
        Some(Ratio { of_medians: quotient(own, other)?, range })
    }
}

/// One scenario with all its subjects, in the order of the report.
pub(super) struct Load<'r> {
    pub(super) scenario: &'r Scenario,
    pub(super) cells: Vec<Cell<'r>>,
}

impl<'r> Load<'r> {
    pub(super) fn measures(&self) -> &'static [Measure] {
        measures(self.scenario)
    }

    /// The one that is drawn and ranked.
    pub(super) fn main(&self) -> &'static Measure {
        &self.measures()[0]
    }

    pub(super) fn base(&self) -> Option<&Cell<'r>> {
        self.cells.iter().find(|cell| cell.is_base())
    }

    pub(super) fn ratio(&self, cell: &Cell<'_>, measure: &Measure) -> Option<Ratio> {
        cell.ratio(self.base()?, measure)
    }

    /// The server, no loop of limits, whose median is the least.
    pub(super) fn lowest(&self, measure: &Measure) -> Option<&Cell<'r>> {
        let servers = self.cells.iter().filter(|cell| !cell.subject.is_limit);
        let servers = servers.filter_map(|cell| Some((cell.spread(measure.of)?.median, cell)));
        servers.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, cell)| cell)
    }
}

/// All loads in the order of the report.
pub(super) fn loads(report: &Report) -> Vec<Load<'_>> {
    let find = |subject: &Subject, scenario: &Scenario| {
        report.rows.iter().find(|row| row.subject == subject.name && row.scenario == scenario.id)
    };
    let load = |scenario| Load {
        scenario,
        cells: report.subjects.iter().map(|subject| Cell { subject, row: find(subject, scenario) }).collect(),
    };
    report.scenarios.iter().map(load).collect()
}

/// Rows that name a subject or a scenario that the report does not list.
pub(super) fn strays(report: &Report) -> usize {
    let is_known = |row: &&Row| {
        report.subjects.iter().any(|subject| subject.name == row.subject)
            && report.scenarios.iter().any(|scenario| scenario.id == row.scenario)
    };
    report.rows.iter().filter(|row| !is_known(row)).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::peers::html::sample;

    /// A report of one load with these costs, one list a subject.
    fn costs(of: &[(&str, &[Option<f64>])]) -> Report {
        let mut report = sample::empty();
        report.scenarios.push(sample::scenario("s", Kind::Closed));
        for (name, costs) in of {
            report.subjects.push(sample::subject(name, false));
            let samples = costs.iter().map(|&cpu_us| Sample { cpu_us, ..Sample::default() }).collect();
            report.rows.push(sample::row(name, "s", samples));
        }
        report
    }

    #[test]
    fn a_ratio_is_of_medians_and_its_range_of_rounds() {
        let report =
            costs(&[("corelane", &[1.0, 2.0, 4.0].map(Some)), ("hyper", &[2.0, 3.0, 4.0].map(Some))]);
        let loads = loads(&report);
        let ratio = loads[0].ratio(&loads[0].cells[1], &CPU).unwrap();
        assert_eq!(ratio, Ratio { of_medians: 1.5, range: Some((1.0, 2.0)) });
        assert!(ratio.is_unsure());
        let own = loads[0].ratio(&loads[0].cells[0], &CPU).unwrap();
        assert_eq!(own, Ratio { of_medians: 1.0, range: Some((1.0, 1.0)) });
    }

    #[test]
    fn rounds_without_both_figures_do_not_count_in_a_range() {
        let report =
            costs(&[("corelane", &[None, Some(2.0), Some(f64::NAN)]), ("x", &[Some(9.0), Some(3.0), None])]);
        let loads = loads(&report);
        let ratio = loads[0].ratio(&loads[0].cells[1], &CPU).unwrap();
        assert_eq!(ratio, Ratio { of_medians: 3.0, range: Some((1.5, 1.5)) });
    }

    #[test]
    fn there_is_no_ratio_without_a_base_that_costs_something() {
        for base in [vec![], vec![("corelane", &[][..])], vec![("corelane", &[Some(0.0)][..])]] {
            let mut of = base.clone();
            of.push(("hyper", &[Some(1.0)]));
            let report = costs(&of);
            let loads = loads(&report);
            assert_eq!(loads[0].ratio(loads[0].cells.last().unwrap(), &CPU), None, "{base:?}");
        }
    }

    #[test]
    fn a_loop_of_limits_is_never_the_lowest() {
        let mut report = costs(&[("limit", &[Some(1.0)]), ("b", &[Some(3.0)]), ("a", &[Some(2.0)])]);
        report.subjects[0].is_limit = true;
        assert_eq!(loads(&report)[0].lowest(&CPU).unwrap().subject.name, "a");
    }

    #[test]
    fn an_absence_says_the_reason_of_the_row_then_of_the_subject() {
        let mut report = costs(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[Some(1.0)])]);
        report.rows[0].absent = Some("of the row".into());
        report.subjects[0].absent = Some("of the subject".into());
        report.subjects[1].absent = Some("of the subject".into());
        report.rows.remove(2);
        let loads = loads(&report);
        let reasons: Vec<_> = loads[0].cells.iter().map(Cell::absent).collect();
        let wanted = [Some("of the row"), Some("of the subject"), Some("nothing was measured"), None];
        assert_eq!(reasons, wanted);
    }

    #[test]
    fn rows_of_nobody_are_counted() {
        let mut report = costs(&[("a", &[])]);
        assert_eq!(strays(&report), 0);
        report.rows.push(sample::row("nobody", "s", vec![]));
        report.rows.push(sample::row("a", "nothing", vec![]));
        assert_eq!(strays(&report), 2);
    }
}
