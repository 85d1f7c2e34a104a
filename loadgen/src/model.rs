//! What a run was asked to do, what it found, and where: the data that all outputs are made of.
//!
//! # Rules
//! 1. [`Run`] is everything: a report needs nothing else, and one read back from JSON is the same.
//! 2. Times within a run are nanoseconds from the start of its measured window, unless the name says otherwise.
//!
//! Not here: how it is measured (`engine`, `worker`), drawn (`report`) or judged (`verdict`).

use serde::{Deserialize, Serialize};

use crate::record::Tally;

/// Version of the JSON schema; raised when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// The protocol that is spoken.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaks {
    /// HTTP/1.1 (`http://`).
    #[default]
    Http1,
    /// Messages of a fixed size that come back as they went (`tcp://`).
    Echo,
    /// The protocol of Redis (`redis://`).
    Resp,
}

/// When requests come, in an open loop.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// At equal distances.
    Constant,
    /// Independent of each other: exponential gaps.
    Poisson,
    /// This many at once, bursts at equal distances.
    Burst(u32),
    /// At the times in this file.
    Trace(String),
}

/// A piece of a rate over time: from one rate to another, linearly.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Stage {
    /// Requests a second at its begin.
    pub from: f64,
    /// Requests a second at its end.
    pub to: f64,
    /// How long.
    pub len_ns: u64,
}

/// What decides when the next request is sent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loop {
    /// A connection asks again once it was answered, and has thought for a while.
    Closed {
        /// Between an answer and the next request.
        think_ns: u64,
        /// The thinking time is drawn from an exponential distribution with that mean.
        think_exponential: bool,
    },
    /// A schedule that knows nothing of answers.
    Open {
        /// The kind of schedule.
        arrivals: Arrivals,
        /// Its rate; after the last stage the last rate goes on. Empty with a trace.
        stages: Vec<Stage>,
    },
}

/// One of the requests that are drawn from.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RequestSpec {
    /// How often, relative to the others.
    pub weight: u32,
    /// What reports call it.
    pub name: String,
    /// HTTP method, or RESP command.
    pub method: String,
    /// HTTP: path and query, a template. RESP: unused.
    pub path: String,
    /// HTTP header fields, in order; values are templates.
    pub headers: Vec<(String, String)>,
    /// The body, a template where `template` says so. Kept as text where it is text; bytes otherwise.
    pub body: Vec<u8>,
    /// Placeholders in path, headers and body are filled in.
    pub template: bool,
}

/// What RESP traffic looks like.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct RespSpec {
    /// Share of GET among GET and SET, 0 to 1.
    pub get_share: f64,
    /// Distinct keys.
    pub keys: u64,
    /// Exponent of a zipf distribution over the keys; 0 is uniform.
    pub zipf: f64,
    /// Bytes of a value.
    pub value_len: u32,
}

impl Default for RespSpec {
    fn default() -> RespSpec {
        RespSpec { get_share: 0.9, keys: 100_000, zipf: 0.0, value_len: 32 }
    }
}

/// All that a run was asked to do. Two runs can be compared when these are the same.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Settings {
    /// As the user wrote it.
    pub url: String,
    /// The protocol.
    pub speaks: Speaks,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// HTTP requests.
    pub requests: Vec<RequestSpec>,
    /// RESP traffic.
    pub resp: RespSpec,
    /// Bytes of an echoed message.
    pub echo_len: u32,
    /// What decides when the next request is sent.
    pub traffic: Loop,
    /// Connections of all workers together.
    pub connections: u32,
    /// Requests that may be under way on one connection.
    pub pipeline: u32,
    /// Requests after which a connection is closed and opened anew; 0 is never.
    pub requests_per_connection: u64,
    /// Connections are opened evenly over this time, in a closed loop.
    pub ramp_ns: u64,
    /// Before the measured window; the same traffic, not counted.
    pub warmup_ns: u64,
    /// The measured window.
    pub duration_ns: u64,
    /// For one answer, and for one connect.
    pub timeout_ns: u64,
    /// After the window, for answers that are under way.
    pub drain_ns: u64,
    /// Length of a slice of the time series.
    pub slice_ns: u64,
    /// Of every random number.
    pub seed: u64,
    /// Worker threads; each has a ring.
    pub threads: u32,
    /// Their CPUs, one each; empty where they are not pinned.
    pub cpus: Vec<usize>,
    /// Workers never sleep.
    #[serde(default)]
    pub busy_poll: bool,
    /// Addresses to connect from, in turn; empty leaves it to the kernel.
    pub sources: Vec<std::net::IpAddr>,
    /// A status other than these is an error; empty takes everything below 400.
    pub expect_status: Vec<u16>,
}

/// One slice of the time series.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Slice {
    /// Its begin.
    pub start_ns: u64,
    /// Its length.
    pub len_ns: u64,
    /// What happened in it. Latencies belong to the slice in which the request was *done* (or given up), errors too.
    pub tally: Tally,
}

/// What a worker thread cost, and how it was treated by its host.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct WorkerUse {
    /// The CPU it was pinned to.
    pub cpu: Option<usize>,
    /// The measured window, as this worker saw it.
    pub wall_ns: u64,
    /// CPU time of the thread within it.
    pub cpu_ns: u64,
    /// The part of it spent polling for the next moment to send: not work.
    pub spin_ns: u64,
    /// Time it was ready to run and had no CPU (`/proc/thread-self/schedstat`).
    pub run_delay_ns: u64,
    /// Entries into the kernel.
    pub enters: u64,
    /// Times its completion queue overflowed.
    pub cq_overflows: u64,
    /// Receives that found no buffer.
    pub no_buffers: u64,
    /// Connections that were not open when the traffic began.
    #[serde(default)]
    pub unopened: u32,
    /// The longest time between two looks at the clock while work was due.
    pub hiccup_max_ns: u64,
}

/// How the host and the network treated the run: differences over the measured window, or facts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HostUse {
    /// TCP segments sent again, host-wide (`TcpRetransSegs`). None where it could not be read; so below.
    pub retransmits: Option<u64>,
    /// Connections dropped because a listen queue was full, host-wide (`ListenOverflows`).
    pub listen_overflows: Option<u64>,
    /// Connections dropped at a listen queue for any reason (`ListenDrops`).
    pub listen_drops: Option<u64>,
    /// Packets dropped because a CPU's backlog was full (`softnet_stat`).
    pub softnet_drops: Option<u64>,
    /// Share, 0 to 1, of time that the hypervisor took from the workers' CPUs (`steal`).
    pub steal_share: Option<f64>,
    /// The target is an address of this host.
    pub same_host: bool,
    /// CPUs that threads of the server ran on or may run on, where it is on this host and could be found.
    pub server_cpus: Vec<usize>,
    /// CPUs that share a core with one of those (hyper-threads), without being among them.
    #[serde(default)]
    pub server_siblings: Vec<usize>,
    /// Requests each server shard answered in the window, where the server says so.
    pub shard_requests: Vec<u64>,
}

/// Where and by what a result was made.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Provenance {
    /// `loadgen` and its version.
    pub tool: String,
    /// Commit it was built from, if known.
    pub commit: Option<String>,
    /// The command line.
    pub command: String,
    /// Kernel release and version.
    pub kernel: String,
    /// CPU model.
    pub cpu_model: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Memory of the host, bytes.
    pub memory_bytes: u64,
    /// Frequency governor of the workers' CPUs; `none` where there is none.
    pub governor: String,
    /// What the kernel does against each CPU flaw: `NAME: STATE`, sorted.
    pub mitigations: Vec<String>,
    /// TCP congestion control.
    pub congestion_control: String,
    /// Clock source.
    pub clocksource: String,
    /// Whether a hypervisor is below.
    pub virtualised: bool,
    /// Identifies the host across runs, without naming it: a hash of its machine id and CPU model.
    pub host_id: String,
    /// Digest of the host's tuning, where `scripts/tune` left one.
    pub tuning_digest: Option<String>,
    /// Start of the measured window, milliseconds since 1970.
    pub started_unix_ms: u64,
}

/// How sure one can be of a run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Nothing speaks against it.
    #[default]
    Valid,
    /// Something may have bent it: read the reasons.
    Suspect,
    /// It does not measure what it was to measure.
    Invalid,
}

/// One thing that speaks against a run, or that its reader should know.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reason {
    /// How much it weighs; a valid one is only a remark.
    pub level: Level,
    /// Short name, for scripts.
    pub code: String,
    /// What was seen, with its figure and its bound, and what to do about it.
    pub text: String,
}

/// The judgement of a run on itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Verdict {
    /// The worst of the reasons.
    pub level: Level,
    /// Worst first.
    pub reasons: Vec<Reason>,
}

/// A noise floor: what the null server showed on this host with traffic of this shape.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Floor {
    /// Median response time, ns.
    pub p50_ns: u64,
    /// P99 response time, ns.
    pub p99_ns: u64,
    /// Requests a second it was measured at.
    pub rate: f64,
}

/// A whole result.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Run {
    /// What was asked.
    pub settings: Settings,
    /// Where and by what.
    pub provenance: Provenance,
    /// How long was really measured; shorter than asked where the run was ended early.
    pub measured_ns: u64,
    /// The user ended it early.
    pub interrupted: bool,
    /// Everything together.
    pub total: Tally,
    /// The time series.
    pub slices: Vec<Slice>,
    /// Each worker.
    pub workers: Vec<WorkerUse>,
    /// The host.
    pub host: HostUse,
    /// The noise floor it was held against, if there is one.
    pub floor: Option<Floor>,
    /// The judgement.
    pub verdict: Verdict,
}

impl Run {
    /// Answers a second within the window.
    pub fn rate(&self) -> f64 {
        per_second(self.total.counts.completed, self.measured_ns)
    }

    /// Requests a second that were due: of the schedule in an open loop, None in a closed one.
    pub fn offered(&self) -> Option<f64> {
        match self.settings.traffic {
            Loop::Open { .. } => Some(per_second(self.total.counts.intended, self.measured_ns)),
            Loop::Closed { .. } => None,
        }
    }

    /// Bytes received a second.
    pub fn bytes_in_rate(&self) -> f64 {
        per_second(self.total.counts.bytes_in, self.measured_ns)
    }

    /// CPU time of the workers a request, ns, polling left out; None without requests.
    pub fn cpu_per_request_ns(&self) -> Option<f64> {
        let work: u64 = self.workers.iter().map(|w| w.cpu_ns.saturating_sub(w.spin_ns)).sum();
        let count = self.total.counts.completed;
        (count > 0).then(|| work as f64 / count as f64)
    }
}

/// `count` by `ns`, a second. 0 for no time.
pub fn per_second(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 * 1e9 / ns as f64 }
}

/// One term of a service-level objective, and whether a run met it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// The term: `p99 <= 5 ms`.
    pub term: String,
    /// What was seen: `4.2 ms`, `>= 1 s`.
    pub seen: String,
    /// Whether it was shown to be met. A lower bound never shows that.
    pub met: bool,
}
