//! What the figures say in words: sentences made of the figures, so that they hold whatever those are.
//!
//! # Rules
//! 1. "Lowest" is the least median of a server; loops of limits are told apart and never ranked.
//! 2. Where the rounds of a lower server do not agree that it is lower, that is said beside it.
//!
//! Not here: targets and whether they were met (`tables`).

use std::fmt::Write as _;

use super::figures::{BASE, Cell, Load, Measure};
use super::markup::{Esc, plural, three};
use crate::peers::model::{Kind, Report};

/// Kinds of load with their name, in the order in which they are told.
const KINDS: [(Kind, &str, &str); 4] = [
    (Kind::Closed, "As fast as it goes", "server CPU time a request"),
    (Kind::Open, "At a given rate", "P99 latency"),
    (Kind::Download, "Downloads", "server CPU time a GiB"),
    (Kind::Idle, "At rest", "resident memory a connection"),
];

/// A ratio with where it was found.
struct Found<'l> {
    ratio: f64,
    unsure: bool,
    name: &'l str,
    load: &'l str,
    is_limit: bool,
}

/// The ratios of all but Corelane under loads of a kind.
fn found<'l>(loads: &'l [Load<'l>], kind: Kind) -> Vec<Found<'l>> {
    let of_kind = loads.iter().filter(|load| load.scenario.kind == kind);
    let of_load = |load: &'l Load<'l>| {
        let of_cell = move |cell: &'l Cell<'l>| {
            let ratio = load.ratio(cell, load.main()).filter(|_| !cell.is_base())?;
            Some(Found {
                ratio: ratio.of_medians,
                unsure: ratio.is_unsure(),
                name: &cell.subject.name,
                load: &load.scenario.id,
                is_limit: cell.subject.is_limit,
            })
        };
        load.cells.iter().filter_map(of_cell)
    };
    of_kind.flat_map(of_load).collect()
}

/// Least and largest.
fn ends<'f, 'l>(of: impl Iterator<Item = &'f Found<'l>> + Clone) -> Option<(&'f Found<'l>, &'f Found<'l>)>
where
    'l: 'f,
{
    let least = of.clone().min_by(|a, b| a.ratio.total_cmp(&b.ratio))?;
    Some((least, of.max_by(|a, b| a.ratio.total_cmp(&b.ratio))?))
}

/// Loads of a kind by their lowest server.
struct Ranks {
    /// With a server that has a figure.
    all: usize,
    /// Of these, with Corelane as the lowest.
    own: usize,
    /// And with another, but rounds that disagree.
    unsure: usize,
}

fn ranks(loads: &[Load<'_>], kind: Kind) -> Ranks {
    let mut ranks = Ranks { all: 0, own: 0, unsure: 0 };
    for load in loads.iter().filter(|load| load.scenario.kind == kind) {
        let Some(lowest) = load.lowest(load.main()) else { continue };
        ranks.all += 1;
        if lowest.is_base() {
            ranks.own += 1;
        } else if load.ratio(lowest, load.main()).is_some_and(|ratio| ratio.is_unsure()) {
            ranks.unsure += 1;
        }
    }
    ranks
}

/// The figures one looks for first.
pub(super) fn cards(report: &Report, loads: &[Load<'_>]) -> String {
    let mut page = String::from("<div class=\"cards\">");
    let mut card = |name: &str, figure: &str, below: &str, class: &str| {
        let _ = write!(
            page,
            "<div class=\"card{class}\"><p class=\"name\">{name}</p><p class=\"figure\">{figure}</p>\
             <p class=\"below\">{below}</p></div>"
        );
    };
    let mut rank = |name: &str, kind| {
        let Ranks { all, own, unsure } = ranks(loads, kind);
        let figure = if all == 0 { "-".into() } else { format!("{own} of {all}") };
        let more = if unsure > 0 { format!("; in {unsure} more no difference") } else { String::new() };
        card(name, &figure, &format!("loads where Corelane's is lowest{more}"), "");
    };
    rank("CPU a request", Kind::Closed);
    rank("P99 latency", Kind::Open);
    let all = found(loads, Kind::Closed);
    let span = |is_limit: bool| {
        ends(all.iter().filter(|found| found.is_limit == is_limit)).map_or_else(
            || "-".into(),
            |(least, most)| format!("{}..{}", three(least.ratio), three(most.ratio)),
        )
    };
    card("Other servers", &span(false), "times Corelane's CPU a request", "");
    card("Hand-written loops", &span(true), "times Corelane's CPU a request", "");
    let count = |met| report.targets.iter().filter(|target| target.met == met).count();
    let (met, missed, open) = (count(Some(true)), count(Some(false)), count(None));
    let mut below = Vec::new();
    if missed > 0 {
        below.push(format!("{missed} MISSED"));
    }
    if open > 0 {
        below.push(format!("{open} not judged"));
    }
    let class = if missed > 0 { " missed" } else { "" };
    let figure = if report.targets.is_empty() { "-".into() } else { format!("{met} met") };
    let below = if below.is_empty() { plural(report.targets.len(), "target") } else { below.join(", ") };
    card("Targets", &figure, &below, class);
    let rounds = rounds(loads);
    card("Rounds", &rounds.to_string(), &format!("interleaved, windows of {}", window(report)), "");
    page.push_str("</div>\n");
    page
}

/// The most rounds that any subject has.
pub(super) fn rounds(loads: &[Load<'_>]) -> usize {
    loads.iter().flat_map(|load| &load.cells).map(Cell::rounds).max().unwrap_or(0)
}

pub(super) fn window(report: &Report) -> String {
    format!("{} s", super::markup::round(report.window_ms as f64 / 1e3))
}

/// The summary, markup.
pub(super) fn section(report: &Report, loads: &[Load<'_>]) -> String {
    let limits = report.subjects.iter().filter(|subject| subject.is_limit).count();
    let absent = report.subjects.iter().filter(|subject| subject.absent.is_some()).count();
    let mut page = String::from("<section id=\"summary\"><h2>Summary</h2><p>");
    let _ = write!(
        page,
        "{} and {} under {}, in {} with windows of {}. ",
        plural(report.subjects.len() - limits, "server"),
        plural(limits, "hand-written loop"),
        plural(report.scenarios.len(), "load"),
        plural(rounds(loads), "round"),
        window(report)
    );
    if absent > 0 {
        let _ = write!(page, "{} did not run at all. ", plural(absent, "subject"));
    }
    if report.quick {
        page.push_str("A quick run: short windows and few rounds, good for large differences only. ");
    }
    page.push_str("Less is better in every figure that is compared.</p>");
    let mut items = String::new();
    for (kind, title, name) in KINDS {
        let text = sentences(loads, kind);
        if !text.is_empty() {
            let _ = write!(items, "<li><b>{title}: {name}.</b> {text}</li>");
        }
    }
    match items.is_empty() {
        true => page.push_str("<p>There are no figures to compare.</p>"),
        false => {
            let _ = write!(page, "<ul>{items}</ul>");
        }
    }
    page.push_str("</section>\n");
    page
}

/// Who is lowest where, and how far the others are from Corelane; empty without figures.
fn sentences(loads: &[Load<'_>], kind: Kind) -> String {
    let mut winners: Vec<(&str, Vec<String>)> = Vec::new();
    let mut count = 0;
    for load in loads.iter().filter(|load| load.scenario.kind == kind) {
        let measure = load.main();
        let Some(lowest) = load.lowest(measure) else { continue };
        count += 1;
        let place = place(load, lowest, measure);
        match winners.iter_mut().find(|(name, _)| *name == lowest.subject.name) {
            Some((_, places)) => places.push(place),
            None => winners.push((&lowest.subject.name, vec![place])),
        }
    }
    if count == 0 {
        return String::new();
    }
    winners.sort_by_key(|(name, places)| (*name != BASE, std::cmp::Reverse(places.len())));
    let winners: Vec<String> = winners
        .iter()
        .map(|(name, places)| match places.len() == count && *name == BASE && count > 1 {
            true if count == 2 => format!("<b>{}</b> in both loads", Esc(name)),
            true => format!("<b>{}</b> in all {count} loads", Esc(name)),
            false => format!("<b>{}</b> in {} ({})", Esc(name), places.len(), places.join(", ")),
        })
        .collect();
    let mut text = format!("Lowest of the servers: {}.", winners.join("; "));
    let all = found(loads, kind);
    let span = |(least, most): (&Found<'_>, &Found<'_>)| {
        let at =
            |found: &Found<'_>| format!("{} ({}, {})", three(found.ratio), Esc(found.name), Esc(found.load));
        match std::ptr::eq(least, most) {
            true => at(least),
            false => format!("{} to {}", at(least), at(most)),
        }
    };
    let mut spans = Vec::new();
    for (is_limit, name) in [(false, "other servers"), (true, "hand-written loops")] {
        if let Some(both) = ends(all.iter().filter(|found| found.is_limit == is_limit)) {
            spans.push(format!("{name} {}", span(both)));
        }
    }
    let has_figure = |load: &Load<'_>| load.base().is_some_and(|base| base.spread(load.main().of).is_some());
    if !loads.iter().any(|load| load.scenario.kind == kind && has_figure(load)) {
        text.push_str(" Corelane has no figure here, so there are no ratios.");
    } else if !spans.is_empty() {
        let _ = write!(text, "<br/>Ratios to Corelane: {}.", spans.join("; "));
    }
    let servers = || all.iter().filter(|found| !found.is_limit);
    let unsure = servers().filter(|found| found.unsure).count();
    if unsure > 0 {
        let _ = write!(
            text,
            " No difference was seen in {unsure} of {} comparisons with a server: their rounds are on both \
             sides of 1 (~).",
            servers().count()
        );
    }
    text
}

/// The name of a load, and the ratio of its lowest server to Corelane.
fn place(load: &Load<'_>, lowest: &Cell<'_>, measure: &Measure) -> String {
    let id = Esc(&load.scenario.id).to_string();
    match load.ratio(lowest, measure).filter(|_| !lowest.is_base()) {
        None => id,
        Some(ratio) => {
            let sign = if ratio.is_unsure() { "~" } else { "" };
            format!("{id} {sign}{}", three(ratio.of_medians))
        }
    }
}
