//! Instructions an operation, in tenths, and how much more they may become.
//!
//! Whole numbers throughout: whether something rose by exactly 3 % must not depend on rounding.
//!
//! Not here: where figures are kept (`baseline`) and shown (`report`).

use std::fmt;
use std::str::FromStr;

/// Tenths of an instruction an operation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Figure {
    tenths: u64,
}

impl Figure {
    /// Of two runs with so many instructions and operations each, the shorter one first. To the nearest tenth.
    ///
    /// # Errors
    /// Where the longer run took fewer instructions.
    pub(super) fn between(few: (u64, u64), many: (u64, u64)) -> Result<Figure, String> {
        assert!(many.1 > few.1, "{} operations, then {}", few.1, many.1);
        let ops = many.1 - few.1;
        match many.0.checked_sub(few.0) {
            Some(instructions) => Ok(Figure { tenths: (instructions * 10 + ops / 2) / ops }),
            None => {
                Err(format!("{} instructions for {} operations, but {} for {}", few.0, few.1, many.0, many.1))
            }
        }
    }

    /// Whether it is more than `rise` above `base`. Exactly that much is not.
    pub(super) fn rose(self, base: Figure, rise: Percent) -> bool {
        self.tenths > base.tenths && beyond(self.tenths - base.tenths, base.tenths, rise)
    }

    /// Whether it is more than `rise` below `base`. Exactly that much is not.
    pub(super) fn fell(self, base: Figure, rise: Percent) -> bool {
        base.tenths > self.tenths && beyond(base.tenths - self.tenths, base.tenths, rise)
    }

    /// The change from `base`: `+3.2%`. Of nothing: `+inf%`.
    pub(super) fn change(self, base: Figure) -> String {
        let (now, base) = (self.tenths as f64, base.tenths as f64);
        let percent = if now == base { 0.0 } else { (now / base - 1.0) * 100.0 };
        format!("{percent:+.1}%")
    }
}

/// `difference / base > part`, without a division.
fn beyond(difference: u64, base: u64, part: Percent) -> bool {
    u128::from(difference) * 10_000 > u128::from(base) * u128::from(part.hundredths)
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.tenths / 10, self.tenths % 10))
    }
}

impl FromStr for Figure {
    type Err = String;

    fn from_str(text: &str) -> Result<Figure, String> {
        let wrong = || format!("`{text}` is no number of instructions with one decimal: `412.3`");
        let (whole, tenth) = text.split_once('.').ok_or_else(wrong)?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(tenth) || tenth.len() != 1 {
            return Err(wrong());
        }
        let tenths: Option<u64> = format!("{whole}{tenth}").parse().ok();
        Ok(Figure { tenths: tenths.ok_or_else(wrong)? })
    }
}

/// A part of a figure, to a hundredth of a percent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Percent {
    hundredths: u32,
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.hundredths / 100, self.hundredths % 100);
        match rest {
            0 => write!(f, "{whole}%"),
            _ => write!(f, "{whole}.{}%", format!("{rest:02}").trim_end_matches('0')),
        }
    }
}

impl FromStr for Percent {
    type Err = String;

    /// `3%`, `3`, `2.5%`: below 1,000, at most two decimals.
    fn from_str(text: &str) -> Result<Percent, String> {
        let wrong =
            || format!("`{text}` is no percentage below 1000 with at most two decimals: `3%`, `2.5%`");
        let number = text.strip_suffix('%').unwrap_or(text);
        let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
        let digits =
            |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 3) || !digits(rest, 2) {
            return Err(wrong());
        }
        let hundredths: u32 = format!("{whole}{rest:0<2}").parse().map_err(|_| wrong())?;
        Ok(Percent { hundredths })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn figure(text: &str) -> Figure {
        text.parse().unwrap()
    }

    fn percent(text: &str) -> Percent {
        text.parse().unwrap()
    }

    #[test]
    fn exactly_three_percent_is_no_rise_and_a_tenth_more_is() {
        let (base, three) = (figure("100.0"), percent("3%"));
        assert!(!figure("103.0").rose(base, three));
        assert!(figure("103.1").rose(base, three));
        // Where the limit falls between two tenths, the one above it is a rise.
        assert!(!figure("34.3").rose(figure("33.3"), percent("3.01%")));
        assert!(figure("34.3").rose(figure("33.3"), three));
    }

    #[test]
    fn exactly_three_percent_less_is_no_fall_and_a_tenth_less_is() {
        let (base, three) = (figure("100.0"), percent("3%"));
        assert!(!figure("97.0").fell(base, three));
        assert!(figure("96.9").fell(base, three));
        assert!(!figure("103.1").fell(base, three));
        assert!(!figure("96.9").rose(base, three));
    }

    #[test]
    fn from_nothing_anything_is_a_rise_and_nothing_is_none() {
        let (zero, three) = (figure("0.0"), percent("3%"));
        assert!(figure("0.1").rose(zero, three));
        assert!(!zero.rose(zero, three) && !zero.fell(zero, three));
        assert_eq!(zero.change(zero), "+0.0%");
        assert_eq!(figure("0.1").change(zero), "+inf%");
    }

    #[test]
    fn the_start_of_a_run_cancels_out() {
        let start = 1_000_003;
        let few = (start + 100 * 412, 100);
        assert_eq!(Figure::between(few, (start + 1100 * 412, 1100)), Ok(figure("412.0")));
        // 449 more in 1,000 operations are 0.4 each, 450 are 0.5: to the nearest tenth.
        assert_eq!(Figure::between(few, (start + 1100 * 412 + 449, 1100)), Ok(figure("412.4")));
        assert_eq!(Figure::between(few, (start + 1100 * 412 + 450, 1100)), Ok(figure("412.5")));
    }

    #[test]
    fn a_longer_run_with_fewer_instructions_is_an_error() {
        let error = Figure::between((1000, 10), (999, 20)).unwrap_err();
        assert_eq!(error, "1000 instructions for 10 operations, but 999 for 20");
    }

    #[test]
    fn figures_and_percentages_are_read_as_they_are_written() {
        for text in ["0.0", "7.5", "412.3", "1234567.0"] {
            assert_eq!(figure(text).to_string(), text);
        }
        for text in ["3%", "2.5%", "0.05%", "12.34%"] {
            assert_eq!(percent(text).to_string(), text);
        }
        assert_eq!(percent("3"), percent("3.00%"));
    }

    #[test]
    fn what_is_no_figure_or_percentage_is_refused_by_name() {
        for text in ["", "412", "412.34", ".3", "4.", "-1.0", "1e3.0", "99999999999999999999.0"] {
            assert!(text.parse::<Figure>().unwrap_err().contains(&format!("`{text}`")));
        }
        for text in ["", "%", "-3%", "1000%", "3.123%", "3,5%", "3 %"] {
            assert!(text.parse::<Percent>().unwrap_err().contains(&format!("`{text}`")));
        }
    }
}
