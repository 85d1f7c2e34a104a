//! Files of the kernel, read as text: what is not understood is left out.
//!
//! Not here: which files (`gather`), metrics of a node (`node`).

use corelane_sys::cpu::parse_cpu_list;
use corelane_sys::limits::Rlimit;

/// What one CPU did with packets (`/proc/net/softnet_stat`, net/core/net-procfs.c).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Softnet {
    /// Which CPU.
    pub cpu: usize,
    /// Packets it took.
    pub processed: u64,
    /// Packets dropped because `net.core.netdev_max_backlog` were waiting.
    pub dropped: u64,
    /// Times it stopped with packets left, at `net.core.netdev_budget`.
    pub squeezed: u64,
}

/// A counter of `/proc/net/netstat`: a line of names and a line of values for each group.
pub(super) fn netstat(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(known, _)| *known == name)?.1.parse().ok()
}

/// A line for each CPU: hexadecimal columns, the thirteenth of which is the CPU on newer kernels.
pub(super) fn softnet(text: &str) -> Vec<Softnet> {
    let line = |(at, line): (usize, &str)| {
        let columns: Vec<u64> =
            line.split_whitespace().map_while(|word| u64::from_str_radix(word, 16).ok()).collect();
        let cpu = columns.get(12).and_then(|&cpu| usize::try_from(cpu).ok()).unwrap_or(at);
        Some(Softnet {
            cpu,
            processed: *columns.first()?,
            dropped: *columns.get(1)?,
            squeezed: *columns.get(2)?,
        })
    };
    text.lines().enumerate().filter_map(line).collect()
}

/// A limit of `/proc/PID/limits` by the name in its first column.
pub(super) fn rlimit(text: &str, name: &str) -> Option<Rlimit> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut numbers = rest.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    });
    Some(Rlimit { soft: numbers.next()??, hard: numbers.next()?? })
}

/// The value of a line `name value`, like those of `cpu.stat`.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The value of a line `name: value`, like those of `/proc/PID/status`.
pub(super) fn status<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A CPU list; nothing if it is none.
pub(super) fn cpus(text: &str) -> Vec<usize> {
    parse_cpu_list(text.trim()).unwrap_or_default()
}
