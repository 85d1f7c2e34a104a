//! Models: rules 1 to 8 of the crate over every interleaving, and every value a load may see, up to a bound.
//!
//! Run by `scripts/loom`, which sets the bound. Threads are few and do little, for what loom visits grows with
//! the power of both. A model that deadlocks, races on a slot or leaks a ring fails by itself.
//!
//! Not here: long runs on real threads, and models of single threads (`ring/tests.rs`, `mesh/tests.rs`).

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize as Counter, Ordering::Relaxed as Counted};

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::ring::lane_at;
use crate::{Consumer, Door, MeshConfig, Port, Producer, lane, mesh};

/// A value that is counted while it lives. Not by an atomic of the model, which would order the threads.
#[derive(Debug)]
struct Live(usize, std::sync::Arc<Counter>);

impl Live {
    fn new(number: usize, count: &std::sync::Arc<Counter>) -> Live {
        count.fetch_add(1, Counted);
        Live(number, std::sync::Arc::clone(count))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Counted);
    }
}

/// What a thread sleeps on: remembers one ring, as an eventfd does.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
    rings: Counter,
}

impl Bell {
    fn ring(&self) {
        self.rings.fetch_add(1, Counted);
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

fn push_all(producer: &mut Producer<usize>, values: impl Iterator<Item = usize>) {
    for value in values {
        while producer.push(value).is_err() {
            thread::yield_now();
        }
        assert!(producer.publish());
    }
}

fn pop_one(consumer: &mut Consumer<usize>) -> usize {
    loop {
        match consumer.pop() {
            Some(value) => return value,
            None => thread::yield_now(),
        }
    }
}

#[test]
fn a_lane_of_one_hands_over_each_value_once_and_in_order() {
    loom::model(|| {
        // From the last position, so that positions wrap on the way.
        let (mut producer, mut consumer) = lane_at(1, usize::MAX);
        let pushing = thread::spawn(move || push_all(&mut producer, 0..3));
        assert_eq!([pop_one(&mut consumer), pop_one(&mut consumer), pop_one(&mut consumer)], [0, 1, 2]);
        pushing.join().unwrap();
        assert_eq!(consumer.pop(), None);
        assert_eq!(consumer.depth(), 0);
    });
}

#[test]
fn a_lane_of_two_reuses_its_slots_only_after_they_were_taken() {
    loom::model(|| {
        let (mut producer, mut consumer) = lane(2);
        let pushing = thread::spawn(move || push_all(&mut producer, 0..4));
        assert_eq!([(); 4].map(|()| pop_one(&mut consumer)), [0, 1, 2, 3]);
        pushing.join().unwrap();
        assert_eq!(consumer.pop(), None);
    });
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    loom::model(|| {
        let (mut producer, mut consumer) = lane(3);
        let pushing = thread::spawn(move || {
            producer.push(0).unwrap();
            producer.push(1).unwrap();
            producer.publish();
            producer.push(2).unwrap();
            producer.publish();
            let before = producer.depth();
            assert!(before <= 3);
        });
        let mut taken = Vec::new();
        while taken.len() < 3 {
            let before = taken.len();
            match consumer.pop_into(usize::MAX, &mut taken) {
                0 => thread::yield_now(),
                count => assert_ne!((before, count), (0, 1), "half of the first batch"),
            }
        }
        assert_eq!(taken, [0, 1, 2]);
        pushing.join().unwrap();
    });
}

#[test]
fn what_is_left_in_a_lane_is_dropped_once_whichever_end_goes_last() {
    loom::model(|| {
        let alive = std::sync::Arc::new(Counter::new(0));
        let (mut producer, mut consumer) = lane(2);
        let values = std::sync::Arc::clone(&alive);
        let pushing = thread::spawn(move || {
            producer.push(Live::new(0, &values)).unwrap();
            producer.publish();
            producer.push(Live::new(1, &values)).unwrap();
            producer.publish();
            // Never published, and there is room for it only if the consumer made some.
            let _ = producer.push(Live::new(2, &values));
        });
        if let Some(value) = consumer.pop() {
            assert_eq!(value.0, 0);
        }
        drop(consumer);
        pushing.join().unwrap();
        assert_eq!(alive.load(Counted), 0);
    });
}

/// A consumer that takes `expected` values of `lanes` by the door's bits, and sleeps when it finds nothing.
/// Returns how often it announced to sleep.
fn take_by_door(door: &Door, bell: &Bell, lanes: &mut [Consumer<usize>], expected: usize) -> usize {
    let (mut taken, mut announced) = (0, 0);
    loop {
        let mut bits = door.take_word(0);
        while bits != 0 {
            let from = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            while let Some(value) = lanes[from].pop() {
                assert_eq!(value, from);
                taken += 1;
            }
        }
        assert!(taken <= expected);
        if taken == expected {
            return announced;
        }
        announced += 1;
        door.announce_sleep();
        if door.is_quiet() {
            bell.wait();
        }
        door.awake();
    }
}

#[test]
fn two_producers_wake_a_sleeper_and_no_message_is_slept_over() {
    loom::model(|| {
        let (door, bell) = (Door::new(2), Arc::new(Bell::default()));
        let mut lanes = Vec::new();
        let mut threads = Vec::new();
        for from in 0..2 {
            let (mut producer, consumer) = lane(1);
            lanes.push(consumer);
            let (door, bell) = (Arc::clone(&door), Arc::clone(&bell));
            threads.push(thread::spawn(move || {
                producer.push(from).unwrap();
                producer.publish();
                if door.knock(from) {
                    bell.ring();
                }
            }));
        }
        let announced = take_by_door(&door, &bell, &mut lanes, 2);
        for thread in threads {
            thread.join().unwrap();
        }
        let rings = bell.rings.load(Counted);
        assert!(rings <= announced, "{rings} rings for {announced} sleeps");
        assert!(!door.sleeps());
    });
}

#[test]
fn a_producer_that_knocks_twice_is_heard_twice() {
    loom::model(|| {
        let (door, bell) = (Door::new(1), Arc::new(Bell::default()));
        // Room for two: the second push does not wait for the first to be taken, which would order them.
        let (mut producer, consumer) = lane(2);
        let knocking = {
            let (door, bell) = (Arc::clone(&door), Arc::clone(&bell));
            thread::spawn(move || {
                for _ in 0..2 {
                    producer.push(0).unwrap();
                    producer.publish();
                    if door.knock(0) {
                        bell.ring();
                    }
                }
            })
        };
        let announced = take_by_door(&door, &bell, &mut [consumer], 2);
        knocking.join().unwrap();
        assert!(bell.rings.load(Counted) <= announced);
    });
}

#[test]
fn exactly_one_of_three_rings_a_sleeper() {
    loom::model(|| {
        let door = Door::new(2);
        let rings = Arc::new(Counter::new(0));
        // It sleeps, for good: nobody wakes in this model.
        door.announce_sleep();
        assert!(door.is_quiet());
        let come = |ask: fn(&Door) -> bool| {
            let (door, rings) = (Arc::clone(&door), Arc::clone(&rings));
            thread::spawn(move || {
                rings.fetch_add(usize::from(ask(&door)), Counted);
            })
        };
        let threads = [come(|door| door.knock(0)), come(|door| door.knock(1)), come(Door::must_ring)];
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(rings.load(Counted), 1);
        assert!(!door.sleeps());
    });
}

#[test]
fn a_push_to_any_other_queue_is_not_slept_over() {
    loom::model(|| {
        let (door, bell) = (Door::new(1), Arc::new(Bell::default()));
        // A queue that orders nothing at all by itself.
        let queue = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..2)
            .map(|at| {
                let (door, bell, queue) = (Arc::clone(&door), Arc::clone(&bell), Arc::clone(&queue));
                thread::spawn(move || {
                    queue.fetch_or(1 << at, Ordering::Relaxed);
                    if door.must_ring() {
                        bell.ring();
                    }
                })
            })
            .collect();
        let mut announced = 0;
        while queue.load(Ordering::Relaxed) != 3 {
            announced += 1;
            door.announce_sleep();
            if queue.load(Ordering::Relaxed) != 3 {
                bell.wait();
            }
            door.awake();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(bell.rings.load(Counted) <= announced);
    });
}

#[test]
fn who_wakes_by_itself_still_sees_every_push_before_its_next_sleep() {
    loom::model(|| {
        let (door, bell) = (Door::new(1), Arc::new(Bell::default()));
        let queue = Arc::new(AtomicUsize::new(0));
        let come = |pushed: usize| {
            let (door, bell, queue) = (Arc::clone(&door), Arc::clone(&bell), Arc::clone(&queue));
            thread::spawn(move || {
                queue.fetch_add(pushed, Ordering::Relaxed);
                if door.must_ring() {
                    bell.ring();
                }
            })
        };
        // The first may ring for a sleep that the consumer gave up; the second then finds nobody asleep.
        let threads = [come(0), come(1)];
        door.announce_sleep();
        door.awake();
        while queue.load(Ordering::Relaxed) == 0 {
            door.announce_sleep();
            if queue.load(Ordering::Relaxed) == 0 {
                bell.wait();
            }
            door.awake();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// Takes until `enough`, and sleeps when there is nothing. Rings `bell_of` who must be rung.
fn serve(
    port: &mut Port<usize, usize>,
    bells: &[Bell; 2],
    mut enough: impl FnMut(&mut Port<usize, usize>, Vec<(usize, usize)>, Vec<(usize, usize)>) -> bool,
) {
    loop {
        let (mut requests, mut responses) = (Vec::new(), Vec::new());
        port.take(1, &mut requests, &mut responses);
        if enough(port, requests, responses) {
            return;
        }
        port.door().announce_sleep();
        if port.is_quiet() {
            bells[port.here()].wait();
        }
        port.door().awake();
    }
}

#[test]
fn a_call_on_a_mesh_with_one_credit_is_answered() {
    loom::model(|| {
        let mut ports = mesh(&MeshConfig { shards: 2, credits: 1 }).into_iter();
        let (mut here, mut there) = (ports.next().unwrap(), ports.next().unwrap());
        let bells = Arc::new([Bell::default(), Bell::default()]);
        let serving = {
            let bells = Arc::clone(&bells);
            thread::spawn(move || {
                serve(&mut there, &bells, |port, requests, responses| {
                    assert!(responses.is_empty());
                    for (from, request) in &requests {
                        port.respond(*from, request + 1);
                    }
                    port.publish(|shard| bells[shard].ring());
                    !requests.is_empty()
                });
            })
        };
        here.request(1, 7).unwrap();
        assert_eq!(here.request(1, 8), Err(8));
        here.publish(|shard| bells[shard].ring());
        serve(&mut here, &bells, |port, requests, responses| {
            assert!(requests.is_empty());
            assert_eq!(port.credits(1) as usize, responses.len());
            !responses.is_empty() && responses == [(1, 8)]
        });
        serving.join().unwrap();
    });
}
