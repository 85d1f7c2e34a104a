//! The folder where revisions are checked out and built, and where binaries are kept.
//!
//! ```text
//! target/bench-revisions/
//!     CACHEDIR.TAG     says that the folder is ours and holds nothing that cannot be made again
//!     lock             held while a run uses the folder
//!     0123456789ab/    a commit, checked out while it is built
//!     target/          cargo's, of all revisions: what they have in common is compiled once
//!     bin/KEY/         a binary, and beside it the recipe it was made by
//! ```
//!
//! # Rules
//! 1. Nothing is deleted in a folder that has no tag of ours, and nothing but what is named above.
//! 2. A binary is used again only if its recipe is word for word the same.
//!
//! Not here: making a binary (`build`).

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::git::Repo;

/// First line of the tag: the "Cache Directory Tagging Specification" (B. Ford, 2004), which backups know.
const TAG: &str =
    "Signature: 8a477f597d28d172789f06886806bc55\n# Made by `bench ab`; `bench ab --clean` empties it.\n";

/// An open cache; other runs are kept out until it is dropped.
pub(crate) struct Cache {
    /// Absolute.
    root: PathBuf,
    _lock: File,
}

impl Cache {
    /// Opens the folder, makes it if need be, and clears what an interrupted run left in it.
    ///
    /// # Errors
    /// It holds files and no tag of ours, or another run uses it.
    pub(crate) fn open(root: &Path, repo: &Repo) -> Result<Self, String> {
        let fault = |error: io::Error| format!("{}: {error}", root.display());
        fs::create_dir_all(root).map_err(fault)?;
        let root = root.canonicalize().map_err(fault)?;
        let tag = root.join("CACHEDIR.TAG");
        if fs::read_to_string(&tag).ok().as_deref() != Some(TAG) {
            if fs::read_dir(&root).map_err(fault)?.next().is_some() {
                return Err(format!(
                    "{} holds files and was not made by `bench ab`: name another folder with --dir",
                    root.display()
                ));
            }
            fs::write(&tag, TAG).map_err(fault)?;
        }
        let lock = File::create(root.join("lock")).map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "another run uses {}: wait for it; two would measure each other",
                    root.display()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        let cache = Self { root, _lock: lock };
        for entry in fs::read_dir(&cache.root).map_err(fault)?.flatten() {
            if is_short_hash(&entry.file_name().to_string_lossy()) {
                repo.sweep(&entry.path())?;
            }
        }
        Ok(cache)
    }

    /// Deletes binaries and everything cargo keeps.
    ///
    /// # Errors
    /// What could not be deleted.
    pub(crate) fn clean(&self) -> Result<(), String> {
        for folder in [self.root.join("bin"), self.target()] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", folder.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where a commit is checked out.
    pub(crate) fn tree(&self, short: &str) -> PathBuf {
        debug_assert!(is_short_hash(short));
        self.root.join(short)
    }

    /// Cargo's target directory.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// The place of a binary made by `recipe`.
    pub(crate) fn slot(&self, short: &str, recipe: String, name: &str) -> Slot {
        let folder = self.root.join("bin").join(format!("{short}-{:016x}", fnv1a(recipe.as_bytes())));
        Slot { folder, recipe, name: name.to_owned() }
    }
}

/// A place for one binary.
pub(crate) struct Slot {
    folder: PathBuf,
    recipe: String,
    name: String,
}

impl Slot {
    /// The binary, if it is there.
    pub(crate) fn kept(&self) -> Option<PathBuf> {
        let recipe = fs::read_to_string(self.folder.join("recipe")).ok()?;
        let binary = self.binary();
        (recipe == self.recipe && binary.is_file()).then_some(binary)
    }

    /// Where the binary will be, in an empty folder made for it.
    ///
    /// # Errors
    /// What could not be deleted or made.
    pub(crate) fn empty(&self) -> Result<PathBuf, String> {
        let fault = |error: io::Error| format!("{}: {error}", self.folder.display());
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            _ => {}
        }
        fs::create_dir_all(&self.folder).map_err(fault)?;
        Ok(self.binary())
    }

    /// Says that the binary is whole; until then [`Slot::kept`] does not find it.
    ///
    /// # Errors
    /// The recipe could not be written.
    pub(crate) fn keep(&self) -> Result<(), String> {
        let path = self.folder.join("recipe");
        fs::write(&path, &self.recipe).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn binary(&self) -> PathBuf {
        self.folder.join(&self.name)
    }
}

/// Twelve hexadecimal digits, the name of a checked-out commit.
fn is_short_hash(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// FNV-1a of 64 bits (G. Fowler, L. Noll, K. Vo): a short name for a recipe, which is compared as well.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn open(root: &Path) -> Result<Cache, String> {
        Cache::open(root, &Repo { top: root.to_owned() })
    }

    #[test]
    fn a_folder_with_files_of_others_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        let error = open(folder.path()).err().unwrap();
        assert!(error.contains("--dir"), "{error}");
        assert!(folder.path().join("bin").is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_second_run_in_the_same_folder_is_refused_until_the_first_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap();
        assert!(open(folder.path()).err().unwrap().contains("another run"));
        drop(first);
        assert!(open(folder.path()).is_ok());
    }

    #[test]
    fn a_binary_is_kept_by_its_recipe_and_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path()).unwrap();
        let slot = cache.slot("0123456789ab", "cargo build".into(), "program");
        assert_eq!(slot.kept(), None);
        fs::write(slot.empty().unwrap(), "bytes").unwrap();
        assert_eq!(slot.kept(), None);
        slot.keep().unwrap();
        assert!(slot.kept().is_some());
        assert_eq!(cache.slot("0123456789ab", "cargo build -O".into(), "program").kept(), None);
        let altered = Slot { recipe: "altered".into(), ..slot };
        assert_eq!(altered.kept(), None);
        cache.clean().unwrap();
        assert_eq!(cache.slot("0123456789ab", "cargo build".into(), "program").kept(), None);
    }

    #[test]
    fn what_an_interrupted_run_left_is_cleared_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()).unwrap());
        for name in ["0123456789ab", "0123456789a", "0123456789AB", "notes"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        drop(open(folder.path()).unwrap());
        let left =
            ["0123456789ab", "0123456789a", "0123456789AB", "notes"].map(|n| folder.path().join(n).exists());
        assert_eq!(left, [false, true, true, true]);
    }

    #[test]
    fn a_recipe_is_named_by_fnv_1a() {
        // Vectors of draft-eastlake-fnv: the empty string, "a" and "foobar".
        let named = ["", "a", "foobar"].map(|text| fnv1a(text.as_bytes()));
        assert_eq!(named, [0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8]);
    }
}
