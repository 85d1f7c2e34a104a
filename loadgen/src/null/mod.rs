//! The null server: the least that answers, for the generator to measure itself against.
//!
//! It speaks what the generator speaks and does no work: what a run against it shows is the generator, the
//! kernel and the loopback path. One thread, one ring; see `server` for the loop and `requests` for how
//! little of a request it looks at.
//!
//! # Rules
//! 1. Nothing a peer does ends the server, or costs more than its own connection.
//! 2. Everything is bounded: connections ([`NullConfig::connections_max`]), what a connection may be owed
//!    before it is read no further ([`PENDING_LEN_MAX`]), memory for answers (the pools).
//!
//! Not here: what the figures mean (`calibrate`).

mod requests;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use corelane_base::Unpark;
use corelane_sys::{ListenOptions, Listener, cpu, listen};

use crate::echo;
use crate::model::Speaks;

pub use server::{CONNECTIONS_MAX, PENDING_LEN_MAX};

/// Longest body of an HTTP answer, bytes: 16 MiB.
pub const BODY_LEN_MAX: usize = 16 << 20;

/// The body of an HTTP answer, as often as it takes.
const BODY: &[u8] = b"Hello, World!";

/// How often a server without a handle looks whether it is to stop.
const NAP_NS: u64 = 100_000_000;

/// What to answer, where.
#[derive(Clone, Debug)]
pub struct NullConfig {
    /// Where to listen; port 0 lets the kernel choose one.
    pub addr: SocketAddr,
    /// The CPU its thread stays on.
    pub cpu: Option<usize>,
    /// The protocol.
    pub speaks: Speaks,
    /// Bytes of an echoed message: what counts as one request, and how large receive buffers are.
    pub echo_len: u32,
    /// Bytes of the body of an HTTP answer.
    pub body_len: usize,
    /// Connections at once, where the limit of descriptors allows it. Past it, the kernel closes what it
    /// accepts.
    pub connections_max: u32,
}

impl Default for NullConfig {
    fn default() -> NullConfig {
        NullConfig {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            cpu: None,
            speaks: Speaks::Http1,
            echo_len: 64,
            body_len: BODY.len(),
            connections_max: CONNECTIONS_MAX,
        }
    }
}

impl NullConfig {
    fn check(&self) -> Result<(), String> {
        if self.body_len > BODY_LEN_MAX {
            let len = self.body_len;
            return Err(format!("a body of {len} bytes cannot work: set it to 0 to {BODY_LEN_MAX} (16 MiB)"));
        }
        if !(1..=echo::LEN_MAX).contains(&self.echo_len) {
            let (len, max) = (self.echo_len, echo::LEN_MAX);
            return Err(format!("a message of {len} bytes cannot work: set it to 1 to {max} (16 MiB)"));
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections_max) {
            let count = self.connections_max;
            return Err(format!("{count} connections at most cannot work: set it to 1 to {CONNECTIONS_MAX}"));
        }
        Ok(())
    }

    fn listen(&self) -> Result<Listener, String> {
        self.check()?;
        // Without SO_REUSEPORT: a second server on the port would take half of the connections.
        let options = ListenOptions { reuseport: false, ..ListenOptions::default() };
        let addr = self.addr;
        listen(addr, &options)
            .map_err(|error| format!("cannot listen on {addr}: {error}; take another address, or port 0"))
    }

    fn pin(&self) -> Result<(), String> {
        let Some(cpu) = self.cpu else { return Ok(()) };
        cpu::pin_current_thread(cpu).map_err(|error| {
            let allowed = cpu::allowed_cpus().map_or_else(|_| "unknown".into(), |c| cpu::format_cpu_list(&c));
            format!("cannot stay on CPU {cpu}: {error}; this process may run on {allowed}")
        })
    }
}

/// What a server did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Served {
    /// Connections accepted.
    pub connections: u64,
    /// Whole requests.
    pub requests: u64,
    /// Connections given up: no requests came on them, or the peer had gone, or no memory was left.
    pub cut: u64,
    /// Accepts that failed, for want of a place in the table most of all.
    pub refused: u64,
    /// Receives that found no buffer.
    pub no_buffers: u64,
}

/// Serves on the calling thread until `stop` is set; looks for that ten times a second. `ready` is told where
/// it listens, before the first connection is taken. The thread stays on the CPU of the configuration
/// afterwards.
///
/// # Errors
/// What cannot be listened on or set up, and what would help. Nothing a peer does is an error.
pub fn serve(
    config: &NullConfig,
    stop: &Arc<AtomicBool>,
    ready: impl FnOnce(SocketAddr),
) -> Result<Served, String> {
    let listener = config.listen()?;
    config.pin()?;
    let addr = listener.local_addr();
    server::run(listener, config, stop, Some(NAP_NS), |_| ready(addr))
}

/// Starts a server on a thread of its own. Returns when it listens and its ring is made.
///
/// # Errors
/// As [`serve`].
pub fn start(config: NullConfig) -> Result<NullServer, String> {
    let listener = config.listen()?;
    let addr = listener.local_addr();
    let stop = Arc::new(AtomicBool::new(false));
    // One message, and room for it: the sender never blocks.
    #[allow(clippy::disallowed_methods)]
    let (tell, told) = std::sync::mpsc::sync_channel::<Arc<dyn Unpark>>(1);
    let body = {
        let stop = Arc::clone(&stop);
        move || {
            config.pin()?;
            server::run(listener, &config, &stop, None, move |unpark| {
                // Who started it waits for this.
                let _ = tell.send(unpark);
            })
        }
    };
    let thread = std::thread::Builder::new()
        .name("null".into())
        .spawn(body)
        .map_err(|error| format!("cannot start the thread of the null server: {error}"))?;
    match told.recv() {
        Ok(unpark) => Ok(NullServer { addr, stop, unpark, thread: Some(thread) }),
        // It ended before it was ready.
        Err(_) => Err(match join(thread) {
            Err(error) => error,
            Ok(_) => "the null server ended before it began".into(),
        }),
    }
}

/// A server on a thread of its own; ends when it is dropped.
#[derive(Debug)]
pub struct NullServer {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    unpark: Arc<dyn Unpark>,
    thread: Option<JoinHandle<Result<Served, String>>>,
}

impl NullServer {
    /// Where it listens, with the port the kernel chose.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it: connections are cut, and its thread is over when this returns.
    ///
    /// # Errors
    /// What ended the server before.
    pub fn stop(mut self) -> Result<Served, String> {
        self.end()
    }

    fn end(&mut self) -> Result<Served, String> {
        let Some(thread) = self.thread.take() else { return Ok(Served::default()) };
        // The loop looks at it after each sleep, and the wake-up ends the present or next one.
        self.stop.store(true, Ordering::Release);
        self.unpark.unpark();
        join(thread)
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        // Who wants to know calls `stop`.
        let _ = self.end();
    }
}

fn join(thread: JoinHandle<Result<Served, String>>) -> Result<Served, String> {
    thread.join().unwrap_or_else(|_| Err("the thread of the null server panicked".into()))
}

#[cfg(test)]
mod tests;
