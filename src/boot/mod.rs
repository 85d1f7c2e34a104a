//! From settings to running shards.
//!
//! Everything that can fail is tried before the first connection is accepted: limits, addresses, CPUs, memory,
//! rings, start hooks. A start that cannot work says which of them, and what to type.
//!
//! # Rules
//! 1. A node runs with every shard it was asked for, or not at all.
//! 2. Every listener stands before a shard starts, and every shard is ready before one of them accepts.
//!
//! Reading order: here the builder and the start; `shard` one shard's thread; `control` the thread that watches
//! them and ends them.
//!
//! Not here: the command line and the file (`cli`, `config`), the drain (`drain`).

mod control;
mod listeners;
mod shard;
mod wake;

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane_base::{Limits, ShardId};
use corelane_exec::{BlockingPool, Shard, seats};
use corelane_http::App;
use corelane_net::http1::Draining;
use corelane_net::{Balance, Http1, Http1Config, TcpAcceptor, TcpStream};
use corelane_uring::Features;
use crossbeam_channel::bounded;
use ipnet::IpNet;

use crate::admin;
use crate::config::{Accept, Listen, Numa, Secret, Settings, ShardHost, SnapshotConfig, UpstreamConfig};
use crate::observe::NodeFacts;
use crate::placement::{self, Wish};
use crate::preflight::{self, Demand, Host, StartError};
use crate::services::cache::session::{Settings as RespSettings, Shutdown};
use crate::services::cache::snapshot::Keeper;
use crate::services::cache::{Cache, Redis};
use crate::supervisor::{Handed, Supervisor};
use control::{Attached, Control, Known};
pub use control::{Running, Stopper, describe_shard};
use listeners::Listeners;
use shard::{AppStart, Ground, Hook, LastHook, Plan, ShardEvent, Started, shard_thread};

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

/// A node to be started.
#[derive(Clone, Debug)]
pub struct Server {
    listen: Vec<Listen>,
    limits: Limits,
    limits_given: bool,
    shards: Option<u16>,
    cpus: Option<Vec<usize>>,
    smt: bool,
    pin: bool,
    host: ShardHost,
    numa: Numa,
    huge_pages: bool,
    wake_time: Duration,
    /// Held open while shards run.
    wake: Option<Arc<std::fs::File>>,
    accept: Accept,
    steer: bool,
    peers: bool,
    proxy_protocol: Vec<IpNet>,
    trusted_proxies: Vec<IpNet>,
    admin: Option<(SocketAddr, Secret)>,
    resp_listen: Vec<Listen>,
    resp: RespSettings,
    cache: Cache,
    snapshots: SnapshotConfig,
    upstream: UpstreamConfig,
    without: Features,
    server_field: Option<&'static str>,
    signals: bool,
    pool_guard: bool,
    handed: Arc<Handed>,
    supervisor: Option<Arc<Supervisor>>,
}

impl Server {
    /// A shard on every core this process may use, listening on `addr` (port 0: any free one), with the default
    /// [`Limits`].
    pub fn new(addr: SocketAddr) -> Server {
        Server::at(vec![Listen::Tcp(addr)])
    }

    /// As [`Server::new`], listening at all of these places.
    pub fn at(listen: Vec<Listen>) -> Server {
        Server {
            listen,
            limits: Limits::default(),
            limits_given: false,
            shards: None,
            cpus: None,
            smt: false,
            pin: true,
            host: ShardHost::default(),
            numa: Numa::default(),
            huge_pages: false,
            wake_time: Duration::ZERO,
            wake: None,
            accept: Accept::default(),
            steer: false,
            peers: false,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            admin: None,
            resp_listen: Vec::new(),
            resp: RespSettings::default(),
            cache: Cache::new(Settings::default().cache),
            snapshots: SnapshotConfig::default(),
            upstream: UpstreamConfig::default(),
            without: Features::NONE,
            server_field: Some("corelane"),
            signals: true,
            pool_guard: false,
            handed: Arc::default(),
            supervisor: None,
        }
    }

    /// Listens here as well: a further address, or a Unix socket.
    #[must_use]
    pub fn listen(mut self, also: impl Into<Listen>) -> Server {
        self.listen.push(also.into());
        self
    }

    /// With these maxima. What is given is taken as it is; the defaults are lowered to what the limits of open
    /// files and of locked memory allow.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Server {
        self.limits = limits;
        self.limits_given = true;
        self
    }

    /// This many shards, on cores that share a cache as far as there are some. Without, and without
    /// [`Server::cpus`]: one for each core, as many as the CPU quota and the memory limit of the control group
    /// allow.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Server {
        self.shards = Some(shards);
        self
    }

    /// One shard on each of these CPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: Vec<usize>) -> Server {
        self.cpus = Some(cpus);
        self
    }

    /// Whether the hardware threads of one core are as good as cores. Two shards on one core get in each other's
    /// way more often than they help.
    #[must_use]
    pub fn smt(mut self, on: bool) -> Server {
        self.smt = on;
        self
    }

    /// What gives shards their threads.
    #[must_use]
    pub fn host(mut self, host: ShardHost) -> Server {
        self.host = host;
        self
    }

    /// Whether a shard's memory comes from the node of its CPU.
    #[must_use]
    pub fn numa(mut self, numa: Numa) -> Server {
        self.numa = numa;
        self
    }

    /// Whether pools and receive buffers ask for huge pages.
    #[must_use]
    pub fn huge_pages(mut self, on: bool) -> Server {
        self.huge_pages = on;
        self
    }

    /// How long a CPU of the host may take to wake while the node runs; zero leaves that as it is. Needs root and
    /// `/dev/cpu_dma_latency`: where it cannot be had, the node says so and runs without.
    #[must_use]
    pub fn cpu_wake_time(mut self, time: Duration) -> Server {
        self.wake_time = time;
        self
    }

    /// Who gets a new HTTP connection: the shard the kernel chose, or the one with the fewest.
    #[must_use]
    pub fn accept(mut self, accept: Accept) -> Server {
        self.accept = accept;
        self
    }

    /// Has new connections go to the shard of the CPU that took their packet, where that can help: shards pinned
    /// one to a CPU, and addresses other than loopback.
    #[must_use]
    pub fn steer(mut self, on: bool) -> Server {
        self.steer = on;
        self
    }

    /// Finds out the address of every HTTP client, for [`Request::peer`](crate::Request::peer). One operation a
    /// connection.
    #[must_use]
    pub fn peers(mut self, on: bool) -> Server {
        self.peers = on;
        self
    }

    /// HTTP connections from these networks begin with a PROXY protocol header, and must.
    #[must_use]
    pub fn proxy_protocol(mut self, networks: Vec<IpNet>) -> Server {
        self.proxy_protocol = networks;
        self
    }

    /// Proxies whose Forwarded and X-Forwarded-For are believed, for
    /// [`Request::client`](crate::Request::client). Takes the place of [`App::trusted_proxies`].
    #[must_use]
    pub fn trusted_proxies(mut self, networks: Vec<IpNet>) -> Server {
        self.trusted_proxies = networks;
        self
    }

    /// Shows metrics and connections on this address, by a thread of its own. One that is not loopback needs a
    /// token.
    #[must_use]
    pub fn admin(mut self, addr: SocketAddr, token: Secret) -> Server {
        self.admin = Some((addr, token));
        self
    }

    /// Listens for Redis clients here, too. They work on the same keys as handlers do.
    #[must_use]
    pub fn resp(mut self, also: impl Into<Listen>) -> Server {
        self.resp_listen.push(also.into());
        self
    }

    /// What Redis clients must give by AUTH; empty asks for nothing.
    #[must_use]
    pub fn resp_password(mut self, password: Secret) -> Server {
        self.resp.password = password;
        self
    }

    /// Further users of Redis clients: of each its name and its rules, in the syntax of Redis' ACL.
    #[must_use]
    pub fn resp_users(mut self, users: Vec<Secret>) -> Server {
        self.resp.users = users;
        self
    }

    /// Whether Redis clients may use DEBUG, which can have a shard stand still.
    #[must_use]
    pub fn resp_debug(mut self, on: bool) -> Server {
        self.resp.debug = on;
        self
    }

    /// What Redis clients may send.
    #[must_use]
    pub fn resp_limits(mut self, limits: corelane_proto_resp::Limits) -> Server {
        self.resp.limits = limits;
        self
    }

    /// What Redis clients read and write: a [`Cache`] that handlers have too, or the
    /// [settings](crate::CacheConfig) of one that only clients have.
    #[must_use]
    pub fn cache(mut self, cache: impl Into<Cache>) -> Server {
        self.cache = cache.into();
        self
    }

    /// When the keys are saved to a directory, and what becomes of a start that finds them damaged.
    #[must_use]
    pub fn snapshots(mut self, config: SnapshotConfig) -> Server {
        self.snapshots = config;
        self
    }

    /// The Redis or Valkey server behind the keys, if there is one.
    #[must_use]
    pub fn upstream(mut self, config: UpstreamConfig) -> Server {
        self.upstream = config;
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

    /// Takes these sockets for the places where they listen, which the caller gives by [`Server::at`],
    /// [`Server::listen`] or [`Server::resp`]. All shards share one, so its connections go to whichever is free, and
    /// `steer` has no effect on them.
    #[must_use]
    pub fn handed(mut self, sockets: Handed) -> Server {
        self.handed = Arc::new(sockets);
        self
    }

    /// Tells a supervisor when the node serves and when it ends, and that all its shards live.
    #[must_use]
    pub fn supervisor(mut self, supervisor: Supervisor) -> Server {
        self.supervisor = Some(Arc::new(supervisor));
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

    /// Starts, and returns once every shard is set up and told to accept; its listeners stand by then.
    ///
    /// # Errors
    /// As [`Server::serve`].
    pub fn start<St, F>(self, app: F) -> Result<Running, StartError>
    where
        St: 'static,
        F: Fn(ShardInfo) -> App<St> + Send + Sync + 'static,
    {
        let peers = self.peers || !self.trusted_proxies.is_empty();
        let (proxy_from, trusted) = (self.proxy_protocol.clone(), self.trusted_proxies.clone());
        let config = Http1Config { server: self.server_field, peers, proxy_from, ..Http1Config::default() };
        let balanced = self.accept == Accept::Balanced;
        self.launch(Arc::new(move |shard: &Rc<Shard>, info, ground: &Ground| {
            let mut app = app(info);
            if !trusted.is_empty() {
                app = app.trusted_proxies(trusted.clone());
            }
            let balance = balanced.then(|| Arc::clone(&ground.balance));
            // Whoever trusts proxies needs to know who is one.
            let peers = config.peers || app.trusts_proxies();
            let config = Http1Config { balance, peers, ..config.clone() };
            let mut first: Vec<Hook> = Vec::new();
            // The keys first: what else is done at the start may look at them.
            if let Some(redis) = &ground.redis {
                first.push(Box::pin(redis.first(shard)));
            }
            let hooks = app
                .start_hooks()
                .into_iter()
                .map(|hook| async move { hook.await.map_err(|e| StartError::Hook(e.to_string())) });
            first.extend(hooks.map(|hook| -> Hook { Box::pin(hook) }));
            let http = Http1::start(shard, app, config);
            let listeners = ground.listeners.clone();
            let (seated, accepting, ending) = (Rc::clone(&http), Rc::clone(&http), Rc::clone(&http));
            let mut parts: Vec<Rc<dyn Draining>> = vec![http];
            let keeping = ground.redis.clone().map(|redis| {
                let shard = Rc::clone(shard);
                move || redis.last(&shard)
            });
            let redis = ground.redis.as_ref().map(|redis| redis.start(shard));
            parts.extend(redis.iter().map(|sessions| Rc::clone(sessions) as Rc<dyn Draining>));
            let redis_listeners = ground.redis_listeners.clone();
            Started {
                parts,
                first,
                seat: Box::new(move |shard| seated.take_seat(shard)),
                listen: Box::new(move |shard| {
                    for id in listeners {
                        accepting.listen(shard, id);
                    }
                    if let Some(sessions) = redis {
                        for id in redis_listeners {
                            sessions.listen(shard, id);
                        }
                    }
                }),
                last: Box::new(move || {
                    let mut last: Vec<LastHook> = ending.service().drain_hooks().into_iter().collect();
                    // The keys last: what else is done at the end may change them.
                    last.extend(keeping.as_ref().map(|keeping| -> LastHook { Box::pin(keeping()) }));
                    last
                }),
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
        self.launch(Arc::new(move |_shard: &Rc<Shard>, _info, ground: &Ground| {
            let listeners = ground.listeners.clone();
            let handler = handler.clone();
            Started {
                parts: Vec::new(),
                first: Vec::new(),
                seat: Box::new(|_shard| {}),
                listen: Box::new(move |shard: &Rc<Shard>| {
                    for id in listeners {
                        TcpAcceptor::serve(shard, id, handler.clone());
                    }
                }),
                last: Box::new(Vec::new),
            }
        }))
    }

    fn launch(mut self, app: AppStart) -> Result<Running, StartError> {
        if !self.host.is_built() {
            return Err(StartError::NoGlommio);
        }
        if self.host == ShardHost::Glommio {
            // On this thread, which no shard is pinned to.
            let step = "start the guard of glommio's executors";
            corelane_exec::host::prepare().map_err(|error| StartError::System { step, error })?;
        }
        let host = Host::this()?;
        host.check_kernel()?;
        let mut notes = Vec::new();
        if !self.limits_given {
            let shards = placement::place(&self.wish(), &host, &self.limits)?.shards.len();
            let listens = self.listen.len() + self.resp_listen.len();
            let kinds = (self.without, self.host);
            notes = preflight::fit(&mut self.limits, &|_| true, shards, listens, kinds, &host);
        }
        let handed_at = self.handed.places();
        let placement = Demand { handed: &handed_at, ..self.demand() }.check(&host)?;
        notes.extend(placement.notes.iter().cloned());
        let shards = placement.shards.len();
        let cpus: Vec<usize> = placement.cpus().into_iter().flatten().collect();
        let steer = self.steer && self.accept != Accept::Balanced;
        if steer != self.steer {
            notes.push(
                "connections are not steered: they are balanced, and only one of both can be".to_owned(),
            );
        }
        let all: Vec<Listen> = self.listen.iter().chain(&self.resp_listen).cloned().collect();
        // Closed once they are shared: a shard that has closed its own listens no more.
        let handed = std::mem::take(&mut self.handed);
        let listeners = Listeners::open(&all, shards, &self.limits, steer.then_some(&cpus), &handed)?;
        drop(handed);
        let supervisor = self.supervisor.take();
        notes.extend(listeners.notes);
        if !self.wake_time.is_zero() {
            match wake::hold(Path::new(wake::DEVICE), self.wake_time) {
                Ok(file) => self.wake = Some(Arc::new(file)),
                Err(error) => notes.push(wake::refused(&error)),
            }
        }
        let mut addrs = listeners.addrs;
        let resp_addrs = addrs.split_off(self.listen.len());
        let (events, from_shards) = bounded::<ShardEvent>(shards * 4 + 16);
        let asked = events.clone();
        self.resp.shutdown = Shutdown::by(move || asked.try_send(ShardEvent::Shutdown).is_ok());
        let keeps = self.snapshots.dir.is_some() || self.upstream.url.is_some();
        let redis = if keeps || !resp_addrs.is_empty() {
            self.resp.snapshots = Keeper::open(self.snapshots.clone()).map_err(StartError::Snapshot)?;
            self.resp.upstream = self.upstream.clone();
            Some(Redis::new(self.cache.clone(), self.resp.clone()).map_err(StartError::Users)?)
        } else {
            None
        };
        let admin = match &self.admin {
            Some((addr, token)) => Some(admin::bind(*addr, token.clone())?),
            None => None,
        };
        let admin_addr = admin.as_ref().map(admin::Bound::addr);
        let named = addrs.iter().map(ToString::to_string).collect();
        let node = Arc::new(NodeFacts::now(named, admin_addr));
        let blocking = BlockingPool::new(self.limits.blocking_threads, self.limits.blocking_queue_max)
            .map_err(|error| StartError::System { step: "start the blocking threads", error })?;
        let (mut threads, mut failed) = (Vec::new(), None);
        let balance = Balance::new(shards);
        let places = placement.shards.iter().zip(listeners.of_shards).zip(seats(shards, &self.limits));
        for (n, ((&place, listeners), seat)) in places.enumerate() {
            let id = ShardId(u16::try_from(n).unwrap_or(u16::MAX));
            let plan = Plan {
                info: ShardInfo { id, cpu: place.cpu, shards },
                node: place.node,
                facts: Arc::clone(&node),
                server: self.clone(),
                listeners,
                balance: Arc::clone(&balance),
                app: Arc::clone(&app),
                redis: redis.clone(),
                http_listens: self.listen.len(),
                blocking: Arc::clone(&blocking),
                seat,
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
        let mut control = Control::gather(threads, from_shards, self.limits.clone(), failed)?;
        control.supervisor = supervisor;
        notes.extend(control.notes());
        let mut attached = Attached { files: listeners.files, admin: None };
        if let Some(admin) = admin {
            match admin.start(control.handles(), Arc::clone(&node)) {
                Ok(admin) => attached.admin = Some(admin),
                Err(error) => return Err(control.fail(error)),
            }
        }
        let known = Known { addrs, resp_addrs, admin: admin_addr, notes, events, spare: placement.spare };
        Running::begin(control, known, self.signals, attached)
    }

    /// How many shards this start wants, and where.
    fn wish(&self) -> Wish<'_> {
        Wish { shards: self.shards, cpus: self.cpus.as_deref(), smt: self.smt, pin: self.pin }
    }

    /// What this start asks of its host.
    fn demand(&self) -> Demand<'_> {
        Demand {
            listen: &self.listen,
            resp_listen: &self.resp_listen,
            admin: self.admin.as_ref().map(|(addr, _)| *addr),
            handed: &[],
            limits: &self.limits,
            wish: self.wish(),
            huge_pages: self.huge_pages,
            without: self.without,
            on: self.host,
        }
    }
}
