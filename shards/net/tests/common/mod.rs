//! A shard on the simulator with a service made of a closure.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

use std::rc::Rc;
use std::time::Duration;

use corelane_base::{Limits, ListenerId, ShardId};
use corelane_exec::Runtime;
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
        let (kernel, world) = Sim::new(config);
        let listener = world.add_listener();
        let pools = Pools::new(&PoolConfig { guard: false, poison: true, ..PoolConfig::default() }).unwrap();
        let mut rt = Runtime::new(ShardId(0), limits, pools.clone(), kernel, None);
        let http = rt.within(|shard| {
            let http = Http1::start(shard, Closure(call), Http1Config { server: None });
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

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").into_bytes()
}

pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut all =
        format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    all.extend_from_slice(body);
    all
}
