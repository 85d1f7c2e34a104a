//! Plain TCP over the simulator: connecting, reading, writing, the ends of streams, accepting.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use common::Shards;
use corelane_base::{Limits, ListenerId};
use corelane_exec::task::yield_now;
use corelane_exec::{BlockingPool, Elapsed, Task, current, sleep, spawn, timeout};
use corelane_net::stream::{INBOX_MAX, SEND_MAX, Streams};
use corelane_net::{TcpAcceptor, TcpStream};
use corelane_sim::{Fault, Faults, Peer, SimConfig, seeds};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn addr() -> SocketAddr {
    "192.0.2.80:80".parse().unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250u8).cycle().take(len).collect()
}

fn with(config: impl FnOnce(SimConfig) -> SimConfig) -> Shards {
    let limits = Limits::default();
    Shards::on(config(SimConfig::of(&limits)), limits)
}

/// A stream of the shard, connected to a peer of the test.
fn connected(b: &mut Shards) -> (Rc<TcpStream>, Peer) {
    let server = b.world.serve(addr());
    let stream = b.run(async { TcpStream::connect(addr()).await.unwrap() });
    (Rc::new(stream), server.accept().unwrap())
}

/// Drops it as its shard would: in a turn.
fn drop_inside(b: &mut Shards, stream: Rc<TcpStream>) {
    b.rt.within(|_| drop(stream));
}

/// Lets a task go on with the stream.
fn start<T: 'static>(b: &mut Shards, future: impl Future<Output = T> + 'static) -> Task<T> {
    let task = b.rt.within(|shard| shard.spawn(future)).unwrap();
    b.settle();
    task
}

/// Reads to the end.
async fn read_all(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let bytes = stream.read().await?;
        if bytes.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&bytes);
    }
}

/// Polls once; says whether it was done.
async fn touch<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    let mut future = Some(future);
    std::future::poll_fn(|cx| Poll::Ready(future.take().is_some_and(|future| future.poll(cx).is_ready())))
        .await
}

// ----- connect

#[test]
fn a_connect_that_is_answered_gives_a_stream_both_ways() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    let writer = Rc::clone(&stream);
    b.run(async move { writer.write_all("question").await.unwrap() });
    b.settle();
    assert_eq!(peer.take(), b"question");
    assert_eq!(peer.write(b"answer"), 6);
    let reader = Rc::clone(&stream);
    assert_eq!(b.run(async move { reader.read().await.unwrap() }), "answer");
    drop_inside(&mut b, stream);
    b.settle();
    assert!(peer.is_eof());
    b.check_quiet();
}

#[test]
fn a_connect_to_nobody_is_refused_and_leaves_nothing() {
    let mut b = Shards::new();
    let error = b.run(async { TcpStream::connect(addr()).await.map(drop).unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    b.settle();
    b.check_quiet();
}

#[test]
fn a_connect_into_a_black_hole_fails_in_the_end() {
    let mut b = Shards::new();
    b.world.black_hole(addr());
    let error = b.run(async { TcpStream::connect(addr()).await.map(drop).unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(b.world.now() >= Duration::from_secs(127));
    b.settle();
    b.check_quiet();
}

#[test]
fn a_connect_into_a_black_hole_ends_with_the_time_given_to_it() {
    let mut b = Shards::new();
    b.world.black_hole(addr());
    let out = b.run(async { timeout(ms(500), TcpStream::connect(addr())).await.map(drop) });
    assert!(out.is_err());
    assert!(b.world.now() < ms(502));
    b.settle();
    b.check_quiet();
}

#[test]
fn a_connect_dropped_at_any_moment_leaves_nothing() {
    for seed in seeds(150) {
        let faults = Faults::all(0.1);
        let mut b = with(|config| SimConfig { seed, faults, latency: Duration::from_micros(20), ..config });
        let server = b.world.serve(addr());
        let mut rng = corelane_base::Rng::new(seed);
        for _ in 0..10 {
            let turns = rng.below(12);
            b.spawn(async move {
                let connect = spawn(TcpStream::connect(addr())).unwrap();
                for _ in 0..turns {
                    // A file operation takes turns and time.
                    let _ = corelane_exec::fs::File::open("/none").await;
                }
                connect.cancel();
            });
        }
        b.settle();
        b.run(async { sleep(ms(50)).await });
        b.settle();
        b.check_quiet();
        drop(server);
    }
}

#[test]
fn streams_past_the_table_are_refused_with_an_error() {
    let limits = Limits { connections_max: 1, descriptors_headroom: 16, ..Limits::default() };
    let mut b = Shards::on(SimConfig { descriptors: 100, ..SimConfig::of(&limits) }, limits);
    let server = b.world.serve(addr());
    let (held, error) = b.run(async {
        let mut held = Vec::new();
        for _ in 0..17 {
            held.push(TcpStream::connect(addr()).await.unwrap());
        }
        (held, TcpStream::connect(addr()).await.map(drop).unwrap_err())
    });
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    b.rt.within(|_| drop(held));
    b.settle();
    b.run(async { TcpStream::connect(addr()).await.map(drop).unwrap() });
    b.settle();
    b.check_quiet();
    drop(server);
}

#[test]
fn a_kernel_without_descriptors_is_an_error_of_the_connect() {
    let limits = Limits::default();
    let mut b = Shards::on(SimConfig { descriptors: 0, ..SimConfig::of(&limits) }, limits);
    let error = b.run(async { TcpStream::connect(addr()).await.map(drop).unwrap_err() });
    const ENFILE: i32 = 23;
    assert_eq!(error.raw_os_error(), Some(ENFILE));
    b.check_quiet();
}

#[test]
fn a_host_that_is_an_address_is_connected_to() {
    let pool = BlockingPool::new(1, 4).unwrap();
    let mut b = Shards::blocking(&pool);
    let server = b.world.serve(addr());
    b.run_with_threads(async {
        let stream = TcpStream::connect_host("192.0.2.80:80").await.unwrap();
        stream.write_all("hello").await.unwrap();
    });
    b.settle();
    assert_eq!(server.accept().unwrap().take(), b"hello");
    let refused = b.run_with_threads(async { TcpStream::connect_host("192.0.2.81:80").await.map(drop) });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let nonsense = b.run_with_threads(async { TcpStream::connect_host("no port").await.map(drop) });
    assert_eq!(nonsense.unwrap_err().kind(), ErrorKind::InvalidInput);
    b.settle();
    b.check_quiet();
}

#[test]
fn a_host_needs_a_pool_to_be_looked_up() {
    let mut b = Shards::new();
    let error = b.run(async { TcpStream::connect_host("192.0.2.80:80").await.map(drop).unwrap_err() });
    assert!(error.to_string().contains("blocking pool"), "{error}");
}

// ----- bytes

#[test]
fn what_goes_out_comes_back_whatever_the_kernel_does_that_loses_nothing() {
    for seed in seeds(100) {
        let faults = Faults::benign(0.15);
        let mut b = with(|config| SimConfig { seed, faults, recv_buffer_bytes: 512, ..config });
        let listener = b.world.add_listener();
        b.rt.within(|shard| {
            TcpAcceptor::serve(shard, listener, |stream: TcpStream| async move {
                loop {
                    let bytes = stream.read().await.unwrap();
                    if bytes.is_empty() {
                        return stream.shutdown().await.unwrap();
                    }
                    stream.write_all(bytes).await.unwrap();
                }
            });
        });
        let sent = pattern(30_000);
        let peers: Vec<Peer> = (0..3).map(|_| b.world.connect(listener)).collect();
        let mut left = vec![&sent[..]; 3];
        for _ in 0..2_000 {
            for (peer, left) in peers.iter().zip(&mut left) {
                let n = peer.write(&left[..left.len().min(3_000)]);
                *left = &left[n..];
                if left.is_empty() {
                    peer.shutdown_write();
                }
            }
            b.rt.turn(true).unwrap();
        }
        b.settle();
        for peer in peers {
            assert!(peer.is_eof(), "{}", b.world.log());
            assert!(peer.take() == sent, "the echo differs");
            peer.close();
        }
        b.settle();
        assert_eq!(b.shard().tasks_alive(), 0);
        b.drain();
        b.check_quiet();
    }
}

#[test]
fn whatever_the_kernel_does_bytes_come_in_order_and_nothing_is_left_behind() {
    let (mut whole, mut all) = (0, 0);
    for seed in seeds(100) {
        let faults = Faults::all(0.02);
        let mut b = with(|config| SimConfig { seed, faults, latency: Duration::from_micros(30), ..config });
        // Both ends are the shard's own.
        let listener = b.world.add_listener();
        let here = b.world.listener_addr(listener);
        b.rt.within(|shard| {
            TcpAcceptor::serve(shard, listener, |stream: TcpStream| async move {
                while let Ok(Ok(bytes)) = timeout(Duration::from_secs(5), stream.read()).await {
                    if bytes.is_empty() || stream.write_all(bytes).await.is_err() {
                        break;
                    }
                }
                let _ = stream.shutdown().await;
            });
        });
        let sent = pattern(40_000);
        let mut echoes = Vec::new();
        for _ in 0..6 {
            let bytes = Bytes::from(sent.clone());
            echoes.push(b.rt.within(|shard| {
                shard.spawn(timeout_in_task(Duration::from_secs(20), async move {
                    let stream = Rc::new(TcpStream::connect(here).await?);
                    let writer = Rc::clone(&stream);
                    let writing = spawn(async move {
                        writer.write_all(bytes).await?;
                        writer.shutdown().await
                    });
                    let echo = read_all(&stream).await;
                    writing.unwrap().cancel();
                    echo
                }))
            }));
        }
        let echoes = b.run(async move {
            let mut ends = Vec::new();
            for echo in echoes {
                ends.push(echo.unwrap().await.unwrap());
            }
            sleep(Duration::from_secs(200)).await; // the last connect has failed by then
            ends
        });
        for echo in echoes {
            all += 1;
            if let Ok(Ok(echo)) = echo {
                assert!(sent.starts_with(&echo), "seed {seed}: {} bytes in another order", echo.len());
                whole += u32::from(echo.len() == sent.len());
            }
        }
        b.drain();
        assert_eq!(b.shard().tasks_alive(), 0);
        b.check_quiet();
    }
    assert!(whole * 3 > all || all < 100, "{whole} of {all} came through: too few to mean anything");
}

async fn timeout_in_task<F: Future>(after: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout(after, future).await
}

#[test]
fn a_write_longer_than_one_send_arrives_whole() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    let sent = pattern(2 * SEND_MAX + 4_321);
    let bytes = Bytes::from(sent.clone());
    b.run(async move {
        stream.write_all(bytes).await.unwrap();
        drop(stream);
    });
    b.settle();
    assert!(peer.take() == sent);
    assert!(peer.is_eof());
    b.check_quiet();
}

#[test]
fn a_write_waits_until_the_peer_makes_room() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    peer.stop_reading();
    let task = start(&mut b, async move { stream.write_all(vec![7; 300_000]).await });
    assert!(!task.is_finished());
    peer.start_reading();
    b.run(async { task.await.unwrap().unwrap() });
    b.settle();
    assert_eq!(peer.received_len(), 300_000);
    b.check_quiet();
}

#[test]
fn a_write_of_nothing_is_done_at_once() {
    let mut b = Shards::new();
    let (stream, _peer) = connected(&mut b);
    let submitted = b.rt.kernel_stats().submitted;
    let writer = Rc::clone(&stream);
    b.run(async move { writer.write_all(Bytes::new()).await.unwrap() });
    assert_eq!(b.rt.kernel_stats().submitted, submitted);
    drop_inside(&mut b, stream);
}

#[test]
fn a_stream_that_nobody_reads_stops_receiving_and_goes_on_when_somebody_does() {
    let limits = Limits::default();
    let buffer = limits.recv_buffer_bytes as usize;
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    let sent = pattern(1 << 20);
    let mut left = &sent[..];
    let mut push = |b: &mut Shards, peer: &Peer| {
        for _ in 0..100 {
            let n = peer.write(left);
            left = &left[n..];
            b.settle();
        }
        sent.len() - left.len()
    };
    // One read arms the receive; then nobody reads any more.
    let first = peer.write(b"x");
    assert_eq!(first, 1);
    let reader = Rc::clone(&stream);
    assert_eq!(b.run(async move { reader.read().await.unwrap() }), "x");
    let taken = push(&mut b, &peer);
    let link = 64 << 10;
    assert!(taken >= INBOX_MAX, "{taken}");
    assert!(taken <= INBOX_MAX + 16 * buffer + link + buffer, "{taken} bytes for nobody");
    assert_eq!(b.world.buffers_lent(), 0, "and it holds no receive buffer");
    let reader = Rc::clone(&stream);
    let first = b.run(async move { reader.read().await.unwrap() });
    assert!(first.len() >= INBOX_MAX);
    let more = push(&mut b, &peer);
    assert!(more >= taken + INBOX_MAX, "one read made room: it receives ahead again");
    let reader = Rc::clone(&stream);
    let got = Rc::new(RefCell::new(first.to_vec()));
    let into = Rc::clone(&got);
    b.spawn(async move {
        loop {
            let bytes = reader.read().await.unwrap();
            into.borrow_mut().extend_from_slice(&bytes);
        }
    });
    b.settle();
    assert_eq!(push(&mut b, &peer), sent.len());
    assert!(*got.borrow() == sent);
}

#[test]
fn an_unread_stream_holds_back_one_peer_and_no_other() {
    let mut b = Shards::new();
    let server = b.world.serve(addr());
    let (stuck, lively) = b.run(async {
        (TcpStream::connect(addr()).await.unwrap(), TcpStream::connect(addr()).await.unwrap())
    });
    let (stuck_peer, lively_peer) = (server.accept().unwrap(), server.accept().unwrap());
    stuck_peer.write(b"x");
    let stuck = Rc::new(stuck);
    let once = Rc::clone(&stuck);
    b.run(async move { once.read().await.unwrap() });
    for _ in 0..50 {
        stuck_peer.write(&[1; 60_000]);
        b.settle();
    }
    lively_peer.write(b"through");
    assert_eq!(b.run(async move { lively.read().await.unwrap() }), "through");
    drop_inside(&mut b, stuck);
    b.settle();
    b.check_quiet();
}

// ----- ends

#[test]
fn the_end_of_a_stream_is_no_bytes_again_and_again_after_all_that_came_before() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    peer.write(b"last words");
    peer.shutdown_write();
    b.run(async move {
        assert_eq!(read_all(&stream).await.unwrap(), b"last words");
        assert_eq!(stream.read().await.unwrap(), "");
        drop(stream);
    });
    b.settle();
    b.check_quiet();
}

#[test]
fn a_reset_is_an_error_after_all_that_came_before() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    peer.write(b"last words");
    peer.reset();
    b.run(async move {
        let mut got = Vec::new();
        let error = loop {
            match stream.read().await {
                Ok(bytes) => {
                    assert!(!bytes.is_empty(), "a reset is not the end of the stream");
                    got.extend_from_slice(&bytes);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(got, b"last words");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(stream.read().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(stream.write_all("to nobody").await.is_err());
    });
    b.settle();
    b.check_quiet();
}

#[test]
fn a_read_that_waits_hears_of_the_reset() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    let task = start(&mut b, async move { stream.read().await.map(drop) });
    assert!(!task.is_finished());
    peer.reset();
    let out = b.run(async { task.await.unwrap() });
    assert_eq!(out.unwrap_err().kind(), ErrorKind::ConnectionReset);
    b.settle();
    b.check_quiet();
}

#[test]
fn a_write_that_waits_hears_of_the_reset() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    peer.stop_reading();
    let task = start(&mut b, async move { stream.write_all(vec![1; 500_000]).await });
    assert!(!task.is_finished());
    peer.reset();
    assert!(b.run(async { task.await.unwrap() }).is_err());
    b.settle();
    b.check_quiet();
}

#[test]
fn after_our_end_the_peer_may_still_speak() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    let (half, reader) = (Rc::clone(&stream), stream);
    let answer = start(&mut b, async move { read_all(&reader).await });
    b.run(async move {
        half.write_all("the question").await.unwrap();
        half.shutdown().await.unwrap();
        assert!(half.write_all("more").await.is_err(), "our side has ended");
    });
    b.settle();
    assert_eq!(peer.take(), b"the question");
    assert!(peer.is_eof());
    assert!(!answer.is_finished(), "the read that waits is not ended with our side");
    assert_eq!(peer.write(b"the answer"), 10);
    peer.close();
    assert_eq!(b.run(async { answer.await.unwrap().unwrap() }), b"the answer");
    b.settle();
    b.check_quiet();
}

#[test]
fn after_the_peers_end_we_may_still_speak() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    peer.shutdown_write();
    b.run(async move {
        assert_eq!(read_all(&stream).await.unwrap(), b"");
        stream.write_all(pattern(100_000)).await.unwrap();
        stream.shutdown().await.unwrap();
        drop(stream);
    });
    b.settle();
    assert!(peer.take() == pattern(100_000));
    assert!(peer.is_eof());
    b.check_quiet();
}

// ----- futures dropped half-way

#[test]
fn a_write_dropped_half_way_is_finished_before_the_next_begins() {
    for seed in seeds(50) {
        let faults = Faults::none().with(Fault::PartialSend, 0.5).with(Fault::Delay, 0.3);
        let mut b = with(|config| SimConfig { seed, faults, ..config });
        let (stream, peer) = connected(&mut b);
        peer.stop_reading();
        let writer = Rc::clone(&stream);
        b.run(async move {
            let first = writer.write_all(vec![b'a'; 200_000]);
            assert!(timeout(ms(5), first).await.is_err(), "the link holds less");
            // This one is dropped while it waits for the first: nothing of it is sent.
            assert!(timeout(ms(5), writer.write_all("never")).await.is_err());
        });
        let last = start(&mut b, async move {
            stream.write_all(vec![b'b'; 10]).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        peer.start_reading();
        b.run(async { last.await.unwrap() });
        b.settle();
        assert!(peer.take() == [vec![b'a'; 200_000], vec![b'b'; 10]].concat());
        assert!(peer.is_eof());
        b.check_quiet();
    }
}

#[test]
fn a_shutdown_after_a_write_dropped_half_way_waits_for_its_bytes() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    peer.stop_reading();
    let writer = Rc::clone(&stream);
    b.run(async move { timeout(ms(5), writer.write_all(vec![b'a'; 200_000])).await.unwrap_err() });
    let end = start(&mut b, async move { stream.shutdown().await });
    assert!(!end.is_finished());
    peer.start_reading();
    b.run(async { end.await.unwrap().unwrap() });
    b.settle();
    assert_eq!(peer.take().len(), 200_000);
    assert!(peer.is_eof());
    b.check_quiet();
}

#[test]
fn a_read_dropped_while_it_waits_loses_no_byte() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    let reader = Rc::clone(&stream);
    b.run(async move { timeout(ms(5), reader.read()).await.unwrap_err() });
    peer.write(b"came later");
    b.settle();
    let reader = Rc::clone(&stream);
    assert_eq!(b.run(async move { reader.read().await.unwrap() }), "came later");
    drop_inside(&mut b, stream);
    b.settle();
    b.check_quiet();
}

#[test]
fn two_writers_at_once_are_an_assertion_and_the_first_goes_on() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    peer.stop_reading();
    let (first, second, third) = (Rc::clone(&stream), Rc::clone(&stream), stream);
    let first = start(&mut b, async move { first.write_all(vec![b'a'; 200_000]).await });
    let second = start(&mut b, async move { second.write_all("b").await });
    let third = start(&mut b, async move { third.shutdown().await });
    assert_eq!(b.shard().stats.tasks_panicked.get(), 2);
    assert!(second.is_finished() && third.is_finished());
    peer.start_reading();
    b.run(async { first.await.unwrap().unwrap() });
    b.settle();
    assert_eq!(peer.take(), vec![b'a'; 200_000]);
    b.check_quiet();
}

#[test]
fn one_task_reads_while_another_writes() {
    let mut b = Shards::new();
    let (stream, peer) = connected(&mut b);
    peer.stop_reading();
    let writer = Rc::clone(&stream);
    let writing = start(&mut b, async move { writer.write_all(vec![1; 200_000]).await });
    peer.write(b"meanwhile");
    let reader = Rc::clone(&stream);
    assert_eq!(b.run(async move { reader.read().await.unwrap() }), "meanwhile");
    assert!(!writing.is_finished());
    peer.start_reading();
    b.run(async { writing.await.unwrap().unwrap() });
    drop_inside(&mut b, stream);
    b.settle();
    b.check_quiet();
}

#[test]
fn a_stream_dropped_with_data_under_way_closes_its_socket_and_frees_its_place() {
    for seed in seeds(100) {
        let faults = Faults::benign(0.2);
        let mut b = with(|config| SimConfig { seed, faults, ..config });
        let (stream, peer) = connected(&mut b);
        peer.stop_reading();
        peer.write(b"unread");
        b.run(async move {
            let mut write = Box::pin(stream.write_all(vec![1; 500_000]));
            let mut read = Box::pin(async {
                stream.read().await.unwrap();
                stream.read().await
            });
            assert!(!touch(write.as_mut()).await);
            touch(read.as_mut()).await;
            for _ in 0..seed % 7 {
                yield_now().await;
            }
            drop((write, read));
            drop(stream);
        });
        b.settle();
        assert_eq!(b.streams(), 0);
        b.check_quiet();
        assert!(!peer.is_refused());
    }
}

#[test]
fn a_shard_that_ends_with_streams_open_is_freed() {
    let mut b = Shards::new();
    let listener = b.world.add_listener();
    b.rt.within(|shard| {
        TcpAcceptor::serve(shard, listener, |stream: TcpStream| async move {
            let _ = stream.read().await;
            let _ = stream.write_all(vec![0; 1 << 20]).await;
            pending::<()>().await;
        });
    });
    let peers: Vec<Peer> = (0..3).map(|_| b.world.connect(listener)).collect();
    peers[0].stop_reading();
    peers[0].write(b"go");
    b.settle();
    let shard = Rc::downgrade(b.shard());
    drop(b);
    assert!(shard.upgrade().is_none(), "something of the streams holds the shard");
}

// ----- accept

/// Accepts from a new listener; each connection is held until its peer ends it. How many are held.
fn holding(b: &mut Shards) -> (ListenerId, Rc<Cell<u32>>) {
    let listener = b.world.add_listener();
    let held = Rc::new(Cell::new(0));
    let count = Rc::clone(&held);
    b.rt.within(|shard| {
        TcpAcceptor::serve(shard, listener, move |stream: TcpStream| {
            let count = Rc::clone(&count);
            async move {
                count.set(count.get() + 1);
                let _ = read_all(&stream).await;
                count.set(count.get() - 1);
            }
        });
    });
    (listener, held)
}

fn few(connections_max: u32, faults: Faults) -> Shards {
    let limits = Limits { connections_max, descriptors_headroom: 16, ..Limits::default() };
    Shards::on(SimConfig { faults, free_running: false, ..SimConfig::of(&limits) }, limits)
}

#[test]
fn accept_pauses_at_connections_max_and_goes_on_when_one_ends() {
    let mut b = few(3, Faults::none());
    let (listener, held) = holding(&mut b);
    let mut peers: Vec<Peer> = Vec::new();
    for want in 1..=3 {
        peers.push(b.world.connect(listener));
        b.settle();
        assert_eq!(held.get(), want);
    }
    let waiting = b.world.connect(listener);
    b.settle();
    assert_eq!(held.get(), 3, "the fourth waits in the queue of the listener");
    assert!(waiting.is_connected() && !waiting.is_over());
    peers.pop().unwrap().close();
    b.settle();
    assert_eq!(held.get(), 3, "one went, one came");
    peers.clear();
    b.settle();
    assert_eq!(held.get(), 1);
    drop(waiting);
    b.drain();
    b.check_quiet();
}

#[test]
fn a_burst_past_connections_max_loses_nobody() {
    let mut b = few(3, Faults::none());
    let (listener, held) = holding(&mut b);
    let peers: Vec<Peer> = (0..15).map(|_| b.world.connect(listener)).collect();
    b.settle();
    assert!(held.get() >= 3);
    for peer in peers {
        assert!(!peer.is_over(), "lost");
        peer.close();
        b.settle();
    }
    assert_eq!(held.get(), 0);
    assert_eq!(b.shard().stats.tasks_spawned.get(), 15);
    b.drain();
    b.check_quiet();
}

#[test]
fn a_connection_that_finds_no_place_in_the_table_is_closed() {
    let limits = Limits { connections_max: 1, descriptors_headroom: 16, ..Limits::default() };
    let mut b = Shards::on(SimConfig { descriptors: 100, ..SimConfig::of(&limits) }, limits);
    let (listener, held) = holding(&mut b);
    let peers: Vec<Peer> = (0..30).map(|_| b.world.connect(listener)).collect();
    b.settle();
    assert_eq!(held.get(), 17);
    assert_eq!(peers.iter().filter(|peer| peer.is_eof()).count(), 13);
    assert_eq!(b.world.descriptors_open(), 17);
    drop(peers);
    b.drain();
    b.check_quiet();
}

#[test]
fn an_accept_that_fails_rests_and_tries_again() {
    let mut b = few(10, Faults::none().with(Fault::AcceptTableFull, 1.0));
    let (listener, held) = holding(&mut b);
    let lost = b.world.connect(listener);
    b.settle();
    assert!(lost.is_eof(), "what the kernel could not take is lost");
    let waits = b.world.connect(listener);
    b.settle();
    assert!(!waits.is_over(), "the accept rests: nobody takes, nobody loses this one");
    b.world.set_faults(Faults::none());
    b.world.advance(ms(99));
    b.settle();
    assert_eq!(held.get(), 0);
    b.world.advance(ms(3));
    b.settle();
    assert_eq!(held.get(), 1);
    drop((lost, waits));
    b.drain();
    b.check_quiet();
}

#[test]
fn a_rest_that_ends_while_the_table_is_full_does_not_accept() {
    let mut b = few(1, Faults::none().with(Fault::AcceptTableFull, 1.0));
    let (listener, held) = holding(&mut b);
    let server = b.world.serve(addr());
    let lost = b.world.connect(listener);
    b.settle();
    assert!(lost.is_eof());
    b.world.set_faults(Faults::none());
    // The only place is taken by an outbound stream while the accept rests.
    let outbound = Rc::new(b.run(async { TcpStream::connect(addr()).await.unwrap() }));
    let waiting = b.world.connect(listener);
    b.world.advance(ms(200));
    b.settle();
    assert_eq!(held.get(), 0);
    assert!(!waiting.is_over());
    drop_inside(&mut b, outbound);
    b.settle();
    assert_eq!(held.get(), 1);
    drop((waiting, server));
    b.settle();
    b.drain();
    b.check_quiet();
}

#[test]
fn a_connection_that_finds_no_task_is_closed() {
    let limits = Limits { tasks_max: 2, ..Limits::default() };
    let mut b = Shards::on(SimConfig::of(&limits), limits);
    let (listener, held) = holding(&mut b);
    let kept: Vec<Peer> = (0..2).map(|_| b.world.connect(listener)).collect();
    b.settle();
    let refused = b.world.connect(listener);
    b.settle();
    assert_eq!(held.get(), 2);
    assert!(refused.is_eof());
    drop(kept);
    b.drain();
    b.check_quiet();
}

#[test]
fn a_handler_that_panics_costs_one_connection() {
    let mut b = Shards::new();
    let listener = b.world.add_listener();
    b.rt.within(|shard| {
        let calls = Cell::new(0);
        TcpAcceptor::serve(shard, listener, move |stream: TcpStream| {
            calls.set(calls.get() + 1);
            assert!(calls.get() != 1, "before the future is made");
            let second = calls.get() == 2;
            async move {
                assert!(!second, "within it");
                stream.write_all("well").await.unwrap();
            }
        });
    });
    let peers: Vec<Peer> = (0..3).map(|_| b.world.connect(listener)).collect();
    b.settle();
    assert!(peers.iter().all(Peer::is_eof));
    assert_eq!(peers[2].take(), b"well");
    assert_eq!(b.shard().stats.tasks_panicked.get(), 2);
    b.drain();
    b.check_quiet();
}

#[test]
fn a_drain_takes_what_is_queued_and_then_is_done_with_its_listeners() {
    for seed in seeds(50) {
        let faults = Faults::none().with(Fault::Delay, 0.3).with(Fault::MultishotEnd, 0.3);
        let limits = Limits::default();
        let mut b = Shards::on(SimConfig { seed, faults, ..SimConfig::of(&limits) }, limits);
        let (listener, held) = holding(&mut b);
        let (other, _) = holding(&mut b);
        let before: Vec<Peer> = (0..3).map(|_| b.world.connect(listener)).collect();
        b.settle();
        let queued: Vec<Peer> = (0..3).map(|_| b.world.connect(listener)).collect();
        b.rt.within(|shard| {
            let streams = Streams::of(shard);
            streams.drain(shard);
            assert!(!streams.is_drained());
            streams.drain(shard);
        });
        b.settle();
        assert_eq!(held.get(), 6, "who was queued is served");
        b.rt.within(|shard| {
            let streams = Streams::of(shard);
            assert!(streams.is_drained());
            let mut closed = streams.take_closed_listeners();
            closed.sort_by_key(|listener| listener.0);
            assert_eq!(closed, [listener, other]);
            assert!(streams.take_closed_listeners().is_empty(), "each is given once");
        });
        b.world.close_listener(listener);
        let late = b.world.connect(listener);
        b.settle();
        assert!(late.is_refused());
        assert!(before.iter().chain(&queued).all(|peer| !peer.is_over()), "a drain ends no stream");
        drop((before, queued));
        b.settle();
        b.check_quiet();
    }
}

#[test]
fn a_drain_while_accept_is_paused_takes_what_is_queued() {
    let mut b = few(1, Faults::none());
    let (listener, held) = holding(&mut b);
    let peers: Vec<Peer> = (0..2).map(|_| b.world.connect(listener)).collect();
    b.settle();
    let more = b.world.connect(listener);
    b.drain();
    assert!(held.get() >= 2);
    assert!(!more.is_over());
    drop((peers, more));
    b.settle();
    b.check_quiet();
}

#[test]
fn whoever_drains_hears_at_once_that_it_is_over() {
    let mut b = Shards::new();
    let (listener, held) = holding(&mut b);
    let peer = b.world.connect(listener);
    b.settle();
    assert_eq!(held.get(), 1);
    // A timer far away: a turn that slept at the wrong moment would sleep until then.
    b.spawn(async { sleep(Duration::from_secs(3_600)).await });
    let over = |b: &mut Shards, done: fn(&Streams) -> bool| {
        for _ in 0..20 {
            b.rt.turn(true).unwrap();
            if b.rt.within(|shard| done(&Streams::of(shard))) {
                return;
            }
        }
        panic!("not within twenty turns");
    };
    b.rt.turn(false).unwrap();
    b.rt.within(|shard| Streams::of(shard).drain(shard));
    over(&mut b, Streams::is_drained);
    peer.close();
    over(&mut b, Streams::is_empty);
    assert!(b.world.now() < Duration::from_secs(1), "{:?}", b.world.now());
}

#[test]
fn streams_of_a_shard_share_one_table() {
    let mut b = Shards::new();
    let (stream, _peer) = connected(&mut b);
    b.rt.within(|shard| {
        assert!(Rc::ptr_eq(&Streams::of(shard), &Streams::of(&current())));
        assert_eq!(Streams::of(shard).len(), 1);
    });
    drop_inside(&mut b, stream);
    b.settle();
    assert_eq!(b.streams(), 0);
}
