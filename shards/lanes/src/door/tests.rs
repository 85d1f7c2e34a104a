//! Tests of the door by one thread: bits, sleeps and rings. What threads do to each other: `loom_tests.rs`.

use super::*;

/// The sources that knocked, by number.
fn taken(door: &Door) -> Vec<usize> {
    let words = (0..door.words()).map(|at| (at, door.take_word(at)));
    let bits = |(at, word): (usize, u64)| {
        (0..WORD_SOURCES).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * WORD_SOURCES + bit)
    };
    words.flat_map(bits).collect()
}

#[test]
fn a_knock_is_taken_once_by_the_number_of_its_source() {
    for sources in [1, 2, 63, 64, 65, 128, 129, 1024] {
        let door = Door::new(sources);
        assert_eq!(door.words(), sources.div_ceil(64));
        for from in 0..sources {
            assert!(!door.is_dirty());
            assert!(!door.knock(from));
            assert!(door.is_dirty());
            assert!(door.has_work());
            assert_eq!(taken(&door), [from]);
        }
        for from in [sources - 1, 0, sources / 2, 0] {
            assert!(!door.knock(from));
        }
        let mut expected = vec![0, sources / 2, sources - 1];
        expected.dedup();
        assert_eq!(taken(&door), expected, "two knocks are one bit");
        assert_eq!(taken(&door), []);
    }
}

#[test]
#[should_panic(expected = "3 is no source of a door for 3")]
fn a_stranger_may_not_knock() {
    Door::new(3).knock(3);
}

#[test]
fn the_first_to_come_rings_a_sleeper_and_nobody_else() {
    let door = Door::new(100);
    assert!(!door.must_ring());
    for round in 0..3 {
        door.announce_sleep();
        assert!(door.sleeps());
        assert!(door.is_quiet());
        let mut rings = 0;
        for from in [70, 3, 70] {
            rings += u32::from(if round == 0 { door.must_ring() } else { door.knock(from) });
            assert!(!door.sleeps(), "it was rung");
        }
        assert_eq!(rings, 1);
        assert_eq!(door.is_quiet(), round == 0);
        door.awake();
        taken(&door);
    }
}

#[test]
fn who_is_awake_is_not_rung() {
    let door = Door::new(2);
    door.announce_sleep();
    door.awake();
    assert!(!door.sleeps());
    assert!(!door.knock(0));
    assert!(!door.must_ring());
    door.awake();
    assert!(!door.must_ring());
}

#[test]
fn a_knock_before_the_announcement_is_no_ring_but_no_quiet_either() {
    let door = Door::new(65);
    assert!(!door.knock(64));
    door.announce_sleep();
    assert!(!door.is_quiet());
    assert!(door.sleeps(), "a look does not wake");
    assert_eq!(taken(&door), [64]);
    assert!(door.is_quiet(), "who takes after the announcement may still sleep");
    assert!(door.knock(0), "and is rung then");
}

#[test]
fn each_word_is_on_a_line_of_its_own() {
    let door = Door::new(200);
    let at = |word: &CachePadded<AtomicU64>| std::ptr::from_ref(word).addr();
    assert!(
        door.words
            .iter()
            .zip(&door.words[1..])
            .all(|(a, b)| at(b) - at(a) == 128 || !cfg!(target_arch = "x86_64"))
    );
}
