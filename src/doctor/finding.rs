//! One thing to do, and how it is shown.
//!
//! Not here: which there are (`rules`).

use std::fmt;

use serde::Serialize;

/// How bad it is. The worst comes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A node does not start here, or is not to be reached.
    Blocks,
    /// It refuses, loses or slows down work.
    Hurts,
    /// It works; it could cost less.
    Advice,
}

/// The name of every finding; `docs/DOCTOR.md` has a row for each.
pub const IDS: [&str; 34] = [
    "kernel",
    "io-uring-sysctl",
    "io-uring-refused",
    "io-uring-missing",
    "ring-features",
    "nofile",
    "memlock",
    "placement",
    "smt-pair",
    "cpu-quota",
    "memory-limit",
    "idle-cores",
    "nic-node",
    "nic-queues",
    "irq-node",
    "governor",
    "clocksource",
    "huge-pages",
    "listen-overflow",
    "syn-queue",
    "backlog-capped",
    "softnet-drops",
    "softnet-squeezed",
    "sysctl",
    "node-silent",
    "shard-down",
    "stalls",
    "saturated",
    "lanes-full",
    "accept-paused",
    "refused",
    "no-buffers",
    "completions-late",
    "completions-lost",
];

/// Something to do.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// One of [`IDS`].
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub evidence: String,
    /// What that means.
    pub cause: String,
    /// What to type, as root where it says so.
    pub command: String,
    /// What that brings.
    pub effect: String,
    /// What it may break.
    pub risk: String,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Blocks => "blocks",
            Severity::Hurts => "hurts",
            Severity::Advice => "advice",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { id, severity, evidence, cause, command, effect, risk } = self;
        writeln!(f, "{severity}: {id}: {evidence}")?;
        writeln!(f, "  cause   {cause}")?;
        writeln!(f, "  type    {command}")?;
        writeln!(f, "  effect  {effect}")?;
        writeln!(f, "  risk    {risk}")
    }
}
