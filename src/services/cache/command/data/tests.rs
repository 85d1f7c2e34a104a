//! Replies of the commands on strings, bits and keys, byte by byte.

use corelane_proto_resp::Version;

use crate::services::cache::command::scan::{Options, Scanned, options_or_reply};
use crate::services::cache::command::{Reply, run_one};
use crate::services::cache::store::{Config, Eviction, Expiry, KeyHasher, Now, Store};
use crate::services::cache::value::Value;

const START: u64 = 1_700_000_000_000;

struct Setup {
    store: Store,
    now: u64,
}

impl Setup {
    fn new() -> Setup {
        let now = Now { unix_ms: START, mono_ms: 0 };
        Setup { store: Store::new(Config::default(), KeyHasher::seeded(1), now), now: START }
    }

    fn later(&mut self, ms: u64) {
        self.now += ms;
        self.store.set_now(Now { unix_ms: self.now, mono_ms: self.now - START });
    }

    fn with_list(&mut self) {
        let key = self.store.hasher().key(b"list");
        self.store.insert(key, Value::List(Box::default()), Expiry::Never).expect("there is no maximum");
    }

    fn run(&mut self, words: &[&[u8]]) -> Vec<u8> {
        run_one(&mut self.store, words, Version::Resp2)
    }

    /// The reply to words with blanks between them.
    fn say(&mut self, line: &str) -> String {
        let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.run(&words)).into_owned()
    }

    #[track_caller]
    fn all(&mut self, lines: &[(&str, &str)]) {
        for (line, wanted) in lines {
            assert_eq!(self.say(line), format!("{wanted}\r\n"), "{line}");
        }
    }
}

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn set_obeys_its_conditions_and_replies_the_old_value_when_asked() {
    let mut setup = Setup::new();
    setup.with_list();
    setup.all(&[
        ("set a 1 xx", "$-1"),
        ("set a 1 nx", "+OK"),
        ("set a 2 nx", "$-1"),
        ("set a 2 nx get", "$1\r\n1"),
        ("get a", "$1\r\n1"),
        ("set a 3 xx get", "$1\r\n1"),
        ("set b 1 get", "$-1"),
        ("get b", "$1\r\n1"),
        ("set a 1 nx xx", "-ERR syntax error"),
        ("set a 1 ex", "-ERR syntax error"),
        ("set a 1 ex 10 px 10", "-ERR syntax error"),
        ("set a 1 keepttl ex 10", "-ERR syntax error"),
        ("set a 1 persist", "-ERR syntax error"),
        ("set list 1 get", WRONG_TYPE),
        ("type list", "+list"),
        ("set list 1", "+OK"),
        ("set a", "-ERR wrong number of arguments for 'set' command"),
    ]);
    let null = run_one(&mut setup.store, &[b"set", b"none", b"1", b"xx"], Version::Resp3);
    assert_eq!(null, b"_\r\n");
}

#[test]
fn set_gives_a_key_its_expiry_in_each_unit() {
    let mut setup = Setup::new();
    setup.all(&[
        ("set a 1 ex 10", "+OK"),
        ("pttl a", ":10000"),
        ("set a 2 keepttl", "+OK"),
        ("pttl a", ":10000"),
        ("set a 3", "+OK"),
        ("pttl a", ":-1"),
        ("set a 1 px 1500", "+OK"),
        ("ttl a", ":2"),
        ("set a 1 exat 1700000100", "+OK"),
        ("ttl a", ":100"),
        ("set a 1 pxat 1700000000500", "+OK"),
        ("pexpiretime a", ":1700000000500"),
        ("expiretime a", ":1700000001"),
        ("set a 1 ex 0", "-ERR invalid expire time in 'set' command"),
        ("set a 1 px -1", "-ERR invalid expire time in 'set' command"),
        ("set a 1 ex 9223372036854776", "-ERR invalid expire time in 'set' command"),
        ("set a 1 px 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        ("set a 1 ex x", "-ERR value is not an integer or out of range"),
        ("setex a 0 1", "-ERR invalid expire time in 'setex' command"),
        ("psetex a 0 1", "-ERR invalid expire time in 'psetex' command"),
        ("getex a ex 0", "-ERR invalid expire time in 'getex' command"),
        ("getex a persist", "$1\r\n1"),
        ("ttl a", ":-1"),
        ("getex a px 100", "$1\r\n1"),
    ]);
    setup.later(101); // the millisecond of its expiry is still a key's own
    setup.all(&[("get a", "$-1"), ("ttl a", ":-2"), ("getex a ex 0", "$-1")]);
}

#[test]
fn numbers_are_counted_within_64_bits() {
    let mut setup = Setup::new();
    setup.with_list();
    setup.all(&[
        ("incr a", ":1"),
        ("decrby a 3", ":-2"),
        ("incrby a 9223372036854775807", ":9223372036854775805"),
        ("incrby a 3", "-ERR increment or decrement would overflow"),
        ("decrby a -9223372036854775808", "-ERR decrement would overflow"),
        ("incrby a x", "-ERR value is not an integer or out of range"),
        ("set a 012", "+OK"),
        ("incr a", "-ERR value is not an integer or out of range"),
        ("incr list", WRONG_TYPE),
        ("incrbyfloat b 0.1", "$3\r\n0.1"),
        ("incrbyfloat b 0.2", "$3\r\n0.3"),
        ("incrbyfloat b -0.3", "$1\r\n0"),
        ("incrbyfloat b x", "-ERR value is not a valid float"),
        ("incrbyfloat b inf", "-ERR increment would produce NaN or Infinity"),
        ("incrbyfloat list 1", WRONG_TYPE),
        ("pexpire b 1000", ":1"),
        ("incrbyfloat b 1", "$1\r\n1"),
        ("incr b", ":2"),
        ("pttl b", ":1000"),
    ]);
}

#[test]
fn parts_of_strings_are_cut_to_what_is_there() {
    let mut setup = Setup::new();
    setup.all(&[
        ("append a hello", ":5"),
        ("append a world", ":10"),
        ("getrange a 0 -1", "$10\r\nhelloworld"),
        ("getrange a -3 -1", "$3\r\nrld"),
        ("getrange a 5 100", "$5\r\nworld"),
        ("getrange a -1 -3", "$0\r\n"),
        ("getrange a 9223372036854775807 -9223372036854775808", "$0\r\n"),
        ("substr a 0 1", "$2\r\nhe"),
        ("setrange a 12 x", ":13"),
        ("strlen a", ":13"),
        ("setrange a -1 x", "-ERR offset is out of range"),
        ("setrange none 5 ", ":0"),
        ("exists none", ":0"),
        ("setrange a 536870912 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        (
            "setrange none 9223372036854775807 x",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
    ]);
    assert_eq!(setup.run(&[b"get", b"a"]), b"$13\r\nhelloworld\0\0x\r\n");
}

#[test]
fn bits_are_counted_from_the_highest_one() {
    let mut setup = Setup::new();
    setup.with_list();
    setup.all(&[
        ("setbit a 7 1", ":0"),
        ("setbit a 7 0", ":1"),
        ("setbit a 17 1", ":0"),
        ("strlen a", ":3"),
        ("getbit a 17", ":1"),
        ("getbit a 1700", ":0"),
        ("setbit a 4294967296 1", "-ERR bit offset is not an integer or out of range"),
        ("setbit a 1 2", "-ERR bit is not an integer or out of range"),
        ("set a foobar", "+OK"),
        ("bitcount a", ":26"),
        ("bitcount a 0 0", ":4"),
        ("bitcount a 5 30 bit", ":17"),
        ("bitcount a 1", "-ERR syntax error"),
        ("bitpos a 1", ":1"),
        ("bitpos a 0 2 -1 bit", ":3"),
        ("bitpos a 2", "-ERR The bit argument must be 1 or 0."),
        ("bitpos none 1", ":-1"),
        ("bitpos none 0", ":0"),
        ("bitcount list", WRONG_TYPE),
        ("set b abcdef", "+OK"),
        ("bitop and c a b", ":6"),
        ("get c", "$6\r\n`bc`ab"),
        ("bitop not c a b", "-ERR BITOP NOT must be called with a single source key."),
        ("bitop nand c a b", "-ERR syntax error"),
        ("bitop or c none", ":0"),
        ("exists c", ":0"),
    ]);
    setup.run(&[b"set", b"ones", b"\xff\xff\xff"]);
    setup.all(&[("bitpos ones 0", ":24"), ("bitpos ones 0 0", ":24"), ("bitpos ones 0 0 -1", ":-1")]);
}

#[test]
fn a_field_of_bits_wraps_saturates_or_stays() {
    let mut setup = Setup::new();
    setup.with_list();
    setup.all(&[
        ("bitfield a set u8 0 255 get u4 4 get i8 0", "*3\r\n:0\r\n:15\r\n:-1"),
        ("bitfield a incrby u8 0 2", "*1\r\n:1"),
        ("bitfield a overflow sat incrby i8 #1 200 incrby i8 #1 -500", "*2\r\n:127\r\n:-128"),
        ("bitfield a overflow fail incrby u2 100 4", "*1\r\n$-1"),
        ("strlen a", ":13"),
        ("bitfield a set i64 0 -1 get u63 1", "*2\r\n:108086391056891904\r\n:9223372036854775807"),
        ("bitfield_ro a get u8 0", "*1\r\n:255"),
        ("bitfield_ro a set u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand"),
        ("bitfield a get u64 0", &format!("-{}", super::bitfield::TYPE)),
        ("bitfield a get u8", "-ERR syntax error"),
        ("bitfield a overflow no", "-ERR Invalid OVERFLOW type specified"),
        ("bitfield a get u8 -1", "-ERR bit offset is not an integer or out of range"),
        ("bitfield list get u8 0", WRONG_TYPE),
        ("bitfield none", "*0"),
    ]);
}

#[test]
fn an_expiry_obeys_its_conditions() {
    let mut setup = Setup::new();
    setup.all(&[
        ("expire a 10", ":0"),
        ("set a 1", "+OK"),
        ("expire a 10 xx", ":0"),
        ("expire a 10 gt", ":0"),
        ("expire a 10 nx", ":1"),
        ("expire a 20 nx", ":0"),
        ("expire a 5 gt", ":0"),
        ("expire a 20 gt", ":1"),
        ("expire a 30 lt", ":0"),
        ("pexpire a 500 lt", ":1"),
        ("ttl a", ":1"),
        ("expire a 1 gt lt", "-ERR GT and LT options at the same time are not compatible"),
        ("expire a 1 nx xx", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
        ("expire a 1 ab", "-ERR Unsupported option ab"),
        ("expire a 9223372036854776", "-ERR invalid expire time in 'expire' command"),
        ("persist a", ":1"),
        ("persist a", ":0"),
        ("expireat a 1", ":1"),
        ("exists a", ":0"),
    ]);
}

#[test]
fn a_key_keeps_value_and_expiry_under_another_name() {
    let mut setup = Setup::new();
    setup.all(&[
        ("rename a b", "-ERR no such key"),
        ("set a 1 px 500", "+OK"),
        ("rename a a", "+OK"),
        ("rename a b", "+OK"),
        ("pttl b", ":500"),
        ("set c 2", "+OK"),
        ("renamenx b c", ":0"),
        ("renamenx b b", ":0"),
        ("renamenx b d", ":1"),
        ("copy d c", ":0"),
        ("copy d c replace", ":1"),
        ("pttl c", ":500"),
        ("copy d d", "-ERR source and destination objects are the same"),
        ("copy d e db 1", "-ERR DB index is out of range"),
        ("copy d e db 0", ":1"),
        ("exists c d e e", ":4"),
        ("touch c none", ":1"),
        ("dbsize", ":3"),
        ("del c none", ":1"),
        ("unlink d e", ":2"),
        ("flushall now", "-ERR syntax error"),
        ("flushall async", "+OK"),
    ]);
}

#[test]
fn mset_wants_pairs_and_msetnx_sets_all_or_none() {
    let mut setup = Setup::new();
    setup.with_list();
    setup.all(&[
        ("mset a 1 b", "-ERR wrong number of arguments for 'mset' command"),
        ("mset a 1 b 2", "+OK"),
        ("msetnx c 3 a 4", ":0"),
        ("mget a b c list", "*4\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n$-1"),
        ("msetnx c 3 d 4", ":1"),
    ]);
}

#[test]
fn keys_and_scan_give_those_that_match() {
    let mut setup = Setup::new();
    setup.with_list();
    setup.all(&[("set {a}1 x", "+OK"), ("keys {a}?", "*1\r\n$4\r\n{a}1"), ("keys z*", "*0")]);
    let mut scanned =
        |line| with_options(line, |reply, options| scan_once(&mut setup.store, &options, reply));
    assert_eq!(scanned("type STRING match *"), b"$4\r\n{a}1\r\n");
    assert_eq!(scanned("match l* count 1"), b"$4\r\nlist\r\n");
    assert_eq!(scanned("type nosuch"), b"");
    assert_eq!(scanned("count 0"), b"-ERR syntax error\r\n");
    assert_eq!(scanned("count x"), b"-ERR value is not an integer or out of range\r\n");
    assert_eq!(scanned("novalues"), b"-ERR syntax error\r\n");
}

fn scan_once(store: &mut Store, options: &Options<'_>, reply: &mut Reply) {
    let mut cursor = 0;
    loop {
        cursor = super::keys::scan_part(store, cursor, options, reply).0;
        if cursor == 0 {
            return;
        }
    }
}

fn with_options(line: &str, run: impl FnOnce(&mut Reply, Options<'_>)) -> Vec<u8> {
    let wire = format!("scan 0 {line}\r\n");
    let limits = corelane_proto_resp::Limits::default();
    let mut parser = corelane_proto_resp::Parser::new();
    let corelane_proto_resp::Step::Command(command) = parser.poll(&limits, &mut wire.as_bytes()) else {
        panic!("this is no command")
    };
    let mut reply = Reply::default();
    if let Some(options) = options_or_reply(&mut reply, &command, 2, Scanned::Keys) {
        run(&mut reply, options);
    }
    reply.to_vec()
}

#[test]
fn a_dumped_value_is_restored_and_a_foreign_one_refused() {
    let mut setup = Setup::new();
    for value in [&b"12"[..], b"text", b""] {
        setup.run(&[b"set", b"a", value]);
        let dump = setup.run(&[b"dump", b"a"]);
        let start = dump.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        let payload = &dump[start..dump.len() - 2];
        assert_eq!(
            setup.run(&[b"restore", b"a", b"0", payload]),
            b"-BUSYKEY Target key name already exists.\r\n"
        );
        assert_eq!(setup.run(&[b"restore", b"b", b"700", payload, b"replace"]), b"+OK\r\n");
        assert_eq!(setup.run(&[b"get", b"b"]), setup.run(&[b"get", b"a"]));
        assert_eq!(setup.say("pttl b"), ":700\r\n");
        assert_eq!(setup.run(&[b"restore", b"b", b"1", payload, b"replace", b"absttl"]), b"+OK\r\n");
        assert_eq!(setup.say("exists b"), ":0\r\n");
    }
    setup.all(&[
        ("restore c -1 x", "-ERR Invalid TTL value, must be >= 0"),
        ("restore c 0 x", "-ERR DUMP payload version or checksum are wrong"),
        ("restore c 0 x freq 256", "-ERR Invalid FREQ value, must be >= 0 and <= 255"),
        ("restore c 0 x idletime -1", "-ERR Invalid IDLETIME value, must be >= 0"),
        ("restore c 0 x now", "-ERR syntax error"),
        ("dump none", "$-1"),
    ]);
}

#[test]
fn object_says_how_a_value_is_kept_and_used() {
    let mut setup = Setup::new();
    setup.with_list();
    setup.all(&[
        ("set a hello", "+OK"),
        ("object encoding a", "$6\r\nembstr"),
        ("object encoding list", "$9\r\nquicklist"),
        ("object encoding none", "$-1"),
        ("object refcount a", ":1"),
        ("object idletime a", ":0"),
    ]);
    assert!(setup.say("object freq a").starts_with("-ERR An LFU maxmemory policy is not selected"));
    setup.store.configure(Config { memory_max: 0, eviction: Eviction::Lfu });
    assert!(setup.say("object freq a").starts_with(':'));
    assert!(setup.say("object idletime a").starts_with("-ERR An LFU maxmemory policy is selected"));
    assert!(setup.say("object help").starts_with("*11\r\n+OBJECT <subcommand>"));
}

#[test]
fn a_string_above_the_maximum_of_the_store_takes_no_memory_first() {
    let mut setup = Setup::new();
    setup.store.configure(Config { memory_max: 1 << 20, eviction: Eviction::NoEviction });
    let refused = "-OOM command not allowed when used memory > 'maxmemory'.";
    setup.all(&[("setrange a 2000000 x", refused), ("setbit a 80000000 1", refused), ("exists a", ":0")]);
}
