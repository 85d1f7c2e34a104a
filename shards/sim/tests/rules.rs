//! Each rule of the seam stops the code that breaks it, and says which.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, chain, token};
use corelane_base::{AcceptMode, BufferId, Kernel, ListenerId, Op, Payload, RecvMode, Sock, Token, Wait};
use corelane_pools::Chain;
use corelane_sim::{Sim, SimConfig};

fn driver() -> Driver {
    Driver::new(SimConfig::default())
}

fn recv(sock: Sock) -> Op<Chain> {
    Op::Recv { sock, token: token(1, 0), mode: RecvMode::Multi }
}

fn send(sock: Sock) -> Op<Chain> {
    Op::Send { sock, token: token(2, 0), data: chain(b"x") }
}

fn close(sock: Sock) -> Op<Chain> {
    Op::Close { sock, token: Token::NONE }
}

#[test]
#[should_panic(expected = "Recv on Sock(0) while one is under way")]
fn a_second_receive_on_a_socket_is_stopped() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(recv(sock));
    let _ = d.kernel.push(recv(sock));
}

#[test]
#[should_panic(expected = "Recv on Sock(0) while one is under way")]
fn a_receive_that_ended_is_under_way_until_its_end_is_taken() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    let _ = d.kernel.push(recv(sock));
    peer.shutdown_write();
    d.kernel.enter(Wait::Until(None)).unwrap();
    let _ = d.kernel.push(recv(sock));
}

#[test]
fn a_receive_may_follow_one_whose_end_was_taken() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    peer.shutdown_write();
    assert_eq!(d.recv(sock, RecvMode::Multi).result, 0);
    assert_eq!(d.recv(sock, RecvMode::Multi).result, 0);
}

#[test]
#[should_panic(expected = "Send on Sock(0) while one is under way")]
fn a_second_send_on_a_socket_is_stopped() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(send(sock));
    let _ = d.kernel.push(send(sock));
}

#[test]
#[should_panic(expected = "Send of no bytes on Sock(0)")]
fn an_empty_send_is_stopped() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(Op::Send { sock, token: token(2, 0), data: Chain::new() });
}

#[test]
#[should_panic(expected = "Close of Sock(0) while Recv is under way")]
fn a_close_under_a_receive_is_stopped() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(recv(sock));
    let _ = d.kernel.push(close(sock));
}

#[test]
#[should_panic(expected = "Close of Sock(0) while another operation is under way")]
fn a_close_under_a_cancel_that_has_a_token_is_stopped() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(Op::CancelSock { sock, token: token(3, 0) });
    let _ = d.kernel.push(close(sock));
}

#[test]
#[should_panic(expected = "Close on Sock(0), whose close was pushed")]
fn a_second_close_is_stopped() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(close(sock));
    let _ = d.kernel.push(close(sock));
}

#[test]
#[should_panic(expected = "Close on Sock(0), which is not open")]
fn a_close_of_what_is_closed_is_stopped() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    d.close(sock);
    let _ = d.kernel.push(close(sock));
}

#[test]
#[should_panic(expected = "Send on Sock(7), which is not open")]
fn a_socket_of_another_kernel_is_stopped() {
    let _ = driver().kernel.push(send(Sock(7)));
}

#[test]
#[should_panic(expected = "whose number is not yet lent again")]
fn a_closed_socket_is_stopped_even_when_its_number_is_used_again() {
    let mut d = driver();
    let (listener, _peer, sock) = d.pair();
    d.close(sock);
    let _second = d.world.connect(listener);
    let _ = d.kernel.push(Op::Accept { listener, token: token(0, 0), mode: AcceptMode::Multi });
    d.kernel.enter(Wait::Until(None)).unwrap();
    let _ = d.kernel.push(send(sock));
}

#[test]
#[should_panic(expected = "Accept on ListenerId(3), which was never added")]
fn an_accept_on_an_unknown_listener_is_stopped() {
    let op = Op::Accept { listener: ListenerId(3), token: token(0, 0), mode: AcceptMode::Multi };
    let _ = driver().kernel.push(op);
}

#[test]
#[should_panic(expected = "Accept on ListenerId(0), which is closed")]
fn an_accept_on_a_closed_listener_is_stopped() {
    let mut d = driver();
    let listener = d.world.add_listener();
    d.world.close_listener(listener);
    let _ = d.kernel.push(Op::Accept { listener, token: token(0, 0), mode: AcceptMode::Multi });
}

#[test]
#[should_panic(expected = "Accept Multi on ListenerId(0) after AcceptMode::Queued")]
fn an_accept_that_waits_after_the_queue_was_emptied_for_good_is_stopped() {
    let mut d = driver();
    let listener = d.world.add_listener();
    let t = token(0, 0);
    d.run(Op::Accept { listener, token: t, mode: AcceptMode::Queued }, t);
    let _ = d.kernel.push(Op::Accept { listener, token: t, mode: AcceptMode::Multi });
}

#[test]
#[should_panic(expected = "close of ListenerId(0) while an accept is under way")]
fn a_listener_is_not_closed_under_an_accept() {
    let mut d = driver();
    let listener = d.world.add_listener();
    d.push(Op::Accept { listener, token: token(0, 0), mode: AcceptMode::Multi });
    d.turn(Wait::No);
    d.world.close_listener(listener);
}

#[test]
#[should_panic(expected = "Recv with Token::NONE")]
fn a_receive_for_nobody_is_stopped() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(Op::Recv { sock, token: Token::NONE, mode: RecvMode::Once });
}

#[test]
#[should_panic(expected = "Hand of Sock(0), which this kernel cannot do")]
fn a_socket_cannot_leave_its_world() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    assert!(!d.kernel.abilities().hand);
    assert!(!d.kernel.abilities().shared_socks);
    let to = Sim::new(SimConfig::default()).0.unpark();
    let _ = d.kernel.push(Op::Hand { sock, to, arrival: token(6, 0), token: token(5, 0) });
}

#[test]
#[should_panic(expected = "PeerName of Sock(0), which this kernel cannot do")]
fn a_question_that_the_kernel_cannot_answer_is_stopped() {
    let mut d = Driver::new(SimConfig { peer_name: false, ..SimConfig::default() });
    let (_, _peer, sock) = d.pair();
    assert!(!d.kernel.abilities().peer_name);
    let _ = d.kernel.push(Op::PeerName { sock, token: token(5, 0) });
}

#[test]
#[should_panic(expected = "PeerName with Token::NONE")]
fn a_question_of_nobody_is_stopped() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(Op::PeerName { sock, token: Token::NONE });
}

#[test]
#[should_panic(expected = "PeerName on Sock(0), which is a file")]
fn a_file_has_no_peer() {
    let mut d = driver();
    let t = token(4, 0);
    let done =
        d.run(Op::Open { path: c"f".into(), flags: libc::O_CREAT | libc::O_RDWR, mode: 0o600, token: t }, t);
    let sock = Sock(u32::try_from(done.result).unwrap());
    let _ = d.kernel.push(Op::PeerName { sock, token: t });
}

#[test]
#[should_panic(expected = "Close of Sock(0) while another operation is under way")]
fn a_close_under_a_question_for_the_peer_is_stopped() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(Op::PeerName { sock, token: token(5, 0) });
    d.kernel.enter(Wait::No).unwrap();
    let _ = d.kernel.push(close(sock));
}

#[test]
#[should_panic(expected = "Cancel of Token::NONE")]
fn a_cancel_of_nobody_is_stopped() {
    let _ = driver().kernel.push(Op::Cancel { target: Token::NONE, token: Token::NONE });
}

#[test]
#[should_panic(expected = "recycle of BufferId(1), which is not lent")]
fn a_buffer_that_is_not_lent_cannot_be_recycled() {
    driver().kernel.recycle(BufferId(1));
}

#[test]
#[should_panic(expected = "recycle of BufferId(0), which is not lent")]
fn a_buffer_cannot_be_recycled_twice() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    peer.write(b"x");
    let Payload::Received(buffer) = d.recv(sock, RecvMode::Once).payload else { return };
    d.kernel.recycle(buffer);
    d.kernel.recycle(buffer);
}

#[test]
#[should_panic(expected = "bytes of BufferId(0), which is not lent")]
fn a_recycled_buffer_cannot_be_read() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    peer.write(b"x");
    let Payload::Received(buffer) = d.recv(sock, RecvMode::Once).payload else { return };
    d.kernel.recycle(buffer);
    d.kernel.received(buffer, 1);
}

#[test]
#[should_panic(expected = "2 bytes of BufferId(0), which received 1")]
fn a_buffer_cannot_be_read_past_what_it_received() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    peer.write(b"x");
    let Payload::Received(buffer) = d.recv(sock, RecvMode::Once).payload else { return };
    d.kernel.received(buffer, 2);
}

#[test]
#[should_panic(expected = "Read on Sock(0), which is a socket")]
fn a_socket_is_not_a_file() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(Op::Read { file: sock, offset: 0, data: vec![0], token: token(4, 0) });
}

#[test]
#[should_panic(expected = "Recv on Sock(0), which is a file")]
fn a_file_is_not_a_socket() {
    let mut d = driver();
    let t = token(4, 0);
    let done =
        d.run(Op::Open { path: c"f".into(), flags: libc::O_CREAT | libc::O_RDWR, mode: 0o600, token: t }, t);
    let _ = d.kernel.push(recv(Sock(u32::try_from(done.result).unwrap())));
}

#[test]
#[should_panic(expected = "Write from 2 of 2 bytes")]
fn a_write_of_nothing_is_stopped() {
    let mut d = driver();
    let t = token(4, 0);
    let done =
        d.run(Op::Open { path: c"f".into(), flags: libc::O_CREAT | libc::O_RDWR, mode: 0o600, token: t }, t);
    let file = Sock(u32::try_from(done.result).unwrap());
    let _ = d.kernel.push(Op::Write { file, offset: 0, data: vec![1, 2], from: 2, token: t });
}

#[test]
#[should_panic(
    expected = "not quiet: 0 operations under way, 0 not handed over, 1 descriptors open (the first: [0])"
)]
fn a_socket_left_open_is_found() {
    let mut d = driver();
    let (_, _peer, _sock) = d.pair();
    d.world.check_quiet();
}

#[test]
#[should_panic(expected = "not quiet: 1 operations under way")]
fn an_operation_left_under_way_is_found() {
    let mut d = driver();
    let listener = d.world.add_listener();
    d.push(Op::Accept { listener, token: token(0, 0), mode: AcceptMode::Multi });
    d.turn(Wait::No);
    d.world.check_quiet();
}

#[test]
#[should_panic(expected = "0 descriptors open (the first: []), 1 buffers lent")]
fn a_buffer_left_lent_is_found() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    peer.write(b"x");
    d.recv(sock, RecvMode::Once);
    d.close(sock);
    d.world.check_quiet();
}

#[test]
fn what_was_given_back_leaves_a_quiet_world() {
    let mut d = driver();
    let (_, peer, sock) = d.pair();
    peer.write(b"x");
    let done = d.recv(sock, RecvMode::Once);
    assert_eq!(d.take(&done), b"x");
    d.close(sock);
    d.world.check_quiet();
}

#[test]
fn a_full_submission_queue_gives_the_operation_back() {
    let (mut kernel, world) = Sim::new(SimConfig { submission_entries: 2, ..SimConfig::default() });
    let listener = world.add_listener();
    let op = |n| Op::Accept { listener, token: token(0, n), mode: AcceptMode::Multi };
    assert!(kernel.push(op(0)).is_ok());
    assert!(kernel.push(op(1)).is_ok());
    assert!(matches!(kernel.push(op(2)), Err(Op::Accept { .. })));
    kernel.enter(Wait::No).unwrap();
    assert!(kernel.push(op(2)).is_ok());
}

#[test]
fn a_full_table_of_operations_gives_the_operation_back_until_one_ended() {
    let (mut kernel, world) = Sim::new(SimConfig { operations_max: 1, ..SimConfig::default() });
    let listener = world.add_listener();
    let op = |n| Op::Accept { listener, token: token(0, n), mode: AcceptMode::OneWithPeer };
    assert!(kernel.push(op(0)).is_ok());
    kernel.enter(Wait::No).unwrap();
    assert!(kernel.push(op(1)).is_err());
    let _peer = world.connect(listener);
    kernel.enter(Wait::No).unwrap();
    assert!(kernel.push(op(1)).is_ok());
}

#[test]
#[should_panic(expected = "ReadInto on Sock(0), which is a socket")]
fn a_socket_is_not_read_into() {
    let mut d = driver();
    let (_, _peer, sock) = d.pair();
    let _ = d.kernel.push(Op::ReadInto { file: sock, offset: 0, data: "x".into(), token: token(4, 0) });
}

#[test]
#[should_panic(expected = "ReadInto bytes that are none, several or not ours")]
fn constant_bytes_are_not_read_into() {
    let mut d = driver();
    let t = token(4, 0);
    let done =
        d.run(Op::Open { path: c"f".into(), flags: libc::O_CREAT | libc::O_RDWR, mode: 0o600, token: t }, t);
    let file = Sock(u32::try_from(done.result).unwrap());
    let _ = d.kernel.push(Op::ReadInto { file, offset: 0, data: "x".into(), token: token(4, 1) });
}
