//! The admin interface: metrics, health and connections, on a listener of its own.
//!
//! `GET /metrics` for Prometheus, `GET /health` for supervisors, `GET /connections` for people, `GET /` says so.
//! It runs on a thread of its own with ordinary libraries, and asks shards by messages to their mailboxes: a
//! shard that does not answer is left out and named, whatever else is asked goes on.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections (more wait in the listen queue), one request each, heads of 8 KiB and
//! 64 fields, [`HEAD_TIME`] for a head and [`CONNECTION_TIME`] for all of it. Idle, the thread sleeps.
//!
//! # Rules
//! 1. Nothing here runs on a shard but what a message carries there: a reading of some 20 us.
//! 2. Nothing here changes anything: only GET and HEAD are answered.
//! 3. Who may ask is decided in one place (`access`), before anything is done.
//!
//! Reading order: here start and stop; `serve` connections; `access`; `pages` what is answered; `ask` from the
//! shards; `metrics` for Prometheus.
//!
//! Not here: `/api/...` of the main listener (`observe`), the watch over shards that stand still (`watch`).

// The control side: a thread that no shard waits for.
mod access;
mod ask;
mod metrics;
mod pages;
mod serve;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use corelane_exec::ShardHandle;
use tokio::sync::oneshot;

use crate::config::Secret;
use crate::observe::NodeFacts;
use crate::preflight::StartError;
use pages::Pages;

/// Connections at once; more wait in the listen queue.
pub const CONNECTIONS_MAX: usize = 64;

/// How long a client may take to send its request's head.
pub const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a connection may last: head, answer, and the client taking it.
pub const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// An admin interface that has its port, but does not answer yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    addr: SocketAddr,
    token: Secret,
}

/// Takes the port. Before anything else of a start that could serve.
///
/// # Errors
/// [`StartError::Admin`]: the port is taken, or the address can be reached from elsewhere and there is no token.
pub fn bind(addr: SocketAddr, token: Secret) -> Result<Bound, StartError> {
    let error = |error| StartError::Admin { addr, error };
    if !addr.ip().to_canonical().is_loopback() && token.is_empty() {
        let why = "other hosts can reach it, so it needs a token (admin_token)";
        return Err(error(io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
    let listener = TcpListener::bind(addr).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    let addr = listener.local_addr().map_err(error)?;
    Ok(Bound { listener, addr, token })
}

impl Bound {
    /// Where it listens, with the port the kernel chose.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers from now on, by asking these shards: all of the node, in their order.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn start(self, shards: Vec<ShardHandle>, node: Arc<NodeFacts>) -> Result<Admin, StartError> {
        let system = |error| StartError::System { step: "start the admin interface", error };
        let Bound { listener, addr, token } = self;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let pages = Pages::new(shards, node);
            if let Err(error) = serve::run(listener, token, pages, stopped) {
                tracing::error!(%error, "the admin interface ended");
            }
        });
        let thread = thread.map_err(system)?;
        Ok(Admin { addr, stop: Some(stop), thread: Some(thread) })
    }
}

/// An admin interface that answers, until it is stopped or dropped.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the listener and what is open, and waits for the thread: milliseconds, whatever clients do.
    pub fn stop(self) {}
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
