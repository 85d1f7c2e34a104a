//! Exponential draws that are the same on every machine.
//!
//! # Rules
//! 1. Only integer operations, and those on floats that IEEE 754 rounds alike everywhere: `+ - * /`. The
//!    system's logarithm is not used: it differs in the last digit from one library, or one CPU, to the next.
//!
//! Not here: what the draws are for (`plan`).

use corelane_base::Rng;

/// Told apart from other users of the same seed.
const STREAM: u64 = 0x7363_6865_6475_6c65;

/// A seeded stream of draws.
#[derive(Clone, Debug)]
pub struct Draws(Rng);

impl Draws {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Draws {
        Draws(Rng::new(Rng::new(seed).next_u64() ^ STREAM))
    }

    /// From an exponential distribution of mean 1: `-ln(1 - u)`, with `u` one of the 2^53 multiples of 2^-53
    /// below 1. At least 0, at most 36.74 (one in 2^53).
    #[inline]
    pub fn exponential(&mut self) -> f64 {
        // 1 - u, times 2^53: from 1 to 2^53, all exact.
        let above_zero = (1u64 << 53) - (self.0.next_u64() >> 11);
        -ln(above_zero as f64 * (1.0 / (1u64 << 53) as f64))
    }
}

/// The natural logarithm of a normal number above 0, to 4 parts in 10^16 (near 1: of its distance from 0).
///
/// `ln(m 2^e) = e ln 2 + 2 atanh((m - 1) / (m + 1))`, with `m` from 0.70 to 1.42: the argument of atanh stays
/// below 0.172, and its series (Abramowitz and Stegun, 4.6.22) is below the last digit after 11 terms.
#[inline]
pub fn ln(x: f64) -> f64 {
    const HALF_WAY: u64 = 0x0006_a09e_667f_3bcd; // mantissa bits of the square root of 2
    const ONE: u64 = 1023 << 52;
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let mantissa = bits & MANTISSA;
    let up = u64::from(mantissa >= HALF_WAY);
    let m = f64::from_bits(mantissa | (ONE - (up << 52)));
    #[allow(clippy::cast_precision_loss)] // an exponent is small
    let e = ((bits >> 52) + up) as i64 as f64 - 1023.0;
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    // Even and odd terms apart, and those in two again: a quarter of the chain of operations that wait for
    // each other.
    let (z2, z4) = (z * z, z * z * z * z);
    let a = 1.0 / 3.0 + z4 * (1.0 / 11.0 + z4 * (1.0 / 19.0));
    let b = 1.0 / 5.0 + z4 * (1.0 / 13.0 + z4 * (1.0 / 21.0));
    let c = 1.0 / 7.0 + z4 * (1.0 / 15.0 + z4 * (1.0 / 23.0));
    let d = 1.0 / 9.0 + z4 * (1.0 / 17.0);
    let sum = (a + z * b) + z2 * (c + z * d);
    // The first term is added last: what is small does not blur what is large.
    e * std::f64::consts::LN_2 + (2.0 * s + 2.0 * s * z * sum)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_logarithm_is_that_of_the_library_to_the_last_digits() {
        let mut rng = Rng::new(1);
        for _ in 0..20_000 {
            let x = ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
            let (ours, theirs) = (ln(x), x.ln());
            assert!((ours - theirs).abs() <= 4e-16 * theirs.abs().max(1e-300), "{x}: {ours} {theirs}");
        }
        for x in [1.0, 0.5, 2.0, 1e-300, 1e300, std::f64::consts::SQRT_2, std::f64::consts::FRAC_1_SQRT_2] {
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs(), "{x}: {} {}", ln(x), x.ln());
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn the_draws_of_a_seed_are_these_on_every_machine() {
        let mut draws = Draws::new(42);
        let bits: Vec<u64> = (0..3).map(|_| draws.exponential().to_bits()).collect();
        // Worked out apart from this code, with the generator and a logarithm of another language.
        assert_eq!(bits, [0x3fbb_204d_8bf5_018c, 0x3fb4_4c84_aca9_9749, 0x3fe3_f2f4_1ea5_ba85]);
    }

    #[test]
    fn the_draws_have_mean_and_deviation_of_one() {
        let (mut draws, count) = (Draws::new(7), 200_000);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..count {
            let draw = draws.exponential();
            assert!((0.0..36.75).contains(&draw), "{draw}");
            sum += draw;
            squares += draw * draw;
        }
        let mean = sum / f64::from(count);
        let deviation = (squares / f64::from(count) - mean * mean).sqrt();
        assert!((mean - 1.0).abs() < 4.0 / f64::from(count).sqrt(), "{mean}");
        assert!((deviation - 1.0).abs() < 0.01, "{deviation}");
    }
}
