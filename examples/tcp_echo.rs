//! Plain TCP: every connection is a task, of the shard that accepted it, that sends back what it reads.
//!
//! `cargo run --release --example tcp_echo`, then `nc 127.0.0.1 7000`.

use corelane::{Server, StartError, TcpStream};

async fn echo(stream: TcpStream) {
    // An error is a peer that went away: nothing to say to it.
    while let Ok(bytes) = stream.read().await {
        if bytes.is_empty() || stream.write_all(bytes).await.is_err() {
            break;
        }
    }
}

fn main() -> Result<(), StartError> {
    let running = Server::new(([127, 0, 0, 1], 7000).into()).start_tcp(echo)?;
    eprintln!("listening on {}", running.addr());
    running.wait()
}
