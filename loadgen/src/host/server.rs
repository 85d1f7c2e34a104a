//! Which process listens at an address of this host, and on which CPUs its threads work.
//!
//! A listening socket has an inode (`/proc/net/tcp`), and whoever holds a descriptor of that inode
//! (`/proc/PID/fd`) may accept there. Several may: siblings that share a port or inherited it. Each of their
//! threads has its CPU time and the CPU it was on last (`/proc/PID/task/TID/stat`); two looks tell which
//! threads did the work.
//!
//! Not found: processes of other users (their descriptors are hidden), sockets that only a ring holds (direct
//! descriptors), servers behind a proxy or in another network namespace. This process itself is left out: it
//! may hold a null server, whose threads and the workers cannot be told apart here.
//!
//! Not here: what it means when a worker shares such a CPU (`verdict`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use corelane_sys::cpu::parse_cpu_list;
use corelane_sys::topology;

use super::{read, read_word};

/// Processes that are looked at; busy hosts have a thousand. Those beyond are not seen.
const PROCESSES_MAX: usize = 10_000;
/// Descriptors of one process that are looked at, lowest first: a server opens its listeners before
/// connections.
const DESCRIPTORS_MAX: usize = 4096;
/// Descriptors in all. About a microsecond each: 0.2 s at most.
const DESCRIPTORS_TOTAL_MAX: usize = 200_000;
/// Threads that are looked at, of all processes found.
const THREADS_MAX: usize = 4096;

/// Of the time between two looks, a thread that does the server's work uses more than this, percent. Below it
/// are timers and house-keeping.
const BUSY_PERCENT: u64 = 5;

/// State of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`, include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// One look at the threads of who listens at an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerThreads {
    processes: Vec<u32>,
    threads: BTreeMap<(u32, u32), Thread>,
    /// Hundredths of a second since the host started, which is the unit of CPU times as well: `USER_HZ` is
    /// 100 wherever this runs.
    at: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Thread {
    /// When it began: another one may get the same number.
    began: u64,
    /// CPU time, user and system.
    used: u64,
    /// The CPU it was on last.
    cpu: usize,
    /// Those it may be on, rising.
    allowed: Vec<usize>,
}

impl ServerThreads {
    /// Who listens at `addr`, and what their threads have used so far. Scans the descriptors of all
    /// processes: milliseconds to 0.2 s. None if nobody is found.
    pub fn find(root: &Path, addr: SocketAddr) -> Option<ServerThreads> {
        let inodes = listeners(root, addr);
        if inodes.is_empty() {
            return None;
        }
        ServerThreads::of(root, holders(root, &inodes))
    }

    /// The same processes again: a second look without a scan.
    pub fn again(&self, root: &Path) -> Option<ServerThreads> {
        ServerThreads::of(root, self.processes.clone())
    }

    /// The processes, rising.
    pub fn processes(&self) -> &[u32] {
        &self.processes
    }

    /// The CPUs of threads that used more than 5 % of the time since `before`, rising.
    ///
    /// Threads that may be on the same CPUs and are at least as many as these occupy all of them. Where they
    /// are fewer, each counts with the CPU that it was on last: which others it visits is not known.
    pub fn cpus_since(&self, before: &ServerThreads) -> Vec<usize> {
        let passed = self.at.saturating_sub(before.at);
        let used = |id: &(u32, u32), now: &Thread| {
            let then = before.threads.get(id).filter(|then| then.began == now.began);
            now.used.saturating_sub(then.map_or(0, |then| then.used))
        };
        let is_busy = |id: &(u32, u32), now: &Thread| used(id, now) * 100 > passed * BUSY_PERCENT;
        let mut groups: BTreeMap<&[usize], Vec<usize>> = BTreeMap::new();
        for (_, thread) in self.threads.iter().filter(|(id, thread)| is_busy(id, thread)) {
            groups.entry(&thread.allowed).or_default().push(thread.cpu);
        }
        let mut cpus = BTreeSet::new();
        for (allowed, last) in groups {
            let fills = !allowed.is_empty() && last.len() >= allowed.len();
            cpus.extend(if fills { allowed.to_vec() } else { last });
        }
        cpus.into_iter().collect()
    }

    fn of(root: &Path, processes: Vec<u32>) -> Option<ServerThreads> {
        let mut threads = BTreeMap::new();
        for &pid in &processes {
            for tid in numbers(root, &format!("proc/{pid}/task")) {
                if threads.len() == THREADS_MAX {
                    break;
                }
                if let Some(thread) = thread(root, pid, tid) {
                    threads.insert((pid, tid), thread);
                }
            }
        }
        let at = uptime(root)?;
        (!threads.is_empty()).then_some(ServerThreads { processes, threads, at })
    }
}

/// The CPUs that share a core with one of `cpus` without being among them (hyper-threads), rising.
pub fn cpus_beside(root: &Path, cpus: &[usize]) -> Vec<usize> {
    let all: BTreeSet<usize> = cpus.iter().flat_map(|&cpu| topology::siblings(root, cpu)).collect();
    all.into_iter().filter(|cpu| !cpus.contains(cpu)).collect()
}

/// The inodes of the sockets that take connections to `addr`. As the kernel chooses: who listens at the very
/// address before who listens at all of them, and an IPv6 wildcard for IPv4 where there is none of its own.
fn listeners(root: &Path, addr: SocketAddr) -> BTreeSet<u64> {
    let ip = match addr.ip().to_canonical() {
        // Connecting there is connecting to this host.
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let mut ranked: BTreeMap<u8, BTreeSet<u64>> = BTreeMap::new();
    for file in ["proc/net/tcp", "proc/net/tcp6"] {
        let text = read(root, file).unwrap_or_default();
        for (local, inode) in
            text.lines().filter_map(listener).filter(|(local, _)| local.port() == addr.port())
        {
            let local = local.ip();
            let rank = match (local, ip) {
                _ if local.to_canonical() == ip => 0,
                (IpAddr::V4(local), IpAddr::V4(_)) if local.is_unspecified() => 1,
                (IpAddr::V6(local), IpAddr::V6(_)) if local.is_unspecified() => 1,
                (IpAddr::V6(local), IpAddr::V4(_)) if local.is_unspecified() => 2,
                _ => continue,
            };
            ranked.entry(rank).or_default().insert(inode);
        }
    }
    ranked.into_values().next().unwrap_or_default()
}

/// A line of `/proc/net/tcp` or `tcp6` that is of a listening socket: its address and its inode.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    if state != LISTEN {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(ip)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, to) in bytes.chunks_exact_mut(4).enumerate() {
                to.copy_from_slice(&word(ip.get(index * 8..index * 8 + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?), inode))
}

/// Four bytes of an address: written as a number in the order of this machine, meant as bytes.
fn word(hex: &str) -> Option<[u8; 4]> {
    u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
}

/// The processes that have a descriptor of one of the inodes, rising, without this one.
fn holders(root: &Path, inodes: &BTreeSet<u64>) -> Vec<u32> {
    let own = std::fs::read_link(root.join("proc/self")).ok();
    let own: Option<u32> = own.and_then(|link| link.file_name()?.to_str()?.parse().ok());
    let mut left = DESCRIPTORS_TOTAL_MAX;
    let mut found = Vec::new();
    let processes = numbers(root, "proc").into_iter().filter(|&pid| Some(pid) != own);
    for pid in processes.take(PROCESSES_MAX) {
        let dir = format!("proc/{pid}/fd");
        for fd in numbers(root, &dir).into_iter().take(DESCRIPTORS_MAX.min(left)) {
            left -= 1;
            let inode = std::fs::read_link(root.join(format!("{dir}/{fd}"))).ok().and_then(|link| {
                link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
            });
            if inode.is_some_and(|inode| inodes.contains(&inode)) {
                found.push(pid);
                break;
            }
        }
    }
    found
}

/// The names in a directory that are numbers, rising; no more than twice [`PROCESSES_MAX`] names are looked
/// at.
fn numbers(root: &Path, dir: &str) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(root.join(dir)) else { return Vec::new() };
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let mut found: Vec<u32> = entries.flatten().take(2 * PROCESSES_MAX).filter_map(number).collect();
    found.sort_unstable();
    found
}

/// Fields of proc_pid_stat(5), counted from 1; the second is a name in brackets that may have anything in it.
fn thread(root: &Path, pid: u32, tid: u32) -> Option<Thread> {
    let text = read(root, format!("proc/{pid}/task/{tid}/stat"))?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let status = read(root, format!("proc/{pid}/task/{tid}/status")).unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Some(Thread {
        began: field(22)?,
        used: field(14)?.saturating_add(field(15)?),
        cpu: usize::try_from(field(39)?).ok()?,
        allowed: allowed.and_then(|list| parse_cpu_list(list.trim()).ok()).unwrap_or_default(),
    })
}

/// Hundredths of a second of `/proc/uptime`, which has two decimals.
fn uptime(root: &Path) -> Option<u64> {
    let text = read_word(root, "proc/uptime")?;
    let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let (seconds, hundredths): (u64, u64) = (seconds.parse().ok()?, hundredths.get(..2)?.parse().ok()?);
    seconds.checked_mul(100)?.checked_add(hundredths)
}

#[cfg(test)]
mod tests;
