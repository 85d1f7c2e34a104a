//! Tables: targets, subjects, and every figure of a load.
//!
//! # Rules
//! 1. Every subject has its row in the table of every load, absent or not.
//! 2. A column that no subject has a figure for is left out.
//! 3. A cell is the median of the rounds unless its head says otherwise, and its hint has the range.
//!
//! Not here: what is drawn (`chart`, `heat`).

use std::fmt::Write as _;

use super::figures::{Cell, Load, Measure};
use super::markup::{Esc, compact, digits, thousands, three};
use crate::ab::summary::OTHERS_SHARE_MAX;
use crate::peers::model::{Report, Sample};

/// A column of figures beside those that are compared.
struct Column {
    head: &'static str,
    unit: &'static str,
    of: fn(&Sample) -> Option<f64>,
    text: fn(f64) -> String,
}

/// All there is to a sample but for errors.
const COLUMNS: [Column; 12] = [
    Column { head: "CPU", unit: "us/request", of: |s| s.cpu_us, text: three },
    Column { head: "CPU", unit: "s/GiB", of: |s| s.cpu_s_per_gib, text: three },
    Column { head: "bodies", unit: "GB/s", of: |s| s.gb_per_s, text: three },
    Column { head: "rate", unit: "requests/s", of: |s| s.rate, text: compact },
    Column { head: "P50", unit: "us", of: |s| s.p50_us, text: three },
    Column { head: "P99", unit: "us", of: |s| s.p99_us, text: three },
    Column { head: "P99.9", unit: "us", of: |s| s.p999_us, text: three },
    Column { head: "memory", unit: "B/connection", of: |s| s.idle_bytes, text: three },
    Column { head: "client CPU", unit: "us/request", of: |s| s.client_us, text: three },
    Column { head: "resident", unit: "MiB", of: |s| s.rss_kib.map(|kib| kib as f64 / 1024.0), text: three },
    Column { head: "busy", unit: "%", of: |s| s.busy.map(|share| 100.0 * share), text: whole },
    Column { head: "others", unit: "%, most", of: |s| s.others.map(|share| 100.0 * share), text: tenths },
];

/// Index of the column whose cells are the largest of the rounds, not the median.
const OTHERS: usize = 11;

fn whole(number: f64) -> String {
    format!("{number:.0}")
}

fn tenths(number: f64) -> String {
    format!("{number:.1}")
}

fn open(page: &mut String, class: &str, label: &str, caption: &str) {
    let _ = write!(
        page,
        "<div class=\"wide\" role=\"region\" aria-label=\"{}\" tabindex=\"0\"><table class=\"{class}\">\
         <caption>{caption}</caption>",
        Esc(label)
    );
}

/// What was to be reached, and whether it was.
pub(super) fn targets(report: &Report) -> String {
    if report.targets.is_empty() {
        return String::new();
    }
    let mut page = String::from("<section id=\"targets\"><h2>Targets</h2>");
    open(&mut page, "targets", "Targets", "What was to be reached, and what was found");
    page.push_str(
        "<thead><tr><th scope=\"col\">target</th><th scope=\"col\">found</th><th scope=\"col\">bound</th>\
         <th scope=\"col\">result</th></tr></thead><tbody>",
    );
    for target in &report.targets {
        let (class, word) = result(target.met);
        let found = target.found.map_or_else(|| "-".into(), |found| found_beside(found, target.bound));
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{found}</td><td>{}</td>\
             <td><span class=\"tag {class}\">{word}</span></td></tr>",
            Esc(&target.text),
            exact(target.bound)
        );
    }
    page.push_str("</tbody></table></div></section>\n");
    page
}

/// Three digits of what was found, or five where three would hide on which side of the bound it is.
fn found_beside(found: f64, bound: f64) -> String {
    if found != bound && three(found) == three(bound) { digits(found, 5) } else { three(found) }
}

/// A bound is what was written down, without zeros that say nothing.
fn exact(bound: f64) -> String {
    let text = digits(bound, 6);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// Class and word of a judgement.
pub(super) fn result(met: Option<bool>) -> (&'static str, &'static str) {
    match met {
        Some(true) => ("valid", "met"),
        Some(false) => ("invalid", "MISSED"),
        None => ("suspect", "not judged"),
    }
}

/// Who was compared.
pub(super) fn subjects(report: &Report) -> String {
    if report.subjects.is_empty() {
        return String::new();
    }
    let mut page = String::from("<section id=\"subjects\"><h2>Subjects</h2>");
    open(&mut page, "subjects", "Subjects", "Who was compared, and how it was set up");
    page.push_str(
        "<thead><tr><th scope=\"col\">name</th><th scope=\"col\">what it is</th></tr></thead><tbody>",
    );
    for subject in &report.subjects {
        let limit =
            if subject.is_limit { " <span class=\"soft\">(a limit, never ranked)</span>" } else { "" };
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}{limit}",
            Esc(&subject.name),
            Esc(&subject.what)
        );
        if let Some(reason) = &subject.absent {
            let _ = write!(page, "<br/><span class=\"tag suspect\">did not run</span> {}", Esc(reason));
        }
        page.push_str("</td></tr>");
    }
    page.push_str("</tbody></table></div></section>\n");
    page
}

/// Who has no figures under a load and why, and whose answers were wrong; empty if there is nothing to tell.
pub(super) fn troubles(load: &Load<'_>) -> String {
    // A reason that several share is told once.
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for cell in &load.cells {
        let name = Esc(&cell.subject.name).to_string();
        let is_ranked = cell.spread(load.main().of).is_some();
        let reason = match cell.absent() {
            Some(reason) => Esc(reason).to_string(),
            None if !is_ranked => format!("{} was not measured", load.main().name),
            None => continue,
        };
        match reasons.iter_mut().find(|(of, _)| *of == reason) {
            Some((_, names)) => names.push(name),
            None => reasons.push((reason, vec![name])),
        }
    }
    let mut page = String::new();
    let mut item = |class: &str, word: &str, names: &str, text: &str| {
        let _ = write!(page, "<li><span class=\"tag {class}\">{word}</span> <b>{names}</b>: {text}</li>");
    };
    for cell in load.cells.iter().filter(|cell| cell.errors() > 0) {
        let text = format!("{} answers wrong, late or missing", thousands(cell.errors() as f64));
        item("invalid", "errors", &Esc(&cell.subject.name).to_string(), &text);
    }
    for (reason, names) in &reasons {
        item("suspect", "absent", &names.join(", "), reason);
    }
    if page.is_empty() { page } else { format!("<ul class=\"troubles\">{page}</ul>\n") }
}

/// Every figure of a load.
pub(super) fn figures(load: &Load<'_>) -> String {
    let has = |of: fn(&Sample) -> Option<f64>| load.cells.iter().any(|cell| cell.spread(of).is_some());
    let measures: Vec<&Measure> = load.measures().iter().filter(|measure| has(measure.of)).collect();
    let is_compared = |column: &Column| {
        measures.iter().any(|measure| measure.short == column.head && unit(measure) == column.unit)
    };
    let others: Vec<(usize, &Column)> =
        COLUMNS.iter().enumerate().filter(|(_, column)| has(column.of) && !is_compared(column)).collect();
    let syscalls = load.cells.iter().any(|cell| syscalls(cell).is_some());
    let answers = load.cells.iter().any(|cell| answer_len(cell).is_some());

    let mut page = String::new();
    let title = format!("Figures of {}", load.scenario.id);
    open(&mut page, "figures", &title, "Medians of the rounds; ratios are to Corelane");
    page.push_str("<thead><tr><th scope=\"col\">subject</th>");
    let mut head = |name: &str, unit: &str| {
        let _ = write!(page, "<th scope=\"col\">{name}<small>{unit}</small></th>");
    };
    for measure in &measures {
        head(measure.short, unit(measure));
        head("range", unit(measure));
        head("ratio", &format!("of {}", measure.short));
        head("range", "of the rounds");
    }
    others.iter().for_each(|(_, column)| head(column.head, column.unit));
    if syscalls {
        head("syscalls", "a request");
    }
    head("errors", "in all");
    if answers {
        head("answer", "bytes");
    }
    head("rounds", "");
    page.push_str("</tr></thead><tbody>");
    for cell in &load.cells {
        let class = match cell {
            cell if cell.is_base() => " class=\"own\"",
            cell if cell.subject.is_limit => " class=\"limit\"",
            _ => "",
        };
        let _ = write!(page, "<tr{class}><th scope=\"row\">{}</th>", Esc(&cell.subject.name));
        if let Some(reason) = cell.absent() {
            let span = 4 * measures.len() + others.len() + usize::from(syscalls) + usize::from(answers) + 2;
            let _ = write!(
                page,
                "<td class=\"none\" colspan=\"{span}\" title=\"{}\">absent</td></tr>",
                Esc(reason)
            );
            continue;
        }
        measures.iter().for_each(|measure| compared(&mut page, load, cell, measure));
        others.iter().for_each(|(at, column)| figure(&mut page, cell, *at, column));
        let mut plain = |text: String| {
            let _ = write!(page, "<td>{text}</td>");
        };
        if syscalls {
            plain(self::syscalls(cell).map_or_else(|| "-".into(), three));
        }
        let errors = cell.errors();
        match errors {
            0 => plain("0".into()),
            _ => plain(format!("<span class=\"bad\">{}</span>", thousands(errors as f64))),
        }
        if answers {
            plain(answer_len(cell).map_or_else(|| "-".into(), |len| thousands(len as f64)));
        }
        plain(cell.rounds().to_string());
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>\n");
    page
}

/// The unit of a measure where its name is short.
fn unit(measure: &Measure) -> &'static str {
    match (measure.short, measure.unit) {
        ("CPU", "us") => "us/request",
        (_, unit) => unit,
    }
}

fn syscalls(cell: &Cell<'_>) -> Option<f64> {
    cell.row?.syscalls.filter(|_| cell.absent().is_none())
}

fn answer_len(cell: &Cell<'_>) -> Option<u64> {
    cell.row?.answer_len.filter(|_| cell.absent().is_none())
}

/// Four cells: median, range, ratio, range of the ratio.
fn compared(page: &mut String, load: &Load<'_>, cell: &Cell<'_>, measure: &Measure) {
    let _ = match cell.spread(measure.of) {
        None => write!(page, "<td>-</td><td>-</td>"),
        Some(spread) => write!(
            page,
            "<td class=\"main\">{}</td><td class=\"soft\">{}</td>",
            three(spread.median),
            range(spread.min, spread.max)
        ),
    };
    let _ = match load.ratio(cell, measure) {
        None => write!(page, "<td>-</td><td>-</td>"),
        Some(_) if cell.is_base() => write!(page, "<td class=\"main\">1</td><td></td>"),
        Some(ratio) => write!(
            page,
            "<td class=\"main\">{}{}</td><td class=\"soft\">{}</td>",
            if ratio.is_unsure() { "~" } else { "" },
            three(ratio.of_medians),
            ratio.range.map_or_else(|| "-".into(), |(least, most)| range(least, most))
        ),
    };
}

fn range(least: f64, most: f64) -> String {
    format!("{}..{}", three(least), three(most))
}

fn figure(page: &mut String, cell: &Cell<'_>, at: usize, column: &Column) {
    let Some(spread) = cell.spread(column.of) else {
        page.push_str("<td>-</td>");
        return;
    };
    let is_most = at == OTHERS;
    let shown = (column.text)(if is_most { spread.max } else { spread.median });
    let shown = match is_most && spread.max > 100.0 * OTHERS_SHARE_MAX {
        true => format!("<span class=\"bad\">{shown}</span>"),
        false => shown,
    };
    let (least, most) = ((column.text)(spread.min), (column.text)(spread.max));
    let _ = write!(page, "<td title=\"{least} to {most} {}\">{shown}</td>", column.unit);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_column_of_others_is_where_it_is_said_to_be() {
        let sample = Sample { others: Some(0.07), ..Sample::default() };
        assert!((((COLUMNS[OTHERS].of)(&sample)).unwrap() - 7.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_found_beside_a_bound_is_not_rounded_onto_it() {
        assert_eq!(found_beside(1.0504, 1.05), "1.0504");
        assert_eq!(
            (found_beside(1.05, 1.05).as_str(), found_beside(1.0623, 1.05).as_str()),
            ("1.05", "1.06")
        );
        assert_eq!([1_536.0, 0.85, 1.0].map(exact), ["1,536", "0.85", "1"]);
    }

    #[test]
    fn a_judgement_has_a_word_for_each_end() {
        let words = [Some(true), Some(false), None].map(|met| result(met).1);
        assert_eq!(words, ["met", "MISSED", "not judged"]);
    }
}
