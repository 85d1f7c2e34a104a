//! The watch over the shards: a turn that does not end, and a shard that does not wake up.
//!
//! A shard shows the number of its turn, since when it lasts and what it is at. The control thread looks every
//! `stall_time`, though not more often than every 5 ms nor less often than every 100 ms. A turn that has lasted
//! twice `stall_time` is named while it still lasts, at the next look. A shard that sleeps shows nothing new, so
//! it is asked four times a second to turn once; one that does not is named as well.
//!
//! Nothing is done about a shard that stands still but to say so: its thread cannot be ended from outside, and
//! the others serve on. What ends the process is for the operator or the supervisor to decide.
//!
//! # Rules
//! 1. Looking costs a shard nothing, asking it one turn.
//! 2. Each stop is said once, and once more when it is over.
//!
//! Not here: turns that were too long and ended (the shard itself counts and logs them).

use std::fmt;
use std::time::Duration;

use corelane_base::{Limits, ShardId};
use corelane_exec::ShardHandle;
use corelane_exec::watch::Reading;

/// How often a shard is asked to turn.
const ASK_NS: u64 = 250_000_000;

/// What there is to say about a shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Finding {
    /// Its turn does not end.
    Stuck { shard: u16, doing: &'static str, ms: u64 },
    /// It has work and does not wake up.
    Silent { shard: u16, ms: u64 },
    /// It goes on.
    Back { shard: u16, ms: u64 },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Stuck { shard, doing, ms } => {
                write!(f, "shard {shard} has been in one turn for {ms} ms, at {doing}")
            }
            Finding::Silent { shard, ms } => {
                write!(f, "shard {shard} has not woken up for {ms} ms: its thread is stopped, or has no CPU")
            }
            Finding::Back { shard, ms } => write!(f, "shard {shard} goes on, after {ms} ms"),
        }
    }
}

/// What was last seen of a shard.
#[derive(Debug)]
struct Seen {
    turn: u64,
    /// Since when it has had work without turning.
    waits_since_ns: Option<u64>,
    asked_ns: u64,
    /// Since when it stands still, once that was said.
    said_ns: Option<u64>,
}

/// One shard as the watch sees it now.
#[derive(Clone, Copy, Debug)]
struct Look {
    reading: Reading,
    has_work: bool,
}

/// The watch of a node.
#[derive(Debug)]
pub(crate) struct Watch {
    shards: Vec<(ShardHandle, Seen)>,
    patience_ns: u64,
    /// How often [`Watch::look`] wants to be called.
    pub(crate) period: Duration,
}

impl Watch {
    pub(crate) fn new(shards: Vec<ShardHandle>, limits: &Limits, now_ns: u64) -> Watch {
        let period = limits.stall_time.clamp(Duration::from_millis(5), Duration::from_millis(100));
        let patience_ns = u64::try_from((2 * limits.stall_time).as_nanos()).unwrap_or(u64::MAX);
        let shards = shards.into_iter().map(|handle| (handle, Seen::new(now_ns))).collect();
        Watch { shards, patience_ns, period }
    }

    /// A shard has ended: it neither turns nor is asked to any more.
    pub(crate) fn forget(&mut self, shard: ShardId) {
        self.shards.retain(|(handle, _)| handle.id() != shard);
    }

    /// Whether no shard stands still, as far as was seen.
    pub(crate) fn all_go_on(&self) -> bool {
        self.shards.iter().all(|(_, seen)| seen.said_ns.is_none())
    }

    /// Looks at every shard, and asks those whose turn it is.
    pub(crate) fn look(&mut self, now_ns: u64) -> Vec<Finding> {
        let mut found = Vec::new();
        for (handle, seen) in &mut self.shards {
            let look = Look { reading: handle.pulse(), has_work: handle.has_work() };
            found.extend(seen.judge(handle.id().0, look, now_ns, self.patience_ns));
            if seen.wants_asking(look, now_ns) {
                // Full is work enough to wait for.
                let _ = handle.send(|_| {});
            }
        }
        found
    }
}

impl Seen {
    fn new(now_ns: u64) -> Seen {
        Seen { turn: 0, waits_since_ns: None, asked_ns: now_ns, said_ns: None }
    }

    fn judge(&mut self, shard: u16, look: Look, now_ns: u64, patience_ns: u64) -> Option<Finding> {
        let Look { reading, has_work } = look;
        if reading.turn != self.turn {
            self.turn = reading.turn;
            self.waits_since_ns = None;
            let since_ns = self.said_ns.take()?;
            return Some(Finding::Back { shard, ms: now_ns.saturating_sub(since_ns) / 1_000_000 });
        }
        let since_ns = if reading.in_turn {
            self.waits_since_ns = None;
            reading.since_ns
        } else if has_work {
            *self.waits_since_ns.get_or_insert(now_ns)
        } else {
            self.waits_since_ns = None;
            return None;
        };
        let ns = now_ns.saturating_sub(since_ns);
        if ns < patience_ns || self.said_ns.is_some() {
            return None;
        }
        self.said_ns = Some(since_ns);
        let ms = ns / 1_000_000;
        Some(match reading.in_turn {
            true => Finding::Stuck { shard, doing: reading.doing, ms },
            false => Finding::Silent { shard, ms },
        })
    }

    fn wants_asking(&mut self, look: Look, now_ns: u64) -> bool {
        let due = now_ns.saturating_sub(self.asked_ns) >= ASK_NS;
        if due {
            self.asked_ns = now_ns;
        }
        due && !look.has_work && !look.reading.in_turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const PATIENCE: u64 = 50 * MS;

    fn at(turn: u64, in_turn: bool, since_ms: u64, has_work: bool) -> Look {
        let reading = Reading { turn, in_turn, since_ns: since_ms * MS, doing: "tests::sum" };
        Look { reading, has_work }
    }

    #[test]
    fn a_turn_that_does_not_end_is_named_once_within_100_ms_and_again_when_it_is_over() {
        let mut seen = Seen::new(0);
        let mut said = Vec::new();
        for now_ms in (0..500).step_by(25) {
            let look = if now_ms < 400 { at(7, true, 10, true) } else { at(8, false, 400, false) };
            said.extend(seen.judge(3, look, now_ms * MS, PATIENCE).map(|finding| (now_ms, finding)));
        }
        assert_eq!(
            said,
            [
                (75, Finding::Stuck { shard: 3, doing: "tests::sum", ms: 65 }),
                (400, Finding::Back { shard: 3, ms: 390 })
            ]
        );
    }

    #[test]
    fn short_turns_are_not_named_however_many_there_are() {
        let mut seen = Seen::new(0);
        for n in 0..1_000 {
            assert_eq!(seen.judge(0, at(n, true, n * 25, true), n * 25 * MS, PATIENCE), None);
        }
    }

    #[test]
    fn a_sleeping_shard_is_silent_only_when_it_has_work_and_does_not_take_it() {
        let mut seen = Seen::new(0);
        for now_ms in (0..10_000).step_by(25) {
            assert_eq!(seen.judge(0, at(5, false, 0, false), now_ms * MS, PATIENCE), None);
        }
        assert_eq!(seen.judge(0, at(5, false, 0, true), 10_000 * MS, PATIENCE), None);
        let named = seen.judge(0, at(5, false, 0, true), 10_050 * MS, PATIENCE);
        assert_eq!(named, Some(Finding::Silent { shard: 0, ms: 50 }));
        assert_eq!(seen.judge(0, at(5, false, 0, true), 10_100 * MS, PATIENCE), None);
        let back = seen.judge(0, at(6, false, 10_200, false), 10_200 * MS, PATIENCE);
        assert_eq!(back, Some(Finding::Back { shard: 0, ms: 200 }));
    }

    #[test]
    fn a_sleeping_shard_is_asked_four_times_a_second_and_a_busy_one_never() {
        let mut seen = Seen::new(0);
        let asked = |seen: &mut Seen, look| (0..100).filter(|n| seen.wants_asking(look, n * 25 * MS)).count();
        assert_eq!(asked(&mut seen, at(1, false, 0, false)), 9);
        assert_eq!(asked(&mut Seen::new(0), at(1, true, 0, false)), 0);
        assert_eq!(asked(&mut Seen::new(0), at(1, false, 0, true)), 0);
    }
}
