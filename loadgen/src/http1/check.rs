//! Check: what must hold for any bytes a server sends, shared by the property tests and the fuzz target.
//!
//! [`drive`] feeds bytes as a careful worker would and writes down what came out; [`check`] compares several
//! ways of feeding the same bytes with each other and with a plain, slow reader. Not part of the API; panics
//! freely.

use super::answer::{CHUNK_LINE_LEN_MAX, Conn, TRAILER_LEN_MAX};
use super::head::HEAD_LEN_MAX;
use super::known::Memory;
use super::{Ask, Http1};
use crate::model::RequestSpec;
use crate::protocol::{Answer, Protocol};
use crate::record::ErrorKind;

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Last {
    /// It was understood no longer.
    Failed(ErrorKind),
    /// The answer before said so.
    Closed,
    /// The bytes were over, and so was the connection: whether that was within an answer, and what it
    /// completed.
    Open(bool, Option<Answer>),
}

/// What came out of one connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// Each answer, and the offset of the byte behind it.
    pub answers: Vec<(Answer, usize)>,
    /// And then.
    pub last: Last,
}

/// A machine without templates. Its memory is that of `kinds` kinds of requests, none for 0.
pub fn machine(expect_status: &[u16], kinds: usize) -> Http1 {
    let spec = RequestSpec { method: "GET".into(), path: "/".into(), ..RequestSpec::default() };
    match Http1::new(&[spec], "t", 0, expect_status, false) {
        Ok(machine) => Http1 { memory: Memory::new(kinds), ..machine },
        Err(error) => panic!("the request is sound: {error}"),
    }
}

/// The question that answer number `index` is for: the low half of `choice` says which of four are HEAD, bit
/// 6 that the fourth of each four is of another kind, bit 7 that the eighth says `Connection: close`.
pub fn ask(choice: u8, index: usize) -> Ask {
    let slot = u8::from(choice & 64 != 0 && index % 4 == 3);
    Ask {
        kind: u16::from(slot),
        slot,
        head: choice >> (index % 4) & 1 == 1,
        close: choice & 128 != 0 && index == 7,
    }
}

/// Feeds `input` in pieces that end at `cuts` (ascending offsets; the end is implied), and then the end.
pub fn drive(machine: &Http1, input: &[u8], cuts: &[usize], choice: u8) -> Trace {
    let mut conn = Conn::default();
    let mut answers = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        let piece = &input[start..end];
        start = end;
        let mut rest = piece;
        loop {
            let before = rest;
            let result = machine.read(&mut conn, &mut rest, ask(choice, answers.len()));
            assert!(before.ends_with(rest), "what is left is the end of what was given");
            let bound = 2 * HEAD_LEN_MAX.max(TRAILER_LEN_MAX).max(CHUNK_LINE_LEN_MAX);
            assert!(conn.held_capacity() <= bound, "{} bytes are held", conn.held_capacity());
            match result {
                Ok(Some(answer)) => {
                    assert!(!machine.is_within(&conn));
                    answers.push((answer, end - rest.len()));
                    if answer.close {
                        return Trace { answers, last: Last::Closed };
                    }
                }
                Ok(None) => {
                    assert!(rest.is_empty(), "wants more, and left some");
                    // All bytes of a piece belong to the answer, or there were none.
                    assert!(machine.is_within(&conn) || before.is_empty());
                    break;
                }
                Err(kind) => {
                    let again = machine.read(&mut conn, &mut rest, ask(choice, answers.len()));
                    assert_eq!(again, Err(kind), "what failed stays failed");
                    return Trace { answers, last: Last::Failed(kind) };
                }
            }
        }
    }
    let within = machine.is_within(&conn);
    let last = Last::Open(within, machine.end(&mut conn, ask(choice, answers.len())));
    Trace { answers, last }
}

/// Feeds `data` whole, byte by byte and cut by a pattern, with and without memory: all must agree.
///
/// The first byte chooses the requests (see [`ask`]) and, by bits 4 and 5, the statuses that are wanted; the
/// second the pattern; the rest is what the server sends.
///
/// # Panics
/// When a property does not hold.
pub fn check(data: &[u8]) {
    let Some((&[choice, pattern], input)) = data.split_first_chunk::<2>() else { return };
    let wanted: &[u16] = [&[][..], &[200], &[204, 404], &[500, 599]][usize::from(choice >> 4 & 3)];
    let forgetful = machine(wanted, 0);
    let whole = drive(&forgetful, input, &[], choice);
    check_ends(&whole, input, choice);

    let steps = [1, usize::from(pattern) + 2];
    let cuts = |step: usize| (1..).map(|i| i * step).take_while(|&cut| cut < input.len()).collect::<Vec<_>>();
    let knowing = machine(wanted, 2);
    // The first time fills the memory, and what follows finds what it filled.
    for _ in 0..2 {
        assert_eq!(whole, drive(&knowing, input, &[], choice), "memory, {}", input.escape_ascii());
    }
    for step in steps {
        let cuts = cuts(step);
        let split = drive(&forgetful, input, &cuts, choice);
        assert_eq!(whole, split, "cut every {step}: {}", input.escape_ascii());
        let split = drive(&knowing, input, &cuts, choice);
        assert_eq!(whole, split, "memory, cut every {step}: {}", input.escape_ascii());
    }
    // A memory full of what another request was answered.
    let other = drive(&forgetful, input, &[], !choice & 15);
    assert_eq!(other, drive(&knowing, input, &[], !choice & 15), "{}", input.escape_ascii());
}

/// Holds the end of each answer against a plain reader.
fn check_ends(trace: &Trace, input: &[u8], choice: u8) {
    let mut start = 0;
    for (index, &(_, end)) in trace.answers.iter().enumerate() {
        let is_head = ask(choice, index).head;
        let plain = plain_len(&input[start..], is_head);
        let shown = input[start..end].escape_ascii();
        assert_eq!(plain, Some(Plain::Len(end - start)), "a plain reader ends elsewhere: {shown}");
        start = end;
    }
    if let Last::Open(within, completed) = trace.last {
        assert_eq!(within, start < input.len());
        let plain = plain_len(&input[start..], ask(choice, trace.answers.len()).head);
        assert_eq!(completed.is_some(), plain == Some(Plain::UntilClose), "{}", input.escape_ascii());
        assert!(completed.is_none_or(|answer| answer.close));
    }
}

/// Where an answer ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Plain {
    Len(usize),
    UntilClose,
}

/// A plain reader of answers that are known to be sound; `None` if one is not whole.
fn plain_len(input: &[u8], is_head: bool) -> Option<Plain> {
    let mut len = 0;
    loop {
        let text = &input[len..];
        let head = &text[..text.windows(4).position(|four| four == b"\r\n\r\n")?];
        len += head.len() + 4;
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let status: u16 = text.get(9..12)?.parse().ok()?;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let values = |name: &str| {
            let lines = text.split("\r\n").filter_map(|line| line.split_once(':'));
            lines.filter(|(n, _)| *n == name).map(|(_, v)| v.trim().to_owned()).collect::<Vec<_>>()
        };
        if is_head || [101, 204, 304].contains(&status) {
            return Some(Plain::Len(len));
        }
        if !values("transfer-encoding").is_empty() {
            return Some(Plain::Len(len + plain_chunked_len(&input[len..])?));
        }
        return match values("content-length").first() {
            None => Some(Plain::UntilClose),
            Some(value) => {
                let body: usize = value.split(',').next()?.trim().parse().ok()?;
                (body <= input.len() - len).then_some(Plain::Len(len + body))
            }
        };
    }
}

/// The length of a chunked body on the wire; `None` if it is not whole.
fn plain_chunked_len(wire: &[u8]) -> Option<usize> {
    let mut rest = wire;
    let mut line = || {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let line = &rest[..end];
        rest = &rest[end + 2..];
        let digits = line.split(|byte| !byte.is_ascii_hexdigit()).next()?;
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16);
        if let Ok(size @ 1..) = size {
            rest = rest.get(size..)?.get(2..)?;
        }
        Some((size == Ok(0), rest))
    };
    loop {
        let (is_last, behind) = line()?;
        if is_last {
            let trailers = if behind.starts_with(b"\r\n") {
                2
            } else {
                behind.windows(4).position(|four| four == b"\r\n\r\n")? + 4
            };
            return Some(wire.len() - behind.len() + trailers);
        }
    }
}
