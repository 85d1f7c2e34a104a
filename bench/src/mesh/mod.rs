//! Messages between two cores: a call to another shard beside the ways other programs do it.
//!
//! Two pinned threads, one process. In each round every way runs once in every case, with fresh threads, A B C,
//! A B C. All do the same work: a `u64` goes over, is handled there, and (in calls) another comes back.
//!
//! Not here: how each way works (`ours`, `peers`), the table (`report`).

mod ours;
mod peers;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ab::machine::Machine;
use crate::ab::process;
use report::{Results, Series};

/// Requests under way at most, in every way: credits, or places of a queue.
const CAPACITY: usize = 1024;

/// Between two calls of a case with a sleeper, so that it does sleep.
const PAUSE: Duration = Duration::from_micros(50);

/// Part of a window that is run before it and not counted.
const WARM_UP_PART: u32 = 5;

/// How messages between cores compare.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Times each way is measured in each case.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds of one measured window.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..))]
    window_ms: u32,
    /// Only these cases.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<Case>,
    /// Only these ways; the first one is the base of the ratios.
    #[arg(long, value_delimiter = ',')]
    ways: Vec<Way>,
    /// The two CPUs, caller first [default: the first two this process may use]
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Exit with 1 if another way was faster than Corelane's, by the medians.
    #[arg(long)]
    strict: bool,
    /// Instead: make this many calls and this many casts between two shards that one thread turns, and print
    /// nothing but that. For a tool that counts instructions.
    #[arg(long, value_name = "CALLS,CASTS", value_delimiter = ',')]
    count: Vec<u32>,
    /// Also write every sample to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, clap::ValueEnum)]
pub(crate) enum Case {
    /// A call; both threads poll.
    CallAwake,
    /// A call; the target sleeps, the caller polls.
    CallWakesTarget,
    /// A call; both sleep while they wait.
    CallBothSleep,
    /// Many calls under way at once; both threads poll.
    CallMany,
    /// Messages one way, as fast as they go; both poll.
    OneWayAwake,
    /// Messages one way, as fast as they go; the receiver sleeps when there is nothing.
    OneWaySleeps,
}

impl Case {
    const ALL: [Case; 6] = [
        Case::CallAwake,
        Case::CallWakesTarget,
        Case::CallBothSleep,
        Case::CallMany,
        Case::OneWayAwake,
        Case::OneWaySleeps,
    ];

    /// Whether the target sleeps when it has nothing to do.
    fn target_sleeps(self) -> bool {
        matches!(self, Case::CallWakesTarget | Case::CallBothSleep | Case::OneWaySleeps)
    }

    /// Whether the caller sleeps while it waits for its reply.
    fn caller_sleeps(self) -> bool {
        self == Case::CallBothSleep
    }

    fn is_call_to_sleeper(self) -> bool {
        self.target_sleeps() && !self.is_one_way()
    }

    fn is_one_way(self) -> bool {
        matches!(self, Case::OneWayAwake | Case::OneWaySleeps)
    }
}

/// How it is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, clap::ValueEnum)]
pub(crate) enum Way {
    /// `Mesh::call` and `Mesh::cast` between two shards on their rings.
    Corelane,
    /// The lane under them, without shards: both poll.
    Lane,
    /// crossbeam's `ArrayQueue`; a sleeper waits in read(2) of an eventfd.
    ArrayQueue,
    /// flume's bounded channel.
    Flume,
    /// `Mutex<VecDeque>` and a `Condvar`.
    Mutex,
}

impl Way {
    const ALL: [Way; 5] = [Way::Corelane, Way::Lane, Way::ArrayQueue, Way::Flume, Way::Mutex];

    /// A lane by itself has nobody to wake.
    fn can(self, case: Case) -> bool {
        self != Way::Lane || !case.target_sleeps()
    }
}

/// One window of one way.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    /// Nanoseconds of a round trip or of a message: the median of all that were timed.
    pub(crate) ns: f64,
    /// The 99th percentile, where each was timed alone.
    pub(crate) ns_p99: Option<f64>,
    /// How many round trips or messages.
    pub(crate) count: u64,
}

/// What a way is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) case: Case,
    /// Of the caller, and of the target.
    pub(crate) cpus: [usize; 2],
    pub(crate) window: Duration,
}

impl Plan {
    fn warm_up(&self) -> Duration {
        self.window / WARM_UP_PART
    }
}

/// Round trips that are timed together where both poll: reading the clock takes a part of one. As many are under
/// way at once in the case of many.
const TOGETHER: u32 = 64;

/// Messages of a burst one way, timed from the first to the answer that all were handled.
const BURST: u32 = 1 << 13;

/// Times that a window has at least, however long that takes.
const TIMES_MIN: usize = 3;

/// What a case times at once, and how often.
struct Times {
    /// Round trips or messages timed together.
    together: u32,
    ns: Vec<u64>,
    start: Instant,
    plan: Plan,
}

impl Times {
    fn new(plan: Plan) -> Times {
        let together = match plan.case {
            Case::CallAwake | Case::CallMany => TOGETHER,
            Case::CallWakesTarget | Case::CallBothSleep => 1,
            Case::OneWayAwake | Case::OneWaySleeps => BURST,
        };
        Times { together, ns: Vec::new(), start: Instant::now(), plan }
    }

    /// When the next one begins; none after the window. What runs in the warm-up counts not.
    fn begin(&mut self) -> Option<Instant> {
        if self.plan.case.is_call_to_sleeper() {
            spin(PAUSE);
        }
        let now = Instant::now();
        let over = now - self.start >= self.plan.warm_up() + self.plan.window;
        (!over || self.ns.len() < TIMES_MIN).then_some(now)
    }

    fn end(&mut self, began: Instant) {
        if began - self.start >= self.plan.warm_up() {
            self.ns.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
    }

    fn sample(mut self) -> Sample {
        self.ns.sort_unstable();
        let at = |part: usize| self.ns[self.ns.len() * part / 100] as f64 / f64::from(self.together);
        let ns_p99 = (self.together == 1).then(|| at(99));
        Sample { ns: at(50), ns_p99, count: self.ns.len() as u64 * u64::from(self.together) }
    }
}

/// Keeps the CPU for a while.
fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Runs the comparison and prints it. `Ok(false)`: it ran, and with `--strict` another way was faster.
///
/// # Errors
/// Why it could not run.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let text = |error: std::io::Error| error.to_string();
    match options.count[..] {
        [] => {}
        [calls, casts] => return ours::count(calls, casts).map(|()| true).map_err(text),
        _ => return Err("--count takes two numbers, like 1000,0".to_owned()),
    }
    let allowed = corelane_sys::cpu::allowed_cpus().map_err(text)?;
    let given = if options.cpus.is_empty() { &allowed } else { &options.cpus };
    let &[caller, target, ..] = &given[..] else {
        return Err("two CPUs are needed".to_owned());
    };
    if caller == target || !options.cpus.is_empty() && options.cpus.len() != 2 {
        return Err("--cpus takes two that differ".to_owned());
    }
    let chosen = |given: &[Case], all: &[Case]| if given.is_empty() { all.to_vec() } else { given.to_vec() };
    let cases = chosen(&options.cases, &Case::ALL);
    let ways = if options.ways.is_empty() { Way::ALL.to_vec() } else { options.ways.clone() };
    let machine = Machine::here();
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(text)?;
    }

    let window = Duration::from_millis(options.window_ms.into());
    let mut all: Vec<Series> = cases
        .iter()
        .flat_map(|&case| {
            ways.iter().filter(move |way| way.can(case)).map(move |&way| Series::new(case, way))
        })
        .collect();
    let mut others: f64 = 0.0;
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let before = busy(caller, target).map_err(text)?;
        for series in &mut all {
            if interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            let plan = Plan { case: series.case, cpus: [caller, target], window };
            let sample = measure(series.way, plan);
            series.samples.push(sample.map_err(|error| format!("{}: {error}", series.name()))?);
        }
        others = others.max(busy(caller, target).map_err(text)?.others_since(&before));
    }
    let results = Results {
        machine: &machine,
        cpus: [caller, target],
        rounds: options.rounds,
        window_ms: options.window_ms,
        others_share: others,
        series: &all,
    };
    report::print(&results, &cases, &ways, options)
}

fn measure(way: Way, plan: Plan) -> Result<Sample, String> {
    match way {
        Way::Corelane => ours::shards(plan),
        Way::Lane => ours::lane(plan),
        Way::ArrayQueue => peers::measure::<peers::Events>(plan),
        Way::Flume => peers::measure::<peers::Flume>(plan),
        Way::Mutex => peers::measure::<peers::Locked>(plan),
    }
}

/// CPU time at one moment: of both CPUs, and of this process.
struct Busy {
    cpus_ns: u64,
    own_ns: u64,
    at: Instant,
}

fn busy(a: usize, b: usize) -> std::io::Result<Busy> {
    let own = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let own_ns = own.tv_sec.unsigned_abs() * 1_000_000_000 + own.tv_nsec.unsigned_abs();
    Ok(Busy { cpus_ns: process::cpu_busy_ns(a)? + process::cpu_busy_ns(b)?, own_ns, at: Instant::now() })
}

impl Busy {
    /// The share of both CPUs that others used.
    fn others_since(&self, before: &Busy) -> f64 {
        let others = (self.cpus_ns - before.cpus_ns) as f64 - (self.own_ns - before.own_ns) as f64;
        (others / 2.0 / (self.at - before.at).as_nanos() as f64).max(0.0)
    }
}
