//! The node's routes, and `GET /exit`, which ends the process from inside the shard's turn.
//!
//! For counting instructions with callgrind: valgrind holds its lock while a thread sleeps in the ring, so a
//! signal cannot end the program and no count would be written. See `scripts/icount`.

use corelane::{Response, Server, StartError};

fn main() -> Result<(), StartError> {
    let listen = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let Some(listen) = listen else {
        eprintln!("usage: icount ADDR:PORT");
        std::process::exit(2);
    };
    Server::new(listen)
        .shards(1)
        .serve(|_shard| corelane::node::app().get("/exit", |_| -> Response { std::process::exit(0) }))
}
