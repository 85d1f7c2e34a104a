//! Buffers and pools against an oracle, and each of their limits.
#![allow(clippy::unwrap_used)]

use std::ops::Range;

use proptest::prelude::*;

use crate::*;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn tiny() -> PoolConfig {
    PoolConfig {
        small_count: 3,
        medium_count: 2,
        large_count: 2,
        medium_idle_max: 1,
        large_idle_max: 1,
        heap_bytes_max: 2 << 20,
        node: None,
        huge_pages: false,
        guard: false,
        poison: false,
    }
}

fn addresses(buf: &Buf) -> Range<usize> {
    let start = buf.as_ptr().addr();
    start..start + buf.capacity()
}

#[test]
fn a_request_gets_the_smallest_tier_that_holds_it() {
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    for (len, capacity) in [
        (0, KIB),
        (1, KIB),
        (SMALL_LEN, KIB),
        (SMALL_LEN + 1, 64 * KIB),
        (MEDIUM_LEN, 64 * KIB),
        (MEDIUM_LEN + 1, MIB),
        (LARGE_LEN, MIB),
        (LARGE_LEN + 1, MIB + 4 * KIB),
    ] {
        let buf = pools.get(len).unwrap();
        assert_eq!(buf.capacity(), capacity, "{len}");
        assert!(buf.is_empty());
    }
    let stats = pools.stats();
    assert_eq!(stats.tiers.map(|tier| (tier.hits, tier.misses)), [(3, 0), (2, 0), (2, 0)]);
    assert_eq!((stats.heap.served, stats.heap.oversized, stats.refused), (1, 1, 0));
    assert_eq!(stats.hit_rate(), 7.0 / 8.0);
}

#[test]
fn pools_on_a_node_or_of_huge_pages_lend_the_same_slots() {
    // Node 0 is there wherever the kernel has nodes; where it has none, or a filter forbids it, that is said.
    for (node, huge_pages) in [(Some(0), false), (None, true), (Some(0), true)] {
        let pools =
            Pools::new(&PoolConfig { node, huge_pages, poison: true, ..PoolConfig::default() }).unwrap();
        let mut held: Vec<Buf> = [SMALL_LEN, MEDIUM_LEN, LARGE_LEN].map(|len| pools.get(len).unwrap()).into();
        for (buf, byte) in held.iter_mut().zip(1..) {
            assert_eq!(buf.put(&vec![byte; buf.capacity()]), buf.capacity());
        }
        assert!(held.iter().zip(1..).all(|(buf, byte)| buf.iter().all(|&b| b == byte)));
        held.clear();
        // Given back, the slots of a huge page read as zero: poison mode panics otherwise.
        for _ in 0..3 {
            pools.trim(u32::MAX);
        }
        let again = [pools.get(MEDIUM_LEN).unwrap(), pools.get(LARGE_LEN).unwrap()];
        assert!(again.iter().all(|buf| buf.is_empty()));
        let wishes = usize::from(node.is_some()) + usize::from(huge_pages);
        assert!(pools.refusals().len() <= wishes, "{:?}", pools.refusals());
        if huge_pages {
            for tier in [1, 2] {
                assert!(
                    pools.mapping(tier).as_ptr().addr().get().is_multiple_of(corelane_sys::HUGE_PAGE_LEN)
                );
            }
        }
    }
}

#[test]
fn a_node_that_is_not_there_is_refused_once_and_the_pools_work() {
    let node = Some(corelane_sys::numa::NODES_MAX);
    let pools = Pools::new(&PoolConfig { node, ..PoolConfig::default() }).unwrap();
    let [Refusal::Node { node: named, .. }] = pools.refusals() else { panic!("{:?}", pools.refusals()) };
    assert_eq!(Some(*named), node);
    assert!(pools.get(LARGE_LEN).is_ok());
    assert_eq!(pools.resident_bytes(0), 500 * KIB, "small slots are there from the start");
    assert!(Pools::new(&tiny()).unwrap().refusals().is_empty());
}

#[test]
fn when_a_tier_is_out_the_next_serves_and_the_miss_is_its_own() {
    let pools = Pools::new(&tiny()).unwrap();
    let mut held: Vec<Buf> = Vec::new();
    let capacities: Vec<usize> = (0..8)
        .map(|_| {
            held.push(pools.get(10).unwrap());
            held.last().unwrap().capacity()
        })
        .collect();
    let heap = 4 * KIB;
    assert_eq!(capacities, [KIB, KIB, KIB, 64 * KIB, 64 * KIB, MIB, MIB, heap]);
    let stats = pools.stats();
    assert_eq!(stats.tiers.map(|tier| (tier.hits, tier.misses)), [(3, 5), (0, 0), (0, 0)]);
    assert_eq!(stats.tiers.map(|tier| (tier.lent, tier.lent_max)), [(3, 3), (2, 2), (2, 2)]);
    assert_eq!((stats.heap.bytes, stats.heap.served), (heap as u64, 1));
    assert_eq!(stats.tiers[0].hit_rate(), 3.0 / 8.0);
    assert_eq!(stats.tiers[1].hit_rate(), 1.0);
    held.clear();
    let stats = pools.stats();
    assert_eq!((stats.lent(), stats.heap.bytes, stats.heap.bytes_peak), (0, 0, heap as u64));
    assert_eq!(stats.tiers.map(|tier| tier.lent_max), [3, 2, 2]);
}

#[test]
fn the_heap_lends_up_to_its_budget_and_not_one_byte_more() {
    let budget = 3 * MIB;
    let config = PoolConfig { heap_bytes_max: budget as u64, ..tiny() };
    let pools = Pools::new(&config).unwrap();
    let full = Full::new("pool_heap_bytes_max", budget as u64);
    assert_eq!(pools.get(budget + 1).unwrap_err(), full);
    let exact = pools.get(budget).unwrap();
    assert_eq!(exact.capacity(), budget);
    assert_eq!(pools.get(LARGE_LEN + 1).unwrap_err(), full);
    // The tiers still serve.
    assert!(pools.get(LARGE_LEN).is_ok());
    drop(exact);
    assert!(pools.get(budget).is_ok());
    assert_eq!(pools.stats().refused, 2);
}

#[test]
fn a_request_beyond_any_length_is_refused_and_not_attempted() {
    let pools = Pools::new(&PoolConfig { heap_bytes_max: u64::MAX, ..tiny() }).unwrap();
    for len in [u32::MAX as usize, usize::MAX / 2, usize::MAX] {
        assert!(pools.get(len).is_err(), "{len}");
    }
    assert_eq!(pools.stats().heap.bytes, 0);
}

#[test]
fn a_heap_budget_at_the_top_of_its_range_does_not_overflow() {
    let none = PoolConfig { small_count: 0, medium_count: 0, large_count: 0, ..tiny() };
    let pools = Pools::new(&PoolConfig { heap_bytes_max: u64::MAX, ..none.clone() }).unwrap();
    assert_eq!(pools.get(1).unwrap().capacity(), 4096);
    assert_eq!(pools.stats().tiers[0].misses, 1);
    let nothing = Pools::new(&PoolConfig { heap_bytes_max: 0, ..none }).unwrap();
    assert_eq!(nothing.get(0).unwrap_err(), Full::new("pool_heap_bytes_max", 0));
}

#[test]
fn more_slots_than_an_index_can_name_are_an_error() {
    let config = PoolConfig { small_count: 1 << 30, ..tiny() };
    assert_eq!(Pools::new(&config).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn the_slot_returned_last_is_lent_first() {
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let (first, second) = (pools.get(1).unwrap(), pools.get(1).unwrap());
    let (at_first, at_second) = (addresses(&first), addresses(&second));
    drop(first);
    drop(second);
    assert_eq!(addresses(&pools.get(1).unwrap()), at_second);
    let _again = pools.get(1).unwrap();
    assert_eq!(addresses(&pools.get(1).unwrap()), at_first);
}

#[test]
fn a_buffer_outlives_the_handle_of_its_pools() {
    let pools = Pools::new(&tiny()).unwrap();
    let mut buf = pools.get(5).unwrap();
    let mut heap = pools.get(LARGE_LEN + 1).unwrap();
    drop(pools);
    assert_eq!(buf.put(b"alive"), 5);
    assert_eq!(heap.put(b"too"), 3);
    assert_eq!((&*buf, &*heap), (&b"alive"[..], &b"too"[..]));
}

#[test]
fn put_stops_at_the_capacity() {
    let pools = Pools::new(&tiny()).unwrap();
    let mut buf = pools.get(KIB).unwrap();
    assert_eq!(buf.put(&[1; 1000]), 1000);
    assert_eq!(buf.put(&[2; 24]), 24);
    assert_eq!((buf.len(), buf.spare_len()), (KIB, 0));
    assert_eq!(buf.put(&[3]), 0);
    assert_eq!((buf[999], buf[1000], buf[1023]), (1, 2, 2));
}

#[test]
fn lengths_change_up_to_the_capacity_and_one_past_it_is_a_bug() {
    let pools = Pools::new(&tiny()).unwrap();
    let mut buf = pools.get(1).unwrap();
    buf.set_len_filled(KIB);
    buf.as_mut_slice().fill(9);
    buf.truncate(2000);
    assert_eq!(buf.len(), KIB);
    buf.truncate(3);
    buf.resize_zeroed(6);
    assert_eq!(&*buf, [9, 9, 9, 0, 0, 0]);
    buf.resize_zeroed(2);
    assert_eq!(&*buf, [9, 9]);
    buf.clear();
    assert!(buf.is_empty());
    let past = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| buf.set_len_filled(KIB + 1)));
    assert!(past.is_err());
    assert_eq!(buf.len(), 0);
}

#[test]
fn a_reader_fills_the_spare_bytes_and_a_failed_one_fills_none() {
    let pools = Pools::new(&tiny()).unwrap();
    let mut buf = pools.get(1).unwrap();
    buf.put(b"ab");
    let count = buf.fill_with(|spare| {
        assert_eq!(spare.len(), KIB - 2);
        spare[..3].copy_from_slice(b"cde");
        3
    });
    assert_eq!((count, &*buf), (3, &b"abcde"[..]));
    let failed = buf.try_fill_with(|spare| {
        spare[0] = b'x';
        Err::<usize, &str>("gone")
    });
    assert_eq!((failed, &*buf), (Err("gone"), &b"abcde"[..]));
    assert_eq!(buf.try_fill_with(|spare| Ok::<usize, ()>(spare.len())), Ok(KIB - 5));
    let over = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| buf.fill_with(|_| 1)));
    assert!(over.is_err(), "a full buffer has no spare byte to fill");
}

#[test]
fn fresh_slots_and_heap_buffers_read_as_zero() {
    let pools = Pools::new(&tiny()).unwrap();
    for len in [SMALL_LEN, MEDIUM_LEN, LARGE_LEN, LARGE_LEN + 1] {
        let mut buf = pools.get(len).unwrap();
        assert!(buf.spare_capacity().iter().all(|&byte| byte == 0), "{len}");
    }
}

/// Takes `count` large buffers, writes all of each, and drops them.
fn peak(pools: &Pools, count: usize) {
    let held: Vec<Buf> = (0..count)
        .map(|_| {
            let mut buf = pools.get(LARGE_LEN).unwrap();
            buf.set_len_filled(LARGE_LEN);
            buf.fill(0xAA);
            buf
        })
        .collect();
    drop(held);
}

#[test]
fn what_a_peak_left_idle_goes_back_bit_by_bit_and_what_is_in_use_stays() {
    let config = PoolConfig { large_count: 20, large_idle_max: 2, ..tiny() };
    let pools = Pools::new(&config).unwrap();
    peak(&pools, 20);
    assert_eq!(pools.stats().tiers[2].idle, 20);
    // Light traffic of one buffer at a time: 64 returns make a review, and the first still saw the peak.
    let given_back_after = |reviews: u32| {
        for _ in 0..64 * reviews {
            drop(pools.get(LARGE_LEN).unwrap());
        }
        pools.stats().tiers[2].given_back
    };
    assert_eq!([given_back_after(1), given_back_after(1), given_back_after(1)], [0, 4, 8]);
    given_back_after(6);
    let large = pools.stats().tiers[2];
    // One is in use now and then, two more may idle.
    assert_eq!((large.idle, large.given_back), (3, 17));

    // Peaks as deep as the pool that keep coming give nothing back.
    for _ in 0..64 {
        peak(&pools, 20);
    }
    assert_eq!(pools.stats().tiers[2].given_back, 17);
}

#[test]
fn trimming_gives_back_what_was_idle_since_the_last_time_and_zeroes_it() {
    let pools = Pools::new(&PoolConfig { large_count: 8, large_idle_max: 8, ..tiny() }).unwrap();
    peak(&pools, 8);
    assert_eq!(pools.trim(100), 0, "all of them were in use since the start");
    drop(pools.get(LARGE_LEN).unwrap());
    assert_eq!(pools.trim(3), 3 * MIB as u64, "no more than asked for");
    assert_eq!(pools.trim(100), 5 * MIB as u64);
    assert_eq!(pools.trim(100), 0);
    let large = pools.stats().tiers[2];
    assert_eq!((large.idle, large.given_back, large.lent_max), (0, 8, 8));
    let mut held: Vec<Buf> = (0..8).map(|_| pools.get(LARGE_LEN).unwrap()).collect();
    assert!(held.iter_mut().all(|buf| buf.spare_capacity().iter().all(|&byte| byte == 0)));
}

#[test]
fn memory_is_committed_at_the_start_on_first_use_and_until_trimmed() {
    let pools = Pools::new(&PoolConfig { small_count: 500, large_count: 8, ..tiny() }).unwrap();
    assert_eq!([0, 1, 2].map(|tier| pools.resident_bytes(tier)), [500 * KIB, 0, 0]);
    peak(&pools, 8);
    assert_eq!(pools.resident_bytes(2), 8 * MIB);
    pools.trim(8);
    assert_eq!(pools.trim(5), 5 * MIB as u64);
    assert_eq!([0, 1, 2].map(|tier| pools.resident_bytes(tier)), [500 * KIB, 0, 3 * MIB]);
}

#[test]
fn poison_names_the_slot_that_was_written_while_free() {
    let pools = Pools::new(&PoolConfig { poison: true, ..tiny() }).unwrap();
    let mut buf = pools.get(1).unwrap();
    let late = buf.as_mut_ptr().wrapping_add(700);
    drop(buf);
    drop(pools.get(1).unwrap());
    // SAFETY: the mapping is still there (rule 2). That the slot is free is what this test is about.
    unsafe { late.write_volatile(1) };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pools.get(1)));
    let message = *caught.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(message, "slot 0 of the 1024 byte tier was written while free: byte 700 is 0x01");
}

#[test]
fn poison_notices_a_write_to_a_slot_whose_memory_was_given_back() {
    let pools = Pools::new(&PoolConfig { poison: true, ..tiny() }).unwrap();
    let late = pools.get(LARGE_LEN).unwrap().as_mut_ptr().wrapping_add(LARGE_LEN - 1);
    pools.trim(1);
    assert_eq!(pools.trim(1), MIB as u64);
    // SAFETY: as above.
    unsafe { late.write_volatile(1) };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pools.get(LARGE_LEN)));
    assert!(caught.is_err());
}

/// Chooses by method resolution: the inherent constant exists only where `T: Send`.
struct IsSend<T>(std::marker::PhantomData<T>);
trait NotSend {
    const SEND: bool = false;
}
impl<T> NotSend for IsSend<T> {}
impl<T: Send> IsSend<T> {
    const SEND: bool = true;
}

// Buffers, chains and pools stay on their thread: checked by the compiler.
const _: () = {
    assert!(!IsSend::<Buf>::SEND);
    assert!(!IsSend::<Chunk>::SEND);
    assert!(!IsSend::<Chain>::SEND);
    assert!(!IsSend::<Pools>::SEND);
    assert!(IsSend::<Vec<u8>>::SEND, "the question is asked right");
};

#[derive(Clone, Debug)]
enum Step {
    Get { len: usize },
    Drop { pick: usize },
    Put { pick: usize, byte: u8, len: usize },
    Resize { pick: usize, len: usize },
    Truncate { pick: usize, len: usize },
    Trim { slots_max: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![4 => 0..3_000_usize, 2 => 0..100 * KIB, 1 => 0..2 * MIB];
    prop_oneof![
        5 => len().prop_map(|len| Step::Get { len }),
        4 => any::<usize>().prop_map(|pick| Step::Drop { pick }),
        3 => (any::<usize>(), any::<u8>(), len()).prop_map(|(pick, byte, len)| Step::Put { pick, byte, len }),
        1 => (any::<usize>(), len()).prop_map(|(pick, len)| Step::Resize { pick, len }),
        1 => (any::<usize>(), len()).prop_map(|(pick, len)| Step::Truncate { pick, len }),
        1 => (0..3_u32).prop_map(|slots_max| Step::Trim { slots_max }),
    ]
}

/// What a pool of `tiny()` should be doing.
#[derive(Default)]
struct Model {
    lent: [u32; 3],
    lent_max: [u32; 3],
    hits: [u64; 3],
    misses: [u64; 3],
    heap_bytes: usize,
    refused: u64,
}

impl Model {
    /// The capacity a request gets, and its tier, 3 for the heap.
    fn get(&mut self, len: usize) -> Option<(usize, usize)> {
        let lens = [SMALL_LEN, MEDIUM_LEN, LARGE_LEN];
        let fits = lens.iter().position(|&slot_len| len <= slot_len).unwrap_or(3);
        for tier in fits..3 {
            if self.lent[tier] < [3, 2, 2][tier] {
                self.lent[tier] += 1;
                self.lent_max[tier] = self.lent_max[tier].max(self.lent[tier]);
                if tier == fits {
                    self.hits[tier] += 1;
                } else {
                    self.misses[fits] += 1;
                }
                return Some((lens[tier], tier));
            }
        }
        if fits < 3 {
            self.misses[fits] += 1;
        }
        let capacity = len.next_multiple_of(4096).max(4096);
        if self.heap_bytes + capacity > 2 * MIB {
            self.refused += 1;
            return None;
        }
        self.heap_bytes += capacity;
        Some((capacity, 3))
    }

    fn put_back(&mut self, capacity: usize, tier: usize) {
        match self.lent.get_mut(tier) {
            Some(lent) => *lent -= 1,
            None => self.heap_bytes -= capacity,
        }
    }
}

struct Held {
    buf: Buf,
    bytes: Vec<u8>,
    tier: usize,
}

fn run(config: &PoolConfig, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let pools = Pools::new(config).unwrap();
    let mut model = Model::default();
    let mut held: Vec<Held> = Vec::new();
    for step in steps {
        let count = held.len();
        match step {
            Step::Get { len } => match (pools.get(len), model.get(len)) {
                (Ok(buf), Some((capacity, tier))) => {
                    prop_assert_eq!((buf.capacity(), buf.len()), (capacity, 0));
                    let new = addresses(&buf);
                    for other in held.iter().map(|held| addresses(&held.buf)) {
                        prop_assert!(new.end <= other.start || other.end <= new.start, "{new:?} {other:?}");
                    }
                    held.push(Held { buf, bytes: Vec::new(), tier });
                }
                (Err(_), None) => {}
                (got, expected) => prop_assert!(false, "{got:?} but {expected:?}"),
            },
            Step::Drop { pick } if count > 0 => {
                let gone = held.swap_remove(pick % count);
                model.put_back(gone.buf.capacity(), gone.tier);
            }
            Step::Put { pick, byte, len } if count > 0 => {
                let Held { buf, bytes, .. } = &mut held[pick % count];
                let fits = len.min(buf.capacity() - bytes.len());
                prop_assert_eq!(buf.put(&vec![byte; len]), fits);
                bytes.resize(bytes.len() + fits, byte);
            }
            Step::Resize { pick, len } if count > 0 => {
                let Held { buf, bytes, .. } = &mut held[pick % count];
                let len = len.min(buf.capacity());
                buf.resize_zeroed(len);
                bytes.resize(len, 0);
            }
            Step::Truncate { pick, len } if count > 0 => {
                let Held { buf, bytes, .. } = &mut held[pick % count];
                buf.truncate(len);
                bytes.truncate(len);
            }
            Step::Trim { slots_max } => {
                pools.trim(slots_max);
            }
            _ => {}
        }
        for Held { buf, bytes, .. } in &held {
            prop_assert!(**buf == **bytes, "{buf:?} differs from the {} bytes written", bytes.len());
        }
        let stats = pools.stats();
        prop_assert_eq!(stats.tiers.map(|tier| tier.lent), model.lent);
        prop_assert_eq!(stats.tiers.map(|tier| tier.lent_max), model.lent_max);
        prop_assert_eq!(stats.tiers.map(|tier| tier.hits), model.hits);
        prop_assert_eq!(stats.tiers.map(|tier| tier.misses), model.misses);
        prop_assert_eq!((stats.heap.bytes, stats.refused), (model.heap_bytes as u64, model.refused));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_steps_leave_what_the_oracle_has(steps in proptest::collection::vec(step(), 0..60)) {
        run(&tiny(), steps)?;
    }

    #[test]
    fn any_steps_pass_under_guard_and_poison(steps in proptest::collection::vec(step(), 0..40)) {
        run(&PoolConfig { guard: true, poison: true, ..tiny() }, steps)?;
    }
}
