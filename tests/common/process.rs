//! Other processes: the built node, other programs that listen, and tools others wrote.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::PATIENCE;

/// A child that says where it listens. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) addr: SocketAddr,
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// The built node on a free port, with more flags. No variable that it reads is inherited.
    pub(crate) fn node(flags: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("CORELANE_")) {
            command.env_remove(name);
        }
        // Many run side by side, and the default port is one.
        command.env("CORELANE_ADMIN", "off").env("CORELANE_HOST", super::node::host().name());
        command.args(flags);
        command.args(["--listen", "127.0.0.1:0", "--no-pin"]);
        if !flags.contains(&"--shards") {
            command.args(["--shards", "1"]); // limits are those of a shard
        }
        Process::start(&mut command)
    }

    /// Waits for the line with `listening on ADDR`, on either stream.
    pub(crate) fn start(command: &mut Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (said, lines) = bounded(1_000);
        let streams: [Option<Box<dyn std::io::Read + Send>>; 2] =
            [child.stdout.take().map(|s| Box::new(s) as _), child.stderr.take().map(|s| Box::new(s) as _)];
        for stream in streams.into_iter().flatten() {
            let said = said.clone();
            // Reads on when nobody listens: a child must not block on a full pipe.
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    drop(said.try_send(line));
                }
            });
        }
        drop(said);
        let mut heard = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        let addr = loop {
            let Ok(line) = lines.recv_deadline(deadline) else {
                drop(child.kill());
                drop(child.wait());
                panic!("{command:?} does not listen; it said: {heard:#?}");
            };
            let place = line.split("listening on ").nth(1).map(|rest| rest.trim_start_matches("http://"));
            let word = place.and_then(|rest| rest.split([' ', ',', '/']).next());
            if let Some(addr) = word.and_then(|word| word.parse().ok()) {
                break addr;
            }
            heard.push(line);
        };
        Process { addr, child, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, to this child only.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} {}", self.id());
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self, at_most: Duration) -> ExitStatus {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "it still runs after {at_most:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it said so far, or until it ended.
    pub(crate) fn said(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// CPU time it has used.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("the child runs");
        // The name, in parentheses, may hold spaces; utime and stime are the 12th and 13th behind it.
        let behind = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = behind.split_ascii_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory, bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the child runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is there");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `redis-server`; `None` if it is missing, as [`tool`]. One program is told by its name what to be: Debian has it in
/// `redis-tools`, without the service.
pub(crate) fn redis_server() -> Option<Command> {
    use std::os::unix::process::CommandExt;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let other =
        std::env::split_paths(&path).map(|dir| dir.join("redis-check-rdb")).find(|file| file.is_file());
    let is_there = std::env::split_paths(&path).any(|dir| dir.join("redis-server").is_file());
    let Some(other) = other.filter(|_| !is_there) else { return tool("redis-server") };
    let mut command = Command::new(other);
    command.arg0("redis-server");
    Some(command)
}

/// A tool others wrote; `None` if it is missing, which fails on a build machine and is said elsewhere.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()) {
        return Some(Command::new(found));
    }
    assert!(std::env::var("CI").is_err(), "{name} is missing: scripts/test installs it");
    eprintln!("skipped: needs {name}");
    None
}

/// Runs a tool to its end; panics when that takes longer than `at_most`.
#[track_caller]
pub(crate) fn run(command: &mut Command, at_most: Duration) -> Output {
    let text = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{text}: {error}"));
    let id = child.id();
    let (done, output) = bounded(1);
    thread::spawn(move || drop(done.send(child.wait_with_output())));
    match output.recv_timeout(at_most) {
        Ok(output) => output.unwrap_or_else(|error| panic!("{text}: {error}")),
        Err(_) => {
            drop(Command::new("sh").args(["-c", &format!("kill -KILL {id}")]).status());
            panic!("{text}: still running after {at_most:?}");
        }
    }
}
