//! Micro benches of the application side of HTTP: from a parsed head to a response, by one thread without
//! sockets.
//!
//! Every case calls an `App` with a head that was parsed beforehand, as a connection does. `dispatch` is the
//! way to a handler, `respond` what a handler gives back, `lookup` what it asks of its request.
//!
//! Not here: parsing and writing heads (`proto-h1`), connections (`net`).

#![allow(clippy::unwrap_used)]

mod dispatch;
mod lookup;
mod respond;
#[path = "../../../base/benches/shared/mod.rs"]
mod shared;

use corelane_http::{Answer, App};
use corelane_net::h1::{Connection, Limits, Request, Step, header_slots};
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

/// A browser's fields, so that a lookup has something to pass by.
const FIELDS: &str = "Host: www.example.com\r\n\
Connection: keep-alive\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-US,en;q=0.9\r\n\
Cookie: session=4f2c9d7b8a6e4e0d8b1c3a5f7e9d0b2c; theme=dark\r\n\
X-Request-Id: 7b1a52c0e6f84d0f9a3c5c1d2e3f4a5b\r\n";

/// wrk's fields.
const FEW_FIELDS: &str = "Host: localhost\r\nUser-Agent: wrk\r\nAccept: */*\r\n";

/// Parses a GET of `target` with `fields` and hands its head to `with`.
fn with_head(target: &str, fields: &str, with: impl FnOnce(&Request<'_, '_>)) {
    let wire = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
    let (mut slots, mut input) = (header_slots(), wire.as_bytes());
    match Connection::new().poll(&Limits::default(), &mut input, &mut slots) {
        Step::Head(head) => with(&head),
        step => panic!("no head: {step:?}"),
    }
}

/// Has `app` answer a GET of `target`, which it must with `status`; a future is dropped unpolled.
fn bench_get(bencher: Bencher<'_, '_>, app: &App<u64>, target: &str, fields: &str, status: Option<u16>) {
    with_head(target, fields, |head| {
        if let (Some(status), Answer::Now(response)) = (status, app.call_parsed(head, None, None)) {
            assert_eq!(response.status, status, "{target}");
        }
        bencher.bench_warm(|| app.call_parsed(black_box(head), None, None));
    });
}
