//! One RESP value after the other, from bytes that come in any pieces.
//!
//! The protocol is that of <https://redis.io/docs/latest/develop/reference/protocol-spec/>: RESP2, and the
//! types RESP3 adds. Streamed strings and aggregates (`$?`, `*?`), which that page does not have, are not
//! known here.
//!
//! # Rules
//! 1. A [`Reader`] keeps no bytes of a value: a line is judged as it comes, the bytes of a string are only
//!    counted. Its memory is one fixed structure, whatever a peer sends.
//! 2. Everything has a bound: [`LINE_LEN_MAX`], [`BULK_LEN_MAX`], [`ELEMENTS_MAX`], [`DEPTH_MAX`].
//! 3. Attributes (`|`) belong to the value behind them, and pushes (`>`) to none: neither is a value of its
//!    own.
//! 4. Where the bytes are cut changes nothing.
//!
//! Not here: which value answers which command (`resp`).

/// Bytes of a line of text, such as an error.
pub const LINE_LEN_MAX: u32 = 64 << 10;
/// Bytes of a string: `proto-max-bulk-len` of Redis, by default.
pub const BULK_LEN_MAX: u32 = 512 << 20;
/// Elements of an aggregate; pairs, where it is a map.
pub const ELEMENTS_MAX: u32 = 1 << 20;
/// Aggregates within each other.
pub const DEPTH_MAX: usize = 32;

/// Characters of a number: a sign and the nineteen digits of 64 bits.
const NUMBER_LEN_MAX: u32 = 20;

/// What a whole value was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Value {
    /// `+OK`.
    Ok,
    /// Another simple string.
    Text,
    /// An error, in a line or with a length.
    Error,
    /// A string of this many bytes.
    Bulk(u32),
    /// `$-1`, or the null of RESP3.
    Null,
    /// Anything else: a number, a boolean, a verbatim string, a null array, an aggregate.
    Other,
}

/// What came is not the protocol, or past a bound. Nothing behind it can be understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Garbage;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Place {
    /// A new value: its type.
    #[default]
    Type,
    /// The line behind the type.
    Line,
    /// The line feed behind that.
    LineFeed,
    /// Bytes of a string.
    Bulk,
    /// The carriage return behind them.
    BulkReturn,
    /// The line feed behind that.
    BulkFeed,
}

/// Where a connection is in a value. Plain data: 160 bytes, of which the usual answer touches the first few.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    place: Place,
    /// The type of the value that is read, its first byte.
    kind: u8,
    /// The sign before the number of the line, 0 for none.
    sign: u8,
    /// Attributes came for a value that has not begun.
    attributed: bool,
    /// What is read is a push.
    pushed: bool,
    /// Aggregates that are open.
    depth: u8,
    /// Bytes of the line so far.
    line_len: u32,
    /// The number of the line so far. In a simple string: how many characters of `OK` matched, 3 for no
    /// match.
    number: u64,
    /// Bytes of the string still to come.
    left: u32,
    /// One bit for each open aggregate: it is no element of the one around it.
    aside: u32,
    /// Elements of each open aggregate still to come.
    counts: [u32; DEPTH_MAX],
}

const _: () = assert!(size_of::<Reader>() == 160);
const _: () = assert!(DEPTH_MAX <= u32::BITS as usize);

impl Reader {
    /// Takes bytes off the front of `bytes` up to the end of a value. `None`: it goes on, and all were taken.
    ///
    /// Costs the length of the lines; the bytes of strings are passed over in one step.
    ///
    /// # Errors
    /// [`Garbage`]; the reader is of no further use.
    #[inline]
    pub fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Value>, Garbage> {
        if !self.is_within()
            && !self.pushed
            && let Some((value, len)) = at_once(bytes)
        {
            *bytes = &bytes[len..];
            return Ok(Some(value));
        }
        self.read_stepwise(bytes)
    }

    /// Whether part of a value was read, or attributes of one.
    #[inline]
    pub fn is_within(&self) -> bool {
        !self.pushed && (self.place != Place::Type || self.depth > 0 || self.attributed)
    }

    /// As [`Reader::read`], one step after the other. Says the same.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_stepwise(&mut self, bytes: &mut &[u8]) -> Result<Option<Value>, Garbage> {
        while let Some((&byte, behind)) = bytes.split_first() {
            let value = match self.place {
                Place::Type => {
                    *bytes = behind;
                    self.begin(byte)?;
                    None
                }
                Place::Line => {
                    self.line(bytes)?;
                    None
                }
                Place::LineFeed => {
                    *bytes = behind;
                    if byte != b'\n' {
                        return Err(Garbage);
                    }
                    self.line_ended()?
                }
                Place::Bulk => {
                    let count = bytes.len().min(self.left as usize);
                    *bytes = &bytes[count..];
                    // At most `left`, by the line above.
                    self.left -= u32::try_from(count).map_err(|_| Garbage)?;
                    if self.left == 0 {
                        self.place = Place::BulkReturn;
                    }
                    None
                }
                Place::BulkReturn => {
                    *bytes = behind;
                    if byte != b'\r' {
                        return Err(Garbage);
                    }
                    self.place = Place::BulkFeed;
                    None
                }
                Place::BulkFeed => {
                    *bytes = behind;
                    if byte != b'\n' {
                        return Err(Garbage);
                    }
                    let len = u32::try_from(self.number).map_err(|_| Garbage)?;
                    self.value_ended(match self.kind {
                        b'$' => Value::Bulk(len),
                        b'!' => Value::Error,
                        _ => Value::Other,
                    })
                }
            };
            if value.is_some() {
                return Ok(value);
            }
        }
        Ok(None)
    }

    fn begin(&mut self, kind: u8) -> Result<(), Garbage> {
        if !b"+-:$*_#,(!=%~|>".contains(&kind) {
            return Err(Garbage);
        }
        if kind == b'>' {
            // Between replies only, never within one.
            if self.depth > 0 || self.attributed {
                return Err(Garbage);
            }
            self.pushed = true;
        }
        (self.kind, self.place) = (kind, Place::Line);
        (self.line_len, self.number, self.sign) = (0, 0, 0);
        Ok(())
    }

    /// Takes what is there of a line, up to its carriage return.
    fn line(&mut self, bytes: &mut &[u8]) -> Result<(), Garbage> {
        let end = memchr::memchr2(b'\r', b'\n', bytes);
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        let len = u32::try_from(piece.len()).map_err(|_| Garbage)?;
        let before = self.line_len;
        self.line_len = before.checked_add(len).ok_or(Garbage)?;
        match self.kind {
            b'+' => {
                // Three characters settle it.
                for &byte in piece.iter().take(3) {
                    self.number = match (self.number, byte) {
                        (0, b'O') => 1,
                        (1, b'K') => 2,
                        _ => 3,
                    };
                }
                self.bound_line(LINE_LEN_MAX)?;
            }
            b'-' | b',' | b'(' => self.bound_line(LINE_LEN_MAX)?,
            b'_' => self.bound_line(0)?,
            b'#' => {
                self.bound_line(1)?;
                if piece.iter().any(|byte| !matches!(byte, b't' | b'f')) {
                    return Err(Garbage);
                }
            }
            _ => {
                self.bound_line(NUMBER_LEN_MAX)?;
                self.digits(piece, before == 0)?;
            }
        }
        match end {
            Some(end) if bytes[end] == b'\r' => {
                *bytes = &bytes[end + 1..];
                self.place = Place::LineFeed;
            }
            Some(_) => return Err(Garbage),
            None => *bytes = &[],
        }
        Ok(())
    }

    fn bound_line(&self, len_max: u32) -> Result<(), Garbage> {
        if self.line_len > len_max { Err(Garbage) } else { Ok(()) }
    }

    fn digits(&mut self, piece: &[u8], is_first: bool) -> Result<(), Garbage> {
        for (at, &byte) in piece.iter().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    let more = self.number.checked_mul(10).and_then(|n| n.checked_add((byte - b'0').into()));
                    self.number = more.ok_or(Garbage)?;
                }
                b'-' if is_first && at == 0 && matches!(self.kind, b':' | b'$' | b'*') => self.sign = byte,
                b'+' if is_first && at == 0 && self.kind == b':' => self.sign = byte,
                _ => return Err(Garbage),
            }
        }
        Ok(())
    }

    /// What a whole line says.
    fn line_ended(&mut self) -> Result<Option<Value>, Garbage> {
        let value = match self.kind {
            b'+' if self.number == 2 => Value::Ok,
            b'+' => Value::Text,
            b'-' => Value::Error,
            b'_' => Value::Null,
            b',' | b'(' | b'#' if self.line_len == 0 => return Err(Garbage),
            b',' | b'(' | b'#' => Value::Other,
            kind => return self.number_ended(kind),
        };
        Ok(self.value_ended(value))
    }

    fn number_ended(&mut self, kind: u8) -> Result<Option<Value>, Garbage> {
        // No digits, or a sign alone.
        if self.line_len == u32::from(self.sign != 0) {
            return Err(Garbage);
        }
        let is_negative = self.sign == b'-';
        match kind {
            b':' => {
                let max = i64::MAX.unsigned_abs() + u64::from(is_negative);
                if self.number > max {
                    return Err(Garbage);
                }
                Ok(self.value_ended(Value::Other))
            }
            b'$' | b'*' if is_negative => match self.number {
                1 => Ok(self.value_ended(if kind == b'$' { Value::Null } else { Value::Other })),
                _ => Err(Garbage),
            },
            b'$' | b'!' | b'=' => {
                let len = bounded(self.number, BULK_LEN_MAX)?;
                self.left = len;
                self.place = if len == 0 { Place::BulkReturn } else { Place::Bulk };
                Ok(None)
            }
            _ => self.aggregate(kind),
        }
    }

    /// Goes into an aggregate, or past one that is empty.
    fn aggregate(&mut self, kind: u8) -> Result<Option<Value>, Garbage> {
        let elements = bounded(self.number, ELEMENTS_MAX)?;
        let count = if matches!(kind, b'%' | b'|') { 2 * elements } else { elements };
        let aside = matches!(kind, b'|' | b'>');
        self.place = Place::Type;
        if count == 0 {
            if aside {
                self.aside_ended();
                return Ok(None);
            }
            return Ok(self.value_ended(Value::Other));
        }
        let depth = usize::from(self.depth);
        let Some(place) = self.counts.get_mut(depth) else { return Err(Garbage) };
        *place = count;
        self.aside = self.aside & !(1 << depth) | u32::from(aside) << depth;
        self.depth += 1;
        Ok(None)
    }

    /// A value is whole: so may be those around it.
    fn value_ended(&mut self, value: Value) -> Option<Value> {
        self.place = Place::Type;
        let mut value = value;
        while self.depth > 0 {
            let top = usize::from(self.depth - 1);
            self.counts[top] -= 1;
            if self.counts[top] > 0 {
                return None;
            }
            self.depth -= 1;
            if self.aside >> top & 1 == 1 {
                self.aside_ended();
                return None;
            }
            value = Value::Other;
        }
        self.attributed = false;
        Some(value)
    }

    /// Attributes or a push ended. Within an aggregate, attributes leave it as it was.
    fn aside_ended(&mut self) {
        if self.depth == 0 {
            self.attributed = !self.pushed;
            self.pushed = false;
        }
    }
}

fn bounded(number: u64, max: u32) -> Result<u32, Garbage> {
    u32::try_from(number).ok().filter(|&number| number <= max).ok_or(Garbage)
}

/// The usual answers, if one of them stands whole at the front: what it is, and how long.
#[inline]
fn at_once(bytes: &[u8]) -> Option<(Value, usize)> {
    if bytes.starts_with(b"+OK\r\n") {
        return Some((Value::Ok, 5));
    }
    let digits = bytes.strip_prefix(b"$")?;
    if digits.starts_with(b"-1\r\n") {
        return Some((Value::Null, 5));
    }
    let mut len: u32 = 0;
    // Nine digits are the most of a length within bounds.
    for (at, &byte) in digits.iter().take(10).enumerate() {
        if byte.is_ascii_digit() && at < 9 {
            len = len * 10 + u32::from(byte - b'0');
            continue;
        }
        let start = at + 2;
        let end = start + len as usize;
        let is_whole = at > 0
            && byte == b'\r'
            && digits.get(at + 1) == Some(&b'\n')
            && len <= BULK_LEN_MAX
            && digits.get(end..end + 2) == Some(b"\r\n");
        return is_whole.then_some((Value::Bulk(len), end + 3));
    }
    None
}
