//! A revision to a binary, and to its count of instructions.
//!
//! # Rules
//! 1. A commit is built in a checkout of its own, which is gone when [`make`] returns; the working directory
//!    is built where it is. Neither uses the target directory you work with.
//! 2. The compiler is the one the revision names (`rust-toolchain.toml`), not the one that runs us.
//! 3. A commit's binary is built once; that of the working directory is built each time, as far as cargo
//!    finds something to do.
//!
//! Not here: what is kept where (`cache`), how a checkout comes and goes (`git`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::cache::{Cache, Slot};
use super::child::{self, INTERRUPTED};
use super::git::{Repo, Revision};

/// Connections of `scripts/icount`.
const COUNT_CONNECTIONS: u32 = 16;

/// What is built of each revision, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Recipe {
    /// A program of the workspace, by cargo, as a release.
    Cargo {
        /// The package.
        package: String,
        /// `bin` or `example`.
        kind: &'static str,
        /// Name of the program.
        name: String,
    },
    /// Whatever a command puts at `{out}`.
    Command(Vec<String>),
}

/// A built revision.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Built {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// It was there already.
    pub(crate) was_kept: bool,
    /// User-space instructions a request by requests under way at a time, where they were asked for.
    pub(crate) instructions: BTreeMap<u32, u64>,
    /// Why some of them are not there.
    pub(crate) not_counted: Vec<String>,
}

impl Recipe {
    /// Reads `PACKAGE` or `PACKAGE/BIN` (without BIN: called like the package), and an example's name.
    ///
    /// # Errors
    /// What does not go together.
    pub(crate) fn cargo(build: &str, example: Option<&str>) -> Result<Self, String> {
        let (package, bin) = build.split_once('/').unwrap_or((build, ""));
        let (kind, name) = match (bin, example) {
            ("", Some(example)) => ("example", example),
            ("", None) => ("bin", package),
            (bin, None) => ("bin", bin),
            (bin, Some(_)) => {
                return Err(format!("--build {build} with --example builds two things: leave out /{bin}"));
            }
        };
        if [package, name].iter().any(|word| word.is_empty() || word.starts_with('-')) {
            return Err(format!("--build {build}: expected PACKAGE or PACKAGE/BIN, like bench/bench"));
        }
        Ok(Self::Cargo { package: package.to_owned(), kind, name: name.to_owned() })
    }

    /// The command, for one place and one output. The lock file of a commit is taken as it is; that of the
    /// working directory may be behind its manifests.
    fn words(&self, is_commit: bool, out: &str) -> Vec<String> {
        match self {
            Self::Cargo { package, kind, name } => {
                let kind = format!("--{kind}");
                let mut words = vec!["cargo", "build", "--release", "-p", package, &kind, name];
                if is_commit {
                    words.push("--locked");
                }
                words.into_iter().map(str::to_owned).collect()
            }
            Self::Command(words) => words.iter().map(|word| word.replace("{out}", out)).collect(),
        }
    }

    /// Name of the file.
    fn name(&self) -> &str {
        match self {
            Self::Cargo { name, .. } => name,
            Self::Command(_) => "program",
        }
    }
}

impl std::fmt::Display for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words(false, "{out}").join(" "))
    }
}

/// Builds a revision, or finds it built; with `depths`, also counts its instructions for each.
///
/// # Errors
/// It does not build (with the end of what was said), or an interrupt.
pub(crate) fn make(
    repo: &Repo,
    cache: &Cache,
    revision: &Revision,
    recipe: &Recipe,
    depths: &[u32],
    stop: &AtomicBool,
) -> Result<Built, String> {
    let is_commit = revision.changed_files.is_none();
    let slot = cache.slot(revision.short(), circumstances(repo, recipe, stop), recipe.name());
    let kept = slot.kept().filter(|_| is_commit);
    let was_kept = kept.is_some();
    if let (Some(binary), true) = (&kept, depths.is_empty()) {
        eprintln!("{revision}\n  is built: {}", binary.display());
        let instructions = BTreeMap::new();
        return Ok(Built { binary: binary.clone(), was_kept, instructions, not_counted: Vec::new() });
    }
    let tree = match is_commit {
        true => Some(repo.check_out(&revision.commit, &cache.tree(revision.short()))?),
        false => None,
    };
    let place = tree.as_ref().map_or(&repo.top, |tree| &tree.path);
    let binary = match kept {
        Some(binary) => binary,
        None => {
            eprintln!("{revision}\n  is built by `{recipe}` in {}", place.display());
            build(cache, &slot, recipe, is_commit, place, stop)
                .map_err(|error| if error == INTERRUPTED { error } else { format!("{revision}: {error}") })?
        }
    };
    let (mut instructions, mut not_counted) = (BTreeMap::new(), Vec::new());
    for &depth in depths {
        eprintln!("{revision}\n  instructions with {depth} at a time are counted, which takes a minute");
        match count(cache, place, depth, stop) {
            Ok(count) => drop(instructions.insert(depth, count)),
            Err(error) if error == INTERRUPTED => return Err(error),
            Err(error) => not_counted.push(format!("{depth} at a time: {error}")),
        }
    }
    Ok(Built { binary, was_kept, instructions, not_counted })
}

/// Builds and keeps.
fn build(
    cache: &Cache,
    slot: &Slot,
    recipe: &Recipe,
    is_commit: bool,
    place: &Path,
    stop: &AtomicBool,
) -> Result<PathBuf, String> {
    let out = slot.empty()?;
    let words = recipe.words(is_commit, &out.to_string_lossy());
    let (program, arguments) = words.split_first().ok_or("--build-command is empty")?;
    let mut command = Command::new(program);
    command.args(arguments);
    if matches!(recipe, Recipe::Cargo { .. }) {
        command.arg("--message-format=json-render-diagnostics");
    }
    let ended = child::run(within(command, cache, place), true, stop)?.well(&words.join(" "))?;
    if let Recipe::Cargo { kind, name, .. } = recipe {
        let made = executable(&ended.stdout, kind, name)
            .ok_or_else(|| format!("cargo built no {kind} called {name}, though it ended well"))?;
        std::fs::copy(&made, &out)
            .map_err(|error| format!("{} to {}: {error}", made.display(), out.display()))?;
    }
    if !out.is_file() {
        return Err(format!("`{}` ended well and left no file at {}", words.join(" "), out.display()));
    }
    slot.keep()?;
    Ok(out)
}

/// A command in a revision's folder, with cargo's files where ours are.
fn within(mut command: Command, cache: &Cache, place: &Path) -> Command {
    command.current_dir(place).env("CARGO_TARGET_DIR", cache.target());
    // `cargo run` sets it to the toolchain that built us, and rustup puts it above the revision's own file.
    command.env_remove("RUSTUP_TOOLCHAIN");
    command
}

/// One line of cargo's messages, as far as it matters ("Cargo External Tools": artifact messages).
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The program cargo says it made.
fn executable(messages: &str, kind: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| sonic_rs::from_str::<Message>(line).ok());
    let mut made = messages.filter_map(|message| {
        let target = message.target.filter(|target| target.name == name)?;
        target.kind.iter().any(|k| k == kind).then_some(message.executable?)
    });
    made.next()
}

/// Everything beside the commit that decides what comes out: words, compiler, environment.
fn circumstances(repo: &Repo, recipe: &Recipe, stop: &AtomicBool) -> String {
    let mut text = format!("{recipe}\n");
    if matches!(recipe, Recipe::Cargo { .. }) {
        let mut rustc = Command::new("rustc");
        rustc.arg("-vV").current_dir(&repo.top).env_remove("RUSTUP_TOOLCHAIN");
        let version = child::run(rustc, false, stop).and_then(|ended| ended.well("rustc"));
        text.push_str(version.as_ref().map_or("unknown compiler\n", |ended| &ended.stdout));
    }
    let variables: BTreeMap<_, _> =
        std::env::vars_os().filter(|(name, _)| matters(&name.to_string_lossy())).collect();
    for (name, value) in variables {
        let _ = writeln!(text, "{}={}", name.display(), value.display());
    }
    text
}

/// Whether a variable changes what cargo makes.
fn matters(name: &str) -> bool {
    let starts = ["CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_TARGET_", "CARGO_UNSTABLE_"];
    let is = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC", "RUSTC_WRAPPER", "CC", "CFLAGS"];
    name != "CARGO_TARGET_DIR" && (is.contains(&name) || starts.iter().any(|start| name.starts_with(start)))
}

/// Runs the revision's own `scripts/icount`.
fn count(cache: &Cache, place: &Path, depth: u32, stop: &AtomicBool) -> Result<u64, String> {
    let script = place.join("scripts/icount");
    if !script.is_file() {
        return Err("it has no scripts/icount".to_owned());
    }
    let mut command = Command::new(script);
    command.args([COUNT_CONNECTIONS.to_string(), depth.to_string()]);
    let ended = child::run(within(command, cache, place), true, stop)?.well("scripts/icount")?;
    counted(&ended.stdout).ok_or_else(|| format!("scripts/icount counted nothing: {}", ended.last_words()))
}

/// Reads `1881 instructions a request (...)`. None is what a script says that did not reach its server.
fn counted(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.split_once(" instructions a request")?.0.trim().parse().ok())
        .filter(|&n| n > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_package_a_program_and_an_example_make_cargos_words() {
        let words = |build, example| Recipe::cargo(build, example).unwrap().words(true, "").join(" ");
        let cargo = "cargo build --release -p";
        assert_eq!(words("corelane", None), format!("{cargo} corelane --bin corelane --locked"));
        assert_eq!(words("bench/bench", None), format!("{cargo} bench --bin bench --locked"));
        assert_eq!(words("corelane", Some("hello")), format!("{cargo} corelane --example hello --locked"));
        for (build, example) in [("a/b", Some("c")), ("", None), ("/b", None), ("a/--x", None), ("-p", None)]
        {
            assert!(Recipe::cargo(build, example).is_err(), "{build}");
        }
    }

    #[test]
    fn only_a_commit_is_held_to_its_lock_file_and_a_command_is_told_where_to_put_it() {
        let cargo = Recipe::cargo("corelane", None).unwrap();
        assert!(!cargo.words(false, "").contains(&"--locked".to_owned()));
        let command = Recipe::Command(vec!["cp".into(), "x".into(), "{out}".into()]);
        assert_eq!(command.words(true, "/tmp/o").join(" "), "cp x /tmp/o");
    }

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"cl"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"x"},"executable":"/t/x"}"#,
            "\nnot JSON\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"cl"},"executable":"/t/c"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages, "bin", "cl"), Some(PathBuf::from("/t/c")));
        assert_eq!(executable(messages, "example", "cl"), None);
    }

    #[test]
    fn the_count_is_the_number_before_its_words_and_never_0() {
        assert_eq!(
            counted("hello\n1881 instructions a request (16 connections, 16 at a time, x)\n"),
            Some(1881)
        );
        for nothing in ["no instructions a request", "0 instructions a request (16 connections)", ""] {
            assert_eq!(counted(nothing), None);
        }
    }

    #[test]
    fn flags_and_profiles_make_another_binary_and_the_target_directory_does_not() {
        let known = ["RUSTFLAGS", "CARGO_PROFILE_RELEASE_LTO", "CARGO_TARGET_X_LINKER"].map(matters);
        assert_eq!(known, [true; 3]);
        assert_eq!(["CARGO_TARGET_DIR", "CARGO_HOME", "HOME"].map(matters), [false; 3]);
    }
}
