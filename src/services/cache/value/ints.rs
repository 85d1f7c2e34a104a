//! Ints: few different integers in order, each as wide as the widest needs.
//!
//! # Rules
//! 1. There are at most [`INTS_MAX`]; so every operation moves at most 4 KiB.
//! 2. It never gets narrower.
//!
//! Not here: sets of anything else (`set`).

use super::small::allocated;

/// Redis' default of `set-max-intset-entries`.
pub(super) const INTS_MAX: usize = 512;

/// Integers, rising.
#[derive(Clone, Debug, Default)]
pub(super) struct Ints {
    /// Each of `width` bytes, the lowest first.
    bytes: Vec<u8>,
    /// 2, 4 or 8; 0 before the first.
    width: u8,
}

impl Ints {
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.bytes.len() / self.step()
    }

    #[inline]
    fn step(&self) -> usize {
        usize::from(self.width.max(2))
    }

    #[inline]
    pub(super) fn block_bytes(&self) -> usize {
        allocated(self.bytes.capacity())
    }

    /// The one with this number, below [`Ints::count`].
    #[inline]
    pub(super) fn get(&self, number: usize) -> i64 {
        let step = self.step();
        read(&self.bytes[number * step..][..step])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = i64> {
        self.bytes.chunks_exact(self.step()).map(read)
    }

    /// Where it is, or where it would be.
    fn search(&self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.get(middle).cmp(&value) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub(super) fn contains(&self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    /// Puts one in; false if it is there. By rule 1 there must be room.
    pub(super) fn insert(&mut self, value: i64) -> bool {
        let Err(number) = self.search(value) else { return false };
        let width = width(value);
        if width > self.width {
            let wide: Vec<u8> = self.iter().flat_map(|one| le(one, width)).collect();
            (self.bytes, self.width) = (wide, width);
        }
        let (step, one) = (self.step(), le(value, self.width));
        if self.bytes.len() + step > self.bytes.capacity() {
            let needed = self.bytes.len() + step;
            self.bytes.reserve_exact(allocated(needed + needed / 8) - 8 - self.bytes.len());
        }
        self.bytes.splice(number * step..number * step, one);
        true
    }

    /// Takes one out; false if it is not there.
    pub(super) fn remove(&mut self, value: i64) -> bool {
        let Ok(number) = self.search(value) else { return false };
        let step = self.step();
        self.bytes.drain(number * step..(number + 1) * step);
        if self.bytes.capacity() > 2 * self.bytes.len() + 64 {
            self.bytes.shrink_to(self.bytes.len() + 32);
        }
        true
    }

    /// Width, and all of them.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.width);
        out.extend_from_slice(&self.bytes);
    }

    /// What was encoded so, if it is not empty.
    pub(super) fn decode(bytes: &[u8]) -> Option<Ints> {
        let (width, bytes) = bytes.split_first()?;
        let step = usize::from(*width);
        if !matches!(width, 2 | 4 | 8) || bytes.is_empty() || !bytes.len().is_multiple_of(step) {
            return None;
        }
        let ints = Ints { bytes: bytes.to_vec(), width: *width };
        (ints.count() <= INTS_MAX && ints.iter().is_sorted_by(|a, b| a < b)).then_some(ints)
    }
}

/// The bytes that a value needs.
fn width(value: i64) -> u8 {
    match value {
        _ if i16::try_from(value).is_ok() => 2,
        _ if i32::try_from(value).is_ok() => 4,
        _ => 8,
    }
}

/// The lowest bytes of a value.
fn le(value: i64, width: u8) -> impl Iterator<Item = u8> {
    value.to_le_bytes().into_iter().take(usize::from(width))
}

/// A value of 2, 4 or 8 bytes.
#[inline]
fn read(bytes: &[u8]) -> i64 {
    match *bytes {
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        _ => i64::from_le_bytes(bytes.try_into().unwrap_or_default()),
    }
}

/// The integer that has this text as its shortest decimal.
#[inline]
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let is_shortest = match text {
        [b'0'] => true,
        [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..] => text.len() <= 20,
        _ => false,
    };
    if !is_shortest {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
