//! A small HTTP server that answers as a test tells it to: well, badly, late, or never.
//!
//! A thread a connection, blocking. What a request gets is a function of its number, from 1, over all
//! connections. It keeps the first requests, and where connections came from. `loadgen` asks any server on
//! this host for `/api/performance`, on a connection of its own: that is answered with 404 and not counted.
//!
//! Not here: servers others wrote (`others`).

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What one request gets.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// 200, 13 bytes.
    Good,
    /// This status, without a body.
    Status(u16),
    /// These bytes, and the connection stays.
    Bytes(&'static str),
    /// These bytes, then the end of the stream.
    Last(&'static str),
    /// The end of the stream.
    Close,
    /// A reset: the connection is closed with the request unread (RFC 2525, 2.17).
    Reset,
    /// Nothing, until the peer gives up.
    Never,
    /// The same after a while.
    Slow(Duration),
    /// Good, and then the server is gone: its listener and every connection.
    Gone,
}

/// Requests that are kept.
const KEPT_MAX: usize = 20_000;

/// How often a thread that waits for a request looks whether the server is gone.
const LOOK: Duration = Duration::from_millis(20);

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, World!";

/// One request as it came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    /// Its request line, and the fields.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// `POST /path`.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1")
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

#[derive(Default)]
struct State {
    gone: AtomicBool,
    requests: AtomicU64,
    seen: Mutex<Vec<Seen>>,
    /// Connections that sent a counted request, by the address they came from.
    peers: Mutex<BTreeMap<IpAddr, u64>>,
}

type Script = dyn Fn(u64) -> Reply + Send + Sync;

/// A running server; it ends when dropped.
pub(crate) struct Server {
    addr: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// A server that answers request `n` with `script(n)`.
    pub(crate) fn start(script: impl Fn(u64) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State::default());
        let (mine, script): (_, Arc<Script>) = (Arc::clone(&state), Arc::new(script));
        let accept = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if mine.gone.load(Ordering::Acquire) {
                    return;
                }
                let (state, script) = (Arc::clone(&mine), Arc::clone(&script));
                thread::spawn(move || serve(stream, &state, &*script, addr));
            }
        };
        Server { addr, state, accepting: Some(thread::spawn(accept)) }
    }

    /// A server that answers well.
    pub(crate) fn good() -> Server {
        Server::start(|_| Reply::Good)
    }

    /// A server that answers every `n`th request with `reply`, and the others well.
    pub(crate) fn every(n: u64, reply: Reply) -> Server {
        Server::start(move |number| if number.is_multiple_of(n) { reply.clone() } else { Reply::Good })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR/` and a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.addr)
    }

    /// Requests that came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Acquire)
    }

    /// The first of them.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no thread panics with it").clone()
    }

    /// Connections that were used, by the address they came from.
    pub(crate) fn peers(&self) -> BTreeMap<IpAddr, u64> {
        self.state.peers.lock().expect("no thread panics with it").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        go(&self.state, self.addr);
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

/// Ends the server: what accepts is woken by one more connection.
fn go(state: &State, addr: SocketAddr) {
    if !state.gone.swap(true, Ordering::AcqRel) {
        drop(TcpStream::connect(addr));
    }
}

/// One connection to its end. Any failure is the peer's going.
fn serve(stream: TcpStream, state: &State, script: &Script, addr: SocketAddr) {
    drop(stream.set_nodelay(true));
    drop(stream.set_read_timeout(Some(LOOK)));
    let mut conn = Conn { stream, unread: Vec::new(), state, is_known: false };
    while conn.turn(script, addr) == Some(true) {}
}

struct Conn<'a> {
    stream: TcpStream,
    unread: Vec<u8>,
    state: &'a State,
    /// It is among the peers.
    is_known: bool,
}

impl Conn<'_> {
    /// Takes one request and answers it. `Some(true)` where another may follow.
    fn turn(&mut self, script: &Script, addr: SocketAddr) -> Option<bool> {
        let is_first = self.unread.is_empty();
        let begin = if is_first { self.peek()? } else { Vec::new() };
        if self.state.gone.load(Ordering::Acquire) {
            return None;
        }
        if begin.starts_with(b"GET /api/performance ") {
            self.request()?;
            self.say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
            return Some(false);
        }
        if !self.is_known {
            self.is_known = true;
            let peer = self.stream.peer_addr().ok()?.ip();
            *self.state.peers.lock().ok()?.entry(peer).or_default() += 1;
        }
        let number = self.state.requests.fetch_add(1, Ordering::AcqRel) + 1;
        let mut reply = script(number);
        if matches!(reply, Reply::Reset) && is_first {
            return Some(false); // what was only looked at is unread
        }
        let seen = self.request()?;
        {
            let mut kept = self.state.seen.lock().ok()?;
            if kept.len() < KEPT_MAX {
                kept.push(seen);
            }
        }
        if let Reply::Slow(time) = reply {
            thread::sleep(time);
            reply = Reply::Good;
        }
        match reply {
            Reply::Good | Reply::Slow(_) => self.say(GOOD)?,
            Reply::Status(status) => {
                self.say(format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
            }
            Reply::Bytes(bytes) => self.say(bytes.as_bytes())?,
            Reply::Last(bytes) => {
                self.say(bytes.as_bytes())?;
                return Some(false);
            }
            Reply::Close | Reply::Reset => return Some(false),
            Reply::Never => {
                while self.fill()? {}
                return Some(false);
            }
            Reply::Gone => {
                self.say(GOOD)?;
                go(self.state, addr);
                return Some(false);
            }
        }
        Some(true)
    }

    fn say(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).ok()
    }

    /// Waits for bytes, and looks at the first of them. None at the end.
    fn peek(&mut self) -> Option<Vec<u8>> {
        let mut bytes = [0; 32];
        loop {
            match self.stream.peek(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => return Some(bytes[..count].to_vec()),
                Err(error) => self.wait(&error)?,
            }
        }
    }

    /// What an error of a read means: `Some` to try again.
    fn wait(&self, error: &std::io::Error) -> Option<()> {
        let is_time = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        let again = is_time || error.kind() == ErrorKind::Interrupted;
        (again && !self.state.gone.load(Ordering::Acquire)).then_some(())
    }

    /// Reads once more; false at the end of the stream.
    fn fill(&mut self) -> Option<bool> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(false),
                Ok(count) => {
                    self.unread.extend_from_slice(&buffer[..count]);
                    return Some(true);
                }
                Err(error) => self.wait(&error)?,
            }
        }
    }

    /// The next request, whole.
    fn request(&mut self) -> Option<Seen> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if !self.fill()? {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        let mut seen = Seen { head, body: Vec::new() };
        let len = seen.field("content-length").map_or(Some(0), |value| value.parse::<usize>().ok())?;
        let whole = end + 4 + len;
        while self.unread.len() < whole {
            if !self.fill()? {
                return None;
            }
        }
        seen.body.extend_from_slice(&self.unread[end + 4..whole]);
        self.unread.drain(..whole);
        Some(seen)
    }
}
