//! Connections of a protocol of bytes: how they begin, how they end, and what a peer or a panic can do to them.
#![allow(clippy::unwrap_used)]

mod lines;

use std::num::NonZeroU64;
use std::time::Duration;

use corelane_base::Limits;
use corelane_exec::Turn;
use corelane_net::http1::Draining;
use corelane_net::session::Ending;
use corelane_net::{Next, SessionConfig};
use corelane_pools::{PoolConfig, Pools};
use corelane_sim::{Fault, Faults, Peer, SimConfig};
use lines::{Bench, Post, limits, text};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn narrow(limits: &Limits) -> SimConfig {
    SimConfig { free_running: false, link_bytes: 4_096, ..SimConfig::of(limits) }
}

// ----- the peer ends its side

#[test]
fn commands_with_the_end_of_the_stream_behind_them_are_answered() {
    for budget in [0, 1] {
        let mut b = Bench::new();
        b.lines().budget.set(budget);
        let peer = b.connect();
        peer.write(&b"echo x\n".repeat(50));
        peer.shutdown_write();
        b.settle();
        assert_eq!(text(&peer), "x\n".repeat(50), "{budget} commands a turn");
        assert!(peer.is_eof() && !peer.was_reset());
        assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Left)]);
        b.check_clean();
    }
}

#[test]
fn a_large_reply_with_the_end_of_the_stream_before_it_comes_whole() {
    let limits = limits();
    let mut b = Bench::on(narrow(&limits), limits, SessionConfig::default());
    let peer = b.connect();
    peer.write(b"put 100000\nput 100000\nput 100000\necho end\n");
    peer.shutdown_write();
    b.settle();
    b.pass(secs(3));
    let got = b.drink(&peer);
    assert_eq!(got.len(), 300_004);
    b.check_clean();
}

#[test]
fn the_end_of_the_stream_within_a_command_is_the_end() {
    let mut b = Bench::new();
    let peer = b.connect();
    peer.write(b"echo whole\nblock 100\n12345");
    peer.shutdown_write();
    b.settle();
    assert_eq!(text(&peer), "whole\n");
    assert!(peer.is_eof());
    b.check_clean();
}

#[test]
fn one_that_waits_when_its_peer_ends_its_side_still_gets_an_answer_that_comes_soon() {
    let mut b = Bench::new();
    let peer = b.connect();
    b.send(&peer, b"later 500\necho behind\n");
    peer.shutdown_write();
    b.settle();
    b.pass(ms(900));
    assert_eq!(text(&peer), "at last\nbehind\n");
    assert!(peer.is_eof());
    assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Left)]);
    b.check_clean();
}

#[test]
fn one_that_waits_longer_is_closed_by_half_close_time() {
    let mut b = Bench::new();
    let peer = b.connect();
    b.send(&peer, b"later 5000\n");
    peer.shutdown_write();
    b.settle();
    b.pass(ms(900));
    assert_eq!(b.table.len(), 1);
    b.pass(ms(200));
    assert!(peer.is_eof());
    assert_eq!(b.table.stats.timeouts_half_closed.get(), 1);
    assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Late)]);
    b.pass(secs(5));
    assert_eq!(b.lines().undelivered.take(), [Post::Answer("at last".into())]);
    b.check_clean();
}

#[test]
fn a_protocol_may_outlive_the_end_of_the_stream_for_half_close_time() {
    let mut b = Bench::new();
    b.lines().outlives.set(true);
    let peer = b.connect();
    let key = b.key_of(&peer);
    peer.shutdown_write();
    b.settle();
    b.pass(ms(500));
    b.table.post(key, Post::Say("still".into()));
    b.settle();
    assert_eq!(text(&peer), "said: still\n");
    b.pass(ms(600));
    assert!(peer.is_eof());
    b.check_clean();
}

// ----- the peer is lost

#[test]
fn a_peer_that_resets_is_gone_at_once_whatever_its_connection_is_at() {
    for wire in [&b"echo x\n"[..], b"wait\n", b"block 100\n123", b"later 100\n"] {
        let mut b = Bench::new();
        let peer = b.connect();
        peer.write(wire);
        b.settle();
        peer.reset();
        b.settle();
        assert_eq!(b.table.len(), 0);
        assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Lost)]);
        b.pass(ms(200));
        b.check_clean();
    }
}

#[test]
fn a_peer_that_reads_nothing_is_reset_by_write_time_and_a_good_one_is_served_meanwhile() {
    let limits = Limits { write_time: secs(5), ..limits() };
    let mut b = Bench::on(narrow(&limits), limits, SessionConfig::default());
    let (bad, good) = (b.connect(), b.connect());
    bad.stop_reading();
    b.send(&bad, &b"put 30000\n".repeat(30));
    b.pass(ms(4_900));
    assert_eq!(b.ask(&good, b"echo me\n"), "me\n");
    assert_eq!(b.table.len(), 2);
    b.pass(ms(200));
    assert!(bad.was_reset());
    assert_eq!(b.table.stats.timeouts_write.get(), 1);
    assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Unread)]);
    good.close();
    b.check_clean();
}

#[test]
fn a_peer_that_takes_a_little_now_and_then_gains_no_time_by_it() {
    let limits = Limits { write_time: secs(5), ..limits() };
    let mut b = Bench::on(narrow(&limits), limits, SessionConfig::default());
    let peer = b.connect();
    peer.stop_reading();
    peer.write(b"push 500000\n");
    for _ in 0..60 {
        b.pass(ms(100));
        peer.read(100);
    }
    assert!(peer.was_reset());
    b.check_clean();
}

#[test]
fn a_long_reply_to_a_slow_but_steady_reader_takes_longer_than_write_time() {
    let limits = Limits { write_time: secs(5), ..limits() };
    let mut b = Bench::on(narrow(&limits), limits, SessionConfig::default());
    let peer = b.connect();
    b.world.set_bandwidth(NonZeroU64::new(50_000)); // 64 KiB take 1.3 s, all of it takes 20
    peer.write(b"push 1000000\n");
    let mut got = 0;
    for _ in 0..2_500 {
        b.world.advance(ms(10));
        for _ in 0..5 {
            b.turn();
        }
        got += peer.take().len();
    }
    assert_eq!(got, 1_000_000);
    assert_eq!(b.table.stats.timeouts_write.get(), 0);
}

// ----- the protocol ends it

#[test]
fn quit_says_goodbye_and_closes_whatever_stands_behind_it() {
    let mut b = Bench::new();
    let peer = b.connect();
    assert_eq!(b.ask(&peer, b"quit\necho unread\n"), "bye\n");
    assert!(peer.is_eof() && !peer.was_reset());
    peer.write(b"echo more\n");
    b.settle();
    assert!(!peer.was_reset());
    peer.close();
    b.settle();
    assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Asked)]);
    b.check_clean();
}

#[test]
fn one_that_was_told_goodbye_and_stays_is_closed_by_linger_time() {
    let mut b = Bench::new();
    let peer = b.connect();
    b.send(&peer, b"quit\n");
    b.pass(ms(1_900));
    assert_eq!(b.table.len(), 1);
    b.pass(ms(200));
    b.check_clean();
}

#[test]
fn a_goodbye_behind_a_large_reply_waits_for_it() {
    let limits = limits();
    let mut b = Bench::on(narrow(&limits), limits, SessionConfig::default());
    let peer = b.connect();
    peer.write(b"push 60000\nquit\n");
    b.pass(secs(3));
    let got = b.drink(&peer);
    assert_eq!(got.len(), 60_004);
    peer.close();
    b.check_clean();
}

#[test]
fn abort_resets_and_drops_what_was_said() {
    let mut b = Bench::new();
    let peer = b.connect();
    assert_eq!(b.ask(&peer, b"echo lost\nabort\n"), "");
    assert!(peer.was_reset());
    b.check_clean();
}

#[test]
fn one_connection_can_close_or_reset_another() {
    let mut b = Bench::new();
    let (a, closed, reset) = (b.connect(), b.connect(), b.connect());
    let (kc, kr) = (b.key_of(&closed).to_bits(), b.key_of(&reset).to_bits());
    let wire = format!("to {kc} last words\nkill {kc}\nto {kr} unheard\nreset {kr}\nkill {kc}\necho done\n");
    assert_eq!(b.ask(&a, wire.as_bytes()), "done\n");
    assert_eq!(text(&closed), "said: last words\n");
    assert!(closed.is_eof() && !closed.was_reset() && reset.was_reset());
    assert_eq!(b.table.stats.killed.get(), 2);
    [a, closed].iter().for_each(Peer::close);
    b.check_clean();
}

#[test]
fn a_connection_can_kill_itself() {
    let mut b = Bench::new();
    let peer = b.connect();
    let key = b.key_of(&peer).to_bits();
    assert_eq!(b.ask(&peer, format!("kill {key}\necho after\n").as_bytes()), "after\n");
    assert!(peer.is_eof());
    peer.close();
    b.check_clean();
}

#[test]
fn one_that_is_not_wanted_is_told_so_and_never_was_open() {
    let mut b = Bench::new();
    b.lines().greeting.set("not you\n");
    b.lines().refuses.set(true);
    let peer = b.connect();
    assert_eq!(text(&peer), "not you\n");
    assert!(peer.is_eof());
    assert_eq!(b.ask(&peer, b"echo hello\n"), "");
    peer.close();
    b.settle();
    assert_eq!(b.table.stats.refused.get(), 1);
    assert!(b.lines().closed.borrow().is_empty());
    b.check_clean();
}

#[test]
fn a_greeting_comes_first() {
    let mut b = Bench::new();
    b.lines().greeting.set("welcome\n");
    let peer = b.world.connect(b.listener);
    peer.write(b"echo hi\n");
    b.settle();
    assert_eq!(text(&peer), "welcome\nhi\n");
}

// ----- panics

#[test]
fn a_panic_cuts_the_connection_it_happened_on_and_no_other() {
    let mut b = Bench::new();
    let (bad, good) = (b.connect(), b.connect());
    b.send(&bad, b"echo lost\npanic\necho never\n");
    assert!(bad.was_reset());
    assert_eq!(b.ask(&good, b"echo fine\n"), "fine\n");
    assert_eq!(b.table.stats.panics.get(), 1);
    assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Panicked)]);
    let posted = b.connect();
    let key = b.key_of(&posted);
    b.table.post(key, Post::Panic);
    b.table.post(key, Post::Say("gone".into()));
    b.settle();
    assert!(posted.was_reset());
    assert_eq!(b.lines().undelivered.take(), [Post::Say("gone".into())]);
    assert_eq!(b.lines().closed.borrow()[1..], [(3, Ending::Panicked)]);
    good.close();
    b.check_clean();
}

#[test]
fn a_panic_at_the_beginning_or_the_end_of_a_connection_harms_no_other() {
    let mut b = Bench::new();
    let good = b.connect();
    b.lines().panics_at_open.set(true);
    let bad = b.connect();
    assert!(bad.was_reset());
    b.lines().panics_at_open.set(false);
    b.lines().panics_at_close.set(true);
    let worse = b.connect();
    worse.close();
    b.settle();
    assert_eq!(b.table.stats.panics.get(), 2);
    assert_eq!(b.ask(&good, b"echo fine\n"), "fine\n");
    b.lines().panics_at_close.set(false);
    good.close();
    b.check_clean();
}

#[test]
fn a_panic_at_the_end_of_a_turn_harms_no_connection() {
    let mut b = Bench::new();
    let peer = b.connect();
    b.lines().panics_at_turn_end.set(true);
    assert_eq!(b.ask(&peer, b"echo fine\n"), "fine\n");
    assert_eq!(b.table.stats.panics.get(), 1);
    assert_eq!(b.ask(&peer, b"echo again\n"), "again\n");
}

// ----- time

#[test]
fn nobody_is_closed_for_saying_nothing_unless_it_was_asked_for() {
    let mut b = Bench::new();
    let peer = b.connect();
    b.pass(secs(1_000));
    assert_eq!(b.ask(&peer, b"echo here\n"), "here\n");
}

#[test]
fn a_connection_that_says_nothing_is_closed_by_its_idle_time() {
    let mut b = Bench::with(limits(), SessionConfig { idle: Some(secs(10)), ..SessionConfig::default() });
    let (silent, lively, waiting, exempt) = (b.connect(), b.connect(), b.connect(), b.connect());
    b.send(&waiting, b"wait\n");
    b.send(&exempt, b"never\n");
    for _ in 0..3 {
        b.pass(ms(4_900));
        assert_eq!(b.ask(&lively, b"echo x\n"), "x\n");
    }
    assert!(silent.is_eof() && !silent.was_reset());
    assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Idle)]);
    b.pass(secs(9));
    assert!(lively.is_connected());
    b.pass(secs(2));
    assert!(lively.is_eof());
    b.pass(secs(20));
    assert_eq!(b.table.len(), 2);
    assert_eq!(b.table.stats.timeouts_idle.get(), 2);
    let key = b.lines().open.borrow()[2];
    b.table.post(key, Post::Answer("now".into()));
    b.settle();
    b.pass(ms(10_100));
    assert!(waiting.is_eof(), "idle again since it was answered");
    exempt.close();
    b.check_clean();
}

#[test]
fn half_a_command_gains_no_time() {
    let mut b = Bench::with(limits(), SessionConfig { idle: Some(secs(10)), ..SessionConfig::default() });
    let peer = b.connect();
    b.send(&peer, b"echo ha");
    b.pass(ms(9_900));
    assert!(peer.is_connected());
    b.pass(ms(200));
    assert!(peer.is_over());
    b.check_clean();
}

#[test]
fn an_idle_time_of_its_own_takes_effect_at_once() {
    let mut b = Bench::new();
    let peer = b.connect();
    b.send(&peer, b"idle 500\n");
    b.pass(ms(400));
    assert!(peer.is_connected());
    b.pass(ms(200));
    assert!(peer.is_eof());
    b.check_clean();
}

#[test]
fn a_command_that_meets_the_end_of_idle_time_is_answered() {
    for after_us in (9_998_000..=10_002_000).step_by(100) {
        let mut b = Bench::with(limits(), SessionConfig { idle: Some(secs(10)), ..SessionConfig::default() });
        let peer = b.connect();
        b.world.advance(Duration::from_micros(after_us));
        let closed_before = b.table.is_empty();
        peer.write(b"echo just in time\n");
        b.settle();
        assert!(!closed_before && text(&peer) == "just in time\n", "after {after_us} us");
        peer.close();
        b.check_clean();
    }
}

// ----- too many

#[test]
fn at_the_limit_accept_pauses_and_goes_on_when_there_is_room() {
    let mut b = Bench::with(limits(), SessionConfig { connections_max: Some(3), ..SessionConfig::default() });
    let peers = [b.connect(), b.connect(), b.connect()];
    let late = b.connect();
    late.write(b"echo late\n");
    b.settle();
    assert_eq!((b.table.len(), late.received_len()), (3, 0));
    assert!(b.table.stats.accept_paused.get() > 0);
    peers[0].close();
    b.settle();
    assert_eq!(text(&late), "late\n");
    peers.iter().chain([&late]).for_each(Peer::close);
    b.check_clean();
}

#[test]
fn beyond_the_limit_one_is_told_so_where_there_is_a_text_for_it() {
    let full_text = Some(&b"full\n"[..]);
    let config = SessionConfig { connections_max: Some(3), full_text, ..SessionConfig::default() };
    let mut b = Bench::with(limits(), config);
    let peers = [b.connect(), b.connect(), b.connect()];
    for _ in 0..10 {
        let late = b.connect();
        late.write(b"echo late\n");
        b.settle();
        assert_eq!(text(&late), "full\n");
        assert!(late.is_eof() && !late.was_reset());
        late.close();
        b.settle();
    }
    assert_eq!((b.table.len(), b.table.stats.refused_full.get()), (3, 10));
    assert_eq!(b.ask(&peers[0], b"echo in\n"), "in\n");
    peers[1].close();
    b.settle();
    let next = b.connect();
    assert_eq!(b.ask(&next, b"echo in\n"), "in\n");
    peers.iter().chain([&next]).for_each(Peer::close);
    b.check_clean();
}

#[test]
fn those_that_are_told_and_do_not_leave_are_bounded_too() {
    let full_text = Some(&b"full\n"[..]);
    let config = SessionConfig { connections_max: Some(3), full_text, ..SessionConfig::default() };
    let mut b = Bench::with(limits(), config);
    let peers: Vec<Peer> = (0..70).map(|_| b.connect()).collect();
    assert_eq!(b.table.len(), 3 + 64);
    assert!(text(&peers[66]) == "full\n" && text(&peers[67]).is_empty() && peers[67].is_over());
    b.pass(ms(2_200));
    assert_eq!(b.table.len(), 3, "linger_time is over");
    peers.iter().for_each(Peer::close);
    b.check_clean();
}

#[test]
fn one_address_holds_no_more_than_its_share() {
    let mut b = Bench::with(Limits { connections_per_peer_max: 2, ..limits() }, SessionConfig::default());
    let from = |b: &mut Bench, addr: &str| {
        let peer = b.world.connect_from(b.listener, addr.parse().unwrap());
        b.settle();
        peer
    };
    let (a, z) = (from(&mut b, "10.0.0.1:1"), from(&mut b, "10.0.0.1:2"));
    let third = from(&mut b, "10.0.0.1:3");
    assert!(third.is_over());
    assert_eq!(b.table.stats.refused_per_peer.get(), 1);
    let other = from(&mut b, "10.0.0.2:1");
    assert_eq!(b.ask(&other, b"peer\n"), "Some(10.0.0.2:1)\n");
    a.close();
    b.settle();
    let fourth = from(&mut b, "10.0.0.1:4");
    assert_eq!(b.ask(&fourth, b"echo in\n"), "in\n");
    [z, other, fourth].iter().for_each(Peer::close);
    b.check_clean();
}

#[test]
fn addresses_are_known_whatever_the_kernel_can_be_asked() {
    for peer_name in [true, false] {
        let limits = limits();
        let sim = SimConfig { free_running: false, peer_name, ..SimConfig::of(&limits) };
        let mut b = Bench::on(sim, limits, SessionConfig { peers: true, ..SessionConfig::default() });
        let peer = b.world.connect_from(b.listener, "[::ffff:203.0.113.9]:4000".parse().unwrap());
        b.settle();
        assert_eq!(b.ask(&peer, b"peer\n"), "Some(203.0.113.9:4000)\n", "peer_name: {peer_name}");
        peer.close();
        b.check_clean();
    }
}

#[test]
fn no_address_is_told_where_nobody_asked_for_it() {
    let mut b = Bench::new();
    let peer = b.connect();
    assert_eq!(b.ask(&peer, b"peer\n"), "None\n");
}

#[test]
fn lack_of_descriptors_is_waited_out() {
    let mut b = Bench::faulty(1, Faults::none().with(Fault::AcceptTableFull, 1.0), limits());
    let lost = b.connect();
    assert!(lost.is_over());
    assert_eq!(b.table.stats.accept_errors.get(), 1);
    b.world.set_faults(Faults::none());
    let peer = b.connect();
    b.pass(ms(200));
    assert_eq!(b.ask(&peer, b"echo in\n"), "in\n");
    peer.close();
    b.check_clean();
}

#[test]
fn a_reply_for_which_there_is_no_buffer_costs_that_connection_only() {
    let few = PoolConfig {
        small_count: 2,
        medium_count: 0,
        large_count: 0,
        heap_bytes_max: 0,
        ..PoolConfig::default()
    };
    let limits = limits();
    let sim = SimConfig { free_running: false, ..SimConfig::of(&limits) };
    let mut b = Bench::made(sim, limits, SessionConfig::default(), Pools::new(&few).unwrap());
    let (bad, good) = (b.connect(), b.connect());
    b.send(&bad, b"put 100000\necho lost\n");
    assert!(bad.was_reset());
    assert_eq!(b.table.stats.pools_full.get(), 1);
    assert_eq!(b.lines().closed.borrow()[..], [(1, Ending::Starved)]);
    assert_eq!(b.ask(&good, b"echo fine\n"), "fine\n");
    good.close();
    b.check_clean();
}

// ----- drains

fn drain(b: &mut Bench) {
    let table = std::rc::Rc::clone(&b.table);
    b.rt.within(|shard| table.drain(shard));
    b.settle();
}

#[test]
fn a_drain_lets_clients_finish_and_closes_the_idle_ones() {
    let mut b = Bench::new();
    let (idle, busy) = (b.connect(), b.connect());
    let queued = b.world.connect(b.listener);
    drain(&mut b);
    assert_eq!(b.ask(&queued, b"echo queued\n"), "queued\n", "what waited in the listener is served");
    assert_eq!(b.ask(&idle, b"echo still\n"), "still\n");
    assert_eq!(b.table.take_closed_listeners(), [b.listener]);
    assert!(b.table.take_closed_listeners().is_empty());
    b.send(&busy, b"later 5000\necho behind\n");
    b.pass(ms(1_100));
    assert!(idle.is_eof() && !idle.was_reset() && queued.is_eof() && busy.is_connected());
    assert!(!b.table.is_drained());
    b.pass(ms(5_000));
    assert_eq!(text(&busy), "at last\nbehind\n");
    assert!(busy.is_eof());
    assert!(b.table.is_drained());
    let why: Vec<Ending> = b.lines().closed.borrow().iter().map(|&(_, why)| why).collect();
    assert_eq!(why, [Ending::Drained; 3]);
    b.check_clean();
}

#[test]
fn a_protocol_can_send_those_that_wait_away() {
    let mut b = Bench::new();
    let peer = b.connect();
    b.send(&peer, b"wait\n");
    b.lines().drains_with.set(Some(Next::Close));
    drain(&mut b);
    b.pass(ms(1_100));
    assert!(peer.is_eof() && !peer.was_reset());
    peer.close();
    b.settle();
    assert!(b.table.is_drained());
    b.check_clean();
}

#[test]
fn what_is_left_at_the_end_of_a_drain_is_cut() {
    let mut b = Bench::new();
    let peer = b.connect();
    b.send(&peer, b"wait\n");
    drain(&mut b);
    b.pass(ms(29_900));
    assert!(peer.is_connected());
    b.pass(ms(200));
    assert!(peer.was_reset() && b.table.is_drained());
    b.check_clean();
}

#[test]
fn a_drain_ends_with_its_last_connection() {
    let mut b = Bench::new();
    let peer = b.connect();
    drain(&mut b);
    peer.close();
    let mut turns = 0;
    while !b.table.is_drained() {
        assert!(turns < 10 && b.rt.turn(true).unwrap() == Turn::Busy || turns < 3);
        turns += 1;
    }
    drain(&mut b);
    b.check_clean();
}
