//! What the project promises of itself beside its peers, held against a report.
//!
//! # Rules
//! 1. A target is met only by figures of this run: where one is missing it is not judged.
//! 2. "Any peer" is every subject of another project; the hand-written loops are not.
//! 3. Answers that were wrong spoil both sides of a comparison: it is not judged.
//!
//! Not here: figures (`figures`), text (`table`).

use super::figures::errors;
use super::loads::VARIED;
use super::model::{Report, Sample, Target};
use super::subjects::{BASE, is_peer};

type Figure = fn(&Sample) -> Option<f64>;

const COST: Figure = |sample| sample.cpu_us;
const OF_GIB: Figure = |sample| sample.cpu_s_per_gib;

/// Seconds a quick run may take.
pub(super) const QUICK_S_MAX: f64 = 600.0;

/// All targets, judged where they can be.
pub(super) fn judge(report: &Report) -> Vec<Target> {
    let cost = |what: &str, scenario, of: &str, factor| {
        let text = format!("CPU a request {what} <= {factor:.2} x {of}");
        at_most(text, ratio(report, (BASE, scenario), (of, scenario), COST), factor)
    };
    let mut targets = vec![
        cost("at 64 connections", "plaintext-64", "limit-uring", 1.05),
        cost("at 512 connections", "plaintext-512", "limit-uring", 1.05),
        cost("pipelined x16", "pipelined-16", "limit-uring", 1.20),
        cost("pipelined x16, all different", VARIED, "limit-uring", 1.20),
        cost("at 512 connections", "plaintext-512", "hyper", 0.85),
        cost("at 512 connections", "plaintext-512", "nginx", 0.80),
        cost("pipelined x16", "pipelined-16", "hyper", 0.75),
    ];
    for (what, scenario) in [
        ("CPU a request at 64 connections", "plaintext-64"),
        ("CPU a request at 512 connections", "plaintext-512"),
        ("CPU a request pipelined x16", "pipelined-16"),
        ("CPU a request pipelined x16, all different", VARIED),
    ] {
        targets.push(to_best(report, what, BASE, scenario, COST, 1.0));
    }
    let (p50, p99, p999): (Figure, Figure, Figure) = (|s| s.p50_us, |s| s.p99_us, |s| s.p999_us);
    targets.push(to_best(report, "P50 at one connection", BASE, "plaintext-1", p50, 1.0));
    targets.push(to_best(
        report,
        "P50 at one connection, busy poll",
        "corelane-busy",
        "plaintext-1",
        p50,
        0.75,
    ));
    targets.push(to_best(report, "P99 in an open loop at 80 %", BASE, "open-80", p99, 1.0));
    targets.push(to_best(report, "P99.9 in an open loop at 80 %", BASE, "open-80", p999, 1.0));
    let idle = sound(report, BASE, "idle-10k", |sample| sample.idle_bytes);
    targets.push(at_most(
        "an idle connection of 10,000 <= 1,536 bytes of the server".to_owned(),
        idle,
        1536.0,
    ));
    for (what, scenario, factor) in [("out of memory", "blob", 0.50), ("out of a file", "file", 1.25)] {
        let text = format!("CPU a GiB {what} <= {factor:.2} x nginx's sendfile");
        targets.push(at_most(text, ratio(report, (BASE, scenario), ("nginx", scenario), OF_GIB), factor));
    }
    targets.push(at_most(
        "CPU a request with two shards <= 1.05 x one".to_owned(),
        ratio(report, ("corelane-2", "shards"), (BASE, "shards"), COST),
        1.05,
    ));
    if report.quick {
        let text = "this quick run <= 600 s".to_owned();
        targets.push(at_most(text, Some(report.elapsed_s), QUICK_S_MAX));
    }
    targets
}

fn at_most(text: String, found: Option<f64>, bound: f64) -> Target {
    Target { text, found, bound, met: found.map(|found| found <= bound) }
}

/// The median of a row whose answers were all right.
fn sound(report: &Report, subject: &str, scenario: &str, figure: Figure) -> Option<f64> {
    let row = report.row(subject, scenario)?;
    (errors(row) == 0).then(|| report.median(subject, scenario, figure)).flatten()
}

fn ratio(report: &Report, of: (&str, &str), to: (&str, &str), figure: Figure) -> Option<f64> {
    Some(sound(report, of.0, of.1, figure)? / sound(report, to.0, to.1, figure)?)
}

/// A figure of `subject` to the smallest of any peer.
fn to_best(
    report: &Report,
    what: &str,
    subject: &str,
    scenario: &str,
    figure: Figure,
    factor: f64,
) -> Target {
    let mut best: Option<(f64, &str)> = None;
    // Those that could have been the best, and cannot be told.
    let mut without = Vec::new();
    for peer in report.subjects.iter().filter(|subject| is_peer(subject)) {
        match sound(report, &peer.name, scenario, figure) {
            Some(seen) if best.is_none_or(|(least, _)| seen < least) => best = Some((seen, &peer.name)),
            Some(_) => {}
            None => without.push(peer.name.as_str()),
        }
    }
    let without =
        if without.is_empty() { String::new() } else { format!("; without {}", without.join(", ")) };
    let name = best.map_or_else(String::new, |(_, name)| format!(" ({name}{without})"));
    let text = format!("{what} <= {factor:.2} x the best peer's{name}");
    let found = best.and_then(|(best, _)| Some(sound(report, subject, scenario, figure)? / best));
    at_most(text, found, factor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::figures::tests::row;
    use super::super::table::tests::report;
    use super::*;

    fn of<'t>(targets: &'t [Target], start: &str, end: &str) -> &'t Target {
        let mut found =
            targets.iter().filter(|target| target.text.starts_with(start) && target.text.contains(end));
        found.next().unwrap_or_else(|| panic!("{start} .. {end}"))
    }

    #[test]
    fn a_target_is_the_ratio_of_medians_against_its_bound() {
        let report = report(vec![
            row("limit-uring", "plaintext-64", &[4.0, 5.0, 6.0]),
            row("corelane", "plaintext-64", &[5.0, 5.5, 7.0]),
            row("hyper", "plaintext-64", &[6.0]),
            row("nginx", "plaintext-64", &[5.4]),
        ]);
        let targets = judge(&report);
        let limit = of(&targets, "CPU a request at 64", "limit-uring");
        assert!((limit.found.unwrap() - 1.1).abs() < 1e-9);
        assert_eq!((limit.bound, limit.met), (1.05, Some(false)));
        let best = of(&targets, "CPU a request at 64", "best peer");
        assert!(best.text.ends_with("(nginx)"), "{}", best.text);
        assert_eq!(best.met, Some(false));
        assert_eq!(of(&targets, "P50 at one connection <", "").met, None, "not measured");
    }

    #[test]
    fn a_limit_loop_and_another_corelane_are_no_peers() {
        let report = report(vec![
            row("limit-epoll", "plaintext-1", &[1.0]),
            row("corelane", "plaintext-1", &[2.0]),
            row("corelane-busy", "plaintext-1", &[1.5]),
            row("hyper", "plaintext-1", &[2.0]),
        ]);
        let targets = judge(&report);
        assert_eq!(of(&targets, "P50 at one connection <", "(hyper)").met, Some(true), "not above");
        assert_eq!(of(&targets, "P50 at one connection, busy", "(hyper)").found, Some(0.75));
        assert_eq!(of(&targets, "P50 at one connection, busy", "(hyper)").met, Some(true));
    }

    #[test]
    fn wrong_answers_are_not_judged() {
        let mut wrong = row("corelane", "plaintext-64", &[1.0]);
        wrong.samples[0].errors = 1;
        let report = report(vec![wrong, row("hyper", "plaintext-64", &[2.0])]);
        assert_eq!(of(&judge(&report), "CPU a request at 64", "best peer").met, None);
    }

    #[test]
    fn a_peer_that_could_not_be_compared_is_named() {
        let mut failing = row("nginx", "plaintext-64", &[1.0]);
        failing.samples[0].errors = 1;
        let base = row("corelane", "plaintext-64", &[1.0]);
        let report = report(vec![base, row("hyper", "plaintext-64", &[2.0]), failing]);
        let targets = judge(&report);
        let best = of(&targets, "CPU a request at 64", "best peer");
        assert!(best.text.contains("(hyper; without ") && best.text.contains("nginx"), "{}", best.text);
    }

    #[test]
    fn the_length_of_a_quick_run_is_a_target() {
        let mut report = report(vec![]);
        report.quick = true;
        report.elapsed_s = 601.0;
        assert_eq!(of(&judge(&report), "this quick run", "").met, Some(false));
    }
}
