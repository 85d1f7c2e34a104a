//! Multi: MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//!
//! Not here: how a transaction is atomic over shards (`transaction`).

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;

use corelane_proto_resp::{Command, Version};

use super::client::{
    KEPT_BYTES_MAX, KEPT_EACH, KEPT_TOO_MUCH, Multi, QUEUED_BYTES_MAX, QUEUED_OWN_MAX, State, WATCHED_MAX,
};
use super::dispatch::Then;
use super::{Captured, Post, Resp};
use crate::services::cache::CacheError;
use crate::services::cache::batch::copy;
use crate::services::cache::command::{Flags, Reply, Run, Spec};
use crate::services::cache::shard::{REPLIES_LEN_MAX, TOO_LONG};
use crate::services::cache::transaction::{Coordinator, Outcome, Queued, Watched, with_command};

/// The reply of a command that was a transaction of its own.
pub(super) fn reply_of(outcome: Outcome, version: Version) -> Reply {
    match outcome {
        Outcome::Ran(reply) | Outcome::Blocked(reply) => reply,
        Outcome::Changed => {
            let mut reply = Reply::new(version);
            reply.null_array();
            reply
        }
    }
}

/// Where the reply of a command of a transaction comes from.
enum Part {
    /// From a shard.
    Shard,
    /// It is here.
    Ready(Reply),
    /// From several shards, asked by the connection.
    Later(Pin<Box<dyn Future<Output = Result<Reply, CacheError>>>>),
}

/// Watches that end with this value, also where its task finds no place.
struct Watching(Coordinator, Vec<Watched>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.unwatch(std::mem::take(&mut self.1));
    }
}

/// Whether a transaction has its reply.
pub(super) enum Finished {
    Now(Reply),
    /// By a post.
    Later,
}

/// For its time, what would be a task is kept instead. It ends with this value, also if what runs meanwhile panics.
struct Capture<'a>(&'a RefCell<Option<Captured>>);

impl Capture<'_> {
    fn begin(cell: &RefCell<Option<Captured>>) -> Capture<'_> {
        cell.replace(Some(None));
        Capture(cell)
    }

    /// What was kept, if anything.
    fn end(self) -> Captured {
        self.0.take().flatten()
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        self.0.take();
    }
}

impl Part {
    /// The command was not run.
    fn refused(version: Version, why: &str) -> Part {
        let mut reply = Reply::new(version);
        reply.error(why);
        Part::Ready(reply)
    }

    /// Its reply, if it is here.
    fn now(self) -> Option<Reply> {
        match self {
            Part::Ready(reply) => Some(reply),
            Part::Shard | Part::Later(_) => None,
        }
    }

    async fn finish(self, version: Version) -> Option<Reply> {
        match self {
            Part::Shard => None,
            Part::Ready(reply) => Some(reply),
            Part::Later(later) => Some(later.await.unwrap_or_else(|error| {
                let mut reply = Reply::new(version);
                reply.error(error);
                reply
            })),
        }
    }
}

const TOO_MANY_MESSAGES: &str = "ERR too many messages wait for their subscribers: this command was not run; publish \
                                 fewer in one transaction";

impl Resp {
    /// MULTI.
    pub(super) fn multi(&self, state: &mut State, reply: &mut Reply) -> Then {
        if state.multi.is_some() {
            reply.error("ERR MULTI calls can not be nested");
            return Then::Next;
        }
        let kept = self.kept.part();
        state.multi = Some(Box::new(Multi { queued: Vec::new(), bytes: 0, own: 0, kept, failed: false }));
        reply.ok();
        Then::Next
    }

    /// DISCARD.
    pub(super) fn discard(&self, state: &mut State, reply: &mut Reply) -> Then {
        if state.multi.take().is_none() {
            reply.error("ERR DISCARD without MULTI");
            return Then::Next;
        }
        self.unwatch(state);
        reply.ok();
        Then::Next
    }

    /// Keeps a command for EXEC.
    pub(super) fn queue(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        raw: &[u8],
        reply: &mut Reply,
    ) -> Then {
        let Some(multi) = &mut state.multi else { unreachable!("who calls looked") };
        if spec.flags.has(Flags::NO_MULTI) {
            multi.failed = true;
            reply.error("ERR Command not allowed inside a transaction");
            return Then::Next;
        }
        if matches!(spec.run, Run::Connection) {
            multi.own += 1;
            if multi.own > QUEUED_OWN_MAX {
                multi.failed = true;
                reply.error(format_args!(
                    "ERR a transaction may have {QUEUED_OWN_MAX} commands that are about no key: send it in parts"
                ));
                return Then::Next;
            }
        }
        let bytes = raw.len() + KEPT_EACH;
        if multi.bytes + bytes > QUEUED_BYTES_MAX {
            multi.failed = true;
            reply.error(format_args!(
                "ERR the transaction is larger than {QUEUED_BYTES_MAX} bytes: send it in parts"
            ));
            return Then::Next;
        }
        if !multi.kept.add(bytes, KEPT_BYTES_MAX) {
            multi.failed = true;
            reply.error(KEPT_TOO_MUCH);
            return Then::Next;
        }
        let mut wire = Vec::with_capacity(raw.len());
        copy(&mut wire, command, raw);
        multi.bytes += bytes;
        multi.queued.push(Queued { spec, wire });
        reply.write().raw(corelane_proto_resp::QUEUED);
        Then::Next
    }

    /// EXEC.
    pub(super) fn exec(&self, state: &mut State, reply: &mut Reply) -> Then {
        let Some(multi) = state.multi.take() else {
            reply.error("ERR EXEC without MULTI");
            return Then::Next;
        };
        if multi.failed {
            self.unwatch(state);
            reply.error("EXECABORT Transaction discarded because of previous errors.");
            return Then::Next;
        }
        let watched = std::mem::take(&mut state.watched);
        state.kept.clear();
        let count = multi.queued.len();
        if count == 0 && watched.is_empty() {
            reply.array(0);
            return Then::Next;
        }
        let version = state.version;
        // What is about connection or node comes last: it needs this connection, and nothing may run if a watched key
        // was changed.
        let (mut plan, mut rest) = (Vec::with_capacity(count), Vec::new());
        let kept = multi.kept;
        for queued in multi.queued {
            match queued.spec.run {
                Run::Connection => plan.push(Some(queued)),
                _ => {
                    plan.push(None);
                    rest.push(queued);
                }
            }
        }
        let watching = Watching(self.coordinator(), watched);
        let number = self.next_wait(state);
        self.task(state.key, number, (version, 1), async move {
            let outcome = watching.0.run(rest, watching.1.clone(), version).await;
            drop((watching, kept));
            Post::Executed { number, outcome, plan }
        });
        Then::Wait
    }

    /// The commands on keys of a transaction have run: those about connection and node follow.
    pub(super) fn executed(
        &self,
        state: &mut State,
        outcome: Result<Outcome, CacheError>,
        plan: Vec<Option<Queued>>,
    ) -> Finished {
        let version = state.version;
        let mut reply = Reply::new(version);
        let ran = match outcome {
            Ok(Outcome::Ran(ran) | Outcome::Blocked(ran)) => ran,
            Ok(Outcome::Changed) => {
                reply.null_array();
                return Finished::Now(reply);
            }
            Err(error) => {
                reply.error(error);
                return Finished::Now(reply);
            }
        };
        let count = plan.len();
        let mut bytes = 0;
        let parts: Vec<Part> = plan
            .into_iter()
            .map(|queued| {
                let part = match queued {
                    None => Part::Shard,
                    Some(_) if bytes > REPLIES_LEN_MAX => Part::refused(version, TOO_LONG),
                    // Nothing is delivered before all of this has run.
                    Some(queued) if queued.spec.name == "publish" && self.posts_wait() => {
                        Part::refused(version, TOO_MANY_MESSAGES)
                    }
                    Some(queued) => self.run_captured(state, &queued),
                };
                if let Part::Ready(reply) = &part {
                    bytes += reply.len();
                }
                part
            })
            .collect();
        if parts.iter().any(|part| matches!(part, Part::Later(_))) {
            self.later(state, async move {
                let mut done = Vec::with_capacity(count);
                for part in parts {
                    done.push(part.finish(version).await);
                }
                reply.array(count);
                weave(&mut reply, &ran, &done);
                Ok(reply)
            });
            return Finished::Later;
        }
        let parts: Vec<_> = parts.into_iter().map(Part::now).collect();
        reply.array(count);
        weave(&mut reply, &ran, &parts);
        Finished::Now(reply)
    }

    /// Runs a command about connection or node as a part of EXEC.
    fn run_captured(&self, state: &mut State, queued: &Queued) -> Part {
        let mut reply = Reply::new(state.version);
        let capture = Capture::begin(&self.captured);
        let then = with_command(&queued.wire, |command| {
            let shard = Rc::clone(&self.shard);
            self.run_connection(&shard, state, queued.spec, command, &mut reply)
        });
        match capture.end() {
            Some(later) if then == Then::Wait => Part::Later(later),
            _ => Part::Ready(reply),
        }
    }

    /// WATCH.
    pub(super) fn watch(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        if state.multi.is_some() {
            reply.error("ERR WATCH inside MULTI is not allowed");
            return Then::Next;
        }
        if state.watched.len() + command.len() - 1 > WATCHED_MAX {
            reply.error(format_args!("ERR a connection may watch {WATCHED_MAX} keys: UNWATCH some"));
            return Then::Next;
        }
        let keys: Vec<Box<[u8]>> = command
            .iter()
            .skip(1)
            .filter(|key| !state.watched.iter().any(|one| *one.key == **key))
            .map(Box::from)
            .collect();
        // Each is here, with its shard, and in what asks for it.
        let bytes = keys.iter().map(|key| 2 * (key.len() + KEPT_EACH)).sum();
        if !state.kept.add(bytes, KEPT_BYTES_MAX) {
            reply.error(KEPT_TOO_MUCH);
            return Then::Next;
        }
        let is_here = |key: &[u8]| self.here.owner(self.here.key(key)) == self.here.here();
        if keys.iter().all(|key| is_here(key)) && !self.here.is_tiered() {
            let mut store = self.here.store.borrow_mut();
            let owner = self.here.here();
            for key in keys {
                let version = store.watch(self.here.key(&key));
                state.watched.push(Watched { key, owner, version });
            }
            reply.ok();
            return Then::Next;
        }
        let number = self.next_wait(state);
        let calls: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let owner = self.here.owner(self.here.key(&key));
                let (all, wanted) = (self.all.clone(), key.clone());
                let call = if self.here.is_tiered() {
                    // It is to be here when the transaction begins: its coming would be a change.
                    self.shard.mesh().run(owner, move |shard| all.of(shard).watch_tiered(shard, wanted))
                } else {
                    self.shard.mesh().with(owner, move |shard| {
                        let here = all.of(shard);
                        here.set_now(shard);
                        here.store.borrow_mut().watch(here.key(&wanted))
                    })
                };
                (key, owner, call)
            })
            .collect();
        let coordinator = self.coordinator();
        self.task(state.key, number, (state.version, 1), async move {
            let mut watched = Vec::new();
            let mut failed = None;
            for (key, owner, call) in calls {
                match call.await {
                    Ok(version) => watched.push(Watched { key, owner, version }),
                    Err(error) => failed = Some(error.into()),
                }
            }
            let watched = match failed {
                None => Ok(watched),
                Some(error) => {
                    coordinator.unwatch(watched);
                    Err(error)
                }
            };
            Post::Watched { number, watched }
        });
        Then::Wait
    }

    /// Ends all watches of a connection.
    pub(super) fn unwatch(&self, state: &mut State) {
        self.coordinator().unwatch(std::mem::take(&mut state.watched));
        state.kept.clear();
    }
}

/// Puts the replies of a transaction in order: `ran` has those that ran on shards, one behind the other.
fn weave(reply: &mut Reply, ran: &Reply, others: &[Option<Reply>]) {
    if others.iter().all(Option::is_none) {
        return reply.append(ran);
    }
    let mut at = 0;
    for other in others {
        match other {
            Some(other) => reply.append(other),
            None => {
                let end = at + whole_reply(&ran.bytes()[at..], ran, at);
                reply.append_range(ran, at..end);
                at = end;
            }
        }
    }
}

/// Bytes of the reply that begins at `at`, without those of large values, which are not among the bytes.
fn whole_reply(bytes: &[u8], of: &Reply, at: usize) -> usize {
    let (mut done, mut left) = (0, 1_u64);
    while left > 0 {
        let Some(end) = memchr::memchr(b'\n', &bytes[done..]) else { return bytes.len() };
        let line = &bytes[done..done + end];
        let number = std::str::from_utf8(line.get(1..line.len().saturating_sub(1)).unwrap_or(&[]))
            .ok()
            .and_then(|digits| digits.parse::<i64>().ok());
        done += end + 1;
        left -= 1;
        let count = u64::try_from(number.unwrap_or(0)).unwrap_or(0);
        match line.first() {
            Some(b'$' | b'=') if number.is_some_and(|len| len >= 0) => {
                let is_beside = of.large().iter().any(|(place, _)| *place == at + done);
                done += if is_beside { 2 } else { usize::try_from(count).unwrap_or(0) + 2 };
            }
            Some(b'*' | b'~' | b'>') => left += count,
            Some(b'%') => left += 2 * count,
            Some(b'|') => left += 2 * count + 1,
            _ => {}
        }
    }
    done
}

impl crate::services::cache::transaction::Coordinator {
    /// Ends watches, wherever they are.
    pub(in crate::services::cache) fn unwatch(&self, watched: Vec<Watched>) {
        let mut elsewhere: std::collections::BTreeMap<u16, Vec<Box<[u8]>>> =
            std::collections::BTreeMap::new();
        for one in watched {
            if one.owner == self.here.here() {
                self.here.store.borrow_mut().unwatch(self.here.key(&one.key));
            } else {
                elsewhere.entry(one.owner.0).or_default().push(one.key);
            }
        }
        for (owner, keys) in elsewhere {
            let all = self.all.clone();
            let call = self.shard.mesh().with(corelane_base::ShardId(owner), move |shard| {
                let here = all.of(shard);
                let mut store = here.store.borrow_mut();
                for key in keys {
                    store.unwatch(here.key(&key));
                }
            });
            // Kept until it is answered: a call that waits for a credit goes with its handle.
            if let Ok(task) = self.shard.spawn(async move {
                let _ = call.await;
            }) {
                task.detach();
            }
        }
    }
}

impl Multi {
    /// Commands queued.
    pub(super) fn len(&self) -> usize {
        self.queued.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn replies_of_shards_and_of_the_connection_stand_in_the_order_of_their_commands() {
        let mut ran = Reply::default();
        ran.array(2);
        ran.integer(1);
        ran.bulk(b"a\nb");
        ran.shared(&Bytes::from(vec![b'x'; 20_000]));
        ran.null();
        let mut pong = Reply::default();
        pong.write().raw(corelane_proto_resp::PONG);
        let mut woven = Reply::default();
        weave(&mut woven, &ran, &[None, Some(pong), None, None]);
        let mut wanted = b"*2\r\n:1\r\n$3\r\na\nb\r\n+PONG\r\n$20000\r\n".to_vec();
        wanted.extend(vec![b'x'; 20_000]);
        wanted.extend(b"\r\n$-1\r\n");
        assert_eq!(woven.to_vec(), wanted);
    }
}
