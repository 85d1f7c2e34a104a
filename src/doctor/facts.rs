//! What there is to know, as plain values: a machine that is made up looks like one that is read.
//!
//! Not here: where it is read from (`gather`), what follows (`rules`).

use corelane_base::Limits;
use corelane_sys::cgroup::{CpuQuota, MemoryLimit};
use corelane_sys::cpu::format_cpu_list;
use corelane_sys::limits::Rlimit;
use corelane_uring::SetupError;

use super::cards::Card;
use super::node::NodeNumbers;
use super::sysctl::Drift;
use super::text::Softnet;

/// A host, a process on it, and what is to run there.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Major and minor release of the kernel.
    pub release: (u32, u32),
    /// io_uring.
    pub ring: RingFacts,
    /// What the process may have.
    pub limits: LimitFacts,
    /// Shards and their CPUs.
    pub cpu: CpuFacts,
    /// Packets and connections.
    pub net: NetFacts,
    /// Whether huge pages are asked for, and what the kernel thinks of it (`transparent_hugepage/enabled`).
    pub huge_pages: Option<String>,
    /// Kernel settings that are not as `sysctl/` wants them.
    pub drift: Vec<Drift>,
    /// The time that counters were watched for, like `within 5s`; without it they are since the boot, and those of a node
    /// since its start.
    pub watched: Option<String>,
    /// The maxima that were asked for.
    pub maxima: Limits,
    /// What a node said of itself.
    pub node: Option<NodeNumbers>,
}

/// What io_uring is to this process.
#[derive(Clone, Debug, Default)]
pub struct RingFacts {
    /// `kernel.io_uring_disabled` forbids it: the level, and the group that may.
    pub forbidden: Option<(u8, Option<i32>)>,
    /// Mode of seccomp: 2 is a filter.
    pub seccomp: Option<u8>,
    /// What asking for rings answered; none if nobody asked.
    pub probe: Option<Result<Probe, SetupError>>,
}

/// Rings that were had.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Probe {
    /// Features, as a start shows them.
    pub granted: String,
    /// What is missing, and why.
    pub lacking: Vec<String>,
}

/// Limits of the process, beside what a node needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitFacts {
    /// Whose they are; none is this process.
    pub pid: Option<u32>,
    /// Open files.
    pub nofile: Option<Rlimit>,
    /// Open files that the maxima need.
    pub nofile_wanted: u64,
    /// Locked memory, bytes; none where it does not apply.
    pub memlock: Option<Rlimit>,
    /// Locked memory that rings of all shards are charged, bytes; 0 on kernels that do not charge.
    pub memlock_wanted: u64,
}

/// A shard as it would be placed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ShardAt {
    /// Its CPU, if it is pinned.
    pub cpu: Option<usize>,
    /// The lowest CPU of that core.
    pub core: Option<usize>,
    /// The memory node of that CPU.
    pub node: Option<usize>,
}

/// Shards and CPUs.
#[derive(Clone, Debug, Default)]
pub struct CpuFacts {
    /// Where shards would run; empty if they cannot.
    pub shards: Vec<ShardAt>,
    /// Whether somebody named the CPUs of shards.
    pub named: bool,
    /// Why they cannot, with what to do.
    pub refusal: Option<String>,
    /// Every CPU the process may use.
    pub allowed: Vec<ShardAt>,
    /// CPU time of the control group.
    pub quota: Option<CpuQuota>,
    /// Periods in which that was used up, and all periods.
    pub throttled: Option<(u64, u64)>,
    /// Memory of the control group, and what shards may come to use.
    pub memory: Option<(MemoryLimit, u64)>,
    /// CPUs of shards whose clock is governed otherwise than by `performance`, with the governor.
    pub governors: Vec<(usize, String)>,
    /// Where the time is from, if not from the CPU's counter although that is there.
    pub clocksource: Option<String>,
}

/// Packets and connections.
#[derive(Clone, Debug, Default)]
pub struct NetFacts {
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// `net.core.netdev_max_backlog`.
    pub netdev_max_backlog: Option<u64>,
    /// `net.core.netdev_budget`.
    pub netdev_budget: Option<u64>,
    /// Connections that found the queue of a listener full.
    pub listen_overflows: u64,
    /// Connections that a listener did not get, for whatever reason.
    pub listen_drops: u64,
    /// SYNs dropped because too many were half-open.
    pub syn_drops: u64,
    /// What each CPU did with packets.
    pub softnet: Vec<Softnet>,
    /// Network cards.
    pub cards: Vec<Card>,
}

impl Facts {
    /// How many shards there would be; one where that is not known.
    pub(super) fn shards(&self) -> usize {
        self.cpu.shards.len().max(1)
    }

    /// One CPU of each core the process may use, `node` only if it is given, rising; at most `count`.
    pub(super) fn one_of_each_core(&self, node: Option<usize>, count: usize) -> Vec<usize> {
        let mut cpus: Vec<(usize, usize)> = self
            .cpu
            .allowed
            .iter()
            .filter(|at| node.is_none() || at.node == node)
            .filter_map(|at| Some((at.core?, at.cpu?)))
            .collect();
        cpus.sort_unstable();
        cpus.dedup_by_key(|(core, _)| *core);
        let mut cpus: Vec<usize> = cpus.into_iter().map(|(_, cpu)| cpu).take(count).collect();
        cpus.sort_unstable();
        cpus
    }

    /// What was looked at, for people: a name and what there is.
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        let limit = |limit: Option<Rlimit>, wanted: u64| match limit {
            None => "no limit that is known".to_owned(),
            Some(Rlimit { hard: u64::MAX, .. }) => format!("unlimited, {wanted} needed"),
            Some(Rlimit { hard, .. }) => format!("{hard}, {wanted} needed"),
        };
        let ring = match &self.ring.probe {
            None => "not asked for".to_owned(),
            Some(Ok(probe)) => format!("{}; lacks {}", probe.granted, or_nothing(&probe.lacking)),
            Some(Err(error)) => error.to_string(),
        };
        let mut cpus: Vec<usize> = self.cpu.shards.iter().filter_map(|at| at.cpu).collect();
        cpus.sort_unstable();
        let mut nodes: Vec<String> =
            self.cpu.shards.iter().filter_map(|at| Some(at.node?.to_string())).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let on = match cpus.is_empty() {
            true => "not pinned".to_owned(),
            false => format!("on CPUs {}, memory nodes {}", format_cpu_list(&cpus), or_nothing(&nodes)),
        };
        let card = |card: &Card| {
            let node = card.node.map_or_else(|| "unknown".to_owned(), |node| node.to_string());
            format!(
                "{} (node {node}, {} receive queues, {} interrupts)",
                card.name,
                card.rx_queues,
                card.irqs.len()
            )
        };
        let cards: Vec<String> = self.net.cards.iter().map(card).collect();
        let dropped: u64 = self.net.softnet.iter().map(|cpu| cpu.dropped).sum();
        let quota = self.cpu.quota.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        let (overflows, counted) = (self.net.listen_overflows, self.counted());
        vec![
            ("rings", ring),
            ("open files", limit(self.limits.nofile, self.limits.nofile_wanted)),
            ("locked bytes", limit(self.limits.memlock, self.limits.memlock_wanted)),
            ("shards", format!("{} of {} CPUs, {on}", self.cpu.shards.len(), self.cpu.allowed.len())),
            ("CPU quota", quota),
            ("cards", or_nothing(&cards)),
            ("lost", format!("{overflows} connections by listeners, {dropped} packets by CPUs, {counted}")),
        ]
    }

    /// Over what time counters of the host were counted, for people.
    pub fn counted(&self) -> &str {
        self.watched.as_deref().unwrap_or("since the boot")
    }

    /// Counters as what they grew by since `before`.
    #[must_use]
    pub fn since(mut self, before: &Facts, watched: &str) -> Facts {
        let (net, old) = (&mut self.net, &before.net);
        net.listen_overflows = net.listen_overflows.saturating_sub(old.listen_overflows);
        net.listen_drops = net.listen_drops.saturating_sub(old.listen_drops);
        net.syn_drops = net.syn_drops.saturating_sub(old.syn_drops);
        for cpu in &mut net.softnet {
            let Some(old) = old.softnet.iter().find(|old| old.cpu == cpu.cpu) else { continue };
            cpu.processed = cpu.processed.saturating_sub(old.processed);
            cpu.dropped = cpu.dropped.saturating_sub(old.dropped);
            cpu.squeezed = cpu.squeezed.saturating_sub(old.squeezed);
        }
        if let (Some(now), Some(old)) = (&mut self.cpu.throttled, before.cpu.throttled) {
            *now = (now.0.saturating_sub(old.0), now.1.saturating_sub(old.1));
        }
        if let (Some(node), Some(old)) = (&mut self.node, &before.node) {
            node.subtract(old);
        }
        self.watched = Some(watched.to_owned());
        self
    }
}

fn or_nothing(list: &[String]) -> String {
    if list.is_empty() { "nothing".to_owned() } else { list.join(", ") }
}
