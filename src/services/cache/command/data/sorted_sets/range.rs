//! Range: members between two ranks, scores or names.
//!
//! A range is turned into ranks first, and then it does not matter what it was given by.
//!
//! Not here: changing scores (`change`).

use std::ops::Range;

use corelane_proto_resp::Command;

use super::look::find;
use super::{header, member};
use crate::services::cache::command::parse::{self, SYNTAX};
use crate::services::cache::command::{Ctx, Reply};
use crate::services::cache::store::Expiry;
use crate::services::cache::value::{Collection, SortedSet};

const NOT_SCORES: &str = "ERR min or max is not a float";
const NOT_NAMES: &str = "ERR min or max not valid string range item";
const LIMIT_ALONE: &str =
    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
const NAMES_WITH_SCORES: &str = "ERR syntax error, WITHSCORES not supported in combination with BYLEX";

/// One end by score: the score, and whether it is itself out.
#[derive(Clone, Copy, Debug)]
struct Score(f64, bool);

/// One end by name.
#[derive(Clone, Copy, Debug)]
enum Name<'a> {
    First,
    Last,
    At(&'a [u8], bool),
}

/// Between what.
#[derive(Clone, Copy, Debug)]
enum Bounds<'a> {
    Ranks(i64, i64),
    Scores(Score, Score),
    Names(Name<'a>, Name<'a>),
}

fn score(text: &[u8]) -> Option<Score> {
    let (text, is_out) = match text {
        [b'(', text @ ..] => (text, true),
        text => (text, false),
    };
    // Redis reads it by strtod alone: blanks before it are passed over, nothing is 0, and too much is infinite.
    let text = text.trim_ascii_start();
    if text.is_empty() {
        return Some(Score(0.0, is_out));
    }
    let value = parse::float(text).or_else(|| std::str::from_utf8(text).ok()?.parse().ok())?;
    (!value.is_nan()).then_some(Score(value, is_out))
}

fn name(text: &[u8]) -> Option<Name<'_>> {
    match text {
        [b'-'] => Some(Name::First),
        [b'+'] => Some(Name::Last),
        [b'(', text @ ..] => Some(Name::At(text, true)),
        [b'[', text @ ..] => Some(Name::At(text, false)),
        _ => None,
    }
}

fn scores<'a>(reply: &mut Reply, min: &[u8], max: &[u8]) -> Option<Bounds<'a>> {
    let (Some(min), Some(max)) = (score(min), score(max)) else {
        reply.error(NOT_SCORES);
        return None;
    };
    Some(Bounds::Scores(min, max))
}

fn names<'a>(reply: &mut Reply, min: &'a [u8], max: &'a [u8]) -> Option<Bounds<'a>> {
    let (Some(min), Some(max)) = (name(min), name(max)) else {
        reply.error(NOT_NAMES);
        return None;
    };
    Some(Bounds::Names(min, max))
}

fn ranks<'a>(reply: &mut Reply, start: &[u8], stop: &[u8]) -> Option<Bounds<'a>> {
    let start = parse::integer_or_reply(reply, start)?;
    let stop = parse::integer_or_reply(reply, stop)?;
    Some(Bounds::Ranks(start, stop))
}

impl Bounds<'_> {
    /// The ranks, from the lowest on. Those of `Ranks` count from the highest where it goes `backwards`.
    fn in_set(self, set: &SortedSet, backwards: bool) -> Range<usize> {
        let range = match self {
            Bounds::Ranks(start, stop) => {
                let len = set.len();
                let at = |index: i64| match usize::try_from(index) {
                    Ok(at) => Some(at),
                    Err(_) => len.checked_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX)),
                };
                let from = at(start).unwrap_or(0);
                let end = at(stop).map_or(0, |stop| stop.saturating_add(1)).min(len);
                if from >= end {
                    return 0..0;
                }
                return if backwards { len - end..len - from } else { from..end };
            }
            Bounds::Scores(Score(min, min_out), Score(max, max_out)) => {
                let from = set.partition(|score, _| if min_out { score <= min } else { score < min });
                let end = set.partition(|score, _| if max_out { score < max } else { score <= max });
                from..end
            }
            Bounds::Names(min, max) => {
                // Before the range, and not behind it.
                let from = set.partition(|_, member| match min {
                    Name::First => false,
                    Name::Last => true,
                    Name::At(name, out) => {
                        if out {
                            member <= name
                        } else {
                            member < name
                        }
                    }
                });
                let end = set.partition(|_, member| match max {
                    Name::First => false,
                    Name::Last => true,
                    Name::At(name, out) => {
                        if out {
                            member < name
                        } else {
                            member <= name
                        }
                    }
                });
                from..end
            }
        };
        if range.start >= range.end { 0..0 } else { range }
    }
}

/// What a command asks for.
struct Asked<'a> {
    bounds: Bounds<'a>,
    backwards: bool,
    /// How many to pass over, and how many to take; below 0: all.
    limit: (i64, i64),
    with_scores: bool,
}

impl Asked<'_> {
    /// The members in the order they are asked for.
    fn in_set<'s>(&self, set: &'s SortedSet) -> Vec<(&'s [u8], f64)> {
        let range = self.bounds.in_set(set, self.backwards);
        let Ok(skip) = usize::try_from(self.limit.0) else { return Vec::new() };
        let left = range.len().saturating_sub(skip);
        let count = usize::try_from(self.limit.1).map_or(left, |count| count.min(left));
        if count == 0 {
            return Vec::new();
        }
        match self.backwards {
            false => set.iter_from(range.start + skip).take(count).collect(),
            true => set.iter_back_from(range.end - 1 - skip).take(count).collect(),
        }
    }
}

/// By what a range is given, where the command's name says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    Rank,
    Score,
    Name,
}

/// The options of ZRANGE and its older forms. `from` is where the two ends are.
fn asked<'a>(
    reply: &mut Reply,
    command: &Command<'a>,
    from: usize,
    fixed: Option<(By, bool)>,
    stores: bool,
) -> Option<Asked<'a>> {
    let (mut by, mut backwards) = fixed.unwrap_or((By::Rank, false));
    let (mut limit, mut with_scores, mut has_limit) = ((0, -1), false, false);
    let mut at = from + 2;
    while let Some(word) = command.get(at) {
        if !stores && parse::is(word, "withscores") {
            with_scores = true;
        } else if parse::is(word, "limit") && command.len() > at + 2 {
            let skip = parse::integer_or_reply(reply, &command[at + 1])?;
            let count = parse::integer_or_reply(reply, &command[at + 2])?;
            (limit, has_limit) = ((skip, count), true);
            at += 2;
        } else if fixed.is_none() && parse::is(word, "rev") {
            backwards = true;
        } else if fixed.is_none() && parse::is(word, "byscore") {
            by = By::Score;
        } else if fixed.is_none() && parse::is(word, "bylex") {
            by = By::Name;
        } else {
            reply.error(SYNTAX);
            return None;
        }
        at += 1;
    }
    if has_limit && limit.1 != -1 && by == By::Rank {
        reply.error(LIMIT_ALONE);
        return None;
    }
    if with_scores && by == By::Name {
        reply.error(NAMES_WITH_SCORES);
        return None;
    }
    let (start, stop) = (command.get(from)?, command.get(from + 1)?);
    // Backwards, the higher end comes first; by rank both count from the highest.
    let (min, max) = if backwards { (stop, start) } else { (start, stop) };
    let bounds = match by {
        By::Rank => ranks(reply, start, stop)?,
        By::Score => scores(reply, min, max)?,
        By::Name => names(reply, min, max)?,
    };
    Some(Asked { bounds, backwards, limit, with_scores })
}

fn reply_range(ctx: &mut Ctx<'_>, command: &Command<'_>, fixed: Option<(By, bool)>) {
    let Some(asked) = asked(ctx.reply, command, 2, fixed, false) else { return };
    let Some((set, reply)) = find(ctx, command) else { return };
    let found = set.map(|set| asked.in_set(set)).unwrap_or_default();
    header(reply, found.len(), asked.with_scores);
    for one in found {
        member(reply, one, asked.with_scores);
    }
}

pub(super) fn zrange(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_range(ctx, command, None);
}

pub(super) fn zrevrange(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_range(ctx, command, Some((By::Rank, true)));
}

pub(super) fn zrangebyscore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_range(ctx, command, Some((By::Score, false)));
}

pub(super) fn zrevrangebyscore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_range(ctx, command, Some((By::Score, true)));
}

pub(super) fn zrangebylex(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_range(ctx, command, Some((By::Name, false)));
}

pub(super) fn zrevrangebylex(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_range(ctx, command, Some((By::Name, true)));
}

pub(super) fn zrangestore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(asked) = asked(ctx.reply, command, 3, None, true) else { return };
    let source = ctx.key(&command[2]);
    let mut kept = SortedSet::default();
    match ctx.store.get_collection::<SortedSet>(source) {
        Ok(None) => {}
        Ok(Some(set)) => {
            for (member, score) in asked.in_set(set) {
                kept.put(member, score);
            }
        }
        Err(error) => return ctx.reply.error(error),
    }
    keep(ctx, &command[1], kept);
}

/// Puts a result at a key, or removes the key where it is empty; replies how many there are.
pub(super) fn keep(ctx: &mut Ctx<'_>, key: &[u8], set: SortedSet) {
    let (key, len) = (ctx.key(key), set.len());
    if len == 0 {
        ctx.store.remove(key);
        return ctx.reply.count(0);
    }
    match ctx.store.insert(key, Box::new(set).into_value(), Expiry::Never) {
        Ok(()) => ctx.reply.count(len),
        Err(error) => ctx.reply.error(error),
    }
}

fn count(ctx: &mut Ctx<'_>, command: &Command<'_>, bounds: Option<Bounds<'_>>) {
    let Some(bounds) = bounds else { return };
    if let Some((set, reply)) = find(ctx, command) {
        reply.count(set.map_or(0, |set| bounds.in_set(set, false).len()));
    }
}

pub(super) fn zcount(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let bounds = scores(ctx.reply, &command[2], &command[3]);
    count(ctx, command, bounds);
}

pub(super) fn zlexcount(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (Some(min), Some(max)) = (command.get(2), command.get(3)) else { return };
    let bounds = names(ctx.reply, min, max);
    count(ctx, command, bounds);
}

fn remove(ctx: &mut Ctx<'_>, command: &Command<'_>, bounds: Option<Bounds<'_>>) {
    let Some(bounds) = bounds else { return };
    let key = ctx.key(&command[1]);
    let removed = ctx.store.edit::<SortedSet, _>(key, |set| {
        let range = bounds.in_set(set, false);
        if range.is_empty() {
            set.unchanged();
            return 0;
        }
        for rank in range.clone().rev() {
            set.take(rank);
        }
        range.len()
    });
    match removed {
        Ok(removed) => ctx.reply.count(removed.unwrap_or(0)),
        Err(error) => ctx.reply.error(error),
    }
}

pub(super) fn zremrangebyrank(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let bounds = ranks(ctx.reply, &command[2], &command[3]);
    remove(ctx, command, bounds);
}

pub(super) fn zremrangebyscore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let bounds = scores(ctx.reply, &command[2], &command[3]);
    remove(ctx, command, bounds);
}

pub(super) fn zremrangebylex(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (Some(min), Some(max)) = (command.get(2), command.get(3)) else { return };
    let bounds = names(ctx.reply, min, max);
    remove(ctx, command, bounds);
}
