//! Several processes as one generator: `loadgen agent`, and `loadgen --agents`.
//!
//! Not here: what they say to each other (`agent`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corelane_sys::{clock, cpu};

use super::args::AgentArgs;
use super::progress::{Progress, tell};
use super::signals::Asked;
use super::{Exit, settings};
use crate::agent::{self, Agent, Ask, Dealt, Engine, Timing, Token};
use crate::engine::{self, Order, Part, Watch};
use crate::host;
use crate::model::{Loop, Run, Settings, Slice};
use crate::verdict::{self, Bounds};
use crate::worker::Stage;

/// From the plan to the first request: the least, and more for each connection, at 5,000 opened a second.
const AHEAD: Duration = Duration::from_secs(1);
const AHEAD_PER_CONNECTION: Duration = Duration::from_micros(200);

fn token(path: Option<&Path>) -> Result<Option<Token>, String> {
    path.map(|path| Token::read(&path.to_string_lossy())).transpose()
}

/// Sets a flag once the user asked to end.
fn stop_flag(asked: &Asked) -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, asked) = (Arc::clone(&stop), asked.clone());
    let body = move || {
        while !asked.any() {
            std::thread::sleep(Duration::from_millis(20));
        }
        flag.store(true, Ordering::Release);
    };
    let named = std::thread::Builder::new().name("stop".into());
    named.spawn(body).map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(stop)
}

/// A run's share on this host.
struct Local {
    cpus: Option<Vec<usize>>,
    pin: bool,
}

impl Local {
    /// Settings with CPUs of this host.
    fn placed(&self, settings: &Settings) -> Result<Settings, String> {
        let needed = settings.threads as usize;
        let allowed = match &self.cpus {
            Some(cpus) => cpus.clone(),
            None => {
                cpu::allowed_cpus().map_err(|error| format!("cannot read which CPUs may be used: {error}"))?
            }
        };
        let cpus = match allowed.len().checked_sub(needed) {
            Some(first) if self.pin => allowed[first..].to_vec(),
            None if self.cpus.is_some() => {
                return Err(format!("the run has {needed} threads, and --cpus names {} CPUs", allowed.len()));
            }
            _ => Vec::new(),
        };
        Ok(Settings { cpus, ..settings.clone() })
    }
}

/// The part of the load that falls to one of `of` processes, to judge what it measured.
fn part_of(settings: &Settings, of: u64) -> Settings {
    let mut part = settings.clone();
    let count = u32::try_from(of).unwrap_or(u32::MAX).max(1);
    part.connections = (settings.connections / count).max(1);
    if let Loop::Open { stages, .. } = &mut part.traffic {
        for stage in stages {
            stage.from /= f64::from(count);
            stage.to /= f64::from(count);
        }
    }
    part
}

struct Hooks<'a> {
    start_at: Instant,
    on_slice: &'a mut dyn FnMut(&Slice),
    stop: &'a AtomicBool,
}

impl Watch for Hooks<'_> {
    fn order(&mut self) -> Order {
        if self.stop.load(Ordering::Acquire) { Order::Stop } else { Order::GoOn }
    }

    fn ready(&mut self) -> Result<u64, String> {
        #[allow(clippy::disallowed_methods)] // the control thread: the controller counts by this clock
        let now = Instant::now();
        match self.start_at.checked_duration_since(now) {
            Some(ahead) if !ahead.is_zero() => {
                Ok(clock::mono_ns() + u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX))
            }
            _ => Err("the connections were not open at the moment of the start".into()),
        }
    }

    fn slice(&mut self, slice: &Slice) {
        (self.on_slice)(slice);
    }
}

impl Engine for Local {
    fn run(
        &self,
        settings: &Settings,
        dealt: Dealt,
        start_at: Instant,
        on_slice: &mut dyn FnMut(&Slice),
        stop: &AtomicBool,
    ) -> Result<Run, String> {
        let part = |n| u32::try_from(n).map_err(|_| format!("{n} agents are too many"));
        let share = Part { index: part(dealt.index)?, of: part(dealt.of)? };
        settings::check(settings)?;
        let placed = self.placed(settings)?;
        let mut hooks = Hooks { start_at, on_slice, stop };
        let run = engine::run(&placed, share, "loadgen agent", &mut hooks);
        let mut run = run.map_err(|error| error.to_string())?;
        run.settings = part_of(&run.settings, dealt.of);
        run.verdict = verdict::judge(&run, &Bounds::default());
        run.settings = settings.clone();
        Ok(run)
    }
}

/// Waits for controllers until it is told to end.
///
/// # Errors
/// Where it cannot listen.
pub(crate) fn serve(args: &AgentArgs) -> Result<Exit, String> {
    let token = token(args.token_file.as_deref())?;
    let allowed = cpu::allowed_cpus().unwrap_or_default();
    let cpus = args.cpus.as_deref().map(|text| settings::cpus_of(text, &allowed)).transpose()?;
    let host_id = host::provenance(Path::new("/"), &[], "").host_id;
    let local = Local { cpus, pin: !args.no_pin };
    let agent = Agent::bind(args.listen, token, host_id, allowed.len())?;
    let stop = stop_flag(&Asked::listen()?)?;
    tell(&format!("agent on {}", agent.local_addr()));
    agent.serve(&local, &|line| tell(line), &stop)?;
    Ok(Exit::Done)
}

/// Has the agents measure, and gives what they measured together.
///
/// # Errors
/// Which agent could not, and why.
pub(crate) fn control(
    agents: &[String],
    token_file: Option<&Path>,
    settings: &Settings,
    command: &str,
    progress: &mut Progress,
    asked: &Asked,
) -> Result<Run, String> {
    let each = settings.connections / u32::try_from(agents.len().max(1)).unwrap_or(1);
    let timing = Timing { start_ahead: AHEAD + AHEAD_PER_CONNECTION * each, ..Timing::default() };
    settings::check(settings)?;
    let token = token(token_file)?;
    let ask = Ask { agents, token: token.as_ref(), settings, command, timing };
    let stop = stop_flag(asked)?;
    progress.stage(Stage::WarmUp);
    agent::control(&ask, &mut |slice| progress.slice(slice), &stop)
}
