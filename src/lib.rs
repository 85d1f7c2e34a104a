//! Corelane: a thread-per-core io_uring server runtime for bare-metal Linux.
//!
//! One pinned thread per CPU owns a *shard*: its connections, timers, memory and state. Nothing on a shard
//! blocks, locks or waits for another thread.
//!
//! ```no_run
//! use corelane::{App, Server};
//!
//! fn main() -> Result<(), corelane::StartError> {
//!     Server::new("127.0.0.1:8080".parse().expect("an address"))
//!         .serve(|_shard| App::new(()).get("/", |_| "hello"))
//! }
//! ```
//!
//! # What runs where
//! - A handler given to [`App::get`] and its like runs inside the shard's turn: it must not block, may not
//!   wait, and allocates nothing on the way.
//! - A handler given to [`App::get_async`] and its like is a task of the shard: it may await what this crate
//!   offers ([`sleep`], [`TcpStream`], [`fs::File`], [`blocking()`], request and response bodies).
//! - State made in the closure of [`Server::serve`] lives on one shard only and need not be `Send`.
//!
//! # What does not work here
//! Crates bound to another runtime's reactor (tokio's sockets and timers, and all that builds on them: reqwest,
//! tonic, sqlx with its tokio feature) find no reactor on a shard and panic or hang. Either run them in a
//! runtime of their own on another thread and talk to it by channels whose wakers work anywhere (the
//! `futures` kind), or wrap single calls in [`blocking()`]. Plain futures, `async` channels and locks of the
//! `futures` and `async-*` families work.
//!
//! Not here: the node's own command line (the `corelane` binary).

#![forbid(unsafe_code)]

pub mod boot;
pub mod config;
pub mod drain;
pub mod node;
pub mod preflight;
#[cfg(feature = "testing")]
pub mod testing;

pub use boot::{Running, Server, ShardInfo};
pub use corelane_base::{Full, LimitError, Limits, ShardId};
pub use corelane_exec::{
    BlockingError, Elapsed, Shard, Sleep, Task, TaskError, blocking, fs, sleep, spawn, timeout,
};
pub use corelane_http::{
    Answer, App, Cors, Html, IntoResponse, Json, Log, Method, Middleware, OwnedRequest, Redirect, Reject,
    Request, Response, ResponseBody, SetHeader, Status, Version, WebSocketAccept, websocket_accept,
};
pub use corelane_net::{Body, BodyError, BodySender, BodyStream, Disconnected, TcpStream, body_channel};
pub use corelane_uring::Features as RingFeatures;
pub use preflight::StartError;

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
