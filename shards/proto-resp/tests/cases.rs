//! Requests: what is a command, what is none, and in which words it is refused. Each input is fed whole,
//! bytewise and cut once at every byte.
#![allow(clippy::unwrap_used)]

use corelane_proto_resp::check::{End, Setup, Trace, drive};
use corelane_proto_resp::{Limits, OpenArgument, Parser, ProtocolError, Step};

/// The trace of `input`, after every way of cutting it gave the same.
fn trace_with(input: &[u8], setup: &Setup) -> Trace {
    let whole = drive(input, &[], setup);
    let bytewise: Vec<usize> = (1..input.len()).collect();
    let agree = |cuts: &[usize]| {
        for detach in [None, Some(0)] {
            let split = drive(input, cuts, &Setup { detach, ..*setup });
            assert_eq!(whole, split, "cut at {cuts:?} of {:?}", String::from_utf8_lossy(input));
        }
    };
    agree(&bytewise);
    if input.len() <= 1_000 {
        bytewise.iter().for_each(|cut| agree(&[*cut]));
    }
    whole
}

fn trace(input: impl AsRef<[u8]>) -> Trace {
    trace_with(input.as_ref(), &Setup::default())
}

/// The commands of an input that ends behind one.
#[track_caller]
fn commands(input: impl AsRef<[u8]>) -> Vec<Vec<Vec<u8>>> {
    let trace = trace(&input);
    assert_eq!(trace.end, End::Between, "{:?}", input.as_ref().escape_ascii().to_string());
    trace.commands
}

/// The words of one inline command, as text.
#[track_caller]
fn words(line: &str) -> Vec<String> {
    let mut found = commands(format!("{line}\r\n"));
    assert_eq!(found.len(), 1, "{line:?}");
    found.remove(0).into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
}

/// Why an input is refused, after how many commands.
#[track_caller]
fn refused_with(input: impl AsRef<[u8]>, setup: &Setup) -> (ProtocolError, usize) {
    let trace = trace_with(input.as_ref(), setup);
    match trace.end {
        End::Refused(error) => (error, trace.commands.len()),
        end => panic!("{:?} is not refused: {end:?}", input.as_ref().escape_ascii().to_string()),
    }
}

#[track_caller]
fn refused(input: impl AsRef<[u8]>) -> ProtocolError {
    refused_with(input, &Setup::default()).0
}

fn is_waiting(input: impl AsRef<[u8]>) -> bool {
    trace(input) == Trace { commands: vec![], end: End::Within }
}

#[test]
fn an_array_of_strings_is_a_command() {
    assert_eq!(commands("*1\r\n$4\r\nPING\r\n"), [[b"PING".to_vec()]]);
    assert_eq!(
        commands("*3\r\n$3\r\nSET\r\n$0\r\n\r\n$6\r\na\r\n\0b\r\r\n"),
        [[b"SET".to_vec(), b"".to_vec(), b"a\r\n\0b\r".to_vec()]]
    );
}

#[test]
fn strings_of_every_number_of_digits_are_read() {
    for len in [9, 10, 99, 100, 999, 1_000, 65_536] {
        let value = vec![b'v'; len];
        let wire = [format!("*2\r\n$1\r\nk\r\n${len}\r\n").as_bytes(), &value, b"\r\n"].concat();
        assert_eq!(commands(wire), [[b"k".to_vec(), value]]);
    }
}

#[test]
fn a_pipeline_gives_its_commands_in_order_in_both_forms() {
    let wire = "*2\r\n$3\r\nGET\r\n$1\r\na\r\nGET b\r\n\r\n*0\r\n*2\r\n$3\r\nGET\r\n$1\r\nc\r\nGET d\n";
    let names: Vec<Vec<u8>> = commands(wire).into_iter().map(|mut command| command.remove(1)).collect();
    assert_eq!(names, [b"a", b"b", b"c", b"d"]);
}

#[test]
fn empty_lines_and_empty_arrays_need_no_answer() {
    for nothing in
        ["\r\n", "\n", "  \t \r\n", "*0\r\n", "*-1\r\n", "*-7\r\n", "*-9223372036854775808\r\n", ""]
    {
        assert!(commands(nothing).is_empty(), "{nothing:?}");
        assert_eq!(commands(format!("{nothing}PING\r\n{nothing}")), [[b"PING".to_vec()]]);
    }
}

#[test]
fn what_needs_no_answer_is_consumed_at_once() {
    let mut parser = Parser::new();
    let mut unread: &[u8] = b"\r\n*0\r\n*-1\r\n\n*1";
    assert!(matches!(parser.poll(&Limits::default(), &mut unread), Step::NeedMore { wants: 3 }));
    assert_eq!(unread, b"*1");
    assert!(parser.is_between());
}

#[test]
fn a_command_that_is_not_whole_waits() {
    let whole = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    (1..whole.len()).for_each(|len| assert!(is_waiting(&whole[..len]), "{len}"));
    for line in ["PING", "PING\r", "'", "'\r", "\"\\x"] {
        assert!(is_waiting(line), "{line:?}");
    }
}

#[test]
fn a_wrong_number_of_arguments_is_an_invalid_multibulk_length() {
    let lengths =
        ["", "x", "1x", "+1", " 1", "1 ", "01", "-0", "-", "0x1", "1.0", "1048577", "2147483648", "\0"];
    for length in lengths.into_iter().chain(["9223372036854775808", "99999999999999999999999"]) {
        assert_eq!(refused(format!("*{length}\r\n")), ProtocolError::InvalidMultibulkLength, "{length:?}");
    }
    assert_eq!(refused("*1\rx"), ProtocolError::InvalidMultibulkLength, "CR without LF");
}

#[test]
fn a_wrong_length_of_an_argument_is_an_invalid_bulk_length() {
    let lengths =
        ["", "x", "1x", "+1", " 1", "01", "-0", "-1", "536870913", "4294967296", "9223372036854775808"];
    for length in lengths {
        assert_eq!(refused(format!("*1\r\n${length}\r\n")), ProtocolError::InvalidBulkLength, "{length:?}");
    }
    assert_eq!(refused("*1\r\n$1\rx"), ProtocolError::InvalidBulkLength, "CR without LF");
}

#[test]
fn bytes_that_go_on_behind_their_length_are_refused_and_not_skipped() {
    for wire in ["*1\r\n$4\r\nPINGxx", "*1\r\n$3\r\nPING\r\n", "*1\r\n$4\r\nPING\rx", "*1\r\n$4\r\nPING\n\r"]
    {
        assert_eq!(refused(wire), ProtocolError::InvalidBulkLength, "{wire:?}");
    }
}

#[test]
fn anything_but_a_string_in_a_command_is_named() {
    for got in [b':', b'+', b'*', b'%', b'x', b'\r', b'\n', 0, 0xff] {
        let wire = [b"*2\r\n$3\r\nGET\r\n", &[got][..], b"1\r\n"].concat();
        assert_eq!(refused(wire), ProtocolError::ExpectedDollar(got));
    }
}

#[test]
fn a_limit_of_arguments_holds_exactly() {
    let setup =
        |arguments_max| Setup { limits: Limits { arguments_max, ..Limits::default() }, ..Setup::default() };
    let wire = "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n";
    assert_eq!(trace_with(wire.as_bytes(), &setup(3)).commands.len(), 1);
    assert_eq!(refused_with(wire, &setup(2)), (ProtocolError::InvalidMultibulkLength, 0));
    assert_eq!(trace_with(b"a b c\r\n", &setup(3)).commands.len(), 1);
    assert_eq!(refused_with("a b c\r\n", &setup(2)), (ProtocolError::InvalidMultibulkLength, 0));
}

#[test]
fn limits_of_bytes_hold_exactly() {
    let wire = "*2\r\n$1\r\na\r\n$5\r\n12345\r\n";
    let setup = |bulk_bytes_max, command_bytes_max| Setup {
        limits: Limits { bulk_bytes_max, command_bytes_max, ..Limits::default() },
        ..Setup::default()
    };
    let len = u32::try_from(wire.len()).unwrap();
    assert_eq!(trace_with(wire.as_bytes(), &setup(5, len)).end, End::Between);
    assert_eq!(refused_with(wire, &setup(4, len)).0, ProtocolError::InvalidBulkLength);
    assert_eq!(refused_with(wire, &setup(5, len - 1)).0, ProtocolError::CommandTooLong);
}

#[test]
fn a_command_above_its_limit_is_refused_by_its_lengths_alone() {
    let wire = "*3\r\n$1\r\na\r\n$536870912\r\n";
    assert!(is_waiting(wire));
    let limits = Limits { command_bytes_max: 512 << 20, ..Limits::default() };
    assert_eq!(refused_with(wire, &Setup { limits, ..Setup::default() }).0, ProtocolError::CommandTooLong);
}

#[test]
fn a_line_may_be_as_long_as_its_limit_and_no_longer() {
    let max = Limits::default().line_bytes_max as usize;
    let line = |start: &str, len: usize| [start.as_bytes(), &vec![b'1'; len - start.len()]].concat();
    let cases = [
        ("x", ProtocolError::InlineTooLong, None),
        ("*", ProtocolError::MultibulkCountTooLong, Some(ProtocolError::InvalidMultibulkLength)),
        ("*1\r\n$", ProtocolError::BulkCountTooLong, Some(ProtocolError::InvalidBulkLength)),
    ];
    for (start, too_long, otherwise) in cases {
        let before = start.len() - 1;
        let longest = line(start, before + max);
        let ended = |line: &[u8]| [line, b"\r\n"].concat();
        // An inline line ends in LF: its CR counts.
        let whole = if otherwise.is_none() { [&longest[..], b"\n"].concat() } else { ended(&longest) };
        match otherwise {
            Some(error) => assert_eq!(refused(whole), error),
            None => assert_eq!(commands(whole).len(), 1),
        }
        assert!(is_waiting(&longest));
        assert_eq!(refused(line(start, before + max + 1)), too_long);
        assert_eq!(refused(ended(&line(start, before + max + 1))), too_long, "also when its end is there");
    }
}

#[test]
fn a_guest_may_send_what_authenticates_and_little_more() {
    let guest = Setup { guest: true, ..Setup::default() };
    let strings = |count: usize| format!("*{count}\r\n{}", "$1\r\nx\r\n".repeat(count));
    assert_eq!(trace_with(strings(10).as_bytes(), &guest).commands.len(), 1);
    assert_eq!(refused_with("*11\r\n", &guest).0, ProtocolError::GuestMultibulkLength);
    assert_eq!(refused_with("*1048577\r\n", &guest).0, ProtocolError::InvalidMultibulkLength);
    let string = |len: usize| format!("*1\r\n${len}\r\n{}\r\n", "x".repeat(len));
    assert_eq!(drive(string(16_384).as_bytes(), &[], &guest).commands.len(), 1);
    assert_eq!(refused_with("*1\r\n$16385\r\n", &guest).0, ProtocolError::GuestBulkLength);
    assert_eq!(refused_with("*1\r\n$536870913\r\n", &guest).0, ProtocolError::InvalidBulkLength);
    assert_eq!(trace_with(b"*0\r\n*-1\r\n", &guest).end, End::Between);
}

#[test]
fn who_authenticates_is_no_longer_held_to_the_limits_of_guests() {
    let (mut parser, limits) = (Parser::new(), Limits::default());
    parser.set_guest(true);
    let mut unread: &[u8] = b"AUTH secret\r\n*11\r\n";
    assert!(matches!(parser.poll(&limits, &mut unread), Step::Command(_)));
    parser.set_guest(false);
    assert!(matches!(parser.poll(&limits, &mut unread), Step::NeedMore { .. }));
}

#[test]
fn commands_before_an_error_are_given_and_none_behind_it() {
    assert_eq!(
        refused_with("PING\r\n*1\r\n$4\r\nPING\r\n*x\r\nPING\r\n", &Setup::default()),
        (ProtocolError::InvalidMultibulkLength, 2)
    );
}

#[test]
fn words_of_a_line_are_separated_by_blanks() {
    assert_eq!(words("PING"), ["PING"]);
    assert_eq!(words("  SET\tkey  value \t"), ["SET", "key", "value"]);
    assert_eq!(words("\u{b}\u{c}a\u{b}b \u{c}c"), ["a\u{b}b", "c"], "two blanks count before a word only");
    assert_eq!(words("a\rb"), ["a", "b"]);
    assert_eq!(words("a\0b é"), ["a\0b", "é"]);
    assert_eq!(words("x*1"), ["x*1"]);
    assert_eq!(words(" *1"), ["*1"], "a star begins an array at the start of a line only");
    assert_eq!(words("a\\n b\\"), ["a\\n", "b\\"], "no escapes outside quotes");
}

#[test]
fn a_line_ends_in_lf_with_or_without_one_cr() {
    assert_eq!(commands("PING\n"), [[b"PING".to_vec()]]);
    assert_eq!(commands("PING\r\n"), [[b"PING".to_vec()]]);
    assert_eq!(commands("PING\r\r\n"), [[b"PING".to_vec()]]);
}

#[test]
fn double_quotes_keep_blanks_and_know_escapes() {
    assert_eq!(words(r#"SET "a key" "a 'b' \"c\"""#), ["SET", "a key", "a 'b' \"c\""]);
    assert_eq!(words(r#""\n\r\t\b\a\\\q\x41\x4a\xZZ\x4""#), ["\n\r\t\u{8}\u{7}\\qAJxZZx4"]);
    assert_eq!(words(r#""""#), [""]);
    assert_eq!(words(r#"pre"fix ed" x"#), ["prefix ed", "x"]);
    assert_eq!(words("\"a\"\u{b}b"), ["a", "b"], "any blank may follow a quote");
    assert_eq!(commands(b"\"\\xff\\x00\"\n"), [[vec![0xff, 0]]]);
}

#[test]
fn single_quotes_keep_blanks_and_know_one_escape() {
    assert_eq!(words(r#"SET 'a "key"' 'it\'s'"#), ["SET", "a \"key\"", "it's"]);
    assert_eq!(words(r"'a\nb\\c'"), ["a\\nb\\\\c"]);
    assert_eq!(words("''"), [""]);
    assert_eq!(words("pre'fix ed' x"), ["prefix ed", "x"]);
}

#[test]
fn quotes_that_do_not_close_or_go_on_are_unbalanced() {
    for line in [
        "\"", "'", "a \"b", "a 'b", "\"a\"b", "'a'b", "'a''b'", "\"a\\\"", "'a\\'", "\"a\" 'b", "\"\\",
        "it's",
    ] {
        assert_eq!(refused(format!("{line}\r\n")), ProtocolError::UnbalancedQuotes, "{line:?}");
        assert_eq!(refused(format!("{line}\n")), ProtocolError::UnbalancedQuotes, "{line:?}");
    }
}

#[test]
fn the_words_of_errors_are_those_of_redis() {
    let texts = [
        (ProtocolError::InvalidMultibulkLength, "Protocol error: invalid multibulk length"),
        (ProtocolError::InvalidBulkLength, "Protocol error: invalid bulk length"),
        (ProtocolError::ExpectedDollar(b'x'), "Protocol error: expected '$', got 'x'"),
        (ProtocolError::ExpectedDollar(0), "Protocol error: expected '$', got '\\x00'"),
        (ProtocolError::MultibulkCountTooLong, "Protocol error: too big mbulk count string"),
        (ProtocolError::BulkCountTooLong, "Protocol error: too big bulk count string"),
        (ProtocolError::InlineTooLong, "Protocol error: too big inline request"),
        (ProtocolError::UnbalancedQuotes, "Protocol error: unbalanced quotes in request"),
        (ProtocolError::GuestMultibulkLength, "Protocol error: unauthenticated multibulk length"),
        (ProtocolError::GuestBulkLength, "Protocol error: unauthenticated bulk length"),
        (ProtocolError::CommandTooLong, "Protocol error: command too long"),
    ];
    texts.into_iter().for_each(|(error, text)| assert_eq!(error.to_string(), text));
}

#[test]
fn an_open_argument_can_be_received_elsewhere() {
    let (mut parser, limits) = (Parser::new(), Limits::default());
    let wire = b"*3\r\n$3\r\nSET\r\n$10\r\n01234";
    let mut unread = &wire[..];
    assert!(matches!(parser.poll(&limits, &mut unread), Step::NeedMore { wants: 30 }));
    let open = parser.open_argument().unwrap();
    assert_eq!(open, OpenArgument { index: 1, start: 18, len: 10 });
    assert!(!parser.is_between());
    parser.detach_argument(*b"\r\n");
    assert_eq!(parser.open_argument(), None);
    let mut unread = &wire[..open.start];
    assert!(matches!(parser.poll(&limits, &mut unread), Step::NeedMore { wants: 19 }));
    let joined = [&wire[..open.start], b"$1\r\nv\r\nPING\r\n"].concat();
    let mut unread = &joined[..];
    let Step::Command(command) = parser.poll(&limits, &mut unread) else { panic!("no command") };
    assert!(command.iter().eq([&b"SET"[..], b"", b"v"]));
    assert_eq!(unread, b"PING\r\n");
}

#[test]
fn a_last_argument_that_is_detached_makes_the_command_whole() {
    let (mut parser, limits) = (Parser::new(), Limits::default());
    let wire = b"*2\r\n$4\r\nECHO\r\n$9\r\n";
    let mut unread = &wire[..];
    assert!(matches!(parser.poll(&limits, &mut unread), Step::NeedMore { .. }));
    parser.detach_argument(*b"\r\n");
    let mut unread = &wire[..];
    assert!(matches!(parser.poll(&limits, &mut unread), Step::Command(command) if command.len() == 2));
    assert!(unread.is_empty() && parser.is_between());
}

#[test]
fn a_detached_argument_counts_for_the_limit_of_its_command() {
    let wire = "*2\r\n$1\r\na\r\n$5\r\n12345\r\n";
    for (max, end) in [(22, End::Between), (21, End::Refused(ProtocolError::CommandTooLong))] {
        let limits = Limits { command_bytes_max: max, ..Limits::default() };
        let setup = Setup { limits, detach: Some(0), ..Setup::default() };
        assert_eq!(drive(wire.as_bytes(), &(1..22).collect::<Vec<_>>(), &setup).end, end);
    }
}
