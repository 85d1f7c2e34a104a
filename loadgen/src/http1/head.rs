//! The head of an answer, one line after the other, and what it says about the body and the connection.
//!
//! # Rules
//! 1. A head is judged by its lines alone: the request is not known here. So a head that was read once means
//!    the same each time its bytes come again (`known`).
//! 2. Where two readers could disagree about the end of an answer, it is refused: both framings, lengths that
//!    differ, a coding behind `chunked`, white space around a name, a folded line, a bare LF.
//! 3. Where they cannot, it is taken: any reason phrase or none, minor versions above 1, unknown fields.
//!
//! Stricter than RFC 9112 wants a client to be, because a server MUST NOT send it and whoever measures wants
//! to know: bare LF (2.2), space before the colon (5.1), obs-fold (5.2), a body in a coding that nobody asked
//! for (6.1).
//!
//! Not here: which answers have no body because of their request, and bodies (`answer`).

use crate::record::ErrorKind;

/// Bytes of one head, with its last empty line. Most have below 1 KiB, and large cookies make 16 KiB of it;
/// four times that. A connection keeps no more of a head that comes in pieces. One byte more is garbage.
pub(super) const HEAD_LEN_MAX: usize = 64 << 10;

/// Fields of one head, and of one trailer section. An answer with many cookies has 50; five times that,
/// to a power of two. One more is garbage.
pub(super) const FIELDS_MAX: u16 = 256;

/// How the body of an answer ends (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body {
    /// After so many bytes; 0 where there is no body.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// What a whole head means, whatever was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Meaning {
    /// How the body ends, unless the request was HEAD.
    pub(super) body: Body,
    /// What is wrong with the status.
    pub(super) error: Option<ErrorKind>,
    /// The server keeps the connection no longer.
    pub(super) close: bool,
}

/// Transfer codings so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Coding {
    /// No such field.
    #[default]
    None,
    /// A field, and no `chunked` yet.
    Other,
    /// `chunked`, and nothing behind it.
    Chunked,
}

/// What the lines of a head said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// None before the status line.
    status: Option<u16>,
    /// HTTP/1.0.
    old: bool,
    length: Option<u64>,
    coding: Coding,
    close: bool,
    keep_alive: bool,
    fields: u16,
    /// Bytes of the whole lines so far.
    len: usize,
}

impl Facts {
    /// Bytes that the next line may have.
    #[inline]
    pub(super) fn line_len_max(&self, len_max: usize) -> usize {
        len_max.saturating_sub(self.len)
    }

    /// Whether no line was read.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `begun`, a line without its end, can become what comes next. What does not start like HTTP is
    /// found out without waiting for the end of a line that may never come.
    pub(super) fn may_begin(&self, begun: &[u8]) -> bool {
        let len = begun.len().min(NAME.len());
        self.status.is_some() || begun[..len] == NAME[..len]
    }

    /// Takes the next line, without its CRLF. True: it was the last.
    ///
    /// # Errors
    /// Garbage.
    #[inline]
    pub(super) fn line(&mut self, line: &[u8]) -> Result<bool, ErrorKind> {
        self.len += line.len() + 2;
        if self.status.is_none() {
            self.status_line(line)?;
            return Ok(false);
        }
        if line.is_empty() {
            return self.is_sound().then_some(true).ok_or(ErrorKind::Garbage);
        }
        let (name, value) = self.split(line)?;
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value)?,
            _ => {}
        }
        Ok(false)
    }

    /// Takes the next line of a trailer section, without its CRLF. True: it was the last. Trailers change
    /// nothing about the framing (RFC 9110, 6.5.1).
    ///
    /// # Errors
    /// Garbage.
    pub(super) fn trailer(&mut self, line: &[u8]) -> Result<bool, ErrorKind> {
        self.len += line.len() + 2;
        if line.is_empty() {
            return Ok(true);
        }
        self.split(line).map(|_| false)
    }

    /// `HTTP/1.1 200 reason` (RFC 9112, 4). The space before an empty reason may be missing, as many servers
    /// leave it out.
    fn status_line(&mut self, line: &[u8]) -> Result<(), ErrorKind> {
        let rest = line.strip_prefix(NAME).ok_or(ErrorKind::Garbage)?;
        let Some((&[minor, b' ', a, b, c], reason)) = rest.split_first_chunk() else {
            return Err(ErrorKind::Garbage);
        };
        let is_sound = [minor, a, b, c].iter().all(u8::is_ascii_digit)
            && (reason.is_empty() || reason[0] == b' ')
            && is_text(reason);
        if !is_sound {
            return Err(ErrorKind::Garbage);
        }
        // Minor versions above 1 are read as 1.1 (RFC 9110, 2.5).
        self.old = minor == b'0';
        self.status = Some([a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')));
        Ok(())
    }

    /// A field line as name and value (RFC 9112, 5), counted.
    #[inline]
    fn split<'a>(&mut self, line: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), ErrorKind> {
        self.fields += 1;
        let colon = line.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(0);
        if colon == 0 || line[colon] != b':' || self.fields > FIELDS_MAX {
            return Err(ErrorKind::Garbage);
        }
        let value = &line[colon + 1..];
        if is_text(value) { Ok((&line[..colon], trim(value))) } else { Err(ErrorKind::Garbage) }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in elements(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// A length, or a list of the same length (RFC 9110, 8.6).
    fn content_length(&mut self, value: &[u8]) -> Result<(), ErrorKind> {
        for element in elements(value) {
            let length = decimal(element).ok_or(ErrorKind::Garbage)?;
            if *self.length.get_or_insert(length) != length {
                return Err(ErrorKind::Garbage);
            }
        }
        Ok(())
    }

    /// Codings without parameters; `chunked` once, and last (RFC 9112, 6.1). Empty elements are no elements.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), ErrorKind> {
        if self.coding == Coding::None {
            self.coding = Coding::Other;
        }
        for element in elements(value).filter(|element| !element.is_empty()) {
            if self.coding == Coding::Chunked || !element.iter().copied().all(is_token_byte) {
                return Err(ErrorKind::Garbage);
            }
            if element.eq_ignore_ascii_case(b"chunked") {
                self.coding = Coding::Chunked;
            }
        }
        Ok(())
    }

    /// Whether the fields do not contradict each other. A client asks for no coding but `chunked`, so another
    /// one alone is nothing it can end (RFC 9112, 6.3); one in HTTP/1.0 is faulty (6.1).
    fn is_sound(&self) -> bool {
        match self.coding {
            Coding::None => true,
            Coding::Other => false,
            Coding::Chunked => self.length.is_none() && !self.old,
        }
    }

    /// Whether another head follows this one (RFC 9110, 15.2). 101 is the last of HTTP.
    pub(super) fn is_interim(&self) -> bool {
        matches!(self.status, Some(100 | 102..=199))
    }

    /// What the whole head means, where these statuses are wanted; any below 400 if there are none.
    pub(super) fn meaning(&self, wanted: &[u16]) -> Meaning {
        let status = self.status.unwrap_or_default();
        let body = match (status, self.coding, self.length) {
            (100..=199 | 204 | 304, _, _) => Body::Length(0),
            (_, Coding::Chunked, _) => Body::Chunked,
            (_, _, Some(length)) => Body::Length(length),
            (_, _, None) => Body::UntilClose,
        };
        let close = self.close || (self.old && !self.keep_alive) || status == 101;
        Meaning { body, error: error_of(status, wanted), close }
    }
}

/// Name and major version.
const NAME: &[u8] = b"HTTP/1.";

/// Nobody asked for a change of protocol, so 101 is wrong. A status that does not exist is one of 5xx (RFC
/// 9110, 15).
fn error_of(status: u16, wanted: &[u16]) -> Option<ErrorKind> {
    match status {
        101 => Some(ErrorKind::WrongAnswer),
        _ if wanted.contains(&status) => None,
        400..=499 => Some(ErrorKind::Status4xx),
        0..=99 | 500.. => Some(ErrorKind::Status5xx),
        _ => (!wanted.is_empty()).then_some(ErrorKind::WrongAnswer),
    }
}

/// The elements of a comma-separated list, without white space around them.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// Digits alone, below 2^64.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Without SP and HTAB at both ends.
#[inline]
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Whether there is no control character but HTAB (RFC 9110, 5.5).
#[inline]
pub(super) fn is_text(text: &[u8]) -> bool {
    // Without a branch a byte, so that it becomes vector code.
    !text.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f))
}

/// Whether a name may have it (RFC 9110, 5.6.2).
#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// [`is_token_byte`] of each byte.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};
