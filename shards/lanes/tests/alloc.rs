//! What a mesh allocates, and that it allocates nothing after it was made: proved by an allocator that counts.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use corelane_lanes::{MeshConfig, Port, lane, mesh};

struct Counting;

thread_local! {
    // Per thread: the test harness allocates on others. Allocations, and bytes not given back.
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator as it came; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        BYTES.set(BYTES.get() + layout.size().cast_signed());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size().cast_signed());
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `run`.
fn allocations(run: impl FnOnce()) -> usize {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    let before = BYTES.get();
    let mut held = None;
    assert_eq!(allocations(|| held = Some(std::hint::black_box(Box::new([0_u8; 100])))), 1);
    assert_eq!(BYTES.get() - before, 100);
    drop(held);
    assert_eq!(BYTES.get(), before);
}

#[test]
fn a_mesh_allocates_what_its_size_says_and_gives_it_all_back() {
    for (shards, credits) in [(1, 1), (2, 1), (2, 2), (3, 5), (8, 128), (64, 1), (65, 1)] {
        let config = MeshConfig { shards, credits };
        let before = BYTES.get();
        let ports: Vec<Port<[u64; 8], u32>> = mesh(&config);
        let bytes = config.bytes::<[u64; 8], u32>();
        assert_eq!(BYTES.get() - before, bytes.cast_signed(), "{config:?}");
        drop(ports);
        assert_eq!(BYTES.get(), before, "{config:?}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_mesh_without_slots_costs_what_its_page_says() {
    // Messages without a size have slots without a size.
    let kib = |shards| MeshConfig { shards, credits: 128 }.bytes::<(), ()>() >> 10;
    assert_eq!(kib(8), 61);
    assert!((3_900..4_096).contains(&kib(64)), "3.9 MiB, not {} KiB", kib(64));
    assert!((980..1_024).contains(&(kib(1024) >> 10)), "1 GiB, not {} KiB", kib(1024));
}

#[test]
fn values_cross_a_lane_without_the_allocator() {
    let (mut producer, mut consumer) = lane(100);
    let mut out = Vec::with_capacity(100);
    let count = allocations(|| {
        for round in 0..1000 {
            (0..round % 101).for_each(|value| producer.push(value).unwrap());
            producer.publish();
            assert_eq!(consumer.pop(), (round % 101 > 0).then_some(0));
            consumer.pop_into(usize::MAX, &mut out);
            out.clear();
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn calls_cross_a_mesh_without_the_allocator() {
    let mut mesh: Vec<Port<u32, u32>> = mesh(&MeshConfig { shards: 5, credits: 4 });
    let (mut requests, mut responses) = (Vec::with_capacity(16), Vec::with_capacity(16));
    let mut answered = 0;
    let count = allocations(|| {
        for round in 0..1000 {
            for port in &mut mesh {
                let here = port.here();
                port.take(10, &mut requests, &mut responses);
                answered += responses.drain(..).count();
                requests.drain(..).for_each(|(from, request)| port.respond(from, request));
                for to in (0..5).filter(|to| *to != here) {
                    let _ = port.request(to, round);
                }
                port.publish(|shard| panic!("shard {shard} sleeps"));
            }
        }
    });
    assert_eq!(count, 0);
    assert!(answered > 10_000, "{answered}");
}
