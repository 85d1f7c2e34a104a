//! Inline: a line of words, with quotes, as somebody types it into telnet. The rules are those of Redis:
//!
//! - Words are separated by blanks: space, tab, CR, LF, and before a word also vertical tab and form feed.
//! - `"..."` may hold blanks and the escapes `\xHH`, `\n`, `\r`, `\t`, `\b`, `\a`; before any other byte a
//!   backslash is dropped. `'...'` may hold blanks and the one escape `\'`.
//! - A quote may open within a word. The closing one ends the word: a blank or the end of the line must
//!   follow.
//!
//! A NUL is a byte like others. (Redis takes it for the end of what it has received, and waits.)
//!
//! Not here: where the line ends (`parser`).

use memchr::memchr2;

use crate::ProtocolError;
use crate::command::Span;

/// Splits `line` into `spans`. True if they are of `scratch`, where words with quotes cannot stay as they
/// came; else they are of `line`. Both are empty before.
///
/// # Errors
/// [`ProtocolError::UnbalancedQuotes`].
pub(crate) fn split(
    line: &[u8],
    spans: &mut Vec<Span>,
    scratch: &mut Vec<u8>,
) -> Result<bool, ProtocolError> {
    let is_quoted = memchr2(b'"', b'\'', line).is_some();
    let mut at = 0;
    loop {
        at += line[at..].iter().take_while(|byte| is_blank(**byte)).count();
        if at == line.len() {
            return Ok(is_quoted);
        }
        if is_quoted {
            let start = scratch.len();
            at = word(line, at, scratch)?;
            spans.push(Span::new(start, scratch.len()));
        } else {
            let start = at;
            at += line[at..].iter().take_while(|byte| !ends_word(**byte)).count();
            spans.push(Span::new(start, at));
        }
    }
}

/// `isspace` of the C locale.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// What ends a word outside quotes: fewer bytes than what may stand before one.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Appends the word that starts at `at`. Returns where it ends.
fn word(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' => return double_quoted(line, at + 1, out),
            b'\'' => return single_quoted(line, at + 1, out),
            _ if ends_word(byte) => break,
            _ => out.push(byte),
        }
        at += 1;
    }
    Ok(at)
}

/// The rest of a word behind `"`.
fn double_quoted(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    loop {
        match line[at..] {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', ..] => return closed(line, at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(nibble(high) << 4 | nibble(low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                at += 2;
            }
            [byte, ..] => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// The rest of a word behind `'`.
fn single_quoted(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    loop {
        match line[at..] {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', ..] => return closed(line, at + 1),
            [b'\\', b'\'', ..] => {
                out.push(b'\'');
                at += 2;
            }
            [byte, ..] => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// Behind a closing quote: a blank or nothing.
fn closed(line: &[u8], at: usize) -> Result<usize, ProtocolError> {
    match line.get(at) {
        Some(&byte) if !is_blank(byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(at),
    }
}

/// The value of a hexadecimal digit.
fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
