//! Requests to write and answers to read: the client's side of HTTP/1.1, as far as a test needs it.
//!
//! Written apart from the server's own machine, so that it can disagree with it (RFC 9112, 6 and 7.1).
//!
//! Not here: trailers, which are skipped; how bytes travel (`connection`).

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request in the making. HTTP/1.1 with `Host: test`, unless that is set.
#[derive(Clone, Debug)]
pub struct TestRequest {
    method: String,
    path: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl TestRequest {
    /// A request without a body. Nothing is checked: a test may ask for what is not allowed.
    pub fn new(method: &str, path: &str) -> TestRequest {
        TestRequest { method: method.to_owned(), path: path.to_owned(), fields: Vec::new(), body: None }
    }

    /// A GET.
    pub fn get(path: &str) -> TestRequest {
        TestRequest::new("GET", path)
    }

    /// A POST with this body.
    pub fn post(path: &str, body: impl AsRef<[u8]>) -> TestRequest {
        TestRequest::new("POST", path).body(body)
    }

    /// With one more field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> TestRequest {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body, and `Content-Length`.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> TestRequest {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// With this value as its body, and `Content-Type: application/json`.
    ///
    /// # Panics
    /// When the value cannot be written as JSON.
    #[must_use]
    pub fn json(self, value: &impl Serialize) -> TestRequest {
        let body = sonic_rs::to_vec(value).expect("a value that JSON can hold");
        self.header("content-type", "application/json").body(body)
    }

    /// As it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let mut field = |name: &str, value: &str| head.extend([name, ": ", value, "\r\n"]);
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            field("Host", "test");
        }
        for (name, value) in &self.fields {
            field(name, value);
        }
        if let Some(body) = &self.body {
            field("Content-Length", &body.len().to_string());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// An answer, its body decoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TestResponse {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl TestResponse {
    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first field of this name, in any case. Bytes that are not UTF-8 are replaced.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields in order, those the connection adds among them (`Date`, `Server`, framing).
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// The body read as JSON.
    ///
    /// # Panics
    /// When it is not JSON or does not fit `T`.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match sonic_rs::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)),
        }
    }
}

/// Why there is no answer, and what came instead.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NoAnswer {
    why: &'static str,
    received: Vec<u8>,
}

impl NoAnswer {
    pub(super) fn new(why: &'static str, received: Vec<u8>) -> NoAnswer {
        NoAnswer { why, received }
    }

    /// What came of an answer that is not whole.
    pub fn received(&self) -> &[u8] {
        &self.received
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)?;
        if !self.received.is_empty() {
            write!(f, "; received: {:?}", String::from_utf8_lossy(&self.received))?;
        }
        Ok(())
    }
}

impl std::error::Error for NoAnswer {}

/// What bytes are.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Parsed {
    /// An answer, and how many bytes it and the interim ones before it took.
    Whole(TestResponse, usize),
    /// The beginning of one.
    Partial,
    /// None.
    Malformed(&'static str),
}

/// Reads the answer that `bytes` start with. `is_head`: to a HEAD, so without a body. `ended`: no more comes.
pub(super) fn parse(bytes: &[u8], is_head: bool, ended: bool) -> Parsed {
    let mut start = 0;
    loop {
        let rest = &bytes[start..];
        let Some(head_len) = find(rest, b"\r\n\r\n").map(|at| at + 4) else { return Parsed::Partial };
        let Some((status, fields)) = parse_head(&rest[..head_len - 4]) else {
            return Parsed::Malformed("the head of the answer is not HTTP/1");
        };
        // RFC 9110, 15.2: any number of interim answers may come first; 101 is the last of its connection.
        if (100..200).contains(&status) && status != 101 {
            start += head_len;
            continue;
        }
        let bodiless = is_head || matches!(status, 101 | 204 | 304);
        let body = match bodiless {
            true => Ok(Some((Vec::new(), 0))),
            false => parse_body(&fields, &rest[head_len..], ended),
        };
        return match body {
            Ok(Some((body, used))) => {
                Parsed::Whole(TestResponse { status, fields, body }, start + head_len + used)
            }
            Ok(None) => Parsed::Partial,
            Err(why) => Parsed::Malformed(why),
        };
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn parse_head(head: &[u8]) -> Option<(u16, Vec<(String, String)>)> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let mut status_line = lines.next()?.splitn(3, ' ');
    if !matches!(status_line.next()?, "HTTP/1.1" | "HTTP/1.0") {
        return None;
    }
    let status = status_line.next()?.parse().ok().filter(|status| (100..600).contains(status))?;
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return None;
        }
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
    Some((status, fields))
}

type Body = Result<Option<(Vec<u8>, usize)>, &'static str>;

/// The body and the bytes it took, where it is whole (RFC 9112, 6.3).
fn parse_body(fields: &[(String, String)], bytes: &[u8], ended: bool) -> Body {
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    };
    match (&all("transfer-encoding")[..], &all("content-length")[..]) {
        ([], []) => Ok(ended.then(|| (bytes.to_vec(), bytes.len()))),
        ([], [length]) => {
            let length: usize = length.parse().map_err(|_| "Content-Length is no number")?;
            Ok(bytes.get(..length).map(|body| (body.to_vec(), length)))
        }
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => parse_chunks(bytes),
        _ => Err("the answer is framed in two ways, or in one that is not known"),
    }
}

fn parse_chunks(bytes: &[u8]) -> Body {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line_len) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&bytes[at..at + line_len]).map_err(|_| "a chunk size is no text")?;
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| "a chunk size is no number")?;
        at += line_len + 2;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk does not end where it should");
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
    // Trailer fields, if any, up to an empty line.
    loop {
        let Some(line_len) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        at += line_len + 2;
        if line_len == 0 {
            return Ok(Some((body, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8], is_head: bool, ended: bool) -> (TestResponse, usize) {
        match parse(bytes, is_head, ended) {
            Parsed::Whole(response, used) => (response, used),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_framing_ends_where_the_rfc_says() {
        let (r, used) = whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", false, false);
        assert_eq!((r.status(), r.body(), used), (200, &b"ab"[..], 40));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\nT: v\r\n\r\nrest";
        let (r, used) = whole(chunked, false, false);
        assert_eq!((r.text(), used), ("abc", chunked.len() - 4));
        for len in 0..used {
            assert_eq!(parse(&chunked[..len], false, false), Parsed::Partial, "{len}");
        }
        let to_close = b"HTTP/1.0 200 OK\r\n\r\nall";
        assert_eq!(parse(to_close, false, false), Parsed::Partial);
        assert_eq!(whole(to_close, false, true).0.text(), "all");
    }

    #[test]
    fn answers_without_a_body_and_interim_ones_are_told_apart() {
        let (r, used) = whole(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, false);
        assert_eq!((r.header("content-LENGTH"), r.body(), used), (Some("5"), &b""[..], 38));
        assert_eq!(whole(b"HTTP/1.1 204 No Content\r\n\r\n", false, false).0.status(), 204);
        let after = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(whole(after, false, false).0.status(), 413);
        assert_eq!(parse(&after[..25], false, false), Parsed::Partial);
        assert_eq!(whole(b"HTTP/1.1 101 Switching\r\n\r\nframe", false, false).1, 26);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bad in [
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ] {
            assert!(matches!(parse(bad.as_bytes(), false, true), Parsed::Malformed(_)), "{bad:?}");
        }
    }
}
