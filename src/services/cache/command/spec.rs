//! What is known of each command: its name, its shape, where its keys are, who may use it, and what runs it.
//!
//! Flags, categories and the places of keys are those that Redis 7 reports by `COMMAND INFO`.
//!
//! Not here: running one (`data`, and the connection for those that are about it).

use corelane_proto_resp::Command;

use super::{Ctx, parse};
pub use crate::services::cache::slow::Cost;

/// A set of flags, as `COMMAND INFO` has them. One bit each, in the order of [`Flags::NAMES`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags(pub u32);

impl Flags {
    /// May change the store.
    pub const WRITE: Flags = Flags(1);
    /// Reads keys.
    pub const READONLY: Flags = Flags(1 << 1);
    /// May need more memory: refused where there is none.
    pub const DENYOOM: Flags = Flags(1 << 2);
    /// For administrators.
    pub const ADMIN: Flags = Flags(1 << 3);
    /// Of publish and subscribe.
    pub const PUBSUB: Flags = Flags(1 << 4);
    /// Not in scripts.
    pub const NOSCRIPT: Flags = Flags(1 << 5);
    /// May wait.
    pub const BLOCKING: Flags = Flags(1 << 6);
    /// Allowed while loading.
    pub const LOADING: Flags = Flags(1 << 7);
    /// Allowed on a stale replica.
    pub const STALE: Flags = Flags(1 << 8);
    /// Not shown to monitors.
    pub const SKIP_MONITOR: Flags = Flags(1 << 9);
    /// Not in the slow log.
    pub const SKIP_SLOWLOG: Flags = Flags(1 << 10);
    /// In constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 11);
    /// Allowed before AUTH.
    pub const NO_AUTH: Flags = Flags(1 << 12);
    /// Its keys are not at fixed places.
    pub const MOVABLEKEYS: Flags = Flags(1 << 13);
    /// Not inside MULTI.
    pub const NO_MULTI: Flags = Flags(1 << 14);

    /// Their names in `COMMAND INFO`.
    pub const NAMES: [&'static str; 15] = [
        "write",
        "readonly",
        "denyoom",
        "admin",
        "pubsub",
        "noscript",
        "blocking",
        "loading",
        "stale",
        "skip_monitor",
        "skip_slowlog",
        "fast",
        "no_auth",
        "movablekeys",
        "no_multi",
    ];

    /// The flags of these names, which blanks separate.
    pub const fn list(names: &str) -> Flags {
        Flags(bits(&Self::NAMES, names.as_bytes()))
    }

    /// All of both.
    #[must_use]
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` are here.
    #[inline]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A set of ACL categories. One bit each, in the order of [`Categories::NAMES`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Categories(pub u32);

impl Categories {
    /// Their names, as `ACL CAT` lists them.
    pub const NAMES: [&'static str; 21] = [
        "keyspace",
        "read",
        "write",
        "set",
        "sortedset",
        "list",
        "hash",
        "string",
        "bitmap",
        "hyperloglog",
        "geo",
        "stream",
        "pubsub",
        "admin",
        "fast",
        "slow",
        "blocking",
        "dangerous",
        "connection",
        "transaction",
        "scripting",
    ];

    /// The categories of these names, which blanks separate.
    pub const fn list(names: &str) -> Categories {
        Categories(bits(&Self::NAMES, names.as_bytes()))
    }

    /// Whether all of `other` are here.
    #[inline]
    pub const fn has(self, other: Categories) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The bits of the names in `words`: bit n is the one of `names[n]`. Stops the build at a name that does not exist.
const fn bits(names: &[&str], words: &[u8]) -> u32 {
    let (mut all, mut start, mut at) = (0, 0, 0);
    while at <= words.len() {
        if at == words.len() || words[at] == b' ' {
            if at > start {
                let word = words.split_at(at).0.split_at(start).1;
                let mut n = 0;
                while !equal(names[n].as_bytes(), word) {
                    n += 1;
                }
                all |= 1 << n;
            }
            start = at + 1;
        }
        at += 1;
    }
    all
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut n = 0;
    while n < a.len() {
        if a[n] != b[n] {
            return false;
        }
        n += 1;
    }
    true
}

/// Where the keys of a command are among its arguments; 0 is its name.
#[derive(Clone, Copy, Debug)]
pub enum Keys {
    /// It has none.
    None,
    /// From `first` to `last` (negative: counted from the end, -1 is the last argument), every `step`.
    Range {
        /// The first key.
        first: usize,
        /// The last one may stand here.
        last: isize,
        /// From one to the next.
        step: usize,
    },
    /// As many as the number at `count` says, right behind it; `also`, if it is not 0, is a further key (the destination).
    Counted {
        /// Where their number is.
        count: usize,
        /// Where a further key is, or 0.
        also: usize,
    },
}

impl Keys {
    /// One key, at 1.
    pub const ONE: Keys = Keys::Range { first: 1, last: 1, step: 1 };
    /// Keys at 1 and 2.
    pub const TWO: Keys = Keys::Range { first: 1, last: 2, step: 1 };
    /// All arguments.
    pub const ALL: Keys = Keys::Range { first: 1, last: -1, step: 1 };

    /// The places of the keys of `command`, in order, into `places`. Nothing where the command is malformed: it will say so itself.
    pub fn find(self, command: &Command<'_>, places: &mut Vec<usize>) {
        self.find_in(command.len(), |at| command.get(at), places);
    }

    /// As [`Keys::find`], of `len` words that `get` gives, the name being word 0.
    pub fn find_in<'a>(self, len: usize, get: impl Fn(usize) -> Option<&'a [u8]>, places: &mut Vec<usize>) {
        places.clear();
        match self {
            Keys::None => {}
            Keys::Range { first, last, step } => {
                let last = if last < 0 { len.saturating_add_signed(last) } else { last.unsigned_abs() };
                places.extend((first..=last.min(len.saturating_sub(1))).step_by(step));
            }
            Keys::Counted { count, also } => {
                let number =
                    get(count).and_then(parse::integer).and_then(|number| usize::try_from(number).ok());
                let Some(number) = number else { return };
                if number == 0 || count.saturating_add(number) >= len {
                    return;
                }
                if also != 0 {
                    places.push(also);
                }
                places.extend(count + 1..=count + number);
            }
        }
    }
}

/// How the replies of the parts of a command become one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gather {
    /// An array with the reply of each key, in the order of the keys.
    Each,
    /// The sum of integers.
    Sum,
    /// `+OK`, if all say so; else the first error.
    Ok,
    /// One array of the elements of all arrays.
    Concat,
}

/// Runs a command on the store of the shard that has all its keys.
pub type Data = fn(&mut Ctx<'_>, &Command<'_>);

/// What runs a command.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// On the shard that has its keys. Keys of several shards are brought together (all of them locked) first.
    Data(Data),
    /// As `Data` where one shard has all keys. Else the command is split: one for each shard, with its name and the
    /// arguments of that shard's keys (`step` arguments for each key), and the replies are gathered. Not atomic over shards.
    Split(Data, Gather),
    /// On every shard; the replies are gathered.
    All(Data, Gather),
    /// About the connection, the node, or several shards in its own way: run by the connection (by name).
    Connection,
}

/// One command, or one subcommand.
#[derive(Debug)]
pub struct Spec {
    /// In small letters.
    pub name: &'static str,
    /// How many arguments, its name (and its subcommand's) among them; negative: at least so many.
    pub arity: i32,
    /// See [`Flags`].
    pub flags: Flags,
    /// See [`Categories`].
    pub categories: Categories,
    /// Where its keys are.
    pub keys: Keys,
    /// What runs it.
    pub run: Run,
    /// What it does, in one line (`COMMAND DOCS`).
    pub summary: &'static str,
    /// The version of Redis that had it first.
    pub since: &'static str,
    /// Its group in `COMMAND DOCS`: `string`, `generic`, `connection`, ...
    pub group: &'static str,
    /// What it costs (`COMMAND DOCS`).
    pub complexity: &'static str,
    /// By what its work grows: whether it is timed.
    pub cost: Cost,
    /// Its subcommands, if it has such.
    pub subcommands: &'static [Spec],
}

impl Spec {
    /// A command without keys that the connection runs, until told otherwise. Names of flags and of categories are
    /// separated by blanks.
    pub const fn new(name: &'static str, arity: i32, flags: &str, categories: &str) -> Spec {
        Spec {
            name,
            arity,
            flags: Flags::list(flags),
            categories: Categories::list(categories),
            keys: Keys::None,
            run: Run::Connection,
            summary: "",
            since: "1.0.0",
            group: "generic",
            complexity: "O(1)",
            cost: Cost::SMALL,
            subcommands: &[],
        }
    }

    /// With keys there.
    #[must_use]
    pub const fn keys(self, keys: Keys) -> Spec {
        Spec { keys, ..self }
    }

    /// Run so.
    #[must_use]
    pub const fn run(self, run: Run) -> Spec {
        Spec { run, ..self }
    }

    /// What `COMMAND DOCS` says of it, which also decides what its cost grows by.
    #[must_use]
    pub const fn docs(
        self,
        group: &'static str,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Spec {
        let is_constant = equal(complexity.as_bytes(), b"O(1)");
        let cost = match (self.flags.has(Flags::FAST), self.arity < 0) {
            (true, true) => Cost::BY_ARGUMENTS,
            (false, _) if !is_constant => Cost::BY_VALUES,
            _ => Cost::SMALL,
        };
        Spec { group, since, complexity, cost, summary, ..self }
    }

    /// With these subcommands, whose names begin with its own and a `|`.
    #[must_use]
    pub const fn with(self, subcommands: &'static [Spec]) -> Spec {
        Spec { subcommands, ..self }
    }

    /// Its name without the command it is a subcommand of.
    pub fn own_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, own)| own)
    }

    /// Whether a command of `len` arguments has the right number of them.
    #[inline]
    pub const fn takes(&self, len: usize) -> bool {
        if self.arity >= 0 {
            len == self.arity.unsigned_abs() as usize
        } else {
            len >= self.arity.unsigned_abs() as usize
        }
    }
}
