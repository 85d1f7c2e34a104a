//! Writers of headers: for whoever forwards connections, and for tests.
//!
//! # Rules
//! 1. A header is appended whole or not at all, and [`decode`](crate::decode) reads back what was meant.
//! 2. Addresses of two families are written as IPv6, the IPv4 one within it (`::ffff:0:0/96`): a header has
//!    one family.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::io::Write as _;

use crate::crc32c::crc32c;
use crate::tlv::{Tlv, kind};
use crate::v2::{INET, INET6, LOCAL, PROXY, SIGNATURE, STREAM};

/// A header of version 2 that would be longer than its length field can say. The caller must send less.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooLong {
    /// Bytes behind the first 16; 65,535 is the most.
    pub block_bytes: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of addresses and extensions do not fit a header (65535 do)", self.block_bytes)
    }
}

impl core::error::Error for TooLong {}

/// Appends the line of version 1 for a TCP connection: source and destination; `None` writes `UNKNOWN`.
///
/// At most [`LINE_BYTES_MAX`](crate::LINE_BYTES_MAX) bytes. Flow labels and scopes of IPv6 have no place
/// in it.
pub fn write_v1(out: &mut Vec<u8>, addresses: Option<(SocketAddr, SocketAddr)>) {
    let line =
        match addresses.map(|(source, destination)| (one_family(source, destination), source, destination)) {
            None => write!(out, "PROXY UNKNOWN\r\n"),
            Some((Family::V4(from, to), source, destination)) => {
                write!(out, "PROXY TCP4 {from} {to} {} {}\r\n", source.port(), destination.port())
            }
            Some((Family::V6(from, to), source, destination)) => {
                let (from, to) = (Hex(from), Hex(to));
                write!(out, "PROXY TCP6 {from} {to} {} {}\r\n", source.port(), destination.port())
            }
        };
    line.expect("a Vec takes everything");
}

/// Appends the header of version 2 for a TCP connection: source, destination and extensions, and a checksum
/// where asked for. `None` writes the command LOCAL, which has neither extensions nor a checksum.
///
/// # Errors
/// [`TooLong`] where a value or the sum does not fit 16 bits of length; nothing was appended.
///
/// # Panics
/// When `tlvs` holds a checksum: it is computed here.
pub fn write_v2(
    out: &mut Vec<u8>,
    addresses: Option<(SocketAddr, SocketAddr)>,
    tlvs: &[Tlv<'_>],
    checksum: bool,
) -> Result<(), TooLong> {
    assert!(tlvs.iter().all(|tlv| tlv.kind != kind::CRC32C), "the checksum is computed, not given");
    let start = out.len();
    let Some((source, destination)) = addresses else {
        out.extend_from_slice(&SIGNATURE);
        out.extend_from_slice(&[LOCAL, 0, 0, 0]);
        return Ok(());
    };
    let family = one_family(source, destination);
    let address_bytes = if let Family::V4(..) = family { 12 } else { 36 };
    let extension_bytes: usize = tlvs.iter().map(|tlv| 3 + tlv.value.len()).sum();
    let block_bytes = address_bytes + extension_bytes + if checksum { 7 } else { 0 };
    let Ok(block) = u16::try_from(block_bytes) else { return Err(TooLong { block_bytes }) };

    out.extend_from_slice(&SIGNATURE);
    out.push(PROXY);
    match family {
        Family::V4(from, to) => {
            out.push(INET << 4 | STREAM);
            out.extend_from_slice(&block.to_be_bytes());
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        Family::V6(from, to) => {
            out.push(INET6 << 4 | STREAM);
            out.extend_from_slice(&block.to_be_bytes());
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    for tlv in tlvs {
        let len = u16::try_from(tlv.value.len()).expect("shorter than the block");
        out.push(tlv.kind);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(tlv.value);
    }
    if checksum {
        out.extend_from_slice(&[kind::CRC32C, 0, 4, 0, 0, 0, 0]);
        let sum = crc32c(&[&out[start..]]);
        let at = out.len() - 4;
        out[at..].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(())
}

/// Two addresses of one family.
enum Family {
    V4(core::net::Ipv4Addr, core::net::Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

fn one_family(source: SocketAddr, destination: SocketAddr) -> Family {
    let wide = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Family::V4(from, to),
        (from, to) => Family::V6(wide(from), wide(to)),
    }
}

/// IPv6 in hexadecimal only: section 2.1 has no dotted decimal, which `Display` writes for mapped addresses.
struct Hex(Ipv6Addr);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.to_ipv4_mapped().is_none() {
            return self.0.fmt(f);
        }
        let [.., high, low] = self.0.segments();
        write!(f, "::ffff:{high:x}:{low:x}")
    }
}
