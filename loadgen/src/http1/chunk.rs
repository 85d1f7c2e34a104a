//! The line before a chunk: its size and extensions (RFC 9112, 7.1).
//!
//! # Rules
//! 1. Extensions mean nothing to a client, but must be what the grammar says: whatever else is in that line,
//!    one of two readers may take for data.
//! 2. White space is allowed where the grammar has it, which is not behind the size alone.
//!
//! Not here: data and its end (`answer`), where a line ends (`lines`).

use super::head::is_token_byte;
use crate::record::ErrorKind;

/// The size that `line`, which has no CRLF any more, says.
///
/// # Errors
/// Garbage, also for a size of 2^64 or more.
pub(super) fn size(line: &[u8]) -> Result<u64, ErrorKind> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at(digits);
    if digits.is_empty() || !are_extensions(extensions) {
        return Err(ErrorKind::Garbage);
    }
    digits
        .iter()
        .try_fold(0_u64, |sum, &byte| {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                _ => (byte | 0x20) - b'a' + 10,
            };
            Some(sum.checked_mul(16)? + u64::from(digit))
        })
        .ok_or(ErrorKind::Garbage)
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`.
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(behind) = after_byte(rest, b';').and_then(after_token) else { return false };
        rest = behind;
        if let Some(value) = after_byte(rest, b'=') {
            let Some(behind) = after_token(value).or_else(|| after_quoted(value)) else { return false };
            rest = behind;
        }
    }
    true
}

fn skip_space(text: &[u8]) -> &[u8] {
    let space = text.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    &text[space..]
}

/// What is behind `byte` and the space around it.
fn after_byte(text: &[u8], byte: u8) -> Option<&[u8]> {
    skip_space(text).strip_prefix(&[byte]).map(skip_space)
}

fn after_token(text: &[u8]) -> Option<&[u8]> {
    let len = text.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(text.len());
    (len > 0).then(|| &text[len..])
}

/// What is behind a quoted string (RFC 9110, 5.6.4).
fn after_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', b'\t' | b' '..=0x7e | 0x80.., behind @ ..] => behind,
            [b'\t' | b' '..=b'[' | b']'..=0x7e | 0x80.., behind @ ..] => behind,
            _ => return None,
        };
    }
}
