//! What is counted: a [`Case`] each, with fixed input, on one thread.
//!
//! A case is a function that does its operation so many times. The runner takes the difference of two numbers of
//! times, so what it sets up before its loop costs nothing; the loop itself does (`loop/empty` says how much). To
//! add one: write the function, add its line to the list of its file, run `icount --update --case NAME`.
//!
//! # Rules
//! 1. Inputs and results go through `black_box`: nothing may be computed ahead or left out.
//! 2. A function checks what it did after the loop, so that a case that does nothing fails.
//! 3. Nothing random, no thread, no system call in the loop: two runs differ by less than 0.5 %.
//! 4. After a round everything is as before it: more rounds take more of the same, and no more memory.
//!
//! Not here: how it is counted (`valgrind`), what it should be (`bench/icount.toml`).

mod h1;
mod http;
mod lanes;
mod pools;
mod session;
mod shard;

use std::hint::black_box;

/// One thing that is counted.
#[derive(Clone, Copy)]
pub(super) struct Case {
    /// Group and name: `h1/parse-get`.
    pub(super) name: &'static str,
    /// What one operation is, for people.
    pub(super) about: &'static str,
    /// How often it is done in the longer run, [`Case::few`] more than in the shorter one.
    pub(super) ops: u64,
    /// Does it so often; a multiple of [`ROUND`].
    pub(super) run: fn(u64),
}

/// Operations that some cases do together. All counts are multiples of it.
pub(super) const ROUND: u64 = 64;

impl Case {
    /// How often it is done in the shorter run: enough for every table and free list to have its final size.
    pub(super) fn few(&self) -> u64 {
        (self.ops / 4).next_multiple_of(ROUND)
    }

    /// How often it is done in the longer run.
    pub(super) fn many(&self) -> u64 {
        self.few() + self.ops.next_multiple_of(ROUND)
    }
}

/// For what costs below about 100 instructions: noise of a few hundred at the start is then below 0.1 %.
const OFTEN: u64 = 20_000;

/// For what costs some hundreds or thousands.
const SELDOM: u64 = 6_400;

/// The loop that the others have as well.
const EMPTY: Case = Case {
    name: "loop/empty",
    about: "what the loop of a case costs by itself",
    ops: OFTEN,
    run: |ops| {
        for n in 0..ops {
            black_box(n);
        }
    },
};

/// Every case, in the order of the table and of the baseline.
pub(super) fn all() -> Vec<Case> {
    let mut cases = vec![EMPTY];
    for group in [h1::CASES, http::CASES, lanes::CASES, shard::CASES, session::CASES, pools::CASES] {
        cases.extend_from_slice(group);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs_and_finds_what_it_did() {
        for case in all() {
            (case.run)(ROUND);
            (case.run)(3 * ROUND);
        }
    }

    #[test]
    fn names_are_unique_and_fit_the_file_and_the_table() {
        let mut names: Vec<&str> = all().iter().map(|case| case.name).collect();
        for name in &names {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '/';
            assert!(name.chars().all(plain) && name.len() <= 28, "{name}");
            assert_eq!(name.matches('/').count(), 1, "{name} is no group/name");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn the_two_counts_of_a_case_are_whole_rounds_and_differ() {
        for case in all() {
            assert!(case.few() >= ROUND && case.few().is_multiple_of(ROUND), "{}", case.name);
            assert!(case.many() > case.few() && case.many().is_multiple_of(ROUND), "{}", case.name);
        }
    }
}
