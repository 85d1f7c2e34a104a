//! One run of the program: its exit code, its two streams, and the JSON among them.

use std::fmt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

use super::PATIENCE;

/// How a run ended and what it said.
pub(crate) struct Ran {
    /// None where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The built program with these words. No variable that it reads is inherited, and no noise floor of this
/// user.
pub(crate) fn loadgen(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(words);
    for name in ["NO_COLOR", "LC_ALL", "LC_CTYPE", "LANG", "TERM"] {
        command.env_remove(name);
    }
    command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-floors"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program with these words to its end.
#[track_caller]
pub(crate) fn run(words: &[&str]) -> Ran {
    run_within(&mut loadgen(words))
}

/// Runs a command to its end; panics where that takes longer than only a fault can explain.
#[track_caller]
pub(crate) fn run_within(command: &mut Command) -> Ran {
    let text = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{text}: {error}"));
    let id = child.id();
    let waiter = std::thread::spawn(move || child.wait_with_output());
    let start = Instant::now();
    while !waiter.is_finished() {
        if start.elapsed() > PATIENCE {
            super::child::signal(id, "KILL");
            panic!("{text}: still running after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    match waiter.join() {
        Ok(Ok(output)) => Ran::of(&output),
        other => panic!("{text}: {other:?}"),
    }
}

/// Characters of each stream that a failure shows: of a JSON document, the summary.
const SHOWN_MAX: usize = 6_000;

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = |text: &str| text.chars().take(SHOWN_MAX).collect::<String>();
        write!(
            f,
            "exit code {:?}\n--- out\n{}\n--- err\n{}\n---",
            self.code,
            first(&self.out),
            first(&self.err)
        )
    }
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the program says UTF-8");
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        parse(&self.out).unwrap_or_else(|error| panic!("no JSON: {error}\n{self:?}"))
    }

    /// A run that was measured: nothing worse than that its host was busy.
    ///
    /// A busy host makes a run INVALID, which no test can help; that is 2 and said in the report.
    #[track_caller]
    pub(crate) fn measured(self) -> Ran {
        let report = if self.out.contains("  verdict") { &self.out } else { &self.err };
        let level = level_of(report).unwrap_or_else(|| panic!("no verdict: {self:?}"));
        let wanted = if level == "INVALID" { 2 } else { 0 };
        assert_eq!(self.code, Some(wanted), "the verdict is {level}: {self:?}");
        self
    }

    /// Refused before anything was sent: exit code 2, nothing on standard output, and one line that has all
    /// of these words.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        let by_clap = self.err.starts_with("error: ");
        let lines = self.err.trim_end().lines().count();
        assert!(by_clap || lines == 1 && self.err.starts_with("loadgen: "), "one line: {self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in: {}", self.err);
        }
    }
}

/// The verdict that a report prints.
pub(crate) fn level_of(report: &str) -> Option<&str> {
    let line = report.lines().find_map(|line| line.strip_prefix("  verdict"))?;
    line.split_whitespace().next().map(|word| word.trim_end_matches(':'))
}

/// A document.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    sonic_rs::from_str(text).map_err(|error| error.to_string())
}

/// Reading numbers out of a document by a path with dots.
pub(crate) trait At {
    /// What is there; panics where nothing is.
    fn at(&self, path: &str) -> &Value;
    /// A whole number.
    fn count(&self, path: &str) -> u64;
    /// A number.
    fn number(&self, path: &str) -> f64;
    /// A text.
    fn text(&self, path: &str) -> &str;
}

impl At for Value {
    #[track_caller]
    fn at(&self, path: &str) -> &Value {
        let mut found = self;
        for key in path.split('.') {
            let next = match key.parse::<usize>() {
                Ok(index) => found.as_array().and_then(|array| array.get(index)),
                Err(_) => found.as_object().and_then(|object| object.get(&key)),
            };
            found = next.unwrap_or_else(|| panic!("{key} of {path} is not there"));
        }
        found
    }

    #[track_caller]
    fn count(&self, path: &str) -> u64 {
        self.at(path).as_u64().unwrap_or_else(|| panic!("{path} is no whole number: {:?}", self.at(path)))
    }

    #[track_caller]
    fn number(&self, path: &str) -> f64 {
        self.at(path).as_f64().unwrap_or_else(|| panic!("{path} is no number: {:?}", self.at(path)))
    }

    #[track_caller]
    fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_else(|| panic!("{path} is no text: {:?}", self.at(path)))
    }
}
