//! Headers and chunk lists of sends that have more than one chunk.
//!
//! The kernel reads them while it takes the operation over (rule 3), so one set serves all sends between two
//! enters, and is used again after the queue was emptied. At most one for each place in the queue.
//!
//! Not here: the bytes (the chain in the table of flights holds them).

use corelane_pools::Chain;

/// Chunks of one send; a longer chain sends its first part. 64 chunks make the block just over 1 KiB, and are
/// more than a coalesced batch of responses has.
pub(crate) const CHUNKS: usize = 64;

struct Message {
    header: libc::msghdr,
    chunks: [libc::iovec; CHUNKS],
}

/// The messages of one batch.
pub(crate) struct Messages {
    /// Made when first needed, then kept; boxed because they must not move when another is made.
    #[allow(clippy::vec_box)]
    made: Vec<Box<Message>>,
    used: usize,
    max: usize,
}

impl Messages {
    /// At most `max` at once: the places of the submission queue.
    pub(crate) fn new(max: usize) -> Messages {
        Messages { made: Vec::new(), used: 0, max }
    }

    /// Whether one more may be written before the next [`Messages::clear`].
    pub(crate) fn has_room(&self) -> bool {
        self.used < self.max
    }

    /// Writes a message for the first chunks of `chain`. Valid until [`Messages::clear`]; the chain must stay
    /// until the send completes.
    #[inline(never)]
    pub(crate) fn write(&mut self, chain: &Chain) -> *const libc::msghdr {
        debug_assert!(self.has_room());
        if self.used == self.made.len() {
            // SAFETY: `msghdr` and `iovec` are plain C structures; all-zero bytes are valid in both.
            self.made.push(Box::new(unsafe { std::mem::zeroed() }));
        }
        let message = &mut *self.made[self.used];
        self.used += 1;
        let mut count = 0;
        for (to, from) in message.chunks.iter_mut().zip(chain.slices()) {
            to.iov_base = from.as_ptr().cast_mut().cast();
            to.iov_len = from.len();
            count += 1;
        }
        message.header.msg_iov = message.chunks.as_mut_ptr();
        message.header.msg_iovlen = count;
        &raw const message.header
    }

    /// The kernel has taken over every send written.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }
}
