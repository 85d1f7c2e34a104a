//! Bad input: one clear line with the cure, exit code 2, and no load sent.

use crate::common::{Server, free_port, null_server, run, run_within, temp_dir};

/// Words against a server that must see nothing; they are refused with `wanted`.
#[track_caller]
fn refused(words: &[&str], wanted: &[&str]) {
    let server = Server::good();
    let url = server.url("");
    let words: Vec<&str> = [url.as_str()].into_iter().chain(words.iter().copied()).collect();
    run(&words).refused(wanted);
    assert_eq!((server.requests(), server.peers().len()), (0, 0), "no load is sent before a refusal");
}

#[test]
fn an_https_url_is_refused_with_what_to_measure_instead() {
    run(&["https://127.0.0.1/"]).refused(&["TLS", "http://"]);
}

#[test]
fn a_url_without_a_scheme_is_refused_with_one() {
    run(&["127.0.0.1:8080/x"]).refused(&["no scheme", "http://127.0.0.1:8080/x"]);
}

#[test]
fn a_port_that_is_none_is_refused() {
    run(&["http://127.0.0.1:65536/"]).refused(&["\"65536\"", "1 to 65535"]);
}

#[test]
fn a_host_that_is_unknown_is_refused_by_its_name() {
    // No name below `invalid` exists (RFC 6761, 6.4).
    run(&["http://no-such-host.invalid/"]).refused(&["no-such-host.invalid", "check the name"]);
}

#[test]
fn a_port_where_nobody_listens_is_refused_at_once_with_the_cure() {
    let port = free_port();
    // The window would take a minute.
    let ran = run(&[&format!("http://127.0.0.1:{port}/"), "-d", "60s"]);
    ran.refused(&[&format!("127.0.0.1:{port}"), "Connection refused", "start the server"]);
    let ran = run(&[&format!("http://127.0.0.1:{port}/"), "-d", "60s", "--rate", "10", "--json", "-"]);
    ran.refused(&["Connection refused"]);
}

#[test]
fn source_addresses_of_another_host_are_refused_with_the_cure() {
    // An address for documentation (RFC 5737).
    let server = Server::good();
    let ran = run(&[&server.url(""), "-d", "60s", "--source", "192.0.2.1"]);
    ran.refused(&["Cannot assign requested address", "--source"]);
}

#[test]
fn rates_of_nothing_and_less_are_refused_with_an_example() {
    refused(&["--rate", "0"], &["zero", "50k"]);
    refused(&["--rate", "-5"], &["\"-5\" is negative", "50k"]);
    refused(&["--rate", "fast"], &["fast", "50k"]);
}

#[test]
fn a_window_of_nothing_is_refused_with_its_bounds() {
    refused(&["--duration", "0s"], &["--duration 0", "7 days"]);
    refused(&["--duration", "8760h"], &["--duration", "7 days"]);
    refused(&["--duration", "soon"], &["soon", "10s"]);
}

#[test]
fn connections_of_none_are_refused_with_their_bounds() {
    refused(&["--connections", "0"], &["--connections 0", "from 1"]);
    refused(&["--connections", "4000001"], &["--connections 4000001", "to 4000000"]);
}

#[test]
fn more_connections_than_descriptors_are_refused_with_the_limit_to_type() {
    let server = Server::good();
    let program = env!("CARGO_BIN_EXE_loadgen");
    // Two numbers: `ulimit -n` sets the hard limit, too, so that the program cannot raise it.
    let line = format!("ulimit -n 128; exec '{program}' {} --connections 500 --threads 1", server.url(""));
    let ran = run_within(std::process::Command::new("sh").args(["-c", &line]));
    ran.refused(&["500 connections", "may have 128", "ulimit -n 516"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_process_without_descriptors_for_its_threads_is_refused() {
    let server = Server::good();
    let program = env!("CARGO_BIN_EXE_loadgen");
    let line = format!("ulimit -n 64; exec '{program}' {} -c 8 --threads 1", server.url(""));
    let ran = run_within(std::process::Command::new("sh").args(["-c", &line]));
    ran.refused(&["1 thread", "72 descriptors", "may have 64", "ulimit -n 72"]);
}

#[test]
fn more_threads_than_connections_are_refused() {
    refused(&["--threads", "99", "--connections", "2"], &["--threads 99", "2 connections"]);
    refused(&["--threads", "0"], &["--threads 0", "from 1"]);
}

#[test]
fn an_objective_that_is_none_is_refused_with_examples() {
    refused(&["--slo", "p99"], &["\"p99\"", "p99=5ms"]);
    refused(&["--slo", "p99=5ms,speed=9"], &["\"speed=9\"", "not known"]);
    refused(&["--slo", ""], &["p99=5ms"]);
}

#[test]
fn a_header_that_is_none_is_refused() {
    refused(&["-H", "nonsense"], &["\"nonsense\"", "no colon"]);
    refused(&["-H", "Content-Length: 5"], &["Content-Length"]);
    refused(&["-H", "X: a\nY: b"], &["header"]);
}

#[test]
fn a_file_of_requests_that_is_missing_or_wrong_is_refused_by_its_name() {
    refused(&["--requests", "/no/such/file.toml"], &["/no/such/file.toml", "No such file"]);
    let dir = temp_dir();
    let file = dir.path().join("requests.toml");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "[[request]]\npath = \"/\"\ncolour = 1\n").unwrap();
    refused(&["--requests", name], &[&format!("{name}:3: "), "colour"]);
    std::fs::write(&file, "").unwrap();
    refused(&["--requests", name], &[name, "request"]);
}

#[test]
fn a_placeholder_that_is_none_is_refused_with_those_there_are() {
    refused(&["--template", "--body", "{{colour}}"], &["{{colour}}", "{{counter}}"]);
    refused(&["--template", "--body", "{{counter"], &["closes", "{{counter}}"]);
}

#[test]
fn cpus_that_are_not_there_are_refused_with_those_that_are() {
    refused(&["--cpus", "999"], &["CPU 999", "there are"]);
    refused(&["--cpus", "many"], &["--cpus many", "2-5"]);
    refused(&["--cpus", "0", "--threads", "2"], &["1 CPUs for 2 threads"]);
}

#[test]
fn arrivals_that_are_none_are_refused() {
    refused(&["--arrivals", "poisson"], &["--arrivals poisson", "--rate"]);
    refused(&["--arrivals", "never", "--rate", "1k"], &["\"never\"", "poisson"]);
    refused(&["--arrivals", "trace:/no/such/trace"], &["/no/such/trace", "No such file"]);
    refused(&["--stages", "1k"], &["\"1k\"", "50k@10s"]);
    refused(&["--rate", "1k", "--think", "1ms"], &["--think"]);
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_any_load() {
    refused(&["--json", "/no/such/directory/x.json"], &["/no/such/directory", "make the directory"]);
    refused(&["--html", "/tmp"], &["/tmp", "name of a file"]);
    refused(&["--json", "-", "--csv", "-"], &["standard output"]);
    refused(&["--percentiles", "101"], &["101"]);
    refused(&["--repeat", "0"], &["--repeat 0", "from 1"]);
    let server = Server::good();
    let (url, missing) = (server.url(""), "/no/such/directory/x.json");
    run(&["ab", "--a", &url, "--b", &url, "--json", missing]).refused(&["/no/such/directory"]);
    run(&["knee", &url, "--slo", "p99=5ms", "--json", missing]).refused(&["/no/such/directory"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_file_in_a_directory_that_may_not_be_written_is_refused_before_any_load() {
    // /proc takes no files, whoever asks.
    refused(&["--csv", "/proc/loadgen-test.csv"], &["/proc/loadgen-test.csv"]);
}

#[test]
fn a_word_of_another_protocol_is_refused() {
    let (_server, addr) = null_server(&["--scheme", "redis"]);
    run(&[&format!("redis://{addr}"), "--body", "x"]).refused(&["--body", "http://"]);
    run(&[&format!("redis://{addr}"), "--keys", "0"]).refused(&["keys"]);
    run(&[&format!("tcp://{addr}"), "--size", "0"]).refused(&["0 bytes"]);
    run(&[&format!("tcp://{addr}/path")]).refused(&["path"]);
}

#[test]
fn a_null_server_that_cannot_listen_says_so() {
    let (_server, addr) = null_server(&[]);
    run(&["null", "--listen", &addr.to_string()]).refused(&["cannot listen", "in use", "port 0"]);
    run(&["null", "--scheme", "gopher"]).refused(&["gopher", "redis"]);
}

#[test]
fn words_without_a_url_are_refused_with_how_to_write_one() {
    run(&[]).refused(&["URL"]);
    run(&["http://127.0.0.1/", "http://127.0.0.1/"]).refused(&["http://127.0.0.1/"]);
    run(&["http://127.0.0.1/", "--speed", "9"]).refused(&["unexpected argument '--speed'"]);
}
