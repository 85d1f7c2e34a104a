//! Hot: the keys used most, found in little room.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams",
//! ICDT 2005) over a sample: one use in [`SAMPLE`] is looked at. A key with more than a [`COUNTERS`]th of the uses is
//! always among them; its count is too high by at most that part.
//!
//! Not here: what is done about them.

/// Keys that are counted.
const COUNTERS: usize = 64;

/// One use of so many is counted.
const SAMPLE: u32 = 64;

/// Bytes of a key that are kept: two longer ones with the same beginning are told apart by their hash.
const KEY_MAX: usize = 128;

#[derive(Debug)]
struct Counter {
    hash: u64,
    key: Box<[u8]>,
    count: u64,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Hot {
    counters: Vec<Counter>,
    uses: u32,
}

impl Hot {
    /// A key was used.
    #[inline]
    pub(super) fn used(&mut self, key: &[u8], hash: u64) {
        self.uses += 1;
        if self.uses >= SAMPLE {
            self.uses = 0;
            self.count(key, hash);
        }
    }

    #[cold]
    fn count(&mut self, key: &[u8], hash: u64) {
        if let Some(counter) = self.counters.iter_mut().find(|counter| counter.hash == hash) {
            counter.count += 1;
            return;
        }
        let key: Box<[u8]> = key[..key.len().min(KEY_MAX)].into();
        if self.counters.len() < COUNTERS {
            self.counters.push(Counter { hash, key, count: 1 });
        } else if let Some(least) = self.counters.iter_mut().min_by_key(|counter| counter.count) {
            *least = Counter { hash, key, count: least.count + 1 };
        }
    }

    /// The keys with the most uses first, and how often they were used, as far as the sample tells.
    pub(super) fn list(&self) -> Vec<(Box<[u8]>, u64)> {
        let mut all: Vec<_> = self
            .counters
            .iter()
            .map(|counter| (counter.key.clone(), counter.count * u64::from(SAMPLE)))
            .collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.counters.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_used_often_is_found_among_many_that_are_not() {
        let mut hot = Hot::default();
        let mut rng = corelane_base::Rng::new(3);
        for _ in 0..200_000 {
            let n = if rng.chance(1, 10) { 7 } else { 1_000 + rng.below(100_000) };
            hot.used(format!("key:{n}").as_bytes(), n);
        }
        let list = hot.list();
        assert_eq!(&*list[0].0, b"key:7");
        assert!((15_000..30_000).contains(&list[0].1), "{list:?}");
        assert!(list.len() <= COUNTERS);
    }
}
