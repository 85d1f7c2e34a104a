//! Corelane floor 1: the server side of HTTP/1.1 (RFC 9112) as a machine without I/O.
//!
//! Bytes come in as slices, answers go out through a [`Sink`], and time is an argument (the `Date` value).
//! A [`Connection`] allocates nothing and copies nothing: a [`Request`] borrows the receive buffer.
//!
//! # Calling order
//! 1. [`Connection::poll`] until it gives [`Step::Head`]. [`Step::NeedMore`] asks for more bytes: present the
//!    unread ones again, with the new ones behind them.
//! 2. For a request with a body, keep polling: `Body*`, then one `End`. Without a body `End` is implied.
//! 3. [`Connection::respond`] (or [`Connection::upgrade`]), then queue the body as its [`BodyMode`] says, then
//!    [`Connection::finish_response`]. Until then `poll` gives [`Step::AwaitResponse`] and consumes nothing.
//! 4. [`Step::Reject`] means that the bytes are not acceptable: [`Connection::reject`] writes the answer.
//! 5. When [`Connection::must_close`] is true, flush what is queued and close.
//!
//! ```
//! use corelane_proto_h1::{BodyLength, Connection, Limits, ResponseHead, Step, header_slots};
//!
//! let mut conn = Connection::new();
//! let mut unread: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: t\r\n\r\n";
//! let mut out = Vec::new();
//! let mut slots = header_slots();
//! let Step::Head(request) = conn.poll(&Limits::default(), &mut unread, &mut slots) else { panic!() };
//! assert_eq!(request.target.path(), "/plaintext");
//! let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
//! conn.respond(&mut out, &ResponseHead::default(), BodyLength::Known(5), date).unwrap();
//! out.extend_from_slice(b"hello");
//! conn.finish_response();
//! assert!(conn.is_idle() && out.starts_with(b"HTTP/1.1 200 OK\r\n"));
//! ```
//!
//! # Rules
//! 1. A framing error always ends the connection (RFC 9112, 9.6): no byte after it is ever read as a request.
//! 2. What two recipients could read differently is refused, even where the RFC would let us repair it.
//! 3. Everything a peer can make grow has a maximum in [`Limits`].
//! 4. How bytes were split into reads never changes what they mean.
//!
//! Not here: sockets, deadlines, routing, which methods are served, chunk encoding of whole bodies (only the
//! framing helpers), the WebSocket handshake, percent-decoding.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod check;
mod chunked;
mod connection;
mod date;
mod error;
mod fields;
mod head;
mod limits;
mod response;
mod simple;
mod target;

pub use connection::{Connection, EofKind, Step};
pub use date::write_date;
pub use error::{BadHeader, Reject, Why};
pub use fields::Trailers;
pub use head::{BodyKind, HeaderSlots, Headers, HeadersIter, Method, Request, Version, header_slots};
pub use limits::{HEADERS_MAX, Limits};
pub use response::{
    BodyLength, BodyMode, CHUNK_END, ChunkPrefix, HeadMemo, LAST_CHUNK, ResponseHead, Sink, StaticHead,
    chunk_prefix, encode_chunk_header, reason_phrase,
};
pub use target::{Target, TargetForm};
