//! The overview: all subjects by all loads, each cell a ratio to Corelane.
//!
//! # Rules
//! 1. Shades are blue where a subject takes less than Corelane and orange where it takes more: both are told
//!    apart by all kinds of colour blindness, and the number stands in each cell.
//! 2. Within 5 % there is no shade, and where the rounds do not agree there is a `~`.
//!
//! Not here: the figures themselves (`tables`).

use std::fmt::Write as _;

use super::figures::{BASE, Load, Measure, Ratio};
use super::markup::{Esc, three};
use crate::peers::model::{Report, Subject};

/// Upper ends of the shades for a ratio above 1; below 1 they are their inverses.
const ENDS: [f64; 4] = [1.05, 1.25, 1.7, 2.5];

/// The class of a ratio: `e` for equal, `l1` to `l4` for less, `m1` to `m4` for more.
fn shade(ratio: f64) -> String {
    let (side, factor) = if ratio < 1.0 { ('l', 1.0 / ratio) } else { ('m', ratio) };
    // What is zero or below took less than anything can be measured against.
    let factor = if factor.is_finite() && factor > 0.0 { factor } else { f64::INFINITY };
    match ENDS.iter().filter(|end| factor > **end).count() {
        0 => "e".into(),
        step => format!("{side}{step}"),
    }
}

/// The section; `None` if Corelane has no figure at all.
pub(super) fn section(report: &Report, loads: &[Load<'_>]) -> Option<String> {
    let columns: Vec<(usize, &Load<'_>, &Measure)> = loads
        .iter()
        .enumerate()
        .flat_map(|(at, load)| load.measures().iter().map(move |measure| (at, load, measure)))
        .filter(|(_, load, measure)| load.base().is_some_and(|base| base.spread(measure.of).is_some()))
        .collect();
    if columns.is_empty() {
        return None;
    }
    let mut page = String::from(
        "<section id=\"overview\"><h2>Overview</h2><p>Corelane's row has its medians; below are the medians \
         of the others as multiples of them. Less than 1 is less than Corelane took.</p>",
    );
    page += &legend();
    page.push_str(
        "<div class=\"wide\" role=\"region\" aria-label=\"Overview\" tabindex=\"0\"><table class=\"heat\">\
         <caption>Ratio to Corelane, by subject and load</caption><thead><tr><td></td>",
    );
    for (at, load) in loads.iter().enumerate() {
        let count = columns.iter().filter(|column| column.0 == at).count();
        if count > 0 {
            let _ = write!(
                page,
                "<th scope=\"colgroup\" colspan=\"{count}\" title=\"{}\"><a href=\"#load{at}\">{}</a></th>",
                Esc(&load.scenario.title),
                breakable(&load.scenario.id)
            );
        }
    }
    page.push_str("</tr><tr><td></td>");
    for (_, load, measure) in &columns {
        // One thing in two columns needs a name in each.
        let name = if load.measures().len() > 1 { measure.short } else { "" };
        let _ = write!(page, "<th scope=\"col\"><span>{name}</span> {}</th>", unit(measure));
    }
    page.push_str("</tr></thead><tbody>");
    for (index, subject) in in_order(report) {
        let class = match subject {
            subject if subject.name == BASE => " class=\"own\"",
            subject if subject.is_limit => " class=\"limit\"",
            _ => "",
        };
        let _ = write!(page, "<tr{class}><th scope=\"row\">{}</th>", Esc(&subject.name));
        columns.iter().for_each(|(_, load, measure)| cell(&mut page, load, index, measure));
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div></section>\n");
    Some(page)
}

/// Corelane first: what the others are compared with.
fn in_order(report: &Report) -> Vec<(usize, &Subject)> {
    let all = || report.subjects.iter().enumerate();
    let is_base = |subject: &Subject| subject.name == BASE;
    all().filter(|(_, s)| is_base(s)).chain(all().filter(|(_, s)| !is_base(s))).collect()
}

fn unit(measure: &Measure) -> &'static str {
    match measure.unit {
        "B/connection" => "B",
        unit => unit,
    }
}

fn cell(page: &mut String, load: &Load<'_>, index: usize, measure: &Measure) {
    let cell = &load.cells[index];
    let spread = cell.spread(measure.of);
    let lowest = load.lowest(measure).is_some_and(|lowest| lowest.subject.name == cell.subject.name);
    let lowest = if lowest { "lowest" } else { "" };
    let _ = match (spread, load.ratio(cell, measure)) {
        (Some(spread), _) if cell.is_base() => {
            write!(page, "<td class=\"{lowest}\">{}</td>", three(spread.median))
        }
        (Some(_), Some(ratio)) => {
            write!(
                page,
                "<td class=\"{} {lowest}\" title=\"{}\">{}</td>",
                shade(ratio.of_medians),
                Esc(&hint(cell.subject, load, &ratio)),
                text(&ratio)
            )
        }
        _ => match cell.absent() {
            Some(reason) => write!(page, "<td class=\"none\" title=\"{}\">absent</td>", Esc(reason)),
            None => write!(page, "<td class=\"none\">-</td>"),
        },
    };
}

fn text(ratio: &Ratio) -> String {
    let sign = if ratio.is_unsure() { "~" } else { "" };
    format!("{sign}{}", three(ratio.of_medians))
}

fn hint(subject: &Subject, load: &Load<'_>, ratio: &Ratio) -> String {
    let mut text = format!("{} at {}: {}", subject.name, load.scenario.id, three(ratio.of_medians));
    if let Some((least, most)) = ratio.range {
        let _ = write!(text, ", rounds {} to {}", three(least), three(most));
    }
    text
}

/// A name that may be broken where its parts meet: heads of narrow columns.
fn breakable(id: &str) -> String {
    id.split('-').map(|part| Esc(part).to_string()).collect::<Vec<_>>().join("-<wbr/>")
}

fn legend() -> String {
    let mut legend = String::from("<p class=\"legend\"><span class=\"key scale\">less");
    for step in (1..=ENDS.len()).rev() {
        let _ = write!(legend, "<i class=\"l{step}\">{:.2}</i>", 1.0 / ENDS[step - 1]);
    }
    legend.push_str("<i class=\"e\">1</i>");
    for (step, end) in ENDS.iter().enumerate() {
        let _ = write!(legend, "<i class=\"m{}\">{end:.2}</i>", step + 1);
    }
    legend.push_str(
        "more</span><span class=\"key\"><b>~</b>rounds on both sides of 1: no difference was seen</span>\
         <span class=\"key\"><b class=\"lowest\">0.97</b>the lowest of the servers</span></p>",
    );
    legend
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_are_symmetric_around_one() {
        for (more, less, wanted) in [(1.04, 0.96, 0), (1.06, 0.94, 1), (1.3, 0.75, 2), (9.0, 0.01, 4)] {
            let class = |side| if wanted == 0 { "e".to_owned() } else { format!("{side}{wanted}") };
            assert_eq!((shade(more), shade(less)), (class('m'), class('l')));
        }
        assert_eq!((shade(0.0).as_str(), shade(-1.0).as_str()), ("l4", "l4"));
    }

    #[test]
    fn a_name_breaks_at_its_dashes_and_stays_harmless() {
        assert_eq!(breakable("open-<80>"), "open-<wbr/>&lt;80&gt;");
    }
}
