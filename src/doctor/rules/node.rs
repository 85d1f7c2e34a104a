//! What a running node says of itself.
//!
//! Not here: asking it (`cli`), the host below it.

use super::finding;
use crate::doctor::finding::{Finding, Severity::*};
use crate::doctor::{Facts, NodeNumbers};

/// From here on something is called full.
const FULL: f64 = 0.9;

/// From here on a lane is called nearly full.
const LANE_FULL: f64 = 0.8;

/// The node, if it answered.
fn node(facts: &Facts) -> Option<&NodeNumbers> {
    facts.node.as_ref().filter(|node| node.silent.is_none())
}

/// Over what time its counters were counted, for people.
fn counted(facts: &Facts) -> &str {
    facts.watched.as_deref().unwrap_or("since its start")
}

/// A number of events, with the shard that has most of them.
fn most(node: &NodeNumbers, name: &str) -> String {
    let (shard, value) = node.most(name).unwrap_or_default();
    format!("{:.0}, {value:.0} of them on shard {shard}", node.sum(name))
}

pub(super) fn silent(facts: &Facts) -> Vec<Finding> {
    let Some(node) = &facts.node else { return Vec::new() };
    let Some(why) = &node.silent else { return Vec::new() };
    vec![finding(
        ("node-silent", Blocks),
        format!("{}: {why}", node.url),
        "no node runs there, its admin interface is elsewhere or off, or it wants a token",
        "systemctl status corelane; ss -ltnp | grep corelane    # then: corelane doctor --node http://ADDR:PORT",
        "its numbers are looked at as well",
        "none: it only looks. A token is taken from CORELANE_ADMIN_TOKEN",
    )]
}

pub(super) fn shards(facts: &Facts) -> Vec<Finding> {
    let Some(node) = node(facts) else { return Vec::new() };
    let (mut found, counted) = (Vec::new(), counted(facts));
    let down: Vec<String> = node
        .shards
        .iter()
        .filter(|(_, shard)| shard.get("corelane_shard_up") < 1.0)
        .map(|(id, _)| id.to_string())
        .collect();
    if !down.is_empty() {
        found.push(finding(
            ("shard-down", Hurts),
            format!("shards that did not answer within 500 ms: {}", down.join(", ")),
            "a handler that does not return, or a thread that gets no CPU",
            "journalctl -u corelane | grep -E 'has been in one turn|has not woken up'    # names what it is at",
            "once it goes on, its connections are served again",
            "if nothing ends it: `systemctl restart corelane`, which cuts what that shard holds",
        ));
    }
    let stalls = "corelane_exec_stalls_total";
    if node.sum(stalls) > 0.0 {
        found.push(finding(
            ("stalls", Hurts),
            format!("turns longer than stall_time, {counted}: {}", most(node, stalls)),
            "a handler blocked or computed for long, or the shard's thread had to share its CPU",
            "journalctl -u corelane | grep 'a turn took longer'    # names the handler; `blocking()` is for what blocks",
            "no connection of that shard waits for one request",
            "none: it only looks. If no handler is named, others run on its CPU: --cpus, AllowedCPUs",
        ));
    }
    let full: Vec<String> = node
        .shards
        .iter()
        .filter(|(_, shard)| shard.get("corelane_shard_saturation_ratio") >= FULL)
        .map(|(id, shard)| {
            let (all, busy) =
                (shard.get("corelane_shard_saturation_ratio"), shard.get("corelane_shard_busy_ratio"));
            format!("shard {id} {:.0} % (its CPU {:.0} %)", all * 100.0, busy * 100.0)
        })
        .collect();
    if !full.is_empty() {
        found.push(finding(
            ("saturated", Hurts),
            format!("near their end: {}", full.join(", ")),
            "CPU, connections, tasks, credits or memory of these shards are nearly used up",
            "curl -s http://HOST:8080/api/performance    # saturated_by names which, for each shard",
            "its limit can be raised, or connections spread (--accept balanced), or shards added",
            "none: it only looks",
        ));
    }
    found
}

pub(super) fn lanes(facts: &Facts) -> Vec<Finding> {
    let Some(node) = node(facts) else { return Vec::new() };
    let credits = facts.maxima.mesh_credits;
    let (shard, in_use) = node.most("corelane_mesh_credits_in_use_max").unwrap_or_default();
    let (waits, refused) = ("corelane_mesh_credits_spent_total", "corelane_mesh_calls_refused_total");
    let is_near = in_use >= LANE_FULL * f64::from(credits);
    if !is_near && node.sum(refused) == 0.0 {
        return Vec::new();
    }
    vec![finding(
        ("lanes-full", Hurts),
        format!(
            "shard {shard} has {in_use:.0} of {credits} requests to one other under way; calls that found no credit: \
             {}; refused: {:.0}",
            most(node, waits),
            node.sum(refused)
        ),
        "one shard asks another faster than that answers: it is busy, or owns more than its part of the keys",
        format!("corelane --limit mesh_credits={}", credits.saturating_mul(2)),
        "bursts between shards wait less",
        "memory for as many more messages between each two shards; a shard that is simply too busy stays so",
    )]
}

pub(super) fn connections(facts: &Facts) -> Vec<Finding> {
    let Some(node) = node(facts) else { return Vec::new() };
    let (mut found, max) = (Vec::new(), facts.maxima.connections_max);
    let counted = counted(facts);
    let paused = "corelane_http1_accept_paused_total";
    if node.sum(paused) > 0.0 {
        let wanted = max.saturating_mul(2);
        found.push(finding(
            ("accept-paused", Hurts),
            format!("times a shard stopped accepting at connections_max ({counted}): {}", most(node, paused)),
            "as many connections are open as a shard may hold; new ones wait, then are dropped by the kernel",
            format!("corelane --limit connections_max={wanted}    # with LimitNOFILE above that"),
            "more connections at once",
            "memory: each costs some 400 bytes at rest, and buffers while it is at work; where only one shard is full, \
             --accept balanced spreads them",
        ));
    }
    let refusals = ["refused_full", "tasks_full", "pools_full", "inbox_evicted"];
    let refused: Vec<String> = refusals
        .iter()
        .map(|name| (name, node.sum(&format!("corelane_http1_{name}_total"))))
        .filter(|(_, value)| *value > 0.0)
        .map(|(name, value)| format!("{name} {value:.0}"))
        .collect();
    if !refused.is_empty() {
        found.push(finding(
            ("refused", Hurts),
            format!("work that was refused for want of room ({counted}): {}", refused.join(", ")),
            "a maximum was reached: docs/LIMITS.md names the one of each counter",
            "grep -E 'refused_full|tasks_full|pools_full|inbox_evicted' docs/LIMITS.md    # then --limit NAME=VALUE",
            "that work is done instead",
            "memory, up to the new maximum on every shard",
        ));
    }
    let starved = "corelane_http1_recv_no_buffers_total";
    if node.sum(starved) > 0.0 {
        let wanted = facts.maxima.recv_buffers.saturating_mul(2);
        found.push(finding(
            ("no-buffers", Hurts),
            format!("receives that ended because no buffer was free ({counted}): {}", most(node, starved)),
            "more arrived within one turn than the receive ring holds",
            format!("corelane --limit recv_buffers={wanted}"),
            "bursts are received in one go",
            format!(
                "{} bytes more for each shard",
                u64::from(wanted / 2) * u64::from(facts.maxima.recv_buffer_bytes)
            ),
        ));
    }
    found
}

pub(super) fn ring(facts: &Facts) -> Vec<Finding> {
    let Some(node) = node(facts) else { return Vec::new() };
    let (mut found, counted) = (Vec::new(), counted(facts));
    let late = "corelane_kernel_cq_overflows_total";
    if node.sum(late) > 0.0 {
        let wanted = facts.maxima.completion_entries.saturating_mul(2);
        found.push(finding(
            ("completions-late", Advice),
            format!("times the completion queue was full ({counted}): {}", most(node, late)),
            "more completed within one turn than the queue holds; the kernel kept the rest, at a price",
            format!("corelane --limit completion_entries={wanted}"),
            "less work for the kernel in bursts",
            "16 bytes of locked memory for each entry, on every shard",
        ));
    }
    let lost = "corelane_kernel_dropped_total";
    if node.sum(lost) > 0.0 {
        found.push(finding(
            ("completions-lost", Hurts),
            format!("completions that the kernel dropped: {}", most(node, lost)),
            "the host had no memory for them: what waited for them waits until its deadline",
            "dmesg | grep -iE 'out of memory|page allocation failure'",
            "whoever takes the memory is named",
            "none: it only looks. Restart the node afterwards",
        ));
    }
    found
}
