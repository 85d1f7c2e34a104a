//! `corelane health`: is a node alive, asked from outside, with plain sockets.
//!
//! Not here: what `/health` answers (`corelane::node`).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corelane::config::Config;

use super::{CannotRun, Exit, print, tell};

/// For connecting, asking and the answer; looking up a name has the time limits of the system's resolver.
const TIME: Duration = Duration::from_secs(2);

/// Bytes of an answer that are read in search of its first line.
const ANSWER_LEN_MAX: usize = 1024;

/// Where to ask.
#[derive(Debug, Eq, PartialEq)]
struct Target {
    /// Host and port, as in the `Host` field.
    authority: String,
    path: String,
    /// Through this socket, whatever the host.
    socket: Option<PathBuf>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Some(socket) => write!(f, "unix:{} {}", socket.display(), self.path),
            None => write!(f, "http://{}{}", self.authority, self.path),
        }
    }
}

/// Asks the node that `config` would start: at its first address, and through its first socket if it has none.
pub(crate) fn ask_node(config: &Config) -> Exit {
    let settings = config.settings();
    let socket = || settings.listen.iter().find_map(|listen| listen.unix().map(Path::to_owned));
    let (authority, socket) = match settings.first_tcp() {
        Some(addr) => (reachable(addr).to_string(), None),
        None => ("localhost".to_owned(), socket()),
    };
    tell_health(&Target { authority, path: "/health".to_owned(), socket })
}

/// Asks the node at `url`.
pub(crate) fn ask_url(url: &str) -> Result<Exit, CannotRun> {
    Ok(tell_health(&parse(url)?))
}

fn tell_health(target: &Target) -> Exit {
    match ask(target) {
        Ok(200) => print(format_args!("healthy: {target} answers 200\n")),
        Ok(status) => {
            tell(format_args!("corelane: not healthy: {target} answers {status}"));
            Exit::Failed
        }
        Err(error) => {
            tell(format_args!("corelane: not healthy: {target}: {error}"));
            Exit::Failed
        }
    }
}

/// The address under which a listener is reached from its own host.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// `http://HOST[:PORT][/PATH]`.
fn parse(url: &str) -> Result<Target, CannotRun> {
    let wrong = |why| CannotRun(format!("--url {}: {why}", url.escape_debug()));
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(wrong("write it like http://127.0.0.1:8080/health"));
    };
    if !rest.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("only visible ASCII characters are allowed, without blanks"));
    }
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at..]),
        None => (rest, "/health"),
    };
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let (host, port) = authority.rsplit_once(':').unwrap_or((&authority, ""));
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong("host or port is not one; write it like http://127.0.0.1:8080/health"));
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

/// The time that is left until then.
// A tool that waits for another process has its own clock.
#[allow(clippy::disallowed_methods)]
fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 2 s")),
        left => Ok(left),
    }
}

/// The status that `target` answers with.
#[allow(clippy::disallowed_methods)]
fn ask(target: &Target) -> io::Result<u16> {
    let until = Instant::now() + TIME;
    let mut stream: Box<dyn Stream> = match &target.socket {
        Some(socket) => Box::new(connect_unix(socket, until)?),
        None => Box::new(connect(&target.authority, until)?),
    };
    let Target { authority, path, .. } = target;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.set_time(left(until)?)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 256];
    while answer.len() < ANSWER_LEN_MAX && !answer.contains(&b'\n') {
        stream.set_time(left(until)?)?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&part[..len]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    status_of(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1.1"))
}

/// A connection to the first address of `authority` that takes one.
fn connect(authority: &str, until: Instant) -> io::Result<TcpStream> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "this name has no address");
    for addr in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, left(until)?) {
            Ok(connected) => return Ok(connected),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// A connection through the socket at `path`. The call itself has no time limit and waits while the queue of the
/// node is full: it is made by a thread that is left behind then.
fn connect_unix(path: &Path, until: Instant) -> io::Result<UnixStream> {
    let (give, take) = crossbeam_channel::bounded(1);
    let path = path.to_owned();
    std::thread::Builder::new().spawn(move || drop(give.send(UnixStream::connect(path))))?;
    match take.recv_timeout(left(until)?) {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection within 2 s")),
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
        parse(url).ok().map(|target| (target.authority, target.path))
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
    fn a_wildcard_is_asked_by_loopback() {
        let asked = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(asked("[::]:1"), "[::1]:1");
        assert_eq!(asked("10.1.2.3:1"), "10.1.2.3:1");
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
