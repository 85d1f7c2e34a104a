//! The table of operations that own something, or that the ring pushes again by itself, while under way.
//!
//! Room for the maximum is reserved at the start and touched as it fills, so entries never move (rule 2). At the
//! maximum, the operation is given back to who pushed it. An entry is named in `user_data` by its index and
//! generation below a set top bit.
//!
//! Not here: how entries become operations (`kernel.rs`).

use std::ffi::CString;
use std::sync::Arc;

use corelane_base::{ListenerId, Sock, Token, Unpark};
use corelane_pools::Chain;
use corelane_sys::RawAddr;

use crate::peer::Ask;

/// Set in every `user_data` that is no token.
pub(crate) const OURS: u64 = 1 << 63;
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
/// A socket that another ring wrote here. The low 47 bits are its token without the generation.
const ARRIVAL: u64 = INTERNAL | 1 << 60;

/// What a `user_data` with [`OURS`] stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whose {
    Flight { index: u32, generation: u32 },
    Provide { first: u16, count: u16 },
    Arrival(Token),
    Internal(u64),
}

impl Whose {
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // fields are cut out of the word
    pub(crate) fn of(user_data: u64) -> Whose {
        debug_assert_ne!(user_data & OURS, 0);
        if user_data & INTERNAL != INTERNAL {
            Whose::Flight { index: user_data as u32, generation: (user_data >> 32) as u32 & GENERATION }
        } else if user_data & PROVIDE == PROVIDE {
            Whose::Provide { first: user_data as u16, count: (user_data >> 16) as u16 }
        } else if user_data & ARRIVAL == ARRIVAL {
            let (owner, tag) = ((user_data >> 40) as u8 & OWNER, (user_data >> 32) as u8);
            Whose::Arrival(Token::new(owner, tag, 0, user_data as u32))
        } else {
            Whose::Internal(user_data)
        }
    }

    /// The `user_data` with which a socket arrives at another ring.
    pub(crate) fn arrival(token: Token) -> u64 {
        assert_eq!(token.generation(), 0, "an arrival names no slot");
        assert_ne!(token, Token::NONE, "an arrival that nobody is told of");
        ARRIVAL | u64::from(token.owner()) << 40 | u64::from(token.tag()) << 32 | u64::from(token.index())
    }

    /// The `user_data` of an operation that gives buffers back.
    pub(crate) fn provide(first: u16, count: u16) -> u64 {
        PROVIDE | u64::from(count) << 16 | u64::from(first)
    }
}

const GENERATION: u32 = (1 << 30) - 1;
/// The bits of an owner in a token.
const OWNER: u8 = 0x7f;

/// What an operation under way owns.
pub(crate) enum Flight {
    /// Nothing: the entry is free, and this is the next free one.
    Free(u32),
    Send(Chain),
    /// An address to connect to, or to bind.
    Connect(Box<RawAddr>),
    AcceptOne(Box<RawAddr>),
    /// An accept that the ring pushes again after each connection.
    Accepts(Loop<ListenerId>),
    /// A receive that the ring pushes again after each buffer.
    Receives(Loop<Sock>),
    Open(CString),
    Data(Vec<u8>),
    /// A socket on its way to this ring, whose number must stay its own until it was used.
    Hand(#[allow(dead_code)] Arc<dyn Unpark>), // kept, not read
    PeerName(Ask),
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

/// Ends the list of free entries.
const NO_ENTRY: u32 = u32::MAX;

pub(crate) struct Flights {
    entries: Vec<Entry>,
    free: u32,
    count: u32,
    max: u32,
}

impl Flights {
    /// An empty table of at most `max` entries.
    pub(crate) fn new(max: u32) -> Flights {
        Flights { entries: Vec::with_capacity(max as usize), free: NO_ENTRY, count: 0, max }
    }

    /// Entries in use.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Makes sure that the next [`Flights::insert`] has a place. False when the table is full.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.free != NO_ENTRY || self.grow()
    }

    #[cold]
    #[allow(clippy::cast_possible_truncation)] // at most `max` entries, a u32
    fn grow(&mut self) -> bool {
        let index = self.entries.len();
        if index >= self.max as usize {
            return false;
        }
        assert!(index < self.entries.capacity(), "entries must not move");
        self.entries.push(Entry { token: Token::NONE, generation: 0, flight: Flight::Free(NO_ENTRY) });
        self.free = index as u32;
        true
    }

    /// Puts `flight` into a free entry and names it. Call [`Flights::has_room`] before.
    #[inline]
    pub(crate) fn insert(&mut self, token: Token, flight: Flight) -> (u32, u64) {
        let index = self.free;
        let entry = &mut self.entries[index as usize];
        let Flight::Free(next) = entry.flight else { unreachable!("entry {index} is in use") };
        self.free = next;
        entry.token = token;
        // SAFETY: the place is live, and what was there owned nothing: there is nothing to drop.
        unsafe { std::ptr::write(&raw mut entry.flight, flight) };
        self.count += 1;
        (index, user_data(index, entry.generation))
    }

    /// The entry of that index, which must be in use.
    #[inline]
    pub(crate) fn get(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }

    /// The `user_data` of an entry in use.
    pub(crate) fn name(&self, index: u32) -> u64 {
        user_data(index, self.entries[index as usize].generation)
    }

    /// Takes a send out after its completion (rule 2); nothing if the entry is of another kind.
    ///
    /// # Panics
    /// If the entry is not in use by the operation of that generation.
    #[inline]
    pub(crate) fn take_send(&mut self, index: u32, generation: u32) -> Option<(Token, Chain)> {
        let entry = &mut self.entries[index as usize];
        assert_eq!(entry.generation, generation, "a completion for a free entry");
        let Flight::Send(chain) = &entry.flight else { return None };
        // SAFETY: the entry is written over before anybody can look at it, so the chain has one owner. (By
        // `mem::replace` it would be copied three times, through memory just written.)
        let chain = unsafe { std::ptr::read(chain) };
        // SAFETY: the place is live and its content was moved out above.
        unsafe { std::ptr::write(&raw mut entry.flight, Flight::Free(self.free)) };
        entry.generation = (generation + 1) & GENERATION;
        self.free = index;
        self.count -= 1;
        Some((entry.token, chain))
    }

    /// Takes an entry out after the last completion of its operation (rule 2).
    pub(crate) fn take(&mut self, index: u32) -> (Token, Flight) {
        let entry = &mut self.entries[index as usize];
        debug_assert!(!matches!(entry.flight, Flight::Free(_)));
        let flight = std::mem::replace(&mut entry.flight, Flight::Free(self.free));
        entry.generation = (entry.generation + 1) & GENERATION;
        self.free = index;
        self.count -= 1;
        (entry.token, flight)
    }

    /// Every entry, for the rare search.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }
}

#[inline]
fn user_data(index: u32, generation: u32) -> u64 {
    OURS | u64::from(generation) << 32 | u64::from(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries_buffers_and_the_ring_itself_are_told_apart() {
        let last = user_data(u32::MAX, GENERATION);
        assert_eq!(Whose::of(last), Whose::Flight { index: u32::MAX, generation: GENERATION });
        assert_eq!(Whose::of(user_data(0, 0)), Whose::Flight { index: 0, generation: 0 });
        let buffers = Whose::provide(32_767, 32_768);
        assert_eq!(Whose::of(buffers), Whose::Provide { first: 32_767, count: 32_768 });
        for own in [WAKE, TIMER, TIMER_END, CANCEL_ALL, QUIET] {
            assert_eq!(Whose::of(own), Whose::Internal(own));
        }
        for token in [Token::new(0, 0, 0, 0), Token::new(Token::OWNER_MAX, 255, 0, u32::MAX)] {
            assert_eq!(Whose::of(Whose::arrival(token)), Whose::Arrival(token));
        }
    }

    #[test]
    fn a_table_takes_its_maximum_and_no_more_and_reuses_what_was_given_back() {
        let mut flights = Flights::new(3);
        for index in 0..3 {
            assert!(flights.has_room());
            let (got, _) = flights.insert(Token::new(0, 0, 0, index), Flight::Data(Vec::new()));
            assert_eq!(got, index);
        }
        assert!(!flights.has_room());
        let before = flights.name(1);
        assert_eq!(flights.take(1).0.index(), 1);
        assert!(flights.has_room());
        let (got, name) = flights.insert(Token::NONE, Flight::Send(Chain::from("x")));
        assert_eq!(got, 1);
        assert_ne!(name, before, "an old name must not fit the new operation");
        assert!(!flights.has_room());
        assert_eq!(flights.count(), 3);
    }

    #[test]
    #[should_panic(expected = "a completion for a free entry")]
    fn a_completion_of_an_earlier_operation_is_a_bug() {
        let mut flights = Flights::new(1);
        assert!(flights.has_room());
        let (index, name) = flights.insert(Token::NONE, Flight::Send(Chain::from("x")));
        let Whose::Flight { generation, .. } = Whose::of(name) else { panic!("no entry") };
        assert!(flights.take_send(index, generation).is_some());
        assert!(flights.has_room());
        flights.insert(Token::NONE, Flight::Send(Chain::from("y")));
        flights.take_send(index, generation);
    }
}
