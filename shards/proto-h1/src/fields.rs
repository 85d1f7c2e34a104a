//! Fields: byte classes, the strict field line, comma lists, and trailers.
//!
//! # Rules
//! 1. A field line is `token ":" OWS value OWS`, nothing before the token, nothing between it and the colon.
//! 2. A value holds HTAB, SP, visible ASCII and obs-text (0x80..=0xFF), which stays opaque.
//! 3. Trailers are never merged into the head; those that frame, route or authorise are not shown at all.
//!
//! Not here: what the fields of a head mean (`head`).

use crate::Why;

const TCHAR: u8 = 1;
const VALUE: u8 = 2;
const QDTEXT: u8 = 4;
const HEX: u8 = 8;

static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0_usize;
    while i < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "i < 256")]
        let b = i as u8;
        let mut class = 0;
        // RFC 9110, 5.6.2: tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" /
        // "`" / "|" / "~" / DIGIT / ALPHA
        if b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
            || matches!(b, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
        {
            class |= TCHAR;
        }
        // RFC 9110, 5.5: field-vchar = VCHAR / obs-text, with SP and HTAB between them
        if b == b'\t' || (b >= b' ' && b != 0x7f) {
            class |= VALUE;
            // RFC 9110, 5.6.4: qdtext = HTAB / SP / %x21 / %x23-5B / %x5D-7E / obs-text
            if b != b'"' && b != b'\\' {
                class |= QDTEXT;
            }
        }
        if b.is_ascii_hexdigit() {
            class |= HEX;
        }
        table[i] = class;
        i += 1;
    }
    table
};

#[inline]
pub(crate) fn is_tchar(b: u8) -> bool {
    CLASS[usize::from(b)] & TCHAR != 0
}

#[inline]
pub(crate) fn is_value_byte(b: u8) -> bool {
    CLASS[usize::from(b)] & VALUE != 0
}

#[inline]
pub(crate) fn is_qdtext(b: u8) -> bool {
    CLASS[usize::from(b)] & QDTEXT != 0
}

#[inline]
pub(crate) fn is_hex(b: u8) -> bool {
    CLASS[usize::from(b)] & HEX != 0
}

/// True when eight bytes are surely neither below SP nor DEL. May be false for bytes that pass (HTAB, obs-text).
///
/// Below SP: subtracting borrows into the top bit. DEL: so does adding 1. Bytes from 0x80 are told apart by
/// nobody and take the slow way.
#[inline]
pub(crate) fn is_plain(block: &[u8; 8]) -> bool {
    const TOPS: u64 = 0x8080_8080_8080_8080;
    const ONES: u64 = 0x0101_0101_0101_0101;
    let x = u64::from_le_bytes(*block);
    (x.wrapping_sub(0x20 * ONES) | x.wrapping_add(ONES) | x) & TOPS == 0
}

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_tchar(b))
}

/// `bytes` without SP and HTAB at both ends.
pub(crate) fn trim_ows(bytes: &[u8]) -> &[u8] {
    let is_ows = |b: &u8| *b == b' ' || *b == b'\t';
    let start = bytes.iter().position(|b| !is_ows(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !is_ows(b)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// The elements of a comma list (RFC 9110, 5.6.1), trimmed, empty ones included.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim_ows)
}

/// Checks one field line without its CRLF, left to right. `complete` is false while its end is not known.
pub(crate) fn check_field_line(line: &[u8], complete: bool) -> Result<(), Why> {
    // RFC 9112, 5.1: "No whitespace is allowed between the field name and colon."
    let colon = line.iter().position(|&b| !is_tchar(b));
    match colon.map(|at| (at, line[at])) {
        None => return if complete { Err(Why::FieldName) } else { Ok(()) },
        Some((0, b' ' | b'\t')) => return Err(Why::ObsFold),
        Some((0, _)) => return Err(Why::FieldName),
        Some((at, b':')) => {
            if !line[at + 1..].iter().all(|&b| is_value_byte(b)) {
                return Err(Why::FieldValue);
            }
        }
        Some((_, b' ' | b'\t')) => return Err(Why::FieldSpaceColon),
        Some(_) => return Err(Why::FieldName),
    }
    Ok(())
}

/// Field lines that passed [`check_field_line`], each with its CRLF, read lazily.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FieldLines<'i> {
    pub(crate) raw: &'i [u8],
}

impl<'i> Iterator for FieldLines<'i> {
    type Item = (&'i str, &'i [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let colon = memchr::memchr(b':', self.raw)?;
        let end = memchr::memchr(b'\n', self.raw)?;
        let line = self.raw.get(colon + 1..end.checked_sub(1)?)?;
        let name = core::str::from_utf8(&self.raw[..colon]).ok()?;
        self.raw = &self.raw[end + 1..];
        Some((name, trim_ows(line)))
    }
}

/// What the CR and LF bytes of a growing input say.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Lines {
    /// The first empty line ends before this offset.
    Blank(usize),
    /// A CR or LF stands alone.
    Bare,
    /// No empty line yet; everything before the length of the input was looked at.
    More {
        /// At least one whole line was seen in the part that was looked at now.
        line_seen: bool,
    },
}

/// Looks at `input[from..]` for an empty line, and for CR and LF that are not a pair.
///
/// `at_line_start` says whether an empty line may open the input (true for trailers).
/// RFC 9112, 2.2: "A recipient of such a bare CR MUST consider that element to be invalid".
pub(crate) fn scan_lines(input: &[u8], from: usize, at_line_start: bool) -> Lines {
    // The byte before `from` may be a CR whose LF is new.
    let mut at = from.saturating_sub(1);
    let mut line_seen = false;
    while let Some(found) = memchr::memchr2(b'\r', b'\n', &input[at..]) {
        let i = at + found;
        if input[i] == b'\n' {
            // A LF is only met here when no CR came before it, or that CR was looked at earlier.
            if i == 0 || input[i - 1] != b'\r' {
                return Lines::Bare;
            }
            at = i + 1;
            continue;
        }
        match input.get(i + 1) {
            None => break,
            Some(b'\n') => {
                line_seen = true;
                let blank = if i == 0 { at_line_start } else { input[i - 1] == b'\n' };
                if blank {
                    return Lines::Blank(i + 2);
                }
                at = i + 2;
            }
            Some(_) => return Lines::Bare,
        }
    }
    Lines::More { line_seen }
}

/// The trailer section of a chunked body: checked, not merged, shown without forbidden fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trailers<'i> {
    lines: FieldLines<'i>,
}

impl<'i> Trailers<'i> {
    /// Checks a section that ends with its empty line.
    pub(crate) fn parse(section: &'i [u8]) -> Result<Self, Why> {
        debug_assert!(section.ends_with(b"\r\n"));
        let raw = &section[..section.len() - 2];
        let mut rest = raw;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            check_field_line(&rest[..end.saturating_sub(1)], true)?;
            rest = &rest[end + 1..];
        }
        Ok(Self { lines: FieldLines { raw } })
    }

    /// True when the body carried no trailer field at all.
    pub fn is_empty(&self) -> bool {
        self.lines.raw.is_empty()
    }

    /// Name and value of each field a trailer may carry, in order.
    ///
    /// RFC 9110, 6.5.1: "a sender MUST NOT generate trailer fields ... for message framing, routing, request
    /// modifiers, authentication, request controls, content format". Such fields are skipped.
    pub fn iter(&self) -> impl Iterator<Item = (&'i str, &'i [u8])> + use<'i> {
        self.lines.filter(|(name, _)| !is_forbidden_trailer(name))
    }

    /// The first value of a field that a trailer may carry, by case-insensitive name.
    pub fn get(&self, name: &str) -> Option<&'i [u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Fields whose meaning must be known before the body: never shown from a trailer.
fn is_forbidden_trailer(name: &str) -> bool {
    const FORBIDDEN: [&str; 36] = [
        "transfer-encoding",
        "content-length",
        "host",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "proxy-connection",
        "authorization",
        "proxy-authorization",
        "www-authenticate",
        "proxy-authenticate",
        "cookie",
        "set-cookie",
        "content-encoding",
        "content-type",
        "content-range",
        "content-location",
        "cache-control",
        "pragma",
        "expect",
        "max-forwards",
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "origin",
        "referer",
    ];
    FORBIDDEN.iter().any(|f| f.eq_ignore_ascii_case(name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_scan_finds_the_same_end_however_the_bytes_arrive() {
        let head = b"GET / HTTP/1.1\r\nHost: t\r\n\r\nrest";
        assert_eq!(scan_lines(head, 0, false), Lines::Blank(27));
        for cut in 0..27 {
            assert!(matches!(scan_lines(&head[..cut], 0, false), Lines::More { .. }), "cut {cut}");
            assert_eq!(scan_lines(head, cut, false), Lines::Blank(27), "cut {cut}");
        }
    }

    #[test]
    fn a_lone_cr_or_lf_is_seen_as_soon_as_it_can_be() {
        assert_eq!(scan_lines(b"a\n", 0, false), Lines::Bare);
        assert_eq!(scan_lines(b"\n", 0, true), Lines::Bare);
        assert_eq!(scan_lines(b"a\rb", 0, false), Lines::Bare);
        assert_eq!(scan_lines(b"a\r\r", 2, false), Lines::Bare);
        assert_eq!(scan_lines(b"a\r", 0, false), Lines::More { line_seen: false });
        assert_eq!(scan_lines(b"a\r\n", 2, false), Lines::More { line_seen: true });
        assert_eq!(scan_lines(b"\r\n", 0, true), Lines::Blank(2));
        assert_eq!(scan_lines(b"\r\n", 1, true), Lines::Blank(2));
    }

    #[test]
    fn trailers_hide_what_must_not_come_late_and_keep_the_rest() {
        let t =
            Trailers::parse(b"X-Sum: 1 \r\nauthorization: me\r\nHOST: evil\r\nEtag:\t\"a\"\r\n\r\n").unwrap();
        let seen: Vec<_> = t.iter().collect();
        assert_eq!(seen, [("X-Sum", &b"1"[..]), ("Etag", &b"\"a\""[..])]);
        assert_eq!(t.get("x-sum"), Some(&b"1"[..]));
        assert_eq!(t.get("host"), None);
    }

    #[test]
    fn list_elements_are_trimmed_and_empty_ones_are_kept() {
        let elements: Vec<_> = list(b" a ,\tb,,c d, ").collect();
        assert_eq!(elements, [&b"a"[..], b"b", b"", b"c d", b""]);
    }
}
