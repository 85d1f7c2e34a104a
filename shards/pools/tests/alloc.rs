//! Steady state allocates nothing: proved by an allocator that counts.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use corelane_pools::{Chain, PoolConfig, Pools, SEGMENT_SLOTS, Slots};

struct Counting;

thread_local! {
    // Per thread: the test harness allocates on others.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator as it came; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `run`.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn buffers_of_all_tiers_come_and_go_without_the_allocator() {
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let count = allocations(|| {
        for round in 0..1000 {
            for len in [100, 1 << 10, 20_000, 1 << 16, 1 << 20] {
                let mut buf = pools.get(len).unwrap();
                buf.put(b"some bytes");
                assert_eq!(buf.len(), 10);
            }
            if round % 100 == 0 {
                pools.trim(10);
                assert_eq!(pools.stats().refused, 0);
            }
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn a_chain_of_one_chunk_costs_no_allocation_and_up_to_four_cost_one() {
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let body = Bytes::from(vec![1; 100]);
    // The first clone of bytes made from a vector allocates their count; not what is measured here.
    let _counted = body.clone();
    for (chunks, expected) in [(1, 0), (2, 1), (4, 1)] {
        let count = allocations(|| {
            let mut buf = pools.get(10).unwrap();
            buf.put(b"head");
            let mut chain = Chain::from(buf);
            for _ in 1..chunks {
                chain.push(body.clone());
            }
            while !chain.is_empty() {
                chain.advance(chain.len().min(33));
            }
        });
        assert_eq!(count, expected, "{chunks} chunks");
    }
}

#[test]
fn slots_once_used_are_reused_without_the_allocator() {
    let mut slots = Slots::new("test", 100_000);
    let mut keys: Vec<_> = (0..SEGMENT_SLOTS).map(|value| slots.insert(value).unwrap()).collect();
    keys.push(slots.insert(0).unwrap());
    let count = allocations(|| {
        for _ in 0..1000 {
            // Back and forth over the border of a segment, which is where memory comes and goes.
            slots.remove(keys.pop().unwrap()).unwrap();
            slots.remove(keys.pop().unwrap()).unwrap();
            keys.push(slots.insert(1).unwrap());
            keys.push(slots.insert(2).unwrap());
        }
    });
    assert_eq!(count, 0);
}
