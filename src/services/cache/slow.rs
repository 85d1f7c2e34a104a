//! Slow: which commands of one shard took long, and which other work did.
//!
//! A clock read costs about as much as a third of a GET, so most commands are not timed. Timed are those whose work
//! depends on something ([`Spec::cost`]): on what the keys hold, always; on the number of arguments, with more than
//! [`ARGUMENTS_FEW`] of them. A threshold below [`ALL_BELOW_US`], or a latency monitor that is on, has all of them timed.
//!
//! # Rules
//! 1. What is kept is bounded in number and in bytes; the oldest goes.
//! 2. A command that is not timed costs one branch.
//!
//! Not here: SLOWLOG and LATENCY (`session::slowlog`), turns that take long (`exec`, the watch of the node).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use corelane_proto_resp::Command;

use super::command::Spec;

/// Redis' defaults: 10 ms, 128 entries, and no latency monitor.
const SLOWER_THAN_US: i64 = 10_000;
const ENTRIES: usize = 128;

/// What `slowlog-max-len` may be.
pub(super) const ENTRIES_MAX: usize = 1024;

/// With a smaller threshold all commands are timed.
pub(super) const ALL_BELOW_US: i64 = 1_000;

/// Commands whose work depends on the number of their arguments are timed with more than these, the name among them.
const ARGUMENTS_FEW: usize = 32;

/// Arguments of an entry, and bytes of each, as in Redis.
const ARGUMENTS_KEPT: usize = 32;
const ARGUMENT_LEN_KEPT: usize = 128;

/// Samples of an event, as in Redis: one a second.
pub(super) const SAMPLES_MAX: usize = 160;

/// What is timed, as bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cost(u8);

impl Cost {
    /// Always the same, or nearly: not timed unless all are.
    pub const SMALL: Cost = Cost(1);
    /// By what the keys hold.
    pub const BY_VALUES: Cost = Cost(2);
    /// By the number of arguments.
    pub const BY_ARGUMENTS: Cost = Cost(4);
    const ALL: Cost = Cost(7);
}

/// A command that took long.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Unique in the node, and growing on each shard.
    pub(super) id: u64,
    /// Of the monotonic clock, which all shards have in common: their entries are put in order by it.
    pub(super) began_ns: u64,
    pub(super) unix_ms: u64,
    pub(super) us: u64,
    pub(super) arguments: Vec<Vec<u8>>,
    /// Address and name of the client; empty where another shard had the connection.
    pub(super) client: (String, Vec<u8>),
}

/// What took long, of kinds that Redis knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    Command,
    Expire,
    Evict,
}

impl Event {
    pub(super) const ALL: [Event; 3] = [Event::Command, Event::Expire, Event::Evict];

    pub(super) fn name(self) -> &'static str {
        match self {
            Event::Command => "command",
            Event::Expire => "expire-cycle",
            Event::Evict => "eviction-cycle",
        }
    }
}

/// Samples of one event: second and milliseconds, the oldest first; and the longest since the last reset.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    pub(super) all: VecDeque<(u64, u64)>,
    pub(super) max_ms: u64,
}

impl Samples {
    fn add(&mut self, unix_s: u64, ms: u64) {
        self.max_ms = self.max_ms.max(ms);
        if let Some((second, longest)) = self.all.back_mut()
            && *second == unix_s
        {
            *longest = ms.max(*longest);
            return;
        }
        if self.all.len() == SAMPLES_MAX {
            self.all.pop_front();
        }
        self.all.push_back((unix_s, ms));
    }
}

/// What CONFIG SET changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Thresholds {
    /// Microseconds from which a command is kept; negative for never.
    pub(super) slower_than_us: i64,
    /// Entries that are kept.
    pub(super) entries: usize,
    /// Milliseconds from which an event is kept; 0 for never.
    pub(super) latency_ms: u64,
}

/// Of one shard.
#[derive(Debug)]
pub(super) struct Slow {
    here: u64,
    shards: u64,
    /// Which commands are timed.
    timed: Cell<u8>,
    thresholds: Cell<Thresholds>,
    next: Cell<u64>,
    entries: RefCell<VecDeque<Entry>>,
    events: RefCell<[Samples; 3]>,
    /// How many entries were made since a connection had its turn: their client is not known yet.
    fresh: Cell<usize>,
}

impl Slow {
    pub(super) fn new(here: u16, shards: u64) -> Slow {
        let thresholds = Thresholds { slower_than_us: SLOWER_THAN_US, entries: ENTRIES, latency_ms: 0 };
        let slow = Slow {
            here: u64::from(here),
            shards,
            timed: Cell::new(0),
            thresholds: Cell::new(thresholds),
            next: Cell::new(0),
            entries: RefCell::default(),
            events: RefCell::default(),
            fresh: Cell::new(0),
        };
        slow.set_thresholds(thresholds);
        slow
    }

    pub(super) fn thresholds(&self) -> Thresholds {
        self.thresholds.get()
    }

    pub(super) fn set_thresholds(&self, to: Thresholds) {
        self.thresholds.set(to);
        self.entries.borrow_mut().truncate(to.entries);
        let all = to.latency_ms > 0 || (0..ALL_BELOW_US).contains(&to.slower_than_us);
        self.timed.set(match (all, to.slower_than_us) {
            (true, _) => Cost::ALL.0,
            (false, ..0) => 0,
            (false, _) => Cost::BY_VALUES.0 | Cost::BY_ARGUMENTS.0,
        });
    }

    /// Whether a command of this cost may have to be timed.
    #[inline]
    pub(super) fn may_time(&self, cost: Cost) -> bool {
        cost.0 & self.timed.get() != 0
    }

    /// Whether a command for which [`Slow::may_time`] is so has to be, with so many arguments.
    pub(super) fn times(&self, cost: Cost, arguments: usize) -> bool {
        self.times_all() || cost != Cost::BY_ARGUMENTS || arguments > ARGUMENTS_FEW
    }

    /// Whether every command is timed.
    pub(super) fn times_all(&self) -> bool {
        self.timed.get() == Cost::ALL.0
    }

    /// Whether events are kept at all.
    pub(super) fn is_monitoring(&self) -> bool {
        self.thresholds.get().latency_ms > 0
    }

    /// Keeps that a command took so long, if it is long enough. `began` is when, in nanoseconds of the monotonic clock and in
    /// milliseconds since 1970.
    pub(super) fn ran(&self, spec: &Spec, command: &Command<'_>, ns: u64, began: (u64, u64)) {
        let (began_ns, unix_ms) = began;
        let thresholds = self.thresholds.get();
        self.happened(Event::Command, ns, unix_ms);
        let us = ns / 1_000;
        let is_slow = u64::try_from(thresholds.slower_than_us).is_ok_and(|than| us >= than);
        if !is_slow || thresholds.entries == 0 || spec.flags.has(super::command::Flags::SKIP_SLOWLOG) {
            return;
        }
        let number = self.next.get();
        self.next.set(number + 1);
        let mut entries = self.entries.borrow_mut();
        entries.truncate(thresholds.entries - 1);
        entries.push_front(Entry {
            id: number * self.shards + self.here,
            began_ns,
            unix_ms,
            us,
            arguments: cut(spec, command),
            client: (String::new(), Vec::new()),
        });
        self.fresh.set(self.fresh.get() + 1);
    }

    /// Keeps that something took so long, if it is long enough.
    pub(super) fn happened(&self, event: Event, ns: u64, unix_ms: u64) {
        let (threshold, ms) = (self.thresholds.get().latency_ms, ns / 1_000_000);
        if threshold > 0 && ms >= threshold {
            self.events.borrow_mut()[event as usize].add(unix_ms / 1_000, ms);
        }
    }

    /// A connection has its turn.
    #[inline]
    pub(super) fn begin(&self) {
        self.fresh.set(0);
    }

    /// Whether commands of the connection that has its turn were kept.
    #[inline]
    pub(super) fn has_fresh(&self) -> bool {
        self.fresh.get() > 0
    }

    /// Says whose they were.
    #[cold]
    pub(super) fn name_fresh(&self, addr: &str, name: &[u8]) {
        for entry in self.entries.borrow_mut().iter_mut().take(self.fresh.take()) {
            entry.client = (addr.to_owned(), name.to_vec());
        }
    }

    /// How many entries were made, those that are gone among them.
    pub(super) fn kept(&self) -> u64 {
        self.next.get()
    }

    /// The newest `count` entries.
    pub(super) fn entries(&self, count: usize) -> Vec<Entry> {
        self.entries.borrow().iter().take(count).cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    pub(super) fn clear(&self) {
        self.entries.borrow_mut().clear();
    }

    pub(super) fn samples(&self, of: Event) -> Samples {
        self.events.borrow()[of as usize].clone()
    }

    /// Forgets an event; whether there was one.
    pub(super) fn reset(&self, event: Event) -> bool {
        !std::mem::take(&mut self.events.borrow_mut()[event as usize]).all.is_empty()
    }
}

/// From which argument on a command may hold secrets, which are not kept.
fn secret_from(spec: &Spec) -> usize {
    match spec.name {
        "auth" => 1,
        "hello" | "acl|setuser" | "acl|getuser" | "acl|deluser" => 2,
        _ => usize::MAX,
    }
}

/// The arguments as they are kept: the first of many, and the start of long ones.
fn cut(spec: &Spec, command: &Command<'_>) -> Vec<Vec<u8>> {
    let kept = if command.len() > ARGUMENTS_KEPT { ARGUMENTS_KEPT - 1 } else { command.len() };
    let one = |argument: &[u8]| match argument.len().checked_sub(ARGUMENT_LEN_KEPT) {
        None | Some(0) => argument.to_vec(),
        Some(more) => {
            [&argument[..ARGUMENT_LEN_KEPT], format!("... ({more} more bytes)").as_bytes()].concat()
        }
    };
    let secret = secret_from(spec);
    let shown =
        |(at, argument): (usize, &[u8])| if at < secret { one(argument) } else { b"(redacted)".to_vec() };
    let mut all: Vec<_> = command.iter().take(kept).enumerate().map(shown).collect();
    if kept < command.len() {
        all.push(format!("... ({} more arguments)", command.len() - kept).into_bytes());
    }
    all
}

#[cfg(test)]
mod tests {
    use corelane_proto_resp::{Limits, Parser, Step};

    use super::*;
    use crate::services::cache::command::{all, lookup};

    fn with(words: &[&str], f: impl FnOnce(&Spec, &Command<'_>)) {
        let mut wire = Vec::new();
        crate::services::cache::batch::encode(&mut wire, words.iter().map(|word| word.as_bytes()));
        let (mut parser, mut unread) = (Parser::new(), wire.as_slice());
        let Step::Command(command) = parser.poll(&Limits::default(), &mut unread) else {
            panic!("no command")
        };
        f(crate::services::cache::command::find(&command).expect("a command"), &command);
    }

    #[test]
    fn a_command_is_kept_from_the_threshold_on_and_the_oldest_goes() {
        let slow = Slow::new(1, 2);
        with(&["keys", "*"], |spec, command| {
            slow.ran(spec, command, 9_999_999, (0, 5));
            assert_eq!(slow.len(), 0);
            for n in 0..200 {
                slow.ran(spec, command, 10_000_000 + n * 1_000, (0, 5));
            }
        });
        assert_eq!(slow.len(), ENTRIES);
        let newest = &slow.entries(1)[0];
        assert_eq!((newest.id, newest.us, newest.unix_ms), (399, 10_199, 5));
        slow.set_thresholds(Thresholds { entries: 3, ..slow.thresholds() });
        assert_eq!(slow.entries(10).iter().map(|entry| entry.id).collect::<Vec<_>>(), [399, 397, 395]);
        slow.clear();
        assert_eq!(slow.kept(), 200);
        slow.set_thresholds(Thresholds { slower_than_us: -1, ..slow.thresholds() });
        with(&["keys", "*"], |spec, command| slow.ran(spec, command, u64::MAX, (0, 5)));
        assert_eq!(slow.len(), 0);
    }

    #[test]
    fn arguments_are_cut_as_redis_cuts_them() {
        let slow = Slow::new(0, 1);
        let (exact, long) = ("x".repeat(128), "x".repeat(129));
        with(&["set", &exact, &long], |spec, command| slow.ran(spec, command, 1 << 30, (0, 0)));
        let kept = &slow.entries(1)[0].arguments;
        assert_eq!((kept[1].len(), &kept[2][128..]), (128, &b"... (1 more bytes)"[..]));
        for (count, last) in [(32, "v"), (33, "... (2 more arguments)")] {
            let words: Vec<&str> =
                std::iter::once("del").chain(std::iter::repeat_n("v", count - 1)).collect();
            with(&words, |spec, command| slow.ran(spec, command, 1 << 30, (0, 0)));
            let kept = &slow.entries(1)[0].arguments;
            assert_eq!((kept.len(), kept[31].as_slice()), (32, last.as_bytes()));
        }
    }

    #[test]
    fn secrets_are_not_kept() {
        let slow = Slow::new(0, 1);
        for (words, kept) in [
            (&["auth", "secret"][..], "auth (redacted)"),
            (&["auth", "alice", "secret"], "auth (redacted) (redacted)"),
            (&["hello", "3", "auth", "alice", "secret"], "hello 3 (redacted) (redacted) (redacted)"),
            (&["acl", "setuser", "alice", ">secret"], "acl setuser (redacted) (redacted)"),
            (&["client", "setname", "me"], "client setname me"),
        ] {
            with(words, |spec, command| slow.ran(spec, command, 1 << 30, (0, 0)));
            assert_eq!(slow.entries(1)[0].arguments.join(&b' '), kept.as_bytes());
        }
    }

    #[test]
    fn only_what_may_take_long_is_timed_unless_all_is_to_be() {
        let slow = Slow::new(0, 1);
        let is_timed = |name: &str, arguments: usize| {
            let spec = lookup(name.as_bytes()).expect("a command");
            slow.may_time(spec.cost) && slow.times(spec.cost, arguments)
        };
        for (name, arguments, wanted) in [
            ("get", 2, false),
            ("set", 3, false),
            ("incr", 2, false),
            ("hget", 3, false),
            ("lpush", 3, false),
            ("lpush", 33, true),
            ("mget", 32, false),
            ("mget", 33, true),
            ("keys", 2, true),
            ("lrange", 4, true),
            ("hgetall", 2, true),
            ("smembers", 2, true),
            ("zunionstore", 5, true),
            ("del", 2, true),
            ("flushall", 1, true),
        ] {
            assert_eq!(is_timed(name, arguments), wanted, "{name} with {arguments}");
        }
        for to in [
            Thresholds { slower_than_us: 999, ..slow.thresholds() },
            Thresholds { latency_ms: 1, ..slow.thresholds() },
        ] {
            slow.set_thresholds(to);
            assert!(all().all(|spec| is_timed(spec.name, 1)), "{to:?}");
        }
        slow.set_thresholds(Thresholds { slower_than_us: -1, latency_ms: 0, ..slow.thresholds() });
        assert!(all().all(|spec| !slow.may_time(spec.cost)));
    }

    #[test]
    fn events_have_one_sample_a_second_the_longest_and_a_maximum() {
        let slow = Slow::new(0, 1);
        slow.happened(Event::Expire, u64::MAX, 0);
        assert!(slow.samples(Event::Expire).all.is_empty(), "the monitor is off");
        slow.set_thresholds(Thresholds { latency_ms: 2, ..slow.thresholds() });
        for (ms, unix_ms) in [(1, 1_000), (2, 2_000), (5, 2_900), (3, 2_999), (4, 3_000)] {
            slow.happened(Event::Expire, ms * 1_000_000, unix_ms);
        }
        let samples = slow.samples(Event::Expire);
        assert_eq!((Vec::from(samples.all), samples.max_ms), (vec![(2, 5), (3, 4)], 5));
        for second in 0..1_000 {
            slow.happened(Event::Evict, 2_000_000, second * 1_000);
        }
        assert_eq!(slow.samples(Event::Evict).all.len(), SAMPLES_MAX);
        assert!(slow.reset(Event::Evict) && !slow.reset(Event::Evict) && !slow.reset(Event::Command));
    }
}
