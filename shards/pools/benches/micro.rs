//! Micro benches of what a shard lends: buffers of each tier, chains of chunks, slots of a table.
//!
//! Pools are as in production: no guard pages, no poison.
//!
//! Not here: the ring's receive buffers (`uring`).

#![allow(clippy::unwrap_used)]

#[path = "../../base/benches/shared/mod.rs"]
mod shared;

use bytes::Bytes;
use corelane_pools::{Chain, LARGE_LEN, MEDIUM_LEN, PoolConfig, Pools, SMALL_LEN, SlotKey, Slots};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

use shared::Warm;

fn main() {
    divan::main();
}

fn pools() -> Pools {
    Pools::new(&PoolConfig::default()).unwrap()
}

/// The request that each tier is there for.
const TIERS: [(&str, usize); 4] =
    [("small", SMALL_LEN), ("medium", MEDIUM_LEN), ("large", LARGE_LEN), ("heap", LARGE_LEN + 1)];

const TIER_NAMES: [&str; 4] = [TIERS[0].0, TIERS[1].0, TIERS[2].0, TIERS[3].0];

/// Lends one buffer and takes it back. On the heap the allocator and its zeroes are in it.
#[divan::bench(args = TIER_NAMES)]
fn get_and_put_back(bencher: Bencher<'_, '_>, tier: &str) {
    let pools = pools();
    let (_, len) = TIERS.into_iter().find(|(name, _)| *name == tier).unwrap();
    bencher.bench_warm(|| drop(pools.get(black_box(len)).unwrap()));
}

/// Lends 64 small buffers before the first comes back.
#[divan::bench]
fn get_and_put_back_64(bencher: Bencher<'_, '_>) {
    let (pools, mut lent) = (pools(), Vec::with_capacity(64));
    bencher.counter(ItemsCount::new(64_usize)).bench_warm(|| {
        lent.extend((0..64).map(|_| pools.get(black_box(SMALL_LEN)).unwrap()));
        lent.clear();
    });
}

/// What is asked of a tier that has none left, and found in the next.
#[divan::bench]
fn get_from_the_next_tier(bencher: Bencher<'_, '_>) {
    let pools = Pools::new(&PoolConfig { small_count: 1, ..PoolConfig::default() }).unwrap();
    let lent = pools.get(SMALL_LEN).unwrap();
    bencher.bench_warm(|| drop(pools.get(black_box(SMALL_LEN)).unwrap()));
    drop(lent);
}

/// One answer of 128 bytes: a buffer, its bytes, a chain of it, sent and dropped.
#[divan::bench]
fn answer_in_one_buffer(bencher: Bencher<'_, '_>) {
    let (pools, answer) = (pools(), [b'a'; 128]);
    bencher.counter(BytesCount::new(128_usize)).bench_warm(|| {
        let mut buf = pools.get(answer.len()).unwrap();
        buf.put(black_box(&answer));
        let mut chain = Chain::from(buf);
        chain.advance(answer.len());
        assert!(chain.is_empty());
    });
}

/// Sixteen answers that share one buffer and one send.
#[divan::bench]
fn put_16_answers_in_one_chain(bencher: Bencher<'_, '_>) {
    let (pools, answer) = (pools(), [b'a'; 128]);
    bencher.counter(ItemsCount::new(16_usize)).bench_warm(|| {
        let mut buf = pools.get(16 * answer.len()).unwrap();
        buf.put(black_box(&answer));
        let mut chain = Chain::from(buf);
        for _ in 1..16 {
            assert_eq!(chain.put(black_box(&answer)), answer.len());
        }
        chain.len()
    });
}

/// Chains of a head in a buffer and shared bytes, sent in pieces of 10,000 bytes that fit no chunk.
#[divan::bench(args = [2, 8])]
fn advance_a_chain_of_chunks(bencher: Bencher<'_, '_>, chunks: usize) {
    let (pools, body) = (pools(), Bytes::from(vec![b'b'; 16_384]));
    bencher.counter(ItemsCount::new(chunks)).bench_warm(|| {
        let mut head = pools.get(256).unwrap();
        head.put(&[b'a'; 200]);
        let mut chain = Chain::from(head);
        for _ in 1..chunks {
            chain.push(body.clone());
        }
        while !chain.is_empty() {
            chain.advance(chain.len().min(10_000));
        }
    });
}

/// A value as large as the state of a connection.
type Value = [u64; 24];

/// A table with this many entries, and their keys.
fn table(count: u32) -> (Slots<Value>, Vec<SlotKey>) {
    let mut slots = Slots::new("bench_max", count + 1);
    let keys = (0..count).map(|n| slots.insert([n.into(); 24]).unwrap()).collect();
    (slots, keys)
}

#[divan::bench(args = [0, 10_000])]
fn insert_and_remove_a_slot(bencher: Bencher<'_, '_>, others: u32) {
    let (mut slots, _) = table(others);
    bencher.bench_warm(|| {
        let key = slots.insert(black_box([1; 24])).unwrap();
        slots.remove(key).unwrap()[0]
    });
}

/// Looks entries up one after another in an order that no prefetcher knows.
#[divan::bench(args = [64, 10_000])]
fn look_a_slot_up(bencher: Bencher<'_, '_>, count: u32) {
    let (slots, keys) = table(count);
    let (mut at, len) = (0, keys.len());
    bencher.bench_warm(|| {
        // A step without a common divisor with the length visits them all.
        at = (at + 7_919) % len;
        slots.get(black_box(keys[at])).unwrap()[0]
    });
}

/// A key that was kept too long.
#[divan::bench]
fn look_a_stale_key_up(bencher: Bencher<'_, '_>) {
    let (mut slots, keys) = table(64);
    slots.remove(keys[7]).unwrap();
    slots.insert([0; 24]).unwrap();
    bencher.bench_warm(|| slots.get(black_box(keys[7])).is_none());
}
