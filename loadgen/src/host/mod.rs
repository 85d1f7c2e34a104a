//! What the system says: about itself, about what happened during a run, and whether a run can begin at all.
//!
//! # Rules
//! 1. Files are read below a root directory, `/` outside of tests, so that tests can show another machine.
//! 2. A file that is missing, unreadable or says nonsense is `None`, never an error: a run does not end for
//!    it.
//! 3. What is read is bounded: bytes of a file, processes, descriptors, bytes of an answer.
//! 4. Nothing here belongs into the measured window: each call opens files. Call before and after.
//!
//! Not here: what follows from the numbers (`verdict`), when they are taken (`engine`).

mod counters;
mod locality;
mod nesting;
mod preflight;
mod provenance;
mod server;
mod shards;
mod sources;
mod threads;
mod watch;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

pub use counters::Counters;
pub use locality::is_local;
pub use nesting::is_nested_within;
pub use preflight::{check_descriptors, check_ports};
pub use provenance::{TUNING_DIGESTS, provenance};
pub use server::{ServerThreads, cpus_beside};
pub use shards::{ask_shards, shard_requests, shards_since};
pub use sources::{SOURCES_MAX, parse_sources};
pub use threads::ThreadUse;
pub use watch::Watch;

/// Bytes of a file that are looked at. The longest that matter are `/proc/cpuinfo` (1.5 KiB a CPU: 2,700
/// CPUs) and `/proc/net/tcp` (150 bytes a socket, listening ones first: 28,000 sockets). What is behind is
/// not seen.
const FILE_LEN_MAX: u64 = 4 << 20;

/// The text of a file below `root`; `path` has no leading slash.
fn read(root: &Path, path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(root.join(path)).ok()?.take(FILE_LEN_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of a file below `root` without blanks around it; None if that is nothing.
fn read_word(root: &Path, path: impl AsRef<Path>) -> Option<String> {
    let text = read(root, path)?;
    let word = text.trim();
    (!word.is_empty()).then(|| word.to_owned())
}

#[cfg(test)]
mod fake {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use tempfile::TempDir;

    /// Writes a file below `root`, with the directories it needs.
    pub(super) fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Makes a symbolic link below `root`.
    pub(super) fn link(root: &Path, path: &str, to: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, path).unwrap();
    }

    /// A machine that has these files and no other.
    pub(super) fn machine(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        files.iter().for_each(|(path, text)| put(root.path(), path, text));
        root
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_a_missing_one_is_none() {
        let most = usize::try_from(FILE_LEN_MAX).unwrap();
        let root = fake::machine(&[("a", &"x".repeat(most)), ("b", &"x".repeat(most + 1)), ("c", " \n")]);
        assert_eq!(read(root.path(), "a").unwrap().len(), most);
        assert_eq!(read(root.path(), "b").unwrap().len(), most);
        assert_eq!((read(root.path(), "none"), read_word(root.path(), "c")), (None, None));
    }

    #[test]
    fn bytes_that_are_no_text_are_read_all_the_same() {
        let root = fake::machine(&[]);
        std::fs::write(root.path().join("x"), b"a\xff b\n").unwrap();
        assert_eq!(read_word(root.path(), "x").unwrap(), "a\u{fffd} b");
    }
}
