//! Dots and ranges: one line a subject, the cheapest on top, Corelane's median as a line through all.
//!
//! # Rules
//! 1. Widths are percent and heights are pixels: the drawing fits any page, and a dot stays round.
//! 2. Names and figures are text beside the drawing. What the drawing shows is told in its `desc`, and in
//!    the table below it.
//! 3. Base, peer and limit differ by shape and by word, not only by colour.
//!
//! Not here: who is absent and why (`tables`).

use std::fmt::Write as _;

use super::axis::Axis;
use super::figures::{Cell, Load, Measure, P50, P99, P999};
use super::markup::{Esc, plural, round, three};
use crate::ab::summary::Spread;
use crate::peers::model::Kind;

/// Height of the line of one subject, pixels; the style sheet has the same.
const LINE: usize = 28;

/// How the median of a measure is drawn.
#[derive(Clone, Copy)]
enum Shape {
    Dot,
    Diamond,
    Triangle,
}

/// What is drawn under this kind of load: the measure that ranks is one of them.
fn drawn(load: &Load<'_>) -> Vec<(Measure, Shape)> {
    match load.scenario.kind {
        Kind::Open => vec![(P50, Shape::Dot), (P99, Shape::Diamond), (P999, Shape::Triangle)],
        _ => vec![(*load.main(), Shape::Dot)],
    }
}

/// One subject with what is drawn of it.
struct Line<'c, 'r> {
    cell: &'c Cell<'r>,
    marks: Vec<(Measure, Shape, Spread, Vec<f64>)>,
    rank: f64,
}

impl<'c, 'r> Line<'c, 'r> {
    /// `None` without the figure that ranks.
    fn of(cell: &'c Cell<'r>, main: &Measure, drawn: &[(Measure, Shape)]) -> Option<Self> {
        let mark = |(measure, shape): &(Measure, Shape)| {
            let spread = cell.spread(measure.of)?;
            Some((*measure, *shape, spread, cell.values(measure.of)))
        };
        let rank = cell.spread(main.of)?.median;
        Some(Line { cell, marks: drawn.iter().filter_map(mark).collect(), rank })
    }
}

/// The chart of a load; empty if no subject has the figure that ranks. `id` is unique on the page.
pub(super) fn chart(load: &Load<'_>, id: usize) -> String {
    let drawn = drawn(load);
    let main = load.main();
    let mut lines: Vec<Line<'_, '_>> =
        load.cells.iter().filter_map(|cell| Line::of(cell, main, &drawn)).collect();
    if lines.is_empty() {
        return String::new();
    }
    lines.sort_by(|a, b| a.rank.total_cmp(&b.rank));
    let spreads = || lines.iter().flat_map(|line| &line.marks).map(|mark| mark.2);
    let least = spreads().map(|spread| spread.min).fold(f64::INFINITY, f64::min);
    let most = spreads().map(|spread| spread.max).fold(f64::NEG_INFINITY, f64::max);
    let axis = if load.scenario.kind == Kind::Open { Axis::log(least, most) } else { Axis::new(least, most) };

    let height = lines.len() * LINE;
    let mut page = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = write!(page, "<figure class=\"chart\">{}\n<div class=\"dots\">", legend(load, &lines));
    column(&mut page, "names", &lines, |line| name(line.cell));
    let _ = write!(
        page,
        "<div class=\"plot\"><svg width=\"100%\" height=\"{height}\" role=\"img\" \
         aria-labelledby=\"t{id} d{id}\"><title id=\"t{id}\">{}</title><desc id=\"d{id}\">{}</desc>",
        Esc(&format!("{} by subject: {}", capital(main.name), load.scenario.title)),
        // Not as one word: it has as many as there are subjects.
        lines.iter().map(|line| Esc(&words(line)).to_string()).collect::<Vec<_>>().join(". ")
    );
    for (value, _) in axis.ticks() {
        let x = axis.at(value);
        let _ = write!(page, "<line class=\"grid\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{height}\"/>");
    }
    if let Some(base) = lines.iter().position(|line| line.cell.is_base()) {
        let (x, y) = (axis.at(lines[base].rank), base * LINE);
        let _ = write!(
            page,
            "<rect class=\"here\" x=\"0\" y=\"{y}\" width=\"100%\" height=\"{LINE}\"/>\
             <line class=\"base\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{height}\"/>"
        );
    }
    lines.iter().enumerate().for_each(|(at, line)| draw(&mut page, line, &axis, at * LINE));
    page.push_str("</svg>");
    for (value, is_minor) in axis.ticks() {
        let class = if is_minor { "x minor" } else { "x" };
        let text = round(value);
        let _ = write!(page, "<span class=\"{class}\" style=\"left:{:.2}%\">{text}</span>", axis.at(value));
    }
    page.push_str("</div>");
    column(&mut page, "values", &lines, |line| three(line.rank));
    let ratios: Vec<String> = lines
        .iter()
        .map(|line| load.ratio(line.cell, main))
        .map(|ratio| ratio.map_or_else(|| "-".into(), |ratio| format!("{} x", three(ratio.of_medians))))
        .collect();
    if load.base().is_some_and(|base| base.spread(main.of).is_some()) {
        let mut ratios = ratios.into_iter();
        column(&mut page, "ratios", &lines, |_| ratios.next().unwrap_or_default());
    }
    let scale = if axis.is_log { ", logarithmic" } else { "" };
    let (what, beside) = match drawn.len() {
        1 => (main.name, String::new()),
        // Of several marks one is the figure beside the drawing.
        _ => ("latency", format!("; figures on the right: {}", main.short)),
    };
    let unit = main.unit;
    let _ = write!(page, "</div>\n<p class=\"axis\">{what}, {unit}{scale}{beside}</p></figure>\n");
    page
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Base, limit or peer: the class of what is drawn of a subject.
fn class(cell: &Cell<'_>) -> &'static str {
    match cell {
        cell if cell.is_base() => "own",
        cell if cell.subject.is_limit => "limit",
        _ => "peer",
    }
}

fn name(cell: &Cell<'_>) -> String {
    Esc(&cell.subject.name).to_string()
}

/// A column of texts beside the drawing, one a line of it.
fn column<'l>(
    page: &mut String,
    name: &str,
    lines: &'l [Line<'l, 'l>],
    mut text: impl FnMut(&'l Line<'l, 'l>) -> String,
) {
    let _ = write!(page, "<div class=\"{name}\">");
    for line in lines {
        let hint =
            if name == "names" { format!(" title=\"{}\"", Esc(&line.cell.subject.what)) } else { "".into() };
        let _ = write!(page, "<span class=\"{}\"{hint}>{}</span>", class(line.cell), text(line));
    }
    page.push_str("</div>");
}

/// "hyper: CPU 3.02 us (2.96 to 3.10, 5 rounds)".
fn words(line: &Line<'_, '_>) -> String {
    let mark = |(measure, _, spread, values): &(Measure, Shape, Spread, Vec<f64>)| {
        let Spread { median, min, max } = spread;
        let rounds = plural(values.len(), "round");
        let figures = format!("{} ({} to {}, {rounds})", three(*median), three(*min), three(*max));
        format!("{} {} {figures}", measure.short, measure.unit)
    };
    let marks: Vec<String> = line.marks.iter().map(mark).collect();
    format!("{}: {}", line.cell.subject.name, marks.join(", "))
}

fn draw(page: &mut String, line: &Line<'_, '_>, axis: &Axis, top: usize) {
    let y = top + LINE / 2;
    let _ = write!(page, "<g class=\"{}\">", class(line.cell));
    let ends = line.marks.first().zip(line.marks.last());
    if let Some((first, last)) = ends.filter(|_| line.marks.len() > 1) {
        let (from, to) = (axis.at(first.2.median), axis.at(last.2.median));
        let _ =
            write!(page, "<line class=\"link\" x1=\"{from:.2}%\" x2=\"{to:.2}%\" y1=\"{y}\" y2=\"{y}\"/>");
    }
    for (_, _, spread, values) in &line.marks {
        let (from, to) = (axis.at(spread.min), axis.at(spread.max));
        let _ =
            write!(page, "<line class=\"range\" x1=\"{from:.2}%\" x2=\"{to:.2}%\" y1=\"{y}\" y2=\"{y}\"/>");
        for end in [from, to] {
            let (above, below) = (y - 4, y + 4);
            let _ = write!(
                page,
                "<line class=\"end\" x1=\"{end:.2}%\" x2=\"{end:.2}%\" y1=\"{above}\" y2=\"{below}\"/>"
            );
        }
        for value in values {
            let _ = write!(
                page,
                "<circle class=\"round\" cx=\"{:.2}%\" cy=\"{}\" r=\"1.75\"/>",
                axis.at(*value),
                y + 10
            );
        }
    }
    for (_, shape, spread, _) in &line.marks {
        let x = axis.at(spread.median);
        let _ = match shape {
            Shape::Dot => write!(page, "<circle class=\"mark\" cx=\"{x:.2}%\" cy=\"{y}\" r=\"5.5\"/>"),
            Shape::Diamond => moved(page, x, y, "M0 -6.5L6.5 0L0 6.5L-6.5 0z"),
            Shape::Triangle => moved(page, x, y, "M0 -6L6.5 5.5H-6.5z"),
        };
    }
    let _ = write!(
        page,
        "<rect class=\"hit\" x=\"0\" y=\"{top}\" width=\"100%\" height=\"{LINE}\">\
         <title>{}</title></rect></g>",
        Esc(&words(line))
    );
}

/// A path around a place that is given in percent: only an inner drawing can be moved by those.
fn moved(page: &mut String, x: f64, y: usize, path: &str) -> std::fmt::Result {
    write!(
        page,
        "<svg x=\"{x:.2}%\" y=\"{y}\" width=\"1\" height=\"1\" class=\"moved\">\
         <path class=\"mark\" d=\"{path}\"/></svg>"
    )
}

/// Only what the drawing has.
fn legend(load: &Load<'_>, lines: &[Line<'_, '_>]) -> String {
    let key = |class: &str, path: &str, text: &str| {
        format!(
            "<span class=\"key\"><svg width=\"22\" height=\"14\" viewBox=\"-11 -7 22 14\" \
             aria-hidden=\"true\"><g class=\"{class}\">{path}</g></svg>{text}</span>"
        )
    };
    let dot = "<circle class=\"mark\" r=\"5\"/>";
    let mut keys = String::new();
    if load.scenario.kind == Kind::Open {
        keys += &key("peer", dot, "P50");
        keys += &key("peer", "<path class=\"mark\" d=\"M0 -6.5L6.5 0L0 6.5L-6.5 0z\"/>", "P99");
        keys += &key("peer", "<path class=\"mark\" d=\"M0 -6L6.5 5.5H-6.5z\"/>", "P99.9");
    }
    let median = if keys.is_empty() { "median" } else { load.main().short };
    let own = format!("Corelane, and a line at its {median}");
    for (of, text) in [("own", &own[..]), ("peer", "peer"), ("limit", "hand-written loop: a limit")] {
        if lines.iter().any(|line| class(line.cell) == of) {
            keys += &key(of, dot, text);
        }
    }
    let range = "<line class=\"range\" x1=\"-10\" x2=\"10\" y1=\"0\" y2=\"0\"/>\
                 <line class=\"end\" x1=\"-10\" x2=\"-10\" y1=\"-4\" y2=\"4\"/>\
                 <line class=\"end\" x1=\"10\" x2=\"10\" y1=\"-4\" y2=\"4\"/>";
    keys += &key("peer", range, "least to largest round");
    keys += &key("peer", "<circle class=\"round\" r=\"2\"/>", "one round");
    format!("<p class=\"legend\">{keys}</p>")
}
