//! What a program that uses the library may rely on: tasks, timers, files, sockets, blocking jobs, state of
//! a shard, hooks, bodies as they come, handlers that end with their client.
//!
//! Not here: the same on the simulator, step by step (`exec`, `net`, `http`), examples (`examples.rs`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::client::get;
use common::{Client, Node, pattern, until};
use corelane::{
    App, BlockingError, Limits, OwnedRequest, Response, StartError, TaskError, TcpStream, blocking,
    body_channel, fs, sleep, spawn, timeout,
};
use crossbeam_channel::bounded;

const SOON: Duration = Duration::from_secs(20);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Runs a future as a task of a shard, beside its turn, and gives what it gave. Fails where it panics.
#[track_caller]
fn on_a_shard<T, F, Fut>(limits: Limits, make: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let node = Node::of(common::server().limits(limits));
    let (done, result) = bounded(1);
    let handle = node.running().shards().swap_remove(0);
    let start = move |_: &corelane::Shard| {
        let task = spawn(async move { drop(done.send(make().await)) });
        task.unwrap().detach();
    };
    handle.send(start).unwrap();
    let value = result.recv_timeout(SOON).expect("the task came to its end");
    node.comes_to_rest();
    value
}

#[test]
fn tasks_give_their_values_and_their_panics_stay_theirs() {
    let order = on_a_shard(common::limits(), || async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let order = Rc::clone(&order);
                spawn(async move {
                    sleep(ms(100 - n)).await;
                    order.borrow_mut().push(n);
                    n
                })
                .unwrap()
            })
            .collect();
        for (n, task) in (0..).zip(tasks) {
            assert_eq!(task.await, Ok(n));
        }
        let panics = spawn(async { assert!(std::hint::black_box(false), "asked to") }).unwrap();
        assert_eq!(panics.await, Err(TaskError::Panicked));
        let dropped = Rc::new(Cell::new(false));
        let guard = Guard(Rc::clone(&dropped));
        let endless = spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        sleep(ms(1)).await;
        endless.unwrap().cancel();
        sleep(ms(1)).await;
        assert!(dropped.get(), "a cancelled task is dropped");
        Rc::into_inner(order).unwrap().into_inner()
    });
    let backwards: Vec<u64> = (0..100).rev().collect();
    assert_eq!(order, backwards, "who sleeps less is done first");
}

struct Guard(Rc<Cell<bool>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn timers_are_never_early_and_a_timeout_cuts_what_takes_longer() {
    on_a_shard(common::limits(), || async {
        // By the shard's own time, which is read once a turn: on a busy host a turn may be older than what it runs.
        let now = || Duration::from_nanos(corelane_exec::current().now().mono_ns);
        for n in [0, 1, 2, 10, 63, 64, 65, 200] {
            let start = now();
            sleep(ms(n)).await;
            let slept = now() - start;
            assert!(slept >= ms(n), "{n} ms were {slept:?}");
            assert!(slept < ms(n) + Duration::from_secs(2), "{n} ms were {slept:?}");
        }
        let start = now();
        assert!(timeout(ms(30), std::future::pending::<()>()).await.is_err());
        assert!(now() - start >= ms(30));
        assert_eq!(timeout(ms(500), async { 7 }).await, Ok(7));
    });
}

#[test]
fn blocking_jobs_leave_the_shard_free_and_are_bounded() {
    let limits = Limits { blocking_threads: 1, blocking_queue_max: 1, ..common::limits() };
    on_a_shard(limits, || async {
        assert_eq!(
            blocking(|| thread::current().name().map(str::to_owned)).await,
            Ok(Some("blocking-0".into()))
        );
        assert_eq!(blocking(|| assert!(std::hint::black_box(false))).await, Err(BlockingError::Panicked));
        assert_eq!(blocking(|| 5).await, Ok(5), "the thread outlives the panic");

        let (let_go, held) = bounded::<()>(1);
        let (takes, taken) = bounded::<()>(1);
        let first = spawn(blocking(move || {
            takes.send(()).unwrap();
            held.recv().is_ok()
        }));
        let first = first.unwrap();
        while taken.is_empty() {
            sleep(ms(1)).await; // until the one thread has it
        }
        let second = spawn(blocking(|| 2)).unwrap();
        sleep(ms(1)).await;
        let third = blocking(|| 3).await;
        assert!(matches!(third, Err(BlockingError::Full(_))), "{third:?}");
        let start = Instant::now();
        sleep(ms(5)).await;
        assert!(start.elapsed() < Duration::from_secs(2), "the shard turns meanwhile");
        assert!(!first.is_finished() && !second.is_finished());
        let_go.send(()).unwrap();
        assert_eq!(first.await, Ok(Ok(true)));
        assert_eq!(second.await, Ok(Ok(2)));
    });
}

/// A std server: each connection is echoed by a thread.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = vec![0; 32 << 10];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

#[test]
fn outbound_streams_carry_bytes_both_ways() {
    let addr = echo_server();
    on_a_shard(common::limits(), move || async move {
        let all = (0..20).map(|n| {
            spawn(async move {
                let stream = Rc::new(TcpStream::connect(addr).await.unwrap());
                let body = pattern(500_000 + n);
                let (writer, sent) = (Rc::clone(&stream), body.clone());
                let writes = spawn(async move {
                    writer.write_all(sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                });
                let mut came = Vec::new();
                loop {
                    let bytes = stream.read().await.unwrap();
                    if bytes.is_empty() {
                        break;
                    }
                    came.extend_from_slice(&bytes);
                }
                assert_eq!(writes.unwrap().await, Ok(()));
                assert!(came == body, "{} bytes came back whole", body.len());
                assert!(stream.read().await.unwrap().is_empty(), "the end stays the end");
            })
        });
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.unwrap().await, Ok(()));
        }
        let by_name = TcpStream::connect_host(&format!("localhost:{}", addr.port())).await.unwrap();
        by_name.write_all("name").await.unwrap();
        assert_eq!(by_name.read().await.unwrap(), "name");
    });
}

#[test]
fn a_connect_that_fails_says_how() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // A listener whose queue is full and that accepts nobody: the kernel drops what comes.
    let options = corelane_sys::socket::ListenOptions { backlog: 1, ..Default::default() };
    let hole = corelane_sys::socket::listen(([127, 0, 0, 1], 0).into(), &options).unwrap();
    let silent = hole.local_addr();
    let queued: Vec<_> = (0..4).map(|_| std::net::TcpStream::connect_timeout(&silent, ms(300))).collect();
    assert!(queued.last().unwrap().is_err(), "the queue is full");
    on_a_shard(common::limits(), move || async move {
        for _ in 0..50 {
            let refused = TcpStream::connect(free).await.map(drop).map_err(|error| error.kind());
            assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
        }
        for _ in 0..5 {
            let start = Instant::now();
            assert!(timeout(ms(100), TcpStream::connect(silent)).await.is_err(), "nobody answers there");
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        let nowhere = TcpStream::connect_host("localhost:0").await.map(drop);
        assert!(nowhere.is_err());
    });
    drop((hole, queued));
}

#[test]
fn a_peer_that_resets_is_an_error_and_not_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let resets = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Closed with unread bytes: the kernel sends a reset.
        stream.read_exact(&mut [0; 10]).unwrap();
        thread::sleep(ms(50));
    });
    on_a_shard(common::limits(), move || async move {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(vec![0; 1_000]).await.unwrap();
        let got = stream.read().await.map_err(|error| error.kind());
        assert_eq!(got, Err(ErrorKind::ConnectionReset));
    });
    resets.join().unwrap();
}

#[test]
fn a_stream_may_be_shut_or_dropped_after_a_write_that_took_too_long() {
    // Its queue takes connections; nobody reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    on_a_shard(common::limits(), move || async move {
        for shuts in [true, false] {
            let task = spawn(async move {
                let stream = TcpStream::connect(addr).await.unwrap();
                let late = timeout(ms(100), stream.write_all(vec![0; 32 << 20])).await;
                assert!(late.is_err(), "more than sockets hold");
                if shuts {
                    drop(timeout(ms(100), stream.shutdown()).await);
                }
            });
            assert_eq!(task.unwrap().await, Ok(()));
        }
    });
}

#[test]
fn a_file_reads_back_what_was_written_and_synced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let all = pattern(3_000_001);
    let (written, at) = (all.clone(), path.clone());
    on_a_shard(common::limits(), move || async move {
        let file = fs::File::create(&at).await.unwrap();
        file.write_at(0, written[..2_000_000].to_vec()).await.unwrap();
        file.write_at(2_000_000, written[2_000_000..].to_vec()).await.unwrap();
        file.sync_all().await.unwrap();
        file.sync_data().await.unwrap();
        assert!(file.read_at(0, 4_000_000).await.unwrap() == written, "fewer only at the end");
        assert_eq!(file.read_at(2_999_999, 100).await.unwrap(), &written[2_999_999..]);
        assert!(file.read_at(5_000_000, 10).await.unwrap().is_empty());

        let appended = fs::OpenOptions::new().append(true).open(&at).await.unwrap();
        appended.write_at(0, b"end".to_vec()).await.unwrap();
        let read = fs::File::open(&at).await.unwrap();
        assert_eq!(read.read_at(3_000_001, 10).await.unwrap(), b"end");
        let refused = read.write_at(0, b"x".to_vec()).await.map_err(|error| error.raw_os_error());
        assert_eq!(refused, Err(Some(9)), "EBADF: opened for reading");
        let missing = fs::File::open(at.join("no")).await.map(drop).map_err(|error| error.kind());
        assert_eq!(missing, Err(ErrorKind::NotADirectory));
    });
    let mut expected = all;
    expected.extend_from_slice(b"end");
    assert!(std::fs::read(&path).unwrap() == expected);
}

#[test]
fn a_start_hook_that_fails_keeps_the_node_from_starting() {
    for panics in [false, true] {
        let started = common::server().start(move |_| {
            App::new(()).on_start(move |_| async move {
                sleep(ms(5)).await;
                assert!(!panics, "asked to");
                Err("the cache is cold".into())
            })
        });
        match started {
            Err(StartError::Hook(why)) if panics => assert!(why.contains("panicked"), "{why}"),
            Err(StartError::Hook(why)) => assert_eq!(why, "the cache is cold"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_shard_that_cannot_start_takes_the_others_with_it() {
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&ended);
    let server = common::server().cpus(vec![0, 1]).pin(false);
    let started = server.start(move |shard| {
        let seen = Arc::clone(&seen);
        App::new(())
            .on_start(move |_| async move {
                if shard.id.0 == 1 { Err("the second refuses".into()) } else { Ok(()) }
            })
            .on_drain(move |_| async move {
                seen.fetch_add(1, Ordering::SeqCst);
            })
    });
    assert!(matches!(started, Err(StartError::Hook(why)) if why == "the second refuses"));
    assert_eq!(ended.load(Ordering::SeqCst), 1, "the first was drained");
}

#[test]
fn hooks_run_before_the_first_and_after_the_last_request() {
    let dir = tempfile::tempdir().unwrap();
    let (path, serving) = (dir.path().join("log"), Arc::new(AtomicBool::new(false)));
    let (at, ready) = (path.clone(), Arc::clone(&serving));
    let node = Node::serving(common::server(), move || {
        let (first, last, ready) = (at.clone(), at.clone(), Arc::clone(&ready));
        App::new(Cell::new(0))
            .on_start(move |_| async move {
                fs::File::create(&first).await?.write_at(0, b"start ".to_vec()).await?;
                ready.store(true, Ordering::SeqCst);
                Ok(())
            })
            .get("/", |request| request.state().set(request.state().get() + 1))
            .on_drain(move |count| async move {
                // Hooks have the whole shard: timers, files, tasks.
                sleep(ms(10)).await;
                let text = format!("end after {}", count.get());
                let file = fs::OpenOptions::new().append(true).open(&last).await.unwrap();
                file.write_at(0, text.into_bytes()).await.unwrap();
                file.sync_all().await.unwrap();
            })
    });
    assert!(serving.load(Ordering::SeqCst), "a node that is started has run its start hooks");
    let mut client = Client::connect(node.addr);
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 204);
    }
    drop(client);
    node.drain();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "start end after 3");
}

#[test]
fn each_shard_has_a_state_of_its_own() {
    let server = common::server().cpus(vec![0, 1]).pin(false);
    let running = server.start(|shard| {
        App::new((shard.id.0, Cell::new(0_u64))).get("/", |request| {
            let (id, count) = request.state();
            count.set(count.get() + 1);
            format!("{id} {}", count.get())
        })
    });
    let node = Node::from(running.unwrap());
    assert_eq!(node.running().shards().len(), 2);
    let mut seen = BTreeSet::new();
    let mut clients: Vec<Client> = (0..64).map(|_| Client::connect(node.addr)).collect();
    for _ in 0..5 {
        for client in &mut clients {
            let answer = client.get("/");
            let (id, count) = answer.text().split_once(' ').unwrap();
            let pair: (u16, u64) = (id.parse().unwrap(), count.parse().unwrap());
            assert!(seen.insert(pair), "no shard counts to a number twice: {pair:?}");
        }
    }
    for id in [0, 1] {
        let counts: Vec<u64> = seen.iter().filter(|(of, _)| *of == id).map(|(_, count)| *count).collect();
        assert!(!counts.is_empty(), "shard {id} has some of 64 connections");
        assert_eq!(counts, (1..=counts.len() as u64).collect::<Vec<_>>(), "shard {id}");
    }
    drop(clients);
    node.comes_to_rest();
}

#[test]
fn an_upload_to_a_slow_handler_waits_in_the_sockets_and_not_in_the_node() {
    const BODY: usize = 8 << 20;
    static LARGEST: AtomicUsize = AtomicUsize::new(0);
    let limits =
        Limits { body_bytes_max: 16 << 20, body_high_water: 64 << 10, recv_buffers: 64, ..common::limits() };
    let node = Node::serving(common::server().limits(limits), || {
        App::new(()).post_async("/", |mut request: OwnedRequest<()>| async move {
            let mut sum = 0;
            loop {
                sleep(ms(2)).await;
                match request.chunk().await {
                    Ok(Some(piece)) => {
                        LARGEST.fetch_max(piece.len(), Ordering::Relaxed);
                        let right = piece.iter().zip(sum..).all(|(byte, at)| *byte == place(at));
                        assert!(right, "the bytes from {sum} on");
                        sum += piece.len();
                    }
                    Ok(None) => return format!("{sum}"),
                    Err(error) => return error.to_string(),
                }
            }
        })
    });
    let body: Vec<u8> = (0..BODY).map(place).collect();
    for chunked in [false, true] {
        let mut client = Client::connect(node.addr);
        let request = if chunked {
            common::client::post_chunked("/", &body, 100_000)
        } else {
            common::client::post("/", &body)
        };
        client.send(request);
        assert_eq!(client.answer().text(), BODY.to_string());
        assert_eq!(client.get("/").status, 405, "the connection goes on");
    }
    // What one pause lets through: the mark, and what the kernel had already put into the receive buffers.
    let largest = LARGEST.load(Ordering::Relaxed);
    eprintln!("at most {largest} bytes waited in the node");
    assert!(largest <= (64 << 10) + 64 * 4_096, "{largest} bytes waited in the node");
    node.comes_to_rest();
}

/// A byte that tells its place, quick to make without optimisation.
fn place(at: usize) -> u8 {
    (at >> 8).to_le_bytes()[0] ^ at.to_le_bytes()[0]
}

#[test]
fn a_stream_to_a_client_that_does_not_read_waits_for_it() {
    static SENT: AtomicUsize = AtomicUsize::new(0);
    const PIECE: usize = 100_000;
    const PIECES: usize = 300;
    let node = Node::serving(common::server(), || {
        App::new(()).get("/", |_| {
            let (mut out, stream) = body_channel(64 << 10);
            let task = spawn(async move {
                let piece = Bytes::from(vec![b'x'; PIECE]);
                for _ in 0..PIECES {
                    if out.send(piece.clone()).await.is_err() {
                        return;
                    }
                    SENT.fetch_add(PIECE, Ordering::Relaxed);
                }
                out.finish();
            });
            task.unwrap().detach();
            Response::stream("text/plain", None, stream)
        })
    });
    let mut client = Client::connect(node.addr);
    client.send(get("/"));
    // It stops by itself, long before its 30 MB: no progress for a while.
    let mut before = usize::MAX;
    until("the writer waits", || {
        thread::sleep(ms(200));
        let sent = SENT.load(Ordering::Relaxed);
        let waits = sent > 0 && sent == before;
        before = sent;
        waits
    });
    assert!(before < 20_000_000, "{before} bytes went out to nobody");
    assert_eq!(client.answer().body.len(), PIECE * PIECES, "and goes on with its reader");
    drop(client);
    node.comes_to_rest();
}

/// Counts handlers that were dropped before their end.
struct Dropped(&'static AtomicUsize);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_handler_is_cancelled_when_its_client_leaves() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    let limits = Limits { half_close_time: ms(200), ..common::limits() };
    let node = Node::serving(common::server().limits(limits), || {
        App::new(()).get("/quick", |_| "quick").get_async("/", |_: OwnedRequest<()>| async {
            let _dropped = Dropped(&DROPPED);
            sleep(Duration::from_secs(600)).await;
            "late"
        })
    });
    // By a reset: an answer that was not read makes the kernel send one. By an end of the stream.
    for (n, resets) in [true, false, true, false].into_iter().enumerate() {
        let mut client = Client::connect(node.addr);
        if resets {
            client.send(get("/quick"));
            until("an answer lies unread", || client.stream().peek(&mut [0]).is_ok_and(|len| len > 0));
        }
        client.send(get("/"));
        until("the handler works", || node.ask(0, |shard| shard.tasks_alive()) == 1);
        assert_eq!(DROPPED.load(Ordering::SeqCst), n);
        let start = Instant::now();
        drop(client);
        until("the handler is gone", || DROPPED.load(Ordering::SeqCst) == n + 1);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        assert!(
            resets || took >= ms(190),
            "one that only ended its side may still want its answer: {took:?}"
        );
    }
    node.comes_to_rest();
}

#[test]
fn a_handler_that_is_late_is_cancelled_and_answered_503() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    let limits = Limits { handler_time: ms(200), ..common::limits() };
    let node = Node::serving(common::server().limits(limits), || {
        App::new(()).get_async("/", |_: OwnedRequest<()>| async {
            let _dropped = Dropped(&DROPPED);
            sleep(Duration::from_secs(600)).await;
            "late"
        })
    });
    let mut client = Client::connect(node.addr);
    let start = Instant::now();
    let answer = client.get("/");
    assert_eq!(answer.status, 503);
    assert!(answer.closes());
    assert!(start.elapsed() >= ms(190));
    client.ends();
    assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
    drop(client);
    node.comes_to_rest();
}

#[test]
fn plain_tcp_connections_are_tasks_of_their_shard() {
    let running = common::server().start_tcp(|stream: TcpStream| async move {
        while let Ok(bytes) = stream.read().await {
            if bytes.is_empty() || stream.write_all(bytes).await.is_err() {
                break;
            }
        }
    });
    let node = Node::from(running.unwrap());
    let mut all: Vec<Client> = (0..200).map(|_| Client::connect(node.addr)).collect();
    for (n, client) in all.iter_mut().enumerate() {
        client.send(format!("{n:06}"));
    }
    for (n, client) in all.iter_mut().enumerate() {
        assert_eq!(client.take(6), format!("{n:06}").into_bytes());
        client.finish();
        client.ends();
    }
    drop(all);
    node.comes_to_rest();
}

#[test]
fn a_request_that_asks_another_server_in_between_is_answered() {
    let addr = echo_server();
    let node = Node::serving(common::server(), move || {
        App::new(()).post_async("/", move |mut request: OwnedRequest<()>| async move {
            let stream = TcpStream::connect(addr).await.map_err(|_| 502_u16);
            let Ok(stream) = stream else { return (502, Bytes::new()) };
            let body = request.collect(1 << 20).await.unwrap();
            let len = body.len();
            let mut came = Vec::new();
            if stream.write_all(body).await.is_err() {
                return (502, Bytes::new());
            }
            while came.len() < len {
                match stream.read().await {
                    Ok(bytes) if !bytes.is_empty() => came.extend_from_slice(&bytes),
                    _ => return (502, Bytes::new()),
                }
            }
            (200, Bytes::from(came))
        })
    });
    let all = (0..8).map(|n| {
        let addr = node.addr;
        thread::spawn(move || {
            let mut client = Client::connect(addr);
            for m in 0..30 {
                let body = format!("{n} {m} ").repeat(500);
                let answer = client.post("/", body.as_bytes());
                assert_eq!(answer.status, 200);
                assert!(answer.text() == body);
            }
        })
    });
    for one in all.collect::<Vec<_>>() {
        one.join().unwrap();
    }
    node.comes_to_rest();
}
