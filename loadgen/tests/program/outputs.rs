//! Where results go: the report, JSON, files, the two streams, colour, and pipes that close.

use sonic_rs::JsonContainerTrait;

use crate::common::{At, Ran, Server, level_of, null_server, parse, run, run_within, temp_dir};

/// A short run against a server that answers well, with more words.
#[track_caller]
fn short(words: &[&str]) -> Ran {
    let (_server, addr) = null_server(&[]);
    let url = format!("http://{addr}/");
    let first = [url.as_str(), "-d", "200ms", "--warmup", "20ms", "-c", "8"];
    run(&first.into_iter().chain(words.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn a_url_and_nothing_else_gives_a_whole_report_and_its_verdict() {
    let (_server, addr) = null_server(&[]);
    // The window alone is shortened: ten seconds are nothing for a test.
    let ran = run(&[&format!("http://{addr}/plaintext"), "-d", "500ms"]).measured();
    assert!(ran.out.starts_with(&format!("http://{addr}/plaintext\n")), "{}", ran.out);
    for words in
        ["closed loop, 64 connections", "requests", "/s in, ", "no errors", "response time up to", "client"]
    {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    for row in ["P50", "P75", "P90", "P95", "P99", "P99.9", "P99.99", "max"] {
        let line = ran.out.lines().find(|line| line.split_whitespace().next() == Some(row));
        let line = line.unwrap_or_else(|| panic!("no row {row}: {}", ran.out));
        let unit = line.split_whitespace().nth(2).unwrap_or_default();
        assert!(["ns", "us", "ms", "s"].contains(&unit), "{line}");
    }
    // What goes on is said on the other stream.
    assert!(ran.err.contains("warming up for 1.00 s"), "{}", ran.err);
    assert!(ran.err.contains("0 s left"), "{}", ran.err);
    assert!(!ran.err.contains("verdict"), "{}", ran.err);
}

#[test]
fn the_printed_verdict_the_written_one_and_the_exit_code_are_the_same() {
    let dir = temp_dir();
    let file = dir.path().join("run.json");
    let ran = short(&["--json", file.to_str().unwrap()]).measured();
    let json = parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(level_of(&ran.out), Some(json.text("verdict.level")));
    assert_eq!(json.text("runs.0.data.verdict.level"), json.text("verdict.level"));
    for reason in json.at("verdict.reasons").as_array().unwrap() {
        // The report wraps its lines.
        let said = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(reason.text("text")), "{}: {said}", reason.text("text"));
    }
}

#[test]
fn quiet_leaves_nothing_but_the_report() {
    let ran = short(&["--quiet"]).measured();
    assert_eq!(ran.err, "");
    assert!(ran.out.contains("verdict"), "{}", ran.out);
}

#[test]
fn what_is_piped_has_no_escape_codes_unless_asked_for() {
    let ran = short(&[]).measured();
    assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b') && !ran.err.contains('\r'), "{ran:?}");
    let ran = short(&["--color", "always"]);
    assert!(ran.out.contains("\x1b["), "{}", ran.out);
    let ran = short(&["--color", "never"]).measured();
    assert!(!ran.out.contains('\x1b'), "{}", ran.out);
}

/// The program on a terminal of its own, as `script` makes one.
fn on_a_terminal(environment: &[(&str, &str)], words: &str) -> Option<String> {
    let script = crate::common::tool("script")?;
    let mut command = std::process::Command::new(script);
    let line = format!("stty cols 100 rows 40; '{}' {words}", env!("CARGO_BIN_EXE_loadgen"));
    command.args(["-qec", &line, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm-256color");
    command.envs(environment.iter().copied());
    let ran = run_within(&mut command);
    assert!(ran.out.contains("verdict"), "{ran:?}");
    Some(ran.out)
}

#[test]
fn a_terminal_has_colour_unless_no_color_says_otherwise() {
    let (_server, addr) = null_server(&[]);
    let words = format!("http://{addr}/ -d 200ms --warmup 0s -c 8 --quiet");
    let Some(out) = on_a_terminal(&[], &words) else { return };
    assert!(out.contains("\x1b["), "{out:?}");
    let out = on_a_terminal(&[("NO_COLOR", "1")], &words).unwrap();
    assert!(!out.contains('\x1b'), "{out:?}");
    let out = on_a_terminal(&[("TERM", "dumb")], &words).unwrap();
    assert!(!out.contains('\x1b'), "{out:?}");
    // With progress, a line is drawn over and again, and gone at the end.
    let out =
        on_a_terminal(&[("NO_COLOR", "1")], &words.replace(" --quiet", " -d 1500ms").replace("-d 200ms", ""))
            .unwrap();
    assert!(out.contains("p99") && out.contains('\r'), "{out:?}");
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    let (_server, addr) = null_server(&[]);
    let program = env!("CARGO_BIN_EXE_loadgen");
    for words in ["", "--json -", "--html -", "--help"] {
        let line = format!(
            "{{ '{program}' http://{addr}/ -d 200ms --warmup 0s -c 8 --quiet {words}; echo $? >&2; }} \
             | head -c 1"
        );
        let ran = run_within(std::process::Command::new("sh").args(["-c", &line]));
        assert_eq!(ran.out.len(), 1, "{words}: {ran:?}");
        let code = ran.err.trim_end().lines().last().unwrap_or_default();
        assert!(code == "0" || code == "2" && words != "--help", "{words}: {ran:?}");
        assert!(!ran.err.contains("Broken pipe") && !ran.err.contains("panicked"), "{words}: {ran:?}");
    }
}

#[test]
fn a_closed_standard_error_is_no_error() {
    let (_server, addr) = null_server(&[]);
    let program = env!("CARGO_BIN_EXE_loadgen");
    let line = format!("exec '{program}' http://{addr}/ -d 200ms --warmup 20ms -c 8 2>&-");
    let ran = run_within(std::process::Command::new("sh").args(["-c", &line])).measured();
    assert_eq!(ran.err, "");
}

#[test]
fn json_has_whole_microseconds_and_counts_what_was_asked() {
    let (_server, addr) = null_server(&[]);
    let url = format!("http://{addr}/");
    let ran =
        run(&[&url, "-d", "300ms", "--warmup", "20ms", "-c", "8", "--rate", "1k", "--json", "-"]).measured();
    // The report goes to the other stream then.
    assert!(ran.err.contains("verdict"), "{}", ran.err);
    let json = ran.json();
    assert_eq!(json.text("url"), url);
    assert_eq!(json.count("requests"), 300);
    for latency in ["response", "service", "send_lag", "own_lag"] {
        for key in ["min", "p50", "p75", "p90", "p95", "p99", "p99_9", "p99_99", "max"] {
            json.count(&format!("{latency}.{key}_us"));
        }
        assert_eq!(json.count(&format!("{latency}.count")), 300, "{latency}");
    }
    let at = |key: &str| json.count(&format!("response.{key}_us"));
    assert!(at("min") <= at("p50") && at("p50") <= at("p99") && at("p99") <= at("max"));
    assert!(at("p99") >= json.count("service.p50_us"));
    assert_eq!(json.text("provenance.command").split(' ').next_back(), Some("-"));
    assert_eq!(json.count("runs.0.data.settings.seed"), 1);
    let workers = json.at("workers").as_array().unwrap().len() as u64;
    assert_eq!(workers, json.count("runs.0.data.settings.threads"));
}

#[test]
fn every_file_that_was_asked_for_is_written() {
    let dir = temp_dir();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let names = ["json", "html", "csv", "hlog", "hgrm"];
    let words: Vec<String> =
        names.iter().flat_map(|n| [format!("--{n}"), path(&format!("run.{n}"))]).collect();
    let ran = short(&words.iter().map(String::as_str).collect::<Vec<_>>()).measured();
    assert!(ran.out.contains("verdict"), "files leave standard output to the report");
    let text = |name: &str| std::fs::read_to_string(dir.path().join(format!("run.{name}"))).unwrap();
    let json = parse(&text("json")).unwrap();
    let html = text("html");
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("<svg"), "{}", &html[..200]);
    assert!(!html.contains("<script src") && !html.contains("<link"), "no asset from outside");
    let csv = text("csv");
    let slices = json.at("runs.0.data.slices").as_array().unwrap().len();
    assert_eq!(csv.lines().count(), slices + 1, "a head, and a row for each slice: {csv}");
    assert!(text("hlog").contains("[Histogram log format version 1."), "{}", text("hlog"));
    let hgrm = text("hgrm");
    assert!(hgrm.contains("Percentile") && hgrm.contains("#[Mean"), "{hgrm}");
    let total = format!("Total count    = {:>12}", json.count("requests"));
    assert!(hgrm.contains(&total), "{total}: {hgrm}");
}

#[test]
fn several_runs_are_numbered_and_together_in_one_document() {
    let dir = temp_dir();
    let (json, csv) = (dir.path().join("all.json"), dir.path().join("slices.csv"));
    let (json, csv) = (json.to_str().unwrap(), csv.to_str().unwrap());
    let ran = short(&["--repeat", "3", "--json", json, "--csv", csv]);
    assert_eq!(ran.out.matches("  verdict").count(), 3, "{}", ran.out);
    assert!(ran.err.contains("[3/3] "), "{}", ran.err);
    let document = parse(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(document.at("runs").as_array().unwrap().len(), 3);
    assert!(document.as_object().unwrap().get(&"response").is_none(), "no run stands for all");
    for name in ["slices.csv", "slices-2.csv", "slices-3.csv"] {
        assert!(dir.path().join(name).is_file(), "{name}");
    }
}

#[test]
fn a_disk_that_is_full_is_said_after_the_report() {
    // Every write there fails with ENOSPC.
    let ran = short(&["--json", "/dev/full"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.out.contains("verdict"), "what was measured is not lost: {ran:?}");
    assert!(ran.err.contains("/dev/full") && ran.err.contains("No space left"), "{}", ran.err);
}

#[test]
fn words_of_a_url_reach_the_server_as_they_were_written() {
    let server = Server::good();
    let url = server.url("a%20b?c=d&e=%2F");
    run(&[&url, "-d", "200ms", "--warmup", "0s", "-c", "1", "--rate", "20", "--quiet"]).measured();
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|seen| seen.line() == "GET /a%20b?c=d&e=%2F"), "{seen:?}");
    assert_eq!(seen[0].field("host"), Some(server.addr().to_string().as_str()));
}
