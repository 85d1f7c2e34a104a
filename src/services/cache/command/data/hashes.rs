//! Commands on hashes.
//!
//! Not here: how fields are kept (`value`).

use corelane_base::Rng;
use corelane_proto_resp::{Command, Version};

use super::picks;
use crate::services::cache::command::parse::{self, SYNTAX};
use crate::services::cache::command::scan::{self, Scanned};
use crate::services::cache::command::{Ctx, Extended, Keys, Reply, Run, Spec, wrong_arity};
use crate::services::cache::store::Edit;
use crate::services::cache::value::Hash;

const OVERFLOW: &str = "ERR increment or decrement would overflow";

/// One that reads a single key.
const fn reading(name: &'static str, arity: i32, is_fast: bool, run: fn(&mut Ctx<'_>, &Command<'_>)) -> Spec {
    let (flags, categories) =
        if is_fast { ("readonly fast", "read hash fast") } else { ("readonly", "read hash slow") };
    Spec::new(name, arity, flags, categories).keys(Keys::ONE).run(Run::Data(run))
}

/// One that writes a single key, and may need memory for it.
const fn writing(name: &'static str, arity: i32, run: fn(&mut Ctx<'_>, &Command<'_>)) -> Spec {
    Spec::new(name, arity, "write denyoom fast", "write hash fast").keys(Keys::ONE).run(Run::Data(run))
}

const PER_FIELD: &str = "O(N), N being the number of fields named";
const WHOLE: &str = "O(N), N being the number of fields of the hash";

/// Bytes of the reply to HMGET. The same field may be named a million times, which Redis answers as long as it has memory.
/// As long as a single value may be; in tests less, for their memory.
const HMGET_LEN_MAX: usize = if cfg!(test) { 16 << 20 } else { 512 << 20 };
/// For more.
const TOO_LONG: &str = "ERR the reply would be longer than 512 MiB: ask for fewer fields at a time";

/// The table of these commands.
pub const TABLE: &[Spec] = &[
    writing("hset", -4, hset).docs("hash", "2.0.0", PER_FIELD, "Sets fields of a hash."),
    writing("hmset", -4, hset).docs("hash", "2.0.0", PER_FIELD, "Sets fields of a hash, as HSET does."),
    writing("hsetnx", 4, hsetnx).docs(
        "hash",
        "2.0.0",
        "O(1)",
        "Sets a field of a hash if there is none such.",
    ),
    reading("hget", 3, true, hget).docs("hash", "2.0.0", "O(1)", "Replies the value of a field."),
    reading("hmget", -3, true, hmget).docs("hash", "2.0.0", PER_FIELD, "Replies the values of fields."),
    reading("hgetall", 2, false, hgetall).docs(
        "hash",
        "2.0.0",
        WHOLE,
        "Replies all fields with their values.",
    ),
    Spec::new("hdel", -3, "write fast", "write hash fast").keys(Keys::ONE).run(Run::Data(hdel)).docs(
        "hash",
        "2.0.0",
        PER_FIELD,
        "Removes fields, and the hash with the last one.",
    ),
    reading("hlen", 2, true, hlen).docs("hash", "2.0.0", "O(1)", "Replies the number of fields."),
    reading("hexists", 3, true, hexists).docs(
        "hash",
        "2.0.0",
        "O(1)",
        "Replies whether there is such a field.",
    ),
    reading("hkeys", 2, false, hkeys).docs("hash", "2.0.0", WHOLE, "Replies all fields."),
    reading("hvals", 2, false, hvals).docs("hash", "2.0.0", WHOLE, "Replies the values of all fields."),
    reading("hstrlen", 3, true, hstrlen).docs("hash", "3.2.0", "O(1)", "Replies the length of a value."),
    writing("hincrby", 4, hincrby).docs(
        "hash",
        "2.0.0",
        "O(1)",
        "Adds to the integer in a field, 0 at first.",
    ),
    writing("hincrbyfloat", 4, hincrbyfloat).docs(
        "hash",
        "2.6.0",
        "O(1)",
        "Adds to the number in a field, 0 at first.",
    ),
    reading("hrandfield", -2, false, hrandfield).docs(
        "hash",
        "6.2.0",
        "O(N), N being the number of fields asked for",
        "Replies fields at random, perhaps with their values.",
    ),
    reading("hscan", -3, false, hscan).docs(
        "hash",
        "2.8.0",
        "O(1) for each call, O(N) for all of a hash of N fields",
        "Goes through a hash, some fields at a time.",
    ),
];

/// The hash at the key of the command; `None` if it has another kind of value, which is replied.
#[inline]
fn find<'c>(ctx: &'c mut Ctx<'_>, command: &Command<'_>) -> Option<(Option<&'c Hash>, &'c mut Reply)> {
    let key = ctx.key(&command[1]);
    match ctx.store.get_collection::<Hash>(key) {
        Ok(hash) => Some((hash, &mut *ctx.reply)),
        Err(error) => {
            ctx.reply.error(error);
            None
        }
    }
}

/// Changes the hash at the key of the command, which is made if need be; what goes wrong is replied.
fn edit<R>(
    ctx: &mut Ctx<'_>,
    command: &Command<'_>,
    edit: impl FnOnce(&mut Edit<'_, Hash>) -> R,
) -> Option<R> {
    let key = ctx.key(&command[1]);
    ctx.store.edit_or_insert(key, edit).map_err(|error| ctx.reply.error(error)).ok()
}

/// Whether so many further fields have room, whatever they are.
fn has_room(hash: &Hash, more: usize) -> bool {
    hash.len() <= Hash::FIELDS_MAX - more
}

/// For a hash with more fields than can be counted.
const FULL: &str = "ERR the hash has 4294967295 fields, and no more can be set: use several keys";

// ---- writing

fn hset(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let is_hset = command.name().len() == "hset".len();
    if !command.len().is_multiple_of(2) {
        return wrong_arity(ctx.reply, if is_hset { "hset" } else { "hmset" });
    }
    let added = edit(ctx, command, |hash| {
        if !has_room(hash, command.len() / 2) {
            return None;
        }
        let mut added = 0;
        for n in (2..command.len()).step_by(2) {
            added += usize::from(hash.insert(&command[n], &command[n + 1]));
        }
        Some(added)
    });
    match added {
        None => {}
        Some(None) => ctx.reply.error(FULL),
        Some(Some(added)) if is_hset => ctx.reply.count(added),
        Some(Some(_)) => ctx.reply.ok(),
    }
}

fn hsetnx(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let is_set = edit(ctx, command, |hash| {
        if hash.contains(&command[2]) {
            return Some(false);
        }
        has_room(hash, 1).then(|| hash.insert(&command[2], &command[3]))
    });
    match is_set {
        None => {}
        Some(None) => ctx.reply.error(FULL),
        Some(Some(is_set)) => ctx.reply.count(usize::from(is_set)),
    }
}

fn hdel(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    let removed = ctx.store.edit::<Hash, _>(key, |hash| {
        let removed = command.iter().skip(2).filter(|field| hash.remove(field)).count();
        if removed == 0 {
            hash.unchanged();
        }
        removed
    });
    match removed {
        Ok(removed) => ctx.reply.count(removed.unwrap_or(0)),
        Err(error) => ctx.reply.error(error),
    }
}

fn hincrby(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(by) = parse::integer_or_reply(ctx.reply, &command[3]) else { return };
    let sum = edit(ctx, command, |hash| {
        let before = match hash.get(&command[2]) {
            None => 0,
            Some(text) => parse::integer(text).ok_or("ERR hash value is not an integer")?,
        };
        let sum = before.checked_add(by).ok_or(OVERFLOW)?;
        if !has_room(hash, 1) {
            return Err(FULL);
        }
        hash.insert(&command[2], sum.to_string().as_bytes());
        Ok(sum)
    });
    match sum {
        None => {}
        Some(Ok(sum)) => ctx.reply.integer(sum),
        Some(Err(error)) => ctx.reply.error(error),
    }
}

fn hincrbyfloat(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(by) = Extended::parse(&command[3]) else { return ctx.reply.error(parse::NOT_FLOAT) };
    if by.text().is_none() {
        return ctx.reply.error("ERR value is NaN or Infinity");
    }
    let sum = edit(ctx, command, |hash| {
        let before = match hash.get(&command[2]) {
            None => Extended::default(),
            Some(text) => Extended::parse(text).ok_or("ERR hash value is not a float")?,
        };
        let sum = before.plus(by).text().ok_or("ERR increment would produce NaN or Infinity")?;
        if !has_room(hash, 1) {
            return Err(FULL);
        }
        hash.insert(&command[2], sum.as_bytes());
        Ok(sum)
    });
    match sum {
        None => {}
        Some(Ok(sum)) => ctx.reply.bulk(sum.as_bytes()),
        Some(Err(error)) => ctx.reply.error(error),
    }
}

// ---- reading

fn hget(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((hash, reply)) = find(ctx, command) else { return };
    match hash.and_then(|hash| hash.get(&command[2])) {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
}

fn hmget(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((hash, reply)) = find(ctx, command) else { return };
    let start = reply.bytes().len();
    reply.array(command.len() - 2);
    for field in command.iter().skip(2) {
        match hash.and_then(|hash| hash.get(field)) {
            Some(value) => reply.bulk(value),
            None => reply.null(),
        }
        if reply.bytes().len() - start > HMGET_LEN_MAX {
            reply.truncate(start);
            return reply.error(TOO_LONG);
        }
    }
}

fn hgetall(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((hash, reply)) = find(ctx, command) else { return };
    reply.write().map(hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        reply.bulk(field);
        reply.bulk(value);
    }
}

fn hkeys(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((hash, reply)) = find(ctx, command) else { return };
    reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(field, _)| reply.bulk(field));
}

fn hvals(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((hash, reply)) = find(ctx, command) else { return };
    reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(_, value)| reply.bulk(value));
}

fn hlen(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((hash, reply)) = find(ctx, command) else { return };
    reply.count(hash.map_or(0, Hash::len));
}

fn hexists(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((hash, reply)) = find(ctx, command) else { return };
    reply.count(usize::from(hash.is_some_and(|hash| hash.contains(&command[2]))));
}

fn hstrlen(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((hash, reply)) = find(ctx, command) else { return };
    reply.count(hash.and_then(|hash| hash.get(&command[2])).map_or(0, <[u8]>::len));
}

fn hscan(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(cursor) = scan::cursor_or_reply(ctx.reply, &command[2]) else { return };
    let Some((hash, reply)) = find(ctx, command) else { return };
    let Some(hash) = hash else { return page(reply, |_| (0, 0)) };
    let Some(options) = scan::options_or_reply(reply, command, 3, Scanned::Fields) else { return };
    page(reply, |reply| {
        let mut count = 0;
        let next = hash.scan(cursor, options.count, |field, value| {
            if options.takes(field) {
                reply.bulk(field);
                reply.bulk(value);
                count += 2;
            }
        });
        (next, count)
    });
}

/// The reply of one call that goes through a collection: the next cursor and how many items there are, which `write`
/// gives, and the items, which it writes.
pub(super) fn page(reply: &mut Reply, write: impl FnOnce(&mut Reply) -> (u64, usize)) {
    let mut items = Reply::new(reply.version());
    let (next, count) = write(&mut items);
    reply.array(2);
    reply.bulk(next.to_string().as_bytes());
    reply.array(count);
    reply.append(&items);
}

// ---- at random

/// How many fields, and whether with their values; `None` if that is wrong, which is replied.
fn wanted(reply: &mut Reply, command: &Command<'_>) -> Option<(i64, bool)> {
    let count = parse::within_or_reply(reply, &command[2], -i64::MAX, i64::MAX, None)?;
    let with_values = match (command.get(3), command.len()) {
        (None, _) => return Some((count, false)),
        (Some(word), 4) => parse::is(word, "withvalues"),
        _ => false,
    };
    if !with_values {
        reply.error(SYNTAX);
        return None;
    }
    if count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
        reply.error(picks::TOO_MANY);
        return None;
    }
    Some((count, true))
}

fn hrandfield(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let mut rng = Rng::new(ctx.random);
    let wanted = match command.len() {
        2 => None,
        _ => match wanted(ctx.reply, command) {
            Some(wanted) => Some(wanted),
            None => return,
        },
    };
    let Some((hash, reply)) = find(ctx, command) else { return };
    match (hash, wanted) {
        (Some(hash), None) => {
            reply.bulk(hash.nth(rng.index(hash.len().max(1))).map_or(&[], |(field, _)| field))
        }
        (None, None) => reply.null(),
        (Some(hash), Some((count @ 1.., with_values))) => {
            let numbers =
                picks::different(&mut rng, hash.len(), usize::try_from(count).unwrap_or(usize::MAX));
            fields_header(reply, numbers.len(), with_values);
            for number in numbers {
                field(reply, hash.nth(number), with_values);
            }
        }
        (Some(hash), Some((count @ ..=-1, with_values))) => {
            repeated(hash, &mut rng, reply, count, with_values)
        }
        (_, Some(_)) => reply.array(0),
    }
}

/// `count` fields, below 0, any of which may be there more than once.
fn repeated(hash: &Hash, rng: &mut Rng, reply: &mut Reply, count: i64, with_values: bool) {
    if count.unsigned_abs() > picks::REPEATED_MAX {
        return reply.error(picks::TOO_MANY);
    }
    let (count, start) = (usize::try_from(count.unsigned_abs()).unwrap_or(0), reply.bytes().len());
    // To find one of a small hash is to go through it: once is enough.
    let small: Vec<_> = if hash.len() <= picks::SMALL { hash.iter().collect() } else { Vec::new() };
    fields_header(reply, count, with_values);
    for _ in 0..count {
        let number = rng.index(hash.len().max(1));
        field(reply, small.get(number).copied().or_else(|| hash.nth(number)), with_values);
        if reply.bytes().len() - start > picks::REPEATED_LEN_MAX {
            reply.truncate(start);
            return reply.error(picks::TOO_MANY);
        }
    }
}

/// RESP3 has pairs, RESP2 one array of all.
fn fields_header(reply: &mut Reply, count: usize, with_values: bool) {
    let is_flat = with_values && reply.version() == Version::Resp2;
    reply.array(if is_flat { 2 * count } else { count });
}

fn field(reply: &mut Reply, found: Option<(&[u8], &[u8])>, with_values: bool) {
    let (field, value) = found.unwrap_or_default();
    if with_values && reply.version() == Version::Resp3 {
        reply.array(2);
    }
    reply.bulk(field);
    if with_values {
        reply.bulk(value);
    }
}

#[cfg(test)]
mod tests;
