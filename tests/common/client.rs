//! A client that knows just enough HTTP/1.1 to disagree with the server.
//!
//! Its reader shares no code with the server: framing is taken from the head, and a byte too many or too few
//! shows as a broken next answer.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;

/// One answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and fields, without the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a field; panics if it is there twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        let first = values.next();
        assert!(values.next().is_none(), "{name} is there twice:\n{}", self.head);
        first
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

/// Why there was no answer.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Cut {
    /// The end of the stream before the first byte of it.
    End,
    /// A reset before the first byte of it.
    Reset,
    /// An end, reset or wait too long within it. What came, and why it ended.
    Partial(Vec<u8>, &'static str),
    /// Nothing came.
    Silence,
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cut::End => f.write_str("the end of the stream"),
            Cut::Reset => f.write_str("a reset"),
            Cut::Partial(came, why) => write!(f, "{} bytes, then {why}: {:?}", came.len(), lossy(came)),
            Cut::Silence => f.write_str("silence"),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Connects; panics when that fails.
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        Client::try_connect(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"))
    }

    pub(crate) fn try_connect(addr: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, unread: Vec::new() })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes what is sent");
    }

    /// As `send`, to a server that may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Ends our side.
    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("our side can be shut");
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(get(path));
        self.answer()
    }

    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        self.send(post(path, body));
        self.answer()
    }

    /// The next answer; panics without one.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.next(false).unwrap_or_else(|cut| panic!("no answer: {cut:?}"))
    }

    /// The answer to a HEAD request: no body, whatever the fields say.
    #[track_caller]
    pub(crate) fn answer_without_body(&mut self) -> Answer {
        self.next(true).unwrap_or_else(|cut| panic!("no answer: {cut:?}"))
    }

    /// Nothing more comes: the stream ends here, without a reset.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        assert!(self.unread.is_empty(), "bytes behind the last answer: {:?}", lossy(&self.unread));
        assert_eq!(self.fill(), Ok(false), "the stream ends");
        assert!(self.unread.is_empty());
    }

    /// Nothing comes just now, and the connection is still good.
    #[track_caller]
    pub(crate) fn is_silent(&mut self) {
        assert!(self.unread.is_empty(), "unexpected: {:?}", lossy(&self.unread));
        self.stream.set_nonblocking(true).expect("a socket");
        let mut byte = [0];
        let got = self.stream.read(&mut byte).map_err(|error| error.kind());
        self.stream.set_nonblocking(false).expect("a socket");
        assert_eq!(got, Err(ErrorKind::WouldBlock), "the server said something");
    }

    /// Exactly these many raw bytes.
    #[track_caller]
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        while self.unread.len() < len {
            assert_eq!(self.fill(), Ok(true), "{} of {len} bytes came", self.unread.len());
        }
        self.unread.drain(..len).collect()
    }

    /// Everything up to the end of the stream.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill().expect("the stream ends without a reset") {}
        std::mem::take(&mut self.unread)
    }

    /// Bytes that were read from the stream by other means.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Reads once more; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, &'static str> {
        let mut buffer = [0; 64 << 10];
        loop {
            return match self.stream.read(&mut buffer) {
                Ok(0) => Ok(false),
                Ok(n) => {
                    self.unread.extend_from_slice(&buffer[..n]);
                    Ok(true)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    Err("silence")
                }
                Err(_) => Err("reset"),
            };
        }
    }

    /// As `fill`, within an answer.
    fn more(&mut self) -> Result<(), Cut> {
        let why = match self.fill() {
            Ok(true) => return Ok(()),
            Ok(false) => "end",
            Err(why) => why,
        };
        Err(match (self.unread.is_empty(), why) {
            (true, "end") => Cut::End,
            (true, "reset") => Cut::Reset,
            (true, _) => Cut::Silence,
            (false, why) => Cut::Partial(std::mem::take(&mut self.unread), why),
        })
    }

    /// The next answer, or why there is none.
    pub(crate) fn next(&mut self, without_body: bool) -> Result<Answer, Cut> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.unread[..end].to_vec()).expect("a head is text");
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("no status line: {head}"));
        let mut answer = Answer { status, head, body: Vec::new() };
        let start = end + 4;
        let length = answer.field("content-length").map(|n| n.parse::<usize>().expect("a length"));
        let chunked = answer.field("transfer-encoding") == Some("chunked");
        assert!(!(chunked && length.is_some()), "two framings:\n{}", answer.head);
        let used = if without_body || status < 200 || status == 204 || status == 304 {
            start
        } else if chunked {
            self.chunks(start, &mut answer.body)?
        } else if let Some(length) = length {
            while self.unread.len() < start + length {
                self.more()?;
            }
            answer.body.extend_from_slice(&self.unread[start..start + length]);
            start + length
        } else {
            while self.fill().map_err(|why| Cut::Partial(self.unread.clone(), why))? {}
            answer.body.extend_from_slice(&self.unread[start..]);
            self.unread.len()
        };
        self.unread.drain(..used);
        Ok(answer)
    }

    /// Reads chunks from `at`; gives the place behind the last.
    fn chunks(&mut self, mut at: usize, body: &mut Vec<u8>) -> Result<usize, Cut> {
        loop {
            let line = loop {
                if let Some(end) = self.unread[at..].windows(2).position(|two| two == b"\r\n") {
                    break at + end;
                }
                self.more()?;
            };
            let size = std::str::from_utf8(&self.unread[at..line]).expect("a chunk size is text");
            let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk size {size:?}"));
            let from = line + 2;
            while self.unread.len() < from + size + 2 {
                self.more()?;
            }
            assert_eq!(&self.unread[from + size..from + size + 2], b"\r\n", "a chunk ends in CRLF");
            body.extend_from_slice(&self.unread[from..from + size]);
            at = from + size + 2;
            if size == 0 {
                return Ok(at);
            }
        }
    }
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

/// A GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// A POST with `Content-Length`.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A POST in chunks of these many bytes.
pub(crate) fn post_chunked(path: &str, body: &[u8], chunk: usize) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut bytes = head.into_bytes();
    for piece in body.chunks(chunk) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}
