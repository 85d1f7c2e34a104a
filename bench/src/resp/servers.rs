//! The servers: how each is started, filled, read and asked.
//!
//! Not here: memcached's protocol (`memcached`), the order of things (`mod.rs`).

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;

use super::memcached;
use super::{CONNECTIONS, Command, KEYS, Load, Memory, VALUE_LEN, as_f64};
use crate::ab::process::{CpuTime, Running, free_port, spawn_on, waited_children_ns};
use crate::idle::memory::resident;

/// For a reply when nothing else is asked.
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);

/// Keys sent at once when a server is filled.
const FILL: u32 = 500;

/// Who is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ServerKind {
    /// One shard.
    Corelane,
    /// Two shards on the one CPU: half of the commands go to the other one, and nothing else changes.
    #[value(name = "corelane-2")]
    CorelaneTwo,
    /// One shard that waits for several completions while it is busy: `gather_time`.
    #[value(name = "corelane-gather")]
    CorelaneGather,
    Redis,
    Memcached,
}

impl ServerKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            ServerKind::Corelane => "corelane",
            ServerKind::CorelaneTwo => "corelane-2",
            ServerKind::CorelaneGather => "corelane-gather",
            ServerKind::Redis => "redis",
            ServerKind::Memcached => "memcached",
        }
    }
}

/// What a client saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) commands_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// CPU time of the client.
    pub(super) client_ns: u64,
}

/// A server that runs.
pub(super) struct Server {
    pub(super) kind: ServerKind,
    /// Name, version and set-up.
    pub(super) what: String,
    running: Running,
    _folder: TempDir,
}

/// Memory at one moment, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    resident: u64,
    counted: u64,
}

impl Used {
    /// What each key has added.
    pub(super) fn since(self, before: Used) -> Memory {
        let each = |now: u64, then: u64| as_f64(now.saturating_sub(then).into()) / f64::from(KEYS);
        Memory { resident: each(self.resident, before.resident), counted: each(self.counted, before.counted) }
    }
}

impl Server {
    /// Starts one on a CPU.
    ///
    /// # Errors
    /// Why it does not run here.
    pub(super) fn start(kind: ServerKind, cpu: usize, program: Option<&Path>) -> Result<Server, String> {
        let folder = TempDir::new().map_err(|error| format!("a temporary folder: {error}"))?;
        let port = free_port().map_err(|error| format!("a free port: {error}"))?;
        let words = words(kind, port, folder.path(), program)?;
        let running = Running::start(&words, Some(cpu), port).map_err(|error| first_line(&error))?;
        let mut server = Server { kind, what: String::new(), running, _folder: folder };
        server.what = server.version()?;
        Ok(server)
    }

    fn version(&self) -> Result<String, String> {
        let set_up = match self.kind {
            ServerKind::Corelane => "one shard",
            ServerKind::CorelaneTwo => "two shards on the one CPU, half of the keys on each",
            ServerKind::CorelaneGather => "one shard, gather_time = 100us",
            ServerKind::Redis => "one thread, no persistence",
            ServerKind::Memcached => "one thread, by this program's client",
        };
        let (question, field) = match self.kind {
            ServerKind::Memcached => ("version\r\n", "VERSION "),
            ServerKind::Redis => ("INFO server\r\n", "redis_version:"),
            _ => ("INFO server\r\n", "corelane_version:"),
        };
        let text = self.talk(question.as_bytes(), |text| text.contains(field) && text.ends_with("\r\n"))?;
        let version = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("?");
        Ok(format!("{} {version}, {set_up}", self.kind.name().split('-').next().unwrap_or_default()))
    }

    /// Sends bytes on a new connection and reads until `whole`.
    fn talk(&self, bytes: &[u8], whole: impl Fn(&str) -> bool) -> Result<String, String> {
        let text = |error: std::io::Error| format!("{}: {error}", self.kind.name());
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.running.port)).map_err(text)?;
        stream.set_read_timeout(Some(REPLY_TIME_MAX)).map_err(text)?;
        stream.write_all(bytes).map_err(text)?;
        let (mut got, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let len = stream.read(&mut chunk).map_err(text)?;
            got.extend_from_slice(&chunk[..len]);
            let said = String::from_utf8_lossy(&got);
            if whole(&said) {
                return Ok(said.into_owned());
            }
            if len == 0 {
                return Err(format!("{} closed after {said:?}", self.kind.name()));
            }
        }
    }

    /// Writes every key once: 16 bytes, with a value of 32.
    ///
    /// # Errors
    /// It did not take one.
    pub(super) fn fill(&self) -> Result<(), String> {
        for first in (0..KEYS).step_by(FILL as usize) {
            let mut bytes = Vec::new();
            for number in first..first + FILL {
                bytes.extend(match self.kind {
                    ServerKind::Memcached => memcached::set(number),
                    _ => set(number),
                });
            }
            let ok = if self.kind == ServerKind::Memcached { "STORED\r\n" } else { "+OK\r\n" };
            let expected = ok.repeat(FILL as usize);
            let said = self.talk(&bytes, |said| said.len() >= expected.len())?;
            if said != expected {
                let said: String = said.chars().take(200).collect();
                return Err(format!("{} takes no keys: {said}", self.kind.name()));
            }
        }
        Ok(())
    }

    /// Memory at this moment.
    pub(super) fn memory(&self) -> Result<Used, String> {
        let resident = resident(self.running.id()).map_err(|error| format!("/proc: {error}"))?;
        let (question, field) = match self.kind {
            ServerKind::Memcached => ("stats\r\n", "STAT bytes "),
            _ => ("INFO memory\r\n", "used_memory:"),
        };
        let end = if self.kind == ServerKind::Memcached { "END\r\n" } else { "\r\n\r\n" };
        let text = self.talk(question.as_bytes(), |text| {
            text.contains(field) && (text.ends_with(end) || text.ends_with("\r\n"))
        })?;
        let counted =
            text.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok()).unwrap_or(0);
        Ok(Used { resident, counted })
    }

    pub(super) fn cpu_time(&self) -> Result<CpuTime, String> {
        self.running.cpu_time().map_err(|error| format!("{}: {error}", self.kind.name()))
    }

    /// Asks it so many commands.
    pub(super) fn ask(&self, load: Load, commands: u64, cpu: usize) -> Result<Asked, String> {
        match self.kind {
            ServerKind::Memcached => memcached::ask(self.running.port, load, commands, cpu),
            _ => redis_benchmark(self.running.port, load, commands, cpu),
        }
    }
}

/// Program and arguments; writes the configuration of ours.
fn words(kind: ServerKind, port: u16, folder: &Path, program: Option<&Path>) -> Result<Vec<String>, String> {
    let words = |text: String| text.split(' ').map(str::to_owned).collect();
    match kind {
        ServerKind::Redis => {
            found("redis-server", "redis-server")?;
            let options = "--save  --appendonly no --io-threads 1 --daemonize no --bind 127.0.0.1";
            Ok(words(format!("redis-server --port {port} --dir {} {options}", folder.display())))
        }
        ServerKind::Memcached => {
            found("memcached", "memcached")?;
            // As root it wants to be told that it may stay so.
            Ok(words(format!("memcached -l 127.0.0.1 -p {port} -U 0 -t 1 -c 1024 -m 1024 -u root")))
        }
        ServerKind::Corelane | ServerKind::CorelaneTwo | ServerKind::CorelaneGather => {
            let usual = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/release/corelane");
            let program = program.unwrap_or(&usual);
            if !program.is_file() {
                return Err(format!("no {}: type cargo build --release -p corelane", program.display()));
            }
            found("redis-benchmark", "redis-tools")?;
            let shards = if kind == ServerKind::CorelaneTwo { 2 } else { 1 };
            let gather =
                if kind == ServerKind::CorelaneGather { "[limits]\ngather_time = \"100us\"\n" } else { "" };
            let config = folder.join("node.toml");
            let text = format!(
                "listen = \"127.0.0.1:0\"\nadmin = \"off\"\nshards = {shards}\npin = false\n\n\
                 [resp]\nlisten = \"127.0.0.1:{port}\"\n\n{gather}"
            );
            fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
            Ok(vec![program.display().to_string(), "--config".to_owned(), config.display().to_string()])
        }
    }
}

fn found(name: &str, package: &str) -> Result<(), String> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_here = std::env::split_paths(&paths).any(|folder| folder.join(name).is_file());
    if is_here { Ok(()) } else { Err(format!("{name} is not installed: apt-get install {package}")) }
}

/// The part of a message that says it: of several lines, the last.
fn first_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.last().map_or_else(String::new, |line| (*line).to_owned())
}

/// The key of a number, as redis-benchmark has them.
pub(super) fn key(number: u32) -> String {
    format!("key:{number:012}")
}

fn set(number: u32) -> Vec<u8> {
    let (key, value) = (key(number), "x".repeat(VALUE_LEN));
    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${VALUE_LEN}\r\n{value}\r\n", key.len()).into_bytes()
}

/// Runs redis-benchmark to its end.
fn redis_benchmark(port: u16, load: Load, commands: u64, cpu: usize) -> Result<Asked, String> {
    let test = if load.command == Command::Get { "get" } else { "set" };
    let mut program = Program::new("redis-benchmark");
    program.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", test, "--csv"]);
    program.args(["-c", &CONNECTIONS.to_string(), "-d", &VALUE_LEN.to_string(), "-r", &KEYS.to_string()]);
    program.args(["-n", &commands.to_string(), "-P", &load.pipeline.to_string()]);
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let text = |error: std::io::Error| format!("redis-benchmark: {error}");
    let before = waited_children_ns().map_err(text)?;
    let output = spawn_on(cpu, program).and_then(std::process::Child::wait_with_output).map_err(text)?;
    let client_ns = waited_children_ns().map_err(text)? - before;
    let said = String::from_utf8_lossy(&output.stdout);
    let row = said.lines().rfind(|line| line.starts_with('"'));
    let figures = row.and_then(figures).filter(|_| output.status.success());
    let [commands_per_s, p50_ms, p99_ms] = figures.ok_or_else(|| {
        format!(
            "redis-benchmark ended with {}: {said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    Ok(Asked { commands_per_s, p50_us: p50_ms * 1e3, p99_us: p99_ms * 1e3, client_ns })
}

/// Rate, P50 and P99 of a row: "test","rps","avg","min","p50","p95","p99","max".
fn figures(row: &str) -> Option<[f64; 3]> {
    let cells: Vec<f64> =
        row.split(',').skip(1).map(|cell| cell.trim_matches('"').parse()).collect::<Result<_, _>>().ok()?;
    Some([*cells.first()?, *cells.get(3)?, *cells.get(5)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_latencies_are_read_from_a_row_of_redis_benchmark() {
        let row = r#""GET","68181.82","0.178","0.056","0.167","0.271","0.359","0.647""#;
        assert_eq!(figures(row), Some([68181.82, 0.167, 0.359]));
        assert_eq!(figures(r#""test","rps","avg_latency_ms""#), None);
    }

    #[test]
    fn a_key_has_16_bytes() {
        assert_eq!(key(KEYS - 1), "key:000000099999");
        assert_eq!(key(0).len(), 16);
    }
}
