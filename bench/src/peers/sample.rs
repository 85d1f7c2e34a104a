//! One sample: a fresh server, one run of the client, and what both cost in its window.
//!
//! The client opens its connections, warms up and measures by itself, and says when its window began. The
//! server is read all the while; of these readings the first and the last that lie within the window are
//! used. So nothing of a start, of connecting or of an end is in the figures, and the share of a CPU that the
//! server used between the two, by the rate of answers, is the cost of one.
//!
//! Not here: the order of samples (`run`), medians (`figures`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Stop;
use super::client::{self, Answered, Files, Times};
use super::loads::{Load, Mode, Target};
use super::model::{Kind, Sample};
use super::server::{Group, Reading, Started, Trouble, now_ms};
use super::subjects::{Server, Start};
use crate::ab::process::free_port;

/// How long the client may take beyond warm-up and window: connecting, waiting for answers, its report.
const CLIENT_EXTRA_MAX: Duration = Duration::from_secs(20);

/// Between two looks at whether the client has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Connections that come and go before memory is read: code and pools that the first ones bring in for all.
const IDLE_WARM_UP: u32 = 400;

/// Runs of the client until one has two looks at the server.
const TRIES_MAX: u32 = 3;

/// Share of a window that two readings must be apart.
const APART_MIN: f64 = 0.3;

/// What every sample needs.
pub(super) struct Bench<'b> {
    pub(super) loadgen: &'b Path,
    /// Of the server and of the client.
    pub(super) cpus: [usize; 2],
    /// A folder for what programs read and write.
    pub(super) folder: &'b Path,
    /// The file of `/file`.
    pub(super) blob: PathBuf,
    pub(super) stop: Stop,
}

/// One sample and what belongs to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) sample: Sample,
    pub(super) answer_len: u64,
    /// Why the client calls its own measurement invalid.
    pub(super) invalid: Vec<String>,
}

/// Takes one sample of `server` under `load`; `rate` is that of an open loop.
///
/// # Errors
/// Why there is no figure.
pub(super) fn sample(
    bench: &Bench<'_>,
    server: &Server,
    load: &Load,
    times: Times,
    rate: Option<f64>,
) -> Result<Seen, Trouble> {
    let mut started = start(bench, server, load)?;
    let answer_len = started.verify(load.target, load.mode == Mode::Connect)?;
    let (sample, answered) = if load.kind() == Kind::Idle {
        idle(bench, &mut started, load, times)?
    } else {
        seen_twice(bench, &mut started, load, times, rate, answer_len)?
    };
    Ok(Seen { sample, answer_len, invalid: answered.invalid })
}

/// Runs the client until there were two looks at the server within its window: a machine that is busy with
/// other things may keep this program from looking.
fn seen_twice(
    bench: &Bench<'_>,
    started: &mut Started,
    load: &Load,
    times: Times,
    rate: Option<f64>,
    answer_len: u64,
) -> Result<(Sample, Answered), Trouble> {
    for _ in 0..TRIES_MAX {
        let run = drive(bench, started, load, times, rate)?;
        survived(started)?;
        if let Some((first, last)) = run.within() {
            return Ok((figures(load, &run.answered, &first, &last, answer_len)?, run.answered));
        }
    }
    Err(Trouble::Absent(format!(
        "fewer than two looks at the server within {TRIES_MAX} windows: use a longer --window"
    )))
}

/// Starts `server` for `load`.
pub(super) fn start(bench: &Bench<'_>, server: &Server, load: &Load) -> Result<Started, Trouble> {
    let port = || free_port().map_err(Trouble::here("no free port"));
    let folder = bench.folder.join("server");
    let start =
        Start { port: port()?, admin_port: port()?, cpu: bench.cpus[0], folder: &folder, blob: &bench.blob };
    let words = server.command(load, &start).map_err(Trouble::Absent)?;
    let cpu = Server::is_pinned(load).then_some(bench.cpus[0]);
    Started::start(&words, cpu, start.port, &bench.stop)
}

fn survived(started: &mut Started) -> Result<(), Trouble> {
    match started.ended() {
        Some(status) => Err(Trouble::Absent(format!("the server ended under load ({status})"))),
        None => Ok(()),
    }
}

/// What one run of the client left.
struct Run {
    answered: Answered,
    readings: Vec<Reading>,
    /// When the client was started, milliseconds since 1970.
    spawned_ms: f64,
}

impl Run {
    /// The first and the last reading within the window, if they are far enough apart.
    fn within(&self) -> Option<(Reading, Reading)> {
        let (begin, length) = (self.answered.started_ms, self.answered.window_ms);
        within(&self.readings, begin, length)
    }
}

fn within(readings: &[Reading], begin: f64, length: f64) -> Option<(Reading, Reading)> {
    let inside = || readings.iter().filter(|r| (begin..=begin + length).contains(&r.at_ms));
    let (first, last) = (inside().next()?, inside().next_back()?);
    (last.at_ms - first.at_ms >= APART_MIN * length).then_some((*first, *last))
}

/// The client, started for `load`.
pub(super) fn spawn_client(
    bench: &Bench<'_>,
    load: &Load,
    times: Times,
    port: u16,
    rate: Option<f64>,
) -> Result<Group, Trouble> {
    let files = Files { folder: bench.folder };
    for name in ["run.json", "run.hgrm"] {
        // Those of the run before; there may be none.
        let _ = fs::remove_file(bench.folder.join(name));
    }
    if let Target::Echo(_) = load.target {
        fs::write(bench.folder.join("body"), load.target.body()).map_err(Trouble::here("the body"))?;
    }
    let said = fs::File::create(bench.folder.join("client.err")).map_err(Trouble::here("a file"))?;
    let mut command = Command::new(bench.loadgen);
    command.args(client::arguments(load, times, port, bench.cpus[1], rate, &files));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
    let cpu = Server::is_pinned(load).then_some(bench.cpus[1]);
    let program = bench.loadgen.display().to_string();
    Group::spawn(command, cpu).map_err(Trouble::here(&program))
}

/// Waits for the client, looking every `pause` with `look`, and reads its result.
pub(super) fn await_client(
    bench: &Bench<'_>,
    mut client: Group,
    times: Times,
    pause: Duration,
    mut look: impl FnMut(u32),
) -> Result<Answered, Trouble> {
    let start = Instant::now();
    let warm = Duration::from_millis(times.warm_up_ms);
    let whole = warm + Duration::from_millis(times.window_ms);
    // The window cannot have begun before.
    let mut next = start + warm;
    while client.ended().is_none() {
        bench.stop.check()?;
        if start.elapsed() > whole + CLIENT_EXTRA_MAX {
            return Err(Trouble::Absent("the client did not end: is this machine too busy?".to_owned()));
        }
        if Instant::now() >= next {
            look(client.id());
            next = Instant::now() + pause;
        }
        let left = next.saturating_duration_since(Instant::now());
        // Its end is waited for closely only once it may come.
        thread::sleep(if start.elapsed() < whole { left.min(10 * LOOK) } else { left.min(LOOK) });
    }
    client::result(&Files { folder: bench.folder }).map_err(|error| {
        let said = fs::read_to_string(bench.folder.join("client.err")).unwrap_or_default();
        let said = said.lines().rev().find(|line| line.starts_with("loadgen:")).unwrap_or(&error).to_owned();
        Trouble::Absent(said)
    })
}

fn drive(
    bench: &Bench<'_>,
    started: &Started,
    load: &Load,
    times: Times,
    rate: Option<f64>,
) -> Result<Run, Trouble> {
    let spawned_ms = now_ms();
    let client = spawn_client(bench, load, times, started.port, rate)?;
    // A look takes some 100 us on one of the CPUs: where latencies are what matters it is rare.
    let looks = if load.is_of_latency() { 3 } else { 8 };
    let pause = Duration::from_millis((times.window_ms / looks).clamp(10, 250));
    let mut readings = Vec::new();
    let answered = await_client(bench, client, times, pause, |client| {
        // A process that has just ended cannot be read, which is found out by who waits for it.
        readings.extend(started.read(client, bench.cpus));
    })?;
    Ok(Run { answered, readings, spawned_ms })
}

/// Figures of a load that goes on, from two readings within its window.
fn figures(
    load: &Load,
    answered: &Answered,
    first: &Reading,
    last: &Reading,
    answer_len: u64,
) -> Result<Sample, Trouble> {
    if answered.completed == 0 || answered.rate <= 0.0 {
        return Err(Trouble::Absent(format!("no answers within the window, and {} errors", answered.errors)));
    }
    check_length(load, answered, answer_len)?;
    let wall_ns = (last.at_ms - first.at_ms) * 1e6;
    let share = |before: u64, after: u64| after.saturating_sub(before) as f64 / wall_ns;
    let server = share(first.server_ns, last.server_ns);
    if server <= 0.0 {
        return Err(Trouble::Absent("used no CPU time: another process answers".to_owned()));
    }
    let client = share(first.client_ns, last.client_ns);
    let busy = [0, 1].map(|cpu| share(first.busy_ns[cpu], last.busy_ns[cpu]));
    let others = (busy[0] - server).max(busy[1] - client).max(0.0);
    let bytes_a_second = answered.rate * load.target.body_len() as f64;
    let of_bodies = |figure: f64| (load.kind() == Kind::Download).then_some(figure);
    Ok(Sample {
        cpu_us: Some(server * 1e6 / answered.rate),
        client_us: answered.client_us,
        rate: Some(answered.rate),
        p50_us: answered.p50_us,
        p99_us: answered.p99_us,
        p999_us: answered.p999_us,
        cpu_s_per_gib: of_bodies(server / bytes_a_second * f64::from(1 << 30)),
        gb_per_s: of_bodies(bytes_a_second / 1e9),
        rss_kib: Some(last.rss / 1024),
        idle_bytes: None,
        open_s: None,
        busy: Some(server),
        others: Some(others),
        errors: answered.errors,
    })
}

/// Every answer has the length of the one that was looked at; those that the window cuts in two are allowed
/// for.
fn check_length(load: &Load, answered: &Answered, answer_len: u64) -> Result<(), Trouble> {
    let cut = u64::from(load.connections) * u64::from(load.pipeline) + 1;
    let expected = answered.completed * answer_len;
    if answered.errors > 0 || answered.bytes_in.abs_diff(expected) <= cut * answer_len {
        return Ok(());
    }
    Err(Trouble::Wrong(format!(
        "{} answers were {} bytes, and should be {answer_len} each: {expected}",
        answered.completed, answered.bytes_in
    )))
}

/// Opens the connections of `load`, has each ask once, and reads the server's memory while they rest.
fn idle(
    bench: &Bench<'_>,
    started: &mut Started,
    load: &Load,
    times: Times,
) -> Result<(Sample, Answered), Trouble> {
    let few = Load { connections: load.connections.min(IDLE_WARM_UP), ..load.clone() };
    drive(bench, started, &few, Times { warm_up_ms: 0, window_ms: 200 }, None)?;
    survived(started)?;
    let before = started.rss().map_err(Trouble::here("memory of the server"))?;
    let run = drive(bench, started, load, Times { warm_up_ms: 0, ..times }, None)?;
    survived(started)?;
    let (_, last) =
        run.within().ok_or_else(|| Trouble::Absent("the client was gone too early".to_owned()))?;
    let connections = u64::from(load.connections);
    let grown = last.rss as f64 - before as f64;
    let sample = Sample {
        rss_kib: Some(last.rss / 1024),
        idle_bytes: Some(grown / connections as f64),
        open_s: Some((run.answered.started_ms - run.spawned_ms) / 1e3),
        p50_us: run.answered.p50_us,
        p99_us: run.answered.p99_us,
        p999_us: run.answered.p999_us,
        // One that never asked is as bad as one that was not answered.
        errors: run.answered.errors.max(connections.saturating_sub(run.answered.completed)),
        ..Sample::default()
    };
    Ok((sample, run.answered))
}

/// Milliseconds of the runs of a load: of the client's warm-up and of its window.
pub(super) fn times(load: &Load, quick: bool, window_ms: Option<u64>) -> Times {
    match load.mode {
        Mode::Idle => Times { warm_up_ms: 0, window_ms: if quick { 1_500 } else { 3_000 } },
        Mode::Crowd => Times { warm_up_ms: 0, window_ms: 6_000 },
        _ => {
            let usual = if quick { 600 } else { 2_000 };
            let warm_up_ms = match (quick, load.connections) {
                (true, ..1000) => 150,
                (true, _) => 400,
                (false, _) => 1_000,
            };
            Times { warm_up_ms, window_ms: window_ms.unwrap_or(usual) }
        }
    }
}

#[cfg(test)]
#[path = "sample/tests.rs"]
mod tests;
