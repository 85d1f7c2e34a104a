//! Numbers as a person reads them: three significant digits and the unit that fits.
//!
//! Not here: durations, rates and counts, which are the same everywhere (`units`); where they are put (`text`, `html`).

use crate::record::Value;
pub(crate) use crate::units::{count, duration, rate, value};

/// A duration without zeros that say nothing: `22 us`, `1.5 ms`. For edges and ticks that are round by choice.
pub(crate) fn round_duration(ns: u64) -> String {
    let text = duration(ns);
    let Some((number, unit)) = text.split_once(' ') else { return text };
    if !number.contains('.') {
        return text;
    }
    format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
}

/// A duration, or `-` where there is none.
pub(crate) fn value_or_dash(of: Option<Value>) -> String {
    of.map_or_else(|| "-".into(), value)
}

/// `812`, `48.9k`, `1.20M`, `2.31G`.
pub(crate) fn compact(number: f64) -> String {
    for (unit, name) in [(1.0, ""), (1e3, "k"), (1e6, "M")] {
        if number.abs() < 1e3 && unit == 1.0 && number.fract() == 0.0 {
            return format!("{number:.0}");
        }
        if let Some(text) = below_1000(number / unit) {
            return format!("{text}{name}");
        }
    }
    format!("{}G", large(number / 1e9))
}

/// `6.12 MB`: powers of ten.
pub(crate) fn bytes(number: f64) -> String {
    let text = compact(number);
    match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => format!("{} {}B", &text[..at], &text[at..]),
        None => format!("{text} B"),
    }
}

/// A share of 0 to 1 as `41.2%`, `0.25%`, `<0.01%`, `0%`. Not all is never `100%`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent <= 0.0 {
        "0%".into()
    } else if percent < 0.01 {
        "<0.01%".into()
    } else if percent < 9.995 {
        format!("{percent:.2}%")
    } else if (99.95..100.0).contains(&percent) {
        ">99.9%".into()
    } else if percent < 99.95 {
        format!("{percent:.1}%")
    } else {
        format!("{percent:.0}%")
    }
}

/// How two rates compare: `99.8%`, `102%`. Rounded, for a ratio may be above 1.
pub(crate) fn ratio(part: f64, whole: f64) -> String {
    if whole <= 0.0 {
        return "-".into();
    }
    let percent = part / whole * 100.0;
    if percent < 99.995 { format!("{percent:.2}%") } else { format!("{percent:.1}%") }
}

/// `P50`, `P99.9`.
pub(crate) fn percentile_name(percent: f64) -> String {
    format!("P{percent}")
}

/// `p50`, `p99_9`: its name in JSON and CSV.
pub(crate) fn percentile_key(percent: f64) -> String {
    format!("p{percent}").replace('.', "_")
}

/// `one thing`, `2 things`.
pub(crate) fn plural(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Words from outside without what could steer a terminal or turn the direction of writing: each such
/// character becomes `?` (C0 and C1 controls, the separators U+2028 and U+2029, and the controls of Unicode
/// TR9, section 2).
pub(crate) fn harmless(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2066}'..='\u{2069}')
            || matches!(c, '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if steers(c) { '?' } else { c }).collect()
}

/// `2025-01-31 12:30:00 UTC` of milliseconds since 1970.
pub(crate) fn utc(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years of 365.2425 days that begin in March, so that the leap day is the last (Hinnant,
    // "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day % 3_600 / 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Three significant digits of what rounds to less than 1000.
fn below_1000(number: f64) -> Option<String> {
    match number.abs() {
        n if n < 9.995 => Some(format!("{number:.2}")),
        n if n < 99.95 => Some(format!("{number:.1}")),
        n if n < 999.5 => Some(format!("{number:.0}")),
        _ => None,
    }
}

/// Three significant digits, or all before the point.
fn large(number: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, for a figure that large
    below_1000(number).unwrap_or_else(|| count(number.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_edge_has_no_zeros_that_say_nothing() {
        assert_eq!(round_duration(22_000), "22 us");
        assert_eq!(round_duration(1_500_000), "1.5 ms");
        assert_eq!(round_duration(100_000), "100 us");
        assert_eq!(round_duration(470), "470 ns");
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!(value_or_dash(Some(Value::AtLeast(1_000_000_000))), ">= 1.00 s");
        assert_eq!(value_or_dash(None), "-");
    }

    #[test]
    fn numbers_and_bytes_fit_their_columns() {
        let cases = [(0.0, "0"), (0.5, "0.50"), (812.0, "812"), (999.6, "1.00k"), (48_900.0, "48.9k")];
        for (number, text) in cases {
            assert_eq!(compact(number), text, "{number}");
        }
        assert_eq!(compact(1_200_000.0), "1.20M");
        assert_eq!(compact(2.31e9), "2.31G");
        assert_eq!(bytes(6_120_000.0), "6.12 MB");
        assert_eq!(bytes(12_300.0), "12.3 kB");
        assert_eq!(bytes(7.0), "7 B");
    }

    #[test]
    fn nearly_all_is_not_all_and_nearly_none_is_not_none() {
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(1e-7), "<0.01%");
        assert_eq!(percent(0.0025), "0.25%");
        assert_eq!(percent(0.412), "41.2%");
        assert_eq!(percent(0.99951), ">99.9%");
        assert_eq!(percent(1.0), "100%");
        assert_eq!(ratio(49_900.0, 50_000.0), "99.80%");
        assert_eq!(ratio(1.0, 0.0), "-");
    }

    #[test]
    fn percentiles_have_a_name_and_a_key() {
        assert_eq!((percentile_name(99.9).as_str(), percentile_key(99.99).as_str()), ("P99.9", "p99_99"));
        assert_eq!((percentile_name(50.0).as_str(), percentile_key(50.0).as_str()), ("P50", "p50"));
    }

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_709_251_199_999), "2024-02-29 23:59:59 UTC");
        assert_eq!(utc(1_735_689_600_000), "2025-01-01 00:00:00 UTC");
    }

    #[test]
    fn escape_sequences_and_turned_text_are_made_harmless() {
        assert_eq!(harmless("a\u{1b}[31mb\r\n\u{9b}c\u{202e}d"), "a?[31mb???c?d");
        assert_eq!(harmless("grün/√"), "grün/√");
    }
}
