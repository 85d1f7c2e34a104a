//! Ahead: several commands found at once, so that what they need can be fetched before the first of them runs.
//!
//! The short way, for what clients send: whole commands of at most [`ARGUMENTS_MAX`] arguments, each of at most 999 bytes.
//! It says nothing about the first one that is otherwise, nor about those behind it: that one is the [`Parser`]'s.
//!
//! # Rules
//! 1. What is found here, [`Parser::poll`] would find, too: the same commands, at the same places.
//! 2. Nothing is kept from one call of [`Ahead::read`] to the next.
//!
//! Not here: parts of commands, errors (`parser`), limits for guests.
//!
//! [`Parser`]: crate::Parser
//! [`Parser::poll`]: crate::Parser::poll

use crate::Limits;
use crate::command::{Command, Span};

/// Arguments of a command that is found this way.
const ARGUMENTS_MAX: u8 = 9;

/// Bytes of an argument that is found this way.
const BULK_LEN_MAX: u32 = 999;

/// Bytes of a command that is found this way, and some more.
const COMMAND_LEN_MAX: u32 = 16 << 10;

/// Commands found in bytes that are still the caller's.
#[derive(Debug, Default)]
pub struct Ahead {
    spans: Vec<Span>,
    /// Where each ends, and how many spans there are up to there.
    ends: Vec<(usize, usize)>,
}

impl Ahead {
    /// None yet. Allocates when it is first used.
    pub const fn new() -> Ahead {
        Ahead { spans: Vec::new(), ends: Vec::new() }
    }

    /// Finds the commands at the start of `bytes`, at most `max`; how many there are. Forgets those before.
    ///
    /// Some 40 instructions for each argument. The parser of the connection must be fresh
    /// ([`crate::Parser::is_fresh`]), and not that of a guest.
    #[inline]
    pub fn read(&mut self, limits: &Limits, bytes: &[u8], max: usize) -> usize {
        self.spans.clear();
        self.ends.clear();
        let is_short = limits.bulk_bytes_max >= BULK_LEN_MAX
            && limits.arguments_max >= u32::from(ARGUMENTS_MAX)
            && limits.command_bytes_max >= COMMAND_LEN_MAX;
        if !is_short {
            return 0;
        }
        let mut at = 0;
        while self.ends.len() < max
            && let Some(end) = self.one(bytes, at)
        {
            at = end;
            self.ends.push((end, self.spans.len()));
        }
        self.ends.len()
    }

    /// How many were found.
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether none was found.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where command `n` starts in the bytes.
    #[inline]
    pub fn start(&self, n: usize) -> usize {
        self.before(n).0
    }

    /// Where command `n` ends in the bytes.
    ///
    /// # Panics
    /// Beyond the last one.
    #[inline]
    pub fn end(&self, n: usize) -> usize {
        self.ends[n].0
    }

    /// Command `n` of those found. `bytes` are those given to [`Ahead::read`].
    ///
    /// # Panics
    /// Beyond the last one.
    #[inline]
    pub fn command<'p>(&'p self, n: usize, bytes: &'p [u8]) -> Command<'p> {
        let ((start, first), (end, last)) = (self.before(n), self.ends[n]);
        Command { bytes: &bytes[start..end], spans: &self.spans[first..last], is_inline: false }
    }

    #[inline]
    fn before(&self, n: usize) -> (usize, usize) {
        n.checked_sub(1).map_or((0, 0), |before| self.ends[before])
    }

    /// Where the command that starts at `start` ends, if it is whole and short.
    #[inline]
    fn one(&mut self, bytes: &[u8], start: usize) -> Option<usize> {
        let spans = self.spans.len();
        let found = self.arguments(bytes, start);
        if found.is_none() {
            self.spans.truncate(spans);
        }
        found
    }

    #[inline]
    fn arguments(&mut self, bytes: &[u8], start: usize) -> Option<usize> {
        let &[b'*', count, b'\r', b'\n'] = bytes.get(start..)?.first_chunk()? else { return None };
        let count = count.wrapping_sub(b'0');
        if count == 0 || count > ARGUMENTS_MAX {
            return None;
        }
        let mut at = start + 4;
        for _ in 0..count {
            let (len, line) = length(bytes.get(at..)?.first_chunk()?)?;
            let from = at + line;
            let to = from + len;
            if bytes.get(to..)?.first_chunk() != Some(b"\r\n") {
                return None;
            }
            self.spans.push(Span::new(from - start, to - start));
            at = to + 2;
        }
        Some(at)
    }
}

/// Reads `$N CR LF`: N, of one to three digits without a leading zero, and the bytes of the line. An argument has seven
/// bytes with its line, unless it is empty: that one is left to the parser.
#[inline]
fn length(bytes: &[u8; 7]) -> Option<(usize, usize)> {
    let digit = |byte: u8| Some(usize::from(byte.wrapping_sub(b'0'))).filter(|digit| *digit <= 9);
    let leading = |byte: u8| digit(byte).filter(|digit| *digit > 0);
    match *bytes {
        [b'$', a, b'\r', b'\n', ..] => Some((digit(a)?, 4)),
        [b'$', a, b, b'\r', b'\n', ..] => Some((leading(a)? * 10 + digit(b)?, 5)),
        [b'$', a, b, c, b'\r', b'\n', _] => Some((leading(a)? * 100 + digit(b)? * 10 + digit(c)?, 6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(arguments: &[usize]) -> Vec<u8> {
        let mut wire = format!("*{}\r\n", arguments.len()).into_bytes();
        for len in arguments {
            wire.extend_from_slice(format!("${len}\r\n").as_bytes());
            wire.resize(wire.len() + len, b'x');
            wire.extend_from_slice(b"\r\n");
        }
        wire
    }

    fn count(wire: &[u8]) -> usize {
        Ahead::new().read(&Limits::default(), wire, 16)
    }

    #[test]
    fn short_commands_are_found_and_those_one_past_the_limits_are_left() {
        assert_eq!(count(&command(&[1; 9])), 1);
        assert_eq!(count(&command(&[1; 10])), 0);
        for (len, found) in [(0, 0), (1, 1), (9, 1), (10, 1), (99, 1), (100, 1), (999, 1), (1_000, 0)] {
            // The empty one is short of bytes at the very end, and only there.
            assert_eq!(count(&command(&[3, len])), found, "{len}");
        }
        assert_eq!(count(&[command(&[3, 0]), command(&[4])].concat()), 2);
        let max = Limits { bulk_bytes_max: 998, ..Limits::default() };
        assert_eq!(Ahead::new().read(&max, &command(&[3]), 16), 0, "the parser knows what is too long");
    }

    #[test]
    fn as_many_are_found_as_are_wanted_and_none_behind_one_that_is_otherwise() {
        let wire = command(&[3, 5]).repeat(20);
        let mut ahead = Ahead::new();
        assert_eq!(ahead.read(&Limits::default(), &wire, 16), 16);
        assert_eq!((ahead.end(15), ahead.command(15, &wire).len()), (16 * wire.len() / 20, 2));
        for other in
            [&b"PING\r\n"[..], b"*0\r\n", b"*1\r\n$01\r\nx\r\n", b"*1\r\n$1\r\nxx\r\n", b"*1\r\n$-1\r\n", b""]
        {
            let wire = [&command(&[3]), other, &command(&[3])[..9]].concat();
            assert_eq!(count(&wire), 1, "{:?}", String::from_utf8_lossy(other));
        }
    }
}
