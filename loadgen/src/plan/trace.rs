//! Arrivals read from a file.
//!
//! One arrival a line: decimal seconds from the start, as `12.001250`. Empty lines and lines that begin with
//! `#` are skipped, as is space around a number. Times must not decrease.
//!
//! # Rules
//! 1. A file is someone else's: its size, its lines and its numbers have a maximum, and an error names file
//!    and line.
//! 2. Digits beyond the nanosecond are cut off; everything else is exact.
//!
//! Not here: who keeps which arrival (`plan`).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use crate::units::{self, DURATION_NS_MAX, NS_S};

/// What a trace may be at most.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Of the file.
    bytes: u64,
    arrivals: usize,
    /// Of one line, with its end.
    line_len: u64,
}

/// 100 million arrivals are 800 MB of memory and, at 20 bytes a line, 2 GB of file: an hour at 28k/s. A
/// number has 30 bytes at most; the rest of a line is for comments.
const BOUNDS: Bounds = Bounds { bytes: 2 << 30, arrivals: 100_000_000, line_len: 4096 };

/// Reads a trace: the times of its arrivals, ns from the start, not decreasing.
///
/// Takes 8 bytes of memory an arrival, twice that for a moment; at most 100 million arrivals and 2 GiB of
/// file.
///
/// # Errors
/// `file:line: what`, where a line is no number or before the one above it, or a bound is passed; `file:
/// what`, where it cannot be read or has no arrival.
pub fn read_trace(path: &Path) -> Result<Arc<[u64]>, String> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| format!("{name}: cannot open the trace: {error}"))?;
    read(BufReader::with_capacity(1 << 16, file), &name, BOUNDS)
}

fn read(mut from: impl BufRead, name: &str, bounds: Bounds) -> Result<Arc<[u64]>, String> {
    let mut times: Vec<u64> = Vec::new();
    let (mut line, mut bytes) = (Vec::new(), 0);
    for number in 1u64.. {
        let wrong = |what: String| format!("{name}:{number}: {what}");
        line.clear();
        let took = from.by_ref().take(bounds.line_len + 1).read_until(b'\n', &mut line);
        let len = took.map_err(|error| wrong(format!("cannot be read: {error}")))? as u64;
        if len == 0 {
            break;
        }
        if len > bounds.line_len {
            return Err(wrong(format!("a line of more than {} bytes is no arrival", bounds.line_len)));
        }
        bytes += len;
        if bytes > bounds.bytes {
            return Err(wrong(format!("a trace of more than {} bytes; cut it", units::count(bounds.bytes))));
        }
        let text = line.trim_ascii();
        if text.is_empty() || text[0] == b'#' {
            continue;
        }
        let at_ns = seconds(text).ok_or_else(|| {
            let found = units::quoted(&String::from_utf8_lossy(text));
            wrong(format!(
                "{found} is not a time; write decimal seconds from the start, for example 0.001250"
            ))
        })?;
        if let Some(&before_ns) = times.last().filter(|&&before_ns| at_ns < before_ns) {
            let (at, before) = (decimal(at_ns), decimal(before_ns));
            return Err(wrong(format!(
                "{at} is before {before}, the arrival above; sort the trace (sort -g)"
            )));
        }
        if times.len() == bounds.arrivals {
            return Err(wrong(format!(
                "more than {} arrivals; cut the trace",
                units::count(times.len() as u64)
            )));
        }
        times.push(at_ns);
    }
    if times.is_empty() {
        return Err(format!("{name}: the trace has no arrival; write one a line, for example 0.001250"));
    }
    Ok(times.into())
}

/// Decimal seconds to nanoseconds. `None` for what is no number, has a sign or an exponent, or is beyond ten
/// years.
fn seconds(text: &[u8]) -> Option<u64> {
    let point = text.iter().position(|&b| b == b'.').unwrap_or(text.len());
    let (whole, fraction) = (&text[..point], text.get(point + 1..).unwrap_or_default());
    let digits = whole.iter().chain(fraction);
    if whole.len() + fraction.len() == 0 || !digits.clone().all(u8::is_ascii_digit) {
        return None;
    }
    let mut ns = 0u64;
    for &digit in whole {
        ns = ns.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    ns = ns.checked_mul(NS_S)?;
    let mut unit = NS_S;
    for &digit in fraction.iter().take(9) {
        unit /= 10;
        ns += u64::from(digit - b'0') * unit;
    }
    (ns <= DURATION_NS_MAX).then_some(ns)
}

fn decimal(ns: u64) -> String {
    format!("{}.{:09}", ns / NS_S, ns % NS_S)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use super::*;

    const SMALL: Bounds = Bounds { bytes: 64, arrivals: 3, line_len: 16 };

    fn of(text: &str) -> Result<Vec<u64>, String> {
        read(text.as_bytes(), "t", BOUNDS).map(|times| times.to_vec())
    }

    #[test]
    fn a_trace_is_seconds_with_comments_and_empty_lines() {
        let text = "# made by hand\n0\n\n0.001250\r\n  1.5  \n1.5\n.75e\n";
        assert_eq!(
            of(text).unwrap_err(),
            "t:7: \".75e\" is not a time; write decimal seconds from the start, for example 0.001250"
        );
        let text = "# made by hand\n0\n\n0.001250\r\n  1.5  \n1.5\n2.\n3.0000000019";
        let wanted = [0, 1_250_000, 1_500_000_000, 1_500_000_000, 2_000_000_000, 3_000_000_001];
        assert_eq!(of(text).unwrap(), wanted);
    }

    #[test]
    fn a_time_before_the_one_above_it_is_named_with_its_line() {
        assert_eq!(
            of("1\n# x\n0.9\n").unwrap_err(),
            "t:3: 0.900000000 is before 1.000000000, the arrival above; sort the trace (sort -g)"
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [".", "-1", "+1", "1e3", "1,5", "0x1", "1 2", "nan", "1.2.3", "\u{1b}[2J"] {
            let error = of(text).unwrap_err();
            assert!(error.starts_with("t:1: \""), "{text}: {error}");
            assert!(!error.contains('\u{1b}'), "{error}");
        }
        let not_utf8 = read(&b"\xff\xfe1\n"[..], "t", BOUNDS).unwrap_err();
        assert!(not_utf8.contains("not a time"), "{not_utf8}");
    }

    #[test]
    fn ten_years_is_the_last_time_a_trace_may_name() {
        assert_eq!(of("315360000").unwrap(), [DURATION_NS_MAX]);
        assert!(of("315360000.000000001").is_err());
        assert!(of(&"9".repeat(60)).is_err());
    }

    #[test]
    fn a_trace_without_an_arrival_is_refused() {
        for text in ["", "\n\n", "# nothing\n"] {
            assert!(of(text).unwrap_err().starts_with("t: the trace has no arrival"), "{text:?}");
        }
    }

    #[test]
    fn a_trace_may_have_as_many_arrivals_as_its_bound_and_not_one_more() {
        assert_eq!(read(&b"1\n2\n3\n"[..], "t", SMALL).unwrap().len(), 3);
        assert_eq!(
            read(&b"1\n2\n3\n4\n"[..], "t", SMALL).unwrap_err(),
            "t:4: more than 3 arrivals; cut the trace"
        );
    }

    #[test]
    fn a_line_may_be_as_long_as_its_bound_and_not_one_byte_more() {
        let line = |len: usize| format!("#{}\n1\n", "x".repeat(len - 2));
        assert_eq!(read(line(16).as_bytes(), "t", SMALL).unwrap().len(), 1);
        assert!(read(line(17).as_bytes(), "t", SMALL).unwrap_err().contains("more than 16 bytes"));
    }

    #[test]
    fn a_file_may_be_as_long_as_its_bound_and_not_one_byte_more() {
        let text = |last: &str| format!("{}{last}", "#23456\n".repeat(9));
        assert_eq!(read(text("1").as_bytes(), "t", SMALL).unwrap().len(), 1);
        assert!(read(text("12").as_bytes(), "t", SMALL).unwrap_err().contains("more than 64 bytes; cut it"));
    }

    #[test]
    fn a_file_is_read_and_one_that_is_missing_is_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0.5\n1\n").unwrap();
        assert_eq!(read_trace(file.path()).unwrap().to_vec(), [500_000_000, 1_000_000_000]);
        let error = read_trace(Path::new("/nowhere/trace.txt")).unwrap_err();
        assert!(error.starts_with("/nowhere/trace.txt: cannot open the trace: "), "{error}");
        let error = read_trace(Path::new("/")).unwrap_err();
        assert!(error.starts_with("/:1: cannot be read: "), "{error}");
    }
}
