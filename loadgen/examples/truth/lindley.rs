//! What a queue with one server does to known arrivals, worked out by itself: Lindley's recursion.
//!
//! A request begins when it has come and the one before it has ended: `begin = max(comes, end of the last)`
//! (D. V. Lindley, "The theory of queues with a single server", Proc. Cambridge Phil. Soc. 48, 1952, written
//! for ends instead of waits). Here the server may also stand still for stretches of time, in which no work
//! is done and none is lost.
//!
//! # Rules
//! 1. Nothing of the load generator is used: this is what it is held against.
//! 2. Times are nanoseconds of any one clock.
//!
//! Not here: arrivals and work (seeded draws), the real server. Tests of the worker include this file, too.

/// One request: when it comes, and how much work it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    pub(crate) comes_ns: u64,
    pub(crate) work_ns: u64,
}

/// A stretch in which the server stands still: from, and up to before.
pub(crate) type Stop = (u64, u64);

/// How long each request takes from when it comes to when it ends, in their order. `requests` are in the
/// order in which they come; `stops` in theirs, and do not overlap.
pub(crate) fn responses(requests: &[Request], stops: &[Stop]) -> Vec<u64> {
    let mut free_ns = 0;
    let mut ahead = stops;
    let mut each = Vec::with_capacity(requests.len());
    for request in requests {
        let mut at = request.comes_ns.max(free_ns);
        let mut left = request.work_ns;
        while let Some((&(from, to), rest)) = ahead.split_first() {
            if at < to {
                if at + left <= from {
                    break;
                }
                left -= from.saturating_sub(at).min(left);
                at = to;
            }
            // Nothing begins before the end of this one any more.
            ahead = rest;
        }
        free_ns = at + left;
        each.push(free_ns - request.comes_ns);
    }
    each
}

/// The smallest of the values that `percent` of all (0 to 100) do not exceed; 0 of none. Costs a sort.
pub(crate) fn percentile(values: &[u64], percent: f64) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    // 99.9 % of 1,000 are 999, whatever a float makes of it.
    let rank = (percent / 100.0 * sorted.len() as f64 - 1e-6).ceil();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most the length
    let index = (rank.max(1.0) as usize).min(sorted.len()).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(0)
}
