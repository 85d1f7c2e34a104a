//! A seeded generator for tests, the simulator and jitter: xorshift64* (S. Vigna, "An experimental
//! exploration of Marsaglia's xorshift generators, scrambled", 2016). Not for secrets.

/// 64 bits of state; the same seed gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Any seed will do; 0 is replaced.
    pub const fn new(seed: u64) -> Rng {
        // One splitmix64 step, so that near seeds give unlike streams and the state is never 0.
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        Rng(if z == 0 { 0x9e37_79b9_7f4a_7c15 } else { z })
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        let mut x = self.0;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which must not be 0. The bias is below `bound / 2^64`.
    #[allow(clippy::cast_possible_truncation)] // the high half of the product is below `bound`
    pub const fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0);
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// An index below `bound`, which must not be 0.
    #[allow(clippy::cast_possible_truncation)] // below `bound`, which is a usize
    pub const fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// True in `of` of `in_` cases.
    pub const fn chance(&mut self, of: u64, in_: u64) -> bool {
        self.below(in_) < of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_seed_others() {
        let (mut a, mut b, mut c) = (Rng::new(7), Rng::new(7), Rng::new(8));
        let (x, y, z) = (a.next_u64(), b.next_u64(), c.next_u64());
        assert_eq!(x, y);
        assert_ne!(x, z);
    }

    #[test]
    fn below_stays_below_and_reaches_both_ends() {
        let mut rng = Rng::new(0);
        let mut seen = [0u32; 4];
        for _ in 0..1000 {
            seen[rng.index(4)] += 1;
        }
        assert!(seen.iter().all(|&n| n > 150), "{seen:?}");
    }
}
