//! Where a request ends, and no more than that.
//!
//! # Rules
//! 1. A connection keeps a few numbers and no bytes, wherever its requests are cut.
//! 2. What a request says is not looked at, but for the name of a RESP command.
//!
//! Not here: what is answered (`server`).

use memchr::memmem::Finder;

/// The end of a request without a body (RFC 9112, section 2.1: the empty line behind the fields).
const END: &[u8; 4] = b"\r\n\r\n";

/// Most arguments of a command, and longest one: the bounds of Redis.
const ARGS_MAX: u32 = 1 << 20;
const ARG_LEN_MAX: u32 = 512 << 20;

/// Counts HTTP requests without bodies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heads {
    /// Bytes of [`END`] that the last piece ended with.
    matched: u8,
}

impl Heads {
    /// What finds the end of a head. Made once, given to each [`Heads::count`].
    pub(super) fn finder() -> Finder<'static> {
        Finder::new(END)
    }

    /// How many requests end in `bytes`, which follow the last ones.
    #[inline]
    pub(super) fn count(&mut self, finder: &Finder<'static>, bytes: &[u8]) -> u64 {
        let mut count = 0;
        let mut rest = bytes;
        // Until what began in an earlier piece has ended, or turned out not to be an end.
        while self.matched > 0 {
            let Some((&byte, behind)) = rest.split_first() else { return count };
            rest = behind;
            count += self.step(byte);
        }
        while let Some(at) = finder.find(rest) {
            rest = &rest[at + END.len()..];
            count += 1;
        }
        for &byte in &rest[rest.len().saturating_sub(END.len() - 1)..] {
            count += self.step(byte);
        }
        count
    }

    fn step(&mut self, byte: u8) -> u64 {
        self.matched = match byte {
            byte if byte == END[usize::from(self.matched)] => self.matched + 1,
            b'\r' => 1,
            _ => 0,
        };
        if usize::from(self.matched) == END.len() {
            self.matched = 0;
            return 1;
        }
        0
    }
}

/// What a RESP command was, as far as it matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Command {
    Get,
    Set,
    Other,
}

/// What came is no command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NoCommand;

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// The asterisk of a command.
    #[default]
    Star,
    /// The number of its arguments, and the line feed behind it.
    Count,
    CountFeed,
    /// The dollar sign of an argument.
    Dollar,
    /// Its length, and the line feed behind it.
    Len,
    LenFeed,
    /// The first byte of the name of the command.
    Name,
    /// Bytes of an argument, with the line end behind it.
    Bytes,
}

/// Finds RESP commands: arrays of strings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Commands {
    place: Place,
    /// The number of the line so far, and its digits.
    number: u32,
    digits: u32,
    /// Arguments still to come, and bytes of the present one.
    args: u32,
    left: u32,
    command: Option<Command>,
}

impl Commands {
    /// Calls `found` for each command that ends in `bytes`, which follow the last ones.
    ///
    /// # Errors
    /// [`NoCommand`]; there is no way on.
    #[inline]
    pub(super) fn read(&mut self, bytes: &[u8], mut found: impl FnMut(Command)) -> Result<(), NoCommand> {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            if matches!(self.place, Place::Star)
                && let Some((command, len)) = at_once(rest)
            {
                found(command);
                rest = &rest[len..];
                continue;
            }
            rest = match self.place {
                Place::Name => {
                    self.command = Some(match (self.number, byte) {
                        (3, b'G' | b'g') => Command::Get,
                        (3, b'S' | b's') => Command::Set,
                        _ => Command::Other,
                    });
                    self.place = Place::Bytes;
                    rest
                }
                Place::Bytes => {
                    let count = rest.len().min(self.left as usize);
                    // At most `left`, by the line above.
                    self.left -= u32::try_from(count).map_err(|_| NoCommand)?;
                    if self.left == 0 {
                        self.args -= 1;
                        self.place = if self.args > 0 { Place::Dollar } else { Place::Star };
                        if self.args == 0 {
                            found(self.command.take().unwrap_or(Command::Other));
                        }
                    }
                    &rest[count..]
                }
                _ => {
                    self.header(byte)?;
                    behind
                }
            };
        }
        Ok(())
    }

    fn header(&mut self, byte: u8) -> Result<(), NoCommand> {
        self.place = match (self.place, byte) {
            (Place::Star, b'*') => self.number_at(Place::Count),
            (Place::Dollar, b'$') => self.number_at(Place::Len),
            (Place::Count | Place::Len, b'0'..=b'9') if self.digits < 9 => {
                self.digits += 1;
                self.number = self.number * 10 + u32::from(byte - b'0');
                self.place
            }
            (Place::Count, b'\r') if (1..=ARGS_MAX).contains(&self.number) => Place::CountFeed,
            (Place::Len, b'\r') if self.digits > 0 && self.number <= ARG_LEN_MAX => Place::LenFeed,
            (Place::CountFeed, b'\n') => {
                self.args = self.number;
                Place::Dollar
            }
            (Place::LenFeed, b'\n') => {
                self.left = self.number + 2;
                if self.command.is_none() { Place::Name } else { Place::Bytes }
            }
            _ => return Err(NoCommand),
        };
        Ok(())
    }

    fn number_at(&mut self, place: Place) -> Place {
        (self.number, self.digits) = (0, 0);
        place
    }
}

/// A GET or SET as the generator writes it, if it stands whole at the front: which, and how long it is.
#[inline]
fn at_once(bytes: &[u8]) -> Option<(Command, usize)> {
    const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n";
    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n";
    let (command, args) = match bytes.first_chunk::<13>()? {
        head if head == GET => (Command::Get, 1),
        head if head == SET => (Command::Set, 2),
        _ => return None,
    };
    let mut at = GET.len();
    for _ in 0..args {
        let digits = bytes.get(at..)?.strip_prefix(b"$")?;
        let count = digits.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
        let len = digits[..count].iter().fold(0, |len, byte| len * 10 + u32::from(byte - b'0'));
        if count == 0 || len > ARG_LEN_MAX || !digits[count..].starts_with(b"\r\n") {
            return None;
        }
        at += 1 + count + 2 + len as usize + 2;
    }
    (at <= bytes.len()).then_some((command, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many requests are in pieces that end at `cuts`.
    fn heads(bytes: &[u8], cuts: &[usize]) -> u64 {
        let (mut heads, mut start, mut count) = (Heads::default(), 0, 0);
        for end in cuts.iter().copied().chain([bytes.len()]) {
            count += heads.count(&Heads::finder(), &bytes[start..end]);
            start = end;
        }
        count
    }

    #[test]
    fn heads_are_counted_at_all_splits() {
        for (bytes, wanted) in [
            (&b""[..], 0),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r", 0),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\nGET", 2),
            (b"\r\n\r\n\r\n\r\n", 2),
            (b"\r\n\r\r\n\r\n", 1),
            (b"\r\n\r\n\r\n\r", 1),
            (b"\n\r\n\n\r\r\r\n\r\n\r", 1),
        ] {
            assert_eq!(heads(bytes, &[]), wanted);
            assert_eq!(heads(bytes, &(1..bytes.len()).collect::<Vec<_>>()), wanted);
            for cut in 0..bytes.len() {
                for next in cut..bytes.len() {
                    assert_eq!(heads(bytes, &[cut, next]), wanted, "{cut}, {next}");
                }
            }
        }
    }

    fn commands(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Command>, NoCommand> {
        let (mut commands, mut start, mut all) = (Commands::default(), 0, Vec::new());
        for end in cuts.iter().copied().chain([bytes.len()]) {
            commands.read(&bytes[start..end], |command| all.push(command))?;
            start = end;
        }
        Ok(all)
    }

    #[test]
    fn commands_are_told_apart_at_all_splits() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$4\r\nkey1\r\n*3\r\n$3\r\nset\r\n$1\r\nk\r\n$4\r\n\r\n*1\r\n\
            *1\r\n$4\r\nPING\r\n*1\r\n$0\r\n\r\n*2\r\n$3\r\nget\r\n$0\r\n\r\n\
            *3\r\n$3\r\nSET\r\n$2\r\nab\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3";
        use Command::{Get, Other, Set};
        let wanted = [Get, Set, Other, Other, Get, Set, Get];
        assert_eq!(commands(bytes, &[]), Ok(wanted.to_vec()));
        for cut in 0..bytes.len() {
            for next in cut..bytes.len() {
                assert_eq!(commands(bytes, &[cut, next]), Ok(wanted.to_vec()), "{cut}, {next}");
            }
        }
    }

    #[test]
    fn what_is_no_command_is_refused_and_bounds_hold() {
        for bytes in [
            "PING\r\n",
            "*\r",
            "*0\r",
            "*-1\r",
            "*1\n",
            "*1\rx",
            "*1\r\n+",
            "*1\r\n$\r",
            "*1\r\n$1x",
            "*2\r\n$3\r\nGET\r\n$x",
            "*2\r\n$3\r\nGET\r\n$\r\n",
            "*2\r\n$3\r\nGET\r\n$536870913\r\n",
        ] {
            assert_eq!(commands(bytes.as_bytes(), &[]), Err(NoCommand), "{bytes:?}");
        }
        for (on, past) in [
            (format!("*{ARGS_MAX}\r\n"), format!("*{}\r\n", ARGS_MAX + 1)),
            (format!("*1\r\n${ARG_LEN_MAX}\r\n"), format!("*1\r\n${}\r\n", ARG_LEN_MAX + 1)),
            ("*000000001\r".into(), "*0000000001\r".into()),
        ] {
            assert_eq!(commands(on.as_bytes(), &[]), Ok(vec![]));
            assert_eq!(commands(past.as_bytes(), &[]), Err(NoCommand));
        }
    }
}
