//! Growth: all reads together cost in proportion to the bytes, however they were split. Counted, not timed.
#![allow(clippy::unwrap_used)]

use crate::{Limits, Parser, ProtocolError, Step};

/// Presents ever more of `input`, `step` bytes at a time. Returns the commands and the work.
fn trickle(input: &[u8], step: usize) -> (usize, usize) {
    let limits = Limits::default();
    let mut parser = Parser::new();
    let mut consumed = 0;
    let mut commands = 0;
    let mut there = 0;
    while there < input.len() {
        there = input.len().min(there + step);
        let mut unread = &input[consumed..there];
        while matches!(parser.poll(&limits, &mut unread), Step::Command(_)) {
            commands += 1;
        }
        consumed = there - unread.len();
    }
    (commands, parser.steps)
}

/// An array of `count` strings of one byte.
fn many(count: usize) -> Vec<u8> {
    let mut wire = format!("*{count}\r\n").into_bytes();
    wire.extend_from_slice(&b"$1\r\nx\r\n".repeat(count));
    wire
}

#[test]
fn a_million_arguments_in_small_pieces_cost_no_more_than_in_one() {
    let wire = many(1_000_000);
    let (commands, whole) = trickle(&wire, wire.len());
    assert_eq!((commands, whole), (1, 1_000_000));
    for step in [1, 3, 1_000] {
        let (commands, work) = trickle(&wire, step);
        assert_eq!(commands, 1);
        assert!(work <= 2 * wire.len(), "{work} steps for {} bytes, {step} at a time", wire.len());
    }
}

#[test]
fn the_bytes_of_a_large_argument_are_not_looked_at() {
    let mut wire = b"*1\r\n$5000000\r\n".to_vec();
    wire.resize(wire.len() + 5_000_000, b'\r');
    wire.extend_from_slice(b"\r\n");
    let (commands, work) = trickle(&wire, 7);
    assert_eq!(commands, 1);
    assert!(work < 100, "{work} steps");
}

#[test]
fn a_long_line_byte_by_byte_is_searched_once() {
    for wire in [format!("{}\n", "x".repeat(65_000)), format!("*{}\r\n", "1".repeat(65_000))] {
        let (_, work) = trickle(wire.as_bytes(), 1);
        assert!(work <= 3 * wire.len(), "{work} steps for {} bytes", wire.len());
    }
}

#[test]
fn a_line_whose_last_byte_comes_late_is_not_searched_again() {
    let wire = format!("*{}\r\n", "1".repeat(65_000));
    let (_, work) = trickle(wire.as_bytes(), wire.len() - 1);
    assert!(work <= wire.len(), "{work} steps for {} bytes", wire.len());
}

#[test]
fn fewer_bytes_than_before_find_nothing_and_lose_nothing() {
    let (mut parser, limits) = (Parser::new(), Limits::default());
    let wire = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    let mut unread = &wire[..15];
    assert!(matches!(parser.poll(&limits, &mut unread), Step::NeedMore { wants: 16 }));
    let mut unread = &wire[..5];
    assert!(matches!(parser.poll(&limits, &mut unread), Step::NeedMore { wants: 16 }));
    let mut unread = &wire[..];
    assert!(matches!(parser.poll(&limits, &mut unread), Step::Command(command) if command.len() == 2));
}

#[test]
fn a_large_argument_is_announced_with_its_end_before_its_first_byte() {
    let mut parser = Parser::new();
    let wire = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n";
    let mut unread = &wire[..];
    let step = parser.poll(&Limits::default(), &mut unread);
    assert!(matches!(step, Step::NeedMore { wants } if wants == wire.len() + 500_000_002));
    assert_eq!(unread.len(), wire.len(), "nothing of a command is consumed before its end");
}

#[test]
fn a_count_alone_reserves_nothing() {
    let mut parser = Parser::new();
    let mut unread: &[u8] = b"*1048576\r\n";
    let step = parser.poll(&Limits::default(), &mut unread);
    assert!(matches!(step, Step::NeedMore { wants: 11 }));
    assert_eq!(parser.room(), (0, 0));
}

#[test]
fn what_a_large_command_left_is_given_back_once_nothing_is_unread() {
    let mut parser = Parser::new();
    let limits = Limits::default();
    let words = format!("'{}'\r\n", "x".repeat(10_000));
    let wire = [&many(10_000)[..], words.as_bytes()].concat();
    let mut unread = &wire[..];
    assert!(matches!(parser.poll(&limits, &mut unread), Step::Command(_)));
    assert!(matches!(parser.poll(&limits, &mut unread), Step::Command(_)));
    assert!(parser.room().0 >= 10_000);
    assert!(parser.room().1 >= 10_000);
    assert!(matches!(parser.poll(&limits, &mut unread), Step::NeedMore { wants: 1 }));
    assert_eq!(parser.room(), (0, 0));
}

#[test]
fn what_a_usual_command_needs_is_kept() {
    let mut parser = Parser::new();
    let limits = Limits::default();
    let mut unread = &many(1_000)[..];
    assert!(matches!(parser.poll(&limits, &mut unread), Step::Command(_)));
    assert!(matches!(parser.poll(&limits, &mut unread), Step::NeedMore { .. }));
    assert!(parser.room().0 >= 1_000);
}

#[test]
fn limits_that_shrink_within_a_line_refuse_it() {
    let mut parser = Parser::new();
    let mut unread: &[u8] = b"GET a-long-name";
    assert!(matches!(parser.poll(&Limits::default(), &mut unread), Step::NeedMore { .. }));
    let small = Limits { line_bytes_max: 4, ..Limits::default() };
    let mut unread: &[u8] = b"GET a-long-name-that-goes-on";
    assert!(matches!(parser.poll(&small, &mut unread), Step::Refused(ProtocolError::InlineTooLong)));
}
