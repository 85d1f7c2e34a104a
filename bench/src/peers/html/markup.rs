//! Markup: words from outside made harmless, and numbers as a person reads them.
//!
//! # Rules
//! 1. What came from outside goes through [`Esc`], in text and in attributes alike.
//! 2. Every element is closed and every attribute quoted: the page is well-formed XML but for its first line.
//!
//! Not here: what is shown (`tables`, `chart`), what it says (`summary`).

use std::fmt::{self, Write as _};

/// Characters that one word from outside may have; the end of a longer one is an ellipsis. A reason may
/// carry what a server printed.
pub(super) const WORD_CHARS_MAX: usize = 600;

/// Text as it stands in markup: the five characters of XML 1.0 (section 4.6) are references, and what XML
/// does not allow at all, or what turns the direction of writing, is `?`.
pub(super) struct Esc<'a>(pub(super) &'a str);

impl fmt::Display for Esc<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, c) in self.0.chars().enumerate() {
            if at == WORD_CHARS_MAX {
                return f.write_char('…');
            }
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if is_harmful(c) => f.write_char('?')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// C0 and C1 controls, what XML forbids, line separators, and the controls of writing direction (Unicode
/// TR9, section 2).
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{fffe}' | '\u{ffff}')
}

/// Three significant digits: `0.0123`, `1.86`, `48.9`, `12,300`; `-` of what is not a number.
pub(super) fn three(number: f64) -> String {
    digits(number, 3)
}

/// So many significant digits, as [`three`].
pub(super) fn digits(number: f64, count: u8) -> String {
    if !number.is_finite() {
        return "-".into();
    }
    if number == 0.0 {
        return "0".into();
    }
    let last = f64::from(count) - 1.0;
    let magnitude = |number: f64| number.abs().log10().floor();
    let unit = 10f64.powf(magnitude(number) - last);
    let rounded = (number / unit).round() * unit;
    // Rounding may carry into one more digit, 9.996 is 10.0, and end a hair below it.
    let decimals = last - magnitude(rounded * 1.000_000_1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 12")]
    let decimals = decimals.clamp(0.0, 12.0) as usize;
    commas(&format!("{rounded:.decimals$}"))
}

/// As [`three`], without zeros at the end that say nothing: for bounds and ticks, which are round by choice.
pub(super) fn round(number: f64) -> String {
    let text = three(number);
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// `812`, `48.9k`, `1.20M`.
pub(super) fn compact(number: f64) -> String {
    for (unit, name) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        // 999.6 k is 1.00 M.
        if number.abs() >= unit * 0.9995 {
            return format!("{}{name}", three(number / unit));
        }
    }
    three(number)
}

/// A whole number with a comma at every third digit.
pub(super) fn thousands(number: f64) -> String {
    commas(&format!("{number:.0}"))
}

/// Puts them before the point, if there is one.
fn commas(number: &str) -> String {
    let (whole, fraction) = number.split_at(number.find('.').unwrap_or(number.len()));
    let (sign, whole) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut text = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

/// `1 round`, `5 rounds`.
pub(super) fn plural(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_words_from_outside_is_text() {
        let text = Esc("<b a='1' c=\"2\">&amp;\u{0}\u{202e}").to_string();
        assert_eq!(text, "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;amp;??");
    }

    #[test]
    fn a_word_is_cut_one_past_its_longest() {
        assert_eq!(Esc(&"x".repeat(WORD_CHARS_MAX)).to_string().len(), WORD_CHARS_MAX);
        assert!(Esc(&"x".repeat(WORD_CHARS_MAX + 1)).to_string().ends_with("x…"));
    }

    #[test]
    fn numbers_have_three_significant_digits_whatever_their_size() {
        let cases = [
            (0.0, "0"),
            (0.000_123_4, "0.000123"),
            (0.85, "0.850"),
            (1.8649, "1.86"),
            (9.996, "10.0"),
            (99.95, "100"),
            (12_345.0, "12,300"),
            (999_600.0, "1,000,000"),
            (-4_321.0, "-4,320"),
            (f64::NAN, "-"),
            (f64::INFINITY, "-"),
        ];
        for (number, text) in cases {
            assert_eq!(three(number), text, "{number}");
        }
        assert_eq!((round(0.85).as_str(), round(1.0).as_str(), round(100.0).as_str()), ("0.85", "1", "100"));
    }

    #[test]
    fn rates_are_short_and_carry_into_the_next_unit() {
        assert_eq!([812.0, 48_900.0, 999_600.0, 2.31e9].map(compact), ["812", "48.9k", "1.00M", "2.31G"]);
    }
}
