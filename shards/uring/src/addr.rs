//! Socket addresses in the kernel's form.
//!
//! Not here: names, or anything but TCP over IPv4 and IPv6.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address the kernel reads, or fills after an accept.
pub(crate) struct PeerAddr {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

const STORAGE: libc::socklen_t = 128;
const _: () = assert!(size_of::<libc::sockaddr_storage>() == STORAGE as usize);

#[allow(clippy::cast_possible_truncation)] // families are below 64, address sizes below 128
impl PeerAddr {
    /// Room for any address.
    pub(crate) fn empty() -> PeerAddr {
        // SAFETY: a plain C structure; all-zero bytes are valid.
        PeerAddr { storage: unsafe { std::mem::zeroed() }, len: STORAGE }
    }

    pub(crate) fn of(addr: SocketAddr) -> PeerAddr {
        let mut made = PeerAddr::empty();
        let to = &raw mut made.storage;
        match addr {
            SocketAddr::V4(v4) => {
                let from = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: rule 6; `sockaddr_storage` is larger and at least as aligned than any address.
                unsafe { to.cast::<libc::sockaddr_in>().write(from) };
                made.len = size_of_val(&from) as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                let from = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as above.
                unsafe { to.cast::<libc::sockaddr_in6>().write(from) };
                made.len = size_of_val(&from) as libc::socklen_t;
            }
        }
        made
    }

    /// The address and its length, for the kernel to read or to fill.
    pub(crate) fn parts(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        self.len = self.len.min(STORAGE);
        ((&raw mut self.storage).cast(), &raw mut self.len)
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        self.len
    }

    /// What it says. An address of another family reads as the unspecified one.
    pub(crate) fn get(&self) -> SocketAddr {
        let from = &raw const self.storage;
        match libc::c_int::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: rule 6; the family says which type it is, and every bit pattern is valid in it.
                let v4 = unsafe { from.cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { from.cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                SocketAddr::V6(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id))
            }
            _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_of_both_families_come_back_as_they_went_in() {
        for text in ["127.0.0.1:80", "255.0.1.2:65535", "[::1]:443", "[fe80::1:2%7]:9"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(PeerAddr::of(addr).get(), addr);
        }
    }

    #[test]
    fn an_address_of_no_known_family_is_unspecified() {
        assert_eq!(PeerAddr::empty().get(), "0.0.0.0:0".parse().unwrap());
    }
}
