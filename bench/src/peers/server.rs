//! Servers under test: started on a CPU, asked, read, and ended with everything they have started.
//!
//! # Rules
//! 1. A server leads a process group of its own: nothing of it outlives [`Started`], and an interrupt from
//!    the terminal reaches only this program, which ends it.
//! 2. What was read at one moment is one [`Reading`]; only differences of two mean anything.
//!
//! Not here: which command (`subjects`), what the client does meanwhile (`client`).

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal};
use tempfile::NamedTempFile;

use super::Stop;
use super::loads::Target;
use crate::ab::process::{answer_len, cpu_busy_ns, cpu_time_of, spawn_on, tree};
use crate::idle::memory::resident;

/// How long a server may take to accept, and to end after `SIGTERM`.
const START_MAX: Duration = Duration::from_secs(10);
const STOP_MAX: Duration = Duration::from_secs(1);

/// For one answer when nothing else is asked.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Why there is no figure.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// The user ended the run.
    Interrupted,
    /// It does not run here, or does not serve this.
    Absent(String),
    /// It answered, and not what it was asked for.
    Wrong(String),
}

impl Trouble {
    /// For what went wrong with this program's own work.
    pub(super) fn here(what: &str) -> impl Fn(io::Error) -> Trouble {
        move |error| Trouble::Absent(format!("{what}: {error}"))
    }
}

/// A child and its process group, ended when dropped: politely, then not.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
}

impl Group {
    /// Starts `command` as the leader of a new group, on `cpu` if one is given.
    pub(super) fn spawn(mut command: Command, cpu: Option<usize>) -> io::Result<Group> {
        command.process_group(0);
        let child = match cpu {
            Some(cpu) => spawn_on(cpu, command)?,
            None => command.spawn()?,
        };
        Ok(Group { child })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Interrupts it, and waits for its end for at most `time`.
    pub(super) fn interrupt(&mut self, time: Duration) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::INT);
        let start = Instant::now();
        while self.ended().is_none() && start.elapsed() < time {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let leader = Pid::from_child(&self.child);
        if self.ended().is_none() {
            let _ = rustix::process::kill_process(leader, Signal::TERM);
        }
        let start = Instant::now();
        while self.ended().is_none() && start.elapsed() < STOP_MAX {
            thread::sleep(Duration::from_millis(2));
        }
        // The leader, if it would not go, and what it left behind. A group that is empty is no error.
        let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// What is known of a server and of the CPUs at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// Wall clock, milliseconds since 1970.
    pub(super) at_ms: f64,
    /// CPU time of the server and of the client so far, nanoseconds.
    pub(super) server_ns: u64,
    pub(super) client_ns: u64,
    /// Busy time of the server's CPU and of the client's, nanoseconds, by ticks of 10 ms.
    pub(super) busy_ns: [u64; 2],
    /// Resident memory of the server, bytes.
    pub(super) rss: u64,
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

/// A server that accepts.
#[derive(Debug)]
pub(super) struct Started {
    group: Group,
    /// It and its descendants, as they were once it had answered.
    pub(super) pids: Vec<u32>,
    pub(super) port: u16,
}

impl Started {
    /// Starts `words` and waits until `port` accepts.
    pub(super) fn start(
        words: &[String],
        cpu: Option<usize>,
        port: u16,
        stop: &Stop,
    ) -> Result<Started, Trouble> {
        let (program, arguments) = words.split_first().ok_or(Trouble::Absent("no command".to_owned()))?;
        let stderr = NamedTempFile::new().map_err(Trouble::here("a temporary file"))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(stderr.reopen().map_err(Trouble::here("a temporary file"))?);
        let mut group = Group::spawn(command, cpu).map_err(Trouble::here(program))?;
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let said = || last_words(&fs::read_to_string(stderr.path()).unwrap_or_default());
            if let Some(status) = group.ended() {
                return Err(Trouble::Absent(format!("does not start ({status}){}", said())));
            }
            if start.elapsed() > START_MAX {
                let seconds = START_MAX.as_secs();
                return Err(Trouble::Absent(format!("does not accept within {seconds} s{}", said())));
            }
            stop.check()?;
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Started { group, pids: Vec::new(), port })
    }

    /// Asks once, holds the answer against what it must be, and looks who belongs to the server.
    ///
    /// With `last`, it is told that no other request follows on this connection, as the client tells it where
    /// each request has one: the answer says so, too. The length of the answer, head and body.
    pub(super) fn verify(&mut self, target: Target, last: bool) -> Result<u64, Trouble> {
        let bytes = ask(self.port, target, last).map_err(|error| self.explain(&error))?;
        let whole = answer_len(&bytes).map_err(|error| not_served(target, &error))?;
        let head = whole.and_then(|whole| whole.checked_sub(target.body_len()));
        let right = head.is_some_and(|head| bytes[..head].ends_with(b"\r\n\r\n"))
            && whole == Some(bytes.len())
            && head.is_some_and(|head| target.is_answered_by(&bytes[head..]));
        if !right {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).replace("\r\n", " | ");
            return Err(Trouble::Wrong(format!("{}: another answer than asked for: {shown}", target.path())));
        }
        self.pids = tree(self.group.id()).map_err(Trouble::here("/proc"))?;
        Ok(bytes.len() as u64)
    }

    fn explain(&mut self, error: &io::Error) -> Trouble {
        match self.group.ended() {
            Some(status) => Trouble::Absent(format!("ended when it was asked ({status})")),
            None => Trouble::Wrong(format!("no answer: {error}")),
        }
    }

    /// How it ended, if it has: a server should not by itself.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.group.ended()
    }

    /// Everything that is read between two windows, now.
    pub(super) fn read(&self, client: u32, cpus: [usize; 2]) -> io::Result<Reading> {
        let at_ms = now_ms();
        let mut reading = Reading {
            at_ms,
            server_ns: cpu_time_of(&self.pids)?.exact_ns,
            // The client may have ended: its last reading was within the window then.
            client_ns: cpu_time_of(&[client]).map_or(0, |time| time.exact_ns),
            busy_ns: [cpu_busy_ns(cpus[0])?, cpu_busy_ns(cpus[1])?],
            rss: self.rss()?,
        };
        reading.at_ms = f64::midpoint(at_ms, now_ms());
        Ok(reading)
    }

    /// Resident bytes of all its processes. Pages that they share count for each.
    pub(super) fn rss(&self) -> io::Result<u64> {
        self.pids.iter().map(|&pid| resident(pid)).sum()
    }
}

/// A path that a server does not know is one that it does not serve; any other refusal is a wrong answer.
fn not_served(target: Target, error: &str) -> Trouble {
    let path = target.path();
    match error.strip_prefix("status 404 ") {
        Some(_) => Trouble::Absent(format!("does not serve {path} (404): is it built from this commit?")),
        None => Trouble::Wrong(format!("{path}: {error}")),
    }
}

/// The end of what a server wrote to standard error, on one line.
fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(2)..];
    if last.is_empty() { String::new() } else { format!(": {}", last.join("; ")) }
}

/// Asks once and reads one answer, as far as it goes; what follows it is read as well.
fn ask(port: u16, target: Target, last: bool) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    let path = target.path();
    let (method, length) = match target {
        Target::Echo(len) => ("POST", format!("Content-Length: {len}\r\n")),
        _ => ("GET", String::new()),
    };
    let close = if last { "Connection: close\r\n" } else { "" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}{close}\r\n");
    let mut request = head.into_bytes();
    if let Target::Echo(_) = target {
        request.extend(target.body());
    }
    stream.write_all(&request)?;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let len = stream.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..len]);
        let whole = answer_len(&bytes).unwrap_or(Some(0));
        if len == 0 || whole.is_some_and(|whole| bytes.len() >= whole) {
            return Ok(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn nothing_of_a_group_outlives_it() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' TERM; sleep 300 & wait; sleep 300"]);
        let group = Group::spawn(command, None).unwrap();
        let start = Instant::now();
        while tree(group.id()).unwrap().len() < 2 {
            assert!(start.elapsed() < Duration::from_secs(10), "the shell starts no child");
            thread::sleep(Duration::from_millis(5));
        }
        let pids = tree(group.id()).unwrap();
        drop(group);
        for pid in pids {
            let start = Instant::now();
            // One that is left to init is gone once that has looked.
            while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
                assert!(start.elapsed() < Duration::from_secs(10), "{pid} is alive");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn a_program_that_ends_at_once_is_absent_with_its_last_words() {
        let words = ["/bin/sh", "-c", "echo one >&2; echo no socket today >&2; exit 3"].map(str::to_owned);
        let trouble = Started::start(&words, None, 1, &Stop::default()).unwrap_err();
        let Trouble::Absent(why) = trouble else { panic!("{trouble:?}") };
        assert!(why.contains("exit status: 3") && why.contains("no socket today"), "{why}");
        let words = ["/nonexistent/server".to_owned()];
        assert!(matches!(Started::start(&words, None, 1, &Stop::default()), Err(Trouble::Absent(_))));
    }

    #[test]
    fn an_unknown_path_is_absent_and_a_refused_one_is_wrong() {
        let of = |head: &[u8]| not_served(Target::Blob, &answer_len(head).unwrap_err());
        assert!(matches!(of(b"HTTP/1.1 404 Not Found\r\n\r\n"), Trouble::Absent(_)));
        assert!(matches!(of(b"HTTP/1.1 500 Oh\r\n\r\n"), Trouble::Wrong(_)));
        assert!(matches!(of(b"HTTP/1.1 200 OK\r\n\r\n"), Trouble::Wrong(_)), "no length");
    }

    #[test]
    fn only_the_last_lines_of_many_are_shown() {
        assert_eq!(last_words("a\nb\n\n c\n"), ": b; c");
        assert_eq!(last_words("\n"), "");
    }
}
