//! Words to numbers, and numbers to words: rates, durations, sizes, counts, shares.
//!
//! # Rules
//! 1. What is parsed is exact: `0.1us` is 100 ns, and no digit is dropped in silence. Where a unit is not
//!    understood or a number does not fit, the error says what to write.
//! 2. What is printed has three significant digits and one unit. It is for people: machines get whole
//!    nanoseconds.
//! 3. Nothing is rounded into a claim: a share above 0 is never `0%`, one below 1 never `100%`, a lower bound
//!    says so.
//!
//! Not here: which option takes which unit (the command line), tables and colours (`report`).

use crate::record::Value;

/// Requests a second above which a rate is refused: times are whole nanoseconds, and two requests in the same
/// one could not be told apart.
pub const RATE_MAX: f64 = 1e9;

/// Longest duration that is taken: ten years. Any sum of a few of them still fits an `u64` of nanoseconds.
pub const DURATION_NS_MAX: u64 = 10 * 365 * 24 * NS_HOUR;

/// Percentiles that one list may hold: a table with more of them is not read by anyone.
pub const PERCENTILES_MAX: usize = 64;

/// Digits a number may have: 20 hold any `u64`.
const DIGITS_MAX: usize = 20;

const NS_US: u64 = 1_000;
const NS_MS: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const NS_S: u64 = 1_000_000_000;
const NS_MIN: u64 = 60 * NS_S;
const NS_HOUR: u64 = 60 * NS_MIN;

/// A decimal number as it was written: `mantissa / 10^decimals`.
#[derive(Clone, Copy, Debug)]
struct Decimal {
    mantissa: u128,
    decimals: u32,
}

impl Decimal {
    /// Takes the number off the front of `text`: digits with at most one point among them. No sign, no
    /// exponent.
    fn take(text: &str) -> Option<(Decimal, &str)> {
        let len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, rest) = text.split_at(len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = whole.len() + fraction.len();
        if digits == 0 || digits > DIGITS_MAX || fraction.contains('.') {
            return None;
        }
        let mut mantissa = 0u128;
        for digit in whole.bytes().chain(fraction.bytes()) {
            mantissa = mantissa * 10 + u128::from(digit - b'0');
        }
        Some((Decimal { mantissa, decimals: u32::try_from(fraction.len()).ok()? }, rest))
    }

    /// Times `unit`, to the nearest whole; `None` if that does not fit.
    fn times(self, unit: u64) -> Option<u64> {
        let ten = 10u128.pow(self.decimals);
        let product = self.mantissa.checked_mul(u128::from(unit))?;
        u64::try_from(product.checked_add(ten / 2)? / ten).ok()
    }

    /// Times `unit`, where that is a whole number that fits.
    fn times_exactly(self, unit: u64) -> Option<u64> {
        let product = self.mantissa.checked_mul(u128::from(unit))?;
        let ten = 10u128.pow(self.decimals);
        if product % ten == 0 { u64::try_from(product / ten).ok() } else { None }
    }
}

/// What was written, shortened and without control characters: it goes into error texts.
pub(crate) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let mut shown: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

/// Parses requests a second: `200`, `50k`, `1.5M`, `3000/s`. Above 0, at most [`RATE_MAX`].
///
/// # Errors
/// A text that says what to write instead.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = parse_rate_or_zero(text)?;
    if rate == 0.0 {
        return Err(format!(
            "rate {} is zero: write how many requests a second, for example 50k",
            quoted(text)
        ));
    }
    Ok(rate)
}

/// As [`parse_rate`], but a rate of 0 is one: a ramp may start there.
///
/// # Errors
/// A text that says what to write instead.
pub fn parse_rate_or_zero(text: &str) -> Result<f64, String> {
    let wrong = || {
        let quoted = quoted(text);
        format!(
            "rate {quoted} is not understood: write requests a second, for example 200, 50k, 1.5M or 3000/s"
        )
    };
    let trimmed = text.trim();
    if trimmed.starts_with('-') {
        return Err(format!("rate {} is negative: write a rate above zero, for example 50k", quoted(text)));
    }
    let number = trimmed.strip_suffix("/s").unwrap_or(trimmed).trim_end();
    let unit_at = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
    let (digits, unit) = number.split_at(unit_at);
    let unit = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "m" => {
            return Err(format!(
                "rate {}: \"m\" could be milli or mega; write M for a million",
                quoted(text)
            ));
        }
        _ => return Err(wrong()),
    };
    if digits.is_empty() {
        return Err(wrong());
    }
    // The digits of a float that `Display` wrote read back as the same float.
    let rate = digits.parse::<f64>().map_err(|_| wrong())? * unit;
    if rate > RATE_MAX {
        return Err(format!(
            "rate {} is above 1G/s, the most that times in nanoseconds tell apart",
            quoted(text)
        ));
    }
    Ok(rate)
}

/// Parses a duration to nanoseconds: `250ms`, `10s`, `1m30s`, `2h`, `5us`, `0.5s`; a bare number is seconds.
/// Zero is a duration. Parts of a nanosecond are rounded.
///
/// # Errors
/// A text that says what to write instead; also above [`DURATION_NS_MAX`].
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = |what: &str| {
        format!("duration {} {what}: write for example 10s, 250ms, 1m30s, 5us or 2h", quoted(text))
    };
    let mut rest = text.trim();
    if rest.starts_with('-') {
        return Err(wrong("is negative"));
    }
    let (mut total, mut last_unit) = (0u64, u64::MAX);
    loop {
        let (number, after) = Decimal::take(rest).ok_or_else(|| wrong("is not understood"))?;
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let unit = match unit.trim() {
            "ns" => 1,
            "us" | "µs" | "μs" => NS_US,
            "ms" => NS_MS,
            "s" => NS_S,
            "m" | "min" => NS_MIN,
            "h" => NS_HOUR,
            "" if last_unit == u64::MAX => NS_S,
            "" => return Err(wrong("ends without a unit")),
            _ => return Err(wrong("has a unit that is not known")),
        };
        if unit >= last_unit {
            return Err(wrong("does not go from the larger unit to the smaller"));
        }
        total = number
            .times(unit)
            .and_then(|ns| total.checked_add(ns))
            .filter(|&ns| ns <= DURATION_NS_MAX)
            .ok_or_else(|| wrong("is longer than ten years"))?;
        (last_unit, rest) = (unit, next);
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

/// Parses bytes: `512`, `4k` and `4KiB` (4096), `4kB` (4000), `1M`, `1MiB`, `2G`. A whole number of bytes.
///
/// # Errors
/// A text that says what to write instead.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong =
        |what: &str| format!("size {} {what}: write bytes, for example 512, 4k or 1MiB", quoted(text));
    let (number, unit) = Decimal::take(text.trim()).ok_or_else(|| wrong("is not understood"))?;
    let unit = match unit.trim() {
        "" | "B" => 1,
        "k" | "K" | "KiB" | "kiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong("has a unit that is not known")),
    };
    number.times_exactly(unit).ok_or_else(|| wrong("is not a whole number of bytes that fits 64 bits"))
}

/// Parses a count: `64`, `100k`, `1.5M`. A whole number.
///
/// # Errors
/// A text that says what to write instead.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let wrong = |what: &str| format!("count {} {what}: write for example 64, 100k or 1.5M", quoted(text));
    let (number, unit) = Decimal::take(text.trim()).ok_or_else(|| wrong("is not understood"))?;
    let unit = match unit.trim() {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return Err(wrong("has a unit that is not known")),
    };
    number.times_exactly(unit).ok_or_else(|| wrong("is not a whole number that fits 64 bits"))
}

/// Parses percentiles: `50,99.5`, `p50,p99`. Each above 0 and at most 100; at most [`PERCENTILES_MAX`].
///
/// # Errors
/// A text that says what to write instead.
pub fn parse_percentiles(text: &str) -> Result<Vec<f64>, String> {
    let parts = text.split(',').count();
    if parts > PERCENTILES_MAX {
        return Err(format!("{parts} percentiles: at most {PERCENTILES_MAX} are taken; leave some out"));
    }
    text.split(',').map(parse_percentile).collect()
}

fn parse_percentile(text: &str) -> Result<f64, String> {
    let trimmed = text.trim();
    let number = trimmed.strip_prefix(['p', 'P']).unwrap_or(trimmed);
    // No sign and no exponent, as everywhere here.
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match number.parse::<f64>() {
        Ok(percent) if plain && percent > 0.0 && percent <= 100.0 => Ok(percent),
        Ok(percent) if plain && percent > 100.0 => {
            Err(format!("percentile {} is above 100: for 99.9 write 99.9, not 999", quoted(text)))
        }
        _ => Err(format!(
            "percentile {} is not above 0 and at most 100: write for example 50,99,99.9",
            quoted(text)
        )),
    }
}

/// Parses a part of a whole: `90%`, or `0.9`; `0%` and `100%` are parts, too.
///
/// # Errors
/// A text that says what to write instead. A bare 1 is refused: it may be meant as percent.
pub fn parse_part(text: &str) -> Result<f64, String> {
    if text.trim().strip_suffix('%').is_some_and(|number| number.trim_end().parse() == Ok(100.0)) {
        return Ok(1.0);
    }
    parse_share(text).map_err(|error| error.replace("is met by anything", "is more than all"))
}

/// Parses a share: `0.1%`, or `0.001`. At least 0 and below 1.
///
/// # Errors
/// A text that says what to write instead. A bare 1 or more is refused: it may be meant as percent.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let wrong = |what: &str| format!("share {} {what}: write for example 0.1% or 0.001", quoted(text));
    let trimmed = text.trim();
    let (number, of) = match trimmed.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (trimmed, 1.0),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wrong("is not understood"));
    }
    let share = number.parse::<f64>().map_err(|_| wrong("is not understood"))? / of;
    match share < 1.0 {
        true => Ok(share),
        false if of == 1.0 => Err(wrong("may be meant as percent")),
        false => Err(wrong("is met by anything")),
    }
}

/// `number` with three significant digits, for a number from 0 to 999.
fn three(number: f64) -> String {
    match number {
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

/// A duration for people: `812 ns`, `34.1 us`, `1.27 ms`, `2.00 s`, `2.50 min`, `3.00 h`.
pub fn duration(ns: u64) -> String {
    if ns < NS_US {
        return format!("{ns} ns");
    }
    // A unit is left at what would be rounded to the first that is too long for it.
    let units = [
        (NS_US, 999.5, "us"),
        (NS_MS, 999.5, "ms"),
        (NS_S, 119.5, "s"),
        (NS_MIN, 119.5, "min"),
        (NS_HOUR, f64::INFINITY, "h"),
    ];
    for (unit, below, name) in units {
        let number = ns as f64 / unit as f64;
        if number < below {
            return format!("{} {name}", three(number));
        }
    }
    unreachable!("the last unit has no end")
}

/// A duration without loss, in the largest unit that divides it: `5ms`, `1500us`, `90s`. [`parse_duration`]
/// reads it.
pub fn duration_exact(ns: u64) -> String {
    let (unit, name) = exact_unit(ns);
    format!("{}{name}", ns / unit)
}

/// As [`duration_exact`], with a space, for people: `5 ms`.
pub fn duration_exact_spaced(ns: u64) -> String {
    let (unit, name) = exact_unit(ns);
    format!("{} {name}", ns / unit)
}

fn exact_unit(ns: u64) -> (u64, &'static str) {
    let units = [(NS_S, "s"), (NS_MS, "ms"), (NS_US, "us")];
    if ns == 0 {
        return (NS_S, "s");
    }
    units.into_iter().find(|(unit, _)| ns.is_multiple_of(*unit)).unwrap_or((1, "ns"))
}

/// A latency for people: as [`duration`], with `>= ` before a lower bound.
pub fn value(value: Value) -> String {
    match value {
        Value::Exact(ns) => duration(ns),
        Value::AtLeast(ns) => format!(">= {}", duration(ns)),
    }
}

/// Three significant digits and the first of `units` (each `step` times the one before) that keeps the number
/// short.
fn scaled(number: f64, step: f64, units: &[&'static str]) -> (String, &'static str) {
    if !number.is_finite() || number < 0.0 {
        return ("?".into(), units[0]);
    }
    if number == 0.0 {
        return ("0".into(), units[0]);
    }
    if number < 0.995 {
        // 0.0123: as many decimals as it takes to the third digit.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 20
        let decimals = (2.0 - number.log10().floor()).clamp(0.0, 20.0) as usize;
        return (format!("{number:.decimals$}"), units[0]);
    }
    let mut number = number;
    for (at, unit) in units.iter().enumerate() {
        if number < 999.5 || at + 1 == units.len() {
            return (three(number), unit);
        }
        number /= step;
    }
    unreachable!("the last unit returns")
}

/// A rate for people: `812/s`, `48.9k/s`, `1.20M/s`; `?/s` for what is no rate.
pub fn rate(rate: f64) -> String {
    let (number, unit) = scaled(rate, 1000.0, &["", "k", "M", "G"]);
    format!("{number}{unit}/s")
}

/// Bytes for people, in powers of 1024: `812 B`, `34.1 KiB`, `1.20 MiB`.
pub fn bytes(bytes: f64) -> String {
    // Whole bytes need no digits after the point.
    if bytes.fract() == 0.0 && (0.0..999.5).contains(&bytes) {
        return format!("{bytes:.0} B");
    }
    let (number, unit) = scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
    format!("{number} {unit}")
}

/// Bytes a second for people: `34.1 MiB/s`.
pub fn bytes_rate(rate: f64) -> String {
    format!("{}/s", bytes(rate))
}

/// A count for people: `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share, 0 to 1, for people: `0.1%`, `12.5%`, `<0.001%`, `>99.99%`. `0%` and `100%` are exactly that.
pub fn percent(share: f64) -> String {
    let number = share * 100.0;
    if !number.is_finite() || number < 0.0 {
        return "?%".into();
    }
    let text = match number {
        0.0 => return "0%".into(),
        n if n < 0.001 => return "<0.001%".into(),
        n if share < 1.0 && n > 99.99 => return ">99.99%".into(),
        n if n < 0.01 => format!("{n:.5}"),
        n if n < 0.1 => format!("{n:.4}"),
        n if n < 1.0 => format!("{n:.3}"),
        n if n < 9.995 || (99.0..100.0).contains(&n) => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    };
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short}%")
}

#[cfg(test)]
mod tests;
