//! Where a connection is within an answer, and how it goes on.
//!
//! # Rules
//! 1. No byte behind the end of an answer is taken.
//! 2. Body bytes are counted, never kept. What is kept of a connection is one line that was cut (`lines`).
//! 3. How bytes were cut does not matter: `check`.
//! 4. A connection that failed stays failed.
//!
//! Not here: what a head says (`head`), what a request was (`requests`).

use super::Ask;
use super::chunk;
use super::head::{Body, Facts, HEAD_LEN_MAX, Meaning};
use super::known::{Hint, Memory};
use super::lines;
use crate::protocol::Answer;
use crate::record::ErrorKind;

/// Bytes of the line before a chunk, with its extensions and CRLF. Real ones have below 20; extensions of
/// some signed uploads reach 200. One byte more is garbage.
pub(super) const CHUNK_LINE_LEN_MAX: usize = 4 << 10;

/// Bytes of a trailer section, with its empty line. Digests and signatures take below 1 KiB. One more is
/// garbage.
pub(super) const TRAILER_LEN_MAX: usize = 16 << 10;

/// Interim answers in a row before the one that counts. A server sends 100 and perhaps 103 a few times;
/// without a bound it could send them for ever, and a request would never end. One more is garbage.
pub(super) const INTERIM_MAX: u8 = 16;

/// Where a connection is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum At {
    /// Between two answers.
    #[default]
    Start,
    /// In a head, or behind an interim one.
    Head,
    /// So many body bytes before the end.
    Body(u64),
    /// In a body that ends with the connection.
    UntilClose,
    /// In the line before a chunk.
    Size,
    /// So many bytes before the end of a chunk.
    Chunk(u64),
    /// Before the CR behind a chunk.
    ChunkCr,
    /// Before the LF behind a chunk.
    ChunkLf,
    /// In the trailer section.
    Trailers,
    /// It was garbage.
    Failed,
}

/// What is kept of a connection between two receives.
#[derive(Debug)]
pub struct Conn {
    at: At,
    hint: Hint,
    interims: u8,
    /// What the answer is, once its head is read.
    answer: Answer,
    /// Of the head or trailer section it is in.
    facts: Facts,
    /// The line that was cut.
    held: Vec<u8>,
}

impl Default for Conn {
    fn default() -> Conn {
        Conn {
            at: At::Start,
            hint: Hint::default(),
            interims: 0,
            answer: Answer { error: None, close: false },
            facts: Facts::default(),
            held: Vec::new(),
        }
    }
}

impl Conn {
    /// Whether part of an answer was read.
    pub(super) fn is_within(&self) -> bool {
        self.at != At::Start
    }

    /// Bytes of memory it holds beside itself.
    pub(super) fn held_capacity(&self) -> usize {
        self.held.capacity()
    }

    /// The peer ended its side.
    pub(super) fn end(&mut self) -> Option<Answer> {
        let is_whole = self.at == At::UntilClose;
        is_whole.then(|| {
            self.at = At::Start;
            self.answer
        })
    }

    /// As [`Protocol::read`](crate::protocol::Protocol::read).
    #[inline]
    pub(super) fn read(
        &mut self,
        bytes: &mut &[u8],
        ask: Ask,
        wanted: &[u16],
        memory: &Memory,
    ) -> Result<Option<Answer>, ErrorKind> {
        if self.at == At::Start
            && let Some((len, meaning)) = memory.get(ask.slot, &mut self.hint, bytes)
        {
            *bytes = &bytes[len..];
            // What nearly every answer is: a head that is known, and a body that is here.
            if let Body::Length(length) = meaning.body
                && !ask.head
                && length <= bytes.len() as u64
            {
                #[allow(clippy::cast_possible_truncation)] // at most the length of a slice
                let rest = &bytes[length as usize..];
                *bytes = rest;
                return Ok(Some(Answer { error: meaning.error, close: meaning.close | ask.close }));
            }
            self.begin_body(meaning, ask);
        }
        self.read_on(bytes, ask, wanted, memory)
    }

    #[inline(never)]
    fn read_on(
        &mut self,
        bytes: &mut &[u8],
        ask: Ask,
        wanted: &[u16],
        memory: &Memory,
    ) -> Result<Option<Answer>, ErrorKind> {
        if self.at == At::Start {
            if bytes.is_empty() {
                return Ok(None);
            }
            self.at = At::Head;
            self.facts = Facts::default();
            self.interims = 0;
        }
        let result = self.step(bytes, ask, wanted, memory);
        match result {
            Ok(Some(_)) => self.at = At::Start,
            Ok(None) => debug_assert!(bytes.is_empty()),
            Err(_) => {
                self.at = At::Failed;
                self.held = Vec::new();
            }
        }
        result
    }

    fn step(
        &mut self,
        bytes: &mut &[u8],
        ask: Ask,
        wanted: &[u16],
        memory: &Memory,
    ) -> Result<Option<Answer>, ErrorKind> {
        loop {
            match self.at {
                At::Start | At::Failed => return Err(ErrorKind::Garbage),
                At::Head => {
                    if !self.read_head(bytes, ask, wanted, memory)? {
                        return Ok(None);
                    }
                }
                At::Body(left) => {
                    let left = skip(bytes, left);
                    self.at = At::Body(left);
                    return Ok((left == 0).then_some(self.answer));
                }
                At::UntilClose => {
                    *bytes = &[];
                    return Ok(None);
                }
                At::Size => match lines::next(&mut self.held, bytes, CHUNK_LINE_LEN_MAX, chunk::size)? {
                    Some(0) => {
                        self.facts = Facts::default();
                        self.at = At::Trailers;
                    }
                    Some(size) => self.at = At::Chunk(size),
                    None => {
                        let is_size = self.held.first().is_none_or(u8::is_ascii_hexdigit);
                        return if is_size { Ok(None) } else { Err(ErrorKind::Garbage) };
                    }
                },
                At::Chunk(left) => {
                    let left = skip(bytes, left);
                    self.at = At::Chunk(left);
                    if left > 0 {
                        return Ok(None);
                    }
                    self.at = At::ChunkCr;
                }
                At::ChunkCr => {
                    if !take(bytes, b'\r')? {
                        return Ok(None);
                    }
                    self.at = At::ChunkLf;
                }
                At::ChunkLf => {
                    if !take(bytes, b'\n')? {
                        return Ok(None);
                    }
                    self.at = At::Size;
                }
                At::Trailers => {
                    let len_max = self.facts.line_len_max(TRAILER_LEN_MAX);
                    match lines::next(&mut self.held, bytes, len_max, |line| self.facts.trailer(line))? {
                        Some(true) => return Ok(Some(self.answer)),
                        Some(false) => {}
                        None => return Ok(None),
                    }
                }
            }
        }
    }

    /// True: a head was read, and `at` is where it leads. False: it goes on.
    fn read_head(
        &mut self,
        bytes: &mut &[u8],
        ask: Ask,
        wanted: &[u16],
        memory: &Memory,
    ) -> Result<bool, ErrorKind> {
        // Where memory was asked, and did not know it.
        let is_start = self.interims == 0 && self.facts.is_empty() && self.held.is_empty();
        let whole = *bytes;
        loop {
            let len_max = self.facts.line_len_max(HEAD_LEN_MAX);
            match lines::next(&mut self.held, bytes, len_max, |line| self.facts.line(line))? {
                Some(true) => break,
                Some(false) => {}
                None => {
                    let is_head = self.facts.may_begin(&self.held);
                    return if is_head { Ok(false) } else { Err(ErrorKind::Garbage) };
                }
            }
        }
        if self.facts.is_interim() {
            self.interims += 1;
            self.facts = Facts::default();
            return if self.interims > INTERIM_MAX { Err(ErrorKind::Garbage) } else { Ok(true) };
        }
        let meaning = self.facts.meaning(wanted);
        if is_start {
            let head = &whole[..whole.len() - bytes.len()];
            memory.put(ask.slot, &mut self.hint, head, meaning);
        }
        self.begin_body(meaning, ask);
        Ok(true)
    }

    /// The head is read. An answer to HEAD has no body, whatever it says (RFC 9112, 6.3).
    fn begin_body(&mut self, meaning: Meaning, ask: Ask) {
        let body = if ask.head { Body::Length(0) } else { meaning.body };
        let ends_with_it = body == Body::UntilClose;
        self.answer = Answer { error: meaning.error, close: meaning.close || ask.close || ends_with_it };
        self.at = match body {
            Body::Length(length) => At::Body(length),
            Body::Chunked => At::Size,
            Body::UntilClose => At::UntilClose,
        };
    }
}

/// Takes up to `left` bytes; what is left of them.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    *bytes = &bytes[len..];
    left - len as u64
}

/// Takes `wanted` if there is a byte.
fn take(bytes: &mut &[u8], wanted: u8) -> Result<bool, ErrorKind> {
    match bytes.split_first() {
        None => Ok(false),
        Some((&byte, rest)) if byte == wanted => {
            *bytes = rest;
            Ok(true)
        }
        Some(_) => Err(ErrorKind::Garbage),
    }
}
