//! The hyper peer: hyper 1 on one tokio thread, set up as its users would for speed.
//!
//! The answer has the headers, the body and the length of the limit servers' one (128 bytes); hyper
//! adds `Content-Length` and `Date` itself, the date a current one. No logs, no router.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Parser;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::thread::CpuSet;
use tokio::net::{TcpListener, TcpSocket};

/// Pending connections in the listen queue, as for the limit servers.
const BACKLOG: u32 = 4096;

#[derive(Parser)]
struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// CPU to pin the only thread to; without it the scheduler chooses.
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("peer-hyper: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> io::Result<Infallible> {
    if let Some(cpu) = options.cpu {
        if cpu >= CpuSet::MAX_CPU {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("--cpu {cpu}: no such CPU")));
        }
        let mut set = CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = listen(options.listen)?;
        eprintln!("peer-hyper: listening on {}", options.listen);
        serve(listener).await
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn serve(listener: TcpListener) -> io::Result<Infallible> {
    let mut http = http1::Builder::new();
    http.pipeline_flush(true).keep_alive(true);
    loop {
        let (stream, _) = listener.accept().await?;
        let connection = http.serve_connection(TokioIo::new(stream), service_fn(answer));
        // A connection ends in an error whenever its client leaves: nothing to say about it.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn answer(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"Hello, World!")));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(SERVER, HeaderValue::from_static("hyp"));
    Ok(response)
}
