//! Pubsub: messages of channels, to the connections of one shard that wanted them.
//!
//! PUBLISH asks every shard; each gives the message to its own connections. Messages of one publisher reach a
//! subscriber in the order of publishing.
//!
//! A subscriber that takes its messages too slowly is dropped by three numbers, as `client-output-buffer-limit pubsub`
//! of Redis: at once with more than `HARD` bytes unsent, or with more than `SOFT` for `SOFT_TIME`.
//!
//! Not here: sending over shards (`server`).

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bytes::Bytes;
use corelane_exec::Shard;
use corelane_net::session::{ConnKey, Link, Next};
use corelane_proto_resp::{Command, Version, Writer};

use super::client::State;
use super::dispatch::Then;
use super::{Post, Resp};
use crate::services::cache::command::Reply;
use crate::services::cache::glob;

/// Channels and patterns that one connection may subscribe to.
const SUBSCRIPTIONS_MAX: usize = 1 << 16;

/// Redis' default: `client-output-buffer-limit pubsub 32mb 8mb 60`.
const HARD: usize = 32 << 20;
const SOFT: usize = 8 << 20;
const SOFT_MS: u64 = 60_000;

/// A message on its way to subscribers. Its bytes are made once for each protocol.
#[derive(Debug)]
pub struct Message {
    pattern: Option<Rc<[u8]>>,
    channel: Bytes,
    payload: Bytes,
    resp2: OnceCell<Bytes>,
    resp3: OnceCell<Bytes>,
}

impl Message {
    fn new(pattern: Option<Rc<[u8]>>, channel: Bytes, payload: Bytes) -> Rc<Message> {
        Rc::new(Message { pattern, channel, payload, resp2: OnceCell::new(), resp3: OnceCell::new() })
    }

    /// As it goes over the wire.
    fn bytes(&self, version: Version) -> Bytes {
        let made = match version {
            Version::Resp2 => &self.resp2,
            Version::Resp3 => &self.resp3,
        };
        let bytes = made.get_or_init(|| {
            let mut bytes = Vec::with_capacity(self.channel.len() + self.payload.len() + 64);
            let mut writer = Writer::new(&mut bytes, version);
            match &self.pattern {
                None => {
                    writer.push(3);
                    writer.bulk(b"message");
                }
                Some(pattern) => {
                    writer.push(4);
                    writer.bulk(b"pmessage");
                    writer.bulk(pattern);
                }
            }
            writer.bulk(&self.channel);
            writer.bulk(&self.payload);
            bytes.into()
        });
        bytes.clone()
    }
}

/// Who wants which messages.
#[derive(Debug, Default)]
pub(super) struct Channels {
    channels: HashMap<Box<[u8]>, Vec<ConnKey>>,
    patterns: HashMap<Rc<[u8]>, Vec<ConnKey>>,
    of: HashMap<ConnKey, Subscriptions>,
}

#[derive(Debug, Default)]
struct Subscriptions {
    channels: HashSet<Box<[u8]>>,
    patterns: HashSet<Rc<[u8]>>,
}

impl Channels {
    /// Ends all subscriptions of a connection.
    pub(super) fn leave(&mut self, key: ConnKey) {
        let Some(all) = self.of.remove(&key) else { return };
        for channel in all.channels {
            Self::remove(&mut self.channels, &channel, key);
        }
        for pattern in all.patterns {
            Self::remove(&mut self.patterns, &pattern, key);
        }
    }

    fn remove<K: std::borrow::Borrow<[u8]> + Eq + std::hash::Hash>(
        from: &mut HashMap<K, Vec<ConnKey>>,
        name: &[u8],
        key: ConnKey,
    ) {
        if let Some(keys) = from.get_mut(name) {
            if let Some(at) = keys.iter().position(|one| *one == key) {
                keys.swap_remove(at);
            }
            if keys.is_empty() {
                from.remove(name);
            }
        }
    }

    /// The channels of this shard that match, as PUBSUB CHANNELS lists them.
    pub(super) fn matching(&self, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        let all = self.channels.keys();
        all.filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name))).cloned().collect()
    }

    /// How many of this shard's connections want `channel`.
    pub(super) fn count(&self, channel: &[u8]) -> usize {
        self.channels.get(channel).map_or(0, Vec::len)
    }

    /// The patterns of this shard.
    pub(super) fn patterns(&self) -> Vec<Box<[u8]>> {
        self.patterns.keys().map(|pattern| Box::from(&**pattern)).collect()
    }
}

impl Resp {
    /// Gives a message to the subscribers of this shard; how many there are.
    pub(super) fn publish_here(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let channels = self.channels.borrow();
        let mut count = 0;
        if let Some(keys) = channels.channels.get(&**channel) {
            let message = Message::new(None, channel.clone(), payload.clone());
            count += keys.len();
            for key in keys {
                self.post(*key, Post::Message(Rc::clone(&message)));
            }
        }
        for (pattern, keys) in &channels.patterns {
            if glob::matches(pattern, channel) {
                let message = Message::new(Some(Rc::clone(pattern)), channel.clone(), payload.clone());
                count += keys.len();
                for key in keys {
                    self.post(*key, Post::Message(Rc::clone(&message)));
                }
            }
        }
        count
    }

    /// Writes a message to a subscriber, unless it is too slow.
    pub(super) fn deliver(
        &self,
        shard: &Rc<Shard>,
        state: &mut State,
        link: &mut Link<'_>,
        message: &Message,
    ) -> Next {
        if !state.is_subscriber() {
            return Next::Same; // it has left meanwhile
        }
        let unsent = link.unsent();
        if is_too_slow(&mut state.slow_since_ms, unsent, shard.now().mono_ns / 1_000_000) {
            self.too_slow.set(self.too_slow.get() + 1);
            tracing::info!(
                client = state.id,
                unsent,
                "a subscriber does not take its messages: it is dropped"
            );
            return Next::Abort;
        }
        link.push(message.bytes(state.version));
        Next::Same
    }

    /// SUBSCRIBE and PSUBSCRIBE.
    pub(super) fn subscribe(
        &self,
        state: &mut State,
        command: &Command<'_>,
        patterns: bool,
        reply: &mut Reply,
    ) -> Then {
        let mut channels = self.channels.borrow_mut();
        for name in command.iter().skip(1) {
            if state.channels + state.patterns >= SUBSCRIPTIONS_MAX {
                reply.error(format_args!("ERR a connection may have {SUBSCRIPTIONS_MAX} subscriptions"));
                return Then::Next;
            }
            let Channels { channels: by_name, patterns: by_pattern, of } = &mut *channels;
            let of = of.entry(state.key).or_default();
            if patterns {
                let name: Rc<[u8]> =
                    by_pattern.get_key_value(name).map_or_else(|| name.into(), |(key, _)| Rc::clone(key));
                if of.patterns.insert(Rc::clone(&name)) {
                    by_pattern.entry(name).or_default().push(state.key);
                    state.patterns += 1;
                }
            } else if of.channels.insert(name.into()) {
                by_name.entry(name.into()).or_default().push(state.key);
                state.channels += 1;
            }
            let kind: &[u8] = if patterns { b"psubscribe" } else { b"subscribe" };
            confirm(reply, kind, Some(name), state.channels + state.patterns);
        }
        Then::Next
    }

    /// UNSUBSCRIBE and PUNSUBSCRIBE.
    pub(super) fn unsubscribe(
        &self,
        state: &mut State,
        command: &Command<'_>,
        patterns: bool,
        reply: &mut Reply,
    ) -> Then {
        let mut channels = self.channels.borrow_mut();
        let kind: &[u8] = if patterns { b"punsubscribe" } else { b"unsubscribe" };
        let mut names: Vec<Box<[u8]>> = command.iter().skip(1).map(Box::from).collect();
        if names.is_empty()
            && let Some(of) = channels.of.get(&state.key)
        {
            names = match patterns {
                true => of.patterns.iter().map(|name| Box::from(&**name)).collect(),
                false => of.channels.iter().cloned().collect(),
            };
        }
        if names.is_empty() {
            confirm(reply, kind, None, state.channels + state.patterns);
        }
        for name in names {
            let Channels { channels: by_name, patterns: by_pattern, of } = &mut *channels;
            if let Some(of) = of.get_mut(&state.key) {
                if patterns && of.patterns.remove(&*name) {
                    Channels::remove(by_pattern, &name, state.key);
                    state.patterns -= 1;
                } else if !patterns && of.channels.remove(&*name) {
                    Channels::remove(by_name, &name, state.key);
                    state.channels -= 1;
                }
            }
            confirm(reply, kind, Some(&name), state.channels + state.patterns);
        }
        if !state.is_subscriber() {
            channels.of.remove(&state.key);
        }
        Then::Next
    }
}

/// The rule of the three numbers. `since_ms` is since when too much is unsent.
#[inline]
fn is_too_slow(since_ms: &mut Option<u64>, unsent: usize, now_ms: u64) -> bool {
    if unsent <= SOFT {
        *since_ms = None;
        return false;
    }
    unsent > HARD || now_ms.saturating_sub(*since_ms.get_or_insert(now_ms)) > SOFT_MS
}

fn confirm(reply: &mut Reply, kind: &[u8], name: Option<&[u8]>, count: usize) {
    let mut writer = reply.write();
    writer.push(3);
    writer.bulk(kind);
    match name {
        Some(name) => writer.bulk(name),
        None => writer.null(),
    }
    writer.integer(i64::try_from(count).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_is_too_slow_at_once_or_after_a_while_that_begins_anew_once_it_has_caught_up() {
        let mut since = None;
        assert!(!is_too_slow(&mut since, SOFT, 0));
        assert!(is_too_slow(&mut since, HARD + 1, 0));
        since = None;
        assert!(!is_too_slow(&mut since, SOFT + 1, 1_000));
        assert!(!is_too_slow(&mut since, SOFT + 1, 1_000 + SOFT_MS));
        assert!(!is_too_slow(&mut since, SOFT, 1_001 + SOFT_MS));
        assert!(!is_too_slow(&mut since, SOFT + 1, 1_002 + SOFT_MS));
        assert!(is_too_slow(&mut since, SOFT + 1, 1_003 + 2 * SOFT_MS));
    }
}
