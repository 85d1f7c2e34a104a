//! What is a header and what is not, rule by rule of the text, each way it may be cut.
#![allow(clippy::unwrap_used)]

use corelane_proto_proxy::check::check_with;
use corelane_proto_proxy::{
    Error, HEADER_BYTES_MAX, Header, LINE_BYTES_MAX, Step, Tlv, TooLong, Transport, Version, Why, kind,
    write_v1, write_v2,
};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FOLLOWS: &[u8] = b"\x16\x03\x01 or GET / HTTP/1.1\r\n\r\n";

/// The header that `bytes` are, with and without something behind it.
fn header(bytes: &[u8]) -> Header<'_> {
    let with_more = [bytes, FOLLOWS].concat();
    let Ok(Step::Header(found)) = check_with(bytes, HEADER_BYTES_MAX, 0) else {
        panic!("{:?}", String::from_utf8_lossy(bytes))
    };
    assert_eq!(check_with(&with_more, HEADER_BYTES_MAX, 0), Ok(Step::Header(found)));
    assert_eq!(found.consumed, bytes.len());
    found
}

/// Why and where `bytes` are refused, which nothing behind them changes.
fn refused(bytes: &[u8]) -> (Why, usize) {
    let Err(error) = check_with(bytes, HEADER_BYTES_MAX, 0) else {
        panic!("{:?}", String::from_utf8_lossy(bytes))
    };
    assert_eq!(check_with(&[bytes, FOLLOWS].concat(), HEADER_BYTES_MAX, 0), Err(error));
    (error.why, error.at)
}

fn v2(command: u8, protocol: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, protocol][..], &len, block].concat()
}

/// A block of TCP over IPv4, `192.0.2.7:56324` to `203.0.113.1:443`, and extensions.
fn tcp4(tlvs: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&[192, 0, 2, 7, 203, 0, 113, 1, 0xDC, 0x04, 0x01, 0xBB], tlvs].concat())
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

#[test]
fn lines_of_both_families_name_source_and_destination() {
    for (line, source, destination) in [
        ("TCP4 192.0.2.7 203.0.113.1 56324 443", "192.0.2.7:56324", "203.0.113.1:443"),
        ("TCP4 0.0.0.0 255.255.255.255 0 65535", "0.0.0.0:0", "255.255.255.255:65535"),
        ("TCP4 1.20.100.249 1.1.1.1 1 10000", "1.20.100.249:1", "1.1.1.1:10000"),
        ("TCP6 :: ::1 1 2", "[::]:1", "[::1]:2"),
        ("TCP6 2001:db8::7 2001:DB8:0:0::1 56324 443", "[2001:db8::7]:56324", "[2001:db8::1]:443"),
        ("TCP6 1:2:3:4:5:6:7:8 0001:0:00:000:0:0:0:f 1 2", "[1:2:3:4:5:6:7:8]:1", "[1::f]:2"),
        ("TCP6 1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1 2", "[1:2:3:4:5:6:7:0]:1", "[0:2:3:4:5:6:7:8]:2"),
        ("TCP6 fe80:: 1::8 1 2", "[fe80::]:1", "[1::8]:2"),
        // what inet_ntop makes of a mapped address
        ("TCP6 ::ffff:192.0.2.7 ::ffff:cb00:7101 1 2", "[::ffff:c000:207]:1", "[::ffff:203.0.113.1]:2"),
        ("TCP6 1:2:3:4:5:6:0.0.0.9 64:ff9b::10.0.0.1 1 2", "[1:2:3:4:5:6:0:9]:1", "[64:ff9b::a00:1]:2"),
    ] {
        let text = format!("PROXY {line}\r\n");
        let found = header(text.as_bytes());
        assert_eq!(found.source, Some(source.parse().unwrap()), "{line}");
        assert_eq!(found.destination, Some(destination.parse().unwrap()), "{line}");
        assert_eq!((found.version, found.transport, found.local), (Version::V1, Transport::Tcp, false));
        assert_eq!(found.tlvs.iter().count(), 0);
    }
}

#[test]
fn an_unknown_line_uses_the_address_of_the_connection() {
    let widest = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!(widest.len(), LINE_BYTES_MAX);
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN \r\n", "PROXY UNKNOWN \0\t\u{fc} 1 2\r\n", &widest] {
        let found = header(line.as_bytes());
        assert_eq!((found.version, found.transport), (Version::V1, Transport::Unspecified));
        assert_eq!((found.source, found.destination, found.local), (None, None, true));
    }
    let longer = widest.replace("65535\r", "65535 \r");
    assert_eq!(refused(longer.as_bytes()), (Why::LineTooLong, 105));
    let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'a'; 1 << 16]].concat();
    assert_eq!(refused(&endless), (Why::LineTooLong, 105));
}

#[test]
fn lines_are_refused_at_the_first_byte_that_no_line_has_there() {
    for (line, why, at) in [
        ("PROXX", Why::Signature, 4),
        ("PROXY\t", Why::Signature, 5),
        ("PROXY\r\n", Why::Signature, 5),
        ("POST / HTTP/1.1\r\n", Why::Signature, 1),
        ("PRI * HTTP/2.0\r\n", Why::Signature, 2),
        ("PROXY  TCP4", Why::Protocol, 6),
        ("PROXY unknown\r\n", Why::Protocol, 6),
        ("PROXY Unknown\r\n", Why::Protocol, 7),
        ("PROXY UNKNOWM", Why::Protocol, 12),
        ("PROXY UNKNOWNS", Why::Separator, 13),
        ("PROXY UNKNOWN\n", Why::Separator, 13),
        ("PROXY UNKNOWN a\n", Why::BareCrLf, 15),
        ("PROXY UNKNOWN a\rb", Why::BareCrLf, 16),
        ("PROXY UNKNOWN\r\r\n", Why::BareCrLf, 14),
        ("PROXY tcp4 ", Why::Protocol, 6),
        ("PROXY TCP5 ", Why::Protocol, 9),
        ("PROXY TCP ", Why::Protocol, 9),
        ("PROXY UDP4 ", Why::Protocol, 7),
        ("PROXY TCP44", Why::Separator, 10),
        ("PROXY TCP4\t", Why::Separator, 10),
        ("PROXY TCP4  1.2.3.4 ", Why::Address, 11),
        ("PROXY TCP4 ::1 ", Why::Address, 11),
        ("PROXY TCP4 1:2", Why::Address, 12),
        ("PROXY TCP4 256.", Why::Address, 13),
        ("PROXY TCP4 01.", Why::Address, 12),
        ("PROXY TCP4 00.", Why::Address, 12),
        ("PROXY TCP4 1.2.3 ", Why::Address, 16),
        ("PROXY TCP4 1.2.3.4.5 ", Why::Separator, 18),
        ("PROXY TCP4 1..2", Why::Address, 13),
        ("PROXY TCP4 .1", Why::Address, 11),
        ("PROXY TCP4 +1", Why::Address, 11),
        ("PROXY TCP4 0x1", Why::Address, 12),
        ("PROXY TCP4 1.2.3.4 ::1", Why::Address, 19),
        ("PROXY TCP4 1.2.3.4 5.6.7.8  1", Why::Port, 27),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 65536", Why::Port, 31),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 655350", Why::Port, 32),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 99999999999999999999", Why::Port, 31),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 01", Why::Port, 28),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 -1", Why::Port, 27),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", Why::Separator, 28),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n", Why::Port, 29),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", Why::Separator, 30),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", Why::BareCrLf, 30),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r", Why::BareCrLf, 31),
        ("PROXY TCP4 1.2.3.4\r\n", Why::Separator, 18),
        ("PROXY TCP6 1.2.3.4 ", Why::Address, 12),
        ("PROXY TCP6 ::1.2.3.4.5", Why::Separator, 20),
        ("PROXY TCP6 :1", Why::Address, 12),
        ("PROXY TCP6 :::", Why::Address, 13),
        ("PROXY TCP6 1::2::", Why::Address, 16),
        ("PROXY TCP6 1:2:3:4:5:6:7 ", Why::Address, 24),
        ("PROXY TCP6 1:2:3:4:5:6:7:8:", Why::Address, 26),
        ("PROXY TCP6 1:2:3:4:5:6:7::8", Why::Address, 26),
        ("PROXY TCP6 ::2:3:4:5:6:7:8:", Why::Address, 26),
        ("PROXY TCP6 1: ", Why::Address, 13),
        ("PROXY TCP6 1::2: ", Why::Address, 16),
        ("PROXY TCP6 12345", Why::Address, 15),
        ("PROXY TCP6 g", Why::Address, 11),
        ("PROXY TCP6 [::1] ", Why::Address, 11),
        ("PROXY TCP6 fe80::1%e", Why::Address, 18),
        ("PROXY TCP6 ::1/64", Why::Address, 14),
        ("PROXY TCP6 ::01.2", Why::Address, 15),
        ("PROXY TCP6 ::256.", Why::Address, 16),
        ("PROXY TCP6 ::a.1", Why::Address, 14),
        ("PROXY TCP6 1:2:3:4:5:1.2.3.4 ", Why::Address, 22),
        ("PROXY TCP6 1:2:3:4:5:6:7:1.2", Why::Address, 26),
        ("PROXY TCP6 ::1:2:3:4:5:6:1.2", Why::Address, 26),
        ("PROXY TCP6 1.2.3.4::", Why::Address, 12),
        ("PROXY TCP6 ::1.2.3.4: ", Why::Separator, 20),
    ] {
        assert_eq!(refused(line.as_bytes()), (why, at), "{line}");
    }
}

#[test]
fn clients_without_a_proxy_are_told_apart_by_their_first_bytes() {
    for (hello, at) in [
        (&b"GET / HTTP/1.1\r\n"[..], 0),
        (b"\x16\x03\x01\x02\x00\x01", 0),
        (b"SSH-2.0-OpenSSH\r\n", 0),
        (b"*1\r\n$4\r\nPING\r\n", 0),
        (b"\0", 0),
        (b"\n", 0),
        (b"proxy TCP4", 0),
        (b"PUT / HTTP/1.1\r\n", 1),
        (b"PATCH / HTTP/1.1\r\n", 1),
        (b"PROPFIND / HTTP/1.1\r\n", 3),
        (b"\r\nGET / HTTP/1.1\r\n", 2),
        (b"\r\n\r\n\0\r\nQUIT\r", 11),
    ] {
        assert_eq!(refused(hello), (Why::Signature, at), "{hello:?}");
    }
}

#[test]
fn a_beginning_asks_for_what_the_shortest_header_still_needs() {
    for (bytes, more) in [
        (&b""[..], 15),
        (b"P", 14),
        (b"PROXY UNKNOWN", 2),
        (b"PROXY UNKNOWN\r", 1),
        (b"PROXY UNKNOWN abcdef", 1),
        (b"\r", 15),
        (&tcp4(b"")[..15], 1),
        (&tcp4(b"")[..16], 12),
        (&tcp4(b"")[..27], 1),
    ] {
        assert_eq!(check_with(bytes, HEADER_BYTES_MAX, 0), Ok(Step::NeedMore(more)), "{bytes:?}");
    }
}

#[test]
fn blocks_of_every_family_give_what_they_name() {
    let bytes = tcp4(b"");
    let found = header(&bytes);
    assert_eq!(found.source, Some("192.0.2.7:56324".parse().unwrap()));
    assert_eq!(found.destination, Some("203.0.113.1:443".parse().unwrap()));
    assert_eq!((found.version, found.transport, found.local), (Version::V2, Transport::Tcp, false));

    let v6 = [&[0x20, 1, 0xD, 0xB8][..], &[0; 11], &[7], &[0; 15], &[1], &[0xDC, 4, 1, 0xBB]].concat();
    for (protocol, transport) in [(0x21, Transport::Tcp), (0x22, Transport::Udp)] {
        let bytes = v2(0x21, protocol, &v6);
        let found = header(&bytes);
        assert_eq!(found.source, Some("[2001:db8::7]:56324".parse().unwrap()));
        assert_eq!(found.destination, Some("[::1]:443".parse().unwrap()));
        assert_eq!((found.transport, found.local), (transport, false));
    }
    let bytes = v2(0x21, 0x12, &[9; 12]);
    assert_eq!(header(&bytes).transport, Transport::Udp);
    for protocol in [0x31, 0x32] {
        let bytes = v2(0x21, protocol, &[&[b'/'; 216][..], &tlv(kind::NOOP, b"")].concat());
        let found = header(&bytes);
        assert_eq!((found.transport, found.source, found.local), (Transport::Unix, None, true));
        assert_eq!(found.tlvs.iter().count(), 1);
    }
}

#[test]
fn local_and_unspecified_blocks_are_skipped_whatever_they_hold() {
    let junk = [0xFF; 40];
    for (command, protocol) in
        [(0x20, 0x00), (0x20, 0x11), (0x20, 0xFF), (0x21, 0x00), (0x21, 0x01), (0x21, 0x02), (0x21, 0x10)]
            .into_iter()
            .chain([(0x21, 0x20), (0x21, 0x30)])
    {
        for block in [&junk[..], &junk[..1], b""] {
            let bytes = v2(command, protocol, block);
            let found = header(&bytes);
            assert_eq!((found.transport, found.source, found.local), (Transport::Unspecified, None, true));
            assert_eq!(found.tlvs.iter().count(), 0);
        }
    }
}

#[test]
fn blocks_are_refused_by_their_first_sixteen_bytes() {
    for (command, protocol, len, why, at) in [
        (0x11, 0x11, 12, Why::Version, 12),
        (0x31, 0x11, 12, Why::Version, 12),
        (0x01, 0x11, 12, Why::Version, 12),
        (0x22, 0x11, 12, Why::Command, 12),
        (0x2F, 0x11, 12, Why::Command, 12),
        (0x21, 0x41, 12, Why::Family, 13),
        (0x21, 0xF0, 12, Why::Family, 13),
        (0x21, 0x13, 12, Why::Transport, 13),
        (0x21, 0x0F, 12, Why::Transport, 13),
        (0x21, 0x11, 11, Why::TooShort, 15),
        (0x21, 0x11, 0, Why::TooShort, 15),
        (0x21, 0x22, 35, Why::TooShort, 15),
        (0x21, 0x31, 215, Why::TooShort, 15),
        (0x21, 0x11, 2_049, Why::TooLong, 15),
        (0x20, 0x00, 2_049, Why::TooLong, 15),
        (0x21, 0x11, 2_304, Why::TooLong, 14),
        (0x21, 0x11, 65_535, Why::TooLong, 14),
    ] {
        let bytes = v2(command, protocol, &vec![0; len]);
        assert_eq!(refused(&bytes), (why, at), "{command:#x} {protocol:#x} {len}");
    }
}

#[test]
fn a_block_may_be_as_long_as_the_maximum_of_its_caller() {
    let bytes = tcp4(&tlv(kind::NOOP, &[0; 2_048 - 15]));
    assert_eq!(bytes.len(), HEADER_BYTES_MAX);
    assert_eq!(header(&bytes).consumed, HEADER_BYTES_MAX);
    let bytes = tcp4(b"");
    assert!(matches!(check_with(&bytes, 28, 0), Ok(Step::Header(_))));
    assert_eq!(check_with(&bytes, 27, 0), Err(Error { at: 15, why: Why::TooLong }));
    assert_eq!(check_with(&bytes, 0, 0), Err(Error { at: 14, why: Why::TooLong }));
    // the line has its own bound
    assert!(matches!(check_with(b"PROXY UNKNOWN\r\n", 0, 0), Ok(Step::Header(_))));
}

#[test]
fn extensions_come_out_in_order_and_by_type() {
    let ssl = [&[1, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3")].concat();
    let all = [
        tlv(kind::ALPN, b"h2"),
        tlv(kind::AUTHORITY, "b\u{fc}cher.example".as_bytes()),
        tlv(kind::NOOP, b""),
        tlv(kind::UNIQUE_ID, &[7; 128]),
        tlv(kind::SSL, &ssl),
        tlv(kind::NETNS, b"blue"),
        tlv(0xE0, b"first"),
        tlv(0xE0, b"second"),
    ];
    let bytes = tcp4(&all.concat());
    let tlvs = header(&bytes).tlvs;
    assert_eq!(tlvs.get(kind::ALPN), Some(&b"h2"[..]));
    assert_eq!(tlvs.get(kind::NOOP), Some(&b""[..]));
    assert_eq!(tlvs.get(kind::SSL), Some(&ssl[..]));
    assert_eq!(tlvs.get(0xE0), Some(&b"first"[..]));
    assert_eq!(tlvs.get(kind::CRC32C), None);
    let kinds: Vec<u8> = tlvs.into_iter().map(|tlv| tlv.kind).collect();
    assert_eq!(kinds, [0x01, 0x02, 0x04, 0x05, 0x20, 0x30, 0xE0, 0xE0]);
}

#[test]
fn extensions_that_do_not_fit_are_refused_where_they_begin() {
    let noop = tlv(kind::NOOP, b"abc");
    for (tail, why) in [
        (&b"\x04"[..], Why::Tlv),
        (b"\x04\0", Why::Tlv),
        (b"\x04\0\x01", Why::Tlv),
        (b"\x04\xFF\xFFabc", Why::Tlv),
        (&tlv(kind::UNIQUE_ID, &[0; 129]), Why::UniqueId),
        (&tlv(kind::CRC32C, b""), Why::ChecksumForm),
        (&tlv(kind::CRC32C, &[0; 3]), Why::ChecksumForm),
        (&tlv(kind::CRC32C, &[0; 5]), Why::ChecksumForm),
        (&tlv(kind::CRC32C, &[0; 4]), Why::Checksum),
    ] {
        let bytes = tcp4(&[&noop, tail].concat());
        assert_eq!(refused(&bytes), (why, 28 + noop.len()), "{tail:?}");
    }
    let twice = [tlv(kind::CRC32C, &[0; 4]), tlv(kind::CRC32C, &[0; 4])].concat();
    assert_eq!(refused(&tcp4(&twice)), (Why::ChecksumForm, 28 + 7));
}

#[test]
fn a_checksum_covers_every_byte_of_the_header() {
    let mut bytes = Vec::new();
    let tlvs = [Tlv { kind: kind::AUTHORITY, value: b"a.example" }];
    let addresses = ("192.0.2.7:56324".parse().unwrap(), "203.0.113.1:443".parse().unwrap());
    write_v2(&mut bytes, Some(addresses), &tlvs, true).unwrap();
    assert_eq!(header(&bytes).tlvs.get(kind::CRC32C).map(<[u8]>::len), Some(4));
    let sum_at = bytes.len() - 7;
    // Beyond the sixteen bytes, but for the type and length of the checksum itself and of its neighbour.
    for at in (16..28).chain(31..sum_at).chain(sum_at + 3..bytes.len()) {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            assert_eq!(refused(&bytes), (Why::Checksum, sum_at), "bit {bit} of byte {at}");
            bytes[at] ^= 1 << bit;
        }
    }
}

#[test]
fn a_header_with_a_known_checksum_is_accepted() {
    // computed with another implementation, over the header with four zeros
    const KNOWN_SUM: u32 = 0x6069_1497;
    let mut bytes = tcp4(&tlv(kind::CRC32C, &[0; 4]));
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&KNOWN_SUM.to_be_bytes());
    assert_eq!(header(&bytes).tlvs.get(kind::CRC32C), Some(&KNOWN_SUM.to_be_bytes()[..]));
}

#[test]
fn written_lines_are_those_of_the_text() {
    let written = |source: &str, destination: &str| {
        let mut out = b"kept ".to_vec();
        write_v1(&mut out, Some((source.parse().unwrap(), destination.parse().unwrap())));
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        written("192.168.0.1:56324", "192.168.0.11:443"),
        "kept PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    );
    assert_eq!(written("[2001:db8::1]:1", "[::]:0"), "kept PROXY TCP6 2001:db8::1 :: 1 0\r\n");
    // one family, and no dotted decimal in it
    assert_eq!(written("192.0.2.7:1", "[::1]:2"), "kept PROXY TCP6 ::ffff:c000:207 ::1 1 2\r\n");
    let widest = format!("[{}]:65535", ["ffff"; 8].join(":"));
    assert_eq!(written(&widest, &widest).len(), "kept ".len() + 104);
    let mut unknown = Vec::new();
    write_v1(&mut unknown, None);
    assert_eq!(unknown, b"PROXY UNKNOWN\r\n");
}

#[test]
fn a_block_that_its_length_cannot_say_is_not_written() {
    let addresses = Some(("192.0.2.7:1".parse().unwrap(), "192.0.2.8:2".parse().unwrap()));
    let value = vec![0; 65_535 - 12 - 3];
    let mut out = b"kept".to_vec();
    let tlvs = [Tlv { kind: kind::NOOP, value: &value }];
    assert_eq!(write_v2(&mut out, addresses, &tlvs, true), Err(TooLong { block_bytes: 65_542 }));
    assert_eq!(out, b"kept");
    assert_eq!(write_v2(&mut out, addresses, &tlvs, false), Ok(()));
    assert_eq!(out.len(), 4 + 16 + 65_535);
    let mut local = Vec::new();
    write_v2(&mut local, None, &tlvs, true).unwrap();
    assert_eq!(local, v2(0x20, 0, b""));
}

#[test]
#[should_panic(expected = "the checksum is computed")]
fn a_checksum_cannot_be_given_to_the_writer() {
    let _ = write_v2(&mut Vec::new(), None, &[Tlv { kind: kind::CRC32C, value: &[0; 4] }], false);
}

#[test]
fn an_error_says_what_and_where() {
    let Err(error) = check_with(b"PROXY TCP4 1.2.3.400 ", HEADER_BYTES_MAX, 0) else { panic!() };
    assert_eq!(error.to_string(), "malformed address (byte 19)");
    let texts: std::collections::HashSet<_> = Why::ALL.iter().map(|why| why.as_str()).collect();
    assert_eq!(texts.len(), Why::ALL.len());
}
