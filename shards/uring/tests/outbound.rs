//! Sockets that connect: their options, and the address they connect from.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::net::{SocketAddr, TcpListener};

use common::{Bed, OTHER, masks, small, token, without};
use corelane_base::{Kernel, Op, Sock, SockOption};
use corelane_uring::Features;

fn socket(bed: &mut Bed, v6: bool) -> Sock {
    bed.push(Op::Socket { v6, token: token(OTHER, 0) });
    Sock(u32::try_from(bed.of(token(OTHER, 0)).result).unwrap())
}

fn set(bed: &mut Bed, sock: Sock, option: SockOption) -> i32 {
    bed.push(Op::Configure { sock, option, token: token(OTHER, 1) });
    bed.of(token(OTHER, 1)).result
}

fn bind(bed: &mut Bed, sock: Sock, addr: &str) -> i32 {
    bed.push(Op::Bind { sock, addr: addr.parse().unwrap(), token: token(OTHER, 2) });
    bed.of(token(OTHER, 2)).result
}

fn connect(bed: &mut Bed, sock: Sock, addr: SocketAddr) -> i32 {
    bed.push(Op::Connect { sock, addr, token: token(OTHER, 3) });
    bed.of(token(OTHER, 3)).result
}

#[test]
fn a_bound_socket_connects_from_its_address_on_every_ring() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        if !bed.ring.abilities().sock_options {
            assert!(!mask.contains(Features::DIRECT) && mask.contains(Features::PEER_NAME), "{mask}");
            let end = socket(&mut bed, false);
            assert_eq!(set(&mut bed, end, SockOption::NoDelay), -libc::EOPNOTSUPP);
            continue;
        }
        assert!(bed.ring.abilities().bind, "Linux 6.11 has it");
        for (at, from) in [("127.0.0.1:0", "127.0.0.77:0"), ("[::1]:0", "[::1]:0")] {
            let listener = TcpListener::bind(at).unwrap();
            let end = socket(&mut bed, at.starts_with('['));
            assert_eq!(set(&mut bed, end, SockOption::NoDelay), 0, "{mask}");
            assert_eq!(set(&mut bed, end, SockOption::BindAddressNoPort), 0, "{mask}");
            assert_eq!(bind(&mut bed, end, from), 0, "{mask}");
            assert_eq!(connect(&mut bed, end, listener.local_addr().unwrap()), 0, "{mask}");
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), from.parse::<SocketAddr>().unwrap().ip(), "{mask}");
        }
        assert_eq!(bed.ring.flights(), 0);
    }
}

#[test]
fn an_option_is_on_once_it_was_switched_on() {
    let mut bed = Bed::new(&without(Features::DIRECT));
    let end = socket(&mut bed, false);
    let read = |level, name| {
        let (mut value, mut len): (libc::c_int, libc::socklen_t) = (-1, 4);
        // SAFETY: the descriptor is open, and the call fills one int.
        let answer = unsafe {
            libc::getsockopt(end.0.cast_signed(), level, name, (&raw mut value).cast(), &raw mut len)
        };
        assert_eq!(answer, 0);
        value
    };
    for (option, level, name) in [
        (SockOption::NoDelay, libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (SockOption::BindAddressNoPort, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    ] {
        assert_eq!(read(level, name), 0);
        assert_eq!(set(&mut bed, end, option), 0);
        assert_ne!(read(level, name), 0);
    }
}

#[test]
fn an_address_of_another_host_cannot_be_bound() {
    for mask in [Features::NONE, Features::DIRECT] {
        let mut bed = Bed::new(&without(mask));
        let end = socket(&mut bed, false);
        assert_eq!(bind(&mut bed, end, "192.0.2.1:0"), -libc::EADDRNOTAVAIL, "{mask}");
    }
}

#[test]
fn a_socket_that_does_not_exist_has_no_options() {
    for mask in [Features::NONE, Features::DIRECT] {
        let mut bed = Bed::new(&without(mask));
        let none = Sock(50_000_000);
        assert_eq!(set(&mut bed, none, SockOption::NoDelay), -libc::EBADF, "{mask}");
        assert_eq!(bind(&mut bed, none, "127.0.0.1:0"), -libc::EBADF, "{mask}");
    }
    let mut bed = Bed::new(&small());
    let end = socket(&mut bed, false);
    assert_eq!(connect(&mut bed, end, "127.0.0.1:1".parse().unwrap()), -libc::ECONNREFUSED);
}
