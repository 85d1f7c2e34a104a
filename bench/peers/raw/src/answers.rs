//! Heads of answers, made once and given a new date once a second.
//!
//! Not here: which answer a request gets (`machine`).

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

/// `Date` in the preferred format is always this long: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
const DATE_LEN: usize = 29;

/// Largest output buffer that a connection keeps to itself: 128 answers.
const KEPT_LEN_MAX: usize = 16 * 1024;

/// Larger buffers that a thread keeps for all its connections: 16 of the longest echo are 16 MiB.
const SPARES_MAX: usize = 16;

const OK: &str = "200 OK";
const TEXT: &str = "text/plain";

/// What one thread has ready to answer with.
#[derive(Debug)]
pub struct Answers {
    /// The second that the dates are of, since 1970.
    second: i64,
    date: [u8; DATE_LEN],
    /// Where the date is in each of the heads below.
    date_at: usize,
    /// `GET /plaintext`, head and body.
    plaintext: Vec<u8>,
    /// Heads up to the value of `Content-Length`.
    json: Vec<u8>,
    octets: Vec<u8>,
    /// The JSON body while its length is found.
    body: Vec<u8>,
    /// Large buffers that nobody uses. The last one given back is taken first: it is in the cache.
    spares: Vec<Vec<u8>>,
}

/// What `GET /json` is made of.
#[derive(Serialize)]
struct Message {
    message: &'static str,
}

impl Answers {
    /// Dates are of 1970 until [`Answers::refresh`].
    #[must_use]
    pub fn new() -> Answers {
        let start = format!("HTTP/1.1 {OK}\r\nServer: {}\r\nDate: ", peer_work::SERVER);
        let mut answers = Answers {
            second: 0,
            date: date(0),
            date_at: start.len(),
            plaintext: Vec::new(),
            json: Vec::new(),
            octets: Vec::new(),
            body: Vec::new(),
            spares: Vec::new(),
        };
        answers.plaintext = answers.start(OK, TEXT);
        put_length(&mut answers.plaintext, peer_work::PLAINTEXT.len());
        answers.plaintext.extend_from_slice(peer_work::PLAINTEXT);
        answers.json = answers.start(OK, "application/json");
        answers.octets = answers.start(OK, "application/octet-stream");
        answers
    }

    /// Sets the date of all answers to `second`, seconds since 1970. Does nothing if it is that already.
    #[inline]
    pub fn refresh(&mut self, second: i64) {
        if second != self.second {
            self.rewrite(second);
        }
    }

    #[cold]
    fn rewrite(&mut self, second: i64) {
        self.second = second;
        self.date = date(second);
        let at = self.date_at..self.date_at + DATE_LEN;
        for head in [&mut self.plaintext, &mut self.json, &mut self.octets] {
            head[at.clone()].copy_from_slice(&self.date);
        }
    }

    /// Empties an output buffer that was sent, and takes it away from the connection if it is a large one.
    #[inline]
    pub fn clear(&mut self, out: &mut Vec<u8>) {
        out.clear();
        if out.capacity() > KEPT_LEN_MAX {
            let large = std::mem::take(out);
            if self.spares.len() < SPARES_MAX {
                self.spares.push(large);
            }
        }
    }

    /// Makes room for `len` more bytes in `out`: with a large buffer that is at hand, else with more memory.
    #[inline]
    pub(crate) fn make_room(&mut self, out: &mut Vec<u8>, len: usize) {
        if out.len() + len > KEPT_LEN_MAX
            && out.capacity() <= KEPT_LEN_MAX
            && let Some(mut large) = self.spares.pop()
        {
            large.extend_from_slice(out);
            *out = large;
        }
        out.reserve(len);
    }

    /// Appends the answer of `GET /plaintext`.
    #[inline]
    pub(crate) fn plaintext(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.plaintext);
    }

    /// Appends the answer of `GET /json`, its body made anew.
    #[inline]
    pub(crate) fn json(&mut self, out: &mut Vec<u8>) {
        self.body.clear();
        let made = sonic_rs::to_writer(&mut self.body, &Message { message: peer_work::MESSAGE });
        assert!(made.is_ok(), "a structure of one string is made into JSON in memory");
        out.extend_from_slice(&self.json);
        put_length(out, self.body.len());
        out.extend_from_slice(&self.body);
    }

    /// Appends the head of an answer that carries `len` bytes as `application/octet-stream`.
    #[inline]
    pub(crate) fn octets(&self, out: &mut Vec<u8>, len: usize) {
        out.extend_from_slice(&self.octets);
        put_length(out, len);
    }

    /// Appends an answer without a body.
    #[cold]
    pub(crate) fn empty(&self, out: &mut Vec<u8>, status: &str) {
        out.extend_from_slice(&self.start(status, TEXT));
        put_length(out, 0);
    }

    /// Adds `Connection: close` to the answer that starts at `at` in `out` (RFC 9112, 9.6).
    #[cold]
    pub(crate) fn mark_last(out: &mut Vec<u8>, at: usize) {
        let status_len = out[at..].iter().position(|&byte| byte == b'\n').map_or(0, |index| index + 1);
        out.splice(at + status_len..at + status_len, *b"Connection: close\r\n");
    }

    /// The head of an answer up to the value of `Content-Length`.
    fn start(&self, status: &str, content_type: &str) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {status}\r\nServer: {}\r\nDate: ", peer_work::SERVER).into_bytes();
        head.extend_from_slice(&self.date);
        head.extend_from_slice(b"\r\nContent-Type: ");
        head.extend_from_slice(content_type.as_bytes());
        head.extend_from_slice(b"\r\nContent-Length: ");
        head
    }
}

impl Default for Answers {
    fn default() -> Answers {
        Answers::new()
    }
}

/// Appends the value of `Content-Length` and the end of the head.
#[inline]
fn put_length(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// `second` as a date of HTTP. What lies before 1970 or after 9999 is 1970: the clock is wrong then.
fn date(second: i64) -> [u8; DATE_LEN] {
    const YEAR_10000: u64 = 253_402_300_800;
    let second = u64::try_from(second).ok().filter(|&second| second < YEAR_10000).unwrap_or(0);
    let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
    let mut text = [0; DATE_LEN];
    let written = write!(&mut text[..], "{date}");
    assert!(written.is_ok(), "a date has {DATE_LEN} bytes");
    text
}
