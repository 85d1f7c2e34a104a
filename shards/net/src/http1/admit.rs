//! From a socket to an open connection: its peer's name, and what a proxy says about it.
//!
//! ```text
//! admit -> Naming (Op::PeerName) -> Header (PROXY) -> Open
//! ```
//! A step that is not wanted is left out; usually both are.
//!
//! # Rules
//! 1. The first receive is armed when the peer is known, or known to have no name: a request is never served
//!    without the address that was asked for.
//! 2. Only peers of `proxy_from` are asked for a header, and they must send one. Nobody else is believed.
//! 3. A connection counts for one address: the announced one where there is one.
//!
//! Not here: the header's format (`proto-proxy`).

use std::net::{IpAddr, SocketAddr};

use corelane_base::{Op, Sock, Token};
use corelane_exec::{Data, Event, Shard};
use corelane_proto_proxy as proxy;

use super::conn::{Conn, Phase, Reading};
use super::{Drain, Http1, bump, tag};
use crate::accepting::plain;
use crate::service::Service;

impl<S: Service> Http1<S> {
    /// Whether peers' addresses are of any use here.
    pub(super) fn wants_addresses(&self, shard: &Shard) -> bool {
        self.config.peers || !self.config.proxy_from.is_empty() || shard.limits().connections_per_peer_max > 0
    }

    /// Makes a connection of a socket, accepted here or by another shard.
    pub(super) fn admit(&self, shard: &Shard, sock: Sock, peer: Option<SocketAddr>) {
        let mut conns = self.conns.borrow_mut();
        let inserted = conns.insert_with(|key| Conn::new(key, sock));
        let Ok(key) = inserted else {
            // The table has the headroom of the descriptor table, so this needs more connections than
            // descriptors; the connection is lost, and counted.
            bump(&self.stats.refused_full);
            bump(&self.stats.closed);
            shard.push(Op::Close { sock, token: Token::NONE });
            self.left();
            return;
        };
        drop(conns);
        self.with(shard, key.index, |conn| {
            conn.opened_ns = shard.now().mono_ns;
            if self.drain.get() == Drain::Cut {
                self.kill(conn);
            } else if peer.is_none() && self.wants_addresses(shard) && shard.abilities().peer_name {
                conn.phase = Phase::Naming;
                conn.other = true;
                shard.push(Op::PeerName { sock, token: self.token(tag::NAME, conn.key) });
            } else {
                self.introduce(shard, conn, peer);
            }
        });
    }

    /// The kernel told the peer's address, or that there is none.
    pub(super) fn named(&self, shard: &Shard, conn: &mut Conn, event: &Event<'_>) {
        conn.other = false;
        if conn.phase == Phase::Naming {
            let peer = match event.data {
                Data::Peer(peer) if event.result >= 0 => plain(peer),
                _ => None,
            };
            self.introduce(shard, conn, peer);
        }
    }

    fn introduce(&self, shard: &Shard, conn: &mut Conn, peer: Option<SocketAddr>) {
        conn.peer = peer.map(Box::new);
        if self.asks_for_header(peer.map(|peer| peer.ip())) {
            conn.phase = Phase::Header;
            conn.reading = Reading::Proxy;
            conn.read_deadline_ns = Self::after(shard, shard.limits().head_time);
        } else {
            self.open(shard, conn);
        }
    }

    /// Rule 2.
    fn asks_for_header(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(ip) => self.config.proxy_from.iter().any(|net| net.contains(&ip)),
            None => self.config.proxy_from_unix,
        }
    }

    /// The peer is who it is: requests may come.
    fn open(&self, shard: &Shard, conn: &mut Conn) {
        let limits = shard.limits();
        if limits.connections_per_peer_max > 0
            && let Some(peer) = &conn.peer
        {
            if !self.held.peers.enter(peer.ip(), limits.connections_per_peer_max) {
                bump(&self.stats.refused_per_peer);
                return self.kill(conn);
            }
            conn.counted = true;
        }
        conn.phase = Phase::Open;
        conn.reading = Reading::Idle;
        // One that came to a draining shard late gets no more than the others had.
        let idle = match self.drain.get() {
            Drain::No | Drain::Grace => limits.idle_time,
            Drain::Closing | Drain::Cut => limits.idle_time.min(limits.drain_idle),
        };
        conn.read_deadline_ns = Self::after(shard, idle);
    }

    /// Bytes came where a header must stand.
    #[cold]
    pub(super) fn header(&self, shard: &Shard, conn: &mut Conn, bytes: &[u8]) {
        if conn.inbox.is_some() {
            self.keep(conn, bytes);
        }
        let (step, kept) = match &conn.inbox {
            Some(inbox) => (proxy::decode(inbox.unread(), proxy::HEADER_BYTES_MAX), true),
            None => (proxy::decode(bytes, proxy::HEADER_BYTES_MAX), false),
        };
        let (consumed, source) = match step {
            Ok(proxy::Step::Header(header)) => (header.consumed, header.source),
            Ok(proxy::Step::NeedMore(_)) => {
                if !kept {
                    self.keep(conn, bytes);
                }
                return;
            }
            Err(error) => {
                tracing::debug!(shard = shard.id().0, %error, "no PROXY header from a proxy");
                return self.no_header(conn, true);
            }
        };
        if let Some(source) = source.and_then(plain) {
            conn.peer = Some(Box::new(source));
        }
        self.open(shard, conn);
        if kept {
            if let Some(inbox) = &mut conn.inbox {
                inbox.leave(inbox.unread().len() - consumed);
            }
            self.process_inbox(shard, conn);
        } else if consumed < bytes.len() {
            self.input(shard, conn, &bytes[consumed..]);
        }
    }

    /// A proxy that must send a header did not. One that sent nothing at all (`said` is false) only looked
    /// whether somebody listens, as their health checks do: no fault.
    #[cold]
    pub(super) fn no_header(&self, conn: &mut Conn, said: bool) {
        if said {
            bump(&self.stats.proxy_errors);
        }
        self.kill(conn);
    }
}
