//! Whether gaps between requests are exponential: a test that they are not, and how far off they are.
//!
//! With many gaps the p-value of a test says little: a difference that matters to nobody is significant. So
//! there are two figures: [`anderson_darling_exponential`] for a sample of some thousand,
//! [`max_cdf_distance`] for how large the difference is, whatever the number of gaps.
//!
//! # Rules
//! 1. The mean is taken from the gaps themselves. That the rate is kept is another question, with another
//!    answer.
//!
//! Not here: which gaps are looked at, and what is made of the figures (`verdict`).

/// Gaps below which no difference could be shown.
const GAPS_MIN: usize = 8;

/// Anderson and Darling's statistic for an exponential distribution with unknown mean, and its p-value.
///
/// The statistic is Stephens' modified one, `A*^2 = A^2 (1 + 0.6 / n)` (M. A. Stephens, "EDF statistics for
/// goodness of fit and some comparisons", JASA 69, 1974). The p-value is the approximation of R. B.
/// D'Agostino and M. A. Stephens, "Goodness-of-Fit Techniques", 1986, chapter 4, to their table 4.14 (5 % at
/// 1.321, 1 % at 1.959); beyond a statistic of 10 it stays at `6e-7`.
///
/// Fewer than 8 gaps show nothing: `(0, 1)`. Gaps that are negative, not finite, or all zero are no
/// exponential ones: `(infinity, 0)`. A gap of zero among others is one that was rounded: it counts as half
/// of the smallest that is not. Costs a sort.
pub fn anderson_darling_exponential(gaps: &[f64]) -> (f64, f64) {
    if gaps.len() < GAPS_MIN {
        return (0.0, 1.0);
    }
    let Some(scaled) = Scaled::new(gaps) else { return (f64::INFINITY, 0.0) };
    let count = gaps.len() as f64;
    let mut sum = 0.0;
    for (at, (&low, &high)) in scaled.sorted.iter().zip(scaled.sorted.iter().rev()).enumerate() {
        let below = low.max(scaled.least);
        // ln F of the one, ln(1 - F) of the other; the second is exact for an exponential.
        sum += (2.0 * at as f64 + 1.0) * ((-(-below).exp_m1()).ln() - high);
    }
    let statistic = (-count - sum / count) * (1.0 + 0.6 / count);
    (statistic, p_value(statistic))
}

fn p_value(statistic: f64) -> f64 {
    let a = statistic.max(0.0);
    let p = if a < 0.26 {
        1.0 - (-12.2204 + 67.459 * a - 110.3 * a * a).exp()
    } else if a < 0.51 {
        1.0 - (-6.1327 + 20.218 * a - 18.663 * a * a).exp()
    } else if a < 0.95 {
        (0.9209 - 3.353 * a + 0.3 * a * a).exp()
    } else {
        // The parabola turns at 10.03.
        let a = a.min(10.0);
        (0.731 - 3.009 * a + 0.15 * a * a).exp()
    };
    p.clamp(0.0, 1.0)
}

/// The largest difference between the distribution of the gaps and an exponential one of their mean: 0 for
/// none, 1 for all. (Kolmogorov and Smirnov's statistic, taken as the size of an effect.)
///
/// 0 without gaps; 1 where they are negative, not finite, or all zero. Costs a sort.
pub fn max_cdf_distance(gaps: &[f64]) -> f64 {
    if gaps.is_empty() {
        return 0.0;
    }
    let Some(scaled) = Scaled::new(gaps) else { return 1.0 };
    let count = gaps.len() as f64;
    let mut largest = 0.0f64;
    for (at, &gap) in scaled.sorted.iter().enumerate() {
        let wanted = -(-gap).exp_m1();
        largest = largest.max((at as f64 + 1.0) / count - wanted).max(wanted - at as f64 / count);
    }
    largest.min(1.0)
}

/// Gaps in order, as parts of their mean.
struct Scaled {
    sorted: Vec<f64>,
    /// What stands for a gap of zero.
    least: f64,
}

impl Scaled {
    fn new(gaps: &[f64]) -> Option<Scaled> {
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let are_gaps = gaps.iter().all(|gap| gap.is_finite() && *gap >= 0.0);
        if !are_gaps || !mean.is_finite() || mean <= 0.0 {
            return None;
        }
        let mut sorted: Vec<f64> = gaps.iter().map(|gap| gap / mean).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let least = sorted.iter().find(|&&gap| gap > 0.0)? * 0.5;
        Some(Scaled { sorted, least })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use corelane_base::Rng;

    use super::super::draw::Draws;
    use super::*;

    /// Wrong samplers, each with the right mean: what the test must see through.
    fn uniform(rng: &mut Rng) -> f64 {
        (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(rng: &mut Rng) -> f64 {
        let (u, v) = (1.0 - uniform(rng), uniform(rng));
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Gamma of this shape, at least 1 (G. Marsaglia and W. W. Tsang, "A simple method for generating gamma
    /// variables", 2000).
    fn gamma(rng: &mut Rng, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        loop {
            let x = normal(rng);
            let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
            if v > 0.0 && (1.0 - uniform(rng)).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v / shape;
            }
        }
    }

    fn exponential(seed: u64, count: usize) -> Vec<f64> {
        let mut draws = Draws::new(seed);
        (0..count).map(|_| draws.exponential()).collect()
    }

    #[test]
    fn the_p_value_is_that_of_the_table() {
        let table = [
            (0.736, 0.25),
            (0.816, 0.2),
            (0.916, 0.15),
            (1.062, 0.1),
            (1.321, 0.05),
            (1.591, 0.025),
            (1.959, 0.01),
            (2.244, 0.005),
            (2.534, 0.0025),
        ];
        for (statistic, wanted) in table {
            let p = p_value(statistic);
            assert!((p / wanted - 1.0).abs() < 0.07, "{statistic}: {p} for {wanted}");
        }
    }

    #[test]
    fn the_p_value_falls_as_the_statistic_grows() {
        let mut before = 1.0;
        for step in 0..2_000 {
            let p = p_value(f64::from(step) * 0.01);
            assert!(p <= before + 1e-3, "{step}: {p} after {before}");
            before = p;
        }
        assert!(before < 1e-6);
    }

    #[test]
    fn exponential_gaps_are_refused_as_often_as_the_p_value_says() {
        let refused =
            (0..1_000).filter(|&seed| anderson_darling_exponential(&exponential(seed, 100)).1 < 0.05);
        let refused = refused.count();
        // 50 of 1000, with a deviation of 7.
        assert!((22..=78).contains(&refused), "{refused}");
    }

    #[test]
    fn ten_thousand_gaps_of_a_wrong_sampler_do_not_pass() {
        for seed in 1..=5 {
            let mut rng = Rng::new(seed);
            let mut of = |draw: &mut dyn FnMut(&mut Rng) -> f64| -> Vec<f64> {
                (0..10_000).map(|_| draw(&mut rng)).collect()
            };
            let wrong = [
                ("constant", of(&mut |_| 1.0)),
                ("uniform", of(&mut |rng| 2.0 * uniform(rng))),
                ("gamma of shape 1.1", of(&mut |rng| gamma(rng, 1.1))),
                ("weibull of shape 1.05", of(&mut |rng| (-(1.0 - uniform(rng)).ln()).powf(1.0 / 1.05))),
                ("exponential with a floor", of(&mut |rng| 0.03 - (1.0 - uniform(rng)).ln())),
                (
                    "bursts of two",
                    of(&mut |rng| if rng.chance(1, 2) { 0.0 } else { -(1.0 - uniform(rng)).ln() }),
                ),
            ];
            for (name, gaps) in wrong {
                let (statistic, p) = anderson_darling_exponential(&gaps);
                assert!(p < 0.01, "{name}, seed {seed}: {statistic} {p}");
            }
            // The sampler of the wrong ones is right where its shape is 1: it is the shape that is seen.
            let right = of(&mut |rng| gamma(rng, 1.0));
            let (statistic, p) = anderson_darling_exponential(&right);
            assert!(p > 0.01, "gamma of shape 1, seed {seed}: {statistic} {p}");
        }
    }

    #[test]
    fn a_gap_that_was_rounded_to_zero_does_not_fail_the_rest() {
        let ns: Vec<f64> = exponential(3, 10_000).iter().map(|gap| (gap * 1_000.0).round()).collect();
        assert!(ns.contains(&0.0));
        assert!(anderson_darling_exponential(&ns).1 > 0.01);
    }

    #[test]
    fn seven_gaps_show_nothing_and_eight_may() {
        assert_eq!(anderson_darling_exponential(&[1.0; 7]), (0.0, 1.0));
        assert!(anderson_darling_exponential(&[1.0; 8]).1 < 0.05);
        assert_eq!(max_cdf_distance(&[]), 0.0);
    }

    #[test]
    fn what_are_no_gaps_is_no_exponential() {
        for bad in [-1.0, f64::NAN, f64::INFINITY, f64::MAX] {
            let mut gaps = vec![1.0; 20];
            gaps[3] = bad;
            gaps[4] = bad;
            assert_eq!(anderson_darling_exponential(&gaps), (f64::INFINITY, 0.0), "{bad}");
            assert_eq!(max_cdf_distance(&gaps), 1.0, "{bad}");
        }
        assert_eq!(anderson_darling_exponential(&[0.0; 20]), (f64::INFINITY, 0.0));
    }

    #[test]
    fn the_distance_is_small_for_exponential_gaps_and_large_for_constant_ones() {
        let distance = max_cdf_distance(&exponential(5, 10_000));
        assert!(distance < 0.02, "{distance}");
        // All of them at the mean, where the exponential has 1 - 1/e.
        let distance = max_cdf_distance(&[3.0; 1_000]);
        assert!((distance - (1.0 - (-1.0f64).exp())).abs() < 1e-9, "{distance}");
    }
}
