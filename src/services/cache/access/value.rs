//! What a command gives, as a value that is nobody else's.
//!
//! # Rules
//! 1. What is read here was written by our own commands: what is not RESP is an error, never a panic.
//! 2. Large strings are the ones that lie in the store, not copies.
//!
//! Not here: running commands (`run`).

use bytes::Bytes;

use crate::services::cache::command::Reply;

/// Replies within each other at most: transactions of arrays of pairs are three.
const DEPTH_MAX: usize = 16;

/// What a command gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing: no such key, or a condition that was not met.
    Null,
    /// A word of the server: `OK`, the name of a kind.
    Text(Bytes),
    /// An error within a reply. One that is all of the reply is a `CacheError::Reply` instead.
    Error(Bytes),
    /// A number.
    Int(i64),
    /// A number with a fraction, such as a score.
    Double(f64),
    /// A truth value.
    Bool(bool),
    /// A string.
    Bytes(Bytes),
    /// Values in order.
    Array(Vec<Value>),
    /// Keys with their values.
    Map(Vec<(Value, Value)>),
    /// Different values, in no order.
    Set(Vec<Value>),
}

impl Value {
    /// The bytes of a string, a word or an error.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bytes(bytes) | Value::Text(bytes) | Value::Error(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A number.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The elements of an array or a set.
    pub fn as_slice(&self) -> Option<&[Value]> {
        match self {
            Value::Array(all) | Value::Set(all) => Some(all),
            _ => None,
        }
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        *self == Value::Null
    }

    /// The only value in `reply`; `None` where that is no RESP.
    pub(super) fn of(reply: &Reply) -> Option<Value> {
        let mut reader = Reader { bytes: reply.bytes(), at: 0, large: reply.large().iter() };
        let value = reader.value(0)?;
        (reader.at == reader.bytes.len()).then_some(value)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    large: std::slice::Iter<'a, (usize, Bytes)>,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Option<(u8, &'a [u8])> {
        let rest = self.bytes.get(self.at..)?;
        let end = memchr::memchr(b'\n', rest)?;
        self.at += end + 1;
        let (&kind, text) = rest.get(..end)?.split_first()?;
        Some((kind, text.strip_suffix(b"\r")?))
    }

    /// The bytes of a string whose length was read, and the line end behind them.
    fn string(&mut self, len: usize) -> Option<Bytes> {
        let is_large =
            self.large.as_slice().first().is_some_and(|(at, bytes)| *at == self.at && bytes.len() == len);
        let bytes = if is_large {
            self.large.next()?.1.clone()
        } else {
            let end = self.at.checked_add(len)?;
            let bytes = Bytes::copy_from_slice(self.bytes.get(self.at..end)?);
            self.at = end;
            bytes
        };
        let end = self.bytes.get(self.at..self.at + 2)?;
        self.at += 2;
        (end == b"\r\n").then_some(bytes)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        let (kind, text) = self.line()?;
        let number = || std::str::from_utf8(text).ok()?.parse::<i64>().ok();
        Some(match kind {
            b'+' | b'(' => Value::Text(Bytes::copy_from_slice(text)),
            b'-' => Value::Error(Bytes::copy_from_slice(text)),
            b':' => Value::Int(number()?),
            b',' => Value::Double(std::str::from_utf8(text).ok()?.parse().ok()?),
            b'#' => Value::Bool(text == b"t"),
            b'_' => Value::Null,
            b'$' | b'*' if number()? == -1 => Value::Null,
            b'$' => Value::Bytes(self.string(usize::try_from(number()?).ok()?)?),
            b'=' => {
                let whole = self.string(usize::try_from(number()?).ok()?)?;
                // Behind the three letters of its format and a colon.
                Value::Bytes(whole.slice(4.min(whole.len())..))
            }
            b'*' | b'~' | b'>' => {
                let all = self.values(number()?, depth)?;
                if kind == b'~' { Value::Set(all) } else { Value::Array(all) }
            }
            b'%' => {
                let mut all = self.values(number()?.checked_mul(2)?, depth)?.into_iter();
                let mut pairs = Vec::with_capacity(all.len() / 2);
                while let (Some(key), Some(value)) = (all.next(), all.next()) {
                    pairs.push((key, value));
                }
                Value::Map(pairs)
            }
            _ => return None,
        })
    }

    fn values(&mut self, count: i64, depth: usize) -> Option<Vec<Value>> {
        (0..count.max(0)).map(|_| self.value(depth + 1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::cache::command::reply::SHARE_MIN;
    use corelane_proto_resp::Version;

    #[test]
    fn every_type_of_a_reply_becomes_a_value() {
        let mut reply = Reply::new(Version::Resp3);
        let large = Bytes::from(vec![b'x'; SHARE_MIN]);
        reply.array(9);
        reply.integer(-7);
        reply.shared(&large);
        reply.shared(&large);
        reply.bulk(b"a\r\nb");
        reply.null();
        reply.write().double(1.5);
        reply.write().map(1);
        reply.bulk(b"k");
        reply.ok();
        reply.write().set(1);
        reply.write().boolean(true);
        reply.write().verbatim(*b"txt", b"words");
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let wanted = vec![
            Value::Int(-7),
            Value::Bytes(large.clone()),
            Value::Bytes(large.clone()),
            Value::Bytes(text("a\r\nb")),
            Value::Null,
            Value::Double(1.5),
            Value::Map(vec![(Value::Bytes(text("k")), Value::Text(text("OK")))]),
            Value::Set(vec![Value::Bool(true)]),
            Value::Bytes(text("words")),
        ];
        let Some(Value::Array(all)) = Value::of(&reply) else { panic!("no array") };
        assert_eq!(all, wanted);
        let Value::Bytes(shared) = &all[1] else { panic!("no string") };
        assert_eq!(shared.as_ptr(), large.as_ptr(), "it is the same, not a copy");
    }

    #[test]
    fn what_is_no_reply_is_no_value() {
        for wrong in ["", "$3\r\nab\r\n", "*2\r\n:1\r\n", ":x\r\n", "?\r\n", ":1\r\n:2\r\n", "$2\r\nabc\r\n"]
        {
            let mut reply = Reply::default();
            reply.write().raw(wrong.as_bytes());
            assert_eq!(Value::of(&reply), None, "{wrong:?}");
        }
        let mut deep = Reply::default();
        (0..100).for_each(|_| deep.array(1));
        deep.integer(1);
        assert_eq!(Value::of(&deep), None);
    }
}
