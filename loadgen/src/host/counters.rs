//! Counters of the host: read before and after the measured window, and told apart.
//!
//! Fields are found by their names, as kernels add some in between. Those of `proc/net` are of the network
//! namespace of this process, softnet and CPU times are of the whole host.
//!
//! Not here: what a difference means (`verdict`).

use std::collections::BTreeMap;
use std::path::Path;

use super::read;
use crate::model::HostUse;

/// One look at the counters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    retransmits: Option<u64>,
    listen_overflows: Option<u64>,
    listen_drops: Option<u64>,
    /// Packets dropped, a row for each CPU that is online. The kernel keeps 32 bits.
    softnet: Option<Vec<u32>>,
    /// By number.
    cpus: BTreeMap<usize, CpuTime>,
}

/// CPU time, in ticks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct CpuTime {
    total: u64,
    steal: u64,
}

impl Counters {
    /// Looks at all of them. What cannot be read is left out.
    pub fn read(root: &Path) -> Counters {
        let snmp = read(root, "proc/net/snmp").unwrap_or_default();
        let netstat = read(root, "proc/net/netstat").unwrap_or_default();
        Counters {
            retransmits: named(&snmp, "Tcp:", "RetransSegs"),
            listen_overflows: named(&netstat, "TcpExt:", "ListenOverflows"),
            listen_drops: named(&netstat, "TcpExt:", "ListenDrops"),
            softnet: read(root, "proc/net/softnet_stat").and_then(|text| softnet(&text)),
            cpus: read(root, "proc/stat").map(|text| cpu_times(&text)).unwrap_or_default(),
        }
    }

    /// What happened since `before`. Time stolen is that of `cpus`, or of all CPUs if that is empty. Fields
    /// that are no counters here are as in [`HostUse::default`].
    ///
    /// A counter that went backwards, or a table with other rows, is None: something else was put in its
    /// place.
    pub fn since(&self, before: &Counters, cpus: &[usize]) -> HostUse {
        let past = |now: Option<u64>, then: Option<u64>| now?.checked_sub(then?);
        HostUse {
            retransmits: past(self.retransmits, before.retransmits),
            listen_overflows: past(self.listen_overflows, before.listen_overflows),
            listen_drops: past(self.listen_drops, before.listen_drops),
            softnet_drops: self.softnet_since(before),
            steal_share: self.steal_since(before, cpus),
            ..HostUse::default()
        }
    }

    fn softnet_since(&self, before: &Counters) -> Option<u64> {
        let (now, then) = (self.softnet.as_ref()?, before.softnet.as_ref()?);
        let rows = now.iter().zip(then).map(|(now, then)| u64::from(now.wrapping_sub(*then)));
        (now.len() == then.len()).then(|| rows.sum())
    }

    fn steal_since(&self, before: &Counters, cpus: &[usize]) -> Option<f64> {
        let (mut total, mut steal) = (0, 0);
        for (cpu, now) in self.cpus.iter().filter(|(cpu, _)| cpus.is_empty() || cpus.contains(cpu)) {
            if let Some(then) = before.cpus.get(cpu) {
                total += now.total.saturating_sub(then.total);
                steal += now.steal.saturating_sub(then.steal);
            }
        }
        (total > 0).then(|| steal as f64 / total as f64)
    }
}

/// A value from a pair of lines that begin with `group`, the first with names and the second with numbers.
fn named(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let index = names.split_ascii_whitespace().position(|found| found == name)?;
    values.split_ascii_whitespace().nth(index)?.parse().ok()
}

/// Column 2 of each row, hexadecimal (`net/core/net-procfs.c`, `softnet_seq_show`).
fn softnet(text: &str) -> Option<Vec<u32>> {
    text.lines().map(|line| u32::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok()).collect()
}

/// Lines `cpuN user nice system idle iowait irq softirq steal guest guest_nice` (proc_stat(5)). The time of
/// guests is within `user` and `nice` already. Kernels before 2.6.11 had no `steal`.
fn cpu_times(text: &str) -> BTreeMap<usize, CpuTime> {
    let time = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
        // The first line is of all CPUs, and has no number right behind the name.
        let cpu = line.as_bytes().get(3)?.is_ascii_digit().then(|| fields.next())??.parse().ok()?;
        let ticks: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
        let steal = *ticks.get(7)?;
        Some((cpu, CpuTime { total: ticks.iter().fold(0, |sum, &tick| sum.saturating_add(tick)), steal }))
    };
    text.lines().filter_map(time).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::fake::{machine, put};

    const SNMP: &str = "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
        Tcp: RtoAlgorithm MaxConn InSegs OutSegs RetransSegs InErrs\nTcp: 1 -1 100 90 7 0\n";
    const NETSTAT: &str = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 3 5\n\
        IpExt: InNoRoutes ListenDrops\nIpExt: 0 99\n";
    const SOFTNET: &str = "00000011 00000002 00000000\n00000d42 fffffffe 00000000\n";
    const STAT: &str = "cpu  300 0 0 0 0 0 0 30 0 0\ncpu0 100 0 0 100 0 0 0 10 50 0\n\
        cpu1 200 0 0 0 0 0 0 20 0 0\nintr 12 0\n";

    fn counted() -> tempfile::TempDir {
        machine(&[
            ("proc/net/snmp", SNMP),
            ("proc/net/netstat", NETSTAT),
            ("proc/net/softnet_stat", SOFTNET),
            ("proc/stat", STAT),
        ])
    }

    #[test]
    fn counters_are_found_by_name_and_told_apart() {
        let root = counted();
        let before = Counters::read(root.path());
        put(root.path(), "proc/net/snmp", "Tcp: RetransSegs New\nTcp: 17 4\n");
        put(root.path(), "proc/net/netstat", &NETSTAT.replace("0 3 5", "0 4 9"));
        let stat = "cpu0 160 0 0 130 0 0 0 20 900 0\ncpu1 290 0 0 0 0 0 0 30 0 0\n";
        put(root.path(), "proc/stat", stat);
        let host = Counters::read(root.path()).since(&before, &[0]);
        assert_eq!(host.retransmits, Some(10));
        assert_eq!((host.listen_overflows, host.listen_drops), (Some(1), Some(4)));
        assert_eq!(host.softnet_drops, Some(0));
        assert_eq!(host.steal_share, Some(0.1), "10 of 60 + 30 + 10; guests count as user");
        assert_eq!(Counters::read(root.path()).since(&before, &[]).steal_share, Some(0.1));
        assert_eq!(Counters::read(root.path()).since(&before, &[7]).steal_share, None, "no such CPU");
        assert_eq!((host.same_host, host.server_cpus.len()), (false, 0));
    }

    #[test]
    fn softnet_counts_in_hexadecimal_and_past_its_32_bits() {
        let root = counted();
        let before = Counters::read(root.path());
        put(root.path(), "proc/net/softnet_stat", "00000011 0000001a 0\n00000d42 00000001 0\n");
        assert_eq!(Counters::read(root.path()).since(&before, &[]).softnet_drops, Some(24 + 3));
        put(root.path(), "proc/net/softnet_stat", "00000011 0000001a 0\n");
        let one_less = Counters::read(root.path()).since(&before, &[]);
        assert_eq!(one_less.softnet_drops, None, "a CPU went offline: the rows are others");
    }

    #[test]
    fn a_counter_that_went_backwards_is_unknown() {
        let root = counted();
        let before = Counters::read(root.path());
        put(root.path(), "proc/net/snmp", &SNMP.replace(" 7 0", " 6 0"));
        assert_eq!(Counters::read(root.path()).since(&before, &[]).retransmits, None);
    }

    #[test]
    fn a_machine_that_shows_nothing_or_nonsense_has_no_counters() {
        let nonsense = [
            ("proc/net/snmp", "Tcp: RetransSegs\n"),
            ("proc/net/netstat", "TcpExt: ListenDrops ListenOverflows\nTcpExt: 1\n"),
            ("proc/net/softnet_stat", "00000011\n"),
            ("proc/stat", "cpu\ncpux 1 2\ncpu0 1 2 3 4 5 6 7\ncpu1 a\n"),
        ];
        for root in [machine(&[]), machine(&nonsense)] {
            let seen = Counters::read(root.path());
            let drops = seen.listen_drops;
            assert_eq!(seen, Counters { listen_drops: drops, ..Counters::default() });
            let host = seen.since(&seen, &[]);
            assert_eq!(host, HostUse { listen_drops: drops.map(|_| 0), ..HostUse::default() });
        }
    }

    #[test]
    fn this_machine_has_every_counter() {
        let seen = Counters::read(Path::new("/"));
        assert!(seen.retransmits.is_some());
        assert!(seen.listen_overflows.is_some());
        assert!(seen.listen_drops.is_some());
        assert!(!seen.softnet.unwrap().is_empty());
        assert!(!seen.cpus.is_empty());
    }
}
