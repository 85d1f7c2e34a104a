//! Commands on keys and values, by kind of value: each module has its table and the functions that run it.
//!
//! Not here: connections (`connection`).

pub mod bitfield;
pub mod bits;
pub mod hashes;
pub mod keys;
pub mod lists;
mod picks;
pub mod sets;
pub mod sorted_sets;
pub mod strings;

#[cfg(test)]
mod tests;
