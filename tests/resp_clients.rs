//! Clients that others wrote, against the cache: redis-cli, redis-benchmark, ioredis, node-redis, and redis-py with its
//! own tests.
//!
//! What redis-py's tests are known to fail, and why, is in `tests/clients/redis-py`; any other failure fails here, and
//! so does one of the list that passes. The packages come with pip and npm into the target directory, once. Where the
//! built program has no `[resp]`, `redis-server` stands in for it.
//!
//! Not here: replies command by command (`resp_model`), speed (`bench resp`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod resp;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use resp::{Subject, Value};

/// What the tests of redis-py are run against: shards, protocol, and the list of what fails.
const SUITES: [(usize, &str); 2] = [(1, "2"), (2, "3")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where packages are put: below the target directory, two up from this program's folder.
fn home(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().nth(3).unwrap();
    let home = target.join("clients").join(name);
    fs::create_dir_all(&home).unwrap();
    home
}

/// A program of `PATH`; where it is missing that fails on a build machine and is said elsewhere.
fn tool(name: &str) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(name).is_file()) {
        return Some(Command::new(name));
    }
    assert!(std::env::var("CI").is_err(), "{name} is missing: scripts/test installs it");
    eprintln!("skipped: needs {name}");
    None
}

/// Runs a command with this input; what it says on both streams.
#[track_caller]
fn run(command: &mut Command, input: &[u8]) -> (Output, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    });
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    (output, text)
}

/// Ours with so many shards, or Redis where it is not built.
fn subject(shards: usize) -> Option<Subject> {
    Subject::corelane(shards).or_else(Subject::redis)
}

struct Cli<'s>(&'s Subject);

impl Cli<'_> {
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.0.addr.port().to_string()]).args(more);
        command
    }

    #[track_caller]
    fn says(&self, more: &[&str], input: &str, expected: &str) {
        let (output, text) = run(&mut self.command(more), input.as_bytes());
        assert!(output.status.success(), "{more:?}: {text}");
        assert_eq!(text.trim_end(), expected, "{more:?} < {input:?}");
    }
}

#[test]
fn redis_cli_works_in_all_its_modes() {
    if tool("redis-cli").is_none() {
        return;
    }
    for shards in [1, 2] {
        let Some(subject) = subject(shards) else { return };
        let cli = Cli(&subject);
        cli.says(&["FLUSHALL"], "", "OK");
        cli.says(&["SET", "a", "1"], "", "OK");
        cli.says(&["-3", "INCRBY", "a", "41"], "", "42");
        cli.says(&["-x", "SET", "in"], "from standard input", "OK");
        cli.says(&["--raw", "GET", "in"], "", "from standard input");
        cli.says(&["GET", "nothing"], "", "");
        cli.says(
            &["LPUSH", "a", "x"],
            "",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
        );
        cli.says(&[], "MULTI\nINCR a\nINCR a\nEXEC\n", "OK\nQUEUED\nQUEUED\n43\n44");
        cli.says(&["-r", "3", "INCR", "a"], "", "45\n46\n47");
        cli.says(&["-3", "--json", "HGETALL", "none"], "", "{}");
        cli.says(&["--no-raw", "MGET", "a", "none"], "", "1) \"47\"\n2) (nil)");
        let fill: String = (0..2_000).map(|n| format!("SET key:{n} {n}\r\n")).collect();
        let (output, text) = run(&mut cli.command(&["--pipe"]), fill.as_bytes());
        assert!(output.status.success() && text.contains("errors: 0, replies: 2000"), "{text}");
        let (_, text) = run(&mut cli.command(&["--scan", "--pattern", "key:*"]), b"");
        assert_eq!(text.lines().count(), 2_000);
        for mode in ["--bigkeys", "--memkeys"] {
            let (output, text) = run(&mut cli.command(&[mode]), b"");
            assert!(output.status.success() && text.contains("Sampled 2002 keys"), "{mode}: {text}");
        }
        let (output, text) = run(&mut cli.command(&["INFO"]), b"");
        assert!(output.status.success() && text.contains("redis_version:7"), "{text}");
    }
}

#[test]
fn redis_benchmark_gets_an_answer_to_every_command() {
    if tool("redis-benchmark").is_none() {
        return;
    }
    let tests = "ping_inline,ping_mbulk,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset";
    for (shards, more) in
        [(1, &["-P", "1"][..]), (2, &["-P", "16", "-3"]), (2, &["-P", "3", "--threads", "2"])]
    {
        let Some(subject) = subject(shards) else { return };
        let port = subject.addr.port().to_string();
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &port, "-t", tests, "-n", "3000", "-c", "20", "-r", "1000", "--csv"]).args(more);
        let (output, text) = run(&mut command, b"");
        assert!(output.status.success(), "{more:?}: {text}");
        assert!(!text.to_lowercase().contains("error"), "{more:?}: {text}");
        // The head, and a row for each; LRANGE brings the LPUSH that fills its list.
        let rows = text.lines().filter(|line| line.starts_with('"')).count();
        assert_eq!(rows, 1 + 17, "{more:?}: {text}");
    }
}

/// The folder with the packages of npm and our scripts.
fn node_home() -> Option<PathBuf> {
    tool("node")?;
    let mut npm = tool("npm")?;
    let (from, home) = (root().join("tests/clients/node"), home("node"));
    let lock = fs::File::create(home.join("lock")).unwrap();
    lock.lock().unwrap();
    let manifest = fs::read(from.join("package.json")).unwrap();
    let is_new = fs::read(home.join("package.json")).ok().as_ref() != Some(&manifest);
    for entry in fs::read_dir(&from).unwrap().map(Result::unwrap) {
        if entry.file_name() != "package.json" {
            fs::copy(entry.path(), home.join(entry.file_name())).unwrap();
        }
    }
    if is_new {
        fs::write(home.join("package.json"), &manifest).unwrap();
        npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&home);
        let (output, text) = run(&mut npm, b"");
        if !output.status.success() {
            drop(fs::remove_file(home.join("package.json")));
            panic!("npm install: {text}");
        }
    }
    Some(home)
}

/// Runs a script against ours with one shard and with two.
fn script_passes(name: &str) {
    let Some(home) = node_home() else { return };
    for shards in [1, 2] {
        let Some(subject) = subject(shards) else { return };
        let mut command = Command::new("node");
        command.arg(name).arg(subject.addr.port().to_string()).current_dir(&home);
        let (output, text) = run(&mut command, b"");
        eprintln!("{name}, {}: {}", subject.name, text.lines().last().unwrap_or_default());
        assert!(
            output.status.success() && text.contains(" passed, 0 failed"),
            "{name}, {}: {text}",
            subject.name
        );
    }
}

#[test]
fn ioredis_works_as_with_redis() {
    script_passes("ioredis.js");
}

#[test]
fn node_redis_works_as_with_redis() {
    script_passes("node-redis.js");
}

/// Runs redis-py's own tests. They wait more than they work, so those of several servers run side by side.
#[test]
fn the_tests_of_redis_py_fail_where_they_are_known_to_and_nowhere_else() {
    if tool("python3").is_none() {
        return;
    }
    if std::env::var("TEST_HOST").as_deref() == Ok("glommio") {
        // A minute, for what is the same code behind the socket.
        return;
    }
    let ours: Vec<_> = SUITES
        .iter()
        .filter_map(|(shards, protocol)| Some((Subject::corelane(*shards)?, *protocol)))
        .collect();
    let is_ours = !ours.is_empty();
    let subjects =
        if is_ours { ours } else { Subject::redis_with("").into_iter().map(|redis| (redis, "2")).collect() };
    let list =
        root().join("tests/clients/redis-py").join(if is_ours { "corelane.txt" } else { "redis-7.0.txt" });
    let home = home("redis-py");
    let failures: Vec<String> = thread::scope(|scope| {
        let suites: Vec<_> = subjects
            .iter()
            .map(|(subject, protocol)| {
                let (list, home) = (&list, &home);
                scope.spawn(move || {
                    let mut command = Command::new("python3");
                    command.arg(root().join("tests/clients/redis-py/run.py")).arg(subject.addr.to_string());
                    command.arg("--expected").arg(list).arg("--home").arg(home);
                    command.args(["--protocol", protocol, "--suggest"]);
                    let (output, text) = run(&mut command, b"");
                    eprintln!("redis-py, RESP{protocol}, {}:\n{text}", subject.name);
                    let is_up = subject.open().say("PING") == Value::Simple(b"PONG".to_vec());
                    assert!(is_up, "{} lives", subject.name);
                    (!output.status.success()).then_some(text)
                })
            })
            .collect();
        suites.into_iter().filter_map(|suite| suite.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
