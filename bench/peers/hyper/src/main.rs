//! The hyper peer: hyper 1, a tokio runtime of one thread on each CPU, set up as its users would for speed.
//!
//! - Every thread has a listener and a runtime of its own; nothing is shared.
//! - `pipeline_flush`: answers to pipelined requests leave in one write. For that hyper copies bodies into
//!   its write buffer, the 1 MiB of `/blob` too. `--writev` is the other choice it offers: bodies are sent
//!   from where they lie, and each answer is written by itself.
//! - A body is collected before it is answered: one frame as it is, several by one copy.
//! - mimalloc, as its entries in public benchmarks. No logs, no router, no timeouts (hyper has none without a
//!   timer).
//!
//! hyper adds `Content-Length` and `Date` itself.

use std::convert::Infallible;
use std::net::TcpListener;
use std::process::ExitCode;
use std::{io, process, thread};

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    common: peer_work::Options,
    /// Send bodies from where they lie and each answer by itself: what one would choose for downloads.
    #[arg(long)]
    writev: bool,
}

#[derive(Serialize)]
struct Message {
    message: &'static str,
}

fn main() -> ExitCode {
    let Err(error) = run(&Arguments::parse());
    eprintln!("peer-hyper: {error}");
    ExitCode::from(2)
}

/// Serves on every thread asked for, the calling one among them. Ends only with an error.
fn run(arguments: &Arguments) -> io::Result<Infallible> {
    let mut address = arguments.common.listen;
    let mut threads = Vec::new();
    for cpu in arguments.common.threads() {
        let listener = peer_work::listen(address)?;
        address = listener.local_addr()?;
        threads.push((cpu, listener));
    }
    eprintln!("peer-hyper: listening on {address}");
    let writev = arguments.writev;
    let (cpu, listener) = threads.remove(0);
    for (cpu, listener) in threads {
        thread::spawn(move || {
            let Err(error) = serve(cpu, listener, writev);
            eprintln!("peer-hyper: {error}");
            process::exit(2);
        });
    }
    serve(cpu, listener, writev)
}

fn serve(cpu: Option<usize>, listener: TcpListener, writev: bool) -> io::Result<Infallible> {
    peer_work::pin(cpu)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut http = http1::Builder::new();
        http.keep_alive(true).pipeline_flush(!writev);
        loop {
            let (stream, _) = listener.accept().await?;
            let connection = http.serve_connection(TokioIo::new(stream), service_fn(answer));
            // A connection ends in an error whenever its client leaves: nothing to say about it.
            tokio::spawn(async move { drop(connection.await) });
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/plaintext") => body(Bytes::from_static(peer_work::PLAINTEXT), "text/plain"),
        (&Method::GET, "/json") => json(),
        (&Method::POST, "/echo") => echo(request.into_body()).await,
        (&Method::GET, "/blob") => body(Bytes::from_static(peer_work::blob()), "application/octet-stream"),
        _ => failed(StatusCode::NOT_FOUND),
    })
}

fn json() -> Response<Full<Bytes>> {
    match serde_json::to_vec(&Message { message: peer_work::MESSAGE }) {
        Ok(text) => body(text.into(), "application/json"),
        Err(_) => failed(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// The body of the request; 413 when it is too long, 400 when it does not arrive.
async fn echo(incoming: Incoming) -> Response<Full<Bytes>> {
    match Limited::new(incoming, peer_work::ECHO_LEN_MAX).collect().await {
        Ok(whole) => body(whole.to_bytes(), "application/octet-stream"),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => failed(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => failed(StatusCode::BAD_REQUEST),
    }
}

fn body(bytes: Bytes, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(bytes));
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(peer_work::SERVER));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer whose body is the reason phrase.
fn failed(status: StatusCode) -> Response<Full<Bytes>> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut response = body(Bytes::from_static(reason.as_bytes()), "text/plain");
    *response.status_mut() = status;
    response
}
