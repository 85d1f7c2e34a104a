//! Figures as the reasons of a verdict write them: three digits and a unit.
//!
//! Not here: tables and reports (`report`).

use crate::record::Value;

/// A time: `850 ns`, `12.3 us`, `4.21 ms`, `1.5 s`.
pub(super) fn time(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => (ns as f64, "ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// A time that may be a lower bound: `>= 1 s`.
pub(super) fn value(value: Value) -> String {
    format!("{}{}", if value.is_bound() { ">= " } else { "" }, time(value.ns()))
}

/// A share as a percentage: `0.12%`, `12.3%`; near the whole, `98.97%`.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        near @ 90.0..110.0 => format!("{}%", trimmed(format!("{near:.2}"))),
        other => format!("{}%", digits(other)),
    }
}

/// Three significant digits, more only in front of the point; zeroes at the end are left out.
pub(super) fn digits(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        size if size >= 0.09995 => 3,
        _ => 4,
    };
    let text = format!("{value:.places$}");
    if places == 0 { text } else { trimmed(text) }
}

/// Without zeroes at the end, behind a point.
fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1 request`, `2 requests`.
pub(super) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1 us"),
            (12_345, "12.3 us"),
            (4_210_000, "4.21 ms"),
            (1_500_000_000, "1.5 s"),
            (3_600_000_000_000, "3600 s"),
        ] {
            assert_eq!(time(ns), text);
        }
        for (share, text) in [
            (0.001, "0.1%"),
            (0.1234, "12.3%"),
            (0.98972, "98.97%"),
            (0.99, "99%"),
            (1.2345, "123%"),
            (1.0, "100%"),
            (0.99999, "100%"),
            (0.0, "0%"),
        ] {
            assert_eq!(percent(share), text);
        }
        assert_eq!(value(Value::AtLeast(1_000)), ">= 1 us");
        assert_eq!((count(1, "x"), count(0, "x")), ("1 x".into(), "0 xs".into()));
    }
}
