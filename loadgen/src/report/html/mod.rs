//! One HTML file that shows a run: to pass on, to keep, to print. It needs no other file, no network and no
//! script.
//!
//! # Rules
//! 1. Nothing is loaded: no address stands in it but those that the user gave, as text.
//! 2. It is below 1 MiB whatever the run: 500 KiB for the charts (time is drawn in at most 400 columns), and
//!    for the words from outside, of which there are fewer than 300, 1,000 bytes each.
//! 3. What a colour says is said by a word, a dash or a shape, too. Both colour schemes are in the style
//!    sheet.
//!
//! Not here: numbers for machines (`json`, `csv`, `hdr`).

mod heat;
mod markup;
mod rates;
mod spectrum;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use self::markup::Esc;
use super::describe::{
    busy_share, client_cost, good_only, host_rows, kind_name, provenance_rows, settings_rows, shape, target,
    traffic,
};
use super::format::{bytes, count, duration, percent, percentile_name, rate, ratio, utc, value_or_dash};
use super::percentiles;
use crate::model::{Level, Loop, Outcome, Run};
use crate::record::{ErrorKind, Latency, Value};

/// Rows of a table that grows with the run (kinds of request, workers, reasons); the rest is counted.
const ROWS_MAX: usize = 40;

/// Bytes of markup that a word from outside may take; the end of a longer one is an ellipsis.
const WORD_LEN_MAX: usize = 1_000;

const STYLE: &str = include_str!("style.css");

/// The page. `extra` are percentiles that the tables have beside the usual ones.
pub fn render(run: &Run, outcomes: &[Outcome], extra: &[f64]) -> String {
    let percents = percentiles(extra);
    let mut page = String::with_capacity(64 << 10);
    let title = format!("{} - loadgen", shortened(&target(&run.settings)));
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/><title>{}</title>\n\
         <style>\n{STYLE}</style></head>\n<body><main>\n",
        Esc(&title)
    );
    header(&mut page, run);
    cards(&mut page, run);
    verdict(&mut page, run, outcomes);
    let columns = heat::columns(&run.slices);
    let charts = [spectrum::chart(run, &percents), heat::chart(run, &columns), rates::chart(run, &columns)];
    charts.into_iter().flatten().for_each(|chart| page += &chart.render());
    latencies(&mut page, run, &percents);
    errors(&mut page, run);
    kinds(&mut page, run);
    client(&mut page, run);
    page += "<div class=\"two\">\n";
    facts(&mut page, "Settings", &settings_rows(&run.settings));
    facts(&mut page, "Host during the run", &host_rows(run));
    page += "</div>\n";
    facts(&mut page, "Provenance", &provenance_rows(&run.provenance));
    let _ =
        write!(page, "<footer>{}</footer>\n</main></body></html>\n", Esc(&shortened(&run.provenance.tool)));
    page
}

fn shortened(text: &str) -> String {
    let mut len = 0;
    for (at, c) in text.char_indices() {
        // No reference is longer than `&quot;`.
        len += if c.is_ascii_alphanumeric() { 1 } else { 6 };
        if len > WORD_LEN_MAX {
            return format!("{}…", &text[..at]);
        }
    }
    text.into()
}

fn level(of: Level) -> (&'static str, &'static str, &'static str) {
    match of {
        Level::Valid => ("valid", "VALID", "Nothing speaks against this run."),
        Level::Suspect => ("suspect", "SUSPECT", "Something may have bent this run: read the reasons."),
        Level::Invalid => ("invalid", "INVALID", "This run does not measure what it was to measure."),
    }
}

fn header(page: &mut String, run: &Run) {
    let (class, word, _) = level(run.verdict.level);
    let _ = write!(
        page,
        "<header><p class=\"brand\">loadgen</p><h1>{}</h1><p>{}, {}</p><p class=\"when\">{}</p>\
         <p class=\"badge {class}\">{word}</p></header>",
        Esc(&shortened(&target(&run.settings))),
        Esc(&shortened(&traffic(&run.settings))),
        Esc(&shape(run)),
        utc(run.provenance.started_unix_ms)
    );
}

/// The figures one looks for first.
fn cards(page: &mut String, run: &Run) {
    page.push_str("<div class=\"cards\">");
    let mut card = |name: &str, figure: String, below: String, class: &str| {
        let _ = write!(
            page,
            "<div class=\"card{class}\"><p class=\"name\">{name}</p><p class=\"figure\">{}</p>\
             <p class=\"below\">{}</p></div>",
            Esc(&figure),
            Esc(&below)
        );
    };
    let total = &run.total;
    let below = match run.offered() {
        Some(offered) => format!("{} of {} offered", ratio(run.rate(), offered), rate(offered)),
        None => format!("{}/s received", bytes(run.bytes_in_rate())),
    };
    card("Rate", rate(run.rate()), below, "");
    let service = |percent: f64| match run.settings.traffic {
        Loop::Open { .. } => format!("service {}", value_or_dash(total.service.percentile(percent))),
        Loop::Closed { .. } => String::new(),
    };
    for percent in [50.0, 99.0, 99.9, 100.0] {
        let name = if percent < 100.0 { percentile_name(percent) } else { "Max".into() };
        let seen = total.response.percentile(percent);
        let class = if seen.is_some_and(Value::is_bound) { " bound" } else { "" };
        card(&name, value_or_dash(seen), service(percent), class);
    }
    let errors = total.errors.total();
    let class = if errors > 0 { " bad" } else { "" };
    let share = if errors > 0 { percent(total.error_share()) } else { "none".into() };
    card("Errors", share, format!("{} of {}", count(errors), count(total.response.count())), class);
    page.push_str("</div>\n");
}

fn verdict(page: &mut String, run: &Run, outcomes: &[Outcome]) {
    let (class, word, text) = level(run.verdict.level);
    let _ = write!(page, "<section class=\"verdict {class}\"><h2>{word}</h2><p>{text}</p>");
    if !run.verdict.reasons.is_empty() {
        page.push_str("<ul>");
        for reason in run.verdict.reasons.iter().take(ROWS_MAX) {
            let (class, word, _) = level(reason.level);
            let word = if reason.level == Level::Valid { "note".into() } else { word.to_lowercase() };
            let _ = write!(
                page,
                "<li><span class=\"tag {class}\">{word}</span> {} <code>{}</code></li>",
                Esc(&shortened(&reason.text)),
                Esc(&shortened(&reason.code))
            );
        }
        page.push_str("</ul>");
    }
    if !outcomes.is_empty() {
        page.push_str(
            "<table class=\"slo\"><thead><tr><th>objective</th><th>seen</th><th>met</th></tr></thead><tbody>",
        );
        for outcome in outcomes.iter().take(ROWS_MAX) {
            let (class, word) = if outcome.met { ("valid", "met") } else { ("invalid", "missed") };
            let _ = write!(
                page,
                "<tr><td>{}</td><td>{}</td><td><span class=\"tag {class}\">{word}</span></td></tr>",
                Esc(&shortened(&outcome.term)),
                Esc(&shortened(&outcome.seen))
            );
        }
        page.push_str("</tbody></table>");
    }
    page.push_str("</section>\n");
}

/// A table of figures with a title; cells are escaped. `count` is how many rows there are, shown or not.
fn table(page: &mut String, title: &str, about: &str, heads: &[&str], rows: &[Vec<String>], count: usize) {
    let _ = write!(page, "<section><h2>{title}</h2>");
    if !about.is_empty() {
        let _ = write!(page, "<p>{}</p>", Esc(about));
    }
    page.push_str("<div class=\"wide\"><table><thead><tr>");
    heads.iter().for_each(|head| {
        let _ = write!(page, "<th>{}</th>", Esc(head));
    });
    page.push_str("</tr></thead><tbody>");
    for row in rows {
        page.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let class = if cell.starts_with(">=") { " class=\"bound\"" } else { "" };
            let name = if at == 0 { "th" } else { "td" };
            let _ = write!(page, "<{name}{class}>{}</{name}>", Esc(&shortened(cell)));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
    if count > rows.len() {
        let _ = write!(page, "<p>And {} more.</p>", count - rows.len());
    }
    page.push_str("</section>\n");
}

fn latencies(page: &mut String, run: &Run, percents: &[f64]) {
    let total = &run.total;
    let mut kinds: Vec<(&str, &Latency)> = vec![
        ("response", &total.response),
        ("service", &total.service),
        ("send lag", &total.send_lag),
        ("own lag", &total.own_lag),
        ("connect", &total.connect),
    ];
    kinds.retain(|(_, of)| !of.is_empty());
    let heads: Vec<&str> = std::iter::once("").chain(kinds.iter().map(|(name, _)| *name)).collect();
    let row = |name: String, of: &dyn Fn(&Latency) -> Option<Value>| -> Vec<String> {
        std::iter::once(name).chain(kinds.iter().map(|(_, latency)| value_or_dash(of(latency)))).collect()
    };
    let mut rows = vec![row("min".into(), &|of| of.min_ns().map(Value::Exact))];
    rows.extend(percents.iter().map(|percent| row(percentile_name(*percent), &|of| of.percentile(*percent))));
    rows.push(row("max".into(), &Latency::max));
    rows.push(row("mean".into(), &Latency::mean));
    let numbers = |name: &str, of: fn(&Latency) -> u64| -> Vec<String> {
        std::iter::once(name.into()).chain(kinds.iter().map(|(_, latency)| count(of(latency)))).collect()
    };
    rows.push(numbers("count", Latency::count));
    if kinds.iter().any(|(_, of)| of.bounds_count() > 0) {
        rows.push(numbers("lower bounds", Latency::bounds_count));
    }
    let mut about = String::from(
        "Response time counts from when a request was due, service time from when it was sent; send lag is \
         between the two, and own lag the part of it that is the generator's.",
    );
    if let Some(good) = good_only(run) {
        let at = |percent: f64| duration(good.value_at_quantile(percent / 100.0));
        let (p50, p99, max) = (at(50.0), at(99.0), duration(good.max()));
        about += &format!(" Good answers alone ({}): P50 {p50}, P99 {p99}, max {max}.", count(good.len()));
    }
    table(page, "Latency", &about, &heads, &rows, rows.len());
}

fn errors(page: &mut String, run: &Run) {
    let all = run.total.response.count().max(1);
    let names = ErrorKind::ALL.map(ErrorKind::name);
    let rows: Vec<Vec<String>> = run
        .total
        .errors
        .iter()
        .map(|(name, text, number)| {
            let share = if names.contains(&name) { percent(number as f64 / all as f64) } else { "-".into() };
            vec![text.into(), count(number), share]
        })
        .collect();
    if !rows.is_empty() {
        table(page, "Errors", "", &["kind", "count", "of all requests"], &rows, rows.len());
    }
}

fn kinds(page: &mut String, run: &Run) {
    if run.total.kinds.len() < 2 {
        return;
    }
    let row = |(index, kind): (usize, &crate::record::KindTally)| {
        let at = |percent| value_or_dash(kind.response.percentile(percent));
        vec![
            kind_name(&run.settings, index),
            count(kind.response.count()),
            count(kind.answered),
            count(kind.failed),
            at(50.0),
            at(90.0),
            at(99.0),
            at(99.9),
            at(100.0),
        ]
    };
    let rows: Vec<Vec<String>> = run.total.kinds.iter().enumerate().take(ROWS_MAX).map(row).collect();
    let heads = ["request", "count", "answered", "in error", "P50", "P90", "P99", "P99.9", "max"];
    table(page, "By request", "", &heads, &rows, run.total.kinds.len());
}

fn client(page: &mut String, run: &Run) {
    let Some(cost) = client_cost(run) else { return };
    let row = |(at, worker): (usize, &crate::model::WorkerUse)| {
        let share = |ns: u64| if worker.wall_ns == 0 { 0.0 } else { ns as f64 / worker.wall_ns as f64 };
        vec![
            format!("{at}"),
            worker.cpu.map_or_else(|| "not pinned".into(), |cpu| cpu.to_string()),
            percent(busy_share(worker)),
            percent(share(worker.spin_ns)),
            percent(share(worker.run_delay_ns)),
            duration(worker.hiccup_max_ns),
            count(worker.enters),
            count(worker.cq_overflows),
            count(worker.no_buffers),
        ]
    };
    let rows: Vec<Vec<String>> = run.workers.iter().enumerate().take(ROWS_MAX).map(row).collect();
    let heads = [
        "worker",
        "CPU",
        "busy",
        "polling",
        "waiting for a CPU",
        "longest hiccup",
        "system calls",
        "CQ overflows",
        "no buffer",
    ];
    table(page, "What the client took", &cost, &heads, &rows, run.workers.len());
}

fn facts(page: &mut String, title: &str, rows: &[(&'static str, String)]) {
    let _ = write!(page, "<section><h2>{title}</h2><dl>");
    for (name, value) in rows.iter().take(ROWS_MAX) {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", Esc(&shortened(value)));
    }
    page.push_str("</dl>");
    if rows.len() > ROWS_MAX {
        let _ = write!(page, "<p>And {} more.</p>", rows.len() - ROWS_MAX);
    }
    page.push_str("</section>\n");
}
