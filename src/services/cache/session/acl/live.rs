//! Live: the users of connections: looked at before a command, and again when users change.
//!
//! Not here: what users may (`mod.rs`), changing them (`command`).

use std::rc::Rc;
use std::sync::Arc;

use corelane_exec::Shard;
use corelane_net::session::{ConnKey, Sessions};
use corelane_proto_resp::Command;

use super::{Denied, Reason, User, Users};
use crate::services::cache::CacheError;
use crate::services::cache::command::{Flags, Reply, Spec};
use crate::services::cache::session::client::{Client, State};
use crate::services::cache::session::dispatch::Then;
use crate::services::cache::session::{Post, Resp};

impl Resp {
    /// Looks at a command of a connection that is a guest, whose user may not do everything, or whose shard is paused.
    /// None: it may run.
    /// `behind`: replies of commands before it are still gathered, so that nothing may be replied.
    #[inline(never)]
    pub(in super::super) fn guard(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        behind: bool,
        reply: &mut Reply,
    ) -> Option<Then> {
        if state.is_guest && !spec.flags.has(Flags::NO_AUTH) {
            self.spoil(state);
            reply.error("NOAUTH Authentication required.");
            return Some(Then::Next);
        }
        // Borrowed and not cloned: all shards count the references to a user in one place.
        let may = {
            let user = state.user.borrow();
            match user.is_restricted() {
                true => user.may(spec, command.len(), |at| command.get(at), &mut self.places.borrow_mut()),
                false => Ok(()),
            }
        };
        let Err(denied) = may else { return self.hold(state, spec, behind) };
        if behind {
            return Some(Then::NotYet);
        }
        let (reason, object) = match denied {
            Denied::Command => (Reason::Command, spec.name.as_bytes()),
            Denied::Key(at) => (Reason::Key, command.get(at).unwrap_or_default()),
            Denied::Channel(at) => (Reason::Channel, command.get(at).unwrap_or_default()),
        };
        self.log_denied(state, reason, object, state.user.borrow().name());
        let why = match denied {
            Denied::Command => {
                format!("NOPERM this user has no permissions to run the '{}' command", spec.name)
            }
            Denied::Key(_) => {
                "NOPERM this user has no permissions to access one of the keys used as arguments".to_owned()
            }
            Denied::Channel(_) => {
                "NOPERM this user has no permissions to access one of the channels used as arguments"
                    .to_owned()
            }
        };
        self.refuse(state, spec, &why, reply);
        Some(Then::Next)
    }

    /// Keeps for ACL LOG that somebody was denied something.
    fn log_denied(&self, state: &State, reason: Reason, object: &[u8], user: &[u8]) {
        let client = self.describe(&self.shard, state, None).trim_end().to_owned();
        let at_ms = self.shard.now().mono_ns / 1_000_000;
        self.acl_log.borrow_mut().add(reason, state.multi.is_some(), object, user, at_ms, client);
    }

    /// Makes a connection that of `user`, if `password` is right. `by` is the command that asked.
    pub(in super::super) fn authenticate(
        &self,
        state: &mut State,
        by: &[u8],
        user: &[u8],
        password: &[u8],
    ) -> Result<(), CacheError> {
        let found = self.users.borrow().authenticate(user, password).cloned();
        let Some(found) = found else {
            self.log_denied(state, Reason::Auth, by, user);
            tracing::warn!(client = state.id, "a Redis client gave a wrong user name or password");
            let text = "WRONGPASS invalid username-password pair or user is disabled.";
            return Err(CacheError::Reply(text.to_owned()));
        };
        state.is_guest = false;
        state.user.replace(found);
        self.look_whether_guarded(state);
        Ok(())
    }

    /// Makes a connection one that has said nothing yet.
    pub(in super::super) fn forget_user(&self, state: &mut State) {
        let users = self.users.borrow();
        state.is_guest = !users.is_open();
        state.user.replace(users.default_user());
        self.look_whether_guarded(state);
    }

    /// Sets whether anything about a connection has to be looked at before its commands.
    pub(in super::super) fn look_whether_guarded(&self, state: &State) {
        let is_restricted = state.user.borrow().is_restricted();
        state.is_guarded.set(state.is_guest || is_restricted || self.pause.borrow().is_on());
    }

    /// Takes other users, if they are newer: connections of users who are gone are closed, those of others have their new
    /// rights at once.
    pub(super) fn adopt(&self, shard: &Rc<Shard>, sessions: &Sessions<Resp>, users: Arc<Users>) {
        if users.version <= self.users.borrow().version {
            return;
        }
        sessions.each(shard, |key, client: &Client, _| {
            let state = &client.state;
            let own = Arc::clone(&state.user.borrow());
            match users.get(own.name()) {
                Some(new) if Arc::ptr_eq(new, &own) => {}
                Some(new) => {
                    state.user.replace(Arc::clone(new));
                    self.look_whether_guarded(state);
                    if !self.may_stay(key, new) {
                        sessions.post(key, Post::Kill);
                    }
                }
                None => sessions.post(key, Post::Kill),
            }
        });
        self.users.replace(users);
    }

    /// Whether a connection may have all it subscribed to.
    fn may_stay(&self, key: ConnKey, user: &User) -> bool {
        let channels = self.channels.borrow();
        channels.all_of(key, |name, is_pattern| user.may_stay(name, is_pattern))
    }
}
