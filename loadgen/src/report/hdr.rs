//! Whole distributions in the two formats of HdrHistogram that other tools read.
//!
//! `.hgrm` is the text of `AbstractHistogram.outputPercentileDistribution` (HdrHistogram for Java): one
//! distribution, read by its plotter and by many others. Values are microseconds, with three decimals: choose
//! that unit in the plotter. `.hlog` is the interval log, V2 with deflate: one entry a slice and tag, values
//! in nanoseconds.
//!
//! # Rules
//! 1. Neither format knows lower bounds. In a `.hgrm` they stand as values, and a comment says how many there
//!    are. In a `.hlog` those of the response time have a tag of their own, `response_at_least`, and are in
//!    no other.
//! 2. Our own comments in a `.hgrm` come after its footer: some readers skip a fixed number of lines at the
//!    top.
//!
//! Not here: when and where it is written.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::describe::{provenance_rows, shape, target, traffic};
use crate::model::Run;
use crate::record::{DIGITS, Latency};

/// Rows of a `.hgrm` for each halving of what is left to 100 %: what the Java tools use.
const TICKS_PER_HALF: u32 = 5;

/// Tags of the entries of a `.hlog`.
pub const TAGS: [&str; 4] = ["response", "service", "send_lag", "response_at_least"];

/// The percentile distribution of `latency` as a `.hgrm`, in microseconds.
pub fn hgrm(latency: &Latency) -> String {
    let mut all = latency.exact().clone();
    if let Some(bounds) = latency.bounds()
        && let Err(error) = all.add(bounds)
    {
        unreachable!("all histograms have the same bounds: {error}");
    }
    let us = |ns: f64| ns / 1e3;
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut seen = 0;
    for at in all.iter_quantiles(TICKS_PER_HALF) {
        seen += at.count_since_last_iteration();
        let (value, quantile) = (us(at.value_iterated_to() as f64), at.quantile_iterated_to());
        // Writing to a String cannot fail.
        let _ = if quantile < 1.0 {
            writeln!(text, "{value:12.3} {quantile:.12} {seen:10} {:14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text, "{value:12.3} {quantile:.12} {seen:10}")
        };
    }
    let (mean, deviation) = if all.is_empty() { (0.0, 0.0) } else { (us(all.mean()), us(all.stdev())) };
    let sub_buckets = 2 * 10u64.pow(DIGITS.into());
    let _ = write!(
        text,
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n\
         #[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n\
         #[Unit    = microseconds]\n",
        us(all.max() as f64),
        all.len(),
        all.buckets(),
        sub_buckets.next_power_of_two(),
    );
    if let Some(bounds) = latency.bounds().filter(|bounds| !bounds.is_empty()) {
        let from = us(bounds.min() as f64);
        let _ = writeln!(
            text,
            "#[Lower bounds = {}: requests that were not answered; each took at least its value, \
             from {from:.3} on]",
            bounds.len(),
        );
    }
    text
}

/// All slices as a `.hlog`: for each that has any, its response, service and send lag times, and the lower
/// bounds of its response times. The logged maximum is in milliseconds, as in the logs of the Java tools.
///
/// # Errors
/// A histogram that cannot be written: a sentence.
pub fn hlog(run: &Run) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot write the histogram log: {error}");
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("[Histogram log format version 1.3]");
    builder.add_comment(&format!("[{}; {}, {}]", target(&run.settings), traffic(&run.settings), shape(run)));
    for (name, value) in provenance_rows(&run.provenance) {
        builder.add_comment(&format!("[{name}: {value}]"));
    }
    if run.total.response.bounds_count() > 0 {
        let count = run.total.response.bounds_count();
        builder.add_comment(&format!(
            "[{count} requests were not answered: tag {}, values are lower bounds]",
            TAGS[3]
        ));
    }
    let start =
        UNIX_EPOCH.checked_add(Duration::from_millis(run.provenance.started_unix_ms)).unwrap_or(UNIX_EPOCH);
    builder.with_start_time(start).with_base_time(start).with_max_value_divisor(1e6);
    let mut log = builder.begin_log_with(&mut bytes, &mut serializer).map_err(|error| failed(&error))?;
    for slice in &run.slices {
        let tally = &slice.tally;
        let exact = [&tally.response, &tally.service, &tally.send_lag].map(Latency::exact);
        let of: [Option<&Histogram<u64>>; 4] =
            [Some(exact[0]), Some(exact[1]), Some(exact[2]), tally.response.bounds()];
        for (tag, histogram) in TAGS.into_iter().zip(of) {
            let Some(histogram) = histogram.filter(|histogram| !histogram.is_empty()) else { continue };
            let (start, len) = (Duration::from_nanos(slice.start_ns), Duration::from_nanos(slice.len_ns));
            log.write_histogram(histogram, start, len, Tag::new(tag)).map_err(|error| failed(&error))?;
        }
    }
    drop(log);
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record;
    use crate::report::sample;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn what_a_reader_of_the_log_sums_up_is_what_was_recorded() {
        let run = sample::first_slices(sample::failing(500.0), 12);
        let text = hlog(&run).unwrap();
        let mut sums: Vec<Histogram<u64>> = (0..4).map(|_| record::histogram()).collect();
        let mut wanted = sums.clone();
        let (mut start, mut entries) = (None, 0);
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            match entry.unwrap() {
                LogEntry::StartTime(at) => start = Some(at),
                LogEntry::BaseTime(at) => assert_eq!(Some(at), start),
                LogEntry::Interval(interval) => {
                    let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
                    let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                    let tag = interval.tag().unwrap();
                    let at = TAGS.iter().position(|known| *known == tag.as_str()).unwrap();
                    sums[at].add(&histogram).unwrap();
                    assert!((interval.max() - histogram.max() as f64 / 1e6).abs() < 1e-3);
                    assert_eq!(interval.duration().as_millis(), 200);
                    entries += 1;
                }
            }
        }
        assert_eq!(start.unwrap().as_millis(), u128::from(run.provenance.started_unix_ms));
        assert!(entries > run.slices.len());
        for slice in &run.slices {
            let tally = &slice.tally;
            wanted[0].add(tally.response.exact()).unwrap();
            wanted[1].add(tally.service.exact()).unwrap();
            wanted[2].add(tally.send_lag.exact()).unwrap();
            tally.response.bounds().into_iter().for_each(|bounds| wanted[3].add(bounds).unwrap());
        }
        assert_eq!(sums, wanted);
        assert!(wanted.iter().all(|histogram| !histogram.is_empty()));
    }

    #[test]
    fn a_command_of_several_lines_stays_in_its_comment() {
        let mut run = sample::first_slices(sample::calm(100.0), 3);
        run.provenance.command = "loadgen \n#[StartTime: 1 (seconds since epoch)]\r\n0,0,0,x".into();
        let text = hlog(&run).unwrap();
        let starts = IntervalLogIterator::new(text.as_bytes())
            .filter(|entry| matches!(entry, Ok(LogEntry::StartTime(_))))
            .count();
        assert_eq!(starts, 1);
        assert!(!text.contains('\r'));
    }

    #[test]
    fn a_distribution_has_four_columns_and_ends_at_the_largest() {
        let mut latency = Latency::default();
        (1..=1_000u64).for_each(|n| latency.record(n * 1_000));
        let text = hgrm(&latency);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        let rows: Vec<Vec<f64>> = lines[2..]
            .iter()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        let (last, before) = rows.split_last().unwrap();
        assert!(before.iter().all(|row| row.len() == 4) && last.len() == 3);
        assert!(
            rows.windows(2)
                .all(|two| two[0][0] <= two[1][0] && two[0][1] <= two[1][1] && two[0][2] <= two[1][2])
        );
        let median = before.iter().find(|row| (row[1] - 0.5).abs() < 1e-9).unwrap();
        assert!(
            (median[0] - 500.0).abs() < 1.0
                && (median[2] - 500.0).abs() < 2.0
                && (median[3] - 2.0).abs() < 1e-9
        );
        assert!((last[1] - 1.0).abs() < 1e-9 && (last[2] - 1_000.0).abs() < 1e-9);
        assert!(text.contains("Total count    =         1000]"), "{text}");
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
        assert!(!text.contains("Lower bounds"));
    }

    #[test]
    fn bounds_are_in_the_distribution_and_a_comment_counts_them() {
        let mut latency = Latency::default();
        latency.record(1_000);
        latency.record_at_least_n(1_000_000_000, 3);
        let text = hgrm(&latency);
        assert!(text.contains("Total count    =            4]"), "{text}");
        assert!(text.contains("#[Lower bounds = 3: "), "{text}");
    }

    #[test]
    fn an_empty_distribution_is_written_without_a_row_that_lies() {
        let text = hgrm(&Latency::default());
        assert!(text.contains("#[Mean    =        0.000"), "{text}");
        assert!(text.contains("Total count    =            0]"), "{text}");
    }
}
