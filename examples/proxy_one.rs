//! A TCP proxy to one place: an outbound connection for each inbound one, bytes both ways.
//!
//! `cargo run --release --example proxy_one -- 127.0.0.1:8080`, then `curl http://127.0.0.1:7001/health`.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use corelane::{Server, TcpStream, spawn, timeout};

/// How long the other side may take to answer a connect.
const CONNECT_TIME: Duration = Duration::from_secs(3);

async fn copy(from: Rc<TcpStream>, to: Rc<TcpStream>) -> io::Result<()> {
    loop {
        let bytes = from.read().await?;
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(bytes).await?;
    }
}

async fn proxy(client: TcpStream, to: SocketAddr) {
    let server = match timeout(CONNECT_TIME, TcpStream::connect(to)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => return eprintln!("cannot connect to {to}: {error}"),
        Err(elapsed) => return eprintln!("cannot connect to {to}: {elapsed}"),
    };
    let (client, server) = (Rc::new(client), Rc::new(server));
    // One direction is a task of its own; when this one ends, both streams are let go.
    let Ok(back) = spawn(copy(Rc::clone(&server), Rc::clone(&client))) else { return };
    match copy(client, server).await {
        Ok(()) => drop(back.await),
        Err(_) => back.cancel(),
    }
}

fn main() -> ExitCode {
    let Some(to) = std::env::args().nth(1).and_then(|text| text.parse::<SocketAddr>().ok()) else {
        eprintln!("usage: proxy_one ADDR:PORT   (where to connect for each client of 127.0.0.1:7001)");
        return ExitCode::from(2);
    };
    let started = Server::new(([127, 0, 0, 1], 7001).into()).start_tcp(move |client| proxy(client, to));
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    eprintln!("listening on {}, for {to}", running.addr());
    match running.wait() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
