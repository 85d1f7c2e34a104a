//! BITFIELD: integers of 1 to 64 bits anywhere in a string, the highest bit first.
//!
//! All subcommands of a call are read before the first one is done: an error in one leaves the string as it is.
//!
//! Not here: single bits (`bits`).

use corelane_proto_resp::Command;

use super::bits::{OFFSET, is_place};
use super::strings::{len_or_reply, may_have_or_reply, with_bytes};
use crate::services::cache::command::parse::{self, SYNTAX};
use crate::services::cache::command::{Ctx, Keys, Reply, Run, Spec};

pub(super) const TYPE: &str =
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";

/// The table of these commands.
pub const TABLE: &[Spec] = &[
    Spec::new("bitfield", -2, "write denyoom", "write bitmap slow")
        .keys(Keys::ONE)
        .run(Run::Data(bitfield))
        .docs(
            "bitmap",
            "3.2.0",
            "O(1) for each subcommand",
            "Reads, sets and adds to integers of some bits within a string.",
        ),
    Spec::new("bitfield_ro", -2, "readonly fast", "read bitmap fast")
        .keys(Keys::ONE)
        .run(Run::Data(bitfield_ro))
        .docs("bitmap", "6.0.0", "O(1) for each subcommand", "Reads integers of some bits within a string."),
];

/// What happens to a number that does not fit.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// What is done with a field.
#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

/// One subcommand.
#[derive(Clone, Copy)]
struct Step {
    signed: bool,
    bits: u32,
    offset: usize,
    action: Action,
    overflow: Overflow,
}

/// The subcommands, or the error of the first that makes no sense.
fn steps_or_reply(reply: &mut Reply, command: &Command<'_>) -> Option<Vec<Step>> {
    let (mut steps, mut overflow, mut at) = (Vec::new(), Overflow::Wrap, 2);
    while let Some(word) = command.get(at) {
        let more = command.len() - at - 1;
        if parse::is(word, "overflow") && more >= 1 {
            overflow = match &command[at + 1] {
                kind if parse::is(kind, "wrap") => Overflow::Wrap,
                kind if parse::is(kind, "sat") => Overflow::Saturate,
                kind if parse::is(kind, "fail") => Overflow::Fail,
                _ => {
                    reply.error("ERR Invalid OVERFLOW type specified");
                    return None;
                }
            };
            at += 2;
            continue;
        }
        let is_get = parse::is(word, "get") && more >= 2;
        let is_set = parse::is(word, "set") && more >= 3;
        if !(is_get || is_set || (parse::is(word, "incrby") && more >= 3)) {
            reply.error(SYNTAX);
            return None;
        }
        let Some((signed, bits)) = kind(&command[at + 1]) else {
            reply.error(TYPE);
            return None;
        };
        let Some(offset) = offset(&command[at + 2], bits) else {
            reply.error(OFFSET);
            return None;
        };
        let action = if is_get {
            Action::Get
        } else {
            let value = parse::integer_or_reply(reply, &command[at + 3])?;
            if is_set { Action::Set(value) } else { Action::Add(value) }
        };
        steps.push(Step { signed, bits, offset, action, overflow });
        at += if is_get { 3 } else { 4 };
    }
    Some(steps)
}

/// Whether there is a sign, and how many bits: `i8`, `u63`.
fn kind(text: &[u8]) -> Option<(bool, u32)> {
    let (signed, bits) = match text {
        [b'i', bits @ ..] => (true, bits),
        [b'u', bits @ ..] => (false, bits),
        _ => return None,
    };
    let bits = u32::try_from(parse::integer(bits)?).ok()?;
    (1..=63 + u32::from(signed)).contains(&bits).then_some((signed, bits))
}

/// The first bit: a number of bits, or behind a `#` of fields.
fn offset(text: &[u8], bits: u32) -> Option<usize> {
    let offset = match text {
        [b'#', fields @ ..] => parse::integer(fields)?.checked_mul(i64::from(bits))?,
        _ => parse::integer(text)?,
    };
    usize::try_from(offset).ok().filter(|offset| is_place(*offset))
}

impl Step {
    /// Bytes that a string must have to hold the field.
    fn len(self) -> usize {
        (self.offset + self.bits as usize).div_ceil(8)
    }

    /// The field as a number; bits behind the end of the string are 0.
    fn read(self, bytes: &[u8]) -> i128 {
        let mut value = 0_u64;
        for bit in self.offset..self.offset + self.bits as usize {
            let byte = bytes.get(bit / 8).copied().unwrap_or(0);
            value = value << 1 | u64::from(byte >> (7 - bit % 8) & 1);
        }
        self.cut(i128::from(value))
    }

    /// The number that the lowest bits of `value` are.
    fn cut(self, value: i128) -> i128 {
        let low = value & ((1 << self.bits) - 1);
        if self.signed && low >> (self.bits - 1) == 1 { low - (1 << self.bits) } else { low }
    }

    fn write(self, bytes: &mut [u8], value: i128) {
        for (n, bit) in (self.offset..self.offset + self.bits as usize).enumerate() {
            let mask = 0x80 >> (bit % 8);
            let on = value >> (self.bits as usize - 1 - n) & 1 == 1;
            bytes[bit / 8] = if on { bytes[bit / 8] | mask } else { bytes[bit / 8] & !mask };
        }
    }

    /// Does what is asked for; nothing is written, and nothing replied, for what does not fit under FAIL.
    fn change(self, bytes: &mut [u8]) -> Option<i128> {
        let before = self.read(bytes);
        let wanted = match self.action {
            Action::Get => return Some(before),
            Action::Add(by) => before + i128::from(by),
            // Without a sign a negative number counts as the large one with the same bits.
            Action::Set(value) if self.signed => i128::from(value),
            Action::Set(value) => i128::from(value.cast_unsigned()),
        };
        let fits = self.cut(wanted) == wanted;
        let after = match self.overflow {
            _ if fits => wanted,
            Overflow::Wrap => self.cut(wanted),
            Overflow::Saturate => self.nearest(wanted),
            Overflow::Fail => return None,
        };
        self.write(bytes, after);
        Some(if matches!(self.action, Action::Set(_)) { before } else { after })
    }

    /// The largest number of the field for one too large, else the smallest.
    fn nearest(self, wanted: i128) -> i128 {
        match (self.signed, wanted > 0) {
            (true, true) => (1 << (self.bits - 1)) - 1,
            (true, false) => -(1 << (self.bits - 1)),
            (false, true) => (1 << self.bits) - 1,
            (false, false) => 0,
        }
    }
}

fn reply_all(reply: &mut Reply, values: &[Option<i128>]) {
    reply.array(values.len());
    for value in values {
        match value.map(i64::try_from) {
            Some(Ok(value)) => reply.integer(value),
            _ => reply.null(),
        }
    }
}

fn bitfield(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    run(ctx, command, false);
}

fn bitfield_ro(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    run(ctx, command, true);
}

fn run(ctx: &mut Ctx<'_>, command: &Command<'_>, only_get: bool) {
    let Some(steps) = steps_or_reply(ctx.reply, command) else { return };
    let key = ctx.key(&command[1]);
    let writes = steps.iter().filter(|step| !matches!(step.action, Action::Get));
    let Some(len) = writes.map(|step| step.len()).max() else {
        return match ctx.store.get_str(key) {
            Ok(found) => {
                let read = |bytes: &[u8]| steps.iter().map(|step| Some(step.read(bytes))).collect::<Vec<_>>();
                reply_all(ctx.reply, &found.map_or_else(|| read(b""), |value| with_bytes(value, read)));
            }
            Err(error) => ctx.reply.error(error),
        };
    };
    if only_get {
        return ctx.reply.error("ERR BITFIELD_RO only supports the GET subcommand");
    }
    if len_or_reply(ctx, key).is_none() || !may_have_or_reply(ctx, key, len) {
        return;
    }
    // A field that has the value it had, in a string as long as it was, is no change.
    let changed = ctx.store.edit_str_if(key, |bytes| {
        let (grows, mut is_changed) = (bytes.len() < len, false);
        bytes.resize(bytes.len().max(len), 0);
        let values = steps.iter().map(|step| {
            let before = step.read(bytes);
            let value = step.change(bytes);
            let is_written = !matches!(step.action, Action::Get) && value.is_some();
            is_changed |= is_written && (grows || step.read(bytes) != before);
            value
        });
        (values.collect::<Vec<_>>(), is_changed)
    });
    match changed {
        Ok(values) => reply_all(ctx.reply, &values),
        Err(error) => ctx.reply.error(error),
    }
}
