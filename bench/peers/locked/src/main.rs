//! Counters as they are kept without shards: one listener, a work-stealing runtime, and a store all threads
//! share.
//!
//! The baseline of claims about lock-free shards. Its counterpart is `examples/sharded_counter.rs` of
//! Corelane: the same answers to `/count`, on hyper 1 and tokio's multi-threaded runtime.
//!
//! # Routes
//! - `POST /count/{name}`: counts up, answers the count and a line feed. `GET /count/{name}`: the count, or
//!   404.
//! - `GET /counter/{name}`: counts up as POST does, for clients that only GET.
//! - `GET /shards`: how many counters each part of the store has.
//! - `GET /plaintext`: as every peer.
//!
//! Not here: the stores (`store`).

mod store;

use std::convert::Infallible;
use std::io;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use peer_work::Options;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;

use store::{Refused, Store};

/// As Corelane's handlers answer a `String`.
const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Parser)]
#[command(
    name = "peer-locked",
    about = "Serve counters from a store that all threads of a work-stealing runtime share."
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Who owns the counters.
    #[arg(long, value_enum, default_value_t = Kind::Mutex)]
    store: Kind,
}

/// How the counters are shared.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// One map behind one mutex.
    Mutex,
    /// One task for each thread owns a part of the names; requests reach it through its queue.
    Queue,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("peer-locked: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> io::Result<Infallible> {
    let cpus = cli.options.threads();
    // Each is tried here, where it can be an error; backwards, so that this thread ends on the first.
    for cpu in cpus.iter().rev() {
        peer_work::pin(*cpu)?;
    }
    let threads = cpus.len();
    let started = AtomicUsize::new(0);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_io()
        .on_thread_start(move || {
            let thread = started.fetch_add(1, Ordering::Relaxed) % threads;
            if let Err(error) = peer_work::pin(cpus[thread]) {
                eprintln!("peer-locked: {error}");
                process::exit(2);
            }
        })
        .build()?;
    let (address, kind) = (cli.options.listen, cli.store);
    // Spawned, so that a worker accepts and not this thread, which only waits.
    let served = runtime.spawn(async move {
        let store: &'static Store = Box::leak(Box::new(match kind {
            Kind::Mutex => Store::locked(threads),
            Kind::Queue => Store::queued(threads),
        }));
        let listener = peer_work::listen(address)
            .and_then(TcpListener::from_std)
            .map_err(|error| io::Error::new(error.kind(), format!("--listen {address}: {error}")))?;
        eprintln!("peer-locked: listening on {address}");
        serve(listener, store).await
    });
    runtime.block_on(served).map_err(io::Error::other)?
}

async fn serve(listener: TcpListener, store: &'static Store) -> io::Result<Infallible> {
    let mut http = http1::Builder::new();
    http.pipeline_flush(true);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service_fn(move |request| answer(request, store));
                let connection = http.serve_connection(TokioIo::new(stream), service);
                // A connection ends in an error whenever its client leaves: nothing to say about it.
                tokio::spawn(async move { drop(connection.await) });
            }
            Err(error) => {
                eprintln!("peer-locked: accept: {error}");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    store: &'static Store,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (path, method) = (request.uri().path(), request.method());
    let (name, adds) = match path.split_at_checked(path.rfind('/').map_or(0, |at| at + 1)) {
        Some(("/", "plaintext")) if method == Method::GET => {
            return Ok(response(StatusCode::OK, "text/plain", Bytes::from_static(peer_work::PLAINTEXT)));
        }
        Some(("/", "shards")) if method == Method::GET => {
            return Ok(text(StatusCode::OK, sizes(store).await));
        }
        Some(("/count/", name)) if !name.is_empty() => match *method {
            Method::POST => (name, true),
            Method::GET => (name, false),
            _ => {
                let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
                return Ok(refused);
            }
        },
        Some(("/counter/", name)) if !name.is_empty() && method == Method::GET => (name, true),
        _ => return Ok(text(StatusCode::NOT_FOUND, "not found\n")),
    };
    let Ok(name) = percent_decode_str(name).decode_utf8() else {
        return Ok(text(StatusCode::BAD_REQUEST, "the name is not text"));
    };
    let counted =
        if adds { store.add(name.into_owned()).await.map(Some) } else { store.read(name.into_owned()).await };
    Ok(match counted {
        Ok(Some(count)) => text(StatusCode::OK, format!("{count}\n")),
        Ok(None) => text(StatusCode::NOT_FOUND, "not found\n"),
        Err(Refused::TooMany) => text(StatusCode::INSUFFICIENT_STORAGE, "there are too many counters"),
        Err(Refused::Gone) => text(StatusCode::SERVICE_UNAVAILABLE, "the owner of the counter is gone"),
    })
}

/// The text of `GET /shards`: a part of the store a line.
async fn sizes(store: &Store) -> String {
    let mut lines = String::new();
    for (part, size) in store.sizes().await.into_iter().enumerate() {
        lines.push_str(&match size {
            Ok(size) => format!("shard {part}: {size} counters\n"),
            Err(_) => format!("shard {part}: its owner is gone\n"),
        });
    }
    lines
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, TEXT, body.into())
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(SERVER, HeaderValue::from_static(peer_work::SERVER));
    response
}
