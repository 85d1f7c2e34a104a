//! The model test of the cache: what `redis-server` says to a random sequence of commands of several clients, ours
//! says as well.
//!
//! A run is a number of seeds, each a sequence of steps on emptied servers. What may differ is a list with reasons
//! (`compare`). A failure prints the shortest sequence that still fails, and how to repeat it. Without `[resp]` in
//! the built program only Redis is held against itself, which shows that the harness finds nothing where nothing is.
//!
//! `RESP_MODEL_COMMANDS=N` is how many commands each test sends, `CORELANE_SEED=N` runs one seed alone, and
//! `RESP_ADDR=127.0.0.1:PORT` tests a server that is already running.
//!
//! Not here: commands at the same time on the same keys (`resp_linear`), clients that others wrote (`resp_clients`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod resp;

#[path = "resp_model/commands.rs"]
mod commands;
#[path = "resp_model/compare.rs"]
mod compare;
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
use resp::Subject;
use resp::conn::PATIENCE;
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

/// A seed whose run ended in a mismatch.
struct Failure {
    seed: u64,
    number: usize,
    /// All steps up to the one that showed it.
    steps: Vec<Step>,
    found: Mismatch,
    shrunk: Shrunk,
}

/// Runs seeds from `first` until enough commands were sent, or the one that the environment names. Panics at a
/// mismatch, with the shortest way to it.
fn agrees(first: u64, test: &str, ours: &Subject) {
    let Some(redis) = Subject::redis() else { return };
    let addrs = [redis.addr, ours.addr];
    let left_out = run::unknown_of(ours.addr, commands::OPTIONAL);
    let (start, mut sent, mut seeds) = (Instant::now(), 0, 0);
    let one = std::env::var(SEED_VARIABLE).ok();
    let one = one.map(|text| text.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE}={text}: a number")));
    while sent < commands() && (one.is_none() || seeds == 0) {
        let seed = one.unwrap_or(first + seeds);
        match run_seed(seed, addrs, Generator::new(seed, left_out.clone())) {
            Ok(commands) => sent += commands,
            Err(failure) => panic!(
                "{failure}\n\nto repeat: {SEED_VARIABLE}={} scripts/test --test resp_model {test}\n",
                failure.seed
            ),
        }
        seeds += 1;
    }
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
    agrees(0, "redis_agrees_with_itself", &other);
}

#[test]
fn one_shard_says_what_redis_says() {
    let Some(ours) = Subject::corelane(1) else { return };
    agrees(1_000_000, "one_shard_says_what_redis_says", &ours);
}

#[test]
fn two_shards_say_what_redis_says() {
    let Some(ours) = Subject::corelane(2) else { return };
    agrees(2_000_000, "two_shards_say_what_redis_says", &ours);
}

#[test]
fn four_shards_say_what_redis_says() {
    let Some(ours) = Subject::corelane(4) else { return };
    agrees(4_000_000, "four_shards_say_what_redis_says", &ours);
}
