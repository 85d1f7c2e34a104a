//! Micro benches of RESP: from bytes to commands, and replies.
//!
//! Throughput is in commands or replies where several come at once, in bytes where one is large.
//!
//! Not here: sockets and buffers (`net`), what a command does.

#![allow(clippy::unwrap_used)]

#[path = "../../base/benches/shared/mod.rs"]
mod shared;

use corelane_proto_resp::{Limits, OK, Parser, Step, Version, Writer, format_double};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

/// A GET as redis-benchmark sends it.
const GET: &str = "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000012345\r\n";

/// A SET as redis-benchmark sends it, `-d 32`.
const SET: &str = "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000012345\r\n$32\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";

/// The same, as somebody types it.
const INLINE: &str = "SET key:000000012345 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";

/// With quotes.
const QUOTED: &str = "SET key:000000012345 \"xxxxxxxxxxxxxxxx\\x20xxxxxxxxxxxxxxx\"\r\n";

/// Reads all commands of `wire`. Returns how many, and the bytes of their last arguments.
#[inline]
fn read_all(parser: &mut Parser, limits: &Limits, wire: &[u8]) -> (usize, usize) {
    let mut unread = wire;
    let (mut count, mut len) = (0, 0);
    while let Step::Command(command) = parser.poll(limits, &mut unread) {
        count += 1;
        len += black_box(command.get(command.len() - 1)).map_or(0, <[u8]>::len);
    }
    (count, len)
}

/// 16 commands in what one receive brought, by their form.
#[divan::bench(args = ["get", "set", "inline", "quoted"], sample_size = 64)]
fn parse_pipelined(bencher: Bencher<'_, '_>, form: &str) {
    let (command, len) = match form {
        "get" => (GET, 16),
        "set" => (SET, 32),
        "inline" => (INLINE, 32),
        "quoted" => (QUOTED, 32),
        form => panic!("no form is called {form}"),
    };
    let wire = command.repeat(16);
    let (mut parser, limits) = (Parser::new(), Limits::default());
    bencher.counter(ItemsCount::new(16_usize)).bench_warm(|| {
        assert_eq!(read_all(&mut parser, &limits, black_box(wire.as_bytes())), (16, 16 * len));
    });
}

/// One GET, by itself.
#[divan::bench(sample_size = 256)]
fn parse_one(bencher: Bencher<'_, '_>) {
    let (mut parser, limits) = (Parser::new(), Limits::default());
    bencher.counter(ItemsCount::new(1_usize)).bench_warm(|| {
        assert_eq!(read_all(&mut parser, &limits, black_box(GET.as_bytes())), (1, 16));
    });
}

/// A GET that comes in two receives, the cut within its key.
#[divan::bench(sample_size = 256)]
fn parse_in_two_reads(bencher: Bencher<'_, '_>) {
    let (mut parser, limits) = (Parser::new(), Limits::default());
    bencher.counter(ItemsCount::new(1_usize)).bench_warm(|| {
        let mut half = black_box(&GET.as_bytes()[..25]);
        assert!(matches!(parser.poll(&limits, &mut half), Step::NeedMore { wants } if wants == GET.len()));
        assert_eq!(read_all(&mut parser, &limits, black_box(GET.as_bytes())), (1, 16));
    });
}

/// An MSET of 500 small pairs.
#[divan::bench(sample_size = 8)]
fn parse_many_arguments(bencher: Bencher<'_, '_>) {
    let wire = format!("*1001\r\n$4\r\nMSET\r\n{}", "$8\r\nkey:1234\r\n$5\r\nvalue\r\n".repeat(500));
    let (mut parser, limits) = (Parser::new(), Limits::default());
    bencher.counter(BytesCount::of_str(&wire)).bench_warm(|| {
        assert_eq!(read_all(&mut parser, &limits, black_box(wire.as_bytes())), (1, 5));
    });
}

/// A value of 1 MiB in receives of 16 KiB.
#[divan::bench(sample_size = 64)]
fn parse_large_in_pieces(bencher: Bencher<'_, '_>) {
    let len = 1 << 20;
    let mut wire = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n").into_bytes();
    wire.resize(wire.len() + len, b'v');
    wire.extend_from_slice(b"\r\n");
    let (mut parser, limits) = (Parser::new(), Limits::default());
    bencher.counter(BytesCount::of_slice(&*wire)).bench_warm(|| {
        for end in (16_384..wire.len()).step_by(16_384) {
            let mut unread = black_box(&wire[..end]);
            assert!(matches!(parser.poll(&limits, &mut unread), Step::NeedMore { .. }));
        }
        assert_eq!(read_all(&mut parser, &limits, black_box(&wire)), (1, len));
    });
}

/// Kinds of replies.
const REPLIES: [&str; 7] = ["ok", "null", "integer", "bulk_32", "bulk_4096", "double", "whole_double"];

/// 16 replies of a kind, behind each other.
#[divan::bench(args = REPLIES, sample_size = 64)]
fn write_pipelined(bencher: Bencher<'_, '_>, kind: &str) {
    let value = [b'v'; 4096];
    let mut out = Vec::with_capacity(1 << 17);
    let write = |writer: &mut Writer<'_, Vec<u8>>| match kind {
        "ok" => writer.raw(OK),
        "null" => writer.null(),
        "integer" => writer.integer(black_box(1_234_567)),
        "bulk_32" => writer.bulk(black_box(&value[..32])),
        "bulk_4096" => writer.bulk(black_box(&value)),
        "double" => writer.double(black_box(3.1)),
        "whole_double" => writer.double(black_box(31.0)),
        kind => panic!("no reply is called {kind}"),
    };
    bencher.counter(ItemsCount::new(16_usize)).bench_warm(|| {
        out.clear();
        let mut writer = Writer::new(&mut out, Version::Resp3);
        (0..16).for_each(|_| write(&mut writer));
        assert!(out.ends_with(b"\r\n"));
        black_box(&out).len()
    });
}

/// The answer to an LRANGE or HGETALL: 100 strings of 8 bytes.
#[divan::bench(sample_size = 16)]
fn write_array(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(4096);
    bencher.counter(ItemsCount::new(100_usize)).bench_warm(|| {
        out.clear();
        let mut writer = Writer::new(&mut out, Version::Resp2);
        writer.array(100);
        (0..100).for_each(|_| writer.bulk(black_box(b"element1")));
        assert_eq!(black_box(&out).len(), 6 + 100 * 14);
    });
}

#[divan::bench(sample_size = 64)]
fn double_as_text(bencher: Bencher<'_, '_>) {
    bencher.bench_warm(|| format_double(black_box(0.1)).as_bytes().len());
}
