//! What a connection has to send: a buffer being filled, and the chain of what is full.
//!
//! Small answers of one turn share buffers, so that a pipelined burst is one send. Large bodies go beside
//! them without a copy.
//!
//! Not here: when it is sent (`http1`, `session`).

use corelane_pools::{Buf, Chain, Chunk, Full, Pools};
use corelane_proto_h1::Sink;

/// Bodies up to this many bytes are copied beside the head; larger ones are sent from where they are.
///
/// A second chunk costs a message header and an iovec, about as much as copying this.
pub(crate) const COPY_MAX: usize = 4096;

/// Bytes waiting to be handed to the kernel, in order.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Filled now; after everything in `chain`.
    tail: Option<Buf>,
    chain: Chain,
    /// The pools could give no buffer: the answer is incomplete and the connection must end.
    failed: bool,
    /// More answers are about to follow this one.
    burst: bool,
}

/// Room for a head without fields of its own, with some to spare.
const HEAD_ROOM: usize = 256;

/// The buffer of a pipelined burst: some sixty small answers.
const BURST_ROOM: usize = 16 << 10;

impl Output {
    pub(crate) fn len(&self) -> usize {
        self.chain.len() + self.tail.as_ref().map_or(0, Buf::len)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.tail.as_ref().is_none_or(Buf::is_empty) && self.chain.is_empty()
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// No room for one more chunk: send first.
    pub(crate) fn is_full(&self) -> bool {
        self.chain.chunks_count() + 2 >= corelane_pools::CHUNKS_MAX
    }

    /// Everything, to be sent as one operation.
    #[inline]
    pub(crate) fn take(&mut self) -> Chain {
        if let Some(tail) = self.tail.take() {
            if self.chain.is_empty() {
                let mut chain = Chain::new();
                chain.push(tail);
                return chain;
            }
            self.chain.push(tail);
        }
        std::mem::take(&mut self.chain)
    }

    /// Adds bytes that are sent from where they are.
    pub(crate) fn push(&mut self, chunk: impl Into<Chunk>) {
        if let Some(tail) = self.tail.take() {
            self.chain.push(tail);
        }
        self.chain.push(chunk);
    }

    /// Whether more requests stand behind the one that is answered next.
    #[inline]
    pub(crate) fn expect_more(&mut self, burst: bool) {
        self.burst = burst;
    }

    /// Takes a buffer for a head and `body_len` bytes behind it, so that a small answer is one piece; a larger
    /// one for a burst. Does nothing where one is being filled.
    #[inline]
    pub(crate) fn begin(&mut self, pools: &Pools, body_len: usize) {
        if self.tail.is_none() {
            match pools.get(if self.burst { BURST_ROOM } else { HEAD_ROOM + body_len }) {
                Ok(buf) => self.tail = Some(buf),
                Err(Full { .. }) => self.failed = true,
            }
        }
    }

    /// Appends to the buffer being filled, a small one where there is none. False where it has no room.
    #[inline]
    pub(crate) fn put(&mut self, pools: &Pools, bytes: &[u8]) -> bool {
        if self.tail.is_none() {
            match pools.get(HEAD_ROOM.max(bytes.len())) {
                Ok(buf) => self.tail = Some(buf),
                Err(Full { .. }) => self.failed = true,
            }
        }
        match &mut self.tail {
            Some(tail) if tail.spare_len() >= bytes.len() => {
                tail.put(bytes);
                true
            }
            Some(_) => false,
            None => true, // it failed: nothing more matters
        }
    }

    /// As `put`, where that found no room. What is in a small buffer moves on to a large one: a copy costs less than
    /// a second piece.
    pub(crate) fn put_on(&mut self, pools: &Pools, bytes: &[u8]) {
        if self.failed {
            return;
        }
        let small = self.tail.take_if(|tail| tail.capacity() < COPY_MAX);
        if let Some(full) = self.tail.take() {
            self.chain.push(full);
        }
        let before = small.as_deref().unwrap_or_default();
        match pools.get((before.len() + bytes.len()).max(BURST_ROOM)) {
            Ok(mut buf) => {
                let put = buf.put(before) + buf.put(bytes);
                assert_eq!(put, before.len() + bytes.len(), "a buffer holds what was asked for");
                self.tail = Some(buf);
            }
            Err(Full { .. }) => self.failed = true,
        }
    }

    #[inline]
    pub(crate) fn writer<'a>(&'a mut self, pools: &'a Pools) -> Writer<'a> {
        Writer { output: self, pools }
    }

    #[cold]
    #[inline(never)]
    fn spill(&mut self, pools: &Pools, bytes: &[u8]) {
        if self.failed {
            return;
        }
        if let Some(full) = self.tail.take() {
            self.chain.push(full);
        }
        match pools.get(bytes.len().max(COPY_MAX)) {
            Ok(mut buf) => {
                let put = buf.put(bytes);
                assert_eq!(put, bytes.len(), "a buffer holds what was asked for");
                self.tail = Some(buf);
            }
            Err(Full { .. }) => self.failed = true,
        }
    }
}

/// Writes into an [`Output`].
pub(crate) struct Writer<'a> {
    output: &'a mut Output,
    pools: &'a Pools,
}

impl Sink for Writer<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if let Some(tail) = &mut self.output.tail
            && tail.spare_len() >= bytes.len()
        {
            tail.put(bytes);
            return;
        }
        self.output.spill(self.pools, bytes);
    }
}

#[cfg(test)]
mod tests;
