//! How a body tells its connection that something changed.
//!
//! Handlers hold bodies, connections hold the other end; neither may borrow the other. A change is a key
//! on a list that the connection table works through before the turn ends.
//!
//! Not here: what is done about it (`http1`).

use std::cell::RefCell;
use std::rc::Rc;

/// Which connection of a table: slot and generation.
pub(crate) use corelane_pools::SlotKey as Key;

/// Connections that something happened to. Holds at most one entry per change of one body, so its size is
/// bounded by the number of polls in a turn.
#[derive(Debug, Default)]
pub(crate) struct Notices(RefCell<Vec<Key>>);

impl Notices {
    pub(crate) fn push(&self, key: Key) {
        let mut keys = self.0.borrow_mut();
        if keys.last() != Some(&key) {
            keys.push(key);
        }
    }

    /// Moves the list out into `into`, which must be empty; its storage is used for the next round.
    pub(crate) fn swap(&self, into: &mut Vec<Key>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut *self.0.borrow_mut(), into);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// One end's way to say "look at me".
#[derive(Clone, Debug)]
pub(crate) struct Signal {
    pub(crate) list: Rc<Notices>,
    pub(crate) key: Key,
}

impl Signal {
    pub(crate) fn ring(&self) {
        self.list.push(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_twice_in_a_row_is_one_notice() {
        let list = Rc::new(Notices::default());
        let a = Signal { list: Rc::clone(&list), key: Key { index: 1, generation: 1 } };
        let b = Signal { list: Rc::clone(&list), key: Key { index: 2, generation: 1 } };
        a.ring();
        a.ring();
        b.ring();
        let mut out = Vec::new();
        list.swap(&mut out);
        assert_eq!(out.len(), 2);
        assert!(list.is_empty());
    }
}
