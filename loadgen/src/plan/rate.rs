//! A rate over time, made of linear pieces, and the time of the n-th request under it.
//!
//! # Rules
//! 1. The begin of a piece is kept as whole nanoseconds and as a [`Position`]: a whole count, and a part of
//!    one in units of 2^-53. Within a piece everything is computed from its begin (or, where the rate falls,
//!    from its end), never from the slot before: nothing adds up.
//! 2. A piece owns its begin and not its end. Where the rate is zero no position falls; one on the seam
//!    belongs to what follows.
//!
//! # How exact a time is
//! Its error is that of five floating-point operations on the time since the begin of the piece, 6 parts in
//! 10^16: 0.002 ns after an hour, 0.06 ns after a day. To that comes the rounding to whole nanoseconds. A
//! position is exact to the same 2^-53 of the count since the begin of the piece, and a drawn one to 2^-53 a
//! draw.
//!
//! Not here: which positions there are (`plan`).

use crate::model::Stage;
use crate::units::{DURATION_NS_MAX, RATE_MAX};

/// Pieces that a rate may have: a ramp drawn by hand has ten; one made by a program has its steps, and
/// belongs into a trace beyond this. When there are more: an error.
pub const STAGES_MAX: usize = 1_000;

/// Parts of a position that make one request.
const ONE: u64 = 1 << 53;

/// A count of requests with a fraction: what the integral of a rate gives.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    whole: u64,
    /// In units of 2^-53, below [`ONE`].
    part: u64,
}

impl Position {
    /// Before anything.
    pub const ZERO: Position = Position { whole: 0, part: 0 };

    /// After this many.
    pub const fn whole(whole: u64) -> Position {
        Position { whole, part: 0 }
    }

    /// This, and `count` more; `count` is at least 0. Saturates beyond 2^64.
    #[inline]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
    pub fn plus(self, count: f64) -> Position {
        let whole = count as u64;
        let part = self.part + ((count - whole as f64) * ONE as f64) as u64;
        Position {
            whole: self.whole.saturating_add(whole).saturating_add(part >> 53),
            part: part & (ONE - 1),
        }
    }

    /// This, and a drawn gap more: at least 0 and below 1024. As [`Position::plus`], in a third of the time.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // below 2^63
    pub fn plus_gap(self, gap: f64) -> Position {
        debug_assert!((0.0..1024.0).contains(&gap), "{gap}");
        let part = self.part + ((gap * ONE as f64) as i64).cast_unsigned();
        Position { whole: self.whole + (part >> 53), part: part & (ONE - 1) }
    }

    /// From `other`, which is not after this, to this.
    #[inline]
    fn since(self, other: Position) -> f64 {
        // Signed, for a borrow; both parts are below 2^53.
        let part = self.part.cast_signed() - other.part.cast_signed();
        self.whole.saturating_sub(other.whole) as f64 + part as f64 * (1.0 / ONE as f64)
    }
}

/// A piece: the rate goes linearly from one value to another.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start_ns: u64,
    /// `u64::MAX` in the last one.
    len_ns: u64,
    start: Position,
    /// Where the next one starts; `None` in the last one.
    end: Option<Position>,
    /// Requests a second, at its begin and its end.
    from: f64,
    to: f64,
}

impl Piece {
    /// The time of a position within the piece.
    #[inline]
    fn time_of(&self, position: Position) -> u64 {
        let (Some(end), false) = (self.end, self.from == self.to) else {
            // Not by a product with the gap, which is rounded: 1e9 / 3000 is no float.
            let after = nearest(position.since(self.start) * 1e9 / self.from);
            return self.start_ns.saturating_add(after.min(self.len_ns));
        };
        if self.from < self.to {
            let after = nearest(self.climb(self.from, self.to, position.since(self.start)));
            self.start_ns.saturating_add(after.min(self.len_ns))
        } else {
            let before = nearest(self.climb(self.to, self.from, end.since(position)));
            self.start_ns.saturating_add(self.len_ns - before.min(self.len_ns))
        }
    }

    /// The time, ns, that a ramp from `low` up to `high` takes for its first `count` requests.
    ///
    /// It is the t that solves `low t + (high - low) t^2 / 2 len = count`. Of the forms of the solution this
    /// one has no difference of like numbers, as long as the slope is positive: so a falling ramp is looked
    /// at from its end.
    #[inline]
    fn climb(&self, low: f64, high: f64, count: f64) -> f64 {
        if count <= 0.0 {
            return 0.0;
        }
        let slope = (high - low) / self.len_ns as f64;
        let count = count * 1e9;
        2.0 * count / (low + (low * low + 2.0 * slope * count).sqrt())
    }

    fn rate_after(&self, ns: u64) -> f64 {
        if self.from == self.to {
            return self.from;
        }
        self.from + (self.to - self.from) * (ns as f64 / self.len_ns as f64)
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative; saturates
fn nearest(ns: f64) -> u64 {
    (ns + 0.5) as u64
}

/// A rate over all time, with a finger on the piece that was asked for last.
#[derive(Clone, Debug)]
pub struct RateOverTime {
    pieces: Vec<Piece>,
    at: usize,
}

impl RateOverTime {
    /// The rate of these stages, one after the other; after the last its last rate goes on for ever.
    ///
    /// # Errors
    /// No stage, more than [`STAGES_MAX`], a rate that is negative, not finite or above [`RATE_MAX`], stages
    /// of more than ten years together, or no request at all.
    pub fn new(stages: &[Stage]) -> Result<RateOverTime, String> {
        if stages.len() > STAGES_MAX {
            let count = stages.len();
            return Err(format!(
                "{count} stages: at most {STAGES_MAX} are taken; write a trace file instead"
            ));
        }
        let last = stages.last().ok_or("a rate without a stage: write for example --rate 50k")?;
        let goes_on = Stage { from: last.to, to: last.to, len_ns: u64::MAX };
        let mut pieces = Vec::with_capacity(stages.len() + 1);
        let (mut start_ns, mut start) = (0u64, Position::ZERO);
        for (number, stage) in stages.iter().chain([&goes_on]).enumerate() {
            for rate in [stage.from, stage.to] {
                if !(0.0..=RATE_MAX).contains(&rate) {
                    return Err(format!("stage {}: a rate of {rate}/s is not from 0 to 1G/s", number + 1));
                }
            }
            let is_last = number == stages.len();
            let len = stage.len_ns as f64;
            // In this order a whole count of requests comes out whole.
            let end = (!is_last).then(|| start.plus((stage.from + stage.to) * 0.5 * len / 1e9));
            if stage.len_ns > 0 {
                let Stage { from, to, len_ns } = *stage;
                pieces.push(Piece { start_ns, len_ns, start, end, from, to });
            }
            if let Some(end) = end {
                start = end;
                start_ns = start_ns.saturating_add(stage.len_ns);
                if start_ns > DURATION_NS_MAX {
                    return Err("the stages are longer than ten years together: make them shorter".into());
                }
            }
        }
        if pieces.iter().all(|piece| piece.from == 0.0 && piece.to == 0.0) {
            return Err("the rate is zero all the time: write for example --rate 50k".into());
        }
        Ok(RateOverTime { pieces, at: 0 })
    }

    /// When this position is reached; `None` if it never is. Positions asked for must not decrease.
    #[inline]
    pub fn time_of(&mut self, position: Position) -> Option<u64> {
        let mut piece = self.pieces.get(self.at)?;
        while piece.end.is_some_and(|end| position >= end) {
            self.at += 1;
            piece = self.pieces.get(self.at)?;
        }
        // The last piece is constant, and may be zero.
        (piece.from + piece.to > 0.0).then(|| piece.time_of(position))
    }

    /// The integral of the rate: requests from `from_ns` up to before `to_ns`.
    pub fn integral(&self, from_ns: u64, to_ns: u64) -> f64 {
        let mut sum = 0.0;
        for piece in &self.pieces {
            let end_ns = piece.start_ns.saturating_add(piece.len_ns);
            let (from, to) = (from_ns.max(piece.start_ns), to_ns.min(end_ns));
            if from < to {
                let middle =
                    (piece.rate_after(from - piece.start_ns) + piece.rate_after(to - piece.start_ns)) * 0.5;
                sum += middle * (to - from) as f64 / 1e9;
            }
        }
        sum
    }

    /// Requests a second at this time.
    pub fn at(&self, at_ns: u64) -> f64 {
        let piece = self.pieces.iter().rfind(|piece| piece.start_ns <= at_ns);
        piece.map_or(0.0, |piece| piece.rate_after(at_ns - piece.start_ns))
    }
}
