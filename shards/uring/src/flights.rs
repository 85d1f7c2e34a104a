//! The table of operations that own something, or that the ring pushes again by itself, while under way.
//!
//! Grows in blocks that never move (rule 2), up to a fixed maximum; at it, the operation is given back to
//! who pushed it. An entry is named in `user_data` by its index and generation below a set top bit.
//!
//! Not here: how entries become operations (`kernel.rs`).

use std::ffi::CString;

use corelane_base::{ListenerId, Sock, Token};
use corelane_pools::Chain;

use corelane_sys::RawAddr;

/// Entries of one block: 22 KiB, far below what a turn may wait for.
const BLOCK: usize = 256;

/// Set in every `user_data` that is no token.
const OURS: u64 = 1 << 63;
/// Set in those that are no entry of the table either.
const INTERNAL: u64 = OURS | 1 << 62;

/// The waiting for an unpark.
pub(crate) const WAKE: u64 = INTERNAL | 1;
/// The end of a timed sleep.
pub(crate) const TIMER: u64 = INTERNAL | 2;
/// The end of such a timer before its time.
pub(crate) const TIMER_END: u64 = INTERNAL | 3;
/// The cancelling of everything.
pub(crate) const CANCEL_ALL: u64 = INTERNAL | 4;
/// What nobody waits for, whatever comes of it.
pub(crate) const QUIET: u64 = INTERNAL | 5;
/// Buffers given back by an operation; first and count in the low 32 bits.
const PROVIDE: u64 = INTERNAL | 1 << 61;

/// What a `user_data` stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whose {
    Token(Token),
    Flight { index: u32, generation: u32 },
    Provide { first: u16, count: u16 },
    Internal(u64),
}

impl Whose {
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // fields are cut out of the word
    pub(crate) fn of(user_data: u64) -> Whose {
        if user_data & OURS == 0 {
            Whose::Token(Token::from_bits(user_data))
        } else if user_data & INTERNAL != INTERNAL {
            Whose::Flight { index: user_data as u32, generation: (user_data >> 32) as u32 & GENERATION }
        } else if user_data & PROVIDE == PROVIDE {
            Whose::Provide { first: user_data as u16, count: (user_data >> 16) as u16 }
        } else {
            Whose::Internal(user_data)
        }
    }

    /// The `user_data` of an operation that gives buffers back.
    pub(crate) fn provide(first: u16, count: u16) -> u64 {
        PROVIDE | u64::from(count) << 16 | u64::from(first)
    }
}

const GENERATION: u32 = (1 << 30) - 1;

/// What an operation under way owns.
pub(crate) enum Flight {
    /// Nothing: the entry is free, and this is the next free one.
    Free(Option<u32>),
    Send(Chain),
    Connect(Box<RawAddr>),
    AcceptOne(Box<RawAddr>),
    /// An accept that the ring pushes again after each connection.
    Accepts(Loop<ListenerId>),
    /// A receive that the ring pushes again after each buffer.
    Receives(Loop<Sock>),
    Open(CString),
    Data(Vec<u8>),
}

/// An operation the ring repeats.
pub(crate) struct Loop<T> {
    pub(crate) on: T,
    /// Its operation is with the kernel; else it waits for room in the queue.
    pub(crate) armed: bool,
    /// It must not be repeated again.
    pub(crate) cancelled: bool,
    /// Accepts: take what waits, then end.
    pub(crate) queued: bool,
}

pub(crate) struct Entry {
    pub(crate) token: Token,
    generation: u32,
    pub(crate) flight: Flight,
}

const _: () = assert!(size_of::<Entry>() <= 88);

pub(crate) struct Flights {
    blocks: Vec<Box<[Entry]>>,
    free: Option<u32>,
    count: u32,
    max: u32,
}

impl Flights {
    /// An empty table of at most `max` entries, rounded up to whole blocks.
    pub(crate) fn new(max: u32) -> Flights {
        let blocks = (max as usize).div_ceil(BLOCK);
        Flights { blocks: Vec::with_capacity(blocks), free: None, count: 0, max }
    }

    /// Entries in use.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Makes sure that the next [`Flights::insert`] has a place. False when the table is full.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.free.is_some() || self.grow()
    }

    #[cold]
    #[allow(clippy::cast_possible_truncation)] // at most `max` entries, a u32, and one block
    fn grow(&mut self) -> bool {
        let start = self.blocks.len() * BLOCK;
        if start >= self.max as usize {
            return false;
        }
        let entry = |at: usize| {
            let next = (at + 1 < BLOCK).then_some((start + at + 1) as u32);
            Entry { token: Token::NONE, generation: 0, flight: Flight::Free(next) }
        };
        self.blocks.push((0..BLOCK).map(entry).collect());
        self.free = Some(start as u32);
        true
    }

    /// Puts `flight` into a free entry and names it. Call [`Flights::has_room`] before.
    #[inline]
    pub(crate) fn insert(&mut self, token: Token, flight: Flight) -> (u32, u64) {
        let Some(index) = self.free else { unreachable!("no room was made") };
        let entry = &mut self.blocks[index as usize / BLOCK][index as usize % BLOCK];
        let Flight::Free(next) = entry.flight else { unreachable!("entry {index} is in use") };
        self.free = next;
        entry.token = token;
        // Plain writes: a free entry owns nothing to drop.
        entry.flight = flight;
        self.count += 1;
        (index, user_data(index, entry.generation))
    }

    /// The entry of that index, which must be in use.
    #[inline]
    pub(crate) fn get(&mut self, index: u32) -> &mut Entry {
        &mut self.blocks[index as usize / BLOCK][index as usize % BLOCK]
    }

    /// The `user_data` of an entry in use.
    pub(crate) fn name(&self, index: u32) -> u64 {
        let entry = &self.blocks[index as usize / BLOCK][index as usize % BLOCK];
        user_data(index, entry.generation)
    }

    /// Whether an entry is in use by the operation of that generation.
    #[inline]
    pub(crate) fn is(&self, index: u32, generation: u32) -> bool {
        let entry = &self.blocks[index as usize / BLOCK][index as usize % BLOCK];
        entry.generation == generation && !matches!(entry.flight, Flight::Free(_))
    }

    /// Takes an entry out after the last completion of its operation (rule 2).
    #[inline]
    pub(crate) fn take(&mut self, index: u32) -> (Token, Flight) {
        let next = self.free;
        let entry = &mut self.blocks[index as usize / BLOCK][index as usize % BLOCK];
        debug_assert!(!matches!(entry.flight, Flight::Free(_)));
        let flight = std::mem::replace(&mut entry.flight, Flight::Free(next));
        entry.generation = (entry.generation + 1) & GENERATION;
        self.free = Some(index);
        self.count -= 1;
        (entry.token, flight)
    }

    /// Every entry in use, for the rare search.
    #[allow(clippy::cast_possible_truncation)] // as in `grow`
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Entry)> {
        let all = self.blocks.iter_mut().flat_map(|block| block.iter_mut());
        all.enumerate()
            .filter(|(_, entry)| !matches!(entry.flight, Flight::Free(_)))
            .map(|(at, entry)| (at as u32, entry))
    }
}

#[inline]
fn user_data(index: u32, generation: u32) -> u64 {
    OURS | u64::from(generation) << 32 | u64::from(index)
}
