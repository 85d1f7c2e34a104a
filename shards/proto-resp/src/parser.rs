//! Parser: from unread bytes to the next command, resumable at any byte.
//!
//! # Rules
//! 1. All positions count from the first unread byte. A command is consumed whole or not at all.
//! 2. A line is read when its CR and the byte behind it are there, as Redis does: what is wrong in it is said
//!    then, not at the first byte that could tell.
//! 3. What was found stays found: `at` is where the next line or argument starts, and up to `seen` no end of
//!    line is.
//!
//! Not here: splitting a line of words (`inline`), digits (`number`).

use memchr::memchr;

use crate::command::{Command, Span};
use crate::number::{integer, short};
use crate::{Limits, ProtocolError, inline};

/// Arguments whose positions an idle connection keeps room for: 8 KiB.
const ARGUMENTS_KEPT: usize = 1024;

/// Bytes an idle connection keeps room for, to unquote an inline command.
const SCRATCH_KEPT: usize = 1024;

/// What [`Parser::poll`] found.
#[derive(Clone, Copy, Debug)]
pub enum Step<'p> {
    /// One command. The slice given to `poll` is past it.
    Command(Command<'p>),
    /// No whole command. The slice is past what needs no answer: empty lines and empty arrays.
    NeedMore {
        /// Unread bytes at which polling again can find something; more than there are now.
        ///
        /// For an argument whose length is known this is its end, so room for all of it can be made at once.
        /// It is at most `command_bytes_max` and a line: check it against what the connection may hold.
        wants: usize,
    },
    /// No RESP, or beyond a limit. Every further poll says the same.
    Refused(ProtocolError),
}

/// An argument whose length is known and whose bytes are not all there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpenArgument {
    /// Which argument of its command; 0 is the name.
    pub index: usize,
    /// Where it starts in the unread bytes, at most their number.
    pub start: usize,
    /// Its bytes, without the CR LF behind them.
    pub len: usize,
}

/// Reads the commands of one connection.
///
/// Holds no input: unread bytes stay with the caller, who presents them again with more behind them. They may
/// move in memory between polls, but must be the same.
///
/// About 100 bytes, and 8 for each argument of the largest command lately; see [`Limits::arguments_max`].
#[derive(Debug, Default)]
pub struct Parser {
    /// The arguments found of the command that is read.
    spans: Vec<Span>,
    /// The words of an inline command with quotes.
    scratch: Vec<u8>,
    /// Where the next line or, if there is one, the open argument starts.
    at: usize,
    /// No end of line before this.
    seen: usize,
    /// Fewer unread bytes than this make no difference.
    wants: usize,
    /// Bytes of the command that were detached.
    detached: usize,
    /// Arguments still to come.
    remaining: u32,
    /// The length of the argument at `at`, once it is known.
    open: Option<u32>,
    /// The number of arguments is known.
    is_within: bool,
    is_guest: bool,
    failed: Option<ProtocolError>,
    /// Bytes searched, arguments found: what the tests count instead of time.
    #[cfg(test)]
    pub(crate) steps: usize,
}

/// Where the arguments of a command are.
enum Found<'i> {
    Array(&'i [u8]),
    Words(&'i [u8]),
    Unquoted,
}

impl Parser {
    /// A parser for a new connection, with all spans to be allocated by its first command.
    pub const fn new() -> Self {
        Self {
            spans: Vec::new(),
            scratch: Vec::new(),
            at: 0,
            seen: 0,
            wants: 0,
            detached: 0,
            remaining: 0,
            open: None,
            is_within: false,
            is_guest: false,
            failed: None,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Whether the peer has yet to authenticate: its arrays are held to the limits for guests. False at
    /// first.
    ///
    /// Holds from the next length that is read. So poll for the command behind an AUTH when AUTH has run.
    pub fn set_guest(&mut self, is_guest: bool) {
        self.is_guest = is_guest;
    }

    /// Whether no command is under way. With no unread bytes left, this is where a connection may rest or
    /// end.
    pub fn is_between(&self) -> bool {
        !self.is_within
    }

    /// Whether nothing is known of the unread bytes: no command is under way, and none was found wanting. Then they may
    /// be read by [`crate::Ahead`], and polled behind what that found.
    #[inline]
    pub fn is_fresh(&self) -> bool {
        !self.is_within && self.seen == 0 && self.wants <= 1 && self.failed.is_none()
    }

    /// Finds the next command in the unread bytes, and advances `input` past it.
    ///
    /// Costs in proportion to the bytes that are new. Allocates only if the command has more arguments than
    /// the ones before.
    #[inline]
    pub fn poll<'p, 'i: 'p>(&'p mut self, limits: &Limits, input: &mut &'i [u8]) -> Step<'p> {
        let (bytes, is_inline) = match self.next(limits, input) {
            Ok(Some(Found::Array(bytes))) => (bytes, false),
            Ok(Some(Found::Words(bytes))) => (bytes, true),
            Ok(Some(Found::Unquoted)) => (&*self.scratch, true),
            Ok(None) => return Step::NeedMore { wants: self.wants },
            Err(error) => {
                self.failed = Some(error);
                return Step::Refused(error);
            }
        };
        Step::Command(Command { bytes, spans: &self.spans, is_inline })
    }

    /// The argument that [`Step::NeedMore`] waits for, if its length is known.
    ///
    /// For a caller that wants a large one elsewhere than behind its other unread bytes: see
    /// [`Parser::detach_argument`].
    pub fn open_argument(&self) -> Option<OpenArgument> {
        let len = self.open?;
        Some(OpenArgument { index: self.spans.len(), start: self.at, len: len as usize })
    }

    /// Takes the open argument out of the unread bytes: the caller has received it to where it shall stay.
    ///
    /// Before, the caller moved the unread bytes from [`OpenArgument::start`] on to that place and received
    /// until it had `len` bytes and two more, which are `end`. Behind, the unread bytes go on at `start` with
    /// what follows `end`, and are polled again, even if there are none. In its [`Command`] the argument is
    /// empty; the caller knows it by its index. Its length still counts for `command_bytes_max`.
    ///
    /// # Panics
    /// Without an open argument.
    pub fn detach_argument(&mut self, end: [u8; 2]) {
        let Some(len) = self.open.take() else { panic!("no argument is open to be detached") };
        if end != *b"\r\n" {
            self.failed = Some(ProtocolError::InvalidBulkLength);
        }
        self.spans.push(Span::new(self.at, self.at));
        self.remaining -= 1;
        self.detached += len as usize + 2;
        self.seen = self.at;
        self.wants = self.at;
    }

    #[inline]
    fn next<'i>(
        &mut self,
        limits: &Limits,
        input: &mut &'i [u8],
    ) -> Result<Option<Found<'i>>, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if input.len() < self.wants {
            return Ok(None);
        }
        while !self.is_within {
            let bytes = *input;
            match bytes.first() {
                None => {
                    self.rest();
                    return Ok(None);
                }
                Some(b'*') => {
                    let Some((count, end)) = self.count(limits, bytes)? else { return Ok(None) };
                    if count == 0 {
                        self.consume(input, end);
                        continue;
                    }
                    self.spans.clear();
                    self.detached = 0;
                    self.remaining = count;
                    self.at = end;
                    self.is_within = true;
                }
                Some(_) => {
                    let Some((end, is_unquoted)) = self.words(limits, bytes)? else { return Ok(None) };
                    let line = self.consume(input, end);
                    if !self.spans.is_empty() {
                        return Ok(Some(if is_unquoted { Found::Unquoted } else { Found::Words(line) }));
                    }
                }
            }
        }
        if self.arguments(limits, input)? {
            self.is_within = false;
            Ok(Some(Found::Array(self.consume(input, self.at))))
        } else {
            Ok(None)
        }
    }

    /// Advances past `len` bytes, which it returns. The next command starts from nothing.
    #[inline]
    fn consume<'i>(&mut self, input: &mut &'i [u8], len: usize) -> &'i [u8] {
        let (done, rest) = input.split_at(len);
        *input = rest;
        self.seen = 0;
        self.wants = 0;
        done
    }

    /// No unread bytes and no command under way: gives back what only large commands need.
    fn rest(&mut self) {
        self.wants = 1;
        if self.spans.capacity() > ARGUMENTS_KEPT {
            self.spans = Vec::new();
        }
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
    }

    /// Reads `*N`: the number of arguments, 0 for an array that is empty or null, and where the line ends.
    #[inline]
    fn count(&mut self, limits: &Limits, bytes: &[u8]) -> Result<Option<(u32, usize)>, ProtocolError> {
        let (count, end) = match short(&bytes[1..]) {
            Some((count, len)) => (i64::from(count), 1 + len),
            None => {
                let Some(end) = self.line(limits, bytes, 0, ProtocolError::MultibulkCountTooLong)? else {
                    return Ok(None);
                };
                match integer(&bytes[1..end]) {
                    Some(count) if bytes[end + 1] == b'\n' => (count, end + 2),
                    _ => return Err(ProtocolError::InvalidMultibulkLength),
                }
            }
        };
        if count > limits.arguments_max.into() {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if self.is_guest && count > limits.guest_arguments_max.into() {
            return Err(ProtocolError::GuestMultibulkLength);
        }
        // Negative: a null array, which is as empty.
        Ok(Some((u32::try_from(count).unwrap_or(0), end)))
    }

    /// Reads the arguments that are there. True if these are all.
    #[inline]
    fn arguments(&mut self, limits: &Limits, bytes: &[u8]) -> Result<bool, ProtocolError> {
        while self.remaining > 0 {
            let len = match self.open {
                Some(len) => len,
                None => {
                    let Some((len, start)) = self.length(limits, bytes)? else { return Ok(false) };
                    self.at = start;
                    len
                }
            };
            let end = self.at + len as usize;
            match bytes.get(end..end + 2) {
                Some(b"\r\n") => {
                    self.spans.push(Span::new(self.at, end));
                    self.at = end + 2;
                    self.remaining -= 1;
                    self.open = None;
                    self.count_steps(1);
                }
                Some(_) => return Err(ProtocolError::InvalidBulkLength),
                None => {
                    self.open = Some(len);
                    self.wants = end + 2;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Reads `$N` at `at`: the length of the argument, and where it starts.
    #[inline]
    fn length(&mut self, limits: &Limits, bytes: &[u8]) -> Result<Option<(u32, usize)>, ProtocolError> {
        let found = match bytes.get(self.at..) {
            Some([b'$', digits @ ..]) => short(digits),
            _ => None,
        };
        let (len, start) = match found {
            Some((len, line)) => (len, self.at + 1 + line),
            None => {
                let too_long = ProtocolError::BulkCountTooLong;
                let Some(end) = self.line(limits, bytes, self.at, too_long)? else { return Ok(None) };
                if bytes[self.at] != b'$' {
                    return Err(ProtocolError::ExpectedDollar(bytes[self.at]));
                }
                let len = integer(&bytes[self.at + 1..end]).and_then(|len| u32::try_from(len).ok());
                match len {
                    Some(len) if bytes[end + 1] == b'\n' => (len, end + 2),
                    _ => return Err(ProtocolError::InvalidBulkLength),
                }
            }
        };
        if len > limits.bulk_bytes_max {
            return Err(ProtocolError::InvalidBulkLength);
        }
        if self.is_guest && len > limits.guest_bulk_bytes_max {
            return Err(ProtocolError::GuestBulkLength);
        }
        if start + len as usize + 2 + self.detached > limits.command_bytes_max as usize {
            return Err(ProtocolError::CommandTooLong);
        }
        Ok(Some((len, start)))
    }

    /// Where the CR of the line that starts at `at` is, once there is a byte behind it.
    fn line(
        &mut self,
        limits: &Limits,
        bytes: &[u8],
        at: usize,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        match self.search(b'\r', limits, bytes, at, too_long)? {
            Some(end) if end + 1 == bytes.len() => {
                self.seen = end;
                self.wants = bytes.len() + 1;
                Ok(None)
            }
            found => Ok(found),
        }
    }

    /// Looks for `needle` from `at`, and not twice in the same bytes.
    fn search(
        &mut self,
        needle: u8,
        limits: &Limits,
        bytes: &[u8],
        at: usize,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let max = limits.line_bytes_max as usize;
        let from = self.seen.max(at);
        let to = bytes.len().min(at + max + 1);
        let unseen = bytes.get(from..to).unwrap_or_default();
        let found = memchr(needle, unseen);
        self.count_steps(found.map_or(unseen.len(), |len| len + 1));
        if let Some(len) = found {
            return Ok(Some(from + len));
        }
        if bytes.len() - at > max {
            return Err(too_long);
        }
        self.seen = to;
        self.wants = bytes.len() + 1;
        Ok(None)
    }

    /// Reads a line of words: where it ends, and whether its words are in the scratch bytes.
    fn words(&mut self, limits: &Limits, bytes: &[u8]) -> Result<Option<(usize, bool)>, ProtocolError> {
        let too_long = ProtocolError::InlineTooLong;
        let Some(end) = self.search(b'\n', limits, bytes, 0, too_long)? else { return Ok(None) };
        let line = &bytes[..end];
        self.spans.clear();
        self.scratch.clear();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_unquoted = inline::split(line, &mut self.spans, &mut self.scratch)?;
        self.count_steps(line.len());
        if self.spans.len() > limits.arguments_max as usize {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        Ok(Some((end + 1, is_unquoted)))
    }

    /// Room for spans and for scratch bytes.
    #[cfg(test)]
    pub(crate) fn room(&self) -> (usize, usize) {
        (self.spans.capacity(), self.scratch.capacity())
    }

    #[cfg(test)]
    fn count_steps(&mut self, count: usize) {
        self.steps += count;
    }

    #[cfg(not(test))]
    #[inline]
    fn count_steps(&mut self, _: usize) {}
}
