//! Replies of a server, from bytes that come in any pieces. RESP2 and RESP3.
//!
//! # Rules
//! 1. Everything has a bound: [`LINE_LEN_MAX`], [`ELEMENTS_MAX`], [`DEPTH_MAX`], and for strings the reader's own. Past
//!    one it is [`Garbage`]: nothing behind it can be understood.
//! 2. A length is believed as far as bytes come: room is made for what is there.
//! 3. Attributes are read and dropped. Pushes are values of their own.
//! 4. Where the bytes are cut changes nothing, and no byte is looked at twice but those of a line that is cut.
//!
//! Not here: which reply answers which command (`client`).

use bytes::{Bytes, BytesMut};

/// Bytes of a line: an error, a number, a length.
pub const LINE_LEN_MAX: usize = 16 << 10;
/// Elements of a reply, those within others among them.
pub const ELEMENTS_MAX: usize = 1 << 16;
/// Aggregates within each other.
pub const DEPTH_MAX: usize = 8;

/// What a server answered, or said unasked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// A line of text; so are doubles, booleans and big numbers.
    Text(Bytes),
    /// An error, its code first.
    Error(Bytes),
    /// A number.
    Int(i64),
    /// A string.
    Bulk(Bytes),
    /// Nothing.
    Null,
    /// An array or a set; a map, its keys and values in turn.
    Array(Vec<Reply>),
    /// Said unasked (`>`).
    Push(Vec<Reply>),
}

/// What came is not the protocol, or past a bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Garbage(pub &'static str);

#[derive(Debug)]
struct Open {
    kind: u8,
    left: usize,
    items: Vec<Reply>,
}

/// Takes replies off what was received.
#[derive(Debug)]
pub struct Reader {
    input: BytesMut,
    open: Vec<Open>,
    elements: usize,
    /// The string under way: its type and its length.
    string: Option<(u8, usize)>,
    /// Bytes of the line under way that hold no line end.
    looked: usize,
    string_max: usize,
}

impl Reader {
    /// For strings of at most `string_max` bytes.
    pub fn new(string_max: usize) -> Reader {
        Reader { input: BytesMut::new(), open: Vec::new(), elements: 0, string: None, looked: 0, string_max }
    }

    /// Adds what was received.
    pub fn handle(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next reply; `None` until more is received.
    ///
    /// # Errors
    /// [`Garbage`]; the reader is of no further use.
    pub fn poll(&mut self) -> Result<Option<Reply>, Garbage> {
        loop {
            let value = match self.string {
                Some((kind, len)) => {
                    if self.input.len() < len + 2 {
                        return Ok(None);
                    }
                    let bytes = self.input.split_to(len).freeze();
                    if self.input.split_to(2) != b"\r\n"[..] {
                        return Err(Garbage("a string does not end where its length says"));
                    }
                    self.string = None;
                    Some(string_of(kind, bytes)?)
                }
                None => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    self.line_of(line)?
                }
            };
            if let Some(value) = value
                && let Some(whole) = self.ended(value)
            {
                self.elements = 0;
                return Ok(Some(whole));
            }
        }
    }

    fn line(&mut self) -> Result<Option<Bytes>, Garbage> {
        let Some(at) = memchr::memchr(b'\n', &self.input[self.looked..]) else {
            self.looked = self.input.len();
            return if self.looked > LINE_LEN_MAX { Err(Garbage("a line is too long")) } else { Ok(None) };
        };
        let end = std::mem::take(&mut self.looked) + at;
        if end > LINE_LEN_MAX {
            return Err(Garbage("a line is too long"));
        }
        let mut line = self.input.split_to(end + 1).freeze();
        if end < 2 || line[end - 1] != b'\r' {
            return Err(Garbage("a line is no reply"));
        }
        line.truncate(end - 1);
        Ok(Some(line))
    }

    /// What a line says; `None` where it only begins something.
    fn line_of(&mut self, line: Bytes) -> Result<Option<Reply>, Garbage> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(Garbage("a reply has too many elements"));
        }
        let kind = line[0];
        let text = line.slice(1..);
        match kind {
            b'+' | b',' | b'#' | b'(' => return Ok(Some(Reply::Text(text))),
            b'-' => return Ok(Some(Reply::Error(text))),
            b'_' => return Ok(Some(Reply::Null)),
            b':' | b'$' | b'!' | b'=' | b'*' | b'~' | b'%' | b'|' | b'>' => {}
            _ => return Err(Garbage("a reply begins with a byte that begins none")),
        }
        let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<i64>().ok());
        let number = number.ok_or(Garbage("a number is none"))?;
        if kind == b':' {
            return Ok(Some(Reply::Int(number)));
        }
        if number == -1 && matches!(kind, b'$' | b'*') {
            return Ok(Some(Reply::Null));
        }
        let len = usize::try_from(number).map_err(|_| Garbage("a length is negative"))?;
        if matches!(kind, b'$' | b'!' | b'=') {
            if len > self.string_max {
                return Err(Garbage("a string is longer than the maximum"));
            }
            self.string = Some((kind, len));
            return Ok(None);
        }
        self.begin(kind, len)
    }

    fn begin(&mut self, kind: u8, len: usize) -> Result<Option<Reply>, Garbage> {
        if len > ELEMENTS_MAX {
            return Err(Garbage("a reply has too many elements"));
        }
        let left = if matches!(kind, b'%' | b'|') { 2 * len } else { len };
        if self.open.len() == DEPTH_MAX {
            return Err(Garbage("a reply is nested too deep"));
        }
        if kind == b'>' && !self.open.is_empty() {
            return Err(Garbage("a push within a reply"));
        }
        if left == 0 {
            return Ok(finished(kind, Vec::new()));
        }
        self.open.push(Open { kind, left, items: Vec::new() });
        Ok(None)
    }

    /// A value is whole: so may be those around it.
    fn ended(&mut self, mut value: Reply) -> Option<Reply> {
        loop {
            let Some(top) = self.open.last_mut() else { return Some(value) };
            top.items.push(value);
            top.left -= 1;
            if top.left > 0 {
                return None;
            }
            let Open { kind, items, .. } = self.open.pop()?;
            value = finished(kind, items)?;
        }
    }
}

/// `None` for attributes, which stand for nothing.
fn finished(kind: u8, items: Vec<Reply>) -> Option<Reply> {
    match kind {
        b'|' => None,
        b'>' => Some(Reply::Push(items)),
        _ => Some(Reply::Array(items)),
    }
}

fn string_of(kind: u8, bytes: Bytes) -> Result<Reply, Garbage> {
    match kind {
        b'!' => Ok(Reply::Error(bytes)),
        // Three letters of its format and a colon.
        b'=' if bytes.get(3) == Some(&b':') => Ok(Reply::Bulk(bytes.slice(4..))),
        b'=' => Err(Garbage("a verbatim string has no format")),
        _ => Ok(Reply::Bulk(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<Reply>, Garbage> {
        let mut reader = Reader::new(1_000);
        let mut replies = Vec::new();
        for piece in pieces {
            reader.handle(piece);
            while let Some(reply) = reader.poll()? {
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    const MIXED: &[u8] = b"+OK\r\n-ERR no\r\n:-12\r\n$5\r\na\r\nbc\r\n$0\r\n\r\n$-1\r\n*-1\r\n_\r\n\
        *2\r\n$1\r\nx\r\n*1\r\n:1\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n%1\r\n+a\r\n#t\r\n\
        |1\r\n+ttl\r\n:3\r\n=7\r\ntxt:abc\r\n!3\r\nbad\r\n*0\r\n,1.5\r\n";

    #[test]
    fn every_type_is_read_wherever_the_bytes_are_cut() {
        let whole = all(&[MIXED]).unwrap();
        let wanted = vec![
            Reply::Text(text("OK")),
            Reply::Error(text("ERR no")),
            Reply::Int(-12),
            Reply::Bulk(text("a\r\nbc")),
            Reply::Bulk(text("")),
            Reply::Null,
            Reply::Null,
            Reply::Null,
            Reply::Array(vec![Reply::Bulk(text("x")), Reply::Array(vec![Reply::Int(1)])]),
            Reply::Push(vec![Reply::Bulk(text("invalidate")), Reply::Array(vec![Reply::Bulk(text("k"))])]),
            Reply::Array(vec![Reply::Text(text("a")), Reply::Text(text("t"))]),
            Reply::Bulk(text("abc")),
            Reply::Error(text("bad")),
            Reply::Array(Vec::new()),
            Reply::Text(text("1.5")),
        ];
        assert_eq!(whole, wanted);
        for first in 0..MIXED.len() {
            for second in [first, (first + 1).min(MIXED.len()), (first + 7).min(MIXED.len())] {
                let pieces = [&MIXED[..first], &MIXED[first..second], &MIXED[second..]];
                assert_eq!(all(&pieces).unwrap(), wanted, "{first} {second}");
            }
        }
        let single: Vec<&[u8]> = MIXED.chunks(1).collect();
        assert_eq!(all(&single).unwrap(), wanted);
    }

    #[test]
    fn what_is_past_a_bound_or_no_reply_is_refused() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"$1001\r\n",
            b"$-2\r\n",
            b"$x\r\n",
            b"$99999999999999999999\r\n",
            b"*65537\r\n",
            b"%-1\r\n",
            b"\r\n",
            b":1\n",
            b"$2\r\nabcd",
            b"*1\r\n>1\r\n",
            b"=2\r\nab\r\n",
        ] {
            assert!(all(&[bytes]).is_err(), "{}", bytes.escape_ascii());
        }
        assert!(all(&[&b"*1\r\n".repeat(DEPTH_MAX + 1)]).is_err());
        assert!(all(&[&b"*1\r\n".repeat(DEPTH_MAX), b":1\r\n"]).is_ok());
        assert!(all(&[&b"+".repeat(LINE_LEN_MAX + 2)]).is_err());
        let many = [b"*65535\r\n".to_vec(), b"*2\r\n:1\r\n:1\r\n".repeat(30_000)].concat();
        assert!(all(&[&many]).is_err(), "elements within others count");
    }

    #[test]
    fn a_promised_length_takes_no_memory() {
        let mut reader = Reader::new(512 << 20);
        reader.handle(b"*60000\r\n$500000000\r\nabc");
        assert_eq!(reader.poll(), Ok(None));
        assert!(reader.input.capacity() < 4_096);
        assert!(reader.open[0].items.capacity() < 64);
    }
}
