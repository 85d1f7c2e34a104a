//! Dispatch: from a command to who runs it.
//!
//! Not here: running it.

use std::rc::Rc;

use corelane_base::ShardId;
use corelane_exec::Shard;
use corelane_proto_resp::Command;

use super::client::State;
use super::pipeline::Gathering;
use super::{Resp, connection};
use crate::services::cache::batch::copy;
use crate::services::cache::command::{self, Flags, Keys, Reply, Run, Spec, Unfit};
use crate::services::cache::gather;
use crate::services::cache::shard::Executed;
use crate::services::cache::store::Key;
use crate::services::cache::transaction::Queued;

/// How a pipeline goes on behind a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Then {
    /// Replied.
    Next,
    /// Its reply is gathered.
    Gather,
    /// It has to wait until what is gathered is back; nothing was done.
    NotYet,
    /// It has to wait until a pause is over; nothing was done.
    Hold,
    /// Its reply comes by a post.
    Wait,
    /// Replied, and the connection ends.
    Close,
}

impl Resp {
    /// Has one command run, or sent, or refused. `first` is its first argument as a key, where its hash is known.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "it is one step of a loop, and inlined there")]
    pub(super) fn dispatch(
        &self,
        shard: &Rc<Shard>,
        state: &mut State,
        command: &Command<'_>,
        first: Option<Key<'_>>,
        raw: &[u8],
        gathering: &mut Option<Box<Gathering>>,
        reply: &mut Reply,
    ) -> Then {
        self.commands.set(self.commands.get() + 1);
        let spec = match command::find(command) {
            Ok(spec) => spec,
            Err(_) if gathering.is_some() => return Then::NotYet,
            Err(unfit) => return self.unfit(state, unfit, command, reply),
        };
        if state.is_guarded.get()
            && let Some(then) = self.guard(state, spec, command, gathering.is_some(), reply)
        {
            return then;
        }
        state.last = spec.name;
        if state.multi.is_none()
            && !state.is_subscriber()
            && !spec.flags.has(Flags::BLOCKING)
            && let Some(then) = self.dispatch_data(state, spec, command, first, raw, gathering, reply)
        {
            return then;
        }
        if gathering.is_some() {
            return Then::NotYet;
        }
        self.dispatch_unusual(shard, state, spec, command, raw, reply)
    }

    /// Whether a command on keys of this shard may run where it is read: not behind one that waits for its turn here, nor
    /// where its reply would wait for others while there are too many bytes of such replies.
    #[inline]
    fn may_run_here(&self, gathering: &Option<Box<Gathering>>) -> bool {
        gathering.as_ref().is_none_or(|gathering| !gathering.asks_here() && !self.here.made_too_much())
    }

    /// Commands on keys outside of transactions. None: it is no such one, or has to be alone.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "as of `dispatch`")]
    fn dispatch_data(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        first: Option<Key<'_>>,
        raw: &[u8],
        gathering: &mut Option<Box<Gathering>>,
        reply: &mut Reply,
    ) -> Option<Then> {
        if matches!(spec.run, Run::Connection) {
            return None;
        }
        let one = matches!(spec.keys, Keys::Range { first: 1, last: 1, .. });
        if one && let Some(bytes) = command.get(1) {
            let key = first.unwrap_or_else(|| self.here.key(bytes));
            let owner = self.here.owner(key);
            if owner == self.here.here() && self.may_run_here(gathering) {
                return match self.here.execute(spec, command, Some(key), 0, reply) {
                    Executed::Done => {
                        self.here.serve_parked();
                        Some(Then::Next)
                    }
                    // Behind the transaction that holds it.
                    Executed::Locked => {
                        Some(self.gather_one(state, spec, command, raw, owner, gathering, reply))
                    }
                    Executed::Blocked => None,
                };
            }
            return Some(self.gather_one(state, spec, command, raw, owner, gathering, reply));
        }
        self.dispatch_wide(state, spec, command, raw, gathering, reply)
    }

    /// Commands with several keys, or none.
    fn dispatch_wide(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        raw: &[u8],
        gathering: &mut Option<Box<Gathering>>,
        reply: &mut Reply,
    ) -> Option<Then> {
        let owner = match spec.run {
            Run::All(..) if self.here.shards() > 1 => None,
            _ => self.only_owner(spec, command),
        };
        let Some(owner) = owner else {
            return match spec.run {
                Run::All(_, how) => Some(self.gather_all(state, spec, command, raw, how, gathering, reply)),
                Run::Split(_, how) if gather::is_whole(spec, command) => {
                    Some(self.gather_split(state, spec, command, how, gathering, reply))
                }
                // Malformed: any shard says so.
                Run::Split(..) => {
                    Some(self.gather_one(state, spec, command, raw, self.here.here(), gathering, reply))
                }
                _ => None, // a transaction of its own
            };
        };
        if owner == self.here.here() && self.may_run_here(gathering) {
            match self.here.execute(spec, command, None, 0, reply) {
                Executed::Done => {
                    self.here.serve_parked();
                    return Some(Then::Next);
                }
                Executed::Locked => {}
                Executed::Blocked => return None,
            }
        }
        Some(self.gather_one(state, spec, command, raw, owner, gathering, reply))
    }

    /// The shard that has all keys of a command; the own one for a command without keys.
    pub(super) fn only_owner(&self, spec: &Spec, command: &Command<'_>) -> Option<ShardId> {
        if self.here.shards() == 1 {
            return Some(self.here.here());
        }
        let mut places = Vec::new();
        spec.keys.find(command, &mut places);
        let mut owners =
            places.iter().filter_map(|&at| command.get(at)).map(|key| self.here.owner(self.here.key(key)));
        let Some(first) = owners.next() else { return Some(self.here.here()) };
        owners.all(|owner| owner == first).then_some(first)
    }

    /// Transactions, commands that wait, subscribers, commands about connection and node.
    fn dispatch_unusual(
        &self,
        shard: &Rc<Shard>,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        raw: &[u8],
        reply: &mut Reply,
    ) -> Then {
        if state.is_subscriber() && !connection::may_subscriber(state, spec) {
            let why = format!(
                "Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
                 context",
                spec.name
            );
            self.refuse(state, spec, &format!("ERR {why}"), reply);
            return Then::Next;
        }
        if state.multi.is_some() && !connection::leaves_multi(spec) {
            return self.queue(state, spec, command, raw, reply);
        }
        if matches!(spec.run, Run::Connection) {
            if !self.here.slow.times_all() {
                return self.run_connection(shard, state, spec, command, reply);
            }
            let began = corelane_sys::clock::mono_ns();
            let then = self.run_connection(shard, state, spec, command, reply);
            // It says itself how long it slept.
            if spec.name != "debug" {
                let ns = corelane_sys::clock::mono_ns().saturating_sub(began);
                self.here.slow.ran(spec, command, ns, (began, self.here.unix_ms_at(began)));
            }
            return then;
        }
        if spec.flags.has(Flags::BLOCKING) {
            return self.run_blocking(state, spec, command, raw, reply);
        }
        // Keys of several shards.
        let mut wire = Vec::with_capacity(raw.len());
        copy(&mut wire, command, raw);
        let (coordinator, version) = (self.coordinator(), state.version);
        let next = self.later(state, async move {
            let outcome = coordinator.run(vec![Queued { spec, wire }], Vec::new(), version).await?;
            Ok(super::multi::reply_of(outcome, version))
        });
        debug_assert_eq!(next, corelane_net::session::Next::Wait);
        Then::Wait
    }

    fn unfit(&self, state: &mut State, unfit: Unfit, command: &Command<'_>, reply: &mut Reply) -> Then {
        self.spoil(state);
        // Whoever sends HTTP here is a browser that was led astray, and must not reach what stands behind.
        let name = command.name();
        if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"HOST:") {
            tracing::warn!("an HTTP request came to the RESP port: the connection is closed");
            return Then::Close;
        }
        if let Unfit::Arity(spec) = unfit
            && spec.name == "exec"
        {
            self.refuse(state, spec, "wrong number of arguments for 'exec' command", reply);
            return Then::Next;
        }
        unfit.reply(command, reply);
        Then::Next
    }

    /// Says why a command is not run, with a code. An EXEC that is not run ends its transaction.
    pub(super) fn refuse(&self, state: &mut State, spec: &Spec, why: &str, reply: &mut Reply) {
        if spec.name == "exec" {
            state.multi = None;
            self.unwatch(state);
            let why = why.strip_prefix("ERR ").unwrap_or(why);
            return reply.error(format_args!("EXECABORT Transaction discarded because of: {why}"));
        }
        self.spoil(state);
        reply.error(why);
    }

    /// A transaction that holds a wrong command is not run.
    pub(super) fn spoil(&self, state: &mut State) {
        if let Some(multi) = &mut state.multi {
            multi.failed = true;
        }
    }
}
