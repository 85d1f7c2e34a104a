//! Names to commands: one table for all, made by the compiler.
//!
//! A name is hashed by at most eight bytes of it and its length, with no difference between small and capital letters;
//! of its places at most a half is taken, and what collides stands in the next one.
//!
//! Not here: what the commands are (`data`, `connection`).

use super::{TABLES, spec::Spec};

/// Places: a power of two of at least twice as many as there are commands, which the build checks.
const PLACES: usize = 512;

static PLACED: [Option<&'static Spec>; PLACES] = place();

/// The command of this name, in any case of letters: in constant time, without memory.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    let mut place = hash(name);
    while let Some(spec) = PLACED[place] {
        if spec.name.as_bytes().eq_ignore_ascii_case(name) {
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

/// Where a name is looked for first. Setting bit 5 makes letters small; what else it does, it does to both.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the upper bits of the product, fewer than a usize has")]
const fn hash(name: &[u8]) -> usize {
    let len = name.len();
    let word = match *name {
        [] => 0,
        [a, b, c, d, .., w, x, y, z] => u64::from_le_bytes([a, b, c, d, w, x, y, z]),
        [a, b, .., y, z] => u32::from_le_bytes([a, b, y, z]) as u64,
        [a, .., z] => u32::from_le_bytes([a, name[len / 2], z, 0]) as u64,
        [a] => a as u64,
    };
    let mixed = ((word | 0x2020_2020_2020_2020) ^ (len as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - PLACES.trailing_zeros())) as usize
}

const fn place() -> [Option<&'static Spec>; PLACES] {
    let mut places = [None; PLACES];
    let (mut table, mut count) = (0, 0);
    while table < TABLES.len() {
        let mut n = 0;
        while n < TABLES[table].len() {
            let spec = &TABLES[table][n];
            let mut place = hash(spec.name.as_bytes());
            while places[place].is_some() {
                place = (place + 1) % PLACES;
            }
            places[place] = Some(spec);
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
        for name in ["", "g", "gets", "get\0", "nosuchcommand", "\u{7}et"] {
            assert!(lookup(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn a_name_stands_near_its_first_place() {
        let probes = |name: &str| {
            let (mut place, mut probes) = (hash(name.as_bytes()), 1);
            while PLACED[place].is_some_and(|spec| spec.name != name) {
                (place, probes) = ((place + 1) % PLACES, probes + 1);
            }
            probes
        };
        let most = all().map(|spec| probes(spec.name)).max();
        assert!(most <= Some(8), "{most:?}");
        assert_eq!((probes("get"), probes("set")), (1, 1));
    }
}
