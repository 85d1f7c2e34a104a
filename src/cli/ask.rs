//! One GET of another process, with plain sockets and a time limit.
//!
//! Not here: what is asked and what the answer means (`health`, `doctor`).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::CannotRun;

/// Where to ask.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Target {
    /// Host and port, as in the `Host` field.
    pub(super) authority: String,
    pub(super) path: String,
    /// Through this socket, whatever the host.
    pub(super) socket: Option<PathBuf>,
}

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants<'a> {
    /// For connecting, asking and the answer; looking up a name has the time limits of the system's resolver.
    pub(super) time: Duration,
    /// Bytes of the answer that are read at most.
    pub(super) len_max: usize,
    /// Whether its first line is enough.
    pub(super) line_only: bool,
    /// A field of the request, with its line end, or nothing.
    pub(super) field: &'a str,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Some(socket) => write!(f, "unix:{} {}", socket.display(), self.path),
            None => write!(f, "http://{}{}", self.authority, self.path),
        }
    }
}

/// `http://HOST[:PORT][/PATH]`; `path` where there is none. `what` names whoever gave it.
pub(super) fn parse(what: &str, url: &str, path: &str) -> Result<Target, CannotRun> {
    let wrong = |why: String| CannotRun(format!("{what} {}: {why}", url.escape_debug()));
    let like = "write it like http://127.0.0.1:8080";
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(wrong(format!("{like}{path}")));
    };
    if !rest.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("only visible ASCII characters are allowed, without blanks".to_owned()));
    }
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at..]),
        None => (rest, path),
    };
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let (host, port) = authority.rsplit_once(':').unwrap_or((&authority, ""));
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong(format!("host or port is not one; {like}{path}")));
    }
    Ok(Target { path: path.to_owned(), authority, socket: None })
}

/// What is asked through.
trait Stream: Read + Write {
    /// Bounds the next call.
    fn set_time(&self, time: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_time(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl Stream for UnixStream {
    fn set_time(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

/// When there must be an answer.
#[derive(Clone, Copy)]
struct Clock {
    until: Instant,
    time: Duration,
}

impl Clock {
    /// The time that is left.
    // A tool that waits for another process has its own clock.
    #[allow(clippy::disallowed_methods)]
    fn left(self) -> io::Result<Duration> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(self.too_late("answer")),
            left => Ok(left),
        }
    }

    fn too_late(self, what: &str) -> io::Error {
        let text = format!("no {what} within {} s", self.time.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, text)
    }
}

/// The status that `target` answers with, and the bytes of the answer that were read.
#[allow(clippy::disallowed_methods)]
pub(super) fn ask(target: &Target, wants: Wants<'_>) -> io::Result<(u16, Vec<u8>)> {
    let clock = Clock { until: Instant::now() + wants.time, time: wants.time };
    let mut stream: Box<dyn Stream> = match &target.socket {
        Some(socket) => Box::new(connect_unix(socket, clock)?),
        None => Box::new(connect(&target.authority, clock)?),
    };
    let (Target { authority, path, .. }, field) = (target, wants.field);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n{field}Connection: close\r\n\r\n");
    stream.set_time(clock.left()?)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while answer.len() < wants.len_max && !(wants.line_only && answer.contains(&b'\n')) {
        stream.set_time(clock.left()?)?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&part[..len]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    let status = status_of(&answer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1.1"))?;
    Ok((status, answer))
}

/// What stands behind the head of an answer.
pub(super) fn body(answer: &[u8]) -> String {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or_else(String::new, |end| String::from_utf8_lossy(&answer[end + 4..]).into_owned())
}

/// A connection to the first address of `authority` that takes one.
fn connect(authority: &str, clock: Clock) -> io::Result<TcpStream> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "this name has no address");
    for addr in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, clock.left()?) {
            Ok(connected) => return Ok(connected),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// A connection through the socket at `path`. The call itself has no time limit and waits while the queue of the
/// node is full: it is made by a thread that is left behind then.
fn connect_unix(path: &Path, clock: Clock) -> io::Result<UnixStream> {
    let (give, take) = crossbeam_channel::bounded(1);
    let path = path.to_owned();
    std::thread::Builder::new().spawn(move || drop(give.send(UnixStream::connect(path))))?;
    match take.recv_timeout(clock.left()?) {
        Ok(outcome) => outcome,
        Err(_) => Err(clock.too_late("connection")),
    }
}

/// The status in the first line of an answer (RFC 9112, 4).
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&b| b == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    let status = line.get(1..5)?.strip_prefix(' ')?;
    status.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn target(url: &str) -> Option<(String, String)> {
        parse("--url", url, "/health").ok().map(|target| (target.authority, target.path))
    }

    #[test]
    fn a_url_has_a_host_and_may_have_a_port_and_a_path() {
        let some = |authority: &str, path: &str| Some((authority.to_owned(), path.to_owned()));
        assert_eq!(target("http://127.0.0.1:8080"), some("127.0.0.1:8080", "/health"));
        assert_eq!(target("http://node/up?x=1"), some("node:80", "/up?x=1"));
        assert_eq!(target("http://[::1]"), some("[::1]:80", "/health"));
        assert_eq!(target("http://[::1]:81/"), some("[::1]:81", "/"));
        for url in [
            "",
            "127.0.0.1",
            "https://a",
            "http://",
            "http://:80",
            "http://a:b",
            "http://a/\r\nX: y",
            "http://a:99999",
        ] {
            assert_eq!(target(url), None, "{url}");
        }
    }

    #[test]
    fn the_status_is_read_from_a_first_line_only() {
        assert_eq!(status_of(b"HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status_of(b"HTTP/1.0 503\r\n"), Some(503));
        for answer in
            [&b""[..], b"HTTP/1.1", b"HTTP/2 200\r\n", b"SSH-2.0-x\r\n", b"\xff\xfe", b"HTTP/1.1 2x0 \r\n"]
        {
            assert_eq!(status_of(answer), None);
        }
    }
}
