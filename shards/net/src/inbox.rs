//! Input that could not be used where it lay: kept by its connection, counted by its table.
//!
//! # Rules
//! 1. What a table holds in all is known at any time, and where it passes a bound the oldest can be named.
//! 2. Room is never made for more than twice what came.
//! 3. A small inbox that is no longer needed is kept for the next one, so that an input cut in two by a receive
//!    buffer costs no allocation.
//!
//! Not here: what is done to the connection whose inbox is the oldest (`http1`, `session`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::notice::Key;

/// Inboxes kept for the next ones, and bytes of one at most: 1 MiB a table.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 16 << 10;

/// Entries of the order that are let be, whatever they stand for.
const ORDER_KEPT: usize = 1024;

/// What one connection keeps.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// Bytes at the front that were used already.
    used: usize,
    /// Order among the inboxes of the table.
    born: u64,
}

impl Inbox {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// All but the last `left` bytes are used.
    pub(crate) fn leave(&mut self, left: usize) {
        debug_assert!(left <= self.bytes.len());
        self.used = self.bytes.len() - left;
    }
}

/// The inboxes of a table.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    order: RefCell<VecDeque<(Key, u64)>>,
    bytes: Cell<u64>,
    serial: Cell<u64>,
    // Boxed as connections hold them, so that one goes back and forth without a copy.
    #[allow(clippy::vec_box)]
    spare: RefCell<Vec<Box<Inbox>>>,
}

impl Inboxes {
    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Copies bytes out of the receive ring, behind those that `inbox` has.
    pub(crate) fn keep(&self, inbox: &mut Option<Box<Inbox>>, key: Key, bytes: &[u8]) {
        self.bytes.set(self.bytes.get() + bytes.len() as u64);
        let inbox = inbox.get_or_insert_with(|| self.begin(key));
        if inbox.used > 0 && inbox.bytes.len() + bytes.len() > inbox.bytes.capacity() {
            self.bytes.set(self.bytes.get() - inbox.used as u64);
            inbox.bytes.drain(..inbox.used);
            inbox.used = 0;
        }
        inbox.bytes.extend_from_slice(bytes);
    }

    fn begin(&self, key: Key) -> Box<Inbox> {
        let born = self.serial.get() + 1;
        self.serial.set(born);
        self.order.borrow_mut().push_back((key, born));
        let mut inbox = self.spare.borrow_mut().pop().unwrap_or_default();
        inbox.born = born;
        inbox
    }

    /// What a connection kept is used, or of no use any more.
    pub(crate) fn end(&self, mut inbox: Box<Inbox>) {
        self.bytes.set(self.bytes.get() - inbox.bytes.len() as u64);
        let mut spare = self.spare.borrow_mut();
        if inbox.bytes.capacity() <= SPARE_BYTES_MAX && spare.len() < SPARE_MAX {
            inbox.bytes.clear();
            inbox.used = 0;
            spare.push(inbox);
        }
    }

    /// Whose inbox is the oldest, where all together pass `max`. `inbox_of` finds the inbox of a connection;
    /// `open` is how many there are.
    pub(crate) fn oldest_beyond<'a>(
        &self,
        max: u64,
        open: usize,
        inbox_of: impl Fn(Key) -> Option<&'a Inbox>,
    ) -> Option<Key> {
        let is_live = |&(key, born): &(Key, u64)| inbox_of(key).is_some_and(|inbox| inbox.born == born);
        let mut order = self.order.borrow_mut();
        // Entries of inboxes long gone are dropped now and then, so that the list stays in proportion.
        if order.len() > ORDER_KEPT && order.len() > 4 * open {
            order.retain(is_live);
        }
        while self.bytes.get() > max {
            let oldest = order.pop_front()?;
            if is_live(&oldest) {
                return Some(oldest.0);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 1 }
    }

    #[test]
    fn what_is_kept_comes_out_in_order_whatever_was_used_in_between() {
        let inboxes = Inboxes::default();
        let mut inbox = None;
        let (mut want, mut got) = (Vec::new(), Vec::new());
        for round in 0..2_000_u32 {
            let bytes = round.to_be_bytes().repeat(1 + round as usize % 7);
            want.extend_from_slice(&bytes);
            inboxes.keep(&mut inbox, key(1), &bytes);
            let kept = inbox.as_mut().expect("bytes were kept");
            let take = kept.unread().len().min(round as usize % 31);
            got.extend_from_slice(&kept.unread()[..take]);
            kept.leave(kept.unread().len() - take);
        }
        let kept = inbox.take().expect("bytes were kept");
        got.extend_from_slice(kept.unread());
        assert_eq!(got, want);
        assert!(inboxes.bytes() >= kept.unread().len() as u64);
        inboxes.end(kept);
        assert_eq!(inboxes.bytes(), 0);
    }

    #[test]
    fn room_is_never_made_for_more_than_twice_what_came() {
        let inboxes = Inboxes::default();
        let mut inbox = None;
        for _ in 0..1_000 {
            inboxes.keep(&mut inbox, key(1), &[7; 4_096]);
            let kept = inbox.as_ref().expect("bytes were kept");
            assert!(kept.bytes.capacity() <= 2 * kept.bytes.len(), "{}", kept.bytes.capacity());
        }
    }

    #[test]
    fn a_small_inbox_serves_again_and_a_large_one_is_given_back() {
        let inboxes = Inboxes::default();
        let mut inbox = None;
        inboxes.keep(&mut inbox, key(1), &[7; 100]);
        let small = inbox.take().expect("bytes were kept");
        let at = small.bytes.as_ptr();
        inboxes.end(small);
        inboxes.keep(&mut inbox, key(2), &[8; 50]);
        let again = inbox.take().expect("bytes were kept");
        assert_eq!((again.bytes.as_ptr(), again.unread()), (at, &[8; 50][..]));
        inboxes.end(again);
        inboxes.keep(&mut inbox, key(3), &vec![9; SPARE_BYTES_MAX + 1]);
        inboxes.end(inbox.take().expect("bytes were kept"));
        let spare: usize = inboxes.spare.borrow().iter().map(|inbox| inbox.bytes.capacity()).sum();
        assert!(spare <= SPARE_BYTES_MAX, "{spare}");
    }

    #[test]
    fn the_oldest_is_named_while_all_together_pass_the_bound() {
        let inboxes = Inboxes::default();
        let mut kept: Vec<Option<Box<Inbox>>> = vec![None, None, None];
        for (at, inbox) in kept.iter_mut().enumerate() {
            inboxes.keep(inbox, key(u32::try_from(at).unwrap_or(0)), &[0; 10]);
        }
        // The first one began anew, so it is the youngest now.
        inboxes.end(kept[0].take().expect("it has bytes"));
        inboxes.keep(&mut kept[0], key(0), &[0; 10]);
        let oldest = |max| inboxes.oldest_beyond(max, 3, |key| kept[key.index as usize].as_deref());
        assert_eq!(oldest(30), None, "on the bound");
        assert_eq!(oldest(29), Some(key(1)));
        assert_eq!(oldest(29), Some(key(2)), "each is named once");
        assert_eq!(oldest(29), Some(key(0)));
        assert_eq!(oldest(29), None);
    }

    #[test]
    fn the_order_stays_in_proportion_to_what_is_open() {
        let inboxes = Inboxes::default();
        for _ in 0..10_000 {
            let mut inbox = None;
            inboxes.keep(&mut inbox, key(1), b"x");
            inboxes.end(inbox.take().expect("it has a byte"));
            assert_eq!(inboxes.oldest_beyond(100, 1, |_| None), None);
        }
        assert!(inboxes.order.borrow().len() <= ORDER_KEPT);
    }
}
