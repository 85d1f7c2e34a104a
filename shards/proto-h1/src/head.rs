//! Head: from the bytes of a request head to a [`Request`], or to the one reason against it.
//!
//! httparse finds the parts; this file adds what it does not know: CRLF only, target forms, Host, framing.
//!
//! # Rules
//! 1. Syntax faults are judged left to right, by [`strict`], so that the answer does not depend on how many
//!    bytes had arrived. Meaning (Host, framing, expectations) is judged once the head is whole.
//! 2. Content-Length and Transfer-Encoding never meet: the body has one framing or the request is refused.
//! 3. Nothing is repaired: a duplicate, a list or a fold is refused even where it could be merged.
//!
//! Not here: how often a growing head is looked at (`connection`).

use core::mem::MaybeUninit;

use crate::fields::{self, FieldLines, check_field_line, is_tchar};
use crate::simple::Simple;
use crate::target::check_authority;
use crate::{HEADERS_MAX, Limits, Target, Why};

/// Room for the parsed fields of one head, and the last simple head read with it. Never initialised as a whole; reuse
/// it for every poll of a loop over one piece of input, with the same [`Limits`].
#[derive(Debug)]
pub struct HeaderSlots<'i> {
    pub(crate) fields: [MaybeUninit<httparse::Header<'i>>; HEADERS_MAX],
    pub(crate) last: Option<Simple<'i>>,
}

/// Fresh, uninitialised slots: costs nothing.
#[inline]
pub const fn header_slots<'i>() -> HeaderSlots<'i> {
    HeaderSlots { fields: [const { MaybeUninit::uninit() }; HEADERS_MAX], last: None }
}

/// A request method: a token, case-sensitive (RFC 9110, 9.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "each names the method of RFC 9110, 9.3 and RFC 5789")]
pub enum Method<'i> {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    /// Any other token, `get` included. Answer 501, or 405 where the token is known.
    Other(&'i str),
}

impl<'i> Method<'i> {
    /// The method that `token` names.
    #[inline]
    pub fn new(token: &'i str) -> Self {
        match token.as_bytes() {
            b"GET" => Self::Get,
            b"POST" => Self::Post,
            b"HEAD" => Self::Head,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other(token),
        }
    }

    /// The token as sent.
    #[inline]
    pub fn as_str(&self) -> &'i str {
        match *self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other(token) => token,
        }
    }
}

/// The version a request is processed as.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, and every later minor version.
    ///
    /// RFC 9110, 2.5: "SHOULD process the message as if it was in the highest minor version within that major
    /// version to which the recipient is conformant".
    Http11,
}

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyKind {
    /// No body, or one of length 0: [`crate::Step::End`] is implied.
    None,
    /// This many bytes, at least 1.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
}

/// One accepted request head. Everything borrows the input and the slots.
#[derive(Clone, Copy, Debug)]
pub struct Request<'h, 'i> {
    /// The method.
    pub method: Method<'i>,
    /// The target, its syntax checked.
    pub target: Target<'i>,
    /// The version to process it as.
    pub version: Version,
    /// The field lines in order.
    pub headers: Headers<'h, 'i>,
    /// The framing of the body that follows.
    pub body: BodyKind,
    /// Host and port: the authority of an absolute target, else the Host field. `None` only in HTTP/1.0.
    /// Checked ASCII; [`Request::host_str`] gives it as text.
    pub host: Option<&'i [u8]>,
    /// The client waits for 100 before it sends the body ([`crate::Connection::respond_continue`]).
    pub expect_continue: bool,
    /// The client would reuse the connection.
    pub keep_alive: bool,
    /// The `Upgrade` value where it has a meaning: HTTP/1.1 with `Connection: upgrade`.
    pub upgrade: Option<&'i str>,
}

impl<'i> Request<'_, 'i> {
    /// [`Request::host`] as text.
    pub fn host_str(&self) -> Option<&'i str> {
        self.host.and_then(|host| core::str::from_utf8(host).ok())
    }
}

/// The field lines of a head, in order of arrival.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'h, 'i> {
    parsed: &'h [httparse::Header<'i>],
    /// Instead of `parsed`, for heads that httparse did not read: simple ones, HTTP/1.2 and later.
    lines: FieldLines<'i>,
}

impl<'h, 'i> Headers<'h, 'i> {
    /// Fields that are found when they are asked for.
    #[inline]
    pub(crate) fn lazy(lines: FieldLines<'i>) -> Self {
        Self { parsed: &[], lines }
    }

    /// How many field lines there are. O(bytes) where the head is not parsed into slots.
    #[inline]
    pub fn len(&self) -> usize {
        if self.lines.raw.is_empty() { self.parsed.len() } else { self.lines.count() }
    }

    /// True without any field line.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.parsed.is_empty() && self.lines.raw.is_empty()
    }

    /// The value of the first field of that name, compared without case. O(fields).
    #[inline]
    pub fn get(&self, name: &str) -> Option<&'i [u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The values of all fields of that name, in order.
    pub fn get_all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'i [u8]> + use<'h, 'i, 'n> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Name and value of every field line, in order. Values are opaque bytes without outer whitespace.
    #[inline]
    pub fn iter(&self) -> HeadersIter<'h, 'i> {
        HeadersIter { parsed: self.parsed.iter(), lines: self.lines }
    }
}

/// Iterator of [`Headers::iter`].
#[derive(Clone, Debug)]
pub struct HeadersIter<'h, 'i> {
    parsed: core::slice::Iter<'h, httparse::Header<'i>>,
    lines: FieldLines<'i>,
}

impl<'i> Iterator for HeadersIter<'_, 'i> {
    type Item = (&'i str, &'i [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.parsed.next() {
            Some(header) => Some((header.name, header.value)),
            None if self.lines.raw.is_empty() => None,
            None => self.lines.next(),
        }
    }
}

impl<'h, 'i> IntoIterator for Headers<'h, 'i> {
    type Item = (&'i str, &'i [u8]);
    type IntoIter = HeadersIter<'h, 'i>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The request of a head that httparse took whole, or the reason against it.
#[inline]
pub(crate) fn accept<'h, 'i>(
    head: &'i [u8],
    parsed: httparse::Request<'h, 'i>,
    limits: &Limits,
) -> Result<Request<'h, 'i>, Why> {
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Why::Malformed);
    };
    let headers: &'h [httparse::Header<'i>] = parsed.headers;
    let Some(line_len) = lines_end_in_crlf(head, headers) else { return Err(explain(head, limits)) };
    if line_len > limits.line_bytes_max as usize {
        return Err(Why::LineTooLong);
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let fields = headers.iter().map(|header| (header.name, header.value));
    let headers = Headers { parsed: headers, lines: FieldLines { raw: &[] } };
    interpret(Method::new(method), target, version, headers, fields, limits)
}

/// httparse takes LF alone as a line end; we do not. Gives the length of the request line when all lines of the
/// head end in CRLF.
///
/// RFC 9112, 2.2 lets a recipient "recognize a single LF as a line terminator"; two parsers that differ here
/// see different heads, so we decline.
#[inline]
fn lines_end_in_crlf(head: &[u8], headers: &[httparse::Header<'_>]) -> Option<usize> {
    let base = head.as_ptr() as usize;
    let mut line_len = None;
    for header in headers {
        let start = header.name.as_ptr() as usize - base;
        // The LF stands at `start - 1`, or httparse would not have begun a field line here.
        let before_lf = start.checked_sub(2)?;
        if head.get(before_lf) != Some(&b'\r') {
            return None;
        }
        line_len = line_len.or(Some(before_lf));
    }
    if !head.ends_with(b"\r\n\r\n") {
        return None;
    }
    line_len.or(Some(head.len() - 4))
}

/// The way of heads that httparse refuses: later minor versions are accepted, the others explained. `None`
/// while the head is not whole.
///
/// `window` is the input up to `head_bytes_max`.
#[cold]
pub(crate) fn accept_by_hand<'h, 'i>(
    window: &'i [u8],
    limits: &Limits,
    error: httparse::Error,
) -> Result<Option<(Request<'h, 'i>, usize)>, Why> {
    let strict = strict(window, limits)?;
    if error != httparse::Error::Version {
        return Err(Why::Malformed);
    }
    let Some(head) = strict else {
        let full = window.len() >= limits.head_bytes_max as usize;
        return if full { Err(Why::HeadTooLong) } else { Ok(None) };
    };
    let fields = FieldLines { raw: head.fields };
    let headers = Headers::lazy(fields);
    let method = Method::new(head.method);
    let request = interpret(method, head.target, Version::Http11, headers, fields, limits)?;
    Ok(Some((request, head.len)))
}

/// Why a head that must be refused is refused.
#[cold]
pub(crate) fn explain(window: &[u8], limits: &Limits) -> Why {
    match strict(window, limits) {
        Err(why) => why,
        Ok(None) if window.len() >= limits.head_bytes_max as usize => Why::HeadTooLong,
        Ok(_) => Why::Malformed,
    }
}

/// A head found by [`strict`].
#[derive(Debug)]
pub(crate) struct StrictHead<'i> {
    pub(crate) method: &'i str,
    pub(crate) target: &'i str,
    /// The field lines, each with its CRLF, without the empty line.
    pub(crate) fields: &'i [u8],
    pub(crate) len: usize,
}

/// The syntax of a head, left to right, by the letter of RFC 9112: the first fault, or the parts, or `None`
/// while the head is neither whole nor faulty. Slow; off the common path.
pub(crate) fn strict<'i>(window: &'i [u8], limits: &Limits) -> Result<Option<StrictHead<'i>>, Why> {
    let line_max = limits.line_bytes_max as usize;
    let mut at = 0;
    let mut line_parts = None;
    let mut fields_start = 0;
    let mut count = 0;
    loop {
        let rest = &window[at..];
        let end = memchr::memchr2(b'\r', b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        if line_parts.is_none() {
            if line.len() > line_max {
                check_request_line(&line[..line_max], false)?;
                return Err(Why::LineTooLong);
            }
            line_parts = check_request_line(line, end.is_some())?;
        } else if !(line.is_empty() && end.is_some()) {
            check_field_line(line, end.is_some())?;
        }
        let Some(end) = end else { return Ok(None) };
        match rest[end..] {
            [b'\r', b'\n', ..] => {}
            [b'\r'] => return Ok(None),
            // RFC 9112, 2.2: a bare CR makes the element invalid. A bare LF may be taken for a line end; we do not.
            [b'\r', ..] => return Err(Why::BareCr),
            _ => return Err(Why::BareLf),
        }
        let Some((method, target)) = line_parts else { return Err(Why::LineSyntax) };
        if fields_start == 0 {
            fields_start = at + end + 2;
        } else if line.is_empty() {
            return Ok(Some(StrictHead { method, target, fields: &window[fields_start..at], len: at + 2 }));
        } else {
            count += 1;
            if count > limits.slots() {
                return Err(Why::TooManyFields);
            }
        }
        at += end + 2;
    }
}

/// RFC 9112, 3: request-line = method SP request-target SP HTTP-version. Left to right; `None` while partial.
fn check_request_line(line: &[u8], complete: bool) -> Result<Option<(&str, &str)>, Why> {
    let partial = |why: Why| if complete { Err(why) } else { Ok(None) };
    let Some(method_end) = line.iter().position(|&b| !is_tchar(b)) else { return partial(Why::LineSyntax) };
    if line[method_end] != b' ' || method_end == 0 {
        return Err(Why::MethodSyntax);
    }
    let rest = &line[method_end + 1..];
    let target_end = rest.iter().position(|&b| !b.is_ascii_graphic());
    let target = &rest[..target_end.unwrap_or(rest.len())];
    let Some(&after) = target_end.and_then(|end| rest.get(end)) else {
        // RFC 9112, 3 knows no line without a version: HTTP/0.9 is not spoken here.
        return partial(if target.is_empty() { Why::LineSyntax } else { Why::VersionSyntax });
    };
    if after != b' ' {
        return Err(if after == b'\t' { Why::LineSyntax } else { Why::TargetByte });
    }
    if target.is_empty() {
        return Err(Why::LineSyntax);
    }
    check_version(&rest[target.len() + 1..], complete)?;
    match (core::str::from_utf8(&line[..method_end]), core::str::from_utf8(target)) {
        (Ok(method), Ok(target)) if complete => Ok(Some((method, target))),
        _ => Ok(None),
    }
}

/// RFC 9112, 2.3: HTTP-version = "HTTP" "/" DIGIT "." DIGIT, case-sensitive.
fn check_version(version: &[u8], complete: bool) -> Result<(), Why> {
    for (i, &b) in version.iter().enumerate() {
        let fits = match i {
            0..5 => b == b"HTTP/"[i],
            6 => b == b'.',
            5 | 7 => b.is_ascii_digit(),
            _ => false,
        };
        if !fits {
            return Err(Why::VersionSyntax);
        }
    }
    if version.len() < 8 {
        return if complete { Err(Why::VersionSyntax) } else { Ok(()) };
    }
    // RFC 9110, 15.6.6: 505 is for the major version. What stands behind a foreign one is not ours to judge,
    // but `HTTP/2.0x` is malformed, so the line must be whole first.
    if complete && version[5] != b'1' { Err(Why::VersionMajor) } else { Ok(()) }
}

/// What the fields of a head say about framing and connection.
#[derive(Default)]
struct Meaning<'i> {
    host: Option<&'i [u8]>,
    length: Option<u64>,
    coding: Option<Coding>,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade: Option<&'i [u8]>,
    expect_continue: bool,
    expect_other: bool,
}

/// What the Transfer-Encoding fields read so far amount to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Coding {
    /// The last one is `chunked`; `others` came before it.
    Chunked { others: bool },
    /// The last one is something else.
    Other,
}

/// Judges the meaning of a head whose syntax is fine.
#[inline]
fn interpret<'h, 'i>(
    method: Method<'i>,
    raw_target: &'i str,
    version: Version,
    headers: Headers<'h, 'i>,
    fields: impl Iterator<Item = (&'i str, &'i [u8])>,
    limits: &Limits,
) -> Result<Request<'h, 'i>, Why> {
    let target = Target::parse(raw_target, method)?;
    let mut meaning = Meaning::default();
    for (name, value) in fields {
        // Only these lengths belong to names that matter here.
        const LENGTHS: u32 = 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 14 | 1 << 17;
        if name.len() >= 32 || LENGTHS >> name.len() & 1 == 0 {
            continue;
        }
        if let &[a, b, c, d] = name.as_bytes() {
            // A token byte that differs from a letter only in bit 5 is that letter in the other case.
            if u32::from_le_bytes([a, b, c, d]) | 0x2020_2020 == u32::from_le_bytes(*b"host") {
                // RFC 9112, 3.2: 400 for "any request message that contains more than one Host header field line
                // or a Host header field with an invalid field value"
                if meaning.host.is_some() {
                    return Err(Why::HostDuplicate);
                }
                check_authority(value).map_err(|()| Why::HostSyntax)?;
                meaning.host = Some(value);
            }
        } else {
            meaning.take_uncommon(name, value)?;
        }
    }
    // RFC 9112, 3.2: "A server MUST respond with a 400 ... to any HTTP/1.1 request message that lacks a Host
    // header field"
    if meaning.host.is_none() && version == Version::Http11 {
        return Err(Why::HostMissing);
    }
    let body = meaning.body(method, version, limits)?;
    let is_11 = version == Version::Http11;
    // RFC 9112, 9.3: close wins; 1.1 persists by default; 1.0 persists only with keep-alive. A refused CONNECT may
    // be followed by bytes meant for the tunnel, so nothing may be read after it.
    let keep_alive = !meaning.close && (is_11 || meaning.keep_alive) && !matches!(method, Method::Connect);
    // RFC 9110, 10.1.1: an unknown expectation may be answered with 417; "MUST ignore that expectation" in 1.0.
    if meaning.expect_other && is_11 {
        return Err(Why::Expectation);
    }
    let host = match target.authority() {
        // RFC 9112, 3.2.2: "MUST ignore the received Host header field (if any) and instead replace it"
        Some(authority) => Some(authority.as_bytes()),
        None => meaning.host,
    };
    // RFC 9110, 7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request."
    let upgrade = match meaning.upgrade {
        Some(value) if is_11 && meaning.upgrade_option => core::str::from_utf8(value).ok(),
        _ => None,
    };
    Ok(Request {
        method,
        target,
        version,
        headers,
        body,
        host,
        expect_continue: meaning.expect_continue && is_11 && body != BodyKind::None,
        keep_alive,
        upgrade,
    })
}

impl<'i> Meaning<'i> {
    /// Takes any field but Host.
    fn take_uncommon(&mut self, name: &str, value: &'i [u8]) -> Result<(), Why> {
        match name.len() {
            6 if name.eq_ignore_ascii_case("expect") => {
                for element in fields::list(value).filter(|e| !e.is_empty()) {
                    let known = element.eq_ignore_ascii_case(b"100-continue");
                    self.expect_continue |= known;
                    self.expect_other |= !known;
                }
            }
            7 if name.eq_ignore_ascii_case("upgrade") && self.upgrade.is_none() && !value.is_empty() => {
                self.upgrade = Some(value);
            }
            10 if name.eq_ignore_ascii_case("connection") => self.take_connection(value)?,
            14 if is_name_or_lookalike(name, b"content-length")? => {
                if self.length.is_some() {
                    return Err(Why::LengthDuplicate);
                }
                self.length = Some(parse_length(value)?);
            }
            17 if is_name_or_lookalike(name, b"transfer-encoding")? => self.take_coding(value)?,
            _ => {}
        }
        Ok(())
    }

    /// RFC 9110, 7.6.1: connection-option = token, compared without case.
    fn take_connection(&mut self, value: &[u8]) -> Result<(), Why> {
        for option in fields::list(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade_option = true,
                // An intermediary that follows this would strip the framing and keep the body.
                4 if option.eq_ignore_ascii_case(b"host") => return Err(Why::ConnectionAbuse),
                14 if option.eq_ignore_ascii_case(b"content-length") => return Err(Why::ConnectionAbuse),
                17 if option.eq_ignore_ascii_case(b"transfer-encoding") => return Err(Why::ConnectionAbuse),
                _ => {}
            }
        }
        Ok(())
    }

    /// RFC 9112, 6.1: Transfer-Encoding = #transfer-coding, over all its field lines.
    fn take_coding(&mut self, value: &[u8]) -> Result<(), Why> {
        for element in fields::list(value) {
            let (name, parameters) = match memchr::memchr(b';', element) {
                Some(semicolon) => (fields::trim_ows(&element[..semicolon]), &element[semicolon..]),
                None => (element, &b""[..]),
            };
            if !fields::is_token(name) {
                return Err(Why::CodingSyntax);
            }
            let is_chunked = name.eq_ignore_ascii_case(b"chunked");
            // RFC 9112, 7.1: "The chunked coding does not define any parameters. Their presence SHOULD be treated as
            // an error."
            if is_chunked && !parameters.is_empty() {
                return Err(Why::CodingSyntax);
            }
            self.coding = Some(match (self.coding, is_chunked) {
                // RFC 9112, 6.1: "A sender MUST NOT apply the chunked transfer coding more than once"; 6.3: chunked must
                // be the final encoding, or the length cannot be determined: 400.
                (Some(Coding::Chunked { .. }), _) => return Err(Why::CodingNotChunked),
                (None, true) => Coding::Chunked { others: false },
                (Some(Coding::Other), true) => Coding::Chunked { others: true },
                (_, false) => Coding::Other,
            });
        }
        Ok(())
    }

    /// RFC 9112, 6.3: the framing of the body, from all that was seen.
    #[inline]
    fn body(&self, method: Method<'_>, version: Version, limits: &Limits) -> Result<BodyKind, Why> {
        let body = match (self.coding, self.length) {
            (None, None) => return Ok(BodyKind::None),
            (None, Some(0)) => return Ok(BodyKind::None),
            (None, Some(length)) => {
                if length > limits.body_bytes_max {
                    return Err(Why::BodyTooLong);
                }
                BodyKind::Length(length)
            }
            // RFC 9112, 6.1: "A server MAY reject a request that contains both Content-Length and Transfer-Encoding"
            (Some(_), Some(_)) => return Err(Why::LengthAndCoding),
            (Some(coding), None) => {
                // RFC 9112, 6.1: "A server ... that receives an HTTP/1.0 message containing a Transfer-Encoding header
                // field MUST treat the message as if the framing is faulty"
                if version == Version::Http10 {
                    return Err(Why::CodingOldVersion);
                }
                match coding {
                    Coding::Chunked { others: false } => BodyKind::Chunked,
                    // RFC 9112, 6.1: "a transfer coding it does not understand SHOULD respond with 501"
                    Coding::Chunked { others: true } => return Err(Why::CodingUnknown),
                    Coding::Other => return Err(Why::CodingNotChunked),
                }
            }
        };
        // RFC 9110, 9.3.8: "A client MUST NOT send content in a TRACE request."; 9.3.6: a CONNECT has no content.
        match method {
            Method::Trace | Method::Connect => Err(Why::BodyForbidden),
            _ => Ok(body),
        }
    }
}

/// True when `name` is `framing`; an error when it is so only with `_` read as `-`.
///
/// Back ends that turn field names into variables (CGI) cannot tell the two apart.
fn is_name_or_lookalike(name: &str, framing: &[u8]) -> Result<bool, Why> {
    let mut exact = true;
    for (&b, &expected) in name.as_bytes().iter().zip(framing) {
        if b.to_ascii_lowercase() != expected {
            if b != b'_' || expected != b'-' {
                return Ok(false);
            }
            exact = false;
        }
    }
    if exact { Ok(true) } else { Err(Why::FieldLookalike) }
}

/// RFC 9110, 8.6: Content-Length = 1*DIGIT; "recipients MUST anticipate potentially large decimal numerals".
fn parse_length(value: &[u8]) -> Result<u64, Why> {
    if value.is_empty() {
        return Err(Why::LengthSyntax);
    }
    let mut length = 0_u64;
    for &b in value {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Why::LengthSyntax);
        }
        let next = length.checked_mul(10).and_then(|l| l.checked_add(u64::from(digit)));
        length = next.ok_or(Why::LengthSyntax)?;
    }
    Ok(length)
}
