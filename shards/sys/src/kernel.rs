//! What the kernel says about itself and about us: release, sysctls, CPU time, memory.
//!
//! Files are read below a root directory, `/` outside of tests, so that tests can show another machine. These
//! are for the start, the control thread and reports: each opens a file, except the clocks.
//!
//! Not here: what follows from the answers (`boot`, `doctor`), the wall clock (`exec` reads time).

use std::ffi::CStr;
use std::io;
use std::path::Path;

use crate::page_len;

/// Major and minor release of the running kernel, like `(6, 18)`; `(0, 0)` if it names itself otherwise.
pub fn release() -> (u32, u32) {
    // SAFETY: rule 4.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: rule 1. It fails only on a bad pointer; `name` would stay empty.
    unsafe { libc::uname(&raw mut name) };
    // SAFETY: the kernel ends each field with NUL, and the zeroes of an unwritten one do as well.
    let text = unsafe { CStr::from_ptr(name.release.as_ptr()) };
    parse_release(&text.to_string_lossy()).unwrap_or((0, 0))
}

/// The two leading numbers of text like `6.18.44-fc` or `6.1`.
fn parse_release(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The value of a sysctl like `net.core.somaxconn`, without the line end.
///
/// # Errors
/// `NotFound` if this kernel has none of that name, and what else reading the file answers.
pub fn sysctl(root: &Path, key: &str) -> io::Result<String> {
    read_trimmed(&root.join("proc/sys").join(key.replace('.', "/")))
}

/// `kernel.io_uring_disabled`: 0 for everybody may, 1 for the group only, 2 for nobody. None before Linux 6.6.
pub fn io_uring_disabled(root: &Path) -> Option<u8> {
    sysctl(root, "kernel.io_uring_disabled").ok()?.parse().ok()
}

/// `kernel.io_uring_group`: who may at level 1; -1 for nobody but `CAP_SYS_ADMIN`. None before Linux 6.6.
pub fn io_uring_group(root: &Path) -> Option<i32> {
    sysctl(root, "kernel.io_uring_group").ok()?.parse().ok()
}

/// Seccomp mode of the process: 0 none, 1 strict, 2 filter. None on a kernel built without.
pub fn seccomp_mode(root: &Path) -> Option<u8> {
    status_field(root, "Seccomp").ok()?.parse().ok()
}

/// CPU time the calling thread has used, nanoseconds (`CLOCK_THREAD_CPUTIME_ID`). A system call.
pub fn thread_cpu_ns() -> u64 {
    cpu_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time all threads of the process have used, nanoseconds (`CLOCK_PROCESS_CPUTIME_ID`). A system call.
pub fn process_cpu_ns() -> u64 {
    cpu_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Resident memory of the process, bytes: field 2 of `/proc/self/statm`. May lag by some pages a thread.
///
/// # Errors
/// What reading the file answers; `InvalidData` if it has no such field.
pub fn rss_bytes() -> io::Result<u64> {
    rss_bytes_below(Path::new("/"))
}

fn rss_bytes_below(root: &Path) -> io::Result<u64> {
    let text = read_trimmed(&root.join("proc/self/statm"))?;
    let pages: Option<u64> = text.split(' ').nth(1).and_then(|field| field.parse().ok());
    match pages {
        Some(pages) => Ok(pages * page_len() as u64),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "statm has no second field")),
    }
}

/// A line of `proc/self/status` by its name, without name and blanks.
///
/// # Errors
/// What reading the file answers; `InvalidData` if it has no such line.
pub fn status_field(root: &Path, name: &str) -> io::Result<String> {
    let text = std::fs::read_to_string(root.join("proc/self/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    match value {
        Some(value) => Ok(value.trim().to_owned()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("status has no line {name}"))),
    }
}

/// A file of one line, without its end.
pub(crate) fn read_trimmed(path: &Path) -> io::Result<String> {
    let mut text = std::fs::read_to_string(path)?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

fn cpu_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: rule 1. It fails only on a bad pointer or clock; `time` would stay zero.
    let answer = unsafe { libc::clock_gettime(clock, &raw mut time) };
    debug_assert_eq!(answer, 0);
    // Neither field is negative: CPU time counts up from zero.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Writes a file below `root`, with the directories it needs.
    pub(crate) fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A root directory with one file.
    fn fake(path: &str, text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), path, text);
        root
    }

    pub(crate) fn fake_status(text: &str) -> tempfile::TempDir {
        fake("proc/self/status", text)
    }

    #[test]
    fn releases_are_read_up_to_the_minor_number() {
        for (text, expected) in [
            ("6.18.44-fc-v657", Some((6, 18))),
            ("6.1.0-13-amd64", Some((6, 1))),
            ("5.15-rc1", Some((5, 15))),
            ("6.6+", Some((6, 6))),
            ("6", None),
            ("six.one", None),
            ("6.", None),
            ("", None),
        ] {
            assert_eq!(parse_release(text), expected, "{text}");
        }
    }

    #[test]
    fn the_running_kernel_is_the_one_proc_names() {
        let text = sysctl(Path::new("/"), "kernel.osrelease").unwrap();
        assert_eq!(Some(release()), parse_release(&text));
        assert!(release() >= (5, 1), "{text}");
    }

    #[test]
    fn a_missing_or_odd_io_uring_sysctl_is_none() {
        let root = fake("proc/sys/kernel/io_uring_disabled", "2\n");
        assert_eq!(io_uring_disabled(root.path()), Some(2));
        assert_eq!(io_uring_group(root.path()), None);
        let root = fake("proc/sys/kernel/io_uring_group", "-1\n");
        assert_eq!(io_uring_disabled(root.path()), None);
        assert_eq!(io_uring_group(root.path()), Some(-1));
        let root = fake("proc/sys/kernel/io_uring_disabled", "yes\n");
        assert_eq!(io_uring_disabled(root.path()), None);
    }

    #[test]
    fn a_status_line_is_found_by_its_whole_name() {
        let root = fake_status("Seccomp_filters:\t7\nSeccomp:\t2\nVmLck:\t       8 kB\n");
        assert_eq!(seccomp_mode(root.path()), Some(2));
        assert_eq!(status_field(root.path(), "VmLck").unwrap(), "8 kB");
        assert_eq!(seccomp_mode(fake_status("Name:\tx\n").path()), None);
        let error = status_field(root.path(), "Vm").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn work_takes_cpu_time_of_its_own_thread_and_sleep_takes_none() {
        let before = thread_cpu_ns();
        let mut sum = 0_u64;
        while thread_cpu_ns() - before < 3_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
        let other = std::thread::spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            thread_cpu_ns()
        });
        assert!(other.join().unwrap() < 20_000_000);
        assert!(process_cpu_ns() >= 3_000_000);
    }

    #[test]
    fn resident_memory_is_the_second_field_in_pages() {
        let root = fake("proc/self/statm", "100 25 3 4 5 6 7\n");
        assert_eq!(rss_bytes_below(root.path()).unwrap(), 25 * page_len() as u64);
        let short = fake("proc/self/statm", "100\n");
        assert_eq!(rss_bytes_below(short.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);

        let before = rss_bytes().unwrap();
        let map = crate::Mapping::anonymous(32 << 20, true).unwrap();
        // Counters of a thread are folded in every 64 pages or so.
        assert!(rss_bytes().unwrap() > before + (24 << 20));
        drop(map);
    }
}
