//! Sockets given from one ring's table to another's.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
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
        // A ring waits for two seconds for what does not end.
        assert!(start.elapsed() < Duration::from_millis(1_900), "it waited for what is not there");
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

/// Says that another ring may be written to at a descriptor of its own, or at one that is none.
#[derive(Debug)]
struct Pretender(Option<OwnedFd>);

impl Unpark for Pretender {
    fn unpark(&self) {
        panic!("nothing arrives, so nobody is rung");
    }

    fn ring(&self) -> Option<i32> {
        Some(self.0.as_ref().map_or(1 << 29, AsRawFd::as_raw_fd))
    }
}

/// Hands `end` over to what takes nothing: the errno.
fn refused(bed: &mut Bed, end: Sock, to: &Arc<dyn Unpark>) -> i32 {
    hand(bed, end, to, 0);
    let answer = bed.of(token(OTHER, 0));
    assert!(!answer.more);
    -answer.result
}

#[test]
fn a_hand_to_what_is_no_ring_or_none_yet_is_refused_and_the_socket_stays() {
    let disabled = io_uring::IoUring::<io_uring::squeue::Entry, io_uring::cqueue::Entry>::builder()
        .setup_r_disabled()
        .build(4)
        .unwrap();
    // SAFETY: the ring's own descriptor, open while it is borrowed.
    let disabled_fd = unsafe { BorrowedFd::borrow_raw(disabled.as_raw_fd()) };
    let file = std::fs::File::open("/dev/null").unwrap();
    let pretenders = [
        (Pretender(Some(file.into())), libc::EBADFD),
        (Pretender(Some(disabled_fd.try_clone_to_owned().unwrap())), libc::EBADFD),
        (Pretender(None), libc::EBADF),
    ];
    let pretenders = pretenders.map(|(one, errno)| (Arc::new(one) as Arc<dyn Unpark>, errno));
    for mask in able() {
        let mut bed = Bed::new(&without(mask));
        let (end, mut peer) = bed.pair();
        for (to, errno) in &pretenders {
            assert_eq!(refused(&mut bed, end, to), *errno, "{mask}: {to:?}");
        }
        bed.send(end, token(SEND, 0), "still here");
        assert_eq!(bed.of(token(SEND, 0)).result, 10);
        peer.read_exact(&mut [0; 10]).unwrap();
        assert_eq!(bed.ring.flights(), 0);
        assert!(pretenders.iter().all(|(to, _)| Arc::strong_count(to) == 1), "{mask}: a handle is kept");
    }
}

/// What a descriptor of this process is.
fn what_is(fd: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap()
}

#[test]
fn the_number_of_a_ring_that_is_gone_reaches_no_other_ring() {
    let mut bed = Bed::new(&small());
    let (end, _peer) = bed.pair();
    let gone = Ring::new(&small()).unwrap();
    let handle = gone.unpark();
    let number = handle.ring().unwrap();
    assert_eq!(what_is(number), PathBuf::from("anon_inode:[io_uring]"));
    drop(gone);
    assert_eq!(what_is(number), PathBuf::from("anon_inode:[eventfd]"));
    let mut later: Vec<Ring> = (0..4).map(|_| Ring::new(&small()).unwrap()).collect();
    assert!(later.iter().all(|ring| ring.unpark().ring() != Some(number)));
    assert_eq!(refused(&mut bed, end, &handle), libc::EBADFD);
    // The handle may go while its number stands in the queue.
    hand(&mut bed, end, &handle, 1);
    drop(handle);
    let newest = Ring::new(&small()).unwrap();
    assert_ne!(newest.unpark().ring(), Some(number));
    later.push(newest);
    assert_eq!(bed.of(token(OTHER, 1)).result, -libc::EBADFD);
    for ring in &mut later {
        ring.enter(Wait::No).unwrap();
        assert!(ring.pop().is_none());
    }
}

#[test]
fn rings_that_come_and_go_are_given_each_its_own() {
    let mut bed = Bed::new(&small());
    let (end, _peer) = bed.pair();
    for round in 0..20 {
        let mut target = Bed::new(&small());
        let to = target.ring.unpark();
        for index in 0..2 {
            hand(&mut bed, end, &to, index);
            assert_eq!(bed.of(token(OTHER, index)).result, 0, "round {round}");
            assert!(target.of(token(ARRIVED, index)).more, "round {round}");
        }
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
