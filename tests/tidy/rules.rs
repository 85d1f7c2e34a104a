//! The rules of the tree, one pure function each: text in, findings out.
//!
//! # Rules
//! 1. A finding is `file:line: what is wrong`, so that an editor can jump to it.
//! 2. No function here reads a file, runs a program or knows where the repository is.
//! 3. A pattern that must not occur in a tracked file is written in pieces: this file is tracked too.
//!
//! Not here: which files a rule is applied to (`tidy.rs`), samples of good and bad text (`samples`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::code::{lines_with, strip};

/// What `cargo metadata` says about one crate of the workspace.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: String,
    #[serde(default)]
    pub(crate) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
    pub(crate) metadata: Option<Metadata>,
}

/// One line of `[dependencies]` or its relatives.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` is a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) optional: bool,
}

/// One library, program, test or bench of a crate.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: String,
    /// Whether `cargo test` runs it without being asked to.
    #[serde(default)]
    pub(crate) test: bool,
}

/// `[package.metadata]`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) floor: Option<Floor>,
}

/// `[package.metadata.floor]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Floor {
    pub(crate) level: u32,
}

impl Package {
    fn floor(&self) -> Option<u32> {
        self.metadata.as_ref()?.floor.map(|f| f.level)
    }
}

/// Every file opens by saying what it is.
pub(crate) fn opens_with_docs(path: &str, text: &str) -> Vec<String> {
    if text.starts_with("//!") { vec![] } else { vec![format!("{path}:1: the first line is no `//!`")] }
}

/// Whoever depends on `name` does so by a feature that is off by default, and somebody does.
pub(crate) fn is_optional(name: &str, packages: &[Package]) -> Vec<String> {
    let mut found = vec![];
    let mut users = 0;
    for package in packages {
        for dependency in package.dependencies.iter().filter(|dependency| dependency.name == name) {
            users += 1;
            if !dependency.optional {
                found.push(format!("{}:1: {name} is not optional", package.manifest_path));
            }
        }
    }
    if users == 0 {
        found.push(format!("Cargo.toml:1: no crate depends on {name}"));
    }
    found
}

/// Every crate states its floor and depends on lower ones only. Dev-dependencies may point anywhere; the
/// simulator is one, or a feature.
pub(crate) fn floors_descend(packages: &[Package]) -> Vec<String> {
    let floors: BTreeMap<_, _> = packages.iter().map(|p| (p.name.as_str(), p.floor())).collect();
    let mut found = vec![];
    for package in packages {
        let at = format!("{}:1", package.manifest_path);
        let Some(floor) = package.floor() else {
            found.push(format!("{at}: {} has no [package.metadata.floor] level", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev")) {
            let Some(Some(below)) = floors.get(dependency.name.as_str()) else { continue };
            let (name, other) = (&package.name, &dependency.name);
            if *below >= floor {
                found.push(format!("{at}: {name} (floor {floor}) depends on {other} (floor {below})"));
            }
            if other == "corelane-sim" && !dependency.optional {
                found.push(format!("{at}: {name} depends on the simulator outside tests and features"));
            }
        }
    }
    found
}

/// The root file of a library or program forbids unsafe code.
pub(crate) fn forbids_unsafe(path: &str, text: &str) -> Vec<String> {
    let forbidden = ["#![forbid(unsafe_code)]", "#![forbid(unsafe_code,"];
    if strip(text).lines().any(|line| forbidden.iter().any(|f| line.trim_start().starts_with(f))) {
        vec![]
    } else {
        vec![format!("{path}:1: no #![forbid(unsafe_code)]")]
    }
}

/// A file outside the crates that may contain `unsafe` contains none. A test that installs an allocator
/// to count what is allocated cannot do without.
pub(crate) fn has_no_unsafe(path: &str, text: &str) -> Vec<String> {
    let is_test = path.starts_with("tests/") || path.contains("/tests/");
    if is_test && !lines_with(&strip(text), "#[global_allocator]").is_empty() {
        return vec![];
    }
    let message = "unsafe code belongs to sys, lanes, pools, uring, exec and bench/src/limit";
    words(path, &strip(text), &["unsafe"], message)
}

/// Only `uring` names what is in a ring.
pub(crate) fn names_no_ring(path: &str, text: &str) -> Vec<String> {
    let names = ["io_uring", "squeue", "cqueue", "Sqe", "Cqe", "SQE", "CQE"];
    words(path, &strip(text), &names, "rings are spoken of in shards/uring only")
}

/// A protocol machine has bytes and time as arguments: no socket, no descriptor, no clock, no task.
pub(crate) fn is_sans_io(path: &str, text: &str) -> Vec<String> {
    let names = [
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "std::os",
        "RawFd",
        "OwnedFd",
        "BorrowedFd",
        "Instant::now",
        "SystemTime::now",
        "std::thread",
        "async",
    ];
    words(path, &strip(text), &names, "a protocol machine performs no I/O and reads no clock")
}

/// Every field of `Limits` has its row in the table, with its default, and no row is of something else.
///
/// `source` is the file of `struct Limits`, `defaults` is `{:#?}` of its default. A row is
/// `| field | default | ...` with the first two in backticks.
pub(crate) fn limits_are_documented(path: &str, source: &str, defaults: &str, page: &str) -> Vec<String> {
    let fields: BTreeSet<String> = fields_of(source, "Limits").into_iter().collect();
    let defaults: BTreeMap<&str, &str> =
        defaults.lines().filter_map(|l| l.trim().trim_end_matches(',').split_once(": ")).collect();
    let mut found = vec![];
    if fields.is_empty() {
        found.push(format!("{path}:1: found no fields of Limits to compare with"));
    }
    let mut seen = BTreeSet::new();
    for (index, line) in page.lines().enumerate() {
        let mut cells = line.strip_prefix('|').unwrap_or("").split('|').map(quoted);
        let (Some(Some(field)), default) = (cells.next(), cells.next().flatten()) else { continue };
        let at = format!("{path}:{}", index + 1);
        if !fields.contains(field) {
            found.push(format!("{at}: `{field}` is no field of Limits"));
        } else if default != defaults.get(field).copied() {
            let real = defaults.get(field).unwrap_or(&"unknown");
            found.push(format!("{at}: the default of `{field}` is `{real}`"));
        }
        if !seen.insert(field.to_owned()) {
            found.push(format!("{at}: `{field}` has two rows"));
        }
    }
    found.extend(fields.difference(&seen).map(|field| format!("{path}:1: `{field}` has no row")));
    found
}

/// Where the counter of a row of limits is: after field, default, unit and what happens.
const COUNTER_COLUMN: usize = 5;

/// The text between the backticks a cell starts with.
fn quoted(cell: &str) -> Option<&str> {
    cell.trim().strip_prefix('`')?.split_once('`').map(|(inside, _)| inside)
}

/// The names of the public fields of `struct name` in `source`.
fn fields_of(source: &str, name: &str) -> Vec<String> {
    let code = strip(source);
    let open = format!("pub struct {name} {{");
    let body = code.split_once(&open).map_or("", |(_, after)| after);
    let body = body.split_once("\n}").map_or("", |(inside, _)| inside);
    body.lines()
        .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'))
        .map(|(field, _)| field.to_owned())
        .collect()
}

/// Every counter the table of limits names exists: each word in backticks of the last column occurs in
/// `product`, the text of all product code. A row whose counter is of the host says so.
pub(crate) fn counters_exist(path: &str, page: &str, product: &str) -> Vec<String> {
    let mut found = vec![];
    for (index, line) in page.lines().enumerate().filter(|(_, line)| line.starts_with("| `")) {
        let cell = line.split('|').nth(COUNTER_COLUMN).unwrap_or("");
        for name in cell.split('`').skip(1).step_by(2).filter(|_| !cell.contains("of the host")) {
            if lines_with(product, name).is_empty() {
                found.push(format!("{path}:{}: no counter `{name}`", index + 1));
            }
        }
    }
    found
}

/// The macros whose fields are counters.
pub(crate) const COUNTER_BLOCKS: [&str; 2] = ["\nstats! {", "\ncounters! {"];

/// Every field of a block of counters is used by the crate it is in. `code` is all of that crate's source.
pub(crate) fn counters_count(path: &str, text: &str, code: &str) -> Vec<String> {
    let stripped = strip(text);
    let Some((before, block)) = COUNTER_BLOCKS.into_iter().find_map(|open| stripped.split_once(open)) else {
        return vec![];
    };
    let first = before.matches('\n').count() + 2;
    let block = block.split_once("\n}").map_or(block, |(inside, _)| inside);
    let fields =
        block.lines().enumerate().filter_map(|(i, l)| Some((first + i, l.trim().strip_suffix(',')?)));
    let dead = fields.filter(|(_, field)| lines_with(code, &format!(".{field}")).is_empty());
    dead.map(|(line, field)| format!("{path}:{line}: `{field}` is never counted")).collect()
}

/// Every environment variable of ours that a page names is read somewhere. `code` is the source of all
/// that could read it.
pub(crate) fn variables_exist(path: &str, page: &str, code: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let mut found = vec![];
    for (index, line) in page.lines().enumerate() {
        for (at, start) in line.match_indices("CORELANE_") {
            let name = line[at + start.len()..].split(|c| !is_part(c)).next().unwrap_or("");
            let name = format!("{start}{name}");
            if lines_with(code, &name).is_empty() {
                found.push(format!("{path}:{}: nothing reads `{name}`", index + 1));
            }
        }
    }
    found
}

/// Every protocol crate is used by a fuzz target. `targets` are paths and texts.
pub(crate) fn protocols_are_fuzzed(crates: &[&str], targets: &[(String, String)]) -> Vec<String> {
    let missing = crates.iter().filter(|name| {
        let import = name.replace('-', "_");
        !targets.iter().any(|(_, text)| !lines_with(&strip(text), &import).is_empty())
    });
    missing.map(|name| format!("fuzz/fuzz_targets:1: no target uses {name}")).collect()
}

/// Every crate of `shards/` has benches, and all of them run under the tests: the target is a test too, it
/// hands over to divan, which runs whatever is registered, and each file of its folder is a module of it.
/// `files` are paths and texts. A bench that is not registered is dead code, which the compiler tells.
pub(crate) fn benches_run_as_tests(packages: &[Package], files: &[(String, String)]) -> Vec<String> {
    let is_bench = |target: &&Target| target.kind.iter().any(|kind| kind == "bench");
    let mut found = vec![];
    for package in packages.iter().filter(|package| package.manifest_path.starts_with("shards/")) {
        let benches: Vec<_> = package.targets.iter().filter(is_bench).collect();
        if benches.is_empty() {
            found.push(format!("{}:1: {} has no benches", package.manifest_path, package.name));
        }
        for bench in benches {
            let path = &bench.src_path;
            if !bench.test {
                found.push(format!("{path}:1: no test runs it: add `test = true` to its [[bench]]"));
            }
            let root = files.iter().find(|(other, _)| other == path).map_or("", |(_, text)| text);
            let root = strip(root);
            if lines_with(&root, "divan::main()").is_empty() {
                found.push(format!("{path}:1: nothing calls divan::main()"));
            }
            let Some(folder) = path.strip_suffix("main.rs") else { continue };
            let beside = files.iter().filter_map(|(other, _)| Some((other, other.strip_prefix(folder)?)));
            for (other, name) in beside.filter(|(other, _)| *other != path) {
                let module = format!("mod {};", name.trim_end_matches(".rs").trim_end_matches("/mod"));
                if lines_with(&root, &module).is_empty() {
                    found.push(format!("{other}:1: nothing runs it: {path} has no `{module}`"));
                }
            }
        }
    }
    found
}

/// Bytes a tracked file may have. The whole tree is read by people; what is larger was generated, and
/// belongs to the place that generates it.
pub(crate) const BLOB_LEN_MAX: u64 = 100 * 1024;

/// No large file is tracked. Lock files are generated and must be.
pub(crate) fn is_small(path: &str, len: u64) -> Vec<String> {
    let locked = path.rsplit('/').next() == Some("Cargo.lock");
    if locked || len <= BLOB_LEN_MAX {
        vec![]
    } else {
        vec![format!("{path}:1: {len} bytes are more than {BLOB_LEN_MAX}")]
    }
}

/// Nothing tracked is unfinished.
pub(crate) fn is_finished(path: &str, text: &str) -> Vec<String> {
    let names = [["to", "do!("], ["unimpl", "emented!("], ["FIX", "ME"], ["XX", "X"]].map(|p| p.concat());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    words(path, text, &names, "finish it, or say in docs what is missing")
}

/// No host of a public package registry is named: which one is used is the host's configuration.
pub(crate) fn names_no_registry(path: &str, text: &str) -> Vec<String> {
    let hosts = [
        ["crates", "io"],
        ["pypi", "org"],
        ["pythonhosted", "org"],
        ["npmjs", "org"],
        ["npmjs", "com"],
        ["proxy.golang", "org"],
        ["docker", "io"],
        ["ghcr", "io"],
        ["quay", "io"],
        ["gcr", "io"],
        ["rubygems", "org"],
    ]
    .map(|p| p.join("."));
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    words(path, text, &hosts, "no registry host in the tree")
}

/// The changelog has a place for what is not released yet.
pub(crate) fn has_unreleased(path: &str, text: &str) -> Vec<String> {
    if text.lines().any(|line| line.trim_end() == "## [Unreleased]") {
        vec![]
    } else {
        vec![format!("{path}:1: no `## [Unreleased]` section")]
    }
}

/// Fewest words of a test's name: subject, verb, and what is claimed.
pub(crate) const TEST_WORDS_MIN: usize = 3;

/// A test is named as a sentence.
pub(crate) fn tests_are_sentences(path: &str, text: &str) -> Vec<String> {
    let mut found = vec![];
    let mut is_test = false;
    for (index, line) in strip(text).lines().enumerate() {
        is_test |= line.contains("#[test]");
        let Some((_, after)) = line.split_once("fn ").filter(|_| is_test) else { continue };
        is_test = false;
        let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        if name.split('_').filter(|word| !word.is_empty()).count() < TEST_WORDS_MIN {
            found.push(format!("{path}:{}: `{name}` is no sentence", index + 1));
        }
    }
    found
}

fn words(path: &str, text: &str, words: &[&str], message: &str) -> Vec<String> {
    let mut found = vec![];
    for word in words {
        found.extend(
            lines_with(text, word).into_iter().map(|line| format!("{path}:{line}: `{word}`: {message}")),
        );
    }
    found
}
