//! Version 2: 16 bytes in binary, addresses, extensions (section 2.2).
//!
//! # Rules
//! 1. The first 16 bytes are judged one by one; the rest once all of it is there.
//! 2. LOCAL, and UNSPEC as family or transport, name no addresses: the block is skipped unread, extensions
//!    and checksum too, since nothing says where in it they begin.
//! 3. A checksum that is there is right, or the header is refused (section 2.2.3).

use core::net::{IpAddr, SocketAddr};

use crate::crc32c::crc32c;
use crate::tlv::Tlvs;
use crate::{Error, Header, Step, Transport, V2_PREFIX_BYTES, Version, Why};

/// How a header of version 2 begins.
pub(crate) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The 13th byte: version 2 and a command.
pub(crate) const LOCAL: u8 = 0x20;
pub(crate) const PROXY: u8 = 0x21;

/// The upper half of the 14th byte.
pub(crate) const INET: u8 = 1;
pub(crate) const INET6: u8 = 2;
const UNIX: u8 = 3;

/// The lower half of the 14th byte.
pub(crate) const STREAM: u8 = 1;
const DGRAM: u8 = 2;

/// Bytes of two UNIX paths.
const UNIX_BYTES: usize = 216;

/// Reads a header from its beginning.
pub(crate) fn decode(input: &[u8], header_bytes_max: usize) -> Result<Step<'_>, Error> {
    let Some((kind, len)) = prefix(input, header_bytes_max)? else {
        return Ok(Step::NeedMore(V2_PREFIX_BYTES - input.len()));
    };
    let Some(header) = input.get(..len) else { return Ok(Step::NeedMore(len - input.len())) };
    let local = Header::local(len, Version::V2, kind.transport);
    let (source, destination) = match kind.addresses {
        Addresses::None => return Ok(Step::Header(local)),
        Addresses::Unix => (None, None),
        Addresses::V4 => pair::<4>(header),
        Addresses::V6 => pair::<16>(header),
    };
    let (tlvs, checksum) = Tlvs::checked(header, V2_PREFIX_BYTES + kind.addresses.len())?;
    if let Some(at) = checksum {
        let (before, rest) = header.split_at(at);
        let (stated, after) = rest.split_at(4);
        if crc32c(&[before, &[0; 4], after]).to_be_bytes() != *stated {
            return Err(Error { at: at - 3, why: Why::Checksum });
        }
    }
    Ok(Step::Header(Header { source, destination, local: source.is_none(), tlvs, ..local }))
}

/// What the 14th byte says.
struct Kind {
    transport: Transport,
    addresses: Addresses,
}

#[derive(Clone, Copy)]
enum Addresses {
    None,
    V4,
    V6,
    Unix,
}

impl Addresses {
    /// Bytes of both addresses and ports.
    fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::V4 => 2 * (4 + 2),
            Self::V6 => 2 * (16 + 2),
            Self::Unix => UNIX_BYTES,
        }
    }
}

/// Judges the first 16 bytes, or as many as there are. Gives the kind and the length of the whole header.
fn prefix(input: &[u8], header_bytes_max: usize) -> Result<Option<(Kind, usize)>, Error> {
    let fault = |at, why| Err(Error { at, why });
    if let Some(at) = input.iter().zip(&SIGNATURE).position(|(byte, wanted)| byte != wanted) {
        return fault(at, Why::Signature);
    }
    let Some(&command) = input.get(12) else { return Ok(None) };
    match command {
        LOCAL | PROXY => {}
        byte if byte >> 4 != 2 => return fault(12, Why::Version),
        _ => return fault(12, Why::Command),
    }
    let Some(&protocol) = input.get(13) else { return Ok(None) };
    let (transport, addresses) = match (protocol >> 4, protocol & 15) {
        // "including the family which is ignored"
        _ if command == LOCAL => (Transport::Unspecified, Addresses::None),
        (family, _) if family > UNIX => return fault(13, Why::Family),
        (_, transport) if transport > DGRAM => return fault(13, Why::Transport),
        (0, _) | (_, 0) => (Transport::Unspecified, Addresses::None),
        (UNIX, _) => (Transport::Unix, Addresses::Unix),
        (family, transport) => (
            if transport == STREAM { Transport::Tcp } else { Transport::Udp },
            if family == INET { Addresses::V4 } else { Addresses::V6 },
        ),
    };
    let Some(&high) = input.get(14) else { return Ok(None) };
    let len = |low| V2_PREFIX_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len(0) > header_bytes_max {
        return fault(14, Why::TooLong);
    }
    let Some(&low) = input.get(15) else { return Ok(None) };
    let len = len(low);
    if len > header_bytes_max {
        return fault(15, Why::TooLong);
    }
    if len < V2_PREFIX_BYTES + addresses.len() {
        return fault(15, Why::TooShort);
    }
    Ok(Some((Kind { transport, addresses }, len)))
}

/// Source and destination: two addresses of `N` bytes, then two ports.
fn pair<const N: usize>(header: &[u8]) -> (Option<SocketAddr>, Option<SocketAddr>)
where
    IpAddr: From<[u8; N]>,
{
    let block = &header[V2_PREFIX_BYTES..];
    let read = |address: usize, port: usize| {
        let address = *block.get(address..)?.first_chunk::<N>()?;
        let port = *block.get(port..)?.first_chunk::<2>()?;
        Some(SocketAddr::new(IpAddr::from(address), u16::from_be_bytes(port)))
    };
    (read(0, 2 * N), read(N, 2 * N + 2))
}
