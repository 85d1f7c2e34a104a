//! Pop: members from an end, and at random.
//!
//! Not here: waiting (`session`).

use corelane_base::Rng;
use corelane_proto_resp::Command;

use super::look::find;
use super::{header, member};
use crate::services::cache::command::data::picks;
use crate::services::cache::command::parse::{self, SYNTAX};
use crate::services::cache::command::{Ctx, Reply, blocking, wrong_arity};
use crate::services::cache::store::{Key, StoreError};
use crate::services::cache::value::SortedSet;

const NUMKEYS: &str = "ERR numkeys should be greater than 0";
const COUNT: &str = "ERR count should be greater than 0";

type Taken = Vec<(Box<[u8]>, f64)>;

fn take(ctx: &mut Ctx<'_>, key: Key<'_>, highest: bool, count: usize) -> Result<Taken, StoreError> {
    let taken = ctx.store.edit::<SortedSet, _>(key, |set| {
        let count = count.min(set.len());
        let take = |_| {
            let rank = if highest { set.len() - 1 } else { 0 };
            set.take(rank)
        };
        (0..count).filter_map(take).collect::<Taken>()
    });
    Ok(taken?.unwrap_or_default())
}

fn pop(ctx: &mut Ctx<'_>, command: &Command<'_>, highest: bool) {
    if command.len() > 3 {
        return wrong_arity(ctx.reply, if highest { "zpopmax" } else { "zpopmin" });
    }
    let mut count = None;
    if let Some(text) = command.get(2) {
        let Some(value) = parse::positive_or_reply(ctx.reply, text) else { return };
        count = Some(usize::try_from(value).unwrap_or(usize::MAX));
    }
    let key = ctx.key(&command[1]);
    let taken = match count {
        Some(0) => ctx.store.get_collection::<SortedSet>(key).map(|_| Taken::new()),
        count => take(ctx, key, highest, count.unwrap_or(1)),
    };
    match taken {
        // Without a count, RESP3 has one pair, not a list of it.
        Ok(taken) if count.is_none() => {
            ctx.reply.array(2 * taken.len());
            for (member, score) in taken {
                ctx.reply.bulk(&member);
                ctx.reply.write().double(score);
            }
        }
        Ok(taken) => {
            header(ctx.reply, taken.len(), true);
            taken.iter().for_each(|(name, score)| member(ctx.reply, (name, *score), true));
        }
        Err(error) => ctx.reply.error(error),
    }
}

pub(super) fn zpopmin(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    pop(ctx, command, false);
}

pub(super) fn zpopmax(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    pop(ctx, command, true);
}

/// The keys behind their number, then MIN or MAX, perhaps COUNT. None: it was said what is wrong.
fn counted<'c>(ctx: &mut Ctx<'_>, command: &Command<'c>, at: usize) -> Option<(Vec<&'c [u8]>, bool, usize)> {
    let number = parse::within_or_reply(ctx.reply, command.get(at)?, 1, i64::MAX, Some(NUMKEYS))?;
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    let where_at = at.saturating_add(1).saturating_add(number);
    let highest = match command.get(where_at) {
        Some(word) if parse::is(word, "min") => false,
        Some(word) if parse::is(word, "max") => true,
        _ => {
            ctx.reply.error(SYNTAX);
            return None;
        }
    };
    let (mut count, mut option) = (None, where_at + 1);
    while option < command.len() {
        let value =
            command.get(option + 1).filter(|_| count.is_none() && parse::is(&command[option], "count"));
        let Some(value) = value else {
            ctx.reply.error(SYNTAX);
            return None;
        };
        count = Some(parse::within_or_reply(ctx.reply, value, 1, i64::MAX, Some(COUNT))?);
        option += 2;
    }
    let keys = command.iter().skip(at + 1).take(number).collect();
    Some((keys, highest, usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX)))
}

/// Takes from the first of `keys` that has something. False, with nothing replied, if none has.
fn pop_any(ctx: &mut Ctx<'_>, keys: &[&[u8]], highest: bool, count: usize, nested: bool) -> bool {
    for bytes in keys {
        let key = ctx.key(bytes);
        match take(ctx, key, highest, count) {
            Ok(taken) if taken.is_empty() => {}
            Ok(taken) => {
                ctx.reply.array(if nested { 2 } else { 3 });
                ctx.reply.bulk(bytes);
                if nested {
                    ctx.reply.array(taken.len());
                }
                for (member, score) in taken {
                    if nested {
                        ctx.reply.array(2);
                    }
                    ctx.reply.bulk(&member);
                    ctx.reply.write().double(score);
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

pub(super) fn zmpop(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some((keys, highest, count)) = counted(ctx, command, 1) else { return };
    if !pop_any(ctx, &keys, highest, count, true) {
        ctx.reply.null_array();
    }
}

fn has_timeout(ctx: &mut Ctx<'_>, command: &Command<'_>) -> bool {
    match blocking::block_timeout(command) {
        Ok(_) => true,
        Err(error) => {
            ctx.reply.error(error);
            false
        }
    }
}

fn bpop(ctx: &mut Ctx<'_>, command: &Command<'_>, highest: bool) {
    if has_timeout(ctx, command) {
        let keys: Vec<&[u8]> = command.iter().skip(1).take(command.len() - 2).collect();
        ctx.blocked = !pop_any(ctx, &keys, highest, 1, false);
    }
}

pub(super) fn bzpopmin(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    bpop(ctx, command, false);
}

pub(super) fn bzpopmax(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    bpop(ctx, command, true);
}

pub(super) fn bzmpop(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if has_timeout(ctx, command)
        && let Some((keys, highest, count)) = counted(ctx, command, 2)
    {
        ctx.blocked = !pop_any(ctx, &keys, highest, count, true);
    }
}

// ---- at random

pub(super) fn zrandmember(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let mut rng = Rng::new(ctx.random);
    let mut wanted = None;
    if let Some(text) = command.get(2) {
        let Some(count) = parse::within_or_reply(ctx.reply, text, -i64::MAX, i64::MAX, None) else { return };
        let with_scores = command.get(3).is_some_and(|word| parse::is(word, "withscores"));
        if command.len() > 4 || (command.len() == 4 && !with_scores) {
            return ctx.reply.error(SYNTAX);
        }
        if with_scores && !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
            return ctx.reply.error(picks::TOO_MANY);
        }
        wanted = Some((count, with_scores));
    }
    let Some((set, reply)) = find(ctx, command) else { return };
    match (set, wanted) {
        (None, None) => reply.null(),
        (Some(set), None) => {
            reply.bulk(set.at(rng.index(set.len().max(1))).map_or(&[], |(member, _)| member))
        }
        (Some(set), Some((count @ 1.., with_scores))) => {
            let ranks = picks::different(&mut rng, set.len(), usize::try_from(count).unwrap_or(usize::MAX));
            header(reply, ranks.len(), with_scores);
            for rank in ranks {
                member(reply, set.at(rank).unwrap_or_default(), with_scores);
            }
        }
        (Some(set), Some((count @ ..=-1, with_scores))) => repeated(set, &mut rng, reply, count, with_scores),
        (_, Some(_)) => reply.array(0),
    }
}

/// Members any of which may be there more than once.
fn repeated(set: &SortedSet, rng: &mut Rng, reply: &mut Reply, count: i64, with_scores: bool) {
    if count.unsigned_abs() > picks::REPEATED_MAX {
        return reply.error(picks::TOO_MANY);
    }
    let (count, start) = (usize::try_from(count.unsigned_abs()).unwrap_or(0), reply.bytes().len());
    header(reply, count, with_scores);
    for _ in 0..count {
        member(reply, set.at(rng.index(set.len().max(1))).unwrap_or_default(), with_scores);
        if reply.bytes().len() - start > picks::REPEATED_LEN_MAX {
            reply.truncate(start);
            return reply.error(picks::TOO_MANY);
        }
    }
}
