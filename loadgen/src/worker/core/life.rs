//! How connections are opened, watched, ended, and opened anew.
//!
//! Not here: what is said on them (`requests`, `answers`).

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use corelane_base::{Op, Sock, SockOption};

use super::{Alarm, Core};
use crate::protocol::Protocol;
use crate::record::{ConnectError, ErrorKind};
use crate::worker::conn::{Flight, Phase, tag};
use crate::worker::{OPENING_MAX, Stage, Traffic};

/// First wait after a connect that failed; doubled with each in a row.
const RETRY_NS: u64 = 5_000_000;
/// Longest wait between two connects of one connection.
const RETRY_NS_MAX: u64 = 500_000_000;

/// How often deadlines are looked at.
const SWEEP_NS: u64 = 1_000_000;

impl<P: Protocol> Core<P> {
    /// Opens connections that were not tried yet.
    pub(super) fn open_more(&mut self, now: u64) {
        if self.stage > Stage::Window {
            return;
        }
        while self.next_open < self.config.connections && self.opening < OPENING_MAX {
            let index = self.next_open;
            self.next_open += 1;
            self.open(index, now);
        }
    }

    pub(super) fn open(&mut self, index: u32, now: u64) {
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
    pub(super) fn source(&self, index: u32) -> Option<IpAddr> {
        let count = self.config.sources.len();
        if count == 0 {
            return None;
        }
        // Workers take turns as well, so that every address gets its share.
        let at = u64::from(index) * self.config.of + self.config.index;
        self.config.sources.get(usize::try_from(at % count as u64).unwrap_or(0)).copied()
    }

    /// A step of opening is done.
    pub(super) fn opened_step(&mut self, index: u32, step: u8, result: i32, now: u64) {
        let source = self.source(index);
        let conn = &mut self.conns[index as usize];
        if step == tag::SOCKET && result >= 0 {
            conn.sock = Sock(result.cast_unsigned());
        }
        if result < 0 || conn.phase != Phase::Opening {
            return self.not_opened(index, step, result, now);
        }
        conn.connecting = false;
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
                (conn.since, conn.connecting) = (now, true);
                Op::Connect { sock, token, addr: self.config.target }
            }
        };
        self.ops.push_back(op);
    }

    pub(super) fn opened(&mut self, index: u32, now: u64) {
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
        let conn = &self.conns[index as usize];
        match self.config.traffic {
            Traffic::Open(_) => self.list(index),
            Traffic::Closed { .. } if now < conn.thinks_until => {
                let alarm = Alarm::Begin(index, conn.generation);
                self.alarms.push(Reverse((conn.thinks_until, alarm)));
            }
            Traffic::Closed { .. } => self.ask_closed(index, now, self.config.pipeline),
        }
    }

    /// A connection could not be opened, or nobody wants it any more.
    pub(super) fn not_opened(&mut self, index: u32, step: u8, result: i32, now: u64) {
        let conn = &mut self.conns[index as usize];
        conn.connecting = false;
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
    pub(super) fn end_conn(&mut self, index: u32) {
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
    pub(super) fn fail(&mut self, index: u32, kind: ErrorKind, now: u64) {
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

    pub(super) fn in_window(&self, now: u64) -> bool {
        now >= self.window_ns.0 && now < self.window_ns.1
    }

    pub(super) fn close_if_quiet(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.phase != Phase::Ending || !conn.is_quiet() {
            return;
        }
        conn.phase = Phase::Closing;
        let (sock, token) = (conn.sock, conn.token(tag::CLOSE, index));
        self.ops.push_back(Op::Close { sock, token });
    }

    /// Whether a connection that is opened now may carry a request: in the drain, one that was due before.
    fn wants_conns(&self) -> bool {
        self.stage <= Stage::Window || self.stage == Stage::Drain && self.has_slots_left()
    }

    /// A socket is gone: the next one, at once or after a while.
    pub(super) fn reopen(&mut self, index: u32, now: u64) {
        if !self.wants_conns() {
            return;
        }
        let failures = self.conns[index as usize].failures;
        if failures == 0 {
            return self.open(index, now);
        }
        let wait = (RETRY_NS << (failures - 1).min(16)).min(RETRY_NS_MAX);
        self.alarms.push(Reverse((now + wait, Alarm::Open(index))));
    }

    pub(super) fn alarm(&mut self, alarm: Alarm, at: u64, now: u64) {
        match alarm {
            Alarm::Open(index) => {
                if !self.wants_conns() {
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
    pub(super) fn sweep_span(&self) -> u64 {
        (self.config.timeout_ns / 20).clamp(SWEEP_NS, 50 * SWEEP_NS)
    }

    /// Looks at the deadlines of some connections.
    pub(super) fn sweep(&mut self, now: u64) {
        let passed = (now - self.sweep_at + SWEEP_NS).min(self.sweep_span());
        let count = (self.conns.len() as u64 * passed).div_ceil(self.sweep_span());
        self.sweep_at = now + SWEEP_NS;
        for _ in 0..count.min(self.conns.len() as u64) {
            self.sweep_next = if self.sweep_next + 1 >= self.conns.len() { 0 } else { self.sweep_next + 1 };
            self.check_deadline(self.sweep_next, now);
        }
    }

    pub(super) fn check_deadline(&mut self, at: usize, now: u64) {
        let conn = &mut self.conns[at];
        let limit = self.config.timeout_ns;
        let Ok(index) = u32::try_from(at) else { return };
        let is_late = |flight: &Flight<P::Ask>| now >= flight.submitted + limit;
        match conn.phase {
            Phase::Open if conn.waiting() > 0 && conn.flights.front().is_some_and(is_late) => {
                self.fail(index, ErrorKind::Timeout, now);
            }
            Phase::Opening if conn.connecting && now >= conn.since + limit => {
                conn.phase = Phase::Ending;
                conn.others += 1;
                let (sock, token) = (conn.sock, conn.token(tag::CANCEL, index));
                self.ops.push_back(Op::CancelSock { sock, token });
            }
            _ => {}
        }
    }
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
