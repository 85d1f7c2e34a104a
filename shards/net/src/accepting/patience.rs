//! What a listener does about accepts that fail.
//!
//! # Rules
//! 1. What the system lacks is waited for: the same accept would fail again at once.
//! 2. Anything else is one peer's misfortune, and the next accept goes on at once; unless they all fail.
//!
//! Not here: counting and logging (the listeners).

use std::time::Duration;

use crate::errno;

/// How long accept rests after the system refused a descriptor.
pub(crate) const RETRY: Duration = Duration::from_millis(100);

/// Failures in a row after which it rests whatever they are: a listener that is broken must not become a busy
/// loop, and eight peers that left while they waited are no reason to let the others wait.
const IN_A_ROW_MAX: u8 = 8;

/// Whether the system lacks something: descriptors, memory (accept(2)).
pub(crate) fn is_scarcity(errno: i32) -> bool {
    [errno::ENFILE, errno::EMFILE, errno::ENOBUFS, errno::ENOMEM].contains(&errno)
}

/// How much of that one listener has met.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    in_a_row: u8,
}

impl Patience {
    /// An accept brought a connection.
    pub(crate) fn succeeded(&mut self) {
        self.in_a_row = 0;
    }

    /// An accept failed; true if the next one is to wait for [`RETRY`].
    pub(crate) fn rests_after(&mut self, errno: i32) -> bool {
        self.in_a_row += 1;
        let rests = is_scarcity(errno) || self.in_a_row >= IN_A_ROW_MAX;
        if rests {
            self.in_a_row = 0;
        }
        rests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECONNABORTED: i32 = 103;

    #[test]
    fn scarcity_rests_at_once_and_lost_peers_after_eight_in_a_row() {
        let mut patience = Patience::default();
        for errno in [errno::ENFILE, errno::EMFILE, errno::ENOBUFS, errno::ENOMEM] {
            assert!(patience.rests_after(errno));
        }
        for _ in 0..7 {
            assert!(!patience.rests_after(ECONNABORTED));
        }
        assert!(patience.rests_after(ECONNABORTED));
        for _ in 0..100 {
            assert!(!patience.rests_after(ECONNABORTED));
            patience.succeeded();
        }
    }
}
