//! Literal paths: one hash, one comparison, before any pattern is tried.
//!
//! An open-addressed table over whole paths. It is filled at start and read per request; a peer chooses
//! what is looked up but never what is stored, so the longest probe is known once the routes are.
//!
//! # Rules
//! 1. At most a quarter of the cells are used, so probes are short and an empty cell always ends one.
//! 2. A path stands in the table once, whatever its methods.
//!
//! Not here: patterns (`matchit`), what a method means (`route`).

use crate::route::{VERBS, Verb};

/// No handler.
pub(crate) const NONE: u32 = u32::MAX;

/// A literal path and the handler of each method.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Box<str>,
    /// Index into the handlers by verb, or [`NONE`].
    pub(crate) routes: [u32; VERBS],
}

#[derive(Debug, Default)]
pub(crate) struct Literals {
    entries: Vec<Entry>,
    /// Index into `entries`, or [`NONE`]. A power of two long, or empty.
    cells: Vec<u32>,
}

impl Literals {
    #[inline]
    pub(crate) fn get(&self, path: &[u8]) -> Option<&Entry> {
        if self.cells.is_empty() {
            return None;
        }
        let mask = self.cells.len() - 1;
        let mut cell = hash(path) & mask;
        loop {
            let entry = self.entries.get(self.cells[cell] as usize)?;
            if entry.path.as_bytes() == path {
                return Some(entry);
            }
            cell = (cell + 1) & mask;
        }
    }

    /// Takes `path` for `verb`. Gives back what stands there already, unchanged.
    pub(crate) fn insert(&mut self, verb: Verb, path: &str, route: u32) -> Result<(), u32> {
        let index = match self.entries.iter().position(|e| *e.path == *path) {
            Some(index) => index,
            None => {
                self.entries.push(Entry { path: path.into(), routes: [NONE; VERBS] });
                self.rebuild();
                self.entries.len() - 1
            }
        };
        let slot = &mut self.entries[index].routes[verb as usize];
        if *slot != NONE {
            return Err(*slot);
        }
        *slot = route;
        Ok(())
    }

    fn rebuild(&mut self) {
        let size = (self.entries.len() * 4).next_power_of_two();
        self.cells = vec![NONE; size];
        for (index, entry) in self.entries.iter().enumerate() {
            let mut cell = hash(entry.path.as_bytes()) & (size - 1);
            while self.cells[cell] != NONE {
                cell = (cell + 1) & (size - 1);
            }
            self.cells[cell] = u32::try_from(index).expect("fewer than 2^32 routes");
        }
    }
}

/// Multiply and fold, eight bytes at a time; the last, possibly overlapping, eight end it. Not keyed: see
/// the module's head.
#[inline]
fn hash(path: &[u8]) -> usize {
    // 2^64 / golden ratio: Knuth, The Art of Computer Programming, volume 3, 6.4.
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |h: u64, word: u64| {
        let product = (h ^ word).wrapping_mul(K);
        product ^ (product >> 32)
    };
    let word =
        |at: usize| path.get(at..at + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().expect("8 bytes")));
    let half = |at: usize| {
        path.get(at..at + 4).map_or(0, |b| u64::from(u32::from_le_bytes(b.try_into().expect("4 bytes"))))
    };
    let len = path.len();
    let mut h = len as u64;
    if len >= 8 {
        let mut at = 0;
        while at + 8 < len {
            h = mix(h, word(at));
            at += 8;
        }
        h = mix(h, word(len - 8));
    } else if len >= 4 {
        h = mix(h, half(0) | half(len - 4) << 32);
    } else {
        let short = path.iter().fold(0, |short, &b| short << 8 | u64::from(b));
        h = mix(h, short);
    }
    usize::try_from(h & u64::from(u32::MAX)).expect("usize has 32 bits at least")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_every_single_changed_byte_is_told_apart() {
        let mut table = Literals::default();
        let all = "/abcdefghijklmnopqrstuvwxyz0123456789";
        for n in 1..=all.len() {
            table.insert(Verb::Get, &all[..n], u32::try_from(n).unwrap()).unwrap();
        }
        for n in 1..=all.len() {
            let path = &all[..n];
            assert_eq!(table.get(path.as_bytes()).unwrap().routes[Verb::Get as usize] as usize, n);
            for i in 0..n {
                let mut other = path.to_owned().into_bytes();
                other[i] = b'_';
                assert!(table.get(&other).is_none());
            }
        }
        assert!(table.get(b"").is_none());
    }

    #[test]
    fn a_second_handler_of_the_same_path_and_verb_is_refused() {
        let mut table = Literals::default();
        table.insert(Verb::Get, "/a", 0).unwrap();
        table.insert(Verb::Put, "/a", 1).unwrap();
        assert_eq!(table.insert(Verb::Get, "/a", 2), Err(0));
        assert_eq!(table.get(b"/a").unwrap().routes[Verb::Get as usize], 0);
        assert_eq!(table.get(b"/a").unwrap().routes[Verb::Put as usize], 1);
    }

    #[test]
    fn a_thousand_paths_that_differ_in_the_middle_need_few_probes() {
        let mut table = Literals::default();
        for n in 0..1000 {
            table.insert(Verb::Get, &format!("/api/v1/{n:04}/settings"), n).unwrap();
        }
        let mask = table.cells.len() - 1;
        let longest = table
            .entries
            .iter()
            .map(|e| {
                let mut cell = hash(e.path.as_bytes()) & mask;
                let mut probes = 1;
                while *table.entries[table.cells[cell] as usize].path != *e.path {
                    cell = (cell + 1) & mask;
                    probes += 1;
                }
                probes
            })
            .max();
        assert!(longest.unwrap() <= 8, "{longest:?}");
    }
}
