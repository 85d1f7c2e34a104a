//! `bench mesh` as a user meets it: every way runs in every case that it can, with right replies, and the exit
//! codes are those of `compare`. Figures are not tested here.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

fn mesh(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).arg("mesh").args(arguments).output().unwrap()
}

#[test]
fn every_way_has_a_row_in_every_case_and_every_sample_is_written() {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("results.json");
    let output = mesh(&["--rounds=2", "--window-ms=1", "--json", json.to_str().unwrap()]);
    let (text, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}\n{talk}");
    let rows = |way: &str| text.lines().filter(|line| line.starts_with(way)).count();
    assert_eq!(
        ["corelane ", "lane ", "array-queue ", "flume ", "mutex "].map(rows),
        [6, 3, 6, 6, 6],
        "{text}"
    );
    let json = fs::read_to_string(json).unwrap();
    assert_eq!(json.matches("\"ns\"").count(), 2 * 27);
}

#[test]
fn with_strict_a_faster_way_exits_with_1() {
    // The lane is what a call is made of, and counts not as another way; one of the three others stands in.
    let arguments =
        ["--rounds=1", "--window-ms=1", "--cases=call-awake", "--ways=corelane,mutex", "--strict"];
    let output = mesh(&arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = i32::from(text.contains("FASTER"));
    assert_eq!(output.status.code(), Some(expected), "{text}");
}

#[test]
fn cpus_that_cannot_be_two_exit_with_2() {
    for cpus in ["0,0", "0", "0,1,1"] {
        let output = mesh(&["--rounds=1", "--window-ms=1", "--cpus", cpus]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{cpus}: {talk}");
    }
}

#[test]
fn a_counted_run_makes_its_calls_and_prints_nothing() {
    let output = mesh(&["--count", "100,3000"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
}
