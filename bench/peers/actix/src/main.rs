//! The actix-web peer: actix-web 4 on actix-server, one worker on each CPU, set up as its users would for
//! speed.
//!
//! - Each CPU has a listener and a server of its own with one worker. actix-server accepts in another thread
//!   and hands connections over; that thread and the worker inherit the CPU of the thread that starts them.
//! - The application runs on actix-http's HTTP/1 service directly: keep-alive is left to the kernel and there
//!   is no timeout for a request, so that no timer is touched for it.
//! - The framework copies bodies into its write buffer, the 1 MiB of `/blob` too.
//! - mimalloc, as its entries in public benchmarks. No logs, no middleware.
//!
//! actix-http adds `Content-Length` and `Date` itself.

use std::convert::Infallible;
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;
use std::{io, process, thread};

use actix_http::{HttpService, KeepAlive};
use actix_server::Server;
use actix_service::map_config;
use actix_web::dev::AppConfig;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, SERVER};
use actix_web::web::{self, Bytes, PayloadConfig};
use actix_web::{App, HttpResponse};
use clap::Parser;
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections of one worker: more than any comparison opens. The default of 25,000 may be too few.
const CONNECTIONS_MAX: usize = 1 << 20;

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
    eprintln!("peer-actix: {error}");
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
    eprintln!("peer-actix: listening on {address}");
    let (cpu, listener) = threads.remove(0);
    for (cpu, listener) in threads {
        thread::spawn(move || {
            let Err(error) = serve(cpu, listener);
            eprintln!("peer-actix: {error}");
            process::exit(2);
        });
    }
    serve(cpu, listener)
}

fn serve(cpu: Option<usize>, listener: TcpListener) -> io::Result<Infallible> {
    peer_work::pin(cpu)?;
    actix_rt::System::new().block_on(async move {
        Server::build()
            .workers(1)
            .max_concurrent_connections(CONNECTIONS_MAX)
            .disable_signals()
            .listen("peer", listener, || {
                let app = App::new()
                    .app_data(PayloadConfig::new(peer_work::ECHO_LEN_MAX))
                    .service(web::resource("/plaintext").route(web::get().to(plaintext)))
                    .service(web::resource("/json").route(web::get().to(json)))
                    .service(web::resource("/echo").route(web::post().to(echo)))
                    .service(web::resource("/blob").route(web::get().to(blob)))
                    .default_service(web::to(not_found));
                HttpService::build()
                    .keep_alive(KeepAlive::Os)
                    .client_request_timeout(Duration::ZERO)
                    .h1(map_config(app, |()| AppConfig::default()))
                    .tcp()
            })?
            .run()
            .await?;
        Err(io::Error::other("the server ended by itself"))
    })
}

async fn plaintext() -> HttpResponse<Bytes> {
    body(StatusCode::OK, Bytes::from_static(peer_work::PLAINTEXT), "text/plain")
}

async fn json() -> HttpResponse<Bytes> {
    match serde_json::to_vec(&Message { message: peer_work::MESSAGE }) {
        Ok(text) => body(StatusCode::OK, text.into(), "application/json"),
        Err(_) => body(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new(), "text/plain"),
    }
}

async fn echo(whole: Bytes) -> HttpResponse<Bytes> {
    body(StatusCode::OK, whole, "application/octet-stream")
}

async fn blob() -> HttpResponse<Bytes> {
    body(StatusCode::OK, Bytes::from_static(peer_work::blob()), "application/octet-stream")
}

async fn not_found() -> HttpResponse<Bytes> {
    body(StatusCode::NOT_FOUND, Bytes::from_static(b"Not Found"), "text/plain")
}

fn body(status: StatusCode, bytes: Bytes, content_type: &'static str) -> HttpResponse<Bytes> {
    let mut response = HttpResponse::with_body(status, bytes);
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(peer_work::SERVER));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
