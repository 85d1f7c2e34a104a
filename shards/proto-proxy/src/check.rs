//! Check: what must hold for every input, shared by the property tests and the fuzz target.
//!
//! [`check`] compares every way of cutting the same bytes with each other, and the whole with a slow, plain
//! reader. Not part of the API; allocates and panics freely.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    Error, HEADER_BYTES_MAX, Header, LINE_BYTES_MAX, Step, Tlv, Transport, Version, Why, decode, kind,
    write_v1, write_v2,
};

/// Reads `data` whole and cut.
///
/// The first byte chooses the maximum, the second how long prefixes are cut; the rest is what the peer sends.
///
/// # Panics
/// When a property does not hold.
pub fn check(data: &[u8]) {
    let Some((&[choice, pattern], input)) = data.split_first_chunk::<2>() else { return };
    let max = if choice & 1 == 0 { HEADER_BYTES_MAX } else { usize::from(choice) * 4 };
    let _ = check_with(input, max, usize::from(pattern));
}

/// The same with a given maximum. Prefixes of up to 256 bytes are all tried, longer ones every `step + 1`.
///
/// # Panics
/// When a property does not hold.
pub fn check_with(input: &[u8], max: usize, step: usize) -> Result<Step<'_>, Error> {
    let whole = decode(input, max);
    let bound = LINE_BYTES_MAX.max(max);
    let lengths = (0..input.len().min(256)).chain((256..input.len()).step_by(step + 1));
    for len in lengths {
        match decode(&input[..len], max) {
            Ok(Step::NeedMore(more)) => {
                assert!(more >= 1, "needs more, but none");
                assert!(len < bound, "waits beyond the bound");
                match whole {
                    Ok(Step::Header(header)) => assert!(len + more <= header.consumed, "asked for too much"),
                    Err(error) if is_decided_by_byte(error) => assert!(len <= error.at, "decided late"),
                    Err(_) | Ok(Step::NeedMore(_)) => {}
                }
            }
            early => {
                assert_eq!(early, whole, "cut at {len} of {}", String::from_utf8_lossy(input));
                if let Err(error) = early {
                    assert!(error.at < len, "decided by what did not come");
                }
            }
        }
    }
    match whole {
        Ok(Step::NeedMore(more)) => {
            assert!(more >= 1, "needs more, but none");
            assert!(input.len() < bound, "waits beyond the bound");
            assert_eq!(read_plainly(input, max), None);
        }
        Ok(Step::Header(header)) => {
            assert_eq!(read_plainly(input, max), Some(header));
            assert_eq!(decode(&input[..header.consumed], max), whole);
            check_header(&header, max);
        }
        Err(error) => {
            assert!(error.at < input.len(), "decided by what did not come");
            assert_eq!(read_plainly(input, max), None);
        }
    }
    whole
}

/// Everything but what stands in extensions is refused at the byte that decides it.
fn is_decided_by_byte(error: Error) -> bool {
    !matches!(error.why, Why::Tlv | Why::UniqueId | Why::ChecksumForm | Why::Checksum)
}

/// What is written again must be read as the same.
fn check_header(header: &Header<'_>, max: usize) {
    assert!(header.consumed <= if header.version == Version::V1 { LINE_BYTES_MAX } else { max });
    assert_eq!(header.local, header.source.is_none());
    assert_eq!(header.local, header.destination.is_none());
    assert_eq!(header.local, matches!(header.transport, Transport::Unspecified | Transport::Unix));
    assert!(header.transport != Transport::Unspecified || header.tlvs.iter().count() == 0);
    let addresses = header.source.zip(header.destination);

    let mut line = Vec::new();
    write_v1(&mut line, addresses);
    let Ok(Step::Header(again)) = decode(&line, 0) else { panic!("{}", String::from_utf8_lossy(&line)) };
    assert_eq!((again.source, again.destination), (header.source, header.destination));
    assert_eq!((again.consumed, again.local), (line.len(), header.local));

    let tlvs: Vec<Tlv<'_>> = header.tlvs.iter().filter(|tlv| tlv.kind != kind::CRC32C).collect();
    for checksum in [false, true] {
        let mut block = Vec::new();
        // The sum of a header near the end of what 16 bits count.
        if write_v2(&mut block, addresses, &tlvs, checksum).is_err() {
            continue;
        }
        let Ok(Step::Header(again)) = decode(&block, usize::MAX) else { panic!("{block:?}") };
        assert_eq!((again.source, again.destination), (header.source, header.destination));
        assert_eq!(again.consumed, block.len());
        if !header.local {
            let rest: Vec<_> = again.tlvs.iter().filter(|tlv| tlv.kind != kind::CRC32C).collect();
            assert_eq!(rest, tlvs);
            assert_eq!(again.tlvs.get(kind::CRC32C).is_some(), checksum);
        }
    }
}

/// A plain reader of whole headers: `None` for all that is not one.
fn read_plainly(input: &[u8], max: usize) -> Option<Header<'_>> {
    if input.starts_with(b"PROXY ") { read_line(input) } else { read_block(input, max) }
}

fn read_line(input: &[u8]) -> Option<Header<'_>> {
    let end = input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n')?;
    let line = input[..end].strip_suffix(b"\r")?;
    if line.contains(&b'\r') {
        return None;
    }
    let local = Header::local(end + 1, Version::V1, Transport::Unspecified);
    if line == b"PROXY UNKNOWN" || line.starts_with(b"PROXY UNKNOWN ") {
        return Some(local);
    }
    let fields: Vec<&str> = core::str::from_utf8(line).ok()?.split(' ').collect();
    let &[_, protocol, from, to, from_port, to_port] = &fields[..] else { return None };
    let address = |text: &str| -> Option<IpAddr> {
        match protocol {
            "TCP4" => Some(text.parse::<Ipv4Addr>().ok()?.into()),
            "TCP6" => Some(text.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    Some(Header {
        transport: Transport::Tcp,
        source: Some(SocketAddr::new(address(from)?, port(from_port)?)),
        destination: Some(SocketAddr::new(address(to)?, port(to_port)?)),
        local: false,
        ..local
    })
}

fn read_block(input: &[u8], max: usize) -> Option<Header<'_>> {
    let rest = input.strip_prefix(b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A")?;
    let len = usize::from(*rest.get(2)?) * 256 + usize::from(*rest.get(3)?);
    let header = input.get(..16 + len).filter(|header| header.len() <= max)?;
    let (transport, bytes) = match (rest[0], rest[1]) {
        (0x20, _) | (0x21, 0x00 | 0x01 | 0x02 | 0x10 | 0x20 | 0x30) => {
            return Some(Header::local(16 + len, Version::V2, Transport::Unspecified));
        }
        (0x21, 0x11) => (Transport::Tcp, 4),
        (0x21, 0x12) => (Transport::Udp, 4),
        (0x21, 0x21) => (Transport::Tcp, 16),
        (0x21, 0x22) => (Transport::Udp, 16),
        (0x21, 0x31 | 0x32) => (Transport::Unix, 0),
        _ => return None,
    };
    let mut tlvs_at = if bytes == 0 { 16 + 216 } else { 16 + 2 * bytes + 4 };
    let local = Header::local(16 + len, Version::V2, transport);
    let found = if bytes == 0 {
        header.get(..tlvs_at)?;
        local
    } else {
        let address = |at: usize| -> Option<IpAddr> {
            let bytes = header.get(at..at + bytes)?;
            let narrow = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            narrow().or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
        };
        let port = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
        let ports_at = 16 + 2 * bytes;
        Header {
            source: Some(SocketAddr::new(address(16)?, port(ports_at)?)),
            destination: Some(SocketAddr::new(address(16 + bytes)?, port(ports_at + 2)?)),
            local: false,
            ..local
        }
    };
    let (tlvs, _) = crate::Tlvs::checked(header, tlvs_at).ok()?;
    let mut sums = 0;
    while tlvs_at < header.len() {
        let len = usize::from(*header.get(tlvs_at + 1)?) * 256 + usize::from(*header.get(tlvs_at + 2)?);
        let value = header.get(tlvs_at + 3..tlvs_at + 3 + len)?;
        if header[tlvs_at] == 3 {
            let mut zeroed = header.to_vec();
            zeroed.get_mut(tlvs_at + 3..tlvs_at + 7)?.fill(0);
            sums += 1;
            if value != sum_plainly(&zeroed).to_be_bytes() || sums > 1 {
                return None;
            }
        }
        if header[tlvs_at] == 5 && len > 128 {
            return None;
        }
        tlvs_at += 3 + len;
    }
    Some(Header { tlvs, ..found })
}

/// CRC32C by long division, a bit at a time, with the polynomial as it is written.
fn sum_plainly(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        remainder ^= u32::from(byte.reverse_bits()) << 24;
        for _ in 0..8 {
            let carry = remainder >> 31;
            remainder = (remainder << 1) ^ (0x1EDC_6F41 * carry);
        }
    }
    !remainder.reverse_bits()
}
