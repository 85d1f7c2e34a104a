//! From settings to a result: threads, their CPUs and rings, a common start, the slices they hand over.
//!
//! The calling thread is the control thread. It sleeps, takes slices from the workers, and adds them up; workers
//! never wait for it: one that finds no empty slice goes on filling the one it has.
//!
//! # Rules
//! 1. All workers start at the same moment of `CLOCK_MONOTONIC`, once every one is ready.
//! 2. A worker that cannot go on ends the run: numbers of some workers are not those of a run.
//! 3. Nothing is measured on the control thread but what the host says (`host`).
//!
//! Not here: the words of the command line (`cli`), judgement (`verdict`), outputs (`report`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use corelane_base::{Kernel, Unpark};
use corelane_pools::{PoolConfig, Pools};
use corelane_sys as sys;
use corelane_uring::{Features, Ring, RingConfig};
use crossbeam_queue::ArrayQueue;

use crate::echo::Echo;
use crate::host::{self, ThreadUse};
use crate::http1::Http1;
use crate::model::{HostUse, Loop, Run, Settings, Slice, Speaks, Verdict, WorkerUse};
use crate::plan::{Dealt, Schedule};
use crate::protocol::Protocol;
use crate::record::Tally;
use crate::resp::Resp;
use crate::worker::{self, Slices, Stage, Traffic, Worker};

/// From when all are ready to the first request: time for every worker to learn of it.
const START_AFTER_NS: u64 = 20_000_000;

/// How long before the window the host is looked at: it takes up to this.
const LOOK_AT_HOST_NS: u64 = 300_000_000;

/// How often the control thread looks for slices.
const LOOK: Duration = Duration::from_millis(50);

/// How long one of several addresses of a host may take to accept.
const KNOCK: Duration = Duration::from_secs(1);

/// Slices a worker may have handed over that were not taken yet, and empty ones it finds.
const SLICES_MAX: usize = 8;

/// Receive buffers of a worker: few, since they take turns, and small answers then stay in the second-level cache;
/// large, for long answers.
const RECV_BUFFERS_MIN: u32 = 256;
const RECV_BUFFERS_MAX: u32 = 1024;
const RECV_BUFFER_BYTES: u32 = 16 << 10;

/// Places of a worker's submission queue.
const SUBMISSION_ENTRIES: u32 = 1024;
/// Places of its completion queue, at the most.
const COMPLETION_ENTRIES_MAX: u32 = 65_536;

/// Beyond a descriptor for each connection: for sockets that are being closed while the next is opened.
const DESCRIPTORS_HEADROOM: u32 = 256;

/// What the control thread is told to do about a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Go on.
    GoOn,
    /// End the window now, then drain.
    Stop,
    /// End at once.
    Abandon,
}

/// What goes on while a run is under way.
pub trait Watch {
    /// Called about 20 times a second.
    fn order(&mut self) -> Order {
        Order::GoOn
    }

    /// Something to know before the run begins.
    fn note(&mut self, _text: &str) {}

    /// Connections are being opened.
    fn opening(&mut self, _open: u32, _of: u32) {}

    /// Every worker is ready; the answer is the moment of `CLOCK_MONOTONIC` to start at.
    ///
    /// # Errors
    /// Ends the run.
    fn ready(&mut self) -> Result<u64, String> {
        Ok(sys::clock::mono_ns() + START_AFTER_NS)
    }

    /// The warm-up begins, or the window, or the drain.
    fn stage(&mut self, _stage: Stage) {}

    /// All workers have handed over this slice.
    fn slice(&mut self, _slice: &Slice) {}
}

/// Nobody watches.
#[derive(Debug)]
pub struct Unwatched;

impl Watch for Unwatched {}

/// Which part of the whole traffic is this process's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// From 0.
    pub index: u32,
    /// Of how many.
    pub of: u32,
}

impl Part {
    /// All of it.
    pub const WHOLE: Part = Part { index: 0, of: 1 };
}

/// Why a run did not happen.
#[derive(Debug)]
pub struct RunError(pub String);

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RunError {}

impl From<String> for RunError {
    fn from(text: String) -> RunError {
        RunError(text)
    }
}

/// `total` by `of`, the part of `index`: they differ by one at most and add up.
fn share(total: u32, index: u32, of: u32) -> u32 {
    total / of + u32::from(index < total % of)
}

/// The address of the target. Where its host has several, each is tried, for a second at most.
///
/// # Errors
/// What the look-up said.
pub fn resolve(settings: &Settings) -> Result<SocketAddr, String> {
    let found = (settings.host.as_str(), settings.port).to_socket_addrs();
    let found = found.map_err(|error| {
        format!("cannot find the host {:?}: {error}; check the name, or write an address", settings.host)
    })?;
    // A source address of one family can only reach a target of the same.
    let family = settings.sources.first().map(std::net::IpAddr::is_ipv4);
    let found: Vec<_> = found.filter(|addr| family.is_none_or(|v4| addr.is_ipv4() == v4)).collect();
    first_that_accepts(&found)
        .ok_or_else(|| format!("the host {:?} has no address of the family of --source", settings.host))
}

/// The first that accepts; of a single one, or where none does, the first. `localhost` is often `::1` and
/// 127.0.0.1, with a server on only one of them.
fn first_that_accepts(found: &[SocketAddr]) -> Option<SocketAddr> {
    let accepts = |addr: &&SocketAddr| TcpStream::connect_timeout(addr, KNOCK).is_ok();
    let of_several = if found.len() > 1 { found.iter().find(accepts) } else { None };
    of_several.or(found.first()).copied()
}

/// What workers and the control thread share of one worker.
struct Shared {
    /// [`Stage`] as a number.
    stage: AtomicU8,
    open: AtomicU64,
    /// Its thread ended with an error, or a panic.
    failed: AtomicBool,
    full: ArrayQueue<Slice>,
    empty: ArrayQueue<Slice>,
}

/// Says that a worker is done when it goes, and that it failed unless it says otherwise: the control thread waits
/// for that, also where the worker panicked.
struct Over<'a> {
    shared: &'a Shared,
    well: bool,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.shared.failed.store(!self.well, Ordering::Release);
        self.shared.stage.store(Stage::Done as u8, Ordering::Release);
    }
}

/// What all workers share.
struct Common {
    /// The moment to start at; 0 until it is known.
    start_ns: AtomicU64,
    /// [`Order`] as a number.
    order: AtomicU8,
}

impl Slices for &Shared {
    fn exchange(&mut self, slice: Slice) -> Result<Slice, Slice> {
        let Some(empty) = self.empty.pop() else { return Err(slice) };
        match self.full.push(slice) {
            Ok(()) => Ok(empty),
            Err(back) => {
                drop(self.empty.push(empty));
                Err(back)
            }
        }
    }
}

/// What a worker thread brings back.
struct Ended {
    used: WorkerUse,
    window_ns: (u64, u64),
    answers: u64,
    connect_error: Option<i32>,
}

/// One worker as the control thread sees it.
struct Hand {
    shared: Arc<Shared>,
    unpark: Arc<dyn Unpark>,
    thread: JoinHandle<Result<Ended, String>>,
}

/// Performs one run. Blocks for as long as it takes; `watch` is called from here.
///
/// # Errors
/// Why nothing could be measured: the target cannot be reached, limits of the host, a worker that failed.
pub fn run(settings: &Settings, part: Part, command: &str, watch: &mut dyn Watch) -> Result<Run, RunError> {
    let target = resolve(settings)?;
    let connections = share(settings.connections, part.index, part.of);
    if connections < settings.threads {
        return Err(format!(
            "{connections} connections are fewer than {} threads: use --threads {connections}, or more --connections",
            settings.threads
        )
        .into());
    }
    let root = Path::new("/");
    host::check_descriptors(connections, settings.threads, true)?;
    if let Some(tight) = host::check_ports(root, connections, &settings.sources, target.ip())? {
        watch.note(&tight);
    }
    let mut provenance = host::provenance(root, &settings.cpus, command);
    let mut crew = Crew::hire(settings, part, target, connections)?;
    let outcome = crew.direct(settings, target, watch);
    let (ended, directed) = crew.dismiss(outcome)?;

    let answers: u64 = ended.iter().map(|ended| ended.answers).sum();
    let window = ended.first().map_or((0, 0), |ended| ended.window_ns);
    let measured_ns = window.1 - window.0;
    let total = directed.total;
    let errno = ended.iter().find_map(|ended| ended.connect_error);
    if directed.unreached {
        return Err(unreached(settings, target, errno).into());
    }
    if directed.interrupted && measured_ns == 0 {
        return Err("ended before the measured window began: nothing was measured".to_owned().into());
    }
    if answers == 0 && measured_ns > 0 && total.response.count() > 0 {
        return Err(nothing_answered(settings, &total, errno).into());
    }
    provenance.started_unix_ms = directed.started_unix_ms;
    Ok(Run {
        settings: settings.clone(),
        provenance,
        measured_ns,
        interrupted: directed.interrupted,
        total,
        slices: directed.slices,
        workers: ended.into_iter().map(|ended| ended.used).collect(),
        host: directed.host,
        floor: None,
        verdict: Verdict::default(),
    })
}

/// Of all connections none could be opened. The first reason stands for all.
fn unreached(settings: &Settings, target: SocketAddr, errno: Option<i32>) -> String {
    let count = settings.connections;
    let Some(errno) = errno else {
        return format!("{target} closed each of {count} connections at once: is it the right port?");
    };
    let why = match errno {
        libc::ETIMEDOUT => "no answer within the --timeout".to_owned(),
        errno => std::io::Error::from_raw_os_error(errno).to_string(),
    };
    let cure = match errno {
        libc::EADDRNOTAVAIL if !settings.sources.is_empty() => "give --source addresses of this host",
        _ => "start the server, or correct the host and port",
    };
    format!("cannot connect to {target}: {why}; {cure}")
}

/// A run in which the target never answered is none.
fn nothing_answered(settings: &Settings, total: &Tally, errno: Option<i32>) -> String {
    let kinds: Vec<_> = total.errors.iter().map(|(_, text, count)| format!("{count} {text}")).collect();
    let what = match settings.speaks {
        Speaks::Http1 => "HTTP/1.1",
        Speaks::Echo => "an echo",
        Speaks::Resp => "RESP",
    };
    let connect = errno.map_or(String::new(), |errno| {
        format!("; the last connect: {}", std::io::Error::from_raw_os_error(errno))
    });
    format!(
        "{} never gave an answer that is {what}: {}{connect}; is it the right port, and does it speak that protocol?",
        settings.url,
        kinds.join(", ")
    )
}

/// What the control thread gathered.
#[derive(Default)]
struct Directed {
    slices: Vec<Slice>,
    total: Tally,
    host: HostUse,
    interrupted: bool,
    /// No connection could be opened.
    unreached: bool,
    started_unix_ms: u64,
}

/// The workers of a run.
struct Crew {
    common: Arc<Common>,
    hands: Vec<Hand>,
}

impl Crew {
    fn hire(settings: &Settings, part: Part, target: SocketAddr, connections: u32) -> Result<Crew, String> {
        let common = Arc::new(Common { start_ns: AtomicU64::new(0), order: AtomicU8::new(0) });
        let mut crew = Crew { common, hands: Vec::new() };
        for index in 0..settings.threads {
            let job = Job {
                settings: settings.clone(),
                target,
                connections: share(connections, index, settings.threads),
                // The slots of this part are every `part.of`th; of these, every `threads`th is this worker's.
                dealt: Dealt {
                    index: u64::from(part.index) + u64::from(part.of) * u64::from(index),
                    of: u64::from(part.of) * u64::from(settings.threads),
                },
                cpu: settings.cpus.get(index as usize).copied(),
            };
            match crew.hire_one(job, index) {
                Ok(hand) => crew.hands.push(hand),
                Err(error) => {
                    crew.order(Order::Abandon);
                    for hand in crew.hands {
                        drop(hand.thread.join());
                    }
                    return Err(error);
                }
            }
        }
        Ok(crew)
    }

    fn hire_one(&self, job: Job, index: u32) -> Result<Hand, String> {
        let shared = Arc::new(Shared {
            stage: AtomicU8::new(0),
            open: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            full: ArrayQueue::new(SLICES_MAX),
            empty: ArrayQueue::new(SLICES_MAX),
        });
        for _ in 0..SLICES_MAX {
            drop(shared.empty.push(Slice { tally: Tally::prepared(), ..Slice::default() }));
        }
        let (common, mine) = (Arc::clone(&self.common), Arc::clone(&shared));
        let answer: Arc<ArrayQueue<Arc<dyn Unpark>>> = Arc::new(ArrayQueue::new(1));
        let (tell, control) = (Arc::clone(&answer), thread::current());
        let body = move || {
            let mut over = Over { shared: &mine, well: false };
            let outcome = job.perform(index, &common, &mine, |unpark| {
                drop(tell.push(unpark));
                control.unpark();
            });
            over.well = outcome.is_ok();
            outcome
        };
        let named = thread::Builder::new().name(format!("loadgen-{index}"));
        let thread = named.spawn(body).map_err(|error| format!("cannot start a thread: {error}"))?;
        loop {
            if let Some(unpark) = answer.pop() {
                return Ok(Hand { shared, unpark, thread });
            }
            if thread.is_finished() {
                return match thread.join() {
                    Ok(Err(error)) => Err(error),
                    _ => Err(format!("worker {index} ended before it began")),
                };
            }
            thread::park_timeout(LOOK);
        }
    }

    fn order(&self, order: Order) {
        self.common.order.fetch_max(order as u8, Ordering::AcqRel);
        self.wake();
    }

    fn wake(&self) {
        self.hands.iter().for_each(|hand| hand.unpark.unpark());
    }

    /// The stage that every worker has reached.
    fn stage(&self) -> u8 {
        let stages = self.hands.iter().map(|hand| hand.shared.stage.load(Ordering::Acquire));
        stages.min().unwrap_or(Stage::Done as u8)
    }

    fn open(&self) -> u32 {
        let open: u64 = self.hands.iter().map(|hand| hand.shared.open.load(Ordering::Relaxed)).sum();
        u32::try_from(open).unwrap_or(u32::MAX)
    }

    /// Sees the run through. The error is what ended it.
    fn direct(
        &mut self,
        settings: &Settings,
        target: SocketAddr,
        watch: &mut dyn Watch,
    ) -> Result<Directed, String> {
        let mut directed = Directed::default();
        while self.stage() < Stage::Ready as u8 {
            self.obey(watch, &mut directed)?;
            watch.opening(self.open(), settings.connections);
            thread::park_timeout(LOOK);
        }
        if self.stage() == Stage::Done as u8 {
            return Ok(directed);
        }
        if self.open() == 0 {
            directed.unreached = true;
            self.order(Order::Abandon);
            return Ok(directed);
        }
        let start = watch.ready()?;
        self.common.start_ns.store(start, Ordering::Release);
        self.wake();
        watch.stage(Stage::WarmUp);
        let open = start + settings.warmup_ns;
        self.sleep_until(open.saturating_sub(LOOK_AT_HOST_NS), watch, &mut directed)?;
        let root = Path::new("/");
        let asks = settings.speaks == Speaks::Http1;
        let before = host::Watch::begin(root, target, &settings.host, &settings.cpus, asks);
        self.sleep_until(open, watch, &mut directed)?;
        directed.started_unix_ms = unix_ms();
        watch.stage(Stage::Window);
        let mut gather = Gather::new(self.hands.len());
        let close = open + settings.duration_ns;
        let mut after = None;
        loop {
            self.obey(watch, &mut directed)?;
            gather.take(&self.hands, watch);
            let stage = self.stage();
            if after.is_none() && (sys::clock::mono_ns() >= close || stage >= Stage::Drain as u8) {
                after = Some(before.end(root));
                watch.stage(Stage::Drain);
            }
            if stage >= Stage::Done as u8 {
                break;
            }
            thread::park_timeout(LOOK);
        }
        gather.take(&self.hands, watch);
        (directed.slices, directed.total) = gather.finish();
        directed.host = after.unwrap_or_default();
        Ok(directed)
    }

    fn obey(&self, watch: &mut dyn Watch, directed: &mut Directed) -> Result<(), String> {
        match watch.order() {
            Order::GoOn => {}
            order => {
                directed.interrupted = true;
                self.order(order);
            }
        }
        // One that failed takes the others along. One that is merely done before another is not: they look at the
        // clock by themselves, and the window of one may be over while another has not noticed.
        let failed = |hand: &Hand| hand.shared.failed.load(Ordering::Acquire);
        let early = self.hands.iter().any(failed);
        if early && !directed.interrupted { Err("a worker failed".into()) } else { Ok(()) }
    }

    fn sleep_until(&self, at: u64, watch: &mut dyn Watch, directed: &mut Directed) -> Result<(), String> {
        loop {
            let now = sys::clock::mono_ns();
            if now >= at || directed.interrupted {
                return Ok(());
            }
            self.obey(watch, directed)?;
            thread::park_timeout(LOOK.min(Duration::from_nanos(at - now)));
        }
    }

    /// Ends all threads and hears what they say; an error of theirs explains one of the control thread.
    fn dismiss(self, outcome: Result<Directed, String>) -> Result<(Vec<Ended>, Directed), String> {
        if outcome.is_err() {
            self.order(Order::Abandon);
        }
        let mut ended = Vec::new();
        let mut error = None;
        for hand in self.hands {
            match hand.thread.join() {
                Ok(Ok(one)) => ended.push(one),
                Ok(Err(text)) => error = error.or(Some(text)),
                Err(_) => error = error.or(Some("a worker panicked: this is a fault of loadgen".into())),
            }
        }
        match (error, outcome) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(directed)) => Ok((ended, directed)),
        }
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    #[allow(clippy::disallowed_methods)] // the control thread, for the provenance
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Puts slices of several workers together.
struct Gather {
    /// By begin: what came so far, and from how many.
    parts: BTreeMap<u64, (Slice, usize)>,
    /// All of it.
    total: Tally,
    workers: usize,
    told: u64,
}

impl Gather {
    fn new(workers: usize) -> Gather {
        Gather { parts: BTreeMap::new(), total: Tally::default(), workers, told: 0 }
    }

    fn take(&mut self, hands: &[Hand], watch: &mut dyn Watch) {
        for hand in hands {
            while let Some(mut slice) = hand.shared.full.pop() {
                self.total.merge(&slice.tally);
                self.add(&slice);
                slice.tally.clear();
                (slice.start_ns, slice.len_ns) = (0, 0);
                drop(hand.shared.empty.push(slice));
            }
        }
        let whole = self.parts.range(self.told..).take_while(|(_, (_, count))| *count >= self.workers);
        let mut told = self.told;
        for (&start, (slice, _)) in whole {
            watch.slice(slice);
            told = start + 1;
        }
        self.told = told;
    }

    fn add(&mut self, slice: &Slice) {
        let (sum, count) = self.parts.entry(slice.start_ns).or_default();
        sum.start_ns = slice.start_ns;
        sum.len_ns = sum.len_ns.max(slice.len_ns);
        sum.tally.merge_series(&slice.tally);
        *count += 1;
    }

    fn finish(self) -> (Vec<Slice>, Tally) {
        let slices = self.parts.into_values().map(|(slice, _)| slice);
        (slices.filter(|slice| slice.len_ns > 0 || !slice.tally.response.is_empty()).collect(), self.total)
    }
}

/// What one worker thread is to do.
struct Job {
    settings: Settings,
    target: SocketAddr,
    connections: u32,
    dealt: Dealt,
    cpu: Option<usize>,
}

impl Job {
    fn perform(
        self,
        index: u32,
        common: &Common,
        shared: &Shared,
        ready: impl FnOnce(Arc<dyn Unpark>),
    ) -> Result<Ended, String> {
        if let Some(cpu) = self.cpu {
            sys::cpu::pin_current_thread(cpu)
                .map_err(|error| format!("cannot pin a worker to CPU {cpu}: {error}"))?;
        }
        sys::cpu::set_thread_name(&format!("loadgen-{index}"));
        sys::cpu::set_timer_slack(1);
        let settings = &self.settings;
        match settings.speaks {
            Speaks::Http1 => {
                let host = host_header(settings);
                let each = settings.requests_per_connection == 1;
                let protocol =
                    Http1::new(&settings.requests, &host, settings.seed, &settings.expect_status, each)?;
                let kinds = settings.requests.len();
                self.drive(protocol, kinds, common, shared, ready)
            }
            Speaks::Echo => {
                let protocol = Echo::new(settings.echo_len, settings.seed)?;
                self.drive(protocol, 1, common, shared, ready)
            }
            Speaks::Resp => {
                let protocol = Resp::new(settings.resp, settings.seed)?;
                self.drive(protocol, 2, common, shared, ready)
            }
        }
    }

    fn ring(&self) -> Result<Ring, String> {
        let places = self.connections.saturating_mul(4).next_power_of_two();
        let buffers = self.connections.saturating_mul(2).next_power_of_two();
        let buffers = buffers.clamp(RECV_BUFFERS_MIN, RECV_BUFFERS_MAX);
        let mut config = RingConfig {
            entries: SUBMISSION_ENTRIES,
            completion_entries: places.clamp(4096, COMPLETION_ENTRIES_MAX),
            recv_buffers: u16::try_from(buffers).unwrap_or(1024),
            recv_buffer_bytes: RECV_BUFFER_BYTES,
            descriptors: self.connections + DESCRIPTORS_HEADROOM,
            without: Features::NONE,
        };
        let made = |config: &RingConfig| Ring::new(config).map_err(|error| error.to_string());
        let ring = made(&config)?;
        let able = ring.abilities();
        if able.sock_options && (able.bind || self.settings.sources.is_empty()) {
            return Ok(ring);
        }
        // A kernel before 6.7 or 6.11: sockets as descriptors of the process have all that.
        drop(ring);
        config.without = Features::DIRECT;
        made(&config)
    }

    fn drive<P: Protocol>(
        self,
        protocol: P,
        kinds: usize,
        common: &Common,
        shared: &Shared,
        ready: impl FnOnce(Arc<dyn Unpark>),
    ) -> Result<Ended, String> {
        let ring = self.ring()?;
        let unpark = ring.unpark();
        let pools = Pools::new(&PoolConfig::default()).map_err(|error| format!("no memory: {error}"))?;
        let settings = self.settings;
        let traffic = match &settings.traffic {
            Loop::Closed { think_ns, think_exponential } => {
                Traffic::Closed { think_ns: *think_ns, exponential: *think_exponential }
            }
            Loop::Open { arrivals, stages } => {
                Traffic::Open(Schedule::new(arrivals, stages, settings.seed, self.dealt)?)
            }
        };
        let config = worker::Config {
            target: self.target,
            sources: settings.sources.clone(),
            connections: self.connections,
            pipeline: settings.pipeline,
            traffic,
            requests_per_connection: settings.requests_per_connection,
            ramp_ns: settings.ramp_ns,
            warmup_ns: settings.warmup_ns,
            duration_ns: settings.duration_ns,
            drain_ns: settings.drain_ns,
            timeout_ns: settings.timeout_ns,
            slice_ns: settings.slice_ns,
            seed: settings.seed,
            index: self.dealt.index,
            of: self.dealt.of,
            kinds,
            busy_poll: settings.busy_poll,
        };
        let mut worker = Worker::new(ring, pools, protocol, config);
        ready(unpark);
        let mut used = WorkerUse { cpu: self.cpu, ..WorkerUse::default() };
        let (mut before, mut counted) = ((0, ThreadUse::default()), corelane_base::KernelStats::default());
        // The scheduler's own figure may be a tick old; the thread's clock is not.
        let look =
            || (sys::kernel::thread_cpu_ns(), ThreadUse::read_self(Path::new("/")).unwrap_or_default());
        let mut stage = Stage::Opening;
        let mut slices = shared;
        let mut order = 0;
        loop {
            worker.turn(&mut slices).map_err(|error| format!("the ring of a worker failed: {error}"))?;
            let next = worker.stage();
            if next == Stage::Ready {
                let start = common.start_ns.load(Ordering::Acquire);
                if start > 0 {
                    used.unopened = self.connections.saturating_sub(worker.connections_open());
                    worker.start(start);
                }
            }
            if next != stage || next <= Stage::Ready {
                shared.open.store(u64::from(worker.connections_open()), Ordering::Relaxed);
            }
            if next != stage {
                if stage < Stage::Window && next >= Stage::Window {
                    before = look();
                    counted = worker.kernel().stats();
                }
                if stage < Stage::Drain && next >= Stage::Drain {
                    let now = look();
                    let stats = worker.kernel().stats();
                    used.cpu_ns = now.0.saturating_sub(before.0);
                    used.run_delay_ns = now.1.since(&before.1).run_delay_ns;
                    used.enters = stats.enters - counted.enters;
                    used.cq_overflows = stats.cq_overflows - counted.cq_overflows;
                    used.no_buffers = stats.no_buffers - counted.no_buffers;
                }
                stage = next;
                shared.stage.store(stage as u8, Ordering::Release);
            }
            if stage == Stage::Done {
                break;
            }
            let wanted = common.order.load(Ordering::Relaxed);
            if wanted > order {
                order = wanted;
                if wanted == Order::Abandon as u8 { worker.abandon() } else { worker.stop() }
            }
        }
        let counters = worker.counters();
        let window_ns = worker.window_ns();
        used.wall_ns = window_ns.1.saturating_sub(window_ns.0);
        used.spin_ns = counters.spin_ns;
        used.hiccup_max_ns = counters.hiccup_max_ns;
        let connect_error = worker.connect_error();
        Ok(Ended { used, window_ns, answers: counters.answers, connect_error })
    }
}

/// The value of `Host` (RFC 9112, 3.2): with the port unless it is that of the scheme.
fn host_header(settings: &Settings) -> String {
    let bracket = settings.host.contains(':');
    let host = if bracket { format!("[{}]", settings.host) } else { settings.host.clone() };
    if settings.port == 80 { host } else { format!("{host}:{}", settings.port) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn of_several_addresses_one_that_accepts_is_taken() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let accepts = listener.local_addr().unwrap();
        // Another address of loopback, where nobody listens.
        let refuses = SocketAddr::from(([127, 250, 1, 1], accepts.port()));
        assert_eq!(first_that_accepts(&[refuses, accepts]), Some(accepts));
        assert_eq!(first_that_accepts(&[accepts, refuses]), Some(accepts));
        assert_eq!(first_that_accepts(&[refuses, refuses]), Some(refuses), "the run will say why");
        assert_eq!(first_that_accepts(&[refuses]), Some(refuses));
        assert_eq!(first_that_accepts(&[]), None);
    }

    #[test]
    fn shares_differ_by_one_at_most_and_add_up() {
        for (total, of) in [(64, 1), (64, 3), (7, 4), (3, 3), (100_000, 7)] {
            let shares: Vec<u32> = (0..of).map(|index| share(total, index, of)).collect();
            assert_eq!(shares.iter().sum::<u32>(), total);
            let (low, high) = (shares.iter().min(), shares.iter().max());
            assert!(high.zip(low).is_some_and(|(high, low)| high - low <= 1), "{shares:?}");
        }
    }
}
