//! A draw by weight in constant time: the alias method (A. J. Walker, 1977; M. D. Vose, "A linear algorithm
//! for generating random numbers with a given distribution", 1991).
//!
//! In whole numbers, so that the shares are exact: of `n` boxes that hold `total` each, box `i` is filled
//! with `n * weight` of kind `i` and topped up from one other kind.

use corelane_base::Rng;

/// Kinds and their weights.
#[derive(Clone, Debug)]
pub(super) struct Pick {
    /// For each box how much is of its own kind, and which kind is the rest.
    boxes: Vec<(u64, u16)>,
    /// The sum of the weights.
    total: u64,
}

impl Pick {
    /// Of these weights, at most 65,536; None if they are all 0.
    pub(super) fn new(weights: &[u32]) -> Option<Pick> {
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        if total == 0 {
            return None;
        }
        let count = weights.len() as u64;
        let kinds = 0..=u16::MAX;
        let mut boxes: Vec<(u64, u16)> =
            weights.iter().zip(kinds).map(|(&weight, kind)| (u64::from(weight) * count, kind)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..boxes.len()).partition(|&kind| boxes[kind].0 < total);
        while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
            boxes[rich].0 -= total - boxes[poor].0;
            boxes[poor].1 = boxes[rich].1;
            // The number of a box is its kind until it was topped up.
            if boxes[rich].0 < total {
                large.pop();
                small.push(rich);
            }
        }
        Some(Pick { boxes, total })
    }

    /// One of the kinds.
    pub(super) fn draw(&self, rng: &mut Rng) -> usize {
        let kind = rng.index(self.boxes.len());
        let (own, other) = self.boxes[kind];
        if rng.below(self.total) < own { kind } else { usize::from(other) }
    }

    /// How much of all boxes is of each kind.
    #[cfg(test)]
    pub(super) fn shares(&self) -> Vec<u64> {
        let mut shares = vec![0; self.boxes.len()];
        for (kind, &(own, other)) in self.boxes.iter().enumerate() {
            shares[kind] += own;
            shares[usize::from(other)] += self.total - own;
        }
        shares
    }
}
