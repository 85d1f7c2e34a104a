//! Server: commands about the node, and those that ask every shard in their own way.
//!
//! Not here: what a shard finds out about itself (`shard`).

use std::fmt::Write as _;
use std::rc::Rc;

use bytes::Bytes;
use corelane_exec::{Call, Shard};
use corelane_proto_resp::Command;

use super::blocking::End;
use super::client::State;
use super::dispatch::Then;
use super::{Post, Resp};
use crate::services::cache::CacheError;
use crate::services::cache::command::{self, Reply, Spec, parse};
use crate::services::cache::keys;
use crate::services::cache::store::Stats;
use crate::services::cache::tier::TierFacts;

/// The version of Redis whose commands and replies these are: clients decide by it what they may send.
pub(super) const REDIS_VERSION: &str = "7.0.15";

impl Resp {
    /// Asks every shard for something about its sessions or its keys.
    pub(super) fn each<R: Send + 'static>(
        &self,
        ask: impl Fn(&Rc<Shard>, &Resp) -> R + Clone + Send + 'static,
    ) -> Vec<Call<Option<R>>> {
        let mesh = self.shard.mesh();
        let all = mesh.all().map(|to| {
            let (everywhere, ask) = (self.everywhere.clone(), ask.clone());
            mesh.with(to, move |shard| {
                let sessions = everywhere.of(shard).borrow().upgrade()?;
                Some(ask(shard, sessions.protocol()))
            })
        });
        all.collect()
    }

    /// Commands about the node.
    pub(super) fn run_server(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        reply: &mut Reply,
    ) -> Then {
        match spec.name.split('|').next().unwrap_or(spec.name) {
            "publish" => self.publish(state, command, reply),
            "pubsub" => self.pubsub(state, command, reply),
            "scan" => self.scan(state, command, reply),
            "randomkey" => self.random_key(state),
            "info" => self.info(state, command),
            "time" => {
                time(reply);
                Then::Next
            }
            "command" => {
                command::describe::command_reply(command, reply);
                Then::Next
            }
            "auth" => self.auth(state, command, reply),
            "shutdown" => self.shutdown(state, command, reply),
            "debug" => self.debug(spec, command, reply),
            "acl" => self.acl(state, spec, command, reply),
            "slowlog" => self.slowlog(state, spec, command, reply),
            "latency" => self.latency(state, spec, command, reply),
            "memory" => self.memory(state, spec, command, reply),
            "hotkeys" => self.hot_keys(state),
            "config" => self.config(state, spec, command, reply),
            "save" | "bgsave" | "lastsave" => self.persist(state, spec, command, reply),
            name => {
                reply.error(format_args!(
                    "ERR '{name}' is not offered by this build; docs/CACHE.md lists what is"
                ));
                Then::Next
            }
        }
    }

    fn publish(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let (channel, payload) = (Bytes::copy_from_slice(&command[1]), Bytes::copy_from_slice(&command[2]));
        if self.here.shards() == 1 {
            reply.count(self.publish_here(&channel, &payload));
            return Then::Next;
        }
        let calls = self.each(move |_, resp| resp.publish_here(&channel, &payload));
        let version = state.version;
        self.later(state, async move {
            let mut count = 0;
            for call in calls {
                count += call.await?.unwrap_or(0);
            }
            let mut reply = Reply::new(version);
            reply.count(count);
            Ok(reply)
        });
        Then::Wait
    }

    fn pubsub(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let version = state.version;
        let sub = String::from_utf8_lossy(&command[1]).to_lowercase();
        match (sub.as_str(), command.len()) {
            ("channels", 2 | 3) => {
                let pattern = command.get(2).map(<[u8]>::to_vec);
                let calls = self.each(move |_, resp| resp.channels.borrow().matching(pattern.as_deref()));
                self.later(state, async move {
                    let mut names = all_of(calls).await?.concat();
                    names.sort_unstable();
                    names.dedup();
                    let mut reply = Reply::new(version);
                    reply.array(names.len());
                    names.iter().for_each(|name| reply.bulk(name));
                    Ok(reply)
                })
            }
            ("numsub", _) => {
                let names: Vec<Box<[u8]>> = command.iter().skip(2).map(Box::from).collect();
                let asked = names.clone();
                let calls = self.each(move |_, resp| {
                    let channels = resp.channels.borrow();
                    asked.iter().map(|name| channels.count(name)).collect::<Vec<_>>()
                });
                self.later(state, async move {
                    let counts = all_of(calls).await?;
                    let mut reply = Reply::new(version);
                    reply.array(2 * names.len());
                    for (n, name) in names.iter().enumerate() {
                        reply.bulk(name);
                        reply.count(counts.iter().map(|of| of[n]).sum());
                    }
                    Ok(reply)
                })
            }
            ("numpat", 2) => {
                let calls = self.each(|_, resp| resp.channels.borrow().patterns());
                self.later(state, async move {
                    let mut patterns = all_of(calls).await?.concat();
                    patterns.sort_unstable();
                    patterns.dedup();
                    let mut reply = Reply::new(version);
                    reply.count(patterns.len());
                    Ok(reply)
                })
            }
            _ => {
                reply.error(format_args!(
                    "ERR unknown subcommand or wrong number of arguments for '{}'. Try PUBSUB HELP.",
                    String::from_utf8_lossy(&command[1])
                ));
                return Then::Next;
            }
        };
        Then::Wait
    }

    fn scan(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        match keys::scan(&self.shard, &self.all, command, state.version) {
            Ok(work) => {
                self.later(state, work);
                Then::Wait
            }
            Err(said) => {
                reply.append(&said);
                Then::Next
            }
        }
    }

    fn random_key(&self, state: &mut State) -> Then {
        self.later(state, keys::random_key(&self.shard, &self.all, state.version));
        Then::Wait
    }

    pub(super) fn client_list(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let mut ids = Vec::new();
        if command.len() > 2 {
            let is_ids = parse::is(&command[2], "id") && command.len() > 3;
            let is_type = parse::is(&command[2], "type") && command.len() == 4;
            if !is_ids && !is_type {
                reply.error("ERR syntax error");
                return Then::Next;
            }
            if is_type && !is_kind(&command[3]) {
                reply.error_about("ERR Unknown client type '", &command[3], "'");
                return Then::Next;
            }
            if is_ids {
                for text in command.iter().skip(3) {
                    let Some(id) = parse::integer(text).and_then(|id| u64::try_from(id).ok()) else {
                        reply.error("ERR Invalid client ID");
                        return Then::Next;
                    };
                    ids.push(id);
                }
            }
        }
        let wanted = command.get(3).filter(|_| ids.is_empty()).map(<[u8]>::to_ascii_lowercase);
        let version = state.version;
        let calls = self.each_table(move |shard, sessions| {
            let mut lines = String::new();
            sessions.each(shard, |_, client: &super::Client, facts| {
                let state = &client.state;
                let kind = kind_of(state);
                if !facts.closing
                    && (ids.is_empty() || ids.contains(&state.id))
                    && wanted.as_deref().is_none_or(|wanted| wanted == kind)
                {
                    lines.push_str(&sessions.protocol().describe(shard, state, Some(facts)));
                }
            });
            lines
        });
        self.later(state, async move {
            let text = all_of(calls).await?.concat();
            let mut reply = Reply::new(version);
            reply.write().verbatim(*b"txt", text.as_bytes());
            Ok(reply)
        });
        Then::Wait
    }

    pub(super) fn each_table<R: Send + 'static>(
        &self,
        ask: impl Fn(&Rc<Shard>, &super::Sessions<Resp>) -> R + Clone + Send + 'static,
    ) -> Vec<Call<Option<R>>> {
        each_table(&self.shard, &self.everywhere, ask)
    }

    pub(super) fn client_kill(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let old_form = command.len() == 3;
        let (mut id, mut addr, mut kind, mut user, mut skip_me) = (None, None, None, None, !old_form);
        if old_form {
            addr = Some(String::from_utf8_lossy(&command[2]).into_owned());
        } else {
            let mut at = 2;
            while at < command.len() {
                let Some(value) = command.get(at + 1) else {
                    reply.error("ERR syntax error");
                    return Then::Next;
                };
                if parse::is(&command[at], "id") {
                    match parse::integer(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0) {
                        Some(found) => id = Some(found),
                        None => {
                            reply.error("ERR client-id should be greater than 0");
                            return Then::Next;
                        }
                    }
                } else if parse::is(&command[at], "addr") {
                    addr = Some(String::from_utf8_lossy(value).into_owned());
                } else if parse::is(&command[at], "laddr") {
                    reply.error(
                        "ERR LADDR is not known of connections here: choose by ADDR, ID, TYPE or USER",
                    );
                    return Then::Next;
                } else if parse::is(&command[at], "type") {
                    if !is_kind(value) {
                        reply.error_about("ERR Unknown client type '", value, "'");
                        return Then::Next;
                    }
                    kind = Some(value.to_ascii_lowercase());
                } else if parse::is(&command[at], "user") {
                    if self.users.borrow().get(value).is_none() {
                        reply.error_about("ERR No such user '", value, "'");
                        return Then::Next;
                    }
                    user = Some(value.to_vec());
                } else if parse::is(&command[at], "skipme")
                    && (parse::is(value, "yes") || parse::is(value, "no"))
                {
                    skip_me = parse::is(value, "yes");
                } else {
                    reply.error("ERR syntax error");
                    return Then::Next;
                }
                at += 2;
            }
        }
        let (me, version) = (state.id, state.version);
        let calls = self.each_table(move |shard, sessions| {
            let mut killed = 0_usize;
            sessions.each(shard, |key, client: &super::Client, facts| {
                // One that is closing already is gone for whoever asks.
                let is_wanted = !facts.closing
                    && id.is_none_or(|id| id == client.state.id)
                    && kind.as_ref().is_none_or(|kind| kind == kind_of(&client.state))
                    && user.as_ref().is_none_or(|user| user == client.state.user.borrow().name())
                    && addr
                        .as_ref()
                        .is_none_or(|addr| facts.peer.is_some_and(|peer| peer.to_string() == *addr))
                    && !(skip_me && client.state.id == me);
                if is_wanted {
                    sessions.post(key, Post::Kill);
                    killed += 1;
                }
            });
            killed
        });
        self.later(state, async move {
            let killed: usize = all_of(calls).await?.into_iter().sum();
            let mut reply = Reply::new(version);
            match (old_form, killed) {
                (true, 0) => reply.error("ERR No such client"),
                (true, _) => reply.ok(),
                (false, killed) => reply.count(killed),
            }
            Ok(reply)
        });
        Then::Wait
    }

    /// CLIENT UNBLOCK.
    pub(super) fn client_unblock(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let how = match command.get(3) {
            None => End::Time,
            Some(how) if parse::is(how, "timeout") => End::Time,
            Some(how) if parse::is(how, "error") => End::Unblocked,
            Some(_) => {
                reply.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
                return Then::Next;
            }
        };
        let Some(id) = parse::integer_or_reply(reply, &command[2]) else { return Then::Next };
        let Ok(id) = u64::try_from(id) else {
            reply.integer(0);
            return Then::Next;
        };
        let version = state.version;
        let calls = self.each_table(move |shard, sessions| {
            let mut unblocked = false;
            sessions.each(shard, |_, client: &super::Client, _| {
                if client.state.id == id
                    && let Some(waiting) = &client.state.waiting
                {
                    unblocked |= waiting.end(how);
                }
            });
            unblocked
        });
        self.later(state, async move {
            let unblocked = all_of(calls).await?.contains(&true);
            let mut reply = Reply::new(version);
            reply.integer(i64::from(unblocked));
            Ok(reply)
        });
        Then::Wait
    }

    fn info(&self, state: &mut State, command: &Command<'_>) -> Then {
        let sections: Vec<String> =
            command.iter().skip(1).map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
        let version = state.version;
        let shards = self.here.shards();
        let snapshots = self.settings.snapshots.clone();
        let calls = self.each_table(|_, sessions| {
            let resp = sessions.protocol();
            Part {
                stats: resp.here.store.borrow().stats(),
                max: resp.here.store.borrow().config().memory_max,
                clients: sessions.len(),
                commands: resp.commands.get() - resp.commands_reset.get(),
                blocked: resp.here.parked.borrow().len(),
                tier: resp.here.tier_facts(),
                kept: resp.kept.bytes(),
                untaken: resp.untaken.bytes(),
            }
        });
        self.later(state, async move {
            let parts = all_of(calls).await?;
            let changes = parts.iter().map(|part| part.stats.changes).sum();
            let text = info_text(&sections, &parts, shards, &snapshots.facts(changes));
            let mut reply = Reply::new(version);
            reply.write().verbatim(*b"txt", text.as_bytes());
            Ok(reply)
        });
        Then::Wait
    }

    fn auth(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let (user, password): (&[u8], &[u8]) = match command.len() {
            2 if self.users.borrow().default_user().is_open() => {
                reply.error(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure \
                     your configuration is correct?",
                );
                return Then::Next;
            }
            2 => (b"default", &command[1]),
            3 => (&command[1], &command[2]),
            _ => {
                reply.error(parse::SYNTAX);
                return Then::Next;
            }
        };
        match self.authenticate(state, command.name(), user, password) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
        Then::Next
    }

    /// HOTKEYS: the keys used most, of all shards, with estimates of how often.
    fn hot_keys(&self, state: &mut State) -> Then {
        const SHOWN: usize = 64;
        let version = state.version;
        let calls = self.each(|_, resp| resp.here.store.borrow().hot_keys());
        self.later(state, async move {
            let mut all = all_of(calls).await?.concat();
            all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            all.truncate(SHOWN);
            let mut reply = Reply::new(version);
            reply.array(2 * all.len());
            for (key, count) in all {
                reply.bulk(&key);
                reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
            }
            Ok(reply)
        });
        Then::Wait
    }
}

/// Kinds of clients that Redis knows, of which there are two here.
fn is_kind(name: &[u8]) -> bool {
    ["normal", "pubsub", "master", "replica", "slave"].iter().any(|kind| parse::is(name, kind))
}

fn kind_of(state: &State) -> &'static [u8] {
    if state.is_subscriber() { b"pubsub" } else { b"normal" }
}

/// Asks the connections of every shard, as a task there, so that none is in the middle of a call.
pub(super) fn each_table<R: Send + 'static>(
    shard: &Rc<Shard>,
    everywhere: &super::Everywhere,
    ask: impl Fn(&Rc<Shard>, &super::Sessions<Resp>) -> R + Clone + Send + 'static,
) -> Vec<Call<Option<R>>> {
    let mesh = shard.mesh();
    let all = mesh.all().map(|to| {
        let (everywhere, ask) = (everywhere.clone(), ask.clone());
        mesh.run(to, move |shard| {
            let shard = Rc::clone(shard);
            async move {
                let sessions = everywhere.of(&shard).borrow().upgrade()?;
                Some(ask(&shard, &sessions))
            }
        })
    });
    all.collect()
}

/// TIME.
#[expect(clippy::disallowed_methods, reason = "the host's clock is what is asked for")]
fn time(reply: &mut Reply) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    reply.array(2);
    reply.bulk(now.as_secs().to_string().as_bytes());
    reply.bulk(now.subsec_micros().to_string().as_bytes());
}

/// What one shard says for INFO.
struct Part {
    stats: Stats,
    max: u64,
    clients: usize,
    commands: u64,
    blocked: usize,
    tier: Option<TierFacts>,
    kept: usize,
    untaken: usize,
}

pub(super) async fn all_of<R>(calls: Vec<Call<Option<R>>>) -> Result<Vec<R>, CacheError> {
    let mut all = Vec::with_capacity(calls.len());
    for call in calls {
        all.extend(call.await?);
    }
    Ok(all)
}

fn info_text(
    sections: &[String],
    parts: &[Part],
    shards: u16,
    persistence: &[(&'static str, String)],
) -> String {
    let wants = |name: &str| {
        sections.is_empty()
            || sections
                .iter()
                .any(|one| one == name || one == "default" || one == "all" || one == "everything")
    };
    let sum = |of: fn(&Part) -> u64| parts.iter().map(of).fold(0, u64::saturating_add);
    let mut text = String::new();
    let mut section = |name: &str, title: &str, lines: &[(&str, String)]| {
        if wants(name) {
            let gap = if text.is_empty() { "" } else { "\r\n" };
            let _ = write!(text, "{gap}# {title}\r\n");
            for (field, value) in lines {
                let _ = write!(text, "{field}:{value}\r\n");
            }
        }
    };
    section(
        "server",
        "Server",
        &[
            ("redis_version", REDIS_VERSION.to_owned()),
            ("redis_mode", "standalone".to_owned()),
            ("corelane_version", env!("CARGO_PKG_VERSION").to_owned()),
            ("corelane_shards", shards.to_string()),
            ("arch_bits", usize::BITS.to_string()),
            ("multiplexing_api", "io_uring".to_owned()),
            ("process_id", std::process::id().to_string()),
        ],
    );
    section(
        "clients",
        "Clients",
        &[
            ("connected_clients", sum(|part| part.clients as u64).to_string()),
            ("blocked_clients", sum(|part| part.blocked as u64).to_string()),
            ("clients_kept_bytes", sum(|part| part.kept as u64).to_string()),
            ("clients_untaken_bytes", sum(|part| part.untaken as u64).to_string()),
        ],
    );
    section(
        "memory",
        "Memory",
        &[
            ("used_memory", sum(|part| part.stats.bytes).to_string()),
            ("maxmemory", sum(|part| part.max).to_string()),
        ],
    );
    section("persistence", "Persistence", persistence);
    section(
        "stats",
        "Stats",
        &[
            ("total_commands_processed", sum(|part| part.commands).to_string()),
            ("expired_keys", sum(|part| part.stats.expired).to_string()),
            ("evicted_keys", sum(|part| part.stats.evicted).to_string()),
            ("keyspace_hits", sum(|part| part.stats.hits).to_string()),
            ("keyspace_misses", sum(|part| part.stats.misses).to_string()),
        ],
    );
    section(
        "replication",
        "Replication",
        &[("role", "master".to_owned()), ("connected_slaves", "0".to_owned())],
    );
    section("cluster", "Cluster", &[("cluster_enabled", "0".to_owned())]);
    let tier: Vec<TierFacts> = parts.iter().filter_map(|part| part.tier).collect();
    if !tier.is_empty() {
        section("upstream", "Upstream", &TierFacts::fields(&tier));
    }
    let keys = sum(|part| part.stats.keys);
    let line = ("db0", format!("keys={keys},expires={},avg_ttl=0", sum(|part| part.stats.expires)));
    section("keyspace", "Keyspace", if keys > 0 { std::slice::from_ref(&line) } else { &[] });
    text
}
