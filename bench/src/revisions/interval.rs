//! How sure the ratio of two medians is: a percentile bootstrap over rounds.
//!
//! # Rules
//! 1. A round is a pair, one sample of each side taken one after the other. Pairs are resampled, never their
//!    halves, so that what disturbed both sides of a round stays on both sides of the ratio.
//! 2. The same pairs and seed give the same interval.
//!
//! # The method
//! B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: rounds are drawn with
//! replacement as often as there are, the ratio of the medians is taken of what was drawn, 10,000 times; the
//! interval is what lies between the 250th smallest and the 250th largest of these ratios.
//!
//! Simulated with noise of 2 % that the two sides share and 2 % of their own, "95 %" of it contained the
//! truth in 93, 95, 96, 97 of 100 cases with 5, 7, 9, 21 rounds, and in 93 to 99 where in addition one
//! sample in ten was disturbed by up to a fifth, or the machine drifted by a fifth. With 3 rounds it was
//! 78 at best: no resampling gets beyond what was drawn once. The ratio of means (T. Kalibera and R.
//! Jones, "Rigorous benchmarking in reasonable time", 2013) gave narrower intervals of calm rounds, but
//! they contained the truth in 81 of 100 cases with 5 rounds, 89 with 7, 92 with 21.
//!
//! Not here: how samples are taken (`mod`), what is printed (`report`).

use corelane_base::rng::Rng;
use serde::Serialize;

/// Ratios computed of resampled rounds. The ends of the interval then have 250 of them beyond: their own
/// error by chance is a few per cent of the interval's width.
pub(crate) const RESAMPLES: u32 = 10_000;

/// Any number would do; a fixed one makes a result repeatable from its samples.
pub(crate) const SEED: u64 = 0x0c0e_1a6e;

/// Fewer rounds than this, and the interval is too narrow for its name (see the method above).
pub(crate) const JUDGED_ROUNDS_MIN: u32 = 5;

/// Of how many rounds an interval is worth looking at.
pub(crate) const ROUNDS_MIN: u32 = 3;

/// One figure of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Estimate {
    /// Median of the first side.
    pub(crate) a: f64,
    /// Median of the second side.
    pub(crate) b: f64,
    /// `b / a`.
    pub(crate) ratio: f64,
    /// Lower end of the 95 % interval of the ratio.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// What an interval says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All of the interval is on the good side of 1.
    Faster,
    /// All of it is on the bad side.
    Slower,
    /// It holds 1: a difference may be there, within the interval.
    NoDifferenceSeen,
    /// Fewer than [`ROUNDS_MIN`] rounds: it is no interval.
    NotJudged,
}

impl Verdict {
    /// As it is printed.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::NoDifferenceSeen => "no difference seen",
            Self::NotJudged => "not judged",
        }
    }
}

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Better {
    /// Like CPU time.
    Lower,
    /// Like requests per second.
    Higher,
}

impl Estimate {
    /// Of rounds of positive figures, (A, B) each; `None` of no rounds.
    ///
    /// Takes `resamples` times two sorts of as many values as there are rounds: 10,000 of 7 are 5 ms.
    pub(crate) fn of(rounds: &[(f64, f64)], resamples: u32, seed: u64) -> Option<Self> {
        let (mut a, mut b): (Vec<f64>, Vec<f64>) = rounds.iter().copied().unzip();
        let (a_median, b_median) = (median(&mut a)?, median(&mut b)?);
        let mut rng = Rng::new(seed);
        let ratio_of_draw = |_| {
            for at in 0..rounds.len() {
                (a[at], b[at]) = rounds[rng.index(rounds.len())];
            }
            Some(median(&mut b)? / median(&mut a)?)
        };
        let mut ratios = (0..resamples.max(1)).map(ratio_of_draw).collect::<Option<Vec<f64>>>()?;
        ratios.sort_unstable_by(f64::total_cmp);
        // 2.5 % beyond each end; of few resamples the outermost one.
        let beyond = (ratios.len() / 40).max(1);
        Some(Self {
            a: a_median,
            b: b_median,
            ratio: b_median / a_median,
            low: ratios[beyond - 1],
            high: ratios[ratios.len() - beyond],
        })
    }

    /// What the interval says, of so many rounds.
    pub(crate) fn verdict(&self, better: Better, rounds: usize) -> Verdict {
        if rounds < ROUNDS_MIN as usize {
            return Verdict::NotJudged;
        }
        match better {
            _ if self.low <= 1.0 && self.high >= 1.0 => Verdict::NoDifferenceSeen,
            Better::Lower if self.high < 1.0 => Verdict::Faster,
            Better::Higher if self.low > 1.0 => Verdict::Faster,
            _ => Verdict::Slower,
        }
    }
}

/// The middle value, or the mean of the two middle ones; sorts `values`.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Near normal, of mean 0 and variance 1: twelve uniform numbers, less their mean.
    fn noise(rng: &mut Rng) -> f64 {
        (0..12).map(|_| rng.below(1 << 32) as f64 / f64::from(u32::MAX)).sum::<f64>() - 6.0
    }

    fn rounds(rng: &mut Rng, count: usize, truth: f64) -> Vec<(f64, f64)> {
        let round = |_| {
            let shared = 5.0 * (1.0 + 0.02 * noise(rng));
            let a = shared * (1.0 + 0.02 * noise(rng));
            (a, truth * shared * (1.0 + 0.02 * noise(rng)))
        };
        (0..count).map(round).collect()
    }

    #[test]
    fn the_interval_holds_the_true_ratio_in_about_95_of_100_experiments() {
        let mut rng = Rng::new(1);
        for (count, truth) in [(5, 0.9), (9, 1.1)] {
            let mut held = 0;
            for _ in 0..400 {
                let estimate = Estimate::of(&rounds(&mut rng, count, truth), 400, SEED).unwrap();
                held += u32::from(estimate.low <= truth && truth <= estimate.high);
            }
            assert!((366..=394).contains(&held), "{held} of 400 with {count} rounds");
        }
    }

    #[test]
    fn a_side_against_itself_gives_an_interval_that_is_1() {
        let same = [(5.0, 5.0), (7.0, 7.0), (6.0, 6.0), (9.0, 9.0), (5.5, 5.5)];
        let estimate = Estimate::of(&same, RESAMPLES, SEED).unwrap();
        assert_eq!(estimate, Estimate { a: 6.0, b: 6.0, ratio: 1.0, low: 1.0, high: 1.0 });
        assert_eq!(estimate.verdict(Better::Lower, 5), Verdict::NoDifferenceSeen);
    }

    #[test]
    fn what_disturbs_a_whole_round_does_not_widen_the_interval() {
        // Every round ten times slower than the one before, B always twice A: halves drawn apart would
        // give ratios of 20 and 200.
        let pairs: Vec<(f64, f64)> = (0..7).map(|n| (10f64.powi(n), 2.0 * 10f64.powi(n))).collect();
        let estimate = Estimate::of(&pairs, RESAMPLES, SEED).unwrap();
        assert_eq!((estimate.ratio, estimate.low, estimate.high), (2.0, 2.0, 2.0));
    }

    #[test]
    fn the_ends_of_the_interval_have_a_fortieth_of_the_resamples_beyond() {
        // Of three rounds with an A of 1, the median of B is its smallest in 7 of 27 draws: both ends of the
        // interval are at the ends of what was seen, and nothing is beyond them.
        let estimate = Estimate::of(&[(1.0, 1.0), (1.0, 2.0), (1.0, 4.0)], RESAMPLES, SEED).unwrap();
        assert_eq!((estimate.low, estimate.ratio, estimate.high), (1.0, 2.0, 4.0));
        // Of nine, the smallest is the median in 14 of 10,000 draws, it or the next one in 304.
        let nine: Vec<(f64, f64)> = (1..=9).map(|n| (1.0, f64::from(n))).collect();
        let estimate = Estimate::of(&nine, RESAMPLES, SEED).unwrap();
        assert_eq!((estimate.low, estimate.ratio, estimate.high), (2.0, 5.0, 8.0));
    }

    #[test]
    fn the_same_rounds_give_the_same_interval_twice() {
        let pairs = rounds(&mut Rng::new(3), 7, 1.0);
        assert_eq!(Estimate::of(&pairs, 500, SEED), Estimate::of(&pairs, 500, SEED));
        assert_eq!(Estimate::of(&[], RESAMPLES, SEED), None);
    }

    #[test]
    fn a_verdict_needs_the_whole_interval_beyond_1_and_knows_which_way_is_better() {
        let estimate = |low, high| Estimate { a: 1.0, b: 1.0, ratio: 1.0, low, high };
        for (low, high, lower, higher) in [
            (1.01, 1.05, Verdict::Slower, Verdict::Faster),
            (0.90, 0.99, Verdict::Faster, Verdict::Slower),
            (0.99, 1.05, Verdict::NoDifferenceSeen, Verdict::NoDifferenceSeen),
            (1.00, 1.05, Verdict::NoDifferenceSeen, Verdict::NoDifferenceSeen),
        ] {
            assert_eq!(estimate(low, high).verdict(Better::Lower, 5), lower);
            assert_eq!(estimate(low, high).verdict(Better::Higher, 3), higher);
        }
        assert_eq!(estimate(1.01, 1.05).verdict(Better::Lower, 2), Verdict::NotJudged);
    }
}
