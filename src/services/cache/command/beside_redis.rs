//! Commands beside a real `redis-server` 7.0: what COMMAND says of them, and the replies to random ones.
//!
//! Skipped where it is not installed, which is a failure on a build machine.
#![allow(clippy::disallowed_methods, reason = "the other server has a clock of its own")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant, SystemTime};

use corelane_proto_resp::Version;

use super::{Categories, Flags, Keys, Spec, all, run_one, spec::Gather, spec::Run};
use crate::services::cache::store::{Config, Expiry, KeyHasher, Now, Store};
use crate::services::cache::value::Value;

/// A server of its own, without a port or a file, which ends with the test.
pub(in crate::services::cache) struct Redis {
    process: Child,
    stream: UnixStream,
    read: Vec<u8>,
    _place: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Redis {
    pub(in crate::services::cache) fn start() -> Option<Redis> {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("socket");
        let started = Process::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&path)
            .current_dir(place.path())
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = started else {
            assert!(std::env::var("CI").is_err(), "redis-server is missing: scripts/test installs it");
            eprintln!("skipped: needs redis-server");
            return None;
        };
        let began = Instant::now();
        let stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Some(Redis { process, stream, read: Vec::new(), _place: place })
    }

    /// The reply to a command, as its bytes.
    pub(in crate::services::cache) fn ask(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let mut wire = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            wire.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            wire.extend_from_slice(word);
            wire.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&wire).expect("redis takes a command");
        loop {
            if let Some(len) = reply_len(&self.read) {
                return self.read.drain(..len).collect();
            }
            let mut more = [0; 65_536];
            let len = self.stream.read(&mut more).expect("redis replies");
            assert!(len > 0, "redis closed the connection");
            self.read.extend_from_slice(&more[..len]);
        }
    }
}

/// Bytes of the first reply, if it is whole.
fn reply_len(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|end| end == b"\r\n")?;
    let number = || std::str::from_utf8(&bytes[1..line]).ok()?.parse::<i64>().ok();
    let count = match bytes[0] {
        b'$' | b'=' => {
            let len = usize::try_from(number()?).map_or(line + 2, |len| line + 4 + len);
            return (len <= bytes.len()).then_some(len);
        }
        b'*' | b'~' | b'>' => number()?.max(0),
        b'%' => 2 * number()?,
        _ => 0,
    };
    let mut len = line + 2;
    for _ in 0..count {
        len += reply_len(&bytes[len..])?;
    }
    Some(len)
}

/// A reply, taken apart.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::services::cache) enum Part {
    Line(String),
    Many(Vec<Part>),
}

pub(in crate::services::cache) fn part(bytes: &mut &[u8]) -> Part {
    let len = reply_len(bytes).expect("a whole reply");
    let line = bytes.windows(2).position(|end| end == b"\r\n").expect("a line") + 2;
    let (kind, number) = (bytes[0], String::from_utf8_lossy(&bytes[1..line - 2]).into_owned());
    let (mut inner, rest) = (&bytes[line..len], &bytes[len..]);
    *bytes = rest;
    match kind {
        b'$' | b'=' => {
            Part::Line(String::from_utf8_lossy(&inner[..inner.len().saturating_sub(2)]).into_owned())
        }
        b'*' | b'~' | b'>' | b'%' => {
            let mut parts = Vec::new();
            while !inner.is_empty() {
                parts.push(part(&mut inner));
            }
            Part::Many(parts)
        }
        _ => Part::Line(number),
    }
}

impl Part {
    pub(in crate::services::cache) fn many(&self) -> &[Part] {
        match self {
            Part::Many(parts) => parts,
            Part::Line(_) => &[],
        }
    }

    pub(in crate::services::cache) fn line(&self) -> &str {
        match self {
            Part::Line(line) => line,
            Part::Many(_) => "",
        }
    }

    pub(in crate::services::cache) fn lines(&self) -> Vec<&str> {
        let mut lines: Vec<_> = self.many().iter().map(Part::line).collect();
        lines.sort_unstable();
        lines
    }
}

/// Commands that Redis 7.0 has not.
const OURS: [&str; 1] = ["hotkeys"];

#[test]
fn commands_are_what_redis_says_of_them() {
    let Some(mut redis) = Redis::start() else { return };
    let mut wrong = Vec::new();
    for spec in all().filter(|spec| !OURS.contains(&spec.name)) {
        let reply = redis.ask(&[b"COMMAND", b"INFO", spec.name.as_bytes()]);
        let reply = part(&mut &reply[..]);
        compare(spec, &reply.many()[0], &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn compare(spec: &Spec, theirs: &Part, wrong: &mut Vec<String>) {
    let theirs = theirs.many();
    if theirs.len() < 10 {
        return wrong.push(format!("{} is no command", spec.name));
    }
    let mut same = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            wrong.push(format!("{}: its {what} are {ours} and should be {theirs}", spec.name));
        }
    };
    same("arguments", spec.arity.to_string(), theirs[1].line().to_owned());
    let named = |names: &[&'static str], bits: u32| {
        let of = names.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1);
        let mut names: Vec<_> = of.map(|(_, name)| *name).collect();
        names.sort_unstable();
        names
    };
    let flags: Vec<_> = theirs[2].lines().into_iter().filter(|name| Flags::NAMES.contains(name)).collect();
    same("flags", named(&Flags::NAMES, spec.flags.0).join(" "), flags.join(" "));
    let categories: Vec<_> = theirs[6].lines().iter().map(|name| name.trim_start_matches('@')).collect();
    same("categories", named(&Categories::NAMES, spec.categories.0).join(" "), categories.join(" "));
    let places = match spec.keys {
        Keys::None => [0; 3].map(|n: i64| n.to_string()),
        Keys::Range { first, last, step } => [first.to_string(), last.to_string(), step.to_string()],
        Keys::Counted { also: 0, .. } => [0; 3].map(|n: i64| n.to_string()),
        Keys::Counted { also, .. } => [also.to_string(), also.to_string(), "1".to_owned()],
    };
    same("keys", places.join(" "), [3, 4, 5].map(|n| theirs[n].line()).join(" "));
    for sub in spec.subcommands {
        match theirs[9].many().iter().find(|one| one.many()[0].line() == sub.name) {
            Some(theirs) => compare(sub, theirs, wrong),
            None => wrong.push(format!("{} is no subcommand", sub.name)),
        }
    }
}

/// Random numbers that repeat (xorshift64*, Vigna 2016).
pub(in crate::services::cache) struct Random(pub(in crate::services::cache) u64);

impl Random {
    pub(in crate::services::cache) fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).expect("31 bits") % below
    }

    pub(super) fn of(&mut self, from: &[&'static [u8]]) -> &'static [u8] {
        from[self.below(from.len())]
    }
}

const KEYS: &[&[u8]] = &[b"a", b"b", b"c", b"d", b"list", b"", b"{a}x", b"a[b"];
const VALUES: &[&[u8]] = &[
    b"",
    b"0",
    b"10",
    b"-5",
    b"1.5",
    b"0.1",
    b"hello world",
    b"\xff\x00\xf0\x80",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"3.0e3",
    b"012",
    b"inf",
    b"1e4932",
    b"0x1p-3",
    b"123456789012345678901234567890123456789012345678901234567890",
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x00\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff\xff\xff",
];
const NUMBERS: &[&[u8]] = &[
    b"0",
    b"1",
    b"-1",
    b"2",
    b"7",
    b"-3",
    b"10",
    b"77",
    b"-100",
    b"1000",
    b"5000",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775",
    b"9223372036854776",
    b"1999999999",
    b"1999999999000",
    b"x",
    b"",
    b"1.5",
    b" 1",
    b"+1",
    b"01",
    b"18446744073709551616",
];
/// What is far enough away not to come while the test runs, or is over.
const TIMES: &[&[u8]] = &[
    b"0",
    b"-1",
    b"-100",
    b"100000",
    b"2000000",
    b"1999999999",
    b"1999999999000",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775",
    b"9223372036854776",
    b"-9223372036854775",
    b"-9223372036854776",
    b"9223370000000000000",
    b"x",
    b"",
    b"+1",
];
/// Of bits and bytes; none that makes a string of some 100 MB.
const OFFSETS: &[&[u8]] = &[
    b"0",
    b"1",
    b"-1",
    b"7",
    b"8",
    b"13",
    b"100",
    b"5000",
    b"536870912",
    b"4294967296",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"x",
    b"",
    b"01",
];
const FLOATS: &[&[u8]] = &[
    b"0.1",
    b"-0.1",
    b"1.1",
    b"3.14159265358979",
    b"1e17",
    b"-1e-18",
    b"5e-18",
    b"1e300",
    b"1e4932",
    b"-1e4932",
    b"1e5000",
    b"1e-5000",
    b"inf",
    b"-inf",
    b"nan",
    b"0x10",
    b"0x1.8p-20",
    b"100000000000000000000",
    b".5",
    b"5.",
    b"-0",
    b"1e",
    b"x",
    b" 1",
    b"",
    b"0.000000000000000001",
    b"123456789.123456789123456789",
    b"2.5e-17",
    b"1.5e-17",
];
const OPTIONS: &[&[u8]] = &[
    b"NX", b"XX", b"gt", b"LT", b"GET", b"KEEPTTL", b"EX", b"PX", b"EXAT", b"PXAT", b"PERSIST", b"REPLACE",
    b"DB", b"BIT", b"BYTE", b"SYNC", b"ASYNC", b"COUNT", b"MATCH", b"nosuch", b"0", b"-1", b"2000000", b"x",
];
const PATTERNS: &[&[u8]] = &[
    b"*", b"?", b"[ab]", b"[^a]*", b"a*", b"*x", b"\\a", b"a\\[b", b"[a-c]", b"[", b"", b"**", b"{*}?",
    b"a[[]b",
];

/// What stands for what in a line of [`LINES`].
fn word(kind: &str, random: &mut Random) -> Vec<Vec<u8>> {
    let from: &[&'static [u8]] = match kind {
        "KEY" => KEYS,
        "VALUE" => VALUES,
        "NUMBER" => NUMBERS,
        "TIME" => TIMES,
        "OFFSET" => OFFSETS,
        "FLOAT" => FLOATS,
        "PATTERN" => PATTERNS,
        "BIT" => &[b"0", b"1", b"1", b"0", b"2", b"x"],
        "UNIT" => &[b"EX", b"PX", b"EXAT", b"PXAT", b"ex"],
        "OPERATION" => &[b"and", b"OR", b"Xor", b"not", b"nand"],
        "ABOUT" => &[b"encoding", b"refcount", b"nosuch", b"freq", b"idletime"],
        "TEXT" => return vec![text(random, b"ab[]^-\\*?", 7)],
        "DECIMAL" => {
            let mut number =
                [text(random, b"0123456789", 24), b".".to_vec(), text(random, b"0123456789", 24)].concat();
            if random.below(3) == 0 {
                number.extend(format!("e{}", random.below(60)).bytes());
            } else if random.below(3) == 0 {
                number.extend(format!("e-{}", random.below(60)).bytes());
            }
            let sign: &[u8] = if random.below(2) == 0 { b"-" } else { b"" };
            return vec![[sign, &number].concat()];
        }
        "OPTIONS" => return (0..random.below(5)).map(|_| random.of(OPTIONS).to_vec()).collect(),
        "KEYS" => return (0..=random.below(4)).map(|_| random.of(KEYS).to_vec()).collect(),
        "FIELD" => {
            let action: &[u8] = random.of(&[b"get", b"SET", b"incrby", b"incrby"]);
            let kind = random.of(&[
                b"u8", b"i8", b"i64", b"u63", b"u1", b"i1", b"i5", b"u13", b"u64", b"i65", b"i0", b"x8",
                b"U8",
            ]);
            let at = random.of(&[
                b"0",
                b"1",
                b"7",
                b"#0",
                b"#1",
                b"#3",
                b"100",
                b"33",
                b"-1",
                b"#-1",
                b"x",
                b"4294967296",
            ]);
            let value = (action != b"get").then(|| random.of(NUMBERS));
            return [action, kind, at].into_iter().chain(value).map(<[u8]>::to_vec).collect();
        }
        "PAIRS" => {
            let pairs = (0..=random.below(3)).flat_map(|_| [random.of(KEYS), random.of(VALUES)]);
            return pairs.map(<[u8]>::to_vec).collect();
        }
        own => return vec![own.as_bytes().to_vec()],
    };
    vec![random.of(from).to_vec()]
}

fn text(random: &mut Random, letters: &[u8], len_max: usize) -> Vec<u8> {
    (0..random.below(len_max + 1)).map(|_| letters[random.below(letters.len())]).collect()
}

const LINES: &[&str] = &[
    "get KEY",
    "set KEY VALUE",
    "set KEY VALUE",
    "set KEY NUMBER",
    "set KEY VALUE OPTIONS",
    "SET KEY VALUE UNIT TIME OPTIONS",
    "set KEY VALUE OPTIONS UNIT TIME",
    "getex KEY OPTIONS",
    "getex KEY UNIT TIME",
    "getex KEY persist",
    "getdel KEY",
    "getset KEY VALUE",
    "setex KEY TIME VALUE",
    "psetex KEY TIME VALUE",
    "setnx KEY VALUE",
    "mset PAIRS",
    "mset PAIRS KEY",
    "msetnx PAIRS",
    "mget KEYS",
    "append KEY VALUE",
    "strlen KEY",
    "incr KEY",
    "decr KEY",
    "incrby KEY NUMBER",
    "decrby KEY NUMBER",
    "incrbyfloat KEY FLOAT",
    "incrbyfloat KEY DECIMAL",
    "set KEY DECIMAL",
    "set TEXT 1",
    "keys TEXT",
    "keys TEXT",
    "getrange KEY NUMBER NUMBER",
    "substr KEY NUMBER NUMBER",
    "setrange KEY OFFSET VALUE",
    "setrange KEY 3 VALUE",
    "setbit KEY OFFSET BIT",
    "setbit KEY 13 BIT",
    "getbit KEY OFFSET",
    "bitcount KEY",
    "bitcount KEY NUMBER NUMBER",
    "bitcount KEY NUMBER NUMBER OPTIONS",
    "bitcount KEY NUMBER NUMBER bit",
    "bitpos KEY BIT",
    "bitpos KEY BIT NUMBER",
    "bitpos KEY BIT NUMBER NUMBER",
    "bitpos KEY BIT NUMBER NUMBER bit",
    "bitpos KEY BIT NUMBER NUMBER OPTIONS",
    "bitop OPERATION KEY KEYS",
    "bitfield KEY FIELD",
    "bitfield KEY FIELD FIELD FIELD",
    "bitfield KEY overflow sat FIELD overflow fail FIELD",
    "bitfield_ro KEY FIELD",
    "del KEYS",
    "unlink KEY",
    "exists KEYS",
    "touch KEYS",
    "expire KEY TIME OPTIONS",
    "expire KEY 10000 OPTIONS",
    "pexpire KEY TIME",
    "pexpire KEY 2000000 OPTIONS",
    "expireat KEY TIME OPTIONS",
    "pexpireat KEY TIME OPTIONS",
    "ttl KEY",
    "pttl KEY",
    "expiretime KEY",
    "pexpiretime KEY",
    "persist KEY",
    "type KEY",
    "rename KEY KEY",
    "renamenx KEY KEY",
    "copy KEY KEY",
    "copy KEY KEY OPTIONS",
    "copy KEY KEY DB NUMBER",
    "keys PATTERN",
    "object ABOUT KEY",
    "object ABOUT",
    "object",
    "restore KEY TIME VALUE OPTIONS",
    "dump nosuch",
    "flushall OPTIONS",
    "get",
    "set KEY",
    "ttl KEY KEY",
    "list",
    "object encoding KEY KEY",
];

pub(super) fn now() -> Now {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let unix_ms = u64::try_from(since.as_millis()).expect("fits");
    Now { unix_ms, mono_ms: unix_ms }
}

/// Whether two replies say the same: in any order where there is none, a second apart where they are about time.
fn is_same(name: &str, ours: &[u8], theirs: &[u8]) -> bool {
    if ours == theirs {
        return true;
    }
    let (ours, theirs) = (part(&mut &ours[..]), part(&mut &theirs[..]));
    match name {
        "keys" => ours.lines() == theirs.lines() && !ours.many().is_empty(),
        "ttl" | "pttl" | "expiretime" | "pexpiretime" => {
            let number = |part: &Part| part.line().parse::<i64>().ok();
            let distance = if name.starts_with('p') { 2000 } else { 2 };
            number(&ours)
                .zip(number(&theirs))
                .is_some_and(|(a, b)| (a - b).abs() <= distance && a > 0 && b > 0)
        }
        _ => false,
    }
}

/// What is known to differ: how the string came about, which Redis remembers and we do not; idle times; other databases than 0.
fn may_differ(words: &[&[u8]]) -> bool {
    let is =
        |at: usize, name: &str| words.get(at).is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let db = words.iter().position(|word| word.eq_ignore_ascii_case(b"db"));
    if is(0, "copy") && db.is_some_and(|at| words.get(at + 1).is_some_and(|number| *number != b"0")) {
        return true;
    }
    is(0, "object") && (is(1, "encoding") || is(1, "refcount") || is(1, "idletime")) && words.len() == 3
}

fn differences(seed: u64, count: usize, version: Version) -> Vec<String> {
    let Some(mut redis) = Redis::start() else { return Vec::new() };
    let mut store = Store::new(Config::default(), KeyHasher::seeded(seed), now());
    let mut random = Random(seed);
    let mut found = Vec::new();
    if version == Version::Resp3 {
        redis.ask(&[b"hello", b"3"]);
    }
    for n in 0..count {
        if n % 50 == 0 {
            redis.ask(&[b"del", b"list"]);
            redis.ask(&[b"rpush", b"list", b"1"]);
            let key = store.hasher().key(b"list");
            store.insert(key, Value::List(Box::default()), Expiry::Never).expect("there is no maximum");
        }
        let line = LINES[random.below(LINES.len())];
        let words: Vec<Vec<u8>> = line.split(' ').flat_map(|kind| word(kind, &mut random)).collect();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        store.set_now(now());
        let theirs = redis.ask(&words);
        let ours = run_one(&mut store, &words, version);
        let unknown = ours.is_empty() && theirs.starts_with(b"-ERR unknown command");
        let name = words[0].to_ascii_lowercase();
        let name = std::str::from_utf8(&name).expect("a name");
        if !unknown && !may_differ(&words) && !is_same(name, &ours, &theirs) {
            let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
            let words: Vec<_> = words.iter().map(|word| show(word)).collect();
            found.push(format!("{words:?}\n  ours:   {:?}\n  theirs: {:?}", show(&ours), show(&theirs)));
        }
    }
    found
}

#[test]
fn random_commands_get_the_replies_of_redis() {
    for (seed, version) in [(1, Version::Resp2), (2, Version::Resp3)] {
        let found = differences(seed, 5_000, version);
        assert!(
            found.is_empty(),
            "{} differ, the first being\n{}",
            found.len(),
            found[..found.len().min(20)].join("\n")
        );
    }
}

#[test]
fn every_command_that_is_split_has_its_keys_at_equal_distances() {
    for spec in all() {
        if let Run::Split(_, gather) = spec.run {
            let Keys::Range { first: 1, last: -1, step } = spec.keys else {
                panic!("{} cannot be split", spec.name)
            };
            assert!(step == 1 || gather == Gather::Ok, "{}", spec.name);
        }
    }
}
