//! Check: what must hold for whatever a server sends, shared by the property tests and the fuzz target.
//!
//! [`drive`] feeds bytes as a worker does and writes down what came out; [`check`] compares several ways of
//! feeding the same bytes with each other and with a slow, plain reader of whole values. Not part of the API;
//! allocates and panics freely.

use super::reader::{BULK_LEN_MAX, DEPTH_MAX, ELEMENTS_MAX, Garbage, LINE_LEN_MAX, Reader, Value};
use super::{Command, Resp};
use crate::model::RespSpec;
use crate::protocol::{Answer, Protocol};
use crate::record::ErrorKind;

/// What came out of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// The answers, in order.
    pub answers: Vec<Answer>,
    /// How it ended: in garbage, or within an answer (true) or between two (false).
    pub end: Result<bool, ErrorKind>,
}

/// Feeds `input` in pieces that end at `cuts` (ascending offsets; the end is implied). Every request is
/// `ask`.
///
/// # Panics
/// If the reader gives bytes back, keeps some of a piece, or answers out of nothing.
pub fn drive(input: &[u8], cuts: &[usize], ask: Command) -> Trace {
    let resp = match Resp::new(RespSpec { get_share: 1.0, ..RespSpec::default() }, 1) {
        Ok(resp) => resp,
        Err(error) => panic!("the default works: {error}"),
    };
    let mut conn = Reader::default();
    let mut answers = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        let mut piece = &input[start..end];
        start = end;
        while !piece.is_empty() {
            let before = piece.len();
            match resp.read(&mut conn, &mut piece, ask) {
                Ok(Some(answer)) => {
                    assert!(piece.len() < before, "an answer of no bytes");
                    assert!(!resp.is_within(&conn), "within an answer behind its end");
                    answers.push(answer);
                }
                Ok(None) => assert!(piece.is_empty(), "asked for more with {} bytes left", piece.len()),
                Err(kind) => return Trace { answers, end: Err(kind) },
            }
        }
        assert_eq!(resp.end(&mut conn, ask), None);
    }
    Trace { answers, end: Ok(resp.is_within(&conn)) }
}

/// How a plain reader fared.
enum Plain {
    /// A value, if it is one and not an attribute or a push, and the bytes behind it.
    Whole(Option<Value>, usize),
    /// The bytes end before the value does, as far as was looked.
    Short,
    /// No value.
    Bad,
}

/// Reads one value that stands whole in `input`, with recursion, without cleverness.
fn plain(input: &[u8], depth: usize) -> Plain {
    let Some((&kind, rest)) = input.split_first() else { return Plain::Short };
    let Some(len) = rest.windows(2).position(|two| two == b"\r\n") else { return Plain::Short };
    let line = &rest[..len];
    let behind = 1 + len + 2;
    if line.iter().any(|&byte| byte == b'\r' || byte == b'\n') || line.len() > LINE_LEN_MAX as usize {
        return Plain::Bad;
    }
    let text = String::from_utf8_lossy(line);
    let whole = |value| Plain::Whole(Some(value), behind);
    let is_null = text.strip_prefix('-').is_some_and(|d| d.trim_start_matches('0') == "1" && d.len() < 20);
    let number = || {
        let digits = !line.is_empty() && line.len() <= 20 && line.iter().all(u8::is_ascii_digit);
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    match kind {
        b'+' if line == b"OK" => whole(Value::Ok),
        b'+' => whole(Value::Text),
        b'-' => whole(Value::Error),
        b'_' if line.is_empty() => whole(Value::Null),
        b'#' if line == b"t" || line == b"f" => whole(Value::Other),
        b',' | b'(' if !line.is_empty() => whole(Value::Other),
        b':' if line.len() <= 20 && text.parse::<i64>().is_ok() => whole(Value::Other),
        b'$' if is_null => whole(Value::Null),
        b'*' if is_null => whole(Value::Other),
        b'$' | b'!' | b'=' => {
            let Some(len) = number().filter(|&n| n <= BULK_LEN_MAX.into()) else { return Plain::Bad };
            let Ok(size) = usize::try_from(len) else { return Plain::Bad };
            let Some(end) = input.get(behind + size..behind + size + 2) else { return Plain::Short };
            let value = match (kind, u32::try_from(len)) {
                (b'$', Ok(len)) => Value::Bulk(len),
                (b'!', _) => Value::Error,
                _ => Value::Other,
            };
            if end == b"\r\n" { Plain::Whole(Some(value), behind + size + 2) } else { Plain::Bad }
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            let Some(count) = number().filter(|&n| n <= ELEMENTS_MAX.into()) else { return Plain::Bad };
            if kind == b'>' && depth > 0 || count > 0 && depth == DEPTH_MAX {
                return Plain::Bad;
            }
            let count = if matches!(kind, b'%' | b'|') { 2 * count } else { count };
            let mut at = behind;
            for _ in 0..count {
                match element(&input[at..], depth + 1) {
                    Plain::Whole(_, len) => at += len,
                    other => return other,
                }
            }
            Plain::Whole((kind != b'|' && kind != b'>').then_some(Value::Other), at)
        }
        _ => Plain::Bad,
    }
}

/// A value with the attributes before it.
fn element(input: &[u8], depth: usize) -> Plain {
    let mut at = 0;
    let mut attributed = false;
    loop {
        if attributed && input.get(at) == Some(&b'>') {
            return Plain::Bad;
        }
        match plain(&input[at..], depth) {
            Plain::Whole(None, len) => {
                attributed |= input[at] == b'|';
                at += len;
            }
            Plain::Whole(value, len) => return Plain::Whole(value, at + len),
            other => return other,
        }
    }
}

/// Feeds `data` whole, byte by byte and cut by a pattern: all must agree, with each other and with the plain
/// reader.
///
/// The low bit of the first byte chooses the command, the second byte the pattern; the rest is what the
/// server sends.
///
/// # Panics
/// When a property does not hold.
pub fn check(data: &[u8]) {
    let Some((&[choice, pattern], input)) = data.split_first_chunk::<2>() else { return };
    let ask = if choice & 1 == 0 { Command::Get } else { Command::Set };
    let whole = drive(input, &[], ask);
    for step in [1, usize::from(pattern) + 2] {
        let cuts: Vec<usize> = (1..).map(|at| at * step).take_while(|&cut| cut < input.len()).collect();
        let split = drive(input, &cuts, ask);
        assert_eq!(whole, split, "cut every {step} of {:?}", String::from_utf8_lossy(input));
    }
    check_stepwise(input);
    check_plainly(input, ask, &whole);
}

/// The short cuts must say what the long way says.
fn check_stepwise(input: &[u8]) {
    let (mut one, mut other) = (Reader::default(), Reader::default());
    let (mut rest, mut left) = (input, input);
    loop {
        let short = one.read(&mut rest);
        assert_eq!(short, other.read_stepwise(&mut left));
        match short {
            Ok(Some(_)) => assert_eq!(rest.len(), left.len()),
            Ok(None) | Err(Garbage) => return,
        }
    }
}

/// The plain reader looks at whole values only: it may wait where ours has found a fault, and nothing else.
fn check_plainly(input: &[u8], ask: Command, found: &Trace) {
    let mut at = 0;
    let mut count = 0;
    loop {
        match element(&input[at..], 0) {
            Plain::Whole(value, len) => {
                let error = match (ask, value) {
                    (Command::Get, Some(Value::Bulk(_) | Value::Null)) => None,
                    (Command::Set, Some(Value::Ok)) => None,
                    (_, Some(Value::Error)) => Some(ErrorKind::ErrorReply),
                    _ => Some(ErrorKind::WrongAnswer),
                };
                assert_eq!(found.answers.get(count), Some(&Answer { error, close: false }), "answer {count}");
                at += len;
                count += 1;
            }
            Plain::Short => break,
            Plain::Bad => {
                assert_eq!(found.end, Err(ErrorKind::Garbage), "a plain reader finds garbage");
                break;
            }
        }
    }
    assert_eq!(found.answers.len(), count, "more answers than a plain reader finds");
}
