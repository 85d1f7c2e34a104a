//! Arguments of commands as numbers and words, by the rules of Redis and with its errors.
//!
//! # Rules
//! 1. An integer is what Redis' `string2ll` takes: decimal digits in their shortest form, perhaps behind a minus. No
//!    plus, no blanks, no leading zeros.
//! 2. A float is what `strtod` takes in the C locale, all of it: decimal or hexadecimal, `inf` and `infinity` in any
//!    case of letters. Not a number, too large for a double, or so small that nothing is left of it is refused.
//!
//! Not here: ranges of scores and of text (the commands that have them), options of the SCAN family (`scan`).

use super::Reply;

/// For an option that is unknown, doubled, or does not go with another.
pub const SYNTAX: &str = "ERR syntax error";
/// For an integer that is none.
pub const NOT_INTEGER: &str = "ERR value is not an integer or out of range";
/// For a float that is none.
pub const NOT_FLOAT: &str = "ERR value is not a valid float";
/// For an integer below zero where none may be.
pub const NOT_POSITIVE: &str = "ERR value is out of range, must be positive";
/// For a key that is not there, where the command needs one.
pub const NO_SUCH_KEY: &str = "ERR no such key";

/// Digits of the longest integer, its minus among them.
const INTEGER_LEN_MAX: usize = 20;

/// Whether `word` is the option `name`, in any case of letters.
#[inline]
pub fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// An integer by rule 1.
#[inline]
pub fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [] => return None,
        [b'0'] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if text.len() > INTEGER_LEN_MAX || !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    let mut value: u64 = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative { 0_i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// An integer, or the error that says it is none.
#[inline]
pub fn integer_or_reply(reply: &mut Reply, text: &[u8]) -> Option<i64> {
    let value = integer(text);
    if value.is_none() {
        reply.error(NOT_INTEGER);
    }
    value
}

/// An integer from 0 on, or the error that says it is none. What is no integer at all gets the same error, as in Redis.
pub fn positive_or_reply(reply: &mut Reply, text: &[u8]) -> Option<i64> {
    within_or_reply(reply, text, 0, i64::MAX, Some(NOT_POSITIVE))
}

/// An integer from `min` to `max`. Anything else gets `error`; without one, Redis' usual errors.
pub fn within_or_reply(
    reply: &mut Reply,
    text: &[u8],
    min: i64,
    max: i64,
    error: Option<&str>,
) -> Option<i64> {
    let value = integer(text);
    match (value, error) {
        (Some(value), _) if (min..=max).contains(&value) => return Some(value),
        (_, Some(error)) => reply.error(error),
        (None, None) => reply.error(NOT_INTEGER),
        (Some(_), None) => {
            reply.error(format_args!("ERR value is out of range, value must between {min} and {max}"));
        }
    }
    None
}

/// A float by rule 2.
pub fn float(text: &[u8]) -> Option<f64> {
    let (negative, digits) = signed(text);
    if let [b'0', b'x' | b'X', hex @ ..] = digits {
        return hexadecimal(hex).map(|value| if negative { -value } else { value });
    }
    // Rust takes what C takes, but for hexadecimal numbers; in UTF-8 alone, which every float is.
    let value = std::str::from_utf8(text).ok()?.parse::<f64>().ok()?;
    let is_named = digits.first().is_some_and(u8::is_ascii_alphabetic);
    let is_lost = (value.is_infinite() && !is_named) || (value == 0.0 && has_digit(digits));
    (!value.is_nan() && !is_lost).then_some(value)
}

/// A float, or the error that says it is none.
pub fn float_or_reply(reply: &mut Reply, text: &[u8]) -> Option<f64> {
    let value = float(text);
    if value.is_none() {
        reply.error(NOT_FLOAT);
    }
    value
}

/// Whether there is a minus, and what stands behind the sign.
pub(super) fn signed(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// Whether a decimal number has another digit than 0 before its exponent.
fn has_digit(decimal: &[u8]) -> bool {
    decimal.iter().take_while(|byte| !matches!(byte, b'e' | b'E')).any(|byte| matches!(byte, b'1'..=b'9'))
}

/// A hexadecimal float behind its `0x`: its first bits, whether more follow, and the power of two of the last bit.
///
/// At least 61 bits are kept where there are so many, which is enough to round to a double, but not to an extended
/// number: `bits` says how many to keep.
pub(super) fn hexadecimal_parts(text: &[u8], bits: u32) -> Option<(u128, bool, i64)> {
    let (mut mantissa, mut sticky, mut exponent, mut digits, mut point) = (0_u128, false, 0_i64, 0, false);
    let mut rest = text;
    while let [byte, more @ ..] = rest {
        match (char::from(*byte).to_digit(16), byte) {
            (Some(digit), _) => {
                digits += 1;
                if mantissa >> bits == 0 {
                    mantissa = mantissa << 4 | u128::from(digit);
                    exponent -= if point { 4 } else { 0 };
                } else {
                    sticky |= digit != 0;
                    exponent += if point { 0 } else { 4 };
                }
            }
            (None, b'.') if !point => point = true,
            _ => break,
        }
        rest = more;
    }
    if digits == 0 {
        return None;
    }
    if let [b'p' | b'P', power @ ..] = rest {
        let (negative, power) = signed(power);
        if power.is_empty() || !power.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // Beyond a million it makes no difference.
        let power = power.iter().fold(0_i64, |all, digit| (all * 10 + i64::from(digit - b'0')).min(1 << 40));
        exponent += if negative { -power } else { power };
    } else if !rest.is_empty() {
        return None;
    }
    Some((mantissa, sticky, exponent))
}

fn hexadecimal(text: &[u8]) -> Option<f64> {
    let (mantissa, sticky, exponent) = hexadecimal_parts(text, 64)?;
    if mantissa == 0 {
        return Some(0.0);
    }
    let bits = i64::from(128 - mantissa.leading_zeros());
    // The place of the last bit that a double can keep of this number: 53 bits, fewer below 2^-1022.
    let last = (exponent + bits - 53).max(-1074);
    let drop = last - exponent;
    let kept = if drop <= 0 {
        mantissa.checked_shl(u32::try_from(-drop).ok()?)?
    } else if drop > 127 {
        0
    } else {
        let (kept, half) = (mantissa >> drop, 1_u128 << (drop - 1));
        let tail = mantissa & ((1 << drop) - 1);
        let up = tail > half || (tail == half && (sticky || kept & 1 == 1));
        kept + u128::from(up)
    };
    #[expect(clippy::cast_precision_loss, reason = "it has 53 bits, or is the next power of two")]
    let mut value = kept as f64;
    let mut power = last;
    while power != 0 && value != 0.0 && value.is_finite() {
        let step = power.clamp(-1000, 1000);
        // Exact: `last` is a bit that the result has.
        value *= 2_f64.powi(i32::try_from(step).ok()?);
        power -= step;
    }
    (value != 0.0 && value.is_finite()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_decimal_and_as_short_as_can_be() {
        for (text, value) in [
            ("0", 0),
            ("-1", -1),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("1234567890", 1_234_567_890),
        ] {
            assert_eq!(integer(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "1.0",
            "a",
            "9223372036854775808",
            "-9223372036854775809",
            "100000000000000000000",
            "18446744073709551616",
            "1\0",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_float_is_what_strtod_takes() {
        for (text, value) in [
            ("1", 1.0),
            ("-1.5e3", -1500.0),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0x10", 16.0),
            ("-0X1.8p1", -3.0),
            ("0x.1", 0.0625),
            ("0x1p-1074", 5e-324),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000000000000000001p0", 1.000_000_000_000_000_2),
            ("0e999999", 0.0),
            ("4.9e-324", 5e-324),
            ("-0", 0.0),
        ] {
            assert_eq!(float(text.as_bytes()), Some(value), "{text}");
        }
        for text in
            ["", " 1", "1 ", "nan", "1e400", "-1e400", "1e-400", "0x", "0x1p", "0x1p99999", "1e", ".", "1,5"]
        {
            assert_eq!(float(text.as_bytes()), None, "{text}");
        }
    }
}
