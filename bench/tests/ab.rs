//! `bench ab` as a user meets it: two commits of a small repository, whose server is a script.
//!
//! The client is a script that asks 500 times and prints what wrk prints, and what builds is `cp`, so that
//! the test needs neither wrk nor a compiler nor a minute. The second server burns so much CPU time on each
//! answer that no machine is too noisy to see it.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test that waits for a process reads the clock")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const WRK: &str = r#"#!/bin/bash
url=${@: -1}
[[ $url == http* ]] || exit 1
address=${url#http://} address=${address%%/*}
exec 3<>/dev/tcp/${address%:*}/${address#*:} || exit 1
printf 'GET / HTTP/1.1\r\n\r\n%.0s' {1..500} >&3
LC_ALL=C read -r -N 20000 -u 3 answers || exit 1
echo "  Latency Distribution
     50%  349.00us
     99%    1.24ms
  500 requests in 1.00s, 0.12MB read
Requests/sec:   500.00"
"#;

/// Answers 40 bytes to whatever ends in an empty line, after ROUNDS turns of a loop.
const SERVER: &str = r#"#!/usr/bin/env python3
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    peer, _ = listener.accept()
    with peer:
        rest = b""
        while data := peer.recv(1 << 16):
            *whole, rest = (rest + data).split(b"\r\n\r\n")
            asked = len(whole)
            for _ in range(asked):
                for _ in range(ROUNDS):
                    pass
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * asked)
"#;

/// A repository of two commits, tagged `before` and `after`, and a folder with a client.
struct Lab {
    folder: TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { folder: TempDir::new().unwrap() };
        for name in ["repo", "path"] {
            fs::create_dir(lab.at(name)).unwrap();
        }
        executable(&lab.at("path/wrk"), WRK);
        lab.git(&["init", "--quiet"]);
        for (tag, rounds) in [("before", "1"), ("after", "10000")] {
            executable(&lab.at("repo/server"), &SERVER.replace("ROUNDS", rounds));
            lab.git(&["add", "server"]);
            lab.git(&["-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "-m", tag]);
            lab.git(&["tag", tag]);
        }
        lab
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program in the repository that knows nothing of the repository the test runs in.
    fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(program);
        command.current_dir(self.at("repo")).env("PATH", format!("{}:{path}", self.at("path").display()));
        command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command.stdin(Stdio::null());
        command
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = self.command("git").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// `bench ab` with a build that says in `builds` that it ran.
    fn ab(&self, arguments: &[&str]) -> Command {
        let build = format!("sh -c 'pwd >>{} && cp server {{out}}'", self.at("builds").display());
        let mut command = self.command(env!("CARGO_BIN_EXE_bench"));
        command.args(["ab", "--dir"]).arg(self.at("cache")).args(["--scenarios=1x1", "--secs=1", "--path=/"]);
        command.args(["--command={bin} {port}", "--build-command", &build]).args(arguments);
        command
    }

    /// Folders in which something was built so far.
    fn builds(&self) -> Vec<String> {
        let text = fs::read_to_string(self.at("builds")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What git and the cache know of checkouts.
    fn checkouts(&self) -> usize {
        let known = self.git(&["worktree", "list", "--porcelain"]);
        let folders = fs::read_dir(self.at("cache")).unwrap().flatten();
        let left =
            folders.filter(|entry| entry.file_name().len() == 12 && entry.path().join(".git").exists());
        known.lines().filter(|line| line.starts_with("worktree ")).count() - 1 + left.count()
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn text(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    parts.join("\n--\n")
}

/// Says so where a test cannot run; with `CI=true` that is a failure.
fn has_python() -> bool {
    let has = Command::new("python3").arg("-V").output().is_ok_and(|output| output.status.success());
    assert!(
        has || std::env::var("CI").as_deref() != Ok("true"),
        "python3 is missing: scripts/test installs it"
    );
    if !has {
        eprintln!("skipped: python3 is missing");
    }
    has
}

#[test]
fn a_slower_commit_is_found_judged_and_built_only_once() {
    if !has_python() {
        return;
    }
    let lab = Lab::new();
    let json = lab.at("results.json");
    let json_flag = format!("--json={}", json.display());
    let output = lab.ab(&["before", "after", "--rounds=5", "--max-ratio=1.02", &json_flag]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        &format!("A        before: {}, before", lab.git(&["rev-parse", "before"])),
        &format!("B        after: {}, after", lab.git(&["rev-parse", "after"])),
        "MISSED   all of the interval",
        "rounds   5 of 1 s, A B, B A",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let cost = said.lines().find(|line| line.starts_with("CPU us/request")).unwrap();
    assert!(cost.ends_with("slower"), "{said}");
    let order: Vec<&str> = said.lines().filter(|line| line.starts_with('[')).collect();
    let order: String = order.iter().filter_map(|line| line.split(':').next()?.chars().last()).collect();
    assert_eq!(order, "ABBAABBAAB");
    let results = fs::read_to_string(&json).unwrap();
    assert_eq!(results.matches("\"answer_len\": 40").count(), 2, "{results}");
    assert_eq!(results.matches("\"requests_per_s\": 500.0").count(), 10, "{results}");

    // Both were built in a checkout of their own, which is gone; the working directory is as it was.
    let builds = lab.builds();
    assert_eq!(builds.len(), 2, "{builds:?}");
    for (folder, tag) in builds.iter().zip(["before", "after"]) {
        assert!(folder.ends_with(&lab.git(&["rev-parse", "--short=12", tag])), "{builds:?}");
    }
    assert_eq!(lab.checkouts(), 0);
    assert_eq!(lab.git(&["status", "--porcelain"]), "");

    // Once more: nothing is built. With other changes in the working directory: that is, where it is.
    executable(&lab.at("repo/server"), &SERVER.replace("ROUNDS", "2"));
    let output = lab.ab(&["before", ".", "--rounds=1", "--force"]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("and 1 changed or new files, after") && said.contains("not judged"), "{said}");
    assert_eq!(lab.builds()[2..], [lab.at("repo").canonicalize().unwrap().display().to_string()]);
    assert_eq!(lab.checkouts(), 0);

    assert!(lab.at("cache/bin").exists());
    assert_eq!(lab.ab(&["--clean"]).output().unwrap().status.code(), Some(0));
    assert!(!lab.at("cache/bin").exists());
}

#[test]
fn a_revision_that_does_not_build_exits_with_2_and_the_end_of_what_was_said() {
    let lab = Lab::new();
    let broken = "--build-command=sh -c 'echo no such lane >&2; exit 7' {out}";
    let mut command = lab.command(env!("CARGO_BIN_EXE_bench"));
    let cache = lab.at("cache");
    let output = command.args(["ab", "before", "after", broken, "--dir"]).arg(&cache).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("failed (exit status: 7):\n  no such lane"), "{said}");
    assert_eq!(lab.checkouts(), 0);

    let nothing = "--build-command=true {out}";
    let mut command = lab.command(env!("CARGO_BIN_EXE_bench"));
    let output = command.args(["ab", "before", "after", nothing, "--dir"]).arg(&cache).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("left no file at"), "{said}");
}

#[test]
fn what_a_killed_run_left_is_no_obstacle() {
    let lab = Lab::new();
    let attempt = |first: &str, second: &str| {
        let build = format!("--build-command=sh -c 'pwd >>{}; exit 7' {{out}}", lab.at("builds").display());
        let mut command = lab.command(env!("CARGO_BIN_EXE_bench"));
        let output =
            command.args(["ab", first, second, &build, "--dir"]).arg(lab.at("cache")).output().unwrap();
        assert!(text(&output).contains("exit status: 7"), "{}", text(&output));
    };
    attempt("before", "after");
    for tag in ["before", "after"] {
        let folder = lab.at("cache").join(lab.git(&["rev-parse", "--short=12", tag]));
        lab.git(&["worktree", "add", "--quiet", "--detach", folder.to_str().unwrap(), tag]);
        // One as it was left, one deleted by somebody who did not tell git.
        if tag == "after" {
            fs::remove_dir_all(folder).unwrap();
        }
    }
    attempt("before", "after");
    attempt("after", "before");
    assert_eq!(lab.builds().len(), 3);
    assert_eq!(lab.checkouts(), 0);
}

#[test]
fn an_unknown_revision_exits_with_2_and_builds_nothing() {
    let lab = Lab::new();
    let output = lab.ab(&["before", "never"]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("never is no commit of"), "{said}");
    assert!(lab.builds().is_empty());
    let outside = lab.ab(&["before", "after"]).current_dir(lab.at("path")).output().unwrap();
    assert_eq!(outside.status.code(), Some(2), "{}", text(&outside));
}

#[test]
fn an_interrupt_ends_the_build_and_removes_the_checkout() {
    let lab = Lab::new();
    let marker = lab.at("marker");
    let build = format!("--build-command=sh -c 'echo $$ >{}; sleep 600; true' {{out}}", marker.display());
    let mut command = lab.command(env!("CARGO_BIN_EXE_bench"));
    command.args(["ab", "before", "after", &build, "--dir"]).arg(lab.at("cache"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let builder = loop {
        match fs::read_to_string(&marker).ok().and_then(|text| text.trim().parse::<u32>().ok()) {
            Some(pid) => break pid,
            None => assert!(start.elapsed() < Duration::from_secs(60), "nothing was built"),
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(lab.checkouts(), 2); // git and the folder each know one
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("bench: interrupted"), "{said}");
    assert_eq!(lab.checkouts(), 0);
    assert!(!Path::new(&format!("/proc/{builder}")).exists());
}
