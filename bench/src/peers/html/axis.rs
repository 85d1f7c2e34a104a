//! The horizontal axis of a chart: where a value is, and the round values along it.
//!
//! Not here: what is drawn on it (`chart`).

/// Largest value over least from which on an axis is logarithmic: in steps of equal length, what is least
/// would be within a twelfth of the width.
const LINEAR_MAX: f64 = 12.0;

/// Least span of a logarithmic axis: two of 1, 2, 5, 10 and so on are on it, wherever it begins.
const SPAN_MIN: f64 = 5.1;

/// Values beyond are drawn at the ends of an axis: no figure is that large, and ticks are counted by decades.
const VALUE_MAX: f64 = 1e15;

/// Least value of a logarithmic axis.
const LOG_MIN: f64 = 1e-9;

/// Positions in percent of the width.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    pub(super) is_log: bool,
}

impl Axis {
    /// For values from `least` to `most`: from 0 in equal steps, or logarithmic where that says more.
    pub(super) fn new(least: f64, most: f64) -> Axis {
        let (least, most) = (least.max(-VALUE_MAX), most.min(VALUE_MAX));
        if least > 0.0 && most / least > LINEAR_MAX {
            return Axis::log(least, most);
        }
        let high = if most > 0.0 { most * 1.04 } else { 0.0 };
        let low = if least < 0.0 { least * 1.04 } else { 0.0 };
        Axis { low, high: if high > low { high } else { 1.0 }, is_log: false }
    }

    /// In logarithmic steps. Zero and less are at its begin.
    pub(super) fn log(least: f64, most: f64) -> Axis {
        let low = if least > 0.0 { least.clamp(LOG_MIN, VALUE_MAX) } else { 1.0 } * 0.88;
        let high = (most.min(VALUE_MAX) * 1.14).max(low * SPAN_MIN);
        Axis { low, high, is_log: true }
    }

    /// Where `value` is, 0 to 100 percent.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        100.0 * share.clamp(0.0, 1.0)
    }

    /// Round values along it, fewer than ten, with whether they may be left out where there is little room.
    pub(super) fn ticks(&self) -> Vec<(f64, bool)> {
        if self.is_log { self.log_ticks() } else { self.linear_ticks() }
    }

    fn linear_ticks(&self) -> Vec<(f64, bool)> {
        let rough = (self.high - self.low) / 6.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * decade).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * decade);
        let first = (self.low / step).ceil();
        let all = (0u32..10).map(|at| (first + f64::from(at)) * step);
        all.take_while(|value| *value <= self.high).zip(0..).map(|(value, at)| (value, at % 2 == 1)).collect()
    }

    fn log_ticks(&self) -> Vec<(f64, bool)> {
        let (from, to) = (self.low.log10().floor(), self.high.log10().ceil());
        let on = |series: &[f64], step: f64| {
            let mut all = Vec::new();
            let mut decade = from;
            while decade <= to {
                let is_minor = |n: f64| n != 1.0 && series.len() > 1;
                let ticks = series.iter().map(|n| (n * 10f64.powf(decade), is_minor(*n)));
                all.extend(ticks.filter(|(value, _)| (self.low..=self.high).contains(value)));
                decade += step;
            }
            all
        };
        let tries: [(&[f64], f64); 5] =
            [(&[1.0, 2.0, 5.0], 1.0), (&[1.0, 3.0], 1.0), (&[1.0], 1.0), (&[1.0], 2.0), (&[1.0], 4.0)];
        let mut ticks = Vec::new();
        for (series, step) in tries {
            ticks = on(series, step);
            if ticks.len() < 9 {
                break;
            }
        }
        // Below a decade there may be no power of ten to keep.
        if ticks.iter().filter(|(_, is_minor)| !is_minor).count() < 2 && ticks.len() < 5 {
            ticks.iter_mut().for_each(|(_, is_minor)| *is_minor = false);
        }
        if ticks.iter().all(|(_, is_minor)| !is_minor) && ticks.len() > 5 {
            ticks.iter_mut().skip(1).step_by(2).for_each(|(_, is_minor)| *is_minor = true);
        }
        ticks.truncate(9);
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_begins_at_zero_unless_values_are_far_apart() {
        assert!(Axis::new(1.0, 12.0).at(0.0) == 0.0 && !Axis::new(1.0, 12.0).is_log);
        assert!(Axis::new(1.0, 12.1).is_log);
        let negative = Axis::new(-5.0, 5.0);
        assert!(!negative.is_log && negative.at(-5.0) > 0.0 && (negative.at(0.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn all_values_are_on_the_axis_whatever_they_are() {
        for (least, most) in [(0.0, 0.0), (-3.0, -1.0), (1e-9, 1e9), (5.0, 5.0), (0.0, 7.0)] {
            for axis in [Axis::new(least, most), Axis::log(least, most)] {
                for value in [least, most, f64::MIN, f64::MAX, 0.0] {
                    assert!((0.0..=100.0).contains(&axis.at(value)), "{value} on {axis:?}");
                }
            }
        }
    }

    #[test]
    fn ticks_are_few_and_never_less_than_two() {
        for most in [1e-3, 0.7, 1.0, 1.9, 3.3, 12.0, 480.0, 1e6, 7e11] {
            for least in [most, most / 1.5, most / 4.0, most / 13.0, most / 300.0, most / 1e6] {
                for axis in [Axis::new(least, most), Axis::log(least, most)] {
                    let ticks = axis.ticks();
                    assert!((2..10).contains(&ticks.len()), "{axis:?}: {ticks:?}");
                    assert!(ticks.windows(2).all(|two| two[0].0 < two[1].0), "{ticks:?}");
                    let kept = ticks.iter().filter(|(_, is_minor)| !is_minor).count();
                    assert!((1..=6).contains(&kept), "{axis:?}: {ticks:?}");
                }
            }
        }
    }
}
