//! Listening sockets that whoever started this process opened for it: socket activation (sd_listen_fds(3)).
//!
//! Not here: the variables that say how many there are, and their names (`supervisor` of the product).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;

use super::{check, set_option};
use crate::RawAddr;

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Descriptors that are taken over at most: as many as a node has places to listen at, of both kinds.
pub const HANDED_MAX: u32 = 32;

/// Where such a socket listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HandedAt {
    /// TCP, at this address.
    Tcp(SocketAddr),
    /// A Unix socket of this path. The file belongs to whoever made it.
    Unix(PathBuf),
}

/// A listening socket that was handed over. Whoever did so may hold it as well.
#[derive(Debug)]
pub struct HandedSocket {
    fd: OwnedFd,
    at: HandedAt,
}

/// Takes over the `count` descriptors from 3 on, once in the life of the process. They are close-on-exec then.
///
/// Call it before this process has a listening socket of its own: one that stood in that place would be owned twice.
///
/// # Errors
/// `AlreadyExists` the second time. `InvalidInput` for more than [`HANDED_MAX`], and for one that is no listening
/// stream socket of IPv4, IPv6 or a path; which one is said. `EBADF` for one that is not open.
pub fn take_handed(count: u32) -> io::Result<Vec<HandedSocket>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if count > HANDED_MAX {
        let what = format!("{count} sockets were handed over, and at most {HANDED_MAX} are taken");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "they were taken over already"));
    }
    let numbers = (0..count).map(|n| FIRST + c_int::try_from(n).unwrap_or(0));
    numbers.map(take).collect()
}

fn take(number: RawFd) -> io::Result<HandedSocket> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("descriptor {number}: {error}"));
    let other =
        |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {number} {what}"));
    if number_option(number, libc::SO_ACCEPTCONN).map_err(named)? != 1 {
        return Err(other("is a socket that does not listen"));
    }
    if number_option(number, libc::SO_TYPE).map_err(named)? != libc::SOCK_STREAM {
        return Err(other("is no stream socket"));
    }
    // SAFETY: rule 2, with the word of the starter in place of a call: it is open and listens, which nothing of ours
    // does yet, and `TAKEN` keeps it from being taken twice.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: F_SETFD takes an integer.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    let mut raw = RawAddr::empty();
    // SAFETY: rule 1: the address and its room, both in `raw`.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), raw.as_mut_ptr(), raw.len_mut_ptr()) })?;
    let at = match (raw.to_socket_addr(), raw.to_path()) {
        (Some(addr), _) => HandedAt::Tcp(addr),
        (None, Some(path)) => HandedAt::Unix(path),
        (None, None) => return Err(other("listens neither at an address of IP nor at a path")),
    };
    Ok(HandedSocket { fd, at })
}

/// An option of a socket that is not ours yet.
fn number_option(number: RawFd, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
    let start = (&raw mut value).cast();
    // SAFETY: rule 1: both options read here are ints. A number that is not open is an error of the call.
    check(unsafe { libc::getsockopt(number, libc::SOL_SOCKET, name, start, &raw mut len) })?;
    Ok(value)
}

impl HandedSocket {
    /// Where it listens.
    pub fn at(&self) -> &HandedAt {
        &self.at
    }

    /// A descriptor of this one socket for each of `shards` shards: whichever is free takes the next connection.
    /// Gives it our queue length, and `TCP_NODELAY` for what it accepts. The path of a Unix socket stays when all
    /// are closed, and so do connections that wait while the starter holds it.
    ///
    /// # Errors
    /// `EMFILE`, and what else listen(2) and setsockopt(2) name.
    pub fn share(&self, shards: usize, backlog: u32) -> io::Result<Vec<OwnedFd>> {
        if matches!(self.at, HandedAt::Tcp(_)) {
            set_option(self.fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        }
        let backlog = c_int::try_from(backlog).unwrap_or(c_int::MAX);
        // SAFETY: listen takes no pointer. On a socket that listens it sets the length of the queue.
        check(unsafe { libc::listen(self.fd.as_raw_fd(), backlog) })?;
        (0..shards).map(|_| self.fd.try_clone()).collect()
    }
}

impl AsFd for HandedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_listening_socket_is_taken_with_its_place_and_shared() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let socket = take(listener.into_raw_fd()).unwrap();
        assert_eq!(socket.at(), &HandedAt::Tcp(addr));
        let shares = socket.share(3, 16).unwrap();
        assert_eq!(shares.len(), 3);
        let mut client = TcpStream::connect(addr).unwrap();
        let [first, ..] = <[OwnedFd; 3]>::try_from(shares).unwrap();
        let (mut server, _) = TcpListener::from(first).accept().unwrap();
        assert!(server.nodelay().unwrap());
        server.write_all(b"hi").unwrap();
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
    }

    #[test]
    fn a_unix_socket_is_known_by_its_path_and_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        let socket = take(UnixListener::bind(&path).unwrap().into_raw_fd()).unwrap();
        assert_eq!(socket.at(), &HandedAt::Unix(path.clone()));
        drop(socket.share(1, 16).unwrap());
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_listening_stream_socket_is_refused_by_its_number() {
        let says = |fd: RawFd| take(fd).unwrap_err().to_string();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(says(client.as_raw_fd()).ends_with("is a socket that does not listen"));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(says(udp.as_raw_fd()).ends_with("is a socket that does not listen"));
        let file = tempfile::tempfile().unwrap();
        assert!(says(file.as_raw_fd()).contains("Socket operation on non-socket"));
        assert!(says(1_000_000).starts_with("descriptor 1000000: "));
        let many = take_handed(HANDED_MAX + 1).unwrap_err();
        assert!(many.to_string().starts_with("33 sockets were handed over"), "{many}");
    }
}
