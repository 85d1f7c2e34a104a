//! ACL: who may run which commands on which keys and channels, in the syntax of Redis 7.
//!
//! All shards have the same [`Users`], which never change: a change makes new ones, on shard 0, which gives them to all
//! others. Of a connection it is known whether anything about it has to be looked at before a command; that of a user
//! who may do everything costs one branch for each command.
//!
//! # Rules
//! 1. Changes are made on shard 0, one after the other; a shard takes users only if they are newer than its own.
//! 2. A password is kept and compared as its SHA-256; no comparison tells by its time how much of it is right.
//! 3. Passwords and their hashes are in no log and no debug output.
//!
//! Reading order: here users and what they may; `rules` the syntax; `needs` what a command does to its keys; `log` who was
//! denied; `command` the ACL command; `live` connections whose user changes.
//!
//! Not here: selectors, first arguments (`+select|0`), a file of users (docs/CACHE.md).

mod command;
mod live;
mod log;
mod needs;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock};

use sha2::{Digest, Sha256};

use crate::config::Secret;
use crate::services::cache::command::{Categories, Flags, Keys, Spec, all};
use crate::services::cache::glob;
pub(super) use log::{Log, Reason};
use rules::RuleError;

/// Users of a node. At it, ACL SETUSER makes no new one.
pub const USERS_MAX: usize = 1024;

/// Passwords of one user; patterns of keys, and of channels, of one user.
const PASSWORDS_MAX: usize = 64;
const PATTERNS_MAX: usize = 1024;

/// Bytes of a name, and of a pattern.
const NAME_LEN_MAX: usize = 256;
const PATTERN_LEN_MAX: usize = 1024;

/// Who a connection is before it says so.
pub(super) const DEFAULT: &[u8] = b"default";

/// Commands and subcommands that there can be.
const COMMANDS_MAX: usize = 512;

/// Numbers of all commands and subcommands, by their names. Made once, at the start.
static NUMBERS: LazyLock<HashMap<&'static str, u16, ahash::RandomState>> = LazyLock::new(|| {
    let named = |(n, spec): (usize, &'static Spec)| (spec.name, u16::try_from(n).unwrap_or(u16::MAX));
    each().enumerate().map(named).collect()
});

/// All commands and, behind each, its subcommands.
fn each() -> impl Iterator<Item = &'static Spec> {
    all().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
}

/// A set of commands: one bit each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Commands([u64; COMMANDS_MAX / 64]);

impl Commands {
    const NONE: Commands = Commands([0; COMMANDS_MAX / 64]);
    const ALL: Commands = Commands([u64::MAX; COMMANDS_MAX / 64]);

    fn place(spec: &Spec) -> Option<(usize, u64)> {
        let number = usize::from(*NUMBERS.get(spec.name)?);
        (number < COMMANDS_MAX).then_some((number / 64, 1 << (number % 64)))
    }

    /// In constant time.
    #[inline]
    fn has(&self, spec: &Spec) -> bool {
        Commands::place(spec).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    /// A command stands for its subcommands, too.
    fn set(&mut self, spec: &Spec, on: bool) {
        for one in std::iter::once(spec).chain(spec.subcommands) {
            if let Some((word, bit)) = Commands::place(one) {
                self.0[word] = if on { self.0[word] | bit } else { self.0[word] & !bit };
            }
        }
    }
}

/// What is done with a key, or may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Access {
    read: bool,
    write: bool,
}

impl Access {
    const NONE: Access = Access { read: false, write: false };
    const READ: Access = Access { read: true, write: false };
    const WRITE: Access = Access { read: false, write: true };
    const BOTH: Access = Access { read: true, write: true };

    fn covers(self, wanted: Access) -> bool {
        (self.read || !wanted.read) && (self.write || !wanted.write)
    }
}

/// A pattern of keys, and what may be done with keys that match.
#[derive(Clone, Debug, Eq, PartialEq)]
struct KeyPattern {
    pattern: Box<[u8]>,
    access: Access,
}

/// The SHA-256 of a password.
type Hash = [u8; 32];

/// One user. As a new one it is off and may do nothing.
#[derive(Clone)]
pub(super) struct User {
    name: Box<[u8]>,
    on: bool,
    nopass: bool,
    passwords: Vec<Hash>,
    commands: Commands,
    /// All of them, also those that are not in `commands` because there are none such.
    all_commands: bool,
    /// How `commands` came about: all or none at first, then these, each once.
    from_all: bool,
    rules: Vec<(bool, Box<str>)>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Box<[u8]>>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", String::from_utf8_lossy(&self.name))
    }
}

/// Why a command is not run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Denied {
    Command,
    /// The key at this place.
    Key(usize),
    /// The channel at this place.
    Channel(usize),
}

impl User {
    fn new(name: &[u8]) -> User {
        User {
            name: name.into(),
            on: false,
            nopass: false,
            passwords: Vec::new(),
            commands: Commands::NONE,
            all_commands: false,
            from_all: false,
            rules: Vec::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels: false,
            channels: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether a command of this user has to be looked at.
    pub(super) fn is_restricted(&self) -> bool {
        !(self.all_commands && self.all_keys && self.all_channels)
    }

    /// Whether it takes any password.
    pub(super) fn is_open(&self) -> bool {
        self.nopass
    }

    /// Whether this user may run a command of `len` words, which `get` gives. `places` is scratch.
    pub(super) fn may<'a>(
        &self,
        spec: &Spec,
        len: usize,
        get: impl Fn(usize) -> Option<&'a [u8]> + Copy,
        places: &mut Vec<usize>,
    ) -> Result<(), Denied> {
        if !self.all_commands && !spec.flags.has(Flags::NO_AUTH) && !self.commands.has(spec) {
            return Err(Denied::Command);
        }
        if !self.all_keys && !matches!(spec.keys, Keys::None) {
            spec.keys.find_in(len, get, places);
            for (n, &at) in places.iter().enumerate() {
                let Some(key) = get(at) else { continue };
                if !self.may_key(key, needs::of(spec, n, len, get)) {
                    return Err(Denied::Key(at));
                }
            }
        }
        if !self.all_channels {
            for at in needs::channels(spec, len) {
                let Some(channel) = get(at) else { continue };
                let may = match spec.name {
                    "psubscribe" => self.channels.iter().any(|own| **own == *channel),
                    _ => self.may_channel(channel),
                };
                if !may {
                    return Err(Denied::Channel(at));
                }
            }
        }
        Ok(())
    }

    fn may_key(&self, key: &[u8], wanted: Access) -> bool {
        self.keys.iter().any(|own| own.access.covers(wanted) && glob::matches(&own.pattern, key))
    }

    fn may_channel(&self, channel: &[u8]) -> bool {
        self.channels.iter().any(|own| glob::matches(own, channel))
    }

    /// Whether a subscription that was made may stay.
    fn may_stay(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || match is_pattern {
                true => self.channels.iter().any(|own| **own == *channel),
                false => self.may_channel(channel),
            }
    }

    /// Whether `password` is one of this user's (rule 2).
    fn has_password(&self, password: &[u8]) -> bool {
        let given = hash(password);
        self.passwords.iter().fold(false, |found, own| is_same(own, &given) | found)
    }
}

/// Compares all bytes, whatever they are.
fn is_same(a: &Hash, b: &Hash) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| std::hint::black_box(differs | (a ^ b))) == 0
}

fn hash(password: &[u8]) -> Hash {
    Sha256::digest(password).into()
}

/// All users of a node, at one time.
#[derive(Clone, Debug)]
pub struct Users {
    version: u64,
    all: BTreeMap<Box<[u8]>, Arc<User>>,
}

impl Users {
    /// The user `default`, who may do everything by `password`, or without one where that is empty; then `lines`, each of
    /// a name and its rules.
    ///
    /// # Errors
    /// The line that is wrong, and why; nothing of a password.
    pub fn new(password: &Secret, lines: &[Secret]) -> Result<Users, String> {
        LazyLock::force(&NUMBERS);
        let mut users = Users { version: 0, all: BTreeMap::new() };
        let secret = format!(">{}", password.expose());
        let pass = if password.is_empty() { "nopass" } else { secret.as_str() };
        let rules = ["on", pass, "allkeys", "allchannels", "allcommands"];
        users
            .set(DEFAULT, rules.iter().map(|rule| rule.as_bytes()))
            .map_err(|(_, error)| error.to_string())?;
        let mut named: Vec<&str> = Vec::new();
        for (n, line) in lines.iter().enumerate() {
            let mut words = line.expose().split_ascii_whitespace();
            let at = n + 1;
            let Some(name) = words.next() else {
                return Err(format!("user {at} of the list has no name"));
            };
            if named.contains(&name) {
                return Err(format!(
                    "user {at} of the list, '{name}', is there twice: write all rules in one line"
                ));
            }
            named.push(name);
            let rules: Vec<&[u8]> = words.map(str::as_bytes).collect();
            users.set(name.as_bytes(), rules.iter().copied()).map_err(|(rule, error)| {
                let rule = rule.map_or_else(String::new, |n| match rules[n] {
                    [kind @ (b'>' | b'<' | b'#' | b'!'), ..] => {
                        format!(", rule {} ({}...)", n + 1, char::from(*kind))
                    }
                    rule => format!(", rule '{}'", String::from_utf8_lossy(rule).escape_debug()),
                });
                format!("user {at} of the list, '{}'{rule}: {error}", name.escape_debug())
            })?;
        }
        Ok(users)
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.all.get(name)
    }

    /// The user of a connection that has said nothing yet.
    pub(super) fn default_user(&self) -> Arc<User> {
        // It cannot be deleted; one that is off may do nothing.
        self.get(DEFAULT).cloned().unwrap_or_else(|| Arc::new(User::new(DEFAULT)))
    }

    /// Whether a connection that has said nothing is the user `default`, and no guest.
    pub fn is_open(&self) -> bool {
        self.get(DEFAULT).is_some_and(|user| user.on && user.nopass)
    }

    /// The user called `name`, if `password` is right and the user is on.
    pub(super) fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<&Arc<User>> {
        let found = self.get(name);
        // The same work for a name that does not exist.
        let is_right = match found {
            Some(user) => user.has_password(password) | user.nopass,
            None => is_same(&hash(password), &[0; 32]) & false,
        };
        found.filter(|user| user.on && is_right)
    }

    /// Makes or changes a user: all of `rules`, or none where one is wrong.
    ///
    /// # Errors
    /// Which rule is wrong, if it is a rule, and why.
    fn set<'a>(
        &mut self,
        name: &[u8],
        rules: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), (Option<usize>, RuleError)> {
        if name.len() > NAME_LEN_MAX {
            return Err((None, RuleError::TooLong));
        }
        if name.is_empty() || rules::has_spaces(name) {
            return Err((None, RuleError::Name));
        }
        let mut user = match self.all.get(name) {
            Some(user) => User::clone(user),
            None if self.all.len() >= USERS_MAX => return Err((None, RuleError::TooMany)),
            None => User::new(name),
        };
        for (n, rule) in rules.enumerate() {
            user.apply(rule).map_err(|error| (Some(n), error))?;
        }
        self.all.insert(name.into(), Arc::new(user));
        Ok(())
    }

    /// How many of `names` there were. The user `default` stays.
    fn delete<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) -> usize {
        names.filter(|name| *name != DEFAULT && self.all.remove(*name).is_some()).count()
    }
}

/// The category of this name, in any case of letters.
fn category(name: &[u8]) -> Option<Categories> {
    let found = Categories::NAMES.iter().position(|one| name.eq_ignore_ascii_case(one.as_bytes()))?;
    Some(Categories(1 << found))
}
