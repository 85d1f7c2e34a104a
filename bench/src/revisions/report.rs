//! What a comparison of two revisions found: the text, the JSON, and whether a regression is proven.
//!
//! Not here: the interval (`interval`), taking samples (`mod`).

use serde::Serialize;

use crate::ab::machine::Machine;
use crate::ab::plan::Scenario;
use crate::ab::summary::{self, Series};

use super::build::Built;
use super::git::Revision;
use super::interval::{Better, Estimate, JUDGED_ROUNDS_MIN, RESAMPLES, ROUNDS_MIN, SEED, Verdict};

/// Share of its CPU a server uses below which something else was the bottleneck: mostly the client.
const BUSY_SHARE_MIN: f64 = 0.9;

/// Everything one comparison found, as `--json` holds it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Version of this format: 1.
    pub(crate) schema: u32,
    /// Where and when.
    pub(crate) machine: Machine,
    /// The two revisions, the base of the ratios first.
    pub(crate) sides: [Side; 2],
    /// How both were built.
    pub(crate) build: String,
    /// Path of the request.
    pub(crate) path: String,
    /// CPUs of the server and of the client.
    pub(crate) server_cpu: usize,
    pub(crate) client_cpu: usize,
    /// Samples of each side in each scenario.
    pub(crate) rounds: u32,
    /// Length of a measured window, seconds.
    pub(crate) secs: u32,
    /// How the intervals were made.
    pub(crate) method: Method,
    /// In the order asked for.
    pub(crate) scenarios: Vec<Compared>,
    /// What a reader must know: others on the CPUs, wrong answers, too few rounds.
    pub(crate) notes: Vec<String>,
    /// `--max-ratio`.
    pub(crate) max_ratio: Option<f64>,
    /// No wrong answer, and no regression beyond `max_ratio` is proven.
    pub(crate) passed: bool,
}

/// One revision.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    /// What it is.
    pub(crate) revision: Revision,
    /// Its binary and its instructions.
    pub(crate) built: Built,
    /// How it was started.
    pub(crate) command: String,
}

/// How the intervals were made: enough to make them again from the samples.
#[derive(Debug, Serialize)]
pub(crate) struct Method {
    name: &'static str,
    confidence: f64,
    resamples: u32,
    seed: u64,
}

/// The one there is.
pub(crate) const METHOD: Method = Method {
    name: "percentile bootstrap of the ratio of medians, rounds resampled as pairs",
    confidence: 0.95,
    resamples: RESAMPLES,
    seed: SEED,
};

/// One scenario of both sides.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    /// The load.
    pub(crate) scenario: Scenario,
    /// CPU time of the server an answer, microseconds.
    pub(crate) cpu_us: Judged,
    /// Answers per second.
    pub(crate) requests_per_s: Judged,
    /// All samples, A's and B's.
    pub(crate) series: [Series; 2],
}

/// A figure and what its interval says.
#[derive(Debug, Serialize)]
pub(crate) struct Judged {
    #[serde(flatten)]
    pub(crate) estimate: Estimate,
    pub(crate) verdict: Verdict,
}

impl Compared {
    /// Judges samples of both sides. `None` without any.
    pub(crate) fn of(scenario: Scenario, series: [Series; 2]) -> Option<Self> {
        let [a, b] = &series;
        let judge = |figure: fn(&summary::Sample) -> f64, better| {
            let rounds: Vec<_> =
                a.samples.iter().zip(&b.samples).map(|(a, b)| (figure(a), figure(b))).collect();
            let estimate = Estimate::of(&rounds, RESAMPLES, SEED)?;
            Some(Judged { estimate, verdict: estimate.verdict(better, rounds.len()) })
        };
        let cpu_us = judge(|sample| sample.cpu_us, Better::Lower)?;
        let requests_per_s = judge(|sample| sample.requests_per_s, Better::Higher)?;
        Some(Self { scenario, cpu_us, requests_per_s, series })
    }

    /// Whether even the favourable end of the interval is above `max`.
    pub(crate) fn is_regression(&self, max: f64) -> bool {
        self.cpu_us.estimate.low > max
    }
}

impl Report {
    /// Fills in notes and `passed` from what was measured.
    pub(crate) fn judge(&mut self, same_bytes: bool) {
        let notes = &mut self.notes;
        let mut wrong = Vec::new();
        let mut others = 0.0f64;
        for compared in &self.scenarios {
            wrong.extend(summary::errors(&compared.series));
            others = others.max(summary::others_share_max(&compared.series));
            let [a, b] = &compared.series;
            if a.answer_len != b.answer_len && notes.iter().all(|note| !note.contains("answers differ")) {
                notes.push(format!(
                    "NOTE     their answers differ: {} and {} bytes, which is part of the ratio",
                    a.answer_len, b.answer_len
                ));
            }
        }
        notes.extend(wrong.iter().map(|error| format!("ERROR    {error}")));
        for (letter, side) in ["A", "B"].iter().zip(&self.sides) {
            let missing = side.built.not_counted.iter();
            notes.extend(missing.map(|why| format!("NOTE     no instructions of {letter} with {why}")));
        }
        if same_bytes {
            notes
                .push("NOTE     both binaries are the same, byte for byte: what is seen is noise".to_owned());
        }
        if self.rounds < ROUNDS_MIN {
            notes.push(format!("NOTE     fewer than {ROUNDS_MIN} rounds are not judged"));
        } else if self.rounds < JUDGED_ROUNDS_MIN {
            notes.push(format!(
                "NOTE     the interval of {} rounds is too narrow for its name: use --rounds \
                 {JUDGED_ROUNDS_MIN} or more before it decides",
                self.rounds
            ));
        }
        if others > summary::OTHERS_SHARE_MAX {
            let percent = 100.0 * others;
            notes.push(format!(
                "NOISY    others used up to {percent:.0} % of a measured CPU: repeat on a quiet machine"
            ));
        }
        let regressions = self
            .max_ratio
            .map_or(0, |max| self.scenarios.iter().filter(|compared| compared.is_regression(max)).count());
        self.passed = wrong.is_empty() && regressions == 0;
    }

    /// The text for standard output.
    pub(crate) fn text(&self) -> String {
        let Machine { cpu, kernel, tcp, date, command, .. } = &self.machine;
        let [a, b] = &self.sides;
        let mut lines = vec![
            format!("machine  {cpu}; server on CPU {}, wrk on CPU {}", self.server_cpu, self.client_cpu),
            format!("kernel   {kernel}, TCP {tcp}"),
            format!("date     {date}"),
            format!("command  {command}"),
            format!("A        {}", a.revision),
            format!("B        {}", b.revision),
            format!("build    {}", self.build),
        ];
        if a.command == b.command {
            lines.push(format!("start    {}", a.command));
        } else {
            lines.push(format!("start    A: {}", a.command));
            lines.push(format!("         B: {}", b.command));
        }
        lines.push(format!("rounds   {} of {} s, A B, B A, ...; medians", self.rounds, self.secs));
        lines.push(format!(
            "interval 95 %, percentile bootstrap of the ratio of medians, {RESAMPLES} resamples of pairs"
        ));
        for compared in &self.scenarios {
            lines.push(self.table(compared));
        }
        lines.extend(self.notes.iter().cloned());
        if let Some(max) = self.max_ratio {
            for compared in &self.scenarios {
                let Estimate { low, high, .. } = compared.cpu_us.estimate;
                let said = match compared.is_regression(max) {
                    true => "MISSED   all of",
                    false if high > max => "met      part of",
                    false => "met      none of",
                };
                lines.push(format!(
                    "{said} the interval of CPU a request at {} is above {max}: {low:.3}..{high:.3}",
                    compared.scenario
                ));
            }
        }
        lines.join("\n") + "\n"
    }

    fn table(&self, compared: &Compared) -> String {
        let scenario = compared.scenario;
        let load = match scenario.pipeline {
            1 => "no pipelining".to_owned(),
            depth => format!("pipelined x{depth}"),
        };
        let columns = ["", "A", "B", "B/A", "95 % interval", ""];
        let mut rows = vec![columns.map(str::to_owned)];
        rows.push(row("CPU us/request", &compared.cpu_us, 3));
        rows.push(row("requests/s", &compared.requests_per_s, 0));
        let busy = compared.series.each_ref().map(|series| series.spread(|sample| sample.busy_share).median);
        let [busy_a, busy_b] = busy.map(|share| format!("{:.0}%", 100.0 * share));
        let limit = if busy.iter().all(|&share| share < BUSY_SHARE_MIN) { "not the limit" } else { "" };
        rows.push(["server busy", &busy_a, &busy_b, "", "", limit].map(str::to_owned));
        if let Some(row) = self.instructions(scenario.pipeline) {
            rows.push(row);
        }
        let table = summary::align(&rows);
        let table: Vec<&str> = table.lines().map(str::trim_end).collect();
        format!("\n{} connections, {load}\n{}\n", scenario.connections, table.join("\n"))
    }

    fn instructions(&self, depth: u32) -> Option<[String; 6]> {
        let counts = self.sides.each_ref().map(|side| side.built.instructions.get(&depth));
        if counts == [None, None] {
            return None;
        }
        let [a, b] = counts.map(|count| count.map_or_else(|| "-".to_owned(), u64::to_string));
        let ratio = match counts {
            [Some(&a), Some(&b)] => format!("{:.3}", b as f64 / a as f64),
            _ => "-".to_owned(),
        };
        Some(["instructions/request".to_owned(), a, b, ratio, String::new(), "16 connections".to_owned()])
    }
}

fn row(name: &str, judged: &Judged, digits: usize) -> [String; 6] {
    let Estimate { a, b, ratio, low, high } = judged.estimate;
    [
        name.to_owned(),
        format!("{a:.digits$}"),
        format!("{b:.digits$}"),
        format!("{ratio:.3}"),
        format!("{low:.3}..{high:.3}"),
        judged.verdict.text().to_owned(),
    ]
}
