//! The life of a connection: answers, expectations, unread bodies, upgrades, refusals and ends.
#![allow(clippy::unwrap_used)]

use corelane_proto_h1::{
    BadHeader, BodyKind, BodyLength, BodyMode, Connection, EofKind, Limits, Reject, ResponseHead, Step, Why,
    header_slots,
};

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n";

/// A connection with its unread input and what it sent.
#[derive(Default)]
struct Pair {
    conn: Connection,
    input: Vec<u8>,
    sent: Vec<u8>,
}

impl Pair {
    fn new(input: &[u8]) -> Self {
        Self { input: input.to_vec(), ..Self::default() }
    }

    /// The name of the next step, with its bytes where it has some.
    fn step(&mut self) -> String {
        let mut rest = &self.input[..];
        let step = match self.conn.poll(&Limits::default(), &mut rest, &mut header_slots()) {
            Step::NeedMore => "more".to_owned(),
            Step::Head(request) => format!("head {}", request.method.as_str()),
            Step::Body(body) => format!("body {}", String::from_utf8_lossy(body)),
            Step::End(trailers) => format!("end {}", trailers.iter().count()),
            Step::AwaitResponse => "await".to_owned(),
            Step::Upgraded => "upgraded".to_owned(),
            Step::Closed => "closed".to_owned(),
            Step::Reject(reject) => format!("reject {}", reject.status),
        };
        self.input = rest.to_vec();
        step
    }

    fn steps(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.step(), *expected);
        }
    }

    /// Answers whole and gives the text of that answer.
    fn answer(&mut self, status: u16, length: BodyLength) -> String {
        let start = self.sent.len();
        let head = ResponseHead { status, ..ResponseHead::default() };
        let mode = self.conn.respond(&mut self.sent, &head, length, DATE).unwrap();
        if mode == BodyMode::Raw {
            self.sent.extend_from_slice(b"ok");
        }
        self.conn.finish_response();
        String::from_utf8(self.sent[start..].to_vec()).unwrap()
    }
}

#[test]
fn the_next_head_waits_for_the_answer() {
    let mut pair = Pair::new(&[GET, GET].concat());
    assert!(pair.conn.is_idle());
    pair.steps(&["head GET", "await", "await"]);
    assert!(pair.conn.awaiting_response() && pair.conn.in_request() && !pair.conn.is_idle());
    assert_eq!(pair.input, GET);
    pair.answer(200, BodyLength::Known(2));
    assert!(pair.conn.is_idle() && !pair.conn.in_request());
    pair.steps(&["head GET", "await"]);
    pair.answer(200, BodyLength::Known(2));
    pair.steps(&["more"]);
    assert!(!pair.conn.must_close());
}

#[test]
fn a_body_comes_in_pieces_then_ends_then_waits() {
    let mut pair = Pair::new(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhe");
    pair.steps(&["head POST"]);
    assert!(pair.conn.wants_body());
    pair.steps(&["body he", "more"]);
    pair.input = b"lloGET".to_vec();
    pair.steps(&["body llo", "end 0", "await"]);
    assert!(!pair.conn.wants_body());
    assert_eq!(pair.input, b"GET");
    let mut pair = Pair::new(
        b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\nX: a\r\n",
    );
    pair.steps(&["head POST", "body he", "more"]);
    assert!(pair.conn.wants_body());
    pair.input.extend_from_slice(b"\r\n");
    pair.steps(&["end 1", "await"]);
}

#[test]
fn an_answer_may_begin_before_the_body_is_read() {
    let mut pair = Pair::new(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\n");
    pair.steps(&["head POST", "more"]);
    let head = ResponseHead::default();
    let mode = pair.conn.respond(&mut pair.sent, &head, BodyLength::Unknown, DATE).unwrap();
    assert_eq!(mode, BodyMode::Chunked);
    assert!(pair.conn.response_started() && !pair.conn.awaiting_response());
    pair.input = b"hello".to_vec();
    pair.steps(&["body hello", "end 0", "await"]);
    pair.conn.finish_response();
    pair.input = GET.to_vec();
    pair.steps(&["head GET"]);
}

#[test]
fn continue_is_sent_once_and_only_while_the_body_has_not_begun() {
    let head = b"POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut pair = Pair::new(head);
    pair.steps(&["head POST", "more"]);
    assert!(pair.conn.expects_continue());
    pair.conn.respond_continue(&mut pair.sent);
    pair.conn.respond_continue(&mut pair.sent);
    assert_eq!(pair.sent, b"HTTP/1.1 100 Continue\r\n\r\n");
    pair.input = b"hello".to_vec();
    pair.steps(&["body hello", "end 0"]);
    assert!(!pair.answer(200, BodyLength::Known(2)).contains("close"));

    let mut pair = Pair::new(&[&head[..], b"he"].concat());
    pair.steps(&["head POST", "body he"]);
    assert!(!pair.conn.expects_continue());
    pair.conn.respond_continue(&mut pair.sent);
    assert_eq!(pair.sent, b"");
}

#[test]
fn a_final_answer_instead_of_continue_ends_the_connection() {
    let mut pair =
        Pair::new(b"POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    pair.steps(&["head POST", "more"]);
    assert!(pair.answer(404, BodyLength::Known(2)).contains("Connection: close\r\n"));
    assert!(pair.conn.must_close());
    pair.input = GET.to_vec();
    pair.steps(&["closed", "closed"]);
    pair.conn.respond_continue(&mut pair.sent);
    assert!(!pair.sent.ends_with(b"Continue\r\n\r\n"));
}

#[test]
fn an_error_that_leaves_a_large_body_unread_says_close() {
    let head = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n";
    let mut pair = Pair::new(head);
    pair.steps(&["head POST"]);
    assert!(pair.answer(404, BodyLength::Known(2)).contains("Connection: close\r\n"));
    pair.steps(&["closed"]);
    // A success may come before the body is read; only leaving it unread ends the connection.
    let mut pair = Pair::new(head);
    pair.steps(&["head POST"]);
    assert!(!pair.answer(200, BodyLength::Known(2)).contains("close"));
    assert!(pair.conn.must_close());
    pair.steps(&["closed"]);
}

#[test]
fn a_small_unread_body_is_swallowed_and_is_no_request() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n";
    let mut pair = Pair::new(
        format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{}", smuggled.len(), &smuggled[..9])
            .as_bytes(),
    );
    pair.steps(&["head POST"]);
    assert!(!pair.answer(404, BodyLength::Known(2)).contains("close"));
    assert!(pair.conn.in_request() && !pair.conn.wants_body() && !pair.conn.must_close());
    pair.steps(&["more"]);
    pair.input = [&smuggled.as_bytes()[9..], GET].concat();
    pair.steps(&["head GET", "await"]);
    assert_eq!(pair.input, b"");
}

#[test]
fn closing_is_announced_by_the_answer_and_ends_reading() {
    let mut pair = Pair::new(&[GET, GET].concat());
    pair.steps(&["head GET"]);
    pair.conn.close_after_response();
    assert!(!pair.conn.must_close());
    assert!(pair.answer(200, BodyLength::None).contains("Connection: close\r\nContent-Length: 0\r\n\r\n"));
    assert!(pair.conn.must_close());
    pair.steps(&["closed"]);
    // While a small body is swallowed, and while nothing is going on.
    let mut pair = Pair::new(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n");
    pair.steps(&["head POST"]);
    pair.answer(200, BodyLength::None);
    pair.conn.close_after_response();
    pair.input = [b"hi", GET].concat();
    pair.steps(&["closed"]);
    let mut pair = Pair::new(GET);
    pair.conn.close_after_response();
    pair.steps(&["head GET"]);
    assert!(pair.answer(200, BodyLength::None).contains("Connection: close\r\n"));
}

#[test]
fn a_refusal_is_one_whole_answer_with_close() {
    let mut pair = Pair::new(b"GET / HTTP/1.1\r\n\r\n");
    pair.steps(&["reject 400", "closed"]);
    pair.conn.reject(&mut pair.sent, &Reject::from(Why::HostMissing), DATE);
    assert_eq!(
        String::from_utf8(pair.sent.clone()).unwrap(),
        "HTTP/1.1 400 Bad Request\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n\
         Connection: close\r\nContent-Length: 19\r\n\r\nHost field missing\n"
    );
    assert!(pair.conn.must_close() && !pair.conn.in_request());
    for why in Why::ALL {
        let mut out = Vec::new();
        Connection::new().reject(&mut out, &Reject::from(*why), DATE);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {} ", why.status())), "{text}");
        assert!(
            text.ends_with(&format!("Content-Length: {}\r\n\r\n{why}\n", why.as_str().len() + 1)),
            "{text}"
        );
    }
}

#[test]
fn a_refused_head_request_gets_no_content() {
    for input in ["HEAD / HTTP/1.1\r\n\r\n", "HEAD / HTTP/9.9\r\n\r\n", "HEAD /\0"] {
        let mut pair = Pair::new(input.as_bytes());
        let step = pair.step();
        assert!(step.starts_with("reject"), "{step}");
        pair.conn.reject(&mut pair.sent, &Reject::from(Why::HostMissing), DATE);
        assert!(pair.sent.ends_with(b"Content-Length: 19\r\n\r\n"));
    }
}

#[test]
fn a_refusal_behind_the_head_of_an_answer_writes_nothing() {
    let mut pair = Pair::new(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nx");
    pair.steps(&["head POST"]);
    pair.conn.respond(&mut pair.sent, &ResponseHead::default(), BodyLength::Unknown, DATE).unwrap();
    let sent = pair.sent.len();
    pair.steps(&["reject 400", "closed"]);
    pair.conn.reject(&mut pair.sent, &Reject::from(Why::ChunkSize), DATE);
    assert_eq!(pair.sent.len(), sent);
    assert!(pair.conn.must_close());
}

#[test]
fn the_application_may_answer_a_broken_body_itself() {
    let mut pair = Pair::new(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nx");
    pair.steps(&["head POST", "reject 400"]);
    assert!(pair.conn.awaiting_response());
    assert!(pair.answer(422, BodyLength::None).contains("Connection: close\r\n"));
    assert!(pair.conn.must_close());
}

#[test]
fn deadlines_are_answered_at_any_point() {
    let mut pair = Pair::new(b"GET / HTTP/1.1\r\nHo");
    assert!(!pair.conn.head_started());
    pair.steps(&["more"]);
    assert!(pair.conn.head_started() && !pair.conn.is_idle());
    pair.conn.reject(&mut pair.sent, &Reject::from(Why::HeadTimeout), DATE);
    assert!(pair.sent.starts_with(b"HTTP/1.1 408 "));
    pair.steps(&["closed"]);
    let mut pair = Pair::new(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhe");
    pair.steps(&["head POST", "body he", "more"]);
    pair.conn.reject(&mut pair.sent, &Reject::from(Why::BodyTimeout), DATE);
    assert!(pair.sent.starts_with(b"HTTP/1.1 408 ") && pair.conn.must_close());
}

#[test]
fn an_upgrade_hands_over_every_later_byte() {
    let asked = b"GET /ws HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut pair = Pair::new(&[&asked[..], b"\x81\x00", GET].concat());
    pair.steps(&["head GET", "await"]);
    let head = ResponseHead { headers: &[("Upgrade", b"websocket")], ..ResponseHead::default() };
    pair.conn.upgrade(&mut pair.sent, &head).unwrap();
    assert_eq!(
        pair.sent,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    pair.steps(&["upgraded", "closed", "closed"]);
    assert_eq!(pair.input, [b"\x81\x00", GET].concat());
    assert!(pair.conn.is_upgraded() && !pair.conn.must_close() && !pair.conn.in_request());
    pair.conn.reject(&mut pair.sent, &Reject::from(Why::BodyTimeout), DATE);
    assert!(pair.sent.ends_with(b"websocket\r\n\r\n"), "no HTTP after HTTP");
}

#[test]
fn an_upgrade_that_cannot_be_is_refused_and_leaves_http_as_it_was() {
    let asked = b"GET /ws HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let good = ResponseHead { headers: &[("Upgrade", b"websocket")], ..ResponseHead::default() };
    let mut pair = Pair::new(&[&asked[..], GET].concat());
    pair.steps(&["head GET"]);
    let bad = ResponseHead::default();
    assert_eq!(pair.conn.upgrade(&mut pair.sent, &bad), Err(BadHeader::UpgradeMissing));
    let bad = ResponseHead { headers: &[("Upgrade", b"a\r\nb")], ..bad };
    assert_eq!(pair.conn.upgrade(&mut pair.sent, &bad), Err(BadHeader::Value));
    assert_eq!(pair.sent, b"");
    pair.answer(426, BodyLength::None);
    pair.steps(&["head GET"]);
    assert_eq!(pair.conn.upgrade(&mut pair.sent, &good), Err(BadHeader::Status), "not asked for");
    // Not before the body is read.
    let with_body =
        b"GET /ws HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi";
    let mut pair = Pair::new(with_body);
    pair.steps(&["head GET"]);
    assert_eq!(pair.conn.upgrade(&mut pair.sent, &good), Err(BadHeader::Status));
    pair.steps(&["body hi"]);
    pair.conn.upgrade(&mut pair.sent, &good).unwrap();
    pair.steps(&["upgraded"]);
}

#[test]
fn the_end_of_the_peer_means_what_was_going_on() {
    let mut pair = Pair::new(b"");
    pair.steps(&["more"]);
    assert_eq!(pair.conn.handle_eof(), EofKind::CleanEnd);
    pair.steps(&["closed"]);

    let mut pair = Pair::new(b"GET / HT");
    pair.steps(&["more"]);
    assert_eq!(pair.conn.handle_eof(), EofKind::Incomplete);
    pair.steps(&["reject 400", "closed"]);

    let mut pair = Pair::new(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhe");
    pair.steps(&["head POST", "body he", "more"]);
    assert_eq!(pair.conn.handle_eof(), EofKind::Incomplete);
    pair.steps(&["reject 400", "closed"]);

    // Half closed: what was asked is still answered, and what is pipelined behind it.
    let mut pair = Pair::new(&[GET, GET].concat());
    pair.steps(&["head GET", "await"]);
    assert_eq!(pair.conn.handle_eof(), EofKind::StillAnswering);
    pair.answer(200, BodyLength::Known(2));
    pair.steps(&["head GET"]);
    pair.answer(200, BodyLength::Known(2));
    pair.steps(&["closed"]);
    assert!(pair.conn.must_close());

    // A body that nobody wants any more may end anywhere.
    let mut pair = Pair::new(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhe");
    pair.steps(&["head POST"]);
    pair.answer(200, BodyLength::None);
    pair.steps(&["more"]);
    assert_eq!(pair.conn.handle_eof(), EofKind::CleanEnd);
    pair.steps(&["closed"]);
}

#[test]
fn a_request_without_length_has_no_body_even_at_the_end_of_the_peer() {
    let mut pair = Pair::new(b"POST / HTTP/1.0\r\n\r\nrest");
    let mut slots = header_slots();
    let mut rest = &pair.input[..];
    let step = pair.conn.poll(&Limits::default(), &mut rest, &mut slots);
    assert!(matches!(step, Step::Head(request) if request.body == BodyKind::None));
}
