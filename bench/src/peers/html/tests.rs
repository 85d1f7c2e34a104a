//! The page as a browser gets it: whole, harmless, and saying what the report says.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::peers::model::{Row, Sample, Target};

/// A page taken apart by the rules of well-formed XML (but for the first line).
#[derive(Debug, Default, PartialEq)]
struct Parsed {
    tags: Vec<String>,
    /// Name and value of all attributes.
    attributes: Vec<(String, String)>,
    text: String,
}

/// An `Err` says what is not well formed, or what a browser would read otherwise: an element that HTML does
/// not close by a slash, or a block in a paragraph.
fn parse(page: &str) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").ok_or("no document type")?;
    while let Some((text, after)) = rest.split_once('<') {
        // The style sheet is ours, and holds what text may not.
        if text.contains('>') && open.last() != Some(&"style") {
            return Err(format!("a lone > in {text:?}"));
        }
        parsed.text += &unescape(text)?;
        let (tag, after) = after.split_once('>').ok_or("a tag that is not closed")?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes nothing"));
            }
            continue;
        }
        let is_empty = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("no name of an element: {name:?}"));
        }
        while !attributes.trim().is_empty() {
            let (key, after) =
                attributes.split_once("=\"").ok_or_else(|| format!("attributes {attributes:?}"))?;
            let (value, after) = after.split_once('"').ok_or("a quote that is not closed")?;
            if !key.trim().chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return Err(format!("no name of an attribute: {key:?}"));
            }
            parsed.attributes.push((key.trim().into(), unescape(value)?));
            attributes = after;
        }
        let is_void = ["meta", "br", "wbr"].contains(&name);
        if is_void != is_empty && !open.contains(&"svg") {
            return Err(format!("<{tag}> is read otherwise by a browser"));
        }
        let is_block = ["p", "ul", "div", "table", "section", "figure", "dl", "h2"].contains(&name);
        if is_block && open.contains(&"p") {
            return Err(format!("<{name}> in a paragraph"));
        }
        parsed.tags.push(name.into());
        if !is_empty {
            open.push(name);
        }
    }
    if !open.is_empty() {
        return Err(format!("never closed: {open:?}"));
    }
    Ok(parsed)
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        let (name, after) = after.split_once(';').ok_or_else(|| format!("a lone & in {text:?}"))?;
        let c = match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            other => return Err(format!("a reference that XML does not know: {other}")),
        };
        out += before;
        out.push(c);
        rest = after;
    }
    Ok(out + rest)
}

/// Puts `word` wherever words come from outside, and keeps who is the base.
fn with(report: &mut Report, word: &str) {
    let machine = &mut report.machine;
    for field in [&mut machine.cpu, &mut machine.kernel, &mut machine.tcp, &mut machine.commit] {
        *field = word.into();
    }
    (machine.date, machine.command) = (word.into(), word.into());
    let name = |name: &str| if name == figures::BASE { name.into() } else { format!("{name}{word}") };
    for subject in &mut report.subjects {
        (subject.name, subject.what) = (name(&subject.name), word.into());
        subject.absent = subject.absent.as_ref().map(|_| word.into());
    }
    for scenario in &mut report.scenarios {
        (scenario.id, scenario.title) = (format!("{}{word}", scenario.id), word.into());
    }
    for row in &mut report.rows {
        (row.subject, row.scenario) = (name(&row.subject), format!("{}{word}", row.scenario));
        row.absent = row.absent.as_ref().map(|_| word.into());
    }
    report.targets.iter_mut().for_each(|target| target.text = word.into());
    report.notes.iter_mut().for_each(|note| *note = word.into());
}

/// The part of the page that is the load with this index.
fn load(page: &str, at: usize) -> &str {
    let begin = page.find(&format!("<section id=\"load{at}\"")).unwrap();
    &page[begin..begin + page[begin..].find("</section>").unwrap()]
}

#[test]
fn the_made_up_run_is_a_page_to_look_at() {
    let html = page(&sample::full());
    parse(&html).unwrap();
    assert!(html.len() < 1 << 20, "{} bytes", html.len());
    // Beside the test programs, in target/tmp.
    let program = std::env::current_exe().unwrap();
    let dir = program.ancestors().nth(3).unwrap().join("tmp");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("peers.html"), html).unwrap();
}

#[test]
fn a_page_loads_nothing_and_runs_nothing() {
    let html = page(&sample::full());
    let parsed = parse(&html).unwrap();
    for tag in ["script", "link", "img", "iframe", "object", "use", "image", "form", "base"] {
        assert!(!parsed.tags.iter().any(|found| found == tag), "{tag}");
    }
    for (name, value) in &parsed.attributes {
        assert!(!name.starts_with("on") && name != "src", "{name}={value}");
        assert!(name != "href" || value.starts_with("#load"), "{value}");
    }
    assert!(!html.contains("://") && !html.contains("url(") && !html.contains("@import"));
}

#[test]
fn ids_are_unique_and_links_lead_to_one() {
    let parsed = parse(&page(&sample::full())).unwrap();
    let values = |name: &str| -> Vec<String> {
        parsed.attributes.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    };
    let mut ids = values("id");
    for target in values("href").iter().map(|href| &href[1..]) {
        assert!(ids.iter().any(|id| id == target), "{target}");
    }
    for id in values("aria-labelledby").iter().flat_map(|ids| ids.split(' ')) {
        assert!(ids.iter().any(|known| known == id), "{id}");
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn words_from_outside_never_become_markup() {
    let mut plain = sample::full();
    with(&mut plain, "-plain");
    let plain = parse(&page(&plain)).unwrap();
    for word in [
        "<script>alert(1)</script>",
        "\" onload=\"x",
        "' onload='x",
        "-->]]></style></title>",
        "&#x3c;b&lt;",
        "\u{0}\u{1b}[31m\u{202e}\u{2028}",
        "grün/√",
    ] {
        let mut hostile = sample::full();
        // A dash in front, as in the plain one: names are broken at dashes.
        with(&mut hostile, &format!("-{}", word.replace('-', "_")));
        let html = page(&hostile);
        let parsed = parse(&html).unwrap();
        assert_eq!(parsed.tags, plain.tags, "{word:?}");
        let names = |of: &Parsed| of.attributes.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&parsed), names(&plain), "{word:?}");
        assert!(parsed.text.chars().all(|c| c == '\n' || !c.is_control()), "{word:?}");
        if word.starts_with("<script>") {
            assert!(parsed.text.contains("hyper-<script>alert(1)</script>") && !html.contains("<script"));
        }
    }
}

#[test]
fn an_empty_report_is_a_whole_page() {
    let html = page(&sample::empty());
    let parsed = parse(&html).unwrap();
    assert!(parsed.text.contains("There are no figures to compare.") && !html.contains("<svg"));
    assert!(parsed.text.contains("Corelane has no figures in this run"));
}

#[test]
fn a_load_without_corelane_has_figures_and_no_ratios() {
    let mut report = sample::full();
    report.rows.retain(|row| row.subject != "corelane" || row.scenario != "json-64");
    let html = page(&report);
    parse(&html).unwrap();
    let section = load(&html, 5);
    assert!(section.contains("<svg") && section.contains("corelane</b>: nothing was measured"));
    assert!(!section.contains(" x</span>") && !section.contains("<line class=\"base\""));
    assert!(!html.contains("href=\"#load5\""), "the overview has only loads with ratios");
}

#[test]
fn a_report_without_corelane_says_so_and_still_ranks() {
    let mut report = sample::full();
    report.subjects.retain(|subject| subject.name != "corelane");
    report.rows.retain(|row| row.subject != "corelane");
    let parsed = parse(&page(&report)).unwrap();
    assert!(parsed.text.contains("so there are no ratios"));
    assert!(parsed.text.contains("Lowest of the servers: ringline in 10 ("));
    assert!(!parsed.text.contains("Ratios to Corelane: "));
}

#[test]
fn every_subject_has_its_row_in_every_load_and_every_absence_its_reason() {
    let report = sample::full();
    let html = page(&report);
    for (at, scenario) in report.scenarios.iter().enumerate() {
        let section = load(&html, at);
        for subject in &report.subjects {
            let row = format!("<th scope=\"row\">{}</th>", subject.name);
            assert_eq!(section.matches(&row).count(), 1, "{} at {}", subject.name, scenario.id);
        }
        assert!(section.contains("haproxy</b>: haproxy is not installed: apt-get install haproxy"));
    }
    let of_may = "may_minihttp</b>: stopped answering after 3.2 s: 64 of 64 connections timed out";
    assert!(load(&html, 4).contains(of_may) && !load(&html, 3).contains(of_may));
    assert!(load(&html, 6).contains("limit-uring, limit-epoll</b>: a limit loop reads no bodies"));
}

#[test]
fn a_drawing_has_a_line_for_each_subject_with_figures_and_a_dot_for_each_round() {
    let report = sample::full();
    let html = page(&report);
    let of = |at| {
        let section = load(&html, at);
        ["<rect class=\"hit\"", "<circle class=\"round\" cx", "<g class=\"limit\"><line"]
            .map(|part| section.matches(part).count())
    };
    // 14 without corelane-glommio and haproxy; then without the loops; three marks each at a given rate.
    assert_eq!(of(1), [12, 60, 2]);
    assert_eq!(of(6), [10, 50, 0]);
    assert_eq!(of(12), [12, 180, 2]);
    let open = load(&html, 12);
    assert!(
        open.contains("latency, us, logarithmic; figures on the right: P99") && open.contains("P99.9 us ")
    );
    assert!(load(&html, 9).contains("server CPU time a GiB, s/GiB"));
    assert!(load(&html, 10).contains("resident memory a connection at rest, B/connection"));
}

#[test]
fn targets_say_met_missed_or_not_judged() {
    let mut report = sample::full();
    let html = page(&report);
    for word in [">met<", ">MISSED<", ">not judged<", "2 targets MISSED", "1.06", "2 MISSED, 1 not judged"] {
        assert!(html.contains(word), "{word}");
    }
    report.targets.truncate(0);
    assert!(!page(&report).contains("id=\"targets\""));
    let met = Target { text: "t".into(), found: Some(1.0), bound: 1.0, met: Some(true) };
    report.targets.push(met);
    assert!(page(&report).contains("<p class=\"badge valid\">all targets met</p>"));
}

/// A report of one closed load with these medians, one subject each.
fn ranked(medians: &[(&str, f64)]) -> Report {
    let mut report = sample::empty();
    report.scenarios.push(sample::scenario("s", Kind::Closed));
    for (name, cpu) in medians {
        report.subjects.push(sample::subject(name, name.starts_with("limit")));
        let sample = |cpu_us| Sample { cpu_us: Some(cpu_us), ..Sample::default() };
        report.rows.push(sample::row(name, "s", vec![sample(cpu * 0.99), sample(*cpu), sample(cpu * 1.01)]));
    }
    report
}

#[test]
fn the_summary_names_the_lowest_server_whoever_it_is() {
    let text = |medians: &[(&str, f64)]| parse(&page(&ranked(medians))).unwrap().text;
    let ahead = text(&[("corelane", 2.0), ("hyper", 3.0), ("limit", 1.0)]);
    assert!(ahead.contains("Lowest of the servers: corelane in 1 (s)."), "{ahead}");
    let ratios = "Ratios to Corelane: other servers 1.50 (hyper, s); hand-written loops 0.500 (limit, s).";
    assert!(ahead.contains(ratios), "{ahead}");
    let behind = text(&[("corelane", 2.0), ("hyper", 1.5), ("nginx", 5.0)]);
    assert!(behind.contains("Lowest of the servers: hyper in 1 (s 0.750)."), "{behind}");
    assert!(behind.contains("other servers 0.750 (hyper, s) to 2.50 (nginx, s)."));
}

#[test]
fn rounds_that_disagree_are_marked() {
    let mut report = ranked(&[("corelane", 2.0), ("hyper", 2.0)]);
    report.rows[1].samples[0].cpu_us = Some(2.5);
    report.rows[1].samples[1].cpu_us = Some(1.9);
    let html = page(&report);
    assert!(html.contains(">~1.01</td>") && html.contains("0.950..1.26"), "{html}");
    assert!(html.contains("No difference was seen in 1 of 1 comparisons with a server"));
}

#[test]
fn wrong_answers_are_told_where_they_were() {
    let mut report = ranked(&[("corelane", 2.0), ("hyper", 3.0)]);
    report.rows[1].samples[2].errors = 1_234;
    let html = page(&report);
    assert!(load(&html, 0).contains("<b>hyper</b>: 1,234 answers wrong, late or missing"));
    assert_eq!(html.matches("answers wrong, late or missing").count(), 1);
}

#[test]
fn odd_numbers_do_not_break_a_page() {
    let mut report = ranked(&[("corelane", 2.0), ("hyper", 3.0)]);
    for (odd, rate) in [(f64::NAN, 0.0), (f64::INFINITY, -1.0), (0.0, f64::MAX), (-5.0, f64::MIN_POSITIVE)] {
        for row in 0..2 {
            for kind in [Kind::Closed, Kind::Open, Kind::Download, Kind::Idle] {
                let samples = vec![odd; 3].into_iter().map(|odd| Sample {
                    cpu_us: Some(odd),
                    p99_us: Some(odd),
                    p999_us: Some(rate),
                    cpu_s_per_gib: Some(odd),
                    idle_bytes: Some(odd),
                    rate: Some(rate),
                    ..Sample::default()
                });
                report.scenarios[0].kind = kind;
                report.scenarios[0].rate = Some(odd);
                report.rows[row] = Row { samples: samples.collect(), ..report.rows[row].clone() };
                let html = page(&report);
                parse(&html).unwrap();
                assert!(!html.contains("NaN") && !html.contains("inf%"), "{odd} {kind:?}");
            }
        }
    }
}
