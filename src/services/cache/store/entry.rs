//! Entry: what the store knows of one key, in 40 bytes and one block.
//!
//! The block holds the bytes of the key and, for a short string, those of the value behind them; the number of a counter
//! instead; or where the value is in the slab of larger ones.
//!
//! Not here: the table, queues (`policy`).

use corelane_sys::prefetch;

use super::slab::NIL;
use crate::services::cache::value::Str;

/// Where the value of an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Behind the key.
    Inline,
    /// Behind the key, as the eight bytes of a number.
    Int,
    /// In the slab, at the four bytes behind the key.
    Apart,
}

/// One key.
#[derive(Debug)]
pub(super) struct Entry {
    /// Key, then what [`Place`] says.
    block: Box<[u8]>,
    key_len: u32,
    /// Neighbours in the queue of the policy.
    pub(super) prev: u32,
    pub(super) next: u32,
    /// When it was used last, in [`USED_UNIT_MS`].
    pub(super) used: u32,
    /// Its deadline in the wheel, or [`NIL`].
    pub(super) deadline: u32,
    pub(super) place: Place,
    /// Of the policy: which queue, and how often it was used.
    pub(super) queue: u8,
    pub(super) uses: u16,
}

/// Milliseconds of one step of [`Entry::used`]: 17 years in 32 bits.
pub(super) const USED_UNIT_MS: u64 = 128;

/// Bytes of an entry in the slab, and of its share of the table: a number and a control byte at a load of five eighths.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>() + 8;

/// What the allocator takes for `len` bytes: 8 of its own, in steps of 16 from 32 on (glibc malloc, "Minimum allocated
/// size" and chunk layout in malloc.c).
pub(super) const fn block_bytes(len: usize) -> usize {
    match len {
        0 => 0,
        1..=24 => 32,
        _ => (len + 8).next_multiple_of(16),
    }
}

impl Entry {
    pub(super) fn new(key: &[u8], place: Place, behind: &[u8]) -> Entry {
        Entry {
            block: join(key, behind),
            key_len: u32::try_from(key.len()).unwrap_or(u32::MAX),
            prev: NIL,
            next: NIL,
            used: 0,
            deadline: NIL,
            place,
            queue: 0,
            uses: 0,
        }
    }

    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        &self.block[..self.key_len as usize]
    }

    #[inline]
    fn behind(&self) -> &[u8] {
        &self.block[self.key_len as usize..]
    }

    /// Its string, if it is one that is here.
    #[inline]
    pub(super) fn str(&self) -> Option<Str<'_>> {
        match self.place {
            Place::Inline => Some(Str::Bytes(self.behind())),
            Place::Int => Some(Str::Int(self.int())),
            Place::Apart => None,
        }
    }

    fn int(&self) -> i64 {
        i64::from_le_bytes(self.behind().try_into().unwrap_or_default())
    }

    /// Where in the slab its value is.
    #[inline]
    pub(super) fn apart(&self) -> u32 {
        u32::from_le_bytes(self.behind().try_into().unwrap_or_default())
    }

    /// Begins to load the start of the block and its end: all of one with 128 bytes.
    #[inline]
    pub(super) fn prefetch_block(&self) {
        prefetch(&*self.block);
        if let Some(last) = self.block.last() {
            prefetch(last);
        }
    }

    /// Another value. In place where it is as long as the old one.
    pub(super) fn set(&mut self, place: Place, behind: &[u8]) {
        self.place = place;
        let key_len = self.key_len as usize;
        if self.block.len() == key_len + behind.len() {
            self.block[key_len..].copy_from_slice(behind);
        } else {
            self.block = join(&self.block[..key_len], behind);
        }
    }

    /// Bytes of the entry, its share of the table, and its block.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        ENTRY_BYTES + block_bytes(self.block.len())
    }
}

fn join(key: &[u8], behind: &[u8]) -> Box<[u8]> {
    let mut block = Vec::with_capacity(key.len() + behind.len());
    block.extend_from_slice(key);
    block.extend_from_slice(behind);
    block.into_boxed_slice()
}

/// The number that `text` is the shortest decimal of, if it is one.
pub(super) fn canonical(text: &[u8]) -> Option<i64> {
    const LEN_MAX: usize = 20; // -9223372036854775808
    if text.is_empty() || text.len() > LEN_MAX {
        return None;
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let leads = *digits.first()?;
    if !leads.is_ascii_digit() || (leads == b'0' && text.len() > 1) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_decimal_is_a_number() {
        for (text, number) in
            [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(canonical(text.as_bytes()), Some(number));
        }
        for text in ["", "-", "-0", "01", "+1", " 1", "1 ", "9223372036854775808", "1.0", "0x1", "1e3"] {
            assert_eq!(canonical(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_entry_is_forty_bytes() {
        assert_eq!(size_of::<Entry>(), 40);
    }
}
