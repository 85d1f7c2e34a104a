//! Where results go: the report on standard output, files beside it.
//!
//! Not here: what they look like (`report`).

use std::io::{IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};

use console::Term;

use super::args::{OutputArgs, When};
use super::progress::tell;
use crate::model::{Outcome, Run};
use crate::report::text::TextOptions;
use crate::report::{self, check_file, write_file};
use crate::units;

/// Writes to standard output. A reader that is gone is no error.
///
/// # Errors
/// Any other reason.
pub(crate) fn print(text: &str) -> Result<(), String> {
    match stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// Whether a file name means standard output.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Writes to a file, or to standard output.
///
/// # Errors
/// Which file, and why.
pub(crate) fn put(path: &Path, text: &str) -> Result<(), String> {
    if is_stdout(path) { print(text) } else { write_file(path, text.as_bytes()) }
}

/// How text is to look on the terminal at hand.
pub(crate) fn look(color: When, percentiles: Vec<f64>) -> TextOptions {
    let term = Term::stdout();
    let is_terminal = stdout().is_terminal();
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    let color = match color {
        When::Always => true,
        When::Never => false,
        When::Auto => is_terminal && !set("NO_COLOR") && !dumb,
    };
    // The first of these that is set decides (locale(7)).
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find(|name| set(name));
    let locale = locale.and_then(|name| std::env::var(name).ok()).unwrap_or_default().to_ascii_lowercase();
    let unicode = locale.contains("utf-8") || locale.contains("utf8");
    let size = if is_terminal { term.size_checked() } else { None };
    let (height, width) = size.map_or((None, 80), |(rows, columns)| (Some(rows.into()), columns.into()));
    TextOptions { percentiles, width, height, color, unicode }
}

/// Percentiles as the user wrote them.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn percentiles(text: &str) -> Result<Vec<f64>, String> {
    units::parse_percentiles(text)
}

/// Refuses, before anything is measured, what could not be written afterwards.
///
/// # Errors
/// Which file, and why.
pub(crate) fn check(args: &OutputArgs) -> Result<(), String> {
    percentiles(&args.percentiles)?;
    let files = [&args.json, &args.html, &args.hgrm, &args.hlog, &args.csv];
    let files: Vec<&PathBuf> = files.into_iter().flatten().collect();
    if files.iter().filter(|path| is_stdout(path)).count() > 1 {
        return Err("two outputs cannot both be - (standard output): give one a file".into());
    }
    files.into_iter().try_for_each(|path| check_one(path))
}

/// The same for one file.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_one(path: &Path) -> Result<(), String> {
    if is_stdout(path) { Ok(()) } else { check_file(path) }
}

/// The file of run `index` of several: `a.html`, `a-2.html`, ...
fn numbered(path: &Path, index: usize) -> PathBuf {
    if index == 0 || is_stdout(path) {
        return path.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(extension) => format!("{stem}-{}.{}", index + 1, extension.to_string_lossy()),
        None => format!("{stem}-{}", index + 1),
    };
    path.with_file_name(name)
}

/// Writes everything that was asked for.
///
/// # Errors
/// The first that could not be written, after trying all.
pub(crate) fn write_all(args: &OutputArgs, runs: &[(Run, Vec<Outcome>)]) -> Result<(), String> {
    let extra = percentiles(&args.percentiles)?;
    let mut failed = None;
    let mut note = |outcome: Result<(), String>| {
        if let Err(error) = outcome {
            tell(&format!("loadgen: {error}"));
            failed.get_or_insert(error);
        }
    };
    if let Some(path) = &args.json {
        note(report::json::render(runs, &extra).and_then(|text| put(path, &text)));
    }
    for (index, (run, outcomes)) in runs.iter().enumerate() {
        if let Some(path) = &args.html {
            note(put(&numbered(path, index), &report::html::render(run, outcomes, &extra)));
        }
        if let Some(path) = &args.hgrm {
            note(put(&numbered(path, index), &report::hdr::hgrm(&run.total.response)));
        }
        if let Some(path) = &args.hlog {
            note(report::hdr::hlog(run).and_then(|text| put(&numbered(path, index), &text)));
        }
        if let Some(path) = &args.csv {
            note(put(&numbered(path, index), &report::csv::render(run)));
        }
    }
    failed.map_or(Ok(()), |_| Err("not all outputs could be written".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_runs_get_numbered_files() {
        assert_eq!(numbered(Path::new("x/a.html"), 0), Path::new("x/a.html"));
        assert_eq!(numbered(Path::new("x/a.html"), 1), Path::new("x/a-2.html"));
        assert_eq!(numbered(Path::new("a"), 2), Path::new("a-3"));
        assert_eq!(numbered(Path::new("-"), 2), Path::new("-"));
    }
}
