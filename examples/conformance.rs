//! A service for HTTP/1.1 conformance runs: fixed routes, tight deadlines, every answer predictable.
//!
//! `cargo run --release --example conformance -- --listen 127.0.0.1:8081`
//!
//! GET and HEAD of `/` and `/ok` are 200, `/big` is 64 KiB, POST `/echo` gives the body back, `/smuggled`
//! marks itself with `X-Smuggled: 1` (a request that reaches it by a framing trick shows), `/ws` is a
//! WebSocket handshake after which every frame is answered by a close frame; other paths are 404, other
//! methods 405. Head and body must be complete within two seconds.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use corelane::{
    App, IntoResponse, Limits, OwnedRequest, Response, Server, TcpStream, spawn, websocket_accept,
};

static BIG: [u8; 64 << 10] = [b'b'; 64 << 10];

async fn echo(mut request: OwnedRequest<()>) -> Response {
    match request.collect(u64::MAX).await {
        Ok(bytes) => Response::bytes("application/octet-stream", bytes),
        Err(error) => error.into_response(),
    }
}

/// Answers whatever comes first with a close frame: 1000 for a close, 1002 (protocol error) for the rest.
async fn websocket(stream: TcpStream) {
    let Ok(first) = stream.read().await else { return };
    let code: [u8; 2] = if first.first() == Some(&0x88) { [0x03, 0xe8] } else { [0x03, 0xea] };
    if !first.is_empty() {
        drop(stream.write_all(vec![0x88, 2, code[0], code[1]]).await);
    }
    drop(stream.shutdown().await);
}

fn app() -> App<()> {
    App::new(())
        .get("/", |_| "root\n")
        .get("/ok", |_| "ok\n")
        .get("/big", |_| BIG.as_slice())
        .get("/smuggled", |_| Response::text("smuggled\n").header("X-Smuggled", &b"1"[..]))
        .post_async("/echo", echo)
        .get("/ws", |request| match websocket_accept(request) {
            Ok(accept) => accept.respond(|stream| {
                if let Ok(task) = spawn(websocket(stream)) {
                    task.detach();
                }
            }),
            Err(refusal) => refusal,
        })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let listen: Option<SocketAddr> = match arguments.as_slice() {
        [] => Some(([127, 0, 0, 1], 8081).into()),
        [flag, addr] if flag == "--listen" => addr.parse().ok(),
        _ => None,
    };
    let Some(listen) = listen else {
        eprintln!("usage: conformance [--listen ADDR:PORT]");
        return ExitCode::from(2);
    };
    let limits = Limits {
        head_time: Duration::from_secs(2),
        body_time: Duration::from_secs(2),
        idle_time: Duration::from_secs(5),
        linger_time: Duration::from_secs(1),
        ..Limits::default()
    };
    let started = Server::new(listen).limits(limits).start(|_| app());
    match started {
        Ok(running) => {
            eprintln!("listening on http://{}", running.addr());
            match running.wait() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
