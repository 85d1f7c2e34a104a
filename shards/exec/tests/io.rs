//! Operations as futures: their values, and what becomes of them when nobody waits any more.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use common::Bench;
use corelane_base::{AcceptMode, Limits, ListenerId, Op, Sock, Token};
use corelane_exec::{IoFuture, current};
use corelane_pools::Chain;
use corelane_sim::{Faults, SimConfig, seeds};

fn socket() -> IoFuture {
    current().io(|token| Op::Socket { v6: false, token })
}

fn accept(listener: ListenerId) -> IoFuture {
    current().io(|token| Op::Accept { listener, token, mode: AcceptMode::OneWithPeer })
}

fn close(sock: Sock) {
    current().push(Op::Close { sock, token: Token::NONE });
}

/// Polls once and lets go of it.
async fn touch(mut future: IoFuture) {
    poll_fn(|cx| {
        assert!(std::pin::Pin::new(&mut future).poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[test]
fn an_operation_gives_its_result_and_its_payload_back() {
    let mut b = Bench::new();
    let listener = b.world.add_listener();
    let from: SocketAddr = "10.1.2.3:4567".parse().unwrap();
    let peer = b.world.connect_from(listener, from);
    let (address, back) = b.run(async move {
        let accepted = accept(listener).await;
        let sock = Sock(accepted.check().unwrap());
        let mut data = Chain::new();
        data.push(b"over the wire".as_slice());
        let sent = current().io(|token| Op::Send { sock, token, data }).await;
        assert_eq!(sent.check().unwrap(), 13);
        close(sock);
        (accepted.peer, sent.chain.map(|chain| chain.len()))
    });
    assert_eq!(address, Some(from));
    assert_eq!(back, Some(13), "the bytes come back as they were");
    b.settle();
    assert_eq!(peer.take(), b"over the wire");
    b.world.check_quiet();
}

#[test]
fn a_failure_is_the_errno_of_the_kernel() {
    let mut b = Bench::new();
    let error = b.run(async {
        let sock = Sock(socket().await.check().unwrap());
        let addr = "192.0.2.99:1".parse().unwrap();
        let done = current().io(|token| Op::Connect { sock, token, addr }).await;
        close(sock);
        done.check().unwrap_err()
    });
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    b.settle();
    b.world.check_quiet();
}

#[test]
fn a_socket_that_comes_after_its_future_was_dropped_is_closed() {
    let mut b = Bench::new();
    b.run(async { touch(socket()).await });
    b.settle();
    b.world.check_quiet();
}

#[test]
fn a_socket_that_came_and_was_not_taken_is_closed() {
    let mut b = Bench::new();
    let held: Rc<RefCell<Option<IoFuture>>> = Rc::default();
    let hold = Rc::clone(&held);
    b.run(async move { *hold.borrow_mut() = Some(socket()) });
    b.settle();
    assert_eq!(b.world.descriptors_open(), 1);
    drop(held.take());
    b.settle();
    b.world.check_quiet();
}

#[test]
fn a_socket_that_was_taken_is_left_to_whoever_took_it() {
    let mut b = Bench::new();
    let sock = b.run(async { Sock(socket().await.check().unwrap()) });
    b.settle();
    assert_eq!(b.world.descriptors_open(), 1);
    b.rt.within(|_| close(sock));
    b.settle();
    b.world.check_quiet();
}

#[test]
fn a_connection_accepted_for_nobody_is_closed_and_its_peer_sees_the_end() {
    let mut b = Bench::new();
    let listener = b.world.add_listener();
    b.run(async move { touch(accept(listener)).await });
    let peer = b.world.connect(listener);
    b.settle();
    assert!(peer.is_eof());
    b.world.check_quiet();
}

#[test]
fn a_failure_that_nobody_waits_for_closes_nothing() {
    let limits = Limits::default();
    let mut b = Bench::on(SimConfig { descriptors: 1, ..SimConfig::of(&limits) }, limits);
    b.run(async {
        let only = Sock(socket().await.check().unwrap());
        touch(socket()).await;
        let none = socket();
        corelane_exec::task::yield_now().await;
        drop(none);
        close(only);
    });
    b.settle();
    b.world.check_quiet();
}

#[test]
fn what_is_sent_belongs_to_the_operation_although_nobody_waits() {
    let limits = Limits::default();
    let mut b = Bench::on(SimConfig { link_bytes: 100, ..SimConfig::of(&limits) }, limits);
    let listener = b.world.add_listener();
    let peer = b.world.connect(listener);
    peer.stop_reading();
    let pools = b.shard().pools().clone();
    let sock = b.run(async move {
        let sock = Sock(accept(listener).await.check().unwrap());
        let send = |byte: u8| {
            let mut buf = current().pools().get(100).unwrap();
            buf.put(&[byte; 100]);
            let mut data = Chain::new();
            data.push(buf);
            current().io(|token| Op::Send { sock, token, data })
        };
        send(b'a').await;
        touch(send(b'b')).await;
        sock
    });
    b.turns(5);
    assert_eq!(pools.stats().lent(), 1, "the link is full: the kernel holds the buffer");
    peer.start_reading();
    b.settle();
    assert_eq!(peer.take(), [[b'a'; 100], [b'b'; 100]].concat());
    assert_eq!(pools.stats().lent(), 0);
    b.rt.within(|_| close(sock));
    b.settle();
    b.world.check_quiet();
}

#[test]
fn what_an_operation_keeps_is_let_go_when_it_has_ended() {
    struct Kept(Rc<Cell<u32>>);
    impl Drop for Kept {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let mut b = Bench::new();
    let listener = b.world.add_listener();
    let drops = Rc::new(Cell::new(0));
    let keep = |drops: &Rc<Cell<u32>>| Some(Rc::new(Kept(Rc::clone(drops))) as Rc<dyn std::any::Any>);
    let keeping = move |keep| {
        current().io_keeping(|token| Op::Accept { listener, token, mode: AcceptMode::OneWithPeer }, keep)
    };
    let (waited, abandoned) = (keep(&drops), keep(&drops));
    b.spawn(async move {
        let sock = keeping(waited).await.check().unwrap();
        close(Sock(sock));
    });
    b.spawn(async move { touch(keeping(abandoned)).await });
    b.turns(5);
    assert_eq!(drops.get(), 0, "both are under way");
    let first = b.world.connect(listener);
    b.settle();
    assert_eq!(drops.get(), 1);
    let second = b.world.connect(listener);
    b.settle();
    assert_eq!(drops.get(), 2);
    assert!(first.is_eof() && second.is_eof());
    b.world.check_quiet();
}

#[test]
fn a_place_used_more_often_than_its_generation_can_count_goes_on() {
    let mut b = Bench::new();
    b.run(async {
        for _ in 0..70_000 {
            let sock = Sock(socket().await.check().unwrap());
            close(sock);
        }
    });
    b.settle();
    b.world.check_quiet();
}

#[test]
fn a_shard_that_ends_with_operations_under_way_keeps_nothing_alive() {
    let mut b = Bench::new();
    b.world.put_file("/f", &[1; 1000]);
    let listener = b.world.add_listener();
    b.spawn(async move {
        let file = corelane_exec::fs::File::open("/f").await.unwrap();
        let _accept = accept(listener);
        drop(corelane_exec::timeout(std::time::Duration::ZERO, file.read_at(0, 1000)).await);
        let _read = file.read_at(0, 1000).await;
        pending::<()>().await;
    });
    b.turns(1);
    b.world.advance(std::time::Duration::from_micros(60));
    b.rt.turn(false).unwrap();
    b.rt.turn(false).unwrap();
    assert!(b.world.operations_owed() >= 2, "nothing is under way: nothing is tested");
    let shard = Rc::downgrade(b.shard());
    drop(b);
    assert!(shard.upgrade().is_none(), "an operation under way holds what holds the shard");
}

#[test]
fn dropped_at_any_moment_under_any_fault_nothing_is_left_behind() {
    for seed in seeds(200) {
        let limits = Limits::default();
        let faults = Faults::all(0.1);
        let mut b = Bench::on(SimConfig { seed, faults, ..SimConfig::of(&limits) }, limits);
        let listener = b.world.add_listener();
        let accepts = Rc::new(Cell::new(0u32));
        let mut rng = corelane_base::Rng::new(seed);
        for _ in 0..20 {
            let wait = std::time::Duration::from_micros(rng.below(3_000));
            let accepts = Rc::clone(&accepts);
            let sort = rng.below(2);
            b.spawn(async move {
                let future = match sort {
                    0 => socket(),
                    _ => {
                        accepts.set(accepts.get() + 1);
                        accept(listener)
                    }
                };
                if let Ok(done) = corelane_exec::timeout(wait, future).await
                    && let Ok(number) = done.check()
                {
                    corelane_exec::sleep(wait).await;
                    close(Sock(number));
                }
            });
        }
        b.turns(3);
        // Every accept gets a connection, so that each comes to its end.
        let peers: Vec<_> = (0..accepts.get()).map(|_| b.world.connect(listener)).collect();
        b.run(async { corelane_exec::sleep(std::time::Duration::from_millis(50)).await });
        b.settle();
        b.world.check_quiet();
        drop(peers);
    }
}
