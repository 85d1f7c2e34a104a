//! The examples do what their first lines say.
//!
//! # Rules
//! 1. Examples listen on fixed ports, so each test here runs once more in a network of its own, where these
//!    ports are free. Where the host does not allow that, it runs in the host's.
//!
//! Not here: `conformance`, which is a service for other people's test suites.

#![allow(clippy::unwrap_used, clippy::disallowed_types)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use common::{Client, Node, Process, pattern};

/// Set in the process that has a network of its own.
const INSIDE: &str = "CORELANE_TEST_OWN_NETWORK";

/// Runs the rest of the test called `name` in a network of its own (rule 1); true if that was done, and the
/// caller has nothing left to do.
#[track_caller]
fn ran_in_a_network_of_its_own(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-c", script]);
        command.env(INSIDE, "1");
        command
    };
    let up = "ip link set lo up 2>/dev/null || ifconfig lo up";
    if !unshared(up).output().is_ok_and(|output| output.status.success()) {
        eprintln!("no network of its own here: the ports of the examples must be free");
        return false;
    }
    let program = std::env::current_exe().unwrap();
    let script = format!("({up}) && exec '{}' {name} --exact --nocapture", program.display());
    let output = unshared(&script).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    true
}

/// Whether a program is there and no source it was made from has changed since. Cargo leaves a list of these
/// beside it: `program: source source ...`.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let Ok(built) = changed(program) else { return false };
    let list = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    let mut sources = sources.split_ascii_whitespace().map(Path::new).peekable();
    sources.peek().is_some() && sources.all(|source| changed(source).is_ok_and(|at| at <= built))
}

/// The built example. `cargo test` builds them all, but not when it is asked for this file alone.
fn example(name: &str) -> Command {
    static BUILDS: Mutex<()> = Mutex::new(());
    let program = std::env::current_exe().unwrap();
    let profile = program.parent().and_then(Path::parent).unwrap();
    let path = profile.join("examples").join(name);
    let _one_at_a_time = BUILDS.lock();
    if !is_fresh(&path) {
        let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        cargo.args(["build", "--example", name, "--manifest-path"]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Command::new(path)
}

#[test]
fn hello_greets_by_name() {
    if ran_in_a_network_of_its_own("hello_greets_by_name") {
        return;
    }
    let mut hello = Process::start(&mut example("hello"));
    assert_eq!(hello.addr, SocketAddr::from(([127, 0, 0, 1], 8080)), "the address its first lines name");
    let mut client = Client::connect(hello.addr);
    assert_eq!(client.get("/").text(), "hello\n");
    assert_eq!(client.get("/hello/you").text(), "hello, you\n");
    assert_eq!(client.get("/hello/J%C3%B6rg").text(), "hello, J\u{f6}rg\n");
    assert_eq!(client.get("/hello/").status, 404);
    drop(client);
    hello.signal("TERM");
    assert_eq!(hello.wait(common::PATIENCE).code(), Some(0));
}

#[test]
fn sharded_counter_counts_every_word_once_whatever_connection_it_came_by() {
    if ran_in_a_network_of_its_own("sharded_counter_counts_every_word_once_whatever_connection_it_came_by") {
        return;
    }
    let mut counter = Process::start(&mut example("sharded_counter"));
    assert_eq!(counter.addr, SocketAddr::from(([127, 0, 0, 1], 8080)), "the address its first lines name");
    let addr = counter.addr;
    let all: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(addr);
                for n in 0..300 {
                    assert_eq!(client.post(&format!("/count/word-{}", n % 30), b"").status, 200);
                }
            })
        })
        .collect();
    for one in all {
        one.join().unwrap();
    }
    let mut client = Client::connect(addr);
    for n in 0..30 {
        assert_eq!(client.get(&format!("/count/word-{n}")).text(), "80\n", "10 of each of 8");
    }
    assert_eq!(client.get("/count/other").status, 404);
    let shards = client.get("/shards").text().to_owned();
    let counters = shards.lines().filter_map(|line| line.strip_suffix(" counters")?.rsplit(' ').next());
    assert_eq!(counters.map(|n| n.parse::<u32>().unwrap()).sum::<u32>(), 30, "{shards}");
    drop(client);
    counter.signal("TERM");
    assert_eq!(counter.wait(common::PATIENCE).code(), Some(0));
}

#[test]
fn cache_keeps_links_for_handlers_and_redis_clients() {
    if ran_in_a_network_of_its_own("cache_keeps_links_for_handlers_and_redis_clients") {
        return;
    }
    let mut links = Process::start(&mut example("cache"));
    assert_eq!(links.addr, SocketAddr::from(([127, 0, 0, 1], 8080)), "the address its first lines name");
    let mut client = Client::connect(links.addr);
    for n in 1..20 {
        let to = format!("https://example.com/{n}");
        let added = client.post("/links", to.as_bytes());
        assert_eq!((added.status, added.text()), (201, &*format!("/{n}\n")));
        let found = client.get(&format!("/{n}"));
        assert_eq!((found.status, found.field("location")), (307, Some(&*to)));
    }
    assert_eq!(client.post("/links", b"javascript:alert(1)").status, 400);
    assert_eq!(client.get("/20").status, 404);
    let mut redis = TcpStream::connect(("127.0.0.1", 6380)).unwrap();
    redis.set_read_timeout(Some(common::PATIENCE)).unwrap();
    redis.write_all(b"GET link:7\r\nTTL links\r\nQUIT\r\n").unwrap();
    let mut said = String::new();
    redis.read_to_string(&mut said).unwrap();
    assert_eq!(said, "$21\r\nhttps://example.com/7\r\n:-1\r\n+OK\r\n");
    drop(client);
    links.signal("TERM");
    assert_eq!(links.wait(common::PATIENCE).code(), Some(0));
}

/// Sends all of it while reading as much; gives what came.
fn round_trip(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.to_vec();
    let sender = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut came = Vec::new();
    stream.read_to_end(&mut came).unwrap();
    sender.join().unwrap();
    came
}

#[test]
fn tcp_echo_sends_back_what_it_reads() {
    if ran_in_a_network_of_its_own("tcp_echo_sends_back_what_it_reads") {
        return;
    }
    let mut echo = Process::start(&mut example("tcp_echo"));
    assert_eq!(echo.addr, SocketAddr::from(([127, 0, 0, 1], 7000)), "the address its first lines name");
    let addr = echo.addr;
    let all: Vec<_> = (0..8)
        .map(|n| {
            thread::spawn(move || {
                let bytes = pattern((1 << 20) + n * 1_000);
                assert!(round_trip(addr, &bytes) == bytes, "1 MiB came back whole");
            })
        })
        .collect();
    for one in all {
        one.join().unwrap();
    }
    assert_eq!(round_trip(addr, b""), b"");
    echo.signal("TERM");
    assert_eq!(echo.wait(common::PATIENCE).code(), Some(0));
}

#[test]
fn proxy_one_stands_in_front_of_a_node() {
    if ran_in_a_network_of_its_own("proxy_one_stands_in_front_of_a_node") {
        return;
    }
    let node = Node::new();
    let mut proxy = Process::start(example("proxy_one").arg(node.addr.to_string()));
    assert_eq!(proxy.addr, SocketAddr::from(([127, 0, 0, 1], 7001)), "the address its first lines name");
    let addr = proxy.addr;
    let body = pattern(1 << 20);
    let all: Vec<_> = (0..16)
        .map(|n| {
            let body = body.clone();
            thread::spawn(move || {
                let mut client = Client::connect(addr);
                for m in 0..20 {
                    assert_eq!(client.get(&format!("/token/{n}-{m}")).text(), format!("{n}-{m}"));
                }
                assert!(client.post("/echo", &body).body == body, "1 MiB there and back");
                assert!(client.get("/stream/500000").body == pattern(500_000));
                client.send("GET /plaintext HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
                assert_eq!(client.answer().status, 200);
                client.ends();
            })
        })
        .collect();
    for one in all {
        one.join().unwrap();
    }
    node.comes_to_rest();

    // With nobody behind it, a client is let go at once, and the proxy goes on.
    node.drain();
    for _ in 0..3 {
        let mut client = Client::connect(addr);
        client.try_send(common::client::get("/plaintext"));
        assert!(client.next(false).is_err());
    }
    common::until("it says why", || proxy.said().iter().any(|line| line.contains("cannot connect to")));
    proxy.signal("TERM");
    assert_eq!(proxy.wait(common::PATIENCE).code(), Some(0));
}

#[test]
fn proxy_one_without_a_target_says_how_it_is_used() {
    let output = example("proxy_one").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: proxy_one ADDR:PORT"));
}
