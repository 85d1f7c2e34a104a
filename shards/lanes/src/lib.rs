//! Corelane floor 1: bounded single-producer single-consumer rings between shards, and who wakes whom.
//!
//! A [`lane`] carries values one way between two threads, batch by batch. A [`Door`] tells one shard who has
//! something for it and wakes it once if it sleeps. A [`mesh`] is both for all shards: request and response
//! lanes between each two of them, with credits so that no lane is ever full by surprise. Nothing here
//! blocks, spins, makes a system call, or allocates after it was made, save in the caller's own `Vec`s.
//!
//! # Rules (SAFETY comments and ordering comments of the crate cite these numbers)
//! 1. A ring has one [`Producer`] and one [`Consumer`], which are not `Clone` and work by `&mut self`. Only
//!    the producer stores `tail`, only the consumer stores `head`. Both are positions that only grow, modulo
//!    2^64; a position's slot is its low bits, so slots are a power of two, at least the capacity. Both ends
//!    know the slots by pointer.
//! 2. The positions `head .. tail` hold values and belong to the consumer. All other slots belong to the
//!    producer; of them those from `tail` to its private end hold values it has not published, the rest hold none. The
//!    private end is at most `head` + capacity, so two positions that hold values never share a slot.
//! 3. `tail` is stored with Release after the values were written and loaded with Acquire before they are
//!    read. `head` is stored with Release after the values were moved out and loaded with Acquire before the
//!    slots are written again. Who kept an older position than there is has fewer slots, never foreign ones.
//! 4. The ring and its slots are freed with the last of its two ends, whose count orders that after all that
//!    either did. The producer drops what it never published, when it is dropped; the ring drops `head .. tail`.
//! 5. The words of a door, and its `sleeping`, change by atomic read-modify-write (AcqRel) only. So the changes
//!    of each are one sequence, in which every change has seen the one before it, and has seen what came
//!    before that one on the thread that made it.
//! 6. *No message without a bit.* A producer publishes `tail`, then sets its bit. The consumer clears bits,
//!    then loads `tail`. If the clearing comes after the setting in the sequence of the word, it has seen
//!    `tail`; if it comes before, the bit is set again and stays until the next look. A bit may be set with
//!    nothing behind it, when an earlier look had taken the message already.
//! 7. *No sleep over a bit.* The consumer sets `sleeping`, then changes each word (to what it is); a producer
//!    changes the word (its bit), then loads `sleeping`. One of the two changes of the word comes first. If
//!    the producer's, the consumer's reads the bit, and it does not sleep. If the consumer's, the producer's
//!    has seen the announcement, and the load gives that or something newer: another producer rings, or the
//!    consumer woke and will look again. Dekker's algorithm needs a total order of four accesses of two
//!    variables for this (SeqCst); one word that both sides change has its order by coherence alone.
//! 8. *One ring.* `sleeping` becomes true once per [`Door::announce_sleep`], and whoever changes it to false,
//!    alone, rings. A producer that pushed to any other queue swaps it to false. If it was true, it rings. If
//!    not, its swap comes before the next announcement in the sequence, which has then seen the push.
//! 9. A shard has at most `credits` requests at another that are not answered, or whose answer it has not
//!    taken. So the lane of requests and the lane of responses of that pair, each with room for `credits`,
//!    are never full, and responses can be taken without a budget. No chain of shards can wait in a circle.
//! 10. A prefetch touches nothing that a program can see, and never faults (Intel SDM, PREFETCHh).
//!
//! Rules 1 to 8 are checked by loom over all interleavings up to a bound (`scripts/loom`, `loom_tests.rs`).
//!
//! Not here: how a thread sleeps and is rung (`exec`), what a message means, what waits when credits are out.

mod atomic;
mod door;
mod mesh;
mod ring;

pub use door::Door;
pub use mesh::{MeshConfig, Port, SHARDS_MAX, mesh};
pub use ring::{CAPACITY_MAX, Consumer, Producer, lane};

#[cfg(all(test, loom))]
mod loom_tests;
