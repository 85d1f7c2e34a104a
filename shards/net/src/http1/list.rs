//! The connections of a shard as people ask for them: direct descriptors are shown by no `ss` or `lsof`.
//!
//! Not here: who may ask (the admin endpoint).

use std::net::SocketAddr;

use corelane_exec::Shard;

use super::Http1;
use super::conn::{Conn, NEVER, Phase, Reading};
use crate::service::Service;

/// What there is to know about one connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnInfo {
    /// Its slot (low half) and the generation of that (high half): of no other connection of this shard, until
    /// the generation wraps.
    pub id: u64,
    /// Where it comes from, where that was asked for.
    pub peer: Option<SocketAddr>,
    /// What it is at, in one word.
    pub state: &'static str,
    /// Nanoseconds since it was accepted here, or arrived from another shard.
    pub age_ns: u64,
    /// Nanoseconds since its last answer, or since it opened, where it waits for a request; else 0.
    pub idle_ns: u64,
    /// Requests so far.
    pub requests: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

impl<S: Service> Http1<S> {
    /// At most `max` of the connections, in the order of their slots; [`Http1::connections`] says how many there
    /// are. Walks the table: for people, not for the path of requests. Empty when called from within
    /// [`Service::call`], which has the table.
    pub fn list(&self, shard: &Shard, max: usize) -> Vec<ConnInfo> {
        let Ok(conns) = self.conns.try_borrow() else { return Vec::new() };
        let now = shard.now().mono_ns;
        let idle_time = u64::try_from(shard.limits().idle_time.as_nanos()).unwrap_or(u64::MAX);
        let info = |conn: &Conn| {
            let waits = conn.is_quiet() && conn.reading == Reading::Idle && conn.read_deadline_ns != NEVER;
            let since = conn.read_deadline_ns.saturating_sub(idle_time);
            ConnInfo {
                id: u64::from(conn.key.generation) << 32 | u64::from(conn.key.index),
                peer: conn.peer.as_deref().copied(),
                state: state(conn),
                age_ns: now.saturating_sub(conn.opened_ns),
                idle_ns: if waits { now.saturating_sub(since) } else { 0 },
                requests: conn.requests,
                bytes_in: conn.bytes_in,
                bytes_out: conn.bytes_out,
            }
        };
        conns.iter().take(max).map(|(_, conn)| info(conn)).collect()
    }
}

fn state(conn: &Conn) -> &'static str {
    match conn.phase {
        Phase::Naming => "naming",
        Phase::Header => "header",
        Phase::Flush => "flushing",
        Phase::Linger => "lingering",
        Phase::Dying => "closing",
        Phase::HandOver => "upgrading",
        Phase::Open => match &conn.exchange {
            Some(exchange) if exchange.streaming.is_some() => "streaming",
            Some(_) if conn.reading == Reading::Body => "body",
            Some(_) => "handler",
            None if conn.reading == Reading::Head => "head",
            None if conn.reading == Reading::Body => "body",
            None if conn.sending || !conn.output.is_empty() => "sending",
            None => "idle",
        },
    }
}
