//! The page as a browser gets it: whole, harmless, and saying what the run says.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::Reason;
use crate::report::sample;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// A page taken apart by the rules of well-formed XML (but for the first line): the names of its elements in
/// order, its attribute values, and its text. An `Err` says what is not well formed.
#[derive(Debug, Default, PartialEq)]
struct Parsed {
    tags: Vec<String>,
    values: Vec<String>,
    text: String,
}

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
            parsed.values.push(unescape(value)?);
            attributes = after;
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

fn page(run: &Run) -> String {
    render(run, &sample::outcomes(true), &[])
}

#[test]
fn every_page_is_well_formed_and_loads_nothing() {
    for run in [sample::calm(50.0), sample::stalled(50.0), sample::failing(50.0)] {
        let html = page(&run);
        let parsed = parse(&html).unwrap();
        for tag in ["script", "link", "img", "iframe", "object", "a", "use", "image", "form"] {
            assert!(!parsed.tags.iter().any(|found| found == tag), "{tag}");
        }
        assert!(!html.contains("url(") && !html.contains("@import"));
        let mut rest = html.clone();
        for known in [&run.settings.url, &run.provenance.command] {
            rest = rest.replace(&Esc(known).to_string(), "");
        }
        assert!(!rest.contains("http:") && !rest.contains("https:"), "an address that is not the user's");
    }
}

#[test]
fn a_page_has_three_charts_tables_verdict_and_provenance() {
    let run = sample::failing(300.0);
    let html = page(&run);
    for wanted in [
        "id=\"spectrum\"",
        "id=\"heat\"",
        "id=\"rates\"",
        "SUSPECT",
        "same_core",
        "&gt;= 5.0",
        "timeouts",
        "By request",
        "What the client took",
        "Settings",
        "Provenance",
        "5f0c6e2a91d3",
        "prefers-color-scheme: dark",
        "@media print",
        "Mitigation: Enhanced IBRS",
        "p99.9 &lt;= 50 ms",
        "missed",
    ] {
        assert!(html.contains(wanted), "{wanted}");
    }
    let calm = page(&sample::calm(300.0));
    assert!(!calm.contains("<h2>Errors") && !calm.contains("By request") && calm.contains("none"));
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    assert_eq!(
        page(&sample::first_slices(sample::stalled(50.0), 3)),
        page(&sample::first_slices(sample::stalled(50.0), 3))
    );
}

#[test]
fn words_and_rows_without_end_take_less_than_500_kib() {
    let mut run = sample::first_slices(sample::failing(50.0), 2);
    let long = "\"".repeat(3_000);
    with(&mut run, &long);
    run.provenance.mitigations = vec![long.clone(); 100];
    run.workers = vec![run.workers[0]; 1_000];
    run.settings.requests = vec![run.settings.requests[0].clone(); 60];
    run.total.kinds = vec![run.total.kinds[0].clone(); 60];
    run.verdict.reasons = vec![Reason { level: Level::Suspect, code: long.clone(), text: long.clone() }; 60];
    let outcomes = vec![Outcome { term: long.clone(), seen: long, met: false }; 60];
    let html = render(&run, &outcomes, &[]);
    assert!(html.len() < 500 << 10, "{} bytes", html.len());
    parse(&html).unwrap();
    assert!(html.contains("And 960 more."));
}

#[test]
fn a_word_is_cut_one_past_its_longest() {
    assert_eq!(shortened(&"x".repeat(WORD_LEN_MAX)).len(), WORD_LEN_MAX);
    assert_eq!(shortened(&"x".repeat(WORD_LEN_MAX + 1)), "x".repeat(WORD_LEN_MAX) + "…");
}

#[test]
fn a_run_in_which_nothing_happened_is_a_page_without_charts() {
    let mut run = sample::calm(10.0);
    run.total.clear();
    run.slices.clear();
    run.workers.clear();
    run.measured_ns = 0;
    let html = page(&run);
    parse(&html).unwrap();
    assert!(!html.contains("<svg"));
}

/// Puts `word` wherever words come from outside.
fn with(run: &mut Run, word: &str) {
    run.settings.url = word.into();
    run.settings.host = word.into();
    for request in &mut run.settings.requests {
        (request.name, request.path, request.method) = (word.into(), word.into(), word.into());
        request.headers = vec![(word.into(), word.into())];
    }
    let of = &mut run.provenance;
    for field in [&mut of.tool, &mut of.command, &mut of.kernel, &mut of.cpu_model, &mut of.governor] {
        *field = word.into();
    }
    for field in [&mut of.clocksource, &mut of.congestion_control, &mut of.host_id] {
        *field = word.into();
    }
    (of.commit, of.tuning_digest) = (Some(word.into()), Some(word.into()));
    of.mitigations = vec![word.into(); 2];
    for reason in &mut run.verdict.reasons {
        (reason.code, reason.text) = (word.into(), word.into());
    }
}

#[test]
fn words_from_outside_never_become_markup() {
    let mut run = sample::first_slices(sample::failing(20.0), 1);
    run.total.clear();
    run.total.response.record(1_000);
    let outcome = |word: &str| vec![Outcome { term: word.into(), seen: word.into(), met: true }];
    with(&mut run, "plain");
    let plain = parse(&render(&run, &outcome("plain"), &[])).unwrap();
    let run = std::cell::RefCell::new(run);
    let words = "(\\PC|[<>&\"'\u{0}-\u{1f}]|</?script>|]]>|<!--|&#x3c;|\" onload=\"x){1,12}";
    let config = ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() };
    let tried = TestRunner::new(config).run(&words.prop_map(|word| word), |word| {
        let mut run = run.borrow_mut();
        with(&mut run, &word);
        let hostile = parse(&render(&run, &outcome(&word), &[])).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&plain.tags, &hostile.tags);
        let harmless = crate::report::format::harmless(&word);
        prop_assert!(hostile.text.contains(&shortened(&harmless)), "{:?} is not in the text", harmless);
        prop_assert!(hostile.text.chars().all(|c| c == '\n' || !c.is_control()));
        Ok(())
    });
    tried.unwrap();
}
