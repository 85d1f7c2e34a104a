//! Messages over a socket, with a timeout on everything.
//!
//! Not here: what is said (`wire`), and when (`server`, `controller`).

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::now;
use super::wire::{Frames, Message};

/// The reading half of a connection.
pub(super) struct Link {
    stream: TcpStream,
    frames: Frames,
    buffer: Vec<u8>,
    /// When the last bytes came.
    heard: Instant,
}

impl Link {
    /// `write_max` is how long a send may wait for room.
    pub(super) fn new(stream: TcpStream, write_max: Duration) -> Result<Link, String> {
        let set = || {
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(write_max))
        };
        set().map_err(|error: std::io::Error| error.to_string())?;
        Ok(Link { stream, frames: Frames::default(), buffer: vec![0; 64 << 10], heard: now() })
    }

    /// The other half.
    pub(super) fn writer(&self) -> Result<TcpStream, String> {
        self.stream.try_clone().map_err(|error| error.to_string())
    }

    /// How long the other side has been silent.
    pub(super) fn silence(&self) -> Duration {
        now().duration_since(self.heard)
    }

    /// The next message; None if it is not complete within `timeout`.
    ///
    /// # Errors
    /// The other side closed, or said what is no message. Nothing more can be read.
    pub(super) fn read(
        &mut self,
        len_max: usize,
        slices_max: usize,
        timeout: Duration,
    ) -> Result<Option<Message>, String> {
        let deadline = now() + timeout;
        loop {
            if let Some(message) = self.frames.next(len_max, slices_max)? {
                return Ok(Some(message));
            }
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                return Ok(None);
            }
            // A timeout of zero would be none at all.
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Err("it closed the connection".into()),
                Ok(len) => {
                    self.heard = now();
                    self.frames.push(&self.buffer[..len]);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(error.to_string()),
                },
            }
        }
    }

    /// As [`Link::read`], where none in time is an error.
    pub(super) fn expect(&mut self, len_max: usize, timeout: Duration) -> Result<Message, String> {
        let none = || format!("it said nothing for {timeout:?}");
        self.read(len_max, 0, timeout)?.ok_or_else(none)
    }
}

/// Sends a message; waits for room as long as [`Link::new`] was told.
pub(super) fn send(mut stream: &TcpStream, message: &Message) -> Result<(), String> {
    send_bytes(&mut stream, &message.encode()?)
}

/// As [`send`], of bytes that were made before.
pub(super) fn send_bytes(stream: &mut &TcpStream, bytes: &[u8]) -> Result<(), String> {
    stream.write_all(bytes).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "it takes no more bytes".into(),
        _ => error.to_string(),
    })
}
