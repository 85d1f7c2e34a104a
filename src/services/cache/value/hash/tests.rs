//! Hashes beside the maps of the standard library, in both their forms.

use std::collections::{BTreeMap, HashSet};

use corelane_base::Rng;

use super::*;

impl Hash {
    /// [`Hash::bytes`], counted anew.
    fn recount(&self) -> usize {
        size_of::<Self>()
            + match &self.form {
                Form::Block(block) => block.block_bytes(),
                Form::Table(table) => table.recount(),
            }
    }
}

fn fields(hash: &Hash) -> BTreeMap<Vec<u8>, Vec<u8>> {
    assert_eq!(hash.iter().count(), hash.len());
    hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
}

fn of(count: usize) -> Hash {
    let mut hash = Hash::default();
    (0..count).for_each(|n| assert!(hash.insert(format!("f{n}").as_bytes(), n.to_string().as_bytes())));
    hash
}

#[test]
fn a_hash_has_what_a_map_of_the_standard_library_has() {
    for (seed, names, value_len_max) in [(1, 30, 20), (2, 300, 30), (3, 8000, 60), (4, 100, 90)] {
        let (mut rng, mut hash, mut model) = (Rng::new(seed), Hash::default(), BTreeMap::new());
        for turn in 0..40_000 {
            let name = rng.below(names);
            let field = format!("field:{name}").into_bytes();
            if rng.below(100) < if turn / 5000 % 2 == 0 { 70 } else { 25 } {
                let value = vec![b'v'; rng.index(value_len_max)];
                assert_eq!(hash.insert(&field, &value), model.insert(field.clone(), value).is_none());
            } else {
                assert_eq!(hash.remove(&field), model.remove(&field).is_some());
            }
            assert_eq!((hash.len(), hash.get(&field)), (model.len(), model.get(&field).map(Vec::as_slice)));
            if turn % 997 == 0 {
                assert_eq!(fields(&hash), model);
                assert_eq!(hash.bytes(), hash.recount());
                let numbered: HashSet<&[u8]> = (0..hash.len()).filter_map(|n| Some(hash.nth(n)?.0)).collect();
                assert_eq!(numbered.len(), model.len());
                assert!(hash.nth(hash.len()).is_none());
            }
        }
    }
}

#[test]
fn the_block_ends_exactly_at_its_limits() {
    let mut hash = of(128);
    assert!(matches!(hash.form, Form::Block(_)));
    assert!(!hash.insert(b"f0", &[b'x'; 64]));
    assert!(matches!(hash.form, Form::Block(_)));
    assert!(hash.insert(b"one more", b""));
    assert!(matches!(hash.form, Form::Table(_)));
    assert_eq!(
        (hash.len(), hash.get(b"f0"), hash.get(b"f127")),
        (129, Some(&[b'x'; 64][..]), Some(&b"127"[..]))
    );
    for (field, value) in [(64, 65), (65, 64)] {
        let mut hash = of(1);
        assert!(hash.insert(&[b'f'; 64], &[b'v'; 64]));
        assert!(matches!(hash.form, Form::Block(_)));
        assert!(hash.insert(&vec![b'g'; field], &vec![b'v'; value]));
        assert!(matches!(hash.form, Form::Table(_)));
        assert_eq!(hash.encoding(), "hashtable");
    }
}

#[test]
fn the_form_has_the_name_that_redis_would_have_for_it() {
    let mut hash = of(512);
    assert_eq!(hash.encoding(), "listpack");
    assert!(!hash.insert(b"f3", b"other"));
    assert_eq!(hash.encoding(), "listpack");
    hash.insert(b"one more", b"");
    assert_eq!(hash.encoding(), "hashtable");
    (0..512).for_each(|n| assert!(hash.remove(format!("f{n}").as_bytes())));
    assert_eq!((hash.len(), hash.encoding()), (1, "hashtable"));
}

#[test]
fn fields_are_in_the_order_they_were_set_in() {
    for count in [3, 128, 2000] {
        let hash = of(count);
        let order: Vec<_> =
            hash.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect();
        assert_eq!(order, (0..count).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

#[test]
fn fields_and_values_of_any_length_come_back() {
    let mut hash = Hash::default();
    let lens = [0, 1, 21, 22, 23, 64, 65, 127, 128, 129, 20_000];
    for (n, field) in lens.iter().enumerate() {
        for value in lens {
            hash.insert(&[vec![b'f'; *field], n.to_string().into_bytes()].concat(), &vec![b'v'; value]);
            hash.insert(&vec![b'f'; *field], &vec![b'w'; value]);
        }
        assert_eq!(hash.get(&vec![b'f'; *field]), Some(&[b'w'; 20_000][..]));
        assert_eq!(hash.bytes(), hash.recount());
    }
    let mut out = Vec::new();
    hash.encode(&mut out);
    assert_eq!(Hash::decode(&out).map(|back| fields(&back)), Some(fields(&hash)));
}

#[test]
fn a_scan_sees_every_field_that_is_there_throughout() {
    for seed in 0..20 {
        let (mut rng, mut hash) = (Rng::new(seed), of(150 + usize::try_from(seed).expect("few") * 100));
        let count = hash.len() as u64;
        (0..count).for_each(|n| assert!(hash.insert(format!("goes:{n}").as_bytes(), b"")));
        let (mut seen, mut cursor) = (HashSet::new(), 0);
        loop {
            cursor = hash.scan(cursor, rng.index(20) + 1, |field, _| {
                seen.insert(field.to_vec());
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..30 {
                hash.remove(format!("goes:{}", rng.below(count)).as_bytes());
                hash.insert(format!("f{}", rng.below(count)).as_bytes(), b"of another length than before");
            }
        }
        for n in 0..count {
            assert!(seen.contains(format!("f{n}").as_bytes()), "{n} of {count}, seed {seed}");
        }
    }
}

#[test]
fn any_bytes_are_a_hash_or_none() {
    let (mut rng, mut out) = (Rng::new(9), Vec::new());
    of(40).encode(&mut out);
    assert_eq!(Hash::decode(&out).map(|back| fields(&back)), Some(fields(&of(40))));
    for _ in 0..30_000 {
        let mut bytes = out.clone();
        for _ in 0..=rng.index(3) {
            let at = rng.index(bytes.len());
            bytes[at] = rng.next_u64().to_le_bytes()[0];
        }
        bytes.truncate(bytes.len() - if rng.chance(1, 2) { rng.index(bytes.len()) } else { 0 });
        if let Some(hash) = Hash::decode(&bytes) {
            assert_eq!(fields(&hash).len(), hash.len());
            assert!(!hash.is_empty());
        }
    }
    for none in [
        &b""[..],
        b"\x01a",
        b"\x01a\x01b\x01a\x01b",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x01a\x05b",
    ] {
        assert!(Hash::decode(none).is_none(), "{none:?}");
    }
}
