//! Extended: the arithmetic of INCRBYFLOAT and HINCRBYFLOAT, to the last digit as Redis has it on x86-64.
//!
//! Redis adds in C's `long double`, which is there the extended format of the x87: 64 bits of mantissa, 15 of exponent.
//! It prints by `%.17Lf` and drops trailing zeros. A double would give other digits: 0.1 + 0.2 is
//! 0.30000000000000004 in doubles and 0.3 here.
//!
//! # Rules
//! 1. Each step is exact, then rounded once to 64 bits, to the nearest, to even at a tie.
//! 2. Below 2^-16382 the x87 has fewer bits. Here it has all of them, since nothing of such a number is ever printed.
//!
//! Not here: doubles, as sorted sets have them (`parse::float`).

use super::parse;

/// Bytes that a number may have as text, as in Redis.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;
/// No number is at or above two to this.
const POWER_MAX: i64 = 16_384;
/// Nothing is left of a number at or below two to this.
const POWER_MIN: i64 = -16_446;
/// Bits of a quotient that are enough to round it.
const QUOTIENT_BITS: u64 = 66;
/// Decimal places that are printed.
const PLACES: usize = 17;

/// A number: `mantissa` (its highest bit set, or all of it 0) times two to `exponent`; or infinite.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extended {
    negative: bool,
    infinite: bool,
    mantissa: u64,
    exponent: i64,
}

impl From<i64> for Extended {
    fn from(value: i64) -> Extended {
        Extended::rounded(value < 0, u128::from(value.unsigned_abs()), false, 0)
    }
}

impl Extended {
    /// What `strtold` reads: decimal, hexadecimal or `inf`, all of `text`. None for what is no number, too large, or so
    /// small that nothing is left of it.
    ///
    /// Takes time with the square of its digits, of which there are at most some 5,000: some milliseconds.
    pub fn parse(text: &[u8]) -> Option<Extended> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let (negative, digits) = parse::signed(text);
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(Extended { negative, infinite: true, ..Extended::default() });
        }
        let (value, is_zero) = if let [b'0', b'x' | b'X', hex @ ..] = digits {
            let (mantissa, sticky, exponent) = parse::hexadecimal_parts(hex, 70)?;
            (Extended::rounded(negative, mantissa, sticky, exponent), mantissa == 0)
        } else {
            decimal(negative, digits)?
        };
        (!value.infinite && (is_zero || value.mantissa != 0)).then_some(value)
    }

    /// `mantissa` and a bit of what follows it, times two to `exponent`, rounded by rule 1. With `sticky` it has more
    /// than 64 bits.
    fn rounded(negative: bool, mantissa: u128, sticky: bool, exponent: i64) -> Extended {
        let zero = Extended { negative, ..Extended::default() };
        if mantissa == 0 {
            return zero;
        }
        let bits = 128 - mantissa.leading_zeros();
        debug_assert!(!sticky || bits > 64);
        let mut exponent = exponent + i64::from(bits) - 64;
        let mut kept = if bits <= 64 { mantissa << (64 - bits) } else { mantissa >> (bits - 64) };
        if bits > 64 {
            let (half, tail) = (1_u128 << (bits - 65), mantissa & ((1 << (bits - 64)) - 1));
            kept += u128::from(tail > half || (tail == half && (sticky || kept & 1 == 1)));
            if kept >> 64 != 0 {
                (kept, exponent) = (kept >> 1, exponent + 1);
            }
        }
        let top = exponent + 63;
        if top >= POWER_MAX {
            return Extended { infinite: true, ..zero };
        }
        let kept = u64::try_from(kept).unwrap_or(u64::MAX);
        if top < POWER_MIN || (top == POWER_MIN && kept == 1 << 63) {
            return zero;
        }
        Extended { negative, infinite: false, mantissa: kept, exponent }
    }

    /// The sum. Infinite where it is too large, or one of them is.
    #[must_use]
    pub fn plus(self, other: Extended) -> Extended {
        if self.infinite || other.mantissa == 0 && !other.infinite {
            return self;
        }
        if other.infinite || self.mantissa == 0 {
            return other;
        }
        let size = |one: Extended| (one.exponent, one.mantissa);
        let (large, small) = if size(self) >= size(other) { (self, other) } else { (other, self) };
        // 62 bits behind the last one of the larger; what the smaller has beyond them can only break a tie.
        let (a, b) = (u128::from(large.mantissa) << 62, u128::from(small.mantissa) << 62);
        let shift = u32::try_from(large.exponent - small.exponent).unwrap_or(u32::MAX);
        let shifted = b.checked_shr(shift).unwrap_or(0);
        let sticky = shifted.checked_shl(shift).unwrap_or(0) != b;
        let sum =
            if large.negative == small.negative { a + shifted } else { a - shifted - u128::from(sticky) };
        if sum == 0 {
            return Extended::default();
        }
        Extended::rounded(large.negative, sum, sticky, large.exponent - 62)
    }

    /// As `%.17Lf` prints it, without trailing zeros, without the minus of a zero. None if it is infinite.
    pub fn text(self) -> Option<String> {
        if self.infinite {
            return None;
        }
        let (mut whole, mut places) = (String::from("0"), 0);
        if self.exponent >= 0 {
            whole = Large::from(u128::from(self.mantissa)).shifted(self.exponent.unsigned_abs()).decimal();
        } else if self.exponent > -123 {
            let shift = self.exponent.unsigned_abs();
            let mantissa = u128::from(self.mantissa);
            let scaled = (mantissa & ((1 << shift) - 1)) * 10_u128.pow(17);
            let (kept, tail, half) = (scaled >> shift, scaled & ((1 << shift) - 1), 1 << (shift - 1));
            places = kept + u128::from(tail > half || (tail == half && kept & 1 == 1));
            let carry = u128::from(places == 10_u128.pow(17));
            places *= 1 - carry;
            whole = ((mantissa >> shift) + carry).to_string();
        }
        let sign = if self.negative && (whole != "0" || places != 0) { "-" } else { "" };
        if places == 0 {
            return Some(format!("{sign}{whole}"));
        }
        let text = format!("{sign}{whole}.{places:0PLACES$}");
        Some(text.trim_end_matches('0').to_owned())
    }
}

/// A decimal number without its sign, and whether it is zero.
fn decimal(negative: bool, text: &[u8]) -> Option<(Extended, bool)> {
    let (mut digits, mut exponent, mut count, mut point) = (Large::default(), 0_i64, 0_i64, false);
    let mut rest = text;
    while let [byte, more @ ..] = rest {
        match byte {
            b'0'..=b'9' => {
                digits.multiply_add(10, u32::from(byte - b'0'));
                count += i64::from(!digits.is_zero());
                exponent -= i64::from(point);
            }
            b'.' if !point => point = true,
            _ => break,
        }
        rest = more;
    }
    if text.len() - rest.len() == usize::from(point) {
        return None;
    }
    if let [b'e' | b'E', power @ ..] = rest {
        let (below, power) = parse::signed(power);
        if power.is_empty() || !power.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let power = power.iter().fold(0_i64, |all, digit| (all * 10 + i64::from(digit - b'0')).min(1 << 40));
        exponent += if below { -power } else { power };
    } else if !rest.is_empty() {
        return None;
    }
    let zero = Extended { negative, ..Extended::default() };
    if digits.is_zero() {
        return Some((zero, true));
    }
    // 10^4932 is below 2^16384 and 10^4933 is not; nothing is left below 10^-4951.
    if count + exponent > 4_934 {
        return Some((Extended { infinite: true, ..zero }, false));
    }
    if count + exponent < -4_960 {
        return Some((zero, false));
    }
    let mut scale = Large::from(1);
    let power = exponent.unsigned_abs();
    (0..power / 9).for_each(|_| scale.multiply_add(1_000_000_000, 0));
    (0..power % 9).for_each(|_| scale.multiply_add(10, 0));
    if exponent >= 0 {
        let (top, sticky, power) = digits.times(&scale).top();
        return Some((Extended::rounded(negative, top, sticky, power), false));
    }
    // The highest bits of the quotient, one by one; the rest of the dividend says whether more follow.
    let shift = (scale.bits() + QUOTIENT_BITS).saturating_sub(digits.bits());
    let mut dividend = digits.shifted(shift);
    let steps = dividend.bits() - scale.bits() + 1;
    let mut divisor = scale.shifted(steps - 1);
    let mut quotient = 0_u128;
    let taken = steps.min(QUOTIENT_BITS + 2);
    for _ in 0..taken {
        quotient = quotient << 1 | u128::from(dividend.subtract(&divisor));
        divisor.halve();
    }
    let exponent = i64::try_from(steps - taken).ok()? - i64::try_from(shift).ok()?;
    Some((Extended::rounded(negative, quotient, !dividend.is_zero(), exponent), false))
}

/// A whole number of any size, in 32 bits at a time, the lowest first, the highest not 0.
#[derive(Clone, Debug, Default)]
struct Large(Vec<u32>);

impl From<u128> for Large {
    fn from(mut value: u128) -> Large {
        let mut parts = Vec::new();
        while value != 0 {
            parts.push((value & 0xffff_ffff) as u32);
            value >>= 32;
        }
        Large(parts)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "32 bits of a number, the others going elsewhere")]
impl Large {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> u64 {
        self.0.last().map_or(0, |top| 32 * self.0.len() as u64 - u64::from(top.leading_zeros()))
    }

    fn multiply_add(&mut self, factor: u32, more: u32) {
        let mut carry = u64::from(more);
        for part in &mut self.0 {
            carry += u64::from(*part) * u64::from(factor);
            *part = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
    }

    fn times(&self, other: &Large) -> Large {
        let mut product = vec![0_u32; self.0.len() + other.0.len()];
        for (n, a) in self.0.iter().enumerate() {
            let mut carry = 0_u64;
            for (m, b) in other.0.iter().enumerate() {
                carry += u64::from(product[n + m]) + u64::from(*a) * u64::from(*b);
                product[n + m] = carry as u32;
                carry >>= 32;
            }
            product[n + other.0.len()] = carry as u32;
        }
        Large::trimmed(product)
    }

    fn trimmed(mut parts: Vec<u32>) -> Large {
        while parts.last() == Some(&0) {
            parts.pop();
        }
        Large(parts)
    }

    fn shifted(&self, by: u64) -> Large {
        let mut parts = vec![0; by as usize / 32];
        let by = by % 32;
        let mut carry = 0_u64;
        for part in &self.0 {
            carry |= u64::from(*part) << by;
            parts.push(carry as u32);
            carry >>= 32;
        }
        parts.push(carry as u32);
        Large::trimmed(parts)
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for part in self.0.iter_mut().rev() {
            let low = *part & 1;
            *part = *part >> 1 | carry << 31;
            carry = low;
        }
        if self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// Takes `other` away if it is not larger; whether it was not.
    fn subtract(&mut self, other: &Large) -> bool {
        let is_less = self.0.len() < other.0.len()
            || (self.0.len() == other.0.len() && self.0.iter().rev().lt(other.0.iter().rev()));
        if is_less {
            return false;
        }
        let mut borrow = false;
        for (n, part) in self.0.iter_mut().enumerate() {
            let (less, first) = part.overflowing_sub(other.0.get(n).copied().unwrap_or(0));
            let (less, second) = less.overflowing_sub(u32::from(borrow));
            *part = less;
            borrow = first || second;
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        true
    }

    /// Its highest bits, up to 128 of them, whether any other is set, and the power of two of the last one.
    fn top(&self) -> (u128, bool, i64) {
        let from = self.0.len().saturating_sub(4);
        let top = self.0[from..].iter().rev().fold(0, |all, part| all << 32 | u128::from(*part));
        let sticky = self.0[..from].iter().any(|part| *part != 0);
        (top, sticky, 32 * from as i64)
    }

    fn decimal(mut self) -> String {
        let mut groups = Vec::new();
        while !self.is_zero() {
            let mut rest = 0_u64;
            for part in self.0.iter_mut().rev() {
                rest = rest << 32 | u64::from(*part);
                *part = (rest / 1_000_000_000) as u32;
                rest %= 1_000_000_000;
            }
            while self.0.last() == Some(&0) {
                self.0.pop();
            }
            groups.push(rest);
        }
        let mut text = groups.pop().map_or_else(|| String::from("0"), |first| first.to_string());
        groups.iter().rev().for_each(|group| text.push_str(&format!("{group:09}")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_the_digits_of_redis_on_x86() {
        for (a, b, sum) in [
            ("0.1", "0.2", "0.3"),
            ("3.0e3", "200", "3200"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1", "0"),
            ("-0.0", "0", "0"),
            ("0", "-1e-30", "0"),
            ("1e17", "0.5", "100000000000000000.5"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("0x10", "0x.8", "16.5"),
            ("1e30", "1", "1000000000000000000024696061952"),
            ("0.00000000000000001", "0", "0.00000000000000001"),
            ("0.000000000000000001", "0", "0"),
        ] {
            let read = |text: &str| Extended::parse(text.as_bytes()).expect(text);
            assert_eq!(read(a).plus(read(b)).text().as_deref(), Some(sum), "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", " 1", "1 ", "nan", "1e5000", "-1e5000", "1e-5000", "0x", "1e", ".", ".e1", "e1", "1.2.3", "-",
        ] {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Extended::parse(&[b'1'; TEXT_LEN_MAX + 1]), None);
        assert!(Extended::parse(&[b'0'; TEXT_LEN_MAX]).is_some());
        let infinite = Extended::parse(b"-inf").expect("inf is a number");
        assert_eq!(infinite.text(), None);
        assert_eq!(infinite.plus(Extended::from(1)).text(), None);
        let largest = Extended::parse(b"1.1e4932").expect("a large number");
        assert_eq!(largest.plus(largest).text(), None);
    }

    #[test]
    fn a_number_as_long_as_may_be_is_read() {
        let text = [&b"0."[..], &[b'7'; 5000], b"e-40"].concat();
        let read = Extended::parse(&text).expect("a number");
        assert_eq!(read, Extended::parse(&[&b"0."[..], &[b'7'; 90], b"e-40"].concat()).expect("a number"));
    }
}
