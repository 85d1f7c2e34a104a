//! Socket addresses in the form the kernel reads and writes.
//!
//! IPv4, IPv6 and the paths of Unix sockets; others read back as nothing.
//!
//! Not here: names, ports by service, anything that asks a resolver.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage, sockaddr_un, socklen_t};

/// A `sockaddr_storage` and its length, 132 bytes, for the calls and ring operations that take both.
///
/// While the kernel may still use the pointers, the value must stay where it is: box it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RawAddr {
    storage: sockaddr_storage,
    len: socklen_t,
}

/// Room of a [`RawAddr`].
const STORAGE_LEN: socklen_t = 128;
const _: () = assert!(size_of::<sockaddr_storage>() == STORAGE_LEN as usize);
/// Bytes of a path at most, the NUL behind it not counted.
const PATH_MAX: usize = 107;
const _: () = assert!(size_of::<sockaddr_un>() == offset_of!(sockaddr_un, sun_path) + PATH_MAX + 1);
const _: () = assert!(size_of::<sockaddr_un>() <= STORAGE_LEN as usize);
const V4_LEN: socklen_t = 16;
const _: () = assert!(size_of::<sockaddr_in>() == V4_LEN as usize);
const V6_LEN: socklen_t = 28;
const _: () = assert!(size_of::<sockaddr_in6>() == V6_LEN as usize);
// The family comes first in all three, so it may be read before it is known which one is there.
const _: () = assert!(offset_of!(sockaddr_storage, ss_family) == offset_of!(sockaddr_in, sin_family));
const _: () = assert!(offset_of!(sockaddr_storage, ss_family) == offset_of!(sockaddr_in6, sin6_family));

const FAMILY_V4: sa_family_t = 2;
const _: () = assert!(FAMILY_V4 as i32 == libc::AF_INET);
const FAMILY_V6: sa_family_t = 10;
const _: () = assert!(FAMILY_V6 as i32 == libc::AF_INET6);
const FAMILY_UNIX: sa_family_t = 1;
const _: () = assert!(FAMILY_UNIX as i32 == libc::AF_UNIX);

impl RawAddr {
    /// Room for the kernel to write an address of any family to.
    pub fn empty() -> RawAddr {
        // SAFETY: rule 4.
        let storage = unsafe { std::mem::zeroed() };
        RawAddr { storage, len: STORAGE_LEN }
    }

    /// The address of a Unix socket at `path` (unix(7)).
    ///
    /// # Errors
    /// `InvalidInput` for a path that is empty, longer than 107 bytes, or has a NUL in it.
    pub fn unix(path: &Path) -> io::Result<RawAddr> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.len() > PATH_MAX || bytes.contains(&0) {
            let what = format!("{} cannot be the path of a socket: 1 to {PATH_MAX} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        // SAFETY: rule 4.
        let mut unix: sockaddr_un = unsafe { std::mem::zeroed() };
        unix.sun_family = FAMILY_UNIX;
        for (to, from) in unix.sun_path.iter_mut().zip(bytes) {
            *to = from.cast_signed();
        }
        let mut raw = RawAddr::empty();
        // SAFETY: rule 1: a `sockaddr_un` fits the storage, which is aligned for all families.
        unsafe { (&raw mut raw.storage).cast::<sockaddr_un>().write(unix) };
        let len = offset_of!(sockaddr_un, sun_path) + bytes.len() + 1;
        raw.len = socklen_t::try_from(len).unwrap_or(STORAGE_LEN);
        Ok(raw)
    }

    /// The address, unless its family is neither IPv4 nor IPv6 or its length too short for the family.
    pub fn to_socket_addr(&self) -> Option<SocketAddr> {
        let start = &raw const self.storage;
        match self.storage.ss_family {
            FAMILY_V4 if self.len >= V4_LEN => {
                // SAFETY: rule 1: the storage is larger than a `sockaddr_in` and aligned for all families.
                let v4 = unsafe { start.cast::<sockaddr_in>().read() };
                let ip = Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            FAMILY_V6 if self.len >= V6_LEN => {
                // SAFETY: rule 1: the storage is larger than a `sockaddr_in6` and aligned for all families.
                let v6 = unsafe { start.cast::<sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// The path of a Unix socket; nothing for other families, and for sockets without a path.
    pub fn to_path(&self) -> Option<PathBuf> {
        let len = usize::try_from(self.len).ok()?.checked_sub(offset_of!(sockaddr_un, sun_path))?;
        if self.storage.ss_family != FAMILY_UNIX {
            return None;
        }
        // SAFETY: rule 1: the storage is larger than a `sockaddr_un`, aligned for all families, and was zeroed.
        let unix = unsafe { (&raw const self.storage).cast::<sockaddr_un>().read() };
        let bytes: Vec<u8> = unix.sun_path.iter().take(len).map(|byte| byte.cast_unsigned()).collect();
        // An abstract name begins with NUL.
        let path = bytes.split(|&byte| byte == 0).next().filter(|path| !path.is_empty())?;
        Some(OsStr::from_bytes(path).into())
    }

    /// Where the address is, to be read.
    pub fn as_ptr(&self) -> *const sockaddr {
        (&raw const self.storage).cast()
    }

    /// Where the address goes, to be written; [`RawAddr::len_mut_ptr`] says how much room there is.
    pub fn as_mut_ptr(&mut self) -> *mut sockaddr {
        (&raw mut self.storage).cast()
    }

    /// Bytes of the address, or of the room in an empty one.
    #[expect(clippy::len_without_is_empty, reason = "a length in the sense of bind(2)")]
    pub fn len(&self) -> socklen_t {
        self.len
    }

    /// Where the kernel reads the room and writes the length.
    pub fn len_mut_ptr(&mut self) -> *mut socklen_t {
        &raw mut self.len
    }

    /// `AF_INET` or `AF_INET6`, or what the kernel wrote.
    pub fn family(&self) -> libc::c_int {
        self.storage.ss_family.into()
    }
}

impl From<SocketAddr> for RawAddr {
    fn from(addr: SocketAddr) -> RawAddr {
        let mut raw = RawAddr::empty();
        let start = &raw mut raw.storage;
        match addr {
            SocketAddr::V4(addr) => {
                let v4 = sockaddr_in {
                    sin_family: FAMILY_V4,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: addr.ip().to_bits().to_be() },
                    sin_zero: [0; 8],
                };
                // SAFETY: rule 1: a `sockaddr_in` fits the storage, which is aligned for all families.
                unsafe { start.cast::<sockaddr_in>().write(v4) };
                raw.len = V4_LEN;
            }
            SocketAddr::V6(addr) => {
                let v6 = sockaddr_in6 {
                    sin6_family: FAMILY_V6,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                    sin6_scope_id: addr.scope_id(),
                };
                // SAFETY: rule 1: a `sockaddr_in6` fits the storage, which is aligned for all families.
                unsafe { start.cast::<sockaddr_in6>().write(v6) };
                raw.len = V6_LEN;
            }
        }
        raw
    }
}

impl fmt::Debug for RawAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_socket_addr() {
            Some(addr) => write!(f, "RawAddr({addr})"),
            None => write!(f, "RawAddr(family {}, {} bytes)", self.family(), self.len),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_of_both_families_survive_the_way_there_and_back() {
        for text in ["0.0.0.0:0", "127.0.0.1:8080", "255.1.2.3:65535", "[::]:1", "[2001:db8::17]:443"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddr::from(addr).to_socket_addr(), Some(addr), "{text}");
        }
        let scoped = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 5, 3));
        assert_eq!(RawAddr::from(scoped).to_socket_addr(), Some(scoped));
    }

    #[test]
    fn the_kernels_byte_order_is_network_order() {
        let raw = RawAddr::from("1.2.3.4:258".parse::<SocketAddr>().unwrap());
        // SAFETY: rule 1: 8 bytes of an initialised storage.
        let bytes: [u8; 8] = unsafe { raw.as_ptr().cast::<[u8; 8]>().read() };
        assert_eq!(bytes, [2, 0, 1, 2, 1, 2, 3, 4]);
        assert_eq!(raw.len(), 16);
    }

    #[test]
    fn a_path_fits_up_to_its_last_byte_and_reads_back_as_nothing() {
        let longest = "/".repeat(PATH_MAX);
        let raw = RawAddr::unix(Path::new(&longest)).unwrap();
        assert_eq!((raw.family(), raw.len()), (libc::AF_UNIX, 110));
        assert_eq!(raw.to_socket_addr(), None);
        for bad in [&format!("{longest}x"), "", "a\0b"] {
            assert_eq!(RawAddr::unix(Path::new(bad)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn an_empty_or_truncated_address_reads_back_as_nothing() {
        assert_eq!(RawAddr::empty().to_socket_addr(), None);
        for text in ["1.2.3.4:5", "[::1]:5"] {
            let mut raw = RawAddr::from(text.parse::<SocketAddr>().unwrap());
            raw.len -= 1;
            assert_eq!(raw.to_socket_addr(), None, "{text}");
        }
    }
}
