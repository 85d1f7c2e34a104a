//! The order of rounds, what is refused before anything is built, and what a report says.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, FromArgMatches};

use super::build::Built;
use super::git::Revision;
use super::report::{Compared, METHOD, Report, Side};
use super::*;
use crate::ab::summary::Sample;

fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
    let command = Options::augment_args(clap::Command::new("ab").no_binary_name(true));
    let matches = command.try_get_matches_from(arguments)?;
    Options::from_arg_matches(&matches)
}

fn refused(arguments: &[&str]) -> String {
    check(&options(&[&["a", "b"], arguments].concat()).unwrap()).unwrap_err()
}

#[test]
fn rounds_go_a_b_b_a_a_b() {
    let letters: Vec<&str> = (1..=3).flat_map(order).map(|at| LETTERS[at]).collect();
    assert_eq!(letters.concat(), "ABBAAB");
}

#[test]
fn revisions_are_two_or_none_with_clean() {
    for arguments in [&["a"][..], &[], &["a", "b", "c"], &["a", "--clean"], &["a", "b", "--max-ratio=0"]] {
        assert!(options(arguments).is_err(), "{arguments:?}");
    }
    assert!(options(&["--clean"]).unwrap().rev_a.is_none());
    let both = options(&["a", "b", "--clean"]).unwrap();
    assert_eq!((both.rev_a.as_deref(), both.rev_b.as_deref()), (Some("a"), Some("b")));
    assert!(options(&["a", "b", "--build=x", "--build-command=y {out}"]).is_err());
}

#[test]
fn too_few_rounds_are_refused_unless_forced() {
    assert!(refused(&["--rounds=2"]).contains("--force"));
    assert!(refused(&["--rounds=4", "--max-ratio=1.02"]).contains("by chance"));
    // Past the rounds: what is refused next are the CPUs.
    for enough in [&["--rounds=3"][..], &["--rounds=1", "--force"], &["--rounds=5", "--max-ratio=1.02"]] {
        let error = refused(&[enough, &["--server-cpu=1"]].concat());
        assert!(error.contains("--client-cpu"), "{error}");
    }
}

#[test]
fn a_command_without_its_placeholders_is_refused() {
    assert!(refused(&["--command=corelane --listen :{port}"]).contains("no {bin}"));
    assert!(refused(&["--command={bin}"]).contains("no {port}"));
    assert!(refused(&["--command-b={bin}"]).contains("no {port}"));
    assert!(refused(&["--build-command=make"]).contains("no {out}"));
}

#[test]
fn the_binary_is_filled_in_where_it_stands_and_may_have_blanks_in_its_path() {
    let commands = ["{bin} --at {port}".to_owned(), "env X=1 {bin} {port} {cpu}".to_owned()];
    let [a, b] = servers(&[built("/a b/c"), built("/d")], commands.each_ref()).unwrap();
    assert_eq!(a.command_at(80, 3), ["/a b/c", "--at", "80"]);
    assert_eq!(b.command_at(80, 3), ["env", "X=1", "/d", "80", "3"]);
}

fn built(path: &str) -> Built {
    let (instructions, not_counted) = (BTreeMap::new(), Vec::new());
    Built { binary: PathBuf::from(path), was_kept: false, instructions, not_counted }
}

const SCENARIO: Scenario = Scenario { connections: 64, pipeline: 1 };

fn series(letter: &str, costs: &[f64]) -> Series {
    let sample = |&cpu_us: &f64| Sample {
        cpu_us,
        client_us: 5.0,
        requests_per_s: 1e6 / cpu_us,
        latency_us_p50: None,
        latency_us_p99: None,
        busy_share: 0.99,
        others_share: 0.01,
        bad_answers: 0,
        socket_errors: 0,
    };
    let samples = costs.iter().map(sample).collect();
    Series { server: letter.to_owned(), scenario: SCENARIO, answer_len: 133, samples }
}

/// A report of one scenario in which B costs `b` where A costs about 5 us.
fn report(b: &[f64], max_ratio: Option<f64>) -> Report {
    let a: Vec<f64> = (0..b.len()).map(|n| 5.0 + 0.01 * n as f64).collect();
    let side = |name: &str, changed_files| Side {
        revision: Revision {
            name: name.to_owned(),
            commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            subject: "bench: a change".to_owned(),
            changed_files,
        },
        built: built("/x"),
        command: "{bin} {port}".to_owned(),
    };
    Report {
        schema: 1,
        machine: Machine::here(),
        sides: [side("HEAD~1", None), side(".", Some(2))],
        build: "cargo build".to_owned(),
        path: "/".to_owned(),
        server_cpu: 0,
        client_cpu: 1,
        rounds: u32::try_from(b.len()).unwrap(),
        secs: 1,
        method: METHOD,
        scenarios: vec![Compared::of(SCENARIO, [series("A", &a), series("B", b)]).unwrap()],
        notes: Vec::new(),
        max_ratio,
        passed: false,
    }
}

#[test]
fn a_report_names_both_revisions_and_judges_each_figure() {
    let mut report = report(&[4.0, 4.1, 4.2, 4.05, 4.1], None);
    report.sides[0].built.instructions.insert(1, 3420);
    report.sides[1].built.instructions.insert(1, 3078);
    report.judge(false);
    let text = report.text();
    assert!(
        text.contains("A        HEAD~1: 0123456789abcdef0123456789abcdef01234567, bench: a change\n"),
        "{text}"
    );
    assert!(text.contains("4567 and 2 changed or new files, bench: a change\n"), "{text}");
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("CPU us/request").ends_with("faster"), "{text}");
    assert!(line("requests/s").ends_with("faster"), "{text}");
    assert_eq!(line("instructions").split_whitespace().collect::<Vec<_>>()[1..4], ["3420", "3078", "0.900"]);
    assert!(report.passed && report.notes.is_empty(), "{:?}", report.notes);
    let json = sonic_rs::to_string(&report).unwrap();
    for part in
        ["\"verdict\":\"faster\"", "\"ratio\":", "\"changed_files\":2", "\"resamples\":10000", "\"1\":3078"]
    {
        assert!(json.contains(part), "{part} in {json}");
    }
}

#[test]
fn only_a_regression_beyond_doubt_misses_the_target() {
    for (b, max, passed, said) in [
        ([6.0, 6.1, 6.0, 6.2, 6.0], 1.02, false, "MISSED   all of the interval"),
        ([6.0, 6.1, 6.0, 6.2, 6.0], 1.5, true, "met      none of the interval"),
        ([4.0, 6.1, 6.0, 4.1, 6.0], 1.02, true, "met      part of the interval"),
    ] {
        let mut report = report(&b, Some(max));
        report.judge(false);
        assert_eq!(report.passed, passed);
        assert!(report.text().contains(said), "{}", report.text());
    }
}

#[test]
fn doubts_stand_below_the_tables() {
    let mut few = report(&[5.0, 5.1, 5.0], None);
    few.judge(true);
    assert!(few.text().contains("too narrow for its name"), "{}", few.text());
    assert!(few.text().contains("byte for byte"), "{}", few.text());
    let mut two = report(&[9.0, 9.0], None);
    two.judge(false);
    assert!(two.text().contains("not judged"), "{}", two.text());

    let mut noisy = report(&[5.0; 5], None);
    let [_, b] = &mut noisy.scenarios[0].series;
    b.samples[3].others_share = 0.4;
    b.samples[1].bad_answers = 3;
    b.answer_len = 99;
    noisy.sides[1].built.not_counted.push("16 at a time: it has no scripts/icount".to_owned());
    noisy.judge(false);
    let text = noisy.text();
    for part in [
        "NOISY    others used up to 40 %",
        "ERROR    B at 64x1: 3 answers",
        "133 and 99 bytes",
        "B with 16 at a",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!noisy.passed);
}
