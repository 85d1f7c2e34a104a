//! Completions: received bytes, sends that are done, and what else ended.
//!
//! Not here: what follows for the connection (`life`).

use std::cmp::Reverse;

use corelane_base::{Op, RecvMode, Rng, Token};
use corelane_pools::Chain;

use super::{Alarm, Core};
use crate::protocol::Protocol;
use crate::record::ErrorKind;
use crate::worker::Traffic;
use crate::worker::conn::{Flight, Phase, tag};

impl<P: Protocol> Core<P> {
    /// Received bytes.
    #[inline]
    pub(in crate::worker) fn received(&mut self, token: Token, bytes: &[u8], more: bool, now: u64) {
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

    pub(super) fn parse(&mut self, index: u32, bytes: &[u8], now: u64) {
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
                        self.think_once(index, now);
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
    pub(super) fn next_on(&mut self, index: u32, answers: u32, now: u64) {
        let conn = &mut self.conns[index as usize];
        let last = self.config.requests_per_connection;
        if conn.flights.is_empty() && last > 0 && conn.requests >= last {
            self.think_once(index, now);
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
            Traffic::Closed { .. } => {
                let generation = conn.generation;
                for _ in 0..answers {
                    let at = now.saturating_add(self.think_ns());
                    self.alarms.push(Reverse((at, Alarm::Ask(index, generation))));
                }
            }
        }
    }

    /// A thinking time. 0 in an open loop.
    fn think_ns(&mut self) -> u64 {
        match self.config.traffic {
            Traffic::Closed { think_ns, exponential: true } => exponential_ns(&mut self.rng, think_ns),
            Traffic::Closed { think_ns, exponential: false } => think_ns,
            Traffic::Open(_) => 0,
        }
    }

    /// An answer was the last on its socket: thinking takes as long as after any other, and does not end with it.
    fn think_once(&mut self, index: u32, now: u64) {
        if let Traffic::Closed { think_ns: 1.., .. } = self.config.traffic {
            self.conns[index as usize].thinks_until = now.saturating_add(self.think_ns());
        }
    }

    /// The peer said that it takes no more on this connection.
    pub(super) fn ended_by_peer(&mut self, index: u32, clean: bool, now: u64) {
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
    pub(in crate::worker) fn sent(&mut self, token: Token, result: i32, chain: Chain, now: u64) {
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
    pub(in crate::worker) fn completed(&mut self, token: Token, result: i32, more: bool, now: u64) {
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

    pub(super) fn receive_ended(&mut self, index: u32, result: i32, now: u64) {
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
                    self.think_once(index, now);
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

    pub(super) fn rearm(&mut self, index: u32) {
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
}

/// Exponential with this mean, by inversion (Devroye, "Non-Uniform Random Variate Generation", 1986, II.2).
fn exponential_ns(rng: &mut Rng, mean_ns: u64) -> u64 {
    // 53 bits, never 0.
    let uniform = ((rng.next_u64() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most 37 times the mean
    let ns = (-uniform.ln() * mean_ns as f64) as u64;
    ns
}
