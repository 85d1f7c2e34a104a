//! Keys that the upstream said it has not: for a short while it is not asked again.
//!
//! A table of bounded size whose oldest go first. Pure: time is an argument.
//!
//! Not here: when a key is put in or taken out (`mod`).

use std::collections::{HashMap, VecDeque};

/// Keys known to be absent.
#[derive(Debug)]
pub struct Absent {
    until_ms: HashMap<Box<[u8]>, u64>,
    /// In the order of their ends. Keys that were taken out since are still in it.
    order: VecDeque<(u64, Box<[u8]>)>,
    keys_max: usize,
    ttl_ms: u64,
}

impl Absent {
    /// At most `keys_max` keys, each for `ttl_ms`. Either may be 0: nothing is remembered.
    pub fn new(keys_max: usize, ttl_ms: u64) -> Absent {
        Absent { until_ms: HashMap::new(), order: VecDeque::new(), keys_max, ttl_ms }
    }

    /// Keys in it.
    pub fn len(&self) -> usize {
        self.until_ms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.until_ms.is_empty()
    }

    /// The upstream has no such key, as of now.
    pub fn insert(&mut self, key: &[u8], now_ms: u64) {
        if self.keys_max == 0 || self.ttl_ms == 0 {
            return;
        }
        while self.order.len() >= self.keys_max || self.order.front().is_some_and(|(end, _)| *end <= now_ms) {
            let Some((end, old)) = self.order.pop_front() else { break };
            if self.until_ms.get(&old) == Some(&end) {
                self.until_ms.remove(&old);
            }
        }
        let end = now_ms + self.ttl_ms;
        self.until_ms.insert(key.into(), end);
        self.order.push_back((end, key.into()));
    }

    /// Whether it is known to be absent.
    pub fn has(&self, key: &[u8], now_ms: u64) -> bool {
        self.until_ms.get(key).is_some_and(|&end| end > now_ms)
    }

    /// It is not known any more.
    pub fn remove(&mut self, key: &[u8]) {
        self.until_ms.remove(key);
    }

    /// Nothing is known any more.
    pub fn clear(&mut self) {
        self.until_ms.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_absent_for_its_time_and_until_it_is_taken_out() {
        let mut absent = Absent::new(10, 100);
        absent.insert(b"a", 0);
        assert!(absent.has(b"a", 99) && !absent.has(b"a", 100) && !absent.has(b"b", 0));
        absent.remove(b"a");
        assert!(!absent.has(b"a", 1));
        absent.insert(b"a", 50);
        absent.insert(b"b", 110);
        assert!(absent.has(b"a", 149), "the end of the first time does not end the second");
        absent.clear();
        assert!(absent.is_empty() && absent.order.is_empty());
    }

    #[test]
    fn the_oldest_go_at_the_maximum_and_what_was_taken_out_takes_no_room_for_ever() {
        let mut absent = Absent::new(3, 1_000);
        for n in 0..100_u8 {
            absent.insert(&[n], n.into());
            if n % 2 == 0 {
                absent.remove(&[n]);
            }
            assert!(absent.len() <= 3 && absent.order.len() <= 3);
        }
        assert!(absent.has(&[99], 100) && !absent.has(&[95], 100));
        let mut off = Absent::new(0, 1_000);
        off.insert(b"a", 0);
        assert!(!off.has(b"a", 0));
    }
}
