//! Config: CONFIG GET, SET and RESETSTAT.
//!
//! What clients and their tools ask for, and what can be changed while the node runs: how much memory the keys may
//! have, and who goes when it is short. A change holds until the node ends; its file is the operator's.
//!
//! Not here: the configuration of the node (`crate::config`).

use corelane_proto_resp::Command;

use super::client::State;
use super::dispatch::Then;
use super::{Resp, server::all_of};
use crate::services::cache::command::{self, Reply, Spec, parse};
use crate::services::cache::glob;
use crate::services::cache::slow::{ENTRIES_MAX, Thresholds};
use crate::services::cache::store::{Config, Eviction};

/// Policies by the names that Redis clients know, and ours.
const POLICIES: [(&str, Eviction); 6] = [
    ("noeviction", Eviction::NoEviction),
    ("allkeys-s3-fifo", Eviction::S3Fifo),
    ("allkeys-lru", Eviction::Lru),
    ("allkeys-lfu", Eviction::Lfu),
    ("allkeys-fifo", Eviction::Fifo),
    ("allkeys-random", Eviction::Random),
];

/// A number of bytes as Redis writes it: `100mb` is 100 * 2^20, `100m` 100 * 10^6.
fn bytes(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// What is kept as slow, by the names of Redis.
#[derive(Clone, Copy)]
enum Slow {
    SlowerThan,
    Entries,
    Latency,
}

impl Slow {
    fn named(name: &[u8]) -> Option<Slow> {
        match () {
            () if parse::is(name, "slowlog-log-slower-than") => Some(Slow::SlowerThan),
            () if parse::is(name, "slowlog-max-len") => Some(Slow::Entries),
            () if parse::is(name, "latency-monitor-threshold") => Some(Slow::Latency),
            () => None,
        }
    }

    /// Sets it, or says why not.
    fn set(self, of: &mut Thresholds, value: &[u8]) -> Result<(), String> {
        let value = parse::integer(value).ok_or("argument couldn't be parsed into an integer")?;
        let (min, max) = match self {
            Slow::SlowerThan => (-1, i64::MAX),
            Slow::Entries => (0, i64::try_from(ENTRIES_MAX).unwrap_or(i64::MAX)),
            Slow::Latency => (0, i64::MAX),
        };
        if !(min..=max).contains(&value) {
            return Err(format!("argument must be between {min} and {max} inclusive"));
        }
        match self {
            Slow::SlowerThan => of.slower_than_us = value,
            Slow::Entries => of.entries = usize::try_from(value).unwrap_or(0),
            Slow::Latency => of.latency_ms = value.unsigned_abs(),
        }
        Ok(())
    }
}

impl Resp {
    pub(super) fn config(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        reply: &mut Reply,
    ) -> Then {
        match spec.own_name() {
            "get" => self.config_get(command, reply),
            "set" => return self.config_set(state, command, reply),
            "resetstat" => {
                let calls = self.each(|_, resp| {
                    resp.commands_reset.set(resp.commands.get());
                    resp.here.store.borrow_mut().reset_stats();
                });
                let version = state.version;
                self.later(state, async move {
                    all_of(calls).await?;
                    let mut reply = Reply::new(version);
                    reply.ok();
                    Ok(reply)
                });
                return Then::Wait;
            }
            _ => command::wrong_arity(reply, spec.name),
        }
        Then::Next
    }

    /// Of the whole node: each shard has an equal part.
    fn memory_max(&self) -> u64 {
        self.here.store.borrow().config().memory_max.saturating_mul(u64::from(self.here.shards()))
    }

    fn config_get(&self, command: &Command<'_>, reply: &mut Reply) {
        let eviction = self.here.store.borrow().config().eviction;
        let policy = POLICIES.iter().find(|(_, one)| *one == eviction).map_or("", |(name, _)| name);
        let snapshots = self.settings.snapshots.config();
        let save = if snapshots.dir.is_some() && !snapshots.every.is_zero() {
            format!("{} 1", snapshots.every.as_secs())
        } else {
            String::new()
        };
        let dir = snapshots.dir.as_ref().map_or_else(String::new, |dir| dir.display().to_string());
        let slow = self.here.slow.thresholds();
        let all: [(&str, String); 12] = [
            ("appendonly", "no".to_owned()),
            ("databases", "1".to_owned()),
            ("dir", dir),
            ("latency-monitor-threshold", slow.latency_ms.to_string()),
            ("maxclients", self.shard.limits().connections_max.to_string()),
            ("maxmemory", self.memory_max().to_string()),
            ("maxmemory-policy", policy.to_owned()),
            ("proto-max-bulk-len", self.settings.limits.bulk_bytes_max.to_string()),
            ("save", save),
            ("slowlog-log-slower-than", slow.slower_than_us.to_string()),
            ("slowlog-max-len", slow.entries.to_string()),
            ("timeout", "0".to_owned()),
        ];
        let is_asked =
            |name: &str| command.iter().skip(2).any(|glob| glob::matches_any_case(glob, name.as_bytes()));
        let found: Vec<_> = all.into_iter().filter(|(name, _)| is_asked(name)).collect();
        reply.write().map(found.len());
        for (name, value) in found {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        }
    }

    fn config_set(&self, state: &mut State, command: &Command<'_>, reply: &mut Reply) -> Then {
        if !command.len().is_multiple_of(2) {
            reply.error("ERR wrong number of arguments for 'config|set' command");
            return Then::Next;
        }
        let (mut memory_max, mut eviction, mut slow) = (None, None, self.here.slow.thresholds());
        let mut at = 2;
        while let (Some(name), Some(value)) = (command.get(at), command.get(at + 1)) {
            let shown = String::from_utf8_lossy(name);
            let wrong =
                |why: &str| format!("ERR CONFIG SET failed (possibly related to argument '{shown}') - {why}");
            if parse::is(name, "maxmemory") {
                memory_max = bytes(value);
                if memory_max.is_none() {
                    reply.error(wrong("argument must be a memory value"));
                    return Then::Next;
                }
            } else if parse::is(name, "maxmemory-policy") {
                eviction =
                    POLICIES.iter().find(|(name, _)| parse::is(value, name)).map(|(_, eviction)| *eviction);
                if eviction.is_none() {
                    let names: Vec<&str> = POLICIES.iter().map(|(name, _)| *name).collect();
                    reply.error(wrong(&format!(
                        "argument(s) must be one of the following: {}",
                        names.join(", ")
                    )));
                    return Then::Next;
                }
            } else if let Some(setting) = Slow::named(name) {
                if let Err(why) = setting.set(&mut slow, value) {
                    reply.error(wrong(&why));
                    return Then::Next;
                }
            } else if parse::is(name, "save") && value.is_empty() {
                // Redis' tests and tools turn its snapshots off so; ours are the operator's.
            } else {
                reply.error(format_args!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{shown}'"
                ));
                return Then::Next;
            }
            at += 2;
        }
        let shards = u64::from(self.here.shards());
        let calls = self.each(move |_, resp| {
            let mut store = resp.here.store.borrow_mut();
            let old = store.config();
            store.configure(Config {
                memory_max: memory_max.map_or(old.memory_max, |all| all.div_ceil(shards)),
                eviction: eviction.unwrap_or(old.eviction),
            });
            resp.here.slow.set_thresholds(slow);
        });
        let version = state.version;
        self.later(state, async move {
            all_of(calls).await?;
            let mut reply = Reply::new(version);
            reply.ok();
            Ok(reply)
        });
        Then::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_written_as_redis_writes_it() {
        for (text, value) in [
            ("0", 0),
            ("100", 100),
            ("1k", 1_000),
            ("1kb", 1_024),
            ("2MB", 2 << 20),
            ("3gb", 3 << 30),
            ("7b", 7),
        ] {
            assert_eq!(bytes(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["", "mb", "1tb", "-1", "1.5mb", "99999999999gb"] {
            assert_eq!(bytes(text.as_bytes()), None, "{text}");
        }
    }
}
