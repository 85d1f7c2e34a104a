//! Replies: what each looks like in RESP3, what RESP2 has instead, and numbers as printf writes them.

use corelane_proto_resp::{
    EMPTY_ARRAY, EMPTY_BULK, MINUS_ONE, MINUS_TWO, OK, ONE, PONG, ProtocolError, QUEUED, Version, Writer,
    ZERO, format_double,
};

/// What `write` makes, in RESP2 and in RESP3.
fn both(write: impl Fn(&mut Writer<'_, Vec<u8>>)) -> [String; 2] {
    [Version::Resp2, Version::Resp3].map(|version| {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, version));
        out.escape_ascii().to_string()
    })
}

/// That `write` makes `expected` in either.
#[track_caller]
fn same(write: impl Fn(&mut Writer<'_, Vec<u8>>), expected: &str) {
    assert_eq!(both(write), [expected, expected]);
}

#[test]
fn strings_integers_and_arrays_are_the_same_in_both() {
    same(|w| w.simple(b"string"), r"+string\r\n");
    same(|w| w.error(b"WRONGTYPE not a list"), r"-WRONGTYPE not a list\r\n");
    same(|w| w.bulk(b"a\r\nb\0"), r"$5\r\na\r\nb\x00\r\n");
    same(|w| w.bulk(b""), r"$0\r\n\r\n");
    same(|w| w.array(0), r"*0\r\n");
    same(|w| w.array(1_234), r"*1234\r\n");
    for (value, text) in [(0, "0"), (7, "7"), (-1, "-1"), (1_234_567, "1234567"), (-10, "-10")] {
        same(|w| w.integer(value), &format!(r":{text}\r\n"));
        same(|w| w.bulk_integer(value), &format!(r"${}\r\n{text}\r\n", text.len()));
    }
    same(|w| w.integer(i64::MIN), r":-9223372036854775808\r\n");
    same(|w| w.bulk_integer(i64::MIN), r"$20\r\n-9223372036854775808\r\n");
    same(|w| w.integer(i64::MAX), r":9223372036854775807\r\n");
}

#[test]
fn a_string_may_be_written_around_bytes_from_elsewhere() {
    let written = |w: &mut Writer<'_, Vec<u8>>| {
        w.bulk_header(3);
        w.raw(b"abc");
        w.bulk_end();
    };
    same(written, r"$3\r\nabc\r\n");
}

#[test]
fn types_of_resp3_become_what_redis_sends_in_resp2() {
    assert_eq!(both(|w| w.null()), [r"$-1\r\n", r"_\r\n"]);
    assert_eq!(both(|w| w.null_array()), [r"*-1\r\n", r"_\r\n"]);
    assert_eq!(both(|w| w.map(3)), [r"*6\r\n", r"%3\r\n"]);
    assert_eq!(both(|w| w.set(3)), [r"*3\r\n", r"~3\r\n"]);
    assert_eq!(both(|w| w.push(3)), [r"*3\r\n", r">3\r\n"]);
    assert_eq!(both(|w| w.boolean(true)), [r":1\r\n", r"#t\r\n"]);
    assert_eq!(both(|w| w.boolean(false)), [r":0\r\n", r"#f\r\n"]);
    assert_eq!(both(|w| w.double(1.5)), [r"$3\r\n1.5\r\n", r",1.5\r\n"]);
    assert_eq!(
        both(|w| w.big_number(b"-12345678901234567890")),
        [r"$21\r\n-12345678901234567890\r\n", r"(-12345678901234567890\r\n"]
    );
    assert_eq!(both(|w| w.verbatim(*b"txt", b"a\r\nb")), [r"$4\r\na\r\nb\r\n", r"=8\r\ntxt:a\r\nb\r\n"]);
}

#[test]
fn an_attribute_exists_in_resp3_only() {
    let mut out = Vec::new();
    assert!(!Writer::new(&mut out, Version::Resp2).attribute(1));
    assert!(out.is_empty());
    assert!(Writer::new(&mut out, Version::Resp3).attribute(1));
    assert_eq!(out, b"|1\r\n");
}

#[test]
fn text_of_an_application_cannot_end_a_line_early() {
    same(|w| w.error(b"ERR a\r\nb\n\nc\r\n\r\n"), r"-ERR a  b  c\r\n");
    same(|w| w.error(b"\r\n"), r"-\r\n");
    same(|w| w.simple(b"a\r\n:1\r\n"), r"+a  :1  \r\n");
    assert_eq!(both(|w| w.big_number(b"1\r\n2"))[1], r"(1  2\r\n");
}

#[test]
fn a_protocol_error_is_an_error_reply_with_the_byte_that_was_found() {
    same(
        |w| w.protocol_error(ProtocolError::InvalidBulkLength),
        r"-ERR Protocol error: invalid bulk length\r\n",
    );
    let expected = |got, text: &str| {
        same(
            |w| w.protocol_error(ProtocolError::ExpectedDollar(got)),
            &format!(r"-ERR Protocol error: expected \'$\', got \'{text}\'\r\n"),
        );
    };
    expected(b':', ":");
    expected(b'\n', " ");
    expected(0xff, r"\xff");
}

#[test]
fn the_constants_are_what_a_writer_writes() {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Version::default());
    [&b"OK"[..], b"PONG", b"QUEUED"].into_iter().for_each(|text| writer.simple(text));
    [0, 1, -1, -2].into_iter().for_each(|value| writer.integer(value));
    writer.bulk(b"");
    writer.array(0);
    let constants = [OK, PONG, QUEUED, ZERO, ONE, MINUS_ONE, MINUS_TWO, EMPTY_BULK, EMPTY_ARRAY].concat();
    assert_eq!(out, constants);
    out.clear();
    Writer::new(&mut out, Version::default()).ok();
    assert_eq!(out, OK);
}

#[test]
fn a_connection_begins_in_resp2() {
    let mut out = Vec::new();
    assert_eq!(Writer::new(&mut out, Version::default()).version(), Version::Resp2);
}

/// Made with printf(3) of glibc 2.36, `%.17g`.
const DOUBLES: &[(f64, &str)] = &[
    (0.0, "0"),
    (-0.0, "-0"),
    (1.0, "1"),
    (-3.0, "-3"),
    (10.0, "10"),
    (0.1, "0.10000000000000001"),
    (0.5, "0.5"),
    (1.5, "1.5"),
    (-1.25, "-1.25"),
    (3.1, "3.1000000000000001"),
    (100.5, "100.5"),
    (0.0001, "0.0001"),
    (0.00012345678901234567, "0.00012345678901234567"),
    (0.00001, "1.0000000000000001e-05"),
    (1e16, "10000000000000000"),
    (99_999_999_999_999_984.0, "99999999999999984"),
    (1e17, "1e+17"),
    (123_456_789_012_345_680_000.0, "1.2345678901234568e+20"),
    (1e100, "1e+100"),
    (1.5e300, "1.5000000000000001e+300"),
    (1e-100, "1e-100"),
    (100_000_000_000_000.0 + 0.125, "100000000000000.12"),
    (100_000_000_000_000.0 + 0.375, "100000000000000.38"),
    (1_000_000_000_000_000.5, "1000000000000000.5"),
    (9_007_199_254_740_993.0, "9007199254740992"),
    (f64::MAX, "1.7976931348623157e+308"),
    (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
    (5e-324, "4.9406564584124654e-324"),
    (-5e-324, "-4.9406564584124654e-324"),
    (f64::INFINITY, "inf"),
    (f64::NEG_INFINITY, "-inf"),
    (f64::NAN, "nan"),
];

#[test]
fn doubles_are_written_as_printf_writes_seventeen_digits() {
    for &(value, text) in DOUBLES {
        assert_eq!(String::from_utf8_lossy(format_double(value).as_bytes()), text, "{value:e}");
    }
    assert_eq!(format_double(-f64::NAN).as_bytes(), b"nan");
}
