//! Rate over time: what was offered, what was answered, and errors.
//!
//! Not here: latencies over time (`heat`).

use std::fmt::Write as _;

use super::heat::Column;
use super::markup::{Chart, Esc, along_x_seconds, step};
use crate::model::{Loop, Run, per_second};
use crate::report::format::{count, rate};

const WIDTH: usize = 1_000;
const HEIGHT: usize = 240;

/// The chart; `None` where no time was measured.
pub(super) fn chart(run: &Run, columns: &[Column]) -> Option<Chart> {
    let end = columns
        .iter()
        .map(|column| column.start_ns.saturating_add(column.len_ns))
        .max()?
        .max(run.measured_ns);
    if end == 0 {
        return None;
    }
    let is_open = matches!(run.settings.traffic, Loop::Open { .. });
    let answered = |column: &Column| per_second(column.completed, column.len_ns);
    let offered = |column: &Column| per_second(column.intended, column.len_ns);
    let errors = |column: &Column| per_second(column.errors, column.len_ns);
    let highest = |of: &dyn Fn(&Column) -> f64| columns.iter().map(of).fold(0.0, f64::max);
    let most =
        highest(&answered).max(if is_open { highest(&offered) } else { 0.0 }).max(highest(&errors)).max(1.0);
    let tick = step(most * 1.08, 5);
    let top = (most * 1.08 / tick).ceil() * tick;
    let x_of = |ns: u64| ns as f64 / end as f64 * WIDTH as f64;
    let y_of = |rate: f64| (1.0 - rate / top) * HEIGHT as f64;
    let steps = |of: &dyn Fn(&Column) -> f64| {
        let mut path = String::new();
        for column in columns {
            let (from, to) = (x_of(column.start_ns), x_of(column.start_ns.saturating_add(column.len_ns)));
            let verb = if path.is_empty() { 'M' } else { 'L' };
            // Writing to a String cannot fail.
            let _ = write!(path, "{verb}{from:.1} {:.1}H{to:.1}", y_of(of(column)));
        }
        path
    };
    let mut drawing = String::new();
    let first = columns.first().map_or(0, |column| column.start_ns);
    let answered_path = steps(&answered);
    let _ = write!(drawing, "<path class=\"area\" d=\"{answered_path}V{HEIGHT}H{:.1}z\"/>", x_of(first));
    let _ = write!(drawing, "<path class=\"line response\" d=\"{answered_path}\"/>");
    let mut legend = String::from("<span class=\"key response\"><i></i>answered</span>");
    if is_open {
        let _ = write!(drawing, "<path class=\"line offered\" d=\"{}\"/>", steps(&offered));
        legend.push_str("<span class=\"key offered\"><i></i>offered</span>");
    }
    if columns.iter().any(|column| column.errors > 0) {
        for column in columns.iter().filter(|column| column.errors > 0) {
            let (from, to) = (x_of(column.start_ns), x_of(column.start_ns.saturating_add(column.len_ns)));
            // A few errors among many answers are still seen: two of 240 rows at least.
            let high = (errors(column) / top * HEIGHT as f64).max(2.0);
            let (y, wide) = (HEIGHT as f64 - high, to - from);
            let _ = write!(
                drawing,
                "<rect class=\"errors\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" \
                 height=\"{high:.1}\"/>"
            );
        }
        legend.push_str("<span class=\"key errors\"><i></i>in error</span>");
    }
    for column in columns {
        let from = x_of(column.start_ns);
        let wide = x_of(column.start_ns.saturating_add(column.len_ns)) - from;
        let due = if is_open { format!(" of {} offered", rate(offered(column))) } else { String::new() };
        let seconds = column.start_ns as f64 / 1e9;
        let words = format!(
            "{seconds:.2} s: {} answered{due}, {} in error",
            rate(answered(column)),
            count(column.errors)
        );
        let _ = write!(
            drawing,
            "<rect class=\"hit\" x=\"{from:.1}\" y=\"0\" width=\"{wide:.1}\" height=\"{HEIGHT}\">\
             <title>{}</title></rect>",
            Esc(&words)
        );
    }
    let mut along_y = Vec::new();
    for at in 0u32..=6 {
        let value = tick * f64::from(at);
        if value <= top * 1.000_001 {
            along_y.push((rate(value), value / top, at % 2 == 1 && top / tick > 4.5));
        }
    }
    Some(Chart {
        id: "rates",
        title: "Rate over time",
        about: "Answers that arrived in each slice of time; a dip is time in which the server said nothing."
            .into(),
        legend,
        alt: format!("Rate over time: {} answered on the whole", rate(run.rate())),
        size: (WIDTH, HEIGHT),
        drawing,
        over: String::new(),
        along_x: along_x_seconds(end),
        along_y,
        x_title: "time in the measured window",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::html::heat;
    use crate::report::sample;

    #[test]
    fn only_an_open_loop_offers_and_only_errors_are_drawn_in_red() {
        let run = sample::failing(300.0);
        let open = chart(&run, &heat::columns(&run.slices)).unwrap();
        assert!(open.drawing.contains("line offered") && open.drawing.contains("class=\"errors\""));
        let run = sample::calm(100.0);
        let closed = chart(&run, &heat::columns(&run.slices)).unwrap();
        assert!(!closed.drawing.contains("offered") && !closed.drawing.contains("class=\"errors\""));
    }

    #[test]
    fn a_run_of_no_length_has_no_chart() {
        let mut run = sample::calm(10.0);
        run.slices.clear();
        assert!(chart(&run, &[]).is_none());
    }
}
