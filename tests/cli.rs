//! The program from outside: help, exit codes, pipes that close, a node that starts, is asked and ends.
//!
//! Not here: hosts that cannot run it (`preflight.rs`), mistakes in a file (`config.rs`).

#![allow(clippy::unwrap_used)]

mod program;

use std::process::Stdio;

use program::{Guarded, Node, corelane, run, run_with};
use sonic_rs::JsonValueTrait;

#[test]
fn help_is_short_with_one_dash_and_long_with_two() {
    let (short, long) = (run_with(&["-h"]), run_with(&["--help"]));
    for help in [&short, &long] {
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
        for flag in [
            "--listen",
            "--shards",
            "--cpus",
            "--smt",
            "--no-pin",
            "--accept",
            "--steer",
            "--admin",
            "--config",
            "--log ",
            "--log-format",
            "--limit",
            "--check",
        ] {
            assert_eq!(help.out.matches(&format!("  {flag}")).count(), 1, "{flag} in {}", help.out);
        }
        assert!(help.out.lines().all(|line| line.chars().count() <= 100), "{}", help.out);
        assert!(help.out.contains("[default: 0.0.0.0:8080]"), "{}", help.out);
    }
    assert!(short.out.lines().count() <= 32, "{}", short.out);
    assert!(long.out.lines().count() > 2 * short.out.lines().count());
    for more in ["CORELANE_RING_WITHOUT", "NO_COLOR", "Exit codes:", "SIGTERM"] {
        assert!(long.out.contains(more), "{more}");
        assert!(!short.out.contains(more), "{more}");
    }
}

#[test]
fn a_flag_for_several_may_be_repeated_and_a_switch_turns_on() {
    let ended = run_with(&[
        "--print-config",
        "--listen",
        "[::]:1",
        "--smt",
        "--listen",
        "unix:/a,[::]:2",
        "--shards",
        "3",
        "--admin",
        "off",
    ]);
    for line in [
        "listen = [\"[::]:1\", \"unix:/a\", \"[::]:2\"] # --listen\n",
        "smt = true # --smt\n",
        "shards = 3 # --shards\n",
        "admin = \"off\" # --admin\n",
        "steer = false\n",
    ] {
        assert!(ended.out.contains(&format!("\n{line}")), "{line} in {}", ended.out);
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let ended = run_with(&["--version"]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.out, concat!("corelane ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn an_unknown_flag_is_a_usage_error_with_a_suggestion() {
    let ended = run_with(&["--lisen", "127.0.0.1:0"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
    assert!(ended.err.contains("'--lisen'") && ended.err.contains("'--listen'"), "{}", ended.err);
    for wrong in [&["serv"][..], &["--listen"], &["health", "--cpus", "1"], &["--check", "--print-config"]] {
        assert_eq!(run_with(wrong).code, Some(2), "{wrong:?}");
    }
    let twice = run_with(&["health", "--url", "http://a", "--listen", "127.0.0.1:1"]);
    assert_eq!(twice.code, Some(2), "{}", twice.err);
}

#[test]
fn a_wrong_value_is_refused_in_one_line_with_what_may_be_written() {
    let says = run_with(&["--listen", "8080"]).refusal().to_owned();
    assert!(says.starts_with("--listen 8080: write an IP address and a port"), "{says}");
    let says = run_with(&["--limit", "connection_max=5"]).refusal().to_owned();
    assert_eq!(says, "--limit: there is no key connection_max; did you mean connections_max?");
    let says = run_with(&["--config", "/nonexistent.toml"]).refusal().to_owned();
    assert!(says.starts_with("/nonexistent.toml: cannot be read: No such file"), "{says}");
    let says = run(corelane(&[]).env("CORELANE_RING_WITHOUT", "direct,turbo")).refusal().to_owned();
    assert!(says.starts_with("CORELANE_RING_WITHOUT: \"turbo\" is no ring feature"), "{says}");
    let says = run(corelane(&[]).env("CORELANE_LOG", "loud")).refusal().to_owned();
    assert!(says.starts_with("CORELANE_LOG=loud: write off, error, warn, info"), "{says}");
}

#[test]
fn an_argument_that_is_no_text_is_a_usage_error_and_no_panic() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    for flag in ["--listen", "--limit", "--log", "--config"] {
        let ended = run(corelane(&[flag]).arg(odd));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(!ended.err.contains("panicked"), "{ended:?}");
    }
    let ended = run(corelane(&["--print-config"]).env("CORELANE_LISTEN", odd));
    assert!(ended.refusal().starts_with("CORELANE_LISTEN="));
}

#[test]
fn the_printed_configuration_has_the_layers_and_is_read_back_as_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "log = 'warn'\n[limits]\nbacklog = 5\n").unwrap();
    let file = file.to_str().unwrap();
    let mut command = corelane(&["--print-config", "--config", file, "--limit", "backlog=6", "--no-pin"]);
    let printed = run(command.env("CORELANE_LISTEN", "127.0.0.1:7"));
    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
    for line in [
        "listen = \"127.0.0.1:7\" # CORELANE_LISTEN",
        "backlog = 6 # --limit backlog",
        "pin = false # --no-pin",
    ] {
        assert!(printed.out.lines().any(|l| l == line), "{line} in {}", printed.out);
    }
    assert!(printed.out.contains(&format!("log = \"warn\" # {file}:1\n")), "{}", printed.out);

    std::fs::write(file, &printed.out).unwrap();
    let again = run_with(&["--print-config", "--config", file]);
    let plain =
        |text: &str| text.lines().map(|l| l.split(" # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(plain(&again.out), plain(&printed.out));
}

#[test]
fn a_pipe_that_nobody_reads_is_no_error_and_a_full_disk_is_one() {
    for arguments in [&["--help"][..], &["--version"], &["--print-config"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = corelane(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // The same for what could not run, whose standard error is closed: it still says so by its exit code.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = corelane(&["--listen", "x"]).stdout(Stdio::null()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(2));

    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = corelane(&["--print-config"]).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_node_says_where_it_listens_answers_and_ends_with_zero_on_sigterm() {
    let mut node = Node::start(&["--no-pin", "--log", "info"]);
    assert!(node.addr.port() != 0 && node.addr.ip().is_loopback());
    let said = node.said();
    assert!(said.contains(concat!("corelane ", env!("CARGO_PKG_VERSION"), ", Linux ")), "{said}");
    assert!(said.contains("shard 0 not pinned; ring: "), "{said}");
    assert!(node.get("/plaintext").ends_with("\r\n\r\nHello, World!"));
    let answer = node.get("/health");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.to_lowercase().contains("\r\nserver: corelane\r\n"),
        "{answer}"
    );
    let (code, said) = node.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("INFO") && said.contains("draining"), "{said}");
    assert!(!said.contains('\u{1b}'), "no colours where there is no terminal: {said}");
}

#[test]
fn health_tells_a_node_that_answers_from_one_that_does_not() {
    let node = Node::start(&["--no-pin"]);
    let (addr, url) = (node.addr.to_string(), format!("http://{}", node.addr));
    let ended = run_with(&["health", "--listen", &addr]);
    assert_eq!(
        (ended.code, ended.out),
        (Some(0), format!("healthy: {url}/health answers 200\n")),
        "{}",
        ended.err
    );
    assert_eq!(run_with(&["health", "--url", &url]).code, Some(0));
    let wildcard = format!("0.0.0.0:{}", node.addr.port());
    assert_eq!(run(corelane(&["health"]).env("CORELANE_LISTEN", &wildcard)).code, Some(0));

    let other = run_with(&["health", "--url", &format!("{url}/nothing")]);
    assert_eq!(other.code, Some(1));
    assert_eq!(other.err, format!("corelane: not healthy: {url}/nothing answers 404\n"));
    node.stop();
    let gone = run_with(&["health", "--listen", &addr]);
    assert_eq!((gone.code, gone.out.as_str()), (Some(1), ""));
    assert!(gone.err.contains("Connection refused"), "{}", gone.err);
    run_with(&["health", "--url", "ftp://127.0.0.1"]).refusal();
    run(corelane(&["health"]).env("CORELANE_LISTEN", "here")).refusal();
}

#[test]
fn health_asks_through_a_socket_where_there_is_no_address() {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}/node.sock", dir.path().display());
    let gone = run_with(&["health", "--listen", &listen]);
    assert_eq!(gone.code, Some(1));
    assert!(
        gone.err.starts_with(&format!("corelane: not healthy: {listen} /health: No such file")),
        "{gone:?}"
    );

    let node = Node::start(&["--no-pin", "--listen", &listen]);
    let ended = run_with(&["health", "--listen", &listen]);
    assert_eq!((ended.code, ended.out), (Some(0), format!("healthy: {listen} /health answers 200\n")));
    assert_eq!(node.stop().0, Some(0));

    let _silent = std::os::unix::net::UnixListener::bind(dir.path().join("node.sock")).unwrap();
    let ended = run_with(&["health", "--listen", &listen]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("no answer within 2 s"), "{ended:?}");
}

#[test]
fn health_gives_up_on_a_peer_that_accepts_and_says_nothing() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = run_with(&["health", "--listen", &silent.local_addr().unwrap().to_string()]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("no answer within 2 s"), "{}", ended.err);
}

#[test]
fn a_node_whose_standard_output_is_closed_serves_and_logs_json() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (log, err) = std::io::pipe().unwrap();
    let mut command = corelane(&["--listen", "127.0.0.1:0", "--no-pin", "--log-format", "json"]);
    let mut child = Guarded(command.stdout(writer).stderr(err).spawn().unwrap());
    drop(command); // It holds the other end of the log.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(log));
    let mut addr = None;
    while addr.is_none() {
        let line = lines.next().unwrap().unwrap();
        let value: sonic_rs::Value =
            sonic_rs::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let message = value["message"].as_str().unwrap().to_owned();
        addr = message.strip_prefix("listening on http://").map(|addr| addr.parse().unwrap());
    }
    assert!(program::get(addr.unwrap(), "/health").starts_with("HTTP/1.1 200"));
    program::signal(child.0.id(), "TERM");
    for line in lines {
        let line = line.unwrap();
        sonic_rs::from_str::<sonic_rs::Value>(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn settings_of_the_file_reach_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "pin = false\nserver_field = 'edge/7'\n[limits]\nline_bytes_max = 64\n").unwrap();
    let node = Node::start(&["--config", file.to_str().unwrap()]);
    assert!(node.get("/health").to_lowercase().contains("\r\nserver: edge/7\r\n"));
    assert!(node.get(&format!("/{}", "a".repeat(200))).starts_with("HTTP/1.1 414"));
    let (code, said) = node.stop();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn masked_ring_features_are_left_off_and_said() {
    let mut command = corelane(&["--listen", "127.0.0.1:0", "--no-pin"]);
    let mut node = Node::spawn(command.env("CORELANE_RING_WITHOUT", "multishot_recv,ring_fd"));
    let said = node.said();
    assert!(said.contains("multishot_recv: masked") && said.contains("ring_fd: masked"), "{said}");
    assert!(node.get("/health").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_list_of_cpus_is_that_many_shards() {
    let mut node = Node::start(&["--no-pin", "--cpus", "0-2", "--limit", "connections_max=64"]);
    let said = node.said();
    assert_eq!(said.matches("not pinned; ring: ").count(), 3, "{said}");
    for _ in 0..20 {
        assert!(node.get("/health").starts_with("HTTP/1.1 200"));
    }
    assert_eq!(node.stop().0, Some(0));
}

#[test]
fn a_configuration_is_checked_while_a_node_runs_where_it_listens() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    let path = file.to_str().unwrap();
    let node = Node::start(&["--no-pin"]);
    std::fs::write(&file, format!("listen = '{}'\npin = false\n", node.addr)).unwrap();
    let ended = run_with(&["check", path]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert!(ended.out.contains(&format!("would listen on http://{}\n", node.addr)), "{ended:?}");
    assert!(ended.out.ends_with("ok: it would start\n"), "{ended:?}");
    assert!(run_with(&["--check", "--config", path]).refusal().starts_with("cannot listen on "));
    std::fs::write(&file, "listen = '127.0.0.1:0'\nshard = 2\n").unwrap();
    let refused = run_with(&["check", path]).refusal().to_owned();
    assert_eq!(refused, format!("{path}:2: there is no key shard; did you mean shards?"));
    let ended = run_with(&["health", &format!("http://{}", node.addr)]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(run_with(&["health", "http://a", "--url", "http://b"]).code, Some(2));
}

#[test]
fn a_check_says_what_would_run_and_leaves_the_port_alone() {
    let ended = run_with(&["--check", "--listen", "127.0.0.1:0", "--no-pin"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("would listen on http://127.0.0.1:0\n"), "{}", ended.out);
    assert!(ended.out.contains("shard 0 not pinned; ring: "), "{}", ended.out);
    assert!(ended.out.ends_with("ok: it would start\n"), "{}", ended.out);

    let node = Node::start(&["--no-pin"]);
    let refused = run_with(&["--check", "--listen", &node.addr.to_string()]);
    assert!(refused.refusal().starts_with(&format!("cannot listen on {}", node.addr)));
    assert!(node.get("/health").starts_with("HTTP/1.1 200"));
}
