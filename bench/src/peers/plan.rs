//! The order of a run, how long it will take, and how far it is.
//!
//! # Rules
//! 1. Rounds are interleaved: every subject once, then every subject again.
//! 2. An estimate is what the windows last plus what starting and ending has taken so far.
//! 3. Where time is short, later rounds go first: every load has one.
//!
//! Not here: doing any of it (`run`).

use std::time::Duration;

use super::client::Times;
use super::loads::{Load, Mode};
use super::syscalls;

/// Starting server and client, asking once, the client's report, ending both: until some have been seen.
const AROUND_MS: u64 = 300;

/// The same where thousands of connections are opened and closed, a thousand of them.
const THOUSAND_MS: u64 = 60;

/// What is done in one go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// The sample of this round, counted from 1.
    Round(u32),
    /// System calls, after the rounds.
    Calls,
}

/// One step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Step {
    /// Places in the lists of loads and of servers.
    pub(super) load: usize,
    pub(super) server: usize,
    pub(super) what: What,
    pub(super) expected_ms: u64,
}

/// What to expect of a sample.
pub(super) fn expected_ms(load: &Load, times: Times) -> u64 {
    let around = AROUND_MS + THOUSAND_MS * u64::from(load.connections / 1000);
    let warming = if matches!(load.mode, Mode::Idle | Mode::Crowd) { 600 } else { 0 };
    around + warming + times.warm_up_ms + times.window_ms
}

/// The steps of one load: `servers` are those that run.
pub(super) fn steps_of(
    load: usize,
    it: &Load,
    times: Times,
    rounds: u32,
    servers: &[usize],
    calls: bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let expected_ms = expected_ms(it, times);
    for round in 1..=rounds {
        let one = |&server| Step { load, server, what: What::Round(round), expected_ms };
        steps.extend(servers.iter().map(one));
    }
    if calls {
        let expected_ms = AROUND_MS + 250 + syscalls::WINDOW_MS;
        steps.extend(servers.iter().map(|&server| Step { load, server, what: What::Calls, expected_ms }));
    }
    steps
}

/// How far a run is.
#[derive(Debug)]
pub(super) struct Progress {
    total: usize,
    done: usize,
    left_ms: u64,
    expected_ms: u64,
    taken_ms: u64,
}

impl Progress {
    pub(super) fn of(steps: &[Step]) -> Progress {
        let left_ms = steps.iter().map(|step| step.expected_ms).sum();
        Progress { total: steps.len(), done: 0, left_ms, expected_ms: 0, taken_ms: 0 }
    }

    /// A step is over, after `taken`.
    pub(super) fn done(&mut self, step: &Step, taken: Duration) {
        self.done += 1;
        self.left_ms = self.left_ms.saturating_sub(step.expected_ms);
        self.expected_ms += step.expected_ms;
        self.taken_ms += u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    }

    /// A step that will not be done.
    pub(super) fn skipped(&mut self, step: &Step) {
        self.total -= 1;
        self.left_ms = self.left_ms.saturating_sub(step.expected_ms);
    }

    /// What is left, by how those that are done kept to their estimates.
    pub(super) fn left(&self) -> Duration {
        // A few samples say little: the estimate counts as ten seconds that kept to themselves.
        let pace = (self.taken_ms + 10_000) as f64 / (self.expected_ms + 10_000) as f64;
        Duration::from_secs_f64(self.left_ms as f64 / 1e3 * pace)
    }

    /// `[37/412] 2:10 left`.
    pub(super) fn text(&self) -> String {
        format!("[{}/{}] {} left", self.done, self.total, clock(self.left()))
    }
}

/// Minutes and seconds.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::super::loads;
    use super::*;

    #[test]
    fn rounds_are_interleaved_and_calls_come_last() {
        let load = &loads::all()[0];
        let times = Times { warm_up_ms: 1, window_ms: 2 };
        let steps = steps_of(0, load, times, 2, &[4, 7], true);
        let order: Vec<_> = steps.iter().map(|step| (step.what, step.server)).collect();
        let (first, second) = (What::Round(1), What::Round(2));
        assert_eq!(
            order,
            [(first, 4), (first, 7), (second, 4), (second, 7), (What::Calls, 4), (What::Calls, 7)]
        );
    }

    #[test]
    fn what_is_left_follows_the_pace() {
        let step = Step { load: 0, server: 0, what: What::Round(1), expected_ms: 10_000 };
        let mut progress = Progress::of(&[step; 3]);
        assert_eq!(progress.left(), Duration::from_secs(30));
        progress.done(&step, Duration::from_secs(20));
        assert_eq!(progress.left(), Duration::from_secs(30), "20 s that were to be half of it");
        assert_eq!(progress.text(), "[1/3] 0:30 left");
        progress.skipped(&step);
        assert_eq!(progress.text(), "[1/2] 0:15 left");
        assert_eq!(clock(Duration::from_secs(130)), "2:10");
    }
}
