//! Requests as bytes, answers whole and at all splits, and arbitrary bytes.
#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::check::{Trace, check, drive};
use super::reader::{DEPTH_MAX, ELEMENTS_MAX, LINE_LEN_MAX};
use super::*;

const GOOD: Answer = Answer { error: None, close: false };
const FAULT: Answer = Answer { error: Some(ErrorKind::ErrorReply), close: false };
const WRONG: Answer = Answer { error: Some(ErrorKind::WrongAnswer), close: false };

fn resp(spec: RespSpec) -> Resp {
    Resp::new(spec, 11).unwrap()
}

fn written(resp: &mut Resp, number: u64) -> (Vec<u8>, Command) {
    let mut out = Vec::new();
    let ask = resp.write(number, &mut out);
    (out, ask)
}

#[test]
fn a_get_is_an_array_of_two_and_a_set_one_of_three() {
    let spec = RespSpec { get_share: 1.0, keys: 1, ..RespSpec::default() };
    let (bytes, ask) = written(&mut resp(spec), 5);
    assert_eq!(bytes, b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n");
    assert_eq!((ask, resp(spec).kind(ask)), (Command::Get, 0));

    let spec = RespSpec { get_share: 0.0, value_len: 3, ..spec };
    let (bytes, ask) = written(&mut resp(spec), 5);
    let (head, tail) = bytes.split_at(bytes.len() - 5);
    assert_eq!(head, b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000000\r\n$3\r\n");
    assert!(tail[..3].iter().all(u8::is_ascii_graphic) && tail.ends_with(b"\r\n"));
    assert_eq!((ask, resp(spec).kind(ask)), (Command::Set, 1));
}

#[test]
fn an_empty_value_is_a_string_of_no_bytes() {
    let spec = RespSpec { get_share: 0.0, keys: 1, value_len: 0, ..RespSpec::default() };
    let (bytes, _) = written(&mut resp(spec), 0);
    assert!(bytes.ends_with(b"\r\n$0\r\n\r\n"), "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn a_value_is_printable_as_long_as_asked_and_of_the_seed() {
    for len in [1, 9, 10, 11, 1000] {
        let value = tail(len, 1);
        let text = value.strip_prefix(format!("\r\n${len}\r\n").as_bytes()).unwrap();
        let text = text.strip_suffix(b"\r\n").unwrap();
        assert_eq!(text.len(), len as usize);
        assert!(text.iter().all(u8::is_ascii_graphic));
        assert_eq!(value, tail(len, 1));
    }
    assert_ne!(tail(32, 1), tail(32, 2));
}

#[test]
fn the_same_number_gives_the_same_bytes_whoever_asks() {
    let spec = RespSpec { get_share: 0.5, zipf: 1.0, ..RespSpec::default() };
    let (mut one, mut other) = (resp(spec), resp(spec).clone());
    let forwards: Vec<_> = (0..200).map(|number| written(&mut one, number)).collect();
    let mut backwards: Vec<_> = (0..200).rev().map(|number| written(&mut other, number)).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    let mut third = Resp::new(spec, 12).unwrap();
    assert_ne!(forwards, (0..200).map(|number| written(&mut third, number)).collect::<Vec<_>>());
}

#[test]
fn the_share_of_gets_is_the_one_asked_for() {
    for (share, low, high) in [(0.0, 0, 0), (0.9, 8880, 9120), (1.0, 10_000, 10_000)] {
        let resp = resp(RespSpec { get_share: share, ..RespSpec::default() });
        let gets = (0..10_000).filter(|&number| resp.command(number) == Command::Get).count();
        assert!((low..=high).contains(&gets), "{share}: {gets}");
    }
}

#[test]
fn keys_stay_within_their_space_and_reach_all_of_it() {
    for zipf in [0.0, 0.8] {
        let resp = resp(RespSpec { keys: 50, zipf, ..RespSpec::default() });
        let mut seen = [0_u32; 50];
        for number in 0..5000 {
            seen[usize::try_from(resp.key(number)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
        let most = seen.iter().max().unwrap();
        assert_eq!(*most > 400, zipf > 0.0, "one key is hot with zipf alone: {seen:?}");
    }
}

#[test]
fn which_keys_are_hot_does_not_depend_on_the_seed() {
    let hottest = |seed| {
        let spec = RespSpec { keys: 100_000, zipf: 1.2, ..RespSpec::default() };
        let resp = Resp::new(spec, seed).unwrap();
        let mut counts = std::collections::HashMap::new();
        (0..3000).for_each(|number| *counts.entry(resp.key(number)).or_insert(0) += 1);
        counts.into_iter().max_by_key(|&(_, count)| count).unwrap().0
    };
    assert_eq!(hottest(1), hottest(2));
    assert_eq!(hottest(1), Scatter::new(100_000).place(0));
}

#[test]
fn the_largest_key_has_twelve_digits() {
    assert_eq!(&digits(KEYS_MAX - 1), b"999999999999");
    assert_eq!(&digits(1_234_567_890), b"001234567890");
    assert_eq!(&digits(0), b"000000000000");
}

#[test]
fn a_request_is_constant_where_nothing_is_drawn() {
    for get_share in [0.0, 1.0] {
        let mut one = resp(RespSpec { get_share, keys: 1, ..RespSpec::default() });
        let (bytes, ask) = one.constant().unwrap();
        for number in [0, 1, u64::MAX] {
            assert_eq!(written(&mut one, number), (bytes.to_vec(), ask));
        }
    }
    assert!(resp(RespSpec { get_share: 0.5, keys: 1, ..RespSpec::default() }).constant().is_none());
    assert!(resp(RespSpec { get_share: 1.0, keys: 2, ..RespSpec::default() }).constant().is_none());
}

#[test]
fn what_cannot_work_is_named_with_what_would() {
    let spec = RespSpec { get_share: 1.0, ..RespSpec::default() };
    for good in [
        RespSpec { keys: 1, ..spec },
        RespSpec { keys: KEYS_MAX, zipf: 4.0, ..spec },
        RespSpec { value_len: BULK_LEN_MAX, ..spec },
        RespSpec { get_share: 0.0, value_len: 0, ..spec },
    ] {
        assert!(Resp::new(good, 1).is_ok(), "{good:?}");
    }
    for (bad, says) in [
        (RespSpec { keys: 0, ..spec }, "keys = 0 cannot work: set it to 1 to 1000000000000"),
        (RespSpec { keys: KEYS_MAX + 1, ..spec }, "keys = 1000000000001"),
        (RespSpec { zipf: 4.1, ..spec }, "zipf = 4.1 cannot work: set it to 0 (uniform) to 4"),
        (RespSpec { zipf: -1.0, ..spec }, "zipf = -1"),
        (RespSpec { get_share: 1.1, ..spec }, "get_share = 1.1"),
        (RespSpec { get_share: f64::NAN, ..spec }, "get_share = NaN"),
        (RespSpec { value_len: BULK_LEN_MAX + 1, ..spec }, "value_len = 536870913"),
    ] {
        let error = Resp::new(bad, 1).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

/// Answers, and what they are to GET and to SET.
const ANSWERS: &[(&[u8], Answer, Answer)] = &[
    (b"$-1\r\n", GOOD, WRONG),
    (b"_\r\n", GOOD, WRONG),
    (b"$0\r\n\r\n", GOOD, WRONG),
    (b"$5\r\nhello\r\n", GOOD, WRONG),
    (b"$7\r\n\r\n$-1\r\n\r\n", GOOD, WRONG),
    (b"$12\r\nhello, world\r\n", GOOD, WRONG),
    (b"+OK\r\n", WRONG, GOOD),
    (b"+\r\n", WRONG, WRONG),
    (b"+O\r\n", WRONG, WRONG),
    (b"+OKAY\r\n", WRONG, WRONG),
    (b"+QUEUED\r\n", WRONG, WRONG),
    (b"-ERR unknown command\r\n", FAULT, FAULT),
    (b"-\r\n", FAULT, FAULT),
    (b"-MOVED 3999 127.0.0.1:6381\r\n", FAULT, FAULT),
    (b"!21\r\nSYNTAX invalid syntax\r\n", FAULT, FAULT),
    (b":1\r\n", WRONG, WRONG),
    (b":+1\r\n", WRONG, WRONG),
    (b":-9223372036854775808\r\n", WRONG, WRONG),
    (b":9223372036854775807\r\n", WRONG, WRONG),
    (b"*-1\r\n", WRONG, WRONG),
    (b"*0\r\n", WRONG, WRONG),
    (b"*2\r\n$1\r\na\r\n*1\r\n:7\r\n", WRONG, WRONG),
    (b"%1\r\n+key\r\n~2\r\n#t\r\n#f\r\n", WRONG, WRONG),
    (b",3.14\r\n", WRONG, WRONG),
    (b"(3492890328409238509324850943850943825024385\r\n", WRONG, WRONG),
    (b"=15\r\ntxt:Some string\r\n", WRONG, WRONG),
    // Attributes belong to what follows, pushes to nothing.
    (b"|1\r\n+ttl\r\n:3600\r\n$1\r\nx\r\n", GOOD, WRONG),
    (b"|0\r\n+OK\r\n", WRONG, GOOD),
    (b"|1\r\n+a\r\n|1\r\n+b\r\n:1\r\n:2\r\n$-1\r\n", GOOD, WRONG),
    (b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n$-1\r\n", GOOD, WRONG),
    (b">0\r\n>1\r\n-ERR\r\n+OK\r\n", WRONG, GOOD),
    (b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", WRONG, WRONG),
    (b"*1\r\n|0\r\n*1\r\n-ERR\r\n", WRONG, WRONG),
];

#[test]
fn answers_are_judged_by_their_command_at_all_splits() {
    for &(bytes, to_get, to_set) in ANSWERS {
        for (ask, answer) in [(Command::Get, to_get), (Command::Set, to_set)] {
            let text = String::from_utf8_lossy(bytes);
            let wanted = Trace { answers: vec![answer], end: Ok(false) };
            assert_eq!(drive(bytes, &[], ask), wanted, "{text:?}");
            let every: Vec<usize> = (1..bytes.len()).collect();
            assert_eq!(drive(bytes, &every, ask), wanted, "{text:?} byte by byte");
            for cut in 1..bytes.len() {
                assert_eq!(drive(bytes, &[cut], ask), wanted, "{text:?} cut at {cut}");
                for next in cut + 1..bytes.len() {
                    assert_eq!(drive(bytes, &[cut, next], ask), wanted, "{text:?} cut at {cut}, {next}");
                }
            }
        }
    }
}

#[test]
fn pipelined_answers_come_in_order_at_all_splits() {
    let bytes: Vec<u8> = ANSWERS.iter().flat_map(|(bytes, ..)| bytes.iter().copied()).collect();
    let wanted = Trace { answers: ANSWERS.iter().map(|&(_, to_get, _)| to_get).collect(), end: Ok(false) };
    assert_eq!(drive(&bytes, &[], Command::Get), wanted);
    for cut in 1..bytes.len() {
        assert_eq!(drive(&bytes, &[cut], Command::Get), wanted, "cut at {cut}");
    }
    check(&[&[0, 5], &bytes[..]].concat());
}

#[test]
fn the_start_of_an_answer_is_within_it_and_a_push_is_not() {
    for &(bytes, ..) in ANSWERS.iter().filter(|(bytes, ..)| bytes[0] != b'>') {
        for cut in 1..bytes.len() {
            let trace = drive(&bytes[..cut], &[], Command::Get);
            assert_eq!(trace, Trace { answers: vec![], end: Ok(true) }, "{:?}", &bytes[..cut]);
        }
    }
    let push = b">2\r\n+message\r\n+text\r\n";
    for cut in 0..=push.len() {
        assert_eq!(drive(&push[..cut], &[], Command::Get), Trace { answers: vec![], end: Ok(false) });
    }
}

#[test]
fn what_is_not_the_protocol_is_garbage_at_all_splits() {
    let garbage: &[&[u8]] = &[
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"\n",
        b"\0",
        b"GET",
        b"+OK\n",
        b"+OK\rx",
        b"-ERR\n",
        b"$\r\n",
        b"$-\r\n",
        b"$-2\r\n",
        b"$-0\r\n",
        b"$+5\r\n",
        b"$5x",
        b"$ 5\r\n",
        b"$?\r\n",
        b"$1\r\nab",
        b"$1\r\na\rx",
        b"$1\r\na\n",
        b"$0\r\nx",
        b"$-1\rx",
        b"!-1\r\n",
        b"=-1\r\n",
        b":\r\n",
        b":+\r\n",
        b":-\r\n",
        b":1-",
        b":--1\r\n",
        b":9223372036854775808\r\n",
        b":-9223372036854775809\r\n",
        b":184467440737095516160\r\n",
        b"*-2\r\n",
        b"*x",
        b"*?\r\n",
        b"%-1\r\n",
        b"#\r\n",
        b"#x",
        b"#tt",
        b"_x",
        b",\r\n",
        b"(\r\n",
        b"*2\r\n:1\r\n>0\r\n",
        b"|1\r\n+a\r\n+b\r\n>0\r\n",
        b"|0\r\n>0\r\n",
    ];
    for &bytes in garbage {
        let text = String::from_utf8_lossy(bytes);
        let wanted = Trace { answers: vec![], end: Err(ErrorKind::Garbage) };
        for cut in 0..bytes.len() {
            assert_eq!(drive(bytes, &[cut], Command::Get), wanted, "{text:?} cut at {cut}");
        }
        let behind_one = [b"$1\r\na\r\n", bytes].concat();
        let wanted = Trace { answers: vec![GOOD], ..wanted };
        assert_eq!(drive(&behind_one, &[], Command::Get), wanted, "{text:?}");
    }
}

fn ends_in_garbage(bytes: &[u8]) -> bool {
    let trace = drive(bytes, &[], Command::Get);
    let fed_slowly = drive(bytes, &(1..bytes.len()).collect::<Vec<_>>(), Command::Get);
    assert_eq!(trace, fed_slowly);
    trace.end == Err(ErrorKind::Garbage)
}

#[test]
fn each_bound_holds_on_it_and_not_one_past_it() {
    for kind in ["+", "-", ",", "("] {
        let line = |len: u32| format!("{kind}{}", "x".repeat(len as usize)).into_bytes();
        assert!(!ends_in_garbage(&line(LINE_LEN_MAX)), "{kind}");
        assert!(ends_in_garbage(&line(LINE_LEN_MAX + 1)), "{kind}");
    }
    for kind in ["$", "!", "="] {
        assert!(!ends_in_garbage(format!("{kind}{BULK_LEN_MAX}\r\n").as_bytes()), "{kind}");
        assert!(ends_in_garbage(format!("{kind}{}\r\n", BULK_LEN_MAX + 1).as_bytes()), "{kind}");
    }
    for kind in ["*", "%", "~", "|", ">"] {
        assert!(!ends_in_garbage(format!("{kind}{ELEMENTS_MAX}\r\n").as_bytes()), "{kind}");
        assert!(ends_in_garbage(format!("{kind}{}\r\n", ELEMENTS_MAX + 1).as_bytes()), "{kind}");
    }
    assert!(!ends_in_garbage(format!("{}:1\r\n", "*1\r\n".repeat(DEPTH_MAX)).as_bytes()));
    assert!(ends_in_garbage("*1\r\n".repeat(DEPTH_MAX + 1).as_bytes()));
    // An empty one is not gone into.
    assert!(!ends_in_garbage(format!("{}*0\r\n", "*1\r\n".repeat(DEPTH_MAX)).as_bytes()));
    let zeroes = |count: usize| format!("${}1\r\na\r\n", "0".repeat(count));
    assert!(!ends_in_garbage(zeroes(19).as_bytes()));
    assert!(ends_in_garbage(zeroes(20).as_bytes()));
}

#[test]
fn the_longest_string_is_passed_over_piece_by_piece_without_being_kept() {
    let resp = resp(RespSpec { get_share: 1.0, ..RespSpec::default() });
    let mut conn = Reader::default();
    let mut head = &format!("${BULK_LEN_MAX}\r\n").into_bytes()[..];
    assert_eq!(resp.read(&mut conn, &mut head, Command::Get), Ok(None));
    let piece = vec![b'\n'; 1 << 20];
    for _ in 0..512 {
        let mut piece = &piece[..];
        assert_eq!(resp.read(&mut conn, &mut piece, Command::Get), Ok(None));
        assert!(piece.is_empty() && resp.is_within(&conn));
    }
    let mut end = &b"\r\n$-1\r\n"[..];
    assert_eq!(resp.read(&mut conn, &mut end, Command::Get), Ok(Some(GOOD)));
    assert_eq!(end, b"$-1\r\n");
}

/// A reader owns nothing: whatever it is fed, it takes no memory.
const fn owns_nothing<T: Copy>() {}
const _: () = owns_nothing::<Reader>();

/// Pieces that are likely to be nearly right.
fn near_answers() -> impl Strategy<Value = Vec<u8>> {
    let known = (0..ANSWERS.len()).prop_map(|at| ANSWERS[at].0.to_vec());
    let header = ("[-+:$*_#,(!=%~|>]", "-?[0-9]{0,3}").prop_map(|(a, b)| format!("{a}{b}\r\n").into_bytes());
    let piece = prop_oneof![4 => known, 3 => header, 1 => vec(any::<u8>(), 0..6)];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_read_alike_however_they_are_cut(data in vec(any::<u8>(), 0..200)) {
        check(&data);
    }

    #[test]
    fn nearly_right_bytes_are_read_alike_however_they_are_cut(
        choice in any::<[u8; 2]>(),
        input in near_answers(),
    ) {
        check(&[&choice[..], &input[..]].concat());
    }
}
