//! Sockets given from one ring's table to another's.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{ACCEPT, Bed, CLOSE, OTHER, PATIENCE, RECV, SEND, masks, read, small, sock, token, without};
use corelane_base::{AcceptMode, Kernel, Op, Payload, RecvMode, Sock, Token, Unpark, Wait};
use corelane_uring::{Features, Ring, RingConfig};

/// The tag of arrivals.
const ARRIVED: u8 = 7;

fn hand(bed: &mut Bed, sock: Sock, to: &Arc<dyn Unpark>, index: u32) {
    let (to, arrival) = (Arc::clone(to), token(ARRIVED, index));
    bed.push(Op::Hand { sock, to, arrival, token: token(OTHER, index) });
}

fn close(bed: &mut Bed, sock: Sock, index: u32) {
    bed.push(Op::Close { sock, token: token(CLOSE, index) });
    assert_eq!(bed.of(token(CLOSE, index)).result, 0);
}

/// Masks with which a socket can be given.
fn able() -> Vec<Features> {
    let needed = Features::DIRECT.with(Features::MSG_RING);
    masks().into_iter().filter(|mask| mask.without(needed) == *mask).collect()
}

/// A ring on a thread of its own that echoes on `count` sockets which it is given, each until its end.
fn echoing(config: RingConfig, count: u32) -> (Arc<dyn Unpark>, Receiver<()>, JoinHandle<()>) {
    let ((up, handle), (done, ended)) = (channel(), channel());
    let thread = thread::spawn(move || {
        let mut bed = Bed::new(&config);
        up.send(bed.ring.unpark()).unwrap();
        let (mut arrived, mut closed) = (Vec::new(), 0);
        while closed < count {
            // Without an end: what arrives must end the sleep.
            let next = loop {
                match bed.held.pop_front().or_else(|| bed.ring.pop()) {
                    Some(next) => break next,
                    None => bed.ring.enter(Wait::Until(None)).unwrap(),
                }
            };
            let index = next.token.index();
            match next.token.tag() {
                ARRIVED => {
                    assert!(next.more, "no operation ended");
                    assert!(matches!(next.payload, Payload::None));
                    assert_eq!(next.token, token(ARRIVED, index));
                    let at = u32::try_from(arrived.len()).unwrap();
                    arrived.push(sock(next.result));
                    bed.recv(sock(next.result), token(RECV, at), RecvMode::Once);
                }
                RECV if next.result == 0 => {
                    bed.push(Op::Close { sock: arrived[index as usize], token: token(CLOSE, index) });
                }
                RECV => {
                    let bytes = bed.bytes(&next);
                    let data = bed.chain(&bytes);
                    bed.send(arrived[index as usize], token(SEND, index), data);
                }
                SEND => bed.recv(arrived[index as usize], token(RECV, index), RecvMode::Once),
                CLOSE => closed += 1,
                tag => panic!("{tag}: {next:?}"),
            }
        }
        assert_eq!(arrived.len(), arrived.iter().copied().collect::<HashSet<_>>().len());
        assert_eq!(bed.ring.flights(), 0);
        let start = Instant::now();
        drop(bed);
        assert!(start.elapsed() < Duration::from_secs(1), "it waited for what is not there");
        done.send(()).unwrap();
    });
    (handle.recv_timeout(PATIENCE).unwrap(), ended, thread)
}

#[track_caller]
fn echoes(peer: &mut TcpStream, text: &[u8]) {
    peer.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    peer.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

#[test]
fn a_connection_accepted_in_one_ring_is_served_by_another_and_closed_in_the_first() {
    let able = able();
    let pairs = able.iter().flat_map(|&mask| [(mask, Features::NONE), (Features::NONE, mask), (mask, mask)]);
    for (from, to) in pairs {
        let (target, ended, thread) = echoing(without(to), 1);
        let mut bed = Bed::new(&without(from));
        assert!(bed.ring.abilities().hand);
        let (end, mut peer) = bed.pair();
        // What came before is not lost.
        peer.write_all(b"early").unwrap();
        thread::sleep(Duration::from_millis(1));
        hand(&mut bed, end, &target, 0);
        let handed = bed.of(token(OTHER, 0));
        assert_eq!((handed.result, handed.more), (0, false), "{from} to {to}");
        close(&mut bed, end, 0);
        let mut early = [0; 5];
        peer.read_exact(&mut early).unwrap();
        assert_eq!(&early, b"early");
        echoes(&mut peer, b"and more");
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read(&mut peer, &mut [0; 8]), 0, "closed by the second ring");
        ended.recv_timeout(PATIENCE).unwrap();
        thread.join().unwrap();
        assert_eq!(bed.ring.flights(), 0);
        assert!(bed.held.is_empty());
    }
}

#[test]
fn a_thousand_sockets_are_handed_at_once() {
    const COUNT: u32 = 1_000;
    let tables = RingConfig { descriptors: COUNT + 8, ..small() };
    let (target, ended, thread) = echoing(tables.clone(), COUNT);
    let mut bed = Bed::new(&tables);
    let (listener, addr) = bed.listen();
    bed.accept(listener, token(ACCEPT, 0), AcceptMode::Multi);
    bed.enter();
    let mut peers = Vec::new();
    let mut socks = Vec::new();
    for _ in 0..COUNT {
        let peer = TcpStream::connect(addr).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peers.push(peer);
        let accepted = bed.of(token(ACCEPT, 0));
        if !accepted.more {
            bed.accept(listener, token(ACCEPT, 0), AcceptMode::Multi);
        }
        socks.push(sock(accepted.result));
    }
    for (index, &end) in (0..).zip(&socks) {
        hand(&mut bed, end, &target, index);
    }
    for (index, &end) in (0..).zip(&socks) {
        assert_eq!(bed.of(token(OTHER, index)).result, 0);
        bed.push(Op::Close { sock: end, token: Token::NONE });
    }
    bed.enter();
    for (index, peer) in (0_u32..).zip(&mut peers) {
        echoes(peer, &index.to_ne_bytes());
    }
    drop(peers);
    ended.recv_timeout(PATIENCE).unwrap();
    thread.join().unwrap();
    assert_eq!(bed.ring.failed_unseen(), 0);
}

#[test]
fn a_full_table_refuses_and_nothing_arrives() {
    let mut bed = Bed::new(&small());
    let mut target = Bed::new(&RingConfig { descriptors: 2, ..small() });
    let to = target.ring.unpark();
    let mut ends: Vec<_> = (0..3).map(|_| bed.pair()).collect();
    // Both rings live on this thread, so the one that is given something has to enter, too.
    let mut give = |index: u32, target: &mut Bed| {
        hand(&mut bed, ends[index as usize].0, &to, index);
        bed.enter();
        target.enter();
        bed.of(token(OTHER, index)).result
    };
    assert_eq!(give(0, &mut target), 0);
    assert_eq!(give(1, &mut target), 0);
    assert_eq!(give(2, &mut target), -libc::ENFILE);
    let first = target.of(token(ARRIVED, 0));
    assert_eq!(target.of(token(ARRIVED, 1)).token.index(), 1);
    assert!(target.next_within(Duration::from_millis(20)).is_none(), "nothing arrives");
    // The refused one is where it was, and fits as soon as there is room.
    close(&mut target, sock(first.result), 0);
    assert_eq!(give(2, &mut target), 0);
    let last = target.of(token(ARRIVED, 2));
    assert_eq!(last.result, first.result);
    let data = target.chain(b"here");
    target.send(sock(last.result), token(SEND, 0), data);
    assert_eq!(target.of(token(SEND, 0)).result, 4);
    let mut got = [0; 4];
    ends[2].1.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"here");
}

#[test]
fn arrivals_that_meet_a_full_completion_queue_are_not_lost() {
    const COUNT: u32 = 20;
    let mut bed = Bed::new(&small());
    let mut target = Bed::new(&RingConfig { entries: 2, completion_entries: 2, ..small() });
    let to = target.ring.unpark();
    let ends: Vec<_> = (0..COUNT).map(|_| bed.pair()).collect();
    for (index, (end, _)) in (0..).zip(&ends) {
        hand(&mut bed, *end, &to, index);
    }
    bed.enter();
    for index in 0..COUNT {
        assert_eq!(bed.of(token(OTHER, index)).result, 0);
    }
    let mut numbers = HashSet::new();
    for index in 0..COUNT {
        let arrived = target.of(token(ARRIVED, index));
        assert!(arrived.more);
        assert!(numbers.insert(arrived.result));
    }
    let stats = target.ring.stats();
    assert!(stats.cq_overflows > 0);
    assert_eq!(stats.dropped, 0);
}

#[test]
fn a_hand_where_there_is_none_is_refused_and_the_socket_stays() {
    let target = Ring::new(&small()).unwrap();
    let (whole, deaf) = (target.unpark(), Ring::new(&without(Features::MSG_RING)).unwrap());
    let plain = Ring::new(&without(Features::DIRECT)).unwrap();
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let lacks = mask.contains(Features::DIRECT) || mask.contains(Features::MSG_RING);
        assert_eq!(bed.ring.abilities().hand, !lacks, "{mask}");
        assert_eq!(bed.ring.abilities().shared_socks, mask.contains(Features::DIRECT), "{mask}");
        let (end, mut peer) = bed.pair();
        let mut refused = |to: &Arc<dyn Unpark>| {
            hand(&mut bed, end, to, 0);
            bed.of(token(OTHER, 0)).result
        };
        if lacks {
            assert_eq!(refused(&whole), -libc::EOPNOTSUPP, "{mask}");
        } else {
            assert_eq!(refused(&deaf.unpark()), -libc::EOPNOTSUPP, "{mask}");
            // Linux 6.18 says the one, older ones the other.
            let no_table = refused(&plain.unpark());
            assert!([-libc::ENFILE, -libc::ENXIO].contains(&no_table), "{mask}: {no_table}");
            let gone = Ring::new(&small()).unwrap().unpark();
            assert_eq!(refused(&gone), -libc::EBADFD, "{mask}");
        }
        bed.send(end, token(SEND, 0), "still here");
        assert_eq!(bed.of(token(SEND, 0)).result, 10);
        let mut got = [0; 10];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(bed.ring.flights(), 0);
    }
}

#[test]
fn a_socket_of_another_ring_may_be_used_at_once_where_there_are_no_tables() {
    let mut first = Bed::new(&without(Features::DIRECT));
    let mut second = Bed::new(&without(Features::DIRECT));
    let (end, mut peer) = first.pair();
    second.recv(end, token(RECV, 0), RecvMode::Multi);
    peer.write_all(b"to the second").unwrap();
    let got = second.of(token(RECV, 0));
    assert_eq!(second.bytes(&got), b"to the second");
    second.push(Op::CancelSock { sock: end, token: Token::NONE });
    assert_eq!(second.of(token(RECV, 0)).result, -libc::ECANCELED);
    close(&mut second, end, 0);
    assert_eq!(read(&mut peer, &mut [0; 8]), 0);
}

#[test]
fn a_ring_that_ends_with_sockets_on_the_way_to_it_closes_them() {
    let (up, handle) = channel();
    let (go, gone) = channel::<()>();
    let thread = thread::spawn(move || {
        let ring = Ring::new(&small()).unwrap();
        up.send(ring.unpark()).unwrap();
        // It looks at nothing that arrives.
        gone.recv_timeout(PATIENCE).unwrap();
        drop(ring);
    });
    let to = handle.recv_timeout(PATIENCE).unwrap();
    let mut bed = Bed::new(&small());
    let mut ends: Vec<_> = (0..16).map(|_| bed.pair()).collect();
    for (index, (end, _)) in (0..).zip(&ends) {
        hand(&mut bed, *end, &to, index);
        if index == 8 {
            bed.enter();
            go.send(()).unwrap();
        }
    }
    for (index, (end, _)) in (0..).zip(&ends) {
        let result = bed.of(token(OTHER, index)).result;
        assert!([0, -libc::EBADFD, -libc::EOWNERDEAD].contains(&result), "{result}");
        close(&mut bed, *end, index);
    }
    thread.join().unwrap();
    for (_, peer) in &mut ends {
        assert_eq!(read(peer, &mut [0; 8]), 0);
    }
}

#[test]
#[should_panic(expected = "an arrival names no slot")]
fn an_arrival_with_a_generation_is_a_bug() {
    let mut bed = Bed::new(&small());
    let target = Ring::new(&small()).unwrap();
    let (end, _peer) = bed.pair();
    let arrival = Token::new(1, ARRIVED, 1, 0);
    let _ = bed.ring.push(Op::Hand { sock: end, to: target.unpark(), arrival, token: token(OTHER, 0) });
}
