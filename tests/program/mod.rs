//! Runs the built `corelane` and looks at it from outside.
//!
//! # Rules
//! 1. Every process started here is waited for; one that does not end in time is killed, and the test fails.
//! 2. No variable of the environment that Corelane reads is inherited.
//!
//! Not here: HTTP beyond one request.

#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Only a fault can reach it, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program.
pub(crate) fn path() -> &'static str {
    env!("CARGO_BIN_EXE_corelane")
}

/// The program with these arguments.
pub(crate) fn corelane(arguments: &[&str]) -> Command {
    let mut command = Command::new(path());
    command.args(arguments);
    plain(&mut command);
    command
}

/// Another program that will run ours.
pub(crate) fn through(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    plain(&mut command);
    command
}

/// Rule 2.
fn plain(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CORELANE_") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    // Many run side by side, and the default port is one.
    command.env("CORELANE_ADMIN", "off");
    // `scripts/test --host`.
    if let Ok(host) = std::env::var("TEST_HOST") {
        command.env("CORELANE_HOST", host);
    }
    command.stdin(Stdio::null());
}

/// How a process ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

/// Runs `command` to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ended {
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let status = wait(&mut child);
    Ended { code: status.code(), out: all_of(&mut out), err: all_of(&mut err), took: start.elapsed() }
}

/// Runs the program with `arguments` to its end.
#[track_caller]
pub(crate) fn run_with(arguments: &[&str]) -> Ended {
    run(&mut corelane(arguments))
}

impl Ended {
    /// The one line that a start that could not be says, without the program's name. Exit code 2, nothing on
    /// standard output.
    #[track_caller]
    pub(crate) fn refusal(&self) -> &str {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        let line = self.err.strip_suffix('\n').unwrap_or_else(|| panic!("one line: {self:?}"));
        assert!(!line.contains('\n'), "one line: {self:?}");
        line.strip_prefix("corelane: ").unwrap_or_else(|| panic!("named: {self:?}"))
    }
}

fn all_of(file: &mut File) -> String {
    use std::io::Seek;
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Rule 1.
#[track_caller]
fn wait(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("process {} did not end within {PATIENCE:?}", child.id());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A node that listens.
pub(crate) struct Node {
    child: Child,
    pub(crate) addr: SocketAddr,
    err: File,
}

impl Node {
    /// Starts the program on a free port of loopback, with further `arguments`, and waits for its ready line.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Node {
        let mut command = corelane(&["--listen", "127.0.0.1:0"]);
        command.args(arguments);
        Node::spawn(&mut command)
    }

    /// The same for any command that ends up as the program.
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command) -> Node {
        let mut err = tempfile::tempfile().unwrap();
        command.stdout(Stdio::piped()).stderr(err.try_clone().unwrap());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim_end().strip_prefix("listening on http://").and_then(|addr| addr.parse().ok());
        let Some(addr) = addr else {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("no ready line, but {line:?} and {:?}", all_of(&mut err));
        };
        Node { child, addr, err }
    }

    /// What it has said on standard error so far.
    pub(crate) fn said(&mut self) -> String {
        all_of(&mut self.err)
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, like `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = wait(&mut self.child);
        (status.code(), all_of(&mut self.err))
    }

    /// SIGTERM, and its end.
    #[track_caller]
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        self.signal("TERM");
        self.end()
    }

    /// The answer to `GET path`, all of it.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> String {
        get(self.addr, path)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A process that does not outlive its test.
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The answer to `GET path`, all of it.
#[track_caller]
pub(crate) fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Sends a signal to a process.
pub(crate) fn signal(id: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &id.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Whether `program` can be run; where it cannot and the run is not one of a build machine, says so.
pub(crate) fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|dir| dir.join(program).is_file());
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "{program} is missing");
    if !found {
        eprintln!("skipped: needs {program}");
    }
    found
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim() == "0"
}

/// Writes a file below `root`, with the directories it needs.
pub(crate) fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
