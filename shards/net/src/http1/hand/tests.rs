//! One shard of a group, with the other's part played by hand.

#![allow(clippy::unwrap_used)]

use std::rc::Rc;

use corelane_base::{Limits, ListenerId, ShardId};
use corelane_exec::Runtime;
use corelane_pools::{PoolConfig, Pools};
use corelane_sim::{Peer, Sim, SimConfig, SimKernel, World};

use super::super::{Draining, Http1Config};
use super::*;
use crate::message::Response;
use crate::service::{Answer, Incoming};

struct Hello;

impl Service for Hello {
    fn call(&self, _: Incoming<'_, '_, '_>) -> Answer {
        Answer::Now(Response::text("hello"))
    }
}

struct Bed {
    rt: Runtime<SimKernel>,
    world: World,
    listener: ListenerId,
    http: Rc<Http1<Hello>>,
    balance: Arc<Balance>,
}

impl Bed {
    fn new(limits: Limits) -> Bed {
        let (kernel, world) = Sim::new(SimConfig { free_running: false, ..SimConfig::of(&limits) });
        let listener = world.add_listener();
        let pools = Pools::new(&PoolConfig::default()).unwrap();
        let mut rt = Runtime::new(ShardId(0), limits, pools, kernel, None);
        let balance = Balance::new(2);
        let http = rt.within(|shard| {
            let config = Http1Config { balance: Some(Arc::clone(&balance)), ..Http1Config::default() };
            let http = Http1::start(shard, Hello, config);
            http.listen(shard, listener);
            http
        });
        Bed { rt, world, listener, http, balance }
    }

    fn settle(&mut self) {
        for _ in 0..60 {
            self.rt.turn(true).unwrap();
        }
    }

    fn ask(&mut self, peer: &Peer) -> bool {
        peer.write(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        self.settle();
        peer.take().ends_with(b"hello")
    }

    fn drain(&mut self) {
        let http = Rc::clone(&self.http);
        self.rt.within(|shard| http.drain(shard));
        self.settle();
    }

    /// What another shard accepted, here at the world's own listener.
    fn arrival(&mut self) -> (Peer, Arrival) {
        let peer = self.world.connect(self.listener);
        self.settle();
        // Takes the connection out of the table again, as if it had never been accepted here.
        let key = self.http.conns.borrow().iter().next().map(|(key, _)| key).unwrap();
        let conn = self.http.conns.borrow_mut().remove(key).unwrap();
        self.balance.leave(0);
        let sock = conn.sock;
        let target = self.http.token(tag::RECV, conn.key);
        self.rt.shard().push(Op::Cancel { target, token: Token::NONE });
        if let Some(timer) = conn.timer {
            self.rt.shard().cancel_timer(timer);
        }
        self.settle();
        (peer, Arrival { sock, peer: None })
    }
}

#[test]
fn a_drain_waits_for_a_connection_that_was_promised_and_is_told_when_it_does_not_come() {
    let mut bed = Bed::new(Limits::default());
    bed.balance.count(0);
    bed.drain();
    assert!(!bed.http.is_drained(), "one is on its way");
    bed.balance.give_back(0);
    assert!(bed.http.is_drained());
}

#[test]
fn what_arrives_in_a_drain_is_served_and_the_drain_ends_after_it() {
    let mut bed = Bed::new(Limits::default());
    let (peer, arrival) = bed.arrival();
    bed.balance.count(0);
    bed.drain();
    assert!(bed.balance.post(0, arrival));
    assert!(bed.ask(&peer));
    assert!(!bed.http.is_drained());
    peer.close();
    bed.settle();
    assert!(bed.http.is_drained());
    assert_eq!((bed.balance.assigned(0), bed.http.stats.arrived.get()), (0, 1));
}

#[test]
fn what_arrives_after_the_cut_is_closed_and_counted() {
    let limits = Limits::default();
    let mut bed = Bed::new(limits.clone());
    let (peer, arrival) = bed.arrival();
    bed.balance.count(0);
    bed.drain();
    for _ in 0..2 {
        bed.world.advance(limits.drain_time);
        bed.settle();
    }
    assert_eq!(bed.http.drain.get(), Drain::Cut);
    assert!(!bed.http.is_drained());
    assert!(bed.balance.post(0, arrival));
    bed.settle();
    assert!(peer.is_over());
    assert!(bed.http.is_drained());
    assert_eq!((bed.http.stats.arrived.get(), bed.http.stats.closed.get()), (1, 1));
}

#[test]
fn more_than_a_table_holds_is_refused_and_counted_and_its_place_given_back() {
    let limits = Limits { connections_max: 2, descriptors_headroom: 16, ..Limits::default() };
    let mut bed = Bed::new(limits);
    let (peer, arrival) = bed.arrival();
    let peers: Vec<Peer> = (0..18).map(|_| bed.world.connect(bed.listener)).collect();
    bed.settle();
    let held = bed.http.connections();
    assert!((2..=3).contains(&held), "{held}");
    // Others gave away more than there was room for: only what the table holds is taken.
    while bed
        .http
        .conns
        .borrow_mut()
        .insert_with(|key| super::super::conn::Conn::new(key, Sock(u32::MAX)))
        .is_ok()
    {}
    bed.balance.count(0);
    let before = bed.balance.assigned(0);
    assert!(bed.balance.post(0, arrival));
    bed.settle();
    assert!(peer.is_over());
    assert_eq!((bed.http.stats.refused_full.get(), bed.balance.assigned(0)), (1, before - 1));
    drop(peers);
}
