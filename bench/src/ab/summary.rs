//! Samples to medians, ratios and a table.
//!
//! The figure compared is CPU time of the server per answer. A ratio is the quotient of two medians;
//! the range beside it is that of the quotients within each round, which share their disturbances:
//! a range that crosses 1 means no difference was seen.
//!
//! Not here: how samples are taken (`ab`).

use std::fmt::Write;

use serde::Serialize;

use super::plan::Scenario;

/// Share of a CPU used by others above which a round is called disturbed.
///
/// Ticks of 10 ms over a few seconds are good to about 2 %.
pub(crate) const OTHERS_SHARE_MAX: f64 = 0.05;

/// One measured window of one server.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    /// Server CPU time per answer, microseconds.
    pub(crate) cpu_us: f64,
    /// Client CPU time per answer, microseconds.
    pub(crate) client_us: f64,
    /// Answers per second.
    pub(crate) requests_per_s: f64,
    /// Median latency seen by wrk, microseconds. None with pipelining: wrk spreads long latencies by
    /// the interval of answers, but records one latency a batch, so its percentiles mean nothing.
    pub(crate) latency_us_p50: Option<f64>,
    /// 99th percentile of latency seen by wrk, microseconds; none with pipelining.
    pub(crate) latency_us_p99: Option<f64>,
    /// CPU time of the server by wall time.
    pub(crate) busy_share: f64,
    /// CPU time of others on the server's or the client's CPU by wall time, the larger.
    pub(crate) others_share: f64,
    /// Answers with a status other than 2xx or 3xx.
    pub(crate) bad_answers: u64,
    /// Connect, read, write and timeout errors of the client.
    pub(crate) socket_errors: u64,
}

/// All samples of one server in one scenario, one per round.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    /// Name of the server.
    pub(crate) server: String,
    /// The load.
    pub(crate) scenario: Scenario,
    /// Length of one answer in bytes, head and body.
    pub(crate) answer_len: usize,
    /// In the order of the rounds.
    pub(crate) samples: Vec<Sample>,
}

/// Median, minimum and maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle value, or the mean of the two middle ones.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of finite values; `None` of none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}

impl Series {
    /// Median and range of one figure; zeros without samples.
    pub(crate) fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(figure)).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 })
    }

    /// Cost of an answer compared with `base`: quotient of the medians, range of the quotients within
    /// a round.
    pub(crate) fn ratio(&self, base: &Self) -> Spread {
        let rounds = self.samples.iter().zip(&base.samples).map(|(own, base)| own.cpu_us / base.cpu_us);
        let median = self.spread(|s| s.cpu_us).median / base.spread(|s| s.cpu_us).median;
        let rounds = Spread::of(rounds).unwrap_or(Spread { median, min: median, max: median });
        Spread { median, ..rounds }
    }

    fn errors(&self) -> u64 {
        self.samples.iter().map(|s| s.bad_answers + s.socket_errors).sum()
    }
}

/// Every trouble that makes a figure doubtful or wrong, one line each.
pub(crate) fn errors(all: &[Series]) -> Vec<String> {
    let faulty = all.iter().filter(|series| series.errors() > 0);
    faulty
        .map(|series| {
            let bad: u64 = series.samples.iter().map(|s| s.bad_answers).sum();
            let socket: u64 = series.samples.iter().map(|s| s.socket_errors).sum();
            format!(
                "{} at {}: {bad} answers not 2xx or 3xx, {socket} socket errors",
                series.server, series.scenario
            )
        })
        .collect()
}

/// The largest share of a CPU others used in any window.
pub(crate) fn others_share_max(all: &[Series]) -> f64 {
    all.iter().flat_map(|series| &series.samples).map(|s| s.others_share).fold(0.0, f64::max)
}

/// One table a scenario; ratios are to the first server of it.
pub(crate) fn tables(all: &[Series], scenarios: &[Scenario]) -> String {
    let mut text = String::new();
    for &scenario in scenarios {
        let rows: Vec<&Series> = all.iter().filter(|series| series.scenario == scenario).collect();
        let Some(base) = rows.first() else { continue };
        let load = match scenario.pipeline {
            1 => "no pipelining".to_owned(),
            depth => format!("pipelined x{depth}"),
        };
        let mut lines = vec![COLUMNS.map(str::to_owned)];
        lines.extend(rows.iter().map(|series| row(series, base)));
        let _ = writeln!(text, "\n{} connections, {load}", scenario.connections);
        text.push_str(&align(&lines));
    }
    text
}

const COLUMNS: [&str; 11] = [
    "server",
    "CPU us/req",
    "min..max",
    "ratio",
    "min..max",
    "req/s",
    "p50 us",
    "p99 us",
    "busy",
    "others",
    "errors",
];

fn row(series: &Series, base: &Series) -> [String; 11] {
    let cost = series.spread(|s| s.cpu_us);
    let ratio = series.ratio(base);
    [
        series.server.clone(),
        format!("{:.3}", cost.median),
        format!("{:.3}..{:.3}", cost.min, cost.max),
        format!("{:.3}", ratio.median),
        format!("{:.3}..{:.3}", ratio.min, ratio.max),
        format!("{:.0}", series.spread(|s| s.requests_per_s).median),
        median_or_dash(series, |s| s.latency_us_p50),
        median_or_dash(series, |s| s.latency_us_p99),
        format!("{:.0}%", 100.0 * series.spread(|s| s.busy_share).median),
        format!("{:.0}%", 100.0 * series.spread(|s| s.others_share).max),
        series.errors().to_string(),
    ]
}

fn median_or_dash(series: &Series, figure: impl Fn(&Sample) -> Option<f64>) -> String {
    let spread = Spread::of(series.samples.iter().filter_map(figure));
    spread.map_or_else(|| "-".to_owned(), |spread| format!("{:.0}", spread.median))
}

/// Pads columns to their widest cell: the first to the left, the others to the right.
pub(crate) fn align<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let _ = write!(text, "{:<width$}", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SCENARIO: Scenario = Scenario { connections: 64, pipeline: 1 };

    fn series(server: &str, costs: &[f64]) -> Series {
        let sample = |&cpu_us: &f64| Sample {
            cpu_us,
            client_us: 5.0,
            requests_per_s: 1000.0,
            latency_us_p50: Some(300.0),
            latency_us_p99: None,
            busy_share: 0.5,
            others_share: 0.01,
            bad_answers: 0,
            socket_errors: 0,
        };
        let samples = costs.iter().map(sample).collect();
        Series { server: server.to_owned(), scenario: SCENARIO, answer_len: 128, samples }
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        let odd = Spread { median: 2.0, min: 1.0, max: 9.0 };
        assert_eq!(Spread::of([9.0, 1.0, 2.0]), Some(odd));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_is_of_medians_and_its_range_of_rounds() {
        let base = series("a", &[1.0, 2.0, 4.0]);
        let other = series("b", &[2.0, 3.0, 4.0]);
        assert_eq!(other.ratio(&base), Spread { median: 1.5, min: 1.0, max: 2.0 });
        assert_eq!(base.ratio(&base), Spread { median: 1.0, min: 1.0, max: 1.0 });
    }

    #[test]
    fn the_table_lines_up_and_names_load_and_ratio() {
        let all = [series("a", &[1.0]), series("longer", &[1.25])];
        let text = tables(&all, &[SCENARIO]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "64 connections, no pipelining");
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[2].len(), lines[3].len());
        assert_eq!(lines[3].len(), lines[4].len());
        let cells: Vec<&str> = lines[4].split_whitespace().collect();
        assert_eq!(cells[..5], ["longer", "1.250", "1.250..1.250", "1.250", "1.250..1.250"]);
        assert_eq!(cells[6..8], ["300", "-"]);
    }

    #[test]
    fn errors_are_listed_with_server_and_load() {
        let mut bad = series("b", &[1.0, 1.0]);
        bad.samples[1].socket_errors = 3;
        let lines = errors(&[series("a", &[1.0]), bad]);
        assert_eq!(lines, ["b at 64x1: 0 answers not 2xx or 3xx, 3 socket errors"]);
    }

    #[test]
    fn the_worst_disturbance_of_any_round_counts() {
        let mut all = [series("a", &[1.0, 1.0]), series("b", &[1.0])];
        all[0].samples[1].others_share = 0.4;
        assert_eq!(others_share_max(&all), 0.4);
    }
}
