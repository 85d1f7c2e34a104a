//! Receiving and sending: every mode, running out of buffers, partial sends, cancels that cross.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use common::{ACCEPT, Bed, CANCEL, CLOSE, OTHER, PATIENCE, RECV, SEND, masks, small, sock, token, without};
use corelane_base::{AcceptMode, Kernel, Op, Payload, RecvMode, Rng, ShutdownHow, Token};
use corelane_pools::Chain;
use corelane_uring::{Features, RingConfig};

/// What the tests of receiving run over: all that changes how it is done.
fn ways() -> [Features; 4] {
    [
        Features::NONE,
        Features::MULTISHOT_RECV,
        Features::BUFFER_RING,
        Features::BUFFER_RING.with(Features::MULTISHOT_RECV),
    ]
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len.div_ceil(8)).flat_map(|_| rng.next_u64().to_ne_bytes()).take(len).collect()
}

#[test]
fn once_takes_one_buffer_and_ends() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let (end, mut peer) = bed.pair();
        bed.recv(end, token(RECV, 0), RecvMode::Once);
        bed.enter();
        assert!(bed.next_within(Duration::from_millis(5)).is_none());
        peer.write_all(b"one").unwrap();
        let got = bed.of(token(RECV, 0));
        assert_eq!((got.result, got.more), (3, false));
        assert_eq!(bed.bytes(&got), b"one");
        peer.write_all(b"two").unwrap();
        assert!(bed.next_within(Duration::from_millis(5)).is_none());
        bed.recv(end, token(RECV, 1), RecvMode::Once);
        let got = bed.of(token(RECV, 1));
        assert_eq!(bed.bytes(&got), b"two");
    }
}

#[test]
fn a_reset_drops_what_is_unsent_and_the_peer_sees_it() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let (end, mut peer) = bed.pair();
        bed.recv(end, token(RECV, 0), RecvMode::Multi);
        bed.send(end, token(SEND, 0), noise(1, 8 << 20)); // more than both sockets hold
        bed.enter();
        bed.push(Op::Reset { sock: end, token: token(OTHER, 0) });
        assert_eq!(bed.of(token(OTHER, 0)).result, 0);
        let sent = bed.of(token(SEND, 0));
        assert!(sent.result < 8 << 20, "it cannot have gone out whole");
        assert!(!bed.of(token(RECV, 0)).more);
        let mut got = Vec::new();
        let error = peer.read_to_end(&mut got).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        bed.push(Op::Close { sock: end, token: token(CLOSE, 0) });
        assert_eq!(bed.of(token(CLOSE, 0)).result, 0);
    }
}

#[test]
fn ready_says_eagain_at_once_where_nothing_waits() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let (end, mut peer) = bed.pair();
        bed.recv(end, token(RECV, 0), RecvMode::Ready);
        let none = bed.of(token(RECV, 0));
        assert_eq!((none.result, none.more), (-libc::EAGAIN, false));
        assert!(matches!(none.payload, Payload::None));
        peer.write_all(b"now").unwrap();
        bed.recv(end, token(RECV, 1), RecvMode::Ready);
        let got = bed.of(token(RECV, 1));
        assert_eq!(bed.bytes(&got), b"now");
        drop(peer);
        bed.recv(end, token(RECV, 2), RecvMode::Ready);
        assert_eq!(bed.of(token(RECV, 2)).result, 0);
    }
}

#[test]
fn out_of_buffers_ends_the_receive_and_a_new_one_goes_on_with_nothing_lost() {
    const TOTAL: usize = 64 * 1024;
    for mask in ways() {
        let config = RingConfig { recv_buffers: 2, recv_buffer_bytes: 1000, without: mask, ..small() };
        let mut bed = Bed::new(&config);
        let (end, mut peer) = bed.pair();
        let sent = noise(1, TOTAL);
        peer.write_all(&sent).unwrap();
        let mut lent = Vec::new();
        let mut got = Vec::new();
        let mut arms = 1;
        bed.recv(end, token(RECV, 0), RecvMode::Multi);
        while got.len() < TOTAL {
            let received = bed.of(token(RECV, 0));
            if received.result == -libc::ENOBUFS {
                assert!(!received.more);
                // Only now does anything go back.
                assert_eq!(lent.len(), 2, "{mask}");
                for (buffer, len) in lent.drain(..) {
                    got.extend(bed.take(buffer, len));
                }
                bed.recv(end, token(RECV, 0), RecvMode::Multi);
                arms += 1;
            } else if let Payload::Received(buffer) = received.payload {
                lent.push((buffer, received.result));
                if !received.more {
                    bed.recv(end, token(RECV, 0), RecvMode::Multi);
                }
                let held: usize = lent.iter().map(|(_, len)| usize::try_from(*len).unwrap()).sum();
                if got.len() + held == TOTAL {
                    for (buffer, len) in lent.drain(..) {
                        got.extend(bed.take(buffer, len));
                    }
                }
            } else {
                panic!("{mask}: {received:?}");
            }
        }
        assert!(got == sent, "{mask}: the bytes differ");
        assert!(arms > 10, "{mask}: {arms}");
        assert!(bed.ring.stats().no_buffers >= arms - 2, "{mask}");
    }
}

#[test]
fn buffers_are_used_over_and_over() {
    for mask in ways() {
        let mut bed = Bed::new(&RingConfig { recv_buffers: 4, without: mask, ..small() });
        let (end, mut peer) = bed.pair();
        bed.recv(end, token(RECV, 0), RecvMode::Multi);
        for round in 0..500_u32 {
            peer.write_all(&round.to_ne_bytes()).unwrap();
            let got = bed.of(token(RECV, 0));
            assert!(got.more, "{mask} in round {round}: {got:?}");
            assert_eq!(bed.bytes(&got), round.to_ne_bytes());
        }
        assert_eq!(bed.ring.stats().no_buffers, 0);
    }
}

#[test]
#[should_panic(expected = "recycled twice")]
fn recycling_a_buffer_twice_is_a_bug() {
    let mut bed = Bed::new(&small());
    let (end, mut peer) = bed.pair();
    peer.write_all(b"x").unwrap();
    bed.recv(end, token(RECV, 0), RecvMode::Once);
    let Payload::Received(buffer) = bed.of(token(RECV, 0)).payload else { panic!("nothing came") };
    bed.ring.recycle(buffer);
    bed.ring.recycle(buffer);
}

#[test]
#[should_panic(expected = "of a buffer that holds")]
fn reading_beyond_what_came_is_a_bug() {
    let mut bed = Bed::new(&small());
    let (end, mut peer) = bed.pair();
    peer.write_all(b"xyz").unwrap();
    bed.recv(end, token(RECV, 0), RecvMode::Once);
    let Payload::Received(buffer) = bed.of(token(RECV, 0)).payload else { panic!("nothing came") };
    assert_eq!(bed.ring.received(buffer, 3), b"xyz");
    bed.ring.received(buffer, 4);
}

#[test]
fn a_cancelled_receive_ends_and_a_new_one_takes_what_came_later() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let (end, mut peer) = bed.pair();
        bed.recv(end, token(RECV, 0), RecvMode::Multi);
        bed.enter();
        bed.push(Op::Cancel { target: token(RECV, 0), token: token(CANCEL, 0) });
        let ended = bed.of(token(RECV, 0));
        assert_eq!((ended.result, ended.more), (-libc::ECANCELED, false), "{mask}");
        assert_eq!(bed.of(token(CANCEL, 0)).result, 0);
        peer.write_all(b"later").unwrap();
        assert!(bed.next_within(Duration::from_millis(5)).is_none());
        bed.recv(end, token(RECV, 1), RecvMode::Multi);
        let got = bed.of(token(RECV, 1));
        assert_eq!(bed.bytes(&got), b"later");
        bed.push(Op::Cancel { target: token(RECV, 0), token: token(CANCEL, 1) });
        assert_eq!(bed.of(token(CANCEL, 1)).result, -libc::ENOENT);
    }
}

#[test]
fn a_cancel_that_crosses_incoming_bytes_still_ends_the_receive_and_hands_the_bytes_out() {
    for mask in ways() {
        let mut bed = Bed::new(&without(mask));
        let (end, mut peer) = bed.pair();
        bed.recv(end, token(RECV, 0), RecvMode::Multi);
        bed.enter();
        peer.write_all(b"first").unwrap();
        // The bytes are taken from the socket, their completion is not taken from the ring.
        bed.enter();
        bed.push(Op::Cancel { target: token(RECV, 0), token: Token::NONE });
        let got = bed.of(token(RECV, 0));
        assert_eq!(bed.bytes(&got), b"first", "{mask}");
        let mut more = got.more;
        while more {
            peer.write_all(b"x").unwrap();
            let next = bed.of(token(RECV, 0));
            bed.bytes(&next);
            assert!(next.result > 0 || next.result == -libc::ECANCELED, "{mask}");
            more = next.more;
        }
        assert_eq!(bed.ring.flights(), 0, "{mask}");
    }
}

#[test]
fn cancelling_a_socket_ends_its_receive_and_its_send() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let (end, peer) = bed.pair();
        bed.recv(end, token(RECV, 0), RecvMode::Multi);
        // The peer does not read: the pieces end up waiting for room.
        let piece = bed.chain(&noise(2, 1 << 20));
        let mut data = piece;
        let mut waiting = false;
        for index in 0..64 {
            bed.send(end, token(SEND, index), data);
            bed.enter();
            match bed.next_within(Duration::from_millis(20)) {
                Some(sent) => {
                    let Payload::Sent(back) = sent.payload else { panic!("{sent:?}") };
                    data = back;
                }
                None => {
                    waiting = true;
                    bed.push(Op::CancelSock { sock: end, token: token(CANCEL, 0) });
                    let sent = bed.of(token(SEND, index));
                    assert_eq!(sent.result, -libc::ECANCELED, "{mask}");
                    let Payload::Sent(back) = sent.payload else { panic!("no data back") };
                    assert_eq!(back.len(), 1 << 20);
                    break;
                }
            }
        }
        assert!(waiting, "{mask}: no send ever waited");
        let ended = bed.of(token(RECV, 0));
        assert_eq!((ended.result, ended.more), (-libc::ECANCELED, false), "{mask}");
        assert_eq!(bed.of(token(CANCEL, 0)).result, 2, "{mask}");
        drop(peer);
        bed.push(Op::Close { sock: end, token: token(CLOSE, 0) });
        assert_eq!(bed.of(token(CLOSE, 0)).result, 0);
    }
}

/// Chains of every shape through a small send buffer, against a peer that reads slowly at first.
fn partial(mask: Features, chunks: usize, chunk_len: usize) {
    let mut bed = Bed::new(&without(mask));
    let (listener, addr) = bed.listen();
    let fd = bed.ring.listener_fd(listener).unwrap();
    set_send_buffer(fd, 4096);
    bed.accept(listener, token(ACCEPT, 0), AcceptMode::Multi);
    bed.enter();
    let mut peer = TcpStream::connect(addr).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let end = sock(bed.of(token(ACCEPT, 0)).result);

    let bytes = noise(3, chunks * chunk_len);
    let mut data = Chain::new();
    for piece in bytes.chunks(chunk_len) {
        let mut buf = bed.pools.get(piece.len()).unwrap();
        assert_eq!(buf.put(piece), piece.len());
        data.push(buf);
    }
    let reader = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    let mut sends = 0;
    while !data.is_empty() {
        let left = data.len();
        bed.send(end, token(SEND, sends), data);
        let sent = bed.of(token(SEND, sends));
        assert!(sent.result > 0, "{mask}: {sent:?}");
        let Payload::Sent(mut back) = sent.payload else { panic!("no data back") };
        assert_eq!(back.len(), left);
        back.advance(usize::try_from(sent.result).unwrap());
        data = back;
        sends += 1;
    }
    bed.push(Op::Shutdown { sock: end, token: Token::NONE, how: ShutdownHow::Write });
    bed.enter();
    let got = reader.join().unwrap();
    assert!(got == bytes, "{mask}: {chunks} x {chunk_len}: the bytes differ");
    assert!(sends > 1, "{mask}: {chunks} x {chunk_len}: nothing was partial");
    assert_eq!(bed.ring.failed_unseen(), 0);
}

#[test]
fn partial_sends_deliver_every_byte_once() {
    for mask in [Features::NONE, Features::DIRECT, Features::DEFER_TASKRUN, Features::ALL] {
        partial(mask, 1, 1 << 20);
        partial(mask, 2, 300_000);
        partial(mask, 64, 5_000);
        partial(mask, 65, 5_000);
        partial(mask, 300, 1_000);
    }
}

#[test]
fn a_chain_of_many_small_chunks_goes_out_64_at_a_time() {
    let mut bed = Bed::new(&small());
    let (end, mut peer) = bed.pair();
    let mut data = Chain::new();
    for _ in 0..65 {
        data.push("ab");
    }
    bed.send(end, token(SEND, 0), data);
    let sent = bed.of(token(SEND, 0));
    assert_eq!(sent.result, 128);
    let Payload::Sent(mut data) = sent.payload else { panic!("no data back") };
    data.advance(128);
    bed.send(end, token(SEND, 1), data);
    assert_eq!(bed.of(token(SEND, 1)).result, 2);
    let mut got = [0; 130];
    peer.read_exact(&mut got).unwrap();
    assert!(got.chunks(2).all(|pair| pair == b"ab"));
}

#[test]
fn sends_of_many_chunks_pushed_together_do_not_share_a_message() {
    let mut bed = Bed::new(&small());
    let mut ends: Vec<_> = (0..20).map(|_| bed.pair()).collect();
    for round in 0..3_u8 {
        for (index, (end, _)) in (0..).zip(&ends) {
            let mut data = bed.chain(&[round, index]);
            data.push(bed.pools.get(1).unwrap());
            let mut tail = bed.pools.get(1).unwrap();
            tail.put(&[0xaa ^ index]);
            data.push(tail);
            bed.send(*end, token(SEND, u32::from(index)), data);
        }
        for (index, (_, peer)) in (0..).zip(&mut ends) {
            assert_eq!(bed.of(token(SEND, u32::from(index))).result, 3);
            let mut got = [0; 3];
            peer.read_exact(&mut got).unwrap();
            assert_eq!(got, [round, index, 0xaa ^ index]);
        }
    }
}

#[test]
fn sending_to_a_peer_that_is_gone_is_an_errno_and_no_signal() {
    for chunks in [1, 2] {
        let mut bed = Bed::new(&small());
        let (end, peer) = bed.pair();
        drop(peer);
        bed.recv(end, token(RECV, 0), RecvMode::Multi);
        assert_eq!(bed.of(token(RECV, 0)).result, 0);
        let mut result = 0;
        for round in 0..100 {
            let mut data = Chain::new();
            for _ in 0..chunks {
                data.push("gone");
            }
            bed.send(end, token(SEND, round), data);
            result = bed.of(token(SEND, round)).result;
            if result < 0 {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert!(result == -libc::EPIPE || result == -libc::ECONNRESET, "{result}");
    }
}

#[test]
fn a_send_still_returns_its_bytes_when_nobody_cares_for_the_socket_any_more() {
    let mut bed = Bed::new(&small());
    let (end, peer) = bed.pair();
    let before = bed.pools.stats();
    // Fill the socket until a send waits, then give the connection up.
    let mut index = 0;
    let back = loop {
        let data = bed.chain(&noise(4, 1 << 20));
        bed.send(end, token(SEND, index), data);
        bed.enter();
        if let Some(done) = bed.next_within(Duration::from_millis(20)) {
            assert!(done.result > 0);
            index += 1;
            continue;
        }
        bed.push(Op::Shutdown { sock: end, token: Token::NONE, how: ShutdownHow::Both });
        bed.push(Op::CancelSock { sock: end, token: Token::NONE });
        break bed.of(token(SEND, index));
    };
    assert!(back.result < 0);
    let Payload::Sent(data) = back.payload else { panic!("no data back") };
    assert_eq!(data.len(), 1 << 20);
    drop((data, peer));
    let after = bed.pools.stats();
    assert_eq!(format!("{:?}", lent(&after)), format!("{:?}", lent(&before)));
}

fn lent(stats: &corelane_pools::Stats) -> Vec<u64> {
    stats.tiers.iter().map(|tier| u64::from(tier.lent)).collect()
}

#[test]
fn shutting_down_both_ways_ends_a_pending_receive_with_zero() {
    for mask in ways() {
        let mut bed = Bed::new(&without(mask));
        let (end, _peer) = bed.pair();
        bed.recv(end, token(RECV, 0), RecvMode::Multi);
        bed.push(Op::Shutdown { sock: end, token: token(OTHER, 0), how: ShutdownHow::Both });
        assert_eq!(bed.of(token(OTHER, 0)).result, 0);
        let ended = bed.of(token(RECV, 0));
        assert_eq!((ended.result, ended.more), (0, false));
    }
}

#[test]
fn failures_nobody_waits_for_are_counted_and_successes_leave_no_trace() {
    let mut bed = Bed::new(&small());
    let (end, _peer) = bed.pair();
    let before = bed.ring.stats().completed;
    for op in [
        Op::Shutdown { sock: end, token: Token::NONE, how: ShutdownHow::Write },
        Op::Close { sock: end, token: Token::NONE },
    ] {
        bed.push(op);
        bed.enter();
        assert!(bed.next_within(Duration::from_millis(20)).is_none());
    }
    assert_eq!(bed.ring.failed_unseen(), 0);
    bed.push(Op::Close { sock: end, token: Token::NONE });
    bed.push(Op::Cancel { target: token(RECV, 0), token: Token::NONE });
    bed.enter();
    assert!(bed.next_within(Duration::from_millis(20)).is_none());
    assert_eq!(bed.ring.failed_unseen(), 2);
    assert_eq!(bed.ring.stats().completed, before);
}

#[test]
fn repeated_receives_survive_a_submission_queue_of_two_places() {
    for mask in [Features::MULTISHOT_RECV, Features::ALL] {
        let config = RingConfig { entries: 2, completion_entries: 64, without: mask, ..small() };
        let mut bed = Bed::new(&config);
        let mut ends: Vec<_> = (0..12).map(|_| bed.pair()).collect();
        for (index, (end, _)) in (0..).zip(&ends) {
            bed.recv(*end, token(RECV, index), RecvMode::Multi);
        }
        bed.enter();
        for round in 0..20_u8 {
            for (_, peer) in &mut ends {
                peer.write_all(&[round]).unwrap();
            }
            for index in 0..12 {
                let got = bed.of(token(RECV, index));
                assert!(got.more);
                assert_eq!(bed.bytes(&got), [round], "{mask}");
            }
        }
        // Cancelled while some of them wait for a place.
        for index in 0..12 {
            bed.push(Op::Cancel { target: token(RECV, index), token: Token::NONE });
        }
        for index in 0..12 {
            assert_eq!(bed.of(token(RECV, index)).result, -libc::ECANCELED);
        }
        assert_eq!(bed.ring.flights(), 0);
    }
}

fn set_send_buffer(fd: std::os::fd::BorrowedFd<'_>, bytes: libc::c_int) {
    use std::os::fd::AsRawFd;
    // SAFETY: SO_SNDBUF reads one int.
    let answer = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            (&raw const bytes).cast(),
            libc::socklen_t::try_from(size_of_val(&bytes)).unwrap(),
        )
    };
    assert_eq!(answer, 0);
}
