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
use std::process::{Child, Command, ExitStatus, Stdio};
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
    dir: Option<tempfile::TempDir>,
}

impl Subject {
    /// `redis-server`, or `None` where it is missing, which fails on a build machine.
    pub(crate) fn redis() -> Option<Subject> {
        // As ours, which has one.
        Subject::redis_with("databases 1\n")
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
        command.args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let subject = Subject { name: "redis".to_owned(), addr, child: Some(child), dir: Some(dir) };
        accepts(subject)
    }

    /// Ours with so many shards. `None` where the program does not know `[resp]`.
    ///
    /// `RESP_PROGRAM=FILE` takes another build of it, `RESP_ADDR=127.0.0.1:PORT` a server that is already running.
    pub(crate) fn corelane(shards: usize) -> Option<Subject> {
        Subject::corelane_with(shards, "")
    }

    /// The same with more lines at the end of its configuration.
    pub(crate) fn corelane_with(shards: usize, lines: &str) -> Option<Subject> {
        Subject::corelane_of(shards, "", lines)
    }

    /// The same with more lines in its table `[resp]`.
    pub(crate) fn corelane_resp(shards: usize, lines: &str) -> Option<Subject> {
        Subject::corelane_of(shards, lines, "")
    }

    fn corelane_of(shards: usize, of_resp: &str, lines: &str) -> Option<Subject> {
        let name = format!("corelane with {shards} shard(s)");
        if let Ok(text) = std::env::var("RESP_ADDR") {
            let addr = text.parse().unwrap_or_else(|_| panic!("RESP_ADDR={text}: like 127.0.0.1:6379"));
            return Some(Subject { name: format!("{name} at {addr}"), addr, child: None, dir: None });
        }
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("node.toml");
        let text = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"off\"\nshards = {shards}\npin = false\n\n\
             [resp]\nlisten = \"127.0.0.1:0\"\n{of_resp}\n\n{lines}"
        );
        fs::write(&config, text).expect("the directory can be written");
        let program =
            std::env::var_os("RESP_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_corelane").into());
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("CORELANE_")) {
            command.env_remove(name);
        }
        if let Ok(host) = std::env::var("TEST_HOST") {
            command.env("CORELANE_HOST", host);
        }
        command.arg("--config").arg(&config).current_dir(dir.path());
        let log = dir.path().join("log");
        let said = fs::File::create(&log).expect("the directory can be written");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let out = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut lines = out.lines().map_while(Result::ok);
        let place = lines.find_map(|line| line.strip_prefix("listening on redis://").map(str::to_owned));
        let addr = place.and_then(|place| place.trim_end_matches('/').parse().ok());
        // Reads on: a child must not block on a full pipe.
        thread::spawn(move || lines.for_each(drop));
        let Some(addr) = addr else {
            drop(child.kill());
            let (status, said) = (child.wait(), fs::read_to_string(&log).unwrap_or_default());
            if ["resp", "cache"].iter().any(|key| said.contains(&format!("there is no key {key}"))) {
                eprintln!("skipped: this build of corelane has no [resp]");
                return None;
            }
            panic!("corelane listens for no Redis clients and ended with {status:?}: {said}");
        };
        Some(Subject { name, addr, child: Some(child), dir: Some(dir) })
    }

    /// What ours has said on standard error so far.
    pub(crate) fn said(&self) -> String {
        let dir = self.dir.as_ref().map(|dir| dir.path().join("log"));
        dir.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default()
    }

    pub(crate) fn open(&self) -> Conn {
        Conn::open(self.addr)
    }

    /// Sends a signal by name, to this child only.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().expect("a child of this test");
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} {id}");
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self, at_most: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("a child of this test");
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "it still runs after {at_most:?}");
            thread::sleep(Duration::from_millis(2));
        }
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
