//! The program under a supervisor, as systemd runs it: sockets that are handed over, what it tells, and its watchdog.
//!
//! Not here: units (`deploy.rs`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod program;

#[allow(dead_code)]
#[path = "shards/thread.rs"]
mod thread;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use program::{Node, corelane, path, run, through};

/// What a supervisor hears.
struct Ear(UnixDatagram);

impl Ear {
    fn at(path: &Path) -> Ear {
        let socket = UnixDatagram::bind(path).unwrap();
        Ear(socket)
    }

    /// The next message within `time`.
    fn next(&self, time: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(time)).unwrap();
        let mut room = [0; 1024];
        let len = self.0.recv(&mut room).ok()?;
        Some(String::from_utf8(room[..len].to_vec()).unwrap())
    }

    /// The next message that is no sign of life.
    #[track_caller]
    fn hears(&self, wanted: &str) -> String {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let Some(text) = self.next(Duration::from_secs(1)) else { continue };
            if text.contains(wanted) {
                return text;
            }
        }
        panic!("nobody said {wanted}");
    }

    /// Signs of life within `time`.
    fn signs(&self, time: Duration) -> usize {
        let until = Instant::now() + time;
        let mut count = 0;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            count += usize::from(self.next(left).is_some_and(|text| text == "WATCHDOG=1"));
        }
        count
    }
}

/// The program with `socket` as its descriptor 3, named `name`, as sd_listen_fds(3) has it.
fn handed(socket: impl Into<OwnedFd>, name: &str, arguments: &str) -> Command {
    let script = format!(
        "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name} exec {} {arguments}",
        path()
    );
    let mut command = through("sh", &["-c", &script]);
    command.stdin(socket.into());
    command
}

#[test]
fn a_supervisor_hears_ready_signs_of_life_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let ear = Ear::at(&dir.path().join("notify"));
    let mut command = corelane(&["--listen", "127.0.0.1:0", "--no-pin", "--shards", "2"]);
    command.args(["--limit", "drain_time=10s"]);
    command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("WATCHDOG_USEC", "300000");
    let node = Node::spawn(&mut command);
    let ready = ear.hears("READY=1");
    let serving = format!("READY=1\nSTATUS=serving on {} with 2 shards", node.addr);
    assert_eq!(ready, serving);
    let signs = ear.signs(Duration::from_secs(2));
    assert!((5..=20).contains(&signs), "every 100 ms: {signs}");
    node.signal("TERM");
    let stopping = ear.hears("STOPPING=1");
    // For connections and for hooks, with 2 s for what is late.
    assert_eq!(stopping, "STOPPING=1\nEXTEND_TIMEOUT_USEC=22000000\nSTATUS=draining");
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn no_sign_of_life_is_given_while_one_shard_of_two_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let ear = Ear::at(&dir.path().join("notify"));
    let mut command = corelane(&["--listen", "127.0.0.1:0", "--no-pin", "--shards", "2"]);
    command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("WATCHDOG_USEC", "300000");
    let node = Node::spawn(&mut command);
    ear.hears("WATCHDOG=1");
    let Some(frozen) = thread::Frozen::shard(node.id(), 1) else { return };
    let named = ear.hears("STATUS=shard 1 has not woken up");
    assert!(named.ends_with("its thread is stopped, or has no CPU"), "{named}");
    assert_eq!(ear.signs(Duration::from_secs(1)), 0, "shard 0 lives, and that is not enough");
    frozen.release();
    assert_eq!(ear.hears("STATUS="), format!("STATUS=serving on {} with 2 shards", node.addr));
    assert!(ear.signs(Duration::from_secs(2)) > 4);
    assert_eq!(node.stop().0, Some(0));
}

#[test]
fn a_supervisor_that_is_not_there_is_said_and_the_node_serves() {
    let mut command = corelane(&["--listen", "127.0.0.1:0", "--no-pin"]);
    let mut node = Node::spawn(command.env("NOTIFY_SOCKET", "/nonexistent/notify"));
    assert!(node.said().contains("note: NOTIFY_SOCKET cannot be reached"), "{}", node.said());
    assert!(node.get("/health").starts_with("HTTP/1.1 200"));
    assert_eq!(node.stop().0, Some(0));
}

#[test]
fn a_socket_that_is_handed_over_serves_all_shards_and_outlives_the_node() {
    for nonblocking in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(nonblocking).unwrap();
        let addr = listener.local_addr().unwrap();
        // Before anybody serves: it waits.
        let mut early = TcpStream::connect(addr).unwrap();
        write!(early, "GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let start = || {
            let shared = listener.try_clone().unwrap();
            Node::spawn(&mut handed(shared, "corelane.socket", "--no-pin --shards 2"))
        };
        let node = start();
        assert_eq!(node.addr, addr, "it takes the place of the default");
        let mut answer = String::new();
        early.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("Hello, World!"), "{answer}");
        for _ in 0..40 {
            assert!(node.get("/health").starts_with("HTTP/1.1 200"));
        }
        assert_eq!(node.stop().0, Some(0));
        // Nobody serves, and nobody is refused.
        let mut late = TcpStream::connect(addr).unwrap();
        write!(late, "GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let node = start();
        let mut answer = String::new();
        late.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("Hello, World!"), "{answer}");
        assert_eq!(node.stop().0, Some(0));
    }
}

#[test]
fn a_unix_socket_that_is_handed_over_is_served_besides_what_is_set_and_its_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.sock");
    let listener = UnixListener::bind(&file).unwrap();
    let node = Node::spawn(&mut handed(listener, "http", "--no-pin --listen 127.0.0.1:0"));
    let mut client = UnixStream::connect(&file).unwrap();
    client.write_all(b"GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("Hello, World!"), "{answer}");
    assert!(node.get("/health").starts_with("HTTP/1.1 200"));
    assert_eq!(node.stop().0, Some(0));
    assert!(file.exists());
}

#[test]
fn a_socket_named_resp_is_for_redis_clients_and_needs_a_password_where_others_reach_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let node = Node::spawn(&mut handed(listener, "resp", "--no-pin --listen 127.0.0.1:0"));
    let mut client = TcpStream::connect(addr).unwrap();
    client.write_all(b"PING\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "+PONG\r\n+OK\r\n");
    assert_eq!(node.stop().0, Some(0));

    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let refused = run(&mut handed(open, "resp", "--no-pin --listen 127.0.0.1:0"));
    assert!(refused.refusal().starts_with("LISTEN_FDS: resp.listen = "), "{refused:?}");
    assert!(refused.refusal().contains("needs a password"), "{refused:?}");
}

#[test]
fn a_descriptor_that_is_no_listening_socket_is_refused_by_its_number() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let refused = run(&mut handed(client, "x", "--no-pin"));
    assert_eq!(
        refused.refusal(),
        "cannot take over the sockets of LISTEN_FDS: descriptor 3 is a socket that does not listen"
    );
}
