//! `bench peers` as a user meets it: exit codes, table, JSON, and what is left behind, with real servers.
//!
//! The client is a script that asks for as long as it is told to and writes the part of loadgen's result that
//! is read; one test has loadgen itself. Figures are not tested here.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const BENCH: &str = env!("CARGO_BIN_EXE_bench");

/// Asks 20 times at once on one connection, until the window is over.
const LOADGEN: &str = r#"#!/bin/bash
while (($#)); do
    case $1 in
        --json) json=$2 ;;
        --duration) ms=${2%ms} ;;
        http://*) url=$1 ;;
    esac
    shift
done
address=${url#http://}
path=/${address#*/} address=${address%%/*}
exec 3<>"/dev/tcp/${address%:*}/${address#*:}" || exit 2
export LC_ALL=C
request="GET $path HTTP/1.1\r\nHost: x\r\n\r\n"
printf "$request" >&3
# How long an answer is shows once nothing more comes: the first byte may take its time, the others come with it.
read -r -N 1 -u 3 first || exit 2
read -r -t 0.2 -N 100000 -u 3 answer
len=$((1 + ${#answer})) completed=0 started=${EPOCHREALTIME/./}
while :; do
    for _ in {1..20}; do printf "$request"; done >&3
    read -r -N $((20 * len)) -u 3 answers || exit 2
    ((completed += 20))
    ((${EPOCHREALTIME/./} < started + ms * 1000)) || break
done
cat >"$json" <<RESULT
{"rate": $((completed * 1000 / ms)).0, "duration_us": $((ms * 1000)),
 "counts": {"completed": $completed, "bytes_in": $((completed * len))},
 "errors": {"total": ERRORS}, "connect_errors": {"total": 0},
 "response": {"p50_us": 10, "p99_us": 20, "p99_9_us": 30}, "cpu_per_request_ns": null,
 "provenance": {"started_unix_ms": $((started / 1000))}, "verdict": {"reasons": []}}
RESULT
"#;

/// A folder with a client and whatever else a test needs, and where all of a run goes.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(loadgen: &str) -> Place {
        let place = Place { folder: TempDir::new().unwrap() };
        place.program("loadgen", loadgen);
        fs::create_dir(place.path("tmp")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let file = self.path(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BENCH);
        command.args(["peers", "--no-build", "--quick", "--rounds=1", "--window=250ms"]);
        command.args([
            Path::new("--programs"),
            self.folder.path(),
            Path::new("--peers-dir"),
            self.folder.path(),
        ]);
        command.args([Path::new("--json"), &self.path("out/result.json")]).args(arguments);
        command.env("TMPDIR", self.path("tmp")).env_remove("CARGO_TARGET_DIR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(fs::read_dir(self.path("tmp")).unwrap().count(), 0, "temporary files are left");
        words(&output)
    }
}

fn words(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn good() -> String {
    LOADGEN.replace("ERRORS", "0")
}

/// A server of `bench/peers` in name, which answers everything as `/plaintext`.
fn peer() -> String {
    format!("#!/bin/sh\necho $$ >\"${{0%/*}}/server.pid\"\nexec {BENCH} limit-epoll --listen \"$2\"\n")
}

#[test]
fn loops_are_measured_and_what_is_missing_is_a_row_that_says_so() {
    let place = Place::new(&good());
    place.program("peer-axum", "#!/bin/sh\necho no socket today >&2\nexit 3\n");
    let subjects = "--subjects=limit-uring,limit-epoll,corelane,axum";
    let (code, text, talk) = place.run(&[subjects, "--scenarios=plaintext-512"]);
    assert_eq!(code, Some(0), "{text}\n{talk}");
    let rows = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((rows("  limit-uring*  "), rows("  limit-epoll*  ")), (1, 1), "{text}");
    assert!(text.contains("corelane: no "), "{text}");
    assert!(text.contains("axum: does not start (exit status: 3): no socket today"), "{text}");
    assert!(text.contains("not judged"), "{text}");
    assert!(talk.contains("3 steps, about 0:0") && talk.contains("[1/3] 0:"), "{talk}");
    let json = fs::read_to_string(place.path("out/result.json")).unwrap();
    assert_eq!(json.matches("\"rate\": ").count(), 3, "two samples, and that of no open loop: {json}");
    assert!(
        fs::read_to_string(place.path("out/result.html")).unwrap().to_lowercase().contains("<!doctype html>")
    );
}

#[test]
fn an_answer_that_is_not_the_right_one_exits_with_1() {
    let place = Place::new(&good());
    place.program("peer-hyper", &peer());
    let (code, text, talk) = place.run(&["--subjects=hyper", "--scenarios=json-64"]);
    assert_eq!(code, Some(1), "{text}\n{talk}");
    assert!(
        text.contains("WRONG: hyper at json-64: /json: another answer than asked for: HTTP/1.1 200"),
        "{text}"
    );
}

#[test]
fn errors_that_the_client_counts_exit_with_1() {
    let place = Place::new(&LOADGEN.replace("ERRORS", "7"));
    let (code, text, talk) = place.run(&["--subjects=limit-epoll", "--scenarios=plaintext-1"]);
    assert_eq!(code, Some(1), "{text}\n{talk}");
    assert!(text.contains("WRONG: limit-epoll at plaintext-1: 7 answers wrong, late or missing"), "{text}");
}

#[test]
fn errors_of_a_peer_are_told_and_fail_nothing() {
    let place = Place::new(&LOADGEN.replace("ERRORS", "7"));
    place.program("peer-hyper", &peer());
    let (code, text, talk) = place.run(&["--subjects=hyper", "--scenarios=plaintext-1"]);
    assert_eq!(code, Some(0), "{text}\n{talk}");
    assert!(text.contains("ERRORS: hyper at plaintext-1: 7 answers wrong, late or missing"), "{text}");
}

#[test]
fn a_missed_target_exits_with_1_only_when_asked_to() {
    let place = Place::new(&good());
    place.program("corelane", &format!("#!/bin/sh\nexec {BENCH} limit-epoll --listen \"$2\"\n"));
    place.program("peer-hyper", &peer());
    // The same P50 everywhere: met without busy poll, and not a quarter better with it.
    let arguments = ["--subjects=corelane,corelane-busy,hyper", "--scenarios=plaintext-1"];
    let (code, text, talk) = place.run(&arguments);
    assert_eq!(code, Some(0), "{text}\n{talk}");
    assert!(
        text.contains("met            1.000  P50 at one connection <= 1.00 x the best peer's (hyper)"),
        "{text}"
    );
    assert!(text.contains("MISSED         1.000  P50 at one connection, busy poll"), "{text}");
    let (code, text, talk) = place.run(&[&arguments[..], &["--strict"]].concat());
    assert_eq!(code, Some(1), "{text}\n{talk}");
}

#[test]
fn an_interrupted_run_leaves_neither_processes_nor_files() {
    let place = Place::new("#!/bin/sh\necho $$ >\"${0%/*}/client.pid\"\ntrap '' TERM\nexec sleep 300\n");
    place.program("peer-hyper", &peer());
    let child = place.command(&["--subjects=hyper", "--scenarios=plaintext-1"]).spawn().unwrap();
    let pid = |name: &str| fs::read_to_string(place.path(name)).ok()?.trim().parse::<u32>().ok();
    let start = Instant::now();
    while pid("client.pid").is_none() {
        assert!(start.elapsed() < Duration::from_secs(20), "no client was started");
        std::thread::sleep(Duration::from_millis(10));
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let (code, text, talk) = words(&child.wait_with_output().unwrap());
    assert_eq!((code, text.as_str()), (Some(2), ""), "{talk}");
    assert!(talk.contains("bench: interrupted"), "{talk}");
    for name in ["server.pid", "client.pid"] {
        let pid = pid(name).unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{name}: {pid} is alive");
    }
    assert_eq!(fs::read_dir(place.path("tmp")).unwrap().count(), 0);
    assert!(!place.path("out/result.json").exists());
}

#[test]
fn nginx_and_haproxy_start_with_what_is_generated_for_them() {
    let place = Place::new(&good());
    let (code, text, talk) = place.run(&["--subjects=nginx,haproxy", "--scenarios=json-64"]);
    assert_eq!(code, Some(0), "{text}\n{talk}");
    for name in ["nginx", "haproxy"] {
        if text.contains(&format!("{name}: not installed")) {
            assert!(std::env::var_os("CI").is_none(), "{name} is not installed: scripts/test installs it");
            eprintln!("skipped: needs {name}");
            continue;
        }
        assert!(text.lines().any(|line| line.starts_with(&format!("  {name}  "))), "{name}: {text}\n{talk}");
    }
}

#[test]
fn the_lists_have_every_load_and_every_server() {
    let (code, text, talk) = Place::new(&good()).run(&["--list"]);
    assert_eq!(code, Some(0), "{talk}");
    for name in ["plaintext-64", "open-80", "idle-100k", "limit-uring", "ringline", "haproxy"] {
        assert!(text.contains(&format!("  {name} ")), "{name} in {text}");
    }
}

#[test]
fn what_cannot_be_run_at_all_exits_with_2_and_says_what_to_type() {
    let place = Place::new(&good());
    let of = |arguments: &[&str], part: &str| {
        let (code, _, talk) = place.run(arguments);
        assert_eq!(code, Some(2), "{talk}");
        assert!(talk.contains(part), "{part} in {talk}");
    };
    of(&["--scenarios=plaintext-65"], "plaintext-64");
    of(&["--subjects=nginy"], "nginx");
    of(&["--server-cpu=1"], "must differ");
    of(&["--client-cpu=4095"], "--client-cpu 4095");
    of(&["--loadgen=/nonexistent/loadgen"], "cargo build --release -p loadgen");
}

#[test]
fn loadgen_itself_is_understood() {
    let loadgen = Path::new(BENCH).with_file_name("loadgen");
    if !loadgen.is_file() {
        eprintln!("skipped: needs {}", loadgen.display());
        return;
    }
    let place = Place::new(&good());
    let loadgen = format!("--loadgen={}", loadgen.display());
    let arguments = ["--subjects=limit-epoll", "--scenarios=pipelined-16", &loadgen];
    let (code, text, talk) = place.run(&arguments);
    assert_eq!(code, Some(0), "{text}\n{talk}");
    let row = text.lines().find(|line| line.starts_with("  limit-epoll*  ")).unwrap_or_default();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells.len(), 13, "{text}\n{talk}");
    assert!(cells[1].parse::<f64>().unwrap() > 0.0 && cells[5].parse::<f64>().unwrap() > 0.0, "{row}");
}
