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

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use corelane_base::{Limits, ListenerId, ShardId};
use corelane_exec::{BlockingPool, Shard, seats};
use corelane_http::App;
use corelane_net::{Http1, Http1Config, TcpAcceptor, TcpStream};
use corelane_uring::Features;
use crossbeam_channel::bounded;

use crate::config::Listen;
use crate::placement::{self, Wish};
use crate::preflight::{self, Demand, Host, StartError};
use control::{Attached, Control, Known};
pub use control::{Running, Stopper, describe_shard};
use listeners::Listeners;
use shard::{AppStart, Hook, Plan, ShardEvent, Started, shard_thread};

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
            listen: vec![Listen::Tcp(addr)],
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
        let config = Http1Config { server: self.server_field, ..Http1Config::default() };
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
        let host = Host::this()?;
        let mut notes = Vec::new();
        if !self.limits_given {
            let shards = placement::place(&self.wish(), &host, &self.limits)?.shards.len();
            let listens = self.listen.len();
            notes = preflight::fit(&mut self.limits, &|_| true, shards, listens, self.without, &host);
        }
        let placement = self.demand().check(&host)?;
        let cpus = placement.cpus();
        notes.extend(placement.notes);
        let shards = cpus.len();
        let listeners = Listeners::open(&self.listen, shards, &self.limits)?;
        let addrs = listeners.addrs.clone();
        let attached: Vec<Attached> = vec![Box::new(listeners.files)];
        let blocking = BlockingPool::new(self.limits.blocking_threads, self.limits.blocking_queue_max)
            .map_err(|error| StartError::System { step: "start the blocking threads", error })?;
        let (events, from_shards) = bounded::<ShardEvent>(shards * 4 + 16);
        let (mut threads, mut failed) = (Vec::new(), None);
        let seats = seats(shards, &self.limits);
        for (n, ((cpu, listeners), seat)) in cpus.into_iter().zip(listeners.of_shards).zip(seats).enumerate()
        {
            let id = ShardId(u16::try_from(n).unwrap_or(u16::MAX));
            let plan = Plan {
                info: ShardInfo { id, cpu, shards },
                server: self.clone(),
                listeners,
                app: Arc::clone(&app),
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
        let control = Control::gather(threads, from_shards, self.limits.clone(), failed)?;
        Running::begin(control, Known { addrs, admin: None, notes, events }, self.signals, attached)
    }

    /// Where its shards are to run.
    fn wish(&self) -> Wish<'_> {
        let shards = if self.cpus.is_some() { None } else { Some(1) };
        Wish { shards, cpus: self.cpus.as_deref(), smt: false, pin: self.pin }
    }

    /// What this start asks of its host.
    fn demand(&self) -> Demand<'_> {
        Demand {
            listen: &self.listen,
            admin: None,
            limits: &self.limits,
            wish: self.wish(),
            huge_pages: false,
            without: self.without,
        }
    }
}
