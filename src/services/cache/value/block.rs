//! Block: few short byte strings, one behind the other in one piece of memory, each behind its length.
//!
//! What small hashes and sets are made of: no pointers, no table, and looking for one of them reads little memory.
//!
//! # Rules
//! 1. It has at most [`ITEMS_MAX`] items of at most [`ITEM_LEN_MAX`] bytes: whoever has more uses a [`super::table`].
//!    So every operation reads and moves at most 16 KiB.
//! 2. An item is named by where its length stands.
//!
//! Not here: which items belong together (`hash`, `set`).

use super::small::allocated;

/// Items: 128 members, or 128 fields with their values. Redis has 128 for sets and sorted sets, and 512 fields for hashes;
/// from there on a table is faster and takes little more.
pub(super) const ITEMS_MAX: usize = 256;
/// Bytes of an item: Redis' default of `hash-max-listpack-value`.
pub(super) const ITEM_LEN_MAX: usize = 64;

/// Room that may lie idle before it is given back.
const IDLE_MAX: usize = 64;

/// Short byte strings in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    bytes: Vec<u8>,
    count: u16,
}

impl Block {
    /// Items.
    #[inline]
    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Bytes of the piece of memory.
    #[inline]
    pub(super) fn block_bytes(&self) -> usize {
        allocated(self.bytes.capacity())
    }

    /// The item at `at`, and where the next one is.
    #[inline]
    pub(super) fn item(&self, at: usize) -> (&[u8], usize) {
        let end = at + 1 + usize::from(self.bytes[at]);
        (&self.bytes[at + 1..end], end)
    }

    /// Where the first item that is `name` is, of those whose number is a multiple of `step`.
    #[inline]
    pub(super) fn find(&self, name: &[u8], step: usize) -> Option<usize> {
        let mut at = 0;
        while at < self.bytes.len() {
            let (item, end) = self.item(at);
            if item == name {
                return Some(at);
            }
            at = (1..step).fold(end, |at, _| at + 1 + usize::from(self.bytes[at]));
        }
        None
    }

    /// Where the item with this number is. There must be one.
    pub(super) fn nth(&self, number: usize) -> usize {
        (0..number).fold(0, |at, _| at + 1 + usize::from(self.bytes[at]))
    }

    /// All items in order.
    pub(super) fn items(&self) -> Items<'_> {
        Items { rest: &self.bytes }
    }

    /// Appends an item. By rule 1 it must be short, and there must be room for it.
    pub(super) fn push(&mut self, item: &[u8]) {
        let (len, _) = self.grow(item);
        self.bytes.push(len);
        self.bytes.extend_from_slice(item);
        self.count += 1;
    }

    /// Puts another item where one is.
    pub(super) fn replace(&mut self, at: usize, item: &[u8]) {
        let end = self.item(at).1;
        if end - at - 1 == item.len() {
            self.bytes[at + 1..end].copy_from_slice(item);
            return;
        }
        let (len, _) = self.grow(item);
        self.bytes.splice(at..end, std::iter::once(len).chain(item.iter().copied()));
        self.shrink();
    }

    /// Takes out the item at `at` and those behind it, `count` in all.
    pub(super) fn remove(&mut self, at: usize, count: u16) {
        let end = (0..count).fold(at, |at, _| self.item(at).1);
        self.bytes.drain(at..end);
        self.count -= count;
        self.shrink();
    }

    /// Makes room for an item, an eighth more than is needed, up to where the allocator begins its next step.
    fn grow(&mut self, item: &[u8]) -> (u8, usize) {
        debug_assert!(item.len() <= ITEM_LEN_MAX);
        debug_assert!(self.count() < ITEMS_MAX + 1);
        let needed = self.bytes.len() + 1 + item.len();
        if needed > self.bytes.capacity() {
            let wanted = allocated(needed + needed / 8) - 8;
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        (u8::try_from(item.len()).unwrap_or(u8::MAX), needed)
    }

    fn shrink(&mut self) {
        if self.bytes.capacity() > 2 * self.bytes.len() + IDLE_MAX {
            self.bytes.shrink_to(self.bytes.len() + IDLE_MAX / 2);
        }
    }
}

/// The items of a [`Block`] in order.
#[derive(Clone, Debug)]
pub(super) struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first()?;
        let (item, rest) = rest.split_at(usize::from(*len));
        self.rest = rest;
        Some(item)
    }
}
