//! The epoll limit loop: one thread, edge-triggered, one receive and one send a request.
//!
//! A receive shorter than the buffer has emptied the socket, so the read that would only say
//! `EAGAIN` is skipped; a peer that closes raises a new edge. What a send did not take is owed and
//! continued when the socket has room.
//!
//! Not here: the request scan, the response and the listener (`mod.rs`).

use std::convert::Infallible;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::{OWED_LEN_MAX, Options};

/// Events taken in one wait.
const EVENTS_MAX: usize = 1024;

/// Bytes taken in one receive, all connections through one buffer.
const RECV_LEN: usize = 16384;

/// The listener's event; every other one carries its descriptor.
const LISTENER: u64 = u64::MAX;

struct Conn {
    socket: OwnedFd,
    /// Answer bytes the socket did not take yet.
    owed: usize,
    /// Incomplete request head.
    partial: Vec<u8>,
    /// The peer will send no more: over when nothing is owed.
    ended: bool,
}

/// The connection is over: drop it, which closes the socket.
struct Over;

/// Serves until an epoll or listener error.
///
/// # Errors
/// Whatever the set-up or a wait reports. Trouble with one connection closes that one.
pub(crate) fn serve(options: &Options) -> io::Result<Infallible> {
    if let Some(cpu) = options.cpu {
        super::pin(cpu)?;
    }
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let listener = super::listen(options.listen, SocketFlags::NONBLOCK)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    eprintln!("limit-epoll: listening on {}", options.listen);

    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let mut buffer = [MaybeUninit::<u8>::uninit(); RECV_LEN];
    loop {
        events.clear();
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let data = event.data.u64();
            if data == LISTENER {
                accept(&epoll, &listener, &mut conns)?;
                continue;
            }
            let index = usize::try_from(data).unwrap_or(usize::MAX);
            // An earlier event of this batch may have closed it.
            let Some(conn) = conns.get_mut(index).and_then(Option::as_mut) else { continue };
            if conn.ready(event.flags, &mut buffer).is_err() {
                conns[index] = None;
            }
        }
    }
}

/// Accepts until the queue is empty. Out of descriptors, the rest waits in the queue.
fn accept(epoll: &OwnedFd, listener: &OwnedFd, conns: &mut Vec<Option<Conn>>) -> io::Result<()> {
    loop {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = match rustix::net::accept_with(listener, flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::MFILE | Errno::NFILE) => return Ok(()),
            Err(Errno::CONNABORTED | Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let fd = socket.as_raw_fd();
        let index = usize::try_from(fd).unwrap_or(usize::MAX);
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &socket, EventData::new_u64(index as u64), interest)?;
        if conns.len() <= index {
            conns.resize_with(index + 1, || None);
        }
        conns[index] = Some(Conn { socket, owed: 0, partial: Vec::new(), ended: false });
    }
}

impl Conn {
    #[inline]
    fn ready(&mut self, flags: EventFlags, buffer: &mut [MaybeUninit<u8>]) -> Result<(), Over> {
        if self.owed > 0 && flags.contains(EventFlags::OUT) {
            self.send()?;
        }
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            return Err(Over);
        }
        let closing = flags.contains(EventFlags::RDHUP);
        if !flags.contains(EventFlags::IN) || self.ended {
            return Ok(());
        }
        loop {
            let bytes = match recv(&self.socket, buffer) {
                Ok(bytes) => bytes,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Over),
            };
            if bytes.is_empty() {
                self.ended = true;
                return if self.owed > 0 { Ok(()) } else { Err(Over) };
            }
            let full = bytes.len() == RECV_LEN;
            let requests = super::receive(&mut self.partial, bytes).map_err(|_| Over)?;
            if requests > 0 {
                let blocked = self.owed > 0;
                self.owed += requests * super::RESPONSE_LEN;
                if blocked && self.owed > OWED_LEN_MAX {
                    return Err(Over);
                }
                if !blocked {
                    self.send()?;
                }
            }
            if !full && !closing {
                return Ok(());
            }
        }
    }

    /// Sends what is owed until the socket is full.
    #[inline]
    fn send(&mut self) -> Result<(), Over> {
        while self.owed > 0 {
            match rustix::net::send(&self.socket, super::owed_bytes(self.owed), SendFlags::NOSIGNAL) {
                Ok(sent) => self.owed -= sent,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Over),
            }
        }
        if self.ended { Err(Over) } else { Ok(()) }
    }
}

#[inline]
fn recv<'b>(socket: &OwnedFd, buffer: &'b mut [MaybeUninit<u8>]) -> Result<&'b [u8], Errno> {
    let ((bytes, _), _) = rustix::net::recv(socket, buffer, RecvFlags::empty())?;
    Ok(bytes)
}
