//! Programs run to their end: git, cargo, scripts.
//!
//! # Rules
//! 1. Each is the leader of a process group of its own, so that ending it ends what it started, and Ctrl-C in
//!    a terminal reaches only us, who then end it.
//! 2. Its output goes to files, not pipes: a daemon it leaves behind keeps nobody waiting.
//!
//! Not here: servers and wrk, which are measured (`ab::process`, `ab::sample`).

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How often a running program is looked at: short against a build, and a cached git answers within one.
const LOOK: Duration = Duration::from_millis(20);

/// How long a program may take to end after `SIGTERM`.
const STOP_MAX: Duration = Duration::from_secs(3);

/// Lines of a failed program's output that an error message holds.
const TAIL_LINES: usize = 30;

/// The error of a program that was ended because we were.
pub(crate) const INTERRUPTED: &str = "interrupted";

/// What a program left.
pub(crate) struct Ended {
    /// How it ended.
    status: ExitStatus,
    /// All of its standard output.
    pub(crate) stdout: String,
    /// All of its standard error.
    stderr: String,
}

impl Ended {
    /// The last line it wrote to standard error, or else to standard output.
    pub(crate) fn last_words(&self) -> &str {
        self.said().lines().next_back().unwrap_or_default().trim()
    }

    /// What it wrote to standard error, or, if nothing, to standard output.
    fn said(&self) -> &str {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        said.trim_end()
    }

    /// Itself if it ended well.
    ///
    /// # Errors
    /// `what` it was, how it ended, and the end of what it said.
    pub(crate) fn well(self, what: &str) -> Result<Self, String> {
        if self.status.success() {
            return Ok(self);
        }
        let lines: Vec<&str> = self.said().lines().collect();
        let end = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        Err(format!("{what} failed ({}):\n  {}", self.status, end.join("\n  ")))
    }
}

/// Runs a program to its end; with `show`, what it writes to standard error is seen at once on ours.
///
/// # Errors
/// It could not be started, or `stop` was set: then its process group was ended.
pub(crate) fn run(mut command: Command, show: bool, stop: &AtomicBool) -> Result<Ended, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let fault = |error: std::io::Error| format!("{program}: {error}");
    let (mut out, mut err) =
        (tempfile::tempfile().map_err(fault)?, tempfile::NamedTempFile::new().map_err(fault)?);
    command.stdin(Stdio::null()).stdout(out.try_clone().map_err(fault)?);
    command.stderr(err.reopen().map_err(fault)?).process_group(0);
    let mut child = command.spawn().map_err(fault)?;
    let mut stderr = Vec::new();
    let status = loop {
        let ended = child.try_wait().map_err(fault)?;
        let from = stderr.len();
        err.as_file_mut().read_to_end(&mut stderr).map_err(fault)?;
        if show {
            // Nobody to tell is no reason to stop.
            let _ = std::io::stderr().write_all(&stderr[from..]);
        }
        if let Some(status) = ended {
            break status;
        }
        if stop.load(Ordering::Relaxed) {
            end_group(&mut child);
            return Err(INTERRUPTED.to_owned());
        }
        thread::sleep(LOOK);
    };
    Ok(Ended {
        status,
        stdout: text_of(&mut out).map_err(fault)?,
        stderr: String::from_utf8_lossy(&stderr).into(),
    })
}

/// All that was written to a file whose cursor is shared with its writer.
fn text_of(file: &mut File) -> std::io::Result<String> {
    use std::io::Seek;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Ends a child and what it started: politely, then not.
fn end_group(child: &mut Child) {
    let group = Pid::from_child(child);
    let _ = rustix::process::kill_process_group(group, Signal::TERM);
    let start = Instant::now();
    while start.elapsed() < STOP_MAX && rustix::process::test_kill_process_group(group).is_ok() {
        // Until it is waited for, its number stays taken.
        if matches!(child.try_wait(), Ok(Some(_))) {
            break;
        }
        thread::sleep(LOOK);
    }
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;

    fn sh(script: &str, stop: &AtomicBool) -> Result<Ended, String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, false, stop)
    }

    #[test]
    fn a_failure_shows_the_end_of_what_was_said() {
        let stop = AtomicBool::new(false);
        let script = "echo out; i=0; while [ $i -lt 50 ]; do i=$((i + 1)); echo line $i >&2; done; exit 3";
        let error = sh(script, &stop).unwrap().well("the thing").err().unwrap();
        assert!(error.starts_with("the thing failed (exit status: 3):\n  line 21\n"), "{error}");
        assert!(error.ends_with("line 50"), "{error}");
        let error = sh("echo only here; false", &stop).unwrap().well("it").err().unwrap();
        assert!(error.ends_with("only here"), "{error}");
        assert_eq!(sh("echo yes", &stop).unwrap().well("it").unwrap().stdout, "yes\n");
        let last = ["echo out; echo a >&2; echo b c >&2", "echo out", "true"];
        assert_eq!(last.map(|script| sh(script, &stop).unwrap().last_words().to_owned()), ["b c", "out", ""]);
    }

    #[test]
    fn an_interrupt_ends_the_program_and_what_it_started() {
        let stop = Arc::new(AtomicBool::new(false));
        let marker = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 600 & echo $! >{}; wait", marker.path().display());
        let runs = thread::spawn({
            let stop = Arc::clone(&stop);
            move || sh(&script, &stop).err()
        });
        let grandchild = loop {
            match std::fs::read_to_string(marker.path()).unwrap().trim().parse::<i32>() {
                Ok(pid) => break pid,
                Err(_) => thread::sleep(LOOK),
            }
        };
        stop.store(true, Ordering::Relaxed);
        assert_eq!(runs.join().unwrap().as_deref(), Some(INTERRUPTED));
        // Its parent is gone, so init waits for it: a moment later there is nothing by that number, or a
        // zombie where nobody does.
        let start = Instant::now();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
            match stat {
                Ok(stat) if !stat.contains(") Z ") => assert!(start.elapsed() < STOP_MAX, "{stat}"),
                _ => break,
            }
            thread::sleep(LOOK);
        }
    }

    #[test]
    fn a_daemon_left_behind_keeps_nobody_waiting() {
        let start = Instant::now();
        let ended = sh("sleep 20 & echo $!", &AtomicBool::new(false)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
        let pid = Pid::from_raw(ended.stdout.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
}
