//! Commands on keys, whatever their values are.
//!
//! Not here: SCAN and RANDOMKEY as a whole, which go over shards (the connection): [`scan_part`] is what one shard does.

use corelane_proto_resp::Command;

use crate::services::cache::command::parse::{self, NO_SUCH_KEY, SYNTAX};
use crate::services::cache::command::scan::Options;
use crate::services::cache::command::{Ctx, Gather, Keys, Reply, Run, Spec, describe};
use crate::services::cache::glob;
use crate::services::cache::store::{Eviction, Expiry, Exported, Store};
use crate::services::cache::value::{Kind, Str, Value, ValueRef, codec};

/// Keys that one call of SCAN looks at, at most, whatever its COUNT: some 1 ms of a shard's time.
pub const SCAN_COUNT_MAX: usize = 10_000;

/// Bytes of a string up to which Redis keeps it in one piece with its head: `embstr`.
const EMBEDDED_LEN_MAX: usize = 44;

const LINEAR: &str = "O(N), N being the number of keys";
const SIZE: &str = "O(N), N being the size of the value";
const SECOND: Keys = Keys::Range { first: 2, last: 2, step: 1 };

const fn one(name: &'static str, arity: i32, flags: &str, categories: &str, run: Run) -> Spec {
    Spec::new(name, arity, flags, categories).keys(Keys::ONE).run(run)
}

const fn many(name: &'static str, flags: &str, categories: &str, run: Run) -> Spec {
    Spec::new(name, -2, flags, categories).keys(Keys::ALL).run(run)
}

/// The table of these commands.
pub const TABLE: &[Spec] =
    &[
        many("del", "write", "keyspace write slow", Run::Split(del, Gather::Sum)).docs(
            "generic",
            "1.0.0",
            LINEAR,
            "Removes keys.",
        ),
        many("unlink", "write fast", "keyspace write fast", Run::Split(del, Gather::Sum)).docs(
            "generic",
            "4.0.0",
            LINEAR,
            "Removes keys. What they held is freed bit by bit.",
        ),
        many("exists", "readonly fast", "keyspace read fast", Run::Split(exists, Gather::Sum)).docs(
            "generic",
            "1.0.0",
            LINEAR,
            "Counts those of the keys that exist.",
        ),
        many("touch", "readonly fast", "keyspace read fast", Run::Split(touch, Gather::Sum)).docs(
            "generic",
            "3.2.1",
            LINEAR,
            "Counts a use of each key, and how many of them exist.",
        ),
        one("expire", -3, "write fast", "keyspace write fast", Run::Data(expire)).docs(
            "generic",
            "1.0.0",
            "O(1)",
            "Lets a key expire after some seconds.",
        ),
        one("pexpire", -3, "write fast", "keyspace write fast", Run::Data(pexpire)).docs(
            "generic",
            "2.6.0",
            "O(1)",
            "Lets a key expire after some milliseconds.",
        ),
        one("expireat", -3, "write fast", "keyspace write fast", Run::Data(expireat)).docs(
            "generic",
            "1.2.0",
            "O(1)",
            "Lets a key expire at a moment in seconds since 1970.",
        ),
        one("pexpireat", -3, "write fast", "keyspace write fast", Run::Data(pexpireat)).docs(
            "generic",
            "2.6.0",
            "O(1)",
            "Lets a key expire at a moment in milliseconds since 1970.",
        ),
        one("ttl", 2, "readonly fast", "keyspace read fast", Run::Data(ttl)).docs(
            "generic",
            "1.0.0",
            "O(1)",
            "Replies in how many seconds a key expires.",
        ),
        one("pttl", 2, "readonly fast", "keyspace read fast", Run::Data(pttl)).docs(
            "generic",
            "2.6.0",
            "O(1)",
            "Replies in how many milliseconds a key expires.",
        ),
        one("expiretime", 2, "readonly fast", "keyspace read fast", Run::Data(expiretime)).docs(
            "generic",
            "7.0.0",
            "O(1)",
            "Replies at which second since 1970 a key expires.",
        ),
        one("pexpiretime", 2, "readonly fast", "keyspace read fast", Run::Data(pexpiretime)).docs(
            "generic",
            "7.0.0",
            "O(1)",
            "Replies at which millisecond since 1970 a key expires.",
        ),
        one("persist", 2, "write fast", "keyspace write fast", Run::Data(persist)).docs(
            "generic",
            "2.2.0",
            "O(1)",
            "Lets a key expire no more.",
        ),
        one("type", 2, "readonly fast", "keyspace read fast", Run::Data(kind)).docs(
            "generic",
            "1.0.0",
            "O(1)",
            "Replies the kind of value at a key.",
        ),
        Spec::new("rename", 3, "write", "keyspace write slow").keys(Keys::TWO).run(Run::Data(rename)).docs(
            "generic",
            "1.0.0",
            "O(1)",
            "Gives a key another name, whatever was there.",
        ),
        Spec::new("renamenx", 3, "write fast", "keyspace write fast")
            .keys(Keys::TWO)
            .run(Run::Data(renamenx))
            .docs("generic", "1.0.0", "O(1)", "Gives a key another name that does not exist."),
        Spec::new("copy", -3, "write denyoom", "keyspace write slow")
            .keys(Keys::TWO)
            .run(Run::Data(copy))
            .docs("generic", "6.2.0", SIZE, "Copies a key with its value and expiry to another one."),
        Spec::new("keys", 2, "readonly", "keyspace read slow dangerous")
            .run(Run::All(keys, Gather::Concat))
            .docs(
                "generic",
                "1.0.0",
                "O(N), N being the number of all keys",
                "Replies all keys that match a pattern, in one go: SCAN stops nobody else for so long.",
            ),
        Spec::new("dbsize", 1, "readonly fast", "keyspace read fast")
            .run(Run::All(dbsize, Gather::Sum))
            .docs("server", "1.0.0", "O(1)", "Counts all keys."),
        Spec::new("flushdb", -1, "write", "keyspace write slow dangerous")
            .run(Run::All(flush, Gather::Ok))
            .docs("server", "1.0.0", "O(1); what they held is freed bit by bit", "Removes all keys."),
        Spec::new("flushall", -1, "write", "keyspace write slow dangerous")
            .run(Run::All(flush, Gather::Ok))
            .docs("server", "1.0.0", "O(1); what they held is freed bit by bit", "Removes all keys."),
        one("dump", 2, "readonly", "keyspace read slow", Run::Data(dump)).docs(
            "generic",
            "2.6.0",
            SIZE,
            "Replies the value at a key as bytes that RESTORE takes.",
        ),
        one("restore", -4, "write denyoom", "keyspace write slow dangerous", Run::Data(restore)).docs(
            "generic",
            "2.6.0",
            SIZE,
            "Makes a key of the bytes that DUMP gave.",
        ),
        Spec::new("object", -2, "", "slow")
            .run(Run::Data(object_help))
            .docs(
                "generic",
                "2.2.3",
                "that of the subcommand",
                "What there is to know of a value beside itself.",
            )
            .with(OBJECT),
    ];

const OBJECT: &[Spec] = &[
    Spec::new("object|encoding", 3, "readonly", "keyspace read slow")
        .keys(SECOND)
        .run(Run::Data(object_encoding))
        .docs("generic", "2.2.3", "O(1)", "Replies the form in which Redis would keep the value."),
    Spec::new("object|freq", 3, "readonly", "keyspace read slow")
        .keys(SECOND)
        .run(Run::Data(object_freq))
        .docs("generic", "4.0.0", "O(1)", "Replies how often a key is used: a logarithm, from 0 to 255."),
    Spec::new("object|help", 2, "loading stale", "keyspace slow").run(Run::Data(object_help)).docs(
        "generic",
        "6.2.0",
        "O(1)",
        "Replies these lines.",
    ),
    Spec::new("object|idletime", 3, "readonly", "keyspace read slow")
        .keys(SECOND)
        .run(Run::Data(object_idletime))
        .docs("generic", "2.2.3", "O(1)", "Replies for how many seconds a key was not used."),
    Spec::new("object|refcount", 3, "readonly", "keyspace read slow")
        .keys(SECOND)
        .run(Run::Data(object_refcount))
        .docs("generic", "2.2.3", "O(1)", "Replies how many share the value: one."),
];

// ---- there or not

fn counted(ctx: &mut Ctx<'_>, command: &Command<'_>, mut counts: impl FnMut(&mut Ctx<'_>, &[u8]) -> bool) {
    let mut count = 0;
    for at in 1..command.len() {
        count += usize::from(counts(ctx, &command[at]));
    }
    ctx.reply.count(count);
}

fn del(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    counted(ctx, command, |ctx, key| ctx.store.remove(ctx.key(key)));
}

fn exists(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    counted(ctx, command, |ctx, key| ctx.store.kind(ctx.key(key)).is_some());
}

fn touch(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    counted(ctx, command, |ctx, key| ctx.store.get(ctx.key(key)).is_some());
}

fn kind(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let kind = ctx.store.kind(ctx.key(&command[1]));
    ctx.reply.write().simple(kind.map_or("none", Kind::name).as_bytes());
}

fn dbsize(ctx: &mut Ctx<'_>, _: &Command<'_>) {
    ctx.reply.count(ctx.store.len());
}

fn flush(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let takes = |word| parse::is(word, "sync") || parse::is(word, "async");
    if command.len() > 2 || !command.get(1).is_none_or(takes) {
        return ctx.reply.error(SYNTAX);
    }
    ctx.store.clear();
    ctx.reply.ok();
}

// ---- expiry

fn expire(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let now = now(ctx);
    set_expiry(ctx, command, "expire", now, 1000);
}

fn pexpire(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let now = now(ctx);
    set_expiry(ctx, command, "pexpire", now, 1);
}

fn expireat(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    set_expiry(ctx, command, "expireat", 0, 1000);
}

fn pexpireat(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    set_expiry(ctx, command, "pexpireat", 0, 1);
}

fn now(ctx: &Ctx<'_>) -> i64 {
    i64::try_from(ctx.store.now().unix_ms).unwrap_or(i64::MAX)
}

/// When an expiry may be set, by the one before.
#[derive(Clone, Copy, Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn of_or_reply(reply: &mut Reply, command: &Command<'_>) -> Option<Conditions> {
        let mut found = Conditions::default();
        for word in command.iter().skip(3) {
            match word {
                _ if parse::is(word, "nx") => found.nx = true,
                _ if parse::is(word, "xx") => found.xx = true,
                _ if parse::is(word, "gt") => found.gt = true,
                _ if parse::is(word, "lt") => found.lt = true,
                _ => {
                    reply.error_about("ERR Unsupported option ", word, "");
                    return None;
                }
            }
        }
        if found.nx && (found.xx || found.gt || found.lt) {
            reply.error("ERR NX and XX, GT or LT options at the same time are not compatible");
            return None;
        }
        if found.gt && found.lt {
            reply.error("ERR GT and LT options at the same time are not compatible");
            return None;
        }
        Some(found)
    }

    /// Whether `moment` may follow `before`; no expiry counts as one that is never reached.
    fn allow(self, before: Option<i64>, moment: i64) -> bool {
        !(self.nx && before.is_some()
            || self.xx && before.is_none()
            || self.gt && before.is_none_or(|before| moment <= before)
            || self.lt && before.is_some_and(|before| moment >= before))
    }
}

fn set_expiry(ctx: &mut Ctx<'_>, command: &Command<'_>, name: &str, start: i64, unit: i64) {
    let Some(conditions) = Conditions::of_or_reply(ctx.reply, command) else { return };
    let Some(given) = parse::integer_or_reply(ctx.reply, &command[2]) else { return };
    // Redis looks at the upper end only: what is far below zero is over already.
    let moment = given.checked_mul(unit).filter(|given| *given <= i64::MAX - start);
    let Some(moment) = moment.map(|given| given.saturating_add(start)) else {
        return ctx.reply.error(format_args!("ERR invalid expire time in '{name}' command"));
    };
    let key = ctx.key(&command[1]);
    let Some(before) = ctx.store.expires_at(key) else { return ctx.reply.integer(0) };
    if !conditions.allow(before.and_then(|before| i64::try_from(before).ok()), moment) {
        return ctx.reply.integer(0);
    }
    match u64::try_from(moment) {
        Ok(moment) if moment > ctx.store.now().unix_ms => ctx.store.set_expiry(key, Some(moment)),
        _ => ctx.store.remove(key),
    };
    ctx.reply.integer(1);
}

fn ttl(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let now = ctx.store.now().unix_ms;
    reply_expiry(ctx, command, |at| (at.saturating_sub(now) + 500) / 1000);
}

fn pttl(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let now = ctx.store.now().unix_ms;
    reply_expiry(ctx, command, |at| at.saturating_sub(now));
}

fn expiretime(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_expiry(ctx, command, |at| (at + 500) / 1000);
}

fn pexpiretime(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_expiry(ctx, command, |at| at);
}

/// Replies -2 without a key, -1 without an expiry.
fn reply_expiry(ctx: &mut Ctx<'_>, command: &Command<'_>, as_asked: impl FnOnce(u64) -> u64) {
    let value = match ctx.store.expires_at(ctx.key(&command[1])) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => i64::try_from(as_asked(at)).unwrap_or(i64::MAX),
    };
    ctx.reply.integer(value);
}

fn persist(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    let had = ctx.store.expires_at(key).flatten().is_some() && ctx.store.set_expiry(key, None);
    ctx.reply.integer(i64::from(had));
}

// ---- names

fn rename(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    move_key(ctx, command, false);
}

fn renamenx(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    move_key(ctx, command, true);
}

fn move_key(ctx: &mut Ctx<'_>, command: &Command<'_>, only_new: bool) {
    let (from, to) = (ctx.key(&command[1]), ctx.key(&command[2]));
    let done = |reply: &mut Reply, renamed: bool| match (only_new, renamed) {
        (true, _) => reply.integer(i64::from(renamed)),
        (false, _) => reply.ok(),
    };
    if ctx.store.kind(from).is_none() {
        return ctx.reply.error(NO_SUCH_KEY);
    }
    if from.bytes == to.bytes || (only_new && ctx.store.kind(to).is_some()) {
        return done(ctx.reply, false);
    }
    let Some(Exported { value, expires_at }) = ctx.store.take(from) else { return };
    // It was here a moment ago, so that only a longer name can make it too much: then it is lost, and that is said.
    match ctx.store.insert(to, value, expiry(expires_at)) {
        Ok(()) => done(ctx.reply, true),
        Err(error) => ctx.reply.error(error),
    }
}

fn expiry(expires_at: Option<u64>) -> Expiry {
    expires_at.map_or(Expiry::Never, Expiry::At)
}

fn copy(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (mut replace, mut at) = (false, 3);
    while let Some(word) = command.get(at) {
        match command.get(at + 1) {
            _ if parse::is(word, "replace") => replace = true,
            Some(number) if parse::is(word, "db") => {
                let (min, max) = (i64::from(i32::MIN), i64::from(i32::MAX));
                let Some(number) = parse::within_or_reply(ctx.reply, number, min, max, None) else { return };
                if number != 0 {
                    return ctx.reply.error("ERR DB index is out of range");
                }
                at += 1;
            }
            _ => return ctx.reply.error(SYNTAX),
        }
        at += 1;
    }
    let (from, to) = (ctx.key(&command[1]), ctx.key(&command[2]));
    if from.bytes == to.bytes {
        return ctx.reply.error("ERR source and destination objects are the same");
    }
    if ctx.store.kind(from).is_none() || (!replace && ctx.store.kind(to).is_some()) {
        return ctx.reply.integer(0);
    }
    let Some(Exported { value, expires_at }) = ctx.store.export(from) else { return ctx.reply.integer(0) };
    match ctx.store.insert(to, value, expiry(expires_at)) {
        Ok(()) => ctx.reply.integer(1),
        Err(error) => ctx.reply.error(error),
    }
}

// ---- all keys

fn keys(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let pattern = &command[1];
    let (begun, mut count, mut cursor) = (ctx.reply.array_later(), 0, 0);
    loop {
        cursor = ctx.store.scan(cursor, SCAN_COUNT_MAX, |key, _| {
            if pattern == b"*" || glob::matches(pattern, key) {
                ctx.reply.bulk(key);
                count += 1;
            }
        });
        if cursor == 0 {
            break;
        }
    }
    ctx.reply.end_array(begun, count);
}

/// What SCAN does on one shard: appends the keys that are asked for, each as a string, from `cursor` on. Gives the next
/// cursor of this shard, 0 at its end, and how many keys there were.
///
/// Looks at about as many keys as COUNT says, at most [`SCAN_COUNT_MAX`].
pub fn scan_part(store: &mut Store, cursor: u64, options: &Options<'_>, reply: &mut Reply) -> (u64, usize) {
    let mut count = 0;
    let next = store.scan(cursor, options.count.min(SCAN_COUNT_MAX), |key, value| {
        if options.takes(key) && options.takes_kind(value.kind()) {
            reply.bulk(key);
            count += 1;
        }
    });
    (next, count)
}

// ---- as bytes

fn dump(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    let Some(value) = ctx.store.peek(key) else { return ctx.reply.null() };
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    codec::seal(&mut bytes);
    ctx.reply.shared(&bytes.into());
}

/// Whether RESTORE has REPLACE and ABSTTL.
fn restore_options(reply: &mut Reply, command: &Command<'_>) -> Option<(bool, bool)> {
    let (mut replace, mut absolute, mut idle, mut often) = (false, false, false, false);
    let mut at = 4;
    while let Some(word) = command.get(at) {
        match command.get(at + 1) {
            _ if parse::is(word, "replace") => replace = true,
            _ if parse::is(word, "absttl") => absolute = true,
            Some(number) if parse::is(word, "idletime") && !often => {
                if parse::integer_or_reply(reply, number)? < 0 {
                    reply.error("ERR Invalid IDLETIME value, must be >= 0");
                    return None;
                }
                (idle, at) = (true, at + 1);
            }
            Some(number) if parse::is(word, "freq") && !idle => {
                if !(0..=255).contains(&parse::integer_or_reply(reply, number)?) {
                    reply.error("ERR Invalid FREQ value, must be >= 0 and <= 255");
                    return None;
                }
                (often, at) = (true, at + 1);
            }
            _ => {
                reply.error(SYNTAX);
                return None;
            }
        }
        at += 1;
    }
    Some((replace, absolute))
}

fn restore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((replace, absolute)) = restore_options(ctx.reply, command) else { return };
    let key = ctx.key(&command[1]);
    if !replace && ctx.store.kind(key).is_some() {
        return ctx.reply.error("BUSYKEY Target key name already exists.");
    }
    let Some(ttl) = parse::integer_or_reply(ctx.reply, &command[2]) else { return };
    let Ok(ttl) = u64::try_from(ttl) else {
        return ctx.reply.error("ERR Invalid TTL value, must be >= 0");
    };
    let Some(bytes) = codec::open(&command[3]) else {
        return ctx.reply.error("ERR DUMP payload version or checksum are wrong");
    };
    let Some(value) = Value::decode(bytes) else { return ctx.reply.error("ERR Bad data format") };
    let now = ctx.store.now().unix_ms;
    let moment = if absolute { ttl } else { now.saturating_add(ttl) };
    if ttl != 0 && moment <= now {
        ctx.store.remove(key);
        return ctx.reply.ok();
    }
    let expiry = if ttl == 0 { Expiry::Never } else { Expiry::At(moment) };
    match ctx.store.insert(key, value, expiry) {
        Ok(()) => ctx.reply.ok(),
        Err(error) => ctx.reply.error(error),
    }
}

// ---- OBJECT

fn object_help(ctx: &mut Ctx<'_>, _: &Command<'_>) {
    describe::help(ctx.reply, "OBJECT", OBJECT);
}

fn object_encoding(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    match ctx.store.peek(ctx.key(&command[2])) {
        None => ctx.reply.null(),
        Some(value) => ctx.reply.bulk(encoding(value).as_bytes()),
    }
}

/// The form in which Redis 7.0 would keep such a value under its default settings. Of collections only the number of
/// elements is looked at, not their sizes.
fn encoding(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Str(Str::Int(_)) => "int",
        ValueRef::Str(Str::Bytes(bytes)) if bytes.len() <= EMBEDDED_LEN_MAX => "embstr",
        ValueRef::Str(Str::Shared(bytes)) if bytes.len() <= EMBEDDED_LEN_MAX => "embstr",
        ValueRef::Str(_) => "raw",
        ValueRef::Hash(one) => one.encoding(),
        ValueRef::Set(one) => one.encoding(),
        ValueRef::List(one) => one.encoding(),
        ValueRef::SortedSet(one) => one.encoding(),
    }
}

/// MEMORY USAGE. SAMPLES is taken and makes no difference: the store counts as it goes.
pub(in crate::services::cache::command) fn memory_usage(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if command.len() > 3 {
        let samples = command.get(4).filter(|_| command.len() == 5 && parse::is(&command[3], "samples"));
        let Some(samples) = samples else { return ctx.reply.error(parse::SYNTAX) };
        match parse::integer_or_reply(ctx.reply, samples) {
            None => return,
            Some(..=-1) => return ctx.reply.error(parse::SYNTAX),
            Some(_) => {}
        }
    }
    match ctx.store.memory_usage(ctx.key(&command[2])) {
        Some(bytes) => ctx.reply.count(bytes),
        None => ctx.reply.null(),
    }
}

fn object_refcount(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    match ctx.store.kind(ctx.key(&command[2])) {
        None => ctx.reply.null(),
        Some(_) => ctx.reply.integer(1),
    }
}

fn object_freq(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(often) = ctx.store.frequency(ctx.key(&command[2])) else { return ctx.reply.null() };
    if ctx.store.config().eviction != Eviction::Lfu {
        return ctx.reply.error(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
        );
    }
    ctx.reply.integer(i64::from(often));
}

fn object_idletime(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(idle_ms) = ctx.store.idle_ms(ctx.key(&command[2])) else { return ctx.reply.null() };
    if ctx.store.config().eviction == Eviction::Lfu {
        return ctx.reply.error(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        );
    }
    ctx.reply.integer(i64::try_from(idle_ms / 1000).unwrap_or(i64::MAX));
}
