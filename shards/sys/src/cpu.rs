//! CPUs: which ones we may use, staying on one, and lists of them.
//!
//! Not here: what CPUs share (`topology`), which CPU becomes which shard (`placement` of the product).

use std::fmt::{self, Write as _};
use std::io;

/// CPU numbers are below this: `NR_CPUS` of the largest x86-64 kernels (`CONFIG_MAXSMP`).
pub const CPUS_MAX: usize = 8192;

/// Bytes of a thread name, the kernel's 16 less the NUL (`TASK_COMM_LEN`).
const THREAD_NAME_LEN_MAX: usize = 15;

const WORD_BITS: usize = u64::BITS as usize;

/// One bit for each possible CPU, in the layout of `sched_getaffinity(2)`.
type CpuMask = [u64; CPUS_MAX / WORD_BITS];

/// The CPUs the calling thread may run on, rising: what affinity and cpuset leave. New threads inherit it, so
/// ask before the first pin.
///
/// # Errors
/// `EINVAL` on a kernel built for more than [`CPUS_MAX`] CPUs.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut mask: CpuMask = [0; CPUS_MAX / WORD_BITS];
    // SAFETY: rule 1: `size_of` the mask, as an array of long words, which is what a cpu_set_t is.
    let answer = unsafe { libc::sched_getaffinity(0, size_of::<CpuMask>(), mask.as_mut_ptr().cast()) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((0..CPUS_MAX).filter(|cpu| mask[cpu / WORD_BITS] >> (cpu % WORD_BITS) & 1 == 1).collect())
}

/// Keeps the calling thread on `cpu` from now on.
///
/// # Errors
/// As [`keep_current_thread_on`].
pub fn pin_current_thread(cpu: usize) -> io::Result<()> {
    keep_current_thread_on(&[cpu])
}

/// Keeps the calling thread on `cpus` from now on, and those it starts. CPUs that are offline or that the cpuset
/// forbids are left out by the kernel.
///
/// # Errors
/// `EINVAL` if none is left, or one is not below [`CPUS_MAX`].
pub fn keep_current_thread_on(cpus: &[usize]) -> io::Result<()> {
    let mut mask: CpuMask = [0; CPUS_MAX / WORD_BITS];
    for &cpu in cpus {
        let Some(word) = mask.get_mut(cpu / WORD_BITS) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        *word |= 1 << (cpu % WORD_BITS);
    }
    // SAFETY: rule 1: `size_of` the mask, as an array of long words, which is what a cpu_set_t is.
    let answer = unsafe { libc::sched_setaffinity(0, size_of::<CpuMask>(), mask.as_ptr().cast()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The CPU this runs on right now; may be outdated on return unless the thread is pinned.
///
/// # Errors
/// `ENOSYS` on a kernel without `getcpu(2)`.
pub fn current_cpu() -> io::Result<usize> {
    // SAFETY: sched_getcpu takes no argument.
    usize::try_from(unsafe { libc::sched_getcpu() }).map_err(|_| io::Error::last_os_error())
}

/// How late the kernel may wake the calling thread from a timed sleep, to wake several together: 50,000 ns where
/// nobody asked for less. At least 1; 0 brings the default back (prctl(2), `PR_SET_TIMERSLACK`).
pub fn set_timer_slack(ns: u64) {
    // SAFETY: rule 1: a number, no pointer. It cannot fail for the calling thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, ns) };
}

/// Names the calling thread as `top -H` and `perf` show it. What exceeds 15 bytes, or follows a NUL, is cut.
pub fn set_thread_name(name: &str) {
    let name = name.split('\0').next().unwrap_or_default();
    let mut text = [0_u8; THREAD_NAME_LEN_MAX + 1];
    let len = name.floor_char_boundary(THREAD_NAME_LEN_MAX);
    text[..len].copy_from_slice(&name.as_bytes()[..len]);
    // SAFETY: rule 1: 16 bytes that end with NUL (prctl(2), PR_SET_NAME). It fails only on a bad pointer.
    unsafe { libc::prctl(libc::PR_SET_NAME, text.as_ptr()) };
}

/// Why a CPU list was not understood. The user must act: the text came from a flag or a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CpuListError {
    /// No CPU named.
    Empty,
    /// A part that is neither `N` nor `N-M`.
    NotANumber {
        /// As it was written.
        part: String,
    },
    /// A range that ends before it starts.
    Backwards {
        /// As it was written first.
        first: usize,
        /// As it was written last.
        last: usize,
    },
    /// Named twice.
    Duplicate {
        /// This one.
        cpu: usize,
    },
    /// Not below [`CPUS_MAX`].
    TooLarge {
        /// As it was written.
        cpu: usize,
    },
}

impl fmt::Display for CpuListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpuListError::Empty => write!(f, "the CPU list is empty; write it like 0,2-5"),
            CpuListError::NotANumber { part } => {
                write!(f, "\"{part}\" is not a CPU number or a range of them like 2-5")
            }
            CpuListError::Backwards { first, last } => write!(f, "the CPU range {first}-{last} is backwards"),
            CpuListError::Duplicate { cpu } => write!(f, "CPU {cpu} is named twice"),
            CpuListError::TooLarge { cpu } => write!(f, "CPU {cpu} is not below {CPUS_MAX}"),
        }
    }
}

impl std::error::Error for CpuListError {}

/// Reads a list like `0,2-5` as the kernel writes it; spaces around numbers are allowed. Rising.
///
/// # Errors
/// [`CpuListError`] with the first thing that is wrong.
pub fn parse_cpu_list(text: &str) -> Result<Vec<usize>, CpuListError> {
    if text.trim().is_empty() {
        return Err(CpuListError::Empty);
    }
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (parse_cpu(first, part)?, parse_cpu(last, part)?),
            None => (parse_cpu(part, part)?, parse_cpu(part, part)?),
        };
        if last < first {
            return Err(CpuListError::Backwards { first, last });
        }
        if cpus.len() + (last - first) >= CPUS_MAX {
            // More names than there are CPUs: some come twice. Stop before the list outgrows the machine.
            return Err(CpuListError::Duplicate { cpu: first });
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    match cpus.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(CpuListError::Duplicate { cpu: pair[0] }),
        None => Ok(cpus),
    }
}

/// Writes CPUs as the shortest list that [`parse_cpu_list`] reads back. `cpus` is rising.
pub fn format_cpu_list(cpus: &[usize]) -> String {
    let mut text = String::new();
    for run in cpus.chunk_by(|left, right| left + 1 == *right) {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = match run {
            [one] => write!(text, "{comma}{one}"),
            [first, .., last] => write!(text, "{comma}{first}-{last}"),
            [] => Ok(()),
        };
    }
    text
}

/// One number of `part`. Digits only: `usize::from_str` would take a sign.
fn parse_cpu(text: &str, part: &str) -> Result<usize, CpuListError> {
    let text = text.trim_matches([' ', '\t']);
    let not_a_number = || CpuListError::NotANumber { part: part.to_owned() };
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_a_number());
    }
    let cpu = text.parse().map_err(|_| not_a_number())?;
    if cpu < CPUS_MAX { Ok(cpu) } else { Err(CpuListError::TooLarge { cpu }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pinned_thread_is_where_it_was_put_and_its_mask_shows_it() {
        for cpu in allowed_cpus().unwrap() {
            std::thread::spawn(move || {
                pin_current_thread(cpu).unwrap();
                assert_eq!(current_cpu().unwrap(), cpu);
                assert_eq!(allowed_cpus().unwrap(), [cpu]);
            })
            .join()
            .unwrap();
        }
    }

    #[test]
    fn the_slack_of_timers_is_what_was_set() {
        // SAFETY: rule 1: no pointer. It answers with the slack of the calling thread.
        let read = || unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
        std::thread::spawn(move || {
            set_timer_slack(7);
            assert_eq!(read(), 7);
            set_timer_slack(0);
            assert_ne!(read(), 7);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_kept_on_several_cpus_and_those_it_starts_have_all_of_them() {
        let allowed = allowed_cpus().unwrap();
        std::thread::spawn(move || {
            for cpus in [&allowed[..1], &allowed[..]] {
                keep_current_thread_on(cpus).unwrap();
                assert_eq!(std::thread::spawn(|| allowed_cpus().unwrap()).join().unwrap(), cpus);
            }
            let none = keep_current_thread_on(&[]).unwrap_err();
            assert_eq!(none.raw_os_error(), Some(libc::EINVAL));
            assert_eq!(allowed_cpus().unwrap(), allowed, "as it was");
            // One that is not there is left out.
            keep_current_thread_on(&[allowed[0], CPUS_MAX - 1]).unwrap();
            assert_eq!(allowed_cpus().unwrap(), allowed[..1]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn pinning_to_a_cpu_that_is_not_there_is_an_error() {
        for cpu in [CPUS_MAX - 1, CPUS_MAX, usize::MAX] {
            assert_eq!(pin_current_thread(cpu).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{cpu}");
        }
    }

    #[test]
    fn a_thread_name_is_cut_at_15_bytes_and_between_characters() {
        let name_after = |name: &'static str| {
            std::thread::spawn(move || {
                set_thread_name(name);
                std::fs::read_to_string("/proc/thread-self/comm").unwrap()
            })
            .join()
            .unwrap()
        };
        assert_eq!(name_after("corelane-0"), "corelane-0\n");
        assert_eq!(name_after("corelane-control"), "corelane-contro\n");
        assert_eq!(name_after("fourteen bytesé"), "fourteen bytes\n");
        assert_eq!(name_after("a\0b"), "a\n");
    }

    #[test]
    fn lists_are_read_sorted_and_written_short() {
        for (text, cpus, short) in [
            ("0", &[0][..], "0"),
            ("0,2-5", &[0, 2, 3, 4, 5], "0,2-5"),
            ("5, 1 - 2 ,0", &[0, 1, 2, 5], "0-2,5"),
            ("3-3", &[3], "3"),
            ("8191", &[8191], "8191"),
        ] {
            assert_eq!(parse_cpu_list(text).unwrap(), cpus, "{text}");
            assert_eq!(format_cpu_list(cpus), short, "{text}");
        }
        assert_eq!(parse_cpu_list("0-8191").unwrap().len(), CPUS_MAX);
        assert_eq!(format_cpu_list(&[]), "");
    }

    #[test]
    fn a_bad_list_says_what_is_wrong() {
        use CpuListError::*;
        let not = |part: &str| NotANumber { part: part.to_owned() };
        for (text, error) in [
            ("", Empty),
            (" ", Empty),
            (",", not("")),
            ("1,", not("")),
            ("a", not("a")),
            ("-1", not("-1")),
            ("1-", not("1-")),
            ("+1", not("+1")),
            ("1-2-3", not("1-2-3")),
            ("99999999999999999999999", not("99999999999999999999999")),
            ("5-2", Backwards { first: 5, last: 2 }),
            ("1,2,1", Duplicate { cpu: 1 }),
            ("0-3,3-5", Duplicate { cpu: 3 }),
            ("0-8191,0-8191", Duplicate { cpu: 0 }),
            ("8192", TooLarge { cpu: 8192 }),
            ("0-4000000000", TooLarge { cpu: 4_000_000_000 }),
        ] {
            assert_eq!(parse_cpu_list(text), Err(error), "{text}");
        }
    }

    #[test]
    fn every_list_that_is_written_reads_back() {
        for mask in 0..1_u32 << 10 {
            let cpus: Vec<usize> = (0..10).filter(|cpu| mask >> cpu & 1 == 1).collect();
            if !cpus.is_empty() {
                assert_eq!(parse_cpu_list(&format_cpu_list(&cpus)).unwrap(), cpus);
            }
        }
    }
}
