//! Response: status line, framing and fields of an answer, written in as few copies as we can.
//!
//! # Rules
//! 1. An answer has exactly one framing: a length, chunks, the end of the connection, or no content at all.
//! 2. Content-Length, Transfer-Encoding and Connection are only ever written here.
//! 3. Fields are checked before the first byte is written: a refused answer leaves nothing in the sink.
//!
//! Not here: when to close (`connection`), the bodies themselves.

use crate::fields::{is_plain, is_token, is_value_byte};
use crate::{BadHeader, Reject};

/// Where the bytes of an answer go. It takes all of them: room is the caller's to ensure beforehand.
pub trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// What the application says about an answer, besides its body.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// 200 to 999.
    pub status: u16,
    /// Further fields, in order. `Date` among them replaces ours.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The `Content-Type` value.
    pub content_type: Option<&'a str>,
    /// The `Server` value.
    pub server: Option<&'a str>,
}

impl Default for ResponseHead<'_> {
    fn default() -> Self {
        Self { status: 200, headers: &[], content_type: None, server: None }
    }
}

/// How long the content of an answer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyLength {
    /// No content.
    None,
    /// This many bytes. To HEAD: what GET would have sent.
    Known(u64),
    /// Not known yet.
    Unknown,
}

/// How the content of an answer must be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyMode {
    /// Not at all: HEAD, 204, 205, 304, or no content.
    NoBody,
    /// As it is; its length was announced.
    Raw,
    /// In chunks: [`encode_chunk_header`], data, [`CHUNK_END`]; at last [`LAST_CHUNK`].
    Chunked,
    /// As it is; the end of the connection ends it (HTTP/1.0).
    UntilClose,
}

/// What follows the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The last chunk and an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The size line of one chunk, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct ChunkPrefix {
    bytes: [u8; 18],
    start: u8,
}

impl ChunkPrefix {
    /// The size line with its CRLF.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

/// The size line of a chunk of `len` bytes. `len` is not 0: that would end the body.
#[inline]
pub fn chunk_prefix(len: u64) -> ChunkPrefix {
    assert!(len > 0, "a chunk of no bytes would end the body");
    let mut prefix = ChunkPrefix { bytes: [0; 18], start: 16 };
    prefix.bytes[16..].copy_from_slice(b"\r\n");
    let mut left = len;
    while left > 0 {
        prefix.start -= 1;
        prefix.bytes[usize::from(prefix.start)] = b"0123456789abcdef"[(left & 15) as usize];
        left >>= 4;
    }
    prefix
}

/// Writes the size line of a chunk of `len` bytes. `len` is not 0.
#[inline]
pub fn encode_chunk_header<S: Sink>(out: &mut S, len: u64) {
    out.put(chunk_prefix(len).as_bytes());
}

macro_rules! statuses {
    ($($code:literal $reason:literal)+) => {
        /// The registered reason phrase of `status`, empty for others.
        pub const fn reason_phrase(status: u16) -> &'static str {
            match status { $($code => $reason,)+ _ => "" }
        }

        /// Status line of a registered code, with its CRLF.
        const fn status_line(status: u16) -> Option<&'static [u8]> {
            match status {
                $($code => Some(concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n").as_bytes()),)+
                _ => None,
            }
        }

        /// Every registered code with its phrase.
        #[cfg(test)]
        pub(crate) const STATUSES: &[(u16, &str)] = &[$(($code, $reason),)+];
    };
}

// The IANA HTTP Status Code Registry; phrases of RFC 9110 where it defines the code.
statuses! {
    100 "Continue"
    101 "Switching Protocols"
    102 "Processing"
    103 "Early Hints"
    200 "OK"
    201 "Created"
    202 "Accepted"
    203 "Non-Authoritative Information"
    204 "No Content"
    205 "Reset Content"
    206 "Partial Content"
    207 "Multi-Status"
    208 "Already Reported"
    226 "IM Used"
    300 "Multiple Choices"
    301 "Moved Permanently"
    302 "Found"
    303 "See Other"
    304 "Not Modified"
    305 "Use Proxy"
    307 "Temporary Redirect"
    308 "Permanent Redirect"
    400 "Bad Request"
    401 "Unauthorized"
    402 "Payment Required"
    403 "Forbidden"
    404 "Not Found"
    405 "Method Not Allowed"
    406 "Not Acceptable"
    407 "Proxy Authentication Required"
    408 "Request Timeout"
    409 "Conflict"
    410 "Gone"
    411 "Length Required"
    412 "Precondition Failed"
    413 "Content Too Large"
    414 "URI Too Long"
    415 "Unsupported Media Type"
    416 "Range Not Satisfiable"
    417 "Expectation Failed"
    421 "Misdirected Request"
    422 "Unprocessable Content"
    423 "Locked"
    424 "Failed Dependency"
    425 "Too Early"
    426 "Upgrade Required"
    428 "Precondition Required"
    429 "Too Many Requests"
    431 "Request Header Fields Too Large"
    451 "Unavailable For Legal Reasons"
    500 "Internal Server Error"
    501 "Not Implemented"
    502 "Bad Gateway"
    503 "Service Unavailable"
    504 "Gateway Timeout"
    505 "HTTP Version Not Supported"
    506 "Variant Also Negotiates"
    507 "Insufficient Storage"
    508 "Loop Detected"
    510 "Not Extended"
    511 "Network Authentication Required"
}

/// What the connection decided about an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing {
    /// `Content-Length` to write.
    pub(crate) length: Option<u64>,
    /// `Transfer-Encoding: chunked`.
    pub(crate) chunked: bool,
    /// `Connection: close`.
    pub(crate) close: bool,
    /// `Connection: keep-alive`, which only HTTP/1.0 clients need.
    pub(crate) keep_alive: bool,
    /// `Connection: upgrade`, because the head names one.
    pub(crate) upgrade: bool,
}

impl Framing {
    /// The four facts besides the length, to be compared as one.
    #[inline]
    fn shape(self) -> u8 {
        u8::from(self.chunked)
            | u8::from(self.close) << 1
            | u8::from(self.keep_alive) << 2
            | u8::from(self.upgrade) << 3
    }
}

/// What the fields of an answer ask of the rest of its head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    /// The application brings its own `Date`.
    pub(crate) own_date: bool,
    /// It names an upgrade: `Connection` must say so.
    pub(crate) upgrade: bool,
}

/// Checks the fields of an answer.
#[inline]
pub(crate) fn check_head(head: &ResponseHead<'_>) -> Result<Asked, BadHeader> {
    let mut asked = Asked::default();
    for (name, value) in head.headers {
        check_field(name, value, &mut asked)?;
    }
    if let Some(content_type) = head.content_type {
        check_value(content_type.as_bytes())?;
    }
    if let Some(server) = head.server {
        check_value(server.as_bytes())?;
    }
    Ok(asked)
}

fn check_field(name: &str, value: &[u8], asked: &mut Asked) -> Result<(), BadHeader> {
    if !is_token(name.as_bytes()) {
        return Err(BadHeader::Name);
    }
    match name.len() {
        4 if name.eq_ignore_ascii_case("date") => asked.own_date = true,
        7 if name.eq_ignore_ascii_case("upgrade") => asked.upgrade = true,
        10 if name.eq_ignore_ascii_case("connection") => return Err(BadHeader::Framing),
        14 if name.eq_ignore_ascii_case("content-length") => return Err(BadHeader::Framing),
        17 if name.eq_ignore_ascii_case("transfer-encoding") => return Err(BadHeader::Framing),
        _ => {}
    }
    check_value(value)
}

/// RFC 9110, 5.5: "Field values containing CR, LF, or NUL characters are invalid and dangerous".
#[inline]
fn check_value(value: &[u8]) -> Result<(), BadHeader> {
    let plain = match (value.first_chunk::<8>(), value.last_chunk::<8>()) {
        // Eight bytes at a time; the last block overlaps the one before it.
        (Some(_), Some(last)) => value.as_chunks::<8>().0.iter().all(is_plain) && is_plain(last),
        _ => false,
    };
    if plain || value.iter().all(|&b| is_value_byte(b)) { Ok(()) } else { Err(BadHeader::Value) }
}

/// Heads up to this many bytes are put together on the stack and handed over in one piece.
const SCRATCH: usize = 256;

/// Room for a head: constant pieces become plain stores, and the sink is asked once.
#[derive(Clone, Debug)]
struct Scratch {
    bytes: [u8; SCRATCH],
    len: usize,
}

impl Scratch {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

impl Sink for Scratch {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        Scratch::put(self, bytes);
    }
}

/// Writes a head that passed [`check_head`].
#[inline]
pub(crate) fn write_head<S: Sink>(
    out: &mut S,
    head: &ResponseHead<'_>,
    framing: Framing,
    date: Option<&[u8; 29]>,
) {
    if fits_scratch(head) {
        let mut scratch = Scratch { bytes: [0; SCRATCH], len: 0 };
        write_pieces(&mut scratch, head, framing, date);
        out.put(&scratch.bytes[..scratch.len]);
    } else {
        write_pieces(out, head, framing, date);
    }
}

/// Everything but these two values of a head without fields of its own is below 200 bytes: see the test.
#[inline]
fn fits_scratch(head: &ResponseHead<'_>) -> bool {
    let variable = head.server.map_or(0, str::len) + head.content_type.map_or(0, str::len);
    head.headers.is_empty() && variable <= VARIABLE_MAX
}

/// Bytes of `Server` and `Content-Type` together that surely fit the scratch.
const VARIABLE_MAX: usize = 48;

/// The head of an answer, made of constants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StaticHead {
    /// 200 to 999.
    pub status: u16,
    /// The `Content-Type` value.
    pub content_type: Option<&'static str>,
    /// The `Server` value.
    pub server: Option<&'static str>,
}

/// What the bytes of a head without fields of its own depend on, besides the date.
#[derive(Clone, Copy, Debug)]
struct MemoKey {
    head: StaticHead,
    framing: Framing,
}

impl MemoKey {
    /// Constants are the same when they are the same memory: cheaper than their bytes, and never wrong.
    #[inline]
    fn is(&self, other: &MemoKey) -> bool {
        let text = |a: Option<&'static str>, b: Option<&'static str>| match (a, b) {
            (Some(a), Some(b)) => core::ptr::eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let (a, b) = (&self.framing, &other.framing);
        self.head.status == other.head.status
            && a.length == b.length
            && a.shape() == b.shape()
            && text(self.head.content_type, other.head.content_type)
            && text(self.head.server, other.head.server)
    }
}

/// The head that was written last, to be copied whole when the next one is the same but for its date.
///
/// Less than 400 bytes; one for as many connections as one likes.
#[derive(Clone, Debug)]
pub struct HeadMemo {
    key: Option<MemoKey>,
    date: [u8; 29],
    text: Scratch,
}

const _: () = assert!(size_of::<HeadMemo>() < 400);

impl Default for HeadMemo {
    fn default() -> Self {
        Self { key: None, date: [0; 29], text: Scratch { bytes: [0; SCRATCH], len: 0 } }
    }
}

impl HeadMemo {
    /// Writes the head into `out`, from memory where it can.
    #[inline]
    pub(crate) fn write<S: Sink>(
        &mut self,
        out: &mut S,
        head: StaticHead,
        framing: Framing,
        date: &[u8; 29],
    ) -> Result<(), BadHeader> {
        let key = MemoKey { head, framing };
        if self.date != *date || !self.key.as_ref().is_some_and(|known| known.is(&key)) {
            return self.learn(out, key, date);
        }
        out.put(&self.text.bytes[..self.text.len]);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn learn<S: Sink>(&mut self, out: &mut S, key: MemoKey, date: &[u8; 29]) -> Result<(), BadHeader> {
        let StaticHead { status, content_type, server } = key.head;
        let head = ResponseHead { status, headers: &[], content_type, server };
        check_head(&head)?;
        if !fits_scratch(&head) {
            write_head(out, &head, key.framing, Some(date));
            return Ok(());
        }
        self.text.len = 0;
        write_pieces(&mut self.text, &head, key.framing, Some(date));
        self.key = Some(key);
        self.date = *date;
        out.put(&self.text.bytes[..self.text.len]);
        Ok(())
    }
}

#[inline]
fn write_pieces<S: Sink>(out: &mut S, head: &ResponseHead<'_>, framing: Framing, date: Option<&[u8; 29]>) {
    put_status_line(out, head.status);
    if let Some(date) = date {
        // RFC 9110, 6.6.1: "An origin server with a clock MUST generate a Date header field in all 2xx ..., 3xx ...,
        // and 4xx (Client Error) responses"
        out.put(b"Date: ");
        out.put(date);
        out.put(b"\r\n");
    }
    if let Some(server) = head.server {
        put_field(out, b"Server: ", server.as_bytes());
    }
    if let Some(content_type) = head.content_type {
        put_field(out, b"Content-Type: ", content_type.as_bytes());
    }
    for (name, value) in head.headers {
        out.put(name.as_bytes());
        put_field(out, b": ", value);
    }
    if framing.upgrade {
        // RFC 9110, 7.8: "A sender of Upgrade MUST also send an "Upgrade" connection option in the Connection
        // header field"
        out.put(if framing.close { b"Connection: close, upgrade\r\n" } else { b"Connection: upgrade\r\n" });
    } else if framing.close {
        out.put(b"Connection: close\r\n");
    } else if framing.keep_alive {
        out.put(b"Connection: keep-alive\r\n");
    }
    if framing.chunked {
        out.put(b"Transfer-Encoding: chunked\r\n\r\n");
    } else if let Some(length) = framing.length {
        out.put(b"Content-Length: ");
        out.put(itoa::Buffer::new().format(length).as_bytes());
        out.put(b"\r\n\r\n");
    } else {
        out.put(b"\r\n");
    }
}

#[inline]
fn put_field<S: Sink>(out: &mut S, name: &[u8], value: &[u8]) {
    out.put(name);
    out.put(value);
    out.put(b"\r\n");
}

#[inline]
fn put_status_line<S: Sink>(out: &mut S, status: u16) {
    if status == 200 {
        out.put(b"HTTP/1.1 200 OK\r\n");
    } else {
        put_other_status_line(out, status);
    }
}

#[inline(never)]
fn put_other_status_line<S: Sink>(out: &mut S, status: u16) {
    match status_line(status) {
        Some(line) => out.put(line),
        None => {
            // RFC 9112, 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]
            out.put(b"HTTP/1.1 ");
            out.put(itoa::Buffer::new().format(status).as_bytes());
            out.put(b" \r\n");
        }
    }
}

/// Writes the whole answer to a refused request.
#[cold]
pub(crate) fn write_reject<S: Sink>(out: &mut S, reject: &Reject, date: &[u8; 29], is_head: bool) {
    let text = reject.why.as_str();
    let head =
        ResponseHead { status: reject.status, content_type: Some("text/plain"), ..ResponseHead::default() };
    let length = Some(text.len() as u64 + 1);
    write_head(
        out,
        &head,
        Framing { length, chunked: false, close: true, keep_alive: false, upgrade: false },
        Some(date),
    );
    if !is_head {
        out.put(text.as_bytes());
        out.put(b"\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_head_without_fields_fits_the_scratch() {
        let text = "x".repeat(VARIABLE_MAX / 2);
        for &(status, _) in STATUSES.iter().chain(&[(999, "")]) {
            for (close, chunked) in [(true, false), (false, true), (true, true), (false, false)] {
                let head =
                    ResponseHead { status, headers: &[], content_type: Some(&text), server: Some(&text) };
                let framing =
                    Framing { length: Some(u64::MAX), chunked, close, keep_alive: true, upgrade: true };
                let mut out = Vec::new();
                write_head(&mut out, &head, framing, Some(&[b'd'; 29]));
                assert!(out.ends_with(b"\r\n\r\n"));
                assert!(out.len() <= SCRATCH, "{} bytes", out.len());
            }
        }
    }

    #[test]
    fn every_registered_status_has_a_line_with_its_code_and_phrase() {
        for &(code, reason) in STATUSES {
            let line = String::from_utf8_lossy(status_line(code).unwrap_or_default()).into_owned();
            assert_eq!(line, format!("HTTP/1.1 {code} {reason}\r\n"));
            assert_eq!(reason_phrase(code), reason);
        }
        assert!(STATUSES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn an_unregistered_status_has_an_empty_reason_phrase() {
        let mut out = Vec::new();
        put_status_line(&mut out, 299);
        assert_eq!(out, b"HTTP/1.1 299 \r\n");
    }

    #[test]
    fn chunk_sizes_are_written_in_hexadecimal_without_leading_zeros() {
        for len in [1, 9, 15, 16, 255, 256, 65_536, u64::MAX] {
            let mut out = Vec::new();
            encode_chunk_header(&mut out, len);
            assert_eq!(out, format!("{len:x}\r\n").as_bytes());
        }
    }
}
