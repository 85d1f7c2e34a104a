//! Shards on rings and threads of their own, each with a listener on its own port, and one balance.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corelane_base::{Limits, ShardId};
use corelane_exec::host::{self, Host, Kind};
use corelane_exec::{Runtime, Shard, ShardHandle};
use corelane_net::http1::Draining;
use corelane_net::{Answer, Balance, Http1, Http1Config, Incoming, Response, Service};
use corelane_pools::{PoolConfig, Pools};
use corelane_sys::socket::{ListenOptions, listen};
use corelane_uring::{Features, Ring, RingConfig};

/// Longest any single step may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Routes;

impl Service for Routes {
    fn call(&self, request: Incoming<'_, '_, '_>) -> Answer {
        let here = corelane_exec::current().id().0;
        match request.head.target.path() {
            "/peer" => Answer::Now(Response::bytes("text/plain", format!("{:?}", request.peer))),
            "/upgrade" => Answer::Now(Response::upgrade("x", |stream| {
                let whole = async move { while stream.read().await.is_ok_and(|bytes| !bytes.is_empty()) {} };
                corelane_exec::spawn(whole).unwrap().detach();
            })),
            _ => Answer::Now(Response::bytes("text/plain", format!("shard {here}"))),
        }
    }
}

thread_local! {
    static HTTP: RefCell<Option<Rc<Http1<Routes>>>> = const { RefCell::new(None) };
    static ENDING: Cell<bool> = const { Cell::new(false) };
}

/// What a shard is made of.
#[derive(Clone)]
pub struct Plan {
    pub limits: Limits,
    pub without: Features,
    pub http: Http1Config,
    /// Descriptors of the ring, where not what the limits ask for.
    pub descriptors: Option<u32>,
    /// A socket to listen on besides its own.
    pub also: Option<Arc<OwnedFd>>,
}

pub fn small() -> Limits {
    Limits {
        connections_max: 200,
        descriptors_headroom: 64,
        recv_buffers: 64,
        submission_entries: 128,
        completion_entries: 512,
        linger_time: Duration::from_millis(100),
        drain_idle: Duration::from_millis(200),
        drain_time: Duration::from_secs(5),
        ..Limits::default()
    }
}

pub struct Node {
    pub addr: SocketAddr,
    handle: ShardHandle,
    thread: JoinHandle<()>,
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub balance: Arc<Balance>,
}

impl Cluster {
    pub fn new(shards: usize, limits: Limits, without: Features) -> Cluster {
        Cluster::with(shards, |_| Plan {
            limits: limits.clone(),
            without,
            http: Http1Config::default(),
            descriptors: None,
            also: None,
        })
    }

    pub fn with(shards: usize, plan: impl Fn(usize) -> Plan) -> Cluster {
        let balance = Balance::new(shards);
        let nodes: Vec<Node> = (0..shards)
            .map(|shard| {
                let mut plan = plan(shard);
                plan.http.balance = Some(Arc::clone(&balance));
                Node::start(shard, plan)
            })
            .collect();
        Cluster { nodes, balance }
    }

    pub fn connect(&self, shard: usize) -> Client {
        Client::connect(self.nodes[shard].addr)
    }

    pub fn loads(&self) -> Vec<u32> {
        (0..self.nodes.len()).map(|shard| self.balance.assigned(shard)).collect()
    }

    /// The sum of a counter over all shards.
    pub fn sum(&self, name: &'static str) -> u64 {
        self.nodes.iter().map(|node| node.stat(name)).sum()
    }

    /// Drains every shard; nothing is left in the books.
    pub fn end(self) {
        for node in &self.nodes {
            node.drain();
        }
        let balance = Arc::clone(&self.balance);
        for node in self.nodes {
            node.join();
        }
        for shard in 0..balance.shards() {
            assert_eq!(balance.assigned(shard), 0, "{balance:?}");
        }
    }
}

impl Node {
    fn start(shard: usize, plan: Plan) -> Node {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener =
            listen(loopback, &ListenOptions { reuseport: false, ..ListenOptions::default() }).unwrap();
        let addr = listener.local_addr();
        let (ready, up) = channel();
        let name = format!("shard-{shard}");
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || run(shard, plan, listener.into(), ready))
            .unwrap();
        let handle = up.recv_timeout(PATIENCE).unwrap();
        Node { addr, handle, thread }
    }

    fn tell(&self, message: impl FnOnce(&Shard) + Send + 'static) {
        let (taken, wait) = channel();
        self.handle
            .send(move |shard| {
                message(shard);
                taken.send(()).unwrap();
            })
            .unwrap();
        wait.recv_timeout(PATIENCE).expect("the shard turns");
    }

    /// Asks the shard's table.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Shard, &Http1<Routes>) -> T + Send + 'static,
    ) -> T {
        let (tell, hear): (Sender<T>, Receiver<T>) = channel();
        self.tell(move |shard| {
            let http = HTTP.with_borrow(Clone::clone).unwrap();
            tell.send(question(shard, &http)).unwrap();
        });
        hear.recv_timeout(PATIENCE).unwrap()
    }

    pub fn stat(&self, name: &'static str) -> u64 {
        let found = self.ask(move |_, http| http.stats.list().into_iter().find(|(n, _)| *n == name));
        found.unwrap_or_else(|| panic!("no counter {name}")).1
    }

    pub fn connections(&self) -> usize {
        self.ask(|_, http| http.connections())
    }

    /// Begins the drain; the thread ends when it is over.
    pub fn drain(&self) {
        // One that is over already does not take the message.
        let begin = |shard: &Shard| {
            if let Some(http) = HTTP.with_borrow(Clone::clone) {
                http.drain(shard);
            }
            ENDING.set(true);
        };
        assert!(self.handle.send(begin).is_ok());
    }

    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn join(self) {
        until("the shard has drained", || self.thread.is_finished());
        self.thread.join().unwrap();
    }
}

fn run(shard: usize, plan: Plan, listener: OwnedFd, ready: Sender<ShardHandle>) {
    let kind = match std::env::var("TEST_HOST").as_deref() {
        Ok("glommio") => Kind::glommio(None, &plan.limits).expect("built with the feature glommio"),
        _ => Kind::Native,
    };
    host::run(&kind, move |host| on_host(shard, plan, listener, ready, host)).unwrap();
}

async fn on_host(shard: usize, plan: Plan, listener: OwnedFd, ready: Sender<ShardHandle>, mut host: Host) {
    let limits = &plan.limits;
    let descriptors = limits.connections_max + limits.descriptors_headroom;
    let mut ring = Ring::new(&RingConfig {
        entries: limits.submission_entries,
        completion_entries: limits.completion_entries,
        recv_buffers: limits.recv_buffers,
        recv_buffer_bytes: limits.recv_buffer_bytes,
        descriptors: plan.descriptors.unwrap_or(descriptors),
        without: plan.without,
    })
    .unwrap();
    let mut listeners = vec![ring.add_listener(listener)];
    if let Some(also) = &plan.also {
        listeners.push(ring.add_listener(also.try_clone().unwrap()));
    }
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let id = ShardId(u16::try_from(shard).unwrap());
    let mut runtime = Runtime::new(id, limits.clone(), pools.clone(), ring, None);
    let http = runtime.within(|shard| {
        let http = Http1::start(shard, Routes, plan.http.clone());
        for id in listeners {
            http.listen(shard, id);
        }
        http
    });
    HTTP.set(Some(Rc::clone(&http)));
    ready.send(runtime.shard().handle()).unwrap();
    loop {
        host.turn(&mut runtime).await.unwrap();
        if ENDING.get() {
            for id in http.take_closed_listeners() {
                runtime.kernel().remove_listener(id);
            }
            if http.is_drained() {
                break;
            }
        }
    }
    let stats = &http.stats;
    let came = stats.accepted.get() + stats.arrived.get();
    assert_eq!(came, stats.closed.get() + stats.handed.get(), "every connection ended or went");
    HTTP.set(None);
    drop(http);
    drop(runtime);
    assert_eq!(pools.stats().lent(), 0);
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A client of one connection.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream }
    }

    pub fn send(&mut self, path: &str) {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).unwrap();
    }

    /// The body of the next answer; nothing at the end of the connection.
    pub fn answer(&mut self) -> Option<String> {
        let mut all = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&all).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                assert!(head.starts_with("HTTP/1.1 200"), "{text}");
                let length = head.lines().find_map(|l| {
                    let (name, value) = l.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse::<usize>().unwrap())
                });
                if body.len() >= length.unwrap() {
                    return Some(body.to_owned());
                }
            }
            let mut some = [0; 4096];
            match self.stream.read(&mut some) {
                Ok(0) => return None,
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Ok(n) => all.extend_from_slice(&some[..n]),
                Err(e) => panic!("no answer: {e}"),
            }
        }
    }

    pub fn get(&mut self, path: &str) -> String {
        self.send(path);
        self.answer().expect("an answer")
    }

    /// The shard it is on.
    pub fn shard(&mut self) -> usize {
        let body = self.get("/");
        body.strip_prefix("shard ").unwrap().parse().unwrap()
    }

    /// Nothing has come.
    pub fn waits(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let seen = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        matches!(seen, Err(e) if e.kind() == ErrorKind::WouldBlock)
    }
}
