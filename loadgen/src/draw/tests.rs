//! Streams against published numbers, distributions against their exact probabilities.
#![allow(clippy::unwrap_used)]

use super::*;

/// What `counts` deviates from `shares`: Pearson's statistic.
fn chi_square(counts: &[u64], shares: &[f64]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    let cell = |(&count, share): (&u64, &f64)| (count as f64 - share * total).powi(2) / (share * total);
    counts.iter().zip(shares).map(cell).sum()
}

/// The exact probabilities of a small distribution.
fn shares(ranks: u32, exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=ranks).map(|k| f64::from(k).powf(-exponent)).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

fn counts(ranks: u64, exponent: f64, draws: u64) -> Vec<u64> {
    let zipf = Zipf::new(ranks, exponent).unwrap();
    let words = Draws::new(42, 7);
    let mut counts = vec![0; usize::try_from(ranks).unwrap()];
    for number in 0..draws {
        counts[usize::try_from(zipf.rank(words.at(number))).unwrap()] += 1;
    }
    counts
}

#[test]
fn a_stream_is_splitmix64_from_its_start() {
    // The first outputs for the seed 1234567, as the reference implementation (S. Vigna, splitmix64.c) gives.
    let stream = Draws { start: 1_234_567 };
    let known = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
    assert_eq!([0, 1, 2].map(|number| stream.at(number)), known);
}

#[test]
fn seed_salt_and_position_each_change_the_word() {
    let word = Draws::new(1, 2).at(3);
    assert_eq!(Draws::new(1, 2).at(3), word);
    for other in [Draws::new(2, 2).at(3), Draws::new(1, 3).at(3), Draws::new(1, 2).at(4)] {
        assert_ne!(other, word);
    }
    assert_ne!(Draws::new(1, 2).at(3), Draws::new(2, 1).at(3));
    // The ends of the range wrap and do not panic.
    assert_ne!(Draws::new(u64::MAX, u64::MAX).at(u64::MAX), Draws::new(0, 0).at(u64::MAX));
}

#[test]
fn a_unit_is_never_one_and_fills_its_range_evenly() {
    assert_eq!(unit(0), 0.0);
    assert!(unit(u64::MAX) < 1.0);
    let words = Draws::new(3, 0);
    let mut counts = [0u64; 16];
    for number in 0..16_000 {
        let at = (unit(words.at(number)) * 16.0).floor();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = at as usize;
        counts[at] += 1;
    }
    // 15 degrees of freedom: 37.7 is passed once in a thousand.
    assert!(chi_square(&counts, &[1.0 / 16.0; 16]) < 37.7, "{counts:?}");
}

#[test]
fn a_number_below_a_bound_stays_below_and_reaches_both_ends() {
    assert_eq!([below(0, 7), below(u64::MAX, 7), below(u64::MAX, 0)], [0, 6, 0]);
    assert_eq!(below(u64::MAX, u64::MAX), u64::MAX - 1);
}

#[test]
fn words_that_follow_each_other_are_not_correlated() {
    let words = Draws::new(9, 9);
    let centred = |word| unit(word) - 0.5;
    let count = 20_000;
    for lag in [1, 2, 8, 64] {
        let sum: f64 = (0..count).map(|n| centred(words.at(n)) * centred(words.at(n + lag))).sum();
        // A product of two has a variance of 1/144: four standard deviations of the mean.
        assert!((sum / count as f64).abs() < 4.0 / 12.0 / (count as f64).sqrt(), "lag {lag}: {sum}");
    }
}

#[test]
fn ranks_come_with_their_exact_probabilities() {
    for exponent in [0.0, 0.3, 0.5, 0.99, 1.0, 1.000_001, 1.01, 2.0, 4.0] {
        for ranks in [2, 10] {
            let counts = counts(ranks.into(), exponent, 30_000);
            let statistic = chi_square(&counts, &shares(ranks, exponent));
            // 9 degrees of freedom: 27.9 is passed once in a thousand; 1: 10.8.
            let most = if ranks == 2 { 10.8 } else { 27.9 };
            assert!(statistic < most, "s = {exponent}, {ranks} ranks: {statistic}, {counts:?}");
        }
    }
}

#[test]
fn a_wrong_exponent_would_be_found() {
    let statistic = chi_square(&counts(10, 1.0, 30_000), &shares(10, 0.9));
    assert!(statistic > 100.0, "{statistic}");
}

#[test]
fn a_trillion_ranks_are_drawn_as_a_few_are() {
    let zipf = Zipf::new(RANKS_MAX, 1.0).unwrap();
    let words = Draws::new(5, 5);
    let (draws, mut first, mut thousand) = (50_000_u32, 0, 0);
    for number in 0..draws {
        let rank = zipf.rank(words.at(number.into()));
        assert!(rank < RANKS_MAX);
        first += u32::from(rank == 0);
        thousand += u32::from(rank < 1000);
    }
    // The harmonic number of n is ln n + 0.57722 + 1/2n.
    let harmonic = (RANKS_MAX as f64).ln() + 0.577_215_664_9;
    for (count, share) in [(first, 1.0 / harmonic), (thousand, 7.485_470_86 / harmonic)] {
        let deviation = (share * (1.0 - share) / f64::from(draws)).sqrt();
        assert!((f64::from(count) / f64::from(draws) - share).abs() < 4.0 * deviation, "{count}: {share}");
    }
}

#[test]
fn the_ends_of_the_range_of_words_give_ranks_within_bounds() {
    for exponent in [0.0, 0.5, 1.0, 1.5, EXPONENT_MAX] {
        for ranks in [1, 2, 3, 1000, RANKS_MAX - 1, RANKS_MAX] {
            let zipf = Zipf::new(ranks, exponent).unwrap();
            for word in [0, 1, 1 << 11, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
                assert!(zipf.rank(word) < ranks, "{exponent} {ranks} {word}");
            }
        }
    }
}

#[test]
fn ranks_and_exponents_past_their_bounds_are_refused() {
    for (ranks, exponent) in [(1, 0.0), (RANKS_MAX, EXPONENT_MAX)] {
        assert!(Zipf::new(ranks, exponent).is_ok());
    }
    for (ranks, exponent, says) in [
        (0, 1.0, "0 ranks"),
        (RANKS_MAX + 1, 1.0, "take 1 to 1099511627776"),
        (9, -0.1, "zipf = -0.1"),
        (9, 4.01, "zipf = 4.01"),
        (9, f64::NAN, "zipf = NaN"),
        (9, f64::INFINITY, "zipf = inf"),
    ] {
        let error = Zipf::new(ranks, exponent).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn scattering_gives_every_number_once() {
    for bound in (1..70).chain([127, 128, 129, 1000, 4096, 10_007]) {
        let scatter = Scatter::new(bound);
        let mut seen = vec![false; usize::try_from(bound).unwrap()];
        for number in 0..bound {
            let place = usize::try_from(scatter.place(number)).unwrap();
            assert!(!std::mem::replace(&mut seen[place], true), "{bound}: {place} twice");
        }
    }
}

#[test]
fn ranks_that_follow_each_other_lie_far_apart() {
    for bound in [1000, 100_000, 1_000_000, 1_000_000_000_000] {
        let scatter = Scatter::new(bound);
        let mut places: Vec<u64> = (0..200).map(|rank| scatter.place(rank)).collect();
        // Two numbers drawn evenly are a third of the range apart in the mean.
        let mean = places.windows(2).map(|pair| pair[0].abs_diff(pair[1]) as f64).sum::<f64>() / 199.0;
        assert!((mean / bound as f64 - 1.0 / 3.0).abs() < 0.07, "{bound}: {mean}");
        // No part of the range goes without some of the hottest.
        places.sort_unstable();
        let gap = places.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        assert!(gap < bound / 15, "{bound}: {gap}");
    }
}
