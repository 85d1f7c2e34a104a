//! Tells the crate which commit it is built from, for the provenance of results.
//!
//! `CORELANE_COMMIT` of the environment wins; else git is asked. Where there is neither, the crate is built
//! all the same and results say nothing of a commit.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=CORELANE_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
    // Grows with each commit and checkout. A path that is not there would mean a build each time.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo:rerun-if-changed={log}");
    }
    let commit = std::env::var("CORELANE_COMMIT").ok().or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    if let Some(commit) = commit {
        println!("cargo:rustc-env=CORELANE_COMMIT={}", commit.trim());
    }
}

fn git(words: &[&str]) -> Option<String> {
    let answer = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?.trim().to_owned();
    (answer.status.success() && !text.is_empty()).then_some(text)
}
