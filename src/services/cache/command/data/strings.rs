//! Commands on strings.
//!
//! Not here: single bits (`bits`).

use corelane_proto_resp::Command;

use crate::services::cache::command::extended::Extended;
use crate::services::cache::command::parse::{self, SYNTAX};
use crate::services::cache::command::{Ctx, Gather, Keys, Reply, Run, Spec, wrong_arity};
use crate::services::cache::store::{Expiry, Key, Store, StoreError};
use crate::services::cache::value::{Str, ValueRef};

/// Bytes that a string may have: Redis' default of `proto-max-bulk-len`.
pub(super) const STRING_LEN_MAX: usize = 512 << 20;

/// Bytes of the values that one MGET replies with, those aside that are sent from where they are.
const MGET_LEN_MAX: usize = if cfg!(test) { 1 << 20 } else { 512 << 20 };
/// For a string that would be longer.
pub(super) const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
const OVERFLOW: &str = "ERR increment or decrement would overflow";

const PAIRS: Keys = Keys::Range { first: 1, last: -1, step: 2 };
const LINEAR: &str = "O(N), N being the number of keys";

/// The table of these commands.
pub const TABLE: &[Spec] =
    &[
        Spec::new("get", 2, "readonly fast", "read string fast").keys(Keys::ONE).run(Run::Data(get)).docs(
            "string",
            "1.0.0",
            "O(1)",
            "Replies the string at a key.",
        ),
        Spec::new("set", -3, "write denyoom", "write string slow").keys(Keys::ONE).run(Run::Data(set)).docs(
            "string",
            "1.0.0",
            "O(1)",
            "Sets the string at a key, whatever was there, perhaps with an expiry and under a condition.",
        ),
        Spec::new("getex", -2, "write fast", "write string fast").keys(Keys::ONE).run(Run::Data(getex)).docs(
            "string",
            "6.2.0",
            "O(1)",
            "Replies the string at a key and changes when it expires.",
        ),
        Spec::new("getdel", 2, "write fast", "write string fast")
            .keys(Keys::ONE)
            .run(Run::Data(getdel))
            .docs("string", "6.2.0", "O(1)", "Replies the string at a key and removes the key."),
        Spec::new("getset", 3, "write denyoom fast", "write string fast")
            .keys(Keys::ONE)
            .run(Run::Data(getset))
            .docs("string", "1.0.0", "O(1)", "Sets the string at a key and replies the one before."),
        Spec::new("setex", 4, "write denyoom", "write string slow")
            .keys(Keys::ONE)
            .run(Run::Data(setex))
            .docs("string", "2.0.0", "O(1)", "Sets the string at a key, to expire after some seconds."),
        Spec::new("psetex", 4, "write denyoom", "write string slow")
            .keys(Keys::ONE)
            .run(Run::Data(psetex))
            .docs("string", "2.6.0", "O(1)", "Sets the string at a key, to expire after some milliseconds."),
        Spec::new("setnx", 3, "write denyoom fast", "write string fast")
            .keys(Keys::ONE)
            .run(Run::Data(setnx))
            .docs("string", "1.0.0", "O(1)", "Sets the string at a key that does not exist."),
        Spec::new("mset", -3, "write denyoom", "write string slow")
            .keys(PAIRS)
            .run(Run::Split(mset, Gather::Ok))
            .docs("string", "1.0.1", LINEAR, "Sets the strings at several keys."),
        Spec::new("msetnx", -3, "write denyoom", "write string slow")
            .keys(PAIRS)
            .run(Run::Data(msetnx))
            .docs("string", "1.0.1", LINEAR, "Sets the strings at several keys if none of them exists."),
        Spec::new("mget", -2, "readonly fast", "read string fast")
            .keys(Keys::ALL)
            .run(Run::Split(mget, Gather::Each))
            .docs("string", "1.0.0", LINEAR, "Replies the strings at several keys."),
        Spec::new("append", 3, "write denyoom fast", "write string fast")
            .keys(Keys::ONE)
            .run(Run::Data(append))
            .docs(
                "string",
                "2.0.0",
                "O(1), taken over many calls",
                "Appends to the string at a key, which it makes if there is none.",
            ),
        Spec::new("strlen", 2, "readonly fast", "read string fast")
            .keys(Keys::ONE)
            .run(Run::Data(strlen))
            .docs("string", "2.2.0", "O(1)", "Replies how many bytes the string at a key has."),
        Spec::new("getrange", 4, "readonly", "read string slow")
            .keys(Keys::ONE)
            .run(Run::Data(getrange))
            .docs(
                "string",
                "2.4.0",
                "O(N), N being the length of the reply",
                "Replies a part of the string at a key.",
            ),
        Spec::new("substr", 4, "readonly", "read string slow").keys(Keys::ONE).run(Run::Data(getrange)).docs(
            "string",
            "1.0.0",
            "O(N), N being the length of the reply",
            "Replies a part of the string at a key: an old name of GETRANGE.",
        ),
        Spec::new("setrange", 4, "write denyoom", "write string slow")
            .keys(Keys::ONE)
            .run(Run::Data(setrange))
            .docs(
                "string",
                "2.2.0",
                "O(N), N being the length of the new part and of what must be filled before it",
                "Replaces a part of the string at a key, which grows where it is too short.",
            ),
        Spec::new("incr", 2, "write denyoom fast", "write string fast")
            .keys(Keys::ONE)
            .run(Run::Data(incr))
            .docs("string", "1.0.0", "O(1)", "Adds one to the integer at a key; none counts as 0."),
        Spec::new("decr", 2, "write denyoom fast", "write string fast")
            .keys(Keys::ONE)
            .run(Run::Data(decr))
            .docs("string", "1.0.0", "O(1)", "Takes one from the integer at a key; none counts as 0."),
        Spec::new("incrby", 3, "write denyoom fast", "write string fast")
            .keys(Keys::ONE)
            .run(Run::Data(incrby))
            .docs("string", "1.0.0", "O(1)", "Adds to the integer at a key; none counts as 0."),
        Spec::new("decrby", 3, "write denyoom fast", "write string fast")
            .keys(Keys::ONE)
            .run(Run::Data(decrby))
            .docs("string", "1.0.0", "O(1)", "Takes from the integer at a key; none counts as 0."),
        Spec::new("incrbyfloat", 3, "write denyoom fast", "write string fast")
            .keys(Keys::ONE)
            .run(Run::Data(incrbyfloat))
            .docs(
                "string",
                "2.6.0",
                "O(1)",
                "Adds to the number at a key, with fractions; none counts as 0.",
            ),
    ];

// ---- GET and SET

#[inline]
fn get(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    reply_string(ctx.store, ctx.reply, key);
}

/// Replies the string at `key`, or nothing; false if it is no string.
#[inline]
fn reply_string(store: &mut Store, reply: &mut Reply, key: Key<'_>) -> bool {
    match store.get_str(key) {
        Ok(Some(found)) => reply.value(found),
        Ok(None) => reply.null(),
        Err(error) => {
            reply.error(error);
            return false;
        }
    }
    true
}

/// What the options of SET and GETEX ask for.
#[derive(Default)]
struct Options<'a> {
    nx: bool,
    xx: bool,
    get: bool,
    keep: bool,
    persist: bool,
    expiry: Option<(Unit, &'a [u8])>,
}

/// How an expiry is given.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Unit {
    /// EX: seconds from now.
    Seconds,
    /// PX: milliseconds from now.
    Millis,
    /// EXAT: seconds since 1970.
    SecondsAt,
    /// PXAT: milliseconds since 1970.
    MillisAt,
}

/// The options from argument `from` on. `None` if they make no sense together, or are none of the command.
fn options<'a>(command: &'a Command<'_>, from: usize, is_set: bool) -> Option<Options<'a>> {
    let mut found = Options::default();
    let mut at = from;
    while at < command.len() {
        let word = &command[at];
        let unit = [
            ("ex", Unit::Seconds),
            ("px", Unit::Millis),
            ("exat", Unit::SecondsAt),
            ("pxat", Unit::MillisAt),
        ]
        .into_iter()
        .find_map(|(name, unit)| parse::is(word, name).then_some(unit));
        if let Some(unit) = unit {
            at += 1;
            let is_other = found.expiry.is_some_and(|(before, _)| before != unit);
            if is_other || found.keep || found.persist || at == command.len() {
                return None;
            }
            found.expiry = Some((unit, &command[at]));
        } else if is_set && parse::is(word, "nx") && !found.xx {
            found.nx = true;
        } else if is_set && parse::is(word, "xx") && !found.nx {
            found.xx = true;
        } else if is_set && parse::is(word, "get") {
            found.get = true;
        } else if is_set && parse::is(word, "keepttl") && found.expiry.is_none() {
            found.keep = true;
        } else if !is_set && parse::is(word, "persist") && found.expiry.is_none() {
            found.persist = true;
        } else {
            return None;
        }
        at += 1;
    }
    Some(found)
}

/// The moment an expiry means, or the error that says it means none.
fn moment_or_reply(ctx: &mut Ctx<'_>, name: &str, unit: Unit, text: &[u8]) -> Option<u64> {
    let given = parse::integer_or_reply(ctx.reply, text)?;
    let moment = moment(ctx.store.now().unix_ms, unit, given);
    if moment.is_none() {
        ctx.reply.error(format_args!("ERR invalid expire time in '{name}' command"));
    }
    moment
}

/// In milliseconds since 1970. What is not behind 1970, or does not fit into 63 bits, is none.
fn moment(now: u64, unit: Unit, given: i64) -> Option<u64> {
    let is_seconds = matches!(unit, Unit::Seconds | Unit::SecondsAt);
    let given = if is_seconds { given.checked_mul(1000)? } else { given };
    let start = if matches!(unit, Unit::Seconds | Unit::Millis) { i64::try_from(now).ok()? } else { 0 };
    if given <= 0 {
        return None;
    }
    u64::try_from(start.checked_add(given)?).ok()
}

fn set(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    if command.len() == 3 {
        return done(ctx.store.set_str(key, &command[2], Expiry::Never), ctx.reply);
    }
    let Some(options) = options(command, 3, true) else { return ctx.reply.error(SYNTAX) };
    let expiry = match options.expiry {
        Some((unit, text)) => match moment_or_reply(ctx, "set", unit, text) {
            Some(moment) => Expiry::At(moment),
            None => return,
        },
        None if options.keep => Expiry::Keep,
        None => Expiry::Never,
    };
    let start = ctx.reply.bytes().len();
    if options.get && !reply_string(ctx.store, ctx.reply, key) {
        return;
    }
    if (options.nx || options.xx) && ctx.store.kind(key).is_some() != options.xx {
        if !options.get {
            ctx.reply.null();
        }
        return;
    }
    match ctx.store.set_str(key, &command[2], expiry) {
        Ok(()) if options.get => {}
        Ok(()) => ctx.reply.ok(),
        Err(error) => {
            ctx.reply.truncate(start);
            ctx.reply.error(error);
        }
    }
}

/// `+OK`, or why not.
#[inline]
fn done(result: Result<(), StoreError>, reply: &mut Reply) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn getex(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(options) = options(command, 2, false) else { return ctx.reply.error(SYNTAX) };
    let key = ctx.key(&command[1]);
    match ctx.store.kind(key) {
        Some(crate::services::cache::value::Kind::String) => {}
        // Counts as a miss, and says what is wrong.
        _ => {
            reply_string(ctx.store, ctx.reply, key);
            return;
        }
    }
    let expiry = match options.expiry {
        Some((unit, text)) => match moment_or_reply(ctx, "getex", unit, text) {
            Some(moment) => Some(Some(moment)),
            None => return,
        },
        None => options.persist.then_some(None),
    };
    reply_string(ctx.store, ctx.reply, key);
    match expiry {
        // Nothing was to be taken away: the key does not change, and nobody who watches it is told.
        Some(None) if ctx.store.expires_at(key) == Some(None) => {}
        Some(expires_at) => {
            ctx.store.set_expiry(key, expires_at);
        }
        None => {}
    }
}

fn getdel(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    if reply_string(ctx.store, ctx.reply, key) {
        ctx.store.remove(key);
    }
}

fn getset(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    let start = ctx.reply.bytes().len();
    if !reply_string(ctx.store, ctx.reply, key) {
        return;
    }
    if let Err(error) = ctx.store.set_str(key, &command[2], Expiry::Never) {
        ctx.reply.truncate(start);
        ctx.reply.error(error);
    }
}

fn setex(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    set_expiring(ctx, command, "setex", Unit::Seconds);
}

fn psetex(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    set_expiring(ctx, command, "psetex", Unit::Millis);
}

fn set_expiring(ctx: &mut Ctx<'_>, command: &Command<'_>, name: &str, unit: Unit) {
    let Some(moment) = moment_or_reply(ctx, name, unit, &command[2]) else { return };
    let key = ctx.key(&command[1]);
    done(ctx.store.set_str(key, &command[3], Expiry::At(moment)), ctx.reply);
}

fn setnx(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    if ctx.store.kind(key).is_some() {
        return ctx.reply.integer(0);
    }
    match ctx.store.set_str(key, &command[2], Expiry::Never) {
        Ok(()) => ctx.reply.integer(1),
        Err(error) => ctx.reply.error(error),
    }
}

// ---- several keys

fn mset(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if command.len().is_multiple_of(2) {
        return wrong_arity(ctx.reply, "mset");
    }
    done(set_all(ctx, command), ctx.reply);
}

fn msetnx(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if command.len().is_multiple_of(2) {
        return wrong_arity(ctx.reply, "msetnx");
    }
    for at in (1..command.len()).step_by(2) {
        let key = ctx.key(&command[at]);
        if ctx.store.kind(key).is_some() {
            return ctx.reply.integer(0);
        }
    }
    match set_all(ctx, command) {
        Ok(()) => ctx.reply.integer(1),
        Err(error) => ctx.reply.error(error),
    }
}

fn set_all(ctx: &mut Ctx<'_>, command: &Command<'_>) -> Result<(), StoreError> {
    for at in (1..command.len()).step_by(2) {
        let key = ctx.key(&command[at]);
        ctx.store.set_str(key, &command[at + 1], Expiry::Never)?;
    }
    Ok(())
}

fn mget(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let start = ctx.reply.bytes().len();
    ctx.reply.array(command.len() - 1);
    for at in 1..command.len() {
        let key = ctx.key(&command[at]);
        match ctx.store.get(key) {
            Some(ValueRef::Str(found)) => ctx.reply.value(found),
            _ => ctx.reply.null(),
        }
        // The same long value may be asked for many times.
        if ctx.reply.bytes().len() - start > MGET_LEN_MAX {
            ctx.reply.truncate(start);
            return ctx.reply.error(format_args!(
                "ERR the values have more than {MGET_LEN_MAX} bytes together: ask for fewer keys at once"
            ));
        }
    }
}

// ---- parts of a string

/// Decimal digits of the longest integer, its minus among them.
const INTEGER_LEN_MAX: usize = 20;

/// Does `with` the bytes of a string: a number has some on the stack.
pub(super) fn with_bytes<R>(value: Str<'_>, with: impl FnOnce(&[u8]) -> R) -> R {
    match value {
        Str::Bytes(bytes) => with(bytes),
        Str::Shared(bytes) => with(bytes),
        Str::Int(n) => {
            let mut digits = [0; INTEGER_LEN_MAX];
            let (mut start, mut rest) = (INTEGER_LEN_MAX, n.unsigned_abs());
            while rest > 0 || start == INTEGER_LEN_MAX {
                start -= 1;
                digits[start] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
            if n < 0 {
                start -= 1;
                digits[start] = b'-';
            }
            with(&digits[start..])
        }
    }
}

/// Whether the string at a key may become `len` bytes long. If not, said so: too long for any, or for this store.
pub(super) fn may_have_or_reply(ctx: &mut Ctx<'_>, key: Key<'_>, len: usize) -> bool {
    if len > STRING_LEN_MAX {
        ctx.reply.error(TOO_LONG);
        false
    } else if !ctx.store.has_room_for_string(key, len) {
        // Before the memory is taken, not after.
        ctx.reply.error(StoreError::OutOfMemory);
        false
    } else {
        true
    }
}

/// The string at `key`, before it is changed: the change is the use that counts, and no hit of a read.
pub(super) fn before<'s>(store: &'s mut Store, key: Key<'_>) -> Result<Option<Str<'s>>, StoreError> {
    match store.peek(key) {
        None => Ok(None),
        Some(ValueRef::Str(found)) => Ok(Some(found)),
        Some(_) => Err(StoreError::WrongType),
    }
}

/// Bytes of the string at `key` before it is changed, 0 without a key, or the error that it is no string.
pub(super) fn len_or_reply(ctx: &mut Ctx<'_>, key: Key<'_>) -> Option<usize> {
    match before(ctx.store, key) {
        Ok(found) => Some(found.map_or(0, |value| with_bytes(value, <[u8]>::len))),
        Err(error) => {
            ctx.reply.error(error);
            None
        }
    }
}

fn append(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    let Some(len) = len_or_reply(ctx, key) else { return };
    if !may_have_or_reply(ctx, key, len.saturating_add(command[2].len())) {
        return;
    }
    let appended = ctx.store.edit_str(key, |bytes| {
        bytes.extend_from_slice(&command[2]);
        bytes.len()
    });
    match appended {
        Ok(len) => ctx.reply.count(len),
        Err(error) => ctx.reply.error(error),
    }
}

fn strlen(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    match ctx.store.get_str(key) {
        Ok(found) => ctx.reply.count(found.map_or(0, |value| with_bytes(value, <[u8]>::len))),
        Err(error) => ctx.reply.error(error),
    }
}

fn getrange(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(start) = parse::integer_or_reply(ctx.reply, &command[2]) else { return };
    let Some(end) = parse::integer_or_reply(ctx.reply, &command[3]) else { return };
    let key = ctx.key(&command[1]);
    match ctx.store.get_str(key) {
        Ok(None) => ctx.reply.bulk(b""),
        Ok(Some(Str::Shared(bytes))) => {
            let range = range(start, end, bytes.len());
            ctx.reply.shared(&bytes.slice(range));
        }
        Ok(Some(value)) => with_bytes(value, |bytes| ctx.reply.bulk(&bytes[range(start, end, bytes.len())])),
        Err(error) => ctx.reply.error(error),
    }
}

/// The indexes from `start` to `end`, both among them, of `len`; negative ones count from the end. Cut to what is there.
pub(super) fn range(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    if start < 0 && end < 0 && start > end { 0..0 } else { range_cut(start, end, len) }
}

/// As [`range`], but negative ones in the wrong order are cut before they are compared: BITPOS in Redis does so.
pub(super) fn range_cut(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let place = |index: i64| {
        if index < 0 {
            len.saturating_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX))
        } else {
            usize::try_from(index).unwrap_or(usize::MAX)
        }
    };
    let end = place(end).saturating_add(1).min(len);
    place(start).min(end)..end
}

fn setrange(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(offset) = parse::integer_or_reply(ctx.reply, &command[2]) else { return };
    let Ok(offset) = usize::try_from(offset) else { return ctx.reply.error("ERR offset is out of range") };
    let (key, part) = (ctx.key(&command[1]), &command[3]);
    let Some(len) = len_or_reply(ctx, key) else { return };
    if part.is_empty() {
        return ctx.reply.count(len);
    }
    let end = offset.saturating_add(part.len());
    if !may_have_or_reply(ctx, key, end) {
        return;
    }
    let set = ctx.store.edit_str(key, |bytes| {
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset..end].copy_from_slice(part);
        bytes.len()
    });
    match set {
        Ok(len) => ctx.reply.count(len),
        Err(error) => ctx.reply.error(error),
    }
}

// ---- numbers

fn incr(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    add(ctx, &command[1], 1);
}

fn decr(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    add(ctx, &command[1], -1);
}

fn incrby(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if let Some(by) = parse::integer_or_reply(ctx.reply, &command[2]) {
        add(ctx, &command[1], by);
    }
}

fn decrby(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    match parse::integer_or_reply(ctx.reply, &command[2]).map(i64::checked_neg) {
        Some(Some(by)) => add(ctx, &command[1], by),
        Some(None) => ctx.reply.error("ERR decrement would overflow"),
        None => {}
    }
}

fn add(ctx: &mut Ctx<'_>, key: &[u8], by: i64) {
    let key = ctx.key(key);
    let before = match before(ctx.store, key) {
        Ok(None) => Some(0),
        Ok(Some(Str::Int(n))) => Some(n),
        Ok(Some(value)) => with_bytes(value, parse::integer),
        Err(error) => return ctx.reply.error(error),
    };
    let Some(before) = before else { return ctx.reply.error(parse::NOT_INTEGER) };
    let Some(after) = before.checked_add(by) else { return ctx.reply.error(OVERFLOW) };
    match ctx.store.set_int(key, after, Expiry::Keep) {
        Ok(()) => ctx.reply.integer(after),
        Err(error) => ctx.reply.error(error),
    }
}

fn incrbyfloat(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    let before = match before(ctx.store, key) {
        Ok(None) => Some(Extended::default()),
        Ok(Some(value)) => with_bytes(value, Extended::parse),
        Err(error) => return ctx.reply.error(error),
    };
    let (Some(before), Some(by)) = (before, Extended::parse(&command[2])) else {
        return ctx.reply.error(parse::NOT_FLOAT);
    };
    let Some(text) = before.plus(by).text() else {
        return ctx.reply.error("ERR increment would produce NaN or Infinity");
    };
    match ctx.store.set_str(key, text.as_bytes(), Expiry::Keep) {
        Ok(()) => ctx.reply.bulk(text.as_bytes()),
        Err(error) => ctx.reply.error(error),
    }
}
