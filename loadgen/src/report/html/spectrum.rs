//! The percentile spectrum: how long the slowest one in ten, hundred, thousand took. Both axes are
//! logarithmic.
//!
//! Where a percentile is only a lower bound the line is dashed, and for the response time the region is
//! shaded: the truth is on the line or above it.
//!
//! Not here: the table of the same numbers (`html`).

use std::fmt::Write as _;

use super::markup::{Chart, Esc, LogAxis};
use crate::model::{Loop, Run};
use crate::record::{Latency, Value};
use crate::report::format::{count, percentile_name, value, value_or_dash};

/// Coordinates of the drawing.
const WIDTH: usize = 1_000;
const HEIGHT: usize = 400;

/// Points of a line: three a pixel of a narrow screen, one of a wide one.
const POINTS: u32 = 900;

/// All order statistics of a latency, from its buckets once: what [`Latency::percentile`] says, for many.
struct Ranks {
    /// Value, all up to it, exact ones up to it.
    steps: Vec<(u64, u64, u64)>,
    exact: u64,
    count: u64,
}

impl Ranks {
    fn new(of: &Latency) -> Ranks {
        let (mut all, mut exact) = (0, 0);
        let mut steps = Vec::new();
        for (value, ended, bounds) in of.buckets() {
            exact += ended;
            all += ended + bounds;
            steps.push((value, all, exact));
        }
        Ranks { steps, exact, count: all }
    }

    /// The `rank`-th smallest, from 1.
    fn at(&self, rank: u64) -> Option<Value> {
        let low = self.steps.get(self.steps.partition_point(|step| step.1 < rank))?.0;
        let high = self.steps.get(self.steps.partition_point(|step| step.2 < rank)).map(|step| step.0);
        let known = rank <= self.exact && high == Some(low);
        Some(if known { Value::Exact(low) } else { Value::AtLeast(low) })
    }

    /// Points from the smallest to the largest: x as log10 of 1/(1-p), and the value.
    fn points(&self) -> Vec<(f64, Value)> {
        let mut points: Vec<(f64, Value)> = Vec::new();
        let mut last = 0;
        let end = (self.count.max(1) as f64).log10();
        for at in 0..=POINTS {
            let x = end * f64::from(at) / f64::from(POINTS);
            let share = 1.0 - 10f64.powf(-x);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most the count
            let rank = ((share * self.count as f64 + 1.0).floor() as u64).clamp(1, self.count.max(1));
            if rank == last && at < POINTS {
                continue;
            }
            last = rank;
            if let Some(value) = self.at(rank) {
                points.push((x, value));
            }
        }
        points
    }
}

/// The chart; `percents` are the percentiles of which one is told on pointing.
pub(super) fn chart(run: &Run, percents: &[f64]) -> Option<Chart> {
    let total = &run.total;
    let mut lines: Vec<(&str, &str, &Latency)> = vec![("response", "response time", &total.response)];
    if matches!(run.settings.traffic, Loop::Open { .. }) {
        lines.push(("service", "service time", &total.service));
        lines.push(("lag", "send lag", &total.send_lag));
    }
    let lines: Vec<_> = lines
        .into_iter()
        .filter(|(.., of)| !of.is_empty())
        .map(|(class, name, of)| (class, name, Ranks::new(of).points()))
        .collect();
    let all = || lines.iter().flat_map(|(.., points)| points);
    let axis =
        LogAxis::new(all().map(|(_, value)| value.ns()).min()?, all().map(|(_, value)| value.ns()).max()?);
    let end = all().map(|(x, _)| *x).fold(1.0, f64::max);
    let x_of = |x: f64| x / end * WIDTH as f64;
    let y_of = |ns: u64| (1.0 - axis.at(ns)) * HEIGHT as f64;

    let mut drawing = String::new();
    let mut over = String::new();
    let (_, _, response) = lines.first()?;
    if let Some((from, _)) = response.iter().find(|(_, value)| value.is_bound()) {
        let x = x_of(*from);
        let _ = write!(
            drawing,
            "<rect class=\"unknown\" x=\"{x:.1}\" y=\"0\" width=\"{:.1}\" height=\"{HEIGHT}\"/>",
            WIDTH as f64 - x
        );
        over.push_str("<span class=\"note\">not answered: at least this</span>");
    }
    for (x, _) in decades(end) {
        let _ = write!(drawing, "<path class=\"grid\" d=\"M{:.1} 0V{HEIGHT}\"/>", x_of(x));
    }
    for (class, _, points) in &lines {
        let known = points.iter().take_while(|(_, value)| !value.is_bound()).count();
        let places: Vec<(f64, f64)> = points.iter().map(|(x, value)| (x_of(*x), y_of(value.ns()))).collect();
        if known > 0 {
            let _ = write!(drawing, "<path class=\"line {class}\" d=\"{}\"/>", steps(&places[..known]));
        }
        if known < places.len() {
            // It begins where the line that is known ends.
            let path = steps(&places[known.saturating_sub(1)..]);
            let _ = write!(drawing, "<path class=\"line {class} bound\" d=\"{path}\"/>");
        }
    }
    drawing += &told(run, percents, end);
    let legend: String = lines
        .iter()
        .map(|(class, name, _)| format!("<span class=\"key {class}\"><i></i>{name}</span>"))
        .collect();
    Some(Chart {
        id: "spectrum",
        title: "Latency by percentile",
        about: format!(
            "Each step to the right is a rarer, slower request; the right end is the slowest of {}.",
            count(total.response.count())
        ),
        legend,
        alt: format!(
            "Response time by percentile. {}.",
            [50.0, 99.0, 99.9, 100.0]
                .into_iter()
                .filter_map(|p| total.response.percentile(p).map(|v| format!(
                    "{} {}",
                    percentile_name(p),
                    value(v)
                )))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        size: (WIDTH, HEIGHT),
        drawing,
        over,
        along_x: decades(end)
            .map(|(x, name)| {
                let minor = end > 4.5 && x > 2.5 && (x % 2.0 - 1.0).abs() < 0.1;
                (name, x / end, minor)
            })
            .collect(),
        along_y: Chart::along_y_durations(&axis),
        x_title: "percentile",
    })
}

/// A line in steps: level from one place to the next, then up.
fn steps(places: &[(f64, f64)]) -> String {
    let mut path = String::new();
    let mut last = f64::NAN;
    for (at, (x, y)) in places.iter().enumerate() {
        let _ = match at {
            0 => write!(path, "M{x:.1} {y:.1}"),
            // Writing to a String cannot fail. A place at the same height says nothing until the last one.
            _ if (y - last).abs() < 0.05 && at + 1 < places.len() => continue,
            _ => write!(path, "H{x:.1}V{y:.1}"),
        };
        last = *y;
    }
    path
}

/// P0, P90, P99 and so on, with their place: as log10 of 1/(1-p).
fn decades(end: f64) -> impl Iterator<Item = (f64, String)> {
    let name = |n: u32| match n {
        0 => "P0".into(),
        1 => "P90".into(),
        2 => "P99".into(),
        n => format!("P99.{}", "9".repeat(n as usize - 2)),
    };
    (0..20u32).map(move |n| (f64::from(n), name(n))).take_while(move |(x, _)| *x <= end)
}

/// Invisible columns that tell the figures of a percentile on pointing.
fn told(run: &Run, percents: &[f64], end: f64) -> String {
    let total = &run.total;
    let places: Vec<(f64, f64)> = percents
        .iter()
        .map(|percent| (*percent, -(1.0 - percent / 100.0).log10()))
        .filter(|(_, x)| *x <= end)
        .chain(std::iter::once((100.0, end)))
        .collect();
    let mut text = String::new();
    let mut from = 0.0;
    for (at, (percent, x)) in places.iter().enumerate() {
        let to = places.get(at + 1).map_or(end, |(_, next)| f64::midpoint(*x, *next));
        let left = from / end * WIDTH as f64;
        let wide = (to - from) / end * WIDTH as f64;
        let name = if *percent >= 100.0 { "max".into() } else { percentile_name(*percent) };
        let of = |latency: &Latency| value_or_dash(latency.percentile(*percent));
        let words = format!(
            "{name}: response {}, service {}, send lag {}",
            of(&total.response),
            of(&total.service),
            of(&total.send_lag)
        );
        let _ = write!(
            text,
            "<rect class=\"hit\" x=\"{left:.1}\" y=\"0\" width=\"{wide:.1}\" height=\"{HEIGHT}\">\
             <title>{}</title></rect>",
            Esc(&words)
        );
        from = to;
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::sample;

    #[test]
    fn ranks_say_what_the_percentiles_of_the_latency_say() {
        let run = sample::failing(300.0);
        let of = &run.total.response;
        let ranks = Ranks::new(of);
        for rank in [1, 2, ranks.count / 2, ranks.exact - 1, ranks.exact, ranks.exact + 1, ranks.count] {
            let percent = rank as f64 / ranks.count as f64 * 100.0;
            assert_eq!(ranks.at(rank), of.percentile(percent), "rank {rank} of {}", ranks.count);
        }
        assert_eq!(ranks.at(ranks.count + 1), None);
        let points = ranks.points();
        assert_eq!(points.last().unwrap().1, of.max().unwrap());
        assert!(points.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1.ns() <= two[1].1.ns()));
    }

    #[test]
    fn a_line_in_steps_ends_at_its_last_place() {
        assert_eq!(steps(&[(0.0, 5.0), (1.0, 5.0), (2.0, 4.0), (3.0, 4.0)]), "M0.0 5.0H2.0V4.0H3.0V4.0");
    }

    #[test]
    fn what_was_not_answered_is_shaded_and_dashed() {
        let chart = chart(&sample::failing(300.0), &[50.0]).unwrap();
        assert!(chart.drawing.contains("class=\"unknown\"") && chart.drawing.contains("line response bound"));
        assert!(chart.over.contains("at least this"));
    }

    #[test]
    fn without_a_request_there_is_no_chart() {
        let mut run = sample::calm(10.0);
        run.total.clear();
        assert!(chart(&run, &[50.0]).is_none());
    }
}
