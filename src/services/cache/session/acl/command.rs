//! Command: ACL, which shows users and changes them.
//!
//! Not here: the syntax of rules (`rules`).

use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use corelane_base::ShardId;
use corelane_proto_resp::Command;

use super::log::ENTRIES_MAX;
use super::{DEFAULT, Denied, User, Users, category, each};
use crate::services::cache::CacheError;
use crate::services::cache::command::{self, Categories, Reply, Spec, Unfit, find_in, parse};
use crate::services::cache::session::Resp;
use crate::services::cache::session::client::State;
use crate::services::cache::session::dispatch::Then;
use crate::services::cache::session::server::{all_of, each_table};

/// Bits that ACL GENPASS gives if nothing is said, and at most.
const GENPASS_BITS: i64 = 256;
const GENPASS_BITS_MAX: i64 = 4096;

/// Entries that ACL LOG replies if nothing is said.
const LOG_SHOWN: usize = 10;

impl Resp {
    pub(in super::super) fn acl(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        reply: &mut Reply,
    ) -> Then {
        match (spec.own_name(), command.len()) {
            ("whoami", _) => reply.bulk(state.user.borrow().name()),
            ("users", _) => {
                let users = self.users.borrow();
                reply.array(users.all.len());
                users.all.keys().for_each(|name| reply.bulk(name));
            }
            ("list", _) => {
                let users = self.users.borrow();
                reply.array(users.all.len());
                users.all.values().for_each(|user| reply.bulk(&user.describe()));
            }
            ("getuser", _) => match self.users.borrow().get(&command[2]) {
                Some(user) => get_user(user, reply),
                None => reply.null(),
            },
            ("setuser", _) => return self.set_user(state, command, reply),
            ("deluser", _) => return self.del_user(state, command, reply),
            ("cat", 2) => {
                reply.array(Categories::NAMES.len());
                Categories::NAMES.iter().for_each(|name| reply.bulk(name.as_bytes()));
            }
            ("cat", 3) => match category(&command[2]) {
                Some(wanted) => {
                    let (begun, mut count) = (reply.array_later(), 0);
                    for spec in each().filter(|spec| spec.categories.has(wanted)) {
                        reply.bulk(spec.name.as_bytes());
                        count += 1;
                    }
                    reply.end_array(begun, count);
                }
                None => reply.error_about("ERR Unknown category '", &command[2], "'"),
            },
            ("genpass", 2 | 3) => gen_pass(command.get(2), reply),
            ("log", 2 | 3) => return self.acl_log(state, command, reply),
            ("dryrun", _) => self.dry_run(command, reply),
            _ => reply.error_about(
                "ERR unknown subcommand or wrong number of arguments for '",
                &command[1],
                "'. Try ACL HELP.",
            ),
        }
        Then::Next
    }

    /// Changes the users of the node: on shard 0, then on all others, then `say` has the reply.
    fn change_users<R: Send + 'static>(
        &self,
        state: &mut State,
        change: impl FnOnce(&mut Users) -> Result<R, String> + Send + 'static,
        say: impl FnOnce(R, &mut Reply) + 'static,
    ) -> Then {
        let everywhere = self.everywhere.clone();
        let first = self.shard.mesh().run(ShardId(0), move |shard| {
            let shard = Rc::clone(shard);
            async move {
                let sessions = everywhere.of(&shard).borrow().upgrade()?;
                let resp = sessions.protocol();
                let mut users = Users::clone(&resp.users.borrow());
                let done = change(&mut users);
                users.version += 1;
                let users = Arc::new(users);
                if done.is_ok() {
                    resp.adopt(&shard, &sessions, Arc::clone(&users));
                }
                Some(done.map(|done| (users, done)))
            }
        });
        let (shard, everywhere, version) = (Rc::clone(&self.shard), self.everywhere.clone(), state.version);
        self.later(state, async move {
            let Some(done) = first.await? else {
                return Err(CacheError::Reply(
                    "ERR the node is about to end: users are as they were".to_owned(),
                ));
            };
            let mut reply = Reply::new(version);
            match done {
                Ok((users, done)) => {
                    let calls = each_table(&shard, &everywhere, move |shard, sessions| {
                        sessions.protocol().adopt(shard, sessions, Arc::clone(&users));
                    });
                    all_of(calls).await?;
                    say(done, &mut reply);
                }
                Err(why) => reply.error(why),
            }
            Ok(reply)
        });
        Then::Wait
    }

    fn set_user(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let name = command[2].to_vec();
        let rules: Vec<Vec<u8>> = command.iter().skip(3).map(<[u8]>::to_vec).collect();
        // Here already, so that what is wrong is said without a hop.
        let check = |users: &mut Users, name: &[u8], rules: &[Vec<u8>]| {
            users.set(name, rules.iter().map(Vec::as_slice)).map_err(|(rule, error)| match rule {
                Some(n) => {
                    let rule = String::from_utf8_lossy(&rules[n]).into_owned();
                    format!("ERR Error in ACL SETUSER modifier '{rule}': {error}")
                }
                None => format!("ERR {error}"),
            })
        };
        if let Err(why) = check(&mut Users::clone(&self.users.borrow()), &name, &rules) {
            reply.error(why);
            return Then::Next;
        }
        tracing::info!(client = state.id, user = %String::from_utf8_lossy(&name).escape_debug(), "ACL SETUSER");
        self.change_users(state, move |users| check(users, &name, &rules), |(), reply| reply.ok())
    }

    fn del_user(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let names: Vec<Vec<u8>> = command.iter().skip(2).map(<[u8]>::to_vec).collect();
        if names.iter().any(|name| name == DEFAULT) {
            reply.error("ERR The 'default' user cannot be removed");
            return Then::Next;
        }
        tracing::info!(client = state.id, users = names.len(), "ACL DELUSER");
        let delete = move |users: &mut Users| Ok(users.delete(names.iter().map(Vec::as_slice)));
        self.change_users(state, delete, |count, reply| reply.count(count))
    }

    fn acl_log(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let version = state.version;
        let mut wanted = LOG_SHOWN;
        if let Some(word) = command.get(2) {
            if parse::is(word, "reset") {
                let calls = self.each(|_, resp| resp.acl_log.borrow_mut().clear());
                self.later(state, async move {
                    all_of(calls).await?;
                    let mut reply = Reply::new(version);
                    reply.ok();
                    Ok(reply)
                });
                return Then::Wait;
            }
            let Some(count) = parse::integer_or_reply(reply, word) else { return Then::Next };
            wanted = usize::try_from(count).unwrap_or(0);
        }
        let now_ms = self.shard.now().mono_ns / 1_000_000;
        let calls = self.each(|_, resp| resp.acl_log.borrow().all());
        self.later(state, async move {
            let mut all = all_of(calls).await?.concat();
            all.sort_by_key(|entry| std::cmp::Reverse(entry.at_ms));
            all.truncate(wanted.min(ENTRIES_MAX));
            let mut reply = Reply::new(version);
            reply.array(all.len());
            for entry in all {
                reply.write().map(7);
                reply.bulk(b"count");
                reply.integer(i64::try_from(entry.count).unwrap_or(i64::MAX));
                let context: &[u8] = if entry.in_multi { b"multi" } else { b"toplevel" };
                let texts: [(&str, &[u8]); 4] = [
                    ("reason", entry.reason.name().as_bytes()),
                    ("context", context),
                    ("object", &entry.object),
                    ("username", &entry.user),
                ];
                for (name, value) in texts {
                    reply.bulk(name.as_bytes());
                    reply.bulk(value);
                }
                reply.bulk(b"age-seconds");
                #[expect(clippy::cast_precision_loss, reason = "it is shown to people")]
                reply.write().double(now_ms.saturating_sub(entry.at_ms) as f64 / 1000.0);
                reply.bulk(b"client-info");
                reply.bulk(entry.client.as_bytes());
            }
            Ok(reply)
        });
        Then::Wait
    }

    fn dry_run(&self, command: &Command<'_>, reply: &mut Reply) {
        let users = self.users.borrow();
        let Some(user) = users.get(&command[2]) else {
            return reply.error_about("ERR User '", &command[2], "' not found");
        };
        let len = command.len() - 3;
        let spec = match find_in(&command[3], command.get(4), len) {
            Ok(spec) => spec,
            Err(Unfit::Arity(spec)) => return command::wrong_arity(reply, spec.name),
            Err(_) => return reply.error_about("ERR Command '", &command[3], "' not found"),
        };
        let mut places = Vec::new();
        let denied = user.may(spec, len, |at| command.get(at + 3), &mut places);
        let named = |at: usize| String::from_utf8_lossy(command.get(at + 3).unwrap_or_default()).into_owned();
        let text = match denied {
            Ok(()) => return reply.ok(),
            Err(Denied::Command) => {
                format!("This user has no permissions to run the '{}' command", spec.name)
            }
            Err(Denied::Key(at)) => format!("This user has no permissions to access the '{}' key", named(at)),
            Err(Denied::Channel(at)) => {
                format!("This user has no permissions to access the '{}' channel", named(at))
            }
        };
        reply.bulk(text.as_bytes());
    }
}

fn get_user(user: &User, reply: &mut Reply) {
    reply.write().map(6);
    reply.bulk(b"flags");
    let flags = user.flags();
    reply.write().set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    let hashes = user.hashes();
    reply.array(hashes.len());
    hashes.iter().for_each(|hash| reply.bulk(hash.as_bytes()));
    let texts = [
        ("commands", user.describe_commands().into_bytes()),
        ("keys", user.describe_keys()),
        ("channels", user.describe_channels()),
    ];
    for (name, text) in texts {
        reply.bulk(name.as_bytes());
        reply.bulk(&text);
    }
    reply.bulk(b"selectors");
    reply.array(0);
}

fn gen_pass(bits: Option<&[u8]>, reply: &mut Reply) {
    let mut wanted = GENPASS_BITS;
    if let Some(text) = bits {
        let Some(bits) = parse::integer_or_reply(reply, text) else { return };
        if !(1..=GENPASS_BITS_MAX).contains(&bits) {
            return reply.error(format_args!(
                "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to \
                 {GENPASS_BITS_MAX}"
            ));
        }
        wanted = bits;
    }
    let digits = usize::try_from((wanted + 3) / 4).unwrap_or(0);
    let mut random = vec![0_u8; digits.div_ceil(2)];
    if let Err(error) = getrandom::fill(&mut random) {
        return reply.error(format_args!("ERR the host gives no random bytes: {error}"));
    }
    let mut text = random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    text.truncate(digits);
    reply.bulk(text.as_bytes());
}
