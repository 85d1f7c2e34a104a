//! The `loadgen` program: one subcommand a file, words to settings, outputs, an exit code.
//!
//! Exit codes: 0 done; 1 the target was missed; 2 could not run, or the measurement is invalid. Data goes to standard
//! output, talk to standard error. A closed pipe is no error.
//!
//! Not here: measuring (`engine`), drawing (`report`).

mod ab;
mod agents;
mod args;
mod compare;
mod knee;
mod null;
mod output;
mod progress;
mod run;
mod session;
mod settings;
mod signals;
mod target;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use progress::tell;

/// How the program ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Ran, but a target was missed.
    Missed = 1,
    /// Could not run, or what was measured is invalid.
    Invalid = 2,
}

/// Runs the program.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => {
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let command = shown(&words);
    let outcome = match cli.command {
        None => run::run(&cli.run, &command),
        Some(Command::Knee(args)) => knee::run(&args, &command),
        Some(Command::Compare(args)) => compare::run(&args),
        Some(Command::Ab(args)) => ab::run(&args, &command),
        Some(Command::Agent(args)) => agents::serve(&args),
        Some(Command::Calibrate(args)) => null::calibrate(&args, &command),
        Some(Command::Null(args)) => null::serve(&args),
    };
    match outcome {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            tell(&format!("loadgen: {error}"));
            ExitCode::from(2)
        }
    }
}

/// The command line as one would type it.
fn shown(words: &[OsString]) -> String {
    let word = |word: &OsString| {
        let word = word.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+~".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}
