//! A file that is either the old one or the whole new one.
//!
//! Not here: `-` for standard output (the caller's).

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path`: to a new file beside it, which then takes its place.
///
/// A link is followed, the mode of a file that was there is kept, and what is no regular file (`/dev/null`, a
/// pipe) is written to as it is.
///
/// # Errors
/// A sentence with the path, the reason, and what to do.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let Some(place) = Place::find(path)? else {
        return fs::write(path, bytes).map_err(|error| failed(path, "it is no regular file", error));
    };
    let written = fs::File::create(&place.beside).and_then(|mut file| {
        if let Some(found) = &place.there {
            file.set_permissions(found.permissions())?;
        }
        file.write_all(bytes)
    });
    let done = written.map_err(|error| failed(path, BESIDE, error)).and_then(|()| {
        fs::rename(&place.beside, &place.target)
            .map_err(|error| failed(path, "the new file to its place", error))
    });
    if done.is_err() {
        // What is left of it is of no use to anyone; that it cannot be removed would hide the reason.
        let _ = fs::remove_file(&place.beside);
    }
    done
}

/// Whether [`write_file`] could write to `path` as things are. Leaves no trace; what is no regular file is
/// not tried.
///
/// # Errors
/// As [`write_file`].
pub fn check_file(path: &Path) -> Result<(), String> {
    let Some(place) = Place::find(path)? else { return Ok(()) };
    let made = fs::File::create(&place.beside).map_err(|error| failed(path, BESIDE, error));
    made.and_then(|_| {
        fs::remove_file(&place.beside).map_err(|error| failed(path, "a file in its directory", error))
    })
}

const BESIDE: &str = "the new file beside it";

/// A sentence for what went wrong with `path`.
fn failed(path: &Path, what: &str, error: std::io::Error) -> String {
    let cure = match error.kind() {
        std::io::ErrorKind::NotFound => "make the directory first, or write elsewhere",
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "write to a directory of yours"
        }
        std::io::ErrorKind::IsADirectory => "give the name of a file",
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "make room, or write elsewhere"
        }
        _ => "write elsewhere",
    };
    format!("cannot write {}: {what}: {error}; {cure}", path.display())
}

/// Where a regular file goes.
struct Place {
    /// The file itself, links followed.
    target: PathBuf,
    /// What is there now.
    there: Option<fs::Metadata>,
    /// The new file, until it is whole.
    beside: PathBuf,
}

impl Place {
    /// None for what is there and no regular file.
    fn find(path: &Path) -> Result<Option<Place>, String> {
        let there = match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(failed(path, "it is a directory", std::io::ErrorKind::IsADirectory.into()));
            }
            Ok(found) if !found.is_file() => return Ok(None),
            Ok(found) => Some(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(path, "it cannot be looked at", error)),
        };
        let target = match &there {
            Some(_) => {
                fs::canonicalize(path).map_err(|error| failed(path, "its name leads nowhere", error))?
            }
            None => path.to_path_buf(),
        };
        let beside = beside(&target).ok_or_else(|| {
            format!("cannot write {}: it names no file; give the name of a file", path.display())
        })?;
        Ok(Some(Place { target, there, beside }))
    }
}

/// A hidden name in the same directory, which no other process uses.
fn beside(target: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name()?);
    name.push(format!(".{}.part", std::process::id()));
    Some(target.with_file_name(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn names(of: &Path) -> Vec<String> {
        let mut all: Vec<String> =
            fs::read_dir(of).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        write_file(&path, b"a long first text").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write_file(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["run.json"]);
    }

    #[test]
    fn a_link_is_followed_and_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        write_file(&real, b"old").unwrap();
        symlink(&real, &link).unwrap();
        write_file(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
    }

    #[test]
    fn what_is_no_regular_file_is_not_replaced() {
        write_file(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_failure_names_the_path_the_reason_and_the_cure_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/run.json");
        let error = write_file(&path, b"x").unwrap_err();
        assert!(error.contains("no/run.json") && error.contains("make the directory first"), "{error}");
        let error = write_file(dir.path(), b"x").unwrap_err();
        assert!(error.contains("give the name of a file"), "{error}");
        let error = write_file(Path::new("/"), b"x").unwrap_err();
        assert!(error.contains("cannot write /"), "{error}");
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn what_could_not_be_written_is_known_before_and_a_check_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        check_file(&path).unwrap();
        assert!(names(dir.path()).is_empty());
        fs::write(&path, b"old").unwrap();
        check_file(&path).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), names(dir.path())),
            (b"old".to_vec(), vec!["run.json".to_owned()])
        );
        check_file(Path::new("/dev/null")).unwrap();
        for bad in [&dir.path().join("no/run.json"), dir.path(), Path::new("/proc/run.json")] {
            assert_eq!(check_file(bad).unwrap_err(), write_file(bad, b"x").unwrap_err());
        }
    }
}
