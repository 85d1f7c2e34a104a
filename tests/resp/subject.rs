//! The servers of these tests: `redis-server`, which says what is right, and ours, which is to say the same.
//!
//! # Rules
//! 1. Every server is a child on a free port of loopback that keeps no file, and ends with its [`Subject`].
//! 2. All that is known of how ours is started is in [`Subject::corelane`].
//!
//! Not here: what they are asked.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::conn::{Conn, PATIENCE};

/// A server that accepts; killed when dropped.
#[derive(Debug)]
pub(crate) struct Subject {
    /// For messages.
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    child: Option<Child>,
    _dir: Option<tempfile::TempDir>,
}

impl Subject {
    /// `redis-server`, or `None` where it is missing, which fails on a build machine.
    pub(crate) fn redis() -> Option<Subject> {
        Subject::redis_with("")
    }

    /// The same with more lines in its configuration.
    pub(crate) fn redis_with(lines: &str) -> Option<Subject> {
        // One program is told by its name what to be; Debian has it in `redis-tools`, without the service.
        let program = found("redis-server").or_else(|| found("redis-check-rdb"));
        let Some(program) = program else {
            assert!(std::env::var("CI").is_err(), "redis-server is missing: scripts/test installs it");
            eprintln!("skipped: needs redis-server");
            return None;
        };
        let (dir, addr) = (tempfile::tempdir().expect("a directory"), free());
        let mut command = Command::new(program);
        let config = dir.path().join("redis.conf");
        fs::write(&config, lines).expect("the directory can be written");
        command.arg0("redis-server").current_dir(dir.path()).arg(&config);
        command.args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1", "--databases", "1"]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let subject = Subject { name: "redis".to_owned(), addr, child: Some(child), _dir: Some(dir) };
        accepts(subject)
    }

    /// Ours with so many shards. `None` where the built program does not know `[resp]`.
    ///
    /// `RESP_ADDR=127.0.0.1:PORT` puts a server that is already running in its place.
    pub(crate) fn corelane(shards: usize) -> Option<Subject> {
        let name = format!("corelane with {shards} shard(s)");
        if let Ok(text) = std::env::var("RESP_ADDR") {
            let addr = text.parse().unwrap_or_else(|_| panic!("RESP_ADDR={text}: like 127.0.0.1:6379"));
            return Some(Subject { name: format!("{name} at {addr}"), addr, child: None, _dir: None });
        }
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("node.toml");
        let resp = free();
        let text = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"off\"\nshards = {shards}\npin = false\n\n\
             [resp]\nlisten = \"{resp}\"\n"
        );
        fs::write(&config, text).expect("the directory can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("CORELANE_")) {
            command.env_remove(name);
        }
        if let Ok(host) = std::env::var("TEST_HOST") {
            command.env("CORELANE_HOST", host);
        }
        command.arg("--config").arg(&config).current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = BufReader::new(child.stderr.take().expect("it is a pipe"));
        let said = said.lines().map_while(Result::ok);
        let (mut heard, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while TcpStream::connect(resp).is_err() {
            if let Some(status) = child.try_wait().expect("a child") {
                heard.extend(said);
                let heard = heard.join("\n");
                if heard.contains("there is no key resp") {
                    eprintln!("skipped: this build of corelane has no [resp]");
                    return None;
                }
                panic!("corelane ended with {status}: {heard}");
            }
            assert!(Instant::now() < deadline, "corelane does not listen on {resp}");
            thread::sleep(Duration::from_millis(5));
        }
        // Reads on: a child must not block on a full pipe.
        thread::spawn(move || said.for_each(drop));
        Some(Subject { name, addr: resp, child: Some(child), _dir: Some(dir) })
    }

    pub(crate) fn open(&self) -> Conn {
        Conn::open(self.addr)
    }

    /// Its process; none of one that was running already.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn accepts(mut subject: Subject) -> Option<Subject> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(subject.addr).is_err() {
        let ended = subject.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        assert!(ended.is_none(), "{} ended with {ended:?}", subject.name);
        assert!(Instant::now() < deadline, "{} does not listen on {}", subject.name, subject.addr);
        thread::sleep(Duration::from_millis(5));
    }
    Some(subject)
}

/// A port of loopback that nobody listens on at this moment.
fn free() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has ports");
    listener.local_addr().expect("it is bound")
}

fn found(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}
