//! The thread of one shard: what it makes, when it opens, and when it may end.
//!
//! Steps, of which the control thread gives the signal for the last three: set up and start hooks; open the
//! listeners; drain; end. A shard that has drained still answers the others until all have.
//!
//! On either host (`corelane_exec::host`) the steps are the same future.
//!
//! # Rules
//! 1. Rings and memory are made here, after the thread was pinned (first touch).
//! 2. A panic that is ours ends the process.
//!
//! Not here: who gives the signals (`control`).

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane_base::{ListenerId, ShardId};
use corelane_exec::host::{self, Kind};
use corelane_exec::{BlockingPool, Host, Runtime, Seat, Shard, Turn};
use corelane_net::Balance;
use corelane_net::http1::Draining;
use corelane_pools::{PoolConfig, Pools};
use corelane_sys::MapOptions;
use corelane_uring::Ring;
use crossbeam_channel::Sender;
use std::os::fd::OwnedFd;

use super::control::Ready;
use super::{Server, ShardInfo};
use crate::config::{Numa, ShardHost};
use crate::drain::Drains;
use crate::observe::{self, NodeFacts, ShardFacts};
use crate::preflight::{self, StartError};
use crate::services::cache::Redis;

pub(super) type AppStart = Arc<dyn Fn(&Rc<Shard>, ShardInfo, &Ground) -> Started + Send + Sync>;
pub(super) type Hook = std::pin::Pin<Box<dyn Future<Output = Result<(), StartError>>>>;
pub(super) type LastHook = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// What an application is set up on.
pub(super) struct Ground {
    pub(super) listeners: Vec<ListenerId>,
    /// Of all shards.
    pub(super) balance: Arc<Balance>,
    /// Where Redis clients come to, and what they find.
    pub(super) redis_listeners: Vec<ListenerId>,
    pub(super) redis: Option<Redis>,
}

type Listen = Box<dyn FnOnce(&Rc<Shard>)>;

/// What an application's closure set up on a shard.
pub(super) struct Started {
    pub(super) parts: Vec<Rc<dyn Draining>>,
    pub(super) first: Vec<Hook>,
    /// Lets others give connections to this shard; before any shard accepts.
    pub(super) seat: Box<dyn FnOnce(&Shard)>,
    pub(super) listen: Listen,
    pub(super) last: Box<dyn Fn() -> Vec<LastHook>>,
}

/// What a shard's thread needs to begin.
pub(super) struct Plan {
    pub(super) info: ShardInfo,
    /// The memory node of its CPU, where there is a choice.
    pub(super) node: Option<usize>,
    pub(super) facts: Arc<NodeFacts>,
    pub(super) server: Server,
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) balance: Arc<Balance>,
    pub(super) app: AppStart,
    pub(super) redis: Option<Redis>,
    /// The first of its listeners are for HTTP, the others for Redis clients.
    pub(super) http_listens: usize,
    pub(super) blocking: Arc<BlockingPool>,
    pub(super) seat: Seat,
    pub(super) events: Sender<ShardEvent>,
}

/// What shards, signals and owners tell the control thread.
pub(super) enum ShardEvent {
    /// Set up; its start hooks are done.
    Ready(Box<Ready>),
    /// Nothing of its own is left; it still answers other shards.
    Drained(ShardId),
    /// Its thread is about to end.
    Ended(ShardId, Result<(), StartError>),
    Signal,
    Drain,
    /// As `Drain`, and nothing where it drains already.
    Shutdown,
}

impl fmt::Debug for ShardEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ShardEvent::Ready(_) => "Ready",
            ShardEvent::Drained(_) => "Drained",
            ShardEvent::Ended(..) => "Ended",
            ShardEvent::Signal => "Signal",
            ShardEvent::Drain => "Drain",
            ShardEvent::Shutdown => "Shutdown",
        })
    }
}

/// Time for the log's own thread to write where a shard panicked, before the process ends.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Between two looks whether every shard is ready.
const OPEN_LOOK: Duration = Duration::from_micros(200);

pub(super) fn shard_thread(plan: Plan) {
    let (info, events) = (plan.info, plan.events.clone());
    let serving = Rc::new(Cell::new(false));
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| on_host(plan, Rc::clone(&serving))));
    let outcome = run.unwrap_or_else(|_| {
        if !serving.get() {
            // The application's own set-up: nothing is served yet, so this is a failed start.
            return Err(StartError::Panicked(info.id));
        }
        // A panic of a handler never gets here: this one is ours. A node with a shard missing would accept
        // what it cannot serve, so the process ends, and its supervisor starts a whole one.
        tracing::error!(shard = info.id.0, "a shard panicked: the process ends");
        eprintln!("corelane: shard {} panicked; ending the process", info.id.0);
        std::thread::sleep(LAST_WORDS);
        std::process::abort();
    });
    drop(events.send(ShardEvent::Ended(info.id, outcome)));
}

fn on_host(plan: Plan, serving: Rc<Cell<bool>>) -> Result<(), StartError> {
    let of_cpus = |error| StartError::System { step: "pin a shard to its CPU", error };
    let allowed = corelane_sys::cpu::allowed_cpus().map_err(of_cpus)?;
    if let Some(cpu) = plan.info.cpu {
        corelane_sys::cpu::pin_current_thread(cpu).map_err(of_cpus)?;
    }
    let kind = host_kind(&plan)?;
    // Before an executor is made: where io_uring is not to be had, this says why and what to do.
    let ring = make_ring(&plan)?;
    if plan.server.host == ShardHost::Glommio && plan.info.cpu.is_some() {
        // The executor pins this thread itself, after it has started its own for what blocks: that one is to run
        // where there is room.
        corelane_sys::cpu::keep_current_thread_on(&allowed).map_err(of_cpus)?;
    }
    host::run(&kind, |host| shard_main(plan, ring, serving, host))
        .map_err(|error| StartError::System { step: "make the executor of a shard", error })?
}

/// What the node's setting means for one shard.
fn host_kind(plan: &Plan) -> Result<Kind, StartError> {
    match plan.server.host {
        ShardHost::Native => Ok(Kind::Native),
        ShardHost::Glommio => Kind::glommio(plan.info.cpu, &plan.server.limits).ok_or(StartError::NoGlommio),
    }
}

impl Plan {
    /// The memory node that its memory is to come from, if one is asked for.
    fn memory_node(&self) -> Option<usize> {
        self.node.filter(|_| self.server.numa == Numa::Auto)
    }
}

fn make_ring(plan: &Plan) -> Result<Ring, StartError> {
    let Server { limits, without, huge_pages, .. } = &plan.server;
    let memory = MapOptions { node: plan.memory_node(), huge_pages: *huge_pages, ..MapOptions::default() };
    Ring::with_memory(&preflight::ring_config(limits, *without), &memory)
        .map_err(|error| StartError::ring(error, limits))
}

async fn shard_main(
    plan: Plan,
    mut ring: Ring,
    serving: Rc<Cell<bool>>,
    mut host: Host,
) -> Result<(), StartError> {
    let node = plan.memory_node();
    let Plan {
        info,
        node: _,
        facts,
        server,
        listeners,
        balance,
        app,
        redis,
        http_listens,
        blocking,
        seat,
        events,
    } = plan;
    let limits = &server.limits;
    let pools = Pools::new(&PoolConfig {
        small_count: limits.pool_small,
        medium_count: limits.pool_medium,
        large_count: limits.pool_large,
        heap_bytes_max: limits.pool_heap_bytes_max,
        node,
        huge_pages: server.huge_pages,
        guard: server.pool_guard,
        poison: server.pool_guard,
        ..PoolConfig::default()
    })
    .map_err(|error| StartError::System { step: "map the memory pools", error })?;
    let of_pools = pools.refusals().iter().map(|refusal| format!("memory pools: {refusal}"));
    let of_ring = ring.refusals().iter().map(|refusal| format!("receive buffers: {refusal}"));
    let notes = of_pools.chain(of_ring).collect();
    let (granted, lacking) = (ring.granted(), ring.lacking().to_vec());
    let ids: Vec<ListenerId> = listeners.into_iter().map(|fd| ring.add_listener(fd)).collect();
    let mut runtime = Runtime::on_mesh(info.id, limits.clone(), pools, ring, Some(blocking), seat);
    host.settle(&mut runtime)
        .map_err(|error| StartError::System { step: "make the signal of a shard's ring", error })?;
    observe::introduce(
        runtime.shard(),
        ShardFacts {
            node: facts,
            host: server.host.name(),
            cpu: info.cpu,
            numa_node: node,
            ring: granted.to_string(),
            lacks: lacking.iter().map(ToString::to_string).collect(),
        },
    );
    let (http, others) = ids.split_at(http_listens.min(ids.len()));
    let ground = Ground { listeners: http.to_vec(), balance, redis_listeners: others.to_vec(), redis };
    let Started { parts, first, seat, listen, last } = runtime.within(|shard| app(shard, info, &ground));

    run_first_hooks(&mut host, &mut runtime, first).await?;
    runtime.within(|shard| seat(shard));
    let drains = Rc::new(Drains::new(parts));
    DRAINS.set(Some(Rc::clone(&drains)));
    let handle = runtime.shard().handle();
    drop(events.send(ShardEvent::Ready(Box::new(Ready { info, handle, granted, lacking, notes }))));

    // Every shard must be ready before one of them serves.
    while STAGE.get() < Stage::Open {
        if !host.is_native() {
            turn(&mut host, &mut runtime).await?;
            continue;
        }
        // Not asleep in the ring: under a tool that runs one thread at a time (valgrind) and does not know that
        // the call waits, the thread that is to say so would never run.
        let turn = runtime.turn(false);
        match turn.map_err(|error| StartError::System { step: "enter the ring", error })? {
            Turn::Busy => {}
            Turn::Idle => std::thread::sleep(OPEN_LOOK),
        }
    }
    serving.set(true);
    if STAGE.get() < Stage::Draining {
        runtime.within(listen);
    }
    turn_until(&mut host, &mut runtime, Stage::Draining).await?;
    if server.steer {
        // A socket that leaves the group moves another to its place: from here on the hash chooses.
        for &id in &ids {
            if let Some(listener) = runtime.kernel().listener_fd(id) {
                let _ = corelane_sys::socket::unsteer(listener); // refused for those never steered
            }
        }
    }
    loop {
        let shard = Rc::clone(runtime.shard());
        for id in runtime.within(|shard| drains.closed_listeners(shard)) {
            runtime.kernel().remove_listener(id);
        }
        if runtime.within(|_| drains.is_over(&shard)) {
            break;
        }
        turn(&mut host, &mut runtime).await?;
    }
    run_last_hooks(&mut host, &mut runtime, last()).await?;
    DRAINS.set(None);
    drop(events.send(ShardEvent::Drained(info.id)));
    turn_until(&mut host, &mut runtime, Stage::Ending).await
}

/// How far a shard is. The control thread moves it on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Stage {
    Starting,
    Open,
    Draining,
    Ending,
}

thread_local! {
    /// What this thread's shard drains, and how far it is: set by messages, read by the loops above.
    static DRAINS: Cell<Option<Rc<Drains>>> = const { Cell::new(None) };
    static STAGE: Cell<Stage> = const { Cell::new(Stage::Starting) };
}

/// A message: open the listeners.
pub(super) fn open_here(shard: &Shard) {
    STAGE.set(STAGE.get().max(Stage::Open));
    shard.turn_again();
}

/// A message: drain. A shard that has not opened goes straight on.
pub(super) fn drain_here(shard: &Shard) {
    if let Some(drains) = DRAINS.take() {
        drains.begin(shard);
        // The loop must turn when the time is over, whatever else happens.
        let time = drains.deadline(shard);
        if let Ok(task) = corelane_exec::spawn(corelane_exec::sleep(time)) {
            task.detach();
        }
        DRAINS.set(Some(drains));
    }
    STAGE.set(STAGE.get().max(Stage::Draining));
    shard.turn_again();
}

/// A message: every shard has drained.
pub(super) fn end_here(shard: &Shard) {
    STAGE.set(Stage::Ending);
    shard.turn_again();
}

#[inline]
async fn turn(host: &mut Host, runtime: &mut Runtime<Ring>) -> Result<(), StartError> {
    let step = if host.is_native() { "enter the ring" } else { "turn a shard inside glommio" };
    host.turn(runtime).await.map_err(|error| StartError::System { step, error })
}

async fn turn_until(host: &mut Host, runtime: &mut Runtime<Ring>, stage: Stage) -> Result<(), StartError> {
    while STAGE.get() < stage {
        turn(host, runtime).await?;
    }
    Ok(())
}

/// Held by a task that this thread's loop waits for: however it ends, the turn it ends in does not sleep.
struct Look;

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(shard) = corelane_exec::try_current() {
            shard.turn_again();
        }
    }
}

/// Start hooks run as a task of the shard.
async fn run_first_hooks(
    host: &mut Host,
    runtime: &mut Runtime<Ring>,
    first: Vec<Hook>,
) -> Result<(), StartError> {
    let hooks: Rc<Cell<Option<Result<(), StartError>>>> = Rc::new(Cell::new(None));
    let done = Rc::clone(&hooks);
    let task = runtime.shard().spawn(async move {
        let _look = Look;
        let mut outcome = Ok(());
        for hook in first {
            outcome = hook.await;
            if outcome.is_err() {
                break;
            }
        }
        done.set(Some(outcome));
    });
    // Only what the application spawned while it was set up can have taken them all.
    let task = task.map_err(|full| StartError::Hook(format!("no task is free to run it: {full}")))?;
    loop {
        if let Some(result) = hooks.take() {
            return result;
        }
        if task.is_finished() {
            return Err(StartError::Hook("it panicked; the log has the place".to_owned()));
        }
        turn(host, runtime).await?;
    }
}

async fn run_last_hooks(
    host: &mut Host,
    runtime: &mut Runtime<Ring>,
    hooks: Vec<LastHook>,
) -> Result<(), StartError> {
    if hooks.is_empty() {
        return Ok(());
    }
    let time = runtime.shard().limits().drain_time.max(Duration::from_millis(1));
    let task = runtime.shard().spawn(async move {
        let _look = Look;
        let all = async {
            for hook in hooks {
                hook.await;
            }
        };
        if corelane_exec::timeout(time, all).await.is_err() {
            tracing::warn!("drain hooks were cut off by drain_time");
        }
    });
    let task = match task {
        Ok(task) => task,
        Err(full) => {
            tracing::error!(%full, "drain hooks were not run: no task is free");
            return Ok(());
        }
    };
    while !task.is_finished() {
        turn(host, runtime).await?;
    }
    Ok(())
}
