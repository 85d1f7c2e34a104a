//! Check: what must hold for every input, shared by the property tests and the fuzz target.
//!
//! [`drive`] feeds bytes to a [`Connection`] as a careful server would and writes down what came out;
//! [`check`] compares several ways of feeding the same bytes with each other and with slow, plain oracles.
//! Not part of the API; allocates and panics freely.

use crate::head::{accept, strict};
use crate::{
    BodyKind, BodyLength, Connection, EofKind, Limits, ResponseHead, Step, Version, Why, header_slots,
};

/// The `Date` of every answer here.
pub const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// One thing that came out of a connection, without borrows. Adjacent body pieces are joined.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A request head.
    Head(Box<Head>),
    /// Body bytes.
    Body(Vec<u8>),
    /// The end of a body, with its trailers.
    End(Vec<(String, Vec<u8>)>),
    /// HTTP ended behind this many bytes.
    Upgraded(usize),
    /// A refusal.
    Reject(Why),
    /// Nothing more is read.
    Closed,
    /// The input ended, and the connection waits.
    Waiting,
}

/// A request, without borrows.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields of Request")]
pub struct Head {
    pub method: String,
    pub target: String,
    pub path: String,
    pub query: Option<String>,
    pub version: Version,
    pub body: BodyKind,
    pub host: Option<String>,
    pub expect_continue: bool,
    pub keep_alive: bool,
    pub upgrade: Option<String>,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// How the server behind the connection behaves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// Answers before it reads the body, which is then swallowed or ends the connection.
    pub answer_first: bool,
    /// Sends 100 when the client waits for it.
    pub send_continue: bool,
    /// Answers 101 to whoever asks for an upgrade.
    pub upgrade: bool,
    /// Says that the peer closed, behind the last byte.
    pub eof: bool,
}

/// What came out of one connection.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The events in order; the last one is `Waiting`, `Closed` or `Upgraded`.
    pub events: Vec<Event>,
    /// All bytes the server sent.
    pub sent: Vec<u8>,
    /// Input bytes consumed.
    pub consumed: usize,
}

impl Trace {
    /// The first refusal.
    pub fn rejected(&self) -> Option<Why> {
        self.events.iter().find_map(|e| if let Event::Reject(why) = e { Some(*why) } else { None })
    }

    /// The request heads in order.
    pub fn heads(&self) -> Vec<&Head> {
        self.events
            .iter()
            .filter_map(|e| if let Event::Head(head) = e { Some(&**head) } else { None })
            .collect()
    }

    /// All body bytes in order.
    pub fn body(&self) -> Vec<u8> {
        let bodies = self.events.iter().map(|e| if let Event::Body(body) = e { &body[..] } else { &[] });
        bodies.collect::<Vec<_>>().concat()
    }
}

/// Feeds `input` in pieces that end at `cuts` (ascending offsets; the end is implied).
pub fn drive(input: &[u8], cuts: &[usize], limits: &Limits, policy: Policy) -> Trace {
    let mut conn = Connection::new();
    let mut trace = Trace { events: Vec::new(), sent: Vec::new(), consumed: 0 };
    for end in cuts.iter().copied().chain([input.len()]) {
        if !feed(&mut conn, &input[..end], limits, policy, &mut trace) {
            return trace;
        }
    }
    if policy.eof {
        let kind = conn.handle_eof();
        if kind == EofKind::CleanEnd && !conn.in_request() {
            assert!(trace.consumed + 1 >= input.len(), "a clean end leaves at most a CR unread");
        }
        if !feed(&mut conn, input, limits, policy, &mut trace) {
            return trace;
        }
        panic!("a connection must not wait after the end: {:?}", trace.events);
    }
    trace.events.push(Event::Waiting);
    trace
}

/// Polls until the connection waits (true) or has ended (false).
fn feed(conn: &mut Connection, input: &[u8], limits: &Limits, policy: Policy, trace: &mut Trace) -> bool {
    let mut slots = header_slots();
    loop {
        let mut rest = &input[trace.consumed..];
        let before = rest.len();
        let step = conn.poll(limits, &mut rest, &mut slots);
        assert!(rest.len() <= before, "poll gave bytes back");
        assert!(input.ends_with(rest), "what is left is the end of the input");
        trace.consumed = input.len() - rest.len();
        match step {
            Step::NeedMore => {
                let left = rest.len();
                let again = matches!(conn.poll(limits, &mut rest, &mut header_slots()), Step::NeedMore);
                assert!(again, "asked for more, then found something");
                assert_eq!(rest.len(), left, "consumed on the second look");
                return true;
            }
            Step::Head(request) => {
                // A swallowed body and empty lines go in the same poll: the target says where the head is.
                let target_at = request.target.raw().as_ptr() as usize - input.as_ptr() as usize;
                let start = target_at - 1 - request.method.as_str().len();
                let head_bytes = &input[start..trace.consumed];
                check_head(&request, head_bytes, limits);
                trace.events.push(Event::Head(Box::new(Head::from(&request))));
                let wants_upgrade = request.upgrade.is_some();
                assert!(conn.awaiting_response(), "a head wants an answer");
                if policy.send_continue {
                    let waits = conn.expects_continue();
                    assert_eq!(waits, request.expect_continue);
                    let sent = trace.sent.len();
                    conn.respond_continue(&mut trace.sent);
                    assert_eq!(trace.sent.len() > sent, waits);
                }
                if policy.upgrade && wants_upgrade && !conn.wants_body() {
                    let head = ResponseHead { headers: &[("Upgrade", b"x")], ..ResponseHead::default() };
                    assert_eq!(conn.upgrade(&mut trace.sent, &head), Ok(()));
                } else if policy.answer_first {
                    answer(conn, &mut trace.sent);
                }
            }
            Step::Body(piece) => {
                assert!(!piece.is_empty(), "an empty piece is no progress");
                match trace.events.last_mut() {
                    Some(Event::Body(body)) => body.extend_from_slice(piece),
                    _ => trace.events.push(Event::Body(piece.to_vec())),
                }
            }
            Step::End(trailers) => {
                let fields = trailers.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
                trace.events.push(Event::End(fields));
            }
            Step::AwaitResponse => answer(conn, &mut trace.sent),
            Step::Upgraded => {
                trace.events.push(Event::Upgraded(trace.consumed));
                assert!(conn.is_upgraded() && !conn.must_close());
                assert!(matches!(conn.poll(limits, &mut rest, &mut header_slots()), Step::Closed));
                return false;
            }
            Step::Closed => {
                assert!(conn.must_close(), "closed means closed");
                assert!(matches!(conn.poll(limits, &mut rest, &mut header_slots()), Step::Closed));
                trace.events.push(Event::Closed);
                return false;
            }
            Step::Reject(reject) => {
                assert_eq!(reject.status, reject.why.status());
                assert!(matches!(conn.poll(limits, &mut rest, &mut header_slots()), Step::Closed));
                conn.reject(&mut trace.sent, &reject, DATE);
                assert!(conn.must_close() && !conn.in_request());
                trace.events.push(Event::Reject(reject.why));
            }
        }
    }
}

/// A small answer; what was announced about the connection must be what happens.
fn answer(conn: &mut Connection, out: &mut Vec<u8>) {
    let start = out.len();
    let mode = conn.respond(out, &ResponseHead::default(), BodyLength::Known(2), DATE);
    if mode.is_err() {
        // Only 2xx to CONNECT is refused here.
        let head = ResponseHead { status: 501, ..ResponseHead::default() };
        assert!(conn.respond(out, &head, BodyLength::Known(2), DATE).is_ok());
    }
    let says_close = out[start..].windows(19).any(|w| w == b"Connection: close\r\n");
    if matches!(mode, Ok(crate::BodyMode::Raw) | Err(_)) {
        out.extend_from_slice(b"ok");
    }
    conn.finish_response();
    assert!(!says_close || conn.must_close(), "said close, and stays open");
}

impl From<&crate::Request<'_, '_>> for Head {
    fn from(r: &crate::Request<'_, '_>) -> Self {
        Self {
            method: r.method.as_str().to_owned(),
            target: r.target.raw().to_owned(),
            path: r.target.path().to_owned(),
            query: r.target.query().map(str::to_owned),
            version: r.version,
            body: r.body,
            host: r.host_str().map(str::to_owned),
            expect_continue: r.expect_continue,
            keep_alive: r.keep_alive,
            upgrade: r.upgrade.map(str::to_owned),
            headers: r.headers.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect(),
        }
    }
}

/// Compares an accepted head with slow oracles: a line splitter, the strict reader, httparse alone.
fn check_head(request: &crate::Request<'_, '_>, bytes: &[u8], limits: &Limits) {
    assert!(bytes.len() <= limits.head_bytes_max as usize);
    assert!(bytes.ends_with(b"\r\n\r\n"));
    let found = strict(bytes, limits);
    let Ok(Some(found)) = found else { panic!("accepted against the strict reader: {found:?}") };
    assert_eq!(found.len, bytes.len());
    assert_eq!(found.method, request.method.as_str());
    assert_eq!(found.target, request.target.raw());

    let text: Vec<&[u8]> = bytes[..bytes.len() - 4].split(|&b| b == b'\n').collect();
    let (line, fields) = text.split_first().map_or((&b""[..], &[][..]), |(l, f)| (*l, f));
    assert!(line.len() <= limits.line_bytes_max as usize + 1);
    assert_eq!(fields.len(), request.headers.len());
    let mut hosts = 0;
    let mut lengths = Vec::new();
    let mut codings = Vec::new();
    for (field, (name, value)) in fields.iter().zip(request.headers) {
        let colon = field.iter().position(|&b| b == b':').unwrap_or(0);
        assert_eq!(&field[..colon], name.as_bytes());
        assert_eq!(field[colon + 1..].trim_ascii(), value.trim_ascii());
        assert!(!name.is_empty() && !name.contains([' ', '\t']));
        assert!(!value.iter().any(|&b| matches!(b, b'\r' | b'\n' | 0)), "a value smuggles a line");
        match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "host" if !name.contains('_') => hosts += 1,
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value.to_ascii_lowercase()),
            _ => {}
        }
    }
    assert!(hosts <= 1);
    assert!(hosts == 1 || request.version == Version::Http10);
    assert!(lengths.is_empty() || codings.is_empty(), "two framings");
    assert!(lengths.len() <= 1, "two lengths");
    match request.body {
        BodyKind::Chunked => {
            assert_eq!(codings, [b"chunked".to_vec()]);
            assert_eq!(request.version, Version::Http11);
        }
        BodyKind::Length(length) => {
            let text = lengths.first().map(|l| String::from_utf8_lossy(l).into_owned()).unwrap_or_default();
            assert!(text.bytes().all(|b| b.is_ascii_digit()));
            assert_eq!(text.parse::<u64>().ok(), Some(length));
            assert!(length > 0 && length <= limits.body_bytes_max);
        }
        BodyKind::None => {
            assert!(codings.is_empty());
            assert!(lengths.iter().all(|l| !l.is_empty() && l.iter().all(|&b| b == b'0')));
        }
    }
    let raw = request.target.raw();
    assert!(raw.bytes().all(|b| b.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&b)));
    let path = request.target.path();
    assert!(path.starts_with('/') || (path == "*" && raw == "*") || request.method.as_str() == "CONNECT");

    // The common way must agree with the short cut of simple heads, and with the way of later versions.
    let mut slots = header_slots();
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut slots.fields[..limits.slots()]) {
        Ok(httparse::Status::Complete(len)) => {
            assert_eq!(len, bytes.len());
            let common = accept(bytes, parsed, limits);
            assert_eq!(common.as_ref().map(Head::from), Ok(Head::from(request)));
        }
        other => {
            assert_eq!(other, Err(httparse::Error::Version));
            assert!(line.ends_with(b"\r") && matches!(line[line.len() - 2], b'2'..=b'9'));
        }
    }
}

/// A plain reader of whole chunked bodies: the decoded bytes and the length on the wire, or `None` when the
/// body is not whole or not acceptable. Extensions are not judged.
fn decode_plainly(mut wire: &[u8]) -> Option<(Vec<u8>, usize)> {
    let whole = wire.len();
    let mut body = Vec::new();
    loop {
        let end = wire.windows(2).position(|w| w == b"\r\n")?;
        let digits: Vec<u8> = wire[..end].iter().copied().take_while(u8::is_ascii_hexdigit).collect();
        let size = usize::from_str_radix(core::str::from_utf8(&digits).ok()?, 16).ok()?;
        wire = &wire[end + 2..];
        if size == 0 {
            let end = if wire.starts_with(b"\r\n") {
                2
            } else {
                wire.windows(4).position(|w| w == b"\r\n\r\n")? + 4
            };
            return Some((body, whole - wire.len() + end));
        }
        body.extend_from_slice(wire.get(..size)?);
        wire = wire.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// Checks that a chunked body that was accepted is what a plain reader finds.
pub fn check_chunked(wire: &[u8], limits: &Limits) {
    let mut input = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let head = input.len();
    input.extend_from_slice(wire);
    let trace = drive(&input, &[], limits, Policy::default());
    let ended = trace.events.iter().any(|e| matches!(e, Event::End(_)));
    if !ended {
        return;
    }
    let Some((body, len)) = decode_plainly(wire) else { panic!("accepted a body no plain reader takes") };
    assert_eq!(body, trace.body().get(..body.len()).unwrap_or_default());
    assert!(body.len() as u64 <= limits.body_bytes_max);
    assert!(trace.consumed >= head + len, "less consumed than the body");
}

/// Feeds `data` whole, bytewise and cut by a pattern: all must agree.
///
/// The low half of the first byte chooses the limits, the high half the policy, the second byte the pattern; the
/// rest is what the peer sends.
///
/// # Panics
/// When a property does not hold.
pub fn check(data: &[u8]) {
    let Some((&[choice, pattern], input)) = data.split_first_chunk::<2>() else { return };
    let limits = limits_for(choice & 15);
    let policy = Policy {
        answer_first: choice & 16 != 0,
        send_continue: choice & 32 != 0,
        upgrade: choice & 64 != 0,
        eof: true,
    };
    let open = drive(input, &[], &limits, Policy { eof: false, ..policy });
    check_trace(&open, input);
    // With an end, even a fault that a drip-fed connection has not looked at yet is found at last.
    let whole = drive(input, &[], &limits, policy);
    check_trace(&whole, input);
    for step in [1, usize::from(pattern) + 2] {
        let cuts: Vec<usize> = (1..).map(|i| i * step).take_while(|&cut| cut < input.len()).collect();
        let split = drive(input, &cuts, &limits, policy);
        assert_eq!(whole.events, split.events, "cut every {step} of {:?}", String::from_utf8_lossy(input));
        assert_eq!(whole.sent, split.sent);
    }
    check_chunked(input, &limits);
}

/// Default limits, or small ones that short inputs can reach.
fn limits_for(choice: u8) -> Limits {
    if choice & 1 == 0 {
        return Limits::default();
    }
    Limits {
        line_bytes_max: 24 + u32::from(choice & 6),
        head_bytes_max: 96,
        headers_max: 3,
        body_bytes_max: 16,
        chunk_ext_bytes_max: 8,
        trailer_bytes_max: 24,
        empty_lines_max: choice >> 3 & 3,
        drain_bytes_max: 12,
    }
}

/// What must hold for any trace.
fn check_trace(trace: &Trace, input: &[u8]) {
    assert!(trace.consumed <= input.len());
    let rejects = trace.events.iter().filter(|e| matches!(e, Event::Reject(_))).count();
    assert!(rejects <= 1);
    if rejects == 1 {
        assert!(matches!(trace.events[..], [.., Event::Reject(_), Event::Closed]));
    }
    for pair in trace.events.windows(2) {
        if let [Event::Closed | Event::Upgraded(_) | Event::Waiting, after] = pair {
            panic!("{after:?} after the end");
        }
    }
    // One answer for each head, one for a refusal in a head, none for one in a body that was answered already.
    let answers = trace.sent.windows(9).filter(|w| w == b"HTTP/1.1 ").count();
    let heads = trace.heads().len();
    assert!(answers <= 2 * heads + rejects, "{answers} answers to {heads} heads");
}
