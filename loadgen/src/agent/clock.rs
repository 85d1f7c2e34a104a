//! How far the clock of another process is from ours.
//!
//! F. Cristian, "Probabilistic clock synchronization", 1989: the other side read its clock at some moment
//! between question and answer. The middle is the best guess, and half of the round trip the most it can be
//! wrong. Of many samples the one with the shortest round trip says the most.
//!
//! Not here: asking (`controller`).

/// Questions: the shortest of 16 round trips is close to the shortest there is, and they take 16 round trips.
pub const PINGS: usize = 16;

/// What quartz clocks may drift apart by, each 50 millionths at most.
const DRIFT_PER_MILLION: u64 = 100;

/// One question and its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sample {
    /// Our clock when we asked, ns.
    pub asked_ns: u64,
    /// Their clock when they answered, ns.
    pub theirs_ns: u64,
    /// Our clock when the answer came, ns.
    pub answered_ns: u64,
}

/// Their clock against ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offset {
    /// Theirs less ours, ns.
    pub ahead_ns: i128,
    /// The most this is wrong by, when it was measured.
    pub uncertain_ns: u64,
}

impl Offset {
    /// What their clock shows when ours shows `ours_ns`; 0 if that was before its begin.
    pub fn theirs(self, ours_ns: u64) -> u64 {
        let theirs = i128::from(ours_ns) + self.ahead_ns;
        u64::try_from(theirs.max(0)).unwrap_or(u64::MAX)
    }

    /// The most [`Offset::theirs`] is wrong by after `elapsed_ns`.
    pub fn uncertain_after(self, elapsed_ns: u64) -> u64 {
        self.uncertain_ns.saturating_add(elapsed_ns / 1_000_000 * DRIFT_PER_MILLION)
    }
}

/// The offset by the best of the samples; None if there is none.
pub fn offset_of(samples: &[Sample]) -> Option<Offset> {
    let round_trip = |sample: &Sample| sample.answered_ns.saturating_sub(sample.asked_ns);
    let best = samples.iter().min_by_key(|sample| round_trip(sample))?;
    let middle = best.asked_ns + round_trip(best) / 2;
    let uncertain_ns = round_trip(best).div_ceil(2);
    Some(Offset { ahead_ns: i128::from(best.theirs_ns) - i128::from(middle), uncertain_ns })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use corelane_base::Rng;

    #[test]
    fn the_shortest_round_trip_decides_and_says_how_sure_it_is() {
        let slow = Sample { asked_ns: 0, theirs_ns: 9_000_900, answered_ns: 1_000 };
        let fast = Sample { asked_ns: 2_000, theirs_ns: 9_002_050, answered_ns: 2_101 };
        let offset = offset_of(&[slow, fast]).unwrap();
        assert_eq!(offset, Offset { ahead_ns: 9_000_000, uncertain_ns: 51 });
        assert_eq!(offset.theirs(5), 9_000_005);
        assert_eq!(offset_of(&[]), None);
    }

    #[test]
    fn the_true_offset_is_within_the_uncertainty_however_lopsided_the_network() {
        let mut rng = Rng::new(1);
        for _ in 0..500 {
            let ahead = i64::try_from(rng.below(2_000_000)).unwrap() - 1_000_000;
            let samples: Vec<Sample> = (0..PINGS as u64)
                .map(|at| {
                    let (there, back) = (rng.below(500), rng.below(50_000));
                    let asked_ns = 10_000_000 + at * 100_000;
                    let theirs_ns = (asked_ns + there).checked_add_signed(ahead).unwrap();
                    Sample { asked_ns, theirs_ns, answered_ns: asked_ns + there + back }
                })
                .collect();
            let offset = offset_of(&samples).unwrap();
            let error = (offset.ahead_ns - i128::from(ahead)).unsigned_abs();
            assert!(error <= u128::from(offset.uncertain_ns), "{error} {offset:?}");
        }
    }

    #[test]
    fn clocks_drift_apart_while_one_waits() {
        let offset = Offset { ahead_ns: -50, uncertain_ns: 7 };
        assert_eq!(offset.uncertain_after(1_000_000_000), 100_007);
        assert_eq!(offset.theirs(20), 0, "before its begin");
        assert_eq!(offset.uncertain_after(u64::MAX), u64::MAX / 1_000_000 * 100 + 7);
    }
}
