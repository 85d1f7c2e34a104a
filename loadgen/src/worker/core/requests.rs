//! From a slot of the schedule, or an answer, to a send; and what is recorded of a request.
//!
//! Not here: when a slot is looked at (`course`), what an answer is (`answers`).

use corelane_base::Op;
use corelane_pools::{Chain, Chunk, Pools};

use super::{Core, SEND_LEN_MAX};
use crate::protocol::Protocol;
use crate::record::{ErrorKind, Tally};
use crate::worker::conn::{Flight, Phase, tag};
use crate::worker::{Stage, Traffic};

impl<P: Protocol> Core<P> {
    /// Sends the slots that are due, as far as connections are free.
    pub(super) fn issue_due(&mut self, now: u64) {
        if self.stage < Stage::WarmUp || self.stage > Stage::Drain {
            return;
        }
        let (begin, end) = (self.begin_ns, self.window_ns.1);
        loop {
            let Traffic::Open(schedule) = &mut self.config.traffic else { return };
            let Some(slot) = schedule.peek() else { return };
            let intended = begin.saturating_add(slot.at_ns);
            if intended > now || intended >= end {
                return;
            }
            let Some(index) = self.take_free() else { return };
            schedule_next(&mut self.config.traffic);
            let freed_at = self.conns[index as usize].freed_at;
            let measured = intended >= self.window_ns.0;
            if freed_at > intended && measured {
                self.slice.tally.counts.waited += 1;
            }
            self.ask(index, intended, intended.max(freed_at), slot.number);
        }
    }

    /// A connection that may take a request: one that has nothing under way, before one that has.
    pub(super) fn take_free(&mut self) -> Option<u32> {
        loop {
            let index = self.idle.pop_front().or_else(|| self.roomy.pop_front())?;
            self.conns[index as usize].is_listed = false;
            if self.is_free(index) {
                return Some(index);
            }
        }
    }

    pub(super) fn is_free(&self, index: u32) -> bool {
        let conn = &self.conns[index as usize];
        let last = self.config.requests_per_connection;
        conn.phase == Phase::Open
            && !conn.is_last
            && conn.flights.len() < self.config.pipeline as usize
            && (last == 0 || conn.requests < last)
    }

    /// Puts a connection where it is found when it may take a request.
    pub(super) fn list(&mut self, index: u32) {
        if matches!(self.config.traffic, Traffic::Closed { .. })
            || self.conns[index as usize].is_listed
            || !self.is_free(index)
        {
            return;
        }
        let conn = &mut self.conns[index as usize];
        conn.is_listed = true;
        if conn.flights.is_empty() { self.idle.push_back(index) } else { self.roomy.push_back(index) }
    }

    /// One more request on this connection.
    #[inline]
    pub(super) fn ask(&mut self, index: u32, intended: u64, due: u64, number: u64) {
        let conn = &mut self.conns[index as usize];
        conn.flights.push_back(Flight { intended, due, submitted: 0, number, ask: None });
        conn.unsent += 1;
        conn.requests += 1;
        self.under_way += 1;
        if intended >= self.window_ns.0 && intended < self.window_ns.1 {
            self.slice.tally.counts.intended += 1;
        }
        if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push_back(index);
        }
        self.list(index);
    }

    /// At most this many requests of a closed loop, as the connection may have under way.
    pub(super) fn ask_closed(&mut self, index: u32, intended: u64, most: u32) {
        if self.stage < Stage::WarmUp || intended >= self.window_ns.1 {
            return;
        }
        for _ in 0..most {
            if !self.is_free(index) {
                break;
            }
            let number = self.asked * self.config.of + self.config.index;
            self.asked += 1;
            self.ask(index, intended, intended, number);
        }
    }

    /// The next send of a connection, submitted at `now`.
    #[inline]
    pub(in crate::worker) fn send(&mut self, index: u32, now: u64) -> Option<Op<Chain>> {
        let conn = &mut self.conns[index as usize];
        conn.is_dirty = false;
        if conn.sending || conn.phase != Phase::Open || conn.unsent == 0 {
            return None;
        }
        let first = conn.flights.len() - conn.unsent as usize;
        let (mut count, chain);
        match &self.constant {
            Some((run, len, ask)) => {
                count = (conn.unsent as usize).min(run.len() / len);
                for flight in conn.flights.range_mut(first..first + count) {
                    flight.ask = Some(*ask);
                }
                chain = Chain::from(Chunk::Shared(run.slice(..count * len)));
            }
            None => {
                self.scratch.clear();
                count = 0;
                for flight in conn.flights.range_mut(first..) {
                    flight.ask = Some(self.protocol.write(flight.number, &mut self.scratch));
                    count += 1;
                    if self.scratch.len() >= SEND_LEN_MAX {
                        break;
                    }
                }
                chain = chain_of(&self.pools, &self.scratch);
            }
        }
        conn.unsent -= u32::try_from(count).unwrap_or(conn.unsent);
        conn.sending = true;
        let (begin, end) = self.window_ns;
        for flight in conn.flights.range_mut(first..first + count) {
            flight.submitted = now;
            if flight.intended >= begin && flight.intended < end {
                self.slice.tally.counts.sent += 1;
                self.slice.tally.send_lag.record(now.saturating_sub(flight.intended));
                self.slice.tally.own_lag.record(now.saturating_sub(flight.due));
            }
        }
        Some(Op::Send { sock: conn.sock, token: conn.token(tag::SEND, index), data: chain })
    }

    /// An answer to the oldest request of a connection.
    #[inline]
    pub(super) fn answered(&mut self, index: u32, error: Option<ErrorKind>, now: u64) {
        let Some(flight) = self.conns[index as usize].flights.pop_front() else { return };
        self.under_way -= 1;
        self.counters.answers += 1;
        self.counters.answers_good += u64::from(error.is_none());
        let (begin, end) = self.window_ns;
        let tally = &mut self.slice.tally;
        if now >= begin && now < end {
            tally.counts.completed += 1;
        }
        if flight.intended < begin || flight.intended >= end {
            return;
        }
        let response = now.saturating_sub(flight.intended);
        tally.response.record(response);
        tally.service.record(now.saturating_sub(flight.submitted));
        if let Some(kind) = error {
            tally.errors.add(kind);
            tally.failed.record(response);
        }
        if !tally.kinds.is_empty()
            && let Some(ask) = flight.ask
            && let Some(kind) = tally.kinds.get_mut(self.protocol.kind(ask))
        {
            kind.answered += 1;
            kind.failed += u64::from(error.is_some());
            kind.response.record(response);
        }
    }

    /// A request that will have no answer, given up at `at`.
    pub(super) fn lose(&mut self, flight: Flight<P::Ask>, kind: ErrorKind, sent: bool, at: u64) {
        self.under_way -= 1;
        let (begin, end) = self.window_ns;
        if flight.intended < begin || flight.intended >= end {
            return;
        }
        let tally: &mut Tally = &mut self.slice.tally;
        tally.errors.add(kind);
        let bound = at.saturating_sub(flight.intended);
        tally.response.record_at_least(bound);
        if sent {
            tally.service.record_at_least(at.saturating_sub(flight.submitted));
        } else {
            tally.send_lag.record_at_least(bound);
        }
        if !tally.kinds.is_empty()
            && let Some(ask) = flight.ask
            && let Some(kind) = tally.kinds.get_mut(self.protocol.kind(ask))
        {
            kind.failed += 1;
            kind.response.record_at_least(bound);
        }
    }
}

fn schedule_next(traffic: &mut Traffic) {
    if let Traffic::Open(schedule) = traffic {
        schedule.next();
    }
}

/// The bytes as one or more buffers of the pools; on the heap where they have none left.
fn chain_of(pools: &Pools, bytes: &[u8]) -> Chain {
    match pools.get(bytes.len()) {
        Ok(mut buf) => {
            let put = buf.put(bytes);
            debug_assert_eq!(put, bytes.len());
            Chain::from(buf)
        }
        Err(_) => Chain::from(bytes.to_vec()),
    }
}
