//! Number: the decimal numbers of RESP, read by a short way and a long one, and written.
//!
//! Not here: where a line ends (`parser`), doubles (`double`).

/// Reads `digits CR LF` at the start of `bytes`: the number and the bytes it took with its end.
///
/// The short way, for what clients send: at most 9 digits without a sign or a leading zero, and all there.
/// `None` says nothing about the rest; the long way ([`integer`]) judges it.
#[inline]
pub(crate) fn short(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = bytes.first()?.wrapping_sub(b'0');
    if first > 9 {
        return None;
    }
    let mut value = u32::from(first);
    for at in 1..=9 {
        let digit = bytes.get(at)?.wrapping_sub(b'0');
        if digit > 9 {
            return (bytes.get(at..at + 2)? == b"\r\n").then_some((value, at + 2));
        }
        if value == 0 || at == 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    None
}

/// The whole of `text` as a number of 64 bits: digits without leading zeros, perhaps behind a minus. No plus,
/// no blanks, no `-0`; that is what Redis takes.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [] => false,
        [b'0', ..] => text == b"0",
        _ => digits.iter().all(u8::is_ascii_digit),
    };
    if !canonical {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// A short line on the stack, written from its end.
pub(crate) struct Line {
    bytes: [u8; 24],
    start: usize,
}

impl Line {
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// `kind`, a minus if `negative`, `magnitude`, CR LF: at most 1 + 1 + 20 + 2 bytes.
#[inline]
pub(crate) fn line(kind: u8, negative: bool, magnitude: u64) -> Line {
    let mut line = Line { bytes: [0; 24], start: 22 };
    line.bytes[22] = b'\r';
    line.bytes[23] = b'\n';
    let mut left = magnitude;
    loop {
        line.start -= 1;
        line.bytes[line.start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if negative {
        line.start -= 1;
        line.bytes[line.start] = b'-';
    }
    line.start -= 1;
    line.bytes[line.start] = kind;
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_takes_what_is_whole_and_leaves_the_rest_to_the_long_one() {
        assert_eq!(short(b"3\r\nx"), Some((3, 3)));
        assert_eq!(short(b"0\r\n"), Some((0, 3)));
        assert_eq!(short(b"999999999\r\n"), Some((999_999_999, 11)));
        for left in [
            "",
            "3",
            "3\r",
            "3\n\r",
            "03\r\n",
            "00\r\n",
            "-1\r\n",
            "+1\r\n",
            "1234567890\r\n",
            "9999999999\r\n",
            "3x\r\n",
            "\r\n",
        ] {
            assert_eq!(short(left.as_bytes()), None, "{left:?}");
        }
    }

    #[test]
    fn the_long_way_takes_canonical_numbers_of_64_bits_and_no_others() {
        for value in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(integer(value.to_string().as_bytes()), Some(value));
        }
        let refused = [
            "",
            "-",
            "-0",
            "00",
            "01",
            "-01",
            "+1",
            " 1",
            "1 ",
            "1x",
            "9223372036854775808",
            "-9223372036854775809",
        ];
        for text in refused {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn the_longest_line_fits() {
        assert_eq!(line(b':', true, u64::MAX).as_bytes(), b":-18446744073709551615\r\n");
        assert_eq!(line(b'$', false, 0).as_bytes(), b"$0\r\n");
    }
}
