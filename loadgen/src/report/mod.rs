//! What is written down of a run: text for a person, JSON and CSV for machines, histograms for other tools,
//! and a page of HTML to pass on.
//!
//! # Rules
//! 1. Every output is a function of a [`Run`](crate::model::Run), the outcomes of its objective and a few
//!    options: it reads no clock and no environment. The same run gives the same bytes.
//! 2. What is only known to be no less says so in each of them: `>= X` for people, a list of names for
//!    machines.
//! 3. Words that came from outside (URL, names, header values, command) are made harmless for where they go:
//!    control characters for a terminal, markup for HTML, quotes for CSV and JSON.
//!
//! Not here: judging (`verdict`, `slo`), progress while a run goes on, when a file is written.

pub mod csv;
mod describe;
mod file;
mod format;
pub mod hdr;
pub mod html;
pub mod json;
#[doc(hidden)]
pub mod sample;
pub mod text;

pub use file::{check_file, write_file};

/// Percentiles that every report has. The largest value is always added.
pub const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99];

/// [`PERCENTILES`] and those of `extra` that are above 0 and below 100, in order, each once.
pub fn percentiles(extra: &[f64]) -> Vec<f64> {
    let wanted = extra.iter().copied().filter(|p| *p > 0.0 && *p < 100.0);
    let mut all: Vec<f64> = PERCENTILES.into_iter().chain(wanted).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_percentiles_are_sorted_in_and_impossible_ones_left_out() {
        let all = percentiles(&[99.5, 50.0, 0.0, 100.0, f64::NAN, -1.0, 10.0]);
        assert_eq!(all, [10.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99]);
    }
}
