//! What every peer serves and how it is started: the same work for all.
//!
//! # The work
//! - `GET /plaintext`: `Hello, World!` as `text/plain`; with [`SERVER`]-like header lines 128 bytes.
//! - `GET /json`: a structure with one field, made into JSON for every request ([`JSON`]), `application/json`.
//! - `POST /echo`: the request's body, `application/octet-stream`.
//! - `GET /blob`: [`BLOB_LEN`] bytes out of memory, `application/octet-stream`.
//! - anything else: 404.
//!
//! Every answer has `Server` (three letters), a current `Date`, `Content-Type` and `Content-Length`. Connections
//! are kept. No logs, no compression.
//!
//! Not here: the servers.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::CpuSet;

/// Body of `GET /plaintext`.
pub const PLAINTEXT: &[u8] = b"Hello, World!";

/// Body of `GET /json`: what a serializer makes of `Message { message: "Hello, World!" }`.
pub const JSON: &[u8] = br#"{"message":"Hello, World!"}"#;

/// Value of the field of the JSON answer.
pub const MESSAGE: &str = "Hello, World!";

/// Bytes of `GET /blob`.
pub const BLOB_LEN: usize = 1 << 20;

/// Longest body that `POST /echo` takes.
pub const ECHO_LEN_MAX: usize = 1 << 20;

/// Value of `Server`: three letters, so that all answers have the length of the limit loops'.
pub const SERVER: &str = "pee";

/// Pending connections in the listen queue, as for the limit servers.
pub const BACKLOG: i32 = 4096;

/// How every peer is started.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// CPUs to pin the threads to, one thread for each; without it one thread where the scheduler likes.
    #[arg(long, visible_alias = "cpu", value_delimiter = ',')]
    pub cpus: Vec<usize>,
}

impl Options {
    /// The CPU of each thread; one entry of `None` when none was named.
    #[must_use]
    pub fn threads(&self) -> Vec<Option<usize>> {
        if self.cpus.is_empty() { vec![None] } else { self.cpus.iter().copied().map(Some).collect() }
    }
}

/// Pins the calling thread to `cpu`, if one is given.
///
/// # Errors
/// There is no such CPU, or it is not allowed to this process.
pub fn pin(cpu: Option<usize>) -> io::Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("--cpus {cpu}: no such CPU")));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|error| io::Error::new(error.kind(), format!("--cpus {cpu}: {error}")))
}

/// Opens a listener that does not block: `SO_REUSEPORT`, so that every thread can have one of its own, and
/// `TCP_NODELAY`, which accepted sockets inherit.
///
/// # Errors
/// The address cannot be had.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// The bytes of `GET /blob`: made once, never freed.
#[must_use]
pub fn blob() -> &'static [u8] {
    static BLOB: [u8; BLOB_LEN] = [b'x'; BLOB_LEN];
    &BLOB
}
