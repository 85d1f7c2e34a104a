//! The drawn histogram: response times in rows whose edges are round numbers at equal distances on a log
//! scale.
//!
//! # Rules
//! 1. Every request is in one row. The first row holds what is faster than its own edge, too.
//! 2. What was never answered is no row of its value: it is a last one, of all that is at least so much.
//! 3. A row that holds anything shows something.
//!
//! Not here: the columns beside it (`text`).

use crate::record::Latency;

/// Round numbers of one decade, from many to few (the preferred numbers of IEC 60063, and 1-2-5, 1-3).
const SERIES: [&[f64]; 6] = [
    &[
        1.0, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2.0, 2.2, 2.4, 2.7, 3.0, 3.3, 3.6, 3.9, 4.3, 4.7, 5.1, 5.6, 6.2,
        6.8, 7.5, 8.2, 9.1,
    ],
    &[1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2],
    &[1.0, 1.5, 2.2, 3.3, 4.7, 6.8],
    &[1.0, 2.0, 5.0],
    &[1.0, 3.0],
    &[1.0],
];

#[derive(Debug, Eq, PartialEq)]
pub(super) struct Row {
    /// Its upper edge, ns; its lower one is that of the row before.
    pub(super) up_to_ns: u64,
    pub(super) count: u64,
}

#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Bars {
    pub(super) rows: Vec<Row>,
    /// The smallest lower bound, ns, and how many there are.
    pub(super) at_least: Option<(u64, u64)>,
}

/// At most `rows_max` rows (3 or more) and the one of lower bounds.
pub(super) fn bars(of: &Latency, rows_max: usize) -> Bars {
    let exact = of.exact();
    let at_least = of.bounds().filter(|bounds| !bounds.is_empty()).map(|bounds| (bounds.min(), bounds.len()));
    if exact.is_empty() {
        return Bars { rows: Vec::new(), at_least };
    }
    let low = exact.value_at_quantile(0.001).max(1);
    let edges = edges(low, exact.max(), rows_max);
    let mut rows: Vec<Row> = edges.into_iter().map(|up_to_ns| Row { up_to_ns, count: 0 }).collect();
    for at in exact.iter_recorded() {
        let row = rows.partition_point(|row| row.up_to_ns < at.value_iterated_to()).min(rows.len() - 1);
        rows[row].count += at.count_since_last_iteration();
    }
    Bars { rows, at_least }
}

/// Round upper edges, the finest that are no more than `rows_max`, from the first that is `low` or more to
/// the first that is `high` or more.
fn edges(low: u64, high: u64, rows_max: usize) -> Vec<u64> {
    let rows_max = rows_max.max(3);
    let mut found = Vec::new();
    for (series, decades) in SERIES.iter().map(|series| (*series, 1)).chain((2..).map(|n| (SERIES[5], n))) {
        found.clear();
        'series: for decade in (0..19).step_by(decades) {
            for number in series {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most 9.1e18
                let edge = (number * 10f64.powi(decade)).round() as u64;
                if edge < low || found.last() == Some(&edge) {
                    continue;
                }
                found.push(edge);
                if edge >= high {
                    break 'series;
                }
            }
        }
        if found.len() <= rows_max {
            break;
        }
    }
    found
}

const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// A bar of `count` where `most` fills `width` columns.
pub(super) fn bar(count: u64, most: u64, width: usize, unicode: bool) -> String {
    if count == 0 || most == 0 || width == 0 {
        return String::new();
    }
    let steps = if unicode { 8 } else { 1 };
    let length = count as f64 / most as f64 * (width * steps) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // no wider than a terminal
    let length = (length.round() as usize).min(width * steps);
    match (unicode, length) {
        (true, 0) => EIGHTHS[0].into(),
        (true, _) => {
            let mut text = "█".repeat(length / 8);
            if !length.is_multiple_of(8) {
                text.push(EIGHTHS[length % 8 - 1]);
            }
            text
        }
        (false, 0) => ".".into(),
        (false, _) => "#".repeat(length),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn edges_are_round_cover_the_largest_and_are_as_fine_as_fits() {
        assert_eq!(edges(20_000, 190_000, 9), [22_000, 33_000, 47_000, 68_000, 100_000, 150_000, 220_000]);
        assert_eq!(edges(20_000, 190_000, 4), [20_000, 50_000, 100_000, 200_000]);
        assert_eq!(edges(20_000, 190_000, 3), [30_000, 100_000, 300_000]);
        assert_eq!(edges(100, 100, 3), [100]);
    }

    #[test]
    fn an_hour_beside_a_nanosecond_fits_three_rows() {
        for rows_max in 3..30 {
            let edges = edges(1, 3_600_000_000_000, rows_max);
            assert!(edges.len() <= rows_max && !edges.is_empty(), "{rows_max}: {edges:?}");
            assert!(*edges.last().unwrap() >= 3_600_000_000_000, "{rows_max}: {edges:?}");
        }
    }

    #[test]
    fn every_request_is_in_one_row_and_bounds_in_their_own() {
        let mut latency = Latency::default();
        (1..=1_000).for_each(|n| latency.record(n * n * 100));
        latency.record_at_least_n(5_000_000, 7);
        latency.record_at_least(900_000_000);
        let bars = bars(&latency, 8);
        assert!(bars.rows.len() <= 8);
        assert_eq!(bars.rows.iter().map(|row| row.count).sum::<u64>(), 1_000);
        let (at_least, count) = bars.at_least.unwrap();
        assert!(at_least.abs_diff(5_000_000) < 5_000);
        assert_eq!(count, 8);
    }

    #[test]
    fn a_bar_is_full_at_the_most_and_never_empty_above_none() {
        assert_eq!(bar(100, 100, 3, true), "███");
        assert_eq!(bar(50, 100, 3, true), "█▌");
        assert_eq!(bar(1, 1_000_000, 3, true), "▏");
        assert_eq!(bar(0, 100, 3, true), "");
        assert_eq!(bar(100, 100, 3, false), "###");
        assert_eq!(bar(1, 1_000_000, 3, false), ".");
    }
}
