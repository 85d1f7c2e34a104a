//! Table: many records by name, in an order of their own.
//!
//! The records stand one behind the other in chunks; a hash index says where each is. So the n-th record, and any record
//! at random, takes constant time, and to go through all of them needs no more than a number to be remembered.
//!
//! The index is in segments that grow alone (extendible hashing: Fagin, Nievergelt, Pippenger, Strong, "Extendible
//! hashing - a fast access method for dynamic files", ACM TODS 1979). A full one is split in two.
//!
//! # Rules
//! 1. A record is taken out by moving the last one to its place. No other record ever moves.
//! 2. [`Table::scan`] goes from the last record to the first. By rule 1 a record moves only towards those that are still
//!    to be seen, or was seen already: one that is there from the first call to the last is seen.
//! 3. No operation on one record touches more than [`SEGMENT_MAX`] places or [`CHUNK`] records, however many there are:
//!    some 50 us. Beside it the directory doubles now and then, 4 bytes for each segment.
//! 4. Names are hashed under a secret of the table's own, so that nobody can choose names that collide.
//!
//! Not here: few records (`block`), what a record is (`hash`, `set`).

use hashbrown::HashTable;

use super::small::allocated;

/// Records of a chunk: 24 KiB.
const CHUNK: usize = 1024;
/// Places of one segment of the index: what 4096 buckets take at a load of seven eighths.
const SEGMENT_MAX: usize = 3584;
/// Bits of a hash that may choose the segment: 2^20 segments have room for 2^31 places and more. Beyond, segments grow.
const DEPTH_MAX: u32 = 20;
/// A segment with fewer than this is not made smaller.
const SEGMENT_MIN: usize = 64;
/// Records for each segment below which the index is made anew, with fewer.
const SPARSE: usize = 8;
/// Records of a table: a place has 32 bits for the number of its record.
pub(super) const RECORDS_MAX: usize = u32::MAX as usize;

/// What a [`Table`] has.
pub(super) trait Record {
    /// What it is found by.
    fn name(&self) -> &[u8];
    /// Bytes it takes elsewhere.
    fn block_bytes(&self) -> usize;
}

/// Records by name.
#[derive(Clone, Debug)]
pub(super) struct Table<R> {
    secret: ahash::RandomState,
    /// All but the last one are full, and none is empty.
    chunks: Vec<Vec<R>>,
    count: usize,
    /// Bytes of the chunks.
    chunk_bytes: usize,
    /// Bytes that records take elsewhere.
    record_bytes: usize,
    index: Index,
}

impl<R: Record> Table<R> {
    /// One without records.
    pub(super) fn new() -> Table<R> {
        Table {
            secret: ahash::RandomState::new(),
            chunks: Vec::new(),
            count: 0,
            chunk_bytes: 0,
            record_bytes: 0,
            index: Index::new(),
        }
    }

    /// Records.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of all of it.
    pub(super) fn bytes(&self) -> usize {
        let list = allocated(self.chunks.capacity() * size_of::<Vec<R>>());
        size_of::<Self>() + list + self.chunk_bytes + self.record_bytes + self.index.bytes()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the upper half of the hash")]
    fn hash(&self, name: &[u8]) -> u32 {
        (self.secret.hash_one(name) >> 32) as u32
    }

    /// The number of the record of this name; else its hash, for [`Table::push`].
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Result<usize, u32> {
        let hash = self.hash(name);
        let found = self.index.find(hash, |at| self.get(at).name() == name);
        found.ok_or(hash)
    }

    /// The record with this number, below [`Table::count`].
    #[inline]
    pub(super) fn get(&self, number: usize) -> &R {
        &self.chunks[number / CHUNK][number % CHUNK]
    }

    /// Appends a record whose name has this hash and is not here yet. Does nothing if there are [`RECORDS_MAX`].
    pub(super) fn push(&mut self, hash: u32, record: R) {
        let Some(at) = u32::try_from(self.count).ok().filter(|at| *at != u32::MAX) else { return };
        self.record_bytes += record.block_bytes();
        if self.count.is_multiple_of(CHUNK) {
            // The first one grows as it needs; behind it there will be a need for all of a chunk.
            let room = if self.count == 0 { SEGMENT_MIN } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
            self.chunk_bytes += allocated(room * size_of::<R>());
        }
        if let Some(last) = self.chunks.last_mut() {
            let before = last.capacity();
            if last.len() == before {
                last.reserve_exact(before.min(CHUNK - before));
            }
            last.push(record);
            self.chunk_bytes += allocated(last.capacity() * size_of::<R>());
            self.chunk_bytes -= allocated(before * size_of::<R>());
        }
        self.count += 1;
        self.index.insert(Place { hash, at });
    }

    /// Puts another record of the same name where one is.
    pub(super) fn replace(&mut self, number: usize, record: R) {
        let place = &mut self.chunks[number / CHUNK][number % CHUNK];
        debug_assert_eq!(place.name(), record.name());
        self.record_bytes += record.block_bytes();
        self.record_bytes -= place.block_bytes();
        *place = record;
    }

    /// Takes out the record with this number, below [`Table::count`], and moves the last one there (rule 1).
    pub(super) fn take(&mut self, number: usize) -> Option<R> {
        let hash = self.hash(self.get(number).name());
        self.index.remove(hash, number, self.count - 1);
        let last = self.pop()?;
        if number == self.count {
            return Some(last);
        }
        self.index.renumber(self.hash(last.name()), self.count, number);
        self.record_bytes += last.block_bytes();
        let taken = std::mem::replace(&mut self.chunks[number / CHUNK][number % CHUNK], last);
        self.record_bytes -= taken.block_bytes();
        Some(taken)
    }

    fn pop(&mut self) -> Option<R> {
        let is_first = self.chunks.len() == 1;
        let chunk = self.chunks.last_mut()?;
        let before = chunk.capacity();
        let record = chunk.pop()?;
        if chunk.is_empty() {
            self.chunks.pop();
            self.chunk_bytes -= allocated(before * size_of::<R>());
        } else if is_first && chunk.len() * 4 < before && before > SEGMENT_MIN {
            chunk.shrink_to((chunk.len() * 2).max(SEGMENT_MIN));
            self.chunk_bytes += allocated(chunk.capacity() * size_of::<R>());
            self.chunk_bytes -= allocated(before * size_of::<R>());
        }
        if self.chunks.capacity() > 16 && self.chunks.len() * 4 < self.chunks.capacity() {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
        self.count -= 1;
        self.record_bytes -= record.block_bytes();
        Some(record)
    }

    /// All records in the order of their numbers.
    pub(super) fn iter(&self) -> Records<'_, R> {
        self.chunks.iter().flatten()
    }

    /// Keeps only records that `keep` wants.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&R) -> bool) {
        for number in (0..self.count).rev() {
            if !keep(self.get(number)) {
                self.take(number);
            }
        }
    }

    /// Looks at `count` records from `cursor` on, 0 at first, and gives the next cursor, 0 at the end (rule 2).
    ///
    /// The cursor is how many records are still to be seen: those with numbers below it.
    pub(super) fn scan(&self, cursor: u64, count: usize, mut see: impl FnMut(&R)) -> u64 {
        let all = self.count;
        let from = if cursor == 0 { all } else { usize::try_from(cursor).unwrap_or(all).min(all) };
        let to = from.saturating_sub(count);
        (to..from).rev().for_each(|number| see(self.get(number)));
        to as u64
    }
}

/// Records in the order of their numbers.
pub(super) type Records<'a, R> = std::iter::Flatten<std::slice::Iter<'a, Vec<R>>>;

/// Where the record of a hash is.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    at: u32,
}

/// What hashbrown goes by: it takes the lowest bits for the bucket and the highest for its tag. Those that chose the
/// segment are the same in all of it, so they must not be alone in either.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[derive(Clone, Debug)]
struct Segment {
    places: HashTable<Place>,
    /// How many of the highest bits all hashes here have in common.
    depth: u32,
}

/// Places by hash.
#[derive(Clone, Debug)]
struct Index {
    /// The number of a segment, by the highest `depth` bits of a hash.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
    /// Bytes of the tables of the segments.
    places_bytes: usize,
}

impl Index {
    fn new() -> Index {
        Index {
            directory: vec![0],
            depth: 0,
            segments: vec![Segment { places: HashTable::new(), depth: 0 }],
            places_bytes: 0,
        }
    }

    fn bytes(&self) -> usize {
        let directory = allocated(self.directory.capacity() * size_of::<u32>());
        directory + allocated(self.segments.capacity() * size_of::<Segment>()) + self.places_bytes
    }

    #[inline]
    fn entry(&self, hash: u32) -> usize {
        hash.checked_shr(u32::BITS - self.depth).unwrap_or(0) as usize
    }

    #[inline]
    fn find(&self, hash: u32, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let segment = &self.segments[self.directory[self.entry(hash)] as usize];
        let found = segment.places.find(spread(hash), |place| place.hash == hash && is_it(place.at as usize));
        found.map(|place| place.at as usize)
    }

    fn insert(&mut self, place: Place) {
        let mut number = self.directory[self.entry(place.hash)] as usize;
        // As often as all places have the next bit in common: by rule 4 hardly ever twice.
        while self.segments[number].places.len() >= SEGMENT_MAX && self.segments[number].depth < DEPTH_MAX {
            self.split(number, place.hash);
            number = self.directory[self.entry(place.hash)] as usize;
        }
        let places = &mut self.segments[number].places;
        let before = places.allocation_size();
        places.insert_unique(spread(place.hash), place, |place| spread(place.hash));
        self.places_bytes += allocated(places.allocation_size());
        self.places_bytes -= allocated(before);
    }

    /// Splits a segment that `hash` belongs to by the first bit that its hashes have not in common.
    fn split(&mut self, number: usize, hash: u32) {
        let depth = self.segments[number].depth;
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|segment| [*segment, *segment]).collect();
            self.depth += 1;
        }
        let Ok(other) = u32::try_from(self.segments.len()) else { return };
        let old = std::mem::take(&mut self.segments[number].places);
        let room = old.len() / 2;
        let mut halves = [HashTable::with_capacity(room), HashTable::with_capacity(room)];
        self.places_bytes -= allocated(old.allocation_size());
        for place in old {
            let half = (place.hash >> (u32::BITS - 1 - depth) & 1) as usize;
            halves[half].insert_unique(spread(place.hash), place, |place| spread(place.hash));
        }
        let [low, high] = halves;
        self.places_bytes += allocated(low.allocation_size()) + allocated(high.allocation_size());
        self.segments[number] = Segment { places: low, depth: depth + 1 };
        self.segments.push(Segment { places: high, depth: depth + 1 });
        // The entries of the old segment are neighbours, and the upper half of them has the bit.
        let span = 1_usize << (self.depth - depth);
        let first = self.entry(hash) & !(span - 1);
        self.directory[first + span / 2..first + span].fill(other);
    }

    /// Takes out the place of this hash with this number; `left` places are to be left.
    fn remove(&mut self, hash: u32, at: usize, left: usize) {
        let number = self.directory[self.entry(hash)] as usize;
        let places = &mut self.segments[number].places;
        let before = places.allocation_size();
        match places.find_entry(spread(hash), |place| place.at as usize == at) {
            Ok(found) => {
                found.remove();
            }
            Err(_) => debug_assert!(false, "every record has its place"),
        }
        if places.capacity() > SEGMENT_MIN && places.len() * 8 < places.capacity() {
            places.shrink_to(places.len() * 2, |place| spread(place.hash));
        }
        self.places_bytes += allocated(places.allocation_size());
        self.places_bytes -= allocated(before);
        if self.segments.len() > 1 && left < self.segments.len() * SPARSE {
            self.rebuild();
        }
    }

    /// Makes all of it anew, with as few segments as the places need: at most [`SPARSE`] places for each segment.
    fn rebuild(&mut self) {
        let old = std::mem::replace(self, Index::new());
        old.segments.into_iter().flat_map(|segment| segment.places).for_each(|place| self.insert(place));
    }

    /// From here on the place of this hash with number `from` has number `to`.
    fn renumber(&mut self, hash: u32, from: usize, to: usize) {
        let entry = self.entry(hash);
        let segment = &mut self.segments[self.directory[entry] as usize];
        let found = segment.places.find_mut(spread(hash), |place| place.at as usize == from);
        if let (Some(place), Ok(to)) = (found, u32::try_from(to)) {
            place.at = to;
        } else {
            debug_assert!(false, "every record has its place");
        }
    }
}

#[cfg(test)]
impl<R: Record> Table<R> {
    /// [`Table::bytes`], counted anew.
    pub(super) fn recount(&self) -> usize {
        let records = self.iter().map(Record::block_bytes).sum::<usize>();
        let chunk = |chunk: &Vec<R>| allocated(chunk.capacity() * size_of::<R>());
        let places = self.index.segments.iter().map(|one| allocated(one.places.allocation_size()));
        size_of::<Self>()
            + allocated(self.chunks.capacity() * size_of::<Vec<R>>())
            + self.chunks.iter().map(chunk).sum::<usize>()
            + records
            + allocated(self.index.directory.capacity() * size_of::<u32>())
            + allocated(self.index.segments.capacity() * size_of::<Segment>())
            + places.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::services::cache::value::small::Small;

    #[derive(Clone, Debug)]
    struct Name(Small);

    impl Record for Name {
        fn name(&self) -> &[u8] {
            self.0.bytes()
        }

        fn block_bytes(&self) -> usize {
            self.0.block_bytes()
        }
    }

    fn put(table: &mut Table<Name>, number: usize) {
        let name = number.to_string();
        let hash = table.find(name.as_bytes()).expect_err("it is new");
        table.push(hash, Name(Small::new(&[name.as_bytes()])));
    }

    fn take(table: &mut Table<Name>, number: usize) {
        let found = table.find(number.to_string().as_bytes()).expect("it is there");
        assert!(table.take(found).is_some());
    }

    #[test]
    fn a_million_records_are_found_and_no_segment_of_them_is_larger_than_one_step_may_move() {
        let mut table = Table::new();
        for number in 0..1_000_000 {
            put(&mut table, number);
        }
        assert_eq!(table.count(), 1_000_000);
        assert!(table.index.segments.len() > 200);
        assert!(table.index.segments.iter().all(|one| one.places.len() <= SEGMENT_MAX));
        assert!(table.index.segments.iter().all(|one| one.places.capacity() <= SEGMENT_MAX));
        assert!(table.chunks.iter().all(|chunk| chunk.capacity() == CHUNK));
        assert!((0..1_000_000).step_by(997).all(|number| table.find(number.to_string().as_bytes()).is_ok()));
        assert!(table.find(b"1000000").is_err());
        assert_eq!(table.bytes(), table.recount());
        assert!(table.bytes() < 64 * table.count(), "{}", table.bytes());
    }

    #[test]
    fn a_table_that_gets_empty_gives_its_memory_back() {
        let mut table = Table::new();
        (0..100_000).for_each(|number| put(&mut table, number));
        let most = table.bytes();
        for number in 0..100_000 {
            take(&mut table, number);
            if number % 9_973 == 0 {
                assert_eq!(table.bytes(), table.recount());
                assert!(
                    (number + 1..100_000).step_by(1009).all(|n| table.find(n.to_string().as_bytes()).is_ok())
                );
            }
        }
        assert_eq!((table.count(), table.bytes()), (0, table.recount()));
        assert!(table.bytes() < most / 500, "{} of {most}", table.bytes());
        put(&mut table, 1);
        assert_eq!(table.find(b"1"), Ok(0));
    }

    #[test]
    fn hashes_that_have_all_their_bits_in_common_cost_time_and_no_more() {
        let mut index = Index::new();
        for at in 0..6_000 {
            index.insert(Place { hash: 0xabcd_ef01, at });
        }
        assert_eq!(index.depth, DEPTH_MAX);
        assert_eq!(index.find(0xabcd_ef01, |at| at == 5_999), Some(5_999));
        index.remove(0xabcd_ef01, 17, 5_999);
        assert_eq!(index.find(0xabcd_ef01, |at| at == 17), None);
    }
}
