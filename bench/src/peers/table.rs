//! A report as text: a header, one table a scenario, targets and notes.
//!
//! Rows are in order of their figure, the cheapest first; hand-written loops are marked with a star, and what
//! did not run stands below with its reason.
//!
//! Not here: the page (`html`), how figures are made (`figures`).

use std::fmt::Write;

use super::figures::{errors, main_figure, median, ratio, spread};
use super::model::{Kind, Report, Row, Sample, Scenario, Target};
use super::plan::clock;
use super::subjects::BASE;
use crate::ab::summary::{OTHERS_SHARE_MAX, Spread};

/// Below it the server waited for its client.
const BUSY_MIN: f64 = 0.90;

/// The whole report.
pub(super) fn text(report: &Report) -> String {
    let mut text = header(report);
    for scenario in &report.scenarios {
        let _ = write!(text, "\n{}", table(report, scenario));
    }
    if !report.targets.is_empty() {
        let _ = write!(text, "\ntargets\n{}", targets(&report.targets));
    }
    if !report.notes.is_empty() {
        text.push_str("\nnotes\n");
        for note in &report.notes {
            let _ = writeln!(text, "  {note}");
        }
    }
    text
}

fn header(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "machine  {}; server on CPU {}, client on CPU {}\nkernel   {}, TCP {}\ncommit   {}\ndate     {}\n\
         command  {}\nwindows  {} ms, interleaved rounds, medians; {} in all\n",
        machine.cpu,
        report.server_cpu,
        report.client_cpu,
        machine.kernel,
        machine.tcp,
        machine.commit,
        machine.date,
        machine.command,
        report.window_ms,
        clock(std::time::Duration::from_secs_f64(report.elapsed_s.max(0.0))),
    );
    for (index, subject) in report.subjects.iter().enumerate() {
        let begin = if index == 0 { "servers" } else { "" };
        let star = if subject.is_limit { "*" } else { "" };
        let absent = subject.absent.as_ref().map_or_else(String::new, |why| format!(" - {why}"));
        let _ = writeln!(text, "{begin:<8} {}{star}: {}{absent}", subject.name, subject.what);
    }
    text.push_str("         * does only the work and is no server: compared with, never ranked\n");
    text
}

fn title(scenario: &Scenario) -> String {
    let rate = scenario.rate.map_or_else(String::new, |rate| format!(", {rate:.0} requests/s"));
    format!("{}: {}{rate}", scenario.id, scenario.title)
}

/// One scenario.
fn table(report: &Report, scenario: &Scenario) -> String {
    let figure = main_figure(scenario.kind);
    let rows = || report.rows.iter().filter(|row| row.scenario == scenario.id);
    let mut shown: Vec<(&Row, Spread)> =
        rows().filter_map(|row| spread(row, figure).map(|spread| (row, spread))).collect();
    shown.sort_by(|a, b| a.1.median.total_cmp(&b.1.median));
    let base = report.row(BASE, &scenario.id);
    let mut text = title(scenario) + "\n";
    if !shown.is_empty() {
        let mut lines = vec![columns(scenario.kind)];
        lines.extend(shown.iter().map(|(row, cost)| cells(report, scenario.kind, row, *cost, base)));
        text.push_str(&align(&lines));
    }
    for row in rows().filter(|row| row.samples.is_empty()) {
        let why = row.absent.as_deref().unwrap_or("nothing was measured");
        let _ = writeln!(text, "  {}: {why}", row.subject);
    }
    text
}

fn columns(kind: Kind) -> Vec<String> {
    let to = format!("to {BASE}");
    let columns: &[&str] = match kind {
        Kind::Closed => &[
            "server",
            "CPU us/req",
            "min..max",
            &to,
            "min..max",
            "req/s",
            "P50 us",
            "P99 us",
            "P99.9 us",
            "RSS MiB",
            "calls/req",
            "busy",
            "errors",
        ],
        Kind::Open => &[
            "server",
            "P99 us",
            "min..max",
            &to,
            "min..max",
            "req/s",
            "P50 us",
            "P99.9 us",
            "CPU us/req",
            "busy",
            "errors",
        ],
        Kind::Download => &[
            "server",
            "CPU s/GiB",
            "min..max",
            &to,
            "min..max",
            "GB/s",
            "P50 us",
            "P99 us",
            "RSS MiB",
            "busy",
            "errors",
        ],
        Kind::Idle => {
            &["server", "bytes each", "min..max", &to, "min..max", "RSS MiB", "opened in s", "errors"]
        }
    };
    columns.iter().map(|&column| column.to_owned()).collect()
}

/// One row, in the order of [`columns`].
fn cells(report: &Report, kind: Kind, row: &Row, cost: Spread, base: Option<&Row>) -> Vec<String> {
    let is_limit = report.subjects.iter().any(|subject| subject.is_limit && subject.name == row.subject);
    let star = if is_limit { "*" } else { "" };
    let ratio = base.and_then(|base| ratio(row, base, main_figure(kind)));
    let mut cells = vec![
        format!("{}{star}", row.subject),
        number(cost.median),
        format!("{}..{}", number(cost.min), number(cost.max)),
        ratio.map_or_else(dash, |ratio| format!("{:.3}", ratio.median)),
        ratio.map_or_else(dash, |ratio| format!("{:.3}..{:.3}", ratio.min, ratio.max)),
    ];
    let of = |figure: fn(&Sample) -> Option<f64>| median(row, figure).map_or_else(dash, number);
    let rate = median(row, |sample| sample.rate).map_or_else(dash, |rate| format!("{rate:.0}"));
    let rss = median(row, |sample| Some(sample.rss_kib? as f64 / 1024.0));
    let rss = rss.map_or_else(dash, |mib| format!("{mib:.1}"));
    let busy = median(row, |sample| sample.busy).map_or_else(dash, |busy| format!("{:.0}%", 100.0 * busy));
    let errors = errors(row).to_string();
    match kind {
        Kind::Closed => {
            let calls = row.syscalls.map_or_else(dash, |calls| format!("{calls:.2}"));
            let latencies = [of(|s| s.p50_us), of(|s| s.p99_us), of(|s| s.p999_us)];
            cells.push(rate);
            cells.extend(latencies);
            cells.extend([rss, calls, busy, errors]);
        }
        Kind::Open => {
            cells.extend([rate, of(|s| s.p50_us), of(|s| s.p999_us), of(|s| s.cpu_us), busy, errors]);
        }
        Kind::Download => {
            cells.extend([of(|s| s.gb_per_s), of(|s| s.p50_us), of(|s| s.p99_us), rss, busy, errors]);
        }
        Kind::Idle => cells.extend([rss, of(|s| s.open_s), errors]),
    }
    cells
}

fn dash() -> String {
    "-".to_owned()
}

/// Four significant digits, as far as there are that many: 0.3985, 5.123, 1043.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        1.0.. => 3,
        _ => 4,
    };
    format!("{value:.digits$}")
}

/// Pads columns to their widest cell: the first to the left, the others to the right.
fn align(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(String::len).max();
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let width = width(column).unwrap_or(0);
            let _ = match column {
                0 => write!(text, "  {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

fn targets(targets: &[Target]) -> String {
    let mut text = String::new();
    for target in targets {
        let verdict = match target.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not judged",
        };
        let found = target.found.map_or_else(dash, number);
        let _ = writeln!(text, "  {verdict:<10}  {found:>8}  {}", target.text);
    }
    text
}

/// What a reader must know: others on the CPUs, and clients that were the bottleneck.
pub(super) fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let samples = || report.rows.iter().flat_map(|row| &row.samples).filter_map(|sample| sample.others);
    let noisy = samples().filter(|&others| others > OTHERS_SHARE_MAX).count();
    if noisy > 0 {
        notes.push(format!(
            "NOISY: others used more than {:.0} % of a measured CPU in {noisy} of {} windows, up to {:.0} %: \
             repeat on a quiet machine",
            100.0 * OTHERS_SHARE_MAX,
            samples().count(),
            100.0 * samples().fold(0.0, f64::max)
        ));
    }
    for scenario in &report.scenarios {
        // One connection waits for its answers, and an open loop for its time: they are meant to leave CPU.
        if !matches!(scenario.kind, Kind::Closed | Kind::Download) || scenario.connections == 1 {
            continue;
        }
        let rows = report.rows.iter().filter(|row| row.scenario == scenario.id);
        // A server whose CPU others had was held up by them, and that is noted above.
        let rows = rows
            .filter(|row| median(row, |sample| sample.others).is_some_and(|share| share <= OTHERS_SHARE_MAX));
        let busy = rows.filter_map(|row| Some((&row.subject, median(row, |sample| sample.busy)?)));
        let bound = busy.filter(|&(_, busy)| busy < BUSY_MIN);
        let list: Vec<String> = bound.map(|(name, busy)| format!("{name} ({:.0} %)", 100.0 * busy)).collect();
        if !list.is_empty() {
            notes.push(format!(
                "client-bound at {}, where requests a second and latencies say more of loadgen: {}",
                scenario.id,
                list.join(", ")
            ));
        }
    }
    notes
}

#[cfg(test)]
#[path = "table/tests.rs"]
pub(super) mod tests;
