//! The one way a pool refuses.

use std::fmt;

/// A fixed table or budget has no room for this request; what was held before is unchanged.
///
/// We must act: shed the request, or stop reading and try again on the next release. Both numbers are in
/// the unit of the pool that answered: slots for [`crate::Slots`], heap bytes for [`crate::Pools`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full {
    /// Taken when the request came.
    pub used: u64,
    /// The maximum that was configured.
    pub max: u64,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool full: {} of {} in use", self.used, self.max)
    }
}

impl std::error::Error for Full {}
