//! Look: ZCARD, ZSCORE, ZMSCORE, ZRANK, ZREVRANK, ZSCAN.
//!
//! Not here: ranges (`range`).

use corelane_proto_resp::Command;

use crate::services::cache::command::scan::{self, Scanned};
use crate::services::cache::command::{Ctx, Reply};
use crate::services::cache::value::SortedSet;

/// The set at the first key. Where there is another kind of value, it was said.
pub(super) fn find<'c>(
    ctx: &'c mut Ctx<'_>,
    command: &Command<'_>,
) -> Option<(Option<&'c SortedSet>, &'c mut Reply)> {
    let key = ctx.key(&command[1]);
    match ctx.store.get_collection::<SortedSet>(key) {
        Ok(set) => Some((set, &mut *ctx.reply)),
        Err(error) => {
            ctx.reply.error(error);
            None
        }
    }
}

pub(super) fn zcard(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if let Some((set, reply)) = find(ctx, command) {
        reply.count(set.map_or(0, SortedSet::len));
    }
}

fn score(reply: &mut Reply, score: Option<f64>) {
    match score {
        Some(score) => reply.write().double(score),
        None => reply.null(),
    }
}

pub(super) fn zscore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if let Some((set, reply)) = find(ctx, command) {
        score(reply, set.and_then(|set| set.score(&command[2])));
    }
}

pub(super) fn zmscore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    if let Some((set, reply)) = find(ctx, command) {
        reply.array(command.len() - 2);
        for member in command.iter().skip(2) {
            score(reply, set.and_then(|set| set.score(member)));
        }
    }
}

fn rank(ctx: &mut Ctx<'_>, command: &Command<'_>, backwards: bool) {
    let Some((set, reply)) = find(ctx, command) else { return };
    let rank = set.and_then(|set| {
        let rank = set.rank(&command[2])?;
        Some(if backwards { set.len() - 1 - rank } else { rank })
    });
    match rank {
        Some(rank) => reply.count(rank),
        None => reply.null(),
    }
}

pub(super) fn zrank(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    rank(ctx, command, false);
}

pub(super) fn zrevrank(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    rank(ctx, command, true);
}

pub(super) fn zscan(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(cursor) = scan::cursor_or_reply(ctx.reply, &command[2]) else { return };
    let Some((set, reply)) = find(ctx, command) else { return };
    let (mut next, mut found, mut is_small) = (0, Vec::new(), false);
    if let Some(set) = set {
        is_small = set.encoding() == "listpack";
        let Some(options) = scan::options_or_reply(reply, command, 3, Scanned::Members) else { return };
        next = set.scan(cursor, options.count, |member, score| {
            if options.takes(member) {
                found.push((Box::<[u8]>::from(member), score));
            }
        });
    }
    reply.array(2);
    reply.bulk(next.to_string().as_bytes());
    reply.array(2 * found.len());
    for (member, score) in found {
        reply.bulk(&member);
        // A string in both protocols, as in Redis, which shows here how a listpack keeps an integer.
        match whole(score).filter(|_| is_small) {
            Some(whole) => reply.write().bulk_integer(whole),
            None => reply.bulk(corelane_proto_resp::format_double(score).as_bytes()),
        }
    }
}

/// The integer that a score is, if it is one that a double has exactly.
#[expect(clippy::cast_possible_truncation, reason = "it is compared with what it was made of")]
fn whole(score: f64) -> Option<i64> {
    const MAX: f64 = 9_007_199_254_740_992_000.0; // of 64 bits, with some left
    (score.abs() < MAX && score.trunc() == score).then_some(score as i64)
}
