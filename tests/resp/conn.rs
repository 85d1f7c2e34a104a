//! A connection that sends commands and reads replies, both as they are on the wire.
//!
//! Not here: what a reply means; which bytes are whole replies (`value`).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::value::Value;

/// For anything that only a fault can delay.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Why there was no reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Cut {
    /// Nothing, or the start of a reply, for too long.
    Silence,
    /// The server has closed.
    End,
    /// What came is not the protocol.
    Garbage(String),
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    unread: Vec<u8>,
    /// Where the next reply begins.
    start: usize,
}

impl Conn {
    /// Connects; panics where nobody listens.
    pub(crate) fn open(addr: SocketAddr) -> Conn {
        Conn::try_open(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"))
    }

    pub(crate) fn try_open(addr: SocketAddr) -> std::io::Result<Conn> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Conn { stream, unread: Vec::new(), start: 0 })
    }

    /// The socket itself, for replies that are too long to be kept. What was read already is dropped.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        self.stream
    }

    /// Closes both directions.
    pub(crate) fn close(&mut self) {
        drop(self.stream.shutdown(Shutdown::Both));
    }

    /// Sends bytes as they are. False where the server has closed.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends as much as the server takes within `time`; how much that was. Less than all: it takes no more, or has closed.
    pub(crate) fn send_within(&mut self, bytes: &[u8], time: Duration) -> usize {
        let (deadline, mut sent) = (Instant::now() + time, 0);
        while sent < bytes.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.stream.set_write_timeout(Some(left)).expect("a socket");
            match self.stream.write(&bytes[sent..]) {
                Ok(n) if n > 0 => sent += n,
                _ => break,
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        sent
    }

    /// Whether the server ends this connection within `time`; what it still says is dropped.
    pub(crate) fn ends_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            (self.start, self.unread) = (0, Vec::new());
            match self.fill(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
            {
                Err(Cut::End) => return true,
                Ok(()) if Instant::now() < deadline => {}
                _ => return false,
            }
        }
    }

    /// The next reply, within [`PATIENCE`].
    pub(crate) fn read(&mut self) -> Result<Value, Cut> {
        self.read_within(PATIENCE)
    }

    /// The next reply, if it comes within `time`.
    pub(crate) fn read_within(&mut self, time: Duration) -> Result<Value, Cut> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(value) = self.take()? {
                return Ok(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.fill(left)?;
        }
    }

    /// The next reply, if all of it is here.
    pub(crate) fn read_now(&mut self) -> Result<Option<Value>, Cut> {
        loop {
            if let Some(value) = self.take()? {
                return Ok(Some(value));
            }
            match self.fill(Duration::ZERO) {
                Ok(()) => {}
                Err(Cut::Silence) => return Ok(None),
                Err(cut) => return Err(cut),
            }
        }
    }

    /// Sends a command and reads its reply.
    #[track_caller]
    pub(crate) fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.send(&encode(args));
        self.read().unwrap_or_else(|cut| panic!("no reply: {cut:?}"))
    }

    /// The own address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a socket")
    }

    /// A command in words.
    #[track_caller]
    pub(crate) fn say(&mut self, words: &str) -> Value {
        self.ask(&words.split(' ').collect::<Vec<_>>())
    }

    fn take(&mut self) -> Result<Option<Value>, Cut> {
        match Value::parse(&self.unread[self.start..]).map_err(Cut::Garbage)? {
            Some((value, len)) => {
                self.start += len;
                if self.start == self.unread.len() {
                    self.unread.clear();
                    self.start = 0;
                }
                Ok(Some(value))
            }
            None => Ok(None),
        }
    }

    fn fill(&mut self, time: Duration) -> Result<(), Cut> {
        self.unread.drain(..self.start);
        self.start = 0;
        let mut buffer = [0; 16 << 10];
        // No time at all is a look: a timeout of zero would be one without end.
        self.stream.set_nonblocking(time.is_zero()).expect("a socket");
        if !time.is_zero() {
            self.stream.set_read_timeout(Some(time)).expect("a socket");
        }
        let got = self.stream.read(&mut buffer);
        self.stream.set_nonblocking(false).expect("a socket");
        match got {
            Ok(0) => Err(Cut::End),
            Ok(n) => {
                self.unread.extend_from_slice(&buffer[..n]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(Cut::Silence)
            }
            Err(_) => Err(Cut::End),
        }
    }
}

/// A command as an array of strings.
pub(crate) fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
