//! Writes that wait for the upstream: the last one of each key, in the order in which the keys came. Pure.
//!
//! A write replaces what waits of its key, at the old place: each key is written once however often it changed. While a
//! write is under way ([`Queue::take`]) a newer one of its key waits for it to end, so that none overtakes the other.
//!
//! # Rules
//! 1. At most `keys_max` keys and `bytes_max` bytes, those under way among them. At either, a write of a key that waits
//!    already may still replace it with one that is not larger; any other is given back.
//! 2. What was taken is given back to [`Queue::done`] or [`Queue::retry`], in any order.
//!
//! Not here: sending (`mod`).

use std::collections::{HashMap, VecDeque};

use super::WriteOp;

#[derive(Debug)]
struct Entry {
    op: WriteOp,
    /// What came while this one is under way.
    next: Option<WriteOp>,
    under_way: bool,
    /// Others changed the key while this was under way, perhaps behind it.
    is_stale: bool,
}

/// Writes that wait.
#[derive(Debug)]
pub struct Queue {
    entries: HashMap<Box<[u8]>, Entry>,
    order: VecDeque<Box<[u8]>>,
    bytes: usize,
    keys_max: usize,
    bytes_max: usize,
}

/// Bytes that an operation is counted with.
fn cost(op: &WriteOp) -> usize {
    // A key is in the table, in the order and in its operation; the rest is what the entry itself takes.
    3 * op.key().len() + op.value_len() + size_of::<Entry>()
}

impl Queue {
    /// An empty one with these maxima.
    pub fn new(keys_max: usize, bytes_max: usize) -> Queue {
        Queue { entries: HashMap::new(), order: VecDeque::new(), bytes: 0, keys_max, bytes_max }
    }

    /// Keys that wait or are under way.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes by this queue's own count.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest write of a key that the upstream may not have.
    pub fn get(&self, key: &[u8]) -> Option<&WriteOp> {
        self.entries.get(key).map(|entry| entry.next.as_ref().unwrap_or(&entry.op))
    }

    /// Adds a write.
    ///
    /// # Errors
    /// Itself, where there is no room.
    pub fn push(&mut self, op: WriteOp) -> Result<(), WriteOp> {
        let new = cost(&op);
        let Some(entry) = self.entries.get_mut(op.key()) else {
            if self.entries.len() >= self.keys_max || self.bytes + new > self.bytes_max {
                return Err(op);
            }
            self.order.push_back(op.key().into());
            self.entries.insert(op.key().into(), Entry { op, next: None, under_way: false, is_stale: false });
            self.bytes += new;
            return Ok(());
        };
        let place = if entry.under_way { &mut entry.next } else { &mut None };
        let waits = if entry.under_way { place.as_ref() } else { Some(&entry.op) };
        let op = match waits {
            Some(before) => op.after(before),
            None => op,
        };
        let (old, new) = (waits.map_or(0, cost), cost(&op));
        if new > old && self.bytes - old + new > self.bytes_max {
            return Err(op);
        }
        self.bytes = self.bytes - old + new;
        if entry.under_way {
            entry.next = Some(op);
        } else {
            entry.op = op;
        }
        Ok(())
    }

    /// The next write that is not under way, a copy: it is from now on.
    pub fn take(&mut self) -> Option<WriteOp> {
        let key = self.order.pop_front()?;
        let entry = self.entries.get_mut(&key)?;
        debug_assert!(!entry.under_way);
        (entry.under_way, entry.is_stale) = (true, false);
        Some(entry.op.clone())
    }

    /// Others have changed this key. Whether a write of it is here.
    pub fn changed(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        entry.is_stale = entry.under_way;
        true
    }

    /// The upstream has the write of this key, or will never take it. True if it may have a newer one by others, and none
    /// follows from here.
    pub fn done(&mut self, key: &[u8]) -> bool {
        let Some((key, entry)) = self.entries.remove_entry(key) else { return false };
        self.bytes -= cost(&entry.op);
        if let Some(op) = entry.next {
            self.order.push_back(key.clone());
            self.entries.insert(key, Entry { op, next: None, under_way: false, is_stale: false });
            return false;
        }
        entry.is_stale
    }

    /// Whether the upstream has the write of this key is not known: it is next again, or what replaced it.
    pub fn retry(&mut self, key: &[u8]) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.under_way = false;
        if let Some(next) = entry.next.take() {
            self.bytes -= cost(&next);
            let old = cost(&entry.op);
            entry.op = next.after(&entry.op);
            self.bytes = self.bytes - old + cost(&entry.op);
        }
        self.order.push_front(key.into());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn set(key: &str, value: &str) -> WriteOp {
        WriteOp::Set {
            key: key.as_bytes().into(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            expires_at: None,
        }
    }

    fn expire(key: &str, at: u64) -> WriteOp {
        WriteOp::Expire { key: key.as_bytes().into(), expires_at: Some(at) }
    }

    #[test]
    fn the_last_write_of_a_key_is_sent_at_the_place_of_the_first() {
        let mut queue = Queue::new(10, 10_000);
        for op in [set("a", "1"), set("b", "1"), set("a", "2"), WriteOp::Delete { key: (*b"b").into() }] {
            queue.push(op).unwrap();
        }
        assert_eq!(queue.take(), Some(set("a", "2")));
        assert_eq!(queue.take(), Some(WriteOp::Delete { key: (*b"b").into() }));
        assert_eq!(queue.take(), None);
        assert_eq!(queue.len(), 2);
        queue.done(b"a");
        queue.done(b"b");
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn an_expiry_joins_the_write_before_it() {
        let mut queue = Queue::new(10, 10_000);
        queue.push(set("a", "1")).unwrap();
        queue.push(expire("a", 9)).unwrap();
        let both = WriteOp::Set { key: (*b"a").into(), value: Bytes::from_static(b"1"), expires_at: Some(9) };
        assert_eq!(queue.get(b"a"), Some(&both));
        queue.push(WriteOp::Delete { key: (*b"a").into() }).unwrap();
        queue.push(expire("a", 10)).unwrap();
        assert_eq!(queue.get(b"a"), Some(&WriteOp::Delete { key: (*b"a").into() }));
    }

    #[test]
    fn a_write_of_a_key_under_way_waits_for_it() {
        let mut queue = Queue::new(10, 10_000);
        queue.push(set("a", "1")).unwrap();
        assert_eq!(queue.take(), Some(set("a", "1")));
        queue.push(set("a", "2")).unwrap();
        queue.push(set("a", "3")).unwrap();
        assert_eq!(queue.take(), None);
        assert_eq!(queue.get(b"a"), Some(&set("a", "3")));
        queue.done(b"a");
        assert_eq!(queue.take(), Some(set("a", "3")));
        queue.push(expire("a", 5)).unwrap();
        queue.retry(b"a");
        let both = WriteOp::Set { key: (*b"a").into(), value: Bytes::from_static(b"3"), expires_at: Some(5) };
        assert_eq!(queue.take(), Some(both));
        queue.done(b"a");
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn at_its_maxima_only_what_is_not_larger_replaces_what_waits() {
        let mut queue = Queue::new(2, 10_000);
        queue.push(set("a", "1")).unwrap();
        queue.push(set("b", "1")).unwrap();
        assert_eq!(queue.push(set("c", "1")), Err(set("c", "1")));
        queue.push(set("a", "22")).unwrap();
        let mut queue = Queue::new(100, 2_000);
        queue.push(set("a", &"x".repeat(1_700))).unwrap();
        assert!(queue.push(set("b", &"y".repeat(300))).is_err());
        assert!(queue.push(set("a", &"x".repeat(3_000))).is_err());
        queue.push(set("a", "small")).unwrap();
        queue.push(set("b", &"y".repeat(300))).unwrap();
        while let Some(op) = queue.take() {
            queue.done(op.key());
        }
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_change_by_others_while_a_write_is_under_way_is_known_when_it_is_done_unless_another_write_follows() {
        let mut queue = Queue::new(10, 10_000);
        queue.push(set("k", "1")).unwrap();
        assert!(queue.changed(b"k") && !queue.changed(b"other"));
        queue.take().unwrap();
        assert!(!queue.done(b"k"), "the change was before it went");
        queue.push(set("k", "2")).unwrap();
        queue.take().unwrap();
        assert!(queue.changed(b"k"));
        assert!(queue.done(b"k"), "whose is the last one is not known");
        queue.push(set("k", "3")).unwrap();
        queue.take().unwrap();
        queue.changed(b"k");
        queue.push(set("k", "4")).unwrap();
        assert!(!queue.done(b"k"), "the next one is ours");
    }
}
