//! `corelane doctor`: what keeps this host, or a node that runs, from being as good as it could be; each with what to
//! type.
//!
//! Two steps. [`Facts::gather`] reads files below a root, asks for a ring, and takes the numbers of a node; it judges
//! nothing. [`diagnose`] goes through the rules, each a pure function from [`Facts`] to [`Finding`]s, so that tests
//! can show it machines that are not this one.
//!
//! # Rules
//! 1. What cannot be found out is no finding.
//! 2. A finding is something somebody can do: it has a command, what that brings, and what it may break.
//! 3. Nothing here changes the host. What `scripts/tune` can set is read from the same files (`sysctl/`).
//!
//! Not here: what a start refuses ([`preflight`](crate::preflight)), setting anything (`scripts/tune`).

mod cards;
mod facts;
mod finding;
mod gather;
mod listener;
mod node;
mod rules;
mod sysctl;
#[cfg(test)]
mod tests;
mod text;

pub use cards::{Card, Irq};
pub use facts::{CpuFacts, Facts, LimitFacts, NetFacts, Probe, RingFacts, ShardAt};
pub use finding::{Finding, IDS, Severity};
pub use gather::{Subject, Whose, is_root};
pub use listener::process_listening;
pub use node::{NodeNumbers, ShardSample};
pub use sysctl::{Bound, Drift, SysctlRule, parse as parse_sysctl};
pub use text::Softnet;

/// What there is to do, the worst first.
pub fn diagnose(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = rules::ALL.iter().flat_map(|rule| rule(facts)).collect();
    found.sort_by_key(|finding| finding.severity);
    found
}
