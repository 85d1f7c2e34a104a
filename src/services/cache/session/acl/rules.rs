//! Rules: what a word of `ACL SETUSER` means, and how a user is written as such words.
//!
//! Rules about commands are written in the order they were given, each once: a later one takes the place of an earlier
//! one about the same command or category, and `+@all` or `-@all` that of all.
//!
//! Not here: what users may (`mod.rs`).

use std::fmt;
use std::fmt::Write as _;

use super::{
    Access, Commands, Hash, KeyPattern, PASSWORDS_MAX, PATTERN_LEN_MAX, PATTERNS_MAX, User, category, each,
    hash,
};
use crate::services::cache::command::{Spec, lookup};

/// Why a rule is not understood. Displayed in the words of Redis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RuleError {
    /// The name of a user.
    Name,
    /// No rule looks so.
    Syntax,
    /// No such command, subcommand or category.
    Command,
    /// A pattern of keys where all keys are allowed.
    AfterAllKeys,
    /// A pattern of channels where all channels are allowed.
    AfterAllChannels,
    /// The hash of a password.
    Hash,
    /// To be removed, and not there.
    NoPassword,
    /// Users, patterns, passwords.
    TooMany,
    /// A name, a pattern.
    TooLong,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleError::Name => "Usernames can't contain spaces or null characters",
            RuleError::Syntax => "Syntax error",
            RuleError::Command => "Unknown command or category name in ACL",
            RuleError::AfterAllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
                 effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::AfterAllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::Hash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::NoPassword => "The password you are trying to remove from the user does not exist",
            RuleError::TooMany => {
                "There are as many as there can be: 1024 users, and of each 1024 patterns and 64 passwords"
            }
            RuleError::TooLong => "Too long: a name may have 256 bytes, a pattern 1024",
        })
    }
}

/// Whether there is a blank or a zero in it.
pub(super) fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0 || *byte == 0x0b)
}

impl User {
    /// Follows one rule. After an error the user is as before.
    pub(super) fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"on" => self.on = true,
            b"off" => self.on = false,
            b"nopass" => {
                self.nopass = true;
                self.passwords.clear();
            }
            b"resetpass" => {
                self.nopass = false;
                self.passwords.clear();
            }
            b"allkeys" | b"~*" => {
                self.all_keys = true;
                self.keys.clear();
            }
            b"resetkeys" => {
                self.all_keys = false;
                self.keys.clear();
            }
            b"allchannels" | b"&*" => {
                self.all_channels = true;
                self.channels.clear();
            }
            b"resetchannels" => {
                self.all_channels = false;
                self.channels.clear();
            }
            b"allcommands" | b"+@all" => self.base(true),
            b"nocommands" | b"-@all" => self.base(false),
            b"reset" => *self = User::new(&self.name),
            b"" => {}
            // Of RESTORE: there is nothing to choose here, its checksum is always looked at.
            b"sanitize-payload" | b"skip-sanitize-payload" => {}
            _ => return self.apply_long(rule),
        }
        Ok(())
    }

    fn apply_long(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        match rule {
            [b'>', password @ ..] => self.add_password(hash(password)),
            [b'#', hex @ ..] => self.add_password(unhex(hex)?),
            [b'<', password @ ..] => self.remove_password(hash(password)),
            [b'!', hex @ ..] => self.remove_password(unhex(hex)?),
            [b'~', pattern @ ..] => self.add_keys(pattern, Access::BOTH),
            [b'%', flags @ ..] => {
                if self.all_keys {
                    return Err(RuleError::AfterAllKeys);
                }
                let (mut access, mut rest) = (Access::NONE, flags);
                loop {
                    match rest {
                        [b'r' | b'R', more @ ..] if !access.read => (access.read, rest) = (true, more),
                        [b'w' | b'W', more @ ..] if !access.write => (access.write, rest) = (true, more),
                        [b'~', pattern @ ..] if access != Access::NONE => {
                            return self.add_keys(pattern, access);
                        }
                        _ => return Err(RuleError::Syntax),
                    }
                }
            }
            [b'&', pattern @ ..] => {
                if self.all_channels {
                    return Err(RuleError::AfterAllChannels);
                }
                check_pattern(pattern)?;
                if self.channels.iter().any(|one| **one == *pattern) {
                    return Ok(());
                }
                if self.channels.len() >= PATTERNS_MAX {
                    return Err(RuleError::TooMany);
                }
                self.channels.push(pattern.into());
                Ok(())
            }
            [sign @ (b'+' | b'-'), b'@', name @ ..] => {
                let wanted = category(name).ok_or(RuleError::Command)?;
                each()
                    .filter(|spec| spec.categories.has(wanted))
                    .for_each(|spec| self.change(spec, *sign == b'+'));
                self.note(*sign == b'+', format!("@{}", String::from_utf8_lossy(name).to_ascii_lowercase()));
                Ok(())
            }
            [sign @ (b'+' | b'-'), name @ ..] => {
                match named(name) {
                    Ok(spec) => {
                        self.change(spec, *sign == b'+');
                        self.note(*sign == b'+', spec.name.to_owned());
                    }
                    // Nobody can run it, so that the rule is kept as words alone.
                    Err(RuleError::Command) if is_absent(name) => {
                        if self.rules.len() >= PATTERNS_MAX {
                            return Err(RuleError::TooMany);
                        }
                        self.note(*sign == b'+', String::from_utf8_lossy(name).to_ascii_lowercase());
                    }
                    Err(error) => return Err(error),
                }
                Ok(())
            }
            _ => Err(RuleError::Syntax),
        }
    }

    fn base(&mut self, all: bool) {
        self.commands = if all { Commands::ALL } else { Commands::NONE };
        (self.all_commands, self.from_all) = (all, all);
        self.rules.clear();
    }

    fn change(&mut self, spec: &Spec, on: bool) {
        self.commands.set(spec, on);
        self.all_commands &= on;
    }

    /// Keeps how the commands came about. What a later rule decides alone is no longer said.
    fn note(&mut self, on: bool, what: String) {
        let part = format!("{what}|");
        self.rules.retain(|(_, own)| **own != *what && !own.starts_with(&part));
        self.rules.push((on, what.into()));
    }

    fn add_password(&mut self, hash: Hash) -> Result<(), RuleError> {
        if !self.passwords.contains(&hash) {
            if self.passwords.len() >= PASSWORDS_MAX {
                return Err(RuleError::TooMany);
            }
            self.passwords.push(hash);
        }
        self.nopass = false;
        Ok(())
    }

    fn remove_password(&mut self, hash: Hash) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|own| *own == hash).ok_or(RuleError::NoPassword)?;
        self.passwords.remove(at);
        Ok(())
    }

    fn add_keys(&mut self, pattern: &[u8], access: Access) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AfterAllKeys);
        }
        check_pattern(pattern)?;
        if let Some(own) = self.keys.iter_mut().find(|own| *own.pattern == *pattern) {
            own.access =
                Access { read: own.access.read || access.read, write: own.access.write || access.write };
            return Ok(());
        }
        if self.keys.len() >= PATTERNS_MAX {
            return Err(RuleError::TooMany);
        }
        self.keys.push(KeyPattern { pattern: pattern.into(), access });
        Ok(())
    }

    /// The flags that ACL GETUSER lists.
    pub(super) fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.on { "on" } else { "off" }];
        if self.nopass {
            flags.push("nopass");
        }
        flags
    }

    /// The hashes of its passwords, as text.
    pub(super) fn hashes(&self) -> Vec<String> {
        self.passwords.iter().map(|hash| hex(hash)).collect()
    }

    /// Its rules about commands.
    pub(super) fn describe_commands(&self) -> String {
        let mut text = String::from(if self.from_all { "+@all" } else { "-@all" });
        for (on, what) in &self.rules {
            // Writing to a String cannot fail.
            let _ = write!(text, " {}{what}", if *on { '+' } else { '-' });
        }
        text
    }

    /// Its patterns of keys.
    pub(super) fn describe_keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let one = |own: &KeyPattern| {
            let kind: &[u8] = match (own.access.read, own.access.write) {
                (true, false) => b"%R~",
                (false, true) => b"%W~",
                _ => b"~",
            };
            [kind, &own.pattern].concat()
        };
        self.keys.iter().map(one).collect::<Vec<_>>().join(&b' ')
    }

    /// Its patterns of channels.
    pub(super) fn describe_channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        self.channels.iter().map(|own| [b"&", &**own].concat()).collect::<Vec<_>>().join(&b' ')
    }

    /// All of it, as a line of the configuration would say it.
    pub(super) fn describe(&self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = vec![b"user".to_vec(), self.name.to_vec()];
        words.extend(self.flags().iter().map(|flag| flag.as_bytes().to_vec()));
        words.extend(self.hashes().into_iter().map(|hash| format!("#{hash}").into_bytes()));
        words.extend(Some(self.describe_keys()).filter(|keys| !keys.is_empty()));
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        words.extend(Some(self.describe_channels()).filter(|channels| !channels.is_empty()));
        words.push(self.describe_commands().into_bytes());
        words.join(&b' ')
    }
}

fn check_pattern(pattern: &[u8]) -> Result<(), RuleError> {
    if pattern.len() > PATTERN_LEN_MAX {
        return Err(RuleError::TooLong);
    }
    if has_spaces(pattern) { Err(RuleError::Syntax) } else { Ok(()) }
}

/// Commands of Redis 7.0 that are not offered: lines that were written for it may name them.
const ABSENT: &str = "asking bgrewriteaof bgsave cluster eval eval_ro evalsha evalsha_ro failover fcall fcall_ro function \
    geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch geosearchstore \
    lastsave lcs lolwut migrate module monitor move pfadd pfcount pfdebug pfmerge pfselftest psync readonly readwrite \
    replconf replicaof restore-asking role save script slaveof sort sort_ro spublish ssubscribe sunsubscribe swapdb sync \
    wait xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim";

/// Subcommand names of absent commands are not known: as long as this, and made of letters and `-`.
const ABSENT_LEN_MAX: usize = 32;

/// Whether it names a command of Redis that is not offered, or a subcommand of such a one.
fn is_absent(name: &[u8]) -> bool {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let (whole, own) = (parts.next().unwrap_or_default(), parts.next());
    let is_name = |own: &[u8]| {
        (1..=ABSENT_LEN_MAX).contains(&own.len())
            && own.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-')
    };
    ABSENT.split(' ').any(|one| whole.eq_ignore_ascii_case(one.as_bytes())) && own.is_none_or(is_name)
}

/// The command, or with a `|` in it the subcommand, of this name.
pub(super) fn named(name: &[u8]) -> Result<&'static Spec, RuleError> {
    let Some(bar) = memchr::memchr(b'|', name) else { return lookup(name).ok_or(RuleError::Command) };
    let (whole, own) = (&name[..bar], &name[bar + 1..]);
    let spec = lookup(whole).ok_or(RuleError::Command)?;
    if own.is_empty() {
        return Err(RuleError::Syntax);
    }
    let found = spec.subcommands.iter().find(|one| own.eq_ignore_ascii_case(one.own_name().as_bytes()));
    found.ok_or(RuleError::Command)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &[u8]) -> Result<Hash, RuleError> {
    let mut hash = [0; 32];
    if text.len() != 2 * hash.len() || !text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(RuleError::Hash);
    }
    let digit = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
    for (byte, pair) in hash.iter_mut().zip(text.as_chunks::<2>().0) {
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    Ok(hash)
}
