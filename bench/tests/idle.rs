//! `bench idle` as a user meets it: exit codes and what it prints, with a real server, in small.

#![allow(clippy::unwrap_used)]

use std::process::Command;

const BENCH: &str = env!("CARGO_BIN_EXE_bench");

/// Exit code, standard output, standard error.
fn idle(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(BENCH).arg("idle").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn idle_connections_are_opened_from_several_addresses_counted_and_asked_again() {
    let server = format!("{BENCH} limit-uring --listen 127.0.0.1:{{port}}");
    let arguments = ["--connections=301", "--holders=3", "--ask=50", "--rest=1", "--server", &server];
    let (code, text, talk) = idle(&arguments);
    assert_eq!(code, Some(0), "{text}\n{talk}");
    assert!(text.contains("connections  301 of 301 in "), "{text}");
    assert!(text.contains(" from 127.0.0.2 to 127.0.0.4\n"), "{text}");
    assert!(text.contains("answered     50 of 50 asked again"), "{text}");
    assert!(text.contains(" bytes a connection\n"), "{text}");
    assert!(!text.contains("failed"), "{text}");
}

#[test]
fn a_server_that_cannot_hold_them_all_exits_with_1_and_the_reason_is_said() {
    // The server keeps those it has, and lets the others wait or go.
    let server = format!("sh -c 'ulimit -n 60; exec {BENCH} limit-epoll --listen 127.0.0.1:{{port}}'");
    let arguments =
        ["--connections=200", "--holders=2", "--ask=10", "--rest=1", "--patience=1", "--server", &server];
    let (code, text, talk) = idle(&arguments);
    assert_eq!(code, Some(1), "{text}\n{talk}");
    assert!(text.contains("failed       first with: "), "{text}");
}

#[test]
fn a_server_that_does_not_start_exits_with_2() {
    let (code, text, talk) = idle(&["--server", "/nonexistent/server"]);
    assert_eq!((code, text.as_str()), (Some(2), ""), "{talk}");
    assert!(talk.contains("/nonexistent/server"), "{talk}");
}
