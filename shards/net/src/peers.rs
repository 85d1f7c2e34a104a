//! How many connections each peer address has.
//!
//! Not here: the maximum, and what is done at it (`http1`, `session`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

/// Counts by address; one without a connection takes no place.
#[derive(Debug, Default)]
pub(crate) struct PeerCounts(RefCell<HashMap<IpAddr, u32>>);

impl PeerCounts {
    /// One connection of a peer more, unless it has `max`.
    pub(crate) fn enter(&self, peer: IpAddr, max: u32) -> bool {
        let mut counts = self.0.borrow_mut();
        let count = counts.entry(peer).or_insert(0);
        let enters = *count < max;
        *count += u32::from(enters);
        enters
    }

    /// One less.
    pub(crate) fn leave(&self, peer: IpAddr) {
        let mut counts = self.0.borrow_mut();
        if let Some(count) = counts.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_its_maximum_and_no_more_until_one_leaves() {
        let counts = PeerCounts::default();
        let [a, b] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        assert!(counts.enter(a, 2) && counts.enter(a, 2) && counts.enter(b, 2));
        assert!(!counts.enter(a, 2));
        counts.leave(a);
        assert!(counts.enter(a, 2));
        [a, a, b].into_iter().for_each(|peer| counts.leave(peer));
        assert!(counts.0.borrow().is_empty());
    }
}
