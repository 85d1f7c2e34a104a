//! Taking connections: peers, full tables, drains, listeners that come and go.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{ACCEPT, Bed, CANCEL, CLOSE, OTHER, PATIENCE, RECV, SEND, masks, small, sock, token, without};
use corelane_base::{AcceptMode, Kernel, Op, Payload, RecvMode};
use corelane_uring::{Features, RingConfig};

#[test]
fn one_with_peer_tells_the_address_and_ends_after_one() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let (listener, addr) = bed.listen();
        for round in 0..3 {
            bed.accept(listener, token(ACCEPT, round), AcceptMode::OneWithPeer);
            bed.enter();
            let peer = TcpStream::connect(addr).unwrap();
            let accepted = bed.of(token(ACCEPT, round));
            assert!(!accepted.more);
            let Payload::Peer(told) = accepted.payload else { panic!("no address") };
            assert_eq!(told, peer.local_addr().unwrap());
            bed.push(Op::Close { sock: sock(accepted.result), token: token(CLOSE, 0) });
            assert_eq!(bed.of(token(CLOSE, 0)).result, 0);
        }
        assert_eq!(bed.ring.flights(), 0);
    }
}

#[test]
fn a_cancelled_accept_with_peer_ends_and_the_next_connection_waits() {
    let mut bed = Bed::new(&small());
    let (listener, addr) = bed.listen();
    bed.accept(listener, token(ACCEPT, 0), AcceptMode::OneWithPeer);
    bed.push(Op::Cancel { target: token(ACCEPT, 0), token: token(CANCEL, 0) });
    assert_eq!(bed.of(token(CANCEL, 0)).result, 0);
    let ended = bed.of(token(ACCEPT, 0));
    assert_eq!((ended.result, ended.more), (-libc::ECANCELED, false));
    assert!(matches!(ended.payload, Payload::None));
    let _peer = TcpStream::connect(addr).unwrap();
    assert!(bed.next_within(Duration::from_millis(30)).is_none());
    assert_eq!(bed.ring.flights(), 0);
}

/// A drain: what waits is taken, then the accept ends by itself.
fn drain(mask: Features, waiting: u32) {
    let mut bed = Bed::new(&without(mask));
    let (listener, addr) = bed.listen();
    let mut peers: Vec<_> = (0..waiting).map(|_| TcpStream::connect(addr).unwrap()).collect();
    bed.accept(listener, token(ACCEPT, 0), AcceptMode::Queued);
    let mut socks = Vec::new();
    loop {
        let accepted = bed.of(token(ACCEPT, 0));
        if !accepted.more {
            assert_eq!(accepted.result, -libc::EAGAIN, "{mask}");
            break;
        }
        socks.push(sock(accepted.result));
    }
    assert_eq!(socks.len(), peers.len(), "{mask}");
    // They are real connections: each brings its byte.
    let mut sum = 0;
    for (index, peer) in (0..waiting).zip(&mut peers) {
        peer.write_all(&[u8::try_from(index).unwrap()]).unwrap();
        bed.recv(socks[index as usize], token(RECV, index), RecvMode::Once);
        let got = bed.of(token(RECV, index));
        sum += u32::from(bed.bytes(&got)[0]);
    }
    assert_eq!(sum, (0..waiting).sum());
    assert!(bed.ring.remove_listener(listener));
    assert_eq!(bed.ring.flights(), 0);
}

#[test]
fn a_drain_takes_all_that_waited_and_ends() {
    for mask in masks() {
        drain(mask, 20);
    }
    drain(Features::NONE, 0);
    drain(Features::NONE, 1);
}

#[test]
fn a_full_table_closes_the_connection_and_says_enfile() {
    let mut bed = Bed::new(&RingConfig { descriptors: 3, ..small() });
    let (listener, addr) = bed.listen();
    bed.accept(listener, token(ACCEPT, 0), AcceptMode::Multi);
    bed.enter();
    let mut peers = Vec::new();
    let mut socks = Vec::new();
    for _ in 0..3 {
        peers.push(TcpStream::connect(addr).unwrap());
        let accepted = bed.of(token(ACCEPT, 0));
        socks.push(sock(accepted.result));
    }
    let mut refused = TcpStream::connect(addr).unwrap();
    refused.set_read_timeout(Some(PATIENCE)).unwrap();
    let accepted = bed.of(token(ACCEPT, 0));
    assert_eq!((accepted.result, accepted.more), (-libc::ENFILE, false));
    assert_eq!(refused.read(&mut [0; 1]).unwrap(), 0);
    // A slot given back serves the next one.
    bed.push(Op::Close { sock: socks[1], token: token(CLOSE, 0) });
    assert_eq!(bed.of(token(CLOSE, 0)).result, 0);
    bed.accept(listener, token(ACCEPT, 1), AcceptMode::Multi);
    bed.enter();
    let _peer = TcpStream::connect(addr).unwrap();
    assert_eq!(bed.of(token(ACCEPT, 1)).result, i32::try_from(socks[1].0).unwrap());
}

#[test]
fn accepting_on_a_listener_that_is_gone_says_ebadf() {
    for mode in [AcceptMode::Multi, AcceptMode::OneWithPeer, AcceptMode::Queued] {
        let mut bed = Bed::new(&small());
        let (listener, _) = bed.listen();
        assert!(bed.ring.listener_fd(listener).is_some());
        assert!(bed.ring.remove_listener(listener));
        assert!(!bed.ring.remove_listener(listener));
        assert!(bed.ring.listener_fd(listener).is_none());
        bed.accept(listener, token(ACCEPT, 0), mode);
        let ended = bed.of(token(ACCEPT, 0));
        assert_eq!((ended.result, ended.more), (-libc::EBADF, false));
    }
}

#[test]
fn many_connections_over_a_tiny_completion_queue_lose_nothing() {
    const PEERS: usize = 50;
    for mask in [Features::NONE, Features::MULTISHOT_ACCEPT, Features::TASKRUN_FLAG, Features::DEFER_TASKRUN]
    {
        let config =
            RingConfig { entries: 2, completion_entries: 2, recv_buffers: 64, without: mask, ..small() };
        let mut bed = Bed::new(&config);
        let (listener, addr) = bed.listen();
        let mut peers: Vec<_> = (0..PEERS).map(|_| TcpStream::connect(addr).unwrap()).collect();
        let accepting = token(ACCEPT, 0);
        bed.accept(listener, accepting, AcceptMode::Multi);
        let mut socks = Vec::new();
        while socks.len() < PEERS {
            let accepted = bed.of(accepting);
            socks.push(sock(accepted.result));
            if !accepted.more {
                // The kernel ends a multishot that meets a full queue.
                bed.accept(listener, accepting, AcceptMode::Multi);
            }
        }
        // All receives complete in one enter, into two places.
        for (index, sock) in (0..).zip(&socks) {
            bed.recv(*sock, token(RECV, index), RecvMode::Once);
        }
        bed.enter();
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.write_all(&[u8::try_from(index).unwrap()]).unwrap();
        }
        let mut seen = [false; PEERS];
        for index in 0..PEERS {
            let got = bed.of(token(RECV, u32::try_from(index).unwrap()));
            let at = bed.bytes(&got)[0];
            assert!(!std::mem::replace(&mut seen[usize::from(at)], true));
        }
        let stats = bed.ring.stats();
        assert!(stats.cq_overflows > 0, "{mask}: nothing overflowed: {stats:?}");
        assert_eq!(stats.dropped, 0);
    }
}

#[test]
fn two_listeners_share_a_ring_and_a_number_is_used_again() {
    let mut bed = Bed::new(&small());
    let (first, first_addr) = bed.listen();
    let (second, second_addr) = bed.listen();
    assert_ne!(first, second);
    bed.accept(first, token(ACCEPT, 0), AcceptMode::Multi);
    bed.accept(second, token(ACCEPT, 1), AcceptMode::Multi);
    bed.enter();
    let _a = TcpStream::connect(second_addr).unwrap();
    assert!(bed.of(token(ACCEPT, 1)).result >= 0);
    let _b = TcpStream::connect(first_addr).unwrap();
    assert!(bed.of(token(ACCEPT, 0)).result >= 0);
    bed.push(Op::Cancel { target: token(ACCEPT, 0), token: token(CANCEL, 0) });
    assert_eq!(bed.of(token(ACCEPT, 0)).result, -libc::ECANCELED);
    assert!(bed.ring.remove_listener(first));
    let (third, _) = bed.listen();
    assert_eq!(third, first);
    bed.push(Op::Socket { v6: false, token: token(OTHER, 0) });
    let other = sock(bed.of(token(OTHER, 0)).result);
    bed.push(Op::Connect { sock: other, token: token(OTHER, 1), addr: second_addr });
    assert_eq!(bed.of(token(OTHER, 1)).result, 0);
    let end = sock(bed.of(token(ACCEPT, 1)).result);
    bed.send(other, token(SEND, 0), b"over".as_slice());
    bed.recv(end, token(RECV, 0), RecvMode::Once);
    let got = bed.of(token(RECV, 0));
    assert_eq!(bed.bytes(&got), b"over");
}
