//! What the way from a parsed head to a response costs, in nanoseconds of one core. Tiny under `cargo test`.
//!
//! The best of many short batches, so that a busy machine disturbs little.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::Instant;

use corelane_http::{Answer, App, OwnedRequest};
use corelane_net::h1::{Connection, Limits, Step, header_slots};

fn app(middleware: bool) -> App<u64> {
    let app = App::new(7)
        .get("/", |_| "root")
        .get("/plaintext", |_| "hello")
        .get("/json", |_| "{}")
        .get("/health", |_| "ok")
        .get("/api/v1/settings/current", |_| "settings")
        .get("/users/{id}", |request| request.param("id").map_or("none", |_| "user"))
        .get("/users/{id}/posts/{post}", |request| request.param("post").map_or("none", |_| "post"))
        .get_async("/later", async |_: OwnedRequest<u64>| "later");
    if middleware { app.middleware(corelane_http::Log) } else { app }
}

fn measure(name: &str, app: &App<u64>, path: &str, (batches, rounds): (u32, u32)) {
    let wire = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: wrk\r\nAccept: */*\r\n\r\n");
    let mut slots = header_slots();
    let mut input = wire.as_bytes();
    let Step::Head(head) = Connection::new().poll(&Limits::default(), &mut input, &mut slots) else {
        panic!("{path}")
    };
    let mut checksum = 0;
    let mut best = f64::MAX;
    for _ in 0..batches {
        let start = Instant::now();
        for _ in 0..rounds {
            match app.call_parsed(black_box(&head), None, None) {
                Answer::Now(response) => checksum += response.body.length().unwrap_or(0),
                Answer::Later(future) => {
                    black_box(&future);
                    checksum += 1;
                }
            }
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds));
    }
    println!("{name:<28} {best:>7.1} ns  checksum {checksum}");
}

fn main() {
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let rounds = if is_bench { (2_000, 5_000) } else { (2, 5) };
    let plain = app(false);
    for (name, path) in [
        ("literal, short", "/plaintext"),
        ("literal, root", "/"),
        ("literal, 24 bytes", "/api/v1/settings/current"),
        ("one parameter", "/users/12345"),
        ("two parameters", "/users/12345/posts/678"),
        ("not found", "/nowhere"),
        ("async, head copied", "/later"),
    ] {
        measure(name, &plain, path, rounds);
    }
    measure("literal, one middleware", &app(true), "/plaintext", rounds);
}
