//! Shards, the CPUs they run on, and the time and memory that their control group gives them.
//!
//! Not here: CPUs and cards (`net`).

use corelane_sys::cpu::format_cpu_list;

use super::{count, finding};
use crate::doctor::Facts;
use crate::doctor::finding::{Finding, Severity::*};

pub(super) fn placement(facts: &Facts) -> Vec<Finding> {
    let Some(refusal) = &facts.cpu.refusal else { return Vec::new() };
    let cores = facts.one_of_each_core(None, usize::MAX);
    let command = match cores.len() {
        0 => "corelane --shards 1 --no-pin".to_owned(),
        _ => format!("corelane --cpus {}", format_cpu_list(&cores)),
    };
    vec![finding(
        ("placement", Blocks),
        refusal.clone(),
        "the shards that were asked for do not fit on the CPUs and in the memory that this process may use",
        command,
        "the node starts, with a shard on each core",
        "fewer shards than were asked for",
    )]
}

pub(super) fn smt_pair(facts: &Facts) -> Vec<Finding> {
    let mut pairs = Vec::new();
    let mut kept: Vec<(usize, usize)> = Vec::new();
    for (id, at) in facts.cpu.shards.iter().enumerate() {
        let (Some(cpu), Some(core)) = (at.cpu, at.core) else { continue };
        match kept.iter().find(|(other, _)| *other == core) {
            Some((_, other)) => pairs.push(format!("CPUs {other} and {cpu} (shard {id}) are one core")),
            None => kept.push((core, cpu)),
        }
    }
    if pairs.is_empty() {
        return Vec::new();
    }
    let mut cpus: Vec<usize> = kept.into_iter().map(|(_, cpu)| cpu).collect();
    cpus.sort_unstable();
    vec![finding(
        ("smt-pair", Hurts),
        pairs.join("; "),
        "hardware threads of a core share its caches and units: two shards there get in each other's way",
        format!("corelane --cpus {}", format_cpu_list(&cpus)),
        "one shard a core: steadier latency, and the same work with less CPU for each request",
        "a few percent of throughput, where requests wait for memory most of the time",
    )]
}

pub(super) fn quota(facts: &Facts) -> Vec<Finding> {
    let (Some(quota), shards) = (&facts.cpu.quota, facts.shards()) else { return Vec::new() };
    let throttled = facts.cpu.throttled.filter(|(throttled, _)| *throttled > 0);
    if quota.cpus_floor() >= shards && throttled.is_none() {
        return Vec::new();
    }
    let counted = facts.counted();
    let evidence = match throttled {
        Some((throttled, all)) => format!(
            "the CPU quota is {quota} ({}) for {}, and was used up in {throttled} of {all} periods {counted}",
            quota.file.display(),
            count(shards, "shard")
        ),
        None => format!("the CPU quota is {quota} ({}) for {}", quota.file.display(), count(shards, "shard")),
    };
    let percent = shards.saturating_mul(100);
    vec![finding(
        ("cpu-quota", Hurts),
        evidence,
        format!(
            "once it is used up all shards stop for the rest of {} ms, with all their connections",
            quota.period_us.div_ceil(1_000)
        ),
        format!(
            "systemctl set-property corelane.service CPUQuota={percent}%    # docker update --cpus {shards} NAME; \
             Kubernetes: limits.cpu = requests.cpu = {shards}"
        ),
        "no stops in the middle of a request; better still no quota, and CPUs of its own (AllowedCPUs, --cpuset-cpus)",
        "the node may take that much CPU from others on this host",
    )]
}

pub(super) fn memory(facts: &Facts) -> Vec<Finding> {
    let Some((limit, wanted)) = facts.cpu.memory.as_ref().filter(|(limit, wanted)| limit.bytes < *wanted)
    else {
        return Vec::new();
    };
    let mib = wanted.div_ceil(1 << 20);
    vec![finding(
        ("memory-limit", Hurts),
        format!(
            "the memory limit is {} MiB ({}), and {} take up to {mib} MiB",
            limit.bytes >> 20,
            limit.file.display(),
            count(facts.shards(), "shard")
        ),
        "once their pools are in use the kernel may kill the node",
        format!(
            "systemctl set-property corelane.service MemoryMax={mib}M    # docker update --memory {mib}m NAME"
        ),
        "the node is not killed at its highest load",
        "it may take that much memory from others on this host",
    )]
}

pub(super) fn idle_cores(facts: &Facts) -> Vec<Finding> {
    let (cores, shards) = (facts.one_of_each_core(None, usize::MAX), facts.cpu.shards.len());
    let pinned = facts.cpu.shards.iter().any(|at| at.cpu.is_some());
    // Who named CPUs left the others out on purpose.
    if shards == 0 || !pinned || facts.cpu.named || facts.cpu.quota.is_some() || shards >= cores.len() {
        return Vec::new();
    }
    vec![finding(
        ("idle-cores", Advice),
        format!("{} for {} that this process may use", count(shards, "shard"), count(cores.len(), "core")),
        "cores without a shard serve nothing; one or two of them for interrupts and other work may be meant so",
        format!("corelane --cpus {}", format_cpu_list(&cores)),
        "more connections and more requests, by as many cores",
        "less room for other work on this host",
    )]
}

pub(super) fn clocks(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some((_, name)) = facts.cpu.governors.first() {
        let cpus: Vec<usize> = facts.cpu.governors.iter().map(|(cpu, _)| *cpu).collect();
        found.push(finding(
            ("governor", Advice),
            format!("the clock of CPUs {} is governed by {name}", format_cpu_list(&cpus)),
            "a shard that wakes up begins on a slow clock",
            "scripts/tune apply --yes --profile lowlat --only governor",
            "lower latency at low and middle load",
            "more power and heat, also at rest",
        ));
    }
    if let Some(name) = &facts.cpu.clocksource {
        found.push(finding(
            ("clocksource", Advice),
            format!("the time is from {name}, and the CPU's own counter (tsc) is there"),
            "every reading of the clock takes a call into the kernel or to a device",
            "scripts/tune apply --yes --only clocksource",
            "each turn of a shard reads the clock for some 20 ns",
            "where the kernel left tsc because it drifts, time may jump: see `dmesg | grep -i tsc` first",
        ));
    }
    found
}
