//! The HTTP/1.1 machine alone: request heads in, answer heads out.
//!
//! Not here: routes and bodies made by handlers (`http`), connections (`shard`).

use std::hint::black_box;

use corelane_net::h1::{
    BodyKind, BodyLength, Connection, HeaderSlots, Limits, ResponseHead, Step, header_slots,
};

use super::{Case, ROUND, SELDOM};

/// As wrk words it.
pub(super) const GET: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// As a browser does: 12 fields.
const BROWSER: &[u8] = b"GET /articles/2023/11/index.html?ref=home&page=2 HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.org/\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Priority: u=0, i\r\n\r\n";

/// With a body of 16 bytes.
const POST: &[u8] =
    b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/octet-stream\r\n\
    Content-Length: 16\r\n\r\n0123456789abcdef";

/// Requests of a pipelined burst.
const BURST: usize = 16;

/// The `Date` of every answer.
const DATE: &[u8; 29] = b"Tue, 14 Nov 2023 22:13:20 GMT";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "h1/parse-get",
        about: "a GET as wrk words it, on a fresh connection: to the parsed head",
        ops: SELDOM,
        run: |ops| parse(GET, ops),
    },
    Case {
        name: "h1/parse-browser",
        about: "the same for a GET of a browser, 12 fields",
        ops: SELDOM,
        run: |ops| parse(BROWSER, ops),
    },
    Case {
        name: "h1/parse-post",
        about: "the same for a POST with Content-Length, without its body",
        ops: SELDOM,
        run: |ops| parse(POST, ops),
    },
    Case {
        name: "h1/exchange-get-x16",
        about: "one of 16 pipelined GETs: parsed, and answered by a head without a body",
        ops: SELDOM,
        run: |ops| exchange(GET, ops),
    },
    Case {
        name: "h1/exchange-browser-x16",
        about: "the same for GETs of a browser",
        ops: SELDOM,
        run: |ops| exchange(BROWSER, ops),
    },
    Case {
        name: "h1/exchange-post-x16",
        about: "the same for POSTs, whose bodies are read",
        ops: SELDOM,
        run: |ops| exchange(POST, ops),
    },
    Case {
        name: "h1/respond-plaintext",
        about: "head and 13 bytes of text, on a connection that owes an answer",
        ops: SELDOM,
        run: |ops| respond("text/plain", b"Hello, World!", ops),
    },
    Case {
        name: "h1/respond-json",
        about: "head and 27 bytes of JSON that is there already",
        ops: SELDOM,
        run: |ops| respond("application/json", b"{\"message\":\"Hello, World!\"}", ops),
    },
];

/// Parses the head, as the first one of a connection.
fn parse(wire: &'static [u8], ops: u64) {
    let limits = Limits::default();
    let mut slots = header_slots();
    let mut paths = 0;
    for _ in 0..ops {
        let mut input = black_box(wire);
        let mut connection = Connection::new();
        match connection.poll(&limits, &mut input, &mut slots) {
            Step::Head(head) => paths += black_box(&head).target.path().len() as u64,
            step => panic!("not a whole head: {step:?}"),
        }
        black_box(&connection);
    }
    assert!(paths >= ops, "paths of {paths} bytes in {ops} heads");
}

/// Bursts on one connection: each request is read to its end and answered.
fn exchange(wire: &'static [u8], ops: u64) {
    let limits = Limits::default();
    let burst = wire.repeat(BURST);
    let burst: &[u8] = &burst;
    let mut slots: HeaderSlots<'_> = header_slots();
    let mut connection = Connection::new();
    let mut out = Vec::with_capacity(16 << 10);
    let mut answers = 0;
    for _ in 0..ops / BURST as u64 {
        let mut input = black_box(burst);
        out.clear();
        while !input.is_empty() || connection.in_request() {
            let whole = match connection.poll(&limits, &mut input, &mut slots) {
                Step::Head(head) => black_box(&head).body == BodyKind::None,
                Step::Body(bytes) => {
                    black_box(bytes);
                    false
                }
                Step::End(_) => true,
                step => panic!("not a burst of whole requests: {step:?}"),
            };
            if whole {
                let head = ResponseHead { server: Some("corelane"), ..ResponseHead::default() };
                let mode = connection.respond(&mut out, &head, BodyLength::None, black_box(DATE));
                assert!(mode.is_ok(), "{mode:?}");
                connection.finish_response();
                answers += 1;
            }
        }
        black_box(&out);
    }
    assert_eq!(answers, ops);
}

const _: () = assert!(ROUND.is_multiple_of(BURST as u64));

/// Writes one answer. The connection that owes it is a copy each time: 64 bytes.
fn respond(content_type: &'static str, body: &'static [u8], ops: u64) {
    let mut slots = header_slots();
    let mut owing = Connection::new();
    let step = owing.poll(&Limits::default(), &mut { GET }, &mut slots);
    assert!(matches!(step, Step::Head(_)), "{step:?}");
    let mut out = Vec::with_capacity(1024);
    for _ in 0..ops {
        let mut connection = black_box(&owing).clone();
        out.clear();
        let head = ResponseHead {
            content_type: Some(black_box(content_type)),
            server: Some("corelane"),
            ..ResponseHead::default()
        };
        let length = BodyLength::Known(black_box(body).len() as u64);
        let mode = connection.respond(&mut out, &head, length, black_box(DATE));
        assert!(mode.is_ok(), "{mode:?}");
        out.extend_from_slice(black_box(body));
        connection.finish_response();
        black_box((&out, &connection));
    }
    assert!(out.ends_with(body), "{}", String::from_utf8_lossy(&out));
}
