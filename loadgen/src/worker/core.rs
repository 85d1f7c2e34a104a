//! What a worker is without its kernel: connections, the schedule, the records. Every function takes the time, and
//! what it wants done stands in `ops` and `dirty` until the worker hands it over.
//!
//! Not here: entering the kernel, reading clocks (`super`).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use corelane_base::{Abilities, Op, RecvMode, Rng, Sock, SockOption, Token};
use corelane_pools::{Chain, Chunk, Pools};

use super::conn::{Conn, Flight, Phase, tag};
use super::{Config, OPENING_MAX, Slices, Stage, Traffic};
use crate::model::Slice;
use crate::protocol::Protocol;
use crate::record::{ConnectError, ErrorKind, KindTally, Tally};

/// First wait after a connect that failed; doubled with each in a row.
const RETRY_NS: u64 = 5_000_000;
/// Longest wait between two connects of one connection.
const RETRY_NS_MAX: u64 = 500_000_000;

/// Bytes of one send at most: what is written for one connection in one turn.
const SEND_LEN_MAX: usize = 256 << 10;

/// How often deadlines are looked at.
const SWEEP_NS: u64 = 1_000_000;

/// What a worker counts beside its slices. All only grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Time spent polling for the next moment to send, in the window.
    pub spin_ns: u64,
    /// The longest time between two looks at the clock, sleeps left out, in the window.
    pub hiccup_max_ns: u64,
    /// Connects that failed, ever.
    pub connects_failed: u64,
    /// Good answers, ever.
    pub answers_good: u64,
    /// Answers that were understood, good or bad, ever.
    pub answers: u64,
}

/// What a connection waits for without an operation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Alarm {
    /// To connect again.
    Open(u32),
    /// To ask once more, if it is still of this generation.
    Ask(u32, u16),
    /// To ask for the first time, likewise.
    Begin(u32, u16),
}

pub(super) struct Core<P: Protocol> {
    pub(super) config: Config,
    pub(super) stage: Stage,
    pub(super) counters: Counters,
    pub(super) ops: VecDeque<Op<Chain>>,
    /// Connections with something to send.
    pub(super) dirty: VecDeque<u32>,
    pub(super) open_count: u32,
    pub(super) drain_end_ns: u64,
    pub(super) connect_errno: Option<i32>,
    protocol: P,
    /// The bytes of as many requests as a connection may have under way, where all are the same.
    constant: Option<(Bytes, usize, P::Ask)>,
    conns: Vec<Conn<P>>,
    /// Connections that were not tried yet, from this one on.
    next_open: u32,
    opening: u32,
    /// Tried at least once.
    tried: u32,
    /// Open connections with nothing under way, and those with room for more.
    idle: VecDeque<u32>,
    roomy: VecDeque<u32>,
    alarms: BinaryHeap<Reverse<(u64, Alarm)>>,
    sweep_at: u64,
    sweep_next: usize,
    slice: Slice,
    slice_end_ns: u64,
    begin_ns: u64,
    pub(super) window_ns: (u64, u64),
    /// Requests of a closed loop so far.
    asked: u64,
    rng: Rng,
    scratch: Vec<u8>,
    able: Abilities,
    pools: Pools,
    under_way: u64,
}

impl<P: Protocol> Core<P> {
    pub(super) fn new(pools: Pools, protocol: P, config: Config, now: u64, able: Abilities) -> Core<P> {
        let constant = protocol.constant().map(|(bytes, ask)| {
            let count = (config.pipeline as usize).min((SEND_LEN_MAX / bytes.len().max(1)).max(1));
            (Bytes::from(bytes.repeat(count)), bytes.len(), ask)
        });
        let mut slice = Slice::default();
        if config.kinds > 1 {
            slice.tally.kinds.resize_with(config.kinds, KindTally::default);
        }
        let mut rng = Rng::new(config.seed ^ config.index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.next_u64();
        Core {
            conns: (0..config.connections).map(|_| Conn::new()).collect(),
            stage: Stage::Opening,
            counters: Counters::default(),
            ops: VecDeque::new(),
            dirty: VecDeque::new(),
            open_count: 0,
            drain_end_ns: u64::MAX,
            connect_errno: None,
            protocol,
            constant,
            next_open: 0,
            opening: 0,
            tried: 0,
            idle: VecDeque::new(),
            roomy: VecDeque::new(),
            alarms: BinaryHeap::new(),
            sweep_at: now,
            sweep_next: 0,
            slice,
            slice_end_ns: u64::MAX,
            begin_ns: u64::MAX,
            window_ns: (u64::MAX, u64::MAX),
            asked: 0,
            rng,
            scratch: Vec::new(),
            able,
            pools,
            under_way: 0,
            config,
        }
    }

    // ----- the course of a run

    pub(super) fn start(&mut self, at_ns: u64) {
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
    pub(super) fn stop(&mut self, now: u64) {
        if self.stage < Stage::WarmUp {
            self.stage = Stage::Done;
        } else if now < self.window_ns.1 {
            self.window_ns = (self.window_ns.0.min(now), now);
            self.drain_end_ns = now + self.config.drain_ns;
        }
    }

    /// Adds time spent polling.
    pub(super) fn spin(&mut self, ns: u64) {
        if self.stage == Stage::Window {
            self.counters.spin_ns += ns;
        }
    }

    /// Takes note of a gap between two looks at the clock.
    #[inline]
    pub(super) fn gap(&mut self, ns: u64) {
        if ns > self.counters.hiccup_max_ns && self.stage == Stage::Window {
            self.counters.hiccup_max_ns = ns;
        }
    }

    /// What time alone brings: the next stage, alarms, deadlines, slots, the end of a slice.
    pub(super) fn advance(&mut self, now: u64, slices: &mut impl Slices) {
        if now >= self.slice_end_ns || self.stage != Stage::Window {
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

    fn advance_stage(&mut self, now: u64, slices: &mut impl Slices) {
        if self.stage == Stage::Opening && self.tried == self.config.connections && self.opening == 0 {
            self.stage = Stage::Ready;
        }
        if self.stage == Stage::WarmUp && now >= self.window_ns.0 {
            self.stage = Stage::Window;
            self.slice.tally.clear();
            self.begin_slice(self.window_ns.0);
        }
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

    fn begin_slice(&mut self, at: u64) {
        self.slice.start_ns = at - self.window_ns.0;
        self.slice_end_ns = at + self.config.slice_ns;
    }

    /// Hands a full slice over. False if nobody took it: it then goes on.
    fn end_slice(&mut self, end: u64, slices: &mut impl Slices) -> bool {
        self.slice.len_ns = end - self.window_ns.0 - self.slice.start_ns;
        match slices.exchange(std::mem::take(&mut self.slice)) {
            Ok(empty) => {
                self.slice = empty;
                let kinds = if self.config.kinds > 1 { self.config.kinds } else { 0 };
                self.slice.tally.kinds.resize_with(kinds, KindTally::default);
                self.begin_slice(end);
                true
            }
            Err(full) => {
                self.slice = full;
                self.slice_end_ns = end + self.config.slice_ns;
                false
            }
        }
    }

    /// Nothing is under way, and nothing that was due in the window is left.
    fn is_drained(&mut self) -> bool {
        let end = self.window_ns.1;
        let left = match &mut self.config.traffic {
            Traffic::Open(schedule) => schedule.peek().is_some_and(|slot| self.begin_ns + slot.at_ns < end),
            Traffic::Closed { .. } => false,
        };
        self.under_way == 0 && !left
    }

    /// Records all that is without an answer.
    fn end(&mut self, now: u64) {
        for index in 0..self.conns.len() {
            loop {
                let conn = &mut self.conns[index];
                let sent = conn.waiting() > 0;
                let Some(flight) = conn.flights.pop_front() else { break };
                conn.unsent -= u32::from(!sent);
                self.lose(flight, if sent { ErrorKind::Unanswered } else { ErrorKind::Unsent }, sent, now);
            }
        }
        let (begin, end) = (self.begin_ns, self.window_ns.1);
        if let Traffic::Open(schedule) = &mut self.config.traffic {
            while let Some(slot) = schedule.peek() {
                let intended = begin + slot.at_ns;
                if intended >= end {
                    break;
                }
                schedule.next();
                if intended >= self.window_ns.0 {
                    self.slice.tally.counts.intended += 1;
                    self.slice.tally.errors.add(ErrorKind::Unsent);
                    self.slice.tally.response.record_at_least(now - intended);
                    self.slice.tally.send_lag.record_at_least(now - intended);
                }
            }
        }
    }

    /// When something is due next.
    pub(super) fn next_due(&mut self) -> u64 {
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
    fn sweep_deadline(&self) -> u64 {
        self.sweep_at + self.sweep_span() / 4
    }

    /// When the next slot is due, where a connection is free for it.
    fn next_slot(&mut self) -> Option<u64> {
        if self.stage < Stage::WarmUp || (self.idle.is_empty() && self.roomy.is_empty()) {
            return None;
        }
        let (begin, end) = (self.begin_ns, self.window_ns.1);
        let Traffic::Open(schedule) = &mut self.config.traffic else { return None };
        schedule.peek().map(|slot| begin + slot.at_ns).filter(|&at| at < end)
    }

    /// Whether what is due next is to be met to the microsecond.
    pub(super) fn is_precise(&mut self) -> bool {
        match self.config.traffic {
            Traffic::Open(_) => self.stage >= Stage::WarmUp && self.stage <= Stage::Window,
            Traffic::Closed { think_ns, .. } => think_ns > 0 && self.stage <= Stage::Window,
        }
    }

    // ----- requests

    /// Sends the slots that are due, as far as connections are free.
    fn issue_due(&mut self, now: u64) {
        if self.stage < Stage::WarmUp || self.stage > Stage::Drain {
            return;
        }
        let (begin, end) = (self.begin_ns, self.window_ns.1);
        loop {
            let Traffic::Open(schedule) = &mut self.config.traffic else { return };
            let Some(slot) = schedule.peek() else { return };
            let intended = begin + slot.at_ns;
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
    fn take_free(&mut self) -> Option<u32> {
        loop {
            let index = self.idle.pop_front().or_else(|| self.roomy.pop_front())?;
            self.conns[index as usize].is_listed = false;
            if self.is_free(index) {
                return Some(index);
            }
        }
    }

    fn is_free(&self, index: u32) -> bool {
        let conn = &self.conns[index as usize];
        let last = self.config.requests_per_connection;
        conn.phase == Phase::Open
            && !conn.is_last
            && conn.flights.len() < self.config.pipeline as usize
            && (last == 0 || conn.requests < last)
    }

    /// Puts a connection where it is found when it may take a request.
    fn list(&mut self, index: u32) {
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
    fn ask(&mut self, index: u32, intended: u64, due: u64, number: u64) {
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
    fn ask_closed(&mut self, index: u32, intended: u64, most: u32) {
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
    pub(super) fn send(&mut self, index: u32, now: u64) -> Option<Op<Chain>> {
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
    fn answered(&mut self, index: u32, error: Option<ErrorKind>, now: u64) {
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
    fn lose(&mut self, flight: Flight<P::Ask>, kind: ErrorKind, sent: bool, at: u64) {
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

    // ----- completions

    /// Received bytes.
    #[inline]
    pub(super) fn received(&mut self, token: Token, bytes: &[u8], more: bool, now: u64) {
        let index = token.index();
        let conn = &mut self.conns[index as usize];
        if conn.generation != token.generation() {
            return;
        }
        conn.receiving = more;
        if now >= self.window_ns.0 && now < self.window_ns.1 {
            self.slice.tally.counts.bytes_in += bytes.len() as u64;
        }
        if conn.phase == Phase::Open {
            self.parse(index, bytes, now);
        }
        if !more {
            self.rearm(index);
        }
    }

    fn parse(&mut self, index: u32, bytes: &[u8], now: u64) {
        let mut bytes = bytes;
        let mut answers = 0;
        while !bytes.is_empty() {
            let conn = &mut self.conns[index as usize];
            let ask = match conn.flights.front() {
                Some(Flight { ask: Some(ask), .. }) if conn.waiting() > 0 => *ask,
                _ => return self.fail(index, ErrorKind::Unasked, now),
            };
            match self.protocol.read(&mut conn.parser, &mut bytes, ask) {
                Ok(None) => break,
                Ok(Some(answer)) => {
                    answers += 1;
                    self.answered(index, answer.error, now);
                    if answer.close {
                        return self.ended_by_peer(index, bytes.is_empty(), now);
                    }
                }
                Err(kind) => return self.fail(index, kind, now),
            }
        }
        if answers > 0 {
            self.next_on(index, answers, now);
        }
    }

    /// After answers: the next requests, or the end of the connection.
    #[inline]
    fn next_on(&mut self, index: u32, answers: u32, now: u64) {
        let conn = &mut self.conns[index as usize];
        let last = self.config.requests_per_connection;
        if conn.flights.is_empty() && last > 0 && conn.requests >= last {
            return self.end_conn(index);
        }
        match self.config.traffic {
            Traffic::Open(_) => {
                if !conn.is_listed {
                    conn.freed_at = now;
                }
                self.list(index);
            }
            Traffic::Closed { think_ns: 0, .. } => self.ask_closed(index, now, self.config.pipeline),
            Traffic::Closed { think_ns, exponential } => {
                let generation = conn.generation;
                for _ in 0..answers {
                    let think = if exponential { exponential_ns(&mut self.rng, think_ns) } else { think_ns };
                    self.alarms.push(Reverse((now + think, Alarm::Ask(index, generation))));
                }
            }
        }
    }

    /// The peer said that it takes no more on this connection.
    fn ended_by_peer(&mut self, index: u32, clean: bool, now: u64) {
        if !clean {
            return self.fail(index, ErrorKind::Unasked, now);
        }
        if self.conns[index as usize].flights.is_empty() {
            self.end_conn(index);
        } else {
            self.fail(index, ErrorKind::Closed, now);
        }
    }

    /// The end of a send.
    #[inline]
    pub(super) fn sent(&mut self, token: Token, result: i32, chain: Chain, now: u64) {
        let index = token.index();
        let conn = &mut self.conns[index as usize];
        if conn.generation != token.generation() {
            return;
        }
        conn.sending = false;
        if result < 0 {
            if conn.phase == Phase::Open {
                self.fail(index, ErrorKind::Reset, now);
            }
            return self.close_if_quiet(index);
        }
        if now >= self.window_ns.0 && now < self.window_ns.1 {
            self.slice.tally.counts.bytes_out += u64::from(result.cast_unsigned());
        }
        if conn.phase != Phase::Open {
            return self.close_if_quiet(index);
        }
        let taken = result.cast_unsigned() as usize;
        if taken < chain.len() {
            let mut chain = chain;
            chain.advance(taken);
            conn.sending = true;
            let (sock, token) = (conn.sock, conn.token(tag::SEND, index));
            return self.ops.push_back(Op::Send { sock, token, data: chain });
        }
        if conn.unsent > 0 && !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push_back(index);
        }
    }

    /// The end of anything else, or of a receive without bytes.
    pub(super) fn completed(&mut self, token: Token, result: i32, more: bool, now: u64) {
        let index = token.index();
        let conn = &mut self.conns[index as usize];
        if conn.generation != token.generation() {
            return;
        }
        match token.tag() {
            tag::RECV => {
                conn.receiving = more;
                self.receive_ended(index, result, now);
            }
            tag::CLOSE => {
                conn.generation = conn.generation.wrapping_add(1);
                conn.phase = Phase::Closed;
                self.reopen(index, now);
            }
            tag::CANCEL => {
                conn.others -= 1;
                self.close_if_quiet(index);
            }
            step => {
                conn.others -= 1;
                self.opened_step(index, step, result, now);
            }
        }
    }

    fn receive_ended(&mut self, index: u32, result: i32, now: u64) {
        let conn = &mut self.conns[index as usize];
        if conn.phase != Phase::Open {
            return self.close_if_quiet(index);
        }
        match result {
            0 => {
                if let Some(Flight { ask: Some(ask), .. }) = conn.flights.front()
                    && conn.waiting() > 0
                    && let Some(answer) = self.protocol.end(&mut conn.parser, *ask)
                {
                    self.answered(index, answer.error, now);
                    return self.ended_by_peer(index, true, now);
                }
                if conn.flights.is_empty() {
                    return self.end_conn(index);
                }
                let within = self.protocol.is_within(&conn.parser);
                self.fail(index, if within { ErrorKind::Truncated } else { ErrorKind::Closed }, now);
            }
            // Every buffer was lent, or a multishot receive met a full queue.
            errno if errno == -libc::ENOBUFS => self.rearm(index),
            _ => {
                if conn.flights.is_empty() {
                    return self.end_conn(index);
                }
                self.fail(index, ErrorKind::Reset, now);
            }
        }
    }

    fn rearm(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.receiving {
            return;
        }
        if conn.phase != Phase::Open {
            return self.close_if_quiet(index);
        }
        conn.receiving = true;
        let (sock, token) = (conn.sock, conn.token(tag::RECV, index));
        self.ops.push_back(Op::Recv { sock, token, mode: RecvMode::Multi });
    }

    // ----- the life of a connection

    /// Opens connections that were not tried yet.
    fn open_more(&mut self, now: u64) {
        if self.stage > Stage::Window {
            return;
        }
        while self.next_open < self.config.connections && self.opening < OPENING_MAX {
            let index = self.next_open;
            self.next_open += 1;
            self.open(index, now);
        }
    }

    fn open(&mut self, index: u32, now: u64) {
        let conn = &mut self.conns[index as usize];
        debug_assert_eq!(conn.phase, Phase::Closed);
        conn.phase = Phase::Opening;
        conn.others += 1;
        conn.since = now;
        self.opening += 1;
        let token = conn.token(tag::SOCKET, index);
        let v6 = self.config.target.is_ipv6();
        self.ops.push_back(Op::Socket { v6, token });
    }

    /// The address this connection is to come from.
    fn source(&self, index: u32) -> Option<IpAddr> {
        let count = self.config.sources.len();
        if count == 0 {
            return None;
        }
        // Workers take turns as well, so that every address gets its share.
        let at = u64::from(index) * self.config.of + self.config.index;
        self.config.sources.get(usize::try_from(at % count as u64).unwrap_or(0)).copied()
    }

    /// A step of opening is done.
    fn opened_step(&mut self, index: u32, step: u8, result: i32, now: u64) {
        let source = self.source(index);
        let conn = &mut self.conns[index as usize];
        if step == tag::SOCKET && result >= 0 {
            conn.sock = Sock(result.cast_unsigned());
        }
        if result < 0 || conn.phase != Phase::Opening {
            return self.not_opened(index, step, result, now);
        }
        let sock = conn.sock;
        let next = match step {
            tag::SOCKET if self.able.sock_options => tag::NO_DELAY,
            tag::SOCKET | tag::NO_DELAY if source.is_some() => {
                if self.able.sock_options {
                    tag::LATE_PORT
                } else {
                    tag::BIND
                }
            }
            tag::LATE_PORT => tag::BIND,
            tag::SOCKET | tag::NO_DELAY | tag::BIND => tag::CONNECT,
            _ => return self.opened(index, now),
        };
        let token = conn.token(next, index);
        conn.others += 1;
        let op = match next {
            tag::NO_DELAY => Op::Configure { sock, option: SockOption::NoDelay, token },
            tag::LATE_PORT => Op::Configure { sock, option: SockOption::BindAddressNoPort, token },
            tag::BIND => {
                let from = SocketAddr::new(source.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), 0);
                Op::Bind { sock, addr: from, token }
            }
            _ => {
                conn.since = now;
                Op::Connect { sock, token, addr: self.config.target }
            }
        };
        self.ops.push_back(op);
    }

    fn opened(&mut self, index: u32, now: u64) {
        let conn = &mut self.conns[index as usize];
        let took = now - conn.since;
        self.opening -= 1;
        self.tried += u32::from(conn.failures == 0 && conn.generation == 0);
        self.open_count += 1;
        conn.failures = 0;
        conn.phase = Phase::Open;
        conn.freed_at = now;
        conn.requests = 0;
        conn.is_last = false;
        conn.parser = P::Conn::default();
        if now >= self.window_ns.0 && now < self.window_ns.1 {
            self.slice.tally.counts.connects += 1;
            self.slice.tally.connect.record(took);
        }
        self.rearm(index);
        match self.config.traffic {
            Traffic::Open(_) => self.list(index),
            Traffic::Closed { .. } => self.ask_closed(index, now, self.config.pipeline),
        }
    }

    /// A connection could not be opened, or nobody wants it any more.
    fn not_opened(&mut self, index: u32, step: u8, result: i32, now: u64) {
        let conn = &mut self.conns[index as usize];
        let late = conn.phase == Phase::Ending;
        let first = conn.failures == 0 && conn.generation == 0;
        if conn.phase == Phase::Opening || late {
            self.opening -= 1;
            self.tried += u32::from(first);
        }
        conn.failures = conn.failures.saturating_add(1);
        let errno = if late { libc::ETIMEDOUT } else { -result };
        self.connect_errno = Some(errno);
        self.counters.connects_failed += 1;
        if now >= self.window_ns.0 && now < self.window_ns.1 {
            self.slice.tally.errors.add_connect(connect_error(errno));
            if late {
                self.slice.tally.connect.record_at_least(self.config.timeout_ns);
            }
        }
        if step == tag::SOCKET && result < 0 {
            conn.phase = Phase::Closed;
            conn.generation = conn.generation.wrapping_add(1);
            return self.reopen(index, now);
        }
        conn.phase = Phase::Ending;
        self.close_if_quiet(index);
    }

    /// Ends a connection on which nothing is under way.
    fn end_conn(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        debug_assert_eq!(conn.phase, Phase::Open);
        debug_assert!(conn.flights.is_empty());
        conn.phase = Phase::Ending;
        self.open_count -= 1;
        if self.stage == Stage::Window {
            self.slice.tally.counts.ended += 1;
        }
        let conn = &mut self.conns[index as usize];
        if conn.receiving || conn.sending {
            conn.others += 1;
            let (sock, token) = (conn.sock, conn.token(tag::CANCEL, index));
            self.ops.push_back(Op::CancelSock { sock, token });
        }
        self.close_if_quiet(index);
    }

    /// Ends a connection with its oldest request lost to `kind`, and those behind it.
    fn fail(&mut self, index: u32, kind: ErrorKind, now: u64) {
        let mut kind = kind;
        if self.conns[index as usize].flights.is_empty() && self.in_window(now) {
            // Bytes that nobody asked for cost no request, but are an error all the same.
            self.slice.tally.errors.add(kind);
        }
        loop {
            let conn = &mut self.conns[index as usize];
            let was_sent = conn.waiting() > 0;
            let Some(flight) = conn.flights.pop_front() else { break };
            conn.unsent -= u32::from(!was_sent);
            let at = match kind {
                ErrorKind::Timeout => flight.submitted + self.config.timeout_ns,
                _ => now,
            };
            self.lose(flight, kind, was_sent, at);
            kind = ErrorKind::Abandoned;
        }
        self.end_conn(index);
    }

    fn in_window(&self, now: u64) -> bool {
        now >= self.window_ns.0 && now < self.window_ns.1
    }

    fn close_if_quiet(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.phase != Phase::Ending || !conn.is_quiet() {
            return;
        }
        conn.phase = Phase::Closing;
        let (sock, token) = (conn.sock, conn.token(tag::CLOSE, index));
        self.ops.push_back(Op::Close { sock, token });
    }

    /// A socket is gone: the next one, at once or after a while.
    fn reopen(&mut self, index: u32, now: u64) {
        if self.stage > Stage::Window {
            return;
        }
        let failures = self.conns[index as usize].failures;
        if failures == 0 {
            return self.open(index, now);
        }
        let wait = (RETRY_NS << (failures - 1).min(16)).min(RETRY_NS_MAX);
        self.alarms.push(Reverse((now + wait, Alarm::Open(index))));
    }

    fn alarm(&mut self, alarm: Alarm, at: u64, now: u64) {
        match alarm {
            Alarm::Open(index) => {
                if self.stage > Stage::Window {
                    return;
                }
                if self.opening >= OPENING_MAX {
                    self.alarms.push(Reverse((now + RETRY_NS, alarm)));
                } else {
                    self.open(index, now);
                }
            }
            Alarm::Ask(index, generation) | Alarm::Begin(index, generation) => {
                let conn = &self.conns[index as usize];
                if conn.phase == Phase::Open && conn.generation == generation {
                    let most = if matches!(alarm, Alarm::Ask(..)) { 1 } else { self.config.pipeline };
                    self.ask_closed(index, at, most);
                }
            }
        }
    }

    /// Over how long all connections are looked at once.
    fn sweep_span(&self) -> u64 {
        (self.config.timeout_ns / 20).clamp(SWEEP_NS, 50 * SWEEP_NS)
    }

    /// Looks at the deadlines of some connections.
    fn sweep(&mut self, now: u64) {
        let passed = (now - self.sweep_at + SWEEP_NS).min(self.sweep_span());
        let count = (self.conns.len() as u64 * passed).div_ceil(self.sweep_span());
        self.sweep_at = now + SWEEP_NS;
        for _ in 0..count.min(self.conns.len() as u64) {
            self.sweep_next = if self.sweep_next + 1 >= self.conns.len() { 0 } else { self.sweep_next + 1 };
            self.check_deadline(self.sweep_next, now);
        }
    }

    fn check_deadline(&mut self, at: usize, now: u64) {
        let conn = &mut self.conns[at];
        let limit = self.config.timeout_ns;
        let Ok(index) = u32::try_from(at) else { return };
        match conn.phase {
            Phase::Open if conn.waiting() > 0 => {
                if conn.flights.front().is_some_and(|flight| now >= flight.submitted + limit) {
                    self.fail(index, ErrorKind::Timeout, now);
                }
            }
            Phase::Opening if now >= conn.since + limit && conn.others == 1 => {
                conn.phase = Phase::Ending;
                conn.others += 1;
                let (sock, token) = (conn.sock, conn.token(tag::CANCEL, index));
                self.ops.push_back(Op::CancelSock { sock, token });
            }
            _ => {}
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

/// Exponential with this mean, by inversion (Devroye, "Non-Uniform Random Variate Generation", 1986, II.2).
fn exponential_ns(rng: &mut Rng, mean_ns: u64) -> u64 {
    // 53 bits, never 0.
    let uniform = ((rng.next_u64() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most 37 times the mean
    let ns = (-uniform.ln() * mean_ns as f64) as u64;
    ns
}

/// What an errno of a connect means.
fn connect_error(errno: i32) -> ConnectError {
    match errno {
        libc::ECONNREFUSED => ConnectError::Refused,
        libc::ETIMEDOUT => ConnectError::Timeout,
        libc::EADDRNOTAVAIL => ConnectError::NoPort,
        libc::EMFILE | libc::ENFILE => ConnectError::NoDescriptor,
        _ => ConnectError::Other,
    }
}
