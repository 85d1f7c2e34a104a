//! Version 1: one line of text (section 2.1).
//!
//! # Rules
//! 1. Bytes are judged from left to right, each by itself and those before it: a fault shows at the first
//!    byte that no line could have there.
//! 2. Numbers have no leading zeros; addresses are of the announced family and nothing but addresses. IPv6
//!    may end in dotted decimal (RFC 4291, 2.2, form 3): senders that use `inet_ntop` write so.
//! 3. Behind `UNKNOWN` anything may stand, but no CR or LF other than the end.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{Error, Header, LINE_BYTES_MAX, SHORTEST, Step, Transport, Version, Why};

/// Reads a line from its beginning.
pub(crate) fn decode(input: &[u8]) -> Result<Step<'_>, Error> {
    let mut line = Line { input, at: 0 };
    match line.read() {
        Ok(header) => Ok(Step::Header(header)),
        Err(Stop::NeedMore) => Ok(Step::NeedMore(SHORTEST.saturating_sub(input.len()).max(1))),
        Err(Stop::Fault(error)) => Err(error),
    }
}

/// Why reading stops before the end of the line.
enum Stop {
    /// The input is used up.
    NeedMore,
    Fault(Error),
}

/// The line, and how far it was read.
struct Line<'a> {
    input: &'a [u8],
    at: usize,
}

impl Line<'_> {
    fn read(&mut self) -> Result<Header<'static>, Stop> {
        self.word(b"PROXY ", Why::Signature)?;
        if self.peek()? == b'U' {
            self.word(b"UNKNOWN", Why::Protocol)?;
            self.skip_rest()?;
            return Ok(Header::local(self.at, Version::V1, Transport::Unspecified));
        }
        self.word(b"TCP", Why::Protocol)?;
        let address = match self.peek()? {
            b'4' => Self::v4_address,
            b'6' => Self::v6_address,
            _ => return Err(self.fault(Why::Protocol)),
        };
        self.at += 1;
        self.space()?;
        let source = address(self)?;
        self.space()?;
        let destination = address(self)?;
        self.space()?;
        let source = SocketAddr::new(source, self.number(u16::MAX, Why::Port)?);
        self.space()?;
        let destination = SocketAddr::new(destination, self.number(u16::MAX, Why::Port)?);
        match self.peek()? {
            b'\r' => self.end()?,
            b'\n' => return Err(self.fault(Why::BareCrLf)),
            _ => return Err(self.fault(Why::Separator)),
        }
        Ok(Header {
            transport: Transport::Tcp,
            source: Some(source),
            destination: Some(destination),
            local: false,
            ..Header::local(self.at, Version::V1, Transport::Tcp)
        })
    }

    fn fault(&self, why: Why) -> Stop {
        Stop::Fault(Error { at: self.at, why })
    }

    /// The next byte, which is not taken. Where only the end of the line has room, it must be that.
    fn peek(&self) -> Result<u8, Stop> {
        let byte = *self.input.get(self.at).ok_or(Stop::NeedMore)?;
        if self.at >= LINE_BYTES_MAX - 2 && byte != b'\r' {
            return Err(self.fault(Why::LineTooLong));
        }
        Ok(byte)
    }

    /// Takes exactly these bytes.
    fn word(&mut self, word: &[u8], why: Why) -> Result<(), Stop> {
        for wanted in word {
            if self.peek()? != *wanted {
                return Err(self.fault(why));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn space(&mut self) -> Result<(), Stop> {
        self.word(b" ", Why::Separator)
    }

    /// Takes the CR that is next, and the LF behind it.
    fn end(&mut self) -> Result<(), Stop> {
        self.at += 1;
        match self.input.get(self.at) {
            None => Err(Stop::NeedMore),
            Some(b'\n') => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.fault(Why::BareCrLf)),
        }
    }

    /// Takes what stands behind `UNKNOWN`: nothing, or a space and anything, and the end.
    fn skip_rest(&mut self) -> Result<(), Stop> {
        if self.peek()? != b'\r' {
            self.space()?;
        }
        loop {
            match self.peek()? {
                b'\r' => return self.end(),
                b'\n' => return Err(self.fault(Why::BareCrLf)),
                _ => self.at += 1,
            }
        }
    }

    /// Takes a decimal number without leading zeros, `max` at most.
    fn number(&mut self, max: u16, why: Why) -> Result<u16, Stop> {
        let mut value = self.digit()?.ok_or_else(|| self.fault(why))?;
        let is_zero = value == 0;
        self.at += 1;
        while let Some(digit) = self.digit()? {
            // at most 65535 * 10 + 9
            let longer = u32::from(value) * 10 + u32::from(digit);
            match u16::try_from(longer) {
                Ok(longer) if longer <= max && !is_zero => value = longer,
                _ => return Err(self.fault(why)),
            }
            self.at += 1;
        }
        Ok(value)
    }

    /// The value of the next byte, where it is a decimal digit. It is not taken.
    fn digit(&self) -> Result<Option<u16>, Stop> {
        let byte = self.peek()?;
        Ok(byte.is_ascii_digit().then(|| u16::from(byte - b'0')))
    }

    fn octet(&mut self) -> Result<u8, Stop> {
        let value = self.number(u16::from(u8::MAX), Why::Address)?;
        u8::try_from(value).map_err(|_| self.fault(Why::Address))
    }

    fn v4_address(&mut self) -> Result<IpAddr, Stop> {
        let first = self.octet()?;
        Ok(Ipv4Addr::from(self.octets_after(first)?).into())
    }

    /// Takes the last three octets of a dotted address, each with its dot.
    fn octets_after(&mut self, first: u8) -> Result<[u8; 4], Stop> {
        let mut octets = [first, 0, 0, 0];
        for octet in &mut octets[1..] {
            self.word(b".", Why::Address)?;
            *octet = self.octet()?;
        }
        Ok(octets)
    }

    fn v6_address(&mut self) -> Result<IpAddr, Stop> {
        let mut groups = Groups::default();
        if self.peek()? == b':' {
            self.word(b"::", Why::Address)?;
            groups.gap = Some(0);
        }
        loop {
            // A group comes, or, right behind the gap, the end.
            if self.peek()? == b' ' && groups.gap == Some(groups.len) {
                break;
            }
            if groups.room() == 0 {
                return Err(self.fault(Why::Address));
            }
            let start = self.at;
            let value = self.hex_group()?;
            match self.peek()? {
                b'.' if groups.takes_dotted() => {
                    let first =
                        as_octet(&self.input[start..self.at]).ok_or_else(|| self.fault(Why::Address))?;
                    let [a, b, c, d] = self.octets_after(first)?;
                    groups.push(u16::from_be_bytes([a, b]));
                    groups.push(u16::from_be_bytes([c, d]));
                    break;
                }
                b' ' => {
                    groups.push(value);
                    break;
                }
                b':' if groups.room() >= 2 => groups.push(value),
                _ => return Err(self.fault(Why::Address)),
            }
            self.at += 1;
            if self.peek()? == b':' && groups.gap.is_none() {
                groups.gap = Some(groups.len);
                self.at += 1;
            }
        }
        // What ended it, most likely a space, stands where another group should.
        let address = groups.address().ok_or_else(|| self.fault(Why::Address))?;
        Ok(address.into())
    }

    /// Takes 1 to 4 hexadecimal digits.
    fn hex_group(&mut self) -> Result<u16, Stop> {
        let start = self.at;
        let mut value = 0;
        while let Some(digit) =
            char::from(self.peek()?).to_digit(16).and_then(|digit| u16::try_from(digit).ok())
        {
            if self.at - start == 4 {
                return Err(self.fault(Why::Address));
            }
            value = value << 4 | digit;
            self.at += 1;
        }
        if self.at == start {
            return Err(self.fault(Why::Address));
        }
        Ok(value)
    }
}

/// The digits of a group, read again as the first octet of a dotted address.
fn as_octet(digits: &[u8]) -> Option<u8> {
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// The groups of an IPv6 address so far.
#[derive(Default)]
struct Groups {
    values: [u16; 8],
    len: usize,
    /// How many groups stand before `::`.
    gap: Option<usize>,
}

impl Groups {
    /// How many more groups fit. `::` stands for at least one (RFC 4291, 2.2, form 2).
    fn room(&self) -> usize {
        8 - self.len - usize::from(self.gap.is_some())
    }

    /// Whether the last 32 bits may come now, as dotted decimal.
    fn takes_dotted(&self) -> bool {
        if self.gap.is_some() { self.room() >= 2 } else { self.room() == 2 }
    }

    fn push(&mut self, value: u16) {
        self.values[self.len] = value;
        self.len += 1;
    }

    fn address(&self) -> Option<Ipv6Addr> {
        let mut all = self.values;
        match self.gap {
            Some(gap) => {
                all[gap..].fill(0);
                let behind = self.len - gap;
                all[8 - behind..].copy_from_slice(&self.values[gap..self.len]);
            }
            None if self.len < 8 => return None,
            None => {}
        }
        Some(Ipv6Addr::from(all))
    }
}
