//! What a run of `bench peers` found, as it is written to JSON and drawn.
//!
//! # Rules
//! 1. Every figure is kept for every round; medians and spreads are made from them where they are shown.
//! 2. What could not run is a [`Row`] with `absent`, never a missing row.
//! 3. A ratio is the quotient of two medians of one scenario of one run; its range is that of the quotients
//!    within each round.
//!
//! Not here: running anything (`run`), the table (`table`), the page (`html`).

use serde::{Deserialize, Serialize};

use crate::ab::machine::Machine;

/// Everything one run found.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Report {
    /// Version of this format: 1.
    pub(crate) schema: u32,
    /// Where and when.
    pub(crate) machine: Machine,
    /// With `--quick`: short windows and few rounds.
    pub(crate) quick: bool,
    /// Length of a measured window, milliseconds.
    pub(crate) window_ms: u64,
    /// CPUs of the server and of the client.
    pub(crate) server_cpu: usize,
    pub(crate) client_cpu: usize,
    /// Who was compared, in the order of the table. The base of ratios is the one called `corelane`.
    pub(crate) subjects: Vec<Subject>,
    /// What was asked of them, in the order of the tables.
    pub(crate) scenarios: Vec<Scenario>,
    /// One row for each subject and scenario; none where a scenario is not about the subject.
    pub(crate) rows: Vec<Row>,
    /// Targets and whether they were met.
    pub(crate) targets: Vec<Target>,
    /// What a reader must know about this run: others on the CPUs, clients that were the bottleneck.
    pub(crate) notes: Vec<String>,
    /// Wall-clock time of the whole run.
    pub(crate) elapsed_s: f64,
}

/// A server that is compared.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Subject {
    /// As in the table: `corelane`, `hyper`, `nginx`.
    pub(crate) name: String,
    /// Name and version of the software, and how it is set up, in a few words.
    pub(crate) what: String,
    /// A loop that does only the work, no server: compared with, never ranked.
    pub(crate) is_limit: bool,
    /// Why it did not run at all, and what to type.
    pub(crate) absent: Option<String>,
}

/// What the figures of a scenario are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// As fast as it goes: cost of a request, and how many a second.
    Closed,
    /// At a given rate below saturation: latencies.
    Open,
    /// Large bodies: cost of a GiB, and GB/s.
    Download,
    /// Connections at rest: bytes each.
    Idle,
}

/// One load.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Scenario {
    /// Short and unique: `plaintext-64`, `pipelined-16`, `echo-64k`.
    pub(crate) id: String,
    /// For people: "64 connections, /plaintext".
    pub(crate) title: String,
    pub(crate) kind: Kind,
    /// Connections open at once.
    pub(crate) connections: u32,
    /// Requests under way on each.
    pub(crate) pipeline: u32,
    /// Offered requests a second; open loop only.
    pub(crate) rate: Option<f64>,
}

/// One subject under one load.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Row {
    /// [`Subject::name`].
    pub(crate) subject: String,
    /// [`Scenario::id`].
    pub(crate) scenario: String,
    /// Why there are no figures, if there are none.
    pub(crate) absent: Option<String>,
    /// Bytes of one answer, head and body.
    pub(crate) answer_len: Option<u64>,
    /// System calls of the server a request, counted apart under `strace`, which slows the server down.
    pub(crate) syscalls: Option<f64>,
    /// One for each round, in their order.
    pub(crate) samples: Vec<Sample>,
}

/// One measured window.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Sample {
    /// Server CPU time of one request, microseconds: all threads, kernel included.
    pub(crate) cpu_us: Option<f64>,
    /// Client CPU time of one request, microseconds.
    pub(crate) client_us: Option<f64>,
    /// Answers a second.
    pub(crate) rate: Option<f64>,
    /// Latencies, microseconds: from the intended start in an open loop, else from the sending.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p999_us: Option<f64>,
    /// Server CPU seconds for each GiB of bodies, and 10^9 bytes of bodies a second.
    pub(crate) cpu_s_per_gib: Option<f64>,
    pub(crate) gb_per_s: Option<f64>,
    /// Resident memory of the server at the end of the window.
    pub(crate) rss_kib: Option<u64>,
    /// Bytes of resident memory for each idle connection.
    pub(crate) idle_bytes: Option<f64>,
    /// Seconds from the start of the client until all connections that are to rest were open.
    #[serde(default)]
    pub(crate) open_s: Option<f64>,
    /// Share of its CPU that the server used.
    pub(crate) busy: Option<f64>,
    /// Largest share of either CPU that neither server nor client used.
    pub(crate) others: Option<f64>,
    /// Answers that were wrong, late or missing.
    pub(crate) errors: u64,
}

/// One target of the project and what was seen.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Target {
    /// "CPU a request at 512 connections <= 0.85 x hyper".
    pub(crate) text: String,
    /// The figure that was found, in the unit of the text.
    pub(crate) found: Option<f64>,
    pub(crate) bound: f64,
    /// `None`: it could not be judged.
    pub(crate) met: Option<bool>,
}
