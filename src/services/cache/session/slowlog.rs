//! Slowlog: SLOWLOG, LATENCY and MEMORY: what the shards have to say of their time and their memory, together.
//!
//! Not here: what is timed, and what is kept of it (`slow`).

use std::fmt::Write as _;

use corelane_proto_resp::{Command, Version};

use super::client::State;
use super::dispatch::Then;
use super::server::all_of;
use super::{Client, Resp};
use crate::services::cache::command::{self, Reply, Spec, parse};
use crate::services::cache::slow::{Event, SAMPLES_MAX, Samples, Thresholds};
use crate::services::cache::store::Stats;

/// Entries that SLOWLOG GET replies if nothing is said.
const SHOWN: usize = 10;

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn ok(version: Version) -> Reply {
    let mut reply = Reply::new(version);
    reply.ok();
    reply
}

fn wrong(command: &Command<'_>, name: &str, reply: &mut Reply) -> Then {
    let behind = format!("'. Try {name} HELP.");
    reply.error_about("ERR unknown subcommand or wrong number of arguments for '", &command[1], &behind);
    Then::Next
}

/// What a shard says for MEMORY.
struct Part {
    stats: Stats,
    max: u64,
    clients: usize,
    /// Bytes that clients have sent and no command has used, and that they have not taken yet.
    client_bytes: u64,
}

impl Resp {
    pub(super) fn slowlog(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        reply: &mut Reply,
    ) -> Then {
        let version = state.version;
        match (spec.own_name(), command.len()) {
            ("get", 2 | 3) => {
                let wanted = match command.get(2).map(parse::integer) {
                    None => SHOWN,
                    Some(Some(-1)) => usize::MAX,
                    Some(Some(count @ 0..)) => usize::try_from(count).unwrap_or(usize::MAX),
                    Some(_) => {
                        reply.error("ERR count should be greater than or equal to -1");
                        return Then::Next;
                    }
                };
                let calls = self.each(move |_, resp| resp.here.slow.entries(wanted));
                self.later(state, async move {
                    let mut all = all_of(calls).await?.concat();
                    all.sort_by_key(|entry| std::cmp::Reverse((entry.began_ns, entry.id)));
                    all.truncate(wanted);
                    let mut reply = Reply::new(version);
                    reply.array(all.len());
                    for entry in all {
                        reply.array(6);
                        [entry.id, entry.unix_ms / 1_000, entry.us]
                            .into_iter()
                            .for_each(|value| reply.integer(number(value)));
                        reply.array(entry.arguments.len());
                        entry.arguments.iter().for_each(|argument| reply.bulk(argument));
                        reply.bulk(entry.client.0.as_bytes());
                        reply.bulk(&entry.client.1);
                    }
                    Ok(reply)
                })
            }
            ("len", _) => {
                let calls = self.each(|_, resp| resp.here.slow.len());
                self.later(state, async move {
                    let mut reply = Reply::new(version);
                    reply.count(all_of(calls).await?.into_iter().sum());
                    Ok(reply)
                })
            }
            ("reset", _) => {
                let calls = self.each(|_, resp| resp.here.slow.clear());
                self.later(state, async move {
                    all_of(calls).await?;
                    Ok(ok(version))
                })
            }
            _ => return wrong(command, "SLOWLOG", reply),
        };
        Then::Wait
    }

    pub(super) fn latency(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        reply: &mut Reply,
    ) -> Then {
        let version = state.version;
        match spec.own_name() {
            "latest" => self.with_events(state, move |events, reply| {
                let seen = events.iter().filter(|(_, samples)| !samples.all.is_empty()).count();
                reply.array(seen);
                for (event, samples) in events {
                    let Some((at, ms)) = samples.all.back() else { continue };
                    reply.array(4);
                    reply.bulk(event.name().as_bytes());
                    [*at, *ms, samples.max_ms].into_iter().for_each(|value| reply.integer(number(value)));
                }
            }),
            "history" => {
                let wanted = command[2].to_vec();
                self.with_events(state, move |events, reply| {
                    let found = events.iter().find(|(event, _)| parse::is(&wanted, event.name()));
                    let samples = found.map(|(_, samples)| &samples.all);
                    reply.array(samples.map_or(0, std::collections::VecDeque::len));
                    for (at, ms) in samples.into_iter().flatten() {
                        reply.array(2);
                        [*at, *ms].into_iter().for_each(|value| reply.integer(number(value)));
                    }
                });
            }
            "reset" => {
                let named = |event: &Event| command.iter().skip(2).any(|name| parse::is(name, event.name()));
                let events: Vec<Event> =
                    Event::ALL.into_iter().filter(|event| command.len() == 2 || named(event)).collect();
                let calls = self.each(move |_, resp| {
                    events.clone().into_iter().map(|event| resp.here.slow.reset(event)).collect::<Vec<_>>()
                });
                self.later(state, async move {
                    let all = all_of(calls).await?;
                    let count =
                        (0..Event::ALL.len()).filter(|n| all.iter().any(|of| of.get(*n) == Some(&true)));
                    let mut reply = Reply::new(version);
                    reply.count(count.count());
                    Ok(reply)
                });
            }
            "doctor" => {
                let thresholds = self.here.slow.thresholds();
                self.with_events(state, move |events, reply| {
                    let text = latency_doctor(thresholds, events);
                    reply.write().verbatim(*b"txt", text.as_bytes());
                });
            }
            _ => return wrong(command, "LATENCY", reply),
        }
        Then::Wait
    }

    /// Replies something about the events of all shards, put together.
    fn with_events(&self, state: &mut State, say: impl FnOnce(&[(Event, Samples)], &mut Reply) + 'static) {
        let version = state.version;
        let calls = self.each(|_, resp| Event::ALL.map(|event| resp.here.slow.samples(event)));
        self.later(state, async move {
            let all = all_of(calls).await?;
            let together = |event: Event| (event, together(all.iter().map(|of| &of[event as usize])));
            let mut reply = Reply::new(version);
            say(&Event::ALL.map(together), &mut reply);
            Ok(reply)
        });
    }

    pub(super) fn memory(
        &self,
        state: &mut State,
        spec: &'static Spec,
        command: &Command<'_>,
        reply: &mut Reply,
    ) -> Then {
        let say: fn(&[Part], &mut Reply) = match spec.own_name() {
            "stats" => memory_stats,
            "doctor" => |parts, reply| {
                let text = memory_doctor(parts);
                reply.write().verbatim(*b"txt", text.as_bytes());
            },
            // What is freed goes back to the allocator of the system, which keeps or returns it as it likes.
            "purge" => {
                reply.ok();
                return Then::Next;
            }
            "malloc-stats" => {
                reply.bulk(b"Stats not supported for the current allocator");
                return Then::Next;
            }
            _ => {
                command::wrong_arity(reply, spec.name);
                return Then::Next;
            }
        };
        debug_assert!(command.len() == 2);
        let version = state.version;
        let calls = self.each_table(|shard, sessions| {
            let mut client_bytes = 0;
            sessions.each(shard, |_, _: &Client, facts| {
                client_bytes += (facts.unsent + facts.inbox_bytes) as u64
            });
            let store = sessions.protocol().here.store.borrow();
            Part {
                stats: store.stats(),
                max: store.config().memory_max,
                clients: sessions.len(),
                client_bytes,
            }
        });
        self.later(state, async move {
            let parts = all_of(calls).await?;
            let mut reply = Reply::new(version);
            say(&parts, &mut reply);
            Ok(reply)
        });
        Then::Wait
    }
}

/// Samples of all shards: those of the same second are one.
fn together<'a>(of: impl Iterator<Item = &'a Samples>) -> Samples {
    let mut seconds = std::collections::BTreeMap::new();
    let mut max_ms = 0;
    for samples in of {
        max_ms = max_ms.max(samples.max_ms);
        for (at, ms) in &samples.all {
            let longest = seconds.entry(*at).or_insert(0);
            *longest = (*longest).max(*ms);
        }
    }
    let skip = seconds.len().saturating_sub(SAMPLES_MAX);
    Samples { all: seconds.into_iter().skip(skip).collect(), max_ms }
}

fn latency_doctor(thresholds: Thresholds, events: &[(Event, Samples)]) -> String {
    if thresholds.latency_ms == 0 {
        return "Nothing is watched: latency-monitor-threshold is 0. CONFIG SET latency-monitor-threshold 10 keeps what \
                takes 10 ms or more; every command is timed then.\n"
            .to_owned();
    }
    let mut text = String::new();
    for (event, samples) in events.iter().filter(|(_, samples)| !samples.all.is_empty()) {
        let count = samples.all.len() as u64;
        let mean = samples.all.iter().map(|(_, ms)| ms).sum::<u64>() / count;
        let (first, last) = (samples.all[0].0, samples.all[samples.all.len() - 1].0);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: {count} seconds with {} ms or more, in {} s; {mean} ms on average, {} ms at most.",
            event.name(),
            thresholds.latency_ms,
            last - first + 1,
            samples.max_ms
        );
        text.push_str(match event {
            Event::Command => {
                "  SLOWLOG GET shows commands; those that take long should be cut into parts (SCAN for KEYS, ranges, \
                 smaller values).\n"
            }
            Event::Expire => "  Many keys or large ones are due at the same time: spread their times.\n",
            Event::Evict => "  Writes wait for room: raise maxmemory, or write smaller values.\n",
        });
    }
    if text.is_empty() {
        let _ = writeln!(text, "Nothing took {} ms or more.", thresholds.latency_ms);
    }
    text
}

fn sum(parts: &[Part], of: fn(&Part) -> u64) -> u64 {
    parts.iter().map(of).sum()
}

fn memory_stats(parts: &[Part], reply: &mut Reply) {
    let (bytes, keys) = (sum(parts, |part| part.stats.bytes), sum(parts, |part| part.stats.keys));
    let clients = sum(parts, |part| part.client_bytes);
    let fields = [
        ("total.allocated", bytes + clients),
        ("clients.normal", clients),
        ("clients.count", sum(parts, |part| part.clients as u64)),
        ("keys.count", keys),
        ("keys.bytes-per-key", bytes.checked_div(keys).unwrap_or(0)),
        ("dataset.bytes", bytes),
        ("maxmemory", sum(parts, |part| part.max)),
    ];
    reply.write().map(fields.len() + 1);
    for (name, value) in fields {
        reply.bulk(name.as_bytes());
        reply.integer(number(value));
    }
    reply.bulk(b"dataset.percentage");
    #[expect(clippy::cast_precision_loss, reason = "it is shown to people")]
    let share = if bytes == 0 { 0.0 } else { 100.0 * bytes as f64 / (bytes + clients) as f64 };
    reply.write().double(share);
}

/// Shards whose keys hold more than this times the mean are named.
const UNEVEN: u64 = 2;

/// Fewer bytes than these tell nothing.
const FEW_BYTES: u64 = 5 << 20;

fn memory_doctor(parts: &[Part]) -> String {
    let (bytes, max) = (sum(parts, |part| part.stats.bytes), sum(parts, |part| part.max));
    if bytes < FEW_BYTES {
        return "There is little to look at: the keys hold less than 5 MB.\n".to_owned();
    }
    let mut text = String::new();
    let clients = sum(parts, |part| part.client_bytes);
    let evicted = sum(parts, |part| part.stats.evicted);
    // Writing to a String cannot fail.
    if max > 0 && evicted > 0 {
        let _ = writeln!(
            text,
            "{evicted} keys went for want of memory: the keys hold {bytes} of {max} bytes. Raise maxmemory if the hit \
             ratio of INFO stats is too low."
        );
    } else if max > 0 && bytes > max / 10 * 9 {
        let _ = writeln!(text, "The keys hold {bytes} of {max} bytes: they will soon have to go.");
    }
    if max == 0 {
        text.push_str("There is no maxmemory: the keys may take all the memory of the host.\n");
    }
    if clients > bytes / 2 {
        let _ = writeln!(
            text,
            "Clients hold {clients} bytes of input and of replies not taken: CLIENT LIST says which (qbuf, omem)."
        );
    }
    let mean = bytes / parts.len().max(1) as u64;
    for (n, part) in parts.iter().enumerate().filter(|(_, part)| part.stats.bytes > UNEVEN * mean) {
        let _ = writeln!(
            text,
            "Shard {n} holds {} bytes, more than {UNEVEN} times the mean: one {{tag}} or a few large values are there.",
            part.stats.bytes
        );
    }
    if text.is_empty() {
        text.push_str("Nothing is wrong.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: u64, max: u64, evicted: u64, client_bytes: u64) -> Part {
        let stats = Stats { bytes, evicted, keys: 1, ..Stats::default() };
        Part { stats, max, clients: 1, client_bytes }
    }

    #[test]
    fn the_doctor_of_memory_says_what_is_wrong_and_what_to_do() {
        const MB: u64 = 1 << 20;
        for (parts, wanted) in [
            (vec![part(MB, 0, 0, 0)], "There is little"),
            (Vec::new(), "There is little"),
            (vec![part(10 * MB, 100 * MB, 0, 0)], "Nothing is wrong"),
            (vec![part(95 * MB, 100 * MB, 0, 0)], "will soon"),
            (vec![part(95 * MB, 100 * MB, 7, 0)], "7 keys went"),
            (vec![part(10 * MB, 0, 0, 0)], "no maxmemory"),
            (vec![part(10 * MB, 100 * MB, 0, 9 * MB)], "qbuf, omem"),
            (
                vec![part(50 * MB, 100 * MB, 0, 0), part(MB, 100 * MB, 0, 0), part(MB, 100 * MB, 0, 0)],
                "Shard 0 holds",
            ),
        ] {
            let text = memory_doctor(&parts);
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }

    #[test]
    fn samples_of_shards_are_one_for_a_second_the_longest() {
        let a = Samples { all: [(1, 5), (2, 1)].into(), max_ms: 9 };
        let b = Samples { all: [(2, 7), (4, 2)].into(), max_ms: 7 };
        let both = together([&a, &b].into_iter());
        assert_eq!((Vec::from(both.all), both.max_ms), (vec![(1, 5), (2, 7), (4, 2)], 9));
        let many = Samples { all: (0..300).map(|at| (at, 1)).collect(), max_ms: 1 };
        assert_eq!(together(std::iter::once(&many)).all.len(), SAMPLES_MAX);
    }

    #[test]
    fn the_doctor_of_latency_speaks_of_what_was_seen() {
        let off = Thresholds { slower_than_us: 0, entries: 1, latency_ms: 0 };
        let on = Thresholds { latency_ms: 3, ..off };
        let seen = [(Event::Command, Samples { all: [(10, 4), (12, 6)].into(), max_ms: 6 })];
        assert!(latency_doctor(off, &seen).contains("Nothing is watched"));
        assert!(latency_doctor(on, &[]).contains("Nothing took 3 ms"));
        let text = latency_doctor(on, &seen);
        assert!(
            text.contains("command: 2 seconds with 3 ms or more, in 3 s; 5 ms on average, 6 ms at most."),
            "{text}"
        );
    }
}
