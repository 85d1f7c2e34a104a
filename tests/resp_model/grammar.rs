//! Commands from templates: words, placeholders in `<>`, and alternatives in `()`.
//!
//! `SET <s> <v> (|NX|XX) (|EX <ttl>)` is SET with the key of a string, a value, and one choice of each group. A
//! placeholder with a star gives one to four. What placeholders there are is said at [`Words::word`].
//!
//! Not here: which templates (`commands`).

use corelane_base::rng::Rng;

use super::step::Cmd;

/// Keys by the type that they mostly hold; few, so that types collide. The last of each share a hash tag.
const STRINGS: &[&[u8]] = &[b"s1", b"s2", b"s3", b"", b"{t}s"];
const HASHES: &[&[u8]] = &[b"h1", b"h2", b"\x00\xff\r\nh", b"{t}h"];
const LISTS: &[&[u8]] = &[b"l1", b"l2", b"l3", b"{t}l"];
const SETS: &[&[u8]] = &[b"set1", b"set2", b"a}{b}set", b"{t}set"];
const ZSETS: &[&[u8]] = &[b"z1", b"z2", b"{}z", b"{t}z"];
/// Sorted sets whose scores are mostly one.
const LEX: &[&[u8]] = &[b"lex1", b"{t}lex"];
const NOWHERE: &[&[u8]] = &[b"none", b"{t}none"];

/// Every key there is.
pub(crate) fn all_keys() -> Vec<Vec<u8>> {
    [STRINGS, HASHES, LISTS, SETS, ZSETS, LEX, NOWHERE].concat().into_iter().map(<[u8]>::to_vec).collect()
}

const MEMBERS: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"1",
    b"2",
    b"3",
    b"-7",
    b"100000",
    b"5000000000",
    b"",
    b"\x00\xff",
    b"A",
    b"member of more than sixty-four bytes, so that no small encoding of Redis holds it",
    b"1.5",
    b"ab",
];
const NUMBERS: &[&[u8]] = &[b"1", b"2", b"3", b"7", b"-1", b"-5", b"100", b"0", b"10", b"65536"];
/// Where numbers end, and what only looks like one.
const EDGES: &[&[u8]] = &[
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"9223372036854775806",
    b"4294967296",
    b"-2147483649",
    b"18446744073709551616",
    b"",
    b" 1",
    b"1 ",
    b"+1",
    b"01",
    b"-0",
    b"0x10",
    b"1e3",
    b"1.0",
    b"abc",
    b"nan",
    b"inf",
    b"--1",
    b"1\x00",
    b"99999999999999999999999999",
];
const FLOATS: &[&[u8]] = &[
    b"1",
    b"2",
    b"3",
    b"-1",
    b"0",
    b"1.5",
    b"-2.5",
    b"0.25",
    b"10",
    b"3.125",
    b"100",
    b"0.1",
    b"1e2",
    b"-0",
    b"5e-1",
    b"1234567.5",
];
const FLOAT_EDGES: &[&[u8]] = &[
    b"inf",
    b"-inf",
    b"+inf",
    b"nan",
    b"1e308",
    b"-1e308",
    b"1.7976931348623157e308",
    b"5e-324",
    b"1e-5",
    b"123456789012345678",
    b"9007199254740993",
    b"",
    b" 1.5",
    b"1.5 ",
    b"abc",
    b"1.5.2",
    b"0x1p3",
    b"infinity",
    b"1e",
    b"(1",
    b".5",
    b"5.",
    b"+3",
];
const PATTERNS: &[&[u8]] = &[
    b"*", b"s*", b"?1", b"[lz]*", b"*t*", b"[^s]1", b"\\*", b"{t}*", b"h[1-2]", b"", b"[a-", b"a*b*", b"**",
    b"[1-3]", b"\\", b"?", b"z?", b"[]a]", b"[b-a]*",
];
const CHANNELS: &[&[u8]] = &[b"news", b"sport", b"{t}chan", b"", b"\xff\x00", b"n"];
const CHANNEL_PATTERNS: &[&[u8]] = &[b"n*", b"*", b"s?ort", b"[ns]*", b"news"];
/// What stands in the place of an argument now and then. No number that could be a short time to live, and no zero byte:
/// where Redis takes an option or a score for a string of C, it ends there.
const JUNK: &[&[u8]] =
    &[b"", b"abc", b"-1", b"0", b"1.5", b"9223372036854775808", b"nan", b"\xff\x01", b"NX", b"GET"];

/// The first time that only a fault can reach, seconds; every long time to live lies behind it, and each is
/// another, so that two commands never compare equal ones.
const TTL_MIN: u64 = 100_000;

/// Chooses words.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    pub(crate) rng: Rng,
}

impl Words {
    pub(crate) fn new(seed: u64) -> Words {
        Words { rng: Rng::new(seed) }
    }

    /// One of a table of weights and templates.
    pub(crate) fn pick<'t>(&mut self, table: &[(u64, &'t str)]) -> &'t str {
        let mut at = self.rng.below(table.iter().map(|(weight, _)| weight).sum());
        for (weight, template) in table {
            if at < *weight {
                return template;
            }
            at -= weight;
        }
        unreachable!("the sum of the weights bounds it")
    }

    /// A command from a template.
    pub(crate) fn command(&mut self, template: &str) -> Cmd {
        let mut cmd = Cmd::new();
        self.expand(template, &mut cmd);
        if self.rng.chance(1, 20) {
            let lower = cmd[0].to_ascii_lowercase();
            cmd[0] = lower;
        }
        cmd
    }

    /// Breaks a command: an argument less or more, or another in its place.
    pub(crate) fn broken(&mut self, mut cmd: Cmd) -> Cmd {
        match self.rng.below(4) {
            0 if cmd.len() > 1 => drop(cmd.pop()),
            1 => cmd.push(self.of(JUNK)),
            2 if cmd.len() > 2 => {
                let at = 1 + self.rng.index(cmd.len() - 1);
                cmd.remove(at);
            }
            _ if cmd.len() > 1 => {
                let at = 1 + self.rng.index(cmd.len() - 1);
                cmd[at] = self.of(JUNK);
            }
            _ => cmd.push(self.of(JUNK)),
        }
        cmd
    }

    fn expand(&mut self, template: &str, cmd: &mut Cmd) {
        let mut rest = template.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = match first {
                '(' => {
                    let end = closing(rest);
                    let choices = alternatives(&rest[1..end]);
                    let choice = choices[self.rng.index(choices.len())];
                    self.expand(choice, cmd);
                    end + 1
                }
                '<' => {
                    let end = rest.find('>').unwrap_or_else(|| panic!("no end of a placeholder: {template}"));
                    let placeholder = &rest[1..end];
                    let (kind, many) =
                        placeholder.strip_suffix('*').map_or((placeholder, false), |k| (k, true));
                    let times = if many { 1 + self.rng.below(4) * self.rng.below(2) } else { 1 };
                    for _ in 0..times {
                        self.word(kind, cmd);
                    }
                    end + 1
                }
                _ => {
                    let end = rest.find([' ', '(', '<']).unwrap_or(rest.len());
                    cmd.push(rest.as_bytes()[..end].to_vec());
                    end
                }
            };
            rest = rest[len..].trim_start();
        }
    }

    /// The words of a placeholder.
    fn word(&mut self, kind: &str, cmd: &mut Cmd) {
        match kind {
            // Keys: of a string, a hash, a list, a set, a sorted set, one of equal scores, of any.
            "s" => cmd.push(self.key(STRINGS)),
            "h" => cmd.push(self.key(HASHES)),
            "l" => cmd.push(self.key(LISTS)),
            "set" => cmd.push(self.key(SETS)),
            "z" => cmd.push(self.key(ZSETS)),
            "lex" => cmd.push(self.of(LEX)),
            "k" => cmd.push(self.any_key()),
            // Values, members, numbers.
            "v" => cmd.push(self.value()),
            "m" => cmd.push(self.of(MEMBERS)),
            "n" => cmd.push(if self.rng.chance(1, 12) { self.of(EDGES) } else { self.of(NUMBERS) }),
            "f" => cmd.push(if self.rng.chance(1, 10) { self.of(FLOAT_EDGES) } else { self.of(FLOATS) }),
            "i" => cmd.push(self.index()),
            "count" => {
                let count = if self.rng.chance(1, 15) { self.of(EDGES) } else { number(self.rng.below(7)) };
                cmd.push(count);
            }
            "few" => cmd.push(number(1 + self.rng.below(4))),
            "signed" => {
                let (sign, few) = (self.rng.chance(1, 2), self.rng.below(5).to_string());
                cmd.push(if sign { format!("-{few}") } else { few }.into_bytes());
            }
            "offset" => cmd.push(match self.rng.below(20) {
                0 => b"4294967296".to_vec(),
                1 => b"-1".to_vec(),
                2 => self.of(EDGES),
                _ => number(self.rng.below(90)),
            }),
            "bit" => cmd.push(if self.rng.chance(1, 20) { b"2".to_vec() } else { number(self.rng.below(2)) }),
            "start" | "end" => self.bound(cmd),
            "min" | "max" => self.score_bound(cmd),
            "lmin" => cmd.push(self.lex_bound(b"-")),
            "lmax" => cmd.push(self.lex_bound(b"+")),
            // Pairs.
            "kv" => cmd.extend([self.key(STRINGS), self.value()]),
            "mv" => cmd.extend([self.of(MEMBERS), self.value()]),
            "fm" => {
                self.word("f", cmd);
                cmd.push(self.of(MEMBERS));
            }
            // A number of keys and as many keys.
            "sets" => self.counted(SETS, cmd),
            "zs" => self.counted(ZSETS, cmd),
            "ls" => self.counted(LISTS, cmd),
            "zw" => self.weighted(cmd),
            // Times that no run reaches, or that cannot be.
            "ttl" => cmd.push(self.time(1)),
            "pttl" => cmd.push(self.time(1000)),
            "at" => cmd.push(self.moment(1)),
            "pat" => cmd.push(self.moment(1000)),
            "pattern" => cmd.push(self.of(PATTERNS)),
            "channel" => cmd.push(self.of(CHANNELS)),
            "chanpat" => cmd.push(self.of(CHANNEL_PATTERNS)),
            other => panic!("no placeholder <{other}>"),
        }
    }

    fn of(&mut self, list: &[&[u8]]) -> Vec<u8> {
        list[self.rng.index(list.len())].to_vec()
    }

    fn key(&mut self, own: &[&[u8]]) -> Vec<u8> {
        if self.rng.chance(1, 10) { self.any_key() } else { self.of(own) }
    }

    pub(crate) fn any_key(&mut self) -> Vec<u8> {
        let pools = [STRINGS, HASHES, LISTS, SETS, ZSETS, LEX, NOWHERE];
        let pool = pools[self.rng.index(pools.len())];
        self.of(pool)
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.below(12) {
            0 => self.of(EDGES),
            1 => self.of(FLOATS),
            2 => self.of(MEMBERS),
            3 => vec![b'x'; self.rng.index(200)],
            4 if self.rng.chance(1, 10) => vec![0xfe; self.rng.index(20_000)],
            5..=8 => self.of(NUMBERS),
            _ => format!("v{}", self.rng.below(1000)).into_bytes(),
        }
    }

    fn index(&mut self) -> Vec<u8> {
        match self.rng.below(20) {
            0 => self.of(EDGES),
            1 => b"1000".to_vec(),
            2 => b"-1000".to_vec(),
            3..=8 => format!("-{}", self.rng.below(6)).into_bytes(),
            _ => number(self.rng.below(8)),
        }
    }

    /// A place in a sorted set of members or scores alike: rank mostly.
    fn bound(&mut self, cmd: &mut Cmd) {
        cmd.push(self.index());
    }

    fn score_bound(&mut self, cmd: &mut Cmd) {
        let open = if self.rng.chance(1, 4) { &b"("[..] } else { b"" };
        let score = match self.rng.below(8) {
            0 => b"-inf".to_vec(),
            1 => b"+inf".to_vec(),
            2 => self.of(FLOAT_EDGES),
            _ => self.of(FLOATS),
        };
        cmd.push([open, &score[..]].concat());
    }

    fn lex_bound(&mut self, end: &[u8]) -> Vec<u8> {
        match self.rng.below(10) {
            0..=2 => end.to_vec(),
            3 => b"+".to_vec(),
            4 => self.of(MEMBERS),
            5 => b"-".to_vec(),
            n => [if n % 2 == 0 { &b"["[..] } else { b"(" }, &self.of(MEMBERS)[..]].concat(),
        }
    }

    fn counted(&mut self, own: &[&[u8]], cmd: &mut Cmd) {
        let count = 1 + self.rng.below(3);
        let said = if self.rng.chance(1, 25) { self.rng.below(5) } else { count };
        cmd.push(number(said));
        for _ in 0..count {
            cmd.push(self.key(own));
        }
    }

    /// Sorted sets, or sets, with a weight each.
    fn weighted(&mut self, cmd: &mut Cmd) {
        let count = 1 + self.rng.below(3);
        cmd.push(number(count));
        for _ in 0..count {
            let key = if self.rng.chance(1, 5) { self.key(SETS) } else { self.key(ZSETS) };
            cmd.push(key);
        }
        cmd.push(b"WEIGHTS".to_vec());
        for _ in 0..count {
            self.word("f", cmd);
        }
    }

    fn time(&mut self, unit: u64) -> Vec<u8> {
        match self.rng.below(16) {
            0 => b"0".to_vec(),
            1 => b"-1".to_vec(),
            2 => b"9223372036854775807".to_vec(),
            3 => b"abc".to_vec(),
            4 => b"9223372036854775".to_vec(),
            _ => number((TTL_MIN + self.rng.below(1_000_000_000)) * unit),
        }
    }

    /// A moment: long ago, or far away.
    fn moment(&mut self, unit: u64) -> Vec<u8> {
        match self.rng.below(12) {
            0 => b"0".to_vec(),
            1 => b"-5".to_vec(),
            2 => b"9223372036854775807".to_vec(),
            3 => number((1_000_000 + self.rng.below(1_000_000)) * unit),
            _ => number((4_000_000_000 + self.rng.below(1_000_000_000)) * unit),
        }
    }
}

fn number(n: u64) -> Vec<u8> {
    n.to_string().into_bytes()
}

/// Where the bracket that `text` begins with is closed.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    panic!("no end of a group: {text}")
}

/// The parts between bars that are in no inner group.
fn alternatives(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn a_template_gives_its_words_and_one_choice_of_each_group() {
    let mut words = Words::new(1);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let cmd = words.command("X (|A (b|c)) <few>");
        let text = String::from_utf8(cmd.join(&b' ')).unwrap().to_ascii_uppercase();
        seen.insert(text.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned());
    }
    let seen: Vec<_> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["X ", "X A B ", "X A C "]);
}
