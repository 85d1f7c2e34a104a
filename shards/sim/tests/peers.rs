//! Who is at the other end of a socket.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;

use common::{Driver, token};
use corelane_base::{AcceptMode, Kernel, Op, Payload, ShutdownHow, Sock, SockOption, Token, Wait};
use corelane_sim::{Fault, Faults, SimConfig};
use libc::ENOTCONN;

fn driver() -> Driver {
    Driver::new(SimConfig::default())
}

fn ask(d: &mut Driver, sock: Sock) -> Result<SocketAddr, i32> {
    let t = token(5, sock.0);
    let done = d.run(Op::PeerName { sock, token: t }, t);
    assert!(!done.more);
    match (done.result, done.payload) {
        (0, Payload::Peer(addr)) => Ok(addr),
        (errno, Payload::None) if errno < 0 => Err(-errno),
        other => panic!("{other:?}"),
    }
}

fn socket(d: &mut Driver) -> Sock {
    let done = d.run(Op::Socket { v6: false, token: token(0, 0) }, token(0, 0));
    Sock(u32::try_from(done.result).unwrap())
}

#[test]
fn the_peer_of_a_socket_from_a_multi_accept_can_be_asked_for() {
    let mut d = driver();
    assert!(d.kernel.abilities().peer_name);
    let listener = d.world.add_listener();
    let from: SocketAddr = "[2001:db8::7]:4711".parse().unwrap();
    let peer = d.world.connect_from(listener, from);
    d.push(Op::Accept { listener, token: token(0, 0), mode: AcceptMode::Multi });
    let sock = Sock(u32::try_from(d.wait_for(token(0, 0)).result).unwrap());
    assert_eq!(ask(&mut d, sock), Ok(from));
    // As long as one direction is open.
    peer.shutdown_write();
    d.kernel.enter(Wait::No).unwrap();
    assert_eq!(ask(&mut d, sock), Ok(from));
    let t = token(1, 0);
    d.run(Op::Shutdown { sock, token: t, how: ShutdownHow::Write }, t);
    assert_eq!(ask(&mut d, sock), Err(ENOTCONN));
}

#[test]
fn a_socket_that_is_not_connected_or_was_reset_has_no_peer() {
    let mut d = driver();
    let fresh = socket(&mut d);
    assert_eq!(ask(&mut d, fresh), Err(ENOTCONN));
    let (_, peer, sock) = d.pair();
    assert_eq!(ask(&mut d, sock).ok(), peer.addr());
    peer.reset();
    d.kernel.enter(Wait::No).unwrap();
    assert_eq!(ask(&mut d, sock), Err(ENOTCONN));
}

#[test]
fn a_connected_socket_names_where_it_connected_to() {
    let mut d = driver();
    let addr: SocketAddr = "203.0.113.5:80".parse().unwrap();
    let _server = d.world.serve(addr);
    let sock = socket(&mut d);
    let t = token(1, 0);
    assert_eq!(d.run(Op::Connect { sock, token: t, addr }, t).result, 0);
    assert_eq!(ask(&mut d, sock), Ok(addr));
}

#[test]
fn a_bound_socket_connects_from_its_address() {
    let mut d = driver();
    let addr: SocketAddr = "203.0.113.5:80".parse().unwrap();
    let listener = d.world.add_listener_at(addr);
    d.push(Op::Accept { listener, token: token(2, 0), mode: AcceptMode::OneWithPeer });
    let sock = socket(&mut d);
    let (option, from) = (SockOption::NoDelay, "198.51.100.7:0".parse::<SocketAddr>().unwrap());
    assert_eq!(d.run(Op::Configure { sock, option, token: token(1, 0) }, token(1, 0)).result, 0);
    assert_eq!(d.run(Op::Bind { sock, addr: from, token: token(1, 1) }, token(1, 1)).result, 0);
    assert_eq!(d.run(Op::Connect { sock, token: token(1, 2), addr }, token(1, 2)).result, 0);
    let Payload::Peer(seen) = d.wait_for(token(2, 0)).payload else { panic!("an accept tells the peer") };
    assert_eq!(seen.ip(), from.ip());
    assert_eq!(d.run(Op::Bind { sock, addr: from, token: token(1, 1) }, token(1, 1)).result, -libc::EINVAL);
}

#[test]
fn answers_come_late_and_in_any_order_and_each_is_right() {
    let mut overtaken = false;
    for seed in 0..30 {
        let mut d = Driver::new(SimConfig::seeded(seed, Faults::none().with(Fault::Delay, 0.5)));
        let listener = d.world.add_listener();
        let ends: Vec<_> = (0..6)
            .map(|_| {
                let peer = d.world.connect(listener);
                (peer, d.accept(listener))
            })
            .collect();
        let start = d.world.now();
        for (_, sock) in &ends {
            d.push(Op::PeerName { sock: *sock, token: token(5, sock.0) });
        }
        let mut order = Vec::new();
        while order.len() < ends.len() {
            for done in d.turn(Wait::Until(None)) {
                let (peer, sock) = &ends[order_of(&ends, done.token)];
                let Payload::Peer(addr) = done.payload else { panic!("{done:?}") };
                assert_eq!(Some(addr), peer.addr());
                order.push(sock.0);
            }
        }
        overtaken |= d.world.now() > start && !order.is_sorted();
        for (peer, sock) in ends {
            d.close(sock);
            drop(peer);
        }
        d.world.check_quiet();
    }
    assert!(overtaken, "nothing was late: nothing was tested");
}

fn order_of<T>(ends: &[(T, Sock)], token: Token) -> usize {
    ends.iter().position(|(_, sock)| sock.0 == token.index()).unwrap()
}
