//! Commands on sets.
//!
//! Those on several sets look at one after the other, with what is left so far in their hands: no more than the smallest
//! set for SINTER, the first one for SDIFF, all members for SUNION.
//!
//! # Rules
//! 1. The kinds of all keys are looked at before anything is done: a key of another kind is an error, even if the result
//!    would not depend on it.
//!
//! Not here: how members are kept (`value`).

use corelane_base::Rng;
use corelane_proto_resp::Command;

use super::hashes::page;
use super::picks;
use crate::services::cache::command::parse::{self, SYNTAX};
use crate::services::cache::command::scan::{self, Scanned};
use crate::services::cache::command::{Ctx, Keys, Reply, Run, Spec};
use crate::services::cache::store::{Edit, Expiry, Key, Store, StoreError};
use crate::services::cache::value::{Collection, Kind, Set, Value};

type Runs = fn(&mut Ctx<'_>, &Command<'_>);

const fn reading(name: &'static str, arity: i32, is_fast: bool, keys: Keys, run: Runs) -> Spec {
    let (flags, categories) =
        if is_fast { ("readonly fast", "read set fast") } else { ("readonly", "read set slow") };
    Spec::new(name, arity, flags, categories).keys(keys).run(Run::Data(run))
}

/// One that changes members of the sets named.
const fn changing(name: &'static str, arity: i32, flags: &str, keys: Keys, run: Runs) -> Spec {
    Spec::new(name, arity, flags, "write set fast").keys(keys).run(Run::Data(run))
}

/// One that makes a set of others.
const fn storing(name: &'static str, run: Runs) -> Spec {
    Spec::new(name, -3, "write denyoom", "write set slow").keys(Keys::ALL).run(Run::Data(run))
}

const PER_MEMBER: &str = "O(N), N being the number of members named";
const PER_PICK: &str = "O(1), or O(N) for N members";
const INTER: &str = "O(N*M), N being the number of members of the smallest set, M the number of sets";
const ALL: &str = "O(N), N being the number of members of all sets";
const SCAN: &str = "O(1) for each call, O(N) for all of a set of N members";

/// The table of these commands.
pub const TABLE: &[Spec] = &[
    changing("sadd", -3, "write denyoom fast", Keys::ONE, sadd).docs(
        "set",
        "1.0.0",
        PER_MEMBER,
        "Puts members into a set.",
    ),
    changing("srem", -3, "write fast", Keys::ONE, srem).docs(
        "set",
        "1.0.0",
        PER_MEMBER,
        "Removes members, and the set with the last one.",
    ),
    changing("spop", -2, "write fast", Keys::ONE, spop).docs(
        "set",
        "1.0.0",
        PER_PICK,
        "Removes members at random and replies them.",
    ),
    changing("smove", 4, "write fast", Keys::TWO, smove).docs(
        "set",
        "1.0.0",
        "O(1)",
        "Moves a member from one set to another.",
    ),
    reading("smembers", 2, false, Keys::ONE, smembers).docs(
        "set",
        "1.0.0",
        "O(N), N being the number of members",
        "Replies all members.",
    ),
    reading("sismember", 3, true, Keys::ONE, sismember).docs(
        "set",
        "1.0.0",
        "O(1)",
        "Replies whether a set has a member.",
    ),
    reading("smismember", -3, true, Keys::ONE, smismember).docs(
        "set",
        "6.2.0",
        PER_MEMBER,
        "Replies which of some members a set has.",
    ),
    reading("scard", 2, true, Keys::ONE, scard).docs(
        "set",
        "1.0.0",
        "O(1)",
        "Replies the number of members.",
    ),
    reading("srandmember", -2, false, Keys::ONE, srandmember).docs(
        "set",
        "1.0.0",
        PER_PICK,
        "Replies members at random.",
    ),
    reading("sscan", -3, false, Keys::ONE, sscan).docs(
        "set",
        "2.8.0",
        SCAN,
        "Goes through a set, some members at a time.",
    ),
    reading("sinter", -2, false, Keys::ALL, sinter).docs(
        "set",
        "1.0.0",
        INTER,
        "Replies the members that all of some sets have.",
    ),
    Spec::new("sintercard", -3, "readonly movablekeys", "read set slow")
        .keys(Keys::Counted { count: 1, also: 0 })
        .run(Run::Data(sintercard))
        .docs("set", "7.0.0", INTER, "Replies how many members all of some sets have."),
    reading("sunion", -2, false, Keys::ALL, sunion).docs(
        "set",
        "1.0.0",
        ALL,
        "Replies the members that any of some sets has.",
    ),
    reading("sdiff", -2, false, Keys::ALL, sdiff).docs(
        "set",
        "1.0.0",
        ALL,
        "Replies the members of a set that none of some others has.",
    ),
    storing("sinterstore", sinterstore).docs("set", "1.0.0", INTER, "Keeps what SINTER would reply."),
    storing("sunionstore", sunionstore).docs("set", "1.0.0", ALL, "Keeps what SUNION would reply."),
    storing("sdiffstore", sdiffstore).docs("set", "1.0.0", ALL, "Keeps what SDIFF would reply."),
];

/// For a set with more members than can be counted.
const FULL: &str = "ERR the set has 4294967295 members, and no more can be put in: use several keys";

/// The set at the key of the command; `None` if it has another kind of value, which is replied.
#[inline]
fn find<'c>(ctx: &'c mut Ctx<'_>, command: &Command<'_>) -> Option<(Option<&'c Set>, &'c mut Reply)> {
    let key = ctx.key(&command[1]);
    match ctx.store.get_collection::<Set>(key) {
        Ok(set) => Some((set, &mut *ctx.reply)),
        Err(error) => {
            ctx.reply.error(error);
            None
        }
    }
}

// ---- members of one set

fn sadd(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    let added = ctx.store.edit_or_insert::<Set, _>(key, |set| {
        if set.len() > Set::MEMBERS_MAX - command.len() {
            return None;
        }
        let added = command.iter().skip(2).filter(|member| set.insert(member)).count();
        if added == 0 {
            set.unchanged();
        }
        Some(added)
    });
    match added {
        Ok(Some(added)) => ctx.reply.count(added),
        Ok(None) => ctx.reply.error(FULL),
        Err(error) => ctx.reply.error(error),
    }
}

fn srem(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    let removed = ctx.store.edit::<Set, _>(key, |set| {
        let removed = command.iter().skip(2).filter(|member| set.remove(member)).count();
        if removed == 0 {
            set.unchanged();
        }
        removed
    });
    match removed {
        Ok(removed) => ctx.reply.count(removed.unwrap_or(0)),
        Err(error) => ctx.reply.error(error),
    }
}

fn smove(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (from, to, member) = (ctx.key(&command[1]), ctx.key(&command[2]), &command[3]);
    match smove_between(ctx.store, from, to, member) {
        Ok(Some(is_moved)) => ctx.reply.count(usize::from(is_moved)),
        Ok(None) => ctx.reply.error(FULL),
        Err(error) => ctx.reply.error(error),
    }
}

/// Whether there was such a member; `None` if there is no room for it.
fn smove_between(
    store: &mut Store,
    from: Key<'_>,
    to: Key<'_>,
    member: &[u8],
) -> Result<Option<bool>, StoreError> {
    let Some(has) = store.get_collection::<Set>(from)?.map(|set| set.contains(member)) else {
        return Ok(Some(false));
    };
    if store.kind(to).is_some_and(|kind| kind != Kind::Set) {
        return Err(StoreError::WrongType);
    }
    if !has || from.bytes == to.bytes {
        return Ok(Some(has));
    }
    // First in, then out: where the former is refused, nothing is lost.
    let has_room = store.edit_or_insert::<Set, _>(to, |set| {
        let has_room = set.len() < Set::MEMBERS_MAX || set.contains(member);
        if !set.insert(member) {
            set.unchanged();
        }
        has_room
    })?;
    if has_room {
        store.edit::<Set, _>(from, |set| set.remove(member))?;
    }
    Ok(has_room.then_some(true))
}

fn sismember(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((set, reply)) = find(ctx, command) else { return };
    reply.count(usize::from(set.is_some_and(|set| set.contains(&command[2]))));
}

fn smismember(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((set, reply)) = find(ctx, command) else { return };
    reply.array(command.len() - 2);
    for member in command.iter().skip(2) {
        reply.count(usize::from(set.is_some_and(|set| set.contains(member))));
    }
}

fn scard(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((set, reply)) = find(ctx, command) else { return };
    reply.count(set.map_or(0, Set::len));
}

fn smembers(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((set, reply)) = find(ctx, command) else { return };
    reply.write().set(set.map_or(0, Set::len));
    set.into_iter().flat_map(Set::iter).for_each(|member| reply.bulk(&member));
}

fn sscan(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(cursor) = scan::cursor_or_reply(ctx.reply, &command[2]) else { return };
    let Some((set, reply)) = find(ctx, command) else { return };
    let Some(set) = set else { return page(reply, |_| (0, 0)) };
    let Some(options) = scan::options_or_reply(reply, command, 3, Scanned::Members) else { return };
    page(reply, |reply| {
        let mut count = 0;
        let next = set.scan(cursor, options.count, |member| {
            if options.takes(member) {
                reply.bulk(member);
                count += 1;
            }
        });
        (next, count)
    });
}

// ---- at random

fn spop(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (key, mut rng) = (ctx.key(&command[1]), Rng::new(ctx.random));
    let count = match (command.get(2), command.len()) {
        (None, _) => None,
        (Some(text), 3) => match parse::positive_or_reply(ctx.reply, text) {
            Some(count) => Some(usize::try_from(count).unwrap_or(usize::MAX)),
            None => return,
        },
        _ => return ctx.reply.error(SYNTAX),
    };
    let reply = &mut *ctx.reply;
    let popped = ctx.store.edit::<Set, _>(key, |set| {
        let count = count.map(|count| count.min(set.len()));
        if let Some(count) = count {
            reply.write().set(count);
        }
        if let Some(count) = count.filter(|count| set.len() - count <= count / 5) {
            // It is less work to take out what stays, in the form it needs by itself (Redis does so from the same share on).
            let mut rest = Set::default();
            for _ in count..set.len() {
                let Some(member) = take_any(set, &mut rng) else { break };
                rest.insert(&member);
            }
            set.iter().for_each(|member| reply.bulk(&member));
            **set = rest;
            return;
        }
        for _ in 0..count.unwrap_or(1) {
            let Some(member) = take_any(set, &mut rng) else { break };
            reply.bulk(&member);
        }
    });
    match (popped, count) {
        (Ok(Some(())), _) => {}
        (Ok(None), None) => ctx.reply.null(),
        (Ok(None), Some(_)) => ctx.reply.write().set(0),
        (Err(error), _) => ctx.reply.error(error),
    }
}

/// Takes any member out, each as likely as the others.
fn take_any(set: &mut Edit<'_, Set>, rng: &mut Rng) -> Option<Vec<u8>> {
    let member = set.nth(rng.index(set.len().max(1)))?.to_vec();
    set.remove(&member);
    Some(member)
}

fn srandmember(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let mut rng = Rng::new(ctx.random);
    let count = match (command.get(2), command.len()) {
        (None, _) => None,
        (Some(text), 3) => match parse::within_or_reply(ctx.reply, text, -i64::MAX, i64::MAX, None) {
            Some(count) => Some(count),
            None => return,
        },
        _ => return ctx.reply.error(SYNTAX),
    };
    let Some((set, reply)) = find(ctx, command) else { return };
    let member = |reply: &mut Reply, set: &Set, number| {
        if let Some(member) = set.nth(number) {
            reply.bulk(&member);
        }
    };
    match (set, count) {
        (Some(set), None) => member(reply, set, rng.index(set.len().max(1))),
        (None, None) => reply.null(),
        (Some(set), Some(count @ 1..)) => {
            let numbers = picks::different(&mut rng, set.len(), usize::try_from(count).unwrap_or(usize::MAX));
            reply.array(numbers.len());
            numbers.into_iter().for_each(|number| member(reply, set, number));
        }
        (Some(set), Some(count @ ..=-1)) => repeated(set, &mut rng, reply, count),
        (_, Some(_)) => reply.array(0),
    }
}

/// `count` members, below 0, any of which may be there more than once.
fn repeated(set: &Set, rng: &mut Rng, reply: &mut Reply, count: i64) {
    if count.unsigned_abs() > picks::REPEATED_MAX {
        return reply.error(picks::TOO_MANY);
    }
    let (count, start) = (usize::try_from(count.unsigned_abs()).unwrap_or(0), reply.bytes().len());
    // To find one of a small set is to go through it: once is enough.
    let small: Vec<_> = if set.len() <= picks::SMALL { set.iter().collect() } else { Vec::new() };
    reply.array(count);
    for _ in 0..count {
        let number = rng.index(set.len().max(1));
        if let Some(member) = small.get(number).copied().or_else(|| set.nth(number)) {
            reply.bulk(&member);
        }
        if reply.bytes().len() - start > picks::REPEATED_LEN_MAX {
            reply.truncate(start);
            return reply.error(picks::TOO_MANY);
        }
    }
}

// ---- several sets

/// Members that are in hand at a time while they are looked for in other sets.
const BATCH: usize = 1024;

/// How many members each set has, 0 without such a key (rule 1).
fn lens(store: &mut Store, keys: &[Key<'_>]) -> Result<Vec<usize>, StoreError> {
    keys.iter().map(|key| Ok(store.get_collection::<Set>(*key)?.map_or(0, Set::len))).collect()
}

/// The set at a key that was looked at before.
fn again<'s>(store: &'s mut Store, key: Key<'_>) -> Option<&'s Set> {
    store.peek(key).and_then(Set::from_ref)
}

/// Gives `each` the members of the set at `keys[first]` that all other sets have, or that none of them has, until it
/// wants no more.
fn sift(store: &mut Store, keys: &[Key<'_>], first: usize, has: bool, mut each: impl FnMut(&[u8]) -> bool) {
    let mut start = 0;
    loop {
        let Some(set) = again(store, keys[first]) else { return };
        let numbers = start..set.len().min(start + BATCH);
        let mut batch: Vec<Vec<u8>> = numbers.filter_map(|n| Some(set.nth(n)?.to_vec())).collect();
        if batch.is_empty() {
            return;
        }
        for (_, key) in keys.iter().enumerate().filter(|(n, _)| *n != first) {
            match again(store, *key) {
                Some(other) => batch.retain(|member| other.contains(member) == has),
                None if has => batch.clear(),
                None => {}
            }
        }
        if !batch.iter().all(|member| each(member)) {
            return;
        }
        start += BATCH;
    }
}

/// Gives `each` the members that all sets have, until it wants no more.
fn inter(store: &mut Store, keys: &[Key<'_>], each: impl FnMut(&[u8]) -> bool) -> Result<(), StoreError> {
    let lens = lens(store, keys)?;
    let smallest = lens.iter().enumerate().min_by_key(|(_, len)| **len);
    if let Some((first, 1..)) = smallest {
        sift(store, keys, first, true, each);
    }
    Ok(())
}

/// Gives `each` the members of the first set that no other one has.
fn diff(store: &mut Store, keys: &[Key<'_>], each: impl FnMut(&[u8]) -> bool) -> Result<(), StoreError> {
    lens(store, keys)?;
    sift(store, keys, 0, false, each);
    Ok(())
}

/// The members of all sets; `None` if there are too many.
fn union(store: &mut Store, keys: &[Key<'_>]) -> Result<Option<Set>, StoreError> {
    lens(store, keys)?;
    let mut all = Set::default();
    for key in keys {
        for member in again(store, *key).into_iter().flat_map(Set::iter) {
            if !all.insert(&member) && all.len() == Set::MEMBERS_MAX {
                return Ok(None);
            }
        }
    }
    Ok(Some(all))
}

/// The keys of a command from argument `from` on.
fn keys<'k>(ctx: &Ctx<'_>, command: &Command<'k>, from: usize) -> Vec<Key<'k>> {
    command.iter().skip(from).map(|word| ctx.key(word)).collect()
}

/// Replies a set as it is found, or what went wrong.
fn as_found(
    ctx: &mut Ctx<'_>,
    find: impl FnOnce(&mut Store, &mut dyn FnMut(&[u8]) -> bool) -> Result<(), StoreError>,
) {
    let (reply, mut count) = (&mut *ctx.reply, 0);
    let begun = reply.array_later();
    let found = find(ctx.store, &mut |member| {
        reply.bulk(member);
        count += 1;
        true
    });
    match found {
        Ok(()) => ctx.reply.end_set(begun, count),
        Err(error) => ctx.reply.error(error),
    }
}

/// Puts a set at the key of argument 1, or removes that where nothing is in the set.
fn keep(ctx: &mut Ctx<'_>, command: &Command<'_>, set: Set) {
    let (key, count) = (ctx.key(&command[1]), set.len());
    if set.is_empty() {
        ctx.store.remove(key);
    } else if let Err(error) = ctx.store.insert(key, Value::Set(Box::new(set)), Expiry::Never) {
        return ctx.reply.error(error);
    }
    ctx.reply.count(count);
}

fn sinter(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let keys = keys(ctx, command, 1);
    as_found(ctx, |store, each| inter(store, &keys, each));
}

fn sdiff(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let keys = keys(ctx, command, 1);
    as_found(ctx, |store, each| diff(store, &keys, each));
}

fn sunion(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let keys = keys(ctx, command, 1);
    match union(ctx.store, &keys) {
        Ok(Some(set)) => {
            ctx.reply.write().set(set.len());
            set.iter().for_each(|member| ctx.reply.bulk(&member));
        }
        Ok(None) => ctx.reply.error(FULL),
        Err(error) => ctx.reply.error(error),
    }
}

fn sinterstore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (keys, mut set) = (keys(ctx, command, 2), Set::default());
    match inter(ctx.store, &keys, |member| set.insert(member)) {
        Ok(()) => keep(ctx, command, set),
        Err(error) => ctx.reply.error(error),
    }
}

fn sdiffstore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (keys, mut set) = (keys(ctx, command, 2), Set::default());
    match diff(ctx.store, &keys, |member| set.insert(member)) {
        Ok(()) => keep(ctx, command, set),
        Err(error) => ctx.reply.error(error),
    }
}

fn sunionstore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let keys = keys(ctx, command, 2);
    match union(ctx.store, &keys) {
        Ok(Some(set)) => keep(ctx, command, set),
        Ok(None) => ctx.reply.error(FULL),
        Err(error) => ctx.reply.error(error),
    }
}

fn sintercard(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((count, limit)) = counted(ctx.reply, command) else { return };
    let keys: Vec<Key<'_>> = command.iter().skip(2).take(count).map(|word| ctx.key(word)).collect();
    let mut found = 0;
    let done = inter(ctx.store, &keys, |_| {
        found += 1;
        found != limit
    });
    match done {
        Ok(()) => ctx.reply.count(found),
        Err(error) => ctx.reply.error(error),
    }
}

/// How many keys, and how many members at most (0: all), or the error that says what is wrong with either.
fn counted(reply: &mut Reply, command: &Command<'_>) -> Option<(usize, usize)> {
    let few = Some("ERR numkeys should be greater than 0");
    let count = parse::within_or_reply(reply, &command[1], 1, i64::MAX, few)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > command.len() - 2 {
        reply.error("ERR Number of keys can't be greater than number of args");
        return None;
    }
    let (mut limit, mut at) = (0, 2 + count);
    while let Some(word) = command.get(at) {
        let value = command.get(at + 1).filter(|_| parse::is(word, "limit"));
        let Some(value) = value else {
            reply.error(SYNTAX);
            return None;
        };
        limit = parse::within_or_reply(reply, value, 0, i64::MAX, Some("ERR LIMIT can't be negative"))?;
        at += 2;
    }
    Some((count, usize::try_from(limit).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests;
