//! This program under callgrind: how many instructions one run of one case takes.
//!
//! The child starts with an environment of our own and in an empty directory, so that no `.valgrindrc`, variable or path
//! of whoever types changes the count, and is ended after [`CHILD_TIME_MAX`]: valgrind can hang.
//!
//! Not here: which runs (`mod.rs`), what a case does (`cases`).

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A run takes a second. One that takes this long, with the machine busy, never ends.
const CHILD_TIME_MAX: Duration = Duration::from_secs(120);

/// Of the C library of the child (glibc manual, "Hardware Capability Tunables"): it is to copy and fill memory by vectors, not
/// by `rep movsb` and `rep stosb`. Valgrind counts those once for each byte, and how many bytes there are depends on where
/// the memory happens to start and on the caches of the host.
const TUNABLES: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824";

/// Between two looks at whether a child has ended.
const LOOK: Duration = Duration::from_millis(5);

/// The hidden subcommand that does a case so many times and says what CPU it saw.
pub(super) const CASE_COMMAND: &str = "icount-case";

/// What one run took.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Counted {
    /// Instructions of the whole process.
    pub(super) instructions: u64,
    /// The CPU as valgrind presents it to the child.
    pub(super) cpu: String,
}

/// Where valgrind is, and the directories for what it writes.
pub(super) struct Valgrind {
    program: PathBuf,
    bench: PathBuf,
    folder: TempDir,
}

impl Valgrind {
    /// Finds valgrind in `PATH`.
    ///
    /// # Errors
    /// When it is not there, or no directory can be made.
    pub(super) fn find() -> Result<Valgrind, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program =
            std::env::split_paths(&path).map(|folder| folder.join("valgrind")).find(|at| at.is_file());
        let program =
            program.ok_or("icount needs valgrind, which is not in PATH: apt-get install valgrind")?;
        let bench = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
        let folder = TempDir::new().map_err(|error| format!("a temporary directory: {error}"))?;
        Ok(Valgrind { program, bench, folder })
    }

    /// `valgrind --version`: `valgrind-3.19.0`.
    ///
    /// # Errors
    /// When it does not start or says nothing.
    pub(super) fn version(&self) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.arg("--version");
        let text = self.run(command, &self.folder.path().join("version"))?;
        let version = text.trim();
        if version.is_empty() {
            Err("valgrind --version says nothing".to_owned())
        } else {
            Ok(version.to_owned())
        }
    }

    /// Runs `case` so many times in a process of its own. `job` names its files: one at a time each.
    ///
    /// # Errors
    /// When it fails, does not end, or writes no count.
    pub(super) fn count(&self, job: usize, case: &str, ops: u64) -> Result<Counted, String> {
        let folder = self.folder.path().join(format!("job-{job}"));
        let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::create_dir(&folder).map_err(wrong)?;
        let out = folder.join("callgrind.out");
        let mut option = OsStr::new("--callgrind-out-file=").to_owned();
        option.push(&out);
        let mut command = Command::new(&self.program);
        command.arg("--tool=callgrind").arg(option).arg(&self.bench);
        command.args([CASE_COMMAND, case, &ops.to_string()]);
        let text = self.run(command, &folder)?;
        let counts = fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        let instructions = total(&counts)?;
        fs::remove_dir_all(&folder).map_err(wrong)?;
        let cpu = text.lines().next().unwrap_or("unknown").trim().to_owned();
        Ok(Counted { instructions, cpu })
    }

    /// Runs a program to its end in `folder` and gives its standard output.
    fn run(&self, mut command: Command, folder: &Path) -> Result<String, String> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        // Valgrind writes much to standard error; a file takes it without a reader.
        let log = folder.join("stderr");
        let file = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        command.env_clear().env("PATH", "/usr/bin:/bin").env("GLIBC_TUNABLES", TUNABLES).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", self.program.display()))?;
        let ended = wait(&mut child, CHILD_TIME_MAX)?;
        let mut text = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut text).map_err(|error| format!("its standard output: {error}"))?;
        }
        match ended {
            Some(status) if status.success() => Ok(text),
            Some(status) => Err(format!("valgrind ended with {status}: {}", last_words(&log))),
            None => Err(format!("valgrind did not end within {CHILD_TIME_MAX:?} and was killed")),
        }
    }
}

/// Waits at most so long; kills what has not ended by then, and says so by `None`.
fn wait(child: &mut Child, time: Duration) -> Result<Option<std::process::ExitStatus>, String> {
    let wrong = |error: std::io::Error| format!("waiting for valgrind: {error}");
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(wrong)? {
            return Ok(Some(status));
        }
        if start.elapsed() >= time {
            child.kill().map_err(wrong)?;
            child.wait().map_err(wrong)?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// The last lines that a child wrote to standard error.
fn last_words(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

/// The instructions of a file that callgrind wrote: `totals:`, else the last `summary:` (of a file with one part).
///
/// The format: <https://valgrind.org/docs/manual/cl-format.html>.
///
/// # Errors
/// Without such a line, or where it does not begin with a number, or `events:` does not begin with `Ir`.
pub(super) fn total(text: &str) -> Result<u64, String> {
    let field =
        |name: &str| text.lines().filter_map(|line| line.strip_prefix(name)).next_back().map(str::trim);
    let events = field("events:").ok_or("no count of callgrind: a line `events:` is missing")?;
    if events.split_ascii_whitespace().next() != Some("Ir") {
        return Err(format!("callgrind counted `{events}`, not `Ir` first"));
    }
    let total = field("totals:").or_else(|| field("summary:"));
    let total = total.ok_or("no count of callgrind: neither `totals:` nor `summary:`")?;
    let first = total.split_ascii_whitespace().next().unwrap_or_default();
    first.parse().map_err(|_| format!("callgrind's total `{total}` does not begin with a number"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const FILE: &str = "# callgrind format\nversion: 1\ncreator: callgrind-3.19.0\npid: 7\n\
        cmd:  ./bench icount-case loop/empty 64\npart: 1\n\npositions: line\nevents: Ir\n\
        summary: 1219\n\nfl=(1) a.rs\nfn=(1) main\n16 400\n\ntotals: 1234\n";

    #[test]
    fn totals_win_over_the_summary_of_a_part() {
        assert_eq!(total(FILE), Ok(1234));
        assert_eq!(total(&FILE.replace("totals: 1234\n", "")), Ok(1219));
    }

    #[test]
    fn further_events_behind_instructions_are_left_out() {
        let more = FILE.replace("events: Ir", "events: Ir Dr Dw").replace("totals: 1234", "totals: 1234 5 6");
        assert_eq!(total(&more), Ok(1234));
    }

    #[test]
    fn what_is_no_count_is_an_error_that_says_what_is_missing() {
        for (text, why) in [
            (String::new(), "`events:`"),
            ("events: Ir\n".to_owned(), "neither"),
            (FILE.replace("events: Ir", "events: Dr Ir"), "`Dr Ir`"),
            (FILE.replace("1234", "many"), "`many`"),
        ] {
            let error = total(&text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_child_that_does_not_end_is_killed_when_its_time_is_over() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(wait(&mut child, Duration::from_millis(20)), Ok(None));
        assert!(child.try_wait().unwrap().is_some(), "it is gone");
    }
}
