//! Commands on the bits of strings. Bit 0 is the highest one of the first byte.
//!
//! Not here: whole strings (`strings`), integers of some bits (`bitfield`).

use corelane_proto_resp::Command;

use super::strings::{STRING_LEN_MAX, len_or_reply, may_have_or_reply, range, range_cut, with_bytes};
use crate::services::cache::command::parse::{self, SYNTAX};
use crate::services::cache::command::{Ctx, Keys, Reply, Run, Spec};
use crate::services::cache::store::Expiry;

pub(super) const OFFSET: &str = "ERR bit offset is not an integer or out of range";
const BIT: &str = "ERR bit is not an integer or out of range";
const LINEAR: &str = "O(N), N being the bytes looked at";

/// The table of these commands.
pub const TABLE: &[Spec] = &[
    Spec::new("setbit", 4, "write denyoom", "write bitmap slow").keys(Keys::ONE).run(Run::Data(setbit)).docs(
        "bitmap",
        "2.2.0",
        "O(1), or O(N) where the string grows by N bytes",
        "Sets one bit of the string at a key, which grows where it is too short, and replies the bit before.",
    ),
    Spec::new("getbit", 3, "readonly fast", "read bitmap fast").keys(Keys::ONE).run(Run::Data(getbit)).docs(
        "bitmap",
        "2.2.0",
        "O(1)",
        "Replies one bit of the string at a key.",
    ),
    Spec::new("bitcount", -2, "readonly", "read bitmap slow").keys(Keys::ONE).run(Run::Data(bitcount)).docs(
        "bitmap",
        "2.6.0",
        LINEAR,
        "Counts the bits that are set in a string, or in a part of it.",
    ),
    Spec::new("bitpos", -3, "readonly", "read bitmap slow").keys(Keys::ONE).run(Run::Data(bitpos)).docs(
        "bitmap",
        "2.8.7",
        LINEAR,
        "Finds the first bit that is set, or not set, in a string or a part.",
    ),
    Spec::new("bitop", -4, "write denyoom", "write bitmap slow")
        .keys(Keys::Range { first: 2, last: -1, step: 1 })
        .run(Run::Data(bitop))
        .docs("bitmap", "2.6.0", LINEAR, "Puts the bits of several strings together into another one."),
];

/// Whether a string may have a bit there.
pub(super) const fn is_place(offset: usize) -> bool {
    offset >> 3 < STRING_LEN_MAX
}

/// Which byte and which bit of it, or the error that says there is no such bit.
fn place_or_reply(reply: &mut Reply, text: &[u8]) -> Option<(usize, u8)> {
    let offset = parse::integer(text).and_then(|offset| usize::try_from(offset).ok());
    match offset {
        Some(offset) if is_place(offset) => Some((offset >> 3, 0x80 >> (offset & 7))),
        _ => {
            reply.error(OFFSET);
            None
        }
    }
}

fn setbit(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((at, mask)) = place_or_reply(ctx.reply, &command[2]) else { return };
    let Some(on) = parse::within_or_reply(ctx.reply, &command[3], 0, 1, Some(BIT)) else { return };
    let key = ctx.key(&command[1]);
    if len_or_reply(ctx, key).is_none() || !may_have_or_reply(ctx, key, at + 1) {
        return;
    }
    // A bit that is as it was, in a string as long as it was, is no change.
    let before = ctx.store.edit_str_if(key, |bytes| {
        let grows = bytes.len() <= at;
        bytes.resize(bytes.len().max(at + 1), 0);
        let before = bytes[at] & mask != 0;
        bytes[at] = if on == 1 { bytes[at] | mask } else { bytes[at] & !mask };
        (before, grows || before != (on == 1))
    });
    match before {
        Ok(before) => ctx.reply.integer(i64::from(before)),
        Err(error) => ctx.reply.error(error),
    }
}

fn getbit(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((at, mask)) = place_or_reply(ctx.reply, &command[2]) else { return };
    let key = ctx.key(&command[1]);
    match ctx.store.get_str(key) {
        Ok(found) => {
            let byte =
                found.map_or(0, |value| with_bytes(value, |bytes| bytes.get(at).copied().unwrap_or(0)));
            ctx.reply.integer(i64::from(byte & mask != 0));
        }
        Err(error) => ctx.reply.error(error),
    }
}

/// Does `with` the bytes at `key`. Without a key it replies `missing`; what is no string gets its error.
fn look(ctx: &mut Ctx<'_>, key: &[u8], missing: i64, with: impl FnOnce(&[u8], &mut Reply)) {
    let key = ctx.key(key);
    match ctx.store.get_str(key) {
        Ok(None) => ctx.reply.integer(missing),
        Ok(Some(value)) => with_bytes(value, |bytes| with(bytes, ctx.reply)),
        Err(error) => ctx.reply.error(error),
    }
}

/// The unit of a range, by the word for it: whether it is bits.
fn is_bits(word: Option<&[u8]>) -> Result<bool, &'static str> {
    match word {
        None => Ok(false),
        Some(word) if parse::is(word, "byte") => Ok(false),
        Some(word) if parse::is(word, "bit") => Ok(true),
        Some(_) => Err(SYNTAX),
    }
}

/// The bits of a range of bytes.
fn in_bytes(range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    8 * range.start..8 * range.end
}

/// A byte with only those of its bits that are in `bits`, all of them counted from the start of the string.
fn masked(byte: u8, at: usize, bits: &std::ops::Range<usize>) -> u8 {
    let head = if bits.start > 8 * at { 0xff >> (bits.start - 8 * at) } else { 0xff };
    let tail = if bits.end < 8 * at + 8 { !(0xff >> (bits.end - 8 * at)) } else { 0xff };
    byte & head & tail
}

fn bitcount(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    look(ctx, &command[1], 0, |bytes, reply| {
        let bits = match command.len() {
            2 => 0..8 * bytes.len(),
            4 | 5 => {
                let Some(start) = parse::integer_or_reply(reply, &command[2]) else { return };
                let Some(end) = parse::integer_or_reply(reply, &command[3]) else { return };
                if start < 0 && end < 0 && start > end {
                    // Before the unit is looked at, as in Redis.
                    return reply.integer(0);
                }
                match is_bits(command.get(4)) {
                    Ok(true) => range(start, end, 8 * bytes.len()),
                    Ok(false) => in_bytes(range(start, end, bytes.len())),
                    Err(error) => return reply.error(error),
                }
            }
            _ => return reply.error(SYNTAX),
        };
        if bits.is_empty() {
            return reply.integer(0);
        }
        let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
        let outside = [first, last].map(|at| (bytes[at] ^ masked(bytes[at], at, &bits)).count_ones());
        let all = count_ones(&bytes[first..=last]);
        let less = if first == last {
            (bytes[first] ^ masked(bytes[first], first, &bits)).count_ones()
        } else {
            outside[0] + outside[1]
        };
        reply.count(all - less as usize);
    });
}

fn count_ones(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: usize = words.iter().map(|word| u64::from_ne_bytes(*word).count_ones() as usize).sum();
    words + rest.iter().map(|byte| byte.count_ones() as usize).sum::<usize>()
}

fn bitpos(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(bit) = parse::integer_or_reply(ctx.reply, &command[2]) else { return };
    if bit != 0 && bit != 1 {
        return ctx.reply.error("ERR The bit argument must be 1 or 0.");
    }
    look(ctx, &command[1], -bit, |bytes, reply| {
        if command.len() > 6 {
            return reply.error(SYNTAX);
        }
        let (mut start, mut end) = (0, -1);
        if let Some(text) = command.get(3) {
            let Some(given) = parse::integer_or_reply(reply, text) else { return };
            start = given;
        }
        let in_bits = match is_bits(command.get(5)) {
            Ok(in_bits) => in_bits,
            Err(error) => return reply.error(error),
        };
        if let Some(text) = command.get(4) {
            let Some(given) = parse::integer_or_reply(reply, text) else { return };
            end = given;
        }
        let bits = match in_bits {
            true => range_cut(start, end, 8 * bytes.len()),
            false => in_bytes(range_cut(start, end, bytes.len())),
        };
        match first_bit(bytes, bit == 1, &bits) {
            Some(at) => reply.count(at),
            // Without an end the string counts as followed by zeros, unless nothing was looked at.
            None if bit == 0 && command.len() < 5 && !bits.is_empty() => reply.count(bits.end),
            None => reply.integer(-1),
        }
    });
}

fn first_bit(bytes: &[u8], set: bool, bits: &std::ops::Range<usize>) -> Option<usize> {
    if bits.is_empty() {
        return None;
    }
    let none = if set { 0 } else { 0xff };
    let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
    let bit_in = |at: usize| {
        let found = masked(bytes[at] ^ none, at, bits);
        (found != 0).then(|| 8 * at + found.leading_zeros() as usize)
    };
    if let Some(found) = bit_in(first) {
        return Some(found);
    }
    let mut at = first + 1;
    while at + 8 <= last && bytes[at..at + 8] == [none; 8] {
        at += 8;
    }
    (at..=last).find_map(bit_in)
}

/// What BITOP does with each byte of a further source.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

impl Operation {
    fn of(word: &[u8]) -> Option<Operation> {
        let names = [
            ("and", Operation::And),
            ("or", Operation::Or),
            ("xor", Operation::Xor),
            ("not", Operation::Not),
        ];
        names.into_iter().find_map(|(name, operation)| parse::is(word, name).then_some(operation))
    }

    /// Puts `source` to what was made of those before it. A shorter source counts as followed by zeros.
    fn put(self, made: &mut [u8], source: &[u8]) {
        let (head, tail) = made.split_at_mut(source.len());
        // One loop for each, so that the compiler can take many bytes at once.
        match self {
            Operation::And => {
                head.iter_mut().zip(source).for_each(|(to, byte)| *to &= byte);
                tail.fill(0);
            }
            Operation::Or => head.iter_mut().zip(source).for_each(|(to, byte)| *to |= byte),
            Operation::Xor => head.iter_mut().zip(source).for_each(|(to, byte)| *to ^= byte),
            Operation::Not => head.iter_mut().zip(source).for_each(|(to, byte)| *to = !byte),
        }
    }
}

fn bitop(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(operation) = Operation::of(&command[1]) else { return ctx.reply.error(SYNTAX) };
    if operation == Operation::Not && command.len() != 4 {
        return ctx.reply.error("ERR BITOP NOT must be called with a single source key.");
    }
    let mut len = 0;
    for at in 3..command.len() {
        let key = ctx.key(&command[at]);
        let Some(one) = len_or_reply(ctx, key) else { return };
        len = len.max(one);
    }
    let to = ctx.key(&command[2]);
    if !may_have_or_reply(ctx, to, len) {
        return;
    }
    let mut made = vec![0; len];
    for at in 3..command.len() {
        let key = ctx.key(&command[at]);
        let Ok(found) = ctx.store.get_str(key) else { continue };
        // The first one is put to zeros, where OR takes it as it is.
        let operation = if at == 3 && operation != Operation::Not { Operation::Or } else { operation };
        match found {
            Some(value) => with_bytes(value, |bytes| operation.put(&mut made, bytes)),
            None => operation.put(&mut made, b""),
        }
    }
    let target = ctx.key(&command[2]);
    if made.is_empty() {
        ctx.store.remove(target);
    } else if let Err(error) = ctx.store.set_str(target, &made, Expiry::Never) {
        return ctx.reply.error(error);
    }
    ctx.reply.count(made.len());
}
