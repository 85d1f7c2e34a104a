//! `bench compare` as a user meets it: exit codes, table and JSON, with real servers.
//!
//! The client is a script that asks 500 times and prints what wrk prints, so that the test
//! needs no wrk and no minute. Figures are not tested here.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use tempfile::TempDir;

const WRK: &str = r#"#!/bin/bash
url=${@: -1}
[[ $url == http* ]] || exit 1
address=${url#http://} address=${address%%/*}
exec 3<>/dev/tcp/${address%:*}/${address#*:} || exit 1
printf 'GET / HTTP/1.1\r\n\r\n%.0s' {1..500} >&3
LC_ALL=C read -r -N 64000 -u 3 answers || exit 1
echo "  Latency Distribution
     50%  349.00us
     99%    1.24ms
  500 requests in 1.00s, 0.12MB read
EXTRA
Requests/sec:   500.00"
"#;

fn compare(wrk: Option<&str>, arguments: &[&str]) -> Output {
    let path = TempDir::new().unwrap();
    if let Some(text) = wrk {
        let file = path.path().join("wrk");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.arg("compare").args(arguments).env("PATH", path.path());
    command.output().unwrap()
}

const SHORT: [&str; 9] = [
    "--server",
    "limit-uring",
    "--server",
    "limit-epoll",
    "--rounds=1",
    "--secs=1",
    "--scenarios=2x1,2x4",
    "--max-ratio",
    "limit-epoll/limit-uring<=1e9",
];

#[test]
fn a_comparison_prints_a_row_a_server_and_scenario_and_writes_every_sample() {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("results.json");
    let output = compare(Some(WRK), &[&SHORT[..], &["--json", json.to_str().unwrap()]].concat());
    let (text, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}\n{talk}");
    assert_eq!(text.lines().filter(|line| line.starts_with("limit-")).count(), 4);
    assert!(text.contains("answers  limit-uring 128, limit-epoll 128 bytes"), "{text}");
    assert_eq!(talk.lines().filter(|line| line.starts_with('[')).count(), 4);
    let json = fs::read_to_string(json).unwrap();
    assert_eq!(json.matches("\"cpu_us\"").count(), 4);
}

#[test]
fn a_missed_target_and_a_wrong_answer_exit_with_1() {
    let missed = compare(Some(WRK), &[&SHORT[..], &["--max-ratio=limit-uring/limit-epoll<=1e-9"]].concat());
    assert_eq!(missed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missed.stdout).contains("MISSED"));
    let wrong = WRK.replace("EXTRA", "  Non-2xx or 3xx responses: 3");
    let wrong = compare(Some(&wrong), &SHORT);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("3 answers not 2xx or 3xx"));
}

#[test]
fn without_wrk_it_exits_with_2_and_says_what_to_type() {
    let output = compare(None, &SHORT);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("apt-get install wrk"));
}

#[test]
fn a_server_that_does_not_start_exits_with_2_and_shows_its_last_words() {
    let server = "broken=/bin/sh -c 'echo no socket today >&2; exit 3'";
    let output = compare(Some(WRK), &["--server", server, "--secs=1", "--rounds=1"]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{talk}");
    assert!(talk.contains("no socket today"), "{talk}");
}

#[test]
fn a_target_about_a_server_that_is_not_compared_exits_with_2() {
    let output = compare(Some(WRK), &["--server", "limit-uring", "--max-ratio", "a/b<=1"]);
    assert_eq!(output.status.code(), Some(2));
}
