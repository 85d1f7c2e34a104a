//! The course of a run: stages, slices, and what is due next.
//!
//! Not here: what is sent (`requests`).

use std::cmp::Reverse;

use super::{Alarm, Core};
use crate::protocol::Protocol;
use crate::record::{ErrorKind, KindTally};
use crate::worker::conn::Phase;
use crate::worker::{Slices, Stage, Traffic};

impl<P: Protocol> Core<P> {
    pub(in crate::worker) fn start(&mut self, at_ns: u64) {
        self.begin_ns = at_ns;
        let open = at_ns + self.config.warmup_ns;
        self.window_ns = (open, open + self.config.duration_ns);
        self.drain_end_ns = self.window_ns.1 + self.config.drain_ns;
        self.stage = Stage::WarmUp;
        if let Traffic::Closed { .. } = self.config.traffic {
            let count = u64::from(self.config.connections.max(1));
            for index in 0..self.config.connections {
                let at = at_ns + self.config.ramp_ns / count * u64::from(index);
                let generation = self.conns[index as usize].generation;
                if self.conns[index as usize].phase == Phase::Open {
                    self.alarms.push(Reverse((at, Alarm::Begin(index, generation))));
                }
            }
        }
    }

    /// The window ends now, if it did not before.
    pub(in crate::worker) fn stop(&mut self, now: u64) {
        if self.stage < Stage::WarmUp {
            self.stage = Stage::Done;
        } else if now < self.window_ns.1 {
            self.window_ns = (self.window_ns.0.min(now), now);
            self.drain_end_ns = now + self.config.drain_ns;
        }
    }

    /// Adds time spent polling.
    pub(in crate::worker) fn spin(&mut self, ns: u64) {
        if self.stage == Stage::Window {
            self.counters.spin_ns += ns;
        }
    }

    /// Takes note of a gap between two looks at the clock.
    #[inline]
    pub(in crate::worker) fn gap(&mut self, ns: u64) {
        if ns > self.counters.hiccup_max_ns && self.stage == Stage::Window {
            self.counters.hiccup_max_ns = ns;
        }
    }

    /// What time alone brings: the next stage, alarms, deadlines, slots, the end of a slice.
    pub(in crate::worker) fn advance(&mut self, now: u64, slices: &mut impl Slices) {
        if self.stage != Stage::Window || now >= self.slice_end_ns.min(self.window_ns.1) {
            self.advance_stage(now, slices);
        }
        self.open_more(now);
        while let Some(&Reverse((at, alarm))) = self.alarms.peek() {
            if at > now {
                break;
            }
            self.alarms.pop();
            self.alarm(alarm, at, now);
        }
        if now >= self.sweep_at {
            self.sweep(now);
        }
        if matches!(self.config.traffic, Traffic::Open(_)) {
            self.issue_due(now);
        }
    }

    pub(super) fn advance_stage(&mut self, now: u64, slices: &mut impl Slices) {
        if self.stage == Stage::Opening && self.tried == self.config.connections && self.opening == 0 {
            self.stage = Stage::Ready;
        }
        self.begin_window(now);
        while self.stage == Stage::Window && now >= self.slice_end_ns.min(self.window_ns.1) {
            let end = self.slice_end_ns.min(self.window_ns.1);
            self.end_slice(end, slices);
            if end >= self.window_ns.1 {
                self.stage = Stage::Drain;
                self.slice_end_ns = u64::MAX;
            }
        }
        if self.stage == Stage::Drain && (now >= self.drain_end_ns || self.is_drained()) {
            self.end(now);
            if self.end_slice(now.max(self.window_ns.1), slices) {
                self.stage = Stage::Done;
            }
        }
    }

    /// Forgets what the warm-up counted, once it is over.
    #[inline]
    pub(in crate::worker) fn begin_window(&mut self, now: u64) {
        if self.stage == Stage::WarmUp && now >= self.window_ns.0 {
            self.stage = Stage::Window;
            self.slice.tally.clear();
            self.begin_slice(self.window_ns.0);
        }
    }

    pub(super) fn begin_slice(&mut self, at: u64) {
        self.slice.start_ns = at - self.window_ns.0;
        self.slice_end_ns = at + self.config.slice_ns;
    }

    /// Hands a full slice over. False if nobody took it: it then goes on.
    pub(super) fn end_slice(&mut self, end: u64, slices: &mut impl Slices) -> bool {
        self.slice.len_ns = end - self.window_ns.0 - self.slice.start_ns;
        let spare = self.spare.take().unwrap_or_default();
        match slices.exchange(std::mem::replace(&mut self.slice, spare)) {
            Ok(empty) => {
                self.spare = Some(std::mem::replace(&mut self.slice, empty));
                let kinds = if self.config.kinds > 1 { self.config.kinds } else { 0 };
                self.slice.tally.kinds.resize_with(kinds, KindTally::default);
                self.begin_slice(end);
                true
            }
            Err(full) => {
                self.spare = Some(std::mem::replace(&mut self.slice, full));
                self.slice_end_ns = end + self.config.slice_ns;
                false
            }
        }
    }

    /// Nothing is under way, and nothing that was due in the window is left.
    pub(super) fn is_drained(&self) -> bool {
        self.under_way == 0 && !self.has_slots_left()
    }

    /// Whether slots of the window were not taken yet.
    pub(super) fn has_slots_left(&self) -> bool {
        match &self.config.traffic {
            Traffic::Open(schedule) => schedule
                .peek()
                .is_some_and(|slot| self.begin_ns.saturating_add(slot.at_ns) < self.window_ns.1),
            Traffic::Closed { .. } => false,
        }
    }

    /// Records all that is without an answer.
    pub(super) fn end(&mut self, now: u64) {
        for index in 0..self.conns.len() {
            loop {
                let conn = &mut self.conns[index];
                let sent = conn.waiting() > 0;
                let Some(flight) = conn.flights.pop_front() else { break };
                conn.unsent -= u32::from(!sent);
                // Deadlines are looked at in turn: one may have passed and not been seen yet.
                let deadline = flight.submitted.saturating_add(self.config.timeout_ns);
                let (kind, at) = match sent {
                    true if now >= deadline => (ErrorKind::Timeout, deadline),
                    true => (ErrorKind::Unanswered, now),
                    false => (ErrorKind::Unsent, now),
                };
                self.lose(flight, kind, sent, at);
            }
        }
        let (begin, end) = (self.begin_ns, self.window_ns.1);
        // A slot that is left although a connection was free did not wait for one, but for us.
        let all_busy = self.idle.is_empty() && self.roomy.is_empty();
        if let Traffic::Open(schedule) = &mut self.config.traffic {
            while let Some(slot) = schedule.peek() {
                let intended = begin.saturating_add(slot.at_ns);
                if intended >= end {
                    break;
                }
                schedule.next();
                if intended >= self.window_ns.0 {
                    self.slice.tally.counts.intended += 1;
                    self.slice.tally.counts.waited += u64::from(all_busy);
                    self.slice.tally.errors.add(ErrorKind::Unsent);
                    self.slice.tally.response.record_at_least(now - intended);
                    self.slice.tally.send_lag.record_at_least(now - intended);
                }
            }
        }
    }

    /// When something is due next.
    pub(in crate::worker) fn next_due(&mut self) -> u64 {
        let mut due = self.slice_end_ns.min(self.window_ns.1.max(self.begin_ns));
        match self.stage {
            Stage::Opening | Stage::Ready => due = u64::MAX,
            Stage::WarmUp => due = self.window_ns.0,
            Stage::Window => {}
            Stage::Drain | Stage::Done => due = self.drain_end_ns,
        }
        if let Some(&Reverse((at, _))) = self.alarms.peek() {
            due = due.min(at);
        }
        if self.opening > 0 || self.under_way > 0 {
            due = due.min(self.sweep_at.max(self.sweep_deadline()));
        }
        if let Some(at) = self.next_slot() {
            due = due.min(at);
        }
        due
    }

    /// Sweeps do not have to keep a sleeping worker awake a thousand times a second.
    pub(super) fn sweep_deadline(&self) -> u64 {
        self.sweep_at + self.sweep_span() / 4
    }

    /// When the next slot is due, where a connection is free for it.
    pub(super) fn next_slot(&mut self) -> Option<u64> {
        if self.stage < Stage::WarmUp || (self.idle.is_empty() && self.roomy.is_empty()) {
            return None;
        }
        let (begin, end) = (self.begin_ns, self.window_ns.1);
        let Traffic::Open(schedule) = &mut self.config.traffic else { return None };
        schedule.peek().map(|slot| begin.saturating_add(slot.at_ns)).filter(|&at| at < end)
    }

    /// Whether what is due next is to be met to the microsecond.
    pub(in crate::worker) fn is_precise(&mut self) -> bool {
        match self.config.traffic {
            Traffic::Open(_) => self.stage >= Stage::WarmUp && self.stage <= Stage::Window,
            Traffic::Closed { think_ns, .. } => think_ns > 0 && self.stage <= Stage::Window,
        }
    }
}
