//! Tests of the lane: alone on each limit, against a model under random operations, and on two threads.
#![allow(clippy::disallowed_methods, reason = "the run on two threads has a deadline")]
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// Each value holds a count of this, so that one dropped never or twice shows.
type Alive = Arc<()>;

#[derive(Debug)]
struct Value(usize, #[expect(dead_code, reason = "held for its count")] Alive);

fn values_alive(alive: &Alive) -> usize {
    Arc::strong_count(alive) - 1
}

#[test]
fn what_is_pushed_is_seen_when_published_and_not_before() {
    let (mut producer, mut consumer) = lane(4);
    producer.push('a').unwrap();
    producer.push('b').unwrap();
    assert_eq!((consumer.pop(), consumer.depth(), producer.depth()), (None, 0, 2));
    assert!(producer.publish());
    assert_eq!((consumer.depth(), producer.depth()), (2, 2));
    assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some('a'), Some('b'), None));
    assert_eq!((consumer.depth(), producer.depth()), (0, 0));
    assert!(!producer.publish(), "nothing new");
}

#[test]
fn a_lane_holds_exactly_its_capacity_published_or_not() {
    for capacity in [1, 2, 3, 4, 5, 7, 8, 9, 100] {
        let (mut producer, mut consumer) = lane(capacity);
        assert_eq!(producer.capacity(), capacity);
        for round in 0..3 {
            for value in 0..capacity {
                producer.push(value).unwrap();
                if value % 2 == round % 2 {
                    producer.publish();
                }
            }
            assert_eq!(producer.push(77), Err(77), "the value comes back");
            producer.publish();
            assert_eq!(producer.push(77), Err(77));
            assert_eq!(producer.depth(), capacity);
            assert_eq!(consumer.pop(), Some(0));
            producer.push(capacity).unwrap();
            assert_eq!(producer.push(77), Err(77), "one was taken, one is in its place");
            producer.publish();
            assert!((1..=capacity).all(|value| consumer.pop() == Some(value)));
            assert_eq!(consumer.pop(), None);
        }
    }
}

#[test]
fn a_batch_is_taken_in_order_up_to_what_was_asked_and_appended() {
    let (mut producer, mut consumer) = lane(8);
    let mut out = vec![100];
    assert_eq!(consumer.pop_into(usize::MAX, &mut out), 0);
    (0..5).for_each(|value| producer.push(value).unwrap());
    producer.publish();
    assert_eq!(consumer.pop_into(0, &mut out), 0);
    assert_eq!(consumer.pop_into(2, &mut out), 2);
    assert_eq!(producer.depth(), 3, "the slots of the batch are free at once");
    producer.push(5).unwrap();
    producer.publish();
    assert_eq!(consumer.pop_into(usize::MAX, &mut out), 4, "also what came since the last look");
    assert_eq!(out, [100, 0, 1, 2, 3, 4, 5]);
}

#[test]
fn what_nobody_took_is_dropped_once() {
    for published in 0..=5 {
        for taken in 0..=published {
            for producer_first in [true, false] {
                let alive = Alive::default();
                // The first position is below the end of the numbers: it wraps on the way.
                let (mut producer, mut consumer) = lane_at(5, usize::MAX - 2);
                for number in 0..5 {
                    producer.push(Value(number, Arc::clone(&alive))).unwrap();
                    if number + 1 == published {
                        producer.publish();
                    }
                }
                assert!((0..taken).all(|number| consumer.pop().unwrap().0 == number));
                assert_eq!(values_alive(&alive), 5 - taken);
                if producer_first {
                    drop(producer);
                    assert_eq!(values_alive(&alive), published - taken, "unpublished ones are gone");
                    assert_eq!(consumer.depth(), published - taken, "published ones can be taken");
                    drop(consumer);
                } else {
                    drop(consumer);
                    drop(producer);
                }
                assert_eq!(values_alive(&alive), 0);
            }
        }
    }
}

#[test]
fn a_batch_that_a_panic_cuts_short_drops_nothing_twice() {
    let alive = Alive::default();
    let (mut producer, mut consumer) = lane(4);
    (0..4).for_each(|number| producer.push(Value(number, Arc::clone(&alive))).unwrap());
    producer.publish();
    let mut out = Vec::new();
    let second = |value: Value| if value.0 == 1 { panic!("at the second") } else { value };
    let end = catch_unwind(AssertUnwindSafe(|| consumer.pop_each(3, &mut out, second)));
    assert!(end.is_err());
    assert_eq!(out.len(), 1);
    assert_eq!(consumer.pop().unwrap().0, 3, "the batch is gone, what came after is there");
    drop((producer, consumer, out));
    assert_eq!(values_alive(&alive), 1, "what was not reached is leaked, not dropped twice");
}

#[test]
fn a_batch_cut_short_by_a_panic_may_be_the_last_thing_a_consumer_does() {
    let alive = Alive::default();
    let (mut producer, mut consumer) = lane(4);
    (0..3).for_each(|number| producer.push(Value(number, Arc::clone(&alive))).unwrap());
    producer.publish();
    let mut out: Vec<Value> = Vec::new();
    let end = catch_unwind(AssertUnwindSafe(|| consumer.pop_each(2, &mut out, |_| panic!("at the first"))));
    assert!(end.is_err());
    drop(consumer);
    assert_eq!(values_alive(&alive), 2, "one is dropped, one leaked, one in the lane");
    drop(producer);
    assert_eq!(values_alive(&alive), 1);
}

#[test]
fn a_value_whose_drop_panics_is_dropped_once() {
    struct Grim(Arc<std::sync::atomic::AtomicU32>);
    impl Drop for Grim {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("as it does");
        }
    }
    for publish in [true, false] {
        let drops = Arc::default();
        let (mut producer, consumer) = lane(2);
        let _ = producer.push(Grim(Arc::clone(&drops))).is_ok_and(|()| !publish || producer.publish());
        let end = catch_unwind(AssertUnwindSafe(|| drop((consumer, producer))));
        assert!(end.is_err());
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn values_without_a_size_are_counted_all_the_same() {
    let (mut producer, mut consumer) = lane(2);
    producer.push(()).unwrap();
    producer.push(()).unwrap();
    assert_eq!(producer.push(()), Err(()));
    producer.publish();
    assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(()), Some(()), None));
}

#[test]
fn an_end_may_move_to_a_thread_and_not_be_shared_by_two() {
    // Has one impl for all types and one more for `Sync` ones, so that naming it for those is ambiguous and
    // does not compile.
    trait NotSync<Which> {
        fn holds() {}
    }
    impl<T> NotSync<()> for T {}
    impl<T: Sync> NotSync<u8> for T {}
    <Producer<u8> as NotSync<_>>::holds();
    <Consumer<u8> as NotSync<_>>::holds();
    fn moves<T: Send>(_: &T) {}
    let (producer, consumer) = lane::<Box<Cell<u8>>>(1);
    moves(&producer);
    moves(&consumer);
}

#[test]
#[should_panic(expected = "at least one value")]
fn a_lane_for_nothing_is_refused() {
    let _ = lane::<u8>(0);
}

#[test]
#[should_panic(expected = "16777217 is above 16777216")]
fn a_lane_beyond_the_maximum_is_refused() {
    let _ = lane::<()>(CAPACITY_MAX + 1);
}

#[test]
fn a_lane_of_the_maximum_is_made() {
    assert_eq!(lane::<()>(CAPACITY_MAX).0.capacity(), CAPACITY_MAX);
}

#[test]
fn a_ring_costs_three_padded_lines_and_its_slots() {
    let line = size_of::<CachePadded<AtomicUsize>>();
    assert_eq!(bytes::<[u8; 64]>(9), 3 * line + 16 * 64);
    assert_eq!(size_of::<Slot<[u8; 64]>>(), 64, "a slot is its value");
}

/// What can be done to a lane.
#[derive(Clone, Copy, Debug)]
enum Op {
    Push,
    Publish,
    Pop,
    PopInto(usize),
    DropProducer,
    DropConsumer,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => Just(Op::Push),
        8 => Just(Op::Publish),
        8 => Just(Op::Pop),
        4 => (0_usize..6).prop_map(Op::PopInto),
        1 => Just(Op::PopInto(usize::MAX)),
    ]
}

/// Does `ops` to a lane and to a queue of numbers, and compares after each. The first `published` numbers of
/// the queue can be popped.
fn compare(capacity: usize, at: usize, ops: &[Op]) -> Result<(), TestCaseError> {
    let alive = Alive::default();
    let (producer, consumer) = lane_at(capacity, at);
    let (mut producer, mut consumer) = (Some(producer), Some(consumer));
    let (mut queue, mut published, mut next) = (VecDeque::new(), 0, 0);
    for op in ops {
        match (op, &mut producer, &mut consumer) {
            (Op::Push, Some(producer), _) => {
                let pushed = producer.push(Value(next, Arc::clone(&alive)));
                prop_assert_eq!(pushed.is_ok(), queue.len() < capacity);
                match pushed {
                    Ok(()) => queue.push_back(next),
                    Err(value) => prop_assert_eq!(value.0, next),
                }
                next += 1;
            }
            (Op::Publish, Some(producer), _) => {
                prop_assert_eq!(producer.publish(), published < queue.len());
                published = queue.len();
            }
            (Op::Pop, _, Some(consumer)) => {
                let expected = if published > 0 { queue.pop_front() } else { None };
                published = published.saturating_sub(1);
                prop_assert_eq!(consumer.pop().map(|value| value.0), expected);
            }
            (Op::PopInto(max), _, Some(consumer)) => {
                let mut out = Vec::new();
                let count = published.min(*max);
                prop_assert_eq!(consumer.pop_into(*max, &mut out), count);
                published -= count;
                prop_assert!(out.iter().map(|value| value.0).eq(queue.drain(..count)));
            }
            (Op::DropProducer, Some(_), _) => {
                producer = None;
                queue.truncate(published);
            }
            (Op::DropConsumer, _, _) => consumer = None,
            _ => {}
        }
        if producer.is_none() && consumer.is_none() {
            queue.clear();
        }
        prop_assert_eq!(values_alive(&alive), queue.len());
        prop_assert!(producer.as_ref().is_none_or(|producer| producer.depth() == queue.len()));
        prop_assert!(consumer.as_ref().is_none_or(|consumer| consumer.depth() == published));
    }
    drop((producer, consumer));
    prop_assert_eq!(values_alive(&alive), 0);
    Ok(())
}

proptest! {
    #[test]
    fn a_lane_is_a_queue_with_a_maximum_whatever_is_done_to_it(
        capacity in 1_usize..10,
        at in prop_oneof![Just(0), (0_usize..20).prop_map(|back| usize::MAX - back)],
        mut ops in prop::collection::vec(any_op(), 0..200),
        ends in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..3),
    ) {
        for (index, producer) in ends {
            let end = if producer { Op::DropProducer } else { Op::DropConsumer };
            ops.insert(index.index(ops.len() + 1), end);
        }
        compare(capacity, at, &ops)?;
    }
}

/// Sends up to `count` values to another thread in batches of all sizes, for at most a fifth of a second.
fn send_across(capacity: usize, count: usize) {
    let alive = Alive::default();
    let (mut producer, mut consumer) = lane_at(capacity, usize::MAX - 1000);
    let deadline = Instant::now() + Duration::from_millis(200);
    let values = Arc::clone(&alive);
    let pushing = std::thread::spawn(move || {
        let mut sent = 0;
        while sent < count {
            // What is refused is sent again, as the same value.
            match producer.push(Value(sent, Arc::clone(&values))) {
                Ok(()) => sent += 1,
                Err(value) => {
                    assert_eq!(value.0, sent);
                    if !producer.publish() {
                        std::thread::yield_now();
                    }
                }
            }
            if sent.is_multiple_of(1 + sent % 37) {
                producer.publish();
            }
            if sent % 1024 == 0 && Instant::now() > deadline {
                break;
            }
        }
        producer.publish();
        // Never seen by the consumer, and dropped.
        let _ = producer.push(Value(usize::MAX, values));
        sent
    });
    let (mut expected, mut batch) = (0, Vec::new());
    loop {
        let done = pushing.is_finished();
        assert!(Instant::now() < deadline + Duration::from_secs(30), "hangs at {expected}");
        if expected % 3 == 0 {
            batch.extend(consumer.pop());
        } else {
            consumer.pop_into(1 + expected % 50, &mut batch);
        }
        if batch.is_empty() && done && consumer.depth() == 0 {
            break;
        }
        if batch.is_empty() {
            std::thread::yield_now();
        }
        for value in batch.drain(..) {
            assert_eq!(value.0, expected);
            expected += 1;
        }
    }
    assert_eq!(pushing.join().unwrap(), expected);
    assert!(expected > 0);
    drop(consumer);
    assert_eq!(values_alive(&alive), 0);
}

#[test]
fn every_value_crosses_to_another_thread_once_and_in_order() {
    for capacity in [1, 2, 3, 100, 1024] {
        send_across(capacity, 100_000);
    }
}

#[test]
fn a_consumer_that_goes_away_leaves_nothing_behind() {
    for stop_after in 0..20 {
        let alive = Alive::default();
        let (mut producer, mut consumer) = lane(3);
        let values = Arc::clone(&alive);
        let pushing = std::thread::spawn(move || {
            for number in 0..30 {
                let _ = producer.push(Value(number, Arc::clone(&values)));
                producer.publish();
                std::thread::yield_now();
            }
        });
        for _ in 0..stop_after {
            drop(consumer.pop());
        }
        drop(consumer);
        pushing.join().unwrap();
        assert_eq!(values_alive(&alive), 0);
    }
}
