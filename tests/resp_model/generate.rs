//! Steps by chance, from a seed.
//!
//! It knows nothing of replies: what cannot be done at that moment, such as a command of a client that waits, the
//! run leaves out. So any part of what it made can be run alone.
//!
//! Not here: words of commands (`grammar`), which commands (`commands`).

use std::collections::BTreeSet;

use super::commands::{
    BLOCKING, HASHES, KEYS, LEX, LEX_FILL, LISTS, PUBLISHING, SESSION, SETS, STRINGS, SUBSCRIBING,
    TRANSACTIONS, Table, ZSETS,
};
use super::grammar::Words;
use super::step::{Cmd, Step, name, words};

/// Clients of a run. The last two mostly listen to channels; those with odd numbers speak RESP3.
pub(crate) const CLIENTS: usize = 6;
const LISTENERS: usize = 2;

/// Steps between two comparisons of everything.
const COMPARE_EVERY: u64 = 250;

/// The longest short life, milliseconds.
const EXPIRE_MS_MAX: u64 = 6;

/// What does not belong in a burst: its effect depends on others, or reaches them, or ends the connection.
const ALONE: &[&str] = &["QUIT", "RESET", "HELLO", "DBSIZE", "MEMORY"];

/// What has to do with keys of others.
const OF_ALL_KEYS: &[&str] = &["KEYS", "DBSIZE", "RANDOMKEY", "SCAN", "FLUSHALL", "FLUSHDB"];

/// Inline commands, some with quotes.
const INLINE: &[&str] = &[
    "PING\r\n",
    "  PING   hello  \r\n",
    "ping\n",
    "SET s1 \"a\\x41\\n\\\"b\"\r\nGET s1\r\n",
    "SET 's2' 'it\\'s \\n'\r\nGET s2\r\n",
    "\r\n\r\nPING\r\n",
    "*0\r\nPING\r\n",
    "*-1\r\nPING\r\n",
    "ECHO \"\"\r\n",
    "GET\r\nNOSUCH a b\r\n",
    "*1\r\n$4\r\nPING\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    "SET s3 \"\\xzz\\q\\t\"\r\nGET s3\r\n",
];

/// What ends the connection with an error.
const BROKEN: &[&str] = &[
    "*3\r\n$3\r\nSET\r\n:1\r\n",
    "*abc\r\n",
    "*1\r\n$abc\r\n",
    "*1\r\nPING\r\n",
    "*2\r\n$4\r\nPING\r\n!1\r\n",
    "PING \"abc\r\n",
    "PING 'abc' 'd\r\n",
    "ECHO \"a\"b\r\n",
    "*1\r\n$600000000\r\n",
    "*1\r\n$-1\r\n",
    "*2147483648\r\n",
    "*1 \r\n",
    "PING\r\n*1\r\n+PING\r\n",
];

/// The families of commands on data, each with its weight.
const DATA: &[(u64, Table)] =
    &[(22, STRINGS), (16, KEYS), (12, HASHES), (16, LISTS), (14, SETS), (18, ZSETS), (3, LEX), (2, LEX_FILL)];

/// How a command is to be run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    Plain,
    Block,
    Pick,
    Scan,
    Lex,
}

/// Makes steps.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    words: Words,
    left_out: BTreeSet<String>,
    /// Clients wait for one key at a time: see `compare`, on waiting for keys of several shards.
    one_wait: bool,
    in_multi: [bool; CLIENTS],
    made: u64,
}

impl Generator {
    /// The steps of a seed, without the commands that are left out.
    pub(crate) fn new(seed: u64, left_out: BTreeSet<String>) -> Generator {
        Generator { words: Words::new(seed), left_out, one_wait: false, in_multi: [false; CLIENTS], made: 0 }
    }

    /// For several shards: who waits names keys of one.
    pub(crate) fn one_wait(mut self, on: bool) -> Generator {
        self.one_wait = on;
        self
    }

    /// The next one.
    pub(crate) fn step(&mut self) -> Step {
        match self.any_step() {
            Step::Block { client, cmd } if self.one_wait => Step::Block { client, cmd: for_one_key(cmd) },
            step => step,
        }
    }

    fn any_step(&mut self) -> Step {
        self.made += 1;
        if self.made.is_multiple_of(COMPARE_EVERY) {
            return Step::Compare;
        }
        let client = self.words.rng.index(CLIENTS - LISTENERS);
        if self.in_multi[client] && self.words.rng.chance(1, 5) {
            self.in_multi[client] = false;
            let end = if self.words.rng.chance(1, 8) { "DISCARD" } else { "EXEC" };
            return Step::One { client, cmd: words(end) };
        }
        match self.words.rng.below(1000) {
            0..4 => self.expire(client),
            4..20 => Step::Block { client, cmd: self.of(BLOCKING) },
            20..80 => Step::Burst { client, cmds: self.burst() },
            80..90 => self.storm(),
            90..94 => Step::Raw { client, bytes: self.one_of(INLINE) },
            94..96 => Step::Raw { client: self.words.rng.index(CLIENTS), bytes: self.one_of(BROKEN) },
            96..99 => Step::Reconnect { client: self.words.rng.index(CLIENTS) },
            99..120 => {
                let listens = self.words.rng.chance(19, 20);
                let client = if listens { CLIENTS - 1 - self.words.rng.index(LISTENERS) } else { client };
                Step::Subscribe { client, cmd: self.of(SUBSCRIBING) }
            }
            120..150 => Step::One { client, cmd: self.of(PUBLISHING) },
            150..175 => Step::One { client: self.words.rng.index(CLIENTS), cmd: self.of(SESSION) }.how(),
            175..225 => {
                let cmd = self.of(TRANSACTIONS);
                self.in_multi[client] |= name(&cmd) == "MULTI";
                Step::One { client, cmd }
            }
            _ => {
                let table = self.family();
                let cmd = self.of(table);
                match how(&cmd) {
                    How::Plain if self.words.rng.chance(1, 25) => {
                        Step::One { client, cmd: self.words.broken(cmd) }
                    }
                    _ => Step::One { client, cmd }.how(),
                }
            }
        }
    }

    fn family(&mut self) -> Table {
        let mut at = self.words.rng.below(DATA.iter().map(|(weight, _)| weight).sum());
        for (weight, table) in DATA {
            if at < *weight {
                return table;
            }
            at -= weight;
        }
        unreachable!("the sum of the weights bounds it")
    }

    /// A command of a table that ours knows; of another, if it knows none of them.
    fn of(&mut self, table: Table) -> Cmd {
        for _ in 0..100 {
            let template = self.words.pick(table);
            let cmd = self.words.command(template);
            if !self.left_out.contains(&name(&cmd)) {
                return cmd;
            }
        }
        words("PING")
    }

    /// One that gives its reply at once, and one that chance has no part in.
    fn plain(&mut self) -> Cmd {
        loop {
            let table = match self.words.rng.below(30) {
                0 => SESSION,
                1 => PUBLISHING,
                _ => self.family(),
            };
            let cmd = self.of(table);
            if how(&cmd) == How::Plain && !ALONE.contains(&name(&cmd).as_str()) {
                return if self.words.rng.chance(1, 40) { self.words.broken(cmd) } else { cmd };
            }
        }
    }

    fn burst(&mut self) -> Vec<Cmd> {
        let most = if self.words.rng.chance(1, 10) { 60 } else { 8 };
        let count = 1 + self.words.rng.index(most);
        let mut cmds: Vec<Cmd> = (0..count).map(|_| self.plain()).collect();
        if self.words.rng.chance(1, 3) {
            if self.words.rng.chance(1, 3) {
                cmds.insert(0, self.words.command("WATCH <k*>"));
            }
            let at = self.words.rng.index(cmds.len());
            cmds.insert(at, words("MULTI"));
            cmds.push(words(if self.words.rng.chance(1, 10) { "DISCARD" } else { "EXEC" }));
        }
        cmds
    }

    /// Bursts of several clients at once. Each has keys of its own, so that their order cannot be told.
    fn storm(&mut self) -> Step {
        let mut bursts = Vec::new();
        for client in 0..CLIENTS - LISTENERS {
            let mut cmds = Vec::new();
            while cmds.len() < 12 {
                let table = self.family();
                let cmd = self.of(table);
                if how(&cmd) == How::Plain && !OF_ALL_KEYS.contains(&name(&cmd).as_str()) {
                    cmds.push(owned_by(client, cmd));
                }
            }
            bursts.push((client, cmds));
        }
        Step::Storm { bursts }
    }

    fn expire(&mut self, client: usize) -> Step {
        let ms = 1 + self.words.rng.below(EXPIRE_MS_MAX);
        let (mut cmds, mut keys) = (Vec::new(), BTreeSet::new());
        for _ in 0..6 {
            let key = self.words.any_key();
            if !keys.insert(key.clone()) {
                continue;
            }
            let ms = ms.to_string();
            let text = match self.words.rng.below(8) {
                0 => vec!["SET", "", "v", "PX", &ms],
                1 => vec!["PSETEX", "", &ms, "v"],
                2 => vec!["GETEX", "", "PX", &ms],
                3 => vec!["PEXPIREAT", "", "@"],
                4 => vec!["SET", "", "v", "PXAT", "@"],
                _ => vec!["PEXPIRE", "", &ms],
            };
            let mut cmd: Cmd = text.into_iter().map(|word| word.as_bytes().to_vec()).collect();
            cmd[1] = key;
            cmds.push(cmd);
        }
        Step::Expire { client, cmds, ms }
    }

    fn one_of(&mut self, list: &[&str]) -> Vec<u8> {
        list[self.words.rng.index(list.len())].as_bytes().to_vec()
    }
}

/// The command on keys that no other client has: every key gets the client's number behind it.
fn owned_by(client: usize, cmd: Cmd) -> Cmd {
    let keys = super::grammar::all_keys();
    let own = |arg: Vec<u8>| {
        if keys.contains(&arg) { owned_key(client, &arg) } else { arg }
    };
    cmd.into_iter().map(own).collect()
}

/// A key of a client alone.
pub(crate) fn owned_key(client: usize, key: &[u8]) -> Vec<u8> {
    [key, format!("~{client}").as_bytes()].concat()
}

/// The same with its first key alone; one that moves moves to where it came from. What is malformed stays so.
fn for_one_key(mut cmd: Cmd) -> Cmd {
    match name(&cmd).as_str() {
        "BLMOVE" | "BRPOPLPUSH" => {
            if cmd.len() > 2 {
                cmd[2] = cmd[1].clone();
            }
        }
        "BLMPOP" | "BZMPOP" => {
            let count = cmd.get(2).and_then(|text| String::from_utf8_lossy(text).parse::<usize>().ok());
            if let Some(count) = count.filter(|count| (2..cmd.len().saturating_sub(3)).contains(count)) {
                cmd.drain(4..3 + count);
                cmd[2] = b"1".to_vec();
            }
        }
        _ => {
            if cmd.len() > 3 {
                cmd.drain(2..cmd.len() - 1);
            }
        }
    }
    cmd
}

fn how(cmd: &Cmd) -> How {
    match name(cmd).as_str() {
        "BLPOP" | "BRPOP" | "BLMOVE" | "BRPOPLPUSH" | "BZPOPMIN" | "BZPOPMAX" | "BLMPOP" | "BZMPOP" => {
            How::Block
        }
        "SPOP" | "SRANDMEMBER" | "HRANDFIELD" | "ZRANDMEMBER" | "RANDOMKEY" => How::Pick,
        "SCAN" | "SSCAN" | "HSCAN" | "ZSCAN" => How::Scan,
        "ZRANGEBYLEX" | "ZREVRANGEBYLEX" | "ZLEXCOUNT" | "ZREMRANGEBYLEX" => How::Lex,
        _ if cmd.iter().any(|arg| arg.eq_ignore_ascii_case(b"BYLEX")) => How::Lex,
        _ => How::Plain,
    }
}

impl Step {
    /// A step of one command as the kind that the command asks for.
    fn how(self) -> Step {
        let Step::One { client, cmd } = self else { return self };
        match how(&cmd) {
            How::Plain => Step::One { client, cmd },
            How::Block => Step::Block { client, cmd },
            How::Pick => Step::Pick { client, cmd },
            How::Scan => Step::Scan { client, cursor: if name(&cmd) == "SCAN" { 1 } else { 2 }, cmd },
            How::Lex => {
                let key = cmd[if name(&cmd) == "ZRANGESTORE" { 2 } else { 1 }].clone();
                Step::Lex { client, cmd, key }
            }
        }
    }
}

/// Whether bytes end the connection.
pub(crate) fn is_broken(bytes: &[u8]) -> bool {
    BROKEN.iter().any(|broken| broken.as_bytes() == bytes)
}
