//! Random commands on hashes and sets beside a real `redis-server` 7.0.
//!
//! Where Redis picks at random, the two replies must have one shape, and what SPOP took is made equal again.

use corelane_proto_resp::Version;

use crate::services::cache::command::beside_redis::{Part, Random, Redis, now, part};
use crate::services::cache::command::run_one;
use crate::services::cache::store::{Config, KeyHasher, Store};

const LINES: &[&str] = &[
    "hset HASH PAIRS",
    "hset HASH PAIRS",
    "HMSET HASH PAIRS",
    "hset HASH PAIRS MEMBER",
    "hsetnx HASH MEMBER MEMBER",
    "hget HASH MEMBER",
    "hmget HASH MEMBERS",
    "hgetall HASH",
    "hdel HASH MEMBERS",
    "hlen HASH",
    "hexists HASH MEMBER",
    "hkeys HASH",
    "hvals HASH",
    "hstrlen HASH MEMBER",
    "hincrby HASH MEMBER NUMBER",
    "hincrby HASH count NUMBER",
    "hincrbyfloat HASH MEMBER NUMBER",
    "hincrbyfloat HASH sum NUMBER",
    "hrandfield HASH",
    "hrandfield HASH COUNT",
    "hrandfield HASH COUNT withvalues",
    "hrandfield HASH HUGE WithValues",
    "hrandfield HASH COUNT nosuch",
    "hrandfield HASH COUNT withvalues 1",
    "hscan HASH CURSOR OPTIONS",
    "hscan HASH 0 count 10000 OPTIONS",
    "sadd SET MEMBERS",
    "sadd SET MEMBERS",
    "sadd SET MEMBERS",
    "srem SET MEMBERS",
    "smembers SET",
    "sismember SET MEMBER",
    "smismember SET MEMBERS",
    "scard SET",
    "spop SET",
    "spop SET POSITIVE",
    "spop SET 1 1",
    "srandmember SET",
    "srandmember SET COUNT",
    "srandmember SET 1 1",
    "smove SET SET MEMBER",
    "smove SET SET MEMBER",
    "sinter SETS",
    "sunion SETS",
    "sdiff SETS",
    "sinterstore SET SETS",
    "sunionstore SET SETS",
    "sdiffstore SET SETS",
    "sintercard NUMKEYS SETS",
    "sintercard 1 SET limit NUMBER",
    "sintercard 2 SET SET limit POSITIVE LIMIT NUMBER",
    "sintercard 1 SET LIMIT",
    "sscan SET CURSOR OPTIONS",
    "sscan SET 0 count 10000 OPTIONS",
    "object encoding HASH",
    "object encoding SET",
    "type SET",
    "exists HASH",
    "del HASH",
    "del SET",
    "set text 1",
    "hset HASH",
    "hget HASH",
    "sadd SET",
    "smove SET SET",
    "sinterstore SET",
    "sintercard 1",
    "hincrby HASH count",
    "spop",
    "hrandfield",
];
const NUMBERS: &[&[u8]] = &[
    b"0",
    b"1",
    b"-1",
    b"3",
    b"17",
    b"-250",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"0.1",
    b"-0.3",
    b"3.0e3",
    b"1e17",
    b"inf",
    b"nan",
    b"0x10",
    b"x",
    b"",
    b" 1",
    b"01",
    b"-0",
];
/// What Redis takes as a number of elements, too, without being stalled by it.
const COUNTS: &[&[u8]] = &[
    b"0",
    b"1",
    b"-1",
    b"2",
    b"5",
    b"-5",
    b"100",
    b"-100",
    b"1000",
    b"9223372036854775807",
    b"x",
    b"",
    b"1.5",
    b"9223372036854775808",
    b"-9223372036854775808",
];
/// Counts that are too many together with their values.
const HUGE: &[&[u8]] = &[b"4611686018427387904", b"-4611686018427387904", b"9223372036854775807"];
const POSITIVE: &[&[u8]] = &[b"0", b"1", b"2", b"3", b"10", b"-1", b"x", b"9223372036854775808"];

/// A name out of `names`: an integer, short or long text.
fn member(random: &mut Random, names: usize, ints: bool) -> Vec<u8> {
    let name = random.below(names);
    match random.below(8) {
        _ if ints => name.to_string().into_bytes(),
        0 => random.of(NUMBERS).to_vec(),
        1 => (name * 1_000_003).to_string().into_bytes(),
        2 => vec![b'x'; name % 90],
        _ => format!("member:{name}").into_bytes(),
    }
}

fn words(line: &str, random: &mut Random, names: usize, ints: bool) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    for kind in line.split(' ') {
        let odd = random.below(60) == 0;
        let mut all = |count: usize, random: &mut Random| {
            (0..count).for_each(|_| words.push(member(random, names, ints)));
        };
        match kind {
            "MEMBER" => all(1, random),
            "MEMBERS" => all(1 + random.below(5), random),
            "PAIRS" => all(2 + 2 * random.below(4), random),
            "HASH" => words.push(if odd { b"a".to_vec() } else { random.of(&[b"h", b"i"]).to_vec() }),
            "SET" => words.push(if odd { b"h".to_vec() } else { random.of(&[b"a", b"b", b"c"]).to_vec() }),
            "SETS" => {
                let set =
                    |_| random.of(&[b"a", b"b", b"c", b"a", b"b", b"c", b"a", b"none", b"text"]).to_vec();
                words.extend((0..1 + odd as usize + names % 3).map(set));
            }
            "NUMBER" => words.push(random.of(NUMBERS).to_vec()),
            "COUNT" => words.push(random.of(COUNTS).to_vec()),
            "HUGE" => words.push(random.of(HUGE).to_vec()),
            "POSITIVE" => words.push(random.of(POSITIVE).to_vec()),
            "NUMKEYS" => words.push(random.of(&[b"1", b"2", b"3", b"0", b"-1", b"x", b"77"]).to_vec()),
            "CURSOR" => words.push(random.of(&[b"0", b"", b"x", b"-"]).to_vec()),
            "OPTIONS" => {
                for _ in 0..random.below(3) {
                    words.push(random.of(&[b"match", b"COUNT", b"Match", b"x", b"type"]).to_vec());
                    words.push(random.of(&[b"*", b"member*", b"1", b"-1", b"0", b"10000"]).to_vec());
                }
            }
            own => words.push(own.as_bytes().to_vec()),
        }
    }
    words
}

/// The reply with its items, or pairs of items, in order.
fn sorted(reply: &[u8], in_pairs: bool) -> Vec<Vec<Part>> {
    let whole = part(&mut &reply[..]);
    let mut items: Vec<_> = whole.many().chunks(1 + usize::from(in_pairs)).map(<[Part]>::to_vec).collect();
    items.sort_unstable();
    items
}

/// Whether two replies say the same, as far as Redis promises anything.
fn is_same(name: &str, ours: &[u8], theirs: &[u8]) -> bool {
    if ours == theirs {
        return true;
    }
    let (a, b) = (part(&mut &ours[..]), part(&mut &theirs[..]));
    if ours[0] != theirs[0] {
        return false;
    }
    match name {
        "smembers" | "sinter" | "sunion" | "sdiff" | "hkeys" | "hvals" => {
            sorted(ours, false) == sorted(theirs, false)
        }
        "hgetall" => sorted(ours, true) == sorted(theirs, true),
        "spop" | "srandmember" | "hrandfield" => {
            let shape = |part: &Part| (part.many().len(), part.many().first().map(|one| one.many().len()));
            ours[0] != b'-' && shape(&a) == shape(&b)
        }
        "hscan" | "sscan" => match (a.many(), b.many()) {
            ([cursor, a], [end, b]) if cursor.line() == "0" && end.line() == "0" => {
                let step = 1 + usize::from(name == "hscan");
                let pairs = |part: &Part| {
                    let mut all: Vec<_> = part.many().chunks(step).map(<[Part]>::to_vec).collect();
                    all.sort_unstable();
                    all
                };
                pairs(a) == pairs(b)
            }
            // One of both gives less at a time.
            ([_, _], [_, _]) => true,
            _ => false,
        },
        _ => false,
    }
}

/// Makes the set here anew as it is there, and there, too: its form goes by what was left in between.
fn even(store: &mut Store, redis: &mut Redis, key: &[u8]) {
    let there = redis.ask(&[b"smembers", key]);
    let there = part(&mut &there[..]);
    redis.ask(&[b"del", key]);
    run_one(store, &[b"del", key], Version::Resp2);
    for member in there.many() {
        redis.ask(&[b"sadd", key, member.line().as_bytes()]);
        run_one(store, &[b"sadd", key, member.line().as_bytes()], Version::Resp2);
    }
}

#[test]
fn random_commands_on_hashes_and_sets_get_the_replies_of_redis() {
    let mut found = Vec::new();
    for (seed, version) in [(1, Version::Resp2), (2, Version::Resp3)] {
        let Some(mut redis) = Redis::start() else { return };
        if version == Version::Resp3 {
            redis.ask(&[b"hello", b"3"]);
        }
        let mut random = Random(seed);
        for names in [5, 40, 300, 2_000] {
            redis.ask(&[b"flushall"]);
            let mut store = Store::new(Config::default(), KeyHasher::seeded(seed), now());
            for turn in 0..4_000 {
                let line = LINES[random.below(LINES.len())];
                let ints = turn / 500 % 2 == 0;
                let words = words(line, &mut random, names, ints);
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                let (ours, theirs) = (run_one(&mut store, &words, version), redis.ask(&words));
                let name = line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
                if !is_same(&name, &ours, &theirs) {
                    let show = |bytes: &[u8]| bytes[..bytes.len().min(300)].escape_ascii().to_string();
                    let words: Vec<_> = words.iter().map(|word| show(word)).collect();
                    found.push(format!("{words:?}\n  ours:   {}\n  theirs: {}", show(&ours), show(&theirs)));
                } else if name == "spop" && theirs[0] != b'-' {
                    even(&mut store, &mut redis, words[1]);
                }
                if theirs.starts_with(b"-WRONGTYPE") {
                    // What became of another kind would stay so, and get errors for ever.
                    for (key, kind) in
                        [("h", "hash"), ("i", "hash"), ("a", "set"), ("b", "set"), ("c", "set")]
                    {
                        if redis.ask(&[b"type", key.as_bytes()]) != format!("+{kind}\r\n").as_bytes() {
                            redis.ask(&[b"del", key.as_bytes()]);
                            run_one(&mut store, &[b"del", key.as_bytes()], version);
                        }
                    }
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} differ, the first being\n{}",
        found.len(),
        found[..found.len().min(20)].join("\n")
    );
}
