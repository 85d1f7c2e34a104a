//! Sets beside the ones of the standard library, in all their forms.

use std::collections::{BTreeSet, HashSet};

use corelane_base::Rng;

use super::*;

impl Set {
    /// [`Set::bytes`], counted anew.
    fn recount(&self) -> usize {
        size_of::<Self>()
            + match &self.form {
                Form::Ints(ints) => ints.block_bytes(),
                Form::Block(block) => block.block_bytes(),
                Form::Table(table) => table.recount(),
            }
    }
}

fn members(set: &Set) -> BTreeSet<Vec<u8>> {
    let all: Vec<Vec<u8>> = set.iter().map(|member| member.to_vec()).collect();
    assert_eq!(all.len(), set.len());
    all.into_iter().collect()
}

fn of(names: impl IntoIterator<Item = String>) -> Set {
    let mut set = Set::default();
    names.into_iter().for_each(|name| assert!(set.insert(name.as_bytes())));
    set
}

#[test]
fn a_set_has_what_a_set_of_the_standard_library_has() {
    for (seed, kinds, names) in [(1, 1, 40), (2, 1, 2000), (3, 2, 60), (4, 2, 900), (5, 3, 9000), (6, 3, 200)]
    {
        let (mut rng, mut set, mut model) = (Rng::new(seed), Set::default(), BTreeSet::new());
        for turn in 0..40_000 {
            let name = rng.below(names);
            let member = match rng.below(kinds) {
                0 => (i64::try_from(name).expect("few") << (rng.below(3) * 17)).to_string(),
                1 => format!("member:{name}"),
                _ => format!("{name}-{}", "x".repeat(usize::try_from(name % 90).expect("few"))),
            };
            let member = member.as_bytes();
            // In turns it grows and shrinks.
            if rng.below(100) < if turn / 5000 % 2 == 0 { 70 } else { 25 } {
                assert_eq!(set.insert(member), model.insert(member.to_vec()));
            } else {
                assert_eq!(set.remove(member), model.remove(member));
            }
            assert_eq!((set.len(), set.contains(member)), (model.len(), model.contains(member)));
            if turn % 997 == 0 {
                assert_eq!(members(&set), model);
                assert_eq!(set.bytes(), set.recount());
                let numbered: HashSet<Vec<u8>> =
                    (0..set.len()).map(|n| set.nth(n).expect("there are so many").to_vec()).collect();
                assert_eq!(numbered.len(), model.len());
                assert!(set.nth(set.len()).is_none());
            }
        }
        set.retain(|member| member.len() % 2 == 0);
        model.retain(|member| member.len() % 2 == 0);
        assert_eq!(members(&set), model);
        assert_eq!(set.bytes(), set.recount());
    }
}

#[test]
fn each_form_ends_exactly_at_its_limit() {
    let mut set = of((0..512).map(|n| n.to_string()));
    assert_eq!(set.encoding(), "intset");
    assert!(!set.insert(b"511"));
    assert_eq!(set.encoding(), "intset");
    assert!(set.insert(b"512"));
    assert_eq!((set.encoding(), set.len()), ("hashtable", 513));
    assert!(matches!(set.form, Form::Table(_)));

    let mut set = of((0..127).map(|n| n.to_string()));
    assert!(!set.insert(b"7") && set.insert(b"07"));
    assert!(matches!(set.form, Form::Block(_)));
    assert!(!set.insert(b"07") && set.insert(b"x"));
    assert!(matches!(set.form, Form::Table(_)));

    let mut set = of(["a".to_owned(), "b".repeat(64)]);
    assert!(matches!(set.form, Form::Block(_)));
    assert!(set.insert(&[b'c'; 65]));
    assert!(matches!(set.form, Form::Table(_)));
    assert_eq!(set.len(), 3);
}

#[test]
fn integers_of_every_width_are_text_as_it_was_put_in() {
    let edges =
        [0, 1, -1, i64::MIN, i64::MAX, i64::from(i16::MIN), i64::from(i16::MAX) + 1, i64::from(i32::MIN) - 1];
    let set = of(edges.iter().map(|edge| edge.to_string()));
    assert_eq!(set.encoding(), "intset");
    assert_eq!(members(&set), edges.iter().map(|edge| edge.to_string().into_bytes()).collect());
    for text in ["-0", "00", "+1", "01", "", "-", " 1", "9223372036854775808", "1.0"] {
        assert!(!set.contains(text.as_bytes()), "{text}");
    }
}

/// A pass of SSCAN that changes the set between two calls.
fn scan(set: &mut Set, rng: &mut Rng, mut between: impl FnMut(&mut Set, &mut Rng)) -> HashSet<Vec<u8>> {
    let (mut seen, mut cursor) = (HashSet::new(), 0);
    loop {
        cursor = set.scan(cursor, rng.index(20) + 1, |member| {
            seen.insert(member.to_vec());
        });
        if cursor == 0 {
            return seen;
        }
        between(set, rng);
    }
}

#[test]
fn a_scan_sees_every_member_that_is_there_throughout() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let count = 100 + rng.below(3000);
        let mut set = of((0..count).map(|n| format!("stays:{n}")));
        (0..count).for_each(|n| assert!(set.insert(format!("goes:{n}").as_bytes())));
        let seen = scan(&mut set, &mut rng, |set, rng| {
            for _ in 0..30 {
                set.remove(format!("goes:{}", rng.below(count)).as_bytes());
                if seed % 2 == 0 {
                    set.insert(format!("comes:{}", rng.below(count)).as_bytes());
                }
            }
        });
        for n in 0..count {
            assert!(seen.contains(format!("stays:{n}").as_bytes()), "{n} of {count}, seed {seed}");
        }
    }
}

#[test]
fn a_scan_ends_with_any_cursor() {
    let set = of((0..1000).map(|n| format!("m{n}")));
    for cursor in [0, 1, 999, 1000, 1001, u64::MAX] {
        let mut seen = 0_u64;
        assert_eq!(set.scan(cursor, usize::MAX, |_| seen += 1), 0);
        assert_eq!(seen, if cursor == 0 { 1000 } else { cursor.min(1000) });
    }
}

#[test]
fn a_set_that_was_written_down_comes_back() {
    let large = of((0..3000).map(|n| format!("m{n}")));
    for set in
        [of((-5..300).map(|n| n.to_string())), of(["a".into(), String::new()]), large, of(["7".into()])]
    {
        let mut out = Vec::new();
        set.encode(&mut out);
        let back = Set::decode(&out).expect("it was a set");
        assert_eq!(members(&back), members(&set));
        assert_eq!(back.encoding(), set.encoding());
        assert_eq!(back.bytes(), back.recount());
    }
    for none in [
        &b""[..],
        b"\x00",
        b"\x01",
        b"\x01\x02",
        b"\x01\x03abc",
        b"\x02\x01a",
        b"\x00\x01a\x01a",
        b"\x01\x02\x01\x00\x01\x00",
    ] {
        assert!(Set::decode(none).is_none(), "{none:?}");
    }
}

#[test]
fn any_bytes_are_a_set_or_none() {
    let mut rng = Rng::new(9);
    for set in [of((-5..60).map(|n| n.to_string())), of((0..40).map(|n| format!("m{n}")))] {
        let mut out = Vec::new();
        set.encode(&mut out);
        for _ in 0..20_000 {
            let mut bytes = out.clone();
            for _ in 0..=rng.index(3) {
                let at = rng.index(bytes.len());
                bytes[at] = rng.next_u64().to_le_bytes()[0];
            }
            bytes.truncate(bytes.len() - if rng.chance(1, 2) { rng.index(bytes.len()) } else { 0 });
            if let Some(set) = Set::decode(&bytes) {
                assert_eq!(members(&set).len(), set.len());
                assert!(!set.is_empty());
            }
        }
    }
}

#[test]
fn a_large_set_is_taken_apart_in_small_pieces() {
    let set = of((0..10_000).map(|n| format!("member:{n}")));
    // 10 chunks, and what 3 to 7 segments of the index are.
    let pieces = set.pieces().count();
    assert!((13..=17).contains(&pieces), "{pieces}");
    assert_eq!(of(["a".to_owned()]).pieces().count(), 0);
}
