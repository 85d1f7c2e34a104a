//! Lines that end in CRLF, from bytes that come in pieces.
//!
//! # Rules
//! 1. A line that is whole in what was received is read where it is. Only one that is not is kept, in `held`.
//! 2. No more than `len_max` bytes of a line are ever kept, its CRLF included.
//! 3. What a line means does not depend on how it was cut: a fault is found in the same bytes either way.
//! 4. A line ends in CRLF. A bare LF is refused, although RFC 9112, 2.2 lets a recipient take one: a sender
//!    MUST NOT write one, and where a head or a chunk ends must not be a matter of taste. A bare CR is
//!    refused with the other control characters (`head`).
//!
//! Not here: what lines say (`head`, `chunk`).

use memchr::memchr;

use crate::record::ErrorKind;

/// A buffer that grew beyond this is given back when its line is read. Most lines that were cut are shorter;
/// of 100,000 connections that each keep this much, all keep 25 MiB.
const HELD_KEPT_LEN: usize = 256;

/// Takes the next whole line off `bytes` and gives it, without its CRLF, to `with`. `None`: the line goes on,
/// and all bytes were taken.
///
/// # Errors
/// Garbage for a line above `len_max` bytes or one that ends in a bare LF, and what `with` says.
#[inline]
pub(super) fn next<T>(
    held: &mut Vec<u8>,
    bytes: &mut &[u8],
    len_max: usize,
    with: impl FnOnce(&[u8]) -> Result<T, ErrorKind>,
) -> Result<Option<T>, ErrorKind> {
    let window = bytes.len().min(len_max.saturating_sub(held.len()));
    let Some(end) = memchr(b'\n', &bytes[..window]) else {
        if held.len() + bytes.len() >= len_max {
            return Err(ErrorKind::Garbage);
        }
        held.extend_from_slice(bytes);
        *bytes = &[];
        return Ok(None);
    };
    let (line, rest) = bytes.split_at(end + 1);
    *bytes = rest;
    if held.is_empty() {
        return with(without_end(line)?).map(Some);
    }
    held.extend_from_slice(line);
    let got = without_end(held).and_then(with);
    held.clear();
    held.shrink_to(HELD_KEPT_LEN);
    got.map(Some)
}

#[inline]
fn without_end(line: &[u8]) -> Result<&[u8], ErrorKind> {
    line.strip_suffix(b"\r\n").ok_or(ErrorKind::Garbage)
}
