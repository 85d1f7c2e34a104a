//! Server processes: start on a CPU, wait until they answer, read their CPU time, end.
//!
//! CPU time is the scheduler's own count in nanoseconds (`/proc/PID/task/TID/schedstat`, first
//! field), summed over all threads of the server and of its descendants. It includes what the kernel
//! does for them: system calls, io_uring workers and the network softirq run on their behalf. The
//! figure of a running thread may be one scheduler tick old. Threads that ended between two readings
//! are missing; [`CpuTime::check_against`] notices when that matters.
//!
//! Not here: what runs against them (`wrk`), the order of things (`ab`).

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustix::thread::CpuSet;
use tempfile::NamedTempFile;

/// How long a server may take to accept, and to end after `SIGTERM`.
const START_MAX: Duration = Duration::from_secs(10);
const STOP_MAX: Duration = Duration::from_secs(3);

/// Longest answer the probe reads: a download of a megabyte among them.
const ANSWER_LEN_MAX: usize = 4 << 20;

/// Starts `command` with its affinity set to `cpu`, which its threads and children inherit.
pub(crate) fn spawn_on(cpu: usize, mut command: Command) -> io::Result<Child> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no CPU {cpu}")));
    }
    // A thread of its own: a child inherits the affinity of the thread that starts it.
    let starter = thread::spawn(move || {
        let mut set = CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)
            .map_err(|error| io::Error::new(error.kind(), format!("CPU {cpu}: {error}")))?;
        command.spawn()
    });
    starter.join().unwrap_or_else(|_| Err(io::Error::other("the starting thread panicked")))
}

/// A TCP port of 127.0.0.1 nobody listens on at this moment.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A running server; ended when dropped, first politely.
pub(crate) struct Running {
    child: Child,
    stderr: NamedTempFile,
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
}

impl Running {
    /// Starts `words`, on `cpu` if one is given, and waits until `port` accepts, at most 10 s.
    ///
    /// # Errors
    /// Why it did not start, with the end of what it wrote to standard error.
    pub(crate) fn start(words: &[String], cpu: Option<usize>, port: u16) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("empty command")?;
        let stderr = NamedTempFile::new().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(stderr.reopen().map_err(|error| error.to_string())?);
        let child = match cpu {
            Some(cpu) => spawn_on(cpu, command),
            None => command.spawn(),
        };
        let child = child.map_err(|error| format!("{program}: {error}"))?;
        let mut running = Self { child, stderr, port };
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Ok(Some(status)) = running.child.try_wait() {
                return Err(format!("{program} ended early ({status}){}", running.last_words()));
            }
            if start.elapsed() > START_MAX {
                let seconds = START_MAX.as_secs();
                return Err(format!("{program} does not accept within {seconds} s{}", running.last_words()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    /// Asks once and returns the length of the whole answer in bytes.
    ///
    /// # Errors
    /// A status other than 200, or an answer without `Content-Length`.
    pub(crate) fn probe(&self, path: &str) -> Result<usize, String> {
        let ask = || -> io::Result<Result<usize, String>> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.set_read_timeout(Some(START_MAX))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
            let mut bytes = Vec::new();
            let mut chunk = [0; 4096];
            loop {
                let len = stream.read(&mut chunk)?;
                bytes.extend_from_slice(&chunk[..len]);
                match answer_len(&bytes) {
                    Ok(Some(expected)) if bytes.len() >= expected => return Ok(Ok(expected)),
                    Err(error) => return Ok(Err(error)),
                    _ if len == 0 || bytes.len() > ANSWER_LEN_MAX => {
                        return Ok(Err(format!("no whole answer in {} bytes", bytes.len())));
                    }
                    Ok(_) => {}
                }
            }
        };
        ask().unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time so far of the server and its descendants.
    pub(crate) fn cpu_time(&self) -> io::Result<CpuTime> {
        cpu_time(self.child.id())
    }

    /// The last lines it wrote to standard error, for an error message.
    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.stderr.path()).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.iter().rev().map(|line| format!("\n  {line}")).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let start = Instant::now();
        while let Ok(None) = self.child.try_wait() {
            if start.elapsed() > STOP_MAX {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Length of the answer `bytes` start with, once its head is complete.
pub(crate) fn answer_len(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes).map_err(|error| format!("not HTTP: {error}"))? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return Ok(None),
    };
    if response.code != Some(200) {
        return Err(format!("status {} instead of 200", response.code.unwrap_or(0)));
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length =
        length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    length.map(|body| Some(head + body)).ok_or_else(|| "no Content-Length".to_owned())
}

/// CPU time of a process tree, counted twice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    /// The scheduler's count, nanoseconds.
    pub(crate) exact_ns: u64,
    /// User and system time in clock ticks of 10 ms, sampled, ended threads included.
    ticks: u64,
}

impl CpuTime {
    /// Time passed since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            exact_ns: self.exact_ns.saturating_sub(earlier.exact_ns),
            ticks: self.ticks.saturating_sub(earlier.ticks),
        }
    }

    /// Says so when the exact count misses more than a fifth of the sampled one (and 100 ms): threads
    /// or children came and went unseen.
    pub(crate) fn check_against(self) -> Result<(), String> {
        let sampled_ns = self.ticks * 10_000_000;
        if self.exact_ns + sampled_ns / 5 + 100_000_000 >= sampled_ns {
            return Ok(());
        }
        Err(format!(
            "{} ms of CPU by the scheduler, {} ms by ticks",
            self.exact_ns / 1_000_000,
            self.ticks * 10
        ))
    }
}

fn cpu_time(root: u32) -> io::Result<CpuTime> {
    cpu_time_of(&tree(root)?)
}

/// CPU time so far of these processes; the first one must be alive.
pub(crate) fn cpu_time_of(pids: &[u32]) -> io::Result<CpuTime> {
    let mut sum = CpuTime::default();
    for &pid in pids {
        let one = || -> io::Result<CpuTime> {
            let mut exact_ns = 0;
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let text = fs::read_to_string(task?.path().join("schedstat"))?;
                exact_ns += first_number(&text).ok_or_else(|| io::Error::other("unreadable schedstat"))?;
            }
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields = stat_fields(&stat).ok_or_else(|| io::Error::other("unreadable stat"))?;
            Ok(CpuTime { exact_ns, ticks: fields.utime + fields.stime })
        };
        match one() {
            Ok(time) => {
                sum.exact_ns += time.exact_ns;
                sum.ticks += time.ticks;
            }
            // A descendant that ended meanwhile; of the server itself it is an error.
            Err(error) if pids.first() == Some(&pid) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(sum)
}

/// `root` and all its descendants now alive.
pub(crate) fn tree(root: u32) -> io::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some(fields) = stat_fields(&stat) {
            children.entry(fields.parent).or_default().push(pid);
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(pid) = tree.get(next) {
        tree.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(tree)
}

/// CPU time in nanoseconds of all children this process has waited for, by ticks of 10 ms.
pub(crate) fn waited_children_ns() -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat_fields(&stat).ok_or_else(|| io::Error::other("unreadable stat"))?;
    Ok(fields.children * 10_000_000)
}

/// Busy time of one CPU in nanoseconds by ticks of 10 ms: everything but idle and iowait.
pub(crate) fn cpu_busy_ns(cpu: usize) -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    busy_ticks(&stat, cpu)
        .map(|ticks| ticks * 10_000_000)
        .ok_or_else(|| io::Error::other(format!("no CPU {cpu}")))
}

fn busy_ticks(stat: &str, cpu: usize) -> Option<u64> {
    let prefix = format!("cpu{cpu} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&prefix))?;
    // user nice system idle iowait irq softirq steal (proc_stat(5)); guest time is part of user.
    let fields: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = fields[..] else { return None };
    Some(user + nice + system + irq + softirq + steal)
}

struct StatFields {
    parent: u32,
    utime: u64,
    stime: u64,
    /// User and system time of waited-for children.
    children: u64,
}

/// Reads the fields behind the command name, which may itself hold blanks and brackets
/// (`proc_pid_stat(5)`: 4 ppid, 14 utime, 15 stime, 16 cutime, 17 cstime).
fn stat_fields(stat: &str) -> Option<StatFields> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(StatFields {
        parent: u32::try_from(number(4)?).ok()?,
        utime: number(14)?,
        stime: number(15)?,
        children: number(16)? + number(17)?,
    })
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_port().unwrap();
        assert_ne!(port, 0);
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 42 7 7 0 -1 4194304 1 2 3 4 100 20 3000 40000 20 0 1 0";
        let fields = stat_fields(stat).unwrap();
        assert_eq!((fields.parent, fields.utime, fields.stime, fields.children), (42, 100, 20, 43_000));
        assert!(stat_fields("7 (a) S 42").is_none());
    }

    #[test]
    fn busy_time_leaves_out_idle_and_iowait_and_picks_the_right_cpu() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 1 1 1 1 1 1 1 1 0 0\ncpu10 1 2 4 1000 2000 8 16 32 64 64\n";
        assert_eq!(busy_ticks(stat, 10), Some(63));
        assert_eq!(busy_ticks(stat, 1), Some(6));
        assert_eq!(busy_ticks(stat, 2), None);
    }

    #[test]
    fn an_answer_is_whole_with_its_declared_body() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-length: 5\r\n\r\nhello";
        assert_eq!(answer_len(answer), Ok(Some(answer.len())));
        assert_eq!(answer_len(&answer[..20]), Ok(None));
        assert!(answer_len(b"HTTP/1.1 404 Not Found\r\nContent-length: 0\r\n\r\n").is_err());
        assert!(answer_len(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn burnt_cpu_of_a_child_on_one_cpu_is_counted() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "/bin/sh -c 'while :; do :; done' & wait"]).stdin(Stdio::null());
        let mut child = spawn_on(0, command).unwrap();
        let pid = child.id();
        let before = cpu_time(pid).unwrap();
        let start = Instant::now();
        while cpu_time(pid).unwrap().since(before).exact_ns < 50_000_000 {
            assert!(start.elapsed() < Duration::from_secs(20), "the grandchild's CPU is not seen");
            thread::sleep(Duration::from_millis(10));
        }
        let family = tree(pid).unwrap();
        assert_eq!(family.len(), 2);
        for pid in family.into_iter().rev() {
            let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            let set = rustix::thread::sched_getaffinity(Some(pid)).unwrap();
            assert!(set.is_set(0) && set.count() == 1);
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_large_gap_between_the_two_counts_is_named() {
        let fair = CpuTime { exact_ns: 850_000_000, ticks: 100 };
        assert!(fair.check_against().is_ok());
        let lost = CpuTime { exact_ns: 300_000_000, ticks: 100 };
        assert!(lost.check_against().is_err());
    }
}
