//! What a shard may ask of its kernel, and what comes back.
//!
//! # Rules
//! 1. What an [`Op`] owns (bytes to send, a buffer to read into) belongs to the kernel from `push` until
//!    the [`Completion`] gives it back. Dropping the future or connection that asked changes nothing.
//! 2. Every operation with a token other than [`Token::NONE`] ends in exactly one completion with
//!    `more == false`; those with a `Multi` mode may have any number with `more == true` before it.
//! 3. Operations of one socket are carried out in the order pushed only where one waits for the other's
//!    completion. At most one `Send` and one `Recv` may be under way on a socket.
//! 4. `Close` is pushed only after every other operation of the socket has ended.
//!
//! Not here: who is woken (`exec`), how it is encoded (`uring`).

use std::ffi::CString;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::ids::{BufferId, ListenerId, Sock, Token};
use crate::kernel::Unpark;

/// How to take connections from a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AcceptMode {
    /// One operation, a completion per connection, until cancelled or refused. No peer addresses:
    /// a multishot accept has one address buffer for all.
    Multi,
    /// One connection, with its peer's address as [`Payload::Peer`].
    OneWithPeer,
    /// Takes what already waits in the queue, then ends with `EAGAIN`: the last thing done with a listener
    /// before it is closed.
    Queued,
}

/// How long to receive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecvMode {
    /// Until cancelled, end of stream, an error, or no free buffer (`ENOBUFS`).
    Multi,
    /// One buffer at most.
    Once,
    /// One buffer at most, and `EAGAIN` at once where nothing waits.
    Ready,
}

/// Which direction of a connection to end (shutdown(2)).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShutdownHow {
    /// No more is sent: the peer sees the end of the stream.
    Write,
    /// Both directions: pending receives end with 0.
    Both,
}

/// An option of a socket that can be switched on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SockOption {
    /// Small sends leave at once, also behind unacknowledged ones (`TCP_NODELAY`). Accepted sockets have it from
    /// their listener; those that connect have not.
    NoDelay,
    /// A bind to port 0 leaves the port to the connect, which then shares ports between targets
    /// (`IP_BIND_ADDRESS_NO_PORT`, ip(7)). Before [`Op::Bind`].
    BindAddressNoPort,
}

/// One request to the kernel. `B` is the list of bytes to send (`pools::Chain`).
#[derive(Debug)]
pub enum Op<B> {
    /// Take connections. Result: the new [`Sock`]'s number.
    Accept {
        /// Of this listener.
        listener: ListenerId,
        /// Who is told.
        token: Token,
        /// How.
        mode: AcceptMode,
    },
    /// Receive into buffers of the kernel's ring. Result: bytes, 0 at the end of the stream.
    Recv {
        /// From this socket.
        sock: Sock,
        /// Who is told.
        token: Token,
        /// How.
        mode: RecvMode,
    },
    /// Send the bytes in order; may send fewer. Result: bytes sent; gives `data` back unchanged.
    Send {
        /// On this socket.
        sock: Sock,
        /// Who is told.
        token: Token,
        /// What. Not empty.
        data: B,
    },
    /// End one or both directions.
    Shutdown {
        /// Of this socket.
        sock: Sock,
        /// Who is told; may be [`Token::NONE`].
        token: Token,
        /// Which.
        how: ShutdownHow,
    },
    /// Cut a connection: what is unsent or unread is dropped, and the peer sees a reset. Receives and sends
    /// under way end with an error.
    Reset {
        /// This socket.
        sock: Sock,
        /// Who is told; may be [`Token::NONE`].
        token: Token,
    },
    /// Give the socket or file back. The number may be handed out again at once.
    Close {
        /// This one.
        sock: Sock,
        /// Who is told; may be [`Token::NONE`].
        token: Token,
    },
    /// End the accept or receive that was pushed with `target`: it completes with `ECANCELED` unless it
    /// ended first. Result of the cancel itself: 0, or `ENOENT`, `EALREADY`.
    Cancel {
        /// The operation to end.
        target: Token,
        /// Who is told; may be [`Token::NONE`].
        token: Token,
    },
    /// End everything under way on a socket. Each operation still has its own completion.
    CancelSock {
        /// This socket.
        sock: Sock,
        /// Who is told; may be [`Token::NONE`].
        token: Token,
    },
    /// Make a TCP socket. Result: its [`Sock`] number.
    Socket {
        /// IPv6, else IPv4.
        v6: bool,
        /// Who is told.
        token: Token,
    },
    /// Switch an option on. Result: 0. Only with [`Abilities::sock_options`](crate::Abilities).
    Configure {
        /// Of this socket.
        sock: Sock,
        /// Which.
        option: SockOption,
        /// Who is told.
        token: Token,
    },
    /// Choose the address a socket made by [`Op::Socket`] connects from; port 0 leaves the port to the kernel.
    /// Result: 0. Only with [`Abilities::bind`](crate::Abilities).
    Bind {
        /// This socket.
        sock: Sock,
        /// An address of this host.
        addr: SocketAddr,
        /// Who is told.
        token: Token,
    },
    /// Connect a socket made by [`Op::Socket`]. Result: 0.
    Connect {
        /// This socket.
        sock: Sock,
        /// Who is told.
        token: Token,
        /// Where to.
        addr: SocketAddr,
    },
    /// Open a file (openat(2) from the working directory, close-on-exec). Result: its number.
    Open {
        /// Path.
        path: CString,
        /// `O_*` flags.
        flags: i32,
        /// Permission bits when it is created.
        mode: u32,
        /// Who is told.
        token: Token,
    },
    /// Read at an offset into `data` (its whole length). Result: bytes read; gives `data` back.
    Read {
        /// This file.
        file: Sock,
        /// Where in the file, bytes.
        offset: u64,
        /// Read into. Not empty.
        data: Vec<u8>,
        /// Who is told.
        token: Token,
    },
    /// As [`Op::Read`], into bytes of the kind that is sent: the first piece of `data`, which nobody else holds, over
    /// its whole length. Result: bytes read; gives `data` back, as long as it was.
    ReadInto {
        /// This file.
        file: Sock,
        /// Where in the file, bytes.
        offset: u64,
        /// Read into. Not empty.
        data: B,
        /// Who is told.
        token: Token,
    },
    /// Write `data[from..]` at an offset. Result: bytes written; gives `data` back.
    Write {
        /// This file.
        file: Sock,
        /// Where in the file, bytes.
        offset: u64,
        /// What.
        data: Vec<u8>,
        /// First byte of `data` to write; below its length.
        from: u32,
        /// Who is told.
        token: Token,
    },
    /// Give another shard's kernel its own descriptor of a socket. There it arrives as a completion of
    /// `arrival`, with `more == true` and the new [`Sock`]'s number, though no operation there has that token.
    /// The socket stays open here as well: close it when the result is 0. Result: 0, or an errno (`ENFILE`
    /// where the other table is full, `EOPNOTSUPP` where `to` takes none), and then nothing arrives. Only with
    /// [`Abilities::hand`](crate::Abilities).
    Hand {
        /// This socket; nothing may be under way on it.
        sock: Sock,
        /// Whose kernel gets it.
        to: Arc<dyn Unpark>,
        /// Who is told there. Its generation is 0: it names a table, not one of its slots.
        arrival: Token,
        /// Who is told here.
        token: Token,
    },
    /// The address of the peer of a connected socket, as [`Payload::Peer`] with result 0. Only with
    /// [`Abilities::peer_name`](crate::Abilities). A peer that has no IP address (a Unix socket) brings
    /// `EAFNOSUPPORT`.
    PeerName {
        /// This socket.
        sock: Sock,
        /// Who is told.
        token: Token,
    },
    /// fsync(2), or fdatasync(2). Result: 0.
    Sync {
        /// This file.
        file: Sock,
        /// Leave out metadata not needed to read the data back.
        data_only: bool,
        /// Who is told.
        token: Token,
    },
}

/// What comes back beside the number.
#[derive(Debug)]
pub enum Payload<B> {
    /// Nothing.
    None,
    /// `result` bytes stand in this buffer of the receive ring: read, then recycle it.
    Received(BufferId),
    /// What [`Op::Send`] or [`Op::ReadInto`] was given.
    Sent(B),
    /// The address of the accepted peer.
    Peer(SocketAddr),
    /// What [`Op::Read`] or [`Op::Write`] was given.
    Bytes(Vec<u8>),
}

/// One result.
#[derive(Debug)]
pub struct Completion<B> {
    /// As pushed.
    pub token: Token,
    /// Zero or more: as the operation says. Negative: an errno.
    pub result: i32,
    /// The operation goes on; more completions follow.
    pub more: bool,
    /// What is given back.
    pub payload: Payload<B>,
}
