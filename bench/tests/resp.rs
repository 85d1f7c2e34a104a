//! `bench resp` as a user meets it: every server that is here has a row under every load, what is not here says why, and
//! what cannot work exits with 2. Figures are not tested here.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

fn resp(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).arg("resp").args(arguments).output().unwrap()
}

/// Whether all of these can be run; a build machine has them.
fn has(programs: &[&str]) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &&&str| !std::env::split_paths(&paths).any(|folder| folder.join(name).is_file());
    let Some(missing) = programs.iter().find(found) else { return true };
    assert!(std::env::var("CI").is_err(), "{missing} is missing: scripts/test installs it");
    eprintln!("skipped: needs {missing}");
    false
}

#[test]
fn every_server_has_a_row_under_every_load_and_what_is_not_here_says_why() {
    if !has(&["redis-server", "redis-benchmark", "memcached"])
        || std::thread::available_parallelism().unwrap().get() < 2
    {
        return;
    }
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("resp.json");
    let arguments =
        ["--rounds=2", "--scale=0.001", "--pipelines=1,16", "--program=/nonexistent/corelane", "--json"];
    let output = resp(&[&arguments[..], &[json.to_str().unwrap()]].concat());
    let (text, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}\n{talk}");
    let rows = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    // A line that says what it is, one for each load, one for its memory.
    assert_eq!(["redis", "memcached"].map(rows), [1 + 4 + 1; 2], "{text}");
    assert_eq!(rows("corelane"), 2, "{text}");
    assert!(text.contains("corelane-2: not here: no /nonexistent/corelane: type cargo build"), "{text}");
    assert!(text.contains("commit ") && text.contains("Linux"), "{text}");
    assert_eq!(fs::read_to_string(json).unwrap().matches("\"cpu_us\"").count(), 2 * 4 * 2);
}

#[test]
fn what_cannot_be_measured_exits_with_2() {
    for arguments in [
        &["--server-cpu=1", "--client-cpu=1"][..],
        &["--scale=0"],
        &["--pipelines=0"],
        &["--subjects=corelane", "--program=/nonexistent/corelane"],
        &["--subjects=nobody"],
    ] {
        let output = resp(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
