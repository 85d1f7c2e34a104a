//! What links do, seen from both ends, without faults unless the test is about one.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::{Driver, chain, token};
use corelane_base::{AcceptMode, Kernel, Op, Payload, RecvMode, ShutdownHow, Sock, Token, Wait};
use corelane_sim::{Fault, Faults, Peer, SimConfig};
use libc::{
    EAGAIN, ECANCELED, ECONNABORTED, ECONNREFUSED, ECONNRESET, EISCONN, ENFILE, ENOBUFS, ENOENT, ENOTCONN,
    EPIPE, ETIMEDOUT,
};

fn driver() -> Driver {
    Driver::new(SimConfig::default())
}

fn with(faults: Faults) -> Driver {
    Driver::new(SimConfig::seeded(1, faults))
}

fn number(result: i32) -> Sock {
    Sock(u32::try_from(result).unwrap())
}

// ----- accept

#[test]
fn a_multi_accept_tells_each_connection_and_goes_on() {
    let mut d = driver();
    let listener = d.world.add_listener();
    let t = token(0, 0);
    d.push(Op::Accept { listener, token: t, mode: AcceptMode::Multi });
    let peers = [d.world.connect(listener), d.world.connect(listener)];
    for expected in 0..2 {
        let done = d.wait_for(t);
        assert_eq!((done.result, done.more), (expected, true));
        assert!(matches!(done.payload, Payload::None));
    }
    assert!(peers.iter().all(Peer::is_connected));
    d.push(Op::Cancel { target: t, token: token(1, 0) });
    let done = d.wait_for(t);
    assert_eq!((done.result, done.more), (-ECANCELED, false));
    assert_eq!(d.wait_for(token(1, 0)).result, 0);
}

#[test]
fn a_single_accept_names_the_peer() {
    let mut d = driver();
    let listener = d.world.add_listener();
    let peer = d.world.connect(listener);
    let t = token(0, 0);
    let done = d.run(Op::Accept { listener, token: t, mode: AcceptMode::OneWithPeer }, t);
    assert!(!done.more);
    let Payload::Peer(addr) = done.payload else { panic!("no address") };
    assert_eq!(Some(addr), peer.addr());
}

#[test]
fn a_queued_accept_takes_what_waits_and_ends() {
    let mut d = driver();
    let listener = d.world.add_listener();
    let _peers = [d.world.connect(listener), d.world.connect(listener)];
    let t = token(0, 0);
    d.push(Op::Accept { listener, token: t, mode: AcceptMode::Queued });
    let results: Vec<(i32, bool)> =
        (0..3).map(|_| d.wait_for(t)).map(|done| (done.result, done.more)).collect();
    assert_eq!(results, [(0, true), (1, true), (-EAGAIN, false)]);
}

#[test]
fn a_full_table_loses_the_connection_and_ends_the_accept() {
    let mut d = Driver::new(SimConfig { descriptors: 1, ..SimConfig::default() });
    let listener = d.world.add_listener();
    let (fits, lost) = (d.world.connect(listener), d.world.connect(listener));
    let t = token(0, 0);
    d.push(Op::Accept { listener, token: t, mode: AcceptMode::Multi });
    assert_eq!(d.wait_for(t).result, 0);
    let done = d.wait_for(t);
    assert_eq!((done.result, done.more), (-ENFILE, false));
    d.turn(Wait::No);
    assert!(lost.is_eof());
    assert!(!fits.is_over());
}

#[test]
fn an_aborted_connection_is_told_to_both_sides() {
    let mut d = with(Faults::none().with(Fault::AcceptAborted, 1.0));
    let listener = d.world.add_listener();
    let peer = d.world.connect(listener);
    let t = token(0, 0);
    let done = d.run(Op::Accept { listener, token: t, mode: AcceptMode::Multi }, t);
    assert_eq!((done.result, done.more), (-ECONNABORTED, false));
    d.turn(Wait::No);
    assert!(peer.was_reset());
    d.world.check_quiet();
}

#[test]
fn a_closed_listener_refuses_and_resets_what_waits() {
    let mut d = driver();
    let listener = d.world.add_listener();
    let waits = d.world.connect(listener);
    d.turn(Wait::No);
    d.world.close_listener(listener);
    let late = d.world.connect(listener);
    d.turn(Wait::No);
    assert!(waits.was_reset());
    assert!(late.is_refused());
    assert_eq!(late.write(b"x"), 0);
}

#[test]
fn a_queue_refuses_the_one_past_its_backlog() {
    let mut d = Driver::new(SimConfig { backlog: 2, ..SimConfig::default() });
    let listener = d.world.add_listener();
    let peers: Vec<Peer> = (0..3).map(|_| d.world.connect(listener)).collect();
    d.turn(Wait::No);
    assert_eq!(peers.iter().map(Peer::is_refused).collect::<Vec<_>>(), [false, false, true]);
}

// ----- receive

#[test]
fn a_multi_receive_fills_buffers_until_the_end_of_the_stream() {
    let mut d = Driver::new(SimConfig { recv_buffer_bytes: 4, ..SimConfig::default() });
    let (_, peer, sock) = d.pair();
    let t = token(1, 0);
    d.push(Op::Recv { sock, token: t, mode: RecvMode::Multi });
    assert_eq!(peer.write(b"abcdef"), 6);
    peer.shutdown_write();
    let mut seen = Vec::new();
    loop {
        let done = d.wait_for(t);
        if !done.more {
            assert_eq!(done.result, 0);
            assert!(matches!(done.payload, Payload::None));
            break;
        }
        seen.push(d.take(&done));
    }
    assert_eq!(seen, [b"abcd".to_vec(), b"ef".to_vec()]);
}

#[test]
fn a_single_receive_takes_one_buffer_and_leaves_the_rest() {
    let mut d = Driver::new(SimConfig { recv_buffer_bytes: 4, ..SimConfig::default() });
    let (_, peer, sock) = d.pair();
    peer.write(b"abcdef");
    for expected in [&b"abcd"[..], b"ef"] {
        let done = d.recv(sock, RecvMode::Once);
        assert!(!done.more);
        assert_eq!(d.take(&done), expected);
    }
    assert_eq!(d.recv(sock, RecvMode::Ready).result, -EAGAIN);
}

#[test]
fn a_receive_without_a_free_buffer_ends_and_goes_on_once_one_is_recycled() {
    let mut d = Driver::new(SimConfig { recv_buffers: 1, recv_buffer_bytes: 4, ..SimConfig::default() });
    let (_, peer, sock) = d.pair();
    peer.write(b"abcdef");
    let t = token(1, 0);
    let held = d.run(Op::Recv { sock, token: t, mode: RecvMode::Multi }, t);
    assert!(held.more);
    let done = d.wait_for(t);
    assert_eq!((done.result, done.more), (-ENOBUFS, false));
    assert_eq!(d.recv(sock, RecvMode::Once).result, -ENOBUFS);
    assert_eq!(d.kernel.stats().no_buffers, 2);
    assert_eq!(d.take(&held), b"abcd");
    let done = d.recv(sock, RecvMode::Once);
    assert_eq!(d.take(&done), b"ef");
}

#[test]
fn an_ended_multishot_has_delivered_and_loses_nothing() {
    let mut d = with(Faults::none().with(Fault::MultishotEnd, 1.0));
    let (_, peer, sock) = d.pair();
    peer.write(b"ab");
    let done = d.recv(sock, RecvMode::Multi);
    assert_eq!((done.result, done.more), (2, false));
    assert_eq!(d.take(&done), b"ab");
    peer.write(b"c");
    let done = d.recv(sock, RecvMode::Multi);
    assert_eq!(d.take(&done), b"c");
}

#[test]
fn a_reset_comes_after_the_bytes_before_it_and_is_told_once() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    peer.write(b"last");
    peer.reset();
    let done = d.recv(sock, RecvMode::Multi);
    assert_eq!(d.take(&done), b"last");
    assert_eq!(d.wait_for(token(201, sock.0)).result, -ECONNRESET);
    assert_eq!(d.recv(sock, RecvMode::Multi).result, 0);
    assert_eq!(d.send(sock, b"x").result, -EPIPE);
    d.close(sock);
    d.world.check_quiet();
}

// ----- send

#[test]
fn a_reset_pushed_here_is_seen_there_and_ends_what_is_under_way() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    let recv = token(1, 0);
    d.push(Op::Recv { sock, token: recv, mode: RecvMode::Multi });
    d.push(Op::Reset { sock, token: token(9, 0) });
    assert_eq!(d.wait_for(token(9, 0)).result, 0);
    let end = d.wait_for(recv);
    assert!(end.result < 0 && !end.more);
    d.turn(Wait::Until(None));
    assert!(peer.was_reset());
    d.push(Op::Close { sock, token: Token::NONE });
    d.turn(Wait::No);
}

#[test]
fn a_send_gives_its_bytes_back_unchanged_with_what_was_sent() {
    let mut d = Driver::new(SimConfig { link_bytes: 4, ..SimConfig::default() });
    let (_, peer, sock) = d.pair();
    peer.stop_reading();
    let done = d.send(sock, b"abcdef");
    assert_eq!(done.result, 4);
    let Payload::Sent(data) = done.payload else { panic!("no bytes") };
    assert_eq!(data.slices().flatten().copied().collect::<Vec<u8>>(), b"abcdef");
    peer.start_reading();
    assert_eq!(peer.take(), b"abcd");
}

#[test]
fn a_send_waits_while_the_peer_does_not_read_and_the_link_is_full() {
    let mut d = Driver::new(SimConfig { link_bytes: 4, ..SimConfig::default() });
    let (_, peer, sock) = d.pair();
    peer.stop_reading();
    assert_eq!(d.send(sock, b"abcd").result, 4);
    let t = token(2, 0);
    d.push(Op::Send { sock, token: t, data: chain(b"ef") });
    assert!(d.turn(Wait::Until(Some(1_000_000_000))).is_empty());
    peer.start_reading();
    assert_eq!(d.wait_for(t).result, 2);
    d.turn(Wait::No);
    assert_eq!(peer.take(), b"abcdef");
}

#[test]
fn a_peer_that_reads_by_itself_stops_when_its_inbox_is_full() {
    let mut d = Driver::new(SimConfig { link_bytes: 4, inbox_bytes_max: 6, ..SimConfig::default() });
    let (_, peer, sock) = d.pair();
    let mut sent = 0;
    for _ in 0..3 {
        sent += d.send(sock, &b"abcdefghijkl"[sent..]).result as usize;
        d.turn(Wait::No);
    }
    assert_eq!((sent, peer.received_len()), (10, 6));
    assert_eq!(peer.read(2), b"ab");
    assert_eq!(d.send(sock, b"kl").result, 2);
}

#[test]
fn a_failed_send_gives_its_bytes_back_and_the_peer_sees_a_reset() {
    for (fault, errno) in [(Fault::SendPipe, EPIPE), (Fault::SendReset, ECONNRESET)] {
        let mut d = with(Faults::none().with(fault, 1.0));
        let (_, peer, sock) = d.pair();
        let done = d.send(sock, b"ab");
        assert_eq!(done.result, -errno);
        assert!(matches!(done.payload, Payload::Sent(data) if data.len() == 2));
        assert!(peer.was_reset());
        assert_eq!(d.recv(sock, RecvMode::Multi).result, 0);
    }
}

// ----- ends

#[test]
fn a_half_closed_connection_still_carries_the_other_direction() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    let t = token(3, 0);
    assert_eq!(d.run(Op::Shutdown { sock, token: t, how: ShutdownHow::Write }, t).result, 0);
    d.turn(Wait::No);
    assert!(peer.is_eof());
    assert_eq!(peer.write(b"still"), 5);
    let done = d.recv(sock, RecvMode::Once);
    assert_eq!(d.take(&done), b"still");
    assert_eq!(d.send(sock, b"x").result, -EPIPE);
}

#[test]
fn a_shutdown_of_both_directions_ends_a_receive_with_0_and_a_waiting_send_with_epipe() {
    let mut d = Driver::new(SimConfig { link_bytes: 1, ..SimConfig::default() });
    let (_, peer, sock) = d.pair();
    peer.stop_reading();
    assert_eq!(d.send(sock, b"x").result, 1);
    d.push(Op::Recv { sock, token: token(1, 0), mode: RecvMode::Multi });
    d.push(Op::Send { sock, token: token(2, 0), data: chain(b"y") });
    assert!(d.turn(Wait::No).is_empty());
    d.push(Op::Shutdown { sock, token: Token::NONE, how: ShutdownHow::Both });
    assert_eq!(d.wait_for(token(1, 0)).result, 0);
    assert_eq!(d.wait_for(token(2, 0)).result, -EPIPE);
    assert!(d.left_over().is_empty(), "Token::NONE has no completion");
}

#[test]
fn a_cancelled_socket_gives_each_operation_its_own_end_later() {
    let mut d = Driver::new(SimConfig { link_bytes: 1, ..SimConfig::default() });
    let (_, peer, sock) = d.pair();
    peer.stop_reading();
    assert_eq!(d.send(sock, b"x").result, 1);
    d.push(Op::Recv { sock, token: token(1, 0), mode: RecvMode::Multi });
    d.push(Op::Send { sock, token: token(2, 0), data: chain(b"yz") });
    assert!(d.turn(Wait::No).is_empty());
    d.kernel.push(Op::CancelSock { sock, token: token(3, 0) }).unwrap();
    assert!(d.kernel.pop().is_none(), "nothing ends before the next enter");
    assert_eq!(d.wait_for(token(1, 0)).result, -ECANCELED);
    let sent = d.wait_for(token(2, 0));
    assert_eq!(sent.result, -ECANCELED);
    assert!(matches!(sent.payload, Payload::Sent(data) if data.len() == 2));
    assert_eq!(d.wait_for(token(3, 0)).result, 2);
    d.close(sock);
    d.world.check_quiet();
}

#[test]
fn a_cancel_of_what_has_ended_finds_nothing() {
    let mut d = driver();
    let t = token(1, 0);
    assert_eq!(d.run(Op::Cancel { target: token(9, 9), token: t }, t).result, -ENOENT);
}

#[test]
fn a_socket_closed_with_unread_bytes_resets_and_one_without_does_not() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    peer.write(b"unread");
    d.turn(Wait::No);
    d.close(sock);
    assert!(peer.was_reset());
    let (_, peer, sock) = d.pair();
    d.close(sock);
    assert!(peer.is_eof());
    assert!(!peer.was_reset());
    peer.write(b"late");
    d.turn(Wait::No);
    assert!(peer.was_reset(), "what comes after the close is answered with a reset");
}

#[test]
fn a_peer_that_stopped_reading_loses_what_it_had_not_read_when_reset() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    peer.stop_reading();
    assert_eq!(d.send(sock, b"answer").result, 6);
    peer.write(b"more");
    d.turn(Wait::No);
    d.close(sock);
    d.turn(Wait::No);
    peer.start_reading();
    assert_eq!((peer.take(), peer.was_reset()), (Vec::new(), true));
}

#[test]
fn a_dropped_peer_is_a_closed_peer() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    peer.write(b"bye");
    drop(peer);
    let done = d.recv(sock, RecvMode::Multi);
    assert_eq!(d.take(&done), b"bye");
    assert_eq!(d.wait_for(token(201, sock.0)).result, 0);
    assert_eq!(d.send(sock, b"into the void").result, 13);
    assert_eq!(d.send(sock, b"x").result, -ECONNRESET);
}

// ----- connect

fn socket(d: &mut Driver) -> Sock {
    let t = token(5, 0);
    number(d.run(Op::Socket { v6: false, token: t }, t).result)
}

fn connect(d: &mut Driver, sock: Sock, addr: &str) -> i32 {
    let t = token(6, 0);
    d.run(Op::Connect { sock, token: t, addr: addr.parse().unwrap() }, t).result
}

#[test]
fn a_connect_to_a_served_address_gives_the_test_a_peer() {
    let mut d = driver();
    let server = d.world.serve("203.0.113.5:80".parse().unwrap());
    let sock = socket(&mut d);
    assert_eq!(d.recv(sock, RecvMode::Once).result, -ENOTCONN);
    assert_eq!(connect(&mut d, sock, "203.0.113.5:80"), 0);
    assert_eq!(connect(&mut d, sock, "203.0.113.5:80"), -EISCONN);
    let peer = server.accept().unwrap();
    assert!(server.accept().is_none());
    peer.write(b"hello");
    let done = d.recv(sock, RecvMode::Once);
    assert_eq!(d.take(&done), b"hello");
    assert_eq!(d.send(sock, b"hi").result, 2);
    d.turn(Wait::No);
    assert_eq!(peer.take(), b"hi");
    drop(server);
    let other = socket(&mut d);
    assert_eq!(connect(&mut d, other, "203.0.113.5:80"), -ECONNREFUSED);
}

#[test]
fn a_served_address_can_answer_by_itself() {
    let mut d = driver();
    let peers = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&peers);
    d.world.serve_with("203.0.113.5:80".parse().unwrap(), move |peer| {
        peer.write(b"welcome");
        kept.borrow_mut().push(peer);
    });
    let sock = socket(&mut d);
    assert_eq!(connect(&mut d, sock, "203.0.113.5:80"), 0);
    let done = d.recv(sock, RecvMode::Once);
    assert_eq!(d.take(&done), b"welcome");
    assert_eq!(peers.borrow().len(), 1);
}

#[test]
fn a_connect_nobody_answers_times_out_and_can_be_cancelled_before() {
    let mut d = driver();
    d.world.black_hole("203.0.113.9:80".parse().unwrap());
    let sock = socket(&mut d);
    let before = d.world.now();
    assert_eq!(connect(&mut d, sock, "203.0.113.9:80"), -ETIMEDOUT);
    let took = d.world.now() - before;
    assert!(took >= Duration::from_secs(127) && took < Duration::from_secs(128), "{took:?}");
    let t = token(6, 1);
    d.push(Op::Connect { sock, token: t, addr: "203.0.113.9:80".parse().unwrap() });
    d.turn(Wait::No);
    d.push(Op::Cancel { target: t, token: Token::NONE });
    assert_eq!(d.wait_for(t).result, -ECANCELED);
    d.close(sock);
    d.world.advance(Duration::from_secs(200));
    d.turn(Wait::No);
    d.world.check_quiet();
}

#[test]
fn a_connect_to_a_listener_of_the_same_kernel_reaches_it() {
    let mut d = driver();
    let listener = d.world.add_listener();
    let client = socket(&mut d);
    let addr = d.world.listener_addr(listener).to_string();
    assert_eq!(connect(&mut d, client, &addr), 0);
    let server = d.accept(listener);
    assert_eq!(d.send(client, b"round").result, 5);
    let done = d.recv(server, RecvMode::Once);
    assert_eq!(d.take(&done), b"round");
    d.close(client);
    assert_eq!(d.recv(server, RecvMode::Once).result, 0);
    d.close(server);
    d.world.check_quiet();
}

// ----- queues

#[test]
fn more_completions_than_the_queue_holds_come_later_and_in_order() {
    let config = SimConfig { submission_entries: 2, completion_entries: 2, ..SimConfig::default() };
    let mut d = Driver::new(SimConfig { recv_buffer_bytes: 1, ..config });
    let (_, peer, sock) = d.pair();
    peer.write(b"abcde");
    let t = token(1, 0);
    let mut seen = d.recv_all(sock, t, 5);
    assert_eq!(seen.len(), 5);
    assert_eq!(seen.drain(..).flatten().collect::<Vec<u8>>(), b"abcde");
    assert!(d.kernel.stats().cq_overflows >= 2, "{:?}", d.kernel.stats());
    assert_eq!(d.kernel.stats().dropped, 0);
}

#[test]
fn completions_on_the_overflow_list_need_an_enter_and_say_so() {
    let mut d = with(Faults::none().with(Fault::CompletionOverflow, 1.0));
    let t = token(5, 0);
    d.kernel.push(Op::Socket { v6: true, token: t }).unwrap();
    d.kernel.enter(Wait::Until(None)).unwrap();
    assert!(d.kernel.pop().is_none());
    assert!(d.kernel.needs_enter());
    d.kernel.enter(Wait::Until(None)).unwrap();
    assert_eq!(d.kernel.pop().map(|done| done.token), Some(t));
    assert!(!d.kernel.needs_enter());
}

#[test]
fn delays_let_sockets_overtake_each_other_and_never_a_stream_itself() {
    let mut overtaken = 0;
    for seed in 0..50 {
        let config = SimConfig::seeded(seed, Faults::none().with(Fault::Delay, 0.5));
        let mut d = Driver::new(SimConfig { recv_buffer_bytes: 1, ..config });
        let pairs: Vec<_> = (0..4).map(|_| d.pair()).collect();
        for (_, peer, sock) in &pairs {
            d.push(Op::Recv { sock: *sock, token: token(1, sock.0), mode: RecvMode::Multi });
            peer.write(b"abc");
        }
        let mut seen = [const { Vec::new() }; 4];
        let mut order = Vec::new();
        while order.len() < 12 {
            for done in d.turn(Wait::Until(None)) {
                let index = done.token.index();
                seen[index as usize].extend(d.take(&done));
                order.push(index);
            }
        }
        assert!(seen.iter().all(|bytes| bytes == b"abc"), "{seen:?}");
        overtaken += u32::from(!order.is_sorted());
    }
    assert!(overtaken > 25, "{overtaken}");
}

#[test]
fn bytes_on_the_wire_count_and_those_sent_later_do_not_come_earlier() {
    let config = SimConfig { link_bytes: 4, turn_cost: Duration::ZERO, ..SimConfig::default() };
    let mut d = Driver::new(config);
    let (_, peer, sock) = d.pair();
    d.world.set_latency(Duration::from_millis(10));
    assert_eq!(peer.write(b"abc"), 3);
    d.world.set_latency(Duration::from_millis(1));
    assert_eq!(peer.write(b"de"), 1);
    d.world.advance(Duration::from_millis(9));
    assert_eq!(d.recv(sock, RecvMode::Ready).result, -EAGAIN);
    d.world.advance(Duration::from_millis(1));
    let done = d.recv(sock, RecvMode::Ready);
    assert_eq!(d.take(&done), b"abcd");
}

#[test]
fn a_receive_needs_a_buffer_to_wait_and_to_see_the_end_of_the_stream() {
    let mut d = Driver::new(SimConfig { recv_buffers: 1, ..SimConfig::default() });
    let (_, peer, first) = d.pair();
    let (_, second_peer, second) = d.pair();
    let t = token(1, 9);
    d.push(Op::Recv { sock: second, token: t, mode: RecvMode::Multi });
    peer.write(b"x");
    let held = d.recv(first, RecvMode::Once);
    assert_eq!(d.recv(first, RecvMode::Once).result, -ENOBUFS, "nothing waits, and no buffer is free");
    second_peer.shutdown_write();
    assert_eq!(d.wait_for(t).result, -ENOBUFS);
    assert_eq!(d.take(&held), b"x");
    assert_eq!(d.recv(second, RecvMode::Once).result, 0);
}

#[test]
fn the_answer_to_a_cancelled_connect_does_not_end_the_next_one() {
    let mut d = driver();
    d.world.black_hole("203.0.113.9:80".parse().unwrap());
    let sock = socket(&mut d);
    d.push(Op::Connect { sock, token: token(6, 1), addr: "203.0.113.9:80".parse().unwrap() });
    d.turn(Wait::No);
    d.push(Op::CancelSock { sock, token: Token::NONE });
    assert_eq!(d.wait_for(token(6, 1)).result, -ECANCELED);
    d.world.advance(Duration::from_secs(100));
    let before = d.world.now();
    assert_eq!(connect(&mut d, sock, "203.0.113.9:80"), -ETIMEDOUT);
    assert!(d.world.now() - before >= Duration::from_secs(127));
}

#[test]
fn a_peer_that_ended_its_direction_writes_nothing_more() {
    let mut d = driver();
    let (_, peer, _sock) = d.pair();
    peer.shutdown_write();
    assert_eq!(peer.write(b"x"), 0);
    d.turn(Wait::No);
    assert!(!peer.is_over(), "the other direction is open");
}

#[test]
fn a_peer_sees_the_end_of_the_stream_after_the_last_byte_only() {
    let mut d = Driver::new(SimConfig { inbox_bytes_max: 2, ..SimConfig::default() });
    let (_, peer, sock) = d.pair();
    assert_eq!(d.send(sock, b"abc").result, 3);
    d.close(sock);
    d.turn(Wait::No);
    assert!(!peer.is_eof());
    assert_eq!(peer.read(2), b"ab");
    assert!(peer.is_eof());
    assert_eq!(peer.take(), b"c");
}
