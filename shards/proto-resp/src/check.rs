//! Check: what must hold for every input, shared by the property tests and the fuzz target.
//!
//! [`drive`] feeds bytes to a [`Parser`] as a careful server would and writes down what came out; [`check`]
//! compares several ways of feeding the same bytes with each other and with a slow, plain reader of whole
//! commands. Not part of the API; allocates and panics freely.

use crate::{
    Ahead, Command, Limits, OpenArgument, Parser, ProtocolError, Step, Version, Writer, format_double,
};

/// A parser and its caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// The limits of each poll.
    pub limits: Limits,
    /// The peer has to authenticate and did not.
    pub guest: bool,
    /// Open arguments of at least so many bytes are detached.
    pub detach: Option<usize>,
    /// At most so many commands are found ahead of the parser.
    pub ahead: usize,
}

/// How the bytes ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Behind a command.
    Between,
    /// Within one.
    Within,
    /// They were refused.
    Refused(ProtocolError),
}

/// What came out of a parser, without borrows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// The arguments of each command.
    pub commands: Vec<Vec<Vec<u8>>>,
    /// How it ended.
    pub end: End,
}

/// A connection that holds unread bytes, and arguments it took out of them.
#[derive(Debug, Default)]
struct Conn {
    parser: Parser,
    unread: Vec<u8>,
    /// The argument that is received apart, and its bytes so far.
    open: Option<(OpenArgument, Vec<u8>)>,
    /// The arguments of the command that were received apart.
    apart: Vec<(usize, Vec<u8>)>,
    commands: Vec<Vec<Vec<u8>>>,
}

/// Feeds `input` in pieces that end at `cuts` (ascending offsets; the end is implied).
///
/// # Panics
/// If the parser wants what it has, consumes nothing for a command, or says two things about the same bytes.
pub fn drive(input: &[u8], cuts: &[usize], setup: &Setup) -> Trace {
    let mut conn = Conn::default();
    conn.parser.set_guest(setup.guest);
    let mut start = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        conn.unread.extend_from_slice(&input[start..end]);
        start = end;
        if let Err(error) = conn.work(setup) {
            return Trace { commands: conn.commands, end: End::Refused(error) };
        }
    }
    let is_between = conn.parser.is_between() && conn.unread.is_empty();
    Trace { commands: conn.commands, end: if is_between { End::Between } else { End::Within } }
}

impl Conn {
    /// Takes from the unread bytes what can be taken.
    fn work(&mut self, setup: &Setup) -> Result<(), ProtocolError> {
        while self.receive_apart() {
            self.read_ahead(setup);
            let mut rest = &self.unread[..];
            match self.parser.poll(&setup.limits, &mut rest) {
                Step::Command(command) => {
                    let mut arguments = arguments(command);
                    for (index, bytes) in self.apart.drain(..) {
                        assert!(arguments[index].is_empty(), "a detached argument has bytes");
                        arguments[index] = bytes;
                    }
                    self.commands.push(arguments);
                    let len = self.unread.len() - rest.len();
                    assert!(len > 0, "a command of no bytes");
                    self.unread.drain(..len);
                }
                Step::NeedMore { wants } => {
                    let len = self.unread.len() - rest.len();
                    self.unread.drain(..len);
                    assert!(wants > self.unread.len(), "wants {wants}, has {}", self.unread.len());
                    let mut rest = &self.unread[..];
                    let again = self.parser.poll(&setup.limits, &mut rest);
                    assert!(matches!(again, Step::NeedMore { wants: same } if same == wants));
                    assert_eq!(rest.len(), self.unread.len());
                    let open = self.parser.open_argument();
                    if let Some(OpenArgument { start, len, .. }) = open {
                        assert_eq!(wants, start + len + 2);
                        assert!(start <= self.unread.len());
                    }
                    match open.filter(|open| setup.detach.is_some_and(|least| open.len >= least)) {
                        Some(open) => self.open = Some((open, Vec::new())),
                        None => return Ok(()),
                    }
                }
                Step::Refused(error) => {
                    let mut nothing: &[u8] = &[];
                    let again = self.parser.poll(&setup.limits, &mut nothing);
                    assert!(matches!(again, Step::Refused(same) if same == error));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes the commands that are found the short way.
    fn read_ahead(&mut self, setup: &Setup) {
        if !self.parser.is_fresh() || setup.guest || setup.ahead == 0 {
            return;
        }
        let mut ahead = Ahead::new();
        let count = ahead.read(&setup.limits, &self.unread, setup.ahead);
        assert!(count <= setup.ahead && count == ahead.len());
        for n in 0..count {
            assert_eq!(ahead.start(n), if n == 0 { 0 } else { ahead.end(n - 1) });
            self.commands.push(arguments(ahead.command(n, &self.unread)));
        }
        self.unread.drain(..count.checked_sub(1).map_or(0, |last| ahead.end(last)));
    }

    /// Moves bytes to the argument that is received apart. False if it is not whole yet.
    fn receive_apart(&mut self) -> bool {
        let Some((open, bytes)) = &mut self.open else { return true };
        let missing = open.len + 2 - bytes.len();
        let there = missing.min(self.unread.len() - open.start);
        bytes.extend(self.unread.drain(open.start..open.start + there));
        let Some(end) = bytes.get(open.len..).and_then(|end| end.try_into().ok()) else { return false };
        bytes.truncate(open.len);
        self.parser.detach_argument(end);
        self.apart.extend(self.open.take().map(|(open, bytes)| (open.index, bytes)));
        true
    }
}

/// The arguments of a command, by every way to get at them.
fn arguments(command: Command<'_>) -> Vec<Vec<u8>> {
    let arguments: Vec<Vec<u8>> = command.iter().map(<[u8]>::to_vec).collect();
    assert!(!arguments.is_empty(), "a command without a name");
    assert_eq!(command.len(), arguments.len());
    assert_eq!(command.name(), arguments[0]);
    assert_eq!(command.get(arguments.len()), None);
    for (index, argument) in arguments.iter().enumerate() {
        assert_eq!(command.get(index), Some(&argument[..]));
        assert_eq!(&command[index], &argument[..]);
    }
    arguments
}

/// How a plain reader fared with one command.
enum Plain {
    /// Its arguments, none if it needs no answer, and its length.
    Whole(Vec<Vec<u8>>, usize),
    Short,
    Bad(ProtocolError),
}

/// A line that ends in `end`, as a plain reader sees it.
fn plain_line(bytes: &[u8], end: u8, max: u32, too_long: ProtocolError) -> Result<&[u8], Plain> {
    match bytes.iter().position(|&byte| byte == end) {
        Some(len) if len <= max as usize => Ok(&bytes[..len]),
        None if bytes.len() <= max as usize => Err(Plain::Short),
        _ => Err(Plain::Bad(too_long)),
    }
}

/// A number as Redis writes it itself.
fn plain_number(text: &[u8]) -> Option<i64> {
    let text = core::str::from_utf8(text).ok()?;
    text.parse::<i64>().ok().filter(|value| value.to_string() == text)
}

/// Reads one command that stands whole at the start of `input`.
fn plain(input: &[u8], setup: &Setup) -> Result<(Vec<Vec<u8>>, usize), Plain> {
    use ProtocolError::{
        BulkCountTooLong, CommandTooLong, ExpectedDollar, GuestBulkLength, GuestMultibulkLength,
        InlineTooLong, InvalidBulkLength, InvalidMultibulkLength, MultibulkCountTooLong, UnbalancedQuotes,
    };
    let Setup { limits, guest, .. } = setup;
    let max = limits.line_bytes_max;
    if input[0] != b'*' {
        let line = plain_line(input, b'\n', max, InlineTooLong)?;
        let words =
            plain_words(line.strip_suffix(b"\r").unwrap_or(line)).ok_or(Plain::Bad(UnbalancedQuotes))?;
        if words.len() > limits.arguments_max as usize {
            return Err(Plain::Bad(InvalidMultibulkLength));
        }
        return Ok((words, line.len() + 1));
    }
    let line = plain_line(input, b'\r', max, MultibulkCountTooLong)?;
    let mut at = line.len() + 2;
    let lf = *input.get(at - 1).ok_or(Plain::Short)?;
    let count = plain_number(&line[1..]).filter(|count| lf == b'\n' && *count <= limits.arguments_max.into());
    let count = count.ok_or(Plain::Bad(InvalidMultibulkLength))?;
    if *guest && count > limits.guest_arguments_max.into() {
        return Err(Plain::Bad(GuestMultibulkLength));
    }
    let mut found = Vec::new();
    let mut spent = at;
    for _ in 0..count {
        let line = plain_line(&input[at..], b'\r', max, BulkCountTooLong)?;
        let lf = *input.get(at + line.len() + 1).ok_or(Plain::Short)?;
        if input[at] != b'$' {
            return Err(Plain::Bad(ExpectedDollar(input[at])));
        }
        let len = plain_number(&line[1..]).filter(|len| {
            let fits = (0..=limits.bulk_bytes_max.into()).contains(len);
            fits && lf == b'\n'
        });
        let len = len.and_then(|len| usize::try_from(len).ok()).ok_or(Plain::Bad(InvalidBulkLength))?;
        if *guest && len > limits.guest_bulk_bytes_max as usize {
            return Err(Plain::Bad(GuestBulkLength));
        }
        spent += line.len() + 2 + len + 2;
        if spent > limits.command_bytes_max as usize {
            return Err(Plain::Bad(CommandTooLong));
        }
        at += line.len() + 2;
        let bytes = input.get(at..at + len + 2).ok_or(Plain::Short)?;
        let Some(bytes) = bytes.strip_suffix(b"\r\n") else { return Err(Plain::Bad(InvalidBulkLength)) };
        found.push(bytes.to_vec());
        at += len + 2;
    }
    Ok((found, at))
}

/// Splits a line by a table of what each byte means where it stands.
fn plain_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        Gap,
        Word,
        Quoted(u8),
        Behind,
    }
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut state = At::Gap;
    let mut rest = line;
    while let [byte, ahead @ ..] = rest {
        let byte = *byte;
        rest = ahead;
        let blank = byte == 11 || byte == 12 || byte.is_ascii_whitespace();
        state = match (state, byte) {
            (At::Gap | At::Behind, _) if blank => At::Gap,
            (At::Behind, _) => return None,
            (At::Word, b' ' | b'\t' | b'\r' | b'\n') => At::Gap,
            (At::Gap | At::Word, b'"' | b'\'') => {
                if state == At::Gap {
                    words.push(Vec::new());
                }
                At::Quoted(byte)
            }
            (At::Gap, _) => {
                words.push(vec![byte]);
                At::Word
            }
            (At::Quoted(quote), _) if byte == quote => At::Behind,
            (At::Word | At::Quoted(_), _) => {
                let (value, skipped) = match (state, byte, ahead) {
                    (At::Quoted(b'\''), b'\\', [b'\'', ..]) => (b'\'', 1),
                    (At::Quoted(b'"'), b'\\', [b'x', a, b, ..])
                        if [a, b].iter().all(|d| d.is_ascii_hexdigit()) =>
                    {
                        let digits = [*a, *b];
                        let text = core::str::from_utf8(&digits).ok()?;
                        (u8::from_str_radix(text, 16).ok()?, 3)
                    }
                    (At::Quoted(b'"'), b'\\', [b'n', ..]) => (b'\n', 1),
                    (At::Quoted(b'"'), b'\\', [b'r', ..]) => (b'\r', 1),
                    (At::Quoted(b'"'), b'\\', [b't', ..]) => (b'\t', 1),
                    (At::Quoted(b'"'), b'\\', [b'b', ..]) => (0x08, 1),
                    (At::Quoted(b'"'), b'\\', [b'a', ..]) => (0x07, 1),
                    (At::Quoted(b'"'), b'\\', [other, ..]) => (*other, 1),
                    _ => (byte, 0),
                };
                words.last_mut()?.push(value);
                rest = &ahead[skipped..];
                state
            }
        };
    }
    (!matches!(state, At::Quoted(_))).then_some(words)
}

/// All commands of `input`, as a plain reader finds them.
fn plainly(input: &[u8], setup: &Setup) -> Trace {
    let mut commands = Vec::new();
    let mut at = 0;
    while at < input.len() {
        let found =
            plain(&input[at..], setup).map_or_else(|other| other, |(found, len)| Plain::Whole(found, len));
        match found {
            Plain::Whole(found, len) => {
                at += len;
                if !found.is_empty() {
                    commands.push(found);
                }
            }
            Plain::Short => return Trace { commands, end: End::Within },
            Plain::Bad(error) => return Trace { commands, end: End::Refused(error) },
        }
    }
    Trace { commands, end: End::Between }
}

/// Feeds `data` whole, byte by byte, cut by a pattern, and with arguments received apart or commands found
/// ahead: all must agree with each other and with the plain reader. Then writes the commands as replies and reads them
/// again.
///
/// The first byte chooses the limits, the second the pattern; the rest is what the peer sends.
///
/// # Panics
/// When a property does not hold.
pub fn check(data: &[u8]) {
    let Some((&[choice, pattern], input)) = data.split_first_chunk::<2>() else { return };
    let setup = Setup { limits: limits_for(choice), guest: choice & 2 != 0, ..Setup::default() };
    let expected = plainly(input, &setup);
    for (detach, ahead) in
        [(None, 0), (Some(0), 0), (Some(usize::from(choice >> 4)), 0), (None, 1), (None, 16)]
    {
        let setup = Setup { detach, ahead, ..setup };
        for step in [usize::MAX, 1, usize::from(pattern) + 2] {
            let cuts: Vec<usize> = (1..)
                .map_while(|i: usize| i.checked_mul(step))
                .take_while(|&cut| cut < input.len())
                .collect();
            let found = drive(input, &cuts, &setup);
            assert_eq!(
                expected,
                found,
                "cut every {step} of {:?}, {setup:?}",
                String::from_utf8_lossy(input)
            );
        }
    }
    check_written(&expected.commands);
    check_replies(input);
}

/// Commands written as arrays of strings are the same commands.
fn check_written(commands: &[Vec<Vec<u8>>]) {
    let mut wire = Vec::new();
    let mut writer = Writer::new(&mut wire, Version::Resp3);
    for command in commands {
        writer.array(command.len());
        command.iter().for_each(|argument| writer.bulk(argument));
    }
    let found = drive(&wire, &[], &Setup::default());
    assert_eq!(found, Trace { commands: commands.to_vec(), end: End::Between });
}

/// Whatever text or number a reply is made of, it is one line, or one string.
fn check_replies(input: &[u8]) {
    for version in [Version::Resp2, Version::Resp3] {
        let mut out = Vec::new();
        Writer::new(&mut out, version).simple(input);
        Writer::new(&mut out, version).error(input);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2);
        assert_eq!(out.iter().filter(|byte| **byte == b'\r').count(), 2);
        let Some((bits, _)) = input.split_first_chunk() else { continue };
        let value = f64::from_bits(u64::from_le_bytes(*bits));
        let text = format_double(value);
        let read = String::from_utf8_lossy(text.as_bytes()).parse::<f64>();
        let same = |read: f64| read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan();
        assert!(read.is_ok_and(same), "{value:e} is written as {text:?}");
        let mut out = Vec::new();
        Writer::new(&mut out, version).integer(i64::from_le_bytes(*bits));
        assert_eq!(out, format!(":{}\r\n", i64::from_le_bytes(*bits)).as_bytes());
    }
}

/// Default limits, or small ones that short inputs can reach.
fn limits_for(choice: u8) -> Limits {
    if choice & 1 == 0 {
        return Limits::default();
    }
    Limits {
        arguments_max: 3,
        bulk_bytes_max: 8,
        line_bytes_max: 12 + u32::from(choice & 12),
        command_bytes_max: 40,
        guest_arguments_max: 2,
        guest_bulk_bytes_max: 4,
    }
}
