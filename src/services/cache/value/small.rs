//! Small: bytes that lie where they are kept, if there are few of them, and in a block of their own otherwise.
//!
//! # Rules
//! 1. One takes [`Small::SIZE`] bytes where it is kept. Up to [`INLINE_MAX`] bytes need nothing else: no block, no
//!    pointer to follow.
//!
//! Not here: what the bytes are (`pair`, `set`).

/// Bytes that need no block.
///
/// A pointer, a length and what tells the two cases apart are 24 bytes; two of them say which case it is and how many
/// bytes there are. Most members and most pairs of small fields and values have no more than the other 22, and a block of
/// the allocator would take 32 bytes for any of them.
pub(super) const INLINE_MAX: usize = 22;

/// Bytes, few or many.
#[derive(Clone)]
pub(super) enum Small {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Block(Box<[u8]>),
}

const _: () = assert!(size_of::<Small>() == Small::SIZE);

impl Small {
    /// Bytes of one where it is kept.
    pub(super) const SIZE: usize = 24;

    /// A copy of all `parts`, one behind the other.
    pub(super) fn new(parts: &[&[u8]]) -> Small {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        if let Ok(short) = u8::try_from(len)
            && len <= INLINE_MAX
        {
            let (mut bytes, mut at) = ([0; INLINE_MAX], 0);
            for part in parts {
                bytes[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            return Small::Inline { len: short, bytes };
        }
        let mut block = Vec::with_capacity(len);
        parts.iter().for_each(|part| block.extend_from_slice(part));
        Small::Block(block.into_boxed_slice())
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Small::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Small::Block(block) => block,
        }
    }

    /// What it takes elsewhere.
    #[inline]
    pub(super) fn block_bytes(&self) -> usize {
        match self {
            Small::Inline { .. } => 0,
            Small::Block(block) => allocated(block.len()),
        }
    }
}

impl std::fmt::Debug for Small {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.bytes().escape_ascii())
    }
}

/// What the allocator takes for `len` bytes: 8 of its own, in steps of 16, at least 32 (glibc, `malloc/malloc.c`,
/// "Minimum allocated size").
#[inline]
pub(super) const fn allocated(len: usize) -> usize {
    match len {
        0 => 0,
        1..=24 => 32,
        _ => (len + 8).next_multiple_of(16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were_on_both_sides_of_the_limit() {
        for len in [0, 1, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 1000] {
            let bytes = vec![7_u8; len];
            let (a, b) = bytes.split_at(len / 3);
            let small = Small::new(&[a, b]);
            assert_eq!(small.bytes(), bytes);
            assert_eq!(small.block_bytes() == 0, len <= INLINE_MAX, "{len}");
        }
    }
}
