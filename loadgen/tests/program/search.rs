//! `loadgen knee`: a search that ends with an answer, or early when it is told to.

use std::time::{Duration, Instant};

use crate::common::{Child, PATIENCE, Reply, Server, loadgen, null_server, run};

#[test]
fn a_knee_without_an_objective_says_what_to_add() {
    let server = Server::good();
    run(&["knee", &server.url("")]).refused(&["add --slo p99=5ms"]);
    run(&["knee", &server.url(""), "--slo", "rate=1k"]).refused(&["no term to search by", "latency"]);
    run(&["knee", &server.url(""), "--slo", "p99=5ms", "--rate", "1k"]).refused(&["--start", "--max"]);
    run(&["knee", &server.url(""), "--slo", "p99=5ms", "--start", "2k", "--max", "1k"]).refused(&["start"]);
    run(&["knee", &server.url(""), "--slo", "p99=5ms", "--start", "-1"]).refused(&["negative"]);
    assert_eq!(server.requests(), 0);
}

/// Lines of the curve.
fn rows(out: &str) -> Vec<&str> {
    let known = ["climb", "descend", "bisect", "confirm", "overload", "recover"];
    out.lines().filter(|line| known.iter().any(|phase| line.starts_with(phase))).collect()
}

#[test]
fn a_knee_prints_its_curve_and_an_answer() {
    let (_server, addr) = null_server(&[]);
    let url = format!("http://{addr}/");
    let words =
        ["--slo", "p99=10s", "--start", "1k", "--max", "4k", "-d", "300ms", "--warmup", "100ms", "-c", "8"];
    let mut child = Child::start(&mut loadgen(&[&["knee", url.as_str()][..], &words].concat()));
    // A host that is busy makes measurements unfit, and the search goes down and pauses for as long as it
    // takes.
    let start = Instant::now();
    while !child.has_ended() && start.elapsed() < PATIENCE {
        if child.out().contains("generator-limited") {
            child.signal("INT");
            let ran = child.ended();
            // It may have been its last step, and the signal too late.
            if ran.code != Some(0) {
                assert_eq!(ran.code, Some(2), "{ran:?}");
                assert!(ran.err.contains("ended early: the knee was not found"), "{}", ran.err);
            }
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let ran = child.ended();
    if ran.out.contains("generator-limited") {
        return;
    }
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("phase "), "{}", ran.out);
    let rows = rows(&ran.out);
    assert!(rows.iter().any(|row| row.contains("4.00k/s") && row.ends_with("met")), "{}", ran.out);
    assert_eq!(rows.iter().filter(|row| row.starts_with("confirm")).count(), 3, "{}", ran.out);
    assert!(ran.out.contains("p99=10s: >= 4.00k/s"), "{}", ran.out);
}

#[test]
fn an_interrupt_ends_a_search_in_its_pause() {
    // Everything is an error: each step misses, and a pause of 3 s or more follows.
    let server = Server::start(|_| Reply::Status(500));
    let url = server.url("");
    let words =
        ["--slo", "errors=1%", "--start", "200", "-d", "200ms", "--warmup", "0s", "-c", "4", "--json", "-"];
    // On a busy host one of a few tries is not held up for as long as the pause.
    let in_its_pause = (0..5).any(|_| {
        let child = Child::start(&mut loadgen(&[&["knee", url.as_str()][..], &words].concat()));
        crate::common::until("a step is done", || !rows(&child.out()).is_empty());
        let start = Instant::now();
        child.signal("INT");
        let ran = child.ended();
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains("ended early: the knee was not found"), "{}", ran.err);
        assert!(ran.out.contains("\"runs\": ["), "what was measured is written: {}", ran.out);
        start.elapsed() < Duration::from_millis(2500)
    });
    assert!(in_its_pause, "the pause was waited for");
}
