//! Slab: values at places that never move, in chunks that are made one at a time.
//!
//! Growing costs one chunk, whatever is there already: no value is moved. Places are used again, the one freed last
//! first.
//!
//! Not here: what a place means.

/// Places of a chunk.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 10;

/// No place.
pub(super) const NIL: u32 = u32::MAX;

#[derive(Debug)]
enum Cell<T> {
    Full(T),
    Free { next: u32 },
}

/// Values by their places.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Cell<T>>>,
    free: u32,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { chunks: Vec::new(), free: NIL, len: 0 }
    }
}

#[inline]
fn split(at: u32) -> (usize, usize) {
    ((at >> CHUNK_BITS) as usize, at as usize & (CHUNK - 1))
}

impl<T> Slab<T> {
    /// Values in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Places that were ever used: all values are below.
    pub(super) fn end(&self) -> u32 {
        let last = self.chunks.last().map_or(0, Vec::len);
        u32::try_from(self.chunks.len().saturating_sub(1) * CHUNK + last).unwrap_or(NIL)
    }

    /// Puts a value in, and says where; gives it back where all places are taken (2^32 - 1).
    pub(super) fn insert(&mut self, value: T) -> Result<u32, T> {
        if self.free != NIL {
            let at = self.free;
            let (chunk, place) = split(at);
            let cell = &mut self.chunks[chunk][place];
            if let Cell::Free { next } = *cell {
                self.free = next;
            }
            *cell = Cell::Full(value);
            self.len += 1;
            return Ok(at);
        }
        let end = self.end();
        if end == NIL {
            return Err(value);
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Cell::Full(value));
        }
        self.len += 1;
        Ok(end)
    }

    /// The value at `at`, if there is one.
    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        let (chunk, place) = split(at);
        match self.chunks.get(chunk)?.get(place)? {
            Cell::Full(value) => Some(value),
            Cell::Free { .. } => None,
        }
    }

    /// Begins to load what is at `at`, without waiting for it.
    #[inline]
    pub(super) fn prefetch(&self, at: u32) {
        let (chunk, place) = split(at);
        if let Some(cell) = self.chunks.get(chunk).and_then(|chunk| chunk.get(place)) {
            corelane_sys::prefetch_ends(cell);
        }
    }

    /// As [`Slab::get`], to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let (chunk, place) = split(at);
        match self.chunks.get_mut(chunk)?.get_mut(place)? {
            Cell::Full(value) => Some(value),
            Cell::Free { .. } => None,
        }
    }

    /// Takes the value at `at` out.
    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let (chunk, place) = split(at);
        let cell = self.chunks.get_mut(chunk)?.get_mut(place)?;
        if let Cell::Free { .. } = cell {
            return None;
        }
        let Cell::Full(value) = std::mem::replace(cell, Cell::Free { next: self.free }) else { return None };
        self.free = at;
        self.len -= 1;
        Some(value)
    }

    /// Frees one chunk of a slab that is used no more; false if there was none.
    pub(super) fn free_some(&mut self) -> bool {
        self.chunks.pop().is_some()
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: u32) -> &T {
        match self.get(at) {
            Some(value) => value,
            None => unreachable!("place {at} is free"),
        }
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut T {
        match self.get_mut(at) {
            Some(value) => value,
            None => unreachable!("place {at} is free"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_and_are_used_again() {
        let mut slab = Slab::default();
        let places: Vec<u32> = (0..3_000).map(|n| slab.insert(n).unwrap()).collect();
        assert_eq!(slab.end(), 3_000);
        for (n, at) in places.iter().enumerate() {
            assert_eq!(slab[*at], n);
        }
        assert_eq!(slab.remove(places[7]), Some(7));
        assert_eq!(slab.remove(places[7]), None);
        assert_eq!(slab.get(places[7]), None);
        assert_eq!(slab.insert(42), Ok(places[7]));
        assert_eq!((slab.len(), slab.end()), (3_000, 3_000));
    }
}
