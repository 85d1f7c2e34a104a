//! The may_minihttp peer: HTTP/1 on stackful coroutines, one worker thread on each CPU, set up as its users
//! would for speed.
//!
//! It does the whole work, with these differences, which the library leaves no choice about:
//! - `Server` is `M`. Two more spaces before the value of `Content-Type`, which mean nothing (RFC 9110,
//!   5.6.3), make up for the missing letters, so that `/plaintext` has its 128 bytes.
//! - Workers share one listener: connections are accepted by one of them. It does not set `TCP_NODELAY`.
//! - Bodies are copied into its write buffer, the 1 MiB of `/blob` too.
//!
//! Without the features for timeouts, cancellation and stealing of work, and with mimalloc, as its entries in
//! public benchmarks. No logs.

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::process::ExitCode;

use bytes::BufMut;
use clap::Parser;
use may_minihttp::{HttpService, HttpServiceFactory, Request, Response};
use rustix::thread::CpuSet;
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Coroutines kept for later.
const COROUTINES_KEPT: usize = 1_000;

/// Stack of a coroutine, in words of 8 bytes.
const STACK_WORDS: usize = 0x1000;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    common: peer_work::Options,
}

#[derive(Serialize)]
struct Message {
    message: &'static str,
}

fn main() -> ExitCode {
    let options = Arguments::parse().common;
    let Err(error) = run(options.listen, &options.cpus);
    eprintln!("peer-may: {error}");
    ExitCode::from(2)
}

/// Serves until the process is ended. Ends only with an error.
fn run(address: SocketAddr, cpus: &[usize]) -> io::Result<std::convert::Infallible> {
    pin(cpus)?;
    may::config()
        .set_workers(cpus.len().max(1))
        // To the CPUs this process is allowed, in their order; without any named the scheduler chooses.
        .set_worker_pin(!cpus.is_empty());
    may::config().set_pool_capacity(COROUTINES_KEPT).set_stack_size(STACK_WORDS);
    let blob = std::str::from_utf8(peer_work::blob()).map_err(io::Error::other)?;
    let server = Peer { blob }.start(address)?;
    eprintln!("peer-may: listening on {address}");
    drop(server.join());
    Err(io::Error::other("the server ended by itself"))
}

/// Allows the process those CPUs only, from which may takes one for each worker.
fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        peer_work::pin(Some(cpu))?;
        set.set(cpu);
    }
    if cpus.is_empty() { Ok(()) } else { Ok(rustix::thread::sched_setaffinity(None, &set)?) }
}

#[derive(Clone, Copy)]
struct Peer {
    /// Body of `/blob`: as text the library copies it once, as bytes twice.
    blob: &'static str,
}

impl HttpServiceFactory for Peer {
    type Service = Self;

    fn new_service(&self, _id: usize) -> Self {
        *self
    }
}

impl HttpService for Peer {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        match (request.method(), request.path()) {
            ("GET", "/plaintext") => response.header("Content-Type:   text/plain").body("Hello, World!"),
            ("GET", "/json") => {
                response.header("Content-Type:   application/json");
                let message = Message { message: peer_work::MESSAGE };
                serde_json::to_writer(response.body_mut().writer(), &message)?;
            }
            ("POST", "/echo") => echo(request, response)?,
            ("GET", "/blob") => response.header("Content-Type:   application/octet-stream").body(self.blob),
            _ => failed(response, 404, "Not Found"),
        }
        Ok(())
    }
}

/// The body of the request, copied from the buffer it was received in to that of answers; 413 when it is too
/// long.
fn echo(request: Request, response: &mut Response) -> io::Result<()> {
    let mut body = request.body();
    let mut len = 0;
    loop {
        let part = body.fill_buf()?;
        if part.is_empty() {
            break;
        }
        len += part.len();
        if len > peer_work::ECHO_LEN_MAX {
            response.body_mut().clear();
            failed(response, 413, "Content Too Large");
            // The library reads the rest of the body when it is dropped.
            return Ok(());
        }
        response.body_mut().extend_from_slice(part);
        let taken = part.len();
        body.consume(taken);
    }
    response.header("Content-Type:   application/octet-stream");
    Ok(())
}

/// An answer whose body is the reason phrase.
fn failed(response: &mut Response, status: usize, reason: &'static str) {
    response.status_code(status, reason).header("Content-Type:   text/plain").body(reason);
}
