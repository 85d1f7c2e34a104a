//! Sleeping, waking, entering only when needed, and the end of a ring.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::{ACCEPT, Bed, OTHER, PATIENCE, RECV, SEND, masks, small, sock, token, without};
use corelane_base::{AcceptMode, Kernel, Op, RecvMode, Signal, Token, Wait};
use corelane_uring::{Features, Ring, RingConfig};

/// Sleeps until something ends it, taking what was left from before first.
fn sleep(ring: &mut Ring, ns: Option<u64>) -> Duration {
    let start = Instant::now();
    ring.enter(Wait::Until(ns)).unwrap();
    start.elapsed()
}

fn settle(ring: &mut Ring) {
    ring.enter(Wait::No).unwrap();
    while ring.pop().is_some() {}
}

#[test]
fn a_timed_sleep_lasts_its_time() {
    for mask in masks() {
        let mut ring = Ring::new(&without(mask)).unwrap();
        settle(&mut ring);
        for ms in [1, 30, 5] {
            // Without `ext_arg` an earlier timer may end a sleep early; the time is slept in pieces.
            let start = Instant::now();
            let wanted = Duration::from_millis(ms);
            while let Some(left) = wanted.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
                sleep(&mut ring, Some(u64::try_from(left.as_nanos()).unwrap()));
                assert!(ring.pop().is_none());
            }
            assert!(start.elapsed() < wanted + Duration::from_secs(2), "{mask}");
        }
        assert!(ring.stats().enters < 20, "{mask}: {:?}", ring.stats());
    }
}

/// The peers of so many connections that are received from.
fn receivers(bed: &mut Bed, of: u32) -> Vec<TcpStream> {
    let pairs: Vec<_> = (0..of).map(|_| bed.pair()).collect();
    for (index, (end, _)) in (0..).zip(&pairs) {
        bed.recv(*end, token(RECV, index), RecvMode::Multi);
    }
    settle(&mut bed.ring);
    pairs.into_iter().map(|(_, peer)| peer).collect()
}

/// Bytes received after a sleep that gathers for up to `ns`, while `count` peers write one each, one a millisecond; and how
/// long it took.
fn gathered(bed: &mut Bed, peers: &mut [TcpStream], count: usize, ns: u64) -> (usize, Duration) {
    let (start, mut got) = (Instant::now(), 0);
    let slept = thread::scope(|scope| {
        scope.spawn(|| {
            for peer in &mut peers[..count] {
                thread::sleep(Duration::from_millis(1));
                peer.write_all(b"x").unwrap();
            }
        });
        // It may end early, for no reason.
        while got == 0 {
            assert!(start.elapsed() < PATIENCE, "nothing came");
            bed.ring.gather(Wait::Until(Some(20_000_000_000)), ns).unwrap();
            while let Some(completion) = bed.ring.pop() {
                got += bed.bytes(&completion).len();
            }
        }
        start.elapsed()
    });
    (got, slept)
}

const TWO_S: u64 = 2_000_000_000;

#[test]
fn a_sleep_that_gathers_lasts_for_a_quarter_of_what_is_under_way_and_no_longer_than_it_may() {
    let mut bed = Bed::new(&RingConfig { recv_buffers: 64, ..small() });
    if bed.ring.lacking().iter().any(|lacks| lacks.feature == Features::MIN_WAIT) {
        eprintln!("skipped: this kernel has no min_wait");
        return;
    }
    let mut peers = receivers(&mut bed, 40);
    let (mut got, slept) = gathered(&mut bed, &mut peers, 30, TWO_S);
    assert!(got >= 10, "{got} of 30 after {slept:?}");
    assert!(slept < Duration::from_secs(2), "{slept:?}: it did not end when enough were there");
    while got < 30 {
        let next = bed.next();
        got += bed.bytes(&next).len();
    }
    let (got, slept) = gathered(&mut bed, &mut peers, 3, TWO_S);
    assert_eq!(got, 3);
    assert!(slept >= Duration::from_secs(2), "{slept:?}: it did not wait for more");
}

#[test]
fn a_sleep_gathers_nothing_for_less_than_a_microsecond_where_little_is_under_way_or_the_kernel_cannot() {
    for (mask, of, ns) in [
        (Features::NONE, 40, 500),
        (Features::NONE, 40, 0),
        (Features::NONE, 20, TWO_S),
        (Features::MIN_WAIT, 40, TWO_S),
        (Features::EXT_ARG, 40, TWO_S),
    ] {
        let mut bed = Bed::new(&without(mask));
        let mut peers = receivers(&mut bed, of);
        let (got, slept) = gathered(&mut bed, &mut peers, 1, ns);
        assert_eq!(got, 1, "{mask}, {of}, {ns} ns");
        assert!(slept < Duration::from_secs(2), "{slept:?} for {mask}, {of}, {ns} ns");
    }
}

#[test]
fn a_sleep_without_an_end_that_gathered_goes_on_for_the_first() {
    let mut bed = Bed::new(&small());
    let mut peers = receivers(&mut bed, 40);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            peers[0].write_all(b"x").unwrap();
        });
        bed.ring.gather(Wait::Until(None), 1_000_000).unwrap();
        let slept = start.elapsed();
        assert!(slept >= Duration::from_millis(300), "{slept:?}: it ended with nothing there");
    });
    let next = bed.next();
    assert_eq!(bed.bytes(&next), b"x");
}

#[test]
fn the_cpu_time_of_a_ring_is_that_of_its_thread() {
    let mut ring = Ring::new(&small()).unwrap();
    let before = ring.cpu_ns();
    thread::sleep(Duration::from_millis(50));
    let slept = ring.cpu_ns();
    assert!(slept - before < 40_000_000, "a sleep took {} ns of CPU", slept - before);
    let start = Instant::now();
    while ring.cpu_ns() - slept < 5_000_000 {
        assert!(start.elapsed() < PATIENCE, "it does not count");
    }
}

#[test]
fn zero_and_no_do_not_sleep() {
    for mask in masks() {
        let mut ring = Ring::new(&without(mask)).unwrap();
        let start = Instant::now();
        for _ in 0..100 {
            ring.enter(Wait::Until(Some(0))).unwrap();
            ring.enter(Wait::No).unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn an_unpark_from_another_thread_ends_the_sleep() {
    for mask in masks() {
        let mut ring = Ring::new(&without(mask)).unwrap();
        for round in 0..5 {
            settle(&mut ring);
            let unpark = ring.unpark();
            let waker = thread::spawn(move || {
                thread::sleep(Duration::from_millis(5));
                unpark.unpark();
            });
            // Half of the rounds sleep without an end: a lost wake hangs the test.
            let end = if round % 2 == 0 { None } else { Some(10_000_000_000) };
            let slept = sleep(&mut ring, end);
            assert!(slept < Duration::from_secs(5), "{mask} {round}: {slept:?}");
            assert!(ring.pop().is_none(), "a wake is no completion");
            waker.join().unwrap();
        }
    }
}

#[test]
fn an_unpark_before_the_sleep_ends_it_at_once() {
    for mask in masks() {
        let mut ring = Ring::new(&without(mask)).unwrap();
        // Even before the ring has ever been entered.
        ring.unpark().unpark();
        assert!(sleep(&mut ring, Some(10_000_000_000)) < Duration::from_secs(5), "{mask}");
        settle(&mut ring);
        ring.unpark().unpark();
        ring.unpark().unpark();
        assert!(sleep(&mut ring, Some(10_000_000_000)) < Duration::from_secs(5), "{mask}");
    }
}

#[test]
fn wakes_that_overflow_the_completion_queue_are_not_lost() {
    let config = corelane_uring::RingConfig { entries: 2, completion_entries: 2, ..small() };
    let mut bed = Bed::new(&config);
    let mut ends: Vec<_> = (0..8).map(|_| bed.pair()).collect();
    for round in 0..50_u32 {
        for (index, (end, _)) in (0..).zip(&ends) {
            bed.recv(*end, token(RECV, index), RecvMode::Once);
        }
        bed.enter();
        for (_, peer) in &mut ends {
            peer.write_all(&round.to_ne_bytes()).unwrap();
        }
        bed.ring.unpark().unpark();
        for index in 0..8 {
            let got = bed.of(token(RECV, index));
            assert_eq!(bed.bytes(&got), round.to_ne_bytes());
        }
        settle(&mut bed.ring);
        bed.ring.unpark().unpark();
        assert!(sleep(&mut bed.ring, Some(10_000_000_000)) < Duration::from_secs(5), "round {round}");
        settle(&mut bed.ring);
    }
    assert!(bed.ring.stats().cq_overflows > 0);
}

#[test]
fn an_unpark_handle_may_outlive_its_ring() {
    let ring = Ring::new(&small()).unwrap();
    let unpark = ring.unpark();
    drop(ring);
    thread::spawn(move || unpark.unpark()).join().unwrap();
}

#[test]
fn an_idle_ring_with_the_taskrun_flag_needs_no_enter_until_something_comes() {
    let mut bed = Bed::new(&small());
    assert!(bed.ring.granted().contains(Features::TASKRUN_FLAG));
    let (end, mut peer) = bed.pair();
    bed.recv(end, token(RECV, 0), RecvMode::Multi);
    assert!(bed.ring.needs_enter());
    settle(&mut bed.ring);
    assert!(!bed.ring.needs_enter());
    peer.write_all(b"x").unwrap();
    let start = Instant::now();
    while !bed.ring.needs_enter() {
        assert!(start.elapsed() < PATIENCE);
        std::hint::spin_loop();
    }
    assert!(bed.ring.pop().is_none());
    bed.enter();
    let got = bed.ring.pop().unwrap();
    assert_eq!(bed.bytes(&got), b"x");
    settle(&mut bed.ring);
    assert!(!bed.ring.needs_enter());
}

/// Whether a descriptor becomes readable in time.
fn is_readable(fd: i32, patience: Duration) -> bool {
    // SAFETY: the test's ring keeps it open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let ms = i32::try_from(patience.as_millis()).unwrap();
    let mut polls = [libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
    // SAFETY: one pollfd.
    unsafe { libc::poll(polls.as_mut_ptr(), 1, ms) == 1 }
}

#[test]
fn a_host_that_sleeps_elsewhere_is_told_of_completions_by_the_signal() {
    let moment = Duration::from_millis(2);
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let (end, mut peer) = bed.pair();
        bed.recv(end, token(RECV, 0), RecvMode::Multi);
        let signal = bed.ring.signal_fd().unwrap();
        assert_eq!(bed.ring.signal_fd().unwrap(), signal, "{mask}: one a ring");
        settle(&mut bed.ring);
        bed.ring.set_signal(true);
        settle(&mut bed.ring);
        bed.ring.drain_signal();
        assert!(bed.ring.is_quiet() && !is_readable(signal, moment), "{mask}");
        peer.write_all(b"x").unwrap();
        assert!(is_readable(signal, PATIENCE), "{mask}");
        let got = bed.of(token(RECV, 0));
        assert_eq!(bed.bytes(&got), b"x");
        settle(&mut bed.ring);
        bed.ring.drain_signal();
        assert!(bed.ring.is_quiet() && !is_readable(signal, moment), "{mask}");
        bed.ring.unpark().unpark();
        assert!(is_readable(signal, PATIENCE), "{mask}: by another thread");
        bed.ring.drain_signal();
        bed.ring.set_signal(false);
        peer.write_all(b"y").unwrap();
        assert!(!is_readable(signal, moment), "{mask}: turned off");
        let got = bed.of(token(RECV, 0));
        assert_eq!(bed.bytes(&got), b"y");
    }
}

#[test]
fn a_ring_with_something_to_take_or_to_hand_over_is_not_quiet() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let (end, mut peer) = bed.pair();
        settle(&mut bed.ring);
        assert!(bed.ring.is_quiet(), "{mask}");
        bed.ring.push(Op::Recv { sock: end, token: token(RECV, 0), mode: RecvMode::Multi }).unwrap();
        assert!(!bed.ring.is_quiet(), "{mask}: an operation is queued");
        settle(&mut bed.ring);
        peer.write_all(b"x").unwrap();
        let mut rounds = 0;
        while bed.ring.is_quiet() && rounds < 2_000 {
            // Where the kernel cannot say that work waits, the enter that comes before a look runs it.
            bed.ring.enter(Wait::No).unwrap();
            thread::sleep(Duration::from_millis(1));
            rounds += 1;
        }
        assert!(!bed.ring.is_quiet(), "{mask}: bytes came");
        let got = bed.of(token(RECV, 0));
        assert_eq!(bed.bytes(&got), b"x");
    }
}

#[test]
fn a_full_submission_queue_gives_the_operation_back_unchanged() {
    let mut bed = Bed::new(&small());
    settle(&mut bed.ring);
    let mut taken = 0;
    let back = loop {
        match bed.ring.push(Op::Cancel { target: token(RECV, 0), token: token(OTHER, taken) }) {
            Ok(()) => taken += 1,
            Err(op) => break op,
        }
    };
    assert_eq!(taken, 64);
    assert!(matches!(back, Op::Cancel { token, .. } if token == common::token(OTHER, 64)));
    let data = bed.chain(b"kept");
    let Err(Op::Send { data, .. }) =
        bed.ring.push(Op::Send { sock: corelane_base::Sock(0), token: token(SEND, 0), data })
    else {
        panic!("it was taken")
    };
    assert_eq!(data.first(), b"kept");
    bed.enter();
    for index in 0..taken {
        assert_eq!(bed.of(token(OTHER, index)).result, -libc::ENOENT);
    }
}

#[test]
fn a_full_table_of_flights_gives_the_operation_back_and_cancels_still_go_through() {
    let config = corelane_uring::RingConfig { completion_entries: 64, descriptors: 16, ..small() };
    assert_eq!(config.flights_max(), 96);
    let mut bed = Bed::new(&config);
    let (listener, _) = bed.listen();
    let mut count = 0;
    while count < 1000 {
        let op = Op::Accept { listener, token: token(ACCEPT, count), mode: AcceptMode::OneWithPeer };
        match bed.ring.push(op) {
            Ok(()) => count += 1,
            Err(_) if bed.ring.flights() < config.flights_max() => bed.enter(),
            Err(_) => break,
        }
    }
    assert_eq!(count, config.flights_max());
    bed.enter();
    for index in 0..count {
        bed.push(Op::Cancel { target: token(ACCEPT, index), token: Token::NONE });
    }
    for index in 0..count {
        assert_eq!(bed.of(token(ACCEPT, index)).result, -libc::ECANCELED);
    }
    assert_eq!(bed.ring.flights(), 0);
}

#[test]
fn a_dropped_ring_gives_its_memory_back_and_its_peers_see_the_end() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let (end, mut peer) = bed.pair();
        let (second, _second_peer) = bed.pair();
        bed.recv(end, token(RECV, 0), RecvMode::Multi);
        let data = bed.chain(&vec![1; 1 << 20]);
        bed.send(second, token(SEND, 0), data);
        for index in 1..20 {
            let more = bed.chain(&vec![1; 1 << 20]);
            bed.send(second, token(SEND, index), more);
        }
        bed.enter();
        let Bed { ring, pools, held } = bed;
        drop(held);
        assert!(pools.stats().lent() > 0);
        let start = Instant::now();
        drop(ring);
        // It waits for two seconds for what does not end, and then leaks it.
        assert!(start.elapsed() < Duration::from_millis(1_900), "{mask}: {:?}", start.elapsed());
        assert_eq!(pools.stats().lent(), 0, "{mask}: leaked");
        if !mask.contains(Features::DIRECT) {
            // The kernel takes a ring apart on the thread that made it, which may interrupt a call.
            let read = loop {
                match peer.read(&mut [0; 1]) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            assert_eq!(read.unwrap(), 0, "{mask}");
        }
    }
}

#[test]
fn rings_may_come_and_go_on_one_thread() {
    // A thread has 16 places for registered rings; each must be given back.
    for _ in 0..40 {
        let ring = Ring::new(&small()).unwrap();
        assert!(ring.granted().contains(Features::RING_FD));
    }
}

#[test]
fn the_clock_is_monotonic_and_knows_the_year() {
    let mut ring = Ring::new(&small()).unwrap();
    let first = ring.clock();
    thread::sleep(Duration::from_millis(2));
    let second = ring.clock();
    assert!(second.mono_ns >= first.mono_ns + 2_000_000);
    assert!(second.unix_s > 1_700_000_000);
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(second.unix_s.abs_diff(unix) <= 2);
}

#[test]
fn stats_count_what_was_done() {
    let mut bed = Bed::new(&small());
    let (listener, addr) = bed.listen();
    bed.accept(listener, token(ACCEPT, 0), AcceptMode::Multi);
    bed.enter();
    let _peer = TcpStream::connect(addr).unwrap();
    let end = sock(bed.of(token(ACCEPT, 0)).result);
    bed.send(end, token(SEND, 0), "x");
    bed.of(token(SEND, 0));
    let stats = bed.ring.stats();
    // The watch over unparks, the accept, the send.
    assert_eq!((stats.submitted, stats.completed), (3, 2));
    assert!(stats.enters >= 2);
    let unpark = bed.ring.unpark();
    assert_eq!(Arc::strong_count(&unpark), 2);
}
