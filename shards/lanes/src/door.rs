//! The door of a shard: who has something for it, and whether it sleeps and must be rung.
//!
//! One bit for each source, 64 to a word, so that a look at 64 sources is one load; and one flag, for all
//! queues of the shard, that says that it sleeps and that nobody has rung yet.
//!
//! Not here: the argument why no message is slept over (`lib.rs`, rules 5 to 8), how a thread is rung.

use crossbeam_utils::CachePadded;

use crate::atomic::{Arc, AtomicBool, AtomicU64, Ordering, shared_bytes};

/// Sources that share a word, and a cache line.
pub(crate) const WORD_SOURCES: usize = 64;

/// What a shard's producers share with it. One thread, the consumer, sleeps and is rung; any thread may knock.
///
/// The consumer calls, in this order: [`Door::announce_sleep`]; [`Door::is_quiet`], and a look at its other
/// queues; if all is quiet, it sleeps until rung; [`Door::awake`], slept or not; then it takes what there is.
#[derive(Debug)]
pub struct Door {
    /// Announced, and nobody has rung yet.
    sleeping: CachePadded<AtomicBool>,
    /// Source `s` is bit `s % 64` of word `s / 64`.
    words: Box<[CachePadded<AtomicU64>]>,
    sources: usize,
}

impl Door {
    /// A door for the sources `0 .. sources`. Costs 3 padded lines (of 128 bytes on x86-64), and one for each
    /// 64 sources.
    pub fn new(sources: usize) -> Arc<Door> {
        let words = (0..sources.div_ceil(WORD_SOURCES)).map(|_| CachePadded::default()).collect();
        Arc::new(Door { sleeping: CachePadded::default(), words, sources })
    }

    /// Bytes that a door allocates.
    pub(crate) fn bytes(sources: usize) -> usize {
        shared_bytes::<Door>() + sources.div_ceil(WORD_SOURCES) * size_of::<CachePadded<AtomicU64>>()
    }

    /// Whether somebody knocked since the knocks were last taken. Relaxed, one load for 64 sources: for a
    /// look once a turn. What it misses now it sees soon, or [`Door::is_quiet`] does.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.words.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Says that the consumer is about to sleep. From now on one producer, of those that come, rings.
    ///
    /// The consumer then looks at everything once more: [`Door::is_quiet`], and each queue whose producers
    /// call [`Door::must_ring`]. What it does not find is of a producer that will ring, or has. One swap.
    #[inline]
    pub fn announce_sleep(&self) {
        // AcqRel: rule 8. Has seen what was pushed to other queues by all who found us awake.
        self.sleeping.swap(true, Ordering::AcqRel);
    }

    /// After [`Door::announce_sleep`]: whether nobody knocked. Then whoever knocks later will ring.
    ///
    /// Not for looking around: it takes the cache line of each word from the producers. On x86-64 a fence
    /// and a load for 64 sources, elsewhere a read-modify-write.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        // A change that changes nothing, AcqRel: rule 7. A load might come before the announcement.
        self.words.iter().all(|word| word.fetch_or(0, Ordering::AcqRel) == 0)
    }

    /// Says that the consumer is awake: nobody needs to ring any more. A ring may already be on its way.
    #[inline]
    pub fn awake(&self) {
        // A look first, as whoever rang has done it already. Not by a store: rule 8.
        if self.sleeping.load(Ordering::Relaxed) {
            self.sleeping.swap(false, Ordering::AcqRel);
        }
    }

    /// After publishing: tells the consumer that `from` has something for it. Returns whether the consumer
    /// sleeps and this caller, alone, must ring it.
    ///
    /// One atomic change of a word that 63 others share, and one load; a second change only for a sleeper.
    ///
    /// # Panics
    /// If `from` is not a source of this door.
    #[inline]
    pub fn knock(&self, from: usize) -> bool {
        assert!(from < self.sources, "{from} is no source of a door for {}", self.sources);
        // AcqRel: rule 6 and rule 7. Also if the bit looks set: the consumer may be clearing it right now.
        self.words[from / WORD_SOURCES].fetch_or(1 << (from % WORD_SOURCES), Ordering::AcqRel);
        // A look first, as hardly anybody sleeps under load. Relaxed: rule 7, what our change of the word has
        // seen orders this load too.
        self.sleeping.load(Ordering::Relaxed) && self.must_ring()
    }

    /// After a push to any other queue of the consumer: whether it sleeps and this caller, alone, must ring.
    ///
    /// One atomic swap. That orders the push before the consumer's next look, whatever the queue's own
    /// orderings are; so there is no look first.
    #[inline]
    pub fn must_ring(&self) -> bool {
        // AcqRel: rule 8.
        self.sleeping.swap(false, Ordering::AcqRel)
    }

    /// For observers: whether the consumer sleeps, or is about to, and was not rung.
    #[inline]
    pub fn sleeps(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed)
    }

    /// For observers: whether somebody knocked and was not looked after yet.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.is_dirty()
    }

    /// Words of bits.
    #[inline]
    pub(crate) fn words(&self) -> usize {
        self.words.len()
    }

    /// The bits of one word as they are now, to begin with what [`Door::take_word`] will bring; more may come.
    #[inline]
    pub(crate) fn word(&self, at: usize) -> u64 {
        self.words[at].load(Ordering::Relaxed)
    }

    /// Takes the bits of one word: the sources that knocked since it was last taken.
    #[inline]
    pub(crate) fn take_word(&self, at: usize) -> u64 {
        let word = &self.words[at];
        if word.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        // AcqRel: rules 5 and 6.
        word.swap(0, Ordering::AcqRel)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
