//! The ntex peer: ntex 3.12 on tokio, one worker on each CPU, set up as its users would for speed.
//!
//! - Of the runtimes it can be built for, tokio cost least: for `/plaintext` no more than its own over
//!   io_uring, which costs twice as much for `/blob` (its zero-copy sends are copied on loopback all the
//!   same), and nowhere more than its own over epoll.
//! - Each CPU has a listener and a server of its own with one worker. ntex accepts in another thread and
//!   hands connections over; that thread and the worker inherit the CPU of the thread that starts them.
//! - Its HTTP/1 service with a handler that looks at the path itself, without the router of `ntex::web`.
//! - Keep-alive is left to the kernel and there is no timeout for a request, so that no timer is touched for
//!   it.
//! - mimalloc, as its entries in public benchmarks. No logs, no middleware.
//!
//! ntex adds `Content-Length` and `Date` itself. ntex 4 wants a newer compiler than this workspace is built
//! with.

use std::convert::Infallible;
use std::net::TcpListener;
use std::process::ExitCode;
use std::{io, process, thread};

use clap::Parser;
use ntex::http::body::Body;
use ntex::http::header::{CONTENT_TYPE, HeaderValue, SERVER};
use ntex::http::{HttpService, HttpServiceConfig, KeepAlive, Method, Payload, Request, Response, StatusCode};
use ntex::io::IoConfig;
use ntex::rt::System;
use ntex::time::Seconds;
use ntex::util::{Bytes, BytesMut, stream_recv};
use ntex::{SharedCfg, fn_service};
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections of one worker: more than any comparison opens. The default of 25,600 may be too few.
const CONNECTIONS_MAX: usize = 1 << 20;

/// Bytes of a read and of a write buffer, and when one is made larger.
const BUFFER_LEN: usize = 65_535;
const BUFFER_LOW: usize = 1_024;

/// Buffers of one size that are kept for later.
const BUFFERS_KEPT: usize = 128;

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
    let Err(error) = run(&Arguments::parse());
    eprintln!("peer-ntex: {error}");
    ExitCode::from(2)
}

/// Starts a server for every thread asked for, the last part of it in the calling one. Ends only with an
/// error.
fn run(arguments: &Arguments) -> io::Result<Infallible> {
    let mut address = arguments.common.listen;
    let mut threads = Vec::new();
    for cpu in arguments.common.threads() {
        let listener = peer_work::listen(address)?;
        address = listener.local_addr()?;
        threads.push((cpu, listener));
    }
    eprintln!("peer-ntex: listening on {address}");
    let (cpu, listener) = threads.remove(0);
    for (cpu, listener) in threads {
        thread::spawn(move || {
            let Err(error) = serve(cpu, listener);
            eprintln!("peer-ntex: {error}");
            process::exit(2);
        });
    }
    serve(cpu, listener)
}

fn serve(cpu: Option<usize>, listener: TcpListener) -> io::Result<Infallible> {
    peer_work::pin(cpu)?;
    System::new("peer", ntex::rt::DefaultRuntime).block_on(async move {
        let config = SharedCfg::new("peer")
            .add(IoConfig::new().set_read_buf(BUFFER_LEN, BUFFER_LOW, BUFFERS_KEPT).set_write_buf(
                BUFFER_LEN,
                BUFFER_LOW,
                BUFFERS_KEPT,
            ))
            .add(HttpServiceConfig::new().set_keepalive(KeepAlive::Os).set_client_timeout(Seconds::ZERO));
        ntex::server::build()
            .workers(1)
            .maxconn(CONNECTIONS_MAX)
            .disable_signals()
            .listen("peer", listener, async |_| HttpService::h1(fn_service(answer)))?
            .config("peer", config)
            .run()
            .await?;
        Err(io::Error::other("the server ended by itself"))
    })
}

async fn answer(mut request: Request) -> Result<Response, io::Error> {
    Ok(match (request.method(), request.path()) {
        (&Method::GET, "/plaintext") => {
            body(StatusCode::OK, Bytes::from_static(peer_work::PLAINTEXT), "text/plain")
        }
        (&Method::GET, "/json") => json(),
        (&Method::POST, "/echo") => echo(request.take_payload()).await,
        (&Method::GET, "/blob") => {
            body(StatusCode::OK, Bytes::from_static(peer_work::blob()), "application/octet-stream")
        }
        _ => failed(StatusCode::NOT_FOUND),
    })
}

fn json() -> Response {
    match serde_json::to_vec(&Message { message: peer_work::MESSAGE }) {
        Ok(text) => body(StatusCode::OK, text.into(), "application/json"),
        Err(_) => failed(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// The body of the request: a single part as it is, several by one copy. 413 when it is too long, 400 when it
/// does not arrive.
async fn echo(mut payload: Payload) -> Response {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(part) = stream_recv(&mut payload).await {
        let Ok(part) = part else { return failed(StatusCode::BAD_REQUEST) };
        if first.len() + whole.len() + part.len() > peer_work::ECHO_LEN_MAX {
            return failed(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if first.is_empty() && whole.is_empty() {
            first = part;
            continue;
        }
        whole.extend_from_slice(&std::mem::take(&mut first));
        whole.extend_from_slice(&part);
    }
    let bytes = if whole.is_empty() { first } else { whole.freeze() };
    body(StatusCode::OK, bytes, "application/octet-stream")
}

/// An answer whose body is the reason phrase.
fn failed(status: StatusCode) -> Response {
    let reason = status.canonical_reason().unwrap_or_default();
    body(status, Bytes::from_static(reason.as_bytes()), "text/plain")
}

fn body(status: StatusCode, bytes: Bytes, content_type: &'static str) -> Response {
    let mut response = Response::with_body(status, Body::Bytes(bytes));
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(peer_work::SERVER));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
