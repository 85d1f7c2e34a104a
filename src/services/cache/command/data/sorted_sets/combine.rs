//! Combine: several sets, sorted or plain, into one.
//!
//! A member of a plain set counts as one with a score of 1.
//!
//! Not here: bringing keys of several shards together (`transaction`).

use std::collections::HashMap;

use corelane_proto_resp::Command;

use super::range::keep;
use super::{header, member};
use crate::services::cache::command::Ctx;
use crate::services::cache::command::parse::{self, SYNTAX};
use crate::services::cache::store::StoreError;
use crate::services::cache::value::{Kind, SortedSet, ValueRef};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    Union,
    Inter,
    Diff,
}

#[derive(Clone, Copy, Debug)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            // Infinities that cancel each other are 0.
            Aggregate::Sum => not_nan(a + b),
            Aggregate::Min if b < a => b,
            Aggregate::Max if b > a => b,
            Aggregate::Min | Aggregate::Max => a,
        }
    }
}

fn not_nan(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value }
}

struct Asked<'a> {
    keys: Vec<&'a [u8]>,
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
}

/// What is asked for. `at` is where the number of keys is. None: it was said what is wrong.
fn asked<'a>(
    ctx: &mut Ctx<'_>,
    command: &Command<'a>,
    at: usize,
    how: How,
    stores: bool,
) -> Option<Asked<'a>> {
    let number = parse::integer_or_reply(ctx.reply, command.get(at)?)?;
    if number < 1 {
        let name = String::from_utf8_lossy(command.name()).to_lowercase();
        ctx.reply.error(format_args!("ERR at least 1 input key is needed for '{name}' command"));
        return None;
    }
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    if number > command.len() - at - 1 {
        ctx.reply.error(SYNTAX);
        return None;
    }
    let keys: Vec<&[u8]> = command.iter().skip(at + 1).take(number).collect();
    // Keys come before options, as in Redis.
    if let Err(error) = keys.iter().try_for_each(|key| check(ctx, key)) {
        ctx.reply.error(error);
        return None;
    }
    let mut asked = Asked { weights: vec![1.0; number], keys, aggregate: Aggregate::Sum, with_scores: false };
    let mut option = at + 1 + number;
    while let Some(word) = command.get(option) {
        let left = command.len() - option - 1;
        if how != How::Diff && parse::is(word, "weights") && left >= number {
            for (n, weight) in asked.weights.iter_mut().enumerate() {
                match command.get(option + 1 + n).and_then(parse::float) {
                    Some(value) => *weight = value,
                    None => {
                        ctx.reply.error("ERR weight value is not a float");
                        return None;
                    }
                }
            }
            option += number;
        } else if how != How::Diff && parse::is(word, "aggregate") && left >= 1 {
            asked.aggregate = match &command[option + 1] {
                word if parse::is(word, "sum") => Aggregate::Sum,
                word if parse::is(word, "min") => Aggregate::Min,
                word if parse::is(word, "max") => Aggregate::Max,
                _ => {
                    ctx.reply.error(SYNTAX);
                    return None;
                }
            };
            option += 1;
        } else if !stores && parse::is(word, "withscores") {
            asked.with_scores = true;
        } else {
            ctx.reply.error(SYNTAX);
            return None;
        }
        option += 1;
    }
    Some(asked)
}

type Scores = HashMap<Box<[u8]>, f64, ahash::RandomState>;

/// Whether a key is a set, or none.
fn check(ctx: &mut Ctx<'_>, key: &[u8]) -> Result<(), StoreError> {
    let key = ctx.key(key);
    match ctx.store.kind(key) {
        None | Some(Kind::Set | Kind::SortedSet) => Ok(()),
        Some(_) => Err(StoreError::WrongType),
    }
}

/// Calls `see` with the members of a key.
fn members(ctx: &mut Ctx<'_>, key: &[u8], mut see: impl FnMut(&[u8], f64)) -> Result<(), StoreError> {
    let key = ctx.key(key);
    match ctx.store.get(key) {
        None => {}
        Some(ValueRef::SortedSet(set)) => set.iter_from(0).for_each(|(member, score)| see(member, score)),
        Some(ValueRef::Set(set)) => set.iter().for_each(|member| see(&member, 1.0)),
        Some(_) => return Err(StoreError::WrongType),
    }
    Ok(())
}

/// Members of a key.
fn count(ctx: &mut Ctx<'_>, key: &[u8]) -> usize {
    let key = ctx.key(key);
    match ctx.store.peek(key) {
        Some(ValueRef::SortedSet(set)) => set.len(),
        Some(ValueRef::Set(set)) => set.len(),
        _ => 0,
    }
}

fn combine(ctx: &mut Ctx<'_>, asked: &Asked<'_>, how: How) -> Result<SortedSet, StoreError> {
    let mut result = Scores::default();
    let mut sources: Vec<(&[u8], f64)> =
        asked.keys.iter().copied().zip(asked.weights.iter().copied()).collect();
    if how != How::Diff {
        // The smallest first, as in Redis: what a sum is rounded to depends on the order.
        sources.sort_by_cached_key(|(key, _)| count(ctx, key));
    }
    for (n, (key, weight)) in sources.into_iter().enumerate() {
        let mut found = Scores::default();
        members(ctx, key, |member, score| {
            // An infinity without weight is 0; but to an intersection it comes as it is, as in Redis.
            let product = score * weight;
            let score = if n > 0 && how == How::Inter { product } else { not_nan(product) };
            match how {
                _ if n == 0 => {
                    result.insert(member.into(), score);
                }
                How::Union => {
                    let all = result.entry(member.into());
                    all.and_modify(|old| *old = asked.aggregate.of(*old, score)).or_insert(score);
                }
                How::Inter => {
                    if let Some(old) = result.get(member) {
                        found.insert(member.into(), asked.aggregate.of(*old, score));
                    }
                }
                How::Diff => {
                    result.remove(member);
                }
            }
        })?;
        if n > 0 && how == How::Inter {
            result = found;
        }
    }
    let mut set = SortedSet::exact();
    for (member, score) in result {
        set.put(&member, score);
    }
    Ok(set)
}

fn reply_combined(ctx: &mut Ctx<'_>, command: &Command<'_>, how: How) {
    let Some(asked) = asked(ctx, command, 1, how, false) else { return };
    match combine(ctx, &asked, how) {
        Ok(set) => {
            header(ctx.reply, set.len(), asked.with_scores);
            set.iter_from(0).for_each(|one| member(ctx.reply, one, asked.with_scores));
        }
        Err(error) => ctx.reply.error(error),
    }
}

fn store_combined(ctx: &mut Ctx<'_>, command: &Command<'_>, how: How) {
    let Some(asked) = asked(ctx, command, 2, how, true) else { return };
    match combine(ctx, &asked, how) {
        Ok(set) => keep(ctx, &command[1], set.kept()),
        Err(error) => ctx.reply.error(error),
    }
}

pub(super) fn zunion(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_combined(ctx, command, How::Union);
}

pub(super) fn zinter(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_combined(ctx, command, How::Inter);
}

pub(super) fn zdiff(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    reply_combined(ctx, command, How::Diff);
}

pub(super) fn zunionstore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    store_combined(ctx, command, How::Union);
}

pub(super) fn zinterstore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    store_combined(ctx, command, How::Inter);
}

pub(super) fn zdiffstore(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    store_combined(ctx, command, How::Diff);
}

pub(super) fn zintercard(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let Some(number) = parse::integer_or_reply(ctx.reply, &command[1]) else { return };
    if number < 1 {
        return ctx.reply.error("ERR at least 1 input key is needed for 'zintercard' command");
    }
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    if number > command.len() - 2 {
        return ctx.reply.error(SYNTAX);
    }
    let keys: Vec<&[u8]> = command.iter().skip(2).take(number).collect();
    if let Err(error) = keys.iter().try_for_each(|key| check(ctx, key)) {
        return ctx.reply.error(error);
    }
    let (mut limit, mut option) = (0, 2 + number);
    while let Some(word) = command.get(option) {
        let Some(value) = command.get(option + 1).filter(|_| parse::is(word, "limit")) else {
            return ctx.reply.error(SYNTAX);
        };
        let error = Some("ERR LIMIT can't be negative");
        let Some(value) = parse::within_or_reply(ctx.reply, value, 0, i64::MAX, error) else { return };
        limit = usize::try_from(value).unwrap_or(usize::MAX);
        option += 2;
    }
    let asked = Asked { weights: vec![1.0; number], keys, aggregate: Aggregate::Sum, with_scores: false };
    match combine(ctx, &asked, How::Inter) {
        Ok(set) => ctx.reply.count(if limit == 0 { set.len() } else { set.len().min(limit) }),
        Err(error) => ctx.reply.error(error),
    }
}
