//! loadgen as the client: its command line, and what of its result is used.
//!
//! # Rules
//! 1. It is a program that is started, never a library: what it says of itself is all that is known.
//! 2. Its exit code is not judged. 2 may mean that its own verdict is INVALID, and then there is a result all
//!    the same, which says why; without a result it could not run.
//!
//! Not here: its window laid over readings of the server (`sample`).

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::loads::{Load, Mode, Target, VARIED};

/// Milliseconds of one run of the client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times {
    pub(super) warm_up_ms: u64,
    pub(super) window_ms: u64,
}

/// Files that one run reads and writes, in one folder.
pub(super) struct Files<'f> {
    pub(super) folder: &'f Path,
}

impl Files<'_> {
    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// The arguments of loadgen for `load` against `port`, on `cpu`.
///
/// A result has whole microseconds; one connection is answered in some tens of them, so percentiles are also
/// asked for as `.hgrm`, which has three decimals.
pub(super) fn arguments(
    load: &Load,
    times: Times,
    port: u16,
    cpu: usize,
    rate: Option<f64>,
    files: &Files<'_>,
) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |more: &[&str]| words.extend(more.iter().map(|&word| word.to_owned()));
    add(&["--quiet", "--connections", &load.connections.to_string()]);
    add(&["--pipeline", &load.pipeline.to_string()]);
    add(&["--warmup", &format!("{}ms", times.warm_up_ms)]);
    add(&["--duration", &format!("{}ms", times.window_ms)]);
    add(&["--json", &files.path("run.json"), "--hgrm", &files.path("run.hgrm")]);
    match load.mode {
        Mode::Crowd => {
            add(&["--threads", "8", "--no-pin", "--source", "127.0.0.1-127.0.0.8"]);
        }
        _ => add(&["--threads", "1", "--cpus", &cpu.to_string()]),
    }
    // Thousands that begin at once wait for each other, longest on a machine that does other things as well.
    add(&["--timeout", if load.connections < 1_000 { "3s" } else { "10s" }]);
    match load.mode {
        Mode::Connect => add(&["--requests-per-connection", "1"]),
        Mode::Open(_) => {
            add(&["--arrivals", "poisson", "--rate", &format!("{:.0}", rate.unwrap_or(1.0).max(1.0))]);
        }
        // Connections begin one after another over half of the window, and each asks once.
        Mode::Idle | Mode::Crowd => {
            add(&["--think", "1h", "--ramp", &format!("{}ms", times.window_ms / 2)]);
        }
        Mode::Closed | Mode::Shards => {}
    }
    if load.connections == 1 {
        add(&["--busy-poll"]);
    }
    if let Target::Echo(_) = load.target {
        add(&["--body", &format!("@{}", files.path("body"))]);
        add(&["--header", "Content-Type: application/octet-stream"]);
    }
    if load.id == VARIED {
        add(&["--header", "X-Number: {{counter:100000000}}"]);
    }
    add(&["--expect-status", "200"]);
    words.push(format!("http://127.0.0.1:{port}{}", load.target.path()));
    words
}

/// What one run of the client found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answered {
    /// When its window began, milliseconds since 1970, and how long it was.
    pub(super) started_ms: f64,
    pub(super) window_ms: f64,
    /// Answers in the window.
    pub(super) completed: u64,
    /// Answers a second.
    pub(super) rate: f64,
    /// Bytes that came in the window.
    pub(super) bytes_in: u64,
    /// Response times, microseconds.
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) p999_us: Option<f64>,
    /// Requests without a good answer, and connections that could not be opened.
    pub(super) errors: u64,
    /// CPU time of the client for each answer, microseconds, polling left out.
    pub(super) client_us: Option<f64>,
    /// Codes of the reasons for which it calls the run INVALID, if it does.
    pub(super) invalid: Vec<String>,
}

/// Reads the result that a run left in `files`.
///
/// # Errors
/// There is none, or it is not readable.
pub(super) fn result(files: &Files<'_>) -> Result<Answered, String> {
    let path = files.path("run.json");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let mut answered = parse(&text)?;
    // One that has no such file keeps the whole microseconds.
    if let Some(p50) = fs::read_to_string(files.path("run.hgrm")).ok().and_then(|text| median_of(&text)) {
        answered.p50_us = Some(p50);
    }
    Ok(answered)
}

#[derive(Deserialize)]
struct Document {
    rate: f64,
    duration_us: f64,
    counts: Counts,
    errors: Total,
    connect_errors: Total,
    response: Latency,
    cpu_per_request_ns: Option<f64>,
    verdict: Verdict,
    provenance: Provenance,
}

#[derive(Deserialize)]
struct Counts {
    completed: u64,
    bytes_in: u64,
}

#[derive(Deserialize)]
struct Total {
    total: u64,
}

#[derive(Deserialize)]
struct Latency {
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    p99_9_us: Option<f64>,
}

#[derive(Deserialize)]
struct Verdict {
    reasons: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    level: String,
    code: String,
}

#[derive(Deserialize)]
struct Provenance {
    started_unix_ms: f64,
}

fn parse(text: &str) -> Result<Answered, String> {
    let found: Document =
        sonic_rs::from_str(text).map_err(|error| format!("loadgen's result is not readable: {error}"))?;
    let invalid = found.verdict.reasons.into_iter().filter(|reason| reason.level == "INVALID");
    Ok(Answered {
        started_ms: found.provenance.started_unix_ms,
        window_ms: found.duration_us / 1e3,
        completed: found.counts.completed,
        rate: found.rate,
        bytes_in: found.counts.bytes_in,
        p50_us: found.response.p50_us,
        p99_us: found.response.p99_us,
        p999_us: found.response.p99_9_us,
        errors: found.errors.total + found.connect_errors.total,
        client_us: found.cpu_per_request_ns.map(|ns| ns / 1e3),
        invalid: invalid.map(|reason| reason.code).collect(),
    })
}

/// The value in the first line of a `.hgrm` whose share of all is a half or more: `VALUE 0.5 COUNT 2`.
fn median_of(hgrm: &str) -> Option<f64> {
    let rows = hgrm.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let value: f64 = words.next()?.parse().ok()?;
        let share: f64 = words.next()?.parse().ok()?;
        Some((value, share))
    });
    let mut upper = rows.filter(|&(_, share)| share >= 0.5);
    upper.next().map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::loads;
    use super::*;

    fn words(id: &str, rate: Option<f64>) -> String {
        let load = loads::all().into_iter().find(|load| load.id == id).unwrap();
        let times = Times { warm_up_ms: 200, window_ms: 500 };
        arguments(&load, times, 8123, 1, rate, &Files { folder: Path::new("/t") }).join(" ")
    }

    #[test]
    fn the_client_is_told_what_the_load_is() {
        let text = words("pipelined-16", None);
        assert!(
            text.starts_with("--quiet --connections 64 --pipeline 16 --warmup 200ms --duration 500ms "),
            "{text}"
        );
        assert!(text.contains(" --cpus 1 ") && text.ends_with(" http://127.0.0.1:8123/plaintext"), "{text}");
        assert!(!text.contains("--busy-poll"));
        assert!(words("plaintext-1", None).contains(" --busy-poll "));
        assert!(words("connect", None).contains(" --requests-per-connection 1 "));
        assert!(words("pipelined-varied", None).contains(" --pipeline 16 "));
        assert!(words("pipelined-varied", None).contains(" --header X-Number: {{counter:100000000}} "));
        assert!(!text.contains("X-Number"), "{text}");
        assert!(words("echo-64k", None).contains(" --body @/t/body "));
        assert!(words("open-80", Some(80_000.4)).contains(" --arrivals poisson --rate 80000 "));
    }

    #[test]
    fn connections_that_rest_ask_once_one_after_another() {
        assert!(words("idle-10k", None).contains(" --think 1h --ramp 250ms "));
        let crowd = words("idle-100k", None);
        assert!(crowd.contains(" --threads 8 --no-pin --source 127.0.0.1-127.0.0.8 "), "{crowd}");
        assert!(!crowd.contains("--cpus"), "{crowd}");
    }

    const RESULT: &str = r#"{"schema": 1, "rate": 20000.5, "duration_us": 500000,
        "counts": {"completed": 10000, "bytes_in": 1280000, "more": 1}, "errors": {"total": 2, "by_kind": {}},
        "connect_errors": {"total": 1}, "response": {"p50_us": 40, "p99_us": 90, "p99_9_us": null},
        "cpu_per_request_ns": 5130.5, "provenance": {"started_unix_ms": 1795898797431},
        "verdict": {"level": "INVALID", "reasons": [{"level": "INVALID", "code": "run_delay", "text": "x"},
        {"level": "VALID", "code": "floor", "text": "y"}]}, "runs": []}"#;

    #[test]
    fn a_result_is_read_with_its_errors_and_its_verdict() {
        let answered = parse(RESULT).unwrap();
        let expected = Answered {
            started_ms: 1_795_898_797_431.0,
            window_ms: 500.0,
            completed: 10_000,
            rate: 20_000.5,
            bytes_in: 1_280_000,
            p50_us: Some(40.0),
            p99_us: Some(90.0),
            p999_us: None,
            errors: 3,
            client_us: Some(5.1305),
            invalid: vec!["run_delay".to_owned()],
        };
        assert_eq!(answered, expected);
        assert!(parse("{}").unwrap_err().contains("not readable"));
    }

    #[test]
    fn the_median_has_the_decimals_of_the_percentile_file() {
        let text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n\
                    \x20     20.111 0.000000000000          1           1.00\n\
                    \x20     40.447 0.500000000000         52           2.00\n\
                    \x20     41.000 0.600000000000         60           2.50\n#[Mean = 1]\n";
        assert_eq!(median_of(text), Some(40.447));
        assert_eq!(median_of("#[Mean = 0]\n"), None);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.json"), RESULT).unwrap();
        let files = Files { folder: folder.path() };
        assert_eq!(result(&files).unwrap().p50_us, Some(40.0));
        fs::write(folder.path().join("run.hgrm"), text).unwrap();
        assert_eq!(result(&files).unwrap().p50_us, Some(40.447));
    }
}
