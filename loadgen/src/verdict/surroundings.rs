//! What the host, the network and the shape of the server did to the run.
//!
//! Not here: the generator (`generator`), what came out (`outcome`).

use super::text::{count, digits, percent};
use super::{Bounds, level_of, reason, share};
use crate::model::{Level, Reason, Run};

/// The hypervisor gave our time to somebody else.
pub(super) fn steal(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let stolen = run.host.steal_share?;
    let (suspect, invalid) = (bounds.steal_share, bounds.steal_share_invalid);
    let level = level_of(stolen, suspect, invalid)?;
    let bound = percent(if level == Level::Invalid { invalid } else { suspect });
    let text = format!(
        "the hypervisor took {} of the workers' CPU time (bound: {bound}): a neighbour on the host is busy; \
         repeat the run, or use a host of its own",
        percent(stolen)
    );
    reason(level, "steal", text)
}

/// The workers' CPUs that are among `cpus`, as text.
fn shared(run: &Run, cpus: &[usize]) -> Option<String> {
    let shared: Vec<String> = run
        .workers
        .iter()
        .filter_map(|worker| worker.cpu)
        .filter(|cpu| cpus.contains(cpu))
        .map(|cpu| cpu.to_string())
        .collect();
    (!shared.is_empty()).then(|| shared.join(", "))
}

fn list(cpus: &[usize]) -> String {
    corelane_sys::cpu::format_cpu_list(cpus)
}

/// Client and server took turns on a CPU.
pub(super) fn same_core(run: &Run, _: &Bounds) -> Option<Reason> {
    let server = &run.host.server_cpus;
    let shared = shared(run, server)?;
    let text = format!(
        "workers and threads of the server ran on the same CPU: {shared} (the server uses {}; bound: none \
         shared): each slowed the other; keep them apart with --cpus here and the server's own setting, or \
         taskset, there",
        list(server)
    );
    reason(Level::Suspect, "same_core", text)
}

/// Client and server took turns within a core.
pub(super) fn sibling_core(run: &Run, _: &Bounds) -> Option<Reason> {
    let shared = shared(run, &run.host.server_siblings)?;
    let text = format!(
        "workers shared a core with threads of the server as hyper-threads: CPU {shared} (the server uses \
         {}; bound: none shared): each slowed the other; choose CPUs of other cores with --cpus",
        list(&run.host.server_cpus)
    );
    reason(Level::Suspect, "same_core", text)
}

/// Connections were dropped before the server accepted them. Counted on this host: it means the server only
/// where that is here, too.
pub(super) fn listen_overflow(run: &Run, _: &Bounds) -> Option<Reason> {
    let host = &run.host;
    let dropped = host.listen_overflows.unwrap_or(0).max(host.listen_drops.unwrap_or(0));
    if dropped == 0 {
        return None;
    }
    let seen =
        format!("{} lost at a full listen queue of this host (bound: 0)", count(dropped, "connection"));
    if host.same_host {
        let text = format!(
            "{seen}: each waits a second or more for its retry; raise the server's backlog and \
             net.core.somaxconn, or take fewer connections"
        );
        reason(Level::Suspect, "listen_overflow", text)
    } else {
        let text = format!("{seen}; the server is on another host, so it was not this traffic");
        reason(Level::Valid, "listen_overflow", text)
    }
}

/// Segments were lost.
pub(super) fn retransmits(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let again = run.host.retransmits?;
    let part = share(again, run.total.counts.completed.max(1));
    if part <= bounds.retransmits_share {
        return None;
    }
    let text = format!(
        "{} sent again on this host, {} of the answers (bound: {}): the network lost packets, and each \
         costs 200 ms or so; look at `nstat -az TcpRetransSegs` and the drops of `ip -s link`",
        count(again, "segment"),
        percent(part),
        percent(bounds.retransmits_share)
    );
    reason(Level::Suspect, "retransmits", text)
}

/// Packets were dropped before TCP saw them.
pub(super) fn softnet_drops(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let dropped = run.host.softnet_drops.filter(|&dropped| dropped > 0)?;
    let part = share(dropped, run.total.counts.completed.max(1));
    let level = if part > bounds.softnet_share { Level::Suspect } else { Level::Valid };
    let text = format!(
        "{} dropped at the backlog of a CPU, {} of the answers (suspect above {}): raise \
         net.core.netdev_max_backlog, or spread interrupts over more CPUs",
        count(dropped, "packet"),
        percent(part),
        percent(bounds.softnet_share)
    );
    reason(level, "softnet_drops", text)
}

/// One shard of the server had more to do than the others.
pub(super) fn skew(run: &Run, bounds: &Bounds) -> Option<Reason> {
    let shards = &run.host.shard_requests;
    let total: u64 = shards.iter().fold(0, |sum, &count| sum.saturating_add(count));
    let most = *shards.iter().max()?;
    let shards_count = shards.len() as u64;
    if shards.len() < 2 || total < bounds.skew_requests.saturating_mul(shards_count) {
        return None;
    }
    let mean = total as f64 / shards.len() as f64;
    let skew = most as f64 / mean;
    if skew <= bounds.skew {
        return None;
    }
    // Of a thousand shards the busiest tell enough.
    let mut busiest = shards.clone();
    busiest.sort_unstable_by_key(|&count| std::cmp::Reverse(count));
    busiest.truncate(8);
    let listed: Vec<String> = busiest.iter().map(ToString::to_string).collect();
    let text = format!(
        "the busiest of {shards_count} server shards answered {} times the mean (bound: {}); most to least: \
         {}{}: latency is that of the busiest; use more --connections, a multiple of the shards",
        digits(skew),
        digits(bounds.skew),
        listed.join(", "),
        if shards.len() > listed.len() { ", ..." } else { "" }
    );
    reason(Level::Suspect, "skew", text)
}

/// Client and server share memory, caches and a power budget.
pub(super) fn same_host(run: &Run, _: &Bounds) -> Option<Reason> {
    if !run.host.same_host {
        return None;
    }
    let text =
        "the server is on this host: they share caches, memory and power, and the network is loopback; \
                for figures that last, use two hosts"
            .to_owned();
    reason(Level::Valid, "same_host", text)
}
