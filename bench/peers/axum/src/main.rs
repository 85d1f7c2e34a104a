//! The axum peer: axum 0.8, a tokio runtime of one thread on each CPU, set up as its users would for speed.
//!
//! - Its `Router`, extractors and `Json` on hyper's own HTTP/1 server, which has settings that `axum::serve`
//!   does not pass on. Every thread has a listener and a runtime of its own; the router's table is shared,
//!   read only.
//! - `pipeline_flush`: answers to pipelined requests leave in one write. For that hyper copies bodies into
//!   its write buffer, the 1 MiB of `/blob` too. `--writev` is the other choice it offers: bodies are sent
//!   from where they lie, and each answer is written by itself.
//! - mimalloc, as its entries in public benchmarks. No logs, no layers but the limit of bodies, no timeouts.
//!
//! hyper adds `Date`, axum or hyper `Content-Length`.

use std::convert::Infallible;
use std::net::TcpListener;
use std::process::ExitCode;
use std::{io, process, thread};

use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tower_service::Service;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `Server`, as the first part of an answer.
const FROM: [(HeaderName, HeaderValue); 1] = [(SERVER, HeaderValue::from_static(peer_work::SERVER))];

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
    eprintln!("peer-axum: {error}");
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
    eprintln!("peer-axum: listening on {address}");
    let writev = arguments.writev;
    let (cpu, listener) = threads.remove(0);
    for (cpu, listener) in threads {
        thread::spawn(move || {
            let Err(error) = serve(cpu, listener, writev);
            eprintln!("peer-axum: {error}");
            process::exit(2);
        });
    }
    serve(cpu, listener, writev)
}

fn serve(cpu: Option<usize>, listener: TcpListener, writev: bool) -> io::Result<Infallible> {
    peer_work::pin(cpu)?;
    let router = router();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut http = http1::Builder::new();
        http.keep_alive(true).pipeline_flush(!writev);
        loop {
            let (stream, _) = listener.accept().await?;
            let router = router.clone();
            let service = service_fn(move |request: Request<Incoming>| router.clone().call(request));
            let connection = http.serve_connection(TokioIo::new(stream), service);
            // A connection ends in an error whenever its client leaves: nothing to say about it.
            tokio::spawn(async move { drop(connection.await) });
        }
    })
}

fn router() -> Router {
    Router::new()
        .route("/plaintext", get(plaintext))
        .route("/json", get(json))
        .route("/echo", post(echo))
        .route("/blob", get(blob))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(peer_work::ECHO_LEN_MAX))
}

async fn plaintext() -> Response {
    body(Bytes::from_static(peer_work::PLAINTEXT), "text/plain")
}

async fn json() -> impl IntoResponse {
    (FROM, Json(Message { message: peer_work::MESSAGE }))
}

async fn echo(whole: Bytes) -> Response {
    body(whole, "application/octet-stream")
}

async fn blob() -> Response {
    body(Bytes::from_static(peer_work::blob()), "application/octet-stream")
}

async fn not_found() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, body(Bytes::from_static(b"Not Found"), "text/plain"))
}

/// By hand: a body turned into a response by axum would first get a `Content-Type` that is then replaced.
fn body(bytes: Bytes, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(peer_work::SERVER));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
