//! A client of memcached that asks as redis-benchmark does: so many connections, each with a batch under way, the next
//! sent once the last reply of the one before is here.
//!
//! One thread on one CPU. Latencies are those of batches. Text protocol of memcached, `doc/protocol.txt` of its source.
//!
//! Not here: anything but GET and SET of the keys of the benchmark.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Instant;

use corelane_base::Rng;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::CpuSet;

use super::servers::{Asked, key};
use super::{CONNECTIONS, Command, KEYS, Load, VALUE_LEN, as_f64};

/// One connection and its batch.
struct Conn {
    stream: TcpStream,
    /// Replies still to come.
    left: u32,
    sent: Instant,
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
}

/// Sends `commands` from a thread on `cpu`.
///
/// # Errors
/// The server closes, or says something else than asked for.
pub(super) fn ask(port: u16, load: Load, commands: u64, cpu: usize) -> Result<Asked, String> {
    let asking = thread::spawn(move || {
        let mut set = CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set).map_err(|error| format!("CPU {cpu}: {error}"))?;
        run(port, load, commands).map_err(|error| format!("memcached: {error}"))
    });
    asking.join().unwrap_or_else(|_| Err("the client of memcached panicked".to_owned()))
}

fn run(port: u16, load: Load, commands: u64) -> std::io::Result<Asked> {
    let mut rng = Rng::new(1);
    let mut conns = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        conns.push(Conn { stream, left: 0, sent: Instant::now(), partial: Vec::new() });
    }
    let start = Instant::now();
    let mut unsent = commands;
    let mut latencies: Vec<u32> = Vec::new();
    for conn in &mut conns {
        conn.send(load, &mut unsent, &mut rng)?;
    }
    let mut ready = Vec::new();
    while conns.iter().any(|conn| conn.left > 0) {
        let mut polled: Vec<PollFd<'_>> =
            conns.iter().map(|conn| PollFd::new(&conn.stream, PollFlags::IN)).collect();
        poll(&mut polled, None)?;
        ready.clear();
        ready.extend(polled.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(at, _)| at));
        drop(polled);
        for &at in &ready {
            let conn = &mut conns[at];
            if conn.read(load.command)? {
                let ns = conn.sent.elapsed().as_nanos();
                latencies.push(u32::try_from(ns / 100).unwrap_or(u32::MAX));
                conn.send(load, &mut unsent, &mut rng)?;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    // In tenths of a microsecond.
    let at =
        |share: usize| latencies.get(latencies.len() * share / 100).map_or(0.0, |&t| f64::from(t) / 10.0);
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let client_ns = u64::try_from(clock.tv_sec * 1_000_000_000 + clock.tv_nsec).unwrap_or(0);
    Ok(Asked { commands_per_s: as_f64(commands.into()) / seconds, p50_us: at(50), p99_us: at(99), client_ns })
}

impl Conn {
    /// Sends the next batch, if there is one.
    fn send(&mut self, load: Load, unsent: &mut u64, rng: &mut Rng) -> std::io::Result<()> {
        let count = u32::try_from((*unsent).min(load.pipeline.into())).unwrap_or(load.pipeline);
        *unsent -= u64::from(count);
        self.left = count;
        let mut bytes = Vec::with_capacity(count as usize * 80);
        for _ in 0..count {
            let number = u32::try_from(rng.below(KEYS.into())).unwrap_or(0);
            match load.command {
                Command::Get => bytes.extend_from_slice(format!("get {}\r\n", key(number)).as_bytes()),
                Command::Set => bytes.extend(set(number)),
            }
        }
        self.sent = Instant::now();
        self.stream.write_all(&bytes)
    }

    /// Reads what is here; whether that ended the batch.
    fn read(&mut self, command: Command) -> std::io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let len = self.stream.read(&mut buffer)?;
        if len == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.partial.extend_from_slice(&buffer[..len]);
        let mut start = 0;
        while let Some(end) = memchr::memchr(b'\n', &self.partial[start..]) {
            let line = &self.partial[start..start + end];
            start += end + 1;
            match (command, line) {
                (Command::Get, b"END\r") | (Command::Set, b"STORED\r") => {
                    self.left = self.left.saturating_sub(1)
                }
                (Command::Get, line) if line.starts_with(b"VALUE ") || line.len() == VALUE_LEN + 1 => {}
                (_, line) => {
                    let said = String::from_utf8_lossy(line).into_owned();
                    return Err(std::io::Error::other(format!("it says {said:?}")));
                }
            }
        }
        self.partial.drain(..start);
        Ok(self.left == 0)
    }
}

/// A SET of a key.
pub(super) fn set(number: u32) -> Vec<u8> {
    format!("set {} 0 0 {VALUE_LEN}\r\n{}\r\n", key(number), "x".repeat(VALUE_LEN)).into_bytes()
}
