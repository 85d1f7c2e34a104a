//! Percent-decoding (RFC 3986, 2.1) for path parameters and query strings.
//!
//! # Rules
//! 1. What needs no decoding is borrowed; one escape costs one allocation of the value's length.
//! 2. A `%` without two hex digits, or bytes that are not UTF-8 once decoded, give `None`: a value is
//!    never half decoded.
//! 3. Decoding happens once, after the target was split at its delimiters: an escaped delimiter is data
//!    (RFC 3986, 2.4).
//!
//! Not here: encoding, normalisation of dot segments.

use std::borrow::Cow;

/// Decodes `%XX`. `+` stays `+`, as in a path.
pub(crate) fn decode(raw: &str) -> Option<Cow<'_, str>> {
    decode_with(raw, false)
}

/// Decodes `%XX`, and `+` as a space: `application/x-www-form-urlencoded`, as browsers write queries.
pub(crate) fn decode_form(raw: &str) -> Option<Cow<'_, str>> {
    decode_with(raw, true)
}

/// Decodes `%XX` to whatever bytes that gives.
pub(crate) fn decode_bytes(raw: &str) -> Option<Cow<'_, [u8]>> {
    match memchr::memchr(b'%', raw.as_bytes()) {
        None => Some(Cow::Borrowed(raw.as_bytes())),
        Some(_) => decoded(raw.as_bytes(), false).map(Cow::Owned),
    }
}

fn decode_with(raw: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    let bytes = raw.as_bytes();
    let is_plain = match plus_is_space {
        true => memchr::memchr2(b'%', b'+', bytes).is_none(),
        false => memchr::memchr(b'%', bytes).is_none(),
    };
    if is_plain {
        return Some(Cow::Borrowed(raw));
    }
    String::from_utf8(decoded(bytes, plus_is_space)?).ok().map(Cow::Owned)
}

fn decoded(bytes: &[u8], plus_is_space: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'%' => {
                let (&[high, low], tail) = rest.split_first_chunk::<2>()?;
                out.push(hex(high)? << 4 | hex(low)?);
                rest = tail;
            }
            b'+' if plus_is_space => out.push(b' '),
            byte => out.push(byte),
        }
    }
    Some(out)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The first value of `key` in a query string, decoded. The key is compared decoded as well.
pub(crate) fn query_value<'q>(query: &'q str, key: &str) -> Option<Cow<'q, str>> {
    pairs(query)
        .find(|(name, _)| *name == key || decode_form(name).is_some_and(|n| n == key))
        .and_then(|(_, value)| decode_form(value))
}

/// Name and value of each `&`-separated part, raw. A part without `=` has the value "".
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// Name and value of each part, decoded; parts that cannot be are left out.
pub(crate) fn decoded_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    pairs(query).filter_map(|(name, value)| Some((decode_form(name)?, decode_form(value)?)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(decode("a+b~c"), Some(Cow::Borrowed("a+b~c"))));
        assert!(matches!(decode_form("a-b"), Some(Cow::Borrowed("a-b"))));
    }

    #[test]
    fn escapes_are_decoded_once_and_in_either_case() {
        assert_eq!(decode("%2Fa%2fb").unwrap(), "/a/b");
        assert_eq!(decode("%2541").unwrap(), "%41");
        assert_eq!(decode("%E2%82%AC").unwrap(), "\u{20ac}");
        assert_eq!(decode("a+b%20c").unwrap(), "a+b c");
        assert_eq!(decode_form("a+b%2Bc").unwrap(), "a b+c");
    }

    #[test]
    fn bad_escapes_and_bad_utf8_give_nothing() {
        for raw in ["%", "%1", "a%", "%zz", "%+1", "% 1", "%1g", "%ff", "%c3%28", "%e2%82"] {
            assert_eq!(decode(raw), None, "{raw}");
        }
    }

    #[test]
    fn as_bytes_only_a_bad_escape_gives_nothing() {
        assert!(matches!(decode_bytes("a+b"), Some(Cow::Borrowed(b"a+b"))));
        assert_eq!(decode_bytes("%ff+%00%2f").unwrap(), &b"\xff+\x00/"[..]);
        assert_eq!(decode_bytes("%f"), None);
        assert_eq!(decode_bytes("%zz"), None);
    }

    #[test]
    fn the_first_value_of_a_key_is_found_whatever_its_spelling() {
        let q = "a=1&b=x+y&a=2&%63=3&d&=e&f=%zz&&g=h=i";
        assert_eq!(query_value(q, "a").unwrap(), "1");
        assert_eq!(query_value(q, "b").unwrap(), "x y");
        assert_eq!(query_value(q, "c").unwrap(), "3");
        assert_eq!(query_value(q, "d").unwrap(), "");
        assert_eq!(query_value(q, "").unwrap(), "e");
        assert_eq!(query_value(q, "g").unwrap(), "h=i");
        assert_eq!(query_value(q, "f"), None);
        assert_eq!(query_value(q, "x"), None);
        assert_eq!(query_value("", "x"), None);
        let all: Vec<_> = decoded_pairs("a=1&b=%zz&%zz=b&c&a=2+3").collect();
        assert_eq!(all, [("a", "1"), ("c", ""), ("a", "2 3")].map(|(n, v)| (n.into(), v.into())));
    }
}
