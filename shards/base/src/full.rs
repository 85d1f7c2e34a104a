//! The answer of everything bounded.

use core::fmt;

/// Something with a maximum is at it. Says what, and the number, so that the reader knows which limit to raise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full {
    /// The field of [`Limits`](crate::Limits) that was met.
    pub what: &'static str,
    /// Its value.
    pub max: u64,
}

impl Full {
    /// `what` is the name of the field of [`Limits`](crate::Limits) that holds `max`.
    pub const fn new(what: &'static str, max: u64) -> Full {
        Full { what, max }
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "full: {} is at its maximum of {}", self.what, self.max)
    }
}

impl std::error::Error for Full {}
