//! Cards against shards, and where connections and packets are lost.
//!
//! Not here: kernel settings by themselves (`host`).

use corelane_sys::cpu::format_cpu_list;

use super::{count, finding};
use crate::doctor::finding::{Finding, Severity::*};
use crate::doctor::{Card, Facts};

pub(super) fn card_node(facts: &Facts) -> Vec<Finding> {
    let cards: Vec<(&Card, usize)> =
        facts.net.cards.iter().filter_map(|card| Some((card, card.node?))).collect();
    let Some((first, node)) = cards.first() else { return Vec::new() };
    let is_far = |other: usize| cards.iter().all(|(_, node)| *node != other);
    let placed = facts.cpu.shards.iter().enumerate().filter_map(|(id, at)| Some((id, at.cpu?, at.node?)));
    let (far, near): (Vec<_>, Vec<_>) = placed.partition(|(_, _, node)| is_far(*node));
    let mut room: Vec<usize> =
        cards.iter().flat_map(|(_, node)| facts.one_of_each_core(Some(*node), usize::MAX)).collect();
    room.sort_unstable();
    room.dedup();
    // Where all cores that are near have a shard, the others have nowhere else to go.
    if far.is_empty() || room.len() <= near.len() {
        return Vec::new();
    }
    room.truncate(facts.shards());
    let rest = far.iter().map(|(_, cpu, _)| *cpu).take(facts.shards() - room.len());
    let mut cpus: Vec<usize> = room.iter().copied().chain(rest).collect();
    cpus.sort_unstable();
    let places: Vec<String> =
        far.iter().map(|(id, cpu, node)| format!("shard {id} on CPU {cpu} of node {node}")).collect();
    vec![finding(
        ("nic-node", Hurts),
        format!("{} is on memory node {node}, and there are {}", first.name, places.join(", ")),
        "packets are written to the memory of one node and read by CPUs of the other",
        format!("corelane --cpus {}", format_cpu_list(&cpus)),
        "less CPU for each packet and lower latency: no crossing between the nodes",
        "CPUs and memory of the other node are left to others",
    )]
}

pub(super) fn card_queues(facts: &Facts) -> Vec<Finding> {
    let shards = facts.cpu.shards.iter().filter(|at| at.cpu.is_some()).count();
    let off = |card: &&Card| card.rx_queues > 0 && shards > 1 && card.rx_queues != shards;
    let each = |card: &Card| {
        let (name, queues) = (&card.name, card.rx_queues);
        finding(
            ("nic-queues", Advice),
            format!("{name} has {} for {}", count(queues, "receive queue"), count(shards, "shard")),
            if queues < shards {
                "some CPUs take packets for shards that run elsewhere"
            } else {
                "packets come to CPUs that have no shard, and are handed on"
            },
            format!("scripts/tune apply --yes --disruptive --only nic-queues,irq,xps --nics {name}"),
            "queue i belongs to shard i: a connection stays on one CPU (with `steer` or `irq`)",
            "the link is down for a second or so; `ethtool -l` says how many queues there can be",
        )
    };
    facts.net.cards.iter().filter(off).map(each).collect()
}

pub(super) fn irq_node(facts: &Facts) -> Vec<Finding> {
    let node_of = |cpu: usize| facts.cpu.allowed.iter().find(|at| at.cpu == Some(cpu)).and_then(|at| at.node);
    let each = |card: &Card| {
        let node = card.node?;
        let is_far = |cpu: &usize| node_of(*cpu).is_some_and(|other| other != node);
        let far = card.irqs.iter().filter(|irq| irq.cpus.iter().all(is_far)).count();
        (far > 0).then(|| {
            finding(
                ("irq-node", Advice),
                format!(
                    "{far} of {} of {} come to CPUs of another memory node than its own, {node}",
                    count(card.irqs.len(), "interrupt"),
                    card.name
                ),
                "each of their packets crosses between the nodes",
                format!("scripts/tune apply --yes --only irq,irqbalance --nics {}", card.name),
                "packets are taken where the card writes them",
                "irqbalance no longer moves these interrupts",
            )
        })
    };
    facts.net.cards.iter().filter_map(each).collect()
}

/// What `scripts/tune` wants of it, at least.
const QUEUE: u64 = 16_384;

pub(super) fn listen_queue(facts: &Facts) -> Vec<Finding> {
    let (net, backlog) = (&facts.net, u64::from(facts.maxima.backlog));
    let somaxconn = net.somaxconn.unwrap_or(u64::MAX);
    let mut found = Vec::new();
    if net.listen_overflows > 0 {
        let wanted = QUEUE.max(backlog.saturating_mul(2));
        let raise = if somaxconn < wanted {
            format!("sysctl -w net.core.somaxconn={wanted} && ")
        } else {
            String::new()
        };
        found.push(finding(
            ("listen-overflow", Hurts),
            format!(
                "{} connections found the queue of a listener full {} (ListenOverflows; {} were dropped in all); \
                 backlog is {backlog}, net.core.somaxconn {somaxconn}",
                net.listen_overflows, facts.counted(), net.listen_drops
            ),
            "more came at once than the shorter of the two holds until they are accepted; each client waited a second \
             before it tried again",
            format!("{raise}corelane --limit backlog={wanted}"),
            "bursts wait instead of being dropped",
            "clients of a server that is too slow wait longer before they are refused; the counter is that of every \
             program here, `ss -ltn` shows whose queue is full",
        ));
    } else if somaxconn < backlog {
        found.push(finding(
            ("backlog-capped", Hurts),
            format!("backlog is {backlog}, and net.core.somaxconn {somaxconn}"),
            "the kernel cuts the queue of each listener down to the latter without a word",
            format!("sysctl -w net.core.somaxconn={backlog}    # or: scripts/tune apply --yes --only sysctl"),
            "bursts of as many connections wait instead of being dropped",
            "clients of a server that is too slow wait longer before they are refused",
        ));
    }
    if net.syn_drops > 0 {
        found.push(finding(
            ("syn-queue", Hurts),
            format!(
                "{} SYNs were dropped {} because too many connections were half-open",
                net.syn_drops,
                facts.counted()
            ),
            "a flood, or more new connections at once than net.ipv4.tcp_max_syn_backlog",
            format!("sysctl -w net.ipv4.tcp_max_syn_backlog={QUEUE} net.ipv4.tcp_syncookies=1"),
            "new connections are taken in bursts, and cookies stand in beyond that",
            "about 300 bytes of kernel memory for each half-open connection, also for those of an attacker",
        ));
    }
    found
}

/// Part of its stops after which a CPU is named: 1 in 10,000 packets.
const SQUEEZED_PART: u64 = 10_000;

pub(super) fn softnet(facts: &Facts) -> Vec<Finding> {
    let (net, mut found) = (&facts.net, Vec::new());
    let dropped: Vec<String> = net
        .softnet
        .iter()
        .filter(|cpu| cpu.dropped > 0)
        .map(|cpu| format!("CPU {} dropped {}", cpu.cpu, cpu.dropped))
        .collect();
    if !dropped.is_empty() {
        let now = net.netdev_max_backlog.unwrap_or(1_000);
        let wanted = now.saturating_mul(2).max(5_000);
        found.push(finding(
            ("softnet-drops", Hurts),
            format!("packets {}: {} (softnet_stat, second column)", facts.counted(), dropped.join(", ")),
            format!("more packets waited for that CPU than net.core.netdev_max_backlog, {now}"),
            format!("sysctl -w net.core.netdev_max_backlog={wanted}"),
            "no drops in bursts over loopback, veth and RPS, hence no retransmissions",
            "packets that wait there are latency that nobody sees",
        ));
    }
    let squeezed: Vec<String> = net
        .softnet
        .iter()
        .filter(|cpu| cpu.squeezed > 0 && cpu.squeezed.saturating_mul(SQUEEZED_PART) > cpu.processed)
        .map(|cpu| format!("CPU {} {} times for {} packets", cpu.cpu, cpu.squeezed, cpu.processed))
        .collect();
    if !squeezed.is_empty() {
        let wanted = net.netdev_budget.unwrap_or(300).saturating_mul(2);
        found.push(finding(
            ("softnet-squeezed", Advice),
            format!("taking packets stopped with some left, {}: {}", facts.counted(), squeezed.join(", ")),
            "the budget of packets or of time was used up before the queue was empty",
            format!("sysctl -w net.core.netdev_budget={wanted} net.core.netdev_budget_usecs=8000"),
            "packets are taken in fewer rounds",
            "tasks on that CPU, shards too, wait longer for their turn",
        ));
    }
    found
}
