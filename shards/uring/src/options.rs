//! Options and local addresses of sockets that connect.
//!
//! A socket of the ring's table is reached by operations: setsockopt(2) as `IORING_OP_URING_CMD` (6.7),
//! bind(2) as `IORING_OP_BIND` (6.11). One that is a descriptor of the process needs neither: the call is made
//! at once, and its answer waits to be popped.
//!
//! Not here: listeners, whose options accepted sockets inherit (`corelane_sys`).

use corelane_base::{Sock, SockOption, Token};
use corelane_sys::RawAddr;
use io_uring::opcode;
use io_uring::types::Fd;

use crate::features::Features;
use crate::ring::Ring;

/// The value of every option here. Static: the kernel may read it as long as the operation is under way (rule 2).
static ON: libc::c_int = 1;
#[allow(clippy::cast_possible_truncation)] // 4
const ON_LEN: u32 = size_of::<libc::c_int>() as u32;

/// Level and name of setsockopt(2).
fn named(option: SockOption) -> (libc::c_int, libc::c_int) {
    match option {
        SockOption::NoDelay => (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        // The kernel takes it for sockets of either family (ip(7), Linux 4.2).
        SockOption::BindAddressNoPort => (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    }
}

fn result(answer: libc::c_int) -> i32 {
    if answer >= 0 { 0 } else { -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) }
}

/// bind(2) of a descriptor of the process; 0 or a negative errno.
pub(crate) fn bind(sock: Sock, addr: &RawAddr) -> i32 {
    // SAFETY: rule 6: an address of the length given, which lives until the call returns.
    result(unsafe { libc::bind(sock.0.cast_signed(), addr.as_ptr(), addr.len()) })
}

impl Ring {
    pub(crate) fn configure(&mut self, sock: Sock, token: Token, option: SockOption) {
        let (level, name) = named(option);
        let fd = sock.0.cast_signed();
        if !self.granted.contains(Features::DIRECT) {
            // SAFETY: rule 6: one live int, of which the length is given.
            let answer = unsafe { libc::setsockopt(fd, level, name, (&raw const ON).cast(), ON_LEN) };
            return self.answer(token, result(answer));
        }
        if !self.granted.contains(Features::PEER_NAME) {
            return self.answer(token, -libc::EOPNOTSUPP);
        }
        let value = (&raw const ON).cast();
        let (level, name) = (level.cast_unsigned(), name.cast_unsigned());
        let set = opcode::SetSockOpt::new(Fd(fd), level, name, value, ON_LEN).build();
        self.plain(set.flags(io_uring::squeue::Flags::FIXED_FILE), token);
    }
}
