//! Tests of a service without sockets: a whole shard on a simulated kernel, with a clock that the test owns.
//!
//! [`TestServer::new`] takes the closure that [`Server::serve`](crate::Server::serve) would get, and runs it
//! as one shard: the real turn loop, the real HTTP/1.1 connections, the real application; only the kernel is
//! the simulator's. Nothing listens, nothing sleeps, and the same test does the same every time.
//!
//! ```
//! use corelane::testing::TestServer;
//! use corelane::{App, OwnedRequest, sleep};
//! use std::cell::Cell;
//! use std::time::Duration;
//!
//! async fn slow(_: OwnedRequest<Cell<u32>>) -> &'static str {
//!     sleep(Duration::from_secs(5)).await;
//!     "at last"
//! }
//!
//! let server = TestServer::new(|_shard| {
//!     App::new(Cell::new(0))
//!         .get("/hits", |request| {
//!             let hits = request.state();
//!             hits.set(hits.get() + 1);
//!             hits.get().to_string()
//!         })
//!         .get_async("/slow", slow)
//! });
//! assert_eq!(server.get("/hits").text(), "1");
//! assert_eq!(server.get("/slow").text(), "at last"); // at once: the clock jumps
//! assert_eq!(server.now(), Duration::from_secs(5));
//! assert_eq!(server.state().get(), 1);
//! ```
//!
//! # Time
//! 1. [`get`](TestServer::get) and what else waits for an answer lets the clock jump to the next timer
//!    whenever the shard has nothing to do. [`advance`](TestServer::advance) lets it pass by a given amount;
//!    every timer fires at its own time on the way.
//! 2. Reading and writing through a [`TestConnection`] sets no timer off. What is on its way arrives (bytes
//!    on a slow link, an answer of the disk, an action of [`World::after`]), unless a timer comes first or it
//!    takes longer than a second.
//! 3. Jobs of [`blocking()`](crate::blocking()) run on real threads, and what waits for an answer waits for
//!    them, at most 10 s, before the clock goes on. It cannot know of other threads: see
//!    [`TestServerBuilder::wait_for_threads`].
//!
//! # Calls
//! The handles are for the test, not for the service: a handler that drives its own server panics.
//!
//! Not here: several shards; the start of a node with its rings, CPUs and listeners (`boot`); how fast
//! anything is.

mod connection;
mod message;
mod paced;
mod rig;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane_base::{Limits, ShardId};
use corelane_exec::{BlockingPool, Runtime};
use corelane_http::{App, HookError};
use corelane_net::http1::Draining;
use corelane_net::{Http1, Http1Config, TcpAcceptor, TcpStream};
use corelane_pools::{PoolConfig, Pools};
use corelane_sim::{Sim, SimConfig};

use crate::boot::ShardInfo;
use crate::drain::Drains;
use crate::services::cache::OwnTime;
use paced::Paced;
use rig::{Rig, Shared, lock};

pub use connection::TestConnection;
pub use corelane_sim::{Disk, Fault, Faults, Peer, Seeds, World, seeds};
pub use message::{NoAnswer, TestRequest, TestResponse};

type SetUp = Box<dyn FnOnce(&mut Rig)>;

/// How a [`TestServer`] is set up. Made by [`TestServer::builder`].
#[must_use = "nothing runs until it is started"]
pub struct TestServerBuilder {
    limits: Limits,
    seed: u64,
    faults: Faults,
    latency: Duration,
    wait_for_threads: Duration,
    set_up: Vec<SetUp>,
}

impl fmt::Debug for TestServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServerBuilder").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl TestServerBuilder {
    /// With these maxima. `busy_poll` is taken as zero: a fake clock does not move while a shard spins.
    pub fn limits(mut self, limits: Limits) -> TestServerBuilder {
        self.limits = Limits { busy_poll: Duration::ZERO, ..limits };
        self
    }

    /// With things that go wrong, drawn from `seed`. [`Faults::benign`] has those that no peer may notice.
    pub fn faults(mut self, seed: u64, faults: Faults) -> TestServerBuilder {
        (self.seed, self.faults) = (seed, faults);
        self
    }

    /// With links that take this long from one end to the other. Zero unless set.
    pub fn latency(mut self, latency: Duration) -> TestServerBuilder {
        self.latency = latency;
        self
    }

    /// Real time to wait for other threads each time before the clock jumps. Zero unless set: needed where a
    /// handler waits for a thread other than those of [`blocking()`](crate::blocking()), which are waited
    /// for anyway.
    pub fn wait_for_threads(mut self, time: Duration) -> TestServerBuilder {
        self.wait_for_threads = time;
        self
    }

    /// Answers connections to `addr` from the start: see [`TestServer::serve`].
    pub fn serve(mut self, addr: SocketAddr, answer: impl FnMut(&Peer) + 'static) -> TestServerBuilder {
        self.set_up.push(Box::new(move |rig| rig.serve(addr, answer)));
        self
    }

    /// Runs `set_up` on the world before the application is made: to place files, say.
    pub fn world(mut self, set_up: impl FnOnce(&World) + 'static) -> TestServerBuilder {
        self.set_up.push(Box::new(move |rig| set_up(rig.world())));
        self
    }

    /// Makes the application, runs its start hooks, and accepts.
    ///
    /// # Panics
    /// When a start hook fails or does not end, and where the limits cannot work.
    pub fn start<S: 'static>(self, app: impl FnOnce(ShardInfo) -> App<S>) -> TestServer<S> {
        match self.try_start(app) {
            Ok(server) => server,
            Err(error) => panic!("a start hook failed: {error}"),
        }
    }

    /// As [`TestServerBuilder::start`].
    ///
    /// # Errors
    /// What the first start hook that failed said.
    ///
    /// # Panics
    /// When a start hook panics or does not end, and where the limits cannot work.
    pub fn try_start<S: 'static>(
        self,
        app: impl FnOnce(ShardInfo) -> App<S>,
    ) -> Result<TestServer<S>, HookError> {
        let mut rig = self.rig();
        let http = rig.within(|shard| Http1::start(shard, app(INFO), Http1Config::default()));
        let state = Rc::clone(http.service().state());
        let hooks = http.service().start_hooks();
        rig.run(async move {
            for hook in hooks {
                hook.await?;
            }
            Ok::<(), HookError>(())
        })?;
        let listener = rig.listener();
        rig.within(|shard| http.listen(shard, listener));
        rig.set_drains(Drains::new(vec![Rc::clone(&http) as Rc<dyn Draining>]));
        rig.rest();
        Ok(TestServer { state, http: Some(http), rig: Rc::new(RefCell::new(rig)) })
    }

    /// Serves plain TCP: `handler` is a task for every connection, as with
    /// [`Server::start_tcp`](crate::Server::start_tcp).
    ///
    /// # Panics
    /// Where the limits cannot work.
    pub fn start_tcp<F, Fut>(self, handler: F) -> TestServer<()>
    where
        F: Fn(TcpStream) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let mut rig = self.rig();
        let listener = rig.listener();
        rig.within(|shard| TcpAcceptor::serve(shard, listener, handler));
        rig.set_drains(Drains::new(Vec::new()));
        rig.rest();
        TestServer { state: Rc::new(()), http: None, rig: Rc::new(RefCell::new(rig)) }
    }

    fn rig(self) -> Rig {
        let limits = self.limits;
        if let Err(error) = limits.check() {
            panic!("{error}");
        }
        let config = SimConfig {
            seed: self.seed,
            latency: self.latency,
            // Time stands still but for what the test and the world let pass.
            turn_cost: Duration::ZERO,
            free_running: false,
            ..SimConfig::of(&limits)
        };
        let (kernel, world) = Sim::new(config);
        let pools = Pools::new(&PoolConfig {
            small_count: limits.pool_small,
            medium_count: limits.pool_medium,
            large_count: limits.pool_large,
            heap_bytes_max: limits.pool_heap_bytes_max,
            poison: true,
            ..PoolConfig::default()
        })
        .expect("memory for the pools");
        let threads = BlockingPool::new(limits.blocking_threads, limits.blocking_queue_max)
            .expect("threads for blocking jobs");
        let runtime = Runtime::new(INFO.id, limits, pools, Paced::new(kernel), Some(Arc::clone(&threads)));
        let mut rig = Rig::new(runtime, world, threads, self.wait_for_threads);
        rig.within(|shard| shard.local(OwnTime::default).0.set(true));
        for set_up in self.set_up {
            set_up(&mut rig);
        }
        rig.set_faults(self.faults);
        rig
    }
}

/// The only shard there is.
const INFO: ShardInfo = ShardInfo { id: ShardId(0), cpu: None, shards: 1 };

/// A service under test: one shard, its application, and everything outside of it.
///
/// Dropping it ends the shard and its tasks, without a drain.
pub struct TestServer<S: 'static = ()> {
    state: Rc<S>,
    http: Option<Rc<Http1<App<S>>>>,
    rig: Shared,
}

impl<S: 'static> fmt::Debug for TestServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").finish_non_exhaustive()
    }
}

impl TestServer<()> {
    /// A server with other limits, faults, or an outside that has to be there from the start.
    ///
    /// ```
    /// use corelane::testing::{Faults, TestServer};
    /// use corelane::{App, Limits};
    ///
    /// let limits = Limits { head_bytes_max: 1024, line_bytes_max: 256, ..Limits::default() };
    /// let server = TestServer::builder()
    ///     .limits(limits)
    ///     .faults(7, Faults::benign(0.05))
    ///     .start(|_| App::new(()).get("/", |_| "hello"));
    /// assert_eq!(server.get("/").text(), "hello");
    /// assert_eq!(server.get(&format!("/{}", "x".repeat(256))).status(), 414);
    /// ```
    pub fn builder() -> TestServerBuilder {
        TestServerBuilder {
            limits: Limits::default(),
            seed: 0,
            faults: Faults::none(),
            latency: Duration::ZERO,
            wait_for_threads: Duration::ZERO,
            set_up: Vec::new(),
        }
        .limits(Limits::default())
    }
}

impl<S: 'static> TestServer<S> {
    /// Starts a service with the default limits and nothing going wrong.
    ///
    /// # Panics
    /// As [`TestServerBuilder::start`].
    pub fn new(app: impl FnOnce(ShardInfo) -> App<S>) -> TestServer<S> {
        TestServer::builder().start(app)
    }

    /// The application's state.
    pub fn state(&self) -> &S {
        &self.state
    }

    // ----- requests

    /// The answer to a GET.
    ///
    /// # Panics
    /// Where no answer comes: see [`TestServer::try_send`].
    #[track_caller]
    pub fn get(&self, path: &str) -> TestResponse {
        self.send(&TestRequest::get(path))
    }

    /// The answer to a POST with this body, sent as `application/octet-stream`.
    ///
    /// # Panics
    /// As [`TestServer::get`].
    #[track_caller]
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> TestResponse {
        self.send(&TestRequest::post(path, body).header("content-type", "application/octet-stream"))
    }

    /// The answer to a request, on a connection of its own.
    ///
    /// # Panics
    /// As [`TestServer::get`].
    #[track_caller]
    pub fn send(&self, request: &TestRequest) -> TestResponse {
        match self.try_send(request) {
            Ok(response) => response,
            Err(error) => panic!("{error}"),
        }
    }

    /// The answer to a request, on a connection of its own.
    ///
    /// # Errors
    /// When the connection is refused, reset or closed before a whole answer came, or when none has come
    /// although nothing more can happen, or a day of the fake clock has passed.
    pub fn try_send(&self, request: &TestRequest) -> Result<TestResponse, NoAnswer> {
        let connection = self.connect();
        connection.send(request);
        let response = connection.try_response();
        connection.close();
        response
    }

    /// Everything that comes back for these bytes, on a connection of its own: they may be several requests,
    /// or none. Waits for the first whole answer or the end of the connection, so half a request is answered
    /// by its deadline.
    pub fn request(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let connection = self.connect();
        let is_head = bytes.as_ref().starts_with(b"HEAD ");
        connection.write(bytes);
        let all = connection.whole(is_head);
        connection.close();
        all
    }

    // ----- connections

    /// Opens a connection, from a new address of its own.
    pub fn connect(&self) -> TestConnection {
        let mut rig = lock(&self.rig);
        let peer = rig.world().connect(rig.listener());
        rig.rest();
        drop(rig);
        TestConnection::new(Rc::clone(&self.rig), peer)
    }

    /// Opens a connection from this address.
    pub fn connect_from(&self, from: SocketAddr) -> TestConnection {
        let mut rig = lock(&self.rig);
        let peer = rig.world().connect_from(rig.listener(), from);
        rig.rest();
        drop(rig);
        TestConnection::new(Rc::clone(&self.rig), peer)
    }

    /// Answers what the service connects to `addr`. Any address will do; those not served refuse.
    ///
    /// `answer` is called with each new connection, then whenever more was received or the service ended its
    /// side; after that the connection is closed. What it does not take stays for the next call.
    ///
    /// ```
    /// use corelane::testing::TestServer;
    /// use corelane::{App, OwnedRequest, TcpStream};
    /// use std::net::SocketAddr;
    ///
    /// async fn ask(_: OwnedRequest<()>) -> Result<Vec<u8>, String> {
    ///     let upstream = SocketAddr::from(([198, 51, 100, 7], 6379));
    ///     let stream = TcpStream::connect(upstream).await.map_err(|e| e.to_string())?;
    ///     stream.write_all("PING\r\n").await.map_err(|e| e.to_string())?;
    ///     Ok(stream.read().await.map_err(|e| e.to_string())?.to_vec())
    /// }
    ///
    /// let server = TestServer::new(|_| App::new(()).get_async("/", ask));
    /// server.serve(([198, 51, 100, 7], 6379).into(), |peer| {
    ///     if peer.received() == b"PING\r\n" {
    ///         peer.take();
    ///         peer.write(b"+PONG\r\n");
    ///     }
    /// });
    /// assert_eq!(server.get("/").body(), b"+PONG\r\n");
    /// ```
    pub fn serve(&self, addr: SocketAddr, answer: impl FnMut(&Peer) + 'static) {
        lock(&self.rig).serve(addr, answer);
    }

    // ----- time

    /// The fake clock, from the start of the server.
    pub fn now(&self) -> Duration {
        lock(&self.rig).world().now()
    }

    /// Lets time pass. Every timer fires at its own time, and what follows from it happens before the next.
    pub fn advance(&self, time: Duration) {
        lock(&self.rig).advance(time);
    }

    /// Turns until nothing is left to do without a timer, jobs of [`blocking()`](crate::blocking()) included.
    ///
    /// # Panics
    /// When a blocking job does not end within 10 s of real time.
    pub fn settle(&self) {
        lock(&self.rig).settle();
    }

    /// Lets time pass, jumping from timer to timer, until `done`.
    ///
    /// # Panics
    /// When nothing more can happen, or a day has passed, and it is still not so.
    #[track_caller]
    pub fn wait_until(&self, mut done: impl FnMut() -> bool) {
        let reached = lock(&self.rig).until(|_| done());
        assert!(reached, "nothing more happens, and what the test waits for is not so");
    }

    /// Runs a future as a task of the shard and lets time pass until it is done.
    ///
    /// ```
    /// use corelane::testing::TestServer;
    /// use corelane::{App, sleep, timeout};
    /// use std::time::Duration;
    ///
    /// let server = TestServer::new(|_| App::new(()));
    /// let late = server.run(async {
    ///     timeout(Duration::from_secs(1), sleep(Duration::from_secs(60))).await
    /// });
    /// assert!(late.is_err());
    /// assert_eq!(server.now(), Duration::from_secs(1));
    /// ```
    ///
    /// # Panics
    /// When the future panics, or waits for something that nothing here brings.
    pub fn run<F>(&self, future: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        lock(&self.rig).run(future)
    }

    // ----- the outside, and what happened

    /// Everything outside of the shard: files, links, listeners, the log of events.
    pub fn world(&self) -> World {
        lock(&self.rig).world().clone()
    }

    /// Changes what goes wrong from now on. Not through the world: the server must know how often to look.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.rig).set_faults(faults);
    }

    /// Inbound HTTP connections open.
    pub fn connections(&self) -> usize {
        self.http.as_ref().map_or(0, |http| http.connections())
    }

    /// Tasks alive on the shard: async handlers at work and whatever was spawned.
    pub fn tasks(&self) -> usize {
        lock(&self.rig).shard().tasks_alive()
    }

    /// A counter of the shard or of its HTTP connections, by the name `docs/LIMITS.md` has for it.
    ///
    /// # Panics
    /// Where there is no such counter.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        let mut all = lock(&self.rig).shard().stats.list();
        all.extend(self.http.iter().flat_map(|http| http.stats.list()));
        match all.iter().find(|(of, _)| *of == name) {
            Some((_, value)) => *value,
            None => panic!("no counter is named {name}"),
        }
    }

    // ----- the end

    /// Begins the drain: new connections are refused, every answer is the last of its connection.
    pub fn begin_drain(&self) {
        lock(&self.rig).begin_drain();
    }

    /// Drains to the end: lets time pass until no connection is left, then runs the drain hooks.
    ///
    /// # Panics
    /// When it does not end, or the hooks take longer than `Limits::drain_time` (a node would cut them off).
    pub fn drain(&self) {
        let mut rig = lock(&self.rig);
        rig.begin_drain();
        assert!(rig.until(Rig::is_drained), "the drain does not end");
        let hooks = self.http.as_ref().map(|http| http.service().drain_hooks()).unwrap_or_default();
        let time = rig.shard().limits().drain_time.max(Duration::from_millis(1));
        let ended = rig.run(corelane_exec::timeout(time, async move {
            for hook in hooks {
                hook.await;
            }
        }));
        assert!(ended.is_ok(), "the drain hooks take longer than drain_time, {time:?}");
    }
}
