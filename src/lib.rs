//! Corelane: a thread-per-core io_uring server runtime for bare-metal Linux.
//!
//! One pinned thread per core owns a *shard*: its connections, timers, memory and state. Nothing on a shard
//! blocks, locks or waits for another thread; shards ask each other by messages. A service is an [`App`] made
//! once on each shard:
//!
//! ```no_run
//! use corelane::{App, Server, StartError};
//! use std::cell::Cell;
//!
//! fn main() -> Result<(), StartError> {
//!     Server::new(([0, 0, 0, 0], 8080).into()).serve(|shard| {
//!         let hits = Cell::new(0_u64); // of this shard alone: no lock, no atomic
//!         App::new(hits)
//!             .get("/", |_| "hello\n")
//!             .get("/hello/{name}", |request| request.param("name").map(|name| format!("hello, {name}\n")))
//!             .get("/hits", move |request| {
//!                 let hits = request.state();
//!                 hits.set(hits.get() + 1);
//!                 format!("request {} to shard {} of {}\n", hits.get(), shard.id.0, shard.shards)
//!             })
//!     })
//! }
//! ```
//!
//! There is a shard for each physical core that the process may use, unless [`Server::shards`] or
//! [`Server::cpus`] says otherwise ([`placement`] has the policy). [`Server::serve`] returns once SIGTERM or
//! SIGINT has drained the node ([`drain`] has the steps); [`Server::start`] returns a handle instead, and
//! [`Running::stopper`] drains from any thread, whether anybody waits for the end or not. All examples below
//! run without sockets, by the module `corelane::testing` (cargo feature `testing`).
//!
//! # Two kinds of handlers
//! - One given to [`App::get`] and its like runs **inside the shard's turn**, with the request borrowed from
//!   the receive buffer. It answers at once: it may not wait and must not block. Nothing is allocated on its way.
//! - One given to [`App::get_async`] and its like is a **task of the shard**. It owns its request and may await
//!   what this crate offers: bodies, [`sleep`], [`TcpStream`], [`fs::File`], [`blocking()`], other tasks. It
//!   costs a few allocations (head, body, future, task), and is cancelled when its client leaves or after
//!   [`Limits::handler_time`].
//!
//! [`App::route_either`] decides by request: a cache answers a hit inline and a miss later.
//!
//! What a handler may return is listed at [`IntoResponse`]: text, bytes, [`Json`], [`Status`], [`Redirect`],
//! `Option` (`None` is 404), `Result` of any two of them, or a whole [`Response`].
//!
//! ```
//! use corelane::testing::TestServer;
//! use corelane::{App, Json, Redirect, Reject, Request, Response, Status};
//!
//! fn search(request: &Request<'_, ()>) -> Result<Json<Vec<String>>, Reject> {
//!     let word = request.query_param("q").ok_or(Reject::new(400, "q is missing"))?;
//!     Ok(Json(vec![word.to_uppercase()]))
//! }
//!
//! let server = TestServer::new(|_| {
//!     App::new(())
//!         .get("/users/{id}", |request| request.param("id").map(|id| format!("user {id}")))
//!         .get("/files/{*path}", |request| request.param_raw("path").map(str::to_owned))
//!         .get("/search", search)
//!         .put("/users/{id}", |_| Status::NO_CONTENT)
//!         .get("/old", |_| Redirect::permanent("/new"))
//!         .get("/new", |_| Response::text("new").header("cache-control", &b"max-age=60"[..]))
//!         .fallback(|_| (404, "no such page"))
//! });
//! assert_eq!(server.get("/users/a%20b").text(), "user a b");
//! assert_eq!(server.get("/files/x/y.png").text(), "x/y.png");
//! assert_eq!(server.get("/search?q=oak").json::<Vec<String>>(), ["OAK"]);
//! assert_eq!(server.get("/search").status(), 400);
//! assert_eq!(server.get("/old").header("location"), Some("/new"));
//! assert_eq!(server.get("/nowhere").text(), "no such page");
//! ```
//!
//! # State of a shard
//! What the closure of [`Server::serve`] makes lives on one shard and need not be `Send`: a `Cell`, a `RefCell`
//! or an `Rc` will do. Requests of one client may reach any shard, so this is for caches, counters and
//! connections; facts that all shards must agree on have one owner ([below](#from-shard-to-shard)). Hold no
//! borrow of it across an `.await`: another task of the shard may want it meanwhile.
//!
//! ```
//! use corelane::testing::TestServer;
//! use corelane::{App, OwnedRequest, Reject};
//! use std::cell::RefCell;
//! use std::collections::HashMap;
//!
//! type Store = RefCell<HashMap<String, String>>;
//!
//! async fn put(mut request: OwnedRequest<Store>) -> Result<(), Reject> {
//!     let value = request.text(64 << 10).await?; // 413 past 64 KiB, 400 where it is not text
//!     let key = request.param("key").ok_or(Reject::new(400, "the key is not text"))?.into_owned();
//!     request.state().borrow_mut().insert(key, value);
//!     Ok(())
//! }
//!
//! let server = TestServer::new(|_| {
//!     App::new(Store::default())
//!         .post_async("/{key}", put)
//!         .get("/{key}", |request| request.state().borrow().get(&*request.param("key")?).cloned())
//! });
//! assert_eq!(server.get("/tree").status(), 404);
//! assert_eq!(server.post("/tree", "oak").status(), 204);
//! assert_eq!(server.get("/tree").text(), "oak");
//! ```
//!
//! # From shard to shard
//! A connection belongs to the shard that accepted it, a key to the shard that [`Mesh::owner`] names. What is
//! there is reached by sending the work to it: [`Sharded`] has a value on every shard, made there, never moved
//! and never locked.
//!
//! ```
//! use corelane::testing::TestServer;
//! use corelane::{App, CallError, Message, OwnedRequest, Reject, Shard, Sharded, mesh};
//! use std::cell::RefCell;
//! use std::collections::HashMap;
//! use std::rc::Rc;
//!
//! type Counts = Sharded<RefCell<HashMap<String, u64>>>;
//!
//! async fn count(request: OwnedRequest<Counts>) -> Result<String, Reject> {
//!     let word = request.param("word").ok_or(Reject::new(400, "the word is not text"))?.into_owned();
//!     let counts = request.state();
//!     let call = counts.on(counts.owner(&word), move |counts| {
//!         let mut counts = counts.borrow_mut(); // there, inside a turn: it may not wait
//!         let n = counts.entry(word).or_default();
//!         *n += 1;
//!         *n
//!     });
//!     Ok(call.await?.to_string()) // a CallError is answered 503, or 500 where the other shard panicked
//! }
//!
//! struct Load; // a message of a type of its own
//!
//! impl Message for Load {
//!     type Reply = usize;
//!
//!     fn handle(self, shard: &Rc<Shard>) -> usize {
//!         shard.tasks_alive()
//!     }
//! }
//!
//! async fn load(_: OwnedRequest<Counts>) -> Result<String, CallError> {
//!     let mesh = mesh();
//!     let calls: Vec<_> = mesh.all().map(|shard| mesh.call(shard, Load)).collect(); // all are sent,
//!     let mut sum = 0;
//!     for call in calls {
//!         sum += call.await?; // then waited for
//!     }
//!     Ok(sum.to_string())
//! }
//!
//! let counts = Counts::new(|_shard| RefCell::default());
//! let server = TestServer::new(move |_| App::new(counts).post_async("/{word}", count).get_async("/load", load));
//! assert_eq!(server.post("/oak", "").text(), "1");
//! assert_eq!(server.post("/oak", "").text(), "2");
//! assert_eq!(server.get("/load").text(), "1"); // the handler itself
//! ```
//!
//! A test server is one shard, so here the owner is always that one. `examples/sharded_counter.rs` is the same on
//! every core of the machine.
//!
//! | | on the other shard | the reply |
//! |---|---|---|
//! | [`Mesh::call`] | [`Message::handle`], within one turn | by awaiting |
//! | [`Mesh::with`], [`Sharded::on`] | a closure, within one turn | by awaiting |
//! | [`Mesh::run`] | a future that may wait, as a task there; it need not be `Send` | by awaiting |
//! | [`Mesh::cast`] | as `call` | none |
//!
//! - **What may be sent**: values that are `Send` and `'static`, and closures over them. They are moved. What is
//!   sent to one shard is handled there in the order of sending.
//! - **When**: at once, awaited or not; it is seen when the present turn ends. Dropping a [`Call`] forgets its
//!   reply, and a message that still waits for a credit is not sent.
//! - **What it costs**: one box, of the shard that asks and used again by it, and a turn of each of the two shards.
//!   All that a turn sends to one shard is shown to it by one store, and wakes it once if it sleeps. A call to
//!   the own shard costs neither: it runs before `call` returns. So hold no borrow that it wants.
//! - **What full means**: [`Limits::mesh_credits`] requests to each other shard may be unanswered. Further calls
//!   wait, [`Limits::mesh_waiting_max`] of them; past that, [`CallError::Full`]. A cast that finds no credit is
//!   [`Full`] and dropped. Nothing blocks.
//! - **Deadlines**: a call ends after [`Limits::call_time`] as [`CallError::Late`]. Whether the message was
//!   handled is not known then, so what must not happen twice needs a key that tells.
//! - **Panics** of a message are caught where it is handled: [`CallError::Panicked`], also on the own shard.
//! - **Calls within calls** are fine: no shard waits for another one. Only a `run` keeps its credit while its
//!   future waits, so `run`s that wait for each other round a circle can use up the credits that they wait for.
//!   They end by their deadline. Where the work allows it, come back first and call the next shard from here.
//!
//! Which shard owns a key changes from start to start: [`Mesh::owner`] hashes under a key drawn at the start, so
//! that no client can choose keys of one shard. Start hooks and drain hooks may call other shards: every shard
//! answers from before the first one accepts until all have drained.
//!
//! For keys with values there is a [`Cache`], whose keys are spread over the shards: [`cache`] has the calls.
//!
//! Threads that are no shards send to one by a [`ShardHandle`] ([`Running::shards`], [`Mesh::handle`]): a message
//! without a reply, in a mailbox of 256.
//!
//! # Who is there
//! [`Request::peer`] is the other end of the connection. The kernel is asked for it only if somebody wants to
//! know: [`Server::peers`], [`Server::proxy_protocol`], [`Server::trusted_proxies`], or
//! [`Limits::connections_per_peer_max`]. [`Request::client`] is who sent the request: the peer, unless that is a
//! proxy you trust; then whom it says it had before it, in `Forwarded` or `X-Forwarded-For`. The fields of all
//! others are not believed, and neither is what a client put in front of what the proxy appended. Without an
//! address (a Unix socket, or nobody asked) both are `None`.
//!
//! ```
//! use corelane::testing::{TestRequest, TestServer};
//! use corelane::{App, Limits};
//!
//! let limits = Limits { connections_per_peer_max: 100, ..Limits::default() }; // so addresses are asked for
//! let server = TestServer::builder().limits(limits).start(|_| {
//!     App::new(())
//!         .trusted_proxies(vec!["10.0.0.0/24".parse().unwrap()]) // a node: Server::trusted_proxies
//!         .get("/", |request| request.client_addr().map(|client| client.to_string()))
//! });
//! let request = TestRequest::get("/").header("x-forwarded-for", "192.0.2.66, 203.0.113.9");
//!
//! let proxy = server.connect_from(([10, 0, 0, 7], 40_000).into());
//! proxy.send(&request);
//! assert_eq!(proxy.response().text(), "203.0.113.9"); // what stands before is only the client's word
//!
//! let stranger = server.connect_from(([198, 51, 100, 3], 40_000).into());
//! stranger.send(&request);
//! assert_eq!(stranger.response().text(), "198.51.100.3");
//! ```
//!
//! # Bodies
//! A request's body is read by async handlers: whole by [`OwnedRequest::collect`], `text` and `json`, each with
//! a maximum, or piece by piece by [`OwnedRequest::chunk`]. While too much lies unread the connection stops
//! receiving, so memory stays bounded. A streamed answer is fed through [`body_channel`]: `send` waits while
//! the client is slow and fails once it is gone.
//!
//! ```
//! use corelane::testing::TestServer;
//! use corelane::{App, OwnedRequest, Response, Status, body_channel, spawn};
//!
//! async fn upper(mut request: OwnedRequest<()>) -> Result<Response, Status> {
//!     let (mut sender, stream) = body_channel(64 << 10); // bytes on their way at most
//!     let pump = async move {
//!         while let Ok(Some(piece)) = request.chunk().await {
//!             if sender.send(piece.to_ascii_uppercase()).await.is_err() {
//!                 return; // the client is gone
//!             }
//!         }
//!         sender.finish(); // without it the answer is cut, so that the client can tell
//!     };
//!     spawn(pump).map_err(|_full| Status::SERVICE_UNAVAILABLE)?.detach();
//!     Ok(Response::stream("text/plain", None, stream))
//! }
//!
//! let server = TestServer::new(|_| App::new(()).post_async("/upper", upper));
//! assert_eq!(server.post("/upper", "quiet").text(), "QUIET");
//! ```
//!
//! # Middleware
//! [`Middleware`] sees every request before its handler and every answer after it; [`Log`], [`Cors`] and
//! [`SetHeader`] are there already.
//!
//! ```
//! use corelane::testing::{TestRequest, TestServer};
//! use corelane::{App, Middleware, Request, Response, SetHeader, Status};
//!
//! struct Token(&'static str);
//!
//! impl<S> Middleware<S> for Token {
//!     fn before(&self, request: &Request<'_, S>) -> Option<Response> {
//!         let known = request.header("authorization") == Some(self.0);
//!         (!known).then(|| Response::status(401))
//!     }
//! }
//!
//! let server = TestServer::new(|_| {
//!     App::new(())
//!         .middleware(SetHeader::new("x-frame-options", "DENY"))
//!         .middleware(Token("Bearer secret"))
//!         .get("/", |_| Status::OK)
//! });
//! assert_eq!(server.get("/").status(), 401);
//! assert_eq!(server.get("/").header("x-frame-options"), Some("DENY"));
//! assert_eq!(server.send(&TestRequest::get("/").header("authorization", "Bearer secret")).status(), 200);
//! ```
//!
//! # Timers, tasks and connections out
//! [`spawn`] starts a task on the same shard, [`sleep`] waits, [`timeout`] bounds any future, and
//! [`TcpStream::connect`] goes through the shard's own ring. A task that outlives its request is
//! [detached](Task::detach); a dropped request drops what it awaits.
//!
//! ```
//! use corelane::testing::TestServer;
//! use corelane::{App, OwnedRequest, Reject, TcpStream, timeout};
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! const UPSTREAM: ([u8; 4], u16) = ([198, 51, 100, 7], 6379);
//!
//! async fn ping(_: OwnedRequest<()>) -> Result<Vec<u8>, Reject> {
//!     let talk = async {
//!         let stream = TcpStream::connect(SocketAddr::from(UPSTREAM)).await?;
//!         stream.write_all("PING\r\n").await?;
//!         stream.read().await
//!     };
//!     match timeout(Duration::from_secs(1), talk).await {
//!         Ok(Ok(answer)) => Ok(answer.to_vec()),
//!         Ok(Err(error)) => Err(Reject::new(502, error.to_string())),
//!         Err(_elapsed) => Err(Reject::new(504, "upstream is slow")),
//!     }
//! }
//!
//! let server = TestServer::new(|_| App::new(()).get_async("/ping", ping));
//! assert_eq!(server.get("/ping").status(), 502); // nobody is there
//! server.serve(UPSTREAM.into(), |peer| {
//!     if peer.received() == b"PING\r\n" {
//!         peer.take();
//!         peer.write(b"+PONG\r\n");
//!     }
//! });
//! assert_eq!(server.get("/ping").text(), "+PONG\r\n");
//! ```
//!
//! # Files, and what must block
//! [`fs`] reads and writes through the ring. For what has no such way (directories, name look-ups, password
//! hashes, a library that blocks) there is [`blocking()`]: a bounded pool of threads that all shards share.
//!
//! ```
//! use corelane::testing::TestServer;
//! use corelane::{App, OwnedRequest, Status, blocking, fs};
//!
//! async fn motd(_: OwnedRequest<()>) -> Result<Vec<u8>, Status> {
//!     let file = fs::File::open("motd.txt").await.map_err(|_| Status::NOT_FOUND)?;
//!     file.read_at(0, 4096).await.map_err(|_| Status::INTERNAL_SERVER_ERROR)
//! }
//!
//! async fn sum(_: OwnedRequest<()>) -> Result<String, Status> {
//!     let sum = blocking(|| (1..=1_000_000_u64).sum::<u64>()).await; // on another thread
//!     sum.map(|sum| sum.to_string()).map_err(|_full| Status::SERVICE_UNAVAILABLE)
//! }
//!
//! let server = TestServer::builder()
//!     .world(|world| world.put_file("motd.txt", b"be kind"))
//!     .start(|_| App::new(()).get_async("/motd", motd).get_async("/sum", sum));
//! assert_eq!(server.get("/motd").body(), b"be kind");
//! assert_eq!(server.get("/sum").text(), "500000500000");
//! ```
//!
//! # Hooks
//! No shard accepts before the start hooks of all have succeeded; one that fails ends the start with its error.
//! Drain hooks run after a shard's last answer, at most [`Limits::drain_time`] long.
//!
//! ```
//! use corelane::testing::TestServer;
//! use corelane::{App, fs};
//! use std::cell::RefCell;
//!
//! let app = |_| {
//!     App::new(RefCell::new(Vec::new()))
//!         .on_start(|rules| async move {
//!             *rules.borrow_mut() = fs::File::open("rules").await?.read_at(0, 1 << 20).await?;
//!             Ok(())
//!         })
//!         .on_drain(|rules| async move { rules.borrow_mut().clear() })
//!         .get("/", |request| request.state().borrow().clone())
//! };
//! let server = TestServer::builder().world(|world| world.put_file("rules", b"none")).start(app);
//! assert_eq!(server.get("/").body(), b"none");
//! server.drain();
//! assert!(server.state().borrow().is_empty());
//! assert!(TestServer::builder().try_start(app).is_err()); // there is no such file
//! ```
//!
//! # Limits
//! Whatever can grow has a maximum in [`Limits`], with a default and a stated behaviour at it: a refusal, a
//! pause, a deadline. `docs/LIMITS.md` lists them with their counters. What one call may not have now is
//! answered [`Full`]; nothing queues without end.
//!
//! ```
//! use corelane::testing::TestServer;
//! use corelane::{App, Limits};
//! use std::time::Duration;
//!
//! let limits = Limits { head_time: Duration::from_secs(2), connections_max: 1_000, ..Limits::default() };
//! // Server::new(addr).limits(limits), or here:
//! let server = TestServer::builder().limits(limits).start(|_| App::new(()).get("/", |_| "hello"));
//! assert!(server.request("GET / HT").starts_with(b"HTTP/1.1 408 ")); // half a head, two seconds long
//! ```
//!
//! # Testing your service
//! With the feature `testing` as a development dependency, `corelane::testing::TestServer` takes the closure
//! that `Server::serve` gets and runs it as one whole shard on a simulated kernel: no sockets, no real time.
//!
//! ```
//! use corelane::testing::{Faults, TestServer};
//! use corelane::{App, OwnedRequest, sleep};
//! use std::time::Duration;
//!
//! async fn report(_: OwnedRequest<()>) -> &'static str {
//!     sleep(Duration::from_secs(20)).await;
//!     "done"
//! }
//!
//! fn app() -> App<()> {
//!     App::new(()).get_async("/report", report)
//! }
//!
//! let server = TestServer::new(|_| app());
//! assert_eq!(server.get("/report").text(), "done"); // at once: the fake clock jumps
//!
//! let connection = server.connect(); // or step by step
//! connection.write("GET /report HTTP/1.1\r\nHost: t\r\n\r\n");
//! server.advance(Duration::from_secs(19));
//! assert!(connection.read().is_empty());
//! connection.reset(); // a client that leaves ends its handler
//! assert_eq!(server.tasks(), 0);
//!
//! // Short reads, partial sends, late completions: no client may notice, whatever the seed.
//! let server = TestServer::builder().faults(7, Faults::benign(0.1)).start(|_| app());
//! assert_eq!(server.get("/report").text(), "done");
//! ```
//!
//! # What does not work here
//! Crates bound to another runtime's reactor (tokio's sockets and timers, and all that builds on them: reqwest,
//! tonic, sqlx with its tokio feature) find no reactor on a shard and panic or hang. Either run them in a
//! runtime of their own on another thread and talk to it by channels whose wakers work anywhere (the
//! `futures` kind), or wrap single calls in [`blocking()`]. Plain futures, `async` channels and locks of the
//! `futures` and `async-*` families work. A future need not be `Send`, and none is ever moved to another
//! thread.
//!
//! There is no TLS, no HTTP/2 and no HTTP client in this version. Connections stay on the shard that has them,
//! plain TCP streams on the one that accepted them, and the number of shards is that of the start.
//!
//! # What a node tells about itself
//! [`Server::admin`] has a thread of its own answer `/metrics`, `/health` and `/connections`;
//! [`observe::routes`] adds `/api/info` and `/api/performance` to an application (`docs/METRICS.md`). A turn
//! longer than [`Limits::stall_time`] is logged with the name of its longest step; one that does not end, while
//! it lasts.
//!
//! Not here: the node's own command line (the `corelane` binary).

#![forbid(unsafe_code)]

pub mod admin;
pub mod boot;
pub mod config;
pub mod doctor;
pub mod drain;
pub mod node;
pub mod observe;
pub mod placement;
pub mod preflight;
pub mod services;
pub mod supervisor;
#[cfg(feature = "testing")]
pub mod testing;
mod watch;

#[doc(inline)]
pub use boot::{Running, Server, ShardInfo, Stopper};
pub use config::{Accept, CacheConfig, Listen, Numa, Secret, ShardHost};
pub use corelane_base::{Full, LimitError, Limits, ShardId};
#[cfg(feature = "glommio")]
pub use corelane_exec::host::yield_to_shard;
pub use corelane_exec::{
    BlockingError, Call, CallError, Elapsed, Mesh, Message, Shard, ShardHandle, Sharded, Sleep, Task,
    TaskError, blocking, fs, mesh, sleep, spawn, timeout,
};
pub use corelane_http::{
    Answer, App, Client, Cors, Fields, HookError, How as ClientFrom, Html, IntoResponse, IpNet, Json, Log,
    Method, Middleware, OwnedRequest, Proto, Redirect, Reject, Request, Response, ResponseBody, RouteError,
    SetHeader, Status, Version, WebSocketAccept, websocket_accept,
};
pub use corelane_net::{Body, BodyError, BodySender, BodyStream, Disconnected, TcpStream, body_channel};
#[doc(inline)]
pub use corelane_pools::Chunk;
pub use corelane_uring::Features as RingFeatures;
/// glommio in the version of the host: `DmaFile`, task queues with shares, timers, for code on a shard whose node runs
/// with [`ShardHost::Glommio`].
#[cfg(feature = "glommio")]
pub use glommio;
#[doc(inline)]
pub use preflight::StartError;
pub use services::cache::{Cache, CacheError, access as cache};

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
