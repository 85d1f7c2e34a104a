//! Whether an address is one of this host.
//!
//! The kernel is asked, not its files: a UDP socket is connected to the address, which sends nothing, and the
//! address that the kernel then gave our end is looked at. To one of our own addresses the way leads from
//! that address itself (RFC 6724, rule 1, for IPv6; the source of the route in the table `local` for IPv4).
//! This knows scopes, namespaces and policy routes, and needs no `/proc`.
//!
//! Not found: a link-local IPv6 address without its interface, and addresses of this machine in another
//! network namespace (a container), which are another host for all that TCP can tell.
//!
//! Not here: which process is behind the address (`server`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Any port will do, as nothing is sent; 0 is refused by some kernels. This is "discard".
const PORT: u16 = 9;

/// Whether `addr` is a loopback address, the unspecified one (which connects to this host), or one that an
/// interface of this network namespace has. False where the kernel knows no way there.
pub fn is_local(addr: IpAddr) -> bool {
    let addr = addr.to_canonical();
    addr.is_loopback() || addr.is_unspecified() || source_towards(addr) == Some(addr)
}

/// The address that packets to `addr` would come from.
fn source_towards(addr: IpAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(addr, PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn loopback_and_unspecified_addresses_are_local_in_each_notation() {
        for text in ["127.0.0.1", "127.8.9.10", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
            assert!(is_local(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn an_address_of_an_interface_is_local_and_its_neighbour_is_not() {
        // The way out, if there is one, leaves from an address of an interface.
        let outside: IpAddr = "198.51.100.1".parse().unwrap();
        assert!(!is_local(outside));
        if let Some(IpAddr::V4(own)) = source_towards(outside) {
            assert!(is_local(own.into()));
            assert!(is_local(own.to_ipv6_mapped().into()));
            assert!(!is_local(Ipv4Addr::from_bits(own.to_bits() ^ 0x40).into()));
        }
    }

    #[test]
    fn addresses_that_nobody_can_be_reached_at_are_not_local() {
        for text in ["fe80::1", "2001:db8::1", "255.255.255.255"] {
            assert!(!is_local(text.parse().unwrap()), "{text}");
        }
    }
}
