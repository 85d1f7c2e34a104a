//! The time series as CSV (RFC 4180): one row a slice.
//!
//! # Rules
//! 1. Latencies are microseconds with three decimals, which is to the nanosecond; empty where there were
//!    none.
//! 2. The last column names the columns of its row that are only lower bounds, with spaces between.
//! 3. No field holds a comma, a quote or a line break, so that none is quoted.
//!
//! Not here: totals (`json`), whole distributions (`hdr`).

use std::fmt::Write as _;

use crate::model::{Run, per_second};
use crate::record::Value;

/// The header row, and one row a slice. Lines end in CR LF.
pub fn render(run: &Run) -> String {
    let mut text = String::from(
        "start_s,len_s,intended,sent,completed,rate,errors,bytes_in,p50_us,p90_us,p99_us,max_us,service_p50_us,\
         service_p99_us,send_lag_p99_us,lower_bounds\r\n",
    );
    for slice in &run.slices {
        let (tally, counts) = (&slice.tally, &slice.tally.counts);
        let seconds = |ns: u64| ns as f64 / 1e9;
        let mut row = format!(
            "{:.6},{:.6},{},{},{},{:.3},{},{}",
            seconds(slice.start_ns),
            seconds(slice.len_ns),
            counts.intended,
            counts.sent,
            counts.completed,
            per_second(counts.completed, slice.len_ns),
            tally.errors.total(),
            counts.bytes_in,
        );
        let mut bounds: Vec<&str> = Vec::new();
        let latencies: [(&str, Option<Value>); 7] = [
            ("p50_us", tally.response.percentile(50.0)),
            ("p90_us", tally.response.percentile(90.0)),
            ("p99_us", tally.response.percentile(99.0)),
            ("max_us", tally.response.max()),
            ("service_p50_us", tally.service.percentile(50.0)),
            ("service_p99_us", tally.service.percentile(99.0)),
            ("send_lag_p99_us", tally.send_lag.percentile(99.0)),
        ];
        for (name, value) in latencies {
            row.push(',');
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = write!(row, "{}.{:03}", value.ns() / 1_000, value.ns() % 1_000);
                if value.is_bound() {
                    bounds.push(name);
                }
            }
        }
        let _ = write!(text, "{row},{}\r\n", bounds.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Slice;
    use crate::report::sample;

    #[test]
    fn each_slice_is_a_row_of_as_many_fields_as_the_header() {
        let run = sample::first_slices(sample::failing(500.0), 12);
        let text = render(&run);
        let rows: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(rows.len(), run.slices.len() + 1);
        assert!(rows.iter().all(|row| row.split(',').count() == 16 && !row.contains(['\r', '\n', '"'])));
        let completed: u64 =
            rows[1..].iter().map(|row| row.split(',').nth(4).unwrap().parse::<u64>().unwrap()).sum();
        assert_eq!(completed, run.slices.iter().map(|slice| slice.tally.counts.completed).sum::<u64>());
    }

    #[test]
    fn a_slice_without_answers_has_empty_latencies_and_bounds_are_named() {
        let mut run = sample::calm(500.0);
        run.slices = vec![
            Slice::default(),
            Slice { start_ns: 1_500_000_000, len_ns: 500_000_000, ..Slice::default() },
        ];
        run.slices[1].tally.response.record(1_000);
        run.slices[1].tally.response.record_at_least(2_000_000_000);
        let text = render(&run);
        let rows: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(rows[1], "0.000000,0.000000,0,0,0,0.000,0,0,,,,,,,,");
        assert!(rows[2].starts_with("1.500000,0.500000,0,0,0,0.000,0,0,1.007,"), "{}", rows[2]);
        assert!(rows[2].ends_with(",p90_us p99_us max_us"), "{}", rows[2]);
    }
}
