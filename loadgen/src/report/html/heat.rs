//! Latency over time as a heat map: slices of time across, response times up, colour for how many.
//!
//! Requests that were given up are cells of another colour, at the least that they took, in the slice in
//! which they were given up. Colour is logarithmic, so that one request in a cell is seen beside a hundred
//! thousand.
//!
//! Not here: totals over time (`rates`).

use std::fmt::Write as _;

use super::markup::{Chart, Esc, LogAxis, along_x_seconds};
use crate::model::{Run, Slice};
use crate::record::{Latency, Value};
use crate::report::format::{count, value_or_dash};

/// Columns of a drawing; more slices than that are merged. At the widest a page gets, one is two pixels.
pub(super) const COLUMNS_MAX: usize = 400;

/// Rows: with [`COLUMNS_MAX`] columns of at most 15 bytes a cell, the worst drawing is 352 KiB of cells.
const ROWS: usize = 60;

/// Shades of the colour scale; the style sheet has as many.
const SHADES: usize = 8;

/// Slices that are drawn as one: everything in them merged.
pub(super) struct Column {
    pub(super) start_ns: u64,
    pub(super) len_ns: u64,
    pub(super) completed: u64,
    pub(super) intended: u64,
    pub(super) errors: u64,
    pub(super) p50: Option<Value>,
    pub(super) p99: Option<Value>,
    pub(super) max: Option<Value>,
    buckets: Vec<(u64, u64, u64)>,
}

/// The time series in at most [`COLUMNS_MAX`] columns of equally many slices.
pub(super) fn columns(slices: &[Slice]) -> Vec<Column> {
    at_most(slices, COLUMNS_MAX)
}

fn at_most(slices: &[Slice], most: usize) -> Vec<Column> {
    let each = slices.len().div_ceil(most).max(1);
    let of = |slices: &[Slice]| match slices {
        [one] => column(slices, &one.tally.response),
        _ => {
            let mut response = Latency::default();
            slices.iter().for_each(|slice| response.merge(&slice.tally.response));
            column(slices, &response)
        }
    };
    slices.chunks(each).map(of).collect()
}

fn column(slices: &[Slice], response: &Latency) -> Column {
    let sum = |of: fn(&Slice) -> u64| slices.iter().map(of).sum();
    Column {
        start_ns: slices.first().map_or(0, |slice| slice.start_ns),
        len_ns: sum(|slice| slice.len_ns),
        completed: sum(|slice| slice.tally.counts.completed),
        intended: sum(|slice| slice.tally.counts.intended),
        errors: sum(|slice| slice.tally.errors.total()),
        p50: response.percentile(50.0),
        p99: response.percentile(99.0),
        max: response.max(),
        buckets: response.buckets(),
    }
}

/// The chart; `None` without a latency.
pub(super) fn chart(run: &Run, columns: &[Column]) -> Option<Chart> {
    let all = || columns.iter().flat_map(|column| &column.buckets);
    let axis = LogAxis::new(all().map(|(value, ..)| *value).min()?, all().map(|(value, ..)| *value).max()?);
    let mut cells = vec![[0u64; 2]; columns.len() * ROWS];
    for (x, column) in columns.iter().enumerate() {
        for (value, exact, bounds) in &column.buckets {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to ROWS
            let row = ((axis.at(*value) * ROWS as f64) as usize).min(ROWS - 1);
            let cell = &mut cells[(ROWS - 1 - row) * columns.len() + x];
            cell[0] += exact;
            cell[1] += bounds;
        }
    }
    let most = cells.iter().map(|cell| cell[0]).max().unwrap_or(0);
    let mut drawing = String::new();
    for shade in 1..=SHADES {
        let path = path(&cells, columns.len(), |cell| cell[1] == 0 && shade_of(cell[0], most) == shade);
        if !path.is_empty() {
            let _ = write!(drawing, "<path class=\"h{shade}\" d=\"{path}\"/>");
        }
    }
    let given_up = path(&cells, columns.len(), |cell| cell[1] > 0);
    if !given_up.is_empty() {
        let _ = write!(drawing, "<path class=\"hx\" d=\"{given_up}\"/>");
    }
    for (class, of) in
        [("p50", (|column| column.p50) as fn(&Column) -> Option<Value>), ("p99", |column| column.p99)]
    {
        let _ = write!(drawing, "<path class=\"line over {class}\" d=\"{}\"/>", line(columns, &axis, of));
    }
    for (x, column) in columns.iter().enumerate() {
        let words = format!(
            "{:.2} s: {} answered, {} in error, P50 {}, P99 {}, max {}",
            column.start_ns as f64 / 1e9,
            count(column.completed),
            count(column.errors),
            value_or_dash(column.p50),
            value_or_dash(column.p99),
            value_or_dash(column.max)
        );
        let _ = write!(
            drawing,
            "<rect class=\"hit\" x=\"{x}\" y=\"0\" width=\"1\" height=\"{ROWS}\"><title>{}</title></rect>",
            Esc(&words)
        );
    }
    let mut legend = String::from("<span class=\"key scale\">1");
    for shade in 1..=SHADES {
        let _ = write!(legend, "<i class=\"h{shade}\"></i>");
    }
    let _ = write!(legend, "{} requests a cell</span>", count(most));
    if !given_up.is_empty() {
        legend.push_str("<span class=\"key\"><i class=\"hx\"></i>not answered: at least this</span>");
    }
    legend.push_str("<span class=\"key p50\"><i></i>P50</span><span class=\"key p99\"><i></i>P99</span>");
    Some(Chart {
        id: "heat",
        title: "Response time over time",
        about: "Each column is a slice of time in which requests were answered or given up.".into(),
        legend,
        alt: format!("Heat map of response times in {} slices of time", columns.len()),
        size: (columns.len(), ROWS),
        drawing,
        over: String::new(),
        along_x: along_x_seconds(run.measured_ns),
        along_y: Chart::along_y_durations(&axis),
        x_title: "time in the measured window",
    })
}

/// 0 for none, 1 for one, [`SHADES`] for the most, in logarithmic steps.
fn shade_of(count: u64, most: u64) -> usize {
    match (count, most) {
        (0, _) => 0,
        (_, 0 | 1) => SHADES,
        _ => {
            let share = (count as f64).ln() / (most as f64).ln();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to SHADES
            let shade = (share * (SHADES - 1) as f64).round() as usize + 1;
            shade.min(SHADES)
        }
    }
}

/// The cells that are wanted, as one path of unit squares; neighbours in a row are one rectangle.
fn path(cells: &[[u64; 2]], width: usize, wanted: impl Fn(&[u64; 2]) -> bool) -> String {
    let mut path = String::new();
    for (y, row) in cells.chunks(width.max(1)).enumerate() {
        let mut x = 0;
        while x < row.len() {
            let run = row[x..].iter().take_while(|cell| wanted(cell)).count();
            if run > 0 {
                let _ = write!(path, "M{x} {y}h{run}v1h-{run}z");
            }
            x += run.max(1);
        }
    }
    path
}

/// A line through the middles of the columns that have a value, broken where one has none.
fn line(columns: &[Column], axis: &LogAxis, of: impl Fn(&Column) -> Option<Value>) -> String {
    let mut path = String::new();
    let mut is_drawn = false;
    for (x, column) in columns.iter().enumerate() {
        let Some(value) = of(column) else {
            is_drawn = false;
            continue;
        };
        let y = (1.0 - axis.at(value.ns())) * ROWS as f64;
        let verb = if is_drawn { 'L' } else { 'M' };
        let _ = if is_drawn {
            write!(path, "{verb}{x}.5 {y:.1}")
        } else {
            // A lone value is a line as wide as its column.
            write!(path, "{verb}{x} {y:.1}h.5")
        };
        is_drawn = true;
    }
    path
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::Tally;
    use crate::report::sample;

    #[test]
    fn slices_beyond_the_most_columns_are_merged_and_none_is_lost() {
        let slice = |at: u64| {
            let mut tally = Tally::default();
            tally.counts.completed = at;
            Slice { start_ns: at * 10, len_ns: 10, tally }
        };
        for (slices, wanted) in [(0u64, 0), (1, 1), (6, 6), (7, 4), (12, 6), (13, 5)] {
            let all: Vec<Slice> = (0..slices).map(slice).collect();
            let columns = at_most(&all, 6);
            assert_eq!(columns.len(), wanted, "{slices}");
            assert_eq!(columns.iter().map(|c| c.completed).sum::<u64>(), (0..slices).sum::<u64>());
            assert_eq!(columns.iter().map(|c| c.len_ns).sum::<u64>(), slices * 10);
        }
    }

    #[test]
    fn the_worst_noise_is_a_drawing_below_500_kib() {
        let column = |x: u64| Column {
            start_ns: x,
            len_ns: 1,
            completed: u64::MAX,
            intended: u64::MAX,
            errors: u64::MAX,
            p50: Some(Value::AtLeast(1_000)),
            p99: Some(Value::AtLeast(1_000)),
            max: Some(Value::AtLeast(1_000)),
            // A row is a seventh of a decade or more: all rows are hit, in shades that alternate.
            buckets: (0..600u32)
                .map(|n| {
                    (
                        1 + 10u64.pow(n / 50) * u64::from(n % 50),
                        1 + u64::from(n) * x,
                        u64::from(n / 10 + 1) & x & 1,
                    )
                })
                .collect(),
        };
        let columns: Vec<Column> = (0..COLUMNS_MAX as u64).map(column).collect();
        let chart = chart(&sample::calm(10.0), &columns).unwrap();
        assert!((200 << 10..500 << 10).contains(&chart.drawing.len()), "{} bytes", chart.drawing.len());
    }

    #[test]
    fn one_request_has_the_palest_shade_and_the_most_the_darkest() {
        assert_eq!([0, 1, 1_000_000].map(|n| shade_of(n, 1_000_000)), [0, 1, SHADES]);
        assert_eq!(shade_of(1_000, 1_000_000), 5);
        assert_eq!(shade_of(1, 1), SHADES);
    }

    #[test]
    fn neighbouring_cells_are_one_rectangle() {
        let cells = [[1, 0], [1, 0], [0, 0], [2, 0]];
        assert_eq!(path(&cells, 4, |cell| cell[0] > 0), "M0 0h2v1h-2zM3 0h1v1h-1z");
        assert_eq!(path(&cells, 2, |cell| cell[0] > 0), "M0 0h2v1h-2zM1 1h1v1h-1z");
    }

    #[test]
    fn requests_that_were_given_up_are_drawn_apart() {
        let run = sample::failing(300.0);
        let drawn = chart(&run, &columns(&run.slices)).unwrap();
        assert!(drawn.drawing.contains("class=\"hx\"") && drawn.legend.contains("at least this"));
        let run = sample::calm(100.0);
        let drawn = chart(&run, &columns(&run.slices)).unwrap();
        assert!(!drawn.drawing.contains("class=\"hx\"") && !drawn.legend.contains("at least this"));
    }
}
