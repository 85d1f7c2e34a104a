//! The breaker: stops asking an upstream that fails, and finds out when it is back.
//!
//! The pattern is Nygard's ("Release It!", 2007, "Circuit Breaker"), with a wait that doubles. Closed: all are asked;
//! [`Settings::failures`] failures in a row open it. Open: none is asked until the wait is over. Half open:
//! [`Settings::probes`] may be under way at a time; as many successes in a row close it, one failure opens it for twice
//! as long. Pure: time is an argument.
//!
//! # Rules
//! 1. Each [`Breaker::admits`] that was true is followed by one of [`Breaker::succeeded`], [`Breaker::failed`] and
//!    [`Breaker::gave_up`].
//!
//! Not here: what a failure is (`client`).

/// Numbers of a breaker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// Calls under way while it is half open, and successes in a row that close it.
    pub probes: u32,
    /// How long it is open, at first.
    pub wait_ms: u64,
    /// How long at most.
    pub wait_ms_max: u64,
}

impl Default for Settings {
    /// Five failures are no accident of one connection; a second is what a client waits; half a minute is the time to
    /// recover that is promised.
    fn default() -> Settings {
        Settings { failures: 5, probes: 2, wait_ms: 1_000, wait_ms_max: 30_000 }
    }
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// All are asked.
    Closed,
    /// None is.
    Open,
    /// A few are, to find out.
    HalfOpen,
}

/// One breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: Settings,
    state: State,
    /// In a row: failures while closed, successes while half open.
    run: u32,
    under_way: u32,
    until_ms: u64,
    wait_ms: u64,
    /// Times it opened.
    opened: u64,
    /// Calls that were not made.
    refused: u64,
}

impl Breaker {
    /// Closed.
    pub fn new(settings: Settings) -> Breaker {
        let wait_ms = settings.wait_ms;
        let state = State::Closed;
        Breaker { settings, state, run: 0, under_way: 0, until_ms: 0, wait_ms, opened: 0, refused: 0 }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Times it opened, and calls that were not made for it.
    pub fn counts(&self) -> (u64, u64) {
        (self.opened, self.refused)
    }

    /// Whether a call may be made now.
    pub fn admits(&mut self, now_ms: u64) -> bool {
        if self.state == State::Open && now_ms >= self.until_ms {
            (self.state, self.run, self.under_way) = (State::HalfOpen, 0, 0);
        }
        let admitted = match self.state {
            State::Closed => true,
            State::Open => false,
            State::HalfOpen => self.under_way < self.settings.probes,
        };
        if !admitted {
            self.refused += 1;
        } else if self.state == State::HalfOpen {
            self.under_way += 1;
        }
        admitted
    }

    /// A call was answered.
    pub fn succeeded(&mut self) {
        match self.state {
            State::Closed => self.run = 0,
            State::Open => {}
            State::HalfOpen => {
                self.under_way = self.under_way.saturating_sub(1);
                self.run += 1;
                if self.run >= self.settings.probes {
                    (self.state, self.run, self.wait_ms) = (State::Closed, 0, self.settings.wait_ms);
                }
            }
        }
    }

    /// A call was not answered, or not in time. What was sent before it opened counts no more.
    pub fn failed(&mut self, now_ms: u64) {
        match self.state {
            State::Closed => {
                self.run += 1;
                if self.run >= self.settings.failures {
                    self.open(now_ms);
                }
            }
            State::Open => {}
            State::HalfOpen => {
                self.wait_ms = (self.wait_ms * 2).min(self.settings.wait_ms_max);
                self.open(now_ms);
            }
        }
    }

    /// A call was admitted, and ended without saying anything of the upstream.
    pub fn gave_up(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    fn open(&mut self, now_ms: u64) {
        self.state = State::Open;
        self.until_ms = now_ms + self.wait_ms;
        self.opened += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(Settings { failures: 3, probes: 2, wait_ms: 100, wait_ms_max: 350 })
    }

    fn fail(breaker: &mut Breaker, now_ms: u64) {
        assert!(breaker.admits(now_ms));
        breaker.failed(now_ms);
    }

    #[test]
    fn failures_in_a_row_open_it_and_no_fewer() {
        let mut breaker = breaker();
        for _ in 0..3 {
            fail(&mut breaker, 0);
            fail(&mut breaker, 0);
            assert!(breaker.admits(0));
            breaker.succeeded();
        }
        assert_eq!(breaker.state(), State::Closed);
        for _ in 0..3 {
            fail(&mut breaker, 0);
        }
        assert_eq!(breaker.state(), State::Open);
        assert!(!breaker.admits(99));
        assert_eq!(breaker.counts(), (1, 1));
    }

    #[test]
    fn half_open_it_lets_a_few_through_and_closes_when_they_succeed() {
        let mut breaker = breaker();
        for _ in 0..3 {
            fail(&mut breaker, 0);
        }
        assert!(breaker.admits(100));
        assert!(breaker.admits(100));
        assert!(!breaker.admits(100), "two are under way");
        breaker.succeeded();
        assert_eq!(breaker.state(), State::HalfOpen);
        breaker.gave_up();
        assert!(breaker.admits(101));
        breaker.succeeded();
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_its_maximum() {
        let mut breaker = breaker();
        for _ in 0..3 {
            fail(&mut breaker, 0);
        }
        let mut now = 0;
        for wait in [100, 200, 350, 350] {
            assert!(!breaker.admits(now + wait - 1));
            now += wait;
            fail(&mut breaker, now);
            assert_eq!(breaker.state(), State::Open);
        }
        assert!(breaker.admits(now + 350) && breaker.admits(now + 350));
        breaker.succeeded();
        breaker.succeeded();
        for _ in 0..3 {
            fail(&mut breaker, now);
        }
        assert!(!breaker.admits(now + 99));
        assert!(breaker.admits(now + 100), "after a recovery the wait is the first one again");
    }
}
