//! A table of answers, good and bad, each in every cut.
use super::super::check::{Last, Trace, drive, machine};
use super::*;
use crate::record::ErrorKind::{Garbage, Status4xx, Status5xx, WrongAnswer};

const GET: u8 = 0;
const HEAD: u8 = 15;

/// What comes of bytes that end in one answer or begin with a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Want {
    /// Good or not, and the connection stays.
    Keep(Option<ErrorKind>),
    /// Good or not, and the connection is closed; the last byte was needed.
    Close(Option<ErrorKind>),
    /// Good or not; only the end of the connection completes it.
    UntilClose(Option<ErrorKind>),
    /// It goes on.
    More,
    /// Refused.
    Fault,
}
use Want::{Close, Fault, Keep, More, UntilClose};

#[rustfmt::skip]
const TABLE: &[(u8, Want, &[u8])] = &[
    // The status line.
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 17:00:00 GMT\r\n\
        Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"),
    (GET, Keep(None), b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 200 na\xefve \t reason\r\nContent-Length: 0\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /x\r\n\r\n"),
    (GET, Keep(Some(Status4xx)), b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    (GET, Keep(Some(Status4xx)), b"HTTP/1.1 499 x\r\nContent-Length: 2\r\n\r\nno"),
    (GET, Keep(Some(Status5xx)), b"HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\nno"),
    (GET, Keep(Some(Status5xx)), b"HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n"),
    (GET, Keep(Some(Status5xx)), b"HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n"),
    (GET, Fault, b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (GET, Fault, b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.x 200 OK\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1  200 OK\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1\t200 OK\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 20 OK\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 2000 OK\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 2x0 OK\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 O\x00K\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 O\rK\r\n\r\n"),
    (GET, Fault, b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (GET, Fault, b"SSH-2.0-OpenSSH_9.2"),
    (GET, Fault, b"\x15\x03\x01\x00\x02\x02\x46"),
    (GET, Fault, b"\0\0\x12\x04\0\0\0\0\0"),
    // Lines and fields.
    (GET, Fault, b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nX: a\r\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nX: a\x7fb\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\n Content-Length: 0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nX: a\r\n\tfolded\r\nContent-Length: 0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\n: 5\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nN\xe4me: 5\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nX:\r\nY: \t\r\nZ:\xc3\xa4 \x80\tz\r\n\
        content-LENGTH:\t 1 \t\r\n\r\n-"),
    // Lengths.
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3,3\r\n\r\nabc"),
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 03\r\n\r\nabc"),
    (GET, More, b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nabc"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nabc"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 184467440737095516150\r\n\r\nabc"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabc"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 3,\r\n\r\nabc"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nabc"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 3 3\r\n\r\nabc"),
    // Codings.
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: , CHUNKED ,\r\n\r\n1\r\n\n\r\n000\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n\
        1\r\nx\r\n0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n\
        0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x;a=\",chunked\r\n\r\n0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (GET, Fault, b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    // No body.
    (HEAD, Keep(None), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    (HEAD, Keep(None), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (HEAD, Keep(None), b"HTTP/1.1 200 OK\r\n\r\n"),
    (HEAD, Keep(Some(Status4xx)), b"HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\n"),
    (HEAD, Close(None), b"HTTP/1.0 200 OK\r\n\r\n"),
    (HEAD, Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 204 No Content\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
    // The end of the connection.
    (GET, UntilClose(None), b"HTTP/1.1 200 OK\r\n\r\nall of it\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    (GET, UntilClose(None), b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"),
    (GET, UntilClose(Some(Status5xx)), b"HTTP/1.1 502 Bad Gateway\r\n\r\nno"),
    (GET, Close(None), b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"),
    (GET, Close(None), b"HTTP/1.1 200 OK\r\nConnection: x,, CLOSE , keep-alive\r\nContent-Length: 0\r\n\r\n"),
    (GET, Close(None), b"HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: close\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (GET, Close(Some(Status5xx)), b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    (GET, Close(None), b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
    (GET, Keep(None), b"HTTP/1.1 200 OK\r\nConnection: closed\r\nContent-Length: 0\r\n\r\n"),
    (GET, Close(None), b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    (GET, Keep(None), b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi"),
    (GET, Close(None), b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nhi"),
    // Interim answers.
    (GET, Keep(None), b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    (GET, Keep(None), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 7\r\n\
        Connection: close\r\n\r\nHTTP/1.1 103 x\r\n\r\nHTTP/1.1 204 x\r\n\r\n"),
    (GET, More, b"HTTP/1.1 100 Continue\r\n\r\n"),
    (GET, Fault, b"HTTP/1.1 100 Continue\r\n\r\nhi"),
    (GET, Close(Some(WrongAnswer)), b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\
        Content-Length: 9\r\n\r\n"),
    (GET, Close(Some(WrongAnswer)), b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n"),
    // Parts.
    (GET, More, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"),
    (GET, More, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r"),
    (GET, More, b"HTTP/1.1 200 OK\r\nbad line that never ends"),
];

/// Bodies behind `Transfer-Encoding: chunked`.
#[rustfmt::skip]
const CHUNKED: &[(Want, &[u8])] = &[
    (Keep(None), b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
    (Keep(None), b"00a\r\n0123456789\r\nB\r\nhello world\r\n0\r\n\r\n"),
    (Keep(None), b"1;a\r\nx\r\n0;last\r\n\r\n"),
    (Keep(None), b"1 ; a ; b=c\t;\td = \"e;\\\" f\xff\"\r\nx\r\n0\r\n\r\n"),
    (Keep(None), b"0\r\nDigest: x\r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\n\
        Connection: close\r\n\r\n"),
    (Keep(None), b"00000000000000000000000000000000000\r\n\r\n"),
    (More, b"ffffffffffffffff\r\nx"),
    (More, b"5\r\nhello\r\n"),
    (More, b"0\r\nDigest: x\r\n"),
    (Fault, b"10000000000000000\r\nx"),
    (Fault, b"\r\nx"),
    (Fault, b"x"),
    (Fault, b"-1\r\nx"),
    (Fault, b"0x1\r\nx"),
    (Fault, b"1g\r\nx"),
    (Fault, b" 1\r\nx"),
    (Fault, b"1 \r\nx"),
    (Fault, b"1\nx\r\n0\r\n\r\n"),
    (Fault, b"1;\r\nx"),
    (Fault, b"1;=a\r\nx"),
    (Fault, b"1;a=\r\nx"),
    (Fault, b"1;a \r\nx"),
    (Fault, b"1;a b\r\nx"),
    (Fault, b"1;a=b c\r\nx"),
    (Fault, b"1;a=\"b\r\nx"),
    (Fault, b"1;a=\"b\\\r\nx"),
    (Fault, b"1;a=\"b\x00\"\r\nx"),
    (Fault, b"1;a=\"b\"c\r\nx"),
    (Fault, b"1;a\x00\r\nx"),
    (Fault, b"1;a\rb\r\nx"),
    (Fault, b"1\r\nxy\r\n0\r\n\r\n"),
    (Fault, b"1\r\nx\n0\r\n\r\n"),
    (Fault, b"1\r\nx\rx"),
    (Fault, b"0\r\nx\r\n\r\n"),
    (Fault, b"0\r\nx : y\r\n\r\n"),
    (Fault, b"0\r\n x: y\r\n\r\n"),
    (Fault, b"0\r\nx: \x00\r\n\r\n"),
    (Fault, b"0\r\nx: y\n\r\n"),
    (Fault, b"0\r\n\n"),
];

/// Every answer with what it is asked by and what comes of it.
fn table() -> Vec<(u8, Want, Vec<u8>)> {
    let plain = TABLE.iter().map(|&(choice, want, bytes)| (choice, want, bytes.to_vec()));
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = CHUNKED.iter().map(|&(want, body)| (GET, want, [head, body].concat()));
    plain.chain(chunked).collect()
}

/// What a connection gives that receives `bytes`, `times` times.
fn trace_of(want: Want, len: usize, times: usize) -> Trace {
    let answer = |error, close| Answer { error, close };
    let no_answer = |last| Trace { answers: Vec::new(), last };
    match want {
        Keep(error) => Trace {
            answers: (1..=times).map(|i| (answer(error, false), i * len)).collect(),
            last: Last::Open(false, None),
        },
        Close(error) => Trace { answers: vec![(answer(error, true), len)], last: Last::Closed },
        UntilClose(error) => no_answer(Last::Open(true, Some(answer(error, true)))),
        More => no_answer(Last::Open(true, None)),
        Fault => no_answer(Last::Failed(Garbage)),
    }
}

#[test]
fn every_answer_means_the_same_whole_bytewise_and_cut_anywhere() {
    for (choice, want, bytes) in table() {
        let wanted = trace_of(want, bytes.len(), 1);
        for kinds in [0, 1] {
            let machine = machine(&[], kinds);
            let feed = |cuts: &[usize]| {
                let got = drive(&machine, &bytes, cuts, choice);
                assert_eq!(got, wanted, "cut at {cuts:?}, memory {kinds}: {}", bytes.escape_ascii());
            };
            feed(&[]);
            feed(&(1..bytes.len()).collect::<Vec<_>>());
            for cut in 0..=bytes.len() {
                feed(&[cut]);
            }
            feed(&[]);
        }
    }
}

#[test]
fn answers_back_to_back_end_where_the_next_begins() {
    for (choice, want, bytes) in table() {
        if !matches!(want, Keep(_) | Close(_) | Fault) {
            continue;
        }
        let input = bytes.repeat(3);
        let wanted = trace_of(want, bytes.len(), 3);
        for kinds in [0, 1] {
            let machine = machine(&[], kinds);
            assert_eq!(drive(&machine, &input, &[], choice), wanted, "{}", bytes.escape_ascii());
            for step in [1, 2, 7, bytes.len() - 1, bytes.len() + 1] {
                let cuts: Vec<usize> = (1..).map(|i| i * step).take_while(|&cut| cut < input.len()).collect();
                assert_eq!(
                    drive(&machine, &input, &cuts, choice),
                    wanted,
                    "every {step}: {}",
                    bytes.escape_ascii()
                );
            }
        }
    }
}

#[test]
fn an_answer_is_whole_with_its_last_byte_and_not_before() {
    for (choice, want, bytes) in table() {
        if let Keep(_) | Close(_) = want {
            let machine = machine(&[], 1);
            for len in 0..bytes.len() {
                let got = drive(&machine, &bytes[..len], &[], choice);
                let wanted = Trace { answers: Vec::new(), last: Last::Open(len > 0, None) };
                assert_eq!(got, wanted, "{}", bytes[..len].escape_ascii());
            }
        }
    }
}

/// The error of an answer with this status where these are wanted.
fn error_of(status: u16, wanted: &[u16]) -> Option<ErrorKind> {
    let bytes = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
    let trace = drive(&machine(wanted, 1), bytes.as_bytes(), &[], GET);
    trace.answers[0].0.error
}

#[test]
fn a_status_that_is_not_wanted_is_an_error_of_its_class() {
    assert_eq!(error_of(399, &[]), None);
    assert_eq!(error_of(400, &[]), Some(Status4xx));
    assert_eq!(error_of(200, &[200]), None);
    assert_eq!(error_of(201, &[200]), Some(WrongAnswer));
    assert_eq!(error_of(302, &[200, 204]), Some(WrongAnswer));
    assert_eq!(error_of(404, &[200]), Some(Status4xx));
    assert_eq!(error_of(404, &[200, 404]), None);
    assert_eq!(error_of(500, &[404]), Some(Status5xx));
    assert_eq!(error_of(503, &[503]), None);
    assert_eq!(error_of(200, &[503]), Some(WrongAnswer));
}

#[test]
fn a_request_that_says_close_makes_its_answer_the_last() {
    let mut machine = Http1::new(&[spec("GET", "/")], "t", 0, &[], true).unwrap();
    let ask = machine.write(0, &mut Vec::new());
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        for _ in 0..2 {
            let answer = machine.read(&mut Conn::default(), &mut &bytes[..], ask);
            assert_eq!(answer, Ok(Some(Answer { error: None, close: true })));
        }
    }
}

#[test]
fn the_memory_of_one_kind_does_not_answer_for_another_method() {
    let requests = [spec("GET", "/"), spec("HEAD", "/")];
    let machine = Http1::new(&requests, "t", 0, &[], false).unwrap();
    let asks = [machine.requests[0].ask, machine.requests[1].ask];
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let mut conn = Conn::default();
    for _ in 0..3 {
        let mut bytes = &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..];
        assert!(machine.read(&mut conn, &mut bytes, asks[0]).unwrap().is_some());
        assert_eq!(bytes, b"");
        let mut bytes = &head[..];
        assert!(machine.read(&mut conn, &mut bytes, asks[1]).unwrap().is_some());
        assert_eq!(bytes, b"");
    }
}

#[test]
fn more_heads_than_there_is_room_for_are_read_all_the_same() {
    let machine = machine(&[], 1);
    for _ in 0..3 {
        let mut input = Vec::new();
        let mut ends = Vec::new();
        for len in 0..9 {
            input.extend_from_slice(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").as_bytes());
            input.resize(input.len() + len, b'x');
            ends.push(input.len());
        }
        let got: Vec<usize> = drive(&machine, &input, &[], GET).answers.iter().map(|(_, end)| *end).collect();
        assert_eq!(got, ends);
    }
}

#[test]
fn bytes_behind_an_answer_are_left() {
    let machine = plain();
    let ask = machine.requests[0].ask;
    let mut bytes = &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200"[..];
    assert!(machine.read(&mut Conn::default(), &mut bytes, ask).unwrap().is_some());
    assert_eq!(bytes, b"HTTP/1.1 200");
}
