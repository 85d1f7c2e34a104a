//! One connection: heads, routes and bodies.
//!
//! Not here: what an answer looks like (`answers`).

use std::mem::MaybeUninit;

use peer_work::{BLOB_LEN, ECHO_LEN_MAX};

use crate::Answers;

/// Header lines in one request head; more are refused with 431.
pub const HEADERS_MAX: usize = 16;

/// Longest request head; a longer one is refused with 431.
pub const HEAD_LEN_MAX: usize = 4096;

/// Bytes of output after which no further request of the same input is answered (rule 4).
///
/// 512 answers of 128 bytes; a peer that pipelines more and does not read costs no more memory than that.
pub const OUT_LEN_MAX: usize = 64 * 1024;

/// More than the longest head of an answer.
const HEAD_ROOM: usize = 256;

/// Answers a client that asked whether to send its body (RFC 9110, 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const BAD_REQUEST: &str = "400 Bad Request";
const NOT_FOUND: &str = "404 Not Found";
const LENGTH_REQUIRED: &str = "411 Length Required";
const TOO_LARGE: &str = "413 Content Too Large";
const HEAD_TOO_LARGE: &str = "431 Request Header Fields Too Large";
const NOT_IMPLEMENTED: &str = "501 Not Implemented";

/// What to do when `out` has been sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// Go on.
    Keep,
    /// Send [`peer_work::blob`], then go on.
    Blob,
    /// Send [`peer_work::blob`], then close.
    BlobClose,
    /// Close.
    Close,
}

/// What [`Machine::handle`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Turn {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What follows `out`.
    pub after: After,
}

/// What a connection remembers between two receives: 32 bytes.
#[derive(Debug, Default)]
pub struct Machine {
    /// Body bytes of the last answer in `out` that have not arrived.
    missing: usize,
    /// Body bytes of an answered request that are thrown away as they arrive.
    skipping: usize,
    /// Length of the body that was asked for with 100 and is answered once that has been sent.
    promised: usize,
    /// The last answer was the last one: close when its bodies are through.
    last: bool,
}

/// A request head, as far as it matters here.
struct Head {
    len: usize,
    route: Route,
    body_len: usize,
    close: bool,
    expects: bool,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Route {
    Plaintext,
    Json,
    Echo,
    Blob,
    Unknown,
}

impl Machine {
    /// A connection that has received nothing.
    #[must_use]
    pub fn new() -> Machine {
        Machine::default()
    }

    /// Body bytes that the answer at the end of `out` still lacks. Nothing may be sent before it is 0.
    #[must_use]
    #[inline]
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// `len` of the [`missing`](Machine::missing) bytes were appended to `out` by the caller.
    ///
    /// # Panics
    /// If they are more than are missing.
    pub fn filled(&mut self, len: usize) -> After {
        assert!(len <= self.missing, "{len} bytes were filled in, {} were missing", self.missing);
        self.missing -= len;
        if self.last && self.missing == 0 { After::Close } else { After::Keep }
    }

    /// Answers what is complete in `input`: appends to `out`, consumes from the front. See the crate for the
    /// calling order.
    #[inline]
    pub fn handle(&mut self, input: &[u8], answers: &mut Answers, out: &mut Vec<u8>) -> Turn {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            if self.missing | self.skipping | self.promised != 0 || self.last {
                consumed += self.continue_body(rest, answers, out);
                if self.last && self.missing | self.skipping | self.promised == 0 {
                    return Turn { consumed: input.len(), after: After::Close };
                }
                if self.missing | self.skipping | self.promised != 0 {
                    return Turn { consumed, after: After::Keep };
                }
                continue;
            }
            if rest.is_empty() || out.len() >= OUT_LEN_MAX {
                return Turn { consumed, after: After::Keep };
            }
            let head = match parse(rest) {
                Ok(Some(head)) => head,
                Ok(None) => return Turn { consumed, after: After::Keep },
                Err(status) => {
                    let start = out.len();
                    answers.empty(out, status);
                    Answers::mark_last(out, start);
                    return Turn { consumed: input.len(), after: After::Close };
                }
            };
            let start = out.len();
            let here = (rest.len() - head.len).min(head.body_len);
            match head.route {
                Route::Plaintext => answers.plaintext(out),
                Route::Json => answers.json(out),
                Route::Echo if here == head.body_len => {
                    answers.make_room(out, HEAD_ROOM + here);
                    answers.octets(out, here);
                    out.extend_from_slice(&rest[head.len..head.len + here]);
                }
                Route::Echo if start != 0 => return Turn { consumed, after: After::Keep }, // rule 2
                Route::Echo => {
                    self.last = head.close;
                    self.promised = head.body_len;
                    consumed += head.len;
                    if head.expects && here == 0 {
                        out.extend_from_slice(CONTINUE);
                    }
                    continue;
                }
                Route::Blob => answers.octets(out, BLOB_LEN),
                Route::Unknown => answers.empty(out, NOT_FOUND),
            }
            consumed += head.len + here;
            self.skipping = head.body_len - here;
            if head.close {
                Answers::mark_last(out, start);
                self.last = true;
            }
            if head.route == Route::Blob {
                return match head.close {
                    false => Turn { consumed, after: After::Blob },
                    true => Turn { consumed: input.len(), after: After::BlobClose },
                };
            }
        }
    }

    /// Goes on with a body that is under way; returns how much of `rest` it took.
    fn continue_body(&mut self, rest: &[u8], answers: &mut Answers, out: &mut Vec<u8>) -> usize {
        if self.promised != 0 {
            if !out.is_empty() {
                return 0; // 100 has not been sent
            }
            answers.make_room(out, HEAD_ROOM + self.promised);
            answers.octets(out, self.promised);
            if self.last {
                Answers::mark_last(out, 0);
            }
            self.missing = std::mem::take(&mut self.promised);
        }
        if self.missing != 0 {
            let len = self.missing.min(rest.len());
            out.extend_from_slice(&rest[..len]);
            self.missing -= len;
            return len;
        }
        let len = self.skipping.min(rest.len());
        self.skipping -= len;
        len
    }
}

/// Parses the head at the start of `bytes`: `None` if it is not complete, the status to refuse it with
/// otherwise.
#[inline]
fn parse(bytes: &[u8]) -> Result<Option<Head>, &'static str> {
    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_LEN_MAX => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LEN_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HEAD_TOO_LARGE),
        Err(_) => return Err(BAD_REQUEST),
    };
    let mut head = Head {
        len,
        route: route(request.method.unwrap_or_default(), request.path.unwrap_or_default()),
        body_len: 0,
        close: request.version == Some(0),
        expects: false,
    };
    let mut length = None;
    let mut repeated = false;
    let mut coding = None;
    for line in request.headers.iter() {
        match line.name.len() {
            6 if line.name.eq_ignore_ascii_case("expect") => {
                head.expects = line.value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if line.name.eq_ignore_ascii_case("connection") => head.close |= asks_to_close(line.value),
            14 if line.name.eq_ignore_ascii_case("content-length") => {
                let more = length.replace(number(line.value).ok_or(BAD_REQUEST)?);
                repeated |= more.is_some();
            }
            17 if line.name.eq_ignore_ascii_case("transfer-encoding") => coding = Some(line.value),
            _ => {}
        }
    }
    // RFC 9112, 6.1: a request with both is an attempt to smuggle one; 6.3: 411 asks for a length.
    match (coding, length) {
        (Some(_), Some(_)) => return Err(BAD_REQUEST),
        _ if repeated => return Err(BAD_REQUEST),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => return Err(LENGTH_REQUIRED),
        (Some(_), None) => return Err(NOT_IMPLEMENTED),
        (None, length) => head.body_len = length.unwrap_or(0),
    }
    if head.body_len > ECHO_LEN_MAX { Err(TOO_LARGE) } else { Ok(Some(head)) }
}

#[inline]
fn route(method: &str, target: &str) -> Route {
    match (method, target) {
        ("GET", "/plaintext") => Route::Plaintext,
        ("GET", "/json") => Route::Json,
        ("POST", "/echo") => Route::Echo,
        ("GET", "/blob") => Route::Blob,
        _ => match target.split_once('?') {
            Some((path, _query)) => route(method, path),
            None => Route::Unknown,
        },
    }
}

/// Whether the value of a `Connection` line has the option `close`.
fn asks_to_close(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Digits only (RFC 9110, 8.6): no sign, no spaces inside. What does not fit is as long as can be.
fn number(value: &[u8]) -> Option<usize> {
    let text = str::from_utf8(value.trim_ascii()).ok()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
