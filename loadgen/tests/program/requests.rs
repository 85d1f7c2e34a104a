//! What is sent: methods, fields, bodies, templates, and mixes of requests, as a server sees them.

use std::collections::BTreeSet;

use sonic_rs::JsonContainerTrait;

use crate::common::{At, Ran, Server, run, temp_dir};

/// 200 requests.
#[track_caller]
fn send(url: &str, words: &[&str]) -> Ran {
    let first = [url, "--rate", "500", "-d", "400ms", "--warmup", "0s", "-c", "4", "--quiet"];
    run(&[&first[..], words].concat()).measured()
}

#[test]
fn a_method_fields_and_a_body_are_sent_as_they_were_written() {
    let server = Server::good();
    let url = server.url("things");
    let words = ["-X", "PUT", "-H", "X-Test: a b", "-H", "Content-Type: text/plain", "--body", "hello"];
    send(&url, &words);
    let seen = server.seen();
    assert_eq!(seen.len(), 200);
    for seen in &seen {
        assert_eq!((seen.line(), seen.body.as_slice()), ("PUT /things", &b"hello"[..]));
        assert_eq!((seen.field("x-test"), seen.field("content-length")), (Some("a b"), Some("5")));
    }
    // A body alone makes it a POST; a file may hold it.
    let dir = temp_dir();
    let file = dir.path().join("body");
    std::fs::write(&file, "from a file\n").unwrap();
    let server = Server::good();
    send(&server.url(""), &["--body", &format!("@{}", file.display())]);
    let seen = server.seen();
    assert_eq!((seen[0].line(), seen[0].body.as_slice()), ("POST /", &b"from a file\n"[..]));
}

#[test]
fn templates_are_filled_in_and_their_length_is_right() {
    let server = Server::good();
    let url = server.url("item/{{counter:90}}?id={{uuid}}");
    // The placeholders of a URL need no quoting here.
    let words = [
        "--template",
        "--body",
        "n={{random:1..1000000}} h={{hex:8}} c={{choice:a|bcd|ef}}",
        "-H",
        "X-N: {{counter}}",
    ];
    send(&url, &words);
    let seen = server.seen();
    assert_eq!(seen.len(), 200);
    let mut numbers = BTreeSet::new();
    let mut lengths = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for seen in &seen {
        let line = seen.line().strip_prefix("POST /item/").unwrap_or_else(|| panic!("{}", seen.head));
        let (number, id) = line.split_once("?id=").unwrap();
        numbers.insert(number.parse::<u64>().unwrap());
        ids.insert(id.to_owned());
        assert_eq!(id.len(), 36, "{id}");
        // The server read as many bytes as the field said; the next request began behind them.
        let body = String::from_utf8(seen.body.clone()).unwrap();
        lengths.insert(body.len());
        let parts: Vec<&str> = body.split(' ').collect();
        let random: u64 = parts[0].strip_prefix("n=").unwrap().parse().unwrap();
        assert!((1..=1_000_000).contains(&random), "{body}");
        let hex = parts[1].strip_prefix("h=").unwrap();
        assert!(hex.len() == 8 && hex.chars().all(|c| c.is_ascii_hexdigit()), "{body}");
        assert!(["c=a", "c=bcd", "c=ef"].contains(&parts[2]), "{body}");
        assert!(!seen.head.contains("{{"), "{}", seen.head);
    }
    assert_eq!(numbers, (90..290).collect(), "each number once");
    assert_eq!(ids.len(), 200);
    assert!(lengths.len() > 2, "bodies of several lengths: {lengths:?}");
}

#[test]
fn the_same_seed_sends_the_same_requests_and_another_seed_others() {
    let of = |seed: &str| {
        let server = Server::good();
        send(&server.url("{{random:1..1000000}}"), &["--template", "--seed", seed]);
        let lines: BTreeSet<String> = server.seen().iter().map(|seen| seen.line().to_owned()).collect();
        lines
    };
    let (one, again, other) = (of("5"), of("5"), of("6"));
    assert_eq!(one, again);
    assert_ne!(one, other);
}

const MIX: &str = r#"
[[request]]
weight = 3
name = "list"
path = "/list"

[[request]]
weight = 1
name = "create"
method = "POST"
path = "/create/{{counter}}"
headers = ["Content-Type: application/json"]
body = '{"n": {{counter}}}'
template = true
"#;

#[test]
fn a_file_of_weighted_requests_is_sent_in_its_proportion_and_reported_by_request() {
    let dir = temp_dir();
    let file = dir.path().join("mix.toml");
    std::fs::write(&file, MIX).unwrap();
    let server = Server::good();
    let ran = send(
        &server.url(""),
        &["--requests", file.to_str().unwrap(), "--json", "/dev/stderr", "-H", "X-All: y"],
    );
    let seen = server.seen();
    let lists = seen.iter().filter(|seen| seen.line() == "GET /list").count();
    let creates: Vec<_> = seen.iter().filter(|seen| seen.line().starts_with("POST /create/")).collect();
    assert_eq!(lists + creates.len(), 200);
    // 50 of 200 with a deviation of 6; the draw is that of the seed.
    assert!((25..75).contains(&creates.len()), "{}", creates.len());
    for create in &creates {
        let number = create.line().strip_prefix("POST /create/").unwrap();
        assert_eq!(
            create.body,
            format!("{{\"n\": {number}}}").as_bytes(),
            "one number for the whole request"
        );
        assert_eq!(create.field("content-type"), Some("application/json"));
    }
    assert!(
        seen.iter().all(|seen| seen.field("x-all") == Some("y")),
        "fields of the command line go with all"
    );
    // The table by request.
    let row = |name: &str| -> u64 {
        let line = ran.out.lines().find(|line| line.trim_start().starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no row {name}: {}", ran.out));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert!(ran.out.contains("by request"), "{}", ran.out);
    assert_eq!((row("list"), row("create")), (lists as u64, creates.len() as u64));
    let json = crate::common::parse(&ran.err).unwrap();
    let kinds = json.at("runs.0.data.total.kinds").as_array().unwrap();
    assert_eq!(
        (kinds[0].count("answered"), kinds[1].count("answered")),
        (lists as u64, creates.len() as u64)
    );
}
