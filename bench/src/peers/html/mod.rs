//! One HTML page that shows a comparison of peers: to pass on, to keep, to print. It needs no other file, no
//! network and no script.
//!
//! # Rules
//! 1. Nothing is loaded, and no address stands in it but those that came from outside, as text.
//! 2. What is said in words is made of the figures, so that it holds whatever they are (`summary`).
//! 3. What a colour says is said by a word, a sign or a shape, too. Both colour schemes are in the style
//!    sheet.
//! 4. What is missing is shown as missing, with its reason.
//!
//! Not here: numbers for machines (the JSON of the report), the table on a terminal.

mod axis;
mod chart;
mod figures;
mod heat;
mod markup;
#[cfg(test)]
mod sample;
mod summary;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use self::figures::Load;
use self::markup::{Esc, compact, plural, thousands, three};
use crate::peers::model::{Kind, Report};

const STYLE: &str = include_str!("style.css");

/// What is measured and what it cannot mean: term and explanation.
const GLOSSARY: [(&str, &str); 11] = [
    (
        "CPU a request",
        "CPU time of the server divided by the answers of the window: all threads, system calls and the \
         network work that runs in its context. It is what one core is spent on, and hardly depends on how \
         fast the client is. It does depend on how many requests one turn finds: a faster client makes \
         larger batches.",
    ),
    (
        "ratio",
        "The quotient of two medians; the range beside it is that of the quotients within each round. Where \
         it has 1 within it no difference was seen, and the ratio bears a ~.",
    ),
    (
        "limit",
        "A hand-written loop that does the work and has no other feature of a server. It shows what one core \
         could do, and is never ranked.",
    ),
    (
        "as fast as it goes",
        "A closed loop: the next request is sent when an answer has come. Its latencies are queueing at \
         saturation, not what a user would see.",
    ),
    (
        "at a given rate",
        "An open loop: requests are due at a rate whether answers come or not, and latency counts from when \
         a request was due.",
    ),
    ("P50, P99, P99.9", "The latency that half, 99 % and 99.9 % of the requests did not exceed."),
    (
        "busy",
        "Share of its CPU that the server used. Far below 100 % in a closed loop the client was the \
         bottleneck, and the rate says more about it than about the server.",
    ),
    (
        "others",
        "The largest share of either CPU that neither server nor client used, in any round. Above 5 % it is \
         set in red: caches and clock were shared, so repeat on a quiet machine.",
    ),
    (
        "syscalls",
        "System calls of the server, counted in a run of their own under strace, which slows the server \
         down: batches are larger then.",
    ),
    (
        "not a network",
        "Client and server are on one machine, over loopback: no driver, no interrupts, and what the client \
         sends is paid on its CPU.",
    ),
    (
        "not a constant",
        "Figures of other machines, kernels or congestion controls cannot be compared with these. A figure \
         without the lines under \u{201c}Machine and run\u{201d} is none.",
    ),
];

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let loads = figures::loads(report);
    let mut page = String::with_capacity(256 << 10);
    let machine = &report.machine;
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/><title>Corelane and its peers: {}, {}</title>\n\
         <style>\n{STYLE}</style></head>\n<body><main>\n",
        Esc(&machine.commit),
        Esc(&machine.date)
    );
    let _ = writeln!(
        page,
        "<header><p class=\"brand\">bench peers</p><h1>Corelane and its peers</h1>\
         <p>commit <code>{}</code>, {}</p><p class=\"when\">{}</p>{}</header>",
        Esc(&machine.commit),
        Esc(&machine.date),
        Esc(&machine.cpu),
        badge(report)
    );
    page += &summary::cards(report, &loads);
    page += &summary::section(report, &loads);
    notes(&mut page, report);
    page += &tables::targets(report);
    match heat::section(report, &loads) {
        Some(section) => page += &section,
        None => page.push_str(
            "<section id=\"overview\"><h2>Overview</h2><p>Corelane has no figures in this run, so there are \
             no ratios.</p></section>\n",
        ),
    }
    loads.iter().enumerate().for_each(|(at, load)| scenario(&mut page, load, at));
    page += &tables::subjects(report);
    facts(&mut page, report, summary::rounds(&loads));
    glossary(&mut page);
    let _ = write!(
        page,
        "<footer>bench peers, format {}, commit {}</footer>\n</main></body></html>\n",
        report.schema,
        Esc(&machine.commit)
    );
    page
}

/// The worst of the targets, in a word.
fn badge(report: &Report) -> String {
    let worst = match &report.targets[..] {
        [] => return String::new(),
        all if all.iter().any(|target| target.met == Some(false)) => Some(false),
        all if all.iter().any(|target| target.met.is_none()) => None,
        _ => Some(true),
    };
    let missed = report.targets.iter().filter(|target| target.met == Some(false)).count();
    let text = match worst {
        Some(true) => "all targets met".into(),
        Some(false) => format!("{} MISSED", plural(missed, "target")),
        None => "not all judged".into(),
    };
    format!("<p class=\"badge {}\">{text}</p>", tables::result(worst).0)
}

/// What a reader must know; nothing if there is nothing.
fn notes(page: &mut String, report: &Report) {
    let strays = figures::strays(report);
    if report.notes.is_empty() && strays == 0 {
        return;
    }
    page.push_str("<section id=\"notes\" class=\"notes\"><h2>Notes</h2><ul>");
    for note in &report.notes {
        let _ = write!(page, "<li>{}</li>", Esc(note));
    }
    if strays > 0 {
        let rows = plural(strays, "row");
        let _ = write!(
            page,
            "<li>{rows} of the report of a subject or load that it does not list: not shown.</li>"
        );
    }
    page.push_str("</ul></section>\n");
}

/// Chart, who is missing, and table of one load.
fn scenario(page: &mut String, load: &Load<'_>, at: usize) {
    let of = load.scenario;
    let mut about = vec![match of.connections {
        1 => "1 connection".into(),
        many => format!("{} connections", thousands(f64::from(many))),
    }];
    if of.pipeline > 1 {
        about.push(format!("{} requests under way on each", of.pipeline));
    }
    about.push(match (of.kind, of.rate) {
        (Kind::Open, Some(rate)) => format!("{} requests/s offered", compact(rate)),
        (Kind::Open, None) => "at a given rate".into(),
        (Kind::Closed | Kind::Download, _) => "as fast as it goes".into(),
        (Kind::Idle, _) => "at rest".into(),
    });
    let _ = writeln!(
        page,
        "<section id=\"load{at}\" class=\"load\"><h2>{} <code>{}</code></h2><p>{}.</p>",
        Esc(&of.title),
        Esc(&of.id),
        about.join(", ")
    );
    page.push_str(&chart::chart(load, at));
    page.push_str(&tables::troubles(load));
    if !load.cells.is_empty() {
        page.push_str(&tables::figures(load));
    }
    page.push_str("</section>\n");
}

/// Where, when and how.
fn facts(page: &mut String, report: &Report, rounds: usize) {
    let machine = &report.machine;
    let window = summary::window(report);
    let quick = if report.quick { " (quick)" } else { "" };
    let rows = [
        ("CPU", machine.cpu.clone()),
        ("kernel", machine.kernel.clone()),
        ("TCP", machine.tcp.clone()),
        ("commit", machine.commit.clone()),
        ("start", machine.date.clone()),
        ("command", machine.command.clone()),
        ("server on", format!("CPU {}", report.server_cpu)),
        ("client on", format!("CPU {}", report.client_cpu)),
        ("windows", format!("{window}, {}, interleaved{quick}", plural(rounds, "round"))),
        ("took", format!("{} s", three(report.elapsed_s))),
    ];
    page.push_str("<section id=\"machine\"><h2>Machine and run</h2><dl>");
    for (name, value) in rows {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", Esc(&value));
    }
    page.push_str("</dl></section>\n");
}

fn glossary(page: &mut String) {
    page.push_str("<section id=\"glossary\"><h2>What is measured, and what it cannot mean</h2><dl>");
    for (name, text) in GLOSSARY {
        let _ = write!(page, "<dt>{}</dt><dd>{}</dd>", Esc(name), Esc(text));
    }
    page.push_str("</dl></section>\n");
}
