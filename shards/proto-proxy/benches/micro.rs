//! Micro benches of the PROXY protocol: reading and writing a header, once a connection.
//!
//! Not here: who may send one (`net`).

#![allow(clippy::unwrap_used)]

#[path = "../../base/benches/shared/mod.rs"]
mod shared;

use std::net::SocketAddr;

use corelane_proto_proxy::{HEADER_BYTES_MAX, Step, Tlv, decode, kind, write_v1, write_v2};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

/// Headers, by name; `v2_tlvs` has a name of a host, an identifier and a checksum.
const HEADERS: [&str; 6] = ["v1_tcp4", "v1_tcp6", "v1_unknown", "v2_tcp4", "v2_tcp6", "v2_tlvs"];

fn addresses(v6: bool) -> (SocketAddr, SocketAddr) {
    let (source, destination) = if v6 {
        ("[2001:db8::8a2e:370:7334]:56324", "[2001:db8:85a3::1]:443")
    } else {
        ("203.0.113.207:56324", "198.51.100.101:443")
    };
    (source.parse().unwrap(), destination.parse().unwrap())
}

fn write(out: &mut Vec<u8>, name: &str) {
    match name {
        "v1_unknown" => write_v1(out, None),
        "v1_tcp4" | "v1_tcp6" => write_v1(out, Some(addresses(name.ends_with('6')))),
        "v2_tlvs" => {
            let tlvs = [
                Tlv { kind: kind::AUTHORITY, value: b"www.example.com" },
                Tlv { kind: kind::UNIQUE_ID, value: b"7b1a52c0-e6f8-4d0f-9a3c-5c1d2e3f4a5b" },
            ];
            write_v2(out, Some(addresses(false)), &tlvs, true).unwrap();
        }
        _ => write_v2(out, Some(addresses(name.ends_with('6'))), &[], false).unwrap(),
    }
}

#[divan::bench(args = HEADERS)]
fn decode_header(bencher: Bencher<'_, '_>, name: &str) {
    let mut wire = Vec::new();
    write(&mut wire, name);
    let header_len = wire.len();
    wire.extend_from_slice(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    bencher.counter(BytesCount::new(header_len)).bench_warm(|| {
        match decode(black_box(&wire), HEADER_BYTES_MAX) {
            Ok(Step::Header(header)) => assert_eq!(header.consumed, header_len),
            other => panic!("{other:?}"),
        }
    });
}

/// A client that speaks HTTP to a listener that wants a header first: one byte decides.
#[divan::bench]
fn refuse_what_is_none() -> bool {
    decode(black_box(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"), HEADER_BYTES_MAX).is_err()
}

#[divan::bench(args = HEADERS)]
fn write_header(bencher: Bencher<'_, '_>, name: &str) {
    let mut out = Vec::with_capacity(256);
    write(&mut out, name);
    bencher.counter(BytesCount::of_slice(&*out)).bench_warm(|| {
        out.clear();
        write(&mut out, black_box(name));
        out.len()
    });
}
