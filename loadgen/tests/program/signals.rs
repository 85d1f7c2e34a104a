//! Ctrl-C: one ends the window and drains, two end at once.

use sonic_rs::JsonValueTrait;

use crate::common::{At, Child, Reply, Server, loadgen, parse, until};

/// A run of a minute that has sent something.
fn under_way(server: &Server, words: &[&str]) -> Child {
    let url = server.url("");
    let first = [url.as_str(), "-d", "60s", "-c", "4", "--rate", "500"];
    let child = Child::start(&mut loadgen(&[&first[..], words].concat()));
    until("requests come", || server.requests() > 20);
    child
}

#[test]
fn one_interrupt_ends_early_with_a_report_of_what_was_measured() {
    for name in ["INT", "TERM"] {
        let server = Server::good();
        let child = under_way(&server, &["--warmup", "0s", "--json", "-"]);
        child.signal(name);
        let ran = child.ended().measured();
        assert!(ran.err.contains("ended early"), "{}", ran.err);
        let json = ran.json();
        assert_eq!(json.at("interrupted").as_bool(), Some(true));
        assert!(json.count("duration_us") < 60_000_000);
        assert_eq!(json.count("requests"), server.requests(), "every request is in the report");
        assert_eq!(json.count("errors.total"), 0, "what was under way was waited for");
    }
}

#[test]
fn two_interrupts_end_at_once_and_count_what_was_under_way() {
    let server = Server::start(|n| if n > 20 { Reply::Never } else { Reply::Good });
    let words = ["--warmup", "0s", "--timeout", "60s", "--drain", "60s", "--json", "/dev/stderr", "--quiet"];
    let child = under_way(&server, &words);
    until("all connections wait", || server.requests() == 24);
    child.signal("INT");
    child.says("Ctrl-C again");
    child.signal("INT");
    let ran = child.ended().measured();
    let document = &ran.err[ran.err.find('{').unwrap()..];
    let json = parse(document).unwrap();
    assert_eq!(json.count("errors.by_kind.unanswered"), 4, "{:?}", json.at("errors"));
    assert_eq!(json.count("requests"), json.count("counts.intended"), "those never sent, too");
}

#[test]
fn an_interrupt_before_the_window_says_that_nothing_was_measured() {
    let server = Server::good();
    let child = under_way(&server, &["--warmup", "60s"]);
    child.signal("INT");
    let ran = child.ended();
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.err.contains("nothing was measured"), "{}", ran.err);
}

#[test]
fn an_interrupt_between_runs_keeps_those_that_were_measured() {
    let server = Server::good();
    let url = server.url("");
    let words =
        [&url, "-d", "200ms", "--warmup", "2s", "-c", "2", "--rate", "200", "--repeat", "9", "--json", "-"];
    let child = Child::start(&mut loadgen(&words));
    child.says("[2/9] warming up");
    child.signal("INT");
    let ran = child.ended().measured();
    let json = ran.json();
    assert_eq!(json.count("requests"), 40, "the first run stands by itself");
    assert_eq!(json.at("interrupted").as_bool(), Some(false));
}

#[test]
fn a_null_server_ends_at_the_first_signal_and_says_what_it_served() {
    let (server, addr) = crate::common::null_server(&[]);
    let url = format!("http://{addr}/");
    crate::common::run(&[&url, "-d", "200ms", "--warmup", "0s", "-c", "2", "--rate", "100", "--quiet"])
        .measured();
    server.signal("TERM");
    let ran = server.ended();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("requests on"), "{}", ran.err);
}
