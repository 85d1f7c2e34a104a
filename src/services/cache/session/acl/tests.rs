//! Users and their rules: alone, and beside a real `redis-server` 7.0.

use std::collections::BTreeSet;

use super::*;
use crate::services::cache::command::beside_redis::{Part, Random, Redis, part};
use crate::services::cache::command::lookup;

fn users(lines: &[&str]) -> Users {
    let lines: Vec<Secret> = lines.iter().map(|line| Secret::new(*line)).collect();
    Users::new(&Secret::default(), &lines).expect("they are right")
}

/// What becomes of a command of `user`.
fn may(users: &Users, user: &str, line: &str) -> Result<(), Denied> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let get = |at: usize| words.get(at).copied();
    let spec = crate::services::cache::command::find_in(words[0], get(1), words.len()).expect("a command");
    users.get(user.as_bytes()).expect("a user").may(spec, words.len(), get, &mut Vec::new())
}

fn described(users: &Users, user: &str) -> String {
    String::from_utf8(users.get(user.as_bytes()).expect("a user").describe()).expect("text")
}

#[test]
fn every_command_has_a_number_of_its_own_below_the_maximum() {
    assert!(each().count() <= COMMANDS_MAX);
    let numbers: BTreeSet<_> = each().filter_map(Commands::place).collect();
    assert_eq!(numbers.len(), each().count());
}

#[test]
fn a_node_without_users_has_one_who_may_do_everything_without_a_password() {
    let all = users(&[]);
    assert!(all.is_open() && !all.default_user().is_restricted());
    assert_eq!(described(&all, "default"), "user default on nopass ~* &* +@all");
    let by_password = Users::new(&Secret::new("secret"), &[]).expect("right");
    assert!(!by_password.is_open() && !by_password.default_user().is_restricted());
    assert!(by_password.authenticate(b"default", b"secret").is_some());
    for (name, password) in
        [("default", "secreT"), ("default", ""), ("default", "secret2"), ("nosuch", "secret")]
    {
        assert!(
            by_password.authenticate(name.as_bytes(), password.as_bytes()).is_none(),
            "{name} {password}"
        );
    }
}

#[test]
fn a_user_who_is_off_has_no_password_that_is_right() {
    let mut all = users(&["alice on >one >two", "open on nopass", "closed off >one"]);
    for (name, password, is_right) in [
        ("alice", "one", true),
        ("alice", "two", true),
        ("alice", "three", false),
        ("open", "anything", true),
        ("closed", "one", false),
    ] {
        let found = all.authenticate(name.as_bytes(), password.as_bytes());
        assert_eq!(found.is_some(), is_right, "{name} {password}");
    }
    assert_eq!(all.set(b"alice", [&b"<one"[..]].into_iter()), Ok(()));
    assert!(all.authenticate(b"alice", b"one").is_none());
}

#[test]
fn commands_keys_and_channels_are_looked_at_each_by_its_rules() {
    let all = users(&[
        "alice on nopass %R~in:* %W~out:* ~both:* resetchannels &news.* +@all -@dangerous -config +config|get",
        "reader on nopass ~* +@read -mget +acl|whoami",
    ]);
    for (user, line, wanted) in [
        ("alice", "get in:a", Ok(())),
        ("alice", "get both:a", Ok(())),
        ("alice", "get out:a", Err(Denied::Key(1))),
        ("alice", "set out:a 1", Ok(())),
        ("alice", "set out:a 1 get", Err(Denied::Key(1))),
        ("alice", "set in:a 1", Err(Denied::Key(1))),
        ("alice", "incr out:a", Err(Denied::Key(1))),
        ("alice", "mget in:a both:b out:c in:d", Err(Denied::Key(3))),
        ("alice", "copy in:a out:a", Ok(())),
        ("alice", "copy out:a in:a", Err(Denied::Key(1))),
        ("alice", "rename in:a out:a", Err(Denied::Key(1))),
        ("alice", "sunionstore out:a in:a in:b", Ok(())),
        ("alice", "sunionstore out:a in:a out:b", Err(Denied::Key(3))),
        ("alice", "strlen out:a", Ok(())),
        ("alice", "strlen other", Err(Denied::Key(1))),
        ("alice", "bitfield in:a get u8 0", Ok(())),
        ("alice", "bitfield in:a set u8 0 1", Err(Denied::Key(1))),
        ("alice", "flushall", Err(Denied::Command)),
        ("alice", "config get x", Ok(())),
        ("alice", "config set x y", Err(Denied::Command)),
        ("alice", "publish news.a x", Ok(())),
        ("alice", "publish other x", Err(Denied::Channel(1))),
        ("alice", "subscribe news.a other", Err(Denied::Channel(2))),
        ("alice", "psubscribe news.*", Ok(())),
        ("alice", "psubscribe news.a*", Err(Denied::Channel(1))),
        ("reader", "get a", Ok(())),
        ("reader", "mget a", Err(Denied::Command)),
        ("reader", "set a 1", Err(Denied::Command)),
        ("reader", "auth a b", Ok(())),
        ("reader", "acl whoami", Ok(())),
        ("reader", "acl list", Err(Denied::Command)),
    ] {
        assert_eq!(may(&all, user, line), wanted, "{user}: {line}");
    }
}

#[test]
fn a_user_is_described_as_rules_that_make_the_same_user() {
    for (line, wanted) in [
        ("a", "user a off resetchannels -@all"),
        (
            "a on >secret ~x* ~x* %R~y +@read +get -@write +get",
            "user a on #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~x* %R~y resetchannels -@all +@read -@write +get",
        ),
        (
            "a nopass %R~k %W~k &c ALLCOMMANDS -config|get -config",
            "user a off nopass ~k resetchannels &c +@all -config",
        ),
        (
            "a on +@all -eval -Script|kill +cluster",
            "user a on resetchannels +@all -eval -script|kill +cluster",
        ),
        ("a +@all -get +@all +client|id", "user a off resetchannels +@all +client|id"),
    ] {
        let all = users(&[line]);
        let text = described(&all, "a");
        assert_eq!(text, wanted);
        let again = users(&[text.strip_prefix("user ").expect("a user")]);
        assert_eq!(described(&again, "a"), text);
        assert_eq!(again.get(b"a").expect("it").commands, all.get(b"a").expect("it").commands);
    }
}

#[test]
fn a_wrong_line_is_named_without_its_passwords() {
    for (line, wanted) in [
        (
            "bob on +nosuch",
            "user 1 of the list, 'bob', rule '+nosuch': Unknown command or category name in ACL",
        ),
        ("bob on +script|", "user 1 of the list, 'bob', rule '+script|': Unknown command"),
        ("bob #deadbeef", "user 1 of the list, 'bob', rule 1 (#...): The password hash must be exactly 64"),
        ("", "user 1 of the list has no name"),
    ] {
        let error = Users::new(&Secret::default(), &[Secret::new(line)]).expect_err("it is wrong");
        assert!(error.starts_with(wanted), "{error}");
        assert!(!error.contains("deadbeef"), "{error}");
    }
    assert!(Users::new(&Secret::default(), &[Secret::new("a on"), Secret::new("a off")]).is_err());
    let shown = format!("{:?}", users(&["a >secret"]));
    assert!(!shown.contains("secret") && !shown.contains("2bb8"), "{shown}");
}

#[test]
fn what_a_user_can_have_is_bounded() {
    let mut all = users(&["a"]);
    for (n, rule, error) in [
        (PASSWORDS_MAX, ">", RuleError::TooMany),
        (PATTERNS_MAX, "~", RuleError::TooMany),
        (PATTERNS_MAX, "&", RuleError::TooMany),
    ] {
        for at in 0..n {
            assert_eq!(all.set(b"a", [format!("{rule}{at}").as_bytes()].into_iter()), Ok(()), "{rule}{at}");
        }
        assert_eq!(all.set(b"a", [format!("{rule}x").as_bytes()].into_iter()), Err((Some(0), error)));
    }
    for at in all.all.len()..USERS_MAX {
        assert_eq!(all.set(format!("user{at}").as_bytes(), std::iter::empty()), Ok(()));
    }
    assert_eq!(all.set(b"onemore", std::iter::empty()), Err((None, RuleError::TooMany)));
    assert_eq!(all.set(b"a", std::iter::empty()), Ok(()));
    let long = |len| [b"~".to_vec(), vec![b'x'; len]].concat();
    assert_eq!(all.set(b"default", [&b"resetkeys"[..], &long(PATTERN_LEN_MAX)].into_iter()), Ok(()));
    let wrong = all.set(b"default", [&long(PATTERN_LEN_MAX + 1)[..]].into_iter());
    assert_eq!(wrong, Err((Some(0), RuleError::TooLong)));
}

#[test]
fn the_log_counts_the_same_again_and_forgets_the_oldest() {
    let mut log = Log::default();
    let add = |log: &mut Log, object: &str, at_ms| {
        log.add(Reason::Key, false, object.as_bytes(), b"a", at_ms, String::new());
    };
    add(&mut log, "x", 0);
    add(&mut log, "y", 1);
    add(&mut log, "x", 2);
    add(&mut log, "x", 70_000);
    let seen: Vec<_> = log.all().into_iter().map(|entry| (entry.object, entry.count)).collect();
    assert_eq!(log.denied(), 4);
    assert_eq!(seen, [(b"x".to_vec(), 1), (b"x".to_vec(), 2), (b"y".to_vec(), 1)]);
    for n in 0..1000 {
        add(&mut log, &n.to_string(), 70_000);
    }
    assert_eq!((log.all().len(), log.all()[0].object.as_slice()), (log::ENTRIES_MAX, &b"999"[..]));
    add(&mut log, &"k".repeat(10_000), 70_000);
    assert_eq!(log.all()[0].object.len(), 256);
}

/// What Redis says that a command does to keys, by key specification.
fn of_redis(spec: &Part) -> Vec<Access> {
    let one = |spec: &Part| {
        let at = spec.many().iter().position(|part| part.line() == "flags").expect("it has flags") + 1;
        let flags = spec.many()[at].lines().into_iter().map(str::to_owned).collect::<Vec<_>>();
        let has = |name: &str| flags.iter().any(|flag| flag == name);
        Access { read: has("access"), write: has("insert") || has("update") || has("delete") }
    };
    spec.many().iter().map(one).collect()
}

#[test]
fn what_commands_do_to_their_keys_is_what_redis_says() {
    let Some(mut redis) = Redis::start() else { return };
    let mut wrong = Vec::new();
    for spec in each().filter(|spec| !matches!(spec.keys, Keys::None)) {
        let reply = redis.ask(&[b"COMMAND", b"INFO", spec.name.as_bytes()]);
        let reply = part(&mut &reply[..]);
        let theirs = of_redis(&reply.many()[0].many()[8]);
        // With these words, by which Redis gives the variable flags that it lists.
        let words: &[&[u8]] = match spec.name {
            "set" => &[b"set", b"k", b"v", b"get"],
            "bitfield" => &[b"bitfield", b"k", b"set", b"u8", b"0", b"1"],
            _ => &[],
        };
        for (n, wanted) in theirs.into_iter().enumerate() {
            let ours = needs::of(spec, n, words.len(), |at| words.get(at).copied());
            if ours != wanted {
                wrong.push(format!("{} key {n}: ours {ours:?}, theirs {wanted:?}", spec.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const RULES: &[&str] = &[
    "on",
    "off",
    "nopass",
    "resetpass",
    ">p",
    ">q",
    "<p",
    "<nosuch",
    "~*",
    "~a*",
    "%R~b*",
    "%W~b*",
    "%RW~c?",
    "%X~d",
    "%~d",
    "allkeys",
    "resetkeys",
    "&*",
    "&ch*",
    "&x",
    "resetchannels",
    "allchannels",
    "+@all",
    "-@all",
    "allcommands",
    "nocommands",
    "+get",
    "-get",
    "+config|get",
    "-config|set",
    "+config",
    "-config",
    "+client",
    "-client|id",
    "+@read",
    "-@write",
    "+@hash",
    "-@dangerous",
    "-@fast",
    "+@pubsub",
    "+nosuch",
    "+@nosuch",
    "-config|nosuch",
    "+get|",
    "reset",
    "",
    "+",
    "~x y",
    "#12",
    "!0000000000000000000000000000000000000000000000000000000000000000",
    "ALLKEYS",
    "+GET",
    "+@READ",
    "+SET",
    "+mset",
    "-hset",
    "+zadd",
    "+@sortedset",
    "-@slow",
    "%Rw~e",
    "~",
];

const LINES: &[&str] = &[
    "get a1",
    "get b1",
    "set a1 x",
    "set b1 x get",
    "set c1 x",
    "mset a1 x b1 y",
    "mget a1 b1 c1",
    "del b1",
    "exists z",
    "incr b1",
    "config get x",
    "config set x y",
    "client id",
    "client list",
    "acl whoami",
    "acl list",
    "publish ch1 x",
    "subscribe ch1 x",
    "psubscribe ch* x",
    "hset a1 f v",
    "hget b1 f",
    "zadd a1 1 x",
    "zrange b1 0 -1",
    "rename a1 b1",
    "copy b1 a1",
    "sinterstore a1 b1 c1",
    "lmove a1 b1 left left",
    "blpop a1 b1 0",
    "bitfield b1 get u8 0",
    "bitfield b1 set u8 0 1",
    "flushall",
    "ping",
    "auth x",
    "info",
    "keys *",
    "scan 0",
    "object encoding b1",
    "memory usage b1",
    "sintercard 1 b1",
    "zmpop 1 b1 min",
    "expire b1 1",
    "ttl b1",
    "getdel b1",
    "nosuch x",
    "get",
    "type b1",
    "touch b1",
];

#[test]
fn random_rules_let_users_do_what_redis_lets_them() {
    let Some(mut redis) = Redis::start() else { return };
    let mut ours = users(&[]);
    let mut random = Random(7);
    let mut wrong = Vec::new();
    for n in 0..1_500 {
        let rules: Vec<&str> = (0..=random.below(4)).map(|_| RULES[random.below(RULES.len())]).collect();
        let words: Vec<&[u8]> = [&b"acl"[..], b"setuser", b"u"]
            .into_iter()
            .chain(rules.iter().map(|rule| rule.as_bytes()))
            .collect();
        let theirs = String::from_utf8_lossy(&redis.ask(&words)).into_owned();
        let done = ours.set(b"u", rules.iter().map(|rule| rule.as_bytes()));
        let said = match done {
            Ok(()) => "+OK\r\n".to_owned(),
            Err((at, error)) => {
                format!("-ERR Error in ACL SETUSER modifier '{}': {error}\r\n", rules[at.unwrap_or(0)])
            }
        };
        if said != theirs {
            wrong.push(format!("{n}: {rules:?}: ours {said}, theirs {theirs}"));
        }
        // About keys and channels it is described in the same words, too.
        if let Some(user) = ours.get(b"u") {
            let reply = redis.ask(&[b"acl", b"getuser", b"u"]);
            let reply = part(&mut &reply[..]);
            let theirs: Vec<&str> = [7, 9].map(|at| reply.many()[at].line()).to_vec();
            let own = [user.describe_keys(), user.describe_channels()]
                .map(|text| String::from_utf8_lossy(&text).into_owned());
            if theirs != own {
                wrong.push(format!("{n}: {rules:?}: ours {own:?}, theirs {theirs:?}"));
            }
        }
        for _ in 0..4 {
            let line = LINES[random.below(LINES.len())];
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let Some(user) = ours.get(b"u") else { break };
            let theirs = redis.ask(&[&[&b"acl"[..], b"dryrun", b"u"], &words[..]].concat());
            let theirs = String::from_utf8_lossy(&theirs).into_owned();
            let get = |at: usize| words.get(at).copied();
            let Ok(spec) = crate::services::cache::command::find_in(words[0], get(1), words.len()) else {
                continue;
            };
            let own = match user.may(spec, words.len(), get, &mut Vec::new()) {
                Ok(()) => "+OK\r\n".to_owned(),
                Err(denied) => {
                    let text = match denied {
                        Denied::Command => format!("run the '{}' command", spec.name),
                        Denied::Key(at) => format!("access the '{}' key", String::from_utf8_lossy(words[at])),
                        Denied::Channel(at) => {
                            format!("access the '{}' channel", String::from_utf8_lossy(words[at]))
                        }
                    };
                    let text = format!("This user has no permissions to {text}");
                    format!("${}\r\n{text}\r\n", text.len())
                }
            };
            if own != theirs {
                wrong.push(format!("{n}: after {rules:?}, {line}: ours {own:?}, theirs {theirs:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
}

#[test]
fn categories_are_those_of_redis() {
    let Some(mut redis) = Redis::start() else { return };
    for name in Categories::NAMES {
        let reply = redis.ask(&[b"acl", b"cat", name.as_bytes()]);
        let reply = part(&mut &reply[..]);
        let theirs: BTreeSet<String> = reply.lines().into_iter().map(str::to_owned).collect();
        let wanted = category(name.as_bytes()).expect("it is one");
        for spec in each().filter(|spec| spec.name != "hotkeys") {
            assert_eq!(theirs.contains(spec.name), spec.categories.has(wanted), "{} in {name}", spec.name);
        }
    }
    assert!(lookup(b"acl").is_some_and(|spec| !spec.subcommands.is_empty()));
}
