//! Micro benches of the shard: turns, tasks, timers, completions, and calls between shards.
//!
//! All runs on one thread, on a kernel that does nothing and on a clock that the bench moves: what is
//! measured is the shard's own work. A figure with `turn` in what it says holds one whole turn, which
//! `turn::idle` is the measure of.
//!
//! Not here: what the kernel costs (`uring`), sleeping and waking between cores (`bench mesh`).

#![allow(clippy::unwrap_used)]

mod mesh;
#[path = "../../../base/benches/shared/mod.rs"]
mod shared;
mod still;
mod tasks;
mod timers;
mod turn;

fn main() {
    divan::main();
}
