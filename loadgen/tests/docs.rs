//! `docs/LOADGEN.md` has every flag of the program, every reason of the verdict, and every kind of error.
//!
//! Flags are read from the help that the program prints, so that none can be left out; reasons from the sources of
//! the verdict, since nobody lists them at run time.
//!
//! Not here: whether what the page says of them is true.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use loadgen::record::{ConnectError, ErrorKind};

const PAGE: &str = "docs/LOADGEN.md";

/// Those of every program.
const KNOWN_TO_ALL: [&str; 2] = ["--help", "--version"];

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(crate_dir().join("..").join(PAGE)).unwrap()
}

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The subcommands that a help lists: one a line, below `Commands:`.
fn subcommands(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next()).collect()
}

/// The long flags that a help defines: on lines that begin with one, or with its short form.
fn flags(help: &str) -> BTreeSet<String> {
    let defining = help.lines().map(str::trim).filter(|line| line.starts_with('-'));
    let words = defining.flat_map(|line| line.split_whitespace().take(2));
    let long = words.filter(|word| word.starts_with("--")).map(|word| word.trim_end_matches(','));
    long.filter(|flag| !KNOWN_TO_ALL.contains(flag)).map(str::to_owned).collect()
}

/// Whether `page` has `name`, and not only a longer one that it is part of.
fn mentions(page: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    page.match_indices(name).any(|(at, _)| {
        let (before, after) = (page[..at].chars().next_back(), page[at + name.len()..].chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[test]
fn every_flag_is_on_the_page() {
    let (page, whole) = (page(), help(&[]));
    let commands = subcommands(&whole);
    assert!(commands.contains(&"knee") && commands.len() >= 6, "{commands:?}");
    let mut missing = Vec::new();
    let mut seen = 0;
    for command in std::iter::once(None).chain(commands.iter().copied().map(Some)) {
        let words: Vec<&str> = command.into_iter().collect();
        let found = flags(&help(&words));
        seen += found.len();
        let absent = found.into_iter().filter(|flag| !mentions(&page, flag));
        missing.extend(absent.map(|flag| format!("loadgen {} {flag}", words.join(" "))));
    }
    assert!(seen > 100, "only {seen} flags found: the help has changed its form");
    assert!(missing.is_empty(), "{PAGE} does not say what these do:\n{}", missing.join("\n"));
}

#[test]
fn every_subcommand_is_on_the_page() {
    let (page, whole) = (page(), help(&[]));
    for command in subcommands(&whole) {
        assert!(mentions(&page, &format!("loadgen {command}")), "{PAGE} has no `loadgen {command}`");
    }
}

/// The codes in calls of `reason(level, "code", text)`.
fn codes(source: &str) -> Vec<String> {
    let calls = source.match_indices("reason(").filter(|(at, _)| !source[..*at].ends_with("fn "));
    let words = calls.filter_map(|(at, _)| source[at..].split('"').nth(1));
    words.map(str::to_owned).collect()
}

/// The sources in a directory, without tests.
fn sources(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let rust = files.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.filter(|path| !path.ends_with("tests.rs")).map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_reason_of_the_verdict_is_on_the_page() {
    let page = page();
    let sources = sources(&crate_dir().join("src/verdict"));
    let found: BTreeSet<String> = sources.iter().flat_map(|source| codes(source)).collect();
    let is_code = |code: &String| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    assert!(found.len() > 20 && found.iter().all(is_code), "the calls have changed their form: {found:?}");
    let missing: Vec<&String> = found.iter().filter(|code| !mentions(&page, &format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "{PAGE} does not explain these reasons: {missing:?}");
}

#[test]
fn every_kind_of_error_is_on_the_page() {
    let page = page();
    let connects = ConnectError::ALL.map(ConnectError::name);
    let names = ErrorKind::ALL.map(ErrorKind::name).into_iter().chain(connects);
    let missing: Vec<&str> = names.filter(|name| !mentions(&page, &format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{PAGE} does not explain these errors: {missing:?}");
}

#[test]
fn what_is_looked_for_is_found_whole() {
    assert!(mentions("a `--max` b", "--max"));
    assert!(!mentions("--max-rate", "--max"));
    assert!(!mentions("x--max", "--max"));
    let help = "  -c, --connections <N>\n      --no-pin   Not --cpus\n  see --json\n";
    assert_eq!(flags(help).into_iter().collect::<Vec<_>>(), ["--connections", "--no-pin"]);
    let source = "fn reason(level: Level) {}\n reason(l, \"one\", text)\n reason(\n l,\n \"two\", text)";
    assert_eq!(codes(source), ["one", "two"]);
}
