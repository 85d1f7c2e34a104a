//! Commands on lists.
//!
//! Not here: waiting for an element (`session`): those that may wait try once, and say that they would have to.

use corelane_proto_resp::Command;

use crate::services::cache::command::parse::{self, NO_SUCH_KEY, SYNTAX};
use crate::services::cache::command::{Ctx, Keys, Run, Spec, blocking};
use crate::services::cache::store::StoreError;
use crate::services::cache::value::{End, List};

const OUT_OF_RANGE: &str = "ERR index out of range";
const LINEAR: &str = "O(N), N being the number of elements";
const BY_COUNT: &str = "O(N), N being the number of elements that come or go";
const BY_PLACE: &str = "O(N), N being the number of elements before the place";
const NUMKEYS: &str = "ERR numkeys should be greater than 0";
const COUNT: &str = "ERR count should be greater than 0";

macro_rules! spec {
    ($name:literal, $arity:literal, $flags:literal, $acl:literal, $keys:expr, $run:expr, $since:literal, $cost:expr, $text:literal) => {
        Spec::new($name, $arity, $flags, $acl)
            .keys($keys)
            .run(Run::Data($run))
            .docs("list", $since, $cost, $text)
    };
}

const LAST_BUT_ONE: Keys = Keys::Range { first: 1, last: -2, step: 1 };

/// The table of these commands.
pub const TABLE: &[Spec] = &[
    spec!(
        "lpush",
        -3,
        "write denyoom fast",
        "write list fast",
        Keys::ONE,
        lpush,
        "1.0.0",
        BY_COUNT,
        "Puts elements before the first one."
    ),
    spec!(
        "rpush",
        -3,
        "write denyoom fast",
        "write list fast",
        Keys::ONE,
        rpush,
        "1.0.0",
        BY_COUNT,
        "Puts elements behind the last one."
    ),
    spec!(
        "lpushx",
        -3,
        "write denyoom fast",
        "write list fast",
        Keys::ONE,
        lpushx,
        "2.2.0",
        BY_COUNT,
        "Puts elements before the first one of a list that exists."
    ),
    spec!(
        "rpushx",
        -3,
        "write denyoom fast",
        "write list fast",
        Keys::ONE,
        rpushx,
        "2.2.0",
        BY_COUNT,
        "Puts elements behind the last one of a list that exists."
    ),
    spec!(
        "lpop",
        -2,
        "write fast",
        "write list fast",
        Keys::ONE,
        lpop,
        "1.0.0",
        BY_COUNT,
        "Takes the first element, or several."
    ),
    spec!(
        "rpop",
        -2,
        "write fast",
        "write list fast",
        Keys::ONE,
        rpop,
        "1.0.0",
        BY_COUNT,
        "Takes the last element, or several."
    ),
    spec!(
        "llen",
        2,
        "readonly fast",
        "read list fast",
        Keys::ONE,
        llen,
        "1.0.0",
        "O(1)",
        "Replies how many elements there are."
    ),
    spec!(
        "lrange",
        4,
        "readonly",
        "read list slow",
        Keys::ONE,
        lrange,
        "1.0.0",
        LINEAR,
        "Replies the elements from one place to another."
    ),
    spec!(
        "lindex",
        3,
        "readonly",
        "read list slow",
        Keys::ONE,
        lindex,
        "1.0.0",
        BY_PLACE,
        "Replies the element at a place."
    ),
    spec!(
        "lset",
        4,
        "write denyoom",
        "write list slow",
        Keys::ONE,
        lset,
        "1.0.0",
        BY_PLACE,
        "Replaces the element at a place."
    ),
    spec!(
        "linsert",
        5,
        "write denyoom",
        "write list slow",
        Keys::ONE,
        linsert,
        "2.2.0",
        BY_PLACE,
        "Puts an element before or behind another one."
    ),
    spec!(
        "lrem",
        4,
        "write",
        "write list slow",
        Keys::ONE,
        lrem,
        "1.0.0",
        LINEAR,
        "Removes elements that are equal to one."
    ),
    spec!(
        "ltrim",
        4,
        "write",
        "write list slow",
        Keys::ONE,
        ltrim,
        "1.0.0",
        BY_COUNT,
        "Removes what is not between two places."
    ),
    spec!(
        "lpos",
        -3,
        "readonly",
        "read list slow",
        Keys::ONE,
        lpos,
        "6.0.6",
        LINEAR,
        "Replies at which places an element is."
    ),
    spec!(
        "lmove",
        5,
        "write denyoom",
        "write list slow",
        Keys::TWO,
        lmove,
        "6.2.0",
        "O(1)",
        "Takes an element from an end of one list and puts it at an end of another."
    ),
    spec!(
        "rpoplpush",
        3,
        "write denyoom",
        "write list slow",
        Keys::TWO,
        rpoplpush,
        "1.2.0",
        "O(1)",
        "Takes the last element of one list and puts it before the first of another."
    ),
    spec!(
        "lmpop",
        -4,
        "write movablekeys",
        "write list slow",
        Keys::Counted { count: 1, also: 0 },
        lmpop,
        "7.0.0",
        BY_COUNT,
        "Takes elements from the first list that has some."
    ),
    spec!(
        "blpop",
        -3,
        "write noscript blocking",
        "write list slow blocking",
        LAST_BUT_ONE,
        blpop,
        "2.0.0",
        "O(N), N being the number of keys",
        "Takes the first element of the first list that has one, or waits for it."
    ),
    spec!(
        "brpop",
        -3,
        "write noscript blocking",
        "write list slow blocking",
        LAST_BUT_ONE,
        brpop,
        "2.0.0",
        "O(N), N being the number of keys",
        "Takes the last element of the first list that has one, or waits for it."
    ),
    spec!(
        "blmove",
        6,
        "write denyoom noscript blocking",
        "write list slow blocking",
        Keys::TWO,
        blmove,
        "6.2.0",
        "O(1)",
        "As LMOVE, and waits for an element."
    ),
    spec!(
        "brpoplpush",
        4,
        "write denyoom noscript blocking",
        "write list slow blocking",
        Keys::TWO,
        brpoplpush,
        "2.2.0",
        "O(1)",
        "As RPOPLPUSH, and waits for an element."
    ),
    spec!(
        "blmpop",
        -5,
        "write blocking movablekeys",
        "write list slow blocking",
        Keys::Counted { count: 2, also: 0 },
        blmpop,
        "7.0.0",
        BY_COUNT,
        "As LMPOP, and waits for an element."
    ),
];

// ---- pushing and popping

fn push(ctx: &mut Ctx<'_>, command: &Command<'_>, end: End) {
    let key = ctx.key(&command[1]);
    let pushed = ctx.store.edit_or_insert(key, |list: &mut crate::services::cache::store::Edit<'_, List>| {
        command.iter().skip(2).for_each(|element| list.push(end, element));
        list.len()
    });
    match pushed {
        Ok(len) => ctx.reply.count(len),
        Err(error) => ctx.reply.error(error),
    }
}

fn push_if_there(ctx: &mut Ctx<'_>, command: &Command<'_>, end: End) {
    let key = ctx.key(&command[1]);
    let pushed = ctx.store.edit::<List, _>(key, |list| {
        command.iter().skip(2).for_each(|element| list.push(end, element));
        list.len()
    });
    match pushed {
        Ok(len) => ctx.reply.count(len.unwrap_or(0)),
        Err(error) => ctx.reply.error(error),
    }
}

fn lpush(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    push(ctx, command, End::Front);
}

fn rpush(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    push(ctx, command, End::Back);
}

fn lpushx(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    push_if_there(ctx, command, End::Front);
}

fn rpushx(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    push_if_there(ctx, command, End::Back);
}

fn pop(ctx: &mut Ctx<'_>, command: &Command<'_>, end: End) {
    if command.len() > 3 {
        let name = String::from_utf8_lossy(command.name()).to_lowercase();
        return super::super::wrong_arity(ctx.reply, &name);
    }
    let mut count = None;
    if let Some(text) = command.get(2) {
        let Some(value) = parse::positive_or_reply(ctx.reply, text) else { return };
        count = Some(usize::try_from(value).unwrap_or(usize::MAX));
    }
    let key = ctx.key(&command[1]);
    if count == Some(0) {
        return match ctx.store.get_collection::<List>(key) {
            Ok(Some(_)) => ctx.reply.array(0),
            Ok(None) => ctx.reply.null_array(),
            Err(error) => ctx.reply.error(error),
        };
    }
    match take(ctx, key, end, count.unwrap_or(1)) {
        Ok(taken) if taken.is_empty() && count.is_some() => ctx.reply.null_array(),
        Ok(taken) if taken.is_empty() => ctx.reply.null(),
        Ok(taken) if count.is_none() => ctx.reply.bulk(&taken[0]),
        Ok(taken) => bulks(ctx, &taken),
        Err(error) => ctx.reply.error(error),
    }
}

fn bulks(ctx: &mut Ctx<'_>, elements: &[Vec<u8>]) {
    ctx.reply.array(elements.len());
    elements.iter().for_each(|element| ctx.reply.bulk(element));
}

/// Takes up to `count` elements from an end; none where there is no such list.
fn take(
    ctx: &mut Ctx<'_>,
    key: crate::services::cache::store::Key<'_>,
    end: End,
    count: usize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let taken = ctx.store.edit::<List, _>(key, |list| {
        let count = count.min(list.len());
        (0..count).filter_map(|_| list.pop(end)).collect::<Vec<_>>()
    });
    Ok(taken?.unwrap_or_default())
}

fn lpop(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    pop(ctx, command, End::Front);
}

fn rpop(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    pop(ctx, command, End::Back);
}

// ---- looking

fn llen(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    match ctx.store.get_collection::<List>(key) {
        Ok(list) => {
            let len = list.map_or(0, List::len);
            ctx.reply.count(len);
        }
        Err(error) => ctx.reply.error(error),
    }
}

/// A place counted from the end where it is negative.
fn place(index: i64, len: usize) -> Option<usize> {
    if index >= 0 {
        usize::try_from(index).ok()
    } else {
        len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)
    }
}

/// From where, and how many: both ends are in it.
fn span(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let from = place(start, len).unwrap_or(0);
    let end = place(stop, len).map_or(0, |stop| stop.saturating_add(1)).min(len);
    (from, end.saturating_sub(from))
}

fn lrange(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(start) = parse::integer_or_reply(ctx.reply, &command[2]) else { return };
    let Some(stop) = parse::integer_or_reply(ctx.reply, &command[3]) else { return };
    let key = ctx.key(&command[1]);
    match ctx.store.get_collection::<List>(key) {
        Ok(None) => ctx.reply.array(0),
        Ok(Some(list)) => {
            let (from, count) = span(start, stop, list.len());
            ctx.reply.array(count);
            list.iter_from(from).take(count).for_each(|element| ctx.reply.bulk(element));
        }
        Err(error) => ctx.reply.error(error),
    }
}

fn lindex(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    // The key comes first, as in Redis.
    let list = match ctx.store.get_collection::<List>(key) {
        Ok(Some(list)) => list,
        Ok(None) => return ctx.reply.null(),
        Err(error) => return ctx.reply.error(error),
    };
    let Some(index) = parse::integer_or_reply(ctx.reply, &command[2]) else { return };
    match place(index, list.len()).and_then(|at| list.get(at)) {
        Some(element) => ctx.reply.bulk(element),
        None => ctx.reply.null(),
    }
}

fn lpos(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (mut rank, mut count, mut max) = (1_i64, None, 0_usize);
    let mut at = 3;
    while at < command.len() {
        let Some(value) = command.get(at + 1) else { return ctx.reply.error(SYNTAX) };
        let option = &command[at];
        if parse::is(option, "rank") {
            let Some(value) = parse::within_or_reply(ctx.reply, value, i64::MIN, i64::MAX, None) else {
                return;
            };
            if value == 0 {
                return ctx.reply.error(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                     negative to start from the end of the list",
                );
            }
            if value == i64::MIN {
                return ctx.reply.error("ERR value is out of range");
            }
            rank = value;
        } else if parse::is(option, "count") || parse::is(option, "maxlen") {
            let is_count = parse::is(option, "count");
            let error = if is_count { "ERR COUNT can't be negative" } else { "ERR MAXLEN can't be negative" };
            let Some(value) = parse::within_or_reply(ctx.reply, value, 0, i64::MAX, Some(error)) else {
                return;
            };
            let value = usize::try_from(value).unwrap_or(usize::MAX);
            if is_count { count = Some(value) } else { max = value }
        } else {
            return ctx.reply.error(SYNTAX);
        }
        at += 2;
    }
    let key = ctx.key(&command[1]);
    let list = match ctx.store.get_collection::<List>(key) {
        Ok(Some(list)) => list,
        Ok(None) => return if count.is_some() { ctx.reply.array(0) } else { ctx.reply.null() },
        Err(error) => return ctx.reply.error(error),
    };
    let len = list.len();
    let found = find(list, &command[2], rank, count.unwrap_or(1), if max == 0 { len } else { max });
    match count {
        Some(_) => {
            ctx.reply.array(found.len());
            found.into_iter().for_each(|place| ctx.reply.count(place));
        }
        None => match found.first() {
            Some(place) => ctx.reply.count(*place),
            None => ctx.reply.null(),
        },
    }
}

/// The places of `element`: `count` of them (0: all) from the `rank`th on, among the first `max` elements.
fn find(list: &List, element: &[u8], rank: i64, count: usize, max: usize) -> Vec<usize> {
    let skip = usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let count = if count == 0 { usize::MAX } else { count };
    let len = list.len();
    let is_it = |(_, one): &(usize, &[u8])| *one == element;
    match rank > 0 {
        true => list
            .iter_from(0)
            .enumerate()
            .take(max)
            .filter(is_it)
            .skip(skip)
            .take(count)
            .map(|(at, _)| at)
            .collect(),
        false => list
            .iter_back()
            .enumerate()
            .take(max)
            .filter(is_it)
            .skip(skip)
            .take(count)
            .map(|(at, _)| len - 1 - at)
            .collect(),
    }
}

// ---- changing in place

fn lset(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    match ctx.store.get_collection::<List>(key) {
        Ok(Some(_)) => {}
        Ok(None) => return ctx.reply.error(NO_SUCH_KEY),
        Err(error) => return ctx.reply.error(error),
    }
    let Some(index) = parse::integer_or_reply(ctx.reply, &command[2]) else { return };
    let set = ctx.store.edit::<List, _>(key, |list| {
        let is_set = place(index, list.len()).is_some_and(|at| list.set(at, &command[3]));
        if !is_set {
            list.unchanged();
        }
        is_set
    });
    match set {
        Ok(Some(true)) => ctx.reply.ok(),
        Ok(_) => ctx.reply.error(OUT_OF_RANGE),
        Err(error) => ctx.reply.error(error),
    }
}

fn linsert(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let behind = match &command[2] {
        word if parse::is(word, "before") => 0,
        word if parse::is(word, "after") => 1,
        _ => return ctx.reply.error(SYNTAX),
    };
    let key = ctx.key(&command[1]);
    let inserted = ctx.store.edit::<List, _>(key, |list| {
        let at = list.iter_from(0).position(|one| one == &command[3]);
        at.map_or(-1, |at| {
            list.insert(at + behind, &command[4]);
            i64::try_from(list.len()).unwrap_or(i64::MAX)
        })
    });
    match inserted {
        Ok(len) => ctx.reply.integer(len.unwrap_or(0)),
        Err(error) => ctx.reply.error(error),
    }
}

fn lrem(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(count) = parse::integer_or_reply(ctx.reply, &command[2]) else { return };
    let end = if count < 0 { End::Back } else { End::Front };
    let max = match usize::try_from(count.unsigned_abs()) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(max) => max,
    };
    let key = ctx.key(&command[1]);
    let removed = ctx.store.edit::<List, _>(key, |list| {
        let removed = list.remove(end, max, &command[3]);
        if removed == 0 {
            list.unchanged();
        }
        removed
    });
    match removed {
        Ok(removed) => ctx.reply.count(removed.unwrap_or(0)),
        Err(error) => ctx.reply.error(error),
    }
}

fn ltrim(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(start) = parse::integer_or_reply(ctx.reply, &command[2]) else { return };
    let Some(stop) = parse::integer_or_reply(ctx.reply, &command[3]) else { return };
    let key = ctx.key(&command[1]);
    let trimmed = ctx.store.edit::<List, _>(key, |list| {
        let (from, count) = span(start, stop, list.len());
        list.trim(from, count);
    });
    match trimmed {
        Ok(_) => ctx.reply.ok(),
        Err(error) => ctx.reply.error(error),
    }
}

// ---- from list to list

fn end_of(word: &[u8]) -> Option<End> {
    match word {
        word if parse::is(word, "left") => Some(End::Front),
        word if parse::is(word, "right") => Some(End::Back),
        _ => None,
    }
}

/// Moves an element; false, with nothing replied, if there is none.
fn move_one(ctx: &mut Ctx<'_>, command: &Command<'_>, from: End, to: End) -> bool {
    let (source, target) = (ctx.key(&command[1]), ctx.key(&command[2]));
    match ctx.store.get_collection::<List>(source) {
        Ok(Some(_)) => {}
        Ok(None) => return false,
        Err(error) => {
            ctx.reply.error(error);
            return true;
        }
    }
    if let Err(error) = ctx.store.get_collection::<List>(target) {
        ctx.reply.error(error);
        return true;
    }
    let moved = if source.bytes == target.bytes {
        ctx.store.edit::<List, _>(source, |list| {
            let element = list.pop(from)?;
            list.push(to, &element);
            Some(element)
        })
    } else {
        ctx.store.edit::<List, _>(source, |list| list.pop(from))
    };
    match moved {
        Ok(Some(Some(element))) => {
            if source.bytes != target.bytes {
                let pushed = ctx
                    .store
                    .edit_or_insert(target, |list: &mut crate::services::cache::store::Edit<'_, List>| {
                        list.push(to, &element)
                    });
                if let Err(error) = pushed {
                    ctx.reply.error(error);
                    return true;
                }
            }
            ctx.reply.bulk(&element);
        }
        Ok(_) => return false,
        Err(error) => ctx.reply.error(error),
    }
    true
}

fn lmove(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (Some(from), Some(to)) = (end_of(&command[3]), end_of(&command[4])) else {
        return ctx.reply.error(SYNTAX);
    };
    if !move_one(ctx, command, from, to) {
        ctx.reply.null();
    }
}

fn rpoplpush(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if !move_one(ctx, command, End::Back, End::Front) {
        ctx.reply.null();
    }
}

/// Keys from `first` on to the end that `count` says, then LEFT or RIGHT, perhaps COUNT. None: it was said what is wrong.
fn popped_keys<'c>(
    ctx: &mut Ctx<'_>,
    command: &Command<'c>,
    count_at: usize,
) -> Option<(Vec<&'c [u8]>, End, usize)> {
    let number = parse::within_or_reply(ctx.reply, command.get(count_at)?, 1, i64::MAX, Some(NUMKEYS))?;
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    let where_at = count_at.saturating_add(1).saturating_add(number);
    let Some(end) = command.get(where_at).and_then(end_of) else {
        ctx.reply.error(SYNTAX);
        return None;
    };
    let mut count = None;
    let mut at = where_at + 1;
    while at < command.len() {
        let value = command.get(at + 1).filter(|_| count.is_none() && parse::is(&command[at], "count"));
        let Some(value) = value else {
            ctx.reply.error(SYNTAX);
            return None;
        };
        count = Some(parse::within_or_reply(ctx.reply, value, 1, i64::MAX, Some(COUNT))?);
        at += 2;
    }
    let keys = command.iter().skip(count_at + 1).take(number).collect();
    Some((keys, end, usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX)))
}

/// Takes from the first of `keys` that has something. False, with nothing replied, if none has.
fn pop_any(ctx: &mut Ctx<'_>, keys: &[&[u8]], end: End, count: usize, with_array: bool) -> bool {
    for bytes in keys {
        let key = ctx.key(bytes);
        match take(ctx, key, end, count) {
            Ok(taken) if taken.is_empty() => {}
            Ok(taken) => {
                ctx.reply.array(2);
                ctx.reply.bulk(bytes);
                match with_array {
                    true => bulks(ctx, &taken),
                    false => ctx.reply.bulk(&taken[0]),
                }
                return true;
            }
            Err(error) => {
                ctx.reply.error(error);
                return true;
            }
        }
    }
    false
}

fn lmpop(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((keys, end, count)) = popped_keys(ctx, command, 1) else { return };
    if !pop_any(ctx, &keys, end, count, true) {
        ctx.reply.null_array();
    }
}

// ---- those that may wait

/// Whether the timeout is one; else it was said that it is none.
fn has_timeout(ctx: &mut Ctx<'_>, command: &Command<'_>) -> bool {
    match blocking::block_timeout(command) {
        Ok(_) => true,
        Err(error) => {
            ctx.reply.error(error);
            false
        }
    }
}

fn bpop(ctx: &mut Ctx<'_>, command: &Command<'_>, end: End) {
    if !has_timeout(ctx, command) {
        return;
    }
    let keys: Vec<&[u8]> = command.iter().skip(1).take(command.len() - 2).collect();
    ctx.blocked = !pop_any(ctx, &keys, end, 1, false);
}

fn blpop(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    bpop(ctx, command, End::Front);
}

fn brpop(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    bpop(ctx, command, End::Back);
}

fn blmove(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (Some(from), Some(to)) = (end_of(&command[3]), end_of(&command[4])) else {
        return ctx.reply.error(SYNTAX);
    };
    if has_timeout(ctx, command) {
        ctx.blocked = !move_one(ctx, command, from, to);
    }
}

fn brpoplpush(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if has_timeout(ctx, command) {
        ctx.blocked = !move_one(ctx, command, End::Back, End::Front);
    }
}

fn blmpop(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if has_timeout(ctx, command)
        && let Some((keys, end, count)) = popped_keys(ctx, command, 2)
    {
        ctx.blocked = !pop_any(ctx, &keys, end, count, true);
    }
}

#[cfg(test)]
mod tests {
    use corelane_proto_resp::Version;

    use crate::services::cache::command::run_one;
    use crate::services::cache::store::{Config, KeyHasher, Now, Store};

    fn replies(steps: &[(&str, &str)]) {
        let mut store = Store::new(Config::default(), KeyHasher::seeded(1), Now::default());
        for (line, wanted) in steps {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let reply = String::from_utf8(run_one(&mut store, &words, Version::Resp2)).unwrap();
            assert_eq!(reply.replace("\r\n", " "), *wanted, "{line}");
        }
    }

    #[test]
    fn elements_come_and_go_at_both_ends() {
        replies(&[
            ("rpush l a b c", ":3 "),
            ("lpush l x y", ":5 "),
            ("lrange l 0 -1", "*5 $1 y $1 x $1 a $1 b $1 c "),
            ("lrange l -3 -2", "*2 $1 a $1 b "),
            ("lrange l 3 1", "*0 "),
            ("lpop l", "$1 y "),
            ("rpop l 2", "*2 $1 c $1 b "),
            ("lpop l 0", "*0 "),
            ("lpop none", "$-1 "),
            ("lpop none 3", "*-1 "),
            ("lpop l -1", "-ERR value is out of range, must be positive "),
            ("lpushx none a", ":0 "),
            ("rpushx l z", ":3 "),
            ("llen l", ":3 "),
            ("lpop l 9", "*3 $1 x $1 a $1 z "),
            ("exists l", ":0 "),
        ]);
    }

    #[test]
    fn places_count_from_the_end_where_they_are_negative() {
        replies(&[
            ("rpush l a b c b", ":4 "),
            ("lindex l 0", "$1 a "),
            ("lindex l -1", "$1 b "),
            ("lindex l 4", "$-1 "),
            ("lset l -2 C", "+OK "),
            ("lset l 4 x", "-ERR index out of range "),
            ("lset none 0 x", "-ERR no such key "),
            ("lpos l b", ":1 "),
            ("lpos l b rank -1", ":3 "),
            ("lpos l b count 0", "*2 :1 :3 "),
            (
                "lpos l b rank 0",
                "-ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list ",
            ),
            ("linsert l before C x", ":5 "),
            ("linsert l after nothing x", ":-1 "),
            ("lrem l -1 b", ":1 "),
            ("lrange l 0 -1", "*4 $1 a $1 b $1 x $1 C "),
            ("ltrim l 1 2", "+OK "),
            ("lrange l 0 -1", "*2 $1 b $1 x "),
        ]);
    }

    #[test]
    fn elements_move_between_lists_and_round_one() {
        replies(&[
            ("rpush a 1 2 3", ":3 "),
            ("lmove a b left right", "$1 1 "),
            ("rpoplpush a a", "$1 3 "),
            ("lrange a 0 -1", "*2 $1 3 $1 2 "),
            ("lmove none b left left", "$-1 "),
            ("lmove a b up left", "-ERR syntax error "),
            ("lmpop 2 none a left count 5", "*2 $1 a *2 $1 3 $1 2 "),
            ("lmpop 0 a left", "-ERR numkeys should be greater than 0 "),
            ("lmpop 1 none right", "*-1 "),
            ("set s x", "+OK "),
            ("lpush s x", "-WRONGTYPE Operation against a key holding the wrong kind of value "),
            ("blpop none b 0", "*2 $1 b $1 1 "),
            ("blpop none x", "-ERR timeout is not a float or out of range "),
            ("blpop none -1", "-ERR timeout is negative "),
        ]);
    }
}
