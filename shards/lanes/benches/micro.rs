//! Micro benches of lanes, doors and meshes: what a message costs by itself, in a batch, and from thread to
//! thread.
//!
//! On one thread all lines are in the own cache: what our instructions cost. Between two threads it is mostly
//! the memory system; the two spin, with a pause for others, each on a CPU of its own where there are two. A
//! message is 16 bytes, as between shards.
//!
//! Not here: whole turns, sleeping and waking (`cargo run --release -p bench -- mesh`).

#![allow(clippy::unwrap_used)]

#[path = "../../base/benches/shared/mod.rs"]
mod shared;

use std::thread;

use corelane_lanes::{Consumer, Door, MeshConfig, Port, Producer, lane, mesh};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

/// What goes over: two words, as a boxed trait object has.
type Message = (u64, u64);

const CAPACITY: usize = 1024;

/// Publishes each message, and takes each by itself.
#[divan::bench]
fn push_publish_pop(bencher: Bencher<'_, '_>) {
    let (mut producer, mut consumer) = lane::<Message>(CAPACITY);
    bencher.counter(ItemsCount::new(1_usize)).bench_warm(|| {
        producer.push(black_box((1, 2))).unwrap();
        producer.publish();
        consumer.pop().unwrap()
    });
}

/// Publishes once for many messages, and takes them at once.
#[divan::bench(args = [16, 256])]
fn push_many_pop_many(bencher: Bencher<'_, '_>, count: usize) {
    let (mut producer, mut consumer) = lane::<Message>(CAPACITY);
    let mut out = Vec::with_capacity(count);
    bencher.counter(ItemsCount::new(count)).bench_warm(|| {
        for _ in 0..count {
            producer.push(black_box((1, 2))).unwrap();
        }
        producer.publish();
        assert_eq!(consumer.pop_into(count, &mut out), count);
        out.clear();
    });
}

/// A look at a lane that has nothing.
#[divan::bench]
fn pop_of_an_empty_lane(bencher: Bencher<'_, '_>) {
    let (_producer, mut consumer) = lane::<Message>(CAPACITY);
    bencher.bench_warm(|| consumer.pop().is_none());
}

/// A push that is told that the lane is full.
#[divan::bench]
fn push_to_a_full_lane(bencher: Bencher<'_, '_>) {
    let (mut producer, _consumer) = lane::<Message>(1);
    producer.push((1, 2)).unwrap();
    bencher.bench_warm(|| producer.push(black_box((1, 2))).is_err());
}

#[divan::bench]
fn knock_at_a_door_that_is_awake(bencher: Bencher<'_, '_>) {
    let door = Door::new(8);
    bencher.bench_warm(|| assert!(!door.knock(black_box(3))));
}

/// All that a shard does about a sleep in which one producer rings.
#[divan::bench]
fn announce_a_sleep_and_be_rung(bencher: Bencher<'_, '_>) {
    let (mut ports, mut out) = (mesh::<Message, Message>(&MeshConfig { shards: 2, credits: 4 }), Vec::new());
    let mut none = Vec::new();
    bencher.bench_warm(|| {
        let door = ports[0].door();
        door.announce_sleep();
        assert!(ports[0].is_quiet());
        assert!(door.knock(1));
        door.awake();
        ports[0].take(16, &mut out, &mut none);
    });
}

/// One port's part of a turn in which nobody sent anything.
#[divan::bench(args = [2, 64])]
fn take_from_a_quiet_mesh(bencher: Bencher<'_, '_>, shards: usize) {
    let mut ports = mesh::<Message, Message>(&MeshConfig { shards, credits: 4 });
    let (mut requests, mut responses) = (Vec::new(), Vec::new());
    bencher.bench_warm(|| ports[0].take(16, &mut requests, &mut responses));
}

/// Requests over, responses back, both ports on this thread.
#[divan::bench(args = [1, 16])]
fn request_and_respond(bencher: Bencher<'_, '_>, count: usize) {
    let mut ports = mesh::<Message, Message>(&MeshConfig { shards: 2, credits: 128 });
    let (mut there, mut here) = (ports.pop().unwrap(), ports.pop().unwrap());
    let (mut requests, mut responses) = (Vec::new(), Vec::new());
    let publish = |port: &mut Port<Message, Message>| port.publish(|_| panic!("nobody sleeps"));
    bencher.counter(ItemsCount::new(count)).bench_warm(|| {
        for _ in 0..count {
            here.request(1, black_box((1, 2))).unwrap();
        }
        publish(&mut here);
        there.take(count, &mut requests, &mut responses);
        for (from, message) in requests.drain(..) {
            there.respond(from, message);
        }
        publish(&mut there);
        here.take(count, &mut requests, &mut responses);
        assert_eq!(responses.len(), count);
        responses.clear();
    });
}

/// Puts this thread on one CPU and gives another for the other thread. Neither as a test, nor where there is
/// one.
fn two_cpus() -> Option<usize> {
    let cpus = corelane_sys::cpu::allowed_cpus().unwrap();
    let (&here, &there) = (cpus.first()?, cpus.get(1)?);
    shared::measures().then(|| {
        corelane_sys::cpu::pin_current_thread(here).unwrap();
        there
    })
}

/// Runs `work` on a thread of its own, on a CPU of its own, beside `case` on this one, which is to end
/// `work`.
fn beside(work: impl FnOnce() + Send + 'static, case: impl FnOnce()) {
    let before = corelane_sys::cpu::allowed_cpus().unwrap();
    let cpu = two_cpus();
    let other = thread::spawn(move || {
        if let Some(cpu) = cpu {
            corelane_sys::cpu::pin_current_thread(cpu).unwrap();
        }
        work();
    });
    case();
    other.join().unwrap();
    corelane_sys::cpu::keep_current_thread_on(&before).unwrap();
}

/// Ends the other thread.
const END: Message = (u64::MAX, 0);

/// Tries until there is something; gives the CPU away now and then, in case both threads are on one.
fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        for _ in 0..200 {
            if let Some(found) = attempt() {
                return found;
            }
            std::hint::spin_loop();
        }
        thread::yield_now();
    }
}

fn send(producer: &mut Producer<Message>, message: Message) {
    until(|| producer.push(message).ok());
}

fn receive(consumer: &mut Consumer<Message>) -> Message {
    until(|| consumer.pop())
}

/// Messages over and back, between two threads.
#[divan::bench(args = [1, 16])]
fn ping_pong_of_two_threads(bencher: Bencher<'_, '_>, count: usize) {
    let (mut there, mut requests) = lane::<Message>(CAPACITY);
    let (mut replies, mut back) = lane::<Message>(CAPACITY);
    let work = move || {
        loop {
            let message = receive(&mut requests);
            if message == END {
                return;
            }
            send(&mut replies, message);
            replies.publish();
        }
    };
    beside(work, || {
        bencher.counter(ItemsCount::new(count)).bench_warm(|| {
            for number in 0..count {
                send(&mut there, (number as u64, 0));
            }
            there.publish();
            for number in 0..count {
                assert_eq!(receive(&mut back).0, number as u64);
            }
        });
        send(&mut there, END);
        there.publish();
    });
}

/// A burst of 4,096 messages one way, published in 64s, from the first to the answer that all came.
#[divan::bench]
fn one_way_between_two_threads(bencher: Bencher<'_, '_>) {
    const BURST: u64 = 4096;
    let (mut there, mut requests) = lane::<Message>(CAPACITY);
    let (mut replies, mut back) = lane::<Message>(1);
    let work = move || {
        let mut taken = Vec::with_capacity(CAPACITY);
        loop {
            until(|| (requests.pop_into(CAPACITY, &mut taken) > 0).then_some(()));
            for message in taken.drain(..) {
                if message == END {
                    return;
                }
                if message.0 == BURST - 1 {
                    send(&mut replies, message);
                    replies.publish();
                }
            }
        }
    };
    beside(work, || {
        bencher.counter(ItemsCount::new(BURST)).bench_warm(|| {
            for number in 0..BURST {
                until(|| {
                    let pushed = there.push((number, 0)).ok();
                    // A lane that looks full may hold what is not published, which nobody can take.
                    if pushed.is_none() || number % 64 == 63 {
                        there.publish();
                    }
                    pushed
                });
            }
            assert_eq!(receive(&mut back).0, BURST - 1);
        });
        send(&mut there, END);
        there.publish();
    });
}
