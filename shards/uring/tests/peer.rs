//! Asking for the peer of a socket that was accepted without its address.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use common::{ACCEPT, Bed, CLOSE, OTHER, masks, sock, token, without};
use corelane_base::{AcceptMode, Completion, Kernel, ListenerId, Op, Payload, Sock};
use corelane_pools::Chain;
use corelane_uring::Features;

fn ask(bed: &mut Bed, sock: Sock) -> Completion<Chain> {
    bed.push(Op::PeerName { sock, token: token(OTHER, 0) });
    let answer = bed.of(token(OTHER, 0));
    assert!(!answer.more);
    answer
}

#[track_caller]
fn peer_of(bed: &mut Bed, sock: Sock) -> SocketAddr {
    match ask(bed, sock) {
        Completion { result: 0, payload: Payload::Peer(addr), .. } => addr,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn errno_of(bed: &mut Bed, sock: Sock) -> i32 {
    let answer = ask(bed, sock);
    assert!(matches!(answer.payload, Payload::None));
    -answer.result
}

/// Masks of rings that can ask: with a table and without, multishot and not.
fn able() -> Vec<Features> {
    masks().into_iter().filter(|mask| !mask.contains(Features::PEER_NAME)).collect()
}

/// Takes the one connection that waits, without its address.
fn accept(bed: &mut Bed, listener: ListenerId) -> Sock {
    bed.accept(listener, token(ACCEPT, 0), AcceptMode::Queued);
    let accepted = bed.of(token(ACCEPT, 0));
    assert_eq!(bed.of(token(ACCEPT, 0)).result, -libc::EAGAIN);
    assert!(bed.ring.remove_listener(listener));
    sock(accepted.result)
}

struct Tcp {
    end: Sock,
    peer: TcpStream,
}

impl Tcp {
    fn connect(bed: &mut Bed, at: &str) -> Tcp {
        let listener = TcpListener::bind(at).unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = bed.ring.add_listener(listener.into());
        let peer = TcpStream::connect(addr).unwrap();
        Tcp { end: accept(bed, listener), peer }
    }

    fn addr(&self) -> SocketAddr {
        self.peer.local_addr().unwrap()
    }
}

#[test]
fn the_peer_of_an_accepted_socket_is_told_whatever_family_came_before() {
    for mask in able() {
        let mut bed = Bed::new(&without(mask));
        assert!(bed.ring.abilities().peer_name, "{mask}");
        for at in ["127.0.0.1:0", "[::1]:0", "[::1]:0", "127.0.0.1:0", "127.0.0.1:0", "[::1]:0"] {
            let tcp = Tcp::connect(&mut bed, at);
            assert_eq!(peer_of(&mut bed, tcp.end), tcp.addr(), "{mask}");
            // As often as one likes.
            assert_eq!(peer_of(&mut bed, tcp.end), tcp.addr(), "{mask}");
        }
        assert_eq!(bed.ring.flights(), 0);
        assert!(bed.held.is_empty());
    }
}

#[test]
fn a_question_is_asked_twice_only_where_the_family_changed() {
    let mut bed = Bed::new(&without(Features::NONE));
    let ends = ["127.0.0.1:0", "127.0.0.1:0", "[::1]:0", "[::1]:0", "127.0.0.1:0", "127.0.0.1:0"]
        .map(|at| Tcp::connect(&mut bed, at));
    let asked = ends.map(|tcp| {
        let before = bed.ring.stats().submitted;
        assert_eq!(peer_of(&mut bed, tcp.end), tcp.addr());
        bed.ring.stats().submitted - before
    });
    assert_eq!(asked, [1, 1, 2, 1, 2, 1]);
}

#[test]
fn a_unix_socket_has_no_address_to_tell() {
    for mask in able() {
        let mut bed = Bed::new(&without(mask));
        let dir = std::env::temp_dir();
        let name = format!("corelane-peer-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = dir.join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let listener = bed.ring.add_listener(listener.into());
        let _peer = UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let end = accept(&mut bed, listener);
        assert_eq!(errno_of(&mut bed, end), libc::EAFNOSUPPORT, "{mask}");
        // With either expectation.
        let tcp = Tcp::connect(&mut bed, "[::1]:0");
        assert_eq!(peer_of(&mut bed, tcp.end), tcp.addr());
        assert_eq!(errno_of(&mut bed, end), libc::EAFNOSUPPORT, "{mask}");
        assert_eq!(bed.ring.flights(), 0);
    }
}

#[test]
fn a_socket_without_a_peer_says_so() {
    for mask in able() {
        let mut bed = Bed::new(&without(mask));
        for v6 in [false, true] {
            bed.push(Op::Socket { v6, token: token(OTHER, 1) });
            let fresh = sock(bed.of(token(OTHER, 1)).result);
            assert_eq!(errno_of(&mut bed, fresh), libc::ENOTCONN, "{mask}");
            bed.push(Op::Close { sock: fresh, token: token(CLOSE, 0) });
            assert_eq!(bed.of(token(CLOSE, 0)).result, 0);
            assert_eq!(errno_of(&mut bed, fresh), libc::EBADF, "{mask}");
        }
        let tcp = Tcp::connect(&mut bed, "127.0.0.1:0");
        bed.push(Op::Reset { sock: tcp.end, token: token(OTHER, 1) });
        assert_eq!(bed.of(token(OTHER, 1)).result, 0);
        assert_eq!(errno_of(&mut bed, tcp.end), libc::ENOTCONN, "{mask}");
    }
}

#[test]
fn many_questions_at_once_are_answered_each_with_its_own_peer() {
    let mut bed = Bed::new(&without(Features::NONE));
    let all: Vec<_> =
        (0..20).map(|n| Tcp::connect(&mut bed, if n % 2 == 0 { "127.0.0.1:0" } else { "[::1]:0" })).collect();
    for (index, tcp) in (0..).zip(&all) {
        bed.push(Op::PeerName { sock: tcp.end, token: token(OTHER, index) });
    }
    for (index, tcp) in (0..).zip(&all) {
        match bed.of(token(OTHER, index)).payload {
            Payload::Peer(addr) => assert_eq!(addr, tcp.addr()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bed.ring.flights(), 0);
}

#[test]
fn a_ring_that_cannot_ask_says_so() {
    let mut bed = Bed::new(&without(Features::PEER_NAME));
    assert!(!bed.ring.abilities().peer_name);
    let tcp = Tcp::connect(&mut bed, "127.0.0.1:0");
    assert_eq!(errno_of(&mut bed, tcp.end), libc::EOPNOTSUPP);
    assert_eq!(bed.ring.flights(), 0);
}
