//! What is handed to the kernel for one send: an ordered list of byte chunks, sent from the front.
//!
//! 64 bytes to move. The first chunk is inline; the next three share one allocation, made when the second
//! chunk is pushed; more than that go to a queue. No chunk held is ever empty.
//!
//! Addresses: moving a [`Chain`] or a [`Chunk`] moves handles only. The bytes stay where they are until they
//! are dropped or passed by [`Chain::advance`] (rule 5 of the crate).
//!
//! Not here: when a send is submitted, and who keeps the chain until its completion (`uring`).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::Buf;

/// Chunks a chain can hold: `IOV_MAX` of Linux (`UIO_MAXIOV`, 1024), the most one `sendmsg(2)` takes.
pub const CHUNKS_MAX: usize = 1024;

/// Chunks of the one allocation behind the inline chunk: head, body, and two more.
const NEAR: usize = 3;

/// Bytes to send, and what keeps them alive.
#[derive(Debug)]
pub enum Chunk {
    /// Lent from the pools; returned when sent.
    Buf(Buf),
    /// Part of the program.
    Static(&'static [u8]),
    /// Counted; other chains and threads may hold the same bytes.
    Shared(Bytes),
}

const _: () = assert!(size_of::<Chunk>() == 40);

impl Chunk {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Chunk::Buf(buf) => buf,
            Chunk::Static(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }

    /// Bytes in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Buf> for Chunk {
    #[inline]
    fn from(buf: Buf) -> Chunk {
        Chunk::Buf(buf)
    }
}

impl From<&'static [u8]> for Chunk {
    #[inline]
    fn from(bytes: &'static [u8]) -> Chunk {
        Chunk::Static(bytes)
    }
}

impl<const LEN: usize> From<&'static [u8; LEN]> for Chunk {
    #[inline]
    fn from(bytes: &'static [u8; LEN]) -> Chunk {
        Chunk::Static(bytes)
    }
}

impl From<&'static str> for Chunk {
    #[inline]
    fn from(text: &'static str) -> Chunk {
        Chunk::Static(text.as_bytes())
    }
}

impl From<Bytes> for Chunk {
    #[inline]
    fn from(bytes: Bytes) -> Chunk {
        Chunk::Shared(bytes)
    }
}

impl From<Vec<u8>> for Chunk {
    /// Keeps the allocation; a vector with spare capacity costs one small one more.
    fn from(bytes: Vec<u8>) -> Chunk {
        Chunk::Shared(bytes.into())
    }
}

impl From<String> for Chunk {
    /// As from a vector of its bytes.
    fn from(text: String) -> Chunk {
        Chunk::from(text.into_bytes())
    }
}

/// An ordered list of chunks with a position in the first; see the module header.
#[derive(Debug, Default)]
pub struct Chain {
    first: Option<Chunk>,
    rest: Option<Box<Rest>>,
    /// Bytes of `first` already sent; less than its length.
    skip: usize,
    /// Bytes left in all chunks.
    left: usize,
}

const _: () = assert!(size_of::<Chain>() == 64);

/// Chunks after the first: `near` fills from the front, `far` only while `near` is full.
#[derive(Debug, Default)]
struct Rest {
    near: [Option<Chunk>; NEAR],
    far: VecDeque<Chunk>,
}

impl Chain {
    /// An empty chain. Allocates nothing.
    #[inline]
    pub const fn new() -> Chain {
        Chain { first: None, rest: None, skip: 0, left: 0 }
    }

    /// Adds `chunk` at the end; an empty one is dropped at once.
    ///
    /// The first chunk costs nothing, the second one allocation (152 bytes).
    ///
    /// # Panics
    /// If the chain holds [`CHUNKS_MAX`] chunks: ask [`Chain::is_full`] where that can be.
    #[inline]
    pub fn push(&mut self, chunk: impl Into<Chunk>) {
        let chunk = chunk.into();
        let len = chunk.len();
        if len == 0 {
            return;
        }
        if self.first.is_none() {
            self.first = Some(chunk);
        } else {
            self.push_rest(chunk);
        }
        self.left += len;
    }

    /// Moves all chunks of `other` to the end.
    ///
    /// # Panics
    /// If both together exceed [`CHUNKS_MAX`] chunks, or if `other` was advanced into its first chunk while
    /// `self` is not empty.
    pub fn append(&mut self, mut other: Chain) {
        if self.is_empty() {
            *self = other;
            return;
        }
        assert_eq!(other.skip, 0, "a chain that is partly sent cannot come second");
        while let Some(chunk) = other.pop_chunk() {
            self.push(chunk);
        }
    }

    /// Appends what fits of `bytes` to the spare bytes of the last chunk, if that is a [`Buf`], and returns how
    /// many that were. Lets small answers to pipelined requests share one buffer and one send.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let count = match self.last_mut() {
            Some(Chunk::Buf(buf)) => buf.put(bytes),
            _ => 0,
        };
        self.left += count;
        count
    }

    /// Bytes left to send.
    #[inline]
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether everything was sent, or nothing pushed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Whether it holds exactly one chunk, so that a plain send of [`Chain::first`] is the whole of it.
    #[inline]
    pub fn is_single(&self) -> bool {
        self.first.is_some() && self.rest.as_ref().is_none_or(|rest| rest.near[0].is_none())
    }

    /// Whether it holds [`CHUNKS_MAX`] chunks.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.far.len() >= CHUNKS_MAX - NEAR - 1)
    }

    /// Chunks not sent completely.
    pub fn chunks_count(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.count())
    }

    /// What is left of the first chunk; empty if the chain is.
    #[inline]
    pub fn first(&self) -> &[u8] {
        self.first.as_ref().map_or(&[], |chunk| &chunk.as_slice()[self.skip..])
    }

    /// What is left of the first chunk, to be written over, if that is a [`Buf`], which nobody else holds; else
    /// nothing.
    #[inline]
    pub fn first_mut(&mut self) -> &mut [u8] {
        match &mut self.first {
            Some(Chunk::Buf(buf)) => &mut buf.as_mut_slice()[self.skip..],
            _ => &mut [],
        }
    }

    /// Whether the first chunk is a [`Buf`] with bytes left: [`Chain::first_mut`] is not empty.
    pub fn is_writable(&self) -> bool {
        matches!(self.first, Some(Chunk::Buf(_)))
    }

    /// Takes the first chunk out, whole; none if the chain is empty.
    ///
    /// # Panics
    /// If part of it was sent.
    pub fn pop(&mut self) -> Option<Chunk> {
        assert_eq!(self.skip, 0, "a chunk that is partly sent is not taken out");
        self.pop_chunk()
    }

    /// What is left, chunk by chunk, in order. No slice is empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let rest = self.rest.iter().flat_map(|rest| rest.iter()).map(Chunk::as_slice);
        self.first.iter().map(|chunk| &chunk.as_slice()[self.skip..]).chain(rest)
    }

    /// Takes note that the next `count` bytes were sent, and drops the chunks that are finished.
    ///
    /// # Panics
    /// If `count` exceeds [`Chain::len`].
    #[inline]
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.left, "{count} bytes sent of {}", self.left);
        self.left -= count;
        self.skip += count;
        while let Some(chunk) = &self.first {
            let len = chunk.len();
            if self.skip < len {
                return;
            }
            self.skip -= len;
            self.first = self.rest.as_mut().and_then(|rest| rest.pop());
        }
        debug_assert_eq!(self.skip, 0);
    }

    /// Drops what is left.
    pub fn clear(&mut self) {
        *self = Chain::new();
    }

    fn pop_chunk(&mut self) -> Option<Chunk> {
        let next = self.rest.as_mut().and_then(|rest| rest.pop());
        let chunk = std::mem::replace(&mut self.first, next)?;
        self.left -= chunk.len();
        Some(chunk)
    }

    fn push_rest(&mut self, chunk: Chunk) {
        assert!(!self.is_full(), "a chain holds at most {CHUNKS_MAX} chunks");
        self.rest.get_or_insert_default().push(chunk);
    }

    fn last_mut(&mut self) -> Option<&mut Chunk> {
        match self.rest.as_mut().and_then(|rest| rest.last_mut()) {
            Some(last) => Some(last),
            None => self.first.as_mut(),
        }
    }
}

impl<T: Into<Chunk>> From<T> for Chain {
    #[inline]
    fn from(chunk: T) -> Chain {
        let mut chain = Chain::new();
        chain.push(chunk);
        chain
    }
}

impl Rest {
    fn count(&self) -> usize {
        self.near.iter().flatten().count() + self.far.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.near.iter().flatten().chain(&self.far)
    }

    fn push(&mut self, chunk: Chunk) {
        match self.near.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(chunk),
            None => self.far.push_back(chunk),
        }
    }

    fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.near[0].take()?;
        self.near.rotate_left(1);
        self.near[NEAR - 1] = self.far.pop_front();
        Some(chunk)
    }

    fn last_mut(&mut self) -> Option<&mut Chunk> {
        match self.far.back_mut() {
            Some(last) => Some(last),
            None => self.near.iter_mut().rev().flatten().next(),
        }
    }
}

#[cfg(test)]
mod tests;
