//! Kept: bytes that clients have a shard hold for them, counted over all clients of it.
//!
//! A maximum for one client is none for all of them. What a client may have kept is counted in a [`Total`] of its shard,
//! by a [`Kept`] that stays with the bytes.
//!
//! # Rules
//! 1. A total is that of its parts at any time: each takes itself off when it is dropped, on whichever shard.
//!
//! Not here: the maxima, and what is done at them (who counts).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of all parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Total(Arc<AtomicUsize>);

impl Total {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A part of no bytes.
    pub(super) fn part(&self) -> Kept {
        Kept { of: self.clone(), bytes: 0 }
    }

    /// A part of so many.
    pub(super) fn of(&self, bytes: usize) -> Kept {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Kept { of: self.clone(), bytes }
    }
}

/// A part of a total.
#[derive(Debug)]
pub(super) struct Kept {
    of: Total,
    bytes: usize,
}

impl Kept {
    /// Counts `more`. False, and nothing was counted, if the total would pass `max`.
    pub(super) fn add(&mut self, more: usize, max: usize) -> bool {
        if self.of.bytes().saturating_add(more) > max {
            return false;
        }
        self.of.0.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        true
    }

    /// Counts so many less.
    pub(super) fn remove(&mut self, less: usize) {
        let less = less.min(self.bytes);
        self.of.0.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
    }

    /// Counts nothing any more.
    pub(super) fn clear(&mut self) {
        self.remove(self.bytes);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Bytes that are counted as long as they are there.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) bytes: Vec<u8>,
    /// Ends with them.
    pub(super) _kept: Kept,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_that_of_its_parts_and_none_takes_it_past_the_maximum() {
        let total = Total::default();
        let (mut one, mut other) = (total.part(), total.part());
        assert!(one.add(60, 100) && other.add(40, 100));
        assert!(!other.add(1, 100), "on the maximum");
        assert_eq!(total.bytes(), 100);
        one.remove(10);
        assert!(other.add(10, 100));
        drop(one);
        assert_eq!(total.bytes(), 50);
        other.remove(1_000);
        assert_eq!(total.bytes(), 0, "no part takes off what is another's");
        let counted = bytes::Bytes::from_owner(Counted { bytes: vec![0; 9], _kept: total.of(9) });
        let piece = counted.slice(3..);
        drop(counted);
        assert_eq!(total.bytes(), 9);
        drop(piece);
        assert_eq!(total.bytes(), 0);
    }
}
