//! Servers that others wrote, and the built-in one: each protocol as it is spoken outside.

use std::process::Command;

use sonic_rs::{JsonContainerTrait, Value};

use crate::common::{At, Child, Nginx, Python, Redis, corelane, null_server, run, until};

/// The JSON of a run.
#[track_caller]
fn json(url: &str, words: &[&str]) -> Value {
    let first = [url, "--warmup", "0s", "--quiet", "--json", "-"];
    run(&[&first[..], words].concat()).measured().json()
}

/// The same, where every answer is a good one.
#[track_caller]
fn good(url: &str, words: &[&str]) -> Value {
    let json = json(url, words);
    assert_eq!(
        (json.count("errors.total"), json.count("connect_errors.total")),
        (0, 0),
        "{:?}",
        json.at("errors")
    );
    assert!(json.count("requests") > 0);
    json
}

#[test]
fn redis_takes_a_mix_of_get_and_set() {
    let Some(redis) = Redis::start() else { return };
    let words = ["--rate", "2k", "-d", "300ms", "-c", "8", "--gets", "50%", "--keys", "40", "--size", "100"];
    let json = good(&redis.url(), &words);
    assert_eq!(json.count("requests"), 600);
    // Every key was drawn, none is missing, and the values are as long as they were to be.
    assert_eq!(redis.ask(&["dbsize"]), "40");
    assert_eq!(redis.ask(&["strlen", "key:000000000007"]), "100");
    let stats = redis.ask(&["info", "commandstats"]);
    let calls = |name: &str| -> u64 {
        let line =
            stats.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {stats}"));
        line.split("calls=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap()
    };
    let (gets, sets) = (calls("cmdstat_get:"), calls("cmdstat_set:"));
    assert_eq!(gets + sets, 600);
    assert!((220..380).contains(&gets), "{gets}");
    let kinds: Vec<Value> = json.at("runs.0.data.total.kinds").as_array().unwrap().to_vec();
    let answered: Vec<u64> = kinds.iter().map(|kind| kind.count("answered")).collect();
    assert_eq!(answered, [gets, sets], "the report has them apart");
}

#[test]
fn redis_takes_a_pipeline() {
    let Some(redis) = Redis::start() else { return };
    let json =
        good(&redis.url(), &["-d", "300ms", "-c", "4", "--pipeline", "16", "--keys", "1k", "--zipf", "0.99"]);
    assert!(json.count("requests") > 64);
    let size: u64 = redis.ask(&["dbsize"]).parse().unwrap();
    assert!(size > 0 && size <= 1000, "{size}");
}

#[test]
fn errors_that_redis_replies_are_counted_and_cost_no_connection() {
    let Some(redis) = Redis::start() else { return };
    assert_eq!(redis.ask(&["lpush", "key:000000000000", "x"]), "1");
    // GET of a list is WRONGTYPE.
    let words = ["--rate", "500", "-d", "200ms", "-c", "4", "--gets", "100%", "--keys", "1", "--quiet"];
    let ran = run(&[&[redis.url().as_str(), "--warmup", "0s"][..], &words].concat());
    assert_eq!(ran.code, Some(2), "errors alone are no measurement: {ran:?}");
    assert!(ran.out.contains("100 error replies (100%)"), "{}", ran.out);
    // With a second key half of them are good.
    let json =
        json(&redis.url(), &["--rate", "500", "-d", "200ms", "-c", "4", "--gets", "100%", "--keys", "2"]);
    let errors = json.count("errors.by_kind.error_reply");
    assert!((20..80).contains(&errors), "{errors}");
    assert_eq!((json.count("errors.total"), json.count("counts.connects")), (errors, 0));
}

#[test]
fn redis_with_a_password_refuses_everything_and_the_report_says_so() {
    let Some(redis) = Redis::start() else { return };
    assert_eq!(redis.ask(&["config", "set", "requirepass", "secret"]), "OK");
    let ran = run(&[&redis.url(), "--rate", "500", "-d", "200ms", "--warmup", "0s", "-c", "4", "--quiet"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.out.contains("100 error replies (100%)"), "{}", ran.out);
}

#[test]
fn redis_asked_in_another_protocol_is_one_line() {
    let Some(redis) = Redis::start() else { return };
    let words =
        ["--rate", "100", "-d", "200ms", "--warmup", "0s", "-c", "2", "--timeout", "300ms", "--quiet"];
    let url = format!("http://{}/", redis.addr);
    run(&[&[url.as_str()][..], &words].concat()).refused(&["never gave an answer", "HTTP/1.1", "right port"]);
    let (_server, addr) = null_server(&[]);
    let url = format!("redis://{addr}");
    run(&[&[url.as_str()][..], &words].concat()).refused(&["never gave an answer", "RESP", "right port"]);
}

#[test]
fn nginx_serves_a_static_file() {
    let Some(nginx) = Nginx::start() else { return };
    let url = format!("http://{}/index.html", nginx.addr);
    let json = good(&url, &["-d", "300ms", "-c", "8"]);
    let bytes = json.count("counts.bytes_in") / json.count("counts.completed");
    assert!(bytes > 200, "a head and a file: {bytes}");
    good(&url, &["-d", "200ms", "-c", "4", "--pipeline", "8"]);
    // It closes at each answer when it is asked to, and says so.
    let json = good(&url, &["-d", "200ms", "-c", "4", "-H", "Connection: close"]);
    assert!(json.count("counts.connects") > 4, "{:?}", json.at("counts"));
    // HEAD has a length and no body; 304 has neither.
    good(&url, &["--rate", "200", "-d", "200ms", "-c", "2", "--method", "HEAD"]);
    let wanted = ["-H", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT", "--expect-status", "304"];
    good(&url, &[&["--rate", "200", "-d", "200ms", "-c", "2"][..], &wanted].concat());
    let missing = format!("http://{}/missing", nginx.addr);
    let ran = run(&[&missing, "--rate", "200", "-d", "200ms", "--warmup", "0s", "-c", "2", "--quiet"]);
    assert!(ran.out.contains("40 status 4xx (100%)"), "{}", ran.out);
}

#[test]
fn a_server_of_http_1_0_closes_after_each_answer_and_that_is_no_error() {
    let Some(python) = Python::start() else { return };
    let url = format!("http://{}/index.html", python.addr);
    let json = good(&url, &["--rate", "100", "-d", "400ms", "-c", "4"]);
    assert_eq!(json.count("requests"), 40);
    // Of forty, those in the window; four were there before it.
    assert!(json.count("counts.connects") >= 10, "{:?}", json.at("counts"));
    assert_eq!(json.count("connect.count"), json.count("counts.connects"));
}

#[test]
fn messages_come_back_from_an_echo_as_they_went() {
    let (_server, addr) = null_server(&["--scheme", "tcp", "--size", "32"]);
    let json = good(&format!("tcp://{addr}"), &["--rate", "500", "-d", "200ms", "-c", "4"]);
    // The last answers may come after the window, and bytes are counted in it.
    let bytes = json.count("counts.bytes_in");
    assert_eq!(json.count("requests"), 100);
    assert!((1_600..=3_200).contains(&bytes), "{bytes} of 100 x 32");
    let (_server, addr) = null_server(&["--scheme", "tcp", "--size", "64k"]);
    let words = ["--rate", "100", "-d", "200ms", "-c", "2", "--size", "64k", "--pipeline", "2"];
    let json = good(&format!("tcp://{addr}"), &words);
    let size = json.count("runs.0.data.settings.echo_len");
    let bytes = json.count("counts.bytes_in");
    assert_eq!(json.count("requests"), 20);
    assert!((10 * size..=20 * size).contains(&bytes), "{bytes} of 20 x {size}");
}

#[test]
fn the_null_server_speaks_every_protocol() {
    let (_http, addr) = null_server(&["--size", "100"]);
    let json =
        good(&format!("http://{addr}/any/path"), &["--rate", "100", "-d", "200ms", "-c", "2", "--body", "x"]);
    assert!(json.count("counts.bytes_in") > 10 * 100, "half of them in the window");
    let (_redis, addr) = null_server(&["--scheme", "redis"]);
    good(&format!("redis://{addr}"), &["-d", "200ms", "-c", "4", "--pipeline", "4"]);
}

#[test]
fn a_node_of_two_shards_tells_how_many_each_answered() {
    let Some(program) = corelane() else { return };
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("CORELANE_")) {
        command.env_remove(name);
    }
    command.env("CORELANE_ADMIN", "off").args(["--listen", "127.0.0.1:0", "--no-pin", "--shards", "2"]);
    let node = Child::start(&mut command);
    let mut addr = None;
    until("the node listens", || {
        let said = node.out() + &node.err();
        let place = said.split("listening on ").nth(1).map(|rest| rest.trim_start_matches("http://"));
        addr = place
            .and_then(|rest| rest.split([' ', ',', '/', '\n']).next()?.parse::<std::net::SocketAddr>().ok());
        addr.is_some()
    });
    let url = format!("http://{}/plaintext", addr.unwrap());
    let json = good(&url, &["--rate", "1k", "-d", "500ms", "-c", "16", "--no-pin"]);
    let shards: Vec<u64> = json
        .at("host.shard_requests")
        .as_array()
        .unwrap()
        .iter()
        .map(|n| sonic_rs::JsonValueTrait::as_u64(n).unwrap())
        .collect();
    assert_eq!(shards.len(), 2, "{shards:?}");
    // It is asked around the window, and some requests fall between the asking and the window: the more, the
    // longer a busy host takes to ask.
    assert!(shards.iter().sum::<u64>() >= 100, "{shards:?}");
}
