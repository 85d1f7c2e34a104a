//! Small names for things that live elsewhere. All are plain integers, `Copy`, and mean nothing by themselves.

/// A shard, counted from 0 in the order of its CPUs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardId(pub u16);

/// An open socket or file as its shard's kernel knows it: a direct-descriptor slot where the ring has a
/// table, a file descriptor where it has none. Only the kernel that made it knows which.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Sock(pub u32);

/// A listening socket, numbered by the kernel it was added to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ListenerId(pub u16);

/// One buffer of the receive ring, lent to the shard until it is recycled.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct BufferId(pub u16);

/// Who gets a completion. Packed `owner:7 | tag:8 | generation:16 | index:32` below one zero bit, which a
/// kernel may use to tell its own entries from a shard's.
///
/// `owner` is a driver of the shard, `tag` which of the driver's operations it is, `index` and
/// `generation` which of its slots.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Token(u64);

impl Token {
    /// Nobody waits: the completion is counted by the kernel and not handed out.
    pub const NONE: Token = Token(u64::MAX >> 1);

    /// Largest `owner`; 127 is kept for [`Token::NONE`].
    pub const OWNER_MAX: u8 = 126;

    /// Packs the four parts. `owner` must not exceed [`Token::OWNER_MAX`].
    #[inline]
    pub const fn new(owner: u8, tag: u8, generation: u16, index: u32) -> Token {
        assert!(owner <= Self::OWNER_MAX);
        Token(((owner as u64) << 56) | ((tag as u64) << 48) | ((generation as u64) << 32) | index as u64)
    }

    /// The packed form, always below 2^63.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Back from the packed form. The top bit is dropped.
    #[inline]
    pub const fn from_bits(bits: u64) -> Token {
        Token(bits & (u64::MAX >> 1))
    }

    /// The driver it belongs to.
    #[inline]
    pub const fn owner(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Which operation of the driver.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the shift leaves the byte wanted
    pub const fn tag(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// Generation of the slot.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the shift leaves the bits wanted
    pub const fn generation(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Index of the slot.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the low half is wanted
    pub const fn index(self) -> u32 {
        self.0 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_the_parts_it_was_made_of() {
        let t = Token::new(Token::OWNER_MAX, 0xfe, 0xabcd, 0xdead_beef);
        assert_eq!((t.owner(), t.tag(), t.generation(), t.index()), (126, 0xfe, 0xabcd, 0xdead_beef));
        assert_eq!(Token::from_bits(t.to_bits() | 1 << 63), t);
    }

    #[test]
    fn no_packed_token_equals_none() {
        let last = Token::new(Token::OWNER_MAX, 0xff, 0xffff, u32::MAX);
        assert_ne!(last, Token::NONE);
        assert!(Token::NONE.to_bits() < 1 << 63);
    }
}
