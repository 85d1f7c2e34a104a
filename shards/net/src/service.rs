//! The seam between connections and the application: one call per request head.
//!
//! # Rules
//! 1. `call` runs inside the turn, with the head borrowed from the receive buffer: it must not block. It
//!    may spawn, start timers and read its shard's state; it may not wait.
//! 2. A panic in `call` or in a future it returned is answered 500 and closes that connection only.
//!
//! Not here: routes and handlers (`http`).

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use corelane_proto_h1 as h1;

use crate::body::Body;
use crate::message::Response;
use crate::notice::Signal;

/// A response that takes longer than the call.
pub type Pending = Pin<Box<dyn Future<Output = Response>>>;

/// What [`Service::call`] decided.
pub enum Answer {
    /// This, at once. An unread request body is swallowed up to `Limits::drain_bytes_max`, or the
    /// connection closes after the answer.
    Now(Response),
    /// When the future is done, at the latest after `Limits::handler_time`; dropped when the peer leaves.
    Later(Pending),
}

/// One request as the connection sees it.
pub struct Incoming<'r, 'h, 'i> {
    /// Method, target, fields: borrowed from the receive buffer.
    pub head: &'r h1::Request<'h, 'i>,
    /// Where it comes from, where the listener was asked to know ([`Http1Config::peers`](crate::Http1Config)).
    /// Behind a proxy that sends PROXY headers, whom that speaks for. IPv4 is never within IPv6 here.
    pub peer: Option<SocketAddr>,
    pub(crate) signal: Option<Signal>,
    pub(crate) body: &'r mut Option<crate::body::BodyFeed>,
}

impl<'r, 'h, 'i> Incoming<'r, 'h, 'i> {
    /// Takes the reading end of the body. The first call decides that the body is wanted; without it the
    /// body is swallowed. Allocates once; a request without a body gets a complete empty one.
    pub fn take_body(&mut self) -> Body {
        match (self.head.body, self.signal.take()) {
            (h1::BodyKind::None, _) | (_, None) => Body::complete(b""),
            (kind, Some(signal)) => {
                let length = match kind {
                    h1::BodyKind::Length(n) => Some(n),
                    h1::BodyKind::None | h1::BodyKind::Chunked => None,
                };
                let (feed, body) = Body::pair(length, signal);
                *self.body = Some(feed);
                body
            }
        }
    }
}

/// What answers requests of a listener.
pub trait Service: 'static {
    /// Answers one request, or says that it will.
    fn call(&self, request: Incoming<'_, '_, '_>) -> Answer;
}
