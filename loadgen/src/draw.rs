//! Random numbers without state: the n-th number of a seeded stream, and what is made of it.
//!
//! # Rules
//! 1. A number depends on the seed, the salt and the position alone: any worker may ask for any position, in
//!    any order, and gets what every other would get.
//! 2. What needs several numbers for one draw takes the further ones from the first, never from a neighbour.
//! 3. Two draws of one request come from two salts.
//!
//! Not here: what is drawn (`resp`), when requests come (`schedule`). Not for secrets.

/// The step of splitmix64: 2^64 by the golden ratio, made odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of splitmix64: a bijection of 64-bit words whose every output bit depends on every
/// input bit.
///
/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; the constants are
/// variant 13 of D. Stafford, "Better bit mixing", 2011.
#[inline]
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A stream of random words, any of which can be asked for at once: splitmix64 with a jump.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Draws {
    start: u64,
}

impl Draws {
    /// The stream of a seed. Each salt gives another one.
    pub const fn new(seed: u64, salt: u64) -> Draws {
        Draws { start: mix(seed ^ mix(salt.wrapping_add(STEP))) }
    }

    /// The word at position `number`, from 0. About 2 ns.
    #[inline]
    pub const fn at(self, number: u64) -> u64 {
        mix(self.start.wrapping_add(number.wrapping_add(1).wrapping_mul(STEP)))
    }
}

/// The word that follows from `word`, for a draw that needs more than one (rule 2).
#[inline]
pub const fn next(word: u64) -> u64 {
    mix(word.wrapping_add(STEP))
}

/// A word as a number in [0, 1): its upper 53 bits, which a float holds exactly.
#[inline]
pub const fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A word as a number below `bound`; 0 for a bound of 0. No value is preferred by more than `bound / 2^64`
/// (D. Lemire, "Fast random integer generation in an interval", 2019, without its correction).
#[inline]
#[allow(clippy::cast_possible_truncation)] // the upper half of the product is below `bound`
pub const fn below(word: u64, bound: u64) -> u64 {
    ((word as u128 * bound as u128) >> 64) as u64
}

/// Most ranks of a [`Zipf`]: 2^40. Ranks and their integrals stay well within the 53 bits of a float.
pub const RANKS_MAX: u64 = 1 << 40;
/// Largest exponent of a [`Zipf`].
pub const EXPONENT_MAX: f64 = 4.0;

/// Rejections after which the candidate is taken as it is. Fewer than two in a hundred candidates are rejected,
/// whatever the exponent, so this is met less often than once in 2^64 draws.
const REJECTIONS_MAX: u32 = 16;

/// Ranks from 0, where rank `k` is drawn with a probability in proportion to `1 / (k + 1)^s`.
///
/// Rejection-inversion: W. Hoermann and G. Derflinger, "Rejection-inversion to generate variates from
/// monotone discrete distributions", ACM TOMACS 6(3), 1996. A draw costs the same for any number of ranks:
/// one logarithm and one exponential, in most cases. Those come from the system's mathematics library: hosts
/// with different ones may differ in the last bit, and so, rarely, in a rank.
#[derive(Clone, Copy, Debug)]
pub struct Zipf {
    ranks: u64,
    exponent: f64,
    /// `1 - exponent`.
    rest: f64,
    /// The integral at both ends of the area that is drawn from.
    low: f64,
    high: f64,
    /// Candidates this near above the point drawn need no look at the integral.
    near: f64,
}

impl Zipf {
    /// A distribution over `ranks` ranks. An exponent of 0 is the uniform one.
    ///
    /// # Errors
    /// If `ranks` is 0 or above [`RANKS_MAX`], or the exponent not from 0 to [`EXPONENT_MAX`].
    pub fn new(ranks: u64, exponent: f64) -> Result<Zipf, String> {
        if !(1..=RANKS_MAX).contains(&ranks) {
            return Err(format!("zipf over {ranks} ranks cannot work: take 1 to {RANKS_MAX}"));
        }
        if !(0.0..=EXPONENT_MAX).contains(&exponent) {
            return Err(format!("zipf = {exponent} cannot work: set it to 0 (uniform) to {EXPONENT_MAX}"));
        }
        let mut zipf = Zipf { ranks, exponent, rest: 1.0 - exponent, low: 0.0, high: 0.0, near: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(ranks as f64 + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        Ok(zipf)
    }

    /// How many ranks there are.
    pub fn ranks(&self) -> u64 {
        self.ranks
    }

    /// Whether all ranks are equal.
    pub fn is_uniform(&self) -> bool {
        self.exponent == 0.0
    }

    /// The rank that a random word stands for, below [`Zipf::ranks`].
    #[inline]
    pub fn rank(&self, word: u64) -> u64 {
        if self.is_uniform() { below(word, self.ranks) } else { self.rank_by_rejection(word) }
    }

    fn rank_by_rejection(&self, mut word: u64) -> u64 {
        let mut rejections = 0;
        loop {
            let area = self.high + unit(word) * (self.low - self.high);
            let point = self.inverse(area);
            // Saturates: an infinite point is the last rank.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let rank = (point.round() as u64).clamp(1, self.ranks);
            let value = rank as f64;
            if value - point <= self.near
                || area >= self.integral(value + 0.5) - self.weight(value)
                || rejections == REJECTIONS_MAX
            {
                return rank - 1;
            }
            rejections += 1;
            word = next(word);
        }
    }

    /// `x^-s`.
    fn weight(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// The integral of the weight from 1 to `x`: `(x^(1-s) - 1) / (1-s)`, the logarithm where `s` is 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let y = self.rest * log;
        // (e^y - 1) / y, by its series where that would be 0 by 0.
        let ratio = if y.abs() > SERIES_BELOW { y.exp_m1() / y } else { 1.0 + y / 2.0 };
        log * ratio
    }

    /// Where the integral has this value.
    fn inverse(&self, area: f64) -> f64 {
        // -1 is the integral at infinity: rounding must not lead past it.
        let y = (self.rest * area).max(-1.0);
        // ln(1 + y) / y.
        let ratio = if y.abs() > SERIES_BELOW { y.ln_1p() / y } else { 1.0 - y / 2.0 };
        (area * ratio).exp()
    }
}

/// Below this, the terms of the series left out are smaller than the last bit of a float.
const SERIES_BELOW: f64 = 1e-8;

/// A fixed permutation of the numbers below a bound, so that neighbours come to lie as far apart as two drawn
/// at random.
///
/// Multiplications and shifts that are bijective on words of as many bits as the bound needs; a result beyond
/// the bound is put in again until one is within ("cycle walking": J. Black and P. Rogaway, "Ciphers with
/// arbitrary finite domains", CT-RSA 2002). That takes less than two rounds in the mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Scatter {
    bound: u64,
    mask: u64,
    shift: u32,
}

impl Scatter {
    /// The permutation of the numbers below `bound`; the same in every run.
    pub const fn new(bound: u64) -> Scatter {
        let bits = if bound > 1 { 64 - (bound - 1).leading_zeros() } else { 0 };
        let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        Scatter { bound, mask, shift: if bits > 2 { bits / 2 } else { 1 } }
    }

    /// Where `number`, which is below the bound, comes to lie.
    #[inline]
    pub const fn place(&self, number: u64) -> u64 {
        debug_assert!(number < self.bound);
        let mut word = number;
        loop {
            // Adding, multiplying by an odd number, and xor with the own upper half: each can be undone.
            word = word.wrapping_add(STEP).wrapping_mul(0xbf58_476d_1ce4_e5b9) & self.mask;
            word ^= word >> self.shift;
            word = word.wrapping_mul(0x94d0_49bb_1331_11eb) & self.mask;
            word ^= word >> self.shift;
            if word < self.bound {
                return word;
            }
        }
    }
}

#[cfg(test)]
mod tests;
