//! Every limit: standing on it is accepted, one step further is refused, however the bytes are cut.
#![allow(clippy::unwrap_used)]

mod common;

use common::{refused_while_open, trace_with};
use corelane_proto_h1::check::{Policy, drive};
use corelane_proto_h1::{HEADERS_MAX, Limits, Why};

const EOF: Policy = Policy { answer_first: false, send_continue: false, upgrade: false, eof: true };

/// `on` passes under `limits`; `over` is refused for `why`, also while the peer holds the connection open.
fn assert_limit(limits: &Limits, on: &[u8], over: &[u8], why: Why) {
    let accepted = trace_with(on, limits, EOF);
    assert_eq!(accepted.rejected(), None, "{:?}", String::from_utf8_lossy(on));
    assert_eq!(accepted.heads().len(), 1);
    assert_eq!(trace_with(over, limits, EOF).rejected(), Some(why), "{:?}", String::from_utf8_lossy(over));
    assert_eq!(drive(over, &[], limits, Policy::default()).rejected(), Some(why));
}

#[test]
fn a_request_line_may_be_as_long_as_its_limit() {
    let limits = Limits { line_bytes_max: 40, ..Limits::default() };
    let line = |len: usize| format!("GET /{} HTTP/1.1", "a".repeat(len - 14));
    assert_eq!(line(40).len(), 40);
    let request = |len: usize| format!("{}\r\nHost: t\r\n\r\n", line(len)).into_bytes();
    assert_limit(&limits, &request(40), &request(41), Why::LineTooLong);
    let later = |len: usize| String::from_utf8(request(len)).unwrap().replace("1.1", "1.7").into_bytes();
    assert_limit(&limits, &later(40), &later(41), Why::LineTooLong);
    let default = Limits::default();
    let old = |len: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(len - 14)).into_bytes();
    assert_limit(&default, &old(16 << 10), &old((16 << 10) + 1), Why::LineTooLong);
    assert!(old(8_000).len() > 8_000, "RFC 9112, 3 asks for 8000");
}

#[test]
fn a_request_line_that_never_ends_is_refused_at_its_limit() {
    let endless = [b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat();
    assert_eq!(refused_while_open(&endless), Some(Why::LineTooLong));
    assert_eq!(refused_while_open(&endless[..16 << 10]), None);
    assert_eq!(refused_while_open(&endless[..(16 << 10) + 2]), Some(Why::LineTooLong));
    assert_eq!(refused_while_open(&vec![b'A'; 1 << 20]), Some(Why::LineTooLong));
    // Dripped in, it is refused there too, not at the next doubling.
    let cuts: Vec<usize> = (1..(16 << 10) + 3).collect();
    let trace = drive(&endless[..(16 << 10) + 2], &cuts, &Limits::default(), Policy::default());
    assert_eq!(trace.rejected(), Some(Why::LineTooLong));
}

#[test]
fn a_head_may_be_as_large_as_its_limit() {
    let limits = Limits { head_bytes_max: 100, ..Limits::default() };
    let request =
        |len: usize| format!("GET / HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "a".repeat(len - 32)).into_bytes();
    assert_eq!(request(100).len(), 100);
    assert_limit(&limits, &request(100), &request(101), Why::HeadTooLong);
    let default = Limits::default();
    assert_limit(&default, &request(32 << 10), &request((32 << 10) + 1), Why::HeadTooLong);
    assert_limit(&default, &request(32 << 10), &request(128 << 10), Why::HeadTooLong);
    let name = format!("GET / HTTP/1.1\r\nHost: t\r\n{}: a\r\n\r\n", "a".repeat(128 << 10));
    assert_eq!(refused_while_open(name.as_bytes()), Some(Why::HeadTooLong));
    // The next request does not count.
    let two = [request(32 << 10), request(32 << 10)].concat();
    assert_eq!(drive(&two, &[], &default, EOF).heads().len(), 2);
}

#[test]
fn a_head_may_have_as_many_fields_as_its_limit() {
    let request = |count: usize| {
        format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", "X: a\r\n".repeat(count - 1)).into_bytes()
    };
    let limits = Limits { headers_max: 3, ..Limits::default() };
    assert_limit(&limits, &request(3), &request(4), Why::TooManyFields);
    assert_limit(&Limits::default(), &request(100), &request(101), Why::TooManyFields);
    let later = |count: usize| String::from_utf8(request(count)).unwrap().replace("1.1", "1.2").into_bytes();
    assert_limit(&limits, &later(3), &later(4), Why::TooManyFields);
    let clamped = Limits { headers_max: u16::MAX, ..Limits::default() };
    assert_limit(&clamped, &request(HEADERS_MAX), &request(HEADERS_MAX + 1), Why::TooManyFields);
    // Fields without end are refused at whichever limit comes first.
    let endless = format!("GET / HTTP/1.1\r\nHost: t\r\n{}", "X: a\r\n".repeat(200_000));
    assert_eq!(refused_while_open(endless.as_bytes()), Some(Why::TooManyFields));
}

#[test]
fn as_many_empty_lines_as_the_limit_are_skipped() {
    let request =
        |count: usize| format!("{}GET / HTTP/1.1\r\nHost: t\r\n\r\n", "\r\n".repeat(count)).into_bytes();
    assert_limit(&Limits::default(), &request(2), &request(3), Why::EmptyLines);
    let none = Limits { empty_lines_max: 0, ..Limits::default() };
    assert_limit(&none, &request(0), &request(1), Why::EmptyLines);
    assert_eq!(refused_while_open("\r\n".repeat(20_000).as_bytes()), Some(Why::EmptyLines));
}

#[test]
fn a_body_may_be_as_long_as_its_limit() {
    let limits = Limits { body_bytes_max: 10, ..Limits::default() };
    let head = "POST / HTTP/1.1\r\nHost: t\r\n";
    let length = |len: usize| format!("{head}Content-Length: {len}\r\n\r\n{}", "b".repeat(len)).into_bytes();
    assert_limit(&limits, &length(10), &length(11), Why::BodyTooLong);
    let chunks = |sizes: &[usize]| {
        let chunks: String = sizes.iter().map(|&n| format!("{n:x}\r\n{}\r\n", "b".repeat(n))).collect();
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n").into_bytes()
    };
    assert_limit(&limits, &chunks(&[10]), &chunks(&[11]), Why::BodyTooLong);
    assert_limit(&limits, &chunks(&[1; 10]), &chunks(&[1; 11]), Why::BodyTooLong);
    assert_limit(&limits, &chunks(&[9, 1]), &chunks(&[9, 2]), Why::BodyTooLong);
    assert_limit(&Limits::default(), &length(1 << 20), &length((1 << 20) + 1), Why::BodyTooLong);
    assert_limit(&Limits::default(), &chunks(&[1 << 16; 16]), &chunks(&[1 << 16; 17]), Why::BodyTooLong);
    // The size alone is enough: no data has to come.
    let size = format!("{head}Transfer-Encoding: chunked\r\n\r\nb\r\n");
    assert_eq!(drive(size.as_bytes(), &[], &limits, Policy::default()).rejected(), Some(Why::BodyTooLong));
}

#[test]
fn chunk_extensions_may_be_as_long_as_their_limit_over_one_message() {
    let limits = Limits { chunk_ext_bytes_max: 20, ..Limits::default() };
    let with = |sizes: &[usize]| {
        let chunks: String = sizes.iter().map(|&n| format!("1;{}\r\nb\r\n", "x".repeat(n - 1))).collect();
        format!("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
            .into_bytes()
    };
    assert_limit(&limits, &with(&[20]), &with(&[21]), Why::ChunkExtensionsTooLong);
    assert_limit(&limits, &with(&[10, 10]), &with(&[10, 11]), Why::ChunkExtensionsTooLong);
    assert_limit(&Limits::default(), &with(&[4 << 10]), &with(&[(4 << 10) + 1]), Why::ChunkExtensionsTooLong);
    let two = [with(&[20]), with(&[20])].concat();
    assert_eq!(drive(&two, &[], &limits, EOF).heads().len(), 2, "each message has its own allowance");
}

#[test]
fn a_trailer_section_may_be_as_large_as_its_limit() {
    let limits = Limits { trailer_bytes_max: 30, ..Limits::default() };
    let with = |len: usize| {
        let value = "a".repeat(len - 7);
        format!("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {value}\r\n\r\n")
            .into_bytes()
    };
    assert_limit(&limits, &with(30), &with(31), Why::TrailerTooLong);
    assert_limit(&Limits::default(), &with(8 << 10), &with((8 << 10) + 1), Why::TrailerTooLong);
    let endless = [with(10), b"X: a\r\n".repeat(100_000)].concat();
    let open = &endless[..endless.len() - 2];
    assert_eq!(
        refused_while_open(&[&with(10)[..with(10).len() - 2], &b"X: a\r\n".repeat(9_000)[..]].concat()),
        Some(Why::TrailerTooLong)
    );
    assert_eq!(
        refused_while_open(open),
        Some(Why::MethodSyntax),
        "behind a whole message they are no trailers"
    );
}

#[test]
fn an_unread_body_is_swallowed_up_to_its_limit() {
    let limits = Limits { drain_bytes_max: 12, ..Limits::default() };
    let policy = Policy { answer_first: true, eof: true, ..Policy::default() };
    let get = "GET /next HTTP/1.1\r\nHost: t\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: t\r\n";
    let length = |len: usize| format!("{post}Content-Length: {len}\r\n\r\n{}{get}", "b".repeat(len));
    assert_eq!(trace_with(length(12).as_bytes(), &limits, policy).heads().len(), 2);
    assert_eq!(trace_with(length(13).as_bytes(), &limits, policy).heads().len(), 1);
    // Chunked: everything counts, and it is only known while it comes.
    let chunks = |body: &str| format!("{post}Transfer-Encoding: chunked\r\n\r\n{body}{get}");
    assert_eq!(trace_with(chunks("2\r\nbb\r\n0\r\n\r\n").as_bytes(), &limits, policy).heads().len(), 2);
    assert_eq!(trace_with(chunks("3\r\nbbb\r\n0\r\n\r\n").as_bytes(), &limits, policy).heads().len(), 1);
    // A fault in a body that is only swallowed ends the connection without a second answer.
    let trace = trace_with(chunks("x\r\n").as_bytes(), &limits, policy);
    assert_eq!((trace.heads().len(), trace.rejected()), (1, None));
}
