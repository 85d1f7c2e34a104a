//! Servers that answer badly, late or never: each fault is counted by its kind, none ends the program.

use std::time::Duration;

use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

use crate::common::{At, Ran, Reply, Server, run};

const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello";

/// Longer than a host may be busy: what is given up after it was never going to be answered.
const LONG: &str = "2s";

/// 200 requests at times that do not depend on answers, with more words. An answer that is not there after
/// `timeout` is given up.
#[track_caller]
fn ran_within(timeout: &str, server: &Server, words: &[&str]) -> Ran {
    let url = server.url("");
    // More connections than answers that never come: no request waits for another one's timeout.
    let first = [url.as_str(), "--rate", "500", "-d", "400ms", "--warmup", "0s", "-c", "32", "--quiet"];
    run(&first
        .into_iter()
        .chain(["--timeout", timeout, "--drain", timeout])
        .chain(words.iter().copied())
        .collect::<Vec<_>>())
}

/// The same against a server that always answers something, which may take its time.
#[track_caller]
fn ran(server: &Server, words: &[&str]) -> Ran {
    ran_within("20s", server, words)
}

/// The same where every 10th gets `reply`: 20 errors of `kind` (none where it is empty) and of no other.
#[track_caller]
fn twenty(reply: Reply, kind: &str) -> Value {
    let server = Server::every(10, reply);
    let timeout = if kind == "timeout" { LONG } else { "20s" };
    let json = ran_within(timeout, &server, &["--json", "-"]).measured().json();
    // A connect that a busy host delays past the window is a request that waits, never one that is lost.
    assert_eq!((json.count("counts.intended"), json.count("requests")), (200, 200));
    assert_eq!(server.requests(), 200);
    let kinds = json.at("errors.by_kind").as_object().unwrap();
    let seen: Vec<(&str, u64)> = kinds.iter().map(|(kind, count)| (kind, count.as_u64().unwrap())).collect();
    let seen: Vec<_> = seen.into_iter().filter(|&(_, count)| count > 0).collect();
    // Bytes that belong to no request are an error of the window alone, and a busy host has answers after it.
    let late = if kind == "unasked" { 20 - json.count("errors.total").clamp(1, 20) } else { 0 };
    let wanted: Vec<(&str, u64)> = if kind.is_empty() { vec![] } else { vec![(kind, 20 - late)] };
    assert_eq!(seen, wanted);
    assert_eq!(json.count("errors.total"), wanted.iter().map(|(_, count)| count).sum::<u64>());
    json
}

#[test]
fn a_status_of_500_is_an_answer_and_an_error() {
    let json = twenty(Reply::Status(500), "status_5xx");
    assert_eq!(json.count("response.bounds_count"), 0, "its time is known");
    assert_eq!(json.count("counts.connects"), 0, "its connection is kept");
    assert!((json.number("errors.share") - 0.1).abs() < 1e-9);
}

#[test]
fn a_status_of_404_is_an_error_unless_it_is_expected() {
    twenty(Reply::Status(404), "status_4xx");
    let server = Server::every(10, Reply::Status(404));
    let json = ran(&server, &["--json", "-", "--expect-status", "200,404"]).measured().json();
    assert_eq!(json.count("errors.total"), 0);
    let json = ran(&server, &["--json", "-", "--expect-status", "404"]).measured().json();
    assert_eq!(json.count("errors.total"), 180);
}

#[test]
fn a_redirect_is_an_answer_and_not_followed() {
    twenty(Reply::Status(301), "");
}

#[test]
fn garbage_is_an_error_and_its_connection_is_replaced() {
    let json = twenty(Reply::Bytes("SSH-2.0-OpenSSH_9.2\r\n"), "garbage");
    // Of twenty, those in the window.
    assert!(json.count("counts.connects") >= 10, "{:?}", json.at("counts"));
    twenty(Reply::Bytes("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"), "garbage");
}

#[test]
fn half_an_answer_and_the_end_is_a_truncated_one() {
    let json = twenty(Reply::Last(HALF), "truncated");
    assert_eq!(json.count("response.bounds_count"), 20, "how long the whole would have taken is not known");
}

#[test]
fn half_an_answer_and_silence_is_a_timeout() {
    let json = twenty(Reply::Bytes(HALF), "timeout");
    assert!(json.count("response.max_us") >= 2_000_000);
}

#[test]
fn a_length_that_is_too_large_is_a_timeout_and_one_too_small_leaves_unasked_bytes() {
    twenty(Reply::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\nHello, World!"), "timeout");
    twenty(Reply::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHello, World!"), "unasked");
}

#[test]
fn an_end_before_the_answer_is_a_closed_connection() {
    twenty(Reply::Close, "closed");
}

#[test]
fn a_reset_before_the_answer_is_counted_as_one() {
    twenty(Reply::Reset, "reset");
}

#[test]
fn chunked_and_interim_answers_are_good_ones() {
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nHello\r\n8;x=y\r\n, World!\r\n0\r\n\r\n";
    twenty(Reply::Bytes(chunked), "");
    twenty(Reply::Bytes("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"), "");
}

#[test]
fn an_answer_up_to_the_end_of_the_stream_is_a_good_one() {
    let json = twenty(Reply::Last("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nHello, World!"), "");
    assert!(json.count("counts.connects") >= 10, "{:?}", json.at("counts"));
    twenty(Reply::Last("HTTP/1.0 200 OK\r\n\r\nHello, World!"), "");
}

#[test]
fn slow_answers_are_waited_for_and_measured() {
    let json = twenty(Reply::Slow(Duration::from_millis(60)), "");
    assert!(json.count("response.max_us") >= 60_000, "{:?}", json.at("response"));
    assert!(json.count("service.p95_us") >= 60_000, "{:?}", json.at("service"));
}

#[test]
fn percentiles_among_requests_that_were_never_answered_read_as_lower_bounds() {
    // 500 requests, 5 without an answer: 1 %.
    let server = Server::every(100, Reply::Never);
    let words = [
        "--rate",
        "1k",
        "-d",
        "500ms",
        "--timeout",
        LONG,
        "--drain",
        LONG,
        "--percentiles",
        "50,99.5",
        "--warmup",
        "0s",
    ];
    let url = server.url("");
    let first = [url.as_str(), "-c", "32", "--quiet", "--json", "/dev/stderr"];
    let ran = run(&first.into_iter().chain(words).collect::<Vec<_>>()).measured();
    let row = |name: &str| ran.out.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
    // Each was given up two seconds after it was sent, and no busy host sends it another second late.
    assert!(row("P99.5").contains(">= 2."), "{}", ran.out);
    assert!(row("max").contains(">= 2."), "{}", ran.out);
    assert!(!row("P50").contains(">="), "{}", ran.out);
    assert!(ran.out.contains("5 timeouts (1.00%)"), "{}", ran.out);
    let json = crate::common::parse(&ran.err).unwrap();
    assert_eq!((json.count("requests"), json.count("response.bounds_count")), (500, 5));
    assert!(json.count("response.p99_5_us") >= 1_999_000, "{:?}", json.at("response"));
    let bounds: Vec<_> = json.at("response.lower_bounds").as_array().unwrap().to_vec();
    let named = |key: &str| bounds.iter().any(|name| name.as_str() == Some(key));
    assert!(named("p99_5_us") && named("max_us") && !named("p50_us"), "{bounds:?}");
}

#[test]
fn requests_behind_a_lost_one_are_counted_apart() {
    let server = Server::every(50, Reply::Close);
    let url = server.url("");
    let words = ["-c", "1", "--pipeline", "8", "-d", "1s", "--warmup", "0s", "--quiet", "--json", "-"];
    let json = run(&[&[url.as_str()][..], &words].concat()).measured().json();
    let (closed, abandoned) = (json.count("errors.by_kind.closed"), json.count("errors.by_kind.abandoned"));
    let (reset, total) = (json.count("errors.by_kind.reset"), json.count("errors.total"));
    assert!(closed + reset > 0 && abandoned > 0, "{:?}", json.at("errors"));
    assert!(abandoned <= 7 * (closed + reset), "{:?}", json.at("errors"));
    assert_eq!(total, closed + reset + abandoned, "{:?}", json.at("errors"));
}

#[test]
fn a_server_that_goes_half_way_leaves_a_report_with_every_request() {
    let server = Server::start(|n| if n == 100 { Reply::Gone } else { Reply::Good });
    // Those that find no server wait for one until the drain ends.
    let ran = ran_within(LONG, &server, &["--json", "/dev/stderr"]);
    let json = crate::common::parse(&ran.err).unwrap();
    assert_eq!(json.count("requests"), 200);
    assert!(json.count("errors.total") > 50, "{:?}", json.at("errors"));
    assert!(json.count("connect_errors.by_kind.refused") > 0, "{:?}", json.at("connect_errors"));
    assert!(ran.out.contains("connect refused") && ran.out.contains("never sent"), "{}", ran.out);
    let answered = json.count("response.count") - json.count("response.bounds_count");
    assert_eq!(answered + json.count("errors.total"), 200);
    ran.measured();
}

#[test]
fn a_server_that_goes_in_a_closed_loop_leaves_a_report_as_well() {
    let server = Server::start(|n| if n == 100 { Reply::Gone } else { Reply::Good });
    let url = server.url("");
    let words =
        ["-c", "8", "-d", "1s", "--warmup", "0s", "--quiet", "--think", "1ms", "--json", "/dev/stderr"];
    let ran = run(&[&[url.as_str()][..], &words].concat());
    let json = crate::common::parse(&ran.err).unwrap();
    assert!(json.count("requests") >= 100, "{:?}", json.at("counts"));
    assert!(json.count("connect_errors.by_kind.refused") > 0, "{:?}", json.at("connect_errors"));
    ran.measured();
}

#[test]
fn a_server_that_never_answers_in_its_protocol_is_one_line_with_the_cure() {
    for (reply, words) in [
        (Reply::Bytes("SSH-2.0-OpenSSH_9.2\r\n"), "not the protocol"),
        (Reply::Close, "closed before an answer"),
        (Reply::Never, "timeouts"),
        (Reply::Last(HALF), "closed within an answer"),
    ] {
        let timeout = if matches!(reply, Reply::Never) { "300ms" } else { "20s" };
        let server = Server::start(move |_| reply.clone());
        ran_within(timeout, &server, &[]).refused(&["never gave an answer", "HTTP/1.1", words, "right port"]);
    }
}

#[test]
fn errors_alone_are_no_measurement() {
    let server = Server::start(|_| Reply::Status(503));
    let ran = ran(&server, &[]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.out.contains("200 status 5xx (100%)") && ran.out.contains("INVALID"), "{}", ran.out);
}

#[test]
fn an_endless_head_is_garbage_and_takes_no_memory() {
    // Longer than any head that is read.
    let endless: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(300_000)).into_boxed_str());
    twenty(Reply::Bytes(endless), "garbage");
}
