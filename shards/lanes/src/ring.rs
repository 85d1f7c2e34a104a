//! The lane: a bounded ring with one producer and one consumer, which publishes and takes by batches.
//!
//! Each side keeps what it last saw of the other's position and looks again only when that does not do, so
//! the two cache lines of a busy lane travel once a batch, not once a value.
//!
//! Not here: the rules (`lib.rs`), waking the consumer (`door.rs`), what a full lane means (the caller).

use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use crate::atomic::{Arc, AtomicUsize, Ordering, UnsafeCell, shared_bytes};

/// Most values a lane may hold: far above any batch, and far below where a sum of lengths could wrap.
pub const CAPACITY_MAX: usize = 1 << 24;

/// Makes a lane that holds up to `capacity` values, and its two ends, for one thread each.
///
/// Costs one allocation of `capacity` slots, rounded up to a power of two, and one of 3 padded lines (of
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
    let tail = CachePadded::new(Tail { position: AtomicUsize::new(at), slots });
    let ring = Arc::new(Ring { tail, head: CachePadded::new(AtomicUsize::new(at)) });
    let slots = ring.slots();
    (
        Producer { ring: Arc::clone(&ring), slots, end: at, published: at, head_seen: at, capacity },
        Consumer { ring, slots, head: at, tail_seen: at },
    )
}

/// Bytes that a lane allocates.
pub(crate) fn bytes<T>(capacity: usize) -> usize {
    shared_bytes::<Ring<T>>() + capacity.next_power_of_two() * size_of::<Slot<T>>()
}

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// What the two ends share.
struct Ring<T> {
    tail: CachePadded<Tail<T>>,
    /// The first position that holds a value. Stored by the consumer (rule 1).
    head: CachePadded<AtomicUsize>,
}

/// What only the producer writes.
struct Tail<T> {
    /// One past the last published position (rule 1).
    position: AtomicUsize,
    /// Not looked at before the end, when the ring is freed: both ends know where the slots are.
    slots: Box<[Slot<T>]>,
}

impl<T> Ring<T> {
    fn slots(&self) -> Slots<T> {
        let slots = &*self.tail.slots;
        Slots { first: NonNull::from_ref(slots).cast(), mask: slots.len() - 1 }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Relaxed: rule 4, the count of the handles ordered this after their last stores.
        let tail = self.tail.position.load(Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        let slots = self.slots();
        while head != tail {
            // SAFETY: rule 4: both ends are gone, so what rule 2 gave to the consumer is ours. `head` is past
            // it before the value is dropped, so that a drop that panics leaks the rest.
            let value = unsafe { slots.take(head) };
            head = head.wrapping_add(1);
            drop(value);
        }
    }
}

/// Where the slots of a ring are: as long as the ring is, that is, as long as an end holds a count of it.
struct Slots<T> {
    first: NonNull<Slot<T>>,
    /// One less than how many there are, which is a power of two.
    mask: usize,
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Slots<T> {
        *self
    }
}

impl<T> Copy for Slots<T> {}

impl<T> Slots<T> {
    /// The slot of a position.
    ///
    /// # Safety
    /// The ring is not freed yet (rule 4).
    #[inline(always)]
    unsafe fn at(&self, position: usize) -> &Slot<T> {
        // SAFETY: rule 1: below the number of slots, by the mask; the caller holds the ring.
        unsafe { self.first.add(position & self.mask).as_ref() }
    }

    /// Puts a value in at `position`.
    ///
    /// # Safety
    /// The ring is not freed; the slot belongs to the caller and holds no value (rule 2).
    #[inline(always)]
    unsafe fn put(&self, position: usize, value: T) {
        // SAFETY: the caller's promise.
        unsafe { self.at(position).with_mut(|slot| (*slot).write(value)) };
    }

    /// Moves the value at `position` out.
    ///
    /// # Safety
    /// The ring is not freed; the slot belongs to the caller and holds a value (rule 2), and is from now on
    /// taken to hold none.
    // SAFETY: as above; callers cite rules 2 to 4.
    #[inline(always)]
    unsafe fn take(&self, position: usize) -> T {
        // SAFETY: the caller's promise.
        unsafe { self.at(position).with(|slot| slot.read().assume_init()) }
    }
}

/// The end of a lane that values are put in at. Dropping it drops what it pushed and did not publish; what
/// is published stays for the consumer.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    slots: Slots<T>,
    /// The private end: one past the last pushed position.
    end: usize,
    /// What `tail` was last set to.
    published: usize,
    /// What `head` was when last looked at.
    head_seen: usize,
    capacity: usize,
}

// SAFETY: rules 2 and 3: the slots it reaches are its own until it publishes them, and whoever has them then
// is ordered after. Values move to the thread of the consumer, so `T` must be `Send`; none is ever shared.
unsafe impl<T: Send> Send for Producer<T> {}

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
        unsafe { self.slots.put(self.end, value) };
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
        self.ring.tail.position.store(self.end, Ordering::Release);
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
            // below it already, so it is taken once.
            drop(unsafe { self.slots.take(self.end) });
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
    slots: Slots<T>,
    /// The first position not taken.
    head: usize,
    /// What `tail` was when last looked at.
    tail_seen: usize,
}

// SAFETY: rules 2 and 3: the slots it reaches are its own until it gives them back, and whoever has them then
// is ordered after. Values come from the thread of the producer, so `T` must be `Send`; none is ever shared.
unsafe impl<T: Send> Send for Consumer<T> {}

impl<T> Consumer<T> {
    /// Takes the oldest published value. O(1); reads the producer's position only when the lane looks empty.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if !self.has_more() && !self.look() {
            return None;
        }
        // SAFETY: rules 2 and 3: `tail_seen` was loaded with Acquire and is above `head`, so the position
        // holds a value that is ours. It is taken once, for `head` is past it from here on.
        let value = unsafe { self.slots.take(self.head) };
        self.head = self.head.wrapping_add(1);
        self.release();
        Some(value)
    }

    /// Takes the oldest published values, at most `max`, and appends them to `out`. Returns how many.
    ///
    /// One load of the producer's position and one store of ours, however many there are.
    #[inline]
    pub fn pop_into(&mut self, max: usize, out: &mut Vec<T>) -> usize {
        self.pop_each(max, out, |value| value)
    }

    /// [`Consumer::pop_into`] of what `wrap` makes of the values.
    #[inline]
    pub(crate) fn pop_each<V>(&mut self, max: usize, out: &mut Vec<V>, wrap: impl Fn(T) -> V) -> usize {
        // Always, even if `tail_seen` would do: `has_more` is then of this moment (rule 6).
        self.look();
        let count = self.tail_seen.wrapping_sub(self.head).min(max);
        // What can fail comes first.
        out.reserve(count);
        let (slots, first) = (self.slots, self.head);
        self.head = first.wrapping_add(count);
        // The slots behind the first are not prefetched: they are read in order, and asking 8 ahead made no
        // difference that could be measured, for values of 8 bytes and of 64.
        // SAFETY: rules 2 and 3: `tail_seen` was loaded with Acquire and is not below these `count`, so they
        // hold values that are ours. Each is taken once, for `head` is past them already.
        out.extend((0..count).map(|at| wrap(unsafe { slots.take(first.wrapping_add(at)) })));
        if count > 0 {
            self.release();
        }
        count
    }

    /// Looks at the producer's position. Returns whether something can be taken.
    #[inline]
    pub(crate) fn look(&mut self) -> bool {
        // Acquire: rule 3, the values were written before they are read.
        self.tail_seen = self.ring.tail.position.load(Ordering::Acquire);
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
        self.ring.tail.position.load(Ordering::Relaxed).wrapping_sub(self.head)
    }

    /// Begins to fetch what the next take will read: the producer's position, and the slot it is at.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        prefetch((&raw const self.ring.tail.position).cast());
        // A pointer to a slot of ours is made and not read.
        prefetch(self.slots.first.as_ptr().wrapping_add(self.head & self.slots.mask).cast());
    }

    /// Gives the slots of all that was taken back to the producer.
    #[inline(always)]
    fn release(&mut self) {
        // Release: rule 3, the values were moved out before.
        self.ring.head.store(self.head, Ordering::Release);
    }
}

/// Asks for the cache line of `at`, which takes as long as it takes; nothing waits for it.
#[inline(always)]
fn prefetch(at: *const i8) {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: rule 10.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    let _ = at;
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        // Rule 4: what a batch had taken when it was cut short by a panic is not dropped again.
        self.release();
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("depth", &self.depth()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
