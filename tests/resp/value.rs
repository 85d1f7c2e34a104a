//! Replies as values: a reader of RESP2 and RESP3 of our own, so that it can disagree with the server's writer.
//!
//! # Rules
//! 1. Nothing is forgiven: a length without its end, a type that is unknown or a bare newline is an error.
//! 2. Two values are equal where a client cannot tell them apart: the type counts, so `$-1` is not `*-1`, and a
//!    double is its text.
//!
//! Not here: sockets (`conn`), which differences are allowed (`resp_model/compare`).

use std::fmt;

/// Elements of one aggregate, and aggregates within each other: more is a fault of the server, not a reply.
const ELEMENTS_MAX: usize = 1 << 22;
const DEPTH_MAX: usize = 64;

/// One reply, or what is within one.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) enum Value {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1` of RESP2.
    NullBulk,
    /// `*-1` of RESP2.
    NullArray,
    /// `_` of RESP3.
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    /// Its text.
    Double(Vec<u8>),
    Bool(bool),
    Big(Vec<u8>),
    /// The format, three letters and a colon, is a part of it.
    Verbatim(Vec<u8>),
}

use Value::{
    Array, Big, Bool, Bulk, Double, Error, Int, Map, Null, NullArray, NullBulk, Push, Simple, Verbatim,
};

impl Value {
    /// The value that `bytes` begin with, and its length. `None`: it goes on.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Value, usize)>, String> {
        value(bytes, 0)
    }

    pub(crate) fn ok() -> Value {
        Simple(b"OK".to_vec())
    }

    pub(crate) fn bulk(text: impl AsRef<[u8]>) -> Value {
        Bulk(text.as_ref().to_vec())
    }

    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Error(_))
    }

    /// Any of the three.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, NullBulk | NullArray | Null)
    }

    pub(crate) fn int(&self) -> Option<i64> {
        if let Int(n) = self { Some(*n) } else { None }
    }

    /// The bytes of what is text in some way.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        match self {
            Simple(text) | Bulk(text) | Double(text) | Big(text) | Verbatim(text) | Error(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of an array, a set or a push.
    pub(crate) fn elements(&self) -> Option<&[Value]> {
        match self {
            Array(all) | Value::Set(all) | Push(all) => Some(all),
            _ => None,
        }
    }
}

type Parsed = Result<Option<(Value, usize)>, String>;

fn value(bytes: &[u8], depth: usize) -> Parsed {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    if !b"+-:$*_#,(=%~>!".contains(&kind) {
        return Err(format!("no type of RESP begins with {:?}", shown(&bytes[..bytes.len().min(40)])));
    }
    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let Some(line) = rest[..end].strip_suffix(b"\r").filter(|line| !line.contains(&b'\r')) else {
        return Err(format!("a line that does not end in CRLF: {:?}", shown(&bytes[..end + 2])));
    };
    let behind = end + 2;
    let whole = |value| Ok(Some((value, behind)));
    match kind {
        b'+' => whole(Simple(line.to_vec())),
        b'-' => whole(Error(line.to_vec())),
        b':' => whole(Int(number(line)?)),
        b'_' if line.is_empty() => whole(Null),
        b'#' if line == b"t" || line == b"f" => whole(Bool(line == b"t")),
        b',' if !line.is_empty() => whole(Double(line.to_vec())),
        b'(' if !line.is_empty() => whole(Big(line.to_vec())),
        b'$' if line == b"-1" => whole(NullBulk),
        b'*' if line == b"-1" => whole(NullArray),
        b'$' | b'=' | b'!' => string(bytes, kind, line, behind),
        b'*' | b'~' | b'>' | b'%' => aggregate(bytes, kind, line, behind, depth),
        _ => Err(format!("{:?} is no reply", shown(&bytes[..behind]))),
    }
}

fn string(bytes: &[u8], kind: u8, line: &[u8], start: usize) -> Parsed {
    let len = usize::try_from(number(line)?).map_err(|_| format!("a length of {:?}", shown(line)))?;
    let Some(all) = bytes.get(start..start + len + 2) else { return Ok(None) };
    let Some(text) = all.strip_suffix(b"\r\n") else {
        return Err(format!("a string of {len} bytes that does not end in CRLF: {:?}", shown(all)));
    };
    let text = text.to_vec();
    let value = match kind {
        b'$' => Bulk(text),
        b'!' => Error(text),
        _ if text.get(3) == Some(&b':') => Verbatim(text),
        _ => return Err(format!("a verbatim string without a format: {:?}", shown(&text))),
    };
    Ok(Some((value, start + len + 2)))
}

fn aggregate(bytes: &[u8], kind: u8, line: &[u8], start: usize, depth: usize) -> Parsed {
    let count = usize::try_from(number(line)?).map_err(|_| format!("{:?} elements", shown(line)))?;
    if count > ELEMENTS_MAX || depth >= DEPTH_MAX {
        return Err(format!("{count} elements at depth {depth}"));
    }
    let mut all = Vec::new();
    let mut at = start;
    for _ in 0..if kind == b'%' { 2 * count } else { count } {
        let Some((element, len)) = value(&bytes[at..], depth + 1)? else { return Ok(None) };
        if matches!(element, Push(_)) {
            return Err("a push within a reply".to_owned());
        }
        all.push(element);
        at += len;
    }
    let value = match kind {
        b'*' => Array(all),
        b'~' => Value::Set(all),
        b'>' => Push(all),
        _ => {
            let mut all = all.into_iter();
            let pairs = std::iter::from_fn(|| Some((all.next()?, all.next()?)));
            Map(pairs.collect())
        }
    };
    Ok(Some((value, at)))
}

fn number(line: &[u8]) -> Result<i64, String> {
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(line).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("{:?} is no number", shown(line)))
}

/// Bytes as text that says each of them.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    let text = bytes[..bytes.len().min(MOST)].escape_ascii().to_string();
    if bytes.len() > MOST { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, open: &str, all: &[Value], close: &str| {
            f.write_str(open)?;
            for (index, value) in all.iter().enumerate() {
                write!(f, "{}{value:?}", if index > 0 { ", " } else { "" })?;
            }
            f.write_str(close)
        };
        match self {
            Simple(text) => write!(f, "+{}", shown(text)),
            Error(text) => write!(f, "-{}", shown(text)),
            Int(number) => write!(f, "{number}"),
            Bulk(text) => write!(f, "\"{}\"", shown(text)),
            NullBulk => f.write_str("$-1"),
            NullArray => f.write_str("*-1"),
            Null => f.write_str("_"),
            Double(text) => write!(f, ",{}", shown(text)),
            Bool(yes) => write!(f, "#{yes}"),
            Big(text) => write!(f, "({}", shown(text)),
            Verbatim(text) => write!(f, "=\"{}\"", shown(text)),
            Array(all) => list(f, "[", all, "]"),
            Value::Set(all) => list(f, "~{", all, "}"),
            Push(all) => list(f, ">[", all, "]"),
            Map(pairs) => {
                f.write_str("{")?;
                for (index, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key:?}: {value:?}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: &[(&[u8], &str)] = &[
        (b"+OK\r\n", "+OK"),
        (b"-ERR no\r\n", "-ERR no"),
        (b"!6\r\nERR\r\n1\r\n", "-ERR\\r\\n1"),
        (b":-9223372036854775808\r\n", "-9223372036854775808"),
        (b"$0\r\n\r\n", "\"\""),
        (b"$4\r\na\r\nb\r\n", "\"a\\r\\nb\""),
        (b"$-1\r\n", "$-1"),
        (b"*-1\r\n", "*-1"),
        (b"_\r\n", "_"),
        (b",inf\r\n", ",inf"),
        (b"#t\r\n", "#true"),
        (b"(12345678901234567890\r\n", "(12345678901234567890"),
        (b"=8\r\ntxt:some\r\n", "=\"txt:some\""),
        (b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n", "[1, [\"a\"]]"),
        (b"~1\r\n:1\r\n", "~{1}"),
        (b"%1\r\n+a\r\n*0\r\n", "{+a: []}"),
        (b">2\r\n+message\r\n:1\r\n", ">[+message, 1]"),
    ];

    #[test]
    fn every_type_is_read_once_it_is_whole_and_not_before() {
        for &(bytes, text) in REPLIES {
            let behind = [bytes, b"+next\r\n"].concat();
            let (value, len) = Value::parse(&behind).unwrap().unwrap();
            assert_eq!((format!("{value:?}").as_str(), len), (text, bytes.len()));
            for cut in 0..bytes.len() {
                assert_eq!(Value::parse(&bytes[..cut]), Ok(None), "{text} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let bad: &[&[u8]] = &[
            b"OK\r\n",
            b"+OK\n",
            b"+a\rb\r\n",
            b":\r\n",
            b":1 \r\n",
            b":+1\r\n",
            b"$-2\r\n",
            b"$1\r\nabc",
            b"*-2\r\n",
            b"_x\r\n",
            b"#x\r\n",
            b",\r\n",
            b"=2\r\nab\r\n",
            b"*1\r\n>0\r\n",
            b"*x\r\n",
        ];
        for bytes in bad {
            assert!(Value::parse(bytes).is_err(), "{}", shown(bytes));
        }
    }
}
