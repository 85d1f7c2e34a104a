//! Answers: one framing each, checked fields, and what an own small reader finds in them.
#![allow(clippy::unwrap_used)]

use corelane_proto_h1::{
    BadHeader, BodyLength, BodyMode, CHUNK_END, Connection, HeadMemo, LAST_CHUNK, Limits, ResponseHead,
    StaticHead, Step, chunk_prefix, encode_chunk_header, header_slots, reason_phrase,
};
use proptest::prelude::*;

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// A connection that has read one request.
fn asked(request: &str) -> Connection {
    let mut conn = Connection::new();
    let mut input = request.as_bytes();
    assert!(matches!(conn.poll(&Limits::default(), &mut input, &mut header_slots()), Step::Head(_)));
    conn
}

fn get() -> Connection {
    asked("GET / HTTP/1.1\r\nHost: t\r\n\r\n")
}

/// Mode and text of the answer to `request`.
fn answer(request: &str, head: &ResponseHead<'_>, length: BodyLength) -> (BodyMode, String) {
    let mut out = Vec::new();
    let mode = asked(request).respond(&mut out, head, length, DATE).unwrap();
    (mode, String::from_utf8(out).unwrap())
}

#[test]
fn the_common_answer_is_byte_for_byte_this() {
    let head = ResponseHead {
        content_type: Some("text/plain"),
        server: Some("corelane"),
        headers: &[("X-A", b"b"), ("X-B", b"")],
        ..ResponseHead::default()
    };
    let (mode, text) = answer("GET / HTTP/1.1\r\nHost: t\r\n\r\n", &head, BodyLength::Known(13));
    assert_eq!(mode, BodyMode::Raw);
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: corelane\r\nContent-Type: text/plain\r\n\
         X-A: b\r\nX-B: \r\nContent-Length: 13\r\n\r\n"
    );
}

/// Everything a constant head can depend on, in an order in which neighbours differ in one thing or in all.
fn constant_answers() -> Vec<(&'static str, StaticHead, BodyLength, &'static [u8; 29])> {
    const LATER: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:38 GMT";
    let requests = [
        "GET / HTTP/1.1\r\nHost: t\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n",
    ];
    let types =
        [None, Some("text/plain"), Some("text/html"), Some("a/bcdefghijklmnopqrstuvwxyz0123456789abcdef")];
    let mut all = Vec::new();
    for date in [DATE, LATER] {
        for status in [200, 204, 404, 299] {
            for content_type in types {
                for server in [Some("corelane"), Some("core"), None] {
                    for length in
                        [BodyLength::Known(13), BodyLength::Known(14), BodyLength::None, BodyLength::Unknown]
                    {
                        for request in requests {
                            all.push((request, StaticHead { status, content_type, server }, length, date));
                        }
                    }
                }
            }
        }
    }
    all
}

#[test]
fn a_remembered_head_is_the_one_that_would_have_been_written() {
    let all = constant_answers();
    // Twice each, so that one is learnt and one remembered; then every seventh, so that all differs.
    let order = (0..all.len()).flat_map(|i| [i, i]).chain((0..all.len()).map(|i| i * 7 % all.len()));
    let mut memo = HeadMemo::default();
    for at in order {
        let (request, head, length, date) = all[at];
        let StaticHead { status, content_type, server } = head;
        let plain = ResponseHead { status, headers: &[], content_type, server };
        let (mut one, mut other) = (asked(request), asked(request));
        let (mut wanted, mut out) = (Vec::new(), Vec::new());
        let mode = one.respond(&mut wanted, &plain, length, date).unwrap();
        assert_eq!(other.respond_from(&mut memo, &mut out, head, length, date), Ok(mode));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            String::from_utf8(wanted).unwrap(),
            "{head:?} to {request}"
        );
        one.finish_response();
        other.finish_response();
        assert_eq!(one.must_close(), other.must_close());
    }
}

#[test]
fn a_bad_constant_is_refused_each_time_and_leaves_nothing_behind() {
    let good = StaticHead { status: 200, content_type: Some("text/plain"), server: None };
    let bad = StaticHead { content_type: Some("text/plain\r\nX: y"), ..good };
    let mut memo = HeadMemo::default();
    for _ in 0..2 {
        let (mut conn, mut out) = (asked("GET / HTTP/1.0\r\n\r\n"), Vec::new());
        let refused = conn.respond_from(&mut memo, &mut out, bad, BodyLength::Unknown, DATE);
        assert_eq!((refused, out.as_slice()), (Err(BadHeader::Value), &b""[..]));
        // The machine stands where it stood: a good head gives the whole answer.
        conn.respond_from(&mut memo, &mut out, good, BodyLength::Known(1), DATE).unwrap();
        assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n") && out.ends_with(b"Content-Length: 1\r\n\r\n"));
    }
    let status = StaticHead { status: 1000, ..good };
    let refused = get().respond_from(&mut memo, &mut Vec::new(), status, BodyLength::None, DATE);
    assert_eq!(refused, Err(BadHeader::Status));
}

#[test]
fn each_answer_has_the_one_framing_its_request_and_status_allow() {
    use BodyLength::{Known, None, Unknown};
    use BodyMode::{Chunked, NoBody, Raw, UntilClose};
    let get = "GET / HTTP/1.1\r\nHost: t\r\n\r\n";
    let head = "HEAD / HTTP/1.1\r\nHost: t\r\n\r\n";
    let old = "GET / HTTP/1.0\r\n\r\n";
    let kept = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let (cl0, cl7) = ("Content-Length: 0\r\n", "Content-Length: 7\r\n");
    let te = "Transfer-Encoding: chunked\r\n";
    let (close, alive) = ("Connection: close\r\n", "Connection: keep-alive\r\n");
    for (request, status, length, mode, framing) in [
        (get, 200, None, NoBody, cl0.to_owned()),
        (get, 200, Known(0), NoBody, cl0.to_owned()),
        (get, 200, Known(7), Raw, cl7.to_owned()),
        (get, 200, Unknown, Chunked, te.to_owned()),
        (get, 404, Known(7), Raw, cl7.to_owned()),
        (get, 204, None, NoBody, String::new()),
        (get, 204, Known(7), NoBody, String::new()),
        (get, 204, Unknown, NoBody, String::new()),
        (get, 205, Known(7), NoBody, cl0.to_owned()),
        (get, 304, Known(7), NoBody, String::new()),
        (get, 304, Unknown, NoBody, String::new()),
        (head, 200, None, NoBody, cl0.to_owned()),
        (head, 200, Known(7), NoBody, cl7.to_owned()),
        (head, 200, Unknown, NoBody, String::new()),
        (head, 304, Known(7), NoBody, String::new()),
        (old, 200, Known(7), Raw, format!("{close}{cl7}")),
        (old, 200, Unknown, UntilClose, close.to_owned()),
        (kept, 200, Known(7), Raw, format!("{alive}{cl7}")),
        (kept, 200, Unknown, UntilClose, close.to_owned()),
        (kept, 204, None, NoBody, alive.to_owned()),
    ] {
        let (got, text) = answer(request, &ResponseHead { status, ..ResponseHead::default() }, length);
        assert_eq!(got, mode, "{request:?} {status} {length:?}");
        let expected = format!(
            "HTTP/1.1 {status} {}\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n{framing}\r\n",
            reason_phrase(status)
        );
        assert_eq!(text, expected, "{request:?} {status} {length:?}");
    }
}

#[test]
fn an_answer_that_names_an_upgrade_says_so_in_connection() {
    let fields: &[(&str, &[u8])] = &[("Upgrade", b"websocket")];
    let head = ResponseHead { status: 426, headers: fields, ..ResponseHead::default() };
    let (_, kept) = answer("GET / HTTP/1.1\r\nHost: t\r\n\r\n", &head, BodyLength::None);
    assert!(kept.contains("\r\nConnection: upgrade\r\n"), "{kept}");
    let closing = "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let (_, closed) = answer(closing, &head, BodyLength::None);
    assert!(closed.contains("\r\nConnection: close, upgrade\r\n"), "{closed}");
}

#[test]
fn a_bad_head_leaves_nothing_in_the_sink_and_another_may_follow() {
    let bad_value = |value| ResponseHead { headers: value, ..ResponseHead::default() };
    let cases: &[(ResponseHead<'_>, BadHeader)] = &[
        (ResponseHead { status: 199, ..ResponseHead::default() }, BadHeader::Status),
        (ResponseHead { status: 100, ..ResponseHead::default() }, BadHeader::Status),
        (ResponseHead { status: 1000, ..ResponseHead::default() }, BadHeader::Status),
        (ResponseHead { status: 0, ..ResponseHead::default() }, BadHeader::Status),
        (bad_value(&[("X", b"a\r\nSet-Cookie: b")]), BadHeader::Value),
        (bad_value(&[("X", b"a\nb")]), BadHeader::Value),
        (bad_value(&[("X", b"a\rb")]), BadHeader::Value),
        (bad_value(&[("X", b"a\0b")]), BadHeader::Value),
        (bad_value(&[("X", b"12345678\n")]), BadHeader::Value),
        (bad_value(&[("X", b"\n12345678")]), BadHeader::Value),
        (bad_value(&[("X", b"1234567\x7f12345678")]), BadHeader::Value),
        (bad_value(&[("X: a\r\nY", b"")]), BadHeader::Name),
        (bad_value(&[("", b"a")]), BadHeader::Name),
        (bad_value(&[("X ", b"a")]), BadHeader::Name),
        (bad_value(&[("X:", b"a")]), BadHeader::Name),
        (bad_value(&[("A", b"b"), ("content-length", b"5")]), BadHeader::Framing),
        (bad_value(&[("Transfer-Encoding", b"chunked")]), BadHeader::Framing),
        (bad_value(&[("CONNECTION", b"close")]), BadHeader::Framing),
        (ResponseHead { content_type: Some("a\r\nb"), ..ResponseHead::default() }, BadHeader::Value),
        (ResponseHead { server: Some("corelane\n"), ..ResponseHead::default() }, BadHeader::Value),
    ];
    for (head, error) in cases {
        let mut conn = get();
        let mut out = Vec::new();
        assert_eq!(conn.respond(&mut out, head, BodyLength::None, DATE), Err(*error), "{head:?}");
        assert_eq!(out, b"");
        assert!(conn.respond(&mut out, &ResponseHead::default(), BodyLength::None, DATE).is_ok());
    }
    let mut out = Vec::new();
    let mut conn = asked("CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\n\r\n");
    let head = ResponseHead::default();
    assert_eq!(conn.respond(&mut out, &head, BodyLength::None, DATE), Err(BadHeader::Status));
}

#[test]
fn values_may_hold_tabs_and_bytes_beyond_ascii_and_the_date_may_be_foreign() {
    let date: &[u8] = b"Mon, 07 Nov 1994 08:49:37 GMT";
    let head = ResponseHead {
        headers: &[("X", b"a\tb\xc3\xa9 12345678"), ("date", date)],
        ..ResponseHead::default()
    };
    let mut out = Vec::new();
    get().respond(&mut out, &head, BodyLength::None, DATE).unwrap();
    assert_eq!(out.windows(29).filter(|w| w.ends_with(b"08:49:37 GMT")).count(), 1, "one date only");
    assert!(out.windows(date.len()).any(|w| w == date));
}

#[test]
#[should_panic(expected = "respond without a request")]
fn answering_nobody_is_our_own_fault() {
    let _ = Connection::new().respond(&mut Vec::new(), &ResponseHead::default(), BodyLength::None, DATE);
}

#[test]
#[should_panic(expected = "respond without a request")]
fn answering_twice_is_our_own_fault() {
    let mut conn = get();
    for _ in 0..2 {
        let _ = conn.respond(&mut Vec::new(), &ResponseHead::default(), BodyLength::None, DATE);
    }
}

#[test]
#[should_panic(expected = "a chunk of no bytes")]
fn an_empty_chunk_is_our_own_fault() {
    let _ = chunk_prefix(0);
}

proptest! {
    /// Heads and chunks written here are what httparse and the request decoder read.
    #[test]
    fn what_is_written_is_what_is_read(
        status in 200..600_u16,
        fields in prop::collection::vec(("[A-Za-z][A-Za-z0-9-]{0,20}", "[ -~\u{e9}\t]{0,40}"), 0..8),
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..5),
    ) {
        let fields: Vec<(&str, &[u8])> = fields.iter().map(|(n, v)| (n.as_str(), v.trim().as_bytes())).collect();
        let head = ResponseHead { status, headers: &fields, ..ResponseHead::default() };
        let mut out = Vec::new();
        let result = get().respond(&mut out, &head, BodyLength::Unknown, DATE);
        let reserved = ["connection", "content-length", "transfer-encoding"];
        if fields.iter().any(|(n, _)| reserved.contains(&n.to_ascii_lowercase().as_str())) {
            prop_assert_eq!(result, Err(BadHeader::Framing));
            return Ok(());
        }
        let mode = result.unwrap();
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut slots);
        prop_assert_eq!(response.parse(&out), Ok(httparse::Status::Complete(out.len())));
        prop_assert_eq!(response.code, Some(status));
        prop_assert_eq!(response.reason, Some(reason_phrase(status)));
        for (name, value) in &fields {
            prop_assert!(response.headers.iter().any(|h| h.name == *name && h.value == *value));
        }
        if mode == BodyMode::Chunked {
            let mut request = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in &chunks {
                encode_chunk_header(&mut request, chunk.len() as u64);
                request.extend_from_slice(chunk);
                request.extend_from_slice(CHUNK_END);
            }
            request.extend_from_slice(LAST_CHUNK);
            let limits = Limits::default();
            let trace = corelane_proto_h1::check::drive(&request, &[], &limits, Default::default());
            prop_assert_eq!(trace.body(), chunks.concat());
            prop_assert_eq!(trace.rejected(), None);
        } else {
            prop_assert!(matches!(status, 204 | 205 | 304));
        }
    }
}
