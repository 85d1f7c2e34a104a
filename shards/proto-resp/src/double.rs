//! Double: numbers with a fraction as Redis 7.0 writes them, which is `%.17g` of printf(3): 17 significant
//! digits without trailing zeros, an exponent where it is below -4 or above 16.
//!
//! 17 digits tell every double from its neighbours, so that a client reads back the same one.
//!
//! Not here: the framing of a reply (`writer`).

use core::fmt::Write;

/// Longest: `-1.7976931348623157e+308` and `-0.00012345678901234567`, 24 bytes.
const TEXT_LEN_MAX: usize = 24;

/// Digits that are written, trailing zeros aside.
const DIGITS: usize = 17;

/// A double as text, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct DoubleText {
    bytes: [u8; TEXT_LEN_MAX],
    len: u8,
}

impl DoubleText {
    const EMPTY: Self = Self { bytes: [0; TEXT_LEN_MAX], len: 0 };

    /// The text.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
    }

    fn extend(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.push(*byte));
    }

    fn zeros(&mut self, count: usize) {
        (0..count).for_each(|_| self.push(b'0'));
    }

    /// Appends a number without leading zeros, and at least `width` digits of it.
    fn digits(&mut self, mut value: u64, width: usize) {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        while value > 0 || digits.len() - start < width {
            start -= 1;
            digits[start] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.extend(&digits[start..]);
    }
}

impl Write for DoubleText {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.extend(text.as_bytes());
        Ok(())
    }
}

/// Formats `value` as `%.17g` does: `3`, `3.1000000000000001`, `1e+17`, `-0`, `inf`, `-inf`, `nan` (for each
/// of them).
pub fn format_double(value: f64) -> DoubleText {
    let mut text = DoubleText::EMPTY;
    if value.is_nan() {
        text.extend(b"nan");
        return text;
    }
    if value.is_sign_negative() {
        text.push(b'-');
    }
    let value = value.abs();
    if value.is_infinite() {
        text.extend(b"inf");
    } else if value < 1e17 && value.fract() == 0.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number from 0 to 1e17"
        )]
        text.digits(value as u64, 1);
    } else {
        with_fraction(value, &mut text);
    }
    text
}

/// Appends a positive number that is not whole, or large.
fn with_fraction(value: f64, text: &mut DoubleText) {
    // `d.dddde-ddd` with all digits, rounded to even at a tie: libc and `core` agree on these.
    let mut scientific = DoubleText::EMPTY;
    if write!(scientific, "{value:.precision$e}", precision = DIGITS - 1).is_err() {
        return;
    }
    let scientific = scientific.as_bytes();
    let (mantissa, exponent) = scientific.split_at(DIGITS + 1);
    let exponent = core::str::from_utf8(&exponent[1..]).ok().and_then(|text| text.parse::<i32>().ok());
    let Some(exponent) = exponent else { return };
    let mut digits = [0; DIGITS];
    digits[0] = mantissa[0];
    digits[1..].copy_from_slice(&mantissa[2..]);
    let significant = DIGITS - digits.iter().rev().take_while(|digit| **digit == b'0').count();
    let digits = &digits[..significant];
    match usize::try_from(exponent) {
        // 1.5 to 12345678901234567: the point stands within the digits or behind the last.
        Ok(before) if before < DIGITS => {
            let (whole, fraction) = digits.split_at(digits.len().min(before + 1));
            text.extend(whole);
            text.zeros(before + 1 - whole.len());
            if !fraction.is_empty() {
                text.push(b'.');
                text.extend(fraction);
            }
        }
        Err(_) if exponent >= -4 => {
            text.extend(b"0.");
            text.zeros(exponent.unsigned_abs() as usize - 1);
            text.extend(digits);
        }
        _ => {
            text.extend(&digits[..1]);
            if let [_, fraction @ ..] = digits
                && !fraction.is_empty()
            {
                text.push(b'.');
                text.extend(fraction);
            }
            text.push(b'e');
            text.push(if exponent < 0 { b'-' } else { b'+' });
            text.digits(exponent.unsigned_abs().into(), 2);
        }
    }
}
