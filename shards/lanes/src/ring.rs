//! The lane: a bounded ring with one producer and one consumer, which publishes and takes by batches.
//!
//! Each side keeps what it last saw of the other's position and looks again only when that does not do, so
//! the two cache lines of a busy lane travel once a batch, not once a value.
//!
//! Not here: the rules (`lib.rs`), waking the consumer (`door.rs`), what a full lane means (the caller).

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::atomic::{Arc, AtomicUsize, Ordering, UnsafeCell, shared_bytes};

/// Most values a lane may hold: far above any batch, and far below where a sum of lengths could wrap.
pub const CAPACITY_MAX: usize = 1 << 24;

/// Makes a lane that holds up to `capacity` values, and its two ends, for one thread each.
///
/// Costs one allocation of `capacity` slots, rounded up to a power of two, and one of 4 padded lines (of
/// 128 bytes on x86-64). A page of slots is in memory from the first value pushed there on, on the node of
/// the CPU that pushed it.
///
/// # Panics
/// If `capacity` is 0 or above [`CAPACITY_MAX`].
pub fn lane<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    lane_at(capacity, 0)
}

/// A lane whose first position is `at`.
pub(crate) fn lane_at<T: Send>(capacity: usize, at: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity >= 1, "a lane holds at least one value");
    assert!(capacity <= CAPACITY_MAX, "a lane of {capacity} is above {CAPACITY_MAX}");
    let slots = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let position = || CachePadded::new(AtomicUsize::new(at));
    let ring = Arc::new(Ring { tail: position(), head: position(), slots });
    let alone = PhantomData;
    (
        Producer { ring: Arc::clone(&ring), end: at, published: at, head_seen: at, capacity, alone },
        Consumer { ring, head: at, released: at, tail_seen: at, alone },
    )
}

/// Bytes that a lane allocates.
pub(crate) fn bytes<T>(capacity: usize) -> usize {
    shared_bytes::<Ring<T>>() + capacity.next_power_of_two() * size_of::<UnsafeCell<MaybeUninit<T>>>()
}

/// What the two ends share.
struct Ring<T> {
    /// One past the last published position. Stored by the producer (rule 1).
    tail: CachePadded<AtomicUsize>,
    /// The first position that holds a value. Stored by the consumer (rule 1).
    head: CachePadded<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: rule 2: each slot belongs to one end at a time, and rule 3 orders the accesses of the two. Values
// move from one thread to the other, so `T` must be `Send`; none is ever shared, so it need not be `Sync`.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    #[inline(always)]
    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position & (self.slots.len() - 1)]
    }

    /// Moves the value at `position` out.
    ///
    /// # Safety
    /// The position holds a value, belongs to the caller (rule 2), and is from now on taken to hold none.
    #[inline(always)]
    unsafe fn take(&self, position: usize) -> T {
        // SAFETY: the caller's promise.
        self.slot(position).with(|slot| unsafe { slot.read().assume_init() })
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Relaxed: rule 4, the count of the handles ordered this after their last stores.
        let tail = self.tail.load(Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: rule 4: both ends are gone, so what rule 2 gave to the consumer is ours. `head` is past
            // it from here on, so that a drop that panics leaks the rest and drops nothing twice.
            drop(unsafe { self.take(head) });
            head = head.wrapping_add(1);
        }
    }
}

/// The end of a lane that values are put in at. Dropping it drops what it pushed and did not publish; what
/// is published stays for the consumer.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    /// The private end: one past the last pushed position.
    end: usize,
    /// What `tail` was last set to.
    published: usize,
    /// What `head` was when last looked at.
    head_seen: usize,
    capacity: usize,
    /// For one thread at a time, also by reference.
    alone: PhantomData<Cell<()>>,
}

impl<T> Producer<T> {
    /// Puts a value in. The consumer sees it after the next [`Producer::publish`]. O(1); reads the consumer's
    /// position only when the lane looks full.
    ///
    /// # Errors
    /// The value comes back when `capacity` values are in the lane, published or not.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.end.wrapping_sub(self.head_seen) == self.capacity {
            // Acquire: rule 3, the values were moved out before their slots are written again.
            self.head_seen = self.ring.head.load(Ordering::Acquire);
            if self.end.wrapping_sub(self.head_seen) == self.capacity {
                return Err(value);
            }
        }
        // SAFETY: rule 2: `end` is not published, and below `head_seen` + capacity, so its slot is ours and
        // holds no value. Rule 3: `head_seen` was loaded with Acquire, or is from before the first use.
        self.ring.slot(self.end).with_mut(|slot| unsafe { (*slot).write(value) });
        self.end = self.end.wrapping_add(1);
        Ok(())
    }

    /// Makes all that was pushed visible, with one store. Returns whether that was anything. The consumer is
    /// not told: see [`Door`](crate::Door).
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.published == self.end {
            return false;
        }
        // Release: rule 3, the values were written before.
        self.ring.tail.store(self.end, Ordering::Release);
        self.published = self.end;
        true
    }

    /// Values the lane can hold.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Values pushed, published or not, that the consumer had not taken a moment ago.
    #[inline]
    pub fn depth(&self) -> usize {
        // Relaxed: a number for observers, no slot is touched for it.
        self.end.wrapping_sub(self.ring.head.load(Ordering::Relaxed))
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        while self.published != self.end {
            self.end = self.end.wrapping_sub(1);
            // SAFETY: rules 2 and 4: pushed and never published, so it holds a value and is ours; `end` is
            // below it from here on.
            drop(unsafe { self.ring.take(self.end) });
        }
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("depth", &self.depth()).field("capacity", &self.capacity).finish()
    }
}

/// The end of a lane that values are taken out at, oldest first. When it is dropped, what is in the lane is
/// dropped with the producer.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    /// The first position not taken.
    head: usize,
    /// What the shared `head` was last set to.
    released: usize,
    /// What `tail` was when last looked at.
    tail_seen: usize,
    /// For one thread at a time, also by reference.
    alone: PhantomData<Cell<()>>,
}

impl<T> Consumer<T> {
    /// Takes the oldest published value. O(1); reads the producer's position only when the lane looks empty.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if !self.has_more() && !self.look() {
            return None;
        }
        let value = self.advance();
        self.release();
        Some(value)
    }

    /// Takes the oldest published values, at most `max`, and appends them to `out`. Returns how many.
    ///
    /// One load of the producer's position and one store of ours, however many there are.
    #[inline]
    pub fn pop_into(&mut self, max: usize, out: &mut Vec<T>) -> usize {
        let before = out.len();
        out.extend(self.drain(max));
        out.len() - before
    }

    /// The oldest published values, at most `max`: those there are now. What was not taken from it when it is
    /// dropped stays in the lane.
    #[inline]
    pub(crate) fn drain(&mut self, max: usize) -> Drain<'_, T> {
        // Always, even if `tail_seen` would do: `has_more` is then of this moment (rule 6).
        self.look();
        let left = self.tail_seen.wrapping_sub(self.head).min(max);
        Drain { consumer: self, left }
    }

    /// Looks at the producer's position. Returns whether something can be taken.
    #[inline]
    pub(crate) fn look(&mut self) -> bool {
        // Acquire: rule 3, the values were written before they are read.
        self.tail_seen = self.ring.tail.load(Ordering::Acquire);
        self.has_more()
    }

    /// Whether the last look at the producer's position showed more than was taken since.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.head != self.tail_seen
    }

    /// Published values that are not taken yet.
    #[inline]
    pub fn depth(&self) -> usize {
        // Relaxed: a number for observers, no slot is touched for it.
        self.ring.tail.load(Ordering::Relaxed).wrapping_sub(self.head)
    }

    /// Moves out the value at `head`, which is below `tail_seen`.
    #[inline(always)]
    fn advance(&mut self) -> T {
        debug_assert_ne!(self.head, self.tail_seen);
        // SAFETY: rules 2 and 3: `tail_seen` was loaded with Acquire and is above `head`, so the position
        // holds a value that is ours. It is taken once, for `head` is past it from here on.
        let value = unsafe { self.ring.take(self.head) };
        self.head = self.head.wrapping_add(1);
        value
    }

    /// Gives the slots of all that was taken back to the producer.
    #[inline(always)]
    fn release(&mut self) {
        if self.released != self.head {
            // Release: rule 3, the values were moved out before.
            self.ring.head.store(self.head, Ordering::Release);
            self.released = self.head;
        }
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        // Rule 4: a `Drain` that was forgotten took values that the ring must not drop again.
        self.release();
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("depth", &self.depth()).finish()
    }
}

/// A batch being taken. Gives the slots back when it is dropped, with one store.
pub(crate) struct Drain<'a, T> {
    consumer: &'a mut Consumer<T>,
    left: usize,
}

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        Some(self.consumer.advance())
    }

    #[inline(always)]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for Drain<'_, T> {}

impl<T> Drop for Drain<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.consumer.release();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
