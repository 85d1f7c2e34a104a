//! Where a node of several shards listens: addresses of both families and Unix sockets, each had by one node.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::common::{Client, PATIENCE, Process, until};
use crate::program::run_with;

/// Four shards at `places` and on a free port of 127.0.0.1. Its address is that of the first place that has one.
fn node(places: &[&str]) -> Process {
    let mut flags = vec!["--shards", "4", "--accept", "balanced", "--limit", "drain_idle=50ms"];
    for place in places {
        flags.extend(["--listen", place]);
    }
    Process::node(&flags)
}

/// The answer to a request over a Unix socket.
fn ask(path: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[track_caller]
fn is_served_at(path: &Path) {
    let answer = ask(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("Hello, World!"), "{answer}");
}

#[test]
fn a_second_node_on_the_port_of_another_is_refused_and_takes_none_of_its_connections() {
    let node = node(&[]);
    let addr = node.addr.to_string();
    for shards in ["1", "4"] {
        let ended = run_with(&["--listen", &addr, "--shards", shards, "--no-pin"]);
        assert!(ended.refusal().starts_with(&format!("cannot listen on {addr}: another process does")));
    }
    // Not one of these went to a node that is gone.
    for _ in 0..100 {
        assert_eq!(Client::connect(node.addr).get("/plaintext").status, 200);
    }
}

#[test]
fn a_unix_socket_in_use_is_refused_and_one_left_behind_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.sock");
    let place = format!("unix:{}", path.display());
    let mut first = node(&[&place]);
    is_served_at(&path);
    let ended = run_with(&["--listen", &place, "--shards", "4", "--no-pin"]);
    assert!(ended.refusal().starts_with(&format!("cannot listen on {place}: ")), "{ended:?}");
    is_served_at(&path);

    first.signal("KILL");
    assert_eq!(first.wait(PATIENCE).code(), None);
    assert!(path.exists(), "nobody was there to remove it");
    assert!(ask(&path).is_err());
    let mut second = node(&[&place]);
    is_served_at(&path);
    second.signal("TERM");
    assert_eq!(second.wait(PATIENCE).code(), Some(0));
    assert!(!path.exists(), "it is removed by the node that made it");

    fs::write(&path, "something else").unwrap();
    let ended = run_with(&["--listen", &place, "--no-pin"]);
    assert!(ended.refusal().starts_with(&format!("cannot listen on {place}: ")), "{ended:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "something else", "what is no socket stays");
}

#[test]
fn four_shards_serve_ipv4_ipv6_and_a_unix_socket_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.sock");
    let mut node = node(&["[::1]:0", &format!("unix:{}", path.display())]);
    let mut said = Vec::new();
    until("it says where it listens", || {
        said.extend(node.said().into_iter().filter(|line| line.starts_with("listening on ")));
        said.len() == 2
    });
    let v6 = node.addr;
    assert!(v6.is_ipv6(), "the first place is the first to be said");
    assert_eq!(said[0], format!("listening on unix:{}", path.display()));
    let v4: SocketAddr = said[1].rsplit('/').next().unwrap().parse().unwrap();
    assert!(v4.is_ipv4());
    let clients = [v4, v6].map(|addr| {
        thread::spawn(move || {
            let mut all: Vec<Client> = (0..40).map(|_| Client::connect(addr)).collect();
            for _ in 0..5 {
                for client in &mut all {
                    assert_eq!(client.get("/plaintext").text(), "Hello, World!");
                }
            }
            all
        })
    });
    for _ in 0..40 {
        is_served_at(&path);
    }
    let mut kept: Vec<Client> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    node.signal("TERM");
    kept.iter_mut().for_each(Client::ends);
    assert_eq!(node.wait(Duration::from_secs(10)).code(), Some(0));
    for addr in [v4, v6] {
        assert!(Client::try_connect(addr).is_err(), "nobody listens on {addr} any more");
    }
    assert!(!path.exists());
}
