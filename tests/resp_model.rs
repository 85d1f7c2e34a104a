//! The model test of the cache: what `redis-server` says to a random sequence of commands of several clients, ours
//! says as well.
//!
//! A run is a number of seeds, each a sequence of steps on emptied servers. What may differ is a list with reasons
//! (`compare`). A failure prints the shortest sequence that still fails, and how to repeat it. Without `[resp]` in
//! the built program only Redis is held against itself, which shows that the harness finds nothing where nothing is.
//!
//! `RESP_MODEL_COMMANDS=N` is how many commands each test sends, `CORELANE_SEED=N` runs one seed alone,
//! `RESP_PROGRAM=FILE` tests another build, `RESP_ADDR=127.0.0.1:PORT` a server that is already running, and
//! `RESP_MODEL_LEAVE_OUT=NAME,NAME` without some commands. `RESP_MODEL_FAILURES=N` goes on to other seeds until so many
//! have failed.
//!
//! Not here: commands at the same time on the same keys (`resp_linear`), clients that others wrote (`resp_clients`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod resp;

#[path = "resp_model/commands.rs"]
mod commands;
#[path = "resp_model/compare.rs"]
mod compare;
#[path = "resp_model/evict.rs"]
mod evict;
#[path = "resp_model/generate.rs"]
mod generate;
#[path = "resp_model/grammar.rs"]
mod grammar;
#[path = "resp_model/run.rs"]
mod run;
#[path = "resp_model/shrink.rs"]
mod shrink;
#[path = "resp_model/step.rs"]
mod step;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use generate::Generator;
use resp::conn::PATIENCE;
use resp::{Subject, Value};
use run::{Mismatch, Run};
use shrink::Shrunk;
use step::Step;

/// Environment variable that names one seed to run alone.
const SEED_VARIABLE: &str = "CORELANE_SEED";

/// Commands of a test, where `RESP_MODEL_COMMANDS` does not say: seconds.
const COMMANDS: u64 = 20_000;

/// Steps of a seed. What came before a mismatch is at most this much.
const STEPS: usize = 3_000;

/// Commands of the last steps that a failure shows, beside the shortest sequence.
const SHOWN: usize = 12;

fn commands() -> u64 {
    let said = std::env::var("RESP_MODEL_COMMANDS").ok();
    said.map_or(COMMANDS, |text| {
        text.parse().unwrap_or_else(|_| panic!("RESP_MODEL_COMMANDS={text}: a number"))
    })
}

/// The commands that are not sent: optional ones that ours does not know, and those of `RESP_MODEL_LEAVE_OUT`, a list
/// with commas. `unknown` in it is all that ours does not know, for a server that is being built.
fn left_out(ours: SocketAddr) -> BTreeSet<String> {
    let said = std::env::var("RESP_MODEL_LEAVE_OUT").unwrap_or_default();
    let mut names: BTreeSet<String> =
        said.split(',').filter(|name| !name.is_empty()).map(str::to_ascii_uppercase).collect();
    let asked = if names.contains("UNKNOWN") { commands::all_names() } else { commands::OPTIONAL.to_vec() };
    names.extend(run::unknown_of(ours, &asked));
    names
}

/// A seed whose run ended in a mismatch.
struct Failure {
    seed: u64,
    /// Of the step that showed it.
    number: usize,
    /// All steps up to the one that showed it.
    steps: Vec<Step>,
    found: Mismatch,
    shrunk: Shrunk,
}

/// Runs seeds from `first` until enough commands were sent, or the one that the environment names. Panics at a
/// mismatch, with the shortest way to it.
fn agrees(first: u64, test: &str, ours: &Subject, shards: usize) {
    let Some(redis) = Subject::redis() else { return };
    let addrs = [redis.addr, ours.addr];
    let left_out = left_out(ours.addr);
    let (start, mut sent, mut seeds) = (Instant::now(), 0, 0);
    let one = std::env::var(SEED_VARIABLE).ok();
    let one = one.map(|text| text.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE}={text}: a number")));
    let most = std::env::var("RESP_MODEL_FAILURES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut failures: Vec<String> = Vec::new();
    while sent < commands() && (one.is_none() || seeds == 0) && failures.len() < most {
        let seed = one.unwrap_or(first + seeds);
        match run_seed(seed, addrs, Generator::new(seed, left_out.clone()).one_wait(shards > 1)) {
            Ok(commands) => sent += commands,
            Err(failure) => failures.push(format!(
                "{failure}\nto repeat: {SEED_VARIABLE}={seed} scripts/test --test resp_model {test}\n"
            )),
        }
        seeds += 1;
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
    let time = start.elapsed().as_secs_f64();
    eprintln!(
        "{test}: {sent} commands of {seeds} seeds from {first} agree, {time:.1} s; left out: {left_out:?}"
    );
}

/// Runs one seed; how many commands it sent.
fn run_seed(seed: u64, addrs: [SocketAddr; 2], mut generator: Generator) -> Result<u64, Box<Failure>> {
    let mut run = Run::begin(addrs, PATIENCE).unwrap_or_else(|found| panic!("{}", found.what));
    let mut steps = Vec::new();
    for number in 0..STEPS {
        let step = generator.step();
        if std::env::var_os("RESP_MODEL_TRACE").is_some() {
            eprintln!("{step}");
        }
        steps.push(step.clone());
        if let Err(found) = run.step(&step) {
            drop(run);
            let shrunk = shrink::shrink(addrs, &steps, found.clone());
            return Err(Box::new(Failure { seed, number, steps, found, shrunk }));
        }
    }
    Ok(run.commands)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, number, steps, found, shrunk } = self;
        writeln!(f, "seed {seed}, step {number}: {}\n{}", steps[*number], found.what)?;
        writeln!(f, "\n{} steps that end in a mismatch:", shrunk.steps.len())?;
        shrunk.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))?;
        writeln!(f, "{}", shrunk.found.what)?;
        let about = shrunk.about(steps);
        writeln!(f, "\nthe last steps of the run on the same keys, of {}:", about.len())?;
        about.iter().rev().take(SHOWN).rev().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

/// Of two servers one of which has two commands under each other's names: the mismatch that shows it.
#[test]
fn commands_that_are_swapped_are_found_in_a_few_steps() {
    let swap = "rename-command LPUSHX tmp\nrename-command RPUSHX LPUSHX\nrename-command tmp RPUSHX\n";
    let (Some(redis), Some(wrong)) = (Subject::redis(), Subject::redis_with(swap)) else { return };
    let addrs = [redis.addr, wrong.addr];
    let failure = (0..20).find_map(|seed| run_seed(seed, addrs, Generator::new(seed, BTreeSet::new())).err());
    let failure = failure.expect("one of twenty seeds finds it");
    let last = failure.shrunk.steps.last().expect("a mismatch takes a step").to_string();
    // A list is made, pushed to at the wrong end, and looked at.
    assert!(failure.shrunk.steps.len() <= 4, "{failure}");
    assert!(
        failure.shrunk.steps.iter().any(|step| step.to_string().to_uppercase().contains("PUSHX")),
        "{last}"
    );
}

#[test]
fn redis_agrees_with_itself() {
    let Some(other) = Subject::redis() else { return };
    agrees(0, "redis_agrees_with_itself", &other, 1);
}

#[test]
fn one_shard_says_what_redis_says() {
    let Some(ours) = Subject::corelane(1) else { return };
    agrees(1_000_000, "one_shard_says_what_redis_says", &ours, 1);
}

#[test]
fn two_shards_say_what_redis_says() {
    let Some(ours) = Subject::corelane(2) else { return };
    agrees(2_000_000, "two_shards_say_what_redis_says", &ours, 2);
}

#[test]
fn four_shards_say_what_redis_says() {
    let Some(ours) = Subject::corelane(4) else { return };
    agrees(4_000_000, "four_shards_say_what_redis_says", &ours, 4);
}

/// Every value that comes is the last one written, however many keys went.
fn is_right_where_memory_is_short(what: &str, subject: &Subject) {
    let seen = evict::check(subject.addr, usize::try_from(2 * commands()).unwrap(), 1);
    eprintln!("{what}: {seen:?}");
    assert!(seen.evicted > 100, "{what}: keys went: {seen:?}");
    assert!(seen.hits > 100, "{what}: keys stayed: {seen:?}");
}

#[test]
fn redis_is_right_where_memory_is_short() {
    let lines = "maxmemory 2mb\nmaxmemory-policy allkeys-lru\n";
    let Some(redis) = Subject::redis_with(lines) else { return };
    is_right_where_memory_is_short("redis", &redis);
}

#[test]
fn every_policy_is_right_where_memory_is_short() {
    for (policy, shards) in
        [("s3-fifo", 1), ("s3-fifo", 2), ("lru", 1), ("lfu", 2), ("fifo", 1), ("random", 4)]
    {
        let lines = format!("[cache]\nmemory_max = \"1MiB\"\neviction = \"{policy}\"\n");
        let Some(ours) = Subject::corelane_with(shards, &lines) else { return };
        is_right_where_memory_is_short(&format!("{policy}, {shards} shards"), &ours);
    }
}

/// Writes until there is no more room: what is said then, what still works, and that room can be made.
fn refuses_what_does_not_fit(subject: &Subject) {
    let mut conn = subject.open();
    let value = vec![b'v'; 10_000];
    let refusal = (0..10_000).find_map(|number| {
        let reply = conn.ask(&[b"SET", format!("k{number}").as_bytes(), &value[..]]);
        reply.is_error().then_some((number, reply))
    });
    let (number, reply) = refusal.expect("100 MB do not fit");
    let oom = Value::Error(b"OOM command not allowed when used memory > 'maxmemory'.".to_vec());
    assert_eq!(reply, oom, "{}", subject.name);
    assert!(number > 10, "{}: something fits", subject.name);
    assert_eq!(conn.say("GET k0"), Value::bulk(&value), "{}: it can be read", subject.name);
    assert_eq!(conn.say("LPUSH list a"), reply, "{}: nothing that grows is taken", subject.name);
    for number in 0..number {
        assert_eq!(conn.say(&format!("DEL k{number}")), Value::Int(1), "{}: nothing went", subject.name);
    }
    assert_eq!(conn.ask(&[b"SET", &b"k"[..], &value]), Value::ok(), "{}: there is room again", subject.name);
}

#[test]
fn without_eviction_writes_are_refused_until_there_is_room() {
    let Some(redis) = Subject::redis_with("maxmemory 3mb\nmaxmemory-policy noeviction\n") else { return };
    refuses_what_does_not_fit(&redis);
    let lines = "[cache]\nmemory_max = \"2MiB\"\neviction = \"noeviction\"\n";
    let Some(ours) = Subject::corelane_with(1, lines) else { return };
    refuses_what_does_not_fit(&ours);
}
