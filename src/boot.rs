//! From settings to running shards.
//!
//! Everything that can fail is tried before the first connection is accepted: limits, address, CPUs, memory,
//! rings, start hooks. A start that cannot work says which of them, and what to type.
//!
//! # Rules
//! 1. A node runs with every shard it was asked for, or not at all.
//! 2. Rings and memory are made by the thread that uses them, after it was pinned (first touch).
//!
//! Not here: the command line and the file (`cli`, `config`), the drain (`drain`).

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use corelane_base::{Limits, ListenerId, ShardId};
use corelane_exec::{BlockingPool, Runtime, Shard, ShardHandle};
use corelane_http::App;
use corelane_net::http1::Draining;
use corelane_net::{Http1, Http1Config, TcpAcceptor, TcpStream};
use corelane_pools::{PoolConfig, Pools};
use corelane_sys::socket::{self, Listener};
use corelane_uring::{Features, Lacking, Ring};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::drain::Drains;
use crate::preflight::{self, Demand, Host, StartError};

/// Which shard a closure runs on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShardInfo {
    /// Its number.
    pub id: ShardId,
    /// The CPU it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// How many shards the node has.
    pub shards: usize,
}

type AppStart = Arc<dyn Fn(&Rc<Shard>, ShardInfo, &[ListenerId]) -> Started + Send + Sync>;
type Hook = std::pin::Pin<Box<dyn Future<Output = Result<(), String>>>>;
type LastHook = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// What an application's closure set up on a shard.
struct Started {
    parts: Vec<Rc<dyn Draining>>,
    first: Vec<Hook>,
    listen: Box<dyn FnOnce(&Shard)>,
    last: Box<dyn Fn() -> Vec<LastHook>>,
}

/// A node to be started.
#[derive(Clone, Debug)]
pub struct Server {
    listen: SocketAddr,
    limits: Limits,
    limits_given: bool,
    cpus: Option<Vec<usize>>,
    pin: bool,
    without: Features,
    server_field: Option<&'static str>,
    signals: bool,
    pool_guard: bool,
}

impl Server {
    /// One shard on the first CPU this process may use, listening on `addr` (port 0: any free one), with the
    /// default [`Limits`].
    pub fn new(addr: SocketAddr) -> Server {
        Server {
            listen: addr,
            limits: Limits::default(),
            limits_given: false,
            cpus: None,
            pin: true,
            without: Features::NONE,
            server_field: Some("corelane"),
            signals: true,
            pool_guard: false,
        }
    }

    /// With these maxima. What is given is taken as it is; the defaults are lowered to what the limits of open
    /// files and of locked memory allow.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Server {
        self.limits = limits;
        self.limits_given = true;
        self
    }

    /// One shard on each of these CPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: Vec<usize>) -> Server {
        self.cpus = Some(cpus);
        self
    }

    /// Whether shards are pinned to their CPUs. On shared hosts they should not be.
    #[must_use]
    pub fn pin(mut self, pin: bool) -> Server {
        self.pin = pin;
        self
    }

    /// Leaves ring features off, to see what one is worth or to walk the paths of old kernels.
    #[must_use]
    pub fn without(mut self, features: Features) -> Server {
        self.without = features;
        self
    }

    /// The value of the `Server` field, or none.
    #[must_use]
    pub fn server_field(mut self, value: Option<&'static str>) -> Server {
        self.server_field = value;
        self
    }

    /// Whether SIGTERM and SIGINT drain the node (the default) or are left to the program. Once taken, they stay
    /// taken for the life of the process, also after the node has ended.
    #[must_use]
    pub fn signals(mut self, on: bool) -> Server {
        self.signals = on;
        self
    }

    /// Guards and poisons pooled memory: a use after free faults. For tests; slow.
    #[must_use]
    pub fn guard_pools(mut self, on: bool) -> Server {
        self.pool_guard = on;
        self
    }

    /// Starts and runs until drained. `app` is called once on each shard.
    ///
    /// # Errors
    /// [`StartError`]; nothing was served then.
    pub fn serve<St, F>(self, app: F) -> Result<(), StartError>
    where
        St: 'static,
        F: Fn(ShardInfo) -> App<St> + Send + Sync + 'static,
    {
        self.start(app)?.wait()
    }

    /// Starts and returns once every shard accepts.
    ///
    /// # Errors
    /// As [`Server::serve`].
    pub fn start<St, F>(self, app: F) -> Result<Running, StartError>
    where
        St: 'static,
        F: Fn(ShardInfo) -> App<St> + Send + Sync + 'static,
    {
        let config = Http1Config { server: self.server_field };
        self.launch(Arc::new(move |shard: &Rc<Shard>, info, listeners: &[ListenerId]| {
            let app = app(info);
            let first = app
                .start_hooks()
                .into_iter()
                .map(|hook| -> Hook { Box::pin(async move { hook.await.map_err(|e| e.to_string()) }) })
                .collect();
            let http = Http1::start(shard, app, config.clone());
            let listeners = listeners.to_vec();
            let (accepting, ending) = (Rc::clone(&http), Rc::clone(&http));
            Started {
                parts: vec![http],
                first,
                listen: Box::new(move |shard| {
                    for id in listeners {
                        accepting.listen(shard, id);
                    }
                }),
                last: Box::new(move || ending.service().drain_hooks().into_iter().collect()),
            }
        }))
    }

    /// Serves plain TCP: `handler` is a task for every connection.
    ///
    /// # Errors
    /// As [`Server::serve`].
    pub fn start_tcp<F, Fut>(self, handler: F) -> Result<Running, StartError>
    where
        F: Fn(TcpStream) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.launch(Arc::new(move |_shard: &Rc<Shard>, _info, listeners: &[ListenerId]| {
            let listeners = listeners.to_vec();
            let handler = handler.clone();
            Started {
                parts: Vec::new(),
                first: Vec::new(),
                listen: Box::new(move |shard| {
                    for id in listeners {
                        TcpAcceptor::serve(shard, id, handler.clone());
                    }
                }),
                last: Box::new(Vec::new),
            }
        }))
    }

    fn launch(mut self, app: AppStart) -> Result<Running, StartError> {
        let host = Host::this()?;
        if !self.limits_given {
            let shards = self.cpus.as_ref().map_or(1, Vec::len);
            for said in preflight::fit(&mut self.limits, &|_| true, shards, self.without, &host) {
                tracing::warn!("{said}");
            }
        }
        let cpus = self.demand().check(&host)?;
        let options = preflight::listen_options(&self.limits);
        let listen_error = |error| StartError::Listen { addr: self.listen, error };
        let mut addr = self.listen;
        let mut listeners = Vec::new();
        for _ in &cpus {
            let listener = socket::listen(addr, &options).map_err(listen_error)?;
            addr = listener.local_addr();
            listeners.push(listener);
        }
        let blocking = BlockingPool::new(self.limits.blocking_threads, self.limits.blocking_queue_max)
            .map_err(|error| StartError::System { step: "start the blocking threads", error })?;
        let shards = cpus.len();
        let (events, from_shards) = bounded::<ShardEvent>(shards * 4 + 16);
        let mut threads = Vec::new();
        let mut failed = None;
        for (n, (cpu, listener)) in cpus.into_iter().zip(listeners).enumerate() {
            let id = ShardId(u16::try_from(n).unwrap_or(u16::MAX));
            let plan = Plan {
                info: ShardInfo { id, cpu, shards },
                server: self.clone(),
                listener,
                app: Arc::clone(&app),
                blocking: Arc::clone(&blocking),
                events: events.clone(),
            };
            let thread =
                std::thread::Builder::new().name(format!("shard-{n}")).spawn(move || shard_thread(plan));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    failed = Some(StartError::System { step: "start a shard's thread", error });
                    break;
                }
            }
        }
        drop(app);
        Running::gather(addr, threads, events, from_shards, self.signals, failed)
    }

    /// What this start asks of its host.
    fn demand(&self) -> Demand<'_> {
        Demand {
            listen: self.listen,
            limits: &self.limits,
            cpus: self.cpus.as_deref(),
            pin: self.pin,
            without: self.without,
        }
    }
}

struct Plan {
    info: ShardInfo,
    server: Server,
    listener: Listener,
    app: AppStart,
    blocking: Arc<BlockingPool>,
    events: Sender<ShardEvent>,
}

enum ShardEvent {
    Ready { handle: ShardHandle, info: ShardInfo, granted: Features, lacking: Vec<Lacking> },
    Ended(ShardId, Result<(), StartError>),
    Signal,
    Drain,
}

/// Time for the log's own thread to write where a shard panicked, before the process ends.
const LAST_WORDS: Duration = Duration::from_millis(200);

fn shard_thread(plan: Plan) {
    let (info, events) = (plan.info, plan.events.clone());
    let serving = Cell::new(false);
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shard_main(plan, &serving)));
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

fn shard_main(plan: Plan, serving: &Cell<bool>) -> Result<(), StartError> {
    let Plan { info, server, listener, app, blocking, events } = plan;
    if let Some(cpu) = info.cpu {
        corelane_sys::cpu::pin_current_thread(cpu)
            .map_err(|error| StartError::System { step: "pin a shard to its CPU", error })?;
    }
    let limits = &server.limits;
    let pools = Pools::new(&PoolConfig {
        small_count: limits.pool_small,
        medium_count: limits.pool_medium,
        large_count: limits.pool_large,
        heap_bytes_max: limits.pool_heap_bytes_max,
        guard: server.pool_guard,
        poison: server.pool_guard,
        ..PoolConfig::default()
    })
    .map_err(|error| StartError::System { step: "map the memory pools", error })?;
    let mut ring = Ring::new(&preflight::ring_config(limits, server.without))
        .map_err(|error| StartError::ring(error, limits))?;
    let (granted, lacking) = (ring.granted(), ring.lacking().to_vec());
    let id = ring.add_listener(listener.into());
    let mut runtime = Runtime::new(info.id, limits.clone(), pools, ring, Some(blocking));
    let started = runtime.within(|shard| app(shard, info, &[id]));
    let Started { parts, first, listen, last } = started;

    // Start hooks run as a task of the shard; the listeners open when they are done.
    let hooks: Rc<Cell<Option<Result<(), String>>>> = Rc::new(Cell::new(None));
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
    let Ok(task) = task else { unreachable!("the first task of a shard finds room") };
    let result = loop {
        if let Some(result) = hooks.take() {
            break result;
        }
        if task.is_finished() {
            break Err("it panicked; the log has the place".to_owned());
        }
        turn(&mut runtime)?;
    };
    result.map_err(StartError::Hook)?;
    serving.set(true);
    runtime.within(|shard| listen(shard));

    let drains = Rc::new(Drains::new(parts));
    DRAINS.set(Some(Rc::clone(&drains)));
    let handle = runtime.shard().handle();
    drop(events.send(ShardEvent::Ready { handle, info, granted, lacking }));
    drop(events);
    loop {
        turn(&mut runtime)?;
        if DRAINING.get() {
            let shard = Rc::clone(runtime.shard());
            let closed = runtime.within(|shard| drains.closed_listeners(shard));
            for id in closed {
                runtime.kernel().remove_listener(id);
            }
            if runtime.within(|_| drains.is_over(&shard)) {
                break;
            }
        }
    }
    run_last_hooks(&mut runtime, last())?;
    DRAINS.set(None);
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

fn turn(runtime: &mut Runtime<Ring>) -> Result<(), StartError> {
    runtime.turn(true).map(|_| ()).map_err(|error| StartError::System { step: "enter the ring", error })
}

fn run_last_hooks(runtime: &mut Runtime<Ring>, hooks: Vec<LastHook>) -> Result<(), StartError> {
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
    let Ok(task) = task else { return Ok(()) };
    while !task.is_finished() {
        turn(runtime)?;
    }
    Ok(())
}

thread_local! {
    /// What this thread's shard drains, and whether it does: set here, read by the loop above.
    static DRAINS: Cell<Option<Rc<Drains>>> = const { Cell::new(None) };
    static DRAINING: Cell<bool> = const { Cell::new(false) };
}

fn drain_here(shard: &Shard) {
    if let Some(drains) = DRAINS.take() {
        drains.begin(shard);
        // The loop must turn when the time is over, whatever else happens.
        let time = drains.deadline(shard);
        if let Ok(task) = corelane_exec::spawn(corelane_exec::sleep(time)) {
            task.detach();
        }
        DRAINS.set(Some(drains));
        DRAINING.set(true);
    }
}

/// A node that serves.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    threads: Vec<JoinHandle<()>>,
    shards: Vec<(ShardInfo, ShardHandle, Features, Vec<Lacking>)>,
    events: Sender<ShardEvent>,
    from_shards: Receiver<ShardEvent>,
    draining: bool,
}

impl fmt::Debug for ShardEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ShardEvent::Ready { .. } => "Ready",
            ShardEvent::Ended(..) => "Ended",
            ShardEvent::Signal => "Signal",
            ShardEvent::Drain => "Drain",
        })
    }
}

/// Asks a running node to drain, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Sender<ShardEvent>);

impl Stopper {
    /// Begins the drain; [`Running::wait`] returns when it is over. A second call ends the process at once.
    pub fn drain(&self) {
        drop(self.0.try_send(ShardEvent::Drain));
    }
}

impl Running {
    fn gather(
        addr: SocketAddr,
        threads: Vec<JoinHandle<()>>,
        events: Sender<ShardEvent>,
        from_shards: Receiver<ShardEvent>,
        signals: bool,
        mut failed: Option<StartError>,
    ) -> Result<Running, StartError> {
        let mut shards = Vec::new();
        let mut ended = 0;
        while shards.len() + ended < threads.len() {
            match from_shards.recv() {
                Ok(ShardEvent::Ready { handle, info, granted, lacking }) => {
                    shards.push((info, handle, granted, lacking));
                }
                Ok(ShardEvent::Ended(id, result)) => {
                    ended += 1;
                    failed = failed.or(Some(result.err().unwrap_or(StartError::Panicked(id))));
                }
                Ok(ShardEvent::Signal | ShardEvent::Drain) | Err(_) => {}
            }
        }
        shards.sort_by_key(|(info, ..)| info.id);
        if signals
            && failed.is_none()
            && let Err(error) = watch_signals(events.clone())
        {
            failed = Some(StartError::System { step: "watch for signals", error });
        }
        let mut running = Running { addr, threads, shards, events, from_shards, draining: false };
        match failed {
            None => Ok(running),
            Some(error) => {
                // Rule 1: those that made it must not serve without the rest.
                running.begin_drain();
                drop(running.wait_for(ended));
                Err(error)
            }
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A line for each shard: CPU, ring features, and those it lacks.
    pub fn describe(&self) -> Vec<String> {
        self.shards
            .iter()
            .map(|(info, _, granted, lacking)| describe_shard(info.id.0, info.cpu, *granted, lacking))
            .collect()
    }

    /// Handles of the shards, in their order.
    pub fn shards(&self) -> Vec<ShardHandle> {
        self.shards.iter().map(|(_, handle, ..)| handle.clone()).collect()
    }

    /// A way to begin the drain from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.events.clone())
    }

    /// Drains and waits for the end.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn drain(self) -> Result<(), StartError> {
        self.stopper().drain();
        self.wait()
    }

    /// Waits until the node has drained.
    ///
    /// # Errors
    /// When a shard ended by itself.
    pub fn wait(self) -> Result<(), StartError> {
        self.wait_for(0)
    }

    /// Waits for all threads but those whose end was already told.
    fn wait_for(mut self, ended: usize) -> Result<(), StartError> {
        let mut outcome = Ok(());
        let mut left = self.threads.len() - ended;
        while left > 0 {
            match self.from_shards.recv() {
                Ok(ShardEvent::Signal | ShardEvent::Drain) if self.draining => {
                    tracing::warn!("asked a second time: ending at once");
                    std::process::exit(130);
                }
                Ok(ShardEvent::Signal | ShardEvent::Drain) => {
                    tracing::info!("draining");
                    self.begin_drain();
                }
                Ok(ShardEvent::Ended(id, result)) => {
                    left -= 1;
                    if let Err(error) = result {
                        tracing::error!(shard = id.0, %error, "a shard ended");
                        // Rule 1: not with a shard missing.
                        outcome = Err(error);
                        self.begin_drain();
                    }
                }
                Ok(ShardEvent::Ready { .. }) => {}
                Err(_) => break,
            }
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        outcome
    }

    fn begin_drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        for (_, handle, ..) in &self.shards {
            // Full only if a shard has not turned for long; it is asked again until it listens.
            while handle.send(drain_here).is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// The line of [`Running::describe`] for one shard.
pub fn describe_shard(id: u16, cpu: Option<usize>, granted: Features, lacking: &[Lacking]) -> String {
    let place = cpu.map_or_else(|| "not pinned".to_owned(), |cpu| format!("on CPU {cpu}"));
    let mut line = format!("shard {id} {place}; ring: {granted}");
    if lacking.is_empty() {
        line.push_str("; lacks nothing");
    } else {
        let names: Vec<String> = lacking.iter().map(ToString::to_string).collect();
        line.push_str(&format!("; lacks {}", names.join(", ")));
    }
    line
}

fn watch_signals(events: Sender<ShardEvent>) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if events.send(ShardEvent::Signal).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}
