//! A shard on the simulator with a service made of a closure.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane_base::{Limits, ListenerId, ShardId};
use corelane_exec::{BlockingPool, Runtime, Shard};
use corelane_net::stream::Streams;
use corelane_net::{Answer, Http1, Http1Config, Incoming, Response, Service};
use corelane_pools::{PoolConfig, Pools};
use corelane_sim::{Faults, Peer, Sim, SimConfig, SimKernel, World};

pub type Call = Box<dyn Fn(Incoming<'_, '_, '_>) -> Answer>;

pub struct Closure(pub Call);

impl Service for Closure {
    fn call(&self, request: Incoming<'_, '_, '_>) -> Answer {
        (self.0)(request)
    }
}

/// Routes that the tests share.
pub fn routes(mut request: Incoming<'_, '_, '_>) -> Answer {
    match request.head.target.path() {
        "/" => Answer::Now(Response::text("hello")),
        "/panic" => panic!("asked to"),
        "/echo" => {
            let mut body = request.take_body();
            Answer::Later(Box::pin(async move {
                match body.collect(u64::MAX).await {
                    Ok(bytes) => Response::bytes("application/octet-stream", bytes),
                    Err(_) => Response::status(400),
                }
            }))
        }
        "/late-panic" => Answer::Later(Box::pin(async { panic!("asked to, later") })),
        "/slow" => Answer::Later(Box::pin(async {
            corelane_exec::sleep(Duration::from_secs(5)).await;
            Response::text("slow")
        })),
        "/never" => Answer::Later(Box::pin(std::future::pending())),
        "/big" => Answer::Now(Response::bytes("application/octet-stream", vec![b'b'; 300_000])),
        _ => Answer::Now(Response::status(404)),
    }
}

pub struct Bench {
    pub rt: Runtime<SimKernel>,
    pub world: World,
    pub listener: ListenerId,
    pub http: Rc<Http1<Closure>>,
    pub pools: Pools,
}

impl Bench {
    pub fn new(limits: Limits) -> Bench {
        let config = SimConfig { free_running: false, ..SimConfig::of(&limits) };
        Bench::on(config, limits, Box::new(routes))
    }

    pub fn with(limits: Limits, call: impl Fn(Incoming<'_, '_, '_>) -> Answer + 'static) -> Bench {
        let config = SimConfig { free_running: false, ..SimConfig::of(&limits) };
        Bench::on(config, limits, Box::new(call))
    }

    pub fn faulty(seed: u64, faults: Faults, limits: Limits) -> Bench {
        let config = SimConfig { free_running: false, seed, faults, ..SimConfig::of(&limits) };
        Bench::on(config, limits, Box::new(routes))
    }

    pub fn on(config: SimConfig, limits: Limits, call: Call) -> Bench {
        Bench::configured(config, limits, Http1Config::default(), call)
    }

    pub fn configured(config: SimConfig, limits: Limits, http: Http1Config, call: Call) -> Bench {
        let (kernel, world) = Sim::new(config);
        let listener = world.add_listener();
        let pools = Pools::new(&PoolConfig { guard: false, poison: true, ..PoolConfig::default() }).unwrap();
        let mut rt = Runtime::new(ShardId(0), limits, pools.clone(), kernel, None);
        let http = rt.within(|shard| {
            let http = Http1::start(shard, Closure(call), Http1Config { server: None, ..http });
            http.listen(shard, listener);
            http
        });
        Bench { rt, world, listener, http, pools }
    }

    pub fn connect(&mut self) -> Peer {
        let peer = self.world.connect(self.listener);
        self.settle();
        peer
    }

    pub fn connect_from(&mut self, from: &str) -> Peer {
        let peer = self.world.connect_from(self.listener, from.parse().unwrap());
        self.settle();
        peer
    }

    pub fn turn(&mut self) {
        self.rt.turn(true).unwrap();
    }

    /// Turns until nothing is left to do at this time.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..20_000 {
            let before = (self.rt.shard().stats.completions.get(), self.rt.shard().stats.tasks_polled.get());
            self.turn();
            let after = (self.rt.shard().stats.completions.get(), self.rt.shard().stats.tasks_polled.get());
            quiet = if before == after && self.world.is_idle() { quiet + 1 } else { 0 };
            if quiet > 3 {
                return;
            }
        }
        panic!("the shard does not come to rest:\n{}", self.world.log());
    }

    /// Lets time pass in small steps.
    pub fn pass(&mut self, time: Duration) {
        let step = Duration::from_millis(100).min(time);
        let mut left = time;
        while left > Duration::ZERO {
            let now = step.min(left);
            self.world.advance(now);
            self.settle();
            left -= now;
        }
    }

    pub fn ask(&mut self, peer: &Peer, bytes: &[u8]) -> String {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = peer.write(rest);
            rest = &rest[n..];
            self.settle();
            if n == 0 {
                break;
            }
        }
        self.settle();
        String::from_utf8_lossy(&peer.take()).into_owned()
    }

    /// Everything is given back once the peers are gone.
    pub fn check_clean(mut self) {
        self.settle();
        assert_eq!(self.http.connections(), 0, "connections left");
        assert_eq!(self.http.inbox_bytes(), 0, "inbox bytes left");
        assert_eq!(self.pools.stats().lent(), 0, "pool buffers left");
        assert_eq!(self.rt.shard().tasks_alive(), 0, "tasks left");
        assert_eq!(self.http.stats.accepted.get(), self.http.stats.closed.get());
    }
}

/// A shard on the simulator that serves nothing yet.
pub struct Shards {
    pub rt: Runtime<SimKernel>,
    pub world: World,
}

impl Shards {
    pub fn new() -> Shards {
        Shards::on(SimConfig::default(), Limits::default())
    }

    pub fn on(config: SimConfig, limits: Limits) -> Shards {
        Shards::made(config, limits, None)
    }

    /// With threads for what must block.
    pub fn blocking(pool: &Arc<BlockingPool>) -> Shards {
        Shards::made(SimConfig::default(), Limits::default(), Some(Arc::clone(pool)))
    }

    fn made(config: SimConfig, limits: Limits, blocking: Option<Arc<BlockingPool>>) -> Shards {
        let (kernel, world) = Sim::new(config);
        let pools = Pools::new(&PoolConfig { guard: false, poison: true, ..PoolConfig::default() }).unwrap();
        Shards { rt: Runtime::new(ShardId(0), limits, pools, kernel, blocking), world }
    }

    pub fn shard(&self) -> &Rc<Shard> {
        self.rt.shard()
    }

    /// Starts a task and leaves it to itself.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.rt.within(|shard| shard.spawn(future)).unwrap().detach();
    }

    /// Turns until `future` is done.
    pub fn run<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        self.drive(future, 200_000, || ())
    }

    /// As `run`, with pauses in which other threads get on; for some 30 seconds at most.
    pub fn run_with_threads<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        self.drive(future, 300_000, || std::thread::sleep(Duration::from_micros(100)))
    }

    fn drive<T: 'static>(
        &mut self,
        future: impl Future<Output = T> + 'static,
        turns: u32,
        between: impl Fn(),
    ) -> T {
        let out = Rc::new(RefCell::new(None));
        let into = Rc::clone(&out);
        let task = self.rt.within(|shard| {
            shard.spawn(async move {
                let value = future.await;
                *into.borrow_mut() = Some(value);
            })
        });
        let task = task.unwrap();
        for _ in 0..turns {
            self.rt.turn(true).unwrap();
            if task.is_finished() {
                return out.take().expect("the future panicked");
            }
            between();
        }
        self.stuck("the future does not come to an end");
    }

    fn stuck(&self, what: &str) -> ! {
        let log = self.world.log();
        let lines: Vec<&str> = log.lines().collect();
        panic!("{what}; the last events:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
    }

    /// Turns until nothing is left to do at this time.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..50_000 {
            let before = self.progress();
            self.rt.turn(true).unwrap();
            quiet = if before == self.progress() && self.world.is_idle() { quiet + 1 } else { 0 };
            if quiet > 3 {
                return;
            }
        }
        self.stuck("the shard does not come to rest");
    }

    /// What moves as long as something goes on; an operation given back by the kernel is tried every turn.
    fn progress(&self) -> [u64; 3] {
        let stats = &self.rt.shard().stats;
        [stats.completions.get(), stats.tasks_polled.get(), stats.submission_full.get()]
    }

    /// Plain streams open.
    pub fn streams(&mut self) -> usize {
        self.rt.within(|shard| Streams::of(shard).len())
    }

    /// Ends accepting, so that no operation is left under way.
    pub fn drain(&mut self) {
        self.rt.within(|shard| Streams::of(shard).drain(shard));
        self.settle();
        assert!(self.rt.within(|shard| Streams::of(shard).is_drained()), "not drained");
    }

    /// Nothing is left behind: no stream, no operation, no descriptor, no buffer.
    pub fn check_quiet(&mut self) {
        assert_eq!(self.streams(), 0, "streams left");
        self.world.check_quiet();
    }
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").into_bytes()
}

pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut all =
        format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    all.extend_from_slice(body);
    all
}
