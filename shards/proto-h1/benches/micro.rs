//! Micro benches of the HTTP/1.1 machine: from bytes to a head, from a head to an answer, chunks.
//!
//! Inputs are named after who sends such bytes. Throughput is in bytes of the input where something is read,
//! of the output where something is written, and in requests where several come at once.
//!
//! Not here: sockets and buffers (`net`), routing (`http`).

#![allow(clippy::unwrap_used)]

#[path = "../../base/benches/shared/mod.rs"]
mod shared;

use std::fmt;

use corelane_proto_h1::{
    BodyLength, CHUNK_END, Connection, HeaderSlots, LAST_CHUNK, Limits, ResponseHead, Step,
    encode_chunk_header, header_slots, write_date,
};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

/// A request by the name of its sender.
#[derive(Clone, Copy)]
struct Input {
    name: &'static str,
    bytes: &'static [u8],
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What wrk sends without options.
const WRK: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// What a reverse proxy sends on behalf of curl.
const PROXY: &[u8] = b"GET /api/v1/items/12345?limit=20 HTTP/1.1\r\n\
Host: api.example.com\r\n\
User-Agent: curl/8.14.1\r\n\
Accept: */*\r\n\
X-Forwarded-For: 203.0.113.9\r\n\
X-Forwarded-Proto: https\r\n\
X-Request-Id: 7b1a52c0e6f84d0f9a3c5c1d2e3f4a5b\r\n\r\n";

/// What a browser sends for a page.
const BROWSER: &[u8] = b"GET /shop/items/12345?ref=home&page=2 HTTP/1.1\r\n\
Host: www.example.com\r\n\
Connection: keep-alive\r\n\
Cache-Control: max-age=0\r\n\
Upgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Sec-Fetch-Site: same-origin\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-User: ?1\r\n\
Sec-Fetch-Dest: document\r\n\
Referer: https://www.example.com/shop\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-US,en;q=0.9\r\n\
Cookie: session=4f2c9d7b8a6e4e0d8b1c3a5f7e9d0b2c; theme=dark; consent=all\r\n\r\n";

/// The head of a form sent by a program; its body is not in it.
const POST: &[u8] = b"POST /echo HTTP/1.1\r\n\
Host: api.example.com\r\n\
User-Agent: okhttp/5.1.0\r\n\
Content-Type: application/json; charset=utf-8\r\n\
Content-Length: 1024\r\n\
Accept-Encoding: gzip\r\n\r\n";

/// As a client that does not know the length beforehand begins.
const UPLOAD: &[u8] = b"POST /upload HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n";

const INPUTS: [Input; 5] = [
    Input { name: "wrk", bytes: WRK },
    Input { name: "proxy", bytes: PROXY },
    Input { name: "browser", bytes: BROWSER },
    Input { name: "post", bytes: POST },
    Input { name: "upload", bytes: UPLOAD },
];

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// The answer of `/plaintext`, as the node writes it.
const PLAINTEXT: ResponseHead<'_> = ResponseHead {
    status: 200,
    headers: &[],
    content_type: Some("text/plain; charset=utf-8"),
    server: Some("corelane"),
};

/// Reads one head and gives what must not be optimised away.
fn parse<'i>(limits: &Limits, mut input: &'i [u8], slots: &mut HeaderSlots<'i>) -> usize {
    match Connection::new().poll(limits, &mut input, slots) {
        Step::Head(request) => request.target.path().len(),
        step => panic!("no head: {step:?}"),
    }
}

#[divan::bench(args = INPUTS)]
fn parse_head(bencher: Bencher<'_, '_>, input: Input) {
    let (limits, mut slots) = (Limits::default(), header_slots());
    let counted = bencher.counter(BytesCount::of_slice(input.bytes));
    counted.bench_warm(|| parse(&limits, black_box(input.bytes), &mut slots));
}

/// A head of a browser that comes in two receives, the cut in the middle of it.
#[divan::bench]
fn parse_head_in_two_reads(bencher: Bencher<'_, '_>) {
    let (limits, mut slots) = (Limits::default(), header_slots());
    bencher.counter(BytesCount::of_slice(BROWSER)).bench_warm(|| {
        let mut conn = Connection::new();
        let mut half = black_box(&BROWSER[..BROWSER.len() / 2]);
        assert!(matches!(conn.poll(&limits, &mut half, &mut slots), Step::NeedMore));
        let mut whole = black_box(BROWSER);
        matches!(conn.poll(&limits, &mut whole, &mut slots), Step::Head(_))
    });
}

/// A head that is refused: two lengths.
#[divan::bench]
fn refuse_head(bencher: Bencher<'_, '_>) {
    const BAD: &[u8] = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    let (limits, mut slots) = (Limits::default(), header_slots());
    bencher.counter(BytesCount::of_slice(BAD)).bench_warm(|| {
        let mut input = black_box(BAD);
        let step = Connection::new().poll(&limits, &mut input, &mut slots);
        assert!(matches!(step, Step::Reject(_)));
    });
}

/// Answers every request of `wire` on a kept connection. Returns how many.
fn answer_all<'i>(
    conn: &mut Connection,
    limits: &Limits,
    wire: &'i [u8],
    slots: &mut HeaderSlots<'i>,
    out: &mut Vec<u8>,
) -> usize {
    let mut unread = wire;
    let mut count = 0;
    out.clear();
    while let Step::Head(request) = conn.poll(limits, &mut unread, slots) {
        black_box(request.target.path());
        conn.respond(out, &PLAINTEXT, BodyLength::Known(13), DATE).unwrap();
        out.extend_from_slice(b"Hello, World!");
        conn.finish_response();
        count += 1;
    }
    assert!(conn.is_idle(), "all bytes were requests");
    count
}

/// Head, answer, head, answer, on one connection: 1 or 16 requests in what one receive brought.
#[divan::bench(args = [1, 16], sample_size = 64)]
fn answer_pipelined(bencher: Bencher<'_, '_>, requests: usize) {
    let (limits, mut slots) = (Limits::default(), header_slots());
    let wire = WRK.repeat(requests);
    let mut conn = Connection::new();
    let mut out = Vec::with_capacity(4096);
    bencher.counter(ItemsCount::new(requests)).bench_warm(|| {
        let count = answer_all(&mut conn, &limits, black_box(&wire), &mut slots, &mut out);
        assert_eq!(count, requests);
    });
}

/// A body of 64 KiB in chunks of one size.
fn chunked(chunk: usize) -> Vec<u8> {
    let mut wire = UPLOAD.to_vec();
    for _ in 0..65_536 / chunk {
        encode_chunk_header(&mut wire, chunk as u64);
        wire.resize(wire.len() + chunk, b'x');
        wire.extend_from_slice(CHUNK_END);
    }
    wire.extend_from_slice(LAST_CHUNK);
    wire
}

#[divan::bench(args = [16, 1024, 16_384])]
fn decode_chunks(bencher: Bencher<'_, '_>, chunk: usize) {
    let (limits, mut slots) = (Limits::default(), header_slots());
    let wire = chunked(chunk);
    bencher.counter(BytesCount::new(65_536_usize)).bench_warm(|| {
        let mut conn = Connection::new();
        let mut unread = black_box(&*wire);
        let mut count = 0;
        assert!(matches!(conn.poll(&limits, &mut unread, &mut slots), Step::Head(_)));
        loop {
            match conn.poll(&limits, &mut unread, &mut slots) {
                Step::Body(bytes) => count += bytes.len(),
                Step::End(_) => break,
                step => panic!("not of a body: {step:?}"),
            }
        }
        assert_eq!(count, 65_536);
    });
}

/// What an answer says, by name.
const ANSWERS: [&str; 4] = ["plaintext", "chunked", "not_found", "eight_fields"];

#[divan::bench(args = ANSWERS)]
fn write_head(bencher: Bencher<'_, '_>, name: &str) {
    const FIELDS: [(&str, &[u8]); 8] = [
        ("cache-control", b"no-store, max-age=0"),
        ("etag", b"\"5e9f8f8f-2b3c\""),
        ("last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        ("vary", b"accept-encoding, origin"),
        ("x-content-type-options", b"nosniff"),
        ("x-frame-options", b"DENY"),
        ("strict-transport-security", b"max-age=63072000; includeSubDomains"),
        ("set-cookie", b"session=4f2c9d7b8a6e4e0d8b1c3a5f7e9d0b2c; Path=/; Secure; HttpOnly"),
    ];
    let (head, length) = match name {
        "plaintext" => (PLAINTEXT, BodyLength::Known(13)),
        "chunked" => (PLAINTEXT, BodyLength::Unknown),
        "not_found" => (ResponseHead { status: 404, ..PLAINTEXT }, BodyLength::Known(0)),
        "eight_fields" => (ResponseHead { headers: &FIELDS, ..PLAINTEXT }, BodyLength::Known(10_000)),
        name => panic!("no answer is called {name}"),
    };
    let (limits, mut slots) = (Limits::default(), header_slots());
    let mut input = WRK;
    let mut asked = Connection::new();
    assert!(matches!(asked.poll(&limits, &mut input, &mut slots), Step::Head(_)));
    let mut out = Vec::with_capacity(4096);
    asked.clone().respond(&mut out, &head, length, DATE).unwrap();
    bencher.counter(BytesCount::of_slice(&*out)).bench_warm(|| {
        let mut conn = asked.clone();
        out.clear();
        conn.respond(&mut out, black_box(&head), length, DATE).unwrap()
    });
}

/// Once a second and shard.
#[divan::bench]
fn write_the_date(bencher: Bencher<'_, '_>) {
    let mut out = [0; 29];
    bencher.bench_warm(|| {
        write_date(black_box(1_700_000_000), &mut out);
        out[28]
    });
}
