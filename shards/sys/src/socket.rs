//! Listening sockets, and the few calls a socket needs before a ring has it.
//!
//! Options that accepted sockets inherit (`TCP_NODELAY`, buffer sizes) are set on the listener, which saves
//! a call for each connection.
//!
//! Not here: accepting and I/O at speed (`uring`), which addresses to listen on (`config`).

mod handed;
mod steer;
mod unix;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::c_int;

use crate::RawAddr;

pub use handed::{HANDED_MAX, HandedAt, HandedSocket, take_handed};
pub use steer::{can_steer, steer_by_cpu, unsteer};
pub use unix::{SocketFile, UnixListener, UnixOptions, listen_unix, probe_unix};

/// How to listen. The default is what a shard wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenOptions {
    /// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn` without a word.
    pub backlog: u32,
    /// `TCP_NODELAY` for accepted sockets: small answers leave at once.
    pub nodelay: bool,
    /// `SO_REUSEPORT`: further sockets of the same user may listen here, and share the connections.
    pub reuseport: bool,
    /// `IPV6_V6ONLY`: an IPv6 wildcard takes no IPv4 connections. No effect on IPv4 addresses.
    pub v6only: bool,
    /// `TCP_DEFER_ACCEPT` in seconds, 0 for none: accept when the first bytes are there. The kernel rounds
    /// it up to its retransmission steps.
    pub defer_accept_s: u32,
    /// `SO_SNDBUF` for accepted sockets, bytes; the kernel doubles it and then no longer tunes it.
    pub send_buffer_bytes: Option<u32>,
    /// `SO_RCVBUF` for accepted sockets, bytes; the kernel doubles it and then no longer tunes it.
    pub recv_buffer_bytes: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 4096,
            nodelay: true,
            reuseport: true,
            v6only: false,
            defer_accept_s: 0,
            send_buffer_bytes: None,
            recv_buffer_bytes: None,
        }
    }
}

/// A listening TCP socket, closed on drop. Blocking, until [`Listener::set_nonblocking`].
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    local: SocketAddr,
}

/// Listens on `addr`; port 0 lets the kernel choose one.
///
/// The socket is close-on-exec and has `SO_REUSEADDR`, so connections in `TIME_WAIT` do not stand in the
/// way. With `reuseport` it never answers `EADDRINUSE` to a second process of the same user, which then
/// takes half the connections: [`probe_bind`] first.
///
/// # Errors
/// `EADDRINUSE`, `EACCES` (port below `net.ipv4.ip_unprivileged_port_start`), `EADDRNOTAVAIL`, `EMFILE`,
/// and what else `bind(2)` and `listen(2)` name.
pub fn listen(addr: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
    let fd = bound(addr, options)?;
    let backlog = c_int::try_from(options.backlog).unwrap_or(c_int::MAX);
    // SAFETY: listen takes no pointer.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    let local = local_addr(fd.as_fd())?;
    Ok(Listener { fd, local })
}

/// Finds out whether somebody listens on `addr`, our own user's `SO_REUSEPORT` group included.
///
/// Binds a socket without `SO_REUSEPORT` and closes it. The answer is about now: another process may come in
/// between. Not for use while we listen there ourselves.
///
/// # Errors
/// `EADDRINUSE` if somebody does, and whatever else [`listen`] would answer from `bind(2)`.
pub fn probe_bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<()> {
    bound(addr, &ListenOptions { reuseport: false, ..options.clone() }).map(drop)
}

/// Sets `O_NONBLOCK`.
///
/// # Errors
/// What `fcntl(2)` answers.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL takes no pointer.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes an integer.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// The address a socket is bound to.
///
/// # Errors
/// What `getsockname(2)` answers; `Unsupported` for a family other than IPv4 and IPv6.
pub fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut raw = RawAddr::empty();
    // SAFETY: rule 1: the address and its room, both in `raw`.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), raw.as_mut_ptr(), raw.len_mut_ptr()) })?;
    raw.to_socket_addr().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// The address a socket is connected to.
///
/// # Errors
/// `ENOTCONN`, and else as [`local_addr`].
pub fn peer_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut raw = RawAddr::empty();
    // SAFETY: rule 1: the address and its room, both in `raw`.
    check(unsafe { libc::getpeername(fd.as_raw_fd(), raw.as_mut_ptr(), raw.len_mut_ptr()) })?;
    raw.to_socket_addr().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

impl Listener {
    /// Where it listens, with the port the kernel chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Makes [`Listener::accept_nonblocking`] answer instead of waiting. Changes how a ring accepts, too: it
    /// answers `EAGAIN` where it would have waited.
    ///
    /// # Errors
    /// What `fcntl(2)` answers.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        set_nonblocking(self.fd.as_fd())
    }

    /// Takes one connection from the queue, as a non-blocking close-on-exec socket; nothing if none waits.
    /// After [`Listener::set_nonblocking`]; without, it waits for one.
    ///
    /// Connections reset while they waited are passed over.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`, and what else `accept(2)` names.
    pub fn accept_nonblocking(&self) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
        loop {
            let mut raw = RawAddr::empty();
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let listener = self.fd.as_raw_fd();
            // SAFETY: rule 1: the address and its room, both in `raw`.
            let fd = unsafe { libc::accept4(listener, raw.as_mut_ptr(), raw.len_mut_ptr(), flags) };
            match check(fd) {
                Ok(fd) => {
                    // SAFETY: rule 2.
                    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                    let peer = raw.to_socket_addr().ok_or(io::ErrorKind::Unsupported)?;
                    return Ok(Some((fd, peer)));
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(None),
                    Some(libc::EINTR | libc::ECONNABORTED) => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> OwnedFd {
        listener.fd
    }
}

/// A TCP socket with all options set, bound to `addr`.
fn bound(addr: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let raw = RawAddr::from(addr);
    // SAFETY: socket takes no pointer.
    let fd = check(unsafe { libc::socket(raw.family(), libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: rule 2.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let set = |level, name, value| set_option(fd.as_fd(), level, name, value);
    set(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if options.reuseport {
        set(libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if addr.is_ipv6() {
        set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, options.v6only.into())?;
    }
    if options.nodelay {
        set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    }
    if options.defer_accept_s > 0 {
        set(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, int(options.defer_accept_s))?;
    }
    // Before listen(2): the window scale is agreed on in the handshake (tcp(7)).
    if let Some(bytes) = options.send_buffer_bytes {
        set(libc::SOL_SOCKET, libc::SO_SNDBUF, int(bytes))?;
    }
    if let Some(bytes) = options.recv_buffer_bytes {
        set(libc::SOL_SOCKET, libc::SO_RCVBUF, int(bytes))?;
    }
    // SAFETY: rule 1: `raw` and its length.
    check(unsafe { libc::bind(fd.as_raw_fd(), raw.as_ptr(), raw.len()) })?;
    Ok(fd)
}

fn set_option(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
    let start = (&raw const value).cast();
    // SAFETY: rule 1: every option set in this file takes an int.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, start, len) })?;
    Ok(())
}

fn int(value: u32) -> c_int {
    c_int::try_from(value).unwrap_or(c_int::MAX)
}

/// The answer of a call that says -1 for an error in `errno`.
fn check(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn get_option(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> c_int {
        let mut value: c_int = 0;
        let mut len = libc::socklen_t::try_from(size_of::<c_int>()).unwrap();
        // SAFETY: rule 1: every option read in these tests is an int.
        let answer =
            unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
        check(answer).unwrap();
        value
    }

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn accept(listener: &Listener) -> (OwnedFd, SocketAddr) {
        listener.accept_nonblocking().unwrap().unwrap()
    }

    #[test]
    fn a_client_connects_talks_and_is_named() {
        let listener = listen(loopback(0), &ListenOptions::default()).unwrap();
        let mut client = TcpStream::connect(listener.local_addr()).unwrap();
        let (fd, peer) = accept(&listener);
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(peer_addr(fd.as_fd()).unwrap(), peer);
        assert_eq!(local_addr(fd.as_fd()).unwrap(), listener.local_addr());
        client.write_all(b"ping").unwrap();
        let mut server = TcpStream::from(fd);
        server.set_nonblocking(false).unwrap();
        let mut four = [0; 4];
        server.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"ping");
    }

    #[test]
    fn accepted_sockets_inherit_nodelay_and_buffer_sizes() {
        let options = ListenOptions {
            send_buffer_bytes: Some(40_000),
            recv_buffer_bytes: Some(30_000),
            ..ListenOptions::default()
        };
        let listener = listen(loopback(0), &options).unwrap();
        let _client = TcpStream::connect(listener.local_addr()).unwrap();
        let (fd, _) = accept(&listener);
        assert_eq!(get_option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
        assert_eq!(get_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF), 80_000);
        assert_eq!(get_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF), 60_000);

        let slow = listen(loopback(0), &ListenOptions { nodelay: false, ..options }).unwrap();
        let _client = TcpStream::connect(slow.local_addr()).unwrap();
        let (fd, _) = accept(&slow);
        assert_eq!(get_option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY), 0);
    }

    #[test]
    fn listener_and_accepted_sockets_are_close_on_exec() {
        let listener = listen(loopback(0), &ListenOptions::default()).unwrap();
        let _client = TcpStream::connect(listener.local_addr()).unwrap();
        let (fd, _) = accept(&listener);
        for fd in [listener.as_raw_fd(), fd.as_raw_fd()] {
            // SAFETY: F_GETFD takes no pointer.
            let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).unwrap();
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn a_nonblocking_listener_without_connections_answers_nothing() {
        let listener = listen(loopback(0), &ListenOptions::default()).unwrap();
        listener.set_nonblocking().unwrap();
        assert!(listener.accept_nonblocking().unwrap().is_none());
    }

    #[test]
    fn with_reuseport_two_sockets_share_a_port_and_without_the_second_is_refused() {
        let first = listen(loopback(0), &ListenOptions::default()).unwrap();
        let second = listen(first.local_addr(), &ListenOptions::default()).unwrap();
        assert_eq!(second.local_addr(), first.local_addr());
        let alone = ListenOptions { reuseport: false, ..ListenOptions::default() };
        let error = listen(first.local_addr(), &alone).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    }

    #[test]
    fn a_probe_sees_a_reuseport_group_of_the_same_user_that_listen_would_join() {
        let options = ListenOptions::default();
        let taken = listen(loopback(0), &options).unwrap();
        let addr = taken.local_addr();
        assert_eq!(probe_bind(addr, &options).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
        assert!(listen(addr, &options).is_ok());
        drop(taken);
        probe_bind(addr, &options).unwrap();
    }

    #[test]
    fn connections_in_time_wait_do_not_stand_in_the_way() {
        let options = ListenOptions::default();
        let listener = listen(loopback(0), &options).unwrap();
        let addr = listener.local_addr();
        let mut client = TcpStream::connect(addr).unwrap();
        let (server, _) = accept(&listener);
        drop(server);
        // Reading the end makes sure that our side closed first, and so is the one in TIME_WAIT.
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        drop(client);
        drop(listener);
        probe_bind(addr, &options).unwrap();
        listen(addr, &options).unwrap();
    }

    #[test]
    fn an_ipv6_wildcard_takes_ipv4_only_when_asked_to() {
        let any: SocketAddr = "[::]:0".parse().unwrap();
        let both = listen(any, &ListenOptions::default()).unwrap();
        let port = both.local_addr().port();
        assert!(TcpStream::connect(loopback(port)).is_ok());
        let (_, peer) = accept(&both);
        assert!(peer.is_ipv6(), "IPv4 arrives as a mapped address: {peer}");

        let only = listen(any, &ListenOptions { v6only: true, ..ListenOptions::default() }).unwrap();
        assert!(TcpStream::connect(loopback(only.local_addr().port())).is_err());
    }

    #[test]
    fn deferred_accept_waits_for_the_first_bytes() {
        let options = ListenOptions { defer_accept_s: 5, ..ListenOptions::default() };
        let listener = listen(loopback(0), &options).unwrap();
        listener.set_nonblocking().unwrap();
        let mut client = TcpStream::connect(listener.local_addr()).unwrap();
        assert!(listener.accept_nonblocking().unwrap().is_none());
        client.write_all(b"x").unwrap();
        assert!(listener.accept_nonblocking().unwrap().is_some());
    }

    #[test]
    fn an_address_of_another_machine_is_an_error_that_says_so() {
        // 192.0.2.0/24 is for documentation (RFC 5737): no interface has it.
        let error = listen("192.0.2.1:0".parse().unwrap(), &ListenOptions::default()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    }
}
