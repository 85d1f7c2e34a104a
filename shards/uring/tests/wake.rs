//! Wakes from one ring to another: that they arrive, that they cost the sender nothing but the entry, and what
//! happens where they cannot be.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{Bed, PATIENCE, RECV, SEND, masks, read, small, token, without};
use corelane_base::{Kernel, Op, RecvMode, Unpark, Wait};
use corelane_uring::{Features, Ring, RingConfig};

const LONG: Option<u64> = Some(10_000_000_000);

fn wake(ring: &mut Ring, peer: &Arc<dyn Unpark>) {
    assert!(ring.push(Op::Wake { peer: Arc::clone(peer) }).is_ok());
}

fn settle(ring: &mut Ring) {
    ring.enter(Wait::No).unwrap();
    while ring.pop().is_some() {}
}

/// A ring on a thread of its own that sleeps without end until the round it waits for has begun.
struct Sleeper {
    handle: Arc<dyn Unpark>,
    round: Arc<AtomicU32>,
    awake: std::sync::mpsc::Receiver<u32>,
    thread: JoinHandle<u64>,
}

impl Sleeper {
    fn start(config: RingConfig, rounds: u32) -> Sleeper {
        let (up, handle) = channel();
        let (tell, awake): (Sender<u32>, _) = channel();
        let round = Arc::new(AtomicU32::new(0));
        let begun = Arc::clone(&round);
        let thread = thread::spawn(move || {
            let mut ring = Ring::new(&config).unwrap();
            up.send(ring.unpark()).unwrap();
            for wanted in 1..=rounds {
                while begun.load(Ordering::SeqCst) < wanted {
                    ring.enter(Wait::Until(None)).unwrap();
                    assert!(ring.pop().is_none(), "a wake is no completion");
                }
                tell.send(wanted).unwrap();
            }
            settle(&mut ring);
            ring.wakes_received()
        });
        Sleeper { handle: handle.recv_timeout(PATIENCE).unwrap(), round, awake, thread }
    }

    /// The next round begins; a wake must follow.
    fn begin(&self) {
        self.round.fetch_add(1, Ordering::SeqCst);
    }

    fn woke(&self, sender: &str) {
        let round = self.round.load(Ordering::SeqCst);
        assert_eq!(self.awake.recv_timeout(PATIENCE), Ok(round), "slept over a wake of {sender}");
    }
}

#[test]
fn a_wake_from_another_ring_ends_a_sleep_without_end() {
    let rounds = 12;
    let all = masks();
    let pairs = all.iter().flat_map(|&mask| [(mask, Features::NONE), (Features::NONE, mask), (mask, mask)]);
    for (from, to) in pairs {
        let mut ring = Ring::new(&without(from)).unwrap();
        let sleeper = Sleeper::start(without(to), rounds);
        for round in 0..rounds {
            // Every other round it has the time to fall asleep.
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            sleeper.begin();
            wake(&mut ring, &sleeper.handle);
            ring.enter(Wait::No).unwrap();
            sleeper.woke(&format!("{from} to {to}"));
            assert!(ring.pop().is_none(), "a wake has no completion");
        }
        let received = sleeper.thread.join().unwrap();
        let written = !from.contains(Features::MSG_RING) && !to.contains(Features::MSG_RING);
        assert_eq!(received, if written { rounds.into() } else { 0 }, "{from} to {to}");
    }
}

#[test]
fn rings_that_wake_each_other_in_turn_do_not_stop() {
    let rounds = 5_000;
    // The second begins.
    let balls = [Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0))];
    let player = move |mut ring: Ring, mine: Arc<AtomicU32>, other: Arc<AtomicU32>, peer: Arc<dyn Unpark>| {
        for round in 1..=rounds {
            while mine.load(Ordering::SeqCst) < round {
                let start = Instant::now();
                ring.enter(Wait::Until(LONG)).unwrap();
                assert!(start.elapsed() < Duration::from_secs(5), "round {round}");
                assert!(ring.pop().is_none());
            }
            other.fetch_add(1, Ordering::SeqCst);
            wake(&mut ring, &peer);
        }
        ring.enter(Wait::No).unwrap();
        ring.stats().enters
    };
    let ((up_a, a), (up_b, b)) = (channel(), channel());
    let second = {
        let [mine, other] = balls.clone();
        thread::spawn(move || {
            let ring = Ring::new(&small()).unwrap();
            up_b.send(ring.unpark()).unwrap();
            player(ring, mine, other, a.recv_timeout(PATIENCE).unwrap())
        })
    };
    let ring = Ring::new(&small()).unwrap();
    up_a.send(ring.unpark()).unwrap();
    let [other, mine] = balls;
    let first = player(ring, mine, other, b.recv_timeout(PATIENCE).unwrap());
    let second = second.join().unwrap();
    // A wake and the sleep that follows it are one enter.
    let rounds = u64::from(rounds);
    assert!(first < rounds * 3 / 2, "{first} enters");
    assert!(second < rounds * 3 / 2, "{second} enters");
}

#[test]
fn a_wake_does_not_end_the_senders_own_sleep() {
    let sleeper = Sleeper::start(small(), 1);
    let mut ring = Ring::new(&small()).unwrap();
    settle(&mut ring);
    sleeper.begin();
    wake(&mut ring, &sleeper.handle);
    let start = Instant::now();
    ring.enter(Wait::Until(Some(30_000_000))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(30), "{:?}", start.elapsed());
    sleeper.woke("a sender that sleeps");
    assert_eq!(sleeper.thread.join().unwrap(), 1);
}

#[test]
fn a_wake_before_the_sleep_ends_it_at_once() {
    for mask in masks() {
        let (mut ring, mut target) = (Ring::new(&without(mask)).unwrap(), Ring::new(&small()).unwrap());
        let peer = target.unpark();
        for round in 0..3 {
            // The first time even before the target has ever been entered.
            wake(&mut ring, &peer);
            wake(&mut ring, &peer);
            ring.enter(Wait::No).unwrap();
            let start = Instant::now();
            target.enter(Wait::Until(LONG)).unwrap();
            assert!(start.elapsed() < Duration::from_secs(5), "{mask} {round}");
            settle(&mut target);
        }
    }
}

#[test]
fn wakes_that_meet_a_full_completion_queue_are_not_lost() {
    let mut sender = Ring::new(&small()).unwrap();
    let config = RingConfig { entries: 2, completion_entries: 2, ..small() };
    let mut bed = Bed::new(&config);
    let peer = bed.ring.unpark();
    let mut ends: Vec<_> = (0..8).map(|_| bed.pair()).collect();
    for round in 0..50_u32 {
        for (index, (end, _)) in (0..).zip(&ends) {
            bed.recv(*end, token(RECV, index), RecvMode::Once);
        }
        bed.enter();
        for (_, end) in &mut ends {
            end.write_all(&round.to_ne_bytes()).unwrap();
        }
        while !bed.ring.needs_enter() {
            std::hint::spin_loop();
        }
        // Nothing is taken: what finds no place waits in the kernel, wakes as well.
        bed.enter();
        let before = bed.ring.wakes_received();
        for _ in 0..3 {
            wake(&mut sender, &peer);
            sender.enter(Wait::No).unwrap();
            assert!(sender.pop().is_none());
        }
        for index in 0..8 {
            let got = bed.of(token(RECV, index));
            assert_eq!(bed.bytes(&got), round.to_ne_bytes());
        }
        let start = Instant::now();
        while bed.ring.wakes_received() < before + 3 {
            assert!(start.elapsed() < PATIENCE, "lost in round {round}");
            settle(&mut bed.ring);
        }
        wake(&mut sender, &peer);
        sender.enter(Wait::No).unwrap();
        let start = Instant::now();
        bed.ring.enter(Wait::Until(LONG)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "round {round}");
        settle(&mut bed.ring);
    }
    assert!(bed.ring.stats().cq_overflows > 0);
    assert_eq!(bed.ring.wakes_received(), 200);
    assert_eq!(bed.ring.stats().dropped, 0);
}

/// Says that another ring may be written to at a descriptor that is none, and counts what it is told itself.
#[derive(Debug)]
struct Pretender {
    ring: i32,
    rings: AtomicU32,
    _fd: Option<OwnedFd>,
}

impl Pretender {
    fn new(fd: Option<OwnedFd>) -> Arc<Pretender> {
        let ring = fd.as_ref().map_or(1 << 29, AsRawFd::as_raw_fd);
        Arc::new(Pretender { ring, rings: AtomicU32::new(0), _fd: fd })
    }
}

impl Unpark for Pretender {
    fn unpark(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
    }

    fn ring(&self) -> Option<i32> {
        Some(self.ring)
    }
}

#[test]
fn a_wake_that_cannot_be_written_is_made_by_the_handle() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let disabled = io_uring::IoUring::<io_uring::squeue::Entry, io_uring::cqueue::Entry>::builder()
        .setup_r_disabled()
        .build(4)
        .unwrap();
    let not_yet = Arc::new(Pretender { ring: disabled.as_raw_fd(), rings: AtomicU32::new(0), _fd: None });
    for mask in masks() {
        let mut ring = Ring::new(&without(mask)).unwrap();
        let no_ring = Pretender::new(Some(file.try_clone().unwrap().into()));
        for pretender in [no_ring, Pretender::new(None), Arc::clone(&not_yet)] {
            let before = pretender.rings.load(Ordering::SeqCst);
            let peer = Arc::clone(&pretender) as Arc<dyn Unpark>;
            for _ in 0..3 {
                wake(&mut ring, &peer);
            }
            settle(&mut ring);
            assert_eq!(pretender.rings.load(Ordering::SeqCst) - before, 3, "{mask}");
        }
        assert_eq!((ring.flights(), ring.failed_unseen()), (0, 0));
    }
}

/// What a descriptor of this process is.
fn what_is(fd: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap()
}

#[test]
fn the_number_of_a_ring_that_is_gone_reaches_no_other_ring() {
    let mut sender = Ring::new(&small()).unwrap();
    let gone = Ring::new(&small()).unwrap();
    let handle = gone.unpark();
    let number = handle.ring().unwrap();
    assert_eq!(what_is(number), PathBuf::from("anon_inode:[io_uring]"));
    wake(&mut sender, &handle);
    sender.enter(Wait::No).unwrap();
    drop(gone);
    assert_eq!(what_is(number), PathBuf::from("anon_inode:[eventfd]"));
    let mut later: Vec<Ring> = (0..4).map(|_| Ring::new(&small()).unwrap()).collect();
    assert!(later.iter().all(|ring| ring.unpark().ring() != Some(number)));
    wake(&mut sender, &handle);
    // The handle may go while its number stands in the queue.
    drop(handle);
    let newest = Ring::new(&small()).unwrap();
    assert_ne!(newest.unpark().ring(), Some(number));
    settle(&mut sender);
    for ring in &mut later {
        settle(ring);
        assert_eq!(ring.wakes_received(), 0);
    }
}

#[test]
fn a_handle_keeps_neither_its_rings_sockets_nor_its_memory() {
    for mask in masks().into_iter().filter(|mask| !mask.contains(Features::DIRECT)) {
        let mut bed = Bed::new(&without(mask));
        let handle = bed.ring.unpark();
        let (end, mut peer) = bed.pair();
        let data = bed.chain(b"x");
        bed.send(end, token(SEND, 0), data);
        assert_eq!(bed.of(token(SEND, 0)).result, 1);
        drop(bed);
        let mut got = [0; 8];
        assert_eq!((read(&mut peer, &mut got), got[0]), (1, b'x'), "{mask}");
        assert_eq!(read(&mut peer, &mut got), 0, "{mask}: still open");
        drop(handle);
    }
}

#[test]
fn rings_that_come_and_go_are_woken_each_by_its_own_number() {
    let mut sender = Ring::new(&small()).unwrap();
    for round in 0..20 {
        let mut target = Ring::new(&small()).unwrap();
        let peer = target.unpark();
        wake(&mut sender, &peer);
        wake(&mut sender, &peer);
        sender.enter(Wait::No).unwrap();
        settle(&mut target);
        assert_eq!(target.wakes_received(), 2, "round {round}");
    }
}
