//! Change: ZADD, ZINCRBY, ZREM.
//!
//! Not here: removing by range (`range`).

use corelane_proto_resp::Command;

use crate::services::cache::command::Ctx;
use crate::services::cache::command::parse::{self, SYNTAX};
use crate::services::cache::store::Edit;
use crate::services::cache::value::{Put, SortedSet};

const NOT_A_NUMBER: &str = "ERR resulting score is not a number (NaN)";

#[derive(Clone, Copy, Debug, Default)]
struct Options {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl Options {
    /// The options, and where the scores begin.
    fn of(command: &Command<'_>) -> (Options, usize) {
        let (mut options, mut at) = (Options::default(), 2);
        while let Some(word) = command.get(at) {
            let flag = match word {
                word if parse::is(word, "nx") => &mut options.nx,
                word if parse::is(word, "xx") => &mut options.xx,
                word if parse::is(word, "gt") => &mut options.gt,
                word if parse::is(word, "lt") => &mut options.lt,
                word if parse::is(word, "ch") => &mut options.ch,
                word if parse::is(word, "incr") => &mut options.incr,
                _ => break,
            };
            *flag = true;
            at += 1;
        }
        (options, at)
    }

    /// The score that a member is to have, if it is to be changed.
    ///
    /// # Errors
    /// The sum is no number.
    fn apply(self, old: Option<f64>, given: f64) -> Result<Option<f64>, ()> {
        let Some(old) = old else { return Ok((!self.xx).then_some(given)) };
        if self.nx {
            return Ok(None);
        }
        let new = if self.incr { old + given } else { given };
        if new.is_nan() {
            return Err(());
        }
        let is_refused = (self.gt && new <= old) || (self.lt && new >= old);
        Ok((!is_refused).then_some(new))
    }
}

/// What came of adding.
struct Done {
    added: usize,
    changed: usize,
    /// Of the last member, where it was not refused.
    score: Option<f64>,
}

pub(super) fn zadd(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let (options, from) = Options::of(command);
    let rest = command.len() - from;
    if rest == 0 || rest % 2 == 1 {
        return ctx.reply.error(SYNTAX);
    }
    if options.nx && options.xx {
        return ctx.reply.error("ERR XX and NX options at the same time are not compatible");
    }
    if [options.gt, options.lt, options.nx].into_iter().filter(|is_set| *is_set).count() > 1 {
        return ctx.reply.error("ERR GT, LT, and/or NX options at the same time are not compatible");
    }
    if options.incr && rest > 2 {
        return ctx.reply.error("ERR INCR option supports a single increment-element pair");
    }
    add(ctx, command, options, from);
}

pub(super) fn zincrby(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    // Redis takes options here, too, and then misses the increment.
    if Options::of(command).1 > 2 {
        return ctx.reply.error(SYNTAX);
    }
    add(ctx, command, Options { incr: true, ..Options::default() }, 2);
}

fn add(ctx: &mut Ctx<'_>, command: &Command<'_>, options: Options, from: usize) {
    let mut pairs: Vec<(f64, &[u8])> = Vec::with_capacity((command.len() - from) / 2);
    let mut at = from;
    while let (Some(score), Some(member)) = (command.get(at), command.get(at + 1)) {
        let Some(score) = parse::float_or_reply(ctx.reply, score) else { return };
        pairs.push((score, member));
        at += 2;
    }
    let key = ctx.key(&command[1]);
    let put = |set: &mut Edit<'_, SortedSet>| put_all(set, options, &pairs);
    let done =
        if options.xx { ctx.store.edit(key, put) } else { ctx.store.edit_or_insert(key, put).map(Some) };
    match done {
        Ok(Some(Err(()))) => ctx.reply.error(NOT_A_NUMBER),
        Ok(Some(Ok(Done { score, .. }))) if options.incr => match score {
            Some(score) => ctx.reply.write().double(score),
            None => ctx.reply.null(),
        },
        Ok(None) if options.incr => ctx.reply.null(),
        Ok(None) => ctx.reply.count(0),
        Ok(Some(Ok(done))) => ctx.reply.count(done.added + if options.ch { done.changed } else { 0 }),
        Err(error) => ctx.reply.error(error),
    }
}

fn put_all(set: &mut Edit<'_, SortedSet>, options: Options, pairs: &[(f64, &[u8])]) -> Result<Done, ()> {
    let mut done = Done { added: 0, changed: 0, score: None };
    for (given, member) in pairs {
        let old = set.score(member);
        let Some(score) = options.apply(old, *given)? else { continue };
        done.score = Some(score);
        if old == Some(score) {
            continue;
        }
        match set.put(member, score) {
            Put::Added => done.added += 1,
            Put::Changed => done.changed += 1,
            Put::Same => {}
        }
    }
    Ok(done)
}

pub(super) fn zrem(ctx: &mut Ctx<'_>, command: &Command<'_>) {
    let key = ctx.key(&command[1]);
    let removed = ctx.store.edit::<SortedSet, _>(key, |set| {
        let removed = command.iter().skip(2).filter(|member| set.remove(member).is_some()).count();
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
