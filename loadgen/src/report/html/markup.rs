//! Markup: words from outside made harmless, and the frame that all charts stand in.
//!
//! # Rules
//! 1. What came from outside goes through [`Esc`], in text and in attributes alike.
//! 2. Every element is closed and every attribute quoted: the page is well-formed XML but for its first line.
//! 3. Labels of a chart are HTML over a drawing that stretches: the drawing fits any width, and the words
//!    keep their size.
//!
//! Not here: what is drawn (`spectrum`, `heat`, `rates`).

use std::fmt;

use crate::report::format::{harmless, round_duration};

/// Text as it stands in markup: the five characters of XML 1.0 (section 4.6) are references, and what XML
/// does not allow at all, or what turns the direction of writing, is `?`.
pub(super) struct Esc<'a>(pub(super) &'a str);

impl fmt::Display for Esc<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in harmless(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

/// Positions on an axis of durations in logarithmic steps; 0 is its begin and 1 its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogAxis {
    low: f64,
    high: f64,
}

impl LogAxis {
    /// From `low` to `high`, ns, with at least a decade between them.
    pub(super) fn new(low: u64, high: u64) -> LogAxis {
        let low = (low.max(1) as f64 * 0.9).log10();
        let high = (high.max(1) as f64 * 1.12).log10();
        LogAxis { low, high: high.max(low + 1.0) }
    }

    /// Where `ns` is; within 0 to 1, whatever it is.
    pub(super) fn at(&self, ns: u64) -> f64 {
        (((ns.max(1) as f64).log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Round durations along it, at most `most`, with whether they may be left out where there is little
    /// room.
    pub(super) fn ticks(&self, most: usize) -> Vec<(u64, bool)> {
        for series in [&[1u64, 2, 5][..], &[1, 3], &[1]] {
            for step in 1..=4 {
                let all: Vec<(u64, bool)> = (0..14u32)
                    .step_by(step)
                    .flat_map(|decade| series.iter().map(move |n| (n * 10u64.pow(decade), *n != 1)))
                    .filter(|(ns, _)| {
                        let log = (*ns as f64).log10();
                        log >= self.low && log <= self.high
                    })
                    .collect();
                if (2..=most).contains(&all.len()) {
                    return all;
                }
                if series.len() > 1 {
                    break;
                }
            }
        }
        Vec::new()
    }
}

/// A round step that divides 0 to `high` in at most `most` parts.
pub(super) fn step(high: f64, most: usize) -> f64 {
    let rough = high / most.max(1) as f64;
    if !rough.is_finite() || rough <= 0.0 {
        return 1.0;
    }
    let decade = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|n| n * decade)
        .find(|s| *s >= rough * 0.999_999)
        .unwrap_or(10.0 * decade)
}

/// A chart: title, a sentence, a legend, a drawing with labels along its edges.
pub(super) struct Chart {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// Markup.
    pub(super) about: String,
    /// Markup.
    pub(super) legend: String,
    /// What the drawing shows, for those who do not see it.
    pub(super) alt: String,
    /// Columns and rows of the drawing's own coordinates; both stretch.
    pub(super) size: (usize, usize),
    /// Markup of the drawing.
    pub(super) drawing: String,
    /// Markup of labels over the drawing.
    pub(super) over: String,
    /// Label, position from 0 (left) to 1, may be left out on a narrow screen.
    pub(super) along_x: Vec<(String, f64, bool)>,
    /// Label, position from 0 (bottom) to 1, may be left out.
    pub(super) along_y: Vec<(String, f64, bool)>,
    /// What the horizontal axis is.
    pub(super) x_title: &'static str,
}

impl Chart {
    /// Labels and grid lines of durations up the left side.
    pub(super) fn along_y_durations(axis: &LogAxis) -> Vec<(String, f64, bool)> {
        axis.ticks(11).into_iter().map(|(ns, minor)| (round_duration(ns), axis.at(ns), minor)).collect()
    }

    pub(super) fn render(&self) -> String {
        let (columns, rows) = self.size;
        let mut grid = String::new();
        for (_, at, _) in &self.along_y {
            let y = (1.0 - at) * rows as f64;
            grid += &format!("<path class=\"grid\" d=\"M0 {y:.2}H{columns}\"/>");
        }
        let mut labels = String::new();
        for (text, at, minor) in &self.along_y {
            let class = if *minor { "y minor" } else { "y" };
            labels += &format!(
                "<span class=\"{class}\" style=\"top:{:.2}%\">{}</span>",
                (1.0 - at) * 100.0,
                Esc(text)
            );
        }
        for (text, at, minor) in &self.along_x {
            let class = if *minor { "x minor" } else { "x" };
            labels +=
                &format!("<span class=\"{class}\" style=\"left:{:.2}%\">{}</span>", at * 100.0, Esc(text));
        }
        format!(
            "<figure id=\"{}\"><figcaption><h2>{}</h2><p>{}</p></figcaption>\n<p class=\"legend\">{}</p>\n\
             <div class=\"plot\"><svg viewBox=\"0 0 {columns} {rows}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{}\">{grid}{}</svg>{}{labels}</div><p class=\"axis\">{}</p></figure>\n",
            self.id,
            self.title,
            self.about,
            self.legend,
            Esc(&self.alt),
            self.drawing,
            self.over,
            self.x_title,
        )
    }
}

/// Seconds along the bottom, for a window of `len_ns`.
pub(super) fn along_x_seconds(len_ns: u64) -> Vec<(String, f64, bool)> {
    let len = len_ns as f64 / 1e9;
    if len <= 0.0 {
        return Vec::new();
    }
    let step = step(len, 10);
    let mut labels = Vec::new();
    for at in 0u32..=20 {
        let seconds = step * f64::from(at);
        if seconds > len * 1.000_001 {
            break;
        }
        let text = format!("{} s", (seconds * 1e6).round() / 1e6);
        labels.push((text, seconds / len, at % 2 == 1));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_words_from_outside_is_text() {
        let text = Esc("<b a='1' c=\"2\">&amp;\u{0}\u{202e}").to_string();
        assert_eq!(text, "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;amp;??");
    }

    #[test]
    fn a_log_axis_spans_at_least_a_decade_and_keeps_all_on_it() {
        let axis = LogAxis::new(50_000, 60_000);
        assert!(axis.at(50_000) > 0.0 && axis.at(60_000) < 0.3);
        assert!((axis.at(0) - 0.0).abs() < 1e-9 && (axis.at(u64::MAX) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn ticks_are_few_and_never_none_whatever_the_range() {
        for high in (0..13u32).map(|n| 10u64.pow(n)) {
            for low in [0, 1, high / 2, high] {
                let ticks = LogAxis::new(low, high).ticks(11);
                assert!(
                    (2..=11).contains(&ticks.len()) || (low >= high / 2 && !ticks.is_empty()),
                    "{low} {high}: {ticks:?}"
                );
            }
        }
    }

    #[test]
    fn steps_are_round_and_seconds_end_at_the_window() {
        assert!((step(10.0, 10) - 1.0).abs() < 1e-9);
        assert!((step(52_000.0, 5) - 20_000.0).abs() < 1e-9);
        assert!((step(0.0, 5) - 1.0).abs() < 1e-9);
        let labels = along_x_seconds(10_000_000_000);
        assert_eq!(labels.first().map(|l| l.0.as_str()), Some("0 s"));
        assert_eq!(labels.last().map(|l| l.0.as_str()), Some("10 s"));
        assert!(along_x_seconds(0).is_empty());
    }
}
