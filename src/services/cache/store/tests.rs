//! The store against a plain map, its own count, and its promises.

use std::collections::{BTreeMap, BTreeSet};

use corelane_base::Rng;

use super::*;

const POLICIES: [Eviction; 6] =
    [Eviction::S3Fifo, Eviction::Lru, Eviction::Lfu, Eviction::Fifo, Eviction::Random, Eviction::NoEviction];

fn store(memory_max: u64, eviction: Eviction) -> Store {
    let now = Now { unix_ms: 1_700_000_000_000, mono_ms: 5_000 };
    Store::new(Config { memory_max, eviction }, KeyHasher::seeded(1), now)
}

fn text(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Str(Str::Int(n)) => n.to_string().into_bytes(),
        ValueRef::Str(Str::Bytes(bytes)) => bytes.to_vec(),
        ValueRef::Str(Str::Shared(bytes)) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn later(store: &mut Store, ms: u64) {
    let now = store.now();
    store.set_now(Now { unix_ms: now.unix_ms + ms, mono_ms: now.mono_ms + ms });
}

/// Strings of all three forms.
fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => rng.next_u64().cast_signed().to_string().into_bytes(),
        1 => vec![b'L'; SHARE_MIN + rng.index(100)],
        _ => vec![b'a' + u8::try_from(rng.below(20)).unwrap(); rng.index(90)],
    }
}

#[test]
fn random_operations_agree_with_a_plain_map_and_every_byte_is_counted() {
    for eviction in POLICIES {
        for seed in 0..4 {
            let mut rng = Rng::new(seed);
            let memory_max = if eviction == Eviction::NoEviction { 0 } else { 300_000 };
            let (mut store, mut map) =
                (store(memory_max, eviction), BTreeMap::<Vec<u8>, (Vec<u8>, Option<u64>)>::new());
            let hasher = store.hasher().clone();
            for step in 0..6_000 {
                let name = format!("key:{}", rng.below(300)).into_bytes();
                let key = hasher.key(&name);
                let now = store.now().unix_ms;
                map.retain(|_, (_, at)| at.is_none_or(|at| at >= now));
                match rng.below(9) {
                    0..=2 => {
                        assert_eq!(store.make_room(), Ok(()));
                        let value = value(&mut rng);
                        let at = rng.chance(1, 3).then(|| now + rng.below(2_000));
                        let expiry = at.map_or(Expiry::Never, Expiry::At);
                        assert_eq!(store.set_str(key, &value, expiry), Ok(()));
                        map.insert(name, (value, at));
                    }
                    3 | 4 => {
                        let found = store.get(key).map(text);
                        match (&found, map.get(&name)) {
                            // What is there is right; with eviction it may be gone.
                            (Some(found), Some((wanted, _))) => assert_eq!(found, wanted),
                            (None, Some(_)) if memory_max > 0 => {
                                map.remove(&name);
                            }
                            (None, None) => {}
                            (found, wanted) => {
                                panic!("{eviction:?} {seed} {step}: {found:?} is not {wanted:?}")
                            }
                        }
                    }
                    5 => {
                        let had = store.remove(key);
                        assert!(had == map.remove(&name).is_some() || memory_max > 0);
                    }
                    6 => {
                        let at = rng.chance(1, 2).then(|| now + rng.below(2_000));
                        if store.set_expiry(key, at) {
                            map.get_mut(&name).unwrap().1 = at;
                        }
                    }
                    7 => {
                        if store.peek(key).is_some() {
                            store.edit_str(key, |bytes| bytes.push(b'!')).unwrap();
                            map.get_mut(&name).unwrap().0.push(b'!');
                        }
                    }
                    _ => {
                        later(&mut store, rng.below(300));
                        store.work(1_000);
                    }
                }
                assert_eq!(store.bytes, store.recount(), "{eviction:?} {seed} {step}");
            }
            assert!(memory_max == 0 || store.stats().evicted > 0, "{eviction:?}");
            assert!(store.stats().expired > 100, "{eviction:?}");
        }
    }
}

#[test]
fn after_room_was_made_no_more_is_used_than_may_be() {
    for eviction in POLICIES {
        let mut store = store(100_000, eviction);
        let hasher = store.hasher().clone();
        let mut refused = 0;
        for n in 0..20_000 {
            let name = format!("{n}");
            if store.make_room().is_err() {
                refused += 1;
                continue;
            }
            assert!(store.stats().bytes <= 100_000, "{eviction:?}");
            store.set_str(hasher.key(name.as_bytes()), &[b'v'; 50], Expiry::Never).unwrap();
        }
        assert_eq!(refused > 0, eviction == Eviction::NoEviction, "{eviction:?}");
        assert!(store.len() > 500, "{eviction:?} has {}", store.len());
    }
}

#[test]
fn a_value_that_alone_is_too_large_is_refused_and_the_old_one_stays() {
    let mut store = store(50_000, Eviction::S3Fifo);
    let hasher = store.hasher().clone();
    let key = hasher.key(b"key");
    store.set_str(key, b"old", Expiry::Never).unwrap();
    assert_eq!(store.set_str(key, &[0; 60_000], Expiry::Never), Err(StoreError::OutOfMemory));
    assert_eq!(store.get(key).map(text), Some(b"old".to_vec()));
    assert_eq!(store.bytes, store.recount());
}

#[test]
fn the_millisecond_of_its_expiry_is_still_a_keys_own() {
    let mut store = store(0, Eviction::S3Fifo);
    let hasher = store.hasher().clone();
    let (key, now) = (hasher.key(b"key"), store.now().unix_ms);
    store.set_str(key, b"value", Expiry::At(now + 10)).unwrap();
    later(&mut store, 10);
    assert!(store.get(key).is_some());
    later(&mut store, 1);
    assert!(store.get(key).is_none());
    store.set_str(key, b"value", Expiry::At(now + 20)).unwrap();
    later(&mut store, 100);
    assert_eq!(store.len(), 1);
    store.work(100);
    assert_eq!((store.len(), store.stats().expired), (0, 2));
}

#[test]
fn a_scan_sees_every_key_that_stays_however_the_others_come_and_go() {
    let mut store = store(0, Eviction::S3Fifo);
    let hasher = store.hasher().clone();
    let stays: BTreeSet<Vec<u8>> = (0..2_000).map(|n| format!("stays:{n}").into_bytes()).collect();
    for name in &stays {
        store.set_str(hasher.key(name), b"v", Expiry::Never).unwrap();
    }
    let (mut rng, mut cursor, mut seen) = (Rng::new(5), 0, BTreeSet::new());
    loop {
        cursor = store.scan(cursor, 10, |key, _| {
            seen.insert(key.to_vec());
        });
        if cursor == 0 {
            break;
        }
        for _ in 0..20 {
            let name = format!("comes and goes:{}", rng.below(5_000));
            let key = hasher.key(name.as_bytes());
            if !store.remove(key) {
                store.set_str(key, &value(&mut rng), Expiry::Never).unwrap();
            }
            let stays = format!("stays:{}", rng.below(2_000));
            store.set_str(hasher.key(stays.as_bytes()), &value(&mut rng), Expiry::Never).unwrap();
        }
    }
    assert!(seen.is_superset(&stays));
}

#[test]
fn every_key_is_picked_about_as_often() {
    let mut store = store(0, Eviction::S3Fifo);
    let hasher = store.hasher().clone();
    for n in 0..50_u8 {
        store.set_str(hasher.key(&[n]), b"v", Expiry::Never).unwrap();
    }
    let (mut rng, mut counts) = (Rng::new(1), [0_u32; 50]);
    for _ in 0..50_000 {
        let key = store.random_key(rng.next_u64()).unwrap()[0];
        counts[usize::from(key)] += 1;
    }
    assert!(counts.iter().all(|count| (700..1_300).contains(count)), "{counts:?}");
    store.clear();
    assert_eq!(store.random_key(1), None);
}

#[test]
fn what_is_watched_has_another_version_after_each_kind_of_change() {
    let mut store = store(0, Eviction::S3Fifo);
    let hasher = store.hasher().clone();
    let key = hasher.key(b"key");
    let mut version = store.watch(key);
    let now = store.now().unix_ms;
    let mut changed = |store: &mut Store, what: &str, change: &dyn Fn(&mut Store)| {
        change(store);
        let next = store.version(key);
        assert_ne!(next, version, "{what}");
        version = next;
    };
    changed(&mut store, "set", &|store| store.set_str(key, b"1", Expiry::Never).unwrap());
    changed(&mut store, "edit", &|store| store.edit_str(key, |bytes| bytes.push(b'2')).unwrap());
    changed(&mut store, "expiry", &|store| assert!(store.set_expiry(key, Some(now + 5))));
    changed(&mut store, "expired", &|store| later(store, 10));
    changed(&mut store, "set again", &|store| store.set_int(key, 7, Expiry::Never).unwrap());
    changed(&mut store, "removed", &|store| assert!(store.remove(key)));
    changed(&mut store, "set once more", &|store| store.set_int(key, 7, Expiry::Never).unwrap());
    changed(&mut store, "cleared", &|store| store.clear());
    let before = store.version(key);
    store.clear();
    store.get(key);
    assert_eq!(store.version(key), before, "nothing was there to be cleared");
    for len in [3, SHARE_MIN, 3] {
        store.set_str(key, &vec![b'x'; len], Expiry::Never).unwrap();
        let before = store.version(key);
        assert_eq!(store.edit_str_if(key, |bytes| (bytes.len(), false)), Ok(len));
        assert_eq!(store.version(key), before, "nothing was changed");
        store.edit_str_if(key, |bytes| (bytes[0] = b'y', true)).unwrap();
        assert_ne!(store.version(key), before);
    }
}

#[test]
fn what_was_cleared_is_freed_in_slices() {
    let mut store = store(0, Eviction::S3Fifo);
    let hasher = store.hasher().clone();
    for n in 0..10_000 {
        let name = format!("{n}");
        store
            .set_str(hasher.key(name.as_bytes()), &[b'v'; 20], Expiry::At(store.now().unix_ms + 50))
            .unwrap();
    }
    store.clear();
    assert_eq!((store.len(), store.stats().bytes, store.next_expiry()), (0, 0, None));
    let mut slices = 0;
    while store.work(100) {
        slices += 1;
    }
    assert!(slices >= 10, "{slices}");
}

#[test]
fn a_policy_may_be_exchanged_at_any_time() {
    let mut rng = Rng::new(9);
    let mut store = store(60_000, Eviction::S3Fifo);
    let hasher = store.hasher().clone();
    for n in 0..40_000 {
        if n % 1_000 == 0 {
            store.configure(Config { memory_max: 60_000, eviction: POLICIES[rng.index(5)] });
        }
        let name = format!("{}", rng.below(2_000));
        store.make_room().unwrap();
        store.set_str(hasher.key(name.as_bytes()), &[b'v'; 40], Expiry::Never).unwrap();
        let name = format!("{}", rng.below(2_000));
        store.get(hasher.key(name.as_bytes()));
    }
    assert_eq!(store.bytes, store.recount());
}

/// A trace of `n` keys out of `keys`, by a zipf law of exponent 1; every `scan`th key begins a scan of as many that are
/// asked for once.
fn trace(n: usize, keys: u64, scan: usize) -> Vec<u64> {
    let mut rng = Rng::new(11);
    let weights: Vec<f64> = (1..=keys)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        })
        .collect();
    let total = *weights.last().unwrap();
    let (mut all, mut once) = (Vec::with_capacity(n), keys);
    while all.len() < n {
        let at = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * total;
        all.push(weights.partition_point(|sum| *sum < at) as u64);
        if scan > 0 && all.len() % scan == 0 {
            for _ in 0..scan {
                once += 1;
                all.push(once);
            }
        }
    }
    all
}

fn hit_ratio(eviction: Eviction, trace: &[u64], room: usize) -> f64 {
    let each = block_bytes(8 + 20) + ENTRY_BYTES;
    let mut store = store((room * each) as u64, eviction);
    let hasher = store.hasher().clone();
    for key in trace {
        let bytes = key.to_le_bytes();
        if store.get(hasher.key(&bytes)).is_none() {
            store.make_room().unwrap();
            store.set_str(hasher.key(&bytes), &[b'v'; 20], Expiry::Never).unwrap();
        }
    }
    let stats = store.stats();
    stats.hits as f64 / (stats.hits + stats.misses) as f64
}

/// An exact cache of `room` keys by last use, or by age.
fn reference(trace: &[u64], room: usize, by_use: bool) -> f64 {
    let (mut order, mut at, mut hits) = (BTreeMap::new(), BTreeMap::new(), 0_u64);
    for (n, key) in trace.iter().enumerate() {
        if let Some(old) = at.get(key).copied() {
            hits += 1;
            if by_use {
                order.remove(&old);
                order.insert(n, *key);
                at.insert(*key, n);
            }
            continue;
        }
        if at.len() == room {
            let (_, gone) = order.pop_first().unwrap();
            at.remove(&gone);
        }
        order.insert(n, *key);
        at.insert(*key, n);
    }
    hits as f64 / trace.len() as f64
}

#[test]
fn policies_hit_as_their_references_do_and_s3_fifo_more_than_lru_where_scans_are_mixed_in() {
    let room = 1_000;
    let (zipf, mixed) = (trace(200_000, 20_000, 0), trace(200_000, 20_000, 2_000));
    for (name, trace) in [("zipf", &zipf), ("scan mix", &mixed)] {
        let of = |eviction| hit_ratio(eviction, trace, room);
        let (lru, fifo) = (of(Eviction::Lru), of(Eviction::Fifo));
        let (s3, lfu, random) = (of(Eviction::S3Fifo), of(Eviction::Lfu), of(Eviction::Random));
        println!("{name}: s3-fifo {s3:.4} lfu {lfu:.4} lru {lru:.4} fifo {fifo:.4} random {random:.4}");
        assert!((lru - reference(trace, room, true)).abs() < 0.01, "{name}: lru {lru}");
        assert!((fifo - reference(trace, room, false)).abs() < 0.01, "{name}: fifo {fifo}");
        assert!(s3 > lru && lfu > lru && lru > fifo && (random - fifo).abs() < 0.03, "{name}");
    }
    assert!(hit_ratio(Eviction::S3Fifo, &mixed, room) > hit_ratio(Eviction::Lru, &mixed, room) + 0.03);
}

#[test]
fn a_small_entry_costs_one_hundred_and_twelve_bytes() {
    let mut store = store(0, Eviction::S3Fifo);
    let hasher = store.hasher().clone();
    store.set_str(hasher.key(b"a key of 16 byte"), &[b'v'; 32], Expiry::Never).unwrap();
    assert_eq!(store.stats().bytes, 112);
}

#[test]
fn a_growth_moves_a_segment_and_not_the_table() {
    let mut store = store(0, Eviction::S3Fifo);
    let hasher = store.hasher().clone();
    let mut grown = Vec::new();
    for n in 0..200_000_u32 {
        let before = store.segments[segment_of(hasher.hash(&n.to_le_bytes()))].capacity();
        store.set_str(hasher.key(&n.to_le_bytes()), b"v", Expiry::Never).unwrap();
        if store.segments[segment_of(hasher.hash(&n.to_le_bytes()))].capacity() != before {
            grown.push(before);
        }
    }
    let largest = grown.into_iter().max().unwrap();
    assert!(largest <= 512, "{largest} of 200,000 were moved at once");
}

#[test]
fn what_is_only_going_to_be_needed_is_not_used_and_guesses_may_be_wrong() {
    let mut store = store(0, Eviction::Lru);
    let hasher = store.hasher().clone();
    let names: Vec<String> = (0..2 * WARM_MAX).map(|n| format!("key{n}")).collect();
    for name in &names[..WARM_MAX] {
        store.set_str(hasher.key(name.as_bytes()), b"v", Expiry::Never).unwrap();
    }
    let before = (store.stats(), store.watch(hasher.key(b"key0")));
    store.warm(names.iter().map(|name| hasher.hash(name.as_bytes())));
    store.warm((0..u64::MAX).step_by(usize::MAX / 100));
    assert_eq!((store.stats(), store.version(hasher.key(b"key0"))), before);
}
