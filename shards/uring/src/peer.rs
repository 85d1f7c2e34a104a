//! The address of a socket's peer: getsockopt(2) of `SO_PEERNAME` as an operation, and how to read its answer.
//!
//! The kernel refuses room beyond the length of the address (`EINVAL`), and cuts the address to less room. So
//! one asks with the room of the family that is expected, and once more with that of the other where the answer
//! tells. The io-uring crate cannot build the operation (its `optlen` is missing), so that field is written
//! here.
//!
//! Not here: accepts, which have the address by themselves (`kernel.rs`).

use std::net::SocketAddr;

use corelane_base::Sock;
use corelane_sys::RawAddr;
use io_uring::types::Fd;
use io_uring::{opcode, squeue};

/// `SOCKET_URING_OP_GETSOCKOPT` of linux/io_uring.h.
const GETSOCKOPT: u32 = 2;

/// Where `struct io_uring_sqe` has `optlen`, a u32.
const OPTLEN_AT: usize = 44;
const _: () = assert!(size_of::<squeue::Entry>() == 64);
const _: () = assert!(align_of::<squeue::Entry>() >= align_of::<u32>());

/// Bytes of a `sockaddr_in` and a `sockaddr_in6`.
pub(crate) const V4_ROOM: u32 = 16;
const V6_ROOM: u32 = 28;
const _: () = assert!(size_of::<libc::sockaddr_in>() == V4_ROOM as usize);
const _: () = assert!(size_of::<libc::sockaddr_in6>() == V6_ROOM as usize);

/// A question under way.
pub(crate) struct Ask {
    pub(crate) sock: Sock,
    /// Bytes asked for.
    pub(crate) room: u32,
    /// Where they go.
    pub(crate) addr: Box<RawAddr>,
}

/// What an answer means.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    Addr(SocketAddr),
    /// Ask again with this room.
    Again(u32),
    Errno(i32),
}

impl Ask {
    /// The operation. `addr` must stay until its completion.
    pub(crate) fn entry(&mut self) -> squeue::Entry {
        *self.addr = RawAddr::empty();
        entry(Fd(self.sock.0.cast_signed()), self.addr.as_mut_ptr(), self.room)
    }

    /// Reads the answer.
    pub(crate) fn answer(&self, result: i32) -> Answer {
        match result {
            // Sockets of some families know no such commands: Unix sockets up to Linux 6.18 at least.
            errno if errno == -libc::EOPNOTSUPP => Answer::Errno(-libc::EAFNOSUPPORT),
            errno if errno == -libc::EINVAL && self.room == V4_ROOM => Answer::Errno(-libc::EAFNOSUPPORT),
            errno if errno == -libc::EINVAL => Answer::Again(V4_ROOM),
            errno if errno < 0 => Answer::Errno(errno),
            _ if self.room == V4_ROOM && self.addr.family() == libc::AF_INET6 => Answer::Again(V6_ROOM),
            _ => self.addr.to_socket_addr().map_or(Answer::Errno(-libc::EAFNOSUPPORT), Answer::Addr),
        }
    }
}

/// The room to expect of the next, after this one.
pub(crate) fn room_of(addr: SocketAddr) -> u32 {
    if addr.is_ipv4() { V4_ROOM } else { V6_ROOM }
}

/// The bare operation, for a plain descriptor; add [`squeue::Flags::FIXED_FILE`] for another.
pub(crate) fn entry(fd: Fd, addr: *mut libc::sockaddr, room: u32) -> squeue::Entry {
    let (level, option) = (libc::SOL_SOCKET.to_ne_bytes(), libc::SO_PEERNAME.to_ne_bytes());
    let mut level_and_option = [0; 8];
    level_and_option[..4].copy_from_slice(&level);
    level_and_option[4..].copy_from_slice(&option);
    let mut value = [0; 16];
    value[..8].copy_from_slice(&(addr.expose_provenance() as u64).to_ne_bytes());
    let mut entry = opcode::UringCmd16::new(fd, GETSOCKOPT)
        .addr(Some(u64::from_ne_bytes(level_and_option)))
        .cmd(value)
        .build();
    // SAFETY: rule 6: an entry is 64 bytes of plain integers and aligned for a u32 (both checked above), so
    // the 4 bytes at 44 are inside it, and any value of them is valid.
    unsafe { (&raw mut entry).cast::<u8>().add(OPTLEN_AT).cast::<u32>().write(room) };
    entry
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ask(room: u32, addr: RawAddr) -> Ask {
        Ask { sock: Sock(0), room, addr: Box::new(addr) }
    }

    fn of(text: &str) -> RawAddr {
        RawAddr::from(text.parse::<SocketAddr>().unwrap())
    }

    #[test]
    fn fields_stand_where_the_header_says() {
        let mut place = RawAddr::empty();
        let addr = place.as_mut_ptr();
        let entry = entry(Fd(77), addr, 28).user_data(5);
        // SAFETY: an entry is 64 bytes of plain integers.
        let bytes: [u8; 64] = unsafe { std::mem::transmute(entry) };
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        // opcode IORING_OP_URING_CMD, fd, cmd_op, level, optname, optlen; optval.
        let fields = (bytes[0], word(4), word(8), word(16), word(20), word(44));
        assert_eq!(fields, (46, 77, 2, libc::SOL_SOCKET.cast_unsigned(), 28, 28));
        assert_eq!(u64::from_ne_bytes(bytes[48..56].try_into().unwrap()), addr.addr() as u64);
        // __pad1, len, uring_cmd_flags, buf_index with personality, the rest.
        assert!([12, 24, 28, 40, 56, 60].into_iter().all(|at| word(at) == 0));
    }

    #[test]
    fn an_address_of_the_expected_family_is_the_answer() {
        for (room, text) in [(V4_ROOM, "1.2.3.4:5"), (V6_ROOM, "[2001:db8::1]:5")] {
            let addr: SocketAddr = text.parse().unwrap();
            let length = room.cast_signed();
            assert_eq!(ask(room, of(text)).answer(length), Answer::Addr(addr));
            assert_eq!(room_of(addr), room);
        }
    }

    #[test]
    fn another_family_than_expected_is_asked_for_once_more() {
        assert_eq!(ask(V4_ROOM, of("[::1]:5")).answer(16), Answer::Again(V6_ROOM));
        assert_eq!(ask(V6_ROOM, RawAddr::empty()).answer(-libc::EINVAL), Answer::Again(V4_ROOM));
    }

    #[test]
    fn an_address_of_no_ip_family_is_none() {
        let none = Answer::Errno(-libc::EAFNOSUPPORT);
        assert_eq!(ask(V4_ROOM, RawAddr::empty()).answer(-libc::EINVAL), none, "shorter than IPv4");
        assert_eq!(ask(V6_ROOM, RawAddr::empty()).answer(-libc::EOPNOTSUPP), none);
        let mut unix = RawAddr::empty();
        // SAFETY: the storage has room for any address, and begins with its family.
        unsafe { (*unix.as_mut_ptr()).sa_family = u16::try_from(libc::AF_UNIX).unwrap() };
        for room in [V4_ROOM, V6_ROOM] {
            assert_eq!(ask(room, unix).answer(room.cast_signed()), none);
        }
    }

    #[test]
    fn any_other_errno_is_told_as_it_is() {
        for errno in [libc::ENOTCONN, libc::EBADF, libc::ECANCELED] {
            assert_eq!(ask(V4_ROOM, RawAddr::empty()).answer(-errno), Answer::Errno(-errno));
        }
    }
}
