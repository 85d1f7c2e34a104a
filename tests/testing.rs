//! `corelane::testing` used as a user would: what it drives, how time passes, what it says when it cannot.

#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use corelane::testing::{Fault, Faults, TestRequest, TestServer, seeds};
use corelane::{
    App, Json, Limits, OwnedRequest, Reject, Response, TcpStream, blocking, body_channel, fs, sleep, spawn,
    timeout, websocket_accept,
};
use serde::{Deserialize, Serialize};

const UPSTREAM: ([u8; 4], u16) = ([198, 51, 100, 1], 5432);

async fn echo<S>(mut request: OwnedRequest<S>) -> Result<Vec<u8>, Reject> {
    Ok(request.collect(1 << 20).await?.to_vec())
}

async fn slow(_: OwnedRequest<()>) -> &'static str {
    sleep(Duration::from_secs(5)).await;
    "slow"
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n")
}

#[test]
fn state_is_of_the_shard_and_answers_are_read_whole() {
    #[derive(Deserialize, Serialize, PartialEq, Debug)]
    struct Item {
        name: String,
        count: u32,
    }
    async fn double(mut request: OwnedRequest<Cell<u32>>) -> Result<Json<Item>, Reject> {
        let mut item: Item = request.json(1024).await?;
        item.count *= 2;
        Ok(Json(item))
    }
    let server = TestServer::new(|shard| {
        assert_eq!((shard.id.0, shard.shards, shard.cpu), (0, 1, None));
        App::new(Cell::new(0))
            .get("/hits", |request| {
                request.state().set(request.state().get() + 1);
                request.state().get().to_string()
            })
            .post_async("/double", double)
            .post_async("/echo", echo)
    });
    assert_eq!(server.get("/hits").text(), "1");
    assert_eq!(server.get("/hits").text(), "2");
    assert_eq!(server.state().get(), 2);
    let item = Item { name: "nut".to_owned(), count: 21 };
    let answer = server.send(&TestRequest::new("POST", "/double").json(&item));
    assert_eq!((answer.status(), answer.header("Content-Type")), (200, Some("application/json")));
    assert_eq!(answer.json::<Item>(), Item { count: 42, ..item });
    let large = vec![b'x'; 300_000];
    assert_eq!(server.post("/echo", &large).body(), large);
    let head = server.send(&TestRequest::new("HEAD", "/hits"));
    assert_eq!((head.status(), head.header("content-length"), head.body()), (200, Some("1"), &b""[..]));
    let none = server.get("/none");
    assert_eq!((none.status(), none.header("server")), (404, Some("corelane")));
    assert_eq!((server.connections(), server.tasks()), (0, 0));
    assert_eq!(server.counter("requests"), 6);
    assert_eq!(server.now(), Duration::ZERO, "nothing above needs time");
}

#[test]
fn time_jumps_for_an_answer_and_stands_still_for_a_read() {
    let server = TestServer::new(|_| App::new(()).get_async("/slow", slow));
    assert_eq!(server.get("/slow").text(), "slow");
    assert_eq!(server.now(), Duration::from_secs(5));
    let connection = server.connect();
    connection.write(get("/slow"));
    server.advance(Duration::from_millis(4_999));
    assert!(connection.read().is_empty());
    server.advance(Duration::from_millis(1));
    assert_eq!(server.now(), Duration::from_secs(10));
    assert!(connection.read_text().ends_with("slow"));
}

#[test]
fn deadlines_fall_where_the_limits_say() {
    let limits = Limits { head_time: Duration::from_secs(3), ..Limits::default() };
    let server = TestServer::builder().limits(limits).start(|_| App::new(()).get("/", |_| "hello"));
    let connection = server.connect();
    connection.write("GET / HT");
    server.advance(Duration::from_millis(2_999));
    assert!(!connection.is_over() && connection.read().is_empty());
    server.advance(Duration::from_millis(2));
    assert!(connection.read_text().starts_with("HTTP/1.1 408 "));
    assert_eq!(server.counter("timeouts_head"), 1);
    // The same without a clock in the hands of the test.
    assert!(server.request("GET / HT").starts_with(b"HTTP/1.1 408 "));
    // Two at once, and half a third.
    let all = server.request(get("/").repeat(2) + "GET /");
    assert_eq!(String::from_utf8_lossy(&all).matches("200 OK").count(), 2);
}

#[test]
fn limits_are_kept_on_them_and_one_past() {
    let limits = Limits { body_bytes_max: 1_000, ..Limits::default() };
    let server = TestServer::builder().limits(limits).start(|_| App::new(()).post_async("/", echo));
    assert_eq!(server.post("/", [b'x'; 1_000]).status(), 200);
    assert_eq!(server.post("/", [b'x'; 1_001]).status(), 413);
}

#[test]
#[should_panic(expected = "headers_max = 129 cannot work")]
fn limits_that_cannot_work_are_refused() {
    let limits = Limits { headers_max: 129, ..Limits::default() };
    TestServer::builder().limits(limits).start(|_| App::new(()));
}

#[test]
fn streamed_bodies_come_piece_by_piece_and_wait_for_a_slow_reader() {
    let sent = Rc::new(Cell::new(0_usize));
    let count = Rc::clone(&sent);
    let server = TestServer::new(move |_| {
        App::new(count)
            .get("/ticks", |_| {
                let (mut sender, stream) = body_channel(16);
                let ticks = async move {
                    for tick in 0..3 {
                        sleep(Duration::from_secs(1)).await;
                        if sender.send(format!("{tick} ")).await.is_err() {
                            return;
                        }
                    }
                    sender.finish();
                };
                spawn(ticks).unwrap().detach();
                Response::stream("text/plain", None, stream)
            })
            .get("/much", |request| {
                let (mut sender, stream) = body_channel(1 << 16);
                let sent = Rc::clone(request.state());
                let pieces = async move {
                    for _ in 0..64 {
                        if sender.send(vec![b'x'; 1 << 16]).await.is_err() {
                            return;
                        }
                        sent.set(sent.get() + 1);
                    }
                    sender.finish();
                };
                spawn(pieces).unwrap().detach();
                Response::stream("text/plain", None, stream)
            })
            .get("/cut", |_| {
                let (mut sender, stream) = body_channel(16);
                spawn(async move { sender.send("half").await }).unwrap().detach();
                Response::stream("text/plain", None, stream)
            })
    });
    let answer = server.get("/ticks");
    assert_eq!((answer.text(), answer.header("transfer-encoding")), ("0 1 2 ", Some("chunked")));
    assert_eq!(server.now(), Duration::from_secs(3));

    // Each tick at its own time, although the test looks only at the end of them all; framed by the close.
    let connection = server.connect();
    connection.write("GET /ticks HTTP/1.0\r\n\r\n");
    server.advance(Duration::from_secs(3));
    assert!(connection.is_over());
    assert_eq!(connection.response().text(), "0 1 2 ");

    let connection = server.connect();
    connection.stop_reading();
    connection.send(&TestRequest::get("/much"));
    server.settle();
    let before = sent.get();
    assert!((2..32).contains(&before), "{before} pieces were sent to one who does not read");
    connection.start_reading();
    assert_eq!(connection.response().body().len(), 64 << 16);
    assert_eq!(sent.get(), 64);

    let error = server.try_send(&TestRequest::get("/cut")).unwrap_err();
    assert!(error.to_string().starts_with("the connection was reset"), "{error}");
}

#[test]
fn blocking_jobs_run_on_real_threads_while_the_clock_stands() {
    static GO: AtomicBool = AtomicBool::new(false);
    async fn hash(_: OwnedRequest<()>) -> String {
        let job = blocking(|| {
            while !GO.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            std::thread::current().name().unwrap_or_default().to_owned()
        });
        job.await.unwrap()
    }
    let server = TestServer::new(|_| App::new(()).get_async("/hash", hash).get("/", |_| "meanwhile"));
    let connection = server.connect();
    connection.write(get("/hash"));
    assert!(connection.read().is_empty());
    assert_eq!(server.get("/").text(), "meanwhile");
    GO.store(true, Ordering::Release);
    assert!(connection.response().text().starts_with("blocking-"));
    assert_eq!(server.run(blocking(|| std::thread::sleep(Duration::from_millis(50)))), Ok(()));
    assert_eq!(server.now(), Duration::ZERO);
    let wrong = server.run(blocking(|| panic!("asked to")));
    assert_eq!(wrong, Err::<(), _>(corelane::BlockingError::Panicked));
}

#[test]
fn other_threads_are_waited_for_where_the_test_says_so() {
    static MAY_END: AtomicBool = AtomicBool::new(true);
    async fn foreign(_: OwnedRequest<()>) -> &'static str {
        let done = Arc::new(AtomicBool::new(false));
        let mut begun = false;
        poll_fn(move |cx| {
            if done.load(Ordering::Acquire) {
                return Poll::Ready("done elsewhere");
            }
            if !std::mem::replace(&mut begun, true) {
                let (done, waker) = (Arc::clone(&done), cx.waker().clone());
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(30));
                    while !MAY_END.load(Ordering::Acquire) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    done.store(true, Ordering::Release);
                    waker.wake();
                });
            }
            Poll::Pending
        })
        .await
    }
    let app = |_| App::new(()).get_async("/", foreign);
    let patient = TestServer::builder().wait_for_threads(Duration::from_secs(30)).start(app);
    assert_eq!((patient.get("/").text(), patient.now()), ("done elsewhere", Duration::ZERO));
    // However long the clock takes to get there: the thread is held until it has.
    MAY_END.store(false, Ordering::Release);
    let hasty = TestServer::new(app);
    assert_eq!(hasty.get("/").status(), 503, "the clock jumps to handler_time");
    MAY_END.store(true, Ordering::Release);
}

#[test]
fn a_client_that_leaves_ends_its_handler() {
    struct Ended(Rc<Cell<u32>>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    async fn wait(request: OwnedRequest<Rc<Cell<u32>>>) -> &'static str {
        let _ended = Ended(Rc::clone(request.state()));
        sleep(Duration::from_secs(20)).await;
        "never"
    }
    let server = TestServer::new(|_| App::new(Rc::new(Cell::new(0))).get_async("/", wait));
    let (reset, closed, kept) = (server.connect(), server.connect(), server.connect());
    for connection in [&reset, &closed, &kept] {
        connection.write(get("/"));
    }
    assert_eq!((server.connections(), server.tasks()), (3, 3));
    reset.reset();
    assert_eq!((server.state().get(), server.tasks()), (1, 2));
    closed.shutdown_write();
    server.advance(Duration::from_millis(1_001)); // half_close_time
    assert_eq!((server.state().get(), server.connections()), (2, 1));
    assert_eq!(kept.response().text(), "never");
    drop(kept);
    server.settle();
    assert_eq!((server.connections(), server.tasks()), (0, 0));
}

#[test]
fn no_benign_fault_shows_in_an_answer_whatever_the_seed() {
    let body: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    for seed in seeds(20) {
        let server = TestServer::builder()
            .faults(seed, Faults::benign(0.1))
            .start(|_| App::new(()).post_async("/", echo).get_async("/slow", slow));
        assert_eq!(server.post("/", &body).body(), body);
        assert_eq!(server.get("/slow").text(), "slow");
        assert!(Fault::ALL.iter().any(|fault| server.world().injected(*fault) > 0));
    }
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let trace = |seed| {
        let server = TestServer::builder()
            .faults(seed, Faults::all(0.05))
            .latency(Duration::from_millis(2))
            .start(|_| App::new(()).get_async("/slow", slow));
        let lost = (0..20).filter(|_| server.try_send(&TestRequest::get("/slow")).is_err()).count();
        (server.world().trace(), server.now(), lost)
    };
    let first = trace(1);
    assert_eq!(first, trace(1));
    assert_ne!(first, trace(2));
    assert!(first.2 > 0, "some answers are lost to resets");
}

async fn ask(_: OwnedRequest<()>) -> String {
    let talk = async {
        let stream = TcpStream::connect(UPSTREAM.into()).await?;
        stream.write_all("name?\n").await?;
        let mut answer = Vec::new();
        loop {
            let bytes = stream.read().await?;
            answer.extend_from_slice(&bytes);
            if bytes.is_empty() || answer.ends_with(b"\n") {
                return Ok::<_, std::io::Error>(answer);
            }
        }
    };
    match timeout(Duration::from_secs(2), talk).await {
        Ok(Ok(answer)) => String::from_utf8(answer).unwrap(),
        Ok(Err(error)) => error.kind().to_string(),
        Err(elapsed) => elapsed.to_string(),
    }
}

#[test]
fn outbound_connections_end_where_the_test_says() {
    let server = TestServer::new(|_| App::new(()).get_async("/", ask));
    assert_eq!(server.get("/").text(), "connection refused");
    let ended = Rc::new(Cell::new(0));
    let count = Rc::clone(&ended);
    server.serve(UPSTREAM.into(), move |peer| {
        if peer.received() == b"name?\n" {
            peer.take();
            peer.write(b"upstream\n");
        }
        if peer.is_over() {
            count.set(count.get() + 1);
        }
    });
    assert_eq!(server.get("/").text(), "upstream\n");
    assert_eq!(server.get("/").text(), "upstream\n");
    server.settle();
    assert_eq!(ended.get(), 2, "each connection ends once");
    assert_eq!(server.now(), Duration::ZERO);

    let silent =
        TestServer::builder().serve(UPSTREAM.into(), |_| {}).start(|_| App::new(()).get_async("/", ask));
    assert_eq!(silent.get("/").text(), "the time given for it passed");
    let nowhere = TestServer::builder()
        .world(|world| world.black_hole(UPSTREAM.into()))
        .start(|_| App::new(()).get_async("/", ask));
    assert_eq!(nowhere.get("/").text(), "the time given for it passed");
    assert_eq!(nowhere.now(), Duration::from_secs(2));
}

#[test]
fn start_hooks_find_the_outside_set_up_and_their_errors_are_told() {
    struct State {
        greeting: RefCell<Vec<u8>>,
    }
    fn app() -> App<State> {
        App::new(State { greeting: RefCell::default() })
            .on_start(|state| async move {
                sleep(Duration::from_secs(1)).await;
                let stream = TcpStream::connect(UPSTREAM.into()).await?;
                *state.greeting.borrow_mut() = stream.read().await?.to_vec();
                Ok(())
            })
            .get("/", |request| request.state().greeting.borrow().clone())
    }
    let answer = |peer: &corelane::testing::Peer| {
        if !peer.is_over() {
            peer.write(b"welcome");
        }
    };
    let server = TestServer::builder().serve(UPSTREAM.into(), answer).start(|_| app());
    assert_eq!(server.get("/").body(), b"welcome");
    let error = TestServer::builder().try_start(|_| app()).unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn files_are_those_of_the_world() {
    async fn copy(_: OwnedRequest<()>) -> Result<Vec<u8>, String> {
        let text = |error: std::io::Error| error.kind().to_string();
        let from = fs::File::open("etc/motd").await.map_err(text)?;
        let bytes = from.read_at(0, 4096).await.map_err(text)?;
        let to = fs::File::create("copy").await.map_err(text)?;
        to.write_at(0, bytes.clone()).await.map_err(text)?;
        to.sync_all().await.map_err(text)?;
        Ok(bytes)
    }
    let server = TestServer::builder()
        .world(|world| world.put_file("etc/motd", b"be kind"))
        .start(|_| App::new(()).get_async("/", copy));
    assert_eq!(server.get("/").body(), b"be kind");
    assert_eq!(server.world().disk_after_crash().get("copy"), Some(&b"be kind"[..]));
    server.world().set_disk_bytes_max(0);
    assert_eq!(server.get("/").text(), std::io::ErrorKind::StorageFull.to_string());
    server.settle();
    assert_eq!(server.world().descriptors_open(), 0);
}

#[test]
fn a_drain_finishes_what_was_begun_and_runs_the_hooks() {
    let ended = Rc::new(Cell::new(false));
    let hook = Rc::clone(&ended);
    let server = TestServer::new(move |_| {
        App::new(()).get_async("/slow", slow).get("/", |_| "hello").on_drain(move |_| async move {
            sleep(Duration::from_secs(1)).await;
            hook.set(true);
        })
    });
    let (busy, idle) = (server.connect(), server.connect());
    busy.send(&TestRequest::get("/slow"));
    idle.send(&TestRequest::get("/"));
    assert_eq!(idle.response().header("connection"), None);
    server.begin_drain();
    assert!(server.connect().is_refused());
    idle.send(&TestRequest::get("/"));
    assert_eq!(idle.response().header("connection"), Some("close"));
    assert!(!ended.get());
    server.drain();
    assert_eq!(busy.response().text(), "slow");
    assert!(ended.get() && idle.is_over());
    assert_eq!(server.connections(), 0);
    let took = server.now().as_millis();
    assert!(
        (6_000..8_100).contains(&took),
        "5 s of the handler, 1 s of the hook, linger_time at most: {took} ms"
    );
    server.world().check_quiet();
}

#[test]
fn plain_tcp_and_upgraded_connections_are_bytes() {
    async fn shout(stream: TcpStream) {
        while let Ok(bytes) = stream.read().await {
            if bytes.is_empty() || stream.write_all(bytes.to_ascii_uppercase()).await.is_err() {
                return;
            }
        }
    }
    let server = TestServer::builder().start_tcp(shout);
    let connection = server.connect();
    assert_eq!(connection.write("hello"), 5);
    assert_eq!(connection.read_text(), "HELLO");
    connection.shutdown_write();
    assert!(connection.is_over());

    let server = TestServer::new(|_| {
        App::new(()).get("/ws", |request| -> Result<Response, Response> {
            Ok(websocket_accept(request)?.respond(|stream| spawn(shout(stream)).unwrap().detach()))
        })
    });
    let connection = server.connect();
    let open = TestRequest::get("/ws")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    connection.send(&open);
    assert_eq!(connection.response().status(), 101);
    connection.write("frame");
    assert_eq!(connection.read_text(), "FRAME");
}

#[test]
fn connections_from_one_address_count_together() {
    let limits = Limits { connections_per_peer_max: 1, ..Limits::default() };
    let server = TestServer::builder()
        .limits(limits)
        .start(|_| App::new(()).get("/", |request| request.peer().map(|peer| peer.to_string())));
    let from = |port| SocketAddr::from(([203, 0, 113, 9], port));
    let (first, second) = (server.connect_from(from(1)), server.connect_from(from(2)));
    assert!(second.is_over() && !first.is_over());
    first.send(&TestRequest::get("/"));
    assert_eq!(first.response().text(), "203.0.113.9:1");
}

#[test]
#[should_panic(expected = "waits for something that nothing here brings")]
fn a_future_that_waits_for_nothing_is_told_from_a_slow_one() {
    TestServer::new(|_| App::new(())).run(std::future::pending::<()>());
}

#[test]
#[should_panic(expected = "driven from within itself")]
fn a_server_driven_by_its_own_callback_says_so() {
    let server = TestServer::new(|_| App::new(()).get_async("/", ask));
    let connection = server.connect();
    server.serve(UPSTREAM.into(), move |_| drop(connection.read()));
    server.get("/");
}

#[test]
fn a_handler_that_panics_costs_its_own_answer() {
    let server = TestServer::new(|_| {
        App::new(()).get("/bad", |_| -> &'static str { panic!("asked to") }).get("/", |_| "fine")
    });
    assert_eq!(server.get("/bad").status(), 500);
    assert_eq!(server.get("/").text(), "fine");
    assert_eq!(server.counter("panics"), 1);
    let waited = Rc::new(Cell::new(0));
    let count = Rc::clone(&waited);
    server.run(async move {
        spawn(async move {
            sleep(Duration::from_secs(90)).await;
            count.set(1);
        })
        .unwrap()
        .detach();
    });
    server.wait_until(|| waited.get() == 1);
    assert_eq!(server.now(), Duration::from_secs(90));
}
