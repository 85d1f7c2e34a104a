//! Shapes of load: what was asked for is what a server sees.

use std::net::IpAddr;
use std::time::Duration;

use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

use crate::common::{At, Reply, Server, null_server, run, temp_dir};

/// A run against this URL with its JSON; every request is answered well.
#[track_caller]
fn good(url: &str, words: &[&str]) -> Value {
    let first = [url, "--quiet", "--json", "-"];
    let json = run(&first.into_iter().chain(words.iter().copied()).collect::<Vec<_>>()).measured().json();
    assert_eq!(
        (json.count("errors.total"), json.count("connect_errors.total")),
        (0, 0),
        "{:?}",
        json.at("errors")
    );
    assert_eq!(json.count("response.count"), json.count("requests"));
    assert!(json.count("requests") > 0);
    json
}

/// Requests that were due, all of which were sent and answered.
#[track_caller]
fn due(json: &Value) -> u64 {
    let due = json.count("counts.intended");
    assert_eq!((json.count("counts.sent"), json.count("requests")), (due, due));
    due
}

#[test]
fn a_rate_is_kept_whatever_the_answers() {
    let server = Server::good();
    let json = good(&server.url(""), &["--rate", "2k", "-d", "1s", "--warmup", "100ms"]);
    assert_eq!(due(&json), 2_000);
    assert_eq!(server.requests(), 2_200, "the warm-up is sent and not counted");
    let (offered, achieved) = (json.number("offered_rate"), json.number("rate"));
    assert!((offered - 2_000.0).abs() < 1.0, "{offered}");
    // A host that was busy says so, and answers came when they could. The last ones may come after the window.
    if json.text("verdict.level") == "VALID" {
        assert!((achieved - offered).abs() <= 0.1 * offered, "{achieved} of {offered}");
    }
}

#[test]
fn poisson_arrivals_are_those_of_their_seed() {
    let (_server, addr) = null_server(&[]);
    let of = |seed: &str| {
        let words =
            ["--rate", "2k", "--arrivals", "poisson", "-d", "500ms", "--warmup", "0s", "--seed", seed];
        due(&good(&format!("http://{addr}/"), &words))
    };
    let (one, again, other) = (of("1"), of("1"), of("2"));
    assert_eq!(one, again);
    // A count with a mean of 1000 has a deviation of 32.
    assert!((840..1160).contains(&one) && (840..1160).contains(&other), "{one}, {other}");
}

#[test]
fn bursts_come_at_once_and_wait_for_connections_on_our_account() {
    let server = Server::good();
    let words = ["--rate", "1k", "--arrivals", "burst:10", "-d", "400ms", "--warmup", "0s", "-c", "2"];
    let json = good(&server.url(""), &words);
    assert_eq!(due(&json), 400);
    assert_eq!(server.requests(), 400);
    // Ten at once on two connections: eight wait, or more where the ten before are not done.
    assert!(json.count("counts.waited") >= 320, "{:?}", json.at("counts"));
}

#[test]
fn a_trace_is_followed_line_by_line() {
    let dir = temp_dir();
    let file = dir.path().join("trace.txt");
    let mut text = "# seconds from the start\n".to_owned();
    (0..50).for_each(|n| text += &format!("{}.{:03}\n", 0, n * 5));
    text += "0.9\n"; // after the window
    std::fs::write(&file, text).unwrap();
    let server = Server::good();
    let arrivals = format!("trace:{}", file.display());
    let json = good(&server.url(""), &["--arrivals", &arrivals, "-d", "300ms", "--warmup", "0s"]);
    assert_eq!(due(&json), 50);
    assert_eq!(server.requests(), 50);
}

#[test]
fn stages_change_the_rate_and_pause() {
    let server = Server::good();
    let words = ["--stages", "1k@200ms,0@100ms,2k@200ms", "-d", "500ms", "--warmup", "0s"];
    let json = good(&server.url(""), &words);
    assert_eq!(due(&json), 600);
    assert_eq!(server.requests(), 600);
}

#[test]
fn a_ramp_rises_from_nothing_to_the_rate() {
    let server = Server::good();
    let words = ["--rate", "1k", "--ramp", "400ms", "-d", "500ms", "--warmup", "0s"];
    let json = good(&server.url(""), &words);
    // Half of 400 in the ramp, and 100 behind it.
    assert!((299..=301).contains(&due(&json)), "{}", due(&json));
    // In a closed loop it is connections that begin one after another.
    good(&server.url(""), &["-c", "4", "--ramp", "100ms", "-d", "300ms", "--warmup", "0s"]);
}

#[test]
fn thinking_connections_ask_no_more_often_than_they_think() {
    let server = Server::good();
    let json = good(&server.url(""), &["-c", "8", "--think", "50ms", "-d", "400ms", "--warmup", "0s"]);
    // At the start, and at most every 50 ms from then on.
    assert!(json.count("requests") <= 8 * 9, "{}", json.count("requests"));
    let json = good(&server.url(""), &["-c", "8", "--think", "exp:10ms", "-d", "1s", "--warmup", "0s"]);
    assert!(json.count("requests") > 8, "{}", json.count("requests"));
}

#[test]
fn connections_are_changed_after_so_many_requests() {
    let server = Server::good();
    let words = ["-c", "4", "--requests-per-connection", "5", "-d", "1s", "--warmup", "0s", "--think", "1ms"];
    let json = good(&server.url(""), &words);
    let connections: u64 = server.peers().values().sum();
    let requests = server.requests();
    assert!(requests <= 5 * connections, "{requests} requests on {connections} connections");
    assert!(connections > 4);
    // Connect times have a table of their own. The first connections were opened before the window.
    let opened = json.count("counts.connects");
    assert!(opened >= connections - 4, "{opened} of {connections}");
    assert_eq!(json.count("connect.count"), opened);
    json.count("connect.p99_us");
    let ran = run(&[&server.url(""), "-c", "4", "--requests-per-connection", "1", "-d", "200ms", "--quiet"]);
    assert!(ran.measured().out.contains("  connect "), "a line of the report");
}

#[test]
fn a_pipeline_keeps_as_many_requests_under_way() {
    // One after the other, each takes 5 ms or more: behind fifteen others, 80 ms or more.
    let server = Server::start(|_| Reply::Slow(Duration::from_millis(5)));
    let words = ["-c", "1", "--pipeline", "16", "-d", "500ms", "--warmup", "100ms"];
    let json = good(&server.url(""), &words);
    assert!(json.count("response.p50_us") >= 70_000, "{:?}", json.at("response"));
    let (_server, addr) = null_server(&[]);
    good(&format!("http://{addr}/"), &["-c", "4", "--pipeline", "16", "-d", "200ms", "--warmup", "20ms"]);
}

#[test]
fn several_threads_share_the_load_and_need_no_pins() {
    let server = Server::good();
    let words = ["--threads", "2", "--no-pin", "-c", "5", "--rate", "1k", "-d", "300ms", "--warmup", "0s"];
    let json = good(&server.url(""), &words);
    assert_eq!(due(&json), 300);
    let workers = json.at("workers").as_array().unwrap().to_vec();
    assert_eq!(workers.len(), 2);
    for worker in &workers {
        assert!(worker.at("cpu").is_null() && worker.count("enters") > 0, "{worker:?}");
    }
    assert_eq!(server.peers().values().sum::<u64>(), 5);
}

#[test]
fn threads_that_are_done_before_others_do_not_end_the_run() {
    // More threads than CPUs: the window of some is over, and they with it, while others have not noticed.
    let server = Server::good();
    let words = ["--threads", "8", "--no-pin", "-c", "8", "--rate", "800", "-d", "200ms", "--warmup", "0s"];
    for _ in 0..5 {
        assert_eq!(due(&good(&server.url(""), &words)), 160);
    }
}

#[test]
fn a_list_of_source_addresses_is_used_in_turn() {
    let server = Server::good();
    let words =
        ["--source", "127.0.0.1-127.0.0.4", "-c", "8", "--rate", "1k", "-d", "300ms", "--warmup", "0s"];
    good(&server.url(""), &words);
    let peers: Vec<(IpAddr, u64)> = server.peers().into_iter().collect();
    let wanted: Vec<(IpAddr, u64)> = (1..=4).map(|n| (IpAddr::from([127, 0, 0, n]), 2)).collect();
    assert_eq!(peers, wanted);
}

#[test]
fn a_host_by_its_name_is_found() {
    let server = Server::good();
    let url = format!("http://localhost:{}/", server.addr().port());
    good(&url, &["-c", "2", "--rate", "100", "-d", "200ms", "--warmup", "0s"]);
    let host = format!("localhost:{}", server.addr().port());
    assert!(server.seen().iter().all(|seen| seen.field("host") == Some(host.as_str())));
}

#[test]
fn busy_polling_sends_the_same_and_says_what_it_cost() {
    let server = Server::good();
    let words = ["--busy-poll", "--rate", "500", "-c", "4", "-d", "200ms", "--warmup", "0s"];
    assert_eq!(due(&good(&server.url(""), &words)), 100);
}
