//! Writer: replies, in RESP3 or in what RESP2 has instead.
//!
//! # Rules
//! 1. No text of the application can end a line early: CR and LF within errors and other one-line replies
//!    become blanks. Strings with a length go out as they are.
//! 2. A header promises what follows; the caller keeps the promise. Nothing here counts elements.
//!
//! | RESP3 | in RESP2 |
//! |---|---|
//! | null `_` | `$-1`, or `*-1` where an array was asked for |
//! | map `%n` | array of 2n |
//! | set `~n`, push `>n` | array of n |
//! | double `,` and big number `(` | string |
//! | boolean `#t` | integer 1 or 0 |
//! | verbatim string `=` | string, without its format |
//! | attribute | nothing: the caller leaves it out |
//!
//! Not here: memory for replies, which reply a command has.

use memchr::memchr2;

use crate::number::line;
use crate::{ProtocolError, format_double};

/// `+OK`.
pub const OK: &[u8] = b"+OK\r\n";
/// `+PONG`.
pub const PONG: &[u8] = b"+PONG\r\n";
/// `+QUEUED`.
pub const QUEUED: &[u8] = b"+QUEUED\r\n";
/// The integer 0.
pub const ZERO: &[u8] = b":0\r\n";
/// The integer 1.
pub const ONE: &[u8] = b":1\r\n";
/// The integer -1.
pub const MINUS_ONE: &[u8] = b":-1\r\n";
/// The integer -2.
pub const MINUS_TWO: &[u8] = b":-2\r\n";
/// A string of no bytes.
pub const EMPTY_BULK: &[u8] = b"$0\r\n\r\n";
/// An array of no elements.
pub const EMPTY_ARRAY: &[u8] = b"*0\r\n";

/// Where replies go. It takes all bytes: room is the caller's to ensure beforehand.
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

/// The protocol of a connection: what its client chose by HELLO.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Version {
    /// Where every connection begins.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// Appends replies to a [`Sink`]. Made anew wherever one is to be written: it is two words.
#[derive(Debug)]
pub struct Writer<'s, S: Sink> {
    out: &'s mut S,
    version: Version,
}

impl<'s, S: Sink> Writer<'s, S> {
    /// Replies to a client that speaks `version`, into `out`.
    #[inline]
    pub fn new(out: &'s mut S, version: Version) -> Self {
        Self { out, version }
    }

    /// The protocol it writes.
    #[inline]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whole replies as they go over the wire, such as [`OK`]. Nothing in them is checked.
    #[inline]
    pub fn raw(&mut self, replies: &[u8]) {
        self.out.put(replies);
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.put(OK);
    }

    /// A short text of the server, such as the name of a type.
    #[inline]
    pub fn simple(&mut self, text: &[u8]) {
        self.one_line(b'+', text);
    }

    /// An error: its code in capitals, a blank, what happened. Line ends behind it are dropped.
    pub fn error(&mut self, text: &[u8]) {
        let kept = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        self.one_line(b'-', &text[..kept]);
    }

    /// The last reply of a connection that sent no RESP.
    pub fn protocol_error(&mut self, error: ProtocolError) {
        self.out.put(b"-ERR Protocol error: ");
        self.out.put(error.as_str().as_bytes());
        if let ProtocolError::ExpectedDollar(got) = error {
            self.out.put(b", got '");
            self.cleaned(&[got]);
            self.out.put(b"'");
        }
        self.out.put(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.out.put(line(b':', value < 0, value.unsigned_abs()).as_bytes());
    }

    /// A string of any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.bulk_header(bytes.len());
        self.out.put(bytes);
        self.bulk_end();
    }

    /// The beginning of a string of `len` bytes that come from elsewhere. Behind them: [`Writer::bulk_end`].
    #[inline]
    pub fn bulk_header(&mut self, len: usize) {
        self.header(b'$', len);
    }

    /// The end of a string that began with [`Writer::bulk_header`].
    #[inline]
    pub fn bulk_end(&mut self) {
        self.out.put(b"\r\n");
    }

    /// An integer as a string: what a counter is where a string is asked for.
    #[inline]
    pub fn bulk_integer(&mut self, value: i64) {
        let text = line(b' ', value < 0, value.unsigned_abs());
        let text = text.as_bytes();
        // Without the kind before it; the line end behind it is the string's.
        self.header(b'$', text.len() - 3);
        self.out.put(&text[1..]);
    }

    /// A string with a format of three letters, such as `txt` or `mkd`.
    pub fn verbatim(&mut self, format: [u8; 3], bytes: &[u8]) {
        match self.version {
            Version::Resp2 => self.bulk(bytes),
            Version::Resp3 => {
                self.header(b'=', bytes.len() + 4);
                self.out.put(&format);
                self.out.put(b":");
                self.out.put(bytes);
                self.out.put(b"\r\n");
            }
        }
    }

    /// Nothing, where a string could be.
    #[inline]
    pub fn null(&mut self) {
        self.out.put(match self.version {
            Version::Resp2 => b"$-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// Nothing, where an array could be.
    #[inline]
    pub fn null_array(&mut self) {
        self.out.put(match self.version {
            Version::Resp2 => b"*-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// The header of an array of `count` elements.
    #[inline]
    pub fn array(&mut self, count: usize) {
        self.header(b'*', count);
    }

    /// The header of a map of `pairs` keys, each followed by its value.
    #[inline]
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Resp2 => self.header(b'*', 2 * pairs),
            Version::Resp3 => self.header(b'%', pairs),
        }
    }

    /// The header of a set of `count` elements.
    #[inline]
    pub fn set(&mut self, count: usize) {
        self.aggregate(b'~', count);
    }

    /// The header of a message of `count` elements that answers no command, such as one of a subscription.
    ///
    /// In RESP2 it looks like a reply: only what that protocol knows as a message may be sent by it.
    #[inline]
    pub fn push(&mut self, count: usize) {
        self.aggregate(b'>', count);
    }

    /// The header of `pairs` further facts about the reply that follows. False in RESP2, which has none of
    /// these: then nothing was written, and the pairs must not be either.
    #[must_use]
    pub fn attribute(&mut self, pairs: usize) -> bool {
        if self.version == Version::Resp3 {
            self.header(b'|', pairs);
        }
        self.version == Version::Resp3
    }

    /// A number with a fraction, by [`format_double`].
    pub fn double(&mut self, value: f64) {
        self.number(b',', format_double(value).as_bytes());
    }

    /// A truth value.
    #[inline]
    pub fn boolean(&mut self, value: bool) {
        self.out.put(match (self.version, value) {
            (Version::Resp2, false) => ZERO,
            (Version::Resp2, true) => ONE,
            (Version::Resp3, false) => b"#f\r\n",
            (Version::Resp3, true) => b"#t\r\n",
        });
    }

    /// An integer of any size by its decimal digits, perhaps behind a minus.
    pub fn big_number(&mut self, digits: &[u8]) {
        self.number(b'(', digits);
    }

    /// A line of RESP3 that is a string in RESP2.
    fn number(&mut self, kind: u8, text: &[u8]) {
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => self.one_line(kind, text),
        }
    }

    /// A header of RESP3 that is an array in RESP2.
    #[inline]
    fn aggregate(&mut self, kind: u8, count: usize) {
        self.header(if self.version == Version::Resp3 { kind } else { b'*' }, count);
    }

    #[inline]
    fn header(&mut self, kind: u8, count: usize) {
        // Most lengths have one digit, or two.
        #[expect(clippy::cast_possible_truncation, reason = "it is below ten")]
        let digit = |n: usize| b'0' + (n % 10) as u8;
        match count {
            0..=9 => self.out.put(&[kind, digit(count), b'\r', b'\n']),
            10..=99 => self.out.put(&[kind, digit(count / 10), digit(count), b'\r', b'\n']),
            _ => self.out.put(line(kind, false, count as u64).as_bytes()),
        }
    }

    #[inline]
    fn one_line(&mut self, kind: u8, text: &[u8]) {
        self.out.put(&[kind]);
        self.cleaned(text);
        self.out.put(b"\r\n");
    }

    /// `text` with a blank for each CR and LF.
    #[inline]
    fn cleaned(&mut self, mut text: &[u8]) {
        while let Some(at) = memchr2(b'\r', b'\n', text) {
            self.out.put(&text[..at]);
            self.out.put(b" ");
            text = &text[at + 1..];
        }
        self.out.put(text);
    }
}
