//! The rules: each a pure function from facts to findings.
//!
//! Not here: facts (`gather`), their order in the answer (`diagnose`).

mod cpus;
mod host;
mod net;
mod node;

use super::facts::Facts;
use super::finding::{Finding, IDS, Severity};

type Rule = fn(&Facts) -> Vec<Finding>;

/// All of them.
pub(super) const ALL: [Rule; 24] = [
    host::kernel,
    host::ring_sysctl,
    host::ring_refused,
    host::ring_features,
    host::nofile,
    host::memlock,
    host::huge_pages,
    host::sysctl,
    cpus::placement,
    cpus::smt_pair,
    cpus::quota,
    cpus::memory,
    cpus::idle_cores,
    cpus::clocks,
    net::card_node,
    net::card_queues,
    net::irq_node,
    net::listen_queue,
    net::softnet,
    node::silent,
    node::shards,
    node::lanes,
    node::connections,
    node::ring,
];

/// One finding. Fields in the order in which they are shown.
fn finding(
    (id, severity): (&'static str, Severity),
    evidence: impl Into<String>,
    cause: impl Into<String>,
    command: impl Into<String>,
    effect: impl Into<String>,
    risk: impl Into<String>,
) -> Finding {
    debug_assert!(IDS.contains(&id), "{id} has no row in docs/DOCTOR.md");
    Finding {
        id,
        severity,
        evidence: evidence.into(),
        cause: cause.into(),
        command: command.into(),
        effect: effect.into(),
        risk: risk.into(),
    }
}

/// A count with its noun.
fn count(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}
