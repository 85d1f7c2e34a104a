//! Processes beside this one: the servers, the spinner, and stopping and continuing them.
//!
//! A child is this program itself with hidden words in front. It ends when its parent does (prctl(2),
//! `PR_SET_PDEATHSIG`), when its handle is dropped, or after [`LIFE`].
//!
//! # Rules
//! 1. Only children that were started here are signalled, by their process id, and not after they were
//!    awaited.
//! 2. A child that was stopped is continued, whatever happens in between.
//!
//! Not here: what the queue server does (`server`).

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use corelane_sys::clock::mono_ns;
use corelane_sys::cpu;
use loadgen::null::{self, NullConfig};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::lindley::Stop;
use crate::server::{self, Habit};

/// The first word of a child.
pub(crate) const MARK: &str = "--as-child";

/// No child lives longer.
const LIFE: Duration = Duration::from_secs(120);

/// A child that ends when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    fn start(words: &[String]) -> Result<Process, String> {
        let program = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut command = Command::new(program);
        command.arg(MARK).args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().map(Process).map_err(|error| format!("cannot start a child: {error}"))
    }

    /// Keeps the CPU busy until it is dropped.
    pub(crate) fn spinner(cpu: usize) -> Result<Process, String> {
        let mut spinner = Process::start(&["spin".into(), cpu.to_string()])?;
        spinner.first_line()?;
        Ok(spinner)
    }

    /// The null server on this CPU, for HTTP.
    pub(crate) fn null_server(cpu: usize) -> Result<(Process, SocketAddr), String> {
        Process::server(&["null".into(), cpu.to_string()])
    }

    /// The server with one queue, on this CPU.
    pub(crate) fn queue_server(cpu: usize, habit: Habit) -> Result<(Process, SocketAddr), String> {
        let numbers = [habit.mean_ns, habit.seed, habit.silent_every].map(|number| number.to_string());
        let words = ["queue".into(), cpu.to_string()];
        Process::server(&[&words[..], &numbers[..]].concat())
    }

    fn server(words: &[String]) -> Result<(Process, SocketAddr), String> {
        let mut process = Process::start(words)?;
        let line = process.first_line()?;
        let addr = line.parse().map_err(|_| format!("a child said {line:?}, which is no address"))?;
        Ok((process, addr))
    }

    fn first_line(&mut self) -> Result<String, String> {
        let out = self.0.stdout.take().ok_or("a child has no output")?;
        let mut line = String::new();
        match BufReader::new(out).read_line(&mut line) {
            Ok(count) if count > 0 => Ok(line.trim().to_owned()),
            _ => Err("a child ended before it was ready; it said why above".into()),
        }
    }

    /// How long it was ready to run and had no CPU, so far (`/proc/PID/schedstat`, the main thread).
    pub(crate) fn run_delay_ns(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.0.id())).ok()?;
        text.split_whitespace().nth(1)?.parse().ok()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and it is awaited all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a child does; `words` are those behind [`MARK`].
pub(crate) fn perform(words: &[String]) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| format!("prctl: {error}"))?;
    let number = |at: usize| -> Result<u64, String> {
        words.get(at).and_then(|word| word.parse().ok()).ok_or_else(|| format!("word {at} is no number"))
    };
    let cpu = usize::try_from(number(1)?).map_err(|error| error.to_string())?;
    cpu::pin_current_thread(cpu).map_err(|error| format!("cannot stay on CPU {cpu}: {error}"))?;
    match words.first().map(String::as_str) {
        Some("null") => {
            let stop = Arc::new(AtomicBool::new(false));
            end_in_time(Arc::clone(&stop));
            null::serve(&NullConfig::default(), &stop, |addr| println!("{addr}")).map(drop)
        }
        Some("queue") => {
            let habit = Habit { mean_ns: number(2)?, seed: number(3)?, silent_every: number(4)? };
            server::serve(habit, LIFE, |addr| println!("{addr}"))
        }
        Some("spin") => {
            println!("spinning");
            let end = mono_ns() + nanos(LIFE);
            while mono_ns() < end {}
            Ok(())
        }
        _ => Err(format!("no child is called {words:?}")),
    }
}

fn end_in_time(stop: Arc<AtomicBool>) {
    thread::spawn(move || {
        thread::sleep(LIFE);
        stop.store(true, Ordering::Release);
    });
}

/// Stops a process for a part of each second.
pub(crate) struct Stopper {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Stops, String>>,
}

/// When a process stood still.
pub(crate) struct Stops {
    /// On the monotonic clock: the middle of each kill(2) that did it.
    pub(crate) times: Vec<Stop>,
    /// The longest of these kill(2): what the times may be off by, twice.
    pub(crate) kill_ns_max: u64,
}

impl Stopper {
    /// Stops `pid` at `first_ns` of the monotonic clock and each second after that, `count` times, for
    /// `len_ns`.
    pub(crate) fn start(pid: Pid, first_ns: u64, count: u32, len_ns: u64) -> Stopper {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            cpu::set_timer_slack(1);
            let mut stops = Stops { times: Vec::new(), kill_ns_max: 0 };
            for at in 0..u64::from(count) {
                let from_ns = first_ns + at * 1_000_000_000;
                sleep_until(from_ns, &is_over);
                if is_over.load(Ordering::Acquire) {
                    break;
                }
                let from = stops.signal(pid, Signal::STOP);
                sleep_until(from_ns + len_ns, &is_over);
                let to = stops.signal(pid, Signal::CONT);
                stops.times.push((from?, to?));
            }
            Ok(stops)
        });
        Stopper { over, thread }
    }

    /// Waits for the last stop to end; no further one begins where `at_once`.
    pub(crate) fn end(self, at_once: bool) -> Result<Stops, String> {
        if at_once {
            self.over.store(true, Ordering::Release);
        }
        self.thread.join().unwrap_or_else(|_| Err("the thread that stops the server panicked".into()))
    }
}

impl Stops {
    fn signal(&mut self, pid: Pid, signal: Signal) -> Result<u64, String> {
        let before = mono_ns();
        kill_process(pid, signal).map_err(|error| format!("cannot signal the server: {error}"))?;
        let after = mono_ns();
        self.kill_ns_max = self.kill_ns_max.max(after - before);
        Ok(before.midpoint(after))
    }
}

fn sleep_until(at_ns: u64, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Acquire) {
        match at_ns.checked_sub(mono_ns()) {
            Some(left) if left > 0 => thread::sleep(Duration::from_nanos(left.min(50_000_000))),
            _ => return,
        }
    }
}

fn nanos(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap_or(u64::MAX)
}
