//! What happened, in order: a hash of everything, and the last entries for people.
//!
//! # Rules
//! 1. Nothing that differs between two runs of one seed goes in: no addresses of memory, no real time,
//!    nothing of other threads.

use std::collections::VecDeque;
use std::fmt::Write;

/// One event: when, what, and two numbers whose meaning goes with `what`.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at_ns: u64,
    what: &'static str,
    a: u64,
    b: i64,
}

#[derive(Debug)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    entries_max: usize,
    count: u64,
    hash: u64,
}

/// FNV-1a, 64 bits (draft-eastlake-fnv, section 2 and 5).
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn mix(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

impl Log {
    pub(crate) fn new(entries_max: usize) -> Log {
        Log { entries: VecDeque::new(), entries_max, count: 0, hash: FNV_BASIS }
    }

    pub(crate) fn note(&mut self, at_ns: u64, what: &'static str, a: u64, b: i64) {
        let mut hash = mix(self.hash, &at_ns.to_le_bytes());
        hash = mix(hash, what.as_bytes());
        hash = mix(hash, &a.to_le_bytes());
        self.hash = mix(hash, &b.to_le_bytes());
        self.count += 1;
        if self.entries_max == 0 {
            return;
        }
        if self.entries.len() == self.entries_max {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { at_ns, what, a, b });
    }

    /// Bytes of a stream or file: they count for the trace and are not kept.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hash = mix(self.hash, bytes);
    }

    pub(crate) fn trace(&self) -> u64 {
        self.hash
    }

    /// The last `max` entries, one a line, oldest first.
    pub(crate) fn text(&self, max: usize) -> String {
        let skipped = self.entries.len().saturating_sub(max);
        let left_out = self.count - (self.entries.len() - skipped) as u64;
        let mut out = String::new();
        if left_out > 0 {
            let _ = writeln!(out, "... {left_out} earlier events");
        }
        for entry in self.entries.iter().skip(skipped) {
            let (s, ns) = (entry.at_ns / 1_000_000_000, entry.at_ns % 1_000_000_000);
            let _ = writeln!(out, "{s:>4}.{ns:09} {:<16} {:#x} {}", entry.what, entry.a, entry.b);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_counts_what_the_log_no_longer_keeps() {
        let (mut a, mut b) = (Log::new(1), Log::new(1));
        a.note(0, "first", 1, 0);
        b.note(0, "first", 2, 0);
        for log in [&mut a, &mut b] {
            log.note(1, "second", 0, 0);
        }
        assert_eq!(a.text(9), b.text(9));
        assert!(a.text(9).contains("1 earlier"), "{}", a.text(9));
        assert_ne!(a.trace(), b.trace());
    }
}
