//! Heads that came before, whole, and what they meant.
//!
//! Servers send the very same head for a whole second, until the date moves. Comparing it costs a tenth of
//! reading it.
//!
//! # Rules
//! 1. Only a whole head is kept, with its empty line, that was read from its first byte in one piece. What a
//!    head means depends on its bytes alone (`head`, rule 1), and a reader stops behind the empty line. So
//!    bytes that begin with a kept head mean what it meant, and nothing is left to read. `check` holds a
//!    machine with memory against one without.
//! 2. A kept head takes at most [`HEAD_KEPT_LEN_MAX`] bytes, and there are at most [`SLOTS_MAX`] times
//!    [`WAYS`].
//! 3. Each kind of request has its slot, because each has a length of its own. In a slot several heads have
//!    room: a server of several shards, or several servers behind one address, may sign their answers.
//!
//! Not here: interim heads, which are rare; heads that came in pieces.

use std::cell::RefCell;

use super::head::Meaning;

/// A longer head is read again each time. Common heads have 100 to 500 bytes.
const HEAD_KEPT_LEN_MAX: usize = 1024;

/// More kinds of requests than this share slots: 8 * 4 KiB at most, and common heads fill a fifth.
pub(super) const SLOTS_MAX: usize = 8;

/// Heads of one slot. Each that does not match costs a comparison, 3 ns; reading a head costs 100 to 150 ns.
const WAYS: u8 = 4;

#[derive(Debug, Default)]
struct Slot {
    ways: [Option<Known>; WAYS as usize],
    /// Which is replaced next.
    next: u8,
}

#[derive(Debug)]
struct Known {
    head: Vec<u8>,
    meaning: Meaning,
}

/// Where a connection found its last head: where it looks first. Any value will do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hint(u8);

impl Hint {
    #[inline]
    fn way(self) -> usize {
        usize::from(self.0 % WAYS)
    }
}

/// The memory of a machine, shared by its connections.
#[derive(Debug)]
pub(super) struct Memory {
    /// Borrowed for the length of one call; nothing is called meanwhile.
    slots: Vec<RefCell<Slot>>,
}

impl Memory {
    /// For so many kinds of requests. For none, it remembers nothing.
    pub(super) fn new(kinds: usize) -> Memory {
        Memory { slots: (0..kinds.min(SLOTS_MAX)).map(|_| RefCell::default()).collect() }
    }

    /// The length and meaning of the head that `bytes` begin with, if it came before.
    #[inline]
    pub(super) fn get(&self, slot: u8, hint: &mut Hint, bytes: &[u8]) -> Option<(usize, Meaning)> {
        let slot = self.slots.get(usize::from(slot))?.borrow();
        let is_it = |known: &Option<Known>| match known {
            Some(known) if bytes.starts_with(&known.head) => Some((known.head.len(), known.meaning)),
            _ => None,
        };
        is_it(&slot.ways[hint.way()]).or_else(|| {
            let way = (0..WAYS).find(|&way| is_it(&slot.ways[usize::from(way)]).is_some())?;
            *hint = Hint(way);
            is_it(&slot.ways[usize::from(way)])
        })
    }

    /// Keeps a whole head that [`Memory::get`] did not find.
    pub(super) fn put(&self, slot: u8, hint: &mut Hint, head: &[u8], meaning: Meaning) {
        let Some(slot) = self.slots.get(usize::from(slot)) else { return };
        if head.len() > HEAD_KEPT_LEN_MAX {
            return;
        }
        let mut slot = slot.borrow_mut();
        let way = slot.next;
        slot.next = (way + 1) % WAYS;
        match &mut slot.ways[usize::from(way)] {
            Some(known) => {
                known.head.clear();
                known.head.extend_from_slice(head);
                known.meaning = meaning;
            }
            empty => *empty = Some(Known { head: head.to_vec(), meaning }),
        }
        *hint = Hint(way);
    }
}
