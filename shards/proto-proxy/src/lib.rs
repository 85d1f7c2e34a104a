//! Corelane floor 1: the PROXY protocol, versions 1 and 2, as a decoder without I/O.
//!
//! A proxy that forwards bytes says in front of them whose connection it forwards (`proxy-protocol.txt` of
//! HAProxy; section numbers here are of that text). [`decode`] reads such a header; [`write_v1`] and
//! [`write_v2`] write one. The decoder keeps no state, allocates nothing and copies only the addresses.
//!
//! # Calling order
//! 1. Collect what the peer sends and give all of it to [`decode`], each time something came.
//! 2. [`Step::NeedMore`]: wait for more, under a deadline (the text asks for at least 3 seconds).
//! 3. [`Step::Header`]: drop [`Header::consumed`] bytes; what follows belongs to the connection.
//! 4. An [`Error`]: close, and answer nothing. The peer is not the proxy that the listener is for.
//!
//! ```
//! use corelane_proto_proxy::{HEADER_BYTES_MAX, Step, decode};
//!
//! let bytes = b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 443\r\nGET / HTTP/1.1\r\n";
//! assert!(matches!(decode(&bytes[..20], HEADER_BYTES_MAX), Ok(Step::NeedMore(_))));
//! let Ok(Step::Header(header)) = decode(bytes, HEADER_BYTES_MAX) else { panic!() };
//! assert_eq!(header.source, Some("192.0.2.7:56324".parse().unwrap()));
//! assert!(bytes[header.consumed..].starts_with(b"GET "));
//! assert!(decode(b"GET / HTTP/1.1\r\n", HEADER_BYTES_MAX).is_err());
//! ```
//!
//! # Rules
//! 1. An answer other than [`Step::NeedMore`] never changes when more bytes follow.
//! 2. The first byte that fits no header ends it: no later byte can make good for it. Only what stands behind
//!    the addresses of version 2 is judged when all of it is there.
//! 3. Nobody is waited for beyond [`LINE_BYTES_MAX`] bytes in version 1, the caller's maximum in version 2.
//! 4. Whether a header is expected is configuration, never a guess: a listener either asks every connection
//!    for one, or none. Who may connect to such a listener is the caller's to check (section 5).
//!
//! Not here: deadlines, sockets, whom to trust, what the values of extensions mean.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod check;
mod crc32c;
mod error;
mod tlv;
mod v1;
mod v2;
mod write;

use core::net::SocketAddr;

pub use error::{Error, Why};
pub use tlv::{Tlv, TlvIter, Tlvs, kind};
pub use write::{TooLong, write_v1, write_v2};

/// Bytes of the longest line of version 1, its CRLF included (section 2.1).
pub const LINE_BYTES_MAX: usize = 107;

/// Bytes in front of the length-counted block of version 2 (section 2.2).
pub const V2_PREFIX_BYTES: usize = 16;

/// A maximum for a whole header of version 2, for callers without another: the prefix and 2 KiB.
///
/// The text wants headers to fit 536 bytes; addresses take at most 216, and 1.8 KiB are left for extensions,
/// of which only certificate names are long.
pub const HEADER_BYTES_MAX: usize = V2_PREFIX_BYTES + 2_048;

/// Bytes of the shortest header there is: `PROXY UNKNOWN` and CRLF.
pub(crate) const SHORTEST: usize = 15;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step<'a> {
    /// The beginning of a header that is whole after this many more bytes, at the earliest. At least 1. A
    /// fault may show sooner: call again whenever something came.
    NeedMore(usize),
    /// A whole header.
    Header(Header<'a>),
}

/// Which format a header had.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Version {
    /// The line of text.
    V1,
    /// The binary block.
    V2,
}

/// What kind of connection was forwarded.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Transport {
    /// The proxy speaks for itself (command LOCAL), or does not say (UNKNOWN, UNSPEC).
    Unspecified,
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP over IPv4 or IPv6. Version 2 only.
    Udp,
    /// A stream or datagram socket of the UNIX family: its two paths are skipped. Version 2 only.
    Unix,
}

/// A whole header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header<'a> {
    /// Bytes of the header. What follows them belongs to the forwarded connection.
    pub consumed: usize,
    /// The format.
    pub version: Version,
    /// What kind of connection was forwarded.
    pub transport: Transport,
    /// Who opened the forwarded connection. As sent: IPv4 within IPv6 is not unpacked.
    pub source: Option<SocketAddr>,
    /// Where it was opened to.
    pub destination: Option<SocketAddr>,
    /// The header names no address: the connection's own two are the ones to use. Exactly where `source` and
    /// `destination` are `None`.
    pub local: bool,
    /// The extensions of version 2; none in version 1, and none where `transport` is unspecified.
    pub tlvs: Tlvs<'a>,
}

impl Header<'_> {
    /// One without addresses and extensions.
    pub(crate) fn local(consumed: usize, version: Version, transport: Transport) -> Self {
        Self {
            consumed,
            version,
            transport,
            source: None,
            destination: None,
            local: true,
            tlvs: Tlvs::default(),
        }
    }
}

/// Reads the header at the beginning of `input`, which is all that came so far.
///
/// `header_bytes_max` bounds a whole header of version 2; a line is bounded by [`LINE_BYTES_MAX`] alone.
/// Costs one pass over the header, two where it has a checksum; call it as often as bytes come.
///
/// # Errors
/// [`Error`] as soon as no header can begin like this: at the first byte for a client that speaks something
/// else, unless it begins with `P` or CR.
pub fn decode(input: &[u8], header_bytes_max: usize) -> Result<Step<'_>, Error> {
    match input.first() {
        None => Ok(Step::NeedMore(SHORTEST)),
        Some(b'P') => v1::decode(input),
        Some(b'\r') => v2::decode(input, header_bytes_max),
        Some(_) => Err(Error { at: 0, why: Why::Signature }),
    }
}
