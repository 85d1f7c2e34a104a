//! The same scenario with nothing masked, with each feature masked, and with all of them.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{ACCEPT, Bed, CANCEL, CLOSE, RECV, SEND, masks, sock, token, without};
use corelane_base::{AcceptMode, Kernel, Op, Payload, RecvMode, ShutdownHow};
use corelane_uring::{Features, Why};

const PEERS: u32 = 5;
const ROUNDS: u8 = 4;

/// Five peers, four rounds of echo each, then half-close, end of stream, close, and the end of the accept.
fn echo(mask: Features) {
    let mut bed = Bed::new(&without(mask));
    let (listener, addr) = bed.listen();
    bed.accept(listener, token(ACCEPT, 0), AcceptMode::Multi);
    bed.enter();
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let peer = TcpStream::connect(addr).unwrap();
        peer.set_read_timeout(Some(common::PATIENCE)).unwrap();
        peers.push(peer);
    }
    let mut socks = Vec::new();
    for index in 0..PEERS {
        let accepted = bed.of(token(ACCEPT, 0));
        assert!(accepted.more, "accept {index} of {mask}");
        socks.push(sock(accepted.result));
        bed.recv(socks[index as usize], token(RECV, index), RecvMode::Multi);
    }
    bed.enter();
    for round in 0..ROUNDS {
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.write_all(&[round, u8::try_from(index).unwrap()]).unwrap();
        }
        for index in 0..PEERS {
            let mut got = Vec::new();
            while got.len() < 2 {
                let received = bed.of(token(RECV, index));
                assert!(received.result > 0);
                assert!(received.more);
                got.extend(bed.bytes(&received));
            }
            let data = bed.chain(&got);
            bed.send(socks[index as usize], token(SEND, index), data);
            let sent = bed.of(token(SEND, index));
            assert_eq!((sent.result, sent.more), (2, false));
            let Payload::Sent(data) = sent.payload else { panic!("no data back") };
            assert_eq!(data.first(), &got[..]);
        }
        for (index, peer) in peers.iter_mut().enumerate() {
            let mut answer = [0; 2];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [round, u8::try_from(index).unwrap()]);
        }
    }
    for (index, peer) in (0..PEERS).zip(&mut peers) {
        let on = socks[index as usize];
        bed.push(Op::Shutdown { sock: on, token: token(CANCEL, index), how: ShutdownHow::Write });
        assert_eq!(bed.of(token(CANCEL, index)).result, 0);
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
        peer.shutdown(std::net::Shutdown::Both).unwrap();
        let ended = bed.of(token(RECV, index));
        assert_eq!((ended.result, ended.more), (0, false));
        assert!(matches!(ended.payload, Payload::None));
        bed.push(Op::Close { sock: on, token: token(CLOSE, index) });
        assert_eq!(bed.of(token(CLOSE, index)).result, 0);
    }
    bed.push(Op::Cancel { target: token(ACCEPT, 0), token: token(CANCEL, 99) });
    let ended = bed.of(token(ACCEPT, 0));
    assert_eq!((ended.result, ended.more), (-libc::ECANCELED, false));
    assert_eq!(bed.of(token(CANCEL, 99)).result, 0);
    assert!(bed.held.is_empty(), "left over: {:?}", bed.held);
    assert_eq!(bed.ring.flights(), 0);
    let stats = bed.ring.stats();
    assert_eq!((stats.dropped, stats.no_buffers, bed.ring.failed_unseen()), (0, 0, 0));
}

#[test]
fn echo_works_with_any_one_feature_left_off_and_with_all() {
    for mask in masks() {
        echo(mask);
    }
}

#[test]
fn a_masked_feature_is_lacking_with_the_reason_and_takes_along_what_needs_it() {
    for (_, mask) in Features::ALL.iter() {
        let bed = Bed::new(&without(mask));
        assert!(!bed.ring.granted().contains(mask));
        let lacking = bed.ring.lacking().iter().find(|l| l.feature == mask).unwrap();
        assert_eq!(lacking.why, Why::Masked);
    }
    let bed = Bed::new(&without(Features::SINGLE_ISSUER));
    let defer = bed.ring.lacking().iter().find(|l| l.feature == Features::DEFER_TASKRUN).unwrap();
    assert_eq!(defer.why, Why::Needs(Features::SINGLE_ISSUER));
    let both = Features::COOP_TASKRUN.with(Features::DEFER_TASKRUN);
    let bed = Bed::new(&without(both));
    assert!(!bed.ring.granted().contains(Features::TASKRUN_FLAG));
}
