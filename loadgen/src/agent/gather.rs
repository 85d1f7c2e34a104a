//! The live slices of several agents as one time series.
//!
//! # Rules
//! 1. A slice is shown once every agent has sent its part: a part alone would look like a fall of the rate.
//! 2. At most [`HELD_MAX`] slices wait. The oldest goes when another one comes: an agent left its part out.
//!
//! Not here: the result (`merge`), to which no slice is missing.

use std::collections::BTreeMap;

use crate::model::Slice;

/// Slices that wait for parts: 1.6 MB each, and more than a second of them at 100 ms.
const HELD_MAX: usize = 16;

/// Collects slices of `of` agents.
#[derive(Debug)]
pub struct Gather {
    of: usize,
    /// By their begin: what is merged so far, and whose.
    held: BTreeMap<u64, (Slice, Vec<usize>)>,
    /// The last that was given out, or went.
    past: Option<u64>,
}

impl Gather {
    /// For this many agents.
    pub fn new(of: usize) -> Gather {
        Gather { of, held: BTreeMap::new(), past: None }
    }

    /// Takes a slice of agent `index`; gives the whole if this was its last part. One that comes twice, or
    /// late, is ignored.
    pub fn push(&mut self, index: usize, slice: Slice) -> Option<Slice> {
        let start = slice.start_ns;
        if self.past.is_some_and(|past| start <= past) {
            return None;
        }
        match self.held.get_mut(&start) {
            Some((_, whose)) if whose.contains(&index) => return None,
            Some((held, whose)) => {
                held.tally.merge(&slice.tally);
                held.len_ns = held.len_ns.max(slice.len_ns);
                whose.push(index);
            }
            None => {
                self.held.insert(start, (slice, vec![index]));
            }
        }
        if self.held.get(&start).is_some_and(|(_, whose)| whose.len() == self.of) {
            let (whole, _) = self.held.remove(&start)?;
            self.held.retain(|&other, _| other > start);
            self.past = Some(start);
            return Some(whole);
        }
        if self.held.len() > HELD_MAX {
            self.past = self.held.pop_first().map(|(start, _)| start);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn slice(start_ns: u64) -> Slice {
        let mut slice = Slice { start_ns, len_ns: 100, ..Slice::default() };
        slice.tally.counts.completed = 1;
        slice
    }

    #[test]
    fn a_slice_is_shown_once_all_parts_are_there() {
        let mut gather = Gather::new(2);
        assert!(gather.push(0, slice(0)).is_none());
        assert!(gather.push(0, slice(0)).is_none(), "the same again");
        assert!(gather.push(0, slice(100)).is_none());
        let whole = gather.push(1, slice(100)).unwrap();
        assert_eq!((whole.start_ns, whole.tally.counts.completed), (100, 2));
        assert!(gather.push(1, slice(0)).is_none(), "too late");
    }

    #[test]
    fn slices_whose_parts_never_come_do_not_pile_up() {
        let mut gather = Gather::new(2);
        for at in 0..HELD_MAX as u64 {
            assert!(gather.push(0, slice(at)).is_none());
        }
        assert_eq!(gather.held.len(), HELD_MAX);
        gather.push(0, slice(HELD_MAX as u64));
        assert_eq!(gather.held.len(), HELD_MAX);
        assert!(gather.push(1, slice(0)).is_none(), "it went");
        assert!(gather.push(1, slice(1)).is_some());
    }
}
