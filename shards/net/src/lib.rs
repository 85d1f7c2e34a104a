//! Corelane floor 5: listeners, connections, and the protocols they speak.
//!
//! Reading order: [`service`] is the seam to the application, [`message`] and [`body`] what crosses it,
//! [`http1`] the HTTP/1.1 connections of a shard, [`session`] those of protocols of bytes, [`balance`] whose they
//! should be, [`stream`] plain TCP, in and out.
//!
//! # Rules
//! 1. A connection is a slot in a table, not a task: its completions are handled where they are reaped.
//! 2. Received bytes are used where they lie; what must outlive the call is copied out under a bound.
//! 3. An idle connection holds its slot, one armed receive and nothing else.
//! 4. A socket is closed only after its last completion.
//!
//! Not here: routes and handlers (`http`), system calls, rings.

#![forbid(unsafe_code)]

mod accepting;
pub mod balance;
pub mod body;
pub mod http1;
mod inbox;
pub mod message;
mod notice;
mod output;
mod peers;
pub mod service;
pub mod session;
pub mod stream;

pub use balance::Balance;
pub use body::{Body, BodyError, BodySender, BodyStream, Disconnected, body_channel};
pub use corelane_proto_h1 as h1;
pub use http1::{ConnInfo, Http1, Http1Config, Http1Stats};
pub use ipnet::IpNet;
pub use message::{Field, Response, ResponseBody, Takeover};
pub use service::{Answer, Incoming, Pending, Service};
pub use session::{ConnKey, Link, Next, Protocol, SessionConfig, SessionStats, Sessions};
pub use stream::{TcpAcceptor, TcpStream};

/// Errno values that decide something here (Linux, every architecture).
pub(crate) mod errno {
    pub(crate) const EINTR: i32 = 4;
    pub(crate) const EAGAIN: i32 = 11;
    pub(crate) const ENOMEM: i32 = 12;
    pub(crate) const ENFILE: i32 = 23;
    pub(crate) const EMFILE: i32 = 24;
    pub(crate) const ENOBUFS: i32 = 105;
    pub(crate) const ECANCELED: i32 = 125;
}
