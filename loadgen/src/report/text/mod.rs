//! What a person reads after a run, on a terminal or in a file.
//!
//! # Rules
//! 1. No line is wider than [`TextOptions::width`] (or [`WIDTH_MIN`]).
//! 2. A run without errors fits [`TextOptions::height`] lines less one for the prompt, from 24 lines of 80
//!    columns on. What is less important shrinks first (the histogram), then goes (noise floor, connects,
//!    empty lines). Errors, reasons and missed terms never go: a report of a bad run may be longer than the
//!    screen.
//! 3. Colour stresses what words say already.
//!
//! Not here: whether the terminal has colour or Unicode, and its size (the caller says).

mod bars;
mod line;
#[cfg(test)]
mod tests;

use self::bars::{Bars, bar, bars};
use self::line::{Line, Screen, Style, wrap};
use super::describe::{client_cost, good_only, kind_name, shape, target, traffic};
use super::format::{
    bytes, compact, count, duration, harmless, percent, percentile_name, rate, ratio, round_duration,
    value_or_dash,
};
use crate::model::{Level, Loop, Outcome, Run};
use crate::record::{Latency, Value};

/// Narrower than this is laid out as this.
pub const WIDTH_MIN: usize = 44;

/// Wider than this gains nothing: the eye loses the line.
const WIDTH_MAX: usize = 132;

/// How a report is laid out.
#[derive(Clone, Debug, PartialEq)]
pub struct TextOptions {
    /// Percentiles of the table, see [`percentiles`](super::percentiles). The largest value is always there.
    pub percentiles: Vec<f64>,
    /// Columns.
    pub width: usize,
    /// Lines of the terminal; `None` where there is no screen to fit.
    pub height: Option<usize>,
    /// Use colour.
    pub color: bool,
    /// The terminal shows more than ASCII.
    pub unicode: bool,
}

impl Default for TextOptions {
    /// A plain file: 80 columns, no colour, ASCII.
    fn default() -> TextOptions {
        TextOptions {
            percentiles: super::PERCENTILES.to_vec(),
            width: 80,
            height: None,
            color: false,
            unicode: false,
        }
    }
}

/// Where the text of a labelled line begins.
const LABEL: usize = 11;

/// A part of a report; the one of least weight goes first, one of [`ALWAYS`] never.
struct Part {
    weight: u8,
    lines: Vec<String>,
}

const ALWAYS: u8 = u8::MAX;

/// The report of one run, and how it did against its objective.
pub fn render(run: &Run, outcomes: &[Outcome], options: &TextOptions) -> String {
    let width = options.width.clamp(WIDTH_MIN, WIDTH_MAX);
    let of =
        Report { run, options, screen: Screen { width, color: options.color, unicode: options.unicode } };
    let part = |weight, lines| Part { weight, lines };
    let gap = |weight| part(weight, vec![String::new()]);

    let mut parts = vec![of.header(), gap(4), of.rates(), gap(5)];
    let mut latency_at = parts.len();
    let least = of.latency_lines_min();
    parts.push(part(ALWAYS, vec![String::new(); least]));
    parts.extend([gap(6), of.good(), of.errors(), of.kinds(), of.connects(), of.client(), of.floor()]);
    parts.extend([gap(3), of.verdict(), of.objective(outcomes)]);

    let used = |parts: &[Part]| parts.iter().map(|part| part.lines.len()).sum::<usize>();
    let kept = parts.iter().filter(|part| part.weight == ALWAYS).map(|part| part.lines.len()).sum::<usize>();
    // The last line of the screen is the prompt's. What must stay may be longer than the screen: nothing goes
    // then.
    let height = options.height.map(|height| height.saturating_sub(1)).filter(|height| kept <= *height);
    while height.is_some_and(|height| used(&parts) > height) {
        let goes =
            parts.iter().enumerate().filter(|(_, part)| part.weight < ALWAYS && !part.lines.is_empty());
        let Some((at, _)) = goes.min_by_key(|(_, part)| part.weight) else { break };
        parts.remove(at);
        latency_at -= usize::from(at < latency_at);
    }
    let room = height.map_or(LATENCY_LINES, |height| height.saturating_sub(used(&parts)) + least);
    parts[latency_at].lines = of.latency(room.clamp(least, LATENCY_LINES.max(least)));

    let mut text = String::new();
    for line in parts.iter().flat_map(|part| &part.lines) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Lines of the latencies where there is no screen to fit; more rows than that say no more.
const LATENCY_LINES: usize = 18;

/// Columns of a percentile's name.
const NAME: usize = 9;

/// Columns the drawn histogram needs to stand beside the table.
const BARS_MIN: usize = 32;

struct Report<'a> {
    run: &'a Run,
    options: &'a TextOptions,
    screen: Screen,
}

impl Report<'_> {
    fn line(&self) -> Line {
        Line::new(self.screen)
    }

    /// A label, and text beside it that wraps under itself.
    fn labelled(&self, label: &str, text: &str, style: Style) -> Vec<String> {
        let wrapped = wrap(text, self.screen.width - LABEL);
        let each = wrapped.iter().enumerate().map(|(at, words)| {
            let mut line = self.line();
            if at == 0 {
                line.push("  ", Style::Plain);
                line.push(label, Style::Dim);
            }
            line.pad_to(LABEL);
            line.push(words, style);
            line.finish()
        });
        each.collect()
    }

    /// A label, a word that judges, and words from outside that wrap under themselves.
    fn tagged(&self, label: &str, tag: &str, style: Style, text: &str) -> Vec<String> {
        let wide = LABEL + 9;
        let wrapped = wrap(&harmless(text), self.screen.width - wide);
        let each = wrapped.iter().enumerate().map(|(at, words)| {
            let mut line = self.line();
            if at == 0 {
                line.push("  ", Style::Plain);
                line.push(label, Style::Dim);
                line.pad_to(LABEL);
                line.push(tag, style);
            }
            line.pad_to(wide);
            line.push(words, Style::Plain);
            line.finish()
        });
        each.collect()
    }

    fn header(&self) -> Part {
        let mut first = self.line();
        first.push(&target(&self.run.settings), Style::Bold);
        let mut lines = vec![first.finish()];
        let words = format!("{}, {}", traffic(&self.run.settings), shape(self.run));
        for words in wrap(&words, self.screen.width) {
            let mut line = self.line();
            line.push(&words, Style::Plain);
            lines.push(line.finish());
        }
        Part { weight: ALWAYS, lines }
    }

    fn rates(&self) -> Part {
        let (run, counts) = (self.run, &self.run.total.counts);
        let mut answered = rate(run.rate());
        if let Some(offered) = run.offered() {
            answered += &format!(", {} of {} offered", ratio(run.rate(), offered), rate(offered));
        }
        let out = crate::model::per_second(counts.bytes_out, run.measured_ns);
        let traffic = format!("{}/s in, {}/s out", bytes(run.bytes_in_rate()), bytes(out));
        let mut lines = self.labelled("rate", &format!("{answered}; {traffic}"), Style::Bold);
        let errors = run.total.errors.total();
        let mut text = count(run.total.response.count());
        if run.total.response.bounds_count() > 0 {
            text += &format!(", {} answered", count(run.total.response.exact().len()));
        }
        if errors == 0 {
            text += ", no errors";
        } else {
            text += &format!(", {} in error ({})", count(errors), percent(run.total.error_share()));
        }
        if counts.waited > 0 {
            let share = counts.waited as f64 / counts.intended.max(1) as f64;
            text += &format!("; {} waited for a free connection", percent(share));
        }
        lines.extend(self.labelled("requests", &text, if errors == 0 { Style::Plain } else { Style::Bad }));
        Part { weight: ALWAYS, lines }
    }

    /// The kinds of latency, the first of which is drawn.
    fn columns(&self) -> Vec<(&'static str, &Latency)> {
        let total = &self.run.total;
        match self.run.settings.traffic {
            Loop::Open { .. } => {
                let mut all = vec![("response", &total.response), ("service", &total.service)];
                all.push(("send lag", &total.send_lag));
                if self.screen.width >= 110 {
                    all.push(("own lag", &total.own_lag));
                }
                all
            }
            Loop::Closed { .. } => vec![("response", &total.response)],
        }
    }

    /// Columns of one kind of latency: `>= 12.3 ms` and a space or two.
    fn cell(&self) -> usize {
        if self.screen.width < 48 { 11 } else { 12 }
    }

    fn table_width(&self) -> usize {
        NAME + self.cell() * self.columns().len()
    }

    fn is_beside(&self) -> bool {
        self.screen.width >= self.table_width() + 3 + BARS_MIN
    }

    fn latency_lines_min(&self) -> usize {
        let table = self.options.percentiles.len() + 2;
        if self.is_beside() { table } else { table + 7 }
    }

    /// The table of percentiles and the histogram, side by side where the width allows.
    fn latency(&self, lines: usize) -> Vec<String> {
        let table = self.options.percentiles.len() + 2;
        let beside = self.is_beside();
        let of = &self.run.total.response;
        let room = if beside { lines } else { lines - table - 1 };
        let censored = usize::from(of.bounds_count() > 0);
        let bars = bars(of, room.saturating_sub(1 + censored).min(14));
        let drawn = self.bar_lines(&bars, if beside { self.table_width() + 3 } else { 2 });
        let rows = if beside { table.max(drawn.len()) } else { table };
        let mut lines: Vec<String> = (0..rows)
            .map(|at| {
                let mut line = self.line();
                if at < table {
                    self.table_line(&mut line, at);
                }
                match drawn.get(at).filter(|_| beside) {
                    Some(bars) => {
                        line.pad_to(self.table_width() + 3);
                        line.finish_with(bars)
                    }
                    None => line.finish(),
                }
            })
            .collect();
        if !beside {
            lines.push(String::new());
            lines.extend(drawn.iter().map(|bars| format!("  {bars}")));
        }
        lines
    }

    fn table_line(&self, line: &mut Line, at: usize) {
        let percentiles = &self.options.percentiles;
        let (name, style) = match at {
            0 => (String::new(), Style::Dim),
            _ if at == percentiles.len() + 1 => ("max".into(), Style::Plain),
            _ => (percentile_name(percentiles[at - 1]), Style::Plain),
        };
        line.push("  ", Style::Plain);
        line.push(&name, Style::Dim);
        for (column, (title, latency)) in self.columns().into_iter().enumerate() {
            let end = NAME + self.cell() * (column + 1);
            if at == 0 {
                line.push_right(title, end, style);
                continue;
            }
            let seen = match percentiles.get(at - 1) {
                Some(percent) => latency.percentile(*percent),
                None => latency.max(),
            };
            let bound = seen.is_some_and(Value::is_bound);
            let style = if bound {
                Style::Warn
            } else if column == 0 {
                Style::Bold
            } else {
                Style::Plain
            };
            line.push_right(&value_or_dash(seen), end, style);
        }
    }

    /// The drawn histogram in lines that begin at column `from`.
    fn bar_lines(&self, bars: &Bars, from: usize) -> Vec<String> {
        let screen = Screen { width: self.screen.width - from, ..self.screen };
        let all = self.run.total.response.count();
        let most = bars.rows.iter().map(|row| row.count).chain(bars.at_least.map(|(_, count)| count)).max();
        let most = most.unwrap_or(0);
        let number = |n: u64| if screen.width >= 56 { count(n) } else { compact(n as f64) };
        let numbers = [number(most), number(bars.rows.iter().map(|row| row.count).min().unwrap_or(0))];
        let wide = numbers.iter().map(String::len).max().unwrap_or(0).max(5);
        // An edge, the bar, how many, their share.
        let (edge, share) = (7, 7);
        let bar_width = screen.width.saturating_sub(edge + 1 + 1 + wide + share).min(60);
        let end = edge + 1 + bar_width + 1 + wide;
        let part = |n: u64| percent(n as f64 / all.max(1) as f64);

        let mut title = Line::new(screen);
        title.push("response time up to", Style::Dim);
        let mut lines = vec![title.finish()];
        for row in &bars.rows {
            let mut line = Line::new(screen);
            line.push_right(&round_duration(row.up_to_ns), edge, Style::Plain);
            line.push(" ", Style::Plain);
            line.push(&bar(row.count, most, bar_width, screen.unicode), Style::Bar);
            line.push_right(&number(row.count), end, Style::Plain);
            line.push_right(&part(row.count), end + share, Style::Dim);
            lines.push(line.finish());
        }
        if let Some((at_least, n)) = bars.at_least {
            let mut line = Line::new(screen);
            let words = if screen.width >= 40 { "never answered" } else { "no answer" };
            line.push(&format!(">= {} {words}", round_duration(at_least)), Style::Warn);
            let (number, part) = (number(n), part(n));
            let bar_room = end.saturating_sub(line.width() + 2 + wide);
            line.push(" ", Style::Plain);
            line.push(&bar(n, most, bar_width.min(bar_room), screen.unicode), Style::Warn);
            line.push_right(&number, end.max(line.width() + number.len()), Style::Plain);
            line.push_right(&part, end + share, Style::Dim);
            lines.push(line.finish());
        }
        lines
    }

    /// The answers without an error by themselves, where some were errors.
    fn good(&self) -> Part {
        let Some(good) = good_only(self.run) else { return Part { weight: ALWAYS, lines: Vec::new() } };
        let at = |percent: f64| duration(good.value_at_quantile(percent / 100.0));
        let text = format!(
            "{} answers without an error: P50 {}, P90 {}, P99 {}, max {}",
            count(good.len()),
            at(50.0),
            at(90.0),
            at(99.0),
            duration(good.max())
        );
        Part { weight: ALWAYS, lines: self.labelled("good", &text, Style::Plain) }
    }

    fn errors(&self) -> Part {
        let errors = &self.run.total.errors;
        let all = self.run.total.response.count().max(1);
        let request_kinds = crate::record::ErrorKind::ALL.map(crate::record::ErrorKind::name);
        let mut parts = Vec::new();
        for (name, text, n) in errors.iter() {
            let share = if request_kinds.contains(&name) {
                format!(" ({})", percent(n as f64 / all as f64))
            } else {
                String::new()
            };
            parts.push(format!("{} {text}{share}", count(n)));
        }
        if parts.is_empty() {
            return Part { weight: ALWAYS, lines: Vec::new() };
        }
        Part { weight: ALWAYS, lines: self.labelled("errors", &parts.join(", "), Style::Plain) }
    }

    fn kinds(&self) -> Part {
        let kinds = &self.run.total.kinds;
        if kinds.len() < 2 {
            return Part { weight: ALWAYS, lines: Vec::new() };
        }
        const SHOWN_MAX: usize = 16;
        let ends: &[(&str, usize)] = if self.screen.width >= 72 {
            &[("requests", 12), ("errors", 10), ("P50", 12), ("P99", 12), ("max", 12)]
        } else {
            &[("errors", 10), ("P99", 12)]
        };
        let columns: usize = ends.iter().map(|(_, wide)| wide).sum();
        let name_width = (self.screen.width - columns - 2).min(32);
        let mut head = self.line();
        head.push("  by request", Style::Dim);
        let mut end = 2 + name_width;
        for (title, wide) in ends {
            end += wide;
            head.push_right(title, end, Style::Dim);
        }
        let mut lines = vec![String::new(), head.finish()];
        for (index, kind) in kinds.iter().enumerate().take(SHOWN_MAX) {
            let mut line = self.line();
            line.push("  ", Style::Plain);
            let narrow = Screen { width: name_width, ..self.screen };
            let mut name = Line::new(narrow);
            name.push(&kind_name(&self.run.settings, index), Style::Plain);
            line.push(&name.finish(), Style::Plain);
            let mut end = 2 + name_width;
            for (title, wide) in ends {
                end += wide;
                let text = match *title {
                    "requests" => count(kind.response.count()),
                    "errors" => count(kind.failed),
                    "P50" => value_or_dash(kind.response.percentile(50.0)),
                    "P99" => value_or_dash(kind.response.percentile(99.0)),
                    _ => value_or_dash(kind.response.max()),
                };
                line.push_right(&text, end, Style::Plain);
            }
            lines.push(line.finish());
        }
        if kinds.len() > SHOWN_MAX {
            lines.extend(self.labelled(
                "",
                &format!("and {} more in --json", kinds.len() - SHOWN_MAX),
                Style::Dim,
            ));
        }
        lines.push(String::new());
        Part { weight: ALWAYS, lines }
    }

    fn connects(&self) -> Part {
        let of = &self.run.total.connect;
        if of.is_empty() {
            return Part { weight: 2, lines: Vec::new() };
        }
        let at = |percent| value_or_dash(of.percentile(percent));
        let text =
            format!("{} connects: P50 {}, P99 {}, max {}", count(of.count()), at(50.0), at(99.0), at(100.0));
        Part { weight: 2, lines: self.labelled("connect", &text, Style::Plain) }
    }

    fn client(&self) -> Part {
        let lines = client_cost(self.run).map(|text| self.labelled("client", &text, Style::Plain));
        Part { weight: 7, lines: lines.unwrap_or_default() }
    }

    fn floor(&self) -> Part {
        let Some(floor) = &self.run.floor else { return Part { weight: 1, lines: Vec::new() } };
        let (p50, p99) = (duration(floor.p50_ns), duration(floor.p99_ns));
        let text = format!("P50 {p50}, P99 {p99} against the null server");
        Part { weight: 1, lines: self.labelled("floor", &text, Style::Plain) }
    }

    fn verdict(&self) -> Part {
        let verdict = &self.run.verdict;
        let (word, style) = level(verdict.level);
        let text = match (verdict.level, verdict.reasons.is_empty()) {
            (Level::Valid, true) => format!("{word}: nothing speaks against this run"),
            (Level::Valid, false) => format!("{word}, with a remark"),
            (Level::Suspect, _) => format!("{word}: something may have bent it"),
            (Level::Invalid, _) => format!("{word}: it does not measure what it was to measure"),
        };
        let mut lines = self.labelled("verdict", &text, style);
        for reason in &verdict.reasons {
            let (word, style) = level(reason.level);
            let word = if reason.level == Level::Valid { "note" } else { word };
            let style = if reason.level == Level::Valid { Style::Dim } else { style };
            lines.extend(self.tagged("", &word.to_lowercase(), style, &reason.text));
        }
        Part { weight: ALWAYS, lines }
    }

    fn objective(&self, outcomes: &[Outcome]) -> Part {
        let mut lines = Vec::new();
        for (at, outcome) in outcomes.iter().enumerate() {
            let (word, style) = if outcome.met { ("met", Style::Good) } else { ("missed", Style::Bad) };
            let text = format!("{} (seen: {})", outcome.term, outcome.seen);
            lines.extend(self.tagged(if at == 0 { "slo" } else { "" }, word, style, &text));
        }
        Part { weight: ALWAYS, lines }
    }
}

fn level(of: Level) -> (&'static str, Style) {
    match of {
        Level::Valid => ("VALID", Style::Good),
        Level::Suspect => ("SUSPECT", Style::Warn),
        Level::Invalid => ("INVALID", Style::Bad),
    }
}
