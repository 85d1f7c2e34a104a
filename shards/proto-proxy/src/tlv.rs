//! Extensions of version 2: type, length, value (section 2.2).
//!
//! # Rules
//! 1. A [`Tlvs`] is only made of bytes that [`Tlvs::checked`] walked to the end: later walks cannot fail.
//!
//! Not here: the values. They are opaque, but for the checksum (`v2`).

use crate::{Error, Why};

/// Types of extensions (sections 2.2.1 to 2.2.7).
pub mod kind {
    /// What was negotiated by ALPN, such as `h2`.
    pub const ALPN: u8 = 0x01;
    /// The host name the client asked for (SNI), meant to be UTF-8.
    pub const AUTHORITY: u8 = 0x02;
    /// The checksum of the header. Verified by [`decode`](crate::decode).
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// An opaque name of the connection, up to 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What is known of TLS: 5 bytes, then extensions of its own.
    pub const SSL: u8 = 0x20;
    /// The name of a network namespace.
    pub const NETNS: u8 = 0x30;
}

/// Bytes of a UNIQUE_ID at most (section 2.2.5).
const UNIQUE_ID_MAX: usize = 128;

/// One extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tlv<'a> {
    /// Its type, see [`kind`].
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

/// The extensions of a header, in order. A type may come more than once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// The value of the first extension of a type.
    pub fn get(&self, kind: u8) -> Option<&'a [u8]> {
        self.iter().find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }

    /// All of them.
    pub fn iter(&self) -> TlvIter<'a> {
        TlvIter(self.0)
    }

    /// Walks the extensions in `header[from..]`. Also gives the offset of the value of the checksum, if there
    /// is one.
    pub(crate) fn checked(header: &'a [u8], from: usize) -> Result<(Self, Option<usize>), Error> {
        let mut checksum = None;
        let mut at = from;
        while at < header.len() {
            let fault = |why| Error { at, why };
            let (tlv, rest) = split(&header[at..]).ok_or(fault(Why::Tlv))?;
            match tlv.kind {
                kind::CRC32C if tlv.value.len() != 4 || checksum.is_some() => {
                    return Err(fault(Why::ChecksumForm));
                }
                kind::CRC32C => checksum = Some(at + 3),
                kind::UNIQUE_ID if tlv.value.len() > UNIQUE_ID_MAX => return Err(fault(Why::UniqueId)),
                _ => {}
            }
            at = header.len() - rest.len();
        }
        Ok((Self(header.get(from..).unwrap_or_default()), checksum))
    }
}

/// The first extension and what follows it.
fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((Tlv { kind, value }, rest))
}

impl<'a> IntoIterator for Tlvs<'a> {
    type Item = Tlv<'a>;
    type IntoIter = TlvIter<'a>;

    fn into_iter(self) -> TlvIter<'a> {
        self.iter()
    }
}

/// Walks the extensions of a header.
#[derive(Clone, Debug)]
pub struct TlvIter<'a>(&'a [u8]);

impl<'a> Iterator for TlvIter<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (tlv, rest) = split(self.0)?;
        self.0 = rest;
        Some(tlv)
    }
}
