//! The repository: which commit a revision is, and checking one out beside the working directory.
//!
//! # Rules
//! 1. The working directory, its index and its branches are not touched; nothing is fetched; no hook runs.
//! 2. What [`Repo::check_out`] adds, the returned [`Tree`] removes, whatever happens in between.
//!
//! Not here: building what was checked out (`build`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::child;

/// The two names of the working directory as it is.
const HERE: [&str; 2] = [".", "worktree"];

/// A repository with a working directory.
pub(crate) struct Repo {
    /// The top of its working directory.
    pub(crate) top: PathBuf,
}

/// A revision as it was asked for, and what it is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Revision {
    /// What was typed.
    pub(crate) name: String,
    /// Full hash of the commit; of the working directory, of the one it stands on.
    pub(crate) commit: String,
    /// First line of the commit's message.
    pub(crate) subject: String,
    /// Of the working directory: how many files differ from the commit, or are new.
    pub(crate) changed_files: Option<usize>,
}

impl Revision {
    /// Twelve digits, or the word for the working directory.
    pub(crate) fn short(&self) -> &str {
        if self.changed_files.is_some() { HERE[1] } else { self.commit.get(..12).unwrap_or(&self.commit) }
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.commit)?;
        if let Some(changed) = self.changed_files {
            write!(f, " and {changed} changed or new files")?;
        }
        write!(f, ", {}", self.subject)
    }
}

impl Repo {
    /// The repository that `folder` is in.
    ///
    /// # Errors
    /// It is in none, or there is no git.
    pub(crate) fn of(folder: &Path) -> Result<Self, String> {
        let top = git(folder, &["rev-parse", "--show-toplevel"])?;
        Ok(Self { top: PathBuf::from(top) })
    }

    /// Finds the commit of a revision. `.` and `worktree` are the working directory.
    ///
    /// # Errors
    /// Git does not know it.
    pub(crate) fn resolve(&self, name: &str) -> Result<Revision, String> {
        let here = HERE.contains(&name);
        let asked = format!("{}^{{commit}}", if here { "HEAD" } else { name });
        let commit = git(&self.top, &["rev-parse", "--verify", "--quiet", "--end-of-options", &asked]);
        let commit = commit.map_err(|_| {
            format!("{name} is no commit of {}: `git log --oneline` lists some", self.top.display())
        })?;
        let subject = git(&self.top, &["show", "--no-patch", "--format=%s", &commit])?;
        let changed_files = match here {
            true => Some(git(&self.top, &["status", "--porcelain"])?.lines().count()),
            false => None,
        };
        Ok(Revision { name: name.to_owned(), commit, subject, changed_files })
    }

    /// Checks a commit out into `path`, which must not exist.
    ///
    /// # Errors
    /// What git said.
    pub(crate) fn check_out<'r>(&'r self, commit: &str, path: &Path) -> Result<Tree<'r>, String> {
        let tree = Tree { repo: self, path: path.to_owned() };
        let text = path.to_str().ok_or_else(|| format!("{}: not UTF-8", path.display()))?;
        // Forced: git may remember one at this path that somebody deleted without telling it.
        git(&self.top, &["worktree", "add", "--detach", "--force", "--quiet", text, commit])?;
        Ok(tree)
    }

    /// Removes what an earlier run left at `path`, if anything.
    ///
    /// # Errors
    /// It could not be deleted.
    pub(crate) fn sweep(&self, path: &Path) -> Result<(), String> {
        let text = path.to_string_lossy();
        // Refused if it is none of this repository's: it is deleted all the same, being in our folder.
        let removed = git(&self.top, &["worktree", "remove", "--force", "--force", &text]);
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}{}", path.display(), removed.err().unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }
}

/// A checked-out commit; removed when dropped.
pub(crate) struct Tree<'r> {
    repo: &'r Repo,
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.repo.sweep(&self.path) {
            eprintln!("bench: a worktree is left: {error}; `git worktree remove --force` removes it");
        }
    }
}

/// Asks git and returns what it printed, without the line end.
fn git(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "core.hooksPath=/dev/null"]).args(arguments);
    // Never stopped halfway: what it does takes a moment, and what it leaves must be whole.
    let ended = child::run(command, false, &AtomicBool::new(false))?;
    let words = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    Ok(ended.well(&format!("git {words}"))?.stdout.trim_end().to_owned())
}
