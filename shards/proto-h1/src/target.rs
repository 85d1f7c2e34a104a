//! Target: the four forms of RFC 9112, 3.2, and the authority syntax that Host shares (RFC 3986, 3.2).
//!
//! # Rules
//! 1. Nothing is decoded or normalised here: `path` and `query` are slices of what the client sent.
//! 2. Bytes outside RFC 3986 are refused. `[` and `]` pass, because common clients do not escape them.
//! 3. An authority is `host [":" port]`: no userinfo, no comma, not empty, port at most 65535.
//!
//! Not here: percent-decoding, dot segments, virtual hosts (the router).

use crate::fields::is_hex;
use crate::{Method, Why};

const PERCENT: u8 = 1;
const QUERY: u8 = 2;
const FRAGMENT: u8 = 4;
const BAD: u8 = 8;
const COLON: u8 = 16;

/// What a byte of a path or query means for the scan: 0 is "nothing to do".
static TARGET: [u8; 256] = {
    let mut table = [BAD; 256];
    let mut i = 0x21_usize;
    while i < 0x7f {
        table[i] = 0;
        i += 1;
    }
    let bad = b"\"<>\\^`{|}";
    let mut i = 0;
    while i < bad.len() {
        table[bad[i] as usize] = BAD;
        i += 1;
    }
    table[b'%' as usize] = PERCENT;
    table[b'?' as usize] = QUERY;
    table[b'#' as usize] = FRAGMENT;
    table
};

/// The same for a `reg-name [":" port]` (RFC 3986, 3.2.2), less the comma.
static AUTHORITY: [u8; 256] = {
    let mut table = [BAD; 256];
    // unreserved and sub-delims; a comma would turn one Host into a list for a careless reader.
    let good = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+;=";
    let mut i = 0;
    while i < good.len() {
        table[good[i] as usize] = 0;
        i += 1;
    }
    table[b'%' as usize] = PERCENT;
    table[b':' as usize] = COLON;
    table
};

/// 0 for a byte that a path or query holds as it is.
#[inline]
pub(crate) fn target_class(b: u8) -> u8 {
    TARGET[usize::from(b)]
}

/// 0 for a byte that a `reg-name` holds as it is.
#[inline]
pub(crate) fn authority_class(b: u8) -> u8 {
    AUTHORITY[usize::from(b)]
}

/// Which of the four forms a request target has (RFC 9112, 3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*`, only with OPTIONS
    Asterisk,
    /// `host:port`, only with CONNECT
    Authority,
}

/// A request target whose syntax was checked.
#[derive(Clone, Copy, Debug)]
pub struct Target<'i> {
    /// Only bytes of RFC 3986, so ASCII: made into text when it is asked for, which most routing never does.
    raw: &'i [u8],
    /// Its form.
    pub form: TargetForm,
    path_start: u32,
    path_end: u32,
}

impl<'i> Target<'i> {
    /// The target as sent.
    pub fn raw(&self) -> &'i str {
        text(self.raw)
    }

    /// The path: as sent, `/` when an absolute form has none, `*` for `*`, empty for the authority form.
    #[inline]
    pub fn path(&self) -> &'i str {
        text(self.path_bytes())
    }

    /// [`Target::path`] as bytes, all of them ASCII. Costs nothing, where the text costs a look at each byte.
    #[inline]
    pub fn path_bytes(&self) -> &'i [u8] {
        let path = &self.raw[self.path_start as usize..self.path_end as usize];
        // RFC 9110, 4.2.3: "an empty path component is equivalent to an absolute path of "/""
        if path.is_empty() && self.form == TargetForm::Absolute { b"/" } else { path }
    }

    /// What follows the first `?`, without it. `Some("")` when nothing follows.
    #[inline]
    pub fn query(&self) -> Option<&'i str> {
        self.raw.get(self.path_end as usize + 1..).map(text)
    }

    /// Host and port of an absolute or authority form.
    pub fn authority(&self) -> Option<&'i str> {
        match self.form {
            TargetForm::Absolute => {
                let before_path = self.raw.get(..self.path_start as usize)?;
                text(before_path).split_once("://").map(|(_, authority)| authority)
            }
            TargetForm::Authority => Some(text(self.raw)),
            TargetForm::Origin | TargetForm::Asterisk => None,
        }
    }

    /// An origin form whose bytes were checked; the path ends at `path_len`.
    #[inline]
    pub(crate) fn simple(raw: &'i [u8], path_len: usize) -> Option<Self> {
        let path_end = u32::try_from(path_len).ok()?;
        Some(Self { raw, form: TargetForm::Origin, path_start: 0, path_end })
    }

    /// The same target, where `bytes` start with it.
    #[inline]
    pub(crate) fn again(&self, bytes: &'i [u8]) -> Option<Self> {
        Some(Self { raw: bytes.get(..self.raw.len())?, ..*self })
    }

    /// Checks `raw` for `method`. `raw` is not empty.
    #[inline]
    pub(crate) fn parse(raw: &'i str, method: Method<'_>) -> Result<Self, Why> {
        let is_connect = matches!(method, Method::Connect);
        if raw.as_bytes().first() == Some(&b'/') && !is_connect {
            let path_end = check_path_and_query(raw.as_bytes(), 0)?;
            let raw = raw.as_bytes();
            return Ok(Self { raw, form: TargetForm::Origin, path_start: 0, path_end });
        }
        Self::parse_uncommon(raw, method)
    }

    #[cold]
    fn parse_uncommon(raw: &'i str, method: Method<'_>) -> Result<Self, Why> {
        let bytes = raw.as_bytes();
        if let Some(&b) = bytes.iter().find(|&&b| TARGET[usize::from(b)] & (BAD | FRAGMENT) != 0) {
            return Err(if b == b'#' { Why::TargetFragment } else { Why::TargetByte });
        }
        let len = u32::try_from(raw.len()).map_err(|_| Why::LineTooLong)?;
        if matches!(method, Method::Connect) {
            // RFC 9112, 3.2.3: "The "authority-form" of request-target is only used for CONNECT requests."
            // RFC 9110, 9.3.6: "A server MUST reject a CONNECT request that targets an empty or invalid port
            // number"
            return match check_authority(bytes) {
                Ok(Some(_)) => {
                    Ok(Self { raw: bytes, form: TargetForm::Authority, path_start: len, path_end: len })
                }
                Ok(None) => Err(Why::TargetAuthority),
                Err(()) if raw.contains('/') => Err(Why::TargetForm),
                Err(()) => Err(Why::TargetAuthority),
            };
        }
        if raw == "*" {
            // RFC 9112, 3.2.4: "only used for a server-wide OPTIONS request"
            return match method {
                Method::Options => {
                    Ok(Self { raw: bytes, form: TargetForm::Asterisk, path_start: 0, path_end: len })
                }
                _ => Err(Why::TargetForm),
            };
        }
        // RFC 9112, 3.2.2: "a server MUST accept the absolute-form in requests"
        let Some(colon) = raw.find("://") else { return Err(Why::TargetForm) };
        let scheme = &raw[..colon];
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Why::TargetScheme);
        }
        let start = colon + 3;
        let path =
            bytes[start..].iter().position(|&b| b == b'/' || b == b'?').map_or(raw.len(), |i| start + i);
        // RFC 9110, 4.2.1: "A recipient MUST reject a URI reference with an empty host identifier"; 4.2.4: "ought to
        // parse for userinfo and treat its presence as an error"
        check_authority(&bytes[start..path]).map_err(|()| Why::TargetAuthority)?;
        let path_end = check_path_and_query(bytes, path)?;
        let path_start = u32::try_from(path).map_err(|_| Why::LineTooLong)?;
        Ok(Self { raw: bytes, form: TargetForm::Absolute, path_start, path_end })
    }
}

/// Checked bytes of a target as text: rule 2 leaves only ASCII.
#[inline]
fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or_default()
}

/// Checks `raw[from..]` as path and query, and gives the offset where the path ends.
#[inline]
fn check_path_and_query(raw: &[u8], from: usize) -> Result<u32, Why> {
    let seen = raw[from..].iter().fold(0, |seen, &b| seen | TARGET[usize::from(b)]);
    let end = if seen == 0 { raw.len() } else { check_marked(raw, from, seen)? };
    u32::try_from(end).map_err(|_| Why::LineTooLong)
}

/// The part of [`check_path_and_query`] for targets that hold a query, an escape or a fault.
fn check_marked(raw: &[u8], from: usize, seen: u8) -> Result<usize, Why> {
    if seen & (BAD | FRAGMENT) != 0 {
        // RFC 9112, 3.2.1 leaves no room for a fragment: origin-form = absolute-path [ "?" query ]
        let first = raw[from..].iter().find(|&&b| TARGET[usize::from(b)] & (BAD | FRAGMENT) != 0);
        return Err(if first == Some(&b'#') { Why::TargetFragment } else { Why::TargetByte });
    }
    if seen & PERCENT != 0 {
        check_escapes(&raw[from..]).map_err(|()| Why::TargetEscape)?;
    }
    if seen & QUERY == 0 {
        return Ok(raw.len());
    }
    Ok(memchr::memchr(b'?', &raw[from..]).map_or(raw.len(), |i| from + i))
}

/// RFC 3986, 2.1: pct-encoded = "%" HEXDIG HEXDIG
fn check_escapes(mut bytes: &[u8]) -> Result<(), ()> {
    while let Some(i) = memchr::memchr(b'%', bytes) {
        match bytes.get(i + 1..i + 3) {
            Some([a, b]) if is_hex(*a) && is_hex(*b) => bytes = &bytes[i + 3..],
            _ => return Err(()),
        }
    }
    Ok(())
}

/// Checks `uri-host [ ":" port ]` (RFC 9110, 7.2) and gives the port where one is named.
#[inline]
pub(crate) fn check_authority(bytes: &[u8]) -> Result<Option<u16>, ()> {
    let Some(at) = bytes.iter().position(|&b| AUTHORITY[usize::from(b)] != 0) else {
        return if bytes.is_empty() { Err(()) } else { Ok(None) };
    };
    match bytes[at] {
        b':' if at > 0 => check_port(&bytes[at + 1..]),
        b'[' if at == 0 => check_ip_literal(bytes),
        b'%' => check_escaped_authority(bytes),
        _ => Err(()),
    }
}

/// The part of [`check_authority`] for names with escapes.
#[cold]
fn check_escaped_authority(bytes: &[u8]) -> Result<Option<u16>, ()> {
    let colon = bytes.iter().position(|&b| b == b':');
    let name = &bytes[..colon.unwrap_or(bytes.len())];
    if name.iter().any(|&b| AUTHORITY[usize::from(b)] & BAD != 0) {
        return Err(());
    }
    check_escapes(name)?;
    colon.map_or(Ok(None), |colon| check_port(&bytes[colon + 1..]))
}

/// `[IPv6] [":" port]` (RFC 3986, 3.2.2), without zone identifiers and IPvFuture.
#[cold]
fn check_ip_literal(bytes: &[u8]) -> Result<Option<u16>, ()> {
    let inner = bytes.strip_prefix(b"[").ok_or(())?;
    let close = inner.iter().position(|&b| b == b']').ok_or(())?;
    let address = core::str::from_utf8(&inner[..close]).map_err(|_| ())?;
    address.parse::<core::net::Ipv6Addr>().map_err(|_| ())?;
    match &inner[close + 1..] {
        [] => Ok(None),
        [b':', port @ ..] => check_port(port),
        _ => Err(()),
    }
}

/// RFC 3986, 3.2.3: port = *DIGIT. Empty is the default port; more than 65535 cannot be meant.
#[inline]
fn check_port(digits: &[u8]) -> Result<Option<u16>, ()> {
    let mut port = 0_u32;
    for &b in digits {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return Err(());
        }
        port = port * 10 + u32::from(digit);
        if port > u32::from(u16::MAX) {
            return Err(());
        }
    }
    if digits.is_empty() { Ok(None) } else { u16::try_from(port).map(Some).map_err(|_| ()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn authorities_follow_rfc_3986_without_userinfo() {
        for good in [
            "t",
            "t:80",
            "t:",
            "t:0",
            "t:65535",
            "a.b-c.example:8080",
            "127.0.0.1",
            "[::1]",
            "[::1]:80",
            "[::1]:",
            "[2001:db8::7]",
            "[::ffff:1.2.3.4]:1",
            "a%20b",
            "x_y",
            "t:00080",
        ] {
            assert!(check_authority(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "",
            ":80",
            "t:65536",
            "t:99999x",
            "t:8 0",
            "u@t",
            "a,b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "t:80:80",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]80",
            "[]",
            "[zz]",
            "[::1%25eth0]",
            "[v1.a]",
            "%zz",
            "a%2",
            "t\u{e9}",
            "t\0",
            "[::1]:65536",
            "a\\b",
            "<t>",
            "\"t\"",
            "t:+80",
            "t:-1",
            "http://t",
        ] {
            assert!(check_authority(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_of_each_form_are_slices_of_what_was_sent() {
        let t = Target::parse("/a/b?c=d?e", Method::Get).unwrap();
        assert_eq!(
            (t.form, t.path(), t.query(), t.authority()),
            (TargetForm::Origin, "/a/b", Some("c=d?e"), None)
        );
        let t = Target::parse("/a?", Method::Get).unwrap();
        assert_eq!((t.path(), t.query()), ("/a", Some("")));
        let t = Target::parse("HTTPS://t:1/a%20b?q", Method::Get).unwrap();
        assert_eq!((t.form, t.path(), t.query()), (TargetForm::Absolute, "/a%20b", Some("q")));
        assert_eq!(t.authority(), Some("t:1"));
        let t = Target::parse("http://t?q", Method::Get).unwrap();
        assert_eq!((t.path(), t.query(), t.authority()), ("/", Some("q"), Some("t")));
        let t = Target::parse("http://t", Method::Get).unwrap();
        assert_eq!((t.path(), t.query()), ("/", None));
        let t = Target::parse("*", Method::Options).unwrap();
        assert_eq!((t.form, t.path(), t.query()), (TargetForm::Asterisk, "*", None));
        let t = Target::parse("t:443", Method::Connect).unwrap();
        assert_eq!(
            (t.form, t.path(), t.query(), t.authority()),
            (TargetForm::Authority, "", None, Some("t:443"))
        );
    }
}
