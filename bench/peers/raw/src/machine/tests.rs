//! Conversations with the machine, by a caller that keeps the calling order.

#![allow(clippy::unwrap_used)]

use super::*;

const GET: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: x\r\n\r\n";

/// What a client received: answers with the blob in its place, and whether the connection was closed.
#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    bytes: Vec<u8>,
    writes: usize,
    closed: bool,
}

/// A caller that keeps the calling order of the crate. With `fill`, missing bytes go straight to `out`.
fn serve(pieces: &[&[u8]], fill: bool) -> Seen {
    let (mut machine, mut answers) = (Machine::new(), Answers::new());
    let (mut input, mut out, mut seen) = (Vec::new(), Vec::new(), Seen::default());
    for piece in pieces {
        let mut piece = *piece;
        if fill && machine.missing() > 0 && input.is_empty() {
            let len = machine.missing().min(piece.len());
            out.extend_from_slice(&piece[..len]);
            piece = &piece[len..];
            let after = machine.filled(len);
            if machine.missing() == 0 {
                seen.send(&mut out, after);
            }
        }
        input.extend_from_slice(piece);
        while !seen.closed {
            let before = out.len();
            let turn = machine.handle(&input, &mut answers, &mut out);
            input.drain(..turn.consumed);
            assert!(machine.missing() > 0 || out.len() == before || turn.consumed > 0, "rule 3");
            let sent = machine.missing() == 0 && !out.is_empty();
            if sent || turn.after != After::Keep {
                seen.send(&mut out, turn.after);
            }
            if !sent {
                break;
            }
        }
    }
    seen
}

impl Seen {
    fn send(&mut self, out: &mut Vec<u8>, after: After) {
        self.bytes.append(out);
        self.writes += 1;
        if matches!(after, After::Blob | After::BlobClose) {
            self.bytes.extend_from_slice(peer_work::blob());
        }
        self.closed |= matches!(after, After::Close | After::BlobClose);
    }

    /// Status and body of each answer; every head must have the four lines.
    fn answers(&self) -> Vec<(u16, Vec<u8>)> {
        let (mut rest, mut answers) = (&self.bytes[..], Vec::new());
        while !rest.is_empty() {
            let mut lines = [httparse::EMPTY_HEADER; 8];
            let mut response = httparse::Response::new(&mut lines);
            let head_len = response.parse(rest).unwrap().unwrap();
            let status = response.code.unwrap();
            let value = |name: &str| {
                let line = response.headers.iter().find(|line| line.name == name);
                line.map(|line| String::from_utf8(line.value.to_vec()).unwrap())
            };
            let mut body_len = 0;
            if status != 100 {
                assert_eq!(value("Server").unwrap(), "pee");
                assert_eq!(value("Date").unwrap(), "Thu, 01 Jan 1970 00:00:00 GMT");
                assert!(value("Content-Type").is_some());
                body_len = value("Content-Length").unwrap().parse().unwrap();
                let is_last = head_len + body_len == rest.len();
                assert_eq!(value("Connection").as_deref() == Some("close"), is_last && self.closed);
            }
            answers.push((status, rest[head_len..head_len + body_len].to_vec()));
            rest = &rest[head_len + body_len..];
        }
        answers
    }
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    request
}

/// One of everything, closed by the last.
fn conversation() -> (Vec<u8>, Vec<(u16, Vec<u8>)>) {
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n").into_bytes();
    let text = peer_work::PLAINTEXT.to_vec();
    let parts = [
        (GET.to_vec(), 200, text.clone()),
        (get("/json", ""), 200, peer_work::JSON.to_vec()),
        (post("/echo", b"some bytes\r\n\r\nof a body"), 200, b"some bytes\r\n\r\nof a body".to_vec()),
        (post("/echo", b""), 200, Vec::new()),
        (get("/plaintext?a=b?c", ""), 200, text.clone()),
        (post("/plaintext", b"not asked for"), 404, Vec::new()),
        (
            get("/json", "content-length: 3\r\n").into_iter().chain(*b"abc").collect(),
            200,
            peer_work::JSON.to_vec(),
        ),
        (get("/nothing", ""), 404, Vec::new()),
        (post("/echo", b"x"), 200, b"x".to_vec()),
        (get("/plaintext", "connection: x, Close\r\n"), 200, text),
    ];
    let request = parts.iter().flat_map(|(request, ..)| request.clone()).collect();
    (request, parts.into_iter().map(|(_, status, body)| (status, body)).collect())
}

#[test]
fn a_conversation_cut_at_any_byte_gets_the_same_answers() {
    let (request, expected) = conversation();
    for fill in [false, true] {
        for cut in 0..=request.len() {
            let seen = serve(&[&request[..cut], &request[cut..]], fill);
            assert_eq!(seen.answers(), expected, "cut at {cut}, fill {fill}");
            assert!(seen.closed, "cut at {cut}, fill {fill}");
        }
        let bytes: Vec<&[u8]> = request.chunks(1).collect();
        assert_eq!(serve(&bytes, fill).answers(), expected, "byte by byte, fill {fill}");
    }
}

#[test]
fn sixteen_requests_of_one_receive_are_answered_in_one_write() {
    let seen = serve(&[&GET.repeat(16)], false);
    assert_eq!((seen.writes, seen.bytes.len()), (1, 16 * 128));
    assert_eq!(seen.answers(), vec![(200, peer_work::PLAINTEXT.to_vec()); 16]);
}

#[test]
fn answers_do_not_wait_for_a_body_behind_them() {
    let mut request = GET.to_vec();
    request.extend_from_slice(&post("/echo", b"0123456789"));
    let seen = serve(&[&request[..request.len() - 1]], true);
    assert_eq!(seen.answers(), [(200, peer_work::PLAINTEXT.to_vec())]);
}

#[test]
fn a_blob_is_left_to_the_caller_and_what_follows_is_answered() {
    let blob = b"GET /blob HTTP/1.1\r\n\r\n";
    let seen = serve(&[&[&blob[..], GET, &blob[..]].concat()], false);
    let answers = seen.answers();
    assert_eq!(answers.iter().map(|(_, body)| body.len()).collect::<Vec<_>>(), [BLOB_LEN, 13, BLOB_LEN]);
    assert!(!seen.closed);
    let last = serve(&[b"GET /blob HTTP/1.1\r\nConnection: close\r\n\r\n", GET], false);
    assert_eq!(last.answers().len(), 1);
    assert!(last.closed);
}

#[test]
fn a_client_that_waits_for_100_gets_it_and_then_its_answer() {
    let head =
        b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
    for fill in [false, true] {
        let waits = serve(&[head, b"ab", b"cd"], fill);
        assert_eq!(waits.answers(), [(100, Vec::new()), (200, b"abcd".to_vec())]);
        assert!(waits.closed);
        let sends = serve(&[&[&head[..], b"a"].concat(), b"bcd"], fill);
        assert_eq!(sends.answers(), [(200, b"abcd".to_vec())]);
    }
}

#[test]
fn a_body_of_the_longest_length_is_echoed_and_a_longer_one_refused() {
    let body = vec![b'e'; ECHO_LEN_MAX];
    let request = post("/echo", &body);
    let pieces: Vec<&[u8]> = request.chunks(100_000).collect();
    for fill in [false, true] {
        assert_eq!(serve(&pieces, fill).answers(), [(200, body.clone())]);
    }
    let longer = format!("POST /echo HTTP/1.1\r\nContent-Length: {}\r\n\r\n", ECHO_LEN_MAX + 1);
    assert_eq!(serve(&[longer.as_bytes()], false).answers(), [(413, Vec::new())]);
}

#[test]
fn what_cannot_be_served_is_refused_and_closed() {
    let cases = [
        ("Transfer-Encoding: chunked", 411),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3", 400),
        ("Content-Length: 3\r\nContent-Length: 3", 400),
        ("Content-Length: +3", 400),
        ("Content-Length:", 400),
        ("Content-Length: 99999999999999999999999", 413),
        ("no colon", 400),
    ];
    for (lines, status) in cases {
        let seen = serve(&[format!("POST /echo HTTP/1.1\r\n{lines}\r\n\r\nabc").as_bytes()], false);
        assert_eq!(seen.answers(), [(status, Vec::new())], "{lines}");
        assert!(seen.closed, "{lines}");
    }
}

#[test]
fn old_clients_are_answered_and_closed() {
    let seen = serve(&[b"GET /plaintext HTTP/1.0\r\n\r\n"], false);
    assert_eq!(seen.answers(), [(200, peer_work::PLAINTEXT.to_vec())]);
    assert!(seen.closed);
}

#[test]
fn sixteen_header_lines_pass_and_seventeen_are_refused() {
    let status = |lines: usize| {
        let request = format!("GET /plaintext HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(lines));
        serve(&[request.as_bytes()], false).answers()[0].0
    };
    assert_eq!((status(HEADERS_MAX), status(HEADERS_MAX + 1)), (200, 431));
}

#[test]
fn a_head_of_the_longest_length_passes_whole_or_cut_and_a_longer_one_is_refused() {
    let head = |len: usize| {
        let start = "GET /plaintext HTTP/1.1\r\nA: ";
        format!("{start}{}\r\n\r\n", "a".repeat(len - start.len() - 4)).into_bytes()
    };
    let (longest, longer) = (head(HEAD_LEN_MAX), head(HEAD_LEN_MAX + 1));
    assert_eq!(serve(&[&longest], false).answers()[0].0, 200);
    assert_eq!(serve(&[&longest[..HEAD_LEN_MAX - 1], b"\n"], false).answers()[0].0, 200);
    assert_eq!(serve(&[&longer], false).answers()[0].0, 431);
    assert_eq!(serve(&[&longer[..HEAD_LEN_MAX]], false).answers()[0].0, 431);
}

#[test]
fn output_stops_growing_at_its_bound_and_goes_on_after_a_send() {
    let (mut machine, mut answers, mut out) = (Machine::new(), Answers::new(), Vec::new());
    let input = GET.repeat(600);
    let turn = machine.handle(&input, &mut answers, &mut out);
    assert_eq!((turn.consumed, out.len()), (512 * GET.len(), OUT_LEN_MAX));
    assert_eq!(serve(&[&input], false).answers().len(), 600);
}

#[test]
fn a_large_buffer_goes_from_one_connection_to_the_next_and_a_small_one_stays() {
    let (mut first, mut second) = (Machine::new(), Machine::new());
    let (mut answers, mut out, mut next) = (Answers::new(), Vec::new(), Vec::new());
    let request = post("/echo", &[b'e'; 65_536]);
    let _ = first.handle(&request, &mut answers, &mut out);
    let large = out.as_ptr();
    answers.clear(&mut out);
    assert_eq!(out.capacity(), 0);
    let _ = second.handle(&request[..100], &mut answers, &mut next);
    assert_eq!((next.as_ptr(), second.missing()), (large, request.len() - 100));
    let _ = first.handle(GET, &mut answers, &mut out);
    let small = out.as_ptr();
    answers.clear(&mut out);
    let _ = first.handle(GET, &mut answers, &mut out);
    assert_eq!((out.as_ptr(), out.len()), (small, 128));
}

#[test]
fn all_answers_carry_the_date_they_were_given() {
    let (mut machine, mut answers, mut out) = (Machine::new(), Answers::new(), Vec::new());
    answers.refresh(784_111_777);
    let requests = b"GET /plaintext HTTP/1.1\r\n\r\nGET /json HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n\
                     POST /echo HTTP/1.1\r\n\r\nGET /blob HTTP/1.1\r\n\r\n";
    let turn = machine.handle(requests, &mut answers, &mut out);
    assert_eq!(turn, Turn { consumed: requests.len(), after: After::Blob });
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n").count(), 5);
}
