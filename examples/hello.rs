//! The smallest service: two routes, on every core.
//!
//! `cargo run --release --example hello`, then `curl http://127.0.0.1:8080/hello/you`.

use corelane::{App, Server, StartError};

fn main() -> Result<(), StartError> {
    let running = Server::new(([127, 0, 0, 1], 8080).into()).start(|_shard| {
        App::new(())
            .get("/", |_| "hello\n")
            .get("/hello/{name}", |request| request.param("name").map(|name| format!("hello, {name}\n")))
    })?;
    eprintln!("listening on http://{}", running.addr());
    running.wait()
}
