//! Counts what one pipelined plaintext request costs: run it under `valgrind --tool=callgrind`, or timed.
//!
//! `icount <httparse|parse|full> <requests>` prints a checksum, so that nothing can be optimised away, and the
//! nanoseconds a request took. Two counts of requests, subtracted, give instructions without start-up.

#![allow(clippy::disallowed_methods, reason = "a measuring tool reads the clock")]

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use corelane_proto_h1::{BodyLength, Connection, Limits, ResponseHead, Step, header_slots, write_date};

const REQUEST: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const PIPELINED: usize = 16;

fn httparse_only(input: &[u8]) -> u64 {
    let mut slots = [const { std::mem::MaybeUninit::uninit() }; 100];
    let mut sum = 0;
    let mut rest = input;
    while !rest.is_empty() {
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(rest, &mut slots) {
            Ok(httparse::Status::Complete(len)) => {
                sum += (len + request.headers.len() + request.path.map_or(0, str::len)) as u64;
                rest = &rest[len..];
            }
            _ => return 0,
        }
    }
    sum
}

fn machine(
    conn: &mut Connection,
    limits: &Limits,
    input: &[u8],
    out: Option<&mut Vec<u8>>,
    date: &[u8; 29],
) -> u64 {
    let mut slots = header_slots();
    let mut sum = 0;
    let mut rest = input;
    let mut out = out;
    let head = ResponseHead {
        content_type: Some("text/plain"),
        server: Some("corelane"),
        ..ResponseHead::default()
    };
    while let Step::Head(request) = conn.poll(limits, &mut rest, &mut slots) {
        sum += (request.host.map_or(0, <[u8]>::len) + request.target.path().len()) as u64;
        match &mut out {
            Some(out) => {
                if conn.respond(*out, &head, BodyLength::Known(13), date).is_err() {
                    return 0;
                }
                out.extend_from_slice(b"Hello, World!");
                conn.finish_response();
            }
            None => *conn = Connection::new(),
        }
    }
    sum + rest.len() as u64
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let requests: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let input = REQUEST.repeat(PIPELINED);
    let limits = Limits::default();
    let mut date = [0; 29];
    write_date(784_111_777, &mut date);
    let mut conn = Connection::new();
    let mut out = Vec::with_capacity(16 << 10);
    let mut sum = 0_u64;
    let start = Instant::now();
    for _ in 0..requests / PIPELINED {
        let input = black_box(&input[..]);
        sum += match mode.as_str() {
            "httparse" => httparse_only(input),
            "parse" => machine(&mut conn, &limits, input, None, &date),
            _ => {
                out.clear();
                machine(&mut conn, &limits, input, Some(&mut out), black_box(&date))
            }
        };
        black_box(&out);
    }
    let nanos = start.elapsed().as_nanos() as f64 / requests as f64;
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{mode}: checksum {sum}, {nanos:.1} ns a request, {} bytes out", out.len());
}
