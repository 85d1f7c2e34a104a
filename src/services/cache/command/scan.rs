//! Options of the SCAN family: SCAN, HSCAN, SSCAN, ZSCAN.
//!
//! A collection's command reads its cursor first, then looks for the key (without one it replies `0` and nothing,
//! whatever the options are), and only then reads the options: Redis does it in this order, and its errors show it.
//!
//! Not here: going through anything.

use corelane_proto_resp::Command;

use super::{Reply, parse};
use crate::services::cache::glob;
use crate::services::cache::value::Kind;

/// Elements a call looks at if it does not say.
const COUNT_DEFAULT: usize = 10;

/// What is scanned: each has options that the others have not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scanned {
    /// All keys: TYPE.
    Keys,
    /// The fields of a hash: NOVALUES.
    Fields,
    /// Members of anything else.
    Members,
}

/// What a call asks for.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// About how many elements to look at, at least 1.
    pub count: usize,
    /// Only fields, without their values.
    pub no_values: bool,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl Options<'_> {
    /// Whether an element of this name is asked for.
    #[inline]
    pub fn takes(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }

    /// Whether keys of this kind are asked for. A kind that does not exist matches none.
    #[inline]
    pub fn takes_kind(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|name| parse::is(name, kind.name()))
    }
}

/// The cursor in `text`, or the error that says it is none.
///
/// It is read as `strtoul` does: an empty one is 0, a sign may stand before it, a negative one counts down from 2^64.
pub fn cursor_or_reply(reply: &mut Reply, text: &[u8]) -> Option<u64> {
    let cursor = cursor(text);
    if cursor.is_none() {
        reply.error("ERR invalid cursor");
    }
    cursor
}

fn cursor(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let (negative, digits) = parse::signed(text);
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(if negative { value.wrapping_neg() } else { value })
}

/// The options of `command` from argument `from` on, or the error that says what is wrong with them.
pub fn options_or_reply<'a>(
    reply: &mut Reply,
    command: &Command<'a>,
    from: usize,
    scanned: Scanned,
) -> Option<Options<'a>> {
    let mut options = Options { count: COUNT_DEFAULT, no_values: false, pattern: None, kind: None };
    let mut at = from;
    while let Some(word) = command.get(at) {
        let value = command.get(at + 1);
        match value {
            Some(value) if parse::is(word, "count") => {
                let count = parse::integer_or_reply(reply, value)?;
                if count < 1 {
                    reply.error(parse::SYNTAX);
                    return None;
                }
                options.count = usize::try_from(count).unwrap_or(usize::MAX);
            }
            Some(value) if parse::is(word, "match") => options.pattern = (value != b"*").then_some(value),
            Some(value) if parse::is(word, "type") && scanned == Scanned::Keys => options.kind = Some(value),
            _ if parse::is(word, "novalues") && scanned == Scanned::Fields => {
                options.no_values = true;
                at += 1;
                continue;
            }
            _ => {
                reply.error(parse::SYNTAX);
                return None;
            }
        }
        at += 2;
    }
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_strtoul_does() {
        assert_eq!(cursor(b""), Some(0));
        assert_eq!(cursor(b"+17"), Some(17));
        assert_eq!(cursor(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(cursor(b"-1"), Some(u64::MAX));
        for wrong in [&b"18446744073709551616"[..], b" 1", b"1 ", b"x", b"-"] {
            assert_eq!(cursor(wrong), None, "{wrong:?}");
        }
    }
}
