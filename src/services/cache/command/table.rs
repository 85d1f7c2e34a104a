//! Names to commands: one table for all, made by the compiler.
//!
//! At most eight bytes of a name are packed into a word, which chooses a place and, up to eight bytes of length, tells
//! the name from all others. Of the places at most a half is taken, and what collides stands in the next one.
//!
//! # Rules
//! 1. Names are small letters, digits, `-` and `_`: so letters can be compared eight at a time in any case.
//!
//! Not here: what the commands are (`data`, `connection`).

use super::{TABLES, spec::Spec};

/// Places: a power of two of at least twice as many as there are commands, which the build checks.
const PLACES: usize = 512;
/// What makes a small letter of a capital one, in each byte.
const SMALL: u64 = 0x2020_2020_2020_2020;

/// A command, with its name as [`packed`].
#[derive(Clone, Copy)]
struct Place {
    word: u64,
    spec: Option<&'static Spec>,
}

static PLACED: [Place; PLACES] = place();

/// The command of this name, in any case of letters: in constant time, without memory, some 4 ns.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    let word = packed(name);
    let mut place = first_place(word, name.len());
    while let Place { word: own, spec: Some(spec) } = PLACED[place] {
        if is_same(word, own)
            && name.len() == spec.name.len()
            && (name.len() <= 8 || is_same_long(name, spec.name.as_bytes()))
        {
            return Some(spec);
        }
        place = (place + 1) % PLACES;
    }
    None
}

/// All commands, in the order of the tables.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    TABLES.iter().copied().flatten()
}

/// The bytes of a name of up to eight; of a longer one the first four and the last four.
#[inline]
const fn packed(name: &[u8]) -> u64 {
    match *name {
        [] => 0,
        [a] => u64::from_le_bytes([a, 0, 0, 0, 0, 0, 0, 0]),
        [a, b] => u64::from_le_bytes([a, b, 0, 0, 0, 0, 0, 0]),
        [a, b, c] => u64::from_le_bytes([a, b, c, 0, 0, 0, 0, 0]),
        [a, b, c, d, .., w, x, y, z] => u64::from_le_bytes([a, b, c, d, w, x, y, z]),
        // From four to seven bytes: those in the middle are taken twice.
        [a, b, c, d, ..] => {
            let len = name.len();
            u64::from_le_bytes([a, b, c, d, name[len - 4], name[len - 3], name[len - 2], name[len - 1]])
        }
    }
}

/// Whether a packed name is `own`, in any case of letters. They may differ in the bit that makes letters small, and only
/// where `own` has a small letter, which of all its bytes alone has the two bits of 0x60 (rule 1).
#[inline]
const fn is_same(word: u64, own: u64) -> bool {
    (word ^ own) & !(SMALL & own & (own >> 1)) == 0
}

/// As [`is_same`], for names of equal lengths above eight: the last eight bytes may be looked at twice.
#[inline]
fn is_same_long(name: &[u8], own: &[u8]) -> bool {
    let is_same =
        |(name, own): (&[u8; 8], &[u8; 8])| is_same(u64::from_le_bytes(*name), u64::from_le_bytes(*own));
    name.as_chunks().0.iter().zip(own.as_chunks().0).all(is_same)
        && name.last_chunk().zip(own.last_chunk()).is_some_and(is_same)
}

/// Where a name is looked for first.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the upper bits of the product, fewer than a usize has")]
const fn first_place(word: u64, len: usize) -> usize {
    let mixed = ((word | SMALL) ^ (len as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - PLACES.trailing_zeros())) as usize
}

const fn place() -> [Place; PLACES] {
    let mut places = [Place { word: 0, spec: None }; PLACES];
    let (mut table, mut count) = (0, 0);
    while table < TABLES.len() {
        let mut n = 0;
        while n < TABLES[table].len() {
            let spec = &TABLES[table][n];
            let name = spec.name.as_bytes();
            let word = packed(name);
            let mut place = first_place(word, name.len());
            while places[place].spec.is_some() {
                place = (place + 1) % PLACES;
            }
            places[place] = Place { word, spec: Some(spec) };
            (n, count) = (n + 1, count + 1);
        }
        table += 1;
    }
    assert!(2 * count <= PLACES, "the table of commands is more than half full: double PLACES");
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_in_any_case_of_letters() {
        for spec in all() {
            for name in [spec.name.to_owned(), spec.name.to_uppercase()] {
                assert!(lookup(name.as_bytes()).is_some_and(|found| std::ptr::eq(found, spec)), "{name}");
            }
        }
        for name in ["", "g", "gets", "get\0", "nosuchcommand", "\u{7}et", "sort\u{7f}ro", "pexpirXtime"] {
            assert!(lookup(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn names_are_made_of_what_is_compared_by_words() {
        for spec in all() {
            let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
            assert!(spec.name.bytes().all(is_plain), "{}", spec.name);
            assert_eq!(all().filter(|one| one.name == spec.name).count(), 1, "{}", spec.name);
        }
    }

    #[test]
    fn a_name_stands_near_its_first_place() {
        let probes = |name: &str| {
            let (mut place, mut probes) = (first_place(packed(name.as_bytes()), name.len()), 1);
            while PLACED[place].spec.is_some_and(|spec| spec.name != name) {
                (place, probes) = ((place + 1) % PLACES, probes + 1);
            }
            probes
        };
        let most = all().map(|spec| probes(spec.name)).max();
        assert!(most <= Some(8), "{most:?}");
        assert_eq!((probes("get"), probes("set")), (1, 1));
    }
}
