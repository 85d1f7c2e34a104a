//! Slot tables against an oracle of ordered maps.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

#[test]
fn a_removed_key_finds_nothing_while_its_slot_serves_another() {
    let mut slots = Slots::new("test", 4);
    let old = slots.insert("old").unwrap();
    assert_eq!(slots.remove(old), Some("old"));
    let new = slots.insert("new").unwrap();
    assert_eq!(new.index, old.index);
    assert_ne!(new.generation, old.generation);
    assert_eq!((slots.get(old), slots.contains(old)), (None, false));
    assert_eq!(slots.get_mut(old), None);
    assert_eq!(slots.remove(old), None);
    assert_eq!(slots.get(new), Some(&"new"));
    assert_eq!((slots.get_at(new.index), slots.key_at(new.index)), (Some(&"new"), Some(new)));
}

#[test]
fn at_capacity_the_value_comes_back_and_one_removal_makes_room_for_one() {
    for capacity in [1, SEGMENT_SLOTS - 1, SEGMENT_SLOTS, SEGMENT_SLOTS + 1, 3 * SEGMENT_SLOTS] {
        let mut slots = Slots::new("things_max", capacity);
        let keys: Vec<SlotKey> = (0..capacity).map(|value| slots.insert(value).unwrap()).collect();
        assert!(slots.is_full());
        let full = Full::new("things_max", capacity.into());
        assert_eq!(slots.insert(99), Err((99, full)));
        assert_eq!(slots.insert_with(|_| unreachable!("there is no room")), Err(full));
        assert_eq!(slots.remove(keys[0]), Some(0));
        assert!(slots.insert(7).is_ok());
        assert!(slots.insert(8).is_err());
        assert_eq!((slots.len(), slots.len_max()), (capacity as usize, capacity as usize));
    }
}

#[test]
fn a_table_of_no_slots_is_always_full() {
    let mut slots = Slots::new("none", 0);
    assert!(slots.is_full());
    assert!(slots.is_empty());
    assert_eq!(slots.insert(1), Err((1, Full::new("none", 0))));
    assert_eq!(slots.get_at(0), None);
    assert_eq!(slots.remove_at(u32::MAX), None);
}

#[test]
fn in_a_large_full_table_a_free_slot_is_found_wherever_it_is() {
    let mut slots = Slots::new("test", 50_000);
    let keys: Vec<SlotKey> = (0..50_000_u32).map(|value| slots.insert(value).unwrap()).collect();
    for index in [49_999, 20_000, 0, 16_383, 16_384] {
        slots.remove(keys[index]).unwrap();
        assert_eq!(slots.insert(1).unwrap().index as usize, index);
    }
    // Of several, the one in the lowest segment comes first.
    for index in [40_000, 300, 25_000] {
        slots.remove(keys[index]).unwrap();
    }
    let found = [(); 3].map(|()| slots.insert(1).unwrap().index);
    assert_eq!(found, [300, 25_000, 40_000]);
    assert!(slots.is_full());
}

#[test]
fn memory_follows_use_up_and_down_but_for_one_empty_segment() {
    let segment = SEGMENT_SLOTS as usize;
    let mut slots = Slots::new("test", 100_000);
    assert_eq!(slots.committed(), 0);
    let keys: Vec<SlotKey> = (0..3 * SEGMENT_SLOTS + 1).map(|value| slots.insert(value).unwrap()).collect();
    assert_eq!(slots.committed(), 4 * segment);
    for key in &keys[1..] {
        slots.remove(*key).unwrap();
    }
    // The first segment holds one entry, and one empty segment stays.
    assert_eq!((slots.len(), slots.committed()), (1, 2 * segment));
    // Nothing is allocated or freed back and forth around the border.
    for _ in 0..10 {
        let more: Vec<SlotKey> = (0..SEGMENT_SLOTS).map(|value| slots.insert(value).unwrap()).collect();
        assert_eq!(slots.committed(), 2 * segment);
        for key in more {
            slots.remove(key).unwrap();
        }
        assert_eq!(slots.committed(), 2 * segment);
    }
    assert!(slots.get(keys[0]).is_some());
}

#[test]
fn keys_of_a_freed_segment_stay_stale_when_it_is_allocated_again() {
    let mut slots = Slots::new("test", 3 * SEGMENT_SLOTS);
    let mut seen = HashSet::new();
    for _ in 0..5 {
        let keys: Vec<SlotKey> = (0..3 * SEGMENT_SLOTS).map(|value| slots.insert(value).unwrap()).collect();
        for key in &keys {
            assert!(seen.insert(*key), "{key:?} was handed out twice");
        }
        for key in keys {
            slots.remove(key).unwrap();
        }
        assert_eq!(slots.committed(), SEGMENT_SLOTS as usize);
    }
    assert!(seen.iter().all(|key| !slots.contains(*key)));
}

#[test]
fn the_generation_after_the_last_is_1() {
    let mut slots = Slots::new("test", 1);
    let first = slots.insert(0).unwrap();
    slots.remove(first).unwrap();
    slots.segments[0].entries[0].generation = u32::MAX;
    let last = slots.insert(1).unwrap();
    assert_eq!(last.generation, u32::MAX);
    slots.remove(last).unwrap();
    assert_eq!(slots.insert(2).unwrap(), SlotKey { index: 0, generation: 1 });
}

#[test]
fn a_key_survives_being_packed() {
    let key = SlotKey { index: u32::MAX - 1, generation: 0x8000_0001 };
    assert_eq!(SlotKey::from_bits(key.to_bits()), key);
    let mut slots = Slots::new("test", 1);
    assert_ne!(slots.insert(()).unwrap().to_bits(), 0);
}

#[test]
fn insert_with_tells_the_value_its_key_and_survives_its_panic() {
    let mut slots = Slots::new("test", 2 * SEGMENT_SLOTS);
    for _ in 0..2 * SEGMENT_SLOTS {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            slots.insert_with(|_| panic!("no value"))
        }));
        assert!(caught.is_err());
        let key = slots.insert_with(|key| key).unwrap();
        assert_eq!(slots.get(key), Some(&key));
    }
    assert!(slots.is_full());
    assert!(slots.iter().all(|(key, value)| key == *value));
}

#[test]
fn values_are_dropped_once_with_the_table() {
    let value = Rc::new(());
    let mut slots = Slots::new("test", 1000);
    let keys: Vec<SlotKey> = (0..600).map(|_| slots.insert(Rc::clone(&value)).unwrap()).collect();
    for key in &keys[..300] {
        drop(slots.remove(*key));
    }
    assert_eq!(Rc::strong_count(&value), 301);
    drop(slots);
    assert_eq!(Rc::strong_count(&value), 1);
}

#[test]
fn iter_mut_reaches_every_entry_once() {
    let mut slots = Slots::new("test", 600);
    let keys: Vec<SlotKey> = (0..600_u32).map(|value| slots.insert(value).unwrap()).collect();
    for key in keys.iter().step_by(2) {
        slots.remove(*key).unwrap();
    }
    slots.iter_mut().for_each(|(_, value)| *value += 1000);
    let odd: Vec<u32> = slots.iter().map(|(_, value)| *value).collect();
    assert_eq!(odd, (1001..1600).step_by(2).collect::<Vec<u32>>());
}

#[derive(Clone, Debug)]
enum Step {
    Insert { count: u16 },
    Remove { pick: u16, count: u16 },
    RemoveAt { index: u32 },
    Stale { pick: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..300_u16).prop_map(|count| Step::Insert { count }),
        (any::<u16>(), 1..400_u16).prop_map(|(pick, count)| Step::Remove { pick, count }),
        (0..1100_u32).prop_map(|index| Step::RemoveAt { index }),
        any::<u16>().prop_map(|pick| Step::Stale { pick }),
    ]
}

proptest! {
    #[test]
    fn any_steps_leave_what_the_oracle_has(
        capacity in prop_oneof![0..600_u32, Just(256), Just(512), Just(1024)],
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut slots = Slots::new("test", capacity);
        let mut model: BTreeMap<u32, (SlotKey, u64)> = BTreeMap::new();
        let mut stale: Vec<SlotKey> = Vec::new();
        let mut keys: HashSet<SlotKey> = HashSet::new();
        let mut value = 0;
        for step in steps {
            match step {
                Step::Insert { count } => {
                    for _ in 0..count {
                        value += 1;
                        match slots.insert(value) {
                            Ok(key) => {
                                prop_assert!(key.index < capacity);
                                prop_assert_ne!(key.generation, 0);
                                prop_assert!(keys.insert(key), "{key:?} came twice");
                                prop_assert!(model.insert(key.index, (key, value)).is_none());
                            }
                            Err((back, _)) => {
                                prop_assert_eq!(back, value);
                                prop_assert_eq!(model.len(), capacity as usize);
                            }
                        }
                    }
                }
                Step::Remove { pick, count } => {
                    for at in 0..usize::from(count).min(model.len()) {
                        let index = *model.keys().nth((usize::from(pick) + at * 7) % model.len()).unwrap();
                        let (key, value) = model.remove(&index).unwrap();
                        prop_assert_eq!(slots.get_mut(key).copied(), Some(value));
                        prop_assert_eq!(slots.remove(key), Some(value));
                        stale.push(key);
                    }
                }
                Step::RemoveAt { index } => {
                    let expected = model.remove(&index);
                    prop_assert_eq!(slots.key_at(index), expected.map(|(key, _)| key));
                    prop_assert_eq!(slots.get_at_mut(index).copied(), expected.map(|(_, value)| value));
                    prop_assert_eq!(slots.remove_at(index), expected.map(|(_, value)| value));
                    stale.extend(expected.map(|(key, _)| key));
                }
                Step::Stale { pick } if !stale.is_empty() => {
                    let key = stale[usize::from(pick) % stale.len()];
                    prop_assert_eq!(slots.get(key), None);
                    prop_assert_eq!(slots.remove(key), None);
                }
                Step::Stale { .. } => {}
            }
            let held: Vec<(SlotKey, u64)> = slots.iter().map(|(key, value)| (key, *value)).collect();
            let expected: Vec<(SlotKey, u64)> = model.values().copied().collect();
            prop_assert_eq!(held, expected);
            prop_assert_eq!(slots.len(), model.len());
            prop_assert_eq!(slots.is_full(), model.len() == capacity as usize);
            // At most one segment is committed without an entry.
            let used: HashSet<u32> = model.keys().map(|index| index / SEGMENT_SLOTS).collect();
            let committed = slots.segments.iter().filter(|segment| !segment.entries.is_empty()).count();
            prop_assert!(committed <= used.len() + 1);
        }
    }
}
