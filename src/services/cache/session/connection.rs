//! Connection: commands about the connection itself.
//!
//! Not here: those about the node (`server`).

use std::rc::Rc;

use corelane_exec::Shard;
use corelane_proto_resp::{Command, Version};

use super::Resp;
use super::client::{Replies, State};
use super::dispatch::Then;
use crate::services::cache::command::{self, Reply, Spec, parse};

/// Bytes of the longest name of a client.
const NAME_LEN_MAX: usize = 1024;

/// Whether a subscriber that speaks RESP2 may send this.
pub(super) fn may_subscriber(state: &State, spec: &Spec) -> bool {
    const MAY: &[&str] = &["subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ping", "quit", "reset"];
    state.version == Version::Resp3 || MAY.contains(&spec.name)
}

/// Whether this is run inside MULTI instead of being queued.
pub(super) fn leaves_multi(spec: &Spec) -> bool {
    ["multi", "exec", "discard", "watch", "quit", "reset"].contains(&spec.name)
}

impl Resp {
    /// Runs a command that no shard runs on its keys.
    pub(super) fn run_connection(
        &self,
        shard: &Rc<Shard>,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        reply: &mut Reply,
    ) -> Then {
        if spec.own_name() == "help" && spec.name.contains('|') {
            let whole = spec.name.split('|').next().unwrap_or_default();
            let all = command::lookup(whole.as_bytes()).map_or(&[][..], |spec| spec.subcommands);
            command::describe::help(reply, &whole.to_uppercase(), all);
            return Then::Next;
        }
        match spec.name.split('|').next().unwrap_or(spec.name) {
            "ping" => self.ping(state, command, reply),
            "echo" => {
                reply.bulk(&command[1]);
                Then::Next
            }
            "hello" => self.hello(state, command, reply),
            "select" => {
                match parse::integer(&command[1]) {
                    Some(0) => reply.ok(),
                    Some(_) => reply.error("ERR DB index is out of range"),
                    None => reply.error("ERR value is not an integer or out of range"),
                }
                Then::Next
            }
            "quit" => {
                reply.ok();
                state.closing = true;
                Then::Close
            }
            "reset" => self.reset(state, reply),
            "client" => self.client(shard, state, command, reply),
            "multi" => self.multi(state, reply),
            "exec" => self.exec(state, reply),
            "discard" => self.discard(state, reply),
            "watch" => self.watch(state, command, reply),
            "unwatch" => {
                self.unwatch(state);
                reply.ok();
                Then::Next
            }
            "subscribe" => self.subscribe(state, command, false, reply),
            "psubscribe" => self.subscribe(state, command, true, reply),
            "unsubscribe" => self.unsubscribe(state, command, false, reply),
            "punsubscribe" => self.unsubscribe(state, command, true, reply),
            _ => self.run_server(state, spec, command, reply),
        }
    }

    fn ping(&self, state: &State, command: &Command<'_>, reply: &mut Reply) -> Then {
        if command.len() > 2 {
            command::wrong_arity(reply, "ping");
        } else if state.is_subscriber() && state.version == Version::Resp2 {
            reply.array(2);
            reply.bulk(b"pong");
            reply.bulk(command.get(1).unwrap_or(b""));
        } else if let Some(text) = command.get(1) {
            reply.bulk(text);
        } else {
            reply.write().raw(corelane_proto_resp::PONG);
        }
        Then::Next
    }

    fn hello(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let mut version = state.version;
        if let Some(text) = command.get(1) {
            version = match parse::integer(text) {
                Some(2) => Version::Resp2,
                Some(3) => Version::Resp3,
                Some(_) => {
                    reply.error("NOPROTO unsupported protocol version");
                    return Then::Next;
                }
                None => {
                    reply.error("ERR Protocol version is not an integer or out of range");
                    return Then::Next;
                }
            };
        }
        let mut name = None;
        let mut at = 2;
        while let Some(option) = command.get(at) {
            if parse::is(option, "auth") && command.len() > at + 2 {
                if let Err(error) =
                    self.authenticate(state, command.name(), &command[at + 1], &command[at + 2])
                {
                    reply.error(error);
                    return Then::Next;
                }
                at += 3;
            } else if parse::is(option, "setname") && command.len() > at + 1 {
                if !is_name(&command[at + 1]) {
                    reply.error(WRONG_NAME);
                    return Then::Next;
                }
                name = Some(command[at + 1].to_vec());
                at += 2;
            } else {
                reply.error_about("ERR Syntax error in HELLO option '", option, "'");
                return Then::Next;
            }
        }
        if state.is_guest {
            reply.error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time",
            );
            return Then::Next;
        }
        state.version = version;
        reply.set_version(version);
        if let Some(name) = name {
            state.name = name;
        }
        reply.write().map(7);
        for (field, value) in [("server", "redis"), ("version", super::server::REDIS_VERSION)] {
            reply.bulk(field.as_bytes());
            reply.bulk(value.as_bytes());
        }
        reply.bulk(b"proto");
        reply.integer(if version == Version::Resp3 { 3 } else { 2 });
        reply.bulk(b"id");
        reply.integer(i64::try_from(state.id).unwrap_or(i64::MAX));
        for (field, value) in [("mode", "standalone"), ("role", "master")] {
            reply.bulk(field.as_bytes());
            reply.bulk(value.as_bytes());
        }
        reply.bulk(b"modules");
        reply.array(0);
        Then::Next
    }

    fn reset(&self, state: &mut State, reply: &mut Reply) -> Then {
        state.multi = None;
        self.unwatch(state);
        self.channels.borrow_mut().leave(state.key);
        (state.channels, state.patterns) = (0, 0);
        state.name.clear();
        state.replies = Replies::On;
        state.version = Version::Resp2;
        self.forget_user(state);
        reply.set_version(Version::Resp2);
        reply.write().simple(b"RESET");
        Then::Next
    }

    fn client(&self, shard: &Rc<Shard>, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        let sub = String::from_utf8_lossy(&command[1]).to_lowercase();
        match (sub.as_str(), command.len()) {
            ("id", 2) => reply.integer(i64::try_from(state.id).unwrap_or(i64::MAX)),
            ("getname", 2) if state.name.is_empty() => reply.null(),
            ("getname", 2) => reply.bulk(&state.name),
            ("setname", 3) if is_name(&command[2]) => {
                state.name = command[2].to_vec();
                reply.ok();
            }
            ("setname", 3) => reply.error(WRONG_NAME),
            ("info", 2) => {
                let line = self.describe(shard, state, None);
                reply.write().verbatim(*b"txt", line.as_bytes());
            }
            ("getredir", 2) => reply.integer(-1),
            ("trackinginfo", 2) => tracking_info(reply),
            ("unblock", 3 | 4) => return self.client_unblock(state, command, reply),
            ("pause", 3 | 4) => return self.client_pause(state, command, reply),
            ("unpause", 2) => return self.client_unpause(state),
            ("list", _) => return self.client_list(state, command, reply),
            ("kill", 3..) => return self.client_kill(state, command, reply),
            ("no-evict", 3) => {
                match parse::is(&command[2], "on") || parse::is(&command[2], "off") {
                    true => reply.ok(), // clients are never evicted for memory
                    false => reply.error("ERR syntax error"),
                }
            }
            ("reply", 3) => return self.client_reply(state, &command[2], reply),
            (
                "id" | "getname" | "setname" | "info" | "kill" | "no-evict" | "reply" | "pause" | "unblock",
                _,
            ) => {
                command::wrong_arity(reply, &format!("client|{sub}"));
            }
            _ => reply.error(format_args!(
                "ERR unknown subcommand '{}'. Try CLIENT HELP.",
                String::from_utf8_lossy(&command[1])
            )),
        }
        Then::Next
    }

    fn client_reply(&self, state: &mut State, how: &[u8], reply: &mut Reply) -> Then {
        if parse::is(how, "on") {
            state.replies = Replies::On;
            reply.ok();
        } else if parse::is(how, "off") {
            state.replies = Replies::Off;
        } else if parse::is(how, "skip") {
            // This one has no reply either way.
            state.replies = Replies::SkipNext;
        } else {
            reply.error("ERR syntax error");
        }
        Then::Next
    }

    /// One line of CLIENT LIST.
    pub(super) fn describe(&self, shard: &Rc<Shard>, state: &State, facts: Option<&super::Facts>) -> String {
        let now_ms = shard.now().mono_ns / 1_000_000;
        let (addr, age_s) = facts.map_or((None, 0), |facts| (facts.peer, facts.age_ns / 1_000_000_000));
        let multi = state.multi.as_ref().map_or(-1, |multi| i64::try_from(multi.len()).unwrap_or(i64::MAX));
        let flags = match (state.multi.is_some(), state.is_subscriber(), state.waiting.is_some()) {
            (true, ..) => "x",
            (_, true, _) => "P",
            (_, _, true) => "b",
            _ => "N",
        };
        let (inbox, unsent) = facts.map_or((0, 0), |facts| (facts.inbox_bytes, facts.unsent));
        let queued = state.multi.as_ref().map_or(0, |multi| multi.bytes);
        format!(
            "id={} addr={} name={} age={age_s} idle={} flags={flags} db=0 sub={} psub={} ssub=0 multi={multi} \
             watch={} qbuf={} qbuf-free=0 argv-mem=0 multi-mem={} obl=0 oll=0 omem={} tot-mem={} cmd={} user={} redir=-1 resp={}\n",
            state.id,
            addr.map_or_else(|| "?:0".to_owned(), |addr| addr.to_string()),
            String::from_utf8_lossy(&state.name),
            now_ms.saturating_sub(state.last_ms) / 1000,
            state.channels,
            state.patterns,
            state.watched.len(),
            inbox,
            queued,
            unsent,
            size_of::<super::Client>() + inbox + queued + unsent + state.name.len(),
            state.last,
            String::from_utf8_lossy(state.user.borrow().name()),
            if state.version == Version::Resp3 { 3 } else { 2 },
        )
    }
}

/// CLIENT TRACKINGINFO: there is no tracking, so it is off.
fn tracking_info(reply: &mut Reply) {
    reply.write().map(3);
    reply.bulk(b"flags");
    reply.write().set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.integer(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
}

const WRONG_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// Whether a client may be called so: printable, without blanks.
fn is_name(name: &[u8]) -> bool {
    name.len() <= NAME_LEN_MAX && name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}
