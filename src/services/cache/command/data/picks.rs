//! Picks: which elements SRANDMEMBER, HRANDFIELD and ZRANDMEMBER take, by their numbers.
//!
//! # Rules
//! 1. Every element is as likely as every other, and every choice of several as every other choice of as many.
//! 2. Time and memory are in proportion to how many are picked, not to how many there are.
//!
//! Not here: the elements, and taking them out (SPOP takes one after the other).

use corelane_base::Rng;
use hashbrown::HashSet;

/// Elements that one command picks with repetitions: some 50 ms. Redis has no maximum and can be stalled by it.
pub(super) const REPEATED_MAX: u64 = 1 << 20;

/// Bytes of the reply to such a command. Redis has no maximum but that of its memory.
pub(super) const REPEATED_LEN_MAX: usize = 64 << 20;

/// Elements up to which a collection may be one that has to be gone through to find the n-th.
pub(super) const SMALL: usize = 512;

/// For more of either: no client can have meant it.
pub(super) const TOO_MANY: &str = "ERR value is out of range";

/// The numbers of `picked` different elements out of `all`.
///
/// If it is most of them, in their order (Knuth, "The Art of Computer Programming", volume 2, 3.4.2, algorithm S); else
/// by Floyd's method (Bentley, Floyd, "A sample of brilliance", CACM 1987).
pub(super) fn different(rng: &mut Rng, all: usize, picked: usize) -> Vec<usize> {
    let picked = picked.min(all);
    if picked >= all / 4 {
        let mut left = picked;
        let is_in = |number: &usize| {
            let is_in = rng.index(all - number) < left;
            left -= usize::from(is_in);
            is_in
        };
        return (0..all).filter(is_in).collect();
    }
    let mut seen = HashSet::with_capacity_and_hasher(picked, ahash::RandomState::new());
    let pick = |top| {
        let any = rng.index(top + 1);
        let number = if seen.contains(&any) { top } else { any };
        seen.insert(number);
        number
    };
    (all - picked..all).map(pick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_picked_as_often_as_the_others_and_none_twice() {
        let mut rng = Rng::new(7);
        for (all, picked) in [(1, 1), (5, 3), (40, 4), (40, 30), (1000, 10), (3, 9), (4, 0)] {
            let mut times = vec![0_usize; all];
            let rounds = 20_000;
            for _ in 0..rounds {
                let mut numbers = different(&mut rng, all, picked);
                numbers.iter().for_each(|number| times[*number] += 1);
                numbers.sort_unstable();
                numbers.dedup();
                assert_eq!(numbers.len(), picked.min(all));
            }
            let mean = rounds * picked.min(all) / all;
            for count in times {
                assert!(count.abs_diff(mean) <= mean / 3, "{picked} of {all}: {count}, not {mean}");
            }
        }
    }
}
