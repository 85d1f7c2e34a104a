//! Objectives: met is 0, missed is 1, and a run that measured nothing is neither.

use sonic_rs::JsonValueTrait;

use crate::common::{At, Ran, Reply, Server, level_of, run};

#[track_caller]
fn held_against(server: &Server, slo: &str) -> Ran {
    let url = server.url("");
    let words = ["--rate", "500", "-d", "200ms", "--warmup", "0s", "-c", "8", "--quiet", "--slo", slo];
    run(&[&[url.as_str()][..], &words, &["--json", "/dev/stderr"]].concat())
}

/// The exit code, unless the run is INVALID.
#[track_caller]
fn ends_with(ran: &Ran, code: i32) {
    let level = level_of(&ran.out).unwrap_or_else(|| panic!("no verdict: {ran:?}"));
    assert_eq!(ran.code, Some(if level == "INVALID" { 2 } else { code }), "{level}: {ran:?}");
    let json = crate::common::parse(&ran.err).unwrap();
    assert_eq!(json.at("slo.0.met").as_bool(), Some(code == 0), "{:?}", json.at("slo"));
}

#[test]
fn an_objective_that_is_met_is_exit_code_0() {
    let ran = held_against(&Server::good(), "p99=1m,max=1m,errors=0%,rate=1");
    ends_with(&ran, 0);
    assert!(ran.out.contains("p99 <= "), "{}", ran.out);
}

#[test]
fn an_objective_that_is_missed_is_exit_code_1() {
    let ran = held_against(&Server::good(), "p99=1ns");
    ends_with(&ran, 1);
    ends_with(&held_against(&Server::every(10, Reply::Status(500)), "errors=5%"), 1);
    ends_with(&held_against(&Server::every(10, Reply::Status(500)), "errors=15%"), 0);
}

#[test]
fn an_invalid_run_neither_meets_nor_misses_an_objective() {
    for slo in ["p99=1m", "errors=0%"] {
        let ran = held_against(&Server::start(|_| Reply::Status(500)), slo);
        assert_eq!((ran.code, level_of(&ran.out)), (Some(2), Some("INVALID")), "{ran:?}");
    }
}

#[test]
fn a_percentile_that_is_a_lower_bound_meets_nothing() {
    // One in ten is never answered: P95 is a minute or more for all we know.
    let server = Server::every(10, Reply::Never);
    let url = server.url("");
    let words =
        ["--rate", "200", "-d", "200ms", "--warmup", "0s", "-c", "16", "--timeout", "100ms", "--quiet"];
    let ran = run(&[&[url.as_str()][..], &words, &["--slo", "p95=1m", "--json", "/dev/stderr"]].concat());
    ends_with(&ran, 1);
}
