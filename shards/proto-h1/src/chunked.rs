//! Chunked: the strict decoder of RFC 9112, 7.1, one byte at a time where it must be.
//!
//! chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF; the last one has size 0 and no data.
//!
//! # Rules
//! 1. A size is 1 to 16 hexadecimal digits: no sign, no prefix, no separator. 16 digits fill 64 bits.
//! 2. CRLF ends every line and every chunk. A bare LF or CR is refused, also within quotes.
//! 3. Extensions follow the grammar. Bad whitespace (BWS) passes around `;` and `=`, never before a CRLF.
//! 4. The state holds everything known, so a body may be cut between any two bytes.
//!
//! Not here: trailers (`fields`), the decision what an error means (`connection`).

use crate::Why;
use crate::fields::{is_qdtext, is_tchar, is_value_byte};

const SIZE_DIGITS_MAX: u8 = 16;

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    Size,
    /// After BWS behind the size or a complete value: only `;` may follow.
    BeforeExt,
    /// After `;` and BWS: a name must follow.
    NameStart,
    Name,
    /// After BWS behind a name: only `=` or `;` may follow.
    AfterName,
    /// After `=` and BWS: a token or a quoted string must follow.
    ValueStart,
    Value,
    Quoted,
    Escaped,
    /// After the closing quote.
    AfterValue,
    SizeLf,
    Data,
    DataCr,
    DataLf,
}

/// The decoder of one body. `Copy` and 24 bytes, so a connection embeds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunked {
    /// The size being read, then the data bytes still to come.
    left: u64,
    /// Extension bytes of the whole message so far.
    ext_bytes: u32,
    digits: u8,
    at: At,
}

/// What one call of [`Chunked::poll`] found.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Piece<'i> {
    /// The input is used up.
    NeedMore,
    /// Decoded bytes, never empty.
    Data(&'i [u8]),
    /// The size line of the last chunk is behind us: trailers follow.
    Last,
}

impl Chunked {
    pub(crate) const fn new() -> Self {
        Self { left: 0, ext_bytes: 0, digits: 0, at: At::Size }
    }

    /// Decodes from `input` until data, the last chunk, an error, or its end; advances it.
    ///
    /// `body_left` is what the body may still grow by; each size is taken off it before its data is shown.
    pub(crate) fn poll<'i>(
        &mut self,
        input: &mut &'i [u8],
        body_left: &mut u64,
        ext_bytes_max: u32,
    ) -> Result<Piece<'i>, Why> {
        while let Some((&b, rest)) = input.split_first() {
            self.at = match self.at {
                At::Data => {
                    let take = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
                    let (data, rest) = input.split_at(take);
                    *input = rest;
                    self.left -= take as u64;
                    if self.left == 0 {
                        self.at = At::DataCr;
                    }
                    return Ok(Piece::Data(data));
                }
                At::Size => match b {
                    b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => {
                        if self.digits == SIZE_DIGITS_MAX {
                            return Err(Why::ChunkSize);
                        }
                        self.digits += 1;
                        let digit = if b <= b'9' { b - b'0' } else { (b | 0x20) - b'a' + 10 };
                        self.left = self.left << 4 | u64::from(digit);
                        At::Size
                    }
                    _ if self.digits == 0 => return Err(Why::ChunkSize),
                    b'\r' => At::SizeLf,
                    b';' | b' ' | b'\t' => self.extension(At::BeforeExt, b, ext_bytes_max)?,
                    b'\n' => return Err(Why::BareLf),
                    _ => return Err(Why::ChunkSize),
                },
                At::SizeLf => {
                    if b != b'\n' {
                        return Err(Why::BareCr);
                    }
                    self.digits = 0;
                    if self.left == 0 {
                        *input = rest;
                        self.at = At::Size;
                        return Ok(Piece::Last);
                    }
                    // RFC 9112, 7.1: "recipients MUST anticipate potentially large hexadecimal numerals"
                    *body_left = body_left.checked_sub(self.left).ok_or(Why::BodyTooLong)?;
                    At::Data
                }
                At::DataCr => match b {
                    b'\r' => At::DataLf,
                    _ => return Err(Why::ChunkEnd),
                },
                At::DataLf => match b {
                    b'\n' => At::Size,
                    _ => return Err(Why::ChunkEnd),
                },
                at => self.extension(at, b, ext_bytes_max)?,
            };
            *input = rest;
        }
        Ok(Piece::NeedMore)
    }

    /// One byte of chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ).
    fn extension(&mut self, at: At, b: u8, ext_bytes_max: u32) -> Result<At, Why> {
        let is_bws = b == b' ' || b == b'\t';
        let next = match at {
            At::BeforeExt if is_bws => At::BeforeExt,
            At::BeforeExt if b == b';' => At::NameStart,
            At::NameStart if is_bws => At::NameStart,
            At::NameStart | At::Name if is_tchar(b) => At::Name,
            At::Name | At::AfterName if is_bws => At::AfterName,
            At::Name | At::AfterName if b == b'=' => At::ValueStart,
            At::Name | At::AfterName if b == b';' => At::NameStart,
            At::ValueStart if is_bws => At::ValueStart,
            At::ValueStart if b == b'"' => At::Quoted,
            At::ValueStart | At::Value if is_tchar(b) => At::Value,
            At::Quoted if b == b'"' => At::AfterValue,
            At::Quoted if b == b'\\' => At::Escaped,
            At::Quoted if is_qdtext(b) => At::Quoted,
            // RFC 9110, 5.6.4: quoted-pair = "\" ( HTAB / SP / VCHAR / obs-text )
            At::Escaped if is_value_byte(b) => At::Quoted,
            At::Value | At::AfterValue if is_bws => At::BeforeExt,
            At::Value | At::AfterValue if b == b';' => At::NameStart,
            At::Name | At::Value | At::AfterValue if b == b'\r' => return Ok(At::SizeLf),
            _ => return Err(if b == b'\n' { Why::BareLf } else { Why::ChunkExtension }),
        };
        // RFC 9112, 7.1.1: "ought to limit the total length of chunk extensions received in a request"
        self.ext_bytes += 1;
        if self.ext_bytes > ext_bytes_max { Err(Why::ChunkExtensionsTooLong) } else { Ok(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decoded bytes, what is left behind the last size line, or the error.
    fn decode(mut input: &[u8]) -> Result<(Vec<u8>, &[u8]), Why> {
        let mut chunked = Chunked::new();
        let mut out = Vec::new();
        let mut left = 1 << 20;
        loop {
            match chunked.poll(&mut input, &mut left, 64)? {
                Piece::NeedMore => return Err(Why::IncompleteBody),
                Piece::Data(data) => out.extend_from_slice(data),
                Piece::Last => return Ok((out, input)),
            }
        }
    }

    #[test]
    fn sizes_are_hexadecimal_digits_and_nothing_else() {
        assert_eq!(decode(b"5\r\nhello\r\n0\r\n\r\n"), Ok((b"hello".to_vec(), &b"\r\n"[..])));
        assert_eq!(decode(b"A\r\n0123456789\r\n000\r\nX"), Ok((b"0123456789".to_vec(), &b"X"[..])));
        assert_eq!(decode(b"0000000000000001\r\na\r\n0\r\n"), Ok((b"a".to_vec(), &b""[..])));
        for bad in [
            "00000000000000001\r\na",
            "\r\n",
            ";a\r\n",
            "0x5\r\n",
            "-5\r\n",
            "+5\r\n",
            "5zz\r\n",
            "5 \r\n",
            "5\t\r\n",
            " 5\r\n",
            "5\n",
            "5\r\r\n",
            "g\r\n",
            "1_0\r\n",
            "\n",
            "5,5\r\n",
            "5\0\r\n",
            "\u{b}5\r\n",
            "0x\r\n",
        ] {
            assert!(!matches!(decode(bad.as_bytes()), Ok(_) | Err(Why::IncompleteBody)), "{bad:?}");
        }
    }

    #[test]
    fn extensions_follow_the_grammar_with_bad_whitespace_only_inside() {
        for good in [
            ";a",
            ";a=b",
            ";a=\"b\"",
            ";a=\"\"",
            ";a=\"\\\"\"",
            " ;a",
            ";\ta",
            ";a =b",
            ";a= b",
            ";a=b ;c",
            ";a;b;c=d",
            ";a=\"x;y=z\"",
            ";a=\"\\\\\";b",
            "\t ; a\t=\t\"q\" ; b",
            ";a=\"\u{e9}\"",
        ] {
            let text = format!("5{good}\r\nhello\r\n0{good}\r\n");
            assert_eq!(decode(text.as_bytes()).map(|d| d.0), Ok(b"hello".to_vec()), "{good:?}");
        }
        for bad in [
            ";",
            "; ",
            ";;",
            ";a;",
            ";a ",
            ";a=",
            ";a= ",
            ";=b",
            ";a=b ",
            ";a==b",
            ";a=\"b",
            ";a=\"b\"c",
            ";a b",
            "z",
            ";a=\"\n\"",
            ";a\nb",
            ";a\rb",
            ";a=\"\r\n\"",
            ";a\0",
            ";a=\"\0\"",
            ";a=\"\\\n\"",
            ";a=b=c",
            ";a,b",
            ";a=(",
            ";\u{e9}",
            ";a=\"b\" ",
            " ",
            ";a=\"\u{7f}\"",
        ] {
            let text = format!("5{bad}\r\nhello\r\n0\r\n");
            assert!(!matches!(decode(text.as_bytes()), Ok(_) | Err(Why::IncompleteBody)), "{bad:?}");
        }
    }

    #[test]
    fn extension_bytes_are_counted_over_the_whole_message() {
        let chunk = format!("1;{}\r\na\r\n", "x".repeat(31)); // 32 extension bytes each
        assert_eq!(decode(format!("{chunk}{chunk}0\r\n").as_bytes()).map(|d| d.0), Ok(b"aa".to_vec()));
        let one_more = format!("{chunk}{chunk}0;x\r\n");
        assert_eq!(decode(one_more.as_bytes()), Err(Why::ChunkExtensionsTooLong));
    }

    #[test]
    fn chunk_data_ends_in_crlf_and_nothing_else() {
        for bad in
            ["5\r\nhelloX\r\n", "5\r\nhello\n0\r\n", "5\r\nhello\rX", "5\r\nhello0\r\n", "5\r\nhello\r\r\n"]
        {
            assert_eq!(decode(bad.as_bytes()), Err(Why::ChunkEnd), "{bad:?}");
        }
    }
}
