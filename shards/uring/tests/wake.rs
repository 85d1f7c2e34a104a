//! Wakes from one shard's thread to another's: that none is lost, and what a handle keeps of a ring that is gone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{Bed, PATIENCE, RECV, SEND, masks, read, small, token, without};
use corelane_base::{Kernel, RecvMode, Unpark, Wait};
use corelane_uring::{Features, Ring, RingConfig};

const LONG: Option<u64> = Some(10_000_000_000);

fn settle(ring: &mut Ring) {
    ring.enter(Wait::No).unwrap();
    while ring.pop().is_some() {}
}

/// A ring on a thread of its own that sleeps without end until the round it waits for has begun.
struct Sleeper {
    handle: Arc<dyn Unpark>,
    round: Arc<AtomicU32>,
    awake: std::sync::mpsc::Receiver<u32>,
    thread: JoinHandle<()>,
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
        });
        Sleeper { handle: handle.recv_timeout(PATIENCE).unwrap(), round, awake, thread }
    }

    /// The next round begins; a wake must follow.
    fn begin(&self) {
        self.round.fetch_add(1, Ordering::SeqCst);
    }

    #[track_caller]
    fn woke(&self, which: &str) {
        let round = self.round.load(Ordering::SeqCst);
        assert_eq!(self.awake.recv_timeout(PATIENCE), Ok(round), "{which}: slept over a wake");
    }
}

#[test]
fn a_wake_from_another_thread_ends_a_sleep_without_end() {
    let rounds = 40;
    for mask in masks() {
        let sleeper = Sleeper::start(without(mask), rounds);
        for round in 0..rounds {
            // Every other round it has the time to fall asleep.
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            sleeper.begin();
            sleeper.handle.unpark();
            sleeper.woke(&mask.to_string());
        }
        sleeper.thread.join().unwrap();
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
            peer.unpark();
        }
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
    // A wake ends one sleep, and costs its sender no enter.
    let rounds = u64::from(rounds);
    assert!(first < rounds * 3 / 2, "{first} enters");
    assert!(second < rounds * 3 / 2, "{second} enters");
}

#[test]
fn wakes_that_meet_a_full_completion_queue_are_not_lost() {
    let config = RingConfig { entries: 2, completion_entries: 2, ..small() };
    let mut bed = Bed::new(&config);
    let peer = bed.ring.unpark();
    let wakes = |count: u32, after: Duration| {
        let peer = Arc::clone(&peer);
        thread::spawn(move || {
            thread::sleep(after);
            (0..count).for_each(|_| peer.unpark());
        })
    };
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
        // Nothing is taken: what finds no place waits in the kernel, and ends the poll of the eventfd.
        bed.enter();
        wakes(3, Duration::ZERO).join().unwrap();
        bed.enter();
        for index in 0..8 {
            let got = bed.of(token(RECV, index));
            assert_eq!(bed.bytes(&got), round.to_ne_bytes());
        }
        settle(&mut bed.ring);
        // It is heard again, as it sleeps or before.
        let waker = wakes(1, Duration::from_millis(u64::from(round % 2)));
        let start = Instant::now();
        bed.ring.enter(Wait::Until(LONG)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "round {round}");
        waker.join().unwrap();
        settle(&mut bed.ring);
    }
    assert!(bed.ring.stats().cq_overflows > 0);
    assert_eq!(bed.ring.stats().dropped, 0);
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
