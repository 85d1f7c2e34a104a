//! A comparison as a table for people.
//!
//! # Rules
//! 1. At 80 columns or more no line is longer than the width, escape codes not counted.
//! 2. A bound is printed as one: `>= +3.1%`, `<= +3.1%`, `unknown`.
//!
//! Not here: what is compared (`mod`), JSON (serde).

use std::fmt::Write as _;

use super::{ChangeKind, Comparison, Finding, Measure, Metric, SideSummary, Span};

/// Between the parts of a line.
const GAP: &str = "  ";

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// The table, its warnings above, how it came about below; ends with a line break. `width` below 60 is taken
/// as 60.
pub fn text(comparison: &Comparison, width: usize, color: bool) -> String {
    let width = width.max(60);
    let mut out = String::new();
    for problem in &comparison.warnings {
        let kind = if problem.refuses { "FORCED" } else { "note" };
        let (on, off) = if color && problem.refuses { (YELLOW, RESET) } else { ("", "") };
        for line in wrap(&format!("{kind}: {}", problem.text), width, "  ") {
            let _ = writeln!(out, "{on}{line}{off}");
        }
    }
    if !comparison.warnings.is_empty() {
        out.push('\n');
    }
    for (letter, side) in [("A", &comparison.base), ("B", &comparison.other)] {
        let runs = format!("({} {})", side.runs, if side.runs == 1 { "run" } else { "runs" });
        let room = width - letter.len() - runs.len() - 2 * GAP.len();
        let side = if side.name == side.url { cut(&side.url, room) } else { name_and_url(side, room) };
        let _ = writeln!(out, "{letter}{GAP}{side}{GAP}{runs}");
    }
    out.push('\n');
    table(comparison, width, color, &mut out);
    out.push('\n');
    for line in wrap(&footer(comparison), width, "") {
        let _ = writeln!(out, "{line}");
    }
    out
}

fn table(comparison: &Comparison, width: usize, color: bool, out: &mut String) {
    let mut rows = vec![["", "A", "B", "B to A", "95 % interval", ""].map(String::from)];
    rows.extend(comparison.metrics.iter().map(row));
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(widest).collect();
    let gap = if widths.iter().sum::<usize>() + 10 <= width { "  " } else { " " };
    for (at, row) in rows.iter().enumerate() {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for column in 1..5 {
            let _ = write!(line, "{gap}{:>1$}", row[column], widths[column]);
        }
        let finding = at.checked_sub(1).map(|at| comparison.metrics[at].finding);
        let (on, off) = match finding {
            Some(Finding::Better) if color => (GREEN, RESET),
            Some(Finding::Worse) if color => (RED, RESET),
            Some(Finding::Unknown) if color => (YELLOW, RESET),
            _ => ("", ""),
        };
        if row[5].is_empty() {
            let _ = writeln!(out, "{line}");
        } else {
            let _ = writeln!(out, "{line}{gap}{on}{}{off}", row[5]);
        }
    }
}

fn row(metric: &Metric) -> [String; 6] {
    [
        metric.label.clone(),
        value(metric.base, metric.measure),
        value(metric.other, metric.measure),
        change(metric.change, metric.kind),
        metric.interval.map_or("-".into(), |span| interval(span, metric.kind)),
        metric.finding.text().into(),
    ]
}

fn value(span: Span, measure: Measure) -> String {
    let one = |value: f64| match measure {
        Measure::PerSecond => rate(value),
        Measure::Ns => time(value),
        Measure::Share => share(value),
    };
    match (span.exact(), span.low, span.high) {
        (Some(value), ..) => one(value),
        (None, Some(low), _) => format!(">={}", one(low)),
        (None, None, Some(high)) => format!("<={}", one(high)),
        (None, None, None) => "unknown".into(),
    }
}

/// Four digits and a unit.
fn digits(value: f64) -> String {
    let decimals = if value < 10.0 {
        3
    } else if value < 100.0 {
        2
    } else {
        usize::from(value < 1000.0)
    };
    format!("{value:.decimals$}")
}

fn rate(value: f64) -> String {
    match value {
        v if v >= 999_950_000.0 => format!("{}G/s", digits(v / 1e9)),
        v if v >= 999_950.0 => format!("{}M/s", digits(v / 1e6)),
        v if v >= 999.95 => format!("{}k/s", digits(v / 1e3)),
        v => format!("{}/s", digits(v)),
    }
}

fn time(ns: f64) -> String {
    match ns {
        ns if ns >= 999_950_000.0 => format!("{} s", digits(ns / 1e9)),
        ns if ns >= 999_950.0 => format!("{} ms", digits(ns / 1e6)),
        ns if ns >= 999.95 => format!("{} us", digits(ns / 1e3)),
        ns => format!("{ns:.0} ns"),
    }
}

fn share(value: f64) -> String {
    let percent = value * 100.0;
    if percent == 0.0 {
        "0%".into()
    } else if percent < 0.001 {
        "<0.001%".into()
    } else {
        format!("{}%", digits(percent))
    }
}

/// A change as a person says it: `+7.8%`; beyond tenfold, `x12.3`; of shares, percentage points.
fn told(value: f64, kind: ChangeKind) -> String {
    let signed = |value: f64, decimals: usize| {
        let text = format!("{value:+.decimals$}");
        // A minus before nothing says nothing.
        let is_zero = text.trim_start_matches(['+', '-']).chars().all(|c| matches!(c, '0' | '.'));
        if is_zero { format!("{:.decimals$}", 0.0) } else { text }
    };
    match kind {
        ChangeKind::Ratio if value >= 1e6 => format!("x{value:.0e}"),
        ChangeKind::Ratio if value >= 10.0 => format!("x{}", digits(value)),
        ChangeKind::Ratio => {
            let percent = (value - 1.0) * 100.0;
            signed(percent, if percent.abs() < 1.0 { 2 } else { 1 })
        }
        ChangeKind::Difference => signed(value * 100.0, if value.abs() < 0.01 { 3 } else { 2 }),
    }
}

fn with_unit(text: String, kind: ChangeKind) -> String {
    match kind {
        _ if text.starts_with('x') => text,
        ChangeKind::Ratio => format!("{text}%"),
        ChangeKind::Difference => format!("{text} pp"),
    }
}

fn change(span: Span, kind: ChangeKind) -> String {
    let one = |value: f64| with_unit(told(value, kind), kind);
    match (span.exact(), span.low, span.high) {
        (Some(value), ..) => one(value),
        (None, Some(low), Some(high)) => format!("{}..{}", told(low, kind), one(high)),
        (None, Some(low), None) => format!(">={}", one(low)),
        (None, None, Some(high)) => format!("<={}", one(high)),
        (None, None, None) => "unknown".into(),
    }
}

fn interval(span: Span, kind: ChangeKind) -> String {
    match (span.low, span.high) {
        (None, None) => "unknown".into(),
        (Some(low), None) => format!(">={}", with_unit(told(low, kind), kind)),
        (None, Some(high)) => format!("<={}", with_unit(told(high, kind), kind)),
        (Some(low), Some(high)) => format!("[{}, {}]", told(low, kind), told(high, kind)),
    }
}

fn footer(comparison: &Comparison) -> String {
    let seconds = comparison.block_ns as f64 / 1e9;
    let threshold = match comparison.threshold {
        0.0 => String::new(),
        share => format!(" A change counts where all of its interval is beyond {}%.", share * 100.0),
    };
    let runs = if comparison.base.runs > 1 && comparison.other.runs > 1 {
        if comparison.paired { "the spread of the rounds, and " } else { "the spread of the runs, and " }
    } else {
        ""
    };
    format!(
        "A and B are medians of the runs. Intervals: {runs}{} resamples of blocks of {seconds} s, seed {}. \
         Each line for itself is wrong once in 20 comparisons of the same.{threshold}",
        comparison.resamples, comparison.seed
    )
}

/// What a side is called and where it was measured, in `room` characters.
///
/// The URL may take what the name does not need, and at least half. A name loses its start: the end of a path
/// tells files apart.
fn name_and_url(side: &SideSummary, room: usize) -> String {
    let (name, url) = (side.name.chars().count(), side.url.chars().count());
    let both = room - GAP.len();
    let url_room = url.min((both / 2).max(both.saturating_sub(name)));
    let name_room = both - url_room;
    let name = if name <= name_room {
        side.name.clone()
    } else {
        let tail: String = side.name.chars().skip(name - (name_room - 3)).collect();
        format!("...{tail}")
    };
    format!("{name}{GAP}{}", cut(&side.url, url_room))
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.into();
    }
    let mut short: String = line.chars().take(width - 3).collect();
    short.push_str("...");
    short
}

/// Lines of at most `width`, later ones indented. A word that is longer is cut into pieces.
fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let room = width - indent.len();
    let mut lines = vec![String::new()];
    let mut len = 0;
    for word in text.split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        for piece in word.chunks(room) {
            if len > 0 && len + 1 + piece.len() > room {
                lines.push(String::new());
                len = 0;
            }
            if let Some(line) = lines.last_mut() {
                let space = usize::from(len > 0);
                line.extend(std::iter::repeat_n(' ', space).chain(piece.iter().copied()));
                len += space + piece.len();
            }
        }
    }
    let indented = |(at, line): (usize, String)| if at == 0 { line } else { format!("{indent}{line}") };
    lines.into_iter().enumerate().map(indented).collect()
}
