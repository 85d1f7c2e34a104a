//! The door of a shard: who has something for it, and whether it sleeps and must be rung.
//!
//! One bit for each source, 63 to a word; the 64th, SLEEPS, says in the same word that the consumer sleeps or
//! is about to. A producer learns by setting its bit whether it must ring; a consumer that looks finds out
//! for 63 sources by one relaxed load.
//!
//! Not here: the argument why no message is slept over (`lib.rs`, rules 5 to 8), how a thread is rung.

use crossbeam_utils::CachePadded;

use crate::atomic::{Arc, AtomicBool, AtomicU64, Ordering};

/// Sources that share a word, and a cache line.
pub(crate) const WORD_SOURCES: usize = 63;

/// The bit that says that the consumer sleeps.
const SLEEPS: u64 = 1 << WORD_SOURCES;

/// What a shard's producers share with it. One thread, the consumer, sleeps and is rung; any thread may knock.
///
/// The consumer calls, in this order: [`Door::announce_sleep`]; [`Door::is_quiet`], and a look at its other
/// queues; if all is quiet, it sleeps until rung; [`Door::awake`], slept or not; then it takes what there is.
#[derive(Debug)]
pub struct Door {
    /// Announced, and nobody has rung yet.
    sleeping: CachePadded<AtomicBool>,
    words: Box<[CachePadded<AtomicU64>]>,
    sources: usize,
}

impl Door {
    /// A door for the sources `0 .. sources`. Costs a cache line (128 bytes on x86-64), and one more for each
    /// 63 sources.
    pub fn new(sources: usize) -> Arc<Door> {
        let words = (0..sources.div_ceil(WORD_SOURCES).max(1)).map(|_| CachePadded::default()).collect();
        Arc::new(Door { sleeping: CachePadded::default(), words, sources })
    }

    /// Whether somebody knocked since the knocks were last taken. Relaxed, one load for 63 sources: for a
    /// look once a turn. What it misses now it sees soon, or [`Door::is_quiet`] does.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.words.iter().any(|word| word.load(Ordering::Relaxed) & !SLEEPS != 0)
    }

    /// Says that the consumer is about to sleep. From now on one producer, of those that come, rings.
    ///
    /// The consumer then looks at everything once more: [`Door::is_quiet`], and each queue whose producers
    /// call [`Door::must_ring`]. What it does not find is of a producer that will ring, or has.
    pub fn announce_sleep(&self) {
        // AcqRel: rule 8. Has seen what was pushed to other queues by those who found us awake.
        self.sleeping.swap(true, Ordering::AcqRel);
        for word in &self.words {
            // AcqRel: rules 5 and 7. After `sleeping`, so that who sees SLEEPS sees that too.
            word.fetch_or(SLEEPS, Ordering::AcqRel);
        }
    }

    /// After [`Door::announce_sleep`]: whether nobody knocked. Then whoever knocks later will ring.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        // Acquire: rule 7. Not older than our own setting of SLEEPS, which is all that is needed.
        self.words.iter().all(|word| word.load(Ordering::Acquire) & !SLEEPS == 0)
    }

    /// Says that the consumer is awake: nobody needs to ring any more. A ring may already be on its way.
    pub fn awake(&self) {
        // A look first, as a producer usually was here before. By swap, not by store: rule 8.
        if self.sleeping.load(Ordering::Relaxed) {
            self.sleeping.swap(false, Ordering::AcqRel);
        }
        for word in &self.words {
            if word.load(Ordering::Relaxed) & SLEEPS != 0 {
                word.fetch_and(!SLEEPS, Ordering::AcqRel);
            }
        }
    }

    /// After publishing: tells the consumer that `from` has something for it. Returns whether the consumer
    /// sleeps and this caller, alone, must ring it.
    ///
    /// One atomic change of a word that 62 others share; a second one only for a sleeper.
    ///
    /// # Panics
    /// If `from` is not a source of this door.
    #[inline]
    pub fn knock(&self, from: usize) -> bool {
        assert!(from < self.sources, "{from} is no source of a door for {}", self.sources);
        let word = &self.words[from / WORD_SOURCES];
        // AcqRel: rules 5 and 6, what was published comes before the bit. The result is left alone, and read
        // by the load, as that is one instruction on x86-64 and a loop with it.
        word.fetch_or(1 << (from % WORD_SOURCES), Ordering::AcqRel);
        // Acquire: rule 7. Sees `sleeping` too, if it sees SLEEPS.
        word.load(Ordering::Acquire) & SLEEPS != 0 && self.must_ring()
    }

    /// After a push to any other queue of the consumer: whether it sleeps and this caller, alone, must ring.
    ///
    /// One atomic swap. That orders the push before the consumer's next look, whatever the queue's own
    /// orderings are.
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

    /// Words of bits: source `s` is bit `s % 63` of word `s / 63`.
    #[inline]
    pub(crate) fn words(&self) -> usize {
        self.words.len()
    }

    /// Takes the bits of one word: the sources that knocked since it was last taken.
    #[inline]
    pub(crate) fn take_word(&self, at: usize) -> u64 {
        let word = &self.words[at];
        if word.load(Ordering::Relaxed) & !SLEEPS == 0 {
            return 0;
        }
        // AcqRel: rules 5 and 6. Leaves SLEEPS, so that who looks between announcing and sleeping may still
        // sleep.
        word.fetch_and(SLEEPS, Ordering::AcqRel) & !SLEEPS
    }
}
